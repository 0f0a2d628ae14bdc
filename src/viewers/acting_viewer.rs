//! The viewer row that a request acts for: whose it must be, and that it does so for the rest of its transaction.

use crate::identity;
use crate::metrics::entry;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::returned;
use crate::pg::transaction::{self, Scoped};
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{AnyElement, Uuid};
use std::cell::RefCell;

thread_local! {
    static VIEWER: Plan = const { Plan::writing(
        c"select session_id, user_id, is_still_watching,
                 user_id is null and viewer_type = 'anonymous'
            from public.live_stream_viewers where id = $1",
        &[pg_sys::UUIDOID],
    ) };
    /// Unlike the setting `live_stream.viewer_id`, nobody else can write it.
    static ACTING: RefCell<Scoped<Acting>> = const { RefCell::new(Scoped::new()) };
}

/// A viewer row, and the tab in which the request was made, if it said so.
#[derive(Clone, Copy)]
struct Acting {
    viewer: Uuid,
    tab: Option<Uuid>,
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
    act_in(viewer, None)
}

/// As [`act_for`], in a tab of the viewer's.
pub fn act_in(viewer: Uuid, tab: Option<Uuid>) -> Result<Uuid> {
    identity::set_viewer_id(&viewer)?;
    ACTING.with_borrow_mut(|acting| acting.set(Acting { viewer, tab }));
    Ok(viewer)
}

/// The tab in which this transaction acts for a viewer row.
pub(super) fn tab_of(viewer: Uuid) -> Option<Uuid> {
    let acting = ACTING.with_borrow(|acting| acting.get().copied());
    acting.filter(|acting| acting.viewer == viewer)?.tab
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
        let acting = ACTING.with_borrow(|acting| acting.get().map(|acting| acting.viewer));
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

pub fn no_such_viewer(id: Uuid) -> Error {
    Error::new(SqlState::NOT_FOUND, format!("viewer {id} does not exist"))
        .detail("Or it is somebody else's.")
        .hint("Pass the id that joining returned.")
}

/// A viewer row that the caller may act for.
pub struct Own {
    pub id: Uuid,
    pub session: Uuid,
    pub watching: bool,
}

/// The row with this id, or the one that the request's header names: the caller's own, or an
/// anonymous one, whose id is its key.
pub fn own_viewer(viewer_id: Option<Uuid>) -> Result<Own> {
    let id = viewer_id.or_else(identity::viewer_id).ok_or_else(|| {
        Error::new(SqlState::INVALID_PARAMETER, "viewer_id must not be null")
            .hint("Pass the id that joining returned, or send it in the header x-viewer-id.")
    })?;
    let found = as_owner(|| {
        plan::run(&VIEWER, &[id.into()], |rows| {
            let own = rows.get(0, 0).zip(rows.get(0, 2));
            let own = own.map(|(session, watching)| Own {
                id,
                session,
                watching,
            });
            Ok(own.map(|own| (own, rows.get::<Uuid>(0, 1), rows.get(0, 3) == Some(true))))
        })
    })?;
    match found {
        // A row whose user is gone stays that user's: its id was never a secret.
        Some((own, user, anonymous))
            if anonymous
                || user.is_some() && user == identity::user_id()?
                || identity::is_service()? =>
        {
            Ok(own)
        }
        _ => Err(no_such_viewer(id)),
    }
}

/// Lets the rest of the transaction act for a viewer row that the caller may act for, with its
/// session entered; returns the id. `tab_id` is the tab of the viewer's in which it is called, where it has one.
///
/// Errors: 22023 without an id; PT404 for no such row of the caller's.
#[pg_extern(volatile)]
fn act_as_viewer(viewer_id: Option<Uuid>, tab_id: default!(Option<Uuid>, "NULL")) -> Uuid {
    let act = || {
        let own = own_viewer(viewer_id)?;
        entry::enter(own.session)?;
        act_in(own.id, tab_id)
    };
    act().or_raise()
}
