//! Expands a rule in wall-clock time: seconds since 1970-01-01 by a clock that is never changed.
//!
//! An [`Expansion`] goes from period to period of the rule's frequency (a year, a month, …),
//! works out the days of each by bit masks, and yields the starts in order. It begins at any
//! point without walking there, unless the rule counts its occurrences.
//!
//! Why not the crate `rrule`: it brings a zone database of its own (ours must be the server's),
//! walks from the first start to each window, and has no limit in work that a caller can set.
//! What python-dateutil makes of a rule is what this is tested against, rule by rule.

use super::days::{self, DAY_SECONDS};
use super::rule::{End, Freq, InvalidRule, Rule, bits};

/// The most periods and starts that one expansion looks at: some hundredths of a second.
const WORK: u32 = 1_000_000;

/// The most that it looks at for one start: the days of forty years, which pass between two
/// Sundays that are 29 February, and some. Rarer still are only rules with an odd INTERVAL.
const PATIENCE: u32 = 16_000;

/// The starts for which a rule that is written is tried.
const TRIED: usize = 20;

const FIRST_YEAR: i32 = 1;
const LAST_YEAR: i32 = 9999;

/// The last second of the year 9999.
pub const LAST: i64 = 253_402_300_799;

/// The years of a rule look alike when they have the same length, begin on the same weekday,
/// and follow a year of the same length (for the weeks that belong to that one).
const KINDS_OF_YEARS: usize = 28;

/// The starts of a rule from some point on.
pub struct Expansion {
    /// The rule, with what it leaves to the first start.
    rule: Rule,
    first: i64,
    until: i64,
    /// How many starts are left of a rule that counts them.
    left: Option<u32>,
    from: i64,
    /// Times within a period that is a day, an hour or a minute, in seconds from its beginning.
    times: Vec<u32>,
    /// The period of the first start: a year, a month, or a day's, hour's, … number.
    origin: i64,
    next_period: i64,
    years: Vec<Option<Box<[u16]>>>,
    /// The days of the current period, the seconds after midnight at which it begins, and the
    /// place within days × times that comes next.
    days: Vec<i32>,
    offset: i64,
    day: usize,
    time: usize,
    /// The starts of the current period, last first, of a rule with BYSETPOS.
    chosen: Vec<i64>,
    /// What may still be looked at, in all and for the next start.
    work: u32,
    patience: u32,
    done: bool,
}

impl Expansion {
    /// The starts at or after `from`. `first` is the schedule's own first start; nothing is
    /// before it, and it is one of the starts only if the rule says so.
    pub fn new(rule: &Rule, first: i64, from: i64) -> Self {
        let mut rule = rule.clone();
        complete(&mut rule, first);
        let (until, left) = match rule.end {
            End::Never => (LAST, None),
            End::Until(until) | End::UntilUtc(until) => (until.min(LAST), None),
            End::Count(count) => (LAST, Some(count)),
        };
        let day = first.div_euclid(DAY_SECONDS) as i32;
        let (year, month, _) = days::to_civil(day);
        let origin = match rule.freq {
            Freq::Yearly => i64::from(year),
            Freq::Monthly => i64::from(year) * 12 + i64::from(month) - 1,
            Freq::Weekly => i64::from(week_of(day, rule.week_start)),
            freq => first.div_euclid(unit(freq)),
        };
        let mut expansion = Self {
            times: times(&rule),
            rule,
            first,
            until,
            left,
            from,
            origin,
            next_period: 0,
            years: Vec::new(),
            days: Vec::new(),
            offset: 0,
            day: 0,
            time: 0,
            chosen: Vec::new(),
            work: WORK,
            patience: PATIENCE,
            done: until < first,
        };
        if left.is_none() && from > first {
            expansion.next_period = expansion.period_of(from.min(LAST));
        }
        expansion
    }

    /// The first start of a rule; without a rule, the only one.
    pub fn first_start(rule: Option<&Rule>, first: i64) -> Option<i64> {
        match rule {
            Some(rule) => Self::new(rule, first, first).next(),
            None => Some(first),
        }
    }

