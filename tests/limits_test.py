"""Limits against abuse: how much one person may do, and one session takes, in a while. Who is over is told for how long."""

from __future__ import annotations

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from limiting import later, over
from postgrest import RequestError
from recount import differences
from refusals import refused
from sizes import own_db


# Messages.


def test_messages_of_a_person_in_an_interval(db, world):
    db.set(message_limit=3, message_interval="10s")
    session = world.session()
    other = world.session(by=world.new_influencer())
    for n in range(3):
        world.say(session, world.viewer, f"hello {n}")
    with over("too many messages", 10):
        world.say(session, world.viewer, "one more")
    with over("too many messages", 10):
        world.viewer.api.rpc("live_stream_send_message", session_id=session["id"], message="one more")
    with over("too many messages", 10):
        world.say(session, world.viewer, "❤", message_type="reaction")
    with over("too many messages", 10):
        world.say(other, world.viewer, "in another session")
    world.say(session, world.stranger, "somebody else may")
    assert world.read(session)["total_messages"] == 4 and differences(db) == []
    later(db, "live_stream_chat", "sent_at", 11)
    world.say(session, world.viewer, "later")


def test_a_message_that_was_taken_away_still_counts(db, world):
    db.set(message_limit=1)
    session = world.session()
    message = world.say(session, world.viewer)
    world.viewer.api.rpc("live_stream_delete_message", message_id=message["id"])
    with over("too many messages", 10):
        world.say(session, world.viewer)


def test_many_messages_in_one_request(db, world):
    db.set(message_limit=3)
    session = world.session()
    body = [{"session_id": session["id"], "message": str(n)} for n in range(4)]
    with over("too many messages", 10):
        world.viewer.api.insert("live_stream_chat", body)
    assert world.read(session)["total_messages"] == 0
    assert len(world.viewer.api.insert("live_stream_chat", body[:3])) == 3


def test_many_messages_at_the_same_moment(db, world):
    db.set(message_limit=5, message_interval="60s")
    session = world.session()
    start = threading.Barrier(12)

    def say(n):
        start.wait()
        try:
            world.say(session, world.viewer, str(n))
            return True
        except RequestError as error:
            assert error.sqlstate == "PT429", str(error)
            return False

    with ThreadPoolExecutor(12) as threads:
        assert sum(threads.map(say, range(12))) == 5
    assert differences(db) == []


def test_the_host_moderators_and_the_server_are_not_held_up(db, world):
    db.set(message_limit=1)
    session = world.session(slow_mode_seconds=60)
    moderator = world.new_user()
    world.influencer.api.rpc("live_stream_add_moderator", user_id=moderator.user_id)
    for n in range(3):
        world.say(session, moderator, str(n))
        world.say(session, world.influencer, str(n))
        world.service.insert("live_stream_chat", {"session_id": session["id"], "user_id": world.viewer.user_id, "message": "x"})


def test_zero_is_no_limit(db, world):
    db.without_limits()
    session = world.session()
    message = world.say(session, world.influencer)
    for _ in range(40):
        world.say(session, world.viewer)
        world.join(session, world.viewer)
        world.join(session)
        world.viewer.api.rpc("live_stream_react", message_id=message["id"], reaction="🔥")
        world.viewer.api.rpc("live_stream_flag_message", message_id=message["id"])


def test_edits_in_an_interval(db, world):
    db.set(message_limit=2, message_interval="60s")
    session = world.session()
    message = world.say(session, world.viewer)

    def edit(n):
        return world.viewer.api.rpc("live_stream_edit_message", message_id=message["id"], message=f"edit {n}")

    edit(1), edit(2)
    with over("too many edits", 60):
        edit(3)
    with over("too many edits", 60):
        world.viewer.api.update("live_stream_chat", {"message": "edit 3"}, where={"id": message["id"]})
    # To take it away is no edit.
    assert world.viewer.api.rpc("live_stream_delete_message", message_id=message["id"])["message"] == "edit 2"


