"""What the host does with a session that was made for an occurrence is the occurrence's as well: whoever looks at upcoming
streams, the calendar or the feed is told of it. Each against python's icalendar and recurring_ical_events."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import icalendar
import pytest
import recurring_ical_events

from calendars import feed_text, utc
from people import people
from putting import agree, daily, ids, made, make, moments, put, show, this_minute
from scheduling import at
from sizes import own_db
from steps import Steps

pytestmark = own_db("counts or changes all that is there")

HOUR = timedelta(hours=1)


def announced(world, days=5, api=None):
    """Begin and end of what is to come within so many days: all lists of a guest agree."""
    api, begin, end = api or world.anon, datetime.now(timezone.utc), this_minute() + timedelta(days=days)
    dates = api.rpc("live_stream_calendar", range_start=str(begin), range_end=str(end), max_rows=1000)
    listed = [(at(one["starts_at"]), at(one["ends_at"])) for one in dates]
    calendar = icalendar.Calendar.from_ical(feed_text(world, api))
    events = recurring_ical_events.of(calendar).between(begin, end)
    assert sorted((utc(one["DTSTART"].dt), utc(one["DTEND"].dt)) for one in events) == listed, "calendar and feed"
    return listed


def next_of(world, row):
    upcoming = world.anon.select("upcoming_streams", where={"id": row["id"]})
    return [at(one["full_start_datetime"]) for one in upcoming]


def exceptions(world, row):
    kept = world.anon.select("live_stream_schedule_exceptions", where={"schedule_id": row["id"]}, order="original_starts_at")
    return [(one["kind"], at(one["original_starts_at"])) for one in kept]


def statuses(world, row, days=4):
    listed = world.anon.rpc("live_stream_occurrences", schedule_id=row["id"], range_start=str(datetime.now(timezone.utc)), range_end=str(this_minute() + timedelta(days=days, hours=1)))  # fmt: skip
    return [one["status"] for one in listed]


def cancel(world, session, who):
    host, where = world.influencer.api, {"id": session["id"]}
    if who == "rpc":
        host.rpc("live_stream_cancel", session_id=session["id"])
    elif who == "upsert":
        host.upsert("live_stream_sessions", where | {name: session[name] for name in ("influencer_id", "title")} | {"status": "cancelled"})
    elif who == "sql":
        world.db.owner("update public.live_stream_sessions set status = 'cancelled' where id = %s", [session["id"]])
    elif who == "deleted by the server":
        world.service.delete("live_stream_sessions", where=where)
    elif who == "deleted":
        host.delete("live_stream_sessions", where=where)
    else:
        (world.service if who == "service" else host).update("live_stream_sessions", {"status": "cancelled"}, where=where)


WAYS = ["rpc", "host", "service", "upsert", "sql", "deleted", "deleted by the server"]


@pytest.mark.parametrize("who", WAYS)
def test_a_session_that_is_called_off_is_an_occurrence_that_is(supabase_db, who):
    world = people(supabase_db)
    row = daily(world)
    make(world)
    times = moments(row, 5)
    _, second, *_ = world.influencer.api.select("live_stream_sessions", order="scheduled_start_time")
    cancel(world, second, who)
    assert announced(world) == [(start, start + HOUR) for nth, start in enumerate(times) if nth != 1][: len(announced(world))]
    assert statuses(world, row) == ["scheduled", "cancelled", "scheduled", "scheduled"]
    assert exceptions(world, row) == [("skip", times[1])]
    assert make(world) == 0, "no other is made"
    agree(world, row)
    # It takes place after all: by another session, as where the occurrence was skipped.
    world.influencer.api.rpc("live_stream_restore_occurrence", schedule_id=row["id"], original_starts_at=str(times[1]))
    assert make(world) == 1 and second["id"] not in ids(world, row)
    agree(world, row)


@pytest.mark.parametrize("who", ["rpc", "deleted"])
def test_the_next_one_and_the_only_one(world, who):
    row = daily(world)
    once = show(world, 2000, "Once")
    make(world)
    next_one, follower = made(world, row)[:2]
    (only,) = made(world, once)
    cancel(world, next_one, who), cancel(world, only, who)
    assert next_of(world, row) == [moments(row, 2)[1]] and next_of(world, once) == []
    (named,) = world.anon.select("live_stream_schedule", where={"id": row["id"]})
    assert named["created_session_id"] == follower["id"] and named["sequence"] > row["sequence"]
    assert moments(once, 1)[0] not in [start for start, _ in announced(world)]


def test_it_is_not_announced_to_guests_of_a_hidden_session_either(world):
    row = daily(world)
    make(world)
    first = made(world, row)[0]
    world.set_session(first, visibility="private")
    world.set_session(first, status="cancelled")
    assert next_of(world, row) == [moments(row, 2)[1]]
    assert moments(row, 1)[0] not in [start for start, _ in announced(world)]


def test_what_is_over_stays_as_it_was(world):
    """History grows by nothing."""
    row = daily(world, -90)
    world.db.owner("update public.live_stream_schedule set expected_duration_minutes = 120")
    make(world)
    first = made(world, row)[0]
    world.db.owner("update public.live_stream_schedule set expected_duration_minutes = 60")
    for status in ("cancelled", None):
        cancel(world, first, "host") if status else cancel(world, first, "deleted")
    assert exceptions(world, row) == []


# Shows that are over before the clock says so.


def test_a_show_that_has_ended_is_not_to_come(world):
    row = daily(world, -20)
    make(world)
    first = made(world, row)[0]
    times = moments(row, 3)
    world.start(first)
    assert next_of(world, row) == [times[0]]
    world.pause(first)
    assert next_of(world, row) == [times[0]]
    world.end(first)
    assert next_of(world, row) == [times[1]]
    assert exceptions(world, row) == [], "of years of shows none is an exception"
    (upcoming,) = world.anon.rpc("live_stream_upcoming")
    assert at(upcoming["full_start_datetime"]) == times[1] and upcoming["ended_starts_at"] != []
    # A client has no say in that.
    world.influencer.api.update("live_stream_schedule", {"ended_starts_at": []}, where={"id": row["id"]})
    assert next_of(world, row) == [times[1]]
    # What it is put to is over as well.
    row = put(world, row, minutes=30)
    assert next_of(world, row) == [moments(row, 2)[1]] and make(world) == 0
    assert next_of(world, row) == [moments(row, 2)[1]]


def test_a_show_that_was_on_before_its_time(world):
    """Nobody comes at the time that was planned: it took place."""
    row, once = daily(world, 90), show(world, 200, "Once")
    make(world)
    times = moments(row, 3)
    for session in (made(world, row)[0], made(world, once)[0]):
        world.start(session), world.end(session)
    assert next_of(world, row) == [times[1]] and next_of(world, once) == []
    assert times[0] not in [start for start, _ in announced(world)]
    assert make(world) == 0
    (moved,) = world.anon.select("live_stream_schedule_exceptions", where={"schedule_id": row["id"]})
    assert moved["kind"] == "move" and at(moved["starts_at"]) < at(moved["ends_at"]) <= datetime.now(timezone.utc)
    row = put(world, row, minutes=10)
    assert next_of(world, row) == [moments(row, 2)[1]]


def test_a_failure_is_not_the_end(world):
    row = daily(world, -20)
    make(world)
    first = made(world, row)[0]
    world.start(first)
    world.set_session(first, status="error")
    assert next_of(world, row) == [moments(row, 1)[0]] and exceptions(world, row) == []


def test_a_split_knows_what_has_ended(world):
    row = daily(world, -20 - 1440)
    make(world)
    on_now = made(world, row)[0]
    world.start(on_now), world.end(on_now)
    times = moments(row, 2)
    later = world.influencer.api.rpc("live_stream_schedule_split", schedule_id=row["id"], original_starts_at=str(times[0]))
    assert next_of(world, row) == [] and next_of(world, later) == [times[1]]


# Sessions with a time of their own.


@pytest.mark.parametrize("who", ["host", "service", "upsert"])
def test_a_session_that_the_host_moves_is_an_occurrence_that_is_moved(world, who):
    row = daily(world)
    make(world)
    first, second = world.influencer.api.select("live_stream_sessions", order="scheduled_start_time")[:2]
    times = moments(row, 5)
    start, end = times[0] + timedelta(hours=3), times[0] + timedelta(hours=5)
    columns = {"scheduled_start_time": str(start), "scheduled_end_time": str(end)}
    if who == "upsert":
        world.influencer.api.upsert("live_stream_sessions", {name: first[name] for name in ("id", "influencer_id", "title")} | columns)
    else:
        (world.service if who == "service" else world.influencer.api).update("live_stream_sessions", columns, where={"id": first["id"]})
    assert announced(world)[0] == (start, end) and next_of(world, row) == [start]
    assert exceptions(world, row) == [("move", times[0])]
    assert make(world) == 0
    agree(world, row)
    # Another end alone, or none.
    world.set_session(second, scheduled_end_time=str(times[1] + 2 * HOUR))
    assert announced(world)[1] == (times[1], times[1] + 2 * HOUR)
    world.set_session(second, scheduled_start_time=str(times[1] - HOUR), scheduled_end_time=None)
    assert announced(world)[1] == (times[1] - HOUR, times[1])
    sequence = world.anon.select("live_stream_schedule", one=True)["sequence"]
    assert make(world) == make(world) == 0
    assert world.anon.select("live_stream_schedule", one=True)["sequence"] == sequence, "said once"
    # Back, and nothing is different any more.
    for session, start in ((first, times[0]), (second, times[1])):
        world.set_session(session, scheduled_start_time=str(start), scheduled_end_time=str(start + HOUR))
    assert exceptions(world, row) == [] and world.anon.select("live_stream_schedule", one=True)["has_exceptions"] is False
    agree(world, row)


def test_it_keeps_its_title_and_an_added_one_is_added(world):
    row = daily(world)
    times, host = moments(row, 5), world.influencer.api
    host.rpc("live_stream_move_occurrence", schedule_id=row["id"], original_starts_at=str(times[0]), title="Special")
    added = times[0] + timedelta(hours=5)
    host.rpc("live_stream_add_occurrence", schedule_id=row["id"], starts_at=str(added), title="More")
    make(world)
    first, more = made(world, row)[:2]
    for session, start in ((first, times[0] - HOUR), (more, added + HOUR)):
        world.set_session(session, scheduled_start_time=str(start), scheduled_end_time=str(start + HOUR))
    dates = world.anon.rpc("live_stream_calendar", range_start=str(this_minute()), range_end=str(times[0] + timedelta(hours=9)))
    assert [(one["title"], at(one["starts_at"])) for one in dates] == [("Special", times[0] - HOUR), ("More", added + HOUR)]
    assert exceptions(world, row) == [("move", times[0]), ("add", added)]
    cancel(world, more, "rpc"), cancel(world, first, "rpc")
    assert next_of(world, row) == [times[1]] and announced(world)[0][0] == times[1]
    agree(world, row)


def test_a_show_that_nobody_began_is_moved_to_later(world):
    row = show(world, -30)
    make(world)
    (session,) = made(world, row)
    later = this_minute() + timedelta(hours=7)
    world.db.owner("update public.live_stream_schedule_sessions set starts_at = starts_at - interval '1 day', ends_at = ends_at - interval '1 day'")
    world.set_session(session, scheduled_start_time=str(later), scheduled_end_time=str(later + HOUR))
    assert next_of(world, row) == [later] and announced(world) == [(later, later + HOUR)]


def test_times_that_no_schedule_has(world):
    row = daily(world)
    make(world)
    first = made(world, row)[0]
    world.set_session(first, scheduled_start_time=None, scheduled_end_time=None)
    for start in ("0044-03-15 BC", "20000-01-01T00:00Z"):
        world.set_session(first, scheduled_start_time=start)
    assert exceptions(world, row) == [] and next_of(world, row) == [moments(row, 1)[0]]
    start = moments(row, 1)[0] + HOUR
    world.set_session(first, scheduled_start_time=str(start), scheduled_end_time=str(start + timedelta(days=300)))
    assert next_of(world, row) == [start]


# What the schedule does with its sessions by itself.


def test_what_follows_its_schedule_says_nothing_of_it(world):
    row = daily(world)
    make(world)
    host, times = world.influencer.api, moments(row, 4)
    host.rpc("live_stream_skip_occurrence", schedule_id=row["id"], original_starts_at=str(times[0]))
    host.rpc("live_stream_move_occurrence", schedule_id=row["id"], original_starts_at=str(times[1]), starts_at=str(times[1] + HOUR))
    row = put(world, row, minutes=7)
    times = moments(row, 4)
    assert exceptions(world, row) == [("skip", times[0]), ("move", times[1])]
    host.update("live_stream_schedule", {"recurrence_rule": "FREQ=DAILY;COUNT=2"}, where={"id": row["id"]})
    host.rpc("live_stream_schedule_cancel", schedule_id=row["id"])
    assert ids(world, row) == [] and exceptions(world, row) == [("skip", times[0]), ("move", times[1])]


@pytest.mark.parametrize("who", ["rpc", "deleted"])
def test_the_nth_is_still_the_nth(world, who):
    row = daily(world)
    make(world)
    first, second, third, fourth = made(world, row)
    cancel(world, second, who), cancel(world, fourth, who)
    world.set_session(third, scheduled_start_time=str(third["start"] + HOUR), scheduled_end_time=str(third["start"] + 2 * HOUR))
    for by in ({"minutes": 30}, {"days": 1, "hours": -1}, {"days": -1}):
        row = put(world, row, **by)
        new = moments(row, 5)
        assert {one["id"]: one["start"] for one in made(world, row)} == {first["id"]: new[0], third["id"]: third["start"] + HOUR}
        assert exceptions(world, row) == [("skip", new[1]), ("move", new[2]), ("skip", new[3])]
        assert make(world) == 0
    agree(world, row)


# Many at once, undone, beside others.


def test_one_statement_on_many(world):
    rows = [daily(world, 60 * nth, title=f"Show {nth}") for nth in range(24, 28)]
    make(world)
    count = {row["id"]: len(ids(world, row)) for row in rows}
    before = {one["id"]: one["sequence"] for one in world.anon.select("live_stream_schedule")}
    world.influencer.api.update("live_stream_sessions", {"status": "cancelled"}, where={"status": "scheduled"})
    assert announced(world, 3) == []
    after = {one["id"]: one["sequence"] for one in world.anon.select("live_stream_schedule")}
    assert all(after[row["id"]] == before[row["id"]] + 1 for row in rows), "each schedule is changed once"
    for row in rows:
        assert next_of(world, row) == [moments(row, 9)[count[row["id"]]]]


def test_undone(plain_db):
    world = people(plain_db)
    row = daily(world)
    make(world)
    first, second, third, *_ = ids(world, row)
    with Steps(plain_db) as steps:
        host = steps.client(world.influencer)
        host.run("savepoint here")
        host.run("update public.live_stream_sessions set status = 'cancelled' where id = %s", [first])
        host.run("delete from public.live_stream_sessions where id = %s", [second])
        host.run("rollback to here")
        host.run("select live_stream_cancel(%s)", [third])
        host.commit()
    assert exceptions(world, row) == [("skip", moments(row, 3)[2])]
    assert len(ids(world, row)) == 3
    agree(world, row)


@pytest.mark.parametrize("what", ["status = 'cancelled'", "scheduled_start_time = scheduled_start_time + interval '20 minutes'", "status = 'ended'"])
@pytest.mark.parametrize("next_one", ["host", "server"])
def test_a_schedule_that_somebody_has_is_not_waited_for(plain_db, what, next_one):
    """Whoever has it may be waiting for the session. Who looks at it next says what was done."""
    world = people(plain_db)
    row = daily(world, -20)
    make(world)
    first = made(world, row)[0]
    if "ended" in what:
        world.start(first)
    with Steps(plain_db) as steps:
        other, host = steps.client(world.influencer), steps.client(world.influencer)
        other.run("update public.live_stream_schedule set target_audience = 'all' where id = %s", [row["id"]])
        host.run("set lock_timeout = '2s'")
        host.run(f"update public.live_stream_sessions set {what} where id = %s", [first["id"]])
        host.commit()
        if next_one == "host":
            other.run("update public.live_stream_schedule set title = 'New' where id = %s", [row["id"]])
        other.commit()
    if next_one == "server" or "ended" in what:
        assert make(world) == 0, "no other is made"
    assert next_of(world, row) == [moments(row, 1)[0] + timedelta(minutes=20) if "interval" in what else moments(row, 2)[1]]


@pytest.mark.parametrize("first", ["deletion", "change"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_session_that_is_deleted_while_its_schedule_is_put_later(plain_db, first, end):
    """One after the other, and none is made anew."""
    world = people(plain_db)
    row = daily(world)
    make(world)
    before = ids(world, row)
    delete = "delete from public.live_stream_sessions where id = %s", [before[1]]
    later = "update public.live_stream_schedule set scheduled_start_time = scheduled_start_time + interval '7 minutes'", []
    with Steps(plain_db) as steps:
        one, two = steps.client(world.influencer), steps.client(world.influencer)
        one.run(*(delete if first == "deletion" else later))
        waiting = two.start(*(later if first == "deletion" else delete))
        two.waits()
        getattr(one, end)()
        waiting.result()
    make(world)
    row = world.influencer.api.select("live_stream_schedule", one=True)
    is_deleted = (first, end) != ("deletion", "rollback")
    assert ids(world, row) == [one for one in before if one != before[1] or not is_deleted]
    assert [one["start"] for one in made(world, row)] == [start for nth, start in enumerate(moments(row, 4)) if nth != 1 or not is_deleted]
    agree(world, row)


def test_who_goes_leaves_nothing(plain_db):
    world = people(plain_db)
    daily(world), show(world)
    make(world)
    plain_db.owner("delete from public.influencers")
    for table in ("schedule", "schedule_sessions", "schedule_exceptions", "sessions"):
        assert plain_db.owner(f"select count(*) from public.live_stream_{table}") == [{"count": 0}]


def test_who_reads_writes_nothing(plain_db):
    """As on a standby."""
    world = people(plain_db)
    row = daily(world, -20)
    make(world)
    world.start(made(world, row)[0]), world.end(made(world, row, "live")[0])
    with plain_db.connect() as connection:
        connection.autocommit = False
        connection.execute("set transaction read only")
        (upcoming,) = connection.execute("select full_start_datetime from public.upcoming_streams").fetchall()
        assert connection.execute("select pg_current_xact_id_if_assigned() as id").fetchone()["id"] is None
    assert upcoming["full_start_datetime"] == moments(row, 2)[1]
