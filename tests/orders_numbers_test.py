"""The numbers that orders keep: what anybody writes into a product stops no order, no correction and no deletion of one."""

from __future__ import annotations

import random
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import psycopg
import pytest

from crowds import SEED
from people import people
from postgrest import RequestError
from recount import differences, rest
from refusals import refused
from sizes import both_shapes, own_db, scale
from steps import Steps, sqlstate

pytestmark = both_shapes

# What a host may bring them to.
MOST, MOST_REVENUE = 1_000_000_000, 5_000_000_000
LARGEST = {"orders": 2**31 - 1, "sold_quantity": 2**31 - 1, "revenue": "9999999999.99"}
# Of them, those that the host writes where there are no orders.
BY_HAND = {"orders": 5, "revenue": 50}
SOLD = ("orders", "sold_quantity", "revenue")


def record(api, product, amount=10, **args):
    names = {"session_id": product["session_id"], "product_id": product["product_id"], "amount": amount}
    return api.rpc("live_stream_record_order", names | args)


def numbers(db, product):
    (row,) = db.sql("select orders, sold_quantity, revenue from public.live_stream_products where id = %s", [product["id"]])
    return tuple(row.values())


def patch(api, product, **columns):
    where = {"session_id": product["session_id"], "product_id": product["product_id"]}
    return api.update("live_stream_products", columns, where=where, one=True)


@pytest.fixture
def product(world):
    return world.product(world.session())


# What is written where there are orders.


@pytest.mark.parametrize("who", ["host", "server"])
@pytest.mark.parametrize("base", [{}, BY_HAND], ids=["", "by hand before"])
@pytest.mark.parametrize("written", [
    {"orders": 0, "revenue": 0, "sold_quantity": 0}, {"revenue": 0}, LARGEST, {"orders": -1, "revenue": "NaN"},
], ids=["nothing", "no revenue", "the largest", "nonsense"])  # fmt: skip
def test_what_is_written_stops_no_order(world, written, base, who):
    product = world.product(world.session(), **base)
    before = (base.get("orders", 0), 0, Decimal(base.get("revenue", 0)))
    first, second = record(world.service, product, 8, quantity=2), record(world.service, product, 1.5)
    api = world.influencer.api if who == "host" else world.service
    row = patch(api, product, clicks=7, **written)
    assert (row["clicks"], row["orders"], row["sold_quantity"]) == (7, before[0] + 2, 3)
    assert Decimal(str(row["revenue"])) == before[2] + Decimal("9.5")
    third = record(world.service, product, 2)
    where = {"id": first["id"]}
    world.service.update("live_stream_orders", {"amount": 3, "quantity": 1}, where=where, one=True)
    assert numbers(world.db, product) == (before[0] + 3, 3, before[2] + Decimal("6.5"))
    patch(api, product, **written)
    for order in (first, second, third):
        assert len(world.service.delete("live_stream_orders", where={"id": order["id"]})) == 1
    assert numbers(world.db, product) == before
    assert differences(world.db) == []


def test_without_orders_it_is_the_host_who_counts(world, product):
    row = patch(world.influencer.api, product, clicks=3, orders=2, revenue=20)
    assert (row["clicks"], row["orders"], row["revenue"]) == (3, 2, 20)
    order = record(world.influencer.api, product, 5, quantity=4)
    assert numbers(world.db, product) == (3, 4, 25)
    assert patch(world.influencer.api, product, orders=0)["orders"] == 3
    world.service.delete("live_stream_orders", where={"id": order["id"]})
    assert patch(world.influencer.api, product, orders=0, revenue=0)["orders"] == 0
    assert numbers(world.db, product) == (0, 0, 0)
    assert patch(world.service, product, sold_quantity=9, orders=1)["sold_quantity"] == 9
    assert differences(world.db) == []


