//! Whose an influencer is, and so its sessions.

use super::{ids_of_caller, influencer_of, none_named};
use crate::identity;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;

thread_local! {
    static OWNER: Plan = const { Plan::writing(
        c"select user_id from public.influencers where id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static OWNED: Plan = const { Plan::reading(
        c"select id from public.influencers where user_id = $1",
        &[pg_sys::UUIDOID],
    ) };
}

/// The user who owns an influencer.
pub fn owner_of(influencer: Uuid) -> Result<Option<Uuid>> {
    as_owner(|| plan::run(&OWNER, &[influencer.into()], |rows| Ok(rows.get(0, 0))))
}

/// The influencers that the calling user owns; none for an anonymous request.
pub fn owned() -> Result<Vec<Uuid>> {
    ids_of_caller(&OWNED)
}

/// Whether the calling user owns an influencer.
pub fn owns(influencer: Uuid) -> Result<bool> {
    Ok(owned()?.contains(&influencer))
}

/// Whether the caller may do with an influencer's what its owner may: the owner, and the server.
pub fn manages(influencer: Uuid) -> Result<bool> {
    Ok(identity::is_service()? || owns(influencer)?)
}

/// Checks that the caller owns an influencer, or is the server.
///
/// Errors: 42501.
pub fn check_owned(influencer: Uuid) -> Result<()> {
    if manages(influencer)? {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("influencer {influencer} is not the caller's"),
    )
    .hint("Sign in as the user who owns the influencer."))
}

/// The ids of the influencers that the calling user owns; empty for an anonymous request.
#[pg_extern(stable, parallel_safe)]
fn influencer_ids() -> Vec<Uuid> {
    owned().or_raise()
}

/// The influencer, or the caller's own where none is named.
///
/// Errors: 42501 unless the caller owns it; 22023 where there is none to name.
#[pg_extern(volatile)]
fn own_influencer(influencer_id: Option<Uuid>) -> Uuid {
    let find = || {
        if identity::is_service()? {
            return influencer_id.ok_or_else(none_named);
        }
        identity::signed_in("do this")?;
        let owned = owned()?;
        let influencer = influencer_id
            .or(owned.first().copied())
            .ok_or_else(none_named)?;
        check_owned(influencer)?;
        Ok(influencer)
    };
    find().or_raise()
}

/// Nothing if the caller may manage the session.
///
/// Errors: PT404 for no session, or one that the caller may not see; 42501 for another's.
#[pg_extern(volatile, name = "require_own_session")]
fn require_own_session(session_id: Option<Uuid>) {
    own_session(session_id).or_raise();
}

/// Checks that the caller may manage a session; returns its id.
pub fn own_session(session_id: Option<Uuid>) -> Result<Uuid> {
    let id = session_id.ok_or_else(|| {
        Error::new(SqlState::INVALID_PARAMETER, "session_id must not be null")
            .hint("Pass the id of a session.")
    })?;
    if manages(influencer_of(id)?)? {
        return Ok(id);
    }
    Err(Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("session {id} is not the caller's"),
    )
    .hint("Sign in as the user who owns the session's influencer."))
}
