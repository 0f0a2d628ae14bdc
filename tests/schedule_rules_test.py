"""Recurrence rules: against python-dateutil, against zoneinfo, against RFC 5545's own examples, and what always holds.

In one file, as all of them ask the same function; a hundred lines are the examples of RFC 5545.
"""

from __future__ import annotations

import calendar
import contextlib
import itertools
import random
import time
import types
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import dateutil.rrule
import pytest
from dateutil.rrule import rrulestr

from people import people
from postgrest import RequestError
from sizes import own_db, scale

WEEKDAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
SPANS = {"YEARLY": 366 * 9, "MONTHLY": 366 * 3, "WEEKLY": 366, "DAILY": 150, "HOURLY": 12, "MINUTELY": 2, "SECONDLY": 0.1}


class RightWeeks(dateutil.rrule._iterinfo):
    """dateutil takes some first days of January for another year's week (it uses this year's length for last year's
    weeks, and forgets some negative numbers): here each day's week is counted by itself."""

    def rebuild(self, year, month):
        super().rebuild(year, month)
        if not self.rrule._byweekno:
            return
        self.wnomask = [0] * (self.yearlen + 7)
        for i in range(self.yearlen):
            day = self.yearordinal + i
            middle = day - (self.wdaymask[i] - self.rrule._wkst) % 7 + 3
            year = year if 3 < i < self.yearlen - 4 else date.fromordinal(min(middle, date.max.toordinal())).year
            first = date(year, 1, 1).toordinal()
            number = (middle - first) // 7 + 1
            last = (365 + calendar.isleap(year) - 1 - (middle - first) % 7) // 7 + 1
            self.wnomask[i] = int(number in self.rrule._byweekno or number - last - 1 in self.rrule._byweekno)
            year = self.lastyear


@pytest.fixture(autouse=True, scope="module")
def dateutil_to_compare_with():
    """It looks for a match up to the year 9999; here the years that a test asks for must do."""
    patch = pytest.MonkeyPatch()
    patch.setattr(dateutil.rrule, "datetime", types.SimpleNamespace(**vars(dateutil.rrule.datetime)))
    patch.setattr(dateutil.rrule, "_iterinfo", RightWeeks)
    yield
    patch.undo()


def by_dateutil(rule, first, end):
    dateutil.rrule.datetime.MAXYEAR = end.year + 1
    try:
        starts = rrulestr(rule, dtstart=first)
        return list(itertools.takewhile(lambda start: start < end, starts))
    except ValueError as error:
        # What dateutil calls empty has no starts.
        assert "empty" in str(error), (rule, error)
        return []


def expand(connection, cases):
    """The starts of each rule, from its first start to before an end, by the clock; all in one statement."""
    rules, firsts, begins, ends = zip(*cases)
    rows = connection.execute(
        """select array(select o.original_local_start
                          from live_stream.occurrences(
                            schedule_id => null, scheduled_date => first::date, scheduled_start_time => first::time,
                            scheduled_end_time => null, timezone => 'UTC', recurrence_rule => rule, last_start => null,
                            expected_duration_minutes => 1, has_exceptions => false,
                            range_start => (begins + interval '1 minute' - interval '1 microsecond') at time zone 'UTC',
                            range_end => ends at time zone 'UTC') o) as starts
             from unnest(%s::text[], %s::timestamp[], %s::timestamp[], %s::timestamp[]) with ordinality
                    as u (rule, first, begins, ends, n)
            order by n""",
        [list(rules), list(firsts), list(begins), list(ends)],
    ).fetchall()
    return [row["starts"] for row in rows]


