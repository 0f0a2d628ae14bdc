//! What is done with a session that was made for an occurrence is said of the occurrence as well: a session that is
//! cancelled or deleted is an occurrence that is skipped, one that has another time of its own is an occurrence that was
//! moved, and one that ended before it was to begin took place then. So all that reads exceptions knows of it.
//!
//! Who writes a session has its row, and who changes a schedule has that and then wants its sessions'. So nobody waits here
//! for a schedule that somebody has: what could not be said is said by whoever looks at the schedule next.

use super::loading::exception;
use super::series::{Exception, ExceptionKind, Series, wall_at};
use super::sessions::{fields, stored};
use super::{exceptions, is_settling, next_session, settling, timestamp};
use crate::pg::error::{OrRaise, Result};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, Rows, sql};
use crate::pg::row::{Row, required};
use crate::pg::trigger::{self, Outcome};
use pgrx::datum::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// How often a schedule that somebody has is asked for, and the pause between, in seconds: the worker has one for some
/// milliseconds.
const TRIES: usize = 20;
const PAUSE: f64 = 0.005;

/// What a statement has changed so far: sessions, and schedules of deleted ones.
#[derive(Default)]
struct Noted {
    sessions: BTreeSet<Uuid>,
    schedules: BTreeSet<Uuid>,
}

thread_local! {
    // What is left of a statement that failed says nothing wrong: it is looked at as it is.
    static NOTED: RefCell<Noted> = const { RefCell::new(Noted { sessions: BTreeSet::new(), schedules: BTreeSet::new() }) };
    static SCHEDULES_OF: Plan = const { Plan::writing(
        c"select distinct schedule_id from public.live_stream_schedule_sessions where session_id = any ($1)",
        &[pg_sys::UUIDARRAYOID],
    ) };
    static SCHEDULE_OF: Plan = const { Plan::writing(
        c"select schedule_id from public.live_stream_schedule_sessions
           where session_id = $1 and ends_at > now()",
        &[pg_sys::UUIDOID],
    ) };
    // Of an influencer that is being deleted nothing is said any more.
    static LOCK: Plan = const { Plan::writing(
        sql!(
            "select s.id, ", fields!(), " from public.live_stream_schedule s
              where s.id = any ($1)
                and exists (select from public.influencers i where i.id = s.influencer_id)
              order by s.id for no key update of s skip locked"
        ),
        &[pg_sys::UUIDARRAYOID],
    ) };
    static WAIT: Plan = const { Plan::writing(c"select from pg_sleep($1)", &[pg_sys::FLOAT8OID]) };
    // What is over stays as it was, but for a session that is given a time again. Times are those that exceptions can have.
    static CHANGED: Plan = const { Plan::writing(
        c"select l.schedule_id, l.original_local_start, e.original_starts_at,
                 e.kind, e.original_local_start, e.starts_at, e.local_start, e.ends_at, e.title,
                 case s.status
                   when 'scheduled' then s.planned_start
                   when 'ended' then greatest(least(s.actual_start_time, s.actual_end_time - interval '1 second'),
                                              s.actual_end_time - interval '166 hours') end,
                 case s.status
                   when 'scheduled' then s.planned_end
                   when 'ended' then s.actual_end_time end
            from (select schedule_id, original_local_start, session_id, starts_at, ends_at
                    from public.live_stream_schedule_sessions
                   where schedule_id = any ($1) and ends_at > now()
                   union
                  select schedule_id, original_local_start, session_id, starts_at, ends_at
                    from public.live_stream_schedule_sessions
                   where session_id = any ($2) and schedule_id = any ($1)) l
            left join lateral (
                  select id, status::text as status, actual_start_time, actual_end_time,
                         scheduled_start_time as planned_start,
                         case when scheduled_start_time between '0001-01-02Z' and '9999-12-30Z'
                                   and scheduled_end_time is not null
                              then least(scheduled_end_time, scheduled_start_time + interval '166 hours')
                         end as planned_end,
                         scheduled_start_time between '0001-01-02Z' and '9999-12-30Z' as is_planned
                    from public.live_stream_sessions where id = l.session_id limit 1) s on true
            left join lateral (
                  select original_starts_at, kind::text, original_local_start, starts_at, local_start, ends_at, title
                    from public.live_stream_schedule_exceptions
                   where schedule_id = l.schedule_id and fits
                     and original_local_start = l.original_local_start limit 1) e on true
           where case
                   when s.status = 'scheduled' then
                     s.is_planned and (s.planned_start <> l.starts_at or s.planned_end is distinct from
                                       case when s.planned_end is not null
                                            then least(l.ends_at, l.starts_at + interval '166 hours') end)
                   when s.status = 'ended' then
                     l.ends_at > now() and s.actual_end_time < l.starts_at and s.actual_start_time is not null
                   else l.ends_at > now() and (s.id is null or s.status = 'cancelled') end
           order by 1, 2",
        &[pg_sys::UUIDARRAYOID, pg_sys::UUIDARRAYOID],
    ) };
    static WRITE: Plan = const { Plan::writing(
        c"insert into public.live_stream_schedule_exceptions as e
            (schedule_id, original_starts_at, kind, starts_at, ends_at, fits, original_local_start, local_start)
          select u.schedule_id, u.original, u.kind::public.live_stream_exception, u.starts, u.ends, true, u.wall, u.local
            from unnest($1, $2, $3, $4, $5, $6, $7) as u (schedule_id, original, kind, starts, ends, wall, local)
           order by 1, 2
          on conflict on constraint live_stream_schedule_exceptions_pkey do update
            set kind = excluded.kind, starts_at = excluded.starts_at, ends_at = excluded.ends_at,
                local_start = excluded.local_start, original_local_start = excluded.original_local_start,
                title = case when excluded.kind = 'skip' then null else e.title end, fits = true,
                updated_at = now()",
        &[
            pg_sys::UUIDARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::TEXTARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::TIMESTAMPARRAYOID,
            pg_sys::TIMESTAMPARRAYOID,
        ],
    ) };
    static FORGET: Plan = const { Plan::writing(
        c"delete from public.live_stream_schedule_exceptions e
           using unnest($1, $2) as u (schedule_id, original)
           where e.schedule_id = u.schedule_id and e.original_starts_at = u.original",
        &[pg_sys::UUIDARRAYOID, pg_sys::TIMESTAMPTZARRAYOID],
    ) };
    static PART: Plan = const { Plan::writing(
        c"delete from public.live_stream_schedule_sessions l
           using unnest($1, $2) as u (schedule_id, wall)
           where l.schedule_id = u.schedule_id and l.original_local_start = u.wall",
        &[pg_sys::UUIDARRAYOID, pg_sys::TIMESTAMPARRAYOID],
    ) };
    static TELL: Plan = const { Plan::writing(
        c"update public.live_stream_schedule_sessions l
             set starts_at = u.starts, ends_at = u.ends
            from unnest($1, $2, $3, $4) as u (schedule_id, wall, starts, ends)
           where l.schedule_id = u.schedule_id and l.original_local_start = u.wall",
        &[
            pg_sys::UUIDARRAYOID,
            pg_sys::TIMESTAMPARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
        ],
    ) };
}

