"""Saving a row again by an upsert does what the same update does: for every table and column that clients may write."""

from __future__ import annotations

import re
import threading
import uuid
from typing import Any

import pytest

from database import Database
from people import World
from postgrest import Api, RequestError, Row
from recount import differences
from refusals import refused
from sizes import both_shapes, own_db
from viewing import counts

LONG_AGO = "2001-01-01T00:00:00+00:00"
SOON = "2035-01-01T12:00:00+00:00"

# Of each type, what is tried for a column of it.
VALUES: dict[str, list[Any]] = {
    "bool": [True, False],
    "int4": [0, 3, -1, 2_000_000_000],
    "int8": [0, 3, -1],
    "numeric": [0, 12.5, -1],
    "text": ["another", "", "   ", "x" * 300],
    "varchar": ["another", "", "   ", "x" * 90],
    "timestamptz": [LONG_AGO, SOON, "infinity"],
    "_timestamptz": [[LONG_AGO]],
    "timestamp": ["2001-01-01T00:00:00"],
    "date": ["2031-05-06", "infinity"],
    "time": ["07:08:09"],
    "uuid": [str(uuid.uuid4())],
    "_uuid": [[str(uuid.uuid4())]],
    "_int4": [[1, 3], [9]],
    "jsonb": [{"like": 7}],
    "inet": ["10.1.2.3"],
    "live_stream_status": ["scheduled", "live", "paused", "ended", "cancelled", "error"],
    "live_stream_visibility": ["public", "private", "unlisted"],
    "live_stream_viewer_type": ["customer", "influencer", "wholesaler", "anonymous"],
    "live_stream_message_type": ["chat", "reaction", "system", "product_highlight"],
    "live_stream_recurrence": ["daily", "weekly", "monthly", "custom"],
    "live_stream_schedule_status": ["scheduled", "confirmed", "cancelled", "completed"],
    "live_stream_quality": ["720p"],
    "live_stream_connection_quality": ["poor", "good"],
}


class Scene:
    """Two rows of a table that are as alike as they can be, with whoever may write them."""

    def __init__(self, world: World, table: str, who: str) -> None:
        self.world, self.table = world, table
        self.hosts = [world.new_influencer() for _ in range(2)]
        self.people = [world.new_user() for _ in range(2)]
        self.rows = [self.make(host, person) for host, person in zip(self.hosts, self.people)]
        self.who = who

    def make(self, host: Any, person: Any) -> Row:
        world = self.world
        if self.table == "live_stream_schedule":
            return world.schedule(by=host, is_recurring=True, recurrence_pattern="weekly", days_of_week=[1], timezone="Europe/Berlin")
        if self.table == "live_stream_sessions":
            return world.session(by=host, live=False)
        session = world.session(by=host)
        if self.table == "live_stream_viewers":
            return world.join(session, person)
        if self.table == "live_stream_chat":
            return world.say(session, person)
        product = world.product(session, by=host)
        if self.table == "live_stream_products":
            return product
        return host.api.rpc(
            "live_stream_record_order", session_id=session["id"], product_id=product["product_id"], amount=5, order_reference="A"
        )

    def api(self, nth: int) -> Api:
        return {"host": self.hosts[nth].api, "person": self.people[nth].api, "service": self.world.service}[self.who]

    def now(self, nth: int) -> Row:
        (row,) = self.world.db.owner(f"select to_jsonb(t) as row from public.{self.table} t where id = %s", [self.rows[nth]["id"]])
        return row["row"]

    def tell(self, nth: int, said: Any) -> Any:
        """Without what sets this row apart from the other one."""
        own = self.now(nth)
        named = {str(own[name]): name for name in own if isinstance(own[name], str) and re.fullmatch(r"[0-9a-f-]{36}", own[name])}
        named |= {self.hosts[nth].user_id: "the host", self.people[nth].user_id: "the person"}
        if isinstance(said, RequestError):
            text = f"{said.status} {said.sqlstate} {said.message} {said.detail} {said.hint}"
            for id, name in named.items():
                text = text.replace(id, name)
            return text
        moment = re.compile(r"2\d{3}-\d\d-\d\dT")
        return {
            name: "a moment" if isinstance(value, str) and moment.match(value) and value not in (LONG_AGO, SOON) else named.get(str(value), value)
            for name, value in said.items()
            if name not in ("session_code",)
        }


