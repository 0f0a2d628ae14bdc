//! The rounds of the worker: which sessions are hot, and which of them it folds when.

use super::housekeeping::{self, Housekeeping};
use super::transaction;
use crate::metrics::entry::exists;
use crate::metrics::fold::{self, Outcome};
use crate::metrics::log::{self, Entry};
use crate::metrics::timeline::Timeline;
use crate::metrics::{hot, peak};
use crate::pg::background;
use crate::pg::lock::{Lock, Mode};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use pgrx::Uuid;
use pgrx::pg_sys;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Turns that the worker holds at the same time, at most. The other sessions it folds when nobody
/// has their rows just then.
const MAX_TURNS: usize = 500;
/// How long a session is left alone whose row could not be updated.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Rounds without a change after which a session is left to its writers again.
const QUIET_ROUNDS: u32 = 3;

thread_local! {
    static COUNT: Plan = const { Plan::writing(
        c"update live_stream.metric_worker
             set folds = folds + $1, changes = changes + $2, folded_at = clock_timestamp()
           where server = $3",
        &[pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID],
    ) };
}

/// What the worker knows of a session while it is hot.
struct Session {
    timeline: Timeline,
    quiet: u32,
    /// When the row was updated last, as far as the worker knows.
    updated: i64,
    has_turn: bool,
    tries: u32,
    /// The page of the row when it was seen last.
    page: Option<pg_sys::BlockNumber>,
    /// Left alone until then, after a failure that is not the worker's, such as an app's trigger.
    not_before: Instant,
}

impl Session {
    /// Hot for a reason that the worker knows nothing of yet.
    fn new() -> Self {
        Self {
            timeline: Timeline::new(i64::MAX, 0, 0),
            quiet: 0,
            updated: i64::MIN,
            has_turn: false,
            tries: 0,
            page: None,
            not_before: Instant::now(),
        }
    }

    /// Takes the turn, so that writers append from now on. They come one after the other: it is
    /// waited for in their line, but not for long, as one of them may take its time.
    fn take_turn(&mut self, session: Uuid) {
        if self.has_turn {
            return;
        }
        let turn = Lock::Turn(session);
        background::transaction_quietly(|| self.has_turn = turn.try_keep(Mode::Alone));
        self.tries = self.tries.saturating_add(1);
        if !self.has_turn && self.tries.is_power_of_two() {
            self.has_turn = background::transaction_quietly(|| turn.keep(Mode::Alone));
        }
        if self.has_turn {
            self.tries = 0;
        }
    }
}

/// The server has room for so many locks of all backends; the worker takes a small part of it.
fn max_turns() -> usize {
    usize::try_from(background::room_for_locks() / 16).map_or(1, |room| room.clamp(1, MAX_TURNS))
}

/// The sessions that are hot.
#[derive(Default)]
pub struct HotSessions {
    sessions: HashMap<Uuid, Session>,
}

impl HotSessions {
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Sessions that were left hot, with whether their peak is in doubt.
    pub fn take_over(&mut self, left: Vec<(Uuid, bool)>) {
        for (session, doubtful) in left {
            let mut known = Session::new();
            known.timeline.doubtful = doubtful;
            self.sessions.insert(session, known);
        }
    }

    /// Folds what is pending; true if there was anything, none when the extension is gone.
    pub fn round(&mut self, housekeeping: &mut Housekeeping) -> Option<bool> {
        let mut left_alone: BTreeSet<Uuid> = self
            .sessions
            .iter()
            .filter(|(_, known)| known.not_before > Instant::now())
            .map(|(id, _)| *id)
            .collect();
        let mut found = !left_alone.is_empty();
        let (mut folds, mut changes) = (0, 0);
        let mut folded = BTreeSet::new();
        let mut from = Some(0);
        while let Some(page) = from {
            let read = || log::read(page, None, &left_alone);
            let Ok(pending) = transaction(read)? else {
                return Some(true);
            };
            // What is known to be complete is so of all the sessions that were read to the end.
            let complete_before = if page == 0 && pending.next.is_none() {
                hot::full(pending.complete_before)
            } else {
                hot::INCOMPLETE
            };
            from = pending.next;
            found |= !pending.entries.is_empty();
            for (id, entries) in by_session(pending.entries) {
                pgrx::check_for_interrupts!();
                match self.fold(id, &entries, complete_before)? {
                    Outcome::Folded(count) => {
                        folds += 1;
                        changes += count;
                        folded.insert(id);
                    }
                    Outcome::Gone => {}
                    Outcome::Busy | Outcome::Failed => {
                        left_alone.insert(id);
                    }
                }
            }
        }
        for id in &left_alone {
            // Something of them may be pending still.
            if let Some(known) = self.sessions.get_mut(id) {
                known.quiet = 0;
            }
        }
        if folds > 0 {
            let args = [
                i64::from(folds).into(),
                (changes as i64).into(),
                background::system_identifier().into(),
            ];
            transaction(|| as_owner(|| plan::execute(&COUNT, &args)))?.ok();
            housekeeping.changes += changes;
        }
        // Once those who saw the old versions are done, nobody needs them.
        let pages = housekeeping::prune(&folded)?;
        housekeeping.moves += self.note_pages(&pages);
        self.cool_down()?;
        housekeeping.vacuum_if_due();
        Some(found)
    }

