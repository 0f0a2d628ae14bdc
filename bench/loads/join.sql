\set n random(:first, :last)
insert into public.live_stream_viewers (session_id, user_id, watching_since)
  values (('00000000-0000-4000-8000-' || :n)::uuid, gen_random_uuid(), now());
