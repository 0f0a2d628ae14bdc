//! Changes that wait to be folded into their session's row: `live_stream.metric_changes`.
//!
//! Appended by the transaction that makes the change, so they come and go with it. Whoever
//! holds the session's row may fold them, and deletes them as it does.

use super::clock;
use super::delta::Delta;
use super::timeline::Event;
use crate::error::Result;
use crate::heap::Table;
use crate::row::Row;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// A change that was appended, and where it is.
#[derive(Clone, Copy)]
pub struct Entry {
    place: pg_sys::ItemPointerData,
    pub delta: Delta,
    pub at: i64,
    /// The peak must be counted from the rows.
    pub doubtful: bool,
}

impl Entry {
    pub fn event(&self) -> Event {
        Event {
            since: self.delta.first.unwrap_or(self.at),
            at: self.delta.last.unwrap_or(self.at),
            viewers: self.delta.viewers,
            peak: self.delta.peak,
        }
    }
}

/// A scan of the log.
pub struct Pending {
    pub entries: Vec<(Uuid, Entry)>,
    /// Transactions before this one have nothing to come.
    pub complete_before: pg_sys::TransactionId,
}

fn open() -> Result<Table> {
    Table::write(c"live_stream", c"metric_changes")
}

/// True when the log holds nothing at all: no page.
pub fn is_empty() -> Result<bool> {
    Ok(Table::read(c"live_stream", c"metric_changes")?.pages() == 0)
}

/// Appends a change. One of nothing makes the session hot.
pub fn append(session: Uuid, delta: &Delta, doubtful: bool) -> Result<()> {
    let number = |value: i64| (value != 0).then(|| pg_sys::Datum::from(value));
    let last = delta.last.unwrap_or_else(clock::tick);
    let since = delta.first.filter(|&first| first < last);
    let mut values = [
        session.into_datum(),
        Some(pg_sys::Datum::from(last)),
        since.map(pg_sys::Datum::from),
        doubtful.then(|| pg_sys::Datum::from(true)),
        number(delta.viewers),
        number(delta.peak - delta.viewers.max(0)),
        number(delta.unique_viewers),
        number(delta.watch_seconds),
        number(delta.messages),
        number(delta.reactions),
        number(delta.shares),
        number(delta.products),
        number(delta.clicks),
        number(delta.orders),
        number(delta.revenue),
        number(delta.disconnections),
        number(delta.buffering_events),
        number(delta.buffering_seconds),
    ];
    open()?.append(&mut values)
}

/// What has been committed, or appended by this transaction: of one session, or of all.
pub fn read(session: Option<Uuid>) -> Result<Pending> {
    let table = open()?;
    let mut pending = Pending {
        entries: Vec::new(),
        complete_before: pg_sys::TransactionId::default(),
    };
    pending.complete_before = table.each(session, |row, place| {
        let Some(id) = row.nth::<Uuid>(0) else { return };
        pending.entries.push((id, entry(row, place)));
    });
    Ok(pending)
}

fn entry(row: &Row<'_>, place: pg_sys::ItemPointerData) -> Entry {
    let number = |index| row.nth::<i64>(index).unwrap_or(0);
    let at = number(1);
    let viewers = number(4);
    Entry {
        place,
        at,
        doubtful: row.nth(3).unwrap_or(false),
        delta: Delta {
            viewers,
            peak: viewers.max(0) + number(5),
            unique_viewers: number(6),
            watch_seconds: number(7),
            messages: number(8),
            reactions: number(9),
            shares: number(10),
            products: number(11),
            clicks: number(12),
            orders: number(13),
            revenue: number(14),
            disconnections: number(15),
            buffering_events: number(16),
            buffering_seconds: number(17),
            first: row.nth(2).or(Some(at)),
            last: Some(at),
        },
    }
}

/// Takes entries out of the log; returns those that were still there.
pub fn take(entries: impl IntoIterator<Item = Entry>) -> Result<Vec<Entry>> {
    let table = open()?;
    Ok(entries
        .into_iter()
        .filter(|entry| table.delete(entry.place))
        .collect())
}
