#!/usr/bin/env python3
"""Figures of schedules, each beside what it is to be compared with, on a server of its own.

    PROFILE=release scripts/build && PROFILE=release target/venv/bin/python bench/schedules.py

Prints one row per line: what, figure, unit, and what it stands beside. `rows()` gives them to other scripts.
"""

from __future__ import annotations

import statistics
import sys
import time
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from dateutil.rrule import rrulestr  # noqa: E402

from database import OWNER, Server  # noqa: E402

ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC", "Australia/Sydney"]
RULES = [
    "FREQ=DAILY",
    "FREQ=WEEKLY;BYDAY=MO,WE,FR",
    "FREQ=WEEKLY",
    "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,TH",
    "FREQ=MONTHLY",
    "FREQ=MONTHLY;BYDAY=1MO",
    "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
    "FREQ=MONTHLY;BYMONTHDAY=1,15,-1",
    "FREQ=YEARLY;BYMONTH=11;BYDAY=4TH",
    "FREQ=DAILY;INTERVAL=3;BYHOUR=10,18",
]
BEGIN, END = datetime(2026, 1, 1), datetime(2027, 1, 1)


def schedules(count):
    """Rule, first start and zone of each, begun within the two years before."""
    for n in range(count):
        first = datetime(2024, 1, 1, 9) + timedelta(days=n * 37 % 700, minutes=15 * (n % 40))
        yield RULES[n % len(RULES)], first, ZONES[n // 2 % len(ZONES)]


def fill(connection, count):
    connection.execute("insert into public.influencers (user_id) values (gen_random_uuid())")
    rules, firsts, zones = zip(*schedules(count))
    connection.execute(
        """insert into public.live_stream_schedule
             (influencer_id, title, scheduled_date, scheduled_start_time, timezone, recurrence_rule)
           select i.id, 'Show ' || n, first::date, first::time, zone, rule
             from public.influencers i, unnest(%s::text[], %s::timestamp[], %s::text[]) with ordinality
                    as u (rule, first, zone, n)""",
        [list(rules), list(firsts), list(zones)],
    )
    connection.execute("analyze")


EXPAND = """
    select {what}
      from public.live_stream_schedule s,
   lateral live_stream.occurrences(s.id, s.scheduled_date, s.scheduled_start_time, s.scheduled_end_time, s.timezone,
             s.recurrence_rule, s.last_start, s.expected_duration_minutes, s.has_exceptions, {begin}, {end}) o"""
# Starts by the clock of each zone; an hour's show that began before midnight is not within.
WINDOW = {
    "begin": "(timestamp '2026-01-01' at time zone s.timezone) + interval '1 hour' - interval '1 microsecond'",
    "end": "timestamp '2027-01-01' at time zone s.timezone",
}


ARRAYS = """
    select starts from (
      select live_stream.occurrence_starts(s.id, s.scheduled_date, s.scheduled_start_time, s.scheduled_end_time, s.timezone,
               s.recurrence_rule, s.last_start, s.expected_duration_minutes, s.has_exceptions, {begin}, {end}) as starts
        from public.live_stream_schedule s) arrays"""
COUNT = "select sum(cardinality(starts)) as count from (" + ARRAYS + " offset 0) a"
SUM = "select sum(extract(epoch from start)::bigint) as sum from (" + ARRAYS + " offset 0) a, unnest(starts) as start"


def expand_to_rows(connection):
    what = "count(*) as count, max(o.starts_at), max(o.ends_at)"
    return connection.execute(EXPAND.format(what=what, **WINDOW)).fetchone()["count"]


def sum_of_rows(connection):
    what = "sum(extract(epoch from o.starts_at)::bigint) as sum"
    return int(connection.execute(EXPAND.format(what=what, **WINDOW)).fetchone()["sum"])


def expand_to_arrays(connection):
    return int(connection.execute(COUNT.format(**WINDOW)).fetchone()["count"])


def expand_by_dateutil(cases, as_moments):
    count = total = 0
    for rule, first, zone in cases:
        starts = rrulestr(rule, dtstart=first).between(BEGIN, END - timedelta(seconds=1), inc=True)
        count += len(starts)
        if as_moments:
            zone = ZoneInfo(zone)
            total += sum(int(start.replace(tzinfo=zone).timestamp()) for start in starts)
    return count, total


def best(run, times):
    """The shortest of some runs, in seconds, and what they returned."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        result = run()
        taken.append(time.perf_counter() - begin)
    return min(taken), result


def expansion(server):
    cases = list(schedules(1_000))
    with server.database("plain") as db, db.connect(OWNER) as connection:
        fill(connection, 1_000)
        ours, count = best(lambda: expand_to_rows(connection), 7)
        found = count, sum_of_rows(connection)
        arrays, counted_here = best(lambda: expand_to_arrays(connection), 15)
        summed_here = int(connection.execute(SUM.format(**WINDOW)).fetchone()["sum"])
    by_clock, counted = best(lambda: expand_by_dateutil(cases, False), 2)
    moments, same = best(lambda: expand_by_dateutil(cases, True), 2)
    if not found == same == (counted_here, summed_here) or counted[0] != same[0]:
        raise SystemExit(f"not the same occurrences: {found}, {same}")
    for name, seconds in {
        "occurrences of 1,000 mixed schedules in a year, an array for each": arrays,
        "the same as rows with end, original start and title": ours,
        "the same by python-dateutil and zoneinfo": moments,
        "the same by python-dateutil, by the clock only": by_clock,
    }.items():
        ratios = f"{moments / seconds:.1f} times dateutil with zoneinfo, {by_clock / seconds:.1f} times dateutil alone"
        yield name, f"{found[0] / seconds:,.0f}", "per second", f"{found[0]:,} occurrences; {ratios}"


def upcoming(server):
    with server.database("plain") as db, db.connect() as connection:
        fill(connection, 10_000)
        connection.execute("set role anon")
        for name, query in {
            "upcoming_streams, 10,000 recurring schedules, page of 20": (
                "select * from public.upcoming_streams order by full_start_datetime limit 20"
            ),
            "live_stream_upcoming(), the same": "select * from public.live_stream_upcoming()",
            "live_stream_calendar() of 7 days, the same, page of 100": (
                "select * from public.live_stream_calendar(now(), now() + interval '7 days')"
            ),
        }.items():
            taken = []
            for _ in range(11):
                begin = time.perf_counter()
                connection.execute(query).fetchall()
                taken.append((time.perf_counter() - begin) * 1000)
            yield name, f"{statistics.median(taken):.1f}", "ms", f"median of 11; {min(taken):.1f} to {max(taken):.1f}"


def rows():
    server = Server()
    try:
        server.make_templates()
        yield from expansion(server)
        yield from upcoming(server)
    finally:
        server.remove()


if __name__ == "__main__":
    print(f"# {date.today()}, {datetime.now(timezone.utc):%H:%M} UTC")
    for row in rows():
        print("\t".join(row), flush=True)
