//! Privacy: what is kept of an address, for how long anything is kept, and what is held on a
//! person.

mod archive;
mod breakdown;
mod erase;
mod people;
mod purge;

pub use archive::addresses_came;

use crate::pg::error::{Error, Result, SqlState};
use pgrx::Uuid;

fn require_user(user_id: Option<Uuid>) -> Result<Uuid> {
    user_id.ok_or_else(|| {
        Error::new(SqlState::INVALID_PARAMETER, "user_id must not be null")
            .hint("Pass the id of a user.")
    })
}
