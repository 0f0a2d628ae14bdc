"""Clients with SQL of their own: cursors, prepared statements, COPY, MERGE, upserts."""

from __future__ import annotations

import contextlib
import json
import uuid

import psycopg
import pytest

from attackers import ATTACKERS, scene
from database import OWNER
from people import people
from recount import differences
from replica import kept, watching
from sizes import own_db
from sql_attackers import ROLES, _no_crash, is_internal, relations  # noqa: F401

pytestmark = own_db("no worker of the background may change rows meanwhile")


# Cursors, prepared statements and portals.


def become(connection: psycopg.Connection, role: str, user_id: str | None = None) -> None:
    claims = {"role": role} | ({"sub": user_id} if user_id else {})
    connection.execute("select set_config('role', %s, false), set_config('request.jwt.claims', %s, false)", [role, json.dumps(claims)])


def test_prepared_statements_and_cursors_over_changes_of_tables(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session()
    with db.connect() as connection:
        become(connection, "authenticated", world.viewer.user_id)
        connection.execute(f"prepare read as select * from public.live_stream_session('{session['id']}')")
        connection.execute("prepare chat as select id, message from public.live_stream_chat")
        connection.execute(f"prepare say as select id from public.live_stream_send_message('{session['id']}', 'hello')")
        connection.execute("execute read")
        for n, change in enumerate((
            "alter table public.live_stream_sessions add column brand text",
            "alter table public.live_stream_chat add column mood text default 'fine'",
            "alter table public.live_stream_chat alter column username set storage plain",
            "alter table public.live_stream_sessions drop column brand",
            "alter table public.live_stream_viewers add column seat integer check (seat > 0)",
            "alter table live_stream.metric_changes set (fillfactor = 70)",
            "create index on public.live_stream_chat (message)",
            "select live_stream.install()",
        )):  # fmt: skip
            db.owner(change)
            for statement in ("execute read", "execute chat", "execute say"):
                try:
                    connection.execute(statement)
                except psycopg.errors.FeatureNotSupported as error:
                    # PostgreSQL's own, once, where a result has other columns than it had.
                    assert "cached plan must not change result type" in str(error) and statement == "execute read"
                    connection.execute("deallocate read")
                    connection.execute(f"prepare read as select * from public.live_stream_session('{session['id']}')")
            assert len(connection.execute("execute chat").fetchall()) == n + 1
        # A cursor keeps its table from being changed; one that is held keeps what it had.
        connection.execute("begin")
        connection.execute("declare c cursor for select * from public.live_stream_chat")
        connection.execute("fetch 1 from c")
        with db.connect(OWNER, options="-c lock_timeout=100ms") as app, pytest.raises(psycopg.errors.LockNotAvailable):
            app.execute("alter table public.live_stream_chat drop column mood")
        connection.execute(f"declare held cursor with hold for select * from public.live_stream_session('{session['id']}')")
        connection.execute("commit")
        db.owner("alter table public.live_stream_sessions add column other text")
        assert len(connection.execute("fetch all from held").fetchall()) == 1
    assert differences(db) == []


def test_held_cursors_over_functions_that_write(plain_db):
    """They run to their end as the transaction commits, once, as who declared them."""
    db, world = plain_db, people(plain_db)
    session = world.session()
    with db.connect() as connection:
        become(connection, "authenticated", world.viewer.user_id)
        for name, call in (
            ("joined", f"public.live_stream_join('{session['id']}')"),
            ("said", f"public.live_stream_send_message('{session['id']}', 'hello')"),
        ):
            connection.execute("begin")
            connection.execute(f"declare {name} cursor with hold for select * from {call}")
            connection.execute("commit")
            connection.execute("reset role")
            assert len(connection.execute(f"fetch all from {name}").fetchall()) == 1
            assert connection.execute(f"fetch all from {name}").fetchall() == []
            connection.execute(f"close {name}")
            become(connection, "authenticated", world.viewer.user_id)
    (message,) = db.sql("select user_id::text as user_id from public.live_stream_chat")
    assert message["user_id"] == world.viewer.user_id
    assert (kept(db, session["id"]), kept(db, session["id"], "total_messages")) == (1, 1) and differences(db) == []


SETS = (
    "public.live_stream_upcoming()",
    "public.live_stream_calendar('2030-01-01', '2030-01-20')",
    "public.live_stream_occurrences('{schedule}', '2030-01-01', '2030-01-20')",
    "public.live_stream_session('{session}')",
    "public.live_stream_session_analytics('{session}')",
    "live_stream.influencer_ids()",
)


@pytest.mark.parametrize("place", ["from", "target"])
def test_portals_that_are_left_in_the_middle(plain_db, place):
    """Fetched in part, then rolled back to a savepoint, an error in between, another role, and on."""
    db, world = plain_db, people(plain_db)
    session = world.session()
    schedules = [world.schedule(f"Show {n}", recurrence_rule="FREQ=DAILY") for n in range(3)]
    whole = {}
    with db.connect() as connection:
        for call in SETS:
            call = call.format(session=session["id"], schedule=schedules[0]["id"])
            query = f"select * from {call}" if place == "from" else f"select {call}"
            become(connection, "authenticated", world.influencer.user_id)
            whole[call] = len(connection.execute(query).fetchall())
            connection.execute("begin")
            connection.execute(f"declare c cursor for {query}")
            got = len(connection.execute("fetch 1 from c").fetchall())
            connection.execute("savepoint s")
            got += len(connection.execute("fetch 1 from c").fetchall())
            with contextlib.suppress(psycopg.Error):
                connection.execute("select public.live_stream_join(gen_random_uuid())")
            connection.execute("rollback to s")
            connection.execute("savepoint t")
            connection.execute("set local role anon")
            connection.execute("select * from public.live_stream_upcoming()")
            connection.execute("rollback to t")
            got += len(connection.execute("fetch all from c").fetchall())
            connection.execute("commit")
            assert got == whole[call], (call, got)
            # One that is opened within what is rolled back is gone, and no trouble.
            connection.execute("begin")
            connection.execute("savepoint s")
            connection.execute(f"declare d cursor for {query}")
            connection.execute("fetch 1 from d")
            connection.execute("rollback to s")
            with pytest.raises(psycopg.errors.InvalidCursorName):
                connection.execute("fetch 1 from d")
            connection.execute("rollback")
    assert max(whole.values()) > 10


def test_a_join_in_a_portal_that_is_never_finished(plain_db):
    """The cursor of a writing function is closed, rolled back or left open; what counts is what is committed."""
    db, world = plain_db, people(plain_db)
    session = world.session()
    with db.connect() as connection:
        for end, expected in (("rollback", 0), ("commit", 1)):
            become(connection, "authenticated", world.viewer.user_id)
            connection.execute("begin")
            connection.execute(f"declare c cursor for select public.live_stream_join('{session['id']}'), generate_series(1, 5)")
            connection.execute("fetch 2 from c")
            connection.execute(end)
            connection.execute("reset role")
            assert kept(db, session["id"]) == watching(db, session["id"]) == expected
    assert differences(db) == []


# COPY, MERGE and upserts.


@pytest.mark.parametrize("who", [*ATTACKERS, "service"])
def test_copy_in_and_out(scene, who):
    """Out comes what a SELECT shows; in goes what an INSERT of the same row may write, or less. No file, no program."""
    db = scene.db
    scene.claims["service"] = ("service_role", {"role": "service_role"})
    hidden = ["5e3kr"] if who != "service" else []
    with scene.sql() as connection:
        for relation in relations(db):
            shown = scene.try_sql(connection, who, f"select t.* from {relation} t")
            scene.undo(connection)
            for statement in (f"copy {relation} to stdout", f"copy (select * from {relation}) to stdout (format csv)"):
                connection.execute("savepoint attempt")
                scene.become(connection, who)
                try:
                    with connection.cursor().copy(statement) as copy:
                        rows = list(copy)
                except psycopg.Error as error:
                    assert error.sqlstate in ("42501", "42809"), (relation, error)  # 42809: of a view, only its query
                else:
                    assert isinstance(shown, list) and len(rows) == len(shown), (relation, statement)
                    assert not [word for word in hidden if word in str(rows)]
                connection.execute("rollback to attempt")
            connection.execute("savepoint attempt")
            scene.become(connection, who)
            try:
                with connection.cursor().copy(f"copy {relation} from stdin") as copy:
                    copy.write(b"nonsense\n")
                raise AssertionError(relation)
            except psycopg.Error as error:
                # Under row-level security PostgreSQL has no COPY FROM at all, but for who passes it by.
                assert error.sqlstate in ("42501", "0A000", "42809", "22P02", "22P04"), (relation, error.sqlstate, error)
            connection.execute("rollback to attempt")
            for target in ("'/tmp/x'", "program 'true'"):
                for way in ("to", "from"):
                    outcome = scene.try_sql(connection, who, f"copy {relation} {way} {target}")
                    scene.undo(connection)
                    assert outcome[0] in ("42501", "42809", "0A000"), (relation, outcome)


@pytest.mark.parametrize("who", ATTACKERS)
def test_merge_writes_what_updates_and_deletes_write(scene, who):
    """Rows of others stay; and what is merged into a session is counted as ever."""
    written = 0
    with scene.sql() as connection:
        before = scene.contents(connection)
        for table in scene.tables():
            name, key = f"public.{table['name']}", table["key"]
            same = " and ".join(f't."{column}" = u."{column}"' for column in key)
            others = [column for column in table["columns"] if column not in key]
            statements = [
                f"merge into {name} t using {name} u on {same} when matched then delete",
                f"merge into {name} t using (select 1) v on true when matched then delete",
                f"merge into {name} t using (select 1) v on false when not matched then insert default values",
            ]
            statements += [
                f'merge into {name} t using {name} u on {same} when matched then update set "{column}" = u."{column}"' for column in others
            ]
            statements += [
                f'merge into {name} t using (select 1) v on true when matched then update set "{column}" = null' for column in others
            ]
            for statement in statements:
                outcome = scene.try_sql(connection, who, statement)
                assert not is_internal(outcome), (statement, outcome)
                if not isinstance(outcome, tuple):
                    written += outcome
                    harm = list(scene.harm(who, before, scene.contents(connection)))
                    assert harm == [], (statement, harm)
                scene.undo(connection)
    assert written > 0 or who != "rival"


def test_what_is_merged_is_counted(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session()
    merge = """merge into public.live_stream_viewers t
               using (select %s::uuid as session_id, n from generate_series(1, 10) n) u on t.session_id = u.session_id and t.shares_sent = u.n
               when matched and u.n %% 3 = 0 then delete
               when matched then update set is_still_watching = u.n %% 2 = 0
               when not matched then insert (session_id, shares_sent) values (u.session_id, u.n)"""
    for expected in (10, None, None):
        db.sql(merge, [session["id"]])
        assert kept(db, session["id"]) == watching(db, session["id"])
        assert expected is None or watching(db, session["id"]) == expected
    assert differences(db) == []


def test_an_upsert_with_returning_shows_the_callers_row(scene):
    """Of a session's viewers, whichever way it goes."""
    session = scene.of["public"]["session_id"]
    with scene.sql() as connection:
        outcome = scene.try_sql(
            connection, "stranger",
            "insert into public.live_stream_viewers as v (id, session_id, user_id) values (%s, %s, %s)"
            " on conflict (id) do update set shares_sent = 5 returning v.*",
            [scene.of["public"]["viewer_id"], session, scene.users["stranger"]],
        )  # fmt: skip
        assert isinstance(outcome, tuple) and outcome[0] in ("42501", "23505"), outcome
        scene.undo(connection)
        new = str(uuid.uuid4())
        for _ in range(2):
            rows = scene.try_sql(
                connection, "stranger",
                "insert into public.live_stream_viewers as v (id, session_id, user_id, viewer_type) values (%s, %s, %s, 'customer')"
                " on conflict (id) do update set device_type = 'mobile' returning v.id::text, v.user_id::text",
                [new, session, scene.users["stranger"]],
            )  # fmt: skip
            assert isinstance(rows, list), rows
            assert {row["user_id"] for row in rows} == {scene.users["stranger"]}


@pytest.mark.parametrize("role", ROLES)
def test_clients_cannot_switch_triggers_off(plain_db, role):
    """Nor can they pretend that they replicate, or write the log of changes, or past the policies."""
    db = plain_db
    session = people(db).session()
    with db.connect() as connection:
        for statement in (
            "set session_replication_role = replica",
            "select set_config('session_replication_role', 'replica', true)",
            "alter table public.live_stream_viewers disable trigger all",
            "alter table public.live_stream_sessions disable row level security",
            "create trigger mine before insert on public.live_stream_chat for each row execute function live_stream.chat_guard()",
            "create rule mine as on insert to public.live_stream_chat do instead nothing",
            "create policy mine on public.live_stream_chat using (true)",
            "create publication mine for all tables",
            "create subscription mine connection 'host=x' publication mine with (connect = false)",
            "select pg_replication_origin_create('mine')",
            "select pg_replication_origin_session_setup('mine')",
            "insert into live_stream.metric_changes (session_id, at, viewers) values (gen_random_uuid(), now(), 5)",
            "delete from live_stream.metric_changes",
            "truncate live_stream.metric_changes",
            "do $$ begin lock table live_stream.metric_changes in access exclusive mode; end $$",
            "vacuum full live_stream.metric_changes",
            "cluster live_stream.metric_changes using metric_changes_pkey",
            "reindex table live_stream.metric_changes",
        ):
            connection.execute(f"set role {role}")
            notices: list[str] = []
            connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
            try:
                connection.execute(statement)
            except psycopg.Error as error:
                assert error.sqlstate in ("42501", "42809"), (statement, error.sqlstate, error)
            else:
                assert "vacuum" in statement and "skipping" in str(notices), statement
            connection.execute("reset role")
    assert kept(db, session["id"]) == 0 and differences(db) == []
