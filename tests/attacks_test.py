"""Attacks, each of which would succeed against a naive schema. Most are made of the catalog: a table, column or function
that comes later is attacked too.

The attackers may run any SQL with the rights of `anon` or `authenticated`, which is more than PostgREST lets them do.
Other attacks stand beside what they attack:

- identity_test.py: forged claims and headers, leftovers in pooled connections, traps on the search path and in types, engine
  and trigger functions called directly, SET ROLE
- sessions_test.py, viewers_test.py, chat_test.py, products_test.py, moderation_test.py, orders_test.py: forged columns,
  moved rows, acting as somebody else; access_test.py: every class of columns, for every role
- install_test.py: what others made before or beside an installation; metrics_worker_test.py: advisory locks
- realtime_test.py, influencers_test.py: secrets in what is published, private columns of influencers
"""

from __future__ import annotations

import itertools
import json
import re
import time
import uuid
from collections import Counter
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.rows import tuple_row

from database import ROOT
from people import people
from postgrest import RequestError
from refusals import refused
from sizes import own_db

pytestmark = own_db("no worker of the background may change rows meanwhile")

VISIBILITIES = ("public", "unlisted", "private")
ATTACKERS = ("anon", "stranger", "rival")
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

# What the acts of viewers change of rows that are not theirs.
COUNTED = {
    "live_stream_sessions": {
        "current_viewers", "peak_viewers", "total_unique_viewers", "total_watch_time_seconds", "total_watch_time_minutes",
        "average_watch_time_minutes", "total_messages", "total_reactions", "total_shares", "total_clicks", "conversion_rate",
        "connection_issues_count", "buffering_events", "total_buffering_time_seconds", "updated_at",
    },
    "live_stream_products": {"views", "clicks", "add_to_cart", "shares", "updated_at"},
    "live_stream_chat": {"reactions", "replies_count", "is_flagged", "updated_at"},
}  # fmt: skip


class Scene:
    """A session of each visibility on air, each of another host, with one of everything that hangs on it. `rival` has the
    same of its own; `stranger` has nothing."""

    def __init__(self, world):
        self.world, self.db = world, world.db
        self.db.set(background_worker="off")
        self.db.without_limits()
        self.rival = world.new_influencer("Rival")
        self.own = self.fill("public", self.rival, "mine")
        self.of = {visibility: self.fill(visibility, world.new_influencer(visibility)) for visibility in VISIBILITIES}
        self.claims = {
            "anon": ("anon", {"role": "anon"}),
            "stranger": ("authenticated", {"sub": world.stranger.user_id, "role": "authenticated"}),
            "rival": ("authenticated", {"sub": self.rival.user_id, "role": "authenticated"}),
        }
        self.users = {"anon": None, "stranger": world.stranger.user_id, "rival": self.rival.user_id}
        self.known = None
        rows = self.db.sql("select format_type(enumtypid, null) as type, min(enumlabel) as label from pg_enum group by 1")
        self.labels = {row["type"].removeprefix("public."): row["label"] for row in rows}

    def fill(self, visibility, host, secret="5e3b1"):
        """The ids of what hangs on a session, by the names that functions and columns give them."""
        world, fan = self.world, self.world.new_user()
        session = world.session(
            f"{visibility} hidden-title", by=host, visibility=visibility,
            stream_key=f"key-{visibility}-{secret}", rtmp_url=f"rtmp://{visibility}-{secret}",
        )  # fmt: skip
        host.api.rpc("live_stream_invite", session_id=session["id"], user_id=fan.user_id)
        host.api.rpc("live_stream_follow", influencer_id=host.influencer_id)
        fan.api.rpc("live_stream_follow", influencer_id=host.influencer_id)
        viewer = world.join(session, fan, user_agent="hidden-agent")
        message = world.say(session, fan, "hidden-message", viewer)
        fan.api.rpc("live_stream_react", message_id=message["id"], reaction="heart")
        product = world.product(session, by=host)
        args = {"session_id": session["id"], "product_id": product["product_id"], "amount": 10, "user_id": fan.user_id}
        order = host.api.rpc("live_stream_record_order", args, viewer_id=viewer["id"], order_reference="hidden-order")
        schedule = world.schedule("hidden-schedule", by=host, visibility=visibility, recurrence_rule="FREQ=DAILY")
        host.api.rpc("live_stream_skip_occurrence", schedule_id=schedule["id"], original_starts_at="2030-01-08T15:00:00Z")
        invitation = host.api.rpc("live_stream_create_invitation", session_id=session["id"])
        host.api.rpc("live_stream_add_moderator", user_id=world.new_user().user_id)
        host.api.rpc("live_stream_ban", user_id=world.new_user().user_id, reason="hidden-reason")
        world.service.insert("live_stream_notifications", {
            "user_id": fan.user_id, "session_id": session["id"], "type": "stream_starting", "title": "hidden-news",
        })  # fmt: skip
        return {
            "session_id": session["id"], "viewer_id": viewer["id"], "message_id": message["id"], "order_id": order["id"],
            "session_product_id": product["id"], "product_id": product["product_id"], "schedule_id": schedule["id"],
            "invitation_id": invitation["invitation_id"], "token": invitation["token"], "code": session["session_code"],
            "influencer_id": host.influencer_id, "user_id": fan.user_id, "parent_message_id": message["id"],
            "created_session_id": session["id"], "session_code": session["session_code"],
        }  # fmt: skip

    @contextmanager
    def sql(self):
        """A superuser's connection, in a transaction that is rolled back: it becomes an attacker by `become`."""
        with self.db.connect() as connection:
            connection.execute("begin")
            yield connection
            connection.execute("rollback")

    def become(self, connection, who):
        role, claims = self.claims[who]
        connection.execute(f"set local role {role}")
        connection.execute("select set_config('request.jwt.claims', %s, true)", [json.dumps(claims)])

    @contextmanager
    def attacker(self, who):
        with self.sql() as connection:
            self.become(connection, who)
            yield connection

    def try_sql(self, connection, who, statement, params=None, prepare=None):
        """Rows, or a refusal as (SQLSTATE, message, detail, hint), of one statement in a savepoint that is kept open."""
        connection.execute("savepoint attempt")
        self.become(connection, who)
        try:
            cursor = connection.execute(statement, params, prepare=prepare)
            outcome = cursor.fetchall() if cursor.description else cursor.rowcount
        except psycopg.Error as error:
            diag = error.diag
            outcome = (error.sqlstate, diag.message_primary, diag.message_detail, diag.message_hint)
            connection.execute("rollback to attempt")
        connection.execute("reset role")
        return outcome

    def undo(self, connection):
        connection.execute("rollback to attempt")
        connection.execute("reset role")

    def functions(self):
        return self.db.sql(
            "select p.oid::regproc::text as name, proargnames[1 : pronargs] as args, pronargdefaults as defaults,"
            " array(select format_type(t, null) from unnest(proargtypes) as t) as types,"
            " has_function_privilege('anon', p.oid, 'execute') as for_anon,"
            " has_function_privilege('authenticated', p.oid, 'execute') as for_people"
            " from pg_proc p where pronamespace in ('public'::regnamespace, 'live_stream'::regnamespace)"
            " and prorettype <> 'trigger'::regtype order by 1"
        )

    def tables(self):
        """Our tables in public, with their columns, types, and primary keys."""
        return self.db.sql(
            "select c.relname as name, array_agg(a.attname::text order by a.attnum) as columns,"
            " array_agg(format_type(a.atttypid, null) order by a.attnum) as types,"
            " (select array_agg(k.attname::text) from pg_index i join pg_attribute k on k.attrelid = i.indrelid"
            "   and k.attnum = any (i.indkey) where i.indrelid = c.oid and i.indisprimary) as key"
            " from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
            " where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname <> 'products'"
            " group by c.oid, 1 order by 1"
        )

    def contents(self, connection):
        """Every row of ours, by table and key."""
        found = {}
        self.known = self.known or self.tables()
        for table in self.known:
            rows = connection.execute(f"select to_jsonb(t) as row from public.{table['name']} t").fetchall()
            found[table["name"]] = {tuple(row["row"][name] for name in table["key"]): row["row"] for row in rows}
        return found

    def is_own(self, who, row):
        """Whether a row belongs to the attacker: its own, or one of its sessions and schedules."""
        user = self.users[who]
        if user is not None and row.get("user_id") == user:
            return True
        if who != "rival":
            return False
        return any(row.get(name) == self.own[name] for name in ("influencer_id", "session_id", "schedule_id", "viewer_id"))

    def harm(self, who, before, after):
        """What happened to rows that are not the attacker's, beyond what the acts of viewers count."""
        own_viewers = {row["id"] for row in after["live_stream_viewers"].values() if self.is_own(who, row)}
        for name in before:
            for key in before[name].keys() | after[name].keys():
                old, new = before[name].get(key), after[name].get(key)
                if old == new:
                    continue
                if old is None:
                    anonymous = name == "live_stream_viewers" and new["viewer_type"] == "anonymous" and new["user_id"] is None
                    mine = name == "live_stream_heartbeats" and (new["viewer_id"] in own_viewers or who == "anon")
                    if anonymous or mine or self.is_own(who, new):
                        continue
                    yield name, "made", new
                elif new is None:
                    if not self.is_own(who, old):
                        yield name, "deleted", old
                elif not self.is_own(who, old):
                    changed = {column for column in old if old[column] != new[column]}
                    if not changed <= COUNTED.get(name, set()):
                        yield name, changed, old


