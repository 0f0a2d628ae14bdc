"""What an operator has of the worker, and what others in the same database are to it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator

import psycopg
import pytest

from busy import another, code_of, crowd, join, kept, leave, pending, status, until
from database import Database, OWNER
from people import people
from postgrest import Row
from recount import differences, rest
from sizes import own_db, scale

pytestmark = own_db("a database has one worker")


def join_as_somebody(connection: psycopg.Connection, session: Row) -> None:
    """As a browser does: through the function, signed in."""
    claims = json.dumps({"role": "authenticated", "sub": str(uuid.uuid4())})
    with connection.transaction():
        connection.execute(
            "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)", [claims]
        )
        connection.execute("select public.live_stream_join(session_id => %s)", [session["id"]])


# What an operator has.


def test_recount_repairs_what_was_falsified(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    leave(db.connect(), join(db.connect(), session, world.viewer.user_id))
    world.say(session, world.viewer)
    with db.connect() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute(
            "update public.live_stream_sessions set current_viewers = 7, peak_viewers = 0, total_messages = 9,"
            " total_unique_viewers = 4, conversion_rate = 3, total_revenue = 5"
        )
    wrong = {row["counter"] for row in db.sql("select * from live_stream.verify_metrics()")}
    assert wrong >= {"current_viewers", "peak_viewers", "total_messages", "total_unique_viewers", "total_revenue"}
    # Also with changes pending, which it counts once.
    with another(db, session), db.connect() as connection:
        join(connection, session)
    db.sql("select live_stream.recount(%s)", [session["id"]])
    assert db.sql("select * from live_stream.verify_metrics()") == [] and pending(db) == 0
    assert kept(db, session) == 1 and differences(db) == []


def test_recount_says_what_is_wrong(plain_db):
    db, session = plain_db, people(plain_db).session()
    assert code_of(lambda: db.sql("select live_stream.recount(%s)", [uuid.uuid4()])) == "PT404"
    assert code_of(lambda: db.sql("select live_stream.recount(null)")) == "22023"
    with db.connect() as connection:
        connection.execute("grant usage on schema live_stream to authenticated")
        connection.execute("grant execute on function live_stream.recount to authenticated")
        connection.execute("set role authenticated")
        assert code_of(lambda: connection.execute("select live_stream.recount(%s)", [session["id"]])) == "42501"


def test_flush_folds_at_once(plain_db):
    db, world = plain_db, people(plain_db)
    sessions = [world.session(max_viewers=None, by=world.new_influencer()) for _ in range(2)]
    db.set(flush_interval="1min")
    with db.connect() as connection:
        with contextlib.ExitStack() as stack:
            for session in sessions:
                stack.enter_context(another(db, session))
                join(connection, session)
        assert pending(db) == 2
        assert db.value("select live_stream.flush_metrics(%s)", [sessions[0]["id"]]) == 1
        assert (kept(db, sessions[0]), kept(db, sessions[1]), pending(db)) == (1, 0, 1)
        assert db.value("select live_stream.flush_metrics()") == 1
        assert db.value("select live_stream.flush_metrics()") == 0
        assert kept(db, sessions[1]) == 1 and db.sql("select * from live_stream.verify_metrics()") == []
        db.end_worker()


def test_the_status_tells_the_truth(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    before = status(db)
    assert (before["worker_pid"], before["worker_starts"], before["hot_sessions"], before["pending_changes"]) == (None, 0, 0, 0)
    assert (before["lag"].total_seconds(), before["pending_since"], before["last_fold_at"], before["log_bytes"]) == (0, None, None, 0)
    with another(db, session), db.connect() as connection:
        for _ in range(5):
            join(connection, session)
        during = status(db)
        assert during["pending_changes"] == 5 and during["lag"].total_seconds() > 0 and during["log_bytes"] > 0
        (worker,) = db.sql("select backend_type, usename, datname from pg_stat_activity where pid = %s", [during["worker_pid"]])
        assert worker == {"backend_type": "live_stream metrics", "usename": OWNER, "datname": db.name}
        # It is there before it has written that down.
        until(lambda: status(db)["worker_starts"] == 1)
    until(lambda: pending(db) == 0)
    assert status(db)["hot_sessions"] in (0, 1)
    rest(db)
    after = status(db)
    # A round that had read the log before the last join folds what it read; the next one has the rest.
    assert after["folds"] in (1, 2)
    assert (after["folded_changes"], after["pending_changes"], after["hot_sessions"]) == (5, 0, 0)
    assert after["last_fold_at"] > during["pending_since"] and after["lag"].total_seconds() == 0


def test_only_the_server_sees_the_log(plain_db):
    db = plain_db
    for role in ("anon", "authenticated"):
        with db.connect() as connection:
            connection.execute(f"grant usage on schema live_stream to {role}")
            connection.execute(f"set role {role}")
            for query in (
                *(f"select * from live_stream.{name}" for name in ("metric_changes", "metric_sessions", "metric_worker", "metrics_status")),
                "select * from live_stream.verify_metrics()",
                "select live_stream.recount(gen_random_uuid())",
                "select live_stream.flush_metrics()",
                "select * from live_stream.counted_metrics",
                "select * from live_stream.counted_peaks",
                "delete from live_stream.metric_changes",
                "insert into live_stream.metric_changes (session_id, at) values (gen_random_uuid(), now())",
            ):
                assert code_of(lambda: connection.execute(query)) == "42501", query
    with db.connect() as connection:
        connection.execute("set role service_role")
        assert connection.execute("select * from live_stream.metrics_status").fetchall()
        assert connection.execute("select live_stream.flush_metrics() as n").fetchall() == [{"n": 0}]
        assert code_of(lambda: connection.execute("delete from live_stream.metric_changes")) == "42501"


# Others in the same database.


def test_advisory_locks_of_a_client_stall_nothing(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=5)
    with another(db, session), db.connect() as connection:
        world = people(db)
        other = world.session(max_viewers=None, by=world.new_influencer())
        with another(db, other):
            join(connection, other)
        keys = db.sql("select distinct classid::bigint as a, objid::bigint as b from pg_locks where locktype = 'advisory'")
    assert keys
    with db.connect() as client, db.connect(options="-c statement_timeout=5s") as connection:
        signed = lambda n: n - 2**32 if n >= 2**31 else n
        for key in keys + [{"a": 0, "b": 0}]:
            client.execute("select pg_advisory_lock(%s, %s)", [signed(key["a"]), signed(key["b"])])
            value = key["a"] << 32 | key["b"]
            client.execute("select pg_advisory_lock(%s)", [value - 2**64 if value >= 2**63 else value])
        join(connection, session)
        with another(db, session):
            pass
        with another(db, other):
            join(connection, other)
        rest(db)
        client.execute("select pg_advisory_unlock_all()")
        connection.execute("select pg_advisory_unlock_all()")
    assert differences(db) == []


@contextlib.contextmanager
def kept_hot(db: Database, session: Row) -> Iterator[None]:
    """Somebody joins all the time, so that the worker, once it has the session's turn, does not give it back."""
    stop = threading.Event()

    def come(connection: psycopg.Connection) -> None:
        while not stop.is_set():
            join(connection, session)

    with db.connect() as connection, ThreadPoolExecutor(1) as threads:
        try:
            with another(db, session):
                coming = threads.submit(come, connection)
                until(lambda: pending(db) > 0 or coming.done())
            yield
        finally:
            stop.set()
        coming.result()