INDEX_OF_MESSAGES = "live_stream_chat_user_id_sent_at_idx"
OTHER_INDEXES = {
    "none": "",
    "oldest first": f"create index {INDEX_OF_MESSAGES} on public.live_stream_chat (user_id, sent_at)",
    "of another column": f"create index {INDEX_OF_MESSAGES} on public.live_stream_chat (viewer_id, sent_at desc)",
    "of the user alone": f"create index {INDEX_OF_MESSAGES} on public.live_stream_chat (user_id)",
    "of another kind": f"create index {INDEX_OF_MESSAGES} on public.live_stream_chat using hash (user_id)",
    "of no row": f"create index {INDEX_OF_MESSAGES} on public.live_stream_chat (user_id, sent_at desc) where false",
    "of another table": f"create index {INDEX_OF_MESSAGES} on public.live_stream_viewers (user_id, joined_at desc)",
    "not whole": f"""create index {INDEX_OF_MESSAGES} on public.live_stream_chat (user_id, sent_at desc);
                     update pg_index set indisvalid = false where indexrelid = 'public.{INDEX_OF_MESSAGES}'::regclass""",
}


@own_db("makes or drops an index")
@pytest.mark.parametrize("other", OTHER_INDEXES)
def test_with_another_index_the_limit_still_holds(db, world, other):
    db.set(message_limit=2)
    session = world.session()
    for _ in range(3):
        world.say(session, world.influencer)
    world.say(session, world.viewer, "long ago")
    later(db, "live_stream_chat", "sent_at", 100)
    db.owner(f"drop index public.{INDEX_OF_MESSAGES}")
    if OTHER_INDEXES[other]:
        db.sql(OTHER_INDEXES[other])
    world.say(session, world.viewer), world.say(session, world.viewer)
    with over("too many messages", 10):
        world.say(session, world.viewer)


def test_slow_mode_of_a_session(db, world):
    session, other = world.session(), world.session(by=world.new_influencer())
    world.say(session, world.viewer, "before")
    assert world.set_session(session, slow_mode_seconds=30)["slow_mode_seconds"] == 30
    with over("too many messages", 30) as _:
        world.say(session, world.viewer)
    world.say(other, world.viewer, "elsewhere it is not slow")
    later(db, "live_stream_chat", "sent_at", 31)
    world.say(session, world.viewer)
    with over("too many messages", 30):
        world.say(session, world.viewer)
    world.set_session(session, slow_mode_seconds=0)
    world.say(session, world.viewer)


def test_slow_mode_goes_on_when_messages_are_not_limited(db, world):
    db.set(message_limit=0)
    session = world.session(slow_mode_seconds=3600)
    world.say(session, world.viewer)
    with over("too many messages", 3600):
        world.say(session, world.viewer)


@pytest.mark.parametrize("seconds", [-1, 3601])
def test_slow_mode_within_an_hour(world, seconds):
    with refused("23514", "slow_mode_seconds", hint=True):
        world.session(slow_mode_seconds=seconds)
    session = world.session()
    with refused("23514", "slow_mode_seconds", hint=True):
        world.set_session(session, slow_mode_seconds=seconds)


def test_only_the_host_sets_slow_mode(world):
    session = world.session(slow_mode_seconds=60)
    assert world.viewer.api.update("live_stream_sessions", {"slow_mode_seconds": 0}, where={"id": session["id"]}) == []
    assert world.read(session)["slow_mode_seconds"] == 60


def test_length_of_a_message(db, world):
    db.set(message_length=10)
    session = world.session()
    message = world.say(session, world.viewer, "é" * 10)
    with refused("23514", "the message is too long", hint=True):
        world.say(session, world.viewer, "é" * 11)
    with refused("23514", "the message is too long", hint=True):
        world.viewer.api.rpc("live_stream_edit_message", message_id=message["id"], message="x" * 11)


# Joins.


def test_joins_of_a_person(db, world):
    db.set(join_limit=3)
    session, other = world.session(), world.session(by=world.new_influencer())
    for _ in range(3):
        viewer = world.join(session, world.viewer)
    with over("too many joins", 60):
        world.join(session, world.viewer)
    world.join(session, world.stranger)
    world.join(other, world.viewer)
    assert world.viewer.api.rpc("live_stream_join", session_id=session["id"])["session_id"] == session["id"]
    assert world.read(session)["total_unique_viewers"] == 2 and differences(db) == []
    later(db, "live_stream_viewers", "counted_since", 61)
    world.join(session, world.viewer)
    assert viewer["is_still_watching"]