@pytest.fixture
def scene(world):
    return Scene(world)


@pytest.fixture
def supabase(supabase_db):
    """Where default privileges open whatever is made in public: for what takes long."""
    return Scene(people(supabase_db))


def plausible(scene, name, type):
    """A value of the type that means nothing in particular."""
    label = scene.labels.get(type.removeprefix("public."))
    if label:
        return label
    return {
        "text": "x", "integer": 1, "bigint": 1, "numeric": 1, "boolean": True, "date": "2030-01-07",
        "timestamp with time zone": "2030-01-09T15:00:00Z", "time without time zone": "15:00", "inet": "192.0.2.1",
        "uuid": str(uuid.uuid4()), "uuid[]": [], "integer[]": [1], "jsonb": "{}", "interval": "1 hour",
        "timestamp with time zone[]": [], "bytea": b"x",
    }.get(type, "x")  # fmt: skip


def call_of(function, values):
    """`select * from f(…)`, with the arguments that have a value."""
    chosen = [(name, type) for name, type in zip(function["args"] or [], function["types"]) if name in values]
    places = ", ".join(f'"{name}" => %s::{type}' for name, type in chosen)
    return f"select * from {function['name']}({places})", [values[name] for name, _ in chosen]


def needed(function):
    names = function["args"] or []
    return names[: len(names) - function["defaults"]]


# The stream key.

