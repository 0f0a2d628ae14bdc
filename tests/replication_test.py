"""A replica has the publisher's numbers while it follows, and folds what is pending once when it takes over.

Changes of a busy session are rows of a log until they are folded (worker_append_test.py). What holds on a replica at every
moment: a session's row and what is pending there are together the row and what was pending on the publisher, as of the
place that the replica has reached. So the publisher folds, and the replica follows; nobody folds on a replica but to
take over.
"""

from __future__ import annotations

import contextlib
import time
import uuid

import pytest

from database import Database, KINDS
from publishing import ask, assert_same, db, dead, differing, far, join, near, read_all, replica  # noqa: F401
from people import at_once
from recount import differences, rest, unaccounted
from replica import Show, contents, following, kept, pending, until, watching, worker_pid


# While it follows.


@pytest.mark.parametrize("kind", KINDS)
def test_an_initial_copy_of_a_busy_publisher(near, far, kind):
    """Made while visitors come and a part of what they change waits to be folded."""
    complaints = len(far.complaints())
    with near.database(kind) as db, far.database(kind) as replica:
        db.without_limits()
        show = Show(db)
        show.fill_the_log()
        starts = far.workers_started()
        with following(replica, db) as subscription:
            with show.crowd():
                until(subscription.copied, "the first copy")

            def both() -> tuple[list[str], int, int]:
                subscription.catch_up()
                return differing(replica, db), pending(replica), pending(db)

            others, here, there = show.with_a_full_log(both)
            assert others == [] and here == there > 0
            show.fold()
            subscription.catch_up()
            assert_same(replica, db)
            ask(replica)
            assert (pending(replica), worker_pid(replica), far.workers_started()) == (0, None, starts)
            rest(db)
            subscription.catch_up()
            assert kept(replica, show.id) == watching(replica, show.id) == watching(db, show.id)
            assert differences(replica) == []
    assert far.complaints()[complaints:] == []


def test_a_replica_follows_a_crowd(db, replica, far):
    """Whenever the crowd stops, the replica has the publisher's numbers; who reads there starts nothing and changes nothing."""
    show, starts = Show(db), far.workers_started()
    with following(replica, db) as subscription:
        subscription.catch_up()
        for _ in range(2):
            with show.crowd():
                end = time.monotonic() + 1.5
                while time.monotonic() < end:
                    read_all(replica, show.id)
                    ask(replica)
                    assert unaccounted(replica) == []
            subscription.catch_up()
            assert unaccounted(replica) == []
            rest(db)
            subscription.catch_up()
            assert_same(replica, db)
            assert pending(replica) == 0
        assert far.workers_started() == starts
        assert differences(replica) == []


def test_a_heartbeat_sent_to_a_replica_changes_no_number(db, replica, far):
    """A proxy that spreads requests over servers sends some to the wrong one."""
    show = Show(db)
    watcher = show.world.join(show.session, show.world.viewer)
    show.fill_the_log()
    starts = far.workers_started()
    with following(replica, db) as subscription:
        subscription.catch_up()
        before = contents(replica)["live_stream_sessions"]
        for api in (replica.as_user(show.world.viewer.user_id), replica.as_user(str(uuid.uuid4())), replica.as_anon()):
            with contextlib.suppress(Exception):
                api.rpc("live_stream_heartbeat", viewer_id=watcher["id"])
        assert contents(replica)["live_stream_sessions"] == before
        assert (pending(replica), far.workers_started()) == (pending(db), starts)


def test_a_subscription_of_other_tables_leaves_the_worker_alone(db, replica):
    """A directory of sessions alone is no replica: what is done there is counted there."""
    Show(db)
    db.sql("create publication everything for table public.influencers")
    with following(replica, db) as subscription:
        subscription.catch_up()
        own = Show(replica)
        own.fill_the_log(50)
        own.fold()
        assert differences(replica) == []
    assert differences(db) == []


def test_a_replica_takes_over_from_a_dead_publisher_with_a_full_log(db, replica, far):
    show = Show(db)
    with following(replica, db) as subscription:
        with show.crowd():
            until(lambda: kept(db, show.id) > 50, "a fold")
        show.fill_the_log()
        subscription.catch_up()
        waiting = pending(db)
        with dead(db):
            assert pending(replica) == waiting and unaccounted(replica) == []
            assert kept(replica, show.id) < watching(replica, show.id)
            subscription.end()
            starts = far.workers_started()
            at_once(*[lambda: join(replica, show.id)] * 8)
            rest(replica)
            assert far.workers_started() > starts
            assert kept(replica, show.id) == watching(replica, show.id)
            assert differences(replica) == []


@pytest.mark.parametrize("moment", [0.3, 0.9])
def test_a_replica_takes_over_in_the_middle(db, replica, moment):
    """The publisher dies under load; the replica has come as far as it has."""
    show = Show(db)
    with following(replica, db) as subscription:
        subscription.catch_up()
        with show.crowd_that_dies():
            time.sleep(moment)  # wherever they are then
            db.server.kill()
        try:
            assert unaccounted(replica) == []
            subscription.end()
            assert unaccounted(replica) == []
            join(replica, show.id)
            ask(replica)
            assert differences(replica) == []
            assert kept(replica, show.id) == watching(replica, show.id) > 1
        finally:
            db.server.restart()
            db.close()


