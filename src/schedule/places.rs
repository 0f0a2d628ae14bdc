//! Which occurrence is which after a schedule was put to other times.
//!
//! The n-th coming occurrence of the rule is still the n-th, with its session and what is different about it, as far as
//! sessions were made. A new rule that still has every coming start that a session was made for moves nobody: whoever was
//! invited to a start that is still there expects it there, as where a day is added or the end put off.

use super::DAY_MICROS;
use super::exceptions::Kept;
use super::series::{ExceptionKind, Occurrence, Series, moment_of};
use super::stored::Stored;
use crate::pg::error::Result;
use std::collections::{HashMap, HashSet};

/// The most coming occurrences that are counted: what is different about later ones is known by the clock alone.
const MOST: usize = 20_000;

/// A session that was made for an occurrence.
pub struct Made {
    /// When the occurrence begins by the rule, in clock time.
    pub wall: i64,
    pub state: State,
    /// False while somebody is deleting it: nobody waits for that.
    pub stays: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    Planned,
    OnAir,
    Ended,
    /// Cancelled by the host, or deleted: no other is made.
    Gone,
}

/// When an occurrence begins, in clock time and as a moment.
#[derive(Clone, Copy)]
pub struct Place {
    pub wall: i64,
    pub moment: i64,
}

impl From<Occurrence> for Place {
    fn from(one: Occurrence) -> Self {
        Self {
            wall: one.original_wall,
            moment: one.original,
        }
    }
}

/// Where occurrences are now, by the clock times that they were known by.
#[derive(Default)]
pub struct Places {
    of: HashMap<i64, Option<Place>>,
    /// Those that the rule does not have: they stay.
    added: HashSet<i64>,
    /// Clock times at which occurrences that were counted are now.
    pub taken: HashSet<i64>,
}

impl Places {
    /// The new place; none inside where there is none any more, and none where the occurrence was not counted.
    pub fn of(&self, wall: i64) -> Option<Option<Place>> {
        let place = self.of.get(&wall).copied();
        place.filter(|_| !self.added.contains(&wall))
    }
}

/// What is counted, in order: the last occurrence that is over, and those that come.
struct Entry {
    at: Place,
    state: Option<State>,
    is_over: bool,
}

impl Entry {
    /// One that has begun, or is over, has the next place only if that is nearer to it than to the one that follows it.
    fn takes(&self, place: Place, following: Option<i64>) -> bool {
        let has_begun = matches!(self.state, Some(State::OnAir | State::Ended));
        if !self.is_over && !has_begun {
            return true;
        }
        let distance = |moment: i64| (place.moment - moment).abs();
        following.is_none_or(|following| distance(self.at.moment) < distance(following))
    }

    /// What is over and has ended is history: if it takes place again, that is another session.
    fn is_history(&self) -> bool {
        self.is_over && self.state == Some(State::Ended)
    }
}

