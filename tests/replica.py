"""Servers that have another one's data: a subscriber of everything, a copy of a running server, a physical standby.

    with replica_server() as other, other.database("plain") as replica:
        with following(replica, db) as subscription:     # of all tables, with a copy of what is there
            subscription.catch_up()                      # until all is there that `db` has committed
            assert contents(replica) == contents(db)
            subscription.end()                           # the replica takes over

    with copied(db.server, standby=True) as standby:     # as pg_basebackup makes it
        ...
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Callable, Iterator

import psycopg

from database import ROOT, Database, Server
from people import people

WORKER = "live_stream metrics"
LOG = "live_stream.metric_changes"


def until(condition: Callable[[], Any], what: str = "it", seconds: float = 30) -> Any:
    """Waits for something that happens by itself."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.02)


class Machine(Server):
    """A server that can lie dead for a while, and tells what ran in it."""

    def __init__(self) -> None:
        super().__init__(identity=True)
        # A first copy takes an origin for each table, and gives it back a while later.
        self.configure(log_min_messages="debug1", wal_retrieve_retry_interval="50ms", max_replication_slots=100)
        self.crash()

    @property
    def folder(self) -> Path:
        return ROOT / "target" / self.name

    def configure(self, **settings: Any) -> None:
        for name, value in settings.items():
            self.run("postgres", f"alter system set {name} = '{value}'")
        self.run("postgres", "select pg_reload_conf()")

    def kill(self) -> None:
        """As a power cut does. `restart` brings it back, with what was committed."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the server")

    def restart(self) -> None:
        self._script("restart")

    def workers_started(self) -> int:
        """How many background workers that fold numbers were ever started here, in whatever database."""
        return self.log.count(f'starting background worker process "{WORKER}"')

    def complaints(self) -> list[str]:
        """What went wrong in processes of the server's own, as those that apply what another server did."""
        # The other server is gone, or who has asked it before is still there.
        gone = re.compile(r"could not (connect|receive|send)|terminating|server closed|origin with ID \d+ is already active")
        background = re.compile(r"^\S+ \S+ \S+ \[\d+\] (ERROR|PANIC): .*")
        return [line for line in self.log.splitlines() if background.match(line) and not gone.search(line)]


@contextlib.contextmanager
def replica_server() -> Iterator[Machine]:
    """A server with the templates, for databases that follow."""
    server = Machine()
    try:
        server.make_templates()
        yield server
    finally:
        server.remove()