    /// Ends after a moment, at which nobody looks any more.
    pub fn until(mut self, last: i64) -> Self {
        self.until = self.until.min(last);
        self
    }

    /// True when the expansion gave up: what comes next, if anything, is too far to look for.
    pub fn is_exhausted(&self) -> bool {
        self.work == 0 || self.patience == 0
    }

    /// A period that begins at or before a moment.
    fn period_of(&self, at: i64) -> i64 {
        let day = at.div_euclid(DAY_SECONDS) as i32;
        let (year, month, _) = days::to_civil(day);
        let interval = i64::from(self.rule.interval);
        match self.rule.freq {
            Freq::Yearly => (i64::from(year) - self.origin) / interval,
            Freq::Monthly => (i64::from(year) * 12 + i64::from(month) - 1 - self.origin) / interval,
            Freq::Weekly => (i64::from(day) - self.origin) / 7 / interval,
            freq => (at.div_euclid(unit(freq)) - self.origin) / interval,
        }
    }

    /// Works out the days of the next period; false after the last one.
    fn next_days(&mut self) -> bool {
        self.days.clear();
        (self.day, self.time) = (0, 0);
        let steps = self.next_period * i64::from(self.rule.interval);
        self.next_period += 1;
        match self.rule.freq {
            Freq::Yearly => {
                let year = self.origin + steps;
                if year > self.last_year() {
                    return false;
                }
                self.days_of_year(year as i32);
            }
            Freq::Monthly => {
                let months = self.origin + steps;
                if months / 12 > self.last_year() {
                    return false;
                }
                self.days_of_month((months / 12) as i32, (months % 12) as u32 + 1);
            }
            Freq::Weekly => {
                let day = self.origin + steps * 7;
                if day * DAY_SECONDS > self.until {
                    return false;
                }
                // The first week begins with the first start, also for BYSETPOS.
                let first = self.first.div_euclid(DAY_SECONDS);
                for day in day.max(first) as i32..day as i32 + 7 {
                    if self.other_day(day).is_none() {
                        self.days.push(day);
                    }
                }
            }
            Freq::Daily => {
                let day = self.origin + steps;
                if day * DAY_SECONDS > self.until {
                    return false;
                }
                match self.other_day(day as i32) {
                    None => self.days.push(day as i32),
                    Some(other) => self.skip_to(i64::from(other)),
                }
            }
            freq => {
                let at = (self.origin + steps) * unit(freq);
                if at > self.until {
                    return false;
                }
                self.part_of_day(at);
            }
        }
        if self.rule.positions.is_empty() {
            self.seek();
        } else {
            self.choose();
        }
        true
    }

    fn last_year(&self) -> i64 {
        let (year, ..) = days::to_civil(self.until.div_euclid(DAY_SECONDS) as i32);
        i64::from(year.min(LAST_YEAR))
    }

    /// Goes on with the first period that begins at or after a place, counted in periods' units.
    fn skip_to(&mut self, place: i64) {
        let interval = i64::from(self.rule.interval);
        let distance = place - self.origin;
        let next = distance.div_euclid(interval) + i64::from(distance.rem_euclid(interval) != 0);
        self.next_period = self.next_period.max(next);
    }

    /// Passes by what is before the starts that are asked for, which a period may have many of.
    fn seek(&mut self) {
        let floor = if self.left.is_some() {
            self.first
        } else {
            self.first.max(self.from)
        };
        let (offset, times) = (self.offset, &self.times);
        let last = times.last().map_or(0, |time| i64::from(*time));
        let begin = |day: &i32| i64::from(*day) * DAY_SECONDS + offset;
        self.day = self.days.partition_point(|day| begin(day) + last < floor);
        if let Some(day) = self.days.get(self.day) {
            let begin = begin(day);
            self.time = times.partition_point(|time| begin + i64::from(*time) < floor);
        }
    }

