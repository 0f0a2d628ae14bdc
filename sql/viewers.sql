create type public.live_stream_viewer_type as enum
  ('customer', 'influencer', 'wholesaler', 'anonymous');
comment on type public.live_stream_viewer_type is 'What a viewer is.';

create type public.live_stream_connection_quality as enum ('excellent', 'good', 'fair', 'poor');
comment on type public.live_stream_connection_quality is 'How well a viewer receives the stream.';

create table public.live_stream_viewers (
  id uuid not null default gen_random_uuid(),
  session_id uuid not null,
  user_id uuid,
  viewer_type public.live_stream_viewer_type not null default 'customer',
  ip_address inet,
  user_agent text,
  country text,
  city text,
  device_type text,
  browser text,
  joined_at timestamptz not null default now(),
  left_at timestamptz,
  watching_since timestamptz,
  watch_duration_seconds integer not null default 0,
  watch_duration_minutes integer not null default 0,
  is_still_watching boolean not null default true,
  messages_sent integer not null default 0,
  reactions_sent integer not null default 0,
  shares_sent integer not null default 0,
  products_clicked integer not null default 0,
  orders_placed integer not null default 0,
  connection_quality public.live_stream_connection_quality not null default 'good',
  buffering_time_seconds integer not null default 0,
  buffering_events integer not null default 0,
  disconnections_count integer not null default 0,
  counted_since timestamptz,
  counted_until timestamptz,
  counted_before timestamptz[],
  tabs uuid[],
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint live_stream_viewers_pkey primary key (id),
  constraint live_stream_viewers_session_id_fkey foreign key (session_id)
    references public.live_stream_sessions (id) on delete cascade,
  constraint live_stream_viewers_user_agent_check check (length(user_agent) <= 1000),
  constraint live_stream_viewers_left_at_check check (left_at >= joined_at),
  constraint live_stream_viewers_watching_check check (
    is_still_watching = (left_at is null) and is_still_watching = (watching_since is not null)),
  constraint live_stream_viewers_counters_check check (
    watch_duration_seconds >= 0 and watch_duration_minutes >= 0 and messages_sent >= 0
    and reactions_sent >= 0 and shares_sent >= 0 and products_clicked >= 0 and orders_placed >= 0
    and buffering_time_seconds >= 0 and buffering_events >= 0 and disconnections_count >= 0)
) with (fillfactor = 90);

comment on table public.live_stream_viewers is
  'Who watches a session, from when to when. A person sees its own rows, the influencer all of a session.';
comment on column public.live_stream_viewers.id is
  'Id of the row. For an anonymous viewer it is the key to the row: only that viewer knows it.';
comment on column public.live_stream_viewers.session_id is 'Session that is watched.';
comment on column public.live_stream_viewers.user_id is 'User who watches; null for an anonymous viewer.';
comment on column public.live_stream_viewers.viewer_type is
  'What the viewer is. influencer and anonymous are set by the database.';
comment on column public.live_stream_viewers.ip_address is
  'Network address as the proxy says, or its network, or null: live_stream.ip_tracking decides. Clients cannot write it.';
comment on column public.live_stream_viewers.user_agent is 'The browser''s own name; cut at 1,000 characters.';
comment on column public.live_stream_viewers.country is 'Country, as the client says; cut at 100 characters.';
comment on column public.live_stream_viewers.city is 'City, as the client says; cut at 100 characters.';
comment on column public.live_stream_viewers.device_type is 'Kind of device, such as mobile; cut at 50 characters.';
comment on column public.live_stream_viewers.browser is 'Browser, such as chrome; cut at 100 characters.';
comment on column public.live_stream_viewers.joined_at is 'When the viewer first joined; set by the database.';
comment on column public.live_stream_viewers.left_at is 'When the viewer last left; null while it watches.';
comment on column public.live_stream_viewers.watching_since is
  'When the viewer joined for this time; null while it is away.';
