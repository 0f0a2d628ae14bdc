"""What a message says that was taken away: the host and its moderators read it, and everybody else a stub."""

from __future__ import annotations

import json
import time
import uuid

import psycopg
import pytest

from chatting import removed, send, stored
from holding import export, purge
from moderating import ban, log
from people import people
from recount import differences
from refusals import refused
from sizes import both_shapes, own_db, scale
from steps import Steps, all_end_well, sqlstate

TEXT = "secret-text-77"
REASON = "secret-reason-77"


@pytest.fixture
def moderator(world):
    person = world.new_user()
    world.influencer.api.rpc("live_stream_add_moderator", user_id=person.user_id)
    return person


def removals(world, moderator):
    """Ways to take a message away, as (who, the way, whether a reason is given)."""
    by_rpc = lambda who, reason=REASON: lambda message: who.rpc("live_stream_delete_message", message_id=message["id"], reason=reason)
    patch = {"is_deleted": True, "deletion_reason": REASON}
    by_update = lambda who: lambda message: who.update("live_stream_chat", patch, where={"id": message["id"]}, one=True)
    many = lambda who: lambda message: who.update("live_stream_chat", patch, where={"id": [message["id"]]}, select=None)
    servers = patch | {"deleted_by": moderator.user_id}
    return {
        "the host": (world.influencer.user_id, by_rpc(world.influencer.api)),
        "the host, directly": (world.influencer.user_id, by_update(world.influencer.api)),
        "the host, several": (world.influencer.user_id, many(world.influencer.api)),
        "a moderator": (moderator.user_id, by_rpc(moderator.api)),
        "a moderator, directly": (moderator.user_id, by_update(moderator.api)),
        "the author": (world.viewer.user_id, by_rpc(world.viewer.api)),
        "the author, directly": (world.viewer.user_id, by_update(world.viewer.api)),
        "the server": (None, by_rpc(world.service)),
        "the server, for a moderator": (
            moderator.user_id, lambda message: world.service.update("live_stream_chat", servers, where={"id": message["id"]})),
        "the owner": (
            None, lambda message: world.db.owner("update public.live_stream_chat set is_deleted = true, deletion_reason = %s where id = %s",
                                                 [REASON, message["id"]])),
        "the server saves it again": (
            None, lambda message: world.db.owner(
                "insert into public.live_stream_chat (id, session_id, message, is_deleted, deletion_reason) values (%s, %s, %s, true, %s)"
                " on conflict (id) do update set is_deleted = excluded.is_deleted, message = excluded.message,"
                " deletion_reason = excluded.deletion_reason",
                [message["id"], message["session_id"], TEXT, REASON])),
        "the server brings it along": (None, None),
    }  # fmt: skip


