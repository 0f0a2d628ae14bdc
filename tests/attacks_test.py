"""Attacks, each of which would succeed against a naive schema. Most are made of the catalog: a table, column or function
that comes later is attacked too.

The attackers may run any SQL with the rights of `anon` or `authenticated`, which is more than PostgREST lets them do.
Other attacks stand beside what they attack:

- identity_test.py: forged claims and headers, leftovers in pooled connections; identity_sql_test.py: traps on the search path
  and in types, engine and trigger functions called directly, SET ROLE
- sessions_test.py, viewers_test.py, chat_test.py, products_test.py, moderation_*_test.py, orders_test.py: forged columns,
  moved rows, acting as somebody else; access_test.py: every class of columns, for every role
- install_test.py: what others made before or beside an installation; worker_operation_test.py: advisory locks
- realtime_test.py, influencers_test.py: secrets in what is published, private columns of influencers
"""

from __future__ import annotations

import itertools
import json
import re
import time
import uuid
from collections import Counter

import psycopg
import pytest

from attackers import ATTACKERS, Scene, call_of, needed, plausible, scene  # noqa: F401
from database import ROOT
from people import people
from refusals import refused
from sizes import both_shapes, own_db

pytestmark = own_db("no worker of the background may change rows meanwhile")


@pytest.fixture
def supabase(supabase_db):
    """Where default privileges open whatever is made in public: for what takes long."""
    return Scene(people(supabase_db))


# What is hidden is as what does not exist.


def normal(outcome, id):
    """What came out, but for the id itself, and for ids and times that are new each time."""
    text = str(outcome).replace(str(id), "ID")
    return re.sub(r"UUID\('[0-9a-f-]+'\)|datetime\.datetime\([^)]*\)", "NEW", text) if isinstance(outcome, list) else text


# Unique indexes tell whether a value is taken, as they must: made codes and ids are beyond trying.
TAKEN = {("public.live_stream_create", "session_code"), ("live_stream_create", "session_code"), ("live_stream_record_order", "id")}
HIDDEN_ARGS = ("session_id", "message_id", "parent_message_id", "viewer_id", "session_product_id", "schedule_id", "invitation_id",
               "code", "session_code", "created_session_id")  # fmt: skip


@pytest.mark.parametrize("who", ATTACKERS)
def test_no_function_tells_what_is_hidden_from_what_is_not_there(scene, who):
    hidden, compared = scene.of["private"], set()
    with scene.sql() as connection:
        for function in scene.functions():
            if not function["for_anon" if who == "anon" else "for_people"]:
                continue
            names = dict(zip(function["args"] or [], function["types"]))
            for arg in names.keys() & set(HIDDEN_ARGS):
                if (function["name"], arg) in TAKEN:
                    continue
                nothing = "7777-7777-7777" if arg.endswith("code") else str(uuid.uuid4())
                # With ids of the attacker's own beside it, of a public session, and with none.
                for beside in (scene.own, scene.of["public"], {}):
                    wanted = set(needed(function)) | {arg} | (names.keys() & set(HIDDEN_ARGS) if beside else set())
                    wanted -= {"session_code"} if arg == "session_id" else {"session_id"} if arg == "session_code" else set()
                    values = {n: beside.get(n, plausible(scene, n, names[n])) for n in names if n in wanted}
                    outcomes = []
                    for value in (hidden[arg], nothing):
                        query, params = call_of(function, values | {arg: value})
                        outcome = scene.try_sql(connection, who, query, params)
                        scene.undo(connection)
                        outcomes.append(normal(outcome, value))
                    assert outcomes[0] == outcomes[1], (function["name"], arg, outcomes)
                    compared.add((function["name"], arg))
    assert len(compared) > (8 if who == "anon" else 25), compared


