"""A session that is deleted while somebody writes something of it: who comes too late is told that it is gone."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Callable

import pytest

from people import Person, World, people
from recount import differences
from sizes import own_db
from steps import Steps, sqlstate

pytestmark = own_db("sets background_worker")

DELETE = "delete from public.live_stream_sessions where id = %(session)s"


@dataclass
class Stage:
    """A session that is live, and what requests name of it."""

    world: World
    names: dict[str, Any]


def stage(world: World) -> Stage:
    by = world.new_influencer()
    session = world.session(by=by)
    viewer = world.join(session, world.viewer)
    message = world.say(session, world.viewer, viewer=viewer)
    world.viewer.api.rpc("live_stream_react", message_id=message["id"], reaction="✨")
    beating = world.join(session)
    world.anonymous(beating).rpc("live_stream_heartbeat", viewer_id=beating["id"])
    product = world.product(session, by)
    link = by.api.rpc("live_stream_create_invitation", session_id=session["id"], max_uses=None)
    names = {
        "host": by,
        "session": session["id"],
        "influencer": by.influencer_id,
        "viewer": viewer["id"],
        "beating": beating["id"],
        "viewing_user": world.viewer.user_id,
        "user": world.stranger.user_id,
        "other_user": world.new_user().user_id,
        "message": message["id"],
        "product": product["id"],
        "shop_product": product["product_id"],
        "new_product": world.new_product(),
        "token": link["token"],
        "code": session["session_code"],
    }
    return Stage(world, names)


# Each: who asks (a person's name here, or a role), and the request.
REQUESTS = {
    "join": ("stranger", "insert into public.live_stream_viewers (session_id, user_id) values (%(session)s, %(user)s) returning *"),
    "join many": (
        "service_role",
        "insert into public.live_stream_viewers (session_id) select %(session)s::uuid from generate_series(1, 20)",
    ),
    "was there": (
        "service_role",
        "insert into public.live_stream_viewers (session_id, joined_at, left_at) values (%(session)s, now(), now())",
    ),
    "live_stream_join": ("stranger", "select * from public.live_stream_join(%(session)s)"),
    "join again": ("viewer", "select * from public.live_stream_join(%(session)s)"),
    "join by code": ("stranger", "select * from public.live_stream_join(session_code => %(code)s)"),
    "anonymous join": ("anon", "select * from public.live_stream_join(%(session)s)"),
    "write": (
        "viewer",
        "insert into public.live_stream_chat (session_id, user_id, message) values (%(session)s, %(viewing_user)s, 'hi')",
    ),
    "answer": (
        "viewer",
        "select * from public.live_stream_send_message(%(session)s, 'hi', parent_message_id => %(message)s)",
    ),
    "server writes": (
        "service_role",
        "insert into public.live_stream_chat (session_id, message) values (%(session)s, 'hi')",
    ),
    "send_message": ("stranger", "select * from public.live_stream_send_message(%(session)s, 'hi')"),
    "react": ("stranger", "select * from public.live_stream_react(%(message)s, '🔥')"),
    "unreact": ("viewer", "select * from public.live_stream_unreact(%(message)s, '✨')"),
    "show": (
        "host",
        "insert into public.live_stream_products (session_id, product_id) values (%(session)s, %(new_product)s)",
    ),
    "feature_product": ("host", "select * from public.live_stream_feature_product(%(session)s, %(new_product)s)"),
    "feature it again": ("host", "select * from public.live_stream_feature_product(%(session)s, %(shop_product)s)"),
    "order": (
        "service_role",
        "insert into public.live_stream_orders (session_id, product_id, amount, viewer_id)"
        " values (%(session)s, %(shop_product)s, 5, %(viewer)s)",
    ),
    "record_order": (
        "host",
        "select * from public.live_stream_record_order(%(session)s, %(shop_product)s, 5, user_id => %(viewing_user)s)",
    ),
    "guest": ("host", "insert into public.live_stream_guests (session_id, user_id) values (%(session)s, %(user)s)"),
    "invite": ("host", "select * from public.live_stream_invite(%(session)s, %(other_user)s)"),
    "create_invitation": ("host", "select * from public.live_stream_create_invitation(%(session)s)"),
    "accept_invitation": ("stranger", "select * from public.live_stream_accept_invitation(%(token)s)"),
    "ban": (
        "host",
        "insert into public.live_stream_bans (session_id, user_id, influencer_id)"
        " values (%(session)s, %(user)s, %(influencer)s)",
    ),
    "live_stream_ban": ("host", "select * from public.live_stream_ban(%(viewing_user)s, session_id => %(session)s)"),
    "timeout": ("host", "select * from public.live_stream_timeout(%(viewing_user)s, session_id => %(session)s)"),
    "first heartbeat": ("viewer", "select * from public.live_stream_heartbeat(%(viewer)s)"),
    "heartbeat": ("anon", "select * from public.live_stream_heartbeat(%(beating)s)"),
    "leave": ("viewer", "select * from public.live_stream_leave(%(viewer)s)"),
    "share": ("viewer", "select * from public.live_stream_share(%(viewer)s)"),
    "report_quality": ("viewer", "select * from public.live_stream_report_quality(%(viewer)s, 'fair', 3, 1)"),
    "track_view": ("anon", "select * from public.live_stream_track_view(%(product)s)"),
    "track_click": ("viewer", "select * from public.live_stream_track_click(%(product)s)"),
    "track_add_to_cart": ("anon", "select * from public.live_stream_track_add_to_cart(%(product)s)"),
    "track_share": ("anon", "select * from public.live_stream_track_share(%(product)s)"),
}


def asking(at: Stage, who: str) -> Person | str:
    people = {"viewer": at.world.viewer, "stranger": at.world.stranger, "host": at.names["host"]}
    return people.get(who, who)


def for_each(db, workers: str, play: Callable[[Steps, Stage, Any, str], None]) -> dict[str, str]:
    """Plays each request on a stage of its own; what went wrong, by request."""
    db.without_limits()
    db.set(background_worker=workers)
    world = people(db)
    wrong = {}
    for name, (who, sql) in REQUESTS.items():
        at = stage(world)
        names = {key: value for key, value in at.names.items() if key != "host"}
        with Steps(db) as steps:
            try:
                play(steps, names, steps.client(asking(at, who)), sql)
            except AssertionError as error:
                wrong[name] = str(error).splitlines()[0]
    return wrong


WORKERS = pytest.mark.parametrize("workers", ["on", "off"])
DELETES = {
    "session": DELETE,
    "influencer": "delete from public.influencers where id = %(influencer)s",
}


@WORKERS
@pytest.mark.parametrize("deleted", DELETES)
def test_who_comes_while_a_session_is_deleted_is_told_that_it_is_gone(plain_db, workers, deleted):
    """Never that a constraint is violated."""

    def play(steps, names, client, sql):
        deleting = steps.client()
        deleting.run(DELETES[deleted], names)
        waiting = client.start(sql, names)
        client.waits()
        deleting.commit()
        assert sqlstate(waiting) == "PT404", waiting.exception()

    assert for_each(plain_db, workers, play) == {}
    assert differences(plain_db) == []


@WORKERS
def test_who_comes_while_a_deletion_is_rolled_back_is_served(plain_db, workers):
    def play(steps, names, client, sql):
        deleting = steps.client()
        deleting.run(DELETE, names)
        waiting = client.start(sql, names)
        client.waits()
        deleting.rollback()
        assert sqlstate(waiting) is None, waiting.exception()

    assert for_each(plain_db, workers, play) == {}
    assert differences(plain_db) == []


@WORKERS
def test_a_deletion_waits_for_who_came_first(plain_db, workers):
    """Both are done then, and nothing is left of the session."""
    left = " + ".join(
        f"(select count(*) from public.live_stream_{table} where session_id = %(session)s)"
        for table in ("viewers", "chat", "chat_reactions", "products", "orders", "guests", "invitations", "bans")
    )

    def play(steps, names, client, sql):
        client.run(sql, names)
        deleting = steps.client()
        waiting = deleting.start(DELETE, names)
        deleting.waits()
        client.commit()
        assert sqlstate(waiting) is None, waiting.exception()
        assert plain_db.value(f"select {left}", names) == 0

    assert for_each(plain_db, workers, play) == {}
    assert differences(plain_db) == []


def test_a_session_that_is_not_there_is_told_so(plain_db):
    world = people(plain_db)
    names = {"session": str(uuid.uuid4()), "user": world.stranger.user_id}
    wrong = {}
    for name in ("join", "join many", "was there", "live_stream_join", "server writes", "send_message"):
        who, sql = REQUESTS[name]
        with Steps(plain_db) as steps:
            state = sqlstate(steps.client({"stranger": world.stranger}.get(who, who)).start(sql, names))
        if state != "PT404":
            wrong[name] = state
    assert wrong == {}


def test_a_message_that_is_deleted_meanwhile(plain_db):
    """Answers and reactions to it are told so, and where it stays after all they count."""
    world = people(plain_db)
    for keeps in (False, True):
        for name in ("answer", "react", "unreact"):
            at = stage(world)
            who, sql = REQUESTS[name]
            names = {key: value for key, value in at.names.items() if key != "host"}
            with Steps(plain_db) as steps:
                deleting, client = steps.client("service_role"), steps.client(asking(at, who))
                deleting.run("delete from public.live_stream_chat where id = %(message)s", names)
                waiting = client.start(sql, names)
                client.waits()
                deleting.rollback() if keeps else deleting.commit()
                assert sqlstate(waiting) == (None if keeps else "PT404"), (name, waiting.exception())
    assert differences(plain_db) == []
