//! What guards have taken out of messages, until the statement that wrote them settles: see `pg/set_aside`.

use super::removed::Said;
use crate::pg::set_aside::SetAside;
use crate::pg::transaction;
use crate::pg::trigger::Replaced;
use pgrx::Uuid;
use std::cell::RefCell;

/// What a guard has taken out of a row.
#[derive(Clone, Default, PartialEq)]
pub struct TakenOut {
    /// What the message says, if that is to be stored.
    pub said: Option<Said>,
    /// Whether it is to be flagged.
    pub flag: Option<bool>,
}

thread_local! {
    static TAKEN_OUT: RefCell<SetAside<TakenOut>> = const { RefCell::new(SetAside::new()) };
}

/// Called once per backend.
pub fn watch_transactions() {
    transaction::at_end(|| TAKEN_OUT.with_borrow_mut(SetAside::clear));
    transaction::at_partial_rollback(|sub| TAKEN_OUT.with_borrow_mut(|all| all.undo(sub)));
    transaction::at_partial_commit(|sub, parent| {
        TAKEN_OUT.with_borrow_mut(|all| all.keep(sub, parent));
    });
}

/// Whether anything is to be stored.
pub fn is_any() -> bool {
    TAKEN_OUT.with_borrow(|all| !all.is_empty())
}

/// What was taken out of a message and is to be stored.
pub fn of(message: Uuid) -> Option<TakenOut> {
    TAKEN_OUT.with_borrow(|all| all.get(message).cloned())
}

/// The same, for who stores it.
pub fn take(message: Uuid) -> TakenOut {
    let taken_out = of(message);
    forget(message);
    taken_out.unwrap_or_default()
}

/// What is to be stored of a message that is written now: `said` is all of it, and a flag stays that is to be already.
pub fn add(message: Uuid, said: Option<Said>, flag: Option<bool>, replaced: Option<&Replaced>) {
    let before = of(message).unwrap_or_default();
    let flag = flag.or(before.flag);
    let now = TakenOut { said, flag };
    if now != before {
        TAKEN_OUT.with_borrow_mut(|all| all.put(message, now, replaced));
    }
}

/// Forgets what was taken out of a message that was then not updated.
pub fn forget_unwritten(message: Uuid, replaced: &Replaced) {
    TAKEN_OUT.with_borrow_mut(|all| all.forget_unwritten(message, replaced));
}

/// Forgets what was taken out of a message that was then not inserted.
pub fn forget(message: Uuid) {
    TAKEN_OUT.with_borrow_mut(|all| all.forget(message));
}
