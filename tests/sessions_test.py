"""Sessions: their life cycle, codes, secrets, and what a bad request leaves unchanged."""

from __future__ import annotations

import re
import uuid

import psycopg
import pytest

from database import ROOT
from people import at_once, people
from postgrest import RequestError
from refusals import refused
from sizes import own_db

STATUSES = ("scheduled", "live", "paused", "ended", "cancelled", "error")
NEXT = {
    "scheduled": {"live", "cancelled", "error"},
    "live": {"paused", "ended", "error"},
    "paused": {"live", "ended", "error"},
    "error": {"live", "ended"},
    "ended": set(),
    "cancelled": set(),
}
ALLOWED = [(before, after) for before in STATUSES for after in STATUSES if before == after or after in NEXT[before]]
REFUSED = [(before, after) for before in STATUSES for after in STATUSES if (before, after) not in ALLOWED]
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
COUNTERS = (
    "current_viewers",
    "peak_viewers",
    "total_unique_viewers",
    "total_watch_time_seconds",
    "total_watch_time_minutes",
    "average_watch_time_minutes",
    "total_messages",
    "total_reactions",
    "total_shares",
    "total_products_showcased",
    "total_clicks",
    "total_orders",
    "total_revenue",
    "conversion_rate",
    "connection_issues_count",
    "buffering_events",
    "total_buffering_time_seconds",
)


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


@own_db("counts all that is there")
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


# Whose a session is.


def test_only_the_owner_changes_a_session(world):
    session = world.session()
    other = world.new_influencer()
    for api in (world.viewer.api, other.api):
        assert api.update("live_stream_sessions", {"title": "Mine"}, where={"id": session["id"]}) == []
        assert api.delete("live_stream_sessions", where={"id": session["id"]}) == []
        for function in ("start", "pause", "resume", "end", "cancel"):
            with refused("42501", "is not the caller's", hint=True):
                api.rpc(f"live_stream_{function}", session_id=session["id"])
    for call in (
        lambda: world.anon.update("live_stream_sessions", {"title": "Mine"}, where={"id": session["id"]}),
        lambda: world.anon.delete("live_stream_sessions", where={"id": session["id"]}),
        lambda: world.anon.rpc("live_stream_end", session_id=session["id"]),
    ):
        with pytest.raises(RequestError) as error:
            call()
        assert error.value.status == 401
    assert world.read(session) == session
    for id in (str(uuid.uuid4()), None):
        with refused("PT404" if id else "22023", hint=True):
            world.influencer.api.rpc("live_stream_end", session_id=id)


@own_db("counts all that is there")
def test_nobody_streams_as_somebody_else(world):
    for influencer_id, sqlstate in ((world.influencer.influencer_id, "42501"), (str(uuid.uuid4()), "42501"), (None, "23502")):
        for api in (world.viewer.api, world.new_influencer().api):
            with refused(sqlstate, "influencer", hint=True):
                api.insert("live_stream_sessions", {"influencer_id": influencer_id, "title": "Mine"})
    with refused("23502", "influencer_id", hint=True):
        world.viewer.api.rpc("live_stream_create", title="Mine")
    assert world.influencer.api.select("live_stream_sessions") == []


def test_a_session_stays_with_its_influencer(world):
    session = world.session(live=False)
    other = world.new_influencer()
    for new in (other.influencer_id, str(uuid.uuid4()), None):
        with refused("42501", f"session {session['id']} belongs to its influencer", hint=True):
            world.set_session(session, influencer_id=new)
    assert world.read(session) == session
    moved = world.service.update(
        "live_stream_sessions", {"influencer_id": other.influencer_id}, where={"id": session["id"]}, one=True
    )
    assert moved["influencer_id"] == other.influencer_id
    # A server cannot give somebody a second session on air either.
    mine, live = world.session(), world.session(by=other)
    with refused("23505", live["id"]):
        world.service.update("live_stream_sessions", {"influencer_id": other.influencer_id}, where={"id": mine["id"]})


def test_ids_stay(world):
    session = world.session(live=False)
    assert world.set_session(session, id=str(uuid.uuid4()))["id"] == session["id"]


