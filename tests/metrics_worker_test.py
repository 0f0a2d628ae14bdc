"""Numbers of a busy session: appended beside each other, folded by a background worker, exact at rest.

    with another(db, session):          # somebody is at the session and has not committed yet
        join(connection, session)       # so this is appended
        assert pending(db) == 1
    rest(db)                            # the worker has folded it
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterator

import psycopg
import pytest

from database import OWNER, Database, Server
from people import at_once, people
from postgrest import RequestError, Row
from recount import differences, rest
from refusals import refused
from sizes import own_db, scale

pytestmark = own_db("a database has one worker")

THREADS = 16


@contextlib.contextmanager
def another(db: Database, session: Row) -> Iterator[psycopg.Connection]:
    """Somebody else's transaction, which has changed the session's numbers and commits at the end."""
    with db.connect() as connection, connection.transaction():
        connection.execute(
            "insert into public.live_stream_chat (session_id, message) values (%s, 'first')", [session["id"]]
        )
        yield connection


def join(connection: psycopg.Connection, session: Row, user: str | None = None, rows: int = 1) -> list[Any]:
    """The ids of new viewers."""
    query = """insert into public.live_stream_viewers (session_id, user_id)
               select %s, %s from generate_series(1, %s) returning id"""
    return [row["id"] for row in connection.execute(query, [session["id"], user, rows]).fetchall()]


def join_as_somebody(connection: psycopg.Connection, session: Row) -> None:
    """As a browser does: through the function, signed in."""
    claims = json.dumps({"role": "authenticated", "sub": str(uuid.uuid4())})
    with connection.transaction():
        connection.execute(
            "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)", [claims]
        )
        connection.execute("select public.live_stream_join(session_id => %s)", [session["id"]])


def leave(connection: psycopg.Connection, viewers: list[Any]) -> None:
    connection.execute(
        "update public.live_stream_viewers set is_still_watching = false where id = any (%s)", [viewers]
    )


def pending(db: Database) -> int:
    return db.value("select count(*) from live_stream.metric_changes")


def status(db: Database) -> dict[str, Any]:
    (row,) = db.sql("select * from live_stream.metrics_status")
    return row


def kept(db: Database, session: Row, column: str = "current_viewers") -> Any:
    """A number as the session's row has it now."""
    return db.value(f"select {column} from public.live_stream_sessions where id = %s", [session["id"]])


def watching(db: Database, session: Row) -> int:
    return db.value(
        "select count(*) from public.live_stream_viewers where session_id = %s and is_still_watching", [session["id"]]
    )


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Waits for something that happens by itself."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def waits_for_a_lock(db: Database, connection: psycopg.Connection) -> bool:
    waits = "select pid from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
    return len(db.sql(waits, [connection.info.backend_pid])) == 1


def crowd(db: Database, work: Callable[[psycopg.Connection, int], Any], threads: int = THREADS) -> list[Any]:
    """Does the work on many connections at the same time; what each returned."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(db.connect()) for _ in range(threads)]
        return at_once(*[lambda c=c, n=n: work(c, n) for n, c in enumerate(connections)])


def code_of(call: Callable[[], Any]) -> str | None:
    """The SQLSTATE of the refusal; none if there is none."""
    try:
        call()
    except psycopg.Error as error:
        return error.sqlstate
    return None


# How a change is made.


def test_one_who_is_alone_sees_its_change_at_once_and_needs_no_worker(plain_db):
    db, session = plain_db, people(plain_db).session()
    with db.connect() as connection, connection.transaction():
        for expected in (1, 2, 3):
            join(connection, session)
            (row,) = connection.execute("select current_viewers from public.live_stream_sessions").fetchall()
            assert row["current_viewers"] == expected
    assert (pending(db), status(db)["worker_pid"], status(db)["folds"]) == (0, None, 0)
    assert differences(db) == []


def test_beside_another_a_change_is_appended_and_folded_later(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect() as connection:
        with another(db, session):
            join(connection, session)
            assert (pending(db), kept(db, session), watching(db, session)) == (1, 0, 1)
            assert status(db)["worker_pid"] is not None
        rest(db)
        assert (kept(db, session), kept(db, session, "total_messages")) == (1, 1)
    assert differences(db) == []


def test_an_update_of_the_row_alone_makes_others_append(plain_db):
    """A host that keeps its session open in an editor holds nobody up."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect() as host, db.connect() as connection:
        with host.transaction():
            host.execute("update public.live_stream_sessions set title = 'new' where id = %s", [session["id"]])
            join(connection, session)
            assert pending(db) == 1
        rest(db)
    assert (kept(db, session), kept(db, session, "title")) == (1, "new") and differences(db) == []


