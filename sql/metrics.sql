create table live_stream.metric_changes (
  session_id uuid not null,
  at timestamptz not null,
  transaction bigint not null,
  nth integer not null,
  since timestamptz,
  doubtful boolean,
  viewers bigint,
  peak bigint,
  unique_viewers bigint,
  watch_seconds bigint,
  messages bigint,
  reactions bigint,
  shares bigint,
  products bigint,
  clicks bigint,
  orders bigint,
  revenue bigint,
  disconnections bigint,
  buffering_events bigint,
  buffering_seconds bigint,
  counted text,
  row_id uuid,
  reaction text,
  views bigint,
  add_to_cart bigint,
  replies bigint,
  constraint metric_changes_pkey primary key (at, transaction, nth)
);

comment on table live_stream.metric_changes is
  'Changes of the numbers of busy sessions that wait to be folded into their rows. Kept by live_stream alone.';
comment on column live_stream.metric_changes.session_id is 'Session whose numbers change.';
comment on column live_stream.metric_changes.at is 'When the change happened; of a statement, its last row.';
comment on column live_stream.metric_changes.transaction is 'Transaction that made the change.';
comment on column live_stream.metric_changes.nth is
  'Which of its changes, from 0. With the two before, the key by which a replica knows the row.';
comment on column live_stream.metric_changes.since is 'When it began, for a statement of several rows.';
comment on column live_stream.metric_changes.doubtful is 'Whether the peak must be counted from the rows.';
comment on column live_stream.metric_changes.viewers is 'Change of the current viewers.';
comment on column live_stream.metric_changes.peak is 'How far the statement went above its change of viewers.';
comment on column live_stream.metric_changes.unique_viewers is 'Change of the unique viewers.';
comment on column live_stream.metric_changes.watch_seconds is 'Change of the watch time, in seconds.';
comment on column live_stream.metric_changes.messages is 'Change of the messages.';
comment on column live_stream.metric_changes.reactions is 'Change of the reactions.';
comment on column live_stream.metric_changes.shares is 'Change of the shares.';
comment on column live_stream.metric_changes.products is 'Change of the products showcased.';
comment on column live_stream.metric_changes.clicks is 'Change of the clicks.';
comment on column live_stream.metric_changes.orders is 'Change of the orders.';
comment on column live_stream.metric_changes.revenue is 'Change of the revenue, in hundredths.';
comment on column live_stream.metric_changes.disconnections is 'Change of the connection issues.';
comment on column live_stream.metric_changes.buffering_events is 'Change of the buffering events.';
comment on column live_stream.metric_changes.buffering_seconds is 'Change of the buffering time, in seconds.';
comment on column live_stream.metric_changes.counted is
  'Whose tallies change, for a change of a row rather than of the session: product, message or viewer.';
comment on column live_stream.metric_changes.row_id is 'That row, which somebody had as the change was made.';
comment on column live_stream.metric_changes.reaction is 'Of a message: the reaction that is counted.';
comment on column live_stream.metric_changes.views is 'Change of a product''s views.';
comment on column live_stream.metric_changes.add_to_cart is 'Change of how often a product was put into a cart.';
comment on column live_stream.metric_changes.replies is 'Change of the replies to a message.';

create table live_stream.metric_sessions (
  session_id uuid not null,
  doubtful boolean not null,
  hot_since timestamptz not null default clock_timestamp(),
  folded_at timestamptz not null default clock_timestamp(),
  folds bigint not null default 0,
  changes bigint not null default 0,
  constraint metric_sessions_pkey primary key (session_id)
) with (fillfactor = 50);

comment on table live_stream.metric_sessions is
  'Sessions that the background worker folds, while they are busy. Kept by live_stream alone.';
comment on column live_stream.metric_sessions.session_id is 'Session that is busy.';
comment on column live_stream.metric_sessions.doubtful is
  'Whether the peak will be counted from the rows when the session is at rest.';
