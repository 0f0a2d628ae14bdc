//! Changes that wait to be folded into their session's row: `live_stream.metric_changes`.
//!
//! Appended by the transaction that makes the change, so they come and go with it. Whoever
//! holds the session's row may fold them, and deletes them as it does. Each has a key, by which a
//! replica finds what to delete.

use super::changes::Change;
use super::delta::Delta;
use super::rows::{Counted, Of, Tally};
use crate::pg::catalog;
use crate::pg::clock;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::heap::{Latest, NewRow, Table};
use crate::pg::row::{Column, Row};
use crate::pg::transaction;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

/// Entries that are held in memory at the same time, at most.
pub const BATCH: usize = 10_000;

/// A change that was appended, and where it is.
#[derive(Clone, Copy)]
pub struct Entry {
    place: pg_sys::ItemPointerData,
    key: Key,
    pub change: Change,
}

/// What tells an entry from all others: when, in which transaction, and which of it.
type Key = (i64, i64, i32);

/// A part of the log: [`BATCH`] entries at most.
pub struct Pending {
    pub entries: Vec<(Uuid, Entry)>,
    /// The page from which to read on; none at the end of the log.
    pub next: Option<pg_sys::BlockNumber>,
    /// Sessions in which tallies of rows are pending.
    pub tallied: BTreeSet<Uuid>,
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
    counted: Column<String>,
    row_id: Column<Uuid>,
    reaction: Column<String>,
    views: Column<i64>,
    add_to_cart: Column<i64>,
    replies: Column<i64>,
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
            counted: table.column("counted")?,
            row_id: table.column("row_id")?,
            reaction: table.column("reaction")?,
            views: table.column("views")?,
            add_to_cart: table.column("add_to_cart")?,
            replies: table.column("replies")?,
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

/// A row for a change of a session at a time.
fn new_row(table: &Table, columns: &Columns, session: Uuid, at: i64) -> Result<NewRow> {
    let nth = APPENDED.get();
    APPENDED.set(nth.wrapping_add(1));
    let mut row = table.new_row();
    row.put(columns.session_id, session);
    row.put(columns.at, time(at)?);
    row.put(columns.transaction, transaction::full_id()?);
    row.put(columns.nth, nth);
    Ok(row)
}

/// Those that are not 0, which is the columns' default.
fn with_numbers<const N: usize>(mut row: NewRow, numbers: [(Column<i64>, i64); N]) -> NewRow {
    for (column, number) in numbers {
        if number != 0 {
            row.put(column, number);
        }
    }
    row
}

/// Appends a change of the tallies of a row of a session.
pub fn append_tally(session: Uuid, counted: &Counted, tally: &Tally) -> Result<()> {
    let table = open()?;
    let columns = Columns::of(&table)?;
    let mut row = new_row(&table, &columns, session, clock::tick())?;
    row.put(columns.counted, counted.of.label().to_owned());
    row.put(columns.row_id, counted.row);
    if let Some(reaction) = &counted.reaction {
        row.put(columns.reaction, reaction.clone());
    }
    let numbers = [
        (columns.views, tally.views),
        (columns.clicks, tally.clicks),
        (columns.add_to_cart, tally.add_to_cart),
        (columns.shares, tally.shares),
        (columns.messages, tally.messages),
        (columns.reactions, tally.reactions),
        (columns.replies, tally.replies),
        (columns.orders, tally.orders),
    ];
    table.append(with_numbers(row, numbers))
}

/// A change of tallies that was appended, and where it is.
pub struct TallyEntry {
    place: pg_sys::ItemPointerData,
    key: Key,
    pub counted: Counted,
    pub tally: Tally,
}

impl TallyEntry {
    /// Whether it asks for a look at a viewer's row, and counts nothing.
    pub fn is_look(&self) -> bool {
        self.counted.of == Of::Viewer && self.tally == Tally::default()
    }
}

/// The changes of tallies in rows of a session that are pending, [`BATCH`] at most.
pub fn tallies(session: Uuid) -> Result<Vec<TallyEntry>> {
    let table = open()?;
    let columns = Columns::of(&table)?;
    let mut entries = Vec::new();
    let only = Some((columns.session_id, session));
    table.each(&Latest::take()?, 0, only, |row| {
        let number = |column| row.at(column).unwrap_or(0);
        let of = row.at(columns.counted).and_then(|label| Of::named(&label));
        if let Some((of, id)) = of.zip(row.at(columns.row_id)) {
            entries.push(TallyEntry {
                place: row.place(),
                key: key(row, &columns),
                counted: Counted {
                    of,
                    row: id,
                    reaction: row.at(columns.reaction),
                },
                tally: Tally {
                    views: number(columns.views),
                    clicks: number(columns.clicks),
                    add_to_cart: number(columns.add_to_cart),
                    shares: number(columns.shares),
                    messages: number(columns.messages),
                    reactions: number(columns.reactions),
                    replies: number(columns.replies),
                    orders: number(columns.orders),
                },
            });
        }
        Ok(entries.len() < BATCH)
    })?;
    Ok(entries)
}

/// Takes a change of tallies out of the log; false where somebody else has.
pub fn take_tally(entry: &TallyEntry) -> Result<bool> {
    let table = open()?;
    let columns = Columns::of(&table)?;
    table.delete(entry.place, |row| key(row, &columns) == entry.key)
}

/// Appends a change. One of nothing makes the session hot.
pub fn append(session: Uuid, delta: &Delta, doubtful: bool) -> Result<()> {
    let table = open()?;
    let columns = Columns::of(&table)?;
    let last = delta.last.unwrap_or_else(clock::tick);
    let mut row = new_row(&table, &columns, session, last)?;
    if let Some(first) = delta.first.filter(|&first| first < last) {
        row.put(columns.since, time(first)?);
    }
    if doubtful {
        row.put(columns.doubtful, true);
    }
    let numbers = [
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
    ];
    table.append(with_numbers(row, numbers))
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
/// all but some; without tallies.
pub fn read(
    from: pg_sys::BlockNumber,
    session: Option<Uuid>,
    but: &BTreeSet<Uuid>,
) -> Result<Pending> {
    let table = open()?;
    let columns = Columns::of(&table)?;
    let (mut entries, mut tallied) = (Vec::new(), BTreeSet::new());
    let only = session.map(|session| (columns.session_id, session));
    let next = table.each(&Latest::take()?, from, only, |row| {
        if let Some(id) = row.at(columns.session_id)
            && !but.contains(&id)
        {
            if row.at(columns.row_id).is_some() {
                tallied.insert(id);
                return Ok(true);
            }
            if entries.len() == BATCH {
                return Ok(false);
            }
            entries.push((id, entry(row, row.place(), &columns)));
        }
        Ok(true)
    })?;
    Ok(Pending {
        entries,
        next,
        tallied,
    })
}

/// What is pending of a session's viewers at a moment: the sum of those who came and went, and of those who came.
pub fn viewers(moment: &Latest, session: Uuid) -> Result<(i64, i64)> {
    let table = open()?;
    let columns = Columns::of(&table)?;
    let (mut sum, mut came) = (0i64, 0i64);
    let only = Some((columns.session_id, session));
    table.each(moment, 0, only, |row| {
        let change = row.at(columns.viewers).unwrap_or(0);
        sum = sum.saturating_add(change);
        came = came.saturating_add(change.max(0));
        Ok(true)
    })?;
    Ok((sum, came))
}

/// The places of all entries of a session.
pub fn places(session: Uuid) -> Result<Vec<pg_sys::ItemPointerData>> {
    let table = open()?;
    let columns = Columns::of(&table)?;
    let mut places = Vec::new();
    let only = Some((columns.session_id, session));
    table.each(&Latest::take()?, 0, only, |row| {
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
    Ok(table
        .each(&Latest::take()?, 0, only, |_| Ok(false))?
        .is_some())
}

/// How many entries are pending, by session: of one, or of all.
pub fn pending(session: Option<Uuid>) -> Result<BTreeMap<Uuid, i64>> {
    let table = open()?;
    let columns = Columns::of(&table)?;
    let mut entries = BTreeMap::new();
    let only = session.map(|session| (columns.session_id, session));
    table.each(&Latest::take()?, 0, only, |row| {
        if let Some(id) = row.at(columns.session_id) {
            *entries.entry(id).or_default() += 1;
        }
        Ok(true)
    })?;
    Ok(entries)
}

fn entry(row: &Row<'_>, place: pg_sys::ItemPointerData, columns: &Columns) -> Entry {
    let number = |column| row.at(column).unwrap_or(0);
    let at = row.at(columns.at).map_or(0, i64::from);
    let viewers = number(columns.viewers);
    Entry {
        place,
        key: key(row, columns),
        change: Change {
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

/// Takes all entries of a session out of the log.
pub fn forget(session: Uuid) -> Result<()> {
    if is_empty()? {
        return Ok(());
    }
    let mut from = Some(0);
    while let Some(page) = from {
        let pending = read(page, Some(session), &BTreeSet::new())?;
        take(pending.entries.into_iter().map(|(_, entry)| entry))?;
        from = pending.next;
    }
    tallies(session)?
        .iter()
        .try_for_each(|entry| take_tally(entry).map(drop))
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
