//! Keeping a session from being deleted while something of it is written.

use super::{lock_known_row, no_such_session};
use crate::pg::catalog::relation_id;
use crate::pg::error::Result;
use crate::pg::heap::{Locked, Strength, Table};
use crate::pg::keep::{self, Kept, Wait};
use crate::pg::transaction;
use pgrx::Uuid;
use std::cell::Cell;

thread_local! {
    /// The session that this transaction has kept last.
    static KEPT: Cell<Option<Uuid>> = const { Cell::new(None) };
}

/// Forgets with each transaction what it kept. Called once per backend.
pub fn watch_transactions() {
    transaction::at_end(|| KEPT.set(None));
    transaction::at_partial_rollback(|_| KEPT.set(None));
}

/// Makes the deletion of a session wait for this transaction, before a row that refers to it is
/// written; and waits for one that is under way.
///
/// Errors: PT404 where the session is gone.
pub fn keep(session: Uuid) -> Result<()> {
    if KEPT.get() == Some(session) {
        return Ok(());
    }
    if try_keep(session, Wait::Always)? != Kept::Yes {
        return Err(no_such_session(session));
    }
    KEPT.set(Some(session));
    Ok(())
}

/// As [`keep`], for who has a row of the session already, and may want more of them: whoever deletes the session has it, and
/// wants all of them, so waiting for it here would be a circle.
///
/// Errors: PT409 where somebody is deleting the session, or changes its key; PT404 where it is gone.
pub fn keep_or_fail(session: Uuid) -> Result<()> {
    if KEPT.get() == Some(session) {
        return Ok(());
    }
    match try_keep(session, Wait::Never)? {
        Kept::Yes => KEPT.set(Some(session)),
        Kept::Gone => return Err(no_such_session(session)),
        Kept::Leaving => return Err(keep::is_leaving("session", session)),
    }
    Ok(())
}

/// As [`keep`], for who can do without the session.
pub fn try_keep(session: Uuid, wait: Wait) -> Result<Kept> {
    // Where it was read a moment ago, without looking for it.
    if wait == Wait::Always && lock_known_row(session, Strength::Deletion, true)? == Locked::Yes {
        return Ok(Kept::Yes);
    }
    let index = relation_id(c"public", c"live_stream_sessions_pkey");
    let sessions = Table::lock_rows(c"public", c"live_stream_sessions")?;
    keep::row(&sessions, index, session, wait)
}