def test_places_of_a_person(db, world):
    """Whoever reloads a page that inserts its row goes on; the places are left to others."""
    db.set(join_limit=0, places_per_person=3)
    session = world.session(max_viewers=5)
    joined = [world.join(session, world.viewer)["id"] for _ in range(8)]
    still = db.sql("select id from public.live_stream_viewers where session_id = %s and is_still_watching", [session["id"]])
    assert {str(row["id"]) for row in still} == set(joined[-3:])
    world.join(session, world.stranger)
    db.set(places_per_person=0)
    world.join(session, world.viewer)
    row = world.read(session)
    assert (row["current_viewers"], row["total_unique_viewers"]) == (5, 2) and differences(db) == []


def test_places_of_a_person_who_comes_back(db, world):
    db.set(join_limit=0, places_per_person=2)
    session = world.session(max_viewers=None)
    first = world.leave(world.join(session, world.viewer), world.viewer)
    _, third = (world.join(session, world.viewer)["id"] for _ in range(2))
    world.viewer.api.update("live_stream_viewers", {"is_still_watching": True}, where={"id": first["id"]}, one=True)
    still = db.sql("select id from public.live_stream_viewers where session_id = %s and is_still_watching", [session["id"]])
    assert {str(row["id"]) for row in still} == {first["id"], third}
    assert differences(db) == []


@pytest.mark.parametrize("way", ["rpc", "update"])
@pytest.mark.parametrize("who", ["viewer", "anonymous"])
def test_leaving_and_coming_back(db, world, way, who):
    db.set(join_limit=4)
    session = world.session()
    person = world.viewer if who == "viewer" else None
    row = world.join(session, person)
    api = person.api if person else world.anonymous(row)

    def come_back():
        if way == "rpc":
            args = {} if person else {"viewer_id": row["id"]}
            return api.rpc("live_stream_join", session_id=session["id"], **args)
        return api.update("live_stream_viewers", {"is_still_watching": True}, where={"id": row["id"]}, one=True)

    for _ in range(3):
        world.leave(row, person)
        assert come_back()["is_still_watching"]
    world.leave(row, person)
    with over("too many joins", 60):
        come_back()
    assert world.read(session)["current_viewers"] == 0 and differences(db) == []


def test_a_list_of_joins_is_one_too_many_whatever_the_limit(db, world):
    db.set(join_limit=0)
    session = world.session()
    with refused("22023", "a request makes one viewer", hint=True):
        world.viewer.api.insert("live_stream_viewers", [{"session_id": session["id"]}] * 2)
    assert world.read(session)["total_unique_viewers"] == 0


def test_anonymous_joins_of_a_session(db, world):
    db.set(anonymous_join_limit=5)
    session, other = world.session(), world.session(by=world.new_influencer())
    for n in range(5):
        world.join(session) if n % 2 else world.anon.rpc("live_stream_join", session_id=session["id"])
    with over("too many anonymous viewers", 60):
        world.join(session)
    with over("too many anonymous viewers", 60):
        world.anon.rpc("live_stream_join", session_id=session["id"])
    world.join(session, world.viewer)
    world.join(other)
    assert world.read(session)["current_viewers"] == 6 and differences(db) == []
    later(db, "live_stream_viewers", "joined_at", 61)
    db.close()
    world.join(session)


def test_a_crowd_of_anonymous_viewers_from_many_connections(db, world):
    db.set(anonymous_join_limit=100)
    session = world.session(max_viewers=None)

    def join(_):
        try:
            world.join(session)
            return True
        except RequestError as error:
            assert error.sqlstate == "PT429", str(error)
            return False

    with ThreadPoolExecutor(8) as threads:
        admitted = sum(threads.map(join, range(160)))
    # Each request that is under way at the same moment may be one too many.
    assert 100 <= admitted <= 108
    assert differences(db) == []


