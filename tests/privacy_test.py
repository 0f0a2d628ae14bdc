"""Privacy: what is kept of an address, how long anything is kept, what is held on a person, and how it goes."""

from __future__ import annotations

import itertools
import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from database import OWNER
from metrics_test import CONFLICTS, EXPECTED, SEED, Crowd
from people import people
from recount import differences, rest, unaccounted
from refusals import refused
from sizes import own_db, scale

pytestmark = own_db("erases and purges whatever is there")

FORGED = "198.51.100.66"
CLIENT = "203.0.113.77"


def track(db, what, **settings):
    """Sets live_stream.ip_tracking, and others, for the database; connections begin anew."""
    # PostgreSQL lets an owner set what it knows: once the library is loaded.
    db.owner("select live_stream.is_service()")
    for name, value in ({"ip_tracking": what} | settings).items():
        db.owner(f"alter database {db.name} set live_stream.{name} = '{value}'")
    db.close()


def address(db, viewer):
    return db.value("select to_jsonb(ip_address) from public.live_stream_viewers where id = %s", [viewer["id"]])


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


def erase(db, user_id, **options):
    given = "".join(f", {name} => {value}" for name, value in options.items())
    (row,) = db.owner(f"select live_stream.erase_user(%s{given}) as done", [user_id])
    return row["done"]


def export(db, user_id):
    (row,) = db.owner("select live_stream.export_user(%s) as export", [user_id])
    return row["export"]


def as_client(db, role, query, params=None):
    """A statement by a role that clients have, on a connection of its own."""
    with db.connect() as connection, connection.transaction():
        connection.execute(f"set local role {role}")
        return connection.execute(query, params).fetchall()


# Addresses.


def test_no_address_is_kept_unless_asked_for(db, world):
    session = world.session()
    for who in (None, world.viewer):
        api = with_headers(db, who, x_forwarded_for=CLIENT)
        assert insert(api, session, who, ip_address=FORGED)["ip_address"] is None
        assert api.rpc("live_stream_join", session_id=session["id"])["ip_address"] is None
    assert world.service.insert("live_stream_viewers", {"session_id": session["id"], "ip_address": FORGED})["ip_address"] is None
    db.sql("insert into public.live_stream_viewers (session_id, ip_address) values (%s, %s)", [session["id"], FORGED])
    db.sql("update public.live_stream_viewers set ip_address = %s", [FORGED])
    assert db.value("select count(*) from public.live_stream_viewers where ip_address is not null") == 0


@pytest.mark.parametrize("what, expected, expected6, by_server", [
    ("full", CLIENT, "2001:db8:77:1::5", FORGED),
    ("anonymized", "203.0.113.0/24", "2001:db8:77::/48", "198.51.100.0/24"),
])  # fmt: skip
def test_the_address_is_the_requests(db, world, what, expected, expected6, by_server):
    session = world.session()
    track(db, what)
    for who in (None, world.viewer):
        for header, kept in [
            (CLIENT, expected), (f"{FORGED}, {CLIENT}", expected), (f"{CLIENT}:4711", expected),
            (f"::ffff:{CLIENT}", expected), ("[2001:db8:77:1::5]:443", expected6), ("unknown", None),
            (f"{CLIENT}, '; drop table x --", None), (f"{CLIENT},", None), ("", None), ("9" * 5000, None),
        ]:  # fmt: skip
            api = with_headers(db, who, x_forwarded_for=header)
            viewer = insert(api, session, who, ip_address=FORGED)
            assert (viewer["ip_address"], address(db, viewer)) == (kept, kept), header
        someone = world.new_user() if who else None
        api = with_headers(db, someone, x_forwarded_for=f"{FORGED}, {CLIENT}")
        viewer = api.rpc("live_stream_join", session_id=session["id"])
        assert viewer["ip_address"] == expected
        # Without the header there is no address, whatever the body says.
        assert insert((who.api if who else world.anon), session, who, ip_address=FORGED)["ip_address"] is None
    # A server says whom it joins for; its own address is nobody's.
    body = {"session_id": session["id"]}
    server = db.as_service(headers={"x-forwarded-for": CLIENT})
    assert server.insert("live_stream_viewers", body | {"ip_address": FORGED})["ip_address"] == by_server
    assert server.insert("live_stream_viewers", body)["ip_address"] is None
    assert server.rpc("live_stream_join", session_id=session["id"])["ip_address"] is None


