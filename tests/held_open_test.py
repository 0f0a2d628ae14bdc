"""Requests that take their time: one is held open, and another person's request beside it does not wait.

`WAITS` of tests/who_waits.py is the table of who waits for whom: all other pairs must not. Who waits is seen by whom the
server says that it waits for, not by a clock."""

from __future__ import annotations

import re
from contextlib import ExitStack

import psycopg
import pytest

from beside import WAITS as WAITING
from beside import Asking, Beside, Crowd, all_of, is_clean
from everybody import CASTS, REQUESTS, Stage
from recount import differences, unaccounted
from replica import until
from sizes import own_db
from who_waits import COMES, DELETES, README, WAITED_FOR, WAITS, expected, readme_table

pytestmark = own_db("looks at a catalog that nobody has changed")


@pytest.fixture(scope="module")
def crowd(server):
    """One database for all, as what is held is others' each time; where all numbers are right at the end."""
    with server.database("plain") as db:
        db.without_limits()
        yield Crowd(db)
        assert differences(db) == []


def nothing_is_missed(db):
    """What a commit has passed by is closed by the worker a moment later."""
    until(lambda: not unaccounted(db), "numbers that are those of the rows")


# The list.


def test_every_function_is_among_the_requests(plain_db):
    """Those of clients, and those of the engine that the server calls."""
    functions = plain_db.sql(
        """select n.nspname || '.' || proname as name from pg_proc p join pg_namespace n on n.oid = pronamespace
            where prorettype <> 'trigger'::regtype
              and case nspname when 'public' then proname like 'live\\_stream\\_%'
                  and (has_function_privilege('anon', p.oid, 'execute') or has_function_privilege('authenticated', p.oid, 'execute'))
                else nspname = 'live_stream' and provolatile = 'v' and has_function_privilege('service_role', p.oid, 'execute')
                  and not has_function_privilege('authenticated', p.oid, 'execute') end"""
    )
    called = {name for request in REQUESTS.values() for name in re.findall(r"([a-z_]+\.[a-z_]+)\(", request.sql)}
    assert len(functions) > 50
    assert {row["name"] for row in functions} - called == set()


def test_every_direct_write_is_among_the_requests(plain_db):
    """What clients may insert, update and delete, each as somebody who may."""
    allowed = plain_db.sql(
        """select format('%s public.%s', what, relname) as write
             from pg_class c, unnest('{insert,update,delete}'::text[]) what, unnest('{anon,authenticated}'::regrole[]) role
            where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
              and case what when 'delete' then has_table_privilege(role, c.oid, what) else has_any_column_privilege(role, c.oid, what) end
            group by 1"""
    )
    sent = {f"{what} {table}" for request in REQUESTS.values() for what, table in re.findall(r"(insert|update|delete) (?:into |from |)(public\.[a-z_]+)", request.sql)}
    assert {row["write"] for row in allowed} - sent == set()
    upserts = {table for request in REQUESTS.values() for table in re.findall(r"insert into public\.([a-z_]+) .* do update", request.sql)}
    assert upserts == {f"live_stream_{name}" for name in ("sessions", "viewers", "chat", "products", "schedule")}


@pytest.mark.parametrize("cast", CASTS)
def test_every_request_succeeds_where_nothing_is_held(crowd, cast):
    """So that one that is refused beside others is refused for their sake."""
    crowd.stage()
    rows = {name: crowd.asking(cast).whole(name) for name in REQUESTS}
    assert [name for name, count in rows.items() if count < 1] == ["brings nobody back"]
    nothing_is_missed(crowd.db)


def test_the_readme_says_the_same():
    assert readme_table() + "\n" in README.read_text()


# Held open.

# What it is told as it commits, after others have done all they do: the host has ended the session, and revoked the link.
TOO_LATE = dict.fromkeys(COMES, "PT409") | {"accept_invitation": "PT404"}


