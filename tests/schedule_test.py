"""Schedules: what is refused, when they take place, what is upcoming, and who may do what."""

from __future__ import annotations

import time
import uuid
from datetime import datetime, timedelta, timezone

import psycopg
import pytest

from people import people
from postgrest import RequestError
from refusals import refused
from sizes import own_db

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


@own_db("counts all that is there")
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


@own_db("counts all that is there")
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


@own_db("counts all that is there")
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


# Ranges.


def test_a_range_takes_what_overlaps_it(world):
    row = world.schedule(
        scheduled_date="2026-05-01",
        scheduled_start_time="22:00",
        scheduled_end_time="02:00",
        is_recurring=True,
        recurrence_pattern="daily",
        recurrence_end_date="2026-05-03",
    )
    all_of_them = [at(f"2026-05-0{day}T22:00Z") for day in (1, 2, 3)]
    assert starts(world, row, "2026-04-01T00:00Z", "2026-06-01T00:00Z") == all_of_them
    assert starts(world, row, "2026-05-02T01:59:59Z", "2026-05-02T22:00Z") == all_of_them[:1]
    assert starts(world, row, "2026-05-02T02:00Z", "2026-05-02T22:00Z") == []
    assert starts(world, row, "2026-05-02T02:00Z", "2026-05-02T22:00:01Z") == all_of_them[1:2]
    assert starts(world, row, "2026-05-04T01:00Z", "2026-05-04T01:00Z") == []
    assert starts(world, row, "2026-05-04T01:00Z", "2027-05-04T01:00Z") == all_of_them[2:]


@pytest.mark.parametrize("zone, offset", [("Etc/GMT+12", -12), ("Pacific/Kiritimati", 14), ("Asia/Kolkata", 5.5)])
def test_a_range_is_the_same_in_every_zone(plain_db, zone, offset):
    world = people(plain_db)
    daily = {"is_recurring": True, "recurrence_pattern": "daily"}
    row = world.schedule(timezone=zone, scheduled_date="2026-05-01", **daily)
    first = at("2026-05-01T15:00Z") - timedelta(hours=offset)
    for day in range(3):
        start = first + timedelta(days=day)
        last_second = start + timedelta(minutes=59, seconds=59)
        assert starts(world, row, str(last_second), str(last_second + timedelta(seconds=1))) == [start]
        assert starts(world, row, str(start), str(start + timedelta(seconds=1))) == [start]
        assert starts(world, row, str(start - timedelta(hours=1)), str(start)) == []


def test_the_end_date_is_a_local_date(world):
    row = world.schedule(
        timezone="Pacific/Auckland",
        scheduled_date="2026-06-01",
        scheduled_start_time="08:00",
        scheduled_end_time="09:00",
        is_recurring=True,
        recurrence_pattern="daily",
        recurrence_end_date="2026-06-03",
    )
    expected = ["2026-05-31T20:00Z", "2026-06-01T20:00Z", "2026-06-02T20:00Z"]
    assert starts(world, row, "2026-01-01T00:00Z", "2027-01-01T00:00Z") == [at(text) for text in expected]


def test_ranges_without_sense_are_refused(world):
    row = world.schedule()
    year = "2026-01-01T00:00Z"
    for start, end, words in [
        (None, year, "null"),
        (year, None, "null"),
        ("-infinity", year, "infinite"),
        (year, "infinity", "infinite"),
        (year, "2025-12-31T23:59:59Z", "range_end is before range_start"),
    ]:
        with refused("22023", words, hint=True):
            occurrences(world, row, start, end)
    with refused("22023", "schedule_id must not be null", hint=True):
        occurrences(world, {"id": None}, year, year)
    with refused("PT404", f"schedule {NOBODY} does not exist", hint=True):
        occurrences(world, {"id": NOBODY}, year, year)


def test_no_range_runs_for_long(world):
    forever = {"is_recurring": True, "scheduled_date": "0001-01-01"}
    daily = world.schedule(**forever, recurrence_pattern="daily")
    began = time.monotonic()
    whole = ("4713-01-01 00:00:00+00 BC", "294276-01-01T00:00Z")
    with refused("22023", "too many occurrences", hint=True):
        occurrences(world, daily, *whole)
    assert starts(world, daily, "9999-12-31T00:00Z", whole[1]) == [at("9999-12-31T15:00Z")]
    assert starts(world, daily, whole[0], "0001-01-01T15:30Z") == [at("0001-01-01T15:00Z")]
    assert starts(world, daily, "294275-01-01T00:00Z", whole[1]) == []
    once = world.schedule()
    assert len(starts(world, once, *whole)) == 1
    assert time.monotonic() - began < 5


def test_a_statement_timeout_ends_it(plain_db):
    world = people(plain_db)
    world.schedule(is_recurring=True, recurrence_pattern="daily")
    with plain_db.connect() as connection:
        connection.execute("set statement_timeout = '200ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(
                """select count(*) from generate_series(1, 1000000), public.live_stream_schedule s,
                   lateral live_stream.occurrences(s.id, s.scheduled_date, s.scheduled_start_time, s.scheduled_end_time,
                     s.timezone, s.recurrence_rule, s.last_start, s.expected_duration_minutes, s.has_exceptions,
                     now(), now() + '200 years' + generate_series * interval '1 s')"""
            )


