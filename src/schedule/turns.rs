//! Whose turn it is. Sessions are made ahead of few schedules at a time: influencers take turns, each with a
//! share of its schedules, and what is left when the time is up is gone on with by whoever comes next: the
//! worker, or a call of the server's. One row of `live_stream.schedule_turns` says where that is.

use super::making::{self, Due};
use super::{settling, timestamp};
use crate::pg::clock::transaction_time;
use crate::pg::error::Result;
use crate::pg::lock::{Lock, Mode};
use crate::pg::plan::{self, Plan};
use crate::pg::subtransaction;
use pgrx::datum::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::Cell;
use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

/// How often the schedules of an influencer are looked at.
const LOOK_EVERY: i64 = 60_000_000;
/// The most schedules of an influencer that are looked at in one turn.
const SHARE: usize = 20;
/// How many influencers have a turn at the same time: one who waits and one who does not, or more where there is time.
const LEAST: usize = 2;
const MOST: usize = 64;
/// The most influencers that wait for another turn: the others wait for their first.
const MOST_WAITING: usize = 1_000;
/// How long one step is to take: with more time than half of it left the next one has more influencers.
const STEP: Duration = Duration::from_millis(10);

thread_local! {
    static READ: Plan = const { Plan::writing(
        c"select began_at, reached, is_through, influencers, schedules from live_stream.schedule_turns",
        &[],
    ) };
    static WRITE: Plan = const { Plan::writing(
        c"insert into live_stream.schedule_turns as t
            (the_one, began_at, reached, is_through, influencers, schedules)
          values (true, $1, $2, $3, $4, $5)
          on conflict (the_one) do update
            set began_at = excluded.began_at, reached = excluded.reached,
                is_through = excluded.is_through, influencers = excluded.influencers,
                schedules = excluded.schedules",
        &[
            pg_sys::TIMESTAMPTZOID,
            pg_sys::UUIDOID,
            pg_sys::BOOLOID,
            pg_sys::UUIDARRAYOID,
            pg_sys::UUIDARRAYOID,
        ],
    ) };
    // From one influencer to the next by the index, however many schedules each has.
    static INFLUENCERS: Plan = const { Plan::writing(
        c"with recursive walk (influencer_id, nth) as (
            select (select influencer_id from public.live_stream_schedule
                     where influencer_id >= coalesce($1, '00000000-0000-0000-0000-000000000000')
                       and influencer_id is distinct from $1
                     order by influencer_id limit 1), 1
            union all
            select (select s.influencer_id from public.live_stream_schedule s
                     where s.influencer_id > walk.influencer_id
                     order by s.influencer_id limit 1), nth + 1
              from walk where walk.influencer_id is not null and nth < $2)
          select influencer_id from walk where influencer_id is not null order by nth",
        &[pg_sys::UUIDOID, pg_sys::INT8OID],
    ) };
    /// How many influencers have a turn in the next step.
    static SIZE: Cell<usize> = const { Cell::new(LEAST) };
}

/// A round in which all influencers have their first turn, and where it is.
#[derive(Clone)]
struct Turns {
    began_at: i64,
    /// The influencer who had its first turn last.
    reached: Option<Uuid>,
    /// Whether all have had their first turn.
    is_through: bool,
    /// Those who wait for another turn, with the schedule that was looked at last.
    waiting: VecDeque<(Uuid, Option<Uuid>)>,
}

impl Turns {
    fn new(now: i64) -> Self {
        Self {
            began_at: now,
            reached: None,
            is_through: false,
            waiting: VecDeque::new(),
        }
    }

    /// Where it is; a new round where it is time for one.
    fn read(now: i64) -> Result<Self> {
        let kept = plan::run(&READ, &[], |rows| {
            let began_at = rows.get::<TimestampWithTimeZone>(0, 0).map(i64::from);
            let influencers: Option<Vec<Option<Uuid>>> = rows.get(0, 3);
            let schedules: Option<Vec<Option<Uuid>>> = rows.get(0, 4);
            let influencers = influencers.unwrap_or_default().into_iter().flatten();
            Ok(began_at.map(|began_at| Self {
                began_at,
                reached: rows.get(0, 1),
                is_through: rows.get(0, 2) == Some(true),
                waiting: influencers.zip(schedules.unwrap_or_default()).collect(),
            }))
        })?;
        let Some(mut turns) = kept else {
            return Ok(Self::new(now));
        };
        // Clocks may be put back.
        if turns.is_through && !(0..LOOK_EVERY).contains(&now.saturating_sub(turns.began_at)) {
            (turns.began_at, turns.reached, turns.is_through) = (now, None, false);
        }
        Ok(turns)
    }

