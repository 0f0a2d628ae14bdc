"""CREATE EXTENSION and live_stream.install(): who owns what, what is found, what a hostile database can do."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from typing import Iterator

import psycopg
import pytest

from database import KINDS, OWNER, SHAPE, Database, Server
from dumps import rows_of, schema_of
from people import people
from postgrest import RequestError
from sizes import both_shapes, own_db

pytestmark = [own_db("alters, drops and installs"), both_shapes]

REALTIME = ["live_stream_chat", "live_stream_products", "live_stream_sessions", "live_stream_viewers"]

_names = itertools.count(1)


@contextlib.contextmanager
def empty(server: Server, kind: str = "plain", owner: str = OWNER) -> Iterator[Database]:
    """A database without the extension, plain or shaped as Supabase's; gone at the end."""
    name = f"install_{next(_names)}"
    server.run("postgres", f"create database {name} owner {owner}")
    try:
        if kind == "supabase":
            server.run(name, (SHAPE / "supabase.sql").read_text())
        with server.open(name, kind) as db:
            yield db
    finally:
        server.run("postgres", f"drop database if exists {name} with (force)")


@pytest.fixture
def plain(server: Server) -> Iterator[Database]:
    with empty(server) as db:
        yield db


@pytest.fixture
def supabase(server: Server) -> Iterator[Database]:
    with empty(server, "supabase") as db:
        yield db


@pytest.fixture(scope="module")
def mallory(server: Server) -> str:
    """A role that may log in and no more."""
    server.run("postgres", "create role install_mallory login")
    return "install_mallory"


def create(db: Database, user: str = OWNER, options: str = "") -> list[str]:
    """CREATE EXTENSION on a connection of its own; returns what the server said besides."""
    said: list[str] = []
    with db.connect(user, options=options) as connection:
        connection.add_notice_handler(lambda notice: said.append(f"{notice.severity}: {notice.message_primary}"))
        connection.execute("create extension live_stream")
    return said


def install(db: Database, user: str = OWNER) -> list[str]:
    said: list[str] = []
    with db.connect(user) as connection:
        connection.add_notice_handler(lambda notice: said.append(f"{notice.severity}: {notice.message_primary}"))
        connection.execute("select live_stream.install()")
    return said


def refused(db: Database, user: str = OWNER) -> psycopg.errors.Diagnostic:
    """What CREATE EXTENSION says as it refuses; it must have left the database as it was."""
    before = schema_of(db)
    with pytest.raises(psycopg.Error) as refusal:
        create(db, user)
    assert schema_of(db) == before
    diagnostic = refusal.value.diag
    assert diagnostic.message_hint
    return diagnostic


def owners(db: Database) -> dict[str, set[str]]:
    """Who owns the engine and the API layer, by kind of object."""
    rows = db.sql(
        """
        select 'relation' as kind, pg_get_userbyid(relowner) as owner from pg_class
         where relnamespace in ('public'::regnamespace, 'live_stream'::regnamespace)
           and (relname like 'live\\_stream%' or relnamespace = 'live_stream'::regnamespace
                or relname in ('live_sessions_with_details', 'session_analytics_summary', 'upcoming_streams'))
        union all
        select 'function', pg_get_userbyid(proowner) from pg_proc
         where pronamespace = 'live_stream'::regnamespace
            or pronamespace = 'public'::regnamespace and proname like 'live\\_stream%'
        union all
        select 'type', pg_get_userbyid(typowner) from pg_type
         where typnamespace = 'public'::regnamespace and typname like 'live\\_stream%'
        union all
        select 'schema', pg_get_userbyid(nspowner) from pg_namespace where nspname = 'live_stream'
        union all
        select 'extension', pg_get_userbyid(extowner) from pg_extension where extname = 'live_stream'
        """
    )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["kind"], set()).add(row["owner"])
    return found


def all_by(role: str) -> dict[str, set[str]]:
    return {kind: {role} for kind in ("relation", "function", "type", "schema", "extension")}


def until_it_waits(db: Database, thread: threading.Thread) -> None:
    """Until the thread's statement waits for a lock."""
    patience = time.monotonic() + 30
    while not db.value("select exists (select from pg_locks where not granted)"):
        assert thread.is_alive() and time.monotonic() < patience


