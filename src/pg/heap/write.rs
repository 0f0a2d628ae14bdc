//! Writing rows of our own tables without the executor, and freeing their pages.

use super::*;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::row::{Column, Stored};
use pgrx::pg_sys;
use pgrx::prelude::*;

impl Table {
    /// Removes old versions from the page of a row, unless others are using it just now.
    ///
    /// Whoever looks for the row passes them all, and where others held it for a foreign key,
    /// must look up who did. PostgreSQL does so by itself, but only where a page is fuller than
    /// its table's fillfactor.
    pub fn prune(&self, place: pg_sys::ItemPointerData) {
        let block = block_of(&place);
        if !self.has_block(block) {
            return;
        }
        let _full = AsIfFull::begin(self);
        // SAFETY: the block exists; PostgreSQL unpins the page itself if this fails.
        unsafe {
            let buffer = pg_sys::ReadBuffer(self.relation, block);
            pg_sys::heap_page_prune_opt(self.relation, buffer);
            pg_sys::ReleaseBuffer(buffer);
        }
    }

    /// Sets the fillfactor in this process's cache, and returns the one before; none where the table
    /// has no options.
    fn swap_fillfactor(&self, fillfactor: i32) -> Option<i32> {
        // SAFETY: the relation is open, and the options of an ordinary table are of this kind. They
        // are looked up anew each time, as PostgreSQL replaces them when the table is altered.
        let options = unsafe {
            let options: *mut pg_sys::StdRdOptions = (*self.relation).rd_options.cast();
            options.as_mut()?
        };
        Some(std::mem::replace(&mut options.fillfactor, fillfactor))
    }

    /// A row to be added, all null.
    pub fn new_row(&self) -> NewRow {
        let columns = self.desc().len();
        NewRow {
            values: vec![pg_sys::Datum::from(0); columns],
            nulls: vec![true; columns],
        }
    }

    /// Adds a row. No default is filled in, and no trigger fires: for the engine's own tables.
    pub fn append(&self, mut row: NewRow) -> Result<()> {
        if row.values.len() != self.desc().len() {
            return Err(Error::new(
                SqlState::INTERNAL,
                "a row was made for another table",
            ));
        }
        // SAFETY: both arrays hold a value for each column, of its type: `NewRow::put` takes
        // columns that were found with theirs. The keys are of the kind that catalogs have, and
        // kept as for those.
        unsafe {
            let tuple = pg_sys::heap_form_tuple(
                self.desc().as_ptr(),
                row.values.as_mut_ptr(),
                row.nulls.as_mut_ptr(),
            );
            pg_sys::CatalogTupleInsert(self.relation, tuple);
            pg_sys::heap_freetuple(tuple);
        }
        Ok(())
    }

    /// Deletes the row at a place, if the visible version there `is_it`; false if it is not, or
    /// somebody else has deleted it. Since the place was found, the row may have gone and another
    /// one come there: after a VACUUM, or when the table was written anew.
    pub fn delete(
        &self,
        mut place: pg_sys::ItemPointerData,
        is_it: impl FnOnce(&Stored<'_>) -> bool,
    ) -> Result<bool> {
        let deleted = self.pinned(place, |pinned| {
            if !is_it(&pinned.row()) {
                return false;
            }
            let mut failure = pg_sys::TM_FailureData::default();
            // SAFETY: the relation is open; the place is that of a visible row, pinned.
            let outcome = unsafe {
                pg_sys::heap_delete(
                    self.relation,
                    &mut place,
                    pg_sys::GetCurrentCommandId(true),
                    std::ptr::null_mut(),
                    true,
                    &mut failure,
                    false,
                )
            };
            outcome == pg_sys::TM_Result::TM_Ok
        })?;
        Ok(deleted == Some(true))
    }
}

/// While it lives, this process takes every page of a table for fuller than its fillfactor.
struct AsIfFull<'a> {
    table: &'a Table,
    fillfactor: Option<i32>,
}

impl<'a> AsIfFull<'a> {
    fn begin(table: &'a Table) -> Self {
        let fillfactor = table.swap_fillfactor(1);
        Self { table, fillfactor }
    }
}

impl Drop for AsIfFull<'_> {
    /// Also while an error unwinds: the cache of relations outlives the transaction.
    fn drop(&mut self) {
        if let Some(before) = self.fillfactor {
            self.table.swap_fillfactor(before);
        }
    }
}

/// The values of a row to be added.
pub struct NewRow {
    values: Vec<pg_sys::Datum>,
    nulls: Vec<bool>,
}

impl NewRow {
    /// Sets a column of the table that the row was made for.
    pub fn put<T: IntoDatum>(&mut self, column: Column<T>, value: T) {
        let index = column.index();
        if index < self.values.len()
            && let Some(datum) = value.into_datum()
        {
            self.values[index] = datum;
            self.nulls[index] = false;
        }
    }
}
