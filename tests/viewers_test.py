"""Viewers: who watches, from when to when, and what a viewer may say of itself."""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import psycopg
import pytest

from database import OWNER, Database
from people import at_once, people
from postgrest import RequestError, Row
from recount import differences, rest
from refusals import refused
from replica import until
from sizes import own_db

NUMBERS = (
    "messages_sent",
    "reactions_sent",
    "shares_sent",
    "products_clicked",
    "orders_placed",
    "watch_duration_seconds",
    "watch_duration_minutes",
    "buffering_time_seconds",
    "buffering_events",
    "disconnections_count",
)


def rows(world, session, **where):
    return world.service.select("live_stream_viewers", where={"session_id": session["id"], **where})


def viewer_row(world, viewer):
    return world.service.select("live_stream_viewers", where={"id": viewer["id"]}, one=True)


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


def counts(world, session):
    row = world.read(session)
    return row["current_viewers"], row["peak_viewers"], row["total_unique_viewers"]


def join(api, session, **args):
    return api.rpc("live_stream_join", session_id=session["id"], **args)


# Joining, leaving, coming back.


def test_join_leave_and_come_back_by_request(world):
    session = world.session()
    viewer = world.join(session, world.viewer)
    assert viewer["is_still_watching"] and viewer["left_at"] is None
    assert viewer["watching_since"] == viewer["joined_at"]
    assert counts(world, session) == (1, 1, 1)
    left = world.leave(viewer, world.viewer)
    assert not left["is_still_watching"] and left["left_at"] >= left["joined_at"] and left["watching_since"] is None
    assert counts(world, session) == (0, 1, 1)
    again = world.viewer.api.update(
        "live_stream_viewers", {"is_still_watching": True}, where={"id": viewer["id"]}, one=True
    )
    assert again["left_at"] is None and again["watching_since"] >= left["left_at"]
    assert again["joined_at"] == viewer["joined_at"]
    assert counts(world, session) == (1, 1, 1)
    second = world.join(session, world.viewer)
    assert second["id"] != viewer["id"] and counts(world, session) == (2, 2, 1)


def test_join_leave_and_come_back_by_function(world):
    session = world.session()
    viewer = join(world.viewer.api, session, device_type="mobile", browser="chrome", country="DE", city="Köln")
    assert (viewer["user_id"], viewer["device_type"], viewer["city"]) == (world.viewer.user_id, "mobile", "Köln")
    assert join(world.viewer.api, session)["id"] == viewer["id"] and counts(world, session) == (1, 1, 1)
    left = world.viewer.api.rpc("live_stream_leave", viewer_id=viewer["id"])
    assert left["id"] == viewer["id"] and not left["is_still_watching"] and left["left_at"]
    assert world.viewer.api.rpc("live_stream_leave", viewer_id=viewer["id"]) == left
    assert counts(world, session) == (0, 1, 1)
    back = world.viewer.api.rpc("live_stream_join", session_code=session["session_code"].lower())
    assert back["id"] == viewer["id"] and back["is_still_watching"] and back["left_at"] is None
    assert counts(world, session) == (1, 1, 1)


def test_an_anonymous_viewer_by_request(world, db):
    session = world.session()
    viewer, other = world.join(session), world.join(session)
    assert viewer["user_id"] is None and viewer["viewer_type"] == "anonymous"
    assert counts(world, session) == (2, 2, 2)
    where = {"id": viewer["id"]}
    for api in (world.anon, world.viewer.api, world.anonymous(other), db.as_anon({"x-viewer-id": "nonsense"})):
        assert api.select("live_stream_viewers", where=where) == []
        assert api.update("live_stream_viewers", {"is_still_watching": False}, where=where) == []
    mine = world.anonymous(viewer)
    assert [row["id"] for row in mine.select("live_stream_viewers")] == [viewer["id"]]
    assert not world.leave(viewer)["is_still_watching"]
    assert mine.update("live_stream_viewers", {"is_still_watching": True}, where=where, one=True)["is_still_watching"]
    assert counts(world, session) == (2, 2, 2)