comment on column live_stream.metric_sessions.hot_since is 'Since when the session is busy.';
comment on column live_stream.metric_sessions.folded_at is 'When its row was last updated.';
comment on column live_stream.metric_sessions.folds is 'How often, since then.';
comment on column live_stream.metric_sessions.changes is 'How many changes were folded since then.';

create table live_stream.metric_worker (
  server bigint not null,
  pid integer not null,
  started_at timestamptz not null,
  starts bigint not null default 1,
  folds bigint not null default 0,
  changes bigint not null default 0,
  folded_at timestamptz,
  constraint metric_worker_pkey primary key (server)
) with (fillfactor = 10);

comment on table live_stream.metric_worker is
  'The background worker that ran last in this database, and what it did: a row for each server that has been the one that counts. Kept by live_stream alone.';
comment on column live_stream.metric_worker.server is
  'System identifier of the server: a replica has the row of the one it follows, and then its own.';
comment on column live_stream.metric_worker.pid is 'Process id of the worker.';
comment on column live_stream.metric_worker.started_at is 'When it started.';
comment on column live_stream.metric_worker.starts is 'How many workers have started.';
comment on column live_stream.metric_worker.folds is 'Updates of sessions'' rows, by all workers.';
comment on column live_stream.metric_worker.changes is 'Changes folded by all workers.';
comment on column live_stream.metric_worker.folded_at is 'When something was last folded.';

alter table live_stream.metric_changes enable row level security;
alter table live_stream.metric_sessions enable row level security;
alter table live_stream.metric_worker enable row level security;

revoke all on table live_stream.metric_changes from public, anon, authenticated, service_role;
grant select on table live_stream.metric_changes to service_role;
revoke all on table live_stream.metric_sessions from public, anon, authenticated, service_role;
grant select on table live_stream.metric_sessions to service_role;
revoke all on table live_stream.metric_worker from public, anon, authenticated, service_role;
grant select on table live_stream.metric_worker to service_role;

create policy metric_changes_select on live_stream.metric_changes
  for select to public using ((select live_stream.is_service()));
create policy metric_sessions_select on live_stream.metric_sessions
  for select to public using ((select live_stream.is_service()));
create policy metric_worker_select on live_stream.metric_worker
  for select to public using ((select live_stream.is_service()));

create or replace view live_stream.metrics_status with (security_invoker = true) as
  select lock.pid as worker_pid,
         case when lock.pid is not null then worker.started_at end as worker_started_at,
         coalesce(worker.starts, 0) as worker_starts,
         (select count(*) from live_stream.metric_sessions) as hot_sessions,
         pending.changes as pending_changes,
         pending.since as pending_since,
         coalesce(clock_timestamp() - pending.since, interval '0') as lag,
         coalesce(worker.folds, 0) as folds,
         coalesce(worker.changes, 0) as folded_changes,
         worker.folded_at as last_fold_at,
         pg_catalog.pg_relation_size('live_stream.metric_changes') as log_bytes
    from (select count(*) as changes, min(at) as since from live_stream.metric_changes) as pending
    left join (select w.started_at, w.starts, w.folds, w.changes, w.folded_at
                 from live_stream.metric_worker w
                order by w.started_at desc limit 1) as worker on true
    left join pg_catalog.pg_locks as lock
      on lock.locktype = 'advisory' and lock.objsubid = live_stream.worker_lock_class()
     and lock.mode = 'ExclusiveLock' and lock.granted
     and lock.database = (select d.oid from pg_catalog.pg_database d
                           where d.datname = pg_catalog.current_database());
comment on view live_stream.metrics_status is
  'What the metrics are doing now: the background worker, the sessions it folds, and how far their rows are behind. For service_role and the owner of the tables.';

revoke all on table live_stream.metrics_status from public, anon, authenticated, service_role;
grant select on table live_stream.metrics_status to service_role;

