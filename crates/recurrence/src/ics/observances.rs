//! What a calendar's VTIMEZONE says of a zone: which offset counts when.

use super::parameters::doubt;
use super::text::Line;
use crate::daylight_saving::{Offset, TimeZone};
use crate::days::DAY_SECONDS;
use crate::expand::Expansion;
use crate::rule::{End, Freq, Rule};
use crate::stamp::read_stamp;

/// How long before a moment the last change of a rule that goes on may be.
const LOOK_BACK: i64 = 12 * 366 * DAY_SECONDS;
const MOST_CHANGES: usize = 2_000;
/// What is looked at of one rule, as [`Expansion::spent`] counts.
const WORK: u32 = 50_000;

/// The observances of a VTIMEZONE (RFC 5545, 3.6.5).
#[derive(Clone, Debug)]
pub struct Observances(Vec<Observance>);

#[derive(Clone, Debug)]
struct Observance {
    /// When it first begins, by the clocks before.
    first: i64,
    before: i64,
    after: i64,
    rule: Option<Rule>,
    dates: Vec<i64>,
}

impl Observances {
    /// Of the lines of each STANDARD and DAYLIGHT; none where one of them is not understood, or there is none.
    pub fn read(observances: &[Vec<Line>]) -> Option<Self> {
        let read: Option<Vec<_>> = observances.iter().map(|one| observance(one)).collect();
        read.filter(|all| !all.is_empty()).map(Self)
    }

    /// The offsets that count from one moment up to another; none where those are too many to tell.
    pub fn between(&self, from: i64, to: i64) -> Option<Offsets> {
        // When each begins, and the offsets before and after.
        let mut changes: Vec<(i64, i64, i64)> = Vec::new();
        for one in &self.0 {
            let mut push = |wall: i64| changes.push((wall - one.before, one.before, one.after));
            push(one.first);
            one.dates.iter().copied().for_each(&mut push);
            let Some(rule) = &one.rule else { continue };
            let last = match rule.end {
                End::Until(until) | End::UntilUtc(until) => until.min(from),
                _ => from,
            };
            let mut starts = Expansion::new(rule, one.first, last.saturating_sub(LOOK_BACK))
                .within(WORK)
                .until(to.saturating_add(DAY_SECONDS));
            let mut left = MOST_CHANGES;
            for wall in starts.by_ref().take(MOST_CHANGES) {
                push(wall);
                left -= 1;
            }
            if left == 0 || starts.is_exhausted() {
                return None;
            }
        }
        changes.sort_unstable();
        let seconds = match changes.iter().rfind(|(at, ..)| *at <= from) {
            Some((_, _, after)) => *after,
            None => changes.first()?.1,
        };
        let mut offsets = vec![(from, seconds)];
        for (at, _, after) in changes
            .into_iter()
            .filter(|(at, ..)| (from + 1..to).contains(at))
        {
            match offsets.last_mut() {
                Some((begin, seconds)) if *begin == at => *seconds = after,
                _ => offsets.push((at, after)),
            }
        }
        offsets.dedup_by_key(|(_, seconds)| *seconds);
        Some(Offsets(offsets))
    }
}

/// Properties of an observance that alter nothing.
const OTHERS: [&str; 3] = ["TZNAME", "COMMENT", "LAST-MODIFIED"];

fn observance(lines: &[Line]) -> Option<Observance> {
    const ONCE: [&str; 4] = ["DTSTART", "TZOFFSETFROM", "TZOFFSETTO", "RRULE"];
    let of = |name: &str| lines.iter().find(|line| line.name == name);
    let is_understood = |line: &Line| {
        let name = line.name.as_str();
        if ONCE.contains(&name) {
            of(name) == Some(line) && doubt(line).is_none()
        } else if name == "RDATE" {
            doubt(line).is_none()
        } else {
            name.starts_with("X-") || OTHERS.contains(&name)
        }
    };
    if !lines.iter().all(is_understood) {
        return None;
    }
    // By the clocks before, and so never in UTC.
    let by_clock = |text: &str| {
        read_stamp(text)
            .filter(|(_, utc)| !utc)
            .map(|(wall, _)| wall)
    };
    let first = by_clock(of("DTSTART")?.word())?;
    let before = offset(of("TZOFFSETFROM")?.word())?;
    let after = offset(of("TZOFFSETTO")?.word())?;
    let mut rule = of("RRULE")
        .map(|line| Rule::parse(&line.value))
        .transpose()
        .ok()?;
    if let Some(rule) = &mut rule {
        rule.end_in_clock_time(&|_| Offset {
            seconds: before,
            until: None,
        });
    }
    let is_understood =
        |rule: &Rule| rule.freq == Freq::Yearly && !matches!(rule.end, End::Count(_));
    if !rule.as_ref().is_none_or(is_understood) {
        return None;
    }
    let dates = lines
        .iter()
        .filter(|line| line.name == "RDATE")
        .flat_map(|line| line.value.split(','));
    let dates = dates.map(|date| by_clock(date.trim()));
    Some(Observance {
        first,
        before,
        after,
        rule,
        dates: dates.collect::<Option<_>>()?,
    })
}

