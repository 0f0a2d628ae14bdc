//! Our own tables, read and written without the executor, where every microsecond counts.
//!
//! Reads see what is committed at this moment and what this transaction has done, whatever its
//! isolation level, as foreign-key checks do.

use crate::pg::catalog::{self, relation_id};
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::row::{Column, Stored};
use crate::pg::shape::{self, Descriptor};
use crate::pg::tables;
use crate::pg::transaction;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;
use std::mem::MaybeUninit;

/// What is at a place.
pub enum Found<T> {
    Nothing,
    /// The version that is known.
    Same,
    Row(T),
}

/// What became of locking a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    Yes,
    /// Somebody else has it.
    Busy,
    /// It is not there any more: look for it again.
    Moved,
}

/// How a row is locked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Strength {
    /// Against changes, as SELECT FOR NO KEY UPDATE does.
    Change,
    /// Against being deleted, as SELECT FOR KEY SHARE does.
    Deletion,
}

/// What became of keeping a row from being deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    Kept,
    Gone,
    /// Between the look at it and its lock.
    Moved,
    /// Somebody else has it.
    Busy {
        is_deleted: bool,
    },
}

/// How far a table was read.
#[derive(Clone, Copy)]
pub struct Read {
    /// Transactions before this one have no rows to come.
    pub complete_before: pg_sys::TransactionId,
    /// The page in which reading was stopped; none where the end was reached.
    pub stopped_in: Option<pg_sys::BlockNumber>,
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

