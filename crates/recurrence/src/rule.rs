//! Recurrence rules of RFC 5545, from their text and back.
//!
//! A [`Rule`] is what the text says and nothing more: what it leaves to the first start (the
//! weekday of a weekly rule without BYDAY, say) is decided in [`super::expand`].

use super::days::{self, DAY_SECONDS};
use std::fmt::{self, Write};

/// The longest text that is read.
pub const MAX_CHARS: usize = 4_000;

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

    /// Reads a rule such as `FREQ=WEEKLY;BYDAY=MO,WE`, with or without `RRULE:` before it, in
    /// upper or lower case.
    pub fn parse(text: &str) -> Result<Self, InvalidRule> {
        if text.len() > MAX_CHARS {
            let why = format!("It is longer than {MAX_CHARS} characters.");
            return Err(InvalidRule::new("RRULE", why));
        }
        let text = text.trim().to_ascii_uppercase();
        let text = text.strip_prefix("RRULE:").unwrap_or(&text);
        let mut parts: Vec<(&str, &str)> = Vec::new();
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| InvalidRule::new(part, "It is no NAME=value."))?;
            if parts.iter().any(|(other, _)| *other == name) {
                return Err(InvalidRule::new(name, "It is there twice."));
            }
            parts.push((name, value));
        }
        let freq = parts.iter().find(|(name, _)| *name == "FREQ");
        let freq = match freq {
            None => return Err(InvalidRule::new("FREQ", "It is missing.")),
            Some((_, value)) => {
                Freq::ALL
                    .iter()
                    .find(|(name, _)| name == value)
                    .ok_or_else(|| {
                        InvalidRule::new("FREQ", format!("{value:.20} is no frequency."))
                    })?
                    .1
            }
        };
        let mut rule = Self::every(freq);
        for (name, value) in parts {
            rule.read_part(name, value)?;
        }
        rule.check()?;
        Ok(rule)
    }

    fn read_part(&mut self, name: &str, value: &str) -> Result<(), InvalidRule> {
        let bits = |numbers: Vec<i32>| numbers.into_iter().fold(0u64, |set, n| set | 1 << n);
        match name {
            "FREQ" => {}
            "INTERVAL" => self.interval = positive(name, value)?,
            "COUNT" | "UNTIL" if self.end != End::Never => {
                return Err(InvalidRule::new(
                    name,
                    "COUNT and UNTIL exclude each other.",
                ));
            }
            "COUNT" => self.end = End::Count(positive(name, value)?),
            "UNTIL" => self.end = until(value)?,
            "BYMONTH" => self.months = bits(numbers(name, value, 1, 12, false)?) as u16,
            "BYWEEKNO" => {
                let weeks = sorted(numbers(name, value, 1, 53, true)?);
                self.week_numbers = weeks.into_iter().map(|week| week as i8).collect();
            }
            "BYYEARDAY" => {
                let days = sorted(numbers(name, value, 1, 366, true)?);
                self.year_days = days.into_iter().map(|day| day as i16).collect();
            }
            "BYMONTHDAY" => {
                for day in numbers(name, value, 1, 31, true)? {
                    if day > 0 {
                        self.month_days |= 1 << day;
                    } else {
                        self.month_days_from_end |= 1 << -day;
                    }
                }
            }
            "BYDAY" => self.read_weekdays(value)?,
            "BYHOUR" => self.hours = bits(numbers(name, value, 0, 23, false)?) as u32,
            "BYMINUTE" => self.minutes = bits(numbers(name, value, 0, 59, false)?),
            "BYSECOND" => {
                // Clocks without leap seconds take the second 60 for 59.
                let seconds = numbers(name, value, 0, 60, false)?;
                self.seconds = bits(seconds.into_iter().map(|second| second.min(59)).collect());
            }
            "BYSETPOS" => {
                let positions = sorted(numbers(name, value, 1, 366, true)?);
                self.positions = positions.into_iter().map(|place| place as i16).collect();
            }
            "WKST" => {
                self.week_start = weekday(value)
                    .ok_or_else(|| InvalidRule::new(name, format!("{value:.20} is no weekday.")))?;
            }
            _ => return Err(InvalidRule::new(name, "RFC 5545 has no such part.")),
        }
        Ok(())
    }

    fn read_weekdays(&mut self, value: &str) -> Result<(), InvalidRule> {
        let wrong = |item: &str| {
            let why = format!("{item:.20} is no weekday such as MO, 2TU or -1FR.");
            InvalidRule::new("BYDAY", why)
        };
        for item in value.split(',') {
            if !item.is_ascii() || item.len() < 2 {
                return Err(wrong(item));
            }
            let (number, name) = item.split_at(item.len() - 2);
            let day = weekday(name).ok_or_else(|| wrong(item))?;
            if number.is_empty() {
                self.weekdays |= 1 << day;
                continue;
            }
            let number = number.strip_prefix('+').unwrap_or(number);
            match number.parse::<i8>() {
                Ok(n) if n != 0 && n.abs() <= 53 && !number.starts_with('+') => {
                    self.nth_weekdays.push((n, day));
                }
                _ => return Err(wrong(item)),
            }
        }
        self.nth_weekdays
            .sort_unstable_by_key(|(n, day)| (*day, *n));
        self.nth_weekdays.dedup();
        Ok(())
    }

    /// What RFC 5545 forbids to stand together.
    fn check(&self) -> Result<(), InvalidRule> {
        let freq = self.freq.name();
        let refused = |part: &str, why: String| Err(InvalidRule::new(part, why));
        if !self.week_numbers.is_empty() && self.freq != Freq::Yearly {
            return refused(
                "BYWEEKNO",
                format!("It goes with YEARLY only, not with {freq}."),
            );
        }
        if !self.year_days.is_empty()
            && matches!(self.freq, Freq::Monthly | Freq::Weekly | Freq::Daily)
        {
            return refused("BYYEARDAY", format!("It does not go with {freq}."));
        }
        if self.month_days | self.month_days_from_end != 0 && self.freq == Freq::Weekly {
            return refused("BYMONTHDAY", "It does not go with WEEKLY.".to_owned());
        }
        if !self.nth_weekdays.is_empty() {
            if !matches!(self.freq, Freq::Yearly | Freq::Monthly) {
                let why = format!("Numbered weekdays go with YEARLY and MONTHLY, not with {freq}.");
                return refused("BYDAY", why);
            }
            if !self.week_numbers.is_empty() {
                return refused(
                    "BYDAY",
                    "Numbered weekdays do not go with BYWEEKNO.".to_owned(),
                );
            }
            let most = if self.freq == Freq::Monthly || self.months != 0 {
                5
            } else {
                53
            };
            if let Some((n, _)) = self.nth_weekdays.iter().find(|(n, _)| n.abs() > most) {
                return refused("BYDAY", format!("No month has a weekday {n} times."));
            }
        }
        if !self.positions.is_empty() && !self.has_other_parts() {
            return refused(
                "BYSETPOS",
                "It chooses from what another BY part gives.".to_owned(),
            );
        }
        Ok(())
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

/// The one form of a rule: parts in a fixed order, lists sorted, defaults left out.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FREQ={}", self.freq.name())?;
        if self.interval != 1 {
            write!(f, ";INTERVAL={}", self.interval)?;
        }
        match self.end {
            End::Never => {}
            End::Count(count) => write!(f, ";COUNT={count}")?,
            End::Until(at) => write!(f, ";UNTIL={}", stamp(at))?,
            End::UntilUtc(at) => write!(f, ";UNTIL={}Z", stamp(at))?,
        }
        list(f, "BYMONTH", bits(self.months.into()))?;
        list(f, "BYWEEKNO", self.week_numbers.iter())?;
        list(f, "BYYEARDAY", self.year_days.iter())?;
        let from_end = bits(self.month_days_from_end.into()).map(|day| -day);
        list(
            f,
            "BYMONTHDAY",
            bits(self.month_days.into()).chain(from_end),
        )?;
        // Weeks begin on Monday for most readers.
        let days = (1..8)
            .map(|day| day % 7)
            .filter(|day| self.weekdays & (1 << day) != 0);
        let days = days.map(|day: usize| WEEKDAYS[day].to_owned());
        let nth = self.nth_weekdays.iter();
        let nth = nth.map(|(n, day)| format!("{n}{}", WEEKDAYS[usize::from(*day)]));
        list(f, "BYDAY", days.chain(nth))?;
        list(f, "BYHOUR", bits(self.hours.into()))?;
        list(f, "BYMINUTE", bits(self.minutes))?;
        list(f, "BYSECOND", bits(self.seconds))?;
        list(f, "BYSETPOS", self.positions.iter())?;
        if self.week_start != MONDAY {
            write!(f, ";WKST={}", WEEKDAYS[usize::from(self.week_start)])?;
        }
        Ok(())
    }
}

