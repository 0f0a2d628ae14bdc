"""CREATE EXTENSION with whichever schema: the engine is in `live_stream`, and the database is the same."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from database import Database, KINDS, OWNER, Server
from dumps import dump_of, schema_of
from installing import a_stream_works, all_by, create, empty, owners, plain  # noqa: F401
from install_dump_test import restore, stream, still_works, target
from sizes import both_shapes, own_db

pytestmark = own_db("creates the extension")

# What is there before, and what follows `create extension live_stream`.
WAYS = {
    "with schema extensions": ("create schema if not exists extensions", "with schema extensions"),
    "schema public": ("", "schema public"),
    "with schema live_stream": ("create schema live_stream authorization app_owner", "with schema live_stream"),
    "schema pg_catalog": ("", "schema pg_catalog"),
    "cascade": ("", "cascade"),
    "with schema extensions cascade": ("create schema if not exists extensions", "with schema extensions cascade"),
    "an odd name": ('create schema "An odd one; x"', 'with schema "An odd one; x" version "0.1.0"'),
    "if not exists": ("create schema if not exists extensions", "with schema extensions"),
}


def make(db: Database, options: str, user: str = OWNER, start: str = "create extension live_stream ") -> None:
    with db.connect(user) as connection:
        connection.execute(start + options)


def home_of(db: Database) -> str:
    return db.value("select extnamespace::regnamespace::text from pg_extension where extname = 'live_stream'")


def depends_on(db: Database) -> list[str]:
    rows = db.sql(
        "select refobjid::regnamespace::text as name from pg_depend where classid = 'pg_extension'::regclass"
        " and objid = (select oid from pg_extension where extname = 'live_stream') and refclassid = 'pg_namespace'::regclass"
    )
    return [row["name"] for row in rows]


def elsewhere(db: Database) -> list[str]:
    """What the extension left in a schema that is not ours."""
    rows = db.sql(
        "select p.oid::regprocedure::text as name from pg_proc p where proname like '%come_home%' or pronamespace not in"
        " (select oid from pg_namespace where nspname in ('pg_catalog', 'information_schema', 'live_stream', 'public', 'auth'))"
    )
    return [row["name"] for row in rows]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_the_database_is_the_same_whichever_schema_is_named(server: Server, kind: str, way: str) -> None:
    before, options = WAYS[way]
    with empty(server, kind) as db, empty(server, kind) as usual:
        for one in (db, usual):
            if before and "live_stream" not in before:
                one.sql(before)
        if "live_stream" in before:
            db.sql(before)
        make(db, options, start="create extension if not exists live_stream " if way == "if not exists" else "create extension live_stream ")
        create(usual)
        assert home_of(db) == "live_stream" and depends_on(db) == ["live_stream"]
        assert schema_of(db) == schema_of(usual)
        assert owners(db) == all_by(OWNER)
        assert elsewhere(db) == elsewhere(usual)
        a_stream_works(db)


@both_shapes
def test_such_a_database_is_dumped_and_restored(server: Server, kind_of_db: str, tmp_path: Path) -> None:
    with empty(server, kind_of_db) as db:
        db.sql("create schema if not exists extensions")
        make(db, "with schema extensions")
        session = stream(db)
        with target(server, kind_of_db) as restored:
            restore(db, tmp_path / "dump", [], None, restored)
            assert dump_of(restored) == dump_of(db)
            assert home_of(restored) == "live_stream"
            still_works(restored, session)


def test_it_is_dropped_and_made_again_elsewhere(plain: Database) -> None:
    plain.sql("create schema extensions")
    make(plain, "with schema extensions")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        plain.sql("alter extension live_stream set schema extensions")
    before = schema_of(plain)
    # The schema that was named is nothing to the extension any more.
    plain.sql("drop schema extensions")
    plain.sql("drop extension live_stream cascade")
    make(plain, "schema public")
    plain.sql("create schema extensions")
    assert schema_of(plain) == before


def test_a_role_without_rights_in_the_schema_that_it_names_needs_none(plain: Database) -> None:
    plain.sql("create schema extensions")
    make(plain, "with schema extensions")
    assert owners(plain) == all_by(OWNER)


def test_a_schema_that_is_not_there_is_postgresqls_to_refuse(plain: Database) -> None:
    with pytest.raises(psycopg.errors.InvalidSchemaName):
        make(plain, "with schema extensions")


def test_a_search_path_without_a_schema_names_one(plain: Database) -> None:
    with plain.connect(OWNER) as connection:
        connection.execute("set search_path = ''")
        with pytest.raises(psycopg.errors.InvalidSchemaName):
            connection.execute("create extension live_stream")
        connection.execute("create extension live_stream schema public")
        assert connection.execute("show search_path").fetchone() == {"search_path": '""'}
    assert home_of(plain) == "live_stream"


@pytest.fixture(scope="module")
def mallory(server: Server) -> str:
    server.run("postgres", "create role schema_mallory login")
    return "schema_mallory"


@pytest.mark.parametrize("user", [OWNER, "postgres"])
def test_somebody_elses_schema_for_the_engine_is_refused(plain: Database, mallory: str, user: str) -> None:
    plain.sql(f"create schema extensions; create schema live_stream authorization {mallory}")
    before = schema_of(plain)
    with pytest.raises(psycopg.errors.DuplicateTable) as refusal:
        make(plain, "with schema extensions", user)
    assert mallory in refusal.value.diag.message_detail and refusal.value.diag.message_hint
    assert schema_of(plain) == before


@pytest.mark.parametrize("user", [OWNER, "postgres"])
def test_nothing_in_a_hostile_schema_runs(plain: Database, mallory: str, user: str) -> None:
    """Functions, operators and types of the names that the script uses, in the schema that is named."""
    plain.sql(f"create schema extensions authorization {mallory}; create table caught (what text); grant insert on caught to public")
    note = "insert into public.caught values (current_user)"
    with plain.connect(mallory) as connection:
        connection.execute("set search_path = extensions")
        for name in ("uid()", "install()", "touch()", "set_config(text, text, boolean)"):
            connection.execute(f"create function extensions.{name} returns text language plpgsql as $$ begin {note}; return null; end $$")
        connection.execute(f"create function extensions.eq(oid, oid) returns boolean language plpgsql as $$ begin {note}; return true; end $$")
        connection.execute("create operator extensions.= (leftarg = oid, rightarg = oid, function = extensions.eq)")
        connection.execute("create domain extensions.text as pg_catalog.text check (false)")
        connection.execute("create domain extensions.uuid as pg_catalog.text check (false)")
    make(plain, "with schema extensions", user)
    assert plain.sql("select * from caught") == []
    assert home_of(plain) == "live_stream" and owners(plain) == all_by(user)
    if user == OWNER:
        plain.sql("drop table caught")
        a_stream_works(plain)


@pytest.mark.parametrize("arguments", ["", "a integer default 0", "variadic a integer[] default '{}'"])
def test_a_function_of_the_scripts_name_is_not_run(plain: Database, mallory: str, arguments: str) -> None:
    plain.sql(f"create schema extensions authorization {mallory}")
    plain.sql(f"create function extensions.come_home_of_live_stream({arguments}) returns integer language sql as 'select 1/0'", user=mallory)
    with pytest.raises((psycopg.errors.DuplicateFunction, psycopg.errors.AmbiguousFunction)):
        make(plain, "with schema extensions", "postgres")


def test_the_first_function_of_the_script_works_in_the_script_alone(plain: Database) -> None:
    create(plain)
    library = plain.value("select probin from pg_proc where pronamespace = 'live_stream'::regnamespace limit 1")
    plain.sql(f"create function moved() returns void language c as '{library}', 'come_home_wrapper'")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        plain.sql("select moved()")
