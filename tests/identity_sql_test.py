"""People with SQL of their own, and every function called by those who should not."""

from __future__ import annotations

import json
import uuid

import psycopg
import pytest

from database import OWNER
from people import Person
from sizes import both_shapes, own_db
from trusting import IS_SERVICE, VIEWER, request, role, value

pytestmark = both_shapes


# People with SQL of their own.


@pytest.fixture
def mallory(db, world):
    """A connection of a signed-in stranger who may run any SQL, and owns a schema to put traps into."""
    name = role(db, "mallory", "in role authenticated")
    db.sql(f"create schema traps authorization {name}")
    with db.connect(name) as connection:
        connection.execute("select set_config('request.jwt.claims', %s, false)", [json.dumps({"sub": world.stranger.user_id})])
        yield connection


TRAP = """
create function traps.spring() returns void language plpgsql as $$
begin
  if current_user <> 'mallory' then raise exception 'sprung as %', current_user using errcode = 'XX999'; end if;
end $$;
create function traps.eq(uuid, uuid) returns boolean language plpgsql as $$
  begin perform traps.spring(); return true; end $$;
create operator traps.= (leftarg = uuid, rightarg = uuid, function = traps.eq);
create function traps.eq(text, text) returns boolean language plpgsql as $$
  begin perform traps.spring(); return true; end $$;
create operator traps.= (leftarg = text, rightarg = text, function = traps.eq);
create function traps.ne(text, text) returns boolean language plpgsql as $$
  begin perform traps.spring(); return false; end $$;
create operator traps.<> (leftarg = text, rightarg = text, function = traps.ne);
create function traps.plus(integer, bigint) returns bigint language plpgsql as $$
  begin perform traps.spring(); return 1000; end $$;
create operator traps.+ (leftarg = integer, rightarg = bigint, function = traps.plus);
create function traps.now() returns timestamptz language plpgsql as $$
  begin perform traps.spring(); return '2001-01-01'; end $$;
create function traps.upper(text) returns text language plpgsql as $$
  begin perform traps.spring(); return $1; end $$;
create function traps.translate(text, text, text) returns text language plpgsql as $$
  begin perform traps.spring(); return $1; end $$;
create function traps.jsonb_build_object(text, bigint) returns jsonb language plpgsql as $$
  begin perform traps.spring(); return '{}'; end $$;
create function traps.gen_random_uuid() returns uuid language plpgsql as $$
  begin perform traps.spring(); return '00000000-0000-0000-0000-000000000000'; end $$;
create function traps.make_interval(secs integer) returns interval language plpgsql as $$
  begin perform traps.spring(); return '0'; end $$;
create function traps.uid() returns uuid language plpgsql as $$
  begin perform traps.spring(); return '00000000-0000-0000-0000-000000000000'; end $$;
create temp table live_stream_sessions (id uuid, influencer_id uuid, visibility text, status text);
create temp table live_stream_viewers (id uuid, session_id uuid, user_id uuid, is_still_watching boolean);
create temp table influencers (id uuid, user_id uuid);
create temp table pg_class (oid oid);
"""