def test_which_header_and_which_place(db, world):
    session = world.session()

    def kept(**headers):
        return insert(with_headers(db, **headers), session)["ip_address"]

    track(db, "full", ip_header="CF-Connecting-IP")
    assert kept(cf_connecting_ip=CLIENT, x_forwarded_for=FORGED) == CLIENT
    assert kept(x_forwarded_for=FORGED) is None
    track(db, "full", ip_header="x-forwarded-for", trusted_proxies=2)
    assert kept(x_forwarded_for=f"{FORGED}, {CLIENT}, 10.0.0.1") == CLIENT
    assert kept(x_forwarded_for=f"{FORGED},{CLIENT},unix:") == CLIENT
    # A list that is too short did not come through both.
    assert kept(x_forwarded_for=FORGED) is None
    track(db, "full", ip_header="", trusted_proxies=1)
    assert kept(x_forwarded_for=CLIENT) is None
    for wrong in ("trusted_proxies = 0", "ip_tracking = 'some'", "trusted_proxies = 101"):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            db.owner("select live_stream.is_service()")
            db.owner(f"alter database {db.name} set live_stream.{wrong}")


def test_clients_do_not_change_an_address(db, world):
    session = world.session()
    track(db, "full")
    for who in (None, world.viewer):
        api = with_headers(db, who, x_forwarded_for=CLIENT)
        viewer = insert(api, session, who)
        headers = {"x-forwarded-for": FORGED, "x-viewer-id": viewer["id"]}
        later = db.as_user(who.user_id, headers=headers) if who else db.as_anon(headers=headers)
        for patch in ({"ip_address": FORGED}, {"ip_address": None}, {"is_still_watching": False}, {"is_still_watching": True}):
            (changed,) = later.update("live_stream_viewers", patch, where={"id": viewer["id"]})
            assert changed["ip_address"] == CLIENT, patch
        later.rpc("live_stream_leave", viewer_id=viewer["id"])
        assert later.rpc("live_stream_join", session_id=session["id"], viewer_id=viewer["id"])["ip_address"] == CLIENT
        # The user agent is what the client says: a proxy knows nothing better.
        (changed,) = later.update("live_stream_viewers", {"user_agent": "curl"}, where={"id": viewer["id"]})
        assert changed["user_agent"] == "curl"


def test_what_is_turned_off_is_off(db, world):
    """What was kept before stays until it is purged; nothing comes to it, and nothing of it is rewritten."""
    session = world.session()
    track(db, "full")
    viewer = insert(with_headers(db, x_forwarded_for=CLIENT), session)
    track(db, "anonymized")
    world.service.update("live_stream_viewers", {"country": "PT"}, where={"id": viewer["id"]})
    assert address(db, viewer) == CLIENT
    track(db, "off")
    world.service.update("live_stream_viewers", {"city": "Lisboa"}, where={"id": viewer["id"]})
    assert address(db, viewer) == CLIENT
    world.service.update("live_stream_viewers", {"ip_address": FORGED}, where={"id": viewer["id"]})
    assert address(db, viewer) is None


def test_headers_that_are_no_json_have_no_address(plain_db):
    world = people(plain_db)
    session = world.session()
    track(plain_db, "full")
    for headers in ("", "nonsense", "[]", '{"x-forwarded-for": 7}', '{"x-forwarded-for": ["203.0.113.7"]}'):
        with plain_db.connect() as connection, connection.transaction():
            connection.execute("select set_config('role', 'anon', true), set_config('request.headers', %s, true)", [headers])
            (row,) = connection.execute(
                "insert into public.live_stream_viewers (session_id, viewer_type) values (%s, 'anonymous') returning ip_address",
                [session["id"]],
            ).fetchall()
        assert row["ip_address"] is None


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


# What is held on a person.

