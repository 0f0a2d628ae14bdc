//! Settling: what a transaction has changed of sessions' numbers goes into their rows, or into the log, as it commits.
//!
//! Until then nobody waits for it, however long it takes, and it knows nothing that would be wrong by then: whether there
//! is a place, whether a person is new, whether the session is over is decided here, with locks that are held for the
//! length of a commit. An error rolls the transaction back, as one of its statements would.
//!
//! In this order, which is that of `pg/lock.rs`:
//!
//! 1. invitations; tallies in rows of products, messages and viewers that are free (`rows.rs`);
//! 2. rows of sessions that are waited for: where no worker folds, or where a number might not fit its row;
//! 3. seats, from the lowest session up: of sessions that viewers come to, shared, or alone where they are nearly full; of
//!    those that this transaction has ended, limited or hidden, alone;
//! 4. what the rooms above have left for the end ([`AT_END`]): people are counted, and those who came are closed where
//!    they are not welcome any more;
//! 5. the numbers: into the row for who is alone in a session, else into the log;
//! 6. what others have left of sessions where no worker folds, if their rows are free.
//!
//! What this writes may fire triggers of the app's that change sessions again: that is settled in another pass.

use super::Delta;
use super::changes::{self, Change};
use super::entry::{self, Place};
use super::{apply, bursts, check_snapshot, fold, log, rows, worker};
use crate::pg::callback::Callback;
use crate::pg::catalog;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::lock::{Lock, Mode};
use crate::pg::subtransaction;
use crate::pg::transaction::{self, Trail};
use pgrx::Uuid;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Uses up the invitations that this transaction has accepted, before anything else is held.
pub static USE_INVITATIONS: Callback<fn() -> Result<()>> = Callback::new("use invitations");

/// Runs with the seats of all sessions taken, before their numbers are written.
pub static AT_END: Callback<fn() -> Result<()>> = Callback::new("settle viewers");

/// Lets the viewers of this session who came or went in this transaction do so now; returns when that is.
pub static COME_NOW: Callback<fn(Uuid) -> Result<i64>> = Callback::new("let viewers come now");

/// The people of this session whose rows this transaction has made or taken away are counted, with its row held: in what
/// it settles later they are not new.
pub static PEOPLE_ARE_COUNTED: Callback<fn(Uuid) -> Result<()>> =
    Callback::new("count the people of a session");

/// Closes who came to a session while this transaction ended it; with its seats and its row held.
pub static CLOSE_LATE: Callback<fn(Uuid) -> Result<()>> =
    Callback::new("close who came to a session as it ended");

thread_local! {
    /// Whether there is anything to settle.
    static IS_NEEDED: Cell<bool> = const { Cell::new(false) };
    /// Sessions that this transaction has ended, limited or hidden: nobody comes to them as they were before.
    static CLOSED: RefCell<Trail<Uuid>> = const { RefCell::new(Trail::new()) };
    /// The one of them whose seats it has taken as it ended it.
    static HELD: RefCell<Trail<Uuid>> = const { RefCell::new(Trail::new()) };
    /// Sessions of which something may be pending that no worker folds.
    static LEFT: RefCell<Trail<Uuid>> = const { RefCell::new(Trail::new()) };
}

/// Called once per backend.
pub fn watch_transactions() {
    transaction::before_commit(|| {
        let mut passes = 0;
        while IS_NEEDED.replace(false) {
            passes += 1;
            let settle = || match passes {
                MAX_PASSES.. => Err(endless()),
                _ => settle(),
            };
            transaction::as_last_statement(settle).or_raise();
        }
    });
    transaction::at_end(|| {
        IS_NEEDED.set(false);
        CLOSED.with_borrow_mut(Trail::clear);
        HELD.with_borrow_mut(Trail::clear);
        LEFT.with_borrow_mut(Trail::clear);
    });
    transaction::at_partial_rollback(|sub| {
        CLOSED.with_borrow_mut(|closed| closed.undo(sub));
        HELD.with_borrow_mut(|held| held.undo(sub));
        LEFT.with_borrow_mut(|left| left.undo(sub));
    });
}

/// What triggers of the app's change in answer to what was settled is settled so many times.
const MAX_PASSES: usize = 100;