def test_saved_again_and_featured_again(world, product):
    record(world.service, product, 5)
    body = {"session_id": product["session_id"], "product_id": product["product_id"], "orders": 0, "revenue": 0, "clicks": 4}
    columns, values = ", ".join(body), list(body.values())
    again = ", ".join(f"{name} = excluded.{name}" for name in body)
    with Steps(world.db) as steps:
        host = steps.client(world.influencer)
        host.run(
            f"insert into public.live_stream_products ({columns}) values (%s, %s, %s, %s, %s)"
            f" on conflict (session_id, product_id) do update set {again}",
            values,
        )
        host.commit()
    names = {name: product[name] for name in ("session_id", "product_id")}
    row = world.influencer.api.rpc("live_stream_feature_product", live_stream_price=1, **names)
    assert (row["clicks"], row["orders"], row["revenue"], row["live_stream_price"]) == (4, 1, 5, 1)
    assert differences(world.db) == []


def test_a_product_with_orders_is_no_other_one(world, product):
    order = record(world.service, product)
    other = world.session(live=False)
    changes = [(world.service, {"session_id": other["id"]})]
    changes += [(api, {"product_id": world.new_product()}) for api in (world.influencer.api, world.service)]
    for api, change in changes:
        with refused("23503", "has orders in session", hint=True):
            api.update("live_stream_products", change, where={"id": product["id"]})
    record(world.service, product)
    world.service.delete("live_stream_orders", where={"session_id": product["session_id"]})
    for api, change in changes[:2]:
        api.update("live_stream_products", change, where={"id": product["id"]}, one=True)
    assert order["id"] and differences(world.db) == []


def test_one_statement_that_deletes_orders_and_writes_their_product(world, product):
    for base in (0, 3):
        patch(world.service, product, orders=base, sold_quantity=base)
        record(world.service, product)
        world.db.sql(
            """with gone as (delete from public.live_stream_orders where session_product_id = %s returning 1)
               update public.live_stream_products set orders = 0, revenue = 0, sold_quantity = 0
                where id = %s and (select count(*) from gone) > 0""",
            [product["id"], product["id"]],
        )
        assert numbers(world.db, product) == (0, 0, 0)
        assert differences(world.db) == []


@own_db("truncates")
def test_all_orders_go_after_the_host_wrote(db, world):
    product = world.product(world.session(), **BY_HAND)
    record(world.service, product, 8, quantity=2)
    patch(world.influencer.api, product, orders=0, revenue=0)
    db.owner("truncate public.live_stream_orders")
    assert numbers(db, product) == (5, 0, 50) and differences(db) == []


# At the same time.

ZERO = "update public.live_stream_products set orders = 0, revenue = 0 where id = %s returning orders"
ORDER = "select * from public.live_stream_record_order(%s, %s, 10)"


@pytest.mark.parametrize("order_first", [True, False])
def test_the_host_writes_as_the_first_order_comes(world, order_first):
    product = world.product(world.session(), orders=4)
    names = [product["session_id"], product["product_id"]]
    with Steps(world.db) as steps:
        host, server = steps.client(world.influencer), steps.client("service_role")
        if order_first:
            server.run(ORDER, names)
            written = host.start(ZERO, [product["id"]])
            host.waits()
            server.commit()
            assert written.result() == [{"orders": 5}]
        else:
            assert host.run(ZERO, [product["id"]]) == [{"orders": 0}]
            server.start(ORDER, names)
            server.waits()
            host.commit()
            server.task.result()
    assert numbers(world.db, product)[0] == (5 if order_first else 1)
    world.service.delete("live_stream_orders", where={"session_id": product["session_id"]})
    assert numbers(world.db, product) == (4 if order_first else 0, 0, 0)
    assert differences(world.db) == []


