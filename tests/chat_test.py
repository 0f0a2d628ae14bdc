"""Chat: who may write what and when, what the database decides itself, reactions, replies, moderation, the counts."""

from __future__ import annotations

import json
import uuid

import psycopg
import pytest

from chatting import counts, is_flagged, react, removed, send, stored, unreact
from people import now
from refusals import refused
from sizes import both_shapes, own_db

LONGEST = "ö" * 2000


# Writing.


@pytest.mark.parametrize("write", ["insert", "rpc"])
def test_a_signed_in_person_writes_as_itself(world, write):
    session = world.session()
    viewer = world.join(session, world.viewer)
    if write == "insert":
        message = world.say(session, world.viewer, "hello", viewer)
    else:
        message = send(world.viewer, session, username="User123")
    assert message["user_id"] == world.viewer.user_id and message["viewer_id"] == viewer["id"]
    assert (message["message"], message["message_type"], message["username"]) == ("hello", "chat", "User123")
    assert not any(message[flag] for flag in ("is_influencer", "is_moderator", "is_deleted", "is_flagged"))
    assert message["reactions"] == {} and message["replies_count"] == 0


def test_the_viewer_row_is_found_where_it_is_not_sent(world):
    session = world.session()
    viewer = world.join(session, world.viewer)
    assert send(world.viewer, session)["viewer_id"] == viewer["id"]
    assert world.say(session, world.viewer, viewer=None)["viewer_id"] == viewer["id"]
    assert send(world.stranger, session)["viewer_id"] is None


@both_shapes
def test_what_a_client_claims_of_itself_is_decided_by_the_database(world):
    session = world.session()
    claims = {
        "is_influencer": True,
        "is_moderator": True,
        "is_deleted": True,
        "is_flagged": True,
        "deleted_by": world.influencer.user_id if not world.db.is_supabase else None,
        "deletion_reason": "because",
        "reactions": {"🔥": 1000},
        "replies_count": 1000,
        "sent_at": "2001-01-01T00:00:00Z",
        "edited_at": "2001-01-01T00:00:00Z",
        "deleted_at": "2001-01-01T00:00:00Z",
    }
    message = world.say(session, world.viewer, **claims)
    assert not any(message[flag] for flag in ("is_influencer", "is_moderator", "is_deleted", "is_flagged"))
    assert message["reactions"] == {} and message["replies_count"] == 0 and message["sent_at"] > "2020"
    assert [message[name] for name in ("deleted_by", "deletion_reason", "edited_at", "deleted_at")] == [None] * 4
    assert world.say(session, world.influencer)["is_influencer"] is True
    assert world.say(session, world.new_influencer())["is_influencer"] is False


def test_nobody_writes_as_somebody_else(world):
    session = world.session()
    others = world.join(session, world.stranger)
    with refused("42501", "written by the signed-in user", hint=True):
        world.say(session, world.viewer, user_id=world.influencer.user_id)
    with refused("42501", "is not the caller", hint=True):
        world.say(session, world.viewer, viewer=others)
    with refused("42501", "is not the caller", hint=True):
        world.say(session, world.viewer, viewer_id=world.join(session)["id"])
    elsewhere = world.session(by=world.new_influencer())
    with refused("42501", "is not the caller", hint=True):
        world.say(session, world.viewer, viewer=world.join(elsewhere, world.viewer))
    assert counts(world, session) == (0, 0)


def test_a_batch_with_one_forged_message_writes_nothing(world):
    session = world.session()
    batch = [{"session_id": session["id"], "message": "hi", "user_id": world.viewer.user_id} for _ in range(3)]
    batch[2] = batch[2] | {"user_id": world.stranger.user_id}
    with refused("42501"):
        world.viewer.api.insert("live_stream_chat", batch)
    assert counts(world, session) == (0, 0)


def test_without_an_account_nobody_writes(world):
    session = world.session()
    anonymous = world.anonymous(world.join(session))
    body = {"session_id": session["id"], "message": "hello"}
    with refused("42501"):
        anonymous.insert("live_stream_chat", body)
    with refused("42501"):
        anonymous.rpc("live_stream_send_message", body)
    # The role authenticated, with a token that names nobody.
    nobody = world.db.as_role("authenticated", {"role": "authenticated"})
    with refused("42501", "signed-in", hint=True):
        nobody.insert("live_stream_chat", body)
    with refused("42501", "signed-in", hint=True):
        nobody.rpc("live_stream_send_message", body)


