"""Rows of viewers: who sees which, what functions return, who is counted, and what the app has added."""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from database import Database, OWNER
from people import people
from postgrest import RequestError, Row
from recount import differences, rest
from refusals import refused
from replica import until
from sizes import own_db
from viewing import counts, join, rows


# Who sees which rows.


@own_db("counts or changes all that is there")
def test_who_sees_which_rows(world):
    session = world.session()
    mine, theirs, anonymous = world.join(session, world.viewer), world.join(session, world.stranger), world.join(session)
    everybody = {mine["id"], theirs["id"], anonymous["id"]}
    other = world.new_influencer()
    world.session(by=other)
    expected = [
        (world.viewer.api, {mine["id"]}),
        (world.stranger.api, {theirs["id"]}),
        (world.anon, set()),
        (world.anonymous(anonymous), {anonymous["id"]}),
        (world.anonymous(mine), set()),
        (other.api, set()),
        (world.influencer.api, everybody),
        (world.service, everybody),
    ]
    for api, ids in expected:
        found = api.select("live_stream_viewers", where={"session_id": session["id"]})
        assert {row["id"] for row in found} == ids
        assert {row["id"] for row in api.select("live_stream_viewers")} == ids
    # The host sees the rows and changes none.
    assert world.influencer.api.update("live_stream_viewers", {"is_still_watching": False}) == []


IN_AN_APP = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
    " Instagram 334.0.4.32.98 (iPhone14,5; iOS 17_5_1; de_DE)"
)
TECHNICAL = {"user_agent": 1_000, "country": 100, "city": 100, "device_type": 50, "browser": 100}
SAYS = {
    # What a programme says, and how much of it is kept of so many characters.
    IN_AN_APP: lambda most: IN_AN_APP[:most],
    "é👩" * 1_000: lambda most: ("é👩" * 1_000)[:most],
    "x" * 100_000: lambda most: "x" * most,
    "a\x07b\r\nc\x7f": lambda most: "abc",
    " Safari ": lambda most: " Safari ",
    " " * 2_000 + "x": lambda most: None,
    "\u200b\u2060\t": lambda most: None,
    "": lambda most: None,
}


@pytest.mark.parametrize("way", ["function", "insert", "update", "upsert", "server"])
@pytest.mark.parametrize("column", TECHNICAL)
def test_what_a_programme_says_of_itself_keeps_nobody_out(world, column, way):
    session = world.session()
    viewer = world.join(session, world.viewer)
    api = world.service if way == "server" else world.viewer.api
    for says, kept in SAYS.items():
        body = {"session_id": session["id"], column: says}
        if way == "function":
            row = world.anon.rpc("live_stream_join", body)
        elif way == "update":
            row = api.update("live_stream_viewers", {column: says}, where={"id": viewer["id"]}, one=True)
        elif way == "upsert":
            row = api.upsert("live_stream_viewers", body | {"id": viewer["id"]})
        else:
            row = api.insert("live_stream_viewers", body)
        assert row[column] == kept(TECHNICAL[column]), says[:80]
    assert differences(world.db) == []


def test_an_address_is_no_text(world):
    session = world.session()
    with refused("22P02", "inet"):
        world.join(session, ip_address="localhost")
    assert counts(world, session) == (0, 0, 0)


@own_db("alters a table")
def test_columns_of_the_apps_own(world, db):
    db.owner("alter table public.live_stream_viewers add column gone int default 1, add column referrer text")
    db.owner("alter table public.live_stream_viewers drop column gone")
    db.reload_schema()
    session = world.session()
    viewer = world.join(session, world.viewer, referrer="newsletter")
    assert viewer["referrer"] == "newsletter"
    assert join(world.viewer.api, session)["referrer"] == "newsletter"
    for referrer in ("ad", "radio"):
        assert world.leave(viewer, world.viewer, referrer=referrer)["referrer"] == referrer
    assert counts(world, session) == (0, 1, 1)


