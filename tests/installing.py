"""Databases to install into, and installing there."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from typing import Iterator

import pytest

from database import Database, OWNER, SHAPE, Server
from people import people

_names = itertools.count(1)


@contextlib.contextmanager
def empty(server: Server, kind: str = "plain", owner: str = OWNER) -> Iterator[Database]:
    """A database without the extension, plain or shaped as Supabase's; gone at the end."""
    name = f"install_{next(_names)}"
    server.run("postgres", f"create database {name} owner {owner}")
    try:
        if kind == "supabase":
            server.run(name, (SHAPE / "supabase.sql").read_text())
        with server.open(name, kind) as db:
            yield db
    finally:
        server.run("postgres", f"drop database if exists {name} with (force)")


@pytest.fixture
def plain(server: Server) -> Iterator[Database]:
    with empty(server) as db:
        yield db


@pytest.fixture
def supabase(server: Server) -> Iterator[Database]:
    with empty(server, "supabase") as db:
        yield db


def create(db: Database, user: str = OWNER, options: str = "") -> list[str]:
    """CREATE EXTENSION on a connection of its own; returns what the server said besides."""
    said: list[str] = []
    with db.connect(user, options=options) as connection:
        connection.add_notice_handler(lambda notice: said.append(f"{notice.severity}: {notice.message_primary}"))
        connection.execute("create extension live_stream")
    return said


def install(db: Database, user: str = OWNER) -> list[str]:
    said: list[str] = []
    with db.connect(user) as connection:
        connection.add_notice_handler(lambda notice: said.append(f"{notice.severity}: {notice.message_primary}"))
        connection.execute("select live_stream.install()")
    return said


def owners(db: Database) -> dict[str, set[str]]:
    """Who owns the engine and the API layer, by kind of object."""
    rows = db.sql(
        """
        select 'relation' as kind, pg_get_userbyid(relowner) as owner from pg_class
         where relnamespace in ('public'::regnamespace, 'live_stream'::regnamespace)
           and (relname like 'live\\_stream%' or relnamespace = 'live_stream'::regnamespace
                or relname in ('live_sessions_with_details', 'session_analytics_summary', 'upcoming_streams'))
        union all
        select 'function', pg_get_userbyid(proowner) from pg_proc
         where pronamespace = 'live_stream'::regnamespace
            or pronamespace = 'public'::regnamespace and proname like 'live\\_stream%'
        union all
        select 'type', pg_get_userbyid(typowner) from pg_type
         where typnamespace = 'public'::regnamespace and typname like 'live\\_stream%'
        union all
        select 'schema', pg_get_userbyid(nspowner) from pg_namespace where nspname = 'live_stream'
        union all
        select 'extension', pg_get_userbyid(extowner) from pg_extension where extname = 'live_stream'
        """
    )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["kind"], set()).add(row["owner"])
    return found


def all_by(role: str) -> dict[str, set[str]]:
    return {kind: {role} for kind in ("relation", "function", "type", "schema", "extension")}


def until_it_waits(db: Database, thread: threading.Thread) -> None:
    """Until the thread's statement waits for a lock."""
    patience = time.monotonic() + 30
    while not db.value("select exists (select from pg_locks where not granted)"):
        assert thread.is_alive() and time.monotonic() < patience


def a_stream_works(db: Database) -> None:
    """The requests of a short stream, which need policies, grants, triggers and functions."""
    world = people(db)
    session = world.session(title="After the install", stream_key="secret-key")
    viewer = world.join(session, world.viewer)
    world.say(session, world.viewer, "hello", viewer)
    watched = world.read(session)
    assert (watched["current_viewers"], watched["total_messages"], watched["stream_key"]) == (1, 1, None)
    details = db.as_anon().select("live_sessions_with_details", where={"id": session["id"]}, one=True)
    assert details["display_name"] == "Ada"
    (credentials,) = world.influencer.api.rpc("live_stream_stream_credentials", session_id=session["id"])
    assert credentials["stream_key"] == "secret-key"
    assert world.stranger.api.select("live_stream_viewers", where={"session_id": session["id"]}) == []