def test_nobody_writes_counters(world, db):
    forged = dict.fromkeys(COUNTERS, 7)
    session = world.session(live=False, **forged)
    assert {session[name] for name in COUNTERS} == {0}
    of_service = world.service.insert(
        "live_stream_sessions", {"influencer_id": world.influencer.influencer_id, "title": "Its", **forged}
    )
    assert {of_service[name] for name in COUNTERS} == {0}
    for api in (world.influencer.api, world.service):
        row = api.update("live_stream_sessions", forged, where={"id": session["id"]}, one=True)
        assert {row[name] for name in COUNTERS} == {0}
    for run in (db.owner, db.sql):
        sets = ", ".join(f"{name} = 7" for name in COUNTERS)
        (row,) = run(f"update public.live_stream_sessions set {sets} where id = %s returning *", [session["id"]])
        assert {row[name] for name in COUNTERS} == {0}
    viewer = world.join(session, world.viewer)
    row = world.set_session(session, status="live", current_viewers=0, peak_viewers=0, total_unique_viewers=0)
    assert (row["current_viewers"], row["peak_viewers"], row["total_unique_viewers"]) == (1, 1, 1)
    assert world.leave(viewer, world.viewer)["is_still_watching"] is False


# Secrets.

SECRETS = {"stream_key": "sk-secret", "rtmp_url": "rtmp://secret"}


def secrets(world, session, by=None):
    rows = (by or world.influencer.api).rpc("live_stream_stream_credentials", session_id=session["id"])
    return {name: row[name] for row in rows for name in SECRETS}


@own_db("counts all that is there")
def test_secrets_are_in_no_row(world, db):
    created = world.session(live=False, **SECRETS)
    updated = world.set_session(created, stream_key="sk-secret-2")
    assert secrets(world, created) == SECRETS | {"stream_key": "sk-secret-2"}
    by_function = world.influencer.api.rpc("live_stream_start", session_id=created["id"], **SECRETS)
    assert secrets(world, created) == SECRETS
    world.service.insert("live_stream_products", {"session_id": created["id"], "product_id": world.new_product()})
    seen = [created, updated, by_function]
    for api in (world.anon, world.viewer.api, world.influencer.api, world.service):
        for relation in ("live_stream_sessions", "live_sessions_with_details", "session_analytics_summary"):
            seen += api.select(relation)
        seen += api.select("live_stream_products", "*, session:live_stream_sessions(*)")
        seen += api.rpc("live_stream_session_by_code", code=created["session_code"])
    assert len(seen) > 12 and "secret" not in str(seen)
    assert db.value("select stream_key is null and rtmp_url is null from public.live_stream_sessions")
    with pytest.raises(psycopg.errors.CheckViolation):
        db.sql(
            "alter table public.live_stream_sessions disable trigger live_stream_sessions_guard;"
            "update public.live_stream_sessions set stream_key = 'sk-secret'"
        )


def test_secrets_are_the_owners(world):
    session = world.session(**SECRETS)
    other = world.new_influencer()
    for api in (world.viewer.api, other.api):
        assert secrets(world, session, api) == {}
        assert api.select("live_stream_credentials") == []
    for api in (world.influencer.api, world.service):
        assert secrets(world, session, api) == SECRETS
    for call in (
        lambda: world.anon.select("live_stream_credentials"),
        lambda: world.anon.rpc("live_stream_stream_credentials", session_id=session["id"]),
        lambda: world.influencer.api.insert("live_stream_credentials", {"session_id": session["id"]}),
        lambda: other.api.update("live_stream_credentials", {"stream_key": "x"}, where={"session_id": session["id"]}),
        lambda: other.api.delete("live_stream_credentials", where={"session_id": session["id"]}),
    ):
        with refused("42501"):
            call()
    assert secrets(world, session) == SECRETS


def test_an_empty_text_removes_a_secret_and_null_leaves_it(world):
    session = world.session(**SECRETS)
    world.set_session(session, stream_key=None, rtmp_url=None, title="The same")
    assert secrets(world, session) == SECRETS
    world.set_session(session, stream_key="", rtmp_url=None)
    assert secrets(world, session) == {"stream_key": None, "rtmp_url": "rtmp://secret"}


