//! Session codes: what people read out, type in and share.
//!
//! A generated code has twelve characters of Crockford's base 32 (60 random bits) in three
//! groups, as in `7K3M-9QXT-2B4D`. Two codes are the same when their normal forms are: upper
//! case, no spaces or dashes of any kind, nothing unseen, and O as 0, I and L as 1. `sql/sessions.sql` indexes that form.

use std::fmt;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const GROUPS: usize = 3;
const GROUP: usize = 4;

/// The longest code that the column holds.
pub const MAX_CHARS: usize = 20;
/// The shortest normal form of a code that a client may choose.
pub const MIN_CHARS: usize = 6;

/// A code from twelve or more random bytes' worth of bits; 60 of the 64 are used.
fn encode(mut bits: u64) -> String {
    let mut code = String::with_capacity(GROUPS * GROUP + GROUPS - 1);
    for group in 0..GROUPS {
        if group > 0 {
            code.push('-');
        }
        for _ in 0..GROUP {
            code.push(ALPHABET[(bits & 31) as usize] as char);
            bits >>= 5;
        }
    }
    code
}

/// A new code from the operating system's random source, which is the only thing that can fail.
pub fn generate() -> Result<String, getrandom::Error> {
    getrandom::u64().map(encode)
}

/// The normal form of a code, however it was typed; none where it cannot be a code.
pub fn normalize(typed: &str) -> Option<String> {
    // A look-up never needs more than a few spaces: longer texts are not codes.
    if typed.chars().nth(4 * MAX_CHARS).is_some() {
        return None;
    }
    let mut normal = String::with_capacity(MAX_CHARS);
    for c in typed.chars() {
        match half_width(c).to_ascii_uppercase() {
            '-' | '_' | '.' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' => {}
            // What comes along unseen where a code is copied from a page or a message.
            '\u{ad}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => {}
            c if c.is_whitespace() => {}
            'O' => normal.push('0'),
            'I' | 'L' => normal.push('1'),
            c if c.is_ascii_alphanumeric() => normal.push(c),
            _ => return None,
        }
    }
    (MIN_CHARS..=MAX_CHARS)
        .contains(&normal.len())
        .then_some(normal)
}

/// A letter or digit as Latin keyboards have it, where a Japanese or Chinese one has typed it full-width.
fn half_width(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        c => c,
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum Invalid {
    Characters,
    Length,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Invalid::Characters => {
                f.write_str("A session code has letters A to Z, digits, and dashes between them.")
            }
            Invalid::Length => write!(
                f,
                "A session code has at least {MIN_CHARS} letters and digits, and {MAX_CHARS} \
                 characters at most."
            ),
        }
    }
}

/// Checks a code that a client chose; it is kept as it is.
pub fn validate(code: &str) -> Result<(), Invalid> {
    if !code.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
        || code.starts_with('-')
        || code.ends_with('-')
    {
        return Err(Invalid::Characters);
    }
    if code.len() > MAX_CHARS || normalize(code).is_none() {
        return Err(Invalid::Length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_codes_are_valid_and_in_normal_form_but_for_dashes() {
        for _ in 0..1_000 {
            let code = generate().unwrap();
            assert_eq!(code.len(), 14);
            assert_eq!(validate(&code), Ok(()));
            assert_eq!(normalize(&code), Some(code.replace('-', "")));
        }
    }

    #[test]
    fn every_bit_of_sixty_counts() {
        let codes: std::collections::HashSet<_> = (0..60).map(|bit| encode(1 << bit)).collect();
        assert_eq!(codes.len(), 60);
        assert!(!codes.contains(&encode(0)));
    }

    #[test]
    fn a_code_is_found_however_it_is_typed() {
        for typed in [
            "7K3M-9Q1T-2B0D",
            "7k3m9q1t2b0d",
            " 7K3M 9qIt 2bOd ",
            "7k3m-9qlt-2bod",
            "\u{feff}7K3M\u{200b}-9Q1T\u{2060}-2B0D\u{200e}",
            "７Ｋ３Ｍ－９ｑ１ｔ\u{3000}２Ｂ０Ｄ",
        ] {
            assert_eq!(
                normalize(typed).as_deref(),
                Some("7K3M9Q1T2B0D"),
                "{typed:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_a_code_has_no_normal_form() {
        for typed in [
            "",
            "-----",
            "ABC",
            "ÄBCDEFGH",
            "ABCDEF%",
            &"A".repeat(21),
            &" ".repeat(999),
        ] {
            assert_eq!(normalize(typed), None, "{typed:?}");
        }
    }

    #[test]
    fn a_client_may_choose_a_code() {
        assert_eq!(validate("SUMMER-SALE-26"), Ok(()));
        assert_eq!(validate("summer"), Ok(()));
        for code in ["SUMMER SALE", "-SUMMER", "SUMMER-", "SÜMMER", "SUM_MER"] {
            assert_eq!(validate(code), Err(Invalid::Characters), "{code:?}");
        }
        for code in ["SALE", "A-B-C", &"A".repeat(21)] {
            assert_eq!(validate(code), Err(Invalid::Length), "{code:?}");
        }
    }
}
