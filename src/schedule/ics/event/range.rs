//! "This and all that follow" (RFC 5545, 3.2.13): one event becomes several schedules.

use super::exceptions::{Exception, Range, Starts};
use super::{
    Events, Exceptions, MAX_DESCRIPTION, MAX_TITLE, Planned, Read, Zones, ends_of_nothing,
    left_out, rules_of, shortened,
};
use crate::schedule::series::ExceptionKind;
use recurrence::daylight_saving::{Clock, TimeZone};
use recurrence::days::{DAY_SECONDS, EARLIEST, LATEST};
use recurrence::expand::{self, Expansion};
use recurrence::ics::calendar::Event;
use recurrence::rule::{End, Rule};

/// The starts by which it is seen that a rule has the same ones, later.
const COMPARED: usize = 1_000;

/// How many schedules one event becomes, the first one apart.
const MAX_RANGES: usize = 50;

/// How many occurrences are moved one by one where no rule has them.
const MAX_MOVED: usize = 1_000;

/// A schedule that an event makes, and what of it is different from its rule.
pub struct Piece<Z> {
    pub planned: Planned<Z>,
    pub exceptions: Exceptions,
}

/// What an event makes.
pub type Pieces<Z> = Vec<Piece<Z>>;

impl<Z> Piece<Z> {
    /// Leaves a title of their own to those that have another one.
    fn name(&mut self) {
        for one in self.exceptions.values_mut() {
            if one.title.as_ref() == Some(&self.planned.title) {
                one.title = None;
            }
        }
    }
}

impl<Z: Zones> Events<'_, Z> {
    /// The schedules of an event, split where a change counts from; or why there can be none.
    pub(super) fn pieces(
        &mut self,
        event: &Event,
        planned: Planned<Z::Zone>,
        exceptions: Exceptions,
        ranges: Vec<Range<'_>>,
        notes: &mut Vec<String>,
    ) -> Result<Read<Pieces<Z::Zone>>, Z::Error> {
        let zone = planned.start.zone;
        if ranges.is_empty() {
            let mut piece = Piece {
                planned,
                exceptions,
            };
            piece.name();
            self.lengths(&mut piece, notes);
            return Ok(Ok(vec![piece]));
        }
        if ranges.len() > MAX_RANGES {
            return Ok(Err("it changes too often for all that follow".to_owned()));
        }
        let starts = Starts::of(&planned);
        let wall_of = |moment| starts.at(moment).unwrap_or_else(|| zone.wall(moment));
        let walls: Vec<i64> = exceptions.keys().map(|moment| wall_of(*moment)).collect();
        let mut pieces = Vec::new();
        // Each with the clock time from which, and up to which, it has occurrences of the event.
        let ends = ranges.iter().map(|range| range.from).chain([i64::MAX]);
        let begins = [i64::MIN]
            .into_iter()
            .chain(ranges.iter().map(|range| range.from));
        let changes = [None]
            .into_iter()
            .chain(ranges.iter().map(|range| Some(range.change)));
        for ((from, to), change) in begins.zip(ends).zip(changes) {
            let own: Exceptions = exceptions
                .iter()
                .zip(&walls)
                .filter(|(_, wall)| (from..to).contains(*wall))
                .map(|((moment, one), _)| (*moment, one.clone()))
                .collect();
            let piece = match change {
                None => match before(&planned, to, own) {
                    Ok(piece) => piece,
                    Err(why) => return Ok(Err(why)),
                },
                Some(change) if change.is_cancelled() => None,
                Some(change) => {
                    match self.after(event, &planned, change, (from, to), own, notes)? {
                        Ok(piece) => Some(piece),
                        Err(why) => return Ok(Err(why)),
                    }
                }
            };
            pieces.extend(piece);
        }
        for piece in &mut pieces {
            piece.name();
            self.lengths(piece, notes);
        }
        Ok(if pieces.is_empty() {
            Err("it is cancelled".to_owned())
        } else {
            Ok(pieces)
        })
    }

    /// What a change makes of the occurrences from one clock time of the rule's up to another.
    fn after(
        &mut self,
        event: &Event,
        planned: &Planned<Z::Zone>,
        change: &Event,
        (from, to): (i64, i64),
        exceptions: Exceptions,
        notes: &mut Vec<String>,
    ) -> Result<Read<Piece<Z::Zone>>, Z::Error> {
        let zone = planned.start.zone;
        let mut next = planned.clone();
        next.first_is_extra = false;
        next.start.wall = from;
        if let Some(wall) = planned.end_wall {
            next.end_wall = Some(wall - planned.start.wall + from);
        }
        let mut shift = 0;
        if let Some(line) = change.one("DTSTART") {
            let start = match self.time(change, line, &line.value, Some(&planned.start))? {
                Ok(start) => start,
                Err(why) => return Ok(Err(why)),
            };
            let ending = match self.length(change, &start, true)? {
                Ok(ending) => ending,
                Err(why) => return Ok(Err(why)),
            };
            // By the clocks of the event, whichever the change is told in.
            let wall = if start.zone_name == planned.start.zone_name {
                start.wall
            } else {
                zone.wall(start.moment())
            };
            shift = wall - from;
            next.end_wall = ending.wall.map(|end| end - start.wall + wall);
            next.minutes = ending.minutes;
            next.nominal = ending.nominal;
            next.start.wall = wall;
        }
        if let Some(title) = change.title().filter(|title| !text::is_blank(title)) {
            next.title = shortened(title, MAX_TITLE, "SUMMARY", notes);
        }
        if let Some(text) = change.text("DESCRIPTION") {
            next.description = Some(shortened(text, MAX_DESCRIPTION, "DESCRIPTION", notes));
        }
        let own = change.left_out.difference(&event.left_out).cloned();
        let names = own
            .chain(rules_of(change))
            .chain(ends_of_nothing(change))
            .collect();
        notes.extend(left_out(&names));
        let Some(usual) = &planned.to_look_up else {
            return Ok(Err("RANGE is of a rule".to_owned()));
        };
        let usual = ending(usual, to.saturating_sub(1));
        let mut clock = Clock::of(zone);
        match shifted(&usual, planned.start.wall, from, shift) {
            Some(rule) => {
                let exceptions = exceptions.into_iter().map(|(moment, mut one)| {
                    let wall = Starts::of(planned)
                        .at(moment)
                        .unwrap_or_else(|| zone.wall(moment));
                    let moved = clock.moment(wall + shift).0;
                    if one.kind == ExceptionKind::Add {
                        one.times = one.times.map(|(start, end)| {
                            let by = moved - moment;
                            (start + by, end.map(|end| end + by))
                        });
                    }
                    (moved, one)
                });
                let exceptions = exceptions.collect();
                next.rule = Some(rule);
                Ok(Ok(Piece {
                    planned: next,
                    exceptions,
                }))
            }
            None => Ok(self.one_by_one(next, &usual, planned, (from, shift), exceptions)),
        }
    }

    /// The occurrences from a clock time on, each moved by so many seconds.
    fn one_by_one(
        &self,
        mut next: Planned<Z::Zone>,
        usual: &Rule,
        planned: &Planned<Z::Zone>,
        (from, shift): (i64, i64),
        mut exceptions: Exceptions,
    ) -> Read<Piece<Z::Zone>> {
        let why = || "RANGE moves it in a way that no rule has".to_owned();
        let zone = planned.start.zone;
        if !matches!(usual.end, End::Until(_))
            || exceptions
                .values()
                .any(|one| one.kind == ExceptionKind::Add)
        {
            return Err(why());
        }
        let length = match (next.end_wall, next.minutes) {
            (Some(end), _) => Some(end - next.start.wall),
            (None, minutes) => minutes.map(|minutes| i64::from(minutes) * 60),
        };
        let mut clock = Clock::of(zone);
        let mut starts = Expansion::new(usual, planned.start.wall, from);
        for wall in starts.by_ref().take(MAX_MOVED) {
            let start = clock.moment(wall + shift).0;
            let end = match next.nominal {
                Some(nominal) => Some(nominal.end(start, &zone)),
                None => length.map(|length| clock.moment(wall + shift + length).0),
            };
            exceptions
                .entry(clock.moment(wall).0)
                .or_insert_with(|| Exception {
                    kind: ExceptionKind::Move,
                    times: Some((start, end.filter(|end| *end > start))),
                    title: None,
                });
        }
        if starts.next().is_some() || starts.is_exhausted() {
            return Err(why());
        }
        next.rule = shifted(usual, planned.start.wall, from, 0);
        next.start.wall = from;
        next.end_wall = None;
        next.minutes = length.and_then(|length| i32::try_from(length.div_euclid(60)).ok());
        if next.rule.is_none() {
            return Err(why());
        }
        Ok(Piece {
            planned: next,
            exceptions,
        })
    }
}