comment on column public.live_stream_viewers.watch_duration_seconds is
  'Seconds watched, all times together, credited as the viewer leaves; measured by the database.';
comment on column public.live_stream_viewers.watch_duration_minutes is 'Whole minutes of watch_duration_seconds.';
comment on column public.live_stream_viewers.is_still_watching is
  'Whether the viewer watches now. Set it to false to leave, to true to come back. Who watches in several tabs leaves with the last one.';
comment on column public.live_stream_viewers.messages_sent is 'Chat messages sent.';
comment on column public.live_stream_viewers.reactions_sent is 'Reactions sent.';
comment on column public.live_stream_viewers.shares_sent is 'Times the viewer shared the session.';
comment on column public.live_stream_viewers.products_clicked is 'Clicks on products.';
comment on column public.live_stream_viewers.orders_placed is 'Orders placed.';
comment on column public.live_stream_viewers.connection_quality is 'How well the stream arrives, as the viewer reports.';
comment on column public.live_stream_viewers.buffering_time_seconds is
  'Seconds of buffering in all, as the viewer reports; it only grows, up to a week.';
comment on column public.live_stream_viewers.buffering_events is 'Number of those reports.';
comment on column public.live_stream_viewers.disconnections_count is
  'Disconnections in all, as the viewer reports; it only grows, up to 10,000.';
comment on column public.live_stream_viewers.counted_since is
  'Since when the row counts as a current viewer this time, by the database''s clock: what the peak is counted from.';
comment on column public.live_stream_viewers.counted_until is
  'Until when it counted; null while it counts.';
comment on column public.live_stream_viewers.counted_before is
  'Beginnings and ends of the times before, one after the other.';
comment on column public.live_stream_viewers.tabs is
  'The tabs in which the viewer watches where they are several, or have ids: each by the tab_id that it gave, or null; the last 20. Written by the database.';
comment on column public.live_stream_viewers.created_at is 'When the row was made.';
comment on column public.live_stream_viewers.updated_at is 'When the row was last changed.';

create table public.live_stream_heartbeats (
  viewer_id uuid not null,
  seen_at timestamptz not null default now(),
  constraint live_stream_heartbeats_pkey primary key (viewer_id),
  constraint live_stream_heartbeats_viewer_id_fkey foreign key (viewer_id)
    references public.live_stream_viewers (id) on delete cascade
) with (fillfactor = 50);

comment on table public.live_stream_heartbeats is
  'When a viewer was last heard of. Narrow, so that a heartbeat touches nothing else.';
comment on column public.live_stream_heartbeats.viewer_id is 'Viewer row that the heartbeat is for.';
comment on column public.live_stream_heartbeats.seen_at is 'When the last heartbeat came.';

alter table public.live_stream_viewers add constraint live_stream_viewers_user_id_fkey
  foreign key (user_id) references auth.users (id) on delete set null;

create index live_stream_viewers_session_id_user_id_idx
  on public.live_stream_viewers (session_id, user_id);
create index live_stream_viewers_user_id_idx
  on public.live_stream_viewers (user_id) where user_id is not null;
create index live_stream_viewers_anonymous_idx
  on public.live_stream_viewers (session_id, joined_at) where user_id is null;
-- As src/limits/joins.rs counts: of IPv6, a household has a whole /64.
create index live_stream_viewers_address_idx
  on public.live_stream_viewers (
    session_id,
    (case when family(ip_address) = 6 then network(set_masklen(ip_address, 64))::inet else ip_address end),
    joined_at)
  where user_id is null and ip_address is not null;
create index live_stream_viewers_watching_idx
  on public.live_stream_viewers (session_id) where is_still_watching;

alter table public.live_stream_viewers enable row level security;
alter table public.live_stream_heartbeats enable row level security;

revoke all on table public.live_stream_viewers from public, anon, authenticated, service_role;
grant select, insert, update on table public.live_stream_viewers to anon, authenticated;
grant select, insert, update, delete, truncate on table public.live_stream_viewers to service_role;

