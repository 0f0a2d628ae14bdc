//! The background worker of a database. It has four jobs: it folds appended changes into their sessions'
//! rows ([`rounds`]), keeps the tables it writes small ([`housekeeping`]), sees to schedules and reminders
//! ([`schedules`]), and ends when nobody needs it.
//!
//! It runs as the owner of the tables. It does not end while an appender is still uncommitted: it
//! gives up its lock, waits until nobody can believe any more that it is there, and looks once again.

mod housekeeping;
mod rounds;
mod schedules;

use crate::metrics::worker::{TRUST, am, flush_interval, follows};
use crate::metrics::{hot, log};
use crate::pg::background;
use crate::pg::catalog;
use crate::pg::error::Result;
use crate::pg::lock::{Lock, Mode, PRESENT_CLASS};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use housekeeping::Housekeeping;
use pgrx::pg_sys;
use rounds::HotSessions;
use std::ffi::CStr;
use std::time::{Duration, Instant};

/// How often a worker waits for the lock that makes it the only one.
const BECOME_TRIES: u32 = 10;
/// How often the worker sees to schedules while it is there.
const TICK: Duration = Duration::from_secs(10);
/// How long the worker stays when there is nothing to do.
const IDLE: Duration = Duration::from_secs(2);
/// How often a worker that may end tries to empty the log, which somebody may be reading just then.
const EMPTY_TRIES: u32 = 3;

thread_local! {
    static APPENDERS: Plan = const { Plan::writing(
        c"select from pg_locks
           where locktype = 'advisory' and objsubid = $1
             and database = (select oid from pg_database where datname = current_database())",
        &[pg_sys::INT4OID],
    ) };
    static NOTE: Plan = const { Plan::writing(
        c"insert into live_stream.metric_worker as w (server, pid, started_at)
          values ($1, pg_backend_pid(), clock_timestamp())
          on conflict (server) do update
            set pid = excluded.pid, started_at = excluded.started_at, starts = w.starts + 1",
        &[pg_sys::INT8OID],
    ) };
}

/// What the worker has otherwise than its database and its role.
const SETTINGS: [(&CStr, &CStr); 5] = [
    (c"default_transaction_read_only", c"off"),
    (c"default_transaction_isolation", c"read committed"),
    // What a crash takes away is folded again.
    (c"synchronous_commit", c"off"),
    (c"jit", c"off"),
    // For the turn of a session, and the worker's own lock.
    (c"lock_timeout", c"20ms"),
];

/// Called once per backend.
pub fn register() {
    background::METRICS_WORKER.register(|database| {
        background::begin(database, &SETTINGS);
        run();
    });
}

/// The worker's life. It returns where it is not needed any more, or is asked to stop: what is pending
/// then is folded by the worker after this one.
fn run() -> Option<()> {
    if !become_the_worker() {
        return None;
    }
    am();
    let mut worker = Worker::default();
    worker.take_over_from_before()?;
    let mut busy = Instant::now();
    let mut ticked: Option<Instant> = None;
    let mut has_more = false;
    let mut round = Instant::now();
    while background::wait(flush_interval().saturating_sub(round.elapsed())) {
        if round.elapsed() < flush_interval() {
            // Woken for something else, as when the catalog changes: no row is updated more often.
            continue;
        }
        round = Instant::now();
        background::reset_settings();
        if transaction(follows)? != Ok(false) {
            // Another server counts from now on.
            return None;
        }
        let found = worker.hot.round(&mut worker.housekeeping)?;
        background::report_statistics();
        if found {
            worker.emptied = 0;
            busy = Instant::now();
        }
        if has_more || ticked.is_none_or(|ticked| ticked.elapsed() >= TICK) {
            ticked = Some(Instant::now());
            // What failed is logged, and tried again the next time.
            has_more = transaction(|| as_owner(schedules::tick))?.unwrap_or(false);
            background::reset_settings();
            if !Lock::Worker.still_keeps(Mode::Alone) {
                return None;
            }
        }
        if busy.elapsed() >= IDLE && worker.hot.is_empty() {
            if worker.may_end()? {
                return None;
            }
            busy = Instant::now();
        }
    }
    None
}

/// As [`background::transaction`], where the extension and its tables are there.
fn transaction<R>(f: impl FnOnce() -> Result<R>) -> Option<Result<R, ()>> {
    background::transaction(is_installed, f)
}

/// Takes the worker's lock, unless another has it. It is waited for in line: each who looks whether
/// there is a worker holds it for a moment, and where many look, one always does.
fn become_the_worker() -> bool {
    (0..BECOME_TRIES).any(|_| background::transaction_quietly(|| Lock::Worker.keep(Mode::Alone)))
}

/// The extension may be dropped, or its tables, while the worker runs.
fn is_installed() -> bool {
    let engine = [c"metric_changes", c"metric_sessions", c"metric_worker"];
    catalog::has_extension(c"live_stream")
        && engine
            .iter()
            .all(|table| catalog::relation_id(c"live_stream", table).is_some())
        && catalog::relation_id(c"public", c"live_stream_sessions").is_some()
}

#[derive(Default)]
struct Worker {
    hot: HotSessions,
    housekeeping: Housekeeping,
    /// Attempts to empty the log since there was something to do.
    emptied: u32,
}

impl Worker {
    /// Takes over what a worker before has left; none where there is nothing to work on.
    fn take_over_from_before(&mut self) -> Option<()> {
        let left = transaction(|| {
            if follows()? {
                return Ok(None);
            }
            as_owner(|| plan::execute(&NOTE, &[background::system_identifier().into()]))?;
            hot::left_over().map(Some)
        });
        self.hot.take_over(left?.ok()??);
        Some(())
    }

    /// Whether nobody needs the worker any more; if so, it has given up its lock.
    fn may_end(&mut self) -> Option<bool> {
        let appenders = || {
            let waiting = as_owner(|| plan::execute(&APPENDERS, &[PRESENT_CLASS.into()]))?;
            Ok(waiting > 0 || log::has(None)?)
        };
        if transaction(appenders)? != Ok(false) {
            return Some(false);
        }
        // Somebody else has folded what would have told of them.
        let left = transaction(hot::left_over)?.unwrap_or_default();
        if !left.is_empty() {
            self.hot.take_over(left);
            return Some(false);
        }
        housekeeping::shrink_log();
        // A reader or a transaction that began before keeps the pages; a long one is not waited for.
        self.emptied += 1;
        if self.emptied < EMPTY_TRIES && transaction(log::is_empty)? != Ok(true) {
            return Some(false);
        }
        Lock::Worker.let_go(Mode::Alone);
        std::thread::sleep(TRUST * 2);
        if transaction(appenders)? == Ok(false) {
            return Some(true);
        }
        Some(!become_the_worker())
    }
}