TABLES = {
    "live_stream_sessions": (["influencer_id", "title"], ("host", "service")),
    "live_stream_viewers": (["session_id"], ("person", "service")),
    "live_stream_chat": (["session_id", "message"], ("person", "host", "service")),
    "live_stream_products": (["session_id", "product_id"], ("host", "service")),
    "live_stream_schedule": (["influencer_id", "title", "scheduled_date", "scheduled_start_time"], ("host", "service")),
    "live_stream_orders": (["session_id", "product_id", "amount"], ("service",)),
}


def columns_of(db: Database, table: str) -> dict[str, tuple[str, bool]]:
    """Their types, and whether null is a value."""
    found = db.owner(
        """select a.attname, t.typname, a.attnotnull from pg_attribute a join pg_type t on t.oid = a.atttypid
            where attrelid = %s::regclass and attnum > 0 and not attisdropped""",
        [f"public.{table}"],
    )
    return {row["attname"]: (row["typname"], not row["attnotnull"]) for row in found}


def both(scene: Scene, needed: list[str], sent: Row) -> list[Any]:
    """What the update of the one row, and the upsert of the other, have come to, where that is not the same."""
    said = []
    for nth, call in enumerate(("update", "upsert")):
        row = scene.rows[nth]
        own = sent | ({"session_code": uuid.uuid4().hex[:12]} if sent.get("session_code") == "another" else {})
        body = {"id": row["id"]} | {name: scene.now(nth)[name] for name in needed} | own
        try:
            if call == "update":
                answer = scene.api(nth).update(scene.table, body, where={"id": row["id"]}, one=True)
            else:
                answer = scene.api(nth).upsert(scene.table, body)
        except RequestError as error:
            answer = error
        said.append((scene.tell(nth, answer), scene.tell(nth, scene.now(nth))))
    differ = [part for part in _parts(said[0], said[1]) if not _is_a_second_later(part)]
    return [sent, *differ] if differ else []


def _is_a_second_later(part: Any) -> bool:
    """The two rows were made one after the other, and are written so."""
    name, *seconds = part if isinstance(part, tuple) else (None,)
    return name == "watch_duration_seconds" and None not in seconds and abs(seconds[0] - seconds[1]) <= 1


def _parts(one: Any, other: Any) -> list[Any]:
    if isinstance(one, tuple):
        return [part for a, b in zip(one, other) for part in _parts(a, b)]
    if isinstance(one, dict) and isinstance(other, dict):
        return [(name, one[name], other.get(name)) for name in one if one[name] != other.get(name)]
    return [] if one == other else [one, other]


@both_shapes
@pytest.mark.parametrize("table, who", [(table, who) for table, (_, whos) in TABLES.items() for who in whos])
def test_each_column(world, db, table, who):
    needed = TABLES[table][0]
    columns, wrong = columns_of(db, table), []
    assert set(needed) <= set(columns)
    for column, (kind, nullable) in columns.items():
        if column == "id":
            continue
        for value in VALUES[kind] + ([None] if nullable or column in needed else []):
            wrong += [differ] if (differ := both(Scene(world, table, who), needed, {column: value})) else []
    assert wrong == [], "\n".join(map(repr, wrong))
    assert differences(db) == []


@pytest.mark.parametrize("table, who", [(table, who) for table, (_, whos) in TABLES.items() for who in whos])
def test_the_whole_row_as_it_was_read(world, db, table, who):
    """`upsert({...row, column: value})`, as many clients save."""
    change = {
        "live_stream_sessions": {"title": "Another", "visibility": "unlisted"},
        "live_stream_viewers": {"is_still_watching": False},
        "live_stream_chat": {"is_deleted": True},
        "live_stream_products": {"clicks": 5, "live_stream_price": 3},
        "live_stream_schedule": {"scheduled_start_time": "18:30:00", "days_of_week": [2, 5]},
        "live_stream_orders": {"quantity": 2},
    }[table]
    for row_has in ({}, change):
        assert both(Scene(world, table, who), sorted(columns_of(db, table)), row_has) == []
    assert differences(db) == []


