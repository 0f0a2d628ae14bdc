"""What the owner of the tables may do to them, case by case: it works, or it is refused by its name and nothing is
counted wrong. tests/owner_fuzz_test.py tries thousands of others."""

from __future__ import annotations

import contextlib
import uuid

import psycopg
import pytest

from alterations import Catalog
from database import OWNER
from people import people
from postgrest import RequestError
from recount import differences
from refusals import refused
from replica import until
from sizes import own_db

pytestmark = own_db("alters what it likes")


@contextlib.contextmanager
def renamed(db, kind, label):
    """While it lasts, a label of an enum of ours is another."""
    db.owner(f"alter type public.{kind} rename value '{label}' to 'another'")
    try:
        yield
    finally:
        db.owner(f"alter type public.{kind} rename value 'another' to '{label}'")


@pytest.mark.parametrize("label", ["private", "public", "unlisted"])
def test_a_visibility_under_another_name_opens_nothing(db, world, label):
    session = world.session(visibility="private")
    with refused("PT404"):
        world.join(session)
    with renamed(db, "live_stream_visibility", label):
        for join in (lambda: world.join(session), lambda: world.anon.rpc("live_stream_join", session_id=session["id"])):
            with refused("55000", f"lacks the value '{label}'", hint=True):
                join()
    with refused("PT404"):
        world.join(session)
    assert differences(db) == []


LOSSES = {
    "a viewer": "delete from public.live_stream_viewers where id = %(viewer)s",
    "a message": "delete from public.live_stream_chat where id = %(message)s",
    "a reaction": "delete from public.live_stream_chat_reactions",
    "a product": "delete from public.live_stream_products",
    "all viewers": "delete from public.live_stream_viewers",
}


@pytest.mark.parametrize("what", LOSSES)
@pytest.mark.parametrize("label", ["live", "ended"])
def test_a_status_under_another_name_loses_no_change(db, world, what, label):
    """What cannot be read is not what is not there."""
    session = world.session()
    viewer = world.join(session, world.viewer)
    message = world.say(session, world.viewer, viewer=viewer)
    world.viewer.api.rpc("live_stream_react", message_id=message["id"], reaction="heart")
    world.product(session)
    lose = LOSSES[what] % {"viewer": f"'{viewer['id']}'", "message": f"'{message['id']}'"}
    with renamed(db, "live_stream_status", label):
        with pytest.raises(psycopg.Error) as caught:
            db.sql(lose)
        assert caught.value.sqlstate == "55000" and f"'{label}'" in str(caught.value)
    assert differences(db) == []
    db.sql(lose)
    assert differences(db) == []


