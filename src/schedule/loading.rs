//! Exceptions as readers have them: of many schedules by one query, and no more than can matter in the time that they
//! look at. Where an occurrence was by the rule counts, and where it is now.

use super::series::{Exception, ExceptionKind, Series};
use super::stored::Stored;
use super::{DAY_MICROS, EPOCH, LONGEST, settles};
use crate::pg::error::Result;
use crate::pg::plan::{self, Plan, Rows, sql};
use pgrx::datum::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use recurrence::days::{EARLIEST, LATEST};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

/// How far from a moment, in microseconds, a clock may show it: no zone is a whole day from UTC, and a change of clocks is
/// less than another.
const AROUND: i64 = 2 * DAY_MICROS;

macro_rules! columns {
    () => {
        "schedule_id, kind::pg_catalog.text, original_local_start, starts_at, local_start, ends_at, title"
    };
}

// By groups of schedules, each from one place in the array to another; of each group up to so many rows. `original` and
// `now` have an index each.
macro_rules! within {
    () => {
        sql!(
            "select e.*, g.nth
               from rows from (pg_catalog.unnest($2), pg_catalog.unnest($3))
                    with ordinality as g (first, last, nth)
              cross join lateral (
                select e.* from pg_catalog.unnest(($1)[g.first:g.last]) as u (id)
                 cross join lateral (
                   select ",
            columns!(),
            " from public.live_stream_schedule_exceptions
                    where schedule_id operator(pg_catalog.=) u.id and fits
                      and original_local_start operator(pg_catalog.>=) $4
                      and original_local_start operator(pg_catalog.<) $5
                   union all
                   select ",
            columns!(),
            " from public.live_stream_schedule_exceptions
                    where schedule_id operator(pg_catalog.=) u.id and fits
                      and local_start operator(pg_catalog.>=) $4
                      and local_start operator(pg_catalog.<) $5) e
                limit $6) e"
        )
    };
}

const WITHIN_TYPES: &[pg_sys::Oid] = &[
    pg_sys::UUIDARRAYOID,
    pg_sys::INT4ARRAYOID,
    pg_sys::INT4ARRAYOID,
    pg_sys::TIMESTAMPOID,
    pg_sys::TIMESTAMPOID,
    pg_sys::INT8OID,
];

thread_local! {
    static WITHIN: Plan = const { Plan::reading(within!(), WITHIN_TYPES) };
    // What the statement that is running has changed counts when the database settles it.
    static WITHIN_NOW: Plan = const { Plan::writing(within!(), WITHIN_TYPES) };
    static FIRST: Plan = const { Plan::reading(
        sql!(
            "(select ", columns!(), ", false from public.live_stream_schedule_exceptions
               where schedule_id operator(pg_catalog.=) $1 and fits
                 and original_local_start operator(pg_catalog.>=) $2
               order by original_local_start limit $4)
             union all
             (select ", columns!(), ", true from public.live_stream_schedule_exceptions
               where schedule_id operator(pg_catalog.=) $1 and fits
                 and local_start operator(pg_catalog.>=) $3
               order by local_start limit $4)"
        ),
        &[
            pg_sys::UUIDOID,
            pg_sys::TIMESTAMPOID,
            pg_sys::TIMESTAMPOID,
            pg_sys::INT8OID,
        ],
    ) };
}

/// The clock time at a moment, as UTC's clocks show it and within the years that schedules have.
fn clock(moment: i64) -> Option<Timestamp> {
    let of = |seconds: i64| (seconds - EPOCH) * 1_000_000;
    let within = moment.clamp(of(EARLIEST) - 30 * DAY_MICROS, of(LATEST) + 30 * DAY_MICROS);
    Timestamp::try_from(within).ok()
}

/// The one in six columns of a row, from its kind on; none where they are null.
pub fn exception(rows: &Rows, row: usize, column: usize) -> Option<Exception> {
    let kind: String = rows.get(row, column)?;
    let original: Timestamp = rows.get(row, column + 1)?;
    let starts: Option<TimestampWithTimeZone> = rows.get(row, column + 2);
    let local: Option<Timestamp> = rows.get(row, column + 3);
    let ends: Option<TimestampWithTimeZone> = rows.get(row, column + 4);
    Some(Exception {
        kind: ExceptionKind::named(&kind)?,
        original: original.into(),
        start: starts
            .zip(local)
            .map(|(start, local)| (start.into(), local.into())),
        length: starts
            .zip(ends)
            .map(|(start, end)| i64::from(end) - i64::from(start)),
        title: rows.get::<String>(row, column + 5).map(Into::into),
    })
}

fn read(rows: &Rows, row: usize) -> Option<(Uuid, Exception)> {
    rows.get(row, 0).zip(exception(rows, row, 1))
}

/// In order, one for each original: one that was moved within the time is found in both ways.
fn in_order(mut exceptions: Vec<Exception>) -> Rc<[Exception]> {
    exceptions.sort_by_key(|one| one.original);
    exceptions.dedup_by_key(|one| one.original);
    exceptions.into()
}