@pytest.mark.parametrize("who", ["stranger", "rival"])
def test_no_table_tells_what_is_hidden_from_what_is_not_there(scene, who):
    """A row of the attacker's own that is to refer to what is hidden, and to nothing."""
    hidden, compared = scene.of["private"], set()
    of_column = {"deleted_by": "user_id", "created_by": "user_id", "actor_id": "user_id"}
    if who == "stranger":
        session = {"id": scene.of["public"]["session_id"]}
        viewer = scene.world.join(session, scene.world.stranger)
        scene.world.say(session, scene.world.stranger, "mine", viewer)
    with scene.sql() as connection:
        contents = scene.contents(connection)
        for table in scene.tables():
            own = [row for row in contents[table["name"]].values() if scene.is_own(who, row)]
            if not own:
                continue
            row, key = own[0], table["key"]
            for column, type in zip(table["columns"], table["types"]):
                if type != "uuid" or column in ("id", "user_id", "influencer_id", "product_id"):
                    continue
                value = hidden.get(of_column.get(column, column))
                if value is None:
                    continue
                others = [name for name in table["columns"] if name not in (column, "id")]
                copied = ", ".join(f'"{name}"' for name in others)
                few = [n for n in others if n in ("session_id", "user_id", "influencer_id", "message", "title", "product_id", "amount", "schedule_id",
                                                  "scheduled_date", "scheduled_start_time", "original_starts_at", "kind", "message_id", "reaction")]  # fmt: skip
                outcomes = []
                for id in (value, str(uuid.uuid4())):
                    where = " and ".join(f'"{name}" = %s' for name in key)
                    told = []
                    for statement, params in (
                        (f'update public.{table["name"]} set "{column}" = %s where {where}', [id, *(row[name] for name in key)]),
                        (f'insert into public.{table["name"]} ({copied}, "{column}")'
                         f" select {copied}, %s from jsonb_populate_record(null::public.{table['name']}, %s)", [id, json.dumps(row)]),
                        (f'insert into public.{table["name"]} ({", ".join(few + [column])})'
                         f" select {', '.join(few + ['%s'])} from jsonb_populate_record(null::public.{table['name']}, %s)", [id, json.dumps(row)]),
                    ):  # fmt: skip
                        outcome = scene.try_sql(connection, who, statement, params)
                        scene.undo(connection)
                        told.append(normal(outcome, id))
                    outcomes.append(told)
                assert outcomes[0] == outcomes[1], (table["name"], column, outcomes)
                compared.add((table["name"], column))
    assert len(compared) > (3 if who == "stranger" else 12), compared


# Rows of others.


@pytest.mark.parametrize("who", ATTACKERS)
def test_no_function_reaches_beyond_the_callers_rows(supabase, who):
    """Every function with the ids of others, all of them and one by one among the caller's own."""
    scene = supabase
    done = tried = 0
    with scene.sql() as connection:
        before = scene.contents(connection)
        for function in scene.functions():
            names = dict(zip(function["args"] or [], function["types"]))
            calls = []
            for ids in scene.of.values():
                ids = {name: id for name, id in ids.items() if name != "token"}
                every = {n: ids.get(n, plausible(scene, n, names[n])) for n in names}
                calls.append(every)
                calls.append({n: every[n] for n in needed(function)})
                calls.append({n: every[n] for n in names if n in needed(function) or n in ids and n not in ("code", "session_code")})
                for arg in names.keys() & ids.keys():
                    mixed = {n: scene.own.get(n, plausible(scene, n, names[n])) for n in names if n in needed(function) or n in ids}
                    calls.append(mixed | {arg: ids[arg]})
            for values in calls:
                query, params = call_of(function, values)
                outcome = scene.try_sql(connection, who, query, params)
                tried += 1
                if not isinstance(outcome, tuple):
                    done += 1
                    harm = list(scene.harm(who, before, scene.contents(connection)))
                    assert harm == [], (query, params, harm)
                scene.undo(connection)
    assert tried > 500 and done > 20, (tried, done)


@pytest.mark.parametrize("who", ATTACKERS)
def test_a_statement_without_a_filter_touches_own_rows_alone(supabase, who):
    """Each column of each table, for all rows at once; and deletes of all rows, plain and by a join or a subquery."""
    scene = supabase
    if who == "stranger":
        scene.world.join({"id": scene.of["public"]["session_id"]}, scene.world.stranger)
    touched = 0
    with scene.sql() as connection:
        before = scene.contents(connection)
        for table in scene.tables():
            name = f"public.{table['name']}"
            statements = [(f"delete from {name}", []), (f"delete from {name} t using public.live_stream_sessions", [])]
            for column, type in zip(table["columns"], table["types"]):
                statements.append((f'update {name} set "{column}" = %s::{type}', [plausible(scene, column, type)]))
                statements.append((f'update {name} set "{column}" = null', []))
                statements.append((f'update {name} t set "{column}" = t."{column}" from public.live_stream_sessions', []))
            for statement, params in statements:
                outcome = scene.try_sql(connection, who, statement, params)
                if not isinstance(outcome, tuple):
                    touched += outcome
                    harm = list(scene.harm(who, before, scene.contents(connection)))
                    assert harm == [], (statement, params, harm)
                scene.undo(connection)
    assert touched > 0 or who == "anon"


