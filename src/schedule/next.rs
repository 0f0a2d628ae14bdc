//! The next occurrence of a schedule, for lists of many.

use super::loading::First;
use super::series::Occurrence;
use super::share::{MOST_EXCEPTIONS, Share};
use super::stored::Stored;
use super::to_row;
use crate::pg::error::{OrRaise, Result};
use crate::pg::per_query;
use crate::pg::time_of_day::TimeOfDay;
use pgrx::datum::{Date, Uuid};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::borrow::Cow;
use std::collections::HashMap;

/// How many exceptions are read at first, and how many times as many where all of these are skipped.
const FEW: usize = 16;
const MORE: usize = 8;

/// The first occurrence of a schedule that takes place and ends after a moment, one that is on
/// then included unless it is one of those whose session has ended; no row when there is none, or when the server cannot make sense of the fields
/// (any more): a list of schedules must not fail for one of them. Nor when the query that asks has
/// spent the influencer's share of work on others.
#[pg_extern(stable, parallel_safe)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn next_occurrence(
    schedule_id: Option<Uuid>,
    influencer_id: Option<Uuid>,
    scheduled_date: Option<Date>,
    scheduled_start_time: Option<TimeOfDay>,
    scheduled_end_time: Option<TimeOfDay>,
    timezone: Option<&str>,
    recurrence_rule: Option<&str>,
    last_start: Option<Timestamp>,
    expected_duration_minutes: Option<i32>,
    has_exceptions: Option<bool>,
    after: Option<TimestampWithTimeZone>,
    ended_starts_at: default!(Option<Vec<Option<TimestampWithTimeZone>>>, "NULL"),
    call: pg_sys::FunctionCallInfo,
) -> TableIterator<
    'static,
    (
        name!(starts_at, TimestampWithTimeZone),
        name!(ends_at, TimestampWithTimeZone),
        name!(original_starts_at, TimestampWithTimeZone),
        name!(original_local_start, Option<Timestamp>),
        name!(is_skipped, bool),
        name!(title, Option<String>),
    ),
> {
    let stored = Stored {
        id: schedule_id,
        date: scheduled_date,
        start_time: scheduled_start_time,
        end_time: scheduled_end_time,
        timezone: timezone.map(Cow::Borrowed),
        rule: recurrence_rule.map(Cow::Borrowed),
        last_start,
        duration_minutes: expected_duration_minutes,
        has_exceptions,
    };
    let ended = ended_starts_at.unwrap_or_default();
    let ended: Vec<i64> = ended.into_iter().flatten().map(i64::from).collect();
    let next = after.and_then(|after| {
        per_query::with(call, |shares: &mut HashMap<Option<Uuid>, Share>| {
            let share = shares.entry(influencer_id).or_default();
            next(&stored, &ended, after.into(), share).or_raise()
        })
    });
    TableIterator::new(next.and_then(to_row))
}

// pgrx cannot say how many rows to expect, and PostgreSQL's guess of 1,000 for each schedule
// makes bad plans.
extension_sql!(
    "alter function live_stream.next_occurrence rows 1;",
    name = "next_occurrence_rows",
    requires = [next_occurrence]
);

/// Exceptions are read until one that takes place comes before what was not read.
fn next(
    stored: &Stored<'_>,
    ended: &[i64],
    after: i64,
    share: &mut Share,
) -> Result<Option<Occurrence>> {
    let mut most = FEW;
    while !share.is_spent() {
        pgrx::check_for_interrupts!();
        let Ok(mut series) = stored.series() else {
            return Ok(None);
        };
        let mut until = None;
        if let Some(id) = stored.id.filter(|_| stored.has_exceptions == Some(true)) {
            let first = First::after(id, after, series.length.nominal(), most)?;
            share.spend_exceptions(first.count);
            until = first.until;
            series = series.with(first.exceptions);
        }
        let before = until.unwrap_or(i64::MAX);
        let mut coming = series.at_most(share.left()).between(after, before);
        let found = coming.find(|one| !one.is_skipped && !ended.contains(&one.original));
        share.spend(coming.spent());
        if found.is_some() || until.is_none() || coming.gave_up() {
            return Ok(found);
        }
        most = (most * MORE).min(MOST_EXCEPTIONS);
    }
    Ok(None)
}
