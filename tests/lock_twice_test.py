"""Who writes to a row twice in one transaction does not wait for who deletes what it refers to, and who waits for that row.

PostgreSQL checks the foreign keys of a row once more when the transaction has written it already. As a transaction
commits it may be the engine that writes it for the second time.
"""

from __future__ import annotations

import psycopg
import pytest

from busy import until
from lock_test import DELETE, at_gate, closed, gate, shop
from people import people
from recount import differences
from sizes import own_db
from steps import Steps, all_end_well, held, sqlstate

pytestmark = own_db("sets background_worker")

WORKERS = pytest.mark.parametrize("workers", ["on", "off"])

# Whoever wants the row for itself waits behind who deletes it, also when this has ended.
TITLE = "update public.live_stream_sessions set title = 'Another' where id = %s"

MESSAGE = "insert into public.live_stream_chat (session_id, message) values (%s, 'hello')"

COME_BACK = {
    "join": "select * from public.live_stream_join(%(session)s)",
    "update": "update public.live_stream_viewers set is_still_watching = true where id = %(viewer)s",
    "upsert": """insert into public.live_stream_viewers (id, session_id) values (%(viewer)s, %(session)s)
                 on conflict (id) do update set is_still_watching = true""",
}


@WORKERS
@pytest.mark.parametrize("how", COME_BACK)
def test_somebody_comes_back_to_a_session_that_is_nearly_full_while_it_is_deleted(plain_db, how, workers):
    """Who comes to one of the last places is written to once more as the transaction commits."""
    plain_db.set(background_worker=workers)
    world = people(plain_db)
    session = world.session(max_viewers=5)
    row = world.join(session, world.viewer)
    world.leave(row, world.viewer)
    with Steps(plain_db) as steps:
        coming, deleting = steps.client(world.viewer), steps.client("service_role")
        coming.run(COME_BACK[how], {"session": session["id"], "viewer": row["id"]})
        gone = deleting.start(DELETE, [session["id"]])
        deleting.waits()
        coming.commit()
        all_end_well(gone)
    assert differences(plain_db) == []


@WORKERS
@pytest.mark.parametrize("how", COME_BACK)
def test_somebody_comes_back_to_a_session_that_is_nearly_full_and_its_user_is_deleted(supabase_db, how, workers):
    """It does not come: its user goes."""
    supabase_db.set(background_worker=workers)
    world = people(supabase_db)
    session = world.session(max_viewers=5)
    row = world.join(session, world.viewer)
    world.leave(row, world.viewer)
    with Steps(supabase_db) as steps:
        coming, deleting = steps.client(world.viewer), steps.client()
        came = coming.start(COME_BACK[how], {"session": session["id"], "viewer": row["id"]}, commit=False)
        all_end_well(came)
        gone = deleting.start("delete from auth.users where id = %s", [world.viewer.user_id])
        deleting.waits()
        with pytest.raises(psycopg.Error, match=f"user {world.viewer.user_id} is being changed or deleted") as told:
            coming.commit()
        assert told.value.sqlstate == "PT409"
        all_end_well(gone)
    assert differences(supabase_db) == []


HOST_CHANGES = {
    "ends it": "status = 'ended'",
    "limits it": "max_viewers = 30",
    "names it": "title = 'Another'",
}


@WORKERS
@pytest.mark.parametrize("change", HOST_CHANGES)
def test_a_host_changes_a_session_while_the_influencer_is_deleted(plain_db, change, workers):
    """What others have done there meanwhile is not written into a row that the deletion waits for: it is appended."""
    plain_db.set(background_worker=workers)
    world = people(plain_db)
    session = world.session()
    world.join(session, world.viewer)
    with Steps(plain_db) as steps:
        hosting, writing, deleting = steps.client(world.influencer), steps.client(world.viewer), steps.client()
        hosting.run(f"update public.live_stream_sessions set {HOST_CHANGES[change]} where id = %s", [session["id"]])
        if change != "ends it":
            hosting.run(MESSAGE, [session["id"]])
        writing.start(MESSAGE, [session["id"]]).exception(timeout=20)
        gone = deleting.start("delete from public.influencers where id = %s", [world.influencer.influencer_id])
        deleting.waits()
        hosting.commit()
        all_end_well(gone)
    assert differences(plain_db) == []


def test_a_host_ends_a_session_while_somebody_has_the_influencer(plain_db):
    """And does not wait for that."""
    world = people(plain_db)
    session = world.session()
    world.join(session, world.viewer)
    with Steps(plain_db) as steps:
        keeper, hosting, writing = steps.client(), steps.client(world.influencer), steps.client(world.viewer)
        hosting.run("update public.live_stream_sessions set status = 'ended' where id = %s", [session["id"]])
        writing.start(MESSAGE, [session["id"]]).exception(timeout=20)
        keeper.run("select from public.influencers where id = %s for update", [world.influencer.influencer_id])
        all_end_well(hosting.start("select"))
        keeper.rollback()
    assert differences(plain_db) == []


