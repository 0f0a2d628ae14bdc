"""Calendars from elsewhere, imported."""

from __future__ import annotations

import json
import random
import time
from datetime import datetime, timedelta, timezone

import pytest

from calendars import END, START, TODAY, calendar_of, feed_text, ours, stored, take, zone_of
from people import people
from refusals import refused
from sizes import own_db


@own_db("counts or changes all that is there")
def test_what_we_write_we_read(world):
    base = {"scheduled_date": f"{TODAY:%Y-%m-%d}", "timezone": "Europe/Berlin"}
    rows = [
        world.schedule("Daily; at night, ä", description="One\nTwo", recurrence_rule="FREQ=DAILY", **base,
                       scheduled_start_time="23:00", scheduled_end_time="04:00"),
        world.schedule("Rule", recurrence_rule="FREQ=MONTHLY;BYDAY=1TU,-1SU;COUNT=12", **base),
        world.schedule("Once", **base, scheduled_end_time=None, expected_duration_minutes=95),
        world.schedule("Until", recurrence_rule=f"FREQ=WEEKLY;BYDAY=MO;UNTIL={TODAY + timedelta(90):%Y%m%d}", **base | {"timezone": "UTC"}),
    ]  # fmt: skip
    api = world.influencer.api
    of = {"schedule_id": rows[0]["id"]}
    night = [one[2] for one in ours(world, rows[:1], START, END)]
    api.rpc("live_stream_skip_occurrence", **of, original_starts_at=night[2].isoformat())
    early = (night[3] - timedelta(hours=3)).isoformat()
    api.rpc("live_stream_move_occurrence", **of, original_starts_at=night[3].isoformat(), starts_at=early, title="Early")
    api.rpc("live_stream_add_occurrence", **of, starts_at=(night[4] - timedelta(hours=9)).isoformat())
    before = ours(world, rows, START, END)
    text = feed_text(world)
    for row in rows:
        api.delete("live_stream_schedule", where={"id": row["id"]})
    report = take(world, text)
    assert [(one["not_taken"], bool(one["schedule_id"])) for one in report] == [(None, True)] * 4, report
    assert ours(world, stored(world), START, END) == before


def test_calendars_from_elsewhere(world):
    google = """
UID:a@google.com
SUMMARY:Weekly\\, from Google
DTSTART;TZID=Europe/Berlin:20301007T200000
DTEND;TZID=Europe/Berlin:20301007T213000
RRULE:FREQ=WEEKLY;UNTIL=20301231T225959Z;BYDAY=MO
EXDATE;TZID=Europe/Berlin:20301014T200000
LOCATION:Studio
CLASS:PRIVATE
BEGIN:VALARM
TRIGGER:-PT10M
END:VALARM"""
    override = """
UID:a@google.com
RECURRENCE-ID;TZID=Europe/Berlin:20301021T200000
SUMMARY:Special
DTSTART;TZID=Europe/Berlin:20301022T200000
DTEND;TZID=Europe/Berlin:20301022T213000"""
    outlook = """
UID:b
SUMMARY:From Outlook
DTSTART;TZID=W. Europe Standard Time:20301001T090000
DURATION:PT45M"""
    apple = """
UID:c
SUMMARY:Floating
DTSTART:20301001T090000
DTEND:20301003T090000"""
    report = take(world, calendar_of(google, override, outlook, apple, head="X-WR-TIMEZONE:America/New_York"))
    assert [(one["title"], one["not_taken"]) for one in report] == [
        ("Weekly, from Google", "left out: LOCATION, VALARM"), ("From Outlook", None), ("Floating", None)
    ]  # fmt: skip
    rows = {row["title"]: row for row in stored(world)}
    weekly = rows["Weekly, from Google"]
    assert (weekly["timezone"], weekly["recurrence_pattern"], weekly["visibility"]) == ("Europe/Berlin", "weekly", "private")
    assert weekly["recurrence_rule"] == "FREQ=WEEKLY;UNTIL=20301231T235959;BYDAY=MO"
    listed = world.influencer.api.rpc(
        "live_stream_occurrences", schedule_id=weekly["id"], range_start="2030-10-01T00:00Z", range_end="2030-11-01T00:00Z"
    )
    assert [(one["starts_at"][5:16], one["status"], one["title"][:7]) for one in listed] == [
        ("10-07T18:00", "scheduled", "Weekly,"), ("10-14T18:00", "cancelled", "Weekly,"),
        ("10-22T18:00", "scheduled", "Special"), ("10-28T19:00", "scheduled", "Weekly,"),
    ]  # fmt: skip
    assert (rows["From Outlook"]["timezone"], rows["From Outlook"]["expected_duration_minutes"]) == ("Europe/Berlin", 45)
    assert (rows["Floating"]["timezone"], rows["Floating"]["expected_duration_minutes"]) == ("America/New_York", 2880)


