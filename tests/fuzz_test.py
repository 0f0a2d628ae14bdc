"""Nonsense of every kind, to every function and table, from everybody: refused in so many words, or harmless.

The seed is fixed: a run repeats the one before.
"""

from __future__ import annotations

import json
import random
import uuid

import psycopg
import pytest

from postgrest import RequestError
from recount import rest
from sizes import own_db, scale

MEGABYTES = "x" * 10_000_000
NUMBERS = [None, -1, 0, 1, 7, 2**31 - 1, 2**31, -(2**63), 10**30, 1.5, "NaN", "Infinity", "-Infinity", "x", "", True, []]
TIMES = [None, "infinity", "-infinity", "294276-12-31 23:59:59+00", "0001-01-01 BC", "2030-02-30", "now", "x", "", 7]
BY_TYPE = {
    "text": [None, "", " ", "x", "x" * 3000, "é👩‍🚀", "\u0000", "'; drop table public.live_stream_sessions; --", "%s $1", 7, {}, "FREQ=SECONDLY", "BEGIN:VCALENDAR"],
    "boolean": [None, True, False, "maybe", 7],
    "integer": NUMBERS,
    "bigint": NUMBERS,
    "numeric": NUMBERS + ["1e131071", "0.001", "-0.001", "9999999999.995"],
    "timestamp with time zone": TIMES,
    "timestamp with time zone[]": [None, [], ["2030-01-01"], [None], ["infinity", "2030-01-01"], [["now"]], "x"],
    "timestamp without time zone": TIMES,
    "date": TIMES,
    "time without time zone": [None, "24:00", "25:00", "-01:00", "x"],
    "inet": [None, "::1", "999.1.1.1", "x"],
    "jsonb": [None, {}, [], "x", {"🔥": -5}, {"🔥": 1e400}, [[[[]]]]],
    "integer[]": [None, [], [0], [7], [8], [None], [1, 1], [2**31], "x", [[1], [2]]],
    "uuid[]": [None, [], [None], ["x"]],
    "bytea": [None, "", "\\x", "\\x00", "\\x" + "ab" * 32, "\\xzz", 7],
    "timestamp with time zone[]": [None, [], ["infinity"], "x"],
}
# Elsewhere the worker makes sessions of schedules that other tests have left, whenever they are due.
ALONE = "compares all that is there, before and after"
FINE = ("22", "23", "28", "42", "PT", "54", "55")


