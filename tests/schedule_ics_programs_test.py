"""Calendars as well-known programs write them, read as python's recurring_ical_events reads them."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from calendars import stored, take
from schedule_ics_oracle_test import oracle, shown
from sizes import own_db

pytestmark = own_db("counts or changes all that is there")

WINDOW = datetime(2030, 1, 1, tzinfo=timezone.utc), datetime(2031, 1, 1, tzinfo=timezone.utc)

EUROPE = """BEGIN:STANDARD
DTSTART:16010101T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:16010101T020000
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3
END:DAYLIGHT"""

OUTLOOK = f"""BEGIN:VCALENDAR
PRODID:-//Microsoft Corporation//Outlook 16.0 MIMEDIR//EN
VERSION:2.0
METHOD:PUBLISH
X-CALSTART:20300107T190000Z
X-WR-RELCALID:{{0000002E-6380-7FC8-9CDB-D9A4B2C7A1E2}}
X-WR-CALNAME:Shows
X-WR-TIMEZONE:W. Europe Standard Time
BEGIN:VTIMEZONE
TZID:W. Europe Standard Time
{EUROPE}
END:VTIMEZONE
BEGIN:VEVENT
CLASS:PUBLIC
CREATED:20291201T080000Z
DESCRIPTION:Line one\\nLine two\\n
DTEND;TZID="W. Europe Standard Time":20300107T213000
DTSTAMP:20291201T080000Z
DTSTART;TZID="W. Europe Standard Time":20300107T200000
EXDATE;TZID="W. Europe Standard Time":20300121T200000,20300325T200000
LAST-MODIFIED:20291201T080000Z
PRIORITY:5
RRULE:FREQ=WEEKLY;COUNT=20;BYDAY=MO
SEQUENCE:0
SUMMARY;LANGUAGE=en-us:Weekly show
TRANSP:OPAQUE
UID:040000008200E00074C5B7101A82E00800000000B0
X-ALT-DESC;FMTTYPE=text/html:<html><body>Line one</body></html>
X-MICROSOFT-CDO-BUSYSTATUS:BUSY
BEGIN:VALARM
TRIGGER:-PT15M
ACTION:DISPLAY
DESCRIPTION:Reminder
END:VALARM
END:VEVENT
END:VCALENDAR"""

GOOGLE = """BEGIN:VCALENDAR
PRODID:-//Google Inc//Google Calendar 70.9054//EN
VERSION:2.0
CALSCALE:GREGORIAN
METHOD:PUBLISH
X-WR-CALNAME:shop@example.org
X-WR-TIMEZONE:America/New_York
BEGIN:VEVENT
DTSTART;TZID=America/New_York:20300110T180000
DTEND;TZID=America/New_York:20300110T190000
RRULE:FREQ=MONTHLY;UNTIL=20300801T035959Z;BYDAY=2TH
EXDATE;TZID=America/New_York:20300314T180000
DTSTAMP:20291120T101010Z
UID:7kukuqrfedlm2f9t@google.com
CREATED:00001231T000000Z
DESCRIPTION:
LAST-MODIFIED:20291120T101010Z
LOCATION:
SEQUENCE:1
STATUS:CONFIRMED
SUMMARY:Second Thursday
TRANSP:OPAQUE
END:VEVENT
BEGIN:VEVENT
DTSTART;TZID=America/New_York:20300411T200000
DTEND;TZID=America/New_York:20300411T210000
DTSTAMP:20291120T101010Z
UID:7kukuqrfedlm2f9t@google.com
RECURRENCE-ID;TZID=America/New_York:20300411T180000
CREATED:20291120T101010Z
LAST-MODIFIED:20291120T101010Z
SEQUENCE:2
STATUS:CONFIRMED
SUMMARY:Second Thursday\\, late
TRANSP:OPAQUE
END:VEVENT
BEGIN:VEVENT
DTSTART:20300301T150000Z
DTEND:20300301T160000Z
DTSTAMP:20291120T101010Z
UID:once@google.com
SEQUENCE:0
STATUS:TENTATIVE
SUMMARY:Once
TRANSP:TRANSPARENT
END:VEVENT
END:VCALENDAR"""

APPLE = """BEGIN:VCALENDAR
CALSCALE:GREGORIAN
PRODID:-//Apple Inc.//macOS 14.0//EN
VERSION:2.0
X-APPLE-CALENDAR-COLOR:#1BADF8
X-WR-CALNAME:Home
BEGIN:VTIMEZONE
TZID:Australia/Sydney
BEGIN:STANDARD
TZOFFSETFROM:+1100
RRULE:FREQ=YEARLY;BYMONTH=4;BYDAY=1SU
DTSTART:20080406T030000
TZNAME:AEST
TZOFFSETTO:+1000
END:STANDARD
BEGIN:DAYLIGHT
TZOFFSETFROM:+1000
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=1SU
DTSTART:20081005T020000
TZNAME:AEDT
TZOFFSETTO:+1100
END:DAYLIGHT
END:VTIMEZONE
BEGIN:VEVENT
CREATED:20291120T101010Z
DTEND;TZID=Australia/Sydney:20300330T003000
DTSTAMP:20291120T101010Z
DTSTART;TZID=Australia/Sydney:20300329T233000
LAST-MODIFIED:20291120T101010Z
RRULE:FREQ=DAILY;INTERVAL=2;COUNT=10
SEQUENCE:3
SUMMARY:Über Mitternacht 🎥
TRANSP:OPAQUE
UID:AB12-CD34
X-APPLE-CREATOR-IDENTITY:com.apple.mobilecal
BEGIN:VALARM
ACTION:AUDIO
ATTACH;VALUE=URI:Chord
TRIGGER:-PT15M
UID:AB12-ALARM
X-WR-ALARMUID:AB12-ALARM
END:VALARM
END:VEVENT
END:VCALENDAR"""

THUNDERBIRD = """BEGIN:VCALENDAR
PRODID:-//Mozilla.org/NONSGML Mozilla Calendar V1.1//EN
VERSION:2.0
BEGIN:VTIMEZONE
TZID:Europe/Berlin
X-TZINFO:Europe/Berlin[2025b]
BEGIN:STANDARD
TZOFFSETTO:+010000
TZOFFSETFROM:+005328
TZNAME:Europe/Berlin(STD)
DTSTART:18930401T000000
RDATE:18930401T000000
END:STANDARD
END:VTIMEZONE
BEGIN:VEVENT
CREATED:20291120T101010Z
LAST-MODIFIED:20291120T101010Z
DTSTAMP:20291120T101010Z
UID:5f0e3c1a
SUMMARY:Thunder
RRULE:FREQ=WEEKLY;BYDAY=TU,FR;UNTIL=20300501T220000Z
EXDATE:20300111T190000Z
DTSTART;TZID=Europe/Berlin:20300108T200000
DTEND;TZID=Europe/Berlin:20300108T204500
TRANSP:OPAQUE
X-MOZ-GENERATION:4
SEQUENCE:1
END:VEVENT
BEGIN:VEVENT
DTSTAMP:20291120T101010Z
UID:5f0e3c1a
SUMMARY:Thunder
STATUS:CANCELLED
RECURRENCE-ID;TZID=Europe/Berlin:20300402T200000
DTSTART;TZID=Europe/Berlin:20300402T200000
DTEND;TZID=Europe/Berlin:20300402T204500
END:VEVENT
END:VCALENDAR"""

NEXTCLOUD = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//IDN nextcloud.com//Calendar app 4.7.0//EN
CALSCALE:GREGORIAN
BEGIN:VEVENT
CREATED:20291120T101010Z
DTSTAMP:20291120T101010Z
LAST-MODIFIED:20291120T101010Z
SEQUENCE:2
UID:1b2c
DTSTART;TZID=Europe/Paris:20300201T190000
DURATION:P1DT2H
STATUS:CONFIRMED
SUMMARY:Marathon
RRULE:FREQ=MONTHLY;COUNT=3;BYMONTHDAY=1
END:VEVENT
BEGIN:VTIMEZONE
TZID:Europe/Paris
BEGIN:DAYLIGHT
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
TZNAME:CEST
DTSTART:19700329T020000
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
END:DAYLIGHT
BEGIN:STANDARD
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
TZNAME:CET
DTSTART:19701025T030000
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
END:STANDARD
END:VTIMEZONE
END:VCALENDAR"""

