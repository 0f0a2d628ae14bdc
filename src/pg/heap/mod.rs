//! Our own tables, read and written without the executor, where every microsecond counts.
//!
//! Reads see what is committed at this moment and what this transaction has done, whatever its
//! isolation level, as foreign-key checks do.

mod lock;
mod scan;
mod snapshot;
mod write;

pub use lock::{Attempt, Locked, Strength};
pub use snapshot::Latest;
pub use write::NewRow;

use crate::pg::catalog::{self, relation_id};
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::row::{Column, Stored};
use crate::pg::shape::{self, Descriptor};
use crate::pg::tables;
use crate::pg::transaction;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;

/// What is at a place.
pub enum Found<T> {
    Nothing,
    /// The version that is known.
    Same,
    Row(T),
}

/// A table, open until dropped.
pub struct Table {
    relation: pg_sys::Relation,
    lock: pg_sys::LOCKMODE,
}

impl Table {
    pub fn read(schema: &'static CStr, name: &'static CStr) -> Result<Self> {
        Self::open(schema, name, pg_sys::AccessShareLock)
    }

    /// For locking rows.
    pub fn lock_rows(schema: &'static CStr, name: &'static CStr) -> Result<Self> {
        Self::open(schema, name, pg_sys::RowShareLock)
    }

    pub fn write(schema: &'static CStr, name: &'static CStr) -> Result<Self> {
        Self::open(schema, name, pg_sys::RowExclusiveLock)
    }

    /// A table of the app's own, of whatever kind: for a look at its columns.
    pub fn of_app(schema: &'static CStr, name: &'static CStr) -> Result<Self> {
        Self::locked(schema, name, pg_sys::AccessShareLock)
    }

    /// As [`of_app`](Self::of_app), for reading its rows; none where it is of another kind than ours are.
    pub fn plain(schema: &'static CStr, name: &'static CStr) -> Result<Option<Self>> {
        let table = Self::of_app(schema, name)?;
        // SAFETY: the relation is open and locked.
        let is_plain = unsafe { shape::check_table(table.relation, None) }.is_ok();
        Ok(is_plain.then_some(table))
    }

    /// A table by its OID, for locking rows; none if it is gone, or of another kind than ours are.
    pub fn of_others(id: pg_sys::Oid) -> Option<Self> {
        let lock = pg_sys::RowShareLock as pg_sys::LOCKMODE;
        // SAFETY: opens whatever has the OID, or answers with null where it is gone by now.
        let relation = unsafe { pg_sys::try_relation_open(id, lock) };
        if relation.is_null() {
            return None;
        }
        let table = Self { relation, lock };
        // SAFETY: the relation is open and locked.
        if unsafe { shape::check_table(table.relation, None) }.is_err() {
            table.give_back();
            return None;
        }
        Some(table)
    }

    fn open(schema: &'static CStr, name: &'static CStr, lock: u32) -> Result<Self> {
        if lock != pg_sys::AccessShareLock {
            transaction::check_may_write()?;
        }
        let table = Self::locked(schema, name, lock)?;
        if !catalog::is_checked(schema, name) {
            table.check(schema, name)?;
            catalog::note_checked(schema, name);
        }
        Ok(table)
    }

    fn locked(schema: &'static CStr, name: &'static CStr, lock: u32) -> Result<Self> {
        let lock = lock as pg_sys::LOCKMODE;
        loop {
            pgrx::check_for_interrupts!();
            let id = relation_id(schema, name).ok_or_else(|| shape::missing(schema, name))?;
            // SAFETY: opens whatever has the OID, or answers with null where it is gone by now.
            let relation = unsafe { pg_sys::try_relation_open(id, lock) };
            if relation.is_null() {
                continue;
            }
            let table = Self { relation, lock };
            // With the lock it keeps its name.
            if relation_id(schema, name) == Some(id) {
                return Ok(table);
            }
            table.give_back();
        }
    }

