-- Every number that a load of ours changes and the rows do not bear out; set by set, so that it is quick.
with viewers as (
  select session_id, count(*) filter (where is_still_watching) as watching,
         count(distinct user_id) + count(*) filter (where user_id is null) as people,
         sum(watch_duration_seconds) as seconds
    from public.live_stream_viewers group by session_id
), messages as (
  select session_id, count(*) as n from public.live_stream_chat group by session_id
), reactions as (
  select session_id, count(*) as n from public.live_stream_chat_reactions group by session_id
), products as (
  select session_id, count(*) as n, sum(clicks) as clicks from public.live_stream_products group by session_id
), numbers as (
  select s.id, s.current_viewers, s.peak_viewers, s.total_unique_viewers as people, s.total_watch_time_seconds as seconds,
         s.total_watch_time_minutes as minutes, s.average_watch_time_minutes as average, s.total_messages as messages,
         s.total_reactions as reactions, s.total_products_showcased as products, s.total_clicks as clicks
    from public.live_stream_sessions s
), truth as (
  select s.id, coalesce(v.watching, 0) as current_viewers, greatest(s.peak_viewers, v.watching) as peak_viewers,
         coalesce(v.people, 0) as people, coalesce(v.seconds, 0) as seconds, coalesce(v.seconds, 0) / 60 as minutes,
         coalesce(round(v.seconds / 60.0 / v.people, 2), 0) as average, coalesce(m.n, 0) as messages,
         coalesce(r.n, 0) as reactions, coalesce(p.n, 0) as products, coalesce(p.clicks, 0) as clicks
    from public.live_stream_sessions s
    left join viewers v on v.session_id = s.id
    left join messages m on m.session_id = s.id
    left join reactions r on r.session_id = s.id
    left join products p on p.session_id = s.id
)
select 'session' as what, n.id, n as kept, t as truth
  from numbers n join truth t on t.id = n.id
 where (n.current_viewers, n.peak_viewers, n.people, n.seconds, n.minutes, n.average, n.messages, n.reactions,
        n.products, n.clicks)
       is distinct from
       (t.current_viewers, t.peak_viewers, t.people, t.seconds, t.minutes, t.average, t.messages, t.reactions,
        t.products, t.clicks)
union all
select 'viewer', v.id, row(v.messages_sent), row(coalesce(m.n, 0))
  from public.live_stream_viewers v
  left join (select viewer_id, count(*) as n from public.live_stream_chat group by viewer_id) m on m.viewer_id = v.id
 where v.messages_sent <> coalesce(m.n, 0)
union all
select 'message', c.id, row(c.reactions), row(r.reactions)
  from public.live_stream_chat c
  left join (
    select message_id, jsonb_object_agg(reaction, n) as reactions
      from (select message_id, reaction, count(*) as n from public.live_stream_chat_reactions group by 1, 2) counted
     group by message_id) r on r.message_id = c.id
 where c.reactions <> coalesce(r.reactions, '{}');
