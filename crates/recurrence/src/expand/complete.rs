//! What a rule leaves to its first start.

use crate::days::{self, DAY_SECONDS};
use crate::rule::{Freq, Rule, bits};

/// Fills in what the rule leaves to the first start (RFC 5545, 3.3.10), and takes out what is in
/// no rule that was read from a text.
pub fn complete(rule: &mut Rule, first: i64) {
    rule.interval = rule.interval.max(1);
    rule.week_start %= 7;
    rule.weekdays &= 0x7f;
    rule.hours &= (1 << 24) - 1;
    rule.minutes &= (1 << 60) - 1;
    rule.seconds &= (1 << 60) - 1;
    let day = first.div_euclid(DAY_SECONDS) as i32;
    let second = first.rem_euclid(DAY_SECONDS);
    let (_, month, of_month) = days::to_civil(day);
    let has_days = !rule.week_numbers.is_empty()
        || !rule.year_days.is_empty()
        || rule.month_days | rule.month_days_from_end != 0
        || rule.weekdays != 0
        || !rule.nth_weekdays.is_empty();
    if !has_days {
        match rule.freq {
            Freq::Yearly => {
                if rule.months == 0 {
                    rule.months = 1 << month;
                }
                rule.month_days = 1 << of_month;
            }
            Freq::Monthly => rule.month_days = 1 << of_month,
            Freq::Weekly => rule.weekdays = 1 << days::weekday(day),
            _ => {}
        }
    }
    if rule.hours == 0 && rule.freq < Freq::Hourly {
        rule.hours = 1 << (second / 3600);
    }
    if rule.minutes == 0 && rule.freq < Freq::Minutely {
        rule.minutes = 1 << (second / 60 % 60);
    }
    if rule.seconds == 0 && rule.freq < Freq::Secondly {
        rule.seconds = 1 << (second % 60);
    }
}

/// Times within a period of a completed rule, in seconds from its beginning, in order.
pub fn times(rule: &Rule) -> Vec<u32> {
    let of = |set: u64, freq: Freq| if rule.freq < freq { set } else { 1 };
    let mut times = Vec::new();
    for hour in bits(of(rule.hours.into(), Freq::Hourly)) {
        for minute in bits(of(rule.minutes, Freq::Minutely)) {
            for second in bits(of(rule.seconds, Freq::Secondly)) {
                times.push((hour * 3600 + minute * 60 + second) as u32);
            }
        }
    }
    times
}
