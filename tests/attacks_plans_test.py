"""Clients with SQL of their own: plans, cheap functions, parallel processes, a server without room."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import psycopg
import pytest

from attackers import ATTACKERS, Scene, call_of, needed, plausible, scene
from database import OWNER
from people import at_once, people
from recount import differences
from replica import Show, kept, pending, until, watching, worker_pid
from sizes import own_db
from sql_attackers import ROLES, _no_crash, is_internal, no_crash, relations  # noqa: F401

pytestmark = own_db("no worker of the background may change rows meanwhile")


def calls(scene: Scene, ids: dict[str, Any]) -> list[tuple[str, list[Any]]]:
    """Each function with arguments that fit, and the ids that are given."""
    found = []
    for function in scene.functions():
        names = dict(zip(function["args"] or [], function["types"]))
        wanted = [name for name in names if name in needed(function) or name in ids]
        found.append(call_of(function, {name: ids.get(name, plausible(scene, name, names[name])) for name in wanted}))
    return found


# EXPLAIN.

EXPLAINS = ("", "(verbose)", "(verbose, costs, format json)", "(settings, format xml)", "(analyze, verbose, buffers, wal, timing off)")


@pytest.mark.parametrize("who", ATTACKERS)
def test_no_plan_shows_what_is_hidden(scene, who):
    """Of tables, views and functions; of prepared statements too, with plans for values and for any value. What the
    planner evaluates beforehand, such as who is calling, is the caller's own."""
    hidden = scene.of["private"]
    secrets = ["5e3kr", "private hidden-title", *(str(hidden[name]) for name in ("viewer_id", "message_id", "order_id", "token", "code"))]
    queries = [(f"select * from {name} t", []) for name in relations(scene.db)]
    queries += [(f"select * from {name} t where t::text like '%%x%%' order by t::text", []) for name in relations(scene.db)]
    queries += calls(scene, scene.of["public"]) + calls(scene, {"session_id": hidden["session_id"]})
    planned = 0
    with scene.sql() as connection:
        for query, params in queries:
            for how in EXPLAINS:
                outcome = scene.try_sql(connection, who, f"explain {how} {query}", params)
                planned += not isinstance(outcome, tuple)
                assert not is_internal(outcome), (how, query, outcome)
                assert not [secret for secret in secrets if secret in str(outcome)], (how, query)
                scene.undo(connection)
        for mode in ("force_generic_plan", "force_custom_plan"):
            for name in relations(scene.db, scene.claims[who][0]):
                connection.execute("savepoint attempt")
                scene.become(connection, who)
                connection.execute(f"set local plan_cache_mode = {mode}")
                connection.execute(f"prepare hidden (text) as select * from {name} t where t::text like $1")
                with contextlib.suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
                    text = str(connection.execute("explain (analyze, verbose) execute hidden ('%')").fetchall())
                    assert not [secret for secret in secrets if secret in text], (mode, name)
                connection.execute("rollback to attempt")
                with contextlib.suppress(psycopg.Error), connection.transaction():
                    connection.execute("deallocate hidden")
    assert planned > 200


def test_a_plan_alone_locks_tables_and_does_nothing_else(plain_db):
    """Nor does it start the worker, though changes are pending and nobody folds them."""
    db = plain_db
    db.without_limits()
    show = Show(db)
    show.fill_the_log(20)
    db.end_worker()
    assert pending(db) > 0 and worker_pid(db) is None
    statements = [f"select * from {name}" for name in relations(db)]
    statements += [
        "insert into public.live_stream_viewers (session_id) select id from public.live_stream_sessions",
        "update public.live_stream_sessions set title = 'x'",
        "delete from public.live_stream_chat",
        f"select * from public.live_stream_join('{show.id}')",
        f"select * from public.live_stream_session('{show.id}')",
        f"select * from public.live_stream_send_message('{show.id}', 'x')",
        "select * from public.live_stream_heartbeat(gen_random_uuid())",
    ]
    others = """select * from pg_locks where pid = pg_backend_pid() and not (locktype = 'virtualxid'
                  or locktype = 'relation' and mode in ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock'))"""
    with db.connect() as connection:
        for role in ROLES:
            for statement in statements:
                with connection.transaction():
                    connection.execute(f"set local role {role}")
                    with contextlib.suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
                        connection.execute(f"explain (verbose) {statement}")
                    connection.execute("reset role")
                    assert connection.execute(others).fetchall() == [], statement
                    (row,) = connection.execute("select pg_current_xact_id_if_assigned() as id").fetchall()
                    assert row["id"] is None, statement
    assert worker_pid(db) is None and pending(db) > 0


