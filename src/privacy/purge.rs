//! Retention: what is old goes, and every number stays.
//!
//! Only finished sessions are purged. Each is locked against whatever refers to it, loses all of
//! its rows of a kind in one statement, and what they counted goes into its archive.

use super::archive::{self, BREAKDOWNS, Gone, Purged};
use crate::identity;
use crate::metrics::{self, Delta, fold};
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, sql};
use pgrx::datum::Interval;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid, pg_sys};
use serde_json::{Map, Value};
use session::finished;
use std::array::from_fn;

thread_local! {
    static SESSIONS: Plan = const { Plan::writing(
        sql!("select d.id, d.addresses, d.chat, d.viewers, d.notifications
            from (select s.id, s.ended,
                         s.ended <= now() - $1 and a.addresses_purged_at is null
                           and exists (select from public.live_stream_viewers v
                                        where v.session_id = s.id) as addresses,
                         s.ended <= now() - $2
                           and exists (select from public.live_stream_chat m
                                        where m.session_id = s.id) as chat,
                         s.ended <= now() - $3
                           and (exists (select from public.live_stream_viewers v
                                         where v.session_id = s.id)
                                or exists (select from public.live_stream_orders o
                                            where o.session_id = s.id
                                              and (o.user_id is not null
                                                   or o.viewer_id is not null))) as viewers,
                         s.ended <= now() - $4
                           and exists (select from public.live_stream_notifications n
                                        where n.session_id = s.id) as notifications
                    from (select id, coalesce(actual_end_time, updated_at) as ended
                            from public.live_stream_sessions
                           where status in ", finished!(), ") s
                    left join public.live_stream_archive a on a.session_id = s.id) d
           where d.addresses or d.chat or d.viewers or d.notifications
           order by d.ended, d.id limit $5"),
        &[
            pg_sys::INTERVALOID, pg_sys::INTERVALOID, pg_sys::INTERVALOID, pg_sys::INTERVALOID,
            pg_sys::INT4OID,
        ],
    ) };
    // Whoever writes a row that refers to the session waits, or is waited for.
    static LOCK: Plan = const { Plan::writing(
        sql!("select from public.live_stream_sessions
           where id = $1 and status in ", finished!(), " for update"),
        &[pg_sys::UUIDOID],
    ) };
    static ADDRESSES: Plan = const { Plan::writing(
        c"update public.live_stream_viewers set ip_address = null, user_agent = null, city = null
           where session_id = $1
             and (ip_address is not null or user_agent is not null or city is not null)",
        &[pg_sys::UUIDOID],
    ) };
    static REACTIONS: Plan = const { Plan::writing(
        c"with gone as (delete from public.live_stream_chat_reactions
                         where session_id = $1 returning 1)
          select count(*) from gone",
        &[pg_sys::UUIDOID],
    ) };
    static CHAT: Plan = const { Plan::writing(
        c"with gone as (delete from public.live_stream_chat
                         where session_id = $1 returning message_type)
          select count(*), count(*) filter (where message_type = 'chat'),
                 count(*) filter (where message_type = 'reaction')
            from gone",
        &[pg_sys::UUIDOID],
    ) };
    static ORDERS: Plan = const { Plan::writing(
        c"update public.live_stream_orders set user_id = null, viewer_id = null
           where session_id = $1 and (user_id is not null or viewer_id is not null)",
        &[pg_sys::UUIDOID],
    ) };
    static VIEWERS: Plan = const { Plan::writing(
        c"with gone as (
            delete from public.live_stream_viewers where session_id = $1
            returning user_id, watch_duration_seconds, shares_sent, disconnections_count,
                      buffering_events, buffering_time_seconds, country, device_type, browser,
                      viewer_type)
          select count(*), count(distinct user_id) + count(*) filter (where user_id is null),
                 coalesce(sum(watch_duration_seconds), 0), coalesce(sum(shares_sent), 0),
                 coalesce(sum(disconnections_count), 0), coalesce(sum(buffering_events), 0),
                 coalesce(sum(buffering_time_seconds), 0),
                 (select jsonb_object_agg(kind, n)
                    from (select coalesce(nullif(country, ''), 'unknown') as kind, count(*) as n
                            from gone group by 1) c),
                 (select jsonb_object_agg(kind, n)
                    from (select coalesce(nullif(device_type, ''), 'unknown') as kind,
                                 count(*) as n from gone group by 1) c),
                 (select jsonb_object_agg(kind, n)
                    from (select coalesce(nullif(browser, ''), 'unknown') as kind, count(*) as n
                            from gone group by 1) c),
                 (select jsonb_object_agg(kind, n)
                    from (select viewer_type::text as kind, count(*) as n
                            from gone group by 1) c)
            from gone",
        &[pg_sys::UUIDOID],
    ) };
    static NOTIFICATIONS: Plan = const { Plan::writing(
        c"delete from public.live_stream_notifications where session_id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static OTHER_NOTIFICATIONS: Plan = const { Plan::writing(
        c"delete from public.live_stream_notifications
           where session_id is null
             and greatest(created_at, scheduled_for, sent_at) <= now() - $1",
        &[pg_sys::INTERVALOID],
    ) };
    static IS_AGE: Plan = const { Plan::writing(
        c"select $1 >= interval '0'",
        &[pg_sys::INTERVALOID],
    ) };
}