    /// Calls `each` with the rows whose columns equal the ids, found through `index`, until it
    /// returns false. The columns are the first ones of the index.
    pub fn find(
        &self,
        schema: &'static CStr,
        index: &'static CStr,
        ids: &[(&'static str, Uuid)],
        mut each: impl FnMut(&Stored<'_>) -> Result<bool>,
    ) -> Result<()> {
        self.scan(relation_id(schema, index), ids, &Latest::take()?, |tuple| {
            // SAFETY: the scan hands out rows of this table, one at a time.
            let row = unsafe { Stored::of_tuple(self.desc(), tuple) };
            each(&row)
        })
    }

    /// As [`find`](Self::find), with whether the rows come with the newest first, by a column that
    /// the index has after those of the ids.
    pub fn find_newest(
        &self,
        schema: &'static CStr,
        index: &'static CStr,
        ids: &[(&'static str, Uuid)],
        newest: Column<TimestampWithTimeZone>,
        mut each: impl FnMut(&Stored<'_>, bool) -> Result<bool>,
    ) -> Result<()> {
        let keys = self.keys(ids)?;
        let newest_first = relation_id(schema, index).is_some_and(|index| {
            // SAFETY: the relation is open and locked.
            self.can_search(index, &keys)
                && unsafe {
                    shape::is_newest_first(self.relation, index, keys.len(), newest.number())
                }
        });
        self.find(schema, index, ids, |row| each(row, newest_first))
    }

    /// As [`find`](Self::find), counting the rows; `enough` of them end the scan.
    pub fn count(
        &self,
        schema: &'static CStr,
        index: &'static CStr,
        ids: &[(&'static str, Uuid)],
        enough: i64,
    ) -> Result<i64> {
        let mut found = 0;
        self.scan(relation_id(schema, index), ids, &Latest::take()?, |_| {
            found += 1;
            Ok(found < enough)
        })?;
        Ok(found)
    }

    /// Whether there are such rows without what this transaction has done.
    pub fn others_see(
        &self,
        schema: &'static CStr,
        index: &'static CStr,
        ids: &[(&'static str, Uuid)],
    ) -> Result<bool> {
        let mut found = false;
        let snapshot = Latest::of_others()?;
        self.scan(relation_id(schema, index), ids, &snapshot, |_| {
            found = true;
            Ok(false)
        })?;
        Ok(found)
    }

    fn scan(
        &self,
        index: Option<pg_sys::Oid>,
        ids: &[(&'static str, Uuid)],
        snapshot: &Latest,
        mut each: impl FnMut(pg_sys::HeapTuple) -> Result<bool>,
    ) -> Result<()> {
        let columns = self.keys(ids)?;
        let mut keys: Vec<pg_sys::ScanKeyData> = Vec::with_capacity(ids.len());
        for (&number, (_, id)) in columns.iter().zip(ids) {
            let mut key = MaybeUninit::<pg_sys::ScanKeyData>::zeroed();
            // SAFETY: fills in the key, whose column is a UUID, as was checked; the id is copied
            // into the current memory context.
            unsafe {
                pg_sys::ScanKeyInit(
                    key.as_mut_ptr(),
                    number,
                    pg_sys::BTEqualStrategyNumber as u16,
                    pg_sys::Oid::from(pg_sys::F_UUID_EQ),
                    (*id).into_datum().unwrap_or(pg_sys::Datum::from(0)),
                );
                keys.push(key.assume_init());
            }
        }
        let index = index.filter(|&index| self.can_search(index, &columns));
        // SAFETY: table and keys outlive the scan; without the index the table is read through.
        unsafe {
            let scan = pg_sys::systable_beginscan(
                self.relation,
                index.unwrap_or(pg_sys::InvalidOid),
                index.is_some(),
                snapshot.0,
                keys.len() as i32,
                keys.as_mut_ptr(),
            );
            let mut outcome = Ok(());
            loop {
                let tuple = pg_sys::systable_getnext(scan);
                if tuple.is_null() {
                    break;
                }
                match each(tuple) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                }
            }
            pg_sys::systable_endscan(scan);
            outcome
        }
    }

    /// The numbers of the columns that ids are looked for in.
    fn keys(&self, ids: &[(&'static str, Uuid)]) -> Result<Vec<pg_sys::AttrNumber>> {
        ids.iter()
            .map(|(column, _)| Ok(self.column::<Uuid>(column)?.number()))
            .collect()
    }

    /// Whether an index finds the rows whose columns equal ids. Else the table is read through.
    fn can_search(&self, index: pg_sys::Oid, columns: &[pg_sys::AttrNumber]) -> bool {
        // SAFETY: the relation is open and locked.
        unsafe { shape::can_search(self.relation, index, columns) }
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

    /// Locks the row at a place, if the visible version there `is_it`.
    pub fn lock(
        &self,
        place: pg_sys::ItemPointerData,
        strength: Strength,
        wait: bool,
        is_it: impl FnOnce(&Stored<'_>) -> Result<bool>,
    ) -> Result<Locked> {
        let locked = self.pinned(place, |pinned| {
            if !is_it(&pinned.row())? {
                return Ok(Locked::Moved);
            }
            // SAFETY: the row is of this table, and its page is pinned.
            let (outcome, _) = unsafe { self.lock_tuple(place, strength, wait) };
            Ok(match outcome {
                pg_sys::TM_Result::TM_Ok => Locked::Yes,
                pg_sys::TM_Result::TM_WouldBlock => Locked::Busy,
                _ => Locked::Moved,
            })
        })?;
        locked.unwrap_or(Ok(Locked::Moved))
    }

    /// Keeps the row with this `id` from being deleted, found through an index; waits for who has
    /// it if it `blocks`.
    pub fn keep(&self, index: Option<pg_sys::Oid>, id: Uuid, blocks: bool) -> Result<Attempt> {
        let mut attempt = Attempt::Gone;
        self.scan(index, &[("id", id)], &Latest::take()?, |found| {
            // SAFETY: the scan keeps the page of its row pinned, so that nothing else comes to
            // that place before it is locked.
            attempt = unsafe { self.try_keep((*found).t_self, blocks) };
            Ok(false)
        })?;
        Ok(attempt)
    }

    /// # Safety
    /// `place` must be of a row of this table, whose page is pinned.
    unsafe fn try_keep(&self, place: pg_sys::ItemPointerData, blocks: bool) -> Attempt {
        // SAFETY: the caller vouches for the place.
        let (outcome, is_deleted) = unsafe { self.lock_tuple(place, Strength::Deletion, blocks) };
        match outcome {
            pg_sys::TM_Result::TM_Ok => Attempt::Kept,
            pg_sys::TM_Result::TM_WouldBlock => Attempt::Busy { is_deleted },
            // By this transaction itself, later than this command began.
            pg_sys::TM_Result::TM_SelfModified | pg_sys::TM_Result::TM_Invisible => Attempt::Gone,
            _ => Attempt::Moved,
        }
    }

    /// Locks the row at a place. Also says of one that somebody else has, whether it is being deleted.
    ///
    /// # Safety
    /// `place` must be of a row of this table, whose page is pinned.
    unsafe fn lock_tuple(
        &self,
        place: pg_sys::ItemPointerData,
        strength: Strength,
        wait: bool,
    ) -> (pg_sys::TM_Result::Type, bool) {
        let mut tuple = pg_sys::HeapTupleData {
            t_self: place,
            ..Default::default()
        };
        let mut buffer = pg_sys::InvalidBuffer as pg_sys::Buffer;
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: the caller vouches for the place; the buffer is given back.
        unsafe {
            let outcome = pg_sys::heap_lock_tuple(
                self.relation,
                &mut tuple,
                pg_sys::GetCurrentCommandId(true),
                strength.mode(),
                waiting(wait),
                strength.follows_updates(),
                &mut buffer,
                &mut failure,
            );
            let is_deleted =
                outcome == pg_sys::TM_Result::TM_WouldBlock && is_being_deleted(&tuple, buffer);
            pg_sys::ReleaseBuffer(buffer);
            (outcome, is_deleted)
        }
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

    /// Calls `each` with every row from a page on, or with those whose column has an id, until it
    /// returns false.
    pub fn each(
        &self,
        from: pg_sys::BlockNumber,
        only: Option<(Column<Uuid>, Uuid)>,
        mut each: impl FnMut(&Stored<'_>) -> Result<bool>,
    ) -> Result<Read> {
        let snapshot = Latest::take()?;
        let pages = self.pages();
        let mut read = Read {
            // SAFETY: a snapshot that is registered.
            complete_before: unsafe { (*snapshot.0).xmin },
            stopped_in: None,
        };
        if from >= pages {
            return Ok(read);
        }
        // SAFETY: the relation is open and has the page; rows are valid until the next one is
        // asked for.
        unsafe {
            let scan = pg_sys::heap_beginscan(
                self.relation,
                snapshot.0,
                0,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                pg_sys::ScanOptions::SO_TYPE_SEQSCAN
                    | pg_sys::ScanOptions::SO_ALLOW_PAGEMODE
                    | pg_sys::ScanOptions::SO_ALLOW_STRAT,
            );
            if from > 0 {
                pg_sys::heap_setscanlimits(scan, from, pages - from);
            }
            let mut outcome = Ok(());
            loop {
                pgrx::check_for_interrupts!();
                let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
                if tuple.is_null() {
                    break;
                }
                let is_other = only.is_some_and(|(column, id)| {
                    column.number() == 1 && !may_begin_with(tuple, &id)
                });
                if is_other {
                    continue;
                }
                let row = Stored::of_tuple(self.desc(), tuple);
                if only.is_some_and(|(column, id)| row.at(column) != Some(id)) {
                    continue;
                }
                match each(&row) {
                    Ok(true) => {}
                    Ok(false) => {
                        read.stopped_in = Some(block_of(&row.place()));
                        break;
                    }
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                }
            }
            pg_sys::heap_endscan(scan);
            outcome.map(|()| read)
        }
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

/// A snapshot of this moment, which also sees what this transaction has done so far.
struct Latest(pg_sys::Snapshot);

impl Latest {
    /// Errors: 25000 in a parallel query.
    fn take() -> Result<Self> {
        transaction::check_not_parallel()?;
        // SAFETY: registered until dropped; what this command has written becomes visible, as
        // for a query of the trigger's own.
        unsafe {
            pg_sys::CommandCounterIncrement();
            Ok(Self(pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot())))
        }
    }

    /// As [`take`](Self::take), but without what this transaction has done.
    fn of_others() -> Result<Self> {
        let snapshot = Self::take()?;
        // SAFETY: registered, so a copy of our own: no command of this transaction is before it.
        unsafe { (*snapshot.0).curcid = pg_sys::FirstCommandId };
        Ok(snapshot)
    }
}

impl Drop for Latest {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: registered by `take`; PostgreSQL forgets it itself when an error unwinds.
            unsafe { pg_sys::UnregisterSnapshot(self.0) };
        }
    }
}

/// Whether the first column of a row, which is a UUID, may be this one: without taking the row apart.
/// A row in which it is null says no; one that was stored before the table had the column, yes.
///
/// # Safety
/// `tuple` must be a valid row of a table whose first column is a UUID.
unsafe fn may_begin_with(tuple: pg_sys::HeapTuple, id: &Uuid) -> bool {
    // SAFETY: the values of a row begin `t_hoff` bytes behind its header, and the first bit of the
    // map of nulls, if there is one, is of the first column.
    let first = unsafe {
        let header = (*tuple).t_data;
        let has_nulls = (*header).t_infomask & pg_sys::HEAP_HASNULL as u16 != 0;
        if u32::from((*header).t_infomask2) & pg_sys::HEAP_NATTS_MASK == 0 {
            return true;
        }
        if has_nulls && *(*header).t_bits.as_ptr() & 1 == 0 {
            return false;
        }
        let values = header.cast::<u8>().add(usize::from((*header).t_hoff));
        std::slice::from_raw_parts(values, id.as_bytes().len())
    };
    first == id.as_bytes()
}

/// The oldest transaction that is still running, or one before it: what all before it have done
/// can be seen, or never will.
pub fn oldest_running() -> Result<pg_sys::TransactionId> {
    let snapshot = Latest::take()?;
    // SAFETY: a snapshot that is registered.
    Ok(unsafe { (*snapshot.0).xmin })
}

impl Strength {
    fn mode(self) -> pg_sys::LockTupleMode::Type {
        match self {
            Self::Change => pg_sys::LockTupleMode::LockTupleNoKeyExclusive,
            Self::Deletion => pg_sys::LockTupleMode::LockTupleKeyShare,
        }
    }

    /// Whether versions that others are just making are locked too.
    fn follows_updates(self) -> bool {
        self == Self::Deletion
    }
}

fn waiting(wait: bool) -> pg_sys::LockWaitPolicy::Type {
    if wait {
        pg_sys::LockWaitPolicy::LockWaitBlock
    } else {
        pg_sys::LockWaitPolicy::LockWaitSkip
    }
}

/// Whether the row is one that somebody has deleted, rather than locked or made another version of.
///
/// # Safety
/// `tuple` must be in `buffer`, which is pinned and not locked.
unsafe fn is_being_deleted(tuple: &pg_sys::HeapTupleData, buffer: pg_sys::Buffer) -> bool {
    // SAFETY: the caller vouches for both; the page is locked while the row's header is read.
    unsafe {
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        let header = &*tuple.t_data;
        let bits = u32::from(header.t_infomask);
        let only_locked = bits & pg_sys::HEAP_XMAX_LOCK_ONLY != 0
            || bits & (pg_sys::HEAP_XMAX_IS_MULTI | pg_sys::HEAP_LOCK_MASK)
                == pg_sys::HEAP_XMAX_EXCL_LOCK;
        let place =
            |at: &pg_sys::ItemPointerData| (at.ip_blkid.bi_hi, at.ip_blkid.bi_lo, at.ip_posid);
        let stays = place(&header.t_ctid) == place(&tuple.t_self);
        let is_deleted = bits & pg_sys::HEAP_XMAX_INVALID == 0
            && !only_locked
            && u32::from(header.t_infomask2) & pg_sys::HEAP_KEYS_UPDATED != 0
            && stays;
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
        is_deleted
    }
}

/// The page of a place.
pub fn block_of(place: &pg_sys::ItemPointerData) -> pg_sys::BlockNumber {
    // SAFETY: a plain read; places come from scans.
    unsafe { pgrx::itemptr::item_pointer_get_block_number(place) }
}
