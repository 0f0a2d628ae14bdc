//! When a schedule takes place, in the wall-clock time of its own zone.
//!
//! A [`Series`] is built from a schedule's fields, refusing nonsense, and expanded from any
//! point on without walking there from its beginning. It yields starts, sorted and without
//! duplicates, and each start becomes an [`Occurrence`]: a richer rule is another way to make
//! the starts ([`Recurrence`]), and exceptions (skipped, moved, added) belong between the two.

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use std::iter::FusedIterator;

/// The longest `expected_duration_minutes`: a week.
pub const MAX_DURATION_MINUTES: i32 = 7 * 24 * 60;

/// The length of a schedule that says nothing about it.
pub const DEFAULT_DURATION_MINUTES: i32 = 60;

const DAY: TimeDelta = TimeDelta::days(1);
const FIRST_YEAR: i32 = 1;
const LAST_YEAR: i32 = 9999;

/// A set of weekdays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weekdays(u8);

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

    fn of(date: NaiveDate) -> Self {
        Self(1 << date.weekday().num_days_from_sunday())
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// 0 = Sunday … 6 = Saturday, in this order.
    pub fn numbers(self) -> Vec<i32> {
        (0..7).filter(|day| self.0 & (1 << day) != 0).collect()
    }

    /// Days from `date` to the first day of the set on or after it; none for an empty set.
    fn days_until_next(self, date: NaiveDate) -> Option<u64> {
        let today = date.weekday().num_days_from_sunday();
        let twice = u32::from(self.0) | u32::from(self.0) << 7;
        let ahead = twice >> today;
        (ahead != 0).then(|| u64::from(ahead.trailing_zeros()))
    }
}

/// Which dates a series falls on, counted from its first date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recurrence {
    Once,
    Daily,
    /// Each week on these days.
    Weekly(Weekdays),
    /// Each month on this day (1–31); a month without it is left out.
    Monthly(u32),
}

impl Recurrence {
    /// The first date on or after `date` that belongs to the recurrence.
    fn on_or_after(self, date: NaiveDate) -> Option<NaiveDate> {
        match self {
            Self::Once | Self::Daily => Some(date),
            Self::Weekly(days) => date.checked_add_days(Days::new(days.days_until_next(date)?)),
            Self::Monthly(day) => {
                let (mut year, mut month) = (date.year(), date.month());
                if date.day() > day {
                    (year, month) = following(year, month);
                }
                // Never two short months in a row, but February may follow a day that is past.
                for _ in 0..3 {
                    if let Some(found) = NaiveDate::from_ymd_opt(year, month, day) {
                        return Some(found);
                    }
                    (year, month) = following(year, month);
                }
                None
            }
        }
    }
}

fn following(year: i32, month: u32) -> (i32, u32) {
    if month == 12 {
        (year + 1, 1)
    } else {
        (year, month + 1)
    }
}

/// How long each occurrence lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Until the clock shows this much later, whatever the clock does in between.
    Clock(TimeDelta),
    /// This much time.
    Elapsed(TimeDelta),
}

impl Length {
    /// The length on a day on which the clock does not change.
    pub fn nominal(self) -> TimeDelta {
        match self {
            Self::Clock(length) | Self::Elapsed(length) => length,
        }
    }
}

/// One time that a series takes place, in wall-clock time; `end` is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occurrence {
    pub start: NaiveDateTime,
    pub end: NaiveDateTime,
}

/// A schedule's fields as a client writes them. Times of day are counted from midnight, since
/// PostgreSQL knows 24:00 and chrono does not.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    pub date: NaiveDate,
    pub start: TimeDelta,
    pub end: Option<TimeDelta>,
    pub duration_minutes: Option<i32>,
    pub is_recurring: bool,
    pub pattern: Option<&'a str>,
    pub weekdays: Weekdays,
    pub end_date: Option<NaiveDate>,
}

/// Why fields make no series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidField {
    Date,
    EndDate,
    StartTime,
    NoLength,
    Duration(i32),
    Weekday(Option<i32>),
    NoPattern,
    UnknownPattern(String),
    /// Rules of one's own are not supported yet.
    CustomPattern,
    EndsBeforeItBegins {
        first: NaiveDate,
        last: NaiveDate,
    },
    /// None of its weekdays comes up before its end date.
    NeverTakesPlace,
}

