//! Changes that wait to be folded into their session's row: `live_stream.metric_changes`.
//!
//! Appended by the transaction that makes the change, so they come and go with it. Whoever
//! holds the session's row may fold them, and deletes them as it does. Each has a key, by which a
//! replica finds what to delete.

use super::delta::Delta;
use super::timeline::Event;
use crate::pg::catalog;
use crate::pg::clock;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::heap::{self, Table};
use crate::pg::row::{Column, Row};
use crate::pg::transaction;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::Cell;
use std::collections::BTreeSet;

/// Entries that are held in memory at the same time, at most.
pub const BATCH: usize = 10_000;

/// A change that was appended, and where it is.
#[derive(Clone, Copy)]
pub struct Entry {
    place: pg_sys::ItemPointerData,
    key: Key,
    pub delta: Delta,
    pub at: i64,
    /// The peak must be counted from the rows.
    pub doubtful: bool,
}

/// What tells an entry from all others: when, in which transaction, and which of it.
type Key = (i64, i64, i32);

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

/// A part of the log: [`BATCH`] entries at most.
pub struct Pending {
    pub entries: Vec<(Uuid, Entry)>,
    /// The page from which to read on; none at the end of the log.
    pub next: Option<pg_sys::BlockNumber>,
    /// Transactions before this one have nothing to come after what was read, if all was.
    pub complete_before: pg_sys::TransactionId,
}

/// The table's columns.
#[derive(Clone, Copy)]
struct Columns {
    session_id: Column<Uuid>,
    at: Column<TimestampWithTimeZone>,
    transaction: Column<i64>,
    nth: Column<i32>,
    since: Column<TimestampWithTimeZone>,
    doubtful: Column<bool>,
    viewers: Column<i64>,
    peak: Column<i64>,
    unique_viewers: Column<i64>,
    watch_seconds: Column<i64>,
    messages: Column<i64>,
    reactions: Column<i64>,
    shares: Column<i64>,
    products: Column<i64>,
    clicks: Column<i64>,
    orders: Column<i64>,
    revenue: Column<i64>,
    disconnections: Column<i64>,
    buffering_events: Column<i64>,
    buffering_seconds: Column<i64>,
}

thread_local! {
    /// With the generation of the catalog that they were found in.
    static COLUMNS: Cell<Option<(u64, Columns)>> = const { Cell::new(None) };
    /// Entries that this transaction has appended.
    static APPENDED: Cell<i32> = const { Cell::new(0) };
}

/// Called once per backend.
pub fn watch_transactions() {
    transaction::at_end(|| APPENDED.set(0));
}

impl Columns {
    fn of(table: &Table) -> Result<Self> {
        let generation = catalog::generation();
        if let Some((seen, columns)) = COLUMNS.get()
            && seen == generation
        {
            return Ok(columns);
        }
        let columns = Self {
            session_id: table.column("session_id")?,
            at: table.column("at")?,
            transaction: table.column("transaction")?,
            nth: table.column("nth")?,
            since: table.column("since")?,
            doubtful: table.column("doubtful")?,
            viewers: table.column("viewers")?,
            peak: table.column("peak")?,
            unique_viewers: table.column("unique_viewers")?,
            watch_seconds: table.column("watch_seconds")?,
            messages: table.column("messages")?,
            reactions: table.column("reactions")?,
            shares: table.column("shares")?,
            products: table.column("products")?,
            clicks: table.column("clicks")?,
            orders: table.column("orders")?,
            revenue: table.column("revenue")?,
            disconnections: table.column("disconnections")?,
            buffering_events: table.column("buffering_events")?,
            buffering_seconds: table.column("buffering_seconds")?,
        };
        COLUMNS.set(Some((generation, columns)));
        Ok(columns)
    }
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
    let table = open()?;
    let columns = Columns::of(&table)?;
    let last = delta.last.unwrap_or_else(clock::tick);
    let nth = APPENDED.get();
    APPENDED.set(nth.wrapping_add(1));
    let mut row = table.new_row();
    row.put(columns.session_id, session);
    row.put(columns.at, time(last)?);
    row.put(columns.transaction, transaction::full_id()?);
    row.put(columns.nth, nth);
    if let Some(first) = delta.first.filter(|&first| first < last) {
        row.put(columns.since, time(first)?);
    }
    if doubtful {
        row.put(columns.doubtful, true);
    }
    for (column, number) in [
        (columns.viewers, delta.viewers),
        (columns.peak, delta.peak - delta.viewers.max(0)),
        (columns.unique_viewers, delta.unique_viewers),
        (columns.watch_seconds, delta.watch_seconds),
        (columns.messages, delta.messages),
        (columns.reactions, delta.reactions),
        (columns.shares, delta.shares),
        (columns.products, delta.products),
        (columns.clicks, delta.clicks),
        (columns.orders, delta.orders),
        (columns.revenue, delta.revenue),
        (columns.disconnections, delta.disconnections),
        (columns.buffering_events, delta.buffering_events),
        (columns.buffering_seconds, delta.buffering_seconds),
    ] {
        if number != 0 {
            row.put(column, number);
        }
    }
    table.append(row)
}