@pytest.mark.parametrize("delete_first", [True, False])
def test_the_host_writes_as_the_last_order_goes(world, delete_first):
    product = world.product(world.session())
    order = record(world.service, product)
    delete = "delete from public.live_stream_orders where id = %s"
    with Steps(world.db) as steps:
        host, server = steps.client(world.influencer), steps.client("service_role")
        first, second = (server, host) if delete_first else (host, server)
        statements = {server: (delete, [order["id"]]), host: (ZERO, [product["id"]])}
        first.run(*statements[first])
        second.start(*statements[second])
        second.waits()
        first.commit()
        second.task.result()
    assert numbers(world.db, product) == (0, 0, 0) and differences(world.db) == []


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_the_host_writes_with_a_view_from_before_the_order(world, level):
    """It is told to try again, as others are."""
    product = world.product(world.session())
    with Steps(world.db) as steps:
        host = steps.client(world.influencer)
        host.run(f"set transaction isolation level {level}")
        host.run("select orders from public.live_stream_products where id = %s", [product["id"]])
        order = record(world.service, product)
        assert host.start(ZERO, [product["id"]]).exception().sqlstate == "40001"
    world.service.delete("live_stream_orders", where={"id": order["id"]})
    assert numbers(world.db, product) == (0, 0, 0) and differences(world.db) == []


# Room for others.


@pytest.mark.parametrize("column", ["clicks", "orders", "likes", "comments", "revenue"])
def test_the_host_leaves_room_in_a_product(world, column):
    most = MOST_REVENUE if column == "revenue" else MOST
    session = world.session()
    product = world.product(session, **{column: most})
    for largest in (most + 1, 2**31 - 1 if column != "revenue" else 9_999_999_999):
        with refused("23514", f"{column} cannot be {largest}", hint=True):
            patch(world.influencer.api, product, **{column: largest})
        with refused("23514", f"{column} cannot be {largest}", hint=True):
            world.product(session, **{column: largest})
    record(world.service, product, 1000, quantity=100_000)
    row = world.viewer.api.rpc("live_stream_track_click", session_product_id=product["id"])
    assert row["clicks"] == (most + 1 if column == "clicks" else 1)
    # What others have added is not the host's fault.
    assert patch(world.influencer.api, product, live_stream_price=3)["live_stream_price"] == 3
    assert differences(world.db) == []


@pytest.mark.parametrize("column", ["clicks", "orders", "revenue"])
def test_the_host_leaves_room_in_a_session(world, column):
    most = MOST_REVENUE if column == "revenue" else MOST
    session = world.session()
    first = world.product(session, **{column: most - 10})
    second = world.product(session)
    patch(world.influencer.api, second, **{column: 10})
    for attempt in (
        lambda: world.product(session, **{column: 1}),
        lambda: patch(world.influencer.api, second, **{column: 11}),
        lambda: world.influencer.api.update("live_stream_products", {column: most - 10}, where={"session_id": session["id"]}),
    ):
        with refused("22003", f"a number of session {session['id']} would be too large", hint=True):
            attempt()
    patch(world.influencer.api, second, **{column: 9})
    for product in (first, second):
        order = record(world.service, product, "9999999.99", quantity=100_000)
        world.anon.rpc("live_stream_track_click", session_product_id=product["id"])
        world.service.update("live_stream_orders", {"amount": 0.01}, where={"id": order["id"]}, one=True)
        world.service.delete("live_stream_orders", where={"id": order["id"]})
    # What the server writes goes as far as the column.
    patch(world.service, second, **{column: most})
    assert differences(world.db) == []


FILL = {
    "clicks": "update public.live_stream_products set clicks = {most} where id = %(id)s",
    "orders": "update public.live_stream_products set orders = {most} where id = %(id)s",
    "revenue": "update public.live_stream_products set revenue = {money} where id = %(id)s",
    "orders of its own": "insert into public.live_stream_orders (session_id, product_id, amount)"
                         " values (%(session_id)s, %(product_id)s, {money})",
    "upsert": "insert into public.live_stream_products (session_id, product_id) values (%(session_id)s, %(product_id)s)"
              " on conflict (session_id, product_id) do update set revenue = {money}",
    "another product": "insert into public.live_stream_products (session_id, product_id, orders)"
                       " values (%(session_id)s, %(another)s, {most})",
}  # fmt: skip


