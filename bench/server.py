"""A private server with PostgreSQL's default settings, and a database for each variant in it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any, Iterator

import psycopg
from psycopg.rows import dict_row

ROOT = Path(__file__).resolve().parent.parent
SQL = ROOT / "bench" / "sql"
OWNER = "app_owner"

# bare: no trigger of ours. ours: as installed. plpgsql: row triggers as hand-written migrations have them.
VARIANTS = ("bare", "ours", "plpgsql")


class Server:
    """The cluster target/bench, of the release build. Every commit waits for the disk."""

    def __init__(self) -> None:
        self._script("start", "defaults")
        env = dict(line.split("=", 1) for line in self._script("env").splitlines())
        self.env = os.environ | {"PGHOST": env["PGHOST"], "PGPORT": env["PGPORT"]}
        self.bindir = Path(env["BINDIR"])
        with self.connect("postgres") as connection:
            self.version: str = connection.execute("show server_version").fetchone()["server_version"]
            directory = connection.execute("show data_directory").fetchone()["data_directory"]
        self.pid = int((Path(directory) / "postmaster.pid").read_text().split()[0])

    def _script(self, *args: str) -> str:
        command = [str(ROOT / "scripts" / "server"), "bench", *args]
        return subprocess.run(
            command, env=os.environ | {"PROFILE": "release"}, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def stop(self) -> None:
        self._script("stop")

    def remove(self) -> None:
        self._script("remove")

    def connect(self, database: str, user: str = "postgres") -> psycopg.Connection[dict[str, Any]]:
        """A connection in autocommit mode whose rows are dicts."""
        return psycopg.connect(
            host=self.env["PGHOST"],
            port=self.env["PGPORT"],
            dbname=database,
            user=user,
            autocommit=True,
            row_factory=dict_row,
        )

    def psql(self, database: str, script: Path, user: str = "postgres", **variables: int) -> None:
        sets = [f"--set={name}={value}" for name, value in variables.items()]
        command = [self.bindir / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *sets, "-f", script, "-U", user, database]
        subprocess.run(command, env=self.env | {"PGOPTIONS": "-c client_min_messages=warning"}, check=True)

    def fill(self, database: str, **numbers: int) -> None:
        """The same start for every measurement: see fill.sql."""
        self.psql(database, SQL / "fill.sql", small=self.small, **numbers)

    def make_databases(self) -> None:
        with self.connect("postgres") as connection:
            connection.execute(f"create role {OWNER} login")
            connection.execute((ROOT / "scripts" / "shape" / "roles.sql").read_text())
            connection.execute(f"create database start owner {OWNER}")
            with self.connect("start", OWNER) as start:
                start.execute("create extension live_stream")
            self.psql("start", SQL / "setup.sql", OWNER)
            with self.connect("start") as start:
                start.execute("vacuum (full) public.live_stream_sessions")
                size = start.execute(
                    "select pg_total_relation_size('public.live_stream_sessions')"
                    " + pg_total_relation_size('public.live_stream_products') as bytes"
                ).fetchone()["bytes"]
            self.small = size * 3 // 2
            # A worker of ours may still be connected to the template.
            connection.execute("alter database start allow_connections false")
            connection.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = 'start'")
            for variant in VARIANTS:
                connection.execute(f"create database {variant} template start owner {OWNER}")
        for variant in ("bare", "plpgsql"):
            self.psql(variant, SQL / "bare.sql", OWNER)
        self.psql("plpgsql", SQL / "plpgsql.sql", OWNER)

    def slow_commits(self, slow: bool) -> None:
        """Whether each commit takes a millisecond longer, as on a cloud disk."""
        delay, siblings = ("1000", "0") if slow else ("0", "5")
        with self.connect("postgres") as connection:
            connection.execute(f"alter system set commit_delay = {delay}")
            connection.execute(f"alter system set commit_siblings = {siblings}")
            connection.execute("select pg_reload_conf()")
        while True:
            with self.connect("postgres") as connection:
                if connection.execute("show commit_delay").fetchone()["commit_delay"] == delay:
                    return
            time.sleep(0.01)

    def wait_for_clients(self, database: str) -> None:
        """Until the connections of a load are gone: only then are their statistics and their CPU time complete."""
        with self.connect("postgres") as connection:
            while connection.execute(
                "select from pg_stat_activity where datname = %s and backend_type = 'client backend'", [database]
            ).fetchone():
                time.sleep(0.005)

    def cpu_seconds(self) -> float:
        """User and system time of all processes of the server so far, those that have ended included."""
        ticks = 0
        for pid in (self.pid, *self._children()):
            try:
                # After the name in parentheses: utime, stime, and of ended children cutime, cstime.
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def _children(self) -> Iterator[int]:
        for line in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            yield int(line)
