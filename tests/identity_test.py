"""Who is calling: claims good and bad, what one request leaves to the next, and the tricks of those who may run SQL."""

from __future__ import annotations

import json
import uuid

import psycopg
import pytest

from database import OWNER
from refusals import refused
from sizes import both_shapes, own_db
from trusting import IS_SERVICE, UID, VIEWER, request, role, value

pytestmark = both_shapes

ID = "7b1f0c9e-3f5a-4c1d-9b57-2f6f5a1c0d11"


def ask(db, query, role="authenticated", **settings):
    with db.connect("authenticator") as connection, request(connection, role, **settings):
        return value(connection, query)


# Claims.


@pytest.mark.parametrize(
    "claims, expected",
    [
        (None, None),
        ("", None),
        (" \n", None),
        ("{}", None),
        ("null", None),
        ('{"role":"anon"}', None),
        ('{"sub":null}', None),
        ('{"sub":""}', None),
        ('{"user_id":"%s"}' % ID, None),
        ('{"app_metadata":{"sub":"%s"}}' % ID, None),
        ('{"SUB":"%s"}' % ID, None),
        ('{"sub":"%s"}' % ID, ID),
        (' {"sub" : "%s" } ' % ID.upper(), ID),
        ('{"\\u0073ub":"%s"}' % ID, ID),
        ('{"sub":"%s","x":"%s"}' % (ID, "y" * 1_000_000), ID),
        ('{"x":%s,"sub":"%s"}' % ("[" * 100 + "]" * 100, ID), ID),
        ("{", "28000"),
        ('{"sub":"%s"' % ID, "28000"),
        ('{"sub":"%s"} or true' % ID, "28000"),
        ('["%s"]' % ID, "28000"),
        ('"%s"' % ID, "28000"),
        (ID, "28000"),
        ("true", "28000"),
        ("7", "28000"),
        ('{"sub":7}', "28000"),
        ('{"sub":true}', "28000"),
        ('{"sub":["%s"]}' % ID, "28000"),
        ('{"sub":{"id":"%s"}}' % ID, "28000"),
        ('{"sub":"admin"}', "28000"),
        ('{"sub":"%s\\u0000"}' % ID, "28000"),
        ('{"sub":"%s%s"}' % (ID, "0" * 1_000_000), "28000"),
        ('{"sub":"\' or 1=1 --"}', "28000"),
        ('{"x":%s}' % ("[" * 100_000 + "]" * 100_000), "28000"),
        ("\udcff".encode("utf8", "surrogateescape").decode("latin1"), "28000"),
    ],
    ids=lambda text: None if text is None else text[:30],
)
def test_claims(db, claims, expected):
    settings = {} if claims is None else {"claims": claims}
    if expected != "28000":
        assert ask(db, UID, **settings) == expected
        return
    with pytest.raises(psycopg.Error) as caught:
        ask(db, UID, **settings)
    assert caught.value.sqlstate == "28000"
    assert caught.value.diag.message_detail and caught.value.diag.message_hint
    assert ID not in str(caught.value), "an error repeats no claim"


def test_the_last_of_two_subjects_counts_as_postgresql_reads_it(db):
    claims = '{"sub":"%s","sub":"%s"}' % (uuid.uuid4(), ID)
    assert ask(db, UID, claims=claims) == ID
    if db.is_supabase:
        assert ask(db, "select auth.uid()", claims=claims) == ID


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"sub": ID}, ID),
        ({"sub": ""}, None),
        ({"sub": ID, "claims": ""}, ID),
        ({"sub": ID, "claims": "{}"}, None),
        ({"sub": str(uuid.uuid4()), "claims": '{"sub":"%s"}' % ID}, ID),
    ],
)
def test_old_style_claims(db, settings, expected):
    assert ask(db, UID, **settings) == expected


def test_old_style_claims_that_are_no_id(db):
    with pytest.raises(psycopg.errors.InvalidAuthorizationSpecification):
        ask(db, UID, sub="admin")


