//! The parts that people have beside their own: moderator of an influencer, guest of a session.

use super::influencer_of;
use super::ownership::owned;
use super::{GUESTS, MODERATORS};
use super::{ids_of_caller, is_empty, manages, none_named};
use crate::identity;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::heap::Table;
use crate::pg::plan::Plan;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;

thread_local! {
    static MODERATED: Plan = const { Plan::reading(
        c"select influencer_id from public.live_stream_moderators where user_id = $1",
        &[pg_sys::UUIDOID],
    ) };
}

/// Whether a user is let in to a private session of an influencer's: its guests, its moderators and its owner.
macro_rules! is_let_in {
    ($session:literal, $influencer:literal, $user:literal) => {
        concat!(
            "(exists (select from public.live_stream_guests g where g.session_id = ",
            $session,
            " and g.user_id = ",
            $user,
            ") or exists (select from public.live_stream_moderators m where m.influencer_id = ",
            $influencer,
            " and m.user_id = ",
            $user,
            ") or exists (select from public.influencers i where i.id = ",
            $influencer,
            " and i.user_id = ",
            $user,
            "))"
        )
    };
}
pub(crate) use is_let_in;

fn has_row(
    table: &'static CStr,
    index: &'static CStr,
    ids: [(&'static str, Uuid); 2],
) -> Result<bool> {
    let table = Table::read(c"public", table)?;
    let mut found = false;
    if table.pages() > 0 {
        table.find(c"public", index, &ids, |_| {
            found = true;
            Ok(false)
        })?;
    }
    Ok(found)
}

/// Whether a user moderates the sessions of an influencer.
pub fn is_moderator(influencer: Uuid, user: Uuid) -> Result<bool> {
    has_row(
        MODERATORS,
        c"live_stream_moderators_pkey",
        [("influencer_id", influencer), ("user_id", user)],
    )
}

/// Whether a user is a guest of a session.
pub fn is_guest(session: Uuid, user: Uuid) -> Result<bool> {
    has_row(
        GUESTS,
        c"live_stream_guests_pkey",
        [("session_id", session), ("user_id", user)],
    )
}

/// Checks that the caller owns or moderates an influencer, or is the server.
pub fn check_moderated(influencer: Uuid) -> Result<()> {
    if moderates(influencer)? {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("the caller does not moderate the sessions of influencer {influencer}"),
    )
    .hint("The influencer makes moderators with live_stream_add_moderator."))
}

pub fn moderates(influencer: Uuid) -> Result<bool> {
    if manages(influencer)? {
        return Ok(true);
    }
    match identity::user_id()? {
        Some(user) => is_moderator(influencer, user),
        None => Ok(false),
    }
}

/// The influencers whose sessions the calling user moderates.
#[pg_extern(stable, parallel_safe)]
fn moderated_influencer_ids() -> Vec<Uuid> {
    let find = || {
        if is_empty(MODERATORS)? {
            return Ok(Vec::new());
        }
        ids_of_caller(&MODERATED)
    };
    find().or_raise()
}

/// The influencer, or the session's, or the caller's own.
///
/// Errors: 42501 unless the caller owns or moderates it; PT404 for no session that the caller
/// may see; 22023 where there is none to name, or the session is another influencer's.
#[pg_extern(volatile)]
fn moderated_influencer(influencer_id: Option<Uuid>, session_id: Option<Uuid>) -> Uuid {
    let find = || {
        if !identity::is_service()? {
            identity::signed_in("do this")?;
        }
        let influencer = match (influencer_id, session_id) {
            (named, Some(session)) => {
                let influencer = influencer_of(session)?;
                check_session_of(session, influencer, named)?;
                influencer
            }
            (Some(influencer), None) => influencer,
            (None, None) => owned()?.first().copied().ok_or_else(none_named)?,
        };
        check_moderated(influencer)?;
        Ok(influencer)
    };
    find().or_raise()
}

pub fn check_session_of(session: Uuid, influencer: Uuid, named: Option<Uuid>) -> Result<()> {
    match named {
        Some(named) if named != influencer => Err(Error::new(
            SqlState::INVALID_PARAMETER,
            format!("session {session} is not of influencer {named}"),
        )
        .hint("Pass one of the two, or the session's own influencer.")),
        _ => Ok(()),
    }
}
