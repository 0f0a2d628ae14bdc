\set v random(0, :viewers - 1) + 100000000000
select live_stream.heartbeat(('00000000-0000-4000-8002-' || :v)::uuid);
