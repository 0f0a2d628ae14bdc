//! How much one influencer may have: schedules, their exceptions, and sessions that are planned; and
//! how often a follower is told of one.

use super::settings::{ALL_EXCEPTIONS, EXCEPTIONS, NOTIFICATIONS, PLANNED, SCHEDULES};
use crate::identity;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::lock::{Lock, Mode};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use pgrx::Uuid;
use pgrx::pg_sys;
use std::collections::HashMap;

thread_local! {
    static SCHEDULES_OF: Plan = const { Plan::writing(
        c"select count(*) from (
            select from public.live_stream_schedule where influencer_id = $1 limit $2) s",
        &[pg_sys::UUIDOID, pg_sys::INT8OID],
    ) };
    // The expression is that of live_stream_sessions_planned_idx.
    static PLANNED_OF: Plan = const { Plan::writing(
        c"select i.id, (select count(*) from (
                   select from public.live_stream_sessions s
                    where s.influencer_id = i.id and s.status = 'scheduled'
                      and greatest(s.scheduled_start_time, s.created_at) > now() - interval '1 day'
                    limit $2) s)
            from unnest($1) as i (id)",
        &[pg_sys::UUIDARRAYOID, pg_sys::INT8OID],
    ) };
    static EXCEPTIONS_OF: Plan = const { Plan::writing(
        c"select count(*) from (
            select from public.live_stream_schedule_exceptions where schedule_id = $1 limit $2) e",
        &[pg_sys::UUIDOID, pg_sys::INT8OID],
    ) };
    static ALL_EXCEPTIONS_OF: Plan = const { Plan::writing(
        c"select count(*) from (
            select from public.live_stream_schedule s
              join public.live_stream_schedule_exceptions e on e.schedule_id = s.id
             where s.influencer_id = $1 limit $2) e",
        &[pg_sys::UUIDOID, pg_sys::INT8OID],
    ) };
    static INFLUENCERS_OF: Plan = const { Plan::writing(
        c"select distinct influencer_id from public.live_stream_schedule where id = any ($1) order by 1",
        &[pg_sys::UUIDARRAYOID],
    ) };
}

/// Checks, after some were inserted, how many schedules an influencer has. One after the other for
/// each influencer, so that requests at the same moment are counted as well.
///
/// Errors: 23514.
pub fn check_schedules(influencer: Uuid) -> Result<()> {
    let limit = i64::from(SCHEDULES.get());
    if limit == 0 || identity::is_service()? {
        return Ok(());
    }
    Lock::Plans(influencer).wait(Mode::Alone);
    if count(&SCHEDULES_OF, influencer, limit)? <= limit {
        return Ok(());
    }
    Err(Error::new(
        SqlState::CHECK_VIOLATION,
        format!("influencer {influencer} has too many schedules"),
    )
    .detail(format!(
        "An influencer has {limit} schedules at most, those that are over included."
    ))
    .hint("Delete schedules that are over, or say several shows by one recurrence_rule."))
}

/// Checks, after one was inserted or planned anew, how many sessions an influencer has planned.
///
/// Errors: 23514.
pub fn check_planned(influencer: Uuid) -> Result<()> {
    let limit = i64::from(PLANNED.get());
    if limit == 0 || identity::is_service()? {
        return Ok(());
    }
    Lock::Plans(influencer).wait(Mode::Alone);
    let planned = planned(vec![influencer], limit)?;
    if planned.get(&influencer).is_none_or(|count| *count <= limit) {
        return Ok(());
    }
    Err(Error::new(
        SqlState::CHECK_VIOLATION,
        format!("influencer {influencer} has too many sessions planned"),
    )
    .detail(format!(
        "{limit} sessions at most are scheduled, those to come and those of the last day."
    ))
    .hint("Cancel or delete sessions that are scheduled."))
}

/// How many sessions more may be made of the schedules of each of these influencers. What requests
/// add at the same moment is not seen.
pub fn room_to_plan(influencers: Vec<Uuid>) -> Result<HashMap<Uuid, usize>> {
    let limit = i64::from(PLANNED.get());
    if limit == 0 {
        return Ok(influencers.into_iter().map(|id| (id, usize::MAX)).collect());
    }
    let planned = planned(influencers, limit)?;
    let room = |count: i64| usize::try_from(limit - count).unwrap_or(0);
    Ok(planned
        .into_iter()
        .map(|(id, count)| (id, room(count)))
        .collect())
}

/// Up to one more than a limit.
fn planned(influencers: Vec<Uuid>, limit: i64) -> Result<HashMap<Uuid, i64>> {
    as_owner(|| {
        plan::run(
            &PLANNED_OF,
            &[influencers.into(), (limit + 1).into()],
            |rows| {
                let read = |row| rows.get::<Uuid>(row, 0).zip(rows.get::<i64>(row, 1));
                Ok((0..rows.len()).filter_map(read).collect())
            },
        )
    })
}

/// Checks, after some were inserted, how many exceptions schedules have, whose rows the caller has locked, and how many
/// their influencers. One after the other for each influencer, so that requests at the same moment are counted as well.
///
/// Errors: 23514.
pub fn check_exceptions(schedules: Vec<Uuid>) -> Result<()> {
    if schedules.is_empty() {
        return Ok(());
    }
    let limit = i64::from(EXCEPTIONS.get());
    if limit > 0 {
        for schedule in &schedules {
            if count(&EXCEPTIONS_OF, *schedule, limit)? > limit {
                return Err(Error::new(
                    SqlState::CHECK_VIOLATION,
                    "the schedule has too many exceptions",
                )
                .detail(format!("A schedule has {limit} exceptions at most."))
                .hint("Split the schedule, or change its rule."));
            }
        }
    }
    let limit = i64::from(ALL_EXCEPTIONS.get());
    if limit == 0 {
        return Ok(());
    }
    let influencers: Vec<Uuid> = as_owner(|| {
        plan::run(&INFLUENCERS_OF, &[schedules.into()], |rows| {
            Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
        })
    })?;
    for influencer in influencers {
        Lock::Plans(influencer).wait(Mode::Alone);
        if count(&ALL_EXCEPTIONS_OF, influencer, limit)? > limit {
            return Err(Error::new(
                SqlState::CHECK_VIOLATION,
                format!("influencer {influencer} has too many exceptions of schedules"),
            )
            .detail(format!(
                "All schedules of an influencer have {limit} exceptions at most, those that are over included."
            ))
            .hint("Restore occurrences that are over, delete schedules that are, or change a rule."));
        }
    }
    Ok(())
}

/// How often a follower is told of one influencer in 24 hours; 0 is no limit.
pub fn notifications_per_day() -> i32 {
    NOTIFICATIONS.get()
}

/// Up to one more than a limit.
fn count(plan: &'static std::thread::LocalKey<Plan>, of: Uuid, limit: i64) -> Result<i64> {
    as_owner(|| {
        plan::run(plan, &[of.into(), (limit + 1).into()], |rows| {
            Ok(rows.get(0, 0).unwrap_or(0))
        })
    })
}