@own_db("has a trigger of the app's")
def test_a_statement_kept_for_one_role_lets_no_other_in(world):
    """A pooled connection has prepared it for the owner, whom the policies do not hold; they alone are asked here."""
    db, session = world.db, world.session()
    say = "select (public.live_stream_send_message(%s, 'hello')).user_id"
    other = {"role": "authenticated", "sub": world.viewer.user_id}
    with db.connect() as connection:
        for _ in range(8):
            connection.execute(say, [session["id"]])
        db.owner("alter table public.live_stream_chat disable trigger live_stream_chat_guard")
        for claims in ({"role": "authenticated"}, other, {"role": "authenticated"}):
            with connection.transaction():
                connection.execute(
                    "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)",
                    [json.dumps(claims)],
                )
                if "sub" in claims:
                    assert str(connection.execute(say, [session["id"]]).fetchone()["user_id"]) == claims["sub"]
                else:
                    with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                        connection.execute(say, [session["id"]])


@pytest.mark.parametrize("kind", ["system", "product_highlight"])
def test_only_the_host_sends_the_hosts_kinds_of_message(world, kind):
    session = world.session()
    for who in (world.viewer, world.new_influencer()):
        with refused("42501", "only the host", hint=True):
            world.say(session, who, message_type=kind)
        with refused("42501", "only the host", hint=True):
            send(who, session, message_type=kind)
    assert world.say(session, world.influencer, message_type=kind)["message_type"] == kind
    assert counts(world, session) == (0, 0), "neither a message nor a reaction of a viewer's"


def test_the_server_writes_for_the_app(world):
    session = world.session(live=False)
    body = {"session_id": session["id"], "message": "Soon!", "message_type": "system", "is_moderator": True}
    message = world.service.insert("live_stream_chat", body)
    assert message["user_id"] is None and message["is_moderator"] is True


def test_what_the_server_writes_for_somebody_is_its_authors(world, db):
    """It finds the viewer of the author, counts for it, and says who hosts or moderates."""
    session = world.session()
    viewer = world.join(session, world.viewer)
    world.influencer.api.rpc("live_stream_add_moderator", user_id=world.stranger.user_id)
    said = [
        world.service.insert("live_stream_chat", {"session_id": session["id"], "user_id": who.user_id, "message": "hello"})
        for who in (world.viewer, world.influencer, world.stranger, world.new_user())
    ]
    assert [message["viewer_id"] for message in said] == [viewer["id"], None, None, None]
    assert [message["is_influencer"] for message in said] == [False, True, False, False]
    assert [message["is_moderator"] for message in said] == [False, False, True, False]
    assert db.value("select messages_sent from public.live_stream_viewers where id = %s", [viewer["id"]]) == 1
    assert counts(world, session) == (4, 0)


@pytest.mark.parametrize("text", ["", "   ", "\t\n", "\u2003", "x" * 2001, "ö" * 2001])
def test_empty_and_long_texts_are_refused(world, text):
    session = world.session()
    for write in (world.say, lambda session, who, text: send(who, session, text)):
        with refused("23514", "the message is", hint=True):
            write(session, world.viewer, text)
    message = world.say(session, world.viewer)
    with refused("23514", "the message is", hint=True):
        world.viewer.api.update("live_stream_chat", {"message": text}, where={"id": message["id"]})
    with refused("23514", "the message is", hint=True):
        world.viewer.api.rpc("live_stream_edit_message", message_id=message["id"], message=text)
    assert stored(world, message)["message"] == "hello"
    assert counts(world, session) == (1, 0)


def test_two_thousand_characters_fit_whatever_their_bytes(world):
    session = world.session()
    assert world.say(session, world.viewer, LONGEST)["message"] == LONGEST
    assert send(world.viewer, session, "👩‍🚀" * 500)["message"] == "👩‍🚀" * 500


def test_ten_megabytes_are_refused_and_nothing_changes(world):
    session = world.session()
    for write in (world.say, lambda session, who, text: send(who, session, text)):
        with refused("23514", "too long", hint=True):
            write(session, world.viewer, "x" * 10_000_000)
    assert counts(world, session) == (0, 0)


def test_a_message_needs_a_text_and_a_session(world):
    session = world.session()
    with refused("23502", "message", hint=True):
        world.say(session, world.viewer, message=None)
    with refused("23502", "session_id", hint=True):
        world.say({"id": None}, world.viewer)
    with refused("PT404", "does not exist", hint=True):
        world.say({"id": str(uuid.uuid4())}, world.viewer)


# When and where.


def test_the_chat_is_open_while_the_session_is_live_or_paused(world):
    session = world.session(live=False)

    def closed(who):
        for write in (lambda: world.say(session, who), lambda: send(who, session)):
            with refused("42501", "is closed", hint=True):
                write()

    closed(world.viewer)
    closed(world.influencer)
    world.start(session)
    message = world.say(session, world.viewer)
    world.pause(session)
    send(world.viewer, session)
    world.set_session(session, status="error")
    closed(world.viewer)
    world.start(session)
    send(world.viewer, session)
    world.end(session)
    closed(world.viewer)
    with refused("42501", "is closed", hint=True):
        react(world.viewer, message)
    assert counts(world, session) == (3, 0)


