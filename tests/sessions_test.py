"""Sessions: their life cycle, codes, secrets, and what a bad request leaves unchanged."""

from __future__ import annotations

import re
import uuid

import psycopg
import pytest

from database import ROOT
from life_cycle import ALLOWED, REFUSED
from people import at_once
from postgrest import RequestError
from refusals import refused
from sizes import own_db

# The calls that take a session to a status.
CALLS = {
    "live": ("live_stream_start", "live_stream_resume"),
    "paused": ("live_stream_pause",),
    "ended": ("live_stream_end",),
    "cancelled": ("live_stream_cancel",),
}
# The way from scheduled to each status.
WAY = {
    "scheduled": (),
    "live": ("live",),
    "paused": ("live", "paused"),
    "ended": ("live", "ended"),
    "cancelled": ("cancelled",),
    "error": ("error",),
}


def session_in(world, status):
    session = world.session(live=False)
    for step in WAY[status]:
        session = world.set_session(session, status=step)
    assert session["status"] == status
    return session


# The life cycle.


def test_the_whole_table_of_statuses_is_tested():
    assert len(ALLOWED) + len(REFUSED) == 36 and len(ALLOWED) == 17


def test_life_cycle_by_update(world):
    for before, after in ALLOWED + REFUSED:
        session = session_in(world, before)
        if (before, after) in ALLOWED:
            assert world.set_session(session, status=after)["status"] == after, (before, after)
        else:
            with refused("23514", f"session {session['id']} is {before} and cannot become {after}", hint=True):
                world.set_session(session, status=after, title="Changed")
            assert world.read(session) == session, (before, after)
        close(world, session)


def test_life_cycle_by_function(world):
    for before, after in ALLOWED + REFUSED:
        for function in CALLS.get(after, ()):
            session = session_in(world, before)
            if (before, after) in ALLOWED:
                returned = world.influencer.api.rpc(function, session_id=session["id"])
                assert returned["status"] == after and returned["id"] == session["id"], (before, function)
            else:
                with refused("23514", f"is {before} and cannot become {after}", hint=True):
                    world.influencer.api.rpc(function, session_id=session["id"])
                assert world.read(session) == session, (before, function)
            close(world, session)


def test_life_cycle_holds_for_the_server_too(world, db):
    for before, after in REFUSED:
        session = session_in(world, before)
        with refused("23514", "cannot become"):
            world.service.update("live_stream_sessions", {"status": after}, where={"id": session["id"]})
        for run in (db.owner, db.sql):
            with pytest.raises(psycopg.errors.CheckViolation, match="cannot become"):
                run("update public.live_stream_sessions set status = %s where id = %s", [after, session["id"]])
        close(world, session)


def close(world, session):
    """Lets the influencer go on air with another session."""
    if world.read(session)["status"] in ("live", "paused"):
        world.end(session)


def test_one_bad_row_refuses_the_whole_statement(world):
    planned, ended = session_in(world, "scheduled"), session_in(world, "ended")
    with refused("23514", "is ended and cannot become live"):
        where = {"influencer_id": world.influencer.influencer_id}
        world.influencer.api.update("live_stream_sessions", {"status": "live"}, where=where)
    assert world.read(planned) == planned and world.read(ended) == ended


@pytest.mark.parametrize("status", ["paused", "ended", "cancelled", "error"])
def test_a_session_begins_scheduled_or_live(world, status):
    with refused("23514", f"a session cannot begin as {status}", hint=True):
        world.session(live=False, status=status)
    assert world.session(live=False, status="live")["actual_start_time"]


def test_the_database_stamps_start_and_end(world):
    long_ago = "2001-01-01T00:00:00+00:00"
    session = world.session(live=False, actual_start_time=long_ago, actual_end_time=long_ago, created_at=long_ago)
    assert session["actual_start_time"] is None and session["actual_end_time"] is None
    assert session["created_at"] > "2020"
    started = world.set_session(session, status="live", actual_start_time=long_ago)
    assert started["actual_start_time"] > "2020"
    again = world.set_session(started, status="live", actual_start_time=long_ago, created_at=long_ago)
    assert again["actual_start_time"] == started["actual_start_time"]
    assert again["created_at"] == session["created_at"] and again["updated_at"] > started["updated_at"]
    world.pause(session)
    resumed = world.set_session(session, status="live")
    assert resumed["actual_start_time"] == started["actual_start_time"]
    ended = world.set_session(session, status="ended", actual_end_time=long_ago)
    assert ended["actual_end_time"] > resumed["updated_at"]
    later = world.set_session(session, title="Over", actual_end_time=None, actual_start_time=None)
    assert (later["actual_end_time"], later["title"]) == (ended["actual_end_time"], "Over")
    cancelled = world.set_session(world.session(live=False), status="cancelled")
    assert cancelled["actual_start_time"] is None and cancelled["actual_end_time"] is None


