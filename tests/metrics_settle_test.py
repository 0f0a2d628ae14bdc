"""Numbers are settled as a transaction commits, whatever it and others have done to the session before."""

from __future__ import annotations

import time

import pytest

from busy import another, code_of, join, kept, pending, until, watching
from crowds import numbers
from people import people
from recount import differences, rest
from sizes import own_db
from steps import Steps, all_end_well, held

pytestmark = own_db("sets background_worker")

COME = "insert into public.live_stream_viewers (session_id) select %(session)s from generate_series(1, %(n)s)"
GO = "update public.live_stream_viewers set is_still_watching = false where session_id = %(session)s and is_still_watching"
BACK = "update public.live_stream_viewers set is_still_watching = true where session_id = %(session)s"
RENAME = "update public.live_stream_sessions set title = 'Another' where id = %(session)s"
FLUSH = "select live_stream.flush_metrics(%(session)s)"
RECOUNT = "select live_stream.recount(%(session)s)"
USER = "insert into public.live_stream_viewers (session_id, user_id) values (%(session)s, %(user)s)"
NO_USER = "delete from public.live_stream_viewers where session_id = %(session)s and user_id = %(user)s"
ERASE = "select live_stream.erase_user(%(user)s)"
SAVE, UNDO = "savepoint here", "rollback to here"

# What a server does in one transaction.
TRANSACTIONS = [
    [COME, GO],
    [COME, GO, COME],
    [COME, GO, BACK],
    [COME, RENAME, GO],
    [COME, RENAME, GO, BACK],
    [COME, FLUSH, GO, COME],
    [COME, SAVE, FLUSH, UNDO, GO, COME],
    [COME, SAVE, GO, FLUSH, UNDO, BACK],
    [COME, RECOUNT, GO, COME],
    [USER, RECOUNT],
    [USER, RECOUNT, NO_USER],
    [USER, RECOUNT, NO_USER, RECOUNT, USER],
    [USER, SAVE, RECOUNT, UNDO],
    [USER, SAVE, NO_USER, RECOUNT, UNDO, RECOUNT],
    [NO_USER, RECOUNT],
    [NO_USER, RECOUNT, USER],
    [USER, ERASE],
    [USER, RECOUNT, ERASE],
    [USER, SAVE, ERASE, UNDO],
    [NO_USER, ERASE, USER],
]  # fmt: skip


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("limit", [None, 30, 1000])
def test_whatever_a_transaction_does_its_numbers_are_those_of_the_rows(plain_db, limit, is_there):
    """One after the other: 20 come and go, a person comes and is counted; near the limit, far from it and without one."""
    world = people(plain_db)
    for transaction in TRANSACTIONS:
        user = world.new_user()
        session = world.session(by=world.new_influencer(), max_viewers=limit)
        if is_there:
            world.join(session, user)
        with plain_db.connect() as connection, connection.transaction():
            for statement in transaction:
                connection.execute(statement, {"session": session["id"], "user": user.user_id, "n": 10})
        assert differences(plain_db) == [], transaction


def test_a_limit_that_is_set_counts_all_who_came_before(plain_db):
    """Without a limit nobody keeps account of who comes; a connection that has looked at the places before must not go on
    from there."""
    plain_db.without_limits()
    world = people(plain_db)
    session = world.session(max_viewers=1000)
    limit = "update public.live_stream_sessions set max_viewers = %s where id = %s"
    with plain_db.connect() as knowing, plain_db.connect() as present, Steps(plain_db) as steps:
        join(knowing, session)
        host = steps.client(world.influencer)
        host.run(limit, [None, session["id"]])
        host.commit()
        # Somebody else is there, so that what others change is appended.
        present.autocommit = False
        join(present, session)
        plain_db.sql(COME, {"session": session["id"], "n": 100})
        host.run(limit, [60, session["id"]])
        host.commit()
        assert code_of(lambda: join(knowing, session)) == "PT409"
        present.rollback()
    assert differences(plain_db) == [] and numbers(plain_db, session)["current_viewers"] == 101


