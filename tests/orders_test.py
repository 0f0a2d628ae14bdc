"""Orders: who records them, each counted once, what the numbers of product, viewer and session make of them."""

from __future__ import annotations

import threading
import uuid
from decimal import Decimal

import pytest

from postgrest import RequestError
from recount import rest
from refusals import refused
from sizes import both_shapes, own_db
from steps import Steps, sqlstate

pytestmark = both_shapes


def record(api, session, product, amount=10, **args):
    args = {"session_id": session["id"], "product_id": product["product_id"], "amount": amount} | args
    return api.rpc("live_stream_record_order", args)


def numbers(world, session, product):
    """Orders, pieces and revenue of the product, and the session's orders and revenue, exactly."""
    (row,) = world.db.sql(
        "select p.orders, p.sold_quantity, p.revenue, s.total_orders, s.total_revenue"
        " from public.live_stream_products p join public.live_stream_sessions s on s.id = p.session_id"
        " where p.id = %s and s.id = %s",
        [product["id"], session["id"]],
    )
    return tuple(row.values())


@pytest.fixture
def shop(world):
    session = world.session()
    return session, world.product(session)


def test_host_and_server_record(world, shop):
    session, product = shop
    viewer = world.join(session, world.viewer)
    order = record(world.influencer.api, session, product, 15.5, quantity=2, viewer_id=viewer["id"], order_reference="A1")
    assert order["session_product_id"] == product["id"] and order["order_reference"] == "A1"
    assert order["user_id"] == world.viewer.user_id, "found from the viewer"
    order = record(world.service, session, product, 4.5, user_id=world.viewer.user_id)
    assert order["viewer_id"] == viewer["id"], "found from the user"
    assert numbers(world, session, product) == (2, 3, Decimal("20.00"), 2, Decimal("20.00"))
    (row,) = world.viewer.api.select("live_stream_viewers", where={"id": viewer["id"]})
    assert row["orders_placed"] == 2
    assert world.read(session)["conversion_rate"] == 200


def test_direct_inserts_are_the_same(world, shop):
    session, product = shop
    body = {"session_id": session["id"], "product_id": product["product_id"], "amount": 12.34}
    order = world.influencer.api.insert("live_stream_orders", body)
    assert (order["session_product_id"], order["amount"], order["quantity"]) == (product["id"], 12.34, 1)
    world.service.insert("live_stream_orders", [body, body])
    assert numbers(world, session, product) == (3, 3, Decimal("37.02"), 3, Decimal("37.02"))


def test_nobody_else_records(world, shop):
    session, product = shop
    body = {"session_id": session["id"], "product_id": product["product_id"], "amount": 1}
    for who in (world.viewer, world.stranger, world.new_influencer()):
        with refused("42501", "is not the caller's", hint=True):
            record(who.api, session, product)
        with refused("42501", "is not the caller's", hint=True):
            who.api.insert("live_stream_orders", body)
        # Nor does the refusal tell what is in a session.
        with refused("42501", "is not the caller's", hint=True):
            who.api.insert("live_stream_orders", body | {"product_id": str(uuid.uuid4())})
    with refused("42501"):
        record(world.anon, session, product)
    with refused("42501"):
        world.anon.insert("live_stream_orders", body)
    assert numbers(world, session, product) == (0, 0, 0, 0, 0)


def test_a_private_session_tells_strangers_nothing(world):
    session = world.session(visibility="private")
    product = world.product(session)
    for body in ({"product_id": product["product_id"]}, {"product_id": str(uuid.uuid4())}):
        with refused("PT404", "does not exist", hint=True):
            world.stranger.api.insert("live_stream_orders", {"session_id": session["id"], "amount": 1} | body)
    assert record(world.service, session, product)["session_id"] == session["id"]


def test_who_reads_orders(world, shop):
    session, product = shop
    order = record(world.service, session, product, user_id=world.viewer.user_id)
    where = {"session_id": session["id"]}
    for who in (world.influencer.api, world.viewer.api, world.service):
        assert [row["id"] for row in who.select("live_stream_orders", where=where)] == [order["id"]]
    for who in (world.stranger.api, world.new_influencer().api):
        assert who.select("live_stream_orders", where=where) == []
    with refused("42501"):
        world.anon.select("live_stream_orders", where=where)


