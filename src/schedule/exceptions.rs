//! Exceptions of a schedule: occurrences that are skipped, moved, retitled or added.

use super::places::{Place, Places, times_of_day};
use super::series::{ExceptionKind, Series, moment_of, wall_at};
use super::stored::Stored;
use super::{
    DAY_MICROS, EPOCH, LONGEST, is_settling, missing, no_such_schedule, sessions, settling,
};
use crate::identity;
use crate::limits;
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::row::Row;
use crate::pg::row::{finite, required};
use crate::pg::transition::Changes;
use pgrx::datum::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use recurrence::days;
use std::collections::{BTreeMap, BTreeSet};

const MAX_TITLE: usize = 255;

thread_local! {
    static KIND_OF: Plan = const { Plan::writing(
        c"select kind::text from public.live_stream_schedule_exceptions
           where schedule_id = $1 and original_starts_at = $2",
        &[pg_sys::UUIDOID, pg_sys::TIMESTAMPTZOID],
    ) };
    static MARK: Plan = const { Plan::writing(
        c"update public.live_stream_schedule s
             set has_exceptions = exists (
                   select from public.live_stream_schedule_exceptions e where e.schedule_id = s.id)
           where s.id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static ALL: Plan = const { Plan::writing(
        c"select kind::text, original_starts_at, original_local_start, starts_at, local_start,
                 ends_at, fits
            from public.live_stream_schedule_exceptions where schedule_id = $1
           order by original_starts_at",
        &[pg_sys::UUIDOID],
    ) };
    // Out of the way of the others, past the years that schedules have.
    static LIFT: Plan = const { Plan::writing(
        c"update public.live_stream_schedule_exceptions
             set original_starts_at = original_starts_at + interval '100000 years'
           where schedule_id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static REWRITE: Plan = const { Plan::writing(
        c"update public.live_stream_schedule_exceptions e
             set original_starts_at = u.original, original_local_start = u.wall, starts_at = u.starts,
                 local_start = u.local, ends_at = u.ends, fits = u.fits,
                 kind = u.kind::public.live_stream_exception, updated_at = now()
            from unnest($2, $3, $4, $5, $6, $7, $8, $9)
                   as u (was, original, wall, starts, local, ends, fits, kind)
           where e.schedule_id = $1 and e.original_starts_at = u.was + interval '100000 years'",
        &[
            pg_sys::UUIDOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::TIMESTAMPARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::TIMESTAMPARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::BOOLARRAYOID,
            pg_sys::TEXTARRAYOID,
        ],
    ) };
    static REMOVE_LIFTED: Plan = const { Plan::writing(
        c"delete from public.live_stream_schedule_exceptions
           where schedule_id = $1 and original_starts_at >= '10001-01-01Z'",
        &[pg_sys::UUIDOID],
    ) };
}

/// An exception that is there and is saved again, as an upsert does it (see `pg/upsert`): the guard of an update comes
/// after it.
pub fn guard_again(old: &Row<'_>, new: &mut Row<'_>, set: &[pg_sys::AttrNumber]) -> Result<()> {
    super::own_schedule(Some(required(old, "schedule_id")?))?;
    // What takes place and when is said together: a default would say another thing.
    new.keep_unset(old, set);
    guard(Some(old), new)
}

/// Checks an exception that is about to be stored and works out its clock times.
pub fn guard(old: Option<&Row<'_>>, new: &mut Row<'_>) -> Result<()> {
    if is_settling() {
        return Ok(());
    }
    match old {
        Some(old) => {
            new.keep(
                old,
                &["schedule_id", "original_starts_at", "original_local_start"],
            )?;
            new.keep(old, &["created_at"])?;
        }
        None if !identity::is_service()? => new.set("created_at", Some(transaction_time()))?,
        None => {}
    }
    for column in ["created_at", "updated_at"] {
        if new.is_null(column)? || column == "updated_at" {
            new.set(column, Some(transaction_time()))?;
        }
    }
    let schedule: Uuid = required(new, "schedule_id")?;
    if old.is_none() {
        super::own_schedule(Some(schedule))?;
    }
    let original: TimestampWithTimeZone = required(new, "original_starts_at")?;
    finite(new, "original_starts_at")?;
    let kind = new.label("kind")?.as_deref().and_then(ExceptionKind::named);
    let mut kind = kind.ok_or_else(|| missing("kind"))?;
    check_title(new)?;
    as_owner(|| {
        let stored = Stored::locked(schedule)?.ok_or_else(|| no_such_schedule(schedule))?;
        let series = stored.series()?;
        let wall = series.wall_of_start(original.into());
        let there = match old {
            Some(old) => old.label("kind")?,
            None => plan::run(&KIND_OF, &[schedule.into(), original.into()], |rows| {
                Ok(rows.get::<String>(0, 0))
            })?,
        };
        let was_added = there.as_deref() == Some("add");
        if kind == ExceptionKind::Move && was_added {
            kind = ExceptionKind::Add;
            new.set_label("kind", "add")?;
        }
        let wall = match (kind, wall) {
            (ExceptionKind::Add, Some(_)) if !was_added => return Err(already(original)),
            (ExceptionKind::Add, _) => wall_at(series.zone, original.into()),
            (_, Some(wall)) => wall,
            _ if was_added => wall_at(series.zone, original.into()),
            // An exception that does not fit (any more) can still be changed.
            _ if old.is_some() => {
                new.set("fits", Some(false))?;
                return check_times(new, kind, original, &series);
            }
            _ => return Err(no_such_occurrence(original)),
        };
        new.set("original_local_start", Timestamp::try_from(wall).ok())?;
        new.set("fits", Some(true))?;
        check_times(new, kind, original, &series)
    })
}

fn check_times(
    new: &mut Row<'_>,
    kind: ExceptionKind,
    original: TimestampWithTimeZone,
    series: &Series,
) -> Result<()> {
    if kind == ExceptionKind::Skip {
        for column in ["starts_at", "ends_at"] {
            new.set::<TimestampWithTimeZone>(column, None)?;
        }
        new.set::<String>("title", None)?;
    }
    let ends = finite(new, "ends_at")?;
    if ends.is_some() && new.is_null("starts_at")? {
        new.set("starts_at", Some(original))?;
    }
    let starts = finite(new, "starts_at")?;
    let within = |time: i64| {
        let seconds = time.div_euclid(1_000_000) + EPOCH;
        (days::EARLIEST..=days::LATEST).contains(&seconds)
    };
    if !within(starts.unwrap_or(original).into()) {
        return Err(refused("the occurrence is out of range")
            .detail("Schedules take place from 0001-01-01 to 9999-12-31.")
            .hint("Send a time in these years."));
    }
    if let Some((starts, ends)) = starts.zip(ends) {
        let length = i64::from(ends).saturating_sub(starts.into());
        if !(1..=LONGEST).contains(&length) {
            return Err(
                refused("the occurrence does not end in the week after its start")
                    .detail("It lasts more than nothing, and a week at most.")
                    .hint("Send a later or earlier ends_at, or none for the usual length."),
            );
        }
    }
    let local = starts.map(|starts| wall_at(series.zone, starts.into()));
    new.set(
        "local_start",
        local.and_then(|wall| Timestamp::try_from(wall).ok()),
    )
}

fn check_title(new: &mut Row<'_>) -> Result<()> {
    let Some(title) = new.get::<String>("title")? else {
        return Ok(());
    };
    if text::is_blank(&title) || title.chars().count() > MAX_TITLE {
        return Err(refused("the title of the occurrence is empty or too long")
            .detail("A title has 1 to 255 characters, and shows something.")
            .hint("Send a title, or null for that of the schedule."));
    }
    Ok(())
}

fn refused(message: &'static str) -> Error {
    Error::new(SqlState::CHECK_VIOLATION, message)
}

fn no_such_occurrence(original: TimestampWithTimeZone) -> Error {
    let original = original.to_iso_string();
    Error::new(
        SqlState::CHECK_VIOLATION,
        format!("the schedule has no occurrence at {original}"),
    )
    .detail("original_starts_at is when the occurrence begins by the rule, even if it was moved.")
    .hint("Take original_starts_at from live_stream_occurrences.")
}

fn already(original: TimestampWithTimeZone) -> Error {
    let original = original.to_iso_string();
    Error::new(
        SqlState::UNIQUE_VIOLATION,
        format!("the schedule takes place at {original} already"),
    )
    .detail("Its rule has that occurrence.")
    .hint("If it was skipped, restore it; else choose another time.")
}

/// What is kept of exceptions in their schedules, after some have changed.
pub fn settle(changes: Changes<'_>) -> Result<()> {
    if is_settling() {
        return Ok(());
    }
    let column = changes.column::<Uuid>("schedule_id")?;
    let mut schedules: BTreeMap<Uuid, bool> = BTreeMap::new();
    changes.for_each(|old, new| {
        let is_new = old.is_none();
        for row in [old, new].into_iter().flatten() {
            if let Some(schedule) = row.at(column) {
                *schedules.entry(schedule).or_default() |= is_new;
            }
        }
        Ok(())
    })?;
    let is_limited = !identity::is_service()?;
    settling(|| {
        if is_limited {
            // The guard has locked these schedules.
            let grown = schedules.iter().filter(|(_, has_more)| **has_more);
            limits::check_exceptions(grown.map(|(schedule, _)| *schedule).collect())?;
        }
        for schedule in schedules.into_keys() {
            mark(schedule)?;
            sessions::follow(schedule)?;
        }
        Ok(())
    })
}

/// Says in a schedule whether it has exceptions, after some were written; it was changed by that. For code that settles.
pub fn mark(schedule: Uuid) -> Result<()> {
    plan::execute(&MARK, &[schedule.into()]).map(drop)
}

/// The exceptions of a schedule, for [`follow`].
pub fn all(schedule: Uuid) -> Result<Vec<Kept>> {
    plan::run(&ALL, &[schedule.into()], |rows| {
        let exceptions = (0..rows.len()).filter_map(|row| Kept::read(rows, row));
        Ok(exceptions.collect())
    })
}

/// Exceptions of a schedule whose times were changed from one to the other at a moment: those of occurrences that have a
/// place are there, of the others those that still fit are kept, with the moments that their clock times now are; the rest
/// is marked. Returns how many do not fit any more. For code that settles.
pub fn follow(
    schedule: Uuid,
    kept: Vec<Kept>,
    (before, after): (&Stored<'_>, &Stored<'_>),
    now: i64,
    places: Option<&Places>,
) -> Result<usize> {
    let series = after.series()?;
    let had = kept.iter().filter(|one| one.fitted).count();
    let times = times_of_day(before, after);
    let usual = before.series().map_or(0, |series| series.length.nominal());
    let is_taken = |wall: i64| places.is_some_and(|places| places.taken.contains(&wall));
    let place = |one: &mut Kept| match places.and_then(|places| places.of(one.wall)) {
        Some(place) if one.fitted => one.put(place, &series),
        _ if one.is_apart(now, usual) => one.stay_alone(&series),
        _ => {
            one.fit(&series, times);
            if one.kind != ExceptionKind::Add && is_taken(one.wall) {
                one.lose();
            }
        }
    };
    let kept = settled(kept, place);
    let has = kept.iter().filter(|one| one.fits).count();
    plan::execute(&LIFT, &[schedule.into()])?;
    rewrite(schedule, &kept)?;
    // What another has taken the place of.
    plan::execute(&REMOVE_LIFTED, &[schedule.into()])?;
    Ok(had.saturating_sub(has))
}

/// An exception while its schedule changes.
pub struct Kept {
    pub kind: ExceptionKind,
    was: i64,
    wall_was: i64,
    original: i64,
    /// When the occurrence begins by the rule, in clock time.
    pub wall: i64,
    start: Option<(i64, i64)>,
    length: Option<i64>,
    /// Whether it had an effect before.
    pub fitted: bool,
    fits: bool,
}

impl Kept {
    fn read(rows: &plan::Rows, row: usize) -> Option<Self> {
        let original: TimestampWithTimeZone = rows.get(row, 1)?;
        let wall: Timestamp = rows.get(row, 2)?;
        let starts: Option<TimestampWithTimeZone> = rows.get(row, 3);
        let local: Option<Timestamp> = rows.get(row, 4);
        let ends: Option<TimestampWithTimeZone> = rows.get(row, 5);
        Some(Self {
            kind: ExceptionKind::named(&rows.get::<String>(row, 0)?)?,
            was: original.into(),
            wall_was: wall.into(),
            original: original.into(),
            wall: wall.into(),
            start: starts
                .zip(local)
                .map(|(start, local)| (start.into(), local.into())),
            length: starts
                .zip(ends)
                .map(|(start, end)| i64::from(end) - i64::from(start)),
            fitted: rows.get(row, 6)?,
            fits: true,
        })
    }

    /// True where what is over at a moment was moved to a time to come, which alone it is known by; `usual` is how long
    /// occurrences last.
    pub fn is_apart(&self, now: i64, usual: i64) -> bool {
        let end = |start: i64, length: Option<i64>| start.saturating_add(length.unwrap_or(usual));
        let is_to_come = |(start, _)| end(start, self.length) > now;
        let is_moved = self.fitted && self.kind == ExceptionKind::Move;
        is_moved && end(self.was, None) <= now && self.start.is_some_and(is_to_come)
    }

    /// The same clock time, or the new time of the day where it was at the old one.
    fn fit(&mut self, series: &Series, (old_time, new_time): (i64, i64)) {
        let mut found = match self.kind {
            ExceptionKind::Add => Some((self.wall, moment_of(series.zone, self.wall))),
            _ => series.start_at(self.wall).map(|start| (self.wall, start)),
        };
        if found.is_none() && self.wall.rem_euclid(DAY_MICROS) == old_time {
            let wall = self.wall - old_time + new_time;
            found = series.start_at(wall).map(|start| (wall, start));
        }
        match found {
            Some((wall, moment)) => self.set(wall, moment, series),
            None => self.fits = false,
        }
        self.keep_start(series);
    }

    /// Goes with its occurrence.
    fn put(&mut self, place: Option<Place>, series: &Series) {
        match place {
            Some(place) => self.set(place.wall, place.moment, series),
            None => self.lose(),
        }
        self.keep_start(series);
    }

    /// Takes place, whether the rule has it or not.
    fn stay_alone(&mut self, series: &Series) {
        if series.start_at(self.wall).is_none() {
            self.kind = ExceptionKind::Add;
        }
        self.set(self.wall, moment_of(series.zone, self.wall), series);
        self.keep_start(series);
    }

    /// One that has another length alone begins as usual.
    fn set(&mut self, wall: i64, original: i64, series: &Series) {
        if let Some((start, local)) = &mut self.start
            && *start == self.was
            && self.kind == ExceptionKind::Move
        {
            (*start, *local) = (original, wall_at(series.zone, original));
        }
        (self.wall, self.original, self.fits) = (wall, original, true);
    }

    fn lose(&mut self) {
        (self.fits, self.original, self.wall) = (false, self.was, self.wall_was);
    }

    fn keep_start(&mut self, series: &Series) {
        if let Some((start, local)) = &mut self.start
            && wall_at(series.zone, *start) != *local
        {
            *start = moment_of(series.zone, *local);
        }
    }
}

/// Exceptions after a change of their schedule, one for each occurrence: of two that now name the
/// same, an occurrence that was added or moved goes before one that is skipped, and what has no
/// effect goes before nothing.
fn settled(mut all: Vec<Kept>, place: impl FnMut(&mut Kept)) -> Vec<Kept> {
    all.iter_mut().for_each(place);
    all.sort_by_key(|one| {
        let rank = match one.kind {
            ExceptionKind::Add => 0,
            ExceptionKind::Move => 1,
            ExceptionKind::Skip => 2,
        };
        (!one.fits, rank, one.was)
    });
    let mut taken = BTreeSet::new();
    for one in all.iter_mut().filter(|one| one.fits) {
        if !taken.insert(one.original) {
            one.lose();
        }
    }
    all.retain(|one| one.fits || taken.insert(one.original));
    all
}

fn rewrite(schedule: Uuid, kept: &[Kept]) -> Result<()> {
    let moment = |micros: i64| TimestampWithTimeZone::try_from(micros).ok();
    let moments = |of: &dyn Fn(&Kept) -> Option<i64>| {
        let moments = kept.iter().map(|one| of(one).and_then(moment));
        moments.collect::<Vec<_>>()
    };
    let walls = |of: &dyn Fn(&Kept) -> Option<i64>| {
        let wall = |micros: i64| Timestamp::try_from(micros).ok();
        let walls = kept.iter().map(|one| of(one).and_then(wall));
        walls.collect::<Vec<_>>()
    };
    let kinds = kept.iter().map(|one| one.kind.label().to_owned());
    let args = [
        schedule.into(),
        moments(&|one| Some(one.was)).into(),
        moments(&|one| Some(one.original)).into(),
        walls(&|one| Some(one.wall)).into(),
        moments(&|one| Some(one.start?.0)).into(),
        walls(&|one| Some(one.start?.1)).into(),
        moments(&|one| Some(one.start?.0 + one.length?)).into(),
        kept.iter().map(|one| one.fits).collect::<Vec<_>>().into(),
        kinds.collect::<Vec<String>>().into(),
    ];
    plan::execute(&REWRITE, &args).map(|_| ())
}
