//! Schedules: when streams are to take place, and in which zone's time.
//!
//! The crate [`recurrence`] is RFC 5545 by the clock on the wall, [`fields`] what a schedule's
//! simple fields mean, `pg/time_zone.rs` the server's time zones, [`series`] puts these together
//! with exceptions, [`loading`] reads those, [`guard`] keeps nonsense out of the table. What SQL calls is here.

mod calendar;
mod called_off;
mod exceptions;
mod fields;
mod guard;
mod ics;
mod later;
mod loading;
mod looks;
mod making;
mod next;
mod next_session;
mod nulls;
mod places;
mod saved_again;
mod series;
mod sessions;
mod share;
mod split;
mod stored;
mod turns;

use crate::access;
use crate::limits;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::own_writes::{self, OwnWrites};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::time_of_day::TimeOfDay;
use crate::pg::transition;
use crate::pg::trigger;
use fields::InvalidField;
use pgrx::datum::{Date, Uuid};
use pgrx::pg_sys;
use pgrx::prelude::*;
use recurrence::days;
use recurrence::rule::{InvalidRule, Rule};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Instant;
use stored::Stored;

/// The statuses of a schedule that takes place, as SQL has a list.
macro_rules! upcoming {
    () => {
        "('scheduled', 'confirmed')"
    };
}
use upcoming;

/// The most occurrences that one call returns: a daily schedule's of 270 years.
const MAX_OCCURRENCES: usize = 100_000;

/// From PostgreSQL's epoch, 2000-01-01, to that of Unix, in days.
const EPOCH_DAYS: i32 = 10_957;

/// The same in seconds.
const EPOCH: i64 = EPOCH_DAYS as i64 * days::DAY_SECONDS;

const DAY_MICROS: i64 = days::DAY_SECONDS * 1_000_000;

/// The longest that an occurrence lasts.
const LONGEST: i64 = fields::MAX_DURATION_MINUTES as i64 * 60 * 1_000_000;

/// The first start, in seconds of clock time since 1970-01-01, and the microseconds besides.
fn first_start(date: Date, start_time: TimeOfDay) -> Result<(i64, i64)> {
    let time = start_time.since_midnight();
    if !(0..DAY_MICROS).contains(&time) {
        return Err(InvalidField::StartTime.into());
    }
    let day = to_day(date).ok_or(InvalidField::Date)?;
    let seconds = i64::from(day) * days::DAY_SECONDS + time / 1_000_000;
    Ok((seconds, time % 1_000_000))
}

/// Days since 1970-01-01; none outside the years 1 to 9999.
fn to_day(date: Date) -> Option<i32> {
    let day = date.into_inner().checked_add(EPOCH_DAYS)?;
    let years = days::EARLIEST / days::DAY_SECONDS..=days::LATEST / days::DAY_SECONDS;
    years.contains(&i64::from(day)).then_some(day)
}

pub use ics::define_settings;
pub use next_session::{hide_session, mark_reminded, mark_told};
pub use turns::begin_anew;

/// Sessions are made for what begins within this: more than the longest time before a stream
/// for which a reminder can be asked.
const AHEAD: i64 = 8 * DAY_MICROS;

/// Makes sessions of what begins within the coming eight days, until a moment; true when more is left, or another
/// is at it. Looks at each schedule once a minute, and reads one row when there is nothing to do.
pub fn make_coming_sessions(until: Instant) -> Result<bool> {
    turns::go_on(AHEAD, until)
}

thread_local! {
    static SETTLING: OwnWrites = const { OwnWrites::new() };
}

/// Runs `f`, whose changes of schedules, exceptions and their sessions are the database's own.
fn settling<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
    own_writes::with(&SETTLING, true, || as_owner(f))
}

/// True in a trigger that such a change has fired. What an app's trigger writes meanwhile is the
/// app's.
fn is_settling() -> bool {
    SETTLING.with(OwnWrites::have_fired)
}

/// True while such changes are made: what is read must have those before.
fn settles() -> bool {
    SETTLING.with(OwnWrites::are_being_made)
}

fn missing(column: &str) -> Error {
    Error::new(
        SqlState::NOT_NULL_VIOLATION,
        format!("{column} must not be null"),
    )
    .hint(format!("Give a value for {column}."))
}

fn timestamp(micros: i64) -> Option<TimestampWithTimeZone> {
    micros.try_into().ok()
}

