"""Several connections, one step at a time: who waits is seen, not guessed.

    with Steps(db) as steps:
        one, two = steps.client(), steps.client(world.viewer)
        one.begin("delete from public.live_stream_sessions where id = %s", [session["id"]])
        waiting = two.start("select * from public.live_stream_join(%s)", [session["id"]])
        two.waits()
        one.commit()
        assert waiting.result() == …
"""

from __future__ import annotations

import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg

from database import Database
from people import Person

PATIENCE_SECONDS = 20

BLOCKED = "select exists (select from pg_locks where pid = %s and not granted) as blocked"


class Client:
    """One connection in one transaction: a person's, service_role's, or a superuser's."""

    def __init__(self, steps: "Steps", who: Person | str | None) -> None:
        self._steps = steps
        self.connection = steps.db.connect("postgres" if who is None else "authenticator")
        self.connection.autocommit = False
        if who is not None:
            self.become(who)

    def become(self, who: Person | str) -> "Client":
        """From now on a person, or a role."""
        role = who if isinstance(who, str) else "authenticated"
        claims = {"role": role} | ({} if isinstance(who, str) else {"sub": who.user_id})
        self.connection.execute("reset role")
        self.connection.execute(f"set role {role}")
        self.connection.execute("select set_config('request.jwt.claims', %s, false)", [json.dumps(claims)])
        self.connection.commit()
        return self

    def run(self, sql: str, params: Any = None) -> list[dict[str, Any]]:
        cursor = self.connection.execute(sql, params)
        return cursor.fetchall() if cursor.description else []

    def start(self, sql: str, params: Any = None, commit: bool = True) -> Future:
        """Runs a statement beside the test, and commits; its rows, or its error, are the future's."""

        def statement() -> list[dict[str, Any]]:
            try:
                rows = self.run(sql, params)
            except psycopg.Error:
                self.connection.rollback()
                raise
            if commit:
                self.connection.commit()
            return rows

        self.task = self._steps.threads.submit(statement)
        return self.task

    def waits(self) -> "Client":
        """Returns as soon as the statement waits for a lock; fails where it ends instead."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._steps.db.value(BLOCKED, [self.connection.info.backend_pid]):
            assert not self.task.done(), f"did not wait: {self.task.exception() or self.task.result()}"
            assert time.monotonic() < deadline, "neither waits nor ends"
            time.sleep(0.005)
        return self

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        self.connection.rollback()


class Steps:
    def __init__(self, db: Database) -> None:
        self.db = db
        self.threads = ThreadPoolExecutor(16)
        self._clients: list[Client] = []

    def client(self, who: Person | str | None = None) -> Client:
        self._clients.append(Client(self, who))
        return self._clients[-1]

    def __enter__(self) -> "Steps":
        return self

    def __exit__(self, *_: Any) -> None:
        for client in self._clients:
            client.connection.cancel()
        self.threads.shutdown()
        for client in self._clients:
            client.connection.close()


def sqlstate(outcome: Future) -> str | None:
    """None for a statement that succeeded."""
    error = outcome.exception(timeout=PATIENCE_SECONDS)
    assert error is None or isinstance(error, psycopg.Error), error
    return error.sqlstate if error else None


def all_end_well(*tasks, allowed=(None,)):
    states = [sqlstate(task) for task in tasks]
    assert set(states) <= set(allowed), [task.exception() for task in tasks]


def held(steps, table, row):
    """A row that somebody has: whoever wants it stops there."""
    keeper = steps.client()
    keeper.run(f"select from public.live_stream_{table} where id = %s for update", [row["id"]])
    return keeper