/// AFTER UPDATE of a session: one that was cancelled, has ended or has another planned time is noted.
#[pg_trigger]
fn sessions_note<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::after_change(trigger, |old, new| {
        if let Some(old) = old
            && !is_settling()
            && is_of_the_occurrence(old, new)?
        {
            let id: Uuid = required(new, "id")?;
            NOTED.with_borrow_mut(|noted| noted.sessions.insert(id));
        }
        Ok(())
    })
}

fn is_of_the_occurrence(old: &Row<'_>, new: &Row<'_>) -> Result<bool> {
    let status = new.label("status")?;
    match status.as_deref() {
        Some("cancelled" | "ended") => Ok(old.label("status")? != status),
        Some("scheduled") => {
            let is_same = |column| new.same::<TimestampWithTimeZone>(old, column);
            Ok(!(is_same("scheduled_start_time")? && is_same("scheduled_end_time")?))
        }
        _ => Ok(false),
    }
}

/// BEFORE DELETE of a session: its schedule is noted.
#[pg_trigger]
fn sessions_note_deleted<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::before_delete(trigger, |old| {
        let id: Uuid = required(old, "id")?;
        let schedules: Vec<Uuid> = as_owner(|| plan::run(&SCHEDULE_OF, &[id.into()], ids))?;
        NOTED.with_borrow_mut(|noted| noted.schedules.extend(schedules));
        Ok(())
    })
}

/// AFTER a statement that has changed or deleted sessions: their occurrences are as the sessions are.
#[pg_trigger]
fn sessions_settle<'a>(_trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    settle_noted().or_raise();
    Ok(None)
}

