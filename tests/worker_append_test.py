"""Numbers of a busy session: appended beside each other, folded by a background worker, exact at rest."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from busy import THREADS, another, code_of, crowd, join, kept, leave, pending, status, until, watching
from people import people
from recount import differences, rest
from refusals import refused
from sizes import own_db

pytestmark = own_db("a database has one worker")


# How a change is made.


def test_one_who_is_alone_sees_its_change_at_once_and_needs_no_worker(plain_db):
    db, session = plain_db, people(plain_db).session()
    with db.connect() as connection:
        for expected in (1, 2, 3):
            join(connection, session)
            (row,) = connection.execute("select current_viewers from public.live_stream_sessions").fetchall()
            assert row["current_viewers"] == expected
    assert (pending(db), status(db)["worker_pid"], status(db)["folds"]) == (0, None, 0)
    assert differences(db) == []


def test_beside_another_a_change_is_appended_and_folded_later(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect() as connection:
        with another(db, session):
            join(connection, session)
            assert (pending(db), kept(db, session), watching(db, session)) == (1, 0, 1)
            assert status(db)["worker_pid"] is not None
        rest(db)
        assert (kept(db, session), kept(db, session, "total_messages")) == (1, 1)
    assert differences(db) == []


def test_an_update_of_the_row_alone_makes_others_append(plain_db):
    """A host that keeps its session open in an editor holds nobody up."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect() as host, db.connect() as connection:
        with host.transaction():
            host.execute("update public.live_stream_sessions set title = 'new' where id = %s", [session["id"]])
            join(connection, session)
            assert pending(db) == 1
        rest(db)
    assert (kept(db, session), kept(db, session, "title")) == (1, "new") and differences(db) == []


BRANCHES = {
    "savepoint": ["savepoint s", "{join}", "rollback to s", "{join}"],
    "twice": ["savepoint s", "{join}", "rollback to s", "{join}", "rollback to s", "{join}"],
    "released": ["savepoint s", "{join}", "release s"],
    "released, then undone": ["{join}", "savepoint s", "savepoint t", "{join}", "release t", "rollback to s"],
    "before and after": ["{join}", "savepoint s", "{join}", "rollback to s"],
    "caught": ["do $$ begin begin {join}; raise 'no'; exception when others then {join}; end; end $$"],
}


@pytest.mark.parametrize("contended", [False, True], ids=["at once", "appended"])
@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("max_viewers", [None, 2])
def test_what_is_undone_in_part(plain_db, contended, branch, max_viewers):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    text = f"insert into public.live_stream_viewers (session_id) values ('{session['id']}')"
    if max_viewers:
        people(db)  # the session's own limit, set by its owner
        db.owner("update public.live_stream_sessions set max_viewers = %s", [max_viewers])
    with db.connect() as connection, contextlib.ExitStack() as stack:
        # Places are counted on the row, for which everybody waits.
        holder = stack.enter_context(another(db, session)) if contended and not max_viewers else None
        connection.execute("begin")
        for statement in BRANCHES[branch]:
            connection.execute(statement.format(join=text))
        assert (holder is None) or pending(db) == 0
        connection.execute("commit")
        assert pending(db) == (1 if holder else 0)
        connection.execute("begin")
        connection.execute(text)
        connection.execute("rollback")
    rest(db)
    assert kept(db, session) == 1 and differences(db) == []


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_stricter_isolation_appends(plain_db, level):
    """Its snapshot may be older than the row, so it does not update it."""
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    with db.connect() as connection:
        connection.execute(f"set default_transaction_isolation = '{level}'")
        with connection.transaction():
            connection.execute("select from public.live_stream_sessions")
            join(db.connect(), session)  # in between
            viewers = join(connection, session)
            leave(connection, viewers)
            join(connection, session)
        rest(db)
        assert kept(db, session) == 2 and kept(db, session, "peak_viewers") == 2
        with another(db, session):
            join(connection, session)
        with connection.transaction():
            connection.execute("update public.live_stream_sessions set status = 'ended'")
    assert kept(db, session) == 0 and differences(db) == []


