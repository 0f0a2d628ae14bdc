//! The calendar: the occurrences of many schedules, merged in the order of their starts.

use super::series::{Occurrence, Occurrences};
use super::stored::Stored;
use super::{DAY_MICROS, range, timestamp};
use crate::error::{OrRaise, Result};
use crate::plan::{self, Plan};
use pgrx::datum::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

const MAX_ROWS: i32 = 1_000;

/// What overlaps an occurrence begins or ends within this much: it lasts a week at most.
const AROUND: i64 = 8 * DAY_MICROS;

thread_local! {
    static VISIBLE: Plan = const { Plan::reading(
        c"select id, influencer_id, title, status::pg_catalog.text, scheduled_date,
                 scheduled_start_time, scheduled_end_time, timezone::pg_catalog.text,
                 recurrence_rule, last_start, expected_duration_minutes, has_exceptions
            from public.live_stream_schedule
           where status in ('scheduled', 'confirmed')
             and ($1 is null or influencer_id operator(pg_catalog.=) $1)
             and case when has_exceptions then 'infinity'
                      else coalesce(last_start, 'infinity') end operator(pg_catalog.>=) $2
             and (has_exceptions or scheduled_date operator(pg_catalog.<=) $3)",
        &[pg_sys::UUIDOID, pg_sys::TIMESTAMPOID, pg_sys::TIMESTAMPOID],
    ) };
}

/// A schedule with what it has next.
struct Track {
    id: Uuid,
    influencer: Uuid,
    title: String,
    status: String,
    head: Option<Occurrence>,
    rest: Occurrences,
}

impl Track {
    fn advance(&mut self) -> Option<Occurrence> {
        let next = self.rest.by_ref().find(|one| !one.is_skipped);
        std::mem::replace(&mut self.head, next)
    }
}

/// The tracks, first start first.
struct Calendar {
    tracks: Vec<Track>,
    of_influencer: HashMap<[u8; 16], Vec<usize>>,
    /// Until when each influencer is taken by what came so far.
    taken: HashMap<[u8; 16], i64>,
    queue: BinaryHeap<Reverse<(i64, [u8; 16], usize)>>,
}

impl Calendar {
    /// The schedules that the caller may see, with their occurrences that end after a moment
    /// and begin before another.
    fn of(influencer: Option<Uuid>, after: i64, before: i64) -> Result<Self> {
        let bound = |moment: i64| Timestamp::try_from(moment).ok();
        let from = bound(after.saturating_sub(AROUND + 2 * DAY_MICROS));
        let to = bound(before.saturating_add(2 * DAY_MICROS));
        let args = [influencer.into(), from.into(), to.into()];
        let found = plan::run(&VISIBLE, &args, |rows| {
            let read = |row| {
                let stored = Stored {
                    id: rows.get(row, 0),
                    date: rows.get(row, 4),
                    start_time: rows.get(row, 5),
                    end_time: rows.get(row, 6),
                    timezone: rows.get(row, 7).map(Cow::Owned),
                    rule: rows.get(row, 8).map(Cow::Owned),
                    last_start: rows.get(row, 9),
                    duration_minutes: rows.get(row, 10),
                    has_exceptions: rows.get(row, 11),
                };
                let influencer: Uuid = rows.get(row, 1)?;
                let title: String = rows.get(row, 2)?;
                Some((stored, influencer, title, rows.get(row, 3)?))
            };
            Ok((0..rows.len()).filter_map(read).collect::<Vec<_>>())
        })?;
        let mut calendar = Self {
            tracks: Vec::new(),
            of_influencer: HashMap::new(),
            taken: HashMap::new(),
            queue: BinaryHeap::new(),
        };
        for (stored, influencer, title, status) in found {
            pgrx::check_for_interrupts!();
            // One schedule that makes no sense any more does not hide the others.
            let (Some(id), Ok(series)) = (stored.id, stored.series()) else {
                continue;
            };
            let mut track = Track {
                id,
                influencer,
                title,
                status,
                head: None,
                rest: series.between(after, before),
            };
            track.advance();
            if let Some(head) = &track.head {
                let index = calendar.tracks.len();
                calendar
                    .queue
                    .push(Reverse((head.start, *id.as_bytes(), index)));
                let of_influencer = calendar.of_influencer.entry(*influencer.as_bytes());
                of_influencer.or_default().push(index);
                calendar.tracks.push(track);
            }
        }
        Ok(calendar)
    }
}

impl Iterator for Calendar {
    /// The place of the track, its occurrence, and whether that overlaps another of the same
    /// influencer.
    type Item = (usize, Occurrence, bool);

    fn next(&mut self) -> Option<Self::Item> {
        pgrx::check_for_interrupts!();
        let Reverse((_, id, index)) = self.queue.pop()?;
        let track = self.tracks.get_mut(index)?;
        let influencer = *track.influencer.as_bytes();
        let one = track.advance()?;
        if let Some(head) = &track.head {
            self.queue.push(Reverse((head.start, id, index)));
        }
        let taken = self.taken.entry(influencer).or_insert(i64::MIN);
        let begins_within = *taken > one.start;
        *taken = (*taken).max(one.end);
        let others = self.of_influencer.get(&influencer).into_iter().flatten();
        let heads = others.filter_map(|other| self.tracks.get(*other)?.head.as_ref());
        let ends_within =
            begins_within || heads.map(|head| head.start).any(|start| start < one.end);
        Some((index, one, ends_within))
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
        let id = after_schedule_id.map_or([0xff; 16], |id| *id.as_bytes());
        (i64::from(start), id)
    });
    let begin = cursor.map_or(range.start, |(start, _)| start.max(range.start));
    let mut calendar = if range.is_empty() || max_rows == 0 {
        None
    } else {
        let (after, before) = (
            begin.saturating_sub(AROUND),
            range.end.saturating_add(AROUND),
        );
        Some(Calendar::of(of_influencer, after, before).or_raise())
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
            let place = (one.start, *track.id.as_bytes());
            if one.end <= range.start || cursor.is_some_and(|cursor| place <= cursor) {
                continue;
            }
            if count >= max_rows && last != Some(place) {
                return None;
            }
            count += 1;
            last = Some(place);
            let title = one.title.as_deref().unwrap_or(&track.title);
            return Some((
                track.id,
                track.influencer,
                title.to_owned(),
                timestamp(one.start)?,
                timestamp(one.end)?,
                timestamp(one.original)?,
                track.status.clone(),
                clashes,
            ));
        }
    }))
}
