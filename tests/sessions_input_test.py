"""Whose a session is, its secrets, bad input, and what the app does to the table."""

from __future__ import annotations

import uuid

import psycopg
import pytest

from people import people
from postgrest import RequestError
from refusals import refused
from sizes import own_db

COUNTERS = (
    "current_viewers",
    "peak_viewers",
    "total_unique_viewers",
    "total_watch_time_seconds",
    "total_watch_time_minutes",
    "average_watch_time_minutes",
    "total_messages",
    "total_reactions",
    "total_shares",
    "total_products_showcased",
    "total_clicks",
    "total_orders",
    "total_revenue",
    "conversion_rate",
    "connection_issues_count",
    "buffering_events",
    "total_buffering_time_seconds",
)


# Whose a session is.


def test_only_the_owner_changes_a_session(world):
    session = world.session()
    other = world.new_influencer()
    for api in (world.viewer.api, other.api):
        assert api.update("live_stream_sessions", {"title": "Mine"}, where={"id": session["id"]}) == []
        assert api.delete("live_stream_sessions", where={"id": session["id"]}) == []
        for function in ("start", "pause", "resume", "end", "cancel"):
            with refused("42501", "is not the caller's", hint=True):
                api.rpc(f"live_stream_{function}", session_id=session["id"])
    for call in (
        lambda: world.anon.update("live_stream_sessions", {"title": "Mine"}, where={"id": session["id"]}),
        lambda: world.anon.delete("live_stream_sessions", where={"id": session["id"]}),
        lambda: world.anon.rpc("live_stream_end", session_id=session["id"]),
    ):
        with pytest.raises(RequestError) as error:
            call()
        assert error.value.status == 401
    assert world.read(session) == session
    for id in (str(uuid.uuid4()), None):
        with refused("PT404" if id else "22023", hint=True):
            world.influencer.api.rpc("live_stream_end", session_id=id)


@own_db("counts or changes all that is there")
def test_nobody_streams_as_somebody_else(world):
    for influencer_id, sqlstate in ((world.influencer.influencer_id, "42501"), (str(uuid.uuid4()), "42501"), (None, "23502")):
        for api in (world.viewer.api, world.new_influencer().api):
            with refused(sqlstate, "influencer", hint=True):
                api.insert("live_stream_sessions", {"influencer_id": influencer_id, "title": "Mine"})
    with refused("23502", "influencer_id", hint=True):
        world.viewer.api.rpc("live_stream_create", title="Mine")
    assert world.influencer.api.select("live_stream_sessions") == []


def test_a_session_stays_with_its_influencer(world):
    session = world.session(live=False)
    other = world.new_influencer()
    for new in (other.influencer_id, str(uuid.uuid4()), None):
        with refused("42501", f"session {session['id']} belongs to its influencer", hint=True):
            world.set_session(session, influencer_id=new)
    assert world.read(session) == session
    moved = world.service.update(
        "live_stream_sessions", {"influencer_id": other.influencer_id}, where={"id": session["id"]}, one=True
    )
    assert moved["influencer_id"] == other.influencer_id
    # A server cannot give somebody a second session on air either.
    mine, live = world.session(), world.session(by=other)
    with refused("23505", live["id"]):
        world.service.update("live_stream_sessions", {"influencer_id": other.influencer_id}, where={"id": mine["id"]})


def test_ids_stay(world):
    session = world.session(live=False)
    assert world.set_session(session, id=str(uuid.uuid4()))["id"] == session["id"]


@own_db("counts or changes all that is there")
def test_nobody_writes_counters(world, db):
    forged = dict.fromkeys(COUNTERS, 7)
    session = world.session(live=False, **forged)
    assert {session[name] for name in COUNTERS} == {0}
    of_service = world.service.insert(
        "live_stream_sessions", {"influencer_id": world.influencer.influencer_id, "title": "Its", **forged}
    )
    assert {of_service[name] for name in COUNTERS} == {0}
    for api in (world.influencer.api, world.service):
        row = api.update("live_stream_sessions", forged, where={"id": session["id"]}, one=True)
        assert {row[name] for name in COUNTERS} == {0}
    for run in (db.owner, db.sql):
        sets = ", ".join(f"{name} = 7" for name in COUNTERS)
        (row,) = run(f"update public.live_stream_sessions set {sets} where id = %s returning *", [session["id"]])
        assert {row[name] for name in COUNTERS} == {0}
    viewer = world.join(session, world.viewer)
    row = world.set_session(session, status="live", current_viewers=0, peak_viewers=0, total_unique_viewers=0)
    assert (row["current_viewers"], row["peak_viewers"], row["total_unique_viewers"]) == (1, 1, 1)
    assert world.leave(viewer, world.viewer)["is_still_watching"] is False


