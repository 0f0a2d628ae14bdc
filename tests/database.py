"""A server of this process's own, and databases cloned from two templates: `plain` and `supabase`."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from pathlib import Path
from typing import Any, Iterator

import psycopg
from psycopg.rows import dict_row

from postgrest import Api, Gateway, SchemaCache

ROOT = Path(__file__).resolve().parent.parent
SHAPE = ROOT / "scripts" / "shape"
KINDS = ("plain", "supabase")
OWNER = "app_owner"


class Server:
    """A throw-away cluster (see scripts/server). It starts without any role but `postgres`. A copy of an initialised
    folder; one with an `identity` of its own, which servers that follow each other need, is initialised itself."""

    _numbers = itertools.count(1)

    def __init__(self, identity: bool = False) -> None:
        self.name = f"tests/{os.getpid()}-{next(self._numbers)}"
        self._script("start", *(["fresh"] if identity else []))
        env = dict(line.split("=", 1) for line in self._script("env").splitlines())
        self.host, self.port = env["PGHOST"], env["PGPORT"]
        self.bindir = Path(env["BINDIR"])
        self._databases = itertools.count(1)
        self._schemas: dict[str, SchemaCache] = {}

    def _script(self, *args: str) -> str:
        command = [str(ROOT / "scripts" / "server"), self.name, *args]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def crash(self) -> None:
        """The server dies and starts again: every connection is gone, what was committed is not."""
        self._script("crash")

    def remove(self) -> None:
        self._script("remove")

    @property
    def log(self) -> str:
        return (ROOT / "target" / self.name / "log").read_text()

    def connect(self, dbname: str = "postgres", user: str = "postgres", **options: Any) -> psycopg.Connection:
        """A new connection in autocommit mode whose rows are dicts."""
        return psycopg.connect(
            host=self.host, port=self.port, dbname=dbname, user=user, autocommit=True, row_factory=dict_row, **options
        )

    def run(self, dbname: str, script: str, user: str = "postgres") -> None:
        """Statements without parameters, many at a time."""
        with self.connect(dbname, user) as connection:
            connection.execute(script)

    def program(self, name: str, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs pg_dump, pg_restore, psql … against this server."""
        env = os.environ | {"PGHOST": self.host, "PGPORT": self.port, "PGUSER": "postgres"}
        return subprocess.run(
            [self.bindir / name, *args], env=env, check=True, capture_output=True, text=True, **options
        )

    def make_templates(self) -> None:
        """In the plain database the extension comes before the roles do: install() again adds their grants."""
        self.run("postgres", f"create role {OWNER} login")
        self.make_empty("plain")
        self.run("plain", "create extension live_stream", user=OWNER)
        self.run("postgres", (SHAPE / "roles.sql").read_text())
        self.run("plain", "select live_stream.install()", user=OWNER)
        self.make_empty("supabase")
        self.run("supabase", (SHAPE / "supabase.sql").read_text())
        self.run("supabase", "create extension live_stream", user=OWNER)
        for kind in KINDS:
            with self.connect(kind) as connection:
                self._schemas[kind] = SchemaCache(connection)

    def make_empty(self, name: str) -> None:
        """A new database of app_owner's, without the extension."""
        self.run("postgres", f"create database {name} owner {OWNER}")

    @contextlib.contextmanager
    def open(self, name: str, kind: str = "plain", schema: SchemaCache | None = None) -> Iterator["Database"]:
        """A database that is there already."""
        db = Database(self, kind, name, schema)
        try:
            yield db
        finally:
            db.close()

    @contextlib.contextmanager
    def database(self, kind: str) -> Iterator["Database"]:
        """A copy of a template, dropped at the end."""
        db = self.copy(kind)
        try:
            yield db
        finally:
            self.drop(db)

    def copy(self, kind: str) -> "Database":
        name = f"{kind}_{next(self._databases)}"
        self.run("postgres", f"create database {name} template {kind} owner {OWNER}")
        return Database(self, kind, name, self._schemas[kind])

    def drop(self, db: "Database") -> None:
        db.close()
        self.run("postgres", f"drop database if exists {db.name} with (force)")


