//! The hot sessions, which the worker folds at the moment, with how far: `live_stream.metric_sessions`.

use crate::pg::clock::server_start;
use crate::pg::error::Result;
use crate::pg::heap::Table;
use crate::pg::plan::{self, Plan};
use crate::pg::row::Row;
use crate::pg::transaction;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::Cell;

use super::settling;

thread_local! {
    static NOTE: Plan = const { Plan::writing(
        c"insert into live_stream.metric_sessions as s
            (session_id, server_started, complete_before, doubtful, folds, changes)
          values ($1, pg_postmaster_start_time(), $2, $3, 1, $4)
          on conflict (session_id) do update
            set server_started = pg_postmaster_start_time(),
                complete_before = case when s.server_started = pg_postmaster_start_time()
                                       then greatest(s.complete_before, $2) else $2 end,
                doubtful = s.doubtful or $3, folded_at = clock_timestamp(), folds = s.folds + 1,
                changes = s.changes + $4",
        &[pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::BOOLOID, pg_sys::INT8OID],
    ) };
    static FORGET: Plan = const { Plan::writing(
        c"delete from live_stream.metric_sessions where session_id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static KNOWN: Plan = const { Plan::writing(
        c"select session_id, doubtful from live_stream.metric_sessions",
        &[],
    ) };
}

/// [`note`] of a fold that was of a part of what is pending.
pub const INCOMPLETE: i64 = 0;

/// Notes a fold. All changes by transactions before `complete_before` are in the row.
pub fn note(session: Uuid, complete_before: i64, doubtful: bool, changes: usize) -> Result<()> {
    let args = [
        session.into(),
        complete_before.into(),
        doubtful.into(),
        (changes as i64).into(),
    ];
    settling(|| plan::execute(&NOTE, &args).map(drop))
}

pub fn forget(session: Uuid) -> Result<()> {
    settling(|| plan::execute(&FORGET, &[session.into()]).map(drop))
}

/// Whether the worker has noted that the peak of a session must be counted from the rows.
pub fn is_doubtful(session: Uuid) -> Result<bool> {
    Ok(find(session, |row| row.get("doubtful"))? == Some(true))
}

fn find<T>(session: Uuid, read: impl Fn(&Row<'_>) -> Result<Option<T>>) -> Result<Option<T>> {
    let mut found = None;
    Table::read(c"live_stream", c"metric_sessions")?.find(
        c"live_stream",
        c"metric_sessions_pkey",
        &[("session_id", session)],
        |row| {
            found = read(row)?;
            Ok(false)
        },
    )?;
    Ok(found)
}

/// True when there is no hot session, and no trace of one: no page.
pub fn is_empty() -> Result<bool> {
    Ok(Table::read(c"live_stream", c"metric_sessions")?.pages() == 0)
}

/// The sessions that a worker before this one has left, with whether their peak is in doubt.
pub fn left_over() -> Result<Vec<(Uuid, bool)>> {
    settling(|| {
        plan::run(&KNOWN, &[], |rows| {
            Ok((0..rows.len())
                .filter_map(|row| Some((rows.get(row, 0)?, rows.get::<bool>(row, 1)?)))
                .collect())
        })
    })
}

/// A transaction id without wrap-around, for one that is not older than two billion others.
pub fn full(transaction: pg_sys::TransactionId) -> i64 {
    let next = transaction::next_full_id();
    let behind = (next as u32).wrapping_sub(transaction.into_inner());
    next.saturating_sub(u64::from(behind)) as i64
}

thread_local! {
    /// What a session's row had folded when this backend last looked. An old answer only counts
    /// too many who may be coming.
    static FOLDED: Cell<Option<(Uuid, i64)>> = const { Cell::new(None) };
}

/// Whether `free` places, as a session's row has them, are enough for all who may have come
/// since the row was folded: each transaction admits one viewer so at most. The row must have
/// been read after [`look`].
pub fn places_suffice(session: Uuid, free: i32) -> bool {
    let next = transaction::next_full_id() as i64;
    FOLDED
        .get()
        .is_some_and(|(of, since)| of == session && next - since < i64::from(free))
}

/// Looks what the row of a session has folded.
pub fn look(session: Uuid) -> Result<()> {
    let started = server_start();
    let since = find(session, |row| {
        let at = row.get::<TimestampWithTimeZone>("server_started")?;
        let here = at.map(i64::from) == Some(started);
        Ok(row.get("complete_before")?.filter(|_| here))
    })?;
    FOLDED.set(since.map(|since| (session, since)));
    Ok(())
}
