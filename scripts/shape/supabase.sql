-- What a Supabase project's database holds before the extension: run as superuser, in a new database that belongs to
-- app_owner (Supabase's own `postgres` role: no superuser there either), in a cluster that has roles.sql.

-- Supabase's schemas.
create schema extensions;
grant usage on schema extensions to app_owner, anon, authenticated, service_role;

create schema auth authorization supabase_auth_admin;
create table auth.users (id uuid primary key default gen_random_uuid(), email text);
alter table auth.users owner to supabase_auth_admin;
alter table auth.users enable row level security;

create function auth.uid() returns uuid language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
  )::uuid
$$;
create function auth.role() returns text language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.role', true), ''),
    (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role')
  )
$$;
create function auth.jwt() returns jsonb language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')
  )::jsonb
$$;
alter function auth.uid() owner to supabase_auth_admin;
alter function auth.role() owner to supabase_auth_admin;
alter function auth.jwt() owner to supabase_auth_admin;
grant usage on schema auth to app_owner, anon, authenticated, service_role;
grant all on auth.users to app_owner;

-- What is made in public is open to everybody, but for row-level security.
grant usage on schema public to anon, authenticated, service_role;

set role app_owner;
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;

set client_min_messages = error; -- a server without wal_level = logical warns of every publication
create publication supabase_realtime;
reset client_min_messages;

-- The app's own tables: everybody may read an influencer's public columns; the others are nobody's but the app's.
create table public.influencers (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null unique references auth.users (id) on delete cascade,
  display_name text not null,
  followers_count integer not null default 0,
  profile_image text,
  email text,
  phone text,
  payout_token text,
  total_earnings numeric(12, 2) not null default 0
);
alter table public.influencers enable row level security;
revoke select on public.influencers from anon, authenticated;
grant select (id, user_id, display_name, followers_count, profile_image) on public.influencers to anon, authenticated;
create policy "influencers are public" on public.influencers for select to anon, authenticated using (true);
create policy "an influencer edits itself" on public.influencers for update to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

create table public.products (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  price numeric(10, 2) not null
);
alter table public.products enable row level security;
create policy "products are public" on public.products for select to anon, authenticated using (true);
reset role;
