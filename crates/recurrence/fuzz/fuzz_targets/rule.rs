//! Any text as a rule, with any first start in the years 1 to 9999.
#![no_main]

#[path = "../../tests/check/mod.rs"]
#[allow(dead_code)]
mod check;

use libfuzzer_sys::fuzz_target;
use recurrence::days::{EARLIEST, LATEST};

fuzz_target!(|input: (i64, &str)| {
    let (number, text) = input;
    let first = EARLIEST + number.rem_euclid(LATEST - EARLIEST + 1);
    check::rule(first, text);
});
