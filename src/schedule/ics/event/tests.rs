use super::range::Piece;
use super::*;
use recurrence::daylight_saving::Offset;
use recurrence::ics::calendar::InvalidCalendar;
use recurrence::stamp::stamp;

/// Two zones, and neither of them the server's.
struct Known;

type Fixed = fn(i64) -> Offset;

const UTC: Fixed = |_| Offset {
    seconds: 0,
    until: None,
};
const TOKYO: Fixed = |_| Offset {
    seconds: 9 * 3600,
    until: None,
};

impl Zones for Known {
    type Zone = Fixed;
    type Error = InvalidCalendar;

    fn ahead_of_utc(&self, seconds: i64) -> Result<Vec<String>, InvalidCalendar> {
        let known = if seconds == 9 * 3600 {
            vec!["Asia/Tokyo".to_owned()]
        } else {
            Vec::new()
        };
        Ok(known)
    }

    fn now(&self) -> i64 {
        0
    }

    fn named(&self, name: &str) -> Result<Option<(String, Fixed)>, InvalidCalendar> {
        let known = [("UTC", UTC), ("Asia/Tokyo", TOKYO)];
        let found = known
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        Ok(found.map(|(name, zone)| ((*name).to_owned(), *zone)))
    }
}

/// The first event's schedule, if there is one, its exceptions, and what is said of it.
type Outcome = (Option<Planned<Fixed>>, Exceptions, Vec<String>);

fn read(events: &[&str]) -> Result<Outcome, InvalidCalendar> {
    let events: Vec<String> = events
        .iter()
        .map(|lines| format!("BEGIN:VEVENT\n{lines}\nEND:VEVENT\n"))
        .collect();
    let text = format!("BEGIN:VCALENDAR\n{}END:VCALENDAR\n", events.concat());
    let calendar = Calendar::read(&text, &TAKEN, || ())?;
    let mut reader = Events::new(&calendar, Known);
    let mut notes = Vec::new();
    match reader.schedules(&calendar.events[0], &mut notes)? {
        Ok(mut pieces) => {
            let Piece {
                planned,
                exceptions,
            } = pieces.remove(0);
            Ok((Some(planned), exceptions, notes))
        }
        Err(why) => Ok((None, Exceptions::new(), vec![why])),
    }
}

fn taken(event: &str) -> Planned<Fixed> {
    read(&[event]).unwrap().0.unwrap()
}

/// Exceptions as `kind of when [moved to when]`, all in UTC.
fn told(exceptions: &Exceptions) -> Vec<String> {
    let told = exceptions.iter().map(|(original, one)| {
        let times = one.times.map(|(start, end)| {
            let end = end.map_or("?".to_owned(), stamp);
            format!(" {}-{end}", stamp(start))
        });
        format!(
            "{} {}{}",
            one.kind.label(),
            stamp(*original),
            times.unwrap_or_default()
        )
    });
    told.collect()
}

#[test]
fn the_zone_is_found_by_any_of_its_names() {
    for tzid in [
        "asia/tokyo",
        "Tokyo Standard Time",
        "/citadel.org/20070227_1/Asia/Tokyo",
    ] {
        let one = taken(&format!("DTSTART;TZID={tzid}:20260501T180000"));
        assert_eq!(one.start.zone_name, "Asia/Tokyo", "{tzid}");
        assert_eq!(stamp(one.start.moment()), "20260501T090000");
    }
    assert_eq!(taken("DTSTART:20260501T180000Z").start.zone_name, "UTC");
    assert_eq!(taken("DTSTART:20260501T180000").start.zone_name, "UTC");
}

#[test]
fn what_makes_no_schedule_says_why() {
    for (event, why) in [
        ("SUMMARY:x", "DTSTART is missing"),
        ("DTSTART:20260501", "DTSTART has no time of day"),
        ("DTSTART:noon", "DTSTART noon is no time"),
        (
            "DTSTART;TZID=Mars/Base:20260501T180000",
            "time zone Mars/Base is not known",
        ),
        (
            "DTSTART:20260501T180000Z\nSTATUS:Cancelled",
            "it is cancelled",
        ),
        (
            "DTSTART:20260501T180000Z\nDURATION:soon",
            "DURATION soon is no time",
        ),
        (
            "DTSTART:20260501T180000Z\nDURATION:P8D",
            "it does not last from a minute to a week",
        ),
        (
            "DTSTART:20260501T180000Z\nRRULE:FREQ=DAILY\nRRULE:FREQ=WEEKLY",
            "it has several rules",
        ),
        (
            "DTSTART:20260501T180000Z\nRRULE:FREQ=DAILY\nEXRULE:FREQ=WEEKLY",
            "EXRULE has no end",
        ),
        (
            "DTSTART:20260501T180000Z\nRRULE:FREQ=DAILY;BYMONTH=13",
            "RRULE: BYMONTH: 13 is no number from 1 to 12.",
        ),
        (
            "DTSTART:20260501T180000Z\nRRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
            "RRULE: BYMONTHDAY: With it the rule never matches.",
        ),
    ] {
        let (planned, _, notes) = read(&[event]).unwrap();
        assert!(planned.is_none(), "{event}");
        assert_eq!(notes, [why], "{event}");
    }
}

