//! Who is counted among the people of a session, as far as this transaction has changed it.
//!
//! The triggers of a statement see all that has happened so far. That includes what is not settled
//! yet: rows that another event of the same statement has removed, as in a MERGE, or that the
//! statement around an app's trigger has added. So what a person was settled as is remembered, and
//! a person that was not settled yet is what others see.

use crate::pg::error::Result;
use crate::pg::own_writes::trigger_depth;
use crate::pg::transaction;
use pgrx::Uuid;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// A session and a user.
type Person = (Uuid, Uuid);

/// What a subtransaction changed of [`COUNTED`].
struct Change {
    within: pg_sys::SubTransactionId,
    person: Person,
    before: Option<bool>,
}

thread_local! {
    /// Whether this transaction has settled a person as one of the session's.
    static COUNTED: RefCell<HashMap<Person, bool>> = RefCell::new(HashMap::new());
    static CHANGES: RefCell<Vec<Change>> = const { RefCell::new(Vec::new()) };
    /// The depths in triggers of statements on viewers that are not settled yet, as bits.
    static OPEN: Cell<u64> = const { Cell::new(0) };
    /// This transaction has run a statement on viewers within another one.
    static IS_NESTED: Cell<bool> = const { Cell::new(false) };
    /// It has done that, or rows have left their person: deleted, or somebody else's now. Then the number of a
    /// person's rows does not say whether it was counted before, and others' view of it is asked for.
    static IS_MIXED: Cell<bool> = const { Cell::new(false) };
}

/// People that a backend keeps room for between transactions.
const FEW: usize = 1_000;

/// Called once per backend.
pub fn watch_transactions() {
    transaction::at_end(|| {
        COUNTED.with_borrow_mut(|counted| {
            counted.clear();
            counted.shrink_to(FEW);
        });
        CHANGES.take();
        OPEN.set(0);
        IS_NESTED.set(false);
        IS_MIXED.set(false);
    });
    transaction::at_partial_rollback(undo);
}

/// All rows are gone, by TRUNCATE.
pub fn forget() {
    IS_MIXED.set(true);
    let counted = COUNTED.take();
    let within = transaction::innermost();
    CHANGES.with_borrow_mut(|changes| {
        changes.extend(counted.into_iter().map(|(person, before)| Change {
            within,
            person,
            before: Some(before),
        }));
    });
}

fn undo(subtransaction: pg_sys::SubTransactionId) {
    CHANGES.with_borrow_mut(|changes| {
        COUNTED.with_borrow_mut(|counted| {
            // Those that began later were within this one.
            while let Some(change) = changes.pop_if(|change| change.within >= subtransaction) {
                match change.before {
                    Some(before) => counted.insert(change.person, before),
                    None => counted.remove(&change.person),
                };
            }
        });
    });
}

fn below(depth: i32) -> u64 {
    (1 << depth.clamp(0, 63)) - 1
}

/// A statement on viewers has begun.
pub fn begin() {
    let depth = trigger_depth();
    note_nesting(depth);
    OPEN.set(OPEN.get() | 1 << depth.clamp(0, 63));
}

/// Rows of viewers leave their person: they are deleted, or somebody else's.
pub fn leave() {
    IS_MIXED.set(true);
}

/// The statement that fired the current trigger is about to be settled.
pub fn settle() {
    let depth = trigger_depth();
    note_nesting(depth);
    OPEN.set(OPEN.get() & below(depth));
}

fn note_nesting(depth: i32) {
    if OPEN.get() & below(depth) != 0 {
        IS_NESTED.set(true);
        IS_MIXED.set(true);
    }
}

/// Whether what comes and goes is not settled in the order in which it happened.
pub fn are_out_of_order() -> bool {
    IS_NESTED.get()
}

/// Settles a person whose rows a statement changed: 1 for one that the session gains, -1 for one
/// that it loses. `now` it has that many rows at least, `change` of them from this statement;
/// `others_see` asks whether it has rows but for this transaction.
pub fn gained(
    session: Uuid,
    user: Uuid,
    now: i64,
    change: i64,
    others_see: impl FnOnce() -> Result<bool>,
) -> Result<i64> {
    let person = (session, user);
    let known = COUNTED.with_borrow(|counted| counted.get(&person).copied());
    let before = match known {
        Some(before) => before,
        None if IS_MIXED.get() => others_see()?,
        None => now - change > 0,
    };
    if transaction::is_nested() {
        let within = transaction::innermost();
        CHANGES.with_borrow_mut(|changes| {
            changes.push(Change {
                within,
                person,
                before: known,
            });
        });
    }
    COUNTED.with_borrow_mut(|counted| counted.insert(person, now > 0));
    Ok(i64::from(now > 0) - i64::from(before))
}
