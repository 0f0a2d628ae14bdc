//! The background worker of a database: folds appended changes into their sessions' rows while
//! there are any, and ends when there are none.
//!
//! It is started by who appends first, needs no `shared_preload_libraries`, and runs as the
//! owner of the tables. It does not end while an appender is still uncommitted: it gives up its
//! lock, waits until nobody can believe any more that it is there, and looks once again.

use super::log::{self, Entry};
use super::timeline::Timeline;
use super::{fold, hot};
use crate::metrics::entry;
use crate::pg::error::Result;
use crate::pg::lock::{FLOW_CLASS, Lock, Mode};
use crate::pg::owner::{self, as_owner};
use crate::pg::plan::{self, Plan};
use crate::pg::transaction::is_on_standby;
use crate::pg::{catalog, heap};
use crate::schedule;
use pgrx::Uuid;
use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BackgroundWorkerStatus, DynamicBackgroundWorker,
    SignalWakeFlags,
};
use pgrx::pg_sys;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PgTryBuilder};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CStr;
use std::panic::AssertUnwindSafe;
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

/// How long a backend trusts that a worker it has seen is there.
const TRUST: Duration = Duration::from_millis(50);
/// How long a backend does without a worker that could not be started.
const GIVE_UP: Duration = Duration::from_secs(1);
/// How long a worker may take to start.
const START: Duration = Duration::from_secs(2);
/// Turns that the worker holds at the same time, at most. The other sessions it folds when nobody
/// has their rows just then.
const MAX_TURNS: usize = 500;
/// How often a worker waits for the lock that makes it the only one.
const BECOME_TRIES: u32 = 10;
/// How often the worker sees to schedules while it is there.
const TICK: Duration = Duration::from_secs(10);
/// How long the worker stays when there is nothing to do.
const IDLE: Duration = Duration::from_secs(2);
/// How long a session is left alone whose row could not be updated.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Rounds without a change after which a session is left to its writers again.
const QUIET_ROUNDS: u32 = 3;
/// When and how often old versions of a folded row are removed, so that few pass them.
const PRUNE_AFTER: Duration = Duration::from_millis(5);
const PRUNE_TRIES: usize = 4;
/// Folded changes after which the log is vacuumed.
const VACUUM_AFTER: usize = 5_000;
/// How often a worker that may end tries to empty the log, which somebody may be reading just then.
const EMPTY_TRIES: u32 = 3;
/// Moves of hot rows to other pages after which the sessions are vacuumed, and how seldom. Old
/// versions are pruned away, so autovacuum sees few and never comes; but the room in the pages
/// that a row has left is only found again after a vacuum.
const VACUUM_AFTER_MOVES: usize = 16;
const VACUUM_PAUSE: Duration = Duration::from_secs(60);

