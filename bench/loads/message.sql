\set n random(:first, :last)
insert into public.live_stream_chat (session_id, user_id, message, username)
  values (('00000000-0000-4000-8000-' || :n)::uuid, gen_random_uuid(), 'How bright is it?', 'Ben');
