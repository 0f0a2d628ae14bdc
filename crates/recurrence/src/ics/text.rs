//! Lines of RFC 5545: escaped, folded, and back.

use std::borrow::Cow;

/// The most octets of a line, without its end.
const MAX_LINE: usize = 75;

/// The most parameters of a line that are read.
const MAX_PARAMETERS: usize = 50;

/// How much is told of what is no line, or no parameter.
const MAX_TOLD: usize = 40;

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
                Some(other @ ('\\' | ';' | ',')) => plain.push(other),
                // Nothing that the format escapes: as it was written.
                Some(other) => plain.extend(['\\', other]),
                None => plain.push('\\'),
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
    /// What stands among the parameters and is none, or one that is there twice; the first such.
    pub flaw: Option<String>,
}

impl Line {
    /// The value of a parameter whose name is in upper case, without quotes.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A value that is no text: what is white around it means nothing.
    pub fn word(&self) -> &str {
        self.value.trim()
    }

    /// None for what is no NAME;PARAMETERS:value.
    fn parse(line: &str) -> Option<Self> {
        let mut pieces = Vec::new();
        let (mut quoted, mut begin) = (false, 0);
        let mut value = None;
        let mut beyond = None;
        for (at, character) in line.char_indices() {
            match character {
                '"' => quoted = !quoted,
                ';' | ':' if !quoted => {
                    if pieces.len() <= MAX_PARAMETERS {
                        pieces.push(&line[begin..at]);
                    } else {
                        beyond.get_or_insert(&line[begin..at]);
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
        let (name, pieces) = pieces.split_first()?;
        let name = name.trim_start_matches('\u{feff}').trim();
        if !is_name(name) {
            return None;
        }
        let mut parameters: Vec<(String, String)> = Vec::new();
        let mut flaw = None;
        for piece in pieces {
            match parameter(piece) {
                Some(one) if parameters.iter().all(|(name, _)| *name != one.0) => {
                    parameters.push(one);
                }
                _ => {
                    flaw.get_or_insert(*piece);
                }
            }
        }
        let flaw = flaw.or(beyond);
        Some(Self {
            name: name.to_ascii_uppercase(),
            parameters,
            value: value?.to_owned(),
            flaw: flaw.map(|piece| piece.trim().chars().take(MAX_TOLD).collect()),
        })
    }
}

/// True for what may name a property or a parameter; programs use more characters than RFC 5545 has.
fn is_name(text: &str) -> bool {
    let may_stand = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '_' | '.');
    !text.is_empty() && text.chars().all(may_stand)
}

/// The name and the value of a parameter; none for what is none. Quotes stand around all of a value or nowhere, except in
/// parameters that only their programs understand.
fn parameter(piece: &str) -> Option<(String, String)> {
    let (name, value) = piece.split_once('=')?;
    let (name, value) = (name.trim().to_ascii_uppercase(), value.trim());
    let inner = match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"'),
        None => Some(value),
    };
    let inner = inner.filter(|inner| !inner.contains('"'));
    let value = inner.or(name.starts_with("X-").then_some(value))?;
    is_name(&name).then(|| (name, decode(value)))
}

/// The value of a parameter (RFC 6868); what escapes nothing is taken as it is.
fn decode(value: &str) -> String {
    if !value.contains('^') {
        return value.to_owned();
    }
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars().peekable();
    while let Some(character) = characters.next() {
        let meant = match (character, characters.peek()) {
            ('^', Some('n')) => '\n',
            ('^', Some('^')) => '^',
            ('^', Some('\'')) => '"',
            _ => {
                plain.push(character);
                continue;
            }
        };
        plain.push(meant);
        characters.next();
    }
    plain
}

/// The lines of a text, unfolded one by one; of those that are none, what they say. A line ends with
/// CRLF, LF or CR, and any number of those.
pub fn lines(text: &str) -> impl Iterator<Item = Result<Line, String>> {
    let mut raw = text
        .split(['\n', '\r'])
        .filter(|line| !line.is_empty())
        .peekable();
    std::iter::from_fn(move || {
        let mut line = Cow::Borrowed(raw.next()?);
        while let Some(rest) = raw.peek().and_then(|next| next.strip_prefix([' ', '\t'])) {
            line.to_mut().push_str(rest);
            raw.next();
        }
        Some(Line::parse(&line).ok_or_else(|| line.trim().chars().take(MAX_TOLD).collect()))
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
            let read = lines(&folded).next().unwrap().unwrap();
            assert_eq!((read.name.as_str(), &read.value), ("SUMMARY", &text));
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
        let text = "dtstart;tzid=\"A:B;C\"; X = 1 ;N=^n^^^'^x:20260501T100000\r\nnothing\r\n";
        let read: Vec<_> = lines(text).collect();
        assert_eq!(read.len(), 2);
        let line = read[0].as_ref().unwrap();
        assert_eq!(line.name, "DTSTART");
        assert_eq!(line.parameter("TZID"), Some("A:B;C"));
        assert_eq!(line.parameter("X"), Some("1"));
        assert_eq!(line.parameter("N"), Some("\n^\"^x"));
        assert_eq!(line.value, "20260501T100000");
        assert_eq!(read[1], Err("nothing".to_owned()));
    }

    #[test]
    fn what_is_no_parameter_is_told() {
        let flaw = |parameters: &str| {
            let line = lines(&format!("EXDATE;{parameters}:1")).next().unwrap();
            line.unwrap().flaw
        };
        for fine in ["A=", "A=\"b;c\"", "X-A=\"b\",\"c\"", " a = b ", "A=b;B=a"] {
            assert_eq!(flaw(fine), None, "{fine}");
        }
        for wrong in [
            "VALUE",
            "V\u{fffd}LUE=DATE",
            "=DATE",
            "A=b\"c\"",
            "A=\"b\"c",
            "A B=c",
            "",
        ] {
            assert_eq!(flaw(wrong).as_deref(), Some(wrong));
            assert_eq!(flaw(&format!("A=b;{wrong};C=d")).as_deref(), Some(wrong));
        }
        assert_eq!(flaw("A=b;a=c").as_deref(), Some("a=c"));
        let many: Vec<String> = (0..=MAX_PARAMETERS).map(|n| format!("A{n}=b")).collect();
        assert_eq!(flaw(&many.join(";")).as_deref(), Some("A50=b"));
        assert_eq!(flaw(&"x".repeat(99)).unwrap().len(), MAX_TOLD);
    }

    #[test]
    fn lines_end_in_every_way() {
        for end in ["\n", "\r\n", "\r", "\r\r\n", "\n\n", " \t\r\n"] {
            let text = format!("\u{feff}A:1{end}STATUS :CANCELLED{end}B:2{end} 3{end}");
            let read: Vec<Line> = lines(&text).map(Result::unwrap).collect();
            let words: Vec<(&str, &str)> = read
                .iter()
                .map(|line| (line.name.as_str(), line.word()))
                .collect();
            assert_eq!(words[..2], [("A", "1"), ("STATUS", "CANCELLED")], "{end:?}");
            assert!(
                words[2].1.starts_with('2') && words[2].1.ends_with('3'),
                "{end:?}"
            );
        }
    }

    #[test]
    fn what_has_no_name_or_value_is_no_line() {
        for text in ["RRULE FREQ=DAILY", "see http://x", ":x", "X;Y=\"a:b"] {
            assert_eq!(lines(text).next(), Some(Err(text.to_owned())));
        }
    }
}