create or replace view live_stream.counted_peaks with (security_invoker = true) as
  select s.id as session_id,
         greatest(coalesce(l.peak, 0)::integer, a.peak_viewers) as peak_viewers
    from public.live_stream_sessions s
    left join (select levels.session_id, max(levels.level) as peak
                 from (select e.session_id,
                              sum(sum(e.comes) - sum(e.goes)) over (partition by e.session_id order by e.at)
                                as level
                         from (select v.session_id, v.counted_since as at, 1 as comes, 0 as goes
                                 from public.live_stream_viewers v
                                where v.counted_since is not null
                               union all
                               select v.session_id, v.counted_until as at, 0 as comes, 1 as goes
                                 from public.live_stream_viewers v
                                where v.counted_since is not null and v.counted_until is not null
                               union all
                               select v.session_id, b.at, case when b.nth % 2 = 1 then 1 else 0 end as comes,
                                      case when b.nth % 2 = 1 then 0 else 1 end as goes
                                 from public.live_stream_viewers v
                                cross join lateral unnest(v.counted_before) with ordinality as b (at, nth)
                                where v.counted_since is not null and v.counted_before is not null) as e
                        group by e.session_id, e.at) as levels
                group by levels.session_id) as l on l.session_id = s.id
    left join public.live_stream_archive a on a.session_id = s.id;
comment on view live_stream.counted_peaks is
  'The most viewers that each session had at the same time, counted from its viewer rows; what it was when some of them went into the archive, at least.';

create or replace view live_stream.counted_metrics with (security_invoker = true) as
  select s.id as session_id,
         case when s.status in ('ended', 'cancelled') then 0 else coalesce(v.current_viewers, 0) end
           as current_viewers,
         k.peak_viewers,
         coalesce(v.unique_viewers, 0) + coalesce(a.total_unique_viewers, 0) as total_unique_viewers,
         coalesce(v.watch_seconds, 0) + coalesce(a.total_watch_time_seconds, 0) as total_watch_time_seconds,
         coalesce(m.messages, 0) + coalesce(a.total_messages, 0) as total_messages,
         coalesce(m.reactions, 0) + coalesce(r.reactions, 0) + coalesce(a.total_reactions, 0) as total_reactions,
         coalesce(v.shares, 0) + coalesce(p.shares, 0) + coalesce(a.total_shares, 0) as total_shares,
         coalesce(p.products, 0) as total_products_showcased,
         coalesce(p.clicks, 0) as total_clicks,
         coalesce(p.orders, 0) as total_orders,
         coalesce(p.revenue, 0) as total_revenue,
         coalesce(v.disconnections, 0) + coalesce(a.connection_issues_count, 0) as connection_issues_count,
         coalesce(v.buffering_events, 0) + coalesce(a.buffering_events, 0) as buffering_events,
         coalesce(v.buffering_seconds, 0) + coalesce(a.total_buffering_time_seconds, 0)
           as total_buffering_time_seconds
    from public.live_stream_sessions s
    join live_stream.counted_peaks k on k.session_id = s.id
    left join (select w.session_id,
                      count(*) filter (where w.is_still_watching) as current_viewers,
                      count(distinct w.user_id) + count(*) filter (where w.user_id is null) as unique_viewers,
                      sum(w.watch_duration_seconds) as watch_seconds,
                      sum(w.shares_sent) as shares,
                      sum(w.disconnections_count) as disconnections,
                      sum(w.buffering_events) as buffering_events,
                      sum(w.buffering_time_seconds) as buffering_seconds
                 from public.live_stream_viewers w group by w.session_id) as v on v.session_id = s.id
    left join (select c.session_id,
                      count(*) filter (where c.message_type = 'chat') as messages,
                      count(*) filter (where c.message_type = 'reaction') as reactions
                 from public.live_stream_chat c group by c.session_id) as m on m.session_id = s.id
    left join (select c.session_id, count(*) as reactions
                 from public.live_stream_chat_reactions c group by c.session_id) as r on r.session_id = s.id
    left join (select c.session_id, count(*) as products, sum(c.clicks) as clicks, sum(c.orders) as orders,
                      sum(c.revenue) as revenue, sum(c.shares) as shares
                 from public.live_stream_products c group by c.session_id) as p on p.session_id = s.id
    left join public.live_stream_archive a on a.session_id = s.id;
