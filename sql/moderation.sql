create type public.live_stream_ban_kind as enum ('ban', 'timeout');
comment on type public.live_stream_ban_kind is
  'What is taken from a person: everything but looking at what is public, or writing and reacting for a while.';

create table public.live_stream_moderators (
  influencer_id uuid not null,
  user_id uuid not null,
  created_at timestamptz not null default now(),
  constraint live_stream_moderators_pkey primary key (influencer_id, user_id)
);

comment on table public.live_stream_moderators is
  'Who moderates the sessions of which influencer. Chosen by the influencer; seen by both.';
comment on column public.live_stream_moderators.influencer_id is 'Influencer whose sessions are moderated.';
comment on column public.live_stream_moderators.user_id is 'User who moderates them.';
comment on column public.live_stream_moderators.created_at is 'Since when.';

create table public.live_stream_bans (
  id uuid not null default gen_random_uuid(),
  influencer_id uuid not null,
  user_id uuid not null,
  kind public.live_stream_ban_kind not null default 'ban',
  reason text,
  session_id uuid,
  expires_at timestamptz,
  created_by uuid,
  created_at timestamptz not null default now(),
  constraint live_stream_bans_pkey primary key (id),
  constraint live_stream_bans_influencer_id_user_id_kind_key unique (influencer_id, user_id, kind),
  constraint live_stream_bans_session_id_fkey foreign key (session_id)
    references public.live_stream_sessions (id) on delete set null,
  constraint live_stream_bans_reason_check check (length(reason) <= 500),
  constraint live_stream_bans_expires_at_check check (
    expires_at > created_at and (kind = 'ban' or expires_at is not null))
);

comment on table public.live_stream_bans is
  'Who is banned from the sessions of an influencer, or may not write there for a while. Seen and written by the influencer and its moderators.';
comment on column public.live_stream_bans.id is 'Id of the ban.';
comment on column public.live_stream_bans.influencer_id is
  'Influencer from whose sessions the user is banned; cannot be changed.';
comment on column public.live_stream_bans.user_id is 'User who is banned; cannot be changed.';
comment on column public.live_stream_bans.kind is
  'ban: cannot join, write or react, nor see what is not public. timeout: may watch, cannot write or react.';
comment on column public.live_stream_bans.reason is 'Why, up to 500 characters; the banned person is told.';
comment on column public.live_stream_bans.session_id is 'Session in which it happened.';
comment on column public.live_stream_bans.expires_at is
  'Until when; null is for good. A timeout ends within 24 hours.';
comment on column public.live_stream_bans.created_by is 'User who banned; set by the database.';
comment on column public.live_stream_bans.created_at is
  'When the user was banned, for the last time if more than once; set by the database.';

create table public.live_stream_invitations (
  id uuid not null default gen_random_uuid(),
  session_id uuid not null,
  token_hash bytea not null,
  expires_at timestamptz not null,
  max_uses integer default 1,
  uses integer not null default 0,
  created_by uuid,
  created_at timestamptz not null default now(),
  revoked_at timestamptz,
  constraint live_stream_invitations_pkey primary key (id),
  constraint live_stream_invitations_token_hash_key unique (token_hash),
  constraint live_stream_invitations_session_id_fkey foreign key (session_id)
    references public.live_stream_sessions (id) on delete cascade,
  constraint live_stream_invitations_token_hash_check check (octet_length(token_hash) = 32),
  constraint live_stream_invitations_uses_check check (max_uses > 0 and uses >= 0 and uses <= max_uses)
);

comment on table public.live_stream_invitations is
  'Links that make whoever accepts them a guest of a session. Made and revoked by functions, read by the owner of the session.';
comment on column public.live_stream_invitations.id is 'Id of the invitation.';
comment on column public.live_stream_invitations.session_id is 'Session that it is for.';
comment on column public.live_stream_invitations.token_hash is
  'SHA-256 of the token. The token itself is nowhere in the database.';
comment on column public.live_stream_invitations.expires_at is 'Until when it can be accepted.';
comment on column public.live_stream_invitations.max_uses is 'How many people can accept it; null is no limit.';
comment on column public.live_stream_invitations.uses is 'How many people have accepted it.';
comment on column public.live_stream_invitations.created_by is 'User who made it; set by the database.';
comment on column public.live_stream_invitations.created_at is 'When it was made.';
comment on column public.live_stream_invitations.revoked_at is
  'Since when it can be accepted no longer; its guests stay.';