    fn check(&self, schema: &'static CStr, name: &'static CStr) -> Result<()> {
        let wanted = schema.to_str().ok().zip(name.to_str().ok());
        let wanted = wanted.and_then(|(schema, name)| tables::table(schema, name));
        // SAFETY: the relation is open and locked.
        unsafe { shape::check_table(self.relation, wanted) }
    }

    /// Its name, without the schema.
    pub fn name(&self) -> String {
        self.desc().relation_name()
    }

    /// Closes it and gives its lock back.
    fn give_back(self) {
        // SAFETY: opened once, and not closed again when it is dropped.
        unsafe { pg_sys::relation_close(self.relation, self.lock) };
        std::mem::forget(self);
    }

    /// Checks columns that are relied on.
    ///
    /// Errors: 55000.
    pub fn check_columns(&self, table: &tables::Table, columns: &[&tables::Column]) -> Result<()> {
        shape::check_columns(self.desc(), table, columns)
    }

    /// Checks that it has its primary key.
    ///
    /// Errors: 55000.
    pub fn check_key(&self, table: &tables::Table) -> Result<()> {
        // SAFETY: the relation is open and locked.
        unsafe { shape::check_key(self.relation, table) }
    }

    /// Checks that its rows are of sessions that are in another table.
    ///
    /// Errors: 55000.
    pub fn check_refers(&self, to: pg_sys::Oid) -> Result<()> {
        // SAFETY: the relation is open and locked.
        unsafe { shape::check_refers(self.relation, to) }
    }

    /// Whether no code of the app's runs with a write to it.
    pub fn runs_no_code(&self, table: &tables::Table) -> bool {
        // SAFETY: the relation is open and locked.
        unsafe { shape::runs_no_code(self.relation, table) }
    }

    /// A column of the type `T`.
    ///
    /// Errors: 55000.
    pub fn column<T: IntoDatum>(&self, name: &'static str) -> Result<Column<T>> {
        Column::find(self.desc(), name)
    }