def random_rule(random):
    """What makes dateutil walk through years second by second is left out."""
    freq = random.choice(["YEARLY"] * 4 + ["MONTHLY"] * 4 + ["WEEKLY"] * 3 + ["DAILY"] * 3 + ["HOURLY", "MINUTELY", "SECONDLY"])
    moment = timedelta(seconds=random.randrange(45 * 365 * 86400))
    first = datetime(1990, 1, 1) + moment
    if random.random() < 0.2:
        first = first.replace(month=random.choice([1, 12]), day=random.choice([1, 2, 3, 28, 29, 30, 31]))
    parts = {}

    def maybe(chance, name, choices, most=4):
        if random.random() < chance:
            some = random.sample(choices, random.randint(1, min(most, len(choices))))
            parts[name] = ",".join(map(str, some))

    signed = lambda most: [n for n in range(-most, most + 1) if n]  # noqa: E731
    sub_daily = freq in ("HOURLY", "MINUTELY", "SECONDLY")
    if freq == "YEARLY":
        maybe(0.2, "BYWEEKNO", signed(53) + [1, 52, 53, -1, -52, -53] * 5)
    if freq in ("YEARLY", "HOURLY"):
        maybe(0.15, "BYYEARDAY", signed(366) + [1, 365, 366, -1, -365, -366] * 5, 9)
    if freq not in ("MINUTELY", "SECONDLY"):
        maybe(0.3, "BYMONTH", list(range(1, 13)), 8)
    if freq not in ("WEEKLY", "SECONDLY"):
        maybe(0.15 if freq == "DAILY" else 0.3, "BYMONTHDAY", signed(31) + [29, 30, 31, -29, -30, -31], 8)
    if freq in ("YEARLY", "MONTHLY") and "BYWEEKNO" not in parts and random.random() < 0.3:
        most = 5 if freq == "MONTHLY" or "BYMONTH" in parts else 53
        parts["BYDAY"] = ",".join(f"{random.choice(signed(most))}{random.choice(WEEKDAYS)}" for _ in range(random.randint(1, 4)))
    elif freq != "SECONDLY":
        maybe(0.4, "BYDAY", WEEKDAYS, 5)
        maybe(0.15, "BYHOUR", list(range(24)))
    maybe(0.15, "BYMINUTE", list(range(60)))
    maybe(0.1, "BYSECOND", list(range(60)))
    if parts:
        most = 1 if sub_daily else random.choice([3, 10, 366])
        maybe(0.25, "BYSETPOS", signed(most), 3)
    if random.random() < 0.5:
        parts["INTERVAL"] = random.choice([2, 2, 3, 4, 5, 7, 11, 25, 60] if sub_daily else [2, 2, 3, 4, 5, 7])
    maybe(0.3, "WKST", WEEKDAYS, 1)
    span = timedelta(days=SPANS[freq])
    if random.random() < 0.2:
        parts["COUNT"] = random.randint(1, 40)
    elif random.random() < 0.2:
        parts["UNTIL"] = f"{first + span * random.random():%Y%m%dT%H%M%S}"
    rest = list(parts.items())
    random.shuffle(rest)
    rule = ";".join([f"FREQ={freq}", *(f"{name}={value}" for name, value in rest)])
    return rule, first, first, first + span


def test_twenty_thousand_random_rules(server):
    """Two thousand in the short form."""
    chosen = random.Random(5545)
    cases = [random_rule(chosen) for _ in range(scale(2_000, 20_000))]
    with server.connect("plain") as connection:
        ours = expand(connection, cases)
    wrong = []
    found = 0
    for (rule, first, _, end), starts in zip(cases, ours):
        expected = by_dateutil(rule, first, end)
        found += bool(expected)
        if starts != expected:
            wrong.append((rule, first, starts[:3], expected[:3]))
    assert wrong[:3] == []
    assert found > len(cases) * 0.65, "empty rules show little"


def test_windows_of_random_rules(server):
    """Sorted, no duplicates, within the window; two windows next to each other have what the whole has."""
    chosen = random.Random(1)
    cases = [random_rule(chosen) for _ in range(2_000)]
    halves = []
    for rule, first, _, end in cases:
        middle = first + (end - first) * (0.1 + 0.8 * chosen.random())
        halves.append(((rule, first, first, middle), (rule, first, middle, end)))
    with server.connect("plain") as connection:
        whole = expand(connection, cases)
        left, right = (expand(connection, [pair[side] for pair in halves]) for side in (0, 1))
    for (rule, first, _, end), all_of_it, one, two in zip(cases, whole, left, right):
        assert all(a < b for a, b in zip(all_of_it, all_of_it[1:])), rule
        assert all(first <= start < end for start in all_of_it), rule
        assert one + two == all_of_it, rule


