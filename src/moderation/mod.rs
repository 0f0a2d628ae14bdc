//! People with a part: moderators, banned people, guests of private sessions; and the log of who
//! did what to whom.
//!
//! A person who joins is looked at twice: before its row is written, and again when it is, under
//! the lock that closing somebody out takes too. So whoever is banned, or a guest no longer, is
//! either seen and closed by the one who decides that, or sees it and is refused.

mod access;
mod bans;
mod close;
mod invitations;
mod log;
mod people;

pub use access::{
    admit, admit_again, as_joiner, check_may_write, check_not_banned, check_not_silenced,
    is_moderator, sees,
};
pub use log::{Act, note};

use crate::error::{Error, Result, SqlState};
use crate::identity;
use crate::lock::{Lock, Mode, person_slot};
use pgrx::Uuid;

/// Until the transaction ends, nobody else decides on this user's part at any influencer.
fn hold_part(user: Uuid) {
    Lock::Part(person_slot(user)).wait(Mode::Alone);
}

fn signed_in() -> Result<Uuid> {
    identity::user_id()?.ok_or_else(|| {
        Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            "only signed-in people do this",
        )
        .hint("Sign in first.")
    })
}
