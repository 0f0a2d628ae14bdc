"""A person is erased; the numbers stay."""

from __future__ import annotations

import itertools
import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import psycopg
import pytest

from busy import until
from chatting import removed
from database import OWNER
from holding import archive_of, everything_of, export, fill, purge, row_of
from crowds import CONFLICTS, Crowd, EXPECTED, SEED
from people import people
from recount import differences, rest, unaccounted
from refusals import refused
from sizes import both_shapes, own_db
from steps import BLOCKED, Steps, all_end_well

pytestmark = [both_shapes, own_db("erases and purges whatever is there")]


def erase(db, user_id, **options):
    given = "".join(f", {name} => {value}" for name, value in options.items())
    (row,) = db.owner(f"select live_stream.erase_user(%s{given}) as done", [user_id])
    return row["done"]


# Erasing a person.


def traces(db, user_id):
    """Tables in which the id stands, in whatever column."""
    tables = db.sql("select oid::regclass::text as name from pg_class where relkind in ('r', 'p') and relnamespace in"
                    " (select oid from pg_namespace where nspname in ('public', 'live_stream'))")  # fmt: skip
    return [table["name"] for table in tables
            if db.value(f"select exists (select from {table['name']} t where to_jsonb(t)::text like %s)", [f"%{user_id}%"])]  # fmt: skip


def test_parts_in_moderation(db, world):
    """A moderator, and somebody who was banned and invited: exported, each its own, and erased, from the log too."""
    session = world.session(visibility="private")
    host, moderator, person = world.influencer.api, world.viewer, world.stranger
    host.rpc("live_stream_add_moderator", user_id=moderator.user_id)
    moderator.api.rpc("live_stream_ban", user_id=person.user_id, session_id=session["id"], reason="rude")
    host.rpc("live_stream_unban", user_id=person.user_id)
    moderator.api.rpc("live_stream_ban", user_id=person.user_id, session_id=session["id"], reason="again")
    guest = world.new_user()
    host.rpc("live_stream_invite", session_id=session["id"], user_id=guest.user_id)
    acts = db.value("select count(*) from public.live_stream_moderation_log")
    assert acts >= 5
    tables = export(db, person.user_id)["tables"]
    assert [row["reason"] for row in tables["live_stream_bans"]] == ["again"]
    assert {row["action"] for row in tables["live_stream_moderation_log"]} == {"ban", "unban"}
    tables = export(db, moderator.user_id)["tables"]
    assert len(tables["live_stream_moderators"]) == 1 and "reason" not in tables["live_stream_bans"][0]
    assert person.user_id not in json.dumps(tables)
    assert len(export(db, guest.user_id)["tables"]["live_stream_guests"]) == 1
    for who in (moderator, person, guest):
        assert erase(db, who.user_id)["removed"] != {}
        assert traces(db, who.user_id) == []
        assert erase(db, who.user_id)["removed"] == {}
    assert db.value("select count(*) from public.live_stream_moderation_log") >= acts
    assert differences(db) == []


