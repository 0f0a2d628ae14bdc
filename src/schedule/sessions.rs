//! Sessions that were made for occurrences: kept where their occurrence is.

use super::loading::exception;
use super::series::{Exception, Occurrence, Series};
use super::stored::Stored;
use super::{DAY_MICROS, called_off, next_session, settling, turns, upcoming};
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::lock::{Lock, Mode};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, sql};
use crate::pg::row::Row;
use crate::pg::row::required;
use crate::pg::transition::Changes;
use pgrx::datum::{Interval, Uuid};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::borrow::Cow;
use std::collections::HashMap;

/// The longest time ahead for which sessions are made.
const MAX_HORIZON: i64 = 366 * DAY_MICROS;

/// The columns that [`stored`] reads.
macro_rules! fields {
    () => {
        "s.scheduled_date, s.scheduled_start_time, s.scheduled_end_time, s.timezone::text,
         s.recurrence_rule, s.last_start, s.expected_duration_minutes, s.has_exceptions"
    };
}
pub(super) use fields;

thread_local! {
    static AHEAD: Plan = const { Plan::writing(
        c"select now() + $1",
        &[pg_sys::INTERVALOID],
    ) };
    // Each session is looked up by its id (`limit 1`, and the status as a text, which is in no index), whatever the planner believes of how many there are.
    static PLANNED: Plan = const { Plan::writing(
        sql!(
            "select l.schedule_id, l.original_local_start, l.session_id, l.starts_at, l.ends_at, l.title,
                    s.title, s.status in ", upcoming!(), ", e.kind, e.original_local_start, e.starts_at,
                    e.local_start, e.ends_at, e.title, ", fields!(), "
               from public.live_stream_schedule_sessions l
               join public.live_stream_schedule s on s.id = l.schedule_id
              cross join lateral (
                     select from public.live_stream_sessions
                      where id = l.session_id and status::text = 'scheduled' limit 1) planned
               left join lateral (
                     select kind::text, original_local_start, starts_at, local_start, ends_at, title
                       from public.live_stream_schedule_exceptions
                      where schedule_id = l.schedule_id and fits
                        and original_local_start = l.original_local_start limit 1) e on true
              where l.schedule_id = any ($1)
                and ($2 or l.ends_at > now())
              order by l.session_id"
        ),
        &[pg_sys::UUIDARRAYOID, pg_sys::BOOLOID],
    ) };
    // Whoever changes a schedule has its row, and whoever deletes a session wants that after the
    // session's: a session that is being deleted is left to who deletes it, here and below.
    static MOVE: Plan = const { Plan::writing(
        c"with stays as materialized (
            select id from public.live_stream_sessions where id = $1 for key share skip locked),
          told as (
            update public.live_stream_schedule_sessions
               set starts_at = $2, ends_at = $3, title = $4, original_starts_at = $5
             where session_id in (select id from stays))
          update public.live_stream_sessions
             set scheduled_start_time = $2, scheduled_end_time = $3,
                 title = case when title = $6 then $4 else title end
           where id in (select id from stays) and status = 'scheduled'",
        &[
            pg_sys::UUIDOID,
            pg_sys::TIMESTAMPTZOID,
            pg_sys::TIMESTAMPTZOID,
            pg_sys::TEXTOID,
            pg_sys::TIMESTAMPTZOID,
            pg_sys::TEXTOID,
        ],
    ) };
    static DROP: Plan = const { Plan::writing(
        c"with stays as materialized (
            select id from public.live_stream_sessions where id = $1 for key share skip locked)
          delete from public.live_stream_schedule_sessions
           where session_id in (select id from stays)",
        &[pg_sys::UUIDOID],
    ) };
    static CANCEL: Plan = const { Plan::writing(
        c"with stays as materialized (
            select id from public.live_stream_sessions
             where id = any ($1) order by id for key share skip locked)
          update public.live_stream_sessions set status = 'cancelled'
           where id in (select id from stays) and status = 'scheduled'",
        &[pg_sys::UUIDARRAYOID],
    ) };
    // Those that the host has made otherwise stay so.
    static AS_VISIBLE: Plan = const { Plan::writing(
        c"with stays as materialized (
            select s.id
              from public.live_stream_schedule_sessions l
              join public.live_stream_sessions s on s.id = l.session_id
             where l.schedule_id = $1 and s.status = 'scheduled'
               and s.visibility = $2::public.live_stream_visibility
             order by s.id for key share of s skip locked)
          update public.live_stream_sessions
             set visibility = $3::public.live_stream_visibility
           where id in (select id from stays) and status = 'scheduled'
             and visibility = $2::public.live_stream_visibility",
        &[pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::TEXTOID],
    ) };
}

/// Makes the sessions of all occurrences that begin within a time from now, those that are on
/// included, once each; lets sessions whose occurrence was moved or called off follow. Returns
/// how many it made.
///
/// Errors: 22023 for a horizon that is null, negative or more than a year.
#[pg_extern(volatile)]
fn materialize_occurrences(horizon: default!(Option<Interval>, "'7 days'")) -> i32 {
    let made = horizon
        .ok_or_else(bad_horizon)
        .and_then(|horizon| settling(|| materialize(horizon)));
    made.or_raise()
}

fn bad_horizon() -> Error {
    Error::new(
        SqlState::INVALID_PARAMETER,
        "horizon is no time from now on",
    )
    .detail("Sessions are made for what begins within it: a year at most.")
    .hint("Send an interval such as 7 days.")
}

