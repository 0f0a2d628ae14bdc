create type public.live_stream_status as enum
  ('scheduled', 'live', 'paused', 'ended', 'cancelled', 'error');
comment on type public.live_stream_status is 'Where a session is in its life.';

create type public.live_stream_visibility as enum ('public', 'private', 'unlisted');
comment on type public.live_stream_visibility is
  'Who may see a session: everybody, its owner with guests and moderators, or whoever has its code or id.';

create type public.live_stream_quality as enum ('auto', '720p', '1080p', '4k');
comment on type public.live_stream_quality is 'Picture quality of a stream.';

create table public.live_stream_sessions (
  id uuid not null default gen_random_uuid(),
  influencer_id uuid not null,
  session_code varchar(20) not null,
  title varchar(255) not null,
  description text,
  thumbnail_url varchar(2048),
  scheduled_start_time timestamptz,
  scheduled_end_time timestamptz,
  actual_start_time timestamptz,
  actual_end_time timestamptz,
  status public.live_stream_status not null default 'scheduled',
  stream_key varchar(2048),
  stream_url varchar(2048),
  hls_url varchar(2048),
  rtmp_url varchar(2048),
  recording_url varchar(2048),
  room_id varchar(255),
  room_code varchar(255),
  template_id varchar(255),
  max_viewers integer default 1000,
  is_recording_enabled boolean not null default true,
  is_chat_enabled boolean not null default true,
  is_products_showcase boolean not null default true,
  slow_mode_seconds integer not null default 0,
  visibility public.live_stream_visibility not null default 'public',
  requires_sign_in boolean not null default false,
  current_viewers integer not null default 0,
  peak_viewers integer not null default 0,
  total_unique_viewers integer not null default 0,
  total_watch_time_seconds bigint not null default 0,
  total_watch_time_minutes integer not null default 0,
  average_watch_time_minutes numeric(10,2) not null default 0,
  total_messages integer not null default 0,
  total_reactions integer not null default 0,
  total_shares integer not null default 0,
  total_products_showcased integer not null default 0,
  total_clicks integer not null default 0,
  total_orders integer not null default 0,
  total_revenue numeric(12,2) not null default 0,
  conversion_rate numeric(5,2) not null default 0,
  stream_quality public.live_stream_quality not null default 'auto',
  connection_issues_count integer not null default 0,
  buffering_events integer not null default 0,
  total_buffering_time_seconds bigint not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint live_stream_sessions_pkey primary key (id),
  constraint live_stream_sessions_session_code_key unique (session_code),
  constraint live_stream_sessions_title_check check (btrim(title) <> ''),
  constraint live_stream_sessions_description_check check (length(description) <= 10000),
  constraint live_stream_sessions_scheduled_time_check check (scheduled_end_time > scheduled_start_time),
  constraint live_stream_sessions_actual_time_check check (actual_end_time >= actual_start_time),
  constraint live_stream_sessions_secrets_check check (stream_key is null and rtmp_url is null),
  constraint live_stream_sessions_max_viewers_check check (max_viewers > 0),
  constraint live_stream_sessions_slow_mode_check check (slow_mode_seconds between 0 and 3600),
  constraint live_stream_sessions_counters_check check (
    current_viewers >= 0 and peak_viewers >= 0 and total_unique_viewers >= 0
    and total_watch_time_seconds >= 0 and total_watch_time_minutes >= 0
    and average_watch_time_minutes >= 0 and total_messages >= 0 and total_reactions >= 0
    and total_shares >= 0 and total_products_showcased >= 0 and total_clicks >= 0
    and total_orders >= 0 and total_revenue >= 0 and total_revenue <> 'NaN'
    and conversion_rate >= 0 and connection_issues_count >= 0 and buffering_events >= 0
    and total_buffering_time_seconds >= 0)
) with (fillfactor = 50);