def test_a_busy_session_under_many_threads(world):
    """Joins, rejoins, leaves, shares, reports and a slow end, with no deadlock and no row left open."""
    world.db.without_limits()
    session = world.session(max_viewers=None)
    people = [world.new_user() for _ in range(10)]
    errors, stop = [], threading.Event()

    def watch(who):
        while not stop.is_set():
            try:
                viewer = join(who.api, session)
                who.api.rpc("live_stream_share", viewer_id=viewer["id"])
                patch = {"buffering_time_seconds": viewer["buffering_time_seconds"] + 1}
                who.api.update("live_stream_viewers", patch, where={"id": viewer["id"]})
                world.leave(viewer, who)
            except RequestError as error:
                if error.sqlstate != "PT409":
                    errors.append(str(error))
                return

    with ThreadPoolExecutor(len(people)) as threads:
        done = [threads.submit(watch, who) for who in people]
        while world.read(session)["total_shares"] < 200 and not any(future.done() for future in done):
            pass
        world.end(session)
        stop.set()
    assert errors == [] and [future.exception() for future in done] == [None] * 10
    # A share may come after the end.
    rest(world.db)
    row = world.read(session)
    found = rows(world, session)
    assert (row["current_viewers"], row["total_unique_viewers"], len(found)) == (0, 10, 10)
    assert row["total_shares"] == sum(v["shares_sent"] for v in found) >= 200
    assert row["total_buffering_time_seconds"] == sum(v["buffering_time_seconds"] for v in found)


def test_the_row_of_a_deleted_account_has_no_key(supabase_db):
    """Its id stands in the chat for everybody to read; only an anonymous viewer's own id is a secret."""
    world = people(supabase_db)
    session = world.session()
    viewer = world.join(session, world.viewer, ip_address="203.0.113.7")
    world.say(session, world.viewer, "hello", viewer)
    supabase_db.sql("delete from auth.users where id = %s", [world.viewer.user_id])

    (message,) = world.anon.select("live_stream_chat", where={"session_id": session["id"]})
    assert message["viewer_id"] == viewer["id"]
    thief = world.anonymous(viewer)
    assert thief.select("live_stream_viewers") == []
    for function in ("live_stream_leave", "live_stream_heartbeat", "live_stream_share"):
        with refused("PT404", "does not exist"):
            thief.rpc(function, viewer_id=viewer["id"])
    joined = thief.rpc("live_stream_join", session_id=session["id"], viewer_id=viewer["id"])
    assert joined["id"] != viewer["id"]


# The row that a function returns.


@own_db("counts or changes all that is there")
@pytest.mark.parametrize(
    "call",
    [
        "live_stream.acting_viewer(null::integer)",
        "live_stream.acting_viewer(null::public.live_stream_chat)",
        "live_stream.acting_viewer(null)",
        "live_stream.send_message(null::integer, (select id from public.live_stream_sessions), 'x', 'chat', null, null, null, null)",
    ],
)
def test_a_row_is_returned_as_what_it_is(db, call):
    people(db).session()
    with pytest.raises(psycopg.errors.DatatypeMismatch):
        db.owner(f"select {call}")
    assert db.value("select count(*) from public.live_stream_chat") == 0


def test_the_acting_viewer_is_the_one_that_a_function_has_checked(db):
    """Neither a setting that anybody can write, nor the transaction before, nor what was rolled back."""
    world = people(db)
    session = world.session()
    others = world.new_user().api.rpc("live_stream_join", session_id=session["id"])
    acting = "select (live_stream.acting_viewer(null::public.live_stream_viewers)).id"
    with db.connect() as connection:

        def who():
            return connection.execute(acting).fetchone()["id"]

        with connection.transaction():
            claims = json.dumps({"role": "authenticated", "sub": world.new_user().user_id})
            connection.execute(
                "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true),"
                " set_config('live_stream.viewer_id', %s, true)",
                [claims, str(others["id"])],
            )
            assert who() is None
            connection.execute("savepoint s")
            joined = connection.execute(
                "select live_stream.join_session(%s, null, null, null, null, null, null, null, null) as id", [session["id"]]
            ).fetchone()["id"]
            assert who() == joined
            connection.execute("rollback to s")
            assert who() is None
            joined = connection.execute("select id from public.live_stream_join(%s)", [session["id"]]).fetchone()["id"]
            assert who() == joined != others["id"]
        with connection.transaction():
            connection.execute("savepoint s")
            connection.execute("select live_stream.act_as_viewer(%s)", [joined])
            assert who() == joined
            connection.execute("rollback to s")
            assert who() is None
        assert who() is None


