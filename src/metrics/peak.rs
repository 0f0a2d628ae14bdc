//! The peak of a session: the most people who watched it at the same moment, by the server's clock.
//!
//! A row that is updated with every change has it by itself: the level before, and the highest that the
//! change reaches on its way ([`Delta::peak`]). What was appended is put in the order of time first, whoever
//! appended it first (`timeline.rs`): three people who come at 10:00:01 and two who leave at 10:00:00 make a
//! peak that is lower by two. Where a row that counted is gone, or was moved, the peak is in doubt: it is
//! counted anew from the rows, by the view `live_stream.counted_peaks` in `sql/metrics.sql`.

use super::*;
use crate::pg::error::Result;
use crate::pg::plan::{self, Plan};
use crate::pg::transaction;
use pgrx::Uuid;
use pgrx::pg_sys;

thread_local! {
    static COUNTED_PEAK: Plan = const { Plan::writing(
        c"select peak_viewers from live_stream.counted_peaks where session_id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static SET_PEAK: Plan = const { Plan::writing(
        c"update public.live_stream_sessions set peak_viewers = $2
           where id = $1 and peak_viewers <> $2",
        &[pg_sys::UUIDOID, pg_sys::INT4OID],
    ) };
}

/// The peak of a session must be counted from the rows: a viewer row that it was counted from is gone, or is of
/// another session now.
pub fn doubt(session: Uuid) {
    if !collects(session) {
        settle::later(session, Delta::default(), true);
    }
}

/// Counts the peak from the rows. The session's row must be locked. A transaction that sees the
/// rows of an older moment leaves it to the next one that folds.
pub fn count(session: Uuid) -> Result<()> {
    if transaction::has_fixed_snapshot() {
        return log::append(session, &Delta::default(), true);
    }
    let peak = i32::try_from(counted(session)?).unwrap_or(i32::MAX);
    settling(|| plan::execute(&SET_PEAK, &[session.into(), peak.into()]).map(drop))
}

/// The peak as the rows have it.
pub fn counted(session: Uuid) -> Result<i64> {
    settling(|| {
        plan::run(&COUNTED_PEAK, &[session.into()], |rows| {
            Ok(rows.get::<i32>(0, 0).unwrap_or(0).into())
        })
    })
}
