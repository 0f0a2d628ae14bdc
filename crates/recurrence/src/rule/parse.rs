//! Reading a rule, and what RFC 5545 forbids in it.

use super::{End, Freq, InvalidRule, Rule, WEEKDAYS};
use crate::days::DAY_SECONDS;
use crate::stamp::{read_date, read_stamp};

/// The longest text that is read, in bytes; no rule's own form is longer.
pub const MAX_BYTES: usize = 4_000;

impl Rule {
    /// Reads a rule such as `FREQ=WEEKLY;BYDAY=MO,WE` (RFC 5545, 3.3.10), with or without
    /// `RRULE:` before it, in upper or lower case, its parts in any order. An UNTIL that is a date
    /// is the last second of that day; the second 60 is 59.
    ///
    /// Errors: the part that is wrong, missing, there twice, or not allowed beside another, and a
    /// text that is longer than [`MAX_BYTES`].
    pub fn parse(text: &str) -> Result<Self, InvalidRule> {
        if text.len() > MAX_BYTES {
            return Err(too_long());
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
        // A date in UNTIL is written with its time.
        if text.len() + 7 > MAX_BYTES && rule.to_string().len() > MAX_BYTES {
            return Err(too_long());
        }
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
}

fn too_long() -> InvalidRule {
    let why = format!("It is longer than {MAX_BYTES} bytes.");
    InvalidRule::new("RRULE", why)
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