def test_an_anonymous_viewer_by_function(world):
    session = world.session()
    viewer = join(world.anon, session)
    assert viewer["viewer_type"] == "anonymous"
    assert join(world.anon, session)["id"] != viewer["id"]
    assert join(world.anon, session, viewer_id=viewer["id"])["id"] == viewer["id"]
    assert join(world.anonymous(viewer), session)["id"] == viewer["id"]
    assert not world.anon.rpc("live_stream_leave", viewer_id=viewer["id"])["is_still_watching"]
    assert join(world.anon, session, viewer_id=viewer["id"])["id"] == viewer["id"]
    assert counts(world, session) == (2, 2, 2)
    # An id from elsewhere, or of a signed-in person, is no key: a new row comes of it.
    elsewhere = world.join(world.session(by=world.new_influencer()))
    for id in (str(uuid.uuid4()), elsewhere["id"], world.join(session, world.viewer)["id"]):
        assert join(world.anon, session, viewer_id=id)["id"] != id


def test_anonymous_rows_leave_nothing_to_the_next_request(world):
    """The connection is shared: what one request may see ends with it."""
    session = world.session()
    world.join(session)
    join(world.anon, session)
    for api in (world.anon, world.viewer.api):
        assert api.select("live_stream_viewers") == []


def test_a_row_is_the_callers_own(world):
    session = world.session()
    victim = world.join(session, world.viewer)
    other = world.stranger.user_id
    for api, claimed in ((world.stranger.api, world.viewer.user_id), (world.anon, other)):
        with refused("42501", f"the caller is not user {claimed}", hint=True):
            api.insert("live_stream_viewers", {"session_id": session["id"], "user_id": claimed})
    assert world.stranger.api.insert("live_stream_viewers", {"session_id": session["id"]})["user_id"] == other
    with refused("42501", "the caller is not user", hint=True):
        world.viewer.api.update("live_stream_viewers", {"user_id": other}, where={"id": victim["id"]})
    for api in (world.stranger.api, world.anon):
        assert api.update("live_stream_viewers", {"is_still_watching": False}, where={"id": victim["id"]}) == []
        for function in ("heartbeat", "leave", "share", "report_quality"):
            with refused("PT404", f"viewer {victim['id']} does not exist", hint=True):
                api.rpc(f"live_stream_{function}", viewer_id=victim["id"])
    for api in (world.viewer.api, world.stranger.api, world.anon):
        with refused("42501", "permission denied"):
            api.delete("live_stream_viewers", where={"id": victim["id"]})
    assert viewer_row(world, victim) == victim


def test_an_upsert_takes_no_row_over(world, db):
    session = world.session()
    signed_in, anonymous = world.join(session, world.viewer), world.join(session)
    for victim in (signed_in, anonymous):
        for role, claims in (
            ("anon", {"role": "anon"}),
            ("authenticated", {"sub": world.stranger.user_id, "role": "authenticated"}),
        ):
            for action in ("do nothing", "do update set user_agent = 'mine', user_id = excluded.user_id"):
                with db.connect("authenticator") as connection:
                    try:
                        with connection.transaction():
                            connection.execute(
                                "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
                                [role, json.dumps(claims)],
                            )
                            connection.execute(
                                "insert into public.live_stream_viewers (id, session_id) values (%s, %s)"
                                f" on conflict (id) {action}",
                                [victim["id"], session["id"]],
                            )
                    except psycopg.errors.InsufficientPrivilege:
                        pass
        row = viewer_row(world, victim)
        assert {**row, "user_agent": None, "updated_at": None} == {**victim, "user_agent": None, "updated_at": None}
        if victim is signed_in:
            assert row == victim
    assert counts(world, session) == (2, 2, 2)


def test_what_a_viewer_has_no_say_in(world):
    session = world.session()
    long_ago = "2001-01-01T00:00:00+00:00"
    forged = dict.fromkeys(NUMBERS, 7) | {
        "joined_at": long_ago,
        "left_at": long_ago,
        "watching_since": long_ago,
        "is_still_watching": False,
        "created_at": long_ago,
    }
    viewer = world.join(session, world.viewer, **forged)
    assert {viewer[name] for name in NUMBERS} == {0} and viewer["is_still_watching"]
    assert viewer["left_at"] is None and viewer["joined_at"] == viewer["created_at"] > "2020"
    kept = [name for name in NUMBERS if name not in ("buffering_time_seconds", "disconnections_count")]
    patch = dict.fromkeys(kept, 7) | {"joined_at": long_ago, "watching_since": long_ago, "created_at": long_ago}
    row = world.viewer.api.update("live_stream_viewers", patch, where={"id": viewer["id"]}, one=True)
    assert {name: row[name] for name in patch} == {name: viewer[name] for name in patch}
    left = world.leave(viewer, world.viewer, left_at="2099-01-01T00:00:00Z", watch_duration_minutes=500)
    assert left["left_at"] < "2090" and left["watch_duration_minutes"] == 0 and counts(world, session) == (0, 1, 1)
    session2 = world.session(by=world.new_influencer())
    with refused("42501", "a viewer cannot be moved to another session", hint=True):
        world.viewer.api.update("live_stream_viewers", {"session_id": session2["id"]}, where={"id": viewer["id"]})


