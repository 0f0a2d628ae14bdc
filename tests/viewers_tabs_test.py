"""One person in several tabs is one viewer, who leaves with the last of them, or is not heard of."""

from __future__ import annotations

import uuid

import psycopg
import pytest

from people import at_once, people
from postgrest import RequestError
from recount import differences
from refusals import refused
from sizes import own_db
from steps import Steps, all_end_well, sqlstate
from viewing import counts, counts_at_rest, join, rows, viewer_row

JOIN = "select * from public.live_stream_join(%s)"
LEAVE = "select * from public.live_stream_leave(%s)"


def new_tab():
    return str(uuid.uuid4())


def by_function(api, viewer, **args):
    return api.rpc("live_stream_leave", viewer_id=viewer["id"], **args)


def directly(api, viewer):
    return api.update("live_stream_viewers", {"is_still_watching": False}, where={"id": viewer["id"]}, one=True)


def as_the_guide(api, viewer):
    patch = {"is_still_watching": False, "left_at": "2020-01-01T00:00:00Z", "watch_duration_minutes": 5}
    return api.update("live_stream_viewers", patch, where={"id": viewer["id"]}, one=True)


def left_at_alone(api, viewer):
    return api.update("live_stream_viewers", {"left_at": "2020-01-01T00:00:00Z"}, where={"id": viewer["id"]}, one=True)


WAYS = [by_function, directly, as_the_guide, left_at_alone]


@pytest.fixture(params=["signed in", "anonymous"])
def tabs(request, world):
    """A session, a call that joins it as the same person each time, and how that person calls."""
    session = world.session()
    if request.param == "signed in":
        return session, lambda **args: join(world.viewer.api, session, **args), world.viewer.api
    first = []

    def come(**args):
        known = {"viewer_id": first[0]["id"]} if first else {}
        row = join(world.anon, session, **known, **args)
        first.append(row)
        return row

    viewer = come()
    by_function(world.anon, viewer)
    return session, come, world.anonymous(viewer)


@pytest.mark.parametrize("way", WAYS)
def test_the_last_tab_leaves(world, tabs, way):
    session, come, api = tabs
    peak = 1
    for _ in range(2):
        viewers = [come() for _ in range(3)]
        assert len({row["id"] for row in viewers}) == 1 and counts(world, session) == (1, peak, 1)
        for _ in range(2):
            row = way(api, viewers[0])
            assert row["is_still_watching"] and row["left_at"] is None and row["watch_duration_minutes"] == 0
            assert counts(world, session) == (1, peak, 1)
            assert api.rpc("live_stream_heartbeat", viewer_id=row["id"])["is_still_watching"]
        row = way(api, viewers[0])
        assert not row["is_still_watching"] and row["left_at"] and row["tabs"] is None
        assert counts(world, session) == (0, peak, 1)
        # Leaving more often changes nothing.
        assert not by_function(api, row)["is_still_watching"] and counts(world, session) == (0, peak, 1)
    assert len(rows(world, session)) == 1 and differences(world.db) == []


def test_the_ways_are_mixed(world, tabs):
    session, come, api = tabs
    viewer = [come() for _ in WAYS][0]
    assert [way(api, viewer)["is_still_watching"] for way in WAYS] == [True] * (len(WAYS) - 1) + [False]
    assert counts(world, session)[0] == 0


def test_a_tab_beside_a_row_that_was_inserted(world):
    """It has one tab, which said nothing of itself."""
    session, api = world.session(), world.viewer.api
    viewer = world.join(session, world.viewer)
    assert join(api, session)["id"] == viewer["id"]
    assert world.leave(viewer, world.viewer)["is_still_watching"]
    assert not world.leave(viewer, world.viewer)["is_still_watching"]
    anonymous = world.join(session)
    assert join(world.anonymous(anonymous), session)["id"] == anonymous["id"]
    assert world.leave(anonymous)["is_still_watching"] and not world.leave(anonymous)["is_still_watching"]
    # Each direct insert is a viewer, as ever; the function comes to the latest, and to one that is open before that.
    first, second = world.join(session, world.viewer), world.join(session, world.viewer)
    assert counts(world, session)[0] == 2
    assert join(api, session)["id"] == second["id"]
    assert [by_function(api, row)["is_still_watching"] for row in (second, first, second)] == [True, False, False]
    assert counts(world, session)[0] == 0 and join(api, session)["id"] == second["id"]
    assert not by_function(api, second)["is_still_watching"] and differences(world.db) == []