# Cheap functions of a client's own schema.

TELLERS = """
create function own.tell(anyelement) returns boolean cost 0.0001 language plpgsql immutable as $$
  begin raise notice '%', $1; return true; end $$;
create function own.tell(text) returns text cost 0.0001 language plpgsql immutable as $$
  begin raise notice '%', $1; return $1; end $$;
create function own.tell_both(text, text) returns boolean cost 0.0001 language plpgsql immutable as $$
  begin raise notice '% %', $1, $2; return true; end $$;
create function own.tell_rows(text) returns setof text cost 0.0001 rows 1 language plpgsql immutable as $$
  begin raise notice '%', $1; return next $1; end $$;
create function own.tell_next(text, text) returns text cost 0.0001 language plpgsql immutable as $$
  begin raise notice '% %', $1, $2; return $2; end $$;
create function own.tell_once(text) returns text language sql stable as 'select own.tell($1)';
create operator own.=== (leftarg = text, rightarg = text, function = own.tell_both, restrict = eqsel, join = eqjoinsel);
create aggregate own.tell_all(text) (sfunc = own.tell_next, stype = text);
create domain own.told as text check (own.tell(value) is not null);
create type own.pair as (told own.told);
"""

PROBES = """
select 1 from {r} t where own.tell(t::text) <> ''
select 1 from {r} t where own.tell_once(t::text) <> ''
select 1 from {r} t where t::text operator(own.===) 'x'
select 1 from {r} t where t::text operator(own.===) any (array['x', 'y'])
select 1 from {r} t where t::text::own.told <> ''
select 1 from {r} t where row(t::text)::own.pair is not null
select 1 from {r} t where (t::text::own.told) = any ('{{x}}'::own.told[])
select own.tell(t::text) from {r} t
select 1 from {r} t order by own.tell(t::text)
select 1 from {r} t group by own.tell(t::text)
select distinct on (own.tell(t::text)) 1 from {r} t
select own.tell_all(t::text) from {r} t
select own.tell_all(t::text) over (order by own.tell(t::text)) from {r} t
select count(*) filter (where own.tell(t::text) <> '') from {r} t having own.tell(min(t::text)) <> ''
select 1 from {r} t, lateral own.tell_rows(t::text) f
select own.tell_rows(t::text) from {r} t
select 1 from {r} t left join {r} u on t::text operator(own.===) u::text
select 1 from (values ('x')) v (x) full join {r} t on own.tell(t::text) = v.x
select 1 from (values ('x')) v (x) where exists (select from {r} t where own.tell(t::text) = v.x)
select 1 from (values ('x')) v (x) where v.x not in (select own.tell(t::text) from {r} t)
select 1 from (select * from {r} offset 0) t where own.tell(t::text) <> ''
with t as not materialized (select * from {r}) select 1 from t where own.tell(t::text) <> ''
with recursive t as (select own.tell(x::text) as x from {r} x union select own.tell(x) from t) select 1 from t
select own.tell(t::text) from {r} t union select own.tell(t::text) from {r} t
select 1 from {r} t where case when own.tell(t::text) = '' then false else own.tell(t::text) <> '' end
select 1 from {r} t where coalesce(nullif(own.tell(t::text), ''), 'x') <> ''
select 1 from {r} t where own.tell(t.*)
select 1 from {r} t where own.tell(t.{first})
select 1 from {r} t where own.tell(t.{first}::text) <> '' limit 1
select 1 from {r} t where own.tell(t::text) <> '' for update
select 1 from {r} t where own.tell(t::text) <> '' for key share skip locked
select 1 from {r} t tablesample bernoulli (100) where own.tell(t::text) <> ''
select 1 from only {r} t where own.tell(t::text || tableoid) <> ''
select 1 from rows from (own.tell_rows((select string_agg(t::text, ',') from {r} t))) f
select xmlforest(own.tell(t::text)) from {r} t
select jsonb_path_query(to_jsonb(own.tell(t::text)), '$') from {r} t
update {r} t set {first} = {first} where own.tell(t::text) <> ''
update {r} t set {first} = t.{first} from {r} u where own.tell(u::text) <> ''
update {r} t set {first} = {first} returning own.tell(t::text)
delete from {r} t where own.tell(t::text) <> ''
delete from {r} t using {r} u where own.tell(u::text) <> '' returning own.tell(u::text)
insert into {r} as t select * from {r} u where own.tell(u::text) <> '' on conflict do nothing returning own.tell(t::text)
insert into {r} as t select * from {r} on conflict ({first}) do update set {first} = excluded.{first} where own.tell(t::text) <> ''
merge into {r} t using {r} u on own.tell(t::text) = own.tell(u::text) when not matched then do nothing
merge into {r} t using (values ('x')) v (x) on own.tell(t::text) <> v.x when matched and own.tell(t::text) <> '' then delete
declare c scroll cursor for select 1 from {r} t where own.tell(t::text) <> '' ; fetch all c
explain analyze select 1 from {r} t where own.tell(t::text) <> ''
copy (select 1 from {r} t where own.tell(t::text) <> '') to stdout
"""