    /// An hour, a minute or a second; where its day or hour is none of the rule's, the next
    /// period is the first one after it.
    fn part_of_day(&mut self, at: i64) {
        let day = at.div_euclid(DAY_SECONDS);
        let second = at.rem_euclid(DAY_SECONDS);
        let rule = &self.rule;
        let other = if let Some(other) = self.other_day(day as i32) {
            i64::from(other) * DAY_SECONDS
        } else if !has(rule.hours.into(), second / 3600) {
            at - second % 3600 + 3600
        } else if rule.freq > Freq::Hourly && !has(rule.minutes, second / 60 % 60) {
            at - second % 60 + 60
        } else if rule.freq == Freq::Secondly && !has(rule.seconds, second % 60) {
            match rule.seconds >> (second % 60) {
                0 => at - second % 60 + 60,
                later => at + i64::from(later.trailing_zeros()),
            }
        } else {
            self.days.push(day as i32);
            self.offset = second;
            return;
        };
        self.skip_to(other.div_euclid(unit(rule.freq)));
    }

    /// None for a day of the rule: by months, days of the month, plain weekdays, and days of the
    /// year where a day is a period or more than one. Else the day from which to look on.
    fn other_day(&self, day: i32) -> Option<i32> {
        let rule = &self.rule;
        if rule.weekdays != 0 && rule.weekdays & (1 << days::weekday(day)) == 0 {
            return Some(day + 1);
        }
        if rule.months == 0
            && rule.month_days | rule.month_days_from_end == 0
            && rule.year_days.is_empty()
        {
            return None;
        }
        let (year, month, of_month) = days::to_civil(day);
        let left = days::of_month(year, month) - of_month;
        if rule.months != 0 && rule.months & (1 << month) == 0 {
            return Some(day + left as i32 + 1);
        }
        if rule.month_days | rule.month_days_from_end != 0
            && rule.month_days & (1 << of_month) == 0
            && rule.month_days_from_end & (1 << (left + 1)) == 0
        {
            return Some(day + 1);
        }
        if rule.year_days.is_empty() {
            return None;
        }
        let of_year = (day - days::from_civil(year, 1, 1)) as i16 + 1;
        let from_end = of_year - days::of_year(year) as i16 - 1;
        let mut allowed = rule.year_days.iter();
        let is_one = allowed.any(|day| *day == of_year || *day == from_end);
        (!is_one).then_some(day + 1)
    }

    fn days_of_month(&mut self, year: i32, month: u32) {
        let rule = &self.rule;
        if rule.months != 0 && rule.months & (1 << month) == 0 {
            return;
        }
        let first = days::from_civil(year, month, 1);
        let mask = month_mask(
            rule,
            days::of_month(year, month),
            days::weekday(first),
            true,
        );
        push_bits(&mut self.days, mask, first);
    }

    fn days_of_year(&mut self, year: i32) {
        let first = days::from_civil(year, 1, 1);
        let kind = usize::from(days::weekday(first))
            + 7 * usize::from(days::is_leap(year))
            + 14 * usize::from(days::is_leap(year - 1));
        if self.years.is_empty() {
            self.years.resize_with(KINDS_OF_YEARS, || None);
        }
        let rule = &self.rule;
        let offsets = self.years[kind].get_or_insert_with(|| year_days(rule, year).into());
        self.days
            .extend(offsets.iter().map(|offset| first + i32::from(*offset)));
    }

    /// The starts of the current period that BYSETPOS names.
    fn choose(&mut self) {
        self.chosen.clear();
        let all = (self.days.len() * self.times.len()) as i64;
        for place in &self.rule.positions {
            let place = i64::from(*place);
            let index = if place > 0 { place - 1 } else { all + place };
            if (0..all).contains(&index) {
                let index = index as usize;
                let (day, time) = (index / self.times.len(), index % self.times.len());
                let start = i64::from(self.days[day]) * DAY_SECONDS;
                self.chosen
                    .push(start + self.offset + i64::from(self.times[time]));
            }
        }
        self.chosen.sort_unstable_by(|a, b| b.cmp(a));
        self.chosen.dedup();
    }

