//! What is pending of a session that ends.

use super::*;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::plan::{self, Plan};
use crate::pg::row::Row;
use crate::pg::transaction;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;

thread_local! {
    static PENDING: Plan = const { Plan::writing(
        c"select ctid from live_stream.metric_changes where session_id = $1",
        &[pg_sys::UUIDOID],
    ) };
}

/// Takes what is pending of a session out of the log, for a trigger that is changing that session's row to its last
/// state, and what this transaction has not settled yet. Who is under way still is settled after.
///
/// Errors: 40001 when the transaction's snapshot is older than what is pending.
pub fn take_pending(id: Uuid, session: &Row<'_>) -> Result<(Delta, bool)> {
    check_snapshot(id)?;
    settle::find_places_now(id)?;
    let level = session.get::<i32>("current_viewers")?.unwrap_or(0).into();
    let updated: TimestampWithTimeZone = row::required(session, "updated_at")?;
    let mut folded = fold::Folded::into(timeline::Timeline::new(updated.into(), level, level));
    folded.take_all(id)?;
    folded.add(changes::take(id));
    let mut delta = folded.delta;
    delta.peak = folded.peak().saturating_sub(level);
    Ok((delta, folded.timeline.doubtful || hot::is_doubtful(id)?))
}

/// As [`take_pending`], for a trigger that changes the row in another way: where no worker folds, whoever writes the row
/// does. None where nothing is pending.
pub fn take_pending_without_worker(id: Uuid, session: &Row<'_>) -> Result<Option<(Delta, bool)>> {
    let is_left = !transaction::has_fixed_snapshot()
        && !log::is_empty()?
        && log::has(Some(id))?
        && !worker::is_available()?;
    is_left.then(|| take_pending(id, session)).transpose()
}

/// That the transaction sees all the changes that are pending of a session: what it counts from
/// the rows would be of another moment.
pub(super) fn check_snapshot(session: Uuid) -> Result<()> {
    if !transaction::has_fixed_snapshot() {
        return Ok(());
    }
    let sorted = |mut places: Vec<pg_sys::ItemPointerData>| {
        let key = |place: &pg_sys::ItemPointerData| {
            let block = place.ip_blkid;
            (block.bi_hi, block.bi_lo, place.ip_posid)
        };
        places.sort_unstable_by_key(key);
        places.iter().map(key).collect::<Vec<_>>()
    };
    let seen = settling(|| {
        plan::run(&PENDING, &[session.into()], |rows| {
            Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
        })
    })?;
    if sorted(seen) != sorted(log::places(session)?) {
        return Err(Error::new(
            SqlState::SERIALIZATION_FAILURE,
            "could not serialize access due to concurrent changes of the session's numbers",
        )
        .hint("Run the transaction again."));
    }
    Ok(())
}