def rows_of_a_show(world):
    """By table: a row, who may write to it, and what."""
    host, session, viewer, message, product, order = shop(world)
    return session, {
        "viewers": (viewer["id"], world.viewer, "country = 'Peru'"),
        "chat": (message["id"], world.viewer, "message = message || '!'"),
        "products": (product["id"], host, "clicks = clicks + 1"),
        "orders": (order["id"], "service_role", "amount = amount + 1"),
    }


@pytest.mark.parametrize("table, told", [("viewers", "PT409"), ("chat", None), ("products", "PT409"), ("orders", "PT409")])
def test_who_writes_to_a_row_twice_while_its_session_is_deleted_is_told(plain_db, table, told):
    """Or the first one keeps the session: then the deletion waits for that, and the second one for nothing."""
    world = people(plain_db)
    session, rows = rows_of_a_show(world)
    row, who, change = rows[table]
    statement = f"update public.live_stream_{table} set {change} where id = %s"
    with Steps(plain_db) as steps:
        writing, deleting = steps.client(who), steps.client("service_role")
        writing.run(statement, [row])
        gone = deleting.start(DELETE, [session["id"]])
        deleting.waits()
        second = writing.start(statement, [row])
        assert sqlstate(second) == told, second.exception()
        all_end_well(gone)
    assert differences(plain_db) == []


@WORKERS
def test_what_is_counted_on_a_row_that_is_written_already(plain_db, workers):
    """It is written for the second time as the transaction commits."""
    plain_db.set(background_worker=workers)
    world = people(plain_db)
    _, session, viewer, message, _, _ = shop(world)
    with Steps(plain_db) as steps:
        writing, deleting = steps.client("service_role"), steps.client("service_role")
        writing.run("update public.live_stream_viewers set country = 'Peru' where id = %s", [viewer["id"]])
        writing.run("delete from public.live_stream_chat where id = %s", [message["id"]])
        gone = deleting.start(DELETE, [session["id"]])
        deleting.waits()
        writing.commit()
        all_end_well(gone)
    assert differences(plain_db) == []


@WORKERS
@pytest.mark.parametrize("goes", ["session", "user"])
def test_who_is_passed_by_as_the_session_ends_and_is_deleted_then(supabase_db, goes, workers):
    """Its row would be closed as its transaction commits."""
    supabase_db.set(background_worker=workers)
    world = people(supabase_db)
    session = world.session()
    viewer = world.join(session, world.viewer)
    with Steps(supabase_db) as steps:
        writing, deleting = steps.client(world.viewer), steps.client()
        writing.run("update public.live_stream_viewers set country = 'Peru' where id = %s", [viewer["id"]])
        world.end(session)
        gone = {
            "session": lambda: deleting.start(DELETE, [session["id"]]),
            "user": lambda: deleting.start("delete from auth.users where id = %s", [world.viewer.user_id]),
        }[goes]()
        deleting.waits()
        writing.commit()
        all_end_well(gone)
    supabase_db.sql("select live_stream.flush_metrics()")
    assert supabase_db.sql("select from public.live_stream_viewers where is_still_watching") == []
    assert differences(supabase_db) == []


def thread(world, session):
    """A message with two answers."""
    first = world.say(session, world.viewer)
    return first, *(world.say(session, world.stranger, parent_message_id=first["id"]) for _ in range(2))


def test_two_kinds_of_reaction_are_counted_while_the_message_that_is_answered_is_deleted(plain_db):
    """The message is written once, and the other kind when that is done. The other numbers of the session go on."""
    world = people(plain_db)
    session = world.session()
    for person in (world.viewer, world.stranger):
        world.join(session, person)
    first, one, other = thread(world, session)
    with Steps(plain_db) as steps:
        keeper, away, deleting = held(steps, "chat", one), steps.client(), steps.client("service_role")
        away.run("select from public.live_stream_chat where id = %s for no key update", [other["id"]])
        for person, reaction in ((world.viewer, "👍"), (world.stranger, "🔥")):
            all_end_well(steps.client(person).start("select * from public.live_stream_react(%s, %s)", [other["id"], reaction]))
        gone = deleting.start("delete from public.live_stream_chat where id = %s", [first["id"]])
        deleting.waits()
        away.rollback()
        world.join(session, world.new_user())
        watching = "select current_viewers from public.live_stream_sessions where id = %s"
        until(lambda: plain_db.value(watching, [session["id"]]) == 3)
        for function in ("flush_metrics", "expire_viewers"):
            all_end_well(steps.client("service_role").start(f"select live_stream.{function}()"))
        keeper.rollback()
        all_end_well(gone)
    assert differences(plain_db) == []