class Fuzz:
    def __init__(self, world) -> None:
        self.world, self.db = world, world.db
        self.random = random.Random(20261122)
        self.session = world.session(visibility="private")
        self.schedule = world.schedule(scheduled_date="2030-01-01", scheduled_start_time="10:00", recurrence_rule="FREQ=DAILY")
        viewer = world.join(self.session, world.influencer)
        product, message = world.product(self.session), world.say(self.session, world.influencer)
        self.influencer_id, self.user_id = world.influencer.influencer_id, world.influencer.user_id
        self.product_id, self.message_id = product["product_id"], message["id"]
        self.somebody_id = world.new_user().user_id
        ids = [row["id"] for row in (self.session, viewer, product, message)]
        ids += [self.schedule["id"], world.influencer.influencer_id, world.influencer.user_id, product["product_id"]]
        ids += [self.somebody_id, world.stranger.user_id]
        self.ids = [None, "x", "", 7, str(uuid.uuid4()), "00000000-0000-0000-0000-000000000000", *ids]
        self.ids_of = {
            "session_id": self.session["id"], "viewer_id": viewer["id"], "product_id": self.product_id, "session_product_id": product["id"],
            "message_id": self.message_id, "schedule_id": self.schedule["id"], "influencer_id": self.influencer_id,
        }  # fmt: skip
        self.labels = {
            row["type"]: row["labels"]
            for row in self.db.sql(
                "select format_type(enumtypid, null) as type, array_agg(enumlabel::text) as labels from pg_enum group by 1"
            )
        }
        self.functions = self.db.sql(
            "select proname as name, proargnames[1 : pronargs] as args, pronargdefaults as defaults,"
            " array(select format_type(t, null) from unnest(proargtypes) as t) as types"
            " from pg_proc where pronamespace = 'public'::regnamespace order by 1"
        )
        self.tables = self.db.sql(
            "select c.relname as name, array_agg(a.attname::text order by a.attnum) as args,"
            " array_agg(format_type(a.atttypid, null) order by a.attnum) as types"
            " from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
            " where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname like 'live\\_stream%%'"
            " group by 1 order by 1"
        )

    def value(self, type):
        if type == "uuid":
            return self.random.choice(self.ids)
        if type.removeprefix("public.") in self.labels:
            return self.random.choice([None, "", "x", 7, *self.labels[type.removeprefix("public.")]])
        if type.startswith("character varying"):
            type = "text"
        return self.random.choice(BY_TYPE[type])

    def args(self, function):
        """Some of a function's arguments, and those that it needs."""
        names = function["args"] or []
        needed = len(names) - function["defaults"]
        return {
            name: self.value(type)
            for n, (name, type) in enumerate(zip(names, function["types"]))
            if n < needed or self.random.random() < 0.5
        }

    def columns(self, table):
        """A few columns of a table, of the session that there is."""
        chosen = self.random.sample(range(len(table["args"])), self.random.choice([1, 1, 2]))
        row = {table["args"][n]: self.value(table["types"][n]) for n in chosen}
        return row | {name: self.session["id"] for name in row if name == "session_id"}

    def row(self, table):
        """A row that would do, with a few columns replaced."""
        row = {
            "live_stream_sessions": {"influencer_id": self.influencer_id, "title": "x"},
            "live_stream_viewers": {"viewer_type": "customer"},
            "live_stream_chat": {"message": "x"},
            "live_stream_products": {"product_id": self.world.new_product()},
            "live_stream_orders": {"product_id": self.product_id, "amount": 1},
            "live_stream_schedule": {
                "influencer_id": self.influencer_id, "title": "x", "scheduled_date": "2030-01-01", "scheduled_start_time": "10:00",
            },
            "live_stream_schedule_exceptions": {
                "schedule_id": self.schedule["id"], "original_starts_at": "2030-01-01T10:00Z", "kind": "skip",
            },
            "live_stream_followers": {"influencer_id": self.influencer_id, "user_id": self.user_id},
            "live_stream_chat_reactions": {"message_id": self.message_id, "user_id": self.user_id, "reaction": "x"},
            "live_stream_moderators": {"influencer_id": self.influencer_id, "user_id": self.somebody_id},
            "live_stream_bans": {"influencer_id": self.influencer_id, "user_id": self.somebody_id},
            "live_stream_guests": {"user_id": self.somebody_id},
            "live_stream_invitations": {"token_hash": "\\x" + "cd" * 32, "expires_at": "2999-01-01"},
            "live_stream_moderation_log": {"influencer_id": self.influencer_id, "action": "ban"},
        }.get(table["name"], {})
        if "session_id" in table["args"]:
            row = row | {"session_id": self.session["id"]}
        return row | self.columns(table)

    def attempt(self, what, *args):
        try:
            what(*args)
            return True
        except RequestError as error:
            assert error.sqlstate.startswith(FINE), (args, str(error))
            for word in ("panicked", "unwrap", ".rs", "RUST", "unboxing"):
                assert word not in str(error), (args, str(error))
            return False

    def contents(self, beside=None):
        """A fingerprint of every table, without the rows of one user."""
        # What the worker would go on with meanwhile is done.
        self.db.owner("select live_stream.send_reminders()")
        where = " where (to_jsonb(t) ->> 'user_id') is distinct from %s"
        return {
            row["name"]: self.db.value(
                f"select md5(string_agg(t::text, ',' order by t::text)) from public.{row['name']} t{where}", [beside or ""]
            )
            for row in self.tables
        }

    def knows(self, type):
        return type == "uuid" or type.startswith("character varying") or type.removeprefix("public.") in self.labels


