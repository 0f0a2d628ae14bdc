//! The row of a person in a session.

use crate::metrics::rows::{Counted, Tally};
use crate::pg::error::Result;
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, sql};
use pgrx::Uuid;
use pgrx::pg_sys;

/// The row of a user in a session: the open one, or else the one that it joined with last.
macro_rules! row_of_user {
    ($columns:literal) => {
        concat!(
            "select ",
            $columns,
            " from public.live_stream_viewers
               where session_id = $1 and user_id = $2
               order by is_still_watching desc, joined_at desc limit 1"
        )
    };
}
pub(super) use row_of_user;

thread_local! {
    static ROW_OF_USER: Plan = const { Plan::writing(
        sql!(row_of_user!("id, is_still_watching")),
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
    static COUNT: Plan = const { Plan::writing(
        c"update public.live_stream_viewers
             set messages_sent = messages_sent + $2, reactions_sent = reactions_sent + $3,
                 products_clicked = products_clicked + $4, orders_placed = orders_placed + $5
           where id = $1
             and least(messages_sent + $2, reactions_sent + $3, products_clicked + $4,
                       orders_placed + $5) >= 0",
        &[pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID],
    ) };
    // Locked, so that the row is still there when it is returned.
    static RETURN_OF_USER: Plan = const { Plan::writing(
        sql!(row_of_user!("id, is_still_watching"), " for key share"),
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
}

/// Adds to the tallies of a viewer.
pub(super) fn add(counted: &Counted, tally: &Tally) -> Result<bool> {
    let args = [
        counted.row.into(),
        tally.messages.into(),
        tally.reactions.into(),
        tally.clicks.into(),
        tally.orders.into(),
    ];
    Ok(plan::execute(&COUNT, &args)? > 0)
}

fn find(
    plan: &'static std::thread::LocalKey<Plan>,
    session: Uuid,
    who: Uuid,
) -> Result<Option<(Uuid, bool)>> {
    as_owner(|| {
        plan::run(plan, &[session.into(), who.into()], |rows| {
            Ok(rows.get(0, 0).zip(rows.get(0, 1)))
        })
    })
}

/// The row of a user in a session, the open one first.
pub fn viewer_of(session: Uuid, user: Uuid) -> Result<Option<Uuid>> {
    Ok(find(&ROW_OF_USER, session, user)?.map(|(id, _)| id))
}

/// As [`viewer_of`], for a row that is about to refer to it: it is not deleted before that.
pub fn kept_viewer_of(session: Uuid, user: Uuid) -> Result<Option<Uuid>> {
    Ok(find(&RETURN_OF_USER, session, user)?.map(|(id, _)| id))
}
