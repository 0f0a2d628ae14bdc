"""What is hidden stays so: the stream key, rows behind policies, session codes."""

from __future__ import annotations

import itertools
import json
import uuid
from collections import Counter

import psycopg
import pytest

from attackers import ATTACKERS, Scene, VISIBILITIES, call_of, needed, plausible, scene  # noqa: F401
from people import people
from postgrest import RequestError
from sizes import own_db

pytestmark = own_db("no worker of the background may change rows meanwhile")
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


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
           " select %s, 'x', 'key-' || n / 9 || '-5e3kr', 'rtmp://' || n / 9 || '-5e3kr' from generate_series(1, 200) n", [host_id])  # fmt: skip
    db.owner("create statistics public.together (mcv) on stream_key, rtmp_url from public.live_stream_credentials")
    db.owner("create statistics public.alone on (stream_key || rtmp_url) from public.live_stream_credentials")
    db.sql("analyze")
    assert "5e3kr" in str(db.sql("select * from pg_stats where tablename = 'live_stream_credentials'"))
    assert "5e3kr" in str(db.sql("select most_common_vals from pg_stats_ext where statistics_name = 'together'"))
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
            assert "5e3kr" not in text, (statement, params, text)
            scene.undo(connection)
    assert answered > 50, "attacks that only fail show little"
    # As the host itself: the road is there, so the attack was one.
    if who == "rival":
        with scene.attacker("rival") as connection:
            assert "key-public-mine" in str(connection.execute("select * from public.live_stream_credentials").fetchall())


def test_errors_of_those_who_may_write_show_no_stream_key(scene):
    """The owner and the server pass row-level security by, and PostgreSQL shows them the failing row."""
    ids = scene.of["public"]
    key = "key-shown-5e3kr"
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
                    "update public.live_stream_sessions set stream_key = 'key-later-5e3kr', title = 'told' where id = %s", [ids["session_id"]]
                )
                connection.execute("commit")
                connection.execute("begin")
        told = b"".join(row["data"] for row in db.sql(
            "select data from pg_logical_slot_get_binary_changes('tap', null, null, 'proto_version', '1',"
            " 'publication_names', 'supabase_realtime')"))  # fmt: skip
    finally:
        db.sql("select pg_drop_replication_slot('tap')")
    assert told.count(b"told") == 3 and b"5e3kr" not in told
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
