//! Views, clicks and the like: counted for anybody who may see the product's session.

use crate::access;
use crate::identity;
use crate::metrics;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::viewers;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use session::Status;
use std::thread::LocalKey;

thread_local! {
    static PRODUCT: Plan = const { Plan::writing(
        c"select p.session_id, s.status::text, s.visibility::text, s.influencer_id
            from public.live_stream_products p
            join public.live_stream_sessions s on s.id = p.session_id
           where p.id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static VIEW: Plan = const { Plan::writing(
        c"update public.live_stream_products set views = views + 1 where id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static CLICK: Plan = const { Plan::writing(
        c"update public.live_stream_products set clicks = clicks + 1 where id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static ADD_TO_CART: Plan = const { Plan::writing(
        c"update public.live_stream_products set add_to_cart = add_to_cart + 1 where id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static SHARE: Plan = const { Plan::writing(
        c"update public.live_stream_products set shares = shares + 1 where id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static CLICK_OF_VIEWER: Plan = const { Plan::writing(
        c"update public.live_stream_viewers set products_clicked = products_clicked + 1
           where id = $1 and session_id = $2",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
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
        let plan: &'static LocalKey<Plan> = match action {
            Some("view") => &VIEW,
            Some("click") => &CLICK,
            Some("add_to_cart") => &ADD_TO_CART,
            Some("share") => &SHARE,
            _ => {
                return Err(
                    Error::new(SqlState::INVALID_PARAMETER, "unknown action on a product")
                        .hint("It is view, click, add_to_cart or share."),
                );
            }
        };
        let (id, session, status) = visible_product(session_product_id)?;
        if status.is_finished() {
            return Ok(id);
        }
        let viewer = if action == Some("click") {
            caller(session, viewer_id)?
        } else {
            None
        };
        metrics::settling(|| {
            if plan::execute(plan, &[id.into()])? == 0 {
                return Err(no_such_product(id));
            }
            if let Some(viewer) = viewer {
                plan::execute(&CLICK_OF_VIEWER, &[viewer.into(), session.into()])?;
            }
            Ok(())
        })?;
        Ok(id)
    };
    track().or_raise()
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

/// The caller's viewer row in a session: as given, as the header names it, or a user's own.
fn caller(session: Uuid, viewer_id: Option<Uuid>) -> Result<Option<Uuid>> {
    if let Some(id) = viewer_id {
        return viewers::own_viewer(Some(id)).map(|own| Some(own.id));
    }
    match identity::user_id()? {
        Some(user) => viewers::viewer_of(session, user),
        None => match identity::viewer_id() {
            Some(id) => Ok(viewers::own_viewer(Some(id)).ok().map(|own| own.id)),
            None => Ok(None),
        },
    }
}
