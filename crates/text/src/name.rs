//! Names that strangers read.

use crate::blank::shows_nothing;
use unicode_normalization::UnicodeNormalization;
use unicode_security::confusable_detection::skeleton;

/// The first character that no name holds: a line break or another control, or one that turns the direction of what follows.
/// Marks of direction (U+200E, U+200F, U+061C) turn nothing but themselves, and names are written with them.
pub fn not_in_names(name: &str) -> Option<char> {
    name.chars().find(|c| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

/// What a name looks like: names with an outline in common are taken for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    as_written: String,
    in_lower_case: String,
}

/// A name as the eye takes it: without what shows nothing and without spaces, in one case and in one style of letters, and
/// with letters of all scripts that are drawn alike being the same. Twice, as some letters are alike in capitals only.
///
/// None for a name that shows nothing.
pub fn outline(name: &str) -> Option<Outline> {
    let drawn: String = name.nfkc().filter(|c| !shows_nothing(*c)).collect();
    if drawn.is_empty() {
        return None;
    }
    Some(Outline {
        as_written: one_case(skeleton(&drawn)),
        in_lower_case: one_case(skeleton(&one_case(drawn.chars()))),
    })
}

fn one_case(chars: impl Iterator<Item = char>) -> String {
    chars
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect()
}

/// Whether a name is taken for the one with this outline.
pub fn looks_like(name: &str, other: &Outline) -> bool {
    outline(name).is_some_and(|name| {
        name.as_written == other.as_written || name.in_lower_case == other.in_lower_case
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(name: &str, host: &str) -> bool {
        looks_like(name, &outline(host).unwrap())
    }

    #[test]
    fn a_name_is_taken_for_another_that_looks_the_same() {
        for name in [
            "Lina Paul",
            "lina paul",
            "LINA PAUL",
            " Lina  Paul\u{a0}",
            "Lina\u{200b} Paul\u{feff}",
            "L\u{ad}ina Paul",
            "LinaPaul",
            "Ｌｉｎａ Ｐａｕｌ",
            "𝓛𝓲𝓷𝓪 𝓟𝓪𝓾𝓵",
            "Lina P\u{0430}ul",
            "Lin\u{0430} \u{0420}aul",
            "Lina Pau1",
            "L\u{131}na Paul",
        ] {
            assert!(taken(name, "Lina Paul"), "{name:?}");
        }
        assert!(taken("llse", "Ilse"));
        assert!(taken("GROSS", "Groß"));
        assert!(taken("ΣΟΦΟΣ", "σοφος"));
        assert!(taken("Lina❤", "Lina❤\u{fe0f}"));
        assert!(taken("Ame\u{301}lie", "Amélie"));
    }

    #[test]
    fn other_names_are_other_names() {
        for name in [
            "Lina",
            "Paul",
            "Lina Paula",
            "Lina Paul!",
            "Lína Paul",
            "Fan of Lina Paul",
            "",
            "\u{200b}",
        ] {
            assert!(!taken(name, "Lina Paul"), "{name:?}");
        }
        assert_eq!(outline("\u{3164} "), None);
    }

    #[test]
    fn names_hold_no_breaks_and_turn_no_direction() {
        for c in "\n\r\u{b}\u{c}\u{85}\u{2028}\u{2029}\t\0\u{7f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}".chars() {
            assert_eq!(not_in_names(&format!("Li{c}na")), Some(c));
        }
        for name in [
            "Lina Paul",
            "שלום\u{200f}",
            "می\u{200c}خواهم",
            "👩\u{200d}👧",
            "\u{200e}A",
            "O’Neill",
            "\u{61c}1",
        ] {
            assert_eq!(not_in_names(name), None);
        }
    }
}