WHO = r"(^|_)user_id$|_by$|^actor_id$"


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


def test_no_column_that_says_who_somebody_is_is_forgotten(db):
    listed = {(row["table_name"], row["column_name"]) for row in db.owner("select * from live_stream.personal_data()")}
    assert columns(db, WHO) == listed
    assert len(listed) >= 8
    # Neither is a table whose rows hang on a viewer's.
    exported = set(export(db, str(uuid.uuid4()))["tables"])
    assert {table for table, _ in columns(db, "^viewer_id$|^influencer_id$") | listed} <= exported
    # The test sees a column that is new.
    db.owner("create table public.live_stream_secrets (reported_by uuid)")
    assert columns(db, WHO) - listed == {("live_stream_secrets", "reported_by")}


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


def test_export(db, world):
    session = world.session()
    asking, question, taken = everything_of(db, world, session)
    other = world.join(session, world.stranger)
    data = export(db, world.viewer.user_id)
    assert set(data) == {"user_id", "exported_at", "tables"} and data["user_id"] == world.viewer.user_id
    tables = data["tables"]
    assert [row["id"] for row in tables["live_stream_viewers"]] == [asking["id"]]
    assert tables["live_stream_viewers"][0]["city"] == "Lisboa"
    assert [row["viewer_id"] for row in tables["live_stream_heartbeats"]] == [asking["id"]]
    assert {row.get("message") for row in tables["live_stream_chat"]} == {"how much?", "wow", None}
    # Of somebody else's message, only what this person did.
    (acted,) = [row for row in tables["live_stream_chat"] if "message" not in row]
    assert acted["id"] == taken["id"] and acted["deletion_reason"] == "rude"
    assert set(acted) == {"id", "session_id", "deleted_by", "deleted_at", "deletion_reason"}
    assert [row["reaction"] for row in tables["live_stream_chat_reactions"]] == ["👍"]
    assert [row["order_reference"] for row in tables["live_stream_orders"]] == ["A-1"]
    assert [row["type"] for row in tables["live_stream_notifications"]] == ["special_offer"]
    assert [row["influencer_id"] for row in tables["live_stream_followers"]] == [world.influencer.influencer_id]
    assert tables["influencers"] == [] and tables["live_stream_sessions"] == []
    assert {row.get("reason") for row in tables["live_stream_bans"]} == {"spam", None}
    assert len(tables["live_stream_guests"]) == len(tables["live_stream_moderators"]) == 1
    assert {row["action"] for row in tables["live_stream_moderation_log"]} >= {"ban", "timeout"}
    assert [row["kind"] for row in tables["person_rates"]] == [1]
    # Nobody else is in it: neither rows nor names.
    text = json.dumps(data)
    assert world.stranger.user_id not in text and world.influencer.user_id not in text and other["id"] not in text
    assert not any(user_id in text for user_id in db.others)
    # A message that a server wrote down for the viewer's row is the viewer's.
    db.sql("insert into public.live_stream_chat (session_id, viewer_id, message) values (%s, %s, 'by bot')", [session["id"], asking["id"]])
    assert "by bot" in json.dumps(export(db, world.viewer.user_id))
    # Somebody unknown is held nowhere.
    assert not any(export(db, str(uuid.uuid4()))["tables"].values())


def test_export_of_who_streams(db, world):
    session = world.session(stream_key="sk-secret", rtmp_url="rtmp://secret")
    fill(db, world, session)
    world.schedule("Mine")
    another = world.new_influencer()
    world.session(by=another, title="Another's")
    tables = export(db, world.influencer.user_id)["tables"]
    assert [row["id"] for row in tables["live_stream_sessions"]] == [session["id"]]
    assert [row["title"] for row in tables["live_stream_schedule"]] == ["Mine"]
    assert len(tables["live_stream_products"]) == 1
    (credentials,) = tables["live_stream_credentials"]
    assert credentials["stream_key"] == credentials["rtmp_url"] == "held, not shown"
    (influencer,) = tables["influencers"]
    assert (influencer["id"], influencer["display_name"]) == (world.influencer.influencer_id, "Ada")
    text = json.dumps(tables)
    assert "sk-secret" not in text and "rtmp://secret" not in text
    # An app's own columns are the app's to export.
    assert "private" not in text
    # Whoever watches or follows is somebody else.
    assert world.viewer.user_id not in text and another.influencer_id not in text


