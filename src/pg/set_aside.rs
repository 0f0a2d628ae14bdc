//! What BEFORE triggers take out of rows, until an AFTER trigger of the statement stores it elsewhere.
//!
//! Between the two there may be other statements: an app's trigger, after each row, may write to the same row. Their guards
//! find nothing to take out there and leave what was, and whichever statement comes to its AFTER trigger first stores it.
//! Say the host takes a message away, and the app's trigger `aaa` notes that in a column of the message: the text is stored
//! as that note is written.

use crate::pg::transaction::Scoped;
use crate::pg::trigger::Replaced;
use pgrx::Uuid;
use pgrx::pg_sys;
use std::collections::BTreeMap;
use std::rc::Rc;

/// By the id of the row, with what each subtransaction has made of it: an app's trigger may write, fail, and go on.
pub struct SetAside<T> {
    all: BTreeMap<Uuid, Scoped<Option<Rc<Taken<T>>>>>,
}

struct Taken<T> {
    what: T,
    /// The version of the row that is replaced by the one that it was taken out of; none of a new row.
    replaces: Option<pg_sys::ItemPointerData>,
    before: Option<Rc<Taken<T>>>,
}

impl<T> SetAside<T> {
    pub const fn new() -> Self {
        Self {
            all: BTreeMap::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    fn taken(&self, id: Uuid) -> Option<&Rc<Taken<T>>> {
        self.all.get(&id)?.get()?.as_ref()
    }

    /// What was taken out of a row and is to be stored.
    pub fn get(&self, id: Uuid) -> Option<&T> {
        self.taken(id).map(|taken| &taken.what)
    }

    /// Has this stored of a row that is written now, instead of what there is.
    pub fn put(&mut self, id: Uuid, what: T, replaced: Option<&Replaced>) {
        let taken = Taken {
            what,
            replaces: replaced.map(|it| it.place),
            before: self.taken(id).cloned(),
        };
        self.set(id, Some(Rc::new(taken)));
    }

    /// Forgets what was taken out of a row that was then not written, as where another trigger has kept it from that: the
    /// version that it was to replace is there still.
    pub fn forget_unwritten(&mut self, id: Uuid, replaced: &Replaced) {
        let Some(first) = self.taken(id) else { return };
        let mut left = Some(first);
        while let Some(taken) = left {
            let is_there = |place: &pg_sys::ItemPointerData| replaced.is_at(place);
            if replaced.is_own && !taken.replaces.as_ref().is_some_and(is_there) {
                break;
            }
            left = taken.before.as_ref();
        }
        let left = left.cloned();
        if !left.as_ref().is_some_and(|left| Rc::ptr_eq(left, first)) {
            self.set(id, left);
        }
    }

    pub fn forget(&mut self, id: Uuid) {
        if self.taken(id).is_some() {
            self.set(id, None);
        }
    }

    fn set(&mut self, id: Uuid, taken: Option<Rc<Taken<T>>>) {
        let scoped = self.all.entry(id).or_insert_with(Scoped::new);
        scoped.set(taken);
        if scoped.is_alone() && matches!(scoped.get(), Some(None)) {
            self.all.remove(&id);
        }
    }

    /// For [`transaction::at_end`](crate::pg::transaction::at_end).
    pub fn clear(&mut self) {
        self.all.clear();
    }

    /// For [`transaction::at_partial_rollback`](crate::pg::transaction::at_partial_rollback).
    pub fn undo(&mut self, subtransaction: pg_sys::SubTransactionId) {
        self.all.retain(|_, scoped| {
            scoped.undo(subtransaction);
            scoped.get().is_some()
        });
    }

    /// For [`transaction::at_partial_commit`](crate::pg::transaction::at_partial_commit).
    pub fn keep(
        &mut self,
        subtransaction: pg_sys::SubTransactionId,
        parent: pg_sys::SubTransactionId,
    ) {
        for scoped in self.all.values_mut() {
            scoped.keep(subtransaction, parent);
        }
    }
}
