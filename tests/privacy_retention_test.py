"""Retention: what is purged, and the numbers that stay."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from database import OWNER
from holding import CLIENT, FORGED, archive_of, fill, insert, purge, row_of, track, with_headers
from recount import differences
from refusals import refused
from sizes import own_db, scale

pytestmark = own_db("erases and purges whatever is there")


def as_client(db, role, query, params=None):
    """A statement by a role that clients have, on a connection of its own."""
    with db.connect() as connection, connection.transaction():
        connection.execute(f"set local role {role}")
        return connection.execute(query, params).fetchall()


def test_purge_of_everything_keeps_every_number(db, world):
    """Of a thousand viewers, or ten thousand."""
    session, viewers = world.session(max_viewers=None), scale(1_000, 10_000)
    fill(db, world, session, viewers)
    world.end(session)
    before = row_of(db, session)
    assert differences(db) == [] and before["total_unique_viewers"] > viewers // 4 and before["peak_viewers"] == 1
    for ages in (
        {"addresses": "0", "chat": "0", "viewers": "0", "notifications": "0"},
        {"addresses": "0", "chat": "0", "viewers": "0", "notifications": "0"},
    ):
        done = purge(db, **ages)
        assert row_of(db, session) == before
        assert db.sql("select * from live_stream.verify_metrics()") == [] and differences(db) == []
        again = {"addresses": 0, "chat": 0, "viewers": 0, "notifications": 0}
        assert done in ({"addresses": 0, "chat": 3, "viewers": viewers + 1, "notifications": 1}, again)
    assert done == again
    for table in ("viewers", "chat", "chat_reactions", "heartbeats", "notifications"):
        assert db.value(f"select count(*) from public.live_stream_{table}") == 0, table
    (order,) = db.sql("select * from public.live_stream_orders")
    assert (float(order["amount"]), order["user_id"], order["viewer_id"]) == (19.99, None, None)
    # What is counted anew is the same again.
    db.sql("select live_stream.recount(%s)", [session["id"]])
    after = row_of(db, session)
    assert after | {"updated_at": None} == before | {"updated_at": None}


@pytest.mark.parametrize("order", ["chat viewers addresses", "viewers chat addresses", "addresses chat viewers", "addresses viewers chat"])
def test_purges_one_after_the_other(db, world, order):
    session = world.session()
    fill(db, world, session)
    world.end(session)
    before = row_of(db, session)
    for what in order.split():
        purge(db, **{what: "0"})
        assert row_of(db, session) == before, what
        assert differences(db) == [], what
    kept = archive_of(db, session)
    assert (kept["viewers"], kept["peak_viewers"], kept["total_messages"], kept["total_reactions"]) == (41, 1, 2, 3)


def test_purge_of_addresses(db, world):
    track(db, "full")
    session = world.session()
    fill(db, world, session)
    insert(with_headers(db, x_forwarded_for=CLIENT), session)
    world.end(session)
    before = row_of(db, session)
    found = db.sql("select id, country, messages_sent, watch_duration_seconds from public.live_stream_viewers order by id")
    assert purge(db, addresses="0") == {"addresses": 42}
    held = "select count(*) from public.live_stream_viewers where ip_address is not null or user_agent is not null or city is not null"
    assert db.value(held) == 0
    assert db.sql("select id, country, messages_sent, watch_duration_seconds from public.live_stream_viewers order by id") == found
    assert row_of(db, session) == before and differences(db) == []
    assert purge(db, addresses="0") == {"addresses": 0}


def test_addresses_that_come_later_are_purged_too(db, world):
    track(db, "full")
    session = world.session()
    viewer = world.join(session, world.viewer, city="Lisboa")
    world.end(session)
    assert purge(db, addresses="0") == {"addresses": 1}
    # A viewer says no more about a session that is over.
    (row,) = world.viewer.api.update("live_stream_viewers", {"city": "Porto", "user_agent": "x"}, where={"id": viewer["id"]})
    assert (row["city"], row["user_agent"]) == (None, None)
    left = {"left_at": "2030-01-01T00:00:00Z", "joined_at": "2029-12-31T23:00:00Z"}
    world.service.insert("live_stream_viewers", {"session_id": session["id"], "ip_address": FORGED, "is_still_watching": False} | left)
    assert purge(db, addresses="0") == {"addresses": 1}
    world.service.update("live_stream_viewers", {"city": "Faro"}, where={"id": viewer["id"]})
    assert purge(db, addresses="0") == {"addresses": 1}
    assert purge(db, addresses="0") == {"addresses": 0}
    # Also with rows that are moved here.
    other = world.session()
    moved = world.join(other, world.viewer, city="Braga")
    world.end(other)
    world.service.update("live_stream_viewers", {"session_id": session["id"]}, where={"id": moved["id"]})
    assert purge(db, addresses="0") == {"addresses": 1}
    assert differences(db) == []


def test_purge_of_the_chat_keeps_what_viewers_sent(db, world):
    session = world.session()
    asking, _ = fill(db, world, session)
    world.end(session)
    assert purge(db, chat="0") == {"chat": 3}
    assert db.value("select count(*) from public.live_stream_chat_reactions") == 0
    (row,) = db.sql("select messages_sent, reactions_sent, orders_placed from public.live_stream_viewers where id = %s", [asking["id"]])
    assert (row["messages_sent"], row["reactions_sent"], row["orders_placed"]) == (1, 2, 1)
    assert differences(db) == []


def test_purge_of_viewers_keeps_the_chat(db, world):
    session = world.session()
    _, question = fill(db, world, session)
    world.end(session)
    assert purge(db, viewers="0") == {"viewers": 41}
    (row,) = db.sql("select * from public.live_stream_chat where id = %s", [question["id"]])
    assert (row["viewer_id"], str(row["user_id"]), row["reactions"], row["replies_count"]) == (None, world.viewer.user_id, {"👍": 2}, 1)
    assert differences(db) == []


def test_the_archive_names_nobody(db, world):
    session = world.session()
    fill(db, world, session)
    world.end(session)
    purge(db, viewers="0")
    kept = archive_of(db, session)
    # Of Portugal there was one viewer, of Liechtenstein one, and three did not say.
    assert kept["countries"] == {"DE": 20, "FR": 16, "other": 5}
    assert kept["devices"] == {"mobile": 21, "desktop": 20} and kept["browsers"] == {"chrome": 41}
    assert kept["viewer_types"] == {"customer": 31, "anonymous": 10}
    text = json.dumps(kept, default=str)
    assert "PT" not in text and "Lisboa" not in text and world.viewer.user_id not in text
    # One that comes later is not seen by the difference.
    left = {"left_at": "2030-01-01T00:00:00Z", "joined_at": "2029-12-31T23:00:00Z", "is_still_watching": False}
    world.service.insert("live_stream_viewers", {"session_id": session["id"], "country": "DE", "browser": "chrome"} | left)
    purge(db, viewers="0")
    assert archive_of(db, session)["countries"] == {"DE": 20, "FR": 16, "other": 6}
    assert differences(db) == []


def test_who_reads_the_archive(db, world):
    session = world.session()
    world.join(session, world.viewer)
    world.end(session)
    purge(db, viewers="0")
    assert world.influencer.api.select("live_stream_archive", "viewers") == [{"viewers": 1}]
    assert world.service.select("live_stream_archive", "viewers") == [{"viewers": 1}]
    for who in (world.viewer, world.stranger, world.new_influencer()):
        assert who.api.select("live_stream_archive") == []
    with refused("42501"):
        world.anon.select("live_stream_archive")
    for api in (world.influencer.api, world.service):
        for call in (
            lambda: api.insert("live_stream_archive", {"session_id": session["id"]}),
            lambda: api.update("live_stream_archive", {"viewers": 0}, where={"session_id": session["id"]}),
            lambda: api.delete("live_stream_archive", where={"session_id": session["id"]}),
        ):
            with refused("42501"):
                call()


def test_what_is_not_over_is_not_purged(db, world):
    everything = {"addresses": "0", "chat": "0", "viewers": "0", "notifications": "0"}
    session = world.session()
    fill(db, world, session)
    before = row_of(db, session), db.value("select jsonb_agg(to_jsonb(v) order by v.id) from public.live_stream_viewers v")
    nothing = {"addresses": 0, "chat": 0, "viewers": 0, "notifications": 0}
    assert purge(db, **everything) == nothing
    world.pause(session)
    assert purge(db, **everything) == nothing
    planned = world.session(live=False)
    world.join(planned, world.stranger)
    assert purge(db, **everything) == nothing
    world.start(session)
    assert db.value("select jsonb_agg(to_jsonb(v) order by v.id) from public.live_stream_viewers v where session_id = %s",
                    [session["id"]]) == before[1]  # fmt: skip
    # And of what is over, nothing before its time.
    world.end(session)
    db.sql("update public.live_stream_sessions set actual_start_time = now() - interval '41 days', actual_end_time = now() - interval '40 days' where id = %s", [session["id"]])  # fmt: skip
    assert purge(db, addresses="41 days", chat="41 days", viewers="41 days", notifications="41 days") == nothing
    assert purge(db, chat="39 days", viewers="41 days") == {"chat": 3, "viewers": 0}
    assert purge(db, notifications="39 days") == {"notifications": 1}
    assert purge(db) == {}
    # A session that was called off is over too.
    world.influencer.api.rpc("live_stream_cancel", session_id=planned["id"])
    assert purge(db, viewers="0") == {"viewers": 42}
    assert differences(db) == []


def test_notifications_without_a_session_go_by_their_own_age(db, world):
    note = {"user_id": world.viewer.user_id, "type": "special_offer", "title": "Now"}
    world.service.insert("live_stream_notifications", note)
    world.service.insert("live_stream_notifications", note | {"scheduled_for": "2100-01-01T00:00:00Z"})
    world.service.insert("live_stream_notifications", note | {"created_at": "2020-01-01T00:00:00Z"})
    assert purge(db, notifications="1 day") == {"notifications": 1}
    assert purge(db, notifications="0") == {"notifications": 1}
    assert db.value("select count(*) from public.live_stream_notifications") == 1


def test_so_many_sessions_at_a_time(db, world):
    sessions = []
    for n in range(5):
        session = world.session()
        for _ in range(n + 1):
            world.join(session)
        world.end(session)
        sessions.append(session)
    before = [row_of(db, session) for session in sessions]
    call = "select * from live_stream.purge(addresses => '0', viewers => '0', max_sessions => 2)"
    taken = []
    while (row := db.owner(call)[1])["sessions"] > 0:
        taken.append((row["what"], row["sessions"], row["rows"]))
    # The oldest come first.
    assert taken == [("viewers", 2, 3), ("viewers", 2, 7), ("viewers", 1, 5)]
    assert [row_of(db, session) for session in sessions] == before and differences(db) == []


def test_a_purge_is_rolled_back(db, world):
    session = world.session()
    fill(db, world, session)
    world.end(session)
    before = row_of(db, session), db.value("select count(*) from public.live_stream_viewers")
    with db.connect(OWNER) as connection, connection.transaction(force_rollback=True):
        connection.execute("select * from live_stream.purge('0', '0', '0', '0')")
        assert connection.execute("select count(*) from public.live_stream_viewers").fetchone() == {"count": 0}
    assert (row_of(db, session), db.value("select count(*) from public.live_stream_viewers")) == before
    assert archive_of(db, session) is None and differences(db) == []
    with db.connect(OWNER) as connection, connection.transaction():
        connection.execute("savepoint a")
        connection.execute("select * from live_stream.purge(chat => '0')")
        connection.execute("rollback to a")
        connection.execute("select * from live_stream.purge(viewers => '0')")
    assert row_of(db, session) == before[0] and differences(db) == []
    assert db.value("select count(*) from public.live_stream_chat") == 3


def test_purges_at_the_same_time(db, world):
    sessions = [world.session(by=world.new_influencer()) for _ in range(6)]
    for session in sessions:
        for _ in range(3):
            world.join(session)
        db.sql("update public.live_stream_sessions set status = 'ended' where id = %s", [session["id"]])
    before = [row_of(db, session) for session in sessions]
    calls = ["purge('0', '0', '0', '0')", "purge(viewers => '0')", "purge(chat => '0', viewers => '0')", "purge(addresses => '0')"]

    def run(call):
        with db.connect(OWNER) as connection:
            return {row["what"]: row["rows"] for row in connection.execute(f"select * from live_stream.{call}").fetchall()}

    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(run, calls))
    assert sum(taken.get("viewers", 0) for taken in done) == 18
    assert [row_of(db, session) for session in sessions] == before and differences(db) == []


def test_what_a_purge_is_asked_for(db, world):
    for wrong in ("addresses => '-1 day'", "chat => '-1 second'", "viewers => '1 day -48 hours -1 second'"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="must not be negative"):
            db.owner(f"select live_stream.purge({wrong})")
    for wrong in (0, -1):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="max_sessions"):
            db.owner("select live_stream.purge('1 day', max_sessions => %s)", [wrong])


def test_a_session_goes_on_counting_after_a_purge(db, world):
    """Rows that a server brings later come to what is archived; truncated tables leave the archive."""
    session = world.session()
    fill(db, world, session)
    world.end(session)
    before = row_of(db, session)
    purge(db, chat="0", viewers="0")
    db.sql("insert into public.live_stream_chat (session_id, message) values (%s, 'late')", [session["id"]])
    db.sql("insert into public.live_stream_viewers (session_id, joined_at, left_at) values (%s, now() - interval '100 s', now())",
           [session["id"]])  # fmt: skip
    after = row_of(db, session)
    assert after["total_messages"] == before["total_messages"] + 1
    assert after["total_unique_viewers"] == before["total_unique_viewers"] + 1
    assert after["total_watch_time_seconds"] == before["total_watch_time_seconds"] + 100
    assert differences(db) == []
    for tables in ("viewers cascade", "chat cascade", "chat_reactions"):
        db.owner(f"truncate public.live_stream_{tables}")
        assert differences(db) == [], tables
    after = row_of(db, session)
    assert {k: v for k, v in after.items() if k != "updated_at"} == {k: v for k, v in before.items() if k != "updated_at"} | {
        # The orders went with `viewers cascade`.
        "total_orders": 0, "total_revenue": 0.00, "conversion_rate": 0.00,
    }  # fmt: skip
    db.owner("truncate public.live_stream_orders, public.live_stream_products")
    assert differences(db) == [] and row_of(db, session)["total_shares"] == 1
    db.sql("delete from public.live_stream_sessions")
    assert db.value("select count(*) from public.live_stream_archive") == 0


@pytest.mark.parametrize("call", [
    "purge('0')", "export_user('7b1f0c9e-3f5a-4c1d-9b57-2f6f5a1c0d11')", "personal_data()",
    "erase_user('7b1f0c9e-3f5a-4c1d-9b57-2f6f5a1c0d11')", "erase_user('7b1f0c9e-3f5a-4c1d-9b57-2f6f5a1c0d11', true)",
])  # fmt: skip
def test_for_the_server_only(db, world, call):
    for role in ("anon", "authenticated", "authenticator"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            as_client(db, role, f"select live_stream.{call}")
        # Were it granted by mistake, it would refuse by itself.
        db.owner(f"grant usage on schema live_stream to {role}")
        db.owner(f"grant execute on function live_stream.{call.partition('(')[0]} to {role}")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only the server may") as error:
            as_client(db, role, f"select live_stream.{call}")
        assert error.value.diag.message_hint == "Call it as service_role, or as the owner of the tables."
    as_client(db, "service_role", f"select live_stream.{call}")


def test_no_user_is_no_user(db, world):
    for call in ("export_user(null)", "erase_user(null)"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="user_id must not be null"):
            db.owner(f"select live_stream.{call}")
