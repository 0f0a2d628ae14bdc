"""The servers of publishers and subscribers, and what is asked of both."""

from __future__ import annotations

import contextlib
import uuid
from typing import Iterator

import psycopg
import pytest

from database import Database, OWNER
from replica import Machine, admit_standbys, contents, replica_server


@pytest.fixture(scope="module")
def near() -> Iterator[Machine]:
    """The server of the publishers."""
    with replica_server() as server:
        admit_standbys(server)
        yield server


@pytest.fixture(scope="module")
def far() -> Iterator[Machine]:
    """The server of the subscribers."""
    with replica_server() as server:
        yield server


@pytest.fixture
def db(near: Machine) -> Iterator[Database]:
    with near.database("plain") as db:
        db.without_limits()
        yield db


@pytest.fixture
def replica(far: Machine) -> Iterator[Database]:
    """A database of the same shape; nothing may have gone wrong in what applies changes there."""
    before = len(far.complaints())
    with far.database("plain") as replica:
        yield replica
        assert far.complaints()[before:] == []


@contextlib.contextmanager
def dead(db: Database) -> Iterator[None]:
    """The database's server is down."""
    db.server.kill()
    try:
        yield
    finally:
        db.server.restart()
        db.close()


def ask(db: Database) -> None:
    """Requests that see to changes which nobody folds: an operator's look at the numbers, and a client's heartbeat."""
    for user in ("postgres", OWNER):
        with db.connect(user) as connection:
            connection.execute("select live_stream.is_service(), s.* from live_stream.metrics_status s")
            with contextlib.suppress(psycopg.DatabaseError):
                connection.execute("select live_stream.heartbeat(gen_random_uuid())")


def read_all(db: Database, session_id: str) -> None:
    """The reading requests of clients, of the shop's server and of an operator."""
    people_of_it = [db.as_anon(), db.as_user(str(uuid.uuid4())), db.as_service()]
    for api in people_of_it:
        api.select("live_stream_sessions", where={"id": session_id})
        api.select("live_stream_chat", where={"session_id": session_id}, order="sent_at.desc", limit=50)
        for view in ("live_sessions_with_details", "upcoming_streams", "session_analytics_summary"):
            if api is not people_of_it[0] or view != "session_analytics_summary":
                api.select(view)
        api.rpc_get("live_stream_session", session_id=session_id)
        api.rpc_get("live_stream_upcoming")
    for query in SERVICE_READS:
        db.sql(query)


SERVICE_READS = (
    "select * from live_stream.personal_data()",
    "select live_stream.export_user(gen_random_uuid())",
    "select * from live_stream.verify_metrics()",
    "select * from live_stream.metrics_status",
)


def assert_same(replica: Database, db: Database) -> None:
    assert differing(replica, db) == []


def differing(replica: Database, db: Database) -> list[str]:
    """The tables whose rows are not the same."""
    there, here = contents(db), contents(replica)
    return [name for name in there if there[name] != here[name]]


# Taking over.


def join(db: Database, session_id: str) -> None:
    with db.connect() as connection:
        connection.execute("insert into public.live_stream_viewers (session_id) values (%s)", [session_id])
