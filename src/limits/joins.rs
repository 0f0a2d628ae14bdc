//! How often a person joins a session, and how many anonymous viewers a session gains.

use super::settings::{ADDRESS_JOINS, ANONYMOUS_JOINS, BY_PLACES, JOINS};
use super::{MINUTE, SECOND, now, too_many};
use crate::pg::error::Result;
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, sql};
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{Inet, Uuid};
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

/// What addresses are told apart by, as the index of the table has it: whoever has one of IPv6 has a whole /64 of them.
macro_rules! household {
    ($address:literal) => {
        concat!(
            "(case when family(",
            $address,
            ") = 6 then network(set_masklen(",
            $address,
            ", 64))::inet else ",
            $address,
            " end)"
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
    static FROM_ADDRESS: Plan = const { Plan::writing(
        sql!(
            "select joined_at from public.live_stream_viewers
              where session_id = $1 and user_id is null and ip_address is not null and ",
            household!("ip_address"), " = ", household!("$2"),
            " and joined_at > now() - interval '1 minute'
              order by joined_at desc limit 1 offset $3"
        ),
        &[pg_sys::UUIDOID, pg_sys::INETOID, pg_sys::INT8OID],
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

/// By default, anonymous viewers take half of the places in a minute, so that one stranger with a loop leaves room for
/// others until the host sees it; but a handful of friends come at once.
const SHARE_OF_PLACES: i64 = 2;
const HANDFUL: i64 = 50;
/// In a session whose places are not limited.
const CROWD_WITHOUT_LIMIT: i64 = 20_000;
/// From one address, a tenth of those.
const SHARE_OF_ADDRESS: i64 = 10;
const HOUSEHOLD: i64 = 10;

/// How many anonymous viewers may join in a minute a session with so many places; 0 is no limit.
fn anonymous_limit(places: Option<i32>) -> i64 {
    match ANONYMOUS_JOINS.get() {
        BY_PLACES => places.map_or(CROWD_WITHOUT_LIMIT, |places| {
            (i64::from(places) / SHARE_OF_PLACES).max(HANDFUL)
        }),
        limit => limit.into(),
    }
}

/// How many of them from one address.
fn address_limit(places: Option<i32>) -> i64 {
    match (ADDRESS_JOINS.get(), anonymous_limit(places)) {
        (BY_PLACES, 0) => 0,
        (BY_PLACES, all) => (all / SHARE_OF_ADDRESS).max(HOUSEHOLD),
        (limit, _) => limit.into(),
    }
}

/// Whether one more anonymous viewer may join a session with so many places, from an address if it is kept.
pub fn check_anonymous_join(
    session: Uuid,
    places: Option<i32>,
    address: Option<&Inet>,
) -> Result<()> {
    check_crowd(session, anonymous_limit(places))?;
    match address {
        Some(address) => check_address(session, address, address_limit(places)),
        None => Ok(()),
    }
}

fn check_address(session: Uuid, address: &Inet, limit: i64) -> Result<()> {
    if limit == 0 {
        return Ok(());
    }
    let address = Inet(address.0.clone());
    let args = [session.into(), address.into(), (limit - 1).into()];
    let one_too_many = as_owner(|| {
        plan::run(&FROM_ADDRESS, &args, |rows| {
            Ok(rows.get::<TimestampWithTimeZone>(0, 0))
        })
    })?;
    one_too_many.map_or(Ok(()), |at| {
        Err(too_many(
            "anonymous viewers",
            format!(
                "A session admits {limit} anonymous viewers from one address in a minute at most."
            ),
            (i64::from(at) + MINUTE - now()).min(MINUTE),
        ))
    })
}

/// How many anonymous viewers a session had gained within a minute when this backend last
/// counted, and how many more it may admit before it counts again.
#[derive(Clone, Copy)]
struct Crowd {
    session: Uuid,
    limit: i64,
    counted_at: i64,
    allowance: i64,
    /// Full until then.
    full_until: i64,
}

/// So many backends may admit what one of them counted as free, at the same time.
const BACKENDS: i64 = 64;

/// Counting a big crowd takes a while, so a backend counts again only after its share of what was free.
fn check_crowd(session: Uuid, limit: i64) -> Result<()> {
    if limit == 0 {
        return Ok(());
    }
    let now = now();
    let known = CROWD.get().filter(|crowd| {
        (crowd.session, crowd.limit) == (session, limit)
            && (0..SECOND).contains(&(now - crowd.counted_at))
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
        limit,
        counted_at: now,
        allowance: if full {
            0
        } else {
            ((limit - count) / BACKENDS).max(1)
        },
        full_until: oldest.filter(|_| full).map_or(i64::MIN, |at| at + MINUTE),
    })
}
