//! Who may join a session and write in it.

use super::bans::{check_not_banned, check_not_silenced};
use super::parts::is_guest;
use super::{BANS, GUESTS, MODERATORS};
use super::{is_empty, is_moderator, owns};
use crate::identity;
use crate::metrics::entry::{self, Entered, no_such_session};
use crate::pg::error::Result;
use crate::pg::lock::{Lock, Mode, person_slot};
use crate::pg::own_writes::{self, OwnWrites};
use crate::pg::owner::as_owner;
use pgrx::Uuid;
use std::collections::BTreeSet;

thread_local! {
    /// The engine is writing the viewer row of a caller who has no rights beyond its own.
    static JOINING: OwnWrites = const { OwnWrites::new() };
}

/// The caller's own rights are those of the server. One who joins through a function of ours has
/// none of them, though its row is written with the rights of the owner.
pub fn is_exempt() -> Result<bool> {
    Ok(!JOINING.with(OwnWrites::have_fired) && identity::is_service()?)
}

/// Runs `f` with the rights of the tables' owner, to write the viewer row of the caller, who is
/// still asked whether it may join.
pub fn as_joiner<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
    let exempt = identity::is_service()?;
    own_writes::with(&JOINING, !exempt, || as_owner(f))
}

/// Checks that the caller may join a session that it has entered.
///
/// Errors: PT404 for a private session that the caller is not invited to; 42501 for a ban.
pub fn admit(session: Uuid, entered: &Entered) -> Result<()> {
    check(session, entered, false)
}

/// Checks that the caller, who is not the host, may write in the chat of a session.
///
/// Errors: as [`admit`]; 42501 for a timeout too.
pub fn check_may_write(session: Uuid, entered: &Entered) -> Result<()> {
    check(session, entered, true)
}

fn check(session: Uuid, entered: &Entered, writes: bool) -> Result<()> {
    let influencer = entered.influencer;
    if entered.private && !is_invited(session, influencer)? {
        return Err(no_such_session(session));
    }
    if writes {
        check_not_silenced(influencer)
    } else {
        check_not_banned(influencer)
    }
}

/// Whether a private session is open to the caller: its guests, its moderators, its owner, and a server.
fn is_invited(session: Uuid, influencer: Uuid) -> Result<bool> {
    if is_exempt()? || owns(influencer)? {
        return Ok(true);
    }
    match identity::user_id()? {
        Some(user) => Ok(is_guest(session, user)? || is_moderator(influencer, user)?),
        None => Ok(false),
    }
}

/// Checks once more that the caller may join, as its rows are written: nobody closes these users
/// out of anything before the transaction ends, and what was decided before is seen now.
///
/// Errors: as [`admit`].
pub fn admit_again(session: Uuid, users: &BTreeSet<Uuid>) -> Result<()> {
    if is_exempt()? {
        return Ok(());
    }
    let slots: BTreeSet<u64> = users.iter().map(|user| person_slot(*user)).collect();
    for slot in slots {
        Lock::Person(slot).wait(Mode::Alone);
    }
    if is_empty(BANS)? && is_empty(GUESTS)? && is_empty(MODERATORS)? {
        return Ok(());
    }
    match entry::enter(session)? {
        Some(entered) => admit(session, &entered),
        None => Ok(()),
    }
}
