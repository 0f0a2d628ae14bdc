//! What becomes of a calendar's event: the schedule that it makes, and what of it is not taken.
//!
//! No PostgreSQL in here: whose zones they are, the caller says.

mod exceptions;
#[cfg(test)]
mod tests;

pub use exceptions::Exceptions;

use crate::schedule::fields::MAX_DURATION_MINUTES;
use recurrence::daylight_saving::{Clock, TimeZone};
use recurrence::days::DAY_SECONDS;
use recurrence::expand::{self, Expansion};
use recurrence::ics::calendar::{Calendar, Event, InvalidCalendar};
use recurrence::ics::duration::duration;
use recurrence::ics::text::Line;
use recurrence::ics::windows;
use recurrence::rule::{End, Rule};
use recurrence::stamp::{read_date, read_stamp};
use std::collections::{BTreeSet, HashMap};

/// Of all events together.
const MAX_ZONES: usize = 100;
const MAX_TITLE: usize = 255;
const MAX_DESCRIPTION: usize = 10_000;

/// Properties that are taken, or say nothing that a schedule could hold, or keep an event from being taken.
pub const TAKEN: [&str; 18] = [
    "UID",
    "DTSTAMP",
    "CREATED",
    "LAST-MODIFIED",
    "SEQUENCE",
    "DTSTART",
    "DTEND",
    "DURATION",
    "RRULE",
    "EXRULE",
    "EXDATE",
    "RDATE",
    "RECURRENCE-ID",
    "SUMMARY",
    "DESCRIPTION",
    "STATUS",
    "CLASS",
    "TRANSP",
];

/// What could be read, or why not.
pub type Read<T> = Result<T, String>;

/// Where the zones of names come from.
pub trait Zones {
    type Zone: TimeZone + Copy;
    /// What keeps the whole calendar from being read.
    type Error: From<InvalidCalendar>;

    /// The zone of an IANA name, and how that name is spelt; none for a name that is not known.
    fn named(&self, name: &str) -> Result<Option<Named<Self::Zone>>, Self::Error>;
}

type Named<Z> = (String, Z);

/// When an event ends by the clock, within a day, or else how many minutes it lasts.
type Ending = (Option<i64>, Option<i32>);

/// A time of the calendar: the zone it is in, and what the clocks show, in seconds.
#[derive(Clone)]
pub struct Time<Z> {
    pub zone_name: String,
    pub zone: Z,
    pub wall: i64,
}

impl<Z: TimeZone + Copy> Time<Z> {
    fn moment(&self) -> i64 {
        Clock::of(self.zone).moment(self.wall).0
    }
}

/// A schedule that an event makes, its exceptions apart.
pub struct Planned<Z> {
    pub title: String,
    pub description: Option<String>,
    pub is_private: bool,
    pub start: Time<Z>,
    /// When it ends by the clock, within a day of its start.
    pub end_wall: Option<i64>,
    /// How long it lasts, where it has no such end; none if the event does not say.
    pub minutes: Option<i32>,
    pub rule: Option<Rule>,
    /// The rule with an end that nobody has to count to.
    to_look_up: Option<Rule>,
    /// The start is none of the rule's.
    first_is_extra: bool,
}

/// Reads the events of a calendar one by one.
pub struct Events<'a, Z: Zones> {
    calendar: &'a Calendar,
    zones: Z,
    /// The zones of names that were looked up.
    found: HashMap<String, Option<Named<Z::Zone>>>,
    dates: usize,
}

impl<'a, Z: Zones> Events<'a, Z> {
    pub fn new(calendar: &'a Calendar, zones: Z) -> Self {
        Self {
            calendar,
            zones,
            found: HashMap::new(),
            dates: 0,
        }
    }

    /// The zone of a name in the calendar.
    fn zone(&mut self, name: &str) -> Result<Option<Named<Z::Zone>>, Z::Error> {
        if let Some(found) = self.found.get(name) {
            return Ok(found.clone());
        }
        if self.found.len() == MAX_ZONES {
            return Err(InvalidCalendar("the calendar has too many time zones").into());
        }
        let location = self.calendar.locations.get(name).map(String::as_str);
        let candidates = [Some(name), location, windows::iana_name(name)];
        let mut found = None;
        for candidate in candidates.into_iter().flatten() {
            found = found.map_or_else(|| named(&self.zones, candidate), |found| Ok(Some(found)))?;
        }
        self.found.insert(name.to_owned(), found.clone());
        Ok(found)
    }

    /// Reads a time, or says why not. `usual` is the zone of the event.
    fn time(
        &mut self,
        line: &Line,
        value: &str,
        usual: Option<&Time<Z::Zone>>,
    ) -> Result<Read<Time<Z::Zone>>, Z::Error> {
        let value = value.trim();
        if line.parameter("VALUE") == Some("DATE") || read_date(value).is_some() {
            return Ok(Err(format!("{} has no time of day", line.name)));
        }
        let Some((wall, utc)) = read_stamp(value) else {
            return Ok(Err(format!("{} {value:.40} is no time", line.name)));
        };
        let name = match line.parameter("TZID") {
            _ if utc => "UTC",
            Some(name) => name,
            None => usual.map_or(self.calendar.zone.as_str(), |time| time.zone_name.as_str()),
        };
        Ok(match self.zone(name)? {
            Some((zone_name, zone)) => Ok(Time {
                zone_name,
                zone,
                wall,
            }),
            None => Err(format!("time zone {name:.60} is not known")),
        })
    }

