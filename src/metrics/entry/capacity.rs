//! Coming to a session whose places are limited: far from the limit everybody is admitted without
//! counting; close to it, whoever comes has the session's row and counts.
//!
//! Who may be one too many counts alone: nobody else comes until its transaction ends. It is written into the
//! session's row, and where that has more viewers than places then, [`check_places`] refuses it: the session is full.
//!
//! One statement may bring two viewers. The first comes as an appender; the second must count, and would wait
//! for all appenders, the first one among them. Two such statements would wait for each other for ever. So
//! whoever counts stops being an appender first (`was_overtaken`), and counts its peak from the rows.
//!
//! Whoever may bring a viewer back with rows in hand that others want does all that before it has them: it reserves.

use super::busy::{is_bursting, is_busy, note_busy};
use super::read::{Entered, read};
use super::{
    LAST, Taken, WritePath, can_leave_log, choose_log, enter, held, leave_log, lock_row, remember,
    take, taken,
};
use crate::metrics::Delta;
use crate::metrics::{fold, hot, log, worker};
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::lock::{Lock, Mode};
use crate::pg::transaction::{self, Scoped};
use pgrx::Uuid;
use std::cell::{Cell, RefCell};

thread_local! {
    /// This transaction has admitted a viewer without counting the places.
    static ADMITTED: Cell<bool> = const { Cell::new(false) };
    /// That viewer is still to come to this session.
    static RESERVED: RefCell<Scoped<Option<Uuid>>> = const { RefCell::new(Scoped::new()) };
}

/// Forgets with each transaction whom it admitted. Called once per backend.
pub fn watch_transactions() {
    transaction::at_end(|| {
        ADMITTED.set(false);
        RESERVED.with_borrow_mut(Scoped::clear);
    });
    transaction::at_partial_rollback(|sub| {
        RESERVED.with_borrow_mut(|reserved| reserved.undo(sub));
    });
    transaction::at_partial_commit(|sub, parent| {
        RESERVED.with_borrow_mut(|reserved| reserved.keep(sub, parent));
    });
}

/// As [`enter`], for a viewer that comes: where the places are limited, nobody else takes the same one
/// meanwhile. A session that is finished may be returned without being entered.
pub fn admit(session: Uuid) -> Result<Option<Entered>> {
    come(session, false)
}

/// As [`admit`], for a viewer that may come in this transaction: when it does, it is admitted.
pub fn reserve(session: Uuid) -> Result<Option<Entered>> {
    let had = ADMITTED.get();
    let entered = come(session, false)?;
    if ADMITTED.get() && !had {
        RESERVED.with_borrow_mut(|reserved| reserved.set(Some(session)));
    }
    Ok(entered)
}

/// As [`reserve`], for several viewers. Only the first of them would come without counting the places, and the second
/// would count when this transaction has the rows of both, which others may be waiting for. So they are counted now;
/// but by one who has appended already, and who counts when they come.
pub fn reserve_several(session: Uuid) -> Result<Option<Entered>> {
    if held(session) == Some(WritePath::Log) && !can_leave_log(session) {
        return reserve(session);
    }
    come(session, true)
}

fn come(session: Uuid, several: bool) -> Result<Option<Entered>> {
    worker::look();
    if !several && held(session).is_none() && is_busy(session) {
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
    let may_come = !several && (takes_reserved(session) || admit_uncounted(session, &entered)?);
    if !may_come && held(session) != Some(WritePath::Places) {
        let free = max.saturating_sub(entered.current_viewers);
        count_places(session, free, several)?;
    }
    enter(session)
}

/// Whether a viewer was reserved for in this session, which it uses up.
fn takes_reserved(session: Uuid) -> bool {
    let is_reserved = |of: &Scoped<Option<Uuid>>| of.get() == Some(&Some(session));
    let reserved = RESERVED.with_borrow(is_reserved) && held(session).is_some();
    if reserved {
        RESERVED.with_borrow_mut(|reserved| reserved.set(None));
    }
    reserved
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

/// Takes the row, and waits for those who are appending. One viewer may find meanwhile that it need not be counted,
/// `several` are in any case.
fn count_places(session: Uuid, free: i32, several: bool) -> Result<()> {
    let was_overtaken = can_leave_log(session);
    if was_overtaken {
        leave_log(session);
    }
    let crowded = free > MANY_PLACES
        && (is_bursting(session) || !Lock::Turn(session).try_now(Mode::Alone))
        && worker::is_available()?;
    let before = held(session);
    lock_row(session)?;
    if !several
        && before.is_none()
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

/// Whether the peak must be counted from the rows: others may have come between two viewers of one statement,
/// who stopped being appenders to be counted. Says yes once, and forgets it.
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

/// A session with more free places than this lets the worker count while viewers pour in.
const MANY_PLACES: i32 = 1_000;

/// Checks that a session had places for the most who were there at once while a change was made, which has
/// left it with `current` viewers.
///
/// Errors: PT409.
pub fn check_places(session: Uuid, delta: &Delta, current: i32, max: i32) -> Result<()> {
    if delta.peak <= 0 || i64::from(current) - delta.viewers + delta.peak <= i64::from(max) {
        return Ok(());
    }
    Err(
        Error::new(SqlState::CONFLICT, format!("session {session} is full"))
            .detail(format!("It admits {max} viewers at the same time."))
            .hint("Try again when somebody has left."),
    )
}