def test_an_order_is_the_servers_to_change(world, shop):
    session, product = shop
    order = record(world.influencer.api, session, product, 10)
    where = {"id": order["id"]}
    for who in (world.influencer.api, world.viewer.api):
        with refused("42501"):
            who.update("live_stream_orders", {"amount": 1000}, where=where)
        with refused("42501"):
            who.delete("live_stream_orders", where=where)
    world.service.update("live_stream_orders", {"amount": 8.01, "quantity": 3}, where=where, one=True)
    assert numbers(world, session, product) == (1, 3, Decimal("8.01"), 1, Decimal("8.01"))
    world.service.delete("live_stream_orders", where=where)
    assert numbers(world, session, product) == (0, 0, 0, 0, 0)


def test_a_reference_counts_once(world, shop):
    session, product = shop
    first = record(world.service, session, product, 10, order_reference="order-1")
    again = record(world.service, session, product, 10, order_reference="order-1")
    by_host = record(world.influencer.api, session, product, 10.004, order_reference=" order-1\r\n")
    assert first == again == by_host
    assert numbers(world, session, product) == (1, 1, Decimal(10), 1, Decimal(10))
    # References are a session's own; orders without one are each their own.
    other = world.session(by=world.new_influencer())
    elsewhere = record(world.service, other, _product(world, other), 1, order_reference="order-1")
    assert elsewhere["id"] != first["id"]
    for reference in (None, None, "", " ", "\n"):
        assert record(world.service, session, product, 1, order_reference=reference)["order_reference"] is None
    assert numbers(world, session, product)[0] == 6


def test_an_order_of_several_products(world, shop):
    """One reference, and a row for each product; each of them counts once."""
    session, product = shop
    other = world.product(session)
    for _ in range(2):
        one = record(world.service, session, product, "19.90", order_reference="A-1001")
        two = record(world.service, session, other, "29.90", order_reference="A-1001", quantity=2)
        assert (one["product_id"], one["amount"]) == (product["product_id"], 19.9)
        assert (two["product_id"], two["amount"], two["quantity"]) == (other["product_id"], 29.9, 2)
    assert numbers(world, session, product) == (1, 1, Decimal("19.90"), 2, Decimal("49.80"))
    assert numbers(world, session, other)[:3] == (1, 2, Decimal("29.90"))


@pytest.mark.parametrize("again", [{"amount": "19.91"}, {"amount": 0}, {"quantity": 2}, {"amount": "29.90", "quantity": 3}])
def test_another_amount_of_the_same_line_is_a_conflict(world, shop, again):
    session, product = shop
    first = record(world.service, session, product, "19.90", order_reference="A-1001")
    for api in (world.service, world.influencer.api):
        with pytest.raises(RequestError) as refusal:
            record(api, session, product, again.get("amount", "19.90"), order_reference="A-1001", quantity=again.get("quantity", 1))
        error = refusal.value
        assert (error.sqlstate, error.message) == ("PT409", f"order {first['id']} was recorded with another product, amount, quantity or reference")
        assert "amount 19.90 and quantity 1" in error.detail and error.hint
    assert numbers(world, session, product) == (1, 1, Decimal("19.90"), 1, Decimal("19.90"))


def test_an_order_is_sent_twice_by_its_id(world, shop):
    session, product = shop
    id = str(uuid.uuid4())
    first = record(world.service, session, product, 10, id=id)
    assert record(world.service, session, product, 10, id=id) == first
    with refused("PT409", f"order {id} was recorded with another"):
        record(world.service, session, _product(world, session), 10, id=id)
    with refused("PT409", f"order {id} was recorded with another"):
        record(world.service, session, product, 10, id=id, order_reference="another")
    elsewhere = world.new_influencer()
    theirs = world.session(by=elsewhere)
    with refused("23505", f"the id {id} is that of an order in another session"):
        record(elsewhere.api, theirs, world.product(theirs, by=elsewhere), 10, id=id)
    assert numbers(world, session, product)[0] == 1


def _product(world, session):
    """A product that the server adds."""
    return world.service.insert(
        "live_stream_products", {"session_id": session["id"], "product_id": world.new_product()}
    )


def test_an_id_that_is_taken_is_a_conflict(world, shop):
    session, product = shop
    other = world.session(by=world.new_influencer())
    there = record(world.service, other, _product(world, other))
    with refused("23505", f"the id {there['id']} is that of an order in another session", hint=True):
        record(world.service, session, product, id=there["id"])
    assert numbers(world, session, product) == (0, 0, 0, 0, 0)


def test_a_reference_counts_once_from_many_connections(world, shop):
    session, product = shop
    found, errors = [], []

    def attempt():
        try:
            found.append(record(world.service, session, product, 10.01, order_reference="order-1")["id"])
        except Exception as error:  # seen below
            errors.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and len(found) == 12 and len(set(found)) == 1
    assert numbers(world, session, product) == (1, 1, Decimal("10.01"), 1, Decimal("10.01"))