BRANCHES = {
    "savepoint": ["savepoint s", "{join}", "rollback to s", "{join}"],
    "twice": ["savepoint s", "{join}", "rollback to s", "{join}", "rollback to s", "{join}"],
    "released": ["savepoint s", "{join}", "release s"],
    "released, then undone": ["{join}", "savepoint s", "savepoint t", "{join}", "release t", "rollback to s"],
    "before and after": ["{join}", "savepoint s", "{join}", "rollback to s"],
    "caught": ["do $$ begin begin {join}; raise 'no'; exception when others then {join}; end; end $$"],
}


@pytest.mark.parametrize("contended", [False, True], ids=["at once", "appended"])
@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("max_viewers", [None, 2])
def test_what_is_undone_in_part(plain_db, contended, branch, max_viewers):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    text = f"insert into public.live_stream_viewers (session_id) values ('{session['id']}')"
    if max_viewers:
        people(db)  # the session's own limit, set by its owner
        db.owner("update public.live_stream_sessions set max_viewers = %s", [max_viewers])
    with db.connect() as connection, contextlib.ExitStack() as stack:
        # Places are counted on the row, for which everybody waits.
        holder = stack.enter_context(another(db, session)) if contended and not max_viewers else None
        connection.execute("begin")
        for statement in BRANCHES[branch]:
            connection.execute(statement.format(join=text))
        assert (holder is None) or pending(db) == 0
        connection.execute("commit")
        assert pending(db) == (1 if holder else 0)
        connection.execute("begin")
        connection.execute(text)
        connection.execute("rollback")
    rest(db)
    assert kept(db, session) == 1 and differences(db) == []


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_stricter_isolation_appends(plain_db, level):
    """Its snapshot may be older than the row, so it does not update it."""
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    with db.connect() as connection:
        connection.execute(f"set default_transaction_isolation = '{level}'")
        with connection.transaction():
            connection.execute("select from public.live_stream_sessions")
            join(db.connect(), session)  # in between
            viewers = join(connection, session)
            leave(connection, viewers)
            join(connection, session)
        rest(db)
        assert kept(db, session) == 2 and kept(db, session, "peak_viewers") == 2
        with another(db, session):
            join(connection, session)
        with connection.transaction():
            connection.execute("update public.live_stream_sessions set status = 'ended'")
    assert kept(db, session) == 0 and differences(db) == []


def test_an_end_with_an_old_snapshot_asks_to_be_run_again(plain_db):
    """It cannot see what is pending, and must not lose it."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect() as connection, db.connect() as joiner, db.connect() as host:
        host.execute("begin isolation level repeatable read")
        host.execute("select from public.live_stream_sessions")
        with another(db, people(db).session(max_viewers=None)):
            joiner.execute("begin isolation level repeatable read")
            join(joiner, session)
            joiner.execute("commit")
            error = code_of(lambda: host.execute("update public.live_stream_sessions set status = 'ended'"))
        host.execute("rollback")
        assert error == "40001"
        connection.execute("update public.live_stream_sessions set status = 'ended' where id = %s", [session["id"]])
    assert kept(db, session) == 0 and differences(db) == []


@pytest.mark.parametrize("worker", ["on", "off"])
@pytest.mark.parametrize("how", ["statement_timeout", "lock_timeout", "cancel"])
def test_waiting_in_the_trigger_can_be_broken_off(plain_db, how, worker):
    """Who ends the session holds everybody back; so does who has the row, where there is no worker."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect(options=f"-c live_stream.background_worker={worker}") as connection, db.connect() as host:
        if how != "cancel":
            connection.execute(f"set {how} = '50ms'")
        host.execute("begin")
        host.execute("update public.live_stream_sessions set status = 'ended' where id = %s", [session["id"]])
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(code_of, lambda: join(connection, session))
            if how == "cancel":
                waits = "select pg_cancel_backend(pid) from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
                until(lambda: db.sql(waits, [connection.info.backend_pid]))
            assert waiting.result() == {"lock_timeout": "55P03"}.get(how, "57014")
        host.execute("rollback")
        connection.execute("reset all")
        join(connection, session)
    rest(db)
    assert kept(db, session) == 1 and differences(db) == []