def words(value: Any) -> set[str]:
    """What could give a row away: its texts and ids, and not small numbers, labels and times."""
    if isinstance(value, dict):
        return set().union(*map(words, value.values()))
    if isinstance(value, list):
        return set().union(*map(words, value)) if value else set()
    if isinstance(value, str) and len(value) > 7 and not re.match(r"\d{4}-\d\d-\d\d", value):
        return {value}
    return set()


@pytest.mark.parametrize("who", ATTACKERS)
def test_no_function_of_a_clients_own_is_given_hidden_rows(scene, who):
    """In WHERE, ORDER BY and JOIN, as operator, aggregate, domain, cast and row source, in every kind of statement."""
    db, heard = scene.db, []
    db.sql(f"create schema own; grant all on schema own to {scene.claims[who][0]}")
    probes = [line for line in PROBES.splitlines() if line]
    told_in: set[str] = set()
    with scene.sql() as connection:
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        scene.become(connection, who)
        connection.execute(TELLERS)
        connection.execute("reset role")
        for relation in relations(db, scene.claims[who][0]):
            query = f"select to_jsonb(t) as row from {relation} t"
            everything = [row["row"] for row in connection.execute(query).fetchall()]
            (first,) = connection.execute(
                "select attname::text as name from pg_attribute where attrelid = %s::regclass and attnum = 1", [relation]
            ).fetchall()
            shown = scene.try_sql(connection, who, query)
            scene.undo(connection)
            if not isinstance(shown, list):
                assert relation == "influencers" and db.is_supabase, "the app's, which shows some of its columns"
                continue
            shown_rows = [row["row"] for row in shown]
            hidden = words([row for row in everything if row not in shown_rows]) - words(shown_rows)
            for probe in probes:
                connection.execute("savepoint attempt")
                scene.become(connection, who)
                heard.clear()
                try:
                    if probe.startswith("copy"):
                        with connection.cursor().copy(probe.format(r=relation)) as copy:
                            list(copy)
                    else:
                        connection.execute(probe.format(r=relation, first=first["name"]))
                except psycopg.Error as error:
                    assert not is_internal((error.sqlstate,)), (probe, error)
                connection.execute("rollback to attempt")
                if heard:
                    told_in.add(probe)
                text = "\n".join(heard)
                assert not [word for word in hidden if word in text], (relation, probe)
    assert len(told_in) > len(probes) * 3 / 4, set(probes) - told_in


def test_the_private_columns_of_influencers_reach_no_function(supabase_db):
    scene = Scene(people(supabase_db))
    supabase_db.sql("create schema own; grant all on schema own to anon, authenticated")
    for who in ATTACKERS:
        heard: list[str] = []
        with scene.sql() as connection:
            connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
            scene.become(connection, who)
            connection.execute(TELLERS)
            for relation in ("live_sessions_with_details", "upcoming_streams", "session_analytics_summary", "live_stream.influencer_cards"):
                for probe in filter(None, PROBES.splitlines()):
                    if probe.startswith("copy"):
                        continue
                    connection.execute("savepoint attempt")
                    with contextlib.suppress(psycopg.Error):
                        connection.execute(probe.format(r=relation, first="influencer_id"))
                    connection.execute("rollback to attempt")
        assert heard and not [text for text in heard if "private@" in text or "private-1" in text or "private-token" in text], who


# What an app brings along.


