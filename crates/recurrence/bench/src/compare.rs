//! Random rules by both crates: `cargo run --release --bin compare`, with how many and a seed.
//! Fails where they differ otherwise than is known of `rrule` 0.14.

#[path = "../../tests/random/mod.rs"]
mod random;

use chrono::DateTime;
use recurrence::expand::Expansion;
use recurrence::rule::Rule;
use rrule::{RRule, Tz, Unvalidated};
use std::process::ExitCode;

/// The occurrences of each rule that are compared.
const COUNT: u16 = 50;

/// Where `rrule` is known to err: it passes by the first matches of rules for minutes and seconds,
/// and gives the days around New Year to the wrong year's weeks.
fn is_known(text: &str) -> bool {
    text.contains("BYWEEKNO") || text.contains("MINUTELY") || text.contains("SECONDLY")
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut number = |otherwise| {
        let given = arguments.next().and_then(|given| given.parse().ok());
        given.unwrap_or(otherwise)
    };
    let (rules, seed) = (number(2_000), number(5545));
    let mut random = random::Random(seed);
    let (mut same, mut refused, mut shorter, mut known, mut differ) = (0, 0, 0, 0, 0);
    for _ in 0..rules {
        let (first, mut text) = (random.first(), random.rule());
        // Beside a first start in UTC `rrule` takes no other end.
        if text.contains("UNTIL") && !text.ends_with('Z') {
            text.push('Z');
        }
        let theirs = text.parse().ok().and_then(|rule: RRule<Unvalidated>| {
            let first = DateTime::from_timestamp(first, 0)?;
            rule.build(first.with_timezone(&Tz::UTC)).ok()
        });
        let (Ok(rule), Some(theirs)) = (Rule::parse(&text), theirs) else {
            refused += 1;
            continue;
        };
        let found = theirs.all(COUNT);
        let theirs: Vec<i64> = found.dates.iter().map(|start| start.timestamp()).collect();
        let starts = Expansion::new(&rule, first, first);
        let ours: Vec<i64> = starts.take(COUNT.into()).collect();
        if ours == theirs {
            same += 1;
        } else if found.limited && ours.starts_with(&theirs) || theirs.starts_with(&ours) {
            shorter += 1;
        } else if is_known(&text) {
            known += 1;
        } else {
            differ += 1;
            println!(
                "{text} from {first}: {:?} and {:?}",
                ours.get(..3),
                theirs.get(..3)
            );
        }
    }
    println!(
        "{same} the same, {refused} refused by rrule, {shorter} given up by one of them, \
         {known} differ as is known, {differ} otherwise"
    );
    ExitCode::from(u8::from(differ > 0))
}
