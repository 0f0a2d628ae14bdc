"""The showcase: what may be written to a product, by whom, the counters and what follows from them."""

from __future__ import annotations

import threading
import uuid

import pytest

from recount import rest
from refusals import refused
from sizes import both_shapes

pytestmark = both_shapes

TRACKS = {
    "live_stream_track_view": "views",
    "live_stream_track_click": "clicks",
    "live_stream_track_add_to_cart": "add_to_cart",
    "live_stream_track_share": "shares",
}
TOTALS = ("total_products_showcased", "total_clicks", "total_orders", "total_revenue", "total_shares")


def totals(world, session):
    row = world.read(session)
    return tuple(row[column] for column in TOTALS)


def stored(world, product):
    (row,) = world.db.sql("select * from public.live_stream_products where id = %s", [product["id"]])
    return row


def feature(who, session, **args):
    return who.api.rpc("live_stream_feature_product", session_id=session["id"], **args)


def track(api, product, function="live_stream_track_click", **args):
    return api.rpc(function, session_product_id=product["id"], **args)


# What a product may be.

# Counted by the database: the host cannot write them.
TRACKED = {"views", "add_to_cart", "sold_quantity", "shares"}


@pytest.mark.parametrize("column", sorted(TRACKED))
def test_the_host_does_not_write_what_is_tracked(world, column):
    session = world.session()
    product = world.product(session, **{column: 77})
    assert product[column] == 0
    where = {"id": product["id"]}
    row = world.influencer.api.update("live_stream_products", {column: 77, "clicks": 5}, where=where, one=True)
    assert (row[column], row["clicks"]) == (0, 5)
    assert totals(world, session) == (1, 5, 0, 0, 0)


@pytest.mark.parametrize(
    "column, value",
    [
        ("original_price", -0.01),
        ("live_stream_price", -1),
        ("original_price", "NaN"),
        ("live_stream_price", "NaN"),
        ("discount_percentage", 100.01),
        ("discount_percentage", -1),
        ("discount_percentage", "NaN"),
        ("limited_quantity", -1),
        ("featured_duration_minutes", -1),
        ("clicks", -1),
        ("views", -1),
        ("add_to_cart", -1),
        ("orders", -1),
        ("sold_quantity", -1),
        ("likes", -1),
        ("comments", -1),
        ("shares", -1),
        ("revenue", -0.01),
        ("revenue", "NaN"),
    ],
)
def test_nonsense_is_refused_by_name(world, column, value):
    session = world.session()
    product = world.product(session)
    writer = world.service if column in TRACKED else world.influencer.api
    body = {"session_id": session["id"], "product_id": world.new_product(), column: value}
    with refused("23514", f"{column} cannot be", hint=True):
        writer.insert("live_stream_products", body)
    with refused("23514", f"{column} cannot be", hint=True):
        writer.update("live_stream_products", {column: value}, where={"id": product["id"]})
    assert totals(world, session) == (1, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "column, value, sqlstate",
    [
        ("live_stream_price", "Infinity", "22003"),
        ("live_stream_price", 100_000_000, "22003"),
        ("revenue", 1e15, "22003"),
        ("clicks", 2**31, "22003"),
        ("clicks", "many", "22P02"),
        ("clicks", None, "23502"),
        ("revenue", None, "23502"),
        ("featured_at", None, "23502"),
        ("featured_at", "infinity", "23514"),
        ("featured_at", "-infinity", "23514"),
    ],
)
def test_values_out_of_range_are_refused(world, column, value, sqlstate):
    session = world.session()
    product = world.product(session)
    with refused(sqlstate):
        world.influencer.api.update("live_stream_products", {column: value}, where={"id": product["id"]})
    assert totals(world, session) == (1, 0, 0, 0, 0)


