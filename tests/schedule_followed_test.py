"""A schedule that is changed: sessions that were made of it and are still scheduled look as it does, but for what the host
has made otherwise."""

from __future__ import annotations

import time

import pytest

from people import people
from putting import change, daily, ids, make, show
from scheduling import NOBODY
from sizes import own_db
from steps import Steps

pytestmark = own_db("counts or changes all that is there")


def planned(world, row):
    return [world.read({"id": one}) for one in ids(world, row)]


def shown(world, session):
    """Products of a session with their places."""
    rows = world.anon.select("live_stream_products", where={"session_id": session["id"] if isinstance(session, dict) else session}, order="display_order,product_id")
    return [(one["product_id"], one["display_order"]) for one in rows]


def in_order(products):
    return [(product, place) for place, product in enumerate(products, 1)]


@pytest.mark.parametrize("who", ["host", "service", "upsert", "sql"])
def test_the_sessions_of_eight_days_follow(supabase_db, who):
    world = people(supabase_db)
    lamp, chair, table = (world.new_product() for _ in range(3))
    row = daily(world, description="old", thumbnail_url="https://shop.example/old", products_to_showcase=[lamp, chair])
    other = daily(world, 1500, title="Other", description="old", products_to_showcase=[lamp])
    assert make(world, "8 days") == 15
    new = {"description": "new", "thumbnail_url": None, "products_to_showcase": [table, chair]}
    if who == "sql":
        supabase_db.owner("update public.live_stream_schedule set description = 'new', thumbnail_url = null, products_to_showcase = %s where id = %s", [[table, chair], row["id"]])
    elif who == "upsert":
        world.influencer.api.upsert("live_stream_schedule", {name: row[name] for name in ("id", "influencer_id", "title", "scheduled_date", "scheduled_start_time")} | new)
    else:
        (world.service if who == "service" else world.influencer.api).update("live_stream_schedule", new, where={"id": row["id"]})
    assert len(planned(world, row)) == 8
    for session in planned(world, row):
        assert (session["description"], session["thumbnail_url"]) == ("new", None)
        assert shown(world, session) == in_order([table, chair]) and session["total_products_showcased"] == 2
    for session in planned(world, other):
        assert session["description"] == "old" and shown(world, session) == in_order([lamp])
    assert world.db.sql("select * from live_stream.verify_metrics()") == []


def test_what_the_host_has_made_otherwise_stays(supabase_db):
    world = people(supabase_db)
    row = daily(world, description="old", thumbnail_url="https://shop.example/old")
    make(world)
    by_hand, picture, renamed, untouched = planned(world, row)
    world.set_session(by_hand, description="By hand")
    world.set_session(picture, thumbnail_url=None)
    world.set_session(renamed, title="Special")
    change(world, row, description="new", thumbnail_url="https://shop.example/new", title="New")
    found = [(one["title"], one["description"], one["thumbnail_url"]) for one in planned(world, row)]
    assert found == [
        ("New", "By hand", "https://shop.example/new"),
        ("New", "new", None),
        ("Special", "new", "https://shop.example/new"),
        ("New", "new", "https://shop.example/new"),
    ]
    # Nothing of it is the schedule's again by chance.
    change(world, row, description="By hand")
    change(world, row, description="third")
    assert [one["description"] for one in planned(world, row)] == ["third"] * 4
    change(world, row, description=None, products_to_showcase=None)
    assert [one["description"] for one in planned(world, row)] == [None] * 4


def test_only_what_is_still_scheduled(supabase_db):
    world = people(supabase_db)
    lamp, chair = world.new_product(), world.new_product()
    row = daily(world, description="old", products_to_showcase=[lamp])
    make(world)
    live, cancelled, *_ = planned(world, row)
    world.start(live), world.set_session(cancelled, status="cancelled")
    change(world, row, description="new", products_to_showcase=[chair])
    assert [(world.read(one)["description"], shown(world, one)) for one in (live, cancelled)] == [("old", in_order([lamp]))] * 2
    assert [(one["description"], shown(world, one)) for one in planned(world, row)] == [("new", in_order([chair]))] * 2


