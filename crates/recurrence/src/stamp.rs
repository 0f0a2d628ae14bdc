//! Dates and times of the calendar's text, as RFC 5545 writes them.

use crate::days::{self, DAY_SECONDS, EARLIEST, LATEST};
use std::fmt::Write;

/// A time of RFC 5545, 3.3.5, such as `20260501T180000`, of seconds since 1970-01-01; the nearest
/// one in the years 1 to 9999 where that has none.
pub fn stamp(at: i64) -> String {
    let at = at.clamp(EARLIEST, LATEST);
    let (day, second) = (at.div_euclid(DAY_SECONDS), at.rem_euclid(DAY_SECONDS));
    let (year, month, day) = days::to_civil(day as i32);
    let mut text = String::with_capacity(15);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let _ = write!(
        text,
        "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}"
    );
    text
}

/// Reads a time such as `20260501T180000` (RFC 5545, 3.3.5) as seconds since 1970-01-01, and says
/// whether there is a Z after it, for UTC; none for what is no time of the years 1 to 9999. The
/// second 60 is 59.
pub fn read_stamp(text: &str) -> Option<(i64, bool)> {
    let (text, utc) = match text.strip_suffix('Z') {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (date, time) = text.split_once('T')?;
    if time.len() != 6 || !time.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| time[range].parse::<i64>().ok();
    let (hour, minute, second) = (number(0..2)?, number(2..4)?, number(4..6)?.min(59));
    if hour > 23 || minute > 59 || time[4..].parse::<u8>().ok()? > 60 {
        return None;
    }
    let day = i64::from(read_date(date)?);
    Some((day * DAY_SECONDS + hour * 3600 + minute * 60 + second, utc))
}

/// Reads a date such as `20260501` (RFC 5545, 3.3.4) as a day, of which 0 is 1970-01-01; none for
/// what is no date of the years 1 to 9999.
pub fn read_date(text: &str) -> Option<i32> {
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let year = text[..4].parse().ok()?;
    let month = text[4..6].parse().ok()?;
    let day = text[6..].parse().ok()?;
    let fits =
        year > 0 && (1..=12).contains(&month) && day > 0 && day <= days::of_month(year, month);
    fits.then(|| days::from_civil(year, month, day))
}