def test_counters_of_a_viewer_are_nobodys(world, db):
    viewer = world.join(world.session(), world.viewer)
    kept = [name for name in NUMBERS if name not in ("buffering_time_seconds", "disconnections_count")]
    world.service.update("live_stream_viewers", dict.fromkeys(kept, 7), where={"id": viewer["id"]})
    db.sql("update public.live_stream_viewers set " + ", ".join(f"{name} = 7" for name in kept))
    assert {name: viewer_row(world, viewer)[name] for name in kept} == dict.fromkeys(kept, 0)


TYPES = [
    # who joins, what it says, what it is
    ("viewer", None, "customer"),
    ("viewer", "customer", "customer"),
    ("viewer", "wholesaler", "wholesaler"),
    ("viewer", "influencer", "customer"),
    ("viewer", "anonymous", "customer"),
    ("host", "customer", "influencer"),
    ("host", "anonymous", "influencer"),
    ("colleague", "influencer", "customer"),
    ("anon", "influencer", "anonymous"),
    ("anon", "wholesaler", "anonymous"),
]


def test_the_database_says_what_a_viewer_is(world):
    session = world.session()
    who = {
        "viewer": world.viewer.api,
        "host": world.influencer.api,
        "colleague": world.new_influencer().api,
        "anon": world.anon,
    }
    for caller, said, expected in TYPES:
        body = {"session_id": session["id"]} | ({"viewer_type": said} if said else {})
        assert who[caller].insert("live_stream_viewers", body)["viewer_type"] == expected, (caller, said)
        row = who[caller].rpc("live_stream_join", body | {"session_id": world.session(
            by=world.influencer if caller == "host" else world.new_influencer(), live=False)["id"]})
        assert row["viewer_type"] == expected, (caller, said)
        if caller != "anon":
            patched = who[caller].update("live_stream_viewers", {"viewer_type": "influencer"}, where={"id": row["id"]})
            assert patched[0]["viewer_type"] == expected


# Sessions that can be joined, and how many may.


@pytest.mark.parametrize("way, joinable", [
    ((), True), (("live",), True), (("live", "paused"), True), (("live", "error"), True),
    (("live", "ended"), False), (("cancelled",), False),
])  # fmt: skip
def test_what_can_be_joined(world, way, joinable):
    session = world.session(live=False)
    for status in way:
        session = world.set_session(session, status=status)
    for call in (
        lambda: world.join(session, world.viewer),
        lambda: world.join(session),
        lambda: join(world.stranger.api, session),
        lambda: join(world.anon, session),
        lambda: join(world.service, session),
        lambda: world.service.insert("live_stream_viewers", {"session_id": session["id"]}),
    ):
        if joinable:
            assert call()["is_still_watching"]
        else:
            with pytest.raises(RequestError) as error:
                call()
            assert error.value.status == 409 and error.value.sqlstate == "PT409" and error.value.hint
            assert f"is {way[-1]} and cannot be joined" in error.value.message
    assert world.read(session)["current_viewers"] == (6 if joinable else 0)


def test_joining_what_is_not_there(world):
    for args, sqlstate, words in (
        ({"session_id": str(uuid.uuid4())}, "PT404", "does not exist"),
        ({"session_code": "ABCD-EFGH-JKMN"}, "PT404", "no session has this code"),
        ({"session_code": "%"}, "PT404", "no session has this code"),
        ({}, "22023", "no session to join"),
    ):
        for api in (world.viewer.api, world.anon):
            with refused(sqlstate, words, hint=True):
                api.rpc("live_stream_join", **args)
    with refused("23502", "session_id", hint=True):
        world.viewer.api.insert("live_stream_viewers", {"device_type": "mobile"})
    with refused("PT404", "does not exist", hint=True):
        world.viewer.api.insert("live_stream_viewers", {"session_id": str(uuid.uuid4())})
    with refused("22P02"):
        world.viewer.api.insert("live_stream_viewers", {"session_id": world.session()["id"], "viewer_type": "admin"})


