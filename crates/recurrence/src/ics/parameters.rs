//! Parameters of properties (RFC 5545, 3.2): those that are understood.

use super::text::Line;
use crate::stamp::read_date;

/// The types that a value may say that it has, and the parameters besides VALUE that are understood; none for a property that
/// nothing is taken from.
fn known(property: &str) -> Option<(&'static [&'static str], &'static [&'static str])> {
    const TIME: &[&str] = &["DATE-TIME", "DATE"];
    Some(match property {
        "DTSTART" | "DTEND" | "EXDATE" => (TIME, &["TZID"]),
        "RDATE" => (&["DATE-TIME", "DATE", "PERIOD"], &["TZID"]),
        "RECURRENCE-ID" => (TIME, &["TZID", "RANGE"]),
        "DTSTAMP" | "CREATED" | "LAST-MODIFIED" => (TIME, &["TZID"]),
        "DURATION" => (&["DURATION"], &[]),
        "RRULE" | "EXRULE" => (&["RECUR"], &[]),
        "TZOFFSETFROM" | "TZOFFSETTO" => (&["UTC-OFFSET"], &[]),
        "SEQUENCE" => (&["INTEGER"], &[]),
        "UID" | "STATUS" | "CLASS" | "TRANSP" | "TZID" | "METHOD" | "CALSCALE"
        | "X-WR-TIMEZONE" => (&["TEXT"], &[]),
        "SUMMARY" | "DESCRIPTION" => (&["TEXT"], &["ALTREP", "LANGUAGE"]),
        _ => return None,
    })
}

/// True for properties that are what people read: what a parameter that is not known says of them alters no time.
fn is_text(property: &str) -> bool {
    matches!(property, "SUMMARY" | "DESCRIPTION")
}

/// What of the parameters of a property is not understood: a sentence. Whether a value is a date, a time or a period is seen
/// without VALUE; parameters whose names begin with X- say nothing.
pub fn doubt(line: &Line) -> Option<String> {
    let (types, others) = known(&line.name)?;
    let doubtful = |parameter: &str| {
        let name = &line.name;
        Some(format!(
            "{name}: parameter {parameter:.40} is not understood"
        ))
    };
    if let Some(flaw) = &line.flaw {
        return doubtful(flaw);
    }
    for (name, value) in &line.parameters {
        let is_one_of = |known: &[&str]| known.iter().any(|one| one.eq_ignore_ascii_case(value));
        let is_understood = match name.as_str() {
            "VALUE" => is_one_of(types),
            "ENCODING" => is_one_of(&["8BIT"]),
            "CHARSET" => is_one_of(&["UTF-8", "US-ASCII"]),
            name => name.starts_with("X-") || others.contains(&name) || is_text(&line.name),
        };
        if !is_understood {
            return doubtful(&format!("{name}={value}"));
        }
    }
    let zone = line.parameter("TZID");
    let has_type = |date: &str| {
        let said = line.parameter("VALUE");
        said.is_some_and(|said| said.eq_ignore_ascii_case(date))
    };
    let mut values = line.value.split([',', '/']).map(str::trim);
    // A time that is cut off is a date, and one that is not said to be one may stand for another day's occurrences.
    if (zone.is_some() || line.name == "RECURRENCE-ID")
        && !has_type("DATE")
        && values.clone().any(|value| read_date(value).is_some())
    {
        return Some(format!("{} is a date, and not said to be one", line.name));
    }
    let zone = zone?;
    let is_utc = ["UTC", "Etc/UTC", "GMT", "Etc/GMT", "Z", "Zulu"]
        .iter()
        .any(|utc| utc.eq_ignore_ascii_case(zone));
    (!is_utc && values.any(|value| value.ends_with('Z')))
        .then(|| format!("{} is in UTC, and not in its TZID", line.name))
}

#[cfg(test)]
mod tests {
    use super::super::text::lines;
    use super::*;

    fn of(text: &str) -> Option<String> {
        doubt(&lines(text).next().unwrap().unwrap())
    }

    #[test]
    fn what_is_understood_is_no_doubt() {
        for text in [
            "dtstart;tzid=Europe/Berlin;value=date-time:20300101T100000",
            "DTSTART;X-VOBJ-ORIGINAL-TZID=\"a\",\"b\";TZID=UTC:20300101T100000Z",
            "EXDATE;VALUE=DATE:20300101",
            "RDATE;VALUE=PERIOD:20300101T100000Z/PT1H",
            "SUMMARY;LANGUAGE=en;NEW=x;CHARSET=utf-8;ENCODING=8bit:a",
            "LOCATION;VALUE:a",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (text, parameter) in [
            ("EXDATE;V\u{fffd}LUE=DATE:20300101", "V\u{fffd}LUE=DATE"),
            ("EXDATE;VALVE=DATE:20300101", "VALVE=DATE"),
            ("EXDATE;VALUE=PERIOD:20300101", "VALUE=PERIOD"),
            ("DTSTART;VALUE=:20300101T100000", "VALUE="),
            ("DTSTART;RANGE=THISANDFUTURE:1", "RANGE=THISANDFUTURE"),
            ("DTSTART;TZID=UTC;TZID=GMT:20300101T100000", "TZID=GMT"),
            ("DURATION;TZID=UTC:PT1H", "TZID=UTC"),
            ("RRULE;VALUE=TEXT:FREQ=DAILY", "VALUE=TEXT"),
            ("STATUS;A:CANCELLED", "A"),
            ("SUMMARY;ENCODING=BASE64:eA==", "ENCODING=BASE64"),
            ("SUMMARY;CHARSET=KOI8-R:a", "CHARSET=KOI8-R"),
            ("SUMMARY;\u{fffd}:a", "\u{fffd}"),
        ] {
            let said = of(text).unwrap();
            let name = text.split(';').next().unwrap();
            assert_eq!(
                said,
                format!("{name}: parameter {parameter} is not understood")
            );
        }
        assert_eq!(
            of("EXDATE;TZID=Asia/Tokyo:20300101T100000,20300101T100000Z").as_deref(),
            Some("EXDATE is in UTC, and not in its TZID")
        );
        for cut in [
            "RECURRENCE-ID;TZID=Europe/Berlin:20300130",
            "RECURRENCE-ID:20300130",
            "EXDATE;TZID=Europe/Berlin:20300129T100000,20300130",
        ] {
            assert!(
                of(cut)
                    .unwrap()
                    .ends_with("is a date, and not said to be one")
            );
        }
        assert_eq!(
            of("RECURRENCE-ID;TZID=Europe/Berlin;VALUE=DATE:20300130"),
            None
        );
    }
}