@pytest.mark.parametrize("state", ["ended", "live"])
def test_erasing_a_person_keeps_every_number(db, world, state):
    session = world.session()
    asking, question, taken = everything_of(db, world, session)
    world.join(session, world.viewer, country="PT")
    reply = world.say(session, world.stranger, "me too", parent_message_id=question["id"])
    if state == "ended":
        world.end(session)
    else:
        for viewer in db.sql("select id from public.live_stream_viewers where user_id = %s", [world.viewer.user_id]):
            world.leave({"id": str(viewer["id"])}, world.viewer)
    before = row_of(db, session)
    user = world.viewer.user_id
    assert "public.live_stream_viewers" in [name if "." in name else f"public.{name}" for name in traces(db, user)]
    done = erase(db, user)
    assert done["user_id"] == user
    # Unless the worker has looked through the sessions for it.
    done["removed"].pop("live_stream_follow_changes", None)
    assert done["removed"] == {
        "live_stream_viewers": 2, "live_stream_chat": 2, "live_stream_chat_reactions": 1,
        # When it ended, followers were told.
        "live_stream_notifications": 1 + (state == "ended"), "live_stream_followers": 1,
        "live_stream_bans": 1, "live_stream_guests": 1, "live_stream_moderators": 1, "person_rates": 1,
    }  # fmt: skip
    # The log keeps its rows, those of this erasure as well.
    assert done["anonymised"].pop("live_stream_moderation_log") >= 4
    assert done["anonymised"] == {"live_stream_orders": 1, "live_stream_removed_messages": 1, "live_stream_bans": 1}
    assert traces(db, user) == []
    assert row_of(db, session) == before
    assert db.sql("select * from live_stream.verify_metrics()") == [] and differences(db) == []
    (order,) = db.sql("select amount, user_id, viewer_id, order_reference from public.live_stream_orders")
    assert (float(order["amount"]), order["user_id"], order["viewer_id"]) == (19.99, None, None)
    (row,) = db.sql("select is_deleted, message from public.live_stream_chat where id = %s", [taken["id"]])
    assert (row["is_deleted"], row["message"], removed(world, taken)) == (True, "", ("rude", "rude", None))
    (row,) = db.sql("select parent_message_id, message from public.live_stream_chat where id = %s", [reply["id"]])
    assert (row["parent_message_id"], row["message"]) == (None, "me too")
    kept = archive_of(db, session)
    assert (kept["viewers"], kept["total_unique_viewers"], kept["total_messages"], kept["countries"]) == (2, 1, 1, {"other": 2})
    # A second time, and somebody unknown: nothing.
    for who in (user, str(uuid.uuid4())):
        again = erase(db, who)
        assert (again["removed"], again["anonymised"]) == ({}, {})
    assert row_of(db, session) == before
    # The account may go after that.
    if db.is_supabase:
        db.sql("delete from auth.users where id = %s", [user])
        assert row_of(db, session) == before
    # What is left is purged as ever.
    if state == "ended":
        purge(db, chat="0", viewers="0")
        assert row_of(db, session) == before
    assert differences(db) == []


def test_who_is_erased_while_watching_leaves(db, world):
    session = world.session(max_viewers=2)
    asking = world.join(session, world.viewer)
    second = world.join(session)
    with refused("PT409", "is full"):
        world.join(session)
    db.sql("update public.live_stream_viewers set joined_at = joined_at - interval '90 s'")
    erase(db, world.viewer.user_id)
    row = row_of(db, session)
    assert (row["current_viewers"], row["peak_viewers"], row["total_unique_viewers"]) == (1, 2, 2)
    assert 90 <= row["total_watch_time_seconds"] <= 92
    assert differences(db) == []
    # The place is free, the peak is never less, and more than that is a new peak.
    world.join(session)
    world.leave(second)
    assert row_of(db, session)["peak_viewers"] == 2 and differences(db) == []
    world.set_session(session, max_viewers=9)
    for _ in range(3):
        world.join(session)
    assert row_of(db, session)["peak_viewers"] == 4 and differences(db) == []
    # With the rows of the others gone by the server's hand, what was is not forgotten.
    db.sql("delete from public.live_stream_viewers")
    assert row_of(db, session)["peak_viewers"] == 2 and differences(db) == []
    # Who comes back is somebody new.
    world.join(session, world.viewer)
    assert row_of(db, session)["total_unique_viewers"] == 2 and differences(db) == []