    /// The next start of the current period.
    #[inline]
    fn of_period(&mut self) -> Option<i64> {
        if !self.rule.positions.is_empty() {
            return self.chosen.pop();
        }
        let day = i64::from(*self.days.get(self.day)?) * DAY_SECONDS;
        let start = day + self.offset + i64::from(self.times[self.time]);
        self.time += 1;
        if self.time == self.times.len() {
            self.time = 0;
            self.day += 1;
        }
        Some(start)
    }
}

impl Iterator for Expansion {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        while !self.done && !self.is_exhausted() {
            self.work -= 1;
            self.patience -= 1;
            let Some(start) = self.of_period() else {
                self.done = !self.next_days();
                continue;
            };
            if start < self.first {
                continue;
            }
            self.patience = PATIENCE;
            if start > self.until {
                self.done = true;
                return None;
            }
            if let Some(left) = &mut self.left {
                if *left == 0 {
                    self.done = true;
                    return None;
                }
                *left -= 1;
            }
            if start >= self.from {
                return Some(start);
            }
        }
        None
    }
}

/// The first and, of a rule that ends, the last start (or a time after which there is none).
///
/// Errors: the part that keeps the rule from ever matching, or lets it match so rarely that
/// nobody can look for it, or a COUNT that takes too long to count to.
pub fn bounds(rule: &Rule, first: i64) -> Result<(i64, Option<i64>), InvalidRule> {
    let mut starts = Expansion::new(rule, first, first);
    let Some(begin) = starts.next() else {
        return Err(never(rule, first, starts.is_exhausted()));
    };
    let tried = |starts: &mut Expansion| {
        starts.by_ref().take(TRIED).for_each(drop);
        if starts.is_exhausted() {
            return Err(never(rule, first, true));
        }
        Ok(())
    };
    let end = match rule.end {
        End::Never => {
            tried(&mut starts)?;
            None
        }
        End::Until(until) | End::UntilUtc(until) => {
            tried(&mut starts)?;
            Some(until)
        }
        End::Count(count) => {
            let last = starts.by_ref().last().unwrap_or(begin);
            if starts.is_exhausted() {
                let why = format!("Counting to {count} takes too long; give UNTIL instead.");
                return Err(InvalidRule::new("COUNT", why));
            }
            Some(last)
        }
    };
    Ok((begin, end))
}

/// Names the part without which there would be a start.
fn never(rule: &Rule, first: i64, exhausted: bool) -> InvalidRule {
    if let End::Until(until) = rule.end
        && until < first
    {
        return InvalidRule::new("UNTIL", "It is before the first start.");
    }
    // Not those that match as rarely.
    let matches = |lesser: &Rule| {
        let mut starts = Expansion::new(lesser, first, first);
        let some = starts.by_ref().take(TRIED).count();
        some > 0 && !(exhausted && starts.is_exhausted())
    };
    let culprit = rule
        .with_one_part_less()
        .into_iter()
        .find(|(_, lesser)| matches(lesser));
    let part = culprit.map_or("FREQ", |(part, _)| part);
    let why = if exhausted {
        "With it the rule never matches, or too rarely to look for."
    } else {
        "With it the rule never matches."
    };
    InvalidRule::new(part, why)
}