    fn desc(&self) -> Descriptor<'_> {
        // SAFETY: the relation is open as long as `self` lives.
        unsafe { Descriptor::of((*self.relation).rd_att) }
    }

    /// The type of the table's rows.
    pub fn row_type(&self) -> pg_sys::Oid {
        // SAFETY: the relation is open.
        unsafe { (*(*self.relation).rd_rel).reltype }
    }

    /// That the caller may read every column of the table, as `select *` asks for.
    ///
    /// Errors: 42501.
    pub fn check_readable(&self) -> Result<()> {
        // SAFETY: the relation is open; look-ups in the system cache.
        let readable = unsafe {
            let (id, caller) = ((*self.relation).rd_id, pg_sys::GetUserId());
            let select = pg_sys::ACL_SELECT as pg_sys::AclMode;
            let is_ok = |outcome| outcome == pg_sys::AclResult::ACLCHECK_OK;
            is_ok(pg_sys::pg_class_aclcheck(id, caller, select))
                || is_ok(pg_sys::pg_attribute_aclcheck_all(
                    id,
                    caller,
                    select,
                    pg_sys::AclMaskHow::ACLMASK_ALL,
                ))
        };
        if readable {
            return Ok(());
        }
        // SAFETY: the name of an open relation.
        let name = unsafe { CStr::from_ptr((*(*self.relation).rd_rel).relname.data.as_ptr()) };
        Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("permission denied for table {}", name.to_string_lossy()),
        )
        .detail("The function returns the whole row, and the caller may not read all columns.")
        .hint("Let the role select every column; keep what is private in a table of its own."))
    }

    /// The number of pages: 0 for a table that holds nothing at all.
    pub fn pages(&self) -> u32 {
        // SAFETY: the relation is open.
        unsafe {
            pg_sys::RelationGetNumberOfBlocksInFork(self.relation, pg_sys::ForkNumber::MAIN_FORKNUM)
        }
    }

    /// The row at a place, if it is visible now: for who has found it there a moment ago, and
    /// need not read it again while it is the same `known` version.
    pub fn at<T>(
        &self,
        place: pg_sys::ItemPointerData,
        known: Option<pg_sys::TransactionId>,
        read: impl FnOnce(&Stored<'_>) -> Result<T>,
    ) -> Result<Found<T>> {
        let found = self.pinned(place, |pinned| {
            if known == Some(pinned.version()) {
                return Ok(Found::Same);
            }
            read(&pinned.row()).map(Found::Row)
        })?;
        found.unwrap_or(Ok(Found::Nothing))
    }

    /// Whether the table is long enough to have a page; asks the system only when PostgreSQL
    /// does not remember. A table that becomes shorter is forgotten before our lock on it is
    /// granted.
    fn has_block(&self, block: pg_sys::BlockNumber) -> bool {
        // SAFETY: the relation is open; its storage, if opened, is valid until invalidated.
        let known = unsafe {
            let storage = (*self.relation).rd_smgr;
            if storage.is_null() {
                pg_sys::InvalidBlockNumber
            } else {
                (*storage).smgr_cached_nblocks[pg_sys::ForkNumber::MAIN_FORKNUM as usize]
            }
        };
        known != pg_sys::InvalidBlockNumber && block < known || block < self.pages()
    }

    /// Runs `f` with the row that is visible at a place, whose page stays pinned meanwhile: nothing
    /// there is removed or put to another use. None where there is no such row.
    fn pinned<R>(
        &self,
        place: pg_sys::ItemPointerData,
        f: impl FnOnce(&Pinned<'_>) -> R,
    ) -> Result<Option<R>> {
        if !self.has_block(block_of(&place)) {
            return Ok(None);
        }
        let snapshot = Latest::take()?;
        // SAFETY: the block exists; the row is read while its page is pinned.
        unsafe {
            let mut tuple = pg_sys::HeapTupleData {
                t_self: place,
                ..Default::default()
            };
            let mut pinned = pg_sys::InvalidBuffer as pg_sys::Buffer;
            if !pg_sys::heap_fetch(self.relation, snapshot.0, &mut tuple, &mut pinned, false) {
                return Ok(None);
            }
            let outcome = f(&Pinned {
                desc: self.desc(),
                tuple: &tuple,
            });
            pg_sys::ReleaseBuffer(pinned);
            Ok(Some(outcome))
        }
    }
}

/// A row whose page is pinned, not taken apart yet.
struct Pinned<'a> {
    desc: Descriptor<'a>,
    tuple: &'a pg_sys::HeapTupleData,
}

impl Pinned<'_> {
    /// The transaction that wrote this version of the row.
    fn version(&self) -> pg_sys::TransactionId {
        // SAFETY: a row that was fetched has its header.
        unsafe { (*self.tuple.t_data).t_choice.t_heap.t_xmin }
    }

    fn row(&self) -> Stored<'_> {
        // SAFETY: `Table::pinned` makes these, of rows of the table whose shape this is.
        unsafe { Stored::of_tuple(self.desc, self.tuple) }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened once, closed once; while an error unwinds, PostgreSQL closes it.
            // The lock stays until the transaction ends where rows were written.
            unsafe {
                let keep = self.lock != pg_sys::AccessShareLock as pg_sys::LOCKMODE;
                let lock = if keep {
                    pg_sys::NoLock as pg_sys::LOCKMODE
                } else {
                    self.lock
                };
                pg_sys::table_close(self.relation, lock);
            }
        }
    }
}

/// The page of a place.
pub fn block_of(place: &pg_sys::ItemPointerData) -> pg_sys::BlockNumber {
    // SAFETY: a plain read; places come from scans.
    unsafe { pgrx::itemptr::item_pointer_get_block_number(place) }
}