pub fn bits(set: u64) -> impl Iterator<Item = i64> {
    (0..64).filter(move |bit| set & (1 << bit) != 0)
}

fn list(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    values: impl Iterator<Item = impl fmt::Display>,
) -> fmt::Result {
    for (index, value) in values.enumerate() {
        if index == 0 {
            write!(f, ";{name}={value}")?;
        } else {
            write!(f, ",{value}")?;
        }
    }
    Ok(())
}

/// `20260501T180000`, of seconds since 1970-01-01.
pub fn stamp(at: i64) -> String {
    let (day, second) = (at.div_euclid(DAY_SECONDS), at.rem_euclid(DAY_SECONDS));
    let (year, month, day) = days::to_civil(day as i32);
    let mut text = String::with_capacity(15);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let _ = write!(
        text,
        "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}"
    );
    text
}

/// Reads `20260501T180000`, with or without a Z, as seconds since 1970-01-01.
pub fn read_stamp(text: &str) -> Option<(i64, bool)> {
    let (text, utc) = match text.strip_suffix('Z') {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (date, time) = text.split_once('T')?;
    if time.len() != 6 || !time.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| time[range].parse::<i64>().ok();
    let (hour, minute, second) = (number(0..2)?, number(2..4)?, number(4..6)?.min(59));
    if hour > 23 || minute > 59 || time[4..].parse::<u8>().ok()? > 60 {
        return None;
    }
    let day = i64::from(read_date(date)?);
    Some((day * DAY_SECONDS + hour * 3600 + minute * 60 + second, utc))
}

/// Reads `20260501` as a day.
pub fn read_date(text: &str) -> Option<i32> {
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let year = text[..4].parse().ok()?;
    let month = text[4..6].parse().ok()?;
    let day = text[6..].parse().ok()?;
    let fits =
        year > 0 && (1..=12).contains(&month) && day > 0 && day <= days::of_month(year, month);
    fits.then(|| days::from_civil(year, month, day))
}

/// A date is a whole day, its last second included.
fn until(value: &str) -> Result<End, InvalidRule> {
    if let Some((at, utc)) = read_stamp(value) {
        return Ok(if utc {
            End::UntilUtc(at)
        } else {
            End::Until(at)
        });
    }
    let day = read_date(value).ok_or_else(|| {
        let why = format!("{value:.20} is no date such as 20261231 or 20261231T180000.");
        InvalidRule::new("UNTIL", why)
    })?;
    Ok(End::Until((i64::from(day) + 1) * DAY_SECONDS - 1))
}

fn weekday(name: &str) -> Option<u8> {
    WEEKDAYS
        .iter()
        .position(|day| *day == name)
        .map(|day| day as u8)
}

fn positive(name: &str, value: &str) -> Result<u32, InvalidRule> {
    const MOST: u32 = 999_999_999;
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(number @ 1..=MOST) if digits => Ok(number),
        _ => {
            let why = format!("{value:.20} is no number from 1 to {MOST}.");
            Err(InvalidRule::new(name, why))
        }
    }
}