comment on table public.live_stream_sessions is
  'Live streams, from planned to ended, with the numbers that triggers keep. One that has orders is the server''s to delete.';
comment on column public.live_stream_sessions.id is 'Id of the session.';
comment on column public.live_stream_sessions.influencer_id is 'Influencer who streams; cannot be changed.';
comment on column public.live_stream_sessions.session_code is
  'Code that people share and type in. Made by the database unless given; found in any spelling.';
comment on column public.live_stream_sessions.title is 'Title, 1 to 255 characters.';
comment on column public.live_stream_sessions.description is 'What the stream is about, up to 10,000 characters.';
comment on column public.live_stream_sessions.thumbnail_url is 'Address of a preview picture.';
comment on column public.live_stream_sessions.scheduled_start_time is 'When the stream is planned to begin.';
comment on column public.live_stream_sessions.scheduled_end_time is 'When the stream is planned to end.';
comment on column public.live_stream_sessions.actual_start_time is
  'When the session first went live; set by the database.';
comment on column public.live_stream_sessions.actual_end_time is 'When the session ended; set by the database.';
comment on column public.live_stream_sessions.status is
  'Where the session is in its life: scheduled, live, paused, ended, cancelled or error.';
comment on column public.live_stream_sessions.stream_key is
  'Write only: goes to live_stream_credentials and always reads as null here. An empty text removes it.';
comment on column public.live_stream_sessions.stream_url is 'Address that players use.';
comment on column public.live_stream_sessions.hls_url is 'Address of the HLS playlist.';
comment on column public.live_stream_sessions.rtmp_url is
  'Write only: goes to live_stream_credentials and always reads as null here. An empty text removes it.';
comment on column public.live_stream_sessions.recording_url is 'Address of the recording.';
comment on column public.live_stream_sessions.room_id is 'Room at the video provider.';
comment on column public.live_stream_sessions.room_code is 'Code of the room at the video provider, for viewers.';
comment on column public.live_stream_sessions.template_id is 'Template at the video provider.';
comment on column public.live_stream_sessions.max_viewers is
  'How many may watch at the same time; null is no limit. Holds exactly.';
comment on column public.live_stream_sessions.is_recording_enabled is 'Whether the stream is recorded.';
comment on column public.live_stream_sessions.is_chat_enabled is 'Whether viewers may write in the chat.';
comment on column public.live_stream_sessions.slow_mode_seconds is
  'Slow mode of the chat: how many seconds a viewer waits between two messages, 0 (none) to 3,600.';
comment on column public.live_stream_sessions.is_products_showcase is 'Whether products are shown.';
comment on column public.live_stream_sessions.visibility is
  'public: everybody sees it. unlisted: whoever has the code or the id. private: its owner, its guests and the owner''s moderators.';
comment on column public.live_stream_sessions.requires_sign_in is
  'Whether only people with an account may join and write: nobody without one, and nobody who has signed in anonymously. Who may see the session is not changed by it, and who watches already stays.';
comment on column public.live_stream_sessions.current_viewers is 'Viewers watching now.';
comment on column public.live_stream_sessions.peak_viewers is 'Most viewers watching at the same time.';
comment on column public.live_stream_sessions.total_unique_viewers is
  'Different people: distinct users, and each anonymous viewer.';
comment on column public.live_stream_sessions.total_watch_time_seconds is
  'Seconds watched, credited as viewers leave.';
comment on column public.live_stream_sessions.total_watch_time_minutes is 'Whole minutes of total_watch_time_seconds.';
comment on column public.live_stream_sessions.average_watch_time_minutes is 'Minutes watched per unique viewer.';
comment on column public.live_stream_sessions.total_messages is 'Chat messages sent.';
comment on column public.live_stream_sessions.total_reactions is 'Reactions sent: in the chat and to messages.';
comment on column public.live_stream_sessions.total_shares is 'Shares of the session and of its products.';
comment on column public.live_stream_sessions.total_products_showcased is 'Products in the showcase.';
comment on column public.live_stream_sessions.total_clicks is 'Clicks on the products.';
comment on column public.live_stream_sessions.total_orders is 'Orders of the products.';
comment on column public.live_stream_sessions.total_revenue is 'Revenue of the products.';
comment on column public.live_stream_sessions.conversion_rate is
  'Orders per unique viewer in percent, 999.99 at most.';
