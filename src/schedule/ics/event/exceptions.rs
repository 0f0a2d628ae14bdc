//! What of a calendar's event is different from its rule.

use super::{Events, MAX_TITLE, Planned, Time, Zones, left_out, shortened};
use crate::schedule::fields::MAX_DURATION_MINUTES;
use crate::schedule::series::ExceptionKind;
use recurrence::daylight_saving::{Clock, TimeZone};
use recurrence::days::DAY_SECONDS;
use recurrence::expand::Expansion;
use recurrence::ics::calendar::{Event, InvalidCalendar};
use recurrence::ics::duration::duration;
use recurrence::rule::Rule;
use std::collections::BTreeMap;

/// Of all events together.
const MAX_EXCEPTIONS: usize = 10_000;
const MAX_SECONDS: i64 = MAX_DURATION_MINUTES as i64 * 60;

/// What is different about one occurrence.
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
struct Starts<'a, Z> {
    start: &'a Time<Z>,
    rule: Option<&'a Rule>,
}

impl<Z: TimeZone + Copy> Starts<'_, Z> {
    fn has(&self, time: &Time<Z>) -> bool {
        let moment = time.moment();
        let wall = self.start.zone.wall(moment);
        let mut clock = Clock::of(self.start.zone);
        // A start that the clocks skip is at a moment for which they show a later time.
        let mut near = match self.rule {
            Some(rule) => Expansion::new(rule, self.start.wall, wall - DAY_SECONDS)
                .until(wall)
                .collect(),
            None => vec![self.start.wall],
        };
        near.retain(|wall| clock.moment(*wall).0 == moment);
        !near.is_empty()
    }
}

impl<Z: Zones> Events<'_, Z> {
    /// The exceptions of a schedule that an event makes; adds to `notes` what is left out.
    pub fn exceptions(
        &mut self,
        event: &Event,
        planned: &Planned<Z::Zone>,
        notes: &mut Vec<String>,
    ) -> Result<Exceptions, Z::Error> {
        let starts = Starts {
            start: &planned.start,
            rule: planned.to_look_up.as_ref(),
        };
        let mut exceptions = Exceptions::new();
        if planned.first_is_extra {
            exceptions.insert(planned.start.moment(), Exception::of(ExceptionKind::Add));
        }
        self.dates(event, &starts, &mut exceptions, notes)?;
        for change in self
            .calendar
            .overrides
            .get(&event.uid)
            .into_iter()
            .flatten()
        {
            if let Some(why) = self.change(event, change, &starts, &mut exceptions)? {
                notes.push(why);
            }
        }
        Ok(exceptions)
    }

    /// What a calendar may name, of all its events together.
    fn count_date(&mut self) -> Result<(), Z::Error> {
        self.dates += 1;
        if self.dates > MAX_EXCEPTIONS {
            return Err(InvalidCalendar("the calendar has too many exceptions").into());
        }
        Ok(())
    }

    /// RDATE and EXDATE; of two that contradict each other the latter counts.
    fn dates(
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
                let time = match self.time(line, value, Some(starts.start))? {
                    Ok(time) => time,
                    Err(why) => {
                        notes.push(why);
                        continue;
                    }
                };
                let start = time.moment();
                let end = match end {
                    None => None,
                    Some(end) => match duration(end) {
                        Some(seconds) => start.checked_add(seconds),
                        None => match self.time(line, end, Some(starts.start))? {
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
                } else if !starts.has(&time) {
                    let times = end.map(|end| (start, Some(end)));
                    let one = Exception {
                        times,
                        ..Exception::of(ExceptionKind::Add)
                    };
                    exceptions.insert(start, one);
                }
            }
        }
        for line in event.all("EXDATE") {
            for value in line.value.split(',') {
                self.count_date()?;
                match self.time(line, value, Some(starts.start))? {
                    Err(why) => notes.push(why),
                    Ok(time) if starts.has(&time) => {
                        exceptions.insert(time.moment(), Exception::of(ExceptionKind::Skip));
                    }
                    Ok(time) if exceptions.remove(&time.moment()).is_some() => {}
                    Ok(_) => notes.push(format!("EXDATE {value:.40} is no occurrence")),
                }
            }
        }
        Ok(())
    }

    /// One occurrence that is different; says what of it is not taken.
    fn change(
        &mut self,
        event: &Event,
        change: &Event,
        starts: &Starts<'_, Z::Zone>,
        exceptions: &mut Exceptions,
    ) -> Result<Option<String>, Z::Error> {
        let Some(line) = change.one("RECURRENCE-ID") else {
            return Ok(None);
        };
        self.count_date()?;
        let of = |why: String| Ok(Some(format!("RECURRENCE-ID {:.40}: {why}", line.value)));
        if line.parameter("RANGE").is_some() {
            return of("RANGE is not taken".to_owned());
        }
        let original = match self.time(line, &line.value, Some(starts.start))? {
            Ok(original) => original,
            Err(why) => return of(why),
        };
        let moment = original.moment();
        let there = exceptions.get(&moment).map(|one| one.kind);
        if there.is_none() && !starts.has(&original) || there == Some(ExceptionKind::Skip) {
            return of("it is no occurrence".to_owned());
        }
        if change.is_cancelled() {
            match there {
                Some(ExceptionKind::Add) => exceptions.remove(&moment),
                _ => exceptions.insert(moment, Exception::of(ExceptionKind::Skip)),
            };
            return Ok(None);
        }
        let mut one = Exception::of(there.unwrap_or(ExceptionKind::Move));
        if let Some(line) = change.one("DTSTART") {
            let start = match self.time(line, &line.value, Some(starts.start))? {
                Ok(start) => start,
                Err(why) => return of(why),
            };
            let seconds = match self.length(change, &start)? {
                Ok((Some(wall), _)) => Some(
                    Time {
                        wall,
                        ..start.clone()
                    }
                    .moment()
                        - start.moment(),
                ),
                Ok((None, minutes)) => minutes.map(|minutes| i64::from(minutes) * 60),
                Err(why) => return of(why),
            };
            let end = seconds
                .filter(|seconds| *seconds > 0)
                .map(|seconds| start.moment() + seconds);
            one.times = Some((start.moment(), end));
        }
        let mut notes = Vec::new();
        let title = change
            .title()
            .filter(|title| Some(title) != event.title().as_ref() && !title.trim().is_empty());
        one.title = title.map(|title| shortened(title, MAX_TITLE, "SUMMARY", &mut notes));
        exceptions.insert(moment, one);
        let mut names = change.left_out.clone();
        let description = change.text("DESCRIPTION");
        if description.is_some() && description != event.text("DESCRIPTION") {
            names.insert("DESCRIPTION".to_owned());
        }
        notes.extend(left_out(&names));
        if notes.is_empty() {
            return Ok(None);
        }
        of(notes.join("; "))
    }
}
