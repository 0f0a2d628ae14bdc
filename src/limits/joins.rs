//! How often a person joins a session, and how many anonymous viewers a session gains.

use super::settings::{ANONYMOUS_JOINS, JOINS};
use super::{MINUTE, SECOND, now, too_many};
use crate::pg::error::Result;
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, sql};
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::Cell;

/// When somebody, who is found by a column, has joined a session in the last minute: the latest time but so many.
macro_rules! joins_of {
    ($who:literal) => {
        sql!(
            "select s.at from public.live_stream_viewers v
              cross join lateral (
                select v.counted_since
                union all
                select b.at from unnest(v.counted_before) with ordinality as b (at, nth)
                 where b.nth % 2 = 1) as s (at)
              where v.session_id = $1 and ",
            $who,
            " = $2 and s.at > now() - interval '1 minute'
              order by s.at desc limit 1 offset $3"
        )
    };
}

thread_local! {
    static JOINED: Plan = const { Plan::writing(
        joins_of!("v.user_id"),
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::INT4OID],
    ) };
    static JOINED_ANONYMOUSLY: Plan = const { Plan::writing(
        joins_of!("v.id"),
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::INT4OID],
    ) };
    static ANONYMOUS: Plan = const { Plan::writing(
        c"select count(*), min(joined_at)
            from (select joined_at from public.live_stream_viewers
                   where session_id = $1 and user_id is null
                     and joined_at > now() - interval '1 minute'
                   order by joined_at desc limit $2) as newest",
        &[pg_sys::UUIDOID, pg_sys::INT4OID],
    ) };
    static CROWD: Cell<Option<Crowd>> = const { Cell::new(None) };
}

/// Whether a person who has joined a session may have done so.
pub fn check_joined(session: Uuid, user: Uuid) -> Result<()> {
    check_joins(&JOINED, session, user, JOINS.get())
}

/// Whether a person may come back to its row in a session.
pub fn check_return(session: Uuid, user: Option<Uuid>, viewer: Uuid) -> Result<()> {
    let free = JOINS.get() - 1;
    match user {
        Some(user) => check_joins(&JOINED, session, user, free),
        None => check_joins(&JOINED_ANONYMOUSLY, session, viewer, free),
    }
}

/// Checks that somebody has joined no more often in the last minute than `allowed`: the limit where the join is
/// there already, one less where it is yet to come.
fn check_joins(
    joined: &'static std::thread::LocalKey<Plan>,
    session: Uuid,
    who: Uuid,
    allowed: i32,
) -> Result<()> {
    let limit = JOINS.get();
    if limit == 0 {
        return Ok(());
    }
    let args = [session.into(), who.into(), allowed.into()];
    let one_too_many = as_owner(|| {
        plan::run(joined, &args, |rows| {
            Ok(rows.get::<TimestampWithTimeZone>(0, 0))
        })
    })?;
    one_too_many.map_or(Ok(()), |at| {
        Err(too_many(
            "joins",
            format!("A person joins a session {limit} times in a minute at most."),
            // A statement's own rows are a little younger than its transaction.
            (i64::from(at) + MINUTE - now()).min(MINUTE),
        ))
    })
}

/// How many anonymous viewers a session had gained within a minute when this backend last
/// counted, and how many more it may admit before it counts again.
#[derive(Clone, Copy)]
struct Crowd {
    session: Uuid,
    counted_at: i64,
    allowance: i64,
    /// Full until then.
    full_until: i64,
}

/// So many backends may admit what one of them counted as free, at the same time.
const BACKENDS: i64 = 64;

/// Whether one more anonymous viewer may join a session. Counting a big crowd takes a while, so
/// a backend counts again only after its share of what was free.
pub fn check_anonymous_join(session: Uuid) -> Result<()> {
    let limit = i64::from(ANONYMOUS_JOINS.get());
    if limit == 0 {
        return Ok(());
    }
    let now = now();
    let known = CROWD.get().filter(|crowd| {
        crowd.session == session && (0..SECOND).contains(&(now - crowd.counted_at))
    });
    let mut crowd = match known {
        Some(crowd) if crowd.allowance > 0 || now < crowd.full_until => crowd,
        _ => count_anonymous(session, limit, now)?,
    };
    if now < crowd.full_until {
        CROWD.set(Some(crowd));
        return Err(too_many(
            "anonymous viewers",
            format!("A session admits {limit} anonymous viewers in a minute at most."),
            crowd.full_until - now,
        ));
    }
    crowd.allowance -= 1;
    CROWD.set(Some(crowd));
    Ok(())
}

fn count_anonymous(session: Uuid, limit: i64, now: i64) -> Result<Crowd> {
    let args = [session.into(), (limit as i32).into()];
    let (count, oldest) = as_owner(|| {
        plan::run(&ANONYMOUS, &args, |rows| {
            let oldest = rows.get::<TimestampWithTimeZone>(0, 1).map(i64::from);
            Ok((rows.get::<i64>(0, 0).unwrap_or(0), oldest))
        })
    })?;
    let full = count >= limit;
    Ok(Crowd {
        session,
        counted_at: now,
        allowance: if full {
            0
        } else {
            ((limit - count) / BACKENDS).max(1)
        },
        full_until: oldest.filter(|_| full).map_or(i64::MIN, |at| at + MINUTE),
    })
}