/// A schedule that can be expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    first: NaiveDate,
    last: Option<NaiveDate>,
    time: TimeDelta,
    length: Length,
    recurrence: Recurrence,
}

impl Series {
    pub fn new(fields: &Fields<'_>) -> Result<Self, InvalidField> {
        if !within_years(fields.date) {
            return Err(InvalidField::Date);
        }
        if fields.start < TimeDelta::zero() || fields.start >= DAY {
            return Err(InvalidField::StartTime);
        }
        let length = length(fields)?;
        let recurrence = recurrence(fields)?;
        let last = fields.end_date.filter(|_| recurrence != Recurrence::Once);
        if let Some(last) = last {
            if last < fields.date {
                let first = fields.date;
                return Err(InvalidField::EndsBeforeItBegins { first, last });
            }
            if !within_years(last) {
                return Err(InvalidField::EndDate);
            }
        }
        let series = Self {
            first: fields.date,
            last,
            time: fields.start,
            length,
            recurrence,
        };
        if series.on_or_after(series.first).is_none() {
            return Err(InvalidField::NeverTakesPlace);
        }
        Ok(series)
    }

    pub fn length(&self) -> Length {
        self.length
    }

    /// The occurrences that end after `from`, by the clock, in order.
    pub fn ending_after(&self, from: NaiveDateTime) -> Occurrences {
        let earliest = from
            .checked_sub_signed(self.length.nominal())
            .unwrap_or(NaiveDateTime::MIN);
        // A start at `earliest` itself ends at `from`, which is not after it.
        let date = if earliest - midnight(earliest.date()) < self.time {
            Some(earliest.date())
        } else {
            earliest.date().succ_opt()
        };
        Occurrences {
            series: *self,
            next: date.and_then(|date| self.on_or_after(date)),
        }
    }

    /// The first date of the series on or after `date`.
    fn on_or_after(&self, date: NaiveDate) -> Option<NaiveDate> {
        if self.recurrence == Recurrence::Once {
            return Some(self.first).filter(|first| *first >= date);
        }
        self.recurrence
            .on_or_after(date.max(self.first))
            .filter(|found| self.last.is_none_or(|last| *found <= last) && within_years(*found))
    }
}

/// The occurrences of a series from some point on.
#[derive(Clone, Debug)]
pub struct Occurrences {
    series: Series,
    next: Option<NaiveDate>,
}

impl Iterator for Occurrences {
    type Item = Occurrence;

    fn next(&mut self) -> Option<Occurrence> {
        let date = self.next?;
        self.next = date
            .succ_opt()
            .and_then(|date| self.series.on_or_after(date));
        let start = midnight(date) + self.series.time;
        Some(Occurrence {
            start,
            end: start + self.series.length.nominal(),
        })
    }
}

impl FusedIterator for Occurrences {}

fn within_years(date: NaiveDate) -> bool {
    (FIRST_YEAR..=LAST_YEAR).contains(&date.year())
}

fn midnight(date: NaiveDate) -> NaiveDateTime {
    date.and_time(NaiveTime::MIN)
}

fn length(fields: &Fields<'_>) -> Result<Length, InvalidField> {
    if let Some(minutes) = fields.duration_minutes
        && !(1..=MAX_DURATION_MINUTES).contains(&minutes)
    {
        return Err(InvalidField::Duration(minutes));
    }
    match fields.end {
        None => {
            let minutes = fields.duration_minutes.unwrap_or(DEFAULT_DURATION_MINUTES);
            Ok(Length::Elapsed(TimeDelta::minutes(minutes.into())))
        }
        Some(end) if end == fields.start => Err(InvalidField::NoLength),
        Some(end) if end < fields.start => Ok(Length::Clock(end + DAY - fields.start)),
        Some(end) => Ok(Length::Clock(end - fields.start)),
    }
}

