"""People with a part: moderators, bans and timeouts, guests and invitations of private sessions, and the log of it all."""

from __future__ import annotations

import hashlib
import threading
import uuid
from datetime import datetime, timedelta, timezone

import psycopg
import pytest

from people import Person, at_once
from postgrest import RequestError
from recount import differences
from refusals import refused
from sizes import own_db

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


def send(who, session, message="hello"):
    return who.api.rpc("live_stream_send_message", session_id=session["id"], message=message)


def react(who, message):
    return who.api.rpc("live_stream_react", message_id=message["id"], reaction="🔥")


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


# Moderators.


def test_an_influencer_chooses_its_moderators(world):
    person = world.new_user()
    row = world.influencer.api.rpc("live_stream_add_moderator", user_id=person.user_id)
    assert (row["influencer_id"], row["user_id"]) == (world.influencer.influencer_id, person.user_id)
    assert world.influencer.api.rpc("live_stream_add_moderator", user_id=person.user_id) == row
    removed = world.influencer.api.rpc("live_stream_remove_moderator", user_id=person.user_id)
    assert removed == [row]
    assert world.influencer.api.rpc("live_stream_remove_moderator", user_id=person.user_id) == []
    body = {"influencer_id": world.influencer.influencer_id, "user_id": person.user_id, "created_at": "2001-01-01"}
    direct = world.influencer.api.insert("live_stream_moderators", body)
    assert direct["created_at"] > "2020"
    assert len(world.influencer.api.delete("live_stream_moderators", where={"user_id": person.user_id})) == 1
    args = {"user_id": person.user_id, "influencer_id": world.influencer.influencer_id}
    assert world.service.rpc("live_stream_add_moderator", args)["user_id"] == person.user_id
    with refused("22023", "no influencer is named", hint=True):
        world.service.rpc("live_stream_add_moderator", user_id=person.user_id)
    with refused("22023", "no influencer is named", hint=True):
        world.viewer.api.rpc("live_stream_add_moderator", user_id=person.user_id)


def test_nobody_else_makes_or_removes_moderators(world, moderator, other, others_moderator):
    who = world.new_user()
    body = {"influencer_id": world.influencer.influencer_id, "user_id": who.user_id}
    for attacker in (who, moderator, other, others_moderator, world.viewer):
        with refused("42501", "is not the caller's", hint=True):
            attacker.api.insert("live_stream_moderators", body)
        with refused("42501", "is not the caller's", hint=True):
            attacker.api.rpc("live_stream_add_moderator", body)
        with refused("42501", "is not the caller's", hint=True):
            attacker.api.rpc("live_stream_remove_moderator", body | {"user_id": moderator.user_id})
        assert attacker.api.delete("live_stream_moderators", where={"influencer_id": body["influencer_id"]}) == []
    for call in (world.anon.insert, world.anon.update, world.anon.delete):
        with refused("42501"):
            call("live_stream_moderators", *([body] if call != world.anon.delete else []))
    with refused("42501"):
        world.anon.rpc("live_stream_add_moderator", body)
    count = "select count(*) from public.live_stream_moderators where influencer_id = %s"
    assert world.db.value(count, [world.influencer.influencer_id]) == 1


def test_a_moderator_is_not_moved_to_another_influencer(world, moderator, other):
    mine, others = ({"influencer_id": who.influencer_id} for who in (world.influencer, other))
    for api in (moderator.api, world.influencer.api, other.api, world.service):
        with refused("42501", "permission denied"):
            api.update("live_stream_moderators", others, where=mine)
    # Not by the owner of the tables either.
    world.db.owner("update public.live_stream_moderators set influencer_id = %s", [other.influencer_id])
    assert len(world.influencer.api.select("live_stream_moderators")) == 1


def test_nobody_moderates_the_own_sessions(world):
    with refused("23514", "needs no other part", hint=True):
        world.influencer.api.rpc("live_stream_add_moderator", user_id=world.influencer.user_id)


@own_db("counts all that is there")
def test_moderators_are_read_by_the_influencer_and_themselves(world, moderator, other, others_moderator):
    assert len(world.influencer.api.select("live_stream_moderators")) == 1
    assert [row["user_id"] for row in moderator.api.select("live_stream_moderators")] == [moderator.user_id]
    assert world.viewer.api.select("live_stream_moderators") == []
    assert len(world.service.select("live_stream_moderators")) == 2
    with refused("42501"):
        world.anon.select("live_stream_moderators")


def test_a_moderators_messages_say_so(world, moderator, others_moderator):
    session = world.session()
    assert send(moderator, session)["is_moderator"] is True
    assert world.say(session, moderator, is_moderator=False)["is_moderator"] is True
    assert world.say(session, others_moderator, is_moderator=True)["is_moderator"] is False
    assert world.say(session, world.viewer, is_moderator=True)["is_moderator"] is False
    assert world.say(session, world.influencer)["is_moderator"] is False
    assert moderator.api.insert("live_stream_chat", {"session_id": session["id"], "message": "x"})["is_influencer"] is False
    with refused("42501", "only the host sends", hint=True):
        world.say(session, moderator, message_type="system")


@pytest.mark.parametrize("visibility", ["public", "unlisted", "private"])
def test_a_moderator_takes_messages_away_and_puts_them_back(world, moderator, visibility):
    session = world.session(visibility=visibility)
    if visibility == "private":
        invite(world.influencer, session, world.viewer)
    message = send(world.viewer, session, "spam")
    gone = moderator.api.rpc("live_stream_delete_message", message_id=message["id"], reason="rude")
    assert (gone["is_deleted"], gone["deleted_by"], gone["deletion_reason"]) == (True, moderator.user_id, "rude")
    where = {"id": message["id"]}
    world.viewer.api.update("live_stream_chat", {"is_deleted": False}, where=where)
    assert stored(world, "chat", message)["is_deleted"] is True
    back = moderator.api.update("live_stream_chat", {"is_deleted": False}, where=where, one=True)
    assert (back["is_deleted"], back["deleted_by"], back["deletion_reason"]) == (False, None, None)
    world.viewer.api.rpc("live_stream_flag_message", message_id=message["id"])
    assert moderator.api.update("live_stream_chat", {"is_flagged": False}, where=where, one=True)["is_flagged"] is False
    with refused("42501", "only its author edits", hint=True):
        moderator.api.update("live_stream_chat", {"message": "I agree"}, where=where)
    with refused("42501", "only its author edits", hint=True):
        moderator.api.rpc("live_stream_edit_message", message_id=message["id"], message="I agree")
    me, author = moderator.user_id, world.viewer.user_id
    acts = [act for act in log(world, "action", "actor_id", "user_id", "message_id", "session_id", "reason") if act[3]]
    place = (message["id"], session["id"])
    assert acts == [
        ("delete_message", me, author, *place, "rude"),
        ("restore_message", me, author, *place, None),
        ("unflag_message", me, author, *place, None),
    ]