def has_turn(db: Database) -> bool:
    """Whether the worker has the turn of a session beside its own lock: others append from then on."""
    locks = "select count(*) from pg_locks where pid = %s and locktype = 'advisory' and mode = 'ExclusiveLock' and granted"
    return db.value(locks, [status(db)["worker_pid"]]) > 1


def test_a_busy_session_is_updated_once_for_many_changes(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    db.owner("create table public.updates (n int)")
    db.owner("create function public.note() returns trigger language plpgsql as 'begin insert into public.updates values (1); return new; end'")
    db.owner("create trigger note after update on public.live_stream_sessions for each row execute function public.note()")
    with another(db, session):
        crowd(db, lambda c, n: [join(c, session) for _ in range(10)], 8)
        assert (pending(db), db.value("select count(*) from public.updates")) == (80, 1)
    rest(db)
    assert db.value("select count(*) from public.updates") == 2  # the first one's, and one fold
    # And while they pour in: no update but the folds. Somebody keeps the session hot until they do.
    with kept_hot(db, session):
        until(lambda: has_turn(db))
        db.sql("truncate public.updates")
        folds = status(db)["folds"]
        crowd(db, lambda c, n: [join(c, session) for _ in range(60)])
    rest(db)
    updates, folds = db.value("select count(*) from public.updates"), status(db)["folds"] - folds
    assert 0 < updates <= folds + 2 and updates < 100
    assert differences(db) == []


def test_browsers_that_join_a_hot_session_wait_for_nobody(plain_db):
    """Though its places are limited: each takes the one that it was admitted to."""
    db, session = plain_db, people(plain_db).session(max_viewers=50_000)
    db.set(flush_interval="1s")
    crowd(db, lambda c, n: [join_as_somebody(c, session) for _ in range(20)], 8)
    with db.connect() as first, db.connect() as second, first.transaction():
        join_as_somebody(first, session)
        second.execute("set lock_timeout = '5s'")
        join_as_somebody(second, session)
    rest(db)
    assert kept(db, session) == 8 * 20 + 2 and differences(db) == []


def test_the_room_of_old_versions_is_found_again(plain_db):
    """Somebody else's long query keeps old versions of the row, which moves from page to page."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)

    def vacuums() -> int:
        return db.value("select vacuum_count from pg_stat_user_tables where relname = 'live_stream_sessions'")

    db.set(flush_interval="10ms")
    with db.connect() as reader, reader.transaction():
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from public.live_stream_sessions")

        def come(connection: psycopg.Connection, n: int) -> None:
            until(lambda: join(connection, session) and vacuums() > 0, 60)

        crowd(db, come, 2)
    rest(db)
    assert differences(db) == []


@pytest.mark.parametrize("answer", ["raise 'not now';", "return null;"])
def test_an_apps_trigger_that_refuses_the_folds(plain_db, answer):
    """The session's changes wait, others are folded, and nothing is lost."""
    db, world = plain_db, people(plain_db)
    session, other = world.session(max_viewers=None), world.session(max_viewers=None, by=world.new_influencer())
    db.owner("create table public.refused (id uuid)")
    db.owner(
        f"""create function public.refuse() returns trigger language plpgsql as $$ begin
              if exists (select from public.refused r where r.id = new.id) then {answer} end if;
              return new;
            end $$"""
    )
    db.owner("create trigger refuse before update on public.live_stream_sessions for each row execute function public.refuse()")
    failures = db.server.log.count("background worker of live_stream failed")
    with db.connect() as connection:
        with another(db, session), another(db, other):
            join(connection, session)
            join(connection, other)
            db.owner("insert into public.refused values (%s)", [session["id"]])
        until(lambda: kept(db, other) and db.server.log.count("background worker of live_stream failed") > failures)
        assert (kept(db, session), pending(db)) == (0, 1)
    db.owner("truncate public.refused")
    rest(db)
    assert kept(db, session) == 1 and differences(db) == []


def test_a_fold_that_fails_and_is_tried_again_counts_nothing_twice(plain_db):
    """What the worker knows of the viewers' times is what was committed, also where a retry's changes cancel out."""
    db = plain_db
    db.set(flush_interval=500)
    session = people(db).session(max_viewers=None)
    db.owner("create table public.refused (id uuid)")
    db.owner("create sequence public.refusals")
    db.owner(
        """create function public.refuse() returns trigger language plpgsql as $$ begin
             if exists (select from public.refused r where r.id = new.id) then
               perform nextval('public.refusals');
               raise 'not now';
             end if;
             return new;
           end $$"""
    )
    db.owner("create trigger refuse before update on public.live_stream_sessions for each row execute function public.refuse()")
    with db.connect() as connection:


        def come_and_go(viewers):
            # Each by a statement of its own: the order of what one statement does is not known, and asked of the rows.
            for viewer in [join(connection, session) for _ in range(viewers)]:
                leave(connection, viewer)

        with another(db, session):
            come_and_go(3)
        until(lambda: kept(db, session, "peak_viewers") == 3)
        db.owner("insert into public.refused values (%s)", [session["id"]])
        # The worker has the session still, and two at once are fewer than its peak.
        come_and_go(2)
    until(lambda: db.value("select is_called from public.refusals"))
    db.owner("truncate public.refused")
    rest(db)
    assert kept(db, session, "peak_viewers") == 3 and differences(db) == []


@pytest.mark.parametrize("anew", ["vacuum live_stream.metric_changes", "cluster live_stream.metric_changes using metric_changes_pkey"])
def test_a_place_in_the_log_that_another_change_has_taken(plain_db, anew):
    """Between the worker's look at the log and its fold, others fold, and new changes come where the old ones were: for
    two seconds, or five."""
    db, world = plain_db, people(plain_db)
    db.without_limits()
    db.set(flush_interval=10)
    sessions = [world.session(max_viewers=None, by=world.new_influencer()) for _ in range(3)]
    ends = time.monotonic() + scale(2, 5)

    def work(connection, n):
        while time.monotonic() < ends:
            if n == 0:
                for session in sessions:
                    connection.execute("select live_stream.flush_metrics(%s)", [session["id"]])
                connection.execute(anew)
            else:
                for session in sessions:
                    join(connection, session)

    crowd(db, work, 5)
    assert all(kept(db, session) for session in sessions) and differences(db) == []


def test_a_log_of_many_entries_is_folded_in_parts(plain_db):
    """More than the worker reads at once, of sessions of which one cannot be folded for the time being."""
    db, world = plain_db, people(plain_db)
    db.without_limits()
    first, second = (world.session(max_viewers=None, by=world.new_influencer()) for _ in range(2))

    def come(connection, n):
        for _ in range(1_500):
            join(connection, (first, second)[n % 2])

    with another(db, first):
        with another(db, second):
            crowd(db, come, 8)
            assert pending(db) == 12_000
        until(lambda: kept(db, second) == 6_000, seconds=60)
        assert kept(db, first) == 0
    rest(db)
    assert kept(db, first) == 6_000 and differences(db) == []
