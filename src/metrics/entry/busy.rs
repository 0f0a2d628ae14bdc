//! Which sessions others are at just now, as far as this backend has seen.

use super::MANY_SESSIONS;
use crate::pg::clock::statement_start;
use pgrx::Uuid;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

thread_local! {
    /// When another was last seen at a session: the start of the statement that saw it.
    static BUSY: RefCell<HashMap<Uuid, i64>> = RefCell::new(HashMap::new());
    static UPDATES: RefCell<HashMap<Uuid, (Instant, u32)>> = RefCell::new(HashMap::new());
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

pub(super) fn note_busy(session: Uuid) {
    let now = statement_start();
    BUSY.with_borrow_mut(|busy| {
        if busy.len() > MANY_SESSIONS {
            busy.retain(|_, since| now - *since < BUSY_FOR);
        }
        busy.insert(session, now);
    });
}

pub(super) fn is_busy(session: Uuid) -> bool {
    let now = statement_start();
    BUSY.with_borrow(|busy| {
        busy.get(&session)
            .is_some_and(|since| now - since < BUSY_FOR)
    })
}

pub(super) fn is_bursting(session: Uuid) -> bool {
    UPDATES.with_borrow(|updates| {
        updates.get(&session).is_some_and(|(since, count)| {
            *count >= BURST && since.elapsed() < Duration::from_secs(1)
        })
    })
}

/// Updates of one session's row by one backend, within a second, before it appends.
const BURST: u32 = 30;

/// How long a backend takes a session for busy before it tries its row again, in microseconds.
const BUSY_FOR: i64 = 50_000;