def test_weeks_are_those_of_the_calendar(server):
    """Week 53 and the turn of each year, by Python's ISO calendar."""
    numbers = [1, 2, 51, 52, 53]
    cases = [
        (f"FREQ=YEARLY;BYWEEKNO={number};BYDAY={','.join(WEEKDAYS)}", datetime(1980, 1, 1), datetime(1980, 1, 1), datetime(2420, 1, 1))
        for number in numbers
    ]
    with server.connect("plain") as connection:
        ours = expand(connection, cases)
    day, expected = date(1980, 1, 1), {number: [] for number in numbers}
    while day < date(2420, 1, 1):
        expected.setdefault(day.isocalendar().week, []).append(datetime(day.year, day.month, day.day))
        day += timedelta(1)
    assert ours == [expected[number] for number in numbers]


def test_plain_and_numbered_weekdays_together(server):
    """RFC 5545: both. dateutil has neither."""
    first, end = datetime(2024, 1, 3, 9), datetime(2030, 1, 1)
    cases = [(f"FREQ={freq};BYDAY=MO,1TU,-1SU{more}", first, first, end) for freq in ("MONTHLY", "YEARLY") for more in ("", ";BYMONTH=2,7")]
    with server.connect("plain") as connection:
        ours = expand(connection, cases)
    for (rule, *_), starts in zip(cases, ours):
        parts = [by_dateutil(rule.replace("MO,1TU,-1SU", days), first, end) for days in ("MO", "1TU,-1SU")]
        assert starts == sorted(set(parts[0] + parts[1])), rule