comment on column public.live_stream_sessions.stream_quality is 'Picture quality of the stream.';
comment on column public.live_stream_sessions.connection_issues_count is 'Disconnections that viewers reported.';
comment on column public.live_stream_sessions.buffering_events is 'Reports of buffering by viewers.';
comment on column public.live_stream_sessions.total_buffering_time_seconds is 'Seconds of buffering that viewers reported.';
comment on column public.live_stream_sessions.created_at is 'When the row was made.';
comment on column public.live_stream_sessions.updated_at is 'When the row was last changed.';

create table public.live_stream_credentials (
  session_id uuid not null,
  stream_key varchar(2048),
  rtmp_url varchar(2048),
  updated_at timestamptz not null default now(),
  constraint live_stream_credentials_pkey primary key (session_id),
  constraint live_stream_credentials_session_id_fkey foreign key (session_id)
    references public.live_stream_sessions (id) on delete cascade
);

comment on table public.live_stream_credentials is
  'What a broadcaster needs to send the stream: secrets that only the owner of the session reads.';
comment on column public.live_stream_credentials.session_id is 'Session that the secrets belong to.';
comment on column public.live_stream_credentials.stream_key is 'Key for sending the stream.';
comment on column public.live_stream_credentials.rtmp_url is 'Address for sending the stream.';
comment on column public.live_stream_credentials.updated_at is 'When the secrets were last changed.';

alter table public.live_stream_sessions add constraint live_stream_sessions_influencer_id_fkey
  foreign key (influencer_id) references public.influencers (id) on delete cascade;

create index live_stream_sessions_influencer_id_idx
  on public.live_stream_sessions (influencer_id, created_at desc);
create unique index live_stream_sessions_one_on_air_idx
  on public.live_stream_sessions (influencer_id) where status in ('live', 'paused');
-- The normal form of a code, as the policy below and src/sessions/codes.rs have it.
create unique index live_stream_sessions_normal_code_idx
  on public.live_stream_sessions (translate(upper(session_code collate "C"), 'OIL -', '011'));
create index live_stream_sessions_live_idx
  on public.live_stream_sessions (actual_start_time) where status = 'live';
create index live_stream_sessions_scheduled_idx
  on public.live_stream_sessions (scheduled_start_time) where status = 'scheduled';
create index live_stream_sessions_planned_idx
  on public.live_stream_sessions (influencer_id, greatest(scheduled_start_time, created_at))
  where status = 'scheduled';
comment on index public.live_stream_sessions_planned_idx is
  'Counts what an influencer has planned.';

alter table public.live_stream_sessions enable row level security;
alter table public.live_stream_credentials enable row level security;

revoke all on table public.live_stream_sessions from public, anon, authenticated, service_role;
grant select on table public.live_stream_sessions to anon;
grant select, insert, update, delete on table public.live_stream_sessions to authenticated;
grant select, insert, update, delete, truncate on table public.live_stream_sessions to service_role;

revoke all on table public.live_stream_credentials from public, anon, authenticated, service_role;
grant select on table public.live_stream_credentials to authenticated;
grant select, insert, update, delete, truncate on table public.live_stream_credentials to service_role;

