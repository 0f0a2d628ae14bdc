"""Viewers: who watches, from when to when, and what a viewer may say of itself."""

from __future__ import annotations

import json
import uuid

import psycopg
import pytest

from people import at_once, people
from postgrest import RequestError
from refusals import refused
from sizes import own_db
from viewing import counts, join, rows, viewer_row

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
    # That was in another tab.
    assert world.viewer.api.rpc("live_stream_leave", viewer_id=viewer["id"])["is_still_watching"]
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
    left = [world.anon.rpc("live_stream_leave", viewer_id=viewer["id"])["is_still_watching"] for _ in range(3)]
    assert left == [True, True, False]
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


def test_a_guest_whom_the_server_brings_along(world):
    """It is an anonymous viewer, and its id is the key to its row."""
    session = world.session()
    viewer = world.service.insert("live_stream_viewers", {"session_id": session["id"]})
    assert viewer["viewer_type"] == "anonymous"
    assert world.anon.rpc("live_stream_heartbeat", viewer_id=viewer["id"])["id"] == viewer["id"]
    assert join(world.anon, session, viewer_id=viewer["id"])["id"] == viewer["id"]
    assert [row["id"] for row in world.anonymous(viewer).select("live_stream_viewers")] == [viewer["id"]]
    wholesaler = world.service.insert("live_stream_viewers", {"session_id": session["id"], "viewer_type": "wholesaler"})
    assert wholesaler["viewer_type"] == "wholesaler"


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


@own_db("counts or changes all that is there")
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
