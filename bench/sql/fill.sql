-- The same start for every measurement, as superuser and past all triggers: so many viewers who watch, and so many
-- messages, spread over the sessions from number :first to :last, and numbers of the sessions that say so.
set session_replication_role = replica;
truncate public.live_stream_viewers, public.live_stream_heartbeats, public.live_stream_chat,
  public.live_stream_chat_reactions, public.live_stream_orders cascade;
insert into public.live_stream_viewers (id, session_id, user_id, watching_since, counted_since)
  select ('00000000-0000-4000-8002-' || 100000000000 + n)::uuid,
         ('00000000-0000-4000-8000-' || :first + n % (:last - :first + 1))::uuid, ('00000000-0000-4000-9000-' || 100000000000 + n)::uuid, now(), now()
    from generate_series(0, :viewers - 1) as n;
insert into public.live_stream_heartbeats (viewer_id) select id from public.live_stream_viewers;
insert into public.live_stream_chat (id, session_id, user_id, message)
  select ('00000000-0000-4000-8003-' || 100000000000 + n)::uuid,
         ('00000000-0000-4000-8000-' || :first + n % (:last - :first + 1))::uuid, gen_random_uuid(), 'Hello'
    from generate_series(0, :messages - 1) as n;
update public.live_stream_products set clicks = 0 where clicks > 0;
update public.live_stream_sessions s
   set current_viewers = coalesce(v.n, 0), peak_viewers = coalesce(v.n, 0), total_unique_viewers = coalesce(v.n, 0),
       total_messages = coalesce(m.n, 0), total_watch_time_seconds = 0, total_watch_time_minutes = 0,
       average_watch_time_minutes = 0, total_reactions = 0, total_clicks = 0, conversion_rate = 0
  from public.live_stream_sessions x
  left join (select session_id, count(*) as n from public.live_stream_viewers group by 1) v on v.session_id = x.id
  left join (select session_id, count(*) as n from public.live_stream_chat group by 1) m on m.session_id = x.id
 where x.id = s.id
   and (s.current_viewers, s.peak_viewers, s.total_unique_viewers, s.total_messages, s.total_watch_time_seconds,
        s.total_reactions, s.total_clicks)
       is distinct from (coalesce(v.n, 0), coalesce(v.n, 0), coalesce(v.n, 0), coalesce(m.n, 0), 0::bigint, 0, 0);
reset session_replication_role;
-- What the load before has bloated is made as small as it was; that takes longer than a vacuum of what is small.
select pg_total_relation_size('public.live_stream_sessions') + pg_total_relation_size('public.live_stream_products')
       > :small as bloated \gset
\if :bloated
vacuum (full, analyze) public.live_stream_sessions;
vacuum (full, analyze) public.live_stream_products;
\else
vacuum (analyze) public.live_stream_sessions, public.live_stream_products;
\endif
vacuum (analyze) public.live_stream_viewers, public.live_stream_heartbeats, public.live_stream_chat;
checkpoint;