/// The exceptions of some schedules that can matter in some time.
#[derive(Default)]
pub struct Known {
    of: HashMap<Uuid, Rc<[Exception]>>,
    too_many: HashSet<Uuid>,
}

impl Known {
    /// Those that fit their schedule's rule and that the caller may see; between two moments, of schedules with their
    /// influencers. Of who has more than `most` there are none: nothing must be listed that does not take place.
    pub fn within<'a>(
        schedules: impl Iterator<Item = (Uuid, &'a Stored<'a>)>,
        after: i64,
        before: i64,
        most: Option<usize>,
    ) -> Result<Self> {
        let mut groups: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
        for (influencer, stored) in schedules {
            if let Some(id) = stored.id.filter(|_| stored.has_exceptions == Some(true)) {
                groups.entry(influencer).or_default().push(id);
            }
        }
        if groups.is_empty() {
            return Ok(Self::default());
        }
        let (mut ids, mut firsts, mut lasts) = (Vec::new(), Vec::new(), Vec::new());
        let mut influencers = Vec::new();
        for (influencer, schedules) in groups {
            firsts.push(i32::try_from(ids.len() + 1).unwrap_or(i32::MAX));
            ids.extend(schedules);
            lasts.push(i32::try_from(ids.len()).unwrap_or(i32::MAX));
            influencers.push(influencer);
        }
        let limit = most.map(|most| i64::try_from(most + 1).unwrap_or(i64::MAX));
        let args = [
            ids.into(),
            firsts.into(),
            lasts.into(),
            clock(after.saturating_sub(LONGEST + AROUND)).into(),
            clock(before.saturating_add(AROUND)).into(),
            limit.into(),
        ];
        let within = if settles() { &WITHIN_NOW } else { &WITHIN };
        let mut of: HashMap<Uuid, Vec<Exception>> = HashMap::new();
        let mut counts = vec![0_i64; influencers.len()];
        plan::run(within, &args, |rows| {
            for row in 0..rows.len() {
                let group = rows.get::<i64>(row, 7).unwrap_or(0) - 1;
                let count = usize::try_from(group)
                    .ok()
                    .and_then(|nth| counts.get_mut(nth));
                if let (Some(count), Some((schedule, exception))) = (count, read(rows, row)) {
                    *count += 1;
                    of.entry(schedule).or_default().push(exception);
                }
            }
            Ok(())
        })?;
        let full = |(_, count): &(Uuid, i64)| limit.is_some_and(|limit| *count >= limit);
        let counted = influencers.into_iter().zip(counts);
        let too_many = counted.filter(full).map(|(influencer, _)| influencer);
        Ok(Self {
            too_many: too_many.collect(),
            of: of
                .into_iter()
                .map(|(id, all)| (id, in_order(all)))
                .collect(),
        })
    }

    /// Those of a schedule; none where its influencer has too many.
    pub fn of(&self, influencer: Uuid, stored: &Stored<'_>) -> Option<Rc<[Exception]>> {
        if stored.has_exceptions != Some(true) {
            return Some(Rc::default());
        }
        let id = stored.id.filter(|_| !self.too_many.contains(&influencer))?;
        Some(self.of.get(&id).cloned().unwrap_or_default())
    }
}

/// A schedule with its exceptions that can matter between two moments.
pub fn series_between(stored: &Stored<'_>, after: i64, before: i64) -> Result<Series> {
    let series = stored.series()?;
    let nobody = Uuid::from_bytes([0; 16]);
    let known = Known::within([(nobody, stored)].into_iter(), after, before, None)?;
    Ok(series.with(known.of(nobody, stored).unwrap_or_default()))
}

/// The first exceptions of a schedule that can matter after a moment, if the caller may see them: up to so many by where
/// they were, and by where they are.
pub struct First {
    pub exceptions: Rc<[Exception]>,
    /// How many rows were read.
    pub count: usize,
    /// The moment up to which these are all; none where there are no more.
    pub until: Option<i64>,
}

impl First {
    /// `usual` is how long those last that have no time of their own.
    pub fn after(schedule: Uuid, moment: i64, usual: i64, most: usize) -> Result<Self> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let args = [
            schedule.into(),
            clock(moment.saturating_sub(usual + AROUND)).into(),
            clock(moment.saturating_sub(LONGEST + AROUND)).into(),
            most.into(),
        ];
        plan::run(&FIRST, &args, |rows| {
            // Of both orders how many there are, and the last clock time.
            let mut orders = [(0_i64, i64::MIN); 2];
            let mut exceptions = Vec::new();
            for row in 0..rows.len() {
                let Some((_, exception)) = read(rows, row) else {
                    continue;
                };
                let by_now = rows.get::<bool>(row, 7) == Some(true);
                let key = match exception.start {
                    Some((_, local)) if by_now => local,
                    _ => exception.original,
                };
                let order = &mut orders[usize::from(by_now)];
                *order = (order.0 + 1, order.1.max(key));
                exceptions.push(exception);
            }
            let full = orders.iter().filter(|(count, _)| *count >= most);
            Ok(Self {
                count: exceptions.len(),
                until: full.map(|(_, last)| last - AROUND).min(),
                exceptions: in_order(exceptions),
            })
        })
    }
}
