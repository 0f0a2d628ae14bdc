//! The edge to PostgreSQL.

pub mod shape;
pub mod subtransaction;
