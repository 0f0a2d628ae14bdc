"""Without a worker each commit waits for the row, in a line if need be; what is left nevertheless is folded by who comes
next."""

from __future__ import annotations

import os
import signal
import time

import pytest

from busy import kept, pending, until
from people import people
from recount import differences
from sizes import own_db
from steps import Steps, all_end_well

pytestmark = own_db("sets background_worker")

CROWD = 14
RENAME = "update public.live_stream_sessions set title = 'Another' where id = %(session)s"
REORDER = "update public.live_stream_products set display_order = 7 where id = %(product)s"
COMMITS = "select query ilike 'commit' and state = 'active' from pg_stat_activity where pid = %s"
CLICK = "select * from public.live_stream_track_click(%(product)s)"


def clicks(db, product):
    return db.value("select clicks from public.live_stream_products where id = %s", [product["id"]])


def test_without_a_worker_who_writes_the_row_next_folds(plain_db):
    plain_db.set(background_worker="off")
    world = people(plain_db)
    session = world.session()
    with Steps(plain_db) as steps:
        renaming, joining = steps.client(world.influencer), steps.client("anon")
        renaming.run(RENAME, {"session": session["id"]})
        all_end_well(joining.start("select * from public.live_stream_join(%s)", [session["id"]]))
        renaming.commit()
        assert kept(plain_db, session) == 0
        renaming.run(RENAME, {"session": session["id"]})
        renaming.commit()
    assert kept(plain_db, session) == 1
    assert differences(plain_db) == []


def left_behind(db, world):
    """A viewer who has come, and has clicked on a product, while others had the rows for longer than anybody waits; nobody
    folds that."""
    host = world.new_influencer()
    session = world.session(by=host)
    product = world.product(session, by=host)
    viewer = world.join(session)
    with Steps(db) as steps:
        renaming, client = steps.client(host), steps.client("anon")
        renaming.run(RENAME, {"session": session["id"]})
        renaming.run(REORDER, {"product": product["id"]})
        all_end_well(client.start("select * from public.live_stream_join(%s)", [session["id"]]))
        all_end_well(client.start(CLICK, {"product": product["id"]}))
        renaming.commit()
    assert kept(db, session) == 1 and clicks(db, product) == 0 and pending(db) > 0
    return session, product, viewer


SIGNS = [
    ("anon", "select * from public.live_stream_heartbeat(%(viewer)s)"),
    ("service_role", "select live_stream.expire_viewers()"),
    ("service_role", "select live_stream.run_schedules()"),
]


@pytest.mark.parametrize(("who", "sign"), SIGNS)
def test_without_a_worker_a_sign_of_life_folds_what_was_left(plain_db, who, sign):
    plain_db.set(background_worker="off")
    world = people(plain_db)
    session, product, viewer = left_behind(plain_db, world)
    with Steps(plain_db) as steps:
        all_end_well(steps.client(who).start(sign, {"viewer": viewer["id"]}))
    assert kept(plain_db, session) == 2 and clicks(plain_db, product) == 1 and pending(plain_db) == 0
    assert differences(plain_db) == []


def test_a_sign_of_life_waits_for_no_host(plain_db):
    plain_db.set(background_worker="off")
    world = people(plain_db)
    session, product, viewer = left_behind(plain_db, world)
    before = pending(plain_db)
    with Steps(plain_db) as steps:
        renaming = steps.client()
        renaming.run(REORDER, {"product": product["id"]})
        for who, sign in SIGNS:
            all_end_well(steps.client(who).start(sign, {"viewer": viewer["id"]}))
        assert 0 < pending(plain_db) < before and clicks(plain_db, product) == 0
        renaming.rollback()
        all_end_well(steps.client("anon").start(SIGNS[0][1], {"viewer": viewer["id"]}))
    assert pending(plain_db) == 0 and differences(plain_db) == []


