"""Who is over a limit, and what time passing is."""

from __future__ import annotations

import re

from postgrest import RequestError


def over(words, within):
    """A refusal with HTTP 429 whose hint says to wait so many seconds at most."""

    class Over:
        def __enter__(self):
            return self

        def __exit__(self, kind, error, trace):
            assert isinstance(error, RequestError), f"not refused: {error!r}"
            assert (error.sqlstate, error.status) == ("PT429", 429), str(error)
            assert words in error.message and error.detail, str(error)
            seconds = int(re.fullmatch(r"Try again in (\d+) seconds?\.", error.hint).group(1))
            assert 1 <= seconds <= within, str(error)
            return True

    return Over()


def later(db, table, column, seconds, where="true"):
    """As if so many seconds had passed since the rows were written. Nobody else may do so."""
    db.sql("set session_replication_role = replica")
    db.sql(f"update public.{table} set {column} = {column} - make_interval(secs => {seconds}) where {where}")
    db.sql("reset session_replication_role")
