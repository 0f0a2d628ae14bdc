create type public.live_stream_period as enum ('minute', 'hour', 'day');
comment on type public.live_stream_period is 'Length of a period of analytics.';

create table public.live_stream_analytics (
  id uuid not null default gen_random_uuid(),
  session_id uuid not null,
  period_type public.live_stream_period not null,
  period_start timestamptz not null,
  period_end timestamptz not null,
  viewers_joined integer not null default 0,
  viewers_left integer not null default 0,
  peak_concurrent_viewers integer not null default 0,
  average_concurrent_viewers numeric(10,2) not null default 0,
  messages_sent integer not null default 0,
  reactions_sent integer not null default 0,
  shares_count integer not null default 0,
  products_clicked integer not null default 0,
  orders_placed integer not null default 0,
  revenue_generated numeric(12,2) not null default 0,
  average_connection_quality numeric(3,2),
  total_buffering_time_seconds integer not null default 0,
  total_disconnections integer not null default 0,
  top_countries jsonb not null default '{}',
  top_cities jsonb not null default '{}',
  device_breakdown jsonb not null default '{}',
  browser_breakdown jsonb not null default '{}',
  created_at timestamptz not null default now(),
  constraint live_stream_analytics_pkey primary key (id),
  constraint live_stream_analytics_period_key unique (session_id, period_type, period_start),
  constraint live_stream_analytics_session_id_fkey foreign key (session_id)
    references public.live_stream_sessions (id) on delete cascade,
  constraint live_stream_analytics_period_check check (period_end > period_start),
  constraint live_stream_analytics_quality_check check (average_connection_quality between 1 and 4),
  constraint live_stream_analytics_counters_check check (
    viewers_joined >= 0 and viewers_left >= 0 and peak_concurrent_viewers >= 0
    and average_concurrent_viewers >= 0 and average_concurrent_viewers <> 'NaN' and messages_sent >= 0 and reactions_sent >= 0
    and shares_count >= 0 and products_clicked >= 0 and orders_placed >= 0
    and revenue_generated >= 0 and revenue_generated <> 'NaN'
    and total_buffering_time_seconds >= 0 and total_disconnections >= 0),
  constraint live_stream_analytics_breakdowns_check check (
    jsonb_typeof(top_countries) = 'object' and jsonb_typeof(top_cities) = 'object'
    and jsonb_typeof(device_breakdown) = 'object' and jsonb_typeof(browser_breakdown) = 'object')
);

comment on table public.live_stream_analytics is
  'Numbers of a session per minute, hour or day, written by the app''s server; its influencer reads them.';
comment on column public.live_stream_analytics.id is 'Id of the row.';
comment on column public.live_stream_analytics.session_id is 'Session that the numbers are of.';
comment on column public.live_stream_analytics.period_type is 'Length of the period.';
comment on column public.live_stream_analytics.period_start is 'When the period begins.';
comment on column public.live_stream_analytics.period_end is 'When the period ends.';
comment on column public.live_stream_analytics.viewers_joined is 'Viewers who joined in the period.';
comment on column public.live_stream_analytics.viewers_left is 'Viewers who left in the period.';
comment on column public.live_stream_analytics.peak_concurrent_viewers is 'Most viewers at the same time.';
comment on column public.live_stream_analytics.average_concurrent_viewers is 'Viewers on average.';
comment on column public.live_stream_analytics.messages_sent is 'Chat messages.';
comment on column public.live_stream_analytics.reactions_sent is 'Reactions.';
comment on column public.live_stream_analytics.shares_count is 'Shares.';
comment on column public.live_stream_analytics.products_clicked is 'Clicks on products.';
comment on column public.live_stream_analytics.orders_placed is 'Orders.';
comment on column public.live_stream_analytics.revenue_generated is 'Revenue.';
comment on column public.live_stream_analytics.average_connection_quality is
  'Connection quality on average: 1 poor, 2 fair, 3 good, 4 excellent.';
comment on column public.live_stream_analytics.total_buffering_time_seconds is 'Seconds of buffering.';
comment on column public.live_stream_analytics.total_disconnections is 'Disconnections.';
comment on column public.live_stream_analytics.top_countries is 'Viewers by country.';
comment on column public.live_stream_analytics.top_cities is 'Viewers by city.';
comment on column public.live_stream_analytics.device_breakdown is 'Viewers by kind of device.';
comment on column public.live_stream_analytics.browser_breakdown is 'Viewers by browser.';
comment on column public.live_stream_analytics.created_at is 'When the row was made.';

alter table public.live_stream_analytics enable row level security;

revoke all on table public.live_stream_analytics from public, anon, authenticated, service_role;
grant select on table public.live_stream_analytics to authenticated;
grant select, insert, update, delete, truncate on table public.live_stream_analytics to service_role;

create policy live_stream_analytics_select on public.live_stream_analytics
  for select to public
  using (
    (select live_stream.is_service())
    or session_id in (select s.id from public.live_stream_sessions s
                       where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])));
create policy live_stream_analytics_insert on public.live_stream_analytics
  for insert to public with check ((select live_stream.is_service()));
create policy live_stream_analytics_update on public.live_stream_analytics
  for update to public
  using ((select live_stream.is_service())) with check ((select live_stream.is_service()));
create policy live_stream_analytics_delete on public.live_stream_analytics
  for delete to public using ((select live_stream.is_service()));

create or replace trigger live_stream_analytics_guard
  before insert on public.live_stream_analytics
  for each row execute function live_stream.fill_in();

create or replace view public.session_analytics_summary with (security_invoker = true) as
  select s.id as session_id,
         s.total_unique_viewers,
         s.total_watch_time_minutes as total_watch_time,
         s.average_watch_time_minutes as avg_watch_time,
         s.current_viewers,
         s.total_messages,
         s.total_reactions,
         s.total_clicks as total_product_clicks,
         s.total_orders,
         s.peak_viewers,
         s.total_shares,
         s.total_revenue,
         s.conversion_rate
    from public.live_stream_sessions s
   where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])
      or (select live_stream.is_service());
comment on view public.session_analytics_summary is
  'The numbers of a session, for its owner. Watch times are in minutes, credited as viewers leave.';

revoke all on table public.session_analytics_summary from public, anon, authenticated, service_role;
grant select on table public.session_analytics_summary to anon, authenticated, service_role;

create or replace function public.live_stream_session_analytics(session_id uuid)
  returns setof public.session_analytics_summary
  language sql stable set search_path = '' as $$
  select a.* from public.session_analytics_summary a where a.session_id = $1
$$;
comment on function public.live_stream_session_analytics is
  'The numbers of a session, for its owner; no row for anybody else.';

revoke all on function public.live_stream_session_analytics from public, anon;
grant execute on function public.live_stream_session_analytics to authenticated, service_role;
