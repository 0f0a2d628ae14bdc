create type public.live_stream_message_type as enum
  ('chat', 'reaction', 'system', 'product_highlight');
comment on type public.live_stream_message_type is 'What a chat message is.';

create table public.live_stream_chat (
  id uuid not null default gen_random_uuid(),
  session_id uuid not null,
  viewer_id uuid,
  user_id uuid,
  message text not null,
  message_type public.live_stream_message_type not null default 'chat',
  username varchar(100),
  avatar_url varchar(2048),
  is_influencer boolean not null default false,
  is_moderator boolean not null default false,
  is_deleted boolean not null default false,
  is_flagged boolean not null default false,
  deleted_by uuid,
  deletion_reason varchar(500),
  reactions jsonb not null default '{}',
  replies_count integer not null default 0,
  parent_message_id uuid,
  sent_at timestamptz not null default now(),
  edited_at timestamptz,
  deleted_at timestamptz,
  constraint live_stream_chat_pkey primary key (id),
  constraint live_stream_chat_session_id_fkey foreign key (session_id)
    references public.live_stream_sessions (id) on delete cascade,
  constraint live_stream_chat_viewer_id_fkey foreign key (viewer_id)
    references public.live_stream_viewers (id) on delete set null,
  constraint live_stream_chat_parent_message_id_fkey foreign key (parent_message_id)
    references public.live_stream_chat (id) on delete set null,
  constraint live_stream_chat_message_check check (
    (btrim(message) <> '' or is_deleted) and length(message) <= 2000),
  constraint live_stream_chat_reactions_check check (jsonb_typeof(reactions) = 'object'),
  constraint live_stream_chat_replies_count_check check (replies_count >= 0)
) with (fillfactor = 90);

comment on table public.live_stream_chat is
  'Messages of a session''s chat. Readable with the session, written by signed-in people as themselves.';
comment on column public.live_stream_chat.id is 'Id of the message.';
comment on column public.live_stream_chat.session_id is 'Session that the message belongs to.';
comment on column public.live_stream_chat.viewer_id is 'Viewer row of the author in this session; found by the database.';
comment on column public.live_stream_chat.user_id is 'Author: always the signed-in user.';
comment on column public.live_stream_chat.message is
  'Text, 1 to 2,000 characters; empty while the message is taken away: live_stream_removed_messages has it.';
comment on column public.live_stream_chat.message_type is
  'chat, reaction, or, from the host, system or product_highlight.';
comment on column public.live_stream_chat.username is 'Name that the author shows: in one line, and not taken for the host''s unless the host wrote it.';
comment on column public.live_stream_chat.avatar_url is 'Picture that the author shows.';
comment on column public.live_stream_chat.is_influencer is 'Whether the host wrote it; decided by the database.';
comment on column public.live_stream_chat.is_moderator is 'Whether a moderator wrote it; decided by the database.';
comment on column public.live_stream_chat.is_deleted is
  'Whether it was taken away: by its author for good, by the host or a moderator until one of them puts it back.';
comment on column public.live_stream_chat.is_flagged is
  'Always false, since everybody reads the row: live_stream_flagged_messages says it. To write false, as the host or a moderator, clears the flag, but not beside other columns than is_deleted and deletion_reason: a row that is saved as it was read clears none.';
comment on column public.live_stream_chat.deleted_by is 'Always null: live_stream_removed_messages says who took it away.';
comment on column public.live_stream_chat.deletion_reason is
  'Why it is taken away, to be written with is_deleted; always null when it is read: live_stream_removed_messages says it.';
comment on column public.live_stream_chat.reactions is 'Reactions and how many people gave each, as in {"🔥": 3}.';
comment on column public.live_stream_chat.replies_count is 'Replies that are not deleted.';
comment on column public.live_stream_chat.parent_message_id is 'Message that this one answers.';
comment on column public.live_stream_chat.sent_at is 'When it was sent; set by the database.';
comment on column public.live_stream_chat.edited_at is 'When its text was last changed.';
comment on column public.live_stream_chat.deleted_at is 'When it was taken away.';