# Reactions and flags.


@own_db("counts or changes all that is there")
def test_reactions_in_a_second(db, world):
    db.set(reaction_limit=3)
    session = world.session()
    messages = [world.say(session, world.influencer, str(n)) for n in range(3)]

    def react(n, function="live_stream_react"):
        return world.viewer.api.rpc(function, message_id=messages[n]["id"], reaction="🔥")

    with db.connect() as other:
        # Time that stands still, from a row that says so.
        react(0), react(1)
        other.execute("update live_stream.person_rates set since = now() + interval '1 hour' where kind = 1")
        react(2)
        with over("too many reactions", 3601):
            react(0, "live_stream_unreact")
        with over("too many reactions", 3601):
            react(0)
        world.stranger.api.rpc("live_stream_react", message_id=messages[0]["id"], reaction="🔥")
        other.execute("update live_stream.person_rates set since = now() - interval '1 second' where kind = 1")
    react(0, "live_stream_unreact")
    assert world.read(session)["total_reactions"] == 3 and differences(db) == []


@own_db("counts or changes all that is there")
def test_a_reaction_that_was_refused_is_not_counted(db, world):
    db.set(reaction_limit=1)
    session = world.session()
    message = world.say(session, world.influencer)
    world.end(session)
    for _ in range(3):
        with refused("42501", "closed"):
            world.viewer.api.rpc("live_stream_react", message_id=message["id"], reaction="🔥")
    assert db.value("select count(*) from live_stream.person_rates") == 0


def test_flags_in_an_hour(db, world):
    db.set(flag_limit=2)
    session = world.session()
    messages = [world.say(session, world.influencer, str(n)) for n in range(3)]

    def flag(n):
        return world.viewer.api.rpc("live_stream_flag_message", message_id=messages[n]["id"])

    flag(0), flag(1)
    with over("too many flags", 3600):
        flag(2)
    db.sql("update live_stream.person_rates set since = since - interval '61 minutes'")
    assert flag(2)["is_flagged"]


def test_nobody_reads_or_resets_the_rates_of_others(db, world):
    session = world.session()
    message = world.say(session, world.influencer)
    world.viewer.api.rpc("live_stream_react", message_id=message["id"], reaction="🔥")
    for role in ("anon", "authenticated"):
        with db.connect("authenticator") as connection:
            connection.execute(f"set role {role}")
            for statement in ("select * from", "delete from", "truncate"):
                with pytest.raises(Exception, match="permission denied"):
                    connection.execute(f"{statement} live_stream.person_rates")


def test_the_rates_do_not_outlive_a_crash_and_nothing_else_is_lost(fresh_server):
    from people import people

    fresh_server.make_templates()
    with fresh_server.database("plain") as db:
        world = people(db)
        session = world.session()
        message = world.say(session, world.influencer)
        world.viewer.api.rpc("live_stream_react", message_id=message["id"], reaction="🔥")
        rates = "select count(*) from live_stream.person_rates"
        assert db.value(rates) > 0
        db.close()
        fresh_server.crash()
        assert db.value(rates) == 0
        world.viewer.api.rpc("live_stream_react", message_id=message["id"], reaction="❤")
        assert differences(db) == []


# Rows of one request.


def many(table, world, count):
    """A request of somebody who may insert into a table, with so many rows."""
    influencer = world.influencer
    users = [world.new_user().user_id for _ in range(count)]
    session = world.session()
    product = world.product(session)["product_id"]
    row = world.schedule(is_recurring=True, recurrence_pattern="daily")
    who = world.viewer if table in ("live_stream_followers",) else influencer
    of_session, of_influencer = {"session_id": session["id"]}, {"influencer_id": influencer.influencer_id}
    make = {
        "live_stream_sessions": lambda n: of_influencer | {"title": f"{n}"},
        "live_stream_schedule": lambda n: of_influencer | {"title": f"{n}", "scheduled_date": "2030-01-07", "scheduled_start_time": "15:00"},
        "live_stream_schedule_exceptions": lambda n: {"schedule_id": row["id"], "original_starts_at": f"2030-01-{10 + n}T15:00Z", "kind": "skip"},
        "live_stream_followers": lambda n: {"influencer_id": world.new_influencer().influencer_id},
        "live_stream_chat": lambda n: of_session | {"message": f"{n}"},
        "live_stream_products": lambda n: of_session | {"product_id": world.new_product()},
        "live_stream_orders": lambda n: of_session | {"product_id": product, "amount": 1},
        "live_stream_moderators": lambda n: of_influencer | {"user_id": users[n]},
        "live_stream_bans": lambda n: of_influencer | {"user_id": users[n]},
        "live_stream_guests": lambda n: of_session | {"user_id": users[n]},
    }
    return who.api, [make[table](n) for n in range(count)]


