//! An event of a calendar, as it is written.

use super::super::parameters;
use super::super::text::{Line, unescape};
use super::leave_out;
use crate::stamp::read_stamp;
use std::collections::BTreeSet;

/// Properties that an event has once.
const ONCE: [&str; 12] = [
    "UID",
    "DTSTART",
    "DTEND",
    "DURATION",
    "RECURRENCE-ID",
    "STATUS",
    "SUMMARY",
    "DESCRIPTION",
    "SEQUENCE",
    "CLASS",
    "DTSTAMP",
    "LAST-MODIFIED",
];

/// Properties that hold a moment by which nothing is planned.
const STAMPS: [&str; 3] = ["DTSTAMP", "CREATED", "LAST-MODIFIED"];

/// The most sentences that are told of one event's lines as not understood, and of their parameters.
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
    /// What of it is no line, or in no order: sentences.
    unread: Vec<String>,
    pub(super) has_end: bool,
    pub(super) is_called_off: bool,
    /// Its place among the events of the calendar.
    place: usize,
}

impl Event {
    /// An event in a VCALENDAR, and its place among all events.
    pub(super) fn at(part: usize, place: usize) -> Self {
        Self {
            part,
            place,
            ..Self::default()
        }
    }

    /// True when the line may be taken.
    pub(super) fn push(&mut self, line: Line, taken: &[&str]) -> bool {
        if !taken.contains(&line.name.as_str()) {
            leave_out(&mut self.left_out, &line.name);
            return false;
        }
        if line.name == "UID" && self.uid.is_none() {
            self.uid = Some(unescape(line.word()));
        }
        self.lines.push(line);
        true
    }

    /// Notes what of its text is not understood.
    pub(super) fn doubt(&mut self, why: String) {
        if self.unread.len() < MAX_UNREAD {
            self.unread.push(why);
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

    /// What the event is called, without the white space that some programs end their lines with.
    pub fn title(&self) -> Option<String> {
        self.one("SUMMARY")
            .map(|line| unescape(line.value.trim_end()))
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
        let mut doubts = self.unread.clone();
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
        let of_line = |line: &Line| {
            let word = line.word();
            let why = || format!("{} {word:.40} is not understood", line.name);
            let doubt = parameters::doubt(line);
            [(!is_understood(line)).then(why), doubt]
        };
        let mut of_lines: Vec<String> = Vec::new();
        for doubt in self.lines.iter().flat_map(of_line).flatten() {
            if of_lines.len() == MAX_UNREAD {
                break;
            }
            if !of_lines.contains(&doubt) {
                of_lines.push(doubt);
            }
        }
        doubts.extend(of_lines);
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

/// False where the value of a property that has few is none of them.
fn is_understood(line: &Line) -> bool {
    let word = line.word();
    let is_one_of = |known: &[&str]| known.iter().any(|one| one.eq_ignore_ascii_case(word));
    match line.name.as_str() {
        "STATUS" => is_one_of(&["TENTATIVE", "CONFIRMED", "CANCELLED", "CANCELED"]),
        "CLASS" => is_one_of(&["PUBLIC", "PRIVATE", "CONFIDENTIAL"]),
        "TRANSP" => is_one_of(&["OPAQUE", "TRANSPARENT"]),
        "SEQUENCE" => word.parse::<i64>().is_ok(),
        // Programs write years that nothing can have been changed in.
        name if STAMPS.contains(&name) => word.bytes().all(|one| {
            one.is_ascii_digit() || matches!(one, b'T' | b'Z' | b':' | b'-' | b'+' | b'.')
        }),
        _ => true,
    }
}
