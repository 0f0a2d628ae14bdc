"""What viewers do, and what is kept of it."""

from __future__ import annotations


def rows(world, session, **where):
    return world.service.select("live_stream_viewers", where={"session_id": session["id"], **where})


def viewer_row(world, viewer):
    return world.service.select("live_stream_viewers", where={"id": viewer["id"]}, one=True)


def counts(world, session):
    row = world.read(session)
    return row["current_viewers"], row["peak_viewers"], row["total_unique_viewers"]


def counts_at_rest(world, session):
    """After a crowd: what it has changed is folded a moment later."""
    world.db.owner("select live_stream.flush_metrics(%s)", [session["id"]])
    return counts(world, session)


def join(api, session, **args):
    return api.rpc("live_stream_join", session_id=session["id"], **args)