create policy live_stream_sessions_select on public.live_stream_sessions
  for select to public
  using (
    visibility = 'public'
    or (select live_stream.is_service())
    or influencer_id = any ((select live_stream.influencer_ids())::uuid[])
    or influencer_id = any ((select live_stream.moderated_influencer_ids())::uuid[])
    or id in (select g.id from (select live_stream.guest_session_ids() as ids) o
               cross join lateral unnest(o.ids) as g (id))
    or (visibility = 'unlisted'
        and (select live_stream.request_session_code()) is not null
        and translate(upper(session_code collate "C"), 'OIL -', '011')
            = (select live_stream.request_session_code())
        and influencer_id <> all ((select live_stream.banning_influencer_ids())::uuid[])));
create policy live_stream_sessions_insert on public.live_stream_sessions
  for insert to public
  with check (influencer_id = any ((select live_stream.influencer_ids())::uuid[])
              or (select live_stream.is_service()));
create policy live_stream_sessions_update on public.live_stream_sessions
  for update to public
  using (influencer_id = any ((select live_stream.influencer_ids())::uuid[])
         or (select live_stream.is_service()))
  with check (influencer_id = any ((select live_stream.influencer_ids())::uuid[])
              or (select live_stream.is_service()));
create policy live_stream_sessions_delete on public.live_stream_sessions
  for delete to public
  using (influencer_id = any ((select live_stream.influencer_ids())::uuid[])
         or (select live_stream.is_service()));

create policy live_stream_credentials_select on public.live_stream_credentials
  for select to public
  using ((select live_stream.is_service())
         or exists (select from public.live_stream_sessions s
                     where s.id = session_id
                       and s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])));
create policy live_stream_credentials_insert on public.live_stream_credentials
  for insert to public with check ((select live_stream.is_service()));
create policy live_stream_credentials_update on public.live_stream_credentials
  for update to public
  using ((select live_stream.is_service())) with check ((select live_stream.is_service()));
create policy live_stream_credentials_delete on public.live_stream_credentials
  for delete to public using ((select live_stream.is_service()));

create or replace trigger live_stream_sessions_guard
  before insert or update on public.live_stream_sessions
  for each row execute function live_stream.sessions_guard();
create or replace trigger live_stream_sessions_begin_update
  before update on public.live_stream_sessions
  for each statement execute function live_stream.begin_update();
create or replace trigger live_stream_sessions_credentials
  after insert or update of stream_key, rtmp_url on public.live_stream_sessions
  for each row execute function live_stream.sessions_credentials();

create or replace trigger live_stream_sessions_plan
  after insert or update of status, scheduled_start_time on public.live_stream_sessions
  for each row execute function live_stream.sessions_plan();

create or replace trigger live_stream_credentials_guard
  before insert on public.live_stream_credentials
  for each row execute function live_stream.fill_in();
create or replace trigger live_stream_sessions_leave
  before delete on public.live_stream_sessions
  for each row execute function live_stream.sessions_leave();

create or replace view public.live_sessions_with_details with (security_invoker = true) as
  select s.id, s.influencer_id, s.session_code, s.title, s.description, s.thumbnail_url,
         s.scheduled_start_time, s.scheduled_end_time, s.actual_start_time, s.actual_end_time,
         s.status, s.stream_url, s.hls_url, s.recording_url, s.room_id, s.room_code, s.template_id,
         s.max_viewers, s.is_recording_enabled, s.is_chat_enabled, s.is_products_showcase,
         s.slow_mode_seconds,
         s.visibility, s.requires_sign_in, s.current_viewers, s.peak_viewers, s.total_unique_viewers,
         s.total_watch_time_seconds, s.total_watch_time_minutes, s.average_watch_time_minutes,
         s.total_messages, s.total_reactions, s.total_shares, s.total_products_showcased,
         s.total_clicks, s.total_orders, s.total_revenue, s.conversion_rate, s.stream_quality,
         s.connection_issues_count, s.buffering_events, s.total_buffering_time_seconds,
         s.created_at, s.updated_at,
         i.display_name, i.followers_count, i.avatar_url
    from public.live_stream_sessions s
    left join live_stream.influencer_cards i on i.id = s.influencer_id;
