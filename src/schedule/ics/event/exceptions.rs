//! What of a calendar's event is different from its rule.

use super::{
    Ending, Events, MAX_TITLE, Planned, Read, Time, Zones, ends_of_nothing, left_out, rules_of,
    shortened,
};
use crate::schedule::fields::MAX_DURATION_MINUTES;
use crate::schedule::series::ExceptionKind;
use recurrence::daylight_saving::{Clock, TimeZone};
use recurrence::days::DAY_SECONDS;
use recurrence::expand::{self, Expansion};
use recurrence::ics::calendar::{Event, InvalidCalendar};
use recurrence::ics::duration::Duration;
use recurrence::ics::text::Line;
use recurrence::rule::Rule;
use recurrence::stamp::read_date;
use std::collections::{BTreeMap, HashMap};

/// Of all events together.
const MAX_EXCEPTIONS: usize = 10_000;
/// What EXRULE takes away from one event.
const MAX_EXCLUDED: usize = 1_000;
pub const MAX_SECONDS: i64 = MAX_DURATION_MINUTES as i64 * 60;

/// What is different about one occurrence.
#[derive(Clone)]
pub struct Exception {
    pub kind: ExceptionKind,
    /// The moments at which it begins and, if that is told, ends.
    pub times: Option<(i64, Option<i64>)>,
    pub title: Option<String>,
}

impl Exception {
    fn of(kind: ExceptionKind) -> Self {
        Self {
            kind,
            times: None,
            title: None,
        }
    }
}

/// Exceptions by the moments that they are named after.
pub type Exceptions = BTreeMap<i64, Exception>;

/// When the occurrences of an event begin.
pub(super) struct Starts<'a, Z> {
    start: &'a Time<Z>,
    rule: Option<&'a Rule>,
}

impl<'a, Z: TimeZone + Copy> Starts<'a, Z> {
    pub fn of(planned: &'a Planned<Z>) -> Self {
        Self {
            start: &planned.start,
            rule: planned.to_look_up.as_ref(),
        }
    }

    /// Those between two clock times, both included.
    pub fn between(&self, from: i64, to: i64) -> Vec<i64> {
        match self.rule {
            Some(rule) => Expansion::new(rule, self.start.wall, from)
                .until(to)
                .collect(),
            None if (from..=to).contains(&self.start.wall) => vec![self.start.wall],
            None => Vec::new(),
        }
    }

    /// The clock time of the one that begins at a moment.
    pub fn at(&self, moment: i64) -> Option<i64> {
        let wall = self.start.zone.wall(moment);
        let mut clock = Clock::of(self.start.zone);
        // A start that the clocks skip is at a moment for which they show a later time.
        let near = self.between(wall - DAY_SECONDS, wall);
        near.into_iter()
            .find(|wall| clock.moment(*wall).0 == moment)
    }
}

/// A change of an event's occurrences that counts from one of them on.
pub struct Range<'a> {
    /// The clock time of the first one, by the rule.
    pub from: i64,
    pub change: &'a Event,
}

impl<'a, Z: Zones> Events<'a, Z> {
    /// The exceptions of a schedule that an event makes, those changed one by one apart, or why there can be no schedule;
    /// adds to `notes` what is left out.
    pub(super) fn exceptions(
        &mut self,
        event: &Event,
        planned: &Planned<Z::Zone>,
        notes: &mut Vec<String>,
    ) -> Result<Read<Exceptions>, Z::Error> {
        let starts = Starts::of(planned);
        let mut exceptions = Exceptions::new();
        if planned.first_is_extra {
            exceptions.insert(planned.start.moment(), Exception::of(ExceptionKind::Add));
        }
        self.added(event, &starts, &mut exceptions, notes)?;
        self.excluded(event, &starts, &mut exceptions, notes)?;
        for line in event.all("EXRULE") {
            if let Err(why) = self.ruled_out(line, &starts, &mut exceptions)? {
                return Ok(Err(why));
            }
        }
        Ok(Ok(exceptions))
    }