# Tabs with an id.


def test_a_page_that_is_reloaded_is_the_same_tab(world, tabs):
    session, come, api = tabs
    one, two = new_tab(), new_tab()
    for _ in range(3):
        viewer = come(tab_id=one)
    come(tab_id=two), come(tab_id=one)
    assert viewer_row(world, viewer)["tabs"] == [one, two]
    assert by_function(api, viewer, tab_id=one)["is_still_watching"]
    # It says so twice, as pages do that go; that is no other tab's leave.
    assert by_function(api, viewer, tab_id=one)["is_still_watching"]
    assert by_function(api, viewer, tab_id=new_tab())["is_still_watching"]
    assert not by_function(api, viewer, tab_id=two)["is_still_watching"]
    assert not by_function(api, viewer, tab_id=two)["is_still_watching"]
    assert counts(world, session) == (0, 1, 1)
    # And comes back.
    assert come(tab_id=two)["is_still_watching"] and viewer_row(world, viewer)["tabs"] == [two]
    assert not by_function(api, viewer, tab_id=two)["is_still_watching"] and differences(world.db) == []


def test_effects_that_run_twice(world, tabs):
    """As React's StrictMode has it: join, leave, join."""
    session, come, api = tabs
    for tab in ({}, {"tab_id": new_tab()}):
        viewer = come(**tab)
        assert not by_function(api, viewer, **tab)["is_still_watching"]
        assert come(**tab)["is_still_watching"]
        assert not by_function(api, viewer, **tab)["is_still_watching"]
    assert counts(world, session) == (0, 1, 1)


def test_tabs_with_ids_and_without(world, tabs):
    session, come, api = tabs
    one = new_tab()
    viewer = come()
    come(tab_id=one), come(tab_id=one)
    assert viewer_row(world, viewer)["tabs"] == [None, one]
    assert directly(api, viewer)["is_still_watching"]
    assert not by_function(api, viewer, tab_id=one)["is_still_watching"]
    # A tab that is not known leaves as the one that gave no id.
    come(), come(tab_id=one)
    assert by_function(api, viewer, tab_id=new_tab())["is_still_watching"]
    assert not directly(api, viewer)["is_still_watching"] and differences(world.db) == []


def test_so_many_tabs_are_known(world, tabs):
    session, come, api = tabs
    ids = [new_tab() for _ in range(25)]
    for tab in ids:
        viewer = come(tab_id=tab)
    assert viewer_row(world, viewer)["tabs"] == ids[5:]
    version = "select xmin::text from public.live_stream_viewers where id = %s"
    by_function(api, viewer, tab_id=ids[-1])
    for _ in range(30):
        come()
    assert viewer_row(world, viewer)["tabs"] == [None] * 20
    before = world.db.value(version, [viewer["id"]])
    come()
    assert world.db.value(version, [viewer["id"]]) == before
    with pytest.raises(RequestError, match="invalid input syntax for type uuid"):
        come(tab_id="x" * 100)


