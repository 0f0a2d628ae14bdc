//! Keeping a row that this transaction is about to refer to: nobody deletes it before the
//! transaction ends. The check of a foreign key does the same, but only when the new row is there,
//! and tells of a constraint where the row is gone; and it waits, whatever the transaction holds.

use crate::pg::catalog::relation_id;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::heap::{Attempt, Table};
use crate::pg::owner::as_owner;
use crate::pg::plan;
use crate::pg::subtransaction::without_waiting;
use crate::pg::transaction;
use pgrx::Uuid;
use pgrx::pg_sys;
use std::ffi::CStr;

/// For whom to wait who has the row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Always,
    /// But not for who deletes it.
    UnlessDeleted,
    Never,
}

/// What became of keeping a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Yes,
    /// Somebody has it who is not waited for: most likely it goes.
    Leaving,
    Gone,
}

/// What a foreign key of ours refers to.
#[derive(Clone, Copy)]
pub struct Referred {
    table: pg_sys::Oid,
    index: pg_sys::Oid,
}

/// The table and index that a foreign key of ours refers to; none where there is none.
pub fn referred(constraint: &str) -> Result<Option<Referred>> {
    // With a search path that the caller has no part in: it may have a table pg_constraint.
    let found: Option<Vec<pg_sys::Oid>> = as_owner(|| {
        plan::ask(
            "select array[confrelid, conindid] from pg_catalog.pg_constraint
              where connamespace = 'public'::regnamespace and conname = $1 and contype = 'f'",
            &[constraint.into()],
        )
    })?;
    Ok(match found.as_deref() {
        Some([table, index]) => Some(Referred {
            table: *table,
            index: *index,
        }),
        _ => None,
    })
}

/// Keeps the row that a foreign key of ours is about to refer to, where the key is there; `what` it refers to.
///
/// Errors: 23503 where there is no such row.
pub fn keep_referred(constraint: &str, id: Uuid, what: &str) -> Result<()> {
    match referred(constraint)? {
        Some(referred) if referred.keep(id, Wait::Always)? != Kept::Yes => Err(Error::new(
            SqlState::FOREIGN_KEY_VIOLATION,
            format!("{what} {id} does not exist"),
        )
        .detail("Or it is deleted at this moment.")
        .hint("Give the id of one that is there.")),
        _ => Ok(()),
    }
}

/// What rows of tables are that others refer to.
const NAMES: [(&str, &str); 8] = [
    ("live_stream_sessions", "session"),
    ("live_stream_products", "product"),
    ("live_stream_viewers", "viewer"),
    ("live_stream_chat", "message"),
    ("live_stream_schedule", "schedule"),
    ("live_stream_invitations", "invitation"),
    ("influencers", "influencer"),
    ("users", "user"),
];

/// Keeps what a row refers to, each given as a table and an id, before it is written for the second time in a transaction.
/// PostgreSQL checks its foreign keys then even where they are as before, and waits for who deletes what is referred to; who
/// waits for this row. Say a viewer leaves and comes back in one transaction, while the host deletes the session: the host
/// waits for the viewer's row, and the viewer would wait for the session. Rows that are not of ours may be held for another
/// reason, for which it waits as PostgreSQL does.
///
/// Errors: PT409 where somebody is deleting it.
pub fn again(referred: &[(pg_sys::Oid, Uuid)]) -> Result<()> {
    for &(table, id) in referred {
        let Some(referred) = by_id(table) else {
            continue;
        };
        let name = referred.name();
        let wait = match name.starts_with("live_stream_") {
            true => Wait::Never,
            false => Wait::UnlessDeleted,
        };
        if row(&referred, referred.by_id(), id, wait)? == Kept::Leaving {
            let what = NAMES.iter().find(|(table, _)| *table == name);
            return Err(is_leaving(
                what.map_or("what it refers to,", |(_, what)| what),
                id,
            ));
        }
    }
    Ok(())
}

/// As [`again`], of the row with this id of a table of ours, for who can do without the write: false where it would have to
/// wait, for whatever reason.
pub fn may_write_again(table: &'static CStr, key: &'static CStr, id: Uuid) -> Result<bool> {
    let written = Table::read(c"public", table)?;
    for (table, id) in written.referred(relation_id(c"public", key), id)? {
        if let Some(referred) = by_id(table)
            && row(&referred, referred.by_id(), id, Wait::Never)? == Kept::Leaving
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A table whose rows can be found by their ids.
fn by_id(table: pg_sys::Oid) -> Option<Table> {
    Table::of_others(table).filter(|table| table.by_id().is_some())
}

/// For who does not wait for somebody who is deleting a row, or has it to itself.
pub fn is_leaving(what: &str, id: Uuid) -> Error {
    Error::new(
        SqlState::CONFLICT,
        format!("{what} {id} is being changed or deleted"),
    )
    .hint("Try again in a moment.")
}

impl Referred {
    pub fn table(self) -> pg_sys::Oid {
        self.table
    }

    /// Keeps the row with this id, past privileges and row-level security as the check of the
    /// foreign key. Of a table of another kind than ours are, such as a partitioned one, that check
    /// sees to it, and this one says yes.
    pub fn keep(self, id: Uuid, wait: Wait) -> Result<Kept> {
        match Table::of_others(self.table) {
            Some(table) => row(&table, Some(self.index), id, wait),
            None => Ok(Kept::Yes),
        }
    }
}

/// Keeps the row with this id of a table.
pub fn row(table: &Table, index: Option<pg_sys::Oid>, id: Uuid, wait: Wait) -> Result<Kept> {
    transaction::check_may_write()?;
    match wait {
        // PostgreSQL locks the versions that follow too, and waits there for who has one, whatever it was told.
        Wait::Never => {
            let kept = without_waiting(|| try_row(table, index, id, wait))?;
            Ok(kept.unwrap_or(Kept::Leaving))
        }
        _ => try_row(table, index, id, wait),
    }
}

fn try_row(table: &Table, index: Option<pg_sys::Oid>, id: Uuid, wait: Wait) -> Result<Kept> {
    let mut blocks = wait == Wait::Always;
    loop {
        pgrx::check_for_interrupts!();
        match table.keep(index, id, blocks)? {
            Attempt::Kept => return Ok(Kept::Yes),
            Attempt::Gone => return Ok(Kept::Gone),
            Attempt::Moved => {}
            Attempt::Busy { is_deleted } if is_deleted || wait == Wait::Never => {
                return Ok(Kept::Leaving);
            }
            Attempt::Busy { .. } => blocks = true,
        }
    }
}