WAYS = ["the host", "the host, directly", "the host, several", "a moderator", "a moderator, directly", "the author",
        "the author, directly", "the server", "the server, for a moderator", "the owner", "the server saves it again",
        "the server brings it along"]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_who_reads_what_was_taken_away(world, moderator, way):
    session = world.session()
    banned, guest, rival = world.new_user(), world.new_user(), world.new_influencer()
    for person in (world.viewer, guest, banned):
        world.join(session, person)
    ban(world.influencer, banned)
    by, take_away = removals(world, moderator)[way]
    if take_away is None:
        message = world.service.insert("live_stream_chat", {
            "session_id": session["id"], "user_id": world.viewer.user_id, "message": TEXT, "is_deleted": True, "deletion_reason": REASON,
        })  # fmt: skip
        assert (message["is_deleted"], message["message"], message["deletion_reason"]) == (True, "", None)
    else:
        message = world.say(session, world.viewer, TEXT)
        take_away(message)
    where = {"session_id": session["id"]}
    for reader in (world.viewer.api, world.stranger.api, guest.api, banned.api, rival.api, world.anon, moderator.api, world.influencer.api, world.service):
        (row,) = reader.select("live_stream_chat", where=where)
        assert (row["message"], row["deletion_reason"], row["deleted_by"], row["is_deleted"]) == ("", None, None, True)
        assert TEXT not in json.dumps(row) and REASON not in json.dumps(row)
        assert reader.select("live_stream_chat", where=where | {"is_deleted": False}) == []
    for reader in (world.viewer.api, world.stranger.api, guest.api, banned.api, rival.api):
        if reader is world.viewer.api and by == world.viewer.user_id:
            # Its own text, its own reason.
            assert reader.select("live_stream_removed_messages", "message", one=True) == {"message": TEXT}
            continue
        assert reader.select("live_stream_removed_messages") == []
        embedded = reader.select("live_stream_chat", "*, removed:live_stream_removed_messages(*)", where=where, one=True)
        assert not embedded["removed"]
    with refused("42501"):
        world.anon.select("live_stream_removed_messages")
    said = {"message_id": message["id"], "session_id": session["id"], "message": TEXT, "deletion_reason": REASON, "deleted_by": by}
    for reader in (world.influencer.api, moderator.api, world.service):
        assert reader.select("live_stream_removed_messages", where=where) == [said]
        found = reader.select("live_stream_removed_messages", "*, sent:live_stream_chat(*)", where={"message_id": message["id"]}, one=True)
        assert found["sent"]["username"] == message["username"] and found["message"] == TEXT
    if by != world.viewer.user_id and take_away is not None:
        (act,) = [act for act in log(world, "action", "message_id", "reason", "actor_id") if act[0] == "delete_message"]
        assert act == ("delete_message", message["id"], REASON, by)
    assert differences(world.db) == []


def test_what_the_function_answers_to_whom(world, moderator):
    session = world.session()
    for who in (world.influencer, moderator, world.viewer):
        message = world.say(session, world.viewer, TEXT)
        row = who.api.rpc("live_stream_delete_message", message_id=message["id"], reason=REASON)
        assert row["is_deleted"] and row["deleted_at"] and row["id"] == message["id"]
        said = (row["message"], row["deletion_reason"], row["deleted_by"])
        assert said == (TEXT, REASON, who.user_id)
        # An author who asks once more hears of its own act alone.
        again = world.viewer.api.rpc("live_stream_delete_message", message_id=message["id"])
        assert (again["message"], again["deletion_reason"], again["deleted_by"]) == (said if who is world.viewer else ("", None, None))
        for answer in (lambda: world.viewer.api.update("live_stream_chat", {"is_deleted": False}, where={"id": message["id"]}, one=True),
                       lambda: world.viewer.api.rpc("live_stream_flag_message", message_id=message["id"])):  # fmt: skip
            answered = answer()
            assert TEXT not in json.dumps(answered) and REASON not in json.dumps(answered)
        with refused("42501") as refusal:
            world.viewer.api.rpc("live_stream_edit_message", message_id=message["id"], message="x")
        assert TEXT not in str(refusal)
        assert removed(world, message) == (TEXT, REASON, who.user_id)


def test_a_reply_to_it_embeds_a_stub(world):
    session = world.session()
    question = world.say(session, world.viewer, TEXT)
    answer = send(world.stranger, session, "yes", parent_message_id=question["id"])
    world.influencer.api.rpc("live_stream_delete_message", message_id=question["id"], reason=REASON)
    rows = world.stranger.api.select("live_stream_chat", where={"id": [question["id"], answer["id"]]})
    assert TEXT not in json.dumps(rows) and {row["message"] for row in rows} == {"", "yes"}
    assert stored(world, question)["replies_count"] == 1
    assert differences(world.db) == []


# Putting it back.