def test_old_style_claims_work_in_requests(db, world):
    legacy = db.as_role("authenticated", {"sub": world.viewer.user_id, "role": "authenticated"}, legacy=True)
    session = world.session()
    viewer = legacy.insert("live_stream_viewers", {"session_id": session["id"], "user_id": world.viewer.user_id})
    assert viewer["user_id"] == world.viewer.user_id
    assert legacy.rpc("live_stream_send_message", session_id=session["id"], message="hi")["viewer_id"] == viewer["id"]


@own_db("counts or changes all that is there")
@pytest.mark.parametrize("claims", ["{", '["x"]', '{"sub":"admin"}'])
def test_bad_claims_change_nothing(db, world, claims):
    session = world.session()
    world.join(session)
    for role in ("anon", "authenticated"):
        api = db.as_role(role, claims)
        for attempt in (
            lambda: api.select("live_stream_viewers"),
            lambda: api.insert("live_stream_viewers", {"session_id": session["id"]}),
            lambda: api.rpc("live_stream_join", session_id=session["id"]),
            lambda: api.select("session_analytics_summary"),
        ):
            with refused("28000", hint=True):
                attempt()
    assert db.value("select count(*) from public.live_stream_viewers") == 1


# Headers.


@pytest.mark.parametrize(
    "headers",
    ["", "nonsense", "[]", "{}", '{"x-viewer-id":7}', '{"x-viewer-id":null}', '{"x-viewer-id":"x"}', '{"x-viewer-id":{}}',
     '{"x-viewer-id":"%s"}' % ("0" * 100_000), "[" * 10_000],  # fmt: skip
)
def test_headers_are_hints(db, headers):
    assert ask(db, VIEWER, role="anon", headers=headers) is None
    assert ask(db, "select live_stream.request_session_code()", role="anon", headers=headers) is None


def test_a_viewer_header_opens_no_row_of_somebody_with_an_account(world):
    session = world.session()
    viewer = world.join(session, world.viewer)
    for api in (world.anonymous(viewer), world.db.as_user(world.stranger.user_id, headers={"x-viewer-id": viewer["id"]})):
        assert api.select("live_stream_viewers") == []
        assert api.update("live_stream_viewers", {"is_still_watching": False}, where={"id": viewer["id"]}) == []
        for function in ("heartbeat", "leave", "share", "report_quality"):
            with refused("PT404", "does not exist", hint=True):
                api.rpc(f"live_stream_{function}")
            with refused("PT404", "does not exist", hint=True):
                api.rpc(f"live_stream_{function}", viewer_id=viewer["id"])
    joined = world.anonymous(viewer).rpc("live_stream_join", session_id=session["id"])
    assert joined["id"] != viewer["id"] and joined["user_id"] is None
    assert world.viewer.api.select("live_stream_viewers", where={"id": viewer["id"]})[0]["is_still_watching"] is True


def test_a_viewer_header_writes_no_message(world):
    session = world.session()
    viewer = world.join(session, world.viewer)
    forged = world.db.as_user(world.stranger.user_id, headers={"x-viewer-id": viewer["id"]})
    message = forged.rpc("live_stream_send_message", session_id=session["id"], message="hi")
    assert message["user_id"] == world.stranger.user_id and message["viewer_id"] is None


# One connection, many people.


