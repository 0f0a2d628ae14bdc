-- Run only where the app has no table of its own.

create table public.influencers (
  id uuid not null default gen_random_uuid(),
  user_id uuid not null,
  display_name text not null default '',
  avatar_url text,
  bio text,
  followers_count integer not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint live_stream_influencers_pkey primary key (id),
  constraint live_stream_influencers_user_id_key unique (user_id),
  constraint live_stream_influencers_followers_count_check check (followers_count >= 0)
);

comment on table public.influencers is 'People who stream. A user owns at most one influencer.';
comment on column public.influencers.id is 'Id of the influencer.';
comment on column public.influencers.user_id is 'User who owns the influencer and manages its streams.';
comment on column public.influencers.display_name is 'Name that viewers see, in one line; empty where there is none.';
comment on column public.influencers.avatar_url is 'Picture that viewers see.';
comment on column public.influencers.bio is 'A few words about the influencer.';
comment on column public.influencers.followers_count is 'Number of followers, kept by the app.';
comment on column public.influencers.created_at is 'When the row was made.';
comment on column public.influencers.updated_at is 'When the row was last changed.';

alter table public.influencers add constraint live_stream_influencers_user_id_fkey
  foreign key (user_id) references auth.users (id) on delete cascade;

alter table public.influencers enable row level security;

revoke all on table public.influencers from public, anon, authenticated, service_role;
grant select on table public.influencers to anon, authenticated;
grant insert (id, user_id, display_name, avatar_url, bio) on table public.influencers to authenticated;
grant update (display_name, avatar_url, bio) on table public.influencers to authenticated;
grant select, insert, update, delete, truncate on table public.influencers to service_role;

create policy live_stream_influencers_select on public.influencers
  for select to public using (true);
create policy live_stream_influencers_insert on public.influencers
  for insert to public
  with check (user_id = (select live_stream.uid()) or (select live_stream.is_service()));
create policy live_stream_influencers_update on public.influencers
  for update to public
  using (user_id = (select live_stream.uid()) or (select live_stream.is_service()))
  with check (user_id = (select live_stream.uid()) or (select live_stream.is_service()));
create policy live_stream_influencers_delete on public.influencers
  for delete to public using ((select live_stream.is_service()));

create or replace trigger live_stream_influencers_guard
  before insert or update on public.influencers
  for each row execute function live_stream.influencers_guard();
create or replace trigger live_stream_influencers_touch
  before update on public.influencers
  for each row execute function live_stream.touch();