create table public.live_stream_chat_reactions (
  message_id uuid not null,
  user_id uuid not null,
  reaction varchar(32) not null,
  session_id uuid not null,
  viewer_id uuid,
  created_at timestamptz not null default now(),
  constraint live_stream_chat_reactions_pkey primary key (message_id, user_id, reaction),
  constraint live_stream_chat_reactions_message_id_fkey foreign key (message_id)
    references public.live_stream_chat (id) on delete cascade,
  constraint live_stream_chat_reactions_session_id_fkey foreign key (session_id)
    references public.live_stream_sessions (id) on delete cascade,
  constraint live_stream_chat_reactions_viewer_id_fkey foreign key (viewer_id)
    references public.live_stream_viewers (id) on delete set null,
  constraint live_stream_chat_reactions_reaction_check check (btrim(reaction) <> '')
);

comment on table public.live_stream_chat_reactions is
  'Who reacted to which message: each person gives each reaction once.';
comment on column public.live_stream_chat_reactions.message_id is 'Message reacted to.';
comment on column public.live_stream_chat_reactions.user_id is 'User who reacted.';
comment on column public.live_stream_chat_reactions.reaction is 'Emoji or name, 1 to 32 characters.';
comment on column public.live_stream_chat_reactions.session_id is 'Session of the message; found by the database.';
comment on column public.live_stream_chat_reactions.viewer_id is
  'Viewer row of the user in that session; found by the database.';
comment on column public.live_stream_chat_reactions.created_at is 'When the user reacted.';

create table public.live_stream_removed_messages (
  message_id uuid not null,
  session_id uuid not null,
  message text not null,
  deletion_reason varchar(500),
  deleted_by uuid,
  constraint live_stream_removed_messages_pkey primary key (message_id),
  constraint live_stream_removed_messages_message_id_fkey foreign key (message_id)
    references public.live_stream_chat (id) on delete cascade
);

comment on table public.live_stream_removed_messages is
  'What messages said that were taken away, by whom and why. Kept by the database alone while they are away, read by the influencer and its moderators, and by an author who took its own away.';
comment on column public.live_stream_removed_messages.message_id is 'Message that was taken away.';
comment on column public.live_stream_removed_messages.session_id is 'Session of the message.';
comment on column public.live_stream_removed_messages.message is 'Text of the message, which returns to it when it is put back.';
comment on column public.live_stream_removed_messages.deletion_reason is 'Why it was taken away.';
comment on column public.live_stream_removed_messages.deleted_by is
  'User who took it away; null for the server, or if the account is gone.';

create table public.live_stream_flagged_messages (
  message_id uuid not null,
  session_id uuid not null,
  created_at timestamptz not null default now(),
  constraint live_stream_flagged_messages_pkey primary key (message_id),
  constraint live_stream_flagged_messages_message_id_fkey foreign key (message_id)
    references public.live_stream_chat (id) on delete cascade
);

comment on table public.live_stream_flagged_messages is
  'Messages that somebody asked the host and the moderators to look at. Kept by the database alone until one of them clears the flag, read by the influencer and its moderators.';
comment on column public.live_stream_flagged_messages.message_id is 'Message that was flagged.';
comment on column public.live_stream_flagged_messages.session_id is 'Session of the message.';
comment on column public.live_stream_flagged_messages.created_at is 'When it was first flagged.';

alter table public.live_stream_chat add constraint live_stream_chat_user_id_fkey
  foreign key (user_id) references auth.users (id) on delete set null;
alter table public.live_stream_chat add constraint live_stream_chat_deleted_by_fkey
  foreign key (deleted_by) references auth.users (id) on delete set null;
alter table public.live_stream_chat_reactions add constraint live_stream_chat_reactions_user_id_fkey
  foreign key (user_id) references auth.users (id) on delete cascade;

alter table public.live_stream_removed_messages add constraint live_stream_removed_messages_deleted_by_fkey
  foreign key (deleted_by) references auth.users (id) on delete set null;

create index live_stream_chat_session_id_sent_at_idx
  on public.live_stream_chat (session_id, sent_at desc);
create index live_stream_chat_viewer_id_idx
  on public.live_stream_chat (viewer_id) where viewer_id is not null;
create index live_stream_chat_user_id_sent_at_idx
  on public.live_stream_chat (user_id, sent_at desc) where user_id is not null;
create index live_stream_chat_deleted_by_idx
  on public.live_stream_chat (deleted_by) where deleted_by is not null;
