"""Policies cost a statement, not a row: subscribers and pages of rows are many, and who is calling does not change."""

from __future__ import annotations

import json
import re
import time

import pytest

from people import people
from sizes import both_shapes, own_db

pytestmark = both_shapes

def plan_of(db, role, claims, statement):
    with db.connect("authenticator") as connection, connection.transaction():
        connection.execute(f"set local role {role}")
        connection.execute("select set_config('request.jwt.claims', %s, true)", [claims])
        (row,) = connection.execute(f"explain (verbose, format json) {statement}").fetchall()
        return row["QUERY PLAN"][0]["Plan"]


def nodes(plan, of_statement=True):
    """Each node, and whether it runs for rows rather than once for the statement."""
    once = plan.get("Parent Relationship") == "InitPlan"
    yield plan, of_statement and not once
    for child in plan.get("Plans", []):
        yield from nodes(child, of_statement and not once)


def calls_per_row(plan):
    found = set()
    for node, per_row in nodes(plan):
        if per_row:
            for key in ("Filter", "Index Cond", "Join Filter", "Hash Cond", "Recheck Cond", "One-Time Filter"):
                if key != "One-Time Filter":
                    found |= set(re.findall(r"live_stream\.\w+\([^()]*\)", node.get(key, "")))
    return found


@pytest.fixture
def tables(db):
    rows = db.sql(
        "select c.relname as name from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'"
        " and c.relrowsecurity and c.relname like 'live\\_stream\\_%' order by 1"
    )
    return [row["name"] for row in rows]


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_who_is_calling_is_asked_once(db, tables, role):
    person = people(db).viewer
    claims = json.dumps({"role": role} | ({"sub": person.user_id} if role == "authenticated" else {}))
    seen = set()
    for table in tables:
        for statement in ("select * from public.{}", "delete from public.{}", "update public.{} set {} = {}"):
            column = db.value("select attname from pg_attribute where attrelid = %s::regclass and attnum = 1", [f"public.{table}"])
            may = "select" if statement.startswith("select") else statement[:6]
            if not db.value("select has_table_privilege(%s, %s, %s)", [role, f"public.{table}", may]):
                continue
            text = statement.format(table, column, column)
            seen |= {(table, call) for call in calls_per_row(plan_of(db, role, claims, text))}
    assert seen == set()


# A call for each row, as it is written: not within a query of its own. The rows of `values` and the columns that are written
# do not go through a table.
BARE = re.compile(r"(?:=|<>|\bin|\bany|\ball)\s*\(*\s*live_stream\.(\w+)\(\)", re.I)


def test_the_text_of_policies_views_and_functions_asks_once(db):
    """Policies of INSERT too, which no plan shows, and what stands in functions."""
    texts = db.sql(
        """select p.policyname as name, coalesce(p.qual, '') || ' ' || coalesce(p.with_check, '') as text from pg_policies p
            where p.schemaname in ('public', 'live_stream')
           union all select v.viewname, v.definition from pg_views v
            where v.schemaname in ('public', 'live_stream')
           union all select f.proname, f.prosrc from pg_proc f join pg_language l on l.oid = f.prolang
            where f.pronamespace in ('public'::regnamespace, 'live_stream'::regnamespace) and l.lanname = 'sql'"""
    )
    assert len(texts) > 100
    # The planner has the answer of an immutable one before the statement runs.
    once = {row["name"] for row in db.sql("select proname as name from pg_proc where provolatile = 'i'")}
    bare = {(row["name"], call) for row in texts for call in BARE.findall(row["text"])}
    assert {(name, call) for name, call in bare if call not in once} == set()
    assert BARE.findall("where id = live_stream.viewer_id() or a <> all (live_stream.x())") == ["viewer_id", "x"]


# What a statement costs.

MANY = 20_000
LONG_HEADERS = {f"x-{n}": "a" * 990 for n in range(60)}
LONG_CLAIMS = {"app_metadata": {str(n): "a" * 90 for n in range(600)}}


@pytest.fixture
def crowded(plain_db):
    """One long chat and many anonymous viewers, among many sessions."""
    world = people(plain_db)
    session = world.session(max_viewers=None)
    with plain_db.connect() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "insert into public.live_stream_sessions (influencer_id, session_code, title, status, visibility)"
            " select %s, 'S' || n, 'past', 'ended', 'unlisted' from generate_series(1, 5000) n",
            [world.influencer.influencer_id],
        )
        connection.execute(
            "insert into public.live_stream_viewers (session_id, viewer_type, watching_since)"
            " select %s, 'anonymous', now() from generate_series(1, %s)",
            [session["id"], MANY],
        )
        connection.execute(
            "insert into public.live_stream_chat (session_id, message) select %s, 'hi' from generate_series(1, %s)",
            [session["id"], MANY],
        )
        for table in ("products", "schedule_exceptions"):
            connection.execute(f"analyze public.live_stream_{table}")
        for table in ("sessions", "viewers", "chat"):
            connection.execute(f"analyze public.live_stream_{table}")
    return world, session


def took(db, role, claims, headers, statement):
    """The least of some runs in seconds, and what the statement answered."""
    least = None
    with db.connect("authenticator") as connection:
        connection.execute("set max_parallel_workers_per_gather = 0")
        for _ in range(3):
            with connection.transaction():
                connection.execute(
                    "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true), set_config('request.headers', %s, true)",
                    [role, json.dumps(claims), json.dumps(headers)],
                )
                begin = time.monotonic()
                rows = connection.execute(statement).fetchall()
                least = min(time.monotonic() - begin, least or 1e9)
    return least, rows


