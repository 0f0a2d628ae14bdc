//! The numbers of a session: exact, however many change them at once.
//!
//! The other domains tell this one what a statement changed ([`apply`]) and ask it to protect
//! the columns it keeps ([`keep`], [`clear`]); nothing else writes them. A change updates the
//! session's row at once, or is appended to a log that a background worker folds into the row:
//! `entry::enter` decides which.

mod count;
mod delta;
pub mod entry;
pub mod fold;
pub mod hot;
pub mod log;
pub mod timeline;
pub mod worker;

pub use count::{flush_for_truncate, settle};
pub use delta::Delta;

use crate::pg::clock;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::lock::{Lock, Mode};
use crate::pg::own_writes::{self, OwnWrites};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::row;
use crate::pg::row::Row;
use crate::pg::transaction;
use entry::WritePath;
use pgrx::Uuid;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;

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
const MAX_REVENUE_HUNDREDTHS: i64 = 1_000_000_000_000;

thread_local! {
    static SETTLING: OwnWrites = const { OwnWrites::new() };
    static ARCHIVING: OwnWrites = const { OwnWrites::new() };
    static COLLECTING: RefCell<Option<Collecting>> = const { RefCell::new(None) };
    static APPLY: Plan = const { Plan::writing(
        c"update public.live_stream_sessions
             set current_viewers = current_viewers + $2,
                 peak_viewers = greatest(peak_viewers, current_viewers + $3),
                 total_unique_viewers = total_unique_viewers + $4,
                 total_watch_time_seconds = total_watch_time_seconds + $5,
                 total_messages = total_messages + $6,
                 total_reactions = total_reactions + $7,
                 total_shares = total_shares + $8,
                 total_products_showcased = total_products_showcased + $9,
                 total_clicks = total_clicks + $10,
                 total_orders = total_orders + $11,
                 total_revenue = total_revenue + $12 * 0.01,
                 connection_issues_count = connection_issues_count + $13,
                 buffering_events = buffering_events + $14,
                 total_buffering_time_seconds = total_buffering_time_seconds + $15
           where id = $1
             and greatest(current_viewers + $3, total_unique_viewers + $4, total_messages + $6,
                          total_reactions + $7, total_shares + $8, total_products_showcased + $9,
                          total_clicks + $10, total_orders + $11, connection_issues_count + $13,
                          buffering_events + $14) <= 2147483647
             and total_revenue + $12 * 0.01 < 1e10
             and least(current_viewers + $2, total_unique_viewers + $4,
                       total_watch_time_seconds + $5, total_messages + $6, total_reactions + $7,
                       total_shares + $8, total_products_showcased + $9, total_clicks + $10,
                       total_orders + $11, connection_issues_count + $13, buffering_events + $14,
                       total_buffering_time_seconds + $15, total_revenue + $12 * 0.01) >= 0
          returning current_viewers, max_viewers",
        &[
            pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID,
            pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID,
            pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID,
        ],
    ) };
    // The same for what is changed most: the less a statement computes, the less it costs.
    static APPLY_VIEWERS: Plan = const { Plan::writing(
        c"update public.live_stream_sessions
             set current_viewers = current_viewers + $2,
                 peak_viewers = greatest(peak_viewers, current_viewers + $3),
                 total_unique_viewers = total_unique_viewers + $4,
                 total_watch_time_seconds = total_watch_time_seconds + $5
           where id = $1
             and greatest(current_viewers + $3, total_unique_viewers + $4) <= 2147483647
             and least(current_viewers + $2, total_unique_viewers + $4,
                       total_watch_time_seconds + $5) >= 0
          returning current_viewers, max_viewers",
        &[
            pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID,
        ],
    ) };
    static APPLY_CHAT: Plan = const { Plan::writing(
        c"update public.live_stream_sessions
             set total_messages = total_messages + $2, total_reactions = total_reactions + $3
           where id = $1
             and greatest(total_messages + $2, total_reactions + $3) <= 2147483647
             and least(total_messages + $2, total_reactions + $3) >= 0
          returning current_viewers, max_viewers",
        &[pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::INT8OID],
    ) };
    static PENDING: Plan = const { Plan::writing(
        c"select ctid from live_stream.metric_changes where session_id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static EXISTS: Plan = const { Plan::writing(
        c"select from public.live_stream_sessions where id = $1",
        &[pg_sys::UUIDOID],
    ) };
}

/// True in a trigger that an update of the engine's own fired: it passes the guards of the
/// tables. What an app's trigger writes meanwhile, one trigger deeper, does not.
pub fn is_settling() -> bool {
    SETTLING.with(OwnWrites::have_fired)
}

