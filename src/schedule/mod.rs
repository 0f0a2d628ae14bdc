//! Schedules: when streams are to take place, and in which zone's time.
//!
//! [`recurrence`] expands a schedule by the clock on the wall, [`zone`] says which moment that
//! is, [`guard`] keeps nonsense out of the table. What is common to them and to SQL is here.

mod guard;
mod recurrence;
mod time_of_day;
mod zone;

use crate::error::{Error, OrRaise, Result, SqlState};
use crate::plan::{self, Plan};
use crate::{identity, row};
use chrono::{NaiveDate, TimeDelta};
use pgrx::datum::{Date, Uuid};
use pgrx::pg_sys;
use pgrx::prelude::*;
use recurrence::{Fields, Length, Series, Weekdays};
use std::borrow::Cow;
use time_of_day::TimeOfDay;
use zone::Zone;

/// The most occurrences that one call returns: a daily schedule's of 270 years.
const MAX_OCCURRENCES: usize = 100_000;

/// A schedule's columns that say when it takes place.
#[derive(PartialEq)]
struct Timing<'a> {
    date: Option<Date>,
    start_time: Option<TimeOfDay>,
    end_time: Option<TimeOfDay>,
    duration_minutes: Option<i32>,
    is_recurring: bool,
    pattern: Option<Cow<'a, str>>,
    days_of_week: Option<Vec<Option<i32>>>,
    end_date: Option<Date>,
}

impl Timing<'_> {
    fn series(&self) -> Result<Series> {
        let date = self.date.ok_or_else(|| missing("scheduled_date"))?;
        let start_time = self
            .start_time
            .ok_or_else(|| missing("scheduled_start_time"))?;
        Ok(Series::new(&Fields {
            date: to_date(date),
            start: start_time.since_midnight(),
            end: self.end_time.map(TimeOfDay::since_midnight),
            duration_minutes: self.duration_minutes,
            is_recurring: self.is_recurring,
            pattern: self.pattern.as_deref(),
            weekdays: Weekdays::from_numbers(self.days_of_week.iter().flatten().copied())?,
            end_date: self.end_date.map(to_date),
        })?)
    }
}

fn missing(column: &str) -> Error {
    Error::new(
        SqlState::NOT_NULL_VIOLATION,
        format!("{column} must not be null"),
    )
    .hint(format!("Give a value for {column}."))
}

/// Dates that chrono cannot hold, the infinite ones among them, become its last one or its
/// first one, which no schedule may have.
fn to_date(date: Date) -> NaiveDate {
    let days = date.into_inner();
    let limit = if days < 0 {
        NaiveDate::MIN
    } else {
        NaiveDate::MAX
    };
    NaiveDate::from_ymd_opt(2000, 1, 1)
        .and_then(|epoch| epoch.checked_add_signed(TimeDelta::days(days.into())))
        .unwrap_or(limit)
}

/// The occurrences of `series` that end after a moment, as pairs of moments, in order. All
/// moments are in microseconds since 2000-01-01 UTC.
///
/// Starts are a day apart at least, and no zone ever skipped more: they stay in order. A rule
/// with several a day would have to sort those within a gap.
fn moments(series: Series, zone: Zone, after: i64) -> impl Iterator<Item = (i64, i64)> {
    // No zone's clocks are a whole day from UTC.
    let from = zone::utc_clock(after) - TimeDelta::days(1);
    let mut last_start = None;
    series
        .ending_after(from)
        .filter_map(move |one| {
            pgrx::check_for_interrupts!();
            let start = zone.moment(one.start);
            // Two days are one where clocks skip a day.
            if last_start.replace(start) == Some(start) {
                return None;
            }
            let length = series.length().nominal().num_microseconds()?;
            let end = match series.length() {
                Length::Elapsed(_) => start + length,
                Length::Clock(_) => match zone.moment(one.end) {
                    end if end > start => end,
                    // A start that clocks skip is after an end soon after it.
                    _ => start + length,
                },
            };
            Some((start, end))
        })
        .filter(move |(_, end)| *end > after)
}

