"""What hosts and moderators do, in a line each."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from people import Person

TABLES = ("moderators", "bans", "guests", "invitations", "moderation_log")


def later(**delta):
    return (datetime.now(timezone.utc) + timedelta(**delta)).isoformat()


def wait_until(world, moment):
    """Until the database's own clock is there."""
    world.db.sql("select pg_sleep_until(%s::timestamptz + interval '1 millisecond')", [moment])


def ban(by, whom, **args):
    return by.api.rpc("live_stream_ban", user_id=whom.user_id, **args)


def timeout(by, whom, **args):
    return by.api.rpc("live_stream_timeout", user_id=whom.user_id, **args)


def unban(by, whom, **args):
    return by.api.rpc("live_stream_unban", user_id=whom.user_id, **args)


def invite(by, session, whom):
    return by.api.rpc("live_stream_invite", session_id=session["id"], user_id=whom.user_id)


def uninvite(by, session, whom):
    return by.api.rpc("live_stream_uninvite", session_id=session["id"], user_id=whom.user_id)


def invitation(by, session, **args):
    return by.api.rpc("live_stream_create_invitation", session_id=session["id"], **args)


def accept(who, token):
    return who.api.rpc("live_stream_accept_invitation", token=token)


def join(who, session):
    return who.api.rpc("live_stream_join", session_id=session["id"])


def log(world, *columns):
    """What the influencer reads there, oldest first, as tuples of columns."""
    rows = world.influencer.api.select("live_stream_moderation_log", order="created_at,id")
    return [tuple(row[column] for column in columns or ("action", "actor_id", "user_id")) for row in rows]


def sees(who, session):
    """In the table, by the function for it, and by its code."""
    found = [
        bool(who.api.select("live_stream_sessions", where={"id": session["id"]})),
        bool(who.api.rpc("live_stream_session", session_id=session["id"])),
        bool(who.api.rpc("live_stream_session_by_code", code=session["session_code"])),
    ]
    return found


def stored(world, table, row):
    (found,) = world.db.sql(f"select * from public.live_stream_{table} where id = %s", [row["id"]])
    return found


@pytest.fixture
def moderator(world) -> Person:
    person = world.new_user()
    world.influencer.api.rpc("live_stream_add_moderator", user_id=person.user_id)
    return person


@pytest.fixture
def other(world) -> Person:
    """Another influencer, who has nothing to do here."""
    return world.new_influencer("Grace")


@pytest.fixture
def others_moderator(world, other) -> Person:
    person = world.new_user()
    other.api.rpc("live_stream_add_moderator", user_id=person.user_id)
    return person