@own_db("makes a schema")
@pytest.mark.parametrize(
    "path", ["traps, pg_temp, pg_catalog, public", "traps, pg_temp, public", "pg_temp, traps, live_stream, public"]
)
def test_traps_on_the_search_path_are_never_stepped_on(db, world, mallory, path):
    session = world.session()
    product = world.product(session)
    private = world.session(by=world.new_influencer(), visibility="private")
    influencers = world.db.sql("select id::text from public.influencers order by 1")
    mallory.execute(TRAP)
    for row in influencers:
        mallory.execute("insert into pg_temp.influencers values (%s, %s)", [row["id"], world.stranger.user_id])
    mallory.execute(f"set search_path = {path}")

    def run(query, *params):
        return mallory.execute(query, params).fetchall()

    viewer = run("insert into public.live_stream_viewers (session_id) values (%s) returning *", session["id"])[0]
    assert str(viewer["user_id"]) == world.stranger.user_id and viewer["viewer_type"] == "customer"
    assert viewer["joined_at"].year > 2001
    joined = run("select * from public.live_stream_join(session_id := %s)", session["id"])[0]
    assert joined["id"] == viewer["id"]
    by_code = run("select * from public.live_stream_session_by_code(%s)", session["session_code"].lower())
    assert [str(row["id"]) for row in by_code] == [session["id"]]
    message = run("select * from public.live_stream_send_message(%s, 'hi')", session["id"])[0]
    assert message["is_influencer"] is False
    reacted = run("select * from public.live_stream_react(%s, 'heart')", message["id"])[0]
    assert reacted["reactions"] == {"heart": 1}
    assert run("select clicks from public.live_stream_track_click(%s)", product["id"]) == [{"clicks": 1}]
    run("select * from public.live_stream_heartbeat(%s)", viewer["id"])
    for _ in ("the row's tab", "the function's"):
        run("select * from public.live_stream_leave(%s)", viewer["id"])
    assert run("select cardinality(live_stream.influencer_ids()) as n") == [{"n": 0}]
    assert run("select live_stream.is_service() as it") == [{"it": False}]
    assert run("select id::pg_catalog.text from public.live_stream_sessions") == [{"id": session["id"]}]
    assert run("select 1 from public.session_analytics_summary") == []
    with pytest.raises(psycopg.Error, match="does not exist"):
        run("select * from public.live_stream_join(session_id := %s)", private["id"])
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run("select * from public.live_stream_end(%s)", session["id"])
    totals = world.read(session)
    assert (totals["total_unique_viewers"], totals["total_messages"], totals["total_clicks"]) == (1, 1, 1)
    assert (totals["current_viewers"], totals["total_reactions"], totals["peak_viewers"]) == (0, 1, 1)


@own_db("makes a schema")
def test_a_catalog_of_the_callers_is_not_asked(db, world, mallory):
    """A temporary table by the name of a catalog comes before it on the search path: none of the owner's rows is locked."""
    (row,) = db.owner(
        "insert into public.influencers (user_id, display_name) values (%s, 'Mallory') returning id", [world.stranger.user_id]
    )
    db.owner("create table public.secrets (id uuid primary key)")
    db.owner("insert into public.secrets values (%s)", [row["id"]])
    mallory.execute("create temp table pg_constraint (confrelid oid, conindid oid, connamespace oid, conname text, contype text)")
    for key in ("influencer_id", "user_id"):
        mallory.execute(
            """insert into pg_temp.pg_constraint
               values ('public.secrets'::regclass, 'public.secrets_pkey'::regclass, 'public'::regnamespace, %s, 'f')""",
            [f"live_stream_moderation_log_{key}_fkey"],
        )
    for table in ("live_stream_moderators", "live_stream_bans"):
        mallory.execute(
            f"insert into public.{table} (influencer_id, user_id) values (%s, %s)", [row["id"], world.new_user().user_id]
        )
    assert db.value("select xmax::text from public.secrets") == "0"
    assert db.value("select xmax::text from public.secrets") == "0"
    assert db.value("select count(*) from public.live_stream_moderation_log where influencer_id = %s", [row["id"]]) == 2


