"""Stream keys are taken out of a session's row as it is written, and stored when it has been: none is lost, and none goes astray."""

from __future__ import annotations

import psycopg
import pytest

from sizes import own_db

KEYS = "select stream_key, rtmp_url from public.live_stream_credentials where session_id = %s"
NESTED = "update public.live_stream_sessions set description = 'n' where id = new.id"
FAILS = f"begin {NESTED}; perform 1 / 0; exception when division_by_zero then null; end"
OTHER_KEY = "update public.live_stream_sessions set rtmp_url = 'rtmp://app' where id = new.id and new.rtmp_url is null and pg_trigger_depth() < 2"


def keys(db, session):
    rows = db.sql(KEYS, [session["id"]])
    return tuple(rows[0].values()) if rows else (None, None)


@own_db("has triggers of its own")
@pytest.mark.parametrize("name", ["aaa", "zzz"])
@pytest.mark.parametrize("does", [NESTED, FAILS, f"{FAILS}; {NESTED}"])
def test_a_trigger_of_the_apps_that_writes_to_the_session_loses_no_key(db, world, name, does):
    db.owner(
        f"create function public.app() returns trigger language plpgsql as $$ begin"
        f" if pg_trigger_depth() < 2 then {does}; end if; return new; end $$"
    )
    db.owner(f"create trigger {name} after insert or update on public.live_stream_sessions for each row execute function public.app()")
    host = world.influencer.api
    session = host.insert(
        "live_stream_sessions", {"influencer_id": world.influencer.influencer_id, "title": "x", "stream_key": "one"}
    )
    assert keys(db, session) == ("one", None)
    host.update("live_stream_sessions", {"stream_key": "two", "rtmp_url": "rtmp://x"}, where={"id": session["id"]})
    assert keys(db, session) == ("two", "rtmp://x")
    host.upsert("live_stream_sessions", {"id": session["id"], "influencer_id": world.influencer.influencer_id, "title": "y", "stream_key": "three"})
    assert keys(db, session) == ("three", "rtmp://x")


@own_db("has triggers of its own")
def test_a_trigger_of_the_apps_may_bring_the_other_one_along(db, world):
    db.owner(f"create function public.app() returns trigger language plpgsql as $$ begin {OTHER_KEY}; return new; end $$")
    db.owner("create trigger aaa after update on public.live_stream_sessions for each row execute function public.app()")
    session = world.session()
    world.influencer.api.update("live_stream_sessions", {"stream_key": "one"}, where={"id": session["id"]})
    assert keys(db, session) == ("one", "rtmp://app")


SAVED = "insert into public.live_stream_sessions (id, influencer_id, title, stream_key{0}) values (%s, %s, 'x', 'astray'{1}) on conflict (id) do update set stream_key = excluded.stream_key"
NOT_STORED = {
    "refused": (SAVED.format(", session_code", ", 'no code'") + ", session_code = excluded.session_code", True),
    "does nothing": (SAVED.format("", "") + " where false", False),
    "rolled back": (SAVED.format("", ""), None),
}


@pytest.mark.parametrize("why", NOT_STORED)
def test_a_key_that_was_not_stored_is_forgotten(db, world, why):
    """On one connection, as a pool has it: whatever comes next, and whoever sends it."""
    session = world.session()
    query, fails = NOT_STORED[why]
    with db.connect() as connection:
        connection.execute("begin")
        if fails:
            with pytest.raises(psycopg.Error):
                connection.execute(query, [session["id"], session["influencer_id"]])
        else:
            connection.execute(query, [session["id"], session["influencer_id"]])
        connection.execute("commit" if why == "does nothing" else "rollback")
        # As of a row that is saved as it was read.
        connection.execute("update public.live_stream_sessions set stream_key = null, description = 'd' where id = %s", [session["id"]])
    assert keys(db, session) == (None, None)


def test_a_key_goes_with_its_savepoint(db, world):
    session = world.session()
    with db.connect() as connection, connection.transaction():
        with pytest.raises(psycopg.Error), connection.transaction():
            connection.execute("update public.live_stream_sessions set stream_key = 'astray' where id = %s", [session["id"]])
            connection.execute("select 1 / 0")
        connection.execute("update public.live_stream_sessions set stream_key = null where id = %s", [session["id"]])
        with connection.transaction():
            connection.execute("update public.live_stream_sessions set rtmp_url = 'rtmp://x' where id = %s", [session["id"]])
    assert keys(db, session) == (None, "rtmp://x")
