//! Keeping a row that this transaction is about to refer to: nobody deletes it before the
//! transaction ends. The check of a foreign key does the same, but only when the new row is there,
//! and tells of a constraint where the row is gone; and it waits, whatever the transaction holds.

use crate::pg::error::Result;
use crate::pg::heap::{Attempt, Table};
use crate::pg::owner::as_owner;
use crate::pg::plan;
use pgrx::Uuid;
use pgrx::pg_sys;

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