def timeless(row):
    """A row without when it was updated, and of when it was counted out, by the clock, whether it was."""
    row = {name: value for name, value in row.items() if name != "updated_at"}
    return row | {name: row[name] is not None for name in ("counted_until",) if name in row}


@pytest.mark.parametrize("who", ATTACKERS)
def test_an_upsert_opens_nothing_that_an_update_does_not(supabase, who):
    """Of a row of the attacker's own, it writes what an update writes; of somebody else's, nothing."""
    scene = supabase
    if who == "stranger":
        session = {"id": scene.of["public"]["session_id"]}
        scene.world.say(session, scene.world.stranger, "mine", scene.world.join(session, scene.world.stranger))
    same = 0
    with scene.sql() as connection:
        before = scene.contents(connection)
        for table in scene.tables():
            rows = list(before[table["name"]].values())
            own = [row for row in rows if scene.is_own(who, row)][:1]
            others = [row for row in rows if not scene.is_own(who, row)][:3]
            name, key = f"public.{table['name']}", table["key"]
            where = " and ".join(f'"{column}" = %s' for column in key)
            for row in own + others:
                at = [row[column] for column in key]
                for column, type in zip(table["columns"], table["types"]):
                    if column in key:
                        continue
                    value = plausible(scene, column, type)
                    results = []
                    sent = row | {column: value if type not in ("jsonb", "bytea") else None}
                    for statement, params in (
                        (f'update {name} set "{column}" = (jsonb_populate_record(null::{name}, %s))."{column}" where {where}',
                         [json.dumps(sent), *at]),
                        (f"insert into {name} select * from jsonb_populate_record(null::{name}, %s)"
                         f' on conflict ({", ".join(key)}) do update set "{column}" = excluded."{column}"', [json.dumps(sent)]),
                        (f'insert into {name} ({", ".join(dict.fromkeys([*key, "session_id", "influencer_id", "user_id", column]).keys() & set(table["columns"]))})'
                         f' select {", ".join(dict.fromkeys([*key, "session_id", "influencer_id", "user_id", column]).keys() & set(table["columns"]))}'
                         f" from jsonb_populate_record(null::{name}, %s)"
                         f' on conflict ({", ".join(key)}) do update set "{column}" = excluded."{column}"', [json.dumps(sent)]),
                    ):  # fmt: skip
                        outcome = scene.try_sql(connection, who, statement, params)
                        if row not in own and not isinstance(outcome, tuple):
                            harm = list(scene.harm(who, before, scene.contents(connection)))
                            assert harm == [], (statement, params, harm)
                        now = connection.execute(f"select to_jsonb(t) - 'updated_at' as row from {name} t where {where}", at).fetchall()
                        results.append(timeless(now[0]["row"]) if now else None)
                        scene.undo(connection)
                    old = timeless(row)
                    if row in own:
                        for result in results[1:]:
                            assert result in (results[0], old), (statement, params, results)
                            same += 1
    assert same > 20 or who == "anon"


def test_a_secret_of_an_upsert_that_did_nothing_is_stored_by_nothing_later(scene):
    """Whatever writes the victim's session in the same transaction: joins, messages, clicks, leaving."""
    for who in ("rival", "stranger"):
        ids = scene.of["public"]
        for _ in range(2):
            with scene.sql() as connection:
                scene.become(connection, who)
                try:
                    connection.execute(
                        "insert into public.live_stream_sessions (id, influencer_id, title, stream_key) values (%s, %s, 'x', 'forged')"
                        " on conflict do nothing",
                        [ids["session_id"], scene.own["influencer_id"]],
                    )
                except psycopg.errors.InsufficientPrivilege:
                    connection.execute("rollback")
                    connection.execute("begin")
                    scene.become(connection, who)
                connection.execute("select public.live_stream_join(%s)", [ids["session_id"]])
                connection.execute("select public.live_stream_send_message(%s, 'hi')", [ids["session_id"]])
                connection.execute("select public.live_stream_track_click(%s)", [ids["session_product_id"]])
                connection.execute("select public.live_stream_leave()")
                connection.execute("reset role")
                rows = connection.execute("select stream_key from public.live_stream_credentials").fetchall()
                assert "forged" not in str(rows) and len(rows) == 4


