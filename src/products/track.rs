//! Views, clicks and the like: counted for anybody who may see the product's session.

use crate::access;
use crate::identity;
use crate::metrics::entry;
use crate::metrics::rows::{self, Counted, Of, Tally};
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::viewers;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid};
use serde_json::Map;
use session::Status;
use std::collections::BTreeMap;

thread_local! {
    static PRODUCT: Plan = const { Plan::writing(
        c"select p.session_id, s.status::text, s.visibility::text, s.influencer_id
            from public.live_stream_products p
            join public.live_stream_sessions s on s.id = p.session_id
           where p.id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static COUNT: Plan = const { Plan::writing(
        c"update public.live_stream_products
             set views = least(views + $2, 2147483647), clicks = least(clicks + $3, 2147483647),
                 add_to_cart = least(add_to_cart + $4, 2147483647),
                 shares = least(shares + $5, 2147483647)
           where id = $1",
        &[pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID],
    ) };
}

/// Counts what somebody did with a product, and returns the product's id. `action` is view,
/// click, add_to_cart or share; a click also counts for the viewer row of the caller. Once the
/// session is finished its numbers are settled: nothing is counted.
///
/// Errors: PT404 for no product that the caller can see; 22023 for another action.
#[pg_extern(volatile)]
fn track_product(
    session_product_id: Option<Uuid>,
    action: Option<&str>,
    viewer_id: Option<Uuid>,
) -> Uuid {
    let track = || {
        let mut tally = Tally::default();
        match action {
            Some("view") => tally.views = 1,
            Some("click") => tally.clicks = 1,
            Some("add_to_cart") => tally.add_to_cart = 1,
            Some("share") => tally.shares = 1,
            _ => {
                return Err(
                    Error::new(SqlState::INVALID_PARAMETER, "unknown action on a product")
                        .hint("It is view, click, add_to_cart or share."),
                );
            }
        }
        let (id, session, status) = visible_product(session_product_id)?;
        if status.is_finished() {
            return Ok(id);
        }
        let viewer = if action == Some("click") {
            caller(session, viewer_id)?
        } else {
            None
        };
        entry::keep(session)?;
        rows::count(session, Counted::product(id), tally);
        if let Some(viewer) = viewer {
            let clicks = Tally {
                clicks: 1,
                ..Tally::default()
            };
            rows::count(session, Counted::viewer(viewer), clicks);
        }
        Ok(id)
    };
    track().or_raise()
}

/// The tallies of a product with what this transaction has done, as an object of those that it has changed.
#[pg_extern(stable)]
fn tallied_product(
    session_product_id: Option<Uuid>,
    views: Option<i32>,
    clicks: Option<i32>,
    add_to_cart: Option<i32>,
    shares: Option<i32>,
) -> JsonB {
    let mut changed = Map::new();
    let counted = session_product_id.map(|id| rows::counted_on(Of::Product, id));
    for tally in counted.into_iter().flat_map(BTreeMap::into_values) {
        for (column, number, change) in [
            ("views", views, tally.views),
            ("clicks", clicks, tally.clicks),
            ("add_to_cart", add_to_cart, tally.add_to_cart),
            ("shares", shares, tally.shares),
        ] {
            if change != 0 {
                let sum = i64::from(number.unwrap_or(0)).saturating_add(change);
                changed.insert(column.to_owned(), sum.min(i32::MAX.into()).into());
            }
        }
    }
    JsonB(changed.into())
}

/// Adds to the tallies of a product.
pub fn add(counted: &Counted, tally: &Tally) -> Result<bool> {
    let args = [
        counted.row.into(),
        tally.views.into(),
        tally.clicks.into(),
        tally.add_to_cart.into(),
        tally.shares.into(),
    ];
    Ok(plan::execute(&COUNT, &args)? > 0)
}

fn visible_product(id: Option<Uuid>) -> Result<(Uuid, Uuid, Status)> {
    let id = id.ok_or_else(|| {
        Error::new(
            SqlState::INVALID_PARAMETER,
            "session_product_id must not be null",
        )
        .hint("Pass the id of a row of live_stream_products.")
    })?;
    let found = as_owner(|| {
        plan::run(&PRODUCT, &[id.into()], |rows| {
            let status = rows
                .get::<String>(0, 1)
                .and_then(|label| label.parse::<Status>().ok());
            let visibility = rows.get::<String>(0, 2).zip(rows.get::<Uuid>(0, 3));
            let session = rows.get::<Uuid>(0, 0).zip(status);
            Ok(session.zip(visibility))
        })
    })?;
    if let Some(((session, status), (visibility, influencer))) = found
        && access::sees(session, influencer, &visibility)?
    {
        return Ok((id, session, status));
    }
    Err(no_such_product(id))
}

fn no_such_product(id: Uuid) -> Error {
    Error::new(
        SqlState::NOT_FOUND,
        format!("product {id} is in no session"),
    )
    .detail("Or the session is private, and the caller may not see it.")
    .hint("Pass the id of a row of live_stream_products, not the shop's own product id.")
}

/// The caller's viewer row in a session: as given, as the header names it, or a user's own. One of another session
/// is none.
fn caller(session: Uuid, viewer_id: Option<Uuid>) -> Result<Option<Uuid>> {
    let here = |own: viewers::Own| (own.session == session).then_some(own.id);
    if let Some(id) = viewer_id {
        return viewers::own_viewer(Some(id)).map(here);
    }
    match identity::user_id()? {
        Some(user) => viewers::viewer_of(session, user),
        None => match identity::viewer_id() {
            Some(id) => Ok(viewers::own_viewer(Some(id)).ok().and_then(here)),
            None => Ok(None),
        },
    }
}
