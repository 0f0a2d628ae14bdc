"""Calendars with one thing damaged: each is read as python's recurring_ical_events reads it, or it is said."""

from __future__ import annotations

import pytest

from calendars import calendar_of, stored, take, zone_of
from schedule_ics_oracle_test import WINDOW, oracle, shown
from sizes import own_db

pytestmark = own_db("counts or changes all that is there")

TIMES = "UID:1\nSUMMARY:x\nDTSTART;TZID=Europe/Berlin:20300107T200000\nDTEND;TZID=Europe/Berlin:20300107T210000\n"
SERIES = TIMES + "RRULE:FREQ=DAILY;COUNT=6"
BEGUN = "UID:1\nSUMMARY:x\nDTSTART:20300107T190000Z\n"

# What a parameter may have become; `{}` is the one that was meant.
BROKEN = ["V\ufffdLUE=DATE", "VALVE=DATE", "VALUE", "=DATE", "VALUE=PERI\ufffdD", "VALUE=", "VAL UE=DATE", "A\\B=DATE", "", "X=1", "RANG=THISANDFUTURE"]
BROKEN += ["TZID", "TZ;D=Europe/Berlin", "TZID=Europe/Berlin;TZID=Asia/Tokyo", 'TZID="Europe/Berlin"x', 'TZID=E"urop"e', "TZDI=Europe/Berlin", "\ufffd"]
LINES = {
    "DTSTART": "UID:1\nSUMMARY:x\nDTSTART{}:20300107T200000Z\nDURATION:PT1H",
    "DTEND": BEGUN + "DTEND{}:20300107T200000Z",
    "DURATION": BEGUN + "DURATION{}:PT1H",
    "RRULE": BEGUN + "RRULE{}:FREQ=DAILY;COUNT=3",
    "EXRULE": SERIES + "\nEXRULE{}:FREQ=DAILY;COUNT=2",
    "RDATE": SERIES + "\nRDATE{}:20300115T190000Z",
    "EXDATE": SERIES + "\nEXDATE{}:20300109T190000Z",
    "STATUS": BEGUN + "STATUS{}:CONFIRMED",
    "SEQUENCE": BEGUN + "SEQUENCE{}:1",
    "UID": BEGUN.replace("UID", "UID{}"),
}


@pytest.mark.parametrize("name", LINES)
def test_parameters_that_are_not_understood_are_told(world, name):
    for number, parameter in enumerate(BROKEN):
        (row,) = take(world, calendar_of(LINES[name].replace("{}", f";{parameter}").replace("UID:1", f"UID:n{number}")))
        assert f"{name}: parameter " in row["not_taken"], (parameter, row)
        # As the last of several, too.
        (row,) = take(world, calendar_of(LINES[name].replace("{}", f";X-FINE=1;VALUE=;{parameter}")))
        assert f"{name}: parameter " in row["not_taken"], (parameter, row)
    (row,) = take(world, calendar_of(LINES[name].replace("{}", ';X-FINE="a","b;c";X-OTHER=')))
    assert row["not_taken"] is None and row["schedule_id"]


@pytest.mark.parametrize("parameter", [*BROKEN, "RANGE=", "RANGE=THISANDPRIOR", "RANGE=THISANDFUTURE;RANGE=THISANDFUTURE"])
def test_parameters_of_a_change_are_told(world, parameter):
    change = f"UID:1\nSUMMARY:y\nRECURRENCE-ID;{parameter}:20300109T190000Z\nDTSTART:20300109T200000Z\nDURATION:PT1H"
    row = take(world, calendar_of(SERIES, change))[0]
    assert row["not_taken"].startswith("RECURRENCE-ID 20300109T190000Z: "), row
    change = f"UID:1\nSUMMARY:y\nRECURRENCE-ID:20300109T190000Z\nDTSTART;X-A=b;{parameter}:20300109T200000Z\nDURATION:PT1H"
    (row,) = take(world, calendar_of(SERIES, change))
    assert "DTSTART: parameter " in row["not_taken"], row


