//! Privacy: what is kept of an address, for how long anything is kept, and what is held on a
//! person.

mod archive;
mod breakdown;
mod erase;
mod people;
mod purge;

use crate::pg::error::{Error, Result, SqlState};
use crate::viewers;
use pgrx::Uuid;

/// Called once per backend.
pub fn register() {
    viewers::ADDRESS_CAME.register(archive::addresses_came);
}

fn require_user(user_id: Option<Uuid>) -> Result<Uuid> {
    user_id.ok_or_else(|| {
        Error::new(SqlState::INVALID_PARAMETER, "user_id must not be null")
            .hint("Pass the id of a user.")
    })
}
