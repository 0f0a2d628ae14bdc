//! Viewers: who watches a session, from when to when.

mod guard;
mod lone;
mod presence;
mod settle;

pub use lone::watch_transactions;
pub use presence::{close_all, close_user, define_settings, own_viewer, viewer_of};
