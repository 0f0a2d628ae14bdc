//! Asynchronous commit of a write that need not outlive a crash, such as a heartbeat: its transaction
//! does not wait for the disk, if it has written nothing else.
//!
//! Whatever could be lost with it is in the write-ahead log: rows, sequences, messages of other
//! extensions. So what counts is whether the backend has logged anything but this. What an app has
//! put on the table, such as a trigger, may write more with it: then it is not alone.

use crate::pg::catalog;
use crate::pg::error::Result;
use crate::pg::heap::Table;
use crate::pg::{settings, tables, transaction};
use pgrx::pg_sys;
use std::cell::Cell;

/// A position in the write-ahead log.
type Position = pg_sys::XLogRecPtr;

thread_local! {
    /// Where the log ended for this transaction after its one write.
    static AFTER: Cell<Option<Position>> = const { Cell::new(None) };
    /// With the generation of the catalog.
    static RUNS_NO_CODE: Cell<Option<(u64, bool)>> = const { Cell::new(None) };
}

/// Called once per backend.
pub fn watch_transactions() {
    transaction::at_end(|| AFTER.set(None));
    // SAFETY: the callback lives as long as the library, which is never unloaded.
    unsafe { pg_sys::RegisterXactCallback(Some(transaction_ends), std::ptr::null_mut()) };
}

/// Runs a write of heartbeats, which may be lost.
pub fn writing<R>(write: impl FnOnce() -> Result<R>) -> Result<R> {
    let before = logged();
    let alone = (before == NOTHING || AFTER.get() == Some(before)) && runs_no_code()?;
    let generation = catalog::generation();
    let outcome = write()?;
    // Something may have been put on the table while the write waited for it.
    let alone = alone && catalog::generation() == generation;
    AFTER.set(alone.then(logged));
    Ok(outcome)
}

/// Whether no code of the app's runs with a heartbeat.
fn runs_no_code() -> Result<bool> {
    let generation = catalog::generation();
    if let Some((seen, runs_none)) = RUNS_NO_CODE.get()
        && seen == generation
    {
        return Ok(runs_none);
    }
    let heartbeats = Table::read(c"public", c"live_stream_heartbeats")?;
    let runs_none = tables::table("public", "live_stream_heartbeats")
        .is_some_and(|wanted| heartbeats.runs_no_code(wanted));
    RUNS_NO_CODE.set(Some((generation, runs_none)));
    Ok(runs_none)
}

const NOTHING: Position = 0;

/// The end of the last record that this transaction has logged.
fn logged() -> Position {
    // SAFETY: a read of this backend's transaction state.
    unsafe { pg_sys::XactLastRecEnd }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn transaction_ends(
    event: pg_sys::XactEvent::Type,
    _arg: *mut std::ffi::c_void,
) {
    if event == pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT
        && AFTER.get().is_some_and(|after| after == logged())
    {
        settings::set_local(c"synchronous_commit", c"off");
    }
}
