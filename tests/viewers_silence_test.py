"""When somebody who is silent was heard of last: the timer, the end of a session and a ban say the same."""

from __future__ import annotations

import pytest

TIMEOUT = 60


def come_back(world, session, who, ago: int):
    """A viewer who sent a heartbeat an hour ago, left, and came back so many seconds ago."""
    viewer = world.join(session, who)
    who.api.rpc("live_stream_heartbeat", viewer_id=viewer["id"])
    world.leave(viewer, who)
    who.api.rpc("live_stream_join", session_id=session["id"])
    world.db.owner(
        """update public.live_stream_heartbeats set seen_at = now() - interval '1 hour' where viewer_id = %s""",
        [viewer["id"]],
    )
    world.db.sql(
        """begin;
           set local session_replication_role = replica;
           update public.live_stream_viewers
              set joined_at = now() - interval '2 hours', watch_duration_seconds = 0,
                  watching_since = now() - make_interval(secs => %s) where id = %s;
           commit""".replace("%s", str(ago), 1).replace("%s", f"'{viewer['id']}'")
    )
    return viewer


def end(world, session, who):
    world.end(session)


def ban(world, session, who):
    world.influencer.api.rpc("live_stream_ban", user_id=who.user_id)


def expire(world, session, who):
    world.db.owner("select live_stream.expire_viewers()")


@pytest.mark.parametrize("closes", [end, ban])
def test_who_came_back_a_moment_ago_has_watched_until_now(world, closes):
    session = world.session()
    viewer = come_back(world, session, world.viewer, TIMEOUT - 20)
    closes(world, session, world.viewer)
    (row,) = world.service.select("live_stream_viewers", where={"id": viewer["id"]})
    assert not row["is_still_watching"]
    assert TIMEOUT - 20 <= row["watch_duration_seconds"] < TIMEOUT
    assert world.read(session)["total_watch_time_seconds"] >= TIMEOUT - 20


@pytest.mark.parametrize("closes", [end, ban, expire])
def test_who_came_back_and_fell_silent_has_watched_until_then(world, closes):
    session = world.session()
    viewer = come_back(world, session, world.viewer, TIMEOUT + 20)
    closes(world, session, world.viewer)
    (row,) = world.service.select("live_stream_viewers", where={"id": viewer["id"]})
    assert not row["is_still_watching"] and row["watch_duration_seconds"] == 0


def test_the_timer_leaves_who_came_back_a_moment_ago(world):
    session = world.session()
    viewer = come_back(world, session, world.viewer, TIMEOUT - 20)
    expire(world, session, world.viewer)
    (row,) = world.service.select("live_stream_viewers", where={"id": viewer["id"]})
    assert row["is_still_watching"]


@pytest.mark.parametrize("closes", [end, ban])
def test_who_never_sends_a_heartbeat_watches_until_the_end(world, closes):
    """A client that only inserts its row is there as long as nobody closes it."""
    session = world.session()
    viewer = world.join(session, world.viewer)
    world.db.sql(
        f"""begin;
            set local session_replication_role = replica;
            update public.live_stream_viewers
               set joined_at = now() - interval '2 hours', watching_since = now() - interval '2 hours'
             where id = '{viewer["id"]}';
            commit"""
    )
    closes(world, session, world.viewer)
    (row,) = world.service.select("live_stream_viewers", where={"id": viewer["id"]})
    assert 7_200 <= row["watch_duration_seconds"] < 7_300