@pytest.mark.parametrize("table, who", [(table, who) for table, (_, whos) in TABLES.items() for who in whos])
def test_only_what_changes(world, db, table, who):
    """Without the columns that a new row would need: the update does not need them either."""
    column, value = {
        "live_stream_sessions": ("title", "Another"),
        "live_stream_viewers": ("is_still_watching", False),
        "live_stream_chat": ("is_deleted", True),
        "live_stream_products": ("clicks", 5),
        "live_stream_schedule": ("scheduled_start_time", "18:30:00"),
        "live_stream_orders": ("quantity", 2),
    }[table]
    scene = Scene(world, table, who)
    assert both(scene, [], {column: value}) == []
    assert scene.now(1)[column] == value


def watching(world: World, viewer: Row) -> bool:
    return world.db.value("select is_still_watching from public.live_stream_viewers where id = %s", [viewer["id"]])


def test_who_has_left_stays_away(world):
    session = world.session()
    viewer = world.join(session, world.viewer)
    for columns in ({"is_still_watching": False}, {"device_type": "tv"}, {"connection_quality": "poor", "city": None}):
        row = world.viewer.api.upsert("live_stream_viewers", {"id": viewer["id"], "session_id": session["id"]} | columns)
        assert not row["is_still_watching"] and row["left_at"] and not watching(world, viewer)
        assert counts(world, session) == (0, 1, 1)
    assert world.viewer.api.upsert("live_stream_viewers", viewer | {"is_still_watching": True})["is_still_watching"]
    assert counts(world, session) == (1, 1, 1) and differences(world.db) == []


def test_what_a_viewer_has_reported_stays(world):
    """Its numbers have defaults, which say nothing where they are not sent."""
    session = world.session()
    viewer = world.join(session, world.viewer)
    world.viewer.api.rpc("live_stream_report_quality", viewer_id=viewer["id"], buffering_time_seconds=3, disconnections_count=2)
    for columns in ({"device_type": "tv"}, {"is_still_watching": False}, {"buffering_time_seconds": 5}):
        row = world.viewer.api.upsert("live_stream_viewers", {"id": viewer["id"], "session_id": session["id"]} | columns)
        wanted = columns.get("buffering_time_seconds", 3)
        assert (row["buffering_time_seconds"], row["disconnections_count"]) == (wanted, 2)


def test_an_anonymous_viewer_leaves_by_its_id(world):
    session = world.session()
    viewer = world.join(session)
    body = {"id": viewer["id"], "session_id": session["id"], "user_id": None, "viewer_type": "customer", "is_still_watching": False}
    row = world.anon.upsert("live_stream_viewers", body)
    assert (row["id"], row["is_still_watching"], row["viewer_type"]) == (viewer["id"], False, "anonymous")
    with refused("42501"):
        world.stranger.api.upsert("live_stream_viewers", body | {"is_still_watching": True})
    assert counts(world, session) == (0, 1, 1)


@pytest.mark.parametrize("status", ["ended", "cancelled"])
def test_a_finished_session_gets_another_title(world, status):
    session = world.session(live=False)
    if status == "ended":
        world.start(session)
    session = world.set_session(session, status=status)
    for columns in ({"title": "Another"}, {"title": "A third", "status": status}):
        body = {"id": session["id"], "influencer_id": session["influencer_id"]} | columns
        assert world.influencer.api.upsert("live_stream_sessions", body)["title"] == columns["title"]
    with refused("23514", f"session {session['id']} is {status} and cannot become live"):
        world.influencer.api.upsert("live_stream_sessions", session | {"status": "live"})


def test_a_live_session_stays_as_it_is(world):
    """Its status, start, code and numbers, where they are not sent."""
    session = world.session()
    world.join(session, world.viewer)
    before = world.read(session)
    row = world.influencer.api.upsert("live_stream_sessions", {"id": session["id"], "influencer_id": session["influencer_id"], "title": "Another"})
    assert {**row, "title": 0, "updated_at": 0} == {**before, "title": 0, "updated_at": 0} and row["status"] == "live"