def test_anothers_secrets_are_out_of_reach(world, db):
    """With the id of somebody else's session, or of one's own that is there already."""
    victim = world.session(**SECRETS)
    attacker = world.new_influencer("Mallory")
    forged = "(id, influencer_id, title, stream_key) values (%s, %s, 'Mine', 'forged')"
    insert = f"insert into public.live_stream_sessions {forged}"

    def attack(statement):
        with db.connect("authenticator") as connection, connection.transaction():
            connection.execute(
                "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)",
                ['{"sub": "%s"}' % attacker.user_id],
            )
            connection.execute(statement, [victim["id"], attacker.influencer_id])
            # Whatever was left over is not stored by the next statement.
            connection.execute("update public.live_stream_sessions set stream_key = null")

    attack(f"{insert} on conflict do nothing")
    attack(f"{insert} on conflict (id) do nothing")
    for statement in (
        insert,
        f"{insert} on conflict (id) do update set stream_key = excluded.stream_key",
        f"{insert} on conflict (id) do update set title = 'Mine', influencer_id = excluded.influencer_id",
    ):
        with pytest.raises(psycopg.Error):
            attack(statement)
    assert secrets(world, victim) == SECRETS and world.read(victim)["title"] == victim["title"]

    # The owner's own row was not written either: its next statement stores nothing but its own.
    with db.connect() as connection, connection.transaction():
        connection.execute(f"{insert} on conflict (id) do nothing", [victim["id"], world.influencer.influencer_id])
        connection.execute("update public.live_stream_sessions set stream_key = null, title = 'Again'")
    assert secrets(world, victim) == SECRETS and world.read(victim)["title"] == "Again"


def test_secrets_of_many_rows_and_of_rolled_back_ones(world, db):
    body = [{"influencer_id": world.influencer.influencer_id, "title": "T", "stream_key": f"key-{n}"} for n in range(50)]
    rows = world.influencer.api.insert("live_stream_sessions", body)
    assert [secrets(world, row)["stream_key"] for row in rows] == [f"key-{n}" for n in range(50)]
    update = "update public.live_stream_sessions set stream_key = 'rolled back' where id = %s"
    with db.connect() as connection:
        with pytest.raises(psycopg.errors.CheckViolation), connection.transaction():
            with connection.transaction(force_rollback=True):
                connection.execute(update, [rows[0]["id"]])
            connection.execute("update public.live_stream_sessions set stream_key = null where id = %s", [rows[0]["id"]])
            with connection.transaction():
                connection.execute(update.replace("rolled back", "kept"), [rows[1]["id"]])
            connection.execute("update public.live_stream_sessions set max_viewers = 0")
    assert [secrets(world, row)["stream_key"] for row in rows[:2]] == ["key-0", "key-1"]


# Bad input: what is sent, the SQLSTATE, and words of the message. Those with words of ours carry a hint.

BAD = [
    ({"title": ""}, "23514", "the title of a session is empty"),
    ({"title": " \t\n\u00a0\u3000"}, "23514", "the title of a session is empty"),
    ({"title": None}, "23502", "title"),
    ({"title": "x" * 256}, "22001", "character varying(255)"),
    ({"title": "nul \u0000"}, "22P05", ""),
    ({"description": "x" * 10_001}, "23514", "the description of a session is too long"),
    ({"description": "x" * 10_000_000}, "23514", "the description of a session is too long"),
    ({"max_viewers": 0}, "23514", "max_viewers of a session must be 1 or more"),
    ({"max_viewers": -1}, "23514", "max_viewers of a session must be 1 or more"),
    ({"max_viewers": 2**31}, "22003", ""),
    ({"max_viewers": "NaN"}, "22P02", ""),
    ({"max_viewers": 1.5}, "22P02", ""),
    (
        {"scheduled_start_time": "2030-01-01T10:00:00Z", "scheduled_end_time": "2030-01-01T10:00:00Z"},
        "23514",
        "the session is scheduled to end before it starts",
    ),
    (
        {"scheduled_start_time": "2030-01-01T10:00:00Z", "scheduled_end_time": "2030-01-01T09:00:00Z"},
        "23514",
        "the session is scheduled to end before it starts",
    ),
    ({"scheduled_start_time": "infinity"}, "23514", "scheduled_start_time cannot be infinite"),
    ({"scheduled_end_time": "-infinity"}, "23514", "scheduled_end_time cannot be infinite"),
    ({"scheduled_start_time": "2030-02-30T10:00:00Z"}, "22008", ""),
    ({"status": "LIVE"}, "22P02", "live_stream_status"),
    ({"status": None}, "23514", "a session needs a status"),
    ({"visibility": "friends"}, "22P02", "live_stream_visibility"),
    ({"visibility": None}, "23502", "visibility"),
    ({"stream_quality": "8k"}, "22P02", "live_stream_quality"),
    ({"thumbnail_url": "x" * 2049}, "22001", ""),
    ({"stream_key": "x" * 2049}, "22001", ""),
    ({"session_code": "x" * 21}, "22001", ""),
    ({"is_chat_enabled": "maybe"}, "22P02", ""),
    ({"is_chat_enabled": None}, "23502", "is_chat_enabled"),
]
HINTED = ("the title", "the description", "max_viewers of", "the session is", "scheduled_", "a session needs")


