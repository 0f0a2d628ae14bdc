//! From occurrences that come to sessions, each made once.

use super::loading::Known;
use super::series::Exception;
use super::sessions::{fields, follow_planned, stored, title_of};
use super::stored::Stored;
use super::{called_off, next_session, upcoming};
use crate::limits;
use crate::pg::error::Result;
use crate::pg::plan::{self, Plan, sql};
use pgrx::datum::{DatumWithOid, Uuid};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::collections::BTreeSet;
use std::rc::Rc;

/// The most sessions that one schedule gets in one run: a show every hour of a week has 168.
const MOST: usize = 200;

/// The most occurrences that are looked at, and rows that are made, in one go.
const MOST_LOOKED_AT: usize = 2_000;
const MOST_ROWS: usize = 300;

/// The schedules whose exceptions are read at once, before a look at the time.
const AT_ONCE: usize = 8;

/// Puts the products of their schedules into sessions: those that a condition holds of.
macro_rules! showcase {
    ($condition:literal) => {
        concat!(
            "insert into public.live_stream_products (session_id, product_id, display_order)
             select l.session_id, p.product_id, min(p.place)::integer
               from public.live_stream_schedule_sessions l
               join public.live_stream_schedule s on s.id = l.schedule_id
              cross join unnest(s.products_to_showcase) with ordinality as p (product_id, place)
              where l.session_id = any ($1) ",
            $condition,
            " group by 1, 2 order by 1, 2"
        )
    };
}

/// Puts products that schedules have got into sessions, from $6, their places: those that a condition holds of.
macro_rules! put_in {
    ($condition:literal) => {
        concat!(
            "insert into public.live_stream_products (session_id, product_id, display_order)
             select made.session_id, p.product_id, p.place
               from unnest($1, $2) as made (schedule_id, session_id)
               join unnest($3, $4, $5, $6) as p (schedule_id, product_id, was, place)
                 on p.schedule_id = made.schedule_id
              where p.was is null ",
            $condition,
            " order by 1, 2 on conflict (session_id, product_id) do nothing"
        )
    };
}

const PUT_IN_TYPES: &[pg_sys::Oid] = &[
    pg_sys::UUIDARRAYOID,
    pg_sys::UUIDARRAYOID,
    pg_sys::UUIDARRAYOID,
    pg_sys::UUIDARRAYOID,
    pg_sys::INT4ARRAYOID,
    pg_sys::INT4ARRAYOID,
];

/// What says when a schedule takes place, as one text: what was worked out before somebody changed it makes no sessions.
macro_rules! times {
    () => {
        "concat_ws(' ', s.status, s.scheduled_date, s.scheduled_start_time, s.timezone, s.recurrence_rule)"
    };
}

thread_local! {
    // Round by round: the first of each influencer, then the second of each.
    static COMING: Plan = const { Plan::writing(
        sql!(
            "select s.id, s.influencer_id, s.title, cardinality(s.products_to_showcase), ", fields!(), ",
                    ", times!(), "
               from unnest($2, $3) as turn (influencer_id, after)
              cross join lateral (
                select *, row_number() over (order by id) as nth
                  from (select * from public.live_stream_schedule
                         where influencer_id = turn.influencer_id
                           and id >= coalesce(turn.after, '00000000-0000-0000-0000-000000000000')
                           and id is distinct from turn.after
                           and status in ", upcoming!(), "
                           and case when has_exceptions then 'infinity' else coalesce(last_start, 'infinity') end
                               >= (now() at time zone 'UTC') - interval '9 days'
                           and (has_exceptions or scheduled_date <= $1 + interval '2 days')
                         order by id limit $4) one) s
              order by s.nth, s.influencer_id"
        ),
        &[
            pg_sys::TIMESTAMPTZOID,
            pg_sys::UUIDARRAYOID,
            pg_sys::UUIDARRAYOID,
            pg_sys::INT8OID,
        ],
    ) };
    static MISSING: Plan = const { Plan::writing(
        c"select u.nth
            from unnest($1, $2) with ordinality as u (schedule_id, original_local_start, nth)
           where not exists (select from public.live_stream_schedule_sessions l
                              where l.schedule_id = u.schedule_id
                                and l.original_local_start = u.original_local_start)
           order by u.nth",
        &[pg_sys::UUIDARRAYOID, pg_sys::TIMESTAMPARRAYOID],
    ) };
    // What is being changed or deleted keeps nobody waiting.
    static MAKE: Plan = const { Plan::writing(
        sql!("with kept as materialized (
            select s.id
              from (select distinct id, times from unnest($1, $7) as u (id, times)) known
              join public.live_stream_schedule s on s.id = known.id and known.times = ", times!(), "
              join public.influencers i on i.id = s.influencer_id
             order by s.id for share of s skip locked for key share of i skip locked),
          wanted as materialized (
            select u.*, gen_random_uuid() as session_id
              from unnest($1, $2, $3, $4, $5, $6)
                     as u (schedule_id, original_local_start, original_starts_at, starts_at, ends_at, title)
             where schedule_id in (select id from kept)),
          claimed as (
            insert into public.live_stream_schedule_sessions
              (schedule_id, original_local_start, original_starts_at, starts_at, ends_at, title, session_id)
            select schedule_id, original_local_start, original_starts_at, starts_at, ends_at, title, session_id
              from wanted order by 1, 2
            on conflict do nothing
            returning schedule_id, starts_at, ends_at, title, session_id)
          insert into public.live_stream_sessions
            (id, influencer_id, title, description, thumbnail_url, scheduled_start_time,
             scheduled_end_time, visibility)
          select c.session_id, s.influencer_id, c.title, s.description, s.thumbnail_url, c.starts_at,
                 c.ends_at, s.visibility
            from claimed c join public.live_stream_schedule s on s.id = c.schedule_id
          returning id"),
        &[
            pg_sys::UUIDARRAYOID,
            pg_sys::TIMESTAMPARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::TEXTARRAYOID,
            pg_sys::TEXTARRAYOID,
        ],
    ) };
    static HAS_PRODUCTS: Plan = const { Plan::writing(
        c"select true from pg_constraint
           where conrelid = 'public.live_stream_products'::regclass
             and conname = 'live_stream_products_product_id_fkey'",
        &[],
    ) };
    static SHOWCASE: Plan = const { Plan::writing(sql!(showcase!("")), &[pg_sys::UUIDARRAYOID]) };
    static SHOWCASE_KNOWN: Plan = const { Plan::writing(
        sql!(showcase!(
            "and exists (select from public.products known where known.id = p.product_id)"
        )),
        &[pg_sys::UUIDARRAYOID],
    ) };
    static PUT_IN: Plan = const { Plan::writing(sql!(put_in!("")), PUT_IN_TYPES) };
    static PUT_IN_KNOWN: Plan = const { Plan::writing(
        sql!(put_in!(
            "and exists (select from public.products known where known.id = p.product_id)"
        )),
        PUT_IN_TYPES,
    ) };
}

