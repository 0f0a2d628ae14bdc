use super::*;
use crate::stamp::{read_stamp, stamp};

fn at(text: &str) -> i64 {
    read_stamp(text).unwrap().0
}

fn starts(rule: &str, first: &str, count: usize) -> Vec<String> {
    let rule = Rule::parse(rule).unwrap();
    let first = at(first);
    Expansion::new(&rule, first, first)
        .take(count)
        .map(stamp)
        .collect()
}

fn dates(rule: &str, first: &str, count: usize) -> Vec<String> {
    let mut dates = starts(rule, first, count);
    dates.iter_mut().for_each(|date| date.truncate(8));
    dates
}

#[test]
fn simple_rules() {
    let first = "20260131T180000";
    assert_eq!(
        starts("FREQ=DAILY;INTERVAL=2;COUNT=2", first, 9),
        ["20260131T180000", "20260202T180000"]
    );
    assert_eq!(
        dates("FREQ=MONTHLY", first, 3),
        ["20260131", "20260331", "20260531"]
    );
    assert_eq!(
        dates("FREQ=MONTHLY;BYMONTHDAY=-1", first, 3),
        ["20260131", "20260228", "20260331"]
    );
    assert_eq!(
        dates("FREQ=MONTHLY;BYDAY=-1FR,1MO", first, 3),
        ["20260202", "20260227", "20260302"]
    );
    assert_eq!(
        dates("FREQ=WEEKLY;INTERVAL=2;BYDAY=SU,TU", first, 4),
        ["20260201", "20260210", "20260215", "20260224"]
    );
    assert_eq!(
        dates("FREQ=WEEKLY;INTERVAL=2;BYDAY=SU,TU;WKST=SU", first, 3),
        ["20260208", "20260210", "20260222"]
    );
}

#[test]
fn leap_days_and_long_years() {
    assert_eq!(
        dates("FREQ=YEARLY", "20240229T120000", 3),
        ["20240229", "20280229", "20320229"]
    );
    assert_eq!(
        dates("FREQ=YEARLY", "18960229T120000", 2),
        ["18960229", "19040229"]
    );
    // 2026 and 2032 have 53 weeks.
    assert_eq!(
        dates("FREQ=YEARLY;BYWEEKNO=53;BYDAY=SU", "20250101T120000", 2),
        ["20270103", "20330102"]
    );
    assert_eq!(
        dates("FREQ=YEARLY;BYWEEKNO=1;BYDAY=MO", "20240601T120000", 2),
        ["20241230", "20251229"]
    );
    assert_eq!(
        dates("FREQ=YEARLY;BYWEEKNO=-1;BYDAY=MO", "20260101T120000", 2),
        ["20261228", "20271227"]
    );
    assert_eq!(
        dates("FREQ=YEARLY;BYYEARDAY=366", "20250101T120000", 2),
        ["20281231", "20321231"]
    );
    assert_eq!(
        dates("FREQ=YEARLY;BYDAY=53FR", "20250101T120000", 2),
        ["20271231", "20321231"]
    );
    assert_eq!(
        dates("FREQ=YEARLY;BYDAY=MO,-1TU;BYMONTH=1", "20260115T120000", 3),
        ["20260119", "20260126", "20260127"]
    );
}

#[test]
fn the_calendar_ends_with_the_year_9999() {
    assert_eq!(
        dates("FREQ=DAILY", "99991230T120000", 9),
        ["99991230", "99991231"]
    );
    assert_eq!(dates("FREQ=WEEKLY", "99991230T120000", 9), ["99991230"]);
    assert_eq!(
        dates("FREQ=MONTHLY", "99991130T120000", 9),
        ["99991130", "99991230"]
    );
    assert_eq!(
        dates("FREQ=YEARLY;INTERVAL=999999999", "20261231T120000", 9),
        ["20261231"]
    );
    assert_eq!(starts("FREQ=MINUTELY", "99991231T235859", 9).len(), 2);
    let rule = Rule::parse("FREQ=DAILY").unwrap();
    assert_eq!(Expansion::new(&rule, EARLIEST, i64::MAX).next(), None);
    assert_eq!(
        Expansion::new(&rule, EARLIEST, i64::MIN).next(),
        Some(EARLIEST)
    );
}

#[test]
fn a_tail_is_the_tail_of_the_whole() {
    for text in [
        "FREQ=YEARLY;INTERVAL=3;BYMONTH=2,6;BYDAY=1MO,-1TU",
        "FREQ=YEARLY;BYWEEKNO=1,53;BYDAY=MO,SU",
        "FREQ=MONTHLY;INTERVAL=2;BYMONTHDAY=29,30,-1;BYHOUR=3,9",
        "FREQ=WEEKLY;INTERVAL=3;BYDAY=TU,SA;BYSETPOS=-1",
        "FREQ=DAILY;INTERVAL=11;BYMONTH=1,2,3;COUNT=40",
        "FREQ=HOURLY;INTERVAL=7;BYDAY=TU;BYHOUR=3,4,5,6",
        "FREQ=MINUTELY;INTERVAL=37;BYHOUR=9,17;BYMONTHDAY=13",
        "FREQ=SECONDLY;INTERVAL=1801;BYHOUR=9;BYDAY=MO",
    ] {
        let rule = Rule::parse(text).unwrap();
        let first = at("20240131T091500");
        let all: Vec<i64> = Expansion::new(&rule, first, first).take(60).collect();
        assert!(all.is_sorted_by(|a, b| a < b), "{text}");
        for (skipped, start) in all.iter().enumerate() {
            for (from, rest) in [(*start, &all[skipped..]), (*start + 1, &all[skipped + 1..])] {
                let tail = Expansion::new(&rule, first, from).take(rest.len());
                assert!(tail.eq(rest.iter().copied()), "{text} from {}", stamp(from));
            }
        }
    }
}