def test_clients_do_not_write_them(world):
    session, tab = world.session(), new_tab()
    api = world.viewer.api
    viewer = api.insert("live_stream_viewers", {"session_id": session["id"], "tabs": [tab] * 5})
    assert viewer["tabs"] is None
    for by in (api, world.service):
        assert by.update("live_stream_viewers", {"tabs": [tab]}, where={"id": viewer["id"]}, one=True)["tabs"] is None
    join(api, session, tab_id=tab)
    assert api.update("live_stream_viewers", {"tabs": None}, where={"id": viewer["id"]}, one=True)["tabs"] == [None, tab]
    # Nobody leaves for somebody else.
    for other in (world.stranger.api, world.anon, world.influencer.api):
        with refused("PT404"):
            by_function(other, viewer, tab_id=tab)
    assert viewer_row(world, viewer)["tabs"] == [None, tab]


# Who closes the row closes it in all tabs.


def close_by_ban(world, session, viewer):
    world.influencer.api.rpc("live_stream_ban", user_id=world.viewer.user_id)
    world.influencer.api.rpc("live_stream_unban", user_id=world.viewer.user_id)


def close_by_silence(world, session, viewer):
    world.db.sql("update public.live_stream_heartbeats set seen_at = now() - interval '1 hour' where viewer_id = %s", [viewer["id"]])
    world.db.owner("update public.live_stream_viewers set joined_at = now() - interval '2 hours' where id = %s", [viewer["id"]])
    world.service.rpc("live_stream_heartbeat", viewer_id=viewer["id"])
    world.db.sql("update public.live_stream_heartbeats set seen_at = now() - interval '1 hour' where viewer_id = %s", [viewer["id"]])
    world.db.owner("select live_stream.expire_viewers()")


def close_by_server(world, session, viewer):
    by_function(world.service, viewer)


def close_by_uninviting(world, session, viewer):
    world.set_session(session, visibility="private")
    world.set_session(session, visibility="public")


def close_by_limit(world, session, viewer):
    """Ten places are a person's, and the oldest goes."""
    for _ in range(10):
        world.join(session, world.viewer)


@own_db("expires whoever is silent")
@pytest.mark.parametrize("close", [close_by_ban, close_by_silence, close_by_server, close_by_uninviting, close_by_limit])
def test_whoever_else_closes_the_row_closes_it_in_all_tabs(world, close):
    session, api = world.session(), world.viewer.api
    for tab in ({}, {}, {"tab_id": new_tab()}):
        viewer = join(api, session, **tab)
    close(world, session, viewer)
    row = viewer_row(world, viewer)
    assert not row["is_still_watching"] and row["tabs"] is None
    for other in rows(world, session, is_still_watching=True):
        world.leave(other, world.viewer)
    # Whoever comes back has one tab.
    back = api.update("live_stream_viewers", {"is_still_watching": True}, where={"id": viewer["id"]}, one=True)
    assert back["is_still_watching"] and not by_function(api, viewer)["is_still_watching"]
    assert differences(world.db) == []


def test_the_end_closes_all_tabs(world, tabs):
    session, come, api = tabs
    viewer = [come() for _ in range(3)][0]
    world.end(session)
    row = viewer_row(world, viewer)
    assert not row["is_still_watching"] and row["tabs"] is None
    with refused("PT409"):
        come()


# At the same time.


def test_tabs_join_and_leave_at_once(world):
    for _ in range(3):
        session, api = world.session(by=world.new_influencer()), world.viewer.api
        viewers = at_once(*[lambda: join(api, session) for _ in range(6)])
        assert len({row["id"] for row in viewers}) == 1 and len(viewer_row(world, viewers[0])["tabs"]) == 6
        left = at_once(*[lambda way=way: way(api, viewers[0]) for way in (by_function, directly) * 3])
        assert sorted(row["is_still_watching"] for row in left) == [False] + [True] * 5
        ids = [new_tab() for _ in range(4)]
        at_once(*[lambda tab=tab: join(api, session, tab_id=tab) for tab in ids * 2])
        assert sorted(viewer_row(world, viewers[0])["tabs"]) == sorted(ids)
        left = at_once(*[lambda tab=tab: by_function(api, viewers[0], tab_id=tab) for tab in ids * 2])
        assert not viewer_row(world, viewers[0])["is_still_watching"]
        assert counts_at_rest(world, session) == (0, 1, 1)
    assert differences(world.db) == []


