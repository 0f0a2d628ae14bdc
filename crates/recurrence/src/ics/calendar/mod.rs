//! The components of a calendar: its events, and what else it holds.

mod event;
#[cfg(test)]
mod tests;

pub use event::Event;

use super::observances::Observances;
use super::parameters;
use super::text::{Line, lines, unescape};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

const MAX_BYTES: usize = 10_000_000;
const MAX_EVENTS: usize = 1_000;
/// Of all events together, those that are kept.
const MAX_LINES: usize = 100_000;
const MAX_DEPTH: usize = 20;
/// The most names of properties that are told to be left out of one event, or of the calendar.
const MAX_NAMES: usize = 20;
/// The most sentences that are told of a calendar outside of its events.
const MAX_DOUBTS: usize = 10;
/// After how many lines the reader of a calendar may pause.
const PAUSE: usize = 1024;

/// Why a text is no calendar that is read: no calendar at all, or too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidCalendar(pub &'static str);

impl fmt::Display for InvalidCalendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidCalendar {}

/// A VTIMEZONE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneText {
    /// The zone that it says that it is.
    pub location: Option<String>,
    /// The lines of each STANDARD and DAYLIGHT.
    observances: Vec<Vec<Line>>,
    /// Something in it is not understood.
    is_damaged: bool,
}

impl ZoneText {
    /// What it says of its clocks; none where that is nothing, or not understood.
    pub fn observances(&self) -> Option<Observances> {
        let observances = (!self.is_damaged).then_some(&self.observances);
        observances.and_then(|all| Observances::read(all))
    }
}

/// A VCALENDAR of the text.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// The zone of times without one, if it says so.
    pub zone: Option<String>,
    /// Zones by the names that they have in it.
    pub zones: HashMap<String, ZoneText>,
    /// What is done with what it holds (METHOD of RFC 5546), in upper case.
    method: Option<String>,
}

impl Part {
    fn calls_off(&self) -> bool {
        self.method.as_deref() == Some("CANCEL")
    }
}

/// What a calendar holds.
#[derive(Clone, Debug, Default)]
pub struct Calendar {
    pub events: Vec<Event>,
    /// Versions of events that do not count, since a later one is there.
    pub superseded: Vec<Event>,
    /// Occurrences of events that are different, by the events' UID.
    pub overrides: BTreeMap<Option<String>, Vec<Event>>,
    /// The names of components besides events and zones.
    pub others: Vec<String>,
    /// What is not understood of the text outside of its events: sentences.
    pub doubts: Vec<String>,
    pub parts: Vec<Part>,
}

/// What is being read.
struct Reading<'a> {
    calendar: Calendar,
    events: Vec<Event>,
    taken: &'a [&'a str],
    /// The components that are open, the innermost last.
    inside: Vec<String>,
    zone: Option<(Option<String>, ZoneText)>,
    /// Properties outside of events that mean nothing there.
    left_out: BTreeSet<String>,
    /// How many lines are kept.
    kept: usize,
}

/// Components that are in a VCALENDAR and in nothing else.
const OUTER: [&str; 5] = ["VEVENT", "VTIMEZONE", "VTODO", "VJOURNAL", "VFREEBUSY"];

/// Properties of a VCALENDAR that alter nothing that is taken (RFC 5545, 3.7, and RFC 7986).
const OF_CALENDARS: [&str; 12] = [
    "PRODID",
    "VERSION",
    "NAME",
    "DESCRIPTION",
    "UID",
    "LAST-MODIFIED",
    "URL",
    "CATEGORIES",
    "REFRESH-INTERVAL",
    "SOURCE",
    "COLOR",
    "IMAGE",
];

/// Properties of a VTIMEZONE that alter nothing (RFC 5545, 3.6.5, and RFC 7808).
const OF_ZONES: [&str; 5] = [
    "LAST-MODIFIED",
    "TZURL",
    "TZUNTIL",
    "TZID-ALIAS-OF",
    "COMMENT",
];