def fill(world, product, kind):
    names = {name: product[name] for name in ("id", "session_id", "product_id")} | {"another": world.new_product()}
    return FILL[kind].format(most=MOST, money=MOST_REVENUE), names


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
@pytest.mark.parametrize("kind", FILL)
def test_a_host_leaves_room_in_a_session_with_requests_at_once(world, kind, level):
    """Each on a product of its own, and each fits alone."""
    session = world.session()
    products = [world.product(session) for _ in range(3)]
    fills = [fill(world, product, kind) for product in products]
    with Steps(world.db) as steps:
        hosts = [steps.client(world.influencer) for _ in products]
        for host in hosts:
            host.run(f"set transaction isolation level {level}")
            host.run("select from public.live_stream_products")
        hosts[0].run(*fills[0])
        others = [host.start(*each) for host, each in zip(hosts[1:], fills[1:])]
        for host in hosts[1:]:
            host.waits()
        # Who does not raise them waits for nobody, nor do other sessions of the host.
        product, other = world.product(session), world.product(world.session(live=False))
        patch(world.influencer.api, product, live_stream_price=1)
        record(world.service, product)
        patch(world.influencer.api, other, orders=MOST)
        world.anon.rpc("live_stream_track_click", session_product_id=product["id"])
        first = steps.threads.submit(hosts[0].commit)
        outcomes = [sqlstate(task) for task in (first, *others)]
    assert outcomes == [None, "22003", "22003"] or level != "read committed"
    assert set(outcomes) <= {None, "22003", "40001"} and outcomes.count(None) < 2
    for product in products[1:]:
        record(world.service, product, 9_999_999.99, quantity=100_000)
        world.anon.rpc("live_stream_track_click", session_product_id=product["id"])
    rest(world.db)
    assert differences(world.db) == []


def test_a_host_leaves_room_in_small_steps(world):
    """Also where the session's row does not say yet what others have added."""
    session = world.session()
    nearly = {"clicks": MOST - 1_500, "orders": MOST - 1_500, "revenue": MOST_REVENUE - 1_500}
    world.product(session, **nearly)
    products = [world.product(session) for _ in range(3)]
    for product, refusal in zip(products, (None, "22003", "22003")):
        step = {"clicks": 1_000, "orders": 1_000, "revenue": 1_000}
        if refusal is None:
            patch(world.influencer.api, product, **step)
        else:
            with refused(refusal, "a number of session", hint=True):
                patch(world.influencer.api, product, **step)
    patch(world.influencer.api, products[1], clicks=500, orders=500, revenue=500)
    assert differences(world.db) == []


def test_a_host_and_its_own_orders_leave_room(world, product):
    record(world.influencer.api, product, MOST_REVENUE)
    with refused("22003", f"a number of product {product['id']} would be too large", hint=True):
        record(world.influencer.api, product, 0.01)
    another = world.product({"id": product["session_id"]})
    with refused("22003", "a number of session", hint=True):
        record(world.influencer.api, another, 100_000)
    record(world.service, product, 1000)
    record(world.service, another, MOST_REVENUE - 1000.01)
    with refused("22003", "too large", hint=True):
        record(world.service, product, 0.02)
    assert differences(world.db) == []


def test_pieces_are_bounded_and_leave_room(world, product):
    names = {"session_id": product["session_id"], "product_id": product["product_id"], "amount": 0, "quantity": 100_000}
    for _ in range(100):
        world.influencer.api.insert("live_stream_orders", [names] * 100, select=None)
    assert numbers(world.db, product) == (10_000, MOST, 0)
    with refused("22003", f"a number of product {product['id']} would be too large", hint=True):
        record(world.influencer.api, product)
    assert record(world.service, product, quantity=100_000)["quantity"] == 100_000
    assert numbers(world.db, product)[1] == MOST + 100_000


@pytest.mark.parametrize("quantity", [100_001, 2**31 - 1, 0, -1])
def test_nobody_orders_so_many(world, product, quantity):
    order = record(world.service, product, quantity=100_000)
    for api in (world.influencer.api, world.service):
        with refused("23514", f"quantity of an order cannot be {quantity}", hint=True):
            record(api, product, quantity=quantity)
    with refused("23514", f"quantity of an order cannot be {quantity}", hint=True):
        world.service.update("live_stream_orders", {"quantity": quantity}, where={"id": order["id"]})
    assert numbers(world.db, product) == (1, 100_000, 10)


