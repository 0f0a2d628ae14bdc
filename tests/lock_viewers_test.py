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
    """They have watched another session too. Nobody waits."""
    world = people(plain_db)
    both, rows = watched_both(world, world.viewer, world.stranger, max_viewers=None)
    back = "update public.live_stream_viewers set is_still_watching = true where id = %s"
    with Steps(plain_db) as steps:
        hosting, one, other = steps.client(world.influencer), steps.client(world.viewer), steps.client(world.stranger)
        hosting.run("update public.live_stream_sessions set max_viewers = 50 where id = %s", [both[0]["id"]])
        first = one.start(back, [rows[0][0]["id"]])
        second = other.start(back, [rows[1][0]["id"]])
        all_end_well(first, second)
        hosting.commit()
    assert differences(plain_db) == []


@WORKERS
def test_somebody_leaves_while_the_host_ends_the_session(plain_db, workers):
    """The end passes by the row that somebody has."""
    plain_db.set(background_worker=workers)
    world = people(plain_db)
    both, _ = watched_both(world, world.viewer, max_viewers=None)
    row = world.join(both[0], world.viewer)
    with Steps(plain_db) as steps:
        keeper, leaving, ending = held(steps, "viewers", row), steps.client(world.viewer), steps.client(world.influencer)
        left = leaving.start("update public.live_stream_viewers set is_still_watching = false where id = %s", [row["id"]])
        until(lambda: blocks(plain_db, keeper.connection, leaving.connection))
        ended = ending.start("update public.live_stream_sessions set status = 'ended' where id = %s", [both[0]["id"]])
        all_end_well(ended)
        keeper.commit()
        all_end_well(left)
    if workers == "off":
        # There is nobody to close a row that somebody had, but a timer.
        plain_db.sql("select live_stream.expire_viewers()")
    assert differences(plain_db) == []


WRITES = {
    "viewers": "update public.live_stream_viewers set country = 'Peru' where id = %s",
    "chat": "update public.live_stream_chat set is_flagged = true where id = %s",
}
DELETE = "delete from public.live_stream_sessions where id = %s"


def two_rows(world, session, table, who):
    make = {"viewers": lambda: world.join(session, who), "chat": lambda: world.say(session, who)}[table]
    return make(), make()


@pytest.mark.parametrize("newer_first", [True, False])
@pytest.mark.parametrize("table", WRITES)
def test_who_writes_to_several_own_rows_of_a_session_and_who_deletes_it(plain_db, table, newer_first):
    """In one of the two orders the deletion comes to them the other way round."""
    world = people(plain_db)
    session = world.session()
    older, newer = two_rows(world, session, table, world.viewer)
    one, two = (newer, older) if newer_first else (older, newer)
    with Steps(plain_db) as steps:
        writing, deleting = steps.client(world.viewer), steps.client(world.influencer)
        writing.run(WRITES[table], [one["id"]])
        gone = deleting.start(DELETE, [session["id"]])
        deleting.waits()
        writing.run(WRITES[table], [two["id"]])
        writing.commit()
        all_end_well(gone)
    assert differences(plain_db) == []


def test_who_has_several_rows_in_a_session_that_is_being_deleted_is_told(plain_db):
    world = people(plain_db)
    session = world.session()
    own, _ = two_rows(world, session, "viewers", world.viewer)
    product = world.product(session)
    world.service.rpc("live_stream_record_order", session_id=session["id"], product_id=product["product_id"], amount=20)
    (order,) = plain_db.sql("select id from public.live_stream_orders where session_id = %s", [session["id"]])
    with Steps(plain_db) as steps:
        # The deletion has the session, and none of the rows yet.
        keeper, writing, deleting = held(steps, "orders", order), steps.client(world.viewer), steps.client("service_role")
        gone = deleting.start(DELETE, [session["id"]])
        deleting.waits()
        told = writing.start(WRITES["viewers"], [own["id"]])
        assert sqlstate(told) == "PT409"
        assert "being changed or deleted" in str(told.exception())
        keeper.commit()
        all_end_well(gone)


def test_who_has_one_row_in_a_session_that_is_being_deleted_is_not_bothered(plain_db):
    world = people(plain_db)
    session = world.session()
    own = world.join(session, world.viewer)
    with Steps(plain_db) as steps:
        deleting, writing = steps.client(), steps.client(world.viewer)
        deleting.run("select from public.live_stream_sessions where id = %s for update", [session["id"]])
        all_end_well(writing.start(WRITES["viewers"], [own["id"]]))
        deleting.run(DELETE, [session["id"]])
        deleting.commit()
    assert differences(plain_db) == []
