"""One order of locks: who deletes orders, sessions and messages, and who bans, waits for others and never in a circle."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from people import people
from recount import differences
from sizes import own_db
from steps import Steps, all_end_well, held, sqlstate

pytestmark = own_db("sets background_worker")

WORKERS = pytest.mark.parametrize("workers", ["on", "off"])


def gate(db, table, event, column):
    """Rows of a table with the value that a connection names wait for the test, before our triggers see them."""
    db.owner(
        f"""create function public.test_gate() returns trigger language plpgsql as $$
        begin
          if new.{column}::text = current_setting('test.gate', true) then
            perform pg_advisory_xact_lock_shared(4711);
          end if;
          return new;
        end $$"""
    )
    db.owner(
        f"create trigger a_gate before {event} on public.{table} for each row execute function public.test_gate()"
    )


def at_gate(client, value):
    client.run("select set_config('test.gate', %s, false)", [str(value)])
    client.commit()


def closed(steps):
    """Whoever holds it opens the gate by ending its transaction."""
    keeper = steps.client()
    keeper.run("select pg_advisory_xact_lock(4711)")
    return keeper


def shop(world, by=None):
    """A live session with a viewer, a message of its and an order."""
    by = by or world.new_influencer()
    session = world.session(by=by)
    viewer = world.join(session, world.viewer)
    message = world.say(session, world.viewer, viewer=viewer)
    product = world.product(session, by)
    order = world.service.rpc(
        "live_stream_record_order",
        session_id=session["id"],
        product_id=product["product_id"],
        amount=5,
        viewer_id=viewer["id"],
    )
    return by, session, viewer, message, product, order


DELETE = "delete from public.live_stream_sessions where id = %s"


# Bans.


@pytest.mark.parametrize("whose", ["one influencer's", "two influencers'"])
def test_bans_of_the_same_people_in_opposite_order(plain_db, whose):
    world = people(plain_db)
    one = world.influencer
    other = one if whose == "one influencer's" else world.new_influencer()
    first, second = world.new_user().user_id, world.new_user().user_id
    gate(plain_db, "live_stream_bans", "insert", "user_id")
    sql = "insert into public.live_stream_bans (influencer_id, user_id) values (%(i)s, %(a)s), (%(i)s, %(b)s)"
    with Steps(plain_db) as steps:
        keeper, a, b = closed(steps), steps.client(one), steps.client(other)
        at_gate(a, second)
        waiting = a.start(sql, {"i": one.influencer_id, "a": first, "b": second})
        a.waits()
        beside = b.start(sql, {"i": other.influencer_id, "a": second, "b": first})
        if one is other:
            b.waits()
        else:
            assert sqlstate(beside) is None
        keeper.commit()
        # One who bans whom somebody has just banned is told so, as ever.
        all_end_well(waiting, beside, allowed=(None, "23505") if one is other else (None,))
    assert plain_db.value("select count(*) from public.live_stream_bans") == (2 if one is other else 4)


def test_bans_for_two_influencers_in_opposite_order(plain_db):
    """By a server, of the same people; a third row for the other influencer is not waited for in its turn."""
    world = people(plain_db)
    one, other = world.influencer.influencer_id, world.new_influencer().influencer_id
    first, second = world.new_user().user_id, world.new_user().user_id
    gate(plain_db, "live_stream_bans", "insert", "influencer_id")
    sql = "insert into public.live_stream_bans (influencer_id, user_id) values (%s, %s), (%s, %s)"
    with Steps(plain_db) as steps:
        keeper, a, b = closed(steps), steps.client("service_role"), steps.client("service_role")
        at_gate(a, other)
        waiting = a.start(sql, [one, first, other, second])
        a.waits()
        beside = b.start(sql, [other, first, one, second])
        assert sqlstate(beside) is None
        keeper.commit()
        all_end_well(waiting)
    assert plain_db.value("select count(*) from public.live_stream_bans") == 4


def test_moderators_and_bans_of_the_same_people_in_opposite_order(plain_db):
    """Each person gets one part and not the other, whoever comes first."""
    world = people(plain_db)
    host = world.influencer
    first, second = world.new_user().user_id, world.new_user().user_id
    gate(plain_db, "live_stream_bans", "insert", "user_id")
    with Steps(plain_db) as steps:
        keeper, a, b = closed(steps), steps.client("service_role"), steps.client("service_role")
        at_gate(a, second)
        rows = "(influencer_id, user_id) values (%s, %s), (%s, %s)"
        ban = a.start(f"insert into public.live_stream_bans {rows}", [host.influencer_id, first, host.influencer_id, second])
        a.waits()
        choice = b.start(
            f"insert into public.live_stream_moderators {rows}", [host.influencer_id, second, host.influencer_id, first]
        )
        b.waits()
        keeper.commit()
        all_end_well(ban, choice, allowed=(None, "42501", "23514"))
        assert sorted([sqlstate(ban) is None, sqlstate(choice) is None]) == [False, True]
    both = "select count(*) from public.live_stream_bans join public.live_stream_moderators using (influencer_id, user_id)"
    assert plain_db.value(both) == 0


def test_a_ban_of_several_while_their_session_is_deleted(plain_db):
    """Which finds the viewers by their users, and the ban as they came."""
    world = people(plain_db)
    host, users = world.influencer, [world.new_user() for _ in range(3)]
    users.sort(key=lambda user: user.user_id, reverse=True)
    session = world.session()
    viewers = {user.user_id: world.join(session, user) for user in users}
    gate = viewers[sorted(viewers)[1]]
    with Steps(plain_db) as steps:
        keeper, deleting, server = held(steps, "viewers", gate), steps.client(), steps.client("service_role")
        gone = deleting.start(DELETE, [session["id"]])
        deleting.waits()
        ban = server.start(
            "insert into public.live_stream_bans (influencer_id, user_id) select %s, unnest(%s::uuid[])",
            [host.influencer_id, sorted(viewers, reverse=True)],
        )
        # Rows that somebody has are passed by.
        all_end_well(ban)
        keeper.commit()
        all_end_well(gone)
    assert plain_db.value("select count(*) from public.live_stream_bans") == 3
    assert differences(plain_db) == []


def test_a_ban_of_somebody_who_joins_one_more_session_meanwhile(plain_db):
    """Nobody waits, and who joins is refused as it commits."""
    world = people(plain_db)
    host, banned, other = world.influencer, world.stranger, world.viewer
    plain_db.without_limits()
    sessions = sorted((world.session(live=False) for _ in range(3)), key=lambda session: session["id"])
    for session in sessions:
        world.leave(world.join(session, other), other)
    world.join(sessions[2], banned)
    back = "update public.live_stream_viewers set is_still_watching = true where session_id = %s"
    with Steps(plain_db) as steps:
        joining, banning, client = steps.client(banned), steps.client(host), steps.client(other)
        joining.run("select * from public.live_stream_join(%s)", [sessions[1]["id"]])
        ban = banning.start("select * from public.live_stream_ban(%s)", [banned.user_id])
        returns = client.start(back, [sessions[2]["id"]])
        all_end_well(ban, returns)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            joining.commit()
        joining.rollback()
    open_rows = "select count(*) from public.live_stream_viewers where user_id = %s and is_still_watching"
    assert plain_db.value(open_rows, [banned.user_id]) == 0
    assert plain_db.value(open_rows, [other.user_id]) == 1
    assert differences(plain_db) == []


def test_a_ban_while_the_influencer_is_deleted(plain_db):
    """The influencer goes before its sessions: who bans in one of them waits for the influencer first."""
    world = people(plain_db)
    host, session, *_ = shop(world)
    with Steps(plain_db) as steps:
        keeper, deleting, banning = steps.client(), steps.client(), steps.client("service_role")
        keeper.run("select from public.live_stream_sessions where id = %s for key share", [session["id"]])
        gone = deleting.start("delete from public.influencers where id = %s", [host.influencer_id])
        deleting.waits()
        ban = banning.start(
            "select * from public.live_stream_ban(%s, session_id => %s)", [world.viewer.user_id, session["id"]]
        )
        banning.waits()
        keeper.commit()
        all_end_well(gone)
        assert sqlstate(ban) == "PT404"
    assert differences(plain_db) == []


def test_a_ban_waits_for_nobody_who_has_not_committed(plain_db):
    """The person is closed out of where it is, and refused where it is coming to."""
    world = people(plain_db)
    plain_db.without_limits()
    host, banned = world.influencer, world.stranger
    session, other = world.session(), world.session(by=world.new_influencer())
    viewer = world.join(session, banned)
    with Steps(plain_db) as steps:
        joining, banning = steps.client(banned), steps.client(host)
        joining.run("insert into public.live_stream_viewers (session_id) values (%s)", [other["id"]])
        reporting = steps.client(banned)
        reporting.run("update public.live_stream_viewers set buffering_time_seconds = 9 where id = %s", [viewer["id"]])
        banning.run("select * from public.live_stream_ban(%s)", [banned.user_id])
        banning.commit()
        # Its row was passed by, as somebody had it: who had it closes it.
        reporting.commit()
        joining.commit()
    watches = "select session_id from public.live_stream_viewers where user_id = %s and is_still_watching"
    assert [row["session_id"] for row in plain_db.sql(watches, [banned.user_id])] == [uuid.UUID(other["id"])]
    assert differences(plain_db) == []


# Orders.


@WORKERS
def test_orders_of_several_sessions_are_deleted_at_once(plain_db, workers):
    """By two statements whose products have the sessions in opposite order; so much money is not left to the worker."""
    plain_db.set(background_worker=workers)
    world = people(plain_db)
    low, high = sorted((shop(world) for _ in range(2)), key=lambda one: one[1]["id"])
    ids = [str(uuid.UUID(int=n)) for n in range(1, 5)]
    # The one statement's products name the higher session first, the other's the lower.
    places = [(ids[0], high, "a"), (ids[1], low, "b"), (ids[2], low, "c"), (ids[3], high, "d")]
    for product, place, _ in places:
        shown = {"id": product, "session_id": place[1]["id"], "product_id": world.new_product()}
        row = world.service.insert("live_stream_products", shown)
        order = {"session_id": place[1]["id"], "product_id": row["product_id"], "amount": 6_000_000}
        world.service.insert("live_stream_orders", order)
    gate(plain_db, "live_stream_products", "update", "id")
    sql = "delete from public.live_stream_orders where session_product_id = any (%s::uuid[])"
    with Steps(plain_db) as steps:
        keeper, a, b = closed(steps), steps.client("service_role"), steps.client("service_role")
        at_gate(a, ids[1])
        one = a.start(sql, [ids[:2]])
        a.waits()
        two = b.start(sql, [ids[2:]])
        keeper.commit()
        all_end_well(one, two)
    assert differences(plain_db) == []
    for place in (low, high):
        session = world.read(place[1], place[0])
        assert (session["total_orders"], session["total_revenue"]) == (1, 5)


def test_orders_are_deleted_while_their_session_is(plain_db):
    """An order has its product, and then wants the viewer who goes with the session."""
    world = people(plain_db)
    _, session, _, message, _, order = shop(world)
    with Steps(plain_db) as steps:
        keeper, deleting, server = held(steps, "chat", message), steps.client(), steps.client("service_role")
        gone = deleting.start(DELETE, [session["id"]])
        deleting.waits()
        lost = server.start("delete from public.live_stream_orders where id = %s", [order["id"]])
        server.waits()
        keeper.commit()
        all_end_well(gone, lost)
    assert differences(plain_db) == []


def test_all_orders_of_a_session_are_deleted_while_it_is(plain_db):
    """By both in the order in which they lie in the table, which is not that of their ids."""
    world = people(plain_db)
    session = world.session()
    product = world.product(session)["product_id"]
    ids = [str(uuid.UUID(int=n)) for n in (3, 2, 1)]
    for order in ids:
        world.service.insert("live_stream_orders", {"id": order, "session_id": session["id"], "product_id": product, "amount": 1})
    with Steps(plain_db) as steps:
        keeper, deleting, server = held(steps, "orders", {"id": ids[1]}), steps.client(), steps.client("service_role")
        lost = server.start("delete from public.live_stream_orders where session_id = %s", [session["id"]])
        server.waits()
        gone = deleting.start(DELETE, [session["id"]])
        deleting.waits()
        keeper.commit()
        all_end_well(lost, gone)
    assert differences(plain_db) == []


def test_a_click_while_the_session_is_deleted(plain_db):
    world = people(plain_db)
    _, session, viewer, message, product, _ = shop(world)
    with Steps(plain_db) as steps:
        keeper, deleting, client = held(steps, "chat", message), steps.client(), steps.client(world.viewer)
        gone = deleting.start(DELETE, [session["id"]])
        deleting.waits()
        click = client.start("select * from public.live_stream_track_click(%s, %s)", [product["id"], viewer["id"]])
        client.waits()
        keeper.commit()
        all_end_well(gone)
        assert sqlstate(click) == "PT404"
    assert differences(plain_db) == []


# What is deleted while others are at it.


def test_a_message_is_taken_away_while_its_session_is_deleted(plain_db):
    """The log of it names no session that goes."""
    world = people(plain_db)
    host, session, viewer, message, _, _ = shop(world)
    with Steps(plain_db) as steps:
        keeper, deleting, client = held(steps, "viewers", viewer), steps.client(), steps.client(host)
        gone = deleting.start(DELETE, [session["id"]])
        deleting.waits()
        taken = client.start("update public.live_stream_chat set is_deleted = true where id = %s", [message["id"]])
        assert sqlstate(taken) is None
        keeper.commit()
        all_end_well(gone)
    log = plain_db.sql("select action::text, session_id from public.live_stream_moderation_log where message_id = %s", [message["id"]])
    assert log == [{"action": "delete_message", "session_id": None}]
    assert differences(plain_db) == []


@pytest.mark.parametrize("goes", [True, False])
def test_a_reaction_is_taken_back_while_its_message_is_deleted(plain_db, goes):
    world = people(plain_db)
    _, session, viewer, message, _, _ = shop(world)
    world.viewer.api.rpc("live_stream_react", message_id=message["id"], reaction="🔥")
    with Steps(plain_db) as steps:
        keeper, deleting, client = held(steps, "viewers", viewer), steps.client("service_role"), steps.client(world.viewer)
        back = client.start("select * from public.live_stream_unreact(%s, '🔥')", [message["id"]])
        all_end_well(back)
        gone = deleting.start("delete from public.live_stream_chat where id = %s", [message["id"]], commit=goes)
        all_end_well(gone)
        deleting.rollback()
        keeper.commit()
    assert differences(plain_db) == []


def test_a_reaction_is_taken_back_while_others_delete_it_and_end_the_session(plain_db):
    """Who takes it back wants the reaction before the session, as the one does who deletes it."""
    world = people(plain_db)
    host, session, viewer, message, _, _ = shop(world)
    world.viewer.api.rpc("live_stream_react", message_id=message["id"], reaction="🔥")
    with Steps(plain_db) as steps:
        keeper, deleting = steps.client("service_role"), steps.client("service_role")
        client, ending = steps.client(world.viewer), steps.client(host)
        keeper.run("select from public.live_stream_chat_reactions where message_id = %s for update", [message["id"]])
        back = client.start("select * from public.live_stream_unreact(%s, '🔥')", [message["id"]])
        client.waits()
        end = ending.start("select * from public.live_stream_end(%s)", [session["id"]])
        assert sqlstate(end) is None
        gone = deleting.start("delete from public.live_stream_chat_reactions where message_id = %s", [message["id"]])
        deleting.waits()
        keeper.commit()
        all_end_well(gone, back, allowed=(None, "42501"))
    assert differences(plain_db) == []


def test_an_invitation_is_accepted_while_the_session_is_deleted(plain_db):
    world = people(plain_db)
    host, session, viewer, *_ = shop(world)
    link = host.api.rpc("live_stream_create_invitation", session_id=session["id"])
    with Steps(plain_db) as steps:
        keeper, deleting, client = held(steps, "viewers", viewer), steps.client(), steps.client(world.stranger)
        gone = deleting.start(DELETE, [session["id"]])
        deleting.waits()
        accepted = client.start("select * from public.live_stream_accept_invitation(%s)", [link["token"]])
        client.waits()
        keeper.commit()
        all_end_well(gone)
        assert sqlstate(accepted) == "PT404" and "not valid" in str(accepted.exception())
    assert differences(plain_db) == []


@pytest.mark.parametrize("change", ["title = 'Another'", "visibility = 'private'", "status = 'cancelled'"])
def test_a_schedule_is_changed_while_its_session_is_deleted(plain_db, change):
    world = people(plain_db)
    host = world.influencer
    schedule = world.schedule(scheduled_date=time.strftime("%Y-%m-%d", time.gmtime(time.time() + 2 * 86400)))
    assert plain_db.value("select live_stream.materialize_occurrences('7 days')") == 1
    (session,) = plain_db.sql("select session_id as id from public.live_stream_schedule_sessions")
    viewer = world.join(session, world.viewer)
    with Steps(plain_db) as steps:
        keeper, deleting, client = held(steps, "viewers", viewer), steps.client(), steps.client(host)
        gone = deleting.start(DELETE, [session["id"]])
        deleting.waits()
        changed = client.start(f"update public.live_stream_schedule set {change} where id = %s", [schedule["id"]])
        assert sqlstate(changed) is None
        keeper.commit()
        all_end_well(gone)
    assert plain_db.value("select count(*) from public.live_stream_sessions") == 0
