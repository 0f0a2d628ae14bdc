"""How long viewers watch, when they are heard of, and what they report."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import psycopg
import pytest

from busy import until
from people import at_once, people
from postgrest import RequestError
from recount import rest
from refusals import refused
from sizes import own_db
from viewing import counts, counts_at_rest, join, rows, viewer_row


def backdate(db, viewer, seconds):
    """As if the viewer had joined that long ago."""
    (row,) = db.owner(
        "update public.live_stream_viewers set joined_at = now() - make_interval(secs => %s) where id = %s returning *",
        [seconds, viewer["id"]],
    )
    return row


def stayed(row):
    """Seconds from joined_at to left_at, as the database rounds them."""
    seconds = datetime.fromisoformat(row["left_at"]) - datetime.fromisoformat(row["joined_at"])
    return int(seconds / timedelta(seconds=1) + 0.5)


# Watch time.


@own_db("counts or changes all that is there")
def test_watch_time_is_measured_by_the_database(world, db):
    session = world.session()
    viewer = world.join(session, world.viewer)
    backdate(db, viewer, 90)
    left = world.leave(viewer, world.viewer, watch_duration_minutes=500)
    watched = stayed(left)
    assert watched >= 90
    assert (left["watch_duration_seconds"], left["watch_duration_minutes"]) == (watched, watched // 60)
    row = world.read(session)
    assert (row["total_watch_time_seconds"], row["total_watch_time_minutes"]) == (watched, watched // 60)
    assert float(row["average_watch_time_minutes"]) == pytest.approx(watched / 60, abs=0.0051)

    # The time away does not count; the second stay adds to the first.
    world.viewer.api.update("live_stream_viewers", {"is_still_watching": True}, where={"id": viewer["id"]})
    db.owner("update public.live_stream_viewers set left_at = watching_since + interval '40 seconds'")
    left = viewer_row(world, viewer)
    assert not left["is_still_watching"] and left["watch_duration_seconds"] == watched + 40
    assert world.read(session)["total_watch_time_seconds"] == watched + 40
    db.owner("update public.live_stream_viewers set watching_since = now()")
    assert viewer_row(world, viewer)["watching_since"] is None
    assert world.leave(viewer, world.viewer)["watch_duration_seconds"] == watched + 40


@own_db("counts or changes all that is there")
def test_a_thousand_half_minutes_are_not_nothing(world, db):
    session = world.session(max_viewers=None)
    world.service.insert("live_stream_viewers", [{"session_id": session["id"]}] * 1000, select=None)
    db.owner("update public.live_stream_viewers set joined_at = now() - interval '30 seconds'")
    ended = world.end(session)
    each = stayed(rows(world, session)[0])
    assert each >= 30 and ended["total_watch_time_seconds"] == 1000 * each
    assert ended["total_watch_time_minutes"] == 1000 * each // 60 >= 500
    assert ended["current_viewers"] == 0
    assert float(ended["average_watch_time_minutes"]) == pytest.approx(each / 60, abs=0.0051)


def test_the_server_may_write_down_who_was_there(world):
    session = world.session()
    body = {
        "session_id": session["id"],
        "user_id": world.viewer.user_id,
        "joined_at": "2020-01-01T10:00:00+00:00",
        "left_at": "2020-01-01T10:10:30+00:00",
    }
    viewer = world.service.insert("live_stream_viewers", body)
    assert {name: viewer[name] for name in body} == body and not viewer["is_still_watching"]
    assert (viewer["watch_duration_seconds"], viewer["watch_duration_minutes"]) == (630, 10)
    patch = {"left_at": "2020-01-01T10:20:00+00:00"}
    corrected = world.service.update("live_stream_viewers", patch, where={"id": viewer["id"]}, one=True)
    assert corrected["watch_duration_seconds"] == 1200
    assert world.read(session)["total_watch_time_seconds"] == 1200 and counts(world, session) == (0, 0, 1)
    for left_at, seconds in (("10:00:30.499999", 30), ("10:00:30.5", 31), ("10:00:00", 0)):
        patch = {"left_at": f"2020-01-01T{left_at}Z"}
        row = world.service.update("live_stream_viewers", patch, where={"id": viewer["id"]}, one=True)
        assert row["watch_duration_seconds"] == seconds == world.read(session)["total_watch_time_seconds"]
    world.service.update("live_stream_viewers", {"left_at": corrected["left_at"]}, where={"id": viewer["id"]})
    ended = world.end(session)
    assert world.service.insert("live_stream_viewers", body)["watch_duration_seconds"] == 630
    with refused("PT409", "cannot be joined", hint=True):
        world.service.update("live_stream_viewers", {"is_still_watching": True}, where={"id": viewer["id"]})
    assert world.read(ended)["total_watch_time_seconds"] == 1830


@pytest.mark.parametrize("times, words", [
    ({"joined_at": "infinity"}, "joined_at cannot be infinite"),
    ({"joined_at": "-infinity"}, "joined_at cannot be infinite"),
    ({"left_at": "infinity"}, "left_at cannot be infinite"),
    ({"joined_at": "2020-01-02T00:00:00Z", "left_at": "2020-01-01T00:00:00Z"}, "the viewer left before it joined"),
])  # fmt: skip
def test_times_that_nothing_can_be_counted_from(world, times, words):
    session = world.session()
    viewer = world.join(session, world.viewer)
    with refused("23514", words, hint=True):
        world.service.insert("live_stream_viewers", {"session_id": session["id"]} | times)
    with refused("23514", words, hint=True):
        world.service.update("live_stream_viewers", times, where={"id": viewer["id"]})
    assert viewer_row(world, viewer) == viewer
    assert world.end(session)["status"] == "ended"


def test_the_longest_possible_stay(world):
    session = world.session()
    viewer = world.join(session, world.viewer)
    world.service.update("live_stream_viewers", {"joined_at": "4000-01-01 00:00:00 BC"}, where={"id": viewer["id"]})
    left = world.leave(viewer, world.viewer)
    assert left["watch_duration_seconds"] == 2**31 - 1
    assert world.end(session)["total_watch_time_seconds"] == 2**31 - 1


# Being heard of.


@own_db("counts or changes all that is there")
def test_a_heartbeat_touches_nothing_but_itself(world, db):
    session = world.session()
    viewer, anonymous = world.join(session, world.viewer), world.join(session)
    before = world.read(session)
    xmin = "select array_agg(xmin::text order by id) from public.live_stream_viewers"
    versions = db.value(xmin)
    for api, row in ((world.viewer.api, viewer), (world.anon, anonymous)):
        for _ in range(2):
            assert api.rpc("live_stream_heartbeat", viewer_id=row["id"]) == row
    assert world.anonymous(anonymous).rpc("live_stream_heartbeat") == anonymous
    assert db.value("select count(*) from public.live_stream_heartbeats") == 2
    assert world.read(session) == before and db.value(xmin) == versions
    with refused("22023", "viewer_id must not be null", hint=True):
        world.anon.rpc("live_stream_heartbeat")
    for api in (world.anon, world.viewer.api, world.influencer.api):
        with refused("42501"):
            api.select("live_stream_heartbeats")


def test_a_heartbeat_says_when_one_has_been_closed(world):
    viewer = world.join(world.session(), world.viewer)
    world.leave(viewer, world.viewer)
    assert not world.viewer.api.rpc("live_stream_heartbeat", viewer_id=viewer["id"])["is_still_watching"]


@own_db("expires whoever is silent")
def test_silent_viewers_are_closed_when_last_heard_of(world, db):
    session, other = world.session(), world.session(by=world.new_influencer())
    silent, heard, fresh, never = (world.join(session) for _ in range(4))
    elsewhere = world.join(other, world.viewer)
    gone = world.leave(world.join(session))
    for viewer in (silent, heard, never, elsewhere):
        backdate(db, viewer, 600)
    for viewer in (silent, heard, elsewhere):
        world.service.rpc("live_stream_heartbeat", viewer_id=viewer["id"])
    db.owner(
        "update public.live_stream_heartbeats h set seen_at = v.joined_at + interval '539 seconds'"
        " from public.live_stream_viewers v where v.id = h.viewer_id and v.id = any (%s)",
        [[silent["id"], elsewhere["id"]]],
    )
    expire = "select live_stream.expire_viewers() as closed"
    assert db.owner(expire) == [{"closed": 3}] and db.owner(expire) == [{"closed": 0}]

    seconds = {id: viewer_row(world, {"id": id})["watch_duration_seconds"] for id in (silent["id"], elsewhere["id"])}
    assert set(seconds.values()) == {539}
    row = viewer_row(world, silent)
    assert datetime.fromisoformat(row["left_at"]) < datetime.now(timezone.utc) - timedelta(seconds=60)
    assert viewer_row(world, never)["watch_duration_seconds"] == 0
    assert viewer_row(world, heard)["is_still_watching"] and viewer_row(world, fresh)["is_still_watching"]
    assert viewer_row(world, gone) == gone
    assert counts(world, session) == (2, 5, 5) and counts(world, other)[0] == 0
    assert world.read(session)["total_watch_time_seconds"] == 539

    # Whoever comes back starts anew: the old heartbeat does not close it again.
    back = world.anon.rpc("live_stream_join", session_id=session["id"], viewer_id=silent["id"])
    assert back["id"] == silent["id"] and back["watch_duration_seconds"] == 539
    assert db.owner(expire) == [{"closed": 0}]


@own_db("expires whoever is silent")
def test_the_timeout_is_a_setting(world, db):
    viewer = world.join(world.session())
    backdate(db, viewer, 100)
    with db.connect("app_owner") as connection:
        for timeout, closed in (("2min", 0), ("99s", 1)):
            connection.execute(f"set live_stream.viewer_timeout = '{timeout}'")
            assert connection.execute("select live_stream.expire_viewers()").fetchone() == {"expire_viewers": closed}
        for nonsense in ("0", "-1", "2d", "soon"):
            with pytest.raises(psycopg.errors.InvalidParameterValue):
                connection.execute(f"set live_stream.viewer_timeout = '{nonsense}'")


@own_db("expires whoever is silent")
@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_only_the_server_expires_viewers(world, db, role):
    with db.connect() as connection:
        connection.execute(f"set role {role}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select live_stream.expire_viewers()")
        connection.execute("set role service_role")
        assert connection.execute("select live_stream.expire_viewers()").fetchone() == {"expire_viewers": 0}


# Ending.


@pytest.mark.parametrize("status", ["ended", "cancelled"])
def test_ending_closes_everybody(world, db, status):
    session = world.session(live=False)
    open_ones = [world.join(session, world.viewer), world.join(session), world.join(session)]
    left_before = world.leave(world.join(session))
    if status == "ended":
        world.start(session)
    db.owner(
        "update public.live_stream_viewers set joined_at = now() - interval '100 seconds' where is_still_watching"
    )
    for viewer in open_ones[1:]:
        world.service.rpc("live_stream_heartbeat", viewer_id=viewer["id"])
    # One has been silent since long before the end.
    db.owner(
        "update public.live_stream_heartbeats h set seen_at = v.joined_at + interval '30 seconds'"
        " from public.live_stream_viewers v where v.id = h.viewer_id and v.id = %s",
        [open_ones[1]["id"]],
    )
    ended = world.set_session(session, status=status)
    assert (ended["current_viewers"], ended["peak_viewers"], ended["total_unique_viewers"]) == (0, 4, 4)
    assert ended == world.read(session)
    closed = [viewer_row(world, viewer) for viewer in open_ones]
    assert [row["watch_duration_seconds"] for row in closed] == [stayed(closed[0]), 30, stayed(closed[2])]
    assert ended["total_watch_time_seconds"] == sum(map(stayed, closed)) >= 230
    assert not any(row["is_still_watching"] for row in closed)
    if status == "ended":
        assert {closed[0]["left_at"], closed[2]["left_at"]} == {ended["actual_end_time"]}
    assert viewer_row(world, left_before) == left_before
    # Leaving afterwards changes nothing, and nobody comes back.
    assert world.leave(open_ones[0], world.viewer)["watch_duration_seconds"] == stayed(closed[0])
    for api, id in ((world.viewer.api, open_ones[0]["id"]), (world.anonymous(open_ones[1]), open_ones[1]["id"])):
        with refused("PT409", f"is {status} and cannot be joined", hint=True):
            api.update("live_stream_viewers", {"is_still_watching": True}, where={"id": id})
        with refused("PT409", "cannot be joined"):
            join(api, session, viewer_id=id)
    assert world.read(session) == ended


def test_leaving_and_ending_at_once(world):
    """Neither waits for the other in a circle, and each viewer is counted out once."""
    for round in range(4):
        session = world.session()
        people = [world.new_user() for _ in range(8)]
        viewers = [world.join(session, who) for who in people] + [world.join(session) for _ in range(4)]
        calls = [lambda v=v, w=w: world.leave(v, w) for v, w in zip(viewers, people)]
        calls += [lambda v=v: world.anon.rpc("live_stream_leave", viewer_id=v["id"]) for v in viewers[8:]]
        calls += [lambda v=v, w=w: w.api.rpc("live_stream_heartbeat", viewer_id=v["id"]) for v, w in zip(viewers, people)]
        calls += [lambda v=v: world.anon.rpc("live_stream_share", viewer_id=v["id"]) for v in viewers[8:]]
        end = (lambda: world.end(session)) if round % 2 else (
            lambda: world.influencer.api.rpc("live_stream_end", session_id=session["id"]))
        results = at_once(*calls[:8], end, *calls[8:])
        assert [str(result) for result in results if isinstance(result, RequestError)] == []
        assert counts(world, session) == (0, 12, 12)
        rest(world.db)
        assert world.read(session)["total_shares"] == 4
        assert not any(row["is_still_watching"] for row in rows(world, session))


def test_joining_and_ending_at_once(world):
    for _ in range(4):
        session = world.session()
        people = [world.new_user() for _ in range(12)]
        results = at_once(*[lambda w=w: world.join(session, w) for w in people], lambda: world.end(session))
        for error in results:
            assert not isinstance(error, RequestError) or error.sqlstate == "PT409", str(error)
        joined = sum(not isinstance(result, RequestError) for result in results) - 1
        assert counts(world, session)[::2] == (0, joined) and len(rows(world, session)) == joined
        assert not any(row["is_still_watching"] for row in rows(world, session))


def test_the_same_person_joins_at_once(world):
    session = world.session()
    results = at_once(*[lambda: join(world.viewer.api, session) for _ in range(8)])
    assert len({row["id"] for row in results}) == 1
    until(lambda: counts(world, session) == (1, 1, 1))
    at_once(*[lambda: world.join(session, world.viewer) for _ in range(8)])
    until(lambda: counts(world, session) == (9, 9, 1))
    results = at_once(*[lambda: world.viewer.api.rpc("live_stream_leave", viewer_id=results[0]["id"])] * 10)
    until(lambda: counts(world, session) == (8, 9, 1))


# Reports and shares.


def test_quality_reports(world):
    session = world.session()
    viewer, anonymous = world.join(session, world.viewer), world.join(session)
    row = world.viewer.api.rpc(
        "live_stream_report_quality", viewer_id=viewer["id"], connection_quality="poor", buffering_time_seconds=12
    )
    assert (row["connection_quality"], row["buffering_time_seconds"], row["buffering_events"]) == ("poor", 12, 1)
    patch = {"buffering_time_seconds": 20, "disconnections_count": 2}
    row = world.viewer.api.update("live_stream_viewers", patch, where={"id": viewer["id"]}, one=True)
    assert (row["buffering_time_seconds"], row["buffering_events"], row["disconnections_count"]) == (20, 2, 2)
    world.viewer.api.update("live_stream_viewers", patch, where={"id": viewer["id"]})
    world.anonymous(anonymous).rpc("live_stream_report_quality", buffering_time_seconds=5, disconnections_count=1)
    row = world.read(session)
    assert (row["buffering_events"], row["total_buffering_time_seconds"], row["connection_issues_count"]) == (3, 25, 3)


@pytest.mark.parametrize("column, limit", [("buffering_time_seconds", 604_800), ("disconnections_count", 10_000)])
def test_bounds_of_reports(world, column, limit):
    session = world.session()
    viewer = world.join(session, world.viewer)
    where = {"id": viewer["id"]}
    assert world.viewer.api.update("live_stream_viewers", {column: 10}, where=where, one=True)[column] == 10
    for value in (9, 0, -1, limit + 1, 2**31 - 1):
        with refused("23514", f"{column} cannot be {value}", hint=True):
            world.viewer.api.update("live_stream_viewers", {column: value}, where=where)
        with refused("23514", f"{column} cannot be {value}", hint=True):
            world.viewer.api.rpc("live_stream_report_quality", viewer_id=viewer["id"], **{column: value})
    with refused("22003"):
        world.viewer.api.update("live_stream_viewers", {column: 2**31}, where=where)
    assert viewer_row(world, viewer)[column] == 10
    assert world.viewer.api.update("live_stream_viewers", {column: limit}, where=where, one=True)[column] == limit
    row = world.read(session)
    assert limit in (row["total_buffering_time_seconds"], row["connection_issues_count"])
    with refused("22P02"):
        world.viewer.api.rpc("live_stream_report_quality", viewer_id=viewer["id"], connection_quality="awful")


def test_shares(world):
    session = world.session()
    viewer = world.join(session, world.viewer)
    for expected in (1, 2):
        assert world.viewer.api.rpc("live_stream_share", viewer_id=viewer["id"])["shares_sent"] == expected
    assert world.anonymous(world.join(session)).rpc("live_stream_share")["shares_sent"] == 1
    assert world.read(session)["total_shares"] == 3