def test_a_chat_that_is_turned_off_takes_nothing(world):
    session = world.session()
    message = world.say(session, world.viewer)
    world.set_session(session, is_chat_enabled=False)
    for attempt in (
        lambda: world.say(session, world.viewer),
        lambda: world.say(session, world.influencer),
        lambda: send(world.viewer, session),
        lambda: react(world.viewer, message),
        lambda: world.viewer.api.rpc("live_stream_edit_message", message_id=message["id"], message="spam"),
        lambda: world.viewer.api.update("live_stream_chat", {"message": "spam"}, where={"id": message["id"]}),
    ):
        with refused("42501", "is closed", hint=True):
            attempt()
    assert stored(world, message)["message"] == "hello"
    # Taking back is no writing.
    world.viewer.api.rpc("live_stream_delete_message", message_id=message["id"])
    assert stored(world, message)["is_deleted"] is True


def test_a_private_session_is_not_there_for_others(world):
    host = world.new_influencer()
    session = world.session(by=host, visibility="private")
    message = world.say(session, host, "secret plans")
    for attempt in (
        lambda: world.say(session, world.viewer),
        lambda: send(world.viewer, session),
        lambda: react(world.viewer, message),
        lambda: unreact(world.viewer, message),
        lambda: world.viewer.api.rpc("live_stream_flag_message", message_id=message["id"]),
        lambda: world.viewer.api.rpc("live_stream_edit_message", message_id=message["id"], message="x"),
        lambda: world.viewer.api.rpc("live_stream_delete_message", message_id=message["id"]),
    ):
        with refused("PT404", "does not exist", hint=True):
            attempt()
    assert world.viewer.api.select("live_stream_chat", where={"id": message["id"]}) == []
    assert world.viewer.api.update("live_stream_chat", {"is_deleted": True}, where={"id": message["id"]}) == []


def test_an_unlisted_session_takes_messages_of_those_who_have_its_id_or_code(world):
    session = world.session(visibility="unlisted")
    by_id = send(world.stranger, session)
    assert by_id["user_id"] == world.stranger.user_id
    edited = world.stranger.api.rpc("live_stream_edit_message", message_id=by_id["id"], message="edited")
    assert edited["message"] == "edited"
    assert react(world.viewer, by_id)["reactions"] == {"🔥": 1}

    with_code = world.db.as_user(world.viewer.user_id, headers={"x-session-code": session["session_code"]})
    body = {"session_id": session["id"], "message": "by code"}
    assert with_code.insert("live_stream_chat", body)["message"] == "by code"

    def texts(api):
        where = {"session_id": session["id"]}
        return {row["message"] for row in api.select("live_stream_chat", where=where)}

    assert texts(with_code) == texts(world.influencer.api) == {"edited", "by code"}
    assert texts(world.new_user().api) == texts(world.anon) == set()
    world.join(session, world.stranger)
    assert texts(world.stranger.api) == {"edited", "by code"}


# Changing and deleting.


@pytest.mark.parametrize("write", ["update", "rpc"])
def test_an_author_edits_its_message(world, write):
    session = world.session()
    message = world.say(session, world.viewer)
    if write == "update":
        patch = {"message": "corrected"}
        edited = world.viewer.api.update("live_stream_chat", patch, where={"id": message["id"]}, one=True)
    else:
        edited = world.viewer.api.rpc("live_stream_edit_message", message_id=message["id"], message="corrected")
    assert edited["message"] == "corrected" and edited["edited_at"]
    assert edited["sent_at"] == message["sent_at"]
    assert counts(world, session) == (1, 0)


def test_only_the_author_edits(world):
    session = world.session()
    message = world.say(session, world.viewer)
    patch, where = {"message": "I agree to everything"}, {"id": message["id"]}
    for who in (world.stranger.api, world.new_influencer().api):
        assert who.update("live_stream_chat", patch, where=where) == []
        with refused("42501", "is not the caller's", hint=True):
            who.rpc("live_stream_edit_message", message_id=message["id"], message="x")
    with refused("42501", "only its author", hint=True):
        world.influencer.api.update("live_stream_chat", patch, where=where)
    with refused("42501", "only its author", hint=True):
        world.influencer.api.rpc("live_stream_edit_message", message_id=message["id"], message="x")
    with refused("42501"):
        world.anon.update("live_stream_chat", patch, where=where)
    assert stored(world, message)["message"] == "hello"


