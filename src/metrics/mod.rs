//! The numbers of a session: exact, however many change them at once.
//!
//! The other domains tell this one what a statement changed ([`apply`]) and ask it to protect
//! the columns it keeps ([`keep`], [`clear`]); nothing else writes them. A change updates the
//! session's row as its transaction commits, or is appended to a log that a background worker folds
//! into the row: `settle.rs` decides which.

mod apply;
mod bursts;
mod changes;
mod collect;
mod columns;
mod count;
mod delta;
pub mod entry;
pub mod fold;
pub mod hot;
pub mod log;
pub mod peak;
mod pending;
pub mod rows;
pub mod settle;
pub mod timeline;
pub mod worker;

pub use apply::apply;
use apply::arguments;
use collect::collected;
pub use collect::{collect, collect_own, collects};
pub use columns::{add, clear, derive, hundredths, keep};
pub use count::{catch_up, catch_up_own, flush_for_truncate};
pub use delta::Delta;
use pending::check_snapshot;
pub use pending::{take_pending, take_pending_without_worker};

use crate::pg::error::Result;
use crate::pg::own_writes::{self, OwnWrites};
use crate::pg::owner::as_owner;
use crate::pg::row;
use crate::pg::transaction;
use pgrx::prelude::*;

/// Called once per backend.
pub fn watch_transactions() {
    log::watch_transactions();
    entry::watch_transactions();
    changes::watch_transactions();
    rows::watch_transactions();
    settle::watch_transactions();
}

thread_local! {
    static SETTLING: OwnWrites = const { OwnWrites::new() };
    static ARCHIVING: OwnWrites = const { OwnWrites::new() };
}

/// True in a trigger that an update of the engine's own fired: it passes the guards of the
/// tables. What an app's trigger writes meanwhile, one trigger deeper, does not.
pub fn is_settling() -> bool {
    SETTLING.with(OwnWrites::have_fired)
}

/// True in a trigger that fired as rows went into the archive: they stay counted.
pub fn is_archiving() -> bool {
    ARCHIVING.with(OwnWrites::have_fired)
}

/// Deletes rows that the caller counts into the archive, with the rights of the tables' owner:
/// no number changes. What an app's trigger writes meanwhile is counted as ever.
pub fn archiving<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
    transaction::check_not_parallel()?;
    own_writes::with(&ARCHIVING, true, || as_owner(f))
}

/// Runs updates of the engine's own, with the rights of the tables' owner.
///
/// Errors: 25000 in a parallel query.
pub fn settling<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
    transaction::check_not_parallel()?;
    own_writes::with(&SETTLING, true, || as_owner(f))
}
