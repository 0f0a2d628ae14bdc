"""One order of locks: who comes back to a session waits for others and never in a circle, and holds up nobody for nothing."""

from __future__ import annotations

import pytest

from busy import blocks, until
from people import people
from recount import differences
from sizes import own_db
from steps import Steps, all_end_well, held, sqlstate

pytestmark = own_db("sets background_worker")

WORKERS = pytest.mark.parametrize("workers", ["on", "off"])


@WORKERS
@pytest.mark.parametrize("limit", [None, 1000])
def test_somebody_wants_to_come_back_to_an_ended_session_while_it_is_deleted(plain_db, workers, limit):
    plain_db.set(background_worker=workers)
    world = people(plain_db)
    session = world.session(max_viewers=limit)
    # The deletion comes to them in this order.
    one, other = sorted((world.stranger, world.viewer), key=lambda person: person.user_id)
    first, viewer = world.join(session, one), world.join(session, other)
    world.end(session)
    with Steps(plain_db) as steps:
        keeper, deleting, client = held(steps, "viewers", first), steps.client(), steps.client(other)
        gone = deleting.start("delete from public.live_stream_sessions where id = %s", [session["id"]])
        deleting.waits()
        back = client.start("update public.live_stream_viewers set is_still_watching = true where id = %s", [viewer["id"]])
        assert sqlstate(back) == "PT409"
        keeper.commit()
        all_end_well(gone)


@pytest.mark.parametrize("looks_on", [True, False])
def test_somebody_with_two_rows_comes_back_from_two_devices(plain_db, looks_on):
    """Far from the limit one viewer comes without counting the places; who may bring two counts before it has a row."""
    plain_db.without_limits()
    world = people(plain_db)
    session, user = world.session(max_viewers=5_000), world.viewer
    rows = [world.join(session, user) for _ in range(2)]
    for row in rows:
        world.leave(row, user)
    back = "update public.live_stream_viewers set is_still_watching = true where id = %s"
    with Steps(plain_db) as steps:
        # Who comes while somebody is there leaves the session to the worker; and that does not leave it, as somebody looks on.
        writing, coming, looking = steps.client(), steps.client(), steps.client()
        writing.run("insert into public.live_stream_chat (session_id, message) values (%s, 'hello')", [session["id"]])
        comes = coming.start("insert into public.live_stream_viewers (session_id) values (%s)", [session["id"]])
        coming.waits()
        writing.commit()
        all_end_well(comes)
        looking.run("select from public.live_stream_sessions where id = %s for share", [session["id"]])
        keeper, one, two = held(steps, "viewers", rows[0]), steps.client(user), steps.client(user)
        first = one.start(back, [rows[0]["id"]])
        one.waits()
        if looks_on:
            second = two.start(back, [rows[0]["id"]])
        else:
            looking.commit()
            until(lambda: blocks(plain_db, keeper.connection, one.connection))
            second = two.start(
                "insert into public.live_stream_chat (session_id, message) values (%s, 'I am back')", [session["id"]]
            )
        two.waits()
        keeper.commit()
        looking.commit()
        all_end_well(first, second)
    assert differences(plain_db) == []


@pytest.mark.parametrize("statement", ["set country = 'Peru'", "set buffering_time_seconds = 9", "set left_at = null"])
def test_who_brings_nobody_back_holds_nobody_up(plain_db, statement):
    """Whatever rows of its own it has in the session, which has places enough."""
    world = people(plain_db)
    session, user = world.session(max_viewers=5_000), world.viewer
    for _ in range(2):
        world.leave(world.join(session, user), user)
    with Steps(plain_db) as steps:
        reporting, writing = steps.client(user), steps.client(world.stranger)
        reporting.run(f"update public.live_stream_viewers {statement} where session_id = %s", [session["id"]])
        said = writing.start("insert into public.live_stream_chat (session_id, message) values (%s, 'hello')", [session["id"]])
        all_end_well(said)
        reporting.commit()
    assert differences(plain_db) == []


def watched_both(world, *people, **columns):
    """Two sessions that these people have left."""
    sessions = [world.session(by=host, **columns) for host in (world.influencer, world.new_influencer())]
    return sessions, [[world.leave(world.join(session, person), person) for session in sessions] for person in people]


def test_people_come_back_while_the_host_limits_the_places(plain_db):
    """They have watched another session too, and keep both open before they have their rows."""
    world = people(plain_db)
    both, rows = watched_both(world, world.viewer, world.stranger, max_viewers=None)
    back = "update public.live_stream_viewers set is_still_watching = true where id = %s"
    with Steps(plain_db) as steps:
        hosting, one, other = steps.client(world.influencer), steps.client(world.viewer), steps.client(world.stranger)
        hosting.run("update public.live_stream_sessions set max_viewers = 50 where id = %s", [both[0]["id"]])
        first = one.start(back, [rows[0][0]["id"]])
        second = other.start(back, [rows[1][0]["id"]])
        one.waits()
        other.waits()
        hosting.commit()
        all_end_well(first, second)
    assert differences(plain_db) == []


@WORKERS
def test_somebody_leaves_while_the_host_ends_the_session(plain_db, workers):
    """Who has watched another session too, and has its row when the host has the session's."""
    plain_db.set(background_worker=workers)
    world = people(plain_db)
    both, _ = watched_both(world, world.viewer, max_viewers=None)
    row = world.join(both[0], world.viewer)
    with Steps(plain_db) as steps:
        keeper, leaving, ending = held(steps, "viewers", row), steps.client(world.viewer), steps.client(world.influencer)
        left = leaving.start("update public.live_stream_viewers set is_still_watching = false where id = %s", [row["id"]])
        until(lambda: blocks(plain_db, keeper.connection, leaving.connection))
        ended = ending.start("update public.live_stream_sessions set status = 'ended' where id = %s", [both[0]["id"]])
        ending.waits()
        keeper.commit()
        all_end_well(left, ended)
    assert differences(plain_db) == []
