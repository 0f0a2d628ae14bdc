"""Fixtures: databases, people in them, servers.

    def test_a_join_counts(db, world):            # in a database that the module's tests share, with people of its own
    @own_db("drops a column")                     # in one that no other test sees
    @both_shapes                                  # test_…[plain], test_…[supabase]; without, in `make test`, supabase alone
    def test_plain_only(plain_db):                # one shape
    def test_install(fresh_server):               # a cluster without extension, databases or roles

`--shuffle=7` runs modules, and the tests in each, in another order. TEST_MINUTES=20 leaves out what has not begun by
then, and says what that was.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Callable, Iterator

import pytest

from database import KINDS, ROOT, Database, Server
from neighbours import Neighbours
from people import World, people
from sizes import LONG


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle", type=int, metavar="SEED", help="modules, and tests within each, in an order of this seed")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "own_db(why): the test has a database that no other test sees")
    config.addinivalue_line("markers", "both_shapes: runs on a plain and on a Supabase-shaped database, in `make test` too")
    if "TEST_MINUTES" in os.environ:
        # The processes that run the tests inherit it.
        os.environ.setdefault("TEST_DEADLINE", str(time.time() + 60 * float(os.environ["TEST_MINUTES"])))


NO_TIME = "no time left"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if time.time() > float(os.environ.get("TEST_DEADLINE", "inf")):
        pytest.skip(NO_TIME)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.stats.get("skipped", [])
    left_out = Counter(report.nodeid.partition("::")[0] for report in reports if NO_TIME in str(report.longrepr))
    if left_out:
        terminalreporter.section("not run: " + NO_TIME)
        for module, count in sorted(left_out.items()):
            terminalreporter.line(f"{count:5} of {module}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind_of_db" in metafunc.fixturenames:
        both = LONG or metafunc.definition.get_closest_marker("both_shapes")
        metafunc.parametrize("kind_of_db", KINDS if both else ("supabase",), indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seed = config.getoption("shuffle")
    if seed is None:
        return
    chance = random.Random(seed)
    modules: dict[str, list[pytest.Item]] = {}
    for item in items:
        modules.setdefault(item.nodeid.partition("::")[0], []).append(item)
    shuffled = list(modules.values())
    chance.shuffle(shuffled)
    for some in shuffled:
        chance.shuffle(some)
    items[:] = [item for some in shuffled for item in some]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> pytest.TestReport:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of this process, with the templates `plain` and `supabase`."""
    _sweep()
    server = Server()
    try:
        server.make_templates()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def _shared(server: Server) -> Iterator[dict[str, Neighbours]]:
    """The databases of this module, by shape."""
    shared: dict[str, Neighbours] = {}
    yield shared
    for neighbours in shared.values():
        server.drop(neighbours.db)


@pytest.fixture
def _database(request: pytest.FixtureRequest, server: Server) -> Iterator[Callable[[str], Database]]:
    """Gives the test its database of a shape, as its marks say."""
    if request.node.get_closest_marker("own_db"):
        own: list[Database] = []

        def copy(kind: str) -> Database:
            own.append(server.copy(kind))
            return own[-1]

        yield copy
        for db in own:
            server.drop(db)
        return
    shared, used = request.getfixturevalue("_shared"), set()

    def share(kind: str) -> Database:
        if kind not in shared:
            shared[kind] = Neighbours(server.copy(kind))
        used.add(kind)
        return shared[kind].db

    yield share
    complaints = []
    for kind in used:
        # What a test leaves that has failed half-way is nobody's fault.
        failed = request.node.stash.get(FAILED, False)
        complaint = None if failed else shared[kind].complaint()
        if failed or complaint:
            server.drop(shared.pop(kind).db)
        if complaint:
            complaints.append(complaint)
    if complaints:
        pytest.fail("; ".join(complaints), pytrace=False)


@pytest.fixture
def kind_of_db(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def db(kind_of_db: str, _database: Callable[[str], Database]) -> Database:
    return _database(kind_of_db)


@pytest.fixture
def plain_db(_database: Callable[[str], Database]) -> Database:
    return _database("plain")


@pytest.fixture
def supabase_db(_database: Callable[[str], Database]) -> Database:
    return _database("supabase")


@pytest.fixture
def world(db: Database) -> World:
    """People in `db`; elsewhere `people(plain_db)`."""
    return people(db)


@pytest.fixture
def fresh_server() -> Iterator[Server]:
    """Another cluster, empty: for what roles, installs, crashes and dumps do to a whole server."""
    server = Server()
    try:
        yield server
    finally:
        server.remove()


def _sweep() -> None:
    """Stops the servers that a killed run left behind."""
    for folder in (ROOT / "target" / "tests").glob("*-*"):
        pid = int(folder.name.partition("-")[0])
        if not Path(f"/proc/{pid}").exists():
            subprocess.run([ROOT / "scripts" / "server", f"tests/{folder.name}", "remove"], check=False)