# At random.


@own_db("counts or changes all that is there")
def test_random_writes_stop_no_order(plain_db):
    """Whatever hosts write, the server's orders are recorded, corrected and deleted: 160 rounds of each, or 800."""
    db, world = plain_db, people(plain_db)
    session = world.session()
    products = [world.product(session, orders=n, revenue=n) for n in range(3)]
    failed, done = [], []

    def attempt(call, allowed):
        try:
            call()
            done.append(call)
        except (RequestError, psycopg.Error) as error:
            if error.sqlstate not in allowed or "Failing row" in str(error):
                failed.append(f"{error.sqlstate} {error}")

    def host(seed):
        pick = random.Random(seed)
        values = [0, 1, 7, MOST, MOST + 1, 2**31 - 1, -1]
        for _ in range(scale(160, 800)):
            product = pick.choice(products)
            kind = pick.random()
            if kind < 0.7:
                columns = pick.sample(["clicks", "orders", "sold_quantity", "likes", "views"], 3)
                body = {column: pick.choice(values) for column in columns}
                body |= {"revenue": pick.choice([0, 0.01, MOST_REVENUE, 9_999_999_999, -1])} if pick.random() < 0.7 else {}
                attempt(lambda: patch(world.influencer.api, product, **body), {"23514", "22003"})
            elif kind < 0.9:
                amount, quantity = pick.choice([0, 9.99, 12_000]), pick.choice([1, 2, 100_000, 2**31 - 1])
                attempt(lambda: record(world.influencer.api, product, amount, quantity=quantity), {"23514", "22003"})
            else:
                body = {"product_id": world.new_product(), "session_id": str(uuid.uuid4())}
                attempt(lambda: patch(world.influencer.api, product, **body), {"42501"})

    def server(seed):
        """A refusal for what was written is none of these; another server may have the order, or be waited for."""
        pick, orders = random.Random(seed), []
        for _ in range(scale(160, 800)):
            product, kind = pick.choice(products), pick.random()
            if kind < 0.4 or not orders:
                quantity = pick.choice([1, 2, 1000])
                attempt(lambda: orders.append(record(world.service, product, pick.choice([0, 0.01, 99]), quantity=quantity)), ())
            elif kind < 0.7:
                body = {"amount": pick.choice([0, 5, 1000]), "quantity": pick.choice([1, 3, 500])}
                attempt(lambda: world.service.update("live_stream_orders", body, where={"id": pick.choice(orders)["id"]}), ())
            elif kind < 0.95:
                attempt(lambda: world.service.delete("live_stream_orders", where={"id": orders.pop()["id"]}), ())
            else:
                attempt(lambda: patch(world.service, product, orders=0, revenue=0, sold_quantity=0), ())

    def viewer(seed):
        pick = random.Random(seed)
        for _ in range(scale(160, 800)):
            attempt(lambda: world.anon.rpc("live_stream_track_click", session_product_id=pick.choice(products)["id"]), ())

    with ThreadPoolExecutor(5) as threads:
        tasks = [threads.submit(run, SEED + n) for n, run in enumerate((host, host, server, server, viewer))]
        for task in tasks:
            task.result()
    assert failed == [] and len(done) > scale(450, 2_250)
    assert differences(db) == []
    short = """select p.orders, p.sold_quantity, p.revenue, o.* from public.live_stream_products p
               cross join lateral (select count(*) as rows, coalesce(sum(quantity), 0) as pieces, coalesce(sum(amount), 0) as paid
                                     from public.live_stream_orders where session_product_id = p.id) as o
                where p.orders < o.rows or p.sold_quantity <> o.pieces or p.revenue < o.paid"""
    assert db.sql(short) == []
    db.sql("delete from public.live_stream_orders")
    assert differences(db) == []
    assert db.value("select count(*) from public.live_stream_products where sold_quantity <> 0") == 0
