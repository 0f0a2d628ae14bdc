-- What supabase-js subscribes to, where Supabase's publication exists.

alter publication supabase_realtime add table public.live_stream_sessions;
alter publication supabase_realtime add table public.live_stream_viewers;
alter publication supabase_realtime add table public.live_stream_chat;
alter publication supabase_realtime add table public.live_stream_products;
