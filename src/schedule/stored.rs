//! Schedules as they are stored: their columns make a series.

use super::fields::Length;
use super::series::Series;
use super::{EPOCH, first_start, missing, unknown_zone};
use crate::pg::error::{Result, SqlState};
use crate::pg::plan::{self, Plan};
use crate::pg::row::Row;
use crate::pg::time_of_day::TimeOfDay;
use crate::pg::time_zone::Zone;
use pgrx::datum::{Date, Uuid};
use pgrx::pg_sys;
use pgrx::prelude::*;
use recurrence::rule::{End, Rule};
use std::borrow::Cow;

/// A schedule's columns that say when it takes place, as it is stored.
pub struct Stored<'a> {
    pub id: Option<Uuid>,
    pub date: Option<Date>,
    pub start_time: Option<TimeOfDay>,
    pub end_time: Option<TimeOfDay>,
    pub timezone: Option<Cow<'a, str>>,
    pub rule: Option<Cow<'a, str>>,
    pub last_start: Option<Timestamp>,
    pub duration_minutes: Option<i32>,
    pub has_exceptions: Option<bool>,
}

impl Stored<'_> {
    /// The schedule in time, without its exceptions, see [`super::loading`].
    ///
    /// Errors: 22023 for a zone that the server does not know; 23502 or 23514 for what no
    /// schedule may have.
    pub fn series(&self) -> Result<Series> {
        let date = self.date.ok_or_else(|| missing("scheduled_date"))?;
        let start_time = self
            .start_time
            .ok_or_else(|| missing("scheduled_start_time"))?;
        let name = self.timezone.as_deref().unwrap_or_default();
        let zone =
            Zone::named(name).ok_or_else(|| unknown_zone(SqlState::INVALID_PARAMETER, name))?;
        let (first, micros) = first_start(date, start_time)?;
        let end_time = self.end_time.map(TimeOfDay::since_midnight);
        let length = Length::new(start_time.since_midnight(), end_time, self.duration_minutes)?;
        let mut rule = self.rule.as_deref().map(Rule::parse).transpose()?;
        if let (Some(rule), Some(last)) = (&mut rule, self.last_start)
            && matches!(rule.end, End::Count(_))
        {
            // Known since the rule was written: nobody counts again.
            rule.end = End::Until(i64::from(last).div_euclid(1_000_000) + EPOCH);
        }
        if let Some(rule) = &mut rule {
            rule.end_in_clock_time(&zone);
        }
        Ok(Series::new(first, micros, rule, length, zone))
    }
}

impl Stored<'_> {
    /// True when both begin at the same time of the same clocks.
    pub fn begins_as(&self, other: &Stored<'_>) -> bool {
        self.date == other.date
            && self.start_time == other.start_time
            && self.timezone == other.timezone
    }

    /// True when both take place at the same times, exceptions apart.
    pub fn is_at_the_same_times_as(&self, other: &Stored<'_>) -> bool {
        self.begins_as(other)
            && self.end_time == other.end_time
            && self.rule == other.rule
            && self.duration_minutes == other.duration_minutes
    }
}

impl Stored<'static> {
    /// From a row of the table.
    pub fn of(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            date: row.get("scheduled_date")?,
            start_time: row.get("scheduled_start_time")?,
            end_time: row.get("scheduled_end_time")?,
            timezone: row.get("timezone")?.map(Cow::Owned),
            rule: row.get("recurrence_rule")?.map(Cow::Owned),
            last_start: row.get("last_start")?,
            duration_minutes: row.get("expected_duration_minutes")?,
            has_exceptions: row.get("has_exceptions")?,
        })
    }

    /// The schedule with an id, locked against changes, without its exceptions; for code that
    /// runs as the owner of the tables.
    pub fn locked(id: Uuid) -> Result<Option<Self>> {
        plan::run(&LOCKED, &[id.into()], |rows| {
            if rows.len() == 0 {
                return Ok(None);
            }
            Ok(Some(Self {
                id: None,
                date: rows.get(0, 0),
                start_time: rows.get(0, 1),
                end_time: rows.get(0, 2),
                timezone: rows.get(0, 3).map(Cow::Owned),
                rule: rows.get(0, 4).map(Cow::Owned),
                last_start: rows.get(0, 5),
                duration_minutes: rows.get(0, 6),
                has_exceptions: None,
            }))
        })
    }
}

thread_local! {
    static LOCKED: Plan = const { Plan::writing(
        c"select scheduled_date, scheduled_start_time, scheduled_end_time, timezone::text,
                 recurrence_rule, last_start, expected_duration_minutes
            from public.live_stream_schedule where id = $1 for no key update",
        &[pg_sys::UUIDOID],
    ) };
}
