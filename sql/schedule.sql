create type public.live_stream_recurrence as enum ('daily', 'weekly', 'monthly', 'custom');
comment on type public.live_stream_recurrence is 'How often a recurring schedule takes place.';

create type public.live_stream_schedule_status as enum
  ('scheduled', 'confirmed', 'cancelled', 'completed');
comment on type public.live_stream_schedule_status is
  'Whether a schedule still counts: scheduled and confirmed ones are upcoming.';

create domain live_stream."*/*" as text;
comment on domain live_stream."*/*" is
  'What PostgREST sends as it is, whatever media type was asked for; which one it is, response.headers says.';

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
  recurrence_rule text,
  visibility public.live_stream_visibility not null default 'public',
  last_start timestamp,
  has_exceptions boolean not null default false,
  ended_starts_at timestamptz[] not null default '{}',
  sequence integer not null default 0,
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
    is_recurring = (recurrence_rule is not null)
    and (not is_recurring
         or (recurrence_pattern is not null
             and (recurrence_end_date is null
                  or recurrence_end_date between scheduled_date and '9999-12-31')))),
  constraint live_stream_schedule_rule_check check (length(recurrence_rule) <= 4000),
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
  'daily; weekly, on days_of_week; monthly, on the day of the month of scheduled_date, leaving out months without it; custom, as recurrence_rule says.';
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
comment on column public.live_stream_schedule.notification_sent is
  'Whether followers have been told that the session of created_session_id is live; kept by the database.';
comment on column public.live_stream_schedule.reminder_sent is
  'Whether followers have been reminded of the session of created_session_id; kept by the database.';
comment on column public.live_stream_schedule.status is
  'scheduled and confirmed are upcoming; cancelled and completed are not.';
comment on column public.live_stream_schedule.created_session_id is
  'Session that was made for its next occurrence, one of the same influencer. A public schedule names no session that is not public.';
comment on column public.live_stream_schedule.recurrence_rule is
  'How often it takes place, as a rule of RFC 5545 such as FREQ=MONTHLY;BYDAY=1MO, in the time of the time zone. It and the fields above always say the same: what is written last counts. Null: once.';
comment on column public.live_stream_schedule.visibility is
  'public: everybody sees it. private and unlisted: its owner alone. Its sessions are made with the same.';
comment on column public.live_stream_schedule.last_start is
  'By the clocks of the time zone, after which it does not begin any more; null is never. Kept by the database.';
comment on column public.live_stream_schedule.has_exceptions is
  'Whether live_stream_schedule_exceptions has rows for it; kept by the database.';
comment on column public.live_stream_schedule.ended_starts_at is
  'Occurrences that are over before their end, since their session has ended: their original_starts_at. Kept by the database.';
comment on column public.live_stream_schedule.sequence is
  'How often it or an exception of it was changed: the SEQUENCE of RFC 5545 in calendars. Kept by the database.';
comment on column public.live_stream_schedule.created_at is 'When the row was made.';
comment on column public.live_stream_schedule.updated_at is 'When the row was last changed.';

alter table public.live_stream_schedule add constraint live_stream_schedule_influencer_id_fkey
  foreign key (influencer_id) references public.influencers (id) on delete cascade;

create index live_stream_schedule_influencer_id_idx
  on public.live_stream_schedule (influencer_id, scheduled_date);
create index live_stream_schedule_influencer_id_id_idx
  on public.live_stream_schedule (influencer_id, id);
create index live_stream_schedule_created_session_id_idx
  on public.live_stream_schedule (created_session_id) where created_session_id is not null;
create index live_stream_schedule_last_start_idx on public.live_stream_schedule
  ((case when has_exceptions then 'infinity' else coalesce(last_start, 'infinity') end))
  where status in ('scheduled', 'confirmed');

comment on index public.live_stream_schedule_last_start_idx is
  'Lets upcoming_streams pass by what is over.';

create unlogged table live_stream.schedule_turns (
  the_one boolean not null default true,
  began_at timestamptz not null,
  reached uuid,
  is_through boolean not null,
  influencers uuid[] not null,
  schedules uuid[] not null,
  constraint schedule_turns_pkey primary key (the_one)
) with (fillfactor = 20);

comment on table live_stream.schedule_turns is
  'Where it is that sessions are made of schedules: influencers take turns. One row, kept by live_stream alone; without it, and after a crash, a round begins.';
