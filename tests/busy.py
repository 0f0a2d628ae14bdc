"""Busy sessions: who is there beside a test, and what the worker has done of it.

    with another(db, session):          # somebody is at the session and has not committed yet
        join(connection, session)       # so this is appended
        assert pending(db) == 1
    rest(db)                            # the worker has folded it
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterator

import psycopg

from database import Database
from people import at_once
from postgrest import Row
from recount import differences

THREADS = 16


@contextlib.contextmanager
def another(db: Database, session: Row) -> Iterator[psycopg.Connection]:
    """Somebody else, who has changed the session's numbers, and has its row until the end."""
    with db.connect() as connection:
        connection.execute(
            "insert into public.live_stream_chat (session_id, message) values (%s, 'first')", [session["id"]]
        )
        with connection.transaction():
            connection.execute("select from public.live_stream_sessions where id = %s for no key update", [session["id"]])
            yield connection


def join(connection: psycopg.Connection, session: Row, user: str | None = None, rows: int = 1) -> list[Any]:
    """The ids of new viewers."""
    query = """insert into public.live_stream_viewers (session_id, user_id)
               select %s, %s from generate_series(1, %s) returning id"""
    return [row["id"] for row in connection.execute(query, [session["id"], user, rows]).fetchall()]


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


def blocks(db: Database, one: psycopg.Connection, other: psycopg.Connection) -> bool:
    """Whether the one has what the other waits for."""
    return db.value("select %s = any (pg_blocking_pids(%s))", [one.info.backend_pid, other.info.backend_pid])


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


# The worker comes, goes, and dies.


@contextlib.contextmanager
def loaded(db: Database, session: Row) -> Iterator[Callable[[], set[Any]]]:
    """Joins from many connections, until what is yielded is called: then that returns the ids whose join was
    acknowledged."""
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

    with ThreadPoolExecutor(8) as threads:
        tasks = [threads.submit(work, number) for number in range(8)]

        def finish():
            stop.append(True)
            return set().union(*[task.result() for task in tasks])

        try:
            yield finish
        finally:
            stop.append(True)


def check_all_there(db: Database, session: Row, acknowledged: set[Any]) -> None:
    found = {row["id"] for row in db.sql("select id from public.live_stream_viewers where session_id = %s", [session["id"]])}
    assert acknowledged and acknowledged <= found
    assert differences(db) == []
    assert kept(db, session) == len(found) and db.sql("select * from live_stream.verify_metrics()") == []
