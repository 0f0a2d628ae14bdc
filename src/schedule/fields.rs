//! A schedule's simple fields, the rule that they mean, and how long an occurrence lasts.

use recurrence::days::{self, DAY_SECONDS};
use recurrence::rule::{End, Freq, Rule};

/// The longest `expected_duration_minutes`: a week.
pub const MAX_DURATION_MINUTES: i32 = 7 * 24 * 60;

/// The length of a schedule that says nothing about it.
pub const DEFAULT_DURATION_MINUTES: i32 = 60;

const SECOND: i64 = 1_000_000;
const DAY: i64 = DAY_SECONDS * SECOND;

/// A set of weekdays: bits 0 (Sunday) to 6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weekdays(pub u8);

impl Weekdays {
    /// From numbers as clients write them: 0 = Sunday … 6 = Saturday, 7 = Sunday too.
    pub fn from_numbers(
        numbers: impl IntoIterator<Item = Option<i32>>,
    ) -> Result<Self, InvalidField> {
        let mut set = 0;
        for number in numbers {
            match number {
                Some(day @ 0..=7) => set |= 1 << (day % 7),
                other => return Err(InvalidField::Weekday(other)),
            }
        }
        Ok(Self(set))
    }

    /// 0 = Sunday … 6 = Saturday, in this order.
    pub fn numbers(self) -> Vec<i32> {
        (0..7).filter(|day| self.0 & (1 << day) != 0).collect()
    }
}

/// How often a schedule takes place, as its simple fields say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simple {
    pub pattern: Pattern,
    pub weekdays: Weekdays,
    /// The last day on which it may begin.
    pub last_day: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    Daily,
    Weekly,
    Monthly,
    Custom,
}

impl Pattern {
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "daily" => Self::Daily,
            "weekly" => Self::Weekly,
            "monthly" => Self::Monthly,
            "custom" => Self::Custom,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Custom => "custom",
        }
    }
}

impl Simple {
    /// The rule that the fields mean; none for a custom one, which only a rule can say.
    pub fn rule(&self) -> Option<Rule> {
        let mut rule = match self.pattern {
            Pattern::Daily => Rule::every(Freq::Daily),
            Pattern::Weekly => Rule::every(Freq::Weekly),
            Pattern::Monthly => Rule::every(Freq::Monthly),
            Pattern::Custom => return None,
        };
        if self.pattern == Pattern::Weekly {
            rule.weekdays = self.weekdays.0;
        }
        if let Some(day) = self.last_day {
            rule.end = until_the_end_of(day);
        }
        Some(rule)
    }

    /// What the fields can say of a rule, `custom` if that is not all. `first` is the first
    /// start, in seconds of clock time.
    pub fn of(rule: &Rule, first: i64) -> Self {
        let timed = rule.hours != 0 || rule.minutes != 0 || rule.seconds != 0;
        let last_day = match rule.end {
            End::Until(until) => {
                let day = until.div_euclid(DAY_SECONDS);
                let before_start =
                    !timed && until.rem_euclid(DAY_SECONDS) < first.rem_euclid(DAY_SECONDS);
                Some((day - i64::from(before_start)) as i32)
            }
            _ => None,
        };
        let (.., day) = days::to_civil(first.div_euclid(DAY_SECONDS) as i32);
        let bare = Rule {
            end: End::Never,
            week_start: Rule::every(rule.freq).week_start,
            weekdays: 0,
            month_days: 0,
            ..rule.clone()
        };
        let is_simple =
            bare == Rule::every(rule.freq) && !matches!(rule.end, End::Count(_) | End::UntilUtc(_));
        let pattern = match rule.freq {
            _ if !is_simple => Pattern::Custom,
            Freq::Daily if rule.weekdays == 0 && rule.month_days == 0 => Pattern::Daily,
            Freq::Daily if rule.month_days == 0 => Pattern::Weekly,
            Freq::Weekly => Pattern::Weekly,
            Freq::Monthly if rule.weekdays == 0 && (rule.month_days | 1 << day) == 1 << day => {
                Pattern::Monthly
            }
            _ => Pattern::Custom,
        };
        let weekdays = if pattern == Pattern::Weekly {
            rule.weekdays
        } else {
            0
        };
        Self {
            pattern,
            weekdays: Weekdays(weekdays),
            last_day,
        }
    }
}

pub fn until_the_end_of(day: i32) -> End {
    End::Until((i64::from(day) + 1) * DAY_SECONDS - 1)
}

/// How long each occurrence lasts, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Until the clock shows this much later, whatever the clock does in between.
    Clock(i64),
    /// This much time.
    Elapsed(i64),
}

impl Length {
    /// From the times of day, in microseconds since midnight, of which PostgreSQL knows 24:00.
    pub fn new(
        start: i64,
        end: Option<i64>,
        duration_minutes: Option<i32>,
    ) -> Result<Self, InvalidField> {
        if let Some(minutes) = duration_minutes
            && !(1..=MAX_DURATION_MINUTES).contains(&minutes)
        {
            return Err(InvalidField::Duration(minutes));
        }
        match end {
            None => {
                let minutes = duration_minutes.unwrap_or(DEFAULT_DURATION_MINUTES);
                Ok(Self::Elapsed(i64::from(minutes) * 60 * SECOND))
            }
            Some(end) if end == start => Err(InvalidField::NoLength),
            Some(end) if end < start => Ok(Self::Clock(end + DAY - start)),
            Some(end) => Ok(Self::Clock(end - start)),
        }
    }

