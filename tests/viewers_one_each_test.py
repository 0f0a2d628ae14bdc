"""One request, one viewer: a list of rows is refused whole, and so is bringing several of one's own rows back."""

from __future__ import annotations

import json
import uuid

import psycopg
import pytest

from people import people
from recount import differences
from refusals import refused
from sizes import own_db
from viewing import counts, counts_at_rest, rows

SEVERAL = "a request makes one viewer, and this one has several"
SEVERAL_BACK = "a request brings one viewer back, and this one has several"


def callers(world):
    return {"anon": world.anon, "viewer": world.viewer.api, "influencer": world.influencer.api}


@pytest.mark.parametrize("who", ["anon", "viewer", "influencer"])
@pytest.mark.parametrize("select", ["*", None])
def test_a_list_of_viewers_is_refused_and_changes_nothing(db, world, who, select):
    api, session, other = callers(world)[who], world.session(), world.session(by=world.new_influencer())
    world.join(session)
    before = world.read(session)
    for body in (
        [{"session_id": session["id"]}] * 2,
        [{"session_id": session["id"]}] * 996,
        [{"session_id": session["id"], "id": str(uuid.uuid4())} for _ in range(3)],
        [{"session_id": session["id"]}, {"session_id": other["id"]}],
        [{"session_id": session["id"], "viewer_type": kind} for kind in ("anonymous", "customer")],
    ):
        with refused("22023", SEVERAL, hint=True):
            api.insert("live_stream_viewers", body, select=select)
    assert world.read(session) == before and len(rows(world, session)) == 1
    assert counts(world, other) == (0, 0, 0) and differences(db) == []


@pytest.mark.parametrize("who", ["anon", "viewer"])
def test_a_list_of_one_is_one(world, who):
    session = world.session()
    (viewer,) = callers(world)[who].insert("live_stream_viewers", [{"session_id": session["id"]}])
    assert viewer["is_still_watching"] and counts(world, session) == (1, 1, 1)


def test_the_server_writes_several(world):
    session = world.session()
    assert len(world.service.insert("live_stream_viewers", [{"session_id": session["id"]}] * 20)) == 20
    assert counts_at_rest(world, session) == (20, 20, 20)


MANY = {
    "rows": "insert into public.live_stream_viewers (session_id) values (%(s)s), (%(s)s)",
    "query": "insert into public.live_stream_viewers (session_id) select %(s)s::uuid from generate_series(1, 30)",
    "do nothing": "insert into public.live_stream_viewers (session_id) values (%(s)s), (%(s)s) on conflict do nothing",
    "upsert": "insert into public.live_stream_viewers (id, session_id) select gen_random_uuid(), %(s)s from generate_series(1, 2)"
    " on conflict (id) do update set session_id = excluded.session_id",
    "two CTEs in one": "with a as (insert into public.live_stream_viewers (session_id) values (%(s)s), (%(s)s) returning id) select * from a",
    "merge": "merge into public.live_stream_viewers v using (values (%(s)s::uuid), (%(s)s::uuid)) as n (s) on false"
    " when not matched then insert (session_id) values (n.s)",
}


@pytest.mark.parametrize("role", ["anon", "authenticated"])
@pytest.mark.parametrize("way", MANY)
def test_every_way_to_make_several_is_refused(db, world, role, way):
    session = world.session()
    claims = json.dumps({"role": role} | ({"sub": world.viewer.user_id} if role == "authenticated" else {}))
    with db.connect("authenticator") as connection:
        for _ in range(8):
            with pytest.raises(psycopg.errors.InvalidParameterValue, match=SEVERAL) as refusal:
                with connection.transaction():
                    connection.execute("select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)", [role, claims])
                    connection.execute(MANY[way], {"s": session["id"]})
            assert refusal.value.diag.message_hint
    assert counts(world, session) == (0, 0, 0)


def as_role(connection, role, claims, headers=None):
    connection.execute(
        "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true), set_config('request.headers', %s, true)",
        [role, json.dumps(claims), json.dumps(headers or {})],
    )