def test_an_export_changes_nothing_and_may_be_read_only(db, world):
    session = world.session()
    everything_of(db, world, session)
    before = row_of(db, session)
    with db.connect(OWNER) as connection, connection.transaction():
        connection.execute("set transaction read only")
        connection.execute("select live_stream.export_user(%s)", [world.viewer.user_id])
    assert row_of(db, session) == before


# Erasing a person.


def traces(db, user_id):
    """Tables in which the id stands, in whatever column."""
    tables = db.sql("select oid::regclass::text as name from pg_class where relkind in ('r', 'p') and relnamespace in"
                    " (select oid from pg_namespace where nspname in ('public', 'live_stream'))")  # fmt: skip
    return [table["name"] for table in tables
            if db.value(f"select exists (select from {table['name']} t where to_jsonb(t)::text like %s)", [f"%{user_id}%"])]  # fmt: skip


def test_parts_in_moderation(db, world):
    """A moderator, and somebody who was banned and invited: exported, each its own, and erased, from the log too."""
    session = world.session(visibility="private")
    host, moderator, person = world.influencer.api, world.viewer, world.stranger
    host.rpc("live_stream_add_moderator", user_id=moderator.user_id)
    moderator.api.rpc("live_stream_ban", user_id=person.user_id, session_id=session["id"], reason="rude")
    host.rpc("live_stream_unban", user_id=person.user_id)
    moderator.api.rpc("live_stream_ban", user_id=person.user_id, session_id=session["id"], reason="again")
    guest = world.new_user()
    host.rpc("live_stream_invite", session_id=session["id"], user_id=guest.user_id)
    acts = db.value("select count(*) from public.live_stream_moderation_log")
    assert acts >= 5
    tables = export(db, person.user_id)["tables"]
    assert [row["reason"] for row in tables["live_stream_bans"]] == ["again"]
    assert {row["action"] for row in tables["live_stream_moderation_log"]} == {"ban", "unban"}
    tables = export(db, moderator.user_id)["tables"]
    assert len(tables["live_stream_moderators"]) == 1 and "reason" not in tables["live_stream_bans"][0]
    assert person.user_id not in json.dumps(tables)
    assert len(export(db, guest.user_id)["tables"]["live_stream_guests"]) == 1
    for who in (moderator, person, guest):
        assert erase(db, who.user_id)["removed"] != {}
        assert traces(db, who.user_id) == []
        assert erase(db, who.user_id)["removed"] == {}
    assert db.value("select count(*) from public.live_stream_moderation_log") >= acts
    assert differences(db) == []


