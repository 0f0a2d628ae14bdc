-- On top of bare: row triggers as migrations of this kind have them, which update the session twice.
create schema by_hand;

create function by_hand.viewer_joined() returns trigger language plpgsql as $$
begin
  update public.live_stream_sessions
     set current_viewers = current_viewers + 1, total_unique_viewers = total_unique_viewers + 1, updated_at = now()
   where id = new.session_id;
  update public.live_stream_sessions
     set peak_viewers = greatest(peak_viewers, current_viewers)
   where id = new.session_id;
  return new;
end $$;
create trigger viewer_joined after insert on public.live_stream_viewers
  for each row execute function by_hand.viewer_joined();

create function by_hand.viewer_left() returns trigger language plpgsql as $$
declare seconds integer := extract(epoch from new.left_at - new.joined_at);
begin
  update public.live_stream_sessions
     set current_viewers = current_viewers - 1, total_watch_time_seconds = total_watch_time_seconds + seconds,
         updated_at = now()
   where id = new.session_id;
  update public.live_stream_sessions
     set total_watch_time_minutes = total_watch_time_seconds / 60,
         average_watch_time_minutes = total_watch_time_seconds / 60.0 / greatest(total_unique_viewers, 1)
   where id = new.session_id;
  return new;
end $$;
create trigger viewer_left after update on public.live_stream_viewers
  for each row when (old.is_still_watching and not new.is_still_watching) execute function by_hand.viewer_left();

create function by_hand.message_sent() returns trigger language plpgsql as $$
begin
  update public.live_stream_sessions set total_messages = total_messages + 1 where id = new.session_id;
  update public.live_stream_sessions set updated_at = now() where id = new.session_id;
  update public.live_stream_viewers set messages_sent = messages_sent + 1 where id = new.viewer_id;
  return new;
end $$;
create trigger message_sent after insert on public.live_stream_chat
  for each row execute function by_hand.message_sent();

create function by_hand.reacted() returns trigger language plpgsql as $$
begin
  update public.live_stream_chat
     set reactions = reactions || jsonb_build_object(new.reaction, coalesce((reactions ->> new.reaction)::int, 0) + 1)
   where id = new.message_id;
  update public.live_stream_sessions set total_reactions = total_reactions + 1 where id = new.session_id;
  update public.live_stream_sessions set updated_at = now() where id = new.session_id;
  return new;
end $$;
create trigger reacted after insert on public.live_stream_chat_reactions
  for each row execute function by_hand.reacted();

create function by_hand.clicked() returns trigger language plpgsql as $$
begin
  update public.live_stream_sessions
     set total_clicks = total_clicks + new.clicks - old.clicks, updated_at = now()
   where id = new.session_id;
  update public.live_stream_sessions
     set conversion_rate = least(total_orders * 100.0 / greatest(total_unique_viewers, 1), 999.99)
   where id = new.session_id;
  return new;
end $$;
create trigger clicked after update on public.live_stream_products
  for each row when (old.clicks is distinct from new.clicks) execute function by_hand.clicked();
