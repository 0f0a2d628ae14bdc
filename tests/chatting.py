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


def removed(world, message):
    """What the message says that was taken away, by whom and why; none if it is not away."""
    rows = world.db.sql(
        "select message, deletion_reason, deleted_by::text from public.live_stream_removed_messages where message_id = %s",
        [message["id"]],
    )
    return tuple(rows[0].values()) if rows else None


def is_flagged(world, message):
    flags = "select count(*) from public.live_stream_flagged_messages where message_id = %s"
    return world.db.value(flags, [message["id"]]) == 1


def counts(world, session, *columns):
    row = world.read(session)
    return tuple(row[column] for column in columns or ("total_messages", "total_reactions"))