VALUES = {
    TIMES.replace("T200000", "T190000Z", 1): "DTSTART is in UTC, and not in its TZID",
    f"{SERIES}\nEXDATE;TZID=Asia/Tokyo:20300109T190000Z": "EXDATE is in UTC, and not in its TZID",
    f"{SERIES}\nEXDATE;TZID=Europe/Berlin:20300109": "EXDATE is a date, and not said to be one",
    f"{SERIES}\nRDATE;TZID=Asia/Tokyo:20300115T100000Z/PT1H": "RDATE is in UTC, and not in its TZID",
    f"{TIMES}TRANSP:OPAQUE XDATE:20300109T190000Z": "TRANSP OPAQUE XDATE:20300109T190000Z is not understood",
    f"{TIMES}DTSTAMP:20300101T000000Z\n XDATE:20300109T190000Z": "DTSTAMP 20300101T000000ZXDATE:20300109T190000Z is not understood",
    f"{TIMES}SEQUENCE:1x": "SEQUENCE 1x is not understood",
    f"{TIMES}STATUS:CANCEL\ufffdED": "STATUS CANCEL\ufffdED is not understood",
    f"{TIMES}STATUS:": "STATUS  is not understood",
    f"{TIMES}CLASS:PRIVAT": "CLASS PRIVAT is not understood",
    f"{TIMES}CLASS:PUBLIC\nCLASS:PRIVATE": "CLASS is there twice, and the first is taken",
    f"{TIMES}UID:2": "UID is there twice, and the first is taken",
    f"{TIMES}DTSTART:20300108T190000Z": "DTSTART is there twice, and the first is taken",
    f"{TIMES}EXD\ufffdTE:20300109T190000Z": "not understood: EXD\ufffdTE:20300109T190000Z",
    f"{TIMES}EX DATE:20300109T190000Z": "not understood: EX DATE:20300109T190000Z",
    f"{TIMES}EX\ufeffDATE:20300109T190000Z": "not understood: EX\ufeffDATE:20300109T190000Z",
    f"{TIMES}EXDAT:20300109T190000Z": "left out: EXDAT",
    f"{SERIES}\nEXDATE:20300109T190000Z,\n20300110T190000Z": "not understood: 20300110T190000Z; EXDATE  is no time",
    f"{BEGUN}DURATION:P1M": "DURATION P1M is no time",
    f"{BEGUN}DURATION:PT1D": "DURATION PT1D is no time",
    f"{BEGUN}BEGIN:VALARM\nDURATION:PT5M\nEXDATE:20300109T190000Z": "END:VALARM is missing; left out: VALARM",
    f"{BEGUN}BEGI:VALARM\nEND:VALARM": "END:VALARM is of nothing; left out: BEGI",
}


def test_values_that_are_not_understood_are_told(world):
    for event, why in VALUES.items():
        (row,) = take(world, calendar_of(event))
        assert row["not_taken"] == why, event
    assert {row["visibility"] for row in stored(world)} == {"public", "private"}
    many = "\n".join(f"X-{n}:1" for n in range(30))
    (row,) = take(world, calendar_of(f"{TIMES}{many}"))
    assert row["not_taken"].startswith("left out: X-0, X-1, ") and row["not_taken"].endswith(", …")


def test_a_change_whose_time_was_cut_off_is_told(world):
    for tzid in ("", ";TZID=Europe/Berlin"):
        (row,) = take(world, calendar_of(SERIES, f"UID:1\nSUMMARY:y\nRECURRENCE-ID{tzid}:20300109\nDTSTART:20300109T200000Z"))
        assert row["not_taken"] == "RECURRENCE-ID 20300109: RECURRENCE-ID is a date, and not said to be one"


def test_a_change_that_ends_without_a_beginning_is_told(world):
    for line in ("DURATION:PT2H", "DTEND:20300109T220000Z"):
        for more in ("", ";RANGE=THISANDFUTURE"):
            row = take(world, calendar_of(SERIES, f"UID:1\nSUMMARY:y\nRECURRENCE-ID{more}:20300109T190000Z\n{line}"))[0]
            assert f"left out: {line.partition(':')[0]}" in row["not_taken"], (line, more)


def lined(*lines):
    return "\r\n".join([*"\n".join(lines).splitlines(), ""])


WHOLE = ["BEGIN:VCALENDAR", "VERSION:2.0", "BEGIN:VEVENT", SERIES, "END:VEVENT", "BEGIN:VEVENT", SERIES.replace("UID:1", "UID:2"), "END:VEVENT", "END:VCALENDAR"]


def without(*places, **instead):
    """The calendar without some of its lines, or with others in their place."""
    lines = dict(enumerate(WHOLE))
    for place in places:
        del lines[place]
    lines |= {int(place[1:]): line for place, line in instead.items()}
    return lined(*(lines[place] for place in sorted(lines)))


CALENDARS = {
    without(2): "END:VEVENT is of nothing; outside of events: DTEND, DTSTART, RRULE, SUMMARY",
    without(_2="BEGI\ufffd:VEVENT"): "not understood: BEGI\ufffd:VEVENT",
    without(_2="BEGIN"): "not understood: BEGIN",
    without(_2="BEGI:VEVENT"): "outside of events: BEGI,",
    without(_2="BEGIN:VEVENX"): "VEVENX is no event",
    without(4): "END:VEVENT is missing",
    without(8): "END:VCALENDAR is missing",
    without(5, 6, 7, 8): "END:VCALENDAR is missing",
    without(_8="EN:VCALENDAR"): "END:VCALENDAR is missing; outside of events: EN",
    without(_1="END:VCALENDAR"): "VEVENT is in no VCALENDAR; END:VCALENDAR is of nothing",
    without(_1="METHOX:CANCEL"): "outside of events: METHOX",
    without(_1="MET\ufffdOD:CANCEL"): "not understood: MET\ufffdOD:CANCEL",
    without(_1="METHOD:CANCE"): "METHOD CANCE is not understood",
    without(_1="METHOD:REPLY"): "METHOD REPLY is not understood",
    without(_1="METHOD;\ufffd:CANCEL"): "METHOD CANCEL is not understood",
    without(_1="METHOD:PUBLISH\nMETHOD:CANCEL"): "METHOD CANCEL is not understood",
    without(_1="CALSCALE:HEBREW"): "CALSCALE HEBREW is not understood",
    without(_1="X-WR-TIMEZONE:Asia/Tokyo\nX-WR-TIMEZONE:Europe/Rome"): "X-WR-TIMEZONE Europe/Rome is not understood",
    without(_1="BEGIN:VTIMEZONE\nTZI:Z\nEND:VTIMEZONE"): "a VTIMEZONE has no TZID",
    without(_1=zone_of(tzid="Z") + "\n" + zone_of(tzid="Z", offset="+0400")): "VTIMEZONE Z is there twice",
}