create index live_stream_chat_parent_message_id_idx
  on public.live_stream_chat (parent_message_id) where parent_message_id is not null;
create index live_stream_chat_reactions_user_id_idx
  on public.live_stream_chat_reactions (user_id);
create index live_stream_chat_reactions_session_id_idx
  on public.live_stream_chat_reactions (session_id);
create index live_stream_chat_reactions_viewer_id_idx
  on public.live_stream_chat_reactions (viewer_id) where viewer_id is not null;

create index live_stream_removed_messages_session_id_idx
  on public.live_stream_removed_messages (session_id);
create index live_stream_removed_messages_deleted_by_idx
  on public.live_stream_removed_messages (deleted_by) where deleted_by is not null;
create index live_stream_flagged_messages_session_id_created_at_idx
  on public.live_stream_flagged_messages (session_id, created_at desc);

alter table public.live_stream_chat enable row level security;
alter table public.live_stream_chat_reactions enable row level security;
alter table public.live_stream_removed_messages enable row level security;
alter table public.live_stream_flagged_messages enable row level security;

revoke all on table public.live_stream_chat from public, anon, authenticated, service_role;
grant select on table public.live_stream_chat to anon;
grant select, insert, update on table public.live_stream_chat to authenticated;
grant select, insert, update, delete, truncate on table public.live_stream_chat to service_role;

revoke all on table public.live_stream_chat_reactions from public, anon, authenticated, service_role;
grant select on table public.live_stream_chat_reactions to authenticated;
grant select, insert, update, delete, truncate on table public.live_stream_chat_reactions to service_role;

-- TRUNCATE, without which the server could not empty the chat, on which they hang.
revoke all on table public.live_stream_removed_messages from public, anon, authenticated, service_role;
grant select on table public.live_stream_removed_messages to authenticated;
grant select, truncate on table public.live_stream_removed_messages to service_role;
revoke all on table public.live_stream_flagged_messages from public, anon, authenticated, service_role;
grant select on table public.live_stream_flagged_messages to authenticated;
grant select, truncate on table public.live_stream_flagged_messages to service_role;

-- The session is looked up for each row that is read. With EXISTS, PostgreSQL may read all sessions of the database first,
-- for a page of a long chat too.
create policy live_stream_chat_select on public.live_stream_chat
  for select to public
  using (
    user_id = (select live_stream.uid())
    or (select true from public.live_stream_sessions s where s.id = session_id));
create policy live_stream_chat_insert on public.live_stream_chat
  for insert to public
  with check (user_id = (select live_stream.uid()) or (select live_stream.is_service()));
create policy live_stream_chat_update on public.live_stream_chat
  for update to public
  using (
    user_id = (select live_stream.uid())
    or (select live_stream.is_service())
    or session_id in (select s.id from public.live_stream_sessions s
                       where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])
                          or s.influencer_id = any ((select live_stream.moderated_influencer_ids())::uuid[])))
  with check (
    user_id = (select live_stream.uid())
    or (select live_stream.is_service())
    or session_id in (select s.id from public.live_stream_sessions s
                       where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])
                          or s.influencer_id = any ((select live_stream.moderated_influencer_ids())::uuid[])));
create policy live_stream_chat_delete on public.live_stream_chat
  for delete to public using ((select live_stream.is_service()));

create policy live_stream_chat_reactions_select on public.live_stream_chat_reactions
  for select to public
  using (user_id = (select live_stream.uid()) or (select live_stream.is_service()));
create policy live_stream_chat_reactions_insert on public.live_stream_chat_reactions
  for insert to public with check ((select live_stream.is_service()));
create policy live_stream_chat_reactions_update on public.live_stream_chat_reactions
  for update to public
  using ((select live_stream.is_service())) with check ((select live_stream.is_service()));
create policy live_stream_chat_reactions_delete on public.live_stream_chat_reactions
  for delete to public using ((select live_stream.is_service()));

create policy live_stream_removed_messages_select on public.live_stream_removed_messages
  for select to public
  using (
    (select live_stream.is_service())
    or deleted_by = (select live_stream.uid())
       and (select m.user_id from public.live_stream_chat m where m.id = message_id) = deleted_by
    or session_id in (select s.id from public.live_stream_sessions s
                       where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])
                          or s.influencer_id = any ((select live_stream.moderated_influencer_ids())::uuid[])));
