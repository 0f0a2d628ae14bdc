"""What is said, and what is kept of it."""

from __future__ import annotations


def send(who, session, message="hello", **args):
    return who.api.rpc("live_stream_send_message", session_id=session["id"], message=message, **args)


def react(who, message, reaction="🔥"):
    return who.api.rpc("live_stream_react", message_id=message["id"], reaction=reaction)


def unreact(who, message, reaction="🔥"):
    return who.api.rpc("live_stream_unreact", message_id=message["id"], reaction=reaction)


def stored(world, message):
    (row,) = world.db.sql("select * from public.live_stream_chat where id = %s", [message["id"]])
    return row


def counts(world, session, *columns):
    row = world.read(session)
    return tuple(row[column] for column in columns or ("total_messages", "total_reactions"))
