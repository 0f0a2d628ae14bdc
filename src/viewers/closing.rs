//! Closing viewers, as their session ends or because they are not welcome any more. A row that somebody has just now is passed
//! by, so that nobody waits for who writes to it: whoever has it closes it as its transaction commits, where that is a
//! request of the viewer's own, and else the worker does when the row is free ([`look_at`]).

use super::people;
use super::presence::{heard_of, timeout};
use crate::access;
use crate::limits;
use crate::metrics::entry;
use crate::metrics::rows::look_at;
use crate::pg::clock::transaction_time;
use crate::pg::error::Result;
use crate::pg::keep;
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, sql};
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use session::finished;

/// Until when a viewer `v` has watched who is closed at a moment, with a timeout in seconds.
macro_rules! watched_until {
    ($at:literal, $timeout:literal) => {
        concat!(
            "greatest(v.watching_since,
                      coalesce((select ",
            heard_of!(),
            " from public.live_stream_heartbeats h
                                 where h.viewer_id = v.id
                                   and ",
            heard_of!(),
            " < ",
            $at,
            " - make_interval(secs => ",
            $timeout,
            ")),
                               ",
            $at,
            "))"
        )
    };
}

/// Closes the open rows `o` that a condition holds of, but those that somebody has just now.
macro_rules! close {
    ($of:expr, $at:literal, $timeout:literal) => {
        sql!(
            "update public.live_stream_viewers v set is_still_watching = false, left_at = ",
            watched_until!($at, $timeout),
            " where v.ctid = any (array(
                select o.ctid from public.live_stream_viewers o
                 where ",
            $of,
            " and o.is_still_watching for no key update skip locked))"
        )
    };
}

pub(super) use {close, watched_until};

thread_local! {
    static CLOSE_USER: Plan = const { Plan::writing(
        close!("o.session_id = $1 and o.user_id = $2", "now()", "$3"),
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::INT4OID],
    ) };
    static CLOSE_ROWS: Plan = const { Plan::writing(
        close!("o.id = any ($1)", "$2", "$3"),
        &[pg_sys::UUIDARRAYOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT4OID],
    ) };
    static CLOSE_ALL: Plan = const { Plan::writing(
        close!("o.session_id = $1", "$2", "$3"),
        &[pg_sys::UUIDOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT4OID],
    ) };
    // When a session that is finished ended, where there are still viewers of it to close.
    static LEFT_OPEN: Plan = const { Plan::writing(
        sql!("select coalesce(s.actual_end_time, s.updated_at)
            from public.live_stream_sessions s
           where s.id = $1 and s.status in ", finished!(), "
             and exists (select from public.live_stream_viewers v
                          where v.session_id = s.id and v.is_still_watching)"),
        &[pg_sys::UUIDOID],
    ) };
    static OPEN_IN: Plan = const { Plan::writing(
        c"select id, session_id from public.live_stream_viewers
           where session_id = $1 and is_still_watching",
        &[pg_sys::UUIDOID],
    ) };
    static OPEN_OF: Plan = const { Plan::writing(
        c"select id, session_id from public.live_stream_viewers
           where id = any ($1) and is_still_watching",
        &[pg_sys::UUIDARRAYOID],
    ) };
    static BUT_LATEST: Plan = const { Plan::writing(
        c"select id from public.live_stream_viewers
           where session_id = $1 and user_id = $2 and is_still_watching
           order by counted_since desc nulls last, id offset $3",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::INT4OID],
    ) };
    static WHO: Plan = const { Plan::writing(
        sql!("select v.session_id, v.user_id,
                 case when s.status in ", finished!(), "
                      then coalesce(s.actual_end_time, s.updated_at) end,
                 s.visibility <> 'public' and v.user_id is null
            from public.live_stream_viewers v
            join public.live_stream_sessions s on s.id = v.session_id
           where v.id = $1 and v.is_still_watching"),
        &[pg_sys::UUIDOID],
    ) };
}

/// Closes every open viewer of a session that is ending: at `at`, or when it was last heard of
/// if it had fallen silent. A row that somebody else has just now is passed by.
pub fn close_all(session: Uuid, at: TimestampWithTimeZone) -> Result<()> {
    let args = [session.into(), at.into(), timeout().into()];
    as_owner(|| plan::execute(&CLOSE_ALL, &args).map(drop))
}

/// Closes the open rows of a user in a session: now, or when last heard of if it had fallen silent. One that somebody else
/// has just now is passed by.
pub fn close_user(session: Uuid, user: Uuid) -> Result<()> {
    let args = [session.into(), user.into(), timeout().into()];
    as_owner(|| plan::execute(&CLOSE_USER, &args).map(drop))
}

/// As [`close_user`], of rows that are given by their ids. One that somebody else has just now is passed by.
pub fn close_rows(viewers: Vec<Uuid>) -> Result<()> {
    close_rows_at(viewers, transaction_time())
}

fn close_rows_at(viewers: Vec<Uuid>, at: TimestampWithTimeZone) -> Result<()> {
    let args = [viewers.into(), at.into(), timeout().into()];
    as_owner(|| plan::execute(&CLOSE_ROWS, &args).map(drop))
}

/// Closes the viewers of a finished session who were passed by as it ended, or came in that moment; those whose rows
/// somebody has even now, when they are free.
pub fn close_late(session: Uuid) -> Result<()> {
    let ended = as_owner(|| {
        plan::run(&LEFT_OPEN, &[session.into()], |rows| {
            Ok(rows.get::<TimestampWithTimeZone>(0, 0))
        })
    })?;
    let Some(ended) = ended else {
        return Ok(());
    };
    close_all(session, ended)?;
    look_at_all(&OPEN_IN, session.into())
}

/// As [`close_rows`]; those whose rows somebody has just now, when they are free.
pub fn close_rows_for_good(viewers: Vec<Uuid>) -> Result<()> {
    close_rows(viewers.clone())?;
    look_at_all(&OPEN_OF, viewers.into())
}

/// Closes the open rows of a user in a session but its latest, as many as a person may have; those that somebody has just
/// now, when they are free.
pub(super) fn close_spare(session: Uuid, user: Uuid) -> Result<()> {
    let spare = spare(session, user)?;
    match spare.is_empty() {
        true => Ok(()),
        false => close_rows_for_good(spare),
    }
}

/// The open rows of a user in a session but its latest, as many as a person may have.
fn spare(session: Uuid, user: Uuid) -> Result<Vec<Uuid>> {
    let Some(places) = limits::places_per_person() else {
        return Ok(Vec::new());
    };
    let args = [session.into(), user.into(), places.into()];
    as_owner(|| {
        plan::run(&BUT_LATEST, &args, |rows| {
            Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
        })
    })
}

fn look_at_all(
    open: &'static std::thread::LocalKey<Plan>,
    of: pgrx::datum::DatumWithOid<'static>,
) -> Result<()> {
    let open: Vec<(Uuid, Uuid)> = as_owner(|| {
        plan::run(open, &[of], |rows| {
            Ok((0..rows.len())
                .filter_map(|row| rows.get(row, 0).zip(rows.get(row, 1)))
                .collect())
        })
    })?;
    open.into_iter()
        .try_for_each(|(viewer, session)| look_at(session, viewer))
}

/// Closes the row of a viewer, which this transaction has locked and not written, where it has been passed by: its session
/// is finished, the user is not welcome there any more, or has more places than a person may have.
pub(super) fn look(viewer: Uuid) -> Result<()> {
    match due(viewer, true)? {
        Some((_, at)) => close_rows_at(vec![viewer], at),
        None => Ok(()),
    }
}

/// As [`look`], of a row that this transaction has written to: where somebody is deleting what it refers to, and waits for
/// it, it is looked at later.
pub(super) fn look_at_own(viewer: Uuid) -> Result<()> {
    let (table, key) = (c"live_stream_viewers", c"live_stream_viewers_pkey");
    match due(viewer, false)? {
        Some((_, at)) if keep::may_write_again(table, key, viewer)? => {
            close_rows_at(vec![viewer], at)
        }
        Some((session, _)) => look_at(session, viewer),
        None => Ok(()),
    }
}

/// The session of an open row that is to be closed, and until when it has watched. One that `was_passed_by` as somebody
/// closed it is, too, where the viewer has no account and the session is public no longer.
fn due(viewer: Uuid, was_passed_by: bool) -> Result<Option<(Uuid, TimestampWithTimeZone)>> {
    let who = as_owner(|| {
        plan::run(&WHO, &[viewer.into()], |rows| {
            let session: Option<Uuid> = rows.get(0, 0);
            let is_out = was_passed_by && rows.get(0, 3) == Some(true);
            Ok(session.map(|session| (session, rows.get(0, 1), rows.get(0, 2), is_out)))
        })
    })?;
    Ok(match who {
        Some((session, _, Some(ended), _)) => Some((session, ended)),
        Some((session, _, None, true)) => Some((session, transaction_time())),
        Some((session, Some(user), None, false)) if is_due(session, user, viewer)? => {
            Some((session, transaction_time()))
        }
        _ => None,
    })
}

fn is_due(session: Uuid, user: Uuid, viewer: Uuid) -> Result<bool> {
    let Some(entered) = entry::now(session)? else {
        return Ok(false);
    };
    Ok(!access::is_welcome(session, &entered, user)?
        || people::has_several_rows(session, user)? && spare(session, user)?.contains(&viewer))
}
