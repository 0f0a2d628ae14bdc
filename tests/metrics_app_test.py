"""The numbers beside an app's own triggers and columns, and of tables that are emptied."""

from __future__ import annotations

import psycopg
import pytest

from crowds import BULK, Crowd, SEED, counts, numbers
from postgrest import RequestError
from recount import DIFFERENCES, differences
from refusals import refused
from sizes import own_db


# What an app's own triggers do inside of an update by the engine.

OWN_TRIGGER = """
create function public.app_trigger() returns trigger language plpgsql as $$
begin
  {body}
  return new;
end $$;
create trigger app_trigger {when} on public.{table} for each row execute function public.app_trigger();
"""


@own_db("alters the catalog")
@pytest.mark.parametrize("table, when", [
    ("live_stream_sessions", "before update"), ("live_stream_sessions", "after update"),
    ("live_stream_viewers", "before update"), ("live_stream_chat", "after update"),
])  # fmt: skip
def test_an_error_of_the_apps_own_arrives_unchanged(db, world, table, when):
    session = world.session()
    viewer = world.join(session, world.viewer)
    message = world.say(session, world.viewer, viewer=viewer)
    before = numbers(db, session)
    body = "raise sqlstate 'PT418' using message = 'I am a teapot', detail = 'Short and stout.', hint = 'Tip me over.';"
    db.owner(OWN_TRIGGER.format(table=table, when=when, body=body))
    calls = {
        "live_stream_sessions": [
            lambda: world.join(session),
            lambda: world.anon.rpc("live_stream_join", session_id=session["id"]),
            lambda: world.viewer.api.rpc("live_stream_share", viewer_id=viewer["id"]),
            lambda: world.product(session),
            lambda: world.say(session, world.viewer),
        ],
        "live_stream_viewers": [
            lambda: world.say(session, world.viewer, viewer=viewer),
            lambda: world.viewer.api.rpc("live_stream_share", viewer_id=viewer["id"]),
            lambda: world.end(session),
        ],
        "live_stream_chat": [lambda: world.say(session, world.viewer, parent_message_id=message["id"])],
    }
    for call in calls[table]:
        with pytest.raises(RequestError) as error:
            call()
        error = error.value
        assert (error.status, error.sqlstate, error.message) == (418, "PT418", "I am a teapot")
        assert (error.detail, error.hint) == ("Short and stout.", "Tip me over.")
    # One of PostgreSQL's own, right afterwards on the same connections, is not coloured by it.
    db.owner(f"drop trigger app_trigger on public.{table}")
    with refused("23514", "title"):
        world.set_session(session, title="")
    assert numbers(db, session) == before
    world.join(session)
    assert differences(db) == []


@own_db("alters the catalog")
def test_what_an_app_refuses_is_refused_at_the_commit(db, world):
    """Its trigger fires as the numbers are settled: the transaction is rolled back, and nothing was counted."""
    session = world.session()
    body = "if new.current_viewers = 2 then raise sqlstate 'PT418'; end if;"
    db.owner(OWN_TRIGGER.format(table="live_stream_sessions", when="after update", body=body))
    join = "insert into public.live_stream_viewers (session_id) values (%s)"
    db.sql(join, [session["id"]])
    with db.connect() as connection:
        connection.execute("begin")
        connection.execute(join, [session["id"]])
        connection.execute("insert into public.live_stream_chat (session_id, message) values (%s, 'goes too')", [session["id"]])
        with pytest.raises(psycopg.Error) as error:
            connection.execute("commit")
        assert error.value.sqlstate == "PT418"
    assert counts(db, session) == (1, 1, 1)
    assert numbers(db, session)["total_messages"] == 0 and differences(db) == []


@own_db("alters the catalog")
def test_an_app_that_answers_each_change_with_another_is_told_so(db, world):
    """Such as a bot that writes a message for each message. One that does so once is fine."""
    session = world.session()
    bot = "if {when} then insert into public.live_stream_chat (session_id, message) values (new.id, 'I am a bot'); end if;"
    differs = "new.total_messages > old.total_messages"
    db.owner(OWN_TRIGGER.format(table="live_stream_sessions", when="after update", body=bot.format(when=differs)))
    with db.connect(options="-c live_stream.background_worker=off") as connection, pytest.raises(psycopg.Error) as error:
        connection.execute("insert into public.live_stream_chat (session_id, message) values (%s, 'hello')", [session["id"]])
    assert error.value.sqlstate == "54001" and "again and again" in str(error.value)
    db.owner("drop trigger app_trigger on public.live_stream_sessions")
    db.owner("drop function public.app_trigger() cascade")
    once = bot.format(when=f"{differs} and new.total_messages < 2")
    db.owner(OWN_TRIGGER.format(table="live_stream_sessions", when="after update", body=once))
    db.sql("insert into public.live_stream_chat (session_id, message) values (%s, 'hello')", [session["id"]])
    assert numbers(db, session)["total_messages"] == 2 and differences(db) == []


@own_db("alters the catalog")
def test_what_is_counted_and_dropped_in_one_transaction(db, world):
    session = world.session()
    with db.connect() as connection, connection.transaction(force_rollback=True):
        connection.execute("insert into public.live_stream_viewers (session_id) values (%s)", [session["id"]])
        connection.execute("drop extension live_stream cascade")
        connection.execute("set constraints all immediate")
    with db.connect() as connection:
        connection.execute("begin")
        connection.execute("insert into public.live_stream_viewers (session_id) values (%s)", [session["id"]])
        connection.execute("drop extension live_stream cascade")
        connection.execute("commit")
    assert db.value("select count(*) from public.live_stream_viewers") == 1


