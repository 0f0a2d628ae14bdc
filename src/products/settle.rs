//! What a statement on products changes in the numbers of their sessions.

use crate::metrics::{self, Delta};
use crate::row::{self, Outcome};
use pgrx::Uuid;
use pgrx::prelude::*;
use std::collections::BTreeMap;

/// AFTER INSERT, UPDATE or DELETE of products.
#[pg_trigger]
fn products_settle<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    row::after(trigger, |changes| {
        let session_id = changes.column::<Uuid>("session_id")?;
        let clicks = changes.column::<i32>("clicks")?;
        let orders = changes.column::<i32>("orders")?;
        let revenue = changes.column::<AnyNumeric>("revenue")?;
        let shares = changes.column::<i32>("shares")?;
        let mut sessions: BTreeMap<[u8; 16], Delta> = BTreeMap::new();
        changes.for_each(|old, new| {
            for (row, sign) in [(old, -1), (new, 1)] {
                let Some((row, session)) =
                    row.and_then(|row| Some((row, row.at::<Uuid>(session_id)?)))
                else {
                    continue;
                };
                let number = |column| i64::from(row.at::<i32>(column).unwrap_or(0)) * sign;
                let delta = sessions.entry(*session.as_bytes()).or_default();
                delta.products += sign;
                delta.clicks += number(clicks);
                delta.orders += number(orders);
                delta.shares += number(shares);
                if let Some(revenue) = row.at::<AnyNumeric>(revenue) {
                    delta.revenue += metrics::hundredths(revenue)? * sign;
                }
            }
            Ok(())
        })?;
        sessions
            .into_iter()
            .try_for_each(|(session, delta)| metrics::apply(Uuid::from_bytes(session), delta))
    })
}
