//! The edge to PostgreSQL.

pub mod shape;
