"""Zones of calendars from elsewhere: by any name, and by what the calendar says of them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from tzlocal.windows_tz import win_tz

from calendars import calendar_of, ours, starts, stored, take, window_of, zone_of
from people import people
from refusals import refused
from sizes import own_db

EVENT = "UID:{n}\nSUMMARY:{n}\nDTSTART;TZID={tzid}:20300107T200000\nDTEND;TZID={tzid}:20300107T213000\nRRULE:FREQ=MONTHLY;COUNT=20"

WINTER = "BEGIN:STANDARD\nDTSTART:16010101T{at}\nTZOFFSETFROM:{summer}\nTZOFFSETTO:{winter}\nRRULE:FREQ=YEARLY;BYDAY={autumn}\nEND:STANDARD"
SUMMER = "BEGIN:DAYLIGHT\nDTSTART:16010101T{at2}\nTZOFFSETFROM:{winter}\nTZOFFSETTO:{summer}\nRRULE:FREQ=YEARLY;BYDAY={spring}\nEND:DAYLIGHT"


def described(tzid, winter, summer, autumn, spring, at="030000", at2="020000", more=""):
    """A VTIMEZONE as Outlook writes it."""
    filled = {"winter": winter, "summer": summer, "autumn": autumn, "spring": spring, "at": at, "at2": at2}
    parts = [f"BEGIN:VTIMEZONE\nTZID:{tzid}", *([more] if more else []), WINTER.format(**filled), SUMMER.format(**filled), "END:VTIMEZONE"]
    return "\n".join(parts)


EUROPE = ("+0100", "+0200", "-1SU;BYMONTH=10", "-1SU;BYMONTH=3")
AMERICA = ("-0500", "-0400", "1SU;BYMONTH=11", "2SU;BYMONTH=3", "020000")


def moments(name):
    """When the twenty occurrences of EVENT begin in a zone, by zoneinfo."""
    months = [(2030 + n // 12, n % 12 + 1) for n in range(20)]
    return [datetime(year, month, 7, 20, tzinfo=ZoneInfo(name)).astimezone(timezone.utc) for year, month in months]


def began(world, rows):
    window = datetime(2029, 12, 1, tzinfo=timezone.utc), datetime(2032, 1, 1, tzinfo=timezone.utc)
    return {row["title"]: [one[0] for one in ours(world, [row], *window)] for row in rows}


@own_db("counts or changes all that is there")
def test_every_name_of_windows_is_known(plain_db):
    """CLDR's names, in any case, by another copy of CLDR and another one of the zones."""
    world = people(plain_db)
    names = sorted(win_tz)
    assert len(names) > 138
    for some in (names[:70], names[70:]):
        events = [EVENT.format(n=tzid, tzid=tzid.lower() if n % 2 else f'"{tzid}"') for n, tzid in enumerate(some)]
        report = take(world, calendar_of(*events))
        assert [(one["title"], one["not_taken"]) for one in report] == [(tzid, None) for tzid in some]
    assert began(world, stored(world)) == {tzid: moments(win_tz[tzid]) for tzid in names}


NAMES = {
    "Europe/Berlin": "Europe/Berlin",
    "europe/berlin": "Europe/Berlin",
    "/Europe/Berlin": "Europe/Berlin",
    "/mozilla.org/20050126_1/Europe/Berlin": "Europe/Berlin",
    "/freeassociation.sourceforge.net/Tzfile/America/Argentina/Buenos_Aires": "America/Argentina/Buenos_Aires",
    "(UTC+01:00) Amsterdam, Berlin, Bern, Rome, Stockholm, Vienna": "Europe/Berlin",
    "(GMT+01.00) Sarajevo/Warsaw/Zagreb": None,
    "(UTC-05:00) Eastern Time (US & Canada)": "America/New_York",
    "(UTC-08:00) Pacific Time (US & Canada)": "America/Los_Angeles",
    "(UTC+09:00) Osaka, Sapporo, Tokyo": "Asia/Tokyo",
    "(UTC+05:30) Chennai, Kolkata, Mumbai, New Delhi": "Asia/Kolkata",
    "(UTC+01:00) Berlin, Lagos": None,
    "(UTC+07:00) Berlin": None,
    "UTC+01:00": "Etc/GMT-1",
    "GMT-0300": "Etc/GMT+3",
    "GMT+1": None,
    "UTC": "UTC",
    "Customized Time Zone": None,
    "": None,
}


