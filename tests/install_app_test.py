"""What a hostile app can do to an installation; the setting; and an installation undone, crashed, dropped."""

from __future__ import annotations

import threading

import psycopg
import pytest

from database import Database, KINDS, OWNER, Server
from dumps import rows_of, schema_of
from installing import _names, a_stream_works, all_by, create, empty, install, owners, plain, until_it_waits  # noqa: F401
from people import people
from sizes import both_shapes, own_db

pytestmark = [own_db("alters, drops and installs"), both_shapes]


# What a hostile app can do.

EVIL = """
create schema evil;
create table evil.log (what text, who text);
create function evil.note(what text) returns void language sql as $$
  insert into evil.log select what, current_user
$$;
create function evil.to_regclass(text) returns regclass language sql as $$
  select evil.note('to_regclass'); select pg_catalog.to_regclass($1) $$;
create function evil.to_regtype(text) returns regtype language sql as $$
  select evil.note('to_regtype'); select pg_catalog.to_regtype($1) $$;
create function evil.format(text, variadic text[]) returns text language sql as $$
  select evil.note('format'); select 'alter role app_owner superuser'::text $$;
create function evil.format(text, regprocedure, name) returns text language sql as $$
  select evil.note('format'); select 'alter role app_owner superuser'::text $$;
create function evil.pg_get_userbyid(oid) returns name language sql as $$
  select evil.note('pg_get_userbyid'); select 'postgres'::name $$;
create function evil.hashtextextended(text, bigint) returns bigint language sql as $$
  select evil.note('hashtextextended'); select 1::bigint $$;
create function evil.pg_advisory_xact_lock(bigint) returns void language sql as $$
  select evil.note('pg_advisory_xact_lock') $$;
create function evil.same(oid, oid) returns boolean language sql as $$
  select evil.note('='); select true $$;
create operator evil.= (leftarg = oid, rightarg = oid, function = evil.same);
create function evil.named(name, text) returns boolean language sql as $$
  select evil.note('='); select true $$;
create operator evil.= (leftarg = name, rightarg = text, function = evil.named);
create type evil.uuid as (x int);
create domain evil.regclass as text;
create function evil.install() returns void language sql as $$ select evil.note('install') $$;
create function public.install() returns void language sql as $$ select evil.note('install') $$;
create table evil.pg_extension (oid oid, extname name, extowner oid);
create table evil.pg_class (like pg_catalog.pg_class);

create function public.on_insert() returns trigger language plpgsql as $$
begin perform evil.note(tg_name); return new; end $$;
create function public.from_anything() returns uuid language sql as $$
  select evil.note('default'); select gen_random_uuid() $$;
create table public.influencers (
  id uuid primary key default public.from_anything(),
  user_id uuid unique default public.from_anything(),
  display_name text);
create trigger hostile before insert or update on public.influencers
  for each row execute function public.on_insert();
insert into public.influencers (display_name) values ('kept');
create index on public.influencers (lower(display_name));
create policy hostile on public.influencers using (public.from_anything() is not null);
alter table public.influencers enable row level security;
truncate evil.log;
"""


@pytest.mark.parametrize("user", [OWNER, "postgres"])
def test_nothing_of_the_apps_runs_as_somebody_else(server: Server, user: str) -> None:
    with empty(server) as db:
        db.owner(EVIL)
        db.sql(f"alter database {db.name} set search_path = evil, public, pg_catalog")
        create(db, user)
        install(db, user)
        install(db, "postgres")
        assert db.owner("select * from evil.log") == []
        assert owners(db) == all_by(user)
        roles = {row["rolname"]: row["rolsuper"] for row in db.sql("select rolname, rolsuper from pg_catalog.pg_roles")}
        assert roles[OWNER] is False


WATCH = """
create table public.ddl (object text, who text, super boolean);
grant all on public.ddl to public;
create function public.watch() returns event_trigger language plpgsql as $$
declare command record;
begin
  for command in select * from pg_event_trigger_ddl_commands() loop
    insert into public.ddl
      select command.object_identity, current_user, rolsuper from pg_roles where rolname = current_user;
  end loop;
end $$;
create event trigger watch on ddl_command_end execute function public.watch();
"""


