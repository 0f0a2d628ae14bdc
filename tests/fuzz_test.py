"""Nonsense of every kind, to every function and table, from everybody: refused in so many words, or harmless.

The seed is fixed: a run repeats the one before.
"""

from __future__ import annotations

import random
import uuid

import pytest

from postgrest import RequestError
from recount import rest

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

    def contents(self):
        return {
            row["name"]: self.db.value(
                f"select md5(string_agg(t::text, ',' order by t::text)) from public.{row['name']} t"
            )
            for row in self.tables
        }


@pytest.fixture
def fuzz(world):
    return Fuzz(world)


@pytest.mark.parametrize("who", ["anon", "stranger"])
def test_functions_called_by_outsiders_change_nothing(world, fuzz, who):
    api = world.anon if who == "anon" else world.stranger.api
    before = fuzz.contents()
    for function in fuzz.functions:
        for _ in range(25):
            fuzz.attempt(api.rpc, function["name"], fuzz.args(function))
    assert fuzz.contents() == before


def test_functions_called_by_those_who_may_keep_the_numbers_right(world, fuzz):
    done = 0
    for function in fuzz.functions:
        for who in (world.influencer.api, world.service):
            for _ in range(20):
                done += fuzz.attempt(who.rpc, function["name"], fuzz.args(function))
    assert done > 100, "nonsense alone shows little"
    check_numbers(fuzz.db)


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
                 (select count(distinct coalesce(v.user_id, v.id)) from public.live_stream_viewers v where v.session_id = s.id)
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
