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

mod keep;

pub use keep::{enter_in_order, keep, try_keep};

use crate::metrics::{fold, hot, log, worker};
use crate::pg::catalog;
use crate::pg::clock::statement_start;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::heap::{Found, Locked, Strength, Table};
use crate::pg::lock::{Lock, Mode};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::row::required;
use crate::pg::row::{Row, Stored};
use crate::pg::shape;
use crate::pg::transaction::{self, Moment, Scoped};
use pgrx::Uuid;
use pgrx::pg_sys;
use session::Status;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::time::{Duration, Instant};

/// A session as it is now; it does not end before this transaction does.
#[derive(Clone, Copy)]
pub struct Entered {
    pub status: Status,
    pub private: bool,
    pub influencer: Uuid,
    pub chat_enabled: bool,
    /// Seconds between two messages of a person; 0 without slow mode.
    pub slow_mode: i32,
    max_viewers: Option<i32>,
    current_viewers: i32,
}

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

/// Updates of one session's row by one backend, within a second, before it appends.
const BURST: u32 = 30;

/// How long a backend takes a session for busy before it tries its row again, in microseconds.
const BUSY_FOR: i64 = 50_000;

/// A session with more free places than this lets the worker count while viewers pour in.
const MANY_PLACES: i32 = 1_000;

#[derive(Clone, Copy)]
struct Taken {
    path: WritePath,
    has_appended: bool,
    /// Others may have come between a viewer of this statement and the next one.
    was_overtaken: bool,
}

