//! What an operator asks of the metrics: to count again, and to catch up.

use super::{fold, log, settling};
use crate::identity;
use crate::metrics::entry;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::plan::{self, Plan};
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::pg::lock::{Lock, Mode};

thread_local! {
    static RECOUNT: Plan = const { Plan::writing(
        c"update public.live_stream_sessions s
             set current_viewers = c.current_viewers, peak_viewers = c.peak_viewers,
                 total_unique_viewers = c.total_unique_viewers,
                 total_watch_time_seconds = c.total_watch_time_seconds,
                 total_messages = c.total_messages, total_reactions = c.total_reactions,
                 total_shares = c.total_shares,
                 total_products_showcased = c.total_products_showcased,
                 total_clicks = c.total_clicks, total_orders = c.total_orders,
                 total_revenue = c.total_revenue,
                 connection_issues_count = c.connection_issues_count,
                 buffering_events = c.buffering_events,
                 total_buffering_time_seconds = c.total_buffering_time_seconds
            from live_stream.counted_metrics c
           where s.id = $1 and c.session_id = $1",
        &[pg_sys::UUIDOID],
    ) };
}

/// Computes the numbers of a session from its rows, exact peak included, and writes them into
/// the session. Waits for those who are changing it, and holds others up until the transaction
/// ends.
///
/// Errors: 42501 unless the caller is service_role or has the rights of the tables' owner;
/// PT404 for no such session; 40001 when the transaction's snapshot is older than what it counts.
#[pg_extern(volatile)]
fn recount(session_id: Option<Uuid>) {
    let recount = || {
        identity::require_service("count the numbers of a session again")?;
        let session = session_id.ok_or_else(|| {
            Error::new(SqlState::INVALID_PARAMETER, "session_id must not be null")
                .hint("Pass the id of a session.")
        })?;
        if !settle(session)? {
            return Err(entry::no_such_session(session));
        }
        settling(|| plan::execute(&RECOUNT, &[session.into()]).map(drop))
    };
    recount().or_raise()
}

/// Folds everything that is pending into the sessions' rows, now: for a report that must not be
/// a moment behind. Of one session, or of all. Returns the number of changes folded.
///
/// Errors: 42501 unless the caller is service_role or has the rights of the tables' owner.
#[pg_extern(volatile)]
fn flush_metrics(session_id: default!(Option<Uuid>, "NULL")) -> i64 {
    let flush = || {
        identity::require_service("fold the metrics")?;
        flush(session_id)
    };
    flush().or_raise()
}

thread_local! {
    static LOCK_COUNTED: Plan = const { Plan::writing(
        c"lock table public.live_stream_viewers, public.live_stream_chat,
            public.live_stream_chat_reactions, public.live_stream_products
            in share row exclusive mode",
        &[],
    ) };
}

/// Folds everything, for a trigger that counts sessions anew after a TRUNCATE: until the
/// transaction ends, nobody else changes a row that is counted.
pub fn flush_for_truncate() -> Result<()> {
    settling(|| plan::execute(&LOCK_COUNTED, &[]).map(drop))?;
    flush(None).map(drop)
}

/// As `flush_metrics`.
fn flush(session: Option<Uuid>) -> Result<i64> {
    let (sessions, entries) = log::sessions(session)?;
    for session in sessions {
        settle(session)?;
    }
    Ok(entries)
}

/// Locks a session, waits for its appenders, and folds what they appended; false without one.
/// Nobody enters it until the transaction ends.
pub fn settle(session: Uuid) -> Result<bool> {
    if fold::lock(session, true)?.is_none() {
        return Ok(false);
    }
    Lock::Flow(session).wait(Mode::Alone);
    entry::hold_for_end(session);
    super::check_snapshot(session)?;
    fold::whole(session)?;
    Ok(true)
}
