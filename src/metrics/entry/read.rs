//! A session as it is at this moment, read where it was found last.

use crate::pg::catalog;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::heap::{Found, Locked, Strength, Table};
use crate::pg::row::{Row, Stored, required};
use crate::pg::shape;
use crate::pg::transaction;
use pgrx::Uuid;
use pgrx::pg_sys;
use session::Status;
use std::cell::Cell;
use std::ffi::CStr;

thread_local! {
    static VERSION: Cell<Option<Version>> = const { Cell::new(None) };
    /// The generation of the catalog in which what is counted was seen to refer to the sessions.
    static REFERRED_TO: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A session as it is now; it does not end before this transaction does.
#[derive(Clone, Copy)]
pub struct Entered {
    pub status: Status,
    pub private: bool,
    pub influencer: Uuid,
    pub chat_enabled: bool,
    /// Seconds between two messages of a person; 0 without slow mode.
    pub slow_mode: i32,
    pub(super) max_viewers: Option<i32>,
    pub(super) current_viewers: i32,
}

/// The version of a session's row that was read last, and where it is: it moves with each update
/// only, and a version never changes.
#[derive(Clone, Copy)]
struct Version {
    session: Uuid,
    place: pg_sys::ItemPointerData,
    transaction: pg_sys::TransactionId,
    /// Of the catalog, which says what the row's columns are.
    generation: u64,
    entered: Entered,
}

/// Reads a session as it is at this moment; none where it does not exist.
pub(super) fn read(session: Uuid) -> Result<Option<Entered>> {
    let sessions = sessions()?;
    let version = |row: &Stored<'_>| -> Result<Option<Version>> {
        Ok(Some(Version {
            session,
            place: row.place(),
            transaction: row.version(),
            generation: catalog::generation(),
            entered: entered(row)?,
        }))
    };
    if let Some(last) = VERSION.get()
        && last.session == session
    {
        let known = (last.generation == catalog::generation()).then_some(last.transaction);
        let found = sessions.at(last.place, known, |row| {
            Ok(if row.get("id")? == Some(session) {
                version(row)?
            } else {
                None
            })
        })?;
        match found {
            Found::Same => return Ok(Some(last.entered)),
            Found::Row(Some(version)) => {
                VERSION.set(Some(version));
                return Ok(Some(version.entered));
            }
            Found::Row(None) | Found::Nothing => {}
        }
    }
    let mut found = None;
    sessions.find(
        c"public",
        c"live_stream_sessions_pkey",
        &[("id", session)],
        |row| {
            found = version(row)?;
            Ok(false)
        },
    )?;
    VERSION.set(found);
    Ok(found.map(|version| version.entered))
}

/// Whether there is such a session.
pub fn exists(session: Uuid) -> Result<bool> {
    Ok(place(&sessions()?, session)?.is_some())
}

/// The table of sessions.
pub fn sessions() -> Result<Table> {
    Table::read(c"public", c"live_stream_sessions")
}

/// Where a session is stored; none where it does not exist.
pub fn place(sessions: &Table, session: Uuid) -> Result<Option<pg_sys::ItemPointerData>> {
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

fn entered(row: &Row<'_>) -> Result<Entered> {
    // What cannot be read is not what is not there: a change of it would be dropped.
    let label = row.label("status")?.unwrap_or_default();
    let status = label.parse().map_err(|()| row.other_values("status"))?;
    let influencer = required(row, "influencer_id")?;
    let visibility = row.label("visibility")?;
    Ok(Entered {
        status,
        influencer,
        private: !matches!(visibility.as_deref(), Some("public" | "unlisted")),
        chat_enabled: row.get("is_chat_enabled")?.unwrap_or(false),
        slow_mode: row.get("slow_mode_seconds")?.unwrap_or(0),
        max_viewers: row.get("max_viewers")?,
        current_viewers: row.get("current_viewers")?.unwrap_or(0),
    })
}

/// Locks a session's row without the executor; moved where that does not get at it.
pub fn lock_known_row(session: Uuid, strength: Strength, wait: bool) -> Result<Locked> {
    let known = || VERSION.get().filter(|last| last.session == session);
    if transaction::has_fixed_snapshot() || known().is_none() && read(session)?.is_none() {
        return Ok(Locked::Moved);
    }
    known().map_or(Ok(Locked::Moved), |last| {
        Table::lock_rows(c"public", c"live_stream_sessions")?.lock(
            last.place,
            strength,
            wait,
            |row| Ok(row.get("id")? == Some(session)),
        )
    })
}

/// The tables whose rows are counted in sessions.
const COUNTED: [&CStr; 4] = [
    c"live_stream_viewers",
    c"live_stream_chat",
    c"live_stream_chat_reactions",
    c"live_stream_products",
];

/// Checks that a session that is not found is gone, and not under another name, where its row would
/// miss a change: what is counted refers to the table of sessions.
///
/// Errors: 55000.
pub fn check_gone() -> Result<()> {
    let generation = catalog::generation();
    if REFERRED_TO.get() == Some(generation) {
        return Ok(());
    }
    let (schema, name) = (c"public", c"live_stream_sessions");
    let sessions =
        catalog::relation_id(schema, name).ok_or_else(|| shape::missing(schema, name))?;
    for counted in COUNTED {
        Table::read(schema, counted)?.check_refers(sessions)?;
    }
    REFERRED_TO.set(Some(generation));
    Ok(())
}

pub fn no_such_session(id: Uuid) -> Error {
    Error::new(SqlState::NOT_FOUND, format!("session {id} does not exist"))
        .detail("Or it is private, and the caller may not see it.")
        .hint("Check the id, or ask the host for the session's code.")
}