def test_a_message_is_changed_and_reacted_to_while_the_one_that_it_answers_is_deleted(plain_db):
    world = people(plain_db)
    session = world.session()
    for person in (world.viewer, world.stranger):
        world.join(session, person)
    first, one, other = thread(world, session)
    with Steps(plain_db) as steps:
        keeper, writing, deleting = held(steps, "chat", one), steps.client(world.stranger), steps.client("service_role")
        writing.run("update public.live_stream_chat set message = 'better' where id = %s", [other["id"]])
        writing.run("select * from public.live_stream_react(%s, '🔥')", [other["id"]])
        gone = deleting.start("delete from public.live_stream_chat where id = %s", [first["id"]])
        deleting.waits()
        writing.commit()
        keeper.rollback()
        all_end_well(gone)
    assert differences(plain_db) == []


@pytest.mark.parametrize("wrote", ["is_still_watching = false", "country = 'Peru'"])
def test_somebody_who_has_a_row_of_the_session_joins_while_it_is_deleted(plain_db, wrote):
    """A single request waits; one of several statements is told."""
    world = people(plain_db)
    session = world.session()
    viewer = world.join(session, world.viewer)
    with Steps(plain_db) as steps:
        coming, deleting = steps.client(world.viewer), steps.client("service_role")
        coming.run(f"update public.live_stream_viewers set {wrote} where id = %s", [viewer["id"]])
        gone = deleting.start(DELETE, [session["id"]])
        deleting.waits()
        assert sqlstate(coming.start(COME_BACK["join"], {"session": session["id"]})) == "PT409"
        all_end_well(gone)
    assert differences(plain_db) == []


def test_a_single_request_to_join_waits_for_a_deletion_that_is_taken_back(plain_db):
    world = people(plain_db)
    session = world.session()
    world.join(session, world.viewer)
    with Steps(plain_db) as steps:
        deleting, coming = steps.client("service_role"), steps.client(world.viewer)
        deleting.run(DELETE, [session["id"]])
        came = coming.start(COME_BACK["join"], {"session": session["id"]})
        coming.waits()
        deleting.rollback()
        all_end_well(came)
    assert differences(plain_db) == []


@pytest.mark.parametrize("by, told", [("itself", None), ("a server", "PT409")])
def test_somebody_is_erased_who_comes_to_a_session_that_somebody_deletes(plain_db, by, told):
    """Three in a circle, if a viewer's row had the session before its user. A server cannot say beforehand whose rows it
    will write, and does not wait for long."""
    world = people(plain_db)
    gate(plain_db, "live_stream_viewers", "insert", "country")
    plain_db.owner("alter trigger a_gate on public.live_stream_viewers rename to zz_gate")
    session = world.session()
    world.leave(world.join(session, world.viewer), world.viewer)
    insert = "insert into public.live_stream_viewers (session_id, user_id, country) values (%s, %s, 'Peru')"
    with Steps(plain_db) as steps:
        writing = steps.client(world.viewer if by == "itself" else "service_role")
        erasing, deleting, hosting = steps.client("service_role"), steps.client("service_role"), steps.client(world.influencer)
        keeper = closed(steps)
        at_gate(writing, "Peru")
        written = writing.start(insert, [session["id"], world.viewer.user_id])
        writing.waits()
        hosting.run(TITLE, [session["id"]])
        gone = deleting.start(DELETE, [session["id"]])
        deleting.waits()
        erased = erasing.start("select live_stream.erase_user(%s)", [world.viewer.user_id])
        erasing.waits()
        hosting.commit()
        keeper.commit()
        assert sqlstate(written) == told, written.exception()
        if told:
            assert f"user {world.viewer.user_id} is being erased" in str(written.exception())
        all_end_well(gone, erased)
    assert differences(plain_db) == []


def test_two_heartbeats_in_one_transaction_while_the_session_is_deleted(plain_db):
    world = people(plain_db)
    session = world.session()
    viewer = world.join(session, world.viewer)
    heartbeat = "select * from public.live_stream_heartbeat(%s)"
    with Steps(plain_db) as steps:
        watching, deleting = steps.client(world.viewer), steps.client("service_role")
        watching.run(heartbeat, [viewer["id"]])
        watching.commit()
        watching.run(heartbeat, [viewer["id"]])
        gone = deleting.start(DELETE, [session["id"]])
        deleting.waits()
        watching.run(heartbeat, [viewer["id"]])
        watching.commit()
        all_end_well(gone)