def test_an_unlisted_session_is_joined_by_code_or_id(world):
    session = world.session(visibility="unlisted")
    assert world.viewer.api.rpc("live_stream_join", session_code=session["session_code"])["session_id"] == session["id"]
    assert join(world.anon, session)["session_id"] == session["id"]
    assert world.viewer.api.select("live_stream_sessions", where={"id": session["id"]})


@pytest.mark.parametrize("by_function", [True, False])
def test_max_viewers_holds_exactly(world, by_function):
    session = world.session(max_viewers=7)
    people = [world.new_user() for _ in range(20)]

    def come(who):
        return (lambda: join(who.api, session)) if by_function else (lambda: world.join(session, who))

    results = at_once(*map(come, people), *[lambda: world.join(session) for _ in range(5)])
    refusals = [result for result in results if isinstance(result, RequestError)]
    for error in refusals:
        assert (error.sqlstate, error.status) == ("PT409", 409) and error.hint, str(error)
        assert f"session {session['id']} is full" in error.message
    assert len(refusals) == 18 and counts(world, session) == (7, 7, 7)
    assert len(rows(world, session)) == 7

    # Whoever leaves makes room for one.
    (inside,) = rows(world, session)[:1]
    world.service.update("live_stream_viewers", {"is_still_watching": False}, where={"id": inside["id"]})
    results = at_once(*[lambda: world.join(session) for _ in range(10)])
    assert sum(isinstance(result, RequestError) for result in results) == 9
    with refused("PT409", "is full"):
        world.service.update("live_stream_viewers", {"is_still_watching": True}, where={"id": inside["id"]})
    assert counts(world, session) == (7, 7, 8)


def test_a_lower_limit_sends_nobody_away(world):
    session = world.session(max_viewers=3)
    viewers = [world.join(session) for _ in range(3)]
    world.set_session(session, max_viewers=1)
    assert counts(world, session) == (3, 3, 3)
    world.leave(viewers[0])
    world.leave(viewers[1])
    with refused("PT409", "is full"):
        world.join(session)
    world.set_session(session, max_viewers=None)
    for _ in range(5):
        world.join(session)
    assert counts(world, session) == (6, 6, 8)


# Watch time.


@own_db("counts all that is there")
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


@own_db("counts all that is there")
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
    assert len({row["id"] for row in results}) == 1 and counts(world, session) == (1, 1, 1)
    at_once(*[lambda: world.join(session, world.viewer) for _ in range(8)])
    assert counts(world, session) == (9, 9, 1)
    results = at_once(*[lambda: world.viewer.api.rpc("live_stream_leave", viewer_id=results[0]["id"])] * 4)
    assert counts(world, session) == (8, 9, 1)


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


# Who sees which rows.


@own_db("counts all that is there")
def test_who_sees_which_rows(world):
    session = world.session()
    mine, theirs, anonymous = world.join(session, world.viewer), world.join(session, world.stranger), world.join(session)
    everybody = {mine["id"], theirs["id"], anonymous["id"]}
    other = world.new_influencer()
    world.session(by=other)
    expected = [
        (world.viewer.api, {mine["id"]}),
        (world.stranger.api, {theirs["id"]}),
        (world.anon, set()),
        (world.anonymous(anonymous), {anonymous["id"]}),
        (world.anonymous(mine), set()),
        (other.api, set()),
        (world.influencer.api, everybody),
        (world.service, everybody),
    ]
    for api, ids in expected:
        found = api.select("live_stream_viewers", where={"session_id": session["id"]})
        assert {row["id"] for row in found} == ids
        assert {row["id"] for row in api.select("live_stream_viewers")} == ids
    # The host sees the rows and changes none.
    assert world.influencer.api.update("live_stream_viewers", {"is_still_watching": False}) == []


def test_over_long_texts(world):
    session = world.session()
    for columns in ({"user_agent": "x" * 1001}, {"country": "x" * 101}, {"device_type": "x" * 51}):
        for call in (lambda: world.join(session, **columns), lambda: join(world.anon, session, **columns)):
            with pytest.raises(RequestError) as error:
                call()
            assert error.value.status == 400
    with refused("22P02", "inet"):
        world.join(session, ip_address="localhost")
    assert counts(world, session) == (0, 0, 0)


