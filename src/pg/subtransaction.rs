//! A part of a transaction that can be undone, and gives back the locks that it took.

use crate::pg::error::Result;
use pgrx::PgTryBuilder;
use pgrx::pg_sys;
use std::panic::AssertUnwindSafe;

/// How often to begin anew before going on with what there is.
const PATIENCE: usize = 10;

/// Takes locks in one order, where only whoever holds them sees which are needed: `take` returns
/// nothing when it has found one more, which comes before others that it holds; all are given back
/// then, and it is called again. When it is told that this is the last time it takes that one too,
/// out of order, and returns.
///
/// Errors: those of `take`, undone; 25000 in a parallel query.
pub fn take_in_order<R>(mut take: impl FnMut(bool) -> Result<Option<R>>) -> Result<R> {
    for round in 0.. {
        pgrx::check_for_interrupts!();
        if let Some(taken) = attempt(|| take(round >= PATIENCE))? {
            return Ok(taken);
        }
    }
    unreachable!("the rounds do not end")
}

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
