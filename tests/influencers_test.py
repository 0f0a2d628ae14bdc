"""The influencers: the app's own table, of which three columns may come out and no other; or ours, where it has none."""

from __future__ import annotations

import itertools
import json
import uuid
from contextlib import contextmanager

import psycopg
import pytest

from database import OWNER
from people import people
from postgrest import RequestError
from refusals import refused
from sizes import both_shapes, own_db

pytestmark = both_shapes

OURS = {"id", "display_name", "followers_count", "avatar_url"}
_numbers = itertools.count(1)


@contextmanager
def adopted(server, table, owner=OWNER):
    """A plain database that has this table when the extension comes."""
    name = f"adopted_{next(_numbers)}"
    server.make_empty(name)
    try:
        server.run(name, table, user=owner)
        with server.open(name) as db:
            yield db
    finally:
        server.run("postgres", f"drop database if exists {name} with (force)")


def install(db):
    db.owner("create extension live_stream")


def cards(db, columns="*"):
    return db.sql(f"select {columns} from live_stream.influencer_cards")


# The app's own table.


def everything(world, session):
    """Requests of everybody to every view, table and function of ours, also ones that are refused."""
    names = world.db.sql(
        "select relname as name from pg_class where relnamespace = 'public'::regnamespace"
        " and relkind in ('r', 'v') and relname not in ('influencers', 'products')"
    )
    functions = world.db.sql(
        "select proname as name, proargnames[1 : pronargs] as args from pg_proc"
        " where pronamespace = 'public'::regnamespace and proname like 'live_stream%%'"
    )
    influencer_id, nobody = world.influencer.influencer_id, str(uuid.uuid4())
    values = {
        "session_id": session["id"],
        "influencer_id": influencer_id,
        "code": session["session_code"],
        "title": "x",
        "message": "x",
        "product_id": nobody,
        "reaction": "x",
        "amount": 1,
    }
    clients = (world.anon, world.viewer.api, world.new_influencer("Grace").api, world.influencer.api)
    for who in (*clients, world.service):
        for row in names:
            yield who.select, (row["name"],)
            yield who.insert, (row["name"], {})
        yield who.insert, ("live_stream_sessions", {"influencer_id": nobody, "title": "x"})
        yield who.insert, ("live_stream_sessions", {"influencer_id": influencer_id, "title": None})
        for row in functions:
            args = {name: values.get(name) for name in row["args"] or []}
            yield who.rpc, (row["name"], args)
            yield who.rpc, (row["name"], args | {name: nobody for name in args if name.endswith("_id")})
    for who in clients:
        for select in ("*, influencer:influencers(*)", "*, influencer:influencers(email, payout_token)"):
            yield who.select, ("live_stream_sessions", select)


@own_db("counts or changes all that is there")
def test_private_columns_never_come_out(supabase_db):
    world = people(supabase_db)
    session = world.session()
    (row,) = supabase_db.sql("select email, phone, payout_token from public.influencers")
    secrets, answered = list(row.values()), 0
    for request, args in everything(world, session):
        try:
            text = json.dumps(request(*args))
            answered += 1
        except RequestError as error:
            text = str(error)
        assert not [secret for secret in secrets if secret in text], (args, text)
    assert answered > 50, "requests that only fail show nothing"


def test_private_columns_come_out_for_the_server_alone(supabase_db):
    world = people(supabase_db)
    session = world.session()
    where = {"id": session["id"]}
    for who in (world.anon, world.viewer.api, world.influencer.api):
        for select in ("*, influencer:influencers(*)", "*, influencer:influencers(email)"):
            with refused("42501"):
                who.select("live_stream_sessions", select, where=where)
    row = world.service.select("live_stream_sessions", "*, influencer:influencers(*)", where=where, one=True)
    assert row["influencer"]["payout_token"] == "private-token", "as the app grants it"


