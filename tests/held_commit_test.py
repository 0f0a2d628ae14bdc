"""Requests that are stopped in the middle of their commit, and requests that wait there: who waits for them, and what is
left of them when they are broken off.

A commit is stopped in two places. Before it is decided: at a trigger of the test's, while our part of the commit has what it
has. And after, with all its locks: while it waits for a standby that there is not."""

from __future__ import annotations

import os
import socket
import time

import pytest

from beside import WAITS as WAITING
from beside import Asking, Beside, Crowd, all_of, is_clean
from everybody import REQUESTS, Stage
from held_open_test import nothing_is_missed
from people import people
from recount import differences
from replica import until
from sizes import own_db, scale
from who_waits import WAITS, WAITS_FOR_A_COMMIT, expected

# As `pg_locks.objsubid` has it. All persons share 2,048 of these locks.
PERSON_CLASS = 0x4C53 + 3
PATIENCE_SECONDS = 30


@pytest.fixture(scope="module")
def waiting_for_a_standby(server):
    """Commits with `synchronous_commit = on` wait until they are cancelled; all others do not."""
    server.run("postgres", "alter system set synchronous_commit = local")
    server.run("postgres", "alter system set synchronous_standby_names = nobody")
    server.run("postgres", "select pg_reload_conf()")
    try:
        with server.connect("postgres") as probing, server.connect("postgres") as looking:
            probing.execute("set synchronous_commit = on")
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not _stops(probing, looking):
                assert time.monotonic() < deadline
        yield
    finally:
        server.run("postgres", "alter system reset all")
        server.run("postgres", "select pg_reload_conf()")


def _stops(probing, looking):
    """Whether a commit waits for a standby: as soon as the server has read what is set."""
    looking.execute("set synchronous_commit = local")
    with Beside(None) as beside:
        probe = beside.threads.submit(probing.execute, "select pg_logical_emit_message(true, 'probe', '')")
        query = "select pg_cancel_backend(pid) from pg_stat_activity where pid = %s and wait_event = 'SyncRep'"
        while not probe.done():
            if looking.execute(query, [probing.info.backend_pid]).fetchall():
                probe.result(timeout=PATIENCE_SECONDS)
                return True
            time.sleep(0.005)
    return False


@pytest.fixture(scope="module")
def crowd(server, waiting_for_a_standby):
    with server.database("plain") as db:
        db.without_limits()
        yield Crowd(db)
        assert differences(db) == []


def stop_in_commit(beside, asking):
    """The commit, which goes on when it is cancelled; None where there is nothing to wait for."""
    asking.connection.execute("set local synchronous_commit = on")
    commit = beside.threads.submit(asking.commit)
    deadline = time.monotonic() + PATIENCE_SECONDS
    query = "select exists (select from pg_stat_activity where pid = %s and wait_event = 'SyncRep')"
    while not commit.done():
        if beside.stage.db.value(query, [asking.pid]):
            return commit
        assert time.monotonic() < deadline
        time.sleep(0.002)
    commit.result()
    return None


# What writes nothing here, or what may be lost.
WRITES_NOTHING = {
    "session", "session_by_code", "upcoming", "occurrences", "calendar", "calendar_feed", "session_analytics", "stream_credentials",
    "heartbeat", "anonymous heartbeat", "brings nobody back", "reads sessions", "reads the chat", "reads products", "reads upcoming",
    "reads viewers", "expire_viewers", "run_schedules", "send_reminders", "verify_metrics", "export_user", "personal_data", "purge",
}  # fmt: skip
# In short: those for whose commit others wait who do not wait for their open transaction.
STOPPED = scale(
    [name for name in REQUESTS if name not in WRITES_NOTHING and any(name in rule.held for rule in WAITS_FOR_A_COMMIT)],
    [name for name in REQUESTS if name not in WRITES_NOTHING],
)


@pytest.mark.parametrize("held", STOPPED)
def test_who_waits_for_a_commit_that_is_stopped(crowd, held):
    stage = crowd.stage()
    one, two = crowd.asking("one"), crowd.asking("two")
    with Beside(stage) as beside:
        one.ask(held)
        commit = stop_in_commit(beside, one)
        assert commit or held == "flush_metrics", "was not stopped"
        became = beside.outcomes(two, held, one.pid)
        if commit:
            crowd.db.sql("select pg_cancel_backend(%s)", [one.pid])
            commit.result(timeout=PATIENCE_SECONDS)
    waited = {name for name, outcome in became.items() if outcome == WAITING}
    must, may = expected(WAITS + WAITS_FOR_A_COMMIT, held, set(became))
    # Two persons in 2,048 share a lock.
    shared = {name for name in waited - must - may if beside.locks[name] == PERSON_CLASS}
    assert len({REQUESTS[name].who for name in shared}) <= 1, shared
    assert must <= waited <= must | may | shared, f"too many: {waited - must - may}, too few: {must - waited}"
    assert {name: outcome for name, outcome in became.items() if outcome not in (None, WAITING)} == {}
    nothing_is_missed(crowd.db)