/// Notes a name, some of them where they are many.
fn leave_out(names: &mut BTreeSet<String>, name: &str) {
    if names.len() < MAX_NAMES {
        names.insert(name.chars().take(40).collect());
    } else if names.len() == MAX_NAMES && !names.contains(name) {
        names.insert("…".to_owned());
    }
}

impl Reading<'_> {
    fn begin(&mut self, name: String) -> Result<(), InvalidCalendar> {
        // The END of another one is missing.
        if name == "VCALENDAR" {
            self.close(0);
        } else if OUTER.contains(&name.as_str())
            && let Some(at) = self.inside.iter().rposition(|open| open == "VCALENDAR")
        {
            self.close(at + 1);
        }
        match (self.inside.last().map(String::as_str), name.as_str()) {
            (_, "VCALENDAR") => self.calendar.parts.push(Part::default()),
            (Some("VCALENDAR"), "VEVENT") => {
                let part = self.calendar.parts.len().saturating_sub(1);
                self.events.push(Event::at(part, self.events.len()));
            }
            (Some("VCALENDAR"), "VTIMEZONE") => self.zone = Some(Default::default()),
            (Some("VCALENDAR"), other) => self.calendar.others.push(other.to_owned()),
            (Some("VEVENT"), other) if self.is_in("VCALENDAR") => {
                if let Some(event) = self.events.last_mut() {
                    leave_out(&mut event.left_out, other);
                }
            }
            (Some("VTIMEZONE"), "STANDARD" | "DAYLIGHT") => {
                if let Some((_, zone)) = &mut self.zone {
                    zone.observances.push(Vec::new());
                    self.kept += 1;
                }
            }
            (None, other) => self.doubt(format!("{other:.40} is in no VCALENDAR")),
            _ => self.damage_zone(),
        }
        if self.inside.len() == MAX_DEPTH {
            return Err(InvalidCalendar(
                "components of the calendar are nested too deep",
            ));
        }
        self.inside.push(name);
        Ok(())
    }

    fn end(&mut self, name: &str) {
        let Some(at) = self.inside.iter().rposition(|open| open == name) else {
            self.not_understood(format!("END:{name:.40} is of nothing"));
            return;
        };
        self.close(at + 1);
        self.leave(true);
    }

    /// Leaves components until so many are open; those that are left have no END.
    fn close(&mut self, open: usize) {
        while self.inside.len() > open {
            self.leave(false);
        }
    }

    /// Leaves the innermost component.
    fn leave(&mut self, has_end: bool) {
        let Some(name) = self.inside.pop() else {
            return;
        };
        match name.as_str() {
            "VEVENT" if self.is_in("VCALENDAR") => {
                if let Some(event) = self.events.last_mut() {
                    event.has_end = has_end;
                }
            }
            "VTIMEZONE" => {
                if !has_end {
                    self.damage_zone();
                }
                self.keep_zone();
            }
            // Of an event that is cut off it is said already.
            "VCALENDAR" if !has_end => {
                let part = self.calendar.parts.len().saturating_sub(1);
                let last = self.events.last().filter(|event| event.part == part);
                if last.is_none_or(|event| event.has_end) {
                    self.doubt("END:VCALENDAR is missing".to_owned());
                }
            }
            _ if !has_end => self.not_understood(format!("END:{name:.40} is missing")),
            _ => {}
        }
    }

    fn keep_zone(&mut self) {
        let (Some((id, zone)), Some(part)) = (self.zone.take(), self.calendar.parts.last_mut())
        else {
            return;
        };
        let Some(id) = id else {
            self.doubt("a VTIMEZONE has no TZID".to_owned());
            return;
        };
        self.kept += 1;
        match part.zones.entry(id) {
            Entry::Vacant(place) => {
                place.insert(zone);
            }
            Entry::Occupied(first) if *first.get() != zone => {
                let why = format!("VTIMEZONE {:.60} is there twice", first.key());
                self.doubt(why);
            }
            Entry::Occupied(_) => {}
        }
    }

    fn line(&mut self, line: Line) {
        let component = self.inside.last().map(String::as_str);
        match (component, line.name.as_str()) {
            (Some("VEVENT"), _) if self.is_in("VCALENDAR") => {
                if let Some(event) = self.events.last_mut() {
                    self.kept += usize::from(event.push(line, self.taken));
                }
            }
            (Some("VCALENDAR"), _) => self.of_calendar(&line),
            (Some("VTIMEZONE"), _) => self.of_zone(&line),
            (Some("STANDARD" | "DAYLIGHT"), _) => {
                if let Some((_, zone)) = &mut self.zone
                    && let Some(lines) = zone.observances.last_mut()
                {
                    lines.push(line);
                    self.kept += 1;
                }
            }
            (None, name) => leave_out(&mut self.left_out, name),
            _ => {}
        }
    }

    /// A property of a VCALENDAR.
    fn of_calendar(&mut self, line: &Line) {
        let Some(part) = self.calendar.parts.last_mut() else {
            return;
        };
        let word = line.word();
        let mut is_understood = parameters::doubt(line).is_none();
        match line.name.as_str() {
            "X-WR-TIMEZONE" => {
                is_understood &= part.zone.as_deref().is_none_or(|zone| zone == word);
                part.zone = Some(word.to_owned());
            }
            "METHOD" => {
                let method = word.to_ascii_uppercase();
                is_understood &= ["CANCEL", "PUBLISH", "REQUEST"].contains(&method.as_str())
                    && part.method.as_ref().is_none_or(|other| *other == method);
                part.method = Some(method);
            }
            "CALSCALE" => is_understood &= word.eq_ignore_ascii_case("GREGORIAN"),
            name if name.starts_with("X-") || OF_CALENDARS.contains(&name) => return,
            name => return leave_out(&mut self.left_out, name),
        }
        if !is_understood {
            self.doubt(format!("{} {word:.40} is not understood", line.name));
        }
    }

    /// A property of a VTIMEZONE.
    fn of_zone(&mut self, line: &Line) {
        let Some((id, zone)) = &mut self.zone else {
            return;
        };
        let is_understood = match line.name.as_str() {
            "TZID" => {
                let name = unescape(line.word());
                let is_first = id.as_ref().is_none_or(|first| *first == name);
                id.get_or_insert(name);
                is_first && parameters::doubt(line).is_none()
            }
            "X-LIC-LOCATION" => {
                let location = line.word().to_owned();
                zone.location.get_or_insert(location);
                true
            }
            name => name.starts_with("X-") || OF_ZONES.contains(&name),
        };
        if !is_understood {
            self.damage_zone();
        }
    }

    /// What is no line.
    fn unread(&mut self, text: &str) {
        if !text.is_empty() {
            self.not_understood(format!("not understood: {text}"));
        }
    }

    /// Something at this place is not understood.
    fn not_understood(&mut self, why: String) {
        if self.is_in("VTIMEZONE") {
            self.damage_zone();
        } else if self.is_in("VEVENT")
            && self.is_in("VCALENDAR")
            && let Some(event) = self.events.last_mut()
        {
            event.doubt(why);
        } else if self.inside.len() <= 1 {
            self.doubt(why);
        }
    }

    fn is_in(&self, name: &str) -> bool {
        self.inside.iter().any(|open| open == name)
    }

    fn doubt(&mut self, why: String) {
        let doubts = &mut self.calendar.doubts;
        if doubts.len() < MAX_DOUBTS && !doubts.contains(&why) {
            doubts.push(why);
        }
    }

    fn damage_zone(&mut self) {
        if let Some((_, zone)) = &mut self.zone {
            zone.is_damaged = true;
        }
    }

    /// The latest version of each event and its changed occurrences.
    fn sort(mut self) -> Calendar {
        self.close(0);
        if !self.left_out.is_empty() {
            let names: Vec<&str> = self.left_out.iter().map(String::as_str).collect();
            let why = format!("outside of events: {}", names.join(", "));
            self.calendar.doubts.push(why);
        }
        let mut latest: HashMap<String, usize> = HashMap::new();
        for mut event in self.events {
            let part = self.calendar.parts.get(event.part);
            event.is_called_off = part.is_some_and(Part::calls_off);
            if event.one("RECURRENCE-ID").is_some() {
                let overrides = self.calendar.overrides.entry(event.uid.clone());
                overrides.or_default().push(event);
                continue;
            }
            let events = &mut self.calendar.events;
            let uid = event.uid.clone().filter(|uid| !uid.is_empty());
            match uid.as_ref().and_then(|uid| latest.get(uid)) {
                Some(&place) => {
                    let older = if event.version() > events[place].version() {
                        std::mem::replace(&mut events[place], event)
                    } else {
                        event
                    };
                    self.calendar.superseded.push(older);
                }
                None => {
                    latest.extend(uid.map(|uid| (uid, events.len())));
                    events.push(event);
                }
            }
        }
        self.calendar
    }
}