def test_an_author_changes_nothing_but_the_text(world):
    session, other = world.session(), world.session(by=world.new_influencer())
    parent = world.say(other, world.viewer)
    message = world.say(session, world.viewer)
    before = stored(world, message)
    patch = {
        "session_id": other["id"],
        "parent_message_id": parent["id"],
        "user_id": world.stranger.user_id,
        "is_influencer": True,
        "is_moderator": True,
        "is_flagged": True,
        "message_type": "system",
        "username": "Ada",
        "reactions": {"🔥": 99},
        "replies_count": 99,
        "sent_at": now(),
    }
    world.viewer.api.update("live_stream_chat", patch, where={"id": message["id"]}, one=True)
    assert stored(world, message) == before
    assert counts(world, session) == counts(world, other) == (1, 0)


@pytest.mark.parametrize("write", ["update", "rpc"])
@pytest.mark.parametrize("who", ["viewer", "influencer"])
def test_author_and_host_delete(world, who, write):
    session = world.session()
    message = world.say(session, world.viewer)
    person = getattr(world, who)
    if write == "update":
        patch = {"is_deleted": True, "deleted_by": world.stranger.user_id, "deletion_reason": "spam"}
        deleted = person.api.update("live_stream_chat", patch, where={"id": message["id"]}, one=True)
    else:
        deleted = person.api.rpc("live_stream_delete_message", message_id=message["id"], reason="spam")
    assert deleted["is_deleted"] is True and deleted["deleted_at"]
    # The row is a stub; the function answers what the caller may read.
    reads = ("hello", person.user_id, "spam") if write == "rpc" else ("", None, None)
    assert (deleted["message"], deleted["deleted_by"], deleted["deletion_reason"]) == reads
    assert removed(world, message) == ("hello", "spam", person.user_id)
    assert counts(world, session) == (1, 0), "it was sent"


def test_nobody_else_deletes(world):
    session = world.session()
    message = world.say(session, world.viewer)
    for who in (world.stranger.api, world.new_influencer().api):
        assert who.update("live_stream_chat", {"is_deleted": True}, where={"id": message["id"]}) == []
        with refused("42501", "is not the caller's", hint=True):
            who.rpc("live_stream_delete_message", message_id=message["id"])
    with refused("42501"):
        world.anon.rpc("live_stream_delete_message", message_id=message["id"])
    for who in (world.viewer.api, world.influencer.api, world.anon):
        with refused("42501"):
            who.delete("live_stream_chat", where={"id": message["id"]})
    assert stored(world, message)["is_deleted"] is False


def test_what_the_host_deleted_only_the_host_puts_back(world):
    session = world.session()
    message = world.say(session, world.viewer)
    where = {"id": message["id"]}
    world.influencer.api.rpc("live_stream_delete_message", message_id=message["id"], reason="spam")
    world.viewer.api.update("live_stream_chat", {"is_deleted": False, "deletion_reason": "no"}, where=where)
    assert stored(world, message)["is_deleted"] is True
    assert removed(world, message) == ("hello", "spam", world.influencer.user_id)
    with refused("42501", "until it is deleted", hint=True):
        world.viewer.api.rpc("live_stream_edit_message", message_id=message["id"], message="again")

    world.influencer.api.update("live_stream_chat", {"is_deleted": False}, where=where, one=True)
    row = stored(world, message)
    assert (row["is_deleted"], row["message"], removed(world, message)) == (False, "hello", None)
    assert [row[name] for name in ("deleted_by", "deleted_at", "deletion_reason")] == [None] * 3


def test_a_deleted_message_takes_no_reaction(world):
    session = world.session()
    message = world.say(session, world.viewer)
    world.viewer.api.rpc("live_stream_delete_message", message_id=message["id"])
    with refused("PT404", "does not exist", hint=True):
        react(world.stranger, message)


def test_the_host_moderates_many_messages_at_once(world):
    session = world.session()
    messages = [world.say(session, world.viewer, f"spam {n}") for n in range(5)]
    other = world.say(session, world.stranger)
    patch, where = {"is_deleted": True}, {"session_id": session["id"], "user_id": world.viewer.user_id}
    assert len(world.influencer.api.update("live_stream_chat", patch, where=where)) == 5
    assert all(stored(world, message)["is_deleted"] for message in messages)
    assert stored(world, other)["is_deleted"] is False


def test_anybody_signed_in_flags_and_only_the_host_unflags(world):
    session = world.session()
    message = world.say(session, world.viewer)
    flagged = world.stranger.api.rpc("live_stream_flag_message", message_id=message["id"])
    assert flagged["is_flagged"] is True and flagged["message"] == "hello"
    with refused("42501"):
        world.anon.rpc("live_stream_flag_message", message_id=message["id"])
    patch, where = {"is_flagged": False}, {"id": message["id"]}
    world.viewer.api.update("live_stream_chat", patch, where=where)
    assert is_flagged(world, message) and stored(world, message)["is_flagged"] is False
    world.influencer.api.update("live_stream_chat", patch, where=where, one=True)
    assert not is_flagged(world, message)