# The examples of RFC 5545, 3.8.5.3, in its order; all in America/New_York. EXDATEs are tested with exceptions.
NINE = datetime(1997, 9, 2, 9)
EXAMPLES = [
    ("FREQ=DAILY;COUNT=10", NINE, [datetime(1997, 9, day, 9) for day in range(2, 12)]),
    ("FREQ=DAILY;UNTIL=19971224T000000Z", NINE, [NINE + timedelta(day) for day in range(113)]),
    ("FREQ=DAILY;INTERVAL=2", NINE, [NINE + timedelta(2 * day) for day in range(46)]),
    ("FREQ=DAILY;INTERVAL=10;COUNT=5", NINE, [NINE + timedelta(10 * day) for day in range(5)]),
    ("FREQ=YEARLY;UNTIL=20000131T140000Z;BYMONTH=1;BYDAY=SU,MO,TU,WE,TH,FR,SA", datetime(1998, 1, 1, 9),
     [datetime(year, 1, day, 9) for year in (1998, 1999, 2000) for day in range(1, 32)]),
    ("FREQ=DAILY;UNTIL=20000131T140000Z;BYMONTH=1", datetime(1998, 1, 1, 9),
     [datetime(year, 1, day, 9) for year in (1998, 1999, 2000) for day in range(1, 32)]),
    ("FREQ=WEEKLY;COUNT=10", NINE, [NINE + timedelta(7 * week) for week in range(10)]),
    ("FREQ=WEEKLY;UNTIL=19971224T000000Z", NINE, [NINE + timedelta(7 * week) for week in range(17)]),
    ("FREQ=WEEKLY;INTERVAL=2;WKST=SU", NINE, [NINE + timedelta(14 * week) for week in range(13)]),
    ("FREQ=WEEKLY;UNTIL=19971007T000000Z;WKST=SU;BYDAY=TU,TH", NINE,
     ["9-2", "9-4", "9-9", "9-11", "9-16", "9-18", "9-23", "9-25", "9-30", "10-2"]),
    ("FREQ=WEEKLY;COUNT=10;WKST=SU;BYDAY=TU,TH", NINE,
     ["9-2", "9-4", "9-9", "9-11", "9-16", "9-18", "9-23", "9-25", "9-30", "10-2"]),
    ("FREQ=WEEKLY;INTERVAL=2;UNTIL=19971224T000000Z;WKST=SU;BYDAY=MO,WE,FR", datetime(1997, 9, 1, 9),
     ["9-1", "9-3", "9-5", "9-15", "9-17", "9-19", "9-29", "10-1", "10-3", "10-13", "10-15", "10-17", "10-27", "10-29", "10-31",
      "11-10", "11-12", "11-14", "11-24", "11-26", "11-28", "12-8", "12-10", "12-12", "12-22"]),
    ("FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH", NINE,
     ["9-2", "9-4", "9-16", "9-18", "9-30", "10-2", "10-14", "10-16"]),
    ("FREQ=MONTHLY;COUNT=10;BYDAY=1FR", datetime(1997, 9, 5, 9),
     ["9-5", "10-3", "11-7", "12-5", "1998-1-2", "1998-2-6", "1998-3-6", "1998-4-3", "1998-5-1", "1998-6-5"]),
    ("FREQ=MONTHLY;UNTIL=19971224T000000Z;BYDAY=1FR", datetime(1997, 9, 5, 9), ["9-5", "10-3", "11-7", "12-5"]),
    ("FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU", datetime(1997, 9, 7, 9),
     ["9-7", "9-28", "11-2", "11-30", "1998-1-4", "1998-1-25", "1998-3-1", "1998-3-29", "1998-5-3", "1998-5-31"]),
    ("FREQ=MONTHLY;COUNT=6;BYDAY=-2MO", datetime(1997, 9, 22, 9),
     ["9-22", "10-20", "11-17", "12-22", "1998-1-19", "1998-2-16"]),
    ("FREQ=MONTHLY;BYMONTHDAY=-3", datetime(1997, 9, 28, 9), ["9-28", "10-29", "11-28", "12-29", "1998-1-29", "1998-2-26"]),
    ("FREQ=MONTHLY;COUNT=10;BYMONTHDAY=2,15", NINE,
     ["9-2", "9-15", "10-2", "10-15", "11-2", "11-15", "12-2", "12-15", "1998-1-2", "1998-1-15"]),
    ("FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1", datetime(1997, 9, 30, 9),
     ["9-30", "10-1", "10-31", "11-1", "11-30", "12-1", "12-31", "1998-1-1", "1998-1-31", "1998-2-1"]),
    ("FREQ=MONTHLY;INTERVAL=18;COUNT=10;BYMONTHDAY=10,11,12,13,14,15", datetime(1997, 9, 10, 9),
     ["9-10", "9-11", "9-12", "9-13", "9-14", "9-15", "1999-3-10", "1999-3-11", "1999-3-12", "1999-3-13"]),
    ("FREQ=MONTHLY;INTERVAL=2;BYDAY=TU", NINE,
     ["9-2", "9-9", "9-16", "9-23", "9-30", "11-4", "11-11", "11-18", "11-25", "1998-1-6", "1998-1-13", "1998-1-20", "1998-1-27",
      "1998-3-3", "1998-3-10", "1998-3-17", "1998-3-24", "1998-3-31"]),
    ("FREQ=YEARLY;COUNT=10;BYMONTH=6,7", datetime(1997, 6, 10, 9),
     [f"{year}-{month}-10" for year in range(1997, 2002) for month in (6, 7)]),
    ("FREQ=YEARLY;INTERVAL=2;COUNT=10;BYMONTH=1,2,3", datetime(1997, 3, 10, 9),
     ["3-10"] + [f"{year}-{month}-10" for year in (1999, 2001, 2003) for month in (1, 2, 3)]),
    ("FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200", datetime(1997, 1, 1, 9),
     ["1-1", "4-10", "7-19", "2000-1-1", "2000-4-9", "2000-7-18", "2003-1-1", "2003-4-10", "2003-7-19", "2006-1-1"]),
    ("FREQ=YEARLY;BYDAY=20MO", datetime(1997, 5, 19, 9), ["5-19", "1998-5-18", "1999-5-17"]),
    ("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", datetime(1997, 5, 12, 9), ["5-12", "1998-5-11", "1999-5-17"]),
    ("FREQ=YEARLY;BYMONTH=3;BYDAY=TH", datetime(1997, 3, 13, 9),
     ["3-13", "3-20", "3-27", "1998-3-5", "1998-3-12", "1998-3-19", "1998-3-26", "1999-3-4", "1999-3-11", "1999-3-18", "1999-3-25"]),
    ("FREQ=YEARLY;BYDAY=TH;BYMONTH=6,7,8", datetime(1997, 6, 5, 9),
     ["6-5", "6-12", "6-19", "6-26", "7-3", "7-10", "7-17", "7-24", "7-31", "8-7", "8-14", "8-21", "8-28", "1998-6-4"]),
    ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", NINE, ["1998-2-13", "1998-3-13", "1998-11-13", "1999-8-13", "2000-10-13"]),
    ("FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13", datetime(1997, 9, 13, 9),
     ["9-13", "10-11", "11-8", "12-13", "1998-1-10", "1998-2-7", "1998-3-7", "1998-4-11", "1998-5-9", "1998-6-13"]),
    ("FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8", datetime(1996, 11, 5, 9),
     ["1996-11-5", "2000-11-7", "2004-11-2"]),
    ("FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", datetime(1997, 9, 4, 9), ["9-4", "10-7", "11-6"]),
    ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2", datetime(1997, 9, 29, 9),
     ["9-29", "10-30", "11-27", "12-30", "1998-1-29", "1998-2-26", "1998-3-30"]),
    # The text's own erratum: 17:00 in New York is 21:00Z.
    ("FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T210000Z", NINE, [datetime(1997, 9, 2, hour) for hour in (9, 12, 15)]),
    ("FREQ=MINUTELY;INTERVAL=15;COUNT=6", NINE, [NINE + timedelta(minutes=15 * n) for n in range(6)]),
    ("FREQ=MINUTELY;INTERVAL=90;COUNT=4", NINE, [NINE + timedelta(minutes=90 * n) for n in range(4)]),
    ("FREQ=DAILY;BYHOUR=9,10,11,12,13,14,15,16;BYMINUTE=0,20,40", NINE,
     [datetime(1997, 9, day, hour, minute) for day in (2, 3) for hour in range(9, 17) for minute in (0, 20, 40)]),
    ("FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10,11,12,13,14,15,16", NINE,
     [datetime(1997, 9, day, hour, minute) for day in (2, 3) for hour in range(9, 17) for minute in (0, 20, 40)]),
    ("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO", datetime(1997, 8, 5, 9), ["8-5", "8-10", "8-19", "8-24"]),
    ("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU", datetime(1997, 8, 5, 9), ["8-5", "8-17", "8-19", "8-31"]),
    ("FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5", datetime(2007, 1, 15, 9),
     ["2007-1-15", "2007-1-30", "2007-2-15", "2007-3-15", "2007-3-30"]),
]  # fmt: skip