def test_a_moderator_has_no_say_over_what_an_author_or_the_host_took_away_of_its_own(world, moderator):
    session = world.session()
    by_author, of_moderator = send(world.viewer, session), send(moderator, session, "hm")
    world.viewer.api.rpc("live_stream_delete_message", message_id=by_author["id"])
    world.influencer.api.rpc("live_stream_delete_message", message_id=of_moderator["id"])
    for message in (by_author, of_moderator):
        moderator.api.update("live_stream_chat", {"is_deleted": False}, where={"id": message["id"]})
        assert stored(world, "chat", message)["is_deleted"] is True
    world.influencer.api.update("live_stream_chat", {"is_deleted": False}, where={"id": of_moderator["id"]}, one=True)
    assert [act for act, in log(world, "action")] == ["add_moderator", "delete_message", "restore_message"]


def test_moderators_of_others_take_nothing_away(world, other, others_moderator):
    session = world.session()
    message = send(world.viewer, session)
    world.viewer.api.rpc("live_stream_flag_message", message_id=message["id"])
    for attacker in (others_moderator, other):
        for patch in ({"is_deleted": True}, {"is_flagged": False}, {"is_deleted": True, "is_flagged": False}):
            assert attacker.api.update("live_stream_chat", patch, where={"id": message["id"]}) == []
            # Everything that it may see.
            attacker.api.update("live_stream_chat", patch, where={"session_id": session["id"]})
        with refused("42501", "is not the caller's", hint=True):
            attacker.api.rpc("live_stream_delete_message", message_id=message["id"])
    row = stored(world, "chat", message)
    assert (row["is_deleted"], row["is_flagged"]) == (False, True)


def test_a_moderator_reads_nothing_more(world, moderator):
    session = world.session(visibility="private")
    world.influencer.api.rpc("live_stream_start", session_id=session["id"], stream_key="secret-key")
    invite(world.influencer, session, world.viewer)
    viewer = join(world.viewer, session)
    product = world.product(session)
    order = {"session_id": session["id"], "product_id": product["product_id"], "amount": 5}
    world.service.insert("live_stream_orders", order)
    invitation(world.influencer, session)
    world.service.insert("live_stream_analytics", {
        "session_id": session["id"], "period_type": "hour", "period_start": later(hours=-1), "period_end": later()})  # fmt: skip
    assert sees(moderator, session) == [True] * 3
    for table in ("credentials", "viewers", "orders", "analytics", "invitations", "guests", "moderation_log",
                  "notifications", "followers"):  # fmt: skip
        assert moderator.api.select(f"live_stream_{table}") == [], table
    assert moderator.api.select("session_analytics_summary") == []
    assert moderator.api.rpc("live_stream_stream_credentials", session_id=session["id"]) == []
    assert moderator.api.rpc("live_stream_session_analytics", session_id=session["id"]) == []
    # Nor does it write what the host writes.
    assert moderator.api.update("live_stream_sessions", {"title": "Mine"}, where={"id": session["id"]}) == []
    assert moderator.api.delete("live_stream_sessions", where={"id": session["id"]}) == []
    for call, args in (
        ("live_stream_end", {}),
        ("live_stream_create_invitation", {}),
        ("live_stream_invite", {"user_id": world.stranger.user_id}),
        ("live_stream_uninvite", {"user_id": world.viewer.user_id}),
        ("live_stream_feature_product", {"product_id": world.new_product()}),
        ("live_stream_record_order", {"product_id": product["product_id"], "amount": 1, "quantity": 1}),
    ):
        with refused("42501", "is not the caller's", hint=True):
            moderator.api.rpc(call, session_id=session["id"], **args)
    assert moderator.api.update("live_stream_products", {"clicks": 99}, where={"id": product["id"]}) == []
    assert world.influencer.api.select("live_stream_viewers", where={"id": viewer["id"]})


# Bans.


@pytest.mark.parametrize("who", ["influencer", "moderator", "service"])
@pytest.mark.parametrize("way", ["insert", "rpc"])
def test_influencer_moderators_and_server_ban(world, moderator, who, way):
    session = world.session()
    by = {"influencer": world.influencer, "moderator": moderator, "service": Person("", world.service)}[who]
    until = later(days=3)
    args = {"session_id": session["id"], "expires_at": until, "reason": "spam"}
    if way == "rpc":
        row = ban(by, world.viewer, **args)
    else:
        # The influencer follows from the session.
        row = by.api.insert("live_stream_bans", args | {"user_id": world.viewer.user_id})
    assert row["influencer_id"] == world.influencer.influencer_id and row["user_id"] == world.viewer.user_id
    assert (row["kind"], row["reason"], row["session_id"]) == ("ban", "spam", session["id"])
    assert datetime.fromisoformat(row["expires_at"]) == datetime.fromisoformat(until)
    assert row["created_by"] == (by.user_id or None)
    for reader in (world.influencer, moderator, Person("", world.service)):
        assert [found["id"] for found in reader.api.select("live_stream_bans")] == [row["id"]]
    for reader in (world.viewer, world.stranger):
        assert reader.api.select("live_stream_bans") == []
    lifted = unban(by, world.viewer, session_id=session["id"])
    assert [found["id"] for found in lifted] == [row["id"]]
    assert unban(by, world.viewer, session_id=session["id"]) == []
    join(world.viewer, session)
    actor = by.user_id or None
    columns = ("action", "actor_id", "user_id", "session_id", "reason")
    assert log(world, *columns)[1:] == [
        (action, actor, world.viewer.user_id, session["id"], "spam") for action in ("ban", "unban")]  # fmt: skip


def test_a_ban_lifted_by_a_delete(world, moderator):
    ban(moderator, world.viewer, influencer_id=world.influencer.influencer_id)
    timeout(moderator, world.viewer, influencer_id=world.influencer.influencer_id)
    assert len(moderator.api.delete("live_stream_bans", where={"user_id": world.viewer.user_id})) == 2
    assert join(world.viewer, world.session())
    assert sorted(act for act, in log(world, "action"))[1:] == ["ban", "end_timeout", "timeout", "unban"]


def test_a_banned_person_cannot_take_part(world):
    session = world.session()
    first = join(world.viewer, session)
    mine, message = send(world.viewer, session), send(world.stranger, session)
    ban(world.influencer, world.viewer, reason="spam", expires_at="2999-01-01T00:00:00Z")
    patch = {"is_still_watching": True}
    for attempt in (
        lambda: world.join(session, world.viewer),
        lambda: world.join(session, world.viewer, user_id=None),
        lambda: join(world.viewer, session),
        lambda: world.viewer.api.rpc("live_stream_join", session_code=session["session_code"]),
        lambda: world.viewer.api.update("live_stream_viewers", patch, where={"id": first["id"]}),
        lambda: world.viewer.api.update("live_stream_viewers", patch),
        lambda: world.say(session, world.viewer),
        lambda: world.viewer.api.insert("live_stream_chat", [{"session_id": session["id"], "message": "x"}] * 3),
        lambda: send(world.viewer, session),
        lambda: world.viewer.api.rpc("live_stream_edit_message", message_id=mine["id"], message="x"),
        lambda: world.viewer.api.update("live_stream_chat", {"message": "x"}, where={"id": mine["id"]}),
        lambda: react(world.viewer, message),
        lambda: world.viewer.api.rpc("live_stream_unreact", message_id=message["id"], reaction="🔥"),
        lambda: world.viewer.api.rpc("live_stream_flag_message", message_id=message["id"]),
    ):
        with refused("42501", "is banned from the sessions", hint=True):
            attempt()
    try:
        join(world.viewer, session)
    except RequestError as error:
        assert error.detail == "Until 2999-01-01 00:00:00 UTC. The reason: spam"
    # What is public stays readable, and one's own words can be taken back.
    assert sees(world.viewer, session) == [True] * 3
    assert len(world.viewer.api.select("live_stream_chat", where={"session_id": session["id"]})) == 2
    assert world.viewer.api.rpc("live_stream_delete_message", message_id=mine["id"])["is_deleted"] is True
    assert world.viewer.api.rpc("live_stream_heartbeat", viewer_id=first["id"])["is_still_watching"] is False
    # Elsewhere it is as anybody.
    elsewhere = world.session(by=world.new_influencer())
    assert join(world.viewer, elsewhere) and send(world.viewer, elsewhere)
    assert differences(world.db) == []


