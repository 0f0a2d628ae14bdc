\set v 100000000000 + :client_id + :connections * :left
\set left :left + 1
update public.live_stream_viewers set is_still_watching = false, left_at = now(), watching_since = null
  where id = ('00000000-0000-4000-8002-' || :v)::uuid;