def test_a_status_that_is_none_of_ours_loses_no_change(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session()
    viewer = world.join(session, world.viewer)
    db.owner("alter type public.live_stream_status add value 'weird'")
    put = """alter table public.live_stream_sessions disable trigger user;
             update public.live_stream_sessions set status = '{}';
             alter table public.live_stream_sessions enable trigger user"""
    db.owner(put.format("weird"))
    with pytest.raises(psycopg.Error, match="status") as caught:
        db.sql("delete from public.live_stream_viewers where id = %s", [viewer["id"]])
    assert caught.value.sqlstate == "55000"
    db.owner(put.format("live"))
    assert differences(db) == []


def test_a_label_that_is_not_committed_is_not_written(plain_db):
    """A rollback would leave it in the owner's index, and joins would find it there."""
    db, world = plain_db, people(plain_db)
    session = world.session()
    db.owner("create index by_type on public.live_stream_viewers (viewer_type)")
    with db.connect() as owner:
        owner.execute("begin")
        owner.execute("alter type public.live_stream_viewer_type rename value 'anonymous' to 'another'")
        owner.execute("alter type public.live_stream_viewer_type add value 'anonymous' before 'another'")
        owner.execute("alter table public.live_stream_viewers disable row level security")
        owner.execute("set local role anon")
        with pytest.raises(psycopg.errors.UnsafeNewEnumValueUsage):
            owner.execute("insert into public.live_stream_viewers (session_id) values (%s)", [session["id"]])
        owner.execute("rollback")
    for _ in range(3):
        world.join(session, world.new_user())
        world.join(session)
    assert differences(db) == []


def test_the_log_is_reindexed_while_it_is_in_use(plain_db):
    """Concurrently, and broken off: the index that stays behind refuses nothing that the key does not."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    come = "insert into public.live_stream_viewers (session_id) values (%s)"

    def come_often():
        with db.connect() as connection:
            for _ in range(60):
                connection.execute(come, [session["id"]])

    with db.connect() as reader, db.connect(OWNER, options="-c statement_timeout=1s") as owner:
        reader.execute("begin isolation level repeatable read")
        reader.execute("select count(*) from live_stream.metric_changes")
        with pytest.raises(psycopg.errors.QueryCanceled):
            owner.execute("reindex table concurrently live_stream.metric_changes")
        reader.execute("rollback")
    left = "select count(*) from pg_index where indrelid = 'live_stream.metric_changes'::regclass and not indisvalid"
    assert db.value(left) == 1
    come_often()
    assert differences(db) == []
    db.owner("reindex table live_stream.metric_changes")
    come_often()
    assert differences(db) == []


def test_times_that_hold_nothing(plain_db):
    db, world = plain_db, people(plain_db)
    viewer = world.join(world.session(), world.viewer)
    db.owner(
        """alter table public.live_stream_viewers disable trigger user;
           update public.live_stream_viewers set counted_before = '{NULL}';
           alter table public.live_stream_viewers enable trigger user"""
    )
    for watching in (False, True):
        changed = world.viewer.api.update(
            "live_stream_viewers", {"is_still_watching": watching}, where={"id": viewer["id"]}, one=True
        )
        assert changed["is_still_watching"] is watching


@pytest.mark.parametrize("rule", ["do also", "do instead"])
@pytest.mark.parametrize("event, table", [("update", "live_stream_sessions"), ("insert", "live_stream_viewers")])
def test_a_rule_is_refused(plain_db, rule, event, table):
    """What it does would pass for a write of the engine's own."""
    db, world = plain_db, people(plain_db)
    session = world.session()
    db.owner("create table public.seen (id uuid)")
    db.owner(f"create rule see as on {event} to public.{table} {rule} insert into public.seen values ('{uuid.uuid4()}')")
    with refused("55000", f"table public.{table} has a rule", hint=True):
        world.viewer.api.rpc("live_stream_join", session_id=session["id"])
    db.owner(f"drop rule see on public.{table}")
    world.viewer.api.rpc("live_stream_join", session_id=session["id"])
    assert differences(db) == []


COUNTED = ("live_stream_viewers", "live_stream_chat", "live_stream_chat_reactions", "live_stream_products", "live_stream_orders")
AS_CHILD = {
    "a child": "alter table public.{table} inherit public.everything",
    "a partition": "alter table public.everything attach partition public.{table} default",
}


def make_child(db, table, how):
    parted = "partition by list (session_id)" if how == "a partition" else ""
    db.owner(f"create table public.everything (like public.{table} including defaults) {parted}")
    return AS_CHILD[how].format(table=table)


@pytest.mark.parametrize("how", AS_CHILD)
@pytest.mark.parametrize("table", COUNTED)
def test_a_counted_table_becomes_no_child_of_another(plain_db, table, how):
    """What goes through the other table fires no trigger for a statement of this one."""
    become = make_child(plain_db, table, how)
    with pytest.raises(psycopg.errors.Error, match=f"{table}_stands_alone"):
        plain_db.owner(become)


@pytest.mark.parametrize("how", AS_CHILD)
def test_a_table_that_has_become_a_child_is_refused(plain_db, how):
    db, world = plain_db, people(plain_db)
    session = world.session()
    db.owner("drop trigger live_stream_viewers_stands_alone on public.live_stream_viewers")
    db.owner(make_child(db, "live_stream_viewers", how))
    with refused("55000", "live_stream_viewers is a child or a partition", hint=True):
        world.join(session, world.viewer)
    apart = {"a child": "alter table public.live_stream_viewers no inherit public.everything",
             "a partition": "alter table public.everything detach partition public.live_stream_viewers"}  # fmt: skip
    db.owner(apart[how])
    world.join(session, world.viewer)
    assert differences(db) == []


ROUNDED = [
    ("live_stream_sessions", "total_revenue", "numeric(12,0)", False),
    ("live_stream_sessions", "total_revenue", "numeric(12,1)", False),
    ("live_stream_sessions", "total_revenue", "numeric(12,-2)", False),
    ("live_stream_sessions", "total_revenue", "numeric(14,4)", True),
    ("live_stream_sessions", "total_revenue", "numeric", True),
    ("live_stream_sessions", "total_revenue", "public.whole", False),
    ("live_stream_sessions", "total_revenue", "public.cents", True),
    ("live_stream_products", "revenue", "numeric(12,0)", False),
    # What is stored is what is counted.
    ("live_stream_orders", "amount", "numeric(12,0)", True),
    ("live_stream_viewers", "counted_until", "timestamptz(3)", True),
    ("live_stream_sessions", "updated_at", "timestamptz(6)", True),
    ("live_stream_viewers", "counted_before", "timestamptz(0)[]", False),
    ("live_stream.metric_changes", "at", "timestamptz(0)", False),
]


@pytest.mark.parametrize("table, column, kind, works", ROUNDED)
def test_a_column_that_rounds_is_refused(plain_db, table, column, kind, works):
    """PostgreSQL would store another number than the one that was counted."""
    db, world = plain_db, people(plain_db)
    session = world.session()
    product = world.product(session)
    viewer = world.join(session, world.viewer)
    name = table if "." in table else f"public.{table}"
    db.owner("create domain public.whole as numeric(12,0); create domain public.cents as numeric(12,2)")
    was = db.value(
        "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = %s::regclass and attname = %s", [name, column]
    )
    with without_what_depends(db, name, column):
        db.owner(f"alter table {name} alter column {column} type {kind}")

    def order():
        return world.service.rpc(
            "live_stream_record_order", session_id=session["id"], product_id=product["product_id"], amount=0.5, viewer_id=viewer["id"]
        )

    def goes_and_comes():
        world.leave(viewer, world.viewer)
        world.join(session, world.viewer)

    def counts_in_the_log():
        db.owner("select live_stream.flush_metrics()")

    ask = counts_in_the_log if "." in table else order if kind.startswith(("numeric", "public")) else goes_and_comes
    if works:
        for _ in range(3):
            ask()
    else:
        for _ in range(3):
            with refused_or_raised("55000", column):
                ask()
    with without_what_depends(db, name, column):
        db.owner(f"alter table {name} alter column {column} type {was}")
    db.owner("select live_stream.install()")
    assert differences(db) == []


@contextlib.contextmanager
def refused_or_raised(state, name):
    """By PostgREST's answer or by PostgreSQL's."""
    with pytest.raises((RequestError, psycopg.Error)) as caught:
        yield
    assert caught.value.sqlstate == state and name in str(caught.value)


@contextlib.contextmanager
def without_what_depends(db, table, column):
    """What hangs on a column is away, and comes back but for the views, which install() makes again."""
    with db.connect(OWNER) as connection:
        catalog = Catalog(connection)
    found = catalog.tables.get(table) or catalog.tables[table.removeprefix("public.")]
    hanging = catalog.hanging_on([found.column(column)], also_by_type=False)
    for dependent in hanging:
        db.owner(dependent.drop)
    yield
    for dependent in reversed(hanging):
        if dependent.make:
            db.owner(dependent.make)
    db.reload_schema()


SWAPS = {
    "an empty one": (
        """alter table public.live_stream_sessions rename to kept;
           create table public.live_stream_sessions (like public.kept including all)""",
        "drop table public.live_stream_sessions; alter table public.kept rename to live_stream_sessions",
    ),
    "another of ours": (
        """alter table public.live_stream_sessions rename to kept;
           alter table public.live_stream_schedule rename to live_stream_sessions;
           alter table public.kept rename to live_stream_schedule""",
        """alter table public.live_stream_schedule rename to kept;
           alter table public.live_stream_sessions rename to live_stream_schedule;
           alter table public.kept rename to live_stream_sessions""",
    ),
}


@pytest.mark.parametrize("swap", SWAPS)
@pytest.mark.parametrize("what", [*LOSSES, "one leaves"])
def test_a_session_under_another_name_loses_no_change(plain_db, what, swap):
    """A session that is not found is not a session that is gone."""
    db, world = plain_db, people(plain_db)
    session = world.session()
    viewer = world.join(session, world.viewer)
    message = world.say(session, world.viewer, viewer=viewer)
    world.viewer.api.rpc("live_stream_react", message_id=message["id"], reaction="heart")
    world.product(session)
    leave = "update public.live_stream_viewers set is_still_watching = false"
    lose = {**LOSSES, "one leaves": leave}[what] % {"viewer": f"'{viewer['id']}'", "message": f"'{message['id']}'"}
    to, back = SWAPS[swap]
    db.owner(to)
    for user in (OWNER, "postgres"):
        with pytest.raises(psycopg.Error) as caught:
            db.sql(lose, user=user)
        assert caught.value.sqlstate == "55000" and caught.value.diag.message_hint
    db.owner(back)
    assert differences(db) == []
    db.sql(lose)
    assert differences(db) == []


def test_a_session_under_another_name_loses_nothing_that_is_pending(plain_db):
    """The worker leaves it in the log."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    to, back = SWAPS["an empty one"]
    db.set(flush_interval=2_000)
    with db.connect() as one, db.connect() as other:
        one.execute("begin")
        for connection in (one, other, one, other):
            connection.execute("insert into public.live_stream_viewers (session_id) values (%s)", [session["id"]])
        one.execute("commit")
        pending = db.value("select count(*) from live_stream.metric_changes")
        assert pending > 0
        db.owner(to)
        with pytest.raises(psycopg.Error) as caught:
            db.owner("insert into public.live_stream_viewers (session_id) values (gen_random_uuid())")
        assert caught.value.sqlstate in ("55000", "PT404", "23503")
        until(lambda: "does not refer to public.live_stream_sessions" in db.server.log)
        assert db.value("select count(*) from live_stream.metric_changes") == pending
        db.owner(back)
    assert differences(db) == []


def test_a_session_whose_rows_refer_to_nothing_is_deleted_once_they_do(plain_db):
    db, world = plain_db, people(plain_db)
    session = world.session()
    world.join(session, world.viewer)
    key = "constraint live_stream_viewers_session_id_fkey"
    db.owner(f"alter table public.live_stream_viewers drop {key}")
    db.sql("delete from public.live_stream_sessions")
    with pytest.raises(psycopg.Error, match="does not refer to public.live_stream_sessions"):
        db.sql("delete from public.live_stream_viewers")
    db.owner(
        f"""alter table public.live_stream_viewers add {key} foreign key (session_id)
              references public.live_stream_sessions (id) on delete cascade not valid"""
    )
    db.sql("delete from public.live_stream_viewers")
    assert differences(db) == []


def test_domains_are_taken_for_the_types_under_them(plain_db):
    """But for those of enums, which PostgreSQL itself compares with no word."""
    db, world = plain_db, people(plain_db)
    db.owner(
        """create domain public.an_id as uuid;
           create domain public.a_number as integer;
           create domain public.a_moment as timestamptz;
           create domain public.a_text as text"""
    )
    for table, column, kind, _ in OF_DOMAINS:
        with without_what_depends(db, f"public.live_stream_{table}", column):
            retype_to(db, table, column, kind)
    session = world.session()
    viewer = world.join(session, world.viewer)
    message = world.say(session, world.viewer, viewer=viewer)
    world.influencer.api.rpc("live_stream_delete_message", message_id=message["id"], reason="spam")
    world.leave(viewer, world.viewer)
    world.join(session)
    for table, column, _, was in OF_DOMAINS:
        retype_to(db, table, column, was)
    db.owner("select live_stream.install()")
    assert differences(db) == []


OF_DOMAINS = (
    ("viewers", "messages_sent", "public.a_number", "integer"),
    ("viewers", "counted_since", "public.a_moment", "timestamptz"),
    ("chat", "viewer_id", "public.an_id", "uuid"),
)


def retype_to(db, table, column, kind):
    default = "0" if column == "messages_sent" else "null"
    db.owner(
        f"""alter table public.live_stream_{table} alter column {column} drop default, alter column {column} type {kind};
            alter table public.live_stream_{table} alter column {column} set default {default}"""
    )


def test_a_function_that_writes_is_called_in_a_parallel_query(plain_db):
    """By one that calls itself parallel safe, and is not."""
    db, world = plain_db, people(plain_db)
    session = world.session()
    viewer = world.join(session, world.viewer)
    ids = {"session": session["id"], "viewer": viewer["id"], "user": world.viewer.user_id}
    calls = (
        "public.live_stream_join('{session}')", "public.live_stream_leave('{viewer}')", "public.live_stream_heartbeat('{viewer}')",
        "public.live_stream_share('{viewer}')", "public.live_stream_report_quality('{viewer}')",
        "public.live_stream_send_message('{session}', 'hello')", "public.live_stream_create_invitation('{session}')",
        "live_stream.flush_metrics()", "live_stream.recount('{session}')", "live_stream.erase_user('{user}')",
        "live_stream.expire_viewers()", "live_stream.run_schedules()", "live_stream.send_reminders()",
        "live_stream.act_as_viewer('{viewer}')", "live_stream.purge('0')", "live_stream.export_user('{user}')",
        "live_stream.verify_metrics()", "live_stream.heartbeat('{viewer}')",
    )  # fmt: skip
    states = set()
    for n, call in enumerate(calls):
        name = f"call_{n}"
        db.owner(
            f"""create function public.{name}() returns text language sql parallel safe
                  as $$ select ({call.format(**ids)})::text $$"""
        )
        with db.connect(OWNER) as connection:
            is_newer = connection.info.server_version >= 160_000
            connection.execute(f"set {'debug_parallel_query' if is_newer else 'force_parallel_mode'} = on")
            try:
                connection.execute(f"select public.{name}() from (values (1)) v").fetchall()
                states.add("done")
            except psycopg.Error as error:
                states.add(error.sqlstate)
                assert not error.sqlstate.startswith("XX"), f"{call}: {error}"
    assert "25000" in states
    assert differences(db) == []


def test_a_row_of_the_log_from_before_its_columns(plain_db):
    """PostgreSQL keeps what such a row has in the catalog: nothing is read behind the row, and nothing is missed."""
    db, session = plain_db, people(plain_db).session(max_viewers=None)
    columns = db.sql(
        """select attname, format_type(atttypid, atttypmod) as type, attnotnull from pg_attribute
            where attrelid = 'live_stream.metric_changes'::regclass and attnum > 0 and not attisdropped order by attnum"""
    )
    values = {
        "session_id": session["id"], "at": "2026-01-01 00:00Z", "transaction": 1, "nth": 1, "viewers": 1, "unique_viewers": 1,
    }  # fmt: skip
    db.owner("create table live_stream.other (); insert into live_stream.other default values")
    for row in columns:
        given = f"default '{values[row['attname']]}'" if row["attname"] in values else ""
        needed = "not null" if row["attnotnull"] else ""
        db.owner(f"alter table live_stream.other add column \"{row['attname']}\" {row['type']} {needed} {given}")
    db.owner(
        """alter table live_stream.metric_changes rename to kept;
           alter table live_stream.other rename to metric_changes;
           alter table live_stream.metric_changes add primary key (at, transaction, nth)"""
    )
    assert db.owner("select live_stream.flush_metrics(%s) as n", [session["id"]]) == [{"n": 1}]
    assert db.value("select current_viewers from public.live_stream_sessions") == 1
    assert db.value("select count(*) from live_stream.metric_changes") == 0


PUBLICATIONS = {
    "a filter": "create publication part for table live_stream.metric_changes where (viewers > 0)",
    "a filter of the key": "create publication part for table live_stream.metric_changes where (nth = 0)",
    "columns": "create publication part for table live_stream.metric_changes (session_id, at, transaction, nth)",
    "no deletes": "create publication part for table live_stream.metric_changes with (publish = 'insert, update')",
}


@pytest.mark.parametrize("how", PUBLICATIONS)
def test_a_publication_of_a_part_of_the_log_is_refused(plain_db, how):
    """Its replicas would fold what was folded, or never what was not."""
    db, world = plain_db, people(plain_db)
    session = world.session(max_viewers=None)
    world.join(session)
    db.owner("select live_stream.flush_metrics()")
    db.owner(PUBLICATIONS[how])
    with pytest.raises(psycopg.Error, match="publication part") as caught:
        db.owner("select live_stream.flush_metrics()")
    assert caught.value.sqlstate == "55000" and caught.value.diag.message_hint
    db.owner("drop publication part")
    db.sql("create publication whole for all tables")
    db.sql("create publication of_schemas for tables in schema public, live_stream")
    db.owner("select live_stream.flush_metrics()")
    db.sql("drop publication whole; create publication whole for all tables with (publish = 'insert')")
    with pytest.raises(psycopg.Error, match="publication whole"):
        db.owner("select live_stream.flush_metrics()")
    db.sql("drop publication whole")
    world.join(session)
    assert differences(db) == []