revoke all on table public.live_stream_heartbeats from public, anon, authenticated, service_role;
grant select, insert, update, delete, truncate on table public.live_stream_heartbeats to service_role;

-- live_stream.viewer_id() is looked at once for a statement, as PostgreSQL comes to it for the first time: in an INSERT that is
-- after the BEFORE trigger has set it to the row that is made, and a client's statement makes one.
create policy live_stream_viewers_select on public.live_stream_viewers
  for select to public
  using (
    user_id = (select live_stream.uid())
    or (select live_stream.is_service())
    or (user_id is null and id = (select live_stream.viewer_id()) and viewer_type = 'anonymous')
    or session_id in (select s.id from public.live_stream_sessions s
                       where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])));
create policy live_stream_viewers_insert on public.live_stream_viewers
  for insert to public
  with check (
    user_id = (select live_stream.uid())
    or (select live_stream.is_service())
    or (user_id is null and id = (select live_stream.viewer_id()) and viewer_type = 'anonymous'));
create policy live_stream_viewers_update on public.live_stream_viewers
  for update to public
  using (
    user_id = (select live_stream.uid())
    or (select live_stream.is_service())
    or (user_id is null and id = (select live_stream.viewer_id()) and viewer_type = 'anonymous'))
  with check (
    user_id = (select live_stream.uid())
    or (select live_stream.is_service())
    or (user_id is null and id = (select live_stream.viewer_id()) and viewer_type = 'anonymous'));
create policy live_stream_viewers_delete on public.live_stream_viewers
  for delete to public using ((select live_stream.is_service()));

create policy live_stream_heartbeats_all on public.live_stream_heartbeats
  for all to public
  using ((select live_stream.is_service())) with check ((select live_stream.is_service()));

create or replace trigger live_stream_viewers_guard
  before insert or update on public.live_stream_viewers
  for each row execute function live_stream.viewers_guard();
create or replace trigger live_stream_viewers_begin_insert
  before insert on public.live_stream_viewers
  for each statement execute function live_stream.viewers_begin_insert();
create or replace trigger live_stream_viewers_begin_update
  before update on public.live_stream_viewers
  for each statement execute function live_stream.viewers_begin_update();
create or replace trigger live_stream_viewers_begin_delete
  before delete on public.live_stream_viewers
  for each statement execute function live_stream.viewers_begin_delete();
create or replace trigger live_stream_viewers_settle_insert
  after insert on public.live_stream_viewers
  referencing new table as new_rows
  for each statement execute function live_stream.viewers_settle();
create or replace trigger live_stream_viewers_settle_update
  after update on public.live_stream_viewers
  referencing old table as old_rows new table as new_rows
  for each statement execute function live_stream.viewers_settle();
create or replace trigger live_stream_viewers_settle_delete
  after delete on public.live_stream_viewers
  referencing old table as old_rows
  for each statement execute function live_stream.viewers_settle();
create or replace trigger live_stream_viewers_truncated
  after truncate on public.live_stream_viewers
  for each statement execute function live_stream.viewers_truncated();
-- It never fires. PostgreSQL makes no table with such a trigger a child or a partition of another
-- one, through which rows would go that nobody counts.
create or replace trigger live_stream_viewers_stands_alone
  after delete on public.live_stream_viewers
  referencing old table as old_rows
  for each row when (false) execute function live_stream.viewers_settle();

create or replace function public.live_stream_join(
    session_id uuid default null,
    session_code text default null,
    viewer_type public.live_stream_viewer_type default 'customer',
    device_type text default null,
    browser text default null,
    user_agent text default null,
    country text default null,
    city text default null,
    viewer_id uuid default null,
    tab_id uuid default null)
  returns public.live_stream_viewers
  language sql volatile set search_path = '' as $$
  select live_stream.join_session($1, $2, $3::pg_catalog.text, $4, $5, $6, $7, $8, $9, $10);
  select live_stream.acting_viewer(null::public.live_stream_viewers)
