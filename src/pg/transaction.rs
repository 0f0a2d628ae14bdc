//! What a backend remembers of a transaction, and must forget with it.

use crate::pg::error::{Error, Result, SqlState};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::c_void;

/// Whether all statements of the transaction see the same moment, as in REPEATABLE READ.
pub fn has_fixed_snapshot() -> bool {
    // SAFETY: a plain read of this transaction's isolation level.
    unsafe { pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// Whether the server follows another one and takes no writes.
pub fn is_on_standby() -> bool {
    // SAFETY: a read of the server's state.
    unsafe { pg_sys::RecoveryInProgress() }
}

/// Checks that the transaction may write: not one that is read only, as every one is on a standby. The executor looks itself.
///
/// Errors: 25006, as PostgreSQL has it.
pub fn check_may_write() -> Result<()> {
    // SAFETY: a plain read of this transaction's state.
    if !unsafe { pg_sys::XactReadOnly } {
        return Ok(());
    }
    Err(Error::new(
        SqlState::READ_ONLY_TRANSACTION,
        "cannot write in a read-only transaction",
    )
    .hint("Send it by POST, and to the primary server."))
}

/// Checks that no query of several processes is under way, which may not write, and sees no more than
/// it saw as it began. So it is where a function of ours is called by one that says of itself that it is
/// parallel safe, and is not.
///
/// Errors: 25000, as PostgreSQL has it.
pub fn check_not_parallel() -> Result<()> {
    // SAFETY: a read of this backend's transaction state.
    if !unsafe { pg_sys::IsInParallelMode() } {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INVALID_TRANSACTION_STATE,
        "cannot do this during a parallel operation",
    )
    .detail("A function of live_stream that is not parallel safe was called in a parallel query.")
    .hint("Mark the function that calls it as PARALLEL UNSAFE."))
}

/// The id of the transaction, without wrap-around: it takes one where it had none.
///
/// Errors: 25000 in a parallel query.
pub fn full_id() -> Result<i64> {
    check_not_parallel()?;
    // SAFETY: a read of this backend's transaction state.
    Ok(unsafe { pg_sys::GetTopFullTransactionId() }.value as i64)
}

/// Whether the transaction has an id: it has written something, or is about to.
pub fn has_id() -> bool {
    // SAFETY: a read of this backend's transaction state.
    unsafe { pg_sys::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId }
}

/// Whether a version of a row is one that this transaction has written.
pub fn is_own(version: pg_sys::TransactionId) -> bool {
    // SAFETY: a look at this backend's transaction state.
    unsafe { pg_sys::TransactionIdIsCurrentTransactionId(version) }
}

/// The id, without wrap-around, that the next transaction to write will have.
pub fn next_full_id() -> u64 {
    // SAFETY: reads a counter of the server's.
    unsafe { pg_sys::ReadNextFullTransactionId() }.value
}

/// A moment in a transaction: nothing has been written since while two are the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The time at which the transaction began: later than that of the one before.
    transaction: pg_sys::TimestampTz,
    subtransaction: pg_sys::SubTransactionId,
    command: pg_sys::CommandId,
}

impl Moment {
    pub fn now() -> Self {
        Self {
            // SAFETY: a read of this backend's transaction state.
            transaction: unsafe { pg_sys::GetCurrentTransactionStartTimestamp() },
            subtransaction: innermost(),
            // SAFETY: a read of this backend's transaction state.
            command: unsafe { pg_sys::GetCurrentCommandId(false) },
        }
    }
}

/// Has `forget` called whenever a transaction ends, in whatever way. Called once per backend for
/// each.
pub fn at_end(forget: fn()) {
    // SAFETY: the callback lives as long as the library, which is never unloaded; its argument is
    // a function of the library's.
    unsafe { pg_sys::RegisterXactCallback(Some(ends), forget as *mut c_void) };
}

/// Has `settle` called whenever a transaction is about to commit or to be prepared, after its last statement and its
/// deferred triggers. What it writes is a part of the transaction, and its error rolls that back. Called once per backend
/// for each.
pub fn before_commit(settle: fn()) {
    // SAFETY: as above.
    unsafe { pg_sys::RegisterXactCallback(Some(commits), settle as *mut c_void) };
}

