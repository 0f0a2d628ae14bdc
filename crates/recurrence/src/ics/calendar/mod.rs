//! The components of a calendar: its events, and what else it holds.

#[cfg(test)]
mod tests;

use super::text::{Line, lines, unescape};
use crate::stamp::read_stamp;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

const MAX_BYTES: usize = 10_000_000;
const MAX_EVENTS: usize = 1_000;
/// Of all events together, those that are kept.
const MAX_LINES: usize = 100_000;
const MAX_DEPTH: usize = 20;
/// The most names of properties that are told to be left out of one event.
const MAX_NAMES: usize = 20;
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

/// Properties that an event has once.
const ONCE: [&str; 8] = [
    "DTSTART",
    "DTEND",
    "DURATION",
    "RECURRENCE-ID",
    "STATUS",
    "SUMMARY",
    "DESCRIPTION",
    "SEQUENCE",
];

/// The most lines that are told of one event as not understood.
const MAX_UNREAD: usize = 5;

/// An event: the lines of it that are taken, and the names of what else it has.
#[derive(Clone, Debug, Default)]
pub struct Event {
    pub uid: Option<String>,
    /// The place of its VCALENDAR in [`Calendar::parts`].
    pub part: usize,
    lines: Vec<Line>,
    /// Properties and components that are not taken, some of them where they are many.
    pub left_out: BTreeSet<String>,
    unread: Vec<String>,
    has_end: bool,
    is_called_off: bool,
    /// Its place among the events of the calendar.
    place: usize,
}

impl Event {
    /// True when the line may be taken.
    fn push(&mut self, line: Line, taken: &[&str]) -> bool {
        if !taken.contains(&line.name.as_str()) {
            self.leave_out(&line.name);
            return false;
        }
        if line.name == "UID" && self.uid.is_none() {
            self.uid = Some(unescape(line.word()));
        }
        self.lines.push(line);
        true
    }

    fn leave_out(&mut self, name: &str) {
        if self.left_out.len() < MAX_NAMES {
            self.left_out.insert(name.chars().take(40).collect());
        }
    }

    /// The lines of a property.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.name == name)
    }

    /// The first line of a property.
    pub fn one(&self, name: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.name == name)
    }

    /// The text that a property has.
    pub fn text(&self, name: &str) -> Option<String> {
        self.one(name).map(|line| unescape(&line.value))
    }

    /// What the event is called, without white space around it.
    pub fn title(&self) -> Option<String> {
        self.text("SUMMARY").map(|title| title.trim().to_owned())
    }

    /// True when it does not take place.
    pub fn is_cancelled(&self) -> bool {
        let cancels = |line: &Line| {
            let word = line.word();
            word.eq_ignore_ascii_case("CANCELLED") || word.eq_ignore_ascii_case("CANCELED")
        };
        self.is_called_off || self.all("STATUS").any(cancels)
    }

    /// What of its text is not understood, as far as that is seen without knowing what it means: sentences.
    pub fn doubts(&self) -> Vec<String> {
        let unread = self.unread.iter();
        let mut doubts: Vec<String> = unread
            .map(|line| format!("not understood: {line}"))
            .collect();
        if !self.has_end {
            doubts.push("END:VEVENT is missing".to_owned());
        }
        for name in ONCE {
            let first = self.one(name);
            if self.all(name).any(|line| Some(line) != first) {
                doubts.push(format!("{name} is there twice, and the first is taken"));
            }
        }
        if self.one("DTEND").is_some() && self.one("DURATION").is_some() {
            doubts.push("DTEND is taken, and not DURATION".to_owned());
        }
        const KNOWN: [&str; 4] = ["TENTATIVE", "CONFIRMED", "CANCELLED", "CANCELED"];
        for line in self.all("STATUS") {
            if !KNOWN
                .iter()
                .any(|known| known.eq_ignore_ascii_case(line.word()))
            {
                doubts.push(format!("STATUS {:.40} is not understood", line.word()));
            }
        }
        for name in ["SUMMARY", "DESCRIPTION"] {
            if self
                .one(name)
                .is_some_and(|line| line.value.contains('\u{fffd}'))
            {
                doubts.push(format!("{name} has characters that were lost on the way"));
            }
        }
        doubts
    }

    /// Of two versions of one thing the greater counts (RFC 5546, 2.1.5).
    pub fn version(&self) -> impl Ord + use<> {
        let sequence = self
            .one("SEQUENCE")
            .and_then(|line| line.word().parse().ok());
        let moment = |name| Some(read_stamp(self.one(name)?.word())?.0);
        let sequence: i64 = sequence.unwrap_or(0);
        (
            sequence,
            moment("DTSTAMP"),
            moment("LAST-MODIFIED"),
            self.place,
        )
    }
}