@own_db("counts or changes all that is there")
def test_zones_by_other_names(plain_db):
    world = people(plain_db)
    events = [EVENT.format(n=n, tzid=f'"{tzid}"') for n, tzid in enumerate(NAMES)]
    report = take(world, calendar_of(*events))
    for (tzid, name), one in zip(NAMES.items(), report):
        assert one["not_taken"] == (None if name else f"time zone {tzid[:60]} is not known"), tzid
    expected = {str(n): moments(name) for n, name in enumerate(NAMES.values()) if name}
    assert began(world, stored(world)) == expected


DESCRIBED = {
    "Customized Time Zone": (described("Customized Time Zone", *EUROPE), "Europe/Paris"),
    "(UTC-05:00) Eastern Time (US & Canada)": (described("(UTC-05:00) Eastern Time (US & Canada)", *AMERICA), "America/New_York"),
    "Amerika": (described("Amerika", *AMERICA, more="X-LIC-LOCATION:America/Toronto"), "America/Toronto"),
    # A name that the server gives to another zone.
    "EST": (described("EST", *AMERICA), "America/New_York"),
    "Riad": (zone_of(offset="+0300", tzid="Riad"), "Etc/GMT-3"),
    "Indien": (zone_of(offset="+0530", tzid="Indien"), "Asia/Kolkata"),
    "Nirgends": (zone_of(offset="+0517", tzid="Nirgends"), None),
    "Lord Howe": (described("Lord Howe", "+1030", "+1100", "1SU;BYMONTH=4", "1SU;BYMONTH=10", "020000"), "Australia/Lord_Howe"),
    "Troll": (described("Troll", "+0000", "+0200", "-1SU;BYMONTH=10", "-1SU;BYMONTH=3", "030000", "010000"), "Antarctica/Troll"),
    # Clocks that are changed on days on which nobody changes them.
    "Mars": (described("Mars", "+0100", "+0200", "2SU;BYMONTH=10", "-1SU;BYMONTH=5"), None),
}


@own_db("counts or changes all that is there")
def test_a_zone_that_only_the_calendar_explains(plain_db):
    world = people(plain_db)
    events = [EVENT.format(n=n, tzid=f'"{tzid}"') for n, tzid in enumerate(DESCRIBED)]
    head = "\n".join(text for text, _ in DESCRIBED.values())
    report = take(world, calendar_of(*events, head=head))
    for (tzid, (_, name)), one in zip(DESCRIBED.items(), report):
        assert one["not_taken"] == (None if name else f"time zone {tzid} is like none that is known"), tzid
    rows = stored(world)
    assert began(world, rows) == {str(n): moments(name) for n, (_, name) in enumerate(DESCRIBED.values()) if name}
    assert {row["timezone"] for row in rows} >= {"America/Toronto", "Etc/GMT-3", "Asia/Kolkata"}


@own_db("counts or changes all that is there")
def test_what_takes_place_once_needs_no_zone_but_a_moment(world):
    once = "UID:1\nSUMMARY:x\nDTSTART;TZID=Nirgends:20300107T200000\nDTEND;TZID=Nirgends:20300107T213000\nRDATE;TZID=Nirgends:20300109T201700"
    (row,) = take(world, calendar_of(once, head=zone_of(offset="+0517", tzid="Nirgends")))
    assert row["not_taken"] is None
    assert starts(world, *window_of(1, 20)) == [("01-07T14:43", "x"), ("01-09T15:00", "x")]
    assert ours(world, stored(world), *window_of(1, 9))[0][1] == datetime(2030, 1, 7, 16, 13, tzinfo=timezone.utc)