thread_local! {
    static TAKEN: RefCell<HashMap<Uuid, Scoped<Taken>>> = RefCell::new(HashMap::new());
    static VERSION: Cell<Option<Version>> = const { Cell::new(None) };
    static LAST: Cell<Option<(Moment, Uuid, Entered)>> = const { Cell::new(None) };
    /// This transaction has admitted a viewer without counting the places.
    static ADMITTED: Cell<bool> = const { Cell::new(false) };
    /// That viewer is still to come to this session.
    static RESERVED: RefCell<Scoped<Option<Uuid>>> = const { RefCell::new(Scoped::new()) };
    /// When another was last seen at a session: the start of the statement that saw it.
    static BUSY: RefCell<HashMap<Uuid, i64>> = RefCell::new(HashMap::new());
    /// The generation of the catalog in which what is counted was seen to refer to the sessions.
    static REFERRED_TO: Cell<Option<u64>> = const { Cell::new(None) };
    static UPDATES: RefCell<HashMap<Uuid, (Instant, u32)>> = RefCell::new(HashMap::new());
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
    transaction::at_end(|| {
        TAKEN.with_borrow_mut(HashMap::clear);
        LAST.set(None);
        ADMITTED.set(false);
        RESERVED.with_borrow_mut(Scoped::clear);
    });
    transaction::at_partial_rollback(|sub| {
        LAST.set(None);
        RESERVED.with_borrow_mut(|reserved| reserved.undo(sub));
        TAKEN.with_borrow_mut(|taken| {
            taken.retain(|_, held| {
                held.undo(sub);
                !held.is_empty()
            });
        });
    });
    transaction::at_partial_commit(|sub, parent| {
        RESERVED.with_borrow_mut(|reserved| reserved.keep(sub, parent));
        TAKEN.with_borrow_mut(|taken| {
            taken.values_mut().for_each(|held| held.keep(sub, parent));
        });
    });
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
fn read(session: Uuid) -> Result<Option<Entered>> {
    let sessions = Table::read(c"public", c"live_stream_sessions")?;
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

/// As [`enter`], for a viewer that comes: where the places are limited, it is sure that nobody
/// else takes the same one. Whether there is one shows when the change is applied. A session that
/// is finished may be returned without being entered.
pub fn admit(session: Uuid) -> Result<Option<Entered>> {
    worker::look();
    if held(session).is_none() && is_busy(session) {
        // Many are coming: most likely they still do.
        if choose_log(session)? == WritePath::Log {
            let entered = read(session)?;
            if let Some(entered) = entered
                && (entered.max_viewers.is_none() || take_uncounted(session, &entered)?)
            {
                remember(session, Some(entered));
                return Ok(Some(entered));
            }
            leave_log(session);
        }
    }
    let Some(entered) = read(session)? else {
        return Ok(None);
    };
    if entered.status.is_finished() && held(session).is_none() {
        // Nobody comes to it; and who has a viewer's row waits for no deletion.
        return Ok(Some(entered));
    }
    let Some(max) = entered.max_viewers else {
        return enter(session);
    };
    let is_reserved = |of: &Scoped<Option<Uuid>>| of.get() == Some(&Some(session));
    let reserved = RESERVED.with_borrow(is_reserved) && held(session).is_some();
    if reserved {
        RESERVED.with_borrow_mut(|reserved| reserved.set(None));
    }
    if reserved || held(session) == Some(WritePath::Places) || admit_uncounted(session, &entered)? {
        return enter(session);
    }
    count_places(session, max.saturating_sub(entered.current_viewers))?;
    enter(session)
}

/// As [`admit`], for a viewer that may come in this transaction: when it does, it is admitted.
pub fn reserve(session: Uuid) -> Result<Option<Entered>> {
    let had = ADMITTED.get();
    let entered = admit(session)?;
    if ADMITTED.get() && !had {
        RESERVED.with_borrow_mut(|reserved| reserved.set(Some(session)));
    }
    Ok(entered)
}

/// Admits a viewer without counting, if the places are enough for everybody who may be coming.
fn admit_uncounted(session: Uuid, entered: &Entered) -> Result<bool> {
    if ADMITTED.get() || !places_suffice(session, entered)? {
        return Ok(false);
    }
    let before = held(session);
    let path = match before {
        Some(path) => path,
        None => choose_log(session)?,
    };
    if path != WritePath::Log {
        return Ok(false);
    }
    // Somebody who counted may have been waited for.
    if let Some(entered) = read(session)?
        && take_uncounted(session, &entered)?
    {
        note_busy(session);
        return Ok(true);
    }
    if before.is_none() {
        leave_log(session);
    }
    Ok(false)
}

/// As [`admit_uncounted`], with the session held and just read.
fn take_uncounted(session: Uuid, entered: &Entered) -> Result<bool> {
    let takes = !ADMITTED.get() && places_suffice(session, entered)?;
    if takes {
        ADMITTED.set(true);
    }
    Ok(takes)
}

fn places_suffice(session: Uuid, entered: &Entered) -> Result<bool> {
    // With its own id, this transaction is among those that are counted.
    transaction::id();
    let suffice = |entered: &Entered| {
        let free = entered
            .max_viewers
            .map_or(i32::MAX, |max| max.saturating_sub(entered.current_viewers));
        hot::places_suffice(session, free)
    };
    if suffice(entered) {
        return Ok(true);
    }
    hot::look(session)?;
    // What was folded a moment ago is not in a row that was read before.
    Ok(read(session)?.is_some_and(|entered| suffice(&entered)))
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

/// Takes the row, and waits for those who are appending.
fn count_places(session: Uuid, free: i32) -> Result<()> {
    let was_overtaken = can_leave_log(session);
    if was_overtaken {
        // The second viewer of a statement: two of those would wait for each other.
        leave_log(session);
    }
    let crowded = free > MANY_PLACES
        && (is_bursting(session) || !Lock::Turn(session).try_now(Mode::Alone))
        && worker::is_available()?;
    let before = held(session);
    lock_row(session)?;
    if before.is_none()
        && let Some(entered) = read(session)?
        && take_uncounted(session, &entered)?
    {
        // Who had the row has handed over to the worker meanwhile.
        if choose_log(session)? == WritePath::Log {
            note_busy(session);
            return Ok(());
        }
    }
    Lock::Flow(session).wait(Mode::Alone);
    if !log::is_empty()? || !hot::is_empty()? {
        fold::whole(session)?;
    }
    if crowded {
        // Those who come after need not count; the worker sees it and goes on from here.
        let complete_before = log::complete_before()?;
        hot::note(session, hot::full(complete_before), false, 0)?;
        log::append(session, &Default::default(), false)?;
    }
    take(
        session,
        Taken {
            path: WritePath::Places,
            has_appended: false,
            was_overtaken,
        },
    );
    LAST.set(None);
    Ok(())
}

/// Whether the peak must be counted from the rows, as others may have come in the midst of a
/// statement. Answers yes once.
pub fn was_overtaken(session: Uuid) -> bool {
    let Some(held) = taken(session).filter(|held| held.was_overtaken) else {
        return false;
    };
    take(
        session,
        Taken {
            was_overtaken: false,
            ..held
        },
    );
    true
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

/// Holds the session as one whose end, or whose count, this transaction is about to write.
pub fn hold_for_end(session: Uuid) {
    hold(session, WritePath::Places);
    LAST.set(None);
}

/// Makes the end of a session wait for this transaction, without choosing a path yet.
pub fn keep_open(session: Uuid) -> Result<()> {
    if held(session).is_none() {
        Lock::Flow(session).wait(Mode::Shared);
    }
    Ok(())
}

/// Notes an update of a session's row.
pub fn updated(session: Uuid) {
    UPDATES.with_borrow_mut(|updates| {
        if updates.len() > MANY_SESSIONS {
            updates.retain(|_, (since, _)| since.elapsed() < Duration::from_secs(1));
        }
        let now = Instant::now();
        let (since, count) = updates.entry(session).or_insert((now, 0));
        if now - *since >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
    });
}

fn note_busy(session: Uuid) {
    let now = statement_start();
    BUSY.with_borrow_mut(|busy| {
        if busy.len() > MANY_SESSIONS {
            busy.retain(|_, since| now - *since < BUSY_FOR);
        }
        busy.insert(session, now);
    });
}

fn is_busy(session: Uuid) -> bool {
    let now = statement_start();
    BUSY.with_borrow(|busy| {
        busy.get(&session)
            .is_some_and(|since| now - since < BUSY_FOR)
    })
}

fn is_bursting(session: Uuid) -> bool {
    UPDATES.with_borrow(|updates| {
        updates.get(&session).is_some_and(|(since, count)| {
            *count >= BURST && since.elapsed() < Duration::from_secs(1)
        })
    })
}

pub fn no_such_session(id: Uuid) -> Error {
    Error::new(SqlState::NOT_FOUND, format!("session {id} does not exist"))
        .detail("Or it is private, and the caller may not see it.")
        .hint("Check the id, or ask the host for the session's code.")
}
