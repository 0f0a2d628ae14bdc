//! What becomes of a calendar's event: the schedule that it makes, and what of it is not taken.
//!
//! No PostgreSQL in here: whose zones they are, the caller says.

mod exceptions;
mod lengths;
mod range;
#[cfg(test)]
mod tests;
mod zones;

pub use exceptions::Exceptions;
pub use range::Pieces;
pub use zones::Zones;

use crate::schedule::fields::MAX_DURATION_MINUTES;
use recurrence::daylight_saving::{Clock, TimeZone};
use recurrence::days::DAY_SECONDS;
use recurrence::expand::{self, Expansion};
use recurrence::ics::calendar::{Calendar, Event};
use recurrence::ics::duration::Duration;
use recurrence::ics::text::Line;
use recurrence::rule::{End, Rule};
use recurrence::stamp::{read_date, read_stamp};
use std::collections::BTreeSet;
use zones::{Known, Names};

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

type Named<Z> = (String, Z);

/// When an event ends.
#[derive(Clone, Copy, Default)]
struct Ending {
    /// By the clock, within a day of its start.
    wall: Option<i64>,
    /// How many minutes it lasts, where it has no such end.
    minutes: Option<i32>,
    /// Where some of those are days by the clocks: what it says.
    nominal: Option<Duration>,
}

/// A time of the calendar: the zone it is in, and what the clocks show, in seconds.
#[derive(Clone)]
pub struct Time<Z> {
    pub zone_name: String,
    pub zone: Z,
    pub wall: i64,
    /// The place of the VCALENDAR, and what it calls the zone.
    said: (usize, String),
}

impl<Z: TimeZone + Copy> Time<Z> {
    fn moment(&self) -> i64 {
        Clock::of(self.zone).moment(self.wall).0
    }
}

/// A schedule that an event makes, its exceptions apart.
#[derive(Clone)]
pub struct Planned<Z> {
    pub title: String,
    pub description: Option<String>,
    pub is_private: bool,
    pub start: Time<Z>,
    /// When it ends by the clock, within a day of its start.
    pub end_wall: Option<i64>,
    /// How long it lasts, where it has no such end; none if the event does not say.
    pub minutes: Option<i32>,
    /// Where it lasts days by the clocks: how long, as it says.
    nominal: Option<Duration>,
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
    names: Names<Z::Zone>,
    dates: usize,
    altered: usize,
}

impl<'a, Z: Zones> Events<'a, Z> {
    pub fn new(calendar: &'a Calendar, zones: Z) -> Self {
        Self {
            calendar,
            zones,
            names: Names::default(),
            dates: 0,
            altered: 0,
        }
    }

    /// The schedules that an event makes, or why there is none; adds to `notes` what is left out.
    pub fn schedules(
        &mut self,
        event: &Event,
        notes: &mut Vec<String>,
    ) -> Result<Read<Pieces<Z::Zone>>, Z::Error> {
        notes.extend(event.doubts());
        let pieces = self.read(event, notes)?;
        notes.extend(std::mem::take(&mut self.names.doubts));
        Ok(pieces)
    }

    fn read(
        &mut self,
        event: &Event,
        notes: &mut Vec<String>,
    ) -> Result<Read<Pieces<Z::Zone>>, Z::Error> {
        let planned = match self.schedule(event, notes)? {
            Ok(planned) => planned,
            Err(why) => return Ok(Err(why)),
        };
        let mut exceptions = match self.exceptions(event, &planned, notes)? {
            Ok(exceptions) => exceptions,
            Err(why) => return Ok(Err(why)),
        };
        let ranges = self.changes(event, &planned, &mut exceptions, notes)?;
        self.pieces(event, planned, exceptions, ranges, notes)
    }

    /// Reads a time, or says why not. `usual` is the start of the event.
    fn time(
        &mut self,
        of: &Event,
        line: &Line,
        value: &str,
        usual: Option<&Time<Z::Zone>>,
    ) -> Result<Read<Time<Z::Zone>>, Z::Error> {
        let (wall, said) = match self.wall(of, line, value, usual) {
            Ok(read) => read,
            Err(why) => return Ok(Err(why)),
        };
        if let Some(usual) = usual.filter(|usual| usual.said == said) {
            return Ok(Ok(Time {
                wall,
                ..usual.clone()
            }));
        }
        self.placed(wall, said, Some(wall), false)
    }

