//! Writing a rule.

use super::{End, MONDAY, Rule, WEEKDAYS, bits};
use crate::stamp::stamp;
use std::fmt;

/// The one form of a rule: parts in a fixed order, lists sorted, defaults left out. What
/// [`Rule::parse`] gave is the same when it is read again.
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
        let days = days.map(|day: usize| weekday(day).to_owned());
        let nth = self.nth_weekdays.iter();
        let nth = nth.map(|(n, day)| format!("{n}{}", weekday(usize::from(*day))));
        list(f, "BYDAY", days.chain(nth))?;
        list(f, "BYHOUR", bits(self.hours.into()))?;
        list(f, "BYMINUTE", bits(self.minutes))?;
        list(f, "BYSECOND", bits(self.seconds))?;
        list(f, "BYSETPOS", self.positions.iter())?;
        if self.week_start != MONDAY {
            write!(f, ";WKST={}", weekday(self.week_start.into()))?;
        }
        Ok(())
    }
}

fn weekday(day: usize) -> &'static str {
    WEEKDAYS[day % 7]
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