@own_db("makes a schema")
def test_a_type_of_the_callers_runs_no_code_as_the_owner(db, world, mallory):
    """A domain by the name of a built-in type, whose check is a function of the caller's: where a definer function
    resolves the name to it, the check runs with the rights of the owner."""
    session = world.session()
    product, message = world.product(session), world.say(session, world.viewer)
    # As an influencer, with a private session: then every condition of the functions is looked at.
    (row,) = db.owner(
        "insert into public.influencers (user_id, display_name) values (%s, 'Mallory') returning id", [world.stranger.user_id]
    )
    own = world.session(by=Person(world.stranger.user_id, world.stranger.api, str(row["id"])), visibility="private")
    own_product = world.product(own, by=world.stranger)
    own_message = world.say(own, world.stranger)
    mallory.execute(
        "create function traps.spring(anyelement) returns boolean language plpgsql as $$ begin"
        " if current_user <> 'mallory' then raise exception 'sprung as %', current_user; end if; return true; end $$;"
        + "".join(
            f"create domain pg_temp.{name} as pg_catalog.{name} check (traps.spring(value));"
            for name in ("uuid", "text", "int4", "bool", "timestamptz", "varchar", "int8")
        )
    )
    for call, id in (
        ("live_stream_session", session["id"]),
        ("live_stream_session", own["id"]),
        ("live_stream_session_by_code", session["session_code"]),
        ("live_stream_track_click", product["id"]),
        ("live_stream_track_click", own_product["id"]),
        ("live_stream_flag_message", message["id"]),
        ("live_stream_flag_message", own_message["id"]),
    ):
        assert len(mallory.execute(f"select * from public.{call}(%s)", [id]).fetchall()) == 1
    mallory.execute("select * from public.live_stream_react(%s, 'heart')", [message["id"]])
    mallory.execute("insert into public.live_stream_viewers (session_id) values (%s)", [session["id"]])


@own_db("makes a schema")
def test_an_error_inside_the_engine_leaves_the_caller_as_it_was(db, world, mallory):
    session = world.session()
    product = world.product(session)
    private = world.session(by=world.new_influencer(), visibility="private")
    mallory.execute("set search_path = traps, public")
    mallory.execute("begin")
    for statement, params in (
        ("select live_stream.track_product(%s, 'jump', null)", [product["id"]]),
        ("select live_stream.join_session(null, %s, null, null, null, null, null, null, null)", ["no such code"]),
        ("select live_stream.join_session(%s, null, null, null, null, null, null, null, null)", [private["id"]]),
        ("insert into public.live_stream_chat (session_id, message) values (%s, 'x')", [private["id"]]),
    ):
        mallory.execute("savepoint s")
        with pytest.raises(psycopg.Error):
            mallory.execute(statement, params)
        mallory.execute("rollback to s")
        assert value(mallory, "select current_user::text") == "mallory"
        assert value(mallory, "select current_setting('search_path')") == "traps, public"
        assert value(mallory, IS_SERVICE) is False
        # And the guards are up: what the client claims is not believed.
        row = mallory.execute(
            "insert into public.live_stream_viewers (session_id, watch_duration_seconds, messages_sent, joined_at)"
            " values (%s, 9999, 9999, '2001-01-01') returning *",
            [session["id"]],
        ).fetchone()
        assert (row["watch_duration_seconds"], row["messages_sent"]) == (0, 0) and row["joined_at"].year > 2001
        mallory.execute("rollback to s")
    mallory.execute("rollback")