def test_each_statement_of_a_transaction_makes_one(db, world):
    """As an app's own function may do it; also after one that failed, or was rolled back."""
    session = world.session()
    join = "insert into public.live_stream_viewers (session_id) values (%s) returning id"
    with db.connect("authenticator", prepare_threshold=0) as connection:
        for _ in range(3):
            with connection.transaction():
                as_role(connection, "anon", {"role": "anon"})
                ids = [connection.execute(join, [session["id"]]).fetchone()["id"] for _ in range(4)]
                seen = connection.execute("select id from public.live_stream_viewers").fetchall()
                assert [row["id"] for row in seen] == ids[-1:]
                for _ in range(3):
                    with pytest.raises(psycopg.errors.InvalidParameterValue), connection.transaction():
                        connection.execute(join.replace("(%s)", "(%s), (%s)"), [session["id"]] * 2)
                    connection.execute(join, [session["id"]])
    assert len(rows(world, session)) == 21 and differences(db) == []


@own_db("makes a trigger")
def test_a_trigger_of_the_apps_that_joins_again_is_another_statement(plain_db):
    world = people(plain_db)
    session, other = world.session(), world.session(by=world.new_influencer())
    plain_db.owner(
        f"""create function public.also() returns trigger language plpgsql as $$ begin
              if new.session_id = '{session["id"]}' then
                insert into public.live_stream_viewers (session_id) values ('{other["id"]}');
              end if;
              return new; end $$"""
    )
    for when in ("before", "after"):
        plain_db.owner(f"create or replace trigger zz_also {when} insert on public.live_stream_viewers for each row execute function public.also()")
        world.viewer.api.insert("live_stream_viewers", {"session_id": session["id"]})
        with refused("22023", SEVERAL):
            world.viewer.api.insert("live_stream_viewers", [{"session_id": session["id"]}] * 2)
        plain_db.owner("drop trigger zz_also on public.live_stream_viewers")
    assert counts(world, session) == counts(world, other) == (2, 2, 1)


@own_db("makes a function")
def test_a_function_of_the_apps_may_join_two_sessions(plain_db):
    """Also within the statement that makes another row."""
    world = people(plain_db)
    session, other = world.session(), world.session(by=world.new_influencer())
    plain_db.owner(
        f"""create function public.join_other() returns uuid language plpgsql volatile as $$ declare made uuid; begin
              insert into public.live_stream_viewers (session_id) values ('{other["id"]}') returning id into made;
              return made; end $$"""
    )
    with plain_db.connect("authenticator") as connection:
        for inside in ("case when public.join_other() is not null then %s::uuid end", "%s"):
            with connection.transaction():
                as_role(connection, "anon", {"role": "anon"})
                connection.execute("select public.join_other(), public.join_other()")
                connection.execute(f"insert into public.live_stream_viewers (session_id) values ({inside}) returning *", [session["id"]])
    assert counts(world, session) == (2, 2, 2) and counts(world, other) == (5, 5, 5)


def save_again(world, viewer, columns):
    """PostgREST's upsert of one row, by the person whose row it is."""
    row = {"id": viewer["id"], "session_id": viewer["session_id"]} | columns
    upsert = f"""insert into public.live_stream_viewers ({", ".join(row)}) values ({", ".join(f"%({c})s" for c in row)})
                 on conflict (id) do update set {", ".join(f"{c} = excluded.{c}" for c in columns)} returning *"""
    with world.db.connect("authenticator") as connection, connection.transaction():
        as_role(connection, "authenticated", {"sub": world.viewer.user_id})
        return connection.execute(upsert, row).fetchone()


def test_one_row_is_saved_again(world):
    """It comes back by it, and leaves by it."""
    session = world.session()
    viewer = world.join(session, world.viewer)
    for watches in (False, True, False, False, True):
        assert save_again(world, viewer, {"is_still_watching": watches})["is_still_watching"] is watches
        assert counts(world, session) == (int(watches), 1, 1)
    assert differences(world.db) == []


def test_a_full_session_is_left_by_saving_the_row_again(world):
    session = world.session(max_viewers=1)
    left = save_again(world, world.join(session, world.viewer), {"left_at": "2020-01-01T00:00:00Z"})
    assert not left["is_still_watching"] and left["left_at"] == left["updated_at"]
    assert counts(world, session) == (0, 1, 1) and differences(world.db) == []


def test_whoever_inserts_a_row_that_is_not_there_comes(world):
    session = world.session()
    viewer = world.join(session, world.viewer, id=str(uuid.uuid4()), is_still_watching=False)
    assert viewer["is_still_watching"] and counts(world, session) == (1, 1, 1)


