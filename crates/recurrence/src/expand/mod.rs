//! Expands a rule in wall-clock time: seconds since 1970-01-01 by a clock that is never changed.
//!
//! An [`Expansion`] goes from period to period of the rule's frequency (a year, a month, …),
//! works out the days of each by bit masks, and yields the starts in order. It begins at any
//! point without walking there, unless the rule counts its occurrences.
//!
//! Where RFC 5545 leaves something open, it is as python-dateutil has it.

mod bounds;
mod complete;
mod masks;

#[cfg(test)]
mod tests;

pub use bounds::bounds;

use crate::days::{self, DAY_SECONDS, EARLIEST, LATEST, week_of};
use crate::rule::{End, Freq, Rule};
use complete::{complete, times};
use masks::{month_mask, push_bits, year_days};

/// The most periods and starts that one expansion looks at: some hundredths of a second.
pub const WORK: u32 = 1_000_000;

/// The most that it looks at for one start: the days of forty years, which pass between two
/// Sundays that are 29 February, and some. Rarer still are only rules with an odd INTERVAL.
const PATIENCE: u32 = 16_000;

/// The years of a rule look alike when they have the same length, begin on the same weekday,
/// and are between years of the same lengths (for the weeks that belong to those).
const KINDS_OF_YEARS: usize = 56;

/// The starts of a rule from some point on, ascending: an iterator of seconds of clock time since
/// 1970-01-01. It ends by itself, at [`LATEST`] if not before, or gives up, see
/// [`Expansion::is_exhausted`].
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
    allowed: u32,
    patience: u32,
    done: bool,
}

impl Expansion {
    /// The starts at or after `from` of a rule whose first start, DTSTART, is `first`; both are
    /// seconds of clock time since 1970-01-01. Nothing is before `first`, and `first` is one of
    /// the starts only if the rule says so (RFC 5545, 3.8.5.3, leaves that undefined). A `first`
    /// before [`EARLIEST`] or after [`LATEST`] has no starts.
    pub fn new(rule: &Rule, first: i64, from: i64) -> Self {
        let within = (EARLIEST..=LATEST).contains(&first);
        let first = first.clamp(EARLIEST, LATEST);
        let mut rule = rule.clone();
        complete(&mut rule, first);
        let (until, left) = match rule.end {
            End::Never => (LATEST, None),
            End::Until(until) | End::UntilUtc(until) => (until.min(LATEST), None),
            End::Count(count) => (LATEST, Some(count)),
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
            allowed: WORK,
            patience: PATIENCE,
            done: until < first || !within,
        };
        if left.is_none() && from > first {
            expansion.next_period = expansion.period_of(from.min(LATEST));
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

    /// Ends after a clock time, behind which nobody looks any more.
    pub fn until(mut self, last: i64) -> Self {
        self.until = self.until.min(last);
        self
    }

    /// Gives up after so much work, counted as [`Expansion::spent`] does.
    pub fn within(mut self, work: u32) -> Self {
        let left = work.saturating_sub(self.cost_of_times());
        self.work = self.work.min(left / self.cost_of_period());
        self.allowed = self.work;
        self
    }

    /// What the work so far has cost: about one for each period and start that was looked at.
    pub fn spent(&self) -> u32 {
        let looked_at = self.allowed - self.work;
        let looked_at = looked_at.saturating_mul(self.cost_of_period());
        looked_at.saturating_add(self.cost_of_times())
    }

    /// BYSETPOS is looked up in each period.
    fn cost_of_period(&self) -> u32 {
        1 + self.rule.positions.len() as u32
    }

    /// A day may have 86,400 times, which are listed before the first start.
    fn cost_of_times(&self) -> u32 {
        self.times.len() as u32 / 16
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
        i64::from(year)
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
            + 14 * usize::from(days::is_leap(year - 1))
            + 28 * usize::from(days::is_leap(year + 1));
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
