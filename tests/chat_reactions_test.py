"""Replies and reactions, and how all of the chat is counted."""

from __future__ import annotations

import threading
import uuid

import pytest

from chatting import counts, react, removed, send, stored, unreact
from recount import rest
from refusals import refused
from sizes import own_db


# Replies.


def test_replies_are_counted(world):
    session = world.session()
    parent = world.say(session, world.viewer, "question")
    first = send(world.stranger, session, "answer", parent_message_id=parent["id"])
    world.say(session, world.influencer, "answer", parent_message_id=parent["id"])
    assert stored(world, parent)["replies_count"] == 2
    world.influencer.api.rpc("live_stream_delete_message", message_id=first["id"])
    assert stored(world, parent)["replies_count"] == 1
    world.influencer.api.update("live_stream_chat", {"is_deleted": False}, where={"id": first["id"]}, one=True)
    assert stored(world, parent)["replies_count"] == 2
    world.service.delete("live_stream_chat", where={"id": first["id"]})
    assert stored(world, parent)["replies_count"] == 1
    assert counts(world, session) == (2, 0)


def test_a_reply_belongs_to_the_session_of_its_parent(world):
    session, other = world.session(), world.session(by=world.new_influencer())
    parent = world.say(other, world.viewer)
    for parent_id in (parent["id"], str(uuid.uuid4())):
        with refused("PT404", "does not exist", hint=True):
            send(world.viewer, session, parent_message_id=parent_id)
    assert stored(world, parent)["replies_count"] == 0


# Reactions.


def test_each_person_gives_each_reaction_once(world):
    session = world.session()
    message = world.say(session, world.viewer)
    assert react(world.viewer, message)["reactions"] == {"🔥": 1}
    assert react(world.viewer, message)["reactions"] == {"🔥": 1}
    assert react(world.viewer, message, "heart")["reactions"] == {"🔥": 1, "heart": 1}
    assert react(world.stranger, message)["reactions"] == {"🔥": 2, "heart": 1}
    assert counts(world, session) == (1, 3)
    assert unreact(world.viewer, message)["reactions"] == {"🔥": 1, "heart": 1}
    assert unreact(world.viewer, message)["reactions"] == {"🔥": 1, "heart": 1}
    assert unreact(world.stranger, message)["reactions"] == {"heart": 1}
    assert counts(world, session) == (1, 1)


