create table public.live_stream_notifications (
  id uuid not null default gen_random_uuid(),
  user_id uuid not null,
  influencer_id uuid,
  session_id uuid,
  type varchar(50) not null,
  title varchar(255) not null,
  message text,
  action_url varchar(2048),
  is_read boolean not null default false,
  is_sent boolean not null default false,
  delivery_method varchar(20) not null default 'in_app',
  scheduled_for timestamptz,
  sent_at timestamptz,
  read_at timestamptz,
  created_at timestamptz not null default now(),
  constraint live_stream_notifications_pkey primary key (id),
  constraint live_stream_notifications_session_id_fkey foreign key (session_id)
    references public.live_stream_sessions (id) on delete cascade,
  constraint live_stream_notifications_type_check check (
    type::text in ('stream_starting', 'stream_reminder', 'stream_ended', 'followed_influencer_live',
             'product_featured', 'special_offer')),
  constraint live_stream_notifications_delivery_method_check check (
    delivery_method::text in ('in_app', 'email', 'sms', 'push')),
  constraint live_stream_notifications_title_check check (btrim(title) <> ''),
  constraint live_stream_notifications_message_check check (length(message) <= 10000)
);

comment on table public.live_stream_notifications is
  'What users are told about streams; each reads its own. Written by the database for followers, and by the app''s server.';
comment on column public.live_stream_notifications.id is 'Id of the notification.';
comment on column public.live_stream_notifications.user_id is 'User who is told.';
comment on column public.live_stream_notifications.influencer_id is 'Influencer that it is about.';
comment on column public.live_stream_notifications.session_id is 'Session that it is about.';
comment on column public.live_stream_notifications.type is
  'stream_starting, stream_reminder, stream_ended, followed_influencer_live, product_featured or special_offer.';
comment on column public.live_stream_notifications.title is 'Title, 1 to 255 characters.';
comment on column public.live_stream_notifications.message is 'Text, up to 10,000 characters.';
comment on column public.live_stream_notifications.action_url is 'Where it leads.';
comment on column public.live_stream_notifications.is_read is 'Whether the user has read it; the user sets it.';
comment on column public.live_stream_notifications.is_sent is 'Whether it was sent.';
comment on column public.live_stream_notifications.delivery_method is 'in_app, email, sms or push.';
comment on column public.live_stream_notifications.scheduled_for is 'When it is to be sent; null is at once.';
comment on column public.live_stream_notifications.sent_at is 'When it was sent.';
comment on column public.live_stream_notifications.read_at is 'When the user read it; kept by the database.';
comment on column public.live_stream_notifications.created_at is 'When the row was made.';

alter table public.live_stream_notifications add constraint live_stream_notifications_user_id_fkey
  foreign key (user_id) references auth.users (id) on delete cascade;
alter table public.live_stream_notifications add constraint live_stream_notifications_influencer_id_fkey
  foreign key (influencer_id) references public.influencers (id) on delete cascade;

create index live_stream_notifications_user_id_idx
  on public.live_stream_notifications (user_id, created_at desc);
create index live_stream_notifications_influencer_id_idx
  on public.live_stream_notifications (influencer_id, created_at) where influencer_id is not null;
create index live_stream_notifications_session_id_idx
  on public.live_stream_notifications (session_id) where session_id is not null;
create index live_stream_notifications_due_idx
  on public.live_stream_notifications (scheduled_for) where not is_sent;
create unique index live_stream_notifications_once_idx
  on public.live_stream_notifications (user_id, session_id, type, delivery_method)
  where type::text in ('stream_reminder', 'followed_influencer_live', 'stream_ended')
    and session_id is not null;
comment on index public.live_stream_notifications_once_idx is
  'Nobody is told the same of a session twice.';

alter table public.live_stream_notifications enable row level security;

revoke all on table public.live_stream_notifications from public, anon, authenticated, service_role;
grant select, delete on table public.live_stream_notifications to authenticated;
grant update (is_read, read_at) on table public.live_stream_notifications to authenticated;
grant select, insert, update, delete, truncate on table public.live_stream_notifications to service_role;

create policy live_stream_notifications_select on public.live_stream_notifications
  for select to public
  using (user_id = (select live_stream.uid()) or (select live_stream.is_service()));
create policy live_stream_notifications_insert on public.live_stream_notifications
  for insert to public with check ((select live_stream.is_service()));
create policy live_stream_notifications_update on public.live_stream_notifications
  for update to public
  using (user_id = (select live_stream.uid()) or (select live_stream.is_service()))
  with check (user_id = (select live_stream.uid()) or (select live_stream.is_service()));
