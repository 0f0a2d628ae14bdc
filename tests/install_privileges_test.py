"""Privileges: a statement names all roles at once; those that the server has get them, the others when they come."""

from __future__ import annotations

from database import OWNER, Server

ROLES = ("anon", "authenticated", "service_role")
SESSIONS = "public.live_stream_sessions"
JOIN = "public.live_stream_join"


def privileges(server: Server, roles: tuple[str, ...]) -> dict[str, tuple[bool, bool, bool]]:
    """Of each role: whether it may read sessions, change them, and join one."""
    with server.connect("app") as connection:
        rows = connection.execute(
            """select r as role, has_table_privilege(r, %s, 'select') as reads,
                      has_table_privilege(r, %s, 'update') as writes,
                      bool_and(has_function_privilege(r, p.oid, 'execute')) as joins
                 from unnest(%s::text[]) as r, pg_proc p
                where p.oid::regproc::text in (%s, 'live_stream_join') group by r""",
            [SESSIONS, SESSIONS, list(roles), JOIN],
        ).fetchall()
    return {row["role"]: (row["reads"], row["writes"], row["joins"]) for row in rows}


WANTED = {"anon": (True, False, True), "authenticated": (True, True, True), "service_role": (True, True, True)}


def test_the_roles_that_are_there_get_theirs(fresh_server):
    """One on its own, which is in the middle of the statements; then with the last one, and with the first."""
    fresh_server.run("postgres", f"create role {OWNER} login")
    there: tuple[str, ...] = ()
    for role in (ROLES[1], ROLES[2], ROLES[0]):
        fresh_server.run("postgres", f"create role {role}")
        there += (role,)
        if len(there) == 1:
            fresh_server.make_empty("app")
            fresh_server.run("app", "create extension live_stream", user=OWNER)
        else:
            fresh_server.run("app", "select live_stream.install()", user=OWNER)
        assert privileges(fresh_server, there) == {role: WANTED[role] for role in there}


def test_what_was_granted_beside_is_taken_back(fresh_server):
    """Also from everybody, and where a role is missing."""
    fresh_server.run("postgres", f"create role {OWNER} login")
    fresh_server.run("postgres", "create role anon")
    fresh_server.make_empty("app")
    fresh_server.run("app", "create extension live_stream", user=OWNER)
    for grantee in ("public", "anon"):
        fresh_server.run("app", f"grant update, delete on {SESSIONS} to {grantee}", user=OWNER)
    fresh_server.run("app", "select live_stream.install()", user=OWNER)
    assert privileges(fresh_server, ("anon",)) == {"anon": WANTED["anon"]}


def test_a_role_whose_name_needs_quotes_is_another_one(fresh_server):
    fresh_server.run("postgres", f'create role {OWNER} login; create role "Anon"; create role "authenticated "')
    fresh_server.make_empty("app")
    fresh_server.run("app", "create extension live_stream", user=OWNER)
    found = privileges(fresh_server, ("Anon", "authenticated "))
    assert found == {"Anon": (False, False, False), "authenticated ": (False, False, False)}
