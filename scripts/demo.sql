-- A whole live stream, played as PostgREST plays it: each request is a transaction with the role and the claims of a
-- real client. Ada streams, Ben and Cleo have accounts, a guest has none, and the shop's server is service_role.

\set QUIET on
\set ON_ERROR_STOP on
\pset footer off
\pset null '-'

\set ada_id 0000ada0-0000-4000-8000-000000000001
\set ben_id 00000be0-0000-4000-8000-000000000002
\set cleo_id 000c1e00-0000-4000-8000-000000000003
\set ada 'begin; set local role authenticated; set local request.jwt.claims = ''{"role":"authenticated","sub":"0000ada0-0000-4000-8000-000000000001"}'';'
\set ben 'begin; set local role authenticated; set local request.jwt.claims = ''{"role":"authenticated","sub":"00000be0-0000-4000-8000-000000000002"}'';'
\set cleo 'begin; set local role authenticated; set local request.jwt.claims = ''{"role":"authenticated","sub":"000c1e00-0000-4000-8000-000000000003"}'';'
\set guest 'begin; set local role anon; set local request.jwt.claims = ''{"role":"anon"}'';'
\set shop 'begin; set local role service_role; set local request.jwt.claims = ''{"role":"service_role"}'';'

\echo
\echo The app has its users, an influencer, Ada, and two products.
insert into auth.users (id, email)
  values (:'ada_id', 'ada@example.org'), (:'ben_id', 'ben@example.org'), (:'cleo_id', 'cleo@example.org');
insert into public.influencers (user_id, display_name, followers_count, email)
  values (:'ada_id', 'Ada', 1200, 'ada@example.org') returning id as influencer_id \gset
insert into public.products (name, price) values ('Lamp', 40) returning id as lamp_id \gset
insert into public.products (name, price) values ('Chair', 90) returning id as chair_id \gset

\echo
\echo Ada schedules a weekly show: Mondays, Wednesdays and Fridays at 20:00 in Berlin.
:ada insert into public.live_stream_schedule
  (influencer_id, title, scheduled_date, scheduled_start_time, scheduled_end_time, timezone,
   is_recurring, recurrence_pattern, days_of_week)
  values (:'influencer_id', 'Evening show', current_date, '20:00', '21:30', 'Europe/Berlin', true, 'weekly', '{1,3,5}');
commit;
:guest select title, display_name, full_start_datetime, full_end_datetime from public.upcoming_streams; commit;

\echo Ada creates a session. The database makes its code.
:ada select id as session_id, session_code, status from public.live_stream_create('Lamps and chairs', max_viewers => 3) \gset
commit;
\echo '  session' :session_id 'with the code' :session_code 'is' :status

\echo
\echo Ada goes live with a stream key. The row shows none; only Ada reads it.
:ada select status, stream_key, hls_url from public.live_stream_start(:'session_id', stream_key => 'sk-secret',
  rtmp_url => 'rtmp://ingest.example.org', hls_url => 'https://cdn.example.org/live.m3u8'); commit;
:ada select stream_key, rtmp_url from public.live_stream_stream_credentials(:'session_id'); commit;

\echo Ada puts a product in front.
:ada select id as lamp_in_session from public.live_stream_feature_product(:'session_id', :'lamp_id', 40, 29.90, 25) \gset
commit;

\echo Ben joins by id, Cleo by typing the code in her own way, and a guest without an account.
:ben select id as ben_viewer from public.live_stream_join(:'session_id', device_type => 'mobile') \gset
commit;
:cleo select id as cleo_viewer from public.live_stream_join(session_code => lower(replace(:'session_code', '-', ' '))) \gset
commit;
:guest select id as guest_viewer from public.live_stream_join(:'session_id', device_type => 'desktop') \gset
commit;
:guest select display_name, title, current_viewers, peak_viewers from public.live_sessions_with_details
  where status = 'live'; commit;

\echo The session admits three: a fourth is told so.
\set ON_ERROR_STOP off
:guest select id from public.live_stream_join(:'session_id');
\set ON_ERROR_STOP on
commit;

\echo
\echo Ben writes, Cleo reacts, Ada answers.
:ben select id as message_id from public.live_stream_send_message(:'session_id', 'How bright is it?', username => 'Ben') \gset
commit;
:cleo select reactions from public.live_stream_react(:'message_id', '🔥'); commit;
:ada select username, is_influencer, message from public.live_stream_send_message(:'session_id', '800 lumen', username => 'Ada',
  parent_message_id => :'message_id'); commit;

\echo Ben clicks, puts a lamp in the cart and buys two; the shop records the order, twice, and it counts once.
:ben select id from public.live_stream_track_click(:'lamp_in_session') \gset
commit;
:ben select id from public.live_stream_track_add_to_cart(:'lamp_in_session') \gset
commit;
:shop select id as order_id from public.live_stream_record_order(:'session_id', :'lamp_id', 59.80, 2,
  user_id => :'ben_id', order_reference => 'A-1001') \gset
commit;
:shop select quantity, amount, order_reference from public.live_stream_record_order(:'session_id', :'lamp_id', 59.80, 2,
  user_id => :'ben_id', order_reference => 'A-1001'); commit;

\echo The guest leaves, Cleo shares the stream, and Ada ends it: whoever still watches is closed with it.
:guest select is_still_watching, watch_duration_seconds from public.live_stream_leave(:'guest_viewer'); commit;
:cleo select shares_sent from public.live_stream_share(:'cleo_viewer'); commit;
:ada select status, current_viewers, recording_url from public.live_stream_end(:'session_id', 'https://cdn.example.org/recording.mp4');
commit;

\echo A finished session stays finished.
\set ON_ERROR_STOP off
:ada update public.live_stream_sessions set status = 'live' where id = :'session_id';
\set ON_ERROR_STOP on
commit;

\echo
\echo The numbers, as Ada reads them. A guest gets no row.
\x on
:ada select * from public.live_stream_session_analytics(:'session_id'); commit;
\x off
:guest select count(*) as rows_for_a_guest from public.session_analytics_summary; commit;