@own_db("alters the catalog")
def test_what_an_apps_trigger_writes_is_guarded(db, world):
    """It runs inside of the engine's update, and has none of the engine's rights."""
    session = world.session()
    body = """
      if new.current_viewers > old.current_viewers then
        update public.live_stream_sessions
           set room_id = 'seen by the app', total_clicks = 99, stream_key = 'sk-app' where id = new.id;
      end if;
      if new.current_viewers = 2 then
        update public.live_stream_sessions set status = 'scheduled' where id = new.id;
      end if;"""
    db.owner(OWN_TRIGGER.format(table="live_stream_sessions", when="after update", body=body))
    world.join(session)
    row = world.read(session)
    assert (row["room_id"], row["total_clicks"], row["stream_key"]) == ("seen by the app", 0, None)
    with refused("23514", "is live and cannot become scheduled"):
        world.join(session)
    assert counts(db, session) == (1, 1, 1) and differences(db) == []


@own_db("alters the catalog")
def test_an_apps_trigger_may_write_elsewhere(db, world):
    session = world.session()
    body = """insert into public.live_stream_chat (session_id, message, message_type)
              values (new.session_id, 'somebody came', 'system'), (new.session_id, 'hello', 'chat');"""
    db.owner(OWN_TRIGGER.format(table="live_stream_viewers", when="after insert", body=body))
    # As the app's owner would have it: its trigger may write in the chat.
    db.owner("alter function public.app_trigger() security definer")
    world.join(session, world.viewer)
    world.service.insert("live_stream_viewers", [{"session_id": session["id"]}] * 3)
    assert numbers(db, session)["total_messages"] == 4 and differences(db) == []


@own_db("alters a table")
def test_columns_of_the_apps_own(db, world):
    for table in ("sessions", "viewers", "chat", "products", "orders", "chat_reactions"):
        db.owner(f"alter table public.live_stream_{table} add column gone text, add column extra int default 1")
        db.owner(f"alter table public.live_stream_{table} drop column gone")
    crowd = Crowd(db)
    crowd.clients(SEED, 300)
    assert crowd.unexpected == [] and crowd.done > 150 and differences(db) == []
    for table in ("sessions", "viewers", "chat", "products", "orders", "chat_reactions"):
        db.owner(f"alter table public.live_stream_{table} drop column extra")
    # PostgreSQL keeps the row type of a function in the plans that a connection has prepared.
    db.close()
    crowd.clients(SEED + 1, 300)
    assert crowd.unexpected == [] and differences(db) == []


# Tables that are emptied.

TRUNCATIONS = (
    "live_stream_chat_reactions",
    "live_stream_orders",
    "live_stream_chat cascade",
    "live_stream_products cascade",
    "live_stream_viewers cascade",
    "live_stream_chat, live_stream_chat_reactions, live_stream_removed_messages, live_stream_flagged_messages, live_stream_orders",
    "live_stream_heartbeats",
    "live_stream_sessions cascade",
)


@own_db("truncates")
def test_truncate(db):
    """As if each row had been deleted: also by the server, and undone by a rollback."""
    crowd = Crowd(db)
    crowd.clients(SEED, 700)
    with db.connect() as connection:
        for n, statement in enumerate(BULK):
            if not statement.startswith(("delete", "update")):
                statement = statement.format(
                    n=3, p=0.3, salt=n, users="{" + ",".join(u.user_id for u in crowd.users) + "}",
                    products="{" + ",".join(crowd.products) + "}", session="",
                )  # fmt: skip
                connection.execute(statement)
    assert crowd.unexpected == [] and differences(db) == []
    tables = ("viewers", "chat", "chat_reactions", "products", "orders")
    assert all(db.value(f"select count(*) > 3 from public.live_stream_{table}") for table in tables)
    before = [numbers(db, session) for session in crowd.sessions]
    for what in TRUNCATIONS:
        query = ", ".join("public." + table.strip() for table in what.split(","))
        with db.connect() as connection, connection.transaction(force_rollback=True):
            # A server may empty what it writes; sessions have more behind them.
            connection.execute("set role app_owner" if "sessions" in what else "set role service_role")
            connection.execute(f"truncate {query}")
            assert connection.execute(DIFFERENCES).fetchall() == [], what
        assert [numbers(db, session) for session in crowd.sessions] == before
    for what in TRUNCATIONS[:-1]:
        query = ", ".join("public." + table.strip() for table in what.split(","))
        db.owner(f"truncate {query}")
        assert differences(db) == [], what
    assert all(set(numbers(db, session).values()) == {0} for session in crowd.sessions)


@own_db("truncates")
def test_truncating_orders_leaves_what_the_host_counted(db, world):
    session = world.session()
    product = world.product(session, orders=5, revenue=50)
    world.service.update("live_stream_products", {"sold_quantity": 7}, where={"id": product["id"]}, one=True)
    world.join(session, world.viewer)
    for _ in range(2):
        world.influencer.api.rpc(
            "live_stream_record_order", session_id=session["id"], product_id=product["product_id"],
            amount=19.99, quantity=3, user_id=world.viewer.user_id,
        )  # fmt: skip
    assert float(numbers(db, session)["total_revenue"]) == 89.98
    db.owner("truncate public.live_stream_orders")
    (row,) = db.sql("select orders, revenue, sold_quantity from public.live_stream_products")
    assert (row["orders"], float(row["revenue"]), row["sold_quantity"]) == (5, 50, 7)
    assert float(numbers(db, session)["total_revenue"]) == 50 and differences(db) == []
