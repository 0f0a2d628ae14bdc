//! "This and all that follow": one schedule becomes two.

use super::stored::Stored;
use super::{DAY_MICROS, EPOCH, next_session, no_such_schedule, settling};
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use pgrx::datum::{Date, Timestamp, Uuid};
use pgrx::pg_sys;
use pgrx::prelude::*;
use recurrence::expand::Expansion;
use recurrence::rule::{End, Rule};
use std::cell::Cell;

/// The starts by which it is seen that two rules go on alike.
const COMPARED: usize = 20;

thread_local! {
    static RESULT: Cell<Option<Uuid>> = const { Cell::new(None) };
    static NEW_ID: Plan = const { Plan::writing(c"select gen_random_uuid()", &[]) };
    static COPY: Plan = const { Plan::writing(
        c"insert into public.live_stream_schedule
            (id, influencer_id, title, description, thumbnail_url, scheduled_date,
             scheduled_start_time, scheduled_end_time, timezone, recurrence_rule,
             products_to_showcase, stream_category, expected_duration_minutes, target_audience,
             promotion_message, is_promoted, visibility, status)
          select $2, influencer_id, title, description, thumbnail_url, $3,
                 $4::time, case when scheduled_start_time = $4::time then scheduled_end_time
                                else scheduled_end_time + ($4::time - scheduled_start_time) end,
                 timezone, $5, products_to_showcase, stream_category, expected_duration_minutes,
                 target_audience, promotion_message, is_promoted, visibility, status
            from public.live_stream_schedule where id = $1",
        &[
            pg_sys::UUIDOID,
            pg_sys::UUIDOID,
            pg_sys::DATEOID,
            pg_sys::TIMESTAMPOID,
            pg_sys::TEXTOID,
        ],
    ) };
    static HAND_OVER: Plan = const { Plan::writing(
        c"with moved as (
            update public.live_stream_schedule_exceptions
               set schedule_id = $2
             where schedule_id = $1 and original_local_start >= $3 and fits
            returning 1),
          handed as (
            update public.live_stream_schedule_sessions
               set schedule_id = $2
             where schedule_id = $1 and original_local_start >= $3)
          update public.live_stream_schedule s
             set has_exceptions = case s.id
                   when $2 then exists (select from moved)
                   else exists (select from public.live_stream_schedule_exceptions e
                                 where e.schedule_id = $1
                                   and (e.original_local_start < $3 or not e.fits)) end
           where s.id in ($1, $2)",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::TIMESTAMPOID],
    ) };
    static SHORTEN: Plan = const { Plan::writing(
        c"update public.live_stream_schedule set recurrence_rule = $2 where id = $1",
        &[pg_sys::UUIDOID, pg_sys::TEXTOID],
    ) };
}

/// Ends a schedule before one of its occurrences; a new one has that and all that follow.
///
/// Errors: PT404 and 42501 as for every change of a schedule; 22023 where it cannot be split.
#[pg_extern(volatile)]
fn split_schedule(schedule_id: Option<Uuid>, original_starts_at: Option<TimestampWithTimeZone>) {
    split(schedule_id, original_starts_at).or_raise();
}

/// The schedule that the last split in this backend made.
#[pg_extern(volatile)]
fn split_result() -> Option<Uuid> {
    RESULT.get()
}

fn split(schedule: Option<Uuid>, original: Option<TimestampWithTimeZone>) -> Result<()> {
    super::own_schedule(schedule)?;
    let (Some(id), Some(original)) = (schedule, original) else {
        return Err(refused("original_starts_at must not be null"));
    };
    let stored = as_owner(|| Stored::locked(id))?.ok_or_else(|| no_such_schedule(id))?;
    let series = stored.series()?;
    let Some(wall) = series.wall_of_start(original.into()) else {
        return Err(refused("the schedule has no such occurrence"));
    };
    let Some(mut earlier) = series.rule.clone() else {
        return Err(refused("the schedule takes place only once"));
    };
    let at = wall.div_euclid(1_000_000) + EPOCH;
    let before = Expansion::new(&earlier, series.first, series.first)
        .take_while(|start| *start < at)
        .count();
    if before == 0 {
        return Err(refused("the schedule has nothing before that occurrence"));
    }
    let mut later = earlier.clone();
    if let Some(End::Count(count)) = stored
        .rule
        .as_deref()
        .and_then(|text| Some(Rule::parse(text).ok()?.end))
    {
        later.end = End::Count(count.saturating_sub(before as u32).max(1));
    }
    // BYSETPOS counts from the first start in a week, and so another way from another start.
    let follows = |rule: &Rule, first| Expansion::new(rule, first, at).take(COMPARED);
    if !follows(&later, at).eq(follows(&earlier, series.first)) {
        return Err(refused("the rule says something else when it begins there"));
    }
    earlier.end = End::Until(at - 1);

    let new: Option<Uuid> = plan::run(&NEW_ID, &[], |rows| Ok(rows.get(0, 0)))?;
    let new = new.ok_or_else(|| refused("no new id"))?;
    let local = Timestamp::try_from(wall).ok();
    let date = Date::saturating_from_raw(wall.div_euclid(DAY_MICROS) as i32);
    let copied = [
        id.into(),
        new.into(),
        date.into(),
        local.into(),
        later.to_string().into(),
    ];
    plan::execute(&COPY, &copied)?;
    settling(|| {
        plan::execute(&HAND_OVER, &[id.into(), new.into(), local.into()])?;
        next_session::name(vec![id, new])
    })?;
    plan::execute(&SHORTEN, &[id.into(), earlier.to_string().into()])?;
    RESULT.set(Some(new));
    Ok(())
}

fn refused(message: &'static str) -> Error {
    Error::new(SqlState::INVALID_PARAMETER, message)
        .detail("A recurring schedule is split at one of its occurrences but the first.")
        .hint("Take original_starts_at from live_stream_occurrences.")
}