    /// The schedule that an event makes, or why there is none; adds to `notes` what is left out.
    pub fn schedule(
        &mut self,
        event: &Event,
        notes: &mut Vec<String>,
    ) -> Result<Read<Planned<Z::Zone>>, Z::Error> {
        if event.is_cancelled() {
            return Ok(Err("it is cancelled".to_owned()));
        }
        let Some(line) = event.one("DTSTART") else {
            return Ok(Err("DTSTART is missing".to_owned()));
        };
        let start = match self.time(line, &line.value, None)? {
            Ok(start) => start,
            Err(why) => return Ok(Err(why)),
        };
        let (end_wall, minutes) = match self.length(event, &start)? {
            Ok(length) => length,
            Err(why) => return Ok(Err(why)),
        };
        if event.one("EXRULE").is_some() || event.all("RRULE").count() > 1 {
            return Ok(Err("it has several rules".to_owned()));
        }
        let mut rule = match event
            .one("RRULE")
            .map(|line| Rule::parse(&line.value))
            .transpose()
        {
            Ok(rule) => rule,
            Err(wrong) => return Ok(Err(format!("RRULE: {wrong}"))),
        };
        let mut first_is_extra = false;
        let mut to_look_up = None;
        if let Some(rule) = &mut rule {
            rule.end_in_clock_time(&start.zone);
            let last = match expand::bounds(rule, start.wall) {
                Ok((_, last)) => last,
                Err(wrong) => return Ok(Err(format!("RRULE: {wrong}"))),
            };
            // Nobody counts again for each date.
            to_look_up = Some(Rule {
                end: last.map_or(End::Never, End::Until),
                ..rule.clone()
            });
            // RFC 5545 counts DTSTART as an occurrence, whatever the rule says.
            first_is_extra = Expansion::first_start(Some(rule), start.wall) != Some(start.wall);
        }
        notes.extend(left_out(&event.left_out));
        let title = shortened(
            event.title().unwrap_or_default(),
            MAX_TITLE,
            "SUMMARY",
            notes,
        );
        let title = if title.trim().is_empty() {
            "Untitled".to_owned()
        } else {
            title
        };
        let description = event.text("DESCRIPTION");
        let description =
            description.map(|text| shortened(text, MAX_DESCRIPTION, "DESCRIPTION", notes));
        let is_private = event
            .one("CLASS")
            .is_some_and(|line| !line.value.eq_ignore_ascii_case("PUBLIC"));

        Ok(Ok(Planned {
            title,
            description,
            is_private,
            start,
            end_wall,
            minutes,
            rule,
            to_look_up,
            first_is_extra,
        }))
    }

    fn length(&mut self, event: &Event, start: &Time<Z::Zone>) -> Result<Read<Ending>, Z::Error> {
        let seconds = match (event.one("DTEND"), event.one("DURATION")) {
            (Some(line), _) => match self.time(line, &line.value, Some(start))? {
                Ok(end) => {
                    let by_clock = end.wall - start.wall;
                    if end.zone_name == start.zone_name && (1..=DAY_SECONDS).contains(&by_clock) {
                        let whole_day = by_clock == DAY_SECONDS;
                        if !whole_day || start.wall.rem_euclid(DAY_SECONDS) == 0 {
                            return Ok(Ok((Some(end.wall), None)));
                        }
                    }
                    end.moment() - start.moment()
                }
                Err(why) => return Ok(Err(why)),
            },
            (None, Some(line)) => match duration(&line.value) {
                Some(seconds) => seconds,
                None => return Ok(Err(format!("DURATION {:.40} is no time", line.value))),
            },
            (None, None) => return Ok(Ok((None, None))),
        };
        let minutes = (seconds + 59).div_euclid(60);
        match i32::try_from(minutes) {
            Ok(minutes @ 1..=MAX_DURATION_MINUTES) => Ok(Ok((None, Some(minutes)))),
            _ => Ok(Err("it does not last from a minute to a week".to_owned())),
        }
    }
}

/// The zone of a name, or of its end: /citadel.org/20070227_1/Europe/Berlin is
/// Europe/Berlin.
fn named<Z: Zones>(zones: &Z, name: &str) -> Result<Option<Named<Z::Zone>>, Z::Error> {
    const MAX_PARTS: usize = 3;
    let begins = name.rmatch_indices('/').map(|(at, _)| at + 1);
    let mut begins: Vec<usize> = begins.take(MAX_PARTS).collect();
    if begins.len() < MAX_PARTS {
        begins.push(0);
    }
    for begin in begins.into_iter().rev() {
        if let Some(found) = zones.named(&name[begin..])? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn left_out(names: &BTreeSet<String>) -> Option<String> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    (!names.is_empty()).then(|| format!("left out: {}", names.join(", ")))
}

fn shortened(text: String, most: usize, name: &str, notes: &mut Vec<String>) -> String {
    if text.chars().count() <= most {
        return text;
    }
    notes.push(format!("{name} was cut to {most} characters"));
    text.chars().take(most).collect()
}