/// A VTIMEZONE.
#[derive(Clone, Debug, Default)]
pub struct ZoneText {
    /// The zone that it says that it is.
    pub location: Option<String>,
    /// The lines of each STANDARD and DAYLIGHT.
    pub observances: Vec<Vec<Line>>,
}

/// A VCALENDAR of the text.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// The zone of times without one, if it says so.
    pub zone: Option<String>,
    /// Zones by the names that they have in it.
    pub zones: HashMap<String, ZoneText>,
    /// It calls off what it holds (METHOD:CANCEL of RFC 5546).
    calls_off: bool,
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
    /// How many lines are kept.
    kept: usize,
}

/// Components that are in a VCALENDAR and in nothing else.
const OUTER: [&str; 5] = ["VEVENT", "VTIMEZONE", "VTODO", "VJOURNAL", "VFREEBUSY"];

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
            (Some("VCALENDAR"), "VEVENT") => self.events.push(Event {
                part: self.calendar.parts.len().saturating_sub(1),
                place: self.events.len(),
                ..Event::default()
            }),
            (Some("VCALENDAR"), "VTIMEZONE") => self.zone = Some(Default::default()),
            (Some("VCALENDAR"), other) => self.calendar.others.push(other.to_owned()),
            (Some("VEVENT"), other) => {
                if let Some(event) = self.events.last_mut() {
                    event.leave_out(other);
                }
            }
            (Some("VTIMEZONE"), "STANDARD" | "DAYLIGHT") => {
                if let Some((_, zone)) = &mut self.zone {
                    zone.observances.push(Vec::new());
                    self.kept += 1;
                }
            }
            _ => {}
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
            return;
        };
        self.close(at + 1);
        if name == "VEVENT"
            && let Some(event) = self.events.last_mut()
        {
            event.has_end = true;
        }
        self.close(at);
    }

    /// Leaves components until so many are open.
    fn close(&mut self, open: usize) {
        while self.inside.len() > open {
            let Some("VTIMEZONE") = self.inside.pop().as_deref() else {
                continue;
            };
            if let (Some((Some(id), zone)), Some(part)) =
                (self.zone.take(), self.calendar.parts.last_mut())
            {
                part.zones.entry(id).or_insert(zone);
                self.kept += 1;
            }
        }
    }

    fn line(&mut self, line: Line) {
        let Some(part) = self.calendar.parts.last_mut() else {
            return;
        };
        let component = self.inside.last().map(String::as_str);
        match (component, line.name.as_str()) {
            (Some("VEVENT"), _) => {
                if let Some(event) = self.events.last_mut() {
                    self.kept += usize::from(event.push(line, self.taken));
                }
            }
            (Some("VCALENDAR"), "X-WR-TIMEZONE") => part.zone = Some(line.word().to_owned()),
            (Some("VCALENDAR"), "METHOD") => {
                part.calls_off = line.word().eq_ignore_ascii_case("CANCEL");
            }
            (Some("VTIMEZONE"), name) => {
                if let Some((id, zone)) = &mut self.zone {
                    match name {
                        "TZID" => *id = Some(line.word().to_owned()),
                        "X-LIC-LOCATION" => zone.location = Some(line.word().to_owned()),
                        _ => {}
                    }
                }
            }
            (Some("STANDARD" | "DAYLIGHT"), _) => {
                if let Some((_, zone)) = &mut self.zone
                    && let Some(lines) = zone.observances.last_mut()
                {
                    lines.push(line);
                    self.kept += 1;
                }
            }
            _ => {}
        }
    }

    fn unread(&mut self, text: String) {
        if self.inside.iter().any(|open| open == "VEVENT")
            && let Some(event) = self.events.last_mut()
            && event.unread.len() < MAX_UNREAD
            && !text.is_empty()
        {
            event.unread.push(text);
        }
    }

    /// The latest version of each event and its changed occurrences.
    fn sort(mut self) -> Calendar {
        self.close(0);
        let mut latest: HashMap<String, usize> = HashMap::new();
        for mut event in self.events {
            let part = self.calendar.parts.get(event.part);
            event.is_called_off = part.is_some_and(|part| part.calls_off);
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
            kept: 0,
        };
        for (number, line) in lines(ics).enumerate() {
            if number % PAUSE == 0 {
                pause();
            }
            match line {
                Err(text) => reading.unread(text),
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
