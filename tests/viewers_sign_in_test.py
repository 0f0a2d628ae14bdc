"""Sessions for signed-in viewers only, and people who have signed in without an account (Supabase's anonymous sign-ins)."""

from __future__ import annotations

import pytest

from people import Person
from recount import differences
from refusals import refused
from viewing import counts, join, rows, viewer_row

ONLY = "is for signed-in viewers only"
NO_CHAT = "only people with an account write in the chat"
# What claims may say; the first is Supabase's.
ANONYMOUS = [True, "true", "TRUE", 1, "yes", {}]
ACCOUNT = [False, None, "false", ""]


def anonymous_user(world, said=True, legacy=False, headers=None):
    """Somebody with a user id and no account."""
    person = world.new_user()
    claims = {"sub": person.user_id, "role": "authenticated", "is_anonymous": said}
    return Person(person.user_id, world.db.as_role("authenticated", claims, headers=headers, legacy=legacy))


def come_in(world, session, who, way):
    api = who.api if who else world.anon
    if way == "rpc":
        return join(api, session)
    if way == "code":
        return api.rpc("live_stream_join", session_code=session["session_code"])
    return world.join(session, who)


WAYS = pytest.mark.parametrize("way", ["insert", "rpc", "code"])


@WAYS
def test_nobody_joins_without_an_account(db, world, way):
    session = world.session(requires_sign_in=True)
    assert session["requires_sign_in"] is True
    with refused("42501", ONLY, hint=True):
        come_in(world, session, None, way)
    for said in ANONYMOUS:
        with refused("42501", ONLY, hint=True):
            come_in(world, session, anonymous_user(world, said), way)
    with refused("42501", ONLY, hint=True):
        come_in(world, session, anonymous_user(world, "true", legacy=True), way)
    assert counts(world, session) == (0, 0, 0) and rows(world, session) == []
    for said in ACCOUNT:
        come_in(world, session, anonymous_user(world, said), way)
    come_in(world, session, world.viewer, way)
    come_in(world, session, world.influencer, way)
    assert counts(world, session)[0] == len(ACCOUNT) + 2 and differences(db) == []


def test_headers_and_bodies_say_nothing_of_an_account(db, world):
    session = world.session(requires_sign_in=True)
    forged = {"is_anonymous": "true", "x-is-anonymous": "true", "request.jwt.claims": '{"is_anonymous":true}'}
    person = world.new_user()
    api = db.as_role("authenticated", {"sub": person.user_id, "role": "authenticated"}, headers=forged)
    assert join(api, session)["user_id"] == person.user_id
    assert api.rpc("live_stream_send_message", session_id=session["id"], message="hi")["user_id"] == person.user_id
    # What another claim holds is not this one.
    claims = {"sub": person.user_id, "app_metadata": {"is_anonymous": True}, "user_metadata": {"is_anonymous": True}}
    assert join(db.as_role("authenticated", claims), session)["user_id"] == person.user_id
    denied = {"is_anonymous": "false", "request.jwt.claims": '{"is_anonymous":false}'}
    with refused("42501", ONLY):
        join(anonymous_user(world, headers=denied).api, session)


def test_only_the_host_asks_for_it(world):
    session = world.session()
    assert session["requires_sign_in"] is False
    for api in (world.viewer.api, world.stranger.api):
        assert api.update("live_stream_sessions", {"requires_sign_in": True}, where={"id": session["id"]}) == []
    assert world.set_session(session, requires_sign_in=True)["requires_sign_in"] is True
    (row,) = world.anon.select("live_sessions_with_details", where={"id": session["id"]})
    assert row["requires_sign_in"] is True, "who may see it is not changed"
    made = world.influencer.api.rpc("live_stream_create", title="For members", requires_sign_in=True)
    assert made["requires_sign_in"] is True
    with refused("23502"):
        world.set_session(session, requires_sign_in=None)


def test_who_watches_already_stays(db, world):
    session = world.session()
    by_request, by_function = world.join(session), join(world.anon, session)
    guest = anonymous_user(world)
    of_guest = world.join(session, guest)
    world.set_session(session, requires_sign_in=True)
    assert counts(world, session) == (3, 3, 3)
    for viewer in (by_request, by_function):
        mine = world.anonymous(viewer)
        assert mine.rpc("live_stream_heartbeat")["is_still_watching"]
        # A page that is reloaded.
        assert join(mine, session)["id"] == viewer["id"]
        assert mine.update("live_stream_viewers", {"country": "Peru"}, where={"id": viewer["id"]}, one=True)["country"] == "Peru"
    assert join(guest.api, session)["id"] == of_guest["id"]
    assert counts(world, session) == (3, 3, 3) and differences(db) == []


@pytest.mark.parametrize("who", ["nobody", "anonymous user"])
def test_who_has_left_does_not_come_back(db, world, who):
    session = world.session()
    person = None if who == "nobody" else anonymous_user(world)
    viewer = world.join(session, person)
    api = person.api if person else world.anonymous(viewer)
    world.set_session(session, requires_sign_in=True)
    assert not world.leave(viewer, person)["is_still_watching"]
    for attempt in (
        lambda: join(api, session),
        lambda: api.update("live_stream_viewers", {"is_still_watching": True}, where={"id": viewer["id"]}),
    ):
        with refused("42501", ONLY, hint=True):
            attempt()
    assert viewer_row(world, viewer)["is_still_watching"] is False
    world.set_session(session, requires_sign_in=False)
    assert join(api, session)["id"] == viewer["id"]
    assert counts(world, session) == (1, 1, 1) and differences(db) == []