/// Fills in what the rule leaves to the first start.
pub fn complete(rule: &mut Rule, first: i64) {
    let day = first.div_euclid(DAY_SECONDS) as i32;
    let second = first.rem_euclid(DAY_SECONDS);
    let (_, month, of_month) = days::to_civil(day);
    let has_days = !rule.week_numbers.is_empty()
        || !rule.year_days.is_empty()
        || rule.month_days | rule.month_days_from_end != 0
        || rule.weekdays != 0
        || !rule.nth_weekdays.is_empty();
    if !has_days {
        match rule.freq {
            Freq::Yearly => {
                if rule.months == 0 {
                    rule.months = 1 << month;
                }
                rule.month_days = 1 << of_month;
            }
            Freq::Monthly => rule.month_days = 1 << of_month,
            Freq::Weekly => rule.weekdays = 1 << days::weekday(day),
            _ => {}
        }
    }
    if rule.hours == 0 && rule.freq < Freq::Hourly {
        rule.hours = 1 << (second / 3600);
    }
    if rule.minutes == 0 && rule.freq < Freq::Minutely {
        rule.minutes = 1 << (second / 60 % 60);
    }
    if rule.seconds == 0 && rule.freq < Freq::Secondly {
        rule.seconds = 1 << (second % 60);
    }
}

/// Seconds of a period that is a day or less.
fn unit(freq: Freq) -> i64 {
    match freq {
        Freq::Hourly => 3600,
        Freq::Minutely => 60,
        Freq::Secondly => 1,
        _ => DAY_SECONDS,
    }
}

fn has(set: u64, number: i64) -> bool {
    set == 0 || set & (1 << number) != 0
}

/// The first day of a day's week.
fn week_of(day: i32, week_start: u8) -> i32 {
    day - (i32::from(days::weekday(day)) - i32::from(week_start)).rem_euclid(7)
}

/// Times within a period of a completed rule, in seconds from its beginning, in order.
fn times(rule: &Rule) -> Vec<u32> {
    let of = |set: u64, freq: Freq| if rule.freq < freq { set } else { 1 };
    let mut times = Vec::new();
    for hour in bits(of(rule.hours.into(), Freq::Hourly)) {
        for minute in bits(of(rule.minutes, Freq::Minutely)) {
            for second in bits(of(rule.seconds, Freq::Secondly)) {
                times.push((hour * 3600 + minute * 60 + second) as u32);
            }
        }
    }
    times
}

/// The days of a month, bit 0 being its first, that BYMONTHDAY and BYDAY allow.
fn month_mask(rule: &Rule, length: u32, first_weekday: u8, numbered: bool) -> u32 {
    let mut mask = ((1u64 << length) - 1) as u32;
    if rule.month_days | rule.month_days_from_end != 0 {
        // Bit n of the second is the n-th day from the end: day length - n, counted from 0.
        let from_end = rule.month_days_from_end.reverse_bits() >> (31 - length);
        mask &= (rule.month_days >> 1) | from_end;
    }
    if rule.weekdays != 0 || numbered && !rule.nth_weekdays.is_empty() {
        let week = u32::from(rule.weekdays);
        let week = (week | week << 7) >> first_weekday & 0x7f;
        let mut allowed = week | week << 7 | week << 14 | week << 21 | week << 28;
        if numbered {
            for (n, weekday) in &rule.nth_weekdays {
                if let Some(day) = nth(*n, *weekday, length as i32, first_weekday) {
                    allowed |= 1 << day;
                }
            }
        }
        mask &= allowed;
    }
    mask
}

/// The n-th weekday, or the n-th from the end, of days that begin with `first_weekday`.
fn nth(n: i8, weekday: u8, length: i32, first_weekday: u8) -> Option<i32> {
    let (n, weekday, first) = (i32::from(n), i32::from(weekday), i32::from(first_weekday));
    let day = if n > 0 {
        (weekday - first).rem_euclid(7) + (n - 1) * 7
    } else {
        let last = length - 1;
        last - (first + last - weekday).rem_euclid(7) + (n + 1) * 7
    };
    (0..length).contains(&day).then_some(day)
}