def test_secrets_of_a_session_that_is_saved_again(world, db):
    """They go where they go with any other update, and nowhere else."""
    session = world.session()
    key = "select stream_key from public.live_stream_credentials where session_id = %s"
    body = {"id": session["id"], "influencer_id": session["influencer_id"], "title": "Another"}
    for secret in ("key one", "key two"):
        row = world.influencer.api.upsert("live_stream_sessions", body | {"stream_key": secret})
        assert row["stream_key"] is None and db.value(key, [session["id"]]) == secret
    world.influencer.api.upsert("live_stream_sessions", body | {"stream_key": None})
    world.influencer.api.upsert("live_stream_sessions", body)
    assert db.value(key, [session["id"]]) == "key two"
    world.influencer.api.upsert("live_stream_sessions", body | {"stream_key": ""})
    assert db.value(key, [session["id"]]) is None
    thief = world.new_influencer()
    for own in (thief.influencer_id, session["influencer_id"]):
        with refused("42501"):
            thief.api.upsert("live_stream_sessions", body | {"influencer_id": own, "stream_key": "mine"})
    assert thief.api.upsert("live_stream_sessions", body | {"influencer_id": thief.influencer_id, "stream_key": "mine"}, ignore=True) == []
    world.set_session(session, title="A third")
    assert db.value(key, [session["id"]]) is None


def test_the_host_takes_a_message_away_and_puts_it_back(world):
    session = world.session()
    message = world.say(session, world.viewer)
    body = {name: message[name] for name in ("id", "session_id", "message")}
    for away in (True, False):
        row = world.influencer.api.upsert("live_stream_chat", body | {"is_deleted": away})
        assert (row["is_deleted"], row["user_id"]) == (away, world.viewer.user_id)
    with refused("42501", "only its author edits a message"):
        world.influencer.api.upsert("live_stream_chat", body | {"message": "what the host says"})
    with refused("42501"):
        world.stranger.api.upsert("live_stream_chat", body | {"is_deleted": True})
    assert world.viewer.api.upsert("live_stream_chat", body | {"message": "edited"})["edited_at"]


def test_what_is_sent_twice_is_ignored(world, db):
    """Prefer: resolution=ignore-duplicates: nothing happens, also where a new row would be refused."""
    session = world.session(max_viewers=1, slow_mode_seconds=60)
    viewer = world.join(session, world.viewer)
    message = world.say(session, world.viewer, id=str(uuid.uuid4()))
    assert world.viewer.api.upsert("live_stream_chat", {name: message[name] for name in ("id", "session_id", "message")}, ignore=True) == []
    assert world.viewer.api.upsert("live_stream_viewers", {"id": viewer["id"], "session_id": session["id"]}, ignore=True) == []
    with refused("PT429"):
        world.say(session, world.viewer, id=str(uuid.uuid4()))
    ended = world.end(session)
    assert world.influencer.api.upsert("live_stream_sessions", ended, ignore=True) == []
    assert world.viewer.api.upsert("live_stream_chat", {name: message[name] for name in ("id", "session_id", "message")}, ignore=True) == []
    assert counts(world, session) == (0, 1, 1) and differences(db) == []


def test_by_other_keys_than_the_id(world):
    session = world.session()
    product = world.product(session)
    body = {"session_id": session["id"], "product_id": product["product_id"], "clicks": 4}
    row = world.influencer.api.upsert("live_stream_products", body, on_conflict="session_id,product_id")
    assert (row["id"], row["clicks"], row["live_stream_price"]) == (product["id"], 4, product["live_stream_price"])
    body = {"session_code": session["session_code"], "influencer_id": session["influencer_id"], "title": "By code"}
    row = world.influencer.api.upsert("live_stream_sessions", body, on_conflict="session_code")
    assert (row["id"], row["title"], row["status"]) == (session["id"], "By code", "live")


def test_a_list_of_old_and_new_rows_with_different_keys(world):
    """A key that a row does not have is null there: what is there stays, and a new row has the default."""
    session = world.session(visibility="unlisted", is_chat_enabled=False)
    fresh = str(uuid.uuid4())
    body = [
        {"id": session["id"], "influencer_id": session["influencer_id"], "title": "Old", "visibility": None, "is_chat_enabled": None},
        {"id": fresh, "influencer_id": session["influencer_id"], "title": "New", "visibility": "private", "is_chat_enabled": True},
    ]
    old, new = world.influencer.api.upsert("live_stream_sessions", body)
    assert (old["visibility"], old["is_chat_enabled"], old["status"]) == ("unlisted", False, "live")
    assert (new["id"], new["visibility"], new["status"]) == (fresh, "private", "scheduled")


