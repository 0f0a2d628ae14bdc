//! The products that a session shows, and what viewers do with them.

mod guard;
mod settle;
mod track;
