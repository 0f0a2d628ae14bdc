//! What a backend remembers of a transaction, and must forget with it.

use crate::pg::error::{Error, Result, SqlState};
use pgrx::pg_sys;
use std::ffi::c_void;

/// Whether all statements of the transaction see the same moment, as in REPEATABLE READ.
pub fn has_fixed_snapshot() -> bool {
    // SAFETY: a plain read of this transaction's isolation level.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Whether the server follows another one and takes no writes.
pub fn is_on_standby() -> bool {
    // SAFETY: a read of the server's state.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// Checks that no query of several processes is under way, which may not write, and sees no more than
/// it saw as it began. So it is where a function of ours is called by one that says of itself that it is
/// parallel safe, and is not.
///
/// Errors: 25000, as PostgreSQL has it.
pub fn check_not_parallel() -> Result<()> {
    // SAFETY: a read of this backend's transaction state.
    if !unsafe { pg_sys::IsInParallelMode() } {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INVALID_TRANSACTION_STATE,
        "cannot do this during a parallel operation",
    )
    .detail("A function of live_stream that is not parallel safe was called in a parallel query.")
    .hint("Mark the function that calls it as PARALLEL UNSAFE."))
}

/// The id of the transaction, without wrap-around: it takes one where it had none.
///
/// Errors: 25000 in a parallel query.
pub fn full_id() -> Result<i64> {
    check_not_parallel()?;
    // SAFETY: a read of this backend's transaction state.
    Ok(unsafe { pg_sys::GetTopFullTransactionId() }.value as i64)
}

/// The id of the transaction, which is about to write: it takes one where it had none.
pub fn id() -> pg_sys::TransactionId {
    // SAFETY: a read of this backend's transaction state.
    unsafe { pg_sys::GetTopTransactionId() }
}

/// The id, without wrap-around, that the next transaction to write will have.
pub fn next_full_id() -> u64 {
    // SAFETY: reads a counter of the server's.
    unsafe { pg_sys::ReadNextFullTransactionId() }.value
}

/// A moment in a transaction that is about to write: no command has run since while two are the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    transaction: pg_sys::TransactionId,
    subtransaction: pg_sys::SubTransactionId,
    command: pg_sys::CommandId,
}

impl Moment {
    pub fn now() -> Self {
        Self {
            transaction: id(),
            subtransaction: innermost(),
            // SAFETY: a read of this backend's transaction state.
            command: unsafe { pg_sys::GetCurrentCommandId(false) },
        }
    }
}

/// Has `forget` called whenever a transaction ends, in whatever way. Called once per backend for
/// each.
pub fn at_end(forget: fn()) {
    // SAFETY: the callback lives as long as the library, which is never unloaded; its argument is
    // a function of the library's.
    unsafe { pg_sys::RegisterXactCallback(Some(ends), forget as *mut c_void) };
}

/// Has `undo` called with each subtransaction that is rolled back, as to a savepoint.
pub fn at_partial_rollback(undo: fn(pg_sys::SubTransactionId)) {
    // SAFETY: as above.
    unsafe { pg_sys::RegisterSubXactCallback(Some(is_undone), undo as *mut c_void) };
}

/// Has `keep` called with each subtransaction that becomes a part of its parent, and with that.
pub fn at_partial_commit(keep: fn(pg_sys::SubTransactionId, pg_sys::SubTransactionId)) {
    // SAFETY: as above.
    unsafe { pg_sys::RegisterSubXactCallback(Some(is_kept), keep as *mut c_void) };
}

/// The innermost subtransaction, or the transaction itself.
pub fn innermost() -> pg_sys::SubTransactionId {
    // SAFETY: a read of this backend's transaction state.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}

/// Whether a subtransaction is under way, as after a savepoint.
pub fn is_nested() -> bool {
    // SAFETY: a read of this backend's transaction state.
    unsafe { pg_sys::IsSubTransaction() }
}

/// What a transaction remembers, with what each subtransaction has made of it: a rollback to a
/// savepoint leaves what was remembered before.
pub struct Scoped<T> {
    levels: Vec<(pg_sys::SubTransactionId, T)>,
}

impl<T> Scoped<T> {
    pub const fn new() -> Self {
        Self { levels: Vec::new() }
    }

    pub fn get(&self) -> Option<&T> {
        self.levels.last().map(|(_, value)| value)
    }

    /// The value, if it is of the innermost subtransaction.
    pub fn own(&mut self) -> Option<&mut T> {
        let here = innermost();
        let last = self.levels.last_mut();
        last.and_then(|(of, value)| (*of == here).then_some(value))
    }

    pub fn set(&mut self, value: T) {
        match self.own() {
            Some(own) => *own = value,
            None => self.levels.push((innermost(), value)),
        }
    }

    /// Takes away what the innermost subtransaction has made of it.
    pub fn take_back(&mut self) {
        if self.own().is_some() {
            self.levels.pop();
        }
    }

    pub fn clear(&mut self) {
        self.levels.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// For [`at_partial_rollback`].
    pub fn undo(&mut self, subtransaction: pg_sys::SubTransactionId) {
        // Those that began later were within it.
        while self
            .levels
            .pop_if(|(of, _)| *of >= subtransaction)
            .is_some()
        {}
    }

    /// For [`at_partial_commit`].
    pub fn keep(
        &mut self,
        subtransaction: pg_sys::SubTransactionId,
        parent: pg_sys::SubTransactionId,
    ) {
        let Some((_, value)) = self.levels.pop_if(|(of, _)| *of == subtransaction) else {
            return;
        };
        self.levels.pop_if(|(of, _)| *of == parent);
        self.levels.push((parent, value));
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn ends(event: pg_sys::XactEvent::Type, forget: *mut c_void) {
    use pg_sys::XactEvent::*;
    if matches!(
        event,
        XACT_EVENT_COMMIT | XACT_EVENT_ABORT | XACT_EVENT_PREPARE
    ) {
        // SAFETY: registered by `at_end`, where it was a function of this type.
        let forget: fn() = unsafe { std::mem::transmute(forget) };
        forget();
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn is_undone(
    event: pg_sys::SubXactEvent::Type,
    sub: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    undo: *mut c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        // SAFETY: registered by `at_partial_rollback`, where it was a function of this type.
        let undo: fn(pg_sys::SubTransactionId) = unsafe { std::mem::transmute(undo) };
        undo(sub);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn is_kept(
    event: pg_sys::SubXactEvent::Type,
    sub: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    keep: *mut c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB {
        // SAFETY: registered by `at_partial_commit`, where it was a function of this type.
        let keep: fn(pg_sys::SubTransactionId, pg_sys::SubTransactionId) =
            unsafe { std::mem::transmute(keep) };
        keep(sub, parent);
    }
}
