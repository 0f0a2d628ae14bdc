//! Erasing a person: its rows go, what was sold stays, and every number of the sessions too. Which tables hold
//! something of a person, and what becomes of it, is the list `HELD` in `people.rs`; exports follow it too.

use super::archive::{self, BREAKDOWNS, Gone};
use super::breakdown::OTHER;
use super::people::{self, OnErase};
use super::require_user;
use crate::identity;
use crate::influencers;
use crate::metrics::entry;
use crate::metrics::{self, Delta, fold};
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::keep::Wait;
use crate::pg::lock::{Lock, Mode};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, sql};
use crate::pg::subtransaction::{and_undo, take_in_order};
use crate::pg::transaction;
use crate::schedule;
use crate::viewers;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid, pg_sys};
use serde_json::{Map, Value, json};
use session::{finished, on_air};
use std::array::from_fn;
use std::collections::{BTreeMap, BTreeSet};

thread_local! {
    static SESSIONS: Plan = const { Plan::writing(
        sql!("with mine as (select id, session_id from public.live_stream_viewers where user_id = $1),
               named as (
                 select session_id from mine
                 union select session_id from public.live_stream_chat where user_id = $1
                 union select m.session_id from public.live_stream_chat m
                         join mine on mine.id = m.viewer_id where m.user_id is null
                 union select session_id from public.live_stream_chat_reactions where user_id = $1
                 union select session_id from public.live_stream_orders where user_id = $1
                 union select o.session_id from public.live_stream_orders o
                         join mine on mine.id = o.viewer_id)
          select s.id, s.status in ", finished!(), "
            from public.live_stream_sessions s
            join named on named.session_id = s.id"),
        &[pg_sys::UUIDOID],
    ) };
    static PARTS: Plan = const { Plan::writing(
        c"select session_id from public.live_stream_guests where user_id = $1 or created_by = $1
          union select session_id from public.live_stream_bans
                 where (user_id = $1 or created_by = $1) and session_id is not null",
        &[pg_sys::UUIDOID],
    ) };
    static LOCK_BANS: Plan = const { Plan::writing(
        c"select from public.live_stream_bans where user_id = $1 or created_by = $1
           order by id for update",
        &[pg_sys::UUIDOID],
    ) };
    static LOCK_MODERATORS: Plan = const { Plan::writing(
        c"select from public.live_stream_moderators where user_id = $1
           order by influencer_id for update",
        &[pg_sys::UUIDOID],
    ) };
    static LOCK_GUESTS: Plan = const { Plan::writing(
        c"select from public.live_stream_guests where user_id = $1 or created_by = $1
           order by session_id, user_id for update",
        &[pg_sys::UUIDOID],
    ) };
    // Those that it wrote, which go; those that answer them, or are answered; and those that it
    // has reacted to.
    static TOUCHED: Plan = const { Plan::writing(
        c"with mine as (
                 select id, parent_message_id from public.live_stream_chat where user_id = $1
                 union select m.id, m.parent_message_id from public.live_stream_chat m
                         join public.live_stream_viewers v on v.id = m.viewer_id
                        where m.user_id is null and v.user_id = $1)
          select id from mine
           union select parent_message_id from mine where parent_message_id is not null
           union select a.id from public.live_stream_chat a
                   join mine on mine.id = a.parent_message_id
           union select message_id from public.live_stream_chat_reactions where user_id = $1
           order by 1",
        &[pg_sys::UUIDOID],
    ) };
    static LOCK_CHAT: Plan = const { Plan::writing(
        c"select from public.live_stream_chat where id = any ($1) order by id for update",
        &[pg_sys::UUIDARRAYOID],
    ) };
    static LOCK_REACTIONS: Plan = const { Plan::writing(
        c"with mine as (
                 select id from public.live_stream_chat where user_id = $1
                 union select m.id from public.live_stream_chat m
                         join public.live_stream_viewers v on v.id = m.viewer_id
                        where m.user_id is null and v.user_id = $1)
          select from public.live_stream_chat_reactions
           where user_id = $1 or message_id in (select id from mine)
           order by message_id, user_id, reaction for update",
        &[pg_sys::UUIDOID],
    ) };
    static LOCK_ORDERS: Plan = const { Plan::writing(
        c"select from public.live_stream_orders
           where user_id = $1
              or viewer_id in (select id from public.live_stream_viewers where user_id = $1)
           order by id for update",
        &[pg_sys::UUIDOID],
    ) };
    static LOCK: Plan = const { Plan::writing(
        c"select from public.live_stream_sessions where id = $1 for no key update",
        &[pg_sys::UUIDOID],
    ) };
    static ORDERS: Plan = const { Plan::writing(
        c"update public.live_stream_orders o
             set user_id = nullif(o.user_id, $2),
                 viewer_id = case when not exists (
                               select from public.live_stream_viewers v
                                where v.id = o.viewer_id and v.user_id = $2)
                             then o.viewer_id end
           where o.session_id = $1
             and (o.user_id = $2
                  or o.viewer_id in (select v.id from public.live_stream_viewers v
                                      where v.session_id = $1 and v.user_id = $2))",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
    static REACTIONS: Plan = const { Plan::writing(
        c"delete from public.live_stream_chat_reactions where session_id = $1 and user_id = $2",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
    static REACTIONS_TO_CHAT: Plan = const { Plan::writing(
        c"delete from public.live_stream_chat_reactions
           where message_id in (
                 select m.id from public.live_stream_chat m
                  where m.session_id = $1
                    and (m.user_id = $2
                         or m.user_id is null
                            and m.viewer_id in (select v.id from public.live_stream_viewers v
                                                 where v.session_id = $1 and v.user_id = $2)))",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
    static CHAT: Plan = const { Plan::writing(
        c"delete from public.live_stream_chat m
           where m.session_id = $1
             and (m.user_id = $2
                  or m.user_id is null
                     and m.viewer_id in (select v.id from public.live_stream_viewers v
                                          where v.session_id = $1 and v.user_id = $2))",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
    static VIEWERS: Plan = const { Plan::writing(
        c"delete from public.live_stream_viewers where session_id = $1 and user_id = $2",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
    static INFLUENCERS: Plan = const { Plan::writing(
        sql!("select i.id,
                 (select count(*) from public.live_stream_sessions s
                   where s.influencer_id = i.id),
                 (select count(*) from public.live_stream_schedule s
                   where s.influencer_id = i.id),
                 (select s.id from public.live_stream_sessions s
                   where s.influencer_id = i.id and s.status in ", on_air!(), " limit 1),
                 (select count(*) from public.live_stream_orders o
                    join public.live_stream_sessions s on s.id = o.session_id
                   where s.influencer_id = i.id)
            from public.influencers i where i.user_id = $1"),
        &[pg_sys::UUIDOID],
    ) };
    static DELETE_INFLUENCER: Plan = const { Plan::writing(
        c"delete from public.influencers where id = $1",
        &[pg_sys::UUIDOID],
    ) };
}

/// What was done, by table.
#[derive(Default)]
struct Done {
    removed: BTreeMap<String, i64>,
    anonymised: BTreeMap<String, i64>,
}

fn count(to: &mut BTreeMap<String, i64>, what: &str, rows: usize) {
    if rows > 0 {
        *to.entry(what.to_owned()).or_default() += rows as i64;
    }
}

/// Removes a user from every table, and returns `user_id`, `erased_at`, what was `removed` and
/// what was `anonymised`, in rows by table. A second time, nothing is left to do.
///
/// - Viewer rows are closed, as if the user had left, and go, also of a session that is live.
/// - Messages go, with the reactions of others to them; reactions go, from the messages too.
/// - Orders keep what was paid and lose the user. Messages that the user took away stay away.
/// - Notifications and follows go.
///
/// What those rows count in a session stays counted: no number changes but those of viewers who
/// leave. The user's row in `auth.users` is the app's.
///
/// A user who streams is refused. With `erase_influencer` the row in our own `influencers` goes
/// first, with all of its sessions and schedules and everything in them; not while one of them is
/// on air, and not while there are orders in them. Until it commits, no sessions are made of
/// schedules. An app's own table is the app's to delete from.
///
/// Errors: 42501 unless the caller is service_role or has the rights of the tables' owner; 22023
/// without an id; PT409 for a user who streams.
#[pg_extern(volatile)]
fn erase_user(user_id: Option<Uuid>, erase_influencer: default!(Option<bool>, "false")) -> JsonB {
    let erase = || {
        identity::require_service("erase a user")?;
        let user = require_user(user_id)?;
        transaction::check_not_parallel()?;
        let mut done = Done::default();
        as_owner(|| {
            remove_influencer(user, erase_influencer == Some(true), &mut done)?;
            leave_sessions(user, &mut done)?;
            everywhere_else(user, &mut done)
        })?;
        Ok(JsonB(json!({
            "user_id": uuid::Uuid::from_bytes(*user.as_bytes()).to_string(),
            "erased_at": plan::ask::<JsonB>("select pg_catalog.to_jsonb(pg_catalog.now())", &[])?
                .map_or(Value::Null, |time| time.0),
            "removed": done.removed,
            "anonymised": done.anonymised,
        })))
    };
    erase().or_raise()
}

/// Takes the user out of every session that it is named in.
fn leave_sessions(user: Uuid, done: &mut Done) -> Result<()> {
    // Who is joining as the user just now is erased with it, and who joins later comes anew.
    Lock::Acting(user).wait(Mode::Alone);
    let mut busy = None;
    let named = take_in_order(|is_last| {
        if let Some(session) = busy.take() {
            // With nothing else held that others wait for.
            and_undo(|| entry::lock_row(session))?;
        }
        let named = sessions_of(user)?;
        let held = hold_what_others_hold_first(user, &named)?;
        // All of them before any row: who joins takes the session first, and then the person.
        for (session, is_finished) in &named {
            if !is_last && !entry::try_lock_row(*session)? && entry::exists(*session)? {
                busy = Some(*session);
                return Ok(None);
            }
            enter(*session, *is_finished)?;
        }
        // What the user has written, and where it has come to, since the first look at it.
        let is_all = is_last || sessions_of(user)? == named && touched(user)? == held;
        Ok(is_all.then_some(named))
    })?;
    for (session, is_finished) in &named {
        pgrx::check_for_interrupts!();
        leave(*session, *is_finished, user, done)?;
    }
    Ok(())
}

/// The sessions that a user is named in, in their order; each with whether it is finished.
fn sessions_of(user: Uuid) -> Result<Vec<(Uuid, bool)>> {
    let mut named: Vec<(Uuid, bool)> = plan::run(&SESSIONS, &[user.into()], |rows| {
        Ok((0..rows.len())
            .filter_map(|row| rows.get(row, 0).zip(rows.get(row, 1)))
            .collect())
    })?;
    named.sort_by_key(|(session, _)| *session);
    Ok(named)
}

/// The messages that an erasure changes or removes.
fn touched(user: Uuid) -> Result<Vec<Uuid>> {
    plan::run(&TOUCHED, &[user.into()], |rows| {
        Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
    })
}

/// Who bans, invites, answers a message, takes a reaction away or deletes an order has that row
/// before it enters a session: so here. The sessions are kept before, as one that is deleted takes
/// those rows along. Returns the messages that are held.
fn hold_what_others_hold_first(user: Uuid, named: &[(Uuid, bool)]) -> Result<Vec<Uuid>> {
    let parts: Vec<Uuid> = plan::run(&PARTS, &[user.into()], |rows| {
        Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
    })?;
    let named = named.iter().map(|(session, _)| *session);
    let sessions: BTreeSet<_> = parts.into_iter().chain(named).collect();
    for session in sessions {
        entry::try_keep(session, Wait::Always)?;
    }
    for plan in [&LOCK_BANS, &LOCK_MODERATORS, &LOCK_GUESTS] {
        plan::execute(plan, &[user.into()])?;
    }
    let messages = touched(user)?;
    plan::execute(&LOCK_CHAT, &[messages.clone().into()])?;
    for plan in [&LOCK_REACTIONS, &LOCK_ORDERS] {
        plan::execute(plan, &[user.into()])?;
    }
    Ok(messages)
}

/// The tables of [`hold_what_others_hold_first`] that lose their rows of the user at the end.
const HELD_FIRST: [&str; 3] = [
    "live_stream_bans",
    "live_stream_moderators",
    "live_stream_guests",
];

/// Locks a session's row, and brings it up to what is committed.
fn enter(session: Uuid, is_finished: bool) -> Result<()> {
    if !is_finished {
        return metrics::catch_up(session).map(drop);
    }
    plan::execute(&LOCK, &[session.into()])?;
    fold::whole(session)
}

fn leave(session: Uuid, is_finished: bool, user: Uuid, done: &mut Done) -> Result<()> {
    let args = [session.into(), user.into()];
    viewers::close_user(session, user)?;
    count(
        &mut done.anonymised,
        "live_stream_orders",
        plan::execute(&ORDERS, &args)?,
    );
    let mut gone = 0;
    let numbers = metrics::collect_own(session, || {
        let of_the_user = plan::execute(&REACTIONS, &args)?;
        count(&mut done.removed, "live_stream_chat_reactions", of_the_user);
        plan::execute(&REACTIONS_TO_CHAT, &args)?;
        for (table, plan) in [
            ("live_stream_chat", &CHAT),
            ("live_stream_viewers", &VIEWERS),
        ] {
            gone = plan::execute(plan, &args)?;
            count(&mut done.removed, table, gone);
        }
        Ok(())
    })?;
    // A server may have let it come back meanwhile: it goes now.
    let went = Delta {
        viewers: numbers.viewers,
        first: numbers.first,
        last: numbers.last,
        ..Delta::default()
    };
    metrics::apply(session, went);
    if gone > 0 && !is_finished {
        // Who has come meanwhile, and commits later, met rows that nobody can count any more.
        metrics::peak::doubt(session);
    }
    // Of whatever kind the person was: one alone is not named.
    let other = || Map::from_iter([(OTHER.to_owned(), json!(gone))]);
    archive::add(
        session,
        Gone {
            viewers: gone as i64,
            numbers: negative(numbers),
            breakdowns: from_fn::<_, BREAKDOWNS, _>(|_| other()),
        },
    )
}

/// What was taken from a session's numbers, as a number of what is gone.
fn negative(taken: Delta) -> Delta {
    Delta {
        unique_viewers: -taken.unique_viewers,
        watch_seconds: -taken.watch_seconds,
        messages: -taken.messages,
        reactions: -taken.reactions,
        shares: -taken.shares,
        disconnections: -taken.disconnections,
        buffering_events: -taken.buffering_events,
        buffering_seconds: -taken.buffering_seconds,
        ..Delta::default()
    }
}

fn everywhere_else(user: Uuid, done: &mut Done) -> Result<()> {
    let change = |to: &mut BTreeMap<String, i64>, table: &str, statement: &str| {
        let statement = format!("with done as ({statement} returning 1) select count(*) from done");
        let rows: Option<i64> = plan::ask(&statement, &[user.into()])?;
        count(to, table, rows.unwrap_or(0) as usize);
        Ok::<(), Error>(())
    };
    let table = people::RATES;
    let rates = format!("delete from live_stream.{table} where user_id = $1");
    change(&mut done.removed, table, &rates)?;
    for held in people::held()? {
        let (table, column) = (held.table, held.column);
        let named = if HELD_FIRST.contains(&table) {
            // All were held before the sessions: one that has come since, and that somebody has, is
            // left, as sessions are.
            format!(
                "ctid = any (array(select ctid from public.{table} where {column} = $1
                                      for update skip locked))"
            )
        } else {
            format!("{column} = $1")
        };
        let (statement, to) = match held.on_erase {
            OnErase::Deleted => (
                format!("delete from public.{table} where {named}"),
                &mut done.removed,
            ),
            OnErase::Anonymised => (
                format!("update public.{table} set {column} = null where {named}"),
                &mut done.anonymised,
            ),
            OnErase::Archived | OnErase::Asked => continue,
        };
        change(to, table, &statement)?;
    }
    Ok(())
}

fn remove_influencer(user: Uuid, may_remove: bool, done: &mut Done) -> Result<()> {
    let found: Vec<(Uuid, i64, i64, Option<Uuid>, i64)> =
        plan::run(&INFLUENCERS, &[user.into()], |rows| {
            Ok((0..rows.len())
                .filter_map(|row| {
                    let number = |column| rows.get::<i64>(row, column).unwrap_or(0);
                    Some((
                        rows.get(row, 0)?,
                        number(1),
                        number(2),
                        rows.get(row, 3),
                        number(4),
                    ))
                })
                .collect())
        })?;
    for (influencer, sessions, schedules, on_air, orders) in found {
        let refuse = |message: String| Error::new(SqlState::CONFLICT, message);
        let streams = || refuse(format!("user {user} is the influencer {influencer}"));
        if !influencers::is_ours()? {
            return Err(streams()
                .detail("The table public.influencers is the app's own, and so are its rows.")
                .hint(
                    "Delete the influencer there first: its sessions and schedules go with it. \
                     Or give the row to another user.",
                ));
        }
        if !may_remove {
            return Err(streams()
                .detail(format!(
                    "It has {sessions} sessions and {schedules} schedules, which would go with it."
                ))
                .hint("Pass erase_influencer => true to delete the influencer and all of them."));
        }
        if let Some(session) = on_air {
            return Err(refuse(format!(
                "influencer {influencer} is on air with session {session}"
            ))
            .hint("End the session first."));
        }
        if orders > 0 {
            return Err(refuse(format!(
                "{orders} orders were placed in sessions of influencer {influencer}"
            ))
            .detail("They would go with the sessions, and what was paid must not be lost so.")
            .hint(
                "Export and delete the orders of these sessions first, or give the influencer to \
                 another user.",
            ));
        }
        schedule::begin_anew()?;
        plan::execute(&DELETE_INFLUENCER, &[influencer.into()])?;
        for (table, rows) in [
            ("influencers", 1),
            ("live_stream_sessions", sessions),
            ("live_stream_schedule", schedules),
        ] {
            count(&mut done.removed, table, rows as usize);
        }
    }
    Ok(())
}