fn ids(rows: &Rows) -> Result<Vec<Uuid>> {
    Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
}

fn settle_noted() -> Result<()> {
    let Noted {
        sessions,
        mut schedules,
    } = NOTED.take();
    if sessions.is_empty() && schedules.is_empty() {
        return Ok(());
    }
    let sessions: Vec<Uuid> = sessions.into_iter().collect();
    settling(|| {
        if !sessions.is_empty() {
            schedules.extend(plan::run(&SCHEDULES_OF, &[sessions.clone().into()], ids)?);
        }
        if schedules.is_empty() {
            return Ok(());
        }
        let schedules: Vec<Uuid> = schedules.into_iter().collect();
        say(schedules.clone(), sessions, TRIES)?;
        next_session::name(schedules)
    })
}

/// Says of the occurrences of schedules what was done with their sessions and could not be said then; of which it was
/// said. For code that settles.
pub fn make_up(schedules: Vec<Uuid>) -> Result<BTreeSet<Uuid>> {
    say(schedules, Vec::new(), 1)
}

/// A session that is not as its occurrence.
struct Changed {
    schedule: Uuid,
    wall: i64,
    /// What is different already, and the moment by which it is known.
    exception: Option<(i64, Exception)>,
    /// When it takes place, and its end where it has one; none where it does not.
    time: Option<(i64, Option<i64>)>,
}

impl Changed {
    fn read(rows: &Rows, row: usize) -> Option<Self> {
        let micros = |column| {
            rows.get::<TimestampWithTimeZone>(row, column)
                .map(i64::from)
        };
        Some(Self {
            schedule: rows.get(row, 0)?,
            wall: rows.get::<Timestamp>(row, 1)?.into(),
            exception: micros(2).zip(exception(rows, row, 3)),
            time: micros(9).map(|start| (start, micros(10))),
        })
    }
}

fn say(schedules: Vec<Uuid>, sessions: Vec<Uuid>, tries: usize) -> Result<BTreeSet<Uuid>> {
    let args = [schedules.into(), sessions.into()];
    let changed = plan::run(&CHANGED, &args, |rows| {
        let read = |row| Changed::read(rows, row);
        Ok((0..rows.len()).filter_map(read).collect::<Vec<_>>())
    })?;
    if changed.is_empty() {
        return Ok(BTreeSet::new());
    }
    let wanted: BTreeSet<Uuid> = changed.iter().map(|one| one.schedule).collect();
    let known = lock(wanted.into_iter().collect(), tries)?;
    // As they are now that nobody else changes them.
    let [_, sessions] = args;
    let locked: Vec<Uuid> = known.keys().copied().collect();
    let changed = plan::run(&CHANGED, &[locked.into(), sessions], |rows| {
        let read = |row| Changed::read(rows, row);
        Ok((0..rows.len()).filter_map(read).collect::<Vec<_>>())
    })?;
    let mut said = Said::default();
    for one in &changed {
        pgrx::check_for_interrupts!();
        if let Some(Some(series)) = known.get(&one.schedule) {
            said.add(one, series);
        }
    }
    said.write()?;
    said.schedules
        .iter()
        .try_for_each(|id| exceptions::mark(*id))?;
    Ok(said.schedules)
}

/// Those of the schedules that nobody else has, and what makes sense of them in time.
fn lock(schedules: Vec<Uuid>, tries: usize) -> Result<BTreeMap<Uuid, Option<Series>>> {
    let mut known = BTreeMap::new();
    for nth in 0..tries {
        if nth > 0 {
            plan::execute(&WAIT, &[PAUSE.into()])?;
        }
        let left: Vec<Uuid> = schedules
            .iter()
            .copied()
            .filter(|id| !known.contains_key(id))
            .collect();
        if left.is_empty() {
            break;
        }
        plan::run(&LOCK, &[left.into()], |rows| {
            for row in 0..rows.len() {
                if let Some(id) = rows.get::<Uuid>(row, 0) {
                    known.insert(id, stored(rows, row, 1).series().ok());
                }
            }
            Ok(())
        })?;
    }
    Ok(known)
}

/// What is to be written.
#[derive(Default)]
struct Said {
    schedules: BTreeSet<Uuid>,
    written: Vec<Written>,
    forgotten: Vec<(Uuid, i64)>,
    parted: Vec<(Uuid, i64)>,
    told: Vec<(Uuid, i64, i64, i64)>,
}