# A person is counted once, however its rows come and go.


def uniques(db: Database, session: Row) -> int:
    return db.value("select total_unique_viewers from public.live_stream_sessions where id = %s", [session["id"]])


@own_db("counts or changes all that is there")
@pytest.mark.parametrize(
    "statement",
    [
        """with gone as (delete from public.live_stream_viewers where user_id = %(user)s returning session_id, user_id)
           insert into public.live_stream_viewers (session_id, user_id) select session_id, user_id from gone""",
        """merge into public.live_stream_viewers as v
           using (values (%(user)s::uuid, true), (%(user)s::uuid, false)) as s (user_id, goes)
              on v.user_id = s.user_id and s.goes
            when matched then delete
            when not matched then insert (session_id, user_id) values (%(session)s, s.user_id)""",
        """insert into public.live_stream_viewers (id, session_id, user_id)
           select id, session_id, %(other)s::uuid from public.live_stream_viewers where user_id = %(user)s
           union all select gen_random_uuid(), %(session)s, %(user)s
               on conflict (id) do update set user_id = excluded.user_id""",
    ],
    ids=["with", "merge", "on conflict"],
)
def test_a_statement_that_takes_rows_away_and_adds_some(plain_db, statement):
    db = plain_db
    session = people(db).session(max_viewers=None)
    ids = {"session": session["id"], "user": str(uuid.uuid4()), "other": str(uuid.uuid4())}
    db.sql("insert into public.live_stream_viewers (session_id, user_id) values (%(session)s, %(user)s)", ids)
    db.sql(statement, ids)
    truth = db.value("select count(distinct user_id) from public.live_stream_viewers")
    assert uniques(db, session) == truth == (2 if "conflict" in statement else 1)
    assert differences(db) == []


@own_db("has a trigger of the app's")
@pytest.mark.parametrize(
    "and_the_others",
    [
        "delete from public.live_stream_viewers where session_id = new.session_id and user_id = new.user_id"
        " and id <> new.id",
        "update public.live_stream_viewers set is_still_watching = false where session_id = new.session_id"
        " and user_id = new.user_id and id <> new.id and is_still_watching",
        "insert into public.live_stream_viewers (session_id, user_id) select new.session_id, new.user_id"
        " where pg_trigger_depth() = 1",
    ],
    ids=["delete", "close", "insert"],
)
def test_an_app_that_sees_to_the_other_rows_of_who_joins(plain_db, and_the_others):
    db = plain_db
    world = people(db)
    session = world.session(max_viewers=None)
    db.owner(
        f"""create function public.one_device() returns trigger language plpgsql security definer as $$
              begin
                {and_the_others};
                return null;
              end $$;
            create trigger one_device after insert on public.live_stream_viewers
              for each row execute function public.one_device()"""
    )
    user = str(uuid.uuid4())
    for _ in range(3):
        db.sql("insert into public.live_stream_viewers (session_id, user_id) values (%s, %s)", [session["id"], user])
        assert uniques(db, session) == 1 and differences(db) == []
    world.join(session, world.viewer)
    assert uniques(db, session) == 2 and differences(db) == []


@own_db("truncates")
def test_a_person_whose_rows_come_and_go_in_one_transaction(plain_db):
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    one, other = str(uuid.uuid4()), str(uuid.uuid4())
    come = "insert into public.live_stream_viewers (session_id, user_id) values (%s, %s)"
    go = "delete from public.live_stream_viewers where session_id = %s and user_id = %s"
    with db.connect() as connection:
        with connection.transaction():
            connection.execute(come, [session["id"], one])
            with contextlib.suppress(psycopg.Rollback), connection.transaction() as undone:
                connection.execute(go, [session["id"], one])
                connection.execute(come, [session["id"], other])
                with connection.transaction():
                    connection.execute(come, [session["id"], one])
                raise psycopg.Rollback(undone)
            connection.execute(come, [session["id"], other])
            with connection.transaction():
                connection.execute(go, [session["id"], one])
            connection.execute(come, [session["id"], one])
        assert uniques(db, session) == 2 and differences(db) == []
        with connection.transaction():
            connection.execute(go, [session["id"], one])
            connection.execute("truncate public.live_stream_viewers cascade")
            connection.execute(come, [session["id"], one])
    assert uniques(db, session) == 1 and differences(db) == []