@pytest.mark.parametrize("state", ["ended", "live"])
def test_erasing_a_person_keeps_every_number(db, world, state):
    session = world.session()
    asking, question, taken = everything_of(db, world, session)
    world.join(session, world.viewer, country="PT")
    reply = world.say(session, world.stranger, "me too", parent_message_id=question["id"])
    if state == "ended":
        world.end(session)
    else:
        for viewer in db.sql("select id from public.live_stream_viewers where user_id = %s", [world.viewer.user_id]):
            world.leave({"id": str(viewer["id"])}, world.viewer)
    before = row_of(db, session)
    user = world.viewer.user_id
    assert "public.live_stream_viewers" in [name if "." in name else f"public.{name}" for name in traces(db, user)]
    done = erase(db, user)
    assert done["user_id"] == user
    assert done["removed"] == {
        "live_stream_viewers": 2, "live_stream_chat": 2, "live_stream_chat_reactions": 1,
        # When it ended, followers were told.
        "live_stream_notifications": 1 + (state == "ended"), "live_stream_followers": 1,
        "live_stream_bans": 1, "live_stream_guests": 1, "live_stream_moderators": 1, "person_rates": 1,
    }  # fmt: skip
    # The log keeps its rows, those of this erasure as well.
    assert done["anonymised"].pop("live_stream_moderation_log") >= 4
    assert done["anonymised"] == {"live_stream_orders": 1, "live_stream_chat": 1, "live_stream_bans": 1}
    assert traces(db, user) == []
    assert row_of(db, session) == before
    assert db.sql("select * from live_stream.verify_metrics()") == [] and differences(db) == []
    (order,) = db.sql("select amount, user_id, viewer_id, order_reference from public.live_stream_orders")
    assert (float(order["amount"]), order["user_id"], order["viewer_id"]) == (19.99, None, None)
    (row,) = db.sql("select is_deleted, deleted_by from public.live_stream_chat where id = %s", [taken["id"]])
    assert (row["is_deleted"], row["deleted_by"]) == (True, None)
    (row,) = db.sql("select parent_message_id, message from public.live_stream_chat where id = %s", [reply["id"]])
    assert (row["parent_message_id"], row["message"]) == (None, "me too")
    kept = archive_of(db, session)
    assert (kept["viewers"], kept["total_unique_viewers"], kept["total_messages"], kept["countries"]) == (2, 1, 1, {"other": 2})
    # A second time, and somebody unknown: nothing.
    for who in (user, str(uuid.uuid4())):
        again = erase(db, who)
        assert (again["removed"], again["anonymised"]) == ({}, {})
    assert row_of(db, session) == before
    # The account may go after that.
    if db.is_supabase:
        db.sql("delete from auth.users where id = %s", [user])
        assert row_of(db, session) == before
    # What is left is purged as ever.
    if state == "ended":
        purge(db, chat="0", viewers="0")
        assert row_of(db, session) == before
    assert differences(db) == []


def test_who_is_erased_while_watching_leaves(db, world):
    session = world.session(max_viewers=2)
    asking = world.join(session, world.viewer)
    second = world.join(session)
    with refused("PT409", "is full"):
        world.join(session)
    db.sql("update public.live_stream_viewers set joined_at = joined_at - interval '90 s'")
    erase(db, world.viewer.user_id)
    row = row_of(db, session)
    assert (row["current_viewers"], row["peak_viewers"], row["total_unique_viewers"]) == (1, 2, 2)
    assert 90 <= row["total_watch_time_seconds"] <= 92
    assert differences(db) == []
    # The place is free, the peak is never less, and more than that is a new peak.
    world.join(session)
    world.leave(second)
    assert row_of(db, session)["peak_viewers"] == 2 and differences(db) == []
    world.set_session(session, max_viewers=9)
    for _ in range(3):
        world.join(session)
    assert row_of(db, session)["peak_viewers"] == 4 and differences(db) == []
    # With the rows of the others gone by the server's hand, what was is not forgotten.
    db.sql("delete from public.live_stream_viewers")
    assert row_of(db, session)["peak_viewers"] == 2 and differences(db) == []
    # Who comes back is somebody new.
    world.join(session, world.viewer)
    assert row_of(db, session)["total_unique_viewers"] == 2 and differences(db) == []


def test_erasing_while_others_come_and_go(db, world):
    session = world.session(max_viewers=None)
    doomed = [world.new_user() for _ in range(6)]
    for who in doomed:
        viewer = world.join(session, who)
        world.say(session, who, "hello", viewer)
    stop = threading.Event()
    joined, failed = [], []

    def crowd(n):
        users = [world.new_user() for _ in range(5)]
        with db.connect() as connection:
            k = 0
            while not stop.is_set():
                k += 1
                who = users[k % 5].user_id
                try:
                    with connection.transaction():
                        connection.execute(
                            "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)",
                            [json.dumps({"sub": who})],
                        )
                        connection.execute("insert into public.live_stream_viewers (session_id, user_id) values (%s, %s)",
                                           [session["id"], who])  # fmt: skip
                        if k % 3 == 0:
                            connection.execute("update public.live_stream_viewers set is_still_watching = false")
                        if k % 4 == 0:
                            connection.execute("insert into public.live_stream_chat (session_id, user_id, message) values (%s, %s, 'x')",
                                               [session["id"], who])  # fmt: skip
                    joined.append(who)
                except psycopg.Error as error:
                    failed.append(f"{error.sqlstate} {error}")

    with ThreadPoolExecutor(4) as threads:
        crowds = [threads.submit(crowd, n) for n in range(4)]
        try:
            for who in doomed:
                done = erase(db, who.user_id)
                assert done["removed"]["live_stream_viewers"] == 1 and done["removed"]["live_stream_chat"] == 1
        finally:
            stop.set()
        for thread in crowds:
            thread.result()
    assert failed == [] and len(joined) > 20
    assert differences(db) == []
    row = row_of(db, session)
    assert row["total_unique_viewers"] == len(doomed) + len(set(joined))
    assert row["total_messages"] >= len(doomed)
    assert all(traces(db, who.user_id) == [] for who in doomed)
    world.end(session)
    assert differences(db) == []


