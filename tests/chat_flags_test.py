"""A flag is told to the host and its moderators: neither to the author nor to anybody else in the chat."""

from __future__ import annotations

import json

import pytest

from chatting import is_flagged, removed, stored
from holding import export, purge
from moderating import ban, log
from people import people
from recount import differences
from refusals import refused
from sizes import own_db
from steps import Steps, all_end_well


@pytest.fixture
def moderator(world):
    person = world.new_user()
    world.influencer.api.rpc("live_stream_add_moderator", user_id=person.user_id)
    return person


def flag(who, message):
    return who.rpc("live_stream_flag_message", message_id=message["id"])


WAYS = {
    "the function": lambda world, moderator, message: flag(world.stranger.api, message),
    "the server's function": lambda world, moderator, message: flag(world.service, message),
    "the author": lambda world, moderator, message: flag(world.viewer.api, message),
    "the host, directly": lambda world, moderator, message: world.influencer.api.update(
        "live_stream_chat", {"is_flagged": True}, where={"id": message["id"]}, one=True),
    "a moderator, directly": lambda world, moderator, message: moderator.api.update(
        "live_stream_chat", {"is_flagged": True}, where={"id": message["id"]}, one=True),
    "the server, directly": lambda world, moderator, message: world.service.update(
        "live_stream_chat", {"is_flagged": True}, where={"id": message["id"]}, one=True),
    "the owner": lambda world, moderator, message: world.db.owner(
        "update public.live_stream_chat set is_flagged = true where id = %s", [message["id"]]),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_who_hears_of_a_flag(world, moderator, way):
    session = world.session()
    banned, rival = world.new_user(), world.new_influencer()
    for person in (world.viewer, world.stranger, banned):
        world.join(session, person)
    message, quiet = world.say(session, world.viewer), world.say(session, world.viewer)
    ban(world.influencer, banned)
    before = stored(world, message)
    WAYS[way](world, moderator, message)
    assert is_flagged(world, message) and not is_flagged(world, quiet)
    assert stored(world, message) == before
    where = {"session_id": session["id"]}
    for reader in (world.viewer.api, world.stranger.api, banned.api, rival.api, world.anon, world.influencer.api, moderator.api, world.service):
        assert {row["is_flagged"] for row in reader.select("live_stream_chat", where=where)} == {False}
        assert reader.select("live_stream_chat", where={"is_flagged": True}) == []
    for reader in (world.viewer.api, world.stranger.api, banned.api, rival.api):
        assert reader.select("live_stream_flagged_messages") == []
        rows = reader.select("live_stream_chat", "*, flags:live_stream_flagged_messages(*)", where=where)
        assert not any(row["flags"] for row in rows)
    with refused("42501"):
        world.anon.select("live_stream_flagged_messages")
    for reader in (world.influencer.api, moderator.api, world.service):
        (found,) = reader.select("live_stream_flagged_messages", "*, sent:live_stream_chat(*)", where=where)
        assert found["sent"]["id"] == message["id"] and found["created_at"]


def test_what_the_one_who_flags_is_answered(world):
    session = world.session()
    message = world.say(session, world.viewer)
    first = flag(world.stranger.api, message)
    assert first == flag(world.stranger.api, message) == message | {"is_flagged": True}
    # Who has not flagged it does not learn that others have.
    for answer in (
        world.viewer.api.rpc("live_stream_edit_message", message_id=message["id"], message="hm"),
        world.stranger.api.rpc("live_stream_react", message_id=message["id"], reaction="🔥"),
        world.viewer.api.update("live_stream_chat", {"message": "hm!"}, where={"id": message["id"]}, one=True),
        world.viewer.api.update("live_stream_chat", {"is_flagged": True}, where={"id": message["id"]}, one=True),
        world.viewer.api.rpc("live_stream_delete_message", message_id=message["id"]),
    ):
        assert answer["is_flagged"] is False
    assert is_flagged(world, message)


@pytest.mark.parametrize("who", ["the author", "a viewer", "a guest", "another host"])
def test_who_may_not_flag_or_clear_directly(world, who):
    session = world.session()
    message = world.say(session, world.viewer)
    person = {"the author": world.viewer, "a viewer": world.stranger, "a guest": world.new_user(), "another host": world.new_influencer()}[who]
    where = {"id": message["id"]}
    person.api.update("live_stream_chat", {"is_flagged": True}, where=where)
    assert not is_flagged(world, message)
    flag(world.service, message)
    person.api.update("live_stream_chat", {"is_flagged": False}, where=where)
    with refused("42501", "does not moderate", hint=True):
        person.api.rpc("live_stream_clear_flag", message_id=message["id"])
    assert is_flagged(world, message)
    with refused("42501"):
        world.anon.rpc("live_stream_clear_flag", message_id=message["id"])


@pytest.mark.parametrize("way", ["update", "rpc", "several"])
@pytest.mark.parametrize("who", ["influencer", "moderator", "service"])
def test_a_flag_is_cleared(world, moderator, who, way):
    session = world.session()
    message, other = world.say(session, world.viewer), world.say(session, world.viewer)
    api = {"influencer": world.influencer.api, "moderator": moderator.api, "service": world.service}[who]
    actor = {"influencer": world.influencer.user_id, "moderator": moderator.user_id, "service": None}[who]
    flag(world.stranger.api, message)
    for _ in range(2):
        if way == "rpc":
            row = api.rpc("live_stream_clear_flag", message_id=message["id"])
        elif way == "update":
            row = api.update("live_stream_chat", {"is_flagged": False}, where={"id": message["id"]}, one=True)
        else:
            rows = api.update("live_stream_chat", {"is_flagged": False}, where={"session_id": session["id"]})
            (row,) = [row for row in rows if row["id"] == message["id"]]
        assert row["id"] == message["id"] and row["is_flagged"] is False
        assert not is_flagged(world, message)
    # Of those that were flagged, once each.
    acts = [act for act in log(world, "action", "actor_id", "user_id", "message_id") if act[0] == "unflag_message"]
    assert acts == [("unflag_message", actor, world.viewer.user_id, message["id"])]
    flag(world.stranger.api, message)
    flag(world.stranger.api, other)
    assert is_flagged(world, message) and is_flagged(world, other)


def test_other_writes_leave_a_flag(world, moderator):
    session = world.session()
    message = world.say(session, world.viewer)
    flag(world.stranger.api, message)
    world.viewer.api.update("live_stream_chat", {"message": "better"}, where={"id": message["id"]})
    send = {"parent_message_id": message["id"]}
    world.say(session, world.stranger, "an answer", **send)
    world.stranger.api.rpc("live_stream_react", message_id=message["id"], reaction="🔥")
    moderator.api.rpc("live_stream_delete_message", message_id=message["id"])
    world.influencer.api.update("live_stream_chat", {"is_deleted": False}, where={"id": message["id"]})
    assert is_flagged(world, message)
    # Both at once.
    patch = {"is_deleted": True, "is_flagged": False}
    world.influencer.api.update("live_stream_chat", patch, where={"id": message["id"]}, one=True)
    assert not is_flagged(world, message) and removed(world, message)[0] == "better"
    assert {act for act, in log(world, "action")} >= {"delete_message", "unflag_message"}
    assert differences(world.db) == []


MODERATED = {"is_flagged", "is_deleted", "deletion_reason", "deleted_by"}


def saves(api, way, row, columns=None):
    """As clients do that read a row and send it back."""
    body = {name: row[name] for name in columns or row}
    if way == "upsert":
        return api.upsert("live_stream_chat", body | {"id": row["id"]})
    return api.update("live_stream_chat", body, where={"id": row["id"]}, one=True)


@pytest.mark.parametrize("way", ["update", "upsert"])
@pytest.mark.parametrize("who", ["influencer", "moderator", "service", "author"])
def test_a_row_that_is_saved_as_it_was_read_clears_no_flag(world, moderator, who, way):
    session = world.session()
    message = world.say(session, world.viewer)
    api = {"influencer": world.influencer.api, "moderator": moderator.api, "service": world.service, "author": world.viewer.api}[who]
    (read,) = api.select("live_stream_chat", where={"id": message["id"]})
    flag(world.stranger.api, message)
    for columns in (None, ["is_flagged", "sent_at"], ["is_flagged", "user_id", "is_deleted"], ["is_flagged", "reactions"], ["is_flagged", "session_id"]):
        assert saves(api, way, read, columns)["is_flagged"] is False
        assert is_flagged(world, message), columns
    # Neither does one in which something else was changed.
    for change in ({"is_deleted": True}, {"is_deleted": False}):
        saves(api, way, read | change)
        assert is_flagged(world, message), change
    # Nor is one flagged that was not.
    quiet = world.say(session, world.viewer)
    saves(api, way, world.service.select("live_stream_chat", where={"id": quiet["id"]}, one=True))
    assert not is_flagged(world, quiet)
    assert "unflag_message" not in {act for act, in log(world, "action")}
    # What says nothing else asks for it.
    saves(api, way, read, sorted(MODERATED - {"is_deleted"}))
    assert is_flagged(world, message) is (who == "author")
    assert differences(world.db) == []


def test_a_flag_that_was_told_is_saved_again(world):
    """Who has flagged is answered true, and sends that back: nothing changes."""
    session = world.session()
    message = world.say(session, world.viewer)
    told = flag(world.influencer.api, message)
    for way in ("update", "upsert"):
        assert saves(world.influencer.api, way, told)["is_flagged"] is False and is_flagged(world, message)


def test_a_server_brings_flagged_messages_along(world):
    session, other = world.session(), world.session(by=world.new_influencer())
    body = {"session_id": session["id"], "user_id": world.viewer.user_id, "message": "x", "is_flagged": True}
    row = world.service.insert("live_stream_chat", body)
    assert row["is_flagged"] is False and is_flagged(world, row)
    assert world.viewer.api.insert("live_stream_chat", body)["is_flagged"] is False
    assert len(world.influencer.api.select("live_stream_flagged_messages")) == 1
    world.service.update("live_stream_chat", {"session_id": other["id"]}, where={"id": row["id"]})
    assert world.influencer.api.select("live_stream_flagged_messages") == []
    upsert = ("insert into public.live_stream_chat (id, session_id, message, is_flagged) values (%s, %s, 'y', %s)"
              " on conflict (id) do update set is_flagged = excluded.is_flagged, message = excluded.message")  # fmt: skip
    for flagged in (False, True):
        world.db.owner(upsert, [row["id"], session["id"], flagged])
        assert is_flagged(world, row) is flagged
    assert stored(world, row)["message"] == "y"


@own_db("makes publications")
def test_realtime_tells_nobody_of_a_flag(supabase_db):
    world = people(supabase_db)
    session = world.session()
    message = world.say(session, world.viewer)
    slot = f"slot_{supabase_db.name}"
    supabase_db.sql("select pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])

    def told():
        rows = supabase_db.sql(
            "select data from pg_logical_slot_get_binary_changes"
            "(%s, null, null, 'proto_version', '1', 'publication_names', 'supabase_realtime')", [slot])  # fmt: skip
        return b"".join(row["data"] for row in rows)

    try:
        world.viewer.api.rpc("live_stream_react", message_id=message["id"], reaction="🔥")
        assert message["id"].encode() in told()
        flag(world.stranger.api, message)
        flag(world.service, message)
        world.influencer.api.rpc("live_stream_clear_flag", message_id=message["id"])
        assert message["id"].encode() not in told()
    finally:
        supabase_db.sql("select pg_drop_replication_slot(%s)", [slot])


def test_flags_at_the_same_time(plain_db):
    world = people(plain_db)
    session = world.session()
    message = world.say(session, world.viewer)
    asks = "select * from public.live_stream_flag_message(%s)"
    with Steps(plain_db) as steps:
        # Who flags waits for nobody who writes to the message.
        author, first, second, host = (steps.client(who) for who in (world.viewer, world.stranger, world.new_user(), world.influencer))
        author.run("update public.live_stream_chat set message = 'better' where id = %s", [message["id"]])
        first.run(asks, [message["id"]])
        same = second.start(asks, [message["id"]])
        second.waits()
        first.commit()
        all_end_well(same)
        author.commit()
        host.run("select * from public.live_stream_clear_flag(%s)", [message["id"]])
        again = second.start(asks, [message["id"]])
        second.waits()
        host.commit()
        all_end_well(again)
    assert is_flagged(world, message)
    with Steps(plain_db) as steps:
        flagging, deleting = steps.client(world.stranger), steps.client("service_role")
        flagging.run(asks, [message["id"]])
        gone = deleting.start("delete from public.live_stream_sessions where id = %s", [session["id"]])
        deleting.waits()
        flagging.commit()
        all_end_well(gone)
    assert plain_db.value("select count(*) from public.live_stream_flagged_messages where session_id = %s", [session["id"]]) == 0
    assert differences(plain_db) == []


@own_db("erases and purges whatever is there")
def test_a_flag_goes_with_its_message_and_names_nobody(db, world):
    session = world.session()
    of_viewer, of_stranger = world.say(session, world.viewer), world.say(session, world.stranger)
    for message in (of_viewer, of_stranger):
        flag(world.influencer.api, message)
    for person in (world.viewer, world.influencer):
        assert "flagged" not in json.dumps(export(db, person.user_id)["tables"].get("live_stream_flagged_messages", []))
    db.owner("select live_stream.erase_user(%s)", [world.viewer.user_id])
    assert not is_flagged(world, of_viewer) and is_flagged(world, of_stranger)
    world.end(session)
    purge(db, chat="0")
    assert db.value("select count(*) from public.live_stream_flagged_messages") == 0
