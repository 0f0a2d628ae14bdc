"""Moderators, guests and invitations."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

import pytest

from chatting import is_flagged, react, send
from moderating import (  # noqa: F401
    accept,
    ban,
    invitation,
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
    uninvite,
)
from people import Person
from postgrest import RequestError
from recount import differences
from refusals import refused
from sizes import own_db


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


@own_db("counts or changes all that is there")
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


@own_db("counts or changes all that is there")
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
    assert stored(world, "chat", message)["is_deleted"] is False and is_flagged(world, message)


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


@own_db("counts or changes all that is there")
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


@own_db("counts or changes all that is there")
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


@own_db("counts or changes all that is there")
def test_host_and_moderators_use_no_link_up(world, moderator):
    session = world.session(visibility="private")
    made = invitation(world.influencer, session)
    for who in (world.influencer, moderator):
        assert accept(who, made["token"])["id"] == session["id"]
    assert world.influencer.api.select("live_stream_invitations", one=True)["uses"] == 0
    assert world.db.value("select count(*) from public.live_stream_guests") == 0


@own_db("counts or changes all that is there")
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


@pytest.mark.parametrize("why", ["expired", "revoked", "used up"])
@pytest.mark.parametrize("visibility", ["private", "unlisted"])
def test_who_has_been_let_in_opens_the_link_again(world, moderator, visibility, why):
    session = world.session(visibility=visibility)
    made = invitation(world.influencer, session, max_uses=3)
    guest, uninvited, banned, stranger = (world.new_user() for _ in range(4))
    for person in (guest, uninvited, banned):
        accept(person, made["token"])
    uninvite(world.influencer, session, uninvited)
    ban(world.influencer, banned)
    if why == "expired":
        world.db.sql("update public.live_stream_invitations set expires_at = now() where id = %s", [made["invitation_id"]])
    elif why == "revoked":
        world.influencer.api.rpc("live_stream_revoke_invitation", invitation_id=made["invitation_id"])
    before = world.influencer.api.select("live_stream_invitations", where={"id": made["invitation_id"]})
    for person in (guest, world.influencer, moderator):
        for _ in range(2):
            assert accept(person, made["token"])["id"] == session["id"]
    for person in (uninvited, stranger):
        with refused("PT404", "is not valid", hint=True):
            accept(person, made["token"])
    with refused("42501", "is banned", hint=True):
        accept(banned, made["token"])
    # Nothing was used, and nobody has become a guest.
    assert world.influencer.api.select("live_stream_invitations", where={"id": made["invitation_id"]}) == before
    assert stranger.api.select("live_stream_guests") == uninvited.api.select("live_stream_guests") == []


@own_db("counts or changes all that is there")
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
