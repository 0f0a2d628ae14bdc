"""What the tests of followers ask of a world: to follow, to plan a stream, to be reminded of it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone


def follow(world, person, minutes=None, by=None):
    args = {} if minutes is None else {"reminder_minutes": minutes}
    influencer = (by or world.influencer).influencer_id
    return person.api.rpc("live_stream_follow", influencer_id=influencer, **args)


def unfollow(world, person, by=None):
    return person.api.rpc("live_stream_unfollow", influencer_id=(by or world.influencer).influencer_id)


def crowd(db, influencer, count, minutes):
    """So many followers; of `minutes`, the SQL of each one's reminder_minutes, may say `n`."""
    db.owner(
        "insert into public.live_stream_followers (user_id, influencer_id, reminder_minutes)"
        f" select gen_random_uuid(), %s, {minutes} from generate_series(1, %s) n",
        [influencer.influencer_id, count],
    )


def remind(world):
    return world.db.owner("select live_stream.send_reminders() as sent")[0]["sent"]


def remind_all(world):
    """As often as there is something to do."""
    while world.db.owner("select live_stream.run_schedules() as has_more")[0]["has_more"]:
        pass


def told(person):
    return [(row["type"], row["session_id"]) for row in person.api.select("live_stream_notifications", order="created_at")]


def planned(world, minutes, **columns):
    start = datetime.now(timezone.utc) + timedelta(minutes=minutes)
    return world.session(live=False, scheduled_start_time=start.isoformat(), **columns)


def plan_many(db, influencer, count, minutes):
    """So many planned sessions; of `minutes`, the SQL of how far each one's begin is, may say `n`."""
    db.owner(
        "insert into public.live_stream_sessions (influencer_id, title, scheduled_start_time)"
        f" select %s, 'One of many', now() + make_interval(mins => {minutes}) from generate_series(1, %s) n",
        [influencer.influencer_id, count],
    )


def move(world, session, minutes):
    start = datetime.now(timezone.utc) + timedelta(minutes=minutes)
    return world.set_session(session, scheduled_start_time=start.isoformat())


def let_pass(db, minutes):
    """As if so many minutes had passed for all that is planned."""
    ago = f"- make_interval(mins => {minutes})"
    db.sql("set session_replication_role = replica")
    db.sql(f"update public.live_stream_sessions set scheduled_start_time = scheduled_start_time {ago}")
    db.sql(f"update public.live_stream_reminders set starts_at = starts_at {ago}, due_at = due_at {ago}")
    db.sql("reset session_replication_role")
