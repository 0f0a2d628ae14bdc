"""One measurement: the same start, a load by pgbench, and for ours the proof that every number is exact afterwards."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from server import OWNER, ROOT, SQL, Server

LOADS = ROOT / "bench" / "loads"
HOT, FIRST_OF_MANY = 100_000_000_000, 100_000_000_001
MESSAGES = 1_000
# What a new connection does only once, as loading the extension, is left out of the rate.
WARM_UP = 0.3


class Inexact(Exception):
    """A number of ours that the rows do not bear out."""


class RanOut(Exception):
    """Fewer viewers than the load had leave."""


@dataclass(frozen=True)
class Cell:
    """What is measured: an operation, and under which conditions."""

    op: str
    connections: int = 32
    sessions: int = 1
    slow_commit: bool = False

    def __str__(self) -> str:
        where = "one session" if self.sessions == 1 else f"{self.sessions:,} sessions"
        plural = "" if self.connections == 1 else "s"
        return f"{self.op}, {self.connections} connection{plural}, {where}" + ", +1 ms" * self.slow_commit


@dataclass
class Measured:
    """`rate`: transactions a second. `cpu`: seconds of the server's CPU time for each. `commits`: when each ended."""

    rate: float
    cpu: float
    commits: list[float] = field(repr=False)


def measure(server: Server, cell: Cell, variant: str, seconds: int) -> Measured:
    viewers = viewers_for(cell, seconds)
    while True:
        try:
            fill(server, cell, variant, viewers)
            return load(server, cell, variant, seconds, viewers)
        except RanOut:
            viewers *= 3


def viewers_for(cell: Cell, seconds: int) -> int:
    """How many watch at the start. Each leaves once only, so for that there must be enough."""
    if cell.op == "leave":
        return seconds * (5_000 if cell.connections == 1 else 20_000)
    return 10_000 if "heartbeat" in cell.op else 1_000


def fill(server: Server, cell: Cell, variant: str, viewers: int) -> None:
    server.fill(variant, viewers=viewers, messages=MESSAGES, **numbers(cell))


def numbers(cell: Cell) -> dict[str, int]:
    """The sessions of a cell, by the numbers at the end of their ids."""
    first = HOT if cell.sessions == 1 else FIRST_OF_MANY
    return {"first": first, "last": first + cell.sessions - 1}


def load(server: Server, cell: Cell, variant: str, seconds: int, viewers: int) -> Measured:
    cpu = server.cpu_seconds()
    commits = pgbench(server, cell, variant, seconds, viewers)
    server.wait_for_clients(variant)
    if variant == "ours":
        wait_for_rest(server)
    cpu = server.cpu_seconds() - cpu
    if variant == "ours":
        check(server)
    if cell.op == "leave":
        with server.connect(variant) as connection:
            left = connection.execute(
                "select count(*) as n from public.live_stream_viewers where not is_still_watching"
            ).fetchone()["n"]
        if left < len(commits):
            raise RanOut
    begin = commits[0] + WARM_UP
    counted = sum(1 for commit in commits if commit >= begin)
    return Measured(counted / (commits[-1] - begin), cpu / len(commits), commits)


def pgbench(server: Server, cell: Cell, variant: str, seconds: int, viewers: int) -> list[float]:
    """Runs a load and returns when each transaction was done, in seconds since 1970, in order."""
    with tempfile.TemporaryDirectory() as folder:
        command = pgbench_command(server, cell, variant, seconds, viewers, "-l", f"--log-prefix={folder}/log")
        done = subprocess.run(command, env=server.env, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"pgbench failed: {cell}, {variant}\n{done.stdout}{done.stderr}")
        # client, number, microseconds it took, script, end in seconds, and microseconds of it
        lines = (line.split() for path in Path(folder).iterdir() for line in path.read_text().splitlines())
        return sorted(int(line[4]) + int(line[5]) / 1e6 for line in lines)


def pgbench_command(
    server: Server, cell: Cell, variant: str, seconds: int, viewers: int, *more: str
) -> list[str | Path]:
    script = LOADS / f"{cell.op}.sql"
    if variant != "ours" and (LOADS / f"{cell.op}.bare.sql").exists():
        script = LOADS / f"{cell.op}.bare.sql"
    user = "authenticator" if cell.op.startswith("browser") else OWNER
    variables = numbers(cell) | {
        "viewers": viewers,
        "messages": MESSAGES,
        "left": 0,
        "connections": cell.connections,
    }
    threads = min(cell.connections, os.cpu_count() or 1)
    return [
        program(server), *more, "-n", "-M", "prepared", "-T", str(seconds), "-c", str(cell.connections),
        "-j", str(threads), *(f"-D{name}={value}" for name, value in variables.items()),
        "-f", script, "-U", user, variant,
    ]  # fmt: skip


def program(server: Server) -> Path:
    """The pgbench of the PostgreSQL in use; a server whose package brings none is loaded by another one's."""
    others = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"), key=lambda path: -int(path.parts[4]))
    for candidate in (server.bindir / "pgbench", *others):
        if candidate.exists():
            return candidate
    raise SystemExit("no pgbench found: it comes with the server's own package, such as postgresql-15")


def wait_for_rest(server: Server, timeout: float = 30) -> None:
    """Until the engine says that nothing is pending."""
    with server.connect("ours") as connection:
        give_up = time.monotonic() + timeout
        while True:
            status = connection.execute("select * from live_stream.metrics_status").fetchall()
            if not any(value for row in status for name, value in row.items() if "pending" in name):
                return
            if time.monotonic() > give_up:
                raise Inexact(f"the engine is not at rest after {timeout:g} s: {status}")
            time.sleep(0.01)


def check(server: Server) -> None:
    """Every number against the rows, by a query of the benchmark's own and by the engine's."""
    with server.connect("ours") as connection:
        wrong = connection.execute((SQL / "check.sql").read_text()).fetchall()
        wrong += connection.execute("select * from live_stream.verify_metrics()").fetchall()
    if wrong:
        raise Inexact("\n".join(map(str, wrong[:20])))