    /// What a calendar may name, of all its events together.
    fn count_date(&mut self) -> Result<(), Z::Error> {
        self.dates += 1;
        if self.dates > MAX_EXCEPTIONS {
            return Err(InvalidCalendar("the calendar has too many exceptions").into());
        }
        Ok(())
    }

    /// RDATE.
    fn added(
        &mut self,
        event: &Event,
        starts: &Starts<'_, Z::Zone>,
        exceptions: &mut Exceptions,
        notes: &mut Vec<String>,
    ) -> Result<(), Z::Error> {
        for line in event.all("RDATE") {
            for value in line.value.split(',') {
                self.count_date()?;
                let (value, end) = match value.split_once('/') {
                    Some((start, end)) => (start, Some(end)),
                    None => (value, None),
                };
                let time = match self.time(event, line, value, Some(starts.start))? {
                    Ok(time) => time,
                    Err(why) => {
                        notes.push(why);
                        continue;
                    }
                };
                let start = time.moment();
                let end = match end {
                    None => None,
                    Some(end) => match Duration::parse(end) {
                        Some(length) => Some(length.end(start, &starts.start.zone)),
                        None => match self.time(event, line, end, Some(starts.start))? {
                            Ok(end) => Some(end.moment()),
                            Err(why) => {
                                notes.push(why);
                                continue;
                            }
                        },
                    },
                };
                if end.is_some_and(|end| !(1..=MAX_SECONDS).contains(&(end - start))) {
                    notes.push(format!("RDATE {value:.40} does not last up to a week"));
                } else if starts.at(start).is_none() {
                    let times = end.map(|end| (start, Some(end)));
                    let one = Exception {
                        times,
                        ..Exception::of(ExceptionKind::Add)
                    };
                    exceptions.insert(start, one);
                }
            }
        }
        Ok(())
    }

    /// EXDATE. A date is every occurrence of that day.
    fn excluded(
        &mut self,
        event: &Event,
        starts: &Starts<'_, Z::Zone>,
        exceptions: &mut Exceptions,
        notes: &mut Vec<String>,
    ) -> Result<(), Z::Error> {
        for line in event.all("EXDATE") {
            for value in line.value.split(',') {
                self.count_date()?;
                let moments = match read_date(value.trim()) {
                    Some(day) => self.on_day(day, starts, exceptions)?,
                    None => match self.time(event, line, value, Some(starts.start))? {
                        Err(why) => {
                            notes.push(why);
                            continue;
                        }
                        Ok(time) => vec![time.moment()],
                    },
                };
                let mut any = false;
                for moment in moments {
                    any |= exclude(moment, starts, exceptions);
                }
                if !any {
                    notes.push(format!("EXDATE {:.40} is no occurrence", value.trim()));
                }
            }
        }
        Ok(())
    }

    /// The moments at which something begins on a day of the event's zone.
    fn on_day(
        &mut self,
        day: i32,
        starts: &Starts<'_, Z::Zone>,
        exceptions: &Exceptions,
    ) -> Result<Vec<i64>, Z::Error> {
        let begin = i64::from(day) * DAY_SECONDS;
        let zone = starts.start.zone;
        let mut clock = Clock::of(zone);
        let of_rule = starts.between(begin, begin + DAY_SECONDS - 1);
        let mut moments: Vec<i64> = of_rule.iter().map(|wall| clock.moment(*wall).0).collect();
        let added = exceptions
            .iter()
            .filter(|(_, one)| one.kind == ExceptionKind::Add);
        moments.extend(
            added
                .map(|(moment, _)| *moment)
                .filter(|moment| zone.wall(*moment).div_euclid(DAY_SECONDS) == i64::from(day)),
        );
        // One name may stand for many.
        for _ in moments.iter().skip(1) {
            self.count_date()?;
        }
        Ok(moments)
    }