@pytest.mark.parametrize("bulk", [False, True], ids=["clients", "clients and a server"])
def test_a_crowd_of_whom_some_are_erased(db, bulk):
    """Whatever else happens: exact at every moment, and when they are all purged in the end. Requests of viewers and
    hosts, and erasures, do not wait for each other in a circle; bulk statements of a server may."""
    conflicts = CONFLICTS if bulk else set()
    crowd = Crowd(db, EXPECTED | conflicts)
    erased, stop = [], threading.Event()

    def erasing(n):
        with db.connect(options="-c deadlock_timeout=20ms") as connection:
            for k in itertools.count():
                if stop.wait(0.1):
                    return
                who = crowd.users[(5 * k + n) % 12].user_id
                try:
                    done = connection.execute("select live_stream.erase_user(%s) as done", [who]).fetchone()["done"]
                    erased.append(sum(done["removed"].values()))
                except psycopg.Error as error:
                    assert error.sqlstate in conflicts, error

    with ThreadPoolExecutor(7) as threads:
        tasks = [threads.submit(crowd.clients, SEED + n, 300) for n in range(4)]
        tasks += [threads.submit(crowd.server, SEED + 200, 60)] if bulk else []
        erasers = [threads.submit(erasing, n) for n in range(2)]
        try:
            while not all(task.done() for task in tasks):
                assert unaccounted(db) == []
        finally:
            stop.set()
        for task in tasks + erasers:
            task.result()
    assert crowd.unexpected == [] and crowd.done > 500 and len(erased) > 5 and sum(erased) > 20
    assert differences(db) == []
    for host, session in zip(crowd.hosts, crowd.sessions):
        crowd.world.end(session, host)
    before = [row_of(db, session) for session in crowd.sessions]
    assert differences(db) == []
    for who in crowd.users[:6]:
        erase(db, who.user_id)
        assert [row_of(db, session) for session in crowd.sessions] == before and differences(db) == []
    purge(db, chat="0")
    purge(db, viewers="0")
    assert [row_of(db, session) for session in crowd.sessions] == before and differences(db) == []


def test_erasing_waits_for_who_is_joining(db, world):
    """A join that is not committed yet is not overtaken: the person who is joining is erased with it."""
    session = world.session()
    world.join(session, world.viewer)
    with db.connect() as joining, db.connect(OWNER) as erasing, ThreadPoolExecutor(1) as thread:
        with joining.transaction():
            joining.execute("insert into public.live_stream_viewers (session_id, user_id) values (%s, %s)",
                            [session["id"], world.viewer.user_id])  # fmt: skip
            waiting = thread.submit(erasing.execute, "select live_stream.erase_user(%s) as done", [world.viewer.user_id])
            blocked = "select exists (select from pg_locks where pid = %s and not granted)"
            while not db.value(blocked, [erasing.info.backend_pid]):
                assert not waiting.done()
        assert waiting.result().fetchone()["done"]["removed"]["live_stream_viewers"] == 2
    row = row_of(db, session)
    assert (row["current_viewers"], row["peak_viewers"], row["total_unique_viewers"]) == (0, 2, 1)
    assert differences(db) == []