    /// What the clocks show at a time, and whose clocks they are.
    fn wall(
        &self,
        of: &Event,
        line: &Line,
        value: &str,
        usual: Option<&Time<Z::Zone>>,
    ) -> Read<(i64, (usize, String))> {
        let value = value.trim();
        if read_date(value).is_some() {
            return Err(format!("{} has no time of day", line.name));
        }
        let Some((wall, utc)) = read_stamp(value) else {
            return Err(format!("{} {value:.40} is no time", line.name));
        };
        let said = match (line.parameter("TZID"), usual) {
            _ if utc => (of.part, "UTC".to_owned()),
            (Some(name), _) => (of.part, name.to_owned()),
            (None, Some(usual)) => usual.said.clone(),
            (None, None) => (of.part, self.default_zone(of).unwrap_or("UTC").to_owned()),
        };
        Ok((wall, said))
    }

    fn default_zone(&self, of: &Event) -> Option<&str> {
        self.calendar.parts.get(of.part)?.zone.as_deref()
    }

    /// The time that clocks show, in a zone that is right up to another time or, without that, for ever. What comes again
    /// needs a zone of the server's, of anything else the moment is enough.
    fn placed(
        &mut self,
        wall: i64,
        said: (usize, String),
        last: Option<i64>,
        comes_again: bool,
    ) -> Result<Read<Time<Z::Zone>>, Z::Error> {
        let (wall, name) = match self.zone(said.0, &said.1, (wall, last))? {
            Known::Zone((zone_name, zone)) => {
                return Ok(Ok(Time {
                    zone_name,
                    zone,
                    wall,
                    said,
                }));
            }
            Known::Offsets(offsets) if !comes_again => {
                (Clock::of(offsets).moment(wall).0, "UTC".to_owned())
            }
            Known::Offsets(_) => {
                let why = format!("time zone {:.60} is like none that is known", said.1);
                return Ok(Err(why));
            }
            Known::Unknown => (wall, said.1.clone()),
        };
        let found = if name == "UTC" {
            self.zones.named("UTC")?
        } else {
            None
        };
        Ok(match found {
            Some((zone_name, zone)) => Ok(Time {
                zone_name,
                zone,
                wall,
                said: (said.0, name),
            }),
            None => Err(format!("time zone {name:.60} is not known")),
        })
    }

    /// The schedule that an event makes, or why there is none; adds to `notes` what is left out.
    fn schedule(
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
        let (wall, said) = match self.wall(event, line, &line.value, None) {
            Ok(read) => read,
            Err(why) => return Ok(Err(why)),
        };
        let mut rule = match event
            .one("RRULE")
            .map(|line| Rule::parse(line.word()))
            .transpose()
        {
            Ok(rule) => rule,
            Err(wrong) => return Ok(Err(format!("RRULE: {wrong}"))),
        };
        let last = match rule.as_ref().map(|rule| expand::bounds(rule, wall)) {
            Some(Ok((_, last))) => last,
            Some(Err(wrong)) => return Ok(Err(format!("RRULE: {wrong}"))),
            None => Some(wall),
        };
        let last = last.map(|last| last.max(self.last_said(event)));
        let start = match self.placed(wall, said, last, rule.is_some())? {
            Ok(start) => start,
            Err(why) => return Ok(Err(why)),
        };
        if line.parameter("TZID").is_none()
            && !line.word().ends_with('Z')
            && self.default_zone(event).is_none()
        {
            notes.push("DTSTART has no time zone and is taken for UTC".to_owned());
        }
        let ending = match self.length(event, &start, rule.is_some())? {
            Ok(ending) => ending,
            Err(why) => return Ok(Err(why)),
        };
        if event.all("RRULE").count() > 1 {
            return Ok(Err("it has several rules".to_owned()));
        }
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
        let title = if text::is_blank(&title) {
            "Untitled".to_owned()
        } else {
            title
        };
        let description = event.text("DESCRIPTION");
        let description =
            description.map(|text| shortened(text, MAX_DESCRIPTION, "DESCRIPTION", notes));
        // What is not known is private (RFC 5545, 3.8.1.3).
        let is_private = event
            .all("CLASS")
            .any(|line| !line.word().eq_ignore_ascii_case("PUBLIC"));
        Ok(Ok(Planned {
            title,
            description,
            is_private,
            start,
            end_wall: ending.wall,
            minutes: ending.minutes,
            nominal: ending.nominal,
            rule,
            to_look_up,
            first_is_extra,
        }))
    }

