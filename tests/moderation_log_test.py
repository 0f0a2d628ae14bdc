"""The log of what hosts and moderators did; and two of them at once."""

from __future__ import annotations

import threading

import psycopg
import pytest

from chatting import send
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
    stored,
    unban,
    uninvite,
    wait_until,
)
from people import at_once
from postgrest import RequestError
from recount import differences
from refusals import refused
from sizes import own_db


# The log.


@own_db("counts or changes all that is there")
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
    """Runs `first` as `person` in an open transaction while `second` runs beside it: what `first` gave, or why it could not
    commit, what `second` gave or raised, and whether that waited."""
    claims = f'{{"role":"authenticated","sub":"{person.user_id}"}}'
    outcome = []

    def beside():
        try:
            outcome.append(second())
        except RequestError as error:
            outcome.append(error)

    with world.db.connect("authenticator") as connection:
        try:
            with connection.transaction():
                connection.execute("set local role authenticated")
                connection.execute("select set_config('request.jwt.claims', %s, true)", [claims])
                given = first(connection)
                thread = threading.Thread(target=beside)
                thread.start()
                thread.join(0.5)
                waited = thread.is_alive()
        except psycopg.Error as error:
            given = error
    thread.join()
    return given, outcome[0], waited


JOIN = "insert into public.live_stream_viewers (session_id, user_id) values (%s, %s) returning id, is_still_watching"
REOPEN = "update public.live_stream_viewers set is_still_watching = true where session_id = %s returning id, is_still_watching"
BAN = "insert into public.live_stream_bans (session_id, user_id) values (%s, %s) returning id"


@own_db("counts or changes all that is there")
@pytest.mark.parametrize("way", ["insert", "reopen", "rpc"])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_join_that_is_not_committed_when_a_ban_is_holds_nobody_up_and_is_refused(world, way, earlier):
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

    refusal, row, waited = in_steps(world, world.viewer, first, lambda: ban(world.influencer, world.viewer))
    assert not waited and row["user_id"] == world.viewer.user_id
    assert isinstance(refusal, psycopg.errors.InsufficientPrivilege) and "is banned" in str(refusal)
    assert world.db.value("select count(*) from public.live_stream_viewers where is_still_watching") == 0
    assert differences(world.db) == []
    assert world.read(session)["current_viewers"] == 0


@own_db("counts or changes all that is there")
@pytest.mark.parametrize("way", ["insert", "reopen", "rpc"])
def test_a_join_that_was_committed_before_a_ban_is_closed_by_it(world, way):
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

    _, outcome, waited = in_steps(world, world.influencer, first, second)
    assert not waited and not isinstance(outcome, RequestError)
    assert world.db.value("select count(*) from public.live_stream_viewers where is_still_watching") == 0
    assert differences(world.db) == []


def test_a_guest_who_joins_while_it_is_removed(world):
    session = world.session(visibility="private")
    invite(world.influencer, session, world.viewer)

    def first(connection):
        return connection.execute(JOIN, [session["id"], world.viewer.user_id]).fetchone()

    refusal, removed, waited = in_steps(world, world.viewer, first, lambda: uninvite(world.influencer, session, world.viewer))
    assert not waited and len(removed) == 1 and refusal.sqlstate == "PT404"
    invite(world.influencer, session, world.viewer)

    def remove(connection):
        return connection.execute("delete from public.live_stream_guests where session_id = %s", [session["id"]])

    _, joined, waited = in_steps(world, world.influencer, remove, lambda: join(world.viewer, session))
    assert not waited and joined["is_still_watching"] is True
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


@own_db("counts or changes all that is there")
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


@own_db("counts or changes all that is there")
@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_a_ban_with_an_old_snapshot_overlooks_nobody(world, isolation):
    session = world.session()
    with world.db.connect() as connection:
        connection.execute(f"begin isolation level {isolation}")
        connection.execute("select count(*) from public.live_stream_viewers")
        viewer = join(world.viewer, session)
        connection.execute(BAN, [session["id"], world.viewer.user_id])
        with pytest.raises(psycopg.errors.SerializationFailure):
            connection.execute("commit")
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
