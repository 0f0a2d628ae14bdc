"""What Supabase's database linter looks for, asked of the catalog; and that everything of ours says what it is.

Each test is one rule, named as the linter (supabase/splinter) names it, and lists what breaks it. Its other rules speak of
what we have none of: queues (insecure_queue_exposed_in_api), buckets (public_bucket_allows_listing), pg_graphql, other
extensions' versions; or of a running project: unused_index, table_bloat, unused_replication_slot, anonymous sign-ins.
"""

from __future__ import annotations

import pytest

# Ours: what the API layer made, whether in public or beside the engine.
OURS = "(n.nspname = 'live_stream' or n.nspname = 'public' and {name} !~ '^(influencers|products)$')"


@pytest.fixture(params=["plain", "supabase"])
def ask(request, server):
    """Asks the template itself: nothing here writes."""
    with server.connect(request.param) as connection:
        yield lambda query: [tuple(row.values()) for row in connection.execute(query).fetchall()]


def test_unindexed_foreign_keys(ask):
    assert ask("""
        select k.conrelid::regclass::text, k.conname
          from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
         where k.contype = 'f' and n.nspname = 'public' and c.relname like 'live\\_stream%'
           and not exists (select from pg_index i
                            where i.indrelid = k.conrelid and i.indisvalid
                              and (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey
                              and (i.indpred is null
                                   or pg_get_expr(i.indpred, i.indrelid) =
                                      '(' || (select quote_ident(attname) from pg_attribute
                                               where attrelid = k.conrelid and attnum = k.conkey[1]) || ' IS NOT NULL)'))
        """) == []


def test_rls_disabled_in_public(ask):
    assert ask("select relname from pg_class where relnamespace = 'public'::regnamespace"
               " and relkind in ('r', 'p') and not relrowsecurity") == []  # fmt: skip


def test_rls_enabled_no_policy(ask):
    assert ask("""
        select relname from pg_class c where relnamespace = 'public'::regnamespace and relrowsecurity
           and not exists (select from pg_policy p where p.polrelid = c.oid)
        """) == []


def test_multiple_permissive_policies(ask):
    assert ask("""
        with policies as (
          select c.relname, unnest(case p.polcmd when '*' then array['r', 'a', 'w', 'd'] else array[p.polcmd::text] end) as action
            from pg_policy p join pg_class c on c.oid = p.polrelid
           where p.polpermissive and c.relname like 'live\\_stream%')
        select relname, action from policies group by 1, 2 having count(*) > 1
        """) == []


def test_auth_rls_initplan(ask):
    """Functions of the request run once per statement: (select f()). live_stream.viewer_id() alone changes within a
    statement, as a row is inserted."""
    bare = r"(?<!SELECT )(live_stream\.(?!viewer_id)\w+\(|auth\.\w+\(|current_setting\()"
    assert ask(f"""
        select tablename, policyname from pg_policies
         where schemaname = 'public' and tablename ~ '^live_stream'
           and (qual ~ '{bare}' or with_check ~ '{bare}')
        """) == []
    assert ask("select count(*) from pg_policies where qual like '%( SELECT live_stream.%'") != [(0,)]


def test_security_definer_view(ask):
    assert ask("""
        select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'v'
           and not coalesce(reloptions @> '{security_invoker=true}', false)
        """) == []


def test_function_search_path_mutable(ask):
    """Those in Rust set the path themselves; those in SQL must."""
    assert ask("""
        select p.oid::regprocedure::text from pg_proc p join pg_language l on l.oid = p.prolang
         where p.pronamespace in ('public'::regnamespace, 'live_stream'::regnamespace) and l.lanname <> 'c'
           and not exists (select from unnest(p.proconfig) as c where c like 'search_path=%')
        """) == []


