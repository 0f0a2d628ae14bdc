//! What has to be done for schedules now and then: sessions of what is coming, and reminders.
//!
//! It is done a slice at a time, so that it keeps nobody waiting: what is left is gone on with in the next slice.

use crate::metrics;
use crate::notifications;
use crate::pg::error::{OrRaise, Result};
use crate::pg::owner::as_owner;
use crate::schedule;
use pgrx::prelude::*;
use std::time::{Duration, Instant};

/// How long the worker is at it between two folds.
const SLICE: Duration = Duration::from_millis(50);

/// How long a call of the server's is at it.
const CALL: Duration = Duration::from_secs(2);

/// Makes sessions of coming occurrences and writes reminders that are due, in a transaction and as the owner of
/// the tables; true when more is left.
pub fn tick() -> Result<bool> {
    run(SLICE)
}

/// Each has half of the time, and what the other leaves of its own.
fn run(time: Duration) -> Result<bool> {
    let began = Instant::now();
    let end = began + time;
    let mut making = schedule::make_coming_sessions(began + time / 2)?;
    let reminding = notifications::remind(end)?.has_more;
    if making && Instant::now() < end {
        making = schedule::make_coming_sessions(end)?;
    }
    Ok(reminding || making)
}

/// What has to be done for schedules now and then: sessions of the coming eight days are made,
/// and reminders that are due are written, for two seconds at most; true when more is left.
#[pg_extern(volatile)]
fn run_schedules() -> bool {
    let run_all = || {
        if metrics::worker::see_to_left() {
            metrics::settle::fold_at_end(None)?;
        }
        as_owner(|| run(CALL))
    };
    run_all().or_raise()
}
