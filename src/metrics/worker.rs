//! Whether a background worker folds what is appended to the log: one is started by who appends first,
//! without `shared_preload_libraries`. What it does is in `src/worker`.

use super::{hot, log};
use crate::pg::background;
use crate::pg::catalog;
use crate::pg::error::Result;
use crate::pg::lock::{Lock, Mode};
use crate::pg::owner::{self, as_owner};
use crate::pg::plan::{self, Plan};
use crate::pg::transaction::is_on_standby;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::cell::Cell;
use std::time::{Duration, Instant};

static FLUSH_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(100);
static WORKER: GucSetting<bool> = GucSetting::<bool>::new(true);

pub fn define_settings() {
    GucRegistry::define_int_guc(
        c"live_stream.flush_interval",
        c"How often the numbers of a session are updated while many people change them.",
        c"Read by the background worker as it starts, and when the configuration is loaded again.",
        &FLUSH_INTERVAL,
        10,
        60_000,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_bool_guc(
        c"live_stream.background_worker",
        c"Whether changes of a busy session are left to a background worker.",
        c"When off, each transaction waits for the session's row and updates it itself.",
        &WORKER,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// How often the worker updates the row of a session.
pub fn flush_interval() -> Duration {
    Duration::from_millis(FLUSH_INTERVAL.get().max(1) as u64)
}

/// How long a backend trusts that a worker it has seen is there.
pub const TRUST: Duration = Duration::from_millis(50);
/// How long a backend does without a worker that could not be started.
const GIVE_UP: Duration = Duration::from_secs(1);
/// How long a worker may take to start.
const START: Duration = Duration::from_secs(2);

thread_local! {
    static IS_ME: Cell<bool> = const { Cell::new(false) };
    static SEEN: Cell<Option<Instant>> = const { Cell::new(None) };
    static MISSED: Cell<Option<Instant>> = const { Cell::new(None) };
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
    /// Whether this database follows another one, with the generation of the catalog.
    static FOLLOWS: Cell<Option<(u64, bool)>> = const { Cell::new(None) };
    // One that was disabled may still be in the midst of what it applies.
    static SUBSCRIBED: Plan = const { Plan::writing(
        c"select s.subenabled
            from pg_catalog.pg_subscription_rel r
            join pg_catalog.pg_subscription s on s.oid = r.srsubid
           where r.srrelid = pg_catalog.to_regclass('live_stream.metric_changes')
             and (s.subenabled or exists (select from pg_catalog.pg_stat_get_subscription(s.oid) w
                                           where w.pid is not null))",
        &[],
    ) };
}

/// Whether another server counts for this one: its log comes by a subscription. What that server
/// folds comes with the row that it has folded into, so nobody folds it here, until the
/// subscription is dropped, or disabled and at its end: then this server has taken over.
pub fn follows() -> Result<bool> {
    let generation = catalog::generation();
    if let Some((seen, follows)) = FOLLOWS.get()
        && seen == generation
    {
        return Ok(follows);
    }
    let (follows, is_lasting) = as_owner(|| {
        plan::run(&SUBSCRIBED, &[], |rows| {
            let mut all = 0..rows.len();
            let is_enabled = all.any(|row| rows.get(row, 0) == Some(true));
            Ok((rows.len() > 0, rows.len() == 0 || is_enabled))
        })
    })?;
    if is_lasting {
        FOLLOWS.set(Some((generation, follows)));
    }
    Ok(follows)
}

fn within(since: &Cell<Option<Instant>>, time: Duration) -> bool {
    since.get().is_some_and(|since| since.elapsed() < time)
}

/// Whether a worker may fold what is appended.
pub fn is_wanted() -> bool {
    WORKER.get() || IS_ME.get()
}

/// This process is the worker.
pub fn am() {
    IS_ME.set(true);
}

/// True when a worker folds what is appended from now on; starts one if there is none. The
/// caller is present in a session, which keeps the worker from ending.
pub fn is_available() -> Result<bool> {
    see_to(true)
}

/// As [`is_available`]. One who does not `wait` for a worker that it has started says no.
fn see_to(wait: bool) -> Result<bool> {
    if IS_ME.get() {
        return Ok(true);
    }
    if !WORKER.get() {
        return Ok(false);
    }
    if SEEN.with(|seen| within(seen, TRUST)) {
        return Ok(true);
    }
    if MISSED.with(|missed| within(missed, GIVE_UP)) {
        return Ok(false);
    }
    let seen = Instant::now();
    let available = !follows()? && (Lock::Worker.is_taken() || start(wait)?);
    if available {
        SEEN.set(Some(seen));
    } else {
        MISSED.set(Some(Instant::now()));
    }
    Ok(available)
}

fn start(wait: bool) -> Result<bool> {
    let owner = owner::owner()?;
    if !Lock::Start.try_now(Mode::Alone) {
        if !wait {
            return Ok(false);
        }
        // Ten thousand may wait here: in the lock's line they leave the processors to the worker.
        Lock::Start.wait(Mode::Shared);
        let running = Lock::Worker.is_taken();
        Lock::Start.give_back(Mode::Shared);
        return Ok(running);
    }
    // A prepared transaction or a long one must not keep others from starting it later.
    let worker = background::start(owner);
    let running =
        worker.is_some_and(|worker| wait && wait_for_worker(|| background::has_stopped(&worker)));
    Lock::Start.give_back(Mode::Alone);
    Ok(running)
}

/// Waits until the worker is there, or `failed` says that it does not come.
fn wait_for_worker(failed: impl Fn() -> bool) -> bool {
    let since = Instant::now();
    while since.elapsed() < START {
        let failed = failed();
        if Lock::Worker.is_taken() {
            return true;
        }
        if failed {
            return false;
        }
        pgrx::check_for_interrupts!();
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

/// As [`see_to_left`], where that is cheap: called where the engine writes, and looks once a second.
pub fn look() -> bool {
    if LOOKED.with(|looked| within(looked, Duration::from_secs(1))) {
        return false;
    }
    LOOKED.set(Some(Instant::now()));
    see_to_left()
}

/// Sees to changes that nobody folds, because server or worker were stopped. Does not wait for the worker that it starts.
/// True where there are some that no worker folds yet.
pub fn see_to_left() -> bool {
    if background::is_parallel_worker()
        || is_on_standby()
        || log::is_empty().unwrap_or(true) && hot::is_empty().unwrap_or(true)
    {
        return false;
    }
    // Without one, the next that changes something tries again.
    let is_folded = see_to(false);
    MISSED.set(None);
    is_folded.is_ok_and(|folded| !folded) && follows().is_ok_and(|follows| !follows)
}
