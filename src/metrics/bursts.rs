//! Which sessions' rows this backend has updated many times of late: dead versions of a row slow down whoever refers to it.

use pgrx::Uuid;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

thread_local! {
    /// Since when updates are counted, and how many there were.
    static UPDATES: RefCell<HashMap<Uuid, (Instant, u32)>> = RefCell::new(HashMap::new());
}

/// Updates of one session's row by one backend, within [`WINDOW`], before it appends.
const BURST: u32 = 30;
const WINDOW: Duration = Duration::from_secs(1);
/// Sessions that are remembered.
const FEW: usize = 500;

/// Notes an update of a session's row.
pub fn updated(session: Uuid) {
    UPDATES.with_borrow_mut(|updates| {
        if updates.len() > FEW {
            updates.retain(|_, (since, _)| since.elapsed() < WINDOW);
        }
        let now = Instant::now();
        let (since, count) = updates.entry(session).or_insert((now, 0));
        if now - *since >= WINDOW {
            (*since, *count) = (now, 0);
        }
        *count += 1;
    });
}

pub fn is_bursting(session: Uuid) -> bool {
    UPDATES.with_borrow(|updates| {
        updates
            .get(&session)
            .is_some_and(|(since, count)| *count >= BURST && since.elapsed() < WINDOW)
    })
}
