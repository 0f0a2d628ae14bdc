"""A null where the table has a default means the default, in every table: PostgREST sends null where a row lacks a column."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from typing import Any, Callable

import pytest

from people import people
from sizes import own_db

pytestmark = own_db("makes rows of every table")

# Where null says something else: there is no limit.
NULL_SAYS_SOMETHING = {("live_stream_sessions", "max_viewers"), ("live_stream_invitations", "max_uses")}
# Tables that only the engine writes, without the executor where it can: a trigger there would cost each heartbeat.
THE_ENGINES = {"live_stream_heartbeats"}
Make = Callable[[], tuple[Any, dict[str, Any]]]


def soon(**delta: int) -> str:
    return (datetime.now(timezone.utc) + timedelta(**delta)).isoformat()


class Makers:
    """Of each table: by whom a row is made, and what it needs. Each call is of another row."""

    def __init__(self, world: Any) -> None:
        self.world = world
        host = self.host = world.influencer
        self.session = world.session()
        self.schedule = world.schedule(is_recurring=True, recurrence_pattern="daily")
        self.product = world.product(self.session)
        self.day = 0

    def user(self) -> str:
        return self.world.new_user().user_id

    def next_day(self) -> str:
        self.day += 1
        return (datetime(2030, 1, 7, 15, tzinfo=timezone.utc) + timedelta(days=self.day)).isoformat()

    def all(self) -> dict[str, list[Make]]:
        world, host, session = self.world, self.host, self.session
        influencer, service = host.influencer_id, world.service

        def of_host(make: Callable[[], dict[str, Any]]) -> list[Make]:
            return [lambda: (host.api, make()), lambda: (service, make())]

        def of_server(make: Callable[[], dict[str, Any]]) -> list[Make]:
            return [lambda: (service, make())]

        def person(make: Callable[[Any], dict[str, Any]]) -> list[Make]:
            def own() -> tuple[Any, dict[str, Any]]:
                somebody = world.new_user()
                return somebody.api, make(somebody)

            return [own, lambda: (service, make(world.new_user()))]

        def message() -> str:
            return world.say(session, host)["id"]

        return {
            "live_stream_sessions": of_host(lambda: {"influencer_id": influencer, "title": "A show"}),
            "live_stream_viewers": person(lambda who: {"session_id": session["id"], "user_id": who.user_id})
            + [lambda: (world.anon, {"session_id": session["id"]})],
            "live_stream_chat": person(lambda who: {"session_id": session["id"], "user_id": who.user_id, "message": "hello"}),
            "live_stream_chat_reactions": of_server(lambda: {"message_id": message(), "user_id": self.user(), "reaction": "🔥"}),
            "live_stream_products": of_host(lambda: {"session_id": session["id"], "product_id": world.new_product()}),
            "live_stream_orders": of_host(
                lambda: {"session_id": session["id"], "product_id": self.product["product_id"], "amount": 5, "order_reference": str(uuid.uuid4())}
            ),
            "live_stream_schedule": of_host(
                lambda: {"influencer_id": influencer, "title": "A show", "scheduled_date": "2030-01-07", "scheduled_start_time": "15:00"}
            ),
            "live_stream_schedule_exceptions": of_host(
                lambda: {"schedule_id": self.schedule["id"], "original_starts_at": self.next_day(), "kind": "skip"}
            ),
            "live_stream_schedule_sessions": of_server(
                lambda: {"schedule_id": self.schedule["id"], "original_local_start": self.next_day()[:19], "original_starts_at": soon(days=1),
                         "starts_at": soon(days=1), "ends_at": soon(days=2), "title": "A show"}
            ),
            "live_stream_bans": of_host(lambda: {"influencer_id": influencer, "user_id": self.user()}),
            "live_stream_moderators": of_host(lambda: {"influencer_id": influencer, "user_id": self.user()}),
            "live_stream_guests": of_host(lambda: {"session_id": session["id"], "user_id": self.user()}),
            "live_stream_invitations": of_server(
                lambda: {"session_id": session["id"], "token_hash": "\\x" + uuid.uuid4().hex * 2, "expires_at": soon(days=1)}
            ),
            "live_stream_followers": person(lambda who: {"influencer_id": influencer, "user_id": who.user_id}),
            "live_stream_follow_changes": of_server(lambda: {"influencer_id": influencer, "user_id": self.user()}),
            "live_stream_notifications": of_server(lambda: {"user_id": self.user(), "type": "special_offer", "title": "Now"}),
            "live_stream_credentials": of_server(lambda: {"session_id": world.session(live=False)["id"]}),
            "live_stream_analytics": of_server(
                lambda: {"session_id": session["id"], "period_type": "day", "period_start": self.next_day(), "period_end": "2040-01-01"}
            ),
            "influencers": person(lambda who: {"user_id": who.user_id}),
        }  # fmt: skip


def columns_with_defaults(db: Any) -> dict[str, list[str]]:
    """Of each table that somebody but its owner may insert into."""
    rows = db.sql(
        """select c.relname as table, a.attname as column
             from pg_attrdef d join pg_class c on c.oid = d.adrelid join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
            where c.relnamespace = 'public'::regnamespace and a.attgenerated = ''
              and (c.relname like 'live\\_stream\\_%%' or c.relname = 'influencers')
              and has_any_column_privilege('service_role', c.oid, 'insert') order by 1, 2"""
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["table"], []).append(row["column"])
    return found


def alike(one: Any, other: Any) -> bool:
    """The same, or what differs from row to row: a time of now, an id."""
    if one is None or other is None:
        return one is other
    try:
        return abs(datetime.fromisoformat(str(one)) - datetime.fromisoformat(str(other))) < timedelta(minutes=5)
    except (ValueError, TypeError):
        pass
    try:
        return bool(uuid.UUID(str(one)) and uuid.UUID(str(other)))
    except ValueError:
        return one == other


def test_a_null_is_the_default_wherever_there_is_one(plain_db):
    """Column by column, and all at once, by each who may insert; compared with the same row without the column."""
    plain_db.set(rows_per_request=0, schedules_per_influencer=0, planned_sessions_per_influencer=0, exceptions_per_schedule=0)
    plain_db.without_limits()
    world = people(plain_db)
    makers = Makers(world).all()
    columns = columns_with_defaults(plain_db)
    assert set(columns) - THE_ENGINES == set(makers)
    wrong = []
    for table, makes in makers.items():
        grants = {row["column_name"] for row in plain_db.sql(
            "select column_name from information_schema.column_privileges where table_name = %s and grantee = 'authenticated' and privilege_type = 'INSERT'", [table])}  # fmt: skip
        for make in makes:
            api, body = make()
            allowed = columns[table] if api is world.service else [name for name in columns[table] if name in grants]
            allowed = [name for name in allowed if (table, name) not in NULL_SAYS_SOMETHING] if api is not world.anon else ["viewer_type", "is_still_watching", "joined_at"]
            show = "*" if api is world.service or api is world.anon or table != "influencers" else "id,display_name"
            without = api.insert(table, body, select=show)
            for names in [[name] for name in allowed] + [allowed]:
                api, body = make()
                try:
                    row = api.insert(table, body | dict.fromkeys(names), select=show)
                except Exception as error:  # said below
                    wrong.append((table, names, str(error)))
                    continue
                if api is world.service or table != "influencers":
                    wrong += [(table, name, row[name], without[name]) for name in names if not alike(row[name], without[name])]
    assert not wrong, "\n".join(map(str, wrong))


def test_rows_with_different_keys_are_sent_at_once(supabase_db):
    world = people(supabase_db)
    host = world.influencer.api
    session = world.session()
    rows = host.insert(
        "live_stream_products",
        [
            {"session_id": session["id"], "product_id": world.new_product(), "display_order": 3},
            {"session_id": session["id"], "product_id": world.new_product(), "featured_duration_minutes": 9},
            {"session_id": session["id"], "product_id": world.new_product(), "id": str(uuid.uuid4()), "featured_at": soon(hours=1)},
        ],
    )
    assert [(row["display_order"], row["featured_duration_minutes"]) for row in rows] == [(3, 5), (0, 9), (0, 5)]
    rows = world.service.insert(
        "live_stream_analytics",
        [
            {"session_id": session["id"], "period_type": "hour", "period_start": "2030-01-01", "period_end": "2030-01-02", "viewers_joined": 4},
            {"session_id": session["id"], "period_type": "hour", "period_start": "2030-01-02", "period_end": "2030-01-03", "top_cities": {"Bonn": 1}},
        ],
    )
    assert [(row["viewers_joined"], row["top_cities"]) for row in rows] == [(4, {}), (0, {"Bonn": 1})]
    rows = host.insert(
        "live_stream_schedule",
        [
            {"influencer_id": world.influencer.influencer_id, "title": "A", "scheduled_date": "2030-01-07", "scheduled_start_time": "15:00", "timezone": "Europe/Berlin"},
            {"influencer_id": world.influencer.influencer_id, "title": "B", "scheduled_date": "2030-01-07", "scheduled_start_time": "15:00", "is_promoted": True},
        ],
    )  # fmt: skip
    assert [(row["timezone"], row["is_promoted"]) for row in rows] == [("Europe/Berlin", False), ("UTC", True)]


def test_a_null_that_says_something_stays(supabase_db):
    world = people(supabase_db)
    assert world.session(live=False, max_viewers=None)["max_viewers"] is None
    viewer = world.join(world.session())
    assert viewer["user_id"] is None
    body = {"session_id": world.session(live=False)["id"], "token_hash": "\\x" + "ab" * 32, "expires_at": soon(days=1), "max_uses": None}
    assert world.service.insert("live_stream_invitations", body)["max_uses"] is None


def test_the_default_is_the_one_that_the_table_has(supabase_db):
    """The owner's, where it was changed; none where it was dropped."""
    world = people(supabase_db)
    world.db.owner("alter table live_stream_products alter column display_order set default 40 + 2")
    world.db.owner("create function own_default() returns text language sql stable as $$ select 'email' $$")
    world.db.owner("alter table live_stream_notifications alter column delivery_method set default own_default()")
    session = world.session()
    assert world.product(session, display_order=None)["display_order"] == 42
    body = {"user_id": world.viewer.user_id, "type": "special_offer", "title": "Now", "delivery_method": None}
    assert world.service.insert("live_stream_notifications", body)["delivery_method"] == "email"
    world.db.owner("alter table live_stream_sessions alter column stream_quality drop default")
    with pytest.raises(Exception, match="stream_quality must not be null"):
        world.session(stream_quality=None)


def test_an_update_to_null_is_as_it_was(supabase_db):
    world = people(supabase_db)
    session = world.session()
    with pytest.raises(Exception, match="is_chat_enabled must not be null"):
        world.set_session(session, is_chat_enabled=None)
