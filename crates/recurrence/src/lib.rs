//! Recurrence rules of RFC 5545: their text, and when they take place by the clock on the wall.

pub mod clock;
pub mod days;
pub mod expand;
pub mod ics;
pub mod order;
pub mod rule;
pub mod stamp;
