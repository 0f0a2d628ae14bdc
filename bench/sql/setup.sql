-- What every variant starts from, as the owner of the tables: session 100000000000, which is the hot one, and 1,000
-- others, each live and with ten products. Ids end in a number, so that a load picks one by picking a number.
insert into public.influencers (id, user_id, display_name)
  select ('00000000-0000-4000-8000-' || n)::uuid, gen_random_uuid(), 'Influencer ' || n
    from generate_series(100000000000, 100000001000) as n;
insert into public.live_stream_sessions (id, influencer_id, title, max_viewers)
  select ('00000000-0000-4000-8000-' || n)::uuid, ('00000000-0000-4000-8000-' || n)::uuid, 'Session ' || n, 1000000000
    from generate_series(100000000000, 100000001000) as n;
update public.live_stream_sessions set status = 'live';
insert into public.live_stream_products (id, session_id, product_id)
  select ('00000000-0000-4000-8001-' || n)::uuid,
         ('00000000-0000-4000-8000-' || 100000000000 + (n - 100000000000) / 10)::uuid, gen_random_uuid()
    from generate_series(100000000000, 100000010009) as n;
