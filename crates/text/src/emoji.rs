//! One spelling for what is one emoji to those who look at it.

use std::borrow::Cow;
use unicode_normalization::UnicodeNormalization;
use unicode_properties::emoji::{EmojiStatus, UnicodeEmoji};

const TEXT_STYLE: char = '\u{fe0e}';
const EMOJI_STYLE: char = '\u{fe0f}';
const KEYCAP: char = '\u{20e3}';

/// A text in which each emoji is spelt as Unicode lists it ("fully qualified"): with U+FE0F after what is drawn as a text
/// without it, and nowhere else. So an emoji is one, whether it was sent with U+FE0F, without, or with U+FE0E. Letters are
/// composed (NFC): an é is one, whether it was typed as one character or as two.
pub fn one_form(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let mut one = String::with_capacity(text.len() + EMOJI_STYLE.len_utf8());
    let mut rest = text.nfc().filter(|c| !is_style(*c)).peekable();
    while let Some(c) = rest.next() {
        one.push(c);
        if wants_style(c, rest.peek().copied()) {
            one.push(EMOJI_STYLE);
        }
    }
    if one == text {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(one)
    }
}

fn is_style(c: char) -> bool {
    matches!(c, TEXT_STYLE | EMOJI_STYLE)
}

fn wants_style(c: char, next: Option<char>) -> bool {
    if c.is_ascii() {
        // Digits are emoji on keycaps alone.
        return next == Some(KEYCAP) && c.is_emoji_char();
    }
    // A skin tone asks for the picture by itself.
    let is_toned = matches!(next, Some('\u{1f3fb}'..='\u{1f3ff}'));
    !is_toned && is_text_by_default(c)
}

/// Whether it is an emoji that is drawn as a text where nothing is said.
fn is_text_by_default(c: char) -> bool {
    matches!(
        c.emoji_status(),
        EmojiStatus::EmojiOther
            | EmojiStatus::EmojiOtherAndEmojiComponent
            | EmojiStatus::EmojiModifierBase
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::Regex;

    #[test]
    fn an_emoji_has_one_form_with_and_without_its_style() {
        for whole in [
            "❤\u{fe0f}",
            "1\u{fe0f}\u{20e3}",
            "#\u{fe0f}\u{20e3}",
            "🏳\u{fe0f}\u{200d}🌈",
            "🏳\u{fe0f}\u{200d}⚧\u{fe0f}",
            "👁\u{fe0f}\u{200d}🗨\u{fe0f}",
            "❤\u{fe0f}\u{200d}🔥",
            "👩\u{200d}❤\u{fe0f}\u{200d}💋\u{200d}👨",
            "🕵🏻\u{200d}♂\u{fe0f}",
            "☝\u{fe0f}",
            "☝🏽",
            "🅰\u{fe0f}",
            "⚡",
            "🔥",
            "🇩🇪",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "👩\u{200d}👩\u{200d}👧",
        ] {
            let bare: String = whole.chars().filter(|c| !is_style(*c)).collect();
            assert_eq!(one_form(&bare), whole);
            assert_eq!(one_form(whole), whole);
            assert_eq!(one_form(&whole.replace(EMOJI_STYLE, "\u{fe0e}")), whole);
        }
        assert_eq!(one_form("⚡\u{fe0f}"), "⚡");
        assert_eq!(one_form("🔥\u{fe0f}"), "🔥");
    }

    #[test]
    fn names_and_numbers_are_left_as_they_are() {
        for name in ["like", "100", "#1", "größer", "می\u{200c}خواهم", "*"] {
            assert!(matches!(one_form(name), Cow::Borrowed(_)), "{name}");
        }
        assert_ne!(one_form("☝🏽"), one_form("☝🏿"));
        assert_eq!(one_form("ole\u{301}"), "olé");
    }

    /// The properties as another program has them.
    #[test]
    fn what_is_drawn_as_a_text_is_what_unicode_says() {
        let class = Regex::new(r"^[\p{Emoji}--\p{Emoji_Presentation}--\p{ASCII}]$").unwrap();
        for c in '\0'..=char::MAX {
            let alone = c.to_string();
            let styled = one_form(&alone).ends_with(EMOJI_STYLE);
            assert_eq!(styled, class.is_match(&alone), "U+{:04X}", c as u32);
        }
    }
}
