"""Orders: who records them, each counted once, what the numbers of product, viewer and session make of them."""

from __future__ import annotations

import threading
import uuid
from decimal import Decimal

import pytest

from recount import rest
from refusals import refused
from sizes import both_shapes, own_db

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
    by_host = record(world.influencer.api, session, product, 99, order_reference="order-1")
    assert first == again == by_host
    assert numbers(world, session, product) == (1, 1, Decimal(10), 1, Decimal(10))
    # References are a session's own; orders without one are each their own.
    other = world.session(by=world.new_influencer())
    elsewhere = record(world.service, other, _product(world, other), 1, order_reference="order-1")
    assert elsewhere["id"] != first["id"]
    record(world.service, session, product, 1)
    record(world.service, session, product, 1)
    assert numbers(world, session, product)[0] == 3


def _product(world, session):
    """A product that the server adds."""
    return world.service.insert(
        "live_stream_products", {"session_id": session["id"], "product_id": world.new_product()}
    )


def test_an_id_that_is_taken_is_a_conflict(world, shop):
    session, product = shop
    other = world.session(by=world.new_influencer())
    there = record(world.service, other, _product(world, other))
    with refused("23505"):
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
        ({"amount": "Infinity"}, "22003", ""),
        ({"amount": 1e10}, "22003", ""),
        ({"quantity": 0}, "23514", "quantity"),
        ({"quantity": -5}, "23514", "quantity"),
        ({"quantity": None}, "23502", "quantity"),
        ({"quantity": 2**31}, "22003", ""),
        ({"product_id": None}, "23502", "product_id"),
        ({"product_id": "00000000-0000-0000-0000-000000000000"}, "23503", "is not in session"),
        ({"viewer_id": "00000000-0000-0000-0000-000000000000"}, "23503", "is not in session"),
        ({"order_reference": "x" * 256}, "22001", ""),
        ({"session_id": None}, "22023", "session_id"),
        ({"session_id": "00000000-0000-0000-0000-000000000000"}, "PT404", "does not exist"),
    ],
)
def test_nonsense_is_refused(world, shop, args, sqlstate, words):
    session, product = shop
    with refused(sqlstate, words):
        record(world.influencer.api, session, product, **args)
    assert numbers(world, session, product) == (0, 0, 0, 0, 0)


def test_a_viewer_of_another_session_orders_nothing_here(world, shop):
    session, product = shop
    other = world.session(by=world.new_influencer())
    with refused("23503", "is not in session", hint=True):
        record(world.influencer.api, session, product, viewer_id=world.join(other)["id"])


def test_revenue_that_does_not_fit_is_refused(world, shop):
    session, product = shop
    record(world.service, session, product, 9_999_999_999.99)
    with refused("22003"):
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
def test_a_session_goes_with_its_orders(world, shop):
    session, product = shop
    record(world.service, session, product, viewer_id=world.join(session)["id"])
    world.influencer.api.delete("live_stream_sessions", where={"id": session["id"]})
    for table in ("sessions", "viewers", "products", "orders"):
        assert world.db.value(f"select count(*) from public.live_stream_{table}") == 0


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
