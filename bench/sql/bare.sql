-- Bare: the same tables, keys, foreign keys and indexes, and no trigger of ours.
do $$
declare name text;
begin
  for name in select relname from pg_class
               where relnamespace = 'public'::regnamespace and relkind = 'r' and relname ~ '^live_stream_'
  loop
    execute format('alter table public.%I disable trigger user', name);
  end loop;
end $$;
