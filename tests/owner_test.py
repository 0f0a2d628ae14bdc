"""What the owner of the tables may do to them, case by case: it works, or it is refused by its name and nothing is
counted wrong. tests/owner_fuzz_test.py tries thousands of others."""

from __future__ import annotations

import contextlib
import uuid

import psycopg
import pytest

from database import OWNER
from people import people
from recount import differences
from refusals import refused


@contextlib.contextmanager
def renamed(db, kind, label):
    """While it lasts, a label of an enum of ours is another."""
    db.owner(f"alter type public.{kind} rename value '{label}' to 'another'")
    try:
        yield
    finally:
        db.owner(f"alter type public.{kind} rename value 'another' to '{label}'")


@pytest.mark.parametrize("label", ["private", "public", "unlisted"])
def test_a_visibility_under_another_name_opens_nothing(db, world, label):
    session = world.session(visibility="private")
    with refused("PT404"):
        world.join(session)
    with renamed(db, "live_stream_visibility", label):
        for join in (lambda: world.join(session), lambda: world.anon.rpc("live_stream_join", session_id=session["id"])):
            with refused("55000", f"lacks the value '{label}'", hint=True):
                join()
    with refused("PT404"):
        world.join(session)
    assert differences(db) == []


LOSSES = {
    "a viewer": "delete from public.live_stream_viewers where id = %(viewer)s",
    "a message": "delete from public.live_stream_chat where id = %(message)s",
    "a reaction": "delete from public.live_stream_chat_reactions",
    "a product": "delete from public.live_stream_products",
    "all viewers": "delete from public.live_stream_viewers",
}


@pytest.mark.parametrize("what", LOSSES)
@pytest.mark.parametrize("label", ["live", "ended"])
def test_a_status_under_another_name_loses_no_change(db, world, what, label):
    """What cannot be read is not what is not there."""
    session = world.session()
    viewer = world.join(session, world.viewer)
    message = world.say(session, world.viewer, viewer=viewer)
    world.viewer.api.rpc("live_stream_react", message_id=message["id"], reaction="heart")
    world.product(session)
    lose = LOSSES[what] % {"viewer": f"'{viewer['id']}'", "message": f"'{message['id']}'"}
    with renamed(db, "live_stream_status", label):
        with pytest.raises(psycopg.Error) as caught:
            db.sql(lose)
        assert caught.value.sqlstate == "55000" and f"'{label}'" in str(caught.value)
    assert differences(db) == []
    db.sql(lose)
    assert differences(db) == []


def test_a_status_that_is_none_of_ours_loses_no_change(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session()
    viewer = world.join(session, world.viewer)
    db.owner("alter type public.live_stream_status add value 'weird'")
    put = """alter table public.live_stream_sessions disable trigger user;
             update public.live_stream_sessions set status = '{}';
             alter table public.live_stream_sessions enable trigger user"""
    db.owner(put.format("weird"))
    with pytest.raises(psycopg.Error, match="status") as caught:
        db.sql("delete from public.live_stream_viewers where id = %s", [viewer["id"]])
    assert caught.value.sqlstate == "55000"
    db.owner(put.format("live"))
    assert differences(db) == []


def test_a_label_that_is_not_committed_is_not_written(plain_db):
    """A rollback would leave it in the owner's index, and joins would find it there."""
    db, world = plain_db, people(plain_db)
    session = world.session()
    db.owner("create index by_type on public.live_stream_viewers (viewer_type)")
    with db.connect() as owner:
        owner.execute("begin")
        owner.execute("alter type public.live_stream_viewer_type rename value 'anonymous' to 'another'")
        owner.execute("alter type public.live_stream_viewer_type add value 'anonymous' before 'another'")
        owner.execute("alter table public.live_stream_viewers disable row level security")
        owner.execute("set local role anon")
        with pytest.raises(psycopg.errors.UnsafeNewEnumValueUsage):
            owner.execute("insert into public.live_stream_viewers (session_id) values (%s)", [session["id"]])
        owner.execute("rollback")
    for _ in range(3):
        world.join(session, world.new_user())
        world.join(session)
    assert differences(db) == []


def test_the_log_is_reindexed_while_it_is_in_use(plain_db):
    """Concurrently, and broken off: the index that stays behind refuses nothing that the key does not."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    come = "insert into public.live_stream_viewers (session_id) values (%s)"

    def come_often():
        with db.connect() as connection:
            for _ in range(60):
                connection.execute(come, [session["id"]])

    with db.connect() as reader, db.connect(OWNER, options="-c statement_timeout=1s") as owner:
        reader.execute("begin isolation level repeatable read")
        reader.execute("select count(*) from live_stream.metric_changes")
        with pytest.raises(psycopg.errors.QueryCanceled):
            owner.execute("reindex table concurrently live_stream.metric_changes")
        reader.execute("rollback")
    left = "select count(*) from pg_index where indrelid = 'live_stream.metric_changes'::regclass and not indisvalid"
    assert db.value(left) == 1
    come_often()
    assert differences(db) == []
    db.owner("reindex table live_stream.metric_changes")
    come_often()
    assert differences(db) == []


def test_times_that_hold_nothing(plain_db):
    db, world = plain_db, people(plain_db)
    viewer = world.join(world.session(), world.viewer)
    db.owner(
        """alter table public.live_stream_viewers disable trigger user;
           update public.live_stream_viewers set counted_before = '{NULL}';
           alter table public.live_stream_viewers enable trigger user"""
    )
    for watching in (False, True):
        changed = world.viewer.api.update(
            "live_stream_viewers", {"is_still_watching": watching}, where={"id": viewer["id"]}, one=True
        )
        assert changed["is_still_watching"] is watching


@pytest.mark.parametrize("rule", ["do also", "do instead"])
@pytest.mark.parametrize("event, table", [("update", "live_stream_sessions"), ("insert", "live_stream_viewers")])
def test_a_rule_is_refused(plain_db, rule, event, table):
    """What it does would pass for a write of the engine's own."""
    db, world = plain_db, people(plain_db)
    session = world.session()
    db.owner("create table public.seen (id uuid)")
    db.owner(f"create rule see as on {event} to public.{table} {rule} insert into public.seen values ('{uuid.uuid4()}')")
    with refused("55000", f"table public.{table} has a rule", hint=True):
        world.viewer.api.rpc("live_stream_join", session_id=session["id"])
    db.owner(f"drop rule see on public.{table}")
    world.viewer.api.rpc("live_stream_join", session_id=session["id"])
    assert differences(db) == []