def test_the_edges_are_allowed(world):
    session = world.session()
    free = world.product(session, original_price=0, live_stream_price=0, discount_percentage=100, limited_quantity=0)
    assert (free["live_stream_price"], free["discount_percentage"]) == (0, 100)
    dear = world.product(session, original_price=99_999_999.99, discount_percentage=0)
    assert dear["original_price"] == 99_999_999.99
    unknown = world.product(session, original_price=None, live_stream_price=None, limited_quantity=None)
    assert unknown["original_price"] is None


def test_a_product_is_in_a_session_once(world):
    session = world.session()
    product = world.product(session)
    with refused("23505"):
        world.product(session, product_id=product["product_id"])
    other = world.session(by=world.new_influencer(), live=False)
    with refused("42501"):
        world.product(other, product_id=product["product_id"])
    assert totals(world, session)[0] == 1


def test_a_product_of_the_shop_or_any_id_where_there_is_no_shop(world):
    session = world.session()
    if world.db.is_supabase:
        with refused("23503", "does not exist", hint=True):
            world.product(session, product_id=str(uuid.uuid4()))
        product = world.product(session)
        with refused("23503", "does not exist", hint=True):
            world.influencer.api.update("live_stream_products", {"product_id": str(uuid.uuid4())}, where={"id": product["id"]})
    else:
        world.product(session, product_id=str(uuid.uuid4()))


def test_a_product_needs_a_session_and_an_id(world):
    session = world.session()
    with refused("23502", "product_id", hint=True):
        world.influencer.api.insert("live_stream_products", {"session_id": session["id"]})
    with refused("23502", "session_id", hint=True):
        world.influencer.api.insert("live_stream_products", {"product_id": world.new_product()})
    with refused("PT404", "does not exist", hint=True):
        world.product({"id": str(uuid.uuid4())})


# Who may.


def test_strangers_change_nothing(world):
    session = world.session()
    product = world.product(session)
    body = {"session_id": session["id"], "product_id": world.new_product()}
    for who in (world.viewer, world.stranger, world.new_influencer()):
        with refused("42501", "is not the caller's", hint=True):
            who.api.insert("live_stream_products", body)
        with refused("42501", "is not the caller's", hint=True):
            feature(who, session, product_id=product["product_id"], live_stream_price=0)
        assert who.api.update("live_stream_products", {"clicks": 9}, where={"id": product["id"]}) == []
        assert who.api.delete("live_stream_products", where={"id": product["id"]}) == []
    for attempt in (
        lambda: world.anon.insert("live_stream_products", body),
        lambda: world.anon.update("live_stream_products", {"clicks": 9}, where={"id": product["id"]}),
        lambda: world.anon.delete("live_stream_products", where={"id": product["id"]}),
        lambda: world.anon.rpc("live_stream_feature_product", body),
    ):
        with refused("42501"):
            attempt()
    assert stored(world, product)["clicks"] == 0 and totals(world, session) == (1, 0, 0, 0, 0)


def test_a_private_session_is_not_there_for_strangers(world):
    session = world.session(visibility="private")
    product = world.product(session)
    with refused("PT404", "does not exist", hint=True):
        world.product(session, by=world.new_influencer())
    with refused("PT404", "does not exist", hint=True):
        feature(world.stranger, session, product_id=product["product_id"])
    for function in TRACKS:
        for who in (world.stranger.api, world.anon):
            with refused("PT404", "is in no session", hint=True):
                track(who, product, function)
        assert track(world.influencer.api, product, function)["id"] == product["id"]
        assert track(world.service, product, function)["id"] == product["id"]


def test_a_product_stays_in_its_session(world):
    session, other = world.session(), world.session(live=False)
    product = world.product(session)
    with refused("42501", "another session", hint=True):
        world.influencer.api.update(
            "live_stream_products", {"session_id": other["id"]}, where={"id": product["id"]}
        )
    assert totals(world, session)[0] == 1 and totals(world, other)[0] == 0


# Featuring.


