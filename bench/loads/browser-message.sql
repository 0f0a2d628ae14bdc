\set n random(:first, :last)
\set u random(100000000000, 999999999999)
begin isolation level read committed read write;
select set_config('search_path', '"public", "extensions"', true),
       set_config('role', 'authenticated', true),
       set_config('request.jwt.claims', '{"aud": "authenticated", "role": "authenticated", "sub": "00000000-0000-4000-9000-' || :u || '"}', true),
       set_config('request.method', 'POST', true),
       set_config('request.path', '/rpc/live_stream_send_message', true),
       set_config('request.headers', '{"host": "localhost", "user-agent": "supabase-js/2"}', true),
       set_config('request.cookies', '{}', true);
with pgrst_source as (
  select pgrst_call.*
    from (select ('{"session_id": "00000000-0000-4000-8000-' || :n || '", "message": "How bright is it?", "username": "Ben"}')::json as json_data) pgrst_payload,
         lateral (select "session_id", "message", "username" from json_to_record(pgrst_payload.json_data)
                    as _("session_id" uuid, "message" text, "username" text) limit 1) pgrst_body,
         lateral public."live_stream_send_message"("session_id" := pgrst_body."session_id", "message" := pgrst_body."message",
                                                "username" := pgrst_body."username") pgrst_call)
select null::bigint as total_result_set, 1 as page_total, coalesce(json_agg(_postgrest_t)->0, 'null') as body,
       nullif(current_setting('response.headers', true), '') as response_headers,
       nullif(current_setting('response.status', true), '') as response_status
  from (select * from pgrst_source) _postgrest_t;
commit;
