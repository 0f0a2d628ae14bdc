"""Minutes of full load on one session, and the sizes of what could grow without bound meanwhile."""

from __future__ import annotations

import subprocess
import tempfile
import time

from load import Cell, check, fill, pgbench_command, wait_for_rest
from report import number, table
from server import Server

EVERY = 10
VIEWERS = 10_000
COLUMNS = ("minute", "visits/s", "sessions", "dead", "log", "dead", "heartbeats", "dead", "viewers", "dead")

# The log is whatever the engine keeps in its own schema.
SIZES = """
select relation, coalesce(sum(pg_total_relation_size(relid)), 0)::bigint as bytes,
       coalesce(sum(n_dead_tup), 0)::bigint as dead
  from (select relid, n_dead_tup,
               case when schemaname = 'live_stream' then 'log'
                    else replace(relname, 'live_stream_', '') end as relation
          from pg_stat_user_tables) as tables
 group by relation
"""


def soak(server: Server, minutes: float) -> None:
    """Prints a line every ten seconds; fails if a number is not exact at the end."""
    cell = Cell("visit")
    fill(server, cell, "ours", VIEWERS)
    command = pgbench_command(server, cell, "ours", round(minutes * 60), VIEWERS)
    print(table(COLUMNS, []), flush=True)
    with tempfile.TemporaryFile("w+") as output, server.connect("ours") as connection:
        load = subprocess.Popen(command, env=server.env, stdout=output, stderr=output)
        begin = before = time.monotonic()
        visits = 0
        while load.poll() is None:
            try:
                load.wait(EVERY)
            except subprocess.TimeoutExpired:
                pass
            now = time.monotonic()
            joined = connection.execute(
                "select sum(total_unique_viewers)::bigint as n from public.live_stream_sessions"
            ).fetchone()["n"] - VIEWERS
            sizes = {row["relation"]: row for row in connection.execute(SIZES)}
            cells = [f"{(now - begin) / 60:.1f}", number((joined - visits) / (now - before))]
            for relation in ("sessions", "log", "heartbeats", "viewers"):
                found = sizes.get(relation)
                cells += [f"{found['bytes'] / 1024:,.0f} kB", number(found["dead"])] if found else ["–", "–"]
            print("| " + " | ".join(cells) + " |", flush=True)
            visits, before = joined, now
        if load.returncode:
            output.seek(0)
            raise SystemExit(f"pgbench failed\n{output.read()}")
    server.wait_for_clients("ours")
    wait_for_rest(server)
    check(server)
    print("\nEvery number is exact.")
