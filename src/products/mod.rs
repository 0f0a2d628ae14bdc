//! The products that a session shows, and what viewers do with them.

mod guard;
pub mod room;
mod settle;
mod track;

use crate::metrics::rows;

/// Called once per backend.
pub fn register() {
    rows::ADD_TO_PRODUCT.register(track::add);
}