comment on column live_stream.schedule_turns.the_one is 'True: there is one row.';
comment on column live_stream.schedule_turns.began_at is 'When the round began.';
comment on column live_stream.schedule_turns.reached is 'Influencer who had its first turn last; null where the round begins.';
comment on column live_stream.schedule_turns.is_through is 'Whether all influencers have had their first turn.';
comment on column live_stream.schedule_turns.influencers is 'Influencers who wait for another turn, in order.';
comment on column live_stream.schedule_turns.schedules is 'For each of these the schedule that was looked at last.';

alter table live_stream.schedule_turns enable row level security;

revoke all on table live_stream.schedule_turns from public, anon, authenticated, service_role;
grant select, delete on table live_stream.schedule_turns to service_role;

create policy schedule_turns_select on live_stream.schedule_turns
  for select to public using ((select live_stream.is_service()));
create policy schedule_turns_delete on live_stream.schedule_turns
  for delete to public using ((select live_stream.is_service()));

alter table public.live_stream_schedule enable row level security;

revoke all on table public.live_stream_schedule from public, anon, authenticated, service_role;
grant select on table public.live_stream_schedule to anon;
grant select, insert, update, delete on table public.live_stream_schedule to authenticated;
grant select, insert, update, delete, truncate on table public.live_stream_schedule to service_role;

create policy live_stream_schedule_select on public.live_stream_schedule
  for select to public
  using (visibility = 'public'
         or influencer_id = any ((select live_stream.influencer_ids())::uuid[])
         or (select live_stream.is_service()));
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
create or replace trigger live_stream_schedule_begin_update
  before update on public.live_stream_schedule
  for each statement execute function live_stream.begin_update();
create or replace trigger live_stream_schedule_count
  after insert on public.live_stream_schedule
  referencing new table as new_rows
  for each statement execute function live_stream.schedule_count();
create or replace trigger live_stream_schedule_settle
  after update on public.live_stream_schedule
  for each row execute function live_stream.schedule_settle();
create or replace trigger live_stream_schedule_looks
  after update on public.live_stream_schedule
  referencing old table as old_rows new table as new_rows
  for each statement execute function live_stream.schedule_looks();

-- A stream lasts a week at most and may end a day later; no zone is a whole day from UTC.
create or replace view public.upcoming_streams with (security_invoker = true) as
  select s.id, s.influencer_id, coalesce(o.title, s.title) as title, s.description, s.thumbnail_url,
         s.scheduled_date, s.scheduled_start_time, s.scheduled_end_time, s.timezone, s.is_recurring,
         s.recurrence_pattern, s.recurrence_end_date, s.days_of_week, s.products_to_showcase,
         s.stream_category, s.expected_duration_minutes, s.target_audience, s.promotion_message,
         s.is_promoted, s.notification_sent, s.reminder_sent, s.status, s.created_session_id,
         s.recurrence_rule, s.visibility, s.last_start, s.has_exceptions, s.ended_starts_at,
         s.sequence, s.created_at, s.updated_at, i.display_name, i.followers_count, i.avatar_url,
         o.starts_at as full_start_datetime, o.ends_at as full_end_datetime
    from public.live_stream_schedule s
   cross join lateral live_stream.next_occurrence(
           schedule_id => s.id,
           influencer_id => s.influencer_id,
           scheduled_date => s.scheduled_date,
           scheduled_start_time => s.scheduled_start_time,
           scheduled_end_time => s.scheduled_end_time,
           timezone => s.timezone,
           recurrence_rule => s.recurrence_rule,
           last_start => s.last_start,
           expected_duration_minutes => s.expected_duration_minutes,
           has_exceptions => s.has_exceptions,
           after => now(),
           ended_starts_at => s.ended_starts_at) o
    left join live_stream.influencer_cards i on i.id = s.influencer_id
   where s.status in ('scheduled', 'confirmed')
     and case when s.has_exceptions then 'infinity' else coalesce(s.last_start, 'infinity') end
         >= (now() at time zone 'UTC') - interval '9 days';
comment on view public.upcoming_streams is
  'Schedules with an occurrence still to come, or on right now and not ended, with the public details of their influencer.';
