//! Lines of RFC 5545: escaped, folded, and back.

use std::borrow::Cow;

/// The most octets of a line, without its end.
const MAX_LINE: usize = 75;

/// The most parameters of a line that are read.
const MAX_PARAMETERS: usize = 50;

/// Appends a content line (RFC 5545, 3.1), folded into lines of 75 octets at most.
pub fn push_line(out: &mut String, line: &str) {
    let mut room = MAX_LINE;
    for character in line.chars() {
        if character.len_utf8() > room {
            out.push_str("\r\n ");
            room = MAX_LINE - 1;
        }
        room -= character.len_utf8();
        out.push(character);
    }
    out.push_str("\r\n");
}

/// A text value (RFC 5545, 3.3.11): what has a meaning in a line is escaped, what cannot be in one
/// is left out.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    for character in text.chars() {
        match character {
            '\\' | ';' | ',' => {
                escaped.push('\\');
                escaped.push(character);
            }
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push('\t'),
            control if control.is_control() => {}
            other => escaped.push(other),
        }
    }
    escaped
}

/// The text of a text value (RFC 5545, 3.3.11); what escapes nothing is taken as it is.
pub fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n' | 'N') => plain.push('\n'),
                Some(other) => plain.push(other),
                None => {}
            },
            other => plain.push(other),
        }
    }
    plain
}

/// A content line (RFC 5545, 3.1), taken apart: its name and those of its parameters are in upper
/// case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub name: String,
    pub parameters: Vec<(String, String)>,
    pub value: String,
}

impl Line {
    /// The value of a parameter whose name is in upper case, without quotes.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// None for a line without a value.
    fn parse(line: &str) -> Option<Self> {
        let mut pieces = Vec::new();
        let (mut quoted, mut begin) = (false, 0);
        let mut value = None;
        for (at, character) in line.char_indices() {
            match character {
                '"' => quoted = !quoted,
                ';' | ':' if !quoted => {
                    if pieces.len() <= MAX_PARAMETERS {
                        pieces.push(&line[begin..at]);
                    }
                    begin = at + 1;
                    if character == ':' {
                        value = Some(&line[begin..]);
                        break;
                    }
                }
                _ => {}
            }
        }
        let (name, parameters) = pieces.split_first()?;
        let parameter = |piece: &&str| {
            let (name, value) = piece.split_once('=')?;
            Some((
                name.to_ascii_uppercase(),
                value.trim_matches('"').to_owned(),
            ))
        };
        Some(Self {
            name: name.to_ascii_uppercase(),
            parameters: parameters.iter().filter_map(parameter).collect(),
            value: value?.to_owned(),
        })
    }
}

/// The lines of a text, unfolded one by one; those that are none are left out. A line ends with
/// CRLF or LF.
pub fn lines(text: &str) -> impl Iterator<Item = Line> {
    let mut raw = text
        .split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .peekable();
    std::iter::from_fn(move || {
        loop {
            let mut line = Cow::Borrowed(raw.next()?);
            while let Some(rest) = raw.peek().and_then(|next| next.strip_prefix([' ', '\t'])) {
                line.to_mut().push_str(rest);
                raw.next();
            }
            if let Some(line) = Line::parse(&line) {
                return Some(line);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_folded_between_characters() {
        for text in [
            "x".repeat(75),
            "x".repeat(76),
            "ä".repeat(200),
            "👩‍🚀".repeat(50),
        ] {
            let mut folded = String::new();
            push_line(&mut folded, &format!("SUMMARY:{text}"));
            assert!(folded.split("\r\n").all(|line| line.len() <= MAX_LINE));
            let read: Vec<Line> = lines(&folded).collect();
            assert_eq!((read[0].name.as_str(), &read[0].value), ("SUMMARY", &text));
        }
    }

    #[test]
    fn texts_come_back() {
        for text in ["a;b,c\\d", "one\ntwo", "\\n", "tab\there", "ü👩‍🚀:\"quoted\""] {
            assert_eq!(unescape(&escape(text)), text);
        }
        assert_eq!(escape("a\r\nb\rc\u{7}"), "a\\nb\\nc");
    }

    #[test]
    fn parameters_are_read() {
        let text = "dtstart;tzid=\"A:B;C\";X=1:20260501T100000\r\nnothing\r\n";
        let read: Vec<Line> = lines(text).collect();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].name, "DTSTART");
        assert_eq!(read[0].parameter("TZID"), Some("A:B;C"));
        assert_eq!(read[0].value, "20260501T100000");
    }
}