/// What can be purged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Addresses,
    Chat,
    Viewers,
    Notifications,
}

impl What {
    const ALL: [What; 4] = [
        What::Addresses,
        What::Chat,
        What::Viewers,
        What::Notifications,
    ];

    fn name(self) -> &'static str {
        match self {
            What::Addresses => "addresses",
            What::Chat => "chat",
            What::Viewers => "viewers",
            What::Notifications => "notifications",
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Sum {
    sessions: i64,
    rows: i64,
}

/// Purges finished sessions of what is older than the given ages, each since the session ended;
/// null keeps. Returns for each age given how many sessions and rows it took.
///
/// - `addresses`: ip_address, user_agent and city of viewers become null;
/// - `chat`: messages go, with the reactions to them;
/// - `viewers`: their rows go, with what says where they were, and orders lose them;
/// - `notifications`: they go; those without a session by their own age.
///
/// The numbers of the sessions stay as they are: `live_stream_archive` holds what is counted no
/// longer. With `max_sessions` (1 or more), the oldest so many are purged: call it until there is
/// nothing left.
///
/// Errors: 42501 unless the caller is service_role or has the rights of the tables' owner; 22023
/// for a negative age, or fewer than one session.
#[pg_extern(volatile)]
fn purge(
    addresses: default!(Option<Interval>, "NULL"),
    chat: default!(Option<Interval>, "NULL"),
    viewers: default!(Option<Interval>, "NULL"),
    notifications: default!(Option<Interval>, "NULL"),
    max_sessions: default!(Option<i32>, "NULL"),
) -> TableIterator<'static, (name!(what, String), name!(sessions, i64), name!(rows, i64))> {
    let ages = [addresses, chat, viewers, notifications];
    let asked: Vec<What> = What::ALL
        .into_iter()
        .zip(&ages)
        .filter_map(|(what, age)| age.is_some().then_some(what))
        .collect();
    let sums = purge_all(ages, max_sessions).or_raise();
    TableIterator::new(asked.into_iter().map(move |what| {
        let sum = sums[what as usize];
        (what.name().to_owned(), sum.sessions, sum.rows)
    }))
}

fn purge_all(ages: [Option<Interval>; 4], max_sessions: Option<i32>) -> Result<[Sum; 4]> {
    identity::require_service("purge what is old")?;
    if max_sessions.is_some_and(|max| max < 1) {
        return Err(Error::new(
            SqlState::INVALID_PARAMETER,
            "max_sessions must be 1 or more",
        )
        .hint("Leave it out to purge every session that is due."));
    }
    for (what, age) in What::ALL.into_iter().zip(&ages) {
        let Some(age) = age else { continue };
        let is_age = as_owner(|| {
            plan::run(&IS_AGE, &[(*age).into()], |rows| {
                Ok(rows.get::<bool>(0, 0) == Some(true))
            })
        })?;
        if !is_age {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER,
                format!("the age of {} must not be negative", what.name()),
            )
            .hint("Pass an interval such as '30 days', counted since the session ended."));
        }
    }
    let [addresses, chat, viewers, notifications] = ages;
    let args = [
        addresses.into(),
        chat.into(),
        viewers.into(),
        notifications.into(),
        max_sessions.into(),
    ];
    let mut due: Vec<(Uuid, [bool; 4])> = as_owner(|| {
        plan::run(&SESSIONS, &args, |rows| {
            Ok((0..rows.len())
                .filter_map(|row| {
                    let is = |what: What| rows.get::<bool>(row, 1 + what as usize) == Some(true);
                    Some((rows.get(row, 0)?, What::ALL.map(is)))
                })
                .collect())
        })
    })?;
    // Two at a time take them in the same order.
    due.sort_by_key(|(session, _)| *session);
    let mut sums = [Sum::default(); 4];
    for (session, whats) in due {
        pgrx::check_for_interrupts!();
        purge_session(session, whats, &mut sums)?;
    }
    if let Some(age) = notifications {
        let rows = as_owner(|| plan::execute(&OTHER_NOTIFICATIONS, &[age.into()]))?;
        sums[What::Notifications as usize].rows += rows as i64;
    }
    Ok(sums)
}

