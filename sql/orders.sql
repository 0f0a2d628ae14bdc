create table public.live_stream_orders (
  id uuid not null default gen_random_uuid(),
  session_id uuid not null,
  session_product_id uuid not null,
  product_id uuid not null,
  viewer_id uuid,
  user_id uuid,
  quantity integer not null default 1,
  amount numeric(12,2) not null,
  order_reference varchar(255),
  created_at timestamptz not null default now(),
  constraint live_stream_orders_pkey primary key (id),
  constraint live_stream_orders_session_id_order_reference_product_id_key
    unique (session_id, order_reference, product_id),
  constraint live_stream_orders_session_id_fkey foreign key (session_id)
    references public.live_stream_sessions (id) on delete cascade,
  constraint live_stream_orders_session_product_id_fkey foreign key (session_product_id)
    references public.live_stream_products (id) deferrable initially deferred,
  constraint live_stream_orders_viewer_id_fkey foreign key (viewer_id)
    references public.live_stream_viewers (id) on delete set null,
  constraint live_stream_orders_quantity_check check (quantity between 1 and 100000),
  constraint live_stream_orders_amount_check check (amount >= 0 and amount <> 'NaN')
);

comment on table public.live_stream_orders is
  'Orders placed during a session: recorded by the shop''s server or the host, counted once each. A session that has some is the server''s to delete.';
comment on column public.live_stream_orders.id is 'Id of the row.';
comment on column public.live_stream_orders.session_id is 'Session during which the order was placed.';
comment on column public.live_stream_orders.session_product_id is
  'The product in that session; found by the database. It cannot be removed while it has orders.';
comment on column public.live_stream_orders.product_id is 'Product of the shop.';
comment on column public.live_stream_orders.viewer_id is 'Viewer who ordered, where known.';
comment on column public.live_stream_orders.user_id is 'User who ordered, where known; who reads the order too. A host names those who have joined the session.';
comment on column public.live_stream_orders.quantity is 'How many were ordered, 1 to 100,000.';
comment on column public.live_stream_orders.amount is 'What was paid in all.';
comment on column public.live_stream_orders.order_reference is
  'The shop''s own number of the order, one row for each product in it. The same product recorded again with the same number is counted once. What shows nothing and white space around it are left out, and letters are composed.';
comment on column public.live_stream_orders.created_at is 'When the order was recorded; the server may bring older ones along.';

alter table public.live_stream_orders add constraint live_stream_orders_user_id_fkey
  foreign key (user_id) references auth.users (id) on delete set null;

create index live_stream_orders_session_product_id_idx
  on public.live_stream_orders (session_product_id);
create index live_stream_orders_viewer_id_idx
  on public.live_stream_orders (viewer_id) where viewer_id is not null;
create index live_stream_orders_user_id_idx
  on public.live_stream_orders (user_id) where user_id is not null;

alter table public.live_stream_orders enable row level security;

revoke all on table public.live_stream_orders from public, anon, authenticated, service_role;
grant select, insert on table public.live_stream_orders to authenticated;
grant select, insert, update, delete, truncate on table public.live_stream_orders to service_role;

create policy live_stream_orders_select on public.live_stream_orders
  for select to public
  using (
    user_id = (select live_stream.uid())
    or (select live_stream.is_service())
    or session_id in (select s.id from public.live_stream_sessions s
                       where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])));
create policy live_stream_orders_insert on public.live_stream_orders
  for insert to public
  with check (
    (select live_stream.is_service())
    or session_id in (select s.id from public.live_stream_sessions s
                       where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])));
create policy live_stream_orders_update on public.live_stream_orders
  for update to public
  using ((select live_stream.is_service())) with check ((select live_stream.is_service()));
create policy live_stream_orders_delete on public.live_stream_orders
  for delete to public using ((select live_stream.is_service()));

create or replace trigger live_stream_orders_guard
  before insert or update on public.live_stream_orders
  for each row execute function live_stream.orders_guard();
create or replace trigger live_stream_orders_begin_update
  before update on public.live_stream_orders
  for each statement execute function live_stream.begin_update();
create or replace trigger live_stream_orders_settle_insert
  after insert on public.live_stream_orders
  referencing new table as new_rows
  for each statement execute function live_stream.orders_settle();
create or replace trigger live_stream_orders_settle_update
  after update on public.live_stream_orders
  referencing old table as old_rows new table as new_rows
  for each statement execute function live_stream.orders_settle();
create or replace trigger live_stream_orders_settle_delete
  after delete on public.live_stream_orders
  referencing old table as old_rows
  for each statement execute function live_stream.orders_settle();
create or replace trigger live_stream_orders_truncated
  before truncate on public.live_stream_orders
  for each statement execute function live_stream.orders_truncated();
-- As live_stream_viewers_stands_alone.
create or replace trigger live_stream_orders_stands_alone
  after delete on public.live_stream_orders
  referencing old table as old_rows
  for each row when (false) execute function live_stream.orders_settle();

create or replace function public.live_stream_record_order(
    session_id uuid,
    product_id uuid,
    amount numeric,
    quantity integer default 1,
    viewer_id uuid default null,
    user_id uuid default null,
    order_reference text default null,
    id uuid default gen_random_uuid())
  returns public.live_stream_orders
  language sql volatile set search_path = '' as $$
  select live_stream.require_own_session($1);
  insert into public.live_stream_orders
    (id, session_id, product_id, amount, quantity, viewer_id, user_id, order_reference)
  values ($8, $1, $2, live_stream.fitting_number('live_stream_orders', 'amount', $3), coalesce($4, 1), $5, $6,
          live_stream.fitting_text('live_stream_orders', 'order_reference', $7))
  on conflict do nothing;
  select live_stream.recorded_order($1, $2, $8, $7, $3, coalesce($4, 1));
  select o.* from public.live_stream_orders o
   where o.session_id = $1
     and o.id = (select live_stream.recorded_order($1, $2, $8, $7, $3, coalesce($4, 1)))
$$;
comment on function public.live_stream_record_order is
  'Records an order of a product in a session and returns it. An order of several products is recorded product by product, all with its order_reference. Called again with the same order_reference and product, it counts once, and with another amount or quantity it is refused.';

revoke all on function public.live_stream_record_order from public, anon;
grant execute on function public.live_stream_record_order, live_stream.recorded_order to authenticated, service_role;
comment on function live_stream.recorded_order is
  'The id of the order with this id, or of this product with this reference; an error where it was of another product, amount or quantity.';
