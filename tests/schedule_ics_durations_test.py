"""Days of a DURATION are days by the clocks, its hours are hours (RFC 5545, 3.3.6)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from calendars import calendar_of, feed_text, stored, take
from schedule_ics_oracle_test import oracle, shown
from sizes import own_db

pytestmark = own_db("counts or changes all that is there")

WINDOW = datetime(2030, 3, 1, tzinfo=timezone.utc), datetime(2030, 12, 1, tzinfo=timezone.utc)
BERLIN = ZoneInfo("Europe/Berlin")


def ended(begin, duration, zone=BERLIN):
    """When what begins at a moment ends: the days by the clocks of the zone, then the rest."""
    weeks, days, hours, minutes = (int(one or 0) for one in re.fullmatch(r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?)?", duration).groups())
    wall = begin.astimezone(zone).replace(tzinfo=None) + timedelta(weeks=weeks, days=days)
    return wall.replace(tzinfo=zone).astimezone(timezone.utc) + timedelta(hours=hours, minutes=minutes)


def series(start, duration, rule="", more=""):
    rule = f"\nRRULE:{rule}" if rule else ""
    return f"UID:1\nSUMMARY:x\nDTSTART;TZID=Europe/Berlin:{start}\nDURATION:{duration}{rule}{more}"


# Clocks are changed on 31 March and on 27 October.
LENGTHS = ["P1D", "P2D", "P6D", "P1DT2H", "P1DT30M", "PT24H", "PT1H30M", "PT48H", "P0DT3H"]
STARTS = ["20300330T200000", "20300330T000000", "20300330T023000", "20301026T200000", "20301026T023000", "20300601T120000"]


@pytest.mark.parametrize("rule", ["", "FREQ=DAILY;COUNT=3", "FREQ=WEEKLY;UNTIL=20301101T000000Z", "FREQ=DAILY;INTERVAL=5;COUNT=60"])
@pytest.mark.parametrize("duration", LENGTHS)
def test_days_are_those_of_the_clocks(world, duration, rule):
    """recurring_ical_events takes hours for hours of the clocks too, and is asked where there are days alone."""
    for start in STARTS:
        text = calendar_of(series(start, duration, rule))
        assert [row["not_taken"] for row in take(world, text)] == [None], start
        found = shown(world, stored(world), *WINDOW)
        assert found and found == [(begin, ended(begin, duration), title) for begin, _, title in found], start
        if "T" not in duration and "T023000" not in start:
            assert found == oracle(text, *WINDOW), start
        world.influencer.api.delete("live_stream_schedule", where={"title": "x"})


def test_a_week_is_one_of_the_clocks(world):
    for start, hours in {"20300325T200000": 167, "20300601T200000": 168}.items():
        text = calendar_of(series(start, "P1W"))
        assert [row["not_taken"] for row in take(world, text)] == [None]
        ((begin, end, _),) = shown(world, stored(world), *WINDOW)
        assert (end - begin).total_seconds() == hours * 3600
        assert [(begin, end, "x")] == oracle(text, *WINDOW)
        world.influencer.api.delete("live_stream_schedule", where={"title": "x"})
    # No show is longer than a week.
    (row,) = take(world, calendar_of(series("20301022T200000", "P1W")))
    assert row["not_taken"] == "it does not last from a minute to a week"
    (row,) = take(world, calendar_of(series("20301001T200000", "P1W", "FREQ=WEEKLY;COUNT=5")))
    assert row["not_taken"] == "what begins at 20301022T180000Z lasts more than a week and is cut"


def test_changes_and_additions_last_as_long(world):
    """RDATE, periods, what is moved, what has a length of its own, and what is taken away."""
    more = "\nEXDATE;TZID=Europe/Berlin:20300330T200000\nRDATE;TZID=Europe/Berlin:20300330T100000\nRDATE;VALUE=PERIOD;TZID=Europe/Berlin:20300330T120000/P1DT1H"
    changes = [
        "UID:1\nSUMMARY:y\nRECURRENCE-ID;TZID=Europe/Berlin:20300331T200000\nDTSTART;TZID=Europe/Berlin:20300330T210000",
        "UID:1\nSUMMARY:z\nRECURRENCE-ID;TZID=Europe/Berlin:20300401T200000\nDTSTART;TZID=Europe/Berlin:20300330T220000\nDURATION:PT24H",
        "UID:1\nSUMMARY:t\nRECURRENCE-ID;TZID=Europe/Berlin:20300329T200000",
    ]
    assert [row["not_taken"] for row in take(world, calendar_of(series("20300328T200000", "P2D", "FREQ=DAILY;COUNT=5", more), *changes))] == [None]
    hours = {f"{begin.astimezone(BERLIN):%dT%H}": ((end - begin).total_seconds() / 3600, title) for begin, end, title in shown(world, stored(world), *WINDOW)}
    assert hours == {
        "28T20": (48, "x"), "29T20": (47, "t"), "30T10": (47, "x"), "30T12": (24, "x"), "30T21": (47, "y"), "30T22": (24, "z")
    }  # fmt: skip


def test_what_follows_a_change_of_length_has_days_too(world):
    change = "UID:1\nRECURRENCE-ID;RANGE=THISANDFUTURE;TZID=Europe/Berlin:20300325T200000\nSUMMARY:y\nDTSTART;TZID=Europe/Berlin:20300325T180000\nDURATION:P1D"
    text = calendar_of(series("20300320T200000", "PT1H", "FREQ=DAILY;COUNT=12"), change)
    assert {row["not_taken"] for row in take(world, text)} == {None}
    found = shown(world, stored(world), *WINDOW)
    assert [(end - begin).total_seconds() / 3600 for begin, end, _ in found] == [1] * 5 + [24] * 5 + [23, 24]


def test_a_series_without_an_end_says_how_far_it_goes(world):
    (row,) = take(world, calendar_of(series("20300320T200000", "P1D", "FREQ=DAILY")))
    assert re.fullmatch(r"days of DURATION are 24 hours from 2035\d{4} on", row["not_taken"])
    found = shown(world, stored(world), *WINDOW)
    assert len(found) > 200 and found == [(begin, ended(begin, "P1D"), "x") for begin, _, _ in found]
    # Not where the clocks are never changed, and not where it ends by the clock.
    for zone, start in {"Asia/Tokyo": "20300320T200000", "Europe/Berlin": "20300320T000000"}.items():
        (row,) = take(world, calendar_of(series(start, "P1D", "FREQ=DAILY").replace("Europe/Berlin", zone)))
        assert row["not_taken"] is None


def test_days_come_back_from_the_feed(world):
    first = f"{datetime.now(timezone.utc):%Y}0101T200000"
    take(world, calendar_of(series(first, "P1D", "FREQ=DAILY;COUNT=500")))
    window = datetime.now(timezone.utc), datetime.now(timezone.utc) + timedelta(days=300)
    before = shown(world, stored(world), *window)
    text = feed_text(world)
    world.influencer.api.delete("live_stream_schedule", where={"title": "x"})
    assert [row["not_taken"] for row in take(world, text)] == [None]
    assert before and shown(world, stored(world), *window) == before == [(begin, ended(begin, "P1D"), "x") for begin, _, _ in before]


def test_lengths_of_many_series_are_bounded(world):
    """What a clock change alters is counted over the whole calendar."""
    event = "UID:{}\nSUMMARY:x\nDTSTART;TZID=Europe/Berlin:20300320T200000\nDURATION:P6D\nRRULE:FREQ=MINUTELY".format
    report = take(world, calendar_of(*map(event, range(20))))
    assert all("days of DURATION are 24 hours from " in row["not_taken"] for row in report)
    (row,) = world.db.sql("select count(*) from public.live_stream_schedule_exceptions")
    assert row["count"] <= 10_000