# Secrets.

SECRETS = {"stream_key": "sk-secret", "rtmp_url": "rtmp://secret"}


def secrets(world, session, by=None):
    rows = (by or world.influencer.api).rpc("live_stream_stream_credentials", session_id=session["id"])
    return {name: row[name] for row in rows for name in SECRETS}


@own_db("counts or changes all that is there")
def test_secrets_are_in_no_row(world, db):
    created = world.session(live=False, **SECRETS)
    updated = world.set_session(created, stream_key="sk-secret-2")
    assert secrets(world, created) == SECRETS | {"stream_key": "sk-secret-2"}
    by_function = world.influencer.api.rpc("live_stream_start", session_id=created["id"], **SECRETS)
    assert secrets(world, created) == SECRETS
    world.service.insert("live_stream_products", {"session_id": created["id"], "product_id": world.new_product()})
    seen = [created, updated, by_function]
    for api in (world.anon, world.viewer.api, world.influencer.api, world.service):
        for relation in ("live_stream_sessions", "live_sessions_with_details", "session_analytics_summary"):
            seen += api.select(relation)
        seen += api.select("live_stream_products", "*, session:live_stream_sessions(*)")
        seen += api.rpc("live_stream_session_by_code", code=created["session_code"])
    assert len(seen) > 12 and "secret" not in str(seen)
    assert db.value("select stream_key is null and rtmp_url is null from public.live_stream_sessions")
    with pytest.raises(psycopg.errors.CheckViolation):
        db.sql(
            "alter table public.live_stream_sessions disable trigger live_stream_sessions_guard;"
            "update public.live_stream_sessions set stream_key = 'sk-secret'"
        )


def test_secrets_are_the_owners(world):
    session = world.session(**SECRETS)
    other = world.new_influencer()
    for api in (world.viewer.api, other.api):
        assert secrets(world, session, api) == {}
        assert api.select("live_stream_credentials") == []
    for api in (world.influencer.api, world.service):
        assert secrets(world, session, api) == SECRETS
    for call in (
        lambda: world.anon.select("live_stream_credentials"),
        lambda: world.anon.rpc("live_stream_stream_credentials", session_id=session["id"]),
        lambda: world.influencer.api.insert("live_stream_credentials", {"session_id": session["id"]}),
        lambda: other.api.update("live_stream_credentials", {"stream_key": "x"}, where={"session_id": session["id"]}),
        lambda: other.api.delete("live_stream_credentials", where={"session_id": session["id"]}),
    ):
        with refused("42501"):
            call()
    assert secrets(world, session) == SECRETS


def test_an_empty_text_removes_a_secret_and_null_leaves_it(world):
    session = world.session(**SECRETS)
    world.set_session(session, stream_key=None, rtmp_url=None, title="The same")
    assert secrets(world, session) == SECRETS
    world.set_session(session, stream_key="", rtmp_url=None)
    assert secrets(world, session) == {"stream_key": None, "rtmp_url": "rtmp://secret"}