/// Numbers from `least` to `most`, or also from the end, negative.
fn numbers(
    name: &str,
    value: &str,
    least: i32,
    most: i32,
    from_end: bool,
) -> Result<Vec<i32>, InvalidRule> {
    let read = |item: &str| {
        let digits = item.strip_prefix(['+', '-']).unwrap_or(item);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number: i32 = item.parse().ok()?;
        let magnitude = if from_end { number.abs() } else { number };
        (least..=most).contains(&magnitude).then_some(number)
    };
    value
        .split(',')
        .map(|item| {
            read(item).ok_or_else(|| {
                let sign = if from_end { ", or from -1 down" } else { "" };
                let why = format!("{item:.20} is no number from {least} to {most}{sign}.");
                InvalidRule::new(name, why)
            })
        })
        .collect()
}

fn sorted(mut numbers: Vec<i32>) -> Vec<i32> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> String {
        Rule::parse(text).unwrap().to_string()
    }

    fn wrong_part(text: &str) -> String {
        Rule::parse(text).unwrap_err().part
    }

    #[test]
    fn a_rule_has_one_form() {
        let all = "FREQ=YEARLY;INTERVAL=2;COUNT=10;BYMONTH=1,12;BYYEARDAY=-1,200;BYMONTHDAY=1,-1;\
                   BYDAY=MO,SU,-1TU,2TU;BYHOUR=0,23;BYMINUTE=0,59;BYSECOND=0,59;BYSETPOS=-1,1;WKST=SU";
        assert_eq!(form(all), all);
        assert_eq!(
            form(" rrule:byday=we,mo,WE;freq=weekly;interval=1;wkst=mo "),
            "FREQ=WEEKLY;BYDAY=MO,WE"
        );
        assert_eq!(
            form("FREQ=DAILY;UNTIL=20260501"),
            "FREQ=DAILY;UNTIL=20260501T235959"
        );
        assert_eq!(
            form("FREQ=DAILY;UNTIL=20260501T180000Z;"),
            "FREQ=DAILY;UNTIL=20260501T180000Z"
        );
        assert_eq!(form("FREQ=MONTHLY;BYDAY=+1MO"), "FREQ=MONTHLY;BYDAY=1MO");
        assert_eq!(form("FREQ=DAILY;BYSECOND=60"), "FREQ=DAILY;BYSECOND=59");
        assert_eq!(
            form("FREQ=YEARLY;BYWEEKNO=53,-1,1"),
            "FREQ=YEARLY;BYWEEKNO=-1,1,53"
        );
    }

    #[test]
    fn the_part_that_is_wrong_is_named() {
        for (text, part) in [
            ("", "FREQ"),
            ("INTERVAL=2", "FREQ"),
            ("FREQ=FORTNIGHTLY", "FREQ"),
            ("FREQ=DAILY;FREQ=DAILY", "FREQ"),
            ("FREQ=DAILY;INTERVAL=0", "INTERVAL"),
            ("FREQ=DAILY;INTERVAL=-1", "INTERVAL"),
            ("FREQ=DAILY;INTERVAL=+1", "INTERVAL"),
            ("FREQ=DAILY;INTERVAL=99999999999999999999", "INTERVAL"),
            ("FREQ=DAILY;COUNT=0", "COUNT"),
            ("FREQ=DAILY;COUNT=1;UNTIL=20260101", "UNTIL"),
            ("FREQ=DAILY;UNTIL=20260101;COUNT=1", "COUNT"),
            ("FREQ=DAILY;UNTIL=20260230", "UNTIL"),
            ("FREQ=DAILY;UNTIL=20260101T240000", "UNTIL"),
            ("FREQ=DAILY;UNTIL=tomorrow", "UNTIL"),
            ("FREQ=DAILY;BYMONTH=13", "BYMONTH"),
            ("FREQ=DAILY;BYMONTH=-1", "BYMONTH"),
            ("FREQ=DAILY;BYMONTH=", "BYMONTH"),
            ("FREQ=DAILY;BYMONTHDAY=0", "BYMONTHDAY"),
            ("FREQ=DAILY;BYMONTHDAY=32", "BYMONTHDAY"),
            ("FREQ=WEEKLY;BYMONTHDAY=1", "BYMONTHDAY"),
            ("FREQ=MONTHLY;BYYEARDAY=1", "BYYEARDAY"),
            ("FREQ=YEARLY;BYYEARDAY=367", "BYYEARDAY"),
            ("FREQ=MONTHLY;BYWEEKNO=1", "BYWEEKNO"),
            ("FREQ=YEARLY;BYWEEKNO=54", "BYWEEKNO"),
            ("FREQ=WEEKLY;BYDAY=1MO", "BYDAY"),
            ("FREQ=YEARLY;BYWEEKNO=1;BYDAY=1MO", "BYDAY"),
            ("FREQ=MONTHLY;BYDAY=6MO", "BYDAY"),
            ("FREQ=YEARLY;BYDAY=54MO", "BYDAY"),
            ("FREQ=YEARLY;BYDAY=0MO", "BYDAY"),
            ("FREQ=YEARLY;BYDAY=++1MO", "BYDAY"),
            ("FREQ=YEARLY;BYDAY=é", "BYDAY"),
            ("FREQ=YEARLY;BYDAY=ÄÖ", "BYDAY"),
            ("FREQ=DAILY;BYHOUR=24", "BYHOUR"),
            ("FREQ=DAILY;BYMINUTE=60", "BYMINUTE"),
            ("FREQ=DAILY;BYSECOND=61", "BYSECOND"),
            ("FREQ=DAILY;BYSETPOS=1", "BYSETPOS"),
            ("FREQ=DAILY;BYDAY=MO;BYSETPOS=0", "BYSETPOS"),
            ("FREQ=DAILY;WKST=XX", "WKST"),
            ("FREQ=DAILY;BYEASTER=0", "BYEASTER"),
            ("FREQ=DAILY;nonsense", "NONSENSE"),
        ] {
            assert_eq!(wrong_part(text), part, "{text}");
        }
        assert_eq!(
            wrong_part(&format!("FREQ=DAILY;{}", "X".repeat(MAX_CHARS))),
            "RRULE"
        );
    }
}
