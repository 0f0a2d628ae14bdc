create unlogged table live_stream.person_rates (
  user_id uuid not null,
  kind smallint not null,
  since timestamptz not null,
  spent integer not null,
  constraint person_rates_pkey primary key (user_id, kind)
) with (fillfactor = 50);

comment on table live_stream.person_rates is
  'How often people have done something of late, for the limits against abuse. Kept by live_stream alone; of no use after a crash.';
comment on column live_stream.person_rates.user_id is 'User.';
comment on column live_stream.person_rates.kind is 'What is counted: 1 reactions, 2 flags, 3 edits.';
comment on column live_stream.person_rates.since is 'When the count began.';
comment on column live_stream.person_rates.spent is 'How often since then.';

alter table live_stream.person_rates enable row level security;

revoke all on table live_stream.person_rates from public, anon, authenticated, service_role;
grant select, delete on table live_stream.person_rates to service_role;

create policy person_rates_select on live_stream.person_rates
  for select to public using ((select live_stream.is_service()));
create policy person_rates_delete on live_stream.person_rates
  for delete to public using ((select live_stream.is_service()));
