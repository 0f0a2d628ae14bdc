//! The calendar: the occurrences of many schedules, merged in the order of their starts.

use super::loading::Known;
use super::series::{Exception, Occurrence, Occurrences};
use super::share::{MOST_EXCEPTIONS, Share};
use super::stored::Stored;
use super::{DAY_MICROS, LONGEST, range, timestamp, upcoming};
use crate::pg::error::{OrRaise, Result};
use crate::pg::plan::{self, Plan, sql};
use pgrx::datum::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::rc::Rc;

const MAX_ROWS: i32 = 1_000;

/// How long before a moment the clocks may show the last start of what matters to it: an occurrence
/// that overlaps one that overlaps the moment, each of a week at most and maybe a day longer as
/// clocks change.
const AROUND: i64 = 17 * DAY_MICROS;

const HOUR: i64 = DAY_MICROS / 24;

/// The most occurrences of one schedule that are looked at for what overlaps an earlier one.
const MAX_PASSED: usize = 5_000;

thread_local! {
    static VISIBLE: Plan = const { Plan::reading(
        sql!("select id, influencer_id, title, status::pg_catalog.text, scheduled_date,
                 scheduled_start_time, scheduled_end_time, timezone::pg_catalog.text,
                 recurrence_rule, last_start, expected_duration_minutes, has_exceptions
            from public.live_stream_schedule
           where status in ", upcoming!(), "
             and ($1 is null or influencer_id operator(pg_catalog.=) $1)
             and case when has_exceptions then 'infinity'
                      else coalesce(last_start, 'infinity') end operator(pg_catalog.>=) $2
             and (has_exceptions or scheduled_date operator(pg_catalog.<=) $3)"),
        &[pg_sys::UUIDOID, pg_sys::TIMESTAMPOID, pg_sys::TIMESTAMPOID],
    ) };
}

/// A schedule that the caller may see.
struct Visible {
    id: Uuid,
    influencer: Uuid,
    title: String,
    status: String,
    stored: Stored<'static>,
    exceptions: Rc<[Exception]>,
}

impl Visible {
    /// Those that may take place between two moments, or shortly before, by influencers; without those whose
    /// influencer has too many exceptions.
    fn all(influencer: Option<Uuid>, after: i64, before: i64) -> Result<Vec<Self>> {
        let bound = |moment: i64| Timestamp::try_from(moment).ok();
        let from = bound(after.saturating_sub(AROUND));
        let to = bound(before.saturating_add(2 * DAY_MICROS));
        let args = [influencer.into(), from.into(), to.into()];
        let mut all = plan::run(&VISIBLE, &args, |rows| {
            let read = |row| {
                Some(Self {
                    id: rows.get(row, 0)?,
                    influencer: rows.get(row, 1)?,
                    title: rows.get(row, 2)?,
                    status: rows.get(row, 3)?,
                    stored: Stored {
                        id: rows.get(row, 0),
                        date: rows.get(row, 4),
                        start_time: rows.get(row, 5),
                        end_time: rows.get(row, 6),
                        timezone: rows.get(row, 7).map(Cow::Owned),
                        rule: rows.get(row, 8).map(Cow::Owned),
                        last_start: rows.get(row, 9),
                        duration_minutes: rows.get(row, 10),
                        has_exceptions: rows.get(row, 11),
                    },
                    exceptions: Rc::default(),
                })
            };
            Ok((0..rows.len()).filter_map(read).collect::<Vec<_>>())
        })?;
        all.sort_unstable_by_key(|one| (one.influencer, one.id));
        let stored = all.iter().map(|one| (one.influencer, &one.stored));
        // What is listed first began so long ago at most, and what it is compared with ends after that.
        let since = after.saturating_sub(LONGEST + DAY_MICROS);
        let known = Known::within(stored, since, before, Some(MOST_EXCEPTIONS))?;
        all.retain_mut(|one| match known.of(one.influencer, &one.stored) {
            Some(exceptions) => {
                one.exceptions = exceptions;
                true
            }
            None => false,
        });
        Ok(all)
    }

    /// What ends after a moment and begins before another, as far as the share goes. Of a schedule
    /// that makes no sense any more nothing does: it must not hide the others.
    fn between(&self, after: i64, before: i64, work: u32) -> Option<Occurrences> {
        let series = self.stored.series().ok()?.with(self.exceptions.clone());
        Some(series.at_most(work).between(after, before))
    }

    /// The latest end, up to a moment, of what ends after another.
    fn last_end(&self, since: i64, moment: i64, share: &mut Share) -> Option<i64> {
        let mut latest = |since| {
            let mut ends = self.between(since, moment, share.left_to_compare())?;
            let passed = ends.by_ref().take(MAX_PASSED);
            let over = passed.filter(|one| !one.is_skipped && one.end <= moment);
            let latest = over.map(|one| one.end).max();
            share.spend(ends.spent());
            latest
        };
        // Where one ended lately, those before it need not be passed.
        latest(since.max(moment - HOUR)).or_else(|| latest(since))
    }
}

/// A schedule with what it has next.
struct Track {
    schedule: Visible,
    head: Option<Occurrence>,
    rest: Occurrences,
}

impl Track {
    fn advance(&mut self, share: &mut Share) -> Option<Occurrence> {
        let before = self.rest.spent();
        let next = self.rest.by_ref().find(|one| !one.is_skipped);
        share.spend(self.rest.spent().saturating_sub(before));
        std::mem::replace(&mut self.head, next)
    }
}

/// What is next of a schedule: its start, the schedule's id, and the place of its track.
type Next = Reverse<(i64, Uuid, usize)>;

/// What one influencer has.
struct Agenda {
    next: BinaryHeap<Next>,
    /// The first start that is listed.
    first: i64,
    /// Until when what came so far goes on.
    taken: i64,
    /// Where it is spent, what comes is left out.
    share: Share,
}

impl Default for Agenda {
    fn default() -> Self {
        Self {
            next: BinaryHeap::new(),
            first: i64::MAX,
            taken: i64::MIN,
            share: Share::default(),
        }
    }
}

/// The tracks, first start first.
#[derive(Default)]
struct Calendar {
    tracks: Vec<Track>,
    next: BinaryHeap<Next>,
    agendas: HashMap<Uuid, Agenda>,
}

impl Calendar {
    /// The occurrences that end after a moment and begin before another, of all schedules that the
    /// caller may see or of one influencer's.
    fn of(influencer: Option<Uuid>, after: i64, before: i64) -> Result<Self> {
        let mut calendar = Self::default();
        let mut idle = Vec::new();
        for schedule in Visible::all(influencer, after, before)? {
            pgrx::check_for_interrupts!();
            let agenda = calendar.agendas.entry(schedule.influencer).or_default();
            if agenda.share.is_spent() {
                continue;
            }
            let Some(rest) = schedule.between(after, before, agenda.share.left()) else {
                continue;
            };
            // What it takes to begin.
            agenda.share.spend(rest.spent());
            let mut track = Track {
                schedule,
                head: None,
                rest,
            };
            track.advance(&mut agenda.share);
            match track.head {
                Some(_) => calendar.push(track),
                None => idle.push(track.schedule),
            }
        }
        let shown = calendar.tracks.iter().map(|track| &track.schedule);
        for schedule in shown.chain(&idle) {
            pgrx::check_for_interrupts!();
            let agenda = calendar.agendas.get_mut(&schedule.influencer);
            // What is listed first may have begun while something was on that is over since.
            if let Some(agenda) = agenda.filter(|agenda| agenda.first < after)
                && agenda.share.left_to_compare() > 0
                && let Some(end) = schedule.last_end(agenda.first, after, &mut agenda.share)
            {
                agenda.taken = agenda.taken.max(end);
            }
        }
        Ok(calendar)
    }

    fn push(&mut self, track: Track) {
        if let Some(head) = &track.head {
            let next = Reverse((head.start, track.schedule.id, self.tracks.len()));
            self.next.push(next);
            let agenda = self.agendas.entry(track.schedule.influencer).or_default();
            agenda.next.push(next);
            agenda.first = agenda.first.min(head.start);
            self.tracks.push(track);
        }
    }
}

impl Iterator for Calendar {
    /// The place of the track, its occurrence, and whether that overlaps another of the same
    /// influencer.
    type Item = (usize, Occurrence, bool);

    fn next(&mut self) -> Option<Self::Item> {
        pgrx::check_for_interrupts!();
        let Reverse((_, id, index)) = self.next.pop()?;
        let track = self.tracks.get_mut(index)?;
        let agenda = self.agendas.get_mut(&track.schedule.influencer)?;
        // What is first of all is first of its influencer's.
        agenda.next.pop();
        let one = track.advance(&mut agenda.share)?;
        if let Some(head) = track.head.as_ref().filter(|_| !agenda.share.is_spent()) {
            let next = Reverse((head.start, id, index));
            self.next.push(next);
            agenda.next.push(next);
        }
        let begins_within = agenda.taken > one.start;
        agenda.taken = agenda.taken.max(one.end);
        let following = agenda.next.peek();
        let ends_within = following.is_some_and(|Reverse((start, ..))| *start < one.end);
        Some((index, one, begins_within || ends_within))
    }
}

/// The occurrences of all schedules that the caller may see, or of one influencer's, that
/// overlap the range, in the order of their starts and schedules; up to `max_rows` (1,000 at
/// most) of those after the place that `after_starts_at` and `after_schedule_id` name. Those of
/// one schedule with the same start are not torn apart.
///
/// Errors: 22023 for a range that is null, infinite or reversed.
#[pg_extern(stable, parallel_safe)]
#[allow(clippy::type_complexity)]
fn calendar(
    range_start: Option<TimestampWithTimeZone>,
    range_end: Option<TimestampWithTimeZone>,
    of_influencer: Option<Uuid>,
    max_rows: Option<i32>,
    after_starts_at: Option<TimestampWithTimeZone>,
    after_schedule_id: Option<Uuid>,
) -> TableIterator<
    'static,
    (
        name!(schedule_id, Uuid),
        name!(influencer_id, Uuid),
        name!(title, String),
        name!(starts_at, TimestampWithTimeZone),
        name!(ends_at, TimestampWithTimeZone),
        name!(original_starts_at, TimestampWithTimeZone),
        name!(status, String),
        name!(clashes, bool),
    ),
> {
    let range = range(range_start, range_end).or_raise();
    let max_rows = max_rows.unwrap_or(100).clamp(0, MAX_ROWS) as usize;
    let cursor = after_starts_at.map(|start| {
        let id = after_schedule_id.unwrap_or(Uuid::from_bytes([0xff; 16]));
        (i64::from(start), id)
    });
    let begin = cursor.map_or(range.start, |(start, _)| start.max(range.start));
    let mut calendar = if range.is_empty() || max_rows == 0 {
        None
    } else {
        // What clashes with the last ones may begin after the range.
        let before = range.end.saturating_add(AROUND);
        Some(Calendar::of(of_influencer, begin, before).or_raise())
    };
    let mut count = 0;
    let mut last = None;
    TableIterator::new(std::iter::from_fn(move || {
        let calendar = calendar.as_mut()?;
        loop {
            let (index, one, clashes) = calendar.next()?;
            if one.start >= range.end {
                return None;
            }
            let track = calendar.tracks.get(index)?;
            let place = (one.start, track.schedule.id);
            if one.end <= range.start || cursor.is_some_and(|cursor| place <= cursor) {
                continue;
            }
            if count >= max_rows && last != Some(place) {
                return None;
            }
            count += 1;
            last = Some(place);
            let title = one.title.as_deref().unwrap_or(&track.schedule.title);
            return Some((
                track.schedule.id,
                track.schedule.influencer,
                title.to_owned(),
                timestamp(one.start)?,
                timestamp(one.end)?,
                timestamp(one.original)?,
                track.schedule.status.clone(),
                clashes,
            ));
        }
    }))
}
