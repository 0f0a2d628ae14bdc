use super::*;

fn form(text: &str) -> String {
    Rule::parse(text).unwrap().to_string()
}

fn wrong_part(text: &str) -> String {
    Rule::parse(text).unwrap_err().part
}

#[test]
fn a_rule_has_one_form() {
    let all = "FREQ=YEARLY;INTERVAL=2;COUNT=10;BYMONTH=1,12;BYYEARDAY=-1,200;BYMONTHDAY=1,-1;\
               BYDAY=MO,SU,-1TU,2TU;BYHOUR=0,23;BYMINUTE=0,59;BYSECOND=0,59;BYSETPOS=-1,1;WKST=SU";
    assert_eq!(form(all), all);
    assert_eq!(
        form(" rrule:byday=we,mo,WE;freq=weekly;interval=1;wkst=mo "),
        "FREQ=WEEKLY;BYDAY=MO,WE"
    );
    assert_eq!(
        form("FREQ=DAILY;UNTIL=20260501"),
        "FREQ=DAILY;UNTIL=20260501T235959"
    );
    assert_eq!(
        form("FREQ=DAILY;UNTIL=20260501T180000Z;"),
        "FREQ=DAILY;UNTIL=20260501T180000Z"
    );
    assert_eq!(form("FREQ=MONTHLY;BYDAY=+1MO"), "FREQ=MONTHLY;BYDAY=1MO");
    assert_eq!(form("FREQ=DAILY;BYSECOND=60"), "FREQ=DAILY;BYSECOND=59");
    assert_eq!(
        form("FREQ=YEARLY;BYWEEKNO=53,-1,1"),
        "FREQ=YEARLY;BYWEEKNO=-1,1,53"
    );
}

#[test]
fn the_part_that_is_wrong_is_named() {
    for (text, part) in [
        ("", "FREQ"),
        ("INTERVAL=2", "FREQ"),
        ("FREQ=FORTNIGHTLY", "FREQ"),
        ("FREQ=DAILY;FREQ=DAILY", "FREQ"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL"),
        ("FREQ=DAILY;INTERVAL=-1", "INTERVAL"),
        ("FREQ=DAILY;INTERVAL=+1", "INTERVAL"),
        ("FREQ=DAILY;INTERVAL=99999999999999999999", "INTERVAL"),
        ("FREQ=DAILY;COUNT=0", "COUNT"),
        ("FREQ=DAILY;COUNT=1;UNTIL=20260101", "UNTIL"),
        ("FREQ=DAILY;UNTIL=20260101;COUNT=1", "COUNT"),
        ("FREQ=DAILY;UNTIL=20260230", "UNTIL"),
        ("FREQ=DAILY;UNTIL=20260101T240000", "UNTIL"),
        ("FREQ=DAILY;UNTIL=tomorrow", "UNTIL"),
        ("FREQ=DAILY;BYMONTH=13", "BYMONTH"),
        ("FREQ=DAILY;BYMONTH=-1", "BYMONTH"),
        ("FREQ=DAILY;BYMONTH=", "BYMONTH"),
        ("FREQ=DAILY;BYMONTHDAY=0", "BYMONTHDAY"),
        ("FREQ=DAILY;BYMONTHDAY=32", "BYMONTHDAY"),
        ("FREQ=WEEKLY;BYMONTHDAY=1", "BYMONTHDAY"),
        ("FREQ=MONTHLY;BYYEARDAY=1", "BYYEARDAY"),
        ("FREQ=YEARLY;BYYEARDAY=367", "BYYEARDAY"),
        ("FREQ=MONTHLY;BYWEEKNO=1", "BYWEEKNO"),
        ("FREQ=YEARLY;BYWEEKNO=54", "BYWEEKNO"),
        ("FREQ=WEEKLY;BYDAY=1MO", "BYDAY"),
        ("FREQ=YEARLY;BYWEEKNO=1;BYDAY=1MO", "BYDAY"),
        ("FREQ=MONTHLY;BYDAY=6MO", "BYDAY"),
        ("FREQ=YEARLY;BYDAY=54MO", "BYDAY"),
        ("FREQ=YEARLY;BYDAY=0MO", "BYDAY"),
        ("FREQ=YEARLY;BYDAY=++1MO", "BYDAY"),
        ("FREQ=YEARLY;BYDAY=é", "BYDAY"),
        ("FREQ=YEARLY;BYDAY=ÄÖ", "BYDAY"),
        ("FREQ=DAILY;BYHOUR=24", "BYHOUR"),
        ("FREQ=DAILY;BYMINUTE=60", "BYMINUTE"),
        ("FREQ=DAILY;BYSECOND=61", "BYSECOND"),
        ("FREQ=DAILY;BYSETPOS=1", "BYSETPOS"),
        ("FREQ=DAILY;BYDAY=MO;BYSETPOS=0", "BYSETPOS"),
        ("FREQ=DAILY;WKST=XX", "WKST"),
        ("FREQ=DAILY;BYEASTER=0", "BYEASTER"),
        ("FREQ=DAILY;nonsense", "NONSENSE"),
    ] {
        assert_eq!(wrong_part(text), part, "{text}");
    }
    assert_eq!(
        wrong_part(&format!("FREQ=DAILY;{}", "X".repeat(MAX_BYTES))),
        "RRULE"
    );
}

#[test]
fn an_end_in_utc_becomes_one_by_the_clock() {
    use crate::daylight_saving::Offset;
    let zone = |hours: i64| {
        move |_: i64| Offset {
            seconds: hours * 3600,
            until: None,
        }
    };
    for (until, hours, by_clock) in [
        ("20260501T180000Z", 9, "20260502T030000"),
        ("20260501T180000Z", -5, "20260501T130000"),
        // The calendar has no other year.
        ("99991231T235959Z", 9, "99991231T235959"),
        ("00010101T000000Z", -5, "00010101T000000"),
    ] {
        let mut rule = Rule::parse(&format!("FREQ=DAILY;UNTIL={until}")).unwrap();
        rule.end_in_clock_time(&zone(hours));
        let text = rule.to_string();
        assert_eq!(text, format!("FREQ=DAILY;UNTIL={by_clock}"));
        assert_eq!(Rule::parse(&text), Ok(rule));
    }
}

#[test]
fn no_rule_is_written_longer_than_is_read() {
    let numbers = |most: i32| {
        let all = (-most..=most).filter(|number| *number != 0);
        let all: Vec<String> = all.map(|number| number.to_string()).collect();
        all.join(",")
    };
    let begin = format!("FREQ=YEARLY;UNTIL=20260501;BYYEARDAY={}", numbers(366));
    let (mut read, mut too_long) = (0, 0);
    for most in 1..150 {
        for interval in (1..=9).map(|digits| "2".repeat(digits)) {
            let text = format!("{begin};BYSETPOS={};INTERVAL={interval}", numbers(most));
            match Rule::parse(&text) {
                Ok(rule) => {
                    read += 1;
                    assert!(rule.to_string().len() <= MAX_BYTES);
                }
                Err(wrong) => {
                    assert_eq!(wrong.part, "RRULE");
                    // Its date is written with a time.
                    too_long += usize::from(text.len() <= MAX_BYTES);
                }
            }
        }
    }
    assert!(read > 0 && too_long > 0, "{read} {too_long}");
}
