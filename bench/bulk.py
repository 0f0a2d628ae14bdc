"""Many viewers by one statement: what our triggers add to it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import psycopg

from lag import SESSION
from load import HOT, check, wait_for_rest
from server import OWNER, Server

Connection = psycopg.Connection[dict[str, Any]]

VIEWERS = 100_000
VARIANTS = ("bare", "ours")

INSERT = f"""
insert into public.live_stream_viewers (session_id, user_id, watching_since)
  select '{SESSION}', gen_random_uuid(), now() from generate_series(1, {VIEWERS})
"""
COPY = "copy public.live_stream_viewers (session_id, user_id, watching_since) from stdin"
CLOSE = f"""
update public.live_stream_viewers set is_still_watching = false, left_at = now(), watching_since = null
  where session_id = '{SESSION}' and is_still_watching
"""


def measure_bulk(server: Server, times: int = 1) -> dict[str, dict[str, list[float]]]:
    """Seconds of each run of each statement, by statement and variant."""
    took: dict[str, dict[str, list[float]]] = {
        statement: {variant: [] for variant in VARIANTS} for statement in ("INSERT", "COPY", "UPDATE")
    }
    # Made beforehand: the client's own time is no part of the ratio.
    lines = "".join(f"{SESSION}\t{uuid.uuid4()}\tnow\n" for _ in range(VIEWERS))
    for number in range(times):
        for variant in VARIANTS if number % 2 == 0 else VARIANTS[::-1]:
            empty(server, variant)
            took["COPY"][variant].append(timed(server, variant, lambda connection: copy(connection, lines)))
            empty(server, variant)
            took["INSERT"][variant].append(timed(server, variant, lambda connection: connection.execute(INSERT)))
            # As after an autovacuum: the update that follows finds rows whose pages are clean.
            with server.connect(variant) as connection:
                connection.execute("vacuum (analyze) public.live_stream_viewers")
                connection.execute("checkpoint")
            took["UPDATE"][variant].append(timed(server, variant, lambda connection: connection.execute(CLOSE)))
    return took


def empty(server: Server, variant: str) -> None:
    server.fill(variant, viewers=0, messages=0, first=HOT, last=HOT)


def timed(server: Server, variant: str, run: Callable[[Connection], object]) -> float:
    with server.connect(variant, OWNER) as connection:
        begin = time.monotonic()
        run(connection)
        seconds = time.monotonic() - begin
    if variant == "ours":
        wait_for_rest(server)
        check(server)
    return seconds


def copy(connection: Connection, lines: str) -> None:
    with connection.cursor().copy(COPY) as rows:
        rows.write(lines)