create table public.live_stream_guests (
  session_id uuid not null,
  user_id uuid not null,
  invitation_id uuid,
  created_by uuid,
  created_at timestamptz not null default now(),
  constraint live_stream_guests_pkey primary key (session_id, user_id),
  constraint live_stream_guests_session_id_fkey foreign key (session_id)
    references public.live_stream_sessions (id) on delete cascade,
  constraint live_stream_guests_invitation_id_fkey foreign key (invitation_id)
    references public.live_stream_invitations (id) on delete set null
);

comment on table public.live_stream_guests is
  'Who may see and join a private session. Chosen by its owner; seen by the owner and the guest.';
comment on column public.live_stream_guests.session_id is 'Session.';
comment on column public.live_stream_guests.user_id is 'User who is invited.';
comment on column public.live_stream_guests.invitation_id is
  'Invitation that the guest accepted; null where the owner invited the guest by name.';
comment on column public.live_stream_guests.created_by is
  'User who made the row: the owner, or the guest who accepted an invitation. Set by the database.';
comment on column public.live_stream_guests.created_at is 'Since when.';

alter table public.live_stream_moderators add constraint live_stream_moderators_influencer_id_fkey
  foreign key (influencer_id) references public.influencers (id) on delete cascade;
alter table public.live_stream_moderators add constraint live_stream_moderators_user_id_fkey
  foreign key (user_id) references auth.users (id) on delete cascade;
alter table public.live_stream_bans add constraint live_stream_bans_influencer_id_fkey
  foreign key (influencer_id) references public.influencers (id) on delete cascade;
alter table public.live_stream_bans add constraint live_stream_bans_user_id_fkey
  foreign key (user_id) references auth.users (id) on delete cascade;
alter table public.live_stream_bans add constraint live_stream_bans_created_by_fkey
  foreign key (created_by) references auth.users (id) on delete set null;
alter table public.live_stream_invitations add constraint live_stream_invitations_created_by_fkey
  foreign key (created_by) references auth.users (id) on delete set null;
alter table public.live_stream_guests add constraint live_stream_guests_user_id_fkey
  foreign key (user_id) references auth.users (id) on delete cascade;
alter table public.live_stream_guests add constraint live_stream_guests_created_by_fkey
  foreign key (created_by) references auth.users (id) on delete set null;

create index live_stream_moderators_user_id_idx on public.live_stream_moderators (user_id);
create index live_stream_bans_user_id_idx on public.live_stream_bans (user_id);
create index live_stream_bans_session_id_idx
  on public.live_stream_bans (session_id) where session_id is not null;
create index live_stream_bans_created_by_idx
  on public.live_stream_bans (created_by) where created_by is not null;
create index live_stream_invitations_session_id_idx on public.live_stream_invitations (session_id);
create index live_stream_invitations_created_by_idx
  on public.live_stream_invitations (created_by) where created_by is not null;
create index live_stream_guests_user_id_idx on public.live_stream_guests (user_id);
create index live_stream_guests_invitation_id_idx
  on public.live_stream_guests (invitation_id) where invitation_id is not null;
create index live_stream_guests_created_by_idx
  on public.live_stream_guests (created_by) where created_by is not null;

alter table public.live_stream_moderators enable row level security;
alter table public.live_stream_bans enable row level security;
alter table public.live_stream_invitations enable row level security;
alter table public.live_stream_guests enable row level security;

revoke all on table public.live_stream_moderators from public, anon, authenticated, service_role;
grant select, insert, delete on table public.live_stream_moderators to authenticated, service_role;

revoke all on table public.live_stream_bans from public, anon, authenticated, service_role;
grant select, insert, update, delete on table public.live_stream_bans to authenticated, service_role;

revoke all on table public.live_stream_invitations from public, anon, authenticated, service_role;
grant select on table public.live_stream_invitations to authenticated;
grant select, insert, update, delete on table public.live_stream_invitations to service_role;

revoke all on table public.live_stream_guests from public, anon, authenticated, service_role;
grant select, insert, delete on table public.live_stream_guests to authenticated, service_role;

create policy live_stream_moderators_select on public.live_stream_moderators
  for select to public
  using (user_id = (select live_stream.uid())
         or influencer_id = any ((select live_stream.influencer_ids())::uuid[])
         or (select live_stream.is_service()));
create policy live_stream_moderators_insert on public.live_stream_moderators
  for insert to public
  with check (influencer_id = any ((select live_stream.influencer_ids())::uuid[])
              or (select live_stream.is_service()));