@pytest.mark.parametrize("tab", [None, new_tab()], ids=["without id", "with id"])
@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_a_tab_joins_while_the_last_one_leaves(plain_db, ends, tab):
    """A page that is reloaded. Nobody is told to watch whose row is closed a moment later."""
    world = people(plain_db)
    session = world.session()
    viewer = join(world.viewer.api, session, tab_id=tab)
    with Steps(plain_db) as steps:
        leaving, coming = steps.client(world.viewer), steps.client(world.viewer)
        leaving.run("select * from public.live_stream_leave(%s, %s)", [viewer["id"], tab])
        came = coming.start("select * from public.live_stream_join(session_id => %s, tab_id => %s)", [session["id"], tab])
        coming.waits()
        getattr(leaving, ends)()
        all_end_well(came)
        assert came.result()[0]["is_still_watching"]
    row = viewer_row(world, viewer)
    assert row["is_still_watching"]
    assert row["tabs"] == (None if tab is None and ends == "commit" else [tab] * (1 if tab else 2))
    assert counts_at_rest(world, session)[0] == 1 and differences(plain_db) == []


def test_the_last_tab_leaves_while_another_one_joins(plain_db):
    world = people(plain_db)
    session = world.session()
    viewer = join(world.viewer.api, session)
    with Steps(plain_db) as steps:
        coming, leaving = steps.client(world.viewer), steps.client(world.viewer)
        coming.run(JOIN, [session["id"]])
        left = leaving.start(LEAVE, [viewer["id"]])
        leaving.waits()
        coming.commit()
        assert left.result(20)[0]["is_still_watching"]
    assert counts(world, session) == (1, 1, 1) and differences(plain_db) == []


def test_a_tab_joins_while_somebody_bans_the_person(plain_db):
    world = people(plain_db)
    session = world.session()
    viewer = join(world.viewer.api, session)
    with Steps(plain_db) as steps:
        banning, coming = steps.client(world.influencer), steps.client(world.viewer)
        banning.run("select * from public.live_stream_ban(%s)", [world.viewer.user_id])
        came = coming.start(JOIN, [session["id"]])
        coming.waits()
        banning.commit()
        assert sqlstate(came) == "42501"
    assert not viewer_row(world, viewer)["is_still_watching"] and differences(plain_db) == []


@pytest.mark.parametrize("heard", [0, 1])
def test_a_tab_joins_while_another_one_is_heard_of_and_then_leaves(plain_db, heard):
    """Neither waits for what the other has."""
    world = people(plain_db)
    session = world.session()
    viewer = join(world.viewer.api, session)
    for _ in range(heard):
        world.viewer.api.rpc("live_stream_heartbeat", viewer_id=viewer["id"])
    with Steps(plain_db) as steps:
        leaving, coming = steps.client(world.viewer), steps.client(world.viewer)
        leaving.run("select * from public.live_stream_heartbeat(%s)", [viewer["id"]])
        assert coming.run(JOIN, [session["id"]])[0]["is_still_watching"]
        left = leaving.start(LEAVE, [viewer["id"]])
        leaving.waits()
        coming.commit()
        assert left.result(20)[0]["is_still_watching"]
    assert counts(world, session) == (1, 1, 1) and differences(plain_db) == []