@pytest.mark.parametrize("patch", ["is_deleted", "the stub", "the text"])
def test_the_text_comes_back(world, moderator, patch):
    session = world.session()
    message = world.say(session, world.viewer, TEXT)
    world.viewer.api.rpc("live_stream_edit_message", message_id=message["id"], message=TEXT + "!")
    before = stored(world, message)
    moderator.api.rpc("live_stream_delete_message", message_id=message["id"], reason=REASON)
    where = {"id": message["id"]}
    sent = {
        "is_deleted": {"is_deleted": False},
        "the stub": world.influencer.api.select("live_stream_chat", where=where, one=True) | {"is_deleted": False},
        "the text": {"is_deleted": False, "message": TEXT + "!"},
    }[patch]
    row = world.influencer.api.update("live_stream_chat", sent, where=where, one=True)
    assert row["message"] == TEXT + "!" and not row["is_deleted"]
    assert stored(world, message) == before and removed(world, message) is None
    assert world.stranger.api.select("live_stream_chat", where=where, one=True)["message"] == TEXT + "!"
    assert [act for act, in log(world, "action")][-1] == "restore_message"
    # And again.
    moderator.api.rpc("live_stream_delete_message", message_id=message["id"], reason="another")
    assert removed(world, message) == (TEXT + "!", "another", moderator.user_id)


def test_what_authors_take_away_themselves_is_no_moderation(world):
    session = world.session()
    messages = [world.say(session, world.viewer) for _ in range(2)]
    world.viewer.api.rpc("live_stream_delete_message", message_id=messages[0]["id"])
    world.viewer.api.update("live_stream_chat", {"is_deleted": True}, where={"id": messages[1]["id"]})
    assert [removed(world, message)[2] for message in messages] == [world.viewer.user_id] * 2 and log(world, "action") == []


def test_what_may_not_come_back_stays_as_it_is(world, moderator):
    session = world.session()
    own, foreign = world.say(session, world.viewer, "mine"), world.say(session, world.viewer, TEXT)
    world.viewer.api.rpc("live_stream_delete_message", message_id=own["id"], reason="a slip")
    moderator.api.rpc("live_stream_delete_message", message_id=foreign["id"], reason=REASON)
    for who, message in ((world.influencer, own), (moderator, own), (world.viewer, own), (world.viewer, foreign)):
        before = removed(world, message)
        row = who.api.update("live_stream_chat", {"is_deleted": False, "deletion_reason": "no"}, where={"id": message["id"]}, one=True)
        assert row["is_deleted"] and row["message"] == "" and row["deletion_reason"] is None
        assert removed(world, message) == before
    for who in (world.influencer, moderator):
        with refused("42501", "only its author edits", hint=True):
            who.api.update("live_stream_chat", {"message": "I agree", "is_deleted": False}, where={"id": foreign["id"]})
    # The host says why, later.
    world.influencer.api.update("live_stream_chat", {"deletion_reason": "better"}, where={"id": foreign["id"]}, one=True)
    assert removed(world, foreign) == (TEXT, "better", moderator.user_id)
    assert stored(world, foreign)["deletion_reason"] is None


def test_a_stub_that_is_sent_after_the_text_came_back(world, moderator):
    """Whoever read it while the message was away takes the message away again, and not its text."""
    message = world.say(world.session(), world.viewer, TEXT)
    where, api = {"id": message["id"]}, world.influencer.api
    for send in (lambda stub: api.update("live_stream_chat", stub, where=where, one=True), lambda stub: api.upsert("live_stream_chat", stub)):
        moderator.api.rpc("live_stream_delete_message", message_id=message["id"], reason=REASON)
        stub = api.select("live_stream_chat", where=where, one=True)
        api.update("live_stream_chat", {"is_deleted": False}, where=where)
        send(stub)
        assert stored(world, message)["message"] == "" and removed(world, message)[0] == TEXT
        row = api.update("live_stream_chat", {"is_deleted": False}, where=where, one=True)
        assert row["message"] == TEXT and removed(world, message) is None