def test_the_examples_of_the_rfc(world):
    """As schedules, through the API, with their zone."""
    for rule, first, expected in EXAMPLES:
        dates = [start if isinstance(start, datetime) else day_of(start) for start in expected]
        row = world.schedule(
            timezone="America/New_York",
            scheduled_date=f"{first:%Y-%m-%d}",
            scheduled_start_time=f"{first:%H:%M:%S}",
            scheduled_end_time=None,
            expected_duration_minutes=5,
            recurrence_rule=rule,
        )
        ends = "COUNT" in rule or "UNTIL" in rule
        last = dates[-1] + (timedelta(days=3650) if ends else timedelta(minutes=1))
        listed = world.anon.rpc(
            "live_stream_occurrences",
            schedule_id=row["id"],
            range_start="1990-01-01T00:00Z",
            range_end=last.replace(tzinfo=ZoneInfo("America/New_York")).isoformat(),
        )
        starts = [datetime.fromisoformat(one["starts_at"]) for one in listed]
        in_new_york = [start.astimezone(ZoneInfo("America/New_York")).replace(tzinfo=None) for start in starts]
        assert in_new_york == dates, rule


def day_of(text):
    parts = [int(part) for part in text.split("-")]
    return datetime(*(parts if len(parts) == 3 else [1997, *parts]), 9)


# Zones.