def test_featuring_adds_and_features_again(world):
    session = world.session()
    product_id = world.new_product()
    first = feature(world.influencer, session, product_id=product_id, original_price=20, live_stream_price=15)
    assert (first["live_stream_price"], first["featured_duration_minutes"], first["display_order"]) == (15, 5, 0)
    again = feature(world.influencer, session, product_id=product_id, featured_duration_minutes=10)
    assert again["id"] == first["id"] and again["featured_at"] > first["featured_at"]
    assert (again["live_stream_price"], again["featured_duration_minutes"]) == (15, 10)
    assert totals(world, session)[0] == 1


def test_featuring_and_clicking_at_once(world):
    """Both lock the product and the session: in the same order."""
    session = world.session()
    product = world.product(session)
    errors = []

    def run(work):
        for _ in range(40):
            try:
                work()
            except Exception as error:  # seen below
                errors.append(error)

    works = [
        lambda: feature(world.influencer, session, product_id=product["product_id"], display_order=1),
        lambda: track(world.anon, product),
        lambda: track(world.anon, product),
    ]
    threads = [threading.Thread(target=run, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    rest(world.db)
    assert totals(world, session)[:2] == (1, 80)


# Counters.


def test_totals_follow_the_counters_up_and_down(world):
    session = world.session()
    one, two = world.product(session), world.product(session, clicks=5, revenue=0.1)
    assert totals(world, session) == (2, 5, 0, 0.1, 0)
    patch = {"clicks": 100, "orders": 7, "revenue": 0.2}
    world.influencer.api.update("live_stream_products", patch, where={"id": one["id"]}, one=True)
    assert totals(world, session) == (2, 105, 7, 0.3, 0)
    world.service.update("live_stream_products", {"shares": 3}, where={"id": one["id"]}, one=True)
    assert totals(world, session) == (2, 105, 7, 0.3, 3)
    world.service.update("live_stream_products", {"clicks": 1, "revenue": 12345.67}, where={"id": one["id"]}, one=True)
    assert totals(world, session) == (2, 6, 7, 12345.77, 3)
    world.influencer.api.delete("live_stream_products", where={"id": one["id"]})
    assert totals(world, session) == (1, 5, 0, 0.1, 0)
    world.influencer.api.delete("live_stream_products", where={"id": two["id"]})
    assert totals(world, session) == (0, 0, 0, 0, 0)


def test_one_statement_over_many_products(world):
    session = world.session()
    batch = [
        {"session_id": session["id"], "product_id": world.new_product(), "clicks": n, "revenue": f"{n}.01"}
        for n in range(10)
    ]
    world.influencer.api.insert("live_stream_products", batch)
    assert totals(world, session)[:4] == (10, 45, 0, 45.1)
    world.influencer.api.update("live_stream_products", {"clicks": 2, "orders": 1}, where={"session_id": session["id"]})
    assert totals(world, session)[:4] == (10, 20, 10, 45.1)
    world.influencer.api.delete("live_stream_products", where={"session_id": session["id"], "revenue gte": 5})
    assert totals(world, session)[:4] == (5, 10, 5, 10.05)


def test_totals_that_do_not_fit_are_refused_and_nothing_changes(world):
    """The server's: what a host may write ends before (orders_numbers_test.py)."""
    session = world.session()
    product = world.product(session)
    world.service.update("live_stream_products", {"clicks": 2**31 - 1}, where={"id": product["id"]}, one=True)
    body = {"session_id": session["id"], "product_id": world.new_product(), "clicks": 1}
    with refused("22003"):
        world.service.insert("live_stream_products", body)
    assert totals(world, session)[:2] == (1, 2**31 - 1)


def test_ids_and_times_stay(world):
    product = world.product(world.session())
    patch = {"id": str(uuid.uuid4()), "created_at": "2001-01-01T00:00:00Z", "updated_at": "2001-01-01T00:00:00Z"}
    row = world.influencer.api.update("live_stream_products", patch, where={"id": product["id"]}, one=True)
    assert row["id"] == product["id"] and row["created_at"] == product["created_at"]
    assert row["updated_at"] > product["updated_at"]


# Tracking.


@pytest.mark.parametrize("function", TRACKS)
def test_anybody_tracks(world, function):
    session = world.session()
    product = world.product(session)
    for n, who in enumerate((world.anon, world.stranger.api, world.influencer.api), start=1):
        row = track(who, product, function)
        assert row["id"] == product["id"] and row[TRACKS[function]] == n
    row = stored(world, product)
    assert {column: row[column] for column in TRACKS.values()} == {
        column: 3 if column == TRACKS[function] else 0 for column in TRACKS.values()
    }
    expected = {"live_stream_track_click": (1, 3, 0, 0, 0), "live_stream_track_share": (1, 0, 0, 0, 3)}
    assert totals(world, session) == expected.get(function, (1, 0, 0, 0, 0))


def test_clicks_count_for_the_viewer_who_clicks(world):
    session = world.session()
    product = world.product(session)
    viewer, anonymous, other = world.join(session, world.viewer), world.join(session), world.join(session, world.stranger)
    track(world.viewer.api, product)
    track(world.viewer.api, product, viewer_id=viewer["id"])
    track(world.anonymous(anonymous), product)
    track(world.anon, product, viewer_id=anonymous["id"])
    track(world.anon, product)
    # A viewer row of somebody else's is not there, and nothing is counted.
    for who in (world.viewer.api, world.anon):
        with refused("PT404", "does not exist", hint=True):
            track(who, product, viewer_id=other["id"])
    rows = world.influencer.api.select("live_stream_viewers", where={"session_id": session["id"]})
    clicks = {row["id"]: row["products_clicked"] for row in rows}
    assert clicks == {viewer["id"]: 2, anonymous["id"]: 2, other["id"]: 0}
    assert totals(world, session)[1] == 5


def test_a_viewer_of_another_session_is_not_credited(world):
    session, other = world.session(), world.session(by=world.new_influencer())
    product = world.product(session)
    elsewhere = world.join(other, world.viewer)
    track(world.viewer.api, product, viewer_id=elsewhere["id"])
    assert world.viewer.api.select("live_stream_viewers", where={"id": elsewhere["id"]})[0]["products_clicked"] == 0


@pytest.mark.parametrize("function", TRACKS)
@pytest.mark.parametrize("finish", ["ended", "cancelled"])
def test_a_finished_session_counts_nothing_more(world, finish, function):
    session = world.session(live=finish == "ended")
    product = world.product(session)
    world.set_session(session, status=finish)
    row = track(world.anon, product, function)
    assert row["id"] == product["id"] and row[TRACKS[function]] == 0
    assert totals(world, session) == (1, 0, 0, 0, 0)


def test_an_unlisted_session_is_tracked_by_the_products_id(world):
    session = world.session(visibility="unlisted")
    product = world.product(session)
    assert track(world.anon, product)["clicks"] == 1
    assert world.anon.select("live_stream_products", where={"id": product["id"]}) == []


@pytest.mark.parametrize("function", TRACKS)
def test_tracking_needs_a_product(world, function):
    with refused("22023", "must not be null", hint=True):
        world.anon.rpc(function, session_product_id=None)
    with refused("PT404", "is in no session", hint=True):
        world.anon.rpc(function, session_product_id=str(uuid.uuid4()))
    with refused("22P02"):
        world.anon.rpc(function, session_product_id="1 or 1=1")


def test_many_clicks_at_once_all_count(world):
    session = world.session()
    product = world.product(session)
    errors = []

    def clicks():
        for _ in range(20):
            try:
                track(world.anon, product)
            except Exception as error:  # seen below
                errors.append(error)

    threads = [threading.Thread(target=clicks) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    rest(world.db)
    assert stored(world, product)["clicks"] == 100 and totals(world, session)[1] == 100
