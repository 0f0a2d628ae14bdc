"""pg_dump and restore of a database with the extension: nothing lost, nothing counted twice."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Iterator

import pytest

from database import OWNER, Database, Server
from dumps import dump_of, rows_of, schema_of
from people import people
from postgrest import Row
from refusals import refused
from sizes import both_shapes, own_db

pytestmark = [own_db("dumps the whole"), both_shapes]

_names = itertools.count(1)


@contextlib.contextmanager
def target(server: Server, kind: str, owner: str = "postgres") -> Iterator[Database]:
    """An empty database to restore into."""
    name = f"restored_{next(_names)}"
    server.run("postgres", f"create database {name} template template0 owner {owner}")
    try:
        with server.open(name, kind) as db:
            yield db
    finally:
        server.run("postgres", f"drop database if exists {name} with (force)")


@pytest.fixture
def streamed(db: Database) -> Row:
    return stream(db)


def stream(db: Database) -> Row:
    """A live session in `db` with something in every table, and a column and an index of the user's own."""
    db.owner("alter table public.live_stream_sessions add column brand text")
    db.owner("create index brand_idx on public.live_stream_sessions (brand)")
    db.reload_schema()
    world = people(db)
    past = world.session(title="Past", brand="first")
    seen = world.join(past, world.viewer)
    world.say(past, world.viewer, "gone soon", seen)
    world.leave(seen, world.viewer)
    world.end(past)
    db.owner("select live_stream.purge(chat => '0', viewers => '0')")
    session = world.session(title="Now", brand="second", stream_key="secret-key", max_viewers=None)
    viewer, guest = world.join(session, world.viewer), world.join(session)
    world.leave(guest)
    question = world.say(session, world.viewer, "how much?", viewer)
    world.say(session, world.influencer, "little", parent_message_id=question["id"])
    world.viewer.api.rpc("live_stream_react", message_id=question["id"], reaction="👍")
    world.viewer.api.rpc("live_stream_heartbeat", viewer_id=viewer["id"])
    product = world.product(session)
    order = {"session_id": session["id"], "product_id": product["product_id"], "amount": 15, "viewer_id": viewer["id"]}
    world.service.insert("live_stream_orders", order)
    note = {"user_id": world.viewer.user_id, "type": "stream_starting", "title": "Now", "session_id": session["id"]}
    world.service.insert("live_stream_notifications", note)
    schedule = world.schedule(recurrence_rule="FREQ=MONTHLY;BYDAY=1MO")
    moved = {"original_starts_at": "2030-02-04T15:00:00Z", "starts_at": "2030-02-05T15:00:00Z"}
    world.influencer.api.rpc("live_stream_move_occurrence", schedule_id=schedule["id"], **moved)
    tomorrow = db.value("select (now() + interval '1 day')::date::text")
    world.schedule("Tomorrow", scheduled_date=tomorrow, products_to_showcase=[product["product_id"]])
    world.viewer.api.rpc("live_stream_follow", influencer_id=world.influencer.influencer_id)
    # Or the worker has.
    db.owner("select live_stream.materialize_occurrences('3 days')")
    assert db.value("select count(*) from public.live_stream_schedule_sessions") == 1
    host, [moderator, banned, guest] = world.influencer.api, [world.new_user().user_id for _ in range(3)]
    host.rpc("live_stream_add_moderator", user_id=moderator)
    host.rpc("live_stream_ban", user_id=banned, session_id=session["id"], reason="spam")
    host.rpc("live_stream_invite", session_id=session["id"], user_id=guest)
    host.rpc("live_stream_create_invitation", session_id=session["id"])
    period = {"session_id": session["id"], "period_type": "minute"}
    times = {"period_start": "2030-01-01T00:00:00Z", "period_end": "2030-01-01T00:01:00Z"}
    world.service.insert("live_stream_analytics", period | times)
    # What a worker would go on with in the copy alone is done.
    db.owner("select live_stream.send_reminders()")
    return session