def test_prepared_transactions(fresh_server):
    """They hold what they hold: the others append meanwhile, and the worker stays until they are finished."""
    fresh_server.run("postgres", "alter system set max_prepared_transactions = 5")
    fresh_server.crash()
    fresh_server.make_templates()
    with fresh_server.database("plain") as db:
        session = people(db).session(max_viewers=None)
        for verdict, before, after in (("commit", 0, 5), ("rollback", 5, 6)):
            with db.connect() as connection:
                # One that has the row, and one that has appended.
                for name in ("row", "log"):
                    connection.execute("begin")
                    join(connection, session, rows=2)
                    connection.execute(f"prepare transaction '{name}'")
                join(connection, session)
                assert (pending(db), kept(db, session)) == (1, before)
            fresh_server.crash()
            db.close()
            with db.connect() as connection:
                assert (pending(db), kept(db, session)) == (1, before)
                for name in ("row", "log"):
                    connection.execute(f"{verdict} prepared '{name}'")
            rest(db)
            assert kept(db, session) == after and differences(db) == []


# The session itself changes meanwhile.


def test_a_session_deleted_while_changes_are_pending(plain_db):
    db, world = plain_db, people(plain_db)
    session, other = world.session(max_viewers=None), world.session(max_viewers=None, by=world.new_influencer())
    with db.connect() as connection:
        with another(db, session):
            gone = join(connection, session, rows=3)
            # Takes a row away that the peak was counted from.
            connection.execute("delete from public.live_stream_viewers where id = %s", [gone[0]])
            join(connection, other)
            assert pending(db) >= 2
        connection.execute("delete from public.live_stream_sessions where id = %s", [session["id"]])
    rest(db)
    assert kept(db, other) == 1 and differences(db) == []


def test_a_session_deleted_while_its_peak_is_in_doubt(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect() as connection:
        with another(db, session):
            (viewer, *_) = join(connection, session, rows=3)
            connection.execute("delete from public.live_stream_viewers where id = %s", [viewer])
        # Folded, but not at rest yet.
        until(lambda: pending(db) == 0)
        connection.execute("delete from public.live_stream_sessions where id = %s", [session["id"]])
    rest(db)


def test_ending_settles_what_is_pending(plain_db):
    """The row that the host gets is final."""
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    product = world.product(session)
    with db.connect() as connection:
        holder = db.connect()
        holder.execute("begin")
        holder.execute("update public.live_stream_products set clicks = clicks + 1")
        viewers = join(connection, session, rows=4) + join(connection, session, world.viewer.user_id)
        leave(connection, viewers[:2])
        world.say(session, world.viewer)
        world.service.insert(
            "live_stream_orders", {"session_id": session["id"], "product_id": world.product(session)["product_id"], "amount": 5}
        )
        assert pending(db) >= 4 and kept(db, session) == 0
        with ThreadPoolExecutor(1) as threads:
            ending = threads.submit(world.end, session)
            holder.execute("commit")
            ended = ending.result()
        columns = ("current_viewers", "peak_viewers", "total_unique_viewers", "total_messages", "total_orders", "total_clicks")
        assert [ended[column] for column in columns] == [0, 5, 5, 1, 1, 1] and float(ended["total_revenue"]) == 5
        assert pending(db) == 0 and watching(db, session) == 0
        with refused("PT409", "is ended"):
            world.join(session)
        assert code_of(lambda: join(connection, session)) == "PT409"
        holder.close()
    again = world.read(session)
    assert {column: again[column] for column in columns} == {column: ended[column] for column in columns}
    assert product and differences(db) == []


@pytest.mark.parametrize("round", range(3))
def test_ending_under_a_crowd(plain_db, round):
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=[None, 100_000, 400][round])

    def come(connection, number):
        count = 0
        while True:
            error = code_of(lambda: join(connection, session))
            if error:
                return error, count
            count += 1

    def end(connection, number):
        until(lambda: watching(db, session) > 60)
        return connection.execute("update public.live_stream_sessions set status = 'ended' returning *").fetchone()

    *comers, ended = crowd(db, lambda c, n: end(c, n) if n == THREADS else come(c, n), THREADS + 1)
    assert {error for error, _ in comers} == {"PT409"}
    assert ended["total_unique_viewers"] == sum(count for _, count in comers)
    assert pending(db) == 0 and ended["current_viewers"] == 0
    assert differences(db) == []


