//! The edge to PostgreSQL: what is unsafe is here, and in `install`.

pub mod async_commit;
pub mod background;
pub mod callback;
pub mod catalog;
pub mod clock;
pub mod error;
pub mod heap;
pub mod keep;
pub mod lock;
pub mod own_writes;
pub mod owner;
pub mod plan;
pub mod returned;
pub mod role;
pub mod row;
pub mod settings;
pub mod shape;
pub mod subtransaction;
pub mod tables;
pub mod time_of_day;
pub mod time_zone;
pub mod transaction;
pub mod transition;
pub mod trigger;
pub mod vacuum;