@own_db("alters a table")
def test_columns_of_the_apps_own(world, db):
    db.owner("alter table public.live_stream_viewers add column gone int default 1, add column referrer text")
    db.owner("alter table public.live_stream_viewers drop column gone")
    db.reload_schema()
    session = world.session()
    viewer = world.join(session, world.viewer, referrer="newsletter")
    assert viewer["referrer"] == "newsletter"
    assert join(world.viewer.api, session)["referrer"] == "newsletter"
    assert world.leave(viewer, world.viewer, referrer="ad")["referrer"] == "ad"
    assert counts(world, session) == (0, 1, 1)


def test_a_busy_session_under_many_threads(world):
    """Joins, rejoins, leaves, shares, reports and a slow end, with no deadlock and no row left open."""
    world.db.without_limits()
    session = world.session(max_viewers=None)
    people = [world.new_user() for _ in range(10)]
    errors, stop = [], threading.Event()

    def watch(who):
        while not stop.is_set():
            try:
                viewer = join(who.api, session)
                who.api.rpc("live_stream_share", viewer_id=viewer["id"])
                patch = {"buffering_time_seconds": viewer["buffering_time_seconds"] + 1}
                who.api.update("live_stream_viewers", patch, where={"id": viewer["id"]})
                world.leave(viewer, who)
            except RequestError as error:
                if error.sqlstate != "PT409":
                    errors.append(str(error))
                return

    with ThreadPoolExecutor(len(people)) as threads:
        done = [threads.submit(watch, who) for who in people]
        while world.read(session)["total_shares"] < 200 and not any(future.done() for future in done):
            pass
        world.end(session)
        stop.set()
    assert errors == [] and [future.exception() for future in done] == [None] * 10
    # A share may come after the end.
    rest(world.db)
    row = world.read(session)
    found = rows(world, session)
    assert (row["current_viewers"], row["total_unique_viewers"], len(found)) == (0, 10, 10)
    assert row["total_shares"] == sum(v["shares_sent"] for v in found) >= 200
    assert row["total_buffering_time_seconds"] == sum(v["buffering_time_seconds"] for v in found)


def test_the_row_of_a_deleted_account_has_no_key(supabase_db):
    """Its id stands in the chat for everybody to read; only an anonymous viewer's own id is a secret."""
    world = people(supabase_db)
    session = world.session()
    viewer = world.join(session, world.viewer, ip_address="203.0.113.7")
    world.say(session, world.viewer, "hello", viewer)
    supabase_db.sql("delete from auth.users where id = %s", [world.viewer.user_id])

    (message,) = world.anon.select("live_stream_chat", where={"session_id": session["id"]})
    assert message["viewer_id"] == viewer["id"]
    thief = world.anonymous(viewer)
    assert thief.select("live_stream_viewers") == []
    for function in ("live_stream_leave", "live_stream_heartbeat", "live_stream_share"):
        with refused("PT404", "does not exist"):
            thief.rpc(function, viewer_id=viewer["id"])
    joined = thief.rpc("live_stream_join", session_id=session["id"], viewer_id=viewer["id"])
    assert joined["id"] != viewer["id"]


@pytest.mark.parametrize("field, limit", [("device_type", 50), ("user_agent", 1_000), ("city", 100)])
def test_joining_with_an_overlong_text_names_it_and_shows_no_row(world, field, limit):
    session = world.session()
    with refused("23514", f"{field} of the viewer is too long", hint=True):
        world.anon.rpc("live_stream_join", session_id=session["id"], **{field: "x" * (limit + 1)})
    assert world.anon.rpc("live_stream_join", session_id=session["id"], **{field: "x" * limit})
    assert world.read(session)["current_viewers"] == 1


# The row that a function returns.


@own_db("counts all that is there")
@pytest.mark.parametrize(
    "call",
    [
        "live_stream.acting_viewer(null::integer)",
        "live_stream.acting_viewer(null::public.live_stream_chat)",
        "live_stream.acting_viewer(null)",
        "live_stream.send_message(null::integer, (select id from public.live_stream_sessions), 'x', 'chat', null, null, null, null)",
    ],
)
def test_a_row_is_returned_as_what_it_is(db, call):
    people(db).session()
    with pytest.raises(psycopg.errors.DatatypeMismatch):
        db.owner(f"select {call}")
    assert db.value("select count(*) from public.live_stream_chat") == 0


