"""What is held on people: filled in, purged, exported, erased."""

from __future__ import annotations

from database import OWNER
from recount import rest

FORGED = "198.51.100.66"
CLIENT = "203.0.113.77"


def track(db, what, **settings):
    """Sets live_stream.ip_tracking, and others, for the database; connections begin anew."""
    # PostgreSQL lets an owner set what it knows: once the library is loaded.
    db.owner("select live_stream.is_service()")
    for name, value in ({"ip_tracking": what} | settings).items():
        db.owner(f"alter database {db.name} set live_stream.{name} = '{value}'")
    db.close()


def with_headers(db, who=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return db.as_user(who.user_id, headers=headers) if who else db.as_anon(headers=headers)


def insert(api, session, who=None, **columns):
    body = {"session_id": session["id"], "user_id": who.user_id if who else None}
    return api.insert("live_stream_viewers", body | columns)


def row_of(db, session):
    """The whole row of a session, at rest."""
    rest(db)
    (row,) = db.sql("select to_jsonb(s) as row from public.live_stream_sessions s where id = %s", [session["id"]])
    return row["row"]


def archive_of(db, session):
    rows = db.sql("select * from public.live_stream_archive where session_id = %s", [session["id"]])
    return rows[0] if rows else None


def purge(db, user=OWNER, **ages):
    """What a purge took: rows by kind."""
    given = ", ".join(f"{what} => {value!r}" for what, value in ages.items())
    return {row["what"]: row["rows"] for row in db.sql(f"select * from live_stream.purge({given})", user=user)}


def export(db, user_id):
    (row,) = db.owner("select live_stream.export_user(%s) as export", [user_id])
    return row["export"]


# Retention.


def fill(db, world, session, viewers=40):
    """A session with something of everything that is counted."""
    asking = world.join(session, world.viewer, country="PT", city="Lisboa", user_agent="Mozilla/5.0")
    product = world.product(session)
    question = world.say(session, world.viewer, "how much?", asking)
    world.say(session, world.influencer, "little", parent_message_id=question["id"])
    world.say(session, world.viewer, "wow", asking, message_type="reaction")
    for who in (world.viewer, world.influencer):
        who.api.rpc("live_stream_react", message_id=question["id"], reaction="👍")
    world.viewer.api.rpc("live_stream_share", viewer_id=asking["id"])
    world.viewer.api.rpc("live_stream_report_quality", viewer_id=asking["id"], buffering_time_seconds=7, disconnections_count=2)
    world.viewer.api.rpc("live_stream_heartbeat", viewer_id=asking["id"])
    world.service.rpc(
        "live_stream_record_order", session_id=session["id"], product_id=product["product_id"], amount=19.99,
        viewer_id=asking["id"], order_reference="A-1",
    )  # fmt: skip
    world.service.insert(
        "live_stream_notifications",
        {"user_id": world.viewer.user_id, "type": "special_offer", "title": "Now", "session_id": session["id"]},
    )
    if db.is_supabase:
        db.sql("insert into auth.users (id) select md5(g::text)::uuid from generate_series(0, 29) g")
    db.sql(
        """insert into public.live_stream_viewers
             (session_id, user_id, joined_at, left_at, country, city, user_agent, device_type, browser, viewer_type)
           select %s, case when g %% 4 > 0 then md5((g %% 30)::text)::uuid end,
                  now() - interval '1 hour', now() - make_interval(secs => g %% 3000),
                  case when g %% 10 < 5 then 'DE' when g %% 10 < 9 then 'FR' when g = 9 then 'LI' end, 'city ' || g,
                  'agent ' || g, (array['mobile', 'desktop'])[1 + g %% 2], 'chrome',
                  (array['customer', 'anonymous'])[1 + (g %% 4 = 0)::int]::public.live_stream_viewer_type
             from generate_series(1, %s) g""",
        [session["id"], viewers],
    )
    return asking, question


def columns(db, pattern):
    """Columns of our tables, and of influencers, that hold a uuid and have such a name."""
    rows = db.sql(
        """select c.relname as table, a.attname as column
             from pg_attribute a join pg_class c on c.oid = a.attrelid
            where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
              and (c.relname like 'live\\_stream\\_%%' or c.relname = 'influencers')
              and a.atttypid = 'uuid'::regtype and a.attname ~ %s""",
        [pattern],
    )
    return {(row["table"], row["column"]) for row in rows}


def everything_of(db, world, session):
    """`world.viewer` leaves a trace in every table."""
    asking, question = fill(db, world, session)
    user = world.viewer.user_id
    taken = world.say(session, world.stranger, "rude")
    db.sql("update public.live_stream_chat set is_deleted = true, deleted_by = %s, deletion_reason = 'rude' where id = %s", [user, taken["id"]])  # fmt: skip
    world.viewer.api.rpc("live_stream_follow", influencer_id=world.influencer.influencer_id)
    strict, trusting = world.new_influencer(), world.new_influencer()
    closed = world.session(by=trusting, visibility="private")
    trusting.api.rpc("live_stream_invite", session_id=closed["id"], user_id=user)
    trusting.api.rpc("live_stream_add_moderator", user_id=user)
    world.viewer.api.rpc("live_stream_timeout", user_id=world.stranger.user_id, influencer_id=trusting.influencer_id, reason="rude")
    strict.api.rpc("live_stream_ban", user_id=user, reason="spam")
    db.others = {strict.user_id, trusting.user_id, world.stranger.user_id}
    return asking, question, taken