# JSON as no client should send it: of the wrong type, nested, too large, or none at all.
ODD = [
    "[]", "{}", "[[]]", "[null]", '[{"a": [1, {"b": null}]}]', "[" * 200 + "]" * 200, "1e400", "-1e400", "1e-400", "-0", "0.0", "1E5",
    "9" * 400, "0." + "9" * 400, "-9223372036854775809", "1.0", "true", "null", '"1"', '"-1"', '"1e3"', '" 7 "', '"0x10"', '"١"', '"true"', '"null"',
    '"NaN"', '"\\u0000"', '"x\\u0000y"', '"\\ud800"', '"\\udc00\\ud800"', '"\\ud83d\\ude00"', '"\\u202e"', '"\\ufeff"', '"{}"', '"{1,2}"', '"{{1},{2}}"',
    '"{null}"', '"[1,2)"', '"(1,2)"', '"infinity"', '"epoch"', '"J0"', '"24:00:60"', '"2030-01-01T00:00:00+15:60"', '"P1Y"', '"00000000000000000000000000000000"',
    '"{00000000-0000-0000-0000-000000000000}"', '"\\\\x00"', '"\\\\xzz"', '"%s%n$1"', '"\'; select 1; --"', '"$$"', '"\\t\\n\\r"', '{"a": 1, "a": 2}',
    '{"": ""}', '"' + "x" * 5000 + '"', "{", "nul", "'x'", "", " ", "[1,]", '"\t"', "NaN", "Infinity", "undefined",
]  # fmt: skip
CALLS = scale(2_400, 12_000)
PANICS = ("PANIC:", "terminated by signal", "panicked at", "server process", "XX000", "internal query failed", "corrupt")