def test_a_ban_for_good_and_a_ban_that_ends(world):
    session = world.session()
    ban(world.influencer, world.viewer)
    try:
        join(world.viewer, session)
    except RequestError as error:
        assert error.detail == "For good."
    ends = later(seconds=2)
    ban(world.influencer, world.viewer, expires_at=ends)
    with refused("42501", "is banned"):
        join(world.viewer, session)
    wait_until(world, ends)
    assert join(world.viewer, session)["is_still_watching"] is True
    assert send(world.viewer, session)


@pytest.mark.parametrize("kind", ["invited", "joined", "code", "id"])
def test_a_banned_person_does_not_see_what_is_not_public(world, kind):
    session = world.session(visibility="private" if kind == "invited" else "unlisted")
    message, product = world.say(session, world.influencer), world.product(session)
    who = world.viewer
    if kind == "invited":
        invite(world.influencer, session, who)
    if kind in ("invited", "joined"):
        join(who, session)
    if kind == "code":
        headers = {"x-session-code": session["session_code"]}
        who = Person(who.user_id, world.db.as_user(who.user_id, headers=headers))
    api = who.api

    def found():
        """By the table and what follows from it, then by functions that know an id or a code."""
        return [
            bool(api.select("live_stream_sessions", where={"id": session["id"]})),
            bool(api.select("live_sessions_with_details", where={"id": session["id"]})),
            bool(api.select("live_stream_chat", where={"id": message["id"]})),
            bool(api.select("live_stream_products", where={"id": product["id"]})),
            bool(api.rpc("live_stream_session", session_id=session["id"])),
            bool(api.rpc("live_stream_session_by_code", code=session["session_code"])),
        ]

    assert found() == [kind != "id"] * 4 + [True] * 2
    assert api.rpc("live_stream_track_view", session_product_id=product["id"])["views"] == 1
    ban(world.influencer, world.viewer)
    assert found() == [False] * 6
    for call, args in (
        ("live_stream_react", {"message_id": message["id"], "reaction": "🔥"}),
        ("live_stream_flag_message", {"message_id": message["id"]}),
        ("live_stream_track_view", {"session_product_id": product["id"]}),
    ):
        with refused("PT404", hint=True):
            api.rpc(call, args)
    with refused("42501", "is banned", hint=True):
        join(who, session)
    unban(world.influencer, world.viewer)
    assert found() == [kind != "id"] * 4 + [True] * 2


def test_a_private_session_is_not_there_for_a_banned_person(world):
    session = world.session(visibility="private")
    ban(world.influencer, world.viewer)
    for attempt in (lambda: join(world.viewer, session), lambda: send(world.viewer, session)):
        with refused("PT404", "does not exist", hint=True):
            attempt()


def test_a_ban_closes_the_person_out_at_once(world, moderator):
    live = world.session()
    coming, finished = world.session(live=False), world.session(live=False)
    elsewhere = world.session(by=world.new_influencer())
    rows = [join(world.viewer, session) for session in (live, coming, elsewhere)]
    rows.append(world.join(live, world.viewer))
    others = [join(world.stranger, live), world.join(live)]
    ended = join(world.viewer, finished)
    world.influencer.api.rpc("live_stream_cancel", session_id=finished["id"])
    before = stored(world, "viewers", ended)
    wait_until(world, later(seconds=1))
    ban(moderator, world.viewer, session_id=live["id"])
    open_rows = [stored(world, "viewers", row)["is_still_watching"] for row in rows]
    assert open_rows == [False, False, True, False]
    assert all(stored(world, "viewers", row)["is_still_watching"] for row in others)
    closed = stored(world, "viewers", rows[0])
    assert closed["left_at"] and closed["watch_duration_seconds"] >= 1
    assert stored(world, "viewers", ended) == before
    now = world.read(live)
    assert (now["current_viewers"], now["peak_viewers"], now["total_unique_viewers"]) == (2, 4, 3)
    assert now["total_watch_time_seconds"] >= 2
    assert world.read(coming)["current_viewers"] == 0
    assert differences(world.db) == []
    assert join(world.new_user(), live)["is_still_watching"] is True


def test_a_place_that_a_ban_frees_is_free(world):
    session = world.session(max_viewers=1)
    join(world.viewer, session)
    with refused("PT409", "is full"):
        join(world.stranger, session)
    ban(world.influencer, world.viewer)
    assert join(world.stranger, session)["is_still_watching"] is True
    assert differences(world.db) == []


@own_db("counts all that is there")
def test_a_ban_that_is_rolled_back_never_was(world):
    session = world.session()
    viewer = join(world.viewer, session)
    with world.db.connect() as connection, pytest.raises(ZeroDivisionError), connection.transaction():
        connection.execute("set local role service_role")
        connection.execute(
            "insert into public.live_stream_bans (user_id, session_id) values (%s, %s)",
            [world.viewer.user_id, session["id"]],
        )
        (row,) = connection.execute("select current_viewers from public.live_stream_sessions").fetchall()
        assert row["current_viewers"] == 0
        raise ZeroDivisionError
    assert stored(world, "viewers", viewer)["is_still_watching"] is True
    assert world.read(session)["current_viewers"] == 1
    assert log(world) == [] and differences(world.db) == []
    assert send(world.viewer, session)


@own_db("counts all that is there")
def test_banning_again_replaces(world, moderator):
    session = world.session()
    first = ban(world.influencer, world.viewer, reason="spam")
    again = ban(moderator, world.viewer, session_id=session["id"], expires_at=later(hours=1), reason="worse")
    assert again["id"] == first["id"] and again["created_by"] == moderator.user_id
    assert again["created_at"] > first["created_at"] and again["reason"] == "worse" and again["expires_at"]
    forever = ban(world.influencer, world.viewer)
    assert (forever["expires_at"], forever["reason"], forever["session_id"]) == (None, None, None)
    assert world.db.value("select count(*) from public.live_stream_bans") == 1
    assert [act for act in log(world) if act[0] == "ban"] == [
        ("ban", who.user_id, world.viewer.user_id) for who in (world.influencer, moderator, world.influencer)]  # fmt: skip
    # A ban closes again who came in between.
    unban(world.influencer, world.viewer)
    ends = later(seconds=1)
    ban(world.influencer, world.viewer, expires_at=ends)
    wait_until(world, ends)
    viewer = join(world.viewer, session)
    ban(world.influencer, world.viewer)
    assert stored(world, "viewers", viewer)["is_still_watching"] is False


