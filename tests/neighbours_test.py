"""That a test which would be in its neighbours' way fails: what is looked for after each test in a shared database."""

from __future__ import annotations

from typing import Iterator

import psycopg
import pytest

import neighbours
from database import Database, Server
from neighbours import Neighbours
from people import people

ALTERATIONS = {
    "a column": "alter table public.live_stream_chat add column app text",
    "a default": "alter table public.live_stream_chat alter column message set default 'x'",
    "a trigger": "alter table public.live_stream_chat disable trigger user",
    "an index": "create index app on public.live_stream_chat (message)",
    "a policy": "alter policy {policy} on {table} to authenticated",
    "a function": "create function public.app() returns int language sql as 'select 1'",
    "a right": "revoke select on public.live_stream_chat from authenticated",
    "a constraint": "alter table public.live_stream_chat add constraint app check (message <> 'x')",
    "a label": "alter type public.live_stream_status add value 'app'",
    "a schema": "create schema app",
    "a publication": "create publication app for table public.live_stream_chat",
    "an empty table": "truncate public.live_stream_notifications",
    "a setting": "alter database {name} set work_mem = '8MB'",
    "a setting of ours": "alter database {name} set live_stream.message_limit = 7",
    "a right to the database": "grant create on database {name} to authenticated",
}


@pytest.fixture
def shared(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Neighbours]:
    monkeypatch.setattr(neighbours, "PATIENCE_SECONDS", 0.2)
    with server.database("supabase") as db:
        yield Neighbours(db)


@pytest.mark.parametrize("what", ALTERATIONS)
def test_what_alters_the_shared_database_is_told(shared, what):
    db = shared.db
    (any_policy,) = db.sql("select quote_ident(polname) as policy, polrelid::regclass::text as table from pg_policy limit 1")
    statement = ALTERATIONS[what].format(name=db.name, **any_policy)
    db.sql(statement)
    assert "use own_db" in shared.complaint()


def test_what_a_test_does_to_rows_is_nobodys_business(shared):
    db = shared.db
    for _ in range(2):
        world = people(db)
        session = world.session(max_viewers=None)
        world.say(session, world.viewer, viewer=world.join(session, world.viewer))
        db.sql("create temp table mine (n int)")
        db.sql("analyze public.live_stream_chat")
        world.end(session)
        db.sql("delete from public.live_stream_sessions where id = %s", [session["id"]])
        assert shared.complaint() is None
        assert db.value("select to_regclass('pg_temp.mine')") is None


def test_what_was_set_is_set_no_more(shared):
    db: Database = shared.db
    db.without_limits()
    db.sql("set session_replication_role = replica")
    db.sql("select pg_advisory_lock(7)")
    settings = "select count(*) from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase where datname = current_database()"
    assert db.value(settings) == 1
    assert shared.complaint() is None
    assert db.value("show session_replication_role") == "origin"
    assert db.value(settings) == 0
    assert db.value("select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()") == 0
    with pytest.raises(AssertionError, match="use own_db"):
        db.set(flush_interval=10)


def test_a_transaction_that_is_left_open_is_told(shared):
    with shared.db.connect() as connection:
        connection.execute("begin")
        connection.execute("select from public.live_stream_sessions")
        assert "leaves a transaction open" in shared.complaint()
        connection.execute("rollback")
        assert shared.complaint() is None


def test_a_connection_that_is_gone_is_made_anew(shared):
    with shared.db.connect() as connection:
        pid = shared.db.value("select pg_backend_pid()")
        connection.execute("select pg_terminate_backend(%s, 5000)", [pid])
    with pytest.raises(psycopg.Error):
        shared.db.sql("select 1")
    assert shared.complaint() is None
