//! Recurrence rules of RFC 5545, from their text and back.
//!
//! A [`Rule`] is what the text says and nothing more: what it leaves to the first start (the
//! weekday of a weekly rule without BYDAY, say) is decided in [`crate::expand`].

mod parse;
mod text;

#[cfg(test)]
mod tests;

pub use parse::MAX_CHARS;

use crate::clock::TimeZone;

const WEEKDAYS: [&str; 7] = ["SU", "MO", "TU", "WE", "TH", "FR", "SA"];
const MONDAY: u8 = 1;

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

    fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, freq)| *freq == self)
            .map_or("", |(name, _)| name)
    }
}

/// Where a rule ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Never,
    /// After this many occurrences.
    Count(u32),
    /// No start is later than this, in seconds of wall-clock time since 1970-01-01.
    Until(i64),
    /// As `Until`, but in UTC: the writer of the rule knows the zone, the rule does not.
    UntilUtc(i64),
}

/// Sets of small numbers are bit masks; an empty one is a part that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub freq: Freq,
    pub interval: u32,
    pub end: End,
    /// Bits 1 to 12.
    pub months: u16,
    pub week_numbers: Vec<i8>,
    pub year_days: Vec<i16>,
    /// Bits 1 to 31.
    pub month_days: u32,
    /// Bits 1 to 31, counted from the end of the month.
    pub month_days_from_end: u32,
    /// Bits 0 (Sunday) to 6: BYDAY without a number.
    pub weekdays: u8,
    /// BYDAY with a number: which one (from the end if negative), and the weekday.
    pub nth_weekdays: Vec<(i8, u8)>,
    pub hours: u32,
    pub minutes: u64,
    pub seconds: u64,
    pub positions: Vec<i16>,
    /// First day of the week, 0 (Sunday) to 6.
    pub week_start: u8,
}

/// Which part of a rule is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRule {
    pub part: String,
    pub why: String,
}

impl InvalidRule {
    pub fn new(part: &str, why: impl Into<String>) -> Self {
        Self {
            part: part.chars().take(40).collect(),
            why: why.into(),
        }
    }
}

impl Rule {
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

    /// Brings an end that is in UTC to the clocks of the zone that the rule is in.
    pub fn end_in_clock_time(&mut self, zone: &impl TimeZone) {
        if let End::UntilUtc(until) = self.end {
            self.end = End::Until(zone.wall(until));
        }
    }

    /// True when it may have many starts a day.
    pub fn is_dense(&self) -> bool {
        let times = self.hours.count_ones().max(1)
            * self.minutes.count_ones().max(1)
            * self.seconds.count_ones().max(1);
        self.freq > Freq::Daily || times > 24
    }

    /// The rule without one of its parts, for each part that it could do without.
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

pub fn bits(set: u64) -> impl Iterator<Item = i64> {
    (0..64).filter(move |bit| set & (1 << bit) != 0)
}
