//! The viewer row that a request acts for, for the rest of its transaction.

use super::presence::no_such_viewer;
use crate::error::{OrRaise, Result};
use crate::identity;
use crate::returned;
use crate::transaction;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{AnyElement, Uuid};
use std::cell::Cell;

thread_local! {
    /// Unlike the setting `live_stream.viewer_id`, nobody else can write it.
    static ACTING: Cell<Option<Uuid>> = const { Cell::new(None) };
}

/// Forgets with each transaction for whom it acted. Called once per backend.
pub fn watch_transactions() {
    transaction::at_end(|| ACTING.set(None));
    transaction::at_partial_rollback(|_| ACTING.set(None));
}

/// Lets the rest of the transaction act for a viewer row that the caller may act for.
pub fn act_for(viewer: Uuid) -> Result<Uuid> {
    identity::set_viewer_id(&viewer)?;
    ACTING.set(Some(viewer));
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
        let acting = ACTING.get();
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