@pytest.mark.parametrize("who", [*ATTACKERS, "fan", "moderator"])
def test_a_stream_key_is_read_by_no_road(scene, who):
    """Every table, view and function, whole rows, RETURNING, EXPLAIN, statistics, and what errors say."""
    db, world, own = scene.db, scene.world, scene.own
    moderator = world.new_user()
    host_id = scene.of["public"]["influencer_id"]
    db.owner("insert into public.live_stream_moderators (influencer_id, user_id) values (%s, %s)", [host_id, moderator.user_id])
    # Enough keys for statistics to hold them, alone and together.
    db.sql("insert into public.live_stream_sessions (influencer_id, title, stream_key, rtmp_url)"
           " select %s, 'x', 'key-' || n / 9 || '-5e3b1', 'rtmp://' || n / 9 || '-5e3b1' from generate_series(1, 200) n", [host_id])  # fmt: skip
    db.owner("create statistics public.together (mcv) on stream_key, rtmp_url from public.live_stream_credentials")
    db.owner("create statistics public.alone on (stream_key || rtmp_url) from public.live_stream_credentials")
    db.sql("analyze")
    assert "5e3b1" in str(db.sql("select * from pg_stats where tablename = 'live_stream_credentials'"))
    assert "5e3b1" in str(db.sql("select most_common_vals from pg_stats_ext where statistics_name = 'together'"))
    person = {"fan": scene.of["public"]["user_id"], "moderator": moderator.user_id}
    if who in person:
        scene.claims[who] = ("authenticated", {"sub": person[who]})
        scene.users[who] = person[who]
    relations = [row["name"] for row in db.sql(
        "select c.oid::regclass::text as name from pg_class c where relkind in ('r', 'v', 'm', 'p')"
        " and (relnamespace in ('public'::regnamespace, 'live_stream'::regnamespace)"
        " or relname in ('pg_stats', 'pg_stats_ext', 'pg_stats_ext_exprs', 'pg_statistic', 'pg_statistic_ext_data',"
        " 'pg_stat_activity', 'pg_prepared_statements', 'pg_largeobject', 'pg_replication_slots'))")]  # fmt: skip
    statements = []
    for name in relations:
        statements += [(f"select * from {name}", None), (f"select t::text from {name} t", None)]
        statements += [(f"explain (analyze, verbose, buffers, format json) select * from {name}", None)]
        statements += [(f"explain (verbose) select * from {name} t where t::text like '%5e3%'".replace("%", "%%"), [])]
    for name in ("live_stream_sessions", "live_stream_credentials", "live_stream_viewers", "live_stream_chat"):
        column = "session_id" if name == "live_stream_credentials" else "id"
        statements += [
            (f"update public.{name} t set {column} = {column} returning t", None),
            (f"delete from public.{name} t returning t", None),
        ]
    for visibility in VISIBILITIES:
        ids = scene.of[visibility]
        statements += [
            ("insert into public.live_stream_sessions (id, influencer_id, title) values (%s, %s, 'x')",
             [ids["session_id"], own["influencer_id"]]),
            ("insert into public.live_stream_sessions as s (id, influencer_id, title) values (%s, %s, 'x')"
             " on conflict (id) do update set title = 'x' returning s.*", [ids["session_id"], own["influencer_id"]]),
            ("insert into public.live_stream_credentials as c (session_id) values (%s)"
             " on conflict (session_id) do update set updated_at = now() returning c.*", [ids["session_id"]]),
            ("update public.live_stream_sessions set max_viewers = -1 where id = %s", [ids["session_id"]]),
            ("update public.live_stream_sessions set stream_key = stream_key, total_revenue = -1 where id = %s", [ids["session_id"]]),
        ]  # fmt: skip
        for function in scene.functions():
            values = {name: ids.get(name, plausible(scene, name, type))
                      for name, type in zip(function["args"] or [], function["types"]) if name in needed(function) or name in ids}  # fmt: skip
            statements.append(call_of(function, values))
    answered = 0
    with scene.sql() as connection:
        for statement, params in statements:
            outcome = scene.try_sql(connection, who, statement, params)
            answered += not (isinstance(outcome, tuple))
            # What the attacker writes itself is no secret: its statements hold no key.
            text = str(outcome)
            if "explain" in statement:
                text = text.replace("%5e3%", "")
            assert "5e3b1" not in text, (statement, params, text)
            scene.undo(connection)
    assert answered > 50, "attacks that only fail show little"
    # As the host itself: the road is there, so the attack was one.
    if who == "rival":
        with scene.attacker("rival") as connection:
            assert "key-public-mine" in str(connection.execute("select * from public.live_stream_credentials").fetchall())


def test_errors_of_those_who_may_write_show_no_stream_key(scene):
    """The owner and the server pass row-level security by, and PostgreSQL shows them the failing row."""
    ids = scene.of["public"]
    key = "key-shown-5e3b1"
    for user in ("app_owner", "service_role", "rival"):
        with scene.sql() as connection:
            for values in ("title = ''", "max_viewers = -1", "total_revenue = -1", "description = repeat('x', 10001)",
                           "influencer_id = gen_random_uuid()", "slow_mode_seconds = -1", "status = 'scheduled'",
                           "actual_end_time = '1999-01-01'", "session_code = 'x'", "id = gen_random_uuid()"):  # fmt: skip
                connection.execute("savepoint attempt")
                if user == "rival":
                    scene.become(connection, "rival")
                else:
                    connection.execute(f"set local role {user}")
                target = scene.own["session_id"] if user == "rival" else ids["session_id"]
                try:
                    connection.execute(
                        f"update public.live_stream_sessions set stream_key = %s, {values} where id = %s", [key, target]
                    )
                except psycopg.Error as error:
                    text = " ".join(filter(None, (str(error), error.diag.message_detail, error.diag.message_hint, error.diag.context)))
                    assert key not in text, (user, values, text)
                connection.execute("rollback to attempt")
                connection.execute("reset role")


def test_the_subscriber_of_everything_gets_no_stream_key(supabase_db):
    """The write-ahead log of the published tables, whole rows before and after, as a publication of all columns has them."""
    scene, db = Scene(people(supabase_db)), supabase_db
    published = db.sql("select tablename, attnames, rowfilter from pg_publication_tables where pubname = 'supabase_realtime'")
    assert {row["tablename"] for row in published} & {"live_stream_credentials", "live_stream_invitations", "live_stream_orders"} == set()
    for row in published:
        db.owner(f"alter table public.{row['tablename']} replica identity full")
    db.sql("select pg_create_logical_replication_slot('tap', 'pgoutput')")
    try:
        for ids in scene.of.values():
            with scene.sql() as connection:
                connection.execute(
                    "update public.live_stream_sessions set stream_key = 'key-later-5e3b1', title = 'told' where id = %s", [ids["session_id"]]
                )
                connection.execute("commit")
                connection.execute("begin")
        told = b"".join(row["data"] for row in db.sql(
            "select data from pg_logical_slot_get_binary_changes('tap', null, null, 'proto_version', '1',"
            " 'publication_names', 'supabase_realtime')"))  # fmt: skip
    finally:
        db.sql("select pg_drop_replication_slot('tap')")
    assert told.count(b"told") == 3 and b"5e3b1" not in told
    with scene.attacker("rival") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("select pg_create_logical_replication_slot('mine', 'pgoutput')")


# Rows that the policies hide, and cheap functions that tell what they are given.

LEAK = """
create function pg_temp.leak(text) returns boolean cost 0.0000001 language plpgsql immutable as $$
  begin raise notice 'leaked %', $1; return true; end $$;
create function pg_temp.leak2(text, text) returns boolean cost 0.0000001 language plpgsql immutable as $$
  begin raise notice 'leaked %', $1; return true; end $$;
create function pg_temp.tell(anyelement) returns boolean cost 0.0000001 language plpgsql immutable as $$
  begin raise notice 'leaked %', $1; return true; end $$;
create operator pg_temp.<<<< (leftarg = text, rightarg = text, function = pg_temp.leak2);
"""