#[test]
fn a_rule_that_never_matches_names_the_part() {
    let first = at("20260501T180000");
    for (text, part) in [
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "BYMONTHDAY"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "BYMONTHDAY"),
        ("FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=31", "BYMONTHDAY"),
        ("FREQ=DAILY;INTERVAL=7;BYDAY=MO", "BYDAY"),
        ("FREQ=HOURLY;INTERVAL=24;BYHOUR=17", "BYHOUR"),
        ("FREQ=MINUTELY;INTERVAL=1440;BYMINUTE=1", "BYMINUTE"),
        ("FREQ=MINUTELY;INTERVAL=10080;BYDAY=MO", "BYDAY"),
        ("FREQ=SECONDLY;INTERVAL=60;BYSECOND=1", "BYSECOND"),
        ("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=6", "BYSETPOS"),
        ("FREQ=DAILY;UNTIL=20260430T180000", "UNTIL"),
        ("FREQ=WEEKLY;BYDAY=TH;UNTIL=20260506T180000", "UNTIL"),
        ("FREQ=SECONDLY;COUNT=99999999", "COUNT"),
        (
            "FREQ=YEARLY;INTERVAL=2;BYYEARDAY=366;BYMONTH=2",
            "BYYEARDAY",
        ),
        ("FREQ=YEARLY;INTERVAL=4;BYYEARDAY=366", "BYYEARDAY"),
    ] {
        let rule = Rule::parse(text).unwrap();
        assert_eq!(bounds(&rule, first).unwrap_err().part, part, "{text}");
    }
}

#[test]
fn the_last_start_is_known() {
    let first = at("20260501T180000");
    let last = |text| {
        bounds(&Rule::parse(text).unwrap(), first)
            .unwrap()
            .1
            .map(stamp)
    };
    assert_eq!(last("FREQ=DAILY"), None);
    assert_eq!(last("FREQ=DAILY;COUNT=1").unwrap(), "20260501T180000");
    assert_eq!(last("FREQ=DAILY;COUNT=10").unwrap(), "20260510T180000");
    assert_eq!(
        last("FREQ=YEARLY;COUNT=20000"),
        Some("99990501T180000".to_owned())
    );
    assert_eq!(
        last("FREQ=DAILY;UNTIL=20261231").unwrap(),
        "20261231T235959"
    );
}

/// Each year by itself, and all in one go, where a year is taken for one that looks alike.
#[test]
fn weeks_from_the_end_know_how_long_the_next_year_is() {
    for week in [1, 2, 51, 52, 53, -1, -2, -51, -52, -53] {
        let rule = Rule::parse(&format!("FREQ=YEARLY;BYWEEKNO={week};BYMONTH=1,12")).unwrap();
        let first = at("18000101T000000");
        let last = at("22010101T000000");
        let whole: Vec<i64> = Expansion::new(&rule, first, first)
            .take_while(|start| *start < last)
            .collect();
        let years = (1800..2201).map(|year| {
            let begin = i64::from(days::from_civil(year, 1, 1)) * DAY_SECONDS;
            let end = i64::from(days::from_civil(year + 1, 1, 1)) * DAY_SECONDS;
            Expansion::new(&rule, first, begin).take_while(move |start| *start < end)
        });
        assert!(years.flatten().eq(whole), "{week}");
    }
}

#[test]
fn a_rule_made_by_hand_may_hold_nonsense() {
    for freq in [
        Freq::Yearly,
        Freq::Monthly,
        Freq::Weekly,
        Freq::Daily,
        Freq::Hourly,
        Freq::Minutely,
        Freq::Secondly,
    ] {
        let rule = Rule {
            interval: 0,
            months: u16::MAX,
            week_numbers: vec![i8::MIN, 0, i8::MAX, 1],
            year_days: vec![i16::MIN, 0, i16::MAX, 1],
            month_days: u32::MAX,
            month_days_from_end: u32::MAX,
            weekdays: u8::MAX,
            nth_weekdays: vec![(0, 0), (i8::MIN, u8::MAX), (i8::MAX, 7)],
            hours: u32::MAX,
            minutes: u64::MAX,
            seconds: u64::MAX,
            positions: vec![0, i16::MIN, i16::MAX, 1, -1],
            week_start: u8::MAX,
            ..Rule::every(freq)
        };
        assert!(rule.is_dense());
        let _ = rule.to_string();
        let first = at("20260101T000000");
        let starts: Vec<i64> = Expansion::new(&rule, first, first).take(50).collect();
        assert!(starts.is_sorted_by(|a, b| a < b), "{freq:?}");
    }
}

#[test]
fn nothing_starts_outside_the_calendar() {
    let rule = Rule::parse("FREQ=DAILY").unwrap();
    for first in [i64::MIN, EARLIEST - 1, LATEST + 1, i64::MAX] {
        assert_eq!(Expansion::new(&rule, first, first).next(), None);
        assert!(bounds(&rule, first).is_err());
    }
    let starts = Expansion::new(&rule, EARLIEST, EARLIEST).until(i64::MIN);
    assert_eq!(starts.count(), 0);
    assert_eq!(at("00010101T000000"), EARLIEST);
    assert_eq!(at("99991231T235959"), LATEST);
}
