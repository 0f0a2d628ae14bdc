//! Numbers and names that programmes give to things, as of an order.

use crate::blank::{is_drawn_as_space, shows_nothing};
use unicode_normalization::UnicodeNormalization;

/// One spelling for what is one reference to those who look at it: letters composed (NFC), without what shows nothing, with
/// one space for each stretch of white space, and none at the ends.
///
/// None for a reference that shows nothing.
pub fn reference(sent: &str) -> Option<String> {
    let mut kept = String::with_capacity(sent.len());
    let mut is_apart = false;
    for c in sent.nfc() {
        if c.is_whitespace() || is_drawn_as_space(c) {
            is_apart = !kept.is_empty();
        } else if !shows_nothing(c) {
            if std::mem::take(&mut is_apart) {
                kept.push(' ');
            }
            kept.push(c);
        }
    }
    // What was left out may have kept two characters apart.
    let kept: String = kept.nfc().collect();
    (!kept.is_empty()).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_of_each() {
        for (sent, kept) in [
            ("A-1", "A-1"),
            (" A-1\r\n", "A-1"),
            ("\u{feff}A\u{200b}-1\u{2060}", "A-1"),
            ("A\u{a0}1", "A 1"),
            ("A \u{200b} \t1", "A 1"),
            ("A1", "A1"),
            ("a1", "a1"),
            ("cafe\u{301}", "café"),
            ("cafe\u{200b}\u{301}", "café"),
            ("A\u{0}1\u{7f}", "A1"),
            ("\u{301}", "\u{301}"),
        ] {
            assert_eq!(reference(sent).as_deref(), Some(kept), "{sent:?}");
        }
    }

    #[test]
    fn what_shows_nothing_is_none() {
        for sent in ["", " \n", "\u{200b}", "\u{2800}\u{3164}", "\u{ad}\u{feff} "] {
            assert_eq!(reference(sent), None, "{sent:?}");
        }
    }

    #[test]
    fn a_second_time_changes_nothing() {
        for c in ('\0'..=char::MAX).step_by(7) {
            for sent in [format!("a{c}b"), format!("e{c}\u{301}"), format!("{c}{c}")] {
                if let Some(kept) = reference(&sent) {
                    assert_eq!(reference(&kept), Some(kept.clone()), "{sent:?}");
                }
            }
        }
    }
}
