"""Notifications: the server writes them, each user reads and ticks off its own."""

from __future__ import annotations

import pytest

from refusals import refused
from sizes import own_db


def notify(world, person, **columns):
    body = {"user_id": person.user_id, "type": "stream_starting", "title": "Ada is live"} | columns
    return world.service.insert("live_stream_notifications", body)


def own(api):
    return {row["id"] for row in api.select("live_stream_notifications")}


def test_the_server_writes_and_the_user_reads(world):
    session = world.session()
    about = {"session_id": session["id"], "influencer_id": world.influencer.influencer_id}
    row = notify(world, world.viewer, message="Come and see", action_url="/live/1", **about)
    assert (row["is_read"], row["is_sent"], row["delivery_method"]) == (False, False, "in_app")
    assert own(world.viewer.api) == {row["id"]}
    assert own(world.influencer.api) == own(world.stranger.api) == set()
    with refused("42501"):
        world.anon.select("live_stream_notifications")


def test_nobody_but_the_server_writes(world):
    for who, person in ((world.viewer.api, world.viewer), (world.influencer.api, world.viewer), (world.anon, world.viewer)):
        with refused("42501"):
            who.insert(
                "live_stream_notifications", {"user_id": person.user_id, "type": "special_offer", "title": "Buy"}
            )


def test_a_user_ticks_off_its_own(world):
    mine, others = notify(world, world.viewer), notify(world, world.stranger)
    read = world.viewer.api.update("live_stream_notifications", {"is_read": True}, where={"is_read": False})
    assert [row["id"] for row in read] == [mine["id"]] and read[0]["read_at"]
    again = world.viewer.api.update(
        "live_stream_notifications", {"is_read": True, "read_at": "2001-01-01T00:00:00Z"}, where={"id": mine["id"]}
    )
    assert again[0]["read_at"] == read[0]["read_at"], "the time is the database's"
    unread = world.viewer.api.update("live_stream_notifications", {"is_read": False}, where={"id": mine["id"]})
    assert unread[0]["read_at"] is None
    unknown = world.viewer.api.update("live_stream_notifications", {"is_read": None}, where={"id": mine["id"]})
    assert unknown[0]["is_read"] is False
    assert world.service.select("live_stream_notifications", where={"id": others["id"]})[0]["is_read"] is False


@pytest.mark.parametrize(
    "column, value", [("title", "x"), ("user_id", None), ("action_url", "x"), ("is_sent", True), ("type", "special_offer")]
)
def test_a_user_changes_nothing_else(world, column, value):
    row = notify(world, world.viewer)
    with refused("42501"):
        world.viewer.api.update("live_stream_notifications", {column: value}, where={"id": row["id"]})


def test_a_user_removes_its_own(world):
    mine, others = notify(world, world.viewer), notify(world, world.stranger)
    deleted = world.viewer.api.delete("live_stream_notifications", where={"id": [mine["id"], others["id"]]})
    assert [row["id"] for row in deleted] == [mine["id"]]
    with refused("42501"):
        world.anon.delete("live_stream_notifications", where={"id": others["id"]})
    assert own(world.stranger.api) == {others["id"]}


def test_the_server_marks_as_sent(world):
    row = notify(world, world.viewer, delivery_method="email", scheduled_for="2030-01-01T00:00:00Z")
    sent = world.service.update("live_stream_notifications", {"is_sent": True}, where={"id": row["id"]}, one=True)
    assert sent["sent_at"] and sent["scheduled_for"]


@pytest.mark.parametrize(
    "columns, sqlstate",
    [
        ({"type": "phishing"}, "23514"),
        ({"delivery_method": "pigeon"}, "23514"),
        ({"title": "  "}, "23514"),
        ({"title": None}, "23502"),
        ({"title": "x" * 256}, "22001"),
        ({"message": "x" * 10_001}, "23514"),
        ({"user_id": None}, "23502"),
        ({"session_id": "00000000-0000-0000-0000-000000000000"}, "23503"),
        ({"influencer_id": "00000000-0000-0000-0000-000000000000"}, "23503"),
    ],
)
def test_nonsense_is_refused(world, columns, sqlstate):
    with refused(sqlstate):
        notify(world, world.viewer, **columns)


@pytest.mark.parametrize(
    "kind",
    ["stream_starting", "stream_reminder", "stream_ended", "followed_influencer_live", "product_featured", "special_offer"],
)
@pytest.mark.parametrize("method", ["in_app", "email", "sms", "push"])
def test_every_kind_and_way(world, kind, method):
    row = notify(world, world.viewer, type=kind, delivery_method=method)
    assert (row["type"], row["delivery_method"]) == (kind, method)


@own_db("counts or changes all that is there")
def test_they_go_with_what_they_are_about(world):
    session = world.session()
    notify(world, world.viewer, session_id=session["id"])
    about = notify(world, world.viewer, influencer_id=world.influencer.influencer_id)
    world.influencer.api.delete("live_stream_sessions", where={"id": session["id"]})
    assert own(world.viewer.api) == {about["id"]}
    world.db.owner("delete from public.influencers")
    assert own(world.viewer.api) == set()
    if world.db.is_supabase:
        notify(world, world.viewer)
        world.db.sql("delete from auth.users where id = %s", [world.viewer.user_id])
        assert world.db.value("select count(*) from public.live_stream_notifications") == 0
