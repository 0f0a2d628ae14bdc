//! Viewers: who watches a session, from when to when.

mod acting;
mod guard;
mod lone;
mod people;
mod presence;
mod settle;

pub use presence::{close_all, close_user, define_settings, kept_viewer_of, own_viewer, viewer_of};

/// Called once per backend.
pub fn watch_transactions() {
    acting::watch_transactions();
    lone::watch_transactions();
    people::watch_transactions();
}