create policy live_stream_moderators_update on public.live_stream_moderators
  for update to public
  using ((select live_stream.is_service())) with check ((select live_stream.is_service()));
create policy live_stream_moderators_delete on public.live_stream_moderators
  for delete to public
  using (influencer_id = any ((select live_stream.influencer_ids())::uuid[])
         or (select live_stream.is_service()));

create policy live_stream_bans_select on public.live_stream_bans
  for select to public
  using (influencer_id = any ((select live_stream.influencer_ids())::uuid[])
         or influencer_id = any ((select live_stream.moderated_influencer_ids())::uuid[])
         or (select live_stream.is_service()));
create policy live_stream_bans_insert on public.live_stream_bans
  for insert to public
  with check (influencer_id = any ((select live_stream.influencer_ids())::uuid[])
              or influencer_id = any ((select live_stream.moderated_influencer_ids())::uuid[])
              or (select live_stream.is_service()));
create policy live_stream_bans_update on public.live_stream_bans
  for update to public
  using (influencer_id = any ((select live_stream.influencer_ids())::uuid[])
         or influencer_id = any ((select live_stream.moderated_influencer_ids())::uuid[])
         or (select live_stream.is_service()))
  with check (influencer_id = any ((select live_stream.influencer_ids())::uuid[])
              or influencer_id = any ((select live_stream.moderated_influencer_ids())::uuid[])
              or (select live_stream.is_service()));
create policy live_stream_bans_delete on public.live_stream_bans
  for delete to public
  using (influencer_id = any ((select live_stream.influencer_ids())::uuid[])
         or influencer_id = any ((select live_stream.moderated_influencer_ids())::uuid[])
         or (select live_stream.is_service()));

create policy live_stream_invitations_select on public.live_stream_invitations
  for select to public
  using ((select live_stream.is_service())
         or session_id in (select s.id from public.live_stream_sessions s
                            where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])));
create policy live_stream_invitations_insert on public.live_stream_invitations
  for insert to public with check ((select live_stream.is_service()));
create policy live_stream_invitations_update on public.live_stream_invitations
  for update to public
  using ((select live_stream.is_service())) with check ((select live_stream.is_service()));
create policy live_stream_invitations_delete on public.live_stream_invitations
  for delete to public using ((select live_stream.is_service()));

create policy live_stream_guests_select on public.live_stream_guests
  for select to public
  using (user_id = (select live_stream.uid())
         or (select live_stream.is_service())
         or session_id in (select s.id from public.live_stream_sessions s
                            where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])));
create policy live_stream_guests_insert on public.live_stream_guests
  for insert to public
  with check ((select live_stream.is_service())
              or session_id in (select s.id from public.live_stream_sessions s
                                 where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])));
create policy live_stream_guests_update on public.live_stream_guests
  for update to public
  using ((select live_stream.is_service())) with check ((select live_stream.is_service()));
create policy live_stream_guests_delete on public.live_stream_guests
  for delete to public
  using ((select live_stream.is_service())
         or session_id in (select s.id from public.live_stream_sessions s
                            where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])));

create or replace trigger live_stream_moderators_guard
  before insert or update on public.live_stream_moderators
  for each row execute function live_stream.moderators_guard();
create or replace trigger live_stream_moderators_settle_insert
  after insert on public.live_stream_moderators
  referencing new table as new_rows
  for each statement execute function live_stream.moderators_settle();
create or replace trigger live_stream_moderators_settle_delete
  after delete on public.live_stream_moderators
  referencing old table as old_rows
  for each statement execute function live_stream.moderators_settle();

create or replace trigger live_stream_bans_guard
  before insert or update on public.live_stream_bans
  for each row execute function live_stream.bans_guard();
create or replace trigger live_stream_bans_begin_update
  before update on public.live_stream_bans
  for each statement execute function live_stream.begin_update();
create or replace trigger live_stream_bans_settle_insert
  after insert on public.live_stream_bans
  referencing new table as new_rows
  for each statement execute function live_stream.bans_settle();
create or replace trigger live_stream_bans_settle_update
  after update on public.live_stream_bans
  referencing old table as old_rows new table as new_rows
  for each statement execute function live_stream.bans_settle();
create or replace trigger live_stream_bans_settle_delete
  after delete on public.live_stream_bans
  referencing old table as old_rows
  for each statement execute function live_stream.bans_settle();

create or replace trigger live_stream_invitations_guard
  before insert on public.live_stream_invitations
  for each row execute function live_stream.fill_in();