/// True in a trigger that fired as rows went into the archive: they stay counted.
pub fn is_archiving() -> bool {
    ARCHIVING.with(OwnWrites::have_fired)
}

/// Deletes rows that the caller counts into the archive, with the rights of the tables' owner:
/// no number changes. What an app's trigger writes meanwhile is counted as ever.
pub fn archiving<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
    transaction::check_not_parallel()?;
    own_writes::with(&ARCHIVING, true, || as_owner(f))
}

/// Runs updates of the engine's own, with the rights of the tables' owner.
///
/// Errors: 25000 in a parallel query.
pub fn settling<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
    transaction::check_not_parallel()?;
    own_writes::with(&SETTLING, true, || as_owner(f))
}

/// Adds a change to a session's numbers; a session that is gone has none.
///
/// Errors: PT409 when viewers come and the session is full; 22003 when a number would no longer
/// fit its column.
pub fn apply(session: Uuid, delta: Delta) -> Result<()> {
    if delta.is_nothing() || collected(session, delta) {
        return Ok(());
    }
    match entry::write_path(session)? {
        None => entry::check_gone(),
        Some(WritePath::Log) if !delta.is_large() => append(session, &delta, false),
        Some(WritePath::Log) => {
            entry::switch_to_row(session)?;
            update(session, &delta)
        }
        Some(_) => update(session, &delta),
    }
}

/// The peak of a session must be counted from the rows: one that counted is gone, or elsewhere.
pub fn doubt_peak(session: Uuid) -> Result<()> {
    if COLLECTING.with_borrow(|collecting| collecting.is_some_and(|it| it.takes(session))) {
        return Ok(());
    }
    match entry::write_path(session)? {
        None => entry::check_gone(),
        Some(WritePath::Log) => append(session, &Delta::default(), true),
        Some(_) => fold::count_peak(session),
    }
}

fn append(session: Uuid, delta: &Delta, doubtful: bool) -> Result<()> {
    entry::appended(session);
    log::append(session, delta, doubtful)
}

fn update(session: Uuid, delta: &Delta) -> Result<()> {
    entry::updated(session);
    let viewers = settling(|| {
        let all = arguments(session, delta, delta.peak);
        let chat = [
            session.into(),
            delta.messages.into(),
            delta.reactions.into(),
        ];
        let (plan, args) = if delta.is_of_viewers() {
            (&APPLY_VIEWERS, &all[..5])
        } else if delta.is_of_chat() {
            (&APPLY_CHAT, &chat[..])
        } else {
            (&APPLY, &all[..])
        };
        let apply = || {
            plan::run(plan, args, |rows| {
                let viewers = rows.get::<i32>(0, 0).zip(rows.get::<i32>(0, 1));
                Ok((rows.len() > 0).then_some(viewers))
            })
        };
        if let Some(viewers) = apply()? {
            return Ok(viewers);
        }
        if plan::execute(&EXISTS, &[session.into()])? == 0 {
            return Ok(None);
        }
        // What goes may have come a moment ago, and be pending still.
        fold::whole(session)?;
        apply()?.ok_or_else(|| too_large(session))
    })?;
    match viewers {
        Some((current, max))
            if delta.peak > 0
                && i64::from(current) - delta.viewers + delta.peak > i64::from(max) =>
        {
            Err(
                Error::new(SqlState::CONFLICT, format!("session {session} is full"))
                    .detail(format!("It admits {max} viewers at the same time."))
                    .hint("Try again when somebody has left."),
            )
        }
        _ if entry::was_overtaken(session) => fold::count_peak(session),
        _ => Ok(()),
    }
}

/// A change as the statements on a session's row take it.
fn arguments(session: Uuid, delta: &Delta, peak: i64) -> [DatumWithOid<'static>; 15] {
    [
        session.into(),
        delta.viewers.into(),
        peak.into(),
        delta.unique_viewers.into(),
        delta.watch_seconds.into(),
        delta.messages.into(),
        delta.reactions.into(),
        delta.shares.into(),
        delta.products.into(),
        delta.clicks.into(),
        delta.orders.into(),
        delta.revenue.into(),
        delta.disconnections.into(),
        delta.buffering_events.into(),
        delta.buffering_seconds.into(),
    ]
}

fn too_large(session: Uuid) -> Error {
    Error::new(
        SqlState::OUT_OF_RANGE,
        format!("a number of session {session} would be too large"),
    )
    .detail("Counters end at 2147483647, revenue at 9999999999.99.")
    .hint("Look at what the products of the session count.")
}

/// The session whose changes are collected instead of applied.
#[derive(Clone, Copy)]
struct Collecting {
    session: Uuid,
    sum: Delta,
    /// Only changes that are counted this deep in triggers.
    depth: Option<i32>,
}

