//! What holds of every text and every first start. The ordinary tests try it with texts that are
//! made, the fuzz targets with whatever comes.

use recurrence::expand::{Expansion, bounds};
use recurrence::ics::calendar::Calendar;
use recurrence::ics::duration::Duration;
use recurrence::ics::text::{escape, lines, push_line, unescape};
use recurrence::rule::{End, Rule};

/// The most occurrences of one rule that are looked at.
const MOST: usize = 200;

/// A rule comes back from its text; its occurrences ascend, are within what it says, and are the
/// same from any of them on. True if the text is a rule.
pub fn rule(first: i64, text: &str) -> bool {
    let Ok(rule) = Rule::parse(text) else {
        return false;
    };
    let written = rule.to_string();
    assert_eq!(Rule::parse(&written).as_ref(), Ok(&rule), "{text}");

    let mut expansion = Expansion::new(&rule, first, first);
    let starts: Vec<i64> = expansion.by_ref().take(MOST).collect();
    assert!(starts.is_sorted_by(|a, b| a < b), "{written}");
    assert!(starts.iter().all(|start| *start >= first), "{written}");
    match rule.end {
        End::Count(count) => assert!(starts.len() <= count as usize, "{written}"),
        End::Until(until) | End::UntilUtc(until) => {
            assert!(starts.iter().all(|start| *start <= until), "{written}");
        }
        End::Never => {}
    }

    for skipped in [0, starts.len() / 2, starts.len().saturating_sub(1)] {
        let rest = &starts[skipped..];
        let Some(from) = rest.first() else { continue };
        let tail = Expansion::new(&rule, first, *from).take(rest.len());
        assert!(tail.eq(rest.iter().copied()), "{written} from {from}");
    }

    match bounds(&rule, first) {
        Ok((begin, last)) => {
            assert_eq!(starts.first(), Some(&begin), "{written}");
            assert!(
                starts.last().copied() <= last.or(Some(i64::MAX)),
                "{written}"
            );
        }
        Err(_) => assert!(
            starts.len() < MOST || matches!(rule.end, End::Count(_)),
            "{written}"
        ),
    }
    true
}

/// Any text is read as a calendar, or refused; and it comes back from a line of one. True if it
/// is a calendar.
pub fn calendar(text: &str) -> bool {
    let mut folded = String::new();
    push_line(&mut folded, &format!("SUMMARY:{}", escape(text)));
    assert!(folded.split("\r\n").all(|line| line.len() <= 75));
    let read: Vec<_> = lines(&folded).collect();
    assert_eq!(read.len(), 1);
    assert_eq!(
        read[0].as_ref().map(|line| line.value.as_str()),
        Ok(escape(text).as_str())
    );
    // What a line cannot hold is gone the first time.
    let held = unescape(&escape(text));
    assert_eq!(unescape(&escape(&held)), held);

    let Ok(calendar) = Calendar::read(text, &["UID", "SUMMARY", "DURATION"], || ()) else {
        return false;
    };
    let overrides = calendar.overrides.values().flatten();
    for event in calendar.events.iter().chain(overrides) {
        event.title();
        event.is_cancelled();
        event.doubts();
        for line in event.all("DURATION") {
            if let Some(duration) = Duration::parse(&line.value) {
                assert!(duration.usual_seconds() >= 0);
            }
        }
    }
    for zone in calendar.parts.iter().flat_map(|part| part.zones.values()) {
        if let Some(read) = zone.observances() {
            read.between(0, 2_000_000_000);
        }
    }
    true
}