def test_the_host_goes_on_while_the_session_is_busy(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)

    def work(connection, number):
        if number == 0:
            for n in range(25):
                world.set_session(session, title=f"title {n}")
        else:
            for _ in range(40):
                leave(connection, join(connection, session))

    crowd(db, work)
    row = world.read(session)
    assert (row["title"], row["current_viewers"] if rest(db) else 0) == ("title 24", 0)
    assert kept(db, session, "total_unique_viewers") == 40 * (THREADS - 1) and differences(db) == []


# The limit, and the peak.


@pytest.mark.parametrize("limit, attempts", [(1, 10), (20, 20), (300, 30), (1_400, 110)])
def test_a_limit_holds_exactly_under_a_crowd(plain_db, limit, attempts):
    """Small ones are counted one by one; a large one is not, until few places are left."""
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=limit)
    outcomes = [
        outcome
        for outcomes in crowd(db, lambda c, n: [code_of(lambda: join(c, session)) for _ in range(attempts)])
        for outcome in outcomes
    ]
    admitted = outcomes.count(None)
    assert set(outcomes) <= {None, "PT409"}
    assert admitted == watching(db, session) == min(limit, THREADS * attempts)
    rest(db)
    assert kept(db, session, "peak_viewers") == admitted and differences(db) == []


@pytest.mark.parametrize("limit", [8, 1_100])
def test_a_limit_holds_while_others_leave(plain_db, limit):
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=limit)
    with db.connect() as connection:
        join(connection, session, rows=limit - 5)

    def work(connection, number):
        mine, refusals = [], set()
        for n in range(40):
            if mine and n % 3 == 2:
                leave(connection, [mine.pop()])
            else:
                refusals.add(code_of(lambda: mine.extend(join(connection, session))))
        return refusals

    refusals = set().union(*crowd(db, work))
    assert refusals == {None, "PT409"}
    rest(db)
    assert kept(db, session, "peak_viewers") == limit and differences(db) == []


@pytest.mark.parametrize("limit", [None, 5_000, 200])
def test_statements_of_many_rows_at_once(plain_db, limit):
    """None waits for another in a circle."""
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=limit)

    def work(connection, number):
        errors = set()
        for n in range(8):
            viewers = []
            errors.add(code_of(lambda: viewers.extend(join(connection, session, rows=5))))
            if viewers and n % 2:
                errors.add(code_of(lambda: leave(connection, viewers[:3])))
        return errors

    assert set().union(*crowd(db, work)) <= {None, "PT409"}
    rest(db)
    assert limit is None or kept(db, session, "peak_viewers") <= limit
    assert differences(db) == []


def test_the_peak_of_a_crowd_that_comes_and_goes(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)

    def work(connection, number):
        for n in range(30):
            with connection.transaction(force_rollback=n % 7 == 6):
                viewers = join(connection, session, rows=1 + n % 2)
                if n % 3 == 0:
                    leave(connection, viewers[:1])
            if n % 3 and n % 7 != 6:
                leave(connection, viewers)

    crowd(db, work)
    assert differences(db) == []


