//! Followers who have come, or asked for earlier reminders: the sessions of the coming week are looked through for each.

use super::turns::{self, Found, Line, Reached};
use super::{Done, number};
use crate::limits;
use crate::pg::error::Result;
use crate::pg::plan::{self, Plan, sql};
use pgrx::datum::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::Cell;

pub static LINE: Line = Line {
    find,
    step,
    reached: &REACHED,
};

/// The most changes that one step takes out of the line, and the most sessions that it looks at for all of them.
const CHANGES: usize = 100;
const SESSIONS: i64 = 1_000;

thread_local! {
    static REACHED: Cell<Reached> = const { Cell::new(Reached::Unknown) };
    // It waits for nobody: its row is new, and refers to nothing.
    static LOOK_FOR: Plan = const { Plan::writing(
        c"insert into public.live_stream_follow_changes (influencer_id, user_id)
          select influencer_id, user_id from unnest($1, $2) as c (influencer_id, user_id)",
        &[pg_sys::UUIDARRAYOID, pg_sys::UUIDARRAYOID],
    ) };
    static WALK: Plan = const { Plan::writing(
        c"with recursive walk (influencer_id, nth) as (
            select (select influencer_id from public.live_stream_follow_changes
                     where influencer_id >= coalesce($1, '00000000-0000-0000-0000-000000000000')
                       and influencer_id is distinct from $1
                     order by influencer_id limit 1), 1
            union all
            select (select c.influencer_id from public.live_stream_follow_changes c
                     where c.influencer_id > walk.influencer_id
                     order by c.influencer_id limit 1), nth + 1
              from walk where walk.influencer_id is not null and nth < $2)
          select influencer_id from walk where influencer_id is not null order by nth",
        &[pg_sys::UUIDOID, pg_sys::INT8OID],
    ) };
    // All changes of a follower that are taken are one. Who is due now, or was passed, is told; where the session's next
    // time is after the follower's, it is put forward. Sessions are gone through by their begin: those that somebody has
    // locked, and all after them, are looked at again. What is a week and an hour off does not know of any follower yet.
    static LOOK: Plan = const { Plan::writing(
        sql!("with taken as materialized (
            select c.*
              from unnest($2) as i (id)
             cross join lateral (
                    select id, influencer_id, user_id, after_starts_at, after_session_id
                      from public.live_stream_follow_changes
                     where influencer_id = i.id order by changed_at, id limit $3
                       for update skip locked) c),
          who as materialized (
            select distinct on (t.influencer_id, t.user_id)
                   t.influencer_id, t.user_id, t.after_starts_at, t.after_session_id, f.reminder_minutes
              from taken t
             cross join lateral (
                    select reminder_minutes from public.live_stream_followers
                     where user_id = t.user_id and influencer_id = t.influencer_id limit 1) f
             order by t.influencer_id, t.user_id, t.after_starts_at nulls first, t.after_session_id nulls first),
          share as materialized (select greatest(1, $4 / greatest(count(*), 1)) as most from who),
          look as materialized (
            select w.influencer_id, w.user_id, w.reminder_minutes, r.session_id, r.starts_at
              from who w
             cross join lateral (
                    select session_id, starts_at from public.live_stream_reminders
                     where influencer_id = w.influencer_id and starts_at > $5
                       and starts_at <= $5 + make_interval(mins => $6 + 60)
                       and (starts_at, session_id)
                           > (coalesce(w.after_starts_at, '-infinity'),
                              coalesce(w.after_session_id, '00000000-0000-0000-0000-000000000000'))
                     order by starts_at, session_id limit (select most from share)) r),
          locked as materialized (
            select r.session_id, r.starts_at, r.due_at,
                   ", below_minutes!("r"), " as below_minutes, ", below_user_id!("r"), " as below_user_id
              from public.live_stream_reminders r
             where r.session_id = any (array (select distinct session_id from look))
               for update skip locked),
          kept as materialized (
            select id, title from public.live_stream_sessions
             where id = any (array (select session_id from locked))
               for key share skip locked),
          mine as materialized (
            select l.*, k.title from locked l join kept k on k.id = l.session_id),
          pair as materialized (
            select l.user_id, l.influencer_id, l.session_id, m.title, m.starts_at, m.due_at,
                   m.starts_at - make_interval(mins => l.reminder_minutes) as wanted_at,
                   (l.reminder_minutes, l.user_id) >= (m.below_minutes, m.below_user_id) as is_passed
              from look l join mine m on m.session_id = l.session_id
             where m.starts_at > $5),
          turn as (
            select user_id, influencer_id, session_id, title, starts_at
              from pair where is_passed or wanted_at <= $5),
          ", tell!(), ",
          forward as (
            update public.live_stream_reminders r set due_at = p.wanted_at
              from (select session_id, min(wanted_at) as wanted_at from pair
                     where not is_passed and wanted_at > $5 and wanted_at < due_at group by 1) p
             where r.session_id = p.session_id and r.session_id = any (array (select session_id from mine))),
          seen as (
            select l.influencer_id, l.user_id, l.starts_at, l.session_id,
                   bool_and(m.session_id is not null) over (
                     partition by l.influencer_id, l.user_id order by l.starts_at, l.session_id) as is_done
              from look l left join mine m on m.session_id = l.session_id),
          reached as (
            select influencer_id, user_id, count(*) as count, bool_and(is_done) as is_done,
                   (array_agg(starts_at order by starts_at desc, session_id desc)
                      filter (where is_done))[1] as starts_at,
                   (array_agg(session_id order by starts_at desc, session_id desc)
                      filter (where is_done))[1] as session_id
              from seen group by 1, 2),
          rest as materialized (
            select w.influencer_id, w.user_id, r.session_id is not null as has_moved,
                   coalesce(r.starts_at, w.after_starts_at) as after_starts_at,
                   coalesce(r.session_id, w.after_session_id) as after_session_id
              from who w
              join reached r on r.influencer_id = w.influencer_id and r.user_id = w.user_id
             cross join share
             where not r.is_done or r.count >= share.most),
          gone as (
            delete from public.live_stream_follow_changes where id = any (array (select id from taken))),
          again as (
            insert into public.live_stream_follow_changes
              (influencer_id, user_id, after_starts_at, after_session_id)
            select influencer_id, user_id, after_starts_at, after_session_id from rest)
          select session_id, count(*) from told group by 1
          union all
          select null, (select count(*) from taken) - (select count(*) from rest where not has_moved)"),
        &[
            pg_sys::INT4OID,
            pg_sys::UUIDARRAYOID,
            pg_sys::INT8OID,
            pg_sys::INT8OID,
            pg_sys::TIMESTAMPTZOID,
            pg_sys::INT4OID,
        ],
    ) };
}

/// Planned sessions are looked through for followers, once the transaction has committed.
pub fn look_for(influencers: Vec<Uuid>, followers: Vec<Uuid>) -> Result<()> {
    plan::execute(&LOOK_FOR, &[influencers.into(), followers.into()]).map(drop)
}

fn find(after: Option<Uuid>, _: Option<TimestampWithTimeZone>) -> Result<Found> {
    plan::run(&WALK, &[after.into(), number(turns::MOST)], |rows| {
        let next = (0..rows.len()).filter_map(|row| rows.get(row, 0));
        Ok(Found::first(
            next.map(|id| (id, true)),
            rows.len() < turns::MOST,
        ))
    })
}

fn step(influencers: &[Uuid], now: Option<TimestampWithTimeZone>) -> Result<Done> {
    let each = (CHANGES / influencers.len().max(1)).max(1);
    let args = [
        limits::notifications_per_day().into(),
        influencers.to_vec().into(),
        number(each),
        SESSIONS.into(),
        now.into(),
        super::MAX_MINUTES.into(),
    ];
    plan::run(&LOOK, &args, Done::read)
}