#[test]
fn an_end_is_a_clock_time_or_a_length() {
    let length = |lines: &str| {
        let one = taken(&format!("DTSTART;TZID=Asia/Tokyo:20260501T180000\n{lines}"));
        (one.end_wall.map(stamp), one.minutes)
    };
    let clock = |text: &str| Some(text.to_owned());
    assert_eq!(length(""), (None, None));
    assert_eq!(
        length("DTEND;TZID=Asia/Tokyo:20260501T190000"),
        (clock("20260501T190000"), None)
    );
    assert_eq!(length("DTEND:20260501T100000Z"), (None, Some(60)));
    assert_eq!(length("DURATION:PT59S"), (None, Some(1)));
    // From 18:00 to 18:00 is no time of the same day.
    assert_eq!(
        length("DTEND;TZID=Asia/Tokyo:20260502T180000"),
        (None, Some(1440))
    );
}

#[test]
fn exceptions_are_those_of_the_rule() {
    let (_, exceptions, notes) = read(&[
        "UID:1\nSUMMARY:Show\nDTSTART:20260501T180000Z\nRRULE:FREQ=DAILY;UNTIL=20260505T180000Z\n\
         EXDATE:20260502T180000Z,20260502T190000Z\n\
         RDATE;VALUE=PERIOD:20260510T180000Z/PT1H,20260501T180000Z",
        "UID:1\nRECURRENCE-ID:20260503T180000Z\nDTSTART:20260503T200000Z\nDURATION:PT30M",
        "UID:1\nRECURRENCE-ID:20260504T180000Z\nSTATUS:CANCELLED",
        "UID:1\nRECURRENCE-ID:20260502T180000Z\nSUMMARY:Too late",
    ])
    .unwrap();
    assert_eq!(
        told(&exceptions),
        [
            "skip 20260502T180000",
            "move 20260503T180000 20260503T200000-20260503T203000",
            "skip 20260504T180000",
            "add 20260510T180000 20260510T180000-20260510T190000",
        ]
    );
    assert_eq!(
        notes,
        [
            "EXDATE 20260502T190000Z is no occurrence",
            "RECURRENCE-ID 20260502T180000Z: it is no occurrence",
        ]
    );
}

#[test]
fn a_start_that_the_rule_does_not_have_takes_place_too() {
    let (_, exceptions, _) =
        read(&["DTSTART:20260501T180000Z\nRRULE:FREQ=WEEKLY;BYDAY=MO"]).unwrap();
    assert_eq!(told(&exceptions), ["add 20260501T180000"]);
}

#[test]
fn what_is_left_out_is_told() {
    let title = "x".repeat(MAX_TITLE + 1);
    let event = format!("DTSTART:20260501T180000Z\nSUMMARY:{title}\nLOCATION:here\nCLASS:PRIVATE");
    let (planned, _, notes) = read(&[&event]).unwrap();
    let planned = planned.unwrap();
    assert_eq!(planned.title.len(), MAX_TITLE);
    assert!(planned.is_private);
    assert_eq!(
        notes,
        ["left out: LOCATION", "SUMMARY was cut to 255 characters"]
    );
    assert_eq!(
        taken("DTSTART:20260501T180000Z\nSUMMARY: ").title,
        "Untitled"
    );
}

#[test]
fn one_calendar_names_only_so_many_dates_and_zones() {
    let dates = vec!["20260501T180000Z"; 10_001].join(",");
    let event = format!("DTSTART:20260501T180000Z\nEXDATE:{dates}");
    let refused = read(&[&event]).err().unwrap();
    assert_eq!(refused.0, "the calendar has too many exceptions");
    let zones: Vec<String> = (0..=zones::MAX_ZONES)
        .map(|n| format!("EXDATE;TZID=zone {n}:20260501T180000"))
        .collect();
    let event = format!("DTSTART:20260501T180000Z\n{}", zones.join("\n"));
    let refused = read(&[&event]).err().unwrap();
    assert_eq!(refused.0, "the calendar has too many time zones");
}
