use super::*;

const TAKEN: [&str; 5] = ["UID", "SUMMARY", "STATUS", "RECURRENCE-ID", "DTSTART"];

fn read(body: &str) -> Result<Calendar, InvalidCalendar> {
    let text = format!("BEGIN:VCALENDAR\n{body}\nEND:VCALENDAR\n");
    Calendar::read(&text, &TAKEN, || ())
}

#[test]
fn events_and_their_changed_occurrences_are_told_apart() {
    let calendar = read(
        "X-WR-TIMEZONE: Europe/Berlin\n\
         BEGIN:VTIMEZONE\nTZID:My zone\nBEGIN:STANDARD\nTZOFFSETTO:+0900\nEND:STANDARD\n\
         X-LIC-LOCATION:Asia/Tokyo\nEND:VTIMEZONE\n\
         BEGIN:VEVENT\nUID:a\\,1\nSUMMARY:One\nATTENDEE:x\n\
         BEGIN:VALARM\nUID:of the alarm\nEND:VALARM\nEND:VEVENT\n\
         BEGIN:VEVENT\nUID:a\\,1\nRECURRENCE-ID:20260501T100000\nstatus:cancelled\nEND:VEVENT\n\
         BEGIN:VTODO\nSUMMARY:Not this\nEND:VTODO",
    )
    .unwrap();
    let part = &calendar.parts[0];
    assert_eq!(part.zone.as_deref(), Some("Europe/Berlin"));
    let zone = &part.zones["My zone"];
    assert_eq!(zone.location.as_deref(), Some("Asia/Tokyo"));
    assert_eq!(zone.observances.len(), 1);
    assert_eq!(calendar.others, ["VTODO"]);
    let [event] = &calendar.events[..] else {
        panic!("one event: {:?}", calendar.events);
    };
    assert_eq!(event.uid.as_deref(), Some("a,1"));
    assert_eq!(event.title().as_deref(), Some("One"));
    assert!(!event.is_cancelled());
    let left_out: Vec<&str> = event.left_out.iter().map(String::as_str).collect();
    assert_eq!(left_out, ["ATTENDEE", "VALARM"]);
    assert!(calendar.overrides[&event.uid][0].is_cancelled());
}

#[test]
fn what_is_no_calendar_is_refused() {
    let refused = |text: &str| Calendar::read(text, &TAKEN, || ()).unwrap_err().0;
    assert_eq!(refused(""), "the text is no calendar");
    assert_eq!(
        refused("BEGIN:VEVENT\nEND:VEVENT"),
        "the text is no calendar"
    );
    assert_eq!(
        refused(&"x".repeat(MAX_BYTES + 1)),
        "the calendar is too large"
    );
    let refused = |body: String| read(&body).unwrap_err().0;
    assert_eq!(
        refused("BEGIN:X\n".repeat(MAX_DEPTH)),
        "components of the calendar are nested too deep"
    );
    assert_eq!(
        refused("BEGIN:VEVENT\nEND:VEVENT\n".repeat(MAX_EVENTS + 1)),
        "the calendar has too many events"
    );
    assert_eq!(
        refused(format!(
            "BEGIN:VEVENT\n{}END:VEVENT",
            "SUMMARY:x\n".repeat(MAX_LINES + 1)
        )),
        "the calendar has too many lines"
    );
}

#[test]
fn what_does_not_end_is_still_read() {
    let calendar = Calendar::read(
        "\u{feff}END:X\nBEGIN:vcalendar\r\nBEGIN:VEVENT\r\nSUMMARY:a\r\n b",
        &TAKEN,
        || (),
    );
    let event = calendar.unwrap().events.remove(0);
    assert_eq!(event.title().as_deref(), Some("ab"));
    assert_eq!(event.doubts(), ["END:VEVENT is missing"]);
}

#[test]
fn an_end_that_is_missing_takes_no_other_event_along() {
    let calendar = read(
        "BEGIN:VEVENT\nSUMMARY:a\nBEGIN:VALARM\nEND:VEVENT\n\
         BEGIN:VEVENT\nSUMMARY:b\nEND:VALARM\n\
         BEGIN:VEVENT\nSUMMARY:c\nEND:VEVENT",
    );
    let events = calendar.unwrap().events;
    let told: Vec<_> = events
        .iter()
        .map(|event| (event.title(), event.doubts().len()))
        .collect();
    let named = |title: &str| Some(title.to_owned());
    // An END of an alarm is missing in the first; the second has that of none, and not its own.
    assert_eq!(told, [(named("a"), 1), (named("b"), 2), (named("c"), 0)]);
}

#[test]
fn the_latest_version_counts() {
    let event = |title, more| format!("BEGIN:VEVENT\nUID:1\nSUMMARY:{title}\n{more}\nEND:VEVENT\n");
    for (first, second, counts) in [
        ("SEQUENCE:2", "SEQUENCE:1", "a"),
        ("SEQUENCE:1\nDTSTAMP:20270101T000000Z", "SEQUENCE: 2 ", "b"),
        ("DTSTAMP:20260102T000000Z", "DTSTAMP:20260101T000000Z", "a"),
        (
            "LAST-MODIFIED:20260102T000000Z",
            "LAST-MODIFIED:20260101T000000Z",
            "a",
        ),
        ("X:1", "X:1", "b"),
    ] {
        let text = format!(
            "BEGIN:VCALENDAR\n{}{}END:VCALENDAR",
            event("a", first),
            event("b", second)
        );
        let taken = ["UID", "SUMMARY", "SEQUENCE", "DTSTAMP", "LAST-MODIFIED"];
        let calendar = Calendar::read(&text, &taken, || ()).unwrap();
        assert_eq!((calendar.events.len(), calendar.superseded.len()), (1, 1));
        assert_eq!(
            calendar.events[0].title().as_deref(),
            Some(counts),
            "{first} {second}"
        );
    }
}

#[test]
fn a_calendar_may_call_off_what_another_one_has() {
    let text = "BEGIN:VCALENDAR\nBEGIN:VEVENT\nUID:1\nEND:VEVENT\nEND:VCALENDAR\n\
                BEGIN:VCALENDAR\nMETHOD:cancel\nBEGIN:VEVENT\nUID:1\nEND:VEVENT\nEND:VCALENDAR\n";
    let calendar = Calendar::read(text, &TAKEN, || ()).unwrap();
    assert_eq!(calendar.events.len(), 1);
    assert!(calendar.events[0].is_cancelled());
}

#[test]
fn what_is_not_understood_is_told() {
    let calendar =
        read("BEGIN:VEVENT\nRRULE FREQ=DAILY\nSTATUS:CANCELD\nSUMMARY:a\nSUMMARY:b\nEND:VEVENT");
    assert_eq!(
        calendar.unwrap().events[0].doubts(),
        [
            "not understood: RRULE FREQ=DAILY",
            "SUMMARY is there twice, and the first is taken",
            "STATUS CANCELD is not understood",
        ]
    );
}
