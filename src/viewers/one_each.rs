//! A client's statement makes one viewer row, and brings one back: a list of rows would be a crowd of one person's making.

use super::people;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::transaction::{self, Scoped};
use crate::pg::trigger::{self, Outcome};
use pgrx::Uuid;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;

/// A statement on viewers that is under way, or was.
struct Running {
    /// As [`trigger::statement`] tells it from others.
    statement: usize,
    has_made: bool,
    has_brought_back: bool,
}

thread_local! {
    static RUNNING: RefCell<Vec<Running>> = const { RefCell::new(Vec::new()) };
    /// The viewer that this transaction has made in a session by the function that joins.
    static MADE: RefCell<HashMap<Uuid, Scoped<Uuid>>> = RefCell::new(HashMap::new());
}

/// So many statements can be under way within one another.
const DEEPEST: usize = 64;

/// Called once per backend.
pub fn watch_transactions() {
    transaction::at_end(|| {
        RUNNING.with_borrow_mut(Vec::clear);
        MADE.with_borrow_mut(HashMap::clear);
    });
    transaction::at_partial_rollback(|sub| {
        MADE.with_borrow_mut(|made| made.values_mut().for_each(|made| made.undo(sub)));
    });
    transaction::at_partial_commit(|sub, parent| {
        MADE.with_borrow_mut(|made| made.values_mut().for_each(|made| made.keep(sub, parent)));
    });
}

/// Notes the viewer that the function that joins has made.
pub fn note_made(session: Uuid, viewer: Uuid) {
    MADE.with_borrow_mut(|made| made.entry(session).or_insert_with(Scoped::new).set(viewer));
}

/// The viewer that it has made in this session, in this transaction.
pub fn made(session: Uuid) -> Option<Uuid> {
    MADE.with_borrow(|made| made.get(&session).and_then(Scoped::get).copied())
}

/// In a BEFORE trigger for each statement: it has done nothing so far, whatever one before it did.
pub fn begin(trigger: &PgTrigger<'_>) {
    let Some(statement) = trigger::statement(trigger) else {
        return;
    };
    RUNNING.with_borrow_mut(|running| {
        running.retain(|other| other.statement != statement);
        if running.len() == DEEPEST {
            running.remove(0);
        }
        running.push(Running {
            statement,
            has_made: false,
            has_brought_back: false,
        });
    });
}

/// BEFORE INSERT of a statement.
#[pg_trigger]
fn viewers_begin_insert<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    begin(trigger);
    people::act().or_raise();
    Ok(None)
}

/// Notes that a client's statement makes a viewer row.
///
/// Errors: 22023 for its second one.
pub fn make(trigger: &PgTrigger<'_>) -> Result<()> {
    let was_done = |running: &mut Running| std::mem::replace(&mut running.has_made, true);
    if !note(trigger, was_done) {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INVALID_PARAMETER,
        "a request makes one viewer, and this one has several",
    )
    .detail("None of them has joined.")
    .hint("Send one row, and no list: each viewer joins by a request of its own."))
}

/// Notes that a client's statement brings a viewer back who had left.
///
/// Errors: 22023 for its second one.
pub fn bring_back(trigger: &PgTrigger<'_>) -> Result<()> {
    let was_done = |running: &mut Running| std::mem::replace(&mut running.has_brought_back, true);
    if !note(trigger, was_done) {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INVALID_PARAMETER,
        "a request brings one viewer back, and this one has several",
    )
    .detail("None of them has come back.")
    .hint("Name the row by its id, or call live_stream_join."))
}

fn note(trigger: &PgTrigger<'_>, was_done: impl FnOnce(&mut Running) -> bool) -> bool {
    let statement = trigger::statement(trigger);
    RUNNING.with_borrow_mut(|running| {
        let this = running
            .iter_mut()
            .rfind(|running| Some(running.statement) == statement);
        this.is_some_and(was_done)
    })
}