    /// EXRULE: the occurrences that it has are taken away, one by one.
    fn ruled_out(
        &mut self,
        line: &Line,
        starts: &Starts<'_, Z::Zone>,
        exceptions: &mut Exceptions,
    ) -> Result<Read<()>, Z::Error> {
        let first = starts.start.wall;
        let mut rule = match Rule::parse(line.word()) {
            Ok(rule) => rule,
            Err(wrong) => return Ok(Err(format!("EXRULE: {wrong}"))),
        };
        rule.end_in_clock_time(&starts.start.zone);
        let bounds = |rule: &Rule| expand::bounds(rule, first).map(|(_, last)| last);
        let ends = match bounds(&rule) {
            Ok(last) => last,
            Err(wrong) => return Ok(Err(format!("EXRULE: {wrong}"))),
        };
        let of_rule = match starts.rule {
            Some(rule) => bounds(rule).ok().flatten(),
            None => Some(first),
        };
        let last = match (ends, of_rule) {
            (Some(one), Some(other)) => one.min(other),
            (Some(last), None) | (None, Some(last)) => last,
            (None, None) => return Ok(Err("EXRULE has no end".to_owned())),
        };
        let mut excluding = Expansion::new(&rule, first, first).until(last);
        let mut base = starts
            .rule
            .map(|rule| Expansion::new(rule, first, first).until(last));
        let mut clock = Clock::of(starts.start.zone);
        let mut hits = Vec::new();
        let mut only = starts.rule.is_none().then_some(first);
        let mut out = excluding.next();
        while let (Some(wall), Some(one)) = (
            base.as_mut().map_or_else(|| only.take(), Iterator::next),
            out,
        ) {
            let mut one = Some(one);
            while one.is_some_and(|one| one < wall) {
                one = excluding.next();
            }
            out = one;
            if out == Some(wall) {
                hits.push(clock.moment(wall).0);
            }
            if hits.len() > MAX_EXCLUDED {
                return Ok(Err("EXRULE takes too many occurrences away".to_owned()));
            }
        }
        if excluding.is_exhausted() || base.is_some_and(|base| base.is_exhausted()) {
            return Ok(Err("EXRULE is too far to look for".to_owned()));
        }
        // What was added is taken away as well.
        for (moment, one) in exceptions.iter() {
            let wall = starts.start.zone.wall(*moment);
            let has = || {
                Expansion::new(&rule, first, wall)
                    .until(wall)
                    .next()
                    .is_some()
            };
            if one.kind == ExceptionKind::Add && has() {
                hits.push(*moment);
            }
        }
        for moment in hits {
            self.count_date()?;
            exclude(moment, starts, exceptions);
        }
        Ok(Ok(()))
    }

    /// The occurrences that are changed one by one, put to the exceptions; returns the changes that count for all that
    /// follow, in order.
    pub(super) fn changes(
        &mut self,
        event: &Event,
        planned: &Planned<Z::Zone>,
        exceptions: &mut Exceptions,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Range<'a>>, Z::Error> {
        let starts = Starts::of(planned);
        let calendar = self.calendar;
        let mut known = Vec::new();
        // By the place of what they are of.
        let mut doubts = Vec::new();
        for (number, change) in calendar.overrides_of(event).iter().enumerate() {
            let Some(line) = change.one("RECURRENCE-ID") else {
                continue;
            };
            self.count_date()?;
            match self.original(change, line, &starts, exceptions)? {
                Ok((moment, follows)) => known.push((moment, follows, line, change, number)),
                Err(why) => doubts.push((number, told(line, &why))),
            }
        }
        let mut latest = HashMap::new();
        for (place, (moment, follows, _, change, _)) in known.iter().enumerate() {
            let one = latest.entry((*moment, *follows)).or_insert(place);
            let counts: &Event = known[*one].3;
            if change.version() > counts.version() {
                *one = place;
            }
        }
        let mut ranges = Vec::new();
        for (place, (moment, follows, line, change, number)) in known.iter().enumerate() {
            if latest.get(&(*moment, *follows)) != Some(&place) {
                doubts.push((*number, told(line, "another version of it is taken")));
                continue;
            }
            let said = if *follows {
                match starts.at(*moment) {
                    Some(from) => {
                        ranges.push(Range { from, change });
                        None
                    }
                    None => Some("the rule does not have it".to_owned()),
                }
            } else {
                self.change(*moment, event, change, &starts, exceptions)?
            };
            let mut said: Vec<String> = said.into_iter().collect();
            said.extend(change.doubts());
            if !said.is_empty() {
                doubts.push((*number, told(line, &said.join("; "))));
            }
        }
        doubts.sort_by_key(|(number, _)| *number);
        notes.extend(doubts.into_iter().map(|(_, why)| why));
        ranges.sort_by_key(|range| range.from);
        Ok(ranges)
    }