def test_a_list_of_calls_makes_one_viewer_of_each_session(db, world):
    """PostgREST's params=multiple-objects, as it was until version 13: the function, for each object of a list."""
    session, other = world.session(), world.session(by=world.new_influencer())
    calls = """select j.* from json_to_recordset(%s::json) as b (session_id uuid, viewer_id uuid)
               cross join lateral public.live_stream_join(session_id => b.session_id, viewer_id => b.viewer_id) as j"""
    for own_ids in (False, True):
        body = [
            {"session_id": where["id"], "viewer_id": str(uuid.uuid4()) if own_ids else None}
            for _ in range(20)
            for where in (session, other)
        ]
        for role, claims in (("anon", {}), ("authenticated", {"sub": world.viewer.user_id})):
            with db.connect("authenticator") as connection, connection.transaction():
                as_role(connection, role, claims)
                made = connection.execute(calls, [json.dumps(body)]).fetchall()
                assert len(made) == 40 and len({row["id"] for row in made}) == 2
    assert counts(world, session) == counts(world, other) == (3, 3, 3) and differences(db) == []


def test_a_viewer_that_was_rolled_back_is_made_again(db, world):
    session = world.session()
    join = "select id from public.live_stream_join(%s)"
    with db.connect("authenticator") as connection, connection.transaction():
        as_role(connection, "anon", {})
        connection.execute("savepoint s")
        first = connection.execute(join, [session["id"]]).fetchone()["id"]
        connection.execute("rollback to s")
        second = connection.execute(join, [session["id"]]).fetchone()["id"]
        connection.execute("savepoint t")
        assert connection.execute(join, [session["id"]]).fetchone()["id"] == second != first
    assert counts(world, session) == (1, 1, 1) and differences(db) == []


# Coming back.


def left_rows(world, session, n):
    made = [world.join(session, world.viewer) for _ in range(n)]
    return [world.leave(row, world.viewer) for row in made]


@pytest.mark.parametrize("patch", [{"is_still_watching": True}, {"is_still_watching": True, "left_at": None}])
def test_several_rows_do_not_come_back_by_one_request(db, world, patch):
    session, other = world.session(), world.session(by=world.new_influencer())
    own = left_rows(world, session, 3)
    elsewhere = left_rows(world, other, 1)
    api = world.viewer.api
    for where in ({"session_id": session["id"]}, {"user_id": world.viewer.user_id}, {"id": [own[0]["id"], elsewhere[0]["id"]]}):
        with refused("22023", SEVERAL_BACK, hint=True):
            api.update("live_stream_viewers", patch, where=where)
    assert counts(world, session) == (0, 3, 1) and counts(world, other) == (0, 1, 1)
    back = api.update("live_stream_viewers", patch, where={"id": own[1]["id"]}, one=True)
    assert back["is_still_watching"] and counts(world, session) == (1, 3, 1)
    # The one that watches already, and one that comes back.
    both = api.update("live_stream_viewers", {"is_still_watching": True}, where={"id": [own[1]["id"], own[2]["id"]]})
    assert all(row["is_still_watching"] for row in both) and len(both) == 2
    assert counts(world, session) == (2, 3, 1) and differences(db) == []


def test_all_rows_leave_by_one_request(db, world):
    session, other = world.session(), world.session(by=world.new_influencer())
    for where in (session, session, other):
        world.join(where, world.viewer)
    left = world.viewer.api.update("live_stream_viewers", {"is_still_watching": False}, where={"user_id": world.viewer.user_id})
    assert len(left) == 3 and counts(world, session) == (0, 2, 1) and counts(world, other) == (0, 1, 1)
    told = world.viewer.api.update("live_stream_viewers", {"country": "Peru"}, where={"user_id": world.viewer.user_id})
    assert [row["country"] for row in told] == ["Peru"] * 3 and differences(db) == []


def test_the_server_brings_several_back(db, world):
    session = world.session()
    left_rows(world, session, 3)
    back = world.service.update("live_stream_viewers", {"is_still_watching": True}, where={"session_id": session["id"]})
    assert len(back) == 3 and counts_at_rest(world, session) == (3, 3, 1) and differences(db) == []


def test_a_stranger_with_a_list_does_not_fill_a_show(db, world):
    session = world.session()
    assert session["max_viewers"] == 1000
    with refused("22023", SEVERAL, hint=True):
        world.anon.insert("live_stream_viewers", [{"session_id": session["id"]}] * 996, select=None)
    world.join(session, world.viewer)
    assert counts(world, session) == (1, 1, 1) and differences(db) == []
