create table public.live_stream_products (
  id uuid not null default gen_random_uuid(),
  session_id uuid not null,
  product_id uuid not null,
  featured_at timestamptz not null default now(),
  featured_duration_minutes integer default 5,
  display_order integer not null default 0,
  original_price numeric(10,2),
  live_stream_price numeric(10,2),
  discount_percentage numeric(5,2),
  limited_quantity integer,
  sold_quantity integer not null default 0,
  views integer not null default 0,
  clicks integer not null default 0,
  add_to_cart integer not null default 0,
  orders integer not null default 0,
  revenue numeric(12,2) not null default 0,
  likes integer not null default 0,
  comments integer not null default 0,
  shares integer not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint live_stream_products_pkey primary key (id),
  constraint live_stream_products_session_id_product_id_key unique (session_id, product_id),
  constraint live_stream_products_session_id_fkey foreign key (session_id)
    references public.live_stream_sessions (id) on delete cascade,
  constraint live_stream_products_price_check check (
    original_price >= 0 and original_price <> 'NaN'
    and live_stream_price >= 0 and live_stream_price <> 'NaN'),
  constraint live_stream_products_discount_check check (discount_percentage between 0 and 100),
  constraint live_stream_products_quantity_check check (
    limited_quantity >= 0 and featured_duration_minutes >= 0),
  constraint live_stream_products_counters_check check (
    sold_quantity >= 0 and views >= 0 and clicks >= 0 and add_to_cart >= 0 and orders >= 0
    and revenue >= 0 and revenue <> 'NaN' and likes >= 0 and comments >= 0 and shares >= 0)
) with (fillfactor = 70);

comment on table public.live_stream_products is
  'Products that a session shows, with their prices there and what viewers do with them.';
comment on column public.live_stream_products.id is 'Id of the row: the product in this session.';
comment on column public.live_stream_products.session_id is 'Session that shows the product.';
comment on column public.live_stream_products.product_id is 'Product of the shop; once per session.';
comment on column public.live_stream_products.featured_at is 'When the product was last put in front.';
comment on column public.live_stream_products.featured_duration_minutes is 'For how many minutes it is in front.';
comment on column public.live_stream_products.display_order is 'Place in the list, lowest first.';
comment on column public.live_stream_products.original_price is 'Price in the shop.';
comment on column public.live_stream_products.live_stream_price is 'Price during the stream.';
comment on column public.live_stream_products.discount_percentage is 'Discount in percent, 0 to 100.';
comment on column public.live_stream_products.limited_quantity is 'How many there are; null is no limit.';
comment on column public.live_stream_products.sold_quantity is 'How many were sold; kept by the orders of the product where it has some.';
comment on column public.live_stream_products.views is 'Times it was looked at.';
comment on column public.live_stream_products.clicks is 'Times it was clicked.';
comment on column public.live_stream_products.add_to_cart is 'Times it was put in a cart.';
comment on column public.live_stream_products.orders is 'Orders; the session''s total follows. Kept by the orders of the product where it has some, on top of what was written before.';
comment on column public.live_stream_products.revenue is 'Revenue; the session''s total follows. Kept as orders is.';
comment on column public.live_stream_products.likes is 'Times it was liked; kept by the app.';
comment on column public.live_stream_products.comments is 'Comments on it; kept by the app.';
comment on column public.live_stream_products.shares is 'Times it was shared.';
comment on column public.live_stream_products.created_at is 'When the row was made.';
comment on column public.live_stream_products.updated_at is 'When the row was last changed.';

alter table public.live_stream_products add constraint live_stream_products_product_id_fkey
  foreign key (product_id) references public.products (id) on delete cascade;

create index live_stream_products_session_id_display_order_idx
  on public.live_stream_products (session_id, display_order);
create index live_stream_products_product_id_idx on public.live_stream_products (product_id);

alter table public.live_stream_products enable row level security;

revoke all on table public.live_stream_products from public, anon, authenticated, service_role;
grant select on table public.live_stream_products to anon;
grant select, insert, update, delete on table public.live_stream_products to authenticated;
grant select, insert, update, delete, truncate on table public.live_stream_products to service_role;

-- As live_stream_chat_select.
create policy live_stream_products_select on public.live_stream_products
  for select to public
  using ((select true from public.live_stream_sessions s where s.id = session_id));
create policy live_stream_products_insert on public.live_stream_products
  for insert to public
  with check (
    (select live_stream.is_service())
    or session_id in (select s.id from public.live_stream_sessions s
                       where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])));
create policy live_stream_products_update on public.live_stream_products
  for update to public
  using (
    (select live_stream.is_service())
    or session_id in (select s.id from public.live_stream_sessions s
                       where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])))
  with check (
    (select live_stream.is_service())
    or session_id in (select s.id from public.live_stream_sessions s
                       where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])));
create policy live_stream_products_delete on public.live_stream_products
  for delete to public
  using (
    (select live_stream.is_service())
    or session_id in (select s.id from public.live_stream_sessions s
                       where s.influencer_id = any ((select live_stream.influencer_ids())::uuid[])));

create or replace trigger live_stream_products_guard
  before insert or update on public.live_stream_products
  for each row execute function live_stream.products_guard();
create or replace trigger live_stream_products_begin_update
  before update on public.live_stream_products
  for each statement execute function live_stream.begin_update();
create or replace trigger live_stream_products_settle_insert
  after insert on public.live_stream_products
  referencing new table as new_rows
  for each statement execute function live_stream.products_settle();
create or replace trigger live_stream_products_settle_update
  after update on public.live_stream_products
  referencing old table as old_rows new table as new_rows
  for each statement execute function live_stream.products_settle();