def test_nobody_becomes_somebody_elses_influencer(plain_db):
    """By changing the user of a row, its id, an upsert, or by deleting and making it again."""
    scene = Scene(people(plain_db))
    victim, mine = scene.of["private"]["influencer_id"], scene.own["influencer_id"]
    victim_user = plain_db.value("select user_id::text from public.influencers where id = %s", [victim])
    for who in ("rival", "stranger"):
        user = scene.users[who]
        with scene.sql() as connection:
            before = scene.contents(connection)
            for statement, params in (
                ("update public.influencers set user_id = %s", [user]),
                ("update public.influencers set user_id = %s where id = %s", [user, victim]),
                ("update public.influencers set id = %s where id = %s", [victim, mine]),
                ("update public.influencers set user_id = %s where id = %s", [victim_user, mine]),
                ("insert into public.influencers (id, user_id, display_name) values (%s, %s, 'x')", [victim, user]),
                ("insert into public.influencers (id, user_id, display_name) values (%s, %s, 'x') on conflict do nothing", [victim, user]),
                ("insert into public.influencers (id, user_id, display_name) values (%s, %s, 'x')"
                 " on conflict (id) do update set user_id = excluded.user_id", [victim, user]),
                ("insert into public.influencers (id, user_id, display_name) values (%s, %s, 'x')"
                 " on conflict (id) do update set user_id = excluded.user_id, display_name = 'taken'", [victim, victim_user]),
                ("insert into public.influencers (user_id, display_name) values (%s, 'x')", [victim_user]),
                ("insert into public.influencers (display_name) values ('x') returning user_id", []),
                ("delete from public.influencers where id = %s", [victim]),
                ("with gone as (delete from public.influencers where id = %s returning id)"
                 " insert into public.influencers (id, user_id, display_name) select id, %s, 'x' from gone", [victim, user]),
                ("merge into public.influencers i using (values (%s::uuid, %s::uuid)) v (id, user_id) on i.id = v.id"
                 " when matched then update set user_id = v.user_id", [victim, user]),
            ):  # fmt: skip
                scene.try_sql(connection, who, statement, params)
                after = scene.contents(connection)
                assert after["influencers"][(victim,)]["user_id"] == victim_user, statement
                assert list(scene.harm(who, before, after)) == [], statement
                seen = scene.try_sql(connection, who, "select * from public.live_stream_credentials where session_id = %s",
                                     [scene.of["private"]["session_id"]])  # fmt: skip
                assert seen == [], statement
                connection.execute("rollback")
                connection.execute("begin")


# What SQL has beside tables and functions.


