"""A replica made from a running server, and a physical standby."""

from __future__ import annotations

import contextlib
import json

import psycopg
import pytest

from publishing import SERVICE_READS, ask, assert_same, db, dead, join, near, read_all  # noqa: F401
from people import at_once
from recount import differences, unaccounted
from replica import Show, copied, following, kept, mark, pending, until, watching, worker_pid


# A replica made from a running server.


def test_a_copy_of_a_running_server_becomes_a_subscriber(db, near):
    """As pg_createsubscriber does: a slot, a copy of the files that runs to its end, and from there on by the slot."""
    show = Show(db)
    slot = f"{db.name}_of_{db.name}"
    with show.crowd(3):
        until(lambda: kept(db, show.id) > 0 and pending(db) > 0, "a busy session")
        db.sql("create publication everything for all tables")
        db.sql("select pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
        with copied(near, standby=True) as server, server.open(db.name) as copy:
            server.promote()
            # Nobody folds there until it follows.
            copy.set(background_worker="off")
            place = copy.value("select pg_last_wal_replay_lsn()::text")
            with following(copy, db, copy_data="false", create_slot="false", enabled="false") as subscription:
                copy.sql(
                    "select pg_replication_origin_advance('pg_' || oid, %s) from pg_subscription where subname = %s",
                    [place, subscription.name],
                )
                subscription.alter("enable")
                copy.set(background_worker="on")
                subscription.catch_up()
                starts = server.workers_started()
                for _ in range(5):
                    ask(copy)
                    assert unaccounted(copy) == []
                until(lambda: pending(copy) > 0, "something pending")
                assert server.workers_started() == starts
                subscription.end()
                assert unaccounted(copy) == []
                join(copy, show.id)
                ask(copy)
                assert differences(copy) == []
                assert kept(copy, show.id) == watching(copy, show.id)
                assert server.complaints() == []


# A physical standby.


def test_a_standby_answers_all_that_reads_and_folds_once_when_it_is_promoted(db, near):
    show = Show(db, max_viewers=100_000)
    show.fill_the_log()
    with copied(near, standby=True) as server, server.open(db.name, schema=db.schema) as standby:
        db.end_worker()  # the minute begins again
        with show.crowd():
            until(lambda: pending(standby) > 400, "following")
            read_all(standby, show.id)
        place = mark(db)
        until(lambda: standby.value("select pg_last_wal_replay_lsn() >= %s::pg_lsn", [place]), "catching up")
        assert_same(standby, db)
        read_all(standby, show.id)
        ask(standby)
        assert server.workers_started() == 0 and worker_pid(standby) is None
        with dead(db):
            server.promote()
            standby.set(flush_interval=100)
            assert pending(standby) > 400 and kept(standby, show.id) < watching(standby, show.id)
            at_once(*[lambda: join(standby, show.id)] * 8)
            ask(standby)
            assert differences(standby) == []
            assert kept(standby, show.id) == watching(standby, show.id)
            assert server.complaints() == []


@pytest.mark.parametrize("mode", ["read only", "read write"])
@pytest.mark.parametrize("log", ["empty", "full"])
def test_what_reads_takes_no_transaction_id(db, mode, log):
    """Which a standby could not give; and a server under load has only so many."""
    show = Show(db)
    if log == "full":
        show.fill_the_log(50)
    as_service = "select set_config('role', 'service_role', true)"
    reads = [(who, query) for who in ("anon", "authenticated", "service_role") for query in CLIENT_READS]
    reads += [("service_role", query) for query in SERVICE_READS]
    with db.connect() as connection:
        for who, query in reads:
            with connection.transaction():
                connection.execute(f"set transaction {mode}")
                connection.execute(f"set local role {who}")
                claims = {"role": who, "sub": show.world.viewer.user_id} if who == "authenticated" else {"role": who}
                connection.execute("select set_config('request.jwt.claims', %s, true)", [json.dumps(claims)])
                with contextlib.suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
                    connection.execute(query.replace("$session", f"'{show.id}'").replace("$influencer", f"'{show.world.influencer.influencer_id}'"))
                connection.execute("reset role")
                (row,) = connection.execute("select pg_current_xact_id_if_assigned() as id").fetchall()
                assert row["id"] is None, (who, query)


CLIENT_READS = (
    "select * from public.live_stream_sessions",
    "select * from public.live_stream_chat",
    "select * from public.live_stream_viewers",
    "select * from public.live_stream_products",
    "select * from public.live_sessions_with_details",
    "select * from public.upcoming_streams",
    "select * from public.session_analytics_summary",
    "select * from public.live_stream_session($session)",
    "select * from public.live_stream_upcoming()",
    "select * from public.live_stream_session_analytics($session)",
    "select * from public.live_stream_calendar(now(), now() + interval '30 days')",
    "select public.live_stream_calendar_feed($influencer)",
)
