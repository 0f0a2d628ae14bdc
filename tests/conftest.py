"""Fixtures: every test gets a database of its own, and runs on a plain and on a Supabase-shaped one.

    def test_a_join_counts(db, world):            # test_a_join_counts[plain], test_a_join_counts[supabase]
    def test_plain_only(plain_db):                # one kind
    def test_install(fresh_server):               # a cluster without extension, databases or roles
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from database import KINDS, ROOT, Database, Server
from people import World, people


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of this run, with the templates `plain` and `supabase`."""
    _sweep()
    server = Server()
    try:
        server.make_templates()
        yield server
    finally:
        server.remove()


@pytest.fixture(params=KINDS)
def db(request: pytest.FixtureRequest, server: Server) -> Iterator[Database]:
    with server.database(request.param) as db:
        yield db


@pytest.fixture
def plain_db(server: Server) -> Iterator[Database]:
    with server.database("plain") as db:
        yield db


@pytest.fixture
def supabase_db(server: Server) -> Iterator[Database]:
    with server.database("supabase") as db:
        yield db


@pytest.fixture
def world(db: Database) -> World:
    """People in `db`; elsewhere `people(plain_db)`."""
    return people(db)


@pytest.fixture
def fresh_server() -> Iterator[Server]:
    """Another cluster, empty: for what roles, installs, crashes and dumps do to a whole server."""
    server = Server()
    try:
        yield server
    finally:
        server.remove()


def _sweep() -> None:
    """Stops the servers that a killed run left behind."""
    for folder in (ROOT / "target" / "tests").glob("*-*"):
        pid = int(folder.name.partition("-")[0])
        if not Path(f"/proc/{pid}").exists():
            subprocess.run([ROOT / "scripts" / "server", f"tests/{folder.name}", "remove"], check=False)