/// A schedule whose turn it is.
pub struct Due {
    pub id: Uuid,
    pub influencer: Uuid,
    title: String,
    /// What one of its sessions takes to be made, in rows.
    weight: usize,
    stored: Stored<'static>,
    times: String,
}

/// The next schedules, up to so many of each, of influencers with the schedule that was looked at last; those that
/// may take place between now and a moment. What was done with their sessions is said before. For code that settles.
pub fn due(turns: &[(Uuid, Option<Uuid>)], until: i64, most: usize) -> Result<Vec<Due>> {
    let (influencers, after): (Vec<Uuid>, Vec<Option<Uuid>>) = turns.iter().copied().unzip();
    let args = [
        super::timestamp(until).into(),
        influencers.into(),
        after.into(),
        i64::try_from(most).unwrap_or(i64::MAX).into(),
    ];
    let mut due = plan::run(&COMING, &args, |rows| {
        let read = |row| {
            let id = rows.get(row, 0)?;
            let products = rows.get::<i32>(row, 3).unwrap_or(0);
            Some(Due {
                id,
                influencer: rows.get(row, 1)?,
                title: rows.get(row, 2)?,
                weight: 1 + usize::try_from(products).unwrap_or(0),
                stored: Stored {
                    id: Some(id),
                    ..stored(rows, row, 4)
                },
                times: rows.get(row, 12)?,
            })
        };
        Ok((0..rows.len()).filter_map(read).collect::<Vec<_>>())
    })?;
    let changed = called_off::make_up(due.iter().map(|one| one.id).collect())?;
    for one in due.iter_mut().filter(|one| changed.contains(&one.id)) {
        one.stored.has_exceptions = Some(true);
    }
    Ok(due)
}

/// What was done of schedules whose turn it was.
pub struct Done {
    pub made: i32,
    /// So many of them, from the first on, are done.
    pub schedules: usize,
}

/// Lets planned sessions follow and makes those that are missing, of the first of these schedules, as long as `has_time`
/// and until that is enough for one statement. For code that settles.
pub fn make(due: &[Due], now: i64, until: i64, has_time: impl Fn() -> bool) -> Result<Done> {
    let mut coming = Coming::default();
    let mut looked_at = 0;
    let mut known = Known::default();
    for (nth, one) in due.iter().enumerate() {
        pgrx::check_for_interrupts!();
        if nth > 0 && (coming.ids.len() >= MOST_LOOKED_AT || !has_time()) {
            break;
        }
        if nth % AT_ONCE == 0 {
            let some = due.iter().skip(nth).take(AT_ONCE);
            let stored = some.map(|one| (one.influencer, &one.stored));
            known = Known::within(stored, now, until, None)?;
        }
        let exceptions = known.of(one.influencer, &one.stored).unwrap_or_default();
        coming.add(nth, one, exceptions, now, until);
        looked_at = nth + 1;
    }
    let ids: Vec<Uuid> = due.iter().take(looked_at).map(|one| one.id).collect();
    follow_planned(ids.clone(), false)?;
    let mut made = 0;
    if !coming.ids.is_empty() {
        let missing = coming.missing()?;
        let (chosen, done) = choose(due, &coming, missing, looked_at)?;
        looked_at = done;
        if !chosen.is_empty() {
            made = make_sessions(coming.only(&chosen))?;
        }
    }
    next_session::name(ids)?;
    Ok(Done {
        made,
        schedules: looked_at,
    })
}