@pytest.mark.parametrize("text", CALENDARS, ids=lambda text: CALENDARS[text][:50])
def test_what_is_damaged_outside_of_events_is_told(world, text):
    rows = [row["not_taken"] for row in take(world, text)]
    assert any(CALENDARS[text] in (why or "") for why in rows), rows


def test_what_is_whole_is_not_doubted(world):
    own = ["PRODID:x", "CALSCALE:Gregorian", "METHOD:publish", "METHOD:PUBLISH", "NAME:x", "X-WR-CALNAME:x", "REFRESH-INTERVAL;VALUE=DURATION:PT1H"]
    text = "\ufeff" + without(_1="\n".join([*own, zone_of(tzid="Z"), zone_of(tzid="Z")])) + "\r\n \r\n"
    assert [row["not_taken"] for row in take(world, text)] == [None, None]


# What may become of a VTIMEZONE; the zone is then not that which is left.
ZONE = """BEGIN:VTIMEZONE
TZID:EST
BEGIN:STANDARD
DTSTART:16010101T020000
TZOFFSETFROM:-0400
TZOFFSETTO:-0500
RRULE:FREQ=YEARLY;BYDAY=1SU;BYMONTH=11
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:16010101T020000
TZOFFSETFROM:-0500
TZOFFSETTO:-0400
RRULE:FREQ=YEARLY;BYDAY=2SU;BYMONTH=3
END:DAYLIGHT
END:VTIMEZONE"""
DAMAGED = [
    ("TZID:EST\n", "TZID:EST\nTZI\ufffd:x\n"), ("TZID:EST\n", "TZID:EST\nTZIX:x\n"), ("BEGIN:DAYLIGHT", "BEGIN:DAYLIGH"), ("BEGIN:DAYLIGHT", "BEGIN"),
    ("END:STANDARD\n", ""), ("END:STANDARD", "END:STANDAR"), ("END:DAYLIGHT\n", ""), ("END:VTIMEZONE", ""), ("RRULE:", "RRUL:"), ("RRULE:", "RR\ufffdLE:"),
    ("RRULE:", "RRULE;V\ufffdLUE=RECUR:"), ("RRULE:", "RRULE:FREQ=YEARLY\nRRULE:"), ("TZOFFSETTO:-0500", "TZOFFSETTO:-0500\nTZOFFSETTO:-0400"),
    ("T020000", "T020000Z"), ("TZOFFSETTO:-0400", "TZOFFSETTO:-04"), ("TZOFFSETFROM:-0500", "TZOFFSETFR"), ("FREQ=YEARLY", "FREQ=YEARL"),
]  # fmt: skip


@pytest.mark.parametrize("old, new", DAMAGED)
def test_a_zone_whose_description_is_damaged_is_not_trusted(world, old, new):
    event = "UID:1\nSUMMARY:x\nDTSTART;TZID=EST:20300407T200000\nDURATION:PT1H\nRRULE:FREQ=DAILY;COUNT=2"
    assert [row["not_taken"] for row in take(world, calendar_of(event, head=ZONE))] == [None]
    assert old in ZONE
    rows = [row["not_taken"] for row in take(world, calendar_of(event, head=ZONE.replace(old, new, 1)))]
    assert any("VTIMEZONE EST is not understood" in (why or "") for why in rows), rows
    # A place is a place, whatever is said of it.
    head, named = (text.replace("EST", "America/New_York") for text in (ZONE, event))
    rows = [row["not_taken"] for row in take(world, calendar_of(named, head=head.replace(old.replace("EST", "America/New_York"), new, 1)))]
    assert rows[-1] is None


def test_shapes_of_values_are_seen_without_their_type(world):
    """A date, a time and a period are told apart by what they are, as others do."""
    for line in ["EXDATE;VALUE=DATE:20300109T190000Z", "EXDATE;VALUE=DATE-TIME:20300109", "RDATE:20300115T190000Z/PT1H", "RDATE;VALUE=PERIOD:20300115T190000Z"]:
        text = calendar_of(f"{SERIES}\n{line}")
        assert [row["not_taken"] for row in take(world, text)] == [None], line
        assert shown(world, stored(world), *WINDOW) == oracle(text, *WINDOW), line
        world.influencer.api.delete("live_stream_schedule", where={"title": "x"})