comment on view public.live_sessions_with_details is
  'Sessions with the public details of their influencer, and without secrets.';

revoke all on table public.live_sessions_with_details from public, anon, authenticated, service_role;
grant select on table public.live_sessions_with_details to anon, authenticated, service_role;

create or replace function public.live_stream_create(
    title text,
    influencer_id uuid default null,
    description text default null,
    thumbnail_url text default null,
    scheduled_start_time timestamptz default null,
    scheduled_end_time timestamptz default null,
    max_viewers integer default 1000,
    visibility public.live_stream_visibility default 'public',
    session_code text default null,
    is_recording_enabled boolean default true,
    is_chat_enabled boolean default true,
    is_products_showcase boolean default true,
    stream_quality public.live_stream_quality default 'auto',
    template_id text default null,
    requires_sign_in boolean default false)
  returns public.live_stream_sessions
  language sql volatile set search_path = '' as $$
  insert into public.live_stream_sessions as s
    (title, influencer_id, description, thumbnail_url, scheduled_start_time, scheduled_end_time,
     max_viewers, visibility, session_code, is_recording_enabled, is_chat_enabled,
     is_products_showcase, stream_quality, template_id, requires_sign_in)
  values
    (live_stream.fitting_text('live_stream_sessions', 'title', $1), coalesce($2, (live_stream.influencer_ids())[1]), $3,
     live_stream.fitting_text('live_stream_sessions', 'thumbnail_url', $4), $5, $6, $7, $8,
     live_stream.fitting_text('live_stream_sessions', 'session_code', $9), $10, $11, $12, $13,
     live_stream.fitting_text('live_stream_sessions', 'template_id', $14), $15)
  returning s.*
$$;
comment on function public.live_stream_create is
  'Creates a session of the caller''s influencer and returns it, with its session code.';

create or replace function public.live_stream_start(
    session_id uuid,
    room_id text default null,
    room_code text default null,
    stream_key text default null,
    stream_url text default null,
    hls_url text default null,
    rtmp_url text default null)
  returns public.live_stream_sessions
  language sql volatile set search_path = '' as $$
  select live_stream.require_own_session($1);
  update public.live_stream_sessions s
     set status = 'live',
         room_id = coalesce(live_stream.fitting_text('live_stream_sessions', 'room_id', $2), s.room_id),
         room_code = coalesce(live_stream.fitting_text('live_stream_sessions', 'room_code', $3), s.room_code),
         stream_key = live_stream.fitting_text('live_stream_sessions', 'stream_key', $4),
         stream_url = coalesce(live_stream.fitting_text('live_stream_sessions', 'stream_url', $5), s.stream_url),
         hls_url = coalesce(live_stream.fitting_text('live_stream_sessions', 'hls_url', $6), s.hls_url),
         rtmp_url = live_stream.fitting_text('live_stream_sessions', 'rtmp_url', $7)
   where s.id = $1
  returning s.*
$$;
comment on function public.live_stream_start is
  'Takes a session live and returns it. The stream key and RTMP address are kept secret.';

create or replace function public.live_stream_pause(session_id uuid)
  returns public.live_stream_sessions
  language sql volatile set search_path = '' as $$
  select live_stream.require_own_session($1);
  update public.live_stream_sessions s set status = 'paused' where s.id = $1 returning s.*
$$;
comment on function public.live_stream_pause is 'Pauses a live session and returns it.';

create or replace function public.live_stream_resume(session_id uuid)
  returns public.live_stream_sessions
  language sql volatile set search_path = '' as $$
  select live_stream.require_own_session($1);
  update public.live_stream_sessions s set status = 'live' where s.id = $1 returning s.*
$$;
comment on function public.live_stream_resume is
  'Takes a paused session, or one that had an error, live again and returns it.';