    /// Folds entries of a session into its row, and remembers what the row has if that is
    /// committed; none when the extension is gone, or another is the worker.
    fn fold(&mut self, session: Uuid, entries: &[Entry], complete_before: i64) -> Option<Outcome> {
        let has_turn = |known: &&Session| known.has_turn;
        let may_take_turn = self.sessions.values().filter(has_turn).count() < max_turns();
        let known = self.sessions.entry(session).or_insert_with(Session::new);
        known.quiet = 0;
        if may_take_turn {
            known.take_turn(session);
        }
        let fold = || {
            fold::entries(
                session,
                entries,
                &known.timeline,
                known.updated,
                complete_before,
            )
        };
        let (outcome, updated) = match transaction(fold)? {
            Ok(done) => done,
            Err(()) => (Outcome::Failed, None),
        };
        // An app's trigger has run.
        background::reset_settings();
        if !Lock::Worker.still_keeps(Mode::Alone) {
            return None;
        }
        known.has_turn = known.has_turn && Lock::Turn(session).still_keeps(Mode::Alone);
        if let Some((timeline, at)) = updated {
            known.timeline = timeline;
            known.updated = at;
        }
        match outcome {
            Outcome::Gone => {
                if known.has_turn {
                    Lock::Turn(session).let_go(Mode::Alone);
                }
                self.sessions.remove(&session);
            }
            Outcome::Failed => known.not_before = Instant::now() + AFTER_FAILURE,
            Outcome::Folded(_) | Outcome::Busy => {}
        }
        Some(outcome)
    }

    /// Notes in which pages the rows of hot sessions are now; returns how many have moved.
    fn note_pages(&mut self, pages: &[(Uuid, pg_sys::BlockNumber)]) -> usize {
        let mut moves = 0;
        for (session, page) in pages {
            if let Some(known) = self.sessions.get_mut(session) {
                let before = known.page.replace(*page);
                moves += usize::from(before.is_some_and(|it| it != *page));
            }
        }
        moves
    }

    /// Leaves the sessions that nobody changes any more to their writers.
    fn cool_down(&mut self) -> Option<()> {
        let mut cold = Vec::new();
        for (id, session) in &mut self.sessions {
            session.quiet += 1;
            if session.quiet > QUIET_ROUNDS {
                cold.push(*id);
            }
        }
        for session in cold {
            let Some(mut state) = self.sessions.remove(&session) else {
                continue;
            };
            let doubtful = state.timeline.doubtful;
            let outcome = transaction(|| {
                // Who counts places notes that with the row locked: never wait for it.
                if fold::lock(session, false)?.is_some() {
                    // Another worker may have been in doubt, and noted it since this one began.
                    if doubtful || hot::is_doubtful(session)? {
                        peak::count(session)?;
                    }
                } else if exists(session)? {
                    return Ok(false);
                }
                hot::forget(session)?;
                Ok(true)
            })?;
            if outcome == Ok(true) {
                if state.has_turn {
                    Lock::Turn(session).let_go(Mode::Alone);
                }
            } else {
                state.quiet = 0;
                self.sessions.insert(session, state);
            }
        }
        Some(())
    }
}

fn by_session(entries: Vec<(Uuid, Entry)>) -> BTreeMap<Uuid, Vec<Entry>> {
    let mut by_session: BTreeMap<Uuid, Vec<Entry>> = BTreeMap::new();
    for (session, entry) in entries {
        by_session.entry(session).or_default().push(entry);
    }
    by_session
}