    /// The latest time that an event and its changed occurrences name, by whichever clocks.
    fn last_said(&self, event: &Event) -> i64 {
        let names = ["DTEND", "RDATE", "EXDATE", "DTSTART", "RECURRENCE-ID"];
        let events = std::iter::once(event).chain(self.calendar.overrides_of(event));
        let lines = events.flat_map(|event| names.iter().flat_map(|name| event.all(name)));
        let values = lines.flat_map(|line| line.value.split([',', '/']));
        let walls = values.filter_map(|value| Some(read_stamp(value.trim())?.0));
        walls.max().unwrap_or(i64::MIN)
    }

    /// How long an event lasts. One that ends as it begins does not say. What comes again lasts days of 24 hours,
    /// first of all.
    fn length(
        &mut self,
        of: &Event,
        start: &Time<Z::Zone>,
        comes_again: bool,
    ) -> Result<Read<Ending>, Z::Error> {
        let mut ending = Ending::default();
        let seconds = match (of.one("DTEND"), of.one("DURATION")) {
            (Some(line), _) => match self.time(of, line, &line.value, Some(start))? {
                Ok(end) => {
                    let by_clock = end.wall - start.wall;
                    if end.zone_name == start.zone_name && is_end_by_clock(start.wall, by_clock) {
                        ending.wall = Some(end.wall);
                        return Ok(Ok(ending));
                    }
                    end.moment() - start.moment()
                }
                Err(why) => return Ok(Err(why)),
            },
            (None, Some(line)) => match Duration::parse(line.word()) {
                Some(length) if length.days == 0 => length.seconds,
                Some(length) => {
                    let usual = length.usual_seconds();
                    if length.seconds == 0 && is_end_by_clock(start.wall, usual) {
                        ending.wall = Some(start.wall + usual);
                        return Ok(Ok(ending));
                    }
                    ending.nominal = Some(length);
                    let begin = start.moment();
                    if comes_again {
                        usual
                    } else {
                        length.end(begin, &start.zone).saturating_sub(begin)
                    }
                }
                None => return Ok(Err(format!("DURATION {:.40} is no time", line.word()))),
            },
            (None, None) => 0,
        };
        if seconds == 0 {
            return Ok(Ok(ending));
        }
        let minutes = seconds.saturating_add(59).div_euclid(60);
        match i32::try_from(minutes) {
            Ok(minutes @ 1..=MAX_DURATION_MINUTES) => {
                ending.minutes = Some(minutes);
                Ok(Ok(ending))
            }
            _ => Ok(Err("it does not last from a minute to a week".to_owned())),
        }
    }
}

/// True where a schedule can end by the clock so many seconds after its start.
fn is_end_by_clock(start: i64, seconds: i64) -> bool {
    match seconds {
        DAY_SECONDS => start.rem_euclid(DAY_SECONDS) == 0,
        seconds => (1..DAY_SECONDS).contains(&seconds),
    }
}

/// What says when an event takes place again, in one that is a part of another: there it says nothing.
fn rules_of(change: &Event) -> impl Iterator<Item = String> {
    let names = ["RRULE", "EXRULE", "RDATE", "EXDATE"];
    let has = |name: &&str| change.all(name).next().is_some();
    names.into_iter().filter(has).map(str::to_owned)
}

/// When a change ends that does not say when it begins.
fn ends_of_nothing(change: &Event) -> impl Iterator<Item = String> {
    let has = |name: &&str| change.one("DTSTART").is_none() && change.one(name).is_some();
    ["DTEND", "DURATION"]
        .into_iter()
        .filter(has)
        .map(str::to_owned)
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
