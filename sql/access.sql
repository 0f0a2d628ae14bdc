-- Who may see or do what: the functions that policies and others ask. What they say is in src/access.

grant execute on function live_stream.influencer_ids() to anon, authenticated, service_role;
comment on function live_stream.influencer_ids() is
  'Ids of the influencers that the calling user owns.';
grant execute on function live_stream.moderated_influencer_ids(), live_stream.guest_session_ids(),
  live_stream.banning_influencer_ids() to anon, authenticated, service_role;
comment on function live_stream.moderated_influencer_ids() is
  'Ids of the influencers whose sessions the calling user moderates.';
comment on function live_stream.guest_session_ids() is
  'Sessions that are not public and that the calling user has been let in to: private ones as a guest, unlisted ones as a guest or viewer.';
comment on function live_stream.banning_influencer_ids() is
  'Ids of the influencers who ban the calling user now.';

grant execute on function live_stream.require_own_session, live_stream.own_influencer,
  live_stream.moderated_influencer to authenticated, service_role;
comment on function live_stream.require_own_session is
  'Nothing if the caller may manage the session; an error that says why not otherwise.';
comment on function live_stream.user_sees_session is
  'Whether the calling user may see a session of this influencer and visibility, whose id is known.';
comment on function live_stream.own_influencer is
  'The influencer, or the caller''s own where none is named; an error unless the caller owns it.';
comment on function live_stream.moderated_influencer is
  'The influencer, or the session''s, or the caller''s own; an error unless the caller owns or moderates it.';
