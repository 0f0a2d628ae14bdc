//! The places of a session that has only so many.
//!
//! Whether there is one is decided as the transaction commits, while it shares the session's seats with others who come
//! at that moment ([`Lock::Seats`]). Three ways, from the cheapest on; `max` is the number of places:
//!
//! 1. *Far from full.* The backend has once counted the viewers who were pending or about to come, and read which
//!    transaction id would be next. A transaction brings one viewer and takes one id, so there are no more viewers now than
//!    the row has, plus those, plus the ids that were given since. If they all fit, nobody is counted. Say the row has 400 of
//!    1000, 50 were pending and 200 ids were given since: 650 at most.
//! 2. *Nearer.* The row and the log are read as of one moment: `c` viewers. Each of the others who have seats just now may
//!    bring one more. If those fit too, with some to spare, there is a place.
//! 3. *Full, or almost.* Alone with the seats: all who came before are committed, and `c` is the number. Each waits for the
//!    commit of the one before, and for nothing else. Such a viewer is written into the session's row if nobody has that.
//!
//! The peak is counted by the times at which viewers come and go. In the first way the viewer came when its row was
//! written: what was read must be of before that, and the session's row must be the same since, so that whoever left
//! meanwhile is counted too. In the others it comes now, and its row is written once more: who left before is gone.
//!
//! Who brings several viewers goes the third way, and takes a transaction id for each, so that whoever goes the first
//! way with what was read before counts them. Who would read it meanwhile finds the seats taken, and goes another way.
//! Where there is no limit, nobody takes ids for more: who sets one, or a lower one, has all who came before in the row.

use super::read::{self, Entered};
use super::{PRESENT, enter, present};
use crate::metrics::{Delta, changes, log};
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::heap::Latest;
use crate::pg::lock::Lock;
use crate::pg::{subtransaction, transaction};
use pgrx::Uuid;
use pgrx::pg_sys;
use std::cell::Cell;

/// What a backend has counted of a session.
#[derive(Clone, Copy)]
pub(super) struct Counted {
    /// Viewers who were pending, and transactions that might have brought one.
    coming: i64,
    /// The transaction id that was next.
    next_id: i64,
}

/// What a transaction knows of the places since before its viewer came.
#[derive(Clone, Copy)]
pub(super) struct Base {
    counted: Counted,
    /// Of the session's row.
    version: pg_sys::TransactionId,
}

thread_local! {
    /// What this backend has counted last.
    static COUNTED: Cell<Option<(Uuid, Counted)>> = const { Cell::new(None) };
}

/// Places that must be left for a way to be gone: so many ids may others take between the coming of a viewer and its
/// commit, and so many viewers are let in one by one before the session is full.
const MARGIN: i64 = 32;

impl Counted {
    /// The most viewers there can be, where the session's row has so many.
    fn most(&self, taken: i32) -> i64 {
        let since = transaction::next_full_id() as i64 - self.next_id;
        i64::from(taken) + self.coming + since
    }
}

/// As [`enter`], for a viewer that comes.
///
/// Errors: PT409 for a session that is full by now. That there is a place is certain when the transaction commits.
pub fn admit(session: Uuid) -> Result<Option<Entered>> {
    let Some(entered) = enter(session)? else {
        return Ok(None);
    };
    if let Some(max) = entered.max_viewers
        && !entered.status.is_finished()
    {
        look_for_place(session, &entered, max)?;
    }
    Ok(Some(entered))
}

