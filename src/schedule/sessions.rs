//! From occurrences to sessions: made once each, and kept where their occurrence is.

use super::series::Occurrence;
use super::stored::Stored;
use super::{DAY_MICROS, next_session, settling, upcoming};
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

/// The most sessions that one schedule gets in one run: a show every hour of a week has 168.
const MOST: usize = 200;

/// The longest time ahead for which sessions are made.
const MAX_HORIZON: i64 = 366 * DAY_MICROS;

macro_rules! fields {
    () => {
        "s.scheduled_date, s.scheduled_start_time, s.scheduled_end_time, s.timezone::text,
         s.recurrence_rule, s.last_start, s.expected_duration_minutes, s.has_exceptions"
    };
}

thread_local! {
    static AHEAD: Plan = const { Plan::writing(
        c"select now() + $1",
        &[pg_sys::INTERVALOID],
    ) };
    static COMING: Plan = const { Plan::writing(
        sql!(
            "select id, title, ", fields!(), "
               from public.live_stream_schedule s
              where status in ", upcoming!(), "
                and case when has_exceptions then 'infinity' else coalesce(last_start, 'infinity') end
                    >= (now() at time zone 'UTC') - interval '9 days'
                and (has_exceptions or scheduled_date <= $1 + interval '2 days')
              order by id"
        ),
        &[pg_sys::TIMESTAMPTZOID],
    ) };
    static MAKE: Plan = const { Plan::writing(
        c"with wanted as materialized (
            select *, gen_random_uuid() as session_id
              from unnest($1, $2, $3, $4, $5, $6)
                     as u (schedule_id, original_local_start, original_starts_at, starts_at, ends_at, title)
             where not exists (select from public.live_stream_schedule_sessions l
                                where l.schedule_id = u.schedule_id
                                  and l.original_local_start = u.original_local_start)),
          claimed as (
            insert into public.live_stream_schedule_sessions
              (schedule_id, original_local_start, original_starts_at, starts_at, ends_at, title, session_id)
            select schedule_id, original_local_start, original_starts_at, starts_at, ends_at, title, session_id
              from wanted order by 1, 2 limit $7
            on conflict do nothing
            returning schedule_id, starts_at, ends_at, title, session_id)
          insert into public.live_stream_sessions
            (id, influencer_id, title, description, thumbnail_url, scheduled_start_time,
             scheduled_end_time, visibility)
          select c.session_id, s.influencer_id, c.title, s.description, s.thumbnail_url, c.starts_at,
                 c.ends_at, s.visibility
            from claimed c join public.live_stream_schedule s on s.id = c.schedule_id
          returning id",
        &[
            pg_sys::UUIDARRAYOID,
            pg_sys::TIMESTAMPARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::TEXTARRAYOID,
            pg_sys::INT8OID,
        ],
    ) };
    static HAS_PRODUCTS: Plan = const { Plan::writing(
        c"select true from pg_constraint
           where conrelid = 'public.live_stream_products'::regclass
             and conname = 'live_stream_products_product_id_fkey'",
        &[],
    ) };
    static SHOWCASE: Plan = const { Plan::writing(
        c"insert into public.live_stream_products (session_id, product_id, display_order)
          select l.session_id, p.product_id, min(p.place)::integer
            from public.live_stream_schedule_sessions l
            join public.live_stream_schedule s on s.id = l.schedule_id
           cross join unnest(s.products_to_showcase) with ordinality as p (product_id, place)
           where l.session_id = any ($1)
           group by 1, 2
           order by 1, 2",
        &[pg_sys::UUIDARRAYOID],
    ) };
    static SHOWCASE_KNOWN: Plan = const { Plan::writing(
        c"insert into public.live_stream_products (session_id, product_id, display_order)
          select l.session_id, p.product_id, min(p.place)::integer
            from public.live_stream_schedule_sessions l
            join public.live_stream_schedule s on s.id = l.schedule_id
           cross join unnest(s.products_to_showcase) with ordinality as p (product_id, place)
           where l.session_id = any ($1)
             and exists (select from public.products known where known.id = p.product_id)
           group by 1, 2
           order by 1, 2",
        &[pg_sys::UUIDARRAYOID],
    ) };
    static PLANNED: Plan = const { Plan::writing(
        sql!(
            "select l.schedule_id, l.original_local_start, l.session_id, l.starts_at, l.ends_at, l.title,
                    s.title, s.status in ", upcoming!(), ", ", fields!(), "
               from public.live_stream_schedule_sessions l
               join public.live_stream_sessions planned on planned.id = l.session_id
               join public.live_stream_schedule s on s.id = l.schedule_id
              where planned.status = 'scheduled' and ($1 is null or l.schedule_id = $1)
              order by l.session_id"
        ),
        &[pg_sys::UUIDOID],
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
                 title = case when $6 then $4 else title end
           where id in (select id from stays) and status = 'scheduled'",
        &[
            pg_sys::UUIDOID,
            pg_sys::TIMESTAMPTZOID,
            pg_sys::TIMESTAMPTZOID,
            pg_sys::TEXTOID,
            pg_sys::TIMESTAMPTZOID,
            pg_sys::BOOLOID,
        ],
    ) };
    static DROP: Plan = const { Plan::writing(
        c"delete from public.live_stream_schedule_sessions where session_id = $1",
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
    make_until(now, until, usize::MAX)
}

/// As [`materialize_occurrences`], with a horizon in microseconds, for up to so many sessions;
/// true when that was all. Leaves it to another who is at it.
pub fn make_ahead(horizon: i64, most: usize) -> Result<bool> {
    let now = i64::from(transaction_time());
    settling(|| {
        if !Lock::Schedules.try_now(Mode::Alone) {
            return Ok(true);
        }
        Ok((make_until(now, now + horizon, most)? as usize) < most)
    })
}

fn make_until(now: i64, until: i64, most: usize) -> Result<i32> {
    follow(None)?;
    let coming = coming(now, until)?;
    let mut made: Vec<Uuid> = Vec::new();
    if !coming.ids.is_empty() {
        let args = [
            coming.ids.into(),
            coming.walls.into(),
            coming.originals.into(),
            coming.starts.into(),
            coming.ends.into(),
            coming.titles.into(),
            i64::try_from(most).unwrap_or(i64::MAX).into(),
        ];
        made = plan::run(&MAKE, &args, |rows| {
            Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
        })?;
    }
    let count = made.len() as i32;
    if count > 0 {
        let has_products = plan::run(&HAS_PRODUCTS, &[], |rows| Ok(rows.len() > 0))?;
        let showcase = if has_products {
            &SHOWCASE_KNOWN
        } else {
            &SHOWCASE
        };
        plan::execute(showcase, &[made.into()])?;
    }
    next_session::name(None)?;
    Ok(count)
}

#[derive(Default)]
struct Coming {
    ids: Vec<Uuid>,
    walls: Vec<Option<Timestamp>>,
    originals: Vec<Option<TimestampWithTimeZone>>,
    starts: Vec<Option<TimestampWithTimeZone>>,
    ends: Vec<Option<TimestampWithTimeZone>>,
    titles: Vec<String>,
}

fn coming(now: i64, until: i64) -> Result<Coming> {
    let schedules = plan::run(&COMING, &[super::timestamp(until).into()], |rows| {
        let read = |row| {
            Some((
                rows.get::<Uuid>(row, 0)?,
                rows.get::<String>(row, 1)?,
                stored(rows, row, 2),
            ))
        };
        Ok((0..rows.len()).filter_map(read).collect::<Vec<_>>())
    })?;
    let mut coming = Coming::default();
    for (id, title, stored) in schedules {
        pgrx::check_for_interrupts!();
        let stored = Stored {
            id: Some(id),
            ..stored
        };
        // One schedule that makes no sense any more does not stop the others.
        let Ok(series) = stored.series() else {
            continue;
        };
        let taking_place = series.between(now, until).filter(|one| !one.is_skipped);
        for one in taking_place.take(MOST) {
            coming.ids.push(id);
            coming
                .walls
                .push(Timestamp::try_from(one.original_wall).ok());
            coming.originals.push(super::timestamp(one.original));
            coming.starts.push(super::timestamp(one.start));
            coming.ends.push(super::timestamp(one.end));
            coming.titles.push(title_of(&one, &title));
        }
    }
    Ok(coming)
}

fn title_of(one: &Occurrence, title: &str) -> String {
    one.title.as_deref().unwrap_or(title).to_owned()
}

/// The columns of `fields!`, from one on.
fn stored(rows: &plan::Rows, row: usize, column: usize) -> Stored<'static> {
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
    stored: Stored<'static>,
}