@pytest.mark.parametrize("who", ATTACKERS)
def test_no_cheap_function_sees_hidden_rows(scene, who):
    with scene.sql() as connection:
        heard: list[str] = []
        connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        scene.become(connection, who)
        connection.execute(LEAK)
        shown = leaked = 0
        for relation in (row["name"] for row in scene.db.sql(
            "select c.oid::regclass::text as name from pg_class c where relkind in ('r', 'v')"
            " and (relnamespace = 'public'::regnamespace or c.oid = 'live_stream.influencer_cards'::regclass)"
            " and has_table_privilege(%s, c.oid, 'select')", [scene.claims[who][0]])):  # fmt: skip
            visible = {row["t"] for row in connection.execute(f"select t::text as t from {relation} t").fetchall()}
            shown += len(visible)
            first = scene.db.value("select attname::text from pg_attribute where attrelid = %s::regclass and attnum = 1", [relation])
            # A cast costs something, and comes after what the policy costs: not so a bare column.
            visible |= {str(row["id"]) for row in connection.execute(f"select {first} as id from {relation}").fetchall()}
            bare = [] if "summary" in relation else [f"select 1 from {relation} t where pg_temp.tell(t.{first})"]
            for statement in (
                f"select 1 from {relation} t where pg_temp.leak(t::text)",
                f"select 1 from {relation} t where t::text operator(pg_temp.<<<<) ''",
                f"select 1 from {relation} t where case when pg_temp.leak(t::text) then false else true end",
                f"select count(*) filter (where pg_temp.leak(t::text)) from {relation} t",
                f"select 1 from (values (1)) v cross join {relation} t where pg_temp.leak(t::text) limit 1",
                f"select 1 from {relation} t join {relation} u on pg_temp.leak(t::text) limit 1",
                f"update {relation} t set {first} = {first} where pg_temp.leak(t::text)",
                f"delete from {relation} t where pg_temp.leak(t::text)",
                f"copy (select 1 from {relation} t where pg_temp.leak(t::text)) to stdout",
                *bare,
            ):
                connection.execute("savepoint attempt")
                heard.clear()
                try:
                    if statement.startswith("copy"):
                        with connection.cursor().copy(statement) as copy:
                            list(copy)
                    else:
                        connection.execute(statement)
                except psycopg.Error:
                    pass
                connection.execute("rollback to attempt")
                leaked += len(heard)
                told = {text.removeprefix("leaked ") for text in heard}
                assert told <= visible, (relation, statement, told - visible)
        assert shown > 5 and leaked > 5, "the function was never called"


def test_no_function_of_ours_is_leakproof(db):
    """One that is would be called before the policies have their say."""
    assert db.sql("select proname from pg_proc where pronamespace in ('public'::regnamespace, 'live_stream'::regnamespace) and proleakproof") == []


def test_a_hidden_row_is_no_error_either(scene):
    """Division by zero, overflow and malformed numbers, which end a statement as they meet a row that they fit."""
    ids = scene.of["private"]
    for who in ATTACKERS:
        with scene.sql() as connection:
            for table, column in (("live_stream_sessions", "id"), ("live_sessions_with_details", "id"), ("live_stream_chat", "session_id"),
                                  ("live_stream_viewers", "session_id"), ("live_stream_orders", "session_id"), ("live_stream_credentials", "session_id"),
                                  ("session_analytics_summary", "session_id"), ("live_stream_invitations", "session_id")):  # fmt: skip
                outcomes = [
                    scene.try_sql(connection, who, f"select 1 from public.{table} t where {test}", [id])
                    for id in (ids["session_id"], str(uuid.uuid4()))
                    for test in (f"1 / (case when t.{column}::text = %s then 0 else 1 end) = 0",)
                ]
                assert outcomes[0] == outcomes[1], (who, table, outcomes)


# Session codes.


def test_a_code_has_sixty_random_bits(plain_db):
    world = people(plain_db)
    rows = plain_db.sql(
        "insert into public.live_stream_sessions (influencer_id, title)"
        " select %s, 'x' from generate_series(1, 2000) returning session_code",
        [world.influencer.influencer_id],
    )
    codes = [row["session_code"] for row in rows]
    assert {tuple(map(len, code.split("-"))) for code in codes} == {(4, 4, 4)}
    codes = [code.replace("-", "") for code in codes]
    assert len(set(codes)) == len(codes)
    for place in range(12):
        seen = Counter(code[place] for code in codes)
        # 62.5 of each are expected; further off than these is seven standard deviations.
        assert set(seen) == set(ALPHABET) and 7 <= min(seen.values()) and max(seen.values()) <= 118, (place, seen)
    for earlier, later in itertools.pairwise(codes):
        assert sum(a == b for a, b in zip(earlier, later)) < 8, "one code tells of the next"
    pairs = Counter(code[n : n + 2] for code in codes for n in range(11))
    assert len(pairs) == 1024, "neighbours depend on each other"


@pytest.mark.parametrize("who", ATTACKERS)
def test_codes_are_not_listed(scene, who):
    """By pattern, range, order, group or count; and a code in the header or an argument opens by being right alone."""
    hidden = {scene.of["private"]["code"], scene.of["unlisted"]["code"]}
    with scene.sql() as connection:
        listed = 0
        for query in (
            "select session_code from public.live_stream_sessions where session_code like '%%'",
            "select session_code from public.live_stream_sessions where session_code ~ '.'",
            "select session_code from public.live_stream_sessions where session_code between '' and 'ZZZZ'",
            "select session_code from public.live_stream_sessions order by session_code collate \"C\" desc limit 1000",
            "select string_agg(session_code, ',') from public.live_stream_sessions",
            "select min(session_code), max(session_code) from public.live_stream_sessions",
            "select translate(upper(session_code collate \"C\"), 'OIL -', '011') from public.live_stream_sessions group by 1",
            "select session_code from public.live_sessions_with_details",
            "select to_jsonb(s) from public.live_stream_chat c left join public.live_stream_sessions s on s.id = c.session_id",
            "select to_jsonb(u) from public.upcoming_streams u",
            "explain (analyze, verbose) select * from public.live_stream_sessions where session_code >= '7'",
            "select histogram_bounds, most_common_vals from pg_stats where attname = 'session_code'",
        ):
            outcome = scene.try_sql(connection, who, query, [])
            listed += scene.of["public"]["code"] in str(outcome)
            assert not [code for code in hidden if code in str(outcome)], query
        assert listed > 5
        for code in hidden:
            half = code[:7]
            for guess in ("%", "_" * 14, f"{half}%", f"{half}-____", half, code + "0", code[:-1], ".*", f"{code}|x", "*", '"', "\\", "' or true --"):
                assert scene.try_sql(connection, who, "select * from public.live_stream_session_by_code(%s)", [guess]) == []
                assert scene.try_sql(connection, who, "select * from public.live_stream_join(session_code => %s)", [guess])[0] == "PT404"
                connection.execute("select set_config('request.headers', %s, true)", [json.dumps({"x-session-code": guess})])
                rows = scene.try_sql(connection, who, "select session_code from public.live_stream_sessions", [])
                assert not hidden & {row["session_code"] for row in rows}
                scene.undo(connection)
        # The right one opens what is unlisted, and never what is private.
        connection.execute("select set_config('request.headers', %s, true)", [json.dumps({"x-session-code": scene.of["unlisted"]["code"]})])
        rows = scene.try_sql(connection, who, "select session_code from public.live_stream_sessions", [])
        assert hidden & {row["session_code"] for row in rows} == {scene.of["unlisted"]["code"]}
        assert scene.try_sql(connection, who, "select * from public.live_stream_session_by_code(%s)", [scene.of["private"]["code"]]) == []


