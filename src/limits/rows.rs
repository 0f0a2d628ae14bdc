//! How many rows one statement of a client writes.

use super::settings::ROWS;
use crate::identity;
use crate::pg::clock;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::own_writes::{self, OwnWrites, trigger_depth};
use std::cell::Cell;

/// What a statement, which is known by when it began, has written so far. An upsert may insert
/// each of its rows and then change it.
#[derive(Clone, Copy, Default)]
struct Written {
    statement: i64,
    inserted: i32,
    changed: i32,
}

thread_local! {
    static WRITTEN: Cell<Written> = const { Cell::new(Written { statement: 0, inserted: 0, changed: 0 }) };
    static IN_BULK: OwnWrites = const { OwnWrites::new() };
}

/// Runs `f`, which writes as the client and has bounds of its own.
pub fn in_bulk<R>(f: impl FnOnce() -> R) -> R {
    own_writes::with(&IN_BULK, true, f)
}

/// Counts a row that is about to be inserted or changed, in the guard of its table, before anything
/// is done for it. What triggers write is not the client's.
///
/// Errors: 54000, which PostgREST answers with HTTP 413.
pub fn write_row(is_insert: bool) -> Result<()> {
    let limit = ROWS.get();
    if limit == 0
        || trigger_depth() > 1
        || IN_BULK.with(OwnWrites::have_fired)
        || identity::is_service()?
    {
        return Ok(());
    }
    let statement = clock::statement_start();
    let mut written = WRITTEN.get();
    if written.statement != statement {
        written = Written {
            statement,
            ..Written::default()
        };
    }
    let count = if is_insert {
        &mut written.inserted
    } else {
        &mut written.changed
    };
    *count = count.saturating_add(1);
    let count = *count;
    WRITTEN.set(written);
    if count <= limit {
        return Ok(());
    }
    Err(Error::new(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        "too many rows in one request",
    )
    .detail(format!(
        "One request inserts or changes {limit} rows at most."
    ))
    .hint("Send them in several requests."))
}