def test_products_that_the_host_has_touched(supabase_db):
    """Dropped by the schedule, they stay: with a price, clicks or orders, featured, or at another place; and those that the
    host has added, and taken away."""
    world = people(supabase_db)
    host = world.influencer.api
    products = [world.new_product() for _ in range(9)]
    priced, clicked, ordered, featured, put, taken_away, dropped, kept, added = products
    row = show(world, products_to_showcase=products[:8])
    make(world)
    (session,) = ids(world, row)
    row_of = lambda product: {"session_id": session, "product_id": product}  # noqa: E731
    host.update("live_stream_products", {"live_stream_price": 9}, where=row_of(priced))
    host.update("live_stream_products", {"clicks": 1}, where=row_of(clicked))
    world.service.rpc("live_stream_record_order", session_id=session, product_id=ordered, amount=5)
    host.rpc("live_stream_feature_product", session_id=session, product_id=featured)
    host.update("live_stream_products", {"display_order": 77}, where=row_of(put))
    host.delete("live_stream_products", where=row_of(taken_away))
    world.product({"id": session}, product_id=added, display_order=50)
    change(world, row, products_to_showcase=[kept])
    assert {product for product, _ in shown(world, session)} == {priced, clicked, ordered, featured, put, kept, added}
    assert dict(shown(world, session))[kept] == 1 and dict(shown(world, session))[added] == 50
    # Named by the schedule now, and there already: it is as the host has made it.
    change(world, row, products_to_showcase=[taken_away, added, kept, dropped])
    now = dict(shown(world, session))
    assert (now[taken_away], now[added], now[kept], now[dropped]) == (1, 50, 3, 4), "what comes anew is put in"
    host.delete("live_stream_products", where=row_of(taken_away))
    change(world, row, products_to_showcase=[kept, taken_away])
    assert taken_away not in dict(shown(world, session)), "what the host took away is not put back"
    assert dict(shown(world, session))[kept] == 1
    assert world.db.sql("select * from live_stream.verify_metrics()") == []


def test_a_list_with_the_same_twice_and_with_what_is_gone(supabase_db):
    world = people(supabase_db)
    lamp, chair = world.new_product(), world.new_product()
    row = show(world, products_to_showcase=[lamp])
    make(world)
    (session,) = ids(world, row)
    change(world, row, products_to_showcase=[chair, NOBODY, chair, lamp, lamp])
    assert shown(world, session) == [(chair, 1), (lamp, 4)]
    change(world, row, products_to_showcase=[])
    assert shown(world, session) == []


def test_where_there_is_no_shop(plain_db):
    world = people(plain_db)
    lamp, chair = world.new_product(), world.new_product()
    row = show(world, products_to_showcase=[lamp])
    make(world)
    change(world, row, products_to_showcase=[chair, lamp])
    assert shown(world, ids(world, row)[0]) == in_order([chair, lamp])


def test_undone(supabase_db):
    world = people(supabase_db)
    lamp, chair = world.new_product(), world.new_product()
    row = daily(world, description="old", products_to_showcase=[lamp])
    make(world)
    with Steps(supabase_db) as steps:
        host = steps.client(world.influencer)
        host.run("savepoint here")
        host.run("update public.live_stream_schedule set description = 'no', products_to_showcase = %s::uuid[]", [[chair]])
        host.run("rollback to here")
        host.run("update public.live_stream_schedule set description = 'new'")
        host.commit()
    assert [(one["description"], shown(world, one)) for one in planned(world, row)] == [("new", in_order([lamp]))] * 4


def test_one_statement_on_many_costs_what_they_are(supabase_db):
    world = people(supabase_db)
    supabase_db.set(planned_sessions_per_influencer=0)
    products = [world.new_product() for _ in range(10)]
    took = {}
    for count in (5, 50):
        for nth in range(count):
            daily(world, 1440 + nth, title=f"of {count}", products_to_showcase=products[:5])
        make(world, "8 days")
        began = time.monotonic()
        changed = world.influencer.api.update("live_stream_schedule", {"description": "new", "products_to_showcase": products[3:]}, where={"title": f"of {count}"})
        took[count] = time.monotonic() - began
        assert len(changed) == count
    sessions = world.influencer.api.select("live_stream_sessions", "id,description,total_products_showcased")
    assert len(sessions) > 55 * 7 and {(one["description"], one["total_products_showcased"]) for one in sessions} == {("new", 7)}
    assert took[50] < 25 * took[5] + 1, took


def test_beside_a_host_who_works_on_a_session(supabase_db):
    """It is waited for, and stays as that leaves it; one that is being deleted is not."""
    world = people(supabase_db)
    lamp, chair = world.new_product(), world.new_product()
    row = daily(world, description="old", products_to_showcase=[lamp])
    make(world)
    first, *others = ids(world, row)
    with Steps(supabase_db) as steps:
        host, other = steps.client(world.influencer), steps.client(world.influencer)
        host.run("update public.live_stream_sessions set description = 'By hand' where id = %s", [first])
        waiting = other.start("update public.live_stream_schedule set description = 'new', products_to_showcase = %s::uuid[]", [[chair]])
        other.waits()
        host.commit()
        waiting.result()
    assert [one["description"] for one in planned(world, row)] == ["By hand", *["new"] * len(others)]
    assert {tuple(shown(world, one)) for one in ids(world, row)} == {((chair, 1),)}


def test_others_have_no_say(supabase_db):
    world = people(supabase_db)
    row = show(world, description="old")
    make(world)
    assert world.stranger.api.update("live_stream_schedule", {"description": "new"}, where={"id": row["id"]}) == []
    assert planned(world, row)[0]["description"] == "old"
