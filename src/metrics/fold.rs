//! Folding: what was appended to the log goes into the rows of its sessions.
//!
//! The worker folds what it has read, a session at a time ([`entries`]). Whoever counts places, counts again or does
//! without a worker has a session's row to itself, and folds all that is left of it ([`whole`]). Both take entries out of
//! the log ([`Folded`]) and add them to the row ([`add`]), in one transaction. A trigger that is writing the row itself, as
//! the session ends, takes them too: `pending.rs`.

use super::apply::{CHANGE, fits, too_large};
use super::changes::{self, Change};
use super::delta::Delta;
use super::log::{self, Entry};
use super::timeline::Timeline;
use super::{arguments, hot, settle, settling};
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::plan::{self, Plan, sql};
use crate::pg::transaction;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use session::finished;
use std::collections::BTreeSet;

/// What [`State`] is read from.
macro_rules! state {
    () => {
        concat!(
            "select current_viewers, peak_viewers, updated_at, status in ",
            finished!(),
            " from public.live_stream_sessions where id = $1"
        )
    };
}

thread_local! {
    static STATE: Plan = const { Plan::writing(
        sql!(state!(), " for no key update"),
        &[pg_sys::UUIDOID],
    ) };
    static TRY_STATE: Plan = const { Plan::writing(
        sql!(state!(), " for no key update skip locked"),
        &[pg_sys::UUIDOID],
    ) };
    static ADD: Plan = const { Plan::writing(
        c"update public.live_stream_sessions
             set current_viewers = least(current_viewers + $2, 2147483647),
                 peak_viewers = least($3, 2147483647),
                 total_unique_viewers = least(total_unique_viewers + $4, 2147483647),
                 total_watch_time_seconds = total_watch_time_seconds + $5,
                 total_messages = least(total_messages + $6, 2147483647),
                 total_reactions = least(total_reactions + $7, 2147483647),
                 total_shares = least(total_shares + $8, 2147483647),
                 total_products_showcased = least(total_products_showcased + $9, 2147483647),
                 total_clicks = least(total_clicks + $10, 2147483647),
                 total_orders = least(total_orders + $11, 2147483647),
                 total_revenue = least(total_revenue + $12 * 0.01, 9999999999.99),
                 connection_issues_count = least(connection_issues_count + $13, 2147483647),
                 buffering_events = least(buffering_events + $14, 2147483647),
                 total_buffering_time_seconds = total_buffering_time_seconds + $15
           where id = $1
          returning updated_at",
        &CHANGE,
    ) };
}

/// What a session's row says of its viewers, locked.
#[derive(Clone, Copy)]
pub struct State {
    pub level: i64,
    pub peak: i64,
    pub at: i64,
    pub is_finished: bool,
}

impl State {
    pub fn timeline(&self) -> Timeline {
        Timeline::new(self.at, self.level, self.peak)
    }
}

/// Locks a session's row, unless somebody else has it and `wait` is false.
pub fn lock(session: Uuid, wait: bool) -> Result<Option<State>> {
    let plan = if wait { &STATE } else { &TRY_STATE };
    settling(|| {
        plan::run(plan, &[session.into()], |rows| {
            let at = rows.get::<TimestampWithTimeZone>(0, 2);
            let level = rows.get::<i32>(0, 0);
            let peak = rows.get::<i32>(0, 1);
            Ok(level.zip(peak).zip(at).map(|((level, peak), at)| State {
                level: level.into(),
                peak: peak.into(),
                at: at.into(),
                is_finished: rows.get(0, 3) == Some(true),
            }))
        })
    })
}

/// What was taken out of the log, to be added to its session's row.
pub struct Folded {
    pub delta: Delta,
    /// Of the session's viewers, with what was taken.
    pub timeline: Timeline,
    pub changes: usize,
    /// Nobody watches any more.
    is_finished: bool,
}

impl Folded {
    /// Nothing yet.
    pub fn into(timeline: Timeline) -> Self {
        Self {
            delta: Delta::default(),
            timeline,
            changes: 0,
            is_finished: false,
        }
    }

    /// Nothing yet, for the row of a session that is as its state says.
    fn into_row(state: &State, timeline: Timeline) -> Self {
        Self {
            is_finished: state.is_finished,
            ..Self::into(timeline)
        }
    }

    /// Adds a change.
    pub fn add(&mut self, mut change: Change) {
        if self.is_finished {
            change.settle_finished();
        }
        self.delta += change.delta;
        self.timeline.doubtful |= change.doubtful;
        self.timeline.extend(change.delta.event());
        self.timeline.trim();
    }

    /// Takes entries out of the log: those that nobody else has taken.
    pub fn take(&mut self, entries: impl IntoIterator<Item = Entry>) -> Result<()> {
        let entries = log::take(entries)?;
        let mut events = Vec::with_capacity(entries.len());
        for entry in &entries {
            let mut change = entry.change;
            if self.is_finished {
                change.settle_finished();
            }
            self.delta += change.delta;
            self.timeline.doubtful |= change.doubtful;
            events.extend(change.delta.event());
        }
        self.timeline.extend(events);
        self.timeline.trim();
        self.changes += entries.len();
        Ok(())
    }