impl Calendar {
    /// Reads a calendar (RFC 5545, 3.4), with the properties of events that are named in `taken`.
    /// `pause` is called now and then, for a caller who may have to stop.
    ///
    /// Errors: a text without a VCALENDAR, or one of more than 10 MB, 1,000 components, 100,000 lines that
    /// are taken, or components nested deeper than 20.
    pub fn read(
        ics: &str,
        taken: &[&str],
        mut pause: impl FnMut(),
    ) -> Result<Self, InvalidCalendar> {
        if ics.len() > MAX_BYTES {
            return Err(InvalidCalendar("the calendar is too large"));
        }
        let mut reading = Reading {
            calendar: Self::default(),
            events: Vec::new(),
            taken,
            inside: Vec::new(),
            zone: None,
            left_out: BTreeSet::new(),
            kept: 0,
        };
        for (number, line) in lines(ics).enumerate() {
            if number % PAUSE == 0 {
                pause();
            }
            match line {
                Err(text) => reading.unread(&text),
                Ok(line) => match line.name.as_str() {
                    "BEGIN" => reading.begin(line.word().to_ascii_uppercase())?,
                    "END" => reading.end(&line.word().to_ascii_uppercase()),
                    _ => reading.line(line),
                },
            }
            let calendar = &reading.calendar;
            if reading.events.len() + calendar.others.len() + calendar.parts.len() > MAX_EVENTS + 1
            {
                return Err(InvalidCalendar("the calendar has too many events"));
            }
            if reading.kept > MAX_LINES {
                return Err(InvalidCalendar("the calendar has too many lines"));
            }
        }
        if reading.calendar.parts.is_empty() {
            return Err(InvalidCalendar("the text is no calendar"));
        }
        Ok(reading.sort())
    }

    /// What is different about occurrences of an event. One without a UID has none: nobody knows whose they are.
    pub fn overrides_of(&self, event: &Event) -> &[Event] {
        let own = event.uid.as_ref().filter(|uid| !uid.is_empty());
        own.and_then(|_| self.overrides.get(&event.uid))
            .map_or(&[], Vec::as_slice)
    }

    /// Changed occurrences whose event is not in the calendar.
    pub fn orphans(&self) -> impl Iterator<Item = &Event> {
        let known: HashSet<&str> = self
            .events
            .iter()
            .filter_map(|event| event.uid.as_deref())
            .collect();
        self.overrides
            .iter()
            .filter(move |(uid, _)| {
                let uid = uid.as_deref().unwrap_or_default();
                uid.is_empty() || !known.contains(uid)
            })
            .flat_map(|(_, overrides)| overrides)
    }
}
