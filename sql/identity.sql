-- Who may call what of the engine: what policies and API functions need, and no more.

grant usage on schema live_stream to anon, authenticated, service_role;

grant execute on function live_stream.uid() to anon, authenticated, service_role;

grant execute on function live_stream.is_service() to anon, authenticated, service_role;

grant execute on function live_stream.viewer_id() to anon, authenticated, service_role;

grant execute on function live_stream.request_session_code() to anon, authenticated, service_role;

grant execute on function live_stream.fitting_text, live_stream.fitting_number
  to authenticated, service_role;

comment on function live_stream.fitting_text is
  'A text that is to go into a column of ours; an error that names it where it is too long.';
comment on function live_stream.fitting_number is
  'A number that is to go into a column of ours; an error that names it where it is too large.';
comment on function live_stream.uid() is
  'Id of the user who is calling, from the claims of the request; null for an anonymous request.';
comment on function live_stream.is_service() is
  'True for service_role, the owner of the tables and roles that pass row-level security by.';
comment on function live_stream.viewer_id() is
  'Viewer row that this request may act for: made in this transaction, or named by the header x-viewer-id.';
comment on function live_stream.request_session_code() is
  'Session code in the header x-session-code, in its normal form; null without one.';
comment on function live_stream.install() is
  'Makes the tables and functions of the API, or adds what they have gained; for the owner of the extension.';
