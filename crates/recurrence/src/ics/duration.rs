//! Durations of RFC 5545, 3.3.6.

use crate::daylight_saving::{Clock, TimeZone};
use crate::days::DAY_SECONDS;

/// How long something lasts: days by the clocks, however many hours those have, and then seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duration {
    pub days: i64,
    pub seconds: i64,
}

impl Duration {
    /// Reads one such as PT1H30M, P1DT2H or P2W; none for what is no duration, and for a negative one.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_uppercase();
        let text = text.strip_prefix('+').unwrap_or(&text).strip_prefix('P')?;
        let (dates, times) = match text.split_once('T') {
            Some((_, "")) => return None,
            Some((dates, times)) => (dates, times),
            None if text.is_empty() => return None,
            None => (text, ""),
        };
        Some(Self {
            days: sum(dates, &[('W', 7), ('D', 1)])?,
            seconds: sum(times, &[('H', 3600), ('M', 60), ('S', 1)])?,
        })
    }

    /// How many seconds it has where no clocks are changed.
    pub fn usual_seconds(self) -> i64 {
        let days = self.days.saturating_mul(DAY_SECONDS);
        days.saturating_add(self.seconds)
    }

    /// When what begins at a moment ends, by the clocks of a zone.
    pub fn end(self, start: i64, zone: &impl TimeZone) -> i64 {
        let after_days = if self.days == 0 {
            start
        } else {
            let days = self.days.saturating_mul(DAY_SECONDS);
            let wall = zone.wall(start).saturating_add(days);
            let clock = |moment| zone.offset_at(moment);
            Clock::of(clock).moment(wall).0
        };
        after_days.saturating_add(self.seconds)
    }
}

/// The sum of numbers with units, each of those at most once and in their order; 0 for an empty text.
fn sum(mut text: &str, units: &[(char, i64)]) -> Option<i64> {
    let mut sum = 0i64;
    for (unit, size) in units {
        let Some((number, rest)) = text.split_once(*unit) else {
            continue;
        };
        if number.is_empty() || !number.bytes().all(|one| one.is_ascii_digit()) {
            return None;
        }
        let number: i64 = number.parse().ok()?;
        sum = sum.checked_add(number.checked_mul(*size)?)?;
        text = rest;
    }
    text.is_empty().then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daylight_saving::Offset;

    #[test]
    fn durations() {
        for (text, days, seconds) in [
            ("PT1H30M", 0, 5400),
            (" pt1h30m ", 0, 5400),
            ("P1DT1S", 1, 1),
            ("+P2W", 14, 0),
            ("P1W2D", 9, 0),
            ("PT0S", 0, 0),
        ] {
            assert_eq!(
                Duration::parse(text),
                Some(Duration { days, seconds }),
                "{text}"
            );
        }
        for text in [
            "",
            "P",
            "PT",
            "P1DT",
            "PT5",
            "P5",
            "-PT5M",
            "P1H",
            "P1M",
            "PT1D",
            "PT1M1H",
            "PT1H1H",
            "PTH",
            "P+1D",
            "P1D1W",
            "PT1HT1M",
            "PT99999999999999999999H",
            "PT9223372036854775807H",
            "P9223372036854775807W",
        ] {
            assert_eq!(Duration::parse(text), None, "{text}");
        }
    }

    #[test]
    fn days_are_those_of_the_clocks() {
        let change = 1_000_000;
        let zone = |at| Offset {
            seconds: if at < change { 0 } else { 3600 },
            until: (at < change).then_some(change),
        };
        let end = |text: &str, start| Duration::parse(text).unwrap().end(start, &zone) - start;
        let start = change - 5_000;
        assert_eq!(end("P1D", start), DAY_SECONDS - 3600);
        assert_eq!(end("P1W", start), 7 * DAY_SECONDS - 3600);
        assert_eq!(end("PT24H", start), DAY_SECONDS);
        assert_eq!(end("P1DT24H", start), 2 * DAY_SECONDS - 3600);
        assert_eq!(end("P1D", change), DAY_SECONDS);
    }
}
