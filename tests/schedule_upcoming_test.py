"""What a schedule yields in a range of time, what is upcoming, and who may do what."""

from __future__ import annotations

import time
import uuid
from datetime import datetime, timedelta, timezone

import psycopg
import pytest

from people import people
from refusals import refused
from scheduling import NOBODY, at, clock, occurrences, starts
from sizes import own_db


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


@own_db("counts or changes all that is there")
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


@own_db("counts or changes all that is there")
def test_upcoming_is_scheduled_or_confirmed(world):
    rows = {status: world.schedule(status=status) for status in ("scheduled", "confirmed", "cancelled", "completed")}
    assert {row["id"] for row in upcoming(world)} == {rows["scheduled"]["id"], rows["confirmed"]["id"]}


@own_db("counts or changes all that is there")
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


@own_db("counts or changes all that is there")
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


@own_db("counts or changes all that is there")
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


@own_db("counts or changes all that is there")
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


@own_db("counts or changes all that is there")
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
