//! The numbers of a session: exact, however many change them at once.
//!
//! The other domains tell this one what a statement changed ([`apply`]) and ask it to protect
//! the columns it keeps ([`keep`], [`clear`]); nothing else writes them. A change updates the
//! session's row at once, or is appended to a log that a background worker folds into the row:
//! `entry::enter` decides which.

mod apply;
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
pub mod timeline;
pub mod worker;

pub use apply::apply;
use apply::{append, arguments, too_large};
use collect::{COLLECTING, collected};
pub use collect::{collect, collect_own};
pub use columns::{add, clear, derive, hundredths, keep};
pub use count::{flush_for_truncate, settle};
pub use delta::Delta;
use pending::check_snapshot;
pub use pending::take_pending;

use crate::pg::error::Result;
use crate::pg::own_writes::{self, OwnWrites};
use crate::pg::owner::as_owner;
use crate::pg::row;
use crate::pg::transaction;
use entry::WritePath;
use pgrx::prelude::*;

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
