//! The components of a calendar: its events, and what else it holds.

use super::text::{Line, lines, unescape};
use std::collections::{BTreeMap, BTreeSet, HashMap};
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

/// An event: the lines of it that are taken, and the names of what else it has.
#[derive(Clone, Debug, Default)]
pub struct Event {
    pub uid: Option<String>,
    lines: Vec<Line>,
    /// Properties and components that are not taken, some of them where they are many.
    pub left_out: BTreeSet<String>,
}

impl Event {
    /// True when the line may be taken.
    fn push(&mut self, line: Line, taken: &[&str]) -> bool {
        if !taken.contains(&line.name.as_str()) {
            self.leave_out(&line.name);
            return false;
        }
        if line.name == "UID" && self.uid.is_none() {
            self.uid = Some(unescape(&line.value));
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

    /// What the event is called.
    pub fn title(&self) -> Option<String> {
        self.text("SUMMARY")
    }

    /// True when it does not take place.
    pub fn is_cancelled(&self) -> bool {
        self.one("STATUS")
            .is_some_and(|line| line.value.eq_ignore_ascii_case("CANCELLED"))
    }
}

/// What a calendar holds.
#[derive(Clone, Debug)]
pub struct Calendar {
    pub events: Vec<Event>,
    /// Occurrences of events that are different, by the events' UID.
    pub overrides: BTreeMap<Option<String>, Vec<Event>>,
    /// The names of components besides events and zones.
    pub others: Vec<String>,
    /// The zone of times without one.
    pub zone: String,
    /// Names of zones in the calendar, and what they say that they are.
    pub locations: HashMap<String, String>,
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
        let mut calendar = Self {
            events: Vec::new(),
            overrides: BTreeMap::new(),
            others: Vec::new(),
            zone: "UTC".to_owned(),
            locations: HashMap::new(),
        };
        let mut events: Vec<Event> = Vec::new();
        let mut inside: Vec<String> = Vec::new();
        let mut any = false;
        let mut zone_id = None;
        let mut kept = 0;
        for (number, line) in lines(ics.trim_start_matches('\u{feff}')).enumerate() {
            if number % PAUSE == 0 {
                pause();
            }
            let component = inside.last().map(String::as_str);
            match (component, line.name.as_str()) {
                (_, "BEGIN") => {
                    let name = line.value.trim().to_ascii_uppercase();
                    any |= name == "VCALENDAR";
                    match (component, name.as_str()) {
                        (Some("VCALENDAR"), "VEVENT") => events.push(Event::default()),
                        (Some("VCALENDAR"), "VTIMEZONE") => {}
                        (Some("VCALENDAR"), other) => {
                            calendar.others.push(other.to_owned());
                        }
                        (Some("VEVENT"), other) => {
                            if let Some(event) = events.last_mut() {
                                event.leave_out(other);
                            }
                        }
                        _ => {}
                    }
                    if inside.len() == MAX_DEPTH {
                        return Err(InvalidCalendar(
                            "components of the calendar are nested too deep",
                        ));
                    }
                    inside.push(name);
                }
                (_, "END") => {
                    inside.pop();
                }
                (Some("VEVENT"), _) => {
                    if let Some(event) = events.last_mut() {
                        kept += usize::from(event.push(line, taken));
                    }
                }
                (Some("VCALENDAR"), "X-WR-TIMEZONE") => {
                    calendar.zone = line.value.trim().to_owned();
                }
                (Some("VTIMEZONE"), "TZID") => zone_id = Some(line.value),
                (Some("VTIMEZONE"), "X-LIC-LOCATION") => {
                    if let Some(id) = zone_id.take() {
                        calendar.locations.insert(id, line.value);
                        kept += 1;
                    }
                }
                _ => {}
            }
            if events.len() + calendar.others.len() > MAX_EVENTS {
                return Err(InvalidCalendar("the calendar has too many events"));
            }
            if kept > MAX_LINES {
                return Err(InvalidCalendar("the calendar has too many lines"));
            }
        }
        if !any {
            return Err(InvalidCalendar("the text is no calendar"));
        }
        for event in events {
            if event.one("RECURRENCE-ID").is_some() {
                let overrides = calendar.overrides.entry(event.uid.clone());
                overrides.or_default().push(event);
            } else {
                calendar.events.push(event);
            }
        }
        Ok(calendar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKEN: [&str; 5] = ["UID", "SUMMARY", "STATUS", "RECURRENCE-ID", "DTSTART"];

    fn read(body: &str) -> Result<Calendar, InvalidCalendar> {
        let text = format!("BEGIN:VCALENDAR\n{body}\nEND:VCALENDAR\n");
        Calendar::read(&text, &TAKEN, || ())
    }

    #[test]
    fn events_and_their_changed_occurrences_are_told_apart() {
        let calendar = read(
            "X-WR-TIMEZONE: Europe/Berlin\n\
             BEGIN:VTIMEZONE\nTZID:My zone\nX-LIC-LOCATION:Asia/Tokyo\nEND:VTIMEZONE\n\
             BEGIN:VEVENT\nUID:a\\,1\nSUMMARY:One\nATTENDEE:x\n\
             BEGIN:VALARM\nUID:of the alarm\nEND:VALARM\nEND:VEVENT\n\
             BEGIN:VEVENT\nUID:a\\,1\nRECURRENCE-ID:20260501T100000\nstatus:cancelled\nEND:VEVENT\n\
             BEGIN:VTODO\nSUMMARY:Not this\nEND:VTODO",
        )
        .unwrap();
        assert_eq!(calendar.zone, "Europe/Berlin");
        assert_eq!(calendar.locations["My zone"], "Asia/Tokyo");
        assert_eq!(calendar.others, ["VTODO"]);
        let [event] = &calendar.events[..] else {
            panic!("one event: {:?}", calendar.events);
        };
        assert_eq!(event.uid.as_deref(), Some("a,1"));
        assert_eq!(event.title().as_deref(), Some("One"));
        assert!(!event.is_cancelled());
        let left_out: Vec<&str> = event.left_out.iter().map(String::as_str).collect();
        assert_eq!(left_out, ["ATTENDEE", "VALARM"]);
        assert!(calendar.overrides[&event.uid][0].is_cancelled());
    }

    #[test]
    fn what_is_no_calendar_is_refused() {
        let refused = |text: &str| Calendar::read(text, &TAKEN, || ()).unwrap_err().0;
        assert_eq!(refused(""), "the text is no calendar");
        assert_eq!(
            refused("BEGIN:VEVENT\nEND:VEVENT"),
            "the text is no calendar"
        );
        assert_eq!(
            refused(&"x".repeat(MAX_BYTES + 1)),
            "the calendar is too large"
        );
        let refused = |body: String| read(&body).unwrap_err().0;
        assert_eq!(
            refused("BEGIN:X\n".repeat(MAX_DEPTH)),
            "components of the calendar are nested too deep"
        );
        assert_eq!(
            refused("BEGIN:VEVENT\nEND:VEVENT\n".repeat(MAX_EVENTS + 1)),
            "the calendar has too many events"
        );
        assert_eq!(
            refused(format!(
                "BEGIN:VEVENT\n{}END:VEVENT",
                "SUMMARY:x\n".repeat(MAX_LINES + 1)
            )),
            "the calendar has too many lines"
        );
    }

    #[test]
    fn what_does_not_end_is_still_read() {
        let calendar = Calendar::read(
            "\u{feff}END:X\nBEGIN:vcalendar\r\nBEGIN:VEVENT\r\nSUMMARY:a\r\n b",
            &TAKEN,
            || (),
        );
        assert_eq!(calendar.unwrap().events[0].title().as_deref(), Some("ab"));
    }
}
