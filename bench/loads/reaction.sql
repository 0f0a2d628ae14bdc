\set m random(0, :messages - 1)
\set n :first + :m % (:last - :first + 1)
\set m 100000000000 + :m
insert into public.live_stream_chat_reactions (message_id, session_id, user_id, reaction)
  values (('00000000-0000-4000-8003-' || :m)::uuid, ('00000000-0000-4000-8000-' || :n)::uuid, gen_random_uuid(), '🔥');
