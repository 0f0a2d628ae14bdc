//! What may be written to a product of a session.

use super::room::Room;
use crate::access;
use crate::identity;
use crate::limits;
use crate::metrics;
use crate::metrics::entry;
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::keep;
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

/// Kept by the orders of the product from the first one on, on top of what was written before.
const ORDERED: &[&str] = &["sold_quantity", "orders", "revenue"];

/// BEFORE INSERT OR UPDATE of a product of a session.
#[pg_trigger]
fn products_guard<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::before_or_again(trigger, guard_again, |old, new| {
        if !metrics::is_settling() {
            limits::write_row(old.is_none())?;
            guard(old, new)?;
        }
        new.set("updated_at", Some(transaction_time()))
    })
}

thread_local! {
    // The product is locked, and whoever counts an order has it: what is not seen here counts on what is written.
    static HAS_ORDERS: Plan = const { Plan::writing(
        c"select from public.live_stream_orders where session_product_id = $1 limit 1",
        &[pg_sys::UUIDOID],
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
            keep_product(product)?;
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
            if !service {
                check_session(old, new)?;
            }
            keep_ordered(old, new)?;
            if !new.same::<Uuid>(old, "product_id")? {
                keep_product(required(new, "product_id")?)?;
            }
        }
    }
    check_values(old, new, service)
}

/// A product of the session that is there and is saved again: `guard` comes after it.
fn guard_again(old: &Row<'_>, new: &mut Row<'_>, _set: &[pg_sys::AttrNumber]) -> Result<()> {
    let service = identity::is_service()?;
    if !service {
        new.keep(old, TRACKED)?;
        check_session(old, new)?;
    }
    check_values(Some(old), new, service)
}

fn check_session(old: &Row<'_>, new: &Row<'_>) -> Result<()> {
    if new.same::<Uuid>(old, "session_id")? {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        "a product cannot be moved to another session",
    )
    .hint("Add the product to the other session instead."))
}

fn check_values(old: Option<&Row<'_>>, new: &Row<'_>, service: bool) -> Result<()> {
    for column in COUNTS {
        let value: i32 = required(new, column)?;
        if value < 0 {
            return Err(negative(column, value));
        }
        let is_too_large = !service && i64::from(value) > Room::OF_HOST.count;
        if is_too_large && is_written::<i32>(old, new, column)? {
            let most = Room::OF_HOST.count;
            return Err(too_large(column, value).hint(format!("Give {most} at most.")));
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
    let revenue: AnyNumeric = required(new, "revenue")?;
    let most = Room::OF_HOST.revenue / 100;
    let is_too_large = !service && revenue > AnyNumeric::from(most);
    if is_too_large && is_written::<AnyNumeric>(old, new, "revenue")? {
        return Err(too_large("revenue", revenue).hint(format!("Give {most} at most.")));
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

/// Where the shop has a table of products, the product is there, and stays until the row refers to it.
fn keep_product(product: Uuid) -> Result<()> {
    keep::keep_referred("live_stream_products_product_id_fkey", product, "product")
}

fn is_written<T>(old: Option<&Row<'_>>, new: &Row<'_>, column: &str) -> Result<bool>
where
    T: FromDatum + IntoDatum + PartialEq,
{
    old.map_or(Ok(true), |old| Ok(!new.same::<T>(old, column)?))
}

/// A product with orders keeps the numbers that they make, whoever writes them, and stays what and where it is.
///
/// Errors: 23503 for another product or session.
fn keep_ordered(old: &Row<'_>, new: &mut Row<'_>) -> Result<()> {
    let moves = !new.same::<Uuid>(old, "session_id")? || !new.same::<Uuid>(old, "product_id")?;
    let counts = !new.same::<i32>(old, "orders")?
        || !new.same::<i32>(old, "sold_quantity")?
        || !new.same::<AnyNumeric>(old, "revenue")?;
    let id: Uuid = required(old, "id")?;
    if !(moves || counts) || as_owner(|| plan::execute(&HAS_ORDERS, &[id.into()]))? == 0 {
        return Ok(());
    }
    if moves {
        let (product, session): (Uuid, Uuid) =
            (required(old, "product_id")?, required(old, "session_id")?);
        return Err(Error::new(
            SqlState::FOREIGN_KEY_VIOLATION,
            format!("product {product} has orders in session {session}"),
        )
        .hint("Leave it there and add another one; the server alone deletes orders."));
    }
    new.keep(old, ORDERED)
}

fn too_large(column: &str, value: impl std::fmt::Display) -> Error {
    Error::new(
        SqlState::CHECK_VIOLATION,
        format!("{column} cannot be {value}"),
    )
    .detail("Above what a host may write is room for what viewers do and the server records.")
}

fn negative(column: &str, value: impl std::fmt::Display) -> Error {
    Error::new(
        SqlState::CHECK_VIOLATION,
        format!("{column} cannot be {value}"),
    )
    .hint(format!("Give a number of 0 or more for {column}."))
}