@pytest.mark.parametrize("who", ATTACKERS)
def test_copy_truncate_and_locks(scene, who):
    hidden = ("hidden-message", "hidden-agent", "hidden-order", "hidden-reason", "hidden-news", "private hidden-title", "5e3kr")
    with scene.sql() as connection:
        copied = 0
        for table in [row["name"] for row in scene.db.sql(
            "select c.oid::regclass::text as name from pg_class c where relkind in ('r', 'v')"
            " and relnamespace in ('public'::regnamespace, 'live_stream'::regnamespace)"
            " and c.oid::regclass::text not in ('influencers', 'products')")]:  # fmt: skip
            rows = scene.try_sql(connection, who, f"select t::text as t from {table} t")
            allowed = str(rows)
            for command in (f"copy {table} to stdout", f"copy (table {table}) to stdout"):
                connection.execute("savepoint attempt")
                scene.become(connection, who)
                try:
                    with connection.cursor().copy(command) as copy:
                        text = b"".join(copy).decode()
                    copied += len(text)
                    for word in hidden:
                        assert word not in text or word in allowed, (command, word)
                    assert len(text.splitlines()) == len(rows), command
                except psycopg.Error as error:
                    assert error.sqlstate in ("42501", "42809"), (command, str(error))
                scene.undo(connection)
            for command in (f"copy {table} from stdin", f"copy {table} to '/tmp/x'", f"copy {table} from '/etc/passwd'",
                            f"copy {table} to program 'true'", f"copy {table} from program 'true'", f"truncate {table}",
                            f"truncate {table} cascade", f"alter table {table} disable row level security",
                            f"create index on {table} ((1))", f"drop table {table}", f"create rule r as on select to {table} do instead nothing",
                            f"create policy p on {table} using (true)", f"comment on table {table} is ''",
                            f"cluster {table}", f"refresh materialized view {table}", f"create trigger t after insert on {table} execute function suppress_redundant_updates_trigger()",
                            f"create statistics on id, created_at from {table}", f"create publication p for table {table}"):  # fmt: skip
                connection.execute("savepoint attempt")
                scene.become(connection, who)
                try:
                    if "stdin" in command:
                        with connection.cursor().copy(command) as copy:
                            copy.write_row(["x"])
                    else:
                        connection.execute(command)
                    raise AssertionError(f"{who}: {command}")
                except psycopg.Error as error:
                    assert error.sqlstate in ("42501", "42809", "0A000", "22P04", "22P02", "42P16", "42P17", "42703", "42601"), (command, str(error))
                scene.undo(connection)
            # A lock that keeps readers and writers out is for who may write the table as a whole.
            role = scene.claims[who][0]
            (writes,) = connection.execute(
                "select has_table_privilege(%s, %s, 'update') or has_table_privilege(%s, %s, 'delete') or"
                " has_table_privilege(%s, %s, 'truncate')", [role, table] * 3).fetchone().values()  # fmt: skip
            outcome = scene.try_sql(connection, who, f"lock table {table} in access exclusive mode nowait")
            scene.undo(connection)
            assert writes or outcome[0] == "42501", (table, outcome)
        assert copied > 0


def test_who_may_lock_whole_tables(db):
    """A table that joins this list has been thought about: PostgreSQL lets who may write a whole table lock it. PostgREST
    gives no way to."""
    rows = db.sql(
        "select r.rolname as role, c.relname as name from pg_class c, pg_roles r"
        " where c.relnamespace in ('public'::regnamespace, 'live_stream'::regnamespace) and c.relkind = 'r'"
        " and r.rolname in ('anon', 'authenticated') and c.relname ~ '^(live_stream|metric|influencer_)'"
        " and (has_table_privilege(r.oid, c.oid, 'update') or has_table_privilege(r.oid, c.oid, 'delete')"
        "      or has_table_privilege(r.oid, c.oid, 'truncate'))"
    )
    assert {row["name"].removeprefix("live_stream_") for row in rows if row["role"] == "anon"} == {"viewers"}
    assert {row["name"].removeprefix("live_stream_") for row in rows if row["role"] == "authenticated"} == {
        "bans", "chat", "followers", "guests", "moderators", "notifications", "products", "schedule", "schedule_exceptions",
        "sessions", "viewers",
    }  # fmt: skip


def test_notifications_of_the_server_tell_nothing(scene):
    """Whoever may connect may LISTEN: so nothing of ours notifies."""
    for folder in ("src", "sql"):
        for path in (ROOT / folder).rglob("*.*"):
            text = path.read_text().lower()
            assert "pg_notify" not in text and "\nnotify " not in text and "perform notify" not in text, path
    with scene.db.connect() as connection:
        for channel in ("pgrst", "live_stream", "realtime", "live_stream_sessions", "live_stream_chat"):
            connection.execute(f"listen {channel}")
        world = scene.world
        session = world.session(by=world.new_influencer())
        world.say(session, world.viewer, "hello", world.join(session, world.viewer))
        scene.db.owner("select live_stream.install()")
        assert [notice.payload for notice in connection.notifies(timeout=0.5)] == []