class Database:
    """A test's database: requests as PostgREST sends them, and SQL as its owner or superuser."""

    def __init__(self, server: Server, kind: str, name: str, schema: SchemaCache | None = None) -> None:
        self.server, self.kind, self.name = server, kind, name
        self.is_shared = False
        self._set: set[str] = set()
        self._connections: dict[str, psycopg.Connection] = {}
        self._gateway = Gateway(self.connect, schema)

    @property
    def is_supabase(self) -> bool:
        return self.kind == "supabase"

    # Requests, each as somebody.

    def as_user(self, user_id: str, headers: dict[str, str] | None = None, **claims: Any) -> Api:
        """A signed-in person; further claims of the token by name."""
        claims = {"aud": "authenticated", "sub": str(user_id), "role": "authenticated", "is_anonymous": False} | claims
        return Api(self._gateway, "authenticated", claims, headers)

    def as_anon(self, headers: dict[str, str] | None = None) -> Api:
        """Nobody in particular; `headers={"x-viewer-id": …}` for an anonymous viewer's later requests."""
        return Api(self._gateway, "anon", {"role": "anon"}, headers)

    def as_service(self, headers: dict[str, str] | None = None) -> Api:
        return Api(self._gateway, "service_role", {"role": "service_role", "iss": "supabase"}, headers)

    def as_role(self, role: str, claims: Any, headers: dict[str, str] | None = None, legacy: bool = False) -> Api:
        """Any role with any claims: a dict, or the text itself, which need not be JSON.
        `legacy` sends each claim as request.jwt.claim.<name>, as PostgREST did before version 9."""
        return Api(self._gateway, role, claims, headers, legacy)

    @property
    def schema(self) -> SchemaCache:
        """What PostgREST would know of schema public."""
        return self._gateway.schema

    def reload_schema(self) -> None:
        """After a test has changed tables or functions of public: `notify pgrst, 'reload schema'`."""
        self._gateway.reload_schema()

    # SQL past the API.

    def connect(self, user: str = "postgres", **options: Any) -> psycopg.Connection:
        return self.server.connect(self.name, user, **options)

    def sql(self, query: str, params: Any = None, user: str = "postgres") -> list[dict[str, Any]]:
        """The rows of one statement, run as superuser (or `user=`) on a connection kept for it."""
        if user not in self._connections:
            self._connections[user] = self.connect(user)
        cursor = self._connections[user].execute(query, params)
        return cursor.fetchall() if cursor.description else []

    def owner(self, query: str, params: Any = None) -> list[dict[str, Any]]:
        """As `sql`, as the role that installed the extension and owns the app's tables."""
        return self.sql(query, params, user=OWNER)

    def value(self, query: str, params: Any = None) -> Any:
        """The one value of a query, as superuser."""
        (row,) = self.sql(query, params)
        (value,) = row.values()
        return value

    def set(self, **settings: Any) -> None:
        """Settings live_stream.… of this database, for everybody from now on. Where others have it after this test,
        they are taken back (`tidy`); not those that a worker reads as it starts, as it may outlive the test."""
        for name, value in settings.items():
            assert not (self.is_shared and name in ("background_worker", "flush_interval")), f"sets {name} in the shared database: use own_db"
            self._set.add(name)
            self.sql(f"alter database {self.name} set live_stream.{name} = '{value}'")
        if "flush_interval" in settings:
            self.end_worker()
        self.close()

    def end_worker(self) -> None:
        """The one that folds here, or is about to: it has read the settings of before."""
        workers = """select pg_terminate_backend(pid, 5000) from pg_stat_activity
                      where datname = current_database() and backend_type = 'live_stream metrics'"""
        self.sql(workers)

    def without_limits(self) -> None:
        """For tests that do in a second what people do in an hour."""
        self.set(message_limit=0, join_limit=0, anonymous_join_limit=0, address_join_limit=0, places_per_person=0, reaction_limit=0, flag_limit=0)

    def tidy(self) -> None:
        """What a test has set, for its connections and for the database, is set no more."""
        if self._set:
            for name in self._set:
                self.sql(f"alter database {self.name} reset live_stream.{name}")
            self._set.clear()
            self.close()
        for user, connection in list(self._connections.items()):
            if connection.closed or connection.broken:
                del self._connections[user]
            else:
                connection.execute("reset session authorization; reset all; discard temp; select pg_advisory_unlock_all()")

    def close(self) -> None:
        """Ends every connection; the next use opens new ones."""
        self._gateway.close()
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