@own_db("counts or changes all that is there")
def test_each_calendar_of_a_file_has_its_own_zones(plain_db):
    world = people(plain_db)
    parts = [calendar_of(EVENT.format(n=n, tzid="Own"), head=described("Own", *zone)) for n, zone in enumerate([EUROPE, AMERICA])]
    assert [one["not_taken"] for one in take(world, "".join(parts))] == [None, None]
    assert began(world, stored(world)) == {"0": moments("Europe/Berlin"), "1": moments("America/New_York")}


@own_db("counts or changes all that is there")
def test_times_without_a_zone_are_those_of_the_calendar(plain_db):
    world = people(plain_db)
    event = "UID:{}\nSUMMARY:{}\nDTSTART:20300107T200000".format
    take(world, calendar_of(event(1, "a"), head="X-WR-TIMEZONE: Asia/Tokyo "))
    (row,) = take(world, calendar_of(event(2, "b")))
    assert row["not_taken"] == "DTSTART has no time zone and is taken for UTC"
    (row,) = take(world, calendar_of(event(3, "c"), head="X-WR-TIMEZONE:Nowhere/Land"))
    assert row["not_taken"] == "time zone Nowhere/Land is not known"
    assert starts(world, *window_of(1, 20)) == [("01-07T11:00", "a"), ("01-07T20:00", "b")]


@own_db("counts or changes all that is there")
@pytest.mark.parametrize("changed", ["20300109T090000Z", "20300109T040000", "20300109T180000", "20300109"])
def test_what_changes_may_be_told_in_another_zone(world, changed):
    """RECURRENCE-ID and EXDATE in UTC, in other zones, and as a date."""
    tzid = {"20300109T040000": ";TZID=Eastern Standard Time", "20300109T180000": "", "20300109": ";VALUE=DATE"}.get(changed, "")
    master = "UID:1\nSUMMARY:x\nDTSTART;TZID=Asia/Tokyo:20300107T180000\nRRULE:FREQ=DAILY;COUNT=4"
    moved = f"UID:1\nSUMMARY:y\nRECURRENCE-ID{tzid}:{changed}\nDTSTART;TZID=Asia/Tokyo:20300109T200000"
    assert [one["not_taken"] for one in take(world, calendar_of(master, moved))] == [None]
    expected = [("01-07T09:00", "x"), ("01-08T09:00", "x"), ("01-09T11:00", "y"), ("01-10T09:00", "x")]
    assert starts(world, *window_of(1, 20)) == expected
    world.influencer.api.delete("live_stream_schedule", where={"title": "x"})
    assert [one["not_taken"] for one in take(world, calendar_of(f"{master}\nEXDATE{tzid}:{changed}"))] == [None]
    assert starts(world, *window_of(1, 20)) == [one for one in expected if one[1] == "x"]


def test_the_long_run_is_right_too(world):
    """A zone that is like another one only today is not taken for it for ever."""
    event = EVENT.format(n=1, tzid="Until").replace(";COUNT=20", "")
    head = described("Until", *EUROPE).replace("BYMONTH=3", "BYMONTH=3;UNTIL=20310401T000000Z").replace("BYMONTH=10", "BYMONTH=10;UNTIL=20311101T000000Z")
    (row,) = take(world, calendar_of(event, head=head))
    assert row["not_taken"] == "time zone Until is like none that is known" and row["schedule_id"] is None
    (row,) = take(world, calendar_of(event + ";UNTIL=20310101T000000Z", head=head))
    assert row["not_taken"] is None
    assert datetime.now(timezone.utc) + timedelta(days=400) < datetime(2030, 1, 1, tzinfo=timezone.utc)


def test_a_calendar_has_a_hundred_zones(world):
    """By the names that it gives them."""
    event = "UID:{0}\nSUMMARY:x\nDTSTART;TZID=/{0}/Europe/Berlin:20300107T200000".format
    assert [one["not_taken"] for one in take(world, calendar_of(*map(event, range(100))))] == [None] * 100
    with refused("22023", "too many time zones", hint=True):
        take(world, calendar_of(*map(event, range(101))))