def test_the_api_is_made_with_the_rights_of_the_installing_role(plain: Database) -> None:
    plain.sql(WATCH)
    create(plain)
    made = plain.sql("select * from public.ddl where object like '%%public.live%%' or object like '%%_cards'")
    assert len(made) > 300
    assert {(row["who"], row["super"]) for row in made} == {(OWNER, False)}


ESCAPE = f"""
create table public.tries (what text, outcome text);
create table public.escapes (who text);
create table public.bait (id int);
create function public.later() returns trigger language plpgsql as $$
begin insert into public.escapes values (current_user); return null; end $$;
create constraint trigger later after insert on public.bait deferrable initially deferred
  for each row execute function public.later();
create function public.try(command text) returns void language plpgsql as $$
begin
  execute command;
  insert into public.tries values (command, 'done as ' || current_user);
exception when others then
  insert into public.tries values (command, sqlerrm);
end $$;
create function public.escape() returns event_trigger language plpgsql as $$
begin
  if current_user = '{OWNER}' and not exists (select from public.tries) then
    perform public.try('set role postgres');
    perform public.try('set session authorization postgres');
    perform public.try('insert into public.bait values (1)');
    perform public.try('alter role {OWNER} superuser');
    perform public.try('create temp table trap ()');
  end if;
end $$;
"""


def test_code_of_the_owners_cannot_leave_its_role_while_a_superuser_installs(plain: Database) -> None:
    """As where a platform lets plain roles make event triggers: install() by a superuser runs them as their owner."""
    create(plain)
    plain.owner(ESCAPE)
    plain.sql("create event trigger escape on ddl_command_start execute function public.escape()")
    install(plain, "postgres")
    tries = plain.sql("select * from public.tries")
    assert len(tries) == 5
    assert [row for row in tries if row["outcome"].startswith("done")] == []
    assert plain.sql("select * from public.escapes") == []
    assert plain.value(f"select rolsuper from pg_roles where rolname = '{OWNER}'") is False
    assert plain.value("select current_user") == "postgres"


# The setting.


@pytest.mark.parametrize(
    ("options", "made"),
    [
        ("", True),
        ("-c row_security=off", False),
        ("-c live_stream.install=off", False),
        ("-c live_stream.install=on", True),
        ("-c live_stream.install=on -c row_security=off", True),
        ("-c live_stream.install=auto -c row_security=off", False),
    ],
)
def test_the_setting_says_whether_tables_are_made(plain: Database, options: str, made: bool) -> None:
    create(plain, options=options)
    assert plain.value("select to_regclass('public.live_stream_sessions') is not null") is made
    assert owners(plain)["function"] == {OWNER}
    install(plain)
    assert owners(plain) == all_by(OWNER)


def test_misspelt_settings_are_refused(plain: Database) -> None:
    with plain.connect(OWNER) as connection:
        connection.execute("create extension live_stream")
        for statement in (
            "set live_stream.instal = off",
            "set live_stream.install = never",
            "set live_stream.nonsense = 1",
        ):
            with pytest.raises(psycopg.Error) as refusal:
                connection.execute(statement)
            assert refusal.value.sqlstate in ("42602", "22023"), statement
        (row,) = connection.execute("show live_stream.install").fetchall()
        assert row == {"live_stream.install": "auto"}


# Undone, crashed, dropped.


def test_of_two_create_extensions_at_once_one_wins(plain: Database) -> None:
    with plain.connect(OWNER) as first:
        first.execute("begin")
        first.execute("create extension live_stream")
        outcome: list[str | None] = []

        def second() -> None:
            try:
                create(plain)
                outcome.append(None)
            except psycopg.Error as error:
                outcome.append(error.sqlstate)

        waiting = threading.Thread(target=second)
        waiting.start()
        until_it_waits(plain, waiting)
        first.execute("commit")
        waiting.join()
    assert outcome in (["23505"], ["42710"])
    assert owners(plain) == all_by(OWNER)
    a_stream_works(plain)


def test_a_create_extension_that_is_rolled_back_leaves_nothing(plain: Database) -> None:
    before = schema_of(plain)
    with plain.connect(OWNER) as connection:
        connection.execute("begin")
        connection.execute("create extension live_stream")
        connection.execute("insert into public.influencers (user_id) values (gen_random_uuid())")
        connection.execute("rollback")
    assert schema_of(plain) == before
    create(plain)
    a_stream_works(plain)


