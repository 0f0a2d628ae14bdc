//! Writes of the engine's own, which pass the guards of the tables that they go to.
//!
//! A trigger knows them by how deep in triggers it fires. Say a client's INSERT fires a trigger of
//! ours at depth 1, which updates a session as a write of its own: the guard that this fires runs
//! at depth 2 and lets it pass. A trigger of the app's on the same update runs at depth 2 as well,
//! but what *it* writes fires guards at depth 3, and those look at it as at anybody's.

use pgrx::pg_sys;
use std::cell::Cell;
use std::thread::LocalKey;

/// A kind of writes, declared in `thread_local!`: how deep in triggers the innermost of them began.
pub struct OwnWrites(Cell<Option<i32>>);

impl OwnWrites {
    pub const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// True in a trigger that such a write has fired.
    pub fn have_fired(&self) -> bool {
        let depth = self.0.get();
        depth.is_some_and(|depth| trigger_depth() == depth + 1)
    }

    /// True in code that makes such writes, and in a trigger that one has fired.
    pub fn are_being_made(&self) -> bool {
        let depth = self.0.get();
        depth.is_some_and(|depth| (depth..=depth + 1).contains(&trigger_depth()))
    }
}

/// Runs `f`, whose writes are of this kind if `are_own`, else of none.
pub fn with<R>(kind: &'static LocalKey<OwnWrites>, are_own: bool, f: impl FnOnce() -> R) -> R {
    struct Restore(&'static LocalKey<OwnWrites>, Option<i32>);
    impl Drop for Restore {
        fn drop(&mut self) {
            self.0.with(|kind| kind.0.set(self.1));
        }
    }
    let depth = are_own.then(trigger_depth);
    let _restore = Restore(kind, kind.with(|kind| kind.0.replace(depth)));
    f()
}

/// How deep in triggers the backend is: 1 in the trigger of a client's statement.
pub fn trigger_depth() -> i32 {
    // SAFETY: the function takes no arguments and returns a number.
    unsafe { pgrx::direct_function_call(pg_sys::pg_trigger_depth, &[]) }.unwrap_or(0)
}
