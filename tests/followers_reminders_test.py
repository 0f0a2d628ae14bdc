"""Reminders of many: each follower has its own once, whatever another follower or influencer does, and whatever is held open
or broken off meanwhile."""

from __future__ import annotations

import time

import psycopg
import pytest

from following import crowd, follow, let_pass, plan_many, planned, remind, remind_all, told, unfollow
from people import people
from sizes import own_db
from steps import Steps

pytestmark = own_db("counts or changes all that is there")

REMINDED = "select count(*) from public.live_stream_notifications where type = 'stream_reminder'"
DUE = "select count(*) from public.live_stream_reminders where due_at <= now()"
IN_LINE = "select count(*) from public.live_stream_follow_changes"


def rank_of_last(db, influencer):
    """How many were told until all of an influencer's followers were; in the order in which that was written."""
    return db.value(
        "select max(nth) from (select influencer_id, row_number() over (order by ctid) as nth"
        " from public.live_stream_notifications) n where influencer_id = %s",
        [influencer.influencer_id],
    )


# What one follower does.


def test_a_round_is_gone_on_with_whatever_a_follower_does(plain_db):
    world = people(plain_db)
    crowd(plain_db, world.influencer, 3_000, "20 + n %% 30")
    session = planned(world, 30)
    remind_all(world)
    want = plain_db.value("select count(*) from public.live_stream_followers where reminder_minutes >= 30")
    assert plain_db.value(REMINDED) == want
    # As the worker leaves it between two slices: those with 41 minutes and more have been reminded.
    plain_db.sql("delete from public.live_stream_notifications")
    plain_db.sql("update public.live_stream_reminders set due_at = now(), after_minutes = 40")
    left = plain_db.value("select count(*) from public.live_stream_followers where reminder_minutes between 30 and 40")
    where_it_is = "select xmin::text, to_jsonb(r) as row from public.live_stream_reminders r"
    before = plain_db.sql(where_it_is)
    for minutes in (0, 10_080, 0, 10_080, 45):
        follow(world, world.viewer, minutes)
    unfollow(world, world.viewer), follow(world, world.viewer, 45), follow(world, world.stranger, 30)
    world.viewer.api.update("live_stream_followers", {"reminder_minutes": 46})
    assert plain_db.sql(where_it_is) == before, "it does not begin again"
    remind_all(world)
    assert plain_db.value(REMINDED) == left + 2, "those whom it had not come to, and who came meanwhile"
    assert told(world.viewer) == told(world.stranger) == [("stream_reminder", session["id"])]
    assert remind(world) == 0
    follow(world, world.viewer, 10_080)
    assert remind(world) == 0


def test_a_request_of_a_follower_writes_a_row_for_each_it_follows(plain_db):
    world = people(plain_db)
    plan_many(plain_db, world.influencer, 200, "60 + n")
    follow(world, world.viewer, 10)
    remind_all(world)
    due = plain_db.sql("select * from public.live_stream_reminders order by session_id")
    for minutes, in_line in ((10, 0), (5, 0), (10_080, 1), (10_079, 1), (10_080, 2)):
        follow(world, world.viewer, minutes)
        assert plain_db.value(IN_LINE) == in_line, "none for who is not to be reminded earlier"
    assert plain_db.sql("select * from public.live_stream_reminders order by session_id") == due
    remind_all(world)
    assert plain_db.value(IN_LINE) == 0 and plain_db.value(REMINDED) == 50
    assert plain_db.sql("select * from public.live_stream_reminders order by session_id") == due


def test_what_a_follower_asks_for_keeps_no_others_waiting(plain_db):
    """All reminders that it has made due come after those of other influencers' followers."""
    world = people(plain_db)
    plain_db.set(notifications_per_day=0)
    hosts = [world.new_influencer() for _ in range(3)]
    for host in hosts:
        plan_many(plain_db, host, 1_000, "100 + n")
        follow(world, world.viewer, 1, by=host)
    crowd(plain_db, world.influencer, 100, 60)
    remind_all(world)
    assert plain_db.value(REMINDED) == 0
    world.viewer.api.update("live_stream_followers", {"reminder_minutes": 10_079})
    assert plain_db.value(DUE) == 0, "no session is due again for its sake"
    planned(world, 50)
    remind_all(world)
    assert plain_db.value(REMINDED) == 3_100
    assert rank_of_last(plain_db, world.influencer) <= 1_100, "a step at most came before"


