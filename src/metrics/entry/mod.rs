//! Entering a session before its children are written: how this transaction will change its
//! numbers is decided once, before the foreign-key check of the new row locks the session.
//!
//! - at once: the session's row is locked, and updated when the statement is done. So it is
//!   while nobody else is at it.
//! - appended: to the log that the worker folds into the row. So it is while others are at it,
//!   or the row has been updated many times of late.
//! - in turn: as at once, but the transaction waits for the row. So it is without a worker.
//!
//! Whoever locks the row never waits for it while holding anything that the end of the session
//! waits for: the end locks the row first and then waits for the appenders.

mod busy;
mod capacity;
mod keep;
mod read;

pub use busy::updated;
use busy::{is_bursting, is_busy, note_busy};
pub use capacity::{admit, check_places, reserve, reserve_several, was_overtaken};
pub use keep::{enter_in_order, keep, try_keep};
pub use read::{Entered, check_gone, exists, no_such_session, place, sessions};
use read::{lock_known_row, read};

use crate::metrics::{fold, hot, log, worker};
use crate::pg::error::Result;
use crate::pg::heap::{Locked, Strength};
use crate::pg::lock::{Lock, Mode};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::transaction::{self, Moment, Scoped};
use pgrx::Uuid;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// How a transaction changes the numbers of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum WritePath {
    /// It has the row.
    Row,
    /// It has the row, and nobody else is about to change the number of viewers.
    Places,
    /// It appends.
    Log,
}

/// More sessions than this in one transaction are entered by their rows alone: the server has
/// room for so many other locks.
const MANY_SESSIONS: usize = 500;

#[derive(Clone, Copy)]
struct Taken {
    path: WritePath,
    has_appended: bool,
    /// Others may have come between a viewer of this statement and the next one.
    was_overtaken: bool,
}

thread_local! {
    static TAKEN: RefCell<HashMap<Uuid, Scoped<Taken>>> = RefCell::new(HashMap::new());
    static LAST: Cell<Option<(Moment, Uuid, Entered)>> = const { Cell::new(None) };
    static LOCK: Plan = const { Plan::writing(
        c"select from public.live_stream_sessions where id = $1 for no key update",
        &[pg_sys::UUIDOID],
    ) };
    static TRY_LOCK: Plan = const { Plan::writing(
        c"select from public.live_stream_sessions where id = $1 for no key update skip locked",
        &[pg_sys::UUIDOID],
    ) };
}

/// Forgets with each transaction what it held, and with each rollback to a savepoint what was held
/// since. Called once per backend.
pub fn watch_transactions() {
    keep::watch_transactions();
    capacity::watch_transactions();
    transaction::at_end(|| {
        TAKEN.with_borrow_mut(HashMap::clear);
        LAST.set(None);
    });
    transaction::at_partial_rollback(|sub| {
        LAST.set(None);
        TAKEN.with_borrow_mut(|taken| {
            taken.retain(|_, held| {
                held.undo(sub);
                !held.is_empty()
            });
        });
    });
    transaction::at_partial_commit(|sub, parent| {
        TAKEN.with_borrow_mut(|taken| {
            taken.values_mut().for_each(|held| held.keep(sub, parent));
        });
    });
}

fn taken(session: Uuid) -> Option<Taken> {
    TAKEN.with_borrow(|all| all.get(&session).and_then(Scoped::get).copied())
}

fn take(session: Uuid, taken: Taken) {
    TAKEN.with_borrow_mut(|all| {
        let held = all.entry(session).or_insert_with(Scoped::new);
        held.set(taken);
    });
}

pub fn held(session: Uuid) -> Option<WritePath> {
    taken(session).map(|held| held.path)
}

fn hold(session: Uuid, path: WritePath) {
    take(
        session,
        Taken {
            path,
            has_appended: false,
            was_overtaken: false,
        },
    );
}

/// Enters a session that this transaction is about to change the numbers of; none where it does
/// not exist. A statement that writes many rows of one session asks the database once.
pub fn enter(session: Uuid) -> Result<Option<Entered>> {
    if let Some((moment, id, entered)) = LAST.get()
        && id == session
        && moment == Moment::now()
    {
        return Ok(Some(entered));
    }
    let entered = match held(session) {
        Some(_) => read(session)?,
        None => {
            worker::look();
            choose(session)?
        }
    };
    remember(session, entered);
    Ok(entered)
}

fn remember(session: Uuid, entered: Option<Entered>) {
    LAST.set(entered.map(|entered| (Moment::now(), session, entered)));
}

/// Notes that this transaction has appended a change of a session.
pub fn appended(session: Uuid) {
    if let Some(held) = taken(session).filter(|held| !held.has_appended) {
        take(
            session,
            Taken {
                has_appended: true,
                ..held
            },
        );
    }
}

