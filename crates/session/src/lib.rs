//! What a session of live_stream is, without PostgreSQL: its codes and its life cycle.

pub mod code;
mod lifecycle;

pub use lifecycle::Status;