create or replace function public.live_stream_end(session_id uuid, recording_url text default null)
  returns public.live_stream_sessions
  language sql volatile set search_path = '' as $$
  select live_stream.require_own_session($1);
  update public.live_stream_sessions s
     set status = 'ended',
         recording_url = coalesce(live_stream.fitting_text('live_stream_sessions', 'recording_url', $2), s.recording_url)
   where s.id = $1
  returning s.*
$$;
comment on function public.live_stream_end is
  'Ends a session, closes its viewers, settles its numbers and returns it.';

create or replace function public.live_stream_cancel(session_id uuid)
  returns public.live_stream_sessions
  language sql volatile set search_path = '' as $$
  select live_stream.require_own_session($1);
  update public.live_stream_sessions s set status = 'cancelled' where s.id = $1 returning s.*
$$;
comment on function public.live_stream_cancel is 'Cancels a scheduled session and returns it.';

create or replace function live_stream.open_session(session_id uuid, code text)
  returns setof public.live_stream_sessions
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select s.* from public.live_stream_sessions s
   where (s.id = $1
          or s.id = (select live_stream.session_with_code($2))
             -- Its owner finds a private one by its id: the code of one that is private tells nothing.
             and (s.visibility <> 'private' or s.influencer_id <> all ((select live_stream.influencer_ids())::uuid[])))
     and live_stream.user_sees_session(s.id, s.influencer_id, s.visibility::text)
$$;
comment on function live_stream.open_session is
  'The session with this id or this code, if it is public, unlisted (knowing either is the key to it), or one that the caller owns, moderates or is a guest of. Its owner finds a private one by its id alone.';

create or replace function public.live_stream_session(session_id uuid)
  returns setof public.live_stream_sessions
  language sql stable set search_path = '' as $$
  select * from live_stream.open_session($1, null)
  union all
  select s.* from public.live_stream_sessions s where s.id = $1
  limit 1
$$;
comment on function public.live_stream_session is
  'The session with this id, if it is public, unlisted, or one that the caller owns, moderates or is a guest of; no row without one.';

create or replace function public.live_stream_session_by_code(code text)
  returns setof public.live_stream_sessions
  language sql stable set search_path = '' as $$
  select * from live_stream.open_session(null, $1)
$$;
comment on function public.live_stream_session_by_code is
  'The session with this code, in whatever case and spacing it was typed, if the caller may see it; no row without one.';

create or replace function public.live_stream_stream_credentials(session_id uuid)
  returns setof public.live_stream_credentials
  language sql stable set search_path = '' as $$
  select c.* from public.live_stream_credentials c where c.session_id = $1
$$;
comment on function public.live_stream_stream_credentials is
  'Stream key and RTMP address of a session, for its owner; no row for anybody else.';

revoke all on function live_stream.open_session from public;
grant execute on function live_stream.open_session to anon, authenticated, service_role;
comment on function live_stream.session_with_code is
  'Id of the session that has this code, in whatever case and spacing it was typed, whoever may see it; null without one.';
comment on function live_stream.normalize_session_code is
  'Normal form of a session code as a person typed it; null where it cannot be a code.';

revoke all on function public.live_stream_create, public.live_stream_start, public.live_stream_pause,
  public.live_stream_resume, public.live_stream_end, public.live_stream_cancel,
  public.live_stream_session, public.live_stream_session_by_code,
  public.live_stream_stream_credentials from public;
revoke all on function public.live_stream_create, public.live_stream_start, public.live_stream_pause,
  public.live_stream_resume, public.live_stream_end, public.live_stream_cancel,
  public.live_stream_stream_credentials from anon;
grant execute on function public.live_stream_session, public.live_stream_session_by_code to anon;
grant execute on function public.live_stream_create, public.live_stream_start, public.live_stream_pause,
  public.live_stream_resume, public.live_stream_end, public.live_stream_cancel,
  public.live_stream_session, public.live_stream_session_by_code,
  public.live_stream_stream_credentials to authenticated, service_role;