fn recurrence(fields: &Fields<'_>) -> Result<Recurrence, InvalidField> {
    let recurrence = match fields.pattern {
        Some("custom") => return Err(InvalidField::CustomPattern),
        _ if !fields.is_recurring => Recurrence::Once,
        None => return Err(InvalidField::NoPattern),
        Some("daily") => Recurrence::Daily,
        Some("weekly") if fields.weekdays.is_empty() => {
            Recurrence::Weekly(Weekdays::of(fields.date))
        }
        Some("weekly") => Recurrence::Weekly(fields.weekdays),
        Some("monthly") => Recurrence::Monthly(fields.date.day()),
        Some(other) => return Err(InvalidField::UnknownPattern(other.to_owned())),
    };
    Ok(recurrence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn at(text: &str) -> NaiveDateTime {
        text.parse().unwrap()
    }

    fn minutes(count: i64) -> TimeDelta {
        TimeDelta::minutes(count)
    }

    fn weekdays(numbers: &[i32]) -> Weekdays {
        Weekdays::from_numbers(numbers.iter().copied().map(Some)).unwrap()
    }

    /// 18:00 to 19:30, once.
    fn fields(first: &str) -> Fields<'static> {
        Fields {
            date: date(first),
            start: minutes(18 * 60),
            end: Some(minutes(19 * 60 + 30)),
            duration_minutes: None,
            is_recurring: false,
            pattern: None,
            weekdays: weekdays(&[]),
            end_date: None,
        }
    }

    fn recurring(first: &str, pattern: &'static str) -> Fields<'static> {
        Fields {
            is_recurring: true,
            pattern: Some(pattern),
            ..fields(first)
        }
    }

    fn from(fields: &Fields<'_>, wall: &str) -> Occurrences {
        Series::new(fields).unwrap().ending_after(at(wall))
    }

    fn dates(fields: &Fields<'_>, wall: &str, count: usize) -> Vec<String> {
        let starts = from(fields, wall).take(count);
        starts.map(|one| one.start.date().to_string()).collect()
    }

    fn refusal(fields: Fields<'_>) -> InvalidField {
        Series::new(&fields).unwrap_err()
    }

    #[test]
    fn once_is_once_whatever_the_pattern_says() {
        let mut once = fields("2026-05-05");
        once.pattern = Some("daily");
        once.end_date = Some(date("2020-01-01"));
        let all: Vec<_> = from(&once, "0001-01-01T00:00:00").collect();
        let (start, end) = (at("2026-05-05T18:00:00"), at("2026-05-05T19:30:00"));
        assert_eq!(all, [Occurrence { start, end }]);
    }

    #[test]
    fn a_window_begins_with_what_has_not_ended() {
        let daily = recurring("2026-05-05", "daily");
        assert_eq!(dates(&daily, "2026-05-07T19:29:59", 1), ["2026-05-07"]);
        assert_eq!(dates(&daily, "2026-05-07T19:30:00", 1), ["2026-05-08"]);
        assert_eq!(dates(&daily, "2026-05-07T18:00:00", 1), ["2026-05-07"]);
        assert_eq!(dates(&daily, "2000-01-01T00:00:00", 1), ["2026-05-05"]);
    }

    #[test]
    fn an_end_before_the_start_is_on_the_next_day() {
        let mut night = recurring("2026-12-31", "daily");
        night.start = minutes(22 * 60);
        night.end = Some(minutes(2 * 60));
        let first = from(&night, "2026-12-31T00:00:00").next().unwrap();
        assert_eq!(first.end, at("2027-01-01T02:00:00"));
        assert_eq!(
            dates(&night, "2027-01-01T01:59:00", 2),
            ["2026-12-31", "2027-01-01"]
        );
        assert_eq!(dates(&night, "2027-01-01T02:00:00", 1), ["2027-01-01"]);
    }

    #[test]
    fn midnight_is_an_end_in_both_spellings() {
        for midnight in [0, 24 * 60] {
            let mut late = fields("2026-05-05");
            late.end = Some(minutes(midnight));
            let only = from(&late, "2026-05-05T00:00:00").next().unwrap();
            assert_eq!(only.end, at("2026-05-06T00:00:00"));
        }
        let mut whole_day = fields("2026-05-05");
        (whole_day.start, whole_day.end) = (minutes(0), Some(minutes(24 * 60)));
        let only = from(&whole_day, "2026-05-05T00:00:00").next().unwrap();
        assert_eq!(only.end - only.start, DAY);
    }

    #[test]
    fn without_an_end_the_expected_duration_counts_and_then_an_hour() {
        let mut open = fields("2026-05-05");
        open.end = None;
        assert_eq!(
            Series::new(&open).unwrap().length(),
            Length::Elapsed(minutes(60))
        );
        open.duration_minutes = Some(MAX_DURATION_MINUTES);
        assert_eq!(
            Series::new(&open).unwrap().length().nominal(),
            TimeDelta::days(7)
        );
        open.end = Some(minutes(19 * 60));
        assert_eq!(
            Series::new(&open).unwrap().length(),
            Length::Clock(minutes(60))
        );
    }

    #[test]
    fn overlapping_occurrences_are_all_found() {
        let mut long = recurring("2026-05-01", "daily");
        (long.end, long.duration_minutes) = (None, Some(3 * 24 * 60));
        let expected = ["2026-05-07", "2026-05-08", "2026-05-09", "2026-05-10"];
        assert_eq!(dates(&long, "2026-05-10T18:00:00", 3), expected[1..]);
        assert_eq!(dates(&long, "2026-05-10T17:59:00", 4), expected);
    }

    #[test]
    fn weekly_takes_its_first_date_only_if_its_day_is_in_the_set() {
        // A Sunday.
        let mut weekly = recurring("2024-12-01", "weekly");
        weekly.weekdays = weekdays(&[5, 1, 3]);
        let expected = ["2024-12-02", "2024-12-04", "2024-12-06", "2024-12-09"];
        assert_eq!(dates(&weekly, "2024-01-01T00:00:00", 4), expected);
        weekly.weekdays = weekdays(&[7, 1]);
        let expected = ["2024-12-01", "2024-12-02", "2024-12-08"];
        assert_eq!(dates(&weekly, "2024-01-01T00:00:00", 3), expected);
    }

    #[test]
    fn weekly_without_days_keeps_the_day_of_its_first_date() {
        let weekly = recurring("2026-05-06", "weekly");
        let expected = ["2026-05-06", "2026-05-13", "2026-05-20"];
        assert_eq!(dates(&weekly, "2026-05-01T00:00:00", 3), expected);
    }

    #[test]
    fn weekdays_are_sorted_and_distinct() {
        assert_eq!(weekdays(&[7, 3, 0, 3]).numbers(), [0, 3]);
        assert!(weekdays(&[]).numbers().is_empty());
        let numbers = |day| Weekdays::from_numbers([Some(1), day]);
        assert_eq!(numbers(Some(8)), Err(InvalidField::Weekday(Some(8))));
        assert_eq!(numbers(Some(-1)), Err(InvalidField::Weekday(Some(-1))));
        assert_eq!(numbers(None), Err(InvalidField::Weekday(None)));
    }

    #[test]
    fn monthly_leaves_short_months_out() {
        let monthly = recurring("2026-01-31", "monthly");
        let expected = [
            "2026-01-31",
            "2026-03-31",
            "2026-05-31",
            "2026-07-31",
            "2026-08-31",
        ];
        assert_eq!(dates(&monthly, "2026-01-01T00:00:00", 5), expected);
        let monthly = recurring("2027-12-29", "monthly");
        let expected = ["2028-01-29", "2028-02-29", "2028-03-29"];
        assert_eq!(dates(&monthly, "2027-12-30T00:00:00", 3), expected);
        assert_eq!(dates(&monthly, "2029-01-30T00:00:00", 1), ["2029-03-29"]);
    }

    #[test]
    fn the_end_date_is_inclusive() {
        let mut daily = recurring("2026-05-05", "daily");
        daily.end_date = Some(date("2026-05-07"));
        assert_eq!(from(&daily, "2026-01-01T00:00:00").count(), 3);
        daily.end_date = Some(date("2026-05-05"));
        assert_eq!(from(&daily, "2026-01-01T00:00:00").count(), 1);
    }

    #[test]
    fn the_calendar_ends_with_the_year_9999() {
        let daily = recurring("0001-01-01", "daily");
        let expected = ["9999-12-30", "9999-12-31"];
        assert_eq!(dates(&daily, "9999-12-30T00:00:00", 9), expected);
        let monthly = recurring("0001-01-31", "monthly");
        assert_eq!(dates(&monthly, "9999-12-01T00:00:00", 9), ["9999-12-31"]);
        assert_eq!(from(&monthly, "+10000-01-01T00:00:00").next(), None);
        let forever = Series::new(&daily).unwrap();
        assert_eq!(forever.ending_after(NaiveDateTime::MAX).next(), None);
        let first = forever.ending_after(NaiveDateTime::MIN).next().unwrap();
        assert_eq!(first.start, at("0001-01-01T18:00:00"));
    }

    #[test]
    fn a_window_is_the_tail_of_the_whole() {
        for pattern in ["daily", "weekly", "monthly"] {
            let mut some = recurring("2024-01-31", pattern);
            some.weekdays = weekdays(&[2, 6]);
            some.end_date = Some(date("2025-12-31"));
            let all: Vec<_> = from(&some, "2020-01-01T00:00:00").collect();
            assert!(all.is_sorted_by(|a, b| a.start < b.start));
            for (skipped, one) in all.iter().enumerate() {
                let series = Series::new(&some).unwrap();
                let before_end = one.end - TimeDelta::microseconds(1);
                assert!(
                    series
                        .ending_after(before_end)
                        .eq(all[skipped..].iter().copied())
                );
                assert!(
                    series
                        .ending_after(one.end)
                        .eq(all[skipped + 1..].iter().copied())
                );
            }
        }
    }

    #[test]
    fn a_series_without_any_occurrence_is_refused() {
        // A Sunday.
        let mut weekly = recurring("2024-12-01", "weekly");
        weekly.weekdays = weekdays(&[6]);
        weekly.end_date = Some(date("2024-12-06"));
        assert_eq!(refusal(weekly.clone()), InvalidField::NeverTakesPlace);
        weekly.end_date = Some(date("2024-12-07"));
        assert_eq!(dates(&weekly, "2024-01-01T00:00:00", 9), ["2024-12-07"]);
    }

    #[test]
    fn nonsense_is_refused() {
        let usual = || recurring("2026-05-05", "daily");
        let refused = |change: fn(&mut Fields<'_>)| {
            let mut changed = usual();
            change(&mut changed);
            refusal(changed)
        };
        assert_eq!(refused(|f| f.end = Some(f.start)), InvalidField::NoLength);
        assert_eq!(refused(|f| f.start = DAY), InvalidField::StartTime);
        assert_eq!(
            refused(|f| f.duration_minutes = Some(0)),
            InvalidField::Duration(0)
        );
        let too_long = MAX_DURATION_MINUTES + 1;
        assert_eq!(
            refused(|f| f.duration_minutes = Some(MAX_DURATION_MINUTES + 1)),
            InvalidField::Duration(too_long)
        );
        assert_eq!(refused(|f| f.pattern = None), InvalidField::NoPattern);
        assert_eq!(
            refused(|f| f.pattern = Some("custom")),
            InvalidField::CustomPattern
        );
        let yearly = InvalidField::UnknownPattern("yearly".into());
        assert_eq!(refused(|f| f.pattern = Some("yearly")), yearly);
        let (first, last) = (date("2026-05-05"), date("2026-05-04"));
        let backwards = InvalidField::EndsBeforeItBegins { first, last };
        assert_eq!(refused(|f| f.end_date = f.date.pred_opt()), backwards);
        let far = date("+10000-01-01");
        assert_eq!(
            refusal(Fields {
                date: far,
                ..usual()
            }),
            InvalidField::Date
        );
        let ancient = date("0000-12-31");
        assert_eq!(
            refusal(Fields {
                date: ancient,
                ..usual()
            }),
            InvalidField::Date
        );
        let end_date = Some(far);
        assert_eq!(
            refusal(Fields {
                end_date,
                ..usual()
            }),
            InvalidField::EndDate
        );
    }
}