@own_db("counts or changes all that is there")
def test_anothers_secrets_are_out_of_reach(world, db):
    """With the id of somebody else's session, or of one's own that is there already."""
    victim = world.session(**SECRETS)
    attacker = world.new_influencer("Mallory")
    forged = "(id, influencer_id, title, stream_key) values (%s, %s, 'Mine', 'forged')"
    insert = f"insert into public.live_stream_sessions {forged}"

    def attack(statement):
        with db.connect("authenticator") as connection, connection.transaction():
            connection.execute(
                "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', %s, true)",
                ['{"sub": "%s"}' % attacker.user_id],
            )
            connection.execute(statement, [victim["id"], attacker.influencer_id])
            # Whatever was left over is not stored by the next statement.
            connection.execute("update public.live_stream_sessions set stream_key = null")

    attack(f"{insert} on conflict do nothing")
    attack(f"{insert} on conflict (id) do nothing")
    for statement in (
        insert,
        f"{insert} on conflict (id) do update set stream_key = excluded.stream_key",
        f"{insert} on conflict (id) do update set title = 'Mine', influencer_id = excluded.influencer_id",
    ):
        with pytest.raises(psycopg.Error):
            attack(statement)
    assert secrets(world, victim) == SECRETS and world.read(victim)["title"] == victim["title"]

    # The owner's own row was not written either: its next statement stores nothing but its own.
    with db.connect() as connection, connection.transaction():
        connection.execute(f"{insert} on conflict (id) do nothing", [victim["id"], world.influencer.influencer_id])
        connection.execute("update public.live_stream_sessions set stream_key = null, title = 'Again'")
    assert secrets(world, victim) == SECRETS and world.read(victim)["title"] == "Again"


@own_db("counts or changes all that is there")
def test_secrets_of_many_rows_and_of_rolled_back_ones(world, db):
    body = [{"influencer_id": world.influencer.influencer_id, "title": "T", "stream_key": f"key-{n}"} for n in range(50)]
    rows = world.influencer.api.insert("live_stream_sessions", body)
    assert [secrets(world, row)["stream_key"] for row in rows] == [f"key-{n}" for n in range(50)]
    update = "update public.live_stream_sessions set stream_key = 'rolled back' where id = %s"
    with db.connect() as connection:
        with pytest.raises(psycopg.errors.CheckViolation), connection.transaction():
            with connection.transaction(force_rollback=True):
                connection.execute(update, [rows[0]["id"]])
            connection.execute("update public.live_stream_sessions set stream_key = null where id = %s", [rows[0]["id"]])
            with connection.transaction():
                connection.execute(update.replace("rolled back", "kept"), [rows[1]["id"]])
            connection.execute("update public.live_stream_sessions set max_viewers = 0")
    assert [secrets(world, row)["stream_key"] for row in rows[:2]] == ["key-0", "key-1"]


# Bad input: what is sent, the SQLSTATE, and words of the message. Those with words of ours carry a hint.

BAD = [
    ({"title": ""}, "23514", "the title of a session is empty"),
    ({"title": " \t\n\u00a0\u3000"}, "23514", "the title of a session is empty"),
    ({"title": None}, "23502", "title"),
    ({"title": "x" * 256}, "22001", "character varying(255)"),
    ({"title": "nul \u0000"}, "22P05", ""),
    ({"description": "x" * 10_001}, "23514", "the description of a session is too long"),
    ({"description": "x" * 10_000_000}, "23514", "the description of a session is too long"),
    ({"max_viewers": 0}, "23514", "max_viewers of a session must be 1 or more"),
    ({"max_viewers": -1}, "23514", "max_viewers of a session must be 1 or more"),
    ({"max_viewers": 2**31}, "22003", ""),
    ({"max_viewers": "NaN"}, "22P02", ""),
    ({"max_viewers": 1.5}, "22P02", ""),
    (
        {"scheduled_start_time": "2030-01-01T10:00:00Z", "scheduled_end_time": "2030-01-01T10:00:00Z"},
        "23514",
        "the session is scheduled to end before it starts",
    ),
    (
        {"scheduled_start_time": "2030-01-01T10:00:00Z", "scheduled_end_time": "2030-01-01T09:00:00Z"},
        "23514",
        "the session is scheduled to end before it starts",
    ),
    ({"scheduled_start_time": "infinity"}, "23514", "scheduled_start_time cannot be infinite"),
    ({"scheduled_end_time": "-infinity"}, "23514", "scheduled_end_time cannot be infinite"),
    ({"scheduled_start_time": "2030-02-30T10:00:00Z"}, "22008", ""),
    ({"status": "LIVE"}, "22P02", "live_stream_status"),
    ({"visibility": "friends"}, "22P02", "live_stream_visibility"),
    ({"stream_quality": "8k"}, "22P02", "live_stream_quality"),
    ({"thumbnail_url": "x" * 2049}, "22001", ""),
    ({"stream_key": "x" * 2049}, "22001", ""),
    ({"session_code": "x" * 21}, "22001", ""),
    ({"is_chat_enabled": "maybe"}, "22P02", ""),
]
HINTED = ("the title", "the description", "max_viewers of", "the session is", "scheduled_", "a session needs")


