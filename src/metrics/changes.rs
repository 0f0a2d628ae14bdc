//! What this transaction has changed of the numbers of sessions so far. It is settled as the transaction commits:
//! `settle.rs`.

use super::Delta;
use crate::pg::transaction::{self, innermost};
use pgrx::Uuid;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

/// What a transaction changes of one session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub delta: Delta,
    /// The peak must be counted from the rows.
    pub doubtful: bool,
}

impl Change {
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Nobody watches a finished session, and nobody goes: but who came, or went, before it ended counts for its peak.
    pub fn settle_finished(&mut self) {
        let delta = &mut self.delta;
        self.doubtful |= delta.viewers != 0 || delta.peak != 0;
        (delta.viewers, delta.peak, delta.first, delta.last) = (0, 0, None, None);
    }
}

/// All that was changed of a session up to a step.
struct Step {
    within: pg_sys::SubTransactionId,
    session: Uuid,
    sum: Change,
    /// The step of this session before.
    before: Option<usize>,
}

#[derive(Default)]
struct Changes {
    steps: Vec<Step>,
    /// The last step of each session.
    last: HashMap<Uuid, usize>,
}

thread_local! {
    static CHANGES: RefCell<Changes> = RefCell::default();
}

/// Sessions that a backend keeps room for between transactions.
const FEW: usize = 1_000;

/// Called once per backend.
pub fn watch_transactions() {
    transaction::at_end(|| {
        CHANGES.with_borrow_mut(|changes| {
            changes.steps.clear();
            changes.steps.shrink_to(FEW);
            changes.last.clear();
            changes.last.shrink_to(FEW);
        });
    });
    transaction::at_partial_rollback(|sub| CHANGES.with_borrow_mut(|changes| changes.undo(sub)));
}

impl Changes {
    fn sum(&self, session: Uuid) -> Change {
        let last = self.last.get(&session).and_then(|&at| self.steps.get(at));
        last.map_or_else(Change::default, |step| step.sum)
    }

    fn set(&mut self, session: Uuid, sum: Change) {
        let within = innermost();
        let before = self.last.get(&session).copied();
        if let Some(step) = before.and_then(|at| self.steps.get_mut(at))
            && step.within == within
        {
            step.sum = sum;
            return;
        }
        self.last.insert(session, self.steps.len());
        self.steps.push(Step {
            within,
            session,
            sum,
            before,
        });
    }

    /// What began later was within the subtransaction.
    fn undo(&mut self, subtransaction: pg_sys::SubTransactionId) {
        while let Some(step) = self.steps.pop_if(|step| step.within >= subtransaction) {
            match step.before {
                Some(before) => self.last.insert(step.session, before),
                None => self.last.remove(&step.session),
            };
        }
    }
}

/// Adds to what the transaction changes of a session.
pub fn add(session: Uuid, delta: Delta, doubtful: bool) {
    CHANGES.with_borrow_mut(|changes| {
        let mut sum = changes.sum(session);
        sum.delta += delta;
        sum.doubtful |= doubtful;
        changes.set(session, sum);
    });
}

/// What the transaction has changed of a session so far, and has not settled.
pub fn of(session: Uuid) -> Change {
    CHANGES.with_borrow(|changes| changes.sum(session))
}

/// As [`of`]; from now on it is settled.
pub fn take(session: Uuid) -> Change {
    CHANGES.with_borrow_mut(|changes| {
        let sum = changes.sum(session);
        if !sum.is_nothing() {
            changes.set(session, Change::default());
        }
        sum
    })
}

/// Puts what viewers who came or went did at another time, all at once: whoever came and went was never there.
pub fn move_to(session: Uuid, at: i64) {
    CHANGES.with_borrow_mut(|changes| {
        let mut sum = changes.sum(session);
        if sum.delta.last.is_some() {
            (sum.delta.first, sum.delta.last) = (Some(at), Some(at));
            sum.delta.peak = sum.delta.viewers.max(0);
            changes.set(session, sum);
        }
    });
}

/// All that is not settled, by session.
pub fn all() -> BTreeMap<Uuid, Change> {
    CHANGES.with_borrow(|changes| {
        let sums = changes.last.iter();
        sums.filter_map(|(session, &at)| Some((*session, changes.steps.get(at)?.sum)))
            .filter(|(_, sum)| !sum.is_nothing())
            .collect()
    })
}