@pytest.mark.parametrize("workers", ["on", "off"])
@pytest.mark.parametrize("how", ["share", "report", "server", "lock"])
def test_who_is_banned_while_its_row_is_held_is_closed_after(plain_db, how, workers):
    """The ban waits for nobody."""
    plain_db.set(background_worker=workers)
    world = people(plain_db)
    session = world.session()
    viewer = world.join(session, world.viewer)
    who, statement = {
        "share": (world.viewer, "select * from public.live_stream_share(%s)"),
        "report": (world.viewer, "update public.live_stream_viewers set buffering_time_seconds = 9 where id = %s"),
        "server": ("service_role", "update public.live_stream_viewers set city = 'Lima' where id = %s"),
        "lock": (None, "select from public.live_stream_viewers where id = %s for update"),
    }[how]
    with Steps(plain_db) as steps:
        holding, banning = steps.client(who), steps.client(world.influencer)
        holding.run(statement, [viewer["id"]])
        all_end_well(banning.start("select * from public.live_stream_ban(%s)", [world.viewer.user_id]))
        holding.commit()
    check_closed(plain_db, viewer, workers)


@pytest.mark.parametrize("workers", ["on", "off"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("statement", [GO, RENAME.replace("live_stream_sessions", "live_stream_viewers").replace("title", "city").replace("where id", "where session_id")])  # fmt: skip
def test_who_has_its_row_while_the_session_ends_is_closed_after(plain_db, statement, end, workers):
    plain_db.set(background_worker=workers)
    world = people(plain_db)
    session = world.session()
    viewer = world.join(session, world.viewer)
    with Steps(plain_db) as steps:
        holding, ending = steps.client(), steps.client(world.influencer)
        holding.run(statement, {"session": session["id"]})
        all_end_well(ending.start("select * from public.live_stream_end(%s)", [session["id"]]))
        holding.connection.commit() if end == "commit" else holding.rollback()
    check_closed(plain_db, viewer, workers)


@pytest.mark.parametrize("workers", ["on", "off"])
def test_each_row_that_is_passed_by_is_looked_at_once(plain_db, workers):
    """Many are held, by one and by several; as each lets go, nothing is noted of the others anew."""
    plain_db.set(background_worker=workers)
    world = people(plain_db)
    session = world.session(max_viewers=None)
    ids = plain_db.sql("insert into public.live_stream_viewers (session_id) select %s from generate_series(1, 200) returning id", [session["id"]])
    write = "update public.live_stream_viewers set city = 'Lima' where id = any (%s)"
    with Steps(plain_db) as steps:
        many, *few = [steps.client() for _ in range(6)]
        many.run(write, [[row["id"] for row in ids[5:]]])
        for client, row in zip(few, ids):
            client.run(write, [[row["id"]]])
        all_end_well(steps.client(world.influencer).start("select * from public.live_stream_end(%s)", [session["id"]]))
        for left, client in zip(reversed(range(195, 200)), few):
            client.commit()
            if workers == "off":
                plain_db.sql("select live_stream.expire_viewers()")
            until(lambda: pending(plain_db) == left)
        many.rollback()
    check_closed(plain_db, ids[0], workers)
    assert watching(plain_db, session) == 0


def test_an_app_that_keeps_a_viewer_open_keeps_nobody_busy(plain_db):
    """Its trigger takes the closing away: that is tried once."""
    world = people(plain_db)
    session = world.session()
    for _ in range(20):
        world.join(session)
    plain_db.owner(
        """create function public.stays() returns trigger language plpgsql as
           'begin return case when new.is_still_watching then new end; end';
           create trigger stays before update on public.live_stream_viewers for each row execute function public.stays()"""
    )
    world.end(session)
    until(lambda: pending(plain_db) == 0)
    assert watching(plain_db, session) == 20


def test_who_holds_its_places_has_no_more_of_them_after(plain_db):
    plain_db.set(join_limit=0, places_per_person=3)
    world = people(plain_db)
    session = world.session()
    with Steps(plain_db) as steps:
        for _ in range(3):
            world.join(session, world.viewer)
        for _ in range(2):
            holding = steps.client(world.viewer)
            holding.run("update public.live_stream_viewers set city = 'Lima' where session_id = %s", [session["id"]])
            for _ in range(4):
                joined = "insert into public.live_stream_viewers (session_id) values (%s)"
                all_end_well(steps.client(world.viewer).start(joined, [session["id"]]))
            holding.commit()
            until(lambda: watching(plain_db, session) == 3)
    assert differences(plain_db) == []


def test_a_server_ends_several_sessions_as_of_an_older_moment(plain_db):
    """Who has come since is not seen, so the transaction is to be run again."""
    world = people(plain_db)
    sessions = [world.session(by=world.new_influencer()) for _ in range(2)]
    end = "update public.live_stream_sessions set status = 'ended' where id = %s"
    with plain_db.connect() as ending:
        ending.execute("begin isolation level repeatable read")
        for session in sessions:
            ending.execute(end, [session["id"]])
        world.join(sessions[1])
        assert code_of(lambda: ending.execute("commit")) == "40001"
    assert watching(plain_db, sessions[1]) == 1 and differences(plain_db) == []


def test_who_sees_an_older_moment_takes_no_look_away(plain_db):
    plain_db.set(background_worker="off")
    world = people(plain_db)
    session = world.session()
    viewer = world.join(session, world.viewer)
    with Steps(plain_db) as steps, plain_db.connect() as older:
        older.execute("begin isolation level repeatable read")
        older.execute("select 1")
        keeper = held(steps, "viewers", viewer)
        all_end_well(steps.client(world.influencer).start("select * from public.live_stream_end(%s)", [session["id"]]))
        keeper.rollback()
        older.execute("select live_stream.expire_viewers()")
        older.execute("commit")
    check_closed(plain_db, viewer, "off")


def check_closed(db, viewer, workers):
    open_row = "select is_still_watching from public.live_stream_viewers where id = %s"
    if workers == "off":
        db.sql("select live_stream.expire_viewers()")
    until(lambda: not db.value(open_row, [viewer["id"]]))
    rest(db)
    assert differences(db) == []


def test_sessions_end_in_one_statement_while_a_server_writes_to_them(plain_db):
    """Each in an order of its own, and neither meets the other in a circle."""
    world = people(plain_db)
    host = world.influencer
    one, two = sorted((world.session(live=False, by=host) for _ in range(2)), key=lambda session: session["id"])
    cancel = "update public.live_stream_sessions set status = 'cancelled' where id = %s"
    with Steps(plain_db) as steps:
        hosting, serving = steps.client(host), steps.client("service_role")
        serving.run("insert into public.live_stream_viewers (session_id) select unnest(%s::uuid[])", [[one["id"], two["id"]]])
        hosting.run(cancel, [two["id"]])
        came = serving.start("select 1")
        serving.waits()
        hosting.run(cancel, [one["id"]])
        hosting.commit()
        all_end_well(came, allowed=("PT409", None))
    assert differences(plain_db) == []


def test_many_sessions_end_with_few_locks(plain_db):
    """A server has room for some thousands of all connections."""
    world = people(plain_db)
    plain_db.sql(
        """insert into public.live_stream_sessions (influencer_id, title)
           select %s, 'Planned' from generate_series(1, 3000)""",
        [world.influencer.influencer_id],
    )
    locks = "select count(*) as n from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
    with plain_db.connect() as connection:
        for change in ("update public.live_stream_sessions set status = 'cancelled'", "delete from public.live_stream_sessions"):
            with connection.transaction():
                connection.execute(change)
                assert connection.execute(locks).fetchone()["n"] < 150
    assert differences(plain_db) == []


def test_an_erasure_that_waits_for_one_host_holds_up_no_other(plain_db):
    world = people(plain_db)
    hosts = [world.new_influencer() for _ in range(2)]
    sessions = [world.session(by=host) for host in hosts]
    for session in sessions:
        world.join(session, world.viewer)
    with Steps(plain_db) as steps:
        for busy, host in ((sessions[0], hosts[1]), (sessions[1], hosts[0])):
            keeper, erasing, pausing = held(steps, "sessions", busy), steps.client("service_role"), steps.client(host)
            erased = erasing.start("select live_stream.erase_user(%s)", [world.viewer.user_id], commit=False)
            erasing.waits()
            (other,) = [session for session in sessions if session is not busy]
            all_end_well(pausing.start("select * from public.live_stream_pause(%s)", [other["id"]]))
            keeper.rollback()
            all_end_well(erased)
            erasing.rollback()
    assert differences(plain_db) == []


def test_an_erased_viewer_and_one_who_came_beside_it(plain_db):
    """It came while the other was there, and commits when that is gone: nobody can count them together any more."""
    plain_db.set(flush_interval="2s")
    world = people(plain_db)
    session, busy = world.session(max_viewers=None), world.session(by=world.new_influencer())
    world.join(session, world.viewer)
    with plain_db.connect() as coming, plain_db.connect() as present, Steps(plain_db) as steps:
        for connection in (coming, present):
            connection.autocommit = False
            join(connection, session)
        erasing = steps.client("service_role")
        # The worker has just folded, and does so again in two seconds.
        with another(plain_db, busy):
            world.join(busy)
        until(lambda: pending(plain_db) == 0)
        all_end_well(erasing.start("select live_stream.erase_user(%s)", [world.viewer.user_id]))
        coming.commit()
        present.rollback()
    assert differences(plain_db) == []


def test_who_closes_viewers_of_whom_one_came_when_the_other_had_gone(plain_db):
    """Both are pending as the row is written that they leave with: they were never there together."""
    plain_db.set(flush_interval="2s")
    world = people(plain_db)
    session, busy = world.session(max_viewers=None), world.session(by=world.new_influencer())
    close = "update public.live_stream_viewers set is_still_watching = false where id = %s"
    with plain_db.connect() as present, Steps(plain_db) as steps:
        present.autocommit = False
        join(present, session)
        closing = steps.client("service_role")
        # The worker has just folded, and does so again in two seconds.
        with another(plain_db, busy):
            world.join(busy)
        until(lambda: pending(plain_db) == 0)
        closing.run(close, [world.join(session, world.viewer)["id"]])
        closing.run(close, [world.join(session, world.stranger)["id"]])
        assert pending(plain_db) == 2
        present.rollback()
        closing.commit()
    assert plain_db.value("select peak_viewers from public.live_stream_sessions where id = %s", [session["id"]]) == 1
    assert differences(plain_db) == []


def test_a_report_counts_a_peak_that_is_in_doubt(plain_db):
    """Somebody comes before it is folded that another one has gone; the worker would count them in some rounds."""
    plain_db.set(flush_interval="2s")
    world = people(plain_db)
    session, busy = world.session(max_viewers=None), world.session(by=world.new_influencer())
    row = world.join(session, world.viewer)
    with plain_db.connect() as present:
        present.autocommit = False
        join(present, session)
        with another(plain_db, busy):
            world.join(busy)
        until(lambda: pending(plain_db) == 0)
        world.leave(row, world.viewer)
        present.rollback()
    world.join(session, world.stranger)
    peak = "select peak_viewers from public.live_stream_sessions where id = %s"
    assert plain_db.value(peak, [session["id"]]) == 2
    until(lambda: pending(plain_db) == 0)
    plain_db.sql("select live_stream.flush_metrics()")
    assert plain_db.value(peak, [session["id"]]) == 1
    assert plain_db.sql("select * from live_stream.verify_metrics()") == []


def test_many_viewers_by_one_statement_cost_about_the_same_each(plain_db):
    """Six times as many take no more than ten times as long."""
    world = people(plain_db)

    def seconds(viewers):
        session = world.session(max_viewers=None)
        insert = "insert into public.live_stream_viewers (session_id, user_id) select %s, gen_random_uuid() from generate_series(1, %s)"
        since = time.monotonic()
        plain_db.sql(insert, [session["id"], viewers])
        took = time.monotonic() - since
        plain_db.sql("delete from public.live_stream_sessions where id = %s", [session["id"]])
        return took

    # Whatever else the machine does makes some of them slower, never faster.
    few, many = float("inf"), float("inf")
    for _ in range(6):
        few, many = min(few, seconds(10_000)), min(many, seconds(60_000))
        if many < 10 * few:
            break
    assert many < 10 * few, (few, many)
    assert differences(plain_db) == []


def test_a_crowd_of_whom_some_were_there_before(plain_db):
    """More than are looked for one by one: who is new, who has been there, who goes for good and who goes and comes."""
    world = people(plain_db)
    session = world.session(max_viewers=None)
    users = [str(row["id"]) for row in plain_db.sql("select gen_random_uuid() as id from generate_series(1, 300)")]
    insert = "insert into public.live_stream_viewers (session_id, user_id) select %s, unnest(%s::uuid[])"
    delete = "delete from public.live_stream_viewers where session_id = %s and user_id = any (%s::uuid[])"
    plain_db.sql(insert, [session["id"], users[:150]])
    with Steps(plain_db) as steps:
        writing = steps.client()
        writing.run(delete, [session["id"], users[:50]])
        writing.run(insert, [session["id"], users[25:]])
        writing.run(delete, [session["id"], users[290:]])
        writing.commit()
    assert plain_db.value("select total_unique_viewers from public.live_stream_sessions where id = %s", [session["id"]]) == 265
    assert differences(plain_db) == []
