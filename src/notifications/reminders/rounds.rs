//! Sessions whose followers are due: each is gone on with by a share of them.

use super::turns::{Found, Line, Reached};
use super::{Done, number};
use crate::limits;
use crate::pg::error::Result;
use crate::pg::plan::{self, Plan, sql};
use crate::pg::transaction;
use pgrx::datum::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::Cell;
use std::collections::BTreeSet;

pub static LINE: Line = Line {
    find,
    step,
    reached: &REACHED,
};

/// The most sessions of one step, and the most followers who are told of them.
const SESSIONS: usize = 20;
const FOLLOWERS: usize = 1_000;
/// While fewer sessions are due than this, their influencers are known at one look.
const FEW: usize = 1_000;
/// Else so many influencers are looked at in a step, due or not.
const LOOKS: usize = 200;

thread_local! {
    static REACHED: Cell<Reached> = const { Cell::new(Reached::Unknown) };
    static DUE: Plan = const { Plan::writing(
        c"select influencer_id from public.live_stream_reminders
           where due_at <= $1 order by due_at limit $2",
        &[pg_sys::TIMESTAMPTZOID, pg_sys::INT8OID],
    ) };
    // From one influencer to the next by the index, however much each has planned.
    static WALK: Plan = const { Plan::writing(
        c"with recursive walk (influencer_id, nth) as (
            select (select influencer_id from public.live_stream_reminders
                     where influencer_id >= coalesce($1, '00000000-0000-0000-0000-000000000000')
                       and influencer_id is distinct from $1
                     order by influencer_id limit 1), 1
            union all
            select (select r.influencer_id from public.live_stream_reminders r
                     where r.influencer_id > walk.influencer_id
                     order by r.influencer_id limit 1), nth + 1
              from walk where walk.influencer_id is not null and nth < $3)
          select influencer_id,
                 exists (select from public.live_stream_reminders r
                          where r.influencer_id = walk.influencer_id and r.due_at <= $2)
            from walk where influencer_id is not null order by nth",
        &[pg_sys::UUIDOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT8OID],
    ) };
    // A session that is being deleted takes its reminder along: it is gone on with where both are free.
    static LOCK: Plan = const { Plan::writing(
        c"with mine as materialized (
            select m.session_id
              from unnest($1) as i (id)
             cross join lateral (
                    select r.session_id from public.live_stream_reminders r
                     where r.influencer_id = i.id and r.due_at <= $2
                     order by r.due_at limit $3
                       for update skip locked) m)
          select id from public.live_stream_sessions
           where id = any (array (select session_id from mine))
             for key share skip locked",
        &[
            pg_sys::UUIDARRAYOID,
            pg_sys::TIMESTAMPTZOID,
            pg_sys::INT8OID,
        ],
    ) };
    // Followers from the highest `reminder_minutes` down, and from the highest id: `below_` says which are left. With
    // nobody left who is due it is closed until the next one's time, and for good when it is over: that is for who sees
    // all followers of this moment alone ($5). Of the two indexes that could count, `is not distinct from` chooses that
    // of the person.
    static REMIND: Plan = const { Plan::writing(
        sql!("with due as materialized (
            select r.session_id, s.influencer_id, s.title, s.scheduled_start_time as starts_at,
                   ", below_minutes!("r"), " as below_minutes, ", below_user_id!("r"), " as below_user_id,
                   greatest(0, least($6 + 1, ceil(extract(epoch from
                     s.scheduled_start_time - $4) / 60)))::integer as from_minutes,
                   s.status = 'scheduled' and s.visibility = 'public'
                     and s.scheduled_start_time > $4 - interval '10 minutes' as counts
              from public.live_stream_reminders r
              join public.live_stream_sessions s on s.id = r.session_id
             where r.session_id = any ($2) and s.id = any ($2)),
          turn as materialized (
            select d.session_id, d.influencer_id, d.title, d.starts_at, f.user_id, f.reminder_minutes
              from due d
             cross join lateral (
                    select user_id, reminder_minutes from public.live_stream_followers
                     where influencer_id = d.influencer_id
                       and reminder_minutes >= d.from_minutes
                       and (reminder_minutes, user_id) < (d.below_minutes, d.below_user_id)
                     order by reminder_minutes desc, user_id desc limit $3) f
             where d.counts),
          ", tell!(), ",
          reached as (
            select session_id, count(*) as count,
                   (array_agg(reminder_minutes order by reminder_minutes, user_id))[1] as minutes,
                   (array_agg(user_id order by reminder_minutes, user_id))[1] as user_id
              from turn group by 1),
          later as materialized (
            select d.session_id, d.counts, d.starts_at, d.from_minutes, d.below_minutes,
                   r.minutes, r.user_id,
                   d.counts and (not $5 or coalesce(r.count >= $3, false)) as goes_on,
                   case when d.counts then (
                     select max(f.reminder_minutes) from public.live_stream_followers f
                      where f.influencer_id = d.influencer_id
                        and f.reminder_minutes < d.from_minutes) end as next
              from due d left join reached r on r.session_id = d.session_id),
          waits as (
            update public.live_stream_reminders r
               set due_at = case when l.goes_on then $4
                                 else coalesce(l.starts_at - make_interval(mins => l.next),
                                               l.starts_at + interval '10 minutes') end,
                   after_minutes = case when l.goes_on then coalesce(l.minutes, r.after_minutes)
                                        when l.from_minutes <= l.below_minutes then l.from_minutes - 1
                                        else r.after_minutes end,
                   after_user_id = case when l.goes_on then coalesce(l.user_id, r.after_user_id)
                                        when l.from_minutes > l.below_minutes then r.after_user_id end
              from later l where r.session_id = any ($2) and r.session_id = l.session_id and l.counts),
          over as (
            delete from public.live_stream_reminders r
             using later l where r.session_id = any ($2) and r.session_id = l.session_id and not l.counts)
          select session_id, count(*) from told group by 1
          union all
          select null, count(*) from later where not goes_on or minutes is not null"),
        &[
            pg_sys::INT4OID,
            pg_sys::UUIDARRAYOID,
            pg_sys::INT8OID,
            pg_sys::TIMESTAMPTZOID,
            pg_sys::BOOLOID,
            pg_sys::INT4OID,
        ],
    ) };
}

