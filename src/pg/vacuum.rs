//! VACUUM, run by a background worker.

use crate::pg::background;
use pgrx::PgTryBuilder;
use pgrx::pg_sys;
use std::ffi::CStr;
use std::panic::AssertUnwindSafe;

/// The context that a VACUUM keeps its state in, beyond the transactions that it begins and ends;
/// gone with its end, however it ends.
struct VacuumContext {
    context: pg_sys::MemoryContext,
    portal_context: pg_sys::MemoryContext,
}

impl VacuumContext {
    fn begin() -> Self {
        // SAFETY: a context of this process's own; PortalContext is where VACUUM puts its own.
        unsafe {
            let context = pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                c"live_stream vacuum".as_ptr(),
                0,
                8 * 1024,
                8 * 1024 * 1024,
            );
            let portal_context = pg_sys::PortalContext;
            pg_sys::PortalContext = context;
            Self {
                context,
                portal_context,
            }
        }
    }
}

impl Drop for VacuumContext {
    /// Between transactions: nothing refers to the context any more.
    fn drop(&mut self) {
        // SAFETY: made by `begin`, deleted once, and not the current one: a transaction that has
        // ended leaves another.
        unsafe {
            pg_sys::PortalContext = self.portal_context;
            pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
            pg_sys::MemoryContextDelete(self.context);
        }
    }
}

/// Runs a VACUUM statement, between transactions, where `is_installed`; a failure is logged.
pub fn run(sql: &CStr, is_installed: fn() -> bool) {
    background::check_between_transactions();
    let vacuum = VacuumContext::begin();
    PgTryBuilder::new(AssertUnwindSafe(|| {
        // SAFETY: between transactions, as a client's VACUUM; the statement is parsed into the
        // context that VACUUM itself keeps its state in.
        unsafe {
            pg_sys::StartTransactionCommand();
            if !is_installed() {
                pg_sys::CommitTransactionCommand();
                return;
            }
            let before = pg_sys::MemoryContextSwitchTo(vacuum.context);
            let tree =
                pgrx::PgList::<pg_sys::RawStmt>::from_pg(pg_sys::pg_parse_query(sql.as_ptr()));
            let is_vacuum =
                |raw: &*mut pg_sys::RawStmt| (*(**raw).stmt).type_ == pg_sys::NodeTag::T_VacuumStmt;
            if let Some(raw) = tree.get_ptr(0).filter(is_vacuum) {
                let state = pg_sys::make_parsestate(std::ptr::null_mut());
                (*state).p_sourcetext = sql.as_ptr();
                pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
                pg_sys::ExecVacuum(state, (*raw).stmt.cast(), true);
            }
            pg_sys::MemoryContextSwitchTo(before);
            pg_sys::CommitTransactionCommand();
        }
    }))
    .catch_others(|caught| {
        pgrx::warning!("live_stream could not vacuum its tables: {caught:?}");
        // SAFETY: ends whatever VACUUM had begun.
        unsafe { pg_sys::AbortCurrentTransaction() };
    })
    .execute();
}
