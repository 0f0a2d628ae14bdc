//! Zones as Windows calls them, for calendars out of Outlook.

const ZONES: &str = include_str!("windows_zones.tsv");

/// Each name that Windows has for a zone, with the IANA names of it, the one of today first.
pub fn zones() -> impl Iterator<Item = (&'static str, impl Iterator<Item = &'static str>)> {
    ZONES.lines().filter_map(|line| {
        let (windows, names) = line.split_once('\t')?;
        Some((windows, names.split('\t')))
    })
}

/// The IANA names of a zone that Windows names, in upper or lower case; none for another name.
pub fn iana_names(windows: &str) -> Vec<&'static str> {
    zones()
        .find(|(name, _)| name.eq_ignore_ascii_case(windows))
        .map_or(Vec::new(), |(_, names)| names.collect())
}

/// The zones of a name as people are shown it, `(UTC+01:00) Amsterdam, Berlin` or `(GMT-05.00) Eastern Time (US & Canada)`: how
/// many seconds it says that the zone is ahead of UTC, if it does, and the IANA names that it may stand for, by the places in it.
pub fn shown_names(shown: &str) -> (Option<i64>, Vec<String>) {
    const CONTINENTS: [&str; 9] = [
        "Europe",
        "America",
        "Asia",
        "Africa",
        "Australia",
        "Pacific",
        "Atlantic",
        "Indian",
        "Antarctica",
    ];
    const MOST: usize = 8;
    let (offset, places) = match shown
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(')'))
    {
        Some((offset, places)) => (fixed_offset(offset), places.trim()),
        None => (None, shown),
    };
    let mut names = Vec::new();
    // Eastern Time (US & Canada) is Eastern Standard Time.
    let zone = places.split('(').next().unwrap_or_default().trim();
    if let Some(zone) = zone.strip_suffix(" Time") {
        let standard = iana_names(&format!("{zone} Standard Time"));
        names.extend(standard.into_iter().map(str::to_owned));
    }
    let places = places.split([',', ':', ';']).map(str::trim);
    let is_place = |place: &&str| {
        !place.is_empty()
            && place.len() <= 40
            && place
                .chars()
                .all(|one| one.is_alphabetic() || matches!(one, ' ' | '-' | '_' | '.' | '\''))
    };
    for place in places.filter(is_place).take(MOST) {
        let place = place.replace(' ', "_");
        names.extend(CONTINENTS.map(|continent| format!("{continent}/{place}")));
    }
    (offset, names)
}

/// Seconds ahead of UTC of what says only that: `UTC+01:00`, `GMT-0330`, `UTC`. None for what could mean the reverse too, as
/// `GMT+1` does.
pub fn fixed_offset(text: &str) -> Option<i64> {
    let rest = text.trim();
    let rest = ["UTC", "GMT"].iter().find_map(|name| {
        let begin = rest.get(..name.len())?;
        begin
            .eq_ignore_ascii_case(name)
            .then(|| &rest[name.len()..])
    })?;
    let Some(sign) = rest.chars().next() else {
        return Some(0);
    };
    let digits: String = rest[sign.len_utf8()..]
        .chars()
        .filter(|one| !matches!(one, ':' | '.'))
        .collect();
    if digits.len() != 4 || !digits.bytes().all(|one| one.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i64, i64) = (digits[..2].parse().ok()?, digits[2..].parse().ok()?);
    let seconds = (hours <= 23 && minutes <= 59).then_some(hours * 3600 + minutes * 60)?;
    match sign {
        '+' => Some(seconds),
        '-' | '\u{2212}' => Some(-seconds),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_windows_are_known_in_any_case() {
        assert_eq!(iana_names("w. europe standard time"), ["Europe/Berlin"]);
        assert_eq!(
            iana_names("India Standard Time"),
            ["Asia/Kolkata", "Asia/Calcutta"]
        );
        assert!(iana_names("# From CLDR").is_empty());
        assert_eq!(zones().count(), 144);
    }

    #[test]
    fn names_that_people_are_shown_are_places() {
        let (offset, names) = shown_names("(UTC+01:00) Amsterdam, Berlin, Bern");
        assert_eq!(offset, Some(3600));
        assert_eq!(names[0], "Europe/Amsterdam");
        assert!(names.contains(&"Europe/Berlin".to_owned()));
        let (offset, names) = shown_names("(GMT-05.00) Eastern Time (US & Canada)");
        assert_eq!(
            (offset, names[0].as_str()),
            (Some(-18_000), "America/New_York")
        );
    }

    #[test]
    fn an_offset_alone_is_clear_with_four_digits() {
        for (text, seconds) in [
            ("UTC+01:00", Some(3600)),
            ("gmt-0330", Some(-12_600)),
            ("UTC", Some(0)),
            ("GMT+1", None),
            ("UTC+99:00", None),
            ("UTCé", None),
            ("Mars", None),
        ] {
            assert_eq!(fixed_offset(text), seconds, "{text}");
        }
    }
}