create or replace trigger live_stream_invitations_settle_insert
  after insert on public.live_stream_invitations
  referencing new table as new_rows
  for each statement execute function live_stream.invitations_settle();
create or replace trigger live_stream_invitations_settle_update
  after update on public.live_stream_invitations
  referencing old table as old_rows new table as new_rows
  for each statement execute function live_stream.invitations_settle();

create or replace trigger live_stream_guests_guard
  before insert or update on public.live_stream_guests
  for each row execute function live_stream.guests_guard();
create or replace trigger live_stream_guests_settle_insert
  after insert on public.live_stream_guests
  referencing new table as new_rows
  for each statement execute function live_stream.guests_settle();
create or replace trigger live_stream_guests_settle_delete
  after delete on public.live_stream_guests
  referencing old table as old_rows
  for each statement execute function live_stream.guests_settle();

create or replace function public.live_stream_add_moderator(
    user_id uuid, influencer_id uuid default null)
  returns public.live_stream_moderators
  language sql volatile set search_path = '' as $$
  insert into public.live_stream_moderators (influencer_id, user_id)
  values (live_stream.own_influencer($2), $1)
  on conflict do nothing;
  select m.* from public.live_stream_moderators m
   where m.influencer_id = (select live_stream.own_influencer($2)) and m.user_id = $1
$$;
comment on function public.live_stream_add_moderator is
  'Makes a user moderator of all sessions of the caller''s influencer, and returns the row.';

create or replace function public.live_stream_remove_moderator(
    user_id uuid, influencer_id uuid default null)
  returns setof public.live_stream_moderators
  language sql volatile set search_path = '' as $$
  select live_stream.own_influencer($2);
  delete from public.live_stream_moderators m
   where m.influencer_id = (select live_stream.own_influencer($2)) and m.user_id = $1
  returning m.*
$$;
comment on function public.live_stream_remove_moderator is
  'Takes the part of moderator from a user, who is closed out of private sessions; returns what was, no row if nothing.';

create or replace function public.live_stream_ban(
    user_id uuid,
    influencer_id uuid default null,
    session_id uuid default null,
    expires_at timestamptz default null,
    reason text default null)
  returns public.live_stream_bans
  language sql volatile set search_path = '' as $$
  insert into public.live_stream_bans as b
    (influencer_id, user_id, kind, session_id, expires_at, reason, created_by)
  values (live_stream.moderated_influencer($2, $3), $1, 'ban', $3, $4, $5, live_stream.uid())
  on conflict on constraint live_stream_bans_influencer_id_user_id_kind_key do update
    set session_id = excluded.session_id, expires_at = excluded.expires_at,
        reason = excluded.reason, created_by = excluded.created_by, created_at = now()
  returning b.*
$$;
comment on function public.live_stream_ban is
  'Bans a user from all sessions of an influencer, the session''s or the caller''s own unless named, until a time or for good, and closes the user out of them at once. Replaces a ban that is there, and returns the ban.';

create or replace function public.live_stream_timeout(
    user_id uuid,
    seconds integer default 300,
    influencer_id uuid default null,
    session_id uuid default null,
    reason text default null)
  returns public.live_stream_bans
  language sql volatile set search_path = '' as $$
  insert into public.live_stream_bans as b
    (influencer_id, user_id, kind, session_id, expires_at, reason, created_by)
  values (live_stream.moderated_influencer($3, $4), $1, 'timeout', $4,
          now() + make_interval(secs => coalesce($2, 300)), $5, live_stream.uid())
  on conflict on constraint live_stream_bans_influencer_id_user_id_kind_key do update
    set session_id = excluded.session_id, expires_at = excluded.expires_at,
        reason = excluded.reason, created_by = excluded.created_by, created_at = now()
  returning b.*
$$;
comment on function public.live_stream_timeout is
  'Keeps a user from writing and reacting in the sessions of an influencer for some seconds, 1 to 86,400 (a day). Replaces a timeout that is there, and returns it.';

create or replace function public.live_stream_unban(
    user_id uuid,
    influencer_id uuid default null,
    session_id uuid default null,
    kind public.live_stream_ban_kind default null)
  returns setof public.live_stream_bans
  language sql volatile set search_path = '' as $$
  select live_stream.moderated_influencer($2, $3);
  delete from public.live_stream_bans b
   where b.influencer_id = (select live_stream.moderated_influencer($2, $3)) and b.user_id = $1
     and ($4 is null or b.kind = $4)
  returning b.*