def test_definer_functions_look_into_pg_temp_last(ask):
    """With an empty path, a type of the caller's in pg_temp would come before the built-in one of that name."""
    assert ask("""
        select p.oid::regprocedure::text, p.proconfig from pg_proc p join pg_language l on l.oid = p.prolang
         where p.pronamespace = 'live_stream'::regnamespace and p.prosecdef and l.lanname <> 'c'
           and not coalesce(p.proconfig @> '{"search_path=pg_catalog, pg_temp"}', false)
        """) == []


def test_definer_functions_in_public(ask):
    assert ask("select oid::regprocedure::text from pg_proc where pronamespace = 'public'::regnamespace and prosecdef") == []


def test_definer_functions_belong_to_no_superuser(ask):
    assert ask("""
        select p.oid::regprocedure::text from pg_proc p join pg_roles r on r.oid = p.proowner
         where p.pronamespace = 'live_stream'::regnamespace and r.rolsuper
        """) == []


def test_extension_in_public(ask):
    assert ask("select extname from pg_extension where extnamespace = 'public'::regnamespace") == []


def test_duplicate_index(ask):
    assert ask("""
        select a.indexrelid::regclass::text, b.indexrelid::regclass::text
          from pg_index a join pg_index b on a.indrelid = b.indrelid and a.indexrelid < b.indexrelid
          join pg_class c on c.oid = a.indrelid
         where c.relnamespace = 'public'::regnamespace
           and a.indkey = b.indkey and a.indclass = b.indclass and a.indoption = b.indoption
           and coalesce(pg_get_expr(a.indexprs, a.indrelid), '') = coalesce(pg_get_expr(b.indexprs, b.indrelid), '')
           and coalesce(pg_get_expr(a.indpred, a.indrelid), '') = coalesce(pg_get_expr(b.indpred, b.indrelid), '')
        """) == []


def test_no_primary_key(ask):
    assert ask("""
        select relname from pg_class c where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
           and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)
        """) == []


def test_rls_references_user_metadata(ask):
    assert ask("select policyname from pg_policies where qual ~ 'user_metadata' or with_check ~ 'user_metadata'") == []


def test_auth_users_exposed(ask):
    """No view depends on a table of schema auth, whatever its text says."""
    assert ask("""
        select distinct c.relname from pg_depend d join pg_rewrite r on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass
          join pg_class c on c.oid = r.ev_class join pg_class t on t.oid = d.refobjid and d.refclassid = 'pg_class'::regclass
         where c.relnamespace in ('public'::regnamespace, 'live_stream'::regnamespace)
           and t.relnamespace = to_regnamespace('auth')
        """) == []


def test_policy_exists_rls_disabled(ask):
    assert ask("""
        select distinct c.relname from pg_policy p join pg_class c on c.oid = p.polrelid
         where c.relnamespace in ('public'::regnamespace, 'live_stream'::regnamespace) and not c.relrowsecurity
        """) == []


def test_rls_policy_always_true(ask):
    """For actions that write: what is public to read may say true."""
    assert ask("""
        select c.relname, p.polname from pg_policy p join pg_class c on c.oid = p.polrelid,
               lateral (values (pg_get_expr(p.polqual, c.oid)), (pg_get_expr(p.polwithcheck, c.oid))) as e (text)
         where c.relnamespace = 'public'::regnamespace and p.polpermissive and p.polcmd <> 'r'
           and lower(translate(e.text, E'() \\n', '')) in ('true', '1=1', 'nottrue=false', 'notfalse')
        union all
        select c.relname, p.polname from pg_policy p join pg_class c on c.oid = p.polrelid
         where c.relnamespace = 'public'::regnamespace and p.polpermissive
           and (p.polqual is null and p.polcmd <> 'a' or p.polwithcheck is null and p.polcmd in ('a', 'w', '*'))
        """) == []


def test_rls_policy_null_auth_disjunct(ask):
    """Nobody gets in by having no claims: no policy asks whether the caller is nobody."""
    unknown = r"(uid|jwt|role|viewer_id|current_setting|request_session_code)\([^()]*\)[ )]*(AS \w+\)*)? *IS (NULL|NOT DISTINCT)"
    assert ask(f"select tablename, policyname from pg_policies where schemaname = 'public' and (qual ~* '{unknown}' or with_check ~* '{unknown}')") == []


