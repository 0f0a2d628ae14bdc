//! VTIMEZONE: what calendar programs need to know of a zone, from the server's own rules.

use super::text::push_line;
use crate::days::{self, DAY_SECONDS};
use crate::rule::WEEKDAYS;
use crate::stamp::stamp;

/// How many years ahead a zone is described where its changes follow no yearly rule.
const YEARS_AHEAD: i64 = 10;

const YEAR: i64 = 366 * DAY_SECONDS;

/// A change of a zone's clocks, by the clock before it.
#[derive(Clone, Copy, Debug)]
struct Change {
    wall: i64,
    before: i64,
    after: i64,
}

/// In the same month, on the same weekday of it, at the same time: every year.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Yearly {
    month: u32,
    /// Which of its weekdays in the month; -1 is the last one.
    nth: i32,
    weekday: u8,
    time: i64,
    before: i64,
    after: i64,
}

impl Change {
    fn year(self) -> i32 {
        days::to_civil(self.wall.div_euclid(DAY_SECONDS) as i32).0
    }

    /// The yearly rules that the change may follow.
    fn yearly(self) -> [Yearly; 2] {
        let day = self.wall.div_euclid(DAY_SECONDS) as i32;
        let (year, month, of_month) = days::to_civil(day);
        let is_last = of_month + 7 > days::of_month(year, month);
        let rule = |nth| Yearly {
            month,
            nth,
            weekday: days::weekday(day),
            time: self.wall.rem_euclid(DAY_SECONDS),
            before: self.before,
            after: self.after,
        };
        let nth = (of_month as i32 - 1) / 7 + 1;
        [rule(if is_last { -1 } else { nth }), rule(nth)]
    }
}

/// Appends the description (RFC 5545, 3.6.5) of a zone whose offsets, from some moment on, are
/// `offsets`: pairs of when each begins, in seconds of Unix time, and its seconds; as
/// [`crate::daylight_saving::TimeZone::offsets`] gives them. Nothing where there are none.
pub fn push_timezone(out: &mut String, name: &str, offsets: &[(i64, i64)]) {
    let Some((begin, first)) = offsets.first().copied() else {
        return;
    };
    push_line(out, "BEGIN:VTIMEZONE");
    push_line(out, &format!("TZID:{name}"));
    let changes: Vec<Change> = offsets
        .windows(2)
        .filter(|pair| pair[0].1 != pair[1].1)
        .map(|pair| Change {
            wall: pair[1].0.saturating_add(pair[0].1),
            before: pair[0].1,
            after: pair[1].1,
        })
        .collect();
    let (single, yearly) = split(&changes);
    // What counts before the first change.
    let start = Change {
        wall: begin.saturating_add(first),
        before: first,
        after: first,
    };
    push_observance(out, "STANDARD", start, None);
    for change in single {
        push_observance(out, kind(*change), *change, None);
    }
    for (change, rule) in yearly {
        push_observance(out, kind(change), change, Some(rule));
    }
    push_line(out, "END:VTIMEZONE");
}

/// The end of what is described of a zone's offsets; both are seconds of Unix time.
pub fn described_until(now: i64) -> i64 {
    now.saturating_add(YEARS_AHEAD * YEAR)
}

fn kind(change: Change) -> &'static str {
    if change.after > change.before {
        "DAYLIGHT"
    } else {
        "STANDARD"
    }
}