@own_db("counts all that is there")
@pytest.mark.parametrize("columns, sqlstate, words", BAD, ids=[f"{list(b[0])[0]}-{n}" for n, b in enumerate(BAD)])
def test_bad_input_changes_nothing(plain_db, columns, sqlstate, words):
    world = people(plain_db)
    session = world.session(live=False)
    hint = words.startswith(HINTED)
    with refused(sqlstate, words, hint=hint):
        world.session(live=False, **columns)
    with refused(sqlstate, words, hint=hint):
        world.set_session(session, room_id="changed", **columns)
    assert world.influencer.api.select("live_stream_sessions") == [session]


@pytest.mark.parametrize("id", ["", "1", "not-a-uuid", "{", "0" * 33])
def test_malformed_ids(world, id):
    for call in (
        lambda: world.influencer.api.rpc("live_stream_end", session_id=id),
        lambda: world.influencer.api.select("live_stream_sessions", where={"id": id}),
        lambda: world.session(live=False, id=id),
    ):
        with refused("22P02", "uuid"):
            call()


def test_no_limit_and_longest_texts(world):
    session = world.session(live=False, max_viewers=None, title="ü" * 255, description="ü" * 10_000)
    assert session["max_viewers"] is None and len(session["title"]) == 255
    assert world.set_session(session, max_viewers=2**31 - 1)["max_viewers"] == 2**31 - 1


# What the app does to our table.


@own_db("alters a table")
def test_columns_of_the_apps_own(world, db):
    db.owner("alter table public.live_stream_sessions add column first text, add column brand text default 'Acme'")
    db.owner("alter table public.live_stream_sessions drop column first")
    db.reload_schema()
    session = world.session(brand="Umbrella")
    assert session["brand"] == "Umbrella"
    world.join(session, world.viewer)
    assert world.set_session(session, brand="Initech")["brand"] == "Initech"
    ended = world.end(session)
    assert (ended["brand"], ended["total_unique_viewers"], ended["status"]) == ("Initech", 1, "ended")


@own_db("alters a table")
def test_a_column_that_is_gone_is_named(world, db):
    session = world.session()
    db.owner("alter table public.live_stream_sessions drop column peak_viewers cascade")
    db.close()
    db.reload_schema()
    with refused("55000", 'column "peak_viewers" of table "live_stream_sessions" is missing', hint=True):
        world.join(session, world.viewer)
    with refused("55000", 'column "peak_viewers" of table "live_stream_sessions" is missing', hint=True):
        world.end(session)


@own_db("counts all that is there")
def test_deleting_a_session_or_its_influencer(world, db):
    session = world.session(**SECRETS)
    world.join(session, world.viewer)
    world.say(session, world.viewer)
    world.product(session)
    assert [row["id"] for row in world.influencer.api.delete("live_stream_sessions", where={"id": session["id"]})] == [
        session["id"]
    ]
    world.join(world.session(**SECRETS), world.viewer)
    db.owner("delete from public.influencers where id = %s", [world.influencer.influencer_id])
    for table in ("sessions", "viewers", "chat", "products", "credentials", "heartbeats"):
        assert db.value(f"select count(*) from public.live_stream_{table}") == 0, table


def test_the_normal_form_of_a_code_is_the_same_wherever_it_is_written(db):
    """An index and a policy have it: with another one, a code would not be found, or found twice."""
    (index,) = db.sql("select pg_get_indexdef('live_stream_sessions_normal_code_idx'::regclass) as text")
    (policy,) = db.sql("select qual as text from pg_policies where policyname = 'live_stream_sessions_select'")
    form = r"""translate\(upper\(\(*session_code\)::text COLLATE "C"\)+, 'OIL -'::text, '011'::text\)"""
    assert re.search(form, index["text"]) and re.search(form, policy["text"])
    engine = (ROOT / "src" / "sessions" / "codes.rs").read_text().replace("\\", "")
    assert """translate(upper(session_code collate "C"), 'OIL -', '011') = $1""" in engine