def test_the_peak_where_a_slow_leave_meets_a_quick_join(plain_db):
    """Somebody leaves in a statement that takes its time; the next one has come before it is done."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect() as slow, db.connect() as quick:
        first, second = join(quick, session, rows=2)
        with ThreadPoolExecutor(1) as threads:
            query = """update public.live_stream_viewers set is_still_watching = false
                        where id = %s or (id = %s and pg_advisory_lock(7) is null)"""
            db.sql("select pg_advisory_lock(7)")
            leaving = threads.submit(slow.execute, query, [first, second])
            until(lambda: leaving.done() or waits_for_a_lock(db, slow))
            assert not leaving.done(), leaving.result()
            join(quick, session)
            db.sql("select pg_advisory_unlock(7)")
            leaving.result()
    assert differences(db) == []
    assert kept(db, session, "peak_viewers") == 2


def test_the_same_person_from_many_connections_counts_once(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    persons = [world.new_user().user_id for _ in range(3)]
    crowd(db, lambda c, n: [join(c, session, persons[(n + k) % 3]) for k in range(10)])
    rest(db)
    assert kept(db, session, "total_unique_viewers") == 3 and kept(db, session) == 10 * THREADS
    assert differences(db) == []


def test_many_people_in_one_transaction(plain_db):
    """An import of many viewers, few by few, in one transaction: the server has no lock for each of them."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect() as connection:
        connection.execute(
            f"""do $$ begin for n in 1 .. 500 loop
                  insert into public.live_stream_viewers (session_id, user_id)
                  select '{session["id"]}', gen_random_uuid() from generate_series(1, 60);
                end loop; end $$"""
        )
    rest(db)
    assert kept(db, session, "total_unique_viewers") == 30_000


# The worker comes, goes, and dies.


def loaded(db: Database, session: Row) -> Callable[[], set[Any]]:
    """Starts joins from many connections, until called: then returns the ids whose join was acknowledged."""
    stop: list[bool] = []

    def work(number):
        seen, connection = set(), None
        while not stop:
            try:
                connection = connection or db.connect()
                seen.update(join(connection, session))
            except psycopg.Error:
                connection = None
        if connection:
            connection.close()
        return seen

    threads = ThreadPoolExecutor(8)
    tasks = [threads.submit(work, number) for number in range(8)]

    def finish():
        stop.append(True)
        found = set().union(*[task.result() for task in tasks])
        threads.shutdown()
        return found

    return finish


def check_all_there(db: Database, session: Row, acknowledged: set[Any]) -> None:
    found = {row["id"] for row in db.sql("select id from public.live_stream_viewers where session_id = %s", [session["id"]])}
    assert acknowledged and acknowledged <= found
    assert differences(db) == []
    assert kept(db, session) == len(found) and db.sql("select * from live_stream.verify_metrics()") == []


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
        finish = loaded(db, session)
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
    finish = loaded(db, session)
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
            pid = status(db)["worker_pid"]
            db.sql("select pg_terminate_backend(%s)", [pid])
            until(lambda: status(db)["worker_pid"] is None)
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
            pid = status(db)["worker_pid"]
            db.sql("select pg_terminate_backend(%s)", [pid])
            until(lambda: status(db)["worker_pid"] is None)
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
        pid = until(lambda: status(db)["worker_pid"])
        time.sleep(3)
        assert status(db)["worker_pid"] == pid
        connection.execute("commit")
    rest(db)
    assert kept(db, session) == 1 and differences(db) == []


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
        pid = status(db)["worker_pid"]
        db.sql("select pg_terminate_backend(%s)", [pid])
        until(lambda: status(db)["worker_pid"] is None)
    assert pending(db) == 1
    db.close()
    # Takes its turn behind the other, and finds what is pending.
    with db.connect() as connection, ThreadPoolExecutor(1) as threads:
        with another(db, session):
            waiting = threads.submit(join, connection, session)
            until(lambda: db.sql("select pid from pg_stat_activity where wait_event_type = 'Lock'"))
        waiting.result()
    assert kept(db, session) == 2 and db.sql("select * from live_stream.verify_metrics()") == []
    assert pending(db) == 0


