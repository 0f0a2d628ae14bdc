//! What holds of every text, tried with some thousand.

mod check;
mod random;

use random::Random;

const SPOILERS: [&str; 11] = ["=", ";", ",", "-", "0", "9", "Z", "T", " ", "\0", "y"];

/// The text with some places left out or written over.
fn spoil(random: &mut Random, text: &str, with: &[&str]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..1 + random.below(3) {
        let at = random.below(characters.len() as u64) as usize;
        let other = random.one_of(with).chars();
        match random.below(3) {
            0 => drop(characters.remove(at)),
            1 => characters.splice(at..at, other).for_each(drop),
            _ => characters.splice(at..=at, other).for_each(drop),
        }
    }
    characters.into_iter().collect()
}

#[test]
fn random_rules() {
    let mut random = Random(5545);
    for _ in 0..4_000 {
        let (first, rule) = (random.first(), random.rule());
        assert!(check::rule(first, &rule), "{rule} is none");
    }
}

/// Texts that are nearly rules.
#[test]
fn spoilt_rules() {
    let mut random = Random(1);
    let mut rules = 0;
    for _ in 0..4_000 {
        let first = random.first();
        let text = random.rule();
        let text = spoil(&mut random, &text, &SPOILERS);
        rules += usize::from(check::rule(first, &text));
    }
    assert!(rules > 100, "only {rules} of them are rules");
}

#[test]
fn spoilt_calendars() {
    const CALENDAR: &str = "BEGIN:VCALENDAR\r\nX-WR-TIMEZONE:Asia/Tokyo\r\n\
        BEGIN:VTIMEZONE\r\nTZID:Here\r\nX-LIC-LOCATION:Asia/Tokyo\r\nEND:VTIMEZONE\r\n\
        BEGIN:VEVENT\r\nUID:1\r\nSUMMARY;X=\"a:b\":Sp\\,ri\r\n ng\r\nDURATION:P1DT2H\r\nEND:VEVENT\r\n\
        BEGIN:VEVENT\r\nUID:1\r\nRECURRENCE-ID:20260501T180000\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
    const SPOILERS: [&str; 10] = [
        ":", ";", "\"", "\\", "\r", "\n ", "BEGIN:", "END:", "\u{7}", "ä",
    ];
    let mut random = Random(1);
    let mut calendars = 0;
    for _ in 0..4_000 {
        calendars += usize::from(check::calendar(&spoil(&mut random, CALENDAR, &SPOILERS)));
    }
    assert!(calendars > 100, "only {calendars} of them are calendars");
}