def test_erasing_while_others_come_and_go(db, world):
    session = world.session(max_viewers=None)
    doomed = [world.new_user() for _ in range(6)]
    for who in doomed:
        viewer = world.join(session, who)
        world.say(session, who, "hello", viewer)
    stop = threading.Event()
    joined, failed = [], []

    def crowd(n):
        users = [world.new_user() for _ in range(5)]
        with db.connect() as connection:
            k = 0
            while not stop.is_set():
                k += 1
                who = users[k % 5].user_id
                try:
                    with connection.transaction():
                        connection.execute(
                            "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)",
                            [json.dumps({"sub": who})],
                        )
                        connection.execute("insert into public.live_stream_viewers (session_id, user_id) values (%s, %s)",
                                           [session["id"], who])  # fmt: skip
                        if k % 3 == 0:
                            connection.execute("update public.live_stream_viewers set is_still_watching = false")
                        if k % 4 == 0:
                            connection.execute("insert into public.live_stream_chat (session_id, user_id, message) values (%s, %s, 'x')",
                                               [session["id"], who])  # fmt: skip
                    joined.append(who)
                except psycopg.Error as error:
                    failed.append(f"{error.sqlstate} {error}")

    with ThreadPoolExecutor(4) as threads:
        crowds = [threads.submit(crowd, n) for n in range(4)]
        try:
            for who in doomed:
                done = erase(db, who.user_id)
                assert done["removed"]["live_stream_viewers"] == 1 and done["removed"]["live_stream_chat"] == 1
            until(lambda: failed or len(joined) > 20)
        finally:
            stop.set()
        for thread in crowds:
            thread.result()
    assert failed == [] and len(joined) > 20
    assert differences(db) == []
    row = row_of(db, session)
    assert row["total_unique_viewers"] == len(doomed) + len(set(joined))
    assert row["total_messages"] >= len(doomed)
    assert all(traces(db, who.user_id) == [] for who in doomed)
    world.end(session)
    assert differences(db) == []


@pytest.mark.parametrize("bulk", [False, True], ids=["clients", "clients and a server"])
def test_a_crowd_of_whom_some_are_erased(db, bulk):
    """Whatever else happens: exact at every moment, and when they are all purged in the end. Requests of viewers and
    hosts, and erasures, do not wait for each other in a circle; bulk statements of a server may."""
    conflicts = CONFLICTS if bulk else set()
    crowd = Crowd(db, EXPECTED | conflicts)
    erased, stop = [], threading.Event()

    def erasing(n):
        with db.connect(options="-c deadlock_timeout=20ms") as connection:
            for k in itertools.count():
                if stop.wait(0.1):
                    return
                who = crowd.users[(5 * k + n) % 12].user_id
                try:
                    done = connection.execute("select live_stream.erase_user(%s) as done", [who]).fetchone()["done"]
                    erased.append(sum(done["removed"].values()))
                except psycopg.Error as error:
                    assert error.sqlstate in conflicts, error

    with ThreadPoolExecutor(7) as threads:
        tasks = [threads.submit(crowd.clients, SEED + n, 300) for n in range(4)]
        tasks += [threads.submit(crowd.server, SEED + 200, 60)] if bulk else []
        erasers = [threads.submit(erasing, n) for n in range(2)]
        try:
            while not all(task.done() for task in tasks):
                assert unaccounted(db) == []
        finally:
            stop.set()
        for task in tasks + erasers:
            task.result()
    assert crowd.unexpected == [] and crowd.done > 500 and len(erased) > 5 and sum(erased) > 20
    assert differences(db) == []
    for host, session in zip(crowd.hosts, crowd.sessions):
        crowd.world.end(session, host)
    before = [row_of(db, session) for session in crowd.sessions]
    assert differences(db) == []
    for who in crowd.users[:6]:
        erase(db, who.user_id)
        assert [row_of(db, session) for session in crowd.sessions] == before and differences(db) == []
    purge(db, chat="0")
    purge(db, viewers="0")
    assert [row_of(db, session) for session in crowd.sessions] == before and differences(db) == []