NOT_TAKEN = {
    "UID:1\nSUMMARY:All day\nDTSTART;VALUE=DATE:20300101": "DTSTART has no time of day",
    "UID:1\nSUMMARY:x\nDTSTART;TZID=Mars/Base:20300101T100000": "time zone Mars/Base is not known",
    "UID:1\nSUMMARY:x\nDTSTART:tomorrow": "DTSTART tomorrow is no time",
    "UID:1\nSUMMARY:x": "DTSTART is missing",
    "UID:1\nDTSTART:20300101T100000Z\nSTATUS:CANCELLED": "it is cancelled",
    "UID:1\nDTSTART:20300101T100000Z\nRRULE:FREQ=DAILY;INTERVAL=0": "RRULE: INTERVAL: 0 is no number from 1 to 999999999.",
    "UID:1\nDTSTART:20300101T100000Z\nRRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30": "RRULE: BYMONTHDAY: With it the rule never matches.",
    "UID:1\nDTSTART:20300101T100000Z\nRRULE:FREQ=DAILY\nRRULE:FREQ=WEEKLY": "it has several rules",
    "UID:1\nDTSTART:20300101T100000Z\nDTEND:20300201T100000Z": "it does not last from a minute to a week",
    "UID:1\nDTSTART:20300101T100000Z\nDTEND:20300101T090000Z": "it does not last from a minute to a week",
    "UID:1\nDTSTART:20300101T100000Z\nDURATION:soon": "DURATION soon is no time",
    "UID:9\nRECURRENCE-ID:20300101T100000Z": "the event that it is an occurrence of is missing",
}


@own_db("counts or changes all that is there")
def test_what_is_not_taken_is_told(world):
    # Each is an event of its own.
    report = take(world, calendar_of(*(event.replace("UID:1", f"UID:n{n}") for n, event in enumerate(NOT_TAKEN))))
    assert len(report) == len(NOT_TAKEN) and {(one["schedule_id"], one["not_taken"]) for one in report} == {(None, why) for why in NOT_TAKEN.values()}
    assert stored(world) == []
    text = calendar_of("UID:2\nDTSTART:20300101T100000Z\nRRULE:FREQ=WEEKLY;BYDAY=WE\nEXDATE:20300105T100000Z\n"
                       "RDATE;VALUE=PERIOD:20300107T100000Z/PT1H").replace("END:VCALENDAR", "BEGIN:VTODO\r\nEND:VTODO\r\nEND:VCALENDAR")  # fmt: skip
    report = take(world, text)
    assert [one["not_taken"] for one in report] == ["VTODO is no event", "EXDATE 20300105T100000Z is no occurrence"]
    (row,) = stored(world)
    listed = ours(world, [row], datetime(2030, 1, 1, tzinfo=timezone.utc), datetime(2030, 1, 10, tzinfo=timezone.utc))
    # DTSTART is an occurrence, though a Tuesday.
    assert [one[0].day for one in listed] == [1, 2, 7, 9] and row["title"] == "Untitled"


