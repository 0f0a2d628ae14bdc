"""How many anonymous viewers a session gains in a minute: by its places, and from one address."""

from __future__ import annotations

import psycopg
import pytest

from limiting import later
from people import people
from postgrest import RequestError
from recount import differences
from sizes import own_db


def admitted(world, session, joins, headers=None):
    """How many of so many anonymous joins, one after the other, were let in."""
    api = world.db.as_anon(headers)
    for nth in range(joins):
        try:
            if nth % 2:
                api.rpc("live_stream_join", session_id=session["id"])
            else:
                api.insert("live_stream_viewers", {"session_id": session["id"]}, select=None)
        except RequestError as error:
            assert error.sqlstate == "PT429" and "too many anonymous viewers" in error.message and error.hint, str(error)
            return nth
    return joins


@pytest.mark.parametrize("places, limit", [(1000, 500), (200, 100), (100, 50), (60, 50)])
def test_by_default_strangers_take_half_of_the_places_in_a_minute(db, world, places, limit):
    session = world.session(max_viewers=places)
    assert limit <= admitted(world, session, places) <= limit + 8
    assert world.join(session, world.viewer)["is_still_watching"], "there is a place for people with an account"
    assert differences(db) == []


def test_a_handful_of_friends_fill_a_small_session_at_once(world):
    session = world.session(max_viewers=20)
    assert admitted(world, session, 20) == 20


def test_more_places_let_in_more_at_once(db, world):
    session = world.session(max_viewers=100)
    assert admitted(world, session, 100) < 60
    world.set_session(session, max_viewers=400)
    assert admitted(world, session, 100) == 100
    world.set_session(session, max_viewers=None)
    assert admitted(world, session, 300) == 300


def from_address(world, session, joins, address):
    return admitted(world, session, joins, {"x-forwarded-for": address})


def test_anonymous_joins_from_one_address(db, world):
    """Counted where addresses are kept, which says that the header is to be trusted."""
    db.set(ip_tracking="full", address_join_limit=5)
    session, other = world.session(), world.session(by=world.new_influencer())
    assert from_address(world, session, 9, "198.51.100.1") == 5
    assert from_address(world, session, 9, "198.51.100.2, 198.51.100.1") == 0, "what the client writes left of it is not looked at"
    assert from_address(world, session, 9, "198.51.100.2") == 5
    assert from_address(world, other, 9, "198.51.100.1") == 5
    assert admitted(world, session, 9) == 9, "no address is known"
    behind = {"x-forwarded-for": "198.51.100.1"}
    for person in (world.viewer, world.stranger):
        assert db.as_user(person.user_id, behind).rpc("live_stream_join", session_id=session["id"])["is_still_watching"]
    # Of IPv6, somebody has a whole /64.
    assert [from_address(world, session, 2, f"2001:db8:1:2::{n}") for n in (1, 2, 3)] == [2, 2, 1]
    assert from_address(world, session, 9, "2001:db8:1:3::1") == 5
    later(db, "live_stream_viewers", "joined_at", 61)
    assert from_address(world, session, 2, "198.51.100.1") == 2
    assert differences(db) == []


def test_addresses_are_counted_as_they_are_kept(db, world):
    db.set(ip_tracking="anonymized", address_join_limit=4)
    session = world.session()
    assert [from_address(world, session, 2, f"198.51.100.{n}") for n in range(1, 4)] == [2, 2, 0]
    assert from_address(world, session, 9, "2001:db8:1:2::3") == 4
    assert from_address(world, session, 9, "2001:db8:1:ffff::3") == 0
    db.set(ip_tracking="off")
    assert from_address(world, session, 9, "198.51.100.1") == 9


def test_by_default_an_address_takes_a_tenth_of_what_strangers_may(db, world):
    db.set(ip_tracking="full")
    session, small = world.session(max_viewers=600), world.session(by=world.new_influencer(), max_viewers=20)
    assert from_address(world, session, 50, "198.51.100.1") == 30
    assert from_address(world, small, 20, "198.51.100.1") == 10
    db.set(address_join_limit=0)
    assert from_address(world, session, 50, "198.51.100.1") == 50
    db.set(anonymous_join_limit=0, address_join_limit=-1)
    assert from_address(world, session, 50, "198.51.100.1") == 50


@own_db("fills a table")
def test_an_address_is_found_by_index(plain_db):
    """However many anonymous viewers came in the minute."""
    world = people(plain_db)
    plain_db.set(ip_tracking="full", anonymous_join_limit=0, address_join_limit=3)
    session = world.session(max_viewers=None)
    plain_db.sql("set session_replication_role = replica")
    plain_db.sql(
        "insert into public.live_stream_viewers (session_id, viewer_type, watching_since, ip_address)"
        " select %s, 'anonymous', now(), '203.0.0.0'::inet + n from generate_series(1, 20000) n",
        [session["id"]],
    )
    plain_db.sql("reset session_replication_role")
    plain_db.sql("analyze public.live_stream_viewers")
    with plain_db.connect("authenticator") as connection, connection.transaction():
        connection.execute("set local role anon")
        connection.execute("""select set_config('request.headers', '{"x-forwarded-for":"203.0.0.9"}', true)""")
        connection.execute("select live_stream.join_session(%s, null, null, null, null, null, null, null, null)", [session["id"]])
        connection.execute("reset role")
        scans = "select pg_stat_get_xact_numscans('public.live_stream_viewers_address_idx'::regclass) as n"
        assert connection.execute(scans).fetchone()["n"] == 1


@pytest.mark.parametrize("name", ["anonymous_join_limit", "address_join_limit"])
def test_what_a_limit_may_be(db, name):
    db.sql("load 'live_stream'")
    for value in (-2, 1_000_001):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            db.sql(f"set live_stream.{name} = {value}")
