create type public.live_stream_exception as enum ('skip', 'move', 'add');
comment on type public.live_stream_exception is
  'What is different about one occurrence of a schedule: it is skipped, moved or retitled, or added.';

create table public.live_stream_schedule_exceptions (
  schedule_id uuid not null,
  original_starts_at timestamptz not null,
  kind public.live_stream_exception not null,
  starts_at timestamptz,
  ends_at timestamptz,
  title text,
  fits boolean not null default true,
  original_local_start timestamp not null,
  local_start timestamp,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint live_stream_schedule_exceptions_pkey primary key (schedule_id, original_starts_at),
  constraint live_stream_schedule_exceptions_schedule_id_fkey foreign key (schedule_id)
    references public.live_stream_schedule (id) on delete cascade,
  constraint live_stream_schedule_exceptions_title_check
    check (title ~ '[^[:space:]]' and char_length(title) <= 255),
  constraint live_stream_schedule_exceptions_times_check check (
    isfinite(original_starts_at) and isfinite(starts_at) and isfinite(ends_at)
    and (ends_at is null or ends_at > starts_at and ends_at <= starts_at + interval '7 days')
    and (starts_at is null) = (local_start is null)),
  constraint live_stream_schedule_exceptions_kind_check check (
    kind <> 'skip' or num_nonnulls(starts_at, ends_at, title) = 0)
);

comment on table public.live_stream_schedule_exceptions is
  'What is different about single occurrences of schedules: skipped, moved, retitled or added ones.';
comment on column public.live_stream_schedule_exceptions.schedule_id is 'Schedule of the occurrence.';
comment on column public.live_stream_schedule_exceptions.original_starts_at is
  'When the occurrence begins by the rule, which tells it from the others; of an added one, when it begins.';
comment on column public.live_stream_schedule_exceptions.kind is
  'skip: it does not take place. move: it has another time or title. add: the rule does not have it.';
comment on column public.live_stream_schedule_exceptions.starts_at is
  'When it begins instead; null is at its original start.';
comment on column public.live_stream_schedule_exceptions.ends_at is
  'When it ends; null is after the usual time. A week at most.';
comment on column public.live_stream_schedule_exceptions.title is 'Its own title; null is that of the schedule.';
comment on column public.live_stream_schedule_exceptions.fits is
  'Whether the schedule has such an occurrence. One that no longer does, after the rule was changed, is kept and has no effect. Kept by the database.';
comment on column public.live_stream_schedule_exceptions.original_local_start is
  'The original start by the clocks of the time zone; kept by the database.';
comment on column public.live_stream_schedule_exceptions.local_start is
  'starts_at by the clocks of the time zone; kept by the database.';
comment on column public.live_stream_schedule_exceptions.created_at is 'When the row was made.';
comment on column public.live_stream_schedule_exceptions.updated_at is 'When the row was last changed.';

create index live_stream_schedule_exceptions_original_local_start_idx
  on public.live_stream_schedule_exceptions (schedule_id, original_local_start);
create index live_stream_schedule_exceptions_local_start_idx
  on public.live_stream_schedule_exceptions (schedule_id, local_start) where local_start is not null;

comment on index public.live_stream_schedule_exceptions_original_local_start_idx is
  'Lets readers of schedules read the exceptions of a time alone: what was in it.';
comment on index public.live_stream_schedule_exceptions_local_start_idx is
  'Lets readers of schedules read the exceptions of a time alone: what was moved or added into it.';

alter table public.live_stream_schedule_exceptions enable row level security;

revoke all on table public.live_stream_schedule_exceptions from public, anon, authenticated, service_role;
grant select on table public.live_stream_schedule_exceptions to anon;
grant select, insert, update, delete on table public.live_stream_schedule_exceptions to authenticated;
grant select, insert, update, delete, truncate
  on table public.live_stream_schedule_exceptions to service_role;

-- As live_stream_chat_select.
create policy live_stream_schedule_exceptions_select on public.live_stream_schedule_exceptions
  for select to public
  using ((select true from public.live_stream_schedule s where s.id = schedule_id));
create policy live_stream_schedule_exceptions_insert on public.live_stream_schedule_exceptions
  for insert to public
  with check (
    (select live_stream.is_service())
    or schedule_id in (select s.id from public.live_stream_schedule s
                        where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])));
create policy live_stream_schedule_exceptions_update on public.live_stream_schedule_exceptions
  for update to public
  using (
    (select live_stream.is_service())
    or schedule_id in (select s.id from public.live_stream_schedule s
                        where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])))
  with check (
    (select live_stream.is_service())
    or schedule_id in (select s.id from public.live_stream_schedule s
                        where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])));