@own_db("counts or changes all that is there")
def test_what_is_added_can_be_different_too(world):
    """RDATE as a period, RDATE that an override moves, and EXDATE of what was added: as RFC 5545 has it."""
    master = """
UID:m
SUMMARY:Show
DESCRIPTION:Same
DTSTART:20300107T100000Z
DURATION:PT1H
RRULE:FREQ=WEEKLY
RDATE;VALUE=PERIOD:20300108T100000Z/PT3H,20300109T100000Z/20300109T120000Z
RDATE:20300110T100000Z,20300111T100000Z
EXDATE:20300111T100000Z"""
    moved = """
UID:m
RECURRENCE-ID:20300110T100000Z
SUMMARY:Other
DESCRIPTION:Same
DTSTART:20300110T200000Z
DURATION:PT2H"""
    told = "UID:m\nRECURRENCE-ID:20300114T100000Z\nSUMMARY:Show\nDESCRIPTION:Another\nLOCATION:Roof\nDTSTART:20300114T110000Z"
    none = "UID:m\nRECURRENCE-ID:20300115T100000Z\nSUMMARY:None"
    (row,) = take(world, calendar_of(master, moved, told, none))
    assert row["not_taken"] == (
        "RECURRENCE-ID 20300114T100000Z: left out: DESCRIPTION, LOCATION; RECURRENCE-ID 20300115T100000Z: it is no occurrence"
    )
    window = datetime(2030, 1, 1, tzinfo=timezone.utc), datetime(2030, 1, 16, tzinfo=timezone.utc)
    expected = [("07T10:00", 1, "Show"), ("08T10:00", 3, "Show"), ("09T10:00", 2, "Show"), ("10T20:00", 2, "Other"), ("14T11:00", 1, "Show")]

    def found():
        return [(f"{one[0]:%dT%H:%M}", (one[1] - one[0]).total_seconds() / 3600, one[3]) for one in ours(world, stored(world), *window)]

    assert found() == expected
    # And back.
    world.influencer.api.update("live_stream_schedule", {"scheduled_date": "2030-01-07"})
    text = feed_text(world)
    world.influencer.api.delete("live_stream_schedule", where={"title": "Show"})
    assert [one["not_taken"] for one in take(world, text)] == [None]
    assert found() == expected


def hostile():
    """What a calendar of ten megabytes can be made of, and the words of the refusal, if it is one."""
    dates = ",".join(f"{datetime(2030, 1, 1, 10) + timedelta(n):%Y%m%dT%H%M%S}" for n in range(10_001))
    event = "DTSTART{}:20300101T100000\nRRULE:FREQ=DAILY".format
    bomb = "DTSTART:20300101T100000Z\nRRULE:FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30;COUNT=999999999"
    late_uid = "X:1\n" * 1_000 + "UID:{}\nDTSTART:20300101T100000Z"
    days = [f"{datetime(2030, 1, 1) + timedelta(n):%Y%m%d}" for n in range(900)]
    follows = "UID:r\nRECURRENCE-ID;RANGE=THISANDFUTURE:{0}T100000\nDTSTART:{0}T110000".format
    orphan = "UID:o{}\nRECURRENCE-ID:20300101T100000Z"
    return {
        "rules": (calendar_of(*[bomb] * 1_000), None),
        "dates": (calendar_of(event("") + f"\nEXDATE:{dates}"), "too many exceptions"),
        "dates of many events": (calendar_of(*[event("") + f"\nEXDATE:{dates[: 16 * 600 - 1]}"] * 20), "too many exceptions"),
        "dates in a zone with a number": (calendar_of(event(";TZID=Etc/GMT+3") + f"\nEXDATE;TZID=Etc/GMT+3:{dates[: 16 * 900 - 1]}"), None),
        "a zone of many parts": (calendar_of(event(";TZID=" + "1/" * 4_900_000 + "x")), None),
        "many zones": (calendar_of(*[event(f";TZID=Zone/{n}") for n in range(900)]), "too many time zones"),
        "nested": ("BEGIN:VCALENDAR\n" + "BEGIN:X\n" * 1_200_000, "nested too deep"),
        "short lines": ("BEGIN:VCALENDAR\nBEGIN:VEVENT\n" + "a:\n" * 3_300_000, None),
        "lines that count": ("BEGIN:VCALENDAR\nBEGIN:VEVENT\n" + "UID:\n" * 1_900_000, "too many lines"),
        "parameters": ("BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART" + ";a=b" * 2_450_000 + ":x", None),
        "folds": ("BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:x" + "\n x" * 3_300_000, None),
        "a zone that changes all the time": (calendar_of(*[event(";TZID=Z")] * 900, head=zone_of("RRULE:FREQ=YEARLY;BYHOUR=0,1,2,3;BYDAY=MO,TU")), None),
        "a zone like none": (calendar_of(*[event(";TZID=Z")] * 900, head=zone_of("", "+0517")), None),
        "exclusions": (calendar_of(*[event("") + ";UNTIL=20900101T000000\nEXRULE:FREQ=SECONDLY;INTERVAL=7;UNTIL=20900101T000000"] * 20), None),
        "changes of all that follow": (calendar_of(event("") + "\nUID:r", *map(follows, days)), None),
        "overrides": (calendar_of(*[late_uid.format(n) for n in range(500)], *[orphan.format(n) for n in range(500)]), None),
    }