def test_what_hides_a_session_comes_first(world):
    session = world.session(visibility="private", requires_sign_in=True)
    for attempt in (lambda: world.join(session), lambda: join(world.anon, session), lambda: join(anonymous_user(world).api, session)):
        with refused("PT404", "does not exist"):
            attempt()
    guest = anonymous_user(world)
    world.influencer.api.rpc("live_stream_invite", session_id=session["id"], user_id=guest.user_id)
    with refused("42501", ONLY, hint=True):
        join(guest.api, session)
    ended = world.session(by=world.new_influencer(), requires_sign_in=True)
    world.service.update("live_stream_sessions", {"status": "ended"}, where={"id": ended["id"]})
    with refused("PT409", "cannot be joined"):
        world.join(ended)


def test_the_server_lets_in_whom_it_likes(db, world):
    session = world.session(requires_sign_in=True)
    assert world.service.insert("live_stream_viewers", {"session_id": session["id"], "viewer_type": "anonymous"})
    assert join(world.service, session)["is_still_watching"]
    assert counts(world, session)[0] == 2 and differences(db) == []


# Anonymous sign-ins.


def test_anonymous_users_are_persons_for_counting(db, world):
    session = world.session()
    one, other = anonymous_user(world), anonymous_user(world)
    for _ in range(2):
        assert world.join(session, one)["user_id"] == one.user_id
    first = join(other.api, session)
    assert join(other.api, session)["id"] == first["id"] and first["viewer_type"] == "customer"
    assert counts(world, session) == (3, 3, 2) and differences(db) == []
    assert [row["user_id"] for row in one.api.select("live_stream_viewers")] == [one.user_id] * 2


def test_anonymous_users_read_the_chat_and_do_not_write(db, world):
    session = world.session()
    message = world.say(session, world.viewer)
    for person in [anonymous_user(world, said) for said in ANONYMOUS] + [anonymous_user(world, "true", legacy=True)]:
        world.join(session, person)
        assert [row["id"] for row in person.api.select("live_stream_chat", where={"session_id": session["id"]})] == [message["id"]]
        for attempt in (
            lambda: world.say(session, person),
            lambda: world.say(session, person, "❤", message_type="reaction"),
            lambda: person.api.rpc("live_stream_send_message", session_id=session["id"], message="hi"),
            lambda: person.api.rpc("live_stream_react", message_id=message["id"], reaction="🔥"),
            lambda: person.api.rpc("live_stream_unreact", message_id=message["id"], reaction="🔥"),
            lambda: person.api.rpc("live_stream_flag_message", message_id=message["id"]),
        ):
            with refused("42501", NO_CHAT, hint=True):
                attempt()
    row = world.read(session)
    assert (row["total_messages"], row["total_reactions"]) == (1, 0) and differences(db) == []


def test_what_an_anonymous_user_wrote_it_takes_away_and_does_not_edit(db, world):
    db.set(anonymous_users_may_chat="on")
    session, person = world.session(), anonymous_user(world)
    message = world.say(session, person)
    db.set(anonymous_users_may_chat="off")
    for attempt in (
        lambda: person.api.rpc("live_stream_edit_message", message_id=message["id"], message="edited"),
        lambda: person.api.update("live_stream_chat", {"message": "edited"}, where={"id": message["id"]}),
    ):
        with refused("42501", NO_CHAT, hint=True):
            attempt()
    # The same person, once it has an account.
    account = Person(person.user_id, db.as_user(person.user_id))
    assert account.api.rpc("live_stream_edit_message", message_id=message["id"], message="edited")["message"] == "edited"
    assert person.api.rpc("live_stream_delete_message", message_id=message["id"])["is_deleted"]


def test_a_setting_lets_anonymous_users_chat(db, world):
    db.set(anonymous_users_may_chat="on")
    session, person = world.session(), anonymous_user(world)
    message = world.say(session, person)
    assert message["user_id"] == person.user_id
    assert person.api.rpc("live_stream_edit_message", message_id=message["id"], message="edited")["edited_at"]
    other = world.say(session, world.viewer)
    assert person.api.rpc("live_stream_react", message_id=other["id"], reaction="🔥")["reactions"] == {"🔥": 1}
    assert person.api.rpc("live_stream_flag_message", message_id=other["id"])["is_flagged"]
    without_user = db.as_role("authenticated", {"role": "authenticated"})
    with refused("42501", "only signed-in people"):
        without_user.insert("live_stream_chat", {"session_id": session["id"], "message": "x"})
    # Nor where the host asks for an account.
    world.set_session(session, requires_sign_in=True)
    with refused("42501", ONLY, hint=True):
        world.say(session, person)
    assert differences(db) == []


def test_the_host_writes_whatever_its_claims_say(world):
    session = world.session()
    claims = {"sub": world.influencer.user_id, "role": "authenticated", "is_anonymous": True}
    host = Person(world.influencer.user_id, world.db.as_role("authenticated", claims))
    assert world.say(session, host)["is_influencer"]
    world.set_session(session, requires_sign_in=True)
    assert join(host.api, session)["viewer_type"] == "influencer"