/// True for an appender that can become another: it has not appended yet, and its lock belongs to
/// the innermost subtransaction.
fn can_leave_log(session: Uuid) -> bool {
    TAKEN.with_borrow_mut(|all| {
        let held = all.get_mut(&session).and_then(Scoped::own);
        held.is_some_and(|held| held.path == WritePath::Log && !held.has_appended)
    })
}

/// Takes the row of a session for a change that must be checked against it. Who has not appended
/// yet stops being an appender first: whoever ends the session has the row and waits for those.
pub fn switch_to_row(session: Uuid) -> Result<()> {
    if can_leave_log(session) {
        leave_log(session);
        lock_row(session)?;
    }
    Ok(())
}

/// Chooses the path and reads the session; none where it does not exist.
fn choose(session: Uuid) -> Result<Option<Entered>> {
    let many = TAKEN.with_borrow(HashMap::len) >= MANY_SESSIONS;
    if !many && !transaction::has_fixed_snapshot() && !is_busy(session) && !is_bursting(session) {
        let turn = Lock::Turn(session);
        if turn.try_now(Mode::Alone) {
            if try_lock_row(session)? {
                hold(session, WritePath::Row);
                return read(session);
            }
            turn.give_back(Mode::Alone);
        }
        if read(session)?.is_none() {
            return Ok(None);
        }
        note_busy(session);
    }
    if many {
        lock_row(session)?;
    } else {
        choose_log(session)?;
    }
    let entered = read(session)?;
    if entered.is_none() && held(session) == Some(WritePath::Log) {
        leave_log(session);
    }
    Ok(entered)
}

/// Undoes [`choose_log`] where nothing has been appended yet.
fn leave_log(session: Uuid) {
    TAKEN.with_borrow_mut(|all| {
        if let Some(held) = all.get_mut(&session) {
            held.take_back();
            if held.is_empty() {
                all.remove(&session);
            }
        }
    });
    Lock::Flow(session).give_back(Mode::Shared);
}

fn choose_log(session: Uuid) -> Result<WritePath> {
    let flow = Lock::Flow(session);
    flow.wait(Mode::Shared);
    if worker::is_available()? {
        hold(session, WritePath::Log);
        return Ok(WritePath::Log);
    }
    flow.give_back(Mode::Shared);
    lock_row(session)?;
    if !log::is_empty()? || !hot::is_empty()? {
        // Left by a worker: without one, nobody else folds it.
        fold::whole(session)?;
        hot::forget(session)?;
    }
    Ok(WritePath::Row)
}

/// True with the row of a session locked; false if somebody else has it, or there is none.
fn try_lock_row(session: Uuid) -> Result<bool> {
    match lock_known_row(session, Strength::Change, false)? {
        Locked::Yes => Ok(true),
        Locked::Busy => Ok(false),
        Locked::Moved => Ok(as_owner(|| plan::execute(&TRY_LOCK, &[session.into()]))? > 0),
    }
}

fn lock_row(session: Uuid) -> Result<WritePath> {
    if lock_known_row(session, Strength::Change, true)? == Locked::Moved {
        as_owner(|| plan::execute(&LOCK, &[session.into()]))?;
    }
    hold(session, WritePath::Row);
    Ok(WritePath::Row)
}

/// How this transaction changes the numbers of a session, which it enters if it has not yet;
/// none where it does not exist.
pub fn write_path(session: Uuid) -> Result<Option<WritePath>> {
    match held(session) {
        Some(path) => Ok(Some(path)),
        None => Ok(enter(session)?.and_then(|_| held(session))),
    }
}

/// Holds the session as one whose end, or whose count, this transaction is about to write.
pub fn hold_for_end(session: Uuid) {
    hold(session, WritePath::Places);
    LAST.set(None);
}

/// Makes the end of a session wait for this transaction, without choosing a path yet; but without a worker, where there
/// is only one, and who takes it later would wait for the session's row with the flow in hand.
pub fn keep_open(session: Uuid) -> Result<()> {
    if held(session).is_none() {
        let flow = Lock::Flow(session);
        flow.wait(Mode::Shared);
        if !worker::is_available()? {
            flow.give_back(Mode::Shared);
            enter(session)?;
        }
    }
    Ok(())
}

/// As [`keep_open`], and nobody limits the places meanwhile. False, with nothing kept, where they are limited by now.
pub fn keep_unlimited(session: Uuid) -> Result<bool> {
    keep_open(session)?;
    let is_limited = read(session)?.is_some_and(|entered| entered.max_viewers.is_some());
    if is_limited && held(session).is_none() {
        Lock::Flow(session).give_back(Mode::Shared);
    }
    Ok(!is_limited)
}
