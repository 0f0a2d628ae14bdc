//! Collecting what changes a session's numbers, for a trigger that is changing its row itself.

use super::*;
use crate::pg::error::Result;
use crate::pg::own_writes;
use pgrx::Uuid;
use std::cell::RefCell;

thread_local! {
    static COLLECTING: RefCell<Option<Collecting>> = const { RefCell::new(None) };
}

/// The session whose changes are collected instead of applied.
#[derive(Clone, Copy)]
struct Collecting {
    session: Uuid,
    sum: Delta,
    /// Only changes that are counted this deep in triggers.
    depth: Option<i32>,
}

impl Collecting {
    fn takes(&self, session: Uuid) -> bool {
        self.session == session
            && self
                .depth
                .is_none_or(|depth| own_writes::trigger_depth() == depth)
    }
}

/// Whether a change of a session's numbers by the current statement would be collected.
pub fn collects(session: Uuid) -> bool {
    COLLECTING.with_borrow(|collecting| collecting.is_some_and(|it| it.takes(session)))
}

pub(super) fn collected(session: Uuid, delta: Delta) -> bool {
    COLLECTING.with_borrow_mut(|collecting| match collecting {
        Some(collecting) if collecting.takes(session) => {
            collecting.sum += delta;
            true
        }
        _ => false,
    })
}

fn collecting(collecting: Collecting, f: impl FnOnce() -> Result<()>) -> Result<Delta> {
    struct Restore(Option<Collecting>);
    impl Drop for Restore {
        fn drop(&mut self) {
            COLLECTING.replace(self.0.take());
        }
    }
    let _outer = Restore(COLLECTING.replace(Some(collecting)));
    f()?;
    Ok(COLLECTING.take().map_or_else(Delta::default, |it| it.sum))
}

/// Runs `f` and returns what it changed of a session's numbers, for a trigger that is changing
/// that session's row itself.
pub fn collect(session: Uuid, f: impl FnOnce() -> Result<()>) -> Result<Delta> {
    let sum = Delta::default();
    let depth = None;
    collecting(
        Collecting {
            session,
            sum,
            depth,
        },
        f,
    )
}

/// As [`collect`], of what the statements of `f` change by themselves: what an app's triggers
/// write meanwhile is applied as ever. So is what goes with a row by its foreign key: delete that first.
pub fn collect_own(session: Uuid, f: impl FnOnce() -> Result<()>) -> Result<Delta> {
    let sum = Delta::default();
    let depth = Some(own_writes::trigger_depth() + 1);
    collecting(
        Collecting {
            session,
            sum,
            depth,
        },
        f,
    )
}