comment on column public.upcoming_streams.full_start_datetime is
  'When the next occurrence begins; of one that is on right now, when it began.';
comment on column public.upcoming_streams.full_end_datetime is 'When that occurrence ends.';

revoke all on table public.upcoming_streams from public, anon, authenticated, service_role;
grant select on table public.upcoming_streams to anon, authenticated, service_role;

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
    is_promoted boolean default false,
    recurrence_rule text default null,
    visibility public.live_stream_visibility default 'public')
  returns public.live_stream_schedule
  language sql volatile set search_path = '' as $$
  insert into public.live_stream_schedule as s
    (title, scheduled_date, scheduled_start_time, scheduled_end_time, influencer_id, timezone,
     is_recurring, recurrence_pattern, days_of_week, recurrence_end_date, description,
     thumbnail_url, products_to_showcase, stream_category, expected_duration_minutes,
     target_audience, promotion_message, is_promoted, recurrence_rule, visibility)
  values
    ($1, $2, $3, $4, coalesce($5, (live_stream.influencer_ids())[1]), $6, $7, $8, $9, $10, $11,
     $12, $13, $14, $15, $16, $17, $18, $19, $20)
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
  returns table (starts_at timestamptz, ends_at timestamptz, original_starts_at timestamptz,
                 status public.live_stream_schedule_status, title text)
  language sql stable parallel safe set search_path = '' as $$
  select live_stream.require_schedule($1);
  select o.starts_at, o.ends_at, o.original_starts_at,
         case when o.is_skipped then 'cancelled' else s.status end, coalesce(o.title, s.title)
    from public.live_stream_schedule s
   cross join lateral live_stream.occurrences(
           schedule_id => s.id,
           scheduled_date => s.scheduled_date,
           scheduled_start_time => s.scheduled_start_time,
           scheduled_end_time => s.scheduled_end_time,
           timezone => s.timezone,
           recurrence_rule => s.recurrence_rule,
           last_start => s.last_start,
           expected_duration_minutes => s.expected_duration_minutes,
           has_exceptions => s.has_exceptions,
           range_start => $2,
           range_end => $3) o
   where s.id = $1
$$;
comment on function public.live_stream_occurrences is
  'When a schedule takes place: its occurrences that overlap the time from range_start to before range_end, in order. One that is skipped has the status cancelled; one that was moved has another original_starts_at.';

create or replace function public.live_stream_calendar(
    range_start timestamptz,
    range_end timestamptz,
    influencer_id uuid default null,
    max_rows integer default 100,
    after_starts_at timestamptz default null,
    after_schedule_id uuid default null)
  returns table (schedule_id uuid, influencer uuid, title text, starts_at timestamptz,
                 ends_at timestamptz, original_starts_at timestamptz,
                 status public.live_stream_schedule_status, clashes boolean)
  language sql stable parallel safe set search_path = '' as $$
  select c.schedule_id, c.influencer_id, c.title, c.starts_at, c.ends_at, c.original_starts_at,
         c.status::public.live_stream_schedule_status, c.clashes
    from live_stream.calendar($1, $2, $3, $4, $5, $6) c
$$;
comment on function public.live_stream_calendar is
  'What takes place from range_start to before range_end, of one influencer or of all, in order; up to max_rows, 1,000 at most. The next page begins after the last row''s starts_at and schedule_id. clashes: the influencer has something else at that time.';

-- Volatile: PostgREST would not run a stable one for HEAD, and its headers would be missing.
create or replace function public.live_stream_calendar_feed(influencer_id uuid)
  returns live_stream."*/*"
  language sql volatile set search_path = '' as $$
  select live_stream.calendar_feed($1)::live_stream."*/*"
$$;
comment on function public.live_stream_calendar_feed is
  'The schedules of an influencer as a calendar to subscribe to, in the iCalendar format of RFC 5545; PostgREST answers any Accept with it, as text/calendar.';

create or replace function public.live_stream_import_ics(influencer_id uuid, ics text)
  returns table (uid text, title text, schedule_id uuid, not_taken text)
  language sql volatile set search_path = '' as $$
  select i.uid, i.title, i.schedule_id, i.not_taken from live_stream.import_ics($1, $2) i
$$;
comment on function public.live_stream_import_ics is
  'Makes schedules of the events of a calendar in the iCalendar format, all or none. A row for each event says which schedule it became, and what was not taken. influencer_id null: the caller''s own.';

