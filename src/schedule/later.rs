//! A schedule that was put to other times: its sessions and exceptions go along, see [`super::places`].

use super::exceptions;
use super::places::{Made, Places, State, places};
use super::stored::Stored;
use super::{DAY_MICROS, LONGEST, settling, timestamp};
use crate::pg::clock::transaction_time;
use crate::pg::error::Result;
use crate::pg::plan::{self, Plan};
use crate::pg::row::{Row, required};
use pgrx::datum::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;

thread_local! {
    // The last one that is over, and all after it; those that were moved into what comes. Whoever deletes a session wants
    // this row after the session's, and is not waited for.
    static MADE: Plan = const { Plan::writing(
        c"with mine as materialized (
            select original_local_start, session_id
              from public.live_stream_schedule_sessions
             where schedule_id = $1
               and (ends_at > now()
                    or original_local_start >= coalesce(
                         (select max(original_local_start) from public.live_stream_schedule_sessions
                           where schedule_id = $1 and original_local_start < $2), $2))),
          stays as materialized (
            select id, status::text as status from public.live_stream_sessions
             where id = any (array (select session_id from mine)) order by id for key share skip locked)
          select m.original_local_start, s.status, m.session_id is null or s.id is not null
            from mine m left join stays s on s.id = m.session_id",
        &[pg_sys::UUIDOID, pg_sys::TIMESTAMPOID],
    ) };
    static DROP: Plan = const { Plan::writing(
        c"delete from public.live_stream_schedule_sessions
           where schedule_id = $1 and original_local_start = any ($2)",
        &[pg_sys::UUIDOID, pg_sys::TIMESTAMPARRAYOID],
    ) };
    // Out of the way of the others, past the years that schedules have.
    static LIFT: Plan = const { Plan::writing(
        c"update public.live_stream_schedule_sessions
             set original_local_start = original_local_start + interval '100000 years'
           where schedule_id = $1 and original_local_start = any ($2)",
        &[pg_sys::UUIDOID, pg_sys::TIMESTAMPARRAYOID],
    ) };
    // Of one that has ended the time is nobody's but its occurrence's.
    static PUT: Plan = const { Plan::writing(
        c"update public.live_stream_schedule_sessions l
             set original_local_start = u.wall, original_starts_at = u.original,
                 starts_at = case when u.has_ended then l.starts_at + (u.original - l.original_starts_at)
                                  else l.starts_at end,
                 ends_at = case when u.has_ended then l.ends_at + (u.original - l.original_starts_at)
                                else l.ends_at end
            from unnest($2, $3, $4, $5) as u (was, wall, original, has_ended)
           where l.schedule_id = $1 and l.original_local_start = u.was + interval '100000 years'",
        &[
            pg_sys::UUIDOID,
            pg_sys::TIMESTAMPARRAYOID,
            pg_sys::TIMESTAMPARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::BOOLARRAYOID,
        ],
    ) };
}

/// Sessions that were made for a schedule, and what is different about its occurrences, go where these are after a change.
pub fn follow(old: &Row<'_>, new: &Row<'_>) -> Result<()> {
    let (before, after) = (Stored::of(old)?, Stored::of(new)?);
    let is_put = !before.begins_as(&after);
    if !is_put && before.rule == after.rule {
        return Ok(());
    }
    let id: Uuid = required(new, "id")?;
    let now = i64::from(transaction_time());
    let lost = settling(|| {
        let kept = match after.has_exceptions {
            Some(true) => exceptions::all(id)?,
            _ => Vec::new(),
        };
        let made = made(id, now)?;
        if made.is_empty() && kept.is_empty() {
            return Ok(0);
        }
        // What the server cannot make sense of any more has no order.
        let places = match before.series() {
            Ok(_) => places(&before, &after, is_put, now, &made, &kept)?,
            Err(_) => None,
        };
        if let Some(places) = &places {
            put(id, &made, places)?;
        }
        if kept.is_empty() {
            return Ok(0);
        }
        exceptions::follow(id, kept, (&before, &after), now, places.as_ref())
    })?;
    if lost > 0 {
        ereport!(
            PgLogLevel::NOTICE,
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("{lost} exceptions of schedule {id} do not fit its rule any more"),
            "They are kept, marked fits = false in live_stream_schedule_exceptions, and have no effect."
        );
    }
    Ok(())
}

fn made(schedule: Uuid, now: i64) -> Result<Vec<Made>> {
    // No zone is a whole day from UTC.
    let since = Timestamp::try_from(now - LONGEST - 2 * DAY_MICROS).ok();
    plan::run(&MADE, &[schedule.into(), since.into()], |rows| {
        let read = |row| {
            let wall: Timestamp = rows.get(row, 0)?;
            let status: Option<String> = rows.get(row, 1);
            Some(Made {
                wall: wall.into(),
                state: match status.as_deref() {
                    Some("scheduled") => State::Planned,
                    Some("live" | "paused") => State::OnAir,
                    Some("ended") => State::Ended,
                    _ => State::Gone,
                },
                stays: rows.get(row, 2)?,
            })
        };
        Ok((0..rows.len()).filter_map(read).collect())
    })
}

/// Sessions keep what they are, and go with their occurrence; of one that has no place any more it is called off.
fn put(schedule: Uuid, made: &[Made], places: &Places) -> Result<()> {
    let wall = |micros: i64| Timestamp::try_from(micros).ok();
    let (mut gone, mut was, mut is, mut originals) = (vec![], vec![], vec![], vec![]);
    let mut has_ended = vec![];
    for one in made.iter().filter(|one| one.stays) {
        match places.of(one.wall) {
            Some(None) => gone.push(wall(one.wall)),
            Some(Some(place)) if place.wall != one.wall || one.state == State::Ended => {
                was.push(wall(one.wall));
                is.push(wall(place.wall));
                originals.push(timestamp(place.moment));
                has_ended.push(one.state == State::Ended);
            }
            _ => {}
        }
    }
    if !gone.is_empty() {
        plan::execute(&DROP, &[schedule.into(), gone.into()])?;
    }
    if was.is_empty() {
        return Ok(());
    }
    plan::execute(&LIFT, &[schedule.into(), was.clone().into()])?;
    let args = [
        schedule.into(),
        was.into(),
        is.into(),
        originals.into(),
        has_ended.into(),
    ];
    plan::execute(&PUT, &args).map(drop)
}