EXCHANGE = f"""BEGIN:VCALENDAR
METHOD:REQUEST
PRODID:Microsoft Exchange Server 2010
VERSION:2.0
BEGIN:VTIMEZONE
TZID:Customized Time Zone
{EUROPE}
END:VTIMEZONE
BEGIN:VEVENT
ORGANIZER;CN=Ada:mailto:ada@example.org
ATTENDEE;ROLE=REQ-PARTICIPANT;PARTSTAT=NEEDS-ACTION;RSVP=TRUE;CN=Bob:mailto:bob@example.org
DESCRIPTION;LANGUAGE=en-US:\\n
RRULE:FREQ=WEEKLY;UNTIL=20300430T180000Z;INTERVAL=2;BYDAY=TU;WKST=MO
UID:0400000082
SUMMARY;LANGUAGE=en-US:Fortnightly
DTSTART;TZID=Customized Time Zone:20300108T190000
DTEND;TZID=Customized Time Zone:20300108T200000
CLASS:PUBLIC
PRIORITY:5
DTSTAMP:20291120T101010Z
TRANSP:OPAQUE
STATUS:CONFIRMED
SEQUENCE:0
LOCATION;LANGUAGE=en-US:
X-MICROSOFT-CDO-APPT-SEQUENCE:0
X-MICROSOFT-DISALLOW-COUNTER:FALSE
END:VEVENT
END:VCALENDAR"""

