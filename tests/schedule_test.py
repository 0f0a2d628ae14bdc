"""Schedules: what is refused, when they take place, what is upcoming, and who may do what."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import psycopg
import pytest

from people import people
from postgrest import RequestError
from refusals import refused
from scheduling import NOBODY, at, clock, occurrences, starts
from sizes import own_db


# The request, and what is stored.


def test_the_guides_request(world):
    row = world.schedule(
        title="Weekly Product Review",
        scheduled_date="2024-12-01",
        is_recurring=True,
        recurrence_pattern="weekly",
        days_of_week=[5, 1, 3],
        recurrence_end_date=None,
        timezone="europe/berlin",
    )
    assert row["days_of_week"] == [1, 3, 5]
    assert row["timezone"] == "Europe/Berlin"
    assert row["status"] == "scheduled" and row["created_session_id"] is None
    assert (row["is_promoted"], row["notification_sent"], row["reminder_sent"]) == (False, False, False)
    expected = ["2024-12-02T14:00Z", "2024-12-04T14:00Z", "2024-12-06T14:00Z", "2024-12-09T14:00Z"]
    assert starts(world, row, "2024-11-01T00:00Z", "2024-12-10T00:00Z") == [at(text) for text in expected]


def test_null_means_the_default(world):
    names = ["timezone", "is_recurring", "is_promoted", "notification_sent", "reminder_sent", "status", "created_at"]
    row = world.schedule(**dict.fromkeys(names))
    assert [row[name] for name in names[:-1]] == ["UTC", False, False, False, False, "scheduled"]
    assert row["created_at"] == row["updated_at"]


def test_days_of_week_have_one_form(world):
    assert world.schedule(days_of_week=[7, 6, 0, 6])["days_of_week"] == [0, 6]
    assert world.schedule(days_of_week=[])["days_of_week"] == []


def test_create_by_rpc(world):
    row = world.influencer.api.rpc(
        "live_stream_schedule_create",
        title="Monthly",
        scheduled_date="2026-01-31",
        scheduled_start_time="10:00",
        is_recurring=True,
        recurrence_pattern="monthly",
        timezone="Asia/Kolkata",
        expected_duration_minutes=90,
    )
    assert row["influencer_id"] == world.influencer.influencer_id
    listed = occurrences(world, row, "2026-01-01T00:00Z", "2026-06-01T00:00Z")
    assert [(at(one["starts_at"]), at(one["ends_at"])) for one in listed] == [
        (at(f"2026-{day}T04:30Z"), at(f"2026-{day}T06:00Z")) for day in ("01-31", "03-31", "05-31")
    ]


def test_an_update_keeps_what_is_for_good(world):
    row = world.schedule()
    patch = {"title": "New", "id": NOBODY, "created_at": "2000-01-01", "updated_at": "2000-01-01"}
    new = world.influencer.api.update("live_stream_schedule", patch, where={"id": row["id"]}, one=True)
    assert new["id"] == row["id"] and new["created_at"] == row["created_at"] and new["title"] == "New"
    assert at(new["updated_at"]) > at(row["updated_at"])


def test_a_client_does_not_set_the_time_of_creation(world):
    row = world.schedule(created_at="9999-01-01T00:00Z", updated_at="9999-01-01T00:00Z")
    assert at(row["created_at"]) < datetime.now(timezone.utc) + timedelta(minutes=1)
    assert row["updated_at"] == row["created_at"]
    body = {"influencer_id": world.influencer.influencer_id, "title": "Moved here", "created_at": "2020-01-01T00:00Z"}
    row = world.service.insert("live_stream_schedule", body | clock(at("2030-01-01T10:00Z")))
    assert at(row["created_at"]) == at("2020-01-01T00:00Z")


# What is refused.

NONSENSE = {
    "empty title": ({"title": ""}, "title of the schedule is empty"),
    "blank title": ({"title": " \t\n\u2003"}, "title of the schedule is empty"),
    "long title": ({"title": "x" * 256}, "title of the schedule is too long"),
    "huge title": ({"title": "ß" * 5_000_000}, "title of the schedule is too long"),
    "long description": ({"description": "x" * 10_001}, "description of the schedule is too long"),
    "long thumbnail": ({"thumbnail_url": "x" * 2_049}, "thumbnail_url of the schedule is too long"),
    "unknown zone": ({"timezone": "Europe/Bielefeld"}, 'time zone "Europe/Bielefeld" is not known'),
    "zone rule": ({"timezone": "FOO+3"}, 'time zone "FOO+3" is not known'),
    "negative day": ({"days_of_week": [-1]}, "-1 is no day of the week"),
    "eighth day": ({"days_of_week": [1, 8]}, "8 is no day of the week"),
    "null day": ({"days_of_week": [1, None]}, "null is no day of the week"),
    "end is start": ({"scheduled_end_time": "15:00"}, "ends when it begins"),
    "start at 24:00": ({"scheduled_start_time": "24:00"}, "no time of its day"),
    "infinite date": ({"scheduled_date": "infinity"}, "scheduled_date of the schedule is out of range"),
    "date before Christ": ({"scheduled_date": "0044-03-15 BC"}, "scheduled_date of the schedule is out of range"),
    "date too far": ({"scheduled_date": "10000-01-01"}, "scheduled_date of the schedule is out of range"),
    "no minutes": ({"expected_duration_minutes": 0}, "expected_duration_minutes of the schedule cannot be 0"),
    "negative minutes": ({"expected_duration_minutes": -5}, "expected_duration_minutes of the schedule cannot be -5"),
    "too many minutes": ({"expected_duration_minutes": 10_081}, "expected_duration_minutes of the schedule cannot be"),
    "no pattern": ({"is_recurring": True}, "no recurrence_pattern"),
    "ends before": (
        {"is_recurring": True, "recurrence_pattern": "daily", "recurrence_end_date": "2030-01-06"},
        "ends before it begins",
    ),
    "ends too late": (
        {"is_recurring": True, "recurrence_pattern": "daily", "recurrence_end_date": "infinity"},
        "recurrence_end_date of the schedule is out of range",
    ),
    "never": (
        {
            "is_recurring": True,
            "recurrence_pattern": "weekly",
            "days_of_week": [0],
            "recurrence_end_date": "2030-01-12",
        },
        "never takes place",
    ),
    "null product": ({"products_to_showcase": [None]}, "no list of products"),
    "many products": ({"products_to_showcase": [NOBODY] * 501}, "no list of products"),
    "no such session": ({"created_session_id": NOBODY}, "is none of this influencer's"),
}


@own_db("counts or changes all that is there")
def test_nonsense_is_refused(world):
    row = world.schedule(scheduled_end_time=None, scheduled_date="2030-01-07")
    for columns, words in NONSENSE.values():
        with refused("23514", words, hint=True):
            world.schedule(**columns)
        with refused("23514", words, hint=True):
            world.influencer.api.update("live_stream_schedule", columns, where={"id": row["id"]}, one=True)
    assert world.anon.select("live_stream_schedule") == [row]


@pytest.mark.parametrize("column", ["title", "scheduled_date", "scheduled_start_time", "influencer_id"])
def test_what_is_missing_is_named(world, column):
    with refused("23502", f"{column} must not be null", hint=True):
        world.schedule(**{column: None})


def test_a_custom_schedule_needs_a_rule(world):
    row = world.schedule()
    custom = {"is_recurring": True, "recurrence_pattern": "custom"}
    with refused("23514", "the custom schedule has no recurrence_rule", hint=True):
        world.schedule(**custom)
    with refused("23514", "the custom schedule has no recurrence_rule", hint=True):
        world.influencer.api.update("live_stream_schedule", custom, where={"id": row["id"]})


@own_db("counts or changes all that is there")
def test_malformed_values_change_nothing(world):
    for column, value in {
        "scheduled_date": "2030-02-30",
        "scheduled_start_time": "25:00",
        "days_of_week": "Monday",
        "products_to_showcase": ["not-a-uuid"],
        "expected_duration_minutes": 10**12,
        "recurrence_pattern": "yearly",
        "status": "maybe",
    }.items():
        with pytest.raises(RequestError) as caught:
            world.schedule(**{column: value})
        assert caught.value.sqlstate[:2] == "22" and caught.value.status == 400, caught.value
    assert world.db.value("select count(*) from public.live_stream_schedule") == 0


@own_db("counts or changes all that is there")
def test_the_tables_checks_hold_without_the_trigger(plain_db):
    world = people(plain_db)
    row = world.schedule()
    checks = {
        "title = ' '": "title",
        "title = repeat('x', 256)": "title",
        "description = repeat('x', 10001)": "texts",
        "scheduled_date = 'infinity'": "date",
        "scheduled_date = '0044-03-15 BC'": "date",
        "scheduled_start_time = '24:00'": "time",
        "scheduled_end_time = scheduled_start_time": "time",
        "timezone = ''": "timezone",
        "expected_duration_minutes = 0": "duration",
        "is_recurring = true": "recurrence",
        "is_recurring = true, recurrence_pattern = 'daily', recurrence_rule = 'FREQ=DAILY',"
        " recurrence_end_date = '2000-01-01'": "recurrence",
        "days_of_week = '{7}'": "days_of_week",
        "days_of_week = '{1,null}'": "days_of_week",
        "products_to_showcase = array[null::uuid]": "products",
    }
    with plain_db.connect() as connection:
        connection.execute("set session_replication_role = replica")
        for assignment, check in checks.items():
            with pytest.raises(psycopg.errors.CheckViolation) as caught:
                connection.execute(f"update public.live_stream_schedule set {assignment} where id = %s", [row["id"]])
            assert caught.value.diag.constraint_name == f"live_stream_schedule_{check}_check"


# Time zones.


@own_db("counts or changes all that is there")
def test_every_zone_of_the_server_is_taken(plain_db):
    world = people(plain_db)
    names = r"""select name from pg_timezone_names
                 where name !~ '^(posix|right)/' and name not in ('localtime', 'posixrules', 'Factory')"""
    plain_db.owner(
        f"""insert into public.live_stream_schedule
              (influencer_id, title, scheduled_date, scheduled_start_time, timezone)
            select %s, name, '2026-05-05', '10:00', upper(name) from ({names}) zones""",
        [world.influencer.influencer_id],
    )
    taken, changed = plain_db.sql(
        "select count(*), count(*) filter (where timezone <> title) as changed from public.live_stream_schedule"
    )[0].values()
    assert taken > 400 and changed == 0
    wrong = plain_db.sql(
        """select s.timezone, o.starts_at from public.live_stream_schedule s,
                  live_stream.occurrences(s.id, scheduled_date, scheduled_start_time, scheduled_end_time, timezone,
                    recurrence_rule, last_start, expected_duration_minutes, has_exceptions,
                    '2026-05-01', '2026-05-10') o
            where o.starts_at <> (timestamp '2026-05-05 10:00' at time zone s.timezone)
              -- `at time zone` prefers an abbreviation to a zone of the same name.
              and s.timezone not in (select abbrev from pg_timezone_abbrevs)"""
    )
    assert wrong == []


def test_a_zone_is_a_name(world):
    no_names = ["", " UTC", "CEST", "UTC+3", "GMT+3", "<+03>-3", "EST5EDT,M3.2.0,M11.1.0", "Etc/FOO-1", "localtime"]
    no_names += ["posix/Europe/Berlin", "right/Europe/Berlin", "../../../etc/passwd", "Europe", "Factory", "Z" * 10_000]
    for name in no_names:
        with refused("23514", f'time zone "{name[:100]}" is not known', hint=True):
            world.schedule(timezone=name)
    for given, stored in {"utc": "UTC", "est5edt": "EST5EDT", "etc/gmt+3": "Etc/GMT+3", "gmt": "GMT"}.items():
        assert world.schedule(timezone=given)["timezone"] == stored


ZONE_CASES = [
    # zone, date, start, end, starts_at, ends_at
    ("Europe/Berlin", "2026-03-29", "02:30", "03:30", "2026-03-29T01:30Z", "2026-03-29T02:30Z"),  # starts in the gap
    ("Europe/Berlin", "2026-03-29", "02:30", "05:00", "2026-03-29T01:30Z", "2026-03-29T03:00Z"),
    ("Europe/Berlin", "2026-03-29", "01:00", "02:30", "2026-03-29T00:00Z", "2026-03-29T01:30Z"),  # ends in it
    ("Europe/Berlin", "2026-03-28", "23:00", "04:00", "2026-03-28T22:00Z", "2026-03-29T02:00Z"),  # spans it
    ("Europe/Berlin", "2026-10-25", "02:30", "03:30", "2026-10-25T00:30Z", "2026-10-25T02:30Z"),  # the first 02:30
    ("Europe/Berlin", "2026-10-25", "01:30", "02:30", "2026-10-24T23:30Z", "2026-10-25T00:30Z"),
    ("America/New_York", "2026-03-08", "02:15", "04:00", "2026-03-08T07:15Z", "2026-03-08T08:00Z"),
    ("America/New_York", "2026-11-01", "01:15", "02:00", "2026-11-01T05:15Z", "2026-11-01T07:00Z"),
    ("Asia/Kolkata", "2026-06-01", "20:00", "21:00", "2026-06-01T14:30Z", "2026-06-01T15:30Z"),
    ("Australia/Lord_Howe", "2026-10-04", "02:15", "03:00", "2026-10-03T15:45Z", "2026-10-03T16:00Z"),  # half an hour
    ("Australia/Lord_Howe", "2026-04-05", "01:45", "02:00", "2026-04-04T14:45Z", "2026-04-04T15:30Z"),
    ("Pacific/Apia", "2011-12-29", "10:00", "11:00", "2011-12-29T20:00Z", "2011-12-29T21:00Z"),
    ("Pacific/Apia", "2011-12-30", "10:00", "11:00", "2011-12-30T20:00Z", "2011-12-30T21:00Z"),  # no such day
    ("UTC", "2026-06-01", "00:00", "24:00", "2026-06-01T00:00Z", "2026-06-02T00:00Z"),
    ("UTC", "2026-06-01", "10:00", "24:00", "2026-06-01T10:00Z", "2026-06-02T00:00Z"),
    ("UTC", "2026-06-01", "10:00", "00:00", "2026-06-01T10:00Z", "2026-06-02T00:00Z"),
    ("Pacific/Kiritimati", "9999-12-31", "10:00", "11:00", "9999-12-30T20:00Z", "9999-12-30T21:00Z"),
]


@pytest.mark.parametrize("zone, date, start, end, starts_at, ends_at", ZONE_CASES)
def test_wall_clock_times(plain_db, zone, date, start, end, starts_at, ends_at):
    world = people(plain_db)
    row = world.schedule(timezone=zone, scheduled_date=date, scheduled_start_time=start, scheduled_end_time=end)
    year = int(date[:4])
    listed = occurrences(world, row, f"{year}-01-01T00:00Z", f"{year}-12-31T23:59Z")
    assert [(at(one["starts_at"]), at(one["ends_at"])) for one in listed] == [(at(starts_at), at(ends_at))]


def test_a_daily_show_keeps_its_clock_time(world):
    row = world.schedule(
        timezone="Europe/Berlin",
        scheduled_date="2026-03-01",
        scheduled_start_time="18:00",
        scheduled_end_time="19:00",
        is_recurring=True,
        recurrence_pattern="daily",
    )
    expected = ["2026-03-28T17:00Z", "2026-03-29T16:00Z", "2026-03-30T16:00Z"]
    assert starts(world, row, "2026-03-28T12:00Z", "2026-03-31T00:00Z") == [at(text) for text in expected]


def test_a_skipped_day_is_no_second_show(world):
    row = world.schedule(
        timezone="Pacific/Apia",
        scheduled_date="2011-12-28",
        scheduled_start_time="10:00",
        scheduled_end_time="11:00",
        is_recurring=True,
        recurrence_pattern="daily",
    )
    expected = ["2011-12-28T20:00Z", "2011-12-29T20:00Z", "2011-12-30T20:00Z", "2011-12-31T20:00Z"]
    assert starts(world, row, "2011-12-28T00:00Z", "2012-01-01T00:00Z") == [at(text) for text in expected]
    assert starts(world, row, "2011-12-30T20:30Z", "2011-12-30T20:40Z") == [at("2011-12-30T20:00Z")]


def test_an_elapsed_length_is_not_the_clocks(world):
    night = {"timezone": "Europe/Berlin", "scheduled_date": "2026-03-29", "scheduled_start_time": "01:30"}
    for minutes, ends_at in {None: "2026-03-29T01:30Z", 90: "2026-03-29T02:00Z"}.items():
        row = world.schedule(**night, scheduled_end_time=None, expected_duration_minutes=minutes)
        (one,) = occurrences(world, row, "2026-03-28T00:00Z", "2026-03-30T00:00Z")
        assert (at(one["starts_at"]), at(one["ends_at"])) == (at("2026-03-29T00:30Z"), at(ends_at))