    /// The length on a day on which the clock does not change.
    pub fn nominal(self) -> i64 {
        match self {
            Self::Clock(length) | Self::Elapsed(length) => length,
        }
    }
}

/// Why fields make no schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidField {
    Date,
    EndDate,
    StartTime,
    NoLength,
    Duration(i32),
    Weekday(Option<i32>),
    NoPattern,
    NoRule,
    EndsBeforeItBegins,
    WeekdaysOfRule,
    /// None of its weekdays comes up before its end date.
    NeverTakesPlace,
}

#[cfg(test)]
mod tests {
    use super::*;
    use recurrence::stamp::read_stamp;

    fn simple(text: &str) -> Simple {
        let first = read_stamp("20260505T180000").unwrap().0;
        Simple::of(&Rule::parse(text).unwrap(), first)
    }

    #[test]
    fn what_can_be_expressed_is() {
        let day = |text: &str| Some((read_stamp(text).unwrap().0 / DAY_SECONDS) as i32);
        for (text, pattern, weekdays, last_day) in [
            ("FREQ=DAILY", Pattern::Daily, 0, None),
            ("FREQ=DAILY;BYDAY=MO,FR", Pattern::Weekly, 34, None),
            ("FREQ=WEEKLY;WKST=SU", Pattern::Weekly, 0, None),
            ("FREQ=WEEKLY;BYDAY=SU,SA", Pattern::Weekly, 65, None),
            ("FREQ=MONTHLY", Pattern::Monthly, 0, None),
            ("FREQ=MONTHLY;BYMONTHDAY=5", Pattern::Monthly, 0, None),
            ("FREQ=MONTHLY;BYMONTHDAY=6", Pattern::Custom, 0, None),
            ("FREQ=MONTHLY;BYMONTHDAY=-5", Pattern::Custom, 0, None),
            ("FREQ=MONTHLY;BYDAY=1TU", Pattern::Custom, 0, None),
            ("FREQ=DAILY;INTERVAL=2", Pattern::Custom, 0, None),
            ("FREQ=DAILY;COUNT=2", Pattern::Custom, 0, None),
            ("FREQ=DAILY;BYHOUR=3", Pattern::Custom, 0, None),
            ("FREQ=DAILY;BYMONTHDAY=5", Pattern::Custom, 0, None),
            ("FREQ=YEARLY", Pattern::Custom, 0, None),
            (
                "FREQ=DAILY;UNTIL=20260601",
                Pattern::Daily,
                0,
                day("20260601T000000"),
            ),
            (
                "FREQ=DAILY;UNTIL=20260601T180000",
                Pattern::Daily,
                0,
                day("20260601T000000"),
            ),
            (
                "FREQ=DAILY;UNTIL=20260601T175959",
                Pattern::Daily,
                0,
                day("20260531T000000"),
            ),
            (
                "FREQ=YEARLY;UNTIL=20260601",
                Pattern::Custom,
                0,
                day("20260601T000000"),
            ),
        ] {
            let weekdays = Weekdays(weekdays);
            let expected = Simple {
                pattern,
                weekdays,
                last_day,
            };
            assert_eq!(simple(text), expected, "{text}");
        }
    }

    #[test]
    fn there_and_back() {
        for text in [
            "FREQ=DAILY",
            "FREQ=WEEKLY",
            "FREQ=WEEKLY;BYDAY=MO,WE,SU",
            "FREQ=MONTHLY;UNTIL=20301231T235959",
        ] {
            assert_eq!(simple(text).rule().unwrap().to_string(), text);
        }
        assert_eq!(simple("FREQ=YEARLY").rule(), None);
    }

    #[test]
    fn how_long_it_lasts() {
        let minutes = |count: i64| count * 60 * SECOND;
        let new = |start, end: Option<i64>, duration| {
            Length::new(minutes(start), end.map(minutes), duration)
        };
        assert_eq!(
            new(18 * 60, Some(19 * 60), Some(5)),
            Ok(Length::Clock(minutes(60)))
        );
        assert_eq!(
            new(22 * 60, Some(2 * 60), None),
            Ok(Length::Clock(minutes(240)))
        );
        assert_eq!(new(0, Some(24 * 60), None), Ok(Length::Clock(DAY)));
        assert_eq!(new(0, None, Some(90)), Ok(Length::Elapsed(minutes(90))));
        assert_eq!(new(0, None, None), Ok(Length::Elapsed(minutes(60))));
        assert_eq!(new(5, Some(5), None), Err(InvalidField::NoLength));
        assert_eq!(new(0, None, Some(0)), Err(InvalidField::Duration(0)));
        assert_eq!(
            new(0, None, Some(10_081)),
            Err(InvalidField::Duration(10_081))
        );
    }
}
