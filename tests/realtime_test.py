"""What Supabase Realtime gets to see: the tables that clients subscribe to, and in their rows no secret."""

from __future__ import annotations

import pytest

from database import OWNER
from people import now, people
from sizes import own_db

pytestmark = own_db("makes publications")

PUBLISHED = {"live_stream_sessions", "live_stream_viewers", "live_stream_chat", "live_stream_products"}


def published(db):
    rows = db.sql("select tablename from pg_publication_tables where pubname = 'supabase_realtime'")
    return {row["tablename"] for row in rows}


@pytest.fixture
def stream(supabase_db):
    """A function that returns the bytes that a subscriber of the publication got since it was last called."""
    slot = f"slot_{supabase_db.name}"
    supabase_db.sql("select pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])

    def changes():
        rows = supabase_db.sql(
            "select data from pg_logical_slot_get_binary_changes"
            "(%s, null, null, 'proto_version', '1', 'publication_names', 'supabase_realtime')",
            [slot],
        )
        return b"".join(row["data"] for row in rows)

    yield changes
    supabase_db.sql("select pg_drop_replication_slot(%s)", [slot])


def test_the_publication_has_what_clients_subscribe_to_and_no_more(supabase_db):
    assert published(supabase_db) == PUBLISHED
    supabase_db.owner("select live_stream.install()")
    assert published(supabase_db) == PUBLISHED


def test_a_publication_that_comes_later_is_joined(plain_db):
    assert published(plain_db) == set()
    with plain_db.connect(OWNER) as connection:
        connection.execute("set client_min_messages = error")
        connection.execute("create publication supabase_realtime")
        connection.execute("select live_stream.install()")
    assert published(plain_db) == PUBLISHED


def test_a_publication_of_all_tables_is_left_alone(plain_db):
    plain_db.sql("create publication supabase_realtime for all tables")
    plain_db.owner("select live_stream.install()")
    assert PUBLISHED <= published(plain_db)


def test_a_deleted_row_shows_its_key_alone(db):
    """Realtime cannot ask who may see a row that is gone: it sends the replica identity to everybody."""
    rows = db.sql("select relname, relreplident from pg_class where relname = any (%s)", [sorted(PUBLISHED)])
    assert {row["relname"]: row["relreplident"] for row in rows} == {name: "d" for name in PUBLISHED}


def test_rows_arrive_and_secrets_do_not(supabase_db, stream):
    world = people(supabase_db)
    stream()
    secrets = {"stream_key": "key-5e3kr", "rtmp_url": "rtmp://ingest-5e3kr.example.org"}
    session = world.session("Lamps tonight", live=False, **secrets)
    world.set_session(session, status="live", actual_start_time=now(), **secrets)
    world.influencer.api.rpc("live_stream_pause", session_id=session["id"])
    world.influencer.api.rpc("live_stream_start", session_id=session["id"], **secrets)
    world.service.update("live_stream_sessions", secrets, where={"id": session["id"]})
    supabase_db.owner("update public.live_stream_sessions set stream_key = 'key-5e3kr', title = 'Lamps now'")
    viewer = world.join(session, world.viewer)
    message = world.say(session, world.viewer, "what a lamp", viewer)
    world.stranger.api.rpc("live_stream_react", message_id=message["id"], reaction="heart")
    world.viewer.api.rpc("live_stream_heartbeat", viewer_id=viewer["id"])
    product = world.product(session)
    world.service.rpc(
        "live_stream_record_order",
        session_id=session["id"],
        product_id=product["product_id"],
        amount=10,
        order_reference="order-77",
    )
    told = stream()
    for word in ("Lamps tonight", "Lamps now", "what a lamp", viewer["id"], product["id"], '{"heart": 1}'):
        assert word.encode() in told, word
    for word in ("key-5e3kr", "ingest-5e3kr", "order-77", "private", "payout", world.stranger.user_id):
        assert word.encode() not in told, word
    (stored,) = world.influencer.api.rpc("live_stream_stream_credentials", session_id=session["id"])
    assert stored["stream_key"] == "key-5e3kr"


def test_an_end_arrives_with_its_numbers_settled(supabase_db, stream):
    """One message says that the session is over and that nobody is watching."""
    world = people(supabase_db)
    session = world.session()
    for _ in range(3):
        world.join(session)
    stream()
    world.end(session)
    told = stream()
    assert b"ended" in told
    assert told.count(session["session_code"].encode()) == 1, "the session's row was written once"


def test_a_heartbeat_tells_nobody(supabase_db, stream):
    world = people(supabase_db)
    viewer = world.join(world.session(), world.viewer)
    stream()
    for _ in range(3):
        world.viewer.api.rpc("live_stream_heartbeat", viewer_id=viewer["id"])
    assert viewer["id"].encode() not in stream()
