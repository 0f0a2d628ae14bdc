"""What is refused says so in words of ours: which column, what is wrong with it, and what to do, and never the name of a
constraint or a row that fails."""

from __future__ import annotations

import re
import uuid
from decimal import Decimal

import pytest

from postgrest import RequestError
from refusals import refused
from sizes import both_shapes, own_db

pytestmark = both_shapes

# What PostgreSQL says itself before anything of ours is asked: a value that is none of its column's type, or that the type
# cannot hold; a privilege that is missing; and a key that is there already, which an upsert may mean to meet.
OF_POSTGRES = {"22P02", "22001", "22003", "22007", "22008", "42501", "23505", "428C9"}
RAW = re.compile(r"constraint|Failing row|relation \"|live_stream_\w+_(check|key|fkey|pkey)")

TEXT = ["x" * 50_000, "", " "]
BAD = {
    "text": TEXT,
    "varchar": TEXT,
    "int4": [-1, -(2**31), 2**31 - 1],
    "int8": [-1, 2**62],
    "numeric": ["NaN", -1, 99_999_999],
    "timestamptz": ["infinity", "-infinity", "0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z"],
    "date": ["infinity", "-infinity", "0001-01-01"],
    "time": ["24:00:00"],
    "uuid": ["00000000-0000-0000-0000-000000000000"],
    "bool": [],
    "jsonb": [[], 1],
    "_uuid": [[], [None], ["00000000-0000-0000-0000-000000000000"] * 600],
    "_int4": [[], [None], [99]],
}


def columns(world, table):
    return world.db.sql(
        """select a.attname as name, t.typname as kind from pg_attribute a join pg_type t on t.oid = a.atttypid
            where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum""",
        [f"public.{table}"],
    )


def host_session(world):
    return {"influencer_id": world.influencer.influencer_id, "title": "A show"}


def viewer(world):
    return {"session_id": world.session(by=world.new_influencer())["id"], "device_type": "mobile"}


def message(world):
    return {"session_id": world.session(by=world.new_influencer())["id"], "message": "hello"}


def product(world):
    return {"session_id": world.session(live=False)["id"], "product_id": world.new_product()}


def order(world):
    product = world.product(world.session(live=False))
    return {"session_id": product["session_id"], "product_id": product["product_id"], "amount": 5}


def schedule(world):
    day = {"scheduled_date": "2030-01-07", "scheduled_start_time": "15:00:00"}
    return {"influencer_id": world.influencer.influencer_id, "title": "Weekly"} | day


def exception(world):
    row = world.schedule()
    return {"schedule_id": row["id"], "original_starts_at": "2030-02-01T10:00:00Z", "kind": "add"}


def ban(world):
    return {"influencer_id": world.influencer.influencer_id, "user_id": world.new_user().user_id}


def guest(world):
    return {"session_id": world.session(live=False)["id"], "user_id": world.new_user().user_id}


def follower(world):
    return {"influencer_id": world.influencer.influencer_id, "user_id": world.viewer.user_id}


# By whom, and what it may write at first.
WRITTEN = {
    "live_stream_sessions": ("influencer", host_session),
    "live_stream_viewers": ("viewer", viewer),
    "live_stream_chat": ("viewer", message),
    "live_stream_products": ("influencer", product),
    "live_stream_orders": ("influencer", order),
    "live_stream_schedule": ("influencer", schedule),
    "live_stream_schedule_exceptions": ("influencer", exception),
    "live_stream_bans": ("influencer", ban),
    "live_stream_moderators": ("influencer", ban),
    "live_stream_guests": ("influencer", guest),
    "live_stream_followers": ("viewer", follower),
}


def endless(row):
    return [name for name, value in row.items() if str(value).strip("-") == "infinity" or value == Decimal("Infinity")]


