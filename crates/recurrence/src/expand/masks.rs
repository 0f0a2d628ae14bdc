//! The days of a month and of a year that a rule allows, as bit masks.

use crate::days::{self, week_of};
use crate::rule::{Rule, bits};

/// The days of a month, bit 0 being its first, that BYMONTHDAY and BYDAY allow.
pub fn month_mask(rule: &Rule, length: u32, first_weekday: u8, numbered: bool) -> u32 {
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
pub fn year_days(rule: &Rule, year: i32) -> Vec<u16> {
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
        let mut week = week_of(first, rule.week_start) - first;
        while week < length {
            if is_in_weeks(rule, first + week) {
                for index in week.max(0)..(week + 7).min(length) {
                    allowed[index as usize / 64] |= 1 << (index % 64);
                }
            }
            week += 7;
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

pub fn push_bits(days: &mut Vec<i32>, mut mask: u32, first: i32) {
    while mask != 0 {
        days.push(first + mask.trailing_zeros() as i32);
        mask &= mask - 1;
    }
}
