"""What is there to attack with SQL, and that nothing breaks."""

from __future__ import annotations

import re
from typing import Any, Iterator

import pytest

from database import Database, Server

ROLES = ("anon", "authenticated", "service_role")


def relations(db: Database, role: str | None = None) -> list[str]:
    """Our tables and views, or those that a role may read."""
    rows = db.sql(
        """select c.oid::regclass::text as name from pg_class c
            where c.relkind in ('r', 'v') and c.relnamespace in ('public'::regnamespace, 'live_stream'::regnamespace)
              and (%(role)s::text is null or has_table_privilege(%(role)s, c.oid, 'select')
                   or has_any_column_privilege(%(role)s, c.oid, 'select'))
            order by 1""",
        {"role": role},
    )
    return [row["name"] for row in rows]


def no_crash(server: Server, since: int) -> None:
    """No backend has ended and no internal error came up, beyond a place in the server's log."""
    found = re.findall(r".*(?:PANIC|terminated by signal|server process .* was terminated|XX\d{3}).*", server.log[since:])
    assert found == []


@pytest.fixture(autouse=True)
def _no_crash(request: pytest.FixtureRequest) -> Iterator[None]:
    server: Server | None = request.getfixturevalue("server") if "fresh_server" not in request.fixturenames else None
    since = len(server.log) if server else 0
    yield
    if server:
        no_crash(server, since)


def is_internal(outcome: Any) -> bool:
    return isinstance(outcome, tuple) and (outcome[0] is None or outcome[0].startswith("XX"))