def test_erasing_waits_for_who_is_joining(db, world):
    """A join that is not committed yet is not overtaken: the person who is joining is erased with it."""
    session = world.session()
    world.join(session, world.viewer)
    with db.connect() as joining, db.connect(OWNER) as erasing, ThreadPoolExecutor(1) as thread:
        with joining.transaction():
            joining.execute("insert into public.live_stream_viewers (session_id, user_id) values (%s, %s)",
                            [session["id"], world.viewer.user_id])  # fmt: skip
            waiting = thread.submit(erasing.execute, "select live_stream.erase_user(%s) as done", [world.viewer.user_id])
            blocked = "select exists (select from pg_locks where pid = %s and not granted)"
            while not db.value(blocked, [erasing.info.backend_pid]):
                assert not waiting.done()
        assert waiting.result().fetchone()["done"]["removed"]["live_stream_viewers"] == 2
    row = row_of(db, session)
    assert (row["current_viewers"], row["peak_viewers"], row["total_unique_viewers"]) == (0, 2, 1)
    assert differences(db) == []


def test_an_erasure_is_rolled_back(db, world):
    session = world.session()
    everything_of(db, world, session)
    # As the worker does at some time.
    db.owner("select live_stream.send_reminders()")
    before = row_of(db, session), export(db, world.viewer.user_id)["tables"]
    with db.connect(OWNER) as connection, connection.transaction(force_rollback=True):
        connection.execute("select live_stream.erase_user(%s)", [world.viewer.user_id])
    assert (row_of(db, session), export(db, world.viewer.user_id)["tables"]) == before
    assert archive_of(db, session) is None and differences(db) == []
    world.join(session)
    assert differences(db) == []


def test_two_people_erased_at_once(db, world):
    """In the same sessions, from two connections."""
    db.without_limits()
    sessions = [world.session(by=world.new_influencer()) for _ in range(4)]
    users = [world.new_user() for _ in range(4)]
    for session in sessions:
        for who in users:
            viewer = world.join(session, who)
            message = world.say(session, who, "hello", viewer)
            users[0].api.rpc("live_stream_react", message_id=message["id"], reaction="❤")

    def run(who):
        with db.connect(OWNER) as connection:
            return connection.execute("select live_stream.erase_user(%s) as done", [who.user_id]).fetchone()["done"]

    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(run, users))
    assert all(each["removed"]["live_stream_viewers"] == 4 for each in done)
    for session in sessions:
        row = row_of(db, session)
        assert (row["current_viewers"], row["total_unique_viewers"], row["total_messages"], row["total_reactions"]) == (0, 4, 4, 4)
    assert differences(db) == []


def test_reactions_that_were_the_persons(db, world):
    """The tallies of messages lose them; the session's number does not."""
    session = world.session()
    viewer, other = world.join(session, world.viewer), world.join(session, world.stranger)
    message = world.say(session, world.stranger, "nice", other)
    mine = world.say(session, world.viewer, "thanks", viewer)
    for who in (world.viewer, world.stranger):
        who.api.rpc("live_stream_react", message_id=message["id"], reaction="👍")
        who.api.rpc("live_stream_react", message_id=mine["id"], reaction="❤")
    before = row_of(db, session)
    assert before["total_reactions"] == 4
    erase(db, world.viewer.user_id)
    (row,) = db.sql("select reactions from public.live_stream_chat where id = %s", [message["id"]])
    assert row["reactions"] == {"👍": 1}
    # What the other gave to a message that is gone, it gave no longer; the session still counts it.
    (row,) = db.sql("select reactions_sent from public.live_stream_viewers where id = %s", [other["id"]])
    assert row["reactions_sent"] == 1
    assert row_of(db, session)["total_reactions"] == 4 and differences(db) == []


