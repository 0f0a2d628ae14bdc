"""A session's numbers for its owner: the summary, and the periods that the app's server writes."""

from __future__ import annotations

import pytest

from refusals import refused

PERIOD = {"period_type": "hour", "period_start": "2030-01-01T10:00:00Z", "period_end": "2030-01-01T11:00:00Z"}


def summary(api, session):
    by_view = api.select("session_analytics_summary", where={"session_id": session["id"]})
    by_function = api.rpc("live_stream_session_analytics", session_id=session["id"])
    assert by_view == by_function
    return by_view


def period(world, session, **columns):
    return world.service.insert("live_stream_analytics", {"session_id": session["id"]} | PERIOD | columns)


def test_the_summary_is_the_sessions_numbers(world):
    session = world.session()
    product = world.product(session)
    times = {"joined_at": "2030-01-01T10:00:00Z", "left_at": "2030-01-01T10:01:30Z", "is_still_watching": False}
    visits = [{"session_id": session["id"], "user_id": None, "viewer_type": "anonymous"} | times for _ in range(3)]
    world.service.insert("live_stream_viewers", visits)
    viewer = world.join(session, world.viewer)
    message = world.say(session, world.viewer, "hello", viewer)
    world.stranger.api.rpc("live_stream_react", message_id=message["id"], reaction="🔥")
    world.viewer.api.rpc("live_stream_track_click", session_product_id=product["id"])
    world.viewer.api.rpc("live_stream_share", viewer_id=viewer["id"])
    order = {"session_id": session["id"], "product_id": product["product_id"], "amount": 12.34}
    world.influencer.api.rpc("live_stream_record_order", order)
    assert summary(world.influencer.api, session) == [
        {
            "session_id": session["id"],
            "total_unique_viewers": 4,
            "total_watch_time": 4,
            "avg_watch_time": 1.13,
            "current_viewers": 1,
            "total_messages": 1,
            "total_reactions": 1,
            "total_product_clicks": 1,
            "total_orders": 1,
            "peak_viewers": 1,
            "total_shares": 1,
            "total_revenue": 12.34,
            "conversion_rate": 25,
        }
    ]


def test_the_summary_is_the_owners(world):
    public, private = world.session(), world.session(live=False, visibility="private")
    for session in (public, private):
        assert len(summary(world.influencer.api, session)) == len(summary(world.service, session)) == 1
        for who in (world.viewer.api, world.new_influencer().api):
            assert summary(who, session) == []
        assert world.anon.select("session_analytics_summary", where={"session_id": session["id"]}) == []
        with refused("42501"):
            world.anon.rpc("live_stream_session_analytics", session_id=session["id"])
    assert len(world.influencer.api.select("session_analytics_summary")) == 2
    assert world.viewer.api.select("session_analytics_summary") == []
    assert world.anon.select("session_analytics_summary") == []


def test_the_summary_reads_no_viewer(world):
    """So it costs the same for a session of 100,000 viewers."""
    plan = world.db.owner("explain select * from public.session_analytics_summary where session_id = gen_random_uuid()")
    text = "\n".join(row["QUERY PLAN"] for row in plan)
    assert "live_stream_sessions" in text and "live_stream_viewers" not in text and "live_stream_chat" not in text


def test_the_views_cannot_be_written(world):
    session = world.session()
    for who in (world.influencer.api, world.service):
        with refused("42501"):
            who.update("session_analytics_summary", {"total_orders": 9}, where={"session_id": session["id"]})
        with refused("42501"):
            who.delete("session_analytics_summary", where={"session_id": session["id"]})
        with refused("55000", "cannot update view"):
            who.update("live_sessions_with_details", {"title": "x"}, where={"id": session["id"]})
    assert world.read(session)["title"] == "A stream"


def test_periods_are_written_by_the_server_and_read_by_the_owner(world):
    session = world.session()
    row = period(world, session, viewers_joined=5, revenue_generated=9.99, top_countries={"PT": 3})
    assert (row["viewers_joined"], row["revenue_generated"], row["top_countries"]) == (5, 9.99, {"PT": 3})
    where = {"session_id": session["id"]}
    assert world.influencer.api.select("live_stream_analytics", where=where) == [row]
    for who in (world.viewer.api, world.new_influencer().api):
        assert who.select("live_stream_analytics", where=where) == []
    with refused("42501"):
        world.anon.select("live_stream_analytics", where=where)
    for who in (world.influencer.api, world.viewer.api, world.anon):
        for attempt in (
            lambda: who.insert("live_stream_analytics", where | PERIOD | {"period_type": "day"}),
            lambda: who.update("live_stream_analytics", {"viewers_joined": 9}, where=where),
            lambda: who.delete("live_stream_analytics", where=where),
        ):
            with refused("42501"):
                attempt()


def test_one_row_per_session_and_period(world):
    session = world.session()
    period(world, session)
    with refused("23505"):
        period(world, session)
    period(world, session, period_type="minute", period_end="2030-01-01T10:01:00Z")


@pytest.mark.parametrize(
    "columns",
    [
        {"period_end": PERIOD["period_start"]},
        {"viewers_joined": -1},
        {"revenue_generated": -0.01},
        {"revenue_generated": "NaN"},
        {"average_connection_quality": 0.99},
        {"average_connection_quality": 4.01},
        {"average_connection_quality": "NaN"},
        {"average_concurrent_viewers": "NaN"},
        {"top_countries": [1, 2]},
        {"device_breakdown": "mobile"},
    ],
)
def test_nonsense_is_refused(world, columns):
    with refused("23514"):
        period(world, world.session(), **columns)