def test_the_server_may_bring_sessions_of_before(world, db):
    body = {
        "influencer_id": world.influencer.influencer_id,
        "title": "Imported",
        "status": "ended",
        "actual_start_time": "2020-01-01T10:00:00+00:00",
        "actual_end_time": "2020-01-01T11:00:00+00:00",
        "created_at": "2019-12-24T00:00:00+00:00",
    }
    session = world.service.insert("live_stream_sessions", body)
    assert {name: session[name] for name in body} == body
    with refused("23514", "the session ended before it started", hint=True):
        world.service.insert("live_stream_sessions", body | {"actual_end_time": "2020-01-01T09:00:00Z"})
    with refused("23514", "actual_start_time cannot be infinite", hint=True):
        world.service.insert("live_stream_sessions", body | {"actual_start_time": "-infinity"})
    patch = {"actual_end_time": "2020-01-01T12:00:00+00:00"}
    assert world.service.update("live_stream_sessions", patch, where={"id": session["id"]}, one=True)[
        "actual_end_time"
    ] == patch["actual_end_time"]


def test_an_influencer_has_one_session_on_air(world):
    first, second = world.session("The first"), world.session(live=False)
    for status in ("live", "paused"):
        world.set_session(first, status=status)
        for call in (
            lambda: world.set_session(second, status="live"),
            lambda: world.influencer.api.rpc("live_stream_start", session_id=second["id"]),
            lambda: world.session(live=False, status="live"),
        ):
            with pytest.raises(RequestError) as error:
                call()
            assert (error.value.status, error.value.sqlstate) == (409, "23505")
            assert first["id"] in error.value.message and error.value.hint
            assert f'"The first" ({first["session_code"]}) is {status}' in error.value.detail
        assert world.read(second) == second
    other = world.session(by=world.new_influencer())
    assert other["status"] == "live"
    world.end(first)
    assert world.start(second)["status"] == "live"


def test_a_failed_session_leaves_the_air_free(world):
    failed = world.session()
    world.set_session(failed, status="error")
    other = world.session()
    with refused("23505", other["id"]):
        world.set_session(failed, status="live")
    assert world.set_session(failed, status="ended")["actual_end_time"]


def test_two_sessions_that_go_live_at_once(world):
    for _ in range(5):
        sessions = [world.session(live=False) for _ in range(4)]
        results = at_once(*[lambda s=s: world.start(s) for s in sessions])
        (on_air,) = [result for result in results if not isinstance(result, RequestError)]
        for error in results:
            if isinstance(error, RequestError):
                assert error.sqlstate == "23505" and on_air["id"] in error.message and error.hint, str(error)
        assert sorted(world.read(s)["status"] for s in sessions) == ["live"] + ["scheduled"] * 3
        world.end(on_air)


# Session codes.


def test_a_generated_code_is_kept(world):
    sessions = [world.session(live=False, session_code=code) for code in (None, "", None)]
    codes = [session["session_code"] for session in sessions]
    assert len(set(codes)) == 3
    for code in codes:
        assert re.fullmatch("[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){2}", code)
    for cleared in (None, ""):
        assert world.set_session(sessions[0], session_code=cleared)["session_code"] == codes[0]


def test_a_given_code_is_kept_as_it_is(world):
    for code in ("Summer-Sale-26", "abcdef", "A" * 20, "LOL-OIL"):
        session = world.session(live=False, session_code=code)
        assert session["session_code"] == code
        (found,) = world.anon.rpc("live_stream_session_by_code", code=code)
        assert found["id"] == session["id"]
    assert world.set_session(session, session_code="other-code")["session_code"] == "other-code"
    assert world.anon.rpc("live_stream_session_by_code", code="LOL-OIL") == []


def test_a_code_is_unique_in_every_spelling(world):
    taken = world.session(live=False, session_code="SOIL-10-ABC")
    other = world.session(live=False)
    for code in ("SOIL-10-ABC", "soil10abc", "S0IL-1O-ABC", "s-o-1-l-i-o-abc"):
        with refused("23505", f'session code "{code}" is taken', hint=True):
            world.session(live=False, session_code=code, by=world.new_influencer())
        with refused("23505", "is taken", hint=True):
            world.set_session(other, session_code=code)
    assert world.set_session(taken, session_code="soil10abc")["session_code"] == "soil10abc"
    assert world.read(other) == other


def test_a_code_taken_by_two_at_once(world):
    others = [world.new_influencer() for _ in range(6)]
    results = at_once(*[lambda who=who: world.session(live=False, session_code="same-code", by=who) for who in others])
    assert sorted(getattr(result, "sqlstate", "kept") for result in results) == ["23505"] * 5 + ["kept"]


@pytest.mark.parametrize("code", ["ABC", "A B C D E F", "-ABCDEF", "ABCDEF-", "SÜMMER", "SALE_26", "a-b-c-d-e", "😀" * 6])
def test_a_bad_code_is_refused(world, code):
    with refused("23514", f'"{code}" is no valid session code', hint=True):
        world.session(live=False, session_code=code)
    session = world.session(live=False)
    with refused("23514", "is no valid session code", hint=True):
        world.set_session(session, session_code=code)
    assert world.read(session) == session