def test_an_erasure_is_rolled_back(db, world):
    session = world.session()
    everything_of(db, world, session)
    before = row_of(db, session), export(db, world.viewer.user_id)["tables"]
    with db.connect(OWNER) as connection, connection.transaction(force_rollback=True):
        connection.execute("select live_stream.erase_user(%s)", [world.viewer.user_id])
    assert (row_of(db, session), export(db, world.viewer.user_id)["tables"]) == before
    assert archive_of(db, session) is None and differences(db) == []
    world.join(session)
    assert differences(db) == []


def test_two_people_erased_at_once(db, world):
    """In the same sessions, from two connections."""
    db.without_limits()
    sessions = [world.session(by=world.new_influencer()) for _ in range(4)]
    users = [world.new_user() for _ in range(4)]
    for session in sessions:
        for who in users:
            viewer = world.join(session, who)
            message = world.say(session, who, "hello", viewer)
            users[0].api.rpc("live_stream_react", message_id=message["id"], reaction="❤")

    def run(who):
        with db.connect(OWNER) as connection:
            return connection.execute("select live_stream.erase_user(%s) as done", [who.user_id]).fetchone()["done"]

    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(run, users))
    assert all(each["removed"]["live_stream_viewers"] == 4 for each in done)
    for session in sessions:
        row = row_of(db, session)
        assert (row["current_viewers"], row["total_unique_viewers"], row["total_messages"], row["total_reactions"]) == (0, 4, 4, 4)
    assert differences(db) == []


def test_reactions_that_were_the_persons(db, world):
    """The tallies of messages lose them; the session's number does not."""
    session = world.session()
    viewer, other = world.join(session, world.viewer), world.join(session, world.stranger)
    message = world.say(session, world.stranger, "nice", other)
    mine = world.say(session, world.viewer, "thanks", viewer)
    for who in (world.viewer, world.stranger):
        who.api.rpc("live_stream_react", message_id=message["id"], reaction="👍")
        who.api.rpc("live_stream_react", message_id=mine["id"], reaction="❤")
    before = row_of(db, session)
    assert before["total_reactions"] == 4
    erase(db, world.viewer.user_id)
    (row,) = db.sql("select reactions from public.live_stream_chat where id = %s", [message["id"]])
    assert row["reactions"] == {"👍": 1}
    # What the other gave to a message that is gone, it gave no longer; the session still counts it.
    (row,) = db.sql("select reactions_sent from public.live_stream_viewers where id = %s", [other["id"]])
    assert row["reactions_sent"] == 1
    assert row_of(db, session)["total_reactions"] == 4 and differences(db) == []


def test_who_streams_is_not_erased_by_accident(db, world):
    session = world.session()
    fill(db, world, session)
    influencer = world.influencer
    before = row_of(db, session)

    def refuse(words, hint, **options):
        with pytest.raises(psycopg.Error, match=words) as error:
            erase(db, influencer.user_id, **options)
        assert error.value.sqlstate == "PT409" and hint in error.value.diag.message_hint
        assert row_of(db, session) == before

    if db.is_supabase:
        # The table is the app's.
        for options in ({}, {"erase_influencer": "true"}):
            refuse("is the influencer", "Delete the influencer there first", **options)
        db.owner("delete from public.live_stream_orders")
        db.owner("delete from public.influencers where user_id = %s", [influencer.user_id])
        assert set(erase(db, influencer.user_id)["removed"]) <= {"person_rates"}
        return
    refuse("is the influencer", "erase_influencer => true")
    refuse("is on air", "End the session", erase_influencer="true")
    world.end(session)
    before = row_of(db, session)
    refuse("1 orders were placed", "delete the orders", erase_influencer="true")
    db.owner("delete from public.live_stream_orders")
    world.schedule("Mine")
    keep = world.session(by=world.new_influencer())
    world.join(keep, influencer)
    kept = row_of(db, keep)
    done = erase(db, influencer.user_id, erase_influencer="true")
    assert done["removed"]["influencers"] == done["removed"]["live_stream_sessions"] == done["removed"]["live_stream_schedule"] == 1
    assert traces(db, influencer.user_id) == [] and traces(db, influencer.influencer_id) == []
    after = row_of(db, keep)
    assert (after["total_unique_viewers"], after["peak_viewers"], kept["current_viewers"], after["current_viewers"]) == (1, 1, 1, 0)
    assert differences(db) == []


