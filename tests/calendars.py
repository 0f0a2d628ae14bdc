"""Calendars as tests write and read them: the feed by parsers that are not ours, files from elsewhere."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo, available_timezones

import icalendar
from dateutil.rrule import rruleset, rrulestr


SERVER_ZONES = available_timezones()


def feed_text(world, api=None):
    return (api or world.anon).rpc_get("live_stream_calendar_feed", influencer_id=world.influencer.influencer_id)


def feed(world, api=None):
    return icalendar.Calendar.from_ical(feed_text(world, api))


def as_list(value):
    return value if isinstance(value, list) else [] if value is None else [value]


def utc(moment):
    """The clock time that the feed says, as a moment: the server's zone rules are zoneinfo's."""
    zone = getattr(moment.tzinfo, "key", None)
    is_server_zone = zone in SERVER_ZONES
    return (moment.replace(tzinfo=ZoneInfo(zone), fold=0) if is_server_zone else moment).astimezone(timezone.utc)


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


def calendar_of(*events, head=""):
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", *head.splitlines()]
    for event in events:
        lines += ["BEGIN:VEVENT", *event.strip().splitlines(), "END:VEVENT"]
    return "\r\n".join([*lines, "END:VCALENDAR", ""])


def take(world, text):
    return world.influencer.api.rpc("live_stream_import_ics", influencer_id=world.influencer.influencer_id, ics=text)


def stored(world):
    return world.influencer.api.select("live_stream_schedule", order="title")


def zone_of(rule="", offset="+0300", tzid="Z"):
    """A VTIMEZONE of one offset, told in an odd way if need be."""
    lines = ["BEGIN:VTIMEZONE", f"TZID:{tzid}", "BEGIN:STANDARD", "DTSTART:19700101T000000", f"TZOFFSETFROM:{offset}", f"TZOFFSETTO:{offset}"]
    return "\n".join([*lines, *([rule] if rule else []), "END:STANDARD", "END:VTIMEZONE"])


def window_of(*days):
    """Two days of January 2030, the latter excluded."""
    return tuple(datetime(2030, 1, day, tzinfo=timezone.utc) for day in days)


def starts(world, start, end):
    """When, and as what, the schedules of a world take place."""
    return [(f"{one[0]:%m-%dT%H:%M}", one[3]) for one in ours(world, stored(world), start, end)]