fn table(
    moments: impl Iterator<Item = (i64, i64)> + 'static,
) -> TableIterator<'static, (TimestampWithTimeZone, TimestampWithTimeZone)> {
    TableIterator::new(
        moments.map_while(|(start, end)| Some((start.try_into().ok()?, end.try_into().ok()?))),
    )
}

/// The occurrences of a schedule that overlap the range, `range_end` excluded, in order.
///
/// Errors: 22023 for a range that is null, infinite or reversed, or holds more than 100,000
/// occurrences, and for an unknown zone; 23514 or 0A000 for fields that no schedule may have.
#[pg_extern(stable, parallel_safe)]
#[allow(clippy::too_many_arguments)]
fn occurrences(
    scheduled_date: Option<Date>,
    scheduled_start_time: Option<TimeOfDay>,
    scheduled_end_time: Option<TimeOfDay>,
    timezone: Option<&str>,
    is_recurring: Option<bool>,
    recurrence_pattern: Option<&str>,
    days_of_week: Option<Vec<Option<i32>>>,
    recurrence_end_date: Option<Date>,
    expected_duration_minutes: Option<i32>,
    range_start: Option<TimestampWithTimeZone>,
    range_end: Option<TimestampWithTimeZone>,
) -> TableIterator<
    'static,
    (
        name!(starts_at, TimestampWithTimeZone),
        name!(ends_at, TimestampWithTimeZone),
    ),
> {
    let range = range(range_start, range_end).or_raise();
    let timing = Timing {
        date: scheduled_date,
        start_time: scheduled_start_time,
        end_time: scheduled_end_time,
        duration_minutes: expected_duration_minutes,
        is_recurring: is_recurring.unwrap_or(false),
        pattern: recurrence_pattern.map(Cow::Borrowed),
        days_of_week,
        end_date: recurrence_end_date,
    };
    let series = timing.series().or_raise();
    let zone = timezone.and_then(Zone::named);
    let zone = zone
        .ok_or_else(|| unknown_zone(SqlState::INVALID_PARAMETER, timezone.unwrap_or_default()))
        .or_raise();
    let within = moments(series, zone, range.start)
        .take_while(move |(start, _)| *start < range.end && !range.is_empty());
    table(within.enumerate().map(|(index, moments)| {
        if index >= MAX_OCCURRENCES {
            Err(too_many()).or_raise()
        }
        moments
    }))
}

/// The first occurrence of a schedule that ends after a moment, one that is on then included;
/// no row when there is none, or when the server cannot make sense of the fields (any more): a
/// list of schedules must not fail for one of them.
#[pg_extern(stable, parallel_safe)]
#[allow(clippy::too_many_arguments)]
fn next_occurrence(
    scheduled_date: Option<Date>,
    scheduled_start_time: Option<TimeOfDay>,
    scheduled_end_time: Option<TimeOfDay>,
    timezone: Option<&str>,
    is_recurring: Option<bool>,
    recurrence_pattern: Option<&str>,
    days_of_week: Option<Vec<Option<i32>>>,
    recurrence_end_date: Option<Date>,
    expected_duration_minutes: Option<i32>,
    after: Option<TimestampWithTimeZone>,
) -> TableIterator<
    'static,
    (
        name!(starts_at, TimestampWithTimeZone),
        name!(ends_at, TimestampWithTimeZone),
    ),
> {
    let timing = Timing {
        date: scheduled_date,
        start_time: scheduled_start_time,
        end_time: scheduled_end_time,
        duration_minutes: expected_duration_minutes,
        is_recurring: is_recurring.unwrap_or(false),
        pattern: recurrence_pattern.map(Cow::Borrowed),
        days_of_week,
        end_date: recurrence_end_date,
    };
    let next = after.and_then(|after| {
        let zone = timezone.and_then(Zone::named)?;
        moments(timing.series().ok()?, zone, after.into()).next()
    });
    table(next.into_iter())
}