fn endless() -> Error {
    Error::new(
        SqlState::STATEMENT_TOO_COMPLEX,
        "triggers change the numbers of sessions again and again",
    )
    .detail(format!(
        "What they changed was settled {MAX_PASSES} times as the transaction committed."
    ))
    .hint(
        "Let a trigger of live_stream_sessions write nothing that is counted there, or once only.",
    )
}

/// Settles a change of a session as the transaction commits.
pub(super) fn later(session: Uuid, delta: Delta, doubtful: bool) {
    entry::come_in(session);
    changes::add(session, delta, doubtful);
    need();
}

/// There is something to settle as the transaction commits.
pub fn need() {
    IS_NEEDED.set(true);
}

/// This transaction has ended or deleted a session, limits its places, or shows it to fewer people. As it commits, it waits for those who are just
/// coming, and nobody comes afterwards who has seen the session as it was; in one that goes on, all who have come are in
/// the row then.
pub fn close_seats(session: Uuid) {
    CLOSED.with_borrow_mut(|closed| closed.push(session));
    need();
}

/// As [`close_seats`], of a session that this transaction ends: who comes to it waits for the end to be decided, so that
/// its numbers are the last ones. Of several sessions that is the first one: seats are taken in order, as it commits.
pub fn hold_seats(session: Uuid) {
    if CLOSED.with_borrow(|closed| closed.len() == 0) {
        Lock::Seats(session).wait(Mode::Alone);
        HELD.with_borrow_mut(|held| held.push(session));
    }
    close_seats(session);
}

/// Folds what is pending of a session, or of all, as this transaction commits, where the rows are free: for who has seen
/// that no worker does ([`worker::see_to_left`]).
pub fn fold_at_end(session: Option<Uuid>) -> Result<()> {
    let pending = log::pending(session)?;
    if !pending.is_empty() {
        LEFT.with_borrow_mut(|left| pending.into_keys().for_each(|session| left.push(session)));
        need();
    }
    Ok(())
}

fn settle() -> Result<()> {
    let is_there = |schema, table| catalog::relation_id(schema, table).is_some();
    if !is_there(c"public", c"live_stream_sessions") || !is_there(c"live_stream", c"metric_changes")
    {
        // Dropped by this transaction.
        return Ok(());
    }
    USE_INVITATIONS.get()?()?;
    rows::settle_all()?;
    let (closed, deleted) = take_closed()?;
    let mut rows = wait_for_rows(&closed)?;
    let (came_now, nearly_full) = take_seats(&closed)?;
    for session in deleted {
        // What was appended by those whom its deletion has waited for is of nothing.
        log::forget(session)?;
    }
    for &session in &closed {
        if entry::now(session)?.is_some_and(|entered| entered.status.is_finished()) {
            check_snapshot(session)?;
            CLOSE_LATE.get()?(session)?;
        }
    }
    for session in came_now {
        come_now(session)?;
    }
    AT_END.get()?()?;
    for session in nearly_full {
        // So that who counts next finds them in the row, if nobody has that just now.
        if !transaction::has_fixed_snapshot()
            && !transaction::is_being_prepared()
            && entry::try_lock_row(session)?
        {
            rows.held.insert(session);
        }
    }
    // Of those that it has closed it also folds what others have appended: they are as their rows say from now on.
    let changed = changes::all().into_keys();
    for session in changed.chain(closed).collect::<BTreeSet<_>>() {
        write(session, &rows)?;
    }
    fold_left()
}

