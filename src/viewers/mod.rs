//! Viewers: who watches a session, from when to when.

mod guard;
mod presence;
mod settle;

pub use presence::{close_all, define_settings, own_viewer, viewer_of};
