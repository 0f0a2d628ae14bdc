create table public.live_stream_schedule_sessions (
  schedule_id uuid not null,
  original_local_start timestamp not null,
  original_starts_at timestamptz not null,
  session_id uuid,
  starts_at timestamptz not null,
  ends_at timestamptz not null,
  title text not null,
  created_at timestamptz not null default now(),
  constraint live_stream_schedule_sessions_pkey primary key (schedule_id, original_local_start),
  constraint live_stream_schedule_sessions_session_id_key unique (session_id),
  constraint live_stream_schedule_sessions_schedule_id_fkey foreign key (schedule_id)
    references public.live_stream_schedule (id) on delete cascade,
  constraint live_stream_schedule_sessions_session_id_fkey foreign key (session_id)
    references public.live_stream_sessions (id) on delete set null
);

comment on table public.live_stream_schedule_sessions is
  'Sessions that were made for occurrences of schedules. Kept by the database; seen with the session.';
comment on column public.live_stream_schedule_sessions.schedule_id is 'Schedule of the occurrence.';
comment on column public.live_stream_schedule_sessions.original_local_start is
  'When the occurrence begins by the rule and the clocks of the time zone, which tells it from the others.';
comment on column public.live_stream_schedule_sessions.original_starts_at is
  'The same as a moment, when the session was made.';
comment on column public.live_stream_schedule_sessions.session_id is
  'Session; null when it was deleted after its time.';
comment on column public.live_stream_schedule_sessions.starts_at is 'When the occurrence begins, as the session was told, or says.';
comment on column public.live_stream_schedule_sessions.ends_at is 'When the occurrence ends, as the session was told, or says.';
comment on column public.live_stream_schedule_sessions.title is 'Title of the occurrence, as the session was told.';
comment on column public.live_stream_schedule_sessions.created_at is 'When the session was made.';

create index live_stream_schedule_sessions_ends_at_idx
  on public.live_stream_schedule_sessions (schedule_id, ends_at);

alter table public.live_stream_schedule_sessions enable row level security;

revoke all on table public.live_stream_schedule_sessions from public, anon, authenticated, service_role;
grant select on table public.live_stream_schedule_sessions to anon, authenticated;
grant select, insert, update, delete, truncate on table public.live_stream_schedule_sessions to service_role;

-- As live_stream_chat_select.
create policy live_stream_schedule_sessions_select on public.live_stream_schedule_sessions
  for select to public
  using ((select live_stream.is_service())
         or (select true from public.live_stream_sessions s where s.id = session_id));
create policy live_stream_schedule_sessions_insert on public.live_stream_schedule_sessions
  for insert to public with check ((select live_stream.is_service()));
create policy live_stream_schedule_sessions_update on public.live_stream_schedule_sessions
  for update to public
  using ((select live_stream.is_service())) with check ((select live_stream.is_service()));
create policy live_stream_schedule_sessions_delete on public.live_stream_schedule_sessions
  for delete to public using ((select live_stream.is_service()));

create or replace trigger live_stream_schedule_sessions_guard
  before insert on public.live_stream_schedule_sessions
  for each row execute function live_stream.fill_in();
create or replace trigger live_stream_schedule_sessions_settle
  after delete on public.live_stream_schedule_sessions
  referencing old table as old_rows
  for each statement execute function live_stream.schedule_sessions_settle();

-- Those of a statement are noted one by one, and settled together.
create or replace trigger live_stream_sessions_note
  after update of status, scheduled_start_time, scheduled_end_time on public.live_stream_sessions
  for each row execute function live_stream.sessions_note();
create or replace trigger live_stream_sessions_note_deleted
  before delete on public.live_stream_sessions
  for each row execute function live_stream.sessions_note_deleted();
create or replace trigger live_stream_sessions_settle_update
  after update of status, scheduled_start_time, scheduled_end_time on public.live_stream_sessions
  for each statement execute function live_stream.sessions_settle();
create or replace trigger live_stream_sessions_settle_delete
  after delete on public.live_stream_sessions
  for each statement execute function live_stream.sessions_settle();

comment on function live_stream.sessions_note is
  'Trigger: notes a session that was cancelled, has ended or has another time.';
comment on function live_stream.sessions_note_deleted is
  'Trigger: notes the schedule of a session that is being deleted.';
comment on function live_stream.sessions_settle is
  'Trigger: says of occurrences what was done with their sessions.';