def test_a_follower_of_very_many_sessions_is_reminded_of_each(plain_db):
    """More than are looked at in one step, and several that begin at the same time."""
    world = people(plain_db)
    plain_db.set(notifications_per_day=0)
    plan_many(plain_db, world.influencer, 1_200, "100 + n %% 2")
    remind_all(world)
    follow(world, world.viewer, 200)
    remind_all(world)
    assert plain_db.value("select count(distinct session_id) from public.live_stream_notifications") == 1_200
    assert plain_db.value(REMINDED) == 1_200 and plain_db.value(IN_LINE) == 0


def test_who_follows_earlier_than_all_is_reminded_in_time(plain_db):
    world = people(plain_db)
    follow(world, world.stranger, 15)
    session = planned(world, 90)
    remind_all(world)
    follow(world, world.viewer, 60)
    remind_all(world)
    assert plain_db.value(REMINDED) == 0
    let_pass(plain_db, 31)
    assert remind(world) == 1 and told(world.viewer) == [("stream_reminder", session["id"])]
    let_pass(plain_db, 45)
    assert remind(world) == 1 and told(world.stranger) == [("stream_reminder", session["id"])]
    let_pass(plain_db, 30)
    assert remind(world) == 0 and plain_db.value("select count(*) from public.live_stream_reminders") == 0, "it is over"


# What one influencer has.


@own_db("counts or changes all that is there")
def test_reminders_of_one_influencer_keep_no_others_waiting(plain_db):
    world = people(plain_db)
    plain_db.set(notifications_per_day=0)
    bad, other = world.new_influencer(), world.new_influencer()
    crowd(plain_db, bad, 2_000, 60)
    follow(world, world.viewer, 60, by=other)
    plan_many(plain_db, bad, 200, 30)
    session = planned(world, 30, by=other)
    began = time.monotonic()
    remind(world)
    assert time.monotonic() - began < 4
    assert told(world.viewer) == [("stream_reminder", session["id"])]
    assert plain_db.value("select count(*) from public.live_stream_reminders where due_at <= now()") > 0, "more is left"


def test_thousands_of_sessions_that_are_due_keep_no_others_waiting(plain_db):
    """Theirs have been due for longer."""
    world = people(plain_db)
    plain_db.set(notifications_per_day=0)
    bad, other = world.new_influencer(), world.new_influencer()
    crowd(plain_db, bad, 10, 10_080)
    follow(world, world.viewer, 60, by=other)
    remind_all(world)
    plan_many(plain_db, bad, 1_200, "20")
    session = planned(world, 50, by=other)
    remind_all(world)
    assert told(world.viewer) == [("stream_reminder", session["id"])]
    assert plain_db.value(REMINDED) == 12_001
    assert rank_of_last(plain_db, other) <= 1_000, "two steps at most came before"


def test_those_of_whom_nothing_is_due_are_passed_over(plain_db):
    """With very many due, influencers are gone through one after the other, some hundreds at a time."""
    world = people(plain_db)
    plain_db.owner(
        "insert into public.influencers (user_id, display_name) select gen_random_uuid(), 'One of many' from generate_series(1, 500)"
    )
    plain_db.owner(
        "insert into public.live_stream_sessions (influencer_id, title, scheduled_start_time)"
        " select id, 'Far off', now() + interval '20 days' from public.influencers"
    )
    hosts = [world.new_influencer() for _ in range(30)]
    for host in hosts:
        follow(world, world.viewer, 60, by=host)
    remind_all(world)
    plan_many(plain_db, world.new_influencer(), 1_100, "20")
    sessions = {planned(world, 50, by=host)["id"] for host in hosts}
    remind_all(world)
    assert {session for _, session in told(world.viewer)} == sessions and len(told(world.viewer)) == 30
    assert plain_db.value(DUE) == 0 and remind(world) == 0