impl Collecting {
    fn takes(&self, session: Uuid) -> bool {
        self.session == session
            && self
                .depth
                .is_none_or(|depth| own_writes::trigger_depth() == depth)
    }
}

fn collected(session: Uuid, delta: Delta) -> bool {
    COLLECTING.with_borrow_mut(|collecting| match collecting {
        Some(collecting) if collecting.takes(session) => {
            collecting.sum += delta;
            true
        }
        _ => false,
    })
}

fn collecting(collecting: Collecting, f: impl FnOnce() -> Result<()>) -> Result<Delta> {
    struct Restore(Option<Collecting>);
    impl Drop for Restore {
        fn drop(&mut self) {
            COLLECTING.replace(self.0.take());
        }
    }
    let _outer = Restore(COLLECTING.replace(Some(collecting)));
    f()?;
    Ok(COLLECTING.take().map_or_else(Delta::default, |it| it.sum))
}

/// Runs `f` and returns what it changed of a session's numbers, for a trigger that is changing
/// that session's row itself.
pub fn collect(session: Uuid, f: impl FnOnce() -> Result<()>) -> Result<Delta> {
    let sum = Delta::default();
    let depth = None;
    collecting(
        Collecting {
            session,
            sum,
            depth,
        },
        f,
    )
}

/// As [`collect`], of what the statements of `f` change by themselves: what an app's triggers
/// write meanwhile is applied as ever. So is what goes with a row by its foreign key: delete that first.
pub fn collect_own(session: Uuid, f: impl FnOnce() -> Result<()>) -> Result<Delta> {
    let sum = Delta::default();
    let depth = Some(own_writes::trigger_depth() + 1);
    collecting(
        Collecting {
            session,
            sum,
            depth,
        },
        f,
    )
}

/// Takes what is pending of a session out of the log, for a trigger that is changing that
/// session's row to its last state, and waits for those who are appending: after this, nobody
/// enters the session until the transaction ends.
///
/// Errors: 40001 when the transaction's snapshot is older than what is pending.
pub fn take_pending(id: Uuid, session: &Row<'_>) -> Result<(Delta, bool)> {
    Lock::Flow(id).wait(Mode::Alone);
    entry::hold_for_end(id);
    check_snapshot(id)?;
    let level = session.get::<i32>("current_viewers")?.unwrap_or(0).into();
    let updated: TimestampWithTimeZone = row::required(session, "updated_at")?;
    let mut folded = fold::Folded::into(timeline::Timeline::new(updated.into(), level, level));
    folded.take_all(id)?;
    let mut delta = folded.delta;
    delta.peak = folded.peak().saturating_sub(level);
    Ok((delta, folded.timeline.doubtful || hot::is_doubtful(id)?))
}

/// That the transaction sees all the changes that are pending of a session: what it counts from
/// the rows would be of another moment.
fn check_snapshot(session: Uuid) -> Result<()> {
    if !transaction::has_fixed_snapshot() {
        return Ok(());
    }
    let sorted = |mut places: Vec<pg_sys::ItemPointerData>| {
        let key = |place: &pg_sys::ItemPointerData| {
            let block = place.ip_blkid;
            (block.bi_hi, block.bi_lo, place.ip_posid)
        };
        places.sort_unstable_by_key(key);
        places.iter().map(key).collect::<Vec<_>>()
    };
    let seen = settling(|| {
        plan::run(&PENDING, &[session.into()], |rows| {
            Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
        })
    })?;
    if sorted(seen) != sorted(log::places(session)?) {
        return Err(Error::new(
            SqlState::SERIALIZATION_FAILURE,
            "could not serialize access due to concurrent changes of the session's numbers",
        )
        .hint("Run the transaction again."));
    }
    Ok(())
}

/// Adds what was taken and collected to the session's row; counts the peak anew if asked to.
///
/// Errors: 22003 when a number would no longer fit its column.
pub fn add(id: Uuid, session: &mut Row<'_>, delta: Delta, doubtful: bool) -> Result<()> {
    let current: i32 = session.get("current_viewers")?.unwrap_or(0);
    let peak: i32 = session.get("peak_viewers")?.unwrap_or(0);
    let peak = if doubtful {
        fold::counted_peak(id)?
    } else {
        i64::from(peak).max(i64::from(current).saturating_add(delta.peak))
    };
    session.set("peak_viewers", Some(fit(id, peak)?))?;
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
        session.set(column, Some(fit(id, now)?))?;
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
    if revenue >= MAX_REVENUE_HUNDREDTHS {
        return Err(too_large(id));
    }
    session.set_hundredths("total_revenue", revenue)?;
    derive(session)
}

fn fit(session: Uuid, number: i64) -> Result<i32> {
    i32::try_from(number).map_err(|_| too_large(session))
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