create policy live_stream_notifications_delete on public.live_stream_notifications
  for delete to public
  using (user_id = (select live_stream.uid()) or (select live_stream.is_service()));

create or replace trigger live_stream_notifications_guard
  before insert or update on public.live_stream_notifications
  for each row execute function live_stream.notifications_guard();

create table public.live_stream_followers (
  user_id uuid not null,
  influencer_id uuid not null,
  reminder_minutes integer not null default 15,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint live_stream_followers_pkey primary key (user_id, influencer_id),
  constraint live_stream_followers_reminder_minutes_check check (reminder_minutes between 0 and 10080)
);

comment on table public.live_stream_followers is
  'Who follows which influencer, and is told of their streams. Seen by the follower and by the influencer.';
comment on column public.live_stream_followers.user_id is 'User who follows.';
comment on column public.live_stream_followers.influencer_id is 'Influencer who is followed.';
comment on column public.live_stream_followers.reminder_minutes is
  'How many minutes before a stream the user is reminded of it, 0 to 10,080 (a week).';
comment on column public.live_stream_followers.created_at is 'Since when.';
comment on column public.live_stream_followers.updated_at is 'When the row was last changed.';

alter table public.live_stream_followers add constraint live_stream_followers_user_id_fkey
  foreign key (user_id) references auth.users (id) on delete cascade;
alter table public.live_stream_followers add constraint live_stream_followers_influencer_id_fkey
  foreign key (influencer_id) references public.influencers (id) on delete cascade;

create index live_stream_followers_influencer_id_idx
  on public.live_stream_followers (influencer_id, reminder_minutes, user_id);

create table public.live_stream_reminders (
  session_id uuid not null,
  influencer_id uuid not null,
  starts_at timestamptz not null,
  due_at timestamptz not null,
  after_minutes integer,
  after_user_id uuid,
  constraint live_stream_reminders_pkey primary key (session_id),
  constraint live_stream_reminders_session_id_fkey foreign key (session_id)
    references public.live_stream_sessions (id) on delete cascade,
  constraint live_stream_reminders_after_minutes_check check (after_minutes between -1 and 10080)
);

comment on table public.live_stream_reminders is
  'Public sessions that are planned, and how far their followers have been reminded: those who ask for it earliest come first. Kept by the database.';
comment on column public.live_stream_reminders.session_id is 'Session.';
comment on column public.live_stream_reminders.influencer_id is 'Influencer who streams.';
comment on column public.live_stream_reminders.starts_at is 'When it is planned to begin.';
comment on column public.live_stream_reminders.due_at is
  'When it is looked at next: no follower who is still to be reminded is due before.';
comment on column public.live_stream_reminders.after_minutes is
  'Followers with more reminder_minutes than these have been reminded; null if nobody has.';
comment on column public.live_stream_reminders.after_user_id is
  'Of those with as many, who was reminded last, from the highest id down; null if nobody was.';

create index live_stream_reminders_due_at_idx on public.live_stream_reminders (due_at);
create index live_stream_reminders_influencer_id_due_at_idx
  on public.live_stream_reminders (influencer_id, due_at);
create index live_stream_reminders_influencer_id_starts_at_idx
  on public.live_stream_reminders (influencer_id, starts_at, session_id);

create table public.live_stream_follow_changes (
  id uuid not null default gen_random_uuid(),
  influencer_id uuid not null,
  user_id uuid not null,
  changed_at timestamptz not null default clock_timestamp(),
  after_starts_at timestamptz,
  after_session_id uuid,
  constraint live_stream_follow_changes_pkey primary key (id)
);

comment on table public.live_stream_follow_changes is
  'Followers who have come, or asked for earlier reminders, and for whom planned sessions are still to be looked through. Kept by the database.';
comment on column public.live_stream_follow_changes.id is 'Id of the change.';
comment on column public.live_stream_follow_changes.influencer_id is 'Influencer who is followed.';
comment on column public.live_stream_follow_changes.user_id is 'User who follows.';
comment on column public.live_stream_follow_changes.changed_at is
  'Since when it stands in line: those of an influencer come one after the other, and again at the end of the line while more is left.';
comment on column public.live_stream_follow_changes.after_starts_at is
  'Planned begin of the session that was looked at last; null before the first.';
comment on column public.live_stream_follow_changes.after_session_id is 'That session; null before the first.';

create index live_stream_follow_changes_influencer_id_idx
  on public.live_stream_follow_changes (influencer_id, changed_at, id);

alter table public.live_stream_followers enable row level security;
alter table public.live_stream_reminders enable row level security;
alter table public.live_stream_follow_changes enable row level security;

