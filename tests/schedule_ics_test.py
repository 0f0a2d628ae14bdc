"""The calendar feed, read by a parser that is not ours, and calendars from elsewhere."""

from __future__ import annotations

import json
import random
import time
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import icalendar
import pytest
from dateutil.rrule import rruleset, rrulestr

from people import people
from refusals import refused
from sizes import own_db
from schedule_rules_test import random_rule


def feed_text(world, api=None):
    return (api or world.anon).rpc_get("live_stream_calendar_feed", influencer_id=world.influencer.influencer_id)


def feed(world, api=None):
    return icalendar.Calendar.from_ical(feed_text(world, api))


def as_list(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def utc(moment):
    """The clock time that the feed says, as a moment: the server's zone rules are zoneinfo's."""
    zone = getattr(moment.tzinfo, "key", None)
    return moment.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(timezone.utc) if zone else moment.astimezone(timezone.utc)


def expanded(calendar, start, end):
    """What a calendar program shows of each event from start to end: begin, end, original start and title."""
    masters = {str(event["UID"]): event for event in calendar.walk("VEVENT") if "RECURRENCE-ID" not in event}
    shown = []
    changed = {}
    for event in calendar.walk("VEVENT"):
        if "RECURRENCE-ID" in event:
            changed[str(event["UID"]), utc(event["RECURRENCE-ID"].dt)] = event
    for uid, event in masters.items():
        first = event["DTSTART"].dt
        length = utc(event["DTEND"].dt) - utc(first) if "DTEND" in event else event["DURATION"].dt
        starts = rruleset()
        starts.rdate(first)
        if "RRULE" in event:
            rule = event["RRULE"].to_ical().decode()
            starts.rrule(rrulestr(rule, dtstart=first))
        for date in as_list(event.get("RDATE")):
            for one in date.dts:
                starts.rdate(one.dt)
        for date in as_list(event.get("EXDATE")):
            for one in date.dts:
                starts.exdate(one.dt)
        for local in starts:
            original = utc(local)
            if original > end + timedelta(days=30):
                break
            one = changed.get((uid, original), event)
            begins = utc(one["DTSTART"].dt) if one is not event else original
            ends = begins + length
            if one is not event:
                ends = utc(one["DTEND"].dt) if "DTEND" in one else begins + one["DURATION"].dt
            if ends > start and begins < end:
                shown.append((begins, ends, original, str(one["SUMMARY"])))
    return sorted(shown)


def ours(world, rows, start, end):
    listed = []
    for row in rows:
        for one in world.anon.rpc(
            "live_stream_occurrences", schedule_id=row["id"], range_start=start.isoformat(), range_end=end.isoformat()
        ):
            if one["status"] != "cancelled":
                times = (datetime.fromisoformat(one[name]) for name in ("starts_at", "ends_at", "original_starts_at"))
                listed.append((*times, one["title"]))
    return sorted(listed)


# What is over is left out of the feed, and clock changes far ahead are not told one by one.
TODAY = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
START, END = TODAY - timedelta(days=2), TODAY + timedelta(days=380)


def test_the_feed_is_well_formed(world):
    title = "Ünïcode; with, all\\the \"things\" 👩‍🚀 " + "and a long end " * 10
    world.schedule(title, description="One\nTwo; three, four\r\nfive", timezone="Europe/Berlin", recurrence_rule="FREQ=WEEKLY")
    text = feed_text(world)
    lines = text.split("\r\n")
    assert lines[0] == "BEGIN:VCALENDAR" and lines[-2:] == ["END:VCALENDAR", ""]
    assert all(len(line.encode()) <= 75 for line in lines) and "\n" not in text.replace("\r\n", "")
    calendar = feed(world)
    assert str(calendar["VERSION"]) == "2.0" and str(calendar["X-WR-CALNAME"]) == "Ada" and calendar["PRODID"]
    (event,) = calendar.walk("VEVENT")
    assert str(event["SUMMARY"]) == title and str(event["DESCRIPTION"]) == "One\nTwo; three, four\nfive"
    assert event["DTSTAMP"].dt.tzinfo and event["UID"]
    assert not any(component.errors for component in calendar.walk())


def test_the_feed_is_served_as_a_calendar(world):
    """PostgREST sends a function's result as the media type that its domain is named after."""
    assert world.db.sql(
        "select t.typname, t.typtype::text, t.typbasetype::regtype::text from pg_proc p join pg_type t on t.oid = p.prorettype"
        " where p.proname = 'live_stream_calendar_feed'"
    ) == [{"typname": "text/calendar", "typtype": "d", "typbasetype": "text"}]


def test_the_same_event_keeps_its_uid(world):
    row = world.schedule(recurrence_rule="FREQ=DAILY")
    before = [event["UID"] for event in feed(world).walk("VEVENT")]
    world.influencer.api.update("live_stream_schedule", {"title": "Other"}, where={"id": row["id"]})
    moved = {"original_starts_at": "2030-01-08T15:00Z", "starts_at": "2030-01-08T17:00Z"}
    world.influencer.api.rpc("live_stream_move_occurrence", schedule_id=row["id"], **moved)
    after = [event["UID"] for event in feed(world).walk("VEVENT")]
    assert len(before) == 1 and after == before * 2 and row["id"] in before[0]


def test_the_feed_shows_the_same_occurrences(world):
    """Rules, exceptions, zones, clock changes: what another program makes of the feed is what we say."""
    base = {"scheduled_date": f"{TODAY:%Y-%m-%d}"}
    zones = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC", "Australia/Lord_Howe", "Africa/Casablanca"]
    rules = [
        None, "FREQ=DAILY", "FREQ=DAILY;INTERVAL=3;COUNT=50", f"FREQ=WEEKLY;BYDAY=MO,FR;UNTIL={TODAY + timedelta(150):%Y%m%d}T120000",
        "FREQ=MONTHLY;BYDAY=1TU,-1SU", "FREQ=MONTHLY;BYMONTHDAY=31", "FREQ=YEARLY;BYWEEKNO=1,53;BYDAY=MO,SU",
        "FREQ=YEARLY;BYWEEKNO=20", "FREQ=DAILY;BYHOUR=9,21;BYMINUTE=30;INTERVAL=2",
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "FREQ=WEEKLY;INTERVAL=2;WKST=SU;BYDAY=SU,TU",
    ]  # fmt: skip
    rows = []
    for n, rule in enumerate(rules):
        for more in ({"scheduled_end_time": "16:00"}, {"scheduled_start_time": "23:00", "scheduled_end_time": "04:00"},
                     {"scheduled_start_time": "02:30", "scheduled_end_time": None, "expected_duration_minutes": 90}):  # fmt: skip
            rows.append(world.schedule(f"Show {len(rows)}", timezone=zones[n % 6], recurrence_rule=rule, **base, **more))
    chosen = random.Random(7)
    for row in rows:
        all_of_it = ours(world, [row], START, END)
        if len(all_of_it) < 5:
            continue
        skipped, moved, named = chosen.sample(all_of_it, 3)
        api, of = world.influencer.api, {"schedule_id": row["id"]}
        api.rpc("live_stream_skip_occurrence", **of, original_starts_at=skipped[2].isoformat())
        api.rpc("live_stream_move_occurrence", **of, original_starts_at=moved[2].isoformat(),
                starts_at=(moved[0] + timedelta(hours=5)).isoformat())  # fmt: skip
        api.rpc("live_stream_move_occurrence", **of, original_starts_at=named[2].isoformat(), title="Special")
        api.rpc("live_stream_add_occurrence", **of, starts_at=(named[0] + timedelta(hours=7)).isoformat())
    expected = ours(world, rows, START, END)
    assert len(expected) > 1_500
    assert expanded(feed(world), START, END) == expected


@own_db("reads the schedules of everybody")
def test_random_rules_in_the_feed(plain_db):
    world = people(plain_db)
    chosen = random.Random(11)
    rows = []
    while len(rows) < 150:
        rule, first, *_ = random_rule(chosen)
        # Weeks are told in dateutil's own way (see schedule_rules_test); the others are not for every day.
        if "BYWEEKNO" in rule or "HOURLY" in rule or "MINUTELY" in rule or "SECONDLY" in rule or "BYSETPOS" in rule:
            continue
        first = first.replace(year=TODAY.year, day=min(first.day, 28))
        body = {
            "scheduled_date": f"{first:%Y-%m-%d}", "scheduled_start_time": f"{first:%H:%M:%S}", "scheduled_end_time": None,
            "timezone": chosen.choice(["Europe/Berlin", "America/New_York"]), "recurrence_rule": rule,
        }  # fmt: skip
        try:
            rows.append(world.schedule(f"Show {len(rows)}", **body))
        except Exception as error:
            assert "of the recurrence rule is not valid" in str(error), error
    rows = world.influencer.api.select("live_stream_schedule")
    rows = [row for row in rows if row["last_start"] is None or row["last_start"] > f"{START:%Y-%m-%d}"]
    listed = ours(world, rows, START, END)
    assert len(listed) > 1_000
    assert expanded(feed(world), START, END) == listed


@own_db("counts or changes all that is there")
def test_every_zone_is_described_right(plain_db):
    """The offsets that VTIMEZONE gives, as icalendar reads it, against zoneinfo."""
    world = people(plain_db)
    plain_db.owner(
        r"""insert into public.live_stream_schedule (influencer_id, title, scheduled_date, scheduled_start_time, timezone, recurrence_rule)
            select %s, name, '2024-01-01', '12:00', name, 'FREQ=DAILY' from pg_timezone_names
             where name !~ '^(posix|right)/' and name not in ('localtime', 'posixrules', 'Factory', 'UTC', 'Etc/UTC')""",
        [world.influencer.influencer_id],
    )
    components = feed(world).walk("VTIMEZONE")
    assert len(components) == plain_db.value("select count(*) from public.live_stream_schedule") > 400
    for component in components:
        check_zone(component, str(component["TZID"]))


def check_zone(component, zone):
    info = ZoneInfo(zone)
    changes = []
    for one in component.walk():
        if one.name not in ("STANDARD", "DAYLIGHT"):
            continue
        first = one["DTSTART"].dt
        before, after = one["TZOFFSETFROM"].td, one["TZOFFSETTO"].td
        walls = [first]
        if "RRULE" in one:
            walls = rrulestr(one["RRULE"].to_ical().decode(), dtstart=first).between(first, datetime(2035, 1, 1), inc=True)
        changes += [(wall - before, after) for wall in walls]
    changes.sort()
    at = datetime(2024, 1, 2)
    while at < datetime(2034, 1, 1):
        offset = [after for change, after in changes if change <= at][-1]
        assert offset == at.replace(tzinfo=timezone.utc).astimezone(info).utcoffset(), (zone, at)
        at += timedelta(days=11)
    # A moment before and after each change.
    for change, after in changes[1:]:
        if change < datetime(2034, 1, 1):
            around = (change + timedelta(seconds=n) for n in (-1, 0))
            before, now = (one.replace(tzinfo=timezone.utc).astimezone(info).utcoffset() for one in around)
            assert now == after != before, (zone, change)


def test_hidden_and_cancelled_schedules_are_not_in_the_feed(world):
    world.schedule("private", visibility="private")
    world.schedule("unlisted", visibility="unlisted")
    world.schedule("cancelled", status="cancelled")
    world.schedule("over", scheduled_date="2020-01-01")
    world.schedule("another's", by=world.new_influencer())
    assert feed(world).walk("VEVENT") == []
    assert len(feed(world, world.influencer.api).walk("VEVENT")) == 2
    assert world.anon.rpc("live_stream_calendar_feed", influencer_id=None).startswith("BEGIN:VCALENDAR")


# Import.


def calendar_of(*events, head=""):
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", *head.splitlines()]
    for event in events:
        lines += ["BEGIN:VEVENT", *event.strip().splitlines(), "END:VEVENT"]
    return "\r\n".join([*lines, "END:VCALENDAR", ""])


def take(world, text):
    return world.influencer.api.rpc("live_stream_import_ics", influencer_id=world.influencer.influencer_id, ics=text)


def stored(world):
    return world.influencer.api.select("live_stream_schedule", order="title")


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
    report = take(world, calendar_of(*NOT_TAKEN))
    assert {(one["schedule_id"], one["not_taken"]) for one in report} == {(None, why) for why in NOT_TAKEN.values()}
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
    event = "UID:1\nDTSTART{}:20300101T100000\nRRULE:FREQ=DAILY".format
    bomb = "UID:1\nDTSTART:20300101T100000Z\nRRULE:FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30;COUNT=999999999"
    late_uid = "X:1\n" * 1_000 + "UID:{}\nDTSTART:20300101T100000Z"
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
    many = calendar_of(*["UID:1\nDTSTART:20300101T100000Z"] * 1001)
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
