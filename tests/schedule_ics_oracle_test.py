"""Calendars that are made at random, broken at random, and read by python's icalendar and recurring_ical_events as well."""

from __future__ import annotations

import itertools
import random
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import icalendar
import recurring_ical_events

from calendars import END, START, TODAY, as_list, calendar_of, expanded, feed, feed_text, ours, stored, take, utc
from people import people
from sizes import own_db, scale

WINDOW = datetime(2030, 1, 1, tzinfo=timezone.utc), datetime(2030, 7, 1, tzinfo=timezone.utc)
ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Sydney", "UTC"]
RULES = ["FREQ=DAILY", "FREQ=DAILY;INTERVAL=3", "FREQ=WEEKLY", "FREQ=WEEKLY;INTERVAL=2", "FREQ=MONTHLY", "FREQ=MONTHLY;BYDAY=-1FR,2TU"]


def oracle(text, start, end):
    events = recurring_ical_events.of(icalendar.Calendar.from_ical(text)).between(start, end)
    # A line that is there twice is a list to them.
    return sorted((utc(event["DTSTART"].dt), utc(event["DTEND"].dt), str(as_list(event.get("SUMMARY", ""))[0])) for event in events)


def shown(world, rows, start, end):
    return sorted((one[0], one[1], one[3]) for one in ours(world, rows, start, end))


def random_event(chosen, uid):
    """A series, with occurrences taken away, moved, called off and added, told in its zone or in UTC."""
    zone = chosen.choice(ZONES)
    first = datetime(2030, 1, chosen.randint(1, 20), chosen.choice([9, 18, 20]), 30)
    rule = chosen.choice(RULES)
    if "BYDAY" in rule:
        first = first.replace(day=8)

    def line(name, wall):
        if chosen.random() < 0.3 and name != "DTSTART":
            return f"{name}:{wall.replace(tzinfo=ZoneInfo(zone)).astimezone(timezone.utc):%Y%m%dT%H%M%S}Z"
        return f"{name};TZID={zone}:{wall:%Y%m%dT%H%M%S}"

    event = [f"UID:{uid}", f"SUMMARY:Show {uid}", line("DTSTART", first), "DURATION:PT1H", f"RRULE:{rule};COUNT={chosen.randint(1, 15)}"]
    events = []
    if rule in RULES[:4]:
        step = timedelta(days=[1, 3, 7, 14][RULES.index(rule)])
        count = int(event[-1].rpartition("=")[2])
        walls = [first + step * n for n in range(count)]
        some = chosen.sample(walls[1:], min(3, len(walls) - 1))
        if some:
            event.append(line("EXDATE", some[0]))
        if len(some) > 1:
            moved = some[1] + timedelta(hours=chosen.randint(-3, 3))
            events.append(
                "\n".join([f"UID:{uid}", f"SUMMARY:Other {uid}", line("RECURRENCE-ID", some[1]), line("DTSTART", moved), "DURATION:PT90M"])
            )
        if len(some) > 2 and chosen.random() < 0.5:
            event.append(f"EXDATE;VALUE=DATE:{some[2]:%Y%m%d}")
    return ["\n".join(event), *events]


@own_db("reads the schedules of everybody")
def test_random_calendars_are_read_as_others_read_them(plain_db):
    """60 calendars of four series; at length, 600."""
    world = people(plain_db)
    plain_db.set(schedules_per_influencer=0)
    chosen = random.Random(5)
    seen = 0
    for _ in range(scale(60, 600)):
        text = calendar_of(*(one for uid in range(4) for one in random_event(chosen, uid)))
        report = take(world, text)
        assert [one["not_taken"] for one in report] == [None] * 4, text
        wanted = oracle(text, *WINDOW)
        seen += len(wanted)
        assert shown(world, stored(world), *WINDOW) == wanted, text
        world.influencer.api.delete("live_stream_schedule", where={"influencer_id": world.influencer.influencer_id})
    assert seen > 1_000