def test_a_code_alone_tells_no_id(scene):
    """Of a private session, the answer of a code that is none; and who is banned hears of the ban, and not of the session."""
    host, banned = scene.of["unlisted"]["influencer_id"], scene.world.new_user()
    scene.db.owner("insert into public.live_stream_bans (influencer_id, user_id, kind) values (%s, %s, 'ban')", [host, banned.user_id])
    answers = []
    for code in (scene.of["private"]["code"], "7777-7777-7777", scene.of["unlisted"]["code"]):
        with pytest.raises(RequestError) as error:
            banned.api.rpc("live_stream_join", session_code=code)
        answers.append(str(error.value))
    assert answers[0] == answers[1] and "no session has this code" in answers[0]
    assert "banned" in answers[2]
    for ids in scene.of.values():
        assert not [answer for answer in answers if ids["session_id"] in answer]


# What is hidden is as what does not exist.


def normal(outcome, id):
    """What came out, but for the id itself, and for ids and times that are new each time."""
    text = str(outcome).replace(str(id), "ID")
    return re.sub(r"UUID\('[0-9a-f-]+'\)|datetime\.datetime\([^)]*\)", "NEW", text) if isinstance(outcome, list) else text


# Unique indexes tell whether a value is taken, as they must: made codes and ids are beyond trying.
TAKEN = {("public.live_stream_create", "session_code"), ("live_stream_create", "session_code"), ("live_stream_record_order", "id")}
HIDDEN_ARGS = ("session_id", "message_id", "parent_message_id", "viewer_id", "session_product_id", "schedule_id", "invitation_id",
               "code", "session_code", "created_session_id")  # fmt: skip


@pytest.mark.parametrize("who", ATTACKERS)
def test_no_function_tells_what_is_hidden_from_what_is_not_there(scene, who):
    hidden, compared = scene.of["private"], set()
    with scene.sql() as connection:
        for function in scene.functions():
            if not function["for_anon" if who == "anon" else "for_people"]:
                continue
            names = dict(zip(function["args"] or [], function["types"]))
            for arg in names.keys() & set(HIDDEN_ARGS):
                if (function["name"], arg) in TAKEN:
                    continue
                nothing = "7777-7777-7777" if arg.endswith("code") else str(uuid.uuid4())
                # With ids of the attacker's own beside it, of a public session, and with none.
                for beside in (scene.own, scene.of["public"], {}):
                    wanted = set(needed(function)) | {arg} | (names.keys() & set(HIDDEN_ARGS) if beside else set())
                    wanted -= {"session_code"} if arg == "session_id" else {"session_id"} if arg == "session_code" else set()
                    values = {n: beside.get(n, plausible(scene, n, names[n])) for n in names if n in wanted}
                    outcomes = []
                    for value in (hidden[arg], nothing):
                        query, params = call_of(function, values | {arg: value})
                        outcome = scene.try_sql(connection, who, query, params)
                        scene.undo(connection)
                        outcomes.append(normal(outcome, value))
                    assert outcomes[0] == outcomes[1], (function["name"], arg, outcomes)
                    compared.add((function["name"], arg))
    assert len(compared) > (8 if who == "anon" else 25), compared


@pytest.mark.parametrize("who", ["stranger", "rival"])
def test_no_table_tells_what_is_hidden_from_what_is_not_there(scene, who):
    """A row of the attacker's own that is to refer to what is hidden, and to nothing."""
    hidden, compared = scene.of["private"], set()
    of_column = {"deleted_by": "user_id", "created_by": "user_id", "actor_id": "user_id"}
    if who == "stranger":
        session = {"id": scene.of["public"]["session_id"]}
        viewer = scene.world.join(session, scene.world.stranger)
        scene.world.say(session, scene.world.stranger, "mine", viewer)
    with scene.sql() as connection:
        contents = scene.contents(connection)
        for table in scene.tables():
            own = [row for row in contents[table["name"]].values() if scene.is_own(who, row)]
            if not own:
                continue
            row, key = own[0], table["key"]
            for column, type in zip(table["columns"], table["types"]):
                if type != "uuid" or column in ("id", "user_id", "influencer_id", "product_id"):
                    continue
                value = hidden.get(of_column.get(column, column))
                if value is None:
                    continue
                others = [name for name in table["columns"] if name not in (column, "id")]
                copied = ", ".join(f'"{name}"' for name in others)
                few = [n for n in others if n in ("session_id", "user_id", "influencer_id", "message", "title", "product_id", "amount", "schedule_id",
                                                  "scheduled_date", "scheduled_start_time", "original_starts_at", "kind", "message_id", "reaction")]  # fmt: skip
                outcomes = []
                for id in (value, str(uuid.uuid4())):
                    where = " and ".join(f'"{name}" = %s' for name in key)
                    told = []
                    for statement, params in (
                        (f'update public.{table["name"]} set "{column}" = %s where {where}', [id, *(row[name] for name in key)]),
                        (f'insert into public.{table["name"]} ({copied}, "{column}")'
                         f" select {copied}, %s from jsonb_populate_record(null::public.{table['name']}, %s)", [id, json.dumps(row)]),
                        (f'insert into public.{table["name"]} ({", ".join(few + [column])})'
                         f" select {', '.join(few + ['%s'])} from jsonb_populate_record(null::public.{table['name']}, %s)", [id, json.dumps(row)]),
                    ):  # fmt: skip
                        outcome = scene.try_sql(connection, who, statement, params)
                        scene.undo(connection)
                        told.append(normal(outcome, id))
                    outcomes.append(told)
                assert outcomes[0] == outcomes[1], (table["name"], column, outcomes)
                compared.add((table["name"], column))
    assert len(compared) > (3 if who == "stranger" else 12), compared


