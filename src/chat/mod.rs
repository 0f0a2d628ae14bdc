//! The chat of a session: messages, and reactions to them.

mod guard;
mod reactions;
mod send;
mod settle;