comment on view live_stream.counted_metrics is
  'The numbers of each session, counted from its rows, and the archive''s of those that are gone. Of one session, where session_id is given, by index.';

revoke all on table live_stream.counted_peaks from public, anon, authenticated, service_role;
revoke all on table live_stream.counted_metrics from public, anon, authenticated, service_role;
grant select on table live_stream.counted_peaks, live_stream.counted_metrics to service_role;

create or replace function live_stream.verify_metrics()
  returns table (session_id uuid, counter text, kept numeric, counted numeric, pending bigint)
  language sql stable set search_path = pg_catalog, pg_temp as $$
  select s.id, n.counter, n.kept, n.counted,
         (select count(*) from live_stream.metric_changes c where c.session_id = s.id)
    from public.live_stream_sessions s
    join live_stream.counted_metrics c on c.session_id = s.id
   cross join lateral (values
     ('current_viewers', s.current_viewers::numeric, c.current_viewers::numeric),
     ('peak_viewers', s.peak_viewers, c.peak_viewers),
     ('total_unique_viewers', s.total_unique_viewers, c.total_unique_viewers),
     ('total_watch_time_seconds', s.total_watch_time_seconds, c.total_watch_time_seconds),
     ('total_watch_time_minutes', s.total_watch_time_minutes,
      least(c.total_watch_time_seconds / 60, 2147483647)),
     ('average_watch_time_minutes', s.average_watch_time_minutes,
      case when c.total_unique_viewers > 0
           then least(round(c.total_watch_time_seconds / 60.0 / c.total_unique_viewers, 2),
                      99999999.99)
           else 0 end),
     ('total_messages', s.total_messages, c.total_messages),
     ('total_reactions', s.total_reactions, c.total_reactions),
     ('total_shares', s.total_shares, c.total_shares),
     ('total_products_showcased', s.total_products_showcased, c.total_products_showcased),
     ('total_clicks', s.total_clicks, c.total_clicks),
     ('total_orders', s.total_orders, c.total_orders),
     ('total_revenue', s.total_revenue, c.total_revenue),
     ('conversion_rate', s.conversion_rate,
      case when c.total_unique_viewers > 0
           then least(round(c.total_orders * 100.0 / c.total_unique_viewers, 2), 999.99)
           else 0 end),
     ('connection_issues_count', s.connection_issues_count, c.connection_issues_count),
     ('buffering_events', s.buffering_events, c.buffering_events),
     ('total_buffering_time_seconds', s.total_buffering_time_seconds,
      c.total_buffering_time_seconds)) as n (counter, kept, counted)
   where n.kept <> n.counted
$$;
comment on function live_stream.verify_metrics is
  'Counts every number of every session from the rows, and returns those that differ: none, at rest. pending is the number of changes of the session that are not folded yet.';

revoke all on function live_stream.verify_metrics from public;
grant execute on function live_stream.verify_metrics, live_stream.recount, live_stream.flush_metrics,
  live_stream.worker_lock_class to service_role;
comment on function live_stream.recount is
  'Counts the numbers of a session from its rows, and writes them into the session.';
comment on function live_stream.flush_metrics is
  'Folds everything that is pending into the sessions'' rows, now, and returns how many changes that were. Of all sessions, those whose rows others have are passed by after a moment, with a warning.';
comment on function live_stream.worker_lock_class is
  'Class of the advisory lock that the background worker holds.';