@pytest.mark.parametrize("held", REQUESTS)
def test_a_request_that_is_held_open_holds_up_nobody(crowd, held):
    stage = crowd.stage()
    one, two = crowd.asking("one"), crowd.asking("two")
    with Beside(stage) as beside:
        one.ask(held)
        became = beside.outcomes(two, held, one.pid)
        try:
            one.commit()
            told = None
        except psycopg.Error as error:
            told = error.sqlstate
    waited = {name for name, outcome in became.items() if outcome == WAITING}
    must, may = expected(WAITS, held, set(became))
    assert must <= waited <= must | may, f"too many: {waited - must - may}, too few: {must - waited}"
    assert {name: outcome for name, outcome in became.items() if outcome not in (None, WAITING)} == {}
    assert told == TOO_LATE.get(held)
    nothing_is_missed(crowd.db)
    if became.get("end", WAITING) is None:
        left_open = "select count(*) from public.live_stream_viewers where is_still_watching and session_id = %s"
        until(lambda: crowd.db.value(left_open, [stage.session["id"]]) == 0, "nobody who watches what is over")


# A deletion that waits has everybody wait, as the table says.
NOT_WAITING = DELETES


@pytest.mark.parametrize("held", sorted({held for rule in WAITS for held in rule.held} & WAITED_FOR))
def test_who_waits_holds_up_nobody_either(crowd, held):
    """All who wait do so at once, and stay; a third cast sends everything beside them."""
    stage = Stage(crowd.world, ("one", "two", "three"))
    must, may = expected(WAITS, held, set(REQUESTS))
    with Asking(stage, "one") as one, Asking(stage, "three") as three, Beside(stage) as beside, ExitStack() as stack:
        one.ask(held)
        waiting = []
        for name in REQUESTS:
            if name in must - NOT_WAITING and not (REQUESTS[name].who == REQUESTS[held].who == "host"):
                two = stack.enter_context(Asking(stage, "two"))
                task = beside.threads.submit(two.whole, name)
                if beside.waits(task, two.pid, one.pid):
                    waiting.append((name, task))
        assert waiting
        became = beside.outcomes(three, held, one.pid)
        one.rollback()
        told = {name: getattr(task.exception(timeout=30), "sqlstate", None) for name, task in waiting}
    waited = {name for name, outcome in became.items() if outcome == WAITING}
    # Who waits may itself be waited for, as if it were under way.
    allowed = set().union(*(group for name in [held, *told] for group in expected(WAITS, name, set(became))))
    assert waited <= allowed, f"too many: {waited - allowed}"
    assert set(became.values()) <= {None, WAITING}, became
    # What others have done meanwhile may be told: that the session is over, that the message is taken away. But no circle.
    assert set(told.values()) <= {None, "PT409", "PT404", "42501", "23514"}, told
    nothing_is_missed(crowd.db)


# Broken off.

BREAKS = ("rollback", "cancel", "statement_timeout", "terminate", "disconnect")


@pytest.mark.parametrize("how", BREAKS)
def test_a_request_that_is_broken_off_never_was(crowd, how):
    stage = crowd.stage()
    before = all_of(stage)
    for held in ("join", "message", "react", "track_click", "leave", "end", "follow", "record_order", "erase_user"):
        one = crowd.asking("one")
        one.ask(held)
        with Beside(stage) as beside:
            break_off(beside, one, how)
    assert all_of(stage) == before
    is_clean(crowd.asking("one"))


def break_off(beside, asking, how):
    """A transaction between two statements, or in one that takes its time."""
    pid, connection = asking.pid, asking.connection
    if how == "rollback":
        asking.rollback()
    elif how == "disconnect":
        connection.close()
    else:
        if how == "statement_timeout":
            connection.execute("set local statement_timeout = 50")
        sleeping = beside.threads.submit(connection.execute, "select pg_sleep(30)")
        if how != "statement_timeout":
            beside.until(pid, "PgSleep")
            beside.stage.db.sql(f"select pg_{'cancel' if how == 'cancel' else 'terminate'}_backend(%s)", [pid])
        assert sleeping.exception(timeout=30).sqlstate == ("57P01" if how == "terminate" else "57014")
        if how == "terminate":
            connection.close()
        asking.rollback()
    left = "select exists (select from pg_stat_activity where pid = %s and xact_start is not null)"
    until(lambda: not beside.stage.db.value(left, [pid]), "an end of the transaction")