# Rows of others.


@pytest.mark.parametrize("who", ATTACKERS)
def test_no_function_reaches_beyond_the_callers_rows(supabase, who):
    """Every function with the ids of others, all of them and one by one among the caller's own."""
    scene = supabase
    done = tried = 0
    with scene.sql() as connection:
        before = scene.contents(connection)
        for function in scene.functions():
            names = dict(zip(function["args"] or [], function["types"]))
            calls = []
            for ids in scene.of.values():
                ids = {name: id for name, id in ids.items() if name != "token"}
                every = {n: ids.get(n, plausible(scene, n, names[n])) for n in names}
                calls.append(every)
                calls.append({n: every[n] for n in needed(function)})
                calls.append({n: every[n] for n in names if n in needed(function) or n in ids and n not in ("code", "session_code")})
                for arg in names.keys() & ids.keys():
                    mixed = {n: scene.own.get(n, plausible(scene, n, names[n])) for n in names if n in needed(function) or n in ids}
                    calls.append(mixed | {arg: ids[arg]})
            for values in calls:
                query, params = call_of(function, values)
                outcome = scene.try_sql(connection, who, query, params)
                tried += 1
                if not isinstance(outcome, tuple):
                    done += 1
                    harm = list(scene.harm(who, before, scene.contents(connection)))
                    assert harm == [], (query, params, harm)
                scene.undo(connection)
    assert tried > 500 and done > 20, (tried, done)


@pytest.mark.parametrize("who", ATTACKERS)
def test_a_statement_without_a_filter_touches_own_rows_alone(supabase, who):
    """Each column of each table, for all rows at once; and deletes of all rows, plain and by a join or a subquery."""
    scene = supabase
    if who == "stranger":
        scene.world.join({"id": scene.of["public"]["session_id"]}, scene.world.stranger)
    touched = 0
    with scene.sql() as connection:
        before = scene.contents(connection)
        for table in scene.tables():
            name = f"public.{table['name']}"
            statements = [(f"delete from {name}", []), (f"delete from {name} t using public.live_stream_sessions", [])]
            for column, type in zip(table["columns"], table["types"]):
                statements.append((f'update {name} set "{column}" = %s::{type}', [plausible(scene, column, type)]))
                statements.append((f'update {name} set "{column}" = null', []))
                statements.append((f'update {name} t set "{column}" = t."{column}" from public.live_stream_sessions', []))
            for statement, params in statements:
                outcome = scene.try_sql(connection, who, statement, params)
                if not isinstance(outcome, tuple):
                    touched += outcome
                    harm = list(scene.harm(who, before, scene.contents(connection)))
                    assert harm == [], (statement, params, harm)
                scene.undo(connection)
    assert touched > 0 or who == "anon"


@pytest.mark.parametrize("who", ATTACKERS)
def test_an_upsert_opens_nothing_that_an_update_does_not(supabase, who):
    """Of a row of the attacker's own, it writes what an update writes; of somebody else's, nothing."""
    scene = supabase
    if who == "stranger":
        session = {"id": scene.of["public"]["session_id"]}
        scene.world.say(session, scene.world.stranger, "mine", scene.world.join(session, scene.world.stranger))
    same = 0
    with scene.sql() as connection:
        before = scene.contents(connection)
        for table in scene.tables():
            rows = list(before[table["name"]].values())
            own = [row for row in rows if scene.is_own(who, row)][:1]
            others = [row for row in rows if not scene.is_own(who, row)][:3]
            name, key = f"public.{table['name']}", table["key"]
            where = " and ".join(f'"{column}" = %s' for column in key)
            for row in own + others:
                at = [row[column] for column in key]
                for column, type in zip(table["columns"], table["types"]):
                    if column in key:
                        continue
                    value = plausible(scene, column, type)
                    results = []
                    sent = row | {column: value if type not in ("jsonb", "bytea") else None}
                    for statement, params in (
                        (f'update {name} set "{column}" = (jsonb_populate_record(null::{name}, %s))."{column}" where {where}',
                         [json.dumps(sent), *at]),
                        (f"insert into {name} select * from jsonb_populate_record(null::{name}, %s)"
                         f' on conflict ({", ".join(key)}) do update set "{column}" = excluded."{column}"', [json.dumps(sent)]),
                        (f'insert into {name} ({", ".join(dict.fromkeys([*key, "session_id", "influencer_id", "user_id", column]).keys() & set(table["columns"]))})'
                         f' select {", ".join(dict.fromkeys([*key, "session_id", "influencer_id", "user_id", column]).keys() & set(table["columns"]))}'
                         f" from jsonb_populate_record(null::{name}, %s)"
                         f' on conflict ({", ".join(key)}) do update set "{column}" = excluded."{column}"', [json.dumps(sent)]),
                    ):  # fmt: skip
                        outcome = scene.try_sql(connection, who, statement, params)
                        if row not in own and not isinstance(outcome, tuple):
                            harm = list(scene.harm(who, before, scene.contents(connection)))
                            assert harm == [], (statement, params, harm)
                        now = connection.execute(f"select to_jsonb(t) - 'updated_at' as row from {name} t where {where}", at).fetchall()
                        results.append(now[0]["row"] if now else None)
                        scene.undo(connection)
                    old = {name: value for name, value in row.items() if name != "updated_at"}
                    if row in own:
                        for result in results[1:]:
                            assert result in (results[0], old), (statement, params, results)
                            same += 1
    assert same > 20 or who == "anon"


def test_a_secret_of_an_upsert_that_did_nothing_is_stored_by_nothing_later(scene):
    """Whatever writes the victim's session in the same transaction: joins, messages, clicks, leaving."""
    for who in ("rival", "stranger"):
        ids = scene.of["public"]
        for _ in range(2):
            with scene.sql() as connection:
                scene.become(connection, who)
                try:
                    connection.execute(
                        "insert into public.live_stream_sessions (id, influencer_id, title, stream_key) values (%s, %s, 'x', 'forged')"
                        " on conflict do nothing",
                        [ids["session_id"], scene.own["influencer_id"]],
                    )
                except psycopg.errors.InsufficientPrivilege:
                    connection.execute("rollback")
                    connection.execute("begin")
                    scene.become(connection, who)
                connection.execute("select public.live_stream_join(%s)", [ids["session_id"]])
                connection.execute("select public.live_stream_send_message(%s, 'hi')", [ids["session_id"]])
                connection.execute("select public.live_stream_track_click(%s)", [ids["session_product_id"]])
                connection.execute("select public.live_stream_leave()")
                connection.execute("reset role")
                rows = connection.execute("select stream_key from public.live_stream_credentials").fetchall()
                assert "forged" not in str(rows) and len(rows) == 4


