"""What was measured, as Markdown: the tables, and what of them the README quotes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from lag import Lag
from load import Cell, Measured

HEAD = ("operation", "sessions", "connections", "commit", "bare", "ours", "PL/pgSQL", "ours / bare", "ours / PL/pgSQL")
CPU_HEAD = ("CPU bare", "CPU ours", "CPU PL/pgSQL")
# Ours against another variant on one session, with and without the slower commit: at least so many times its rate.
TARGETS = (
    ("join", 32, "bare", 0.9),
    ("join", 32, "plpgsql", 20),
    ("join", 1, "bare", 0.75),
    ("message", 1, "bare", 0.75),
    ("heartbeat", 1, "bare", 0.9),
    ("heartbeat", 32, "bare", 0.9),
)
LAG_SECONDS, UPDATES_A_SECOND, BULK = 0.25, 12, 1.5


@dataclass
class Runs:
    """The runs of one cell: the n-th of each variant belong together, having run one after the other."""

    cell: Cell
    measured: dict[str, list[Measured]] = field(default_factory=dict)

    def rate(self, variant: str) -> float | None:
        runs = self.measured.get(variant)
        return median(run.rate for run in runs) if runs else None

    def cpu(self, variant: str) -> float | None:
        """Seconds of the server's CPU time for one transaction."""
        runs = self.measured.get(variant)
        return median(run.cpu for run in runs) if runs else None

    def ratio(self, variant: str, to: str) -> float | None:
        pairs = list(zip(self.measured.get(variant, []), self.measured.get(to, [])))
        return median(one.rate / other.rate for one, other in pairs) if pairs else None


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def ratio(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if value < 9.95 else f"{value:.1f}"


def micros(value: float | None) -> str:
    return "–" if value is None else f"{value * 1e6:,.0f} µs"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    numeric = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, numeric, *rows))


