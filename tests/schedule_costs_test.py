"""What lists of many schedules read and do: the exceptions of their time alone, and of each influencer a share."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone

import pytest

from people import people
from scheduling import at, listed_occurrences
from sizes import own_db

NOW = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)


def put(db, influencer, count=1, rule="FREQ=DAILY", minutes=60, title="evil", description=None):
    """Schedules as the owner of the tables may bring them, begun two days ago; their ids."""
    rows = db.owner(
        """insert into public.live_stream_schedule
             (influencer_id, title, description, scheduled_date, scheduled_start_time, recurrence_rule, expected_duration_minutes)
           select %s, %s, %s, %s, %s, %s, %s from generate_series(1, %s) returning id""",
        [influencer.influencer_id, title, description, (NOW - timedelta(days=2)).date(), f"{NOW:%H:%M}", rule, minutes, count],
    )
    return [row["id"] for row in rows]


def except_(db, schedules, count, step, first=NOW, kind="skip", title=None):
    """Exceptions beyond every quota, in UTC."""
    db.sql("set session_replication_role = replica")
    db.sql(
        """insert into public.live_stream_schedule_exceptions (schedule_id, original_starts_at, original_local_start, kind, title)
           select s, t, t at time zone 'UTC', %s::public.live_stream_exception, %s
             from unnest(%s::uuid[]) s, generate_series(0, %s - 1) n, lateral (select %s + n * %s::interval as t) t""",
        [kind, title, schedules, count, first, step],
    )
    db.sql("update public.live_stream_schedule set has_exceptions = true where id = any (%s)", [schedules])
    db.sql("reset session_replication_role")
    db.sql("analyze public.live_stream_schedule_exceptions")


def rows_read(db, query, params=(), role="anon"):
    """The answer, and how many rows of exceptions were read for it."""
    with db.connect("authenticator" if role == "anon" else "app_owner") as connection, connection.transaction():
        if role == "anon":
            connection.execute("set local role anon")
        answer = connection.execute(query, params).fetchall()
        read = connection.execute(
            """select coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) as read from pg_stat_xact_user_tables
                where relid = 'public.live_stream_schedule_exceptions'::regclass"""
        )
        return answer, read.fetchone()["read"]


READERS = {
    "upcoming": ("select * from public.live_stream_upcoming()", 40),
    "calendar": ("select * from public.live_stream_calendar(now(), now() + '7 days')", 50),
    "occurrences": ("select * from public.live_stream_occurrences(%s, now(), now() + '7 days')", 25),
}


@own_db("has exceptions beyond the quotas")
@pytest.mark.parametrize("reader", READERS)
def test_readers_read_the_exceptions_of_their_time(plain_db, reader):
    world = people(plain_db)
    (schedule,) = put(plain_db, world.influencer)
    except_(plain_db, [schedule], 2_000, "2 days", NOW - timedelta(days=2_000))
    except_(plain_db, put(plain_db, world.influencer), 2_000, "2 days", NOW - timedelta(days=9_000))
    query, most = READERS[reader]
    _, read = rows_read(plain_db, query, [schedule] * query.count("%s"))
    assert 3 <= read <= most, read


@own_db("has exceptions beyond the quotas")
def test_the_feed_reads_those_of_a_year_ago_and_later(plain_db):
    world = people(plain_db)
    except_(plain_db, put(plain_db, world.influencer), 4_000, "1 day", NOW - timedelta(days=3_990))
    (row,), read = rows_read(plain_db, "select live_stream_calendar_feed(%s) as ics", [world.influencer.influencer_id])
    assert row["ics"].count("EXDATE") == read and 400 <= read <= 425


@own_db("has exceptions beyond the quotas")
def test_making_sessions_reads_those_of_eight_days(plain_db):
    """Also to let follow those that are made."""
    world = people(plain_db)
    # The first is on for some hours, as `NOW` is of when the tests began.
    schedules = put(plain_db, world.influencer, 20, minutes=240)
    except_(plain_db, schedules, 1_000, "1 day", NOW + timedelta(days=4))
    for _ in range(2):
        _, read = rows_read(plain_db, "select live_stream.run_schedules()", role="owner")
        # All have 20,000. Eight schedules' are read at once, and again where the time was up meanwhile.
        assert 20 * 4 <= read <= 8 * 20 * 8, read
        plain_db.sql("update live_stream.schedule_turns set began_at = began_at - interval '1 minute'")
    assert plain_db.value("select count(*) from public.live_stream_schedule_sessions") in (20 * 4, 20 * 5)


def test_what_is_moved_into_a_time_and_out_of_it_and_lasts_until_it(world):
    """By every reader, in windows of all sizes: as one long list has it."""
    chance = random.Random(7)
    for rule, zone, length in (("FREQ=DAILY", "Asia/Kolkata", 60), ("FREQ=HOURLY;INTERVAL=7", "UTC", 10_080), ("FREQ=WEEKLY", "Pacific/Apia", 90)):
        whose = world.new_influencer()
        row = world.schedule(
            by=whose, recurrence_rule=rule, timezone=zone, scheduled_date="2030-01-01", scheduled_end_time=None, expected_duration_minutes=length
        )
        begin = at("2030-01-01T00:00Z")
        rpc = whose.api.rpc
        usual = [one["original_starts_at"] for one in listed_occurrences(world, row, begin, begin + timedelta(days=120))]
        for original in chance.sample(usual, min(40, len(usual) - 2)):
            of = {"schedule_id": row["id"], "original_starts_at": original}
            start = begin + timedelta(hours=chance.randrange(100 * 24), minutes=1)
            match chance.randrange(4):
                case 0:
                    rpc("live_stream_skip_occurrence", **of)
                case 1:
                    rpc("live_stream_move_occurrence", **of, starts_at=str(start))
                case 2:
                    end = start + timedelta(minutes=chance.choice([5, 600, 10_080]))
                    rpc("live_stream_move_occurrence", **of, starts_at=str(start), ends_at=str(end))
                case 3:
                    rpc("live_stream_add_occurrence", schedule_id=row["id"], starts_at=str(start + timedelta(seconds=chance.randrange(50))))
        whole = listed_occurrences(world, row, begin, begin + timedelta(days=200))
        for _ in range(60):
            start = begin + timedelta(hours=chance.randrange(100 * 24))
            end = start + timedelta(hours=chance.choice([1, 30, 400]))
            expected = [one for one in whole if at(one["ends_at"]) > start and at(one["starts_at"]) < end]
            assert listed_occurrences(world, row, start, end) == expected
            shown = world.anon.rpc("live_stream_calendar", range_start=str(start), range_end=str(end), influencer_id=whose.influencer_id, max_rows=1_000)
            places = lambda rows: sorted((one["starts_at"], one["ends_at"], one["original_starts_at"]) for one in rows)  # noqa: E731
            assert places(shown) == places(one for one in expected if one["status"] != "cancelled")


@own_db("has exceptions beyond the quotas")
def test_the_next_one_after_many_that_are_skipped_or_moved(plain_db):
    """Exceptions are read a page at a time until something takes place."""
    world = people(plain_db)
    for skipped in (1, 15, 16, 17, 128, 1_100):
        (schedule,) = put(plain_db, world.influencer, rule="FREQ=MINUTELY;INTERVAL=10", minutes=5)
        except_(plain_db, [schedule], skipped, "10 minutes")
        expected = plain_db.sql(
            """select starts_at from public.live_stream_occurrences(%s, now(), now() + '20 days')
                where status <> 'cancelled' order by starts_at limit 1""", [schedule]
        )  # fmt: skip
        (found,) = plain_db.sql("select full_start_datetime as starts_at from public.upcoming_streams where id = %s", [schedule])
        assert [found] == expected, skipped
    # The first one that takes place is one that was moved there from far away, and then there is none at all.
    plain_db.set(exceptions_per_schedule=0)
    (schedule,) = put(plain_db, world.influencer, rule="FREQ=DAILY;COUNT=1200")
    except_(plain_db, [schedule], 1_190, "1 day")
    last = NOW + timedelta(days=1_195)
    moved = NOW + timedelta(days=3, minutes=7)
    move = "select live_stream_move_occurrence(%s, %s, %s)"
    with plain_db.connect("authenticator") as connection, connection.transaction():
        connection.execute("set local role authenticated")
        connection.execute("select set_config('request.jwt.claims', %s, true)", [f'{{"sub": "{world.influencer.user_id}", "role": "authenticated"}}'])
        connection.execute(move, [schedule, last, moved])
    (found,) = plain_db.sql("select full_start_datetime as starts_at from public.upcoming_streams where id = %s", [schedule])
    assert found["starts_at"] == moved
    plain_db.owner("delete from public.live_stream_schedule_exceptions where original_starts_at = %s", [last])
    except_(plain_db, [schedule], 10, "1 day", NOW + timedelta(days=1_190))
    assert plain_db.sql("select from public.upcoming_streams where id = %s", [schedule]) == []


OF_ALL = {
    "upcoming": "select influencer_id::text as of, title from public.live_stream_upcoming(max_rows => 1000)",
    "calendar": "select influencer::text as of, title from public.live_stream_calendar(now(), now() + '7 days', max_rows => 1000)",
}


@own_db("has exceptions beyond the quotas")
@pytest.mark.parametrize("reader", OF_ALL)
def test_too_many_exceptions_are_their_influencers_own_affair(plain_db, reader):
    """All within the time, and more than any quota lets in: of each a share is read, and others are listed as ever."""
    world = people(plain_db)
    bad = [world.new_influencer() for _ in range(2)]
    for one in bad:
        except_(plain_db, put(plain_db, one, 120, "FREQ=MINUTELY", minutes=1), 1_000, "1 minute", NOW - timedelta(minutes=30))
        put(plain_db, one, title="without any", minutes=120)
    (schedule,) = put(plain_db, world.influencer, title="good", minutes=120)
    except_(plain_db, [schedule], 5, "1 day", NOW + timedelta(days=1))
    found, read = rows_read(plain_db, OF_ALL[reader])
    assert read <= 2 * 50_000 + 100, read
    titles = {(row["of"], row["title"]) for row in found}
    assert (world.influencer.influencer_id, "good") in titles
    if reader == "calendar":
        assert titles == {(world.influencer.influencer_id, "good")} | {(one.influencer_id, "without any") for one in bad}


@own_db("counts all that is there")
def test_dear_rules_are_their_influencers_own_affair(plain_db):
    """Shows of a week that begin every second: what began before a page of the calendar would take for ever to pass by."""
    world = people(plain_db)
    put(plain_db, world.new_influencer(), 300, "FREQ=SECONDLY", minutes=10_080)
    put(plain_db, world.influencer, title="good", minutes=60, rule="FREQ=HOURLY;BYMINUTE=0,30")
    page = "select title from public.live_stream_calendar(now(), now() + '7 days', max_rows => 1000, after_starts_at => now())"
    found, _ = rows_read(plain_db, page)
    assert [row["title"] for row in found].count("good") == 2 * 24 * 7
    found, _ = rows_read(plain_db, "select title from public.upcoming_streams where title = 'good'")
    assert len(found) == 1


@own_db("counts all that is there")
def test_a_share_is_that_of_one_query(plain_db):
    """Not of a connection: what one has spent, the next one has again."""
    world = people(plain_db)
    times = ";BYHOUR={};BYMINUTE={};BYSECOND={}".format(*(",".join(map(str, range(most))) for most in (24, 60, 60)))
    put(plain_db, world.influencer, 300, "FREQ=YEARLY;BYMONTH=1,2,3,4,5,6,7,8,9,10,11,12" + times, minutes=1)
    counts = set()
    with plain_db.connect("authenticator") as connection:
        connection.execute("set role anon")
        for _ in range(3):
            counts.add(connection.execute("select count(*) as n from public.upcoming_streams").fetchone()["n"])
        twice = "select (select count(*) from public.upcoming_streams) + (select count(*) from public.upcoming_streams) as n"
        assert counts == {connection.execute(twice).fetchone()["n"] // 2}
    (count,) = counts
    assert 100 < count < 300, "some hundred of these are a share"


@own_db("has exceptions beyond the quotas")
def test_the_feed_is_ten_megabytes_at_most(plain_db):
    """Each occurrence that is different has the whole description."""
    world = people(plain_db)
    put(plain_db, world.influencer, title="good")
    plain_db.owner("update public.live_stream_schedule set scheduled_date = scheduled_date - 1")
    retitled = {"kind": "move", "title": "Another"}
    for _ in range(3):
        except_(plain_db, put(plain_db, world.influencer, description="x" * 10_000), 450, "1 day", **retitled)
    (row,), _ = rows_read(plain_db, "select live_stream_calendar_feed(%s) as ics", [world.influencer.influencer_id])
    assert 9_000_000 < len(row["ics"]) < 10_100_000
    assert row["ics"].endswith("END:VCALENDAR\r\n") and row["ics"].count("BEGIN:VEVENT") == row["ics"].count("END:VEVENT")
    assert "SUMMARY:good" in row["ics"] and len(set(line for line in row["ics"].splitlines() if line.startswith("UID"))) == 3
