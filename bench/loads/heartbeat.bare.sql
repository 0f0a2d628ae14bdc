\set v random(0, :viewers - 1) + 100000000000
update public.live_stream_heartbeats set seen_at = now()
  where viewer_id = ('00000000-0000-4000-8002-' || :v)::uuid;