fn find(after: Option<Uuid>, now: Option<TimestampWithTimeZone>) -> Result<Found> {
    let due: Vec<Uuid> = plan::run(&DUE, &[now.into(), number(FEW)], |rows| {
        Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
    })?;
    if due.len() < FEW {
        let influencers: BTreeSet<Uuid> = due.into_iter().filter(|id| Some(*id) > after).collect();
        return Ok(Found::first(
            influencers.into_iter().map(|id| (id, true)),
            true,
        ));
    }
    plan::run(&WALK, &[after.into(), now.into(), number(LOOKS)], |rows| {
        let looked_at =
            (0..rows.len()).filter_map(|row| rows.get(row, 0).zip(rows.get::<bool>(row, 1)));
        Ok(Found::first(looked_at, rows.len() < LOOKS))
    })
}

fn step(influencers: &[Uuid], now: Option<TimestampWithTimeZone>) -> Result<Done> {
    let each = (SESSIONS / influencers.len().max(1)).max(1);
    let args = [influencers.to_vec().into(), now.into(), number(each)];
    let sessions: Vec<Uuid> = plan::run(&LOCK, &args, |rows| {
        Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
    })?;
    if sessions.is_empty() {
        return Ok(Done::default());
    }
    let share = (FOLLOWERS / sessions.len()).max(1);
    let args = [
        limits::notifications_per_day().into(),
        sessions.into(),
        number(share),
        now.into(),
        (!transaction::has_fixed_snapshot()).into(),
        super::MAX_MINUTES.into(),
    ];
    plan::run(&REMIND, &args, Done::read)
}
