\set v random(0, :viewers - 1) + 100000000000
begin isolation level read committed read write;
select set_config('search_path', '"public", "extensions"', true),
       set_config('role', 'authenticated', true),
       set_config('request.jwt.claims', '{"aud": "authenticated", "role": "authenticated", "sub": "00000000-0000-4000-9000-' || :v || '"}', true),
       set_config('request.method', 'POST', true),
       set_config('request.path', '/rpc/live_stream_heartbeat', true),
       set_config('request.headers', '{"host": "localhost", "user-agent": "supabase-js/2"}', true),
       set_config('request.cookies', '{}', true);
with pgrst_source as (
  select pgrst_call.*
    from (select ('{"viewer_id": "00000000-0000-4000-8002-' || :v || '"}')::json as json_data) pgrst_payload,
         lateral (select "viewer_id" from json_to_record(pgrst_payload.json_data) as _("viewer_id" uuid) limit 1) pgrst_body,
         lateral public."live_stream_heartbeat"("viewer_id" := pgrst_body."viewer_id") pgrst_call)
select null::bigint as total_result_set, 1 as page_total, coalesce(json_agg(_postgrest_t)->0, 'null') as body,
       nullif(current_setting('response.headers', true), '') as response_headers,
       nullif(current_setting('response.status', true), '') as response_status
  from (select * from pgrst_source) _postgrest_t;
commit;
