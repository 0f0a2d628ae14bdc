insert into public.live_stream_viewers (session_id, user_id, watching_since)
  values (('00000000-0000-4000-8000-' || :first)::uuid, gen_random_uuid(), now()) returning id as viewer \gset
select live_stream.heartbeat(:viewer);
insert into public.live_stream_chat (session_id, viewer_id, user_id, message, username)
  values (('00000000-0000-4000-8000-' || :first)::uuid, :viewer, gen_random_uuid(), 'How bright is it?', 'Ben');
select live_stream.heartbeat(:viewer);
update public.live_stream_viewers set is_still_watching = false, left_at = now(), watching_since = null
  where id = :viewer;