    /// The moment of the occurrence that a change is of, and whether all that follow change too.
    fn original(
        &mut self,
        change: &Event,
        line: &Line,
        starts: &Starts<'_, Z::Zone>,
        exceptions: &Exceptions,
    ) -> Result<Read<(i64, bool)>, Z::Error> {
        let follows = match line.parameter("RANGE") {
            None => false,
            Some(range) if range.eq_ignore_ascii_case("THISANDFUTURE") => true,
            Some(range) => return Ok(Err(format!("RANGE={range:.40} is not taken"))),
        };
        let moment = match read_date(line.word()) {
            Some(day) => match self.on_day(day, starts, exceptions)?[..] {
                [moment] => moment,
                [] => return Ok(Err("it is no occurrence".to_owned())),
                _ => return Ok(Err("that day has several occurrences".to_owned())),
            },
            None => match self.time(change, line, line.word(), Some(starts.start))? {
                Ok(original) => original.moment(),
                Err(why) => return Ok(Err(why)),
            },
        };
        let there = exceptions.get(&moment).map(|one| one.kind);
        let is_one = match there {
            Some(ExceptionKind::Skip) => false,
            Some(_) => true,
            None => starts.at(moment).is_some(),
        };
        Ok(if is_one {
            Ok((moment, follows))
        } else {
            Err("it is no occurrence".to_owned())
        })
    }

    /// One occurrence that is different; says what of it is not taken.
    fn change(
        &mut self,
        moment: i64,
        event: &Event,
        change: &Event,
        starts: &Starts<'_, Z::Zone>,
        exceptions: &mut Exceptions,
    ) -> Result<Option<String>, Z::Error> {
        if change.is_cancelled() {
            exclude(moment, starts, exceptions);
            return Ok(None);
        }
        let there = exceptions.get(&moment).map(|one| one.kind);
        let mut one = Exception::of(there.unwrap_or(ExceptionKind::Move));
        if let Some(line) = change.one("DTSTART") {
            let start = match self.time(change, line, &line.value, Some(starts.start))? {
                Ok(start) => start,
                Err(why) => return Ok(Some(why)),
            };
            let seconds = match self.length(change, &start, false)? {
                Ok(Ending {
                    wall: Some(wall), ..
                }) => {
                    let end = Time {
                        wall,
                        ..start.clone()
                    };
                    Some(end.moment() - start.moment())
                }
                Ok(ending) => ending.minutes.map(|minutes| i64::from(minutes) * 60),
                Err(why) => return Ok(Some(why)),
            };
            let end = seconds
                .filter(|seconds| *seconds > 0)
                .map(|seconds| start.moment() + seconds);
            one.times = Some((start.moment(), end));
        }
        let mut notes = Vec::new();
        let title = change.title().filter(|title| !text::is_blank(title));
        one.title = title.map(|title| shortened(title, MAX_TITLE, "SUMMARY", &mut notes));
        exceptions.insert(moment, one);
        let mut names = change.left_out.clone();
        names.extend(ends_of_nothing(change));
        let description = change.text("DESCRIPTION");
        if description.is_some() && description != event.text("DESCRIPTION") {
            names.insert("DESCRIPTION".to_owned());
        }
        names.extend(rules_of(change));
        notes.extend(left_out(&names));
        Ok((!notes.is_empty()).then(|| notes.join("; ")))
    }
}

fn told(line: &Line, why: &str) -> String {
    format!("RECURRENCE-ID {:.40}: {why}", line.word())
}

/// Takes away what begins at a moment; false where nothing does.
fn exclude<Z: TimeZone + Copy>(
    moment: i64,
    starts: &Starts<'_, Z>,
    exceptions: &mut Exceptions,
) -> bool {
    if starts.at(moment).is_some() {
        exceptions.insert(moment, Exception::of(ExceptionKind::Skip));
        return true;
    }
    exceptions.remove(&moment).is_some()
}