def test_nobody_becomes_somebody_elses_influencer(plain_db):
    """By changing the user of a row, its id, an upsert, or by deleting and making it again."""
    scene = Scene(people(plain_db))
    victim, mine = scene.of["private"]["influencer_id"], scene.own["influencer_id"]
    victim_user = plain_db.value("select user_id::text from public.influencers where id = %s", [victim])
    for who in ("rival", "stranger"):
        user = scene.users[who]
        with scene.sql() as connection:
            before = scene.contents(connection)
            for statement, params in (
                ("update public.influencers set user_id = %s", [user]),
                ("update public.influencers set user_id = %s where id = %s", [user, victim]),
                ("update public.influencers set id = %s where id = %s", [victim, mine]),
                ("update public.influencers set user_id = %s where id = %s", [victim_user, mine]),
                ("insert into public.influencers (id, user_id, display_name) values (%s, %s, 'x')", [victim, user]),
                ("insert into public.influencers (id, user_id, display_name) values (%s, %s, 'x') on conflict do nothing", [victim, user]),
                ("insert into public.influencers (id, user_id, display_name) values (%s, %s, 'x')"
                 " on conflict (id) do update set user_id = excluded.user_id", [victim, user]),
                ("insert into public.influencers (id, user_id, display_name) values (%s, %s, 'x')"
                 " on conflict (id) do update set user_id = excluded.user_id, display_name = 'taken'", [victim, victim_user]),
                ("insert into public.influencers (user_id, display_name) values (%s, 'x')", [victim_user]),
                ("insert into public.influencers (display_name) values ('x') returning user_id", []),
                ("delete from public.influencers where id = %s", [victim]),
                ("with gone as (delete from public.influencers where id = %s returning id)"
                 " insert into public.influencers (id, user_id, display_name) select id, %s, 'x' from gone", [victim, user]),
                ("merge into public.influencers i using (values (%s::uuid, %s::uuid)) v (id, user_id) on i.id = v.id"
                 " when matched then update set user_id = v.user_id", [victim, user]),
            ):  # fmt: skip
                scene.try_sql(connection, who, statement, params)
                after = scene.contents(connection)
                assert after["influencers"][(victim,)]["user_id"] == victim_user, statement
                assert list(scene.harm(who, before, after)) == [], statement
                seen = scene.try_sql(connection, who, "select * from public.live_stream_credentials where session_id = %s",
                                     [scene.of["private"]["session_id"]])  # fmt: skip
                assert seen == [], statement
                connection.execute("rollback")
                connection.execute("begin")


# What SQL has beside tables and functions.


@pytest.mark.parametrize("who", ATTACKERS)
def test_copy_truncate_and_locks(scene, who):
    hidden = ("hidden-message", "hidden-agent", "hidden-order", "hidden-reason", "hidden-news", "private hidden-title", "5e3b1")
    with scene.sql() as connection:
        copied = 0
        for table in [row["name"] for row in scene.db.sql(
            "select c.oid::regclass::text as name from pg_class c where relkind in ('r', 'v')"
            " and relnamespace in ('public'::regnamespace, 'live_stream'::regnamespace)"
            " and c.oid::regclass::text not in ('influencers', 'products')")]:  # fmt: skip
            rows = scene.try_sql(connection, who, f"select t::text as t from {table} t")
            allowed = str(rows)
            for command in (f"copy {table} to stdout", f"copy (table {table}) to stdout"):
                connection.execute("savepoint attempt")
                scene.become(connection, who)
                try:
                    with connection.cursor().copy(command) as copy:
                        text = b"".join(copy).decode()
                    copied += len(text)
                    for word in hidden:
                        assert word not in text or word in allowed, (command, word)
                    assert len(text.splitlines()) == len(rows), command
                except psycopg.Error as error:
                    assert error.sqlstate in ("42501", "42809"), (command, str(error))
                scene.undo(connection)
            for command in (f"copy {table} from stdin", f"copy {table} to '/tmp/x'", f"copy {table} from '/etc/passwd'",
                            f"copy {table} to program 'true'", f"copy {table} from program 'true'", f"truncate {table}",
                            f"truncate {table} cascade", f"alter table {table} disable row level security",
                            f"create index on {table} ((1))", f"drop table {table}", f"create rule r as on select to {table} do instead nothing",
                            f"create policy p on {table} using (true)", f"comment on table {table} is ''",
                            f"cluster {table}", f"refresh materialized view {table}", f"create trigger t after insert on {table} execute function suppress_redundant_updates_trigger()",
                            f"create statistics on id, created_at from {table}", f"create publication p for table {table}"):  # fmt: skip
                connection.execute("savepoint attempt")
                scene.become(connection, who)
                try:
                    if "stdin" in command:
                        with connection.cursor().copy(command) as copy:
                            copy.write_row(["x"])
                    else:
                        connection.execute(command)
                    raise AssertionError(f"{who}: {command}")
                except psycopg.Error as error:
                    assert error.sqlstate in ("42501", "42809", "0A000", "22P04", "22P02", "42P16", "42P17", "42703", "42601"), (command, str(error))
                scene.undo(connection)
            # A lock that keeps readers and writers out is for who may write the table as a whole.
            role = scene.claims[who][0]
            (writes,) = connection.execute(
                "select has_table_privilege(%s, %s, 'update') or has_table_privilege(%s, %s, 'delete') or"
                " has_table_privilege(%s, %s, 'truncate')", [role, table] * 3).fetchone().values()  # fmt: skip
            outcome = scene.try_sql(connection, who, f"lock table {table} in access exclusive mode nowait")
            scene.undo(connection)
            assert writes or outcome[0] == "42501", (table, outcome)
        assert copied > 0