def test_the_acting_viewer_is_the_one_that_a_function_has_checked(db):
    """Neither a setting that anybody can write, nor the transaction before, nor what was rolled back."""
    world = people(db)
    session = world.session()
    others = world.new_user().api.rpc("live_stream_join", session_id=session["id"])
    acting = "select (live_stream.acting_viewer(null::public.live_stream_viewers)).id"
    with db.connect() as connection:

        def who():
            return connection.execute(acting).fetchone()["id"]

        with connection.transaction():
            claims = json.dumps({"role": "authenticated", "sub": world.new_user().user_id})
            connection.execute(
                "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true),"
                " set_config('live_stream.viewer_id', %s, true)",
                [claims, str(others["id"])],
            )
            assert who() is None
            connection.execute("savepoint s")
            joined = connection.execute(
                "select live_stream.join_session(%s, null, null, null, null, null, null, null, null) as id", [session["id"]]
            ).fetchone()["id"]
            assert who() == joined
            connection.execute("rollback to s")
            assert who() is None
            joined = connection.execute("select id from public.live_stream_join(%s)", [session["id"]]).fetchone()["id"]
            assert who() == joined != others["id"]
        with connection.transaction():
            connection.execute("savepoint s")
            connection.execute("select live_stream.act_as_viewer(%s)", [joined])
            assert who() == joined
            connection.execute("rollback to s")
            assert who() is None
        assert who() is None


# A person is counted once, however its rows come and go.


def uniques(db: Database, session: Row) -> int:
    return db.value("select total_unique_viewers from public.live_stream_sessions where id = %s", [session["id"]])


@own_db("counts all that is there")
@pytest.mark.parametrize(
    "statement",
    [
        """with gone as (delete from public.live_stream_viewers where user_id = %(user)s returning session_id, user_id)
           insert into public.live_stream_viewers (session_id, user_id) select session_id, user_id from gone""",
        """merge into public.live_stream_viewers as v
           using (values (%(user)s::uuid, true), (%(user)s::uuid, false)) as s (user_id, goes)
              on v.user_id = s.user_id and s.goes
            when matched then delete
            when not matched then insert (session_id, user_id) values (%(session)s, s.user_id)""",
        """insert into public.live_stream_viewers (id, session_id, user_id)
           select id, session_id, %(other)s::uuid from public.live_stream_viewers where user_id = %(user)s
           union all select gen_random_uuid(), %(session)s, %(user)s
               on conflict (id) do update set user_id = excluded.user_id""",
    ],
    ids=["with", "merge", "on conflict"],
)
def test_a_statement_that_takes_rows_away_and_adds_some(plain_db, statement):
    db = plain_db
    session = people(db).session(max_viewers=None)
    ids = {"session": session["id"], "user": str(uuid.uuid4()), "other": str(uuid.uuid4())}
    db.sql("insert into public.live_stream_viewers (session_id, user_id) values (%(session)s, %(user)s)", ids)
    db.sql(statement, ids)
    truth = db.value("select count(distinct user_id) from public.live_stream_viewers")
    assert uniques(db, session) == truth == (2 if "conflict" in statement else 1)
    assert differences(db) == []


@own_db("has a trigger of the app's")
@pytest.mark.parametrize(
    "and_the_others",
    [
        "delete from public.live_stream_viewers where session_id = new.session_id and user_id = new.user_id"
        " and id <> new.id",
        "update public.live_stream_viewers set is_still_watching = false where session_id = new.session_id"
        " and user_id = new.user_id and id <> new.id and is_still_watching",
        "insert into public.live_stream_viewers (session_id, user_id) select new.session_id, new.user_id"
        " where pg_trigger_depth() = 1",
    ],
    ids=["delete", "close", "insert"],
)
def test_an_app_that_sees_to_the_other_rows_of_who_joins(plain_db, and_the_others):
    db = plain_db
    world = people(db)
    session = world.session(max_viewers=None)
    db.owner(
        f"""create function public.one_device() returns trigger language plpgsql security definer as $$
              begin
                {and_the_others};
                return null;
              end $$;
            create trigger one_device after insert on public.live_stream_viewers
              for each row execute function public.one_device()"""
    )
    user = str(uuid.uuid4())
    for _ in range(3):
        db.sql("insert into public.live_stream_viewers (session_id, user_id) values (%s, %s)", [session["id"], user])
        assert uniques(db, session) == 1 and differences(db) == []
    world.join(session, world.viewer)
    assert uniques(db, session) == 2 and differences(db) == []


