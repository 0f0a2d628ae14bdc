create type public.live_stream_moderation_action as enum
  ('ban', 'timeout', 'unban', 'end_timeout', 'add_moderator', 'remove_moderator', 'delete_message',
   'restore_message', 'unflag_message', 'invite', 'uninvite', 'create_invitation',
   'accept_invitation', 'revoke_invitation');
comment on type public.live_stream_moderation_action is 'What somebody did, as the moderation log has it.';

create table public.live_stream_moderation_log (
  id uuid not null default gen_random_uuid(),
  influencer_id uuid not null,
  session_id uuid,
  actor_id uuid,
  action public.live_stream_moderation_action not null,
  user_id uuid,
  message_id uuid,
  reason text,
  created_at timestamptz not null default now(),
  constraint live_stream_moderation_log_pkey primary key (id),
  constraint live_stream_moderation_log_session_id_fkey foreign key (session_id)
    references public.live_stream_sessions (id) on delete set null
);

comment on table public.live_stream_moderation_log is
  'What moderators and influencers did, written by the database alone. Read by the influencer; changed by nobody.';
comment on column public.live_stream_moderation_log.id is 'Id of the entry.';
comment on column public.live_stream_moderation_log.influencer_id is 'Influencer in whose sessions it was done.';
comment on column public.live_stream_moderation_log.session_id is 'Session that it was about; null if none, or if it is gone.';
comment on column public.live_stream_moderation_log.actor_id is
  'User who did it; null for the server, or if the account is gone.';
comment on column public.live_stream_moderation_log.action is 'What was done.';
comment on column public.live_stream_moderation_log.user_id is
  'User whom it was done to; null if nobody, or if the account is gone.';
comment on column public.live_stream_moderation_log.message_id is 'Message that it was about, also when it is gone: no foreign key, so that the log stays when the chat is emptied.';
comment on column public.live_stream_moderation_log.reason is 'Why.';
comment on column public.live_stream_moderation_log.created_at is 'When.';
alter table public.live_stream_moderation_log add constraint live_stream_moderation_log_influencer_id_fkey
  foreign key (influencer_id) references public.influencers (id) on delete cascade;
alter table public.live_stream_moderation_log add constraint live_stream_moderation_log_actor_id_fkey
  foreign key (actor_id) references auth.users (id) on delete set null;
alter table public.live_stream_moderation_log add constraint live_stream_moderation_log_user_id_fkey
  foreign key (user_id) references auth.users (id) on delete set null;
create index live_stream_moderation_log_influencer_id_created_at_idx
  on public.live_stream_moderation_log (influencer_id, created_at desc);
create index live_stream_moderation_log_session_id_idx
  on public.live_stream_moderation_log (session_id) where session_id is not null;
create index live_stream_moderation_log_actor_id_idx
  on public.live_stream_moderation_log (actor_id) where actor_id is not null;
create index live_stream_moderation_log_user_id_idx
  on public.live_stream_moderation_log (user_id) where user_id is not null;
alter table public.live_stream_moderation_log enable row level security;

revoke all on table public.live_stream_moderation_log from public, anon, authenticated, service_role;
grant select on table public.live_stream_moderation_log to authenticated, service_role;

create policy live_stream_moderation_log_select on public.live_stream_moderation_log
  for select to public
  using (influencer_id = any ((select live_stream.influencer_ids())::uuid[])
         or (select live_stream.is_service()));