def test_a_person_in_a_thousand_sessions(plain_db):
    """More than the server has room for locks of other kinds."""
    db, world = plain_db, people(plain_db)
    user = world.viewer.user_id
    db.sql(
        """insert into public.live_stream_sessions (influencer_id, title, status, actual_start_time, actual_end_time)
           select %s, 'past ' || g, 'ended', now() - interval '2 days', now() - interval '1 day' from generate_series(1, 1000) g""",
        [world.influencer.influencer_id],
    )
    db.sql(
        """insert into public.live_stream_viewers (session_id, user_id, joined_at, left_at)
           select id, %s, now() - interval '2 days', now() - interval '47 hours' from public.live_stream_sessions""",
        [user],
    )
    rest(db)
    numbers = "select jsonb_agg(to_jsonb(s) order by id) from public.live_stream_sessions s"
    before = db.value(numbers)
    assert erase(db, user)["removed"] == {"live_stream_viewers": 1000}
    assert db.value(numbers) == before and differences(db) == []
    assert purge(db, viewers="0") == {"viewers": 0}


def test_an_apps_own_trigger_is_counted_as_ever(db, world):
    session = world.session()
    fill(db, world, session)
    world.end(session)
    before = row_of(db, session)
    db.owner(
        """create function public.app_trigger() returns trigger language plpgsql security definer as $$
           begin
             insert into public.live_stream_chat (session_id, message) values (old.session_id, 'a viewer was deleted');
             return null;
           end $$;
           create trigger app_trigger after delete on public.live_stream_viewers for each row
           when (old.user_id is null) execute function public.app_trigger();"""
    )
    purge(db, viewers="0")
    after = row_of(db, session)
    assert after["total_messages"] == before["total_messages"] + 10
    assert after["total_unique_viewers"] == before["total_unique_viewers"] and differences(db) == []


def test_what_only_reads_takes_no_transaction_id(db, world):
    world.join(world.session(), world.viewer)
    for query in ("select * from live_stream.personal_data()", "select live_stream.export_user(%(user)s)"):
        for mode in ("read write", "read only"):
            with db.connect(OWNER) as connection, connection.transaction():
                connection.execute(f"set transaction {mode}")
                assert connection.execute(query, {"user": world.viewer.user_id}).fetchall()
                (row,) = connection.execute("select pg_current_xact_id_if_assigned()::text as id").fetchall()
                assert row["id"] is None, query


APP_WRITES = {
    "comes": """insert into public.live_stream_viewers (session_id) values ('{session}');
                insert into public.live_stream_chat (session_id, message) values ('{session}', 'by the app');""",
    "goes": """delete from public.live_stream_viewers
                where id = (select id from public.live_stream_viewers where user_id is null order by id limit 1);
               delete from public.live_stream_chat
                where id = (select id from public.live_stream_chat where message = 'nobody''s' order by id limit 1);""",
}


@pytest.mark.parametrize("writes", APP_WRITES)
@pytest.mark.parametrize("table", ["live_stream_viewers", "live_stream_chat", "live_stream_chat_reactions"])
def test_what_an_apps_trigger_writes_while_a_person_is_erased_is_counted(plain_db, table, writes):
    """It is no part of what goes into the archive."""
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    everything_of(db, world, session)
    for _ in range(9):
        world.join(session)
        world.service.insert("live_stream_chat", {"session_id": session["id"], "message": "nobody's"})
    db.owner(
        f"""create function public.app() returns trigger language plpgsql as $$
            begin
              if pg_trigger_depth() < 4 then {APP_WRITES[writes].format(session=session["id"])} end if;
              return null;
            end $$"""
    )
    for event in ("update", "delete"):
        db.owner(f"create trigger app_{event} after {event} on public.{table} for each statement execute function public.app()")
    erase(db, world.viewer.user_id)
    for event in ("update", "delete"):
        db.owner(f"drop trigger app_{event} on public.{table}")
    assert db.sql("select * from live_stream.verify_metrics()") == [] and differences(db) == []
