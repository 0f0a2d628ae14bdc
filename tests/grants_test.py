"""Who has which privilege, as data: what is not in these lists, nobody has."""

from __future__ import annotations

import pytest

from database import KINDS

S, I, U, D, T = "SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"
WRITE = {S, I, U, D}
SERVER = WRITE | {T}

# Of each table and view: anon, authenticated, service_role.
TABLES = {
    "public.live_stream_sessions": ({S}, WRITE, SERVER),
    "public.live_stream_credentials": (set(), {S}, SERVER),
    "public.live_stream_viewers": ({S, I, U}, {S, I, U}, SERVER),
    "public.live_stream_heartbeats": (set(), set(), SERVER),
    "public.live_stream_chat": ({S}, {S, I, U}, SERVER),
    "public.live_stream_chat_reactions": (set(), {S}, SERVER),
    "public.live_stream_removed_messages": (set(), {S}, {S, T}),
    "public.live_stream_flagged_messages": (set(), {S}, {S, T}),
    "public.live_stream_moderators": (set(), {S, I, D}, {S, I, D}),
    "public.live_stream_bans": (set(), WRITE, WRITE),
    "public.live_stream_guests": (set(), {S, I, D}, {S, I, D}),
    "public.live_stream_invitations": (set(), {S}, WRITE),
    "public.live_stream_moderation_log": (set(), {S}, {S}),
    "public.live_stream_products": ({S}, WRITE, SERVER),
    "public.live_stream_orders": (set(), {S, I}, SERVER),
    "public.live_stream_schedule": ({S}, WRITE, SERVER),
    "public.live_stream_schedule_exceptions": ({S}, WRITE, SERVER),
    "public.live_stream_schedule_sessions": ({S}, {S}, SERVER),
    "public.live_stream_analytics": (set(), {S}, SERVER),
    "public.live_stream_notifications": (set(), {S, D}, SERVER),
    "public.live_stream_followers": (set(), WRITE, SERVER),
    "public.live_stream_reminders": (set(), set(), SERVER),
    "public.live_stream_follow_changes": (set(), set(), SERVER),
    "public.live_stream_archive": (set(), {S}, {S}),
    "public.live_sessions_with_details": ({S}, {S}, {S}),
    "public.upcoming_streams": ({S}, {S}, {S}),
    "public.session_analytics_summary": ({S}, {S}, {S}),
    "public.influencers": ({S}, {S}, SERVER),
    "live_stream.influencer_cards": ({S}, {S}, {S}),
    "live_stream.metric_changes": (set(), set(), {S}),
    "live_stream.metric_sessions": (set(), set(), {S}),
    "live_stream.metric_worker": (set(), set(), {S}),
    "live_stream.metrics_status": (set(), set(), {S}),
    "live_stream.counted_metrics": (set(), set(), {S}),
    "live_stream.counted_peaks": (set(), set(), {S}),
    "live_stream.person_rates": (set(), set(), {S, D}),
    "live_stream.schedule_turns": (set(), set(), {S, D}),
}
# Columns that authenticated may write where it may not write the whole row.
COLUMNS = {
    ("public.live_stream_notifications", "UPDATE"): {"is_read", "read_at"},
    ("public.influencers", "INSERT"): {"id", "user_id", "display_name", "avatar_url", "bio"},
    ("public.influencers", "UPDATE"): {"display_name", "avatar_url", "bio"},
}
ROLES = ("anon", "authenticated", "service_role")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def ask(server, kind, query):
    with server.connect(kind) as connection:
        return connection.execute(query).fetchall()


def ours(kind):
    """On Supabase, influencers and products are the app's own: its grants are its own too."""
    return {name for name in TABLES if not (kind == "supabase" and name == "public.influencers")}


def test_tables_and_views(server, kind):
    rows = ask(server, kind, """
        select format('%s.%s', n.nspname, c.relname) as name, coalesce(r.rolname, 'public') as who,
               array_agg(a.privilege_type) as privileges
          from pg_class c join pg_namespace n on n.oid = c.relnamespace
         cross join aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
          left join pg_roles r on r.oid = a.grantee
         where n.nspname in ('public', 'live_stream') and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
           and a.grantee <> c.relowner
         group by 1, 2""")  # fmt: skip
    found = {(row["name"], row["who"]): set(row["privileges"]) for row in rows}
    app = {"public.products", "public.influencers"} if kind == "supabase" else set()
    found = {key: privileges for key, privileges in found.items() if key[0] not in app}
    expected = {(name, role): privileges for name in ours(kind) for role, privileges in zip(ROLES, TABLES[name]) if privileges}
    assert found == expected


def test_columns(server, kind):
    rows = ask(server, kind, """
        select format('%s.%s', n.nspname, c.relname) as name, a.privilege_type as privilege, r.rolname as who,
               array_agg(attname::text) as columns
          from pg_attribute t join pg_class c on c.oid = t.attrelid join pg_namespace n on n.oid = c.relnamespace
         cross join aclexplode(t.attacl) a left join pg_roles r on r.oid = a.grantee
         where n.nspname in ('public', 'live_stream') group by 1, 2, 3""")  # fmt: skip
    found = {(row["name"], row["privilege"], row["who"]): set(row["columns"]) for row in rows if row["name"] in ours(kind)}
    assert found == {(*key, "authenticated"): columns for key, columns in COLUMNS.items() if key[0] in ours(kind)}


def test_every_table_is_listed(server, kind):
    rows = ask(server, kind, """
        select format('%s.%s', n.nspname, c.relname) as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname in ('public', 'live_stream') and c.relkind in ('r', 'p', 'v', 'm', 'f')""")  # fmt: skip
    assert {row["name"] for row in rows} - {"public.products"} == set(TABLES)


def test_schemas(server, kind):
    rows = ask(server, kind, """
        select r.rolname as who, a.privilege_type as privilege from pg_namespace n
         cross join aclexplode(n.nspacl) a left join pg_roles r on r.oid = a.grantee
         where n.nspname = 'live_stream' and a.grantee <> n.nspowner""")  # fmt: skip
    assert {(row["who"], row["privilege"]) for row in rows} == {(role, "USAGE") for role in ROLES}


def test_what_is_granted_by_default_later_is_taken_back(server):
    """Supabase grants everything on new objects to everybody; so might an app in our own schema."""
    with server.database("supabase") as db:
        db.owner("alter default privileges in schema live_stream grant all on tables to anon, authenticated")
        db.owner("alter default privileges in schema live_stream grant all on functions to anon, authenticated")
        db.owner("drop table live_stream.metric_changes, live_stream.person_rates cascade")
        db.owner("drop table public.live_stream_moderation_log cascade")
        db.owner("select live_stream.install()")
        for table in ("live_stream.metric_changes", "live_stream.person_rates", "public.live_stream_moderation_log"):
            for role in ("anon", "authenticated"):
                for privilege in ("insert", "update", "delete", "truncate", "trigger", "references"):
                    query = "select has_table_privilege(%s, %s, %s)"
                    assert not db.value(query, [role, table, privilege]), (role, table, privilege)
        for view in ("counted_metrics", "counted_peaks"):
            for role in ("anon", "authenticated"):
                query = "select has_table_privilege(%s, %s, 'select')"
                assert not db.value(query, [role, f"live_stream.{view}"]), (role, view)
        for function in ("verify_metrics()", "recount(uuid)", "flush_metrics(uuid)"):
            for role in ("anon", "authenticated"):
                query = "select has_function_privilege(%s, %s, 'execute')"
                assert not db.value(query, [role, f"live_stream.{function}"]), (role, function)
