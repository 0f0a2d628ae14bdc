"""An app's own triggers on the chat, and writes that fail half-way: what a message says that is taken away is never lost."""

from __future__ import annotations

import uuid

import psycopg
import pytest

from chatting import is_flagged, removed, stored
from moderating import log
from recount import differences
from refusals import refused
from sizes import own_db

TEXT, REASON = "said it all", "off topic"
NESTED = "update public.live_stream_chat set avatar_url = 'n' where id = new.id"
SAVED_AGAIN = (
    "insert into public.live_stream_chat (id, session_id, avatar_url, message) values (new.id, new.session_id, 'n', new.message)"
    " on conflict (id) do update set avatar_url = excluded.avatar_url"
)
FAILS = f"begin {NESTED}; perform 1 / 0; exception when division_by_zero then null; end"
IN_PART = f"begin {NESTED}; exception when others then null; end"
OF_ALL = "update public.live_stream_chat set avatar_url = 'n' where is_deleted"
ONCE = (
    "if position(new.id::text in coalesce(current_setting('app.done', true), '')) = 0 then"
    f" perform set_config('app.done', concat(current_setting('app.done', true), new.id), true); {NESTED}; end if"
)
# Triggers of the app's: when, for what, and what they do.
TRIGGERS = {
    "after each row, before ours": ("aaa after update", "row", NESTED),
    "after each row, after ours": ("zzz after update", "row", NESTED),
    "after each row, saved again": ("aaa after update", "row", SAVED_AGAIN),
    "after each row, and fails": ("aaa after update", "row", FAILS),
    "after each row, in a part": ("aaa after update", "row", IN_PART),
    "after each row, fails and again": ("aaa after update", "row", f"{FAILS}; {NESTED}"),
    "after the statement, before ours": ("aaa after update", "statement", OF_ALL),
    "after the statement, after ours": ("zzz after update", "statement", OF_ALL),
    "before each row, with a text": ("zzz before update", "row", "if new.is_deleted then new.message := '[deleted]'; end if"),
    "before each row, with a reason": ("zzz before update", "row", "if new.is_deleted then new.deletion_reason := 'because'; end if"),
    "deferred": ("aaa after update", "constraint", ONCE),
}


def trigger(db, name):
    when, level, does = TRIGGERS[name]
    db.owner(
        f"create function public.app() returns trigger language plpgsql as $$ begin"
        f" if pg_trigger_depth() < 2 then {does}; end if; return new; end $$"
    )
    constraint = level == "constraint"
    title, event = when.split(" ", 1)
    db.owner(
        f"create {'constraint ' if constraint else ''}trigger {title} {event} on public.live_stream_chat"
        f"{' deferrable initially deferred' if constraint else ''} for each {'row' if constraint else level} execute function public.app()"
    )


@own_db("has triggers of its own")
@pytest.mark.parametrize("who", ["influencer", "author", "service"])
@pytest.mark.parametrize("name", TRIGGERS)
def test_an_apps_trigger_loses_nothing(db, world, name, who):
    session = world.session()
    messages = [world.say(session, world.viewer, f"{TEXT} {nth}") for nth in range(3)]
    trigger(db, name)
    api = {"influencer": world.influencer.api, "author": world.viewer.api, "service": world.service}[who]
    by = {"influencer": world.influencer.user_id, "author": world.viewer.user_id}.get(who)
    patch = {"is_deleted": True, "deletion_reason": REASON}
    api.rpc("live_stream_delete_message", message_id=messages[0]["id"], reason=REASON)
    api.update("live_stream_chat", patch, where={"id": [message["id"] for message in messages[1:]]}, select=None)
    for nth, message in enumerate(messages):
        assert removed(world, message) == (f"{TEXT} {nth}", REASON, by)
        row = stored(world, message)
        assert (row["message"], row["deletion_reason"], row["deleted_by"], row["is_deleted"]) == ("", None, None, True)
    acts = log(world, "action", "reason", "actor_id")
    assert acts == ([] if who == "author" else [("delete_message", REASON, by)] * 3)
    # What is written later leaves it, too.
    world.service.update("live_stream_chat", {"avatar_url": "later"}, where={"session_id": session["id"]}, select=None)
    assert [removed(world, message)[:2] for message in messages] == [(f"{TEXT} {nth}", REASON) for nth in range(3)]
    for nth, message in enumerate(messages):
        world.service.update("live_stream_chat", {"is_deleted": False}, where={"id": message["id"]})
        assert (stored(world, message)["message"], removed(world, message)) == (f"{TEXT} {nth}", None)
    assert differences(db) == []


@own_db("has triggers of its own")
def test_a_trigger_puts_back_what_is_taken_away(db, world):
    """A review of the app's: nothing is away, and the text is what it was."""
    message = world.say(world.session(), world.viewer, TEXT)
    db.owner(
        "create function public.app() returns trigger language plpgsql as $$ begin"
        " if pg_trigger_depth() < 2 then update public.live_stream_chat set is_deleted = false where id = new.id; end if; return null; end $$"
    )
    db.owner("create trigger aaa after update on public.live_stream_chat for each row execute function public.app()")
    world.influencer.api.rpc("live_stream_delete_message", message_id=message["id"], reason=REASON)
    row = stored(world, message)
    assert (row["message"], row["is_deleted"], removed(world, message)) == (TEXT, False, None)
    assert differences(db) == []


