//! Closing out who may not see a session any more, as it becomes private or unlisted.
//!
//! A private one is seen by those who are let in. Whoever has an account and has joined sees an unlisted one on; of the
//! others nobody knows whether they have its code: who has it, or the id, comes back.
//!
//! Most are closed with the statement; those who come between that and the commit, with the seats of the session taken,
//! as when it ends (`metrics/settle.rs`). Who comes after that finds the session as it is then.

use super::closing::{close, watched_until};
use super::people;
use super::presence::{heard_of, timeout};
use crate::access::is_let_in;
use crate::metrics::rows::look_at;
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::heap::Table;
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, sql};
use crate::pg::transaction;
use pgrx::Uuid;
use pgrx::pg_sys;
use session::finished;
use std::collections::BTreeSet;
use std::thread::LocalKey;

/// Of the viewers `o`, who may not see the session $1 of the influencer $2, which is private ($3) or else unlisted.
macro_rules! is_out {
    () => {
        concat!(
            "o.session_id = $1 and (o.user_id is null or $3 and not ",
            is_let_in!("$1", "$2", "o.user_id"),
            ")"
        )
    };
}

thread_local! {
    static CLOSE: Plan = const { Plan::writing(
        close!(is_out!(), "$4", "$5"),
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::BOOLOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT4OID],
    ) };
    static STILL_OPEN: Plan = const { Plan::writing(
        sql!("select o.id from public.live_stream_viewers o where o.is_still_watching and ", is_out!()),
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::BOOLOID],
    ) };
    static LET_IN: Plan = const { Plan::writing(
        sql!("select distinct o.user_id from public.live_stream_viewers o
               where o.is_still_watching and $3 and o.session_id = $1 and o.user_id is not null
                 and ", is_let_in!("$1", "$2", "o.user_id")),
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::BOOLOID],
    ) };
    static WATCHED: Plan = const { Plan::writing(
        sql!("select s.id, s.influencer_id, s.visibility <> 'unlisted' from public.live_stream_sessions s
               where s.id = any ($1) and s.visibility <> 'public' and s.status not in ", finished!(), "
                 and exists (select from public.live_stream_viewers v
                              where v.session_id = s.id and v.is_still_watching)
               order by s.id"),
        &[pg_sys::UUIDARRAYOID],
    ) };
    static OPEN: Plan = const { Plan::writing(
        c"select count(*) from public.live_stream_viewers where session_id = $1 and is_still_watching",
        &[pg_sys::UUIDOID],
    ) };
}

/// Closes out who may not see a session of an influencer's any more, which becomes private, or else unlisted: now, or when
/// last heard of. Rows that somebody else has just now, and who comes meanwhile, as the transaction commits.
pub fn close_out(session: Uuid, influencer: Uuid, is_private: bool) -> Result<()> {
    people::hide(session);
    close_now(session, influencer, is_private)
}

fn close_now(session: Uuid, influencer: Uuid, is_private: bool) -> Result<()> {
    let args = [
        session.into(),
        influencer.into(),
        is_private.into(),
        transaction_time().into(),
        timeout().into(),
    ];
    as_owner(|| plan::execute(&CLOSE, &args).map(drop))
}

/// A session that is hidden still, and watched.
struct Hidden {
    session: Uuid,
    influencer: Uuid,
    is_private: bool,
}

/// Those of these sessions.
fn watched(sessions: &BTreeSet<Uuid>) -> Result<Vec<Hidden>> {
    if sessions.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = sessions.iter().copied().collect();
    as_owner(|| {
        plan::run(&WATCHED, &[ids.into()], |rows| {
            let row = |row| {
                Some(Hidden {
                    session: rows.get(row, 0)?,
                    influencer: rows.get(row, 1)?,
                    is_private: rows.get(row, 2)?,
                })
            };
            Ok((0..rows.len()).filter_map(row).collect())
        })
    })
}

fn ids(plan: &'static LocalKey<Plan>, hidden: &Hidden) -> Result<Vec<Uuid>> {
    let args = [
        hidden.session.into(),
        hidden.influencer.into(),
        hidden.is_private.into(),
    ];
    as_owner(|| {
        plan::run(plan, &args, |rows| {
            Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
        })
    })
}

/// Who watches these sessions because somebody has let them in. They are to be held: who is just taking that from one of them
/// either sees that the session is private, or is seen here.
pub(super) fn let_in(sessions: &BTreeSet<Uuid>) -> Result<Vec<Uuid>> {
    let mut users = Vec::new();
    for hidden in watched(sessions)? {
        users.extend(ids(&LET_IN, &hidden)?);
    }
    Ok(users)
}

/// As the transaction commits, with the seats of these sessions taken.
///
/// Errors: 40001 where the transaction's snapshot is older than a join.
pub(super) fn close_late(sessions: &BTreeSet<Uuid>) -> Result<()> {
    for hidden in watched(sessions)? {
        close_now(hidden.session, hidden.influencer, hidden.is_private)?;
        for viewer in ids(&STILL_OPEN, &hidden)? {
            look_at(hidden.session, viewer)?;
        }
    }
    if !transaction::has_fixed_snapshot() {
        return Ok(());
    }
    sessions.iter().copied().try_for_each(check_all_seen)
}

/// Checks that this transaction has seen all open rows of a session.
///
/// Errors: 40001.
fn check_all_seen(session: Uuid) -> Result<()> {
    let seen: i64 = as_owner(|| {
        plan::run(&OPEN, &[session.into()], |rows| {
            Ok(rows.get(0, 0).unwrap_or(0))
        })
    })?;
    let mut open = 0;
    Table::read(c"public", c"live_stream_viewers")?.find(
        c"public",
        c"live_stream_viewers_session_id_user_id_idx",
        &[("session_id", session)],
        |row| {
            open += i64::from(row.get("is_still_watching")? == Some(true));
            Ok(true)
        },
    )?;
    if open == seen {
        return Ok(());
    }
    Err(Error::new(
        SqlState::SERIALIZATION_FAILURE,
        "could not serialize access due to a viewer who has joined or left meanwhile",
    )
    .hint("Run the transaction again."))
}
