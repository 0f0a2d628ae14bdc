//! Entering a session before something of it is written: this transaction is present there until it ends, and reads the
//! session as it is.
//!
//! Whoever is present holds nothing that another waits for: the lock is shared, and only counted. Who is alone as it
//! commits updates the session's row; where others are present, or the worker is, a change is appended to the log that the
//! worker folds into the row. `settle.rs` does both.

mod keep;
mod places;
mod read;

pub use keep::{keep, keep_or_fail, try_keep};
pub use places::{Place, admit, check_places, take_place};
pub use read::{
    Entered, check_gone, exists, lock_row, may_write, no_such_session, people, place, sessions,
    try_lock_row,
};
use read::{lock_known_row, read};

use crate::metrics::worker;
use crate::pg::background;
use crate::pg::error::Result;
use crate::pg::lock::{Lock, Mode};
use crate::pg::transaction::{self, Moment, innermost};
use pgrx::Uuid;
use pgrx::pg_sys;
use places::Base;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// A transaction is present in so many sessions at most, and takes the seats of so many one by one: the server has room
/// for so many locks of all.
pub fn many_sessions() -> usize {
    usize::try_from(background::room_for_locks() / 64).map_or(1, |room| room.clamp(1, 100))
}

/// How this transaction is in a session.
#[derive(Clone, Copy)]
struct Present {
    within: pg_sys::SubTransactionId,
    /// The transaction had its id before it was present.
    needs_new_id: bool,
    /// What its backend knew of the places before the first viewer came.
    base: Option<Base>,
}

thread_local! {
    static PRESENT: RefCell<HashMap<Uuid, Present>> = RefCell::new(HashMap::new());
    static LAST: Cell<Option<(Moment, Uuid, Entered)>> = const { Cell::new(None) };
}

/// Forgets with each transaction where it was, and with each rollback to a savepoint where it was since. Called once per
/// backend.
pub fn watch_transactions() {
    keep::watch_transactions();
    transaction::at_end(|| {
        PRESENT.with_borrow_mut(HashMap::clear);
        LAST.set(None);
    });
    transaction::at_partial_rollback(|sub| {
        LAST.set(None);
        PRESENT.with_borrow_mut(|all| all.retain(|_, present| present.within < sub));
    });
}

fn present(session: Uuid) -> Option<Present> {
    PRESENT.with_borrow(|all| all.get(&session).copied())
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
    come_in(session);
    let entered = read(session)?;
    LAST.set(entered.map(|entered| (Moment::now(), session, entered)));
    Ok(entered)
}

/// Makes this transaction present in a session, if it is not yet.
pub fn come_in(session: Uuid) {
    if present(session).is_some() || PRESENT.with_borrow(HashMap::len) >= many_sessions() {
        return;
    }
    worker::look();
    let needs_new_id = transaction::has_id();
    Lock::Present(session).wait(Mode::Shared);
    let within = innermost();
    PRESENT.with_borrow_mut(|all| {
        all.insert(
            session,
            Present {
                within,
                needs_new_id,
                base: None,
            },
        )
    });
}

/// The session as it is now, for who settles what it has changed there.
pub fn now(session: Uuid) -> Result<Option<Entered>> {
    read(session)
}

/// Whether this transaction is present in the session, so that the worker stays to fold what it appends.
pub fn is_present(session: Uuid) -> bool {
    present(session).is_some()
}

/// Whether this transaction is present in the session, no other one is, and the worker leaves it alone.
pub fn is_alone(session: Uuid) -> bool {
    is_present(session) && Lock::Present(session).others() == 0 && !Lock::Hot(session).is_taken()
}