# What is upcoming.


def upcoming(world, **where):
    return world.anon.select("upcoming_streams", where=where, order="full_start_datetime")


def test_upcoming_has_every_column_and_the_influencer(world):
    row = world.schedule(products_to_showcase=[NOBODY], timezone="Europe/Berlin")
    (found,) = upcoming(world, influencer_id=world.influencer.influencer_id)
    assert {name: found[name] for name in row} == row
    extra = {name: found[name] for name in found.keys() - row.keys()}
    picture = "https://example.org/face.png" if world.db.is_supabase else None
    assert extra == {
        "display_name": "Ada",
        "followers_count": 7,
        "avatar_url": picture,
        "full_start_datetime": "2030-01-07T14:00:00+00:00",
        "full_end_datetime": "2030-01-07T15:00:00+00:00",
    }
    assert "private" not in str(found)


@own_db("counts all that is there")
def test_a_stream_is_upcoming_until_its_end(world):
    now = datetime.now(timezone.utc).replace(microsecond=0)
    on_now = world.schedule("on now", **clock(now - timedelta(minutes=30)), scheduled_end_time=None)
    world.schedule("over", **clock(now - timedelta(minutes=90)), scheduled_end_time=None)
    long = {"scheduled_end_time": None, "expected_duration_minutes": 10_080}
    marathon = world.schedule("on for a week", **clock(now - timedelta(days=6, hours=23)), **long)
    world.schedule("over since an hour", **clock(now - timedelta(days=7, hours=1)), **long)
    daily = {"is_recurring": True, "recurrence_pattern": "daily", "scheduled_end_time": None}
    again = world.schedule("again", **clock(now - timedelta(days=400, hours=2)), **daily)
    yesterday = f"{now - timedelta(days=1, hours=2):%Y-%m-%d}"
    world.schedule("ended", **clock(now - timedelta(days=400, hours=2)), **daily, recurrence_end_date=yesterday)
    found = upcoming(world)
    assert [row["title"] for row in found] == ["on for a week", "on now", "again"]
    assert at(found[0]["full_end_datetime"]) == now + timedelta(hours=1)
    assert at(found[1]["full_start_datetime"]) == now - timedelta(minutes=30)
    assert at(found[2]["full_start_datetime"]) == now + timedelta(hours=22)
    assert {marathon["id"], on_now["id"], again["id"]} == {row["id"] for row in found}


@own_db("counts all that is there")
def test_upcoming_is_scheduled_or_confirmed(world):
    rows = {status: world.schedule(status=status) for status in ("scheduled", "confirmed", "cancelled", "completed")}
    assert {row["id"] for row in upcoming(world)} == {rows["scheduled"]["id"], rows["confirmed"]["id"]}


@own_db("counts all that is there")
def test_one_row_per_schedule_soonest_first(world):
    other = world.new_influencer("Grace")
    weekly = {"is_recurring": True, "recurrence_pattern": "weekly"}
    world.schedule("third", scheduled_date="2030-01-09", **weekly)
    world.schedule("first", scheduled_date="2030-01-07", **weekly)
    world.schedule("second", by=other, scheduled_date="2030-01-08", **weekly)
    assert [row["title"] for row in upcoming(world)] == ["first", "second", "third"]
    assert [row["title"] for row in world.anon.rpc("live_stream_upcoming")] == ["first", "second", "third"]
    assert [row["title"] for row in world.anon.rpc_get("live_stream_upcoming", max_rows=1)] == ["first"]
    found = world.anon.rpc("live_stream_upcoming", influencer_id=other.influencer_id)
    assert [row["title"] for row in found] == ["second"]
    for count, listed in {-1: 0, 0: 0, 2: 2, 2_000_000_000: 3, None: 3}.items():
        assert len(world.anon.rpc("live_stream_upcoming", max_rows=count)) == listed


@own_db("counts all that is there")
def test_one_bad_row_does_not_hide_the_others(plain_db):
    world = people(plain_db)
    good, bad = world.schedule("good"), world.schedule("bad")
    with plain_db.connect() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update public.live_stream_schedule set timezone = 'Gone/Away' where id = %s", [bad["id"]])
    assert [row["id"] for row in upcoming(world)] == [good["id"]]
    with refused("22023", 'time zone "Gone/Away" is not known', hint=True):
        occurrences(world, bad, "2030-01-01T00:00Z", "2031-01-01T00:00Z")
    # It can still be cancelled: only what changes is checked against the server's zones.
    assert world.influencer.api.rpc("live_stream_schedule_cancel", schedule_id=bad["id"])["status"] == "cancelled"


def test_the_influencer_can_be_embedded(world):
    row = world.schedule()
    (found,) = world.anon.select(
        "live_stream_schedule", "id, influencer:influencers(display_name, followers_count)", where={"id": row["id"]}
    )
    assert found["influencer"] == {"display_name": "Ada", "followers_count": 7}