def test_an_end_with_an_old_snapshot_asks_to_be_run_again(plain_db):
    """It cannot see what is pending, and must not lose it."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect() as connection, db.connect() as joiner, db.connect() as host:
        host.execute("begin isolation level repeatable read")
        host.execute("select from public.live_stream_sessions")
        with another(db, people(db).session(max_viewers=None)):
            joiner.execute("begin isolation level repeatable read")
            join(joiner, session)
            joiner.execute("commit")
            error = code_of(lambda: host.execute("update public.live_stream_sessions set status = 'ended'"))
        host.execute("rollback")
        assert error == "40001"
        connection.execute("update public.live_stream_sessions set status = 'ended' where id = %s", [session["id"]])
    assert kept(db, session) == 0 and differences(db) == []


@pytest.mark.parametrize("worker", ["on", "off"])
@pytest.mark.parametrize("how", ["statement_timeout", "lock_timeout", "cancel"])
def test_waiting_in_the_trigger_can_be_broken_off(plain_db, how, worker):
    """Who ends the session holds everybody back; so does who has the row, where there is no worker."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect(options=f"-c live_stream.background_worker={worker}") as connection, db.connect() as host:
        if how != "cancel":
            connection.execute(f"set {how} = '50ms'")
        host.execute("begin")
        host.execute("update public.live_stream_sessions set status = 'ended' where id = %s", [session["id"]])
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(code_of, lambda: join(connection, session))
            if how == "cancel":
                waits = "select pg_cancel_backend(pid) from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
                until(lambda: db.sql(waits, [connection.info.backend_pid]))
            assert waiting.result() == {"lock_timeout": "55P03"}.get(how, "57014")
        host.execute("rollback")
        connection.execute("reset all")
        join(connection, session)
    rest(db)
    assert kept(db, session) == 1 and differences(db) == []


def test_prepared_transactions(fresh_server):
    """They hold what they hold: the others append meanwhile, and the worker stays until they are finished."""
    fresh_server.run("postgres", "alter system set max_prepared_transactions = 5")
    fresh_server.crash()
    fresh_server.make_templates()
    with fresh_server.database("plain") as db:
        session = people(db).session(max_viewers=None)
        for verdict, before, after in (("commit", 1, 5), ("rollback", 6, 6)):
            with db.connect() as connection:
                for name in ("one", "other"):
                    connection.execute("begin")
                    join(connection, session, rows=2)
                    connection.execute(f"prepare transaction '{name}'")
                join(connection, session)
                assert pending(db) + kept(db, session) == before
            fresh_server.crash()
            db.close()
            with db.connect() as connection:
                rest(db)
                assert kept(db, session) == before
                for name in ("one", "other"):
                    connection.execute(f"{verdict} prepared '{name}'")
            rest(db)
            assert kept(db, session) == after and differences(db) == []


# The session itself changes meanwhile.


def test_a_session_deleted_while_changes_are_pending(plain_db):
    db, world = plain_db, people(plain_db)
    session, other = world.session(max_viewers=None), world.session(max_viewers=None, by=world.new_influencer())
    with db.connect() as connection:
        with another(db, session):
            gone = join(connection, session, rows=3)
            # Takes a row away that the peak was counted from.
            connection.execute("delete from public.live_stream_viewers where id = %s", [gone[0]])
            join(connection, other)
            assert pending(db) >= 2
        connection.execute("delete from public.live_stream_sessions where id = %s", [session["id"]])
    rest(db)
    assert kept(db, other) == 1 and differences(db) == []


