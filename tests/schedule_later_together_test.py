"""A schedule is put later: within a transaction, beside another one, and with followers who are to be reminded."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from following import follow, let_pass, remind, remind_all, told
from people import people
from putting import change, daily, ids, made, make, moments, put, show, starts
from sizes import own_db
from steps import Steps

pytestmark = own_db("counts or changes all that is there")


# Transactions.


def test_twice_in_a_transaction_and_undone(plain_db):
    world = people(plain_db)
    row = daily(world)
    make(world)
    before = made(world, row)
    later = "update public.live_stream_schedule set scheduled_start_time = scheduled_start_time + interval '7 minutes'"
    with plain_db.connect() as connection:
        connection.autocommit = False
        connection.execute(later), connection.execute("savepoint here")
        connection.execute(later), connection.execute("rollback to here")
        connection.execute(later)
        connection.rollback()
        assert made(world, row) == before
        connection.execute(later), connection.execute("savepoint here"), connection.execute("update public.live_stream_schedule set recurrence_rule = 'FREQ=WEEKLY'")
        connection.execute("rollback to here"), connection.execute(later)
        connection.commit()
    assert ids(world, row) == [one["id"] for one in before]
    assert starts(world, row) == [one["start"] + timedelta(minutes=14) for one in before]


@pytest.mark.parametrize("first", ["host", "server"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_while_sessions_are_made(plain_db, first, end):
    world = people(plain_db)
    row = daily(world)
    make(world, "25 hours")
    later = "update public.live_stream_schedule set scheduled_start_time = scheduled_start_time + interval '7 minutes'"
    with Steps(plain_db) as steps:
        host, server = steps.client(world.influencer), steps.client("service_role")
        if first == "host":
            host.run(later)
            server.start("select live_stream.materialize_occurrences('4 days 1 hour')").result()
            getattr(host, end)()
        else:
            server.run("select live_stream.materialize_occurrences('4 days 1 hour')")
            waiting = host.start(later)
            host.waits()
            getattr(server, end)()
            waiting.result()
    before = ids(world, row)
    make(world, "4 days 1 hour")
    row = world.influencer.api.select("live_stream_schedule", one=True)
    assert starts(world, row) == moments(row, 4) and set(before) <= set(ids(world, row))
    assert world.influencer.api.select("live_stream_sessions", where={"status": "cancelled"}) == []


def test_while_a_session_is_being_deleted(plain_db):
    """It is a change of the schedule, which is waited for as others are."""
    world = people(plain_db)
    row = daily(world)
    make(world)
    first, second, *others = ids(world, row)
    with Steps(plain_db) as steps:
        host, other = steps.client(world.influencer), steps.client(world.influencer)
        host.run("delete from public.live_stream_sessions where id = %s", [second])
        waiting = other.start("update public.live_stream_schedule set scheduled_start_time = scheduled_start_time + interval '7 minutes' where id = %s", [row["id"]])
        other.waits()
        host.commit()
        waiting.result()
    row = world.influencer.api.select("live_stream_schedule", one=True)
    assert ids(world, row) == [first, *others]
    new = moments(row, 4)
    assert starts(world, row) == [new[0], *new[2:]]


def test_a_schedule_that_is_called_off_and_back(world):
    row = daily(world)
    make(world)
    before = ids(world, row)
    change(world, row, status="cancelled", scheduled_start_time="00:01")
    assert ids(world, row) == []
    row = change(world, row, status="confirmed")
    make(world)
    assert starts(world, row) == moments(row, len(starts(world, row))) and not set(before) & set(ids(world, row))


def test_two_hundred_cost_what_they_are(plain_db):
    world = people(plain_db)
    took = {}
    for count in (20, 200):
        row = daily(world, recurrence_rule=f"FREQ=HOURLY;COUNT={count}", expected_duration_minutes=10)
        make(world, "20 days")
        before = ids(world, row)
        began = time.monotonic()
        row = put(world, row, minutes=25)
        took[count] = time.monotonic() - began
        assert ids(world, row) == before and len(before) == count and starts(world, row) == moments(row, count)
    assert took[200] < 25 * took[20] + 1, took


# Reminders.


def test_one_reminder_at_the_new_time(plain_db):
    world = people(plain_db)
    follow(world, world.viewer, 60), follow(world, world.stranger, 15)
    row = show(world, 70)
    remind_all(world)
    (session,) = ids(world, row)
    put(world, row, minutes=40)
    let_pass(plain_db, 12)
    remind_all(world)
    assert told(world.viewer) == [], "it is still an hour and a half off"
    let_pass(plain_db, 39)
    assert remind(world) == 1 and told(world.viewer) == [("stream_reminder", session)]
    let_pass(plain_db, 45)
    assert remind(world) == 1 and told(world.stranger) == [("stream_reminder", session)]
    remind_all(world)
    assert len(told(world.viewer)) == len(told(world.stranger)) == 1


def test_who_was_reminded_is_not_reminded_again(plain_db):
    """As of a session that is moved by hand."""
    world = people(plain_db)
    follow(world, world.viewer, 60), follow(world, world.stranger, 15)
    row = show(world, 40)
    remind_all(world)
    (session,) = ids(world, row)
    assert told(world.viewer) == [("stream_reminder", session)] and told(world.stranger) == []
    assert world.influencer.api.select("live_stream_schedule", one=True)["reminder_sent"] is True
    row = put(world, row, minutes=30)
    assert (row["created_session_id"], row["reminder_sent"]) == (session, True)
    for _ in range(3):
        remind_all(world)
        let_pass(plain_db, 19)
    remind_all(world)
    assert told(world.viewer) == told(world.stranger) == [("stream_reminder", session)]