type OccurrenceRow = (
    TimestampWithTimeZone,
    TimestampWithTimeZone,
    TimestampWithTimeZone,
    Option<Timestamp>,
    bool,
    Option<String>,
);

fn to_row(one: series::Occurrence) -> Option<OccurrenceRow> {
    Some((
        timestamp(one.start)?,
        timestamp(one.end)?,
        timestamp(one.original)?,
        one.original_wall.try_into().ok(),
        one.is_skipped,
        one.title.map(|title| title.to_string()),
    ))
}

/// The occurrences of a schedule that overlap the range, `range_end` excluded, in order; those
/// that are skipped too, and marked.
///
/// Errors: 22023 for a range that is null, infinite or reversed, or holds more than 100,000
/// occurrences, and for an unknown zone; 23514 for fields that no schedule may have.
#[pg_extern(stable, parallel_safe)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn occurrences(
    schedule_id: Option<Uuid>,
    scheduled_date: Option<Date>,
    scheduled_start_time: Option<TimeOfDay>,
    scheduled_end_time: Option<TimeOfDay>,
    timezone: Option<&str>,
    recurrence_rule: Option<&str>,
    last_start: Option<Timestamp>,
    expected_duration_minutes: Option<i32>,
    has_exceptions: Option<bool>,
    range_start: Option<TimestampWithTimeZone>,
    range_end: Option<TimestampWithTimeZone>,
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
    let range = range(range_start, range_end).or_raise();
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
    let series = loading::series_between(&stored, range.start, range.end).or_raise();
    let mut all = series.between(range.start, range.end);
    let mut count = 0;
    TableIterator::new(std::iter::from_fn(move || {
        pgrx::check_for_interrupts!();
        if range.is_empty() {
            return None;
        }
        let next = all.next();
        if next.is_none() && all.gave_up() {
            Err(too_long()).or_raise()
        }
        if next.is_some() && count == MAX_OCCURRENCES {
            Err(too_many()).or_raise()
        }
        count += 1;
        to_row(next?)
    }))
}

/// When the occurrences of a schedule begin that `live_stream.occurrences` lists, but for those
/// that are skipped, in one array: many at a time cost less than as rows.
///
/// Errors: as of `live_stream.occurrences`.
#[pg_extern(stable, parallel_safe)]
#[allow(clippy::too_many_arguments)]
fn occurrence_starts(
    schedule_id: Option<Uuid>,
    scheduled_date: Option<Date>,
    scheduled_start_time: Option<TimeOfDay>,
    scheduled_end_time: Option<TimeOfDay>,
    timezone: Option<&str>,
    recurrence_rule: Option<&str>,
    last_start: Option<Timestamp>,
    expected_duration_minutes: Option<i32>,
    has_exceptions: Option<bool>,
    range_start: Option<TimestampWithTimeZone>,
    range_end: Option<TimestampWithTimeZone>,
) -> Vec<TimestampWithTimeZone> {
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
    let starts = || {
        let range = range(range_start, range_end)?;
        let mut starts = Vec::new();
        if range.is_empty() {
            return Ok(starts);
        }
        let series = loading::series_between(&stored, range.start, range.end)?;
        let mut all = series.between(range.start, range.end);
        for one in all.by_ref().filter(|one| !one.is_skipped) {
            if starts.len() == MAX_OCCURRENCES {
                return Err(too_many());
            }
            if starts.len() % 1024 == 0 {
                pgrx::check_for_interrupts!();
            }
            starts.extend(timestamp(one.start));
        }
        if all.gave_up() {
            return Err(too_long());
        }
        Ok(starts)
    };
    starts().or_raise()
}

// pgrx cannot say how many rows to expect, and PostgreSQL's guess of 1,000 for each schedule
// makes bad plans.
extension_sql!(
    "alter function live_stream.occurrences rows 100;",
    name = "schedule_rows",
    requires = [occurrences]
);

/// The one form of a recurrence rule of RFC 5545.
///
/// Errors: 22023 for no such rule.
#[pg_extern(immutable, parallel_safe, strict)]
fn normalize_recurrence_rule(recurrence_rule: Option<&str>) -> Option<String> {
    let parsed = Rule::parse(recurrence_rule?)
        .map_err(|invalid| not_a_rule(SqlState::INVALID_PARAMETER, &invalid));
    Some(parsed.or_raise().to_string())
}

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
    found.ok_or_else(|| no_such_schedule(id))
}