@own_db("counts or changes all that is there")
def test_nothing_is_left_to_the_next_request(db, world):
    session = world.session()
    claims = json.dumps({"sub": world.viewer.user_id, "role": "authenticated"})
    with db.connect("authenticator") as pooled:
        with request(pooled, "authenticated", claims=claims, headers=json.dumps({"x-viewer-id": ID})):
            assert (value(pooled, UID), value(pooled, VIEWER)) == (world.viewer.user_id, ID)
        with request(pooled):
            assert [value(pooled, query) for query in (UID, VIEWER, IS_SERVICE)] == [None, None, False]
            row = pooled.execute(
                "insert into public.live_stream_viewers (session_id) values (%s) returning *", [session["id"]]
            ).fetchone()
            assert value(pooled, VIEWER) == str(row["id"])
        with request(pooled):
            assert value(pooled, VIEWER) is None
            assert pooled.execute("select * from public.live_stream_viewers").fetchall() == []
        with request(pooled, "service_role"):
            assert value(pooled, IS_SERVICE) is True
        with request(pooled, "authenticated", sub=ID):
            assert (value(pooled, UID), value(pooled, IS_SERVICE)) == (ID, False)
        with request(pooled):
            assert (value(pooled, UID), value(pooled, IS_SERVICE)) == (None, False)
            assert value(pooled, "select cardinality(live_stream.influencer_ids())") == 0


def test_a_failed_request_leaves_nothing_either(db, world):
    session = world.session()
    with db.connect("authenticator") as pooled:
        with pytest.raises(psycopg.Error):
            with request(pooled, "anon"):
                pooled.execute("insert into public.live_stream_viewers (session_id) values (%s)", [session["id"]])
                pooled.execute("select live_stream.heartbeat(gen_random_uuid())")
        with request(pooled, "anon"):
            assert value(pooled, VIEWER) is None
            assert value(pooled, "select current_user::text") == "anon"
            assert value(pooled, "select current_setting('search_path')") == '"$user", public'


def test_a_prepared_plan_serves_each_caller(db, world):
    """Plans are kept for the life of a connection; whose they were first does not matter."""
    first, second = world.session(), world.session(by=world.new_influencer("Grace"))
    query = "select id::text from public.live_stream_sessions where visibility = 'private'"
    for session, by in ((first, None), (second, None)):
        db.sql("update public.live_stream_sessions set visibility = 'private' where id = %s", [session["id"]])
    with db.connect("authenticator", prepare_threshold=0) as pooled:
        for _ in range(8):
            with request(pooled, "authenticated", claims=json.dumps({"sub": world.influencer.user_id})):
                assert value(pooled, query) == first["id"]
            with request(pooled):
                assert pooled.execute(query).fetchall() == []


def test_a_savepoint_that_is_rolled_back_takes_the_viewer_with_it(db, world):
    session = world.session()
    with db.connect("authenticator") as connection, request(connection):
        connection.execute("savepoint s")
        connection.execute("insert into public.live_stream_viewers (session_id) values (%s)", [session["id"]])
        assert value(connection, VIEWER)
        connection.execute("rollback to s")
        assert value(connection, VIEWER) is None


def test_what_a_request_says_is_read_anew_when_it_says_something_else(db):
    """Within a transaction, over savepoints that are rolled back, and in texts of one length."""
    one, other = str(uuid.uuid4()), str(uuid.uuid4())
    code = "select live_stream.request_session_code()"

    def say(connection, who, local=True):
        headers = {"x-viewer-id": who, "x-session-code": who[:8].upper().translate(str.maketrans("OIL", "011"))} if who else {}
        connection.execute(
            "select set_config('request.jwt.claims', %s, %s), set_config('request.headers', %s, %s)",
            [json.dumps({"sub": who} if who else {}), local, json.dumps(headers), local],
        )

    def check(connection, who):
        assert (value(connection, UID), value(connection, VIEWER)) == (who, who)
        assert (value(connection, code) is None) == (who is None)

    with db.connect("authenticator") as connection:
        for _ in range(2):
            with connection.transaction():
                connection.execute("set local role authenticated")
                for who in (one, other, one, None, other):
                    say(connection, who)
                    check(connection, who)
                connection.execute("savepoint s")
                say(connection, one)
                check(connection, one)
                connection.execute("savepoint t")
                say(connection, None)
                check(connection, None)
                connection.execute("rollback to t")
                check(connection, one)
                connection.execute("rollback to s")
                check(connection, other)
                connection.execute("set local request.headers = ''")
                connection.execute("reset request.jwt.claims")
                check(connection, None)
        # For the session, and gone with it.
        connection.execute("set role authenticated")
        say(connection, one, local=False)
        check(connection, one)
        with connection.transaction():
            say(connection, other)
            check(connection, other)
        check(connection, one)
        connection.execute("reset all")
        check(connection, None)