// pgrx cannot say how many rows to expect, and PostgreSQL's guess of 1,000 for each schedule
// makes bad plans.
extension_sql!(
    "alter function live_stream.occurrences rows 100;\n\
     alter function live_stream.next_occurrence rows 1;",
    name = "schedule_rows",
    requires = [occurrences, next_occurrence]
);

thread_local! {
    static INFLUENCER_OF: Plan = const { Plan::reading(
        c"select influencer_id from public.live_stream_schedule \
          where id operator(pg_catalog.=) $1",
        &[pg_sys::UUIDOID],
    ) };
}

/// Whose schedule it is, if the caller may see it.
fn influencer_of(schedule_id: Option<Uuid>) -> Result<Uuid> {
    let id = schedule_id.ok_or_else(|| {
        Error::new(SqlState::INVALID_PARAMETER, "schedule_id must not be null")
            .hint("Pass the id of a schedule.")
    })?;
    let found = plan::run(&INFLUENCER_OF, &[id.into()], |rows| Ok(rows.get(0, 0)))?;
    found.ok_or_else(|| {
        Error::new(SqlState::NOT_FOUND, format!("schedule {id} does not exist"))
            .hint("Take the id from live_stream_schedule or upcoming_streams.")
    })
}

/// Raises PT404 unless the caller may see the schedule.
#[pg_extern(stable, parallel_safe)]
fn require_schedule(schedule_id: Option<Uuid>) {
    influencer_of(schedule_id).or_raise();
}

/// Raises PT404 unless the caller may see the schedule, 42501 unless it is the caller's.
#[pg_extern(stable)]
fn require_own_schedule(schedule_id: Option<Uuid>) {
    own_schedule(schedule_id).or_raise();
}

fn own_schedule(schedule_id: Option<Uuid>) -> Result<()> {
    let influencer = influencer_of(schedule_id)?;
    if identity::owned_influencers()?.contains(&influencer) || identity::is_service()? {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        "this schedule is not the caller's",
    )
    .detail("Only its influencer may change a schedule.")
    .hint("Sign in as the user who owns the schedule's influencer."))
}

/// Keeps nonsense out of public.live_stream_schedule and brings its columns to one form.
#[pg_trigger]
fn schedule_guard<'a>(trigger: &'a PgTrigger<'a>) -> row::Outcome<'a> {
    row::before(trigger, |old, new| guard::guard(old, new))
}

fn range(
    start: Option<TimestampWithTimeZone>,
    end: Option<TimestampWithTimeZone>,
) -> Result<std::ops::Range<i64>> {
    let refused = |message: &'static str| {
        Error::new(SqlState::INVALID_PARAMETER, message)
            .detail("Occurrences are listed from range_start up to range_end, which is excluded.")
            .hint("Send two moments with their zone, such as 2026-05-01T00:00:00Z.")
    };
    let (Some(start), Some(end)) = (start, end) else {
        return Err(refused("range_start or range_end is null"));
    };
    if start.is_infinity() || start.is_neg_infinity() || end.is_infinity() || end.is_neg_infinity()
    {
        return Err(refused("range_start or range_end is infinite"));
    }
    let (start, end): (i64, i64) = (start.into(), end.into());
    if end < start {
        return Err(refused("range_end is before range_start"));
    }
    Ok(start..end)
}

fn too_many() -> Error {
    Error::new(
        SqlState::INVALID_PARAMETER,
        "the range holds too many occurrences",
    )
    .detail(format!(
        "One call lists at most {MAX_OCCURRENCES} occurrences."
    ))
    .hint("Ask for a shorter range.")
}

fn unknown_zone(state: SqlState, name: &str) -> Error {
    let shown: String = name.chars().take(100).collect();
    Error::new(state, format!("time zone \"{shown}\" is not known"))
        .detail("The time zone of a schedule is an IANA name that the server knows.")
        .hint("Use a name such as Europe/Berlin; select name from pg_timezone_names lists them.")
}
