\set v random(0, :viewers - 1) + 100000000000
begin isolation level read committed read write;
select set_config('search_path', '"public", "extensions"', true),
       set_config('role', 'service_role', true),
       set_config('request.jwt.claims', '{"aud": "authenticated", "role": "service_role", "sub": "00000000-0000-4000-9000-' || :v || '"}', true),
       set_config('request.method', 'PATCH', true),
       set_config('request.path', '/live_stream_heartbeats', true),
       set_config('request.headers', '{"host": "localhost", "user-agent": "supabase-js/2"}', true),
       set_config('request.cookies', '{}', true);
with pgrst_source as (
  update public.live_stream_heartbeats set "seen_at" = pgrst_body."seen_at"
    from (select '{"seen_at": "now"}'::json as json_data) pgrst_payload,
         lateral (select "seen_at" from json_to_record(pgrst_payload.json_data) as _("seen_at" timestamptz)) pgrst_body
   where public.live_stream_heartbeats.viewer_id = ('00000000-0000-4000-8002-' || :v)::uuid
  returning public.live_stream_heartbeats.*)
select '' as total_result_set, count(_postgrest_t) as page_total, array[]::text[] as header,
       coalesce(json_agg(_postgrest_t), '[]') as body,
       nullif(current_setting('response.headers', true), '') as response_headers,
       nullif(current_setting('response.status', true), '') as response_status
  from (select * from pgrst_source) _postgrest_t;
commit;
