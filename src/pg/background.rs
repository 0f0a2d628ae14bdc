//! Background workers of PostgreSQL: started without `shared_preload_libraries`, and what such a
//! process does with itself, such as beginning and ending its transactions.

use crate::pg::callback::Callback;
use crate::pg::error::{OrRaise, Result};
use pgrx::PgTryBuilder;
use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BackgroundWorkerStatus, DynamicBackgroundWorker,
    SignalWakeFlags,
};
use pgrx::pg_sys;
use std::ffi::CStr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

/// The system identifier of this server, as `pg_control_system()` has it.
pub fn system_identifier() -> i64 {
    // SAFETY: reads what the server has read as it started.
    unsafe { pg_sys::GetSystemIdentifier() as i64 }
}

/// Whether this process works for a parallel query of another.
pub fn is_parallel_worker() -> bool {
    // SAFETY: a plain read of this backend's state.
    unsafe { pg_sys::ParallelWorkerNumber >= 0 }
}

/// What the worker does, given its database as PostgreSQL hands it over.
pub static METRICS_WORKER: Callback<fn(pg_sys::Datum)> = Callback::new("run the background worker");

/// Where PostgreSQL begins the worker. One that returns ends with code 0, and is not started again.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn live_stream_metrics_worker(database: pg_sys::Datum) {
    METRICS_WORKER.get().or_raise()(database);
}

/// Starts the worker in this database, which runs as a role; none where the server has no room for one, or
/// the role may not log in.
pub fn start(role: pg_sys::Oid) -> Option<DynamicBackgroundWorker> {
    if !can_log_in(role) {
        return None;
    }
    // SAFETY: a plain read of this backend's state.
    let database = unsafe { pg_sys::MyDatabaseId };
    BackgroundWorkerBuilder::new("live_stream metrics")
        .set_type("live_stream metrics")
        .set_library("live_stream")
        .set_function("live_stream_metrics_worker")
        .enable_spi_access()
        .set_restart_time(None)
        .set_argument(Some(pg_sys::Datum::from(database)))
        .set_extra(&role.to_u32().to_string())
        .load_dynamic()
        .ok()
}

/// Whether a worker that was started has ended, or could not begin.
pub fn has_stopped(worker: &DynamicBackgroundWorker) -> bool {
    matches!(worker.pid(), Err(BackgroundWorkerStatus::Stopped))
}

/// Before PostgreSQL 17, a worker cannot run as a role that may not log in.
fn can_log_in(role: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in the system cache; the tuple is released after the copy.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::AUTHOID as i32,
            pg_sys::Datum::from(role),
        );
        if tuple.is_null() {
            return false;
        }
        let can = (*(pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_authid)).rolcanlogin;
        pg_sys::ReleaseSysCache(tuple);
        can
    }
}

/// Connects this process, which [`start`] has begun, to its database as its role, with `settings`
/// that a RESET comes back to.
pub fn begin(database: pg_sys::Datum, settings: &[(&CStr, &CStr)]) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    end_when_told();
    let role: u32 = BackgroundWorker::get_extra().parse().unwrap_or(0);
    BackgroundWorker::connect_worker_to_spi_by_oid(
        Some(pg_sys::Oid::from(database.value() as u32)),
        Some(pg_sys::Oid::from(role)),
    );
    for (name, value) in settings {
        // SAFETY: settings that every role may change, for this process.
        unsafe {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
}

/// Ends the worker as PostgreSQL ends its own backends: also in the midst of something that takes
/// its time, such as an app's trigger. What is pending is folded by the worker after this one.
fn end_when_told() {
    unsafe extern "C-unwind" {
        fn die(signal: std::ffi::c_int);
    }
    // SAFETY: a signal handler of PostgreSQL's own.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(pg_sys::SIGTERM as i32, Some(die));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(pg_sys::SIGTERM as i32, Some(die));
    }
}

/// What ends or begins transactions of its own is for a background worker, between two of them.
pub fn check_between_transactions() {
    // SAFETY: plain reads of this process's state.
    let allowed = unsafe {
        !pg_sys::IsTransactionState() && pg_sys::MyBackendType == pg_sys::BackendType::B_BG_WORKER
    };
    if !allowed {
        pgrx::error!("not between the transactions of a background worker");
    }
}

/// Waits, and loads the configuration anew where somebody has asked for that; false when this process
/// is asked to stop.
pub fn wait(time: Duration) -> bool {
    check_between_transactions();
    if !BackgroundWorker::wait_latch(Some(time)) {
        return false;
    }
    if BackgroundWorker::sighup_received() {
        // SAFETY: between transactions.
        unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
    }
    pgrx::check_for_interrupts!();
    true
}

/// Undoes what an app's trigger has set in this process for longer than its transaction.
pub fn reset_settings() {
    check_between_transactions();
    // SAFETY: as RESET ALL does, between transactions.
    unsafe { pg_sys::ResetAllOptions() };
}

/// Tells of what was written, so that autovacuum hears of it.
pub fn report_statistics() {
    check_between_transactions();
    // SAFETY: between transactions.
    unsafe { pg_sys::pgstat_report_stat(false) };
}

/// Runs `f` in a transaction of this process, if `is_installed` there; none where it is not, an error where
/// `f` failed, which is logged.
pub fn transaction<R>(
    is_installed: fn() -> bool,
    f: impl FnOnce() -> Result<R>,
) -> Option<Result<R, ()>> {
    check_between_transactions();
    // SAFETY: between transactions of this worker; each that is started is ended below.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::StartTransactionCommand();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
    }
    let outcome = PgTryBuilder::new(AssertUnwindSafe(|| {
        if !is_installed() {
            return Some(Err(false));
        }
        let outcome = f().map_err(|error| {
            pgrx::warning!("the background worker of live_stream failed: {error}");
            true
        });
        if outcome.is_ok() {
            // Here, as an app's deferred trigger may refuse it.
            // SAFETY: ends the transaction that was started above.
            unsafe {
                pg_sys::PopActiveSnapshot();
                pg_sys::CommitTransactionCommand();
            }
        }
        Some(outcome)
    }))
    .catch_others(|caught| {
        pgrx::warning!("the background worker of live_stream failed: {caught:?}");
        Some(Err(true))
    })
    .execute();
    match outcome {
        Some(Ok(value)) => Some(Ok(value)),
        Some(Err(failed)) => {
            // SAFETY: ends the transaction that was started above.
            unsafe { pg_sys::AbortCurrentTransaction() };
            failed.then_some(Err(()))
        }
        None => None,
    }
}

/// Runs `f`, which may give up waiting, in a transaction; false if it did.
pub fn transaction_quietly(f: impl FnOnce()) -> bool {
    check_between_transactions();
    // SAFETY: as in `transaction`.
    unsafe { pg_sys::StartTransactionCommand() };
    let done = PgTryBuilder::new(AssertUnwindSafe(|| {
        f();
        true
    }))
    .catch_others(|_| false)
    .execute();
    // SAFETY: ends the transaction that was started above.
    unsafe {
        if done {
            pg_sys::CommitTransactionCommand();
        } else {
            pg_sys::AbortCurrentTransaction();
        }
    }
    done
}

/// The server has room for so many locks of all backends at the same time.
pub fn room_for_locks() -> i64 {
    // SAFETY: plain reads of settings that need a restart.
    unsafe { i64::from(pg_sys::max_locks_per_xact) * i64::from(pg_sys::MaxBackends) }
}
