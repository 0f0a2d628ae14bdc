"""The database that the tests of a module share: what one of them may not leave behind for the next.

Each test has people and sessions of its own (`world`), and looks at those alone. What else a database is, is the same
after a test as it was before; where a test has to change it, the test has a database of its own (`@own_db`).
"""

from __future__ import annotations

import time

from database import Database

PATIENCE_SECONDS = 2
# What was made, altered or emptied is a new row of a catalog, with another xmin.
CATALOGS = ("pg_class", "pg_proc", "pg_trigger", "pg_policy", "pg_constraint", "pg_type", "pg_enum", "pg_extension", "pg_attrdef",
            "pg_event_trigger", "pg_publication", "pg_default_acl", "pg_rewrite", "pg_foreign_server")  # fmt: skip
# Schemas of temporary tables stay for whoever needs one next.
SHAPE = (
    "select "
    + ", ".join(
        f"(select md5(string_agg(oid || ' ' || xmin, ',' order by oid)) from {name} where oid >= 16384) as {name}"
        for name in CATALOGS
    )
    + """,
       (select md5(string_agg(oid || ' ' || xmin, ',' order by oid)) from pg_namespace
         where oid >= 16384 and nspname !~ '^pg_(toast_)?temp_') as pg_namespace,
       (select md5(string_agg(attrelid || ' ' || attnum || ' ' || xmin, ',' order by attrelid, attnum)) from pg_attribute
         where attrelid >= 16384) as pg_attribute,
       (select md5(string_agg(indexrelid || ' ' || xmin, ',' order by indexrelid)) from pg_index
         where indexrelid >= 16384) as pg_index,
       (select string_agg(s::text, ',' order by s::text) from pg_db_role_setting s
         where setdatabase in (0, (select oid from pg_database where datname = current_database()))) as settings,
       (select datacl::text || ' ' || datconnlimit from pg_database where datname = current_database()) as database"""
)
OPEN = """
select query from pg_stat_activity
 where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend' and xact_start is not null
union all select 'prepared: ' || gid from pg_prepared_xacts where database = current_database()
"""


class Neighbours:
    """Watches over a database from its first test to its last."""

    def __init__(self, db: Database) -> None:
        self.db = db
        db.is_shared = True
        self._before = self._shape()

    def _shape(self) -> dict[str, str]:
        (row,) = self.db.sql(SHAPE)
        return row

    def complaint(self) -> str | None:
        """What the test that is over has left behind; the database is of no use to others then."""
        self.db.tidy()
        deadline = time.monotonic() + PATIENCE_SECONDS
        # Somebody who has just left may still take temporary tables and a transaction along.
        while True:
            after, left = self._shape(), self.db.sql(OPEN)
            changed = [name for name in after if after[name] != self._before[name]]
            if not changed and not left:
                return None
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        if changed:
            return f"alters the shared database ({', '.join(changed)}): use own_db"
        return f"leaves a transaction open in the shared database: {left[0]['query']}"