def test_the_extension_is_dropped_and_made_again_while_changes_are_pending(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    finish = loaded(db, session)
    until(lambda: status(db)["folds"] > 2)
    acknowledged = finish()
    db.owner("drop extension live_stream cascade")
    db.owner("create extension live_stream")
    db.close()
    check_all_there(db, session, acknowledged)


def test_the_extension_is_dropped_under_load(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    finish = loaded(db, session)
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
    db.sql(f"alter database {db.name} set live_stream.flush_interval = '1min'")
    db.close()
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
        db.sql("select pg_terminate_backend(%s)", [status(db)["worker_pid"]])


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
        with another(db, session):
            coming = threads.submit(come, connection)
            until(lambda: pending(db) > 0 or coming.done())
        try:
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
        assert (pending(db), db.value("select count(*) from public.updates")) == (80, 0)
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
        one_by_one = """do $$ begin
            for n in 1 .. 3000 loop insert into public.live_stream_viewers (session_id) values ('%s'); end loop;
          end $$"""
        connection.execute(one_by_one % (first, second)[n % 2]["id"])

    with another(db, first):
        with another(db, second):
            crowd(db, come, 4)
            assert pending(db) == 12_000
        until(lambda: kept(db, second) == 6_000, seconds=60)
        assert kept(db, first) == 0
    rest(db)
    assert kept(db, first) == 6_000 and differences(db) == []


# What the app brings along, and what the server has room for.


def test_one_session_whose_numbers_are_refused_holds_up_no_other(plain_db):
    """An app's trigger refuses them as late as at the commit."""
    db = plain_db
    world = people(db)
    sessions = [world.session(max_viewers=None, by=world.new_influencer(f"Host {n}")) for n in range(3)]
    refused_one, *others = sorted(sessions, key=lambda session: session["id"])
    db.owner(
        f"""create function public.refuse() returns trigger language plpgsql as $$
              begin
                if new.id = '{refused_one["id"]}' and new.current_viewers > 1 then
                  raise 'the app says no';
                end if;
                return null;
              end $$;
            create constraint trigger refuse after update on public.live_stream_sessions
              deferrable initially deferred for each row execute function public.refuse()"""
    )
    with db.connect() as connection:
        for session in sessions:
            with another(db, session):
                join(connection, session, rows=2)
        until(lambda: [kept(db, session) for session in others] == [2, 2])
        starts = status(db)["worker_starts"]
        db.owner("drop trigger refuse on public.live_stream_sessions")
        rest(db)
        assert status(db)["worker_starts"] == starts, "one worker has gone on"
    assert kept(db, refused_one) == 2 and differences(db) == []


def test_a_worker_in_an_apps_trigger_ends_when_it_is_told_to(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    db.owner(
        """create function public.slow() returns trigger language plpgsql as $$
             begin
               if new.current_viewers > 1 then perform pg_sleep(60); end if;
               return new;
             end $$;
           create trigger zz_slow before update on public.live_stream_sessions
             for each row execute function public.slow()"""
    )
    with db.connect() as connection, another(db, session):
        join(connection, session, rows=2)
    asleep = "select pid from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
    (worker,) = until(lambda: db.sql(asleep))
    assert db.value("select pg_terminate_backend(%s, 20000)", [worker["pid"]]) is True
    db.owner("drop trigger zz_slow on public.live_stream_sessions")
    rest(db)
    assert kept(db, session) == 2 and differences(db) == []


def test_more_busy_sessions_than_the_server_has_locks(fresh_server):
    """It is full at some hundreds here; the worker folds them all, and others get in meanwhile."""
    for setting in ("max_connections = 10", "max_locks_per_transaction = 20", "max_wal_senders = 2"):
        fresh_server.run("postgres", f"alter system set {setting}")
    fresh_server.crash()
    fresh_server.make_templates()
    with fresh_server.database("plain") as db:
        world = people(db)
        db.set(flush_interval=500)
        db.sql(
            """insert into public.live_stream_sessions (influencer_id, title, status, max_viewers)
               select %s, 'Stream ' || n, 'scheduled', null from generate_series(1, 2500) as n""",
            [world.influencer.influencer_id],
        )
        ids = [row["id"] for row in db.sql("select id from public.live_stream_sessions order by id")]
        with db.connect(options="-c default_transaction_isolation=repeatable\\ read") as connection:
            for first in range(0, len(ids), 50):
                connection.execute(
                    "insert into public.live_stream_viewers (session_id) select unnest(%s::uuid[])",
                    [ids[first : first + 50]],
                )
        rest(db)
        assert db.value("select count(*) from public.live_stream_sessions where current_viewers = 1") == len(ids)
        assert differences(db) == []
        db.close()
        assert "out of shared memory" not in fresh_server.log


def test_counting_again_with_an_old_snapshot_asks_to_be_run_again(plain_db):
    """It would write the numbers of another moment."""
    db = plain_db
    session = people(db).session(max_viewers=None)
    db.set(flush_interval=5000)
    with db.connect() as operator, db.connect() as joiner:
        operator.execute("begin isolation level repeatable read")
        operator.execute("select from public.live_stream_sessions")
        with another(db, people(db).session(max_viewers=None)):
            joiner.execute("begin isolation level repeatable read")
            join(joiner, session, rows=3)
            joiner.execute("commit")
        assert code_of(lambda: operator.execute("select live_stream.recount(%s)", [session["id"]])) == "40001"
        operator.execute("rollback")
        operator.execute("select live_stream.recount(%s)", [session["id"]])
    assert kept(db, session) == 3 and differences(db) == []


def test_a_peak_in_doubt_is_not_counted_by_an_old_snapshot(plain_db):
    """Who folds it leaves that to the next one."""
    db = plain_db
    session = people(db).session(max_viewers=20)
    db.set(flush_interval=2000)
    with db.connect() as old, db.connect() as connection:
        viewers = join(connection, session, rows=4)
        busy = people(db).session(max_viewers=None, by=people(db).new_influencer("Bo"))
        with another(db, busy):
            join(connection, busy)
        until(lambda: pending(db) == 0)
        old.execute("begin isolation level repeatable read")
        old.execute("select from public.live_stream_viewers")
        with another(db, session):
            connection.execute("delete from public.live_stream_viewers where id = any (%s)", [viewers[:2]])
            raise psycopg.Rollback
        join(old, session)
        old.execute("commit")
    rest(db)
    assert differences(db) == []


def test_truncate_waits_for_what_others_count_into_the_same_number(plain_db):
    """Reactions are counted from two tables. One is emptied while somebody adds to the other."""
    db = plain_db
    first, second = (people(db).session(max_viewers=None, by=people(db).new_influencer(name)) for name in ("Ada", "Bo"))
    react = "insert into public.live_stream_chat (session_id, message, message_type) values (%s, '!', 'reaction')"
    db.set(flush_interval=3000)
    with db.connect() as reacting, db.connect() as operator, db.connect() as holding, ThreadPoolExecutor(1) as threads:
        for session in (first, second):
            reacting.execute(react, [session["id"]])
        with another(db, first):
            reacting.execute("begin")
            reacting.execute(react, [first["id"]])
        with holding.transaction():
            holding.execute("select from public.live_stream_sessions where id = %s for update", [second["id"]])
            emptied = threads.submit(operator.execute, "truncate public.live_stream_chat_reactions")
            until(lambda: waits_for_a_lock(db, operator))
            reacting.execute("commit")
            # It goes on to the next one, which is held too.
            blocked = "select %s = any (pg_blocking_pids(%s))"
            pids = [holding.info.backend_pid, operator.info.backend_pid]
            until(lambda: db.value(blocked, pids) or emptied.done())
        emptied.result()
    rest(db)
    assert (kept(db, first, "total_reactions"), kept(db, second, "total_reactions")) == (2, 1)
    assert differences(db) == []


SELL = "update public.live_stream_products set revenue = revenue + %s where session_id = %s"
END = "update public.live_stream_sessions set status = 'ended' where id = %s"


def test_a_sale_of_an_appender_while_the_session_ends(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    world.product(session)
    with db.connect() as shop, db.connect() as host, ThreadPoolExecutor(1) as threads:
        shop.execute("begin")
        with another(db, session):
            join(shop, session)
        ended = threads.submit(code_of, lambda: host.execute(END, [session["id"]]))
        until(lambda: waits_for_a_lock(db, host))
        shop.execute(SELL, [2_000_000, session["id"]])
        shop.execute("commit")
        assert ended.result() is None
    assert kept(db, session, "total_revenue") == 2_000_000 and differences(db) == []


def test_more_than_can_be_appended_while_the_session_ends(plain_db):
    """It waits for the row, and nobody who has the row waits for it."""
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    world.product(session)
    with db.connect() as shop, db.connect() as host, ThreadPoolExecutor(2) as threads:
        with another(db, session):
            ended = threads.submit(code_of, lambda: host.execute(END, [session["id"]]))
            until(lambda: waits_for_a_lock(db, host))
            sold = threads.submit(code_of, lambda: shop.execute(SELL, [50_000_000, session["id"]]))
            until(lambda: waits_for_a_lock(db, shop))
        assert (ended.result(), sold.result()) == (None, None)
    assert kept(db, session, "total_revenue") == 50_000_000 and differences(db) == []


def test_a_limit_counts_those_who_came_before_it_and_are_not_seen_yet(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect() as many, db.connect() as host, db.connect() as late, ThreadPoolExecutor(1) as threads:
        with another(db, session):
            join(late, session)
            many.execute("begin")
            join(many, session, rows=50)
        until(lambda: status(db)["hot_sessions"] == 1)
        limit = "update public.live_stream_sessions set max_viewers = 60 where id = %s"
        limited = threads.submit(host.execute, limit, [session["id"]])
        until(lambda: waits_for_a_lock(db, host))
        many.execute("commit")
        limited.result()
        refusals = [code_of(lambda: join(late, session)) for _ in range(20)]
    rest(db)
    assert refusals == [None] * 9 + ["PT409"] * 11
    assert watching(db, session) == kept(db, session) == 60 and differences(db) == []


# What an app's trigger does in the worker.


def in_the_worker(db: Database, does: str) -> None:
    """An app's trigger on sessions, which does it where the worker updates one."""
    db.owner(
        f"""create function public.app() returns trigger language plpgsql as $$
            begin
              if (select backend_type from pg_stat_activity where pid = pg_backend_pid()) like 'live%' then
                perform {does};
              end if;
              return null;
            end $$;
            create trigger app after update on public.live_stream_sessions for each row execute function public.app()"""
    )


@pytest.mark.parametrize(
    "setting, value",
    [
        ("default_transaction_read_only", "on"),
        ("default_transaction_isolation", "serializable"),
        ("lock_timeout", "0"),
        ("live_stream.flush_interval", "60000"),
        ("statement_timeout", "1"),
        ("search_path", "pg_temp"),
        ("timezone", "Pacific/Kiritimati"),
    ],
)
def test_what_an_app_sets_in_the_worker_ends_with_the_fold(plain_db, setting, value):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    in_the_worker(db, f"set_config('{setting}', '{value}', false)")
    for round_ in (1, 2):
        crowd(db, lambda c, n: [join(c, session) for _ in range(10)])
        # Nobody else folds.
        until(lambda: pending(db) == 0 and kept(db, session) == watching(db, session), seconds=5)
        if round_ == 1:
            db.owner("drop trigger app on public.live_stream_sessions")
    assert differences(db) == []


def test_an_app_that_gives_up_the_locks_of_the_worker(plain_db):
    """One goes on, or another has taken its place: they do not become many."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    in_the_worker(db, "pg_advisory_unlock_all()")
    size, most = len(db.server.log), []
    count = "select count(*) from pg_stat_activity where backend_type like 'live_stream%%' and datname = current_database()"
    finish = loaded(db, session)
    for _ in range(40):
        most.append(db.value(count))
        time.sleep(0.05)  # of load
    check_all_there(db, session, finish())
    assert "you don't own a lock" not in db.server.log[size:]
    assert 0 < max(most) <= 2, most
