//! What a read sees: what is committed at this moment.

use crate::pg::error::Result;
use crate::pg::transaction;
use pgrx::pg_sys;

/// A snapshot of this moment, which also sees what this transaction has done so far: several tables can be read as they
/// are at the same moment.
pub struct Latest(pub(super) pg_sys::Snapshot);

impl Latest {
    /// Errors: 25000 in a parallel query.
    pub fn take() -> Result<Self> {
        transaction::check_not_parallel()?;
        // SAFETY: registered until dropped; what this command has written becomes visible, as
        // for a query of the trigger's own.
        unsafe {
            pg_sys::CommandCounterIncrement();
            Ok(Self(pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot())))
        }
    }

    /// As [`take`](Self::take), but without what this transaction has done.
    pub fn of_others() -> Result<Self> {
        let snapshot = Self::take()?;
        // SAFETY: registered, so a copy of our own: no command of this transaction is before it.
        unsafe { (*snapshot.0).curcid = pg_sys::FirstCommandId };
        Ok(snapshot)
    }
}

impl Drop for Latest {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: registered by `take`; PostgreSQL forgets it itself when an error unwinds.
            unsafe { pg_sys::UnregisterSnapshot(self.0) };
        }
    }
}
