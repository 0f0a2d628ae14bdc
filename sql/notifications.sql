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
  'What users are told about streams; each reads its own. Written by the app''s server.';
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
  on public.live_stream_notifications (influencer_id) where influencer_id is not null;
create index live_stream_notifications_session_id_idx
  on public.live_stream_notifications (session_id) where session_id is not null;
create index live_stream_notifications_due_idx
  on public.live_stream_notifications (scheduled_for) where not is_sent;

alter table public.live_stream_notifications enable row level security;

revoke all on table public.live_stream_notifications from public;
revoke all on table public.live_stream_notifications from anon;
revoke all on table public.live_stream_notifications from authenticated;
revoke all on table public.live_stream_notifications from service_role;
grant select, delete on table public.live_stream_notifications to authenticated;
grant update (is_read, read_at) on table public.live_stream_notifications to authenticated;
grant all on table public.live_stream_notifications to service_role;

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
