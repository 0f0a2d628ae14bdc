\set v random(0, :viewers - 1)
\set n :first + :v % (:last - :first + 1)
\set v 100000000000 + :v
insert into public.live_stream_chat (session_id, viewer_id, user_id, message, username)
  values (('00000000-0000-4000-8000-' || :n)::uuid, ('00000000-0000-4000-8002-' || :v)::uuid, gen_random_uuid(),
          'How bright is it?', 'Ben');
