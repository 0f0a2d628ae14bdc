"""Who attacks, and by which requests and statements."""

from __future__ import annotations

import json
import uuid
from contextlib import contextmanager

import psycopg
import pytest

VISIBILITIES = ("public", "unlisted", "private")
ATTACKERS = ("anon", "stranger", "rival")

# What the acts of viewers change of rows that are not theirs.
COUNTED = {
    "live_stream_sessions": {
        "current_viewers", "peak_viewers", "total_unique_viewers", "total_watch_time_seconds", "total_watch_time_minutes",
        "average_watch_time_minutes", "total_messages", "total_reactions", "total_shares", "total_clicks", "conversion_rate",
        "connection_issues_count", "buffering_events", "total_buffering_time_seconds", "updated_at",
    },
    "live_stream_products": {"views", "clicks", "add_to_cart", "shares", "updated_at"},
    "live_stream_chat": {"reactions", "replies_count", "updated_at"},
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

    def fill(self, visibility, host, secret="5e3kr"):
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
                    # Anybody signed in flags what it can see.
                    flag = name == "live_stream_flagged_messages" and who != "anon"
                    if anonymous or mine or flag or self.is_own(who, new):
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