/// Moves sessions that are still scheduled to where their occurrence is, and calls off those
/// whose occurrence does not take place; of one schedule, or of all. For code that settles.
pub fn follow(schedule: Option<Uuid>) -> Result<()> {
    let planned = plan::run(&PLANNED, &[schedule.into()], |rows| {
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
                stored: stored(rows, row, 8),
            })
        };
        Ok((0..rows.len()).filter_map(read).collect::<Vec<_>>())
    })?;
    let mut changed = false;
    for one in planned {
        let stored = Stored {
            id: Some(one.schedule),
            ..one.stored
        };
        // What the server cannot make sense of any more stays as it was planned.
        let Ok(series) = stored.series() else {
            continue;
        };
        let Some(now) = series.occurrence_at(one.wall).filter(|_| one.counts) else {
            plan::execute(&DROP, &[one.session.into()])?;
            changed = true;
            continue;
        };
        let title = title_of(&now, &one.schedule_title);
        if (now.start, now.end, &title) == (one.start, one.end, &one.title) {
            continue;
        }
        let retitled = title != one.title;
        let args = [
            one.session.into(),
            super::timestamp(now.start).into(),
            super::timestamp(now.end).into(),
            title.into(),
            super::timestamp(now.original).into(),
            retitled.into(),
        ];
        plan::execute(&MOVE, &args)?;
        changed = true;
    }
    if changed && schedule.is_some() {
        next_session::name(schedule)?;
    }
    Ok(())
}

/// Sessions of a schedule that was changed.
pub fn follow_schedule(old: &Row<'_>, new: &Row<'_>) -> Result<()> {
    let id: Uuid = required(new, "id")?;
    let visibility = (old.label("visibility")?, new.label("visibility")?);
    if visibility.0 != visibility.1 {
        settling(|| {
            let args = [id.into(), visibility.0.into(), visibility.1.into()];
            plan::execute(&AS_VISIBLE, &args)?;
            next_session::name(Some(id))
        })?;
    }
    let same = old.label("status")? == new.label("status")? && new.same::<String>(old, "title")?;
    if same && Stored::of(old)?.is_at_the_same_times_as(&Stored::of(new)?) {
        return Ok(());
    }
    settling(|| follow(Some(id)))
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