create or replace trigger live_stream_products_settle_delete
  after delete on public.live_stream_products
  referencing old table as old_rows
  for each statement execute function live_stream.products_settle();
create or replace trigger live_stream_products_truncated
  after truncate on public.live_stream_products
  for each statement execute function live_stream.products_truncated();
-- As live_stream_viewers_stands_alone.
create or replace trigger live_stream_products_stands_alone
  after delete on public.live_stream_products
  referencing old table as old_rows
  for each row when (false) execute function live_stream.products_settle();

create or replace function live_stream.session_product(session_product_id uuid)
  returns setof public.live_stream_products
  language sql stable security definer set search_path = pg_catalog, pg_temp as $$
  select r.* from public.live_stream_products p
    join public.live_stream_sessions s on s.id = p.session_id
   cross join lateral pg_catalog.jsonb_populate_record(
           p, live_stream.tallied_product(p.id, p.views, p.clicks, p.add_to_cart, p.shares)) as r
   where p.id = $1
     and live_stream.user_sees_session(s.id, s.influencer_id, s.visibility::text)
$$;
comment on function live_stream.tallied_product is
  'The tallies of a product with what this transaction has done, as an object of those that it has changed.';
comment on function live_stream.session_product is
  'A product whose session the caller may see, also an unlisted one: its id is known. With what this transaction has done with it.';

create or replace function public.live_stream_feature_product(
    session_id uuid,
    product_id uuid,
    original_price numeric default null,
    live_stream_price numeric default null,
    discount_percentage numeric default null,
    display_order integer default null,
    limited_quantity integer default null,
    featured_duration_minutes integer default null)
  returns public.live_stream_products
  language sql volatile set search_path = '' as $$
  select live_stream.require_own_session($1);
  insert into public.live_stream_products as p
    (session_id, product_id, original_price, live_stream_price, discount_percentage,
     display_order, limited_quantity, featured_duration_minutes)
  values
    ($1, $2, live_stream.fitting_number('live_stream_products', 'original_price', $3),
     live_stream.fitting_number('live_stream_products', 'live_stream_price', $4),
     live_stream.fitting_number('live_stream_products', 'discount_percentage', $5),
     coalesce($6, 0), $7, coalesce($8, 5))
  on conflict on constraint live_stream_products_session_id_product_id_key do update
    set featured_at = now(),
        original_price = coalesce($3, p.original_price),
        live_stream_price = coalesce($4, p.live_stream_price),
        discount_percentage = coalesce($5, p.discount_percentage),
        display_order = coalesce($6, p.display_order),
        limited_quantity = coalesce($7, p.limited_quantity),
        featured_duration_minutes = coalesce($8, p.featured_duration_minutes)
  returning p.*
$$;
comment on function public.live_stream_feature_product is
  'Puts a product in front: adds it to the session, or features it anew, and returns it.';

create or replace function public.live_stream_track_view(
    session_product_id uuid, viewer_id uuid default null)
  returns public.live_stream_products
  language sql volatile set search_path = '' as $$
  select live_stream.track_product($1, 'view', $2);
  select * from live_stream.session_product($1)
  union all
  select p.* from public.live_stream_products p where p.id = $1
  limit 1
$$;
comment on function public.live_stream_track_view is
  'Counts that somebody looked at a product of a session and returns the product.';

create or replace function public.live_stream_track_click(
    session_product_id uuid, viewer_id uuid default null)
  returns public.live_stream_products
  language sql volatile set search_path = '' as $$
  select live_stream.track_product($1, 'click', $2);
  select * from live_stream.session_product($1)
  union all
  select p.* from public.live_stream_products p where p.id = $1
  limit 1
$$;
comment on function public.live_stream_track_click is
  'Counts a click on a product of a session, also for the viewer, and returns the product.';

create or replace function public.live_stream_track_add_to_cart(
    session_product_id uuid, viewer_id uuid default null)
  returns public.live_stream_products
  language sql volatile set search_path = '' as $$
  select live_stream.track_product($1, 'add_to_cart', $2);
  select * from live_stream.session_product($1)
  union all
  select p.* from public.live_stream_products p where p.id = $1
  limit 1
$$;
comment on function public.live_stream_track_add_to_cart is
  'Counts that somebody put a product of a session in the cart and returns the product.';

create or replace function public.live_stream_track_share(
    session_product_id uuid, viewer_id uuid default null)
  returns public.live_stream_products
  language sql volatile set search_path = '' as $$
  select live_stream.track_product($1, 'share', $2);
  select * from live_stream.session_product($1)
  union all
  select p.* from public.live_stream_products p where p.id = $1
  limit 1
$$;
comment on function public.live_stream_track_share is
  'Counts that somebody shared a product of a session and returns the product.';

comment on function live_stream.track_product is 'Counts what somebody did with a product; behind live_stream_track_….';

revoke all on function live_stream.session_product from public;
grant execute on function live_stream.session_product, live_stream.track_product to anon, authenticated, service_role;

revoke all on function public.live_stream_feature_product, public.live_stream_track_view,
  public.live_stream_track_click, public.live_stream_track_add_to_cart,
  public.live_stream_track_share from public;
revoke all on function public.live_stream_feature_product from anon;
grant execute on function public.live_stream_track_view, public.live_stream_track_click,
  public.live_stream_track_add_to_cart, public.live_stream_track_share to anon;
grant execute on function public.live_stream_feature_product, public.live_stream_track_view,
  public.live_stream_track_click, public.live_stream_track_add_to_cart,
  public.live_stream_track_share to authenticated, service_role;