fn purge_session(session: Uuid, whats: [bool; 4], sums: &mut [Sum; 4]) -> Result<()> {
    if as_owner(|| plan::execute(&LOCK, &[session.into()]))? == 0 {
        return Ok(());
    }
    // So that the peak is the last one.
    fold::whole(session)?;
    for what in What::ALL.into_iter().filter(|what| whats[*what as usize]) {
        let rows = match what {
            // They go with their rows.
            What::Addresses if whats[What::Viewers as usize] => continue,
            What::Addresses => purge_addresses(session)?,
            What::Chat => purge_chat(session)?,
            What::Viewers => purge_viewers(session)?,
            What::Notifications => {
                as_owner(|| plan::execute(&NOTIFICATIONS, &[session.into()]))? as i64
            }
        };
        if rows > 0 {
            let sum = &mut sums[what as usize];
            sum.sessions += 1;
            sum.rows += rows;
        }
    }
    Ok(())
}

fn purge_addresses(session: Uuid) -> Result<i64> {
    let rows = as_owner(|| plan::execute(&ADDRESSES, &[session.into()]))?;
    archive::mark(session, Purged::Addresses)?;
    Ok(rows as i64)
}

fn purge_chat(session: Uuid) -> Result<i64> {
    let (rows, messages, reactions) = metrics::archiving(|| {
        let reactions = plan::run(&REACTIONS, &[session.into()], |rows| {
            Ok(rows.get::<i64>(0, 0).unwrap_or(0))
        })?;
        plan::run(&CHAT, &[session.into()], |rows| {
            let number = |column| rows.get::<i64>(0, column).unwrap_or(0);
            Ok((number(0), number(1), reactions + number(2)))
        })
    })?;
    let gone = Gone {
        numbers: Delta {
            messages,
            reactions,
            ..Delta::default()
        },
        ..Gone::default()
    };
    archive::add(session, gone)?;
    archive::mark(session, Purged::Chat)?;
    Ok(rows)
}

fn purge_viewers(session: Uuid) -> Result<i64> {
    as_owner(|| plan::execute(&ORDERS, &[session.into()]))?;
    let gone = metrics::archiving(|| {
        plan::run(&VIEWERS, &[session.into()], |rows| {
            let number = |column| rows.get::<i64>(0, column).unwrap_or(0);
            Ok(Gone {
                viewers: number(0),
                numbers: Delta {
                    unique_viewers: number(1),
                    watch_seconds: number(2),
                    shares: number(3),
                    disconnections: number(4),
                    buffering_events: number(5),
                    buffering_seconds: number(6),
                    ..Delta::default()
                },
                breakdowns: from_fn::<_, BREAKDOWNS, _>(|nth| {
                    match rows.get::<JsonB>(0, 7 + nth) {
                        Some(JsonB(Value::Object(counted))) => counted,
                        _ => Map::new(),
                    }
                }),
            })
        })
    })?;
    let viewers = gone.viewers;
    archive::add(session, gone)?;
    archive::mark(session, Purged::Viewers)?;
    Ok(viewers)
}