def test_an_upsert_tells_nobody_what_was_taken_away(world):
    """Neither the author nor a stranger finds the text in `excluded` where a stub is sent, which the host puts the text back with."""
    message = world.say(world.session(), world.viewer, TEXT)
    world.influencer.api.rpc("live_stream_delete_message", message_id=message["id"])
    asks = """insert into public.live_stream_chat (id, session_id, message, is_deleted) values (%s, %s, '', false)
              on conflict (id) do update set message = excluded.message, is_deleted = excluded.is_deleted
              where excluded.message = %s returning message"""
    sent = [message["id"], message["session_id"], TEXT]
    with Steps(world.db) as steps:
        author, host, stranger = (steps.client(who) for who in (world.viewer, world.influencer, world.stranger))
        assert author.run(asks, sent) == []
        author.rollback()
        assert host.run(asks, sent) == [{"message": TEXT}]
        host.rollback()
        for guess in (TEXT, "wrong"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                stranger.run(asks, [*sent[:2], guess])
            stranger.rollback()


def test_the_server_changes_what_is_away(world):
    session, other = world.session(), world.session(by=world.new_influencer())
    message = world.say(session, world.viewer, TEXT)
    world.influencer.api.rpc("live_stream_delete_message", message_id=message["id"], reason=REASON)
    where = {"id": message["id"]}
    world.service.update("live_stream_chat", {"message": "corrected"}, where=where, one=True)
    assert stored(world, message)["message"] == "" and removed(world, message)[0] == "corrected"
    world.service.update("live_stream_chat", {"session_id": other["id"]}, where=where, one=True)
    assert world.influencer.api.select("live_stream_removed_messages") == []
    row = world.service.update("live_stream_chat", {"is_deleted": False, "message": "new"}, where=where, one=True)
    assert row["message"] == "new" and removed(world, message) is None
    # As it is read, it is saved again.
    world.service.rpc("live_stream_delete_message", message_id=message["id"])
    stub = world.service.select("live_stream_chat", where=where, one=True)
    world.service.update("live_stream_chat", stub, where=where, one=True)
    world.db.owner("insert into public.live_stream_chat select (jsonb_populate_record(m, '{}')).* from public.live_stream_chat m where id = %s"
                   " on conflict (id) do update set message = excluded.message, is_deleted = excluded.is_deleted", [message["id"]])  # fmt: skip
    assert removed(world, message) == ("new", None, None)


def test_a_text_that_is_gone_does_not_come_back_empty(world):
    session = world.session()
    message = world.say(session, world.viewer, TEXT)
    world.influencer.api.rpc("live_stream_delete_message", message_id=message["id"])
    world.db.owner("delete from public.live_stream_removed_messages where message_id = %s", [message["id"]])
    with refused("23514", "is gone", hint=True):
        world.influencer.api.update("live_stream_chat", {"is_deleted": False}, where={"id": message["id"]})
    row = world.service.update("live_stream_chat", {"is_deleted": False, "message": "again"}, where={"id": message["id"]}, one=True)
    assert row["message"] == "again"


# What subscribers get.


@own_db("makes publications")
def test_realtime_tells_of_a_stub(supabase_db):
    world = people(supabase_db)
    slot = f"slot_{supabase_db.name}"
    supabase_db.sql("select pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])

    def told():
        rows = supabase_db.sql(
            "select data from pg_logical_slot_get_binary_changes"
            "(%s, null, null, 'proto_version', '1', 'publication_names', 'supabase_realtime')", [slot])  # fmt: skip
        return b"".join(row["data"] for row in rows)

    try:
        session = world.session()
        messages = [world.say(session, world.viewer, TEXT) for _ in range(3)]
        assert told().count(TEXT.encode()) == 3
        world.influencer.api.rpc("live_stream_delete_message", message_id=messages[0]["id"], reason=REASON)
        patch = {"is_deleted": True, "deletion_reason": REASON}
        world.influencer.api.update("live_stream_chat", patch, where={"session_id": session["id"]})
        body = {"session_id": session["id"], "message": TEXT, "is_deleted": True, "deletion_reason": REASON}
        world.service.insert("live_stream_chat", body)
        world.influencer.api.update("live_stream_chat", {"deletion_reason": REASON + "!"}, where={"id": messages[1]["id"]})
        heard = told()
        assert all(message["id"].encode() in heard for message in messages)
        for word in (TEXT, REASON, "removed_messages"):
            assert word.encode() not in heard, word
        world.influencer.api.update("live_stream_chat", {"is_deleted": False}, where={"id": messages[2]["id"]})
        assert told().count(TEXT.encode()) == 1, "it is back"
    finally:
        supabase_db.sql("select pg_drop_replication_slot(%s)", [slot])


@own_db("has triggers of the app's")
def test_what_a_trigger_of_the_apps_marks_is_a_stub_too(db, world):
    """One that comes after ours, by its name."""
    session = world.session()
    db.owner("""create function public.automod() returns trigger language plpgsql as $$
                begin
                  if new.message like '%bad%' then new.is_deleted := true; new.deletion_reason := 'automod'; end if;
                  if new.message like '%odd%' then new.is_flagged := true; end if;
                  return new;
                end $$""")
    db.owner("create trigger zz_automod before insert or update of message on public.live_stream_chat for each row execute function public.automod()")
    bad, odd = world.say(session, world.viewer, "bad word"), world.say(session, world.viewer, "odd word")
    assert (stored(world, bad)["message"], removed(world, bad)) == ("", ("bad word", "automod", None))
    assert stored(world, odd)["is_flagged"] is False
    assert [row["message_id"] for row in world.influencer.api.select("live_stream_flagged_messages")] == [odd["id"]]
    assert differences(db) == []


# At the same time, and in part.


def test_two_who_take_it_away_and_one_who_puts_it_back(plain_db):
    world = people(plain_db)
    moderator = world.new_user()
    world.influencer.api.rpc("live_stream_add_moderator", user_id=moderator.user_id)
    session = world.session()
    message = world.say(session, world.viewer, TEXT)
    away = "select * from public.live_stream_delete_message(%s, %s)"
    back = "update public.live_stream_chat set is_deleted = false where id = %s returning message"
    with Steps(plain_db) as steps:
        first, second, third = steps.client(world.influencer), steps.client(moderator), steps.client(world.influencer)
        first.run(away, [message["id"], "one"])
        late = second.start(away, [message["id"], "two"])
        second.waits()
        restored = third.start(back, [message["id"]])
        third.waits()
        first.commit()
        all_end_well(late, restored)
        assert restored.result() == [{"message": TEXT}]
    # Whichever of the two who waited came last.
    last = (stored(world, message)["message"], removed(world, message))
    assert last in ((TEXT, None), ("", (TEXT, "two", moderator.user_id)))
    assert differences(plain_db) == []


@pytest.mark.parametrize("beside", ["delete from public.live_stream_sessions where id = %(session)s",
                                    "delete from public.live_stream_chat where id = %(message)s",
                                    "select live_stream.erase_user(%(author)s)"])  # fmt: skip
def test_beside_who_removes_it_for_good(plain_db, beside):
    world = people(plain_db)
    session = world.session()
    message = world.say(session, world.viewer, TEXT)
    names = {"session": session["id"], "message": message["id"], "author": world.viewer.user_id}
    for taken_first in (True, False):
        with Steps(plain_db) as steps:
            host, server = steps.client(world.influencer), steps.client("service_role")
            take = ("update public.live_stream_chat set is_deleted = not is_deleted where id = %(message)s", names)
            if taken_first:
                host.run(*take)
                gone = server.start(beside, names, commit=False)
                server.waits()
                host.commit()
                all_end_well(gone)
                server.rollback()
            else:
                server.run(beside, names)
                taken = host.start(*take)
                assert beside.startswith("delete from public.live_stream_sessions") or host.waits()
                server.commit()
                assert sqlstate(taken) in (None, "PT404")
    assert plain_db.value("select count(*) from public.live_stream_removed_messages where message_id = %s", [message["id"]]) == 0
    assert differences(plain_db) == []


def test_a_rollback_and_a_savepoint(plain_db):
    world = people(plain_db)
    session = world.session()
    one, two = (world.say(session, world.viewer, f"{TEXT} {n}") for n in (1, 2))
    with Steps(plain_db) as steps:
        host = steps.client(world.influencer)
        away = "update public.live_stream_chat set is_deleted = true, deletion_reason = %s where id = %s"
        host.run("savepoint before")
        host.run(away, [REASON, one["id"]])
        host.run("rollback to before")
        host.run(away, ["kept", two["id"]])
        host.run("savepoint later")
        host.run("update public.live_stream_chat set is_deleted = false where id = %s", [two["id"]])
        host.run("rollback to later")
        host.run("update public.live_stream_chat set deletion_reason = 'other' where id = %s", [one["id"]])
        host.commit()
    assert (stored(world, one)["message"], removed(world, one)) == (f"{TEXT} 1", None)
    assert (stored(world, two)["message"], removed(world, two)[:2]) == ("", (f"{TEXT} 2", "kept"))


@own_db("has no limits")
def test_many_at_once_cost_in_proportion(db, world):
    """As many as 200 messages, or 2,000; in the short form 100 and 1,000."""
    db.set(rows_per_request=0, message_limit=0)
    session = world.session()
    seconds = []
    for count in (scale(100, 200), scale(1_000, 2_000)):
        db.sql("insert into public.live_stream_chat (session_id, message) select %s, 'm' || n from generate_series(1, %s) n",
               [session["id"], count])  # fmt: skip
        where = {"session_id": session["id"], "is_deleted": False}
        begun = time.monotonic()
        assert len(world.influencer.api.update("live_stream_chat", {"is_deleted": True}, where=where)) == count
        seconds.append(time.monotonic() - begun)
    assert seconds[1] < 30 * seconds[0] + 1
    texts = db.value("select count(distinct message) from public.live_stream_removed_messages")
    assert texts == scale(1_000, 2_000)


# Privacy.


@both_shapes
@own_db("erases and purges whatever is there")
def test_purging_erasing_and_exporting(db, world):
    session = world.session()
    away, own = world.say(session, world.viewer, TEXT), world.say(session, world.viewer, "mine")
    world.influencer.api.rpc("live_stream_delete_message", message_id=away["id"], reason=REASON)
    world.viewer.api.rpc("live_stream_delete_message", message_id=own["id"], reason="a slip")
    other = world.say(session, world.stranger, "other")
    world.influencer.api.rpc("live_stream_delete_message", message_id=other["id"], reason=REASON)
    data = export(db, world.viewer.user_id)["tables"]
    texts = {row["message"] for row in data["live_stream_removed_messages"] if "message" in row}
    assert texts == {TEXT, "mine"}
    assert {row["id"] for row in data["live_stream_chat"]} == {away["id"], own["id"]}
    own_part = json.dumps([data["live_stream_removed_messages"], data["live_stream_chat"]])
    assert REASON not in own_part and world.influencer.user_id not in own_part
    host = export(db, world.influencer.user_id)["tables"]["live_stream_removed_messages"]
    assert {row["message_id"] for row in host} == {away["id"], other["id"]} and TEXT not in json.dumps(host)
    columns = {(row["table_name"], row["column_name"]) for row in db.owner("select * from live_stream.personal_data()")}
    assert ("live_stream_removed_messages", "deleted_by") in columns
    db.owner("select live_stream.erase_user(%s)", [world.viewer.user_id])
    assert {str(row["message_id"]) for row in db.sql("select message_id from public.live_stream_removed_messages")} == {other["id"]}
    db.owner("select live_stream.erase_user(%s, true)", [str(uuid.uuid4())])
    world.end(session)
    purge(db, chat="0")
    assert db.value("select count(*) from public.live_stream_removed_messages") == 0
    assert db.sql("select * from live_stream.verify_metrics()") == [] and differences(db) == []


def test_nobody_writes_it_directly(world):
    session = world.session()
    message = world.say(session, world.viewer, TEXT)
    world.influencer.api.rpc("live_stream_delete_message", message_id=message["id"])
    body = {"message_id": message["id"], "session_id": session["id"], "message": "x"}
    for table in ("live_stream_removed_messages", "live_stream_flagged_messages"):
        for api in (world.influencer.api, world.viewer.api, world.service, world.anon):
            mine = {name: body[name] for name in body if name != "message" or table == "live_stream_removed_messages"}
            for attempt in (lambda: api.insert(table, mine), lambda: api.update(table, mine), lambda: api.delete(table)):
                with refused("42501", "permission denied"):
                    attempt()