    /// Takes all that is pending of a session, a part at a time.
    pub fn take_all(&mut self, session: Uuid) -> Result<()> {
        let mut from = Some(0);
        while let Some(page) = from {
            let pending = log::read(page, Some(session), &BTreeSet::new())?;
            self.take(pending.entries.into_iter().map(|(_, entry)| entry))?;
            from = pending.next;
        }
        Ok(())
    }

    /// The most viewers so far.
    pub fn peak(&self) -> i64 {
        self.timeline.now().1
    }
}

/// Adds to the row of a session, which this transaction has locked; returns when it was updated.
pub fn add(session: Uuid, delta: &Delta, peak: i64) -> Result<i64> {
    let args = arguments(session, delta, peak);
    let updated = settling(|| {
        plan::run(&ADD, &args, |rows| {
            Ok(rows.get::<TimestampWithTimeZone>(0, 0))
        })
    })?;
    // What was taken out of the log would be lost.
    updated.map(i64::from).ok_or_else(|| {
        Error::new(
            SqlState::NOT_IN_PREREQUISITE_STATE,
            format!("a trigger has suppressed the update of session {session}"),
        )
        .hint("Let triggers of live_stream_sessions return the row.")
    })
}

/// What became of the changes of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// So many.
    Folded(usize),
    /// For a reason that is not the worker's, such as an app's trigger.
    Failed,
    /// Somebody else has the row.
    Busy,
    /// There is no such session any more.
    Gone,
}

/// The timeline of a session with what was folded, and when its row was updated.
pub type Updated = Option<(Timeline, i64)>;

/// Folds entries into the row of a session, for the worker. `known` is what it knows of the session's viewers
/// since it `updated` the row; that stays as it is, as the transaction may fail yet.
pub fn entries(
    session: Uuid,
    entries: &[Entry],
    known: &Timeline,
    updated: i64,
) -> Result<(Outcome, Updated)> {
    let Some(state) = lock(session, false)? else {
        if super::entry::exists(session)? {
            return Ok((Outcome::Busy, None));
        }
        super::entry::check_gone()?;
        log::take(entries.iter().copied())?;
        hot::forget(session)?;
        return Ok((Outcome::Gone, None));
    };
    let mut timeline = known.clone();
    if updated != state.at || timeline.now() != (state.level, state.peak) {
        // Others have changed the row meanwhile.
        let doubtful = timeline.doubtful;
        timeline = state.timeline();
        timeline.doubtful = doubtful;
    }
    let mut folded = Folded::into_row(&state, timeline);
    folded.take(entries.iter().copied())?;
    let peak = folded.peak();
    let at = if folded.delta.is_nothing() && peak == state.peak {
        state.at
    } else {
        add(session, &folded.delta, peak)?
    };
    let changes = folded.changes;
    hot::note(session, folded.timeline.doubtful, changes)?;
    Ok((Outcome::Folded(changes), Some((folded.timeline, at))))
}

/// Folds all that is pending of a session whose row this transaction has locked, and what this transaction has not
/// settled yet.
pub fn whole(session: Uuid) -> Result<()> {
    settle::find_places_now(session)?;
    with_own(session)
}

/// As [`whole`], for whom places have been found.
pub(super) fn with_own(session: Uuid) -> Result<()> {
    let own = changes::take(session);
    if own.is_nothing() && !log::has(Some(session))? && !hot::is_doubtful(session)? {
        return Ok(());
    }
    all(session, own, Limits::Kept)
}

/// Folds all that is pending of a session whose row this transaction has locked, and a change of its own.
///
/// Errors: 22003 when a number would no longer fit its column.
pub(super) fn with(session: Uuid, own: Change) -> Result<()> {
    all(session, own, Limits::Checked)
}

/// What becomes of numbers that do not fit their columns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limits {
    /// They are as large as can be: it is what others have added.
    Kept,
    Checked,
}

/// Writes the row once: what this transaction has written already is not written again without a look at what it refers to.
fn all(session: Uuid, own: Change, limits: Limits) -> Result<()> {
    let Some(state) = lock(session, true)? else {
        return Ok(());
    };
    let mut folded = Folded::into_row(&state, state.timeline());
    folded.take_all(session)?;
    folded.add(own);
    let mut peak = folded.peak();
    if folded.timeline.doubtful || hot::is_doubtful(session)? {
        match transaction::has_fixed_snapshot() {
            true => log::append(session, &Delta::default(), true)?,
            false => peak = super::peak::counted(session)?,
        }
    }
    if folded.delta.is_nothing() && peak == state.peak {
        return Ok(());
    }
    if limits == Limits::Checked && !fits(session, &folded.delta)? {
        return Err(too_large(session));
    }
    add(session, &folded.delta, peak).map(drop)
}