    fn write(&self) -> Result<()> {
        let (influencers, schedules): (Vec<Uuid>, Vec<Option<Uuid>>) =
            self.waiting.iter().copied().unzip();
        let args = [
            timestamp(self.began_at).into(),
            self.reached.into(),
            self.is_through.into(),
            influencers.into(),
            schedules.into(),
        ];
        plan::execute(&WRITE, &args).map(drop)
    }

    fn is_done(&self) -> bool {
        self.is_through && self.waiting.is_empty()
    }

    /// Takes out those whose turn it is: of so many, half have their first one.
    fn take(&mut self, size: usize) -> Result<Vec<(Uuid, Option<Uuid>)>> {
        let mut taken = Vec::new();
        if !self.is_through && self.waiting.len() < MOST_WAITING {
            let again: HashSet<Uuid> = self.waiting.iter().map(|(id, _)| *id).collect();
            let most = size.div_ceil(2);
            let args = [
                self.reached.into(),
                i64::try_from(most).unwrap_or(i64::MAX).into(),
            ];
            let found: Vec<Uuid> = plan::run(&INFLUENCERS, &args, |rows| {
                Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
            })?;
            self.is_through = found.len() < most;
            self.reached = found.last().copied().or(self.reached);
            // Who waits for another turn has its first one there.
            let first = found.into_iter().filter(|id| !again.contains(id));
            taken.extend(first.map(|id| (id, None)));
        }
        let others = size.saturating_sub(taken.len()).min(self.waiting.len());
        taken.extend(self.waiting.drain(..others));
        Ok(taken)
    }

    /// Looks at the next schedules of influencers who were taken out.
    fn step(&mut self, turns: &[(Uuid, Option<Uuid>)], now: i64, until: i64) -> Result<i32> {
        let began = Instant::now();
        let due = making::due(turns, until, SHARE)?;
        let done = making::make(&due, now, until, || began.elapsed() < STEP)?;
        for &(influencer, after) in turns {
            let is_of = |one: &&Due| one.influencer == influencer;
            let all = due.iter().filter(is_of).count();
            let mut looked_at = due.iter().take(done.schedules).filter(is_of);
            let count = looked_at.clone().count();
            if count < all || all == SHARE {
                let last = looked_at.next_back().map(|one| one.id).or(after);
                self.waiting.push_back((influencer, last));
            }
        }
        Ok(done.made)
    }

    /// The same, where a failure is one influencer's: it is logged, and those who are not at fault have their turn.
    fn careful_step(&mut self, turns: &[(Uuid, Option<Uuid>)], now: i64, until: i64) -> Result<()> {
        let before = self.clone();
        if subtransaction::try_or_undo(|| self.step(turns, now, until))? {
            return Ok(());
        }
        *self = before;
        if let [_, _, ..] = turns {
            for one in turns {
                self.careful_step(std::slice::from_ref(one), now, until)?;
            }
        }
        Ok(())
    }
}

/// Makes sessions of what begins within a time from now, in microseconds, until a moment; true when more is left, or
/// another is at it.
pub fn go_on(horizon: i64, deadline: Instant) -> Result<bool> {
    let now = i64::from(transaction_time());
    settling(|| {
        let mut turns = Turns::read(now)?;
        if turns.is_done() {
            return Ok(false);
        }
        if !Lock::Schedules.try_now(Mode::Alone) {
            return Ok(true);
        }
        // Another may have gone on meanwhile.
        turns = Turns::read(now)?;
        while !turns.is_done() {
            let began = Instant::now();
            let size = SIZE.get().clamp(LEAST, MOST);
            let taken = turns.take(size)?;
            turns.careful_step(&taken, now, now + horizon)?;
            SIZE.set(match began.elapsed() {
                took if took > STEP => size / 2,
                took if took < STEP / 2 => size * 2,
                _ => size,
            });
            if Instant::now() >= deadline {
                break;
            }
        }
        turns.write()?;
        Ok(!turns.is_done())
    })
}

/// A new round begins, which knows of no influencer yet, as one is being erased: whoever is at it has written where it is
/// before, and nobody begins until this transaction commits. Who has an older snapshot is told 40001.
pub fn begin_anew() -> Result<()> {
    Lock::Schedules.wait(Mode::Alone);
    settling(|| Turns::new(i64::from(transaction_time())).write())
}

/// Makes the sessions of all schedules from one moment to another; returns how many. For code that settles and has
/// the lock.
pub fn make_all(now: i64, until: i64) -> Result<i32> {
    let mut turns = Turns::new(now);
    let mut made = 0;
    while !turns.is_done() {
        let taken = turns.take(MOST)?;
        made += turns.step(&taken, now, until)?;
    }
    Ok(made)
}