def millis(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms"


def lag_line(lag: Lag) -> str:
    return (
        f"behind by {millis(lag.p50)} (p50), {millis(lag.p99)} (p99), {millis(lag.max)} (max) at {number(lag.joins)}"
        f" joins and {lag.updates:,.1f} updates of the session a second"
    )


def commit(slow: bool) -> str:
    return "+1 ms" if slow else "disk"


def rates(all_runs: Iterable[Runs], cpu: bool = True) -> str:
    """A row for each cell: transactions a second, ratios, and CPU time of the server for each transaction."""
    return table(HEAD + CPU_HEAD * cpu, (_rates(runs) + _cpu(runs) * cpu for runs in all_runs))


def _rates(runs: Runs) -> tuple[str, ...]:
    cell = runs.cell
    return (
        cell.op.replace("-", " "),
        f"{cell.sessions:,}",
        str(cell.connections),
        commit(cell.slow_commit),
        *(number(runs.rate(variant)) for variant in ("bare", "ours", "plpgsql")),
        ratio(runs.ratio("ours", "bare")),
        ratio(runs.ratio("ours", "plpgsql")),
    )


def _cpu(runs: Runs) -> tuple[str, ...]:
    return tuple(micros(runs.cpu(variant)) for variant in ("bare", "ours", "plpgsql"))


def bulk_ratio(took: dict[str, list[float]]) -> float:
    return median(ours / bare for ours, bare in zip(took["ours"], took["bare"]))


def bulk_table(bulk: dict[str, dict[str, list[float]]]) -> str:
    return table(
        ("100,000 viewers by one", "bare", "ours", "ours / bare"),
        (
            (statement, f"{median(took['bare']):.2f} s", f"{median(took['ours']):.2f} s", ratio(bulk_ratio(took)))
            for statement, took in bulk.items()
        ),
    )


@dataclass
class Report:
    """A whole run. `runs`: by cell. `lags`: without and with the slower commit. `bulk`: seconds, by statement and
    variant. `shows`: figures of schedules. `checked`: after how many loads of ours every number was compared."""

    machine: str
    date: str
    took: float
    runs: dict[Cell, Runs]
    lags: dict[bool, Lag]
    bulk: dict[str, dict[str, list[float]]]
    checked: int
    shows: list[tuple[str, str, str, str]]

    def targets(self) -> list[tuple[str, str, str, bool]]:
        """What, how much is asked, what was measured, and whether that is enough."""
        rows = []
        for op, connections, to, wanted in TARGETS:
            name = {"bare": "of bare", "plpgsql": "× PL/pgSQL"}[to]
            for slow in (False, True):
                cell = Cell(op, connections, 1, slow)
                got = self.runs[cell].ratio("ours", to) or 0
                rows.append((str(cell), f"≥ {wanted} {name}", ratio(got), got >= wanted))
        for slow, lag in self.lags.items():
            where = str(Cell("join", 32, 1, slow))
            rows += [
                (f"{where}: lag, p99", "≤ 250 ms", millis(lag.p99), lag.p99 <= LAG_SECONDS),
                (f"{where}: updates of the session", f"≤ {UPDATES_A_SECOND} a second", f"{lag.updates:,.1f}",
                 lag.updates <= UPDATES_A_SECOND),
            ]  # fmt: skip
        for statement in self.bulk:
            got = bulk_ratio(self.bulk[statement])
            rows.append((f"{statement} of 100,000 viewers", f"≤ {BULK} × bare", ratio(got), got <= BULK))
        rows.append(("every number exact", "after each load", f"{self.checked} of {self.checked}", True))
        return rows

    def page(self) -> str:
        return PAGE.format(
            machine=self.machine,
            date=self.date,
            took=f"{self.took / 60:.1f}",
            targets=table(
                ("target", "asked", "measured", "met"),
                ((*row[:3], "yes" if row[3] else "**no**") for row in self.targets()),
            ),
            rates=rates(self.runs.values()),
            lags=self._lags(),
            bulk=bulk_table(self.bulk),
            shows=table(("schedules", "figure", "unit", "beside"), self.shows),
        )

    def _lags(self) -> str:
        return table(
            ("join, 32 connections, one session", "joins a second", "lag, p50", "p99", "max", "updates a second",
             *CPU_HEAD),
            (
                (f"commit: {commit(slow)}", number(lag.joins), millis(lag.p50), millis(lag.p99), millis(lag.max),
                 f"{lag.updates:,.1f}", *_cpu(self.runs[Cell("join", 32, 1, slow)]))
                for slow, lag in self.lags.items()
            ),
        )  # fmt: skip

    def excerpt(self) -> str:
        """What the README quotes."""
        cells = [
            Cell(op, connections, 1, slow)
            for op, connections in (("join", 32), ("join", 1), ("message", 1), ("heartbeat", 32), ("heartbeat", 1))
            for slow in (False, True)
        ]
        cells += [Cell(op, connections) for op in ("browser-join", "browser-message", "browser-heartbeat") for connections in (32, 1)]
        lag = self.lags[False]
        hot = self.runs[Cell("join", 32)]
        missed = [f"{what}: {measured}, asked {asked}" for what, asked, measured, met in self.targets() if not met]
        return EXCERPT.format(
            machine=self.machine,
            rates=rates((self.runs[cell] for cell in cells), cpu=False),
            joins=number(lag.joins),
            p50=millis(lag.p50),
            p99=millis(lag.p99),
            max=millis(lag.max),
            updates=f"{lag.updates:,.1f}",
            bare=micros(hot.cpu("bare")),
            ours=micros(hot.cpu("ours")),
            plpgsql=micros(hot.cpu("plpgsql")),
            bulk=", ".join(f"{statement} {ratio(bulk_ratio(self.bulk[statement]))}" for statement in self.bulk),
            missed="Every target is met." if not missed else "\n- ".join(["Of the targets, missed are:\n", *missed]),
        )


PAGE = """# Benchmark

Written by `make bench` in {took} minutes on {date}: {machine}.
The server has PostgreSQL's default settings, and each commit waits for the disk. The clients run on the same cores.

## Targets

Ratios are medians of three runs, except for the lag and the updates.

{targets}

## Transactions a second

- **bare**: the same tables, keys, foreign keys and indexes, our triggers disabled.
- **ours**: the extension as it is installed.
- **PL/pgSQL**: bare, and row triggers that update the session twice for each change, as hand-written migrations have
  them ([plpgsql.sql](bench/sql/plpgsql.sql)). It gets slower the longer a session is hot.
- **commit**: as fast as the disk is, or a millisecond slower, as on a cloud's disk (`commit_delay = 1000`,
  `commit_siblings = 0`).
- **CPU**: user and system time of all processes of the server, background workers included, for each transaction.

Each variant is a database of its own in one server, and its load begins with the same rows; the variants take turns.
Every operation is one statement of the tables' owner, in a transaction of its own ([loads](bench/loads)): a join, a
message and a reaction insert a row, by a user who is new; a leave closes a row that nobody has closed; a click picks one
of ten products of the session (bare: an update of the product), a heartbeat one of 10,000 viewers (bare: an update of its
row in `live_stream_heartbeats`). With 1,000 sessions, each transaction picks one. A *viewer message* names the viewer
row, whose count it raises too. The *browser* rows are whole requests as PostgREST sends them (bare: the same request with
a plain INSERT or UPDATE, without row-level security). What a new connection does only once is left out of the rates.

{rates}

## Where a join's time goes

Of the CPU time of the backends at 32 connections on one session, by perf's samples of the stacks (cpu-clock, PostgreSQL 15):

| what | share |
| --- | ---: |
| commit: waiting for and writing the log, waking others | 20 % |
| the foreign-key check, which locks the session's row as one of a crowd | 9 % |
| the table's CHECK constraints, which PostgreSQL reads anew for each statement | 9 % |
| its four indexes and the row itself | 11 % |
| the trigger before the row: who is calling, may it join, what the database decides | 8 % |
| – of that, reading the session (3 %), the locks and the worker (2 %) | |
| the trigger after the statement | 7 % |
| – of that, whether the person is new (2 %), the entry in the log (2 %), the lock of the person (1 %) | |
| rows handed to that trigger, and more locks to give back at the end | 2 % |
| the rest: parsing the message, planning, starting and ending the executor, the socket | 34 % |

The background worker takes another 1 %. So by the samples a join costs some 18 % more CPU time than bare; by the times of
the processes, in the table above, more where 32 connections share two cores, as they wait for each other's pages and locks
as well. Where the machine has nothing left to give, that is what is missing. Each part of it answers a question that
the bare INSERT does not ask: is the session still open, is there a place, is the person new, and what did this change.

## Behind the truth

While 32 connections join one session as fast as they can, a sampler reads the session's row every 5 ms. The row is behind
by the time since the commit of the first join that it does not count ([lag.py](bench/lag.py) says how).

{lags}

## Bulk

{bulk}

## Schedules

The shortest of several runs for expansions, the median for pages; python-dateutil on the same machine, one after the
other ([schedules.py](bench/schedules.py)).

{shows}
"""

EXCERPT = """\
Transactions a second on {machine}, default settings, durable commits, loaded by pgbench on the same cores.
*Bare* is the same statement without our triggers, *PL/pgSQL* a row trigger that updates the session twice, *+1 ms* a
commit that takes a millisecond longer, as on a cloud's disk. *Browser* rows are whole requests as PostgREST sends them,
through the functions, against a plain INSERT or UPDATE without row-level security.

{rates}

At {joins} joins a second into one session, its row is behind by {p50} (half of the time), {p99} (99 %), {max} at most,
and changes {updates} times a second. A join costs the server {ours} of CPU time (bare {bare}, PL/pgSQL {plpgsql}).
100,000 viewers by one statement take, against bare: {bulk} times as long.

{missed}"""
