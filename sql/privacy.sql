create table public.live_stream_archive (
  session_id uuid not null,
  viewers bigint not null default 0,
  peak_viewers integer not null default 0,
  total_unique_viewers bigint not null default 0,
  total_watch_time_seconds bigint not null default 0,
  total_messages bigint not null default 0,
  total_reactions bigint not null default 0,
  total_shares bigint not null default 0,
  connection_issues_count bigint not null default 0,
  buffering_events bigint not null default 0,
  total_buffering_time_seconds bigint not null default 0,
  countries jsonb not null default '{}',
  devices jsonb not null default '{}',
  browsers jsonb not null default '{}',
  viewer_types jsonb not null default '{}',
  addresses_purged_at timestamptz,
  chat_purged_at timestamptz,
  viewers_purged_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint live_stream_archive_pkey primary key (session_id),
  constraint live_stream_archive_session_id_fkey foreign key (session_id)
    references public.live_stream_sessions (id) on delete cascade,
  constraint live_stream_archive_counters_check check (
    viewers >= 0 and peak_viewers >= 0 and total_unique_viewers >= 0
    and total_watch_time_seconds >= 0 and total_messages >= 0 and total_reactions >= 0
    and total_shares >= 0 and connection_issues_count >= 0 and buffering_events >= 0
    and total_buffering_time_seconds >= 0),
  constraint live_stream_archive_breakdowns_check check (
    jsonb_typeof(countries) = 'object' and jsonb_typeof(devices) = 'object'
    and jsonb_typeof(browsers) = 'object' and jsonb_typeof(viewer_types) = 'object')
);

comment on table public.live_stream_archive is
  'What is left of rows that were purged or erased: their sums, and nobody''s name. Counted with the rows that remain. Kept by live_stream alone, read by the owner of the session.';
comment on column public.live_stream_archive.session_id is 'Session that the rows belonged to.';
comment on column public.live_stream_archive.viewers is 'Viewer rows that are gone.';
comment on column public.live_stream_archive.peak_viewers is
  'The peak of the session as viewer rows went: it is never counted below.';
comment on column public.live_stream_archive.total_unique_viewers is 'Different people among them.';
comment on column public.live_stream_archive.total_watch_time_seconds is 'Seconds that they watched.';
comment on column public.live_stream_archive.total_messages is 'Chat messages that are gone.';
comment on column public.live_stream_archive.total_reactions is
  'Reactions that are gone: in the chat and to messages.';
comment on column public.live_stream_archive.total_shares is 'Times that those viewers shared the session.';
comment on column public.live_stream_archive.connection_issues_count is 'Disconnections that those viewers reported.';
comment on column public.live_stream_archive.buffering_events is 'Reports of buffering by those viewers.';
comment on column public.live_stream_archive.total_buffering_time_seconds is
  'Seconds of buffering that those viewers reported.';
comment on column public.live_stream_archive.countries is
  'Viewer rows by country, as in {"DE": 12, "other": 3}: fewer than 5 at a time are under other, those that did not say under unknown.';
comment on column public.live_stream_archive.devices is 'Viewer rows by kind of device, as countries.';
comment on column public.live_stream_archive.browsers is 'Viewer rows by browser, as countries.';
comment on column public.live_stream_archive.viewer_types is 'Viewer rows by type of viewer, as countries.';
comment on column public.live_stream_archive.addresses_purged_at is
  'When addresses were taken out of the viewer rows; null once a server has written one since.';
comment on column public.live_stream_archive.chat_purged_at is
  'When the chat was purged. Viewer rows that remain still say how many messages and reactions they sent.';
comment on column public.live_stream_archive.viewers_purged_at is 'When the viewer rows were purged.';
comment on column public.live_stream_archive.created_at is 'When the row was made.';
comment on column public.live_stream_archive.updated_at is 'When the row was last changed.';

alter table public.live_stream_archive enable row level security;

revoke all on table public.live_stream_archive from public, anon, authenticated, service_role;
grant select on table public.live_stream_archive to authenticated, service_role;

create policy live_stream_archive_select on public.live_stream_archive
  for select to public
  using (
    (select live_stream.is_service())
    or session_id in (select s.id from public.live_stream_sessions s
                       where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])));

grant execute on function live_stream.purge, live_stream.export_user, live_stream.erase_user,
  live_stream.personal_data to service_role;

comment on function live_stream.purge is
  'Takes out of finished sessions what is older than the given ages, counted since the session ended, and returns what that was and how many rows. Null keeps. addresses: ip_address, user_agent and city of viewers; chat: messages and reactions; viewers: their rows; notifications. Every number of the sessions stays, in live_stream_archive. max_sessions at a time, the oldest first.';
comment on function live_stream.export_user is
  'Everything that is held on a user, as JSON: rows by table. Stream keys are named and not shown.';
comment on function live_stream.erase_user is
  'Removes a user from every table and returns what was removed: its rows go, orders lose the user, and every number of the sessions stays. For a user who streams, erase_influencer deletes the influencer too, with all its sessions and schedules.';
comment on function live_stream.personal_data is
  'The columns that say who a person is, and what erase_user does about each.';