def still_works(db: Database, session: Row) -> None:
    """Requests as anon and as a signed-in person, whose triggers, policies, grants and functions came with the dump."""
    api = db.as_service()
    before = api.select("live_stream_sessions", where={"id": session["id"]}, one=True)
    assert (before["current_viewers"], before["total_unique_viewers"]) == (1, 2)
    assert (before["total_messages"], before["total_orders"], before["total_revenue"]) == (2, 1, 15)
    (past,) = api.select("live_stream_sessions", where={"title": "Past"})
    assert (past["total_unique_viewers"], past["peak_viewers"], past["total_messages"]) == (1, 1, 1)
    assert [found for found in db.sql("select * from live_stream.verify_metrics()") if str(found["session_id"]) == past["id"]] == []
    db.sql("select live_stream.recount(%s)", [past["id"]])
    assert api.select("live_stream_sessions", where={"title": "Past"}, select="total_messages,peak_viewers,total_unique_viewers") == [
        {"total_messages": 1, "peak_viewers": 1, "total_unique_viewers": 1}
    ]
    body = {"session_id": session["id"], "user_id": None, "viewer_type": "anonymous"}
    viewer = db.as_anon().insert("live_stream_viewers", body)
    db.as_anon(headers={"x-viewer-id": viewer["id"]}).rpc("live_stream_heartbeat", viewer_id=viewer["id"])
    after = db.as_anon().select("live_stream_sessions", where={"id": session["id"]}, one=True)
    assert (after["current_viewers"], after["total_unique_viewers"], after["brand"]) == (2, 3, "second")
    assert db.as_anon().select("live_stream_viewers") == []
    (user,) = db.sql("select user_id::text from public.influencers where id = %s", [session["influencer_id"]])
    owner = db.as_user(user["user_id"])
    (credentials,) = owner.rpc("live_stream_stream_credentials", session_id=session["id"])
    assert credentials["stream_key"] == "secret-key"
    (found,) = db.as_anon().rpc("live_stream_session_by_code", code=after["session_code"].lower())
    assert found["id"] == session["id"]
    (ban,) = owner.select("live_stream_bans")
    with refused("42501", "is banned"):
        db.as_user(ban["user_id"]).rpc("live_stream_join", session_id=session["id"])
    assert len(owner.select("live_stream_moderation_log")) == 4
    ended = owner.rpc("live_stream_end", session_id=session["id"])
    assert (ended["status"], ended["current_viewers"]) == ("ended", 0)
    assert db.as_user(user["user_id"]).select("session_analytics_summary", where={"session_id": session["id"]})


WAYS = {
    "psql": ([], None),
    "psql with row security": (["--enable-row-security"], None),
    "pg_restore": (["--format=custom"], []),
    "pg_restore -j2": (["--format=custom"], ["--jobs=2"]),
    "pg_restore --clean": (["--format=custom"], ["--clean", "--if-exists"]),
}


def restore(
    db: Database, file: Path, dump: list[str], how: list[str] | None, into: Database, user: str = "postgres"
) -> None:
    program = db.server.program
    program("pg_dump", *dump, f"--file={file}", db.name)
    # A dump with row security on cannot be told from any other script; the setting says what it is.
    quiet = ["--set=ON_ERROR_STOP=1", "--quiet", "--no-psqlrc"]
    if how is None:
        off = ["--command=set live_stream.install = off"] if "--enable-row-security" in dump else []
        done = program("psql", *quiet, *off, f"--file={file}", f"--username={user}", into.name)
    else:
        done = program("pg_restore", "--exit-on-error", *how, f"--username={user}", f"--dbname={into.name}", str(file))
    assert "ERROR" not in done.stderr and "WARNING" not in done.stderr


@pytest.mark.parametrize(("dump", "how"), WAYS.values(), ids=WAYS)
def test_dump_and_restore(
    db: Database, streamed: Row, tmp_path: Path, dump: list[str], how: list[str] | None
) -> None:
    rows, whole = rows_of(db), dump_of(db)
    with target(db.server, db.kind) as restored:
        restore(db, tmp_path / "dump", dump, how, restored)
        assert rows_of(restored) == rows
        assert dump_of(restored) == whole
        still_works(restored, streamed)


def test_a_superusers_restore_leaves_everything_the_owners(db: Database, streamed: Row, tmp_path: Path) -> None:
    with target(db.server, db.kind, OWNER) as restored:
        restore(db, tmp_path / "dump", [], None, restored)
        assert anothers(restored, OWNER) == []
        before = schema_of(restored)
        restored.owner("select live_stream.install()")
        assert schema_of(restored) == before
        still_works(restored, streamed)


