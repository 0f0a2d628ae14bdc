//! The chat of a session: messages, and reactions to them.

mod flags;
mod guard;
mod reactions;
mod removed;
mod send;
mod settle;
mod taken_out;

use crate::metrics::rows;

/// Called once per backend.
pub fn register() {
    taken_out::watch_transactions();
    rows::ADD_TO_MESSAGE.register(reactions::add);
}