$$;
comment on function public.live_stream_join is
  'Joins a session, by id or by code, and returns the caller''s viewer row. Joining again comes back to the same row; an anonymous viewer passes the viewer_id it had. While it watches, each join is another tab, but where the same tab_id has joined.';

create or replace function public.live_stream_heartbeat(viewer_id uuid default null)
  returns public.live_stream_viewers
  language sql volatile set search_path = '' as $$
  select live_stream.heartbeat($1);
  select live_stream.acting_viewer(null::public.live_stream_viewers)
$$;
comment on function public.live_stream_heartbeat is
  'Says that the viewer is still there; call it every 20 seconds. Returns the viewer row: where is_still_watching is false, join again.';

create or replace function public.live_stream_leave(viewer_id uuid default null, tab_id uuid default null)
  returns public.live_stream_viewers
  language sql volatile set search_path = '' as $$
  select live_stream.act_as_viewer($1, $2);
  update public.live_stream_viewers v set is_still_watching = false
   where v.id = (select live_stream.viewer_id()) and v.is_still_watching;
  select live_stream.acting_viewer(null::public.live_stream_viewers)
$$;
comment on function public.live_stream_leave is
  'Leaves a session and returns the viewer row with its watch time. A viewer who has joined in several tabs watches on until the last one leaves; tab_id says which one does. Leaving once more changes nothing.';

create or replace function public.live_stream_report_quality(
    viewer_id uuid default null,
    connection_quality public.live_stream_connection_quality default null,
    buffering_time_seconds integer default null,
    disconnections_count integer default null)
  returns public.live_stream_viewers
  language sql volatile set search_path = '' as $$
  select live_stream.act_as_viewer($1);
  update public.live_stream_viewers v
     set connection_quality = coalesce($2, v.connection_quality),
         buffering_time_seconds = coalesce($3, v.buffering_time_seconds),
         disconnections_count = coalesce($4, v.disconnections_count)
   where v.id = (select live_stream.viewer_id());
  select live_stream.acting_viewer(null::public.live_stream_viewers)
$$;
comment on function public.live_stream_report_quality is
  'Reports how the stream arrives: totals since the viewer joined, which only grow. Returns the viewer row.';

create or replace function public.live_stream_share(viewer_id uuid default null)
  returns public.live_stream_viewers
  language sql volatile set search_path = '' as $$
  select live_stream.share_session($1);
  select live_stream.acting_viewer(null::public.live_stream_viewers)
$$;
comment on function public.live_stream_share is
  'Counts that the viewer shared the session and returns the viewer row.';

grant execute on function live_stream.join_session, live_stream.heartbeat, live_stream.act_as_viewer,
  live_stream.acting_viewer, live_stream.share_session to anon, authenticated;
grant execute on function live_stream.join_session, live_stream.heartbeat, live_stream.act_as_viewer,
  live_stream.acting_viewer, live_stream.share_session, live_stream.expire_viewers to service_role;

comment on function live_stream.join_session is 'Makes the caller a viewer of a session; behind live_stream_join.';
comment on function live_stream.heartbeat is 'Notes that a viewer is still there; behind live_stream_heartbeat.';
comment on function live_stream.act_as_viewer is
  'Checks that the caller may act for a viewer row, and locks its session.';
comment on function live_stream.acting_viewer is
  'The viewer row that this transaction acts for, after one of the functions beside it.';
comment on function live_stream.share_session is 'Counts a share; behind live_stream_share.';
comment on function live_stream.expire_viewers is
  'Closes viewers that have been silent for live_stream.viewer_timeout, at the time they were last heard of.';

revoke all on function public.live_stream_join, public.live_stream_heartbeat, public.live_stream_leave,
  public.live_stream_report_quality, public.live_stream_share from public;
grant execute on function public.live_stream_join, public.live_stream_heartbeat, public.live_stream_leave,
  public.live_stream_report_quality, public.live_stream_share to anon, authenticated, service_role;