create policy live_stream_schedule_exceptions_delete on public.live_stream_schedule_exceptions
  for delete to public
  using (
    (select live_stream.is_service())
    or schedule_id in (select s.id from public.live_stream_schedule s
                        where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])));

create or replace trigger live_stream_schedule_exceptions_guard
  before insert or update on public.live_stream_schedule_exceptions
  for each row execute function live_stream.schedule_exceptions_guard();
create or replace trigger live_stream_schedule_exceptions_begin_update
  before update on public.live_stream_schedule_exceptions
  for each statement execute function live_stream.begin_update();
create or replace trigger live_stream_schedule_exceptions_settle_insert
  after insert on public.live_stream_schedule_exceptions
  referencing new table as new_rows
  for each statement execute function live_stream.schedule_exceptions_settle();
create or replace trigger live_stream_schedule_exceptions_settle_update
  after update on public.live_stream_schedule_exceptions
  referencing old table as old_rows new table as new_rows
  for each statement execute function live_stream.schedule_exceptions_settle();
create or replace trigger live_stream_schedule_exceptions_settle_delete
  after delete on public.live_stream_schedule_exceptions
  referencing old table as old_rows
  for each statement execute function live_stream.schedule_exceptions_settle();

create or replace function public.live_stream_skip_occurrence(
    schedule_id uuid, original_starts_at timestamptz)
  returns public.live_stream_schedule_exceptions
  language sql volatile set search_path = '' as $$
  select live_stream.require_own_schedule($1);
  insert into public.live_stream_schedule_exceptions as e (schedule_id, original_starts_at, kind)
  values ($1, $2, 'skip')
  on conflict on constraint live_stream_schedule_exceptions_pkey do update
    set kind = 'skip', starts_at = null, ends_at = null, title = null
  returning e.*
$$;
comment on function public.live_stream_skip_occurrence is
  'Calls off one occurrence of a schedule, which original_starts_at names, and returns the exception.';

create or replace function public.live_stream_move_occurrence(
    schedule_id uuid,
    original_starts_at timestamptz,
    starts_at timestamptz default null,
    ends_at timestamptz default null,
    title text default null)
  returns public.live_stream_schedule_exceptions
  language sql volatile set search_path = '' as $$
  select live_stream.require_own_schedule($1);
  insert into public.live_stream_schedule_exceptions as e
    (schedule_id, original_starts_at, kind, starts_at, ends_at, title)
  values ($1, $2, 'move', $3, $4, $5)
  on conflict on constraint live_stream_schedule_exceptions_pkey do update
    set kind = 'move', starts_at = $3, ends_at = $4, title = $5
  returning e.*
$$;
comment on function public.live_stream_move_occurrence is
  'Gives one occurrence of a schedule, which original_starts_at names, another time or title, and returns the exception. What is left out is as usual.';

create or replace function public.live_stream_add_occurrence(
    schedule_id uuid,
    starts_at timestamptz,
    ends_at timestamptz default null,
    title text default null)
  returns public.live_stream_schedule_exceptions
  language sql volatile set search_path = '' as $$
  select live_stream.require_own_schedule($1);
  insert into public.live_stream_schedule_exceptions as e
    (schedule_id, original_starts_at, kind, ends_at, title)
  values ($1, $2, 'add', $3, $4)
  on conflict on constraint live_stream_schedule_exceptions_pkey do update
    set kind = 'add', starts_at = null, ends_at = $3, title = $4
  returning e.*
$$;
comment on function public.live_stream_add_occurrence is
  'Adds an occurrence that the rule of a schedule does not have, and returns the exception. One that was added there already gets this end and title.';

create or replace function public.live_stream_restore_occurrence(
    schedule_id uuid, original_starts_at timestamptz)
  returns setof public.live_stream_schedule_exceptions
  language sql volatile set search_path = '' as $$
  select live_stream.require_own_schedule($1);
  delete from public.live_stream_schedule_exceptions e
   where e.schedule_id = $1 and e.original_starts_at = $2
  returning e.*
$$;
comment on function public.live_stream_restore_occurrence is
  'Undoes what was different about one occurrence of a schedule, and returns what that was; no row if it was nothing.';

revoke all on function public.live_stream_skip_occurrence, public.live_stream_move_occurrence,
  public.live_stream_add_occurrence, public.live_stream_restore_occurrence from public, anon;
grant execute on function public.live_stream_skip_occurrence, public.live_stream_move_occurrence,
  public.live_stream_add_occurrence, public.live_stream_restore_occurrence to authenticated, service_role;