def foreign_keys_to(db: Database, table: str) -> set[str]:
    return {
        row["conname"]
        for row in db.sql(
            "select conname from pg_constraint where contype = 'f' and confrelid = to_regclass(%s)"
            " and conname like 'live\\_stream%%'",
            [table],
        )
    }


def a_stream_works(db: Database) -> None:
    """The requests of a short stream, which need policies, grants, triggers and functions."""
    world = people(db)
    session = world.session(title="After the install", stream_key="secret-key")
    viewer = world.join(session, world.viewer)
    world.say(session, world.viewer, "hello", viewer)
    watched = world.read(session)
    assert (watched["current_viewers"], watched["total_messages"], watched["stream_key"]) == (1, 1, None)
    details = db.as_anon().select("live_sessions_with_details", where={"id": session["id"]}, one=True)
    assert details["display_name"] == "Ada"
    (credentials,) = world.influencer.api.rpc("live_stream_stream_credentials", session_id=session["id"])
    assert credentials["stream_key"] == "secret-key"
    assert world.stranger.api.select("live_stream_viewers", where={"session_id": session["id"]}) == []


# Who installs.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("user", [OWNER, "postgres"])
def test_everything_belongs_to_the_role_that_installs(server: Server, kind: str, user: str) -> None:
    with empty(server, kind) as db:
        create(db, user)
        assert owners(db) == all_by(user)
        if db.is_supabase or user == OWNER:
            a_stream_works(db)


def test_a_role_with_create_on_database_and_public_installs(server: Server, mallory: str) -> None:
    with empty(server, owner="postgres") as db:
        db.sql(f"grant create on database {db.name} to {mallory}")
        db.sql(f"grant create on schema public to {mallory}")
        create(db, mallory)
        assert owners(db) == all_by(mallory)


def test_a_role_that_cannot_create_in_public_is_told_so(server: Server, mallory: str) -> None:
    with empty(server, owner="postgres") as db:
        db.sql(f"grant create on database {db.name} to {mallory}")
        said = refused(db, mallory)
        assert said.sqlstate == "42501" and "schema public" in said.message_primary
        assert "GRANT CREATE ON SCHEMA public" in said.message_hint


def test_only_engine_functions_are_members_of_the_extension(db: Database) -> None:
    members = db.sql(
        "select classid::regclass::text as kind, p.prosecdef as definer, p.pronamespace::regnamespace::text as schema"
        "  from pg_depend d join pg_extension e on e.oid = d.refobjid left join pg_proc p on p.oid = d.objid"
        " where d.refclassid = 'pg_extension'::regclass and e.extname = 'live_stream' and d.deptype = 'e'"
    )
    assert {(row["kind"], row["definer"], row["schema"]) for row in members} == {("pg_proc", False, "live_stream")}


def test_no_function_runs_as_a_superuser(db: Database) -> None:
    assert db.sql(
        "select p.oid::regprocedure from pg_proc p join pg_roles r on r.oid = p.proowner"
        " where p.prosecdef and r.rolsuper and pronamespace in ('public'::regnamespace, 'live_stream'::regnamespace)"
    ) == []
    definers = db.sql(
        "select p.oid::regprocedure::text as name, n.nspname as schema, p.proconfig as settings"
        "  from pg_proc p join pg_namespace n on n.oid = p.pronamespace"
        " where p.prosecdef and n.nspname in ('public', 'live_stream')"
    )
    assert definers
    pinned = (['search_path=""'], ["search_path=pg_catalog, pg_temp"])
    assert [f["name"] for f in definers if f["schema"] != "live_stream" or f["settings"] not in pinned] == []


def test_nobody_but_its_owner_may_call_the_engine_unasked(db: Database) -> None:
    """A function of the engine is open to those it was granted to by name, never to everybody."""
    assert db.sql(
        "select p.oid::regprocedure from pg_proc p"
        " where pronamespace in ('public'::regnamespace, 'live_stream'::regnamespace)"
        "   and (p.proname like 'live\\_stream%%' or pronamespace = 'live_stream'::regnamespace)"
        "   and exists (select from aclexplode(coalesce(proacl, acldefault('f', proowner))) where grantee = 0)"
    ) == []