def anothers(db: Database, owner: str) -> list[Row]:
    """What of the engine and the API layer belongs to anybody else."""
    return db.sql(
        r"""
        select relname from pg_class where relowner <> %(owner)s::regrole and relname not like 'pg\_toast%%'
           and relnamespace in ('public'::regnamespace, 'live_stream'::regnamespace)
        union all
        select proname from pg_proc where proowner <> %(owner)s::regrole
           and pronamespace in ('public'::regnamespace, 'live_stream'::regnamespace)
        """,
        {"owner": owner},
    )


def test_restore_as_another_owner(plain_db: Database, tmp_path: Path) -> None:
    server = plain_db.server
    session = stream(plain_db)
    server.run("postgres", "create role other_owner login")
    with target(server, "plain", "other_owner") as restored:
        restore(plain_db, tmp_path / "dump", ["--format=custom"], ["--no-owner"], restored, "other_owner")
        assert rows_of(restored) == rows_of(plain_db)
        assert anothers(restored, "other_owner") == []
        before = schema_of(restored)
        restored.sql("select live_stream.install()", user="other_owner")
        assert schema_of(restored) == before
        still_works(restored, session)


def test_the_owner_dumps_and_restores_without_a_superuser(plain_db: Database, tmp_path: Path) -> None:
    """And once more over what is there, with --clean."""
    session = stream(plain_db)
    file = str(tmp_path / "dump")
    plain_db.server.program("pg_dump", f"--username={OWNER}", "--format=custom", f"--file={file}", plain_db.name)
    with target(plain_db.server, "plain", OWNER) as restored:
        for clean in ([], ["--clean", "--if-exists"]):
            arguments = ["--exit-on-error", f"--username={OWNER}", f"--dbname={restored.name}", *clean, file]
            plain_db.server.program("pg_restore", *arguments)
            assert rows_of(restored) == rows_of(plain_db)
            assert dump_of(restored) == dump_of(plain_db)
        still_works(restored, session)


def test_install_brings_back_the_grants_that_a_restore_left_out(db: Database, streamed: Row, tmp_path: Path) -> None:
    with target(db.server, db.kind, OWNER) as restored:
        restore(db, tmp_path / "dump", ["--format=custom"], ["--no-acl"], restored)
        if db.is_supabase:
            restored.sql(f"grant usage on schema auth to {OWNER}, anon, authenticated, service_role")
            restored.sql(f"grant all on auth.users to {OWNER}")
            restored.sql("grant usage on schema public to anon, authenticated, service_role")
        restored.owner("select live_stream.install()")
        still_works(restored, streamed)
        assert grants_of(restored) == grants_of(db)


def grants_of(db: Database) -> list[str]:
    """Who may do what with the engine and the API layer."""
    lines = dump_of(db, "--schema-only").splitlines()
    return sorted(line for line in lines if line.startswith(("GRANT ", "REVOKE ")) and "live_" in line)


def test_schema_and_data_apart(db: Database, streamed: Row, tmp_path: Path) -> None:
    rows = rows_of(db)
    with target(db.server, db.kind) as restored:
        restore(db, tmp_path / "schema", ["--schema-only"], None, restored)
        assert not any(rows_of(restored).values())
        assert schema_of(restored) == schema_of(db)
        restore(db, tmp_path / "data", ["--data-only", "--disable-triggers"], None, restored)
        assert rows_of(restored) == rows
        assert dump_of(restored) == dump_of(db)
        still_works(restored, streamed)


def test_data_into_a_database_that_was_installed_anew(plain_db: Database, tmp_path: Path) -> None:
    session = stream(plain_db)
    with target(plain_db.server, "plain", OWNER) as fresh:
        fresh.owner("create extension live_stream")
        fresh.owner("alter table public.live_stream_sessions add column brand text")
        restore(plain_db, tmp_path / "data", ["--data-only", "--disable-triggers"], None, fresh)
        assert rows_of(fresh) == rows_of(plain_db)
        still_works(fresh, session)