@own_db("counts or changes all that is there")
@pytest.mark.parametrize("columns, sqlstate, words", BAD, ids=[f"{list(b[0])[0]}-{n}" for n, b in enumerate(BAD)])
def test_bad_input_changes_nothing(plain_db, columns, sqlstate, words):
    world = people(plain_db)
    session = world.session(live=False)
    hint = words.startswith(HINTED)
    with refused(sqlstate, words, hint=hint):
        world.session(live=False, **columns)
    with refused(sqlstate, words, hint=hint):
        world.set_session(session, room_id="changed", **columns)
    assert world.influencer.api.select("live_stream_sessions") == [session]


@pytest.mark.parametrize(
    "column, default, sqlstate, words",
    [
        ("status", "scheduled", "23514", "a session needs a status"),
        ("visibility", "public", "23502", "visibility"),
        ("is_chat_enabled", True, "23502", "is_chat_enabled"),
    ],
)
def test_null_is_the_default_of_a_new_session_alone(world, column, default, sqlstate, words):
    session = world.session(live=False, **{column: None})
    assert session[column] == default
    with refused(sqlstate, words):
        world.set_session(session, room_id="changed", **{column: None})
    assert world.read(session) == session


@pytest.mark.parametrize("id", ["", "1", "not-a-uuid", "{", "0" * 33])
def test_malformed_ids(world, id):
    for call in (
        lambda: world.influencer.api.rpc("live_stream_end", session_id=id),
        lambda: world.influencer.api.select("live_stream_sessions", where={"id": id}),
        lambda: world.session(live=False, id=id),
    ):
        with refused("22P02", "uuid"):
            call()


def test_no_limit_and_longest_texts(world):
    session = world.session(live=False, max_viewers=None, title="ü" * 255, description="ü" * 10_000)
    assert session["max_viewers"] is None and len(session["title"]) == 255
    assert world.set_session(session, max_viewers=2**31 - 1)["max_viewers"] == 2**31 - 1


# What the app does to our table.


@own_db("alters a table")
def test_columns_of_the_apps_own(world, db):
    db.owner("alter table public.live_stream_sessions add column first text, add column brand text default 'Acme'")
    db.owner("alter table public.live_stream_sessions drop column first")
    db.reload_schema()
    session = world.session(brand="Umbrella")
    assert session["brand"] == "Umbrella"
    world.join(session, world.viewer)
    assert world.set_session(session, brand="Initech")["brand"] == "Initech"
    ended = world.end(session)
    assert (ended["brand"], ended["total_unique_viewers"], ended["status"]) == ("Initech", 1, "ended")


@own_db("alters a table")
def test_a_column_that_is_gone_is_named(world, db):
    session = world.session()
    db.owner("alter table public.live_stream_sessions drop column peak_viewers cascade")
    db.close()
    db.reload_schema()
    with refused("55000", 'column "peak_viewers" of table "live_stream_sessions" is missing', hint=True):
        world.join(session, world.viewer)
    with refused("55000", 'column "peak_viewers" of table "live_stream_sessions" is missing', hint=True):
        world.end(session)


@own_db("counts or changes all that is there")
def test_deleting_a_session_or_its_influencer(world, db):
    session = world.session(**SECRETS)
    world.join(session, world.viewer)
    world.say(session, world.viewer)
    world.product(session)
    assert [row["id"] for row in world.influencer.api.delete("live_stream_sessions", where={"id": session["id"]})] == [
        session["id"]
    ]
    world.join(world.session(**SECRETS), world.viewer)
    db.owner("delete from public.influencers where id = %s", [world.influencer.influencer_id])
    for table in ("sessions", "viewers", "chat", "products", "credentials", "heartbeats"):
        assert db.value(f"select count(*) from public.live_stream_{table}") == 0, table
