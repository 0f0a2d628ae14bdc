//! What an operator asks of the metrics: to count again, and to catch up.

use super::{changes, fold, hot, log, rows, settle, settling};
use crate::identity;
use crate::metrics::entry;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::plan::{self, Plan};
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::time::Instant;

thread_local! {
    // What is pending is in the rows that are counted, as of the same moment.
    static RECOUNT: Plan = const { Plan::writing(
        c"with taken as (
            delete from live_stream.metric_changes where session_id = $1 and row_id is null)
          update public.live_stream_sessions s
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
/// the session. Waits for who is writing the session's row; who is changing its numbers meanwhile
/// adds to what was counted.
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
        if fold::lock(session, true)?.is_none() {
            return Err(entry::no_such_session(session));
        }
        super::check_snapshot(session)?;
        settle::find_places_now(session)?;
        settle::PEOPLE_ARE_COUNTED.get()?(session)?;
        changes::take(session);
        settling(|| plan::execute(&RECOUNT, &[session.into()]).map(drop))
    };
    recount().or_raise()
}

/// Folds everything that is pending into the sessions' rows, now: for a report that must not be
/// a moment behind. Of one session, whose row is waited for, or of all: those whose rows others have for longer than a moment
/// are passed by, with a warning. Returns the number of changes folded.
///
/// Errors: 42501 unless the caller is service_role or has the rights of the tables' owner.
#[pg_extern(volatile)]
fn flush_metrics(session_id: default!(Option<Uuid>, "NULL")) -> i64 {
    let flush = || {
        identity::require_service("fold the metrics")?;
        flush(session_id, session_id.is_some())
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
    flush(None, true).map(drop)
}

/// Brings the rows of all sessions that this transaction has changed up to it, for a trigger that has no rows to tell of.
pub fn catch_up_own() -> Result<()> {
    changes::all()
        .into_keys()
        .try_for_each(|session| catch_up(session).map(drop))
}

/// Folds what is pending of one session, or of all; those whose rows others have are waited for, or passed by after a moment
/// with the others.
fn flush(session: Option<Uuid>, waits: bool) -> Result<i64> {
    let mut pending = log::pending(session)?;
    for own in changes::all().into_keys() {
        if session.is_none_or(|only| only == own) {
            pending.entry(own).or_default();
        }
    }
    for (doubted, is_doubtful) in hot::left_over()? {
        if is_doubtful && session.is_none_or(|only| only == doubted) {
            pending.entry(doubted).or_default();
        }
    }
    let (mut busy, mut folded) = (Vec::new(), 0);
    for (session, entries) in pending {
        rows::fold(session)?;
        if waits || entry::try_lock_row(session)? || !entry::exists(session)? {
            catch_up(session)?;
            folded += entries;
        } else {
            busy.push((session, entries));
        }
    }
    let since = Instant::now();
    let mut passed_by = 0;
    for (session, entries) in busy {
        let patience = settle::SESSION_PATIENCE.saturating_sub(since.elapsed());
        if settle::patiently(
            patience,
            || entry::try_lock_row(session),
            |has_row| *has_row,
        )? {
            catch_up(session)?;
            folded += entries;
        } else {
            passed_by += 1;
        }
    }
    if passed_by > 0 {
        pgrx::warning!(
            "changes of {passed_by} sessions are pending still: other transactions have their rows"
        );
    }
    Ok(folded)
}

/// Locks a session's row, and brings it up to what is committed and what this transaction has done; false without one.
pub fn catch_up(session: Uuid) -> Result<bool> {
    if fold::lock(session, true)?.is_none() {
        return Ok(false);
    }
    super::check_snapshot(session)?;
    fold::whole(session)?;
    Ok(true)
}
