//! Occurrences a second of this crate and of the crate `rrule`, which must give the same ones.

use chrono::DateTime;
use recurrence::expand::Expansion;
use recurrence::rule::Rule;
use recurrence::stamp::read_stamp;
use rrule::{RRule, RRuleSet, Tz, Unvalidated};
use std::hint::black_box;
use std::time::{Duration, Instant};

const FIRST: &str = "20260101T180000";

const RULES: [&str; 14] = [
    "FREQ=DAILY",
    "FREQ=DAILY;BYHOUR=9,12,18;BYMINUTE=0,30",
    "FREQ=WEEKLY;BYDAY=MO,WE,FR",
    "FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=TU,TH",
    "FREQ=MONTHLY;BYMONTHDAY=-1",
    "FREQ=MONTHLY;BYDAY=1MO,-1FR",
    "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
    "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
    "FREQ=YEARLY;BYMONTH=6,7;BYDAY=-1SU",
    "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO",
    "FREQ=YEARLY;BYDAY=20MO",
    "FREQ=HOURLY;INTERVAL=5",
    "FREQ=MINUTELY;INTERVAL=90;BYDAY=SA,SU",
    "FREQ=SECONDLY;INTERVAL=45",
];

/// How many occurrences of each rule are taken.
const COUNT: usize = 1_000;

const RUNS: usize = 301;
const FEWEST: usize = 5;
const LONGEST: Duration = Duration::from_secs(2);

/// How far after the first start a window is, and how many occurrences it takes.
const YEARS: i64 = 20;
const AHEAD: i64 = YEARS * 366 * 24 * 60 * 60;
const WINDOW: usize = 10;

fn ours(rule: &Rule, first: i64, from: i64, count: usize) -> Vec<i64> {
    Expansion::new(rule, first, from).take(count).collect()
}

fn theirs(set: &RRuleSet, from: i64, count: usize) -> Vec<i64> {
    let starts = set.into_iter().map(|start| start.timestamp());
    starts
        .skip_while(|start| *start < from)
        .take(count)
        .collect()
}

/// The rule as `rrule` has it; in UTC, whose clocks are never changed.
fn set_of(text: &str, first: i64) -> Result<RRuleSet, String> {
    let first = DateTime::from_timestamp(first, 0).ok_or("no such first start")?;
    let rule: RRule<Unvalidated> = text.parse().map_err(|error| format!("{error}"))?;
    let built = rule.build(first.with_timezone(&Tz::UTC));
    built.map_err(|error| format!("{error}"))
}

/// Seconds: the median of runs that are many and short, so that others on the machine meet few.
fn median(mut run: impl FnMut() -> Vec<i64>) -> f64 {
    let begin = Instant::now();
    let mut seconds = Vec::new();
    while seconds.len() < RUNS && (seconds.len() < FEWEST || begin.elapsed() < LONGEST) {
        let begin = Instant::now();
        black_box(run());
        seconds.push(begin.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn main() -> Result<(), String> {
    let (first, _) = read_stamp(FIRST).ok_or("FIRST is no time")?;
    println!("| rule | recurrence, M/s | rrule, M/s | recurrence, µs | rrule, µs |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for text in RULES {
        let rule = Rule::parse(text).map_err(|invalid| invalid.to_string())?;
        let set = set_of(text, first)?;
        let mut medians = Vec::new();
        for (from, count) in [(first, COUNT), (first + AHEAD, WINDOW)] {
            if ours(&rule, first, from, count) != theirs(&set, from, count) {
                return Err(format!("{text}: the occurrences from {from} on differ"));
            }
            medians.push(median(|| ours(&rule, first, from, count)));
            medians.push(median(|| theirs(&set, from, count)));
        }
        let rate = |seconds: f64| COUNT as f64 / seconds / 1e6;
        let micros = |seconds: f64| seconds * 1e6;
        println!(
            "| `{text}` | {:.1} | {:.2} | {:.1} | {:.0} |",
            rate(medians[0]),
            rate(medians[1]),
            micros(medians[2]),
            micros(medians[3]),
        );
    }
    println!(
        "\nMillion occurrences a second; then microseconds for {WINDOW} occurrences from {YEARS} years after \
         the first start on."
    );
    Ok(())
}