def test_every_transition_of_every_zone(server):
    """One daily schedule at the clock time of each change from 2024 to 2030, on the days around it: what the server
    says is what RFC 5545 makes of zoneinfo."""
    with server.connect("plain") as connection:
        names = connection.execute(
            r"""select name from pg_timezone_names
                 where name !~ '^(posix|right)/' and name not in ('localtime', 'posixrules', 'Factory') order by 1"""
        ).fetchall()
        cases = [(row["name"], wall) for row in names for wall in walls_around_changes(row["name"])]
        assert len(names) > 400 and len(cases) > 2_000
        rows = connection.execute(
            """select array(select extract(epoch from o.starts_at)::bigint
                              from live_stream.occurrences(
                                schedule_id => null, scheduled_date => first::date, scheduled_start_time => first::time,
                                scheduled_end_time => null, timezone => zone, recurrence_rule => 'FREQ=DAILY;COUNT=5',
                                last_start => null, expected_duration_minutes => 1, has_exceptions => false,
                                range_start => '2023-01-01Z', range_end => '2032-01-01Z') o) as starts
                 from unnest(%s::text[], %s::timestamp[]) with ordinality as u (zone, first, n) order by n""",
            [[zone for zone, _ in cases], [wall - timedelta(2) for _, wall in cases]],
        ).fetchall()
    for (zone, wall), row in zip(cases, rows):
        days = [wall + timedelta(day) for day in range(-2, 3)]
        # fold=0 is the first of two, and in a gap the offset from before it.
        expected = sorted({int(day.replace(tzinfo=ZoneInfo(zone), fold=0).timestamp()) for day in days})
        assert row["starts"] == expected, (zone, wall)


def walls_around_changes(zone):
    """What clocks show at, before and after each change."""
    zone = ZoneInfo(zone)
    step, at, end = timedelta(hours=6), datetime(2024, 1, 1, tzinfo=timezone.utc), datetime(2031, 1, 1, tzinfo=timezone.utc)
    walls = []
    before = at.astimezone(zone).utcoffset()
    while at < end:
        at += timedelta(days=1)
        after = at.astimezone(zone).utcoffset()
        if after == before:
            continue
        low, high = at - timedelta(days=1), at
        while high - low > timedelta(seconds=1):
            middle = low + (high - low) / 2
            middle = middle.replace(microsecond=0)
            if middle.astimezone(zone).utcoffset() == before:
                low = middle
            else:
                high = middle
        for wall in ((high + before).replace(tzinfo=None), (high + after).replace(tzinfo=None)):
            walls += [wall, wall - timedelta(seconds=1), wall + timedelta(minutes=15)]
        before = after
    return walls


def test_no_start_comes_twice_or_early_where_clocks_skip_an_hour(world):
    """Every 20 minutes through the gap: starts that clocks skip come at the time that they would have come."""
    row = world.schedule(
        timezone="Europe/Berlin", scheduled_date="2026-03-29", scheduled_start_time="01:20", scheduled_end_time=None,
        expected_duration_minutes=1, recurrence_rule="FREQ=MINUTELY;INTERVAL=25;COUNT=8",
    )  # fmt: skip
    listed = world.anon.rpc(
        "live_stream_occurrences", schedule_id=row["id"], range_start="2026-03-28T00:00Z", range_end="2026-03-30T00:00Z"
    )
    starts = [datetime.fromisoformat(one["starts_at"]) for one in listed]
    walls = [datetime(2026, 3, 29, 1, 20) + timedelta(minutes=25 * n) for n in range(8)]
    expected = sorted({wall.replace(tzinfo=ZoneInfo("Europe/Berlin")).astimezone(timezone.utc) for wall in walls})
    assert starts == expected


