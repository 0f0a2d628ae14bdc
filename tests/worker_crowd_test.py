"""A crowd at one session: its limit holds exactly, and its peak is the true one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from busy import THREADS, code_of, crowd, join, kept, leave, until, waits_for_a_lock, watching
from people import people
from recount import differences, rest
from sizes import own_db

pytestmark = own_db("a database has one worker")


# The limit, and the peak.


@pytest.mark.parametrize("limit, attempts", [(1, 10), (20, 20), (300, 30), (1_400, 110)])
def test_a_limit_holds_exactly_under_a_crowd(plain_db, limit, attempts):
    """Small ones are counted one by one; a large one is not, until few places are left."""
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=limit)
    outcomes = [
        outcome
        for outcomes in crowd(db, lambda c, n: [code_of(lambda: join(c, session)) for _ in range(attempts)])
        for outcome in outcomes
    ]
    admitted = outcomes.count(None)
    assert set(outcomes) <= {None, "PT409"}
    assert admitted == watching(db, session) == min(limit, THREADS * attempts)
    rest(db)
    assert kept(db, session, "peak_viewers") == admitted and differences(db) == []


@pytest.mark.parametrize("limit", [8, 1_100])
def test_a_limit_holds_while_others_leave(plain_db, limit):
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=limit)
    with db.connect() as connection:
        join(connection, session, rows=limit - 5)

    def work(connection, number):
        mine, refusals = [], set()
        for n in range(40):
            if mine and n % 3 == 2:
                leave(connection, [mine.pop()])
            else:
                refusals.add(code_of(lambda: mine.extend(join(connection, session))))
        return refusals

    refusals = set().union(*crowd(db, work))
    assert refusals == {None, "PT409"}
    rest(db)
    assert kept(db, session, "peak_viewers") == limit and differences(db) == []


@pytest.mark.parametrize("limit", [None, 5_000, 200])
def test_statements_of_many_rows_at_once(plain_db, limit):
    """None waits for another in a circle."""
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=limit)

    def work(connection, number):
        errors = set()
        for n in range(8):
            viewers = []
            errors.add(code_of(lambda: viewers.extend(join(connection, session, rows=5))))
            if viewers and n % 2:
                errors.add(code_of(lambda: leave(connection, viewers[:3])))
        return errors

    assert set().union(*crowd(db, work)) <= {None, "PT409"}
    rest(db)
    assert limit is None or kept(db, session, "peak_viewers") <= limit
    assert differences(db) == []


def test_the_peak_of_a_crowd_that_comes_and_goes(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)

    def work(connection, number):
        for n in range(30):
            with connection.transaction(force_rollback=n % 7 == 6):
                viewers = join(connection, session, rows=1 + n % 2)
                if n % 3 == 0:
                    leave(connection, viewers[:1])
            if n % 3 and n % 7 != 6:
                leave(connection, viewers)

    crowd(db, work)
    assert differences(db) == []


def test_the_peak_where_a_slow_leave_meets_a_quick_join(plain_db):
    """Somebody leaves in a statement that takes its time; the next one has come before it is done."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect() as slow, db.connect() as quick:
        first, second = join(quick, session, rows=2)
        with ThreadPoolExecutor(1) as threads:
            query = """update public.live_stream_viewers set is_still_watching = false
                        where id = %s or (id = %s and pg_advisory_lock(7) is null)"""
            db.sql("select pg_advisory_lock(7)")
            leaving = threads.submit(slow.execute, query, [first, second])
            until(lambda: leaving.done() or waits_for_a_lock(db, slow))
            assert not leaving.done(), leaving.result()
            join(quick, session)
            db.sql("select pg_advisory_unlock(7)")
            leaving.result()
    assert differences(db) == []
    assert kept(db, session, "peak_viewers") == 2


def test_the_same_person_from_many_connections_counts_once(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    persons = [world.new_user().user_id for _ in range(3)]
    crowd(db, lambda c, n: [join(c, session, persons[(n + k) % 3]) for k in range(10)])
    rest(db)
    assert kept(db, session, "total_unique_viewers") == 3 and kept(db, session) == 10 * THREADS
    assert differences(db) == []


def test_many_people_in_one_transaction(plain_db):
    """An import of many viewers, few by few, in one transaction: the server has no lock for each of them."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect() as connection:
        connection.execute(
            f"""do $$ begin for n in 1 .. 500 loop
                  insert into public.live_stream_viewers (session_id, user_id)
                  select '{session["id"]}', gen_random_uuid() from generate_series(1, 60);
                end loop; end $$"""
        )
    rest(db)
    assert kept(db, session, "total_unique_viewers") == 30_000