def test_materialized_views_of_an_app(plain_db):
    """Refreshed by their owner, who sees all; also where they call our functions, and while the session is busy."""
    db = plain_db
    db.without_limits()
    show = Show(db)
    for name, query in {
        "of_sessions": "select * from public.live_stream_sessions",
        "of_details": "select * from public.live_sessions_with_details",
        "of_functions": f"select s.*, live_stream.is_service() as service from public.live_stream_session('{show.id}') s",
        "of_upcoming": "select * from public.live_stream_upcoming()",
        "of_numbers": "select * from live_stream.verify_metrics()",
    }.items():
        db.owner(f"create materialized view public.{name} as {query}")
    db.owner("create unique index on public.of_sessions (id)")
    with show.crowd(2):
        for _ in range(2):
            for name in ("of_details", "of_functions", "of_upcoming", "of_numbers"):
                db.owner(f"refresh materialized view public.{name}")
            db.owner("refresh materialized view concurrently public.of_sessions")
    assert differences(db) == []
    db.owner("refresh materialized view public.of_sessions")
    assert db.value("select current_viewers from public.of_sessions") == watching(db, show.id)


FOREIGN = {
    "file_fdw": "create server elsewhere foreign data wrapper file_fdw",
    "postgres_fdw": """create server elsewhere foreign data wrapper postgres_fdw options (host '{host}', dbname 'postgres');
                       create user mapping for public server elsewhere options (user 'postgres', password_required 'false')""",
}


@pytest.mark.parametrize("wrapper", FOREIGN)
@pytest.mark.parametrize("table", ["influencers", "products", "live_stream_sessions"])
def test_a_foreign_table_of_a_name_that_we_use(server, wrapper, table):
    """Refused where rows must refer to it, with what to do; left alone where it is no use."""
    name = f"foreign_{wrapper}_{table}"
    server.make_empty(name)
    try:
        with server.connect(name) as connection:
            available = connection.execute("select name from pg_available_extensions where name = %s", [wrapper]).fetchall()
            if not available:
                pytest.skip(f"{wrapper} is not installed")
            connection.execute(f"create extension {wrapper}")
            connection.execute(FOREIGN[wrapper].format(host=server.host))
            options = "options (filename '/dev/null')" if wrapper == "file_fdw" else "options (table_name 'pg_type')"
            connection.execute(f"create foreign table public.{table} (id uuid not null, user_id uuid, display_name text) server elsewhere {options}")
            connection.execute(f"alter foreign table public.{table} owner to {OWNER}")
        with server.connect(name, OWNER) as connection:
            if table == "products":
                connection.execute("create extension live_stream")
                connection.execute("select live_stream.install()")
            else:
                with pytest.raises(psycopg.errors.DuplicateTable) as refusal:
                    connection.execute("create extension live_stream")
                assert refusal.value.diag.message_hint and table in str(refusal.value)
    finally:
        server.run("postgres", f"drop database {name} with (force)")


def test_another_access_method_for_tables(server):
    """The heap by another name, as the default while the extension is made, and changed for some tables later."""
    server.make_empty("other_heap")
    try:
        server.run("other_heap", "create access method heap2 type table handler heap_tableam_handler")
        server.run("other_heap", "alter database other_heap set default_table_access_method = heap2")
        server.run("other_heap", "create extension live_stream", user=OWNER)
        with server.open("other_heap") as db:
            used = "select count(*) as n from pg_class c join pg_am a on a.oid = relam where amname = 'heap2' and relkind = 'r'"
            assert db.value(used) > 20
            db.without_limits()
            show = Show(db)
            with show.crowd(4):
                until(lambda: kept(db, show.id) > 50, "a crowd")
            assert differences(db) == []
            db.owner("alter table live_stream.metric_changes set access method heap")
            db.owner("alter table public.live_stream_viewers set access method heap")
            with show.crowd(4):
                until(lambda: kept(db, show.id) > 100, "a crowd")
            assert differences(db) == [] and kept(db, show.id) == watching(db, show.id)
    finally:
        server.run("postgres", "drop database if exists other_heap with (force)")


# A server without room.