@own_db("counts all that is there")
def test_who_cannot_be_banned(world, moderator):
    second = world.new_user()
    world.influencer.api.rpc("live_stream_add_moderator", user_id=second.user_id)
    session = world.session()
    for put in (ban, timeout):
        for by, whom, words in (
            (world.influencer, world.influencer, "owns influencer"),
            (moderator, world.influencer, "owns influencer"),
            (moderator, moderator, "moderates the sessions"),
            (moderator, second, "moderates the sessions"),
            (world.influencer, moderator, "moderates the sessions"),
            (Person("", world.service), moderator, "moderates the sessions"),
        ):
            with refused("42501", words, hint=True):
                put(by, whom, session_id=session["id"])
            with refused("42501", words, hint=True):
                by.api.insert("live_stream_bans", {"session_id": session["id"], "user_id": whom.user_id,
                                                   "kind": put.__name__, "expires_at": later(hours=1)})  # fmt: skip
    assert world.db.value("select count(*) from public.live_stream_bans") == 0
    # And the other way round: who is banned is made moderator when the ban is lifted.
    for put, word in ((ban, "ban"), (timeout, "timeout")):
        put(world.influencer, world.viewer)
        with refused("23514", f"there is a {word}", hint=True):
            world.influencer.api.rpc("live_stream_add_moderator", user_id=world.viewer.user_id)
        unban(world.influencer, world.viewer)
    world.influencer.api.rpc("live_stream_add_moderator", user_id=world.viewer.user_id)


def test_nobody_else_bans_or_lifts(world, moderator, other, others_moderator):
    session = world.session()
    ban(world.influencer, world.stranger)
    for attacker in (world.viewer, world.stranger, other, others_moderator):
        for args in ({"session_id": session["id"]}, {"influencer_id": world.influencer.influencer_id}):
            for call in ("live_stream_ban", "live_stream_timeout", "live_stream_unban"):
                with refused("42501", "does not moderate", hint=True):
                    attacker.api.rpc(call, user_id=world.stranger.user_id, **args)
            with refused("42501", "does not moderate", hint=True):
                attacker.api.insert("live_stream_bans", args | {"user_id": world.viewer.user_id})
        assert attacker.api.select("live_stream_bans") == []
        assert attacker.api.update("live_stream_bans", {"reason": "x"}) == []
        assert attacker.api.delete("live_stream_bans") == []
    for attacker in (world.viewer, moderator):
        with refused("22023", "no influencer is named", hint=True):
            ban(attacker, world.stranger)
    for call in ("live_stream_ban", "live_stream_timeout", "live_stream_unban"):
        with refused("42501"):
            world.anon.rpc(call, user_id=world.viewer.user_id, session_id=session["id"])
    nobody = world.db.as_role("authenticated", {"role": "authenticated"})
    with refused("42501", "signed-in", hint=True):
        nobody.rpc("live_stream_ban", user_id=world.viewer.user_id, session_id=session["id"])
    # By somebody else's session, or one that is not there for the caller.
    mine = world.session(by=other)
    with refused("22023", "is not of influencer", hint=True):
        ban(other, world.viewer, session_id=mine["id"], influencer_id=world.influencer.influencer_id)
    private = world.session(live=False, visibility="private")
    for session_id in (private["id"], str(uuid.uuid4())):
        with refused("PT404", "does not exist", hint=True):
            ban(other, world.viewer, session_id=session_id)
    (row,) = world.service.select("live_stream_bans")
    assert (row["user_id"], row["reason"]) == (world.stranger.user_id, None)


def test_a_ban_is_not_moved_nor_forged(world, moderator, other):
    row = ban(moderator, world.viewer, influencer_id=world.influencer.influencer_id)
    mine = ban(other, world.stranger)
    where = {"id": row["id"]}
    for by, patch in (
        (moderator, {"influencer_id": other.influencer_id}),
        (world.influencer, {"influencer_id": other.influencer_id}),
        (moderator, {"user_id": world.stranger.user_id}),
        (moderator, {"kind": "timeout", "expires_at": later(hours=1)}),
        (Person("", world.service), {"user_id": world.stranger.user_id}),
    ):
        with refused("42501", "keeps its influencer", hint=True):
            by.api.update("live_stream_bans", patch, where=where)
    # Each changes its own, whatever it asks for.
    theirs = world.session(by=other, live=False)
    with refused("22023", "is not of influencer", hint=True):
        moderator.api.update("live_stream_bans", {"session_id": theirs["id"]}, where=where)
    assert [found["id"] for found in moderator.api.update("live_stream_bans", {"reason": "all"})] == [row["id"]]
    assert world.service.select("live_stream_bans", where={"id": mine["id"]}, one=True)["reason"] is None
    forged = {"created_by": world.influencer.user_id, "created_at": "2001-01-01", "id": str(uuid.uuid4())}
    changed = moderator.api.update("live_stream_bans", forged, where=where, one=True)
    assert (changed["created_by"], changed["id"]) == (moderator.user_id, row["id"]) and changed["created_at"] > "2020"
    body = forged | {"user_id": world.new_user().user_id, "influencer_id": world.influencer.influencer_id}
    made = moderator.api.insert("live_stream_bans", body)
    assert made["created_by"] == moderator.user_id and made["created_at"] > "2020"
    batch = [{"influencer_id": who.influencer_id, "user_id": world.new_user().user_id} for who in (world.influencer, other)]
    with refused("42501", "does not moderate"):
        moderator.api.insert("live_stream_bans", batch)
    assert moderator.api.select("live_stream_bans", where={"influencer_id": other.influencer_id}) == []


@own_db("counts all that is there")
@pytest.mark.parametrize(
    "args, sqlstate, words",
    [
        ({"expires_at": "2001-01-01"}, "23514", "end before it begins"),
        ({"expires_at": "infinity"}, "23514", "cannot be infinite"),
        ({"expires_at": "-infinity"}, "23514", "cannot be infinite"),
        ({"reason": "x" * 501}, "23514", "the reason is too long"),
        ({"user_id": None}, "23502", "user_id must not be null"),
    ],
)
def test_nonsense_is_refused(world, args, sqlstate, words):
    with refused(sqlstate, words, hint=True):
        world.influencer.api.rpc("live_stream_ban", {"user_id": world.viewer.user_id} | args)
    assert world.db.value("select count(*) from public.live_stream_bans") == 0
    assert ban(world.influencer, world.viewer, reason="  ")["reason"] is None
    assert ban(world.influencer, world.viewer, reason="ö" * 500)["reason"] == "ö" * 500


def test_a_ban_of_nobody(world):
    nobody = Person(str(uuid.uuid4()), world.anon)
    if world.db.is_supabase:
        with refused("23503"):
            ban(world.influencer, nobody)
    else:
        assert ban(world.influencer, nobody)["user_id"] == nobody.user_id