/// The places of occurrences after a change at a moment; none where each keeps its own. `is_put` is true where the date,
/// the time of day or the zone was changed, and not the rule alone.
pub fn places(
    before: &Stored<'_>,
    after: &Stored<'_>,
    is_put: bool,
    now: i64,
    made: &[Made],
    kept: &[Kept],
) -> Result<Option<Places>> {
    let is_added: HashSet<i64> = kept
        .iter()
        .filter(|one| one.kind == ExceptionKind::Add)
        .map(|one| one.wall)
        .collect();
    let made: HashMap<i64, &Made> = made
        .iter()
        .filter(|one| !is_added.contains(&one.wall))
        .map(|one| (one.wall, one))
        .collect();
    let old = before.series()?;
    let (zone, usual) = (old.zone, old.length.nominal());
    // What was moved from what is over to a time to come is known by that alone.
    let different: HashSet<i64> = kept
        .iter()
        .filter(|one| one.fitted && one.kind != ExceptionKind::Add)
        .map(|one| one.wall)
        .collect();
    let is_apart: HashSet<i64> = kept
        .iter()
        .filter(|one| one.is_apart(now, usual))
        .map(|one| one.wall)
        .collect();
    let Some(last) = made.keys().chain(&different).max() else {
        return Ok(None);
    };
    let coming = coming(old, now, *last);
    let rank: HashMap<i64, usize> = coming.iter().map(|one| one.wall).zip(0..).collect();

    let new = after.series()?;
    let is_there = |wall: i64| {
        let there = new.occurrence_at(wall, None);
        there.is_some_and(|one| one.end > now)
    };
    let mut planned = made
        .values()
        .filter(|one| one.state == State::Planned && rank.contains_key(&one.wall));
    if !is_put && planned.all(|one| is_there(one.wall)) {
        return Ok(None);
    }

    let counted = made.keys().filter_map(|wall| rank.get(wall)).max();
    let mut counted = counted.map_or(0, |last| last + 1);
    while counted > 0
        && let Some(one) = coming.get(counted)
        && different.contains(&one.wall)
    {
        counted += 1;
    }
    let most = coming.len() + made.len() + kept.len() + 1;
    // The only one is the only one, also where it is put to a time that is over.
    let is_only = before.rule.is_none() && after.rule.is_none();
    let since = if is_only { i64::MIN } else { now };
    let next = after.series()?.between(since, i64::MAX).take(most);
    let next: Vec<Place> = next.map(Place::from).collect();

    let mut places = Places::default();
    let mut passed: HashSet<i64> = HashSet::new();
    for wall in &different {
        let Some(nth) = rank.get(wall).filter(|nth| **nth >= counted) else {
            continue;
        };
        let place = beyond(&coming, *nth, &next, &new, times_of_day(before, after));
        passed.extend(place.map(|place| place.wall));
        places.of.insert(*wall, place);
    }

    let over = |wall: &i64| !rank.contains_key(wall) && moment_of(zone, *wall) <= now;
    let last_over = made
        .keys()
        .chain(&different)
        .filter(|wall| over(wall) && !is_apart.contains(*wall))
        .max();
    let entry = |at: Place, is_over| Entry {
        at,
        state: made.get(&at.wall).map(|one| one.state),
        is_over,
    };
    let last_over = last_over.map(|wall| Place {
        wall: *wall,
        moment: moment_of(zone, *wall),
    });
    let entries: Vec<Entry> = last_over
        .into_iter()
        .map(|at| entry(at, true))
        .chain(coming.iter().take(counted).map(|at| entry(*at, false)))
        .collect();
    let counted_walls: HashSet<i64> = entries.iter().map(|one| one.at.wall).collect();
    passed.extend(&is_apart);
    passed.extend(
        made.values()
            .filter(|one| !one.stays || !counted_walls.contains(&one.wall))
            .map(|one| one.wall),
    );
    let mut free = next.into_iter();
    let mut place = None;
    for (nth, one) in entries.iter().enumerate() {
        let following = entries
            .get(nth + 1)
            .map(|one| one.at)
            .or(coming.get(counted).copied());
        place = place
            .filter(|place: &Place| !passed.contains(&place.wall))
            .or_else(|| free.by_ref().find(|place| !passed.contains(&place.wall)));
        // What has no place of its own stays, unless another is there now.
        let is_taken = places.taken.contains(&one.at.wall);
        match place {
            Some(found) if is_taken || one.takes(found, following.map(|one| one.moment)) => {
                place = None;
                if one.is_history() && !is_taken {
                    continue;
                }
                // An occurrence that was added there goes before.
                let own = Some(found).filter(|found| !is_added.contains(&found.wall));
                places.taken.insert(found.wall);
                places.of.insert(one.at.wall, own);
            }
            Some(_) => {
                passed.insert(one.at.wall);
            }
            None if is_taken || !one.is_over && one.state != Some(State::OnAir) => {
                places.of.insert(one.at.wall, None);
            }
            None => {}
        }
    }
    places.added = is_added;
    Ok(Some(places))
}

/// The coming occurrences of a series up to a clock time, and one more.
fn coming(series: Series, now: i64, last: i64) -> Vec<Place> {
    let mut coming: Vec<Place> = Vec::new();
    for one in series.between(now, i64::MAX).take(MOST) {
        let is_more = coming.last().is_some_and(|one| one.wall >= last);
        coming.push(one.into());
        if is_more {
            break;
        }
    }
    coming
}

/// Of an exception after the last session: at the same clock time; else at the new time of its day, or where the n-th is if
/// that is nearer and no farther than a neighbour was. Elsewhere it would be about another day than it was meant for.
fn beyond(
    coming: &[Place],
    nth: usize,
    next: &[Place],
    new: &Series,
    (old_time, new_time): (i64, i64),
) -> Option<Place> {
    let at = coming.get(nth)?;
    let start_at = |wall: i64| {
        let start = new.start_at(wall);
        start.map(|moment| Place { wall, moment })
    };
    if let Some(same) = start_at(at.wall) {
        return Some(same);
    }
    let has_time = at.wall.rem_euclid(DAY_MICROS) == old_time;
    let by_day = has_time
        .then(|| start_at(at.wall - old_time + new_time))
        .flatten();
    let previous = nth.checked_sub(1).and_then(|nth| coming.get(nth));
    let by_count = next.get(nth).copied().filter(|place| {
        previous.is_none_or(|other| other.moment < place.moment)
            && coming
                .get(nth + 1)
                .is_none_or(|other| place.moment < other.moment)
    });
    let nearest = |place: &Place| (place.moment - at.moment).abs();
    [by_day, by_count].into_iter().flatten().min_by_key(nearest)
}

/// The times of the day at which two schedules begin, in microseconds.
pub fn times_of_day(before: &Stored<'_>, after: &Stored<'_>) -> (i64, i64) {
    let time = |stored: &Stored<'_>| stored.start_time.map_or(0, |time| time.since_midnight());
    (time(before), time(after))
}
