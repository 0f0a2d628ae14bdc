//! Days of the Gregorian calendar as numbers: 0 is 1970-01-01, weekdays are 0 (Sunday) to 6.
//!
//! All of it is right for the years -10,000 to 100,000 and more, and checks nothing.

/// Seconds of a day without leap seconds.
pub const DAY_SECONDS: i64 = 24 * 60 * 60;

/// The first second of the year 1, and the last one of the year 9999: no start is outside.
pub const EARLIEST: i64 = -62_135_596_800;
pub const LATEST: i64 = 253_402_300_799;

/// The day of a date; `month` is 1 to 12, and `day` may be beyond the month.
pub fn from_civil(year: i32, month: u32, day: u32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month as i32 + 9) % 12) + 2) / 5 + day as i32 - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month (1 to 12) and day of the month (1 to 31) of a day.
pub fn to_civil(day: i32) -> (i32, u32, u32) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day_of_month = (of_year - (153 * month + 2) / 5 + 1) as u32;
    let month = if month < 10 { month + 3 } else { month - 9 } as u32;
    let year = year + era * 400 + i32::from(month <= 2);
    (year, month, day_of_month)
}

/// The weekday of a day, 0 (Sunday) to 6.
pub fn weekday(day: i32) -> u8 {
    (day + 4).rem_euclid(7) as u8
}

/// The first day of a day's week, which begins with the weekday `week_start`, 0 (Sunday) to 6.
pub fn week_of(day: i32, week_start: u8) -> i32 {
    day - (i32::from(weekday(day)) - i32::from(week_start)).rem_euclid(7)
}

/// True for a year with 29 February.
pub fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// The days of a year: 365 or 366.
pub fn of_year(year: i32) -> i32 {
    if is_leap(year) { 366 } else { 365 }
}

/// The days of a month, 1 to 12: 28 to 31.
pub fn of_month(year: i32, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Datelike, NaiveDate};

    #[test]
    fn every_day_of_ten_thousand_years() {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
        let mut date = NaiveDate::from_ymd_opt(0, 12, 1).unwrap();
        let mut day = (date - epoch).num_days() as i32;
        while date.year() < 10_001 {
            let civil = (date.year(), date.month(), date.day());
            assert_eq!(to_civil(day), civil);
            assert_eq!(from_civil(civil.0, civil.1, civil.2), day);
            assert_eq!(
                u32::from(weekday(day)),
                date.weekday().num_days_from_sunday()
            );
            assert_eq!(is_leap(civil.0), date.leap_year());
            date = date.succ_opt().unwrap();
            day += 1;
        }
    }
}
