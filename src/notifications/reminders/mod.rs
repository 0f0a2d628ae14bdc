//! Reminders: followers are told that a stream is near, each its own time before it. Only public sessions are told of.
//!
//! Each planned session goes once through its influencer's followers, from those who want to be reminded earliest to
//! those who want it last ([`rounds`]): `live_stream_reminders` says where that is, and when the next one is due. A
//! follower who comes, or asks for an earlier reminder, may be one whom that has passed. So it stands in a line
//! (`live_stream_follow_changes`), and the sessions of the coming week are looked through for it alone ([`changes`]): no
//! session begins again because of a follower, and a follower's request writes one row, whatever is planned.
//!
//! Nobody is missed: a session is gone on with by who has locked its reminder first and reads the followers then, and
//! whoever looks through sessions for a follower locks their reminders too. So of a follower and a session that nobody
//! has finished with, the later of the two sees the other.

/// Who is left of a session's followers: those below these `reminder_minutes` and, with as many, below this id. $6 is the most.
macro_rules! below_minutes {
    ($r:literal) => {
        concat!(
            "coalesce(",
            $r,
            ".after_minutes, $6) + (",
            $r,
            ".after_user_id is null)::integer"
        )
    };
}
macro_rules! below_user_id {
    ($r:literal) => {
        concat!(
            "coalesce(",
            $r,
            ".after_user_id, '00000000-0000-0000-0000-000000000000')"
        )
    };
}

/// Tells `turn`, followers and sessions that are due for them: once of each, and $1 times a day of an influencer.
macro_rules! tell {
    () => {
        concat!(
            "new as materialized (
            select t.user_id, t.influencer_id, t.session_id, t.title,
                   row_number() over (partition by t.user_id, t.influencer_id
                                          order by t.starts_at, t.session_id) as nth
              from turn t
             where (select true from public.live_stream_notifications n
                     where n.user_id = t.user_id and n.session_id = t.session_id
                       and n.type = 'stream_reminder' and n.delivery_method = 'in_app' limit 1) is null),
          had as materialized (
            select p.user_id, p.influencer_id,
                   (select count(*) from public.live_stream_notifications n
                     where n.user_id = p.user_id
                       and n.influencer_id is not distinct from p.influencer_id
                       and ",
            counts!("n"),
            ") as count
              from (select distinct user_id, influencer_id from new) p
             where $1 > 0),
          told as (
            insert into public.live_stream_notifications
              (user_id, influencer_id, session_id, type, title)
            select n.user_id, n.influencer_id, n.session_id, 'stream_reminder', n.title
              from new n
              left join had h on h.user_id = n.user_id and h.influencer_id = n.influencer_id
             where $1 = 0 or n.nth + h.count <= $1
            on conflict do nothing
            returning session_id)"
        )
    };
}

mod changes;
mod rounds;
mod turns;

pub use changes::look_for;

use super::MAX_MINUTES;
use crate::pg::clock;
use crate::pg::error::Result;
use crate::pg::plan::{self, Plan, Rows};
use crate::schedule;
use pgrx::datum::{DatumWithOid, Uuid};
use pgrx::pg_sys;
use std::time::Instant;
use turns::Turns;

thread_local! {
    // It is due before anybody can be, whoever follows: what is planned does not know of followers who have just come.
    static EXPECT: Plan = const { Plan::writing(
        c"insert into public.live_stream_reminders as r (session_id, influencer_id, starts_at, due_at)
          select s.id, s.influencer_id, s.scheduled_start_time,
                 s.scheduled_start_time - make_interval(mins => $2)
            from public.live_stream_sessions s
           where s.id = $1 and s.scheduled_start_time > now()
          on conflict (session_id) do update
            set influencer_id = excluded.influencer_id, starts_at = excluded.starts_at,
                due_at = excluded.due_at, after_minutes = null, after_user_id = null",
        &[pg_sys::UUIDOID, pg_sys::INT4OID],
    ) };
    static FORGET: Plan = const { Plan::writing(
        c"delete from public.live_stream_reminders where session_id = $1",
        &[pg_sys::UUIDOID],
    ) };
}

/// Followers are to be reminded of a session that is planned.
pub fn expect(session: Uuid) -> Result<()> {
    plan::execute(&EXPECT, &[session.into(), MAX_MINUTES.into()]).map(drop)
}

/// They are not, or not as it was planned.
pub fn forget(session: Uuid) -> Result<()> {
    plan::execute(&FORGET, &[session.into()]).map(drop)
}

fn number(count: usize) -> DatumWithOid<'static> {
    i64::try_from(count).unwrap_or(i64::MAX).into()
}

/// What was done of the reminders that are due.
pub struct Reminded {
    pub count: i64,
    pub has_more: bool,
}

/// What a step has done.
#[derive(Default)]
struct Done {
    /// Whether it has gone on with anything: others may have locked it all.
    has_moved: bool,
    /// Sessions of which followers were told, and how many.
    told: Vec<(Uuid, i64)>,
}

impl Done {
    /// Of rows of a session each, with how many were told; that without a session says how much was gone on with.
    fn read(rows: &Rows) -> Result<Self> {
        let mut done = Self::default();
        for row in 0..rows.len() {
            let count = rows.get::<i64>(row, 1).unwrap_or(0);
            match rows.get::<Uuid>(row, 0) {
                Some(session) => done.told.push((session, count)),
                None => done.has_moved = count > 0,
            }
        }
        Ok(done)
    }
}

/// Writes the reminders that are due, until a moment; for code that runs as the owner of the tables.
pub fn remind(deadline: Instant) -> Result<Reminded> {
    let mut count = 0;
    let mut lines = [Turns::of(&rounds::LINE), Turns::of(&changes::LINE)];
    while lines.iter().any(|line| !line.is_done()) {
        for line in lines.iter_mut().filter(|line| !line.is_done()) {
            pgrx::check_for_interrupts!();
            let told = line.step(clock::now())?;
            count += told.iter().map(|(_, told)| told).sum::<i64>();
            if !told.is_empty() {
                schedule::mark_reminded(told.into_iter().map(|(session, _)| session).collect())?;
            }
        }
        if Instant::now() >= deadline {
            break;
        }
    }
    let has_more = lines.iter().any(|line| !line.is_done());
    Ok(Reminded { count, has_more })
}