WRITABLE = [
    "live_stream_sessions", "live_stream_schedule", "live_stream_schedule_exceptions", "live_stream_followers", "live_stream_chat",
    "live_stream_products", "live_stream_orders", "live_stream_moderators", "live_stream_bans", "live_stream_guests",
]  # fmt: skip


@pytest.mark.parametrize("table", WRITABLE)
def test_rows_of_one_request(db, world, table):
    db.set(rows_per_request=3, message_limit=0)
    api, rows = many(table, world, 4)
    with refused("54000", "too many rows in one request", hint=True):
        api.insert(table, rows)
    assert len(api.insert(table, rows[:3])) == 3
    assert len(api.insert(table, rows[3:])) == 1


def test_who_may_insert_is_held_to_it(db):
    """No table that a client may insert into is left out."""
    found = db.sql(
        """select c.relname from pg_class c
            where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname like 'live\\_stream%%'
              and (has_table_privilege('authenticated', c.oid, 'insert') or has_table_privilege('anon', c.oid, 'insert'))"""
    )
    # Viewers have a limit of their own.
    assert {row["relname"] for row in found} - {"live_stream_viewers"} == set(WRITABLE)


def test_rows_that_one_request_changes(db, world):
    db.set(rows_per_request=3)
    sessions = [world.session(live=False) for _ in range(4)]
    change = {"title": "Changed"}
    with refused("54000", "too many rows in one request"):
        world.influencer.api.update("live_stream_sessions", change, where={"influencer_id": world.influencer.influencer_id})
    ids = [one["id"] for one in sessions]
    assert len(world.influencer.api.update("live_stream_sessions", change, where={"id": ids[:3]})) == 3
    assert len(world.service.update("live_stream_sessions", change, where={"id": ids})) == 4
    db.set(rows_per_request=0)
    assert len(world.influencer.api.update("live_stream_sessions", change, where={"id": ids})) == 4


def test_the_server_and_calendars_bring_more_rows(db, world):
    db.set(rows_per_request=2)
    body = [{"influencer_id": world.influencer.influencer_id, "title": f"{n}"} for n in range(5)]
    assert len(world.service.insert("live_stream_sessions", body)) == 5
    event = "BEGIN:VEVENT\nUID:{0}\nSUMMARY:{0}\nDTSTART:20300101T1000{0:02}Z\nEND:VEVENT\n"
    ics = "BEGIN:VCALENDAR\n" + "".join(event.format(n) for n in range(5)) + "END:VCALENDAR\n"
    assert len(world.influencer.api.rpc("live_stream_import_ics", influencer_id=None, ics=ics)) == 5
    # And the next request is counted again.
    with refused("54000", "too many rows in one request"):
        world.influencer.api.insert("live_stream_sessions", body)


def test_saving_again_counts_each_row_once(db, world):
    db.set(rows_per_request=3)
    ids = [world.session(live=False)["id"] for _ in range(3)]
    save = """insert into public.live_stream_sessions (id, influencer_id, title) select id, %s, 'again' from unnest(%s::uuid[]) id
              on conflict (id) do update set title = excluded.title"""
    with db.connect("authenticator") as connection, connection.transaction():
        connection.execute("select set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)",
                           [json.dumps({"sub": world.influencer.user_id, "role": "authenticated"})])  # fmt: skip
        assert connection.execute(save, [world.influencer.influencer_id, ids]).rowcount == 3