def test_materialized_view_and_foreign_table_in_api(ask):
    """Row-level security does not hold for either."""
    assert ask("select relname from pg_class where relkind in ('m', 'f')"
               " and relnamespace in ('public'::regnamespace, 'live_stream'::regnamespace)") == []  # fmt: skip


def test_unsupported_reg_types(ask):
    """pg_upgrade refuses columns of these."""
    assert ask("""
        select c.relname, a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid and c.relkind in ('r', 'p', 'm')
         where c.relnamespace in ('public'::regnamespace, 'live_stream'::regnamespace) and a.attnum > 0 and not a.attisdropped
           and a.atttypid::regtype::text in ('regcollation', 'regconfig', 'regdictionary', 'regnamespace', 'regoper', 'regoperator',
                                             'regproc', 'regprocedure')
        """) == []


def test_fkey_to_auth_unique(ask):
    """Foreign keys into schema auth refer to primary keys: its other constraints come and go with its migrations."""
    assert ask("""
        select k.conname from pg_constraint k join pg_class t on t.oid = k.confrelid
         where k.contype = 'f' and t.relnamespace = to_regnamespace('auth')
           and not exists (select from pg_index i where i.indexrelid = k.conindid and i.indisprimary)
        """) == []


def test_invalid_index(ask):
    assert ask("""
        select i.indexrelid::regclass::text from pg_index i join pg_class c on c.oid = i.indrelid
         where c.relnamespace in ('public'::regnamespace, 'live_stream'::regnamespace) and not (i.indisvalid and i.indisready)
        """) == []


def test_autovacuum_disabled(ask):
    assert ask("""
        select c.relname from pg_class c, unnest(c.reloptions) as o
         where c.relnamespace in ('public'::regnamespace, 'live_stream'::regnamespace) and o ~* 'autovacuum_enabled=(false|off|no|0)'
        """) == []


def test_sensitive_columns_exposed(ask):
    """Columns whose names promise a secret are under row-level security, and none of them is for who is not signed in."""
    secret = r"(password|passwd|secret|token|api_key|_key$|jwt|iban|card_number|rtmp)"
    # Null in every row, by a check constraint: contract has them there.
    empty = "('live_stream_sessions.stream_key', 'live_stream_sessions.rtmp_url')"
    assert ask(f"""
        select c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v', 'p') and a.attname ~ '{secret}'
           and c.relname || '.' || a.attname not in {empty} and c.relname !~ '^(influencers|products)$'
           and (has_column_privilege('anon', c.oid, a.attnum, 'select') or c.relkind = 'r' and not c.relrowsecurity)
        """) == []
    assert ask("select conname from pg_constraint where conname = 'live_stream_sessions_secrets_check' and convalidated"
               " and pg_get_constraintdef(oid) = 'CHECK (((stream_key IS NULL) AND (rtmp_url IS NULL)))'") != []  # fmt: skip


def test_security_definer_function_executable(ask):
    """By anon and authenticated. They are in a schema that is not served; each that joins has been thought about."""
    callable = ask("""
        select p.proname, has_function_privilege('anon', p.oid, 'execute') from pg_proc p
         where p.pronamespace in ('public'::regnamespace, 'live_stream'::regnamespace) and p.prosecdef
           and has_function_privilege('authenticated', p.oid, 'execute') order by 1
        """)
    assert callable == [("accepted_session", False), ("message", False), ("open_session", True), ("session_product", True)]