# What the app has added to the table.


@own_db("alters a table")
def test_a_column_that_was_added_later_has_its_default_in_what_functions_return(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session()
    viewer = world.join(session, world.viewer)
    db.owner("alter table public.live_stream_viewers add column tier integer not null default 7")
    db.reload_schema()
    for name in ("heartbeat", "share", "leave"):
        assert world.viewer.api.rpc(f"live_stream_{name}", {"viewer_id": viewer["id"]})["tier"] == 7


@own_db("alters a table")
def test_a_column_that_the_caller_may_not_read_is_not_returned(plain_db):
    """As by a SELECT of the whole row, which the functions stand for."""
    db, world = plain_db, people(plain_db)
    session = world.session()
    viewer = world.join(session, world.viewer)
    db.owner(
        """alter table public.live_stream_viewers add column fraud_note text default 'private';
           alter table public.live_stream_chat add column fraud_note text default 'private'"""
    )
    for table in ("live_stream_viewers", "live_stream_chat"):
        columns = db.value(
            """select string_agg(quote_ident(attname), ', ') from pg_attribute
                where attrelid = %s::regclass and attnum > 0 and attname <> 'fraud_note'""",
            [f"public.{table}"],
        )
        db.owner(f"revoke select on public.{table} from authenticated")
        db.owner(f"grant select ({columns}) on public.{table} to authenticated")
    db.reload_schema()
    for name in ("heartbeat", "leave"):
        with refused("42501"):
            world.viewer.api.rpc(f"live_stream_{name}", {"viewer_id": viewer["id"]})
    with refused("42501"):
        world.viewer.api.rpc("live_stream_send_message", {"session_id": session["id"], "message": "hello"})
    db.owner("grant select on public.live_stream_viewers to authenticated")
    assert world.viewer.api.rpc("live_stream_heartbeat", {"viewer_id": viewer["id"]})["fraud_note"] == "private"


def test_only_a_heartbeat_that_is_alone_is_committed_without_waiting_for_the_disk(fresh_server):
    """Whatever else the transaction has written is as safe as ever."""
    for setting in ("wal_writer_delay = '10s'", "fsync = on", "synchronous_commit = on"):
        fresh_server.run("postgres", f"alter system set {setting}")
    fresh_server.crash()
    fresh_server.make_templates()
    with fresh_server.database("plain") as db:
        world = people(db)
        viewer = world.join(world.session(), world.viewer)["id"]
        db.owner(
            """create table public.purchases (id integer, viewer_id uuid);
               create sequence public.invoice;
               create function public.seen() returns trigger language plpgsql as $$
                 begin perform public.live_stream_heartbeat(new.viewer_id); return new; end $$;
               create trigger seen before insert on public.purchases for each row when (new.viewer_id is not null)
                 execute function public.seen()"""
        )
        heartbeat = "select public.live_stream_heartbeat(%(viewer)s)"
        with db.connect() as connection:

            def is_behind(*statements):
                connection.execute("insert into public.purchases values (0, null)")
                with connection.transaction():
                    for statement in statements:
                        connection.execute(statement, {"viewer": viewer})
                lag = "select pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn() as behind"
                return connection.execute(lag).fetchone()["behind"]

            is_behind(heartbeat)
            assert is_behind(heartbeat)
            assert is_behind(heartbeat, heartbeat)
            assert not is_behind("insert into public.purchases values (1, %(viewer)s)")
            assert not is_behind(
                "insert into public.purchases select 1, null from public.live_stream_heartbeat(%(viewer)s)"
            )
            assert not is_behind(heartbeat, "select nextval('public.invoice')")
            assert not is_behind("select nextval('public.invoice') from generate_series(1, 40)", heartbeat)

            # What an app has put on the table of heartbeats writes with them.
            purchase = """create function public.buy() returns {type} language plpgsql {kind} as $$
                begin insert into public.purchases values (2, null); return {value}; end $$"""
            for function, put, take_away in (
                (
                    purchase.format(type="trigger", kind="", value="new"),
                    "create trigger buy after update on public.live_stream_heartbeats for each row execute function public.buy()",
                    "drop trigger buy on public.live_stream_heartbeats",
                ),
                (
                    purchase.format(type="boolean", kind="", value="true"),
                    "alter table public.live_stream_heartbeats add constraint buy check (public.buy()) not valid",
                    "alter table public.live_stream_heartbeats drop constraint buy",
                ),
                (
                    """create table public.balance (viewer_id uuid, at timestamptz, n integer default 0);
                       insert into public.balance select viewer_id, seen_at from public.live_stream_heartbeats;"""
                    + purchase.format(type="trigger", kind="", value="new"),
                    """alter table public.live_stream_heartbeats add constraint buy unique (viewer_id, seen_at);
                       alter table public.balance add foreign key (viewer_id, at)
                         references public.live_stream_heartbeats (viewer_id, seen_at) on update cascade;
                       create trigger buy before update on public.balance for each row execute function public.buy()""",
                    "drop table public.balance; alter table public.live_stream_heartbeats drop constraint buy",
                ),
            ):
                db.owner(function)
                db.owner(put)
                assert not is_behind(heartbeat), put
                db.owner(take_away)
                db.owner("drop function public.buy()")
            assert is_behind(heartbeat)

            # Also when it comes while the heartbeat waits for it.
            db.owner(purchase.format(type="trigger", kind="", value="new"))
            with ThreadPoolExecutor() as threads, db.connect(OWNER) as owner:
                with owner.transaction():
                    owner.execute(
                        """create trigger buy after update on public.live_stream_heartbeats
                             for each row execute function public.buy()"""
                    )
                    beat = threads.submit(is_behind, heartbeat)
                    waiting = "select 1 from pg_locks where not granted and relation = 'public.live_stream_heartbeats'::regclass"
                    until(lambda: db.sql(waiting))
                assert not beat.result()


@own_db("makes a view")
def test_a_rollback_to_a_savepoint_leaves_what_was_before(db, world):
    """An app's trigger may catch an error while a function of ours is at work."""
    session = world.session()
    viewer = world.join(session, world.viewer)
    db.owner(
        """create function public.tries() returns uuid language plpgsql as $$
           begin
             begin raise 'nothing to see'; exception when others then null; end;
             return null;
           end $$;
           grant execute on function public.tries() to public"""
    )
    (row,) = db.sql(
        """with acting as materialized (select live_stream.act_as_viewer(%s) as id),
                tried as materialized (select public.tries() from acting)
           select (live_stream.acting_viewer(null::public.live_stream_viewers)).id from tried""",
        [viewer["id"]],
    )
    assert str(row["id"]) == viewer["id"]


@own_db("makes or drops an index")
def test_an_index_that_is_not_whole_is_not_used(plain_db):
    """As while it is built concurrently, and after that has failed."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    index = "live_stream_viewers_session_id_user_id_idx"
    user = str(uuid.uuid4())
    come = "insert into public.live_stream_viewers (session_id, user_id) values (%s, %s)"
    db.sql(come, [session["id"], user])
    db.owner(f"drop index public.{index}")
    with db.connect() as other, db.connect(options="-c lock_timeout=300ms", user=OWNER) as owner:
        other.execute("begin")
        other.execute(come, [session["id"], str(uuid.uuid4())])
        with pytest.raises(psycopg.errors.LockNotAvailable):
            owner.execute(
                f"create index concurrently {index} on public.live_stream_viewers (session_id, user_id)"
            )
        other.execute("commit")
    assert db.value("select indisvalid from pg_index where indexrelid = %s::regclass", [f"public.{index}"]) is False
    db.sql(come, [session["id"], user])
    db.sql(come, [session["id"], str(uuid.uuid4())])
    assert uniques(db, session) == 3 and differences(db) == []