create or replace function public.live_stream_schedule_split(
    schedule_id uuid, original_starts_at timestamptz)
  returns public.live_stream_schedule
  language sql volatile set search_path = '' as $$
  select live_stream.split_schedule($1, $2);
  select s.* from public.live_stream_schedule s where s.id = (select live_stream.split_result())
$$;
comment on function public.live_stream_schedule_split is
  'Splits a schedule in two: it ends before the occurrence that original_starts_at names, and a new one, which is returned, has that one and all that follow, with their exceptions and sessions.';

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
comment on function live_stream.occurrence_starts is
  'When the occurrences of a schedule with these fields that overlap a range begin, as one array.';
comment on function live_stream.next_occurrence is
  'First occurrence of a schedule with these fields that ends after a moment; no row without one.';
comment on function live_stream.materialize_occurrences is
  'Makes the sessions of the occurrences that begin within a time from now, once each, lets those that were moved or called off follow, and returns how many it made. For the server: call it now and then.';
comment on function live_stream.run_schedules is
  'Makes the sessions of the coming eight days, looking at each schedule once a minute at most, and writes the reminders that are due, for two seconds at most; true when more is left. For the server: call it every minute where no worker does.';
comment on function live_stream.calendar is
  'The occurrences of all schedules that the caller may see; behind live_stream_calendar.';
comment on function live_stream.calendar_feed is
  'Schedules in the iCalendar format; behind live_stream_calendar_feed.';
comment on function live_stream.import_ics is
  'Schedules from the iCalendar format; behind live_stream_import_ics.';
comment on function live_stream.require_schedule is
  'Nothing if the caller may see the schedule; an error that says so otherwise.';
comment on function live_stream.require_own_schedule is
  'Nothing if the caller may change the schedule; an error that says why not otherwise.';
comment on function live_stream.schedule_count is
  'Trigger: counts the schedules of influencers who have made some.';
comment on function live_stream.schedule_guard is
  'Trigger: checks a schedule and brings it to its form.';
comment on function live_stream.schedule_looks is
  'Trigger: sessions that are still scheduled look as their changed schedules do.';
comment on function live_stream.normalize_recurrence_rule is
  'The one form of a recurrence rule of RFC 5545.';
comment on function live_stream.split_schedule is
  'Splits a schedule; behind live_stream_schedule_split.';
comment on function live_stream.split_result is
  'The schedule that was split off last; behind live_stream_schedule_split.';

grant execute on function live_stream.occurrences, live_stream.next_occurrence, live_stream.calendar,
  live_stream.calendar_feed, live_stream.require_schedule to anon;
grant execute on function live_stream.occurrences, live_stream.next_occurrence, live_stream.calendar,
  live_stream.calendar_feed, live_stream.require_schedule, live_stream.require_own_schedule, live_stream.split_schedule,
  live_stream.split_result, live_stream.import_ics
  to authenticated;
grant execute on function live_stream.occurrences, live_stream.next_occurrence, live_stream.calendar,
  live_stream.occurrence_starts,
  live_stream.calendar_feed, live_stream.require_schedule, live_stream.require_own_schedule, live_stream.split_schedule,
  live_stream.split_result, live_stream.import_ics
  to service_role;

grant execute on function live_stream.materialize_occurrences, live_stream.run_schedules to service_role;

revoke all on function public.live_stream_schedule_create, public.live_stream_schedule_cancel,
  public.live_stream_schedule_split, public.live_stream_import_ics, public.live_stream_occurrences,
  public.live_stream_calendar, public.live_stream_calendar_feed, public.live_stream_upcoming
  from public;
revoke all on function public.live_stream_schedule_create, public.live_stream_schedule_cancel,
  public.live_stream_schedule_split, public.live_stream_import_ics from anon;
grant execute on function public.live_stream_occurrences,
  public.live_stream_calendar, public.live_stream_calendar_feed, public.live_stream_upcoming to anon;
grant execute on function public.live_stream_schedule_create, public.live_stream_schedule_cancel,
  public.live_stream_schedule_split, public.live_stream_import_ics, public.live_stream_occurrences,
  public.live_stream_calendar, public.live_stream_calendar_feed, public.live_stream_upcoming
  to authenticated, service_role;
