"""Addresses of viewers, and what is held on a person."""

from __future__ import annotations

import json
import uuid

import psycopg
import pytest

from database import OWNER
from holding import CLIENT, FORGED, columns, everything_of, export, fill, insert, row_of, track, with_headers
from people import people
from sizes import own_db

pytestmark = own_db("erases and purges whatever is there")


def address(db, viewer):
    return db.value("select to_jsonb(ip_address) from public.live_stream_viewers where id = %s", [viewer["id"]])


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


# What is held on a person.

WHO = r"(^|_)user_id$|_by$|^actor_id$"


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
    assert {row["message"] for row in tables["live_stream_chat"]} == {"how much?", "wow"}
    # Of somebody else's message, only what this person did.
    (acted,) = tables["live_stream_removed_messages"]
    assert acted["message_id"] == taken["id"] and acted["deletion_reason"] == "rude"
    assert set(acted) == {"message_id", "session_id", "deleted_by", "deletion_reason"}
    # Of its own, only what it said.
    assert export(db, world.stranger.user_id)["tables"]["live_stream_removed_messages"] == [
        {"message_id": taken["id"], "session_id": session["id"], "message": "rude"}
    ]
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


def test_an_export_tells_an_author_nothing_of_its_moderators(db, world):
    """Neither why a message was taken away, nor who it was, nor that somebody flagged it. Of bans it tells why."""
    session = world.session()
    moderator, author = world.new_user(), world.new_user()
    world.influencer.api.rpc("live_stream_add_moderator", user_id=moderator.user_id)
    messages = [world.say(session, author, f"message {nth}") for nth in range(4)]
    for api, message in zip((moderator.api, world.influencer.api, world.service, moderator.api), messages):
        api.rpc("live_stream_flag_message", message_id=message["id"])
        api.rpc("live_stream_delete_message", message_id=message["id"], reason="secret reason")
    moderator.api.update("live_stream_chat", {"is_deleted": False, "deletion_reason": "secret reason"}, where={"id": messages[0]["id"]})
    moderator.api.rpc("live_stream_clear_flag", message_id=messages[0]["id"])
    moderator.api.rpc("live_stream_ban", user_id=author.user_id, session_id=session["id"], reason="told at the door")
    moderator.api.rpc("live_stream_unban", user_id=author.user_id, session_id=session["id"])
    tables = export(db, author.user_id)["tables"]
    text = json.dumps(tables)
    assert "secret" not in text and "flag" not in json.dumps(tables["live_stream_moderation_log"])
    assert moderator.user_id not in text and world.influencer.user_id not in text
    of_messages = [row for row in tables["live_stream_moderation_log"] if row["message_id"]]
    assert {row["action"] for row in of_messages} == {"delete_message", "restore_message"}
    assert len(of_messages) == 5 and not any("reason" in row for row in of_messages)
    assert "told at the door" in [row.get("reason") for row in tables["live_stream_moderation_log"]]
    assert {row["message"] for row in tables["live_stream_removed_messages"]} == {"message 1", "message 2", "message 3"}
    # What the moderator did is in its own export.
    assert "secret reason" in json.dumps(export(db, moderator.user_id)["tables"]["live_stream_removed_messages"])


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
