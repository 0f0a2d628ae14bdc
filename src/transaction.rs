//! What a backend remembers of a transaction, and must forget with it.

use pgrx::pg_sys;
use std::ffi::c_void;

/// Whether all statements of the transaction see the same moment, as in REPEATABLE READ.
pub fn has_fixed_snapshot() -> bool {
    // SAFETY: a plain read of this transaction's isolation level.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
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
