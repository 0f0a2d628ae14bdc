"""max_viewers under a crowd: full means full, and nobody is one too many."""

from __future__ import annotations

import pytest

from busy import code_of, crowd, join, leave, watching
from crowds import numbers
from people import people
from recount import differences
from refusals import refused
from sizes import own_db

pytestmark = own_db("has many connections")

CONNECTIONS = 50


@pytest.mark.parametrize("worker", ["on", "off"])
@pytest.mark.parametrize("places", [1, 2])
def test_who_is_in_a_full_session_joins_again(plain_db, places, worker):
    """As a page that is reloaded does, or another tab: it has a place. Who is not there has none, nor who has left."""
    plain_db.set(background_worker=worker)
    world = people(plain_db)
    session = world.session(max_viewers=places)
    come = lambda api, **args: api.rpc("live_stream_join", session_id=session["id"], **args)
    guest = come(world.anon) if places == 2 else None
    viewer = come(world.viewer.api)
    for _ in range(2):
        assert come(world.viewer.api)["id"] == viewer["id"]
        if guest:
            assert come(world.anonymous(guest))["id"] == come(world.anon, viewer_id=guest["id"])["id"] == guest["id"]
        for api in (world.stranger.api, world.anon):
            with refused("PT409", "is full", hint=True):
                come(api)
    for _ in range(3):
        world.viewer.api.rpc("live_stream_leave", viewer_id=viewer["id"])
    come(world.stranger.api)
    with refused("PT409", "is full", hint=True):
        come(world.viewer.api)
    world.set_session(session, max_viewers=1)
    come(world.stranger.api)
    assert watching(plain_db, session) == places and differences(plain_db) == []


@pytest.mark.parametrize("worker", ["on", "off"])
@pytest.mark.parametrize("places", [7, 20, 45, 1000])
def test_full_means_full(plain_db, places, worker):
    if worker == "off" and places == 1000:
        pytest.skip("one after the other: a minute for what the others show")
    plain_db.set(background_worker=worker)
    plain_db.without_limits()
    session = people(plain_db).session(max_viewers=places)

    def come(connection, number):
        refusals, came = 0, 0
        while refusals < 2:
            error = code_of(lambda: join(connection, session))
            assert error in (None, "PT409")
            refusals += error is not None
            came += error is None
        return came

    assert sum(crowd(plain_db, come, CONNECTIONS)) == places == watching(plain_db, session)
    assert differences(plain_db) == []
    row = numbers(plain_db, session)
    assert (row["current_viewers"], row["peak_viewers"], row["total_unique_viewers"]) == (places, places, places)


@pytest.mark.parametrize("places", [7, 45])
def test_who_leaves_makes_room_for_one(plain_db, places):
    """Coming and going at the limit: by the times of the rows too, there are never more than places."""
    plain_db.without_limits()
    session = people(plain_db).session(max_viewers=places)

    def come_and_go(connection, number):
        for _ in range(20):
            try:
                leave(connection, join(connection, session))
            except Exception as error:
                assert getattr(error, "sqlstate", None) == "PT409", error

    crowd(plain_db, come_and_go, 24)
    assert differences(plain_db) == []
    row = numbers(plain_db, session)
    assert row["current_viewers"] == 0 and 1 <= row["peak_viewers"] <= places


def test_several_at_once_take_as_many_places(plain_db):
    """A server brings them; beside it others come one by one, far from full and near it."""
    plain_db.without_limits()
    session = people(plain_db).session(max_viewers=400)

    def come(connection, number):
        came = 0
        for _ in range(30):
            rows = 5 if number % 2 else 1
            came += rows if code_of(lambda: join(connection, session, rows=rows)) is None else 0
        return came

    came = sum(crowd(plain_db, come, 16))
    assert came == watching(plain_db, session) and 395 < came <= 400
    assert differences(plain_db) == []
    assert numbers(plain_db, session)["peak_viewers"] <= 400


def test_a_transaction_that_has_an_id_already_is_counted(plain_db):
    """Far from full a viewer is counted by the ids that were given since somebody looked: so it takes one more."""
    plain_db.without_limits()
    plain_db.owner("create table public.notes (n int)")
    session = people(plain_db).session(max_viewers=120)

    def come(connection, number):
        came = 0
        for _ in range(12):
            def request():
                with connection.transaction():
                    connection.execute("insert into public.notes values (1)")
                    join(connection, session)
            came += code_of(request) is None
        return came

    assert sum(crowd(plain_db, come, 16)) == 120 == watching(plain_db, session)
    assert differences(plain_db) == [] and numbers(plain_db, session)["peak_viewers"] == 120