revoke all on table public.live_stream_followers from public, anon, authenticated, service_role;
grant select, insert, update, delete on table public.live_stream_followers to authenticated;
grant select, insert, update, delete, truncate on table public.live_stream_followers to service_role;
revoke all on table public.live_stream_reminders from public, anon, authenticated, service_role;
grant select, insert, update, delete, truncate on table public.live_stream_reminders to service_role;
revoke all on table public.live_stream_follow_changes from public, anon, authenticated, service_role;
grant select, insert, update, delete, truncate on table public.live_stream_follow_changes to service_role;

create policy live_stream_followers_select on public.live_stream_followers
  for select to public
  using (user_id = (select live_stream.uid())
         or influencer_id = any ((select live_stream.influencer_ids())::uuid[])
         or (select live_stream.is_service()));
create policy live_stream_followers_insert on public.live_stream_followers
  for insert to public
  with check (user_id = (select live_stream.uid()) or (select live_stream.is_service()));
create policy live_stream_followers_update on public.live_stream_followers
  for update to public
  using (user_id = (select live_stream.uid()) or (select live_stream.is_service()))
  with check (user_id = (select live_stream.uid()) or (select live_stream.is_service()));
create policy live_stream_followers_delete on public.live_stream_followers
  for delete to public
  using (user_id = (select live_stream.uid()) or (select live_stream.is_service()));

create policy live_stream_reminders_select on public.live_stream_reminders
  for select to public using ((select live_stream.is_service()));
create policy live_stream_reminders_insert on public.live_stream_reminders
  for insert to public with check ((select live_stream.is_service()));
create policy live_stream_reminders_update on public.live_stream_reminders
  for update to public
  using ((select live_stream.is_service())) with check ((select live_stream.is_service()));
create policy live_stream_reminders_delete on public.live_stream_reminders
  for delete to public using ((select live_stream.is_service()));

create policy live_stream_follow_changes_select on public.live_stream_follow_changes
  for select to public using ((select live_stream.is_service()));
create policy live_stream_follow_changes_insert on public.live_stream_follow_changes
  for insert to public with check ((select live_stream.is_service()));
create policy live_stream_follow_changes_update on public.live_stream_follow_changes
  for update to public
  using ((select live_stream.is_service())) with check ((select live_stream.is_service()));
create policy live_stream_follow_changes_delete on public.live_stream_follow_changes
  for delete to public using ((select live_stream.is_service()));

create or replace trigger live_stream_follow_changes_guard
  before insert on public.live_stream_follow_changes
  for each row execute function live_stream.fill_in();
create or replace trigger live_stream_followers_guard
  before insert or update on public.live_stream_followers
  for each row execute function live_stream.followers_guard();
create or replace trigger live_stream_followers_settle_insert
  after insert on public.live_stream_followers
  referencing new table as new_rows
  for each statement execute function live_stream.followers_settle();
create or replace trigger live_stream_followers_settle_update
  after update on public.live_stream_followers
  referencing old table as old_rows new table as new_rows
  for each statement execute function live_stream.followers_settle();
create or replace trigger live_stream_sessions_tell
  after insert or update of status, scheduled_start_time, visibility on public.live_stream_sessions
  for each row execute function live_stream.sessions_tell();

create or replace function public.live_stream_follow(
    influencer_id uuid, reminder_minutes integer default null)
  returns public.live_stream_followers
  language sql volatile set search_path = '' as $$
  insert into public.live_stream_followers as f (user_id, influencer_id, reminder_minutes)
  values (live_stream.uid(), $1, coalesce($2, 15))
  on conflict on constraint live_stream_followers_pkey do update
    set reminder_minutes = coalesce($2, f.reminder_minutes)
  returning f.*
$$;
comment on function public.live_stream_follow is
  'Follows an influencer: the caller is reminded of each stream so many minutes before it (15 unless given), and told when it goes live and when it ends.';

create or replace function public.live_stream_unfollow(influencer_id uuid)
  returns setof public.live_stream_followers
  language sql volatile set search_path = '' as $$
  delete from public.live_stream_followers f
   where f.user_id = (select live_stream.uid()) and f.influencer_id = $1
  returning f.*
$$;
comment on function public.live_stream_unfollow is
  'Follows an influencer no longer; returns what was, no row if nothing.';

comment on function live_stream.send_reminders is
  'Writes the reminders that are due into live_stream_notifications, once each, for two seconds at most, and returns how many. For the server: call it every minute.';

grant execute on function live_stream.send_reminders to service_role;

revoke all on function public.live_stream_follow, public.live_stream_unfollow from public, anon;
grant execute on function public.live_stream_follow, public.live_stream_unfollow to authenticated, service_role;