def test_who_may_lock_whole_tables(db):
    """A table that joins this list has been thought about: PostgreSQL lets who may write a whole table lock it. PostgREST
    gives no way to."""
    rows = db.sql(
        "select r.rolname as role, c.relname as name from pg_class c, pg_roles r"
        " where c.relnamespace in ('public'::regnamespace, 'live_stream'::regnamespace) and c.relkind = 'r'"
        " and r.rolname in ('anon', 'authenticated') and c.relname ~ '^(live_stream|metric|influencer_)'"
        " and (has_table_privilege(r.oid, c.oid, 'update') or has_table_privilege(r.oid, c.oid, 'delete')"
        "      or has_table_privilege(r.oid, c.oid, 'truncate'))"
    )
    assert {row["name"].removeprefix("live_stream_") for row in rows if row["role"] == "anon"} == {"viewers"}
    assert {row["name"].removeprefix("live_stream_") for row in rows if row["role"] == "authenticated"} == {
        "bans", "chat", "followers", "guests", "moderators", "notifications", "products", "schedule", "schedule_exceptions",
        "sessions", "viewers",
    }  # fmt: skip


def test_notifications_of_the_server_tell_nothing(scene):
    """Whoever may connect may LISTEN: so nothing of ours notifies."""
    for folder in ("src", "sql"):
        for path in (ROOT / folder).rglob("*.*"):
            text = path.read_text().lower()
            assert "pg_notify" not in text and "\nnotify " not in text and "perform notify" not in text, path
    with scene.db.connect() as connection:
        for channel in ("pgrst", "live_stream", "realtime", "live_stream_sessions", "live_stream_chat"):
            connection.execute(f"listen {channel}")
        world = scene.world
        session = world.session(by=world.new_influencer())
        world.say(session, world.viewer, "hello", world.join(session, world.viewer))
        scene.db.owner("select live_stream.install()")
        assert [notice.payload for notice in connection.notifies(timeout=0.5)] == []


def test_large_objects_of_others_and_files_are_out_of_reach(scene):
    (made,) = scene.db.owner("select lo_from_bytea(0, 'secret') as oid")
    assert scene.db.value("select count(*) from pg_largeobject_metadata") == 1, "the extension makes none"
    with scene.sql() as connection:
        for who, (statement, params) in itertools.product(ATTACKERS, (
            ("select lo_get(%s)", [made["oid"]]), ("select lo_put(%s, 0, 'x')", [made["oid"]]), ("select lo_unlink(%s)", [made["oid"]]),
            ("select loread(lo_open(%s, 262144), 100)", [made["oid"]]), ("select * from pg_largeobject", []), ("select lo_export(%s, '/tmp/x')", [made["oid"]]),
            ("select lo_import('/etc/passwd')", []), ("select pg_read_file('/etc/passwd')", []), ("select pg_ls_dir('.')", []),
            ("select * from pg_shadow", []), ("select pg_current_logfile()", []), ("select * from pg_hba_file_rules", []),
            ("select * from auth.users" if scene.db.is_supabase else "select * from pg_authid", []),
        )):  # fmt: skip
            outcome = scene.try_sql(connection, who, statement, params)
            assert outcome == [] or isinstance(outcome, tuple) and outcome[0] == "42501", (who, statement, outcome)
            scene.undo(connection)


# Invitations.


@pytest.mark.parametrize("who", [*ATTACKERS, "fan"])
def test_a_token_is_neither_read_nor_guessed(scene, who):
    ids = scene.of["private"]
    if who == "fan":
        scene.claims[who] = ("authenticated", {"sub": ids["user_id"]})
    (row,) = scene.db.sql("select token_hash from public.live_stream_invitations where id = %s", [ids["invitation_id"]])
    digest = row["token_hash"].hex()
    assert ids["token"] not in str(scene.db.sql("select * from public.live_stream_invitations"))
    with scene.sql() as connection:
        for query in (
            "select token_hash from public.live_stream_invitations where id = %s or session_id = %s",
            "select i::text from public.live_stream_invitations i, (values (%s, %s)) v where token_hash > ''",
            "select to_jsonb(g), to_jsonb(i) from public.live_stream_guests g left join public.live_stream_invitations i"
            " on i.id = g.invitation_id where (%s, %s) is not null",
        ):
            outcome = scene.try_sql(connection, who, query, [ids["invitation_id"], ids["session_id"]])
            assert digest not in str(outcome) and "token_hash': b" not in str(outcome) or who == "rival"
            assert digest not in str(outcome)
            scene.undo(connection)
        for token in (digest, "\\x" + digest, row["token_hash"].decode("latin1").replace("\0", ""), ids["token"][:-1], ids["token"] + "A",
                      ids["token"].swapcase(), ids["token"][::-1], "%", "_" * 32, ids["invitation_id"], ids["session_id"]):  # fmt: skip
            for query in ("select * from public.live_stream_accept_invitation(%s)", "select * from live_stream.accepted_session(%s)"):
                outcome = scene.try_sql(connection, who, query, [token])
                scene.undo(connection)
                assert outcome == [] or outcome[0] in ("PT404", "42501"), (query, token, outcome)


def test_time_tells_no_used_up_token_from_an_unknown_one(plain_db):
    """The quickest of many answers, so that a busy machine does not matter."""
    scene = Scene(people(plain_db))
    used = scene.of["private"]["token"]
    scene.world.new_user().api.rpc("live_stream_accept_invitation", token=used)
    quickest = {used: 1.0, "x" * 32: 1.0}
    with scene.sql() as connection:
        for _ in range(300):
            for token in quickest:
                connection.execute("savepoint attempt")
                scene.become(connection, "stranger")
                start = time.perf_counter()
                with pytest.raises(psycopg.Error, match="is not valid"):
                    connection.execute("select live_stream.accept_invitation(%s)", [token], prepare=True)
                quickest[token] = min(quickest[token], time.perf_counter() - start)
                scene.undo(connection)
    assert abs(quickest[used] - quickest["x" * 32]) < 0.0005, quickest


def test_tokens_of_one_host_tell_nothing_of_the_next(plain_db):
    scene = Scene(people(plain_db))
    api, session = scene.rival.api, scene.own["session_id"]
    tokens = [api.rpc("live_stream_create_invitation", session_id=session)["token"] for _ in range(200)]
    assert len(set(tokens)) == 200 and {len(token) for token in tokens} == {32}
    seen = Counter("".join(tokens))
    assert len(seen) == 64 and min(seen.values()) > 50 and max(seen.values()) < 170, seen
    for earlier, later in itertools.pairwise(tokens):
        assert sum(a == b for a, b in zip(earlier, later)) < 12
    with refused("PT404"):
        scene.world.stranger.api.rpc("live_stream_accept_invitation", token=tokens[0][:31] + ("A" if tokens[0][31] != "A" else "B"))
