"""What a database holds, in forms that two of them can be compared by."""

from __future__ import annotations

from typing import Any

from database import Database


def dump_of(db: Database, *options: str) -> str:
    """The text of pg_dump, without the lines that differ from one run to the next, and what is of no use after a crash."""
    text = db.server.program("pg_dump", "--no-unlogged-table-data", *options, db.name).stdout
    return "".join(
        line for line in text.splitlines(keepends=True) if not line.startswith(("\\restrict ", "\\unrestrict "))
    )


def schema_of(db: Database) -> str:
    return dump_of(db, "--schema-only")


def rows_of(db: Database) -> dict[str, Any]:
    """Every row of every table of the app's and of ours, but of what is of no use after a crash."""
    tables = db.sql(
        "select oid::regclass::text as name from pg_class where relkind in ('r', 'p') and relpersistence = 'p' and relnamespace in"
        " (select oid from pg_namespace where nspname in ('public', 'auth', 'live_stream'))"
    )
    return {
        table["name"]: db.value(f"select jsonb_agg(to_jsonb(t) order by to_jsonb(t)::text) from {table['name']} t")
        for table in tables
    }
