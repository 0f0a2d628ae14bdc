"""The calendar feed, read by a parser that is not ours, and as programs are sent it."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from dateutil.rrule import rrulestr

from calendars import END, START, TODAY, expanded, feed, feed_text, ours
from people import people
from schedule_rules_test import random_rule
from sizes import own_db


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
