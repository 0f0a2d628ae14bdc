"""Asking for occurrences, and times as schedules have them."""

from __future__ import annotations

from datetime import datetime

NOBODY = "00000000-0000-4000-8000-000000000000"


def at(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def occurrences(world, schedule, start, end):
    return world.anon.rpc("live_stream_occurrences", schedule_id=schedule["id"], range_start=start, range_end=end)


def starts(world, schedule, start, end):
    return [at(row["starts_at"]) for row in occurrences(world, schedule, start, end)]


def clock(moment):
    """Date and start time of a schedule in UTC."""
    return {"scheduled_date": f"{moment:%Y-%m-%d}", "scheduled_start_time": f"{moment:%H:%M:%S}"}


def listed_occurrences(world, schedule, start, end):
    """Between two moments."""
    return occurrences(world, schedule, str(start), str(end))
