"""Thousands of random operations, from several connections at once: the numbers are always right."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from crowds import BULK, CONFLICTS, Crowd, EXPECTED, SEED, numbers
from people import people
from recount import differences, unaccounted
from sizes import own_db, scale


def test_requests_never_wait_for_each_other_in_a_circle(db):
    crowd = Crowd(db)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: crowd.clients(SEED + n, 250), range(8)))
    assert crowd.unexpected == [] and crowd.done > 1000 and differences(db) == []


@own_db("deletes a session of which rows are everywhere")
def test_thousands_of_random_operations(db):
    """Some 1,100, or 2,700."""
    crowd = Crowd(db, EXPECTED | CONFLICTS)
    clients = [(crowd.clients, SEED + n, scale(250, 600)) for n in range(4)]
    servers = [(crowd.server, SEED + 100 + n, scale(60, 150)) for n in range(2)]
    with ThreadPoolExecutor(6) as threads:
        tasks = [threads.submit(*task) for task in clients + servers]
        # Exact at every moment, not only when all is quiet.
        while not all(task.done() for task in tasks):
            assert unaccounted(db) == []
        for task in tasks:
            task.result()
    assert crowd.unexpected == [] and crowd.done > scale(625, 1_500)
    assert differences(db) == []
    for host, session in zip(crowd.hosts, crowd.sessions):
        peak = numbers(db, session)["peak_viewers"]
        assert 0 < peak <= 60
        assert crowd.world.end(session, host)["current_viewers"] == 0
    assert differences(db) == []
    db.sql("delete from public.live_stream_sessions where id = %s", [crowd.sessions[0]["id"]])
    assert differences(db) == []


@own_db("writes into whatever session is there")
@pytest.mark.parametrize("statement", BULK, ids=range(len(BULK)))
def test_each_bulk_statement_works(plain_db, statement):
    """So that the random test cannot pass because its statements fail."""
    crowd = Crowd(plain_db)
    crowd.clients(SEED, 250)
    users = "{" + ",".join(user.user_id for user in crowd.users) + "}"
    for n in (1, 4):
        session = crowd.sessions[0]["id"]
        plain_db.sql(
            statement.format(n=n, p=0.3, salt=n, users=users, products="{" + ",".join(crowd.products) + "}", session=session)
        )
        assert differences(plain_db) == []
    assert crowd.unexpected == []


@own_db("counts or changes all that is there")
def test_the_recount_finds_what_is_wrong(db, world):
    """The test of the test."""
    session = world.session()
    message = world.say(session, world.viewer, viewer=world.join(session, world.viewer))
    assert differences(db) == []
    db.sql("set session_replication_role = replica")
    db.sql("update public.live_stream_sessions set total_messages = 2, total_revenue = 0.01")
    db.sql("update public.live_stream_viewers set messages_sent = 0")
    db.sql("update public.live_stream_chat set replies_count = 1")
    db.sql("set session_replication_role = origin")
    found = sorted((row["what"], str(row["id"]), row["column"]) for row in differences(db))
    assert found == [
        ("message", message["id"], "replies_count"),
        ("session", session["id"], "total_messages"),
        ("session", session["id"], "total_revenue"),
        ("viewer", message["viewer_id"], "messages_sent"),
    ]


# A large session.


@own_db("counts or changes all that is there")
def test_the_summary_of_100_000_viewers(plain_db, capsys):
    """Of 10,000 in the short form."""
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    size = scale(10_000, 100_000)
    db.sql(
        """insert into public.live_stream_viewers (session_id, user_id, joined_at, left_at)
           select %s, case when g %% 4 > 0 then md5((g %% %s)::text)::uuid end,
                  now() - interval '1 hour',
                  case when g %% 5 > 0 then now() - make_interval(secs => g %% 3600) end
             from generate_series(1, %s) g""",
        [session["id"], size * 2 // 5, size],
    )
    truth = db.sql(
        """select count(distinct coalesce(user_id, id)) as people, sum(watch_duration_seconds) as seconds,
                  count(*) filter (where is_still_watching) as watching
             from public.live_stream_viewers"""
    )[0]
    began = time.perf_counter()
    row = world.influencer.api.select("session_analytics_summary", where={"session_id": session["id"]}, one=True)
    took = time.perf_counter() - began
    with capsys.disabled():
        print(f"\nsession_analytics_summary of {size:,} viewers: {took * 1000:.1f} ms")
    assert (row["total_unique_viewers"], row["current_viewers"]) == (truth["people"], truth["watching"]) == (size * 55 // 100, size // 5)
    assert row["total_watch_time"] == truth["seconds"] // 60
    assert row["avg_watch_time"] == pytest.approx(float(truth["seconds"]) / 60 / truth["people"], abs=0.0051)
    assert differences(db) == []
    began = time.perf_counter()
    ended = world.end(session)
    with capsys.disabled():
        print(f"ending it with {size // 5:,} viewers: {time.perf_counter() - began:.1f} s")
    assert ended["current_viewers"] == 0 and differences(db) == []
    db.sql("delete from public.live_stream_sessions")
    assert db.value("select count(*) from public.live_stream_viewers") == 0