def test_starts_and_ends_where_clocks_show_an_hour_twice(world):
    """Each start and each end is the first of the two, also where the one is found after the other."""
    row = world.schedule(
        timezone="Europe/Berlin", scheduled_date="2026-10-25", scheduled_start_time="00:10", scheduled_end_time="02:20",
        recurrence_rule="FREQ=MINUTELY;INTERVAL=20;COUNT=12",
    )  # fmt: skip
    listed = world.anon.rpc(
        "live_stream_occurrences", schedule_id=row["id"], range_start="2026-10-24T00:00Z", range_end="2026-10-26T00:00Z"
    )
    found = [tuple(datetime.fromisoformat(one[name]) for name in ("starts_at", "ends_at")) for one in listed]
    berlin = ZoneInfo("Europe/Berlin")
    walls = [datetime(2026, 10, 25, 0, 10, tzinfo=berlin) + timedelta(minutes=20 * n) for n in range(12)]
    ends = [wall + timedelta(hours=2, minutes=10) for wall in walls]
    assert found == [(wall.astimezone(timezone.utc), end.astimezone(timezone.utc)) for wall, end in zip(walls, ends)]


def test_the_year_9999_and_leap_days(server):
    first = datetime(9996, 2, 29, 12)
    cases = [
        ("FREQ=YEARLY", first, first, datetime.max),
        ("FREQ=DAILY", datetime(9999, 12, 30, 12), datetime(9999, 12, 30, 12), datetime.max),
        ("FREQ=YEARLY", datetime(1896, 2, 29, 12), datetime(1896, 2, 29), datetime(1913, 1, 1)),
        ("FREQ=DAILY", datetime(1, 1, 1), datetime(9999, 12, 31), datetime.max),
        ("FREQ=SECONDLY", datetime(2016, 12, 31, 23, 59, 58), datetime(2016, 12, 31), datetime(2017, 1, 1, 0, 0, 1)),
    ]
    with server.connect("plain") as connection:
        ours = expand(connection, cases)
    assert ours[0] == [first]
    assert ours[1] == [datetime(9999, 12, 30, 12), datetime(9999, 12, 31, 12)]
    assert ours[2] == [datetime(1896, 2, 29, 12), datetime(1904, 2, 29, 12), datetime(1908, 2, 29, 12), datetime(1912, 2, 29, 12)]
    assert ours[3] == [datetime(9999, 12, 31)]
    assert len(ours[4]) == 3, "there was a leap second, which no clock of ours shows"


# What a rule may cost.

ALL = {"BYHOUR": 24, "BYMINUTE": 60, "BYSECOND": 60}
EVERY_SECOND = ";".join(f"{name}={','.join(map(str, range(most)))}" for name, most in ALL.items())
DEAR = [
    "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=29;BYDAY=SU;INTERVAL=86399;BYHOUR=3;BYMINUTE=3;BYSECOND=3",
    "FREQ=SECONDLY;INTERVAL=999999999",
    "FREQ=SECONDLY;INTERVAL=7919;BYHOUR=3;BYMINUTE=3;BYSECOND=3;BYYEARDAY=366",
    "FREQ=SECONDLY;COUNT=999999999",
    "FREQ=SECONDLY;BYSETPOS=2;BYSECOND=1",
    "FREQ=MINUTELY;BYSETPOS=-2;BYMINUTE=5",
    "FREQ=MINUTELY;INTERVAL=1439;BYHOUR=0;BYMINUTE=0;BYMONTH=2;BYMONTHDAY=29",
    "FREQ=HOURLY;INTERVAL=23;BYYEARDAY=366;BYDAY=SU;BYHOUR=4",
    "FREQ=DAILY;INTERVAL=146097;BYMONTH=2;BYMONTHDAY=29;BYDAY=SU",
    "FREQ=YEARLY;BYWEEKNO=53;BYMONTH=6",
    "FREQ=YEARLY;INTERVAL=999999999;BYYEARDAY=366",
    "FREQ=YEARLY;BYDAY=53MO;BYMONTHDAY=1;BYMONTH=12",
    f"FREQ=YEARLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;{EVERY_SECOND}",
    f"FREQ=YEARLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;{EVERY_SECOND};BYSETPOS=-1,366",
    f"FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA,SU;{EVERY_SECOND};COUNT=200000",
]