def test_a_failed_install_leaves_the_backend_as_it_was(plain: Database) -> None:
    """After the error the same connection is its user again, with its search_path, and creates ordinary members."""
    with plain.connect("postgres") as connection:
        connection.execute("set search_path = public")
        connection.execute("create table public.influencers (id int)")
        for _ in range(2):
            with pytest.raises(psycopg.errors.DuplicateTable):
                connection.execute("create extension live_stream")
        with pytest.raises(psycopg.errors.DuplicateTable):
            with connection.transaction():
                connection.execute("create extension live_stream")
        (row,) = connection.execute(
            "select current_user as who, current_setting('search_path') as path, current_setting('role') as role"
        ).fetchall()
        assert row == {"who": "postgres", "path": "public", "role": "none"}
        connection.execute("drop table public.influencers")
        connection.execute("create extension live_stream")
    assert owners(plain) == all_by("postgres")


def test_a_crash_during_create_extension_leaves_nothing(fresh_server: Server) -> None:
    fresh_server.run("postgres", f"create role {OWNER} login")
    fresh_server.make_empty("app")
    with fresh_server.open("app") as db:
        before = schema_of(db)
        with db.connect(OWNER) as connection:
            connection.execute("begin")
            connection.execute("create extension live_stream")
            fresh_server.crash()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("commit")
        db.close()
        assert schema_of(db) == before
        create(db)
        assert owners(db) == all_by(OWNER)
        kept = schema_of(db)
        db.close()
        fresh_server.crash()
        assert schema_of(db) == kept


@pytest.mark.parametrize("kind", KINDS)
def test_drop_extension_needs_cascade_and_loses_no_row(server: Server, kind: str) -> None:
    with server.database(kind) as db:
        world = people(db)
        session = world.session(stream_key="secret-key")
        viewer = world.join(session, world.viewer)
        world.say(session, world.viewer, "kept", viewer)
        world.product(session)
        before, rows = schema_of(db), rows_of(db)
        with pytest.raises(psycopg.errors.DependentObjectsStillExist):
            db.owner("drop extension live_stream")
        db.owner("drop extension live_stream cascade")
        assert rows_of(db) == rows
        assert db.as_anon().select("live_stream_sessions") == []
        create(db)
        assert rows_of(db) == rows
        assert owners(db) == all_by(OWNER)
        assert sorted(schema_of(db).splitlines()) == sorted(before.splitlines())
        world.join(session)
        again = world.read(session)
        assert (again["current_viewers"], again["total_unique_viewers"], again["total_messages"]) == (2, 2, 1)
        a_stream_works(db)



@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
def test_a_database_of_another_encoding_is_refused(server: Server, encoding: str) -> None:
    """Also while a dump is restored, and nothing is left behind."""
    name = f"install_{next(_names)}"
    server.run(
        "postgres",
        f"create database {name} owner {OWNER} encoding '{encoding}' lc_collate 'C' lc_ctype 'C' template template0",
    )
    try:
        with server.open(name) as db:
            for options in ("", "-c row_security=off", "-c live_stream.install=off"):
                with pytest.raises(psycopg.errors.FeatureNotSupported, match="whose encoding is UTF8") as refusal:
                    create(db, options=f"-c client_encoding=utf8 {options}")
                diag = refusal.value.diag
                assert diag.message_detail == f"The encoding of this one is {encoding}."
                assert "CREATE DATABASE" in diag.message_hint
                with db.connect(options="-c client_encoding=utf8") as connection:
                    left = connection.execute(
                        "select (select count(*) from pg_extension where extname = 'live_stream')"
                        " + (select count(*) from pg_namespace where nspname = 'live_stream')"
                        " + (select count(*) from pg_class where relnamespace = 'public'::regnamespace)"
                        " + (select count(*) from pg_type where typnamespace = 'public'::regnamespace) as things"
                    )
                    assert left.fetchone()["things"] == 0
    finally:
        server.run("postgres", f"drop database if exists {name} with (force)")
