"""What the numbers of a session cost: loads by pgbench, with our triggers, without, and with PL/pgSQL ones instead.

Without options everything is measured, BENCHMARK.md written, and the figures that README.md quotes are renewed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import schedules
from bulk import measure_bulk
from lag import measure_lag
from load import Cell, Inexact, Measured, measure
from policies import policies
from report import TARGETS, Report, Runs, bulk_table, lag_line, rates
from server import ROOT, VARIANTS, Server
from soak import soak

OPS = ("join", "leave", "message", "reaction", "click", "heartbeat")
MORE_OPS = ("anonymous-join", "viewer-message", "browser-join", "browser-message", "browser-heartbeat")

# What the targets are about is measured three times, and longer where PL/pgSQL slows down as it goes.
MEASURED_WELL = {(op, connections) for op, connections, *_ in TARGETS}
RUNS, SECONDS, HOT_SECONDS = 3, 2, 4
LAG_SECONDS = 5
STARTED = time.monotonic()
BEGIN, END = "<!-- make bench writes from here -->", "<!-- to here -->"


def everything(server: Server) -> None:
    runs: dict[Cell, Runs] = {}
    lags = {}
    for slow in (False, True):
        server.slow_commits(slow)
        for cell, variants, seconds, times in plan(slow):
            runs[cell] = run_cell(server, cell, variants, seconds, times)
        lags[slow] = measure_lag(server, Cell("join", 32, 1, slow), LAG_SECONDS)
        print(lag_line(lags[slow]), file=sys.stderr, flush=True)
    server.slow_commits(False)
    bulk = measure_bulk(server, RUNS)
    checked = sum(len(done.measured["ours"]) for done in runs.values()) + len(lags) + RUNS * len(bulk)
    os.environ["PROFILE"] = "release"
    shows = list(schedules.rows())
    now = datetime.now(timezone.utc)
    report = Report(machine(server), f"{now:%Y-%m-%d}", time.monotonic() - STARTED, runs, lags, bulk, checked, shows)
    (ROOT / "BENCHMARK.md").write_text(report.page())
    quote(ROOT / "README.md", report.excerpt())
    print(report.page())


def plan(slow: bool) -> Iterator[tuple[Cell, tuple[str, ...], int, int]]:
    """The cells of a full run: the variants, the seconds of each load and how often."""
    for op in OPS:
        for sessions in (1, 1000):
            for connections in (1, 8, 32):
                seconds, times = 1, 1
                if sessions == 1 and (op, connections) in MEASURED_WELL:
                    seconds, times = (HOT_SECONDS if (op, connections) == ("join", 32) else SECONDS), RUNS
                yield Cell(op, connections, sessions, slow), variants_of(op), seconds, times
    if not slow:
        for op in MORE_OPS:
            for connections in (1, 32) if op.startswith("browser") else (32,):
                yield Cell(op, connections), variants_of(op), 1, 1


def variants_of(op: str) -> tuple[str, ...]:
    """A heartbeat fires no trigger that could be in PL/pgSQL."""
    return tuple(variant for variant in VARIANTS if variant != "plpgsql" or "heartbeat" not in op)


def machine(server: Server) -> str:
    return f"{os.cpu_count()} cores, PostgreSQL {server.version.split()[0]}"


def quote(page: Path, text: str) -> None:
    """Puts the text between the two comments of the page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{page}: the comments {BEGIN} and {END} are missing")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def run_cell(server: Server, cell: Cell, variants: tuple[str, ...], seconds: int, times: int = 1) -> Runs:
    """Measures the variants in turn, back and forth, so that what changes with time changes for all."""
    runs = Runs(cell, {variant: [] for variant in variants})
    for number in range(times):
        for variant in variants if number % 2 == 0 else variants[::-1]:
            measured = measure(server, cell, variant, seconds)
            runs.measured[variant].append(measured)
            tell(cell, variant, measured)
    return runs


def tell(cell: Cell, variant: str, measured: Measured) -> None:
    passed = time.monotonic() - STARTED
    figures = f"{measured.rate:,.0f}/s, {measured.cpu * 1e6:,.0f} µs CPU"
    print(f"{passed:4.0f} s: {cell}: {variant} {figures}", file=sys.stderr, flush=True)


def part(server: Server, options: argparse.Namespace) -> None:
    """What --only, --lag and --bulk ask for, to standard output."""
    all_runs = []
    for slow in map(bool, options.commit):
        server.slow_commits(slow)
        all_runs += [
            run_cell(server, Cell(op, connections, sessions, slow), options.variants, options.seconds, options.runs)
            for op in options.only or ()
            for sessions in options.sessions
            for connections in options.connections
        ]
        if options.lag:
            print(lag_line(measure_lag(server, Cell("join", 32, 1, slow), options.seconds)))
    if options.bulk:
        print(bulk_table(measure_bulk(server, options.runs)))
    if all_runs:
        print(rates(all_runs))


def words(allowed: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(text.split(","))
        unknown = set(chosen) - set(allowed)
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(allowed)}")
        return chosen

    return parse


def counts(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("scripts/bench", description=__doc__.split("\n\n")[1])
    parser.add_argument("--only", type=words(OPS + MORE_OPS), metavar="OP,…",
                        help=f"measure these alone and write no file: {', '.join(OPS + MORE_OPS)}")
    parser.add_argument("--connections", type=counts, default=(1, 32), metavar="N,…", help="default 1,32")
    parser.add_argument("--sessions", type=counts, default=(1,), metavar="N,…", help="1 (default) and up to 1000")
    parser.add_argument("--commit", type=counts, default=(0,), metavar="MS,…", help="0 (default), 1: a slower commit")
    parser.add_argument("--variants", type=words(VARIANTS), default=VARIANTS, metavar="V,…", help=", ".join(VARIANTS))
    parser.add_argument("--seconds", type=int, default=3, help="of each load with --only (3)")
    parser.add_argument("--runs", type=int, default=1, help="of each load with --only (1); the medians are shown")
    parser.add_argument("--lag", action="store_true", help="only the lag of the session's row, for each of --commit")
    parser.add_argument("--bulk", action="store_true", help="only the statements of 100,000 viewers")
    parser.add_argument("--policies", action="store_true", help="only what the SELECT policies cost a row")
    parser.add_argument("--soak", type=float, metavar="MINUTES",
                        help="only this: visits of one session at full load, and the sizes of tables as they grow")
    parser.add_argument("--keep", action="store_true", help="leave the server up: scripts/server bench psql ours")
    return parser.parse_args()  # fmt: skip


def main() -> None:
    chosen = options()
    server = Server()
    keep = chosen.keep
    try:
        server.make_databases()
        if chosen.soak:
            soak(server, chosen.soak)
        elif chosen.policies:
            policies(server)
        elif chosen.only or chosen.lag or chosen.bulk:
            part(server, chosen)
        else:
            everything(server)
    except Inexact as error:
        keep = True
        raise SystemExit(f"FAILED, a number is wrong: {error}\nLook: scripts/server bench psql ours") from None
    finally:
        if not keep:
            server.remove()


if __name__ == "__main__":
    main()