# Timeouts.


def test_a_timeout_silences_and_lets_watch(world, moderator):
    session = world.session()
    viewer = join(world.viewer, session)
    mine, message = send(world.viewer, session), send(world.stranger, session)
    row = timeout(moderator, world.viewer, seconds=3600, session_id=session["id"], reason="slowly")
    assert (row["kind"], row["created_by"], row["reason"]) == ("timeout", moderator.user_id, "slowly")
    length = datetime.fromisoformat(row["expires_at"]) - datetime.fromisoformat(row["created_at"])
    assert length == timedelta(hours=1)
    assert stored(world, "viewers", viewer)["is_still_watching"] is True
    for attempt in (
        lambda: world.say(session, world.viewer),
        lambda: send(world.viewer, session),
        lambda: react(world.viewer, message),
        lambda: world.viewer.api.rpc("live_stream_edit_message", message_id=mine["id"], message="x"),
        lambda: world.viewer.api.update("live_stream_chat", {"message": "x"}, where={"id": mine["id"]}),
    ):
        with refused("42501", "for a while", hint=True):
            attempt()
    assert world.viewer.api.rpc("live_stream_flag_message", message_id=message["id"])["is_flagged"] is True
    world.viewer.api.rpc("live_stream_leave", viewer_id=viewer["id"])
    assert join(world.viewer, session)["is_still_watching"] is True
    assert join(world.viewer, world.session(live=False, visibility="unlisted"))
    # A ban beside it, and the timeout is still there when that is lifted.
    ban(moderator, world.viewer, session_id=session["id"])
    with refused("42501", "is banned"):
        send(world.viewer, session)
    unban(moderator, world.viewer, session_id=session["id"], kind="ban")
    with refused("42501", "for a while"):
        send(world.viewer, session)
    timeout(world.influencer, world.viewer, seconds=1)
    wait_until(world, later(seconds=1))
    assert send(world.viewer, session) and react(world.viewer, message)
    assert differences(world.db) == []


def test_a_timeout_ends_within_a_day(world):
    row = timeout(world.influencer, world.viewer)
    assert datetime.fromisoformat(row["expires_at"]) - datetime.fromisoformat(row["created_at"]) == timedelta(minutes=5)
    timeout(world.influencer, world.viewer, seconds=86400)
    for seconds, words in ((86401, "too long"), (0, "end before"), (-5, "end before"), (2**31 - 1, "too long")):
        with refused("23514", words, hint=True):
            timeout(world.influencer, world.viewer, seconds=seconds)
    body = {"influencer_id": world.influencer.influencer_id, "user_id": world.stranger.user_id, "kind": "timeout"}
    with refused("23514", "needs an end", hint=True):
        world.influencer.api.insert("live_stream_bans", body)
    with refused("23514", "needs an end", hint=True):
        where = {"user_id": world.viewer.user_id}
        world.influencer.api.update("live_stream_bans", {"expires_at": None}, where=where)


# Guests.


@pytest.mark.parametrize("way", ["insert", "rpc"])
def test_a_guest_sees_joins_and_writes(world, way):
    session = world.session(visibility="private")
    message, product = world.say(session, world.influencer), world.product(session)
    assert sees(world.viewer, session) == [False] * 3
    body = {"session_id": session["id"], "user_id": world.viewer.user_id}
    forged = {"created_by": world.stranger.user_id, "created_at": "2001-01-01"}
    row = invite(world.influencer, session, world.viewer) if way == "rpc" else (
        world.influencer.api.insert("live_stream_guests", body | forged))  # fmt: skip
    assert row["created_by"] == world.influencer.user_id and row["created_at"] > "2020" and row["invitation_id"] is None
    assert invite(world.influencer, session, world.viewer) == row
    assert sees(world.viewer, session) == [True] * 3 and sees(world.stranger, session) == [False] * 3
    viewer = join(world.viewer, session)
    assert world.join(session, world.viewer)["viewer_type"] == viewer["viewer_type"] == "customer"
    code = world.viewer.api.rpc("live_stream_join", session_code=session["session_code"])
    assert code["session_id"] == session["id"]
    assert send(world.viewer, session)["is_moderator"] is False
    assert react(world.viewer, message)["reactions"] == {"🔥": 1}
    assert world.viewer.api.rpc("live_stream_flag_message", message_id=message["id"])["is_flagged"] is True
    assert world.viewer.api.rpc("live_stream_track_click", session_product_id=product["id"])["clicks"] == 1
    assert len(world.viewer.api.select("live_stream_chat", where={"session_id": session["id"]})) == 2
    assert len(world.viewer.api.select("live_stream_products", where={"session_id": session["id"]})) == 1
    own = {"session_id": session["id"]}
    assert [found["user_id"] for found in world.viewer.api.select("live_stream_guests", where=own)] == [world.viewer.user_id]
    assert world.stranger.api.select("live_stream_guests") == []
    assert [act for act, in log(world, "action")] == ["invite"]
    for attempt in (lambda: join(world.stranger, session), lambda: world.join(session), lambda: world.join(session, world.stranger)):
        with refused("PT404", "does not exist", hint=True):
            attempt()
    assert differences(world.db) == []


@own_db("counts all that is there")
def test_only_the_owner_invites(world, moderator, other):
    session, mine = world.session(visibility="private"), world.session(by=other, visibility="private")
    invite(world.influencer, session, world.viewer)
    body = {"session_id": session["id"], "user_id": world.stranger.user_id}
    for attacker in (world.stranger, world.viewer, other, moderator):
        state = "PT404" if attacker in (world.stranger, other) else "42501"
        for call in ("live_stream_invite", "live_stream_uninvite"):
            with refused(state, hint=True):
                attacker.api.rpc(call, body)
        with refused(state, hint=True):
            attacker.api.insert("live_stream_guests", body)
        with refused("42501", "permission denied"):
            attacker.api.update("live_stream_guests", {"session_id": session["id"]})
        assert attacker.api.delete("live_stream_guests", where={"session_id": session["id"]}) == []
    with refused("PT404"):
        other.api.insert("live_stream_guests", [body | {"session_id": mine["id"]}, body])
    for attempt in (lambda: world.anon.rpc("live_stream_invite", body), lambda: world.anon.select("live_stream_guests")):
        with refused("42501"):
            attempt()
    assert world.db.value("select count(*) from public.live_stream_guests") == 1
    with refused("23514", "is the host", hint=True):
        invite(world.influencer, session, world.influencer)
    ban(world.influencer, world.stranger)
    with refused("23514", "there is a ban", hint=True):
        invite(world.influencer, session, world.stranger)
    assert invite(Person("", world.service), session, world.new_user())["created_by"] is None


