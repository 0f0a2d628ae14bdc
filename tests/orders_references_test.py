"""The shop's numbers of orders: those that people take for the same are the same."""

from __future__ import annotations

import pytest

from recount import differences
from refusals import refused


def record(api, session, product, amount=10, **args):
    names = {"session_id": session["id"], "product_id": product["product_id"], "amount": amount}
    return api.rpc("live_stream_record_order", names | args)


@pytest.fixture
def shop(world):
    session = world.session()
    return session, world.product(session)


@pytest.mark.parametrize("way", ["function", "insert", "upsert", "update"])
@pytest.mark.parametrize("kept, sent", [
    ("Z1", ["Z1\u200b", "\ufeffZ1", "Z\u20601", "Z1\n", "\u00a0Z1\t", "Z1\u00ad"]),
    ("caf\u00e9 7", ["cafe\u0301 7", "caf\u00e9\u00a07", "cafe\u0301\u200b \u2003 7 "]),
])  # fmt: skip
def test_references_that_look_the_same_are_the_same(world, shop, kept, sent, way):
    session, product = shop
    first = record(world.service, session, product, 10, order_reference=kept)
    assert first["order_reference"] == kept
    body = {"session_id": session["id"], "product_id": product["product_id"], "amount": 10}
    other = record(world.service, session, product, 10, order_reference="another")
    for reference in sent:
        if way == "function":
            assert record(world.service, session, product, 10, order_reference=reference) == first
        elif way == "upsert":
            assert world.service.upsert("live_stream_orders", body | {"order_reference": reference}, on_conflict="session_id,order_reference,product_id", ignore=True) == []
        else:
            with refused("23505"):
                if way == "insert":
                    world.service.insert("live_stream_orders", body | {"order_reference": reference})
                else:
                    world.service.update("live_stream_orders", {"order_reference": reference}, where={"id": other["id"]})
    for different in ("z1", "Z 1", "cafe 7", "caf\u00e97"):
        assert record(world.service, session, product, 10, order_reference=different)["order_reference"] == different
    # Composed, a letter may be three.
    with refused("23514", "order_reference of the order is too long", hint=True):
        world.service.insert("live_stream_orders", body | {"order_reference": "\ufb2c" * 255})
    assert differences(world.db) == []
