"""Followers: who may see them, and what they are told, once each."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pytest

from following import crowd, follow, let_pass, move, planned, remind, remind_all, told, unfollow
from people import at_once, people
from refusals import refused
from sizes import own_db


# Following.


def test_follow_and_unfollow(world):
    row = follow(world, world.viewer)
    assert (row["user_id"], row["influencer_id"]) == (world.viewer.user_id, world.influencer.influencer_id)
    assert row["reminder_minutes"] == 15
    assert follow(world, world.viewer, 60)["reminder_minutes"] == 60
    assert follow(world, world.viewer)["reminder_minutes"] == 60
    (gone,) = unfollow(world, world.viewer)
    assert gone["user_id"] == world.viewer.user_id
    assert unfollow(world, world.viewer) == []
    with refused("42501", "permission denied"):
        world.anon.rpc("live_stream_follow", influencer_id=world.influencer.influencer_id)


def test_followers_are_private(world):
    follow(world, world.viewer)
    assert len(world.viewer.api.select("live_stream_followers")) == 1
    assert len(world.influencer.api.select("live_stream_followers")) == 1
    assert world.stranger.api.select("live_stream_followers") == []
    assert world.new_influencer().api.select("live_stream_followers") == []
    with refused("42501", "permission denied"):
        world.anon.select("live_stream_followers")
    for table in ("live_stream_reminders", "live_stream_follow_changes"):
        with refused("42501", "permission denied"):
            world.viewer.api.select(table)


def test_everybody_follows_for_themselves(world):
    body = {"influencer_id": world.influencer.influencer_id}
    with refused("42501", "the caller is not user", hint=True):
        world.stranger.api.insert("live_stream_followers", body | {"user_id": world.viewer.user_id})
    assert world.viewer.api.insert("live_stream_followers", body)["user_id"] == world.viewer.user_id
    for person in (world.stranger, world.influencer):
        assert person.api.update("live_stream_followers", {"reminder_minutes": 1}) == []
        assert person.api.delete("live_stream_followers") == []
    (kept,) = world.viewer.api.update("live_stream_followers", {"user_id": world.viewer.user_id, "reminder_minutes": 5})
    assert kept["reminder_minutes"] == 5


@pytest.mark.parametrize("minutes", [-1, 10_081])
def test_reminders_are_up_to_a_week_before(world, minutes):
    with refused("23514", f"reminder_minutes cannot be {minutes}", hint=True):
        follow(world, world.viewer, minutes)


# Reminders.


def test_a_reminder_comes_once_at_the_time_asked_for(world):
    follow(world, world.viewer, 60)
    follow(world, world.stranger, 10)
    session = planned(world, 90)
    assert remind(world) == 0 and told(world.viewer) == []
    move(world, session, 30)
    assert remind(world) == 1 and remind(world) == 0
    assert told(world.viewer) == [("stream_reminder", session["id"])] and told(world.stranger) == []
    (row,) = world.viewer.api.select("live_stream_notifications")
    assert row["title"] == session["title"] and row["influencer_id"] == world.influencer.influencer_id
    # Moved away and near again: who was reminded is not again.
    move(world, session, 300)
    assert remind(world) == 0
    move(world, session, 5)
    assert remind(world) == 1
    assert len(told(world.viewer)) == len(told(world.stranger)) == 1


def test_who_follows_late_is_reminded_too(world):
    session = planned(world, 30)
    assert remind(world) == 0
    follow(world, world.viewer, 60)
    follow(world, world.stranger, 20)
    assert remind(world) == 1 and told(world.viewer) == [("stream_reminder", session["id"])]
    follow(world, world.stranger, 40)
    assert remind(world) == 1 and told(world.stranger) == [("stream_reminder", session["id"])]


def test_nobody_is_reminded_of_what_is_hidden_off_or_over(world):
    follow(world, world.viewer, 60)
    planned(world, 30, visibility="private")
    planned(world, 30, visibility="unlisted")
    cancelled = planned(world, 30)
    world.influencer.api.rpc("live_stream_cancel", session_id=cancelled["id"])
    planned(world, -60)
    hidden = planned(world, 30)
    world.set_session(hidden, visibility="private")
    assert remind(world) == 0 and told(world.viewer) == []
    world.set_session(hidden, visibility="public")
    assert remind(world) == 1


@own_db("counts or changes all that is there")
def test_a_deleted_reminder_is_not_sent_again(world):
    follow(world, world.viewer, 60)
    follow(world, world.stranger, 10)
    session = planned(world, 30)
    assert remind(world) == 1
    world.viewer.api.delete("live_stream_notifications")
    let_pass(world.db, 22)
    assert remind(world) == 1 and told(world.stranger) == [("stream_reminder", session["id"])]
    assert told(world.viewer) == []


# Live, and over.


def test_followers_hear_when_it_goes_live_and_ends(world):
    follow(world, world.viewer)
    session = world.session()
    world.pause(session)
    world.set_session(session, status="live")
    assert told(world.viewer) == [("followed_influencer_live", session["id"])]
    world.end(session)
    assert told(world.viewer) == [("followed_influencer_live", session["id"]), ("stream_ended", session["id"])]
    assert told(world.stranger) == told(world.influencer) == []


def test_what_is_hidden_tells_nobody(world):
    follow(world, world.viewer)
    for visibility in ("private", "unlisted"):
        world.end(world.session(visibility=visibility))
    world.influencer.api.rpc("live_stream_cancel", session_id=world.session(live=False)["id"])
    assert told(world.viewer) == []


def test_what_opens_to_all_while_live_is_told_then(world):
    follow(world, world.viewer)
    session = world.session(visibility="private")
    assert told(world.viewer) == []
    for visibility in ("public", "unlisted", "public"):
        world.set_session(session, visibility=visibility)
    assert told(world.viewer) == [("followed_influencer_live", session["id"])]


@own_db("counts or changes all that is there")
def test_going_live_before_ten_thousand_followers_holds_nobody_up(supabase_db):
    """Viewers join, others follow, one account is deleted and reminders are written meanwhile; all of it goes through."""
    world = people(supabase_db)
    supabase_db.sql("insert into auth.users (id, email) select gen_random_uuid(), n || '@example.org' from generate_series(1, 10000) n")
    supabase_db.sql(
        "insert into public.live_stream_followers (user_id, influencer_id, reminder_minutes) select id, %s, 60 from auth.users where id <> %s",
        [world.influencer.influencer_id, world.influencer.user_id],
    )
    count = supabase_db.value("select count(*) from public.live_stream_followers")
    session = planned(world, 30)
    began = time.monotonic()
    late = world.new_user()
    results = at_once(
        lambda: world.start(session),
        lambda: [world.join(session) for _ in range(20)],
        lambda: supabase_db.as_user(late.user_id).rpc("live_stream_follow", influencer_id=world.influencer.influencer_id),
        lambda: supabase_db.owner("select live_stream.run_schedules()"),
    )
    assert not [one for one in results if isinstance(one, Exception)], results
    assert time.monotonic() - began < 10
    world.end(session)
    counted = supabase_db.sql("select type, count(*) as n from public.live_stream_notifications group by 1")
    counted = {row["type"]: row["n"] for row in counted}
    assert counted["followed_influencer_live"] in (count, count + 1) and counted["stream_ended"] == count + 1
    assert world.read(session)["total_unique_viewers"] == 20


@own_db("has a trigger of the app's")
def test_ten_thousand_followers_in_few_statements(plain_db):
    world = people(plain_db)
    crowd(plain_db, world.influencer, 10_000, 60)
    remind_all(world)
    session = planned(world, 30)
    plain_db.sql("create table public.statements (type text)")
    plain_db.sql(
        """create function public.count_statements() returns trigger language plpgsql as
           $$begin insert into public.statements select min(type) from told; return null; end$$"""
    )
    plain_db.sql(
        """create trigger count_statements after insert on public.live_stream_notifications referencing new table as told
             for each statement execute function public.count_statements()"""
    )
    plain_db.sql("grant all on public.statements to app_owner")
    remind_all(world)
    world.start(session)
    world.end(session)
    counted = plain_db.sql("select type, count(*) as n from public.live_stream_notifications group by 1 order by 1")
    assert [(row["type"], row["n"]) for row in counted] == [
        ("followed_influencer_live", 10_000), ("stream_ended", 10_000), ("stream_reminder", 10_000)
    ]  # fmt: skip
    told_by = [row["type"] for row in plain_db.sql("select type from public.statements where type is not null")]
    assert told_by == ["stream_reminder"] * 10 + ["followed_influencer_live", "stream_ended"], "reminders a thousand at a time"


@own_db("counts or changes all that is there")
def test_the_schedule_tells_the_truth(world):
    follow(world, world.viewer, 10_080)
    start = datetime.now(timezone.utc) + timedelta(hours=1)
    when = {"scheduled_date": f"{start:%Y-%m-%d}", "scheduled_start_time": f"{start:%H:%M}", "scheduled_end_time": None}
    sent = {"notification_sent": True, "reminder_sent": True}
    row = world.schedule(**when, **sent, is_recurring=True, recurrence_pattern="daily")

    def truth():
        now = world.anon.select("live_stream_schedule", where={"id": row["id"]}, one=True)
        return now["reminder_sent"], now["notification_sent"]

    assert truth() == (False, False)
    world.influencer.api.update("live_stream_schedule", sent, where={"id": row["id"]})
    assert truth() == (False, False), "it is not the client's to say"
    world.db.owner("select live_stream.materialize_occurrences('2 hours')")
    assert truth() == (False, False)
    assert remind(world) == 1 and truth() == (True, False)
    (session,) = world.anon.select("live_stream_sessions")
    world.start(session)
    assert truth() == (True, True)
    world.end(session)
    world.db.owner("select live_stream.materialize_occurrences('30 hours')")
    assert truth() == (False, False), "of the next one nobody was told"
    world.db.owner("select live_stream.run_schedules()")
    assert truth() == (True, False)


@own_db("counts or changes all that is there")
def test_a_moved_occurrence_is_reminded_of_at_its_new_time(world):
    follow(world, world.viewer, 60)
    start = datetime.now(timezone.utc).replace(microsecond=0, second=0) + timedelta(hours=30)
    row = world.schedule(
        scheduled_date=f"{start:%Y-%m-%d}", scheduled_start_time=f"{start:%H:%M}", scheduled_end_time=None
    )
    world.db.owner("select live_stream.run_schedules()")
    assert told(world.viewer) == []
    near = (datetime.now(timezone.utc) + timedelta(minutes=30)).isoformat()
    moved = {"original_starts_at": start.isoformat(), "starts_at": near}
    world.influencer.api.rpc("live_stream_move_occurrence", schedule_id=row["id"], **moved)
    assert remind(world) == 1 and len(told(world.viewer)) == 1


# How much.


def test_how_often_a_follower_is_told_in_a_day(db, world):
    db.set(notifications_per_day=2)
    other = world.new_influencer()
    follow(world, world.viewer), follow(world, world.viewer, by=other)
    first = world.session()
    world.end(first)
    second = world.session()
    assert told(world.viewer) == [("followed_influencer_live", first["id"]), ("stream_ended", first["id"])]
    # Each influencer has a count of its own, and so has each follower; what the server tells does not count.
    world.session(by=other)
    assert len(told(world.viewer)) == 3
    follow(world, world.stranger)
    world.end(second)
    assert told(world.stranger) == [("stream_ended", second["id"])]
    world.service.insert("live_stream_notifications", {"user_id": world.stranger.user_id, "influencer_id": world.influencer.influencer_id, "type": "special_offer", "title": "x"})
    third = world.session()
    assert told(world.stranger)[-1] == ("followed_influencer_live", third["id"])
    # A day later.
    db.sql("update public.live_stream_notifications set created_at = created_at - interval '25 hours' where user_id = %s", [world.viewer.user_id])
    world.end(third)
    assert told(world.viewer)[-1] == ("stream_ended", third["id"])


def test_reminders_count_too(db, world):
    db.set(notifications_per_day=2)
    follow(world, world.viewer, 60)
    for n in range(4):
        planned(world, 20 + n)
    remind(world)
    assert [kind for kind, _ in told(world.viewer)] == ["stream_reminder"] * 2
    db.set(notifications_per_day=0)
    planned(world, 20), planned(world, 21)
    remind(world)
    assert len(told(world.viewer)) == 4
