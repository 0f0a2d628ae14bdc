//! How far a host may fill the numbers of a product and of its session, so that what viewers do and what the shop's
//! server records always finds room above it: as many again, and more.

use crate::metrics::{Delta, hundredths};
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::heap::Table;
use crate::pg::lock::{Lock, Mode};
use crate::pg::row::Row;
use pgrx::Uuid;

/// What numbers may come to.
pub struct Room {
    pub count: i64,
    /// In hundredths.
    pub revenue: i64,
}

impl Room {
    /// What the columns hold.
    pub const OF_COLUMN: Self = Self {
        count: i32::MAX as i64,
        revenue: 999_999_999_999,
    };
    /// What a host may bring them to, by its own orders too: less than half.
    pub const OF_HOST: Self = Self {
        count: 1_000_000_000,
        revenue: 500_000_000_000,
    };

    pub fn exceeded(&self, what: &str) -> Error {
        let error = Error::new(
            SqlState::OUT_OF_RANGE,
            format!("a number of {what} would be too large"),
        );
        let (count, revenue) = (self.count, self.revenue);
        let revenue = format!("{}.{:02}", revenue / 100, revenue % 100);
        if self.count == Self::OF_COLUMN.count {
            return error
                .detail(format!("Counters end at {count}, revenue at {revenue}."))
                .hint("Look at the orders of the product.");
        }
        error
            .detail(format!(
                "A host brings counters to {count} and revenue to {revenue} at most: above that is room for \
                 what viewers do and the server records."
            ))
            .hint("Look at what the products of the session count.")
    }
}

/// Checks what a host has just written to products of a session, or sold there.
///
/// Errors: 22003 where it brings a number of the session nearer to its end than a host may.
pub fn check(session: Uuid, delta: &Delta) -> Result<()> {
    if delta.clicks <= 0 && delta.orders <= 0 && delta.revenue <= 0 {
        return Ok(());
    }
    // One after the other, so that each counts what the one before has added, on whatever product.
    Lock::Room(session).wait(Mode::Alone);
    let Room { count, revenue } = Room::OF_HOST;
    let (clicks, orders, earned) = of_products(session)?;
    if clicks <= count && orders <= count && earned <= revenue {
        return Ok(());
    }
    Err(Room::OF_HOST.exceeded(&format!("session {session}")))
}

/// Clicks, orders and hundredths of revenue of the products of a session as they are now, also for a transaction that sees
/// the rows of an older moment.
fn of_products(session: Uuid) -> Result<(i64, i64, i64)> {
    let (mut clicks, mut orders, mut revenue) = (0_i64, 0_i64, 0_i64);
    let number =
        |row: &Row<'_>, column| -> Result<i64> { Ok(row.get::<i32>(column)?.unwrap_or(0).into()) };
    Table::read(c"public", c"live_stream_products")?.find(
        c"public",
        c"live_stream_products_session_id_product_id_key",
        &[("session_id", session)],
        |row| {
            clicks = clicks.saturating_add(number(row, "clicks")?);
            orders = orders.saturating_add(number(row, "orders")?);
            if let Some(money) = row.get("revenue")? {
                revenue = revenue.saturating_add(hundredths(money)?);
            }
            Ok(true)
        },
    )?;
    Ok((clicks, orders, revenue))
}