thread_local! {
    static SEEN: Cell<Option<Instant>> = const { Cell::new(None) };
    static MISSED: Cell<Option<Instant>> = const { Cell::new(None) };
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
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
    static COUNT: Plan = const { Plan::writing(
        c"update live_stream.metric_worker
             set folds = folds + $1, changes = changes + $2, folded_at = clock_timestamp()
           where server = $3",
        &[pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID],
    ) };
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

/// The system identifier of this server, as `pg_control_system()` has it.
fn server() -> i64 {
    // SAFETY: reads what the server has read as it started.
    unsafe { pg_sys::GetSystemIdentifier() as i64 }
}

/// Whether another server counts for this one: its log comes by a subscription. What that server
/// folds comes with the row that it has folded into, so nobody folds it here, until the
/// subscription is dropped, or disabled and at its end: then this server has taken over.
fn follows() -> Result<bool> {
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

/// True when a worker folds what is appended from now on; starts one if there is none. The
/// caller holds a flow lock, which keeps the worker from ending.
pub fn is_available() -> Result<bool> {
    see_to(true)
}

/// As [`is_available`]. One who does not `wait` for a worker that it has started says no.
fn see_to(wait: bool) -> Result<bool> {
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
    let worker = can_log_in(owner).then(|| register(owner)).flatten();
    let running = worker.is_some_and(|worker| {
        wait && wait_for_worker(|| matches!(worker.pid(), Err(BackgroundWorkerStatus::Stopped)))
    });
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

fn register(owner: pg_sys::Oid) -> Option<DynamicBackgroundWorker> {
    // SAFETY: a plain read of this backend's state.
    let database = unsafe { pg_sys::MyDatabaseId };
    BackgroundWorkerBuilder::new("live_stream metrics")
        .set_type("live_stream metrics")
        .set_library("live_stream")
        .set_function("live_stream_metrics_worker")
        .enable_spi_access()
        .set_restart_time(None)
        .set_argument(Some(pg_sys::Datum::from(database)))
        .set_extra(&owner.to_u32().to_string())
        .load_dynamic()
        .ok()
}

/// Sees to changes that nobody folds, because server or worker were stopped: called where the
/// engine writes, and looks once a second. Does not wait for the worker that it starts.
pub fn look() {
    if LOOKED.with(|looked| within(looked, Duration::from_secs(1))) {
        return;
    }
    LOOKED.set(Some(Instant::now()));
    // SAFETY: a plain read of this backend's state.
    let is_parallel = unsafe { pg_sys::ParallelWorkerNumber >= 0 };
    if !is_parallel
        && !is_on_standby()
        && (log::is_empty().is_ok_and(|empty| !empty) || hot::is_empty().is_ok_and(|empty| !empty))
    {
        // Without one, the next that changes something tries again.
        let _ = see_to(false);
        MISSED.set(None);
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

const LOG: (&std::ffi::CStr, &std::ffi::CStr) = (c"live_stream", c"metric_changes");

/// What the worker knows of a session while it is hot.
struct Session {
    timeline: Timeline,
    quiet: u32,
    /// When the row was updated last, as far as the worker knows.
    updated: i64,
    has_turn: bool,
    tries: u32,
    /// The page of the row when it was seen last.
    block: Option<pg_sys::BlockNumber>,
    /// Left alone until then, after a failure that is not the worker's, such as an app's trigger.
    not_before: Instant,
}

/// The server has room for so many locks of all backends; the worker takes a small part of it.
fn max_turns() -> usize {
    // SAFETY: plain reads of settings that need a restart.
    let room = unsafe { i64::from(pg_sys::max_locks_per_xact) * i64::from(pg_sys::MaxBackends) };
    usize::try_from(room / 16).map_or(1, |room| room.clamp(1, MAX_TURNS))
}

impl Session {
    /// Hot for a reason that the worker knows nothing of yet.
    fn new() -> Self {
        Self {
            timeline: Timeline::new(i64::MAX, 0, 0),
            quiet: 0,
            updated: i64::MIN,
            has_turn: false,
            tries: 0,
            block: None,
            not_before: Instant::now(),
        }
    }

    /// Takes the turn, so that writers append from now on. They come one after the other: it is
    /// waited for in their line, but not for long, as one of them may take its time.
    fn take_turn(&mut self, session: Uuid) {
        if self.has_turn {
            return;
        }
        let turn = Lock::Turn(session);
        transaction_quietly(|| self.has_turn = turn.try_keep(Mode::Alone));
        self.tries = self.tries.saturating_add(1);
        if !self.has_turn && self.tries.is_power_of_two() {
            self.has_turn = transaction_quietly(|| turn.keep(Mode::Alone));
        }
        if self.has_turn {
            self.tries = 0;
        }
    }
}

/// What became of the changes of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// So many.
    Folded(usize),
    /// For a reason that is not the worker's, such as an app's trigger.
    Failed,
    /// Somebody else has the row.
    Busy,
    /// There is no such session any more.
    Gone,
}

/// Entry of the worker. Ends with code 0 when it is not needed any more: it is not started again.
#[pgrx::pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn live_stream_metrics_worker(database: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    end_when_told();
    let owner: u32 = BackgroundWorker::get_extra().parse().unwrap_or(0);
    BackgroundWorker::connect_worker_to_spi_by_oid(
        Some(pg_sys::Oid::from(database.value() as u32)),
        Some(pg_sys::Oid::from(owner)),
    );
    for (name, value) in SETTINGS {
        // SAFETY: settings that every role may change, for this process; RESET comes back to them.
        unsafe {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
    if !become_the_worker() {
        return;
    }
    let mut worker = Worker::default();
    if !worker.begin() {
        return;
    }
    let mut busy = Instant::now();
    let mut ticked: Option<Instant> = None;
    let mut round = Instant::now();
    loop {
        let pause = Duration::from_millis(FLUSH_INTERVAL.get().max(1) as u64);
        if !BackgroundWorker::wait_latch(Some(pause.saturating_sub(round.elapsed()))) {
            // Asked to stop. What is pending is folded by the worker after this one.
            return;
        }
        if BackgroundWorker::sighup_received() {
            // SAFETY: between transactions.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
        }
        pgrx::check_for_interrupts!();
        if round.elapsed() < pause {
            // Woken for something else, as when the catalog changes: no row is updated more often.
            continue;
        }
        round = Instant::now();
        reset_settings();
        if transaction(follows) != Some(Ok(false)) {
            // Another server counts from now on.
            return;
        }
        let did = worker.round();
        // SAFETY: between transactions; autovacuum must hear of what was deleted.
        unsafe { pg_sys::pgstat_report_stat(false) };
        match did {
            Some(true) => busy = Instant::now(),
            Some(false) => {}
            None => return,
        }
        if ticked.is_none_or(|ticked| ticked.elapsed() >= TICK) {
            ticked = Some(Instant::now());
            if transaction(|| as_owner(schedule::tick)).is_none() {
                return;
            }
            reset_settings();
            if !Lock::Worker.still_keeps(Mode::Alone) {
                return;
            }
        }
        if busy.elapsed() >= IDLE && worker.sessions.is_empty() {
            match worker.may_end() {
                Some(true) => return,
                Some(false) => busy = Instant::now(),
                None => return,
            }
        }
    }
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

/// Undoes what an app's trigger has set in this process for longer than its transaction.
fn reset_settings() {
    // SAFETY: as RESET ALL does, between transactions.
    unsafe { pg_sys::ResetAllOptions() };
}

/// Takes the worker's lock, unless another has it. It is waited for in line: each who looks whether
/// there is a worker holds it for a moment, and where many look, one always does.
fn become_the_worker() -> bool {
    (0..BECOME_TRIES).any(|_| transaction_quietly(|| Lock::Worker.keep(Mode::Alone)))
}

/// Runs `f` in a transaction; none when the extension is gone, or `f` failed, which is logged.
fn transaction<R>(f: impl FnOnce() -> Result<R>) -> Option<Result<R, ()>> {
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
fn transaction_quietly(f: impl FnOnce()) -> bool {
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

/// The extension may be dropped, or its tables, while the worker runs.
fn is_installed() -> bool {
    // SAFETY: a look-up by name.
    let extension = unsafe { pg_sys::get_extension_oid(c"live_stream".as_ptr(), true) };
    extension != pg_sys::InvalidOid
        && catalog::relation_id(LOG.0, LOG.1).is_some()
        && catalog::relation_id(LOG.0, c"metric_sessions").is_some()
        && catalog::relation_id(LOG.0, c"metric_worker").is_some()
        && catalog::relation_id(c"public", c"live_stream_sessions").is_some()
}

#[derive(Default)]
struct Worker {
    sessions: HashMap<Uuid, Session>,
    folded_since_vacuum: usize,
    moved_since_vacuum: usize,
    sessions_vacuumed: Option<Instant>,
    /// Attempts to empty the log since there was something to do.
    emptied: u32,
}

impl Worker {
    /// Takes over what a worker before has left; false where there is nothing to work on.
    fn begin(&mut self) -> bool {
        let left = transaction(|| {
            if follows()? {
                return Ok(None);
            }
            as_owner(|| plan::execute(&NOTE, &[server().into()]))?;
            hot::left_over().map(Some)
        });
        let Some(Ok(Some(left))) = left else {
            return false;
        };
        self.take_over(left);
        true
    }

    /// Sessions that were left hot, with whether their peak is in doubt.
    fn take_over(&mut self, left: Vec<(Uuid, bool)>) {
        for (session, doubtful) in left {
            let mut known = Session::new();
            known.timeline.doubtful = doubtful;
            self.sessions.insert(session, known);
        }
    }

    /// Folds what is pending; true if there was anything, none when the extension is gone.
    fn round(&mut self) -> Option<bool> {
        let mut left_alone: BTreeSet<Uuid> = self
            .sessions
            .iter()
            .filter(|(_, known)| known.not_before > Instant::now())
            .map(|(id, _)| *id)
            .collect();
        let mut found = !left_alone.is_empty();
        let (mut folds, mut changes) = (0, 0);
        let mut folded = BTreeSet::new();
        let mut from = Some(0);
        while let Some(page) = from {
            let read = || log::read(page, None, &left_alone);
            let Ok(pending) = transaction(read)? else {
                return Some(true);
            };
            // What is known to be complete is so of all the sessions that were read to the end.
            let complete_before = if page == 0 && pending.next.is_none() {
                hot::full(pending.complete_before)
            } else {
                hot::INCOMPLETE
            };
            from = pending.next;
            found |= !pending.entries.is_empty();
            for (id, entries) in by_session(pending.entries) {
                pgrx::check_for_interrupts!();
                match self.fold(id, &entries, complete_before)? {
                    Outcome::Folded(count) => {
                        folds += 1;
                        changes += count;
                        folded.insert(id);
                    }
                    Outcome::Gone => {}
                    Outcome::Busy | Outcome::Failed => {
                        left_alone.insert(id);
                    }
                }
            }
        }
        for id in &left_alone {
            // Something of them may be pending still.
            if let Some(known) = self.sessions.get_mut(id) {
                known.quiet = 0;
            }
        }
        if found {
            self.emptied = 0;
        }
        if folds > 0 {
            let args = [
                i64::from(folds).into(),
                (changes as i64).into(),
                server().into(),
            ];
            transaction(|| as_owner(|| plan::execute(&COUNT, &args)))?.ok();
            self.folded_since_vacuum += changes;
        }
        // Once those who saw the old versions are done, nobody needs them.
        for _ in 0..PRUNE_TRIES {
            if folded.is_empty() {
                break;
            }
            std::thread::sleep(PRUNE_AFTER);
            let blocks = transaction(|| prune(&folded))?.unwrap_or_default();
            self.note_blocks(&blocks);
        }
        self.cool_down()?;
        if self.folded_since_vacuum >= VACUUM_AFTER {
            self.folded_since_vacuum = 0;
            vacuum(VACUUM_LOG);
        }
        if self.moved_since_vacuum >= VACUUM_AFTER_MOVES
            && self
                .sessions_vacuumed
                .is_none_or(|at| at.elapsed() >= VACUUM_PAUSE)
        {
            self.moved_since_vacuum = 0;
            self.sessions_vacuumed = Some(Instant::now());
            vacuum(VACUUM_SESSIONS);
        }
        Some(found)
    }

    /// Folds entries of a session into its row, and remembers what the row has if that is
    /// committed; none when the extension is gone, or another is the worker.
    fn fold(&mut self, id: Uuid, entries: &[Entry], complete_before: i64) -> Option<Outcome> {
        let session = id;
        let has_turn = |known: &&Session| known.has_turn;
        let may_take_turn = self.sessions.values().filter(has_turn).count() < max_turns();
        let known = self.sessions.entry(id).or_insert_with(Session::new);
        known.quiet = 0;
        if may_take_turn {
            known.take_turn(session);
        }
        let fold = || fold_session(session, entries, known, complete_before);
        let (outcome, updated) = match transaction(fold)? {
            Ok(done) => done,
            Err(()) => (Outcome::Failed, None),
        };
        // An app's trigger has run.
        reset_settings();
        if !Lock::Worker.still_keeps(Mode::Alone) {
            return None;
        }
        known.has_turn = known.has_turn && Lock::Turn(session).still_keeps(Mode::Alone);
        if let Some((timeline, at)) = updated {
            known.timeline = timeline;
            known.updated = at;
        }
        match outcome {
            Outcome::Gone => {
                if known.has_turn {
                    Lock::Turn(session).let_go(Mode::Alone);
                }
                self.sessions.remove(&id);
            }
            Outcome::Failed => known.not_before = Instant::now() + AFTER_FAILURE,
            Outcome::Folded(_) | Outcome::Busy => {}
        }
        Some(outcome)
    }

    /// Where the rows of hot sessions are now.
    fn note_blocks(&mut self, blocks: &[(Uuid, pg_sys::BlockNumber)]) {
        for (session, block) in blocks {
            if let Some(known) = self.sessions.get_mut(&session) {
                let before = known.block.replace(*block);
                self.moved_since_vacuum += usize::from(before.is_some_and(|it| it != *block));
            }
        }
    }

    /// Leaves the sessions that nobody changes any more to their writers.
    fn cool_down(&mut self) -> Option<()> {
        let mut cold = Vec::new();
        for (id, session) in &mut self.sessions {
            session.quiet += 1;
            if session.quiet > QUIET_ROUNDS {
                cold.push(*id);
            }
        }
        for id in cold {
            let Some(mut state) = self.sessions.remove(&id) else {
                continue;
            };
            let session = id;
            let doubtful = state.timeline.doubtful;
            let outcome = transaction(|| {
                // Who counts places notes that with the row locked: never wait for it.
                if fold::lock(session, false)?.is_some() {
                    // Another worker may have been in doubt, and noted it since this one began.
                    if doubtful || hot::is_doubtful(session)? {
                        fold::count_peak(session)?;
                    }
                } else if exists(session)? {
                    return Ok(false);
                }
                hot::forget(session)?;
                Ok(true)
            })?;
            if outcome == Ok(true) {
                if state.has_turn {
                    Lock::Turn(session).let_go(Mode::Alone);
                }
            } else {
                state.quiet = 0;
                self.sessions.insert(id, state);
            }
        }
        Some(())
    }

    /// Whether nobody needs the worker any more; if so, it has given up its lock.
    fn may_end(&mut self) -> Option<bool> {
        let appenders = || {
            let class = i32::from(FLOW_CLASS);
            let waiting = as_owner(|| plan::execute(&APPENDERS, &[class.into()]))?;
            Ok(waiting > 0 || log::has(None)?)
        };
        if transaction(appenders)? != Ok(false) {
            return Some(false);
        }
        // Somebody else has folded what would have told of them.
        let left = transaction(hot::left_over)?.unwrap_or_default();
        if !left.is_empty() {
            self.take_over(left);
            return Some(false);
        }
        // VACUUM would try again for seconds to give room back while somebody reads the log.
        vacuum(if nobody_uses_the_log() {
            TRUNCATE_LOG
        } else {
            VACUUM_LOG
        });
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

fn exists(session: Uuid) -> Result<bool> {
    Ok(place(&sessions()?, session)?.is_some())
}

fn sessions() -> Result<heap::Table> {
    heap::Table::read(c"public", c"live_stream_sessions")
}

fn place(sessions: &heap::Table, session: Uuid) -> Result<Option<pg_sys::ItemPointerData>> {
    let mut place = None;
    sessions.find(
        c"public",
        c"live_stream_sessions_pkey",
        &[("id", session)],
        |row| {
            place = Some(row.place());
            Ok(false)
        },
    )?;
    Ok(place)
}

/// Frees the pages of sessions from their old versions, where nobody uses them just now.
/// Returns where they are.
fn prune(folded: &BTreeSet<Uuid>) -> Result<Vec<(Uuid, pg_sys::BlockNumber)>> {
    let sessions = sessions()?;
    let mut blocks = Vec::with_capacity(folded.len());
    for session in folded {
        let session = *session;
        if let Some(place) = place(&sessions, session)? {
            sessions.prune(place);
            blocks.push((session, heap::block_of(&place)));
        }
    }
    Ok(blocks)
}

/// The timeline of a session with what was folded, and when its row was updated.
type Updated = Option<(Timeline, i64)>;

/// Folds entries into a session's row. What is `known` stays as it is: the transaction may fail yet.
fn fold_session(
    session: Uuid,
    entries: &[Entry],
    known: &Session,
    complete_before: i64,
) -> Result<(Outcome, Updated)> {
    let Some(state) = fold::lock(session, false)? else {
        if exists(session)? {
            return Ok((Outcome::Busy, None));
        }
        entry::check_gone()?;
        log::take(entries.iter().copied())?;
        hot::forget(session)?;
        return Ok((Outcome::Gone, None));
    };
    let mut timeline = known.timeline.clone();
    if known.updated != state.at || timeline.now() != (state.level, state.peak) {
        // Others have changed the row meanwhile.
        let doubtful = timeline.doubtful;
        timeline = state.timeline();
        timeline.doubtful = doubtful;
    }
    let mut folded = fold::Folded::into(timeline);
    folded.take(entries.iter().copied())?;
    let peak = folded.peak();
    let at = if folded.delta.is_nothing() && peak == state.peak {
        state.at
    } else {
        fold::add(session, &folded.delta, peak)?
    };
    let changes = folded.changes;
    hot::note(session, complete_before, folded.timeline.doubtful, changes)?;
    Ok((Outcome::Folded(changes), Some((folded.timeline, at))))
}

fn by_session(entries: Vec<(Uuid, Entry)>) -> BTreeMap<Uuid, Vec<Entry>> {
    let mut by_session: BTreeMap<Uuid, Vec<Entry>> = BTreeMap::new();
    for (session, entry) in entries {
        by_session.entry(session).or_default().push(entry);
    }
    by_session
}

fn nobody_uses_the_log() -> bool {
    let free = transaction(|| {
        let log = catalog::relation_id(LOG.0, LOG.1);
        // SAFETY: the lock goes with the transaction.
        Ok(log.is_some_and(|log| unsafe {
            pg_sys::ConditionalLockRelationOid(log, pg_sys::AccessExclusiveLock as i32)
        }))
    });
    free == Some(Ok(true))
}

const TRUNCATE_LOG: &CStr = c"vacuum (skip_locked) live_stream.metric_changes, live_stream.metric_sessions, live_stream.metric_worker";
const VACUUM_LOG: &CStr = c"vacuum (skip_locked, truncate off) live_stream.metric_changes, live_stream.metric_sessions, live_stream.metric_worker";
const VACUUM_SESSIONS: &CStr = c"vacuum (skip_locked, truncate off) public.live_stream_sessions";

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

/// Runs a VACUUM, which frees the room of what was folded.
fn vacuum(sql: &CStr) {
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
            if let Some(raw) = tree.get_ptr(0) {
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