@both_shapes
def test_large_objects_of_others_and_files_are_out_of_reach(scene):
    (made,) = scene.db.owner("select lo_from_bytea(0, 'secret') as oid")
    assert scene.db.value("select count(*) from pg_largeobject_metadata") == 1, "the extension makes none"
    with scene.sql() as connection:
        for who, (statement, params) in itertools.product(ATTACKERS, (
            ("select lo_get(%s)", [made["oid"]]), ("select lo_put(%s, 0, 'x')", [made["oid"]]), ("select lo_unlink(%s)", [made["oid"]]),
            ("select loread(lo_open(%s, 262144), 100)", [made["oid"]]), ("select * from pg_largeobject", []), ("select lo_export(%s, '/tmp/x')", [made["oid"]]),
            ("select lo_import('/etc/passwd')", []), ("select pg_read_file('/etc/passwd')", []), ("select pg_ls_dir('.')", []),
            ("select * from pg_shadow", []), ("select pg_current_logfile()", []), ("select * from pg_hba_file_rules", []),
            ("select * from auth.users" if scene.db.is_supabase else "select * from pg_authid", []),
        )):  # fmt: skip
            outcome = scene.try_sql(connection, who, statement, params)
            assert outcome == [] or isinstance(outcome, tuple) and outcome[0] == "42501", (who, statement, outcome)
            scene.undo(connection)


# Invitations.


@pytest.mark.parametrize("who", [*ATTACKERS, "fan"])
def test_a_token_is_neither_read_nor_guessed(scene, who):
    ids = scene.of["private"]
    if who == "fan":
        scene.claims[who] = ("authenticated", {"sub": ids["user_id"]})
    (row,) = scene.db.sql("select token_hash from public.live_stream_invitations where id = %s", [ids["invitation_id"]])
    digest = row["token_hash"].hex()
    assert ids["token"] not in str(scene.db.sql("select * from public.live_stream_invitations"))
    with scene.sql() as connection:
        for query in (
            "select token_hash from public.live_stream_invitations where id = %s or session_id = %s",
            "select i::text from public.live_stream_invitations i, (values (%s, %s)) v where token_hash > ''",
            "select to_jsonb(g), to_jsonb(i) from public.live_stream_guests g left join public.live_stream_invitations i"
            " on i.id = g.invitation_id where (%s, %s) is not null",
        ):
            outcome = scene.try_sql(connection, who, query, [ids["invitation_id"], ids["session_id"]])
            assert digest not in str(outcome) and "token_hash': b" not in str(outcome) or who == "rival"
            assert digest not in str(outcome)
            scene.undo(connection)
        for token in (digest, "\\x" + digest, row["token_hash"].decode("latin1").replace("\0", ""), ids["token"][:-1], ids["token"] + "A",
                      ids["token"].swapcase(), ids["token"][::-1], "%", "_" * 32, ids["invitation_id"], ids["session_id"]):  # fmt: skip
            for query in ("select * from public.live_stream_accept_invitation(%s)", "select * from live_stream.accepted_session(%s)"):
                outcome = scene.try_sql(connection, who, query, [token])
                scene.undo(connection)
                assert outcome == [] or outcome[0] in ("PT404", "42501"), (query, token, outcome)


def test_time_tells_no_used_up_token_from_an_unknown_one(plain_db):
    """The quickest of many answers, so that a busy machine does not matter."""
    scene = Scene(people(plain_db))
    used = scene.of["private"]["token"]
    scene.world.new_user().api.rpc("live_stream_accept_invitation", token=used)
    quickest = {used: 1.0, "x" * 32: 1.0}
    with scene.sql() as connection:
        for _ in range(300):
            for token in quickest:
                connection.execute("savepoint attempt")
                scene.become(connection, "stranger")
                start = time.perf_counter()
                with pytest.raises(psycopg.Error, match="is not valid"):
                    connection.execute("select live_stream.accept_invitation(%s)", [token], prepare=True)
                quickest[token] = min(quickest[token], time.perf_counter() - start)
                scene.undo(connection)
    assert abs(quickest[used] - quickest["x" * 32]) < 0.0005, quickest


def test_tokens_of_one_host_tell_nothing_of_the_next(plain_db):
    scene = Scene(people(plain_db))
    api, session = scene.rival.api, scene.own["session_id"]
    tokens = [api.rpc("live_stream_create_invitation", session_id=session)["token"] for _ in range(200)]
    assert len(set(tokens)) == 200 and {len(token) for token in tokens} == {32}
    seen = Counter("".join(tokens))
    assert len(seen) == 64 and min(seen.values()) > 50 and max(seen.values()) < 170, seen
    for earlier, later in itertools.pairwise(tokens):
        assert sum(a == b for a, b in zip(earlier, later)) < 12
    with refused("PT404"):
        scene.world.stranger.api.rpc("live_stream_accept_invitation", token=tokens[0][:31] + ("A" if tokens[0][31] != "A" else "B"))