def test_who_streams_is_not_erased_by_accident(db, world):
    session = world.session()
    fill(db, world, session)
    influencer = world.influencer
    before = row_of(db, session)

    def refuse(words, hint, **options):
        with pytest.raises(psycopg.Error, match=words) as error:
            erase(db, influencer.user_id, **options)
        assert error.value.sqlstate == "PT409" and hint in error.value.diag.message_hint
        assert row_of(db, session) == before

    if db.is_supabase:
        # The table is the app's.
        for options in ({}, {"erase_influencer": "true"}):
            refuse("is the influencer", "Delete the influencer there first", **options)
        db.owner("delete from public.live_stream_orders")
        db.owner("delete from public.influencers where user_id = %s", [influencer.user_id])
        assert set(erase(db, influencer.user_id)["removed"]) <= {"person_rates"}
        return
    refuse("is the influencer", "erase_influencer => true")
    refuse("is on air", "End the session", erase_influencer="true")
    world.end(session)
    before = row_of(db, session)
    refuse("1 orders were placed", "delete the orders", erase_influencer="true")
    db.owner("delete from public.live_stream_orders")
    world.schedule("Mine")
    keep = world.session(by=world.new_influencer())
    world.join(keep, influencer)
    kept = row_of(db, keep)
    done = erase(db, influencer.user_id, erase_influencer="true")
    assert done["removed"]["influencers"] == done["removed"]["live_stream_sessions"] == done["removed"]["live_stream_schedule"] == 1
    assert traces(db, influencer.user_id) == [] and traces(db, influencer.influencer_id) == []
    after = row_of(db, keep)
    assert (after["total_unique_viewers"], after["peak_viewers"], kept["current_viewers"], after["current_viewers"]) == (1, 1, 1, 0)
    assert differences(db) == []


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
def test_who_streams_is_erased_as_sessions_are_made(plain_db, isolation):
    """Whoever makes them goes from influencer to influencer, and writes down where it is: not of one who is gone."""
    world = people(plain_db)
    plain_db.set(background_worker="off")
    hosts = sorted([world.influencer, world.new_influencer()], key=lambda host: uuid.UUID(host.influencer_id))
    first, last = hosts
    plain_db.owner("create function public.pause() returns trigger language plpgsql as "
                   "'begin perform pg_advisory_xact_lock(7); return new; end'")  # fmt: skip
    plain_db.owner("create trigger pause before insert on public.live_stream_sessions for each row execute function public.pause()")
    for host in hosts:
        world.schedule("Later", by=host, scheduled_date="2999-01-01")
    making = "select live_stream.run_schedules()"
    with Steps(plain_db) as steps:
        maker = steps.client()
        for _ in range(5):  # as there is time, each turn is of more influencers: of both
            maker.run(making)
            maker.run("delete from live_stream.schedule_turns")
            maker.commit()
        world.schedule("Now", by=first, scheduled_date=str(date.today()), is_recurring=True, recurrence_pattern="daily")
        keeper = steps.client()
        keeper.run("select pg_advisory_xact_lock(7)")
        maker.run(f"set transaction isolation level {isolation}")
        made = maker.start(making)
        maker.waits()
        erasing = steps.client("service_role")
        erased = erasing.start("select live_stream.erase_user(%s, erase_influencer => true)", [last.user_id])
        until(lambda: erased.done() or plain_db.value(BLOCKED, [erasing.connection.info.backend_pid]))
        keeper.rollback()
        all_end_well(made, erased)
        # And the other way round: nobody begins beside an erasure.
        erasing.run("select live_stream.erase_user(%s, erase_influencer => true)", [first.user_id])
        assert maker.run(making) == [{"run_schedules": True}]
        erasing.commit()
        maker.commit()
    assert traces(plain_db, first.influencer_id) == [] and traces(plain_db, first.user_id) == []
    assert traces(plain_db, last.influencer_id) == [] and traces(plain_db, last.user_id) == []
    assert plain_db.value("select count(*) from live_stream.schedule_turns") == 1