def test_a_session_deleted_while_its_peak_is_in_doubt(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect() as connection:
        with another(db, session):
            (viewer, *_) = join(connection, session, rows=3)
            connection.execute("delete from public.live_stream_viewers where id = %s", [viewer])
        # Folded, but not at rest yet.
        until(lambda: pending(db) == 0)
        connection.execute("delete from public.live_stream_sessions where id = %s", [session["id"]])
    rest(db)


def test_ending_settles_what_is_pending(plain_db):
    """The row that the host gets is final."""
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    product = world.product(session)
    with db.connect() as connection:
        holder = db.connect()
        holder.execute("begin")
        holder.execute("update public.live_stream_products set clicks = clicks + 1")
        holder.execute("update public.live_stream_sessions set title = 'Renamed' where id = %s", [session["id"]])
        viewers = join(connection, session, rows=4) + join(connection, session, world.viewer.user_id)
        leave(connection, viewers[:2])
        world.say(session, world.viewer)
        world.service.insert(
            "live_stream_orders", {"session_id": session["id"], "product_id": world.product(session)["product_id"], "amount": 5}
        )
        assert pending(db) >= 4 and kept(db, session) == 0
        with ThreadPoolExecutor(1) as threads:
            ending = threads.submit(world.end, session)
            holder.execute("commit")
            ended = ending.result()
        columns = ("current_viewers", "peak_viewers", "total_unique_viewers", "total_messages", "total_orders", "total_clicks")
        assert [ended[column] for column in columns] == [0, 5, 5, 1, 1, 1] and float(ended["total_revenue"]) == 5
        assert pending(db) == 0 and watching(db, session) == 0
        with refused("PT409", "is ended"):
            world.join(session)
        assert code_of(lambda: join(connection, session)) == "PT409"
        holder.close()
    again = world.read(session)
    assert {column: again[column] for column in columns} == {column: ended[column] for column in columns}
    assert product and differences(db) == []


@pytest.mark.parametrize("column, most", [("connection_issues_count", 2**31 - 1), ("total_revenue", 9_999_999_999.99)])
def test_ending_with_a_number_that_is_full(plain_db, column, most):
    """It stays at the end of its column, as when the worker folds: a show ends whatever viewers report."""
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    viewer, product = world.join(session, world.viewer), world.product(session)
    # As if very many had reported and bought.
    db.sql("set session_replication_role = replica")
    db.sql(f"update public.live_stream_sessions set {column} = {most}")
    db.sql("reset session_replication_role")
    with ThreadPoolExecutor(1) as threads, another(db, session):
        world.viewer.api.rpc("live_stream_report_quality", viewer_id=viewer["id"], disconnections_count=9)
        world.service.update("live_stream_products", {"revenue": 7}, where={"id": product["id"]})
        assert pending(db) == 2
        # It has the row next, before the worker.
        ending = threads.submit(world.end, session)
        until(lambda: db.value("select count(*) from pg_locks where not granted") > 0)
    ended = ending.result()
    assert float(ended[column]) == most and pending(db) == 0


@pytest.mark.parametrize("round", range(3))
def test_ending_under_a_crowd(plain_db, round):
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=[None, 100_000, 400][round])

    def come(connection, number):
        count = 0
        while True:
            error = code_of(lambda: join(connection, session))
            if error:
                return error, count
            count += 1

    def end(connection, number):
        until(lambda: watching(db, session) > 60)
        return connection.execute("update public.live_stream_sessions set status = 'ended' returning *").fetchone()

    *comers, ended = crowd(db, lambda c, n: end(c, n) if n == THREADS else come(c, n), THREADS + 1)
    assert {error for error, _ in comers} == {"PT409"}
    assert ended["total_unique_viewers"] == sum(count for _, count in comers)
    assert pending(db) == 0 and ended["current_viewers"] == 0
    assert differences(db) == []


def test_the_host_goes_on_while_the_session_is_busy(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)

    def work(connection, number):
        if number == 0:
            for n in range(25):
                world.set_session(session, title=f"title {n}")
        else:
            for _ in range(40):
                leave(connection, join(connection, session))

    crowd(db, work)
    row = world.read(session)
    assert (row["title"], row["current_viewers"] if rest(db) else 0) == ("title 24", 0)
    assert kept(db, session, "total_unique_viewers") == 40 * (THREADS - 1) and differences(db) == []