@own_db("makes a schema")
@pytest.mark.parametrize("who", [OWNER, "postgres", "service_role", "supabase_auth_admin"])
def test_nobody_takes_a_role_that_is_not_its_own(db, mallory, who):
    for statement in (f"set role {who}", f"set session authorization {who}"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            mallory.execute(statement)


@own_db("makes a schema")
def test_a_role_is_not_taken_by_setting_what_the_engine_reads(db, world, mallory):
    """live_stream.viewer_id is a setting that everybody may set: it opens what the header opens, and no more."""
    session = world.session()
    viewer = world.join(session, world.viewer)
    mallory.execute("select set_config('live_stream.viewer_id', %s, false)", [viewer["id"]])
    assert mallory.execute("select * from public.live_stream_viewers").fetchall() == []
    for setting in ("x", "", "' or true"):
        mallory.execute("select set_config('live_stream.viewer_id', %s, false)", [setting])
        assert value(mallory, VIEWER) is None


def test_clients_reach_no_table_past_the_policies(db, world):
    """Neither a trigger, nor a truncate, nor a key of their own on a table of ours."""
    rights = db.sql(
        "select c.relname, r.rolname, p.privilege from pg_class c, pg_roles r,"
        " unnest(array['trigger', 'truncate', 'references']) as p (privilege)"
        " where c.relnamespace = 'public'::regnamespace and c.relname like 'live\\_stream%%' and c.relkind in ('r', 'v')"
        " and r.rolname in ('anon', 'authenticated') and has_table_privilege(r.oid, c.oid, p.privilege)"
    )
    assert rights == []


# Every function, called by those who should not.

def functions(db):
    return db.sql(
        "select p.oid::regprocedure::text as signature, n.nspname as schema, p.proname as name,"
        " array(select format_type(t, null) from unnest(p.proargtypes) as t) as types"
        " from pg_proc p join pg_namespace n on n.oid = p.pronamespace"
        " where n.nspname in ('live_stream', 'public') and p.prokind = 'f' order by 1"
    )


def contents(db):
    """A fingerprint of every row of ours."""
    tables = db.sql("select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1")
    return {
        row["relname"]: db.value(f"select md5(coalesce(string_agg(t::text, ',' order by t::text), '')) from public.{row['relname']} t")
        for row in tables
    }


@pytest.mark.parametrize("who", ["anon", "nobody", "stranger"])
def test_every_function_called_by_somebody_without_rights(db, world, who):
    """With nulls, and with the ids of a private session's rows: a clean refusal or nothing, and nothing changes."""
    session = world.session(visibility="private")
    viewer, product = world.join(session, world.influencer), world.product(session)
    message = world.say(session, world.influencer)
    before = contents(db)
    claims = {"anon": "", "nobody": '{"role":"authenticated"}', "stranger": json.dumps({"sub": world.stranger.user_id})}
    called = 0
    with db.connect("authenticator") as connection:
        for function in functions(db):
            for id in (None, session["id"], viewer["id"], product["id"], message["id"]):
                given = {"uuid": id, "text": "x", "boolean": True, "integer": 1, "numeric": 1, "bigint": 1}
                values = [None if id is None else given.get(name) for name in function["types"]]
                places = ", ".join(f"%s::{name}" for name in function["types"])
                call = f"select {function['schema']}.{function['name']}({places})"
                called += 1
                try:
                    with request(connection, "anon" if who == "anon" else "authenticated", claims=claims[who]):
                        connection.execute(call, values)
                except psycopg.Error as error:
                    text = f"{error} {error.diag.message_detail} {error.diag.message_hint} {error.diag.context}"
                    assert error.sqlstate not in ("XX000", "XX001", "XX002"), (function["signature"], text)
                    for word in ("panicked", "unwrap", ".rs:", "unboxing", "private.example"):
                        assert word not in text, (function["signature"], text)
    assert called > 200
    assert contents(db) == before


def test_what_clients_may_call_of_the_engine(db):
    """A function that joins this list has been thought about."""
    both = {
        "act_as_viewer", "acting_viewer", "banning_influencer_ids", "calendar", "calendar_feed", "guest_session_ids",
        "heartbeat", "influencer_ids", "is_service", "join_session", "moderated_influencer_ids", "next_occurrence", "occurrences",
        "open_session", "request_session_code", "require_schedule", "session_product", "share_session", "track_product",
        "uid", "viewer_id",
    }  # fmt: skip
    signed_in = {
        "accept_invitation", "accepted_session", "clear_flag", "create_invitation", "fitting_number", "fitting_text", "flag_message",
        "import_ics", "message",
        "moderated_influencer", "own_influencer", "react", "recorded_order", "require_own_message", "require_own_schedule",
        "require_own_session", "revoke_invitation", "send_message", "split_result", "split_schedule",
    }  # fmt: skip

    def callable_by(name):
        rows = db.sql(
            "select distinct proname as name from pg_proc where pronamespace = 'live_stream'::regnamespace"
            " and has_function_privilege(%s, oid, 'execute')",
            [name],
        )
        return {row["name"] for row in rows}

    assert callable_by("anon") == both
    assert callable_by("authenticated") == both | signed_in
    assert callable_by("public") == set()
