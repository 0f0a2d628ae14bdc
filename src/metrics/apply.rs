//! Applying a change to a session's numbers.

use super::changes::Change;
use super::*;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::plan::{self, Plan, sql};
use pgrx::Uuid;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

/// The row of a session in which every number fits its column with a change.
macro_rules! where_it_fits {
    () => {
        "where id = $1
             and greatest(current_viewers + $3, total_unique_viewers + $4, total_messages + $6,
                          total_reactions + $7, total_shares + $8, total_products_showcased + $9,
                          total_clicks + $10, total_orders + $11, connection_issues_count + $13,
                          buffering_events + $14) <= 2147483647
             and total_revenue + $12 * 0.01 < 1e10
             and least(current_viewers + $2, total_unique_viewers + $4,
                       total_watch_time_seconds + $5, total_messages + $6, total_reactions + $7,
                       total_shares + $8, total_products_showcased + $9, total_clicks + $10,
                       total_orders + $11, connection_issues_count + $13, buffering_events + $14,
                       total_buffering_time_seconds + $15, total_revenue + $12 * 0.01) >= 0"
    };
}

thread_local! {
    static FITS: Plan = const { Plan::writing(
        sql!("select from public.live_stream_sessions ", where_it_fits!()),
        &CHANGE,
    ) };
    static APPLY: Plan = const { Plan::writing(
        sql!("update public.live_stream_sessions
             set current_viewers = current_viewers + $2,
                 peak_viewers = greatest(peak_viewers, current_viewers + $3),
                 total_unique_viewers = total_unique_viewers + $4,
                 total_watch_time_seconds = total_watch_time_seconds + $5,
                 total_messages = total_messages + $6,
                 total_reactions = total_reactions + $7,
                 total_shares = total_shares + $8,
                 total_products_showcased = total_products_showcased + $9,
                 total_clicks = total_clicks + $10,
                 total_orders = total_orders + $11,
                 total_revenue = total_revenue + $12 * 0.01,
                 connection_issues_count = connection_issues_count + $13,
                 buffering_events = buffering_events + $14,
                 total_buffering_time_seconds = total_buffering_time_seconds + $15
           ", where_it_fits!()),
        &CHANGE,
    ) };
    // The same for what is changed most: the less a statement computes, the less it costs.
    static APPLY_VIEWERS: Plan = const { Plan::writing(
        c"update public.live_stream_sessions
             set current_viewers = current_viewers + $2,
                 peak_viewers = greatest(peak_viewers, current_viewers + $3),
                 total_unique_viewers = total_unique_viewers + $4,
                 total_watch_time_seconds = total_watch_time_seconds + $5
           where id = $1
             and greatest(current_viewers + $3, total_unique_viewers + $4) <= 2147483647
             and least(current_viewers + $2, total_unique_viewers + $4,
                       total_watch_time_seconds + $5) >= 0",
        &[
            pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID,
        ],
    ) };
    static APPLY_CHAT: Plan = const { Plan::writing(
        c"update public.live_stream_sessions
             set total_messages = total_messages + $2, total_reactions = total_reactions + $3
           where id = $1
             and greatest(total_messages + $2, total_reactions + $3) <= 2147483647
             and least(total_messages + $2, total_reactions + $3) >= 0",
        &[pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::INT8OID],
    ) };
}

/// The arguments of a change: the session, and [`arguments`].
pub(super) const CHANGE: [pg_sys::Oid; 15] = {
    let mut kinds = [pg_sys::INT8OID; 15];
    kinds[0] = pg_sys::UUIDOID;
    kinds
};

/// Adds a change to a session's numbers, as the transaction commits.
pub fn apply(session: Uuid, delta: Delta) {
    if !delta.is_nothing() && !collected(session, delta) {
        settle::later(session, delta, false);
    }
}

/// Adds a change to the row of a session, which this transaction has locked.
///
/// Errors: 22003 when a number would no longer fit its column.
pub(super) fn update(session: Uuid, delta: &Delta) -> Result<()> {
    if delta.is_nothing() {
        return Ok(());
    }
    bursts::updated(session);
    settling(|| {
        let all = arguments(session, delta, delta.peak);
        let chat = [
            session.into(),
            delta.messages.into(),
            delta.reactions.into(),
        ];
        let (plan, args) = if delta.is_of_viewers() {
            (&APPLY_VIEWERS, &all[..5])
        } else if delta.is_of_chat() {
            (&APPLY_CHAT, &chat[..])
        } else {
            (&APPLY, &all[..])
        };
        let apply = || -> Result<bool> { Ok(plan::execute(plan, args)? > 0) };
        if apply()? || !entry::exists(session)? {
            return Ok(());
        }
        // What goes may have come a moment ago, and be pending still.
        let own = Change {
            delta: *delta,
            doubtful: false,
        };
        fold::with(session, own)
    })
}

/// Whether every number of a session fits its column with a change.
pub(super) fn fits(session: Uuid, delta: &Delta) -> Result<bool> {
    let args = arguments(session, delta, delta.peak);
    settling(|| Ok(plan::execute(&FITS, &args)? > 0))
}

/// A change as the statements on a session's row take it.
pub(super) fn arguments(session: Uuid, delta: &Delta, peak: i64) -> [DatumWithOid<'static>; 15] {
    [
        session.into(),
        delta.viewers.into(),
        peak.into(),
        delta.unique_viewers.into(),
        delta.watch_seconds.into(),
        delta.messages.into(),
        delta.reactions.into(),
        delta.shares.into(),
        delta.products.into(),
        delta.clicks.into(),
        delta.orders.into(),
        delta.revenue.into(),
        delta.disconnections.into(),
        delta.buffering_events.into(),
        delta.buffering_seconds.into(),
    ]
}

pub(super) fn too_large(session: Uuid) -> Error {
    Error::new(
        SqlState::OUT_OF_RANGE,
        format!("a number of session {session} would be too large"),
    )
    .detail("Counters end at 2147483647, revenue at 9999999999.99.")
    .hint("Look at what the products of the session count.")
}