/// Changes that stand alone, and two a year that follow rules up to the end.
fn split(changes: &[Change]) -> (&[Change], Vec<(Change, Yearly)>) {
    let Some(last) = changes.last() else {
        return (changes, Vec::new());
    };
    // The last year may be cut short.
    let whole: Vec<Change> = changes
        .iter()
        .copied()
        .filter(|change| change.year() < last.year())
        .collect();
    let recent: Vec<Change> = whole
        .iter()
        .copied()
        .filter(|change| change.year() == last.year() - 1)
        .collect();
    let [one, two] = recent[..] else {
        return (changes, Vec::new());
    };
    let years = YEARS_AHEAD as usize - 3;
    let found = one
        .yearly()
        .into_iter()
        .flat_map(|a| two.yearly().map(|b| (a, b)))
        .find_map(|(a, b)| {
            let follows =
                |change: &Change| change.yearly().iter().any(|rule| *rule == a || *rule == b);
            let tail = whole
                .iter()
                .rev()
                .take_while(|change| follows(change))
                .count();
            (tail >= years * 2).then(|| (whole.len() - tail, a, b))
        });
    let Some((alone, a, b)) = found else {
        return (changes, Vec::new());
    };
    let first = |rule: Yearly| {
        whole[alone..]
            .iter()
            .copied()
            .find(|change| change.yearly().contains(&rule))
    };
    let yearly = [a, b]
        .into_iter()
        .filter_map(|rule| Some((first(rule)?, rule)))
        .collect();
    (&changes[..alone], yearly)
}

fn push_observance(out: &mut String, kind: &str, change: Change, rule: Option<Yearly>) {
    push_line(out, &format!("BEGIN:{kind}"));
    push_line(out, &format!("DTSTART:{}", stamp(change.wall)));
    push_line(out, &format!("TZOFFSETFROM:{}", offset(change.before)));
    push_line(out, &format!("TZOFFSETTO:{}", offset(change.after)));
    if let Some(rule) = rule {
        let weekday = WEEKDAYS[usize::from(rule.weekday % 7)];
        let line = format!(
            "RRULE:FREQ=YEARLY;BYMONTH={};BYDAY={}{weekday}",
            rule.month, rule.nth
        );
        push_line(out, &line);
    }
    push_line(out, &format!("END:{kind}"));
}

fn offset(seconds: i64) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let seconds = seconds.abs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if rest == 0 {
        format!("{sign}{hours:02}{minutes:02}")
    } else {
        format!("{sign}{hours:02}{minutes:02}{rest:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::read_stamp;

    fn at(text: &str) -> i64 {
        read_stamp(text).unwrap().0
    }

    #[test]
    fn a_regular_zone_is_two_rules() {
        let mut offsets = vec![(at("20260101T000000"), 3600)];
        for (spring, autumn) in [
            ("20260329", "20261025"),
            ("20270328", "20271031"),
            ("20280326", "20281029"),
            ("20290325", "20291028"),
            ("20300331", "20301027"),
            ("20310330", "20311026"),
            ("20320328", "20321031"),
            ("20330327", "20331030"),
            ("20340326", "20341029"),
            ("20350325", "20351028"),
        ] {
            offsets.push((at(&format!("{spring}T010000")), 7200));
            offsets.push((at(&format!("{autumn}T010000")), 3600));
        }
        let mut out = String::new();
        push_timezone(&mut out, "Europe/Berlin", &offsets);
        assert!(out.contains("DTSTART:20260329T020000\r\nTZOFFSETFROM:+0100\r\nTZOFFSETTO:+0200\r\nRRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU"));
        assert!(out.contains("DTSTART:20261025T030000\r\nTZOFFSETFROM:+0200\r\nTZOFFSETTO:+0100\r\nRRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU"));
        assert_eq!(out.matches("BEGIN:DAYLIGHT").count(), 1);
        assert_eq!(out.matches("BEGIN:STANDARD").count(), 2);
    }

    #[test]
    fn other_zones_are_told_change_by_change() {
        let mut out = String::new();
        push_timezone(
            &mut out,
            "X/Y",
            &[
                (0, 0),
                (at("20260101T000000"), -12_600),
                (at("20270101T000000"), 3661),
            ],
        );
        assert_eq!(out.matches("BEGIN:STANDARD").count(), 2);
        assert_eq!(out.matches("BEGIN:DAYLIGHT").count(), 1);
        assert!(
            out.contains("TZOFFSETTO:-0330")
                && out.contains("TZOFFSETTO:+010101")
                && !out.contains("RRULE")
        );
    }
}
