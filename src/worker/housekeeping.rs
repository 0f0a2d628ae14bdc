//! Keeping the tables that the worker writes small: old versions are pruned, the log is vacuumed.

use super::{is_installed, transaction};
use crate::metrics::entry;
use crate::pg::error::Result;
use crate::pg::{catalog, heap, vacuum};
use pgrx::Uuid;
use pgrx::pg_sys;
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::time::{Duration, Instant};

/// When and how often old versions of a folded row are removed, so that few pass them.
const PRUNE_AFTER: Duration = Duration::from_millis(5);
const PRUNE_TRIES: usize = 4;
/// Folded changes after which the log is vacuumed.
const VACUUM_AFTER: usize = 5_000;
/// Moves of hot rows to other pages after which the sessions are vacuumed, and how seldom. Old
/// versions are pruned away, so autovacuum sees few and never comes; but the room in the pages
/// that a row has left is only found again after a vacuum.
const VACUUM_AFTER_MOVES: usize = 16;
const VACUUM_PAUSE: Duration = Duration::from_secs(60);

const TRUNCATE_LOG: &CStr = c"vacuum (skip_locked) live_stream.metric_changes, live_stream.metric_sessions, live_stream.metric_worker";
const VACUUM_LOG: &CStr = c"vacuum (skip_locked, truncate off) live_stream.metric_changes, live_stream.metric_sessions, live_stream.metric_worker";
const VACUUM_SESSIONS: &CStr = c"vacuum (skip_locked, truncate off) public.live_stream_sessions";

/// What has been done since the last vacuum.
#[derive(Default)]
pub struct Housekeeping {
    /// Folded changes.
    pub changes: usize,
    /// Moves of hot rows to other pages.
    pub moves: usize,
    sessions_vacuumed: Option<Instant>,
}

impl Housekeeping {
    pub fn vacuum_if_due(&mut self) {
        if self.changes >= VACUUM_AFTER {
            self.changes = 0;
            vacuum::run(VACUUM_LOG, is_installed);
        }
        let may_again = |at: Instant| at.elapsed() >= VACUUM_PAUSE;
        if self.moves >= VACUUM_AFTER_MOVES && self.sessions_vacuumed.is_none_or(may_again) {
            self.moves = 0;
            self.sessions_vacuumed = Some(Instant::now());
            vacuum::run(VACUUM_SESSIONS, is_installed);
        }
    }
}

/// Gives the room of the log back, where nobody uses it: VACUUM would try again for seconds while
/// somebody reads it.
pub fn shrink_log() {
    let is_free = transaction(|| Ok(catalog::lock_if_unused(c"live_stream", c"metric_changes")));
    let statement = match is_free {
        Some(Ok(true)) => TRUNCATE_LOG,
        _ => VACUUM_LOG,
    };
    vacuum::run(statement, is_installed);
}

/// Frees the pages of sessions from their old versions, where nobody uses them just now, a few times in
/// a row. Returns where the sessions were the last time; none when the extension is gone.
pub fn prune(sessions: &BTreeSet<Uuid>) -> Option<Vec<(Uuid, pg_sys::BlockNumber)>> {
    let mut pages = Vec::new();
    for _ in 0..PRUNE_TRIES {
        if sessions.is_empty() {
            break;
        }
        std::thread::sleep(PRUNE_AFTER);
        if let Ok(seen) = transaction(|| prune_once(sessions))? {
            pages = seen;
        }
    }
    Some(pages)
}

fn prune_once(folded: &BTreeSet<Uuid>) -> Result<Vec<(Uuid, pg_sys::BlockNumber)>> {
    let sessions = entry::sessions()?;
    let mut pages = Vec::with_capacity(folded.len());
    for &session in folded {
        if let Some(place) = entry::place(&sessions, session)? {
            sessions.prune(place);
            pages.push((session, heap::block_of(&place)));
        }
    }
    Ok(pages)
}
