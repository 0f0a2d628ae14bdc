"""The background worker comes, goes, and dies: nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator

import psycopg
import pytest

from busy import (
    THREADS,
    another,
    check_all_there,
    crowd,
    join,
    kept,
    leave,
    loaded,
    pending,
    status,
    until,
    watching,
)
from database import Database, OWNER, Server
from people import people
from postgrest import RequestError
from recount import differences, rest
from sizes import own_db

pytestmark = own_db("a database has one worker")


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def configured(server: Server, *settings: str) -> Iterator[Database]:
    """A database of a server of its own, with settings that need a start."""
    for setting in settings:
        server.run("postgres", f"alter system set {setting}")
    server.crash()
    server.make_templates()
    with server.database("plain") as db:
        yield db


@pytest.mark.parametrize("victim", ["worker", "backend", "server"])
def test_killed_at_random_moments_of_a_load(fresh_server, victim):
    with configured(fresh_server, "restart_after_crash = on") as db:
        session = people(db).session(max_viewers=None)
        with loaded(db, session) as finish:
            for moment in (0.3, 0.05, 0.21):
                until(lambda: status(db)["worker_pid"])
                time.sleep(moment)  # of load: wherever they are then
                starts = fresh_server.log.count(READY)
                if victim == "server":
                    fresh_server.crash()
                elif victim == "worker":
                    kill(until(lambda: status(db)["worker_pid"]))
                else:
                    writing = "select pid from pg_stat_activity where query like 'insert into public.live%%'"
                    kill(until(lambda: db.sql(writing))[0]["pid"])
                db.close()
                # The server takes a moment to see that somebody died, and serves others meanwhile.
                until(lambda: fresh_server.log.count(READY) > starts and alive(db))
            check_all_there(db, session, finish())


READY = "database system is ready to accept connections"


def alive(db: Database) -> bool:
    try:
        db.value("select 1")
        return True
    except psycopg.Error:
        db.close()
        return False


def test_a_worker_that_is_told_to_stop_is_replaced(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with loaded(db, session) as finish:
        told: list[int] = []
        for _ in range(3):
            # A worker holds its lock a moment before it has written down that it started.
            pid = until(lambda: db.value("select max(pid) from live_stream.metric_worker where pid <> all(%s)", [told]))
            told.append(pid)
            db.sql("select pg_terminate_backend(%s)", [pid])
            until(lambda: status(db)["worker_pid"] not in (None, pid))
        # While there is load: afterwards nobody needs another.
        until(lambda: status(db)["worker_starts"] >= 4)
        check_all_there(db, session, finish())


def test_the_next_request_sees_to_what_a_worker_left(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    with db.connect() as connection:
        with another(db, session):
            join(connection, session)
            db.end_worker()
        assert pending(db) == 1
    other = world.session(by=world.new_influencer())
    until(lambda: world.join(other) and not pending(db))
    assert differences(db) == []


def test_reading_starts_no_worker(db, world):
    """Functions that policies call have no side effects: writes and heartbeats see to what a worker left."""
    session = world.session(max_viewers=None)
    with db.connect() as connection:
        with another(db, session):
            join(connection, session)
            db.end_worker()
    for api in (world.anon, world.viewer.api, world.influencer.api, world.service):
        for table in ("live_stream_sessions", "live_stream_viewers", "live_stream_chat", "live_sessions_with_details"):
            with contextlib.suppress(RequestError):
                api.select(table)
    assert db.value("select live_stream.is_service()")
    assert (pending(db), status(db)["worker_pid"]) == (1, None)
    assert differences(db) == []


def test_the_worker_leaves_and_the_log_is_empty(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with another(db, session):
        crowd(db, lambda c, n: [join(c, session) for _ in range(5)], 4)
        assert status(db)["log_bytes"] > 0
    until(lambda: status(db)["worker_pid"] is None)
    assert status(db)["log_bytes"] == 0
    # Nobody calls it back.
    assert db.value("select live_stream.is_service()") and status(db)["worker_pid"] is None
    assert differences(db) == []


def test_a_reader_does_not_keep_the_log_from_being_emptied(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    vacuums = "select vacuum_count from pg_stat_all_tables where relid = 'live_stream.metric_changes'::regclass"
    with db.connect() as reader:
        reader.execute("begin isolation level repeatable read")
        reader.execute("select from live_stream.metric_changes")
        with another(db, session):
            crowd(db, lambda c, n: [join(c, session) for _ in range(5)], 4)
        until(lambda: db.value(vacuums) > 0)
        assert status(db)["log_bytes"] > 0
    until(lambda: status(db)["worker_pid"] is None)
    assert status(db)["log_bytes"] == 0


def test_a_reader_that_stays_does_not_keep_the_worker(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect() as reader:
        reader.execute("begin isolation level repeatable read")
        reader.execute("select from live_stream.metric_changes")
        with another(db, session):
            crowd(db, lambda c, n: [join(c, session) for _ in range(5)], 4)
        until(lambda: status(db)["worker_pid"] is None)
    assert differences(db) == []


def test_the_worker_stays_while_an_appender_has_not_committed(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect() as connection:
        with another(db, session):
            connection.execute("begin")
            join(connection, session)
            with db.connect() as beside:
                join(beside, session)
        pid = until(lambda: status(db)["worker_pid"])
        time.sleep(3)
        assert status(db)["worker_pid"] == pid
        connection.execute("commit")
    rest(db)
    assert kept(db, session) == 2 and differences(db) == []


def test_each_database_has_a_worker_of_its_own(server):
    with server.database("plain") as one, server.database("plain") as two:
        sessions = [people(db).session(max_viewers=None) for db in (one, two)]
        with contextlib.ExitStack() as stack:
            for db, session in zip((one, two), sessions):
                stack.enter_context(another(db, session))
                join(stack.enter_context(db.connect()), session)
            assert (pending(one), pending(two)) == (1, 1)
            assert len({status(db)["worker_pid"] for db in (one, two)} - {None}) == 2
        assert differences(one) == differences(two) == []


def test_a_database_can_be_dropped_right_after_a_load(server):
    with server.database("plain") as db:
        session = people(db).session(max_viewers=None)
        with another(db, session):
            crowd(db, lambda c, n: join(c, session), 4)
        assert status(db)["worker_pid"]
        db.close()
        server.run("postgres", f"drop database {db.name}")


def no_worker_slots(db: Database) -> None:
    assert db.value("show max_worker_processes") == "1"  # which the launcher of logical replication has


def refuse_login(db: Database) -> None:
    db.sql(f"alter role {OWNER} nologin")


@pytest.mark.parametrize("why", ["slots", "login"])
def test_where_no_worker_can_be_started_everybody_takes_turns(fresh_server, why):
    with configured(fresh_server, "max_worker_processes = 1" if why == "slots" else "max_worker_processes = 8") as db:
        world = people(db)
        session = world.session(max_viewers=30)
        no_worker_slots(db) if why == "slots" else refuse_login(db)
        crowd(db, lambda c, n: [leave(c, join(c, session)) for _ in range(10)])
        assert (pending(db), status(db)["worker_starts"]) == (0, 0)
        assert kept(db, session, "total_unique_viewers") == 10 * THREADS
        assert differences(db) == []
        fresh_server.run("postgres", f"alter role {OWNER} login")


def test_the_worker_can_be_switched_off(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    db.sql(f"alter database {db.name} set live_stream.background_worker = off")
    crowd(db, lambda c, n: [leave(c, join(c, session)) for _ in range(10)])
    assert (pending(db), status(db)["worker_starts"]) == (0, 0)
    assert differences(db) == []


def test_what_was_pending_as_the_worker_was_switched_off(plain_db):
    """The next change folds it."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect() as connection, another(db, session):
        join(connection, session)
        db.sql(f"alter database {db.name} set live_stream.background_worker = off")
        db.end_worker()
    assert pending(db) == 1
    db.close()
    # Takes its turn behind the other, and finds what is pending.
    with db.connect() as connection, ThreadPoolExecutor(1) as threads:
        with another(db, session):
            waiting = threads.submit(join, connection, session)
        waiting.result()
    assert kept(db, session) == 2 and db.sql("select * from live_stream.verify_metrics()") == []
    assert pending(db) == 0