@own_db("fills tables")
@pytest.mark.parametrize("role", ["anon", "authenticated"])
@pytest.mark.parametrize("statement", [
    "select count(*) from public.live_stream_viewers",
    "with changed as (update public.live_stream_viewers set country = country returning 1) select count(*) from changed",
    "select count(*) from public.live_stream_sessions",
])  # fmt: skip
def test_long_headers_and_claims_are_read_once(plain_db, crowded, role, statement):
    world, _ = crowded
    claims = {"role": role} | ({"sub": world.stranger.user_id} if role == "authenticated" else {})
    short, rows = took(plain_db, role, claims, {"x": "y"}, statement)
    for long_claims, long_headers in (({}, LONG_HEADERS), (LONG_CLAIMS, {}), (LONG_CLAIMS, LONG_HEADERS)):
        long, same = took(plain_db, role, claims | long_claims, long_headers, statement)
        assert same == rows
        # Read for each row it would be a second, or ten.
        assert long < 3 * short + 0.1, (long, short)


@own_db("fills tables")
@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_a_page_of_a_long_chat_looks_at_its_session_alone(plain_db, crowded, role):
    world, session = crowded
    claims = json.dumps({"role": role} | ({"sub": world.stranger.user_id} if role == "authenticated" else {}))
    statement = f"select * from public.live_stream_chat where session_id = '{session['id']}' and not is_deleted order by sent_at desc limit 50"
    plan = plan_of(plain_db, role, claims, statement)
    looks = [node for node, _ in nodes(plan) if node.get("Relation Name") == "live_stream_sessions"]
    assert looks and all("session_id" in node.get("Index Cond", "") for node in looks), plan
    assert len(took(plain_db, role, json.loads(claims), {}, statement)[1]) == 50


@pytest.mark.parametrize("table", ["chat", "products", "schedule_sessions", "schedule_exceptions"])
def test_a_policy_reads_no_whole_table_for_one_row(db, table):
    text = db.value("select qual from pg_policies where tablename = %s and cmd = 'SELECT'", [f"live_stream_{table}"])
    assert "( SELECT true" in text and "EXISTS" not in text, text


# The row that a statement has just made, among all that look at it.


@pytest.mark.parametrize("prepare", [0, None])
@pytest.mark.parametrize("header", ["none", "own", "long"])
def test_an_anonymous_viewer_sees_the_row_that_it_makes(db, prepare, header):
    """By RETURNING, however often the plan has been used, and whatever the header names."""
    world = people(db)
    session = world.session()
    before = world.join(session)
    headers = {"none": {}, "own": {"x-viewer-id": before["id"]}, "long": LONG_HEADERS | {"x-viewer-id": before["id"]}}[header]
    ids = set()
    with db.connect("authenticator", prepare_threshold=prepare) as connection:
        for _ in range(8):
            with connection.transaction():
                connection.execute(
                    "select set_config('role', 'anon', true), set_config('request.jwt.claims', %s, true), set_config('request.headers', %s, true)",
                    ['{"role":"anon"}', json.dumps(headers)],
                )
                seen = connection.execute("select id::text from public.live_stream_viewers").fetchall()
                assert [row["id"] for row in seen] == ([before["id"]] if header != "none" else [])
                made = connection.execute(
                    "insert into public.live_stream_viewers (session_id) values (%s) returning id::text", [session["id"]]
                ).fetchone()["id"]
                seen = connection.execute("select id::text from public.live_stream_viewers").fetchall()
                assert [row["id"] for row in seen] == [made]
                ids.add(made)
    assert len(ids) == 8 and before["id"] not in ids


@pytest.mark.parametrize("parallel", ["off", "on"])
def test_rows_are_as_private_in_parallel_plans(db, parallel):
    world = people(db)
    session = world.session()
    viewers = [world.join(session) for _ in range(3)]
    mode = "force_parallel_mode" if db.value("select current_setting('server_version_num')::int") < 160000 else "debug_parallel_query"
    with db.connect("authenticator") as connection:
        for name, value in {mode: parallel, "parallel_setup_cost": 0, "parallel_tuple_cost": 0, "min_parallel_table_scan_size": 0}.items():
            connection.execute(f"set {name} = {value}")
        for viewer in [*viewers, None]:
            with connection.transaction():
                headers = {"x-viewer-id": viewer["id"]} if viewer else {}
                connection.execute(
                    "select set_config('role', 'anon', true), set_config('request.jwt.claims', '{}', true), set_config('request.headers', %s, true)",
                    [json.dumps(headers)],
                )
                seen = [row["id"] for row in connection.execute("select id::text from public.live_stream_viewers").fetchall()]
                assert seen == ([viewer["id"]] if viewer else [])


@own_db("alters policies")
def test_the_test_sees_a_call_for_each_row(db):
    db.owner("create policy careless on public.live_stream_products for select to public using (session_id = live_stream.uid())")
    plan = plan_of(db, "anon", "{}", "select * from public.live_stream_products")
    assert calls_per_row(plan) == {"live_stream.uid()"}
