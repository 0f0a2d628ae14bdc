//! What may be written to a product of a session.

use crate::access;
use crate::identity;
use crate::metrics;
use crate::metrics::entry;
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::row::Row;
use crate::pg::row::required;
use crate::pg::trigger;
use crate::pg::trigger::Outcome;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Numbers that cannot be below 0.
const COUNTS: &[&str] = &[
    "sold_quantity",
    "views",
    "clicks",
    "add_to_cart",
    "orders",
    "likes",
    "comments",
    "shares",
];

/// Kept by the engine: by the tracking functions, and by orders.
const TRACKED: &[&str] = &["sold_quantity", "views", "add_to_cart", "shares"];

/// BEFORE INSERT OR UPDATE of a product of a session.
#[pg_trigger]
fn products_guard<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::before(trigger, |old, new| {
        if !metrics::is_settling() {
            guard(old, new)?;
        }
        new.set("updated_at", Some(transaction_time()))
    })
}

thread_local! {
    static LOCK: Plan = const { Plan::writing(
        c"select from public.live_stream_products
           where session_id = $1 and product_id = $2 for no key update",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
}

fn guard(old: Option<&Row<'_>>, new: &mut Row<'_>) -> Result<()> {
    let service = identity::is_service()?;
    match old {
        None => {
            let session: Uuid = required(new, "session_id")?;
            let product: Uuid = required(new, "product_id")?;
            access::own_session(Some(session))?;
            entry::keep(session)?;
            // ON CONFLICT DO UPDATE: whoever counts on the product locks it before its session.
            as_owner(|| plan::execute(&LOCK, &[session.into(), product.into()]))?;
            entry::enter(session)?.ok_or_else(|| entry::no_such_session(session))?;
            if !service {
                new.set_zero(TRACKED)?;
                new.set("created_at", Some(transaction_time()))?;
            }
        }
        Some(old) => {
            new.keep(old, &["id", "created_at"])?;
            if !service {
                new.keep(old, TRACKED)?;
            }
            if !new.same::<Uuid>(old, "session_id")? && !service {
                return Err(Error::new(
                    SqlState::INSUFFICIENT_PRIVILEGE,
                    "a product cannot be moved to another session",
                )
                .hint("Add the product to the other session instead."));
            }
        }
    }
    for column in COUNTS {
        let value: i32 = required(new, column)?;
        if value < 0 {
            return Err(negative(column, value));
        }
    }
    for column in ["limited_quantity", "featured_duration_minutes"] {
        if let Some(value) = new.get::<i32>(column)?.filter(|value| *value < 0) {
            return Err(negative(column, value));
        }
    }
    for column in ["original_price", "live_stream_price", "revenue"] {
        let value: Option<AnyNumeric> = new.get(column)?;
        if let Some(value) = value.filter(|value| value.is_nan() || *value < AnyNumeric::from(0)) {
            return Err(negative(column, value));
        }
    }
    let discount: Option<AnyNumeric> = new.get("discount_percentage")?;
    if let Some(discount) = discount
        && (discount.is_nan() || discount < AnyNumeric::from(0) || discount > AnyNumeric::from(100))
    {
        return Err(Error::new(
            SqlState::CHECK_VIOLATION,
            format!("discount_percentage cannot be {discount}"),
        )
        .hint("Give a percentage from 0 to 100."));
    }
    Ok(())
}

fn negative(column: &str, value: impl std::fmt::Display) -> Error {
    Error::new(
        SqlState::CHECK_VIOLATION,
        format!("{column} cannot be {value}"),
    )
    .hint(format!("Give a number of 0 or more for {column}."))
}