fn time(micros: i64) -> Result<TimestampWithTimeZone> {
    clock::timestamp(micros).ok_or_else(|| {
        Error::new(
            SqlState::OUT_OF_RANGE,
            "the time of a change is out of range",
        )
        .hint("Look at the clock of the server.")
    })
}

/// What has been committed, or appended by this transaction, from a page on: of one session, or of
/// all but some.
pub fn read(
    from: pg_sys::BlockNumber,
    session: Option<Uuid>,
    but: &BTreeSet<Uuid>,
) -> Result<Pending> {
    let table = open()?;
    let columns = Columns::of(&table)?;
    let mut entries = Vec::new();
    let only = session.map(|session| (columns.session_id, session));
    let read = table.each(from, only, |row| {
        if let Some(id) = row.at(columns.session_id)
            && !but.contains(&id)
        {
            if entries.len() == BATCH {
                return Ok(false);
            }
            entries.push((id, entry(row, row.place(), &columns)));
        }
        Ok(true)
    })?;
    Ok(Pending {
        entries,
        next: read.stopped_in,
        complete_before: read.complete_before,
    })
}

/// The places of all entries of a session.
pub fn places(session: Uuid) -> Result<Vec<pg_sys::ItemPointerData>> {
    let table = open()?;
    let columns = Columns::of(&table)?;
    let mut places = Vec::new();
    table.each(0, Some((columns.session_id, session)), |row| {
        places.push(row.place());
        Ok(true)
    })?;
    Ok(places)
}

/// Whether anything is pending: of one session, or of any.
pub fn has(session: Option<Uuid>) -> Result<bool> {
    let table = open()?;
    let only = match session {
        Some(session) => Some((Columns::of(&table)?.session_id, session)),
        None => None,
    };
    Ok(table.each(0, only, |_| Ok(false))?.stopped_in.is_some())
}

/// The sessions of which something is pending, and how many entries.
pub fn sessions(session: Option<Uuid>) -> Result<(BTreeSet<Uuid>, i64)> {
    let table = open()?;
    let columns = Columns::of(&table)?;
    let (mut sessions, mut entries) = (BTreeSet::new(), 0);
    let only = session.map(|session| (columns.session_id, session));
    table.each(0, only, |row| {
        entries += 1;
        sessions.extend(row.at(columns.session_id));
        Ok(true)
    })?;
    Ok((sessions, entries))
}

/// Transactions before this one have nothing to come.
pub fn complete_before() -> Result<pg_sys::TransactionId> {
    heap::oldest_running()
}

fn entry(row: &Row<'_>, place: pg_sys::ItemPointerData, columns: &Columns) -> Entry {
    let number = |column| row.at(column).unwrap_or(0);
    let at = row.at(columns.at).map_or(0, i64::from);
    let viewers = number(columns.viewers);
    Entry {
        place,
        key: key(row, columns),
        at,
        doubtful: row.at(columns.doubtful).unwrap_or(false),
        delta: Delta {
            viewers,
            peak: viewers.max(0).saturating_add(number(columns.peak)),
            unique_viewers: number(columns.unique_viewers),
            watch_seconds: number(columns.watch_seconds),
            messages: number(columns.messages),
            reactions: number(columns.reactions),
            shares: number(columns.shares),
            products: number(columns.products),
            clicks: number(columns.clicks),
            orders: number(columns.orders),
            revenue: number(columns.revenue),
            disconnections: number(columns.disconnections),
            buffering_events: number(columns.buffering_events),
            buffering_seconds: number(columns.buffering_seconds),
            first: row.at(columns.since).map(i64::from).or(Some(at)),
            last: Some(at),
        },
    }
}

fn key(row: &Row<'_>, columns: &Columns) -> Key {
    (
        row.at(columns.at).map_or(0, i64::from),
        row.at(columns.transaction).unwrap_or(0),
        row.at(columns.nth).unwrap_or(0),
    )
}

/// Takes entries out of the log; returns those that were still there.
pub fn take(entries: impl IntoIterator<Item = Entry>) -> Result<Vec<Entry>> {
    let table = open()?;
    let columns = Columns::of(&table)?;
    let mut taken = Vec::new();
    for entry in entries {
        if table.delete(entry.place, |row| key(row, &columns) == entry.key)? {
            taken.push(entry);
        }
    }
    Ok(taken)
}
