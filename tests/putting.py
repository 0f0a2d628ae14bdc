"""Schedules that are put to other times, and what dateutil and zoneinfo say of when they come."""

from __future__ import annotations

import itertools
from datetime import date, datetime, timedelta, timezone
from datetime import time as clock_time
from zoneinfo import ZoneInfo

from dateutil.rrule import rrulestr

from calendars import expanded, feed
from scheduling import at


def this_minute():
    """Not when the tests began: that may be half an hour ago."""
    return datetime.now(timezone.utc).replace(microsecond=0, second=0)


MADE = """select l.session_id::text as id, l.original_local_start as wall, s.status::text, s.scheduled_start_time as start
            from public.live_stream_schedule_sessions l join public.live_stream_sessions s on s.id = l.session_id
           where l.schedule_id = %s order by s.scheduled_start_time, s.id"""


def walls_of(row):
    """By the clock, from the first one on; no exceptions."""
    first = datetime.combine(date.fromisoformat(row["scheduled_date"]), clock_time.fromisoformat(row["scheduled_start_time"]))
    return rrulestr(row["recurrence_rule"], dtstart=first) if row["recurrence_rule"] else [first]


def coming(row, count, now=None):
    """The first so many occurrences that are not over, by dateutil and zoneinfo: clock time and moment, by the moment."""
    zone, length = ZoneInfo(row["timezone"]), timedelta(minutes=row["expected_duration_minutes"] or 60)
    now = now or datetime.now(timezone.utc)
    # No two days apart change their order by a change of clocks.
    starts = ((wall, wall.replace(tzinfo=zone).astimezone(timezone.utc)) for wall in walls_of(row))
    some = list(itertools.islice((one for one in starts if one[1] + length > now), count + 5))
    return sorted(some, key=lambda one: one[1])[:count]


def show(world, minutes=1440, title="Show", **columns):
    """One that begins in so many minutes."""
    first = this_minute() + timedelta(minutes=minutes)
    columns = {"scheduled_end_time": None, "expected_duration_minutes": 60} | columns
    return world.schedule(title, scheduled_date=f"{first:%Y-%m-%d}", scheduled_start_time=f"{first:%H:%M}", **columns)


def daily(world, minutes=1440, **columns):
    return show(world, minutes, **({"recurrence_rule": "FREQ=DAILY"} | columns))


def make(world, horizon="4 days 1 hour"):
    return world.db.owner("select live_stream.materialize_occurrences(%s::interval) as made", [horizon])[0]["made"]


def change(world, row, **columns):
    return world.influencer.api.update("live_stream_schedule", columns, where={"id": row["id"]}, one=True)


def put(world, row, **by):
    """To another time of the clock."""
    start = at(f"{row['scheduled_date']}T{row['scheduled_start_time']}") + timedelta(**by)
    return change(world, row, scheduled_date=f"{start:%Y-%m-%d}", scheduled_start_time=f"{start:%H:%M:%S}")


def made(world, row, status="scheduled"):
    return [one for one in world.db.sql(MADE, [row["id"]]) if status in (one["status"], None)]


def ids(world, row, status="scheduled"):
    return [one["id"] for one in made(world, row, status)]


def starts(world, row, status="scheduled"):
    return [one["start"] for one in made(world, row, status)]


def moments(row, count):
    return [moment for _, moment in coming(row, count)]


def agree(world, row):
    """Everybody is told the same of what comes next, and each occurrence has its session."""
    row = world.influencer.api.select("live_stream_schedule", where={"id": row["id"]}, one=True)
    window = {"range_start": str(datetime.now(timezone.utc)), "range_end": str(this_minute() + timedelta(days=400))}
    listed = world.anon.rpc("live_stream_occurrences", schedule_id=row["id"], **window)
    listed = [at(one["starts_at"]) for one in listed if one["status"] != "cancelled"]
    now_made = made(world, row)
    assert [one["start"] for one in now_made] == listed[: len(now_made)]
    (upcoming,) = world.anon.select("upcoming_streams", where={"id": row["id"]})
    assert at(upcoming["full_start_datetime"]) == listed[0]
    assert upcoming["created_session_id"] == row["created_session_id"] == now_made[0]["id"]
    dates = world.anon.rpc("live_stream_calendar", range_start=window["range_start"], range_end=str(this_minute() + timedelta(days=9)), max_rows=1000)
    near = [one for one in listed if one < this_minute() + timedelta(days=9)]
    assert [at(one["starts_at"]) for one in dates if one["schedule_id"] == row["id"]] == near
    shown = expanded(feed(world), datetime.now(timezone.utc), this_minute() + timedelta(days=9))
    assert [begin for begin, *_ in shown] == near, "of the one schedule that there is"