# Who may do what.


@own_db("counts all that is there")
def test_only_the_owner_writes(world):
    row = world.schedule()
    other = world.new_influencer("Grace")
    body = {"title": "Mine", "influencer_id": world.influencer.influencer_id} | clock(at("2030-01-01T10:00Z"))
    for person in (world.stranger, other):
        with refused("42501", "is not the caller's", hint=True):
            person.api.insert("live_stream_schedule", body)
        with refused("42501", "is not the caller's", hint=True):
            person.api.rpc("live_stream_schedule_create", body)
        with refused("42501", "this schedule is not the caller's", hint=True):
            person.api.rpc("live_stream_schedule_cancel", schedule_id=row["id"])
        assert person.api.update("live_stream_schedule", {"title": "x"}, where={"id": row["id"]}) == []
        assert person.api.delete("live_stream_schedule", where={"id": row["id"]}) == []
    with refused("42501", "the influencer of a schedule cannot be changed", hint=True):
        moved = {"influencer_id": other.influencer_id}
        world.influencer.api.update("live_stream_schedule", moved, where={"id": row["id"]})
    for write in (
        lambda: world.anon.insert("live_stream_schedule", body),
        lambda: world.anon.update("live_stream_schedule", {"title": "x"}, where={"id": row["id"]}),
        lambda: world.anon.delete("live_stream_schedule", where={"id": row["id"]}),
        lambda: world.anon.rpc("live_stream_schedule_create", body),
        lambda: world.anon.rpc("live_stream_schedule_cancel", schedule_id=row["id"]),
    ):
        with refused("42501", "permission denied"):
            write()
    assert world.anon.select("live_stream_schedule") == [row]


@own_db("has a trigger of the app's")
def test_row_level_security_holds_without_the_trigger(world):
    world.db.owner("alter table public.live_stream_schedule disable trigger live_stream_schedule_guard")
    row = world.schedule(days_of_week=[1], timezone="UTC")
    other = world.new_influencer("Grace")
    body = {"title": "Mine", "influencer_id": world.influencer.influencer_id} | clock(at("2030-01-01T10:00Z"))
    with refused("42501", "row-level security"):
        other.api.insert("live_stream_schedule", body)
    with refused("42501", "row-level security"):
        moved = {"influencer_id": other.influencer_id}
        world.influencer.api.update("live_stream_schedule", moved, where={"id": row["id"]})


def test_owner_and_service_write(world):
    row = world.schedule()
    for api in (world.influencer.api, world.service):
        changed = api.update("live_stream_schedule", {"is_promoted": True}, where={"id": row["id"]}, one=True)
        assert changed["is_promoted"] is True
    cancelled = world.influencer.api.rpc("live_stream_schedule_cancel", schedule_id=row["id"])
    assert (cancelled["id"], cancelled["status"]) == (row["id"], "cancelled")
    missing = str(uuid.uuid4())
    with refused("PT404", f"schedule {missing} does not exist", hint=True):
        world.influencer.api.rpc("live_stream_schedule_cancel", schedule_id=missing)
    assert len(world.influencer.api.delete("live_stream_schedule", where={"id": row["id"]})) == 1


def test_a_person_without_influencer_is_told_so(world):
    body = {"title": "Mine"} | clock(at("2030-01-01T10:00Z"))
    with refused("23502", "influencer_id must not be null", hint=True):
        world.stranger.api.rpc("live_stream_schedule_create", body)


@own_db("counts all that is there")
def test_the_session_of_a_schedule_is_its_influencers(world):
    other = world.new_influencer("Grace")
    mine = world.session(live=False)
    theirs = [world.session(live=False, by=other, visibility=kind) for kind in ("public", "private")]
    for session in theirs:
        with refused("23514", "is none of this influencer's", hint=True):
            world.schedule(created_session_id=session["id"])
    row = world.schedule(created_session_id=mine["id"])
    assert row["created_session_id"] == mine["id"]
    world.db.owner("delete from public.live_stream_sessions where id = %s", [mine["id"]])
    assert world.anon.select("live_stream_schedule", "created_session_id") == [{"created_session_id": None}]


@own_db("counts all that is there")
def test_schedules_go_with_their_influencer(world):
    world.schedule()
    world.db.owner("delete from public.influencers where id = %s", [world.influencer.influencer_id])
    assert world.anon.select("live_stream_schedule") == []


@own_db("alters policies")
def test_the_engines_functions_show_no_rows(world):
    world.db.owner("create policy hidden on public.live_stream_schedule as restrictive using (title <> 'hidden')")
    row = world.schedule("shown")
    world.db.sql("update public.live_stream_schedule set title = 'hidden'")
    assert upcoming(world) == [] and world.anon.rpc("live_stream_upcoming") == []
    with refused("PT404", "does not exist"):
        occurrences(world, row, "2030-01-01T00:00Z", "2031-01-01T00:00Z")
    with refused("PT404", "does not exist"):
        world.influencer.api.rpc("live_stream_schedule_cancel", schedule_id=row["id"])