struct Written {
    schedule: Uuid,
    original: i64,
    kind: ExceptionKind,
    wall: i64,
    /// Start, its clock time, and end.
    time: Option<(i64, i64, Option<i64>)>,
}

impl Said {
    fn add(&mut self, one: &Changed, series: &Series) {
        let had = one.exception.as_ref().map(|(_, exception)| exception);
        let original = match &one.exception {
            Some((original, _)) => Some(*original),
            None => series.start_at(one.wall),
        };
        // What the schedule does not have any more is nobody's to announce.
        let Some(original) = original else { return };
        self.schedules.insert(one.schedule);
        let mut written = Written {
            schedule: one.schedule,
            original,
            kind: ExceptionKind::Skip,
            wall: one.wall,
            time: None,
        };
        let Some((start, end)) = one.time else {
            self.parted.push((one.schedule, one.wall));
            self.written.push(written);
            return;
        };
        written.kind = match had {
            Some(had) if had.kind == ExceptionKind::Add => ExceptionKind::Add,
            _ => ExceptionKind::Move,
        };
        let usual = series.occurrence_at(one.wall, None);
        let is_usual = usual
            .is_some_and(|usual| usual.start == start && end.is_none_or(|end| usual.end == end));
        if !is_usual {
            written.time = Some((start, wall_at(series.zone, start), end));
        }
        let title = had.and_then(|had| had.title.clone());
        let exception = Exception {
            kind: written.kind,
            original: one.wall,
            start: written.time.map(|(start, local, _)| (start, local)),
            length: end.filter(|_| !is_usual).map(|end| end - start),
            title: title.clone(),
        };
        let Some(now) = series.occurrence_at(one.wall, Some(&exception)) else {
            return;
        };
        self.told.push((one.schedule, one.wall, now.start, now.end));
        if is_usual && written.kind == ExceptionKind::Move && title.is_none() {
            self.forgotten.push((one.schedule, original));
        } else {
            self.written.push(written);
        }
    }

    fn write(&self) -> Result<()> {
        let wall = |micros: i64| Timestamp::try_from(micros).ok();
        let (parted, walls): (Vec<_>, Vec<_>) = self
            .parted
            .iter()
            .map(|(schedule, at)| (*schedule, wall(*at)))
            .unzip();
        if !parted.is_empty() {
            plan::execute(&PART, &[parted.into(), walls.into()])?;
        }
        if !self.forgotten.is_empty() {
            let (schedules, originals): (Vec<_>, Vec<_>) = self
                .forgotten
                .iter()
                .map(|(schedule, original)| (*schedule, timestamp(*original)))
                .unzip();
            plan::execute(&FORGET, &[schedules.into(), originals.into()])?;
        }
        if !self.written.is_empty() {
            let all = &self.written;
            let schedules: Vec<Uuid> = all.iter().map(|one| one.schedule).collect();
            let kinds: Vec<String> = all.iter().map(|one| one.kind.label().to_owned()).collect();
            let moments = |of: &dyn Fn(&Written) -> Option<i64>| {
                let moments = all.iter().map(|one| of(one).and_then(timestamp));
                moments.collect::<Vec<_>>()
            };
            let walls = |of: &dyn Fn(&Written) -> Option<i64>| {
                let walls = all.iter().map(|one| of(one).and_then(wall));
                walls.collect::<Vec<_>>()
            };
            let args = [
                schedules.into(),
                moments(&|one| Some(one.original)).into(),
                kinds.into(),
                moments(&|one| Some(one.time?.0)).into(),
                moments(&|one| one.time?.2).into(),
                walls(&|one| Some(one.wall)).into(),
                walls(&|one| Some(one.time?.1)).into(),
            ];
            plan::execute(&WRITE, &args)?;
        }
        if !self.told.is_empty() {
            let told = &self.told;
            let args = [
                told.iter().map(|one| one.0).collect::<Vec<_>>().into(),
                told.iter()
                    .map(|one| wall(one.1))
                    .collect::<Vec<_>>()
                    .into(),
                told.iter()
                    .map(|one| timestamp(one.2))
                    .collect::<Vec<_>>()
                    .into(),
                told.iter()
                    .map(|one| timestamp(one.3))
                    .collect::<Vec<_>>()
                    .into(),
            ];
            plan::execute(&TELL, &args)?;
        }
        Ok(())
    }
}