@pytest.mark.parametrize("how", ["cancel", "terminate", "disconnect"])
def test_a_commit_that_is_broken_off_after_it_was_decided_is_one(crowd, how):
    for held in ("join", "message", "track_click", "follow", "end"):
        stage = crowd.stage()
        before, one = all_of(stage), crowd.asking("one")
        with Beside(stage) as beside:
            one.ask(held)
            commit = stop_in_commit(beside, one)
            if how == "disconnect":
                hang_up(one)
            crowd.db.sql(f"select pg_{'terminate' if how == 'terminate' else 'cancel'}_backend(%s)", [one.pid])
            error = commit.exception(timeout=PATIENCE_SECONDS)
            assert (error is None) == (how == "cancel"), error
            if how != "cancel":
                one.connection.close()
            gone = "select not exists (select from pg_stat_activity where pid = %s and xact_start is not null)"
            until(lambda: crowd.db.value(gone, [one.pid]), "an end of the transaction")
        assert all_of(stage) != before, held
        if how == "cancel" and held != "end":
            is_clean(one)


def hang_up(asking):
    """The client is gone, as far as the server can see."""
    with socket.socket(fileno=os.dup(asking.connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


# Before it is decided.

BREAKS = {"cancel": "57014", "statement_timeout": "57014", "lock_timeout": "55P03", "terminate": "57P01", "disconnect": None}


def break_off_commit(beside, asking, how, ready, let_go):
    """Commits, breaks that off as soon as it is `ready` for it, and has what it waits for let go."""
    db = beside.stage.db
    if how.endswith("timeout"):
        asking.connection.execute(f"set local {how} = '300ms'")
    commit = beside.threads.submit(asking.commit)
    if not how.endswith("timeout"):
        ready(commit)
    if how == "disconnect":
        # The server does not look whether its client is there while it waits: what it was told to do, it does.
        hang_up(asking)
        let_go()
    elif how in ("cancel", "terminate"):
        db.sql(f"select pg_{how}_backend(%s)", [asking.pid])
    error = commit.exception(timeout=PATIENCE_SECONDS)
    assert error is not None, how
    if how in ("terminate", "disconnect"):
        asking.connection.close()
    else:
        assert error.sqlstate == BREAKS[how], error
    left = "select exists (select from pg_stat_activity where pid = %s and xact_start is not null)"
    if how in ("terminate", "disconnect"):
        until(lambda: not db.value(left, [asking.pid]), "an end of the transaction")
    else:
        asking.rollback()
    if how != "disconnect":
        let_go()


STOP = """
create function public.test_stop() returns trigger language plpgsql as $$
begin
  if current_setting('test.stop', true) = 'yes' then
    perform pg_advisory_xact_lock_shared(4711);
  end if;
  return new;
end $$
"""
# At which writes of our part of a commit: the request, and the trigger that it comes to.
PLACES = {
    "tallies of a viewer": ("message", "create trigger a_stop before update on public.live_stream_viewers"),
    "tallies of a product": ("track_click", "create trigger a_stop before update on public.live_stream_products"),
    "the session's row": ("join", "create trigger a_stop before update on public.live_stream_sessions"),
    "after all of it": ("join", "create constraint trigger z_stop after update on public.live_stream_sessions deferrable initially deferred"),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@own_db("has triggers of its own")
def test_a_commit_that_is_broken_off_in_the_middle(plain_db, place):
    held, trigger = PLACES[place]
    plain_db.without_limits()
    plain_db.owner(STOP)
    plain_db.owner(f"{trigger} for each row execute function public.test_stop()")
    stage = Stage(people(plain_db))
    before = all_of(stage)
    with Beside(stage) as beside, plain_db.connect() as keeper:
        for how in BREAKS:
            with Asking(stage, "one") as one:
                keeper.execute("select pg_advisory_lock(4711)")
                one.connection.execute("set test.stop = 'yes'")
                one.ask(held)
                ready = lambda commit: _waits(beside, commit, one.pid, keeper.info.backend_pid)
                break_off_commit(beside, one, how, ready, lambda: keeper.execute("select pg_advisory_unlock(4711)"))
                if how not in ("terminate", "disconnect"):
                    is_clean(one, writes=False)
            assert how == "disconnect" or all_of(stage) == before, how
    assert all_of(stage) != before
    with Asking(stage, "two") as two:
        is_clean(two)
    assert differences(plain_db) == []


def _waits(beside, commit, who, whom):
    assert beside.waits(commit, who, whom), "did not come there"


# What waits in its commit: for whom, and who.
WAITERS = {"join": "end", "comes back by the function": "end", "accept_invitation": "host revokes a link"}


@pytest.mark.parametrize("waiter", WAITERS)
@own_db("has commits that wait")
def test_a_commit_that_waits_is_broken_off(plain_db, waiter):
    """statement_timeout runs while our part of the commit does, though PostgreSQL has stopped its own by then."""
    plain_db.without_limits()
    stage = Stage(people(plain_db))
    before = all_of(stage)
    for how in BREAKS:
        with Asking(stage, "one") as one, Asking(stage, "two") as two, Beside(stage) as beside:
            one.ask(WAITERS[waiter])
            two.ask(waiter)
            break_off_commit(beside, two, how, lambda commit: _waits(beside, commit, two.pid, one.pid), one.rollback)
            if how not in ("terminate", "disconnect"):
                is_clean(two, writes=False)
        assert how == "disconnect" or all_of(stage) == before, how
    assert all_of(stage) != before
    assert differences(plain_db) == []
