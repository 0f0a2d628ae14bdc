\set n random(:first, :last)
\set u random(100000000000, 999999999999)
begin isolation level read committed read write;
select set_config('search_path', '"public", "extensions"', true),
       set_config('role', 'service_role', true),
       set_config('request.jwt.claims', '{"aud": "authenticated", "role": "service_role", "sub": "00000000-0000-4000-9000-' || :u || '"}', true),
       set_config('request.method', 'POST', true),
       set_config('request.path', '/live_stream_chat', true),
       set_config('request.headers', '{"host": "localhost", "user-agent": "supabase-js/2"}', true),
       set_config('request.cookies', '{}', true);
with pgrst_source as (
  insert into public.live_stream_chat ("session_id", "user_id", "message", "username")
    select "session_id", "user_id", "message", "username"
      from (select ('{"session_id": "00000000-0000-4000-8000-' || :n || '", "user_id": "00000000-0000-4000-9000-' || :u || '", "message": "How bright is it?", "username": "Ben"}')::json as json_data) pgrst_payload,
           lateral (select "session_id", "user_id", "message", "username" from json_to_record(pgrst_payload.json_data)
                      as _("session_id" uuid, "user_id" uuid, "message" text, "username" text)) pgrst_body
    returning public.live_stream_chat.*)
select '' as total_result_set, count(_postgrest_t) as page_total, array[]::text[] as header,
       coalesce(json_agg(_postgrest_t), '[]') as body,
       nullif(current_setting('response.headers', true), '') as response_headers,
       nullif(current_setting('response.status', true), '') as response_status
  from (select * from pgrst_source) _postgrest_t;
commit;
