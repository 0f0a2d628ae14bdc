//! Viewers: who watches a session, from when to when.

mod acting_viewer;
mod guard;
mod joining;
mod people;
mod presence;
mod rows;
mod settle;
mod sharing;

use crate::pg::callback::Callback;
use crate::pg::error::Result;
use crate::sessions;
use pgrx::Uuid;

pub use acting_viewer::own_viewer;
pub use presence::{close_rows, close_user, define_settings};
pub use rows::{kept_viewer_of, viewer_of};

/// An address, or a place, of a viewer of this session was written.
pub static ADDRESS_CAME: Callback<fn(Uuid) -> Result<()>> =
    Callback::new("note that an address came");

/// Called once per backend.
pub fn watch_transactions() {
    sessions::CLOSE_VIEWERS.register(presence::close_all);
    acting_viewer::watch_transactions();
    people::watch_transactions();
}