/// The days of a year, 0 being 1 January, that a yearly rule allows.
fn year_days(rule: &Rule, year: i32) -> Vec<u16> {
    let first = days::from_civil(year, 1, 1);
    let first_weekday = days::weekday(first);
    let length = days::of_year(year);
    let by_month = rule.months != 0;
    let mut mask = [0u64; 6];
    let mut begin = 0u32;
    for month in 1..=12 {
        let of_month = days::of_month(year, month);
        if !by_month || rule.months & (1 << month) != 0 {
            let weekday = ((u32::from(first_weekday) + begin) % 7) as u8;
            // Without BYMONTH, numbered weekdays count within the year; they are added below.
            let numbered = by_month || rule.nth_weekdays.is_empty();
            let plain_only = !numbered && rule.weekdays == 0;
            let days = if plain_only {
                0
            } else {
                month_mask(rule, of_month, weekday, numbered)
            };
            put(&mut mask, begin, days);
            if !numbered {
                let all = without_weekdays(rule);
                let allowed = month_mask(&all, of_month, weekday, false);
                for (n, weekday) in &rule.nth_weekdays {
                    let day = nth(*n, *weekday, length, first_weekday);
                    let of = day.map_or(-1, |day| day - begin as i32);
                    if (0..of_month as i32).contains(&of) {
                        put(&mut mask, begin, allowed & (1 << of));
                    }
                }
            }
        }
        begin += of_month;
    }
    if !rule.year_days.is_empty() {
        let mut allowed = [0u64; 6];
        for day in &rule.year_days {
            let day = i32::from(*day);
            let index = if day > 0 { day - 1 } else { length + day };
            if (0..length).contains(&index) {
                allowed[index as usize / 64] |= 1 << (index % 64);
            }
        }
        keep(&mut mask, &allowed);
    }
    if !rule.week_numbers.is_empty() {
        let mut allowed = [0u64; 6];
        for index in 0..length {
            if is_in_weeks(rule, first + index) {
                allowed[index as usize / 64] |= 1 << (index % 64);
            }
        }
        keep(&mut mask, &allowed);
    }
    let mut offsets = Vec::new();
    for (word, set) in mask.into_iter().enumerate() {
        offsets.extend(bits(set).map(|bit| word as u16 * 64 + bit as u16));
    }
    offsets
}

fn without_weekdays(rule: &Rule) -> Rule {
    Rule {
        month_days: rule.month_days,
        month_days_from_end: rule.month_days_from_end,
        ..Rule::every(rule.freq)
    }
}

/// True when the week of a day has one of the numbers; a week belongs to the year that has its
/// fourth day, and so may begin in the year before or end in the one after.
fn is_in_weeks(rule: &Rule, day: i32) -> bool {
    let middle = week_of(day, rule.week_start) + 3;
    let (year, ..) = days::to_civil(middle);
    let first = days::from_civil(year, 1, 1);
    let number = (middle - first) / 7 + 1;
    let last = (days::of_year(year) - 1 - (middle - first) % 7) / 7 + 1;
    rule.week_numbers.iter().any(|week| {
        let week = i32::from(*week);
        week == number || week == number - last - 1
    })
}

fn put(mask: &mut [u64; 6], begin: u32, days: u32) {
    let (word, bit) = (begin as usize / 64, begin % 64);
    mask[word] |= u64::from(days) << bit;
    if bit > 32 && word + 1 < mask.len() {
        mask[word + 1] |= u64::from(days) >> (64 - bit);
    }
}

fn keep(mask: &mut [u64; 6], allowed: &[u64; 6]) {
    for (word, allowed) in mask.iter_mut().zip(allowed) {
        *word &= allowed;
    }
}

fn push_bits(days: &mut Vec<i32>, mut mask: u32, first: i32) {
    while mask != 0 {
        days.push(first + mask.trailing_zeros() as i32);
        mask &= mask - 1;
    }
}

