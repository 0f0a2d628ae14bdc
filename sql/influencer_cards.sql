-- Who may read the view that src/install/influencers.rs makes over the influencers table.

comment on view live_stream.influencer_cards is
  'What may be public of an influencer: name, followers and picture, and no other column.';

revoke all on table live_stream.influencer_cards from public;
grant select on table live_stream.influencer_cards to anon, authenticated, service_role;