def test_a_replica_takes_over_while_the_publisher_goes_on(db, replica):
    """And follows again: once the publisher has folded what the replica has folded, it may take over again."""
    show = Show(db)
    db.set(flush_interval=10)
    with following(replica, db) as subscription:
        subscription.catch_up()
        with show.crowd(4):
            for _ in range(2):
                until(lambda: pending(replica) > 0, "something pending")
                subscription.alter("disable")
                moment = db.value("select clock_timestamp()")
                at_once(*[lambda: ask(replica)] * 4)
                until(lambda: not subscription.applies(), "the end of following")
                ask(replica)
                assert differences(replica) == []
                subscription.alter("enable")
                until(lambda: not db.sql("select at from live_stream.metric_changes where at <= %s", [moment]), "a fold")
                subscription.catch_up()
        rest(db)
        subscription.catch_up()
        assert_same(replica, db)
        assert differences(replica) == []


def test_a_replica_takes_over_in_the_midst_of_what_it_applies(db, replica):
    """A row of the publisher's, whose numbers are without what is pending, is about to be written as the subscription is
    switched off: who folded before that would fold into what is written over."""
    show = Show(db)
    with following(replica, db) as subscription:
        show.fill_the_log(50)
        subscription.catch_up()
        with replica.connect() as somebody:
            somebody.execute("begin")
            somebody.execute("select from public.influencers for update")
            with db.connect() as host, host.transaction():
                host.execute("update public.influencers set display_name = 'other'")
                host.execute("update public.live_stream_sessions set title = 'other'")
            until(lambda: replica.sql(BLOCKED), "waiting for the row")
            subscription.alter("disable")
            for _ in range(10):
                ask(replica)
                time.sleep(0.1)  # for a worker to be hasty
            somebody.execute("commit")
        until(lambda: not subscription.applies(), "the end of following")
        assert kept(replica, show.id, "title") == "other" and unaccounted(replica) == []
        ask(replica)
        assert differences(replica) == []
        assert kept(replica, show.id) == watching(replica, show.id)


BLOCKED = """select pid from pg_stat_activity
              where backend_type like 'logical replication%' and wait_event_type = 'Lock'
                and datname = current_database()"""


# No conflict stops what applies changes.


def test_a_take_over_that_is_undone(db, replica):
    """The replica has folded what was pending; the publisher folds it too, and more; and the other way round."""
    show = Show(db)
    with following(replica, db) as subscription:
        show.fill_the_log()
        subscription.catch_up()
        subscription.alter("disable")
        ask(replica)
        assert differences(replica) == []
        with show.crowd(2):
            until(lambda: pending(db) > 400, "more in the log")
        subscription.alter("enable")
        subscription.catch_up()
        show.fold()
        rest(db)
        subscription.catch_up()
        assert_same(replica, db)
        # Now the publisher has folded what the replica has not heard of.
        subscription.alter("disable")
        with show.crowd(2):
            until(lambda: pending(db) > 100, "more in the log")
        show.fold()
        ask(replica)
        subscription.alter("enable")
        subscription.catch_up()
        rest(db)
        subscription.catch_up()
        assert_same(replica, db)
        assert differences(replica) == []


def test_a_replica_that_had_numbers_of_its_own(db, replica, far):
    """It had a worker, which has left notes in tables that are published too."""
    own = Show(replica)
    with own.crowd():
        until(lambda: kept(replica, own.id) > 50, "a fold")
    rest(replica)
    replica.sql("truncate public.influencers, public.live_stream_sessions cascade")
    show = Show(db)
    with show.crowd():
        until(lambda: kept(db, show.id) > 50, "a fold")
        with following(replica, db) as subscription:
            until(subscription.copied, "the first copy")
            starts = far.workers_started()
            time.sleep(1)  # of load
            subscription.catch_up()
            assert unaccounted(replica) == [] and far.workers_started() == starts
            replica.sql(f"drop subscription {subscription.name}")
            ask(replica)
            assert differences(replica) == []


def test_a_worker_that_runs_as_the_database_becomes_a_replica(db, replica):
    """Somebody's open transaction keeps it there; it folds nothing of what the publisher folds."""
    own, show = Show(replica), Show(db)
    with replica.connect() as connection:
        with own.crowd():
            until(lambda: pending(replica) > 0, "a change in the log")
            connection.execute("begin")
            connection.execute("insert into public.live_stream_viewers (session_id) values (%s)", [own.id])
        until(lambda: worker_pid(replica), "the worker")
        with show.crowd():
            until(lambda: kept(db, show.id) > 0, "a fold")
            with following(replica, db, copy_data="true") as subscription:
                until(subscription.copied, "the first copy")
                connection.execute("rollback")
                for _ in range(20):
                    assert kept_is_accounted(replica, show)
                    time.sleep(0.05)  # of load
                until(lambda: worker_pid(replica) is None, "the end of the worker")
                subscription.catch_up()
                assert kept_is_accounted(replica, show)


def kept_is_accounted(db: Database, show: Show) -> bool:
    return str(show.id) not in {str(row["id"]) for row in unaccounted(db)}


def test_a_replica_has_replicas(db, replica, near):
    """It passes on what it applies; the last one takes over from both."""
    show = Show(db)
    with near.database("plain") as last, following(replica, db) as first:
        with following(last, replica) as second:
            show.fill_the_log()
            first.catch_up()
            second.catch_up()
            assert_same(last, db)
            assert pending(last) > 0
            show.fold()

            def both() -> tuple[list[str], int, int]:
                first.catch_up()
                second.catch_up()
                others = differing(last, db)
                ask(replica)
                ask(last)
                return others, pending(last), pending(db)

            others, here, there = show.with_a_full_log(both)
            assert others == [] and here == there > 0
            second.end()
            ask(last)
            assert differences(last) == []
