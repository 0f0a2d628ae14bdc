"""How far the session's row is behind the truth while everybody joins one session, and how often it changes.

The truth is pgbench's own log, which says of each join when its commit was answered. A sampler reads the session's row
every few milliseconds, with the server's clock in the same statement. A row that counts c joins was right until join
c + 1 was committed: it is behind by the time that has passed since, or by nothing if that join is still to come. The
statement's snapshot is older than its clock, so a sample errs to the late side; the log is written when pgbench gets
to it, after the commit, so the truth errs to the late side too, by less than a transaction takes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from load import HOT, Cell, fill, load, viewers_for
from server import Server

SAMPLE_EVERY = 0.005
SESSION = f"00000000-0000-4000-8000-{HOT}"


@dataclass
class Lag:
    """In seconds, at half, 99 % and all of the samples; joins and updates of the session's row a second."""

    p50: float
    p99: float
    max: float
    joins: float
    updates: float


class Sampler(threading.Thread):
    """Reads the session's row until `stop` is called."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._stopped = threading.Event()
        self.samples: list[tuple[float, int, str]] = []

    def run(self) -> None:
        with self._server.connect("ours") as connection:
            while not self._stopped.wait(SAMPLE_EVERY):
                row = connection.execute(
                    "select extract(epoch from clock_timestamp())::float8 as time, total_unique_viewers as joins,"
                    " xmin::text as version from public.live_stream_sessions where id = %s",
                    [SESSION],
                ).fetchone()
                self.samples.append((row["time"], row["joins"], row["version"]))

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def measure_lag(server: Server, cell: Cell, seconds: int) -> Lag:
    viewers = viewers_for(cell, seconds)
    fill(server, cell, "ours", viewers)
    server.wait_for_clients("ours")
    updates = session_updates(server)
    sampler = Sampler(server)
    sampler.start()
    commits = load(server, cell, "ours", seconds, viewers).commits
    sampler.stop()
    lags = sorted(lags_of(commits, [(at, joins - viewers) for at, joins, _ in sampler.samples]))
    versions = len({version for _, _, version in sampler.samples}) - 1
    # A worker that lives on reports its updates late: then the versions seen are the better count.
    updates = max(session_updates(server) - updates, versions)
    took = commits[-1] - commits[0]
    return Lag(
        p50=lags[len(lags) // 2],
        p99=lags[len(lags) * 99 // 100],
        max=lags[-1],
        joins=len(commits) / took,
        updates=updates / took,
    )


def lags_of(commits: list[float], samples: list[tuple[float, int]]) -> list[float]:
    """For each sample from the first commit until the row has them all: how long it has not been the truth."""
    lags = []
    for at, joins in samples:
        if at < commits[0] or (joins >= len(commits) and at > commits[-1]):
            continue
        lags.append(max(0.0, at - commits[joins]) if joins < len(commits) else 0.0)
    return lags


def session_updates(server: Server) -> int:
    with server.connect("ours") as connection:
        return connection.execute(
            "select n_tup_upd as n from pg_stat_user_tables where relname = 'live_stream_sessions'"
        ).fetchone()["n"]
