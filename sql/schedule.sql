create type public.live_stream_recurrence as enum ('daily', 'weekly', 'monthly', 'custom');
comment on type public.live_stream_recurrence is 'How often a recurring schedule takes place.';

create type public.live_stream_schedule_status as enum
  ('scheduled', 'confirmed', 'cancelled', 'completed');
comment on type public.live_stream_schedule_status is
  'Whether a schedule still counts: scheduled and confirmed ones are upcoming.';

create table public.live_stream_schedule (
  id uuid not null default gen_random_uuid(),
  influencer_id uuid not null,
  title text not null,
  description text,
  thumbnail_url text,
  scheduled_date date not null,
  scheduled_start_time time not null,
  scheduled_end_time time,
  timezone varchar not null default 'UTC',
  is_recurring boolean not null default false,
  recurrence_pattern public.live_stream_recurrence,
  recurrence_end_date date,
  days_of_week integer[],
  products_to_showcase uuid[],
  stream_category text,
  expected_duration_minutes integer,
  target_audience text,
  promotion_message text,
  is_promoted boolean not null default false,
  notification_sent boolean not null default false,
  reminder_sent boolean not null default false,
  status public.live_stream_schedule_status not null default 'scheduled',
  created_session_id uuid,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint live_stream_schedule_pkey primary key (id),
  constraint live_stream_schedule_created_session_id_fkey foreign key (created_session_id)
    references public.live_stream_sessions (id) on delete set null,
  constraint live_stream_schedule_title_check
    check (title ~ '[^[:space:]]' and char_length(title) <= 255),
  constraint live_stream_schedule_texts_check check (
    char_length(description) <= 10000 and char_length(thumbnail_url) <= 2048
    and char_length(stream_category) <= 255 and char_length(target_audience) <= 2000
    and char_length(promotion_message) <= 2000),
  constraint live_stream_schedule_date_check
    check (scheduled_date between '0001-01-01' and '9999-12-31'),
  constraint live_stream_schedule_time_check
    check (scheduled_start_time < '24:00' and scheduled_end_time <> scheduled_start_time),
  constraint live_stream_schedule_timezone_check check (timezone <> ''),
  constraint live_stream_schedule_duration_check
    check (expected_duration_minutes between 1 and 10080),
  constraint live_stream_schedule_recurrence_check check (
    not is_recurring
    or (recurrence_pattern is not null
        and (recurrence_end_date is null
             or recurrence_end_date between scheduled_date and '9999-12-31'))),
  constraint live_stream_schedule_days_of_week_check
    check (days_of_week <@ '{0,1,2,3,4,5,6}' and cardinality(days_of_week) <= 7),
  constraint live_stream_schedule_products_check check (
    cardinality(products_to_showcase) <= 500 and array_position(products_to_showcase, null) is null)
);

comment on table public.live_stream_schedule is
  'When streams are to take place, once or again and again, in the time of their own zone.';
comment on column public.live_stream_schedule.id is 'Id of the schedule.';
comment on column public.live_stream_schedule.influencer_id is 'Influencer who streams; cannot be changed.';
comment on column public.live_stream_schedule.title is 'Title, 1 to 255 characters.';
comment on column public.live_stream_schedule.description is
  'What the stream is about, up to 10,000 characters.';
comment on column public.live_stream_schedule.thumbnail_url is 'Address of a preview picture.';
comment on column public.live_stream_schedule.scheduled_date is
  'Date on which it takes place; for a recurring schedule the first date that it may.';
comment on column public.live_stream_schedule.scheduled_start_time is
  'When it begins, by the clocks of the time zone. A time that they skip counts on from before the gap; one that they show twice is the first.';
comment on column public.live_stream_schedule.scheduled_end_time is
  'When it ends, by the same clocks; earlier than the start is on the next day. Null: expected_duration_minutes after the start, or else an hour.';
comment on column public.live_stream_schedule.timezone is
  'Time zone, an IANA name that the server knows, such as Europe/Berlin.';
comment on column public.live_stream_schedule.is_recurring is
  'Whether it takes place again; false is once, whatever recurrence_pattern says.';
comment on column public.live_stream_schedule.recurrence_pattern is
  'daily; weekly, on days_of_week; monthly, on the day of the month of scheduled_date, leaving out months without it. custom is not supported yet.';
comment on column public.live_stream_schedule.recurrence_end_date is
  'Last date on which it may begin, inclusive; null is for ever.';
comment on column public.live_stream_schedule.days_of_week is
  'Days of a weekly schedule, 0 (Sunday) to 6 (Saturday), sorted; empty or null is the day of scheduled_date.';
comment on column public.live_stream_schedule.products_to_showcase is 'Products to show, up to 500.';
comment on column public.live_stream_schedule.stream_category is 'What kind of stream it is.';
comment on column public.live_stream_schedule.expected_duration_minutes is
  'How long it lasts, 1 to 10,080 minutes (a week); counts where there is no scheduled_end_time.';
