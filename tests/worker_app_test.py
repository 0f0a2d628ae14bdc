"""What an app brings along into the worker, and what the server has room for."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from busy import (
    blocks,
    another,
    check_all_there,
    code_of,
    crowd,
    join,
    kept,
    loaded,
    pending,
    status,
    until,
    waits_for_a_lock,
    watching,
)
from database import Database
from people import people
from recount import differences, rest
from sizes import own_db

pytestmark = own_db("a database has one worker")


# What the app brings along, and what the server has room for.


def test_one_session_whose_numbers_are_refused_holds_up_no_other(plain_db):
    """An app's trigger refuses them as late as at the commit."""
    db = plain_db
    world = people(db)
    sessions = [world.session(max_viewers=None, by=world.new_influencer(f"Host {n}")) for n in range(3)]
    refused_one, *others = sorted(sessions, key=lambda session: session["id"])
    db.owner(
        f"""create function public.refuse() returns trigger language plpgsql as $$
              begin
                if new.id = '{refused_one["id"]}' and new.current_viewers > 1 then
                  raise 'the app says no';
                end if;
                return null;
              end $$;
            create constraint trigger refuse after update on public.live_stream_sessions
              deferrable initially deferred for each row execute function public.refuse()"""
    )
    with db.connect() as connection:
        for session in sessions:
            with another(db, session):
                join(connection, session, rows=2)
        until(lambda: [kept(db, session) for session in others] == [2, 2])
        starts = status(db)["worker_starts"]
        db.owner("drop trigger refuse on public.live_stream_sessions")
        rest(db)
        assert status(db)["worker_starts"] == starts, "one worker has gone on"
    assert kept(db, refused_one) == 2 and differences(db) == []


