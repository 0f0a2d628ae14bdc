//! Viewers: who watches a session, from when to when.

mod acting_viewer;
mod closing;
mod guard;
mod hiding;
mod joining;
mod one_each;
mod people;
mod presence;
mod rows;
mod saved_again;
mod settle;
mod sharing;
mod tabs;

use crate::metrics;
use crate::pg::callback::Callback;
use crate::pg::error::Result;
use crate::sessions;
use pgrx::Uuid;

pub use acting_viewer::{Own, own_viewer};
pub use closing::{close_rows, close_rows_for_good, close_user};
pub use people::{CLOSE_UNWELCOME, check_all_seen, keep_out};
pub use presence::define_settings;
pub use rows::{kept_viewer_of, viewer_of};

/// An address, or a place, of a viewer of this session was written.
pub static ADDRESS_CAME: Callback<fn(Uuid) -> Result<()>> =
    Callback::new("note that an address came");

/// Called once per backend.
pub fn watch_transactions() {
    sessions::CLOSE_VIEWERS.register(closing::close_all);
    sessions::CLOSE_OUT.register(hiding::close_out);
    metrics::settle::CLOSE_LATE.register(closing::close_late);
    metrics::rows::ADD_TO_VIEWER.register(rows::add);
    metrics::rows::LOOK_AT_VIEWER.register(closing::look);
    acting_viewer::watch_transactions();
    one_each::watch_transactions();
    people::watch_transactions();
}