fn look_for_place(session: Uuid, entered: &Entered, max: i32) -> Result<()> {
    let Some(present) = present(session).filter(|present| present.base.is_none()) else {
        return Ok(());
    };
    if present.needs_new_id {
        // One that is among those given since anybody has counted without it.
        subtransaction::take_new_id()?;
    }
    let fits = |counted: &Counted| counted.most(entered.current_viewers) + MARGIN <= i64::from(max);
    let known = COUNTED.get().filter(|(of, _)| *of == session);
    let counted = match known {
        Some((_, counted)) if fits(&counted) => Some(counted),
        _ => {
            let next_id = transaction::next_full_id() as i64;
            let others = Lock::Present(session).others();
            let are_seats_taken = are_taken(session);
            let seen = count(session)?;
            let own = changes::of(session).delta.viewers;
            if seen.viewers.saturating_add(own) >= i64::from(max) {
                return Err(full(session, max));
            }
            let coming = seen.coming.saturating_add(others);
            let counted = Counted { coming, next_id };
            COUNTED.set((!are_seats_taken).then_some((session, counted)));
            Some(counted).filter(|counted| !are_seats_taken && fits(counted))
        }
    };
    let version = entered.version;
    PRESENT.with_borrow_mut(|all| {
        if let Some(present) = all.get_mut(&session) {
            present.needs_new_id = false;
            present.base = counted.map(|counted| Base { counted, version });
        }
    });
    Ok(())
}

/// Whether somebody is alone with the seats of a session just now.
fn are_taken(session: Uuid) -> bool {
    Lock::AllSeats.is_taken() || Lock::Seats(session).is_taken()
}

/// Checks that there are places for the viewers whom this transaction has brought to a session so far, `came` of them with
/// one statement, as far as can be told yet. For a single one, that was looked for as it came.
///
/// Errors: PT409.
pub fn check_places(session: Uuid, came: i64) -> Result<()> {
    let own = changes::of(session).delta;
    if came <= 1 && own.peak <= 1 {
        return Ok(());
    }
    match super::now(session)?.and_then(|entered| entered.max_viewers) {
        Some(max) if count(session)?.viewers.saturating_add(own.peak) > i64::from(max) => {
            Err(full(session, max))
        }
        _ => Ok(()),
    }
}

/// The viewers of a session as of one moment.
struct Seen {
    viewers: i64,
    /// Of those who are pending.
    coming: i64,
}

fn count(session: Uuid) -> Result<Seen> {
    let moment = Latest::take()?;
    let (pending, coming) = log::viewers(&moment, session)?;
    let taken = read::places(&moment, session)?.unwrap_or(0);
    Ok(Seen {
        viewers: i64::from(taken).saturating_add(pending),
        coming,
    })
}

/// How a place was found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// For a viewer who came when its row says.
    Free,
    /// For one who comes now.
    FreeNow,
    /// Not without being alone with the seats.
    Unclear,
}

/// Whether there are places for those who come with a change; of a session as it is now, with its seats taken, shared or
/// `alone`.
///
/// Errors: PT409 for a session that is full.
pub fn take_place(session: Uuid, entered: &Entered, change: &Delta, alone: bool) -> Result<Place> {
    let Some(max) = entered.max_viewers else {
        return Ok(Place::Free);
    };
    let is_one = change.peak == 1;
    if is_one
        && let Some(base) = present(session).and_then(|present| present.base)
        && base.version == entered.version
        && base.counted.most(entered.current_viewers) <= i64::from(max)
    {
        return Ok(Place::Free);
    }
    if !alone && !is_one {
        return Ok(Place::Unclear);
    }
    let others = if alone {
        0
    } else {
        Lock::Seats(session).others() + MARGIN
    };
    let viewers = count(session)?.viewers;
    let most = viewers.saturating_add(change.peak).saturating_add(others);
    match most <= i64::from(max) {
        true => {
            // The first has the transaction's own, unless that was there before the transaction was in the session.
            let own = present(session).is_some_and(|present| !present.needs_new_id);
            for _ in i64::from(own)..change.peak {
                subtransaction::take_new_id()?;
            }
            Ok(Place::FreeNow)
        }
        false if alone => Err(full(session, max)),
        false => Ok(Place::Unclear),
    }
}

fn full(session: Uuid, max: i32) -> Error {
    Error::new(SqlState::CONFLICT, format!("session {session} is full"))
        .detail(format!("It admits {max} viewers at the same time."))
        .hint("Try again when somebody has left.")
}