def test_a_guest_who_is_removed_is_closed_out_at_once(world):
    session, public = world.session(visibility="private"), world.session(live=False)
    for guest in (world.viewer, world.stranger):
        invite(world.influencer, session, guest)
    invite(world.influencer, public, world.viewer)
    rows = [join(world.viewer, session), world.join(session, world.viewer), join(world.stranger, session), join(world.viewer, public)]
    removed = uninvite(world.influencer, session, world.viewer)
    assert [row["user_id"] for row in removed] == [world.viewer.user_id]
    assert uninvite(world.influencer, session, world.viewer) == []
    uninvite(world.influencer, public, world.viewer)
    assert [stored(world, "viewers", row)["is_still_watching"] for row in rows] == [False, False, True, True]
    assert world.read(session)["current_viewers"] == 1
    assert sees(world.viewer, session) == [False] * 3
    patch = {"is_still_watching": True}
    for attempt in (
        lambda: join(world.viewer, session),
        lambda: send(world.viewer, session),
        lambda: world.viewer.api.update("live_stream_viewers", patch, where={"id": rows[0]["id"]}),
    ):
        with refused("PT404", "does not exist", hint=True):
            attempt()
    # By a delete of all.
    world.influencer.api.delete("live_stream_guests", where={"session_id": session["id"]})
    assert world.read(session)["current_viewers"] == 0
    assert differences(world.db) == []


def test_a_moderator_who_is_removed_is_closed_out_of_private_sessions(world, moderator):
    private, public = world.session(visibility="private"), world.session(live=False)
    invited = world.session(live=False, visibility="private")
    invite(world.influencer, invited, moderator)
    rows = [join(moderator, session) for session in (private, public, invited)]
    assert send(moderator, private)["is_moderator"] is True
    world.influencer.api.rpc("live_stream_remove_moderator", user_id=moderator.user_id)
    assert [stored(world, "viewers", row)["is_still_watching"] for row in rows] == [False, True, True]
    with refused("PT404", "does not exist"):
        join(moderator, private)
    with refused("42501", "does not moderate"):
        ban(moderator, world.viewer, session_id=public["id"])
    assert differences(world.db) == []


# Invitations.


def test_a_link_makes_guests(world):
    session = world.session(visibility="private")
    made = invitation(world.influencer, session, max_uses=2)
    assert len(made["token"]) == 32 and made["session_id"] == session["id"] and made["max_uses"] == 2
    (row,) = world.influencer.api.select("live_stream_invitations")
    assert row["id"] == made["invitation_id"] and row["uses"] == 0 and row["created_by"] == world.influencer.user_id
    kept = world.db.value("select token_hash from public.live_stream_invitations")
    assert bytes(kept) == hashlib.sha256(made["token"].encode()).digest()
    week = datetime.fromisoformat(row["expires_at"]) - datetime.fromisoformat(row["created_at"])
    assert week == timedelta(days=7)
    opened = accept(world.viewer, made["token"])
    assert opened["id"] == session["id"] and opened["title"] == session["title"]
    assert accept(world.viewer, made["token"])["id"] == session["id"]
    (guest,) = world.viewer.api.select("live_stream_guests")
    assert (guest["invitation_id"], guest["created_by"]) == (made["invitation_id"], world.viewer.user_id)
    assert world.influencer.api.select("live_stream_invitations", one=True)["uses"] == 1
    accept(world.stranger, made["token"])
    with refused("PT404", "is not valid"):
        accept(world.new_user(), made["token"])
    # Who is in is let in again, though it is used up.
    assert accept(world.viewer, made["token"])["id"] == session["id"]
    assert world.influencer.api.select("live_stream_invitations", one=True)["uses"] == 2
    assert join(world.viewer, session) and join(world.stranger, session)
    me = world.influencer.user_id
    assert log(world) == [
        ("create_invitation", me, None),
        ("accept_invitation", world.viewer.user_id, world.viewer.user_id),
        ("accept_invitation", world.stranger.user_id, world.stranger.user_id),
    ]
    assert made["token"] not in str(world.db.sql("select i::text, l::text from public.live_stream_invitations i, "
                                                 "public.live_stream_moderation_log l"))  # fmt: skip


@own_db("counts all that is there")
def test_host_and_moderators_use_no_link_up(world, moderator):
    session = world.session(visibility="private")
    made = invitation(world.influencer, session)
    for who in (world.influencer, moderator):
        assert accept(who, made["token"])["id"] == session["id"]
    assert world.influencer.api.select("live_stream_invitations", one=True)["uses"] == 0
    assert world.db.value("select count(*) from public.live_stream_guests") == 0


def test_whatever_is_wrong_with_a_token_the_answer_is_the_same(world):
    session = world.session(visibility="private")
    expired, used_up, revoked = (invitation(world.influencer, session) for _ in range(3))
    world.db.sql("update public.live_stream_invitations set expires_at = now() where id = %s", [expired["invitation_id"]])
    accept(world.viewer, used_up["token"])
    row = world.influencer.api.rpc("live_stream_revoke_invitation", invitation_id=revoked["invitation_id"])
    assert row["revoked_at"]
    assert world.influencer.api.rpc("live_stream_revoke_invitation", invitation_id=revoked["invitation_id"]) == row
    answers = set()
    for token in (expired["token"], used_up["token"], revoked["token"], "x" * 32, "", None, "' or 1 = 1", "x" * 10_000,
                  used_up["token"].lower(), used_up["token"] + " "):  # fmt: skip
        try:
            accept(world.stranger, token)
        except RequestError as error:
            answers.add((error.status, error.sqlstate, error.message, error.detail, error.hint))
    assert len(answers) == 1 and "PT404" in str(answers)
    with refused("42501"):
        world.anon.rpc("live_stream_accept_invitation", token=used_up["token"])
    nobody = world.db.as_role("authenticated", {"role": "authenticated"})
    with refused("42501", "signed-in", hint=True):
        nobody.rpc("live_stream_accept_invitation", token=used_up["token"])
    assert world.db.value("select count(*) from public.live_stream_guests") == 1
    # Its guests stay; but a revoked link lets nobody back in.
    uninvite(world.influencer, session, world.viewer)
    world.influencer.api.rpc("live_stream_revoke_invitation", invitation_id=used_up["invitation_id"])
    with refused("PT404", "is not valid", hint=True):
        accept(world.viewer, used_up["token"])


def test_a_banned_person_accepts_nothing(world):
    session = world.session(visibility="private")
    made = invitation(world.influencer, session)
    ban(world.influencer, world.viewer)
    with refused("42501", "is banned", hint=True):
        accept(world.viewer, made["token"])
    assert world.influencer.api.select("live_stream_invitations", one=True)["uses"] == 0
    timeout(world.influencer, world.stranger)
    assert accept(world.stranger, made["token"])["id"] == session["id"]