/// What an event has before a clock time; nothing, or why that cannot be told.
fn before<Z: TimeZone + Copy>(
    planned: &Planned<Z>,
    to: i64,
    exceptions: Exceptions,
) -> Read<Option<Piece<Z>>> {
    let mut planned = planned.clone();
    let Some(rule) = &planned.to_look_up else {
        return Ok(None);
    };
    let rule = ending(rule, to - 1);
    if expand::bounds(&rule, planned.start.wall).is_err() {
        // DTSTART, or an RDATE, comes before the first that the rule has.
        return if exceptions.is_empty() {
            Ok(None)
        } else {
            Err("RANGE is of the first that the rule has".to_owned())
        };
    }
    planned.rule = Some(rule);
    Ok(Some(Piece {
        planned,
        exceptions,
    }))
}

/// The rule that ends at a clock time, if not before.
fn ending(rule: &Rule, last: i64) -> Rule {
    let mut rule = rule.clone();
    rule.end = match rule.end {
        End::Until(until) | End::UntilUtc(until) => End::Until(until.min(last)),
        end if last >= LATEST => end,
        _ => End::Until(last),
    };
    rule
}

/// The rule that has, from its first start on, all starts of another one from `from` on, so many seconds later; none
/// where that is not found.
fn shifted(rule: &Rule, first: i64, from: i64, shift: i64) -> Option<Rule> {
    let begin = from.checked_add(shift)?;
    if !(EARLIEST..=LATEST).contains(&begin) {
        return None;
    }
    let mut later = rule.clone();
    if let End::Until(until) = later.end {
        later.end = End::Until(until.saturating_add(shift).min(LATEST));
    }
    let days = begin.div_euclid(DAY_SECONDS) - from.div_euclid(DAY_SECONDS);
    let turned = |mut rule: Rule| {
        let by = days.rem_euclid(7) as u32;
        let week = u32::from(rule.weekdays);
        rule.weekdays = ((week << by | week >> (7 - by)) & 0x7f) as u8;
        rule
    };
    let timed = |mut rule: Rule| {
        (rule.hours, rule.minutes, rule.seconds) = (0, 0, 0);
        rule
    };
    let candidates = [
        later.clone(),
        turned(later.clone()),
        timed(later.clone()),
        timed(turned(later)),
    ];
    let starts = |rule: &Rule, first, from| Expansion::new(rule, first, from).take(COMPARED);
    candidates.into_iter().find(|later| {
        let wanted = starts(rule, first, from).map(|start| start + shift);
        starts(later, begin, begin).eq(wanted)
    })
}
