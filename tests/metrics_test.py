"""The numbers of a session: always what a recount of the rows says, whatever happened and from wherever."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from crowds import SEED, counts, numbers
from people import people
from recount import differences, rest
from refusals import refused
from sizes import own_db


# Many rows in one statement are the same as one by one.


def test_many_rows_are_the_same_as_one_by_one(db, world):
    pick = random.Random(SEED)
    users = [world.new_user().user_id for _ in range(8)]
    pairs = [
        [world.session(live=False, max_viewers=None, by=world.new_influencer()) for _ in range(2)] for _ in range(3)
    ]
    together, apart = zip(*pairs)
    plan = []
    for n in range(200):
        left = pick.choice([None, None, "2020-01-01 00:05:07+00", "2020-01-01 00:00:30+00"])
        plan.append((pick.randrange(3), pick.choice([*users, None]), left))

    def insert(sessions, rows):
        values = ", ".join(["(%s::uuid, %s::uuid, '2020-01-01 00:00+00'::timestamptz, %s::timestamptz)"] * len(rows))
        params = [value for at, user, left in rows for value in (sessions[at]["id"], user, left)]
        query = "insert into public.live_stream_viewers (session_id, user_id, joined_at, left_at) values " + values
        return [row["id"] for row in db.sql(query + " returning id", params)]

    def same():
        assert [numbers(db, s) for s in together] == [numbers(db, s) for s in apart]
        assert differences(db) == []
        return [counts(db, s) for s in together]

    ids = insert(together, plan)
    ids_apart = [insert(apart, [row])[0] for row in plan]
    after_insert = same()
    assert all(current > 20 for current, _, _ in after_insert)

    # Some leave and others come in the same statement: the peak is what it is row by row.
    db.sql("set enable_indexscan = off; set enable_bitmapscan = off")
    flip = "update public.live_stream_viewers set is_still_watching = not is_still_watching where id = any (%s)"
    for _ in range(5):
        chosen = sorted(pick.sample(range(200), 120))
        in_order = db.sql(
            "select id from public.live_stream_viewers where id = any (%s) order by ctid", [[ids[n] for n in chosen]]
        )
        place = {id: n for n, id in enumerate(ids)}
        db.sql(flip, [[ids[n] for n in chosen]])
        for row in in_order:
            db.sql(flip, [[ids_apart[place[row["id"]]]]])
        # Whoever came back is watching since now: only the counts are compared from here on.
        assert [counts(db, s) for s in together] == [counts(db, s) for s in apart]
    assert [peak for _, peak, _ in map(lambda s: counts(db, s), together)] > [peak for _, peak, _ in after_insert]
    assert differences(db) == []

    gone = pick.sample(range(200), 90)
    db.sql("delete from public.live_stream_viewers where id = any (%s)", [[ids[n] for n in gone]])
    for n in gone:
        db.sql("delete from public.live_stream_viewers where id = %s", [ids_apart[n]])
    assert [counts(db, s) for s in together] == [counts(db, s) for s in apart]
    assert differences(db) == []


@own_db("counts or changes all that is there")
@pytest.mark.parametrize("limit", [None, 1000])
def test_the_peak_within_one_statement(db, world, limit):
    """Where there is a limit, all who come and go with a statement do so at once."""
    session = world.session(max_viewers=limit)
    for _ in range(3):
        world.join(session)
    db.sql("set enable_indexscan = off; set enable_bitmapscan = off")
    # Three leave and, after them in the table, two come: never more than before. Then in the other order.
    db.sql(
        "insert into public.live_stream_viewers (session_id, left_at) select %s, now() from generate_series(1, 2)",
        [session["id"]],
    )
    flip = "update public.live_stream_viewers set is_still_watching = not is_still_watching"
    db.sql(flip)
    assert counts(db, session) == (2, 3, 5)
    db.sql(flip)
    assert counts(db, session) == (3, 3 if limit else 5, 5)
    assert differences(db) == []


@pytest.mark.parametrize("inserted", [True, False])
def test_the_limit_within_one_statement(db, world, inserted):
    session = world.session(max_viewers=5)
    if inserted:
        with refused("PT409", "is full", hint=True):
            world.service.insert("live_stream_viewers", [{"session_id": session["id"]}] * 6)
    else:
        body = [{"session_id": session["id"], "left_at": "2030-01-01T00:00:00Z"}] * 6
        world.service.insert("live_stream_viewers", body)
        with refused("PT409", "is full", hint=True):
            world.service.update("live_stream_viewers", {"is_still_watching": True}, where={"session_id": session["id"]})
    assert counts(db, session)[:2] == (0, 0)
    world.service.insert("live_stream_viewers", [{"session_id": session["id"]}] * 5)
    assert counts(db, session)[:2] == (5, 5)


@own_db("counts or changes all that is there")
def test_copy_and_merge_count_too(db, world):
    session = world.session()
    with db.connect() as connection:
        with connection.cursor().copy("copy public.live_stream_viewers (session_id, is_still_watching) from stdin") as copy:
            for n in range(10):
                copy.write_row((session["id"], n < 7))
    assert counts(db, session) == (7, 7, 10)
    db.sql(
        """merge into public.live_stream_viewers v
           using (select id, row_number() over (order by id) as n from public.live_stream_viewers
                   union all select gen_random_uuid(), 11) as s on v.id = s.id
            when matched and s.n %% 2 = 0 then delete
            when matched then update set is_still_watching = false
            when not matched then insert (session_id) values (%s)""",
        [session["id"]],
    )
    assert counts(db, session)[0] == 1 and counts(db, session)[2] == 6 and differences(db) == []


@own_db("has a trigger of the app's")
def test_rows_that_are_not_stored_do_not_count(db, world):
    session = world.session()
    viewer = world.join(session, world.viewer)
    db.sql(
        "insert into public.live_stream_viewers (id, session_id) values (%s, %s) on conflict do nothing",
        [viewer["id"], session["id"]],
    )
    db.sql(
        "insert into public.live_stream_viewers (id, session_id) values (%s, %s)"
        " on conflict (id) do update set is_still_watching = false",
        [viewer["id"], session["id"]],
    )
    assert counts(db, session) == (0, 1, 1)
    db.owner(
        "create function public.skip() returns trigger language plpgsql as 'begin return null; end';"
    )
    db.owner("create trigger zz before insert on public.live_stream_viewers for each row execute function public.skip()")
    db.sql("insert into public.live_stream_viewers (session_id) values (%s)", [session["id"]])
    assert counts(db, session) == (0, 1, 1) and differences(db) == []


# Different people.


@own_db("counts or changes all that is there")
def test_unique_viewers(db, world):
    session = world.session()
    users = [world.new_user().user_id for _ in range(3)]

    def insert(*ids):
        rows = [(session["id"], id) for id in ids]
        values = ", ".join(["(%s::uuid, %s::uuid)"] * len(rows))
        query = f"insert into public.live_stream_viewers (session_id, user_id) values {values} returning id"
        return [row["id"] for row in db.sql(query, [v for row in rows for v in row])]

    def unique():
        assert differences(db) == []
        return counts(db, session)[2]

    first = insert(users[0], users[0], users[0], None, None)
    assert unique() == 3
    insert(users[0], users[1])
    assert unique() == 4
    db.sql("update public.live_stream_viewers set user_id = %s where id = %s", [users[2], first[0]])
    assert unique() == 5
    db.sql("update public.live_stream_viewers set user_id = null where id = %s", [first[3]])
    db.sql("update public.live_stream_viewers set user_id = %s where id = any (%s)", [users[0], [first[0], first[3]]])
    assert unique() == 3
    db.sql("update public.live_stream_viewers set user_id = null where user_id = %s", [users[0]])
    assert unique() == 7
    db.sql("delete from public.live_stream_viewers where user_id = %s", [users[1]])
    assert unique() == 6
    db.sql("delete from public.live_stream_viewers")
    assert unique() == 0


@pytest.mark.parametrize("statement", [
    "delete from public.live_stream_viewers where id = %s",
    "update public.live_stream_viewers set user_id = null where id = %s",
])  # fmt: skip
def test_the_last_rows_of_a_person_go_at_once(db, world, statement):
    session = world.session()
    first, second = world.join(session, world.viewer), world.join(session, world.viewer)
    with db.connect() as one, db.connect() as other, ThreadPoolExecutor(1) as thread:
        with one.transaction():
            one.execute(statement, [first["id"]])
            both = thread.submit(other.execute, statement, [second["id"]])
        both.result()
    rest(db)
    assert counts(db, session)[2] == (0 if "delete" in statement else 2) and differences(db) == []


def test_a_user_who_is_deleted(supabase_db):
    world = people(supabase_db)
    session = world.session()
    for _ in range(3):
        viewer = world.join(session, world.viewer)
        world.say(session, world.viewer, viewer=viewer)
    world.join(session)
    assert counts(supabase_db, session) == (4, 4, 2)
    supabase_db.sql("delete from auth.users where id = %s", [world.viewer.user_id])
    # Nobody can tell any more that the three rows were one person.
    assert counts(supabase_db, session) == (4, 4, 4)
    assert numbers(supabase_db, session)["total_messages"] == 3 and differences(supabase_db) == []


@own_db("counts or changes all that is there")
def test_a_viewer_moved_to_another_session(db, world):
    """By the server only: with its watch time, its reports and whether it is still there."""
    first, second = world.session(), world.session(by=world.new_influencer(), max_viewers=1)
    stays, moves = world.join(first, world.viewer), world.join(first, world.viewer)
    world.viewer.api.rpc("live_stream_report_quality", viewer_id=moves["id"], buffering_time_seconds=9)
    move = "update public.live_stream_viewers set session_id = %s where id = %s"
    db.sql(move, [second["id"], moves["id"]])
    assert counts(db, first) == (1, 1, 1) and counts(db, second) == (1, 1, 1)
    assert numbers(db, second)["buffering_events"] == 1 and numbers(db, first)["buffering_events"] == 0
    with pytest.raises(psycopg.DatabaseError) as error:
        db.sql(move, [second["id"], stays["id"]])
    assert error.value.sqlstate == "PT409"
    world.service.update("live_stream_sessions", {"max_viewers": 2}, where={"id": second["id"]})
    db.sql("update public.live_stream_viewers set session_id = case session_id when %s then %s::uuid else %s::uuid end",
           [first["id"], second["id"], first["id"]])  # fmt: skip
    assert counts(db, first)[::2] == counts(db, second)[::2] == (1, 1) and differences(db) == []
    with pytest.raises(psycopg.errors.NotNullViolation):
        db.sql(move, [None, stays["id"]])
    ended = world.end(first)
    with pytest.raises(psycopg.DatabaseError) as error:
        db.sql("update public.live_stream_viewers set session_id = %s where is_still_watching", [ended["id"]])
    assert error.value.sqlstate == "PT409" and differences(db) == []


# Transactions.


@own_db("counts or changes all that is there")
def test_one_who_joins_and_reads_sees_it(db, world):
    """Once its transaction has committed: until then the session's row is everybody's."""
    session = world.session()
    join = "insert into public.live_stream_viewers (session_id) values (%s)"
    with db.connect() as connection:
        for expected in (1, 2):
            connection.execute(join, [session["id"]])
            row = connection.execute("select current_viewers from public.live_stream_sessions").fetchone()
            assert row["current_viewers"] == expected
        with connection.transaction(force_rollback=True):
            connection.execute(join, [session["id"]])
            db.sql("update public.live_stream_sessions set title = 'Renamed meanwhile' where id = %s", [session["id"]])
    assert counts(db, session) == (2, 2, 2)


@own_db("counts or changes all that is there")
def test_what_is_rolled_back_never_was(db, world):
    session = world.session(max_viewers=2)
    insert = "insert into public.live_stream_viewers (session_id) values (%s)"
    with db.connect() as connection:
        with connection.transaction():
            connection.execute(insert, [session["id"]])
            with connection.transaction(force_rollback=True):
                connection.execute(insert, [session["id"]])
            with pytest.raises(psycopg.DatabaseError) as error, connection.transaction():
                connection.execute(insert, [session["id"]])
                connection.execute(insert, [session["id"]])
            assert error.value.sqlstate == "PT409"
            connection.execute(insert, [session["id"]])
        assert counts(db, session) == (2, 2, 2)
        with pytest.raises(psycopg.DatabaseError), connection.transaction():
            connection.execute("update public.live_stream_sessions set status = 'ended'")
            connection.execute(insert, [session["id"]])
        # Caught in a function, the refusal leaves what was there before.
        connection.execute(
            f"""do $$ begin
                  delete from public.live_stream_viewers
                   where id = (select id from public.live_stream_viewers limit 1);
                  begin
                    insert into public.live_stream_viewers (session_id)
                    select '{session["id"]}' from generate_series(1, 2);
                  exception when sqlstate 'PT409' then
                    insert into public.live_stream_viewers (session_id) values ('{session["id"]}');
                  end;
                end $$"""
        )
    assert counts(db, session) == (2, 2, 2) and differences(db) == []


@own_db("counts or changes all that is there")
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_stricter_isolation(db, world, level):
    session = world.session()
    insert = "insert into public.live_stream_viewers (session_id, user_id) values (%s, %s)"
    params = [session["id"], world.viewer.user_id]
    with db.connect() as connection:
        connection.execute(f"set default_transaction_isolation = '{level}'")
        with connection.transaction():
            connection.execute(insert, params)
            connection.execute(insert, params)
        assert counts(db, session) == (2, 2, 1)
        with connection.transaction():
            connection.execute("select count(*) from public.live_stream_viewers")
            world.join(session, world.viewer)
            connection.execute(insert, params)
        rest(db)
        assert counts(db, session) == (4, 4, 1) and differences(db) == []
        with pytest.raises(psycopg.errors.SerializationFailure), connection.transaction():
            connection.execute("select count(*) from public.live_stream_viewers")
            world.join(session, world.viewer)
            connection.execute("update public.live_stream_sessions set status = 'ended'")
        with connection.transaction():
            connection.execute("update public.live_stream_sessions set status = 'ended'")
    assert counts(db, session) == (0, 5, 1) and differences(db) == []


def test_prepared_transactions(fresh_server):
    fresh_server.run("postgres", "alter system set max_prepared_transactions = 5")
    fresh_server.crash()
    fresh_server.make_templates()
    with fresh_server.database("plain") as db:
        world = people(db)
        session = world.session(stream_key="first")
        with db.connect() as connection:
            for name, verdict in (("a", "commit"), ("b", "rollback")):
                connection.execute("begin")
                for _ in range(2):
                    connection.execute("insert into public.live_stream_viewers (session_id) values (%s)", [session["id"]])
                connection.execute("update public.live_stream_sessions set stream_key = %s", [name])
                connection.execute(f"prepare transaction '{name}'")
                # The connection goes on with other things meanwhile.
                assert counts(db, session)[0] == (0 if name == "a" else 2)
                other = world.session(by=world.new_influencer())
                connection.execute("insert into public.live_stream_viewers (session_id) values (%s)", [other["id"]])
                connection.execute(f"{verdict} prepared '{name}'")
                assert counts(db, other) == (1, 1, 1)
        assert counts(db, session) == (2, 2, 2) and differences(db) == []
        (secret,) = world.influencer.api.rpc("live_stream_stream_credentials", session_id=session["id"])
        assert secret["stream_key"] == "a"


# At the edges of numbers.


@pytest.mark.parametrize("column, largest, total", [
    ("clicks", 2**31 - 1, "total_clicks"), ("orders", 2**31 - 1, "total_orders"),
    ("shares", 2**31 - 1, "total_shares"), ("revenue", 9999999999.99, "total_revenue"),
])  # fmt: skip
def test_a_number_too_large_is_refused(db, world, column, largest, total):
    session = world.session()

    def product(**columns):
        body = {"session_id": session["id"], "product_id": world.new_product()} | columns
        return world.service.insert("live_stream_products", body)

    world.join(session, world.viewer)
    product(**{column: largest})
    product()
    before = numbers(db, session)
    assert float(before[total]) == largest
    assert float(before["conversion_rate"]) == (999.99 if column == "orders" else 0)
    with refused("22003", f"a number of session {session['id']} would be too large", hint=True):
        product(**{column: 1})
    with refused("22003", "would be too large", hint=True):
        world.service.update("live_stream_products", {column: 1}, where={f"{column} lt": 1})
    assert numbers(db, session) == before and differences(db) == []