def test_only_the_owner_makes_reads_and_revokes_links(world, moderator, other):
    session = world.session(visibility="private")
    invite(world.influencer, session, world.viewer)
    made = invitation(world.influencer, session)
    body = {"session_id": session["id"], "token_hash": "\\x" + "00" * 32, "expires_at": later(days=1), "uses": 0}
    for attacker in (world.viewer, world.stranger, moderator, other):
        with refused("PT404" if attacker in (world.stranger, other) else "42501", hint=True):
            invitation(attacker, session)
        assert attacker.api.select("live_stream_invitations") == []
        with refused("PT404", "does not exist", hint=True):
            attacker.api.rpc("live_stream_revoke_invitation", invitation_id=made["invitation_id"])
    # Not even the owner writes the table, so neither hash nor uses are forged.
    for attacker in (world.viewer, world.influencer, moderator):
        for attempt in (
            lambda: attacker.api.insert("live_stream_invitations", body),
            lambda: attacker.api.update("live_stream_invitations", {"uses": 0, "max_uses": 1000}),
            lambda: attacker.api.update("live_stream_invitations", {"token_hash": body["token_hash"]}),
            lambda: attacker.api.delete("live_stream_invitations"),
        ):
            with refused("42501", "permission denied"):
                attempt()
    with refused("42501"):
        world.anon.rpc("live_stream_create_invitation", session_id=session["id"])
    with refused("22023", "must not be null", hint=True):
        world.influencer.api.rpc("live_stream_revoke_invitation", invitation_id=None)
    for args, words in (
        ({"expires_at": "2001-01-01"}, "cannot end at that time"),
        ({"expires_at": "infinity"}, "cannot end at that time"),
        ({"max_uses": 0}, "max_uses"),
        ({"max_uses": -1}, "max_uses"),
        ({"max_uses": 1_000_001}, "max_uses"),
    ):
        with refused("23514", words, hint=True):
            invitation(world.influencer, session, **args)
    assert invitation(world.influencer, session, max_uses=None)["max_uses"] is None
    assert world.service.rpc("live_stream_create_invitation", session_id=session["id"])["token"]


# The log.


@own_db("counts all that is there")
def test_the_log_is_read_by_the_influencer_and_the_server_alone_and_written_by_nobody(world, moderator, other):
    ban(moderator, world.viewer, influencer_id=world.influencer.influencer_id, reason="spam")
    assert log(world)[-1] == ("ban", moderator.user_id, world.viewer.user_id)
    assert len(world.service.select("live_stream_moderation_log")) == 2
    for reader in (moderator, world.viewer, other):
        assert reader.api.select("live_stream_moderation_log") == []
    with refused("42501"):
        world.anon.select("live_stream_moderation_log")
    body = {"influencer_id": world.influencer.influencer_id, "action": "unban", "user_id": world.viewer.user_id}
    for api in (world.influencer.api, moderator.api, other.api, world.viewer.api, world.service, world.anon):
        for attempt in (
            lambda: api.insert("live_stream_moderation_log", body),
            lambda: api.update("live_stream_moderation_log", {"reason": "nothing"}),
            lambda: api.delete("live_stream_moderation_log"),
        ):
            with refused("42501", "permission denied"):
                attempt()
    assert len(log(world)) == 2


@own_db("truncates")
def test_the_log_outlives_what_it_is_about(world, moderator):
    session = world.session(visibility="private")
    invite(world.influencer, session, world.viewer)
    invitation(world.influencer, session)
    message = send(world.viewer, session)
    join(world.viewer, session)
    moderator.api.rpc("live_stream_delete_message", message_id=message["id"], reason="rude")
    ban(moderator, world.viewer, session_id=session["id"], reason="spam", expires_at=(ends := later(seconds=1)))
    before = log(world, "id", "action", "reason")
    assert len(before) == 5
    world.service.delete("live_stream_chat", where={"id": message["id"]})
    # Also when the ban has run out, and its row is touched.
    wait_until(world, ends)
    world.influencer.api.delete("live_stream_sessions", where={"id": session["id"]})
    assert log(world, "id", "action", "reason") == before
    assert {session_id for session_id, in log(world, "session_id")} == {None}
    assert [message_id for message_id, in log(world, "message_id") if message_id] == [message["id"]]
    world.db.sql("set role service_role")
    world.db.sql("truncate public.live_stream_chat cascade")
    world.db.sql("reset role")
    assert log(world, "id", "action", "reason") == before
    assert world.influencer.api.select("live_stream_bans", one=True)["session_id"] is None
    if world.db.is_supabase:
        world.influencer.api.rpc("live_stream_invite", session_id=world.session()["id"], user_id=world.viewer.user_id)
        for person in (world.viewer, moderator):
            world.db.sql("delete from auth.users where id = %s", [person.user_id])
        after = log(world, "id", "action", "reason")
        assert after[:-1] == before and after[-1][1] == "invite", "that an account goes is nobody's act"
        assert {who for who, in log(world, "user_id")} == {None}
        assert world.service.select("live_stream_bans") == world.service.select("live_stream_moderators") == []
        assert world.service.select("live_stream_guests") == []
    world.db.owner("delete from public.influencers where id = %s", [world.influencer.influencer_id])
    assert world.service.select("live_stream_moderation_log") == []


@own_db("makes a function")
def test_a_user_who_ends_its_own_account_by_a_request(supabase_db):
    """The claims name who is going."""
    from people import people

    world = people(supabase_db)
    session = world.session(visibility="private")
    invite(world.influencer, session, world.viewer)
    supabase_db.sql("create function public.goodbye() returns void language sql security definer set search_path = ''"
                    " as $$ delete from auth.users where id = live_stream.uid() $$")  # fmt: skip
    supabase_db.reload_schema()
    world.viewer.api.rpc("goodbye")
    assert supabase_db.value("select count(*) from public.live_stream_guests") == 0
    assert log(world) == [("invite", world.influencer.user_id, None)]


def test_direct_writes_of_many_rows_are_logged_one_by_one(world, moderator):
    session = world.session()
    people = [world.new_user() for _ in range(5)]
    rows = [join(person, session) for person in people]
    batch = [{"session_id": session["id"], "user_id": person.user_id} for person in people]
    assert len(moderator.api.insert("live_stream_bans", batch)) == 5
    assert world.read(session)["current_viewers"] == 0
    assert not any(stored(world, "viewers", row)["is_still_watching"] for row in rows)
    world.service.delete("live_stream_bans", where={"influencer_id": world.influencer.influencer_id})
    acts = log(world)[1:]
    assert sorted(acts, key=str) == sorted(
        [("ban", moderator.user_id, person.user_id) for person in people]
        + [("unban", None, person.user_id) for person in people], key=str)  # fmt: skip
    messages = [send(person, session) for person in people]
    moderator.api.update("live_stream_chat", {"is_deleted": True}, where={"session_id": session["id"]})
    gone = [act for act in log(world, "action", "message_id") if act[0] == "delete_message"]
    assert sorted(gone) == sorted(("delete_message", message["id"]) for message in messages)
    assert differences(world.db) == []


# Two at once.


def in_steps(world, person, first, second):
    """Runs `first` as `person` in an open transaction while `second` runs beside it and may have to wait for it:
    (what `first` gave, what `second` gave or raised), and what is left is committed."""
    claims = f'{{"role":"authenticated","sub":"{person.user_id}"}}'
    outcome = []

    def beside():
        try:
            outcome.append(second())
        except RequestError as error:
            outcome.append(error)

    with world.db.connect("authenticator") as connection, connection.transaction():
        connection.execute("set local role authenticated")
        connection.execute("select set_config('request.jwt.claims', %s, true)", [claims])
        given = first(connection)
        thread = threading.Thread(target=beside)
        thread.start()
        thread.join(0.5)
        waited = thread.is_alive()
    thread.join()
    return given, outcome[0], waited