/// The first moment that a schedule may have.
pub fn earliest() -> i64 {
    i64::from(days::from_civil(FIRST_YEAR, 1, 1)) * DAY_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{read_stamp, stamp};

    fn at(text: &str) -> i64 {
        read_stamp(text).unwrap().0
    }

    fn starts(rule: &str, first: &str, count: usize) -> Vec<String> {
        let rule = Rule::parse(rule).unwrap();
        let first = at(first);
        Expansion::new(&rule, first, first)
            .take(count)
            .map(stamp)
            .collect()
    }

    fn dates(rule: &str, first: &str, count: usize) -> Vec<String> {
        let mut dates = starts(rule, first, count);
        dates.iter_mut().for_each(|date| date.truncate(8));
        dates
    }

    #[test]
    fn simple_rules() {
        let first = "20260131T180000";
        assert_eq!(
            starts("FREQ=DAILY;INTERVAL=2;COUNT=2", first, 9),
            ["20260131T180000", "20260202T180000"]
        );
        assert_eq!(
            dates("FREQ=MONTHLY", first, 3),
            ["20260131", "20260331", "20260531"]
        );
        assert_eq!(
            dates("FREQ=MONTHLY;BYMONTHDAY=-1", first, 3),
            ["20260131", "20260228", "20260331"]
        );
        assert_eq!(
            dates("FREQ=MONTHLY;BYDAY=-1FR,1MO", first, 3),
            ["20260202", "20260227", "20260302"]
        );
        assert_eq!(
            dates("FREQ=WEEKLY;INTERVAL=2;BYDAY=SU,TU", first, 4),
            ["20260201", "20260210", "20260215", "20260224"]
        );
        assert_eq!(
            dates("FREQ=WEEKLY;INTERVAL=2;BYDAY=SU,TU;WKST=SU", first, 3),
            ["20260208", "20260210", "20260222"]
        );
    }

    #[test]
    fn leap_days_and_long_years() {
        assert_eq!(
            dates("FREQ=YEARLY", "20240229T120000", 3),
            ["20240229", "20280229", "20320229"]
        );
        assert_eq!(
            dates("FREQ=YEARLY", "18960229T120000", 2),
            ["18960229", "19040229"]
        );
        // 2026 and 2032 have 53 weeks.
        assert_eq!(
            dates("FREQ=YEARLY;BYWEEKNO=53;BYDAY=SU", "20250101T120000", 2),
            ["20270103", "20330102"]
        );
        assert_eq!(
            dates("FREQ=YEARLY;BYWEEKNO=1;BYDAY=MO", "20240601T120000", 2),
            ["20241230", "20251229"]
        );
        assert_eq!(
            dates("FREQ=YEARLY;BYWEEKNO=-1;BYDAY=MO", "20260101T120000", 2),
            ["20261228", "20271227"]
        );
        assert_eq!(
            dates("FREQ=YEARLY;BYYEARDAY=366", "20250101T120000", 2),
            ["20281231", "20321231"]
        );
        assert_eq!(
            dates("FREQ=YEARLY;BYDAY=53FR", "20250101T120000", 2),
            ["20271231", "20321231"]
        );
        assert_eq!(
            dates("FREQ=YEARLY;BYDAY=MO,-1TU;BYMONTH=1", "20260115T120000", 3),
            ["20260119", "20260126", "20260127"]
        );
    }

    #[test]
    fn the_calendar_ends_with_the_year_9999() {
        assert_eq!(
            dates("FREQ=DAILY", "99991230T120000", 9),
            ["99991230", "99991231"]
        );
        assert_eq!(dates("FREQ=WEEKLY", "99991230T120000", 9), ["99991230"]);
        assert_eq!(
            dates("FREQ=MONTHLY", "99991130T120000", 9),
            ["99991130", "99991230"]
        );
        assert_eq!(
            dates("FREQ=YEARLY;INTERVAL=999999999", "20261231T120000", 9),
            ["20261231"]
        );
        assert_eq!(starts("FREQ=MINUTELY", "99991231T235859", 9).len(), 2);
        let rule = Rule::parse("FREQ=DAILY").unwrap();
        assert_eq!(Expansion::new(&rule, earliest(), i64::MAX).next(), None);
        assert_eq!(
            Expansion::new(&rule, earliest(), i64::MIN).next(),
            Some(earliest())
        );
    }

    #[test]
    fn a_tail_is_the_tail_of_the_whole() {
        for text in [
            "FREQ=YEARLY;INTERVAL=3;BYMONTH=2,6;BYDAY=1MO,-1TU",
            "FREQ=YEARLY;BYWEEKNO=1,53;BYDAY=MO,SU",
            "FREQ=MONTHLY;INTERVAL=2;BYMONTHDAY=29,30,-1;BYHOUR=3,9",
            "FREQ=WEEKLY;INTERVAL=3;BYDAY=TU,SA;BYSETPOS=-1",
            "FREQ=DAILY;INTERVAL=11;BYMONTH=1,2,3;COUNT=40",
            "FREQ=HOURLY;INTERVAL=7;BYDAY=TU;BYHOUR=3,4,5,6",
            "FREQ=MINUTELY;INTERVAL=37;BYHOUR=9,17;BYMONTHDAY=13",
            "FREQ=SECONDLY;INTERVAL=1801;BYHOUR=9;BYDAY=MO",
        ] {
            let rule = Rule::parse(text).unwrap();
            let first = at("20240131T091500");
            let all: Vec<i64> = Expansion::new(&rule, first, first).take(60).collect();
            assert!(all.is_sorted_by(|a, b| a < b), "{text}");
            for (skipped, start) in all.iter().enumerate() {
                for (from, rest) in [(*start, &all[skipped..]), (*start + 1, &all[skipped + 1..])] {
                    let tail = Expansion::new(&rule, first, from).take(rest.len());
                    assert!(tail.eq(rest.iter().copied()), "{text} from {}", stamp(from));
                }
            }
        }
    }

    #[test]
    fn a_rule_that_never_matches_names_the_part() {
        let first = at("20260501T180000");
        for (text, part) in [
            ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "BYMONTHDAY"),
            ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "BYMONTHDAY"),
            ("FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=31", "BYMONTHDAY"),
            ("FREQ=DAILY;INTERVAL=7;BYDAY=MO", "BYDAY"),
            ("FREQ=HOURLY;INTERVAL=24;BYHOUR=17", "BYHOUR"),
            ("FREQ=MINUTELY;INTERVAL=1440;BYMINUTE=1", "BYMINUTE"),
            ("FREQ=MINUTELY;INTERVAL=10080;BYDAY=MO", "BYDAY"),
            ("FREQ=SECONDLY;INTERVAL=60;BYSECOND=1", "BYSECOND"),
            ("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=6", "BYSETPOS"),
            ("FREQ=DAILY;UNTIL=20260430T180000", "UNTIL"),
            ("FREQ=WEEKLY;BYDAY=TH;UNTIL=20260506T180000", "UNTIL"),
            ("FREQ=SECONDLY;COUNT=99999999", "COUNT"),
            (
                "FREQ=YEARLY;INTERVAL=2;BYYEARDAY=366;BYMONTH=2",
                "BYYEARDAY",
            ),
            ("FREQ=YEARLY;INTERVAL=4;BYYEARDAY=366", "BYYEARDAY"),
        ] {
            let rule = Rule::parse(text).unwrap();
            assert_eq!(bounds(&rule, first).unwrap_err().part, part, "{text}");
        }
    }

    #[test]
    fn the_last_start_is_known() {
        let first = at("20260501T180000");
        let last = |text| {
            bounds(&Rule::parse(text).unwrap(), first)
                .unwrap()
                .1
                .map(stamp)
        };
        assert_eq!(last("FREQ=DAILY"), None);
        assert_eq!(last("FREQ=DAILY;COUNT=1").unwrap(), "20260501T180000");
        assert_eq!(last("FREQ=DAILY;COUNT=10").unwrap(), "20260510T180000");
        assert_eq!(
            last("FREQ=YEARLY;COUNT=20000"),
            Some("99990501T180000".to_owned())
        );
        assert_eq!(
            last("FREQ=DAILY;UNTIL=20261231").unwrap(),
            "20261231T235959"
        );
    }
}