def test_a_code_is_found_however_it_is_typed(world):
    session = world.session(live=False, session_code="7K3M-9Q1T-2B0D")
    for typed in ("7K3M-9Q1T-2B0D", "7k3m9q1t2b0d", " 7K3M 9qIt 2bOd ", "7k3m-9qLt-2bod", "7-K-3-M-9-Q-l-T-2-B-0-D"):
        for who in (world.anon, world.viewer.api):
            (found,) = who.rpc("live_stream_session_by_code", code=typed)
            assert found["id"] == session["id"], typed
            assert who.rpc_get("live_stream_session_by_code", code=typed) == [found]
    for typed in ("7K3M-9Q1T-2B0E", "7K3M", "", " ", "%", "7K3M-9Q1T-2B0D'--", "x" * 10_000, "\u2028", None):
        assert world.anon.rpc("live_stream_session_by_code", code=typed) == [], typed


# Who sees a session: (visibility, caller) → by the table, the table with its code, the function by id, and by code.

SEEN = {
    ("public", "stranger"): (True, True, True, True),
    ("public", "anon"): (True, True, True, True),
    ("public", "owner"): (True, True, True, True),
    ("unlisted", "stranger"): (False, True, True, True),
    ("unlisted", "anon"): (False, True, True, True),
    ("unlisted", "viewer"): (True, True, True, True),
    ("unlisted", "owner"): (True, True, True, True),
    ("unlisted", "service"): (True, True, True, True),
    ("private", "stranger"): (False, False, False, False),
    ("private", "anon"): (False, False, False, False),
    ("private", "viewer"): (False, False, False, False),
    ("private", "owner"): (True, True, True, False),
    ("private", "service"): (True, True, True, False),
}


def test_who_sees_a_session(world, db):
    viewer = world.new_user()
    for visibility in ("public", "unlisted", "private"):
        session = world.session(live=False)
        world.join(session, viewer)
        world.set_session(session, visibility=visibility)
        headers = {"X-Session-Code": session["session_code"].lower().replace("-", " ")}
        callers = {
            "stranger": (world.stranger.api, db.as_user(world.stranger.user_id, headers)),
            "anon": (world.anon, db.as_anon(headers)),
            "viewer": (viewer.api, db.as_user(viewer.user_id, headers)),
            "owner": (world.influencer.api, db.as_user(world.influencer.user_id, headers)),
            "service": (world.service, db.as_service(headers)),
        }
        for (kind, caller), seen in SEEN.items():
            if kind != visibility:
                continue
            plain, with_code = callers[caller]
            where = {"id": session["id"]}
            found = (
                plain.select("live_stream_sessions", where=where),
                with_code.select("live_stream_sessions", where=where),
                plain.rpc("live_stream_session", session_id=session["id"]),
                plain.rpc("live_stream_session_by_code", code=session["session_code"]),
            )
            assert tuple(bool(rows) for rows in found) == seen, (kind, caller)
            assert plain.select("live_sessions_with_details", where=where, select="id") == (
                [where] if seen[0] else []
            )


@own_db("counts or changes all that is there")
def test_the_code_in_the_header_shows_that_session_alone(world, db):
    first, second = (world.session(live=False, visibility="unlisted") for _ in range(2))
    rows = db.as_anon({"x-session-code": first["session_code"]}).select("live_stream_sessions")
    assert [row["id"] for row in rows] == [first["id"]]
    for header in ("", "%", "' or true --", "\x7f", second["session_code"] + "0", "x" * 5_000):
        assert db.as_anon({"x-session-code": header}).select("live_stream_sessions") == [], header


def test_a_private_session_is_as_one_that_does_not_exist(world):
    private = world.session(visibility="private")
    for call in (
        lambda api, id: api.rpc("live_stream_join", session_id=id),
        lambda api, id: api.insert("live_stream_viewers", {"session_id": id}),
    ):
        for api in (world.anon, world.viewer.api):
            errors = []
            for id in (private["id"], str(uuid.uuid4())):
                with pytest.raises(RequestError) as error:
                    call(api, id)
                errors.append((error.value.status, str(error.value).replace(id, "ID")))
            assert errors[0] == errors[1] and errors[0][0] == 404
    with refused("PT404"):
        world.stranger.api.rpc("live_stream_end", session_id=private["id"])


def test_the_normal_form_of_a_code_is_the_same_wherever_it_is_written(db):
    """An index and a policy have it: with another one, a code would not be found, or found twice."""
    (index,) = db.sql("select pg_get_indexdef('live_stream_sessions_normal_code_idx'::regclass) as text")
    (policy,) = db.sql("select qual as text from pg_policies where policyname = 'live_stream_sessions_select'")
    form = r"""translate\(upper\(\(*session_code\)::text COLLATE "C"\)+, 'OIL -'::text, '011'::text\)"""
    assert re.search(form, index["text"]) and re.search(form, policy["text"])
    engine = (ROOT / "src" / "sessions" / "codes.rs").read_text().replace("\\", "")
    assert """translate(upper(session_code collate "C"), 'OIL -', '011') = $1""" in engine