def test_in_one_transaction_and_back(plain_db):
    world = people(plain_db)
    session = world.session()
    viewer = join(world.viewer.api, session)
    watching = "select is_still_watching as it, cardinality(tabs) as tabs from public.live_stream_viewers where id = %s"
    with Steps(plain_db) as steps:
        client = steps.client(world.viewer)
        client.run(JOIN, [session["id"]])
        client.run("savepoint a")
        client.run(JOIN, [session["id"]])
        client.run(LEAVE, [viewer["id"]])
        client.run(LEAVE, [viewer["id"]])
        assert client.run(LEAVE, [viewer["id"]])[0]["is_still_watching"] is False
        client.run("rollback to savepoint a")
        assert client.run(watching, [viewer["id"]]) == [{"it": True, "tabs": 2}]
        client.rollback()
        assert client.run(watching, [viewer["id"]]) == [{"it": True, "tabs": None}]
        for _ in range(2):
            client.run(JOIN, [session["id"]])
        client.commit()
        assert [client.run(LEAVE, [viewer["id"]])[0]["is_still_watching"] for _ in range(3)] == [True, True, False]
        client.commit()
    assert counts_at_rest(world, session) == (0, 1, 1) and differences(plain_db) == []


def test_a_tab_is_left_by_whoever_acts_in_it(plain_db):
    """A transaction that joins elsewhere in a tab has left none here, and one whose join was rolled back is where it was."""
    world = people(plain_db)
    here, there, tab, undone = world.session(), world.session(by=world.new_influencer()), new_tab(), new_tab()
    viewer = [join(world.viewer.api, here, **args) for args in ({}, {"tab_id": tab})][0]
    joins = "select * from public.live_stream_join(%s, tab_id => %s)"
    leaves = "update public.live_stream_viewers set is_still_watching = false where id = %s returning is_still_watching as it, tabs::text[]"
    with Steps(plain_db) as steps:
        client = steps.client(world.viewer)
        client.run(joins, [there["id"], tab])
        assert client.run(leaves, [viewer["id"]]) == [{"it": True, "tabs": [tab]}], "the tab without an id is left"
        client.rollback()
        client.run(joins, [here["id"], tab])
        client.run("savepoint a")
        client.run(joins, [here["id"], undone])
        client.run("rollback to savepoint a")
        assert client.run(leaves, [viewer["id"]]) == [{"it": True, "tabs": None}], "the tab with the id is left"
        client.rollback()


def test_saving_the_row_again_leaves_in_one_tab(plain_db):
    world = people(plain_db)
    session = world.session()
    viewer = [join(world.viewer.api, session) for _ in range(2)][0]
    save = """insert into public.live_stream_viewers (id, session_id, is_still_watching) values (%s, %s, false)
              on conflict (id) do update set is_still_watching = excluded.is_still_watching returning is_still_watching as it"""
    with Steps(plain_db) as steps:
        client = steps.client(world.viewer)
        assert [client.run(save, [viewer["id"], session["id"]])[0]["it"] for _ in range(3)] == [True, False, False]
        client.commit()
    assert counts_at_rest(world, session) == (0, 1, 1) and differences(plain_db) == []


def test_a_repeatable_read_transaction_does_not_miss_a_tab(plain_db):
    world = people(plain_db)
    session = world.session()
    viewer = join(world.viewer.api, session)
    with Steps(plain_db) as steps:
        client = steps.client(world.viewer)
        client.run("set transaction isolation level repeatable read")
        client.run("select from public.live_stream_viewers")
        join(world.viewer.api, session)
        with pytest.raises(psycopg.errors.SerializationFailure):
            client.run(LEAVE, [viewer["id"]])
        client.rollback()
    assert len(viewer_row(world, viewer)["tabs"]) == 2


def test_the_first_join_writes_nothing_more(plain_db):
    """Nor does one who joins once more in the same tab write its row."""
    world = people(plain_db)
    session, tab = world.session(), new_tab()
    viewer = join(world.viewer.api, session)
    heard = "select count(*) from public.live_stream_heartbeats where viewer_id = %s"
    assert viewer["tabs"] is None and plain_db.value(heard, [viewer["id"]]) == 0
    other = join(world.stranger.api, session, tab_id=tab)
    version = "select xmin::text from public.live_stream_viewers where id = %s"
    before = plain_db.value(version, [other["id"]])
    assert join(world.stranger.api, session, tab_id=tab) == other
    assert plain_db.value(version, [other["id"]]) == before
    assert plain_db.value(heard, [other["id"]]) == 1