MAILCHIMP = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Eventbrite//EN
CALSCALE:GREGORIAN
METHOD:PUBLISH
BEGIN:VEVENT
DTSTAMP:20291120T101010Z
DTSTART;TZID=America/Los_Angeles:20300705T170000
DTEND;TZID=America/Los_Angeles:20300705T183000
STATUS:CONFIRMED
SUMMARY;CHARSET=UTF-8:Launch; live\\, with Q&A: "why"
DESCRIPTION;CHARSET=UTF-8:For details\\, click here: https://example.org/e/1?a=b;c
CLASS:PUBLIC
URL;VALUE=URI:https://example.org/e/1
UID:event-1@example.org
END:VEVENT
END:VCALENDAR"""

LOWER = """begin:vcalendar
version:2.0
begin:vevent
uid:lower
summary:Small
dtstart;tzid=Asia/Kolkata;value=date-time:20300105T100000
dtend;tzid=Asia/Kolkata:20300105T110000
rrule:FREQ=DAILY;COUNT=4
exdate;tzid=Asia/Kolkata:20300106T100000
status:confirmed
end:vevent
end:vcalendar"""

ADDED = """BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Yahoo//Calendar//EN
BEGIN:VEVENT
UID:r
SUMMARY:Dates
DTSTART;TZID=America/Sao_Paulo:20300110T200000
DURATION:PT2H
RDATE;TZID=America/Sao_Paulo:20300112T200000,20300115T180000
RDATE;VALUE=PERIOD:20300120T200000Z/20300120T203000Z,20300121T200000Z/PT45M
EXDATE:20300112T230000Z
END:VEVENT
END:VCALENDAR"""

ESCAPED = OUTLOOK.replace("TZID:W. Europe Standard Time", "TZID:(UTC+01:00) Amsterdam\\, Berlin\\, Bern").replace(
    'TZID="W. Europe Standard Time"', 'TZID="(UTC+01:00) Amsterdam, Berlin, Bern"'
)

PROGRAMS = {
    "Outlook": OUTLOOK, "Google": GOOGLE, "Apple": APPLE, "Thunderbird": THUNDERBIRD, "Nextcloud": NEXTCLOUD, "Exchange": EXCHANGE,
    "Eventbrite": MAILCHIMP, "lower case": LOWER, "dates": ADDED,
}  # fmt: skip
# What is called off takes place for recurring_ical_events.
CALLED_OFF = {("Thunderbird", datetime(2030, 4, 2, 18, tzinfo=timezone.utc))}
# What they hold that no schedule has.
NO_LOSS = {"left out: PRIORITY, VALARM, X-ALT-DESC, X-MICROSOFT-CDO-BUSYSTATUS", "left out: LOCATION", "left out: VALARM, X-APPLE-CREATOR-IDENTITY"}
NO_LOSS |= {"left out: X-MOZ-GENERATION", "left out: URL"}
NO_LOSS |= {"left out: ATTENDEE, LOCATION, ORGANIZER, PRIORITY, X-MICROSOFT-CDO-APPT-SEQUENCE, X-MICROSOFT-DISALLOW-COUNTER"}


def folded(text, octets):
    """Lines of so many octets, cut in the middle of characters too, as RFC 5545 allows."""
    lines = []
    for line in text.encode().split(b"\n"):
        lines.append(line[:octets])
        lines += [b" " + line[at : at + octets - 1] for at in range(octets, len(line), octets - 1)]
    return b"\r\n".join([*lines, b""])


def taken(world, text):
    assert {row["not_taken"] for row in take(world, text)} <= NO_LOSS | {None}
    found = shown(world, stored(world), *WINDOW)
    world.influencer.api.delete("live_stream_schedule", where={"influencer_id": world.influencer.influencer_id})
    return found


@pytest.mark.parametrize("program", PROGRAMS)
def test_what_programs_write_is_read_as_others_read_it(world, program):
    text = PROGRAMS[program]
    # They know no Windows name there, and no time of these calendars is without a zone.
    others = text.replace("X-WR-TIMEZONE:W. Europe Standard Time\n", "").replace("\n", "\r\n")
    wanted = [(begin, end, title.rstrip()) for begin, end, title in oracle(others, *WINDOW) if (program, begin) not in CALLED_OFF]
    assert wanted
    for end in ("\r\n", "\n", "\r", " \r\n"):
        assert taken(world, text.replace("\n", end)) == wanted, repr(end)
    assert taken(world, "\ufeff" + text) == wanted
    # Not as text that is folded between its octets: PostgreSQL has characters alone.
    plain = "\n".join(line for line in text.split("\n") if line.isascii())
    wanted = [(begin, end, title) for begin, end, title in wanted if title.isascii()]
    if wanted:
        assert taken(world, folded(plain, 20).decode()) == wanted


def test_names_of_zones_are_escaped_in_one_place_and_not_in_the_other(world):
    assert taken(world, ESCAPED) == taken(world, OUTLOOK)
    assert taken(world, ESCAPED.replace(", ", "\\, ")) == taken(world, OUTLOOK)


def test_characters_that_were_cut_by_a_fold_are_told(world):
    """What a program folds between octets, and an app decodes line by line, is lost before it comes here."""
    lost = folded(APPLE, 9).decode(errors="replace")
    rows = take(world, lost)
    assert rows and all(row["not_taken"] and "characters that were lost" in row["not_taken"] for row in rows), rows