/// Folds what others have left of sessions whose rows are free. Where that fails, as by a trigger of the app's, it stays
/// where it is, and nothing else of this transaction fails with it.
fn fold_left() -> Result<()> {
    for session in LEFT.with_borrow_mut(Trail::take) {
        subtransaction::try_or_undo(|| {
            if !transaction::has_fixed_snapshot()
                && !transaction::is_being_prepared()
                && entry::may_write(session)?
                && entry::try_lock_row(session)?
            {
                subtransaction::try_or_undo(|| rows::fold(session))?;
                fold::with_own(session)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The sessions that this transaction has ended, limited or hidden, and those that it has deleted.
fn take_closed() -> Result<(BTreeSet<Uuid>, BTreeSet<Uuid>)> {
    let all: BTreeSet<Uuid> = CLOSED.with_borrow_mut(Trail::take).into_iter().collect();
    let (mut closed, mut deleted) = (BTreeSet::new(), BTreeSet::new());
    for session in all {
        match entry::exists(session)? {
            true => closed.insert(session),
            false => deleted.insert(session),
        };
    }
    Ok((closed, deleted))
}

/// The rows of sessions that this transaction has waited for.
struct Rows {
    held: BTreeSet<Uuid>,
    /// In vain: somebody else has them.
    missed: BTreeSet<Uuid>,
}

/// Waits for the rows of sessions that are needed, while nothing is held that others wait for. Those of closed sessions
/// this transaction has.
fn wait_for_rows(closed: &BTreeSet<Uuid>) -> Result<Rows> {
    let (mut held, mut missed) = (closed.clone(), BTreeSet::new());
    for (session, change) in changes::all() {
        if held.contains(&session) {
            continue;
        }
        if change.delta.is_large() {
            entry::lock_row(session)?;
            held.insert(session);
            continue;
        }
        let is_alone = worker::is_wanted() && entry::is_alone(session);
        if !is_alone && !is_folded(session)? {
            match lock_row_patiently(session)? {
                true => held.insert(session),
                false => missed.insert(session),
            };
        }
    }
    Ok(Rows { held, missed })
}

/// How long to wait for the row of a session where no worker folds. What is appended then is folded by who writes the row
/// next; and who has it may be waiting for this transaction, as one that deletes the session.
pub(super) const SESSION_PATIENCE: Duration = Duration::from_secs(1);

fn lock_row_patiently(session: Uuid) -> Result<bool> {
    if transaction::has_fixed_snapshot() || entry::now(session)?.is_none() {
        return Ok(false);
    }
    in_line(
        || entry::try_lock_row(session),
        |has_row| *has_row,
        || Ok(entry::now(session)?.map(|entered| entered.updated)),
    )
}

/// What `attempt` answers once that `is_it`, where others want the same row: a crowd goes one after the other, and the
/// patience of [`SESSION_PATIENCE`] is with each who has it. Another `version` of the row says that it was somebody else.
pub(super) fn in_line<T, V: PartialEq>(
    attempt: impl Fn() -> Result<T>,
    is_it: impl Fn(&T) -> bool,
    version: impl Fn() -> Result<V>,
) -> Result<T> {
    loop {
        let before = version()?;
        let answer = patiently(SESSION_PATIENCE, &attempt, &is_it)?;
        if is_it(&answer) || version()? == before {
            return Ok(answer);
        }
    }
}

/// What `attempt` answers once that `is_it`, or when there is no more patience. Where the server is too busy to make one in
/// each [`LOOK`], that takes longer.
pub fn patiently<T>(
    patience: Duration,
    attempt: impl Fn() -> Result<T>,
    is_it: impl Fn(&T) -> bool,
) -> Result<T> {
    let since = Instant::now();
    let mut looked = Duration::ZERO;
    loop {
        pgrx::check_for_interrupts!();
        let answer = attempt()?;
        looked += LOOK;
        if is_it(&answer) || since.elapsed() > patience && looked > patience {
            return Ok(answer);
        }
        std::thread::sleep(LOOK / 4);
    }
}

const LOOK: Duration = Duration::from_millis(2);

/// Whether a worker folds what is appended for a session by this transaction.
pub(super) fn is_folded(session: Uuid) -> Result<bool> {
    Ok(entry::is_present(session) && worker::is_available()?)
}

/// Takes the seats of sessions that viewers come to, or that are closed; returns those to which they come now, and those
/// that are nearly full.
///
/// Errors: PT409 for a session that is full or finished.
fn take_seats(closed: &BTreeSet<Uuid>) -> Result<(Vec<Uuid>, Vec<Uuid>)> {
    let all = changes::all();
    let comes = |session: &Uuid| all.get(session).filter(|change| change.delta.peak > 0);
    let entered = all.keys().filter(|session| comes(session).is_some());
    let sessions: BTreeSet<Uuid> = entered.chain(closed).copied().collect();
    if sessions.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    if sessions.len() > 1 {
        let held = HELD.with_borrow_mut(Trail::take);
        held.into_iter()
            .for_each(|session| Lock::Seats(session).give_back(Mode::Alone));
    }
    let takes_all = sessions.len() > entry::many_sessions();
    Lock::AllSeats.wait(if takes_all { Mode::Alone } else { Mode::Shared });
    let (mut come_now, mut nearly_full) = (Vec::new(), Vec::new());
    for session in sessions {
        let seats = Lock::Seats(session);
        let find = |alone| match comes(&session) {
            Some(change) => find_place(session, &change.delta, alone),
            None => Ok(Place::Free),
        };
        let mut place = Place::Unclear;
        if !takes_all && !closed.contains(&session) {
            seats.wait(Mode::Shared);
            place = find(false)?;
            if place == Place::Unclear {
                seats.give_back(Mode::Shared);
            }
        }
        if place == Place::Unclear {
            if !takes_all {
                seats.wait(Mode::Alone);
            }
            place = find(true)?;
            nearly_full.extend((place == Place::FreeNow).then_some(session));
        }
        come_now.extend((place == Place::FreeNow).then_some(session));
    }
    Ok((come_now, nearly_full))
}

/// Whether there is a place in a session that is not finished, with its seats taken; one that is gone has any number.
fn find_place(session: Uuid, change: &Delta, alone: bool) -> Result<Place> {
    let Some(entered) = entry::now(session)? else {
        return Ok(Place::Free);
    };
    entered.check_unfinished(session)?;
    entry::take_place(session, &entered, change, alone)
}

/// Finds places for the viewers of this transaction in a session whose row it writes before it commits.
///
/// Errors: PT409 for a session that is full.
pub(super) fn find_places_now(session: Uuid) -> Result<()> {
    let change = changes::of(session);
    if change.delta.peak > 0 {
        Lock::Seats(session).wait(Mode::Alone);
        if find_place(session, &change.delta, true)? == Place::FreeNow {
            come_now(session)?;
        }
    }
    Ok(())
}

fn come_now(session: Uuid) -> Result<()> {
    let at = COME_NOW.get()?(session)?;
    changes::move_to(session, at);
    Ok(())
}

/// Writes what this transaction has changed of a session into its row, or appends it to the log.
fn write(session: Uuid, rows: &Rows) -> Result<()> {
    let has_row = rows.held.contains(&session);
    if !entry::may_write(session)? {
        // Without a worker, whoever writes the row next folds it.
        worker::is_available()?;
        return append(session);
    }
    // It may have been written before it was locked.
    if !has_row && takes_row(session)? && follows(session)? {
        return update(session);
    }
    let may_wait = !rows.missed.contains(&session);
    if has_row || may_wait && !is_folded(session)? && lock_row_patiently(session)? {
        if !log::is_empty()? && log::has(Some(session))? {
            return fold::with_own(session);
        }
        return update(session);
    }
    append(session)
}

/// Appends to the log what is to be settled of a session.
fn append(session: Uuid) -> Result<()> {
    let change = take(session)?;
    match change.is_nothing() {
        true => Ok(()),
        false => log::append(session, &change.delta, change.doubtful),
    }
}

/// Takes the row of a session where nobody else is at it.
fn takes_row(session: Uuid) -> Result<bool> {
    Ok(!transaction::has_fixed_snapshot()
        && !transaction::is_being_prepared()
        && !bursts::is_bursting(session)
        && entry::is_alone(session)
        && follows(session)?
        && entry::try_lock_row(session)?)
}

/// Whether viewers came and went after a session's row was written: then the row has the level before.
fn follows(session: Uuid) -> Result<bool> {
    let first = changes::of(session).delta.first;
    let updated = entry::now(session)?.map(|entered| entered.updated);
    Ok(first
        .zip(updated)
        .is_none_or(|(first, updated)| first > updated))
}

/// Updates the row of a session, which is locked.
fn update(session: Uuid) -> Result<()> {
    if !follows(session)? {
        come_now(session)?;
    }
    let change = take(session)?;
    match change.doubtful {
        true => fold::with(session, change),
        false => apply::update(session, &change.delta),
    }
}

/// What is to be settled of a session, as it is now.
///
/// Errors: 55000 where the session is not gone, but is not found.
fn take(session: Uuid) -> Result<Change> {
    let mut change = changes::take(session);
    match entry::now(session)? {
        Some(entered) if entered.status.is_finished() => change.settle_finished(),
        Some(_) => {}
        None => {
            entry::check_gone()?;
            change = Change::default();
        }
    }
    Ok(change)
}
