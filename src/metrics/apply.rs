//! Applying a change to a session's numbers: at once, or by appending it.

use super::*;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::plan::{self, Plan};
use pgrx::Uuid;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

thread_local! {
    static APPLY: Plan = const { Plan::writing(
        c"update public.live_stream_sessions
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
           where id = $1
             and greatest(current_viewers + $3, total_unique_viewers + $4, total_messages + $6,
                          total_reactions + $7, total_shares + $8, total_products_showcased + $9,
                          total_clicks + $10, total_orders + $11, connection_issues_count + $13,
                          buffering_events + $14) <= 2147483647
             and total_revenue + $12 * 0.01 < 1e10
             and least(current_viewers + $2, total_unique_viewers + $4,
                       total_watch_time_seconds + $5, total_messages + $6, total_reactions + $7,
                       total_shares + $8, total_products_showcased + $9, total_clicks + $10,
                       total_orders + $11, connection_issues_count + $13, buffering_events + $14,
                       total_buffering_time_seconds + $15, total_revenue + $12 * 0.01) >= 0
          returning current_viewers, max_viewers",
        &[
            pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID,
            pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID,
            pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID,
        ],
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
                       total_watch_time_seconds + $5) >= 0
          returning current_viewers, max_viewers",
        &[
            pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID,
        ],
    ) };
    static APPLY_CHAT: Plan = const { Plan::writing(
        c"update public.live_stream_sessions
             set total_messages = total_messages + $2, total_reactions = total_reactions + $3
           where id = $1
             and greatest(total_messages + $2, total_reactions + $3) <= 2147483647
             and least(total_messages + $2, total_reactions + $3) >= 0
          returning current_viewers, max_viewers",
        &[pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::INT8OID],
    ) };
}

/// Adds a change to a session's numbers; a session that is gone has none.
///
/// Errors: PT409 when viewers come and the session is full; 22003 when a number would no longer
/// fit its column.
pub fn apply(session: Uuid, delta: Delta) -> Result<()> {
    if delta.is_nothing() || collected(session, delta) {
        return Ok(());
    }
    match entry::write_path(session)? {
        None => entry::check_gone(),
        Some(WritePath::Log) if !delta.is_large() => append(session, &delta, false),
        Some(WritePath::Log) => {
            entry::switch_to_row(session)?;
            update(session, &delta)
        }
        Some(_) => update(session, &delta),
    }
}

pub(super) fn append(session: Uuid, delta: &Delta, doubtful: bool) -> Result<()> {
    entry::appended(session);
    log::append(session, delta, doubtful)
}

fn update(session: Uuid, delta: &Delta) -> Result<()> {
    entry::updated(session);
    let viewers = settling(|| {
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
        let apply = || {
            plan::run(plan, args, |rows| {
                let viewers = rows.get::<i32>(0, 0).zip(rows.get::<i32>(0, 1));
                Ok((rows.len() > 0).then_some(viewers))
            })
        };
        if let Some(viewers) = apply()? {
            return Ok(viewers);
        }
        if !entry::exists(session)? {
            return Ok(None);
        }
        // What goes may have come a moment ago, and be pending still.
        fold::whole(session)?;
        apply()?.ok_or_else(|| too_large(session))
    })?;
    if let Some((current, max)) = viewers {
        entry::check_places(session, delta, current, max)?;
    }
    if entry::was_overtaken(session) {
        return peak::count(session);
    }
    Ok(())
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