def test_the_extension_is_dropped_and_made_again_while_changes_are_pending(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with loaded(db, session) as finish:
        until(lambda: status(db)["folds"] > 2)
        acknowledged = finish()
        db.owner("drop extension live_stream cascade")
        db.owner("create extension live_stream")
        db.close()
        check_all_there(db, session, acknowledged)


def test_the_extension_is_dropped_under_load(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with loaded(db, session) as finish:
        until(lambda: status(db)["folds"] > 2)
        with db.connect(OWNER) as owner, owner.transaction():
            owner.execute("drop extension live_stream cascade")
            owner.execute("create extension live_stream")
        db.close()
        acknowledged = finish()
        check_all_there(db, session, acknowledged)


def test_dump_and_restore_while_changes_are_pending(plain_db, server, tmp_path):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with another(db, session), db.connect() as connection:
        join(connection, session, rows=3)
        assert pending(db) == 1
        text = server.program("pg_dump", db.name).stdout
    name = f"{db.name}_restored"
    server.run("postgres", f"create database {name} template template0 owner {OWNER}")
    try:
        server.program("psql", "-q", "-v", "ON_ERROR_STOP=1", name, input=text)
        with server.open(name) as restored:
            rest(restored)
            assert kept(restored, session) == watching(restored, session) == 3
            assert differences(restored) == []
    finally:
        server.run("postgres", f"drop database {name} with (force)")
    assert differences(db) == []