def test_a_role_and_a_database_of_any_name(server: Server) -> None:
    role = """App "Owner" 'x' %s"""
    quoted = '"' + role.replace('"', '""') + '"'
    server.run("postgres", f"create role {quoted} login")
    server.run("postgres", f"create database {quoted} owner {quoted}")
    try:
        with server.open(role) as db:
            create(db, role)
            assert owners(db) == all_by(role)
            before = schema_of(db)
            install(db, role)
            install(db, "postgres")
            assert schema_of(db) == before
    finally:
        server.run("postgres", f"drop database {quoted} with (force)")
        server.run("postgres", f"drop role {quoted}")


# Running it again.


def test_a_second_install_changes_nothing(db: Database) -> None:
    before = schema_of(db)
    assert install(db) == []
    assert schema_of(db) == before


def test_a_second_install_locks_nobody_out(db: Database) -> None:
    """It would wait for the requests of a running stream, and they for it."""
    with db.connect(OWNER) as connection:
        connection.execute("begin")
        connection.execute("select live_stream.install()")
        locked = connection.execute(
            "select distinct relation::regclass::text as name, mode from pg_locks where pid = pg_backend_pid()"
            " and mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')"
            " and locktype = 'relation'"
        ).fetchall()
        connection.execute("rollback")
    assert locked == []


MEDDLING = {
    "policy": "alter policy live_stream_chat_select on public.live_stream_chat using (true)",
    "policy's check": "alter policy live_stream_sessions_insert on public.live_stream_sessions with check (true)",
    "policy's roles": "alter policy live_stream_chat_select on public.live_stream_chat to anon",
    "no policy": "drop policy live_stream_viewers_update on public.live_stream_viewers",
    "row security": "alter table public.live_stream_credentials disable row level security",
    "trigger": "alter table public.live_stream_viewers disable trigger live_stream_viewers_guard",
    "no trigger": "drop trigger live_stream_chat_settle_insert on public.live_stream_chat",
    "trigger's events": "create or replace trigger live_stream_viewers_guard before insert"
    " on public.live_stream_viewers for each row execute function live_stream.viewers_guard()",
    "trigger's function": "create or replace trigger live_stream_viewers_guard before insert or update"
    " on public.live_stream_viewers for each row execute function live_stream.touch()",
    "trigger's columns": "create or replace trigger live_stream_sessions_credentials"
    " after insert or update of stream_key on public.live_stream_sessions"
    " for each row execute function live_stream.sessions_credentials()",
    "view": "create or replace view live_stream.influencer_cards as select id, 'x'::text as display_name,"
    " 0::bigint as followers_count, null::text as avatar_url from public.influencers",
    "view's options": "alter view public.live_sessions_with_details reset (security_invoker)",
    "no view": "drop view public.live_sessions_with_details",
    "index": "drop index public.live_stream_sessions_one_on_air_idx",
    "foreign key": "alter table public.live_stream_sessions drop constraint live_stream_sessions_influencer_id_fkey",
    "function": "create or replace function public.live_stream_pause(session_id uuid)"
    " returns public.live_stream_sessions language sql as 'select null::public.live_stream_sessions'",
    "grant": "grant all on public.live_stream_sessions to anon",
    "grant to all": "grant select on public.live_stream_credentials to public",
    "comment": "comment on table public.live_stream_sessions is 'mine'",
}


@pytest.mark.parametrize("meddling", MEDDLING.values(), ids=MEDDLING)
def test_install_puts_back_what_was_changed(plain_db: Database, meddling: str) -> None:
    before = schema_of(plain_db)
    plain_db.owner(meddling)
    assert schema_of(plain_db) != before
    install(plain_db)
    assert sorted(schema_of(plain_db).splitlines()) == sorted(before.splitlines())


def test_concurrent_installs_change_nothing(db: Database) -> None:
    before = schema_of(db)
    failures: list[Exception] = []
    start = threading.Barrier(4)

    def again() -> None:
        try:
            with db.connect(OWNER) as connection:
                start.wait()
                connection.execute("select live_stream.install()")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=again) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert schema_of(db) == before


