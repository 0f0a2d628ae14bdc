//! A write that need not outlive a crash: its transaction commits without waiting for the disk,
//! if it has written nothing else.

use crate::error::Result;
use pgrx::pg_sys;
use std::cell::Cell;

thread_local! {
    /// The command that this transaction was at after its one write.
    static AFTER: Cell<Option<pg_sys::CommandId>> = const { Cell::new(None) };
}

/// Called once per backend.
pub fn watch_transactions() {
    // SAFETY: the callback lives as long as the library, which is never unloaded.
    unsafe { pg_sys::RegisterXactCallback(Some(transaction_ends), std::ptr::null_mut()) };
}

/// Runs a write that may be lost.
pub fn writing<R>(write: impl FnOnce() -> Result<R>) -> Result<R> {
    // SAFETY: a read of this backend's transaction state.
    let first = unsafe { pg_sys::GetTopTransactionIdIfAny() } == pg_sys::InvalidTransactionId;
    let again = AFTER.get() == Some(command());
    let outcome = write()?;
    AFTER.set((first || again).then(command));
    Ok(outcome)
}

/// The number of the command that would write next: each one that writes takes another.
fn command() -> pg_sys::CommandId {
    // SAFETY: as PostgreSQL does between the commands of a transaction.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::GetCurrentCommandId(false)
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn transaction_ends(
    event: pg_sys::XactEvent::Type,
    _arg: *mut std::ffi::c_void,
) {
    use pg_sys::XactEvent::*;
    match event {
        XACT_EVENT_PRE_COMMIT if AFTER.get().is_some_and(|after| after == command()) => {
            // SAFETY: a setting that every role may change, for the rest of this transaction.
            unsafe {
                pg_sys::set_config_option(
                    c"synchronous_commit".as_ptr(),
                    c"off".as_ptr(),
                    pg_sys::GucContext::PGC_USERSET,
                    pg_sys::GucSource::PGC_S_SESSION,
                    pg_sys::GucAction::GUC_ACTION_LOCAL,
                    true,
                    0,
                    false,
                );
            }
        }
        XACT_EVENT_COMMIT | XACT_EVENT_ABORT | XACT_EVENT_PREPARE => AFTER.set(None),
        _ => {}
    }
}
