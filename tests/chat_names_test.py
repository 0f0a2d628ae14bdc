"""The name that somebody writes under: in one line, to be read, and not the host's in another's mouth."""

from __future__ import annotations

import psycopg
import pytest

from chatting import send, stored
from database import OWNER
from installing import empty
from people import people
from refusals import refused
from sizes import both_shapes, own_db
from steps import Steps

BLANK = ["", " ", "\u200b", "\u3164", "\u2800", "\u00ad", "\ufeff\u2060", "\u200e", "\ufe0f"]
BREAKS = list("\n\r\v\f\u0085\u2028\u2029")
OTHERS = list("\t\u0001\u001b\u007f\u009f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# What a viewer would take for "Lina Paul".
LIKE_THE_HOSTS = [
    "Lina Paul", "lina paul", "LINA PAUL", " Lina  Paul ", "Lina\u00a0Paul", "Lina\u200b Paul", "\u200fLina Paul", "LinaPaul", "L\u00adina Paul",
    "Ｌｉｎａ Ｐａｕｌ", "𝐋𝐢𝐧𝐚 𝐏𝐚𝐮𝐥", "Lin\u0430 Paul", "\u216cina Paul", "Lina \u0420\u0430ul", "Lina Pau1", "Lina Pau\u0406", "L\u0131na Paul", "Lina\u2800Paul",
]  # fmt: skip
OTHER_NAMES = [
    "Lina", "Paul", "Lina Paula", "Lina Paul 2", "Not Lina Paul", "User123", "O’Neill", "Ada ❤\ufe0f", "👩\u200d👧", "שלום\u200f", "می\u200cخواهم", "François", "李娜",
]  # fmt: skip


def named(world, session, who, name):
    """Both ways to write under a name."""
    return [
        lambda: world.say(session, who, username=name),
        lambda: send(who, session, username=name),
    ]


def everybody(world):
    return world.viewer, world.influencer


@pytest.mark.parametrize("name", BLANK, ids=ascii)
def test_a_name_is_not_blank(world, name):
    session = world.session()
    for who in everybody(world):
        for write in named(world, session, who, name):
            with refused("23514", "username is blank", hint=True):
                write()
    with refused("23514", "username is blank", hint=True):
        world.service.insert("live_stream_chat", {"session_id": session["id"], "message": "hello", "username": name})
    assert world.say(session, world.viewer, username=None)["username"] is None


@pytest.mark.parametrize("letter", BREAKS + OTHERS, ids=ascii)
def test_a_name_stands_in_one_line_and_turns_no_direction(world, letter):
    session = world.session()
    for name in (f"Be{letter}n", f"Ben{letter}", f"{letter}Ben"):
        for who in everybody(world):
            for write in named(world, session, who, name):
                with refused("23514", "username holds a character that no name has", hint=True):
                    write()
    with refused("23514", "username holds"):
        world.service.insert("live_stream_chat", {"session_id": session["id"], "message": "hello", "username": f"Be{letter}n"})
    message = world.say(session, world.viewer)
    with refused("23514", "username holds"):
        world.service.update("live_stream_chat", {"username": f"Be{letter}n"}, where={"id": message["id"]})
    saves = """insert into public.live_stream_chat (id, session_id, message, username) values (%s, %s, 'hello', %s)
               on conflict (id) do update set message = excluded.message"""
    with Steps(world.db) as steps, pytest.raises(psycopg.errors.CheckViolation, match="username holds"):
        steps.client("service_role").run(saves, [message["id"], session["id"], f"Be{letter}n"])
    # A client does not change it at all.
    world.viewer.api.update("live_stream_chat", {"username": f"Be{letter}n"}, where={"id": message["id"]})
    assert stored(world, message)["username"] == "User123"


@pytest.fixture
def host(world):
    return world.new_influencer("Lina Paul")


@pytest.mark.parametrize("name", LIKE_THE_HOSTS, ids=ascii)
def test_nobody_else_writes_under_the_name_of_the_host(world, host, name):
    session = world.session(by=host)
    host.api.rpc("live_stream_add_moderator", user_id=world.stranger.user_id)
    for who in (world.viewer, world.stranger, world.influencer):
        for write in named(world, session, who, name):
            with refused("23514", "username is taken for the name of the host", hint=True):
                write()
    assert world.say(session, host, username=name)["username"] == name
    assert send(host, session, username=name)["username"] == name
    row = {"session_id": session["id"], "message": "hello", "username": name, "user_id": host.user_id}
    assert world.service.insert("live_stream_chat", row)["username"] == name
    # Elsewhere it is a name like others.
    assert world.say(world.session(), world.viewer, username=name)["username"] == name


@pytest.mark.parametrize("name", OTHER_NAMES, ids=ascii)
def test_other_names_are_free(world, host, name):
    session = world.session(by=host)
    for write in named(world, session, world.viewer, name):
        assert write()["username"] == name


def test_an_upsert_of_ones_own_message_keeps_its_name(world, host):
    session = world.session(by=host)
    with refused("23514", "username is taken"):
        world.viewer.api.insert(
            "live_stream_chat",
            [{"session_id": session["id"], "message": "a", "username": "Ben"}, {"session_id": session["id"], "message": "b", "username": "lina paul"}],
        )  # fmt: skip
    assert world.viewer.api.select("live_stream_chat", where={"session_id": session["id"]}) == []


def rename(world, host, name):
    world.db.owner("update influencers set display_name = %s where id = %s", [name, host.influencer_id])


@both_shapes
def test_the_name_is_the_one_that_the_host_has_at_the_moment(world, host):
    session = world.session(by=host)
    world.say(session, world.viewer, username="Nora")
    rename(world, host, "Nora")
    with refused("23514", "username is taken"):
        world.say(session, world.viewer, username="nora")
    world.say(session, world.viewer, username="Lina Paul")
    rename(world, host, "\u3164")
    world.say(session, world.viewer, username="Nora")
    rename(world, host, "Lina Paul")
    world.db.sql("vacuum influencers")
    with refused("23514", "username is taken"):
        world.say(session, world.viewer, username="Lina Paul")
    # Two hosts in turn, on one connection.
    other = world.session(by=world.new_influencer("Otto"))
    for _ in range(2):
        with refused("23514", "username is taken"):
            world.say(other, world.viewer, username="OTTO")
        with refused("23514", "username is taken"):
            world.say(session, world.viewer, username="lina  paul")


def test_a_renaming_that_is_rolled_back_was_none(world, host):
    session = world.session(by=host)
    insert = "insert into live_stream_chat (session_id, user_id, message, username) values (%s, %s, 'hello', %s)"
    with world.db.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute("update influencers set display_name = 'Nora' where id = %s", [host.influencer_id])
        claims = f'{{"sub": "{world.viewer.user_id}", "role": "authenticated"}}'
        connection.execute("select set_config('request.jwt.claims', %s, true), set_config('role', 'authenticated', true)", [claims])
        connection.execute(insert, [session["id"], world.viewer.user_id, "Lina Paul"])
    with refused("23514", "username is taken"):
        world.say(session, world.viewer, username="Lina Paul")
    world.say(session, world.viewer, username="Nora")


@own_db("takes the names of the app's influencers away")
def test_an_app_that_shows_no_names_has_none_to_take(world, host):
    """In a table of its own: ours has the names."""
    if not world.db.is_supabase:
        pytest.skip("the table is ours there")
    session = world.session(by=host)
    with refused("23514", "username is taken"):
        world.say(session, world.viewer, username="Lina Paul")
    world.db.owner("drop view live_stream.influencer_cards cascade")
    world.db.owner("alter table influencers rename column display_name to called")
    world.db.owner("select live_stream.install()")
    world.db.reload_schema()
    assert world.say(session, world.viewer, username="Lina Paul")["username"] == "Lina Paul"


@pytest.mark.parametrize(
    "table",
    [
        "create table influencers (id uuid primary key default gen_random_uuid(), user_id uuid, display_name varchar(80), followers_count integer)"
        " partition by hash (id);"
        " create table influencers_0 partition of influencers for values with (modulus 2, remainder 0);"
        " create table influencers_1 partition of influencers for values with (modulus 2, remainder 1)",
        "create domain shown as varchar(80) check (value <> '');"
        " create table influencers (user_id uuid, display_name shown, followers_count integer, id uuid primary key default gen_random_uuid())",
    ],
    ids=["partitions", "a domain"],
)
def test_an_apps_own_influencers_have_their_names(server, table):
    with empty(server) as db:
        with db.connect(OWNER) as connection:
            connection.execute(table)
            connection.execute("create extension live_stream")
        world = people(db)
        session, other = world.session(), world.session(by=world.new_influencer("Otto"))
        for _ in range(2):
            for of, name in ((session, "ada"), (other, "otto")):
                with refused("23514", "username is taken"):
                    world.say(of, world.viewer, username=name)
        rename(world, world.influencer, "Nora")
        world.say(session, world.viewer, username="Ada")
        with refused("23514", "username is taken"):
            world.say(session, world.viewer, username="nora")


@pytest.mark.parametrize("letter", ["\n", "\u2028", "\u202e", "\u2067"], ids=ascii)
def test_a_host_has_a_name_in_one_line_too(plain_db, letter):
    """In the table that the extension makes; an app's own is the app's."""
    world = people(plain_db)
    with refused("23514", "display_name holds a character", hint=True):
        world.influencer.api.update("influencers", {"display_name": f"Ada{letter}"}, where={"id": world.influencer.influencer_id})
    with refused("23514", "display_name holds a character", hint=True):
        world.viewer.api.insert("influencers", {"user_id": world.viewer.user_id, "display_name": f"{letter}Ben"}, select=None)
    world.viewer.api.insert("influencers", {"user_id": world.viewer.user_id, "display_name": "Ben"}, select=None)