def test_the_same_reaction_from_many_connections_counts_once(world):
    session = world.session()
    message = world.say(session, world.viewer)
    others = [world.new_user() for _ in range(4)]
    errors = []

    def attempt(who):
        try:
            react(who, message)
        except Exception as error:  # seen below
            errors.append(error)

    threads = [threading.Thread(target=attempt, args=[who]) for who in others * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert stored(world, message)["reactions"] == {"🔥": 4}
    rest(world.db)
    assert counts(world, session) == (1, 4)


@pytest.mark.parametrize("reaction", ["", " ", None, "x" * 33])
def test_a_reaction_has_one_to_32_characters(world, reaction):
    message = world.say(world.session(), world.viewer)
    with refused("23514", "the reaction is", hint=True):
        react(world.viewer, message, reaction)
    assert stored(world, message)["reactions"] == {}


def test_a_message_has_50_different_reactions_at_most(world):
    world.db.without_limits()
    message = world.say(world.session(), world.viewer)
    for n, person in enumerate([world.new_user() for _ in range(5)] * 10):
        react(person, message, f"r{n}")
    with refused("23514", "too many different", hint=True):
        react(world.viewer, message, "one more")
    assert react(world.stranger, message, "r7")["reactions"]["r7"] == 2


def test_nobody_fills_a_message_alone(world):
    world.db.without_limits()
    message = world.say(world.session(), world.viewer)
    for n in range(10):
        react(world.stranger, message, f"r{n}")
    with refused("23514", "a person gives a message 10 reactions at most", hint=True):
        react(world.stranger, message, "one more")
    assert len(react(world.stranger, message, "r9")["reactions"]) == 10
    unreact(world.stranger, message, "r0")
    assert "🔥" in react(world.stranger, message, "🔥")["reactions"]
    assert react(world.viewer, message, "❤")["reactions"]["❤️"] == 1


def test_letters_are_composed(world):
    message = world.say(world.session(), world.viewer)
    react(world.viewer, message, "ole\u0301")
    assert react(world.stranger, message, "ol\u00e9")["reactions"] == {"ol\u00e9": 2}


def test_reactions_are_made_by_the_functions_alone(world):
    session = world.session()
    message = world.say(session, world.viewer)
    react(world.viewer, message)
    body = {"message_id": message["id"], "user_id": world.stranger.user_id, "reaction": "🔥"}
    for who in (world.stranger.api, world.influencer.api, world.anon):
        with refused("42501"):
            who.insert("live_stream_chat_reactions", body)
        with refused("42501"):
            who.delete("live_stream_chat_reactions", where={"message_id": message["id"]})
    mine = {"message_id": message["id"]}
    assert len(world.viewer.api.select("live_stream_chat_reactions", where=mine)) == 1
    assert world.stranger.api.select("live_stream_chat_reactions", where=mine) == []
    with refused("42501"):
        world.anon.rpc("live_stream_react", message_id=message["id"], reaction="🔥")


def test_reaction_names_are_data(world):
    world.db.without_limits()
    message = world.say(world.session(), world.viewer)
    for name in ("__proto__", '"}', "a'b", "$1", "null", "\\"):
        assert react(world.viewer, message, name)["reactions"][name] == 1
        assert name not in unreact(world.viewer, message, name)["reactions"]


# Counts.


def test_session_viewer_and_message_agree(world):
    session = world.session()
    viewer, other = world.join(session, world.viewer), world.join(session, world.stranger)
    first = world.say(session, world.viewer)
    world.say(session, world.viewer, "🔥", message_type="reaction")
    world.say(session, world.stranger, "reply", parent_message_id=first["id"])
    react(world.stranger, first)
    react(world.viewer, first, "heart")

    def sent(row):
        columns = "messages_sent, reactions_sent"
        (found,) = world.influencer.api.select("live_stream_viewers", columns, where={"id": row["id"]})
        return tuple(found.values())

    assert counts(world, session) == (2, 3)
    assert sent(viewer) == (1, 2) and sent(other) == (1, 1)
    unreact(world.stranger, first)
    assert counts(world, session) == (2, 2) and sent(other) == (1, 0)
    # Deleted by the server, a message takes its reactions and its reply's link with it.
    world.service.delete("live_stream_chat", where={"id": first["id"]})
    assert counts(world, session) == (1, 1)
    assert sent(viewer) == (0, 1) and sent(other) == (1, 0)


def test_many_rows_in_one_statement_count_as_one_by_one(world):
    world.db.without_limits()
    session = world.session()
    viewer = world.join(session, world.viewer)
    parent = world.say(session, world.viewer, "question", viewer)
    batch = [
        {
            "session_id": session["id"],
            "message": f"m{n}",
            "message_type": "reaction" if n % 3 == 0 else "chat",
            "parent_message_id": parent["id"] if n % 2 else None,
        }
        for n in range(60)
    ]
    world.viewer.api.insert("live_stream_chat", batch)
    assert counts(world, session) == (41, 20)
    assert stored(world, parent)["replies_count"] == 30
    (row,) = world.viewer.api.select("live_stream_viewers", where={"id": viewer["id"]})
    assert (row["messages_sent"], row["reactions_sent"]) == (41, 20)
    world.service.delete("live_stream_chat", where={"session_id": session["id"], "id neq": parent["id"]})
    assert counts(world, session) == (1, 0) and stored(world, parent)["replies_count"] == 0


def test_edits_and_reactions_at_once_do_not_block_each_other_for_good(world):
    world.db.without_limits()
    session = world.session()
    message = world.say(session, world.viewer)
    errors = []

    def run(work):
        for n in range(25):
            try:
                work(n)
            except Exception as error:  # seen below
                errors.append(error)

    def edit(n):
        world.viewer.api.rpc("live_stream_edit_message", message_id=message["id"], message=f"edit {n}")

    def reply(n):
        send(world.stranger, session, "reply", parent_message_id=message["id"])

    def react_and_back(n):
        react(world.stranger, message)
        unreact(world.stranger, message)

    threads = [threading.Thread(target=run, args=[work]) for work in (edit, reply, react_and_back)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    row = stored(world, message)
    assert (row["replies_count"], row["reactions"], row["message"]) == (25, {}, "edit 24")


@own_db("counts or changes all that is there")
def test_a_viewer_row_goes_though_its_reaction_is_to_a_deleted_message(db, world):
    session = world.session()
    viewer = world.join(session, world.viewer)
    message = world.say(session, world.influencer, "hello")
    world.viewer.api.rpc("live_stream_react", message_id=message["id"], reaction="🔥")
    world.influencer.api.rpc("live_stream_delete_message", message_id=message["id"])

    db.owner("delete from public.live_stream_viewers where id = %s", [viewer["id"]])

    (reaction,) = db.owner("select viewer_id, session_id from public.live_stream_chat_reactions")
    assert reaction["viewer_id"] is None and str(reaction["session_id"]) == session["id"]
    assert world.read(session)["total_reactions"] == 1


def test_the_host_does_not_put_back_what_its_author_took_away(world):
    session = world.session()
    world.join(session, world.viewer)
    own, foreign = (world.say(session, world.viewer, text) for text in ("mine", "spam"))
    world.viewer.api.rpc("live_stream_delete_message", message_id=own["id"], reason="a slip")
    world.influencer.api.rpc("live_stream_delete_message", message_id=foreign["id"], reason="spam")
    world.influencer.api.rpc("live_stream_delete_message", message_id=own["id"], reason="spam")
    for message, stays in ((own, True), (foreign, False)):
        where = {"id": message["id"]}
        row = world.influencer.api.update("live_stream_chat", {"is_deleted": False}, where=where, one=True)
        assert row["is_deleted"] is stays
        assert removed(world, message) == (("mine", "a slip", world.viewer.user_id) if stays else None)


def test_the_server_moderates(world):
    session = world.session(visibility="private")
    message = world.say(session, world.influencer, "hello")
    assert world.service.rpc("live_stream_flag_message", message_id=message["id"])["is_flagged"] is True
    deleted = world.service.rpc("live_stream_delete_message", message_id=message["id"], reason="law")
    assert (deleted["is_deleted"], deleted["deletion_reason"]) == (True, "law")