@pytest.mark.parametrize(("who", "sign"), SIGNS)
@pytest.mark.parametrize("table", ["sessions", "products"])
def test_what_cannot_be_folded_fails_nobody(plain_db, table, who, sign):
    """A trigger of the app's refuses one session, or one product: the others are folded, and the call does its work."""
    plain_db.set(background_worker="off")
    world = people(plain_db)
    refused, product, viewer = left_behind(plain_db, world)
    other, _, _ = left_behind(plain_db, world)
    left = {"sessions": refused, "products": product}[table]["id"]
    plain_db.owner(
        f"""create function public.refuse() returns trigger language plpgsql as
            $$begin if new.id = '{left}' then raise exception 'not this one'; end if; return new; end$$;
            create trigger refuse before update on public.live_stream_{table} for each row execute function public.refuse()"""
    )
    with Steps(plain_db) as steps:
        all_end_well(steps.client(who).start(sign, {"viewer": viewer["id"]}))
    assert (kept(plain_db, refused), clicks(plain_db, product)) == ((2, 0) if table == "products" else (1, 0))
    assert who == "anon" or kept(plain_db, other) == 2
    assert who != "anon" or plain_db.sql("select viewer_id from public.live_stream_heartbeats where viewer_id = %s", [viewer["id"]])
    plain_db.owner(f"drop trigger refuse on public.live_stream_{table}")
    plain_db.sql("select live_stream.expire_viewers()")
    assert kept(plain_db, refused) == 2 and clicks(plain_db, product) == 1
    assert differences(plain_db) == []


@pytest.mark.parametrize("row", ["session", "product"])
def test_without_a_worker_a_crowd_goes_one_after_the_other(plain_db, row):
    """However long the line is: the patience is with each who has the row, and not with all of them."""
    plain_db.set(background_worker="off")
    world = people(plain_db)
    session = world.session()
    product = world.product(session)
    write, act = {
        "session": (RENAME, "select * from public.live_stream_join(%(session)s)"),
        "product": (REORDER, CLICK),
    }[row]
    ids = {"session": session["id"], "product": product["id"]}
    with Steps(plain_db) as steps:
        hosts = [steps.client(world.influencer) for _ in range(2)]
        clients = [steps.client("anon") for _ in range(CROWD)]
        hosts[0].run(write, ids)
        crowd = [client.start(act, ids) for client in clients]
        for turn in range(6):
            has, waits = hosts[turn % 2], hosts[(turn + 1) % 2]
            began = waits.start(write, ids, commit=False)
            waits.waits()
            time.sleep(0.3)
            assert pending(plain_db) == 0
            has.commit()
            began.result()
        hosts[0].commit()
        all_end_well(*crowd)
    assert pending(plain_db) == 0
    assert (kept(plain_db, session), clicks(plain_db, product)) == ((CROWD, 0) if row == "session" else (0, CROWD))
    assert differences(plain_db) == []


def test_a_moment_in_which_the_server_stands_still_uses_up_no_patience(plain_db):
    plain_db.set(background_worker="off")
    world = people(plain_db)
    session = world.session()
    with Steps(plain_db) as steps:
        renaming, joining = steps.client(world.influencer), steps.client("anon")
        renaming.run(RENAME, {"session": session["id"]})
        joined = joining.start("select * from public.live_stream_join(%s)", [session["id"]])
        stopped = joining.connection.info.backend_pid
        until(lambda: plain_db.value(COMMITS, [stopped]))
        time.sleep(0.1)
        # The server commits it, a moment after the other one goes on.
        renamed = renaming.start("select pg_sleep(1.25); commit", commit=False)
        os.kill(stopped, signal.SIGSTOP)
        try:
            time.sleep(1.2)
        finally:
            os.kill(stopped, signal.SIGCONT)
        all_end_well(joined, renamed)
    assert pending(plain_db) == 0 and kept(plain_db, session) == 1
    assert differences(plain_db) == []


def test_what_is_folded_for_a_report_waits_for_no_host(plain_db):
    """The sessions of others are not held up by one whose host takes its time."""
    plain_db.set(background_worker="off")
    world = people(plain_db)
    busy, free = sorted((world.session(by=world.new_influencer()) for _ in range(2)), key=lambda session: session["id"])
    with Steps(plain_db) as steps:
        renaming, another, joining = steps.client(), steps.client(), steps.client("anon")
        for host, session in ((renaming, busy), (another, free)):
            host.run(RENAME, {"session": session["id"]})
            all_end_well(joining.start("select * from public.live_stream_join(%s)", [session["id"]]))
        another.commit()
        for late in range(2):
            all_end_well(steps.client("anon").start("select * from public.live_stream_join(%s)", [busy["id"]]))
        assert plain_db.value("select live_stream.flush_metrics()") == 1
        assert kept(plain_db, free) == 1 and kept(plain_db, busy) == 0
        renaming.commit()
    assert plain_db.value("select live_stream.flush_metrics()") == 3
    assert differences(plain_db) == []
