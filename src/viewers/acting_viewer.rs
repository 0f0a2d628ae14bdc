//! The viewer row that a request acts for, for the rest of its transaction.

use super::presence::no_such_viewer;
use crate::identity;
use crate::pg::error::{OrRaise, Result};
use crate::pg::returned;
use crate::pg::transaction::{self, Scoped};
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{AnyElement, Uuid};
use std::cell::RefCell;

thread_local! {
    /// Unlike the setting `live_stream.viewer_id`, nobody else can write it.
    static ACTING: RefCell<Scoped<Uuid>> = const { RefCell::new(Scoped::new()) };
}

/// Forgets with each transaction for whom it acted. Called once per backend.
pub fn watch_transactions() {
    transaction::at_end(|| ACTING.with_borrow_mut(Scoped::clear));
    transaction::at_partial_rollback(|sub| ACTING.with_borrow_mut(|acting| acting.undo(sub)));
    transaction::at_partial_commit(|sub, parent| {
        ACTING.with_borrow_mut(|acting| acting.keep(sub, parent));
    });
}

/// Lets the rest of the transaction act for a viewer row that the caller may act for.
pub fn act_for(viewer: Uuid) -> Result<Uuid> {
    identity::set_viewer_id(&viewer)?;
    ACTING.with_borrow_mut(|acting| acting.set(viewer));
    Ok(viewer)
}

/// The viewer row that this transaction acts for since an API function has checked that the
/// caller may; null without one. Read without planning a query, policies and all, each time.
/// The argument names the type that is returned: `null::public.live_stream_viewers`.
///
/// Errors: 42804 for another type; PT404 where the row has been deleted meanwhile.
#[pg_extern(volatile)]
fn acting_viewer(
    _of_type: Option<AnyElement>,
    call: pg_sys::FunctionCallInfo,
) -> Option<AnyElement> {
    let find = || {
        let acting = ACTING.with_borrow(|acting| acting.get().copied());
        let row = returned::row(
            call,
            c"live_stream_viewers",
            c"live_stream_viewers_pkey",
            acting,
        )?;
        match (row, acting) {
            (None, Some(gone)) => Err(no_such_viewer(gone)),
            (row, _) => Ok(row),
        }
    };
    find().or_raise()
}
