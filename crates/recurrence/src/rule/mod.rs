//! Recurrence rules of RFC 5545, from their text and back.
//!
//! A [`Rule`] is what the text says and nothing more: what it leaves to the first start (the
//! weekday of a weekly rule without BYDAY, say) is decided in [`crate::expand`].

mod parse;
mod text;

#[cfg(test)]
mod tests;

pub use parse::MAX_BYTES;

use crate::daylight_saving::TimeZone;
use crate::days::{EARLIEST, LATEST};
use std::fmt;

pub(crate) const WEEKDAYS: [&str; 7] = ["SU", "MO", "TU", "WE", "TH", "FR", "SA"];
const MONDAY: u8 = 1;

/// FREQ (RFC 5545, 3.3.10): how long the periods are that a rule goes by. The longest is the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Freq {
    Yearly,
    Monthly,
    Weekly,
    Daily,
    Hourly,
    Minutely,
    Secondly,
}

impl Freq {
    const ALL: [(&'static str, Self); 7] = [
        ("YEARLY", Self::Yearly),
        ("MONTHLY", Self::Monthly),
        ("WEEKLY", Self::Weekly),
        ("DAILY", Self::Daily),
        ("HOURLY", Self::Hourly),
        ("MINUTELY", Self::Minutely),
        ("SECONDLY", Self::Secondly),
    ];

    /// As in the text.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, freq)| *freq == self)
            .map_or("", |(name, _)| name)
    }
}

/// Where a rule ends: COUNT or UNTIL, or neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Never,
    /// After this many occurrences, 1 to 999,999,999.
    Count(u32),
    /// No start is later than this, in seconds of clock time since 1970-01-01.
    Until(i64),
    /// As `Until`, but in UTC: the writer of the rule knows the zone, the rule does not.
    /// [`Rule::end_in_clock_time`] makes an `Until` of it; without that it is taken for one.
    UntilUtc(i64),
}

/// A rule (RFC 5545, 3.3.10).
///
/// Sets of small numbers are bit masks; an empty one is a part that is not there. What
/// [`Rule::parse`] gives is within the ranges below. Other numbers are a mistake of the caller's: such a
/// rule may have no starts, and nothing panics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub freq: Freq,
    /// 1 to 999,999,999.
    pub interval: u32,
    pub end: End,
    /// BYMONTH: bits 1 to 12.
    pub months: u16,
    /// BYWEEKNO: 1 to 53, or from the end -1 to -53.
    pub week_numbers: Vec<i8>,
    /// BYYEARDAY: 1 to 366, or from the end -1 to -366.
    pub year_days: Vec<i16>,
    /// BYMONTHDAY: bits 1 to 31.
    pub month_days: u32,
    /// BYMONTHDAY counted from the end of the month, negative in the text: bits 1 to 31.
    pub month_days_from_end: u32,
    /// BYDAY without a number: bits 0 (Sunday) to 6.
    pub weekdays: u8,
    /// BYDAY with a number: which one (from the end if negative) of the month or year, ±1 to ±53,
    /// and the weekday, 0 (Sunday) to 6.
    pub nth_weekdays: Vec<(i8, u8)>,
    /// BYHOUR: bits 0 to 23.
    pub hours: u32,
    /// BYMINUTE: bits 0 to 59.
    pub minutes: u64,
    /// BYSECOND: bits 0 to 59.
    pub seconds: u64,
    /// BYSETPOS: 1 to 366, or from the end -1 to -366.
    pub positions: Vec<i16>,
    /// WKST: the first day of the week, 0 (Sunday) to 6.
    pub week_start: u8,
}

/// Which part of a rule is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRule {
    /// The name of the part, such as BYDAY; 40 characters at most.
    pub part: String,
    /// A sentence.
    pub why: String,
}

impl fmt::Display for InvalidRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.why)
    }
}

impl std::error::Error for InvalidRule {}

impl InvalidRule {
    /// `part` is cut to 40 characters: it may be anything that somebody wrote.
    pub fn new(part: &str, why: impl Into<String>) -> Self {
        Self {
            part: part.chars().take(40).collect(),
            why: why.into(),
        }
    }
}

impl Rule {
    /// A rule without any part but its frequency.
    pub fn every(freq: Freq) -> Self {
        Self {
            freq,
            interval: 1,
            end: End::Never,
            months: 0,
            week_numbers: Vec::new(),
            year_days: Vec::new(),
            month_days: 0,
            month_days_from_end: 0,
            weekdays: 0,
            nth_weekdays: Vec::new(),
            hours: 0,
            minutes: 0,
            seconds: 0,
            positions: Vec::new(),
            week_start: MONDAY,
        }
    }

    fn has_other_parts(&self) -> bool {
        self.months != 0
            || !self.week_numbers.is_empty()
            || !self.year_days.is_empty()
            || self.month_days | self.month_days_from_end != 0
            || self.weekdays != 0
            || !self.nth_weekdays.is_empty()
            || self.hours != 0
            || self.minutes != 0
            || self.seconds != 0
    }

    /// Brings an end that is in UTC to the clocks of the zone that the rule is in; to the nearest
    /// end of the calendar where those show a year that it does not have.
    pub fn end_in_clock_time(&mut self, zone: &impl TimeZone) {
        if let End::UntilUtc(until) = self.end {
            self.end = End::Until(zone.wall(until).clamp(EARLIEST, LATEST));
        }
    }

    /// True when it may have many starts a day: more than one an hour, or FREQ=HOURLY and below.
    pub fn is_dense(&self) -> bool {
        let times = self.hours.count_ones().max(1)
            * self.minutes.count_ones().max(1)
            * self.seconds.count_ones().max(1);
        self.freq > Freq::Daily || times > 24
    }

    /// The rule without one of its parts, for each part that it could do without, and the name of
    /// that part.
    pub fn with_one_part_less(&self) -> Vec<(&'static str, Self)> {
        let mut lesser = Vec::new();
        let mut without = |part: &'static str, change: fn(&mut Self)| {
            let mut rule = self.clone();
            change(&mut rule);
            if rule != *self && (rule.positions.is_empty() || rule.has_other_parts()) {
                lesser.push((part, rule));
            }
        };
        if matches!(self.end, End::Until(_)) {
            without("UNTIL", |rule| rule.end = End::Never);
        }
        without("BYSETPOS", |rule| rule.positions.clear());
        without("BYWEEKNO", |rule| rule.week_numbers.clear());
        without("BYYEARDAY", |rule| rule.year_days.clear());
        without("BYMONTHDAY", |rule| {
            rule.month_days = 0;
            rule.month_days_from_end = 0;
        });
        without("BYDAY", |rule| {
            rule.weekdays = 0;
            rule.nth_weekdays.clear();
        });
        without("BYMONTH", |rule| rule.months = 0);
        without("BYHOUR", |rule| rule.hours = 0);
        without("BYMINUTE", |rule| rule.minutes = 0);
        without("BYSECOND", |rule| rule.seconds = 0);
        without("INTERVAL", |rule| rule.interval = 1);
        lesser
    }
}

/// The bits of a set, from the lowest.
pub(crate) fn bits(set: u64) -> impl Iterator<Item = i64> {
    (0..64).filter(move |bit| set & (1 << bit) != 0)
}
