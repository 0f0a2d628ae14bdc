"""CREATE EXTENSION and live_stream.install(): who owns what, what is found, what a hostile database can do."""

from __future__ import annotations

import threading

import psycopg
import pytest

from database import Database, KINDS, OWNER, SHAPE, Server
from dumps import schema_of
from installing import a_stream_works, all_by, create, empty, install, owners, plain, until_it_waits  # noqa: F401
from postgrest import RequestError
from sizes import both_shapes, own_db

pytestmark = [own_db("alters, drops and installs"), both_shapes]

REALTIME = ["live_stream_chat", "live_stream_products", "live_stream_sessions", "live_stream_viewers"]


@pytest.fixture(scope="module")
def mallory(server: Server) -> str:
    """A role that may log in and no more."""
    server.run("postgres", "create role install_mallory login")
    return "install_mallory"


def refused(db: Database, user: str = OWNER) -> psycopg.errors.Diagnostic:
    """What CREATE EXTENSION says as it refuses; it must have left the database as it was."""
    before = schema_of(db)
    with pytest.raises(psycopg.Error) as refusal:
        create(db, user)
    assert schema_of(db) == before
    diagnostic = refusal.value.diag
    assert diagnostic.message_hint
    return diagnostic


def foreign_keys_to(db: Database, table: str) -> set[str]:
    return {
        row["conname"]
        for row in db.sql(
            "select conname from pg_constraint where contype = 'f' and confrelid = to_regclass(%s)"
            " and conname like 'live\\_stream%%'",
            [table],
        )
    }


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
        db.sql(f"create schema live_stream; grant create, usage on schema live_stream to {mallory}")
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