def test_what_is_sent_is_told_though_it_is_not_set(world, db):
    """`excluded` holds what was sent, in whatever column."""
    session = world.session(room_code="r1", live=False)
    product = world.product(session, clicks=1)
    ids = {"s": session["id"], "i": session["influencer_id"], "p": product["product_id"]}
    told = """insert into public.live_stream_sessions (id, influencer_id, title, room_code, updated_at)
              values (%(s)s, %(i)s, 'Sent', 'r2', now() + interval '1 minute')
              on conflict (id) do update set description = excluded.title
              where live_stream_sessions.room_code is distinct from excluded.room_code
                and live_stream_sessions.updated_at < excluded.updated_at returning description"""
    assert db.value(told, ids) == "Sent"
    adds = """insert into public.live_stream_products as p (session_id, product_id, clicks, likes) values (%(s)s, %(p)s, 2, 3)
              on conflict (session_id, product_id) do update set clicks = p.clicks + excluded.clicks * excluded.likes returning clicks"""
    assert db.value(adds, ids) == 7
    assert differences(db) == []


def test_another_key_is_no_reason_to_update(world):
    """An upsert by the id of what has another id: it is a new row, and there is one with its other key."""
    session = world.session()
    product = world.product(session)
    order = {"session_id": session["id"], "product_id": product["product_id"], "amount": 10, "order_reference": "R2"}
    order = world.service.insert("live_stream_orders", order)
    for fresh in ({}, {"id": str(uuid.uuid4())}):
        for api, table, body in (
            (world.service, "live_stream_orders", {name: order[name] for name in ("session_id", "product_id", "order_reference")} | {"amount": 777}),
            (world.influencer.api, "live_stream_products", {"session_id": session["id"], "product_id": product["product_id"], "live_stream_price": 1}),
            (world.influencer.api, "live_stream_sessions",
             {"influencer_id": session["influencer_id"], "title": "Another", "session_code": session["session_code"]}),
        ):
            with refused("23505"):
                api.upsert(table, body | fresh)
    assert world.read(session)["title"] == session["title"] and world.read(session)["total_revenue"] == 10
    assert differences(world.db) == []


def test_bans_are_saved_again(world):
    """By their id and by their key; a timeout keeps its end where none is sent."""
    timeout = world.influencer.api.rpc("live_stream_timeout", user_id=world.viewer.user_id, seconds=60)
    key = {name: timeout[name] for name in ("influencer_id", "user_id", "kind")}
    for where, on in (({"id": timeout["id"]}, "id"), (key, "influencer_id,user_id,kind"), (key | {"id": timeout["id"]}, "id")):
        row = world.influencer.api.upsert("live_stream_bans", where | {"reason": on}, on_conflict=on)
        assert (row["id"], row["reason"], row["expires_at"]) == (timeout["id"], on, timeout["expires_at"])
    with refused("23514", "a timeout needs an end"):
        world.influencer.api.upsert("live_stream_bans", key | {"expires_at": None}, on_conflict="influencer_id,user_id,kind")
    with refused("42501"):
        world.new_influencer().api.upsert("live_stream_bans", {"id": timeout["id"], "reason": "mine"})


def test_a_statement_at_the_place_of_an_earlier_one(world, db):
    """What the earlier one has passed by is its own affair."""
    session = world.session(live=False)
    saves = """insert into public.live_stream_sessions (id, influencer_id, title) values (%s, %s, 'A stream')
               on conflict (id) do update set title = excluded.title where live_stream_sessions.title <> excluded.title"""
    with db.connect() as connection:
        for _ in range(4):
            with connection.transaction():
                connection.execute(saves, [session["id"], session["influencer_id"]], prepare=True)
                connection.execute("delete from public.live_stream_sessions where id = %s", [session["id"]], prepare=True)
                connection.execute(saves, [session["id"], session["influencer_id"]], prepare=True)


UPSERT = """insert into public.live_stream_sessions (id, influencer_id, title) values (%s, %s, %s)
            on conflict (id) do update set title = excluded.title returning status::text, title"""


