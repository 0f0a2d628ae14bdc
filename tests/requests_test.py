"""Each row of the request table, in its order: sent as clients send it, by the role it names, and by those who may not."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from people import now
from refusals import refused
from sizes import both_shapes, own_db

pytestmark = both_shapes

SECRETS = {"stream_key": "sk_live_123", "rtmp_url": "rtmp://ingest.example.org/live"}


@own_db("counts or changes all that is there")
def test_create_a_session(world):
    body = {
        "influencer_id": world.influencer.influencer_id,
        "title": "Product Launch Stream",
        "description": "Launching our new product line",
        "scheduled_start_time": "2030-12-01T15:00:00Z",
        "max_viewers": 500,
        "is_recording_enabled": True,
        "is_chat_enabled": True,
        "visibility": "public",
    }
    session = world.influencer.api.insert("live_stream_sessions", body)
    assert re.fullmatch(r"[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}", session["session_code"])
    assert (session["status"], session["max_viewers"], session["current_viewers"]) == ("scheduled", 500, 0)
    assert session["title"] == "Product Launch Stream" and session["created_at"]

    for who in (world.viewer.api, world.anon, world.new_influencer().api):
        with refused("42501"):
            who.insert("live_stream_sessions", body)
    assert world.db.value("select count(*) from public.live_stream_sessions") == 1


def test_has_an_active_stream(world):
    def active(who):
        where = {"influencer_id": world.influencer.influencer_id, "status": "live"}
        return who.select("live_stream_sessions", where=where, limit=1)

    session = world.session(live=False)
    everyone = (world.anon, world.viewer.api, world.influencer.api, world.service)
    assert [active(who) for who in everyone] == [[]] * 4
    world.start(session)
    assert [[row["id"] for row in active(who)] for who in everyone] == [[session["id"]]] * 4


def test_start(world):
    session = world.session(live=False)
    patch = {
        "status": "live",
        "actual_start_time": now(),
        "room_id": "100ms-room-id",
        "room_code": "room-code",
        "stream_url": "https://example.org/stream",
        "hls_url": "https://example.org/stream.m3u8",
    } | SECRETS
    for who in (world.viewer.api, world.new_influencer().api):
        assert who.update("live_stream_sessions", patch, where={"id": session["id"]}) == []
    with refused("42501"):
        world.anon.update("live_stream_sessions", patch, where={"id": session["id"]})
    assert world.read(session)["status"] == "scheduled"

    started = world.influencer.api.update("live_stream_sessions", patch, where={"id": session["id"]}, one=True)
    assert started["status"] == "live" and started["actual_start_time"]
    assert started["room_id"] == "100ms-room-id" and started["hls_url"] == "https://example.org/stream.m3u8"
    assert started["stream_key"] is None and started["rtmp_url"] is None
    (secrets,) = world.influencer.api.rpc("live_stream_stream_credentials", session_id=session["id"])
    assert {name: secrets[name] for name in SECRETS} == SECRETS
    assert world.viewer.api.rpc("live_stream_stream_credentials", session_id=session["id"]) == []
    with refused("42501"):
        world.anon.rpc("live_stream_stream_credentials", session_id=session["id"])


def test_end(world):
    session = world.session()
    viewer = world.join(session)
    patch = {"status": "ended", "actual_end_time": now(), "recording_url": "https://example.org/recording.mp4"}
    assert world.viewer.api.update("live_stream_sessions", patch, where={"id": session["id"]}) == []
    assert world.read(session)["status"] == "live"

    ended = world.influencer.api.update("live_stream_sessions", patch, where={"id": session["id"]}, one=True)
    assert ended["status"] == "ended" and ended["recording_url"] == patch["recording_url"]
    assert ended["actual_end_time"] >= ended["actual_start_time"]
    assert (ended["current_viewers"], ended["total_unique_viewers"]) == (0, 1)
    (row,) = world.influencer.api.select("live_stream_viewers", where={"id": viewer["id"]})
    assert row["is_still_watching"] is False


def test_read_one_and_by_influencer(world):
    session = world.session()
    private = world.session(live=False, visibility="private")
    select = "*, influencer:influencers(display_name, followers_count)"
    for who in (world.anon, world.viewer.api, world.influencer.api):
        row = who.select("live_stream_sessions", select, where={"id": session["id"]}, one=True)
        assert row["influencer"]["display_name"] == "Ada"
        assert row["influencer"]["followers_count"] == 7
    where = {"influencer_id": world.influencer.influencer_id}

    def found(who):
        rows = who.select("live_stream_sessions", select, where=where, order="created_at.desc")
        return {row["id"] for row in rows}

    assert found(world.anon) == found(world.viewer.api) == {session["id"]}
    assert found(world.influencer.api) == {session["id"], private["id"]}


@own_db("counts or changes all that is there")
def test_live_now(world):
    first = world.session()
    second = world.session(by=world.new_influencer("Grace"))
    world.session(by=world.new_influencer("Planned"), live=False)
    world.session(by=world.new_influencer("Hidden"), visibility="private")
    world.session(by=world.new_influencer("Unlisted"), visibility="unlisted")
    for who in (world.anon, world.viewer.api, world.influencer.api):
        rows = who.select("live_sessions_with_details", where={"status": "live"}, order="actual_start_time")
        assert [row["id"] for row in rows] == [first["id"], second["id"]]
        assert [row["display_name"] for row in rows] == ["Ada", "Grace"]
        assert rows[0]["followers_count"] == 7
        picture = "https://example.org/face.png" if world.db.is_supabase else None
        assert rows[0]["avatar_url"] == picture
        assert not {"stream_key", "rtmp_url"} & set(rows[0])


def test_join(world):
    session = world.session()
    body = {
        "session_id": session["id"],
        "user_id": world.viewer.user_id,
        "viewer_type": "customer",
        "device_type": "mobile",
        "browser": "chrome",
        "country": "PT",
        "city": "Lisboa",
        "user_agent": "Mozilla/5.0",
        "ip_address": "203.0.113.9",
    }
    viewer = world.viewer.api.insert("live_stream_viewers", body)
    assert viewer["user_id"] == world.viewer.user_id and viewer["device_type"] == "mobile"
    assert viewer["is_still_watching"] is True and viewer["left_at"] is None

    anonymous = world.anon.insert("live_stream_viewers", body | {"user_id": None, "viewer_type": "anonymous"})
    assert anonymous["user_id"] is None and anonymous["viewer_type"] == "anonymous" and anonymous["id"]
    assert world.read(session)["current_viewers"] == 2

    for who in (world.stranger.api, world.anon):
        with refused("42501", "the caller is not user", hint=True):
            who.insert("live_stream_viewers", body)
    hidden = world.session(by=world.new_influencer(), visibility="private")
    with refused("PT404", hint=True):
        world.viewer.api.insert("live_stream_viewers", body | {"session_id": hidden["id"]})
    assert world.read(session)["current_viewers"] == 2


def test_leave(world):
    session = world.session()
    viewer, anonymous = world.join(session, world.viewer), world.join(session)
    left_at = (datetime.fromisoformat(now()) + timedelta(hours=5)).isoformat()
    body = {"is_still_watching": False, "left_at": left_at, "watch_duration_minutes": 300}
    for row, others in (
        (viewer, (world.stranger.api, world.anon, world.influencer.api)),
        (anonymous, (world.stranger.api, world.anon, world.anonymous(viewer), world.influencer.api)),
    ):
        for who in others:
            assert who.update("live_stream_viewers", body, where={"id": row["id"]}) == []
    assert world.read(session)["current_viewers"] == 2

    for row, who in ((viewer, world.viewer.api), (anonymous, world.anonymous(anonymous))):
        left = who.update("live_stream_viewers", body, where={"id": row["id"]}, one=True)
        assert left["is_still_watching"] is False
        assert row["joined_at"] <= left["left_at"] < left_at and left["watch_duration_minutes"] == 0
    assert world.read(session)["current_viewers"] == 0


def test_viewers_of_a_session(world):
    session = world.session()
    viewer, anonymous = world.join(session, world.viewer), world.join(session)

    def seen(who):
        return {row["id"] for row in who.select("live_stream_viewers", where={"session_id": session["id"]})}

    assert seen(world.influencer.api) == seen(world.service) == {viewer["id"], anonymous["id"]}
    assert seen(world.viewer.api) == {viewer["id"]}
    assert seen(world.anonymous(anonymous)) == {anonymous["id"]}
    assert seen(world.stranger.api) == seen(world.anon) == seen(world.new_influencer().api) == set()


def test_send_a_message(world):
    session = world.session()
    viewer = world.join(session, world.viewer)
    body = {
        "session_id": session["id"],
        "viewer_id": viewer["id"],
        "user_id": world.viewer.user_id,
        "message": "How much is the lamp?",
        "message_type": "chat",
        "username": "User123",
        "avatar_url": "https://example.org/me.png",
        "is_influencer": True,
    }
    message = world.viewer.api.insert("live_stream_chat", body)
    assert message["message"] == body["message"] and message["username"] == "User123"
    assert message["is_influencer"] is False
    assert world.read(session)["total_messages"] == 1

    for who in (world.stranger.api, world.anon):
        with refused("42501"):
            who.insert("live_stream_chat", body)
    assert world.read(session)["total_messages"] == 1


def test_read_chat(world):
    session = world.session()
    messages = [world.say(session, world.viewer, f"message {n}") for n in range(4)]
    world.viewer.api.update("live_stream_chat", {"is_deleted": True}, where={"id": messages[1]["id"]}, one=True)

    def read(who, of=session):
        where = {"session_id": of["id"], "is_deleted": False}
        rows = who.select("live_stream_chat", where=where, order="sent_at.desc", limit=2)
        return [row["message"] for row in rows]

    for who in (world.anon, world.stranger.api, world.viewer.api, world.influencer.api):
        assert read(who) == ["message 3", "message 2"]

    host = world.new_influencer()
    private = world.session(by=host, visibility="private")
    world.say(private, host, "nobody else reads this")
    assert read(host.api, private) == ["nobody else reads this"]
    for who in (world.anon, world.stranger.api, world.influencer.api):
        assert read(who, private) == []


def test_add_a_product(world):
    session = world.session()
    body = {
        "session_id": session["id"],
        "product_id": world.new_product(),
        "display_order": 1,
        "original_price": 99.99,
        "live_stream_price": 79.99,
        "discount_percentage": 20,
        "limited_quantity": 50,
    }
    for who in (world.viewer.api, world.new_influencer().api, world.anon):
        with refused("42501"):
            who.insert("live_stream_products", body)
    product = world.influencer.api.insert("live_stream_products", body)
    assert (product["live_stream_price"], product["featured_duration_minutes"]) == (79.99, 5)
    assert world.read(session)["total_products_showcased"] == 1


def test_list_products(world):
    session = world.session()
    last, first = world.product(session, display_order=2), world.product(session, display_order=1)
    # Without a table of products in the app there is nothing to embed.
    select = "*, product:products(*)" if world.db.is_supabase else "*"

    def listed(who, of=session):
        return who.select("live_stream_products", select, where={"session_id": of["id"]}, order="display_order")

    for who in (world.anon, world.viewer.api, world.influencer.api):
        rows = listed(who)
        assert [row["id"] for row in rows] == [first["id"], last["id"]]
        if world.db.is_supabase:
            assert rows[0]["product"]["id"] == first["product_id"] and rows[0]["product"]["name"] == "Lamp"

    host = world.new_influencer()
    private = world.session(by=host, visibility="private")
    world.product(private, by=host)
    assert len(listed(host.api, private)) == 1
    assert listed(world.anon, private) == listed(world.viewer.api, private) == []


def test_product_metrics(world):
    session = world.session()
    product = world.product(session)
    where = {"session_id": session["id"], "product_id": product["product_id"]}
    patch = {"clicks": 12, "orders": 3, "revenue": 239.97}
    for who in (world.viewer.api, world.new_influencer().api):
        assert who.update("live_stream_products", patch, where=where) == []
    with refused("42501"):
        world.anon.update("live_stream_products", patch, where=where)
    assert world.read(session)["total_clicks"] == 0

    for who in (world.influencer.api, world.service):
        row = who.update("live_stream_products", patch, where=where, one=True)
        assert (row["clicks"], row["orders"], row["revenue"]) == (12, 3, 239.97)
        totals = world.read(session)
        assert (totals["total_clicks"], totals["total_orders"], totals["total_revenue"]) == (12, 3, 239.97)


@own_db("counts or changes all that is there")
def test_schedule(world):
    body = {
        "influencer_id": world.influencer.influencer_id,
        "title": "Weekly Product Review",
        "description": "What is new",
        "scheduled_date": "2030-12-02",
        "scheduled_start_time": "15:00:00",
        "scheduled_end_time": "16:00:00",
        "timezone": "Europe/Lisbon",
        "is_recurring": True,
        "recurrence_pattern": "weekly",
        "recurrence_end_date": "2031-12-31",
        "days_of_week": [1, 3, 5],
        "products_to_showcase": [world.new_product()],
        "expected_duration_minutes": 60,
    }
    for who in (world.viewer.api, world.new_influencer().api, world.anon):
        with refused("42501"):
            who.insert("live_stream_schedule", body)
    row = world.influencer.api.insert("live_stream_schedule", body)
    assert (row["status"], row["days_of_week"], row["recurrence_pattern"]) == ("scheduled", [1, 3, 5], "weekly")
    assert world.db.value("select count(*) from public.live_stream_schedule") == 1


@own_db("counts or changes all that is there")
def test_upcoming(world):
    later = world.schedule(scheduled_date="2031-06-02", timezone="America/New_York")
    sooner = world.schedule("Sooner", scheduled_date="2031-01-06")
    other = world.schedule("Another's", by=world.new_influencer("Grace"), scheduled_date="2031-03-03")
    world.schedule("Over", scheduled_date="2001-01-01")
    for who in (world.anon, world.viewer.api, world.influencer.api):
        rows = who.select("upcoming_streams", order="full_start_datetime")
        assert [row["id"] for row in rows] == [sooner["id"], other["id"], later["id"]]
        assert [row["display_name"] for row in rows] == ["Ada", "Grace", "Ada"]
        assert rows[0]["full_start_datetime"] == "2031-01-06T15:00:00+00:00"
        assert rows[2]["full_start_datetime"] == "2031-06-02T19:00:00+00:00"
        assert rows[2]["full_end_datetime"] == "2031-06-02T20:00:00+00:00"
        mine = {"influencer_id": world.influencer.influencer_id}
        rows = who.select("upcoming_streams", where=mine, order="full_start_datetime")
        assert [row["id"] for row in rows] == [sooner["id"], later["id"]]


def test_analytics(world):
    session = world.session()
    viewer = world.join(session, world.viewer)
    world.say(session, world.viewer, "hello", viewer)

    def summary(who):
        return who.select("session_analytics_summary", where={"session_id": session["id"]})

    (row,) = summary(world.influencer.api)
    assert {
        "session_id": session["id"],
        "total_unique_viewers": 1,
        "total_watch_time": 0,
        "avg_watch_time": 0,
        "current_viewers": 1,
        "total_messages": 1,
        "total_reactions": 0,
        "total_product_clicks": 0,
        "total_orders": 0,
    }.items() <= row.items()
    assert summary(world.service) == [row]
    for who in (world.anon, world.viewer.api, world.new_influencer().api):
        assert summary(who) == []


def test_realtime(world):
    """Realtime asks the database, as the subscriber, whether it may see the row that changed."""
    session = world.session()
    viewer = world.join(session, world.viewer)
    message = world.say(session, world.viewer, "hello", viewer)
    if world.db.is_supabase:
        published = world.db.sql(
            "select tablename from pg_publication_tables where pubname = 'supabase_realtime' and schemaname = 'public'"
        )
        assert {"live_stream_sessions", "live_stream_chat", "live_stream_viewers"} <= {
            row["tablename"] for row in published
        }

    def may_see(who, table, row):
        return len(who.select(table, where={"id": row["id"]})) == 1

    for who, sees_viewer in ((world.influencer.api, True), (world.viewer.api, True), (world.stranger.api, False)):
        assert may_see(who, "live_stream_sessions", session)
        assert may_see(who, "live_stream_chat", message)
        assert may_see(who, "live_stream_viewers", viewer) is sees_viewer
    assert not may_see(world.anon, "live_stream_viewers", viewer)