$$;
comment on function public.live_stream_unban is
  'Lifts the ban and the timeout of a user, or the one of a kind; returns what was lifted, no row if nothing.';

create or replace function public.live_stream_invite(session_id uuid, user_id uuid)
  returns public.live_stream_guests
  language sql volatile set search_path = '' as $$
  insert into public.live_stream_guests (session_id, user_id, created_by)
  values ($1, $2, live_stream.uid())
  on conflict do nothing;
  select g.* from public.live_stream_guests g where g.session_id = $1 and g.user_id = $2
$$;
comment on function public.live_stream_invite is
  'Lets a user see and join a private session of the caller''s, and returns the row.';

create or replace function public.live_stream_uninvite(session_id uuid, user_id uuid)
  returns setof public.live_stream_guests
  language sql volatile set search_path = '' as $$
  select live_stream.require_own_session($1);
  delete from public.live_stream_guests g where g.session_id = $1 and g.user_id = $2
  returning g.*
$$;
comment on function public.live_stream_uninvite is
  'Takes an invitation back and closes the guest out of the private session at once; returns what was, no row if nothing.';

create or replace function public.live_stream_create_invitation(
    inout session_id uuid,
    inout expires_at timestamptz default null,
    inout max_uses integer default 1,
    out invitation_id uuid,
    out token text)
  language sql volatile set search_path = '' as $$
  select i.session_id, i.expires_at, i.max_uses, i.invitation_id, i.token
    from live_stream.create_invitation($1, $2, $3) as i
$$;
comment on function public.live_stream_create_invitation is
  'Makes a link token that lets max_uses people (null: any number) become guests of a session of the caller''s until expires_at, in seven days unless given. Returns the token this once: the database keeps a hash of it.';

create or replace function live_stream.accepted_session(token text)
  returns setof public.live_stream_sessions
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select s.* from public.live_stream_invitations i
    join public.live_stream_sessions s on s.id = i.session_id
   where i.token_hash = sha256(convert_to($1, 'UTF8'))
     and (exists (select from public.live_stream_guests g
                   where g.session_id = s.id and g.user_id = (select live_stream.uid()))
          or s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])
          or s.influencer_id = any ((select live_stream.moderated_influencer_ids())::uuid[]))
$$;
comment on function live_stream.accepted_session is
  'The session of an invitation that the caller has accepted.';

create or replace function public.live_stream_accept_invitation(token text)
  returns public.live_stream_sessions
  language sql volatile set search_path = '' as $$
  select live_stream.accept_invitation($1);
  select s.* from live_stream.accepted_session($1) s
$$;
comment on function public.live_stream_accept_invitation is
  'Makes the caller a guest of the session that the token is for, and returns the session. Accepting again changes nothing and costs no use, and a guest may when the link is expired, used up or revoked.';

create or replace function public.live_stream_revoke_invitation(invitation_id uuid)
  returns public.live_stream_invitations
  language sql volatile set search_path = '' as $$
  select live_stream.revoke_invitation($1);
  select i.* from public.live_stream_invitations i where i.id = $1
$$;
comment on function public.live_stream_revoke_invitation is
  'Makes a link of the caller''s useless and returns the invitation. Who has accepted it stays a guest.';
comment on function live_stream.create_invitation is
  'Makes an invitation; behind live_stream_create_invitation.';
comment on function live_stream.accept_invitation is
  'Makes the caller a guest; behind live_stream_accept_invitation.';
comment on function live_stream.revoke_invitation is
  'Revokes an invitation; behind live_stream_revoke_invitation.';

revoke all on function live_stream.accepted_session from public;
grant execute on function live_stream.create_invitation, live_stream.accept_invitation, live_stream.revoke_invitation,
  live_stream.accepted_session to authenticated, service_role;

revoke all on function public.live_stream_add_moderator, public.live_stream_remove_moderator,
  public.live_stream_ban, public.live_stream_timeout, public.live_stream_unban,
  public.live_stream_invite, public.live_stream_uninvite, public.live_stream_create_invitation,
  public.live_stream_accept_invitation, public.live_stream_revoke_invitation from public, anon;
grant execute on function public.live_stream_add_moderator, public.live_stream_remove_moderator,
  public.live_stream_ban, public.live_stream_timeout, public.live_stream_unban,
  public.live_stream_invite, public.live_stream_uninvite, public.live_stream_create_invitation,
  public.live_stream_accept_invitation, public.live_stream_revoke_invitation to authenticated, service_role;