@own_db("counts or changes all that is there")
def test_the_cards_hold_the_public_columns_alone(db, world):
    columns = db.sql(
        "select attname as name from pg_attribute where attrelid = 'live_stream.influencer_cards'::regclass and attnum > 0"
    )
    assert {row["name"] for row in columns} == OURS
    for role in ("anon", "authenticated"):
        with db.connect() as connection:
            connection.execute(f"set role {role}")
            (card,) = connection.execute("select * from live_stream.influencer_cards").fetchall()
            assert card["display_name"] == "Ada"
            for statement in (
                "update live_stream.influencer_cards set display_name = 'x'",
                "delete from live_stream.influencer_cards",
                "insert into live_stream.influencer_cards (id) values (gen_random_uuid())",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)


@pytest.mark.parametrize(
    "columns, expected",
    [
        ("avatar_url text", {"avatar_url": "pic"}),
        ("profile_image varchar(500)", {"avatar_url": "pic"}),
        ("profile_image_url text", {"avatar_url": "pic"}),
        ("profile_picture text", {"avatar_url": "pic"}),
        ("photo_url text", {"avatar_url": "pic"}),
        ("photo text, avatar_url varchar(10)", {"avatar_url": "pic"}),
        ("picture bytea", {"avatar_url": None}),
        ("picture bytea, photo text", {"avatar_url": "pic"}),
        ("thumbnail text", {"avatar_url": None}),
        ("followers_count bigint, display_name varchar(80)", {"followers_count": 42, "display_name": "Ada"}),
        ("followers_count numeric", {"followers_count": 42}),
        ("followers_count text", {"followers_count": 0}),
        ("followers_count money", {"followers_count": 0}),
        ('"Display_Name" text', {"display_name": None, "followers_count": 0, "avatar_url": None}),
    ],
)
def test_what_the_table_has_is_used(server, columns, expected):
    table = f"create table public.influencers (id uuid primary key, user_id uuid, email text, {columns})"
    with adopted(server, table) as db:
        install(db)
        values = {"display_name": "'Ada'", "followers_count": "'42'"}
        names = [column.split()[0] for column in columns.split(", ")]
        literals = [values.get(name.lower().strip('"'), "'pic'") for name in names]
        db.owner(
            f"insert into public.influencers (id, user_id, email, {', '.join(names)})"
            f" values (gen_random_uuid(), gen_random_uuid(), 'private@example.org', {', '.join(literals)})"
        )
        (card,) = cards(db)
        assert expected.items() <= card.items() and set(card) == OURS
        assert len(db.sql("select * from public.live_sessions_with_details")) == 0


def test_the_table_itself_stays_as_it_is(server):
    table = "create table public.influencers (id uuid primary key, user_id uuid, display_name text, api_token text)"
    what = (
        "select relacl::text, relrowsecurity, (select count(*) from pg_trigger t where t.tgrelid = c.oid and not tgisinternal),"
        " (select count(*) from pg_policy p where p.polrelid = c.oid), obj_description(c.oid)"
        " from pg_class c where c.oid = 'public.influencers'::regclass"
    )
    with adopted(server, table) as db:
        before = db.sql(what)
        install(db)
        assert db.sql(what) == before


def test_installing_again_follows_the_table(server):
    with adopted(server, "create table public.influencers (id uuid primary key, user_id uuid)") as db:
        install(db)
        db.owner("alter table public.influencers add photo text, add display_name text, add payout_token text")
        db.owner("insert into public.influencers values (gen_random_uuid(), gen_random_uuid(), 'pic', 'Ada', 'private')")
        assert cards(db, "display_name, avatar_url") == [{"display_name": None, "avatar_url": None}]
        db.owner("select live_stream.install()")
        assert cards(db, "display_name, avatar_url") == [{"display_name": "Ada", "avatar_url": "pic"}]


def test_a_column_of_the_apps_that_changes_does_not_come_out_by_its_old_name(server):
    table = "create table public.influencers (id uuid primary key, user_id uuid, photo text)"
    with adopted(server, table) as db:
        install(db)
        db.owner("alter table public.influencers rename photo to passport_scan")
        db.owner("select live_stream.install()")
        db.owner("insert into public.influencers values (gen_random_uuid(), gen_random_uuid(), 'private')")
        assert cards(db, "avatar_url") == [{"avatar_url": None}]


