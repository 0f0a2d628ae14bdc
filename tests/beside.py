"""Requests of tests/everybody.py beside each other, as PostgREST sends them: who waits for whom, and what is left of them.

    stage = Stage(world)                                # a live session, and two casts around it
    with Asking(stage, "one") as one, Asking(stage, "two") as two, Beside(stage) as beside:
        one.ask("join")                                 # and leaves the transaction open
        beside.outcomes(two, "join", one.pid)           # {"message": None, …}
"""

from __future__ import annotations

import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import Any

import psycopg

from database import Database
from everybody import REQUESTS, Stage
from people import World
from recount import rest, unaccounted


class Asking:
    """A pooled connection that sends requests of a cast as PostgREST does: each a transaction, its role and claims local."""

    def __init__(self, stage: Stage, cast: str) -> None:
        self.stage, self.cast = stage, cast
        self.connection = stage.db.connect("authenticator")
        self.pid = self.connection.info.backend_pid

    def ask(self, name: str) -> int:
        """Sends a request, and leaves its transaction open; returns how many rows it has written, or answers with."""
        request = REQUESTS[name]
        person = self.stage.who[self.cast].get(request.who)
        role = "authenticated" if person else request.who
        claims = {"role": role} | ({"sub": person.user_id} if person else {})
        self.connection.execute("begin")
        settings = "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)"
        self.connection.execute(settings, [role, json.dumps(claims)])
        names = self.stage.names[self.cast] | {"me": person.user_id if person else None}
        return self.connection.execute(request.sql, names).rowcount

    def whole(self, name: str) -> int:
        """Sends a request with its commit."""
        try:
            rows = self.ask(name)
        except psycopg.Error:
            self.rollback()
            raise
        if REQUESTS[name].back:
            self.rollback()
        else:
            self.commit()
        return rows

    def commit(self) -> None:
        self.connection.execute("commit")

    def rollback(self) -> None:
        if not self.connection.closed and self.connection.info.transaction_status:
            self.connection.execute("rollback")

    def __enter__(self) -> "Asking":
        return self

    def __exit__(self, *_: Any) -> None:
        self.connection.close()


WAITS = "waits"
PATIENCE_SECONDS = 30
# Whether one backend waits for another, be it that a third one stands between them.
WAITS_FOR = """
with recursive ahead (pid) as (
  select unnest(pg_blocking_pids(%(who)s)) union select unnest(pg_blocking_pids(ahead.pid)) from ahead
)
select exists (select from ahead where pid = %(whom)s)
"""

LOCK = "select max(objsubid) from pg_locks where pid = %s and not granted and locktype = 'advisory'"


class Beside:
    """Requests beside others that are under way: what became of each, and who waits for whom."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.threads = stage, ThreadPoolExecutor(40)
        # Of requests that have waited: the class of the advisory lock that they waited for.
        self.locks: dict[str, int | None] = {}

    def waits(self, task: Future, who: int, whom: int) -> bool:
        """Whether a request of one backend waits for another; returns as soon as it does, or has ended."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                task.exception(timeout=0.01)
                return False
            except NotYet:
                if self.stage.db.value(WAITS_FOR, {"who": who, "whom": whom}):
                    return True
        raise AssertionError("neither waits nor ends")

    def until(self, pid: int, wait_event: str) -> None:
        """Returns as soon as a backend waits for that."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        query = "select exists (select from pg_stat_activity where pid = %s and wait_event = %s)"
        while not self.stage.db.value(query, [pid, wait_event]):
            assert time.monotonic() < deadline, f"does not come to {wait_event}"
            time.sleep(0.002)

    def outcome(self, asking: Asking, name: str, holder: int) -> str | None:
        """Of a request beside one that holds: None where it has succeeded, an SQLSTATE, or that it waits; then it is broken off."""
        task = self.threads.submit(asking.whole, name)
        waited = self.waits(task, asking.pid, holder)
        if waited:
            self.locks[name] = self.stage.db.value(LOCK, [asking.pid])
            self.stage.db.sql("select pg_cancel_backend(%s)", [asking.pid])
        error = task.exception(timeout=PATIENCE_SECONDS)
        if error is None:
            return None
        assert isinstance(error, psycopg.Error), error
        return WAITS if waited and error.sqlstate == "57014" else error.sqlstate

    def outcomes(self, asking: Asking, held: str, holder: int) -> dict[str, str | None]:
        """Of all requests of the other cast; what one and the same person sends waits for itself, and is left out."""
        became: dict[str, str | None] = {}
        for name, request in REQUESTS.items():
            if request.who == REQUESTS[held].who == "host" or request.needs and became.get(request.needs):
                continue
            became[name] = self.outcome(asking, name, holder)
        return became

    def __enter__(self) -> "Beside":
        return self

    def __exit__(self, *_: Any) -> None:
        self.threads.shutdown()


ALL = """
select to_jsonb(s) - 'updated_at' as session,
       (select coalesce(jsonb_agg(to_jsonb(v) - 'updated_at' order by v.id), '[]') from public.live_stream_viewers v where v.session_id = s.id) as viewers,
       (select count(*) from public.live_stream_chat c where c.session_id = s.id) as messages,
       (select count(*) from public.live_stream_orders o where o.session_id = s.id) as orders,
       (select count(*) from public.live_stream_guests g where g.session_id = s.id) as guests,
       (select count(*) from public.live_stream_followers f where f.influencer_id = s.influencer_id) as followers,
       (select coalesce(sum(p.clicks), 0) from public.live_stream_products p where p.session_id = s.id) as clicks
  from public.live_stream_sessions s where s.id = %s
"""


def all_of(stage: Stage) -> dict[str, Any]:
    """What a request may have left of itself, once all is counted."""
    rest(stage.db)
    (row,) = stage.db.sql(ALL, [stage.session["id"]])
    return row


LEFT = """
select current_user::text as role, nullif(current_setting('request.jwt.claims', true), '') as claims,
       nullif(current_setting('live_stream.viewer_id', true), '') as viewer, current_setting('statement_timeout') as timeout,
       (select count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory') as locks
"""


def is_clean(asking: Asking, writes: bool = True) -> None:
    """A connection of a pool after a request that was broken off: nothing is left, and others send theirs as ever."""
    asking.rollback()
    assert asking.connection.execute(LEFT).fetchone() == {"role": "authenticator", "claims": None, "viewer": None, "timeout": "0", "locks": 0}
    for name in ("reads sessions", "stream_credentials", *(("anonymous join", "moderator writes", "server records an order") if writes else ())):
        assert asking.whole(name) == 1
    assert unaccounted(asking.stage.db) == []


class Crowd:
    """A database in which stages follow each other, and connections that stay: plans are made once."""

    def __init__(self, db: Database) -> None:
        self.db, self.world = db, World(db)
        self._connections: dict[str, Asking] = {}

    def stage(self) -> Stage:
        self._stage = Stage(self.world)
        return self._stage

    def asking(self, cast: str) -> Asking:
        """The connection of a cast, for the stage that was made last."""
        found = self._connections.get(cast)
        if found is None or found.connection.closed:
            found = self._connections[cast] = Asking(self._stage, cast)
        found.rollback()
        found.stage = self._stage
        return found
