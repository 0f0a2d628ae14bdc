//! What a statement on products changes in the numbers of their sessions.

use super::room;
use crate::identity;
use crate::metrics::{self, Delta};
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::transition;
use crate::pg::trigger::Outcome;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::collections::BTreeMap;

thread_local! {
    static WITHOUT_PRODUCTS: Plan = const { Plan::writing(
        c"update public.live_stream_sessions s
             set total_products_showcased = 0, total_clicks = 0, total_orders = 0,
                 total_revenue = 0,
                 total_shares = of_viewers.shares
                                + coalesce((select a.total_shares from public.live_stream_archive a
                                             where a.session_id = s.id), 0)
            from (select o.id, coalesce(sum(v.shares_sent), 0) as shares
                    from public.live_stream_sessions o
                    left join public.live_stream_viewers v on v.session_id = o.id
                   group by o.id) as of_viewers
           where of_viewers.id = s.id and s.total_products_showcased > 0",
        &[],
    ) };
}

/// AFTER TRUNCATE: as if every row had been deleted.
#[pg_trigger]
fn products_truncated<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    transition::truncate(trigger, || {
        metrics::flush_for_truncate()?;
        metrics::settling(|| plan::execute(&WITHOUT_PRODUCTS, &[]).map(drop))
    })
}

/// AFTER INSERT, UPDATE or DELETE of products.
#[pg_trigger]
fn products_settle<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    transition::after(trigger, |changes| {
        let id = changes.column::<Uuid>("id")?;
        let session_id = changes.column::<Uuid>("session_id")?;
        let clicks = changes.column::<i32>("clicks")?;
        let orders = changes.column::<i32>("orders")?;
        let revenue = changes.column::<AnyNumeric>("revenue")?;
        let shares = changes.column::<i32>("shares")?;
        let mut sessions: BTreeMap<Uuid, Delta> = BTreeMap::new();
        let mut removed: Vec<Uuid> = Vec::new();
        changes.for_each(|old, new| {
            if let (Some(old), None) = (old, new) {
                removed.extend(old.at(id));
            }
            for (row, sign) in [(old, -1), (new, 1)] {
                let Some((row, session)) = row.and_then(|row| Some((row, row.at(session_id)?)))
                else {
                    continue;
                };
                let number = |column| i64::from(row.at(column).unwrap_or(0)) * sign;
                let delta = sessions.entry(session).or_default();
                delta.products += sign;
                delta.clicks += number(clicks);
                delta.orders += number(orders);
                delta.shares += number(shares);
                if let Some(revenue) = row.at(revenue) {
                    delta.revenue += metrics::hundredths(revenue)? * sign;
                }
            }
            Ok(())
        })?;
        check_without_orders(removed)?;
        sessions
            .iter()
            .for_each(|(session, delta)| metrics::apply(*session, *delta));
        if metrics::is_settling() || identity::is_service()? {
            return Ok(());
        }
        sessions
            .iter()
            .try_for_each(|(session, delta)| room::check(*session, delta))
    })
}

thread_local! {
    static ORDERED: Plan = const { Plan::writing(
        c"select o.product_id, o.session_id
            from public.live_stream_orders o
            join public.live_stream_sessions s on s.id = o.session_id
           where o.session_product_id = any ($1) limit 1",
        &[pg_sys::UUIDARRAYOID],
    ) };
}

/// The foreign key of the orders holds in any case, at the end of the transaction; this says so
/// at once and better. With its session a product goes, and its orders too.
fn check_without_orders(removed: Vec<Uuid>) -> Result<()> {
    if removed.is_empty() {
        return Ok(());
    }
    as_owner(|| {
        plan::run(&ORDERED, &[removed.into()], |rows| {
            let Some((product, session)) = rows.get::<Uuid>(0, 0).zip(rows.get::<Uuid>(0, 1))
            else {
                return Ok(());
            };
            Err(Error::new(
                SqlState::FOREIGN_KEY_VIOLATION,
                format!("product {product} has orders in session {session}"),
            )
            .hint("Leave it there, with a limited_quantity of 0 to sell no more; the server alone deletes orders."))
        })
    })
}
