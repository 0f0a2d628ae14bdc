//! The rounds of the worker: which sessions are hot, and which of them it folds when.

use super::housekeeping::{self, Housekeeping};
use super::transaction;
use crate::metrics::entry::exists;
use crate::metrics::fold::{self, Outcome};
use crate::metrics::log::{self, Entry};
use crate::metrics::timeline::Timeline;
use crate::metrics::{hot, peak, rows};
use crate::pg::background;
use crate::pg::lock::{Lock, Mode};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use pgrx::Uuid;
use pgrx::pg_sys;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Sessions that the worker is present in at the same time, at most. In the others, who is alone writes the row, and the
/// worker folds when nobody has it just then.
const MAX_PRESENT: usize = 500;
/// How long a session is left alone whose row could not be updated.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// How long rows are left alone that others have: twice as long each time.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(1);
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
    is_present: bool,
    /// The page of the row when it was seen last.
    page: Option<pg_sys::BlockNumber>,
    /// Left alone until then, after a failure that is not the worker's, such as an app's trigger.
    not_before: Instant,
    /// The rows of which tallies are pending are left alone until then, as others have all of them, and for so long.
    rows_not_before: Instant,
    rows_patience: Duration,
}

impl Session {
    /// Hot for a reason that the worker knows nothing of yet.
    fn new() -> Self {
        Self {
            timeline: Timeline::new(i64::MAX, 0, 0),
            quiet: 0,
            updated: i64::MIN,
            is_present: false,
            page: None,
            not_before: Instant::now(),
            rows_not_before: Instant::now(),
            rows_patience: Duration::ZERO,
        }
    }

    /// Takes the session, so that nobody is alone in it and writers append. Who looks whether it is taken has the lock for a
    /// moment; then the next round takes it.
    fn come(&mut self, session: Uuid) {
        if !self.is_present {
            let hot = Lock::Hot(session);
            background::transaction_quietly(|| self.is_present = hot.try_keep(Mode::Alone));
        }
    }

    fn leave(&mut self, session: Uuid) {
        if std::mem::take(&mut self.is_present) {
            Lock::Hot(session).let_go(Mode::Alone);
        }
    }
}

/// The server has room for so many locks of all backends; the worker takes a small part of it.
fn max_present() -> usize {
    usize::try_from(background::room_for_locks() / 16).map_or(1, |room| room.clamp(1, MAX_PRESENT))
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
        let (mut folded, mut tallied) = (BTreeSet::new(), BTreeSet::new());
        let mut from = Some(0);
        while let Some(page) = from {
            let read = || log::read(page, None, &left_alone);
            let Ok(pending) = transaction(read)? else {
                return Some(true);
            };
            from = pending.next;
            found |= !pending.entries.is_empty() || !pending.tallied.is_empty();
            for id in pending.tallied {
                if tallied.insert(id) {
                    self.fold_tallies(id)?;
                }
            }
            for (id, entries) in by_session(pending.entries) {
                pgrx::check_for_interrupts!();
                match self.fold(id, &entries)? {
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
    fn fold(&mut self, session: Uuid, entries: &[Entry]) -> Option<Outcome> {
        let present = self.sessions.values().filter(|known| known.is_present);
        let may_come = present.count() < max_present();
        let known = self.sessions.entry(session).or_insert_with(Session::new);
        known.quiet = 0;
        if may_come {
            known.come(session);
        }
        let fold = || fold::entries(session, entries, &known.timeline, known.updated);
        let (outcome, updated) = match transaction(fold)? {
            Ok(done) => done,
            Err(()) => (Outcome::Failed, None),
        };
        // An app's trigger has run.
        background::reset_settings();
        if !Lock::Worker.still_keeps(Mode::Alone) {
            return None;
        }
        known.is_present = known.is_present && Lock::Hot(session).still_keeps(Mode::Alone);
        if let Some((timeline, at)) = updated {
            known.timeline = timeline;
            known.updated = at;
        }
        match outcome {
            Outcome::Gone => {
                known.leave(session);
                self.sessions.remove(&session);
            }
            Outcome::Failed => known.not_before = Instant::now() + AFTER_FAILURE,
            Outcome::Folded(_) | Outcome::Busy => {}
        }
        Some(outcome)
    }

    /// Writes the tallies of a session's rows that are free; what that changes of its numbers is settled with it.
    fn fold_tallies(&mut self, session: Uuid) -> Option<()> {
        let known = self.sessions.entry(session).or_insert_with(Session::new);
        known.quiet = 0;
        if known.not_before.max(known.rows_not_before) > Instant::now() {
            return Some(());
        }
        match transaction(|| rows::fold(session))? {
            Ok(true) => known.rows_patience = Duration::ZERO,
            Ok(false) => {
                known.rows_patience = (known.rows_patience * 2).clamp(SHORTEST, LONGEST);
                known.rows_not_before = Instant::now() + known.rows_patience;
            }
            Err(()) => known.rows_not_before = Instant::now() + AFTER_FAILURE,
        }
        background::reset_settings();
        Lock::Worker.still_keeps(Mode::Alone).then_some(())
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
                state.leave(session);
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