/// Has `undo` called with each subtransaction that is rolled back, as to a savepoint.
pub fn at_partial_rollback(undo: fn(pg_sys::SubTransactionId)) {
    // SAFETY: as above.
    unsafe { pg_sys::RegisterSubXactCallback(Some(is_undone), undo as *mut c_void) };
}

/// Has `keep` called with each subtransaction that becomes a part of its parent, and with that.
pub fn at_partial_commit(keep: fn(pg_sys::SubTransactionId, pg_sys::SubTransactionId)) {
    // SAFETY: as above.
    unsafe { pg_sys::RegisterSubXactCallback(Some(is_kept), keep as *mut c_void) };
}

/// The innermost subtransaction, or the transaction itself.
pub fn innermost() -> pg_sys::SubTransactionId {
    // SAFETY: a read of this backend's transaction state.
    unsafe { pg_sys::GetCurrentSubTransactionId() }
}

/// What a transaction remembers, with what each subtransaction has made of it: a rollback to a
/// savepoint leaves what was remembered before.
pub struct Scoped<T> {
    levels: Vec<(pg_sys::SubTransactionId, T)>,
}

impl<T> Scoped<T> {
    pub const fn new() -> Self {
        Self { levels: Vec::new() }
    }

    pub fn get(&self) -> Option<&T> {
        self.levels.last().map(|(_, value)| value)
    }

    /// The value, if it is of the innermost subtransaction.
    pub fn own(&mut self) -> Option<&mut T> {
        let here = innermost();
        let last = self.levels.last_mut();
        last.and_then(|(of, value)| (*of == here).then_some(value))
    }

    pub fn set(&mut self, value: T) {
        match self.own() {
            Some(own) => *own = value,
            None => self.levels.push((innermost(), value)),
        }
    }

    /// Whether nothing was remembered before the innermost subtransaction.
    pub fn is_alone(&mut self) -> bool {
        self.levels.len() == 1 && self.own().is_some()
    }

    pub fn clear(&mut self) {
        self.levels.clear();
    }

    /// For [`at_partial_rollback`].
    pub fn undo(&mut self, subtransaction: pg_sys::SubTransactionId) {
        // Those that began later were within it.
        while self
            .levels
            .pop_if(|(of, _)| *of >= subtransaction)
            .is_some()
        {}
    }

    /// For [`at_partial_commit`].
    pub fn keep(
        &mut self,
        subtransaction: pg_sys::SubTransactionId,
        parent: pg_sys::SubTransactionId,
    ) {
        let Some((_, value)) = self.levels.pop_if(|(of, _)| *of == subtransaction) else {
            return;
        };
        self.levels.pop_if(|(of, _)| *of == parent);
        self.levels.push((parent, value));
    }
}

/// What a transaction has done, in order: a rollback to a savepoint takes away what was done since.
pub struct Trail<T> {
    steps: Vec<(pg_sys::SubTransactionId, T)>,
}

impl<T> Trail<T> {
    pub const fn new() -> Self {
        Self { steps: Vec::new() }
    }

    pub fn push(&mut self, step: T) {
        self.steps.push((innermost(), step));
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.steps.iter().map(|(_, step)| step)
    }

    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// The steps, which are forgotten here.
    pub fn take(&mut self) -> Vec<T> {
        std::mem::take(&mut self.steps)
            .into_iter()
            .map(|(_, step)| step)
            .collect()
    }

    /// Forgets the steps of which `keep` says no.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.steps.retain(|(_, step)| keep(step));
    }

    pub fn clear(&mut self) {
        self.steps.clear();
        self.steps.shrink_to(FEW_STEPS);
    }

    /// For [`at_partial_rollback`]. Those that began later were within it, also where they have become a part of
    /// their parents since.
    pub fn undo(&mut self, subtransaction: pg_sys::SubTransactionId) {
        while self
            .steps
            .pop_if(|(within, _)| *within >= subtransaction)
            .is_some()
        {}
    }
}