@own_db("counts or changes all that is there")
@pytest.mark.parametrize("kind", hostile())
def test_hostile_calendars_are_bounded(plain_db, kind):
    """The bound is for a build that is not optimized, on a busy machine."""
    world = people(plain_db)
    text, words = hostile()[kind]
    assert len(text) < 10_000_000
    began = time.monotonic()
    if words:
        with refused("22023", words, hint=True):
            take(world, text)
        assert stored(world) == []
    else:
        take(world, text)
    assert time.monotonic() - began < 10


@own_db("alters a table")
def test_an_import_is_all_or_nothing(world):
    world.db.owner("alter table public.live_stream_schedule add constraint no_two check (title <> 'Two')")
    events = [f"UID:{n}\nSUMMARY:{title}\nDTSTART:20300101T100000Z" for n, title in enumerate(["One", "Two"])]
    with refused("23514", "no_two"):
        take(world, calendar_of(*events))
    assert stored(world) == []


def test_texts_that_are_no_calendar_are_refused(world):
    many = calendar_of(*["DTSTART:20300101T100000Z"] * 1001)
    for text, words in {"": "no calendar", "hello": "no calendar", None: "null", "x" * 10_000_001: "too large", many: "too many"}.items():
        with refused("22023", words, hint=True):
            take(world, text)
    for person in (world.stranger, world.new_influencer()):
        with refused("42501", "is not the caller's", hint=True):
            person.api.rpc("live_stream_import_ics", influencer_id=world.influencer.influencer_id, ics=calendar_of())
    with refused("42501", "permission denied"):
        world.anon.rpc("live_stream_import_ics", influencer_id=world.influencer.influencer_id, ics=calendar_of())
    assert take(world, calendar_of()) == []
    report = world.influencer.api.rpc("live_stream_import_ics", influencer_id=None, ics=calendar_of("UID:1\nDTSTART:20300101T100000Z"))
    assert report[0]["schedule_id"]


def test_nonsense_in_calendars_breaks_nothing(plain_db):
    """Lines of real calendars, mixed, cut and repeated."""
    world = people(plain_db)
    chosen = random.Random(3)
    lines = [line for text in NOT_TAKEN for line in text.splitlines()]
    lines += ["BEGIN:VEVENT", "END:VEVENT", "BEGIN:VCALENDAR", "END:VCALENDAR", "BEGIN:VALARM", ":", ";:", "A;B", 'X;Y="a:b', " ", "\t"]
    lines += ["DTSTART:99991231T235959Z", "DTEND:00010101T000000Z", "DURATION:-P1W", "EXDATE:,,", "RDATE:20300101T100000Z,x", "SUMMARY:\\"]
    for _ in range(300):
        some = [chosen.choice(lines)[: chosen.choice([3, 12, 99])] for _ in range(chosen.randint(1, 30))]
        text = "BEGIN:VCALENDAR\nBEGIN:VEVENT\n" + chosen.choice(["\n", "\r\n"]).join(some)
        try:
            take(world, text)
        except Exception as error:
            assert json.dumps(str(error)) and "panicked" not in str(error) and "XX000" not in str(error), (text, error)