@pytest.mark.parametrize("room", ["none", "all taken"])
def test_no_room_for_a_worker(fresh_server, room):
    """Those who join a busy session wait for each other, not for long, and are counted."""
    processes = 0 if room == "none" else 2
    fresh_server.run("postgres", f"alter system set max_worker_processes = {processes}")
    fresh_server.run("postgres", "alter system set max_parallel_workers = 0")
    fresh_server.run("postgres", "alter system set max_logical_replication_workers = 0")
    fresh_server.crash()
    fresh_server.make_templates()
    with contextlib.ExitStack() as stack:
        if room == "all taken":
            # Workers of other databases, kept by transactions that are not finished.
            for n in range(2):
                other = stack.enter_context(fresh_server.database("plain"))
                other.without_limits()
                busy = Show(other)
                first, second = (stack.enter_context(other.connect()) for _ in range(2))
                join = "insert into public.live_stream_viewers (session_id) values (%s)"
                first.execute("begin")
                first.execute(join, [busy.id])
                second.execute(join, [busy.id])
                assert worker_pid(other)
        db = stack.enter_context(fresh_server.database("plain"))
        db.without_limits()
        show = Show(db)

        def come(n: int) -> int:
            with db.connect(options="-c statement_timeout=3s") as connection:
                for _ in range(25):
                    connection.execute("insert into public.live_stream_viewers (session_id) values (%s)", [show.id])
            return n

        assert at_once(*[lambda n=n: come(n) for n in range(8)]) == list(range(8))
        assert kept(db, show.id) == watching(db, show.id) == 200
        assert worker_pid(db) is None and differences(db) == []


def test_hardly_any_connections_and_locks(fresh_server):
    """Who is let in is counted; nobody else is."""
    fresh_server.make_templates()
    for setting in ("max_connections = 12", "max_locks_per_transaction = 10", "max_wal_senders = 0", "wal_level = replica"):
        fresh_server.run("postgres", f"alter system set {setting}")
    fresh_server.crash()
    with fresh_server.database("plain") as db:
        db.without_limits()
        show = Show(db)

        def come(n: int) -> str:
            try:
                for _ in range(5):
                    with db.connect(OWNER) as connection:
                        connection.execute("insert into public.live_stream_viewers (session_id) select %s from generate_series(1, 5)", [show.id])
            except psycopg.OperationalError as error:
                assert "too many clients" in str(error) or "remaining connection slots" in str(error), error
                return "full"
            return "in"

        outcomes = at_once(*[lambda n=n: come(n) for n in range(16)])
        assert "in" in outcomes
        db.close()
        assert differences(db) == []
        assert "out of shared memory" not in fresh_server.log
    no_crash(fresh_server, 0)


# Parallel plans.


@pytest.mark.parametrize("who", [*ATTACKERS, "service"])
def test_parallel_plans_answer_as_serial_ones(scene, who):
    """Every table, view and function, where the planner is told that processes cost nothing, or must use one."""
    db = scene.db
    scene.claims["service"] = ("service_role", {"role": "service_role"})
    forced = "debug_parallel_query" if db.value("select count(*) from pg_settings where name = 'debug_parallel_query'") else "force_parallel_mode"
    queries = []
    for name in relations(db):
        queries += [(f"select md5(t::text) as row from {name} t", []), (f"select count(*) from {name} t where t::text like '%%a%%'", [])]
    queries += [(query.replace("select * from", "select t::text as row from") + " t", params) for query, params in calls(scene, scene.of["public"])]
    parallel = 0
    with scene.sql() as connection:
        for query, params in queries:
            outcomes = []
            for settings in (
                {"max_parallel_workers_per_gather": 0},
                {forced: "on", "max_parallel_workers_per_gather": 2},
                {"parallel_setup_cost": 0, "parallel_tuple_cost": 0, "min_parallel_table_scan_size": 0, "max_parallel_workers_per_gather": 2},
            ):
                connection.execute("savepoint settings")
                for setting, value in settings.items():
                    connection.execute(f"set local {setting} = {value}")
                outcome = scene.try_sql(connection, who, query, params)
                assert not is_internal(outcome), (query, outcome)
                scene.undo(connection)
                if forced in settings:
                    plan = scene.try_sql(connection, who, f"explain {query}", params)
                    parallel += "Gather" in str(plan)
                    scene.undo(connection)
                connection.execute("rollback to settings")
                if isinstance(outcome, list):
                    outcome = sorted(map(str, outcome))
                outcomes.append(outcome)
            writes = re.search(r"UUID|[0-9a-f]{8}-[0-9a-f]{4}", str(outcomes)) and "md5" not in query
            if writes or isinstance(outcomes[0], int):
                outcomes = [len(outcome) if isinstance(outcome, list) else outcome for outcome in outcomes]
            assert outcomes[0] == outcomes[1] == outcomes[2], (query, outcomes)
    assert parallel > 10
