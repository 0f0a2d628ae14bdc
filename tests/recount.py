"""Counts the numbers of sessions, viewers and messages again, from the rows and the archive of those that are gone,
independently of the engine.

    assert differences(db) == []

Sessions that many change at once lag behind for a moment: `differences` waits until the metrics are at rest.
"""

from __future__ import annotations

import time
from typing import Any

from database import Database

DIFFERENCES = """
with of_viewers as (
  select session_id,
         count(*) filter (where is_still_watching) as current_viewers,
         count(distinct user_id) + count(*) filter (where user_id is null) as total_unique_viewers,
         sum(watch_duration_seconds) as total_watch_time_seconds,
         sum(shares_sent) as shares,
         sum(disconnections_count) as connection_issues_count,
         sum(buffering_events) as buffering_events,
         sum(buffering_time_seconds) as total_buffering_time_seconds
    from public.live_stream_viewers group by session_id
), of_chat as (
  select session_id,
         count(*) filter (where message_type = 'chat') as messages,
         count(*) filter (where message_type = 'reaction') as reactions
    from public.live_stream_chat group by session_id
), of_reactions as (
  select session_id, count(*) as reactions from public.live_stream_chat_reactions group by session_id
), of_products as (
  select session_id, count(*) as products, sum(clicks) as clicks, sum(orders) as orders,
         sum(revenue) as revenue, sum(shares) as shares
    from public.live_stream_products group by session_id
), of_viewers_ever as (
  select s.id as session_id,
         coalesce(v.current_viewers, 0) as current_viewers,
         coalesce(v.total_unique_viewers, 0) + coalesce(a.total_unique_viewers, 0) as total_unique_viewers,
         coalesce(v.total_watch_time_seconds, 0) + coalesce(a.total_watch_time_seconds, 0) as total_watch_time_seconds,
         coalesce(v.shares, 0) + coalesce(a.total_shares, 0) as shares,
         coalesce(v.connection_issues_count, 0) + coalesce(a.connection_issues_count, 0) as connection_issues_count,
         coalesce(v.buffering_events, 0) + coalesce(a.buffering_events, 0) as buffering_events,
         coalesce(v.total_buffering_time_seconds, 0) + coalesce(a.total_buffering_time_seconds, 0)
           as total_buffering_time_seconds,
         coalesce(a.total_messages, 0) as archived_messages,
         coalesce(a.total_reactions, 0) as archived_reactions,
         coalesce(a.peak_viewers, 0) as archived_peak
    from public.live_stream_sessions s
    left join of_viewers v on v.session_id = s.id
    left join public.live_stream_archive a on a.session_id = s.id
), truth as (
  select s.id,
         v.current_viewers,
         v.total_unique_viewers,
         v.total_watch_time_seconds,
         div(v.total_watch_time_seconds, 60) as total_watch_time_minutes,
         case when v.total_unique_viewers > 0
              then round(v.total_watch_time_seconds / 60.0 / v.total_unique_viewers, 2)
              else 0 end as average_watch_time_minutes,
         coalesce(m.messages, 0) + v.archived_messages as total_messages,
         coalesce(m.reactions, 0) + coalesce(r.reactions, 0) + v.archived_reactions as total_reactions,
         v.shares + coalesce(p.shares, 0) as total_shares,
         coalesce(p.products, 0) as total_products_showcased,
         coalesce(p.clicks, 0) as total_clicks,
         coalesce(p.orders, 0) as total_orders,
         coalesce(p.revenue, 0) as total_revenue,
         case when v.total_unique_viewers > 0
              then least(round(coalesce(p.orders, 0) * 100.0 / v.total_unique_viewers, 2), 999.99)
              else 0 end as conversion_rate,
         v.connection_issues_count,
         v.buffering_events,
         v.total_buffering_time_seconds,
         greatest(s.peak_viewers, v.current_viewers, v.archived_peak) as peak_viewers
    from public.live_stream_sessions s
    join of_viewers_ever v on v.session_id = s.id
    left join of_chat m on m.session_id = s.id
    left join of_reactions r on r.session_id = s.id
    left join of_products p on p.session_id = s.id
)
select 'session' as what, s.id, t.key as column, to_jsonb(s) -> t.key as kept, t.value as truth
  from truth, public.live_stream_sessions s, jsonb_each(to_jsonb(truth)) as t
 where s.id = truth.id and t.key <> 'id' and (to_jsonb(s) ->> t.key)::numeric is distinct from (t.value #>> '{}')::numeric
union all
select 'viewer', v.id, t.key, to_jsonb(v) -> t.key, t.value
  from public.live_stream_viewers v
  cross join lateral (
    select (select count(*) from public.live_stream_chat m
             where m.viewer_id = v.id and m.message_type = 'chat') as messages_sent,
           (select count(*) from public.live_stream_chat m
             where m.viewer_id = v.id and m.message_type = 'reaction')
           + (select count(*) from public.live_stream_chat_reactions r where r.viewer_id = v.id) as reactions_sent,
           (select count(*) from public.live_stream_orders o where o.viewer_id = v.id) as orders_placed,
           v.watch_duration_seconds / 60 as watch_duration_minutes) as truth
  cross join lateral jsonb_each(to_jsonb(truth)) as t
 where (to_jsonb(v) ->> t.key)::numeric is distinct from (t.value #>> '{}')::numeric
   -- Where the chat was purged, a viewer still says how much of it was its own: that, or more, was there.
   and not (t.key in ('messages_sent', 'reactions_sent')
            and (to_jsonb(v) ->> t.key)::numeric > (t.value #>> '{}')::numeric
            and exists (select from public.live_stream_archive a
                         where a.session_id = v.session_id and a.chat_purged_at is not null))
union all
select 'message', m.id, 'replies_count', to_jsonb(m.replies_count), to_jsonb(truth.replies)
  from public.live_stream_chat m
  cross join lateral (
    select count(*) as replies from public.live_stream_chat a
     where a.parent_message_id = m.id and not a.is_deleted) as truth
 where m.replies_count <> truth.replies
union all
select 'message', m.id, 'reactions', m.reactions, truth.reactions
  from public.live_stream_chat m
  cross join lateral (
    select coalesce(jsonb_object_agg(reaction, n), '{}') as reactions
      from (select reaction, count(*) as n from public.live_stream_chat_reactions r
             where r.message_id = m.id group by reaction) as counted) as truth
 where m.reactions <> truth.reactions
"""