def test_a_person_in_a_thousand_sessions(plain_db):
    """More than the server has room for locks of other kinds."""
    db, world = plain_db, people(plain_db)
    user = world.viewer.user_id
    db.sql(
        """insert into public.live_stream_sessions (influencer_id, title, status, actual_start_time, actual_end_time)
           select %s, 'past ' || g, 'ended', now() - interval '2 days', now() - interval '1 day' from generate_series(1, 1000) g""",
        [world.influencer.influencer_id],
    )
    db.sql(
        """insert into public.live_stream_viewers (session_id, user_id, joined_at, left_at)
           select id, %s, now() - interval '2 days', now() - interval '47 hours' from public.live_stream_sessions""",
        [user],
    )
    rest(db)
    numbers = "select jsonb_agg(to_jsonb(s) order by id) from public.live_stream_sessions s"
    before = db.value(numbers)
    assert erase(db, user)["removed"] == {"live_stream_viewers": 1000}
    assert db.value(numbers) == before and differences(db) == []
    assert purge(db, viewers="0") == {"viewers": 0}


def test_an_apps_own_trigger_is_counted_as_ever(db, world):
    session = world.session()
    fill(db, world, session)
    world.end(session)
    before = row_of(db, session)
    db.owner(
        """create function public.app_trigger() returns trigger language plpgsql security definer as $$
           begin
             insert into public.live_stream_chat (session_id, message) values (old.session_id, 'a viewer was deleted');
             return null;
           end $$;
           create trigger app_trigger after delete on public.live_stream_viewers for each row
           when (old.user_id is null) execute function public.app_trigger();"""
    )
    purge(db, viewers="0")
    after = row_of(db, session)
    assert after["total_messages"] == before["total_messages"] + 10
    assert after["total_unique_viewers"] == before["total_unique_viewers"] and differences(db) == []


def test_what_only_reads_takes_no_transaction_id(db, world):
    world.join(world.session(), world.viewer)
    for query in ("select * from live_stream.personal_data()", "select live_stream.export_user(%(user)s)"):
        for mode in ("read write", "read only"):
            with db.connect(OWNER) as connection, connection.transaction():
                connection.execute(f"set transaction {mode}")
                assert connection.execute(query, {"user": world.viewer.user_id}).fetchall()
                (row,) = connection.execute("select pg_current_xact_id_if_assigned()::text as id").fetchall()
                assert row["id"] is None, query


APP_WRITES = {
    "comes": """insert into public.live_stream_viewers (session_id) values ('{session}');
                insert into public.live_stream_chat (session_id, message) values ('{session}', 'by the app');""",
    "goes": """delete from public.live_stream_viewers
                where id = (select id from public.live_stream_viewers where user_id is null order by id limit 1);
               delete from public.live_stream_chat
                where id = (select id from public.live_stream_chat where message = 'nobody''s' order by id limit 1);""",
}


@pytest.mark.parametrize("writes", APP_WRITES)
@pytest.mark.parametrize("table", ["live_stream_viewers", "live_stream_chat", "live_stream_chat_reactions"])
def test_what_an_apps_trigger_writes_while_a_person_is_erased_is_counted(plain_db, table, writes):
    """It is no part of what goes into the archive."""
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    everything_of(db, world, session)
    for _ in range(9):
        world.join(session)
        world.service.insert("live_stream_chat", {"session_id": session["id"], "message": "nobody's"})
    db.owner(
        f"""create function public.app() returns trigger language plpgsql as $$
            begin
              if pg_trigger_depth() < 4 then {APP_WRITES[writes].format(session=session["id"])} end if;
              return null;
            end $$"""
    )
    for event in ("update", "delete"):
        db.owner(f"create trigger app_{event} after {event} on public.{table} for each statement execute function public.app()")
    erase(db, world.viewer.user_id)
    for event in ("update", "delete"):
        db.owner(f"drop trigger app_{event} on public.{table}")
    assert db.sql("select * from live_stream.verify_metrics()") == [] and differences(db) == []
