//! What holds of every rule, tried with some thousand.

mod check;
mod random;

use random::Random;

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
        let mut text = random.rule().into_bytes();
        for _ in 0..1 + random.below(3) {
            let at = random.below(text.len() as u64) as usize;
            let other = random.one_of(&["=", ";", ",", "-", "0", "9", "Z", "T", " ", "\0", "y"]);
            match random.below(3) {
                0 => {
                    text.remove(at);
                }
                1 => text.splice(at..at, other.bytes()).for_each(drop),
                _ => text.splice(at..=at, other.bytes()).for_each(drop),
            }
        }
        rules += usize::from(check::rule(first, &String::from_utf8_lossy(&text)));
    }
    assert!(rules > 100, "only {rules} of them are rules");
}
