//! How sessions look that were made of a schedule which is changed: their description, picture and showcase. Each is
//! changed where it still is as the schedule had it: what the host has made otherwise stays.

use super::{is_settling, settling};
use crate::pg::error::Result;
use crate::pg::plan::{self, Plan};
use crate::pg::transition::Changes;
use pgrx::datum::Uuid;
use pgrx::pg_sys;
use std::collections::{BTreeMap, HashSet};

thread_local! {
    // What was to be over for a day is history. Whoever deletes a session is not waited for.
    static PLANNED: Plan = const { Plan::writing(
        c"with mine as materialized (
            select l.schedule_id, l.session_id
              from public.live_stream_schedule_sessions l
             cross join lateral (
                    select from public.live_stream_sessions
                     where id = l.session_id and status::text = 'scheduled' limit 1) planned
             where l.schedule_id = any ($1) and l.ends_at > now() - interval '1 day'),
          stays as materialized (
            select id from public.live_stream_sessions
             where id = any (array (select session_id from mine)) order by id for key share skip locked)
          select m.schedule_id, m.session_id from mine m where m.session_id in (select id from stays)
           order by 2",
        &[pg_sys::UUIDARRAYOID],
    ) };
    static DESCRIBE: Plan = const { Plan::writing(
        c"update public.live_stream_sessions s
             set description = case when s.description is not distinct from u.description_was
                                    then u.description else s.description end,
                 thumbnail_url = case when s.thumbnail_url is not distinct from u.thumbnail_url_was
                                      then u.thumbnail_url else s.thumbnail_url end
            from unnest($1, $2) as made (schedule_id, session_id)
            join unnest($3, $4, $5, $6, $7)
                   as u (schedule_id, description_was, description, thumbnail_url_was, thumbnail_url)
              on u.schedule_id = made.schedule_id
           where s.id = made.session_id and s.status = 'scheduled'
             and (u.description is distinct from u.description_was
                  and s.description is not distinct from u.description_was
                  or u.thumbnail_url is distinct from u.thumbnail_url_was
                  and s.thumbnail_url is not distinct from u.thumbnail_url_was)",
        &[
            pg_sys::UUIDARRAYOID,
            pg_sys::UUIDARRAYOID,
            pg_sys::UUIDARRAYOID,
            pg_sys::TEXTARRAYOID,
            pg_sys::TEXTARRAYOID,
            pg_sys::TEXTARRAYOID,
            pg_sys::TEXTARRAYOID,
        ],
    ) };
    // Locked in the order in which all do that.
    static TAKE_OUT: Plan = const { Plan::writing(
        c"with dropped as materialized (
            select p.id
              from unnest($1, $2) as made (schedule_id, session_id)
              join unnest($3, $4, $5, $6) as u (schedule_id, product_id, was, place) on u.schedule_id = made.schedule_id
              join public.live_stream_products p on p.session_id = made.session_id and p.product_id = u.product_id
             where u.place is null and p.display_order = u.was
               and p.featured_at = p.created_at and p.featured_duration_minutes is not distinct from 5
               and num_nonnulls(p.original_price, p.live_stream_price, p.discount_percentage, p.limited_quantity) = 0
               and (p.sold_quantity, p.views, p.clicks, p.add_to_cart, p.orders, p.revenue, p.likes, p.comments, p.shares)
                   = (0, 0, 0, 0, 0, 0, 0, 0, 0)
               and not exists (select from public.live_stream_orders o where o.session_product_id = p.id)
             order by p.id for update of p)
          delete from public.live_stream_products where id in (select id from dropped)",
        &[
            pg_sys::UUIDARRAYOID,
            pg_sys::UUIDARRAYOID,
            pg_sys::UUIDARRAYOID,
            pg_sys::UUIDARRAYOID,
            pg_sys::INT4ARRAYOID,
            pg_sys::INT4ARRAYOID,
        ],
    ) };
    static REORDER: Plan = const { Plan::writing(
        c"with put as materialized (
            select p.id, u.was, u.place
              from unnest($1, $2) as made (schedule_id, session_id)
              join unnest($3, $4, $5, $6) as u (schedule_id, product_id, was, place) on u.schedule_id = made.schedule_id
              join public.live_stream_products p on p.session_id = made.session_id and p.product_id = u.product_id
             where u.was <> u.place and p.display_order = u.was
             order by p.id for no key update of p)
          update public.live_stream_products p set display_order = put.place
            from put where p.id = put.id",
        &[
            pg_sys::UUIDARRAYOID,
            pg_sys::UUIDARRAYOID,
            pg_sys::UUIDARRAYOID,
            pg_sys::UUIDARRAYOID,
            pg_sys::INT4ARRAYOID,
            pg_sys::INT4ARRAYOID,
        ],
    ) };
}