@pytest.mark.parametrize("end, row", [("commit", ("live", "Second")), ("rollback", ("scheduled", "Second"))])
def test_a_row_that_another_one_is_just_inserting(world, db, end, row):
    """It is waited for, and then it is a row that is there, or was never there and this one is new."""
    id = str(uuid.uuid4())
    made: list[Any] = []
    with db.connect() as first, db.connect() as second:
        first.execute("begin")
        first.execute(UPSERT, [id, world.influencer.influencer_id, "First"])
        first.execute("update public.live_stream_sessions set status = 'live' where id = %s", [id])
        waits = threading.Thread(target=lambda: made.append(second.execute(UPSERT, [id, world.influencer.influencer_id, "Second"]).fetchone()))
        waits.start()
        waits.join(0.5)
        assert waits.is_alive()
        first.execute(end)
        waits.join(20)
    assert [tuple(one.values()) for one in made] == [row]
    assert world.read({"id": id})["session_code"]


def test_rows_of_others_are_not_told_of(world):
    """Who knows an id or a code is told that it is somebody else's, and nothing that stands in the row."""
    private = world.session(visibility="private")
    theirs = world.schedule(visibility="private", title="Hidden")
    viewer = world.join(world.session(by=world.new_influencer()), world.viewer)
    thief = world.new_influencer()
    own = {"influencer_id": thief.influencer_id, "title": "Mine"}
    for sent, key in (({"id": private["id"]}, "id"), ({"session_code": private["session_code"]}, "session_code"),
                      ({"id": str(uuid.uuid4()), "session_code": private["session_code"]}, "id")):
        with pytest.raises(RequestError) as refusal:
            thief.api.upsert("live_stream_sessions", own | sent, on_conflict=key)
        told = str(refusal.value)
        assert (refusal.value.sqlstate, refusal.value.message) == ("42501", "a session with this id or code is somebody else's")
        assert private["influencer_id"] not in told and (private["id"] not in told or "id" in sent)
    with refused("42501", f"schedule {theirs['id']} is not the caller's", hint=True):
        thief.api.upsert("live_stream_schedule", own | {"id": theirs["id"], "scheduled_date": "2030-01-01", "scheduled_start_time": "10:00"})
    for api in (world.stranger.api, world.anon, world.influencer.api):
        with refused("42501", f"viewer {viewer['id']} is not the caller", hint=True):
            api.upsert("live_stream_viewers", {"id": viewer["id"], "session_id": viewer["session_id"], "buffering_time_seconds": -1})


@own_db("has a trigger of the app's")
@pytest.mark.parametrize("table, ignore", [("live_stream_sessions", False), ("live_stream_viewers", False), ("live_stream_products", False), ("live_stream_sessions", True)])
def test_a_row_that_goes_in_the_same_moment(db, world, table, ignore):
    """What was not looked at as a new row is not stored as one: the statement fails, and can be sent again."""
    session = world.session()
    row = {
        "live_stream_sessions": lambda: world.end(session) if ignore else session,
        "live_stream_viewers": lambda: world.join(session, world.viewer),
        "live_stream_products": lambda: world.product(session),
    }[table]()
    db.owner("create function public.vanish() returns trigger language plpgsql as $$ begin"
             f" delete from public.{table} where id = new.id; return new; end $$")
    db.owner(f"create trigger zz_vanish before insert on public.{table} for each row execute function public.vanish()")
    before = db.owner(f"select * from public.{table}")
    with refused("40001", "the row that was to be saved again has been deleted meanwhile", hint=True):
        # A host makes no session that has ended: it would be refused as a new one.
        (world.influencer.api if ignore else world.service).upsert(table, row | {"updated_at": SOON}, ignore=ignore)
    assert db.owner(f"select * from public.{table}") == before and differences(db) == []


def test_within_a_savepoint_that_is_rolled_back(world, db):
    session = world.session()
    viewer = world.join(session, world.viewer)
    upsert = """insert into public.live_stream_viewers (id, session_id, is_still_watching) values (%s, %s, %s)
                on conflict (id) do update set is_still_watching = excluded.is_still_watching"""
    with db.connect() as connection, connection.transaction():
        connection.execute("savepoint s")
        connection.execute(upsert, [viewer["id"], session["id"], False])
        connection.execute("rollback to s")
        connection.execute("delete from public.live_stream_viewers where id = %s", [viewer["id"]])
        connection.execute("insert into public.live_stream_viewers (id, session_id) values (%s, %s)", [viewer["id"], session["id"]])
        connection.execute(upsert, [viewer["id"], session["id"], False])
    assert not watching(world, viewer) and counts(world, session)[0] == 0 and differences(db) == []