BEHIND = """
select s.id
  from public.live_stream_sessions s
 join live_stream.counted_metrics c on c.session_id = s.id
 cross join lateral (
   select coalesce(sum(viewers), 0) as viewers, coalesce(sum(unique_viewers), 0) as unique_viewers,
          coalesce(sum(watch_seconds), 0) as watch_seconds, coalesce(sum(messages), 0) as messages,
          coalesce(sum(reactions), 0) as reactions, coalesce(sum(shares), 0) as shares,
          coalesce(sum(products), 0) as products, coalesce(sum(clicks), 0) as clicks,
          coalesce(sum(orders), 0) as orders, coalesce(sum(revenue), 0) / 100.0 as revenue
     from live_stream.metric_changes p where p.session_id = s.id and p.row_id is null) as p
 where (s.current_viewers + p.viewers, s.total_unique_viewers + p.unique_viewers,
        s.total_watch_time_seconds + p.watch_seconds, s.total_messages + p.messages,
        s.total_reactions + p.reactions, s.total_shares + p.shares,
        s.total_products_showcased + p.products, s.total_clicks + p.clicks, s.total_orders + p.orders,
        s.total_revenue + p.revenue)
       is distinct from
       (c.current_viewers, c.total_unique_viewers, c.total_watch_time_seconds, c.total_messages,
        c.total_reactions, c.total_shares, c.total_products_showcased, c.total_clicks, c.total_orders,
        c.total_revenue)
"""


def unaccounted(db: Database) -> list[dict[str, Any]]:
    """The sessions whose numbers, with what is pending, are not those of the rows at this moment."""
    return db.sql(BEHIND)


REST_SECONDS = 20
HEARTBEAT = """
do $$ begin
  perform live_stream.heartbeat(gen_random_uuid());
exception when sqlstate 'PT404' then null;
end $$
"""


def rest(db: Database) -> None:
    """Waits until nothing is pending any more and no session is hot. Where no worker folds, something may be left of who
    has waited for a row in vain."""
    deadline = time.monotonic() + REST_SECONDS
    if db.value("select current_setting('live_stream.background_worker', true) = 'off'"):
        db.sql("select live_stream.flush_metrics()")
    while True:
        [status] = db.sql("select * from live_stream.metrics_status")
        if status["pending_changes"] == 0 and status["hot_sessions"] == 0:
            return
        assert time.monotonic() < deadline, f"not at rest after {REST_SECONDS} s: {status}"
        # As any heartbeat does, also one of nobody, it sees to a worker that was stopped.
        db.sql(HEARTBEAT)
        time.sleep(0.02)


def differences(db: Database) -> list[dict[str, Any]]:
    """Each number that the rows do not bear out, in one snapshot."""
    rest(db)
    found = db.sql(DIFFERENCES)
    known = {(difference["id"], difference["column"]) for difference in found}
    verified = db.sql("select session_id as id, counter as column, kept, counted as truth from live_stream.verify_metrics()")
    return found + [row | {"what": "session"} for row in verified if (row["id"], row["column"]) not in known]