class Copy(Machine):
    """A server with all the data of a running one, made while it runs."""

    def __init__(self, of: Server, standby: bool) -> None:
        Server.__init__(self)  # Its data, and so its identity, is replaced below.
        self._script("stop")
        data = self.folder / "data"
        own, owner = (data / "postgresql.conf").read_text(), data.stat()
        shutil.rmtree(data)
        of.program("pg_basebackup", "-D", str(data), "-X", "stream", "-c", "fast", *(["-R"] if standby else []))
        (data / "postgresql.conf").write_text(own)
        for path in (data, *data.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        self._script("restart")

    def promote(self) -> None:
        self.run("postgres", "select pg_promote()")


def admit_standbys(server: Machine) -> None:
    """Those who ask for the whole server's data are asked for in a line of their own."""
    with (server.folder / "data" / "pg_hba.conf").open("a") as file:
        file.write("local replication all trust\n")
    server.run("postgres", "select pg_reload_conf()")


@contextlib.contextmanager
def copied(of: Server, standby: bool = False) -> Iterator[Copy]:
    server = Copy(of, standby)
    try:
        yield server
    finally:
        server.remove()


# Following.


def mark(db: Database) -> str:
    """A place in the log of changes behind all that was committed; what comes before it is on disk."""
    db.sql("select pg_logical_emit_message(true, 'replica', 'mark')")
    return db.value("select pg_current_wal_lsn()::text")


def publish(db: Database) -> None:
    if not db.sql("select 1 from pg_publication where pubname = 'everything'"):
        db.sql("create publication everything for all tables")


class Subscription:
    """What a database has of another one."""

    def __init__(self, replica: Database, of: Database, **options: Any) -> None:
        self.replica, self.of = replica, of
        self.name = f"{replica.name}_of_{of.name}"
        publish(of)
        settings = "".join(f", {name} = {value}" for name, value in options.items())
        address = f"host={of.server.host} port={of.server.port} dbname={of.name} user=postgres"
        replica.sql(
            f"create subscription {self.name} connection '{address}' publication everything"
            f" with (slot_name = {self.name}{settings})"
        )

    def alter(self, how: str) -> None:
        self.replica.sql(f"alter subscription {self.name} {how}")

    def copied(self) -> bool:
        """Whether the first copy of every table is there."""
        states = self.replica.sql("select srsubstate::text as state from pg_subscription_rel")
        return bool(states) and {row["state"] for row in states} == {"r"}

    def catch_up(self) -> None:
        """Waits until all is here that the other has committed by now."""
        place = mark(self.of)
        query = "select 1 from pg_stat_replication where application_name = %s and replay_lsn >= %s::pg_lsn"
        until(lambda: self.copied(), "the first copy")
        until(lambda: self.of.sql(query, [self.name, place]), "catching up")

    def applies(self) -> bool:
        """Whether a process here is applying changes."""
        return bool(self.replica.sql("select 1 from pg_stat_subscription where subname = %s and pid is not null", [self.name]))

    def end(self) -> None:
        """Follows no more, also when the other is dead."""
        self.alter("disable")
        self.alter("set (slot_name = none)")
        self.replica.sql(f"drop subscription {self.name}")

    def remove(self) -> None:
        """What is left of it, on both sides."""
        if self.replica.sql("select 1 from pg_subscription where subname = %s", [self.name]):
            self.end()
        slots = "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = %s and not active"
        left = "select 1 from pg_replication_slots where database = %s"
        until(lambda: self.of.sql(slots, [self.of.name]) or not self.of.sql(left, [self.of.name]), "dropping the slots")


@contextlib.contextmanager
def following(replica: Database, of: Database, **options: Any) -> Iterator[Subscription]:
    subscription = Subscription(replica, of, **options)
    try:
        yield subscription
    finally:
        subscription.remove()


# What is compared.

PUBLISHED = """
select c.oid::regclass::text as name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relkind = 'r' and (n.nspname = 'public' or c.oid = 'live_stream.metric_changes'::regclass)
 order by 1
"""


def contents(db: Database) -> dict[str, Any]:
    """The sessions with their numbers, what waits to be folded, and a digest of every other table."""
    found: dict[str, Any] = {}
    for name in (row["name"] for row in db.sql(PUBLISHED)):
        text = "to_jsonb(t)::text" if name in ("live_stream_sessions", LOG) else "md5(t::text)"
        rows = sorted(row["text"] for row in db.sql(f"select {text} as text from {name} t"))
        found[name] = rows if text.startswith("to_jsonb") else (len(rows), hash(tuple(rows)))
    return found


def pending(db: Database) -> int:
    return db.value("select count(*) from live_stream.metric_changes")


def worker_pid(db: Database) -> int | None:
    return db.value("select worker_pid from live_stream.metrics_status")


def kept(db: Database, session_id: str, column: str = "current_viewers") -> Any:
    """A number as the session's row has it now."""
    return db.value(f"select {column} from public.live_stream_sessions where id = %s", [session_id])


def watching(db: Database, session_id: str) -> int:
    """The same number, counted."""
    query = "select count(*) from public.live_stream_viewers where session_id = %s and is_still_watching"
    return db.value(query, [session_id])


# What happens meanwhile.


class Show:
    """A session on air with a product, which many visit at the same time."""

    def __init__(self, db: Database, max_viewers: int | None = None) -> None:
        self.db, self.world = db, people(db)
        self.session = self.world.session(max_viewers=max_viewers)
        self.id = self.session["id"]
        self.product_id = self.world.product(self.session)["product_id"]

    def visit(self, connection: psycopg.Connection, chance: random.Random) -> None:
        """Somebody comes, says something, buys perhaps, and leaves perhaps."""
        user = uuid.UUID(int=chance.getrandbits(128), version=4) if chance.random() < 0.5 and not self.db.is_supabase else None
        join = "insert into public.live_stream_viewers (session_id, user_id) values (%s, %s) returning id"
        (row,) = connection.execute(join, [self.id, user]).fetchall()
        connection.execute("insert into public.live_stream_chat (session_id, message) values (%s, 'hello')", [self.id])
        if chance.random() < 0.3:
            connection.execute(
                "insert into public.live_stream_orders (session_id, product_id, viewer_id, amount) values (%s, %s, %s, 12.34)",
                [self.id, self.product_id, row["id"]],
            )
        if chance.random() < 0.5:
            leave = "update public.live_stream_viewers set is_still_watching = false, shares_sent = 1 where id = %s"
            connection.execute(leave, [row["id"]])
        elif chance.random() < 0.1:
            connection.execute("delete from public.live_stream_chat where viewer_id is null and random() < 0.01")

    @contextlib.contextmanager
    def crowd(self, threads: int = 6) -> Iterator[None]:
        """Visitors by many connections, one after the other each, until the block ends."""
        stop, failures = threading.Event(), []

        def visit(n: int) -> None:
            chance = random.Random(n)
            try:
                with self.db.connect() as connection:
                    while not stop.is_set():
                        self.visit(connection, chance)
            except Exception as failure:  # told at the end of the block
                failures.append(failure)

        running = [threading.Thread(target=visit, args=(n,)) for n in range(threads)]
        for thread in running:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in running:
                thread.join()
        assert failures == []

    @contextlib.contextmanager
    def crowd_that_dies(self, threads: int = 6) -> Iterator[None]:
        """The same, where the server may go meanwhile."""
        with contextlib.suppress(AssertionError), self.crowd(threads):
            yield

    def fill_the_log(self, at_least: int = 300) -> None:
        """Many changes that nobody folds yet: the database's worker comes seldom. Where it takes more than two seconds to
        start, who has waited for it does without for another one, and folds what it finds."""
        self.db.set(flush_interval=60_000)
        while pending(self.db) < at_least:
            with self.crowd():
                until(lambda: pending(self.db) >= at_least, "a full log")

    def fold(self) -> None:
        self.db.sql("select live_stream.flush_metrics()")

    def with_a_full_log(self, look: Callable[[], Any]) -> Any:
        """Fills the log, and what `look` found while nobody folded: where the minute was over meanwhile, looks again."""
        while True:
            self.fill_the_log()
            waiting = contents(self.db)[LOG]
            found = look()
            if waiting and contents(self.db)[LOG] == waiting:
                return found
