//! What a schedule says of its next session: its id, and whether followers were told or reminded of it; and of which
//! occurrences the session is over.

use super::settling;
use crate::pg::error::Result;
use crate::pg::plan::{self, Plan, sql};
use pgrx::Uuid;
use pgrx::pg_sys;
use session::on_air;

thread_local! {
    static HIDE: Plan = const { Plan::writing(
        c"update public.live_stream_schedule set created_session_id = null
           where created_session_id = $1 and visibility = 'public'",
        &[pg_sys::UUIDOID],
    ) };
    // Whoever changes a schedule has its row and then wants its sessions'. These two are called
    // with a session's row and do not wait for the schedule's; `NAME` makes up for it.
    static TOLD: Plan = const { Plan::writing(
        c"update public.live_stream_schedule set notification_sent = true
           where id in (select id from public.live_stream_schedule
                         where created_session_id = $1 and not notification_sent
                           for no key update skip locked)",
        &[pg_sys::UUIDOID],
    ) };
    static REMINDED: Plan = const { Plan::writing(
        c"update public.live_stream_schedule set reminder_sent = true
           where id in (select id from public.live_stream_schedule
                         where created_session_id = any ($1) and not reminder_sent
                           for no key update skip locked)",
        &[pg_sys::UUIDARRAYOID],
    ) };
    static ENDED: Plan = const { Plan::writing(
        c"with ended as materialized (
            select s.id, coalesce(over.starts, '{}') as starts
              from public.live_stream_schedule s
             cross join lateral (
                    select array_agg(l.original_starts_at order by l.original_starts_at) as starts
                      from public.live_stream_schedule_sessions l
                     cross join lateral (
                            select from public.live_stream_sessions
                             where id = l.session_id and status::text = 'ended' limit 1) made
                     where l.schedule_id = s.id and l.ends_at > now()) over
             where s.id = any ($1) and s.ended_starts_at <> coalesce(over.starts, '{}')),
          free as materialized (
            select id from public.live_stream_schedule
             where id = any (array (select id from ended)) order by id for no key update skip locked)
          update public.live_stream_schedule s set ended_starts_at = ended.starts
            from ended
           where s.id = ended.id and s.id in (select id from free)",
        &[pg_sys::UUIDARRAYOID],
    ) };
    // What everybody may read must not be the key to a session that they may not see. Each of its own
    // sessions is looked up by its id (`limit 1`, and the status as a text, which is in no index), whatever the planner believes of how many there are.
    static NAME: Plan = const { Plan::writing(
        sql!("with next as materialized (
            select s.id, coming.session_id, coming.reminded, coming.told
              from (select *,
                           exists (
                             select from public.live_stream_notifications n
                              where n.session_id = first.session_id
                                and n.type = 'stream_reminder') as reminded,
                           exists (
                             select from public.live_stream_notifications n
                              where n.session_id = first.session_id
                                and n.type = 'followed_influencer_live') as told
                      from (
                        select distinct on (schedule_id) schedule_id, session_id, visibility
                          from (
                            select l.schedule_id, l.session_id, l.starts_at, made.visibility
                              from public.live_stream_schedule_sessions l
                             cross join lateral (
                                    select visibility from public.live_stream_sessions
                                     where id = l.session_id and status::text = 'scheduled' limit 1) made
                             where l.schedule_id = any ($1) and l.ends_at > now()
                            union all
                            select l.schedule_id, l.session_id, l.starts_at, made.visibility
                              from public.live_stream_schedule of
                              join public.live_stream_sessions made on made.influencer_id = of.influencer_id
                               and made.status in ", on_air!(), "
                              join public.live_stream_schedule_sessions l on l.session_id = made.id
                               and l.schedule_id = of.id
                             where of.id = any ($1)) l
                         order by schedule_id, starts_at) first) coming
              join public.live_stream_schedule s on s.id = coming.schedule_id
             where (s.created_session_id, s.reminder_sent, s.notification_sent)
                   is distinct from (coming.session_id, coming.reminded, coming.told)
               and (coming.visibility = 'public' or s.visibility <> 'public')),
          stays as materialized (
            select id from public.live_stream_sessions
             where id = any (array (select session_id from next)) order by id for key share skip locked),
          free as materialized (
            select id from public.live_stream_schedule
             where id = any (array (select id from next)) order by id for no key update skip locked)
          update public.live_stream_schedule s
             set created_session_id = next.session_id, reminder_sent = next.reminded,
                 notification_sent = next.told
            from next
           where s.id = next.id and next.session_id in (select id from stays)
             and s.id in (select id from free)"),
        &[pg_sys::UUIDARRAYOID],
    ) };
}

/// Names the next session of schedules as it is now, and occurrences that are over before their time; of one that
/// somebody is changing this is done the next time. For [`settling`] alone.
pub fn name(schedules: Vec<Uuid>) -> Result<()> {
    plan::execute(&ENDED, &[schedules.clone().into()])?;
    plan::execute(&NAME, &[schedules.into()]).map(drop)
}

/// Public schedules do not name a session that is not public: its id would open it.
pub fn hide_session(session: Uuid) -> Result<()> {
    settling(|| plan::execute(&HIDE, &[session.into()]).map(|_| ()))
}

/// The schedule whose next session this is says that followers were told of it.
pub fn mark_told(session: Uuid) -> Result<()> {
    settling(|| plan::execute(&TOLD, &[session.into()]).map(|_| ()))
}

/// The schedules whose next sessions these are say that followers were reminded.
pub fn mark_reminded(sessions: Vec<Uuid>) -> Result<()> {
    settling(|| plan::execute(&REMINDED, &[sessions.into()]).map(|_| ()))
}