create policy live_stream_flagged_messages_select on public.live_stream_flagged_messages
  for select to public
  using (
    (select live_stream.is_service())
    or session_id in (select s.id from public.live_stream_sessions s
                       where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])
                          or s.influencer_id = any ((select live_stream.moderated_influencer_ids())::uuid[])));

create or replace trigger live_stream_chat_guard
  before insert or update on public.live_stream_chat
  for each row execute function live_stream.chat_guard();
create or replace trigger live_stream_chat_begin_update
  before update on public.live_stream_chat
  for each statement execute function live_stream.begin_update();
create or replace trigger live_stream_chat_settle_insert
  after insert on public.live_stream_chat
  referencing new table as new_rows
  for each statement execute function live_stream.chat_settle();
create or replace trigger live_stream_chat_settle_update
  after update on public.live_stream_chat
  referencing old table as old_rows new table as new_rows
  for each statement execute function live_stream.chat_settle();
create or replace trigger live_stream_chat_settle_delete
  after delete on public.live_stream_chat
  referencing old table as old_rows
  for each statement execute function live_stream.chat_settle();
create or replace trigger live_stream_chat_truncated
  after truncate on public.live_stream_chat
  for each statement execute function live_stream.chat_truncated();
-- As live_stream_viewers_stands_alone.
create or replace trigger live_stream_chat_stands_alone
  after delete on public.live_stream_chat
  referencing old table as old_rows
  for each row when (false) execute function live_stream.chat_settle();

create or replace trigger live_stream_chat_reactions_guard
  before insert or update on public.live_stream_chat_reactions
  for each row execute function live_stream.chat_reactions_guard();
create or replace trigger live_stream_chat_reactions_settle_insert
  after insert on public.live_stream_chat_reactions
  referencing new table as new_rows
  for each statement execute function live_stream.chat_reactions_settle();
create or replace trigger live_stream_chat_reactions_settle_update
  after update on public.live_stream_chat_reactions
  referencing old table as old_rows new table as new_rows
  for each statement execute function live_stream.chat_reactions_settle();
create or replace trigger live_stream_chat_reactions_settle_delete
  after delete on public.live_stream_chat_reactions
  referencing old table as old_rows
  for each statement execute function live_stream.chat_reactions_settle();
create or replace trigger live_stream_chat_reactions_truncated
  after truncate on public.live_stream_chat_reactions
  for each statement execute function live_stream.chat_reactions_truncated();
-- As live_stream_viewers_stands_alone.
create or replace trigger live_stream_chat_reactions_stands_alone
  after delete on public.live_stream_chat_reactions
  referencing old table as old_rows
  for each row when (false) execute function live_stream.chat_reactions_settle();

create or replace function live_stream.message(message_id uuid)
  returns setof public.live_stream_chat
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select r.* from public.live_stream_chat m
    join public.live_stream_sessions s on s.id = m.session_id
   cross join lateral pg_catalog.jsonb_populate_record(
           m, live_stream.tallied_message(m.id, m.reactions)) as r
   where m.id = $1
     and live_stream.user_sees_session(s.id, s.influencer_id, s.visibility::text)
$$;
comment on function live_stream.tallied_message is
  'The reactions to a message with what this transaction has done, as an object of that column; an empty one without.';
comment on function live_stream.message is
  'A message whose session the caller may see, also an unlisted one: its id is known. With what this transaction has done to it.';

create or replace function public.live_stream_send_message(
    session_id uuid,
    message text,
    message_type public.live_stream_message_type default 'chat',
    username text default null,
    avatar_url text default null,
    parent_message_id uuid default null,
    viewer_id uuid default null)
  returns public.live_stream_chat
  language sql volatile set search_path = '' as $$
  select live_stream.send_message(null::public.live_stream_chat, $1, $2, $3::pg_catalog.text, $4, $5, $6, $7)
$$;
comment on function public.live_stream_send_message is
  'Writes in the chat of a session that is live or paused, and returns the message.';

create or replace function public.live_stream_edit_message(message_id uuid, message text)
  returns public.live_stream_chat
  language sql volatile set search_path = '' as $$
  select live_stream.require_own_message($1);
  update public.live_stream_chat m set message = $2 where m.id = $1 returning m.*