def test_a_worker_in_an_apps_trigger_ends_when_it_is_told_to(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    db.owner(
        """create function public.slow() returns trigger language plpgsql as $$
             begin
               if new.current_viewers > 1 then perform pg_sleep(60); end if;
               return new;
             end $$;
           create trigger zz_slow before update on public.live_stream_sessions
             for each row execute function public.slow()"""
    )
    with db.connect() as connection, another(db, session):
        join(connection, session, rows=2)
    asleep = "select pid from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
    (worker,) = until(lambda: db.sql(asleep))
    assert db.value("select pg_terminate_backend(%s, 20000)", [worker["pid"]]) is True
    db.owner("drop trigger zz_slow on public.live_stream_sessions")
    rest(db)
    assert kept(db, session) == 2 and differences(db) == []


def test_more_busy_sessions_than_the_server_has_locks(fresh_server):
    """It is full at some hundreds here; the worker folds them all, and others get in meanwhile."""
    for setting in ("max_connections = 10", "max_locks_per_transaction = 20", "max_wal_senders = 2"):
        fresh_server.run("postgres", f"alter system set {setting}")
    fresh_server.crash()
    fresh_server.make_templates()
    with fresh_server.database("plain") as db:
        world = people(db)
        db.set(flush_interval=500)
        db.sql(
            """insert into public.live_stream_sessions (influencer_id, title, status, max_viewers)
               select %s, 'Stream ' || n, 'scheduled', null from generate_series(1, 2500) as n""",
            [world.influencer.influencer_id],
        )
        ids = [row["id"] for row in db.sql("select id from public.live_stream_sessions order by id")]
        with db.connect(options="-c default_transaction_isolation=repeatable\\ read") as connection:
            for first in range(0, len(ids), 50):
                connection.execute(
                    "insert into public.live_stream_viewers (session_id) select unnest(%s::uuid[])",
                    [ids[first : first + 50]],
                )
        rest(db)
        assert db.value("select count(*) from public.live_stream_sessions where current_viewers = 1") == len(ids)
        assert differences(db) == []
        db.close()
        assert "out of shared memory" not in fresh_server.log


def test_counting_again_with_an_old_snapshot_asks_to_be_run_again(plain_db):
    """It would write the numbers of another moment."""
    db = plain_db
    session = people(db).session(max_viewers=None)
    db.set(flush_interval=5000)
    with db.connect() as operator, db.connect() as joiner:
        operator.execute("begin isolation level repeatable read")
        operator.execute("select from public.live_stream_sessions")
        with another(db, people(db).session(max_viewers=None)):
            joiner.execute("begin isolation level repeatable read")
            join(joiner, session, rows=3)
            joiner.execute("commit")
        assert code_of(lambda: operator.execute("select live_stream.recount(%s)", [session["id"]])) == "40001"
        operator.execute("rollback")
        operator.execute("select live_stream.recount(%s)", [session["id"]])
    assert kept(db, session) == 3 and differences(db) == []


def test_a_peak_in_doubt_is_not_counted_by_an_old_snapshot(plain_db):
    """Who folds it leaves that to the next one."""
    db = plain_db
    session = people(db).session(max_viewers=20)
    db.set(flush_interval=2000)
    with db.connect() as old, db.connect() as connection:
        viewers = join(connection, session, rows=4)
        busy = people(db).session(max_viewers=None, by=people(db).new_influencer("Bo"))
        with another(db, busy):
            join(connection, busy)
        until(lambda: pending(db) == 0)
        old.execute("begin isolation level repeatable read")
        old.execute("select from public.live_stream_viewers")
        with another(db, session):
            connection.execute("delete from public.live_stream_viewers where id = any (%s)", [viewers[:2]])
            raise psycopg.Rollback
        join(old, session)
        old.execute("commit")
    rest(db)
    assert differences(db) == []


def test_truncate_waits_for_what_others_count_into_the_same_number(plain_db):
    """Reactions are counted from two tables. One is emptied while somebody adds to the other."""
    db = plain_db
    first, second = (people(db).session(max_viewers=None, by=people(db).new_influencer(name)) for name in ("Ada", "Bo"))
    react = "insert into public.live_stream_chat (session_id, message, message_type) values (%s, '!', 'reaction')"
    db.set(flush_interval=3000)
    with db.connect() as reacting, db.connect() as operator, db.connect() as holding, ThreadPoolExecutor(1) as threads:
        for session in (first, second):
            reacting.execute(react, [session["id"]])
        with another(db, first):
            reacting.execute("begin")
            reacting.execute(react, [first["id"]])
        with holding.transaction():
            holding.execute("select from public.live_stream_sessions where id = %s for update", [second["id"]])
            emptied = threads.submit(operator.execute, "truncate public.live_stream_chat_reactions")
            until(lambda: waits_for_a_lock(db, operator))
            reacting.execute("commit")
            # It goes on to the next one, which is held too.
            until(lambda: blocks(db, holding, operator) or emptied.done())
        emptied.result()
    rest(db)
    assert (kept(db, first, "total_reactions"), kept(db, second, "total_reactions")) == (2, 1)
    assert differences(db) == []


SELL = "update public.live_stream_products set revenue = revenue + %s where session_id = %s"
END = "update public.live_stream_sessions set status = 'ended' where id = %s"


def test_a_sale_of_an_appender_while_the_session_ends(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    world.product(session)
    with db.connect() as shop, db.connect() as host, ThreadPoolExecutor(1) as threads:
        shop.execute("begin")
        with another(db, session):
            shop.execute("insert into public.live_stream_chat (session_id, message) values (%s, 'going')", [session["id"]])
        ended = threads.submit(code_of, lambda: host.execute(END, [session["id"]]))
        shop.execute(SELL, [2_000_000, session["id"]])
        shop.execute("commit")
        assert ended.result() is None
    rest(db)
    assert kept(db, session, "total_revenue") == 2_000_000 and differences(db) == []


def test_more_than_can_be_appended_while_the_session_ends(plain_db):
    """It waits for the row, and nobody who has the row waits for it."""
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    world.product(session)
    with db.connect() as shop, db.connect() as host, ThreadPoolExecutor(2) as threads:
        with another(db, session):
            ended = threads.submit(code_of, lambda: host.execute(END, [session["id"]]))
            until(lambda: waits_for_a_lock(db, host))
            sold = threads.submit(code_of, lambda: shop.execute(SELL, [50_000_000, session["id"]]))
            until(lambda: waits_for_a_lock(db, shop))
        assert (ended.result(), sold.result()) == (None, None)
    assert kept(db, session, "total_revenue") == 50_000_000 and differences(db) == []


def test_a_limit_counts_those_who_came_before_it_and_are_not_seen_yet(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    with db.connect() as many, db.connect() as host, db.connect() as late, ThreadPoolExecutor(1) as threads:
        with another(db, session):
            join(late, session)
            many.execute("begin")
            join(many, session, rows=50)
        until(lambda: status(db)["hot_sessions"] == 1)
        limit = "update public.live_stream_sessions set max_viewers = 60 where id = %s"
        limited = threads.submit(host.execute, limit, [session["id"]])
        many.execute("commit")
        limited.result()
        refusals = [code_of(lambda: join(late, session)) for _ in range(20)]
    rest(db)
    assert refusals == [None] * 9 + ["PT409"] * 11
    assert watching(db, session) == kept(db, session) == 60 and differences(db) == []


# What an app's trigger does in the worker.


def in_the_worker(db: Database, does: str) -> None:
    """An app's trigger on sessions, which does it where the worker updates one."""
    db.owner(
        f"""create function public.app() returns trigger language plpgsql as $$
            begin
              if (select backend_type from pg_stat_activity where pid = pg_backend_pid()) like 'live%' then
                perform {does};
              end if;
              return null;
            end $$;
            create trigger app after update on public.live_stream_sessions for each row execute function public.app()"""
    )


@pytest.mark.parametrize(
    "setting, value",
    [
        ("default_transaction_read_only", "on"),
        ("default_transaction_isolation", "serializable"),
        ("lock_timeout", "0"),
        ("live_stream.flush_interval", "60000"),
        ("statement_timeout", "1"),
        ("search_path", "pg_temp"),
        ("timezone", "Pacific/Kiritimati"),
    ],
)
def test_what_an_app_sets_in_the_worker_ends_with_the_fold(plain_db, setting, value):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    in_the_worker(db, f"set_config('{setting}', '{value}', false)")
    for round_ in (1, 2):
        crowd(db, lambda c, n: [join(c, session) for _ in range(10)])
        # Nobody else folds.
        until(lambda: pending(db) == 0 and kept(db, session) == watching(db, session), seconds=5)
        if round_ == 1:
            db.owner("drop trigger app on public.live_stream_sessions")
    assert differences(db) == []


def test_an_app_that_gives_up_the_locks_of_the_worker(plain_db):
    """One goes on, or another has taken its place: they do not become many."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    in_the_worker(db, "pg_advisory_unlock_all()")
    size, most = len(db.server.log), []
    count = "select count(*) from pg_stat_activity where backend_type like 'live_stream%%' and datname = current_database()"
    with loaded(db, session) as finish:
        for _ in range(40):
            most.append(db.value(count))
            time.sleep(0.05)  # of load
        check_all_there(db, session, finish())
        assert "you don't own a lock" not in db.server.log[size:]
        assert 0 < max(most) <= 2, most
