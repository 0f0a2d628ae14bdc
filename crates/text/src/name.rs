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
    let drawn: String = name
        .chars()
        .map(undecorated)
        .nfkd()
        .filter(|c| !shows_nothing(*c) && !is_drawn_through(*c))
        .nfc()
        .collect();
    if drawn.is_empty() {
        return None;
    }
    Some(Outline {
        as_written: one_case(skeleton(&drawn)),
        in_lower_case: one_case(skeleton(&one_case(drawn.chars()))),
    })
}

/// A letter of an alphabet that decorates Latin ones and that NFKC leaves as it is, or makes `(a)` of.
fn undecorated(c: char) -> char {
    const SMALL_CAPITALS: &str = "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡ\0ʏᴢ";
    let first = match c {
        '\u{249c}'..='\u{24b5}' => '\u{249c}',
        '\u{1f110}'..='\u{1f129}' => '\u{1f110}',
        '\u{1f150}'..='\u{1f169}' => '\u{1f150}',
        '\u{1f170}'..='\u{1f189}' => '\u{1f170}',
        '\u{1f1e6}'..='\u{1f1ff}' => '\u{1f1e6}',
        _ => {
            let nth = SMALL_CAPITALS.chars().position(|small| small == c);
            return nth.filter(|_| c != '\0').map_or(c, letter);
        }
    };
    letter((u32::from(c) - u32::from(first)) as usize)
}

/// The letter of this number, from 0.
fn letter(nth: usize) -> char {
    ('a'..='z').nth(nth).unwrap_or('z')
}

/// Lines and frames that are drawn through, under or around a letter, and make no other letter of it; the line that makes
/// Arabic words longer.
fn is_drawn_through(c: char) -> bool {
    matches!(c,
        '\u{640}' | '\u{305}' | '\u{332}' | '\u{333}' | '\u{33f}' | '\u{334}'..='\u{338}' | '\u{347}'
        | '\u{488}' | '\u{489}' | '\u{20d0}'..='\u{20f0}')
}

fn one_case(chars: impl Iterator<Item = char>) -> String {
    let lower: String = chars
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect();
    // İ in lower case is an i with a second dot.
    lower.replace("i\u{307}", "i")
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
            "ʟɪɴᴀ ᴘᴀᴜʟ",
            "🅛🅘🅝🅐 🅟🅐🅤🅛",
            "🅻🅸🅽🅰 🅿🅰🆄🅻",
            "Ⓛⓘⓝⓐ 🄟⒜⒰⒧",
            "🇱🇮🇳🇦 🇵🇦🇺🇱",
            "L\u{332}i\u{332}n\u{332}a\u{332} P\u{332}a\u{332}u\u{332}l\u{332}",
            "L\u{336}ina\u{338} Paul\u{20e3}",
        ] {
            assert!(taken(name, "Lina Paul"), "{name:?}");
        }
        assert!(taken("llse", "Ilse"));
        assert!(taken("GROSS", "Groß"));
        for name in ["ipek", "IPEK", "ıpek", "İPEK", "i\u{307}pek"] {
            assert!(taken(name, "İpek") && taken("İpek", name), "{name:?}");
        }
        assert!(taken("م\u{640}ريم", "مريم"));
        assert!(taken("ΣΟΦΟΣ", "σοφος"));
        assert!(taken("Lina❤", "Lina❤\u{fe0f}"));
        assert!(taken("Ame\u{301}lie", "Amélie"));
        assert!(taken(
            "ABCDEFGHIJKLMNOPQRSTUVWYZ",
            "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢ"
        ));
    }

    #[test]
    fn other_names_are_other_names() {
        for name in [
            "Lina",
            "Paul",
            "Lina Paula",
            "Lina Paul!",
            "Lína Paul",
            "Lin\u{1ea1} Paul",
            "🇩🇪",
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