comment on column public.live_stream_schedule.target_audience is 'Whom it is for.';
comment on column public.live_stream_schedule.promotion_message is 'What to announce it with.';
comment on column public.live_stream_schedule.is_promoted is 'Whether it is to be promoted.';
comment on column public.live_stream_schedule.notification_sent is 'Whether followers have been told of it.';
comment on column public.live_stream_schedule.reminder_sent is 'Whether followers have been reminded of it.';
comment on column public.live_stream_schedule.status is
  'scheduled and confirmed are upcoming; cancelled and completed are not.';
comment on column public.live_stream_schedule.created_session_id is
  'Session that was made for it, one of the same influencer. Everybody can read it, and so open an unlisted session.';
comment on column public.live_stream_schedule.created_at is 'When the row was made.';
comment on column public.live_stream_schedule.updated_at is 'When the row was last changed.';

alter table public.live_stream_schedule add constraint live_stream_schedule_influencer_id_fkey
  foreign key (influencer_id) references public.influencers (id) on delete cascade;

create index live_stream_schedule_influencer_id_idx
  on public.live_stream_schedule (influencer_id, scheduled_date);
create index live_stream_schedule_created_session_id_idx
  on public.live_stream_schedule (created_session_id) where created_session_id is not null;
create index live_stream_schedule_last_date_idx on public.live_stream_schedule
  ((case when is_recurring then coalesce(recurrence_end_date, 'infinity') else scheduled_date end))
  where status in ('scheduled', 'confirmed');

comment on index public.live_stream_schedule_last_date_idx is
  'Lets upcoming_streams pass by what is over.';

alter table public.live_stream_schedule enable row level security;

revoke all on table public.live_stream_schedule from public;
revoke all on table public.live_stream_schedule from anon;
revoke all on table public.live_stream_schedule from authenticated;
revoke all on table public.live_stream_schedule from service_role;
grant select on table public.live_stream_schedule to anon;
grant select, insert, update, delete on table public.live_stream_schedule to authenticated;
grant all on table public.live_stream_schedule to service_role;

create policy live_stream_schedule_select on public.live_stream_schedule
  for select to public using (true);
create policy live_stream_schedule_insert on public.live_stream_schedule
  for insert to public
  with check (influencer_id = any ((select live_stream.influencer_ids())::uuid[])
              or (select live_stream.is_service()));
create policy live_stream_schedule_update on public.live_stream_schedule
  for update to public
  using (influencer_id = any ((select live_stream.influencer_ids())::uuid[])
         or (select live_stream.is_service()))
  with check (influencer_id = any ((select live_stream.influencer_ids())::uuid[])
              or (select live_stream.is_service()));
create policy live_stream_schedule_delete on public.live_stream_schedule
  for delete to public
  using (influencer_id = any ((select live_stream.influencer_ids())::uuid[])
         or (select live_stream.is_service()));

create or replace trigger live_stream_schedule_guard
  before insert or update on public.live_stream_schedule
  for each row execute function live_stream.schedule_guard();

-- A stream lasts a week at most and may end a day later; no zone is a whole day from UTC.
create or replace view public.upcoming_streams with (security_invoker = true) as
  select s.id, s.influencer_id, s.title, s.description, s.thumbnail_url, s.scheduled_date,
         s.scheduled_start_time, s.scheduled_end_time, s.timezone, s.is_recurring,
         s.recurrence_pattern, s.recurrence_end_date, s.days_of_week, s.products_to_showcase,
         s.stream_category, s.expected_duration_minutes, s.target_audience, s.promotion_message,
         s.is_promoted, s.notification_sent, s.reminder_sent, s.status, s.created_session_id,
         s.created_at, s.updated_at,
         i.display_name, i.followers_count, i.avatar_url,
         o.starts_at as full_start_datetime, o.ends_at as full_end_datetime
    from public.live_stream_schedule s
   cross join lateral live_stream.next_occurrence(
           scheduled_date => s.scheduled_date,
           scheduled_start_time => s.scheduled_start_time,
           scheduled_end_time => s.scheduled_end_time,
           timezone => s.timezone,
           is_recurring => s.is_recurring,
           recurrence_pattern => s.recurrence_pattern::text,
           days_of_week => s.days_of_week,
           recurrence_end_date => s.recurrence_end_date,
           expected_duration_minutes => s.expected_duration_minutes,
           after => now()) o
    left join live_stream.influencer_cards i on i.id = s.influencer_id
   where s.status in ('scheduled', 'confirmed')
     and case when s.is_recurring then coalesce(s.recurrence_end_date, 'infinity') else s.scheduled_date end
         >= (now() at time zone 'UTC')::date - 9;
comment on view public.upcoming_streams is
  'Schedules with an occurrence still to come, or on right now, with the public details of their influencer.';
comment on column public.upcoming_streams.full_start_datetime is
  'When the next occurrence begins; of one that is on right now, when it began.';
comment on column public.upcoming_streams.full_end_datetime is 'When that occurrence ends.';

revoke all on table public.upcoming_streams from public;
revoke all on table public.upcoming_streams from anon;
revoke all on table public.upcoming_streams from authenticated;
revoke all on table public.upcoming_streams from service_role;
grant select on table public.upcoming_streams to anon;
grant select on table public.upcoming_streams to authenticated;
grant select on table public.upcoming_streams to service_role;

