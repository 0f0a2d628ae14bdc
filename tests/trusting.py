"""Roles and claims to ask the database as."""

from __future__ import annotations

import uuid
from contextlib import contextmanager

UID, IS_SERVICE, VIEWER = "select live_stream.uid()", "select live_stream.is_service()", "select live_stream.viewer_id()"


@contextmanager
def request(connection, role="anon", **settings):
    """One transaction as a role, with settings (`_` for `.`) that end with it."""
    connection.execute("begin")
    try:
        connection.execute(f"set local role {role}")
        for name, value in settings.items():
            name = {"claims": "request.jwt.claims", "sub": "request.jwt.claim.sub", "headers": "request.headers"}[name]
            connection.execute("select set_config(%s, %s, true)", [name, value])
        yield connection
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise


def value(connection, query, params=None):
    (row,) = connection.execute(query, params).fetchall()
    (found,) = row.values()
    return str(found) if isinstance(found, uuid.UUID) else found


# Whom the database trusts.


def role(db, name, options=""):
    """A role that may log in, in this cluster from now on."""
    db.sql(f"do $$ begin create role {name} login {options}; exception when duplicate_object then null; end $$")
    return name
