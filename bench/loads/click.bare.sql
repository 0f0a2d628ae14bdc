\set p random((:first - 100000000000) * 10, (:last - 100000000000) * 10 + 9) + 100000000000
update public.live_stream_products set clicks = clicks + 1 where id = ('00000000-0000-4000-8001-' || :p)::uuid;