@pytest.mark.parametrize("rule", DEAR)
def test_no_rule_takes_long(plain_db, rule):
    """To write, to look for what is next, to list, wherever one looks; refused by the part that is to blame, if at all.
    The bound is for a build that is not optimized, on a busy machine."""
    world = people(plain_db)
    calls = {
        "write": lambda: world.schedule(scheduled_date="2024-02-29", recurrence_rule=rule),
        "upcoming": lambda: world.anon.select("upcoming_streams"),
        "calendar": lambda: world.anon.rpc("live_stream_calendar", range_start="2040-01-01Z", range_end="2040-02-01Z"),
        "late": lambda: world.anon.rpc("live_stream_calendar", range_start="9999-01-01Z", range_end="9999-12-31Z"),
        "feed": lambda: world.anon.rpc_get("live_stream_calendar_feed", influencer_id=world.influencer.influencer_id),
    }
    taken = {}
    written = None
    for name, call in calls.items():
        began = time.monotonic()
        try:
            answer = call()
        except RequestError as error:
            assert name == "write" and error.sqlstate == "23514" and "of the recurrence rule is not valid" in error.message, error
            assert error.message.split()[0] in rule, error
        else:
            written = answer if name == "write" else written
        taken[name] = time.monotonic() - began
    assert max(taken.values()) < 1, taken
    if written:
        began = time.monotonic()
        # All that it has, or that this is too much.
        with contextlib.suppress(RequestError):
            world.anon.rpc("live_stream_occurrences", schedule_id=written["id"], range_start="2024-01-01Z", range_end="9999-12-31Z")
        assert time.monotonic() - began < 4


@own_db("counts or changes all that is there")
def test_many_dear_rules_do_not_keep_others_waiting(plain_db):
    """Fifty shows each second, and fifty that match no more, which the check of a written rule keeps out."""
    world = people(plain_db)
    sparse = DEAR[1]
    plain_db.owner(
        """insert into public.live_stream_schedule (influencer_id, title, scheduled_date, scheduled_start_time, recurrence_rule)
           select %s, rule, '2004-02-29', '03:03:03', rule from unnest(array['FREQ=SECONDLY', 'FREQ=MINUTELY']) rule, generate_series(1, 50)""",
        [world.influencer.influencer_id],
    )
    with plain_db.connect() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update public.live_stream_schedule set recurrence_rule = %s where title = 'FREQ=MINUTELY'", [sparse])
    show = world.schedule("A show", scheduled_date="2004-02-29", recurrence_rule="FREQ=DAILY")
    began = time.monotonic()
    assert len(world.anon.select("upcoming_streams")) == 51
    first = world.anon.rpc("live_stream_calendar", range_start="2030-01-01T15:00Z", range_end="2030-01-09Z", max_rows=1000)
    assert len(first) == 1000 and first[-1]["title"] == "FREQ=SECONDLY"
    other = world.anon.rpc("live_stream_calendar", range_start="2030-01-01Z", range_end="2030-01-09Z", influencer_id=show["id"])
    assert other == [] and time.monotonic() - began < 4


@own_db("counts or changes all that is there")
def test_all_is_the_same_in_parallel(plain_db):
    """What is PARALLEL SAFE gives the same in a parallel worker."""
    world = people(plain_db)
    row = world.schedule(is_recurring=True, recurrence_pattern="daily")
    world.influencer.api.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at="2030-01-08T15:00Z")
    setting = "force_parallel_mode" if plain_db.value("select current_setting('server_version_num')::int < 160000") else "debug_parallel_query"
    queries = [
        "select * from public.upcoming_streams",
        "select * from public.live_stream_upcoming()",
        f"select * from public.live_stream_occurrences('{row['id']}', '2030-01-01', '2030-02-01')",
        "select * from public.live_stream_calendar('2030-01-01', '2030-02-01')",
        f"select public.live_stream_calendar_feed('{world.influencer.influencer_id}')",
    ]
    for role in ("anon", "authenticated"):
        with plain_db.connect() as connection:
            connection.execute(f"set role {role}")
            connection.execute("select set_config('request.jwt.claims', %s, false)", [f'{{"sub": "{world.influencer.user_id}"}}'])
            for query in queries:
                connection.execute(f"set {setting} = off")
                alone = connection.execute(query).fetchall()
                connection.execute(f"set {setting} = on")
                assert connection.execute(query).fetchall() == alone != [], query