/// Seconds of an offset such as +0530 or -033045 (RFC 5545, 3.3.14).
fn offset(text: &str) -> Option<i64> {
    let sign = match text.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let digits = &text[1..];
    if !matches!(digits.len(), 4 | 6) || !digits.bytes().all(|one| one.is_ascii_digit()) {
        return None;
    }
    let two = |at: usize| {
        digits
            .get(at..at + 2)
            .map_or(Some(0), |two| two.parse().ok())
    };
    let (hours, minutes, seconds): (i64, i64, i64) = (two(0)?, two(2)?, two(4)?);
    (hours <= 23 && minutes <= 59 && seconds <= 59)
        .then_some(sign * (hours * 3600 + minutes * 60 + seconds))
}

/// Offsets, each with the moment from which it counts; the first counts before that too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offsets(Vec<(i64, i64)>);

impl Offsets {
    /// The one offset, where there is no other.
    pub fn only(&self) -> Option<i64> {
        let [(_, seconds)] = self.0[..] else {
            return None;
        };
        Some(seconds)
    }

    /// The offset that counts at a moment.
    pub fn seconds_at(&self, moment: i64) -> i64 {
        self.offset_at(moment).seconds
    }

    /// True when a zone has the same offsets up to a moment. Windows tells changes at midnight a second before.
    pub fn are_those_of(&self, zone: &impl TimeZone, to: i64) -> bool {
        let Some((from, _)) = self.0.first() else {
            return false;
        };
        let mut others = zone.offsets(*from, to);
        others.dedup_by_key(|(_, seconds)| *seconds);
        others.len() == self.0.len()
            && others
                .iter()
                .zip(&self.0)
                .all(|(one, other)| one.1 == other.1 && (one.0 - other.0).abs() <= 1)
    }
}

impl TimeZone for Offsets {
    fn offset_at(&self, moment: i64) -> Offset {
        let next = self.0.iter().position(|(begin, _)| *begin > moment);
        let at = next.unwrap_or(self.0.len()).max(1) - 1;
        Offset {
            seconds: self.0.get(at).map_or(0, |(_, seconds)| *seconds),
            until: self.0.get(at + 1).map(|(begin, _)| *begin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::lines;
    use super::*;

    fn read(observances: &[&str]) -> Option<Observances> {
        let read: Vec<Vec<Line>> = observances
            .iter()
            .map(|one| lines(one).map(Result::unwrap).collect())
            .collect();
        Observances::read(&read)
    }

    fn at(text: &str) -> i64 {
        read_stamp(text).unwrap().0
    }

    const WINTER: &str = "DTSTART:16010101T030000\nTZOFFSETFROM:+0200\nTZOFFSETTO:+0100\nRRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10";
    const SUMMER: &str = "DTSTART:16010101T020000\nTZOFFSETFROM:+0100\nTZOFFSETTO:+0200\nRRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3";

    #[test]
    fn rules_are_offsets() {
        let zone = read(&[WINTER, SUMMER]).unwrap();
        let offsets = zone.between(at("20260101T000000"), at("20270101T000000"));
        let expected = vec![
            (at("20260101T000000"), 3600),
            (at("20260329T010000"), 7200),
            (at("20261025T010000"), 3600),
        ];
        assert_eq!(offsets, Some(Offsets(expected)));
        let fixed =
            read(&["DTSTART:19700101T000000\nTZOFFSETFROM:+0300\nTZOFFSETTO:+0300"]).unwrap();
        assert_eq!(
            fixed.between(0, at("20270101T000000")).unwrap().only(),
            Some(10_800)
        );
    }

    #[test]
    fn a_rule_that_has_ended_still_says_what_counts() {
        let zone = read(&[
            &format!("{WINTER};UNTIL=19961027T010000Z"),
            &format!("{SUMMER};UNTIL=19960331T010000Z"),
        ]);
        let offsets = zone
            .unwrap()
            .between(at("20260101T000000"), at("20270101T000000"));
        assert_eq!(offsets.unwrap().only(), Some(3600));
    }

    #[test]
    fn what_is_not_understood_is_none() {
        assert!(read(&[]).is_none());
        for wrong in [
            "TZOFFSETTO:1",
            "RRULE:FREQ=SECONDLY",
            "RRULE:FREQ=YEARLY;COUNT=3",
            "RDATE:x",
            "RDATE:20300101T000000Z",
            "DTSTART:16010101T030000Z",
            "RRUL:FREQ=YEARLY",
            "RDATE;V\u{fffd}LUE=DATE-TIME:20300101T000000",
            "TZOFFSETTO:+0100\nTZOFFSETTO:+0200",
        ] {
            let (name, _) = wrong.split_once([':', ';']).unwrap();
            let rest: Vec<&str> = WINTER
                .lines()
                .filter(|line| !line.starts_with(name))
                .collect();
            assert!(
                read(&[&format!("{}\n{wrong}", rest.join("\n"))]).is_none(),
                "{wrong}"
            );
        }
        let dense = "DTSTART:19700101T000000\nTZOFFSETFROM:+0300\nTZOFFSETTO:+0300\nRRULE:FREQ=YEARLY;BYHOUR=1,2,3;BYDAY=MO,TU,WE";
        assert!(
            read(&[dense])
                .unwrap()
                .between(0, at("20270101T000000"))
                .is_none()
        );
    }
}