def test_nothing_is_written_in_plpgsql(ask):
    """So plpgsql_check has nothing to check: what decides something is Rust, and what only asks is SQL."""
    assert ask("""
        select p.oid::regprocedure::text, l.lanname from pg_proc p join pg_language l on l.oid = p.prolang
         where p.pronamespace in ('public'::regnamespace, 'live_stream'::regnamespace) and l.lanname not in ('sql', 'c')
        """) == []
    triggers = ask("""
        select t.tgname, l.lanname from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_proc p on p.oid = t.tgfoid
          join pg_language l on l.oid = p.prolang
         where c.relnamespace in ('public'::regnamespace, 'live_stream'::regnamespace) and not t.tgisinternal
        """)
    assert triggers and {language for _, language in triggers} == {"c"}


def test_execute_is_revoked_from_public(ask):
    assert ask("""
        select p.oid::regprocedure::text from pg_proc p
         where p.pronamespace in ('public'::regnamespace, 'live_stream'::regnamespace)
           and exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) where grantee = 0)
        """) == []


def test_tables_grant_nothing_to_public(ask):
    assert ask("""
        select c.relname from pg_class c
         where c.relnamespace in ('public'::regnamespace, 'live_stream'::regnamespace) and c.relkind in ('r', 'v', 'S')
           and exists (select from aclexplode(c.relacl) where grantee = 0)
        """) == []


def test_the_api_is_no_member_of_the_extension(ask):
    """A dump holds all of it, and DROP EXTENSION loses no row."""
    assert ask("""
        select d.objid::regclass::text from pg_depend d join pg_class c on c.oid = d.objid and d.classid = 'pg_class'::regclass
         where d.deptype = 'e' and d.refobjid = (select oid from pg_extension where extname = 'live_stream')
        union all
        select p.oid::regprocedure::text from pg_depend d join pg_proc p on p.oid = d.objid and d.classid = 'pg_proc'::regclass
         where d.deptype = 'e' and d.refobjid = (select oid from pg_extension where extname = 'live_stream')
           and p.pronamespace = 'public'::regnamespace
        """) == []


def test_everything_has_a_comment(ask):
    assert ask(f"""
        select c.relname, null from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where {OURS.format(name="c.relname")} and c.relkind in ('r', 'v', 'p') and obj_description(c.oid, 'pg_class') is null
        union all
        select c.relname, a.attname from pg_class c join pg_namespace n on n.oid = c.relnamespace
          join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         where {OURS.format(name="c.relname")} and c.relkind in ('r', 'p') and col_description(c.oid, a.attnum) is null
        union all
        select p.oid::regprocedure::text, null from pg_proc p join pg_namespace n on n.oid = p.pronamespace
         where {OURS.format(name="p.proname")} and p.prorettype <> 'trigger'::regtype
           and obj_description(p.oid, 'pg_proc') is null
        union all
        select t.typname, null from pg_type t join pg_namespace n on n.oid = t.typnamespace
         where n.nspname = 'public' and t.typtype = 'e' and obj_description(t.oid, 'pg_type') is null
        """) == []
    assert ask("select obj_description(oid, 'pg_extension') is not null from pg_extension where extname = 'live_stream'"
               ) == [(True,)]  # fmt: skip


def test_our_own_influencers_have_comments_too(server):
    with server.connect("plain") as connection:
        rows = connection.execute(
            "select attname from pg_attribute where attrelid = 'public.influencers'::regclass and attnum > 0"
            " and not attisdropped and col_description(attrelid, attnum) is null"
        ).fetchall()
    assert rows == []


def test_functions_of_the_api_are_named_and_written_alike(ask):
    """A prefix, named arguments, plain SQL, the caller's rights."""
    assert ask("""
        select p.oid::regprocedure::text from pg_proc p join pg_language l on l.oid = p.prolang
         where p.pronamespace = 'public'::regnamespace
           and (p.proname !~ '^live_stream_' or l.lanname <> 'sql' or p.prosecdef
                or p.pronargs > 0 and (p.proargnames is null or '' = any (p.proargnames)))
        """) == []


def test_no_function_is_overloaded(ask):
    """PostgREST tells functions apart by argument names alone."""
    assert ask("select proname from pg_proc where pronamespace = 'public'::regnamespace group by 1 having count(*) > 1") == []
