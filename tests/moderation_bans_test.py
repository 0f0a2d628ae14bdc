"""Bans and timeouts."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

import pytest

from chatting import react, send
from moderating import (  # noqa: F401
    ban,
    invite,
    join,
    later,
    log,
    moderator,
    other,
    others_moderator,
    sees,
    stored,
    timeout,
    unban,
    wait_until,
)
from people import Person
from postgrest import RequestError
from recount import differences
from refusals import refused
from sizes import both_shapes, own_db


# Bans.


@own_db("counts or changes all that is there")
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


@own_db("counts or changes all that is there")
def test_a_ban_that_is_rolled_back_never_was(world):
    session = world.session()
    viewer = join(world.viewer, session)
    with world.db.connect() as connection, pytest.raises(ZeroDivisionError), connection.transaction():
        connection.execute("set local role service_role")
        connection.execute(
            "insert into public.live_stream_bans (user_id, session_id) values (%s, %s)",
            [world.viewer.user_id, session["id"]],
        )
        (row,) = connection.execute("select is_still_watching from public.live_stream_viewers").fetchall()
        assert row["is_still_watching"] is False
        raise ZeroDivisionError
    assert stored(world, "viewers", viewer)["is_still_watching"] is True
    assert world.read(session)["current_viewers"] == 1
    assert log(world) == [] and differences(world.db) == []
    assert send(world.viewer, session)


@own_db("counts or changes all that is there")
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


@own_db("counts or changes all that is there")
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


@own_db("counts or changes all that is there")
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


@own_db("counts or changes all that is there")
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


@both_shapes
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