def mutated(chosen, text):
    """The text with some of its characters or lines changed, lost, doubled or swapped."""
    lines = text.split("\r\n")
    for _ in range(chosen.randint(1, 3)):
        at = chosen.randrange(1, len(lines) - 2)
        kind = chosen.randrange(5)
        if kind == 0 and lines[at]:
            place = chosen.randrange(len(lines[at]))
            lines[at] = lines[at][:place] + chosen.choice(":;=,\\\"^TZ0 9\tx\u00e9\ufffd") + lines[at][place + 1 :]
        elif kind == 1:
            del lines[at]
        elif kind == 2:
            lines.insert(at, lines[at])
        elif kind == 3 and lines[at]:
            lines[at] = lines[at][: chosen.randrange(len(lines[at]))]
        else:
            lines[at] += chosen.choice([" ", "\t", "\r", " \r"])
    return chosen.choice(["\r\n", "\n", "\r", "\r\r\n"]).join(lines)


def untitled(shows, blank):
    return sorted((a, b, "" if (a, b) in blank else title) for a, b, title in shows)


@own_db("reads the schedules of everybody")
def test_broken_calendars_are_read_as_others_read_them_or_it_is_said(plain_db):
    """300 of them; at length, 3,000. What others read otherwise, or do not read, is never taken without a word."""
    world = people(plain_db)
    plain_db.set(schedules_per_influencer=0)
    chosen = random.Random(8)
    same = told = 0
    for _ in range(scale(300, 3_000)):
        text = mutated(chosen, calendar_of(*(one for uid in range(2) for one in random_event(chosen, uid))))
        try:
            report = take(world, text)
        except Exception as error:
            assert "panicked" not in str(error) and "XX000" not in str(error), (text, error)
            continue
        if all(one["not_taken"] is None for one in report):
            # Others read lines that end in one way, with nothing after them, and each of them once.
            lines = [line.rstrip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
            plain = "\r\n".join(line for line, _ in itertools.groupby(lines))
            wanted = oracle(plain, *WINDOW)
            # What says no end lasts an hour here, as all of these shows do.
            wanted = sorted((a, b if b > a else a + timedelta(hours=1), title) for a, b, title in wanted)
            found = shown(world, stored(world), *WINDOW)
            # A title that shows nothing is none, and that of the event stays.
            blank = {(a, b) for a, b, title in wanted if not title.strip()}
            assert untitled(found, blank) == untitled(wanted, blank), plain
            same += 1
        else:
            told += 1
        world.influencer.api.delete("live_stream_schedule", where={"influencer_id": world.influencer.influencer_id})
    assert same > 50 and told > 50, (same, told)


@own_db("reads the schedules of everybody")
def test_the_feed_is_read_alike_by_two_others_and_by_us(plain_db):
    """The feed by recurring_ical_events, and by ourselves as it comes back."""
    world = people(plain_db)
    base = {"scheduled_date": f"{TODAY:%Y-%m-%d}"}
    rows = [
        world.schedule(f"Show {n}", timezone=zone, recurrence_rule=rule, **base)
        for n, (zone, rule) in enumerate((zone, rule) for zone in ZONES for rule in RULES)
    ]
    for row in rows[::3]:
        skipped, moved = ours(world, [row], START, END)[1:3]
        of = {"schedule_id": row["id"]}
        world.influencer.api.rpc("live_stream_skip_occurrence", **of, original_starts_at=skipped[2].isoformat())
        start = (moved[0] + timedelta(hours=5)).isoformat()
        world.influencer.api.rpc("live_stream_move_occurrence", **of, original_starts_at=moved[2].isoformat(), starts_at=start)
    text = feed_text(world)
    wanted = shown(world, rows, START, END)
    assert len(wanted) > 1_500
    assert sorted((one[0], one[1], one[3]) for one in expanded(feed(world), START, END)) == wanted
    assert oracle(text, START, END) == wanted
    world.influencer.api.delete("live_stream_schedule", where={"influencer_id": world.influencer.influencer_id})
    assert {one["not_taken"] for one in take(world, text)} == {None}
    assert shown(world, stored(world), START, END) == wanted