# What is under way, or broken off.


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_who_follows_while_a_session_is_being_planned(plain_db, end):
    world = people(plain_db)
    with Steps(plain_db) as steps:
        host = steps.client(world.influencer)
        host.run(
            "insert into public.live_stream_sessions (influencer_id, title, scheduled_start_time)"
            f" values ('{world.influencer.influencer_id}', 'Soon', now() + interval '90 minutes')"
        )
        follow(world, world.viewer, 60)
        remind_all(world)
        assert plain_db.value(IN_LINE) == 0
        host.commit() if end == "commit" else host.rollback()
    remind_all(world)
    let_pass(plain_db, 31)
    assert remind(world) == len(told(world.viewer)) == (end == "commit")


@pytest.mark.parametrize("what", ["update public.live_stream_sessions set status = 'cancelled'", "delete from public.live_stream_sessions"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_who_follows_while_a_session_is_being_cancelled(plain_db, what, end):
    """It is not waited for, and looked at again."""
    world = people(plain_db)
    session, other = planned(world, 30), planned(world, 40)
    remind_all(world)
    with Steps(plain_db) as steps:
        host = steps.client(world.influencer)
        host.run(f"{what} where id = '{session['id']}'")
        with plain_db.connect() as connection:
            connection.execute("set lock_timeout = 400")
            connection.execute(
                "insert into public.live_stream_followers (user_id, influencer_id, reminder_minutes) values (%s, %s, 60)",
                [world.viewer.user_id, world.influencer.influencer_id],
            )
        remind_all(world)
        assert told(world.viewer) == [("stream_reminder", other["id"])] and plain_db.value(IN_LINE) == 1
        host.commit() if end == "commit" else host.rollback()
    remind_all(world)
    expected = {other["id"]} if end == "commit" else {session["id"], other["id"]}
    assert {about for _, about in told(world.viewer)} == expected and len(told(world.viewer)) == len(expected)
    assert plain_db.value(IN_LINE) == 0


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_who_follows_while_reminders_are_being_written(plain_db, end, isolation):
    """By a call of the server's whose transaction is held open; the worker does not wait for it."""
    world = people(plain_db)
    crowd(plain_db, world.influencer, 50, 60)
    remind_all(world)
    near, far = planned(world, 30), planned(world, 90)
    with plain_db.connect("app_owner") as server:
        server.execute(f"begin isolation level {isolation}")
        if isolation == "repeatable read":
            server.execute("select 1 from public.live_stream_sessions")
            follow(world, world.viewer, 45)
        assert server.execute("select live_stream.send_reminders() as sent").fetchone()["sent"] == 50
        if isolation == "read committed":
            follow(world, world.viewer, 45)
        remind_all(world)
        assert plain_db.value(REMINDED) == 0
        server.execute(end)
    remind_all(world)
    assert plain_db.value(REMINDED) == 51 and told(world.viewer) == [("stream_reminder", near["id"])]
    let_pass(plain_db, 46)
    remind_all(world)
    assert plain_db.value(REMINDED) == 102 and {about for _, about in told(world.viewer)} == {near["id"], far["id"]}


def test_who_is_gone_is_looked_for_no_more(plain_db):
    world = people(plain_db)
    planned(world, 30)
    follow(world, world.viewer, 60)
    unfollow(world, world.viewer)
    with plain_db.connect() as connection, pytest.raises(psycopg.errors.DivisionByZero):
        with connection.transaction():
            connection.execute(
                "insert into public.live_stream_followers (user_id, influencer_id) values (%s, %s)",
                [world.stranger.user_id, world.influencer.influencer_id],
            )
            connection.execute("select 1 / 0")
    assert plain_db.value(IN_LINE) == 1
    assert remind(world) == 0 and plain_db.value(IN_LINE) == 0
