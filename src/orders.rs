//! Orders: what was bought during a session, each counted once. That the same product with the same `order_reference` is
//! the same order is a unique key, in `sql/orders.sql`, and `live_stream_record_order` keeps the first one.

use crate::access;
use crate::identity;
use crate::limits;
use crate::metrics::entry;
use crate::metrics::rows::{self, Counted, Tally};
use crate::metrics::{self, Delta};
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::fits;
use crate::pg::keep;
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::row::Row;
use crate::pg::row::{finite, required};
use crate::pg::transition;
use crate::pg::trigger;
use crate::pg::trigger::Outcome;
use crate::products::room::{self, Room};
use crate::viewers;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::collections::BTreeMap;

/// Pieces of one order. Ten thousand of the largest are a billion, which is as much as a host may fill of a
/// product's `sold_quantity`; as many again fit after that.
const MAX_QUANTITY: i32 = 100_000;

/// BEFORE INSERT OR UPDATE of an order.
#[pg_trigger]
fn orders_guard<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    let again = |_: &Row<'_>, new: &mut Row<'_>, _: &[pg_sys::AttrNumber]| check(new);
    trigger::before_or_again(trigger, again, |old, new| {
        limits::write_row(old.is_none())?;
        guard(old, new)
    })
}

thread_local! {
    // What an order refers to stays until it does.
    static PRODUCT: Plan = const { Plan::writing(
        c"select id from public.live_stream_products where session_id = $1 and product_id = $2
             for key share",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
    static VIEWER: Plan = const { Plan::writing(
        c"select user_id from public.live_stream_viewers where id = $1 and session_id = $2
             for key share",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
    static LOCK_PRODUCTS: Plan = const { Plan::writing(
        c"select from public.live_stream_products
           where id = any ($1) order by id for no key update",
        &[pg_sys::UUIDARRAYOID],
    ) };
    // Below 0 only where the statement that deletes an order writes its product too.
    static COUNT_OF_PRODUCT: Plan = const { Plan::writing(
        c"update public.live_stream_products
             set orders = greatest(orders + $2, 0),
                 revenue = greatest(revenue + $3 * 0.01, 0),
                 sold_quantity = greatest(sold_quantity + $4, 0)
           where id = $1 and greatest(orders + $2, sold_quantity + $4) <= $5
             and revenue + $3 * 0.01 <= $6 * 0.01",
        &[
            pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID,
            pg_sys::INT8OID,
        ],
    ) };
    static IS_THERE: Plan = const { Plan::writing(
        c"select from public.live_stream_products where id = $1",
        &[pg_sys::UUIDOID],
    ) };
}

/// What holds for an order by itself.
fn check(new: &mut Row<'_>) -> Result<()> {
    let quantity: i32 = required(new, "quantity")?;
    if !(1..=MAX_QUANTITY).contains(&quantity) {
        return Err(Error::new(
            SqlState::CHECK_VIOLATION,
            format!("quantity of an order cannot be {quantity}"),
        )
        .hint(format!(
            "Order 1 to {MAX_QUANTITY}; more as several orders."
        )));
    }
    let amount: AnyNumeric = required(new, "amount")?;
    if amount.is_nan() || amount < AnyNumeric::from(0) {
        return Err(Error::new(
            SqlState::CHECK_VIOLATION,
            format!("amount of an order cannot be {amount}"),
        )
        .hint("Give what was paid: 0 or more, with two decimals."));
    }
    let sent: Option<String> = new.get("order_reference")?;
    let kept = reference_of(sent.as_deref());
    if kept == sent {
        return Ok(());
    }
    // Composed letters may be more than those that were sent.
    fits::check_text("live_stream_orders", "order_reference", kept.as_deref())?;
    new.set("order_reference", kept)
}

fn guard(old: Option<&Row<'_>>, new: &mut Row<'_>) -> Result<()> {
    let session: Uuid = required(new, "session_id")?;
    let product: Uuid = required(new, "product_id")?;
    check(new)?;
    if let Some(old) = old {
        let fixed = [
            "id",
            "session_id",
            "session_product_id",
            "product_id",
            "created_at",
        ];
        return new.keep(old, &fixed);
    }
    access::own_session(Some(session))?;
    entry::keep(session)?;
    let showcased = as_owner(|| {
        plan::run(&PRODUCT, &[session.into(), product.into()], |rows| {
            Ok(rows.get::<Uuid>(0, 0))
        })
    })?;
    let Some(showcased) = showcased else {
        return Err(Error::new(
            SqlState::FOREIGN_KEY_VIOLATION,
            format!("product {product} is not in session {session}"),
        )
        .hint("Add the product to the session first."));
    };
    new.set("session_product_id", Some(showcased))?;
    if identity::is_service()? {
        finite(new, "created_at")?;
        if let Some(buyer) = new.get("user_id")? {
            keep::keep_referred("live_stream_orders_user_id_fkey", buyer, "user")?;
        }
        return name_buyer(session, new);
    }
    new.set("created_at", Some(transaction_time()))?;
    check_buyer(session, new)?;
    name_buyer(session, new)
}

/// The shop's number as it is stored, and compared.
fn reference_of(sent: Option<&str>) -> Option<String> {
    text::reference(sent?)
}

thread_local! {
    // What was paid is compared as its column stores it, which may round more than ours: so the column comes as $7.
    static RECORDED: Plan = const { Plan::reading(
        c"select o.id, o.product_id, pg_catalog.to_jsonb(o) ->> $7, o.quantity,
                 pg_catalog.to_jsonb(o) -> $7
                   = pg_catalog.to_jsonb(pg_catalog.jsonb_populate_record(
                       o, pg_catalog.jsonb_build_object($7, $5))) -> $7
                   and o.quantity = $6 and o.product_id = $2
                   and o.order_reference is not distinct from $4
            from public.live_stream_orders o
           where o.session_id = $1
             and (o.id = $3 or o.order_reference = $4 and o.product_id = $2)
           order by o.id = $3 desc limit 1",
        &[
            pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::TEXTOID,
            pg_sys::NUMERICOID, pg_sys::INT4OID, pg_sys::TEXTOID,
        ],
    ) };
}

/// The id of the order that `live_stream_record_order` has recorded, now or before: the one with this id, or the one of this
/// product with this reference. `amount` is in the shop's currency.
///
/// Errors: PT409 where it was of another product, amount, quantity or reference; 23505 where the id is that of another session's.
#[pg_extern(volatile)]
fn recorded_order(
    session_id: Option<Uuid>,
    product_id: Option<Uuid>,
    id: Option<Uuid>,
    order_reference: Option<&str>,
    amount: Option<AnyNumeric>,
    quantity: Option<i32>,
) -> Uuid {
    let args = [
        session_id.into(),
        product_id.into(),
        id.into(),
        reference_of(order_reference).into(),
        amount.into(),
        quantity.into(),
        "amount".into(),
    ];
    let found = plan::run(&RECORDED, &args, |rows| {
        let Some(found) = rows.get::<Uuid>(0, 0) else {
            let id = id.map(|id| id.to_string()).unwrap_or_default();
            return Err(Error::new(
                SqlState::UNIQUE_VIOLATION,
                format!("the id {id} is that of an order in another session"),
            )
            .hint("Leave id out, or choose another one."));
        };
        if rows.get(0, 4) == Some(true) {
            return Ok(found);
        }
        let product: Option<Uuid> = rows.get(0, 1);
        let (amount, quantity) = (rows.get::<String>(0, 2), rows.get::<i32>(0, 3));
        Err(Error::new(
            SqlState::CONFLICT,
            format!("order {found} was recorded with another product, amount, quantity or reference"),
        )
        .detail(format!(
            "It is of product {}, amount {} and quantity {}.",
            product.map(|it| it.to_string()).unwrap_or_default(),
            amount.unwrap_or_default(),
            quantity.unwrap_or(0)
        ))
        .hint("Send what was recorded, or a reference of its own; the server corrects an order by updating its row."))
    });
    found.or_raise()
}

/// The user of a viewer of a session, who stays until the order refers to it.
fn user_of(viewer: Uuid, session: Uuid) -> Result<Option<Uuid>> {
    let found = as_owner(|| {
        plan::run(&VIEWER, &[viewer.into(), session.into()], |rows| {
            Ok((rows.len() > 0).then(|| rows.get::<Uuid>(0, 0)))
        })
    })?;
    found.ok_or_else(|| {
        Error::new(
            SqlState::FOREIGN_KEY_VIOLATION,
            format!("viewer {viewer} is not in session {session}"),
        )
        .hint("Leave viewer_id out where it is not known.")
    })
}

/// Fills in whichever of viewer and user follows from the other.
fn name_buyer(session: Uuid, new: &mut Row<'_>) -> Result<()> {
    match (new.get::<Uuid>("viewer_id")?, new.get::<Uuid>("user_id")?) {
        (Some(viewer), user) => {
            let owner = user_of(viewer, session)?;
            new.set("user_id", user.or(owner))
        }
        (None, Some(user)) => new.set("viewer_id", viewers::kept_viewer_of(session, user)?),
        (None, None) => Ok(()),
    }
}

/// Whom an order names reads it among its own: a host names those who have been in its session.
fn check_buyer(session: Uuid, new: &Row<'_>) -> Result<()> {
    let Some(user) = new.get::<Uuid>("user_id")? else {
        return Ok(());
    };
    if let Some(viewer) = new.get::<Uuid>("viewer_id")?
        && user_of(viewer, session)?.is_some_and(|owner| owner != user)
    {
        return Err(Error::new(
            SqlState::FOREIGN_KEY_VIOLATION,
            format!("viewer {viewer} is not user {user}"),
        )
        .hint("Send one of them, and leave the other out."));
    }
    if viewers::kept_viewer_of(session, user)?.is_some() {
        return Ok(());
    }
    Err(Error::new(
        SqlState::FOREIGN_KEY_VIOLATION,
        format!("user {user} has not joined session {session}"),
    )
    .detail("A host names a person who has; the shop's server names anybody.")
    .hint("Leave user_id out where the buyer has not joined."))
}

#[derive(Default, PartialEq, Eq)]
struct Sales {
    orders: i64,
    revenue: i64,
    quantity: i64,
}

/// BEFORE TRUNCATE, while the orders can still be summed: products count more than them.
#[pg_trigger]
fn orders_truncated<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    transition::truncate(trigger, || {
        metrics::settling(|| {
            plan::execute(&PRODUCTS_WITHOUT_ORDERS, &[])?;
            plan::execute(&VIEWERS_WITHOUT_ORDERS, &[]).map(drop)
        })?;
        metrics::catch_up_own()
    })
}

thread_local! {
    static PRODUCTS_WITHOUT_ORDERS: Plan = const { Plan::writing(
        c"update public.live_stream_products p
             set orders = greatest(p.orders - o.orders, 0),
                 revenue = greatest(p.revenue - o.revenue, 0),
                 sold_quantity = greatest(p.sold_quantity - o.quantity, 0)
            from (select session_product_id, count(*) as orders, sum(amount) as revenue,
                         sum(quantity) as quantity
                    from public.live_stream_orders group by session_product_id) as o
           where p.id = o.session_product_id",
        &[],
    ) };
    static VIEWERS_WITHOUT_ORDERS: Plan = const { Plan::writing(
        c"update public.live_stream_viewers set orders_placed = 0 where orders_placed > 0",
        &[],
    ) };
}

/// AFTER INSERT, UPDATE or DELETE of orders. The products' own trigger tells the sessions.
#[pg_trigger]
fn orders_settle<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    transition::after(trigger, |changes| {
        let session_product_id = changes.column::<Uuid>("session_product_id")?;
        let viewer_id = changes.column::<Uuid>("viewer_id")?;
        let quantity = changes.column::<i32>("quantity")?;
        let amount = changes.column::<AnyNumeric>("amount")?;
        let session_id = changes.column::<Uuid>("session_id")?;
        let mut sessions: BTreeMap<Uuid, Delta> = BTreeMap::new();
        let mut products: BTreeMap<Uuid, Sales> = BTreeMap::new();
        changes.for_each(|old, new| {
            for (row, sign) in [(old, -1), (new, 1)] {
                let Some(row) = row else { continue };
                if let Some(product) = row.at(session_product_id) {
                    let sales = products.entry(product).or_default();
                    sales.orders += sign;
                    sales.quantity += i64::from(row.at(quantity).unwrap_or(0)) * sign;
                    let mut revenue = 0;
                    if let Some(amount) = row.at(amount) {
                        revenue = metrics::hundredths(amount)? * sign;
                        sales.revenue += revenue;
                    }
                    if let Some(session) = row.at(session_id) {
                        let delta = sessions.entry(session).or_default();
                        delta.orders += sign;
                        delta.revenue += revenue;
                    }
                }
                if let Some((viewer, session)) = row.at(viewer_id).zip(row.at(session_id)) {
                    let placed = Tally {
                        orders: sign,
                        ..Tally::default()
                    };
                    rows::count(session, Counted::viewer(viewer), placed);
                }
            }
            Ok(())
        })?;
        // Such as an order that loses its viewer: nothing was sold, and nothing is locked.
        products.retain(|_, sales| *sales != Sales::default());
        sessions.retain(|_, delta| !delta.is_nothing());
        let by_host = !identity::is_service()?;
        metrics::settling(|| {
            if products.len() > 1 {
                // The first one locks the session too, and every product comes before that.
                let ids: Vec<Uuid> = products.keys().copied().collect();
                plan::execute(&LOCK_PRODUCTS, &[ids.into()])?;
            }
            for (product, sales) in products {
                count(product, &sales, by_host)?;
            }
            if by_host {
                for (session, delta) in &sessions {
                    room::check(*session, delta)?;
                }
            }
            Ok(())
        })
    })
}

/// Adds to the numbers of a product; one that goes with its session has none.
///
/// Errors: 22003.
fn count(product: Uuid, sales: &Sales, by_host: bool) -> Result<()> {
    let room = match by_host && sales.orders > 0 {
        true => Room::OF_HOST,
        false => Room::OF_COLUMN,
    };
    let args = [
        product.into(),
        sales.orders.into(),
        sales.revenue.into(),
        sales.quantity.into(),
        room.count.into(),
        room.revenue.into(),
    ];
    if plan::execute(&COUNT_OF_PRODUCT, &args)? > 0
        || plan::execute(&IS_THERE, &[product.into()])? == 0
    {
        return Ok(());
    }
    Err(room.exceeded(&format!("product {product}")))
}