@own_db("sets the limits")
@pytest.mark.parametrize("table", WRITTEN)
def test_every_column_is_refused_in_words_of_ours(world, table):
    world.db.without_limits()
    who, body = WRITTEN[table]
    api = getattr(world, who).api
    raw = []

    def attempt(kind, column, value, call):
        try:
            rows = call()
            raw.extend((kind, column, str(value)[:20], f"{name} is endless") for row in rows or [] for name in endless(row))
        except RequestError as error:
            said = f"{error.message} {error.detail or ''}"
            is_clean = error.sqlstate in OF_POSTGRES if error.hint is None else True
            if not is_clean or "Failing row" in said or error.sqlstate != "23505" and RAW.search(said):
                raw.append((kind, column, str(value)[:20], error.sqlstate, said[:200]))

    for column in columns(world, table):
        name = column["name"]
        for value in [None, *BAD.get(column["kind"], ["nonsense"])]:
            attempt("insert", name, value, lambda: [api.insert(table, body(world) | {name: value})])
            for person in (world.viewer,) if table == "live_stream_followers" else ():
                person.api.delete(table, where={"influencer_id": world.influencer.influencer_id})
        first = body(world)
        row = api.insert(table, first)
        where = {"id": row["id"]} if "id" in row else {key: row[key] for key in list(first)[:2]}
        for value in [None, *BAD.get(column["kind"], ["nonsense"])]:
            attempt("update", name, value, lambda: api.update(table, {name: value}, where=where))
        api.delete(table, where=where) if table in ("live_stream_followers",) else None
    assert raw == [], "\n".join(map(str, raw))


LONG = "x" * 3_000
BY_FUNCTION = [
    ("record_order", {"amount": value}, "22003", "amount of the order cannot be")
    for value in (1e11, -1e11, 9_999_999_999.995, "Infinity", "-Infinity")
] + [("record_order", {"amount": 1, "order_reference": "x" * 256}, "23514", "order_reference of the order is too long")]
BY_FUNCTION += [
    ("feature_product", {column: value}, "22003", f"{column} of the product cannot be")
    for column in ("original_price", "live_stream_price", "discount_percentage")
    for value in (1e12, "Infinity")
]
BY_FUNCTION += [
    ("create", {"title": "A show"} | {column: LONG}, "23514", f"{column} of the session is too long")
    for column in ("title", "thumbnail_url", "session_code", "template_id")
]
BY_FUNCTION += [
    ("start", {column: LONG}, "23514", f"{column} of the session is too long")
    for column in ("room_id", "room_code", "stream_key", "stream_url", "hls_url", "rtmp_url")
]
BY_FUNCTION += [
    ("end", {"recording_url": LONG}, "23514", "recording_url of the session is too long"),
    ("send_message", {"message": "hello", "username": LONG}, "23514", "username of the message is too long"),
    ("send_message", {"message": "hello", "avatar_url": LONG}, "23514", "avatar_url of the message is too long"),
    ("delete_message", {"reason": LONG}, "23514", "deletion_reason of the message is too long"),
]


@pytest.mark.parametrize("function, args, sqlstate, words", BY_FUNCTION)
def test_a_function_says_which_of_its_values_does_not_fit(world, function, args, sqlstate, words):
    session = world.session()
    names = {"session_id": session["id"]}
    if function in ("record_order", "feature_product"):
        names["product_id"] = world.product(session)["product_id"]
    elif function == "delete_message":
        names = {"message_id": world.say(session, world.viewer)["id"]}
    elif function == "create":
        names = {}
    with refused(sqlstate, words, hint=True):
        world.influencer.api.rpc(f"live_stream_{function}", names | args)


def test_what_just_fits_is_taken(world):
    session = world.session()
    product = world.product(session)
    names = {"session_id": session["id"], "product_id": product["product_id"]}
    order = world.service.rpc("live_stream_record_order", names | {"amount": "9999999999.994", "order_reference": "é" * 255})
    assert (order["amount"], order["order_reference"]) == (9_999_999_999.99, "é" * 255)
    row = world.influencer.api.rpc("live_stream_feature_product", names | {"original_price": 99_999_999.99})
    assert row["original_price"] == 99_999_999.99


@pytest.mark.parametrize("who", ["viewer", "anon"])
def test_a_viewer_is_told_the_same_on_every_way(world, who):
    session = world.session()
    person = world.viewer if who == "viewer" else None
    viewer = world.join(session, person)
    api = person.api if person else world.anonymous(viewer)
    with refused("23502", "connection_quality must not be null", hint=True):
        api.update("live_stream_viewers", {"connection_quality": None}, where={"id": viewer["id"]})


@own_db("adds a column and a trigger")
def test_a_column_of_the_apps_is_the_apps(db, world):
    """Its trigger may fill it in after ours have looked, and may let it be endless."""
    db.owner("alter table public.live_stream_products add slug text not null default '', add until timestamptz")
    db.owner("""create function public.slug() returns trigger language plpgsql as
                $$ begin new.slug := coalesce(new.slug, 'made'); return new; end $$""")
    db.owner("create trigger slug before insert on public.live_stream_products for each row execute function public.slug()")
    db.reload_schema()
    row = world.product(world.session(), slug=None, until="infinity")
    assert (row["slug"], row["until"]) == ("made", "infinity")
