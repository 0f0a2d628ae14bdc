//! Examples of RFC 5545, 3.8.5.3, some of them cut short, and the like; all begin at nine o'clock.

use recurrence::expand::Expansion;
use recurrence::rule::Rule;
use recurrence::stamp::{read_stamp, stamp};

/// A rule, the day of DTSTART, and the days on which it takes place: all of a rule that ends, else
/// the first ones.
const EXAMPLES: [(&str, &str, &str); 30] = [
    (
        "FREQ=DAILY;INTERVAL=10;COUNT=5",
        "19970902",
        "19970902 19970912 19970922 19971002 19971012",
    ),
    (
        "FREQ=WEEKLY;UNTIL=19971007T000000Z;WKST=SU;BYDAY=TU,TH",
        "19970902",
        "19970902 19970904 19970909 19970911 19970916 19970918 19970923 19970925 19970930 19971002",
    ),
    (
        "FREQ=WEEKLY;INTERVAL=2;UNTIL=19970924T000000Z;WKST=SU;BYDAY=MO,WE,FR",
        "19970901",
        "19970901 19970903 19970905 19970915 19970917 19970919",
    ),
    (
        "FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH",
        "19970902",
        "19970902 19970904 19970916 19970918 19970930 19971002 19971014 19971016",
    ),
    (
        "FREQ=MONTHLY;COUNT=10;BYDAY=1FR",
        "19970905",
        "19970905 19971003 19971107 19971205 19980102 19980206 19980306 19980403 19980501 19980605",
    ),
    (
        "FREQ=MONTHLY;UNTIL=19971224T000000Z;BYDAY=1FR",
        "19970905",
        "19970905 19971003 19971107 19971205",
    ),
    (
        "FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU",
        "19970907",
        "19970907 19970928 19971102 19971130 19980104 19980125 19980301 19980329 19980503 19980531",
    ),
    (
        "FREQ=MONTHLY;COUNT=6;BYDAY=-2MO",
        "19970922",
        "19970922 19971020 19971117 19971222 19980119 19980216",
    ),
    (
        "FREQ=MONTHLY;BYMONTHDAY=-3",
        "19970928",
        "19970928 19971029 19971128 19971229 19980129 19980226",
    ),
    (
        "FREQ=MONTHLY;COUNT=10;BYMONTHDAY=2,15",
        "19970902",
        "19970902 19970915 19971002 19971015 19971102 19971115 19971202 19971215 19980102 19980115",
    ),
    (
        "FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1",
        "19970930",
        "19970930 19971001 19971031 19971101 19971130 19971201 19971231 19980101 19980131 19980201",
    ),
    (
        "FREQ=MONTHLY;INTERVAL=18;COUNT=10;BYMONTHDAY=10,11,12,13,14,15",
        "19970910",
        "19970910 19970911 19970912 19970913 19970914 19970915 19990310 19990311 19990312 19990313",
    ),
    (
        "FREQ=MONTHLY;INTERVAL=2;BYDAY=TU",
        "19970902",
        "19970902 19970909 19970916 19970923 19970930 19971104 19971111 19971118 19971125 19980106",
    ),
    (
        "FREQ=YEARLY;COUNT=10;BYMONTH=6,7",
        "19970610",
        "19970610 19970710 19980610 19980710 19990610 19990710 20000610 20000710 20010610 20010710",
    ),
    (
        "FREQ=YEARLY;INTERVAL=2;COUNT=10;BYMONTH=1,2,3",
        "19970310",
        "19970310 19990110 19990210 19990310 20010110 20010210 20010310 20030110 20030210 20030310",
    ),
    (
        "FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200",
        "19970101",
        "19970101 19970410 19970719 20000101 20000409 20000718 20030101 20030410 20030719 20060101",
    ),
    (
        "FREQ=YEARLY;BYDAY=20MO",
        "19970519",
        "19970519 19980518 19990517",
    ),
    (
        "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO",
        "19970512",
        "19970512 19980511 19990517",
    ),
    (
        "FREQ=YEARLY;BYMONTH=3;BYDAY=TH",
        "19970313",
        "19970313 19970320 19970327 19980305 19980312 19980319 19980326 19990304",
    ),
    (
        "FREQ=YEARLY;BYDAY=TH;BYMONTH=6,7,8",
        "19970605",
        "19970605 19970612 19970619 19970626 19970703 19970710 19970717 19970724 19970731 19970807 \
         19970814 19970821 19970828 19980604",
    ),
    (
        "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
        "19970902",
        "19980213 19980313 19981113 19990813 20001013",
    ),
    (
        "FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13",
        "19970913",
        "19970913 19971011 19971108 19971213 19980110 19980207 19980307 19980411 19980509 19980613",
    ),
    (
        "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8",
        "19961105",
        "19961105 20001107 20041102",
    ),
    (
        "FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3",
        "19970904",
        "19970904 19971007 19971106",
    ),
    (
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2",
        "19970929",
        "19970929 19971030 19971127 19971230 19980129 19980226 19980330",
    ),
    (
        "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO",
        "19970805",
        "19970805 19970810 19970819 19970824",
    ),
    (
        "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU",
        "19970805",
        "19970805 19970817 19970819 19970831",
    ),
    (
        "FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5",
        "20070115",
        "20070115 20070130 20070215 20070315 20070330",
    ),
    (
        "FREQ=DAILY;COUNT=3",
        "19970902",
        "19970902 19970903 19970904",
    ),
    (
        "FREQ=DAILY;UNTIL=20000131T140000Z;BYMONTH=1",
        "19991231",
        "20000101 20000102 20000103",
    ),
];

#[test]
fn days() {
    for (text, first, days) in EXAMPLES {
        let rule = Rule::parse(text).unwrap();
        let (first, _) = read_stamp(&format!("{first}T090000")).unwrap();
        let expected: Vec<String> = days
            .split_whitespace()
            .map(|day| format!("{day}T090000"))
            .collect();
        let ends = text.contains("COUNT") || text.contains("UNTIL=1997");
        let most = expected.len() + usize::from(ends);
        let starts = Expansion::new(&rule, first, first).take(most).map(stamp);
        assert_eq!(starts.collect::<Vec<String>>(), expected, "{text}");
    }
}

#[test]
fn times_of_a_day() {
    for (text, times) in [
        (
            "FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T170000Z",
            "090000 120000 150000",
        ),
        (
            "FREQ=MINUTELY;INTERVAL=15;COUNT=6",
            "090000 091500 093000 094500 100000 101500",
        ),
        (
            "FREQ=MINUTELY;INTERVAL=90;COUNT=4",
            "090000 103000 120000 133000",
        ),
        (
            "FREQ=DAILY;BYHOUR=9,10;BYMINUTE=0,20,40;UNTIL=19970902T235959",
            "090000 092000 094000 100000 102000 104000",
        ),
        (
            "FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10;UNTIL=19970902T235959",
            "090000 092000 094000 100000 102000 104000",
        ),
    ] {
        let rule = Rule::parse(text).unwrap();
        let (first, _) = read_stamp("19970902T090000").unwrap();
        let starts = Expansion::new(&rule, first, first).map(stamp);
        let expected = times
            .split_whitespace()
            .map(|time| format!("19970902T{time}"));
        assert_eq!(
            starts.collect::<Vec<_>>(),
            expected.collect::<Vec<_>>(),
            "{text}"
        );
    }
}