class Caller:
    """One role on one connection; each call is a transaction of one statement. Some are rolled back, where what calls do
    would soon leave nothing to call for."""

    def __init__(self, fuzz, role, user_id, rolled_back=0.0, **own) -> None:
        self.rolled_back = rolled_back
        self.ids_of = fuzz.ids_of | own
        self.fuzz, self.db, self.random, self.calls, self.done = fuzz, fuzz.db, random.Random(f"{role} {user_id is None} {fuzz.db.kind}"), 0, 0
        self.connection = fuzz.db.connect("authenticator", options="-c client_min_messages=error -c statement_timeout=20s")
        claims = {"role": role} | ({"sub": user_id} if user_id else {})
        self.connection.execute("select set_config('request.jwt.claims', %s, false)", [json.dumps(claims)])
        self.connection.execute(f"set role {role}")
        self.connection.prepare_threshold, self.connection.prepared_max = 3, 400
        self.pid = self.connection.info.backend_pid
        may = fuzz.db.sql(
            "select p.oid::regproc::text as name, n.nspname as schema, proargnames[1 : pronargs] as args, proname,"
            " pronargdefaults as defaults, array(select format_type(t, null) from unnest(proargtypes) as t) as types"
            " from pg_proc p join pg_namespace n on n.oid = p.pronamespace where nspname in ('public', 'live_stream')"
            " and prorettype <> 'trigger'::regtype and has_function_privilege(%s, p.oid, 'execute') order by p.oid::regprocedure::text",
            [role],
        )
        self.functions = may
        self.may = {
            action: [
                table for table in fuzz.tables
                if fuzz.db.value("select has_any_column_privilege(%s, 'public.' || %s, %s)" if action != "delete"
                                 else "select has_table_privilege(%s, 'public.' || %s, %s)", [role, table["name"], action])
            ] for action in ("insert", "update", "delete", "select")
        }  # fmt: skip

    def json(self, type, name=None):
        chance = self.random.random()
        if chance < self.nonsense / 2:
            return self.random.choice(ODD)
        if chance > self.nonsense:
            return json.dumps(self.random.choice(self.sense(type, name)))
        return json.dumps(self.fuzz.value(type) if type in BY_TYPE or self.fuzz.knows(type) else self.random.choice(ODD[:20]))

    def sense(self, type, name):
        """Values of a type that mean something, so that most of a call is well formed; of ids, half are of what is asked for."""
        type = type.removeprefix("public.")
        if type in self.fuzz.labels:
            return self.fuzz.labels[type]
        if type == "uuid":
            others = self.fuzz.ids[4:]
            return others + [self.ids_of[name]] * len(others) if name in self.ids_of else others
        if type in ("integer", "bigint", "numeric"):
            return [None, 0, 1, 2, 7, 60]
        return {
            "boolean": [None, True, False], "text": ["x", "é👩‍🚀", "heart", "FREQ=DAILY", self.fuzz.session["session_code"]],
            "date": ["2030-01-07"], "time without time zone": ["15:00"], "uuid[]": [[]], "integer[]": [[1, 2]], "jsonb": [{}],
            "timestamp with time zone[]": [["2030-01-08T10:00Z"]], "inet": ["192.0.2.1"], "bytea": ["\\x" + "ab" * 32],
        }.get(type, ["2030-01-08T10:00Z"] if "timestamp" in type else [None, "x"])  # fmt: skip

    def body(self, names, types):
        if self.random.random() < 0.03:
            return self.random.choice(ODD)
        parts = [f"{json.dumps(name)}: {self.json(type, name)}" for name, type in zip(names, types) if self.random.random() < 0.9]
        if parts and self.random.random() < 0.1:
            parts.append(self.random.choice(parts).partition(":")[0] + ": " + self.random.choice(ODD))
        if self.random.random() < 0.05:
            parts.append(f'"{self.random.choice(["role", "x", "", "__proto__", "sub"])}": {self.random.choice(ODD)}')
        self.random.shuffle(parts)
        return "{" + ", ".join(parts) + "}"

    def call(self):
        function = self.random.choice(self.functions)
        names, types = function["args"] or [], function["types"]
        if not names:
            return self.send(f"select * from {function['name']}()", [])
        some = names[: len(names) - function["defaults"]] if self.random.random() < 0.4 else names
        row = ", ".join(f'"{name}" {type}' for name, type in zip(names, types))
        args = ", ".join(f'"{name}" := b."{name}"' for name in some)
        self.send(
            f"select f.* from json_to_record(%s::json) as b({row}), lateral {function['name']}({args}) f", [self.body(names, types)]
        )

    def write(self):
        fuzz, kind = self.fuzz, self.random.random()
        action = "insert" if kind < 0.5 else "update" if kind < 0.85 else "delete" if kind < 0.95 else "select"
        # Most are of a table that the role may do this to at all: the privilege alone refuses the others.
        table = self.random.choice((self.random.random() < 0.8 and self.may[action]) or fuzz.tables)
        name, types = f"public.{table['name']}", dict(zip(table["args"], table["types"]))
        chosen = self.random.sample(table["args"], min(len(table["args"]), self.random.choice([1, 1, 2, 3])))
        if action == "insert":
            good = {column: value for column, value in fuzz.row(table).items()}
            columns = sorted(good.keys() | set(chosen))
            parts = [f'"{c}": {json.dumps(good[c]) if c in good and self.random.random() < 0.9 else self.json(types[c], c)}' for c in columns]
            body = "{" + ", ".join(parts) + "}"
            if self.random.random() < 0.2:
                body = f"[{body}, {body}, {self.random.choice(ODD[:12])}]"
            source = "json_to_recordset" if body.startswith("[") else "json_to_record"
            row, list_ = ", ".join(f'"{c}" {types[c]}' for c in columns), ", ".join(f'"{c}"' for c in columns)
            conflict = self.random.choice(["", "", " on conflict do nothing"])
            return self.send(f"insert into {name} as t ({list_}) select {list_} from {source}(%s::json) as b({row}){conflict} returning t.*", [body])
        row = ", ".join(f'"{c}" {types[c]}' for c in chosen)
        filter = self.random.choice(table["args"])
        where = "" if kind > 0.9 else f' where t."{filter}" is not distinct from (json_populate_record(null::{name}, %s::json))."{filter}"'
        params = [] if kind > 0.9 else ["{" + f'"{filter}": {self.json(types[filter], filter)}' +"}"]
        if action == "update":
            sets = ", ".join(f'"{c}" = b."{c}"' for c in chosen)
            return self.send(f"update {name} t set {sets} from json_to_record(%s::json) as b({row}){where} returning t.*", [self.body(chosen, [types[c] for c in chosen]), *params])
        if action == "delete":
            return self.send(f"delete from {name} t{where} returning t.*", params)
        self.send(f"select t.* from {name} t{where}", params)

    def send(self, query, params):
        self.calls += 1
        roll_back = self.random.random() < self.rolled_back
        if roll_back:
            self.connection.execute("begin")
        try:
            self.connection.execute(query, params)
            self.done += 1
        except psycopg.Error as error:
            diag = error.diag
            text = f"{error} {diag.message_detail} {diag.message_hint} {diag.context}"
            assert error.sqlstate and error.sqlstate.startswith(FINE), (query, params, error.sqlstate, text)
            for word in ("panicked", "unwrap", ".rs:", "RUST", "unboxing"):
                assert word not in text, (query, params, text)
        if roll_back:
            self.connection.execute("rollback")

    def run(self, calls):
        for _ in range(calls):
            # How much of a call makes no sense: all of it is refused at the door.
            self.nonsense = self.random.choice([0, 0.05, 0.1, 0.3, 0.9])
            self.random.choice([self.call, self.write])()
        assert self.connection.execute("select pg_backend_pid() as pid").fetchone()["pid"] == self.pid
        self.connection.close()


