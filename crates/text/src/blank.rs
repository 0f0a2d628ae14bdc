//! Texts that show nothing.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// `Default_Ignorable_Code_Point` of Unicode, also where nothing is assigned yet.
const IGNORABLE: [(char, char); 17] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{202a}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fff8}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Drawn as empty space, though Unicode has them as letters, marks and symbols: the Braille pattern without dots, the Khitan
/// filler, the Egyptian blanks and the notehead that is none.
const DRAWN_AS_SPACE: [char; 5] = [
    '\u{2800}',
    '\u{16fe4}',
    '\u{13441}',
    '\u{13442}',
    '\u{1d159}',
];

/// Format characters that are drawn: signs written before a number, in Arabic, Syriac and Kaithi (`Prepended_Concatenation_Mark`).
const DRAWN_FORMATS: [(char, char); 7] = [
    ('\u{600}', '\u{605}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
];

fn is_in(ranges: &[(char, char)], c: char) -> bool {
    ranges
        .iter()
        .any(|&(first, last)| (first..=last).contains(&c))
}

/// Whether a character is drawn as empty space, though it is none.
pub(crate) fn is_drawn_as_space(c: char) -> bool {
    DRAWN_AS_SPACE.contains(&c)
}

/// Whether a character, by itself, shows nothing.
pub(crate) fn shows_nothing(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_whitespace() || c.is_ascii_control();
    }
    c.is_whitespace()
        || is_in(&IGNORABLE, c)
        || is_drawn_as_space(c)
        || match c.general_category() {
            GeneralCategory::Control => true,
            GeneralCategory::Format => !is_in(&DRAWN_FORMATS, c),
            _ => false,
        }
}

/// Whether a text shows nothing: it has no characters, or only white space, controls, format characters and others that are
/// drawn as nothing or as empty space. A combining mark alone shows, as does a character that is not assigned.
pub fn is_blank(text: &str) -> bool {
    text.chars().all(shows_nothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::Regex;

    /// The properties as another program has them.
    #[test]
    fn what_shows_nothing_is_what_unicode_says() {
        let drawn_as_space: String = DRAWN_AS_SPACE.iter().collect();
        let nothing = [
            r"\p{White_Space}\p{Cc}\p{Default_Ignorable_Code_Point}",
            r"[\p{Cf}--\p{Prepended_Concatenation_Mark}]",
            &drawn_as_space,
        ];
        let class = Regex::new(&format!("^[{}]$", nothing.concat())).unwrap();
        for c in '\0'..=char::MAX {
            let alone = c.to_string();
            assert_eq!(
                is_blank(&alone),
                class.is_match(&alone),
                "U+{:04X}",
                c as u32
            );
        }
    }

    #[test]
    fn a_text_with_anything_to_see_is_not_blank() {
        for text in [
            "a",
            "\u{200b}a",
            "👩\u{200d}👩\u{200d}👧",
            "❤\u{fe0f}",
            "\u{301}",
            "می\u{200c}خواهم",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "\u{600}",
            "1\u{fe0f}\u{20e3}",
            "\u{378}",
        ] {
            assert!(!is_blank(text), "{text:?}");
        }
    }

    #[test]
    fn any_mix_of_what_shows_nothing_is_blank() {
        for text in [
            "",
            " \t\r\n",
            "\u{200b}\u{2060}\u{3164}",
            "\u{feff}",
            "\u{ad}\u{2800}",
            "\u{1}\u{7f}\u{9f}",
            "\u{200d}",
            "\u{fe0f}",
            "\u{e0041}\u{e007f}",
            "\u{115f}\u{1160}\u{ffa0}",
            "\u{202e} \u{2069}",
            "\u{2028}\u{85}\u{3000}",
            "\u{fff9}\u{fffb}",
        ] {
            assert!(is_blank(text), "{text:?}");
        }
    }
}