/// Steps that a backend keeps room for between transactions.
const FEW_STEPS: usize = 1_000;

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn ends(event: pg_sys::XactEvent::Type, forget: *mut c_void) {
    use pg_sys::XactEvent::*;
    if matches!(
        event,
        XACT_EVENT_COMMIT | XACT_EVENT_ABORT | XACT_EVENT_PREPARE
    ) {
        // SAFETY: registered by `at_end`, where it was a function of this type.
        let forget: fn() = unsafe { std::mem::transmute(forget) };
        forget();
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn commits(event: pg_sys::XactEvent::Type, settle: *mut c_void) {
    use pg_sys::XactEvent::*;
    if matches!(event, XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE) {
        IS_BEING_PREPARED.set(event == XACT_EVENT_PRE_PREPARE);
        // SAFETY: registered by `before_commit`, where it was a function of this type.
        let settle: fn() = unsafe { std::mem::transmute(settle) };
        settle();
    }
}

thread_local! {
    static IS_BEING_PREPARED: Cell<bool> = const { Cell::new(false) };
}

/// For who is called [`before_commit`]: whether the transaction is to be prepared, and may hold for long what it holds now.
pub fn is_being_prepared() -> bool {
    IS_BEING_PREPARED.get()
}

unsafe extern "C-unwind" {
    // pgrx leaves these out of its bindings. The timeout's number is that of `STATEMENT_TIMEOUT` in `utils/timeout.h`.
    fn enable_timeout_after(id: std::ffi::c_uint, delay_ms: std::ffi::c_int);
    fn disable_timeout(id: std::ffi::c_uint, keep_indicator: bool);
    fn get_timeout_active(id: std::ffi::c_uint) -> bool;
}
const STATEMENT_TIMEOUT: std::ffi::c_uint = 3;

/// While it lives, `statement_timeout` runs, which PostgreSQL has stopped before a commit, but for one within a procedure. An
/// error stops all timeouts.
struct StatementTimeout {
    is_own: bool,
}

impl StatementTimeout {
    fn begin() -> Self {
        // SAFETY: a backend has registered the timeout as it began; others have none.
        unsafe {
            let is_own = pg_sys::StatementTimeout > 0
                && pg_sys::MyBackendType == pg_sys::BackendType::B_BACKEND
                && !get_timeout_active(STATEMENT_TIMEOUT);
            if is_own {
                enable_timeout_after(STATEMENT_TIMEOUT, pg_sys::StatementTimeout);
            }
            Self { is_own }
        }
    }
}

impl Drop for StatementTimeout {
    fn drop(&mut self) {
        if self.is_own {
            // SAFETY: enabled by `begin`; one that has fired meanwhile is not enabled, which is fine.
            unsafe { disable_timeout(STATEMENT_TIMEOUT, false) };
        }
    }
}

/// Runs `f` while the transaction commits, as one of its statements would run: with a snapshot and a
/// `statement_timeout` of its own, and though the transaction may have been made read only since it wrote. Deferred triggers that `f` has fired are run after it.
pub fn as_last_statement<R>(f: impl FnOnce() -> R) -> R {
    /// Puts back what it was; where an error ends the transaction, PostgreSQL does.
    struct ReadOnly(bool);
    impl Drop for ReadOnly {
        fn drop(&mut self) {
            // SAFETY: a plain write of this transaction's state.
            unsafe { pg_sys::XactReadOnly = self.0 };
        }
    }
    // SAFETY: a snapshot is pushed and popped in the same memory context; what a commit calls next expects none.
    unsafe {
        let _read_only = ReadOnly(pg_sys::XactReadOnly);
        let _timeout = StatementTimeout::begin();
        pg_sys::XactReadOnly = false;
        let context = pg_sys::MemoryContextSwitchTo(pg_sys::CurTransactionContext);
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let outcome = f();
        pg_sys::PopActiveSnapshot();
        pg_sys::AfterTriggerFireDeferred();
        pg_sys::MemoryContextSwitchTo(context);
        outcome
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn is_undone(
    event: pg_sys::SubXactEvent::Type,
    sub: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    undo: *mut c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        // SAFETY: registered by `at_partial_rollback`, where it was a function of this type.
        let undo: fn(pg_sys::SubTransactionId) = unsafe { std::mem::transmute(undo) };
        undo(sub);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn is_kept(
    event: pg_sys::SubXactEvent::Type,
    sub: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    keep: *mut c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB {
        // SAFETY: registered by `at_partial_commit`, where it was a function of this type.
        let keep: fn(pg_sys::SubTransactionId, pg_sys::SubTransactionId) =
            unsafe { std::mem::transmute(keep) };
        keep(sub, parent);
    }
}