def test_an_install_that_waited_sees_what_the_other_did(plain_db: Database) -> None:
    plain_db.owner("drop index public.live_stream_sessions_live_idx")
    plain_db.owner("alter table public.live_stream_sessions drop constraint live_stream_sessions_influencer_id_fkey")
    with plain_db.connect(OWNER) as first, plain_db.connect(OWNER) as second:
        first.execute("begin")
        first.execute("select live_stream.install()")
        failures: list[Exception] = []

        def wait() -> None:
            try:
                second.execute("select live_stream.install()")
            except Exception as error:
                failures.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        until_it_waits(plain_db, waiting)
        first.execute("commit")
        waiting.join()
    assert failures == []
    assert plain_db.value("select to_regclass('public.live_stream_sessions_live_idx') is not null")
    assert len(foreign_keys_to(plain_db, "public.influencers")) >= 2


def test_a_superusers_install_leaves_everything_the_owners(db: Database) -> None:
    before = schema_of(db)
    db.owner("drop table public.live_stream_notifications")
    db.owner("drop function public.live_stream_pause")
    db.owner("drop view public.session_analytics_summary cascade")
    install(db, "postgres")
    assert owners(db) == all_by(OWNER)
    assert sorted(schema_of(db).splitlines()) == sorted(before.splitlines())


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role", "install_mallory"])
def test_nobody_else_may_install(db: Database, mallory: str, role: str) -> None:
    with db.connect() as connection:
        connection.execute(f"set role {role}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select live_stream.install()")
    db.owner(f"grant usage on schema live_stream to {role}")
    db.owner(f"grant execute on function live_stream.install() to {role}")
    with db.connect() as connection:
        connection.execute(f"set role {role}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege) as refusal:
            connection.execute("select live_stream.install()")
    assert refusal.value.diag.message_hint == f"Run live_stream.install() as {OWNER}."


def test_what_comes_later_is_used_by_the_next_install(fresh_server: Server) -> None:
    fresh_server.run("postgres", f"create role {OWNER} login")
    with empty(fresh_server) as db:
        assert create(db) == []
        assert foreign_keys_to(db, "public.products") == set()
        fresh_server.run("postgres", (SHAPE / "roles.sql").read_text())
        db.sql("create schema auth")
        db.sql("create table auth.users (id uuid primary key)")
        db.sql(f"grant usage on schema auth to {OWNER}, anon, authenticated, service_role")
        db.sql(f"grant references on auth.users to {OWNER}")
        db.owner("create table public.products (id uuid primary key)")
        db.owner("create publication supabase_realtime")
        assert install(db) == []
        assert len(foreign_keys_to(db, "auth.users")) >= 4
        assert foreign_keys_to(db, "public.products") == {"live_stream_products_product_id_fkey"}
        published = db.sql("select tablename from pg_publication_tables where pubname = 'supabase_realtime' order by 1")
        assert [row["tablename"] for row in published] == REALTIME
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            db.owner("insert into public.influencers (user_id) values (gen_random_uuid())")
        with pytest.raises(RequestError) as refusal:
            db.as_anon().insert("live_stream_sessions", {"title": "x"})
        assert refusal.value.sqlstate == "42501"
        assert db.as_anon().select("live_stream_sessions") == []
        before = schema_of(db)
        install(db)
        assert schema_of(db) == before


def test_rows_that_refer_to_nobody_stop_a_late_foreign_key(plain_db: Database) -> None:
    plain_db.owner("insert into public.influencers (user_id) values (gen_random_uuid())")
    plain_db.sql(f"create schema auth authorization {OWNER}")
    plain_db.owner("create table auth.users (id uuid primary key)")
    before = schema_of(plain_db)
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        install(plain_db)
    assert schema_of(plain_db) == before


def test_engine_functions_of_another_role_are_its_to_hand_over(plain_db: Database, mallory: str) -> None:
    plain_db.sql(f"alter function live_stream.uid() owner to {mallory}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege) as refusal:
        install(plain_db)
    assert refusal.value.diag.message_hint == f"Run live_stream.install() once as {mallory}."
    install(plain_db, "postgres")
    assert owners(plain_db) == all_by(OWNER)


# What is there already.


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_another_shape_is_refused_and_the_way_out_works(server: Server, kind: str) -> None:
    with empty(server, kind) as db:
        db.owner("create table public.live_stream_sessions (id uuid primary key, title text, status varchar(20))")
        db.owner("insert into public.live_stream_sessions values (gen_random_uuid(), 'kept', 'live')")
        said = refused(db)
        assert said.sqlstate == "42P07"
        assert "public.live_stream_sessions" in said.message_primary
        assert 'Its column "influencer_id" is missing' in said.message_detail
        assert "SET SCHEMA old" in said.message_hint
        db.owner("create schema old")
        db.owner("alter table public.live_stream_sessions set schema old")
        create(db)
        assert db.value("select title from old.live_stream_sessions") == "kept"
        a_stream_works(db)


def test_a_column_of_another_type_is_refused(plain: Database) -> None:
    columns = "influencer_id uuid, session_id uuid, user_id uuid, type varchar(50), title varchar(255), message text"
    plain.owner(f"create table public.live_stream_notifications (id bigint primary key, {columns})")
    said = refused(plain)
    assert "live_stream_notifications" in said.message_primary
    assert 'Its column "id" has another type' in said.message_detail


def test_a_table_without_its_keys_is_refused(db: Database) -> None:
    db.owner("alter table public.live_stream_products drop constraint live_stream_products_session_id_product_id_key")
    before = schema_of(db)
    with pytest.raises(psycopg.errors.DuplicateTable) as refusal:
        install(db)
    assert "live_stream_products_session_id_product_id_key" in refusal.value.diag.message_detail
    assert schema_of(db) == before


def test_columns_indexes_and_labels_of_the_users_own_stay(db: Database) -> None:
    db.owner("alter table public.live_stream_sessions add column brand text default 'own'")
    db.owner("create index brand_idx on public.live_stream_sessions (brand)")
    db.owner("alter type public.live_stream_viewer_type add value 'press'")
    before = schema_of(db)
    install(db)
    assert schema_of(db) == before


def test_a_view_with_other_columns_is_made_anew(plain: Database) -> None:
    plain.owner("create view public.session_analytics_summary as select 1 as total, 2 as session_id")
    create(plain)
    assert plain.owner("select session_id, total_unique_viewers from public.session_analytics_summary") == []


SQUATTERS = {
    "table": "create table public.live_stream_sessions (id uuid primary key)",
    "view": "create view public.live_sessions_with_details as select 1 as id",
    "function": "create function public.live_stream_pause(session_id uuid) returns int language sql as 'select 1'",
    "overload": "create function public.live_stream_pause(session_id text) returns int language sql as 'select 1'",
    "enum": "create type public.live_stream_visibility as enum ('public', 'private', 'unlisted')",
    "index": "create table public.live_stream_sessions_one_on_air_idx (id int)",
    "influencers": "create view public.influencers as select 1 as id",
    "schema": "create schema live_stream",
}


@pytest.mark.parametrize("squatter", SQUATTERS.values(), ids=SQUATTERS)
@pytest.mark.parametrize("user", [OWNER, "postgres"])
def test_what_somebody_else_has_made_first_is_not_adopted(
    server: Server, mallory: str, squatter: str, user: str
) -> None:
    with empty(server) as db:
        db.sql(f"grant create on schema public to {mallory}")
        db.sql(f"grant create on database {db.name} to {mallory}")
        db.sql(squatter, user=mallory)
        said = refused(db, user)
        assert said.sqlstate == "42P07"
        assert mallory in said.message_detail or "changed" in said.message_detail or "must be" in said.message_detail


def test_a_squatter_in_the_engines_schema_stops_the_script(server: Server, mallory: str) -> None:
    """The script says CREATE FUNCTION, not OR REPLACE: nothing of somebody else's becomes a member."""
    with empty(server) as db:
        db.sql(f"grant create on database {db.name} to {mallory}")
        db.sql("create schema live_stream", user=mallory)
        db.sql("create function live_stream.uid() returns uuid language sql as 'select null::uuid'", user=mallory)
        before = schema_of(db)
        with pytest.raises(psycopg.errors.DuplicateFunction):
            create(db, "postgres")
        assert schema_of(db) == before


def test_an_enum_with_other_labels_is_refused(plain: Database) -> None:
    plain.owner("create type public.live_stream_status as enum ('on', 'off')")
    said = refused(plain)
    assert "public.live_stream_status" in said.message_primary
    assert "on, off" in said.message_detail and "cancelled" in said.message_detail


def test_a_type_that_is_no_enum_is_refused(plain: Database) -> None:
    plain.owner("create domain public.live_stream_status as text")
    assert "no enum" in refused(plain).message_detail


@pytest.mark.parametrize(
    "table",
    [
        "create table public.influencers (id bigint primary key, user_id uuid)",
        "create table public.influencers (id uuid primary key, owner uuid)",
        "create table public.influencers (id uuid, user_id uuid)",
        "create table public.influencers (id uuid primary key, user_id text)",
        "create view public.influencers as select gen_random_uuid() as id, gen_random_uuid() as user_id",
    ],
)
def test_influencers_that_cannot_be_used_are_refused(plain: Database, table: str) -> None:
    plain.owner(table)
    said = refused(plain)
    assert (said.sqlstate, said.message_primary) == ("42P07", "table public.influencers cannot be used")
    assert "user_id uuid" in said.message_detail


def test_influencers_of_another_role_need_its_leave(plain: Database) -> None:
    plain.sql("create table public.influencers (id uuid primary key, user_id uuid unique, display_name text)")
    said = refused(plain)
    assert "SELECT and REFERENCES" in said.message_detail
    plain.sql(f"grant select, references on public.influencers to {OWNER}")
    create(plain)
    assert "live_stream_sessions_influencer_id_fkey" in foreign_keys_to(plain, "public.influencers")


def test_influencers_whose_rows_are_hidden_from_the_installing_role_are_refused(plain: Database) -> None:
    plain.sql(
        "create table public.influencers (id uuid primary key default gen_random_uuid(), user_id uuid unique,"
        " display_name text, followers_count integer)"
    )
    plain.sql(f"grant select, references on public.influencers to {OWNER}")
    plain.sql("alter table public.influencers enable row level security")
    assert "see every row" in refused(plain).message_detail
    plain.sql(f"alter table public.influencers owner to {OWNER}")
    plain.owner("alter table public.influencers force row level security")
    assert "see every row" in refused(plain).message_detail
    plain.owner("alter table public.influencers no force row level security")
    create(plain)
    a_stream_works(plain)


@pytest.mark.parametrize("table", ["table public.products (id bigint primary key)", "unlogged table public.products (id uuid primary key)"])
def test_products_that_cannot_be_referred_to_are_left_alone(plain: Database, table: str) -> None:
    plain.owner(f"create {table}")
    assert create(plain) == ["WARNING: live_stream makes no foreign keys to public.products"]
    assert foreign_keys_to(plain, "public.products") == set()
    a_stream_works(plain)


@pytest.mark.parametrize("lacking", ["references on auth.users", "usage on schema auth"])
def test_users_that_cannot_be_referred_to_are_left_alone_until_they_can(plain: Database, lacking: str) -> None:
    plain.sql("create schema auth")
    plain.sql("create table auth.users (id uuid primary key)")
    plain.sql(f"grant usage on schema auth to {OWNER}")
    plain.sql(f"grant references on auth.users to {OWNER}")
    plain.sql(f"revoke {lacking} from {OWNER}")
    assert set(create(plain)) == {"WARNING: live_stream makes no foreign keys to auth.users"}
    assert foreign_keys_to(plain, "auth.users") == set()
    plain.sql(f"grant {lacking} to {OWNER}")
    assert install(plain) == []
    assert len(foreign_keys_to(plain, "auth.users")) >= 4


def test_a_publication_of_another_role_is_left_alone(plain: Database) -> None:
    plain.sql("create publication supabase_realtime")
    said = create(plain)
    assert len(said) == len(REALTIME) and all("supabase_realtime" in line for line in said)
    install(plain, "postgres")
    assert plain.value("select count(*) from pg_publication_tables where pubname = 'supabase_realtime'") == 0


def test_a_publication_of_all_tables_has_them_already(plain: Database) -> None:
    plain.sql("create publication supabase_realtime for all tables")
    assert create(plain) == []


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