fn materialize(horizon: Interval) -> Result<i32> {
    let until: Option<TimestampWithTimeZone> =
        plan::run(&AHEAD, &[horizon.into()], |rows| Ok(rows.get(0, 0)))?;
    let now = i64::from(transaction_time());
    let until = until.map(i64::from).ok_or_else(bad_horizon)?;
    if !(0..=MAX_HORIZON).contains(&(until - now)) {
        return Err(bad_horizon());
    }
    Lock::Schedules.wait(Mode::Alone);
    turns::make_all(now, until)
}

pub fn title_of(one: &Occurrence, title: &str) -> String {
    one.title.as_deref().unwrap_or(title).to_owned()
}

/// The columns of `fields!`, from one on.
pub fn stored(rows: &plan::Rows, row: usize, column: usize) -> Stored<'static> {
    Stored {
        id: None,
        date: rows.get(row, column),
        start_time: rows.get(row, column + 1),
        end_time: rows.get(row, column + 2),
        timezone: rows.get(row, column + 3).map(Cow::Owned),
        rule: rows.get(row, column + 4).map(Cow::Owned),
        last_start: rows.get(row, column + 5),
        duration_minutes: rows.get(row, column + 6),
        has_exceptions: rows.get(row, column + 7),
    }
}

struct Planned {
    schedule: Uuid,
    wall: i64,
    session: Uuid,
    start: i64,
    end: i64,
    title: String,
    schedule_title: String,
    counts: bool,
    /// The one of its occurrence.
    exception: Option<Exception>,
    stored: Stored<'static>,
}

/// Moves sessions that are still scheduled to where their occurrence is, and calls off those
/// whose occurrence does not take place; of one schedule. For code that settles.
pub fn follow(schedule: Uuid) -> Result<()> {
    called_off::make_up(vec![schedule])?;
    if follow_planned(vec![schedule], true)? {
        next_session::name(vec![schedule])?;
    }
    Ok(())
}

/// As [`follow`], of several schedules, and of those sessions alone that are not over unless `all`; true if any changed.
pub fn follow_planned(schedules: Vec<Uuid>, all: bool) -> Result<bool> {
    let planned = plan::run(&PLANNED, &[schedules.into(), all.into()], |rows| {
        let read = |row| {
            let wall: Timestamp = rows.get(row, 1)?;
            let start: TimestampWithTimeZone = rows.get(row, 3)?;
            let end: TimestampWithTimeZone = rows.get(row, 4)?;
            Some(Planned {
                schedule: rows.get(row, 0)?,
                wall: wall.into(),
                session: rows.get(row, 2)?,
                start: start.into(),
                end: end.into(),
                title: rows.get(row, 5)?,
                schedule_title: rows.get(row, 6)?,
                counts: rows.get(row, 7)?,
                exception: exception(rows, row, 8),
                stored: stored(rows, row, 14),
            })
        };
        Ok((0..rows.len()).filter_map(read).collect::<Vec<_>>())
    })?;
    let mut changed = false;
    let mut known: HashMap<Uuid, Option<Series>> = HashMap::new();
    for one in planned {
        pgrx::check_for_interrupts!();
        let series = known
            .entry(one.schedule)
            .or_insert_with(|| one.stored.series().ok());
        // What the server cannot make sense of any more stays as it was planned.
        let Some(series) = series else {
            continue;
        };
        let Some(now) = series
            .occurrence_at(one.wall, one.exception.as_ref())
            .filter(|_| one.counts)
        else {
            plan::execute(&DROP, &[one.session.into()])?;
            changed = true;
            continue;
        };
        let title = title_of(&now, &one.schedule_title);
        if (now.start, now.end, &title) == (one.start, one.end, &one.title) {
            continue;
        }
        let args = [
            one.session.into(),
            super::timestamp(now.start).into(),
            super::timestamp(now.end).into(),
            title.into(),
            super::timestamp(now.original).into(),
            one.title.into(),
        ];
        plan::execute(&MOVE, &args)?;
        changed = true;
    }
    Ok(changed)
}

/// Sessions of a schedule that was changed.
pub fn follow_schedule(old: &Row<'_>, new: &Row<'_>) -> Result<()> {
    let id: Uuid = required(new, "id")?;
    let visibility = (old.label("visibility")?, new.label("visibility")?);
    if visibility.0 != visibility.1 {
        settling(|| {
            let args = [id.into(), visibility.0.into(), visibility.1.into()];
            plan::execute(&AS_VISIBLE, &args)?;
            next_session::name(vec![id])
        })?;
    }
    let same = old.label("status")? == new.label("status")? && new.same::<String>(old, "title")?;
    if same && Stored::of(old)?.is_at_the_same_times_as(&Stored::of(new)?) {
        return Ok(());
    }
    settling(|| follow(id))
}

/// Sessions whose occurrence does not take place any more are called off.
pub fn cancel(changes: Changes<'_>) -> Result<()> {
    let column = changes.column::<Uuid>("session_id")?;
    let mut sessions: Vec<Uuid> = Vec::new();
    changes.for_each(|old, _| {
        sessions.extend(old.and_then(|row| row.at(column)));
        Ok(())
    })?;
    if sessions.is_empty() {
        return Ok(());
    }
    as_owner(|| plan::execute(&CANCEL, &[sessions.into()]).map(|_| ()))
}