def test_orders_of_several_products_at_once(world):
    """Statements that meet on the same products and session wait for each other, and none for good."""
    session = world.session()
    products = [world.product(session) for _ in range(3)]
    errors = []

    def attempt(number):
        rows = [
            {"session_id": session["id"], "product_id": product["product_id"], "amount": 0.1}
            for product in (products if number % 2 else products[::-1])
        ]
        for _ in range(15):
            try:
                world.service.insert("live_stream_orders", rows if number < 2 else rows[-1])
            except Exception as error:  # seen below
                errors.append(error)

    threads = [threading.Thread(target=attempt, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    rest(world.db)
    totals = world.read(session)
    assert (totals["total_orders"], totals["total_revenue"]) == (120, 12)


def test_cents_are_exact(world, shop):
    session, product = shop
    amounts = [Decimal("0.10"), Decimal("0.20"), Decimal("0.01"), Decimal("19.99"), Decimal("99999999.99")]
    for amount in amounts:
        record(world.service, session, product, str(amount))
    total = sum(amounts)
    assert numbers(world, session, product) == (5, 5, total, 5, total)
    body = {"session_id": session["id"], "product_id": product["product_id"], "amount": 0.07}
    world.service.insert("live_stream_orders", [body] * 100)
    assert numbers(world, session, product)[2::2] == (total + 7, total + 7)


@pytest.mark.parametrize(
    "args, sqlstate, words",
    [
        ({"amount": -0.01}, "23514", "amount"),
        ({"amount": "NaN"}, "23514", "amount"),
        ({"amount": None}, "23502", "amount"),
        ({"amount": "Infinity"}, "22003", "amount of the order cannot be Infinity"),
        ({"amount": 1e10}, "22003", "amount of the order cannot be"),
        ({"quantity": 0}, "23514", "quantity"),
        ({"quantity": -5}, "23514", "quantity"),
        ({"quantity": 100_001}, "23514", "quantity of an order cannot be 100001"),
        ({"quantity": 2**31}, "22003", ""),
        ({"product_id": None}, "23502", "product_id"),
        ({"product_id": "00000000-0000-0000-0000-000000000000"}, "23503", "is not in session"),
        ({"viewer_id": "00000000-0000-0000-0000-000000000000"}, "23503", "is not in session"),
        ({"order_reference": "x" * 256}, "23514", "order_reference of the order is too long"),
        ({"session_id": None}, "22023", "session_id"),
        ({"session_id": "00000000-0000-0000-0000-000000000000"}, "PT404", "does not exist"),
    ],
)
def test_nonsense_is_refused(world, shop, args, sqlstate, words):
    session, product = shop
    with refused(sqlstate, words):
        record(world.influencer.api, session, product, **args)
    assert numbers(world, session, product) == (0, 0, 0, 0, 0)


def test_a_buyer_without_an_account(world, shop, db):
    """Where there are accounts, the server names one of them."""
    session, product = shop
    buyer = str(uuid.uuid4())
    if not db.is_supabase:
        assert record(world.service, session, product, user_id=buyer)["user_id"] == buyer
        return
    with refused("23503", f"user {buyer} does not exist", hint=True):
        record(world.service, session, product, user_id=buyer)


def test_a_viewer_of_another_session_orders_nothing_here(world, shop):
    session, product = shop
    other = world.session(by=world.new_influencer())
    with refused("23503", "is not in session", hint=True):
        record(world.influencer.api, session, product, viewer_id=world.join(other)["id"])


def test_the_database_says_when_a_host_sold(world, shop):
    session, product = shop
    body = {"session_id": session["id"], "product_id": product["product_id"], "amount": 1, "created_at": "1999-01-01T00:00:00Z"}
    order = world.influencer.api.insert("live_stream_orders", body)
    assert order["created_at"] > product["created_at"]
    # The server brings older ones along, and leaves them.
    old = world.service.insert("live_stream_orders", body)
    assert old["created_at"].startswith("1999-01-01")
    patch = {"created_at": "2001-01-01T00:00:00Z"}
    assert world.service.update("live_stream_orders", patch, where={"id": old["id"]}, one=True)["created_at"] == old["created_at"]
    for never in ("infinity", "-infinity"):
        with refused("23514", "created_at", hint=True):
            world.service.insert("live_stream_orders", body | {"created_at": never})
    assert numbers(world, session, product)[0] == 2


def test_a_host_names_who_was_there(world, shop):
    """What names somebody is in that person's list."""
    session, product = shop
    body = {"session_id": session["id"], "product_id": product["product_id"], "amount": 1}
    for somebody in (world.stranger.user_id, str(uuid.uuid4()), world.influencer.user_id):
        for attempt in (
            lambda: record(world.influencer.api, session, product, user_id=somebody),
            lambda: world.influencer.api.insert("live_stream_orders", body | {"user_id": somebody}),
            lambda: world.influencer.api.insert("live_stream_orders", [body, body | {"user_id": somebody}]),
        ):
            with refused("23503", f"user {somebody} has not joined session {session['id']}", hint=True):
                attempt()
    elsewhere = world.session(by=world.new_influencer())
    world.join(elsewhere, world.stranger)
    with refused("23503", "has not joined", hint=True):
        record(world.influencer.api, session, product, user_id=world.stranger.user_id)
    assert world.stranger.api.select("live_stream_orders") == [] and numbers(world, session, product)[0] == 0
    # Who has left was there.
    viewer = world.join(session, world.viewer)
    world.leave(viewer, world.viewer)
    assert record(world.influencer.api, session, product, user_id=world.viewer.user_id)["viewer_id"] == viewer["id"]
    # The server names anybody.
    assert record(world.service, session, product, user_id=world.stranger.user_id)["viewer_id"] is None


def test_a_host_names_one_person(world, shop):
    session, product = shop
    viewer, other, anonymous = world.join(session, world.viewer), world.join(session, world.stranger), world.join(session)
    with refused("23503", f"viewer {viewer['id']} is not user {world.stranger.user_id}", hint=True):
        record(world.influencer.api, session, product, viewer_id=viewer["id"], user_id=world.stranger.user_id)
    somebody = world.new_user().user_id
    with refused("23503", "has not joined", hint=True):
        record(world.influencer.api, session, product, viewer_id=anonymous["id"], user_id=somebody)
    # Who watched without an account and with one.
    order = record(world.influencer.api, session, product, viewer_id=anonymous["id"], user_id=world.stranger.user_id)
    assert (order["viewer_id"], order["user_id"]) == (anonymous["id"], other["user_id"])
    order = record(world.service, session, product, viewer_id=viewer["id"], user_id=somebody)
    assert (order["viewer_id"], order["user_id"]) == (viewer["id"], somebody)


def test_revenue_that_does_not_fit_is_refused(world, shop):
    session, product = shop
    record(world.service, session, product, 9_999_999_999.99)
    with refused("22003", f"a number of product {product['id']} would be too large", hint=True):
        record(world.service, session, product, 0.01)
    assert numbers(world, session, product)[0] == 1


def test_a_product_with_orders_stays(world, shop):
    session, product = shop
    order = record(world.service, session, product)
    for who in (world.influencer.api, world.service):
        with refused("23503", "has orders", hint=True):
            who.delete("live_stream_products", where={"id": product["id"]})
    if world.db.is_supabase:
        with refused("23503", "has orders", hint=True):
            world.service.delete("products", where={"id": product["product_id"]})
    assert numbers(world, session, product)[0] == 1
    world.service.delete("live_stream_orders", where={"id": order["id"]})
    assert len(world.influencer.api.delete("live_stream_products", where={"id": product["id"]})) == 1


@own_db("counts or changes all that is there")
def test_a_session_goes_with_its_orders_where_the_server_says_so(world, shop):
    session, product = shop
    record(world.service, session, product, viewer_id=world.join(session)["id"])
    world.service.delete("live_stream_sessions", where={"id": session["id"]})
    for table in ("sessions", "viewers", "products", "orders"):
        assert world.db.value(f"select count(*) from public.live_stream_{table}") == 0


@pytest.mark.parametrize("status", ["scheduled", "live", "ended", "cancelled"])
def test_a_host_does_not_delete_what_was_paid(world, status):
    session = world.session(live=status in ("live", "ended"))
    other, product = world.session(live=False), world.product(session)
    if status in ("ended", "cancelled"):
        world.set_session(session, status=status)
    order = record(world.service, session, product)
    for where in ({"id": session["id"]}, {"influencer_id": session["influencer_id"]}):
        with refused("23503", f"session {session['id']} has orders", hint=True):
            world.influencer.api.delete("live_stream_sessions", where=where)
    assert world.influencer.api.delete("live_stream_sessions", where={"id": other["id"]})
    assert [row["id"] for row in world.service.select("live_stream_orders", where={"session_id": session["id"]})] == [order["id"]]
    world.service.delete("live_stream_orders", where={"id": order["id"]})
    assert world.influencer.api.delete("live_stream_sessions", where={"id": session["id"]})


def goodbye(db, table, column, as_owner):
    """A function of the app's by which a signed-in person takes its own row away."""
    db.sql(f"""create or replace function public.goodbye() returns void language sql set search_path = ''
               security {"definer" if as_owner else "invoker"}
               as $$ delete from {table} where {column} = live_stream.uid() $$""")
    db.reload_schema()


@own_db("makes a function, and lets people delete influencers")
@pytest.mark.parametrize("as_owner", [True, False])
def test_no_host_takes_orders_along_with_itself(db, world, shop, as_owner):
    """What is deleted by a foreign key is deleted as the owner of the table, whoever began."""
    session, product = shop
    order = record(world.service, session, product)
    db.sql("grant select, delete on public.influencers to authenticated")
    db.sql("alter table public.influencers disable row level security")
    tables = [("public.influencers", "user_id")] + ([("auth.users", "id")] if db.is_supabase and as_owner else [])
    for table, column in tables:
        goodbye(db, table, column, as_owner)
        with refused("23503", f"session {session['id']} has orders", hint=True):
            world.influencer.api.rpc("goodbye")
    if not as_owner:
        with refused("23503", "has orders", hint=True):
            world.influencer.api.delete("influencers", where={"id": world.influencer.influencer_id})
    assert world.service.select("live_stream_orders", "id") == [{"id": order["id"]}]
    # One without orders goes with all it has.
    other = world.new_influencer()
    world.session(by=other)
    other.api.rpc("goodbye")
    assert world.service.select("live_stream_sessions", where={"influencer_id": other.influencer_id}) == []
    db.owner("delete from public.influencers where id = %s", [world.influencer.influencer_id])
    assert world.service.select("live_stream_orders") == []


@own_db("makes a trigger")
def test_a_trigger_of_the_apps_is_no_way_around(db, world, shop):
    session, product = shop
    record(world.service, session, product)
    db.owner("""create function public.clear() returns trigger language plpgsql security definer as $$
                begin delete from public.live_stream_sessions where id = old.session_id; return null; end $$""")
    db.owner("create trigger clear after delete on public.live_stream_products"
             " for each row when (pg_trigger_depth() = 0) execute function public.clear()")  # fmt: skip
    another = world.product(session)
    with refused("23503", f"session {session['id']} has orders", hint=True):
        world.influencer.api.delete("live_stream_products", where={"id": another["id"]})
    world.service.delete("live_stream_products", where={"id": another["id"]})
    assert world.service.select("live_stream_sessions", where={"id": session["id"]}) == []


@pytest.mark.parametrize("level", ["read committed", "repeatable read"])
def test_a_host_deletes_as_an_order_comes(world, shop, level):
    session, product = shop
    delete = "delete from public.live_stream_sessions where id = %s"
    with Steps(world.db) as steps:
        host, server = steps.client(world.influencer), steps.client("service_role")
        host.run(f"set transaction isolation level {level}")
        host.run("select from public.live_stream_sessions")
        server.run("select from public.live_stream_record_order(%s, %s, 10)", [session["id"], product["product_id"]])
        gone = host.start(delete, [session["id"]])
        host.waits()
        server.commit()
        assert sqlstate(gone) == ("23503" if level == "read committed" else "40001")
        # The other way round: who deletes has the session, and is waited for.
        other = world.session(live=False)
        another = world.product(other)
        host.run(delete, [other["id"]])
        order = server.start("select from public.live_stream_record_order(%s, %s, 10)", [other["id"], another["product_id"]])
        server.waits()
        host.rollback()
        assert sqlstate(order) is None
    assert numbers(world, session, product)[0] == numbers(world, other, another)[0] == 1


def test_a_viewer_goes_and_its_orders_stay(world, shop):
    session, product = shop
    viewer = world.join(session, world.viewer)
    order = record(world.service, session, product, viewer_id=viewer["id"])
    world.service.delete("live_stream_viewers", where={"id": viewer["id"]})
    (row,) = world.service.select("live_stream_orders", where={"id": order["id"]})
    assert row["viewer_id"] is None and row["user_id"] == world.viewer.user_id
    assert numbers(world, session, product) == (1, 1, Decimal(10), 1, Decimal(10))


def test_orders_come_in_after_the_stream(world, shop):
    session, product = shop
    world.end(session)
    record(world.service, session, product, 25)
    assert numbers(world, session, product) == (1, 1, Decimal(25), 1, Decimal(25))
