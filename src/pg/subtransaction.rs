//! A part of a transaction that can be undone, and gives back the locks that it took.

use crate::pg::error::Result;
use crate::pg::transaction;
use pgrx::PgTryBuilder;
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::CaughtError;
use std::panic::AssertUnwindSafe;

/// How often to begin anew before going on with what there is.
const MOST_ROUNDS: usize = 10;

/// Takes locks in one order, where only whoever holds them sees which are needed: `take` returns
/// nothing when it has found one more, which comes before others that it holds; all are given back
/// then, and it is called again. When it is told that this is the last time it takes that one too,
/// out of order, and returns.
///
/// Errors: those of `take`, undone; 25000 in a parallel query.
pub fn take_in_order<R>(mut take: impl FnMut(bool) -> Result<Option<R>>) -> Result<R> {
    for round in 0.. {
        pgrx::check_for_interrupts!();
        if let Some(taken) = attempt(|| take(round >= MOST_ROUNDS))? {
            return Ok(taken);
        }
    }
    unreachable!("the rounds do not end")
}

/// Runs `f`, and gives back what it has locked.
///
/// Errors: those of `f`; 25000 in a parallel query.
pub fn and_undo(f: impl FnOnce() -> Result<()>) -> Result<()> {
    attempt(|| f().map(|()| None::<()>)).map(drop)
}

/// Runs `f`, which waits for no lock for longer than a moment; none, undone, where it would.
///
/// Errors: those of `f`, undone; 25000 in a parallel query.
pub fn without_waiting<R>(f: impl FnOnce() -> Result<R>) -> Result<Option<R>> {
    /// Puts back what it was.
    struct LockTimeout(i32);
    impl Drop for LockTimeout {
        fn drop(&mut self) {
            // SAFETY: a plain write of a setting of this backend's, which each wait reads as it begins.
            unsafe { pg_sys::LockTimeout = self.0 };
        }
    }
    // SAFETY: a plain read of a backend global, and as above; in milliseconds.
    let (callbacks, _timeout) = unsafe {
        let before = LockTimeout(pg_sys::LockTimeout);
        pg_sys::LockTimeout = 1;
        (pg_sys::error_context_stack, before)
    };
    let outcome = PgTryBuilder::new(AssertUnwindSafe(|| attempt(|| f().map(Some))))
        .catch_when(PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, |_| Ok(None))
        .execute();
    // SAFETY: as it was on entry: an error leaves the callbacks of those who raised it.
    unsafe { pg_sys::error_context_stack = callbacks };
    outcome
}

/// Takes one more transaction id, for a transaction that may have one already.
///
/// Errors: 25000 in a parallel query.
pub fn take_new_id() -> Result<()> {
    attempt(|| {
        transaction::check_not_parallel()?;
        // SAFETY: of the subtransaction that `attempt` has begun.
        unsafe { pg_sys::GetCurrentTransactionId() };
        Ok(Some(()))
    })
    .map(drop)
}

/// Runs `f` within a subtransaction; false where it failed, which is logged and undone. A request to stop
/// is no failure of `f`'s, and ends the transaction.
///
/// Errors: 25000 in a parallel query.
pub fn try_or_undo<R>(f: impl FnOnce() -> Result<R>) -> Result<bool> {
    // SAFETY: a plain read of a backend global.
    let callbacks = unsafe { pg_sys::error_context_stack };
    let outcome = PgTryBuilder::new(AssertUnwindSafe(|| {
        attempt(|| f().map(Some)).map(|_| true).or_else(|error| {
            pgrx::warning!("left out: {error}");
            Ok(false)
        })
    }))
    .catch_others(|caught| {
        if let CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) = &caught
            && !STOPS.contains(&report.sql_error_code())
        {
            pgrx::warning!("left out: {}", report.message());
            return Ok(false);
        }
        caught.rethrow()
    })
    .execute();
    // SAFETY: as it was on entry: an error leaves the callbacks of those who raised it.
    unsafe { pg_sys::error_context_stack = callbacks };
    outcome
}

/// A request to stop: by a cancel or a timeout, or as the server goes down.
const STOPS: [PgSqlErrorCode; 4] = [
    PgSqlErrorCode::ERRCODE_QUERY_CANCELED,
    PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN,
    PgSqlErrorCode::ERRCODE_CRASH_SHUTDOWN,
    PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
];

/// Runs `f` within a subtransaction, which is kept where `f` returns something, and undone
/// otherwise: rows that it locked and wrote, and locks that it took for the transaction.
///
/// Errors: those of `f`, undone; 25000 in a parallel query.
fn attempt<R>(f: impl FnOnce() -> Result<Option<R>>) -> Result<Option<R>> {
    // SAFETY: reads of this backend's state, which are set back below in every case; PostgreSQL
    // itself refuses a subtransaction where there can be none.
    let (context, owner) = unsafe {
        let before = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(before.0);
        before
    };
    let end = |keep: bool| {
        // SAFETY: ends the subtransaction that was begun above, once: subtransactions within it
        // are ended where they were begun, in the same way.
        unsafe {
            if keep {
                pg_sys::ReleaseCurrentSubTransaction();
            } else {
                pg_sys::RollbackAndReleaseCurrentSubTransaction();
            }
            pg_sys::MemoryContextSwitchTo(context);
            pg_sys::CurrentResourceOwner = owner;
        }
    };
    let outcome = PgTryBuilder::new(AssertUnwindSafe(f))
        .catch_others(|caught| {
            end(false);
            caught.rethrow()
        })
        .catch_rust_panic(|caught| {
            end(false);
            caught.rethrow()
        })
        .execute();
    end(matches!(outcome, Ok(Some(_))));
    outcome
}