/// Which of those that are missing are made now, and how many of the schedules are done with that: an influencer may
/// have so many planned, and one statement makes so many.
fn choose(
    due: &[Due],
    coming: &Coming,
    missing: Vec<usize>,
    looked_at: usize,
) -> Result<(Vec<usize>, usize)> {
    if missing.is_empty() {
        return Ok((missing, looked_at));
    }
    let of = |one: &usize| coming.of.get(*one).and_then(|nth| due.get(*nth));
    let influencers: BTreeSet<Uuid> = missing
        .iter()
        .filter_map(of)
        .map(|of| of.influencer)
        .collect();
    let mut room = limits::room_to_plan(influencers.into_iter().collect())?;
    let (mut chosen, mut rows) = (Vec::new(), 0);
    for one in missing {
        let (Some(schedule), Some(nth)) = (of(&one), coming.of.get(one)) else {
            continue;
        };
        let Some(left) = room.get_mut(&schedule.influencer).filter(|left| **left > 0) else {
            continue;
        };
        if rows > 0 && rows + schedule.weight > MOST_ROWS {
            return Ok((chosen, *nth));
        }
        *left -= 1;
        rows += schedule.weight;
        chosen.push(one);
    }
    Ok((chosen, looked_at))
}

fn make_sessions(coming: Coming) -> Result<i32> {
    let args = [
        coming.ids.into(),
        coming.walls.into(),
        coming.originals.into(),
        coming.starts.into(),
        coming.ends.into(),
        coming.titles.into(),
        coming.times.into(),
    ];
    let made: Vec<Uuid> = plan::run(&MAKE, &args, |rows| {
        Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
    })?;
    let count = made.len() as i32;
    if count > 0 {
        let showcase = if has_products()? {
            &SHOWCASE_KNOWN
        } else {
            &SHOWCASE
        };
        plan::execute(showcase, &[made.into()])?;
    }
    Ok(count)
}

/// Whether the shop has a table of products.
fn has_products() -> Result<bool> {
    plan::run(&HAS_PRODUCTS, &[], |rows| Ok(rows.len() > 0))
}

/// Puts products that schedules have got into their sessions: `added` has the schedules with their sessions, and the
/// schedules with their products, the places that these had and those that they have. For code that settles.
pub fn put_in(added: &[DatumWithOid<'_>]) -> Result<()> {
    let put_in = if has_products()? {
        &PUT_IN_KNOWN
    } else {
        &PUT_IN
    };
    plan::execute(put_in, added).map(drop)
}

/// Occurrences that come, with the place of their schedule.
#[derive(Default)]
struct Coming {
    of: Vec<usize>,
    ids: Vec<Uuid>,
    walls: Vec<Option<Timestamp>>,
    originals: Vec<Option<TimestampWithTimeZone>>,
    starts: Vec<Option<TimestampWithTimeZone>>,
    ends: Vec<Option<TimestampWithTimeZone>>,
    titles: Vec<String>,
    times: Vec<String>,
}

impl Coming {
    /// One schedule that makes no sense any more does not stop the others; of one that takes too long to expand there
    /// is what was found.
    fn add(&mut self, nth: usize, due: &Due, exceptions: Rc<[Exception]>, now: i64, until: i64) {
        let Ok(series) = due.stored.series() else {
            return;
        };
        let coming = series.with(exceptions).between(now, until);
        let taking_place = coming.filter(|one| !one.is_skipped);
        for one in taking_place.take(MOST) {
            self.of.push(nth);
            self.ids.push(due.id);
            self.walls.push(Timestamp::try_from(one.original_wall).ok());
            self.originals.push(super::timestamp(one.original));
            self.starts.push(super::timestamp(one.start));
            self.ends.push(super::timestamp(one.end));
            self.titles.push(title_of(&one, &due.title));
            self.times.push(due.times.clone());
        }
    }

    /// The places of those that have no session yet.
    fn missing(&self) -> Result<Vec<usize>> {
        let args = [self.ids.clone().into(), self.walls.clone().into()];
        plan::run(&MISSING, &args, |rows| {
            let places = (0..rows.len()).filter_map(|row| rows.get::<i64>(row, 0));
            Ok(places
                .filter_map(|nth| usize::try_from(nth - 1).ok())
                .collect())
        })
    }

    /// Those at these places.
    fn only(&self, places: &[usize]) -> Self {
        fn pick<T: Clone>(all: &[T], places: &[usize]) -> Vec<T> {
            places
                .iter()
                .filter_map(|place| all.get(*place).cloned())
                .collect()
        }
        Self {
            of: pick(&self.of, places),
            ids: pick(&self.ids, places),
            walls: pick(&self.walls, places),
            originals: pick(&self.originals, places),
            starts: pick(&self.starts, places),
            ends: pick(&self.ends, places),
            titles: pick(&self.titles, places),
            times: pick(&self.times, places),
        }
    }
}
