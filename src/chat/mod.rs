//! The chat of a session: messages, and reactions to them.

mod guard;
mod reactions;
mod send;
mod settle;

use crate::metrics::rows;

/// Called once per backend.
pub fn register() {
    rows::ADD_TO_MESSAGE.register(reactions::add);
}
