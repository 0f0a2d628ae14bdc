//! The columns of a session that hold its numbers, set in a trigger that writes the row.

use super::*;
use crate::pg::clock;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::row::Row;
use pgrx::Uuid;
use pgrx::prelude::*;

/// The columns of a session that nobody but this module writes.
const COLUMNS: &[&str] = &[
    "current_viewers",
    "peak_viewers",
    "total_unique_viewers",
    "total_watch_time_seconds",
    "total_watch_time_minutes",
    "average_watch_time_minutes",
    "total_messages",
    "total_reactions",
    "total_shares",
    "total_products_showcased",
    "total_clicks",
    "total_orders",
    "total_revenue",
    "conversion_rate",
    "connection_issues_count",
    "buffering_events",
    "total_buffering_time_seconds",
];

const MAX_CONVERSION_HUNDREDTHS: i64 = 99_999;

const MAX_AVERAGE_HUNDREDTHS: i64 = 9_999_999_999;

const MAX_REVENUE_HUNDREDTHS: i64 = 999_999_999_999;

/// Adds what was taken and collected to the session's row; counts the peak anew if asked to. A number stays at the
/// end of its column, as when it is folded: a show ends whatever was reported.
pub fn add(id: Uuid, session: &mut Row<'_>, delta: Delta, doubtful: bool) -> Result<()> {
    let current: i32 = session.get("current_viewers")?.unwrap_or(0);
    let peak: i32 = session.get("peak_viewers")?.unwrap_or(0);
    let peak = if doubtful {
        peak::counted(id)?
    } else {
        i64::from(peak).max(i64::from(current).saturating_add(delta.peak))
    };
    session.set("peak_viewers", Some(fit(peak)))?;
    for (column, change) in [
        ("current_viewers", delta.viewers),
        ("total_unique_viewers", delta.unique_viewers),
        ("total_messages", delta.messages),
        ("total_reactions", delta.reactions),
        ("total_shares", delta.shares),
        ("total_products_showcased", delta.products),
        ("total_clicks", delta.clicks),
        ("total_orders", delta.orders),
        ("connection_issues_count", delta.disconnections),
        ("buffering_events", delta.buffering_events),
    ] {
        let before: i32 = session.get(column)?.unwrap_or(0);
        let now = i64::from(before).saturating_add(change);
        session.set(column, Some(fit(now)))?;
    }
    for (column, change) in [
        ("total_watch_time_seconds", delta.watch_seconds),
        ("total_buffering_time_seconds", delta.buffering_seconds),
    ] {
        let before: i64 = session.get(column)?.unwrap_or(0);
        session.set(column, Some(before.saturating_add(change)))?;
    }
    let revenue: AnyNumeric = session.get("total_revenue")?.unwrap_or_default();
    let revenue = hundredths(revenue)?.saturating_add(delta.revenue);
    session.set_hundredths("total_revenue", revenue.min(MAX_REVENUE_HUNDREDTHS))?;
    derive(session)
}

fn fit(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(if number > 0 { i32::MAX } else { 0 })
}

/// Sets the columns that follow from others.
pub fn derive(session: &mut Row<'_>) -> Result<()> {
    let seconds: i64 = session.get("total_watch_time_seconds")?.unwrap_or(0);
    let viewers: i64 = session
        .get::<i32>("total_unique_viewers")?
        .unwrap_or(0)
        .into();
    let orders: i64 = session.get::<i32>("total_orders")?.unwrap_or(0).into();
    let minutes = i32::try_from(seconds / 60).unwrap_or(i32::MAX);
    session.set("total_watch_time_minutes", Some(minutes))?;
    let average = ratio(seconds.saturating_mul(100), viewers * 60).min(MAX_AVERAGE_HUNDREDTHS);
    session.set_hundredths("average_watch_time_minutes", average)?;
    let conversion = ratio(orders * 10_000, viewers).min(MAX_CONVERSION_HUNDREDTHS);
    session.set_hundredths("conversion_rate", conversion)?;
    session.set("updated_at", clock::now())
}

/// `part / whole`, rounded half up; 0 of nothing.
fn ratio(part: i64, whole: i64) -> i64 {
    if whole <= 0 {
        return 0;
    }
    let (part, whole) = (i128::from(part), i128::from(whole));
    i64::try_from((2 * part + whole) / (2 * whole)).unwrap_or(i64::MAX)
}

/// A new session has no numbers yet, whatever the client sent.
pub fn clear(session: &mut Row<'_>) -> Result<()> {
    session.set_zero(COLUMNS)
}

/// The numbers stay as they are, whatever the client sent.
pub fn keep(old: &Row<'_>, new: &mut Row<'_>) -> Result<()> {
    new.keep(old, COLUMNS)
}

/// Money as hundredths.
pub fn hundredths(money: AnyNumeric) -> Result<i64> {
    i64::try_from(money * 100).map_err(|_| {
        Error::new(
            SqlState::OUT_OF_RANGE,
            "the amount of money is out of range",
        )
        .hint("Amounts have two decimals and ten digits before them at most.")
    })
}

#[cfg(test)]
mod tests {
    use super::ratio;

    #[test]
    fn ratios_are_rounded_half_up() {
        assert_eq!(ratio(1, 3), 0);
        assert_eq!(ratio(1, 2), 1);
        assert_eq!(ratio(200, 3), 67);
        assert_eq!(ratio(5, 0), 0);
        assert_eq!(ratio(i64::MAX, 1), i64::MAX);
    }
}
