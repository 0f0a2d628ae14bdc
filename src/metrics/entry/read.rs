//! A session as it is at this moment, read where it was found last.

use crate::pg::catalog;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::heap::{Found, Latest, Locked, Strength, Table};
use crate::pg::keep;
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::row::{Row, Stored, required};
use crate::pg::shape;
use crate::pg::transaction;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use session::Status;
use std::cell::Cell;
use std::ffi::CStr;

thread_local! {
    static VERSION: Cell<Option<Version>> = const { Cell::new(None) };
    /// The generation of the catalog in which what is counted was seen to refer to the sessions.
    static REFERRED_TO: Cell<Option<u64>> = const { Cell::new(None) };
    static LOCK: Plan = const { Plan::writing(
        c"select from public.live_stream_sessions where id = $1 for no key update",
        &[pg_sys::UUIDOID],
    ) };
    static TRY_LOCK: Plan = const { Plan::writing(
        c"select from public.live_stream_sessions where id = $1 for no key update skip locked",
        &[pg_sys::UUIDOID],
    ) };
}

/// A session as it was read.
#[derive(Clone, Copy)]
pub struct Entered {
    pub status: Status,
    pub private: bool,
    pub influencer: Uuid,
    pub chat_enabled: bool,
    /// Seconds between two messages of a person; 0 without slow mode.
    pub slow_mode: i32,
    /// Whoever comes must have an account.
    pub requires_sign_in: bool,
    pub max_viewers: Option<i32>,
    pub(super) current_viewers: i32,
    /// When its row was written, in microseconds as the clock's.
    pub updated: i64,
    /// Of the row.
    pub(super) version: pg_sys::TransactionId,
}

impl Entered {
    /// Checks that the session can be joined.
    ///
    /// Errors: PT409.
    pub fn check_unfinished(&self, session: Uuid) -> Result<()> {
        if !self.status.is_finished() {
            return Ok(());
        }
        Err(Error::new(
            SqlState::CONFLICT,
            format!("session {session} is {} and cannot be joined", self.status),
        )
        .hint("Look for another session of this influencer."))
    }
}

/// The version of a session's row that was read last, and where it is: it moves with each update
/// only, and a version never changes.
#[derive(Clone, Copy)]
struct Version {
    session: Uuid,
    place: pg_sys::ItemPointerData,
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
            generation: catalog::generation(),
            entered: entered(row, row.version())?,
        }))
    };
    if let Some(last) = VERSION.get()
        && last.session == session
    {
        let known = (last.generation == catalog::generation()).then_some(last.entered.version);
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

/// The viewers that a session's row has at a moment; none where there is no such session.
pub(super) fn places(moment: &Latest, session: Uuid) -> Result<Option<i32>> {
    let mut taken = None;
    sessions()?.find_as_of(
        moment,
        c"public",
        c"live_stream_sessions_pkey",
        &[("id", session)],
        |row| {
            taken = row.get("current_viewers")?;
            Ok(false)
        },
    )?;
    Ok(taken)
}

/// How many people have been in a session, as its row has it.
pub fn people(session: Uuid) -> Result<i64> {
    let mut people = 0;
    sessions()?.find(
        c"public",
        c"live_stream_sessions_pkey",
        &[("id", session)],
        |row| {
            people = i64::from(row.get("total_unique_viewers")?.unwrap_or(0));
            Ok(false)
        },
    )?;
    Ok(people)
}

/// Whether there is such a session.
pub fn exists(session: Uuid) -> Result<bool> {
    Ok(place(&sessions()?, session)?.is_some())
}

/// Whether this transaction can write the row of a session: one that it has written already, without waiting for who
/// deletes the influencer, and waits for that row.
pub fn may_write(session: Uuid) -> Result<bool> {
    match read(session)? {
        Some(entered) if transaction::is_own(entered.version) => keep::may_write_again(
            c"live_stream_sessions",
            c"live_stream_sessions_pkey",
            session,
        ),
        _ => Ok(true),
    }
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

fn entered(row: &Row<'_>, version: pg_sys::TransactionId) -> Result<Entered> {
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
        requires_sign_in: row.get("requires_sign_in")?.unwrap_or(true),
        max_viewers: row.get("max_viewers")?,
        current_viewers: row.get("current_viewers")?.unwrap_or(0),
        updated: row
            .get::<TimestampWithTimeZone>("updated_at")?
            .map_or(i64::MIN, i64::from),
        version,
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

/// Locks a session's row unless somebody else has it; true with the row.
pub fn try_lock_row(session: Uuid) -> Result<bool> {
    // Where it has just moved on, at its new place: a query that skips locked rows may wait for who has that one.
    for _ in 0..ATTEMPTS {
        match lock_known_row(session, Strength::Change, false)? {
            Locked::Yes => return Ok(true),
            Locked::Busy => return Ok(false),
            Locked::Moved if transaction::has_fixed_snapshot() => break,
            Locked::Moved if read(session)?.is_none() => return Ok(false),
            Locked::Moved => {}
        }
    }
    Ok(as_owner(|| plan::execute(&TRY_LOCK, &[session.into()]))? > 0)
}

/// How often to look for a session's row that moves on.
const ATTEMPTS: usize = 5;

/// Waits for a session's row, and locks it.
pub fn lock_row(session: Uuid) -> Result<()> {
    if lock_known_row(session, Strength::Change, true)? == Locked::Moved {
        as_owner(|| plan::execute(&LOCK, &[session.into()]))?;
    }
    Ok(())
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
