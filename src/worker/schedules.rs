//! What has to be done for schedules now and then: sessions of what is coming, and reminders.

use crate::metrics;
use crate::notifications;
use crate::pg::error::{OrRaise, Result};
use crate::pg::owner::as_owner;
use crate::schedule;
use pgrx::prelude::*;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// How often sessions to make are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The most sessions that the worker makes at once: it has other things to do, and makes the others
/// the next time.
const AT_ONCE: usize = 500;

thread_local! {
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Makes the sessions of coming occurrences, once a minute, and writes the reminders that are due; in a
/// transaction and as the owner of the tables.
pub fn tick() -> Result<()> {
    run(AT_ONCE)
}

fn run(most: usize) -> Result<()> {
    let now = Instant::now();
    let looked = LOOKED.get();
    if looked.is_none_or(|last| now.duration_since(last) >= LOOK_EVERY)
        && schedule::make_coming_sessions(most)?
    {
        LOOKED.set(Some(now));
    }
    notifications::remind().map(|_| ())
}

/// What has to be done for schedules now and then: sessions of the coming eight days are made,
/// and reminders that are due are written.
#[pg_extern(volatile)]
fn run_schedules() {
    metrics::worker::look();
    as_owner(|| run(usize::MAX)).or_raise();
}