NEW = "insert into public.live_stream_chat (id, session_id, message, is_deleted, is_flagged, user_id) values (%s, %s, %s, %s, %s, %s)"


@own_db("has triggers of its own")
@pytest.mark.parametrize("kept_by", ["an error", "a trigger"])
def test_a_message_that_was_not_written_leaves_nothing_to_the_next_one(db, world, kept_by):
    session, id = world.session(), str(uuid.uuid4())
    if kept_by == "a trigger":
        db.owner(
            "create function public.app() returns trigger language plpgsql as $$ begin"
            " return case when current_setting('app.skips', true) = 'on' then null else new end; end $$"
        )
        db.owner("create trigger zzz before insert or update on public.live_stream_chat for each row execute function public.app()")
    with db.connect() as connection:
        with connection.transaction():
            if kept_by == "a trigger":
                connection.execute("set local app.skips = on")
                connection.execute(NEW, [id, session["id"], "stale", True, True, None])
                connection.execute("set local app.skips = off")
            else:
                with pytest.raises(psycopg.Error), connection.transaction():
                    connection.execute(NEW, [id, session["id"], "stale", True, True, None])
                    connection.execute("select 1 / 0")
            connection.execute(NEW, [id, session["id"], "plain", False, False, None])
        message = {"id": id}
        assert (stored(world, message)["message"], removed(world, message), is_flagged(world, message)) == ("plain", None, False)
        # The same of an update.
        with connection.transaction():
            away = "update public.live_stream_chat set is_deleted = true, deletion_reason = 'stale', is_flagged = true where id = %s"
            if kept_by == "a trigger":
                connection.execute("set local app.skips = on")
                connection.execute(away, [id])
                connection.execute("set local app.skips = off")
            else:
                with pytest.raises(psycopg.Error), connection.transaction():
                    connection.execute(away, [id])
                    connection.execute("select 1 / 0")
            connection.execute("update public.live_stream_chat set avatar_url = 'x' where id = %s", [id])
    assert (stored(world, message)["message"], removed(world, message), is_flagged(world, message)) == ("plain", None, False)
    assert differences(db) == []


@own_db("has alterations of its own")
def test_a_row_that_holds_its_text_though_it_is_away_keeps_it(db, world):
    """As of a restore that runs no triggers."""
    message = world.say(world.session(), world.viewer, TEXT)
    with db.connect() as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update public.live_stream_chat set is_deleted = true, deleted_at = now() where id = %s", [message["id"]])
    world.service.update("live_stream_chat", {"avatar_url": "x"}, where={"id": message["id"]})
    assert (stored(world, message)["message"], removed(world, message)[0]) == ("", TEXT)
    world.service.update("live_stream_chat", {"is_deleted": False}, where={"id": message["id"]})
    assert (stored(world, message)["message"], removed(world, message)) == (TEXT, None)


ALTERED = {
    "settling is disabled": ("alter table public.live_stream_chat disable trigger live_stream_chat_settle_update", "would be lost"),
    "all is disabled for updates": ("drop trigger live_stream_chat_settle_update on public.live_stream_chat", "would be lost"),
    "nothing is let in": ("create trigger app before insert on public.live_stream_removed_messages for each row execute function public.app()", "was not stored"),
    "a rule": ("create rule app as on insert to public.live_stream_removed_messages do instead nothing", None),
    "the table is gone": ("drop table public.live_stream_removed_messages cascade", None),
}  # fmt: skip


@own_db("has alterations of its own")
@pytest.mark.parametrize("name", ALTERED)
def test_where_nothing_would_store_it_no_message_is_taken_away(db, world, name):
    message = world.say(world.session(), world.viewer, TEXT)
    db.owner("create function public.app() returns trigger language plpgsql as $$ begin return null; end $$")
    alteration, words = ALTERED[name]
    db.owner(alteration)
    with refused("55000", words, hint=True) if words else pytest.raises(Exception):
        world.influencer.api.rpc("live_stream_delete_message", message_id=message["id"], reason=REASON)
    row = stored(world, message)
    assert (row["message"], row["is_deleted"]) == (TEXT, False)


@own_db("has alterations of its own")
@pytest.mark.parametrize("alteration", [
    "rename constraint live_stream_removed_messages_pkey to app", "drop constraint live_stream_removed_messages_pkey",
])  # fmt: skip
def test_without_its_key_the_table_is_slower_and_right(db, world, alteration):
    message = world.say(world.session(), world.viewer, TEXT)
    db.owner(f"alter table public.live_stream_removed_messages {alteration}")
    for nth in range(2):
        world.influencer.api.rpc("live_stream_delete_message", message_id=message["id"], reason=f"{nth}")
        assert removed(world, message) == (TEXT, f"{nth}", world.influencer.user_id)
        world.influencer.api.update("live_stream_chat", {"is_deleted": False}, where={"id": message["id"]})
        assert (stored(world, message)["message"], removed(world, message)) == (TEXT, None)