create or replace function public.live_stream_schedule_create(
    title text,
    scheduled_date date,
    scheduled_start_time time,
    scheduled_end_time time default null,
    influencer_id uuid default null,
    timezone text default 'UTC',
    is_recurring boolean default false,
    recurrence_pattern public.live_stream_recurrence default null,
    days_of_week integer[] default null,
    recurrence_end_date date default null,
    description text default null,
    thumbnail_url text default null,
    products_to_showcase uuid[] default null,
    stream_category text default null,
    expected_duration_minutes integer default null,
    target_audience text default null,
    promotion_message text default null,
    is_promoted boolean default false)
  returns public.live_stream_schedule
  language sql volatile set search_path = '' as $$
  insert into public.live_stream_schedule as s
    (title, scheduled_date, scheduled_start_time, scheduled_end_time, influencer_id, timezone,
     is_recurring, recurrence_pattern, days_of_week, recurrence_end_date, description,
     thumbnail_url, products_to_showcase, stream_category, expected_duration_minutes,
     target_audience, promotion_message, is_promoted)
  values
    ($1, $2, $3, $4, coalesce($5, (live_stream.influencer_ids())[1]), $6, $7, $8, $9, $10, $11,
     $12, $13, $14, $15, $16, $17, $18)
  returning s.*
$$;
comment on function public.live_stream_schedule_create is
  'Schedules a stream of the caller''s influencer, once or recurring, and returns the schedule.';

create or replace function public.live_stream_schedule_cancel(schedule_id uuid)
  returns public.live_stream_schedule
  language sql volatile set search_path = '' as $$
  select live_stream.require_own_schedule($1);
  update public.live_stream_schedule s set status = 'cancelled' where s.id = $1 returning s.*
$$;
comment on function public.live_stream_schedule_cancel is
  'Cancels a schedule with all its occurrences and returns it.';

create or replace function public.live_stream_occurrences(
    schedule_id uuid, range_start timestamptz, range_end timestamptz)
  returns table (starts_at timestamptz, ends_at timestamptz)
  language sql stable parallel safe set search_path = '' as $$
  select live_stream.require_schedule($1);
  select o.starts_at, o.ends_at
    from public.live_stream_schedule s
   cross join lateral live_stream.occurrences(
           scheduled_date => s.scheduled_date,
           scheduled_start_time => s.scheduled_start_time,
           scheduled_end_time => s.scheduled_end_time,
           timezone => s.timezone,
           is_recurring => s.is_recurring,
           recurrence_pattern => s.recurrence_pattern::text,
           days_of_week => s.days_of_week,
           recurrence_end_date => s.recurrence_end_date,
           expected_duration_minutes => s.expected_duration_minutes,
           range_start => $2,
           range_end => $3) o
   where s.id = $1
$$;
comment on function public.live_stream_occurrences is
  'When a schedule takes place: its occurrences that overlap the time from range_start to before range_end, in order.';

create or replace function public.live_stream_upcoming(
    influencer_id uuid default null, max_rows integer default 20)
  returns setof public.upcoming_streams
  language sql stable parallel safe set search_path = '' as $$
  select u.* from public.upcoming_streams u
   where $1 is null or u.influencer_id = $1
   order by u.full_start_datetime, u.id
   limit least(greatest(coalesce($2, 20), 0), 1000)
$$;
comment on function public.live_stream_upcoming is
  'Streams still to come or on right now, soonest first, of one influencer or of all; up to max_rows, 1,000 at most.';

comment on function live_stream.occurrences is
  'Occurrences of a schedule with these fields that overlap a range, in order.';
comment on function live_stream.next_occurrence is
  'First occurrence of a schedule with these fields that ends after a moment; no row without one.';
comment on function live_stream.require_schedule is
  'Nothing if the caller may see the schedule; an error that says so otherwise.';
comment on function live_stream.require_own_schedule is
  'Nothing if the caller may change the schedule; an error that says why not otherwise.';
comment on function live_stream.schedule_guard is
  'Trigger: checks a schedule and brings it to its form.';

grant execute on function live_stream.occurrences, live_stream.next_occurrence,
  live_stream.require_schedule to anon;
grant execute on function live_stream.occurrences, live_stream.next_occurrence,
  live_stream.require_schedule, live_stream.require_own_schedule to authenticated;
grant execute on function live_stream.occurrences, live_stream.next_occurrence,
  live_stream.require_schedule, live_stream.require_own_schedule to service_role;

revoke all on function public.live_stream_schedule_create, public.live_stream_schedule_cancel,
  public.live_stream_occurrences, public.live_stream_upcoming from public;
revoke all on function public.live_stream_schedule_create, public.live_stream_schedule_cancel from anon;
grant execute on function public.live_stream_occurrences, public.live_stream_upcoming to anon;
grant execute on function public.live_stream_schedule_create, public.live_stream_schedule_cancel,
  public.live_stream_occurrences, public.live_stream_upcoming to authenticated;
grant execute on function public.live_stream_schedule_create, public.live_stream_schedule_cancel,
  public.live_stream_occurrences, public.live_stream_upcoming to service_role;