fn no_such_schedule(id: Uuid) -> Error {
    Error::new(SqlState::NOT_FOUND, format!("schedule {id} does not exist"))
        .hint("Take the id from live_stream_schedule or upcoming_streams.")
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
    if access::manages(influencer)? {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        "this schedule is not the caller's",
    )
    .detail("Only its influencer may change a schedule.")
    .hint("Sign in as the user who owns the schedule's influencer."))
}

/// AFTER UPDATE of a schedule: its exceptions and its sessions go where its occurrences are.
#[pg_trigger]
fn schedule_settle<'a>(trigger: &'a PgTrigger<'a>) -> trigger::Outcome<'a> {
    trigger::after_change(trigger, |old, new| match old {
        Some(old) if !is_settling() => {
            later::follow(old, new)?;
            sessions::follow_schedule(old, new)
        }
        _ => Ok(()),
    })
}

/// Keeps nonsense out of public.live_stream_schedule_exceptions.
#[pg_trigger]
fn schedule_exceptions_guard<'a>(trigger: &'a PgTrigger<'a>) -> trigger::Outcome<'a> {
    trigger::before_or_again(trigger, exceptions::guard_again, |old, new| {
        limits::write_row(old.is_none())?;
        exceptions::guard(old, new)
    })
}

/// AFTER a statement that has changed schedules: their sessions look as they do.
#[pg_trigger]
fn schedule_looks<'a>(trigger: &'a PgTrigger<'a>) -> trigger::Outcome<'a> {
    transition::after(trigger, looks::follow)
}

/// AFTER any change of exceptions: what is kept of them in their schedules.
#[pg_trigger]
fn schedule_exceptions_settle<'a>(trigger: &'a PgTrigger<'a>) -> trigger::Outcome<'a> {
    transition::after(trigger, exceptions::settle)
}

/// AFTER DELETE of what says which sessions were made for a schedule.
#[pg_trigger]
fn schedule_sessions_settle<'a>(trigger: &'a PgTrigger<'a>) -> trigger::Outcome<'a> {
    transition::after(trigger, sessions::cancel)
}

/// Keeps nonsense out of public.live_stream_schedule and brings its columns to one form.
#[pg_trigger]
fn schedule_guard<'a>(trigger: &'a PgTrigger<'a>) -> trigger::Outcome<'a> {
    trigger::before_or_again(trigger, saved_again::guard, |old, new| {
        limits::write_row(old.is_none())?;
        guard::guard(old, new)
    })
}

/// AFTER INSERT of schedules: how many their influencers have.
#[pg_trigger]
fn schedule_count<'a>(trigger: &'a PgTrigger<'a>) -> trigger::Outcome<'a> {
    transition::after(trigger, |changes| {
        let column = changes.column::<Uuid>("influencer_id")?;
        let mut influencers = BTreeSet::new();
        changes.for_each(|_, new| {
            influencers.extend(new.and_then(|row| row.at(column)));
            Ok(())
        })?;
        influencers
            .into_iter()
            .try_for_each(limits::check_schedules)
    })
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

fn too_long() -> Error {
    Error::new(
        SqlState::INVALID_PARAMETER,
        "the recurrence rule takes too long to expand",
    )
    .detail("It matches too rarely for how often it is looked at.")
    .hint("Give the rule a lower FREQ, or ask for a shorter range.")
}

fn unknown_zone(state: SqlState, name: &str) -> Error {
    let shown: String = name.chars().take(100).collect();
    Error::new(state, format!("time zone \"{shown}\" is not known"))
        .detail("The time zone of a schedule is an IANA name that the server knows.")
        .hint("Use a name such as Europe/Berlin; select name from pg_timezone_names lists them.")
}

fn not_a_rule(state: SqlState, invalid: &InvalidRule) -> Error {
    Error::new(
        state,
        format!("{} of the recurrence rule is not valid", invalid.part),
    )
    .detail(invalid.why.clone())
    .hint("Send a rule of RFC 5545, such as FREQ=MONTHLY;BYDAY=1MO.")
}

impl From<InvalidRule> for Error {
    fn from(invalid: InvalidRule) -> Self {
        not_a_rule(SqlState::CHECK_VIOLATION, &invalid)
    }
}
