//! The time of events: the server's clock, never the same twice in one backend.

use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::Cell;

thread_local! {
    static LAST: Cell<i64> = const { Cell::new(i64::MIN) };
}

/// Microseconds since 2000-01-01 UTC, later than every answer before.
pub fn tick() -> i64 {
    // SAFETY: reads the clock.
    let now = unsafe { pg_sys::GetCurrentTimestamp() }.max(LAST.get().saturating_add(1));
    LAST.set(now);
    now
}

/// As PostgreSQL's type; none for what it cannot hold.
pub fn timestamp(micros: i64) -> Option<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(micros).ok()
}

/// The time of an event that happens now.
pub fn now() -> Option<TimestampWithTimeZone> {
    timestamp(tick())
}

/// When the current transaction began, as `now()`.
pub fn transaction_time() -> TimestampWithTimeZone {
    pgrx::datum::datetime_support::now()
}

/// When the current statement began, in microseconds since 2000-01-01 UTC; costs less than a look at the clock.
pub fn statement_start() -> i64 {
    // SAFETY: a plain read of this backend's state.
    unsafe { pg_sys::GetCurrentStatementStartTimestamp() }
}
