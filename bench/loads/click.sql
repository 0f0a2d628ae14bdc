\set p random((:first - 100000000000) * 10, (:last - 100000000000) * 10 + 9) + 100000000000
select live_stream.track_product(('00000000-0000-4000-8001-' || :p)::uuid, 'click', null);