JOIN = "insert into public.live_stream_viewers (session_id, user_id) values (%s, %s) returning id, is_still_watching"
REOPEN = "update public.live_stream_viewers set is_still_watching = true where session_id = %s returning id, is_still_watching"
BAN = "insert into public.live_stream_bans (session_id, user_id) values (%s, %s) returning id"


@pytest.mark.parametrize("way", ["insert", "reopen", "rpc"])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_join_before_a_ban_is_committed_is_closed_by_the_ban(world, way, earlier):
    """The join is not committed yet when the ban looks who watches. `earlier`: the tables are not empty any more."""
    session = world.session()
    if earlier:
        ban(world.influencer, world.stranger)
    if way == "reopen":
        world.leave(join(world.viewer, session), world.viewer)

    def first(connection):
        if way == "insert":
            return connection.execute(JOIN, [session["id"], world.viewer.user_id]).fetchone()
        if way == "reopen":
            return connection.execute(REOPEN, [session["id"]]).fetchone()
        return connection.execute("select * from public.live_stream_join(%s)", [session["id"]]).fetchone()

    viewer, row, waited = in_steps(world, world.viewer, first, lambda: ban(world.influencer, world.viewer))
    assert viewer["is_still_watching"] is True and waited
    assert row["user_id"] == world.viewer.user_id
    assert stored(world, "viewers", viewer)["is_still_watching"] is False
    assert differences(world.db) == []
    assert world.read(session)["current_viewers"] == 0


@pytest.mark.parametrize("way", ["insert", "reopen", "rpc"])
def test_a_join_that_was_checked_before_a_ban_is_refused_after_it(world, way):
    session = world.session()
    if way == "reopen":
        world.leave(join(world.viewer, session), world.viewer)
    patch = {"is_still_watching": True}
    second = {
        "insert": lambda: world.join(session, world.viewer),
        "reopen": lambda: world.viewer.api.update("live_stream_viewers", patch, where={"session_id": session["id"]}),
        "rpc": lambda: join(world.viewer, session),
    }[way]

    def first(connection):
        return connection.execute(BAN, [session["id"], world.viewer.user_id]).fetchone()

    _, error, waited = in_steps(world, world.influencer, first, second)
    assert waited and isinstance(error, RequestError) and error.sqlstate == "42501" and "is banned" in error.message
    assert world.db.value("select count(*) from public.live_stream_viewers where is_still_watching") == 0
    assert differences(world.db) == []


def test_a_guest_who_joins_while_it_is_removed(world):
    session = world.session(visibility="private")
    invite(world.influencer, session, world.viewer)

    def first(connection):
        return connection.execute(JOIN, [session["id"], world.viewer.user_id]).fetchone()

    viewer, removed, waited = in_steps(world, world.viewer, first, lambda: uninvite(world.influencer, session, world.viewer))
    assert waited and len(removed) == 1
    assert stored(world, "viewers", viewer)["is_still_watching"] is False
    invite(world.influencer, session, world.viewer)

    def remove(connection):
        return connection.execute("delete from public.live_stream_guests where session_id = %s", [session["id"]])

    _, error, waited = in_steps(world, world.influencer, remove, lambda: join(world.viewer, session))
    assert waited and isinstance(error, RequestError) and error.sqlstate == "PT404"
    assert world.read(session)["current_viewers"] == 0
    assert differences(world.db) == []


def test_bans_and_joins_at_full_speed(world):
    """Whatever the order: at the end nobody who is banned watches, and the numbers are exact."""
    sessions = [world.session(), world.session(live=False, max_viewers=3)]
    people = [world.new_user() for _ in range(4)]
    for _ in range(5):
        calls = [lambda p=p, s=s: join(p, s) for p in people for s in sessions]
        calls += [lambda p=p: ban(world.influencer, p) for p in people]
        outcomes = at_once(*calls)
        errors = [outcome for outcome in outcomes if isinstance(outcome, RequestError)]
        assert {error.sqlstate for error in errors} <= {"42501", "PT409"}, errors
        assert world.db.value("select count(*) from public.live_stream_viewers where is_still_watching") == 0
        for person in people:
            assert len(unban(world.influencer, person)) == 1
    assert differences(world.db) == []


def test_two_accept_the_last_use(world):
    session = world.session(visibility="private")
    for _ in range(5):
        made = invitation(world.influencer, session)
        people = [world.new_user() for _ in range(4)]
        outcomes = at_once(*(lambda p=p: accept(p, made["token"]) for p in people))
        errors = [outcome for outcome in outcomes if isinstance(outcome, RequestError)]
        assert len(errors) == 3 and {error.sqlstate for error in errors} == {"PT404"}
        count = "select count(*) from public.live_stream_guests where invitation_id = %s"
        assert world.db.value(count, [made["invitation_id"]]) == 1
        (row,) = world.db.sql("select uses from public.live_stream_invitations where id = %s", [made["invitation_id"]])
        assert row["uses"] == 1


def test_one_person_accepts_twice_at_once(world):
    session = world.session(visibility="private")
    made = invitation(world.influencer, session, max_uses=5)
    outcomes = at_once(*[lambda: accept(world.viewer, made["token"])] * 4)
    assert not [outcome for outcome in outcomes if isinstance(outcome, RequestError)]
    assert world.influencer.api.select("live_stream_invitations", one=True)["uses"] == 1


def test_nobody_becomes_moderator_and_banned_at_once(world, moderator):
    for _ in range(5):
        person = world.new_user()
        outcomes = at_once(
            lambda: world.influencer.api.rpc("live_stream_add_moderator", user_id=person.user_id),
            lambda: ban(moderator, person, influencer_id=world.influencer.influencer_id),
        )
        errors = [outcome for outcome in outcomes if isinstance(outcome, RequestError)]
        assert len(errors) == 1 and errors[0].sqlstate in ("23514", "42501")


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_ban_with_an_old_snapshot_overlooks_nobody(world, isolation):
    session = world.session()
    with world.db.connect() as connection:
        connection.execute(f"begin isolation level {isolation}")
        connection.execute("select count(*) from public.live_stream_viewers")
        viewer = join(world.viewer, session)
        with pytest.raises(psycopg.errors.SerializationFailure):
            connection.execute(BAN, [session["id"], world.viewer.user_id])
        connection.execute("rollback")
    assert stored(world, "viewers", viewer)["is_still_watching"] is True
    with world.db.connect() as connection:
        connection.execute(f"begin isolation level {isolation}")
        connection.execute(BAN, [session["id"], world.viewer.user_id])
        connection.execute("commit")
    assert stored(world, "viewers", viewer)["is_still_watching"] is False
    assert differences(world.db) == []


def test_the_server_is_exempt(world):
    session = world.session(visibility="private")
    ban(world.influencer, world.viewer)
    body = {"session_id": session["id"], "user_id": world.viewer.user_id}
    assert world.service.insert("live_stream_viewers", body)["is_still_watching"] is True
    assert world.service.insert("live_stream_chat", body | {"message": "an import"})["user_id"] == world.viewer.user_id
    assert differences(world.db) == []