/// A schedule's products with their places, from 1; none where it has or had not the product.
#[derive(Default)]
struct Showcase {
    schedules: Vec<Uuid>,
    products: Vec<Uuid>,
    was: Vec<Option<i32>>,
    place: Vec<Option<i32>>,
}

impl Showcase {
    fn add(&mut self, schedule: Uuid, old: &[Option<Uuid>], new: &[Option<Uuid>]) {
        let (before, after) = (places(old), places(new));
        let known: HashSet<&Uuid> = before.keys().chain(after.keys()).collect();
        for product in known {
            let (was, place) = (before.get(product), after.get(product));
            if was != place {
                self.schedules.push(schedule);
                self.products.push(*product);
                self.was.push(was.copied());
                self.place.push(place.copied());
            }
        }
    }
}

/// Where each product is shown first.
fn places(products: &[Option<Uuid>]) -> BTreeMap<Uuid, i32> {
    let mut places = BTreeMap::new();
    for (product, place) in products.iter().zip(1..) {
        if let Some(product) = product {
            places.entry(*product).or_insert(place);
        }
    }
    places
}

/// Descriptions and pictures of schedules, as they were and as they are.
#[derive(Default)]
struct Texts {
    schedules: Vec<Uuid>,
    descriptions: (Vec<Option<String>>, Vec<Option<String>>),
    pictures: (Vec<Option<String>>, Vec<Option<String>>),
}

/// Sessions of schedules that were changed, which are still scheduled.
pub fn follow(changes: Changes<'_>) -> Result<()> {
    if is_settling() {
        return Ok(());
    }
    let id = changes.column::<Uuid>("id")?;
    let description = changes.column::<String>("description")?;
    let picture = changes.column::<String>("thumbnail_url")?;
    let products = changes.column::<Vec<Option<Uuid>>>("products_to_showcase")?;
    let (mut texts, mut showcase) = (Texts::default(), Showcase::default());
    changes.for_each(|old, new| {
        let (Some(old), Some(new)) = (old, new) else {
            return Ok(());
        };
        let Some(schedule) = new.at(id) else {
            return Ok(());
        };
        let descriptions = (old.at(description), new.at(description));
        let pictures = (old.at(picture), new.at(picture));
        if descriptions.0 != descriptions.1 || pictures.0 != pictures.1 {
            texts.schedules.push(schedule);
            texts.descriptions.0.push(descriptions.0);
            texts.descriptions.1.push(descriptions.1);
            texts.pictures.0.push(pictures.0);
            texts.pictures.1.push(pictures.1);
        }
        let (before, after) = (old.at(products), new.at(products));
        if before != after {
            showcase.add(
                schedule,
                &before.unwrap_or_default(),
                &after.unwrap_or_default(),
            );
        }
        Ok(())
    })?;
    let mut changed: Vec<Uuid> = texts.schedules.clone();
    changed.extend(&showcase.schedules);
    changed.sort_unstable();
    changed.dedup();
    if changed.is_empty() {
        return Ok(());
    }
    settling(|| {
        let (schedules, sessions) = planned(changed)?;
        if sessions.is_empty() {
            return Ok(());
        }
        if !texts.schedules.is_empty() {
            let args = [
                schedules.clone().into(),
                sessions.clone().into(),
                texts.schedules.into(),
                texts.descriptions.0.into(),
                texts.descriptions.1.into(),
                texts.pictures.0.into(),
                texts.pictures.1.into(),
            ];
            plan::execute(&DESCRIBE, &args)?;
        }
        if showcase.schedules.is_empty() {
            return Ok(());
        }
        let args = [
            schedules.into(),
            sessions.into(),
            showcase.schedules.into(),
            showcase.products.into(),
            showcase.was.into(),
            showcase.place.into(),
        ];
        plan::execute(&TAKE_OUT, &args)?;
        plan::execute(&REORDER, &args)?;
        super::making::put_in(&args)
    })
}

/// The sessions of schedules that are still scheduled, each with its schedule.
fn planned(schedules: Vec<Uuid>) -> Result<(Vec<Uuid>, Vec<Uuid>)> {
    plan::run(&PLANNED, &[schedules.into()], |rows| {
        let read = |row| rows.get::<Uuid>(row, 0).zip(rows.get::<Uuid>(row, 1));
        Ok((0..rows.len()).filter_map(read).unzip())
    })
}