@own_db("truncates")
def test_a_person_whose_rows_come_and_go_in_one_transaction(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    one, other = str(uuid.uuid4()), str(uuid.uuid4())
    come = "insert into public.live_stream_viewers (session_id, user_id) values (%s, %s)"
    go = "delete from public.live_stream_viewers where session_id = %s and user_id = %s"
    with db.connect() as connection:
        with connection.transaction():
            connection.execute(come, [session["id"], one])
            with contextlib.suppress(psycopg.Rollback), connection.transaction() as undone:
                connection.execute(go, [session["id"], one])
                connection.execute(come, [session["id"], other])
                with connection.transaction():
                    connection.execute(come, [session["id"], one])
                raise psycopg.Rollback(undone)
            connection.execute(come, [session["id"], other])
            with connection.transaction():
                connection.execute(go, [session["id"], one])
            connection.execute(come, [session["id"], one])
        assert uniques(db, session) == 2 and differences(db) == []
        with connection.transaction():
            connection.execute(go, [session["id"], one])
            connection.execute("truncate public.live_stream_viewers cascade")
            connection.execute(come, [session["id"], one])
    assert uniques(db, session) == 1 and differences(db) == []


# What the app has added to the table.


@own_db("alters a table")
def test_a_column_that_was_added_later_has_its_default_in_what_functions_return(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session()
    viewer = world.join(session, world.viewer)
    db.owner("alter table public.live_stream_viewers add column tier integer not null default 7")
    db.reload_schema()
    for name in ("heartbeat", "share", "leave"):
        assert world.viewer.api.rpc(f"live_stream_{name}", {"viewer_id": viewer["id"]})["tier"] == 7


@own_db("alters a table")
def test_a_column_that_the_caller_may_not_read_is_not_returned(plain_db):
    """As by a SELECT of the whole row, which the functions stand for."""
    db, world = plain_db, people(plain_db)
    session = world.session()
    viewer = world.join(session, world.viewer)
    db.owner(
        """alter table public.live_stream_viewers add column fraud_note text default 'private';
           alter table public.live_stream_chat add column fraud_note text default 'private'"""
    )
    for table in ("live_stream_viewers", "live_stream_chat"):
        columns = db.value(
            """select string_agg(quote_ident(attname), ', ') from pg_attribute
                where attrelid = %s::regclass and attnum > 0 and attname <> 'fraud_note'""",
            [f"public.{table}"],
        )
        db.owner(f"revoke select on public.{table} from authenticated")
        db.owner(f"grant select ({columns}) on public.{table} to authenticated")
    db.reload_schema()
    for name in ("heartbeat", "leave"):
        with refused("42501"):
            world.viewer.api.rpc(f"live_stream_{name}", {"viewer_id": viewer["id"]})
    with refused("42501"):
        world.viewer.api.rpc("live_stream_send_message", {"session_id": session["id"], "message": "hello"})
    db.owner("grant select on public.live_stream_viewers to authenticated")
    assert world.viewer.api.rpc("live_stream_heartbeat", {"viewer_id": viewer["id"]})["fraud_note"] == "private"


def test_only_a_heartbeat_that_is_alone_is_committed_without_waiting_for_the_disk(fresh_server):
    """Whatever else the transaction has written is as safe as ever."""
    for setting in ("wal_writer_delay = '10s'", "fsync = on", "synchronous_commit = on"):
        fresh_server.run("postgres", f"alter system set {setting}")
    fresh_server.crash()
    fresh_server.make_templates()
    with fresh_server.database("plain") as db:
        world = people(db)
        viewer = world.join(world.session(), world.viewer)["id"]
        db.owner(
            """create table public.purchases (id integer, viewer_id uuid);
               create sequence public.invoice;
               create function public.seen() returns trigger language plpgsql as $$
                 begin perform public.live_stream_heartbeat(new.viewer_id); return new; end $$;
               create trigger seen before insert on public.purchases for each row when (new.viewer_id is not null)
                 execute function public.seen()"""
        )
        heartbeat = "select public.live_stream_heartbeat(%(viewer)s)"
        with db.connect() as connection:

            def is_behind(*statements):
                connection.execute("insert into public.purchases values (0, null)")
                with connection.transaction():
                    for statement in statements:
                        connection.execute(statement, {"viewer": viewer})
                lag = "select pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn() as behind"
                return connection.execute(lag).fetchone()["behind"]

            is_behind(heartbeat)
            assert is_behind(heartbeat)
            assert is_behind(heartbeat, heartbeat)
            assert not is_behind("insert into public.purchases values (1, %(viewer)s)")
            assert not is_behind(
                "insert into public.purchases select 1, null from public.live_stream_heartbeat(%(viewer)s)"
            )
            assert not is_behind(heartbeat, "select nextval('public.invoice')")
            assert not is_behind("select nextval('public.invoice') from generate_series(1, 40)", heartbeat)

            # What an app has put on the table of heartbeats writes with them.
            purchase = """create function public.buy() returns {type} language plpgsql {kind} as $$
                begin insert into public.purchases values (2, null); return {value}; end $$"""
            for function, put, take_away in (
                (
                    purchase.format(type="trigger", kind="", value="new"),
                    "create trigger buy after update on public.live_stream_heartbeats for each row execute function public.buy()",
                    "drop trigger buy on public.live_stream_heartbeats",
                ),
                (
                    purchase.format(type="boolean", kind="", value="true"),
                    "alter table public.live_stream_heartbeats add constraint buy check (public.buy()) not valid",
                    "alter table public.live_stream_heartbeats drop constraint buy",
                ),
                (
                    """create table public.balance (viewer_id uuid, at timestamptz, n integer default 0);
                       insert into public.balance select viewer_id, seen_at from public.live_stream_heartbeats;"""
                    + purchase.format(type="trigger", kind="", value="new"),
                    """alter table public.live_stream_heartbeats add constraint buy unique (viewer_id, seen_at);
                       alter table public.balance add foreign key (viewer_id, at)
                         references public.live_stream_heartbeats (viewer_id, seen_at) on update cascade;
                       create trigger buy before update on public.balance for each row execute function public.buy()""",
                    "drop table public.balance; alter table public.live_stream_heartbeats drop constraint buy",
                ),
            ):
                db.owner(function)
                db.owner(put)
                assert not is_behind(heartbeat), put
                db.owner(take_away)
                db.owner("drop function public.buy()")
            assert is_behind(heartbeat)

            # Also when it comes while the heartbeat waits for it.
            db.owner(purchase.format(type="trigger", kind="", value="new"))
            with ThreadPoolExecutor() as threads, db.connect(OWNER) as owner:
                with owner.transaction():
                    owner.execute(
                        """create trigger buy after update on public.live_stream_heartbeats
                             for each row execute function public.buy()"""
                    )
                    beat = threads.submit(is_behind, heartbeat)
                    waiting = "select 1 from pg_locks where not granted and relation = 'public.live_stream_heartbeats'::regclass"
                    until(lambda: db.sql(waiting))
                assert not beat.result()


@own_db("makes a view")
def test_a_rollback_to_a_savepoint_leaves_what_was_before(db, world):
    """An app's trigger may catch an error while a function of ours is at work."""
    session = world.session()
    viewer = world.join(session, world.viewer)
    db.owner(
        """create function public.tries() returns uuid language plpgsql as $$
           begin
             begin raise 'nothing to see'; exception when others then null; end;
             return null;
           end $$;
           grant execute on function public.tries() to public"""
    )
    (row,) = db.sql(
        """with acting as materialized (select live_stream.act_as_viewer(%s) as id),
                tried as materialized (select public.tries() from acting)
           select (live_stream.acting_viewer(null::public.live_stream_viewers)).id from tried""",
        [viewer["id"]],
    )
    assert str(row["id"]) == viewer["id"]


@own_db("makes or drops an index")
def test_an_index_that_is_not_whole_is_not_used(plain_db):
    """As while it is built concurrently, and after that has failed."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    index = "live_stream_viewers_session_id_user_id_idx"
    user = str(uuid.uuid4())
    come = "insert into public.live_stream_viewers (session_id, user_id) values (%s, %s)"
    db.sql(come, [session["id"], user])
    db.owner(f"drop index public.{index}")
    with db.connect() as other, db.connect(options="-c lock_timeout=300ms", user=OWNER) as owner:
        other.execute("begin")
        other.execute(come, [session["id"], str(uuid.uuid4())])
        with pytest.raises(psycopg.errors.LockNotAvailable):
            owner.execute(
                f"create index concurrently {index} on public.live_stream_viewers (session_id, user_id)"
            )
        other.execute("commit")
    assert db.value("select indisvalid from pg_index where indexrelid = %s::regclass", [f"public.{index}"]) is False
    db.sql(come, [session["id"], user])
    db.sql(come, [session["id"], str(uuid.uuid4())])
    assert uniques(db, session) == 3 and differences(db) == []