def test_older_claims_count_where_there_are_no_newer_ones(db):
    with db.connect("authenticator") as connection, connection.transaction():
        connection.execute("set local role authenticated")
        connection.execute("select set_config('request.jwt.claim.sub', %s, true)", [ID])
        assert value(connection, UID) == ID
        connection.execute("select set_config('request.jwt.claims', '{}', true)")
        assert value(connection, UID) is None
        connection.execute("select set_config('request.jwt.claims', '', true)")
        assert value(connection, UID) == ID


@own_db("alters rights")
@pytest.mark.parametrize(
    "name, options, trusted",
    [
        ("postgres", None, True),
        (OWNER, None, True),
        ("authenticator", None, False),
        ("test_plain", "", False),
        ("test_bypass", "bypassrls", True),
        ("test_member", "in role authenticated", False),
        ("test_service", "inherit in role service_role", True),
        ("test_service_noinherit", "noinherit in role service_role", False),
        ("test_of_owner", f"inherit in role {OWNER}", True),
    ],
)
def test_is_service(db, name, options, trusted):
    if options is not None:
        role(db, name, options)
    db.sql(f"grant usage on schema live_stream to {name}")
    db.sql(f"grant execute on function live_stream.is_service() to {name}")
    with db.connect(name) as connection:
        assert value(connection, IS_SERVICE) is trusted


@own_db("alters rights")
def test_rights_are_never_remembered_beyond_their_end(db):
    """In one connection, while another one grants and revokes, or renames the tables' owner."""
    name, other = role(db, f"test_comes_and_goes_{db.kind}", ""), role(db, "test_stays", "")
    for each in (name, other):
        db.sql(f"grant usage on schema live_stream to {each}")
        db.sql(f"grant execute on function live_stream.is_service() to {each}")
    with db.connect() as connection:
        def serves(who):
            connection.execute(f"set session authorization {who}")
            return value(connection, IS_SERVICE)

        for change, trusted in [
            (None, False),
            (f"grant service_role to {name}", True),
            (f"revoke service_role from {name}", False),
            (f"grant {OWNER} to {name}", True),
            (f"revoke {OWNER} from {name}", False),
            (f"alter role {name} bypassrls", True),
            (f"alter role {name} nobypassrls", False),
            (f"alter table public.live_stream_sessions owner to {name}", True),
            (f"alter table public.live_stream_sessions owner to {OWNER}", False),
        ]:
            if change:
                db.sql(change)
            assert serves(name) is trusted, change
            assert serves(other) is False, change


@own_db("alters a table")
def test_tables_are_found_again_when_they_are_others_of_the_same_name(db, world):
    """In one connection, through which other requests go as well."""
    session = world.session()
    world.join(session, world.viewer)
    for table, constraint in (("live_stream_viewers", "cascade"), ("live_stream_chat", "cascade")):
        db.owner(f"drop table public.{table} {constraint}")
    db.owner("select live_stream.install()")
    db.reload_schema()
    viewer = world.join(session, world.viewer)
    world.say(session, world.viewer, viewer=viewer)
    db.owner("alter table public.live_stream_sessions add column mine text default 'x'")
    db.owner("alter table public.live_stream_sessions drop column mine")
    db.owner("vacuum full public.live_stream_sessions")
    assert world.join(session)["session_id"] == session["id"]
    world.end(session)
    with refused("PT409", "ended"):
        world.join(session)


@pytest.mark.parametrize("name, trusted", [("anon", False), ("authenticated", False), ("service_role", True)])
def test_the_role_counts_and_not_what_the_token_says_of_it(db, name, trusted):
    for claims in ("", '{"role":"service_role","is_service":true}', '{"role":"anon"}'):
        assert ask(db, IS_SERVICE, role=name, claims=claims) is trusted