@pytest.fixture
def steady(db):
    """The server is the one that it was, and its log tells of nothing that broke."""
    db.without_limits()
    started, size = db.value("select pg_postmaster_start_time()"), len(db.server.log)
    yield
    assert db.value("select pg_postmaster_start_time()") == started
    broken = [line for line in db.server.log[size:].splitlines() if line[:4].isdigit() and any(word in line for word in PANICS)]
    assert broken == []


@own_db(ALONE)
@pytest.mark.parametrize("who", ["anon", "stranger"])
def test_thousands_of_calls_of_outsiders_change_nothing(db, steady, world, fuzz, who):
    """2,400 of them, or 12,000. What is a stranger's own, such as whom it follows, may change."""
    mine = world.stranger.user_id
    before = fuzz.contents(beside=mine)
    caller = Caller(fuzz, *(("anon", None) if who == "anon" else ("authenticated", mine)))
    caller.run(CALLS)
    assert caller.done > CALLS / 10, "nonsense alone shows little"
    after = fuzz.contents(beside=mine)
    assert {name for name in before if before[name] != after[name]} == set()


@pytest.mark.parametrize("who", ["anon", "viewer", "influencer", "service"])
def test_thousands_of_calls_of_those_who_may_keep_the_numbers_right(db, steady, world, fuzz, who):
    """800 of them, or 4,000, in a session that everybody may join."""
    world.set_session(fuzz.session, visibility="public")
    person = {"viewer": world.stranger, "influencer": world.influencer}.get(who)
    role = {"anon": "anon", "service": "service_role"}.get(who, "authenticated")
    own = world.join(fuzz.session, person)["id"] if person else fuzz.ids_of["viewer_id"]
    caller = Caller(fuzz, role, person.user_id if person else None, rolled_back=0.9, viewer_id=own)
    caller.run(CALLS // 3)
    assert caller.done > CALLS / 15, "nonsense alone shows little"
    check_numbers(db)


@pytest.fixture
def fuzz(world):
    return Fuzz(world)


@own_db(ALONE)
@pytest.mark.parametrize("who", ["anon", "stranger"])
def test_functions_called_by_outsiders_change_nothing(world, fuzz, who):
    api = world.anon if who == "anon" else world.stranger.api
    mine = world.stranger.user_id
    before = fuzz.contents(beside=mine)
    for function in fuzz.functions:
        for _ in range(25):
            fuzz.attempt(api.rpc, function["name"], fuzz.args(function))
    assert fuzz.contents(beside=mine) == before, "but for whom the stranger follows"


def test_functions_called_by_those_who_may_keep_the_numbers_right(world, fuzz):
    done = 0
    for function in fuzz.functions:
        for who in (world.influencer.api, world.service):
            for _ in range(20):
                done += fuzz.attempt(who.rpc, function["name"], fuzz.args(function))
    assert done > 100, "nonsense alone shows little"
    check_numbers(fuzz.db)


@own_db(ALONE)
def test_rows_written_by_outsiders_change_nothing(world, fuzz):
    before = fuzz.contents()
    for api in (world.anon, world.stranger.api):
        for table in fuzz.tables:
            for _ in range(20):
                fuzz.attempt(api.insert, table["name"], fuzz.row(table))
                fuzz.attempt(api.update, table["name"], fuzz.columns(table))
                fuzz.attempt(api.delete, table["name"])
    after = fuzz.contents()
    assert {name for name in before if before[name] != after[name]} == set()


def test_rows_written_by_those_who_may_keep_the_numbers_right(world, fuzz):
    done = 0
    for api in (world.influencer.api, world.service):
        for table in fuzz.tables:
            for _ in range(25):
                done += fuzz.attempt(api.insert, table["name"], fuzz.row(table))
                done += fuzz.attempt(api.update, table["name"], fuzz.columns(table))
    assert done > 100, "nonsense alone shows little"
    check_numbers(fuzz.db)


@own_db(ALONE)
def test_ten_megabytes_in_every_text(world, fuzz):
    before = fuzz.contents()
    for function in fuzz.functions:
        texts = [name for name, type in zip(function["args"] or [], function["types"]) if type == "text"]
        if not texts:
            continue
        args = {name: None for name in function["args"][: len(function["args"]) - function["defaults"]]}
        args |= {name: fuzz.session["id"] for name in args if name == "session_id"}
        name = fuzz.random.choice(texts)
        for api in (world.anon, world.influencer.api):
            fuzz.attempt(api.rpc, function["name"], args | {name: MEGABYTES})
    after = fuzz.contents()
    assert {name for name in before if before[name] != after[name]} == set()


def check_numbers(db):
    """The sessions' numbers, counted again from the rows themselves by plain SQL."""
    rest(db)
    wrong = db.sql("""
        select s.id, c.* from public.live_stream_sessions s, lateral (
          select (select count(*) from public.live_stream_viewers v where v.session_id = s.id and v.is_still_watching)
                   - s.current_viewers as viewers,
                 (select count(distinct v.user_id) + count(*) filter (where v.user_id is null)
                    from public.live_stream_viewers v where v.session_id = s.id)
                   - s.total_unique_viewers as unique_viewers,
                 (select count(*) from public.live_stream_chat m where m.session_id = s.id and m.message_type = 'chat')
                   - s.total_messages as messages,
                 (select count(*) from public.live_stream_chat m where m.session_id = s.id and m.message_type = 'reaction')
                   + (select count(*) from public.live_stream_chat_reactions r where r.session_id = s.id)
                   - s.total_reactions as reactions,
                 (select count(*) from public.live_stream_products p where p.session_id = s.id)
                   - s.total_products_showcased as products,
                 (select coalesce(sum(p.clicks), 0) from public.live_stream_products p where p.session_id = s.id)
                   - s.total_clicks as clicks,
                 (select coalesce(sum(p.orders), 0) from public.live_stream_products p where p.session_id = s.id)
                   - s.total_orders as orders,
                 (select coalesce(sum(p.revenue), 0) from public.live_stream_products p where p.session_id = s.id)
                   - s.total_revenue as revenue,
                 (select coalesce(sum(p.shares), 0) from public.live_stream_products p where p.session_id = s.id)
                   + (select coalesce(sum(v.shares_sent), 0) from public.live_stream_viewers v where v.session_id = s.id)
                   - s.total_shares as shares,
                 (select coalesce(sum(v.watch_duration_seconds), 0) from public.live_stream_viewers v where v.session_id = s.id)
                   - s.total_watch_time_seconds as watched
        ) c where exists (select from jsonb_each_text(to_jsonb(c)) as number where number.value::numeric <> 0)
    """)
    assert wrong == []