$$;
comment on function public.live_stream_edit_message is
  'Changes the text of the caller''s own message and returns it.';

create or replace function public.live_stream_delete_message(message_id uuid, reason text default null)
  returns public.live_stream_chat
  language sql volatile set search_path = '' as $$
  select live_stream.require_own_message($1);
  update public.live_stream_chat m set is_deleted = true, deletion_reason = live_stream.fitting_text('live_stream_chat', 'deletion_reason', $2)
   where m.id = $1;
  -- Who may read what was taken away gets it with the message.
  select w.* from public.live_stream_chat m
    left join public.live_stream_removed_messages r on r.message_id = m.id
   cross join lateral pg_catalog.jsonb_populate_record(
           m, pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
                'message', r.message, 'deletion_reason', r.deletion_reason, 'deleted_by', r.deleted_by))) as w
   where m.id = $1
$$;
comment on function public.live_stream_delete_message is
  'Takes away a message of the caller''s own, or one of a session that the caller hosts or moderates, and returns what the caller may read of it.';

create or replace function public.live_stream_react(message_id uuid, reaction text)
  returns public.live_stream_chat
  language sql volatile set search_path = '' as $$
  select live_stream.react($1, $2, false);
  select * from live_stream.message($1)
  union all
  select m.* from public.live_stream_chat m where m.id = $1
  limit 1
$$;
comment on function public.live_stream_react is
  'Reacts to a message, once per person and reaction, and returns the message.';

create or replace function public.live_stream_unreact(message_id uuid, reaction text)
  returns public.live_stream_chat
  language sql volatile set search_path = '' as $$
  select live_stream.react($1, $2, true);
  select * from live_stream.message($1)
  union all
  select m.* from public.live_stream_chat m where m.id = $1
  limit 1
$$;
comment on function public.live_stream_unreact is 'Takes a reaction back and returns the message.';

create or replace function public.live_stream_flag_message(message_id uuid)
  returns public.live_stream_chat
  language sql volatile set search_path = '' as $$
  select live_stream.flag_message($1);
  select f.* from live_stream.message($1) m
   cross join lateral pg_catalog.jsonb_populate_record(m, '{"is_flagged": true}') as f
  union all
  select f.* from public.live_stream_chat m
   cross join lateral pg_catalog.jsonb_populate_record(m, '{"is_flagged": true}') as f
   where m.id = $1
  limit 1
$$;
comment on function public.live_stream_flag_message is
  'Asks the host and the moderators to look at a message, and returns it as flagged: to the caller alone, who knows.';

create or replace function public.live_stream_clear_flag(message_id uuid)
  returns public.live_stream_chat
  language sql volatile set search_path = '' as $$
  select live_stream.clear_flag($1);
  select m.* from public.live_stream_chat m where m.id = $1
$$;
comment on function public.live_stream_clear_flag is
  'Clears the flag of a message in a session that the caller hosts or moderates, and returns the message. Clearing it again changes nothing.';

comment on function live_stream.react is 'Adds or takes back a reaction; behind live_stream_react.';
comment on function live_stream.flag_message is 'Flags a message; behind live_stream_flag_message.';
comment on function live_stream.clear_flag is 'Clears the flag of a message; behind live_stream_clear_flag.';
comment on function live_stream.send_message is 'Writes in the chat; behind live_stream_send_message.';
comment on function live_stream.require_own_message is
  'Nothing if the caller may change the message; an error that says why not otherwise.';

revoke all on function live_stream.message from public;
grant execute on function live_stream.message, live_stream.react, live_stream.flag_message,
  live_stream.clear_flag, live_stream.require_own_message, live_stream.send_message to authenticated, service_role;

revoke all on function public.live_stream_send_message, public.live_stream_edit_message,
  public.live_stream_delete_message, public.live_stream_react, public.live_stream_unreact,
  public.live_stream_flag_message, public.live_stream_clear_flag from public, anon;
grant execute on function public.live_stream_send_message, public.live_stream_edit_message,
  public.live_stream_delete_message, public.live_stream_react, public.live_stream_unreact,
  public.live_stream_flag_message, public.live_stream_clear_flag to authenticated, service_role;
