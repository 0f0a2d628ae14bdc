//! Keeping a session from being deleted while something of it is written, and entering several.

use super::{WritePath, held, lock_known_row, no_such_session, switch_to_row, write_path};
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
    // Whoever has the row has it against deletion too.
    if KEPT.get() == Some(session)
        || matches!(held(session), Some(WritePath::Row | WritePath::Places))
    {
        return Ok(());
    }
    if try_keep(session, Wait::Always)? != Kept::Yes {
        return Err(no_such_session(session));
    }
    KEPT.set(Some(session));
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

/// Enters the sessions of a statement that changes several of them, from the lowest id to the
/// highest; each with whether its change is too large to be appended. So those who wait for a
/// session have none that whoever they wait for still needs.
pub fn enter_in_order(sessions: impl IntoIterator<Item = (Uuid, bool)>) -> Result<()> {
    for (session, is_large) in sessions {
        if write_path(session)? == Some(WritePath::Log) && is_large {
            switch_to_row(session)?;
        }
    }
    Ok(())
}