@pytest.mark.parametrize(
    "table",
    [
        "create table public.influencers (id uuid primary key, name text)",
        "create table public.influencers (id bigint primary key, user_id uuid)",
        "create table public.influencers (id uuid, user_id uuid)",
        "create unlogged table public.influencers (id uuid primary key, user_id uuid)",
        "create table public.influencers (id uuid primary key, user_id text)",
        "create table public.influencers (id uuid, user_id uuid, primary key (id, user_id))",
        "create table public.influencers (id uuid, user_id uuid); create unique index on public.influencers (id)"
        " where user_id is not null",
        "create view public.influencers as select gen_random_uuid() as id, gen_random_uuid() as user_id",
    ],
)
def test_a_table_of_another_shape_is_refused(server, table):
    with adopted(server, table) as db:
        with pytest.raises(psycopg.Error, match="public.influencers cannot be used") as caught:
            install(db)
        assert caught.value.sqlstate == "42P07" and caught.value.diag.message_hint
        assert db.value("select count(*) from pg_class where relname like 'live_stream%%'") == 0
        assert db.value("select count(*) from pg_extension where extname = 'live_stream'") == 0


def test_a_table_that_the_installing_role_may_not_use_is_refused(server):
    table = (
        "create table public.influencers (id uuid primary key, user_id uuid);"
        f" grant create on schema public to {OWNER}"
    )
    with adopted(server, table, owner="postgres") as db:
        with pytest.raises(psycopg.Error, match="public.influencers cannot be used"):
            install(db)
        db.sql(f"grant select, references on public.influencers to {OWNER}")
        install(db)


def test_a_user_with_two_influencers_runs_both(server):
    """The app's table need not have a unique user_id."""
    with adopted(server, "create table public.influencers (id uuid primary key, user_id uuid)") as db:
        install(db)
        user_id, ids = str(uuid.uuid4()), [str(uuid.uuid4()), str(uuid.uuid4())]
        for influencer_id in ids:
            db.owner("insert into public.influencers values (%s, %s)", [influencer_id, user_id])
            body = {"influencer_id": influencer_id, "title": "x", "status": "live"}
            assert db.as_user(user_id).insert("live_stream_sessions", body)["status"] == "live"


# Ours.


@pytest.fixture
def plain(plain_db):
    return people(plain_db)


def test_a_user_becomes_an_influencer(plain):
    body = {"user_id": plain.viewer.user_id, "display_name": "Linus", "bio": "I sell lamps"}
    row = plain.viewer.api.insert("influencers", body)
    assert row["followers_count"] == 0
    with refused("23505"):
        plain.viewer.api.insert("influencers", body)
    with refused("42501"):
        plain.stranger.api.insert("influencers", body | {"user_id": str(uuid.uuid4())})
    with refused("42501"):
        plain.anon.insert("influencers", body)
    with refused("42501"):
        plain.stranger.api.insert("influencers", {"user_id": plain.stranger.user_id, "followers_count": 1_000_000})


def test_an_influencer_edits_itself_and_no_more(plain):
    where = {"id": plain.influencer.influencer_id}
    row = plain.influencer.api.update("influencers", {"display_name": "Ada L."}, where=where, one=True)
    assert row["display_name"] == "Ada L." and row["updated_at"] > row["created_at"]
    assert plain.viewer.api.update("influencers", {"display_name": "x"}, where=where) == []
    for patch in ({"followers_count": 10**6}, {"user_id": plain.viewer.user_id}, {"id": str(uuid.uuid4())}):
        with refused("42501"):
            plain.influencer.api.update("influencers", patch, where=where)
    for who in (plain.influencer.api, plain.viewer.api, plain.anon):
        with refused("42501"):
            who.delete("influencers", where=where)
    assert plain.service.update("influencers", {"followers_count": 8}, where=where, one=True)["followers_count"] == 8
    with refused("23514"):
        plain.service.update("influencers", {"followers_count": -1}, where=where)


@own_db("counts or changes all that is there")
def test_everybody_reads_them(plain):
    for who in (plain.anon, plain.viewer.api):
        assert [row["display_name"] for row in who.select("influencers")] == ["Ada"]


@own_db("counts or changes all that is there")
def test_an_influencer_goes_with_its_sessions(world):
    world.session()
    world.db.owner("delete from public.influencers")
    assert world.db.value("select count(*) from public.live_stream_sessions") == 0
