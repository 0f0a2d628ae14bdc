//! Our own tables, read and written without the executor, where every microsecond counts.
//!
//! Reads see what is committed at this moment and what this transaction has done, whatever its
//! isolation level, as foreign-key checks do.

use crate::catalog::relation_id;
use crate::error::{Error, Result, SqlState};
use crate::row::Row;
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

    fn open(schema: &'static CStr, name: &'static CStr, lock: u32) -> Result<Self> {
        let lock = lock as pg_sys::LOCKMODE;
        let id = relation_id(schema, name).ok_or_else(|| {
            Error::new(
                SqlState::NOT_IN_PREREQUISITE_STATE,
                format!(
                    "relation {}.{} does not exist",
                    schema.to_string_lossy(),
                    name.to_string_lossy()
                ),
            )
            .hint("Run live_stream.install() as the owner of the extension.")
        })?;
        Ok(Self::open_id(id, lock))
    }

    fn open_id(id: pg_sys::Oid, lock: pg_sys::LOCKMODE) -> Self {
        // SAFETY: opens by OID; a table that is gone meanwhile is an error.
        let relation = unsafe { pg_sys::table_open(id, lock) };
        Self { relation, lock }
    }

    fn desc(&self) -> pg_sys::TupleDesc {
        // SAFETY: the relation is open.
        unsafe { (*self.relation).rd_att }
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
        ids: &[(&str, Uuid)],
        mut each: impl FnMut(&Row<'_>) -> Result<bool>,
    ) -> Result<()> {
        self.scan(relation_id(schema, index), ids, &Latest::take(), |tuple| {
            // SAFETY: the scan hands out rows of this table, one at a time.
            let row = unsafe { Row::of_tuple(self.desc(), tuple) };
            each(&row)
        })
    }

    /// As [`find`](Self::find), counting the rows; `enough` of them end the scan.
    pub fn count(
        &self,
        schema: &'static CStr,
        index: &'static CStr,
        ids: &[(&str, Uuid)],
        enough: i64,
    ) -> Result<i64> {
        self.count_by(relation_id(schema, index), ids, enough)
    }

    /// As [`count`](Self::count), by the OID of the index.
    pub fn count_by(
        &self,
        index: Option<pg_sys::Oid>,
        ids: &[(&str, Uuid)],
        enough: i64,
    ) -> Result<i64> {
        let mut found = 0;
        self.scan(index, ids, &Latest::take(), |_| {
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
        ids: &[(&str, Uuid)],
    ) -> Result<bool> {
        let mut found = false;
        let snapshot = Latest::of_others();
        self.scan(relation_id(schema, index), ids, &snapshot, |_| {
            found = true;
            Ok(false)
        })?;
        Ok(found)
    }

    fn scan(
        &self,
        index: Option<pg_sys::Oid>,
        ids: &[(&str, Uuid)],
        snapshot: &Latest,
        mut each: impl FnMut(pg_sys::HeapTuple) -> Result<bool>,
    ) -> Result<()> {
        let mut keys: Vec<pg_sys::ScanKeyData> = Vec::with_capacity(ids.len());
        for (column, id) in ids {
            let number = crate::row::column_number(self.desc(), column)?;
            let mut key = MaybeUninit::<pg_sys::ScanKeyData>::zeroed();
            // SAFETY: fills in the key; the id is copied into the current memory context.
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
        let index = index.filter(|&index| self.can_use(index));
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

    /// Whether an index is whole: not while it is built concurrently, nor after that has failed.
    fn can_use(&self, index: pg_sys::Oid) -> bool {
        // SAFETY: an index of this table, which is locked: it does not go. It is in the cache of
        // relations, and asked for again as the scan begins.
        unsafe {
            let index = pg_sys::RelationIdGetRelation(index);
            if index.is_null() {
                return false;
            }
            let usable = (*(*index).rd_index).indisvalid && (*(*index).rd_index).indisready;
            pg_sys::RelationClose(index);
            usable
        }
    }

    /// The row at a place, if it is visible now: for who has found it there a moment ago, and
    /// need not read it again while it is the same `known` version.
    pub fn at<T>(
        &self,
        place: pg_sys::ItemPointerData,
        known: Option<pg_sys::TransactionId>,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Found<T>> {
        if !self.has_block(block_of(&place)) {
            return Ok(Found::Nothing);
        }
        let snapshot = Latest::take();
        // SAFETY: the block exists; the row is read while its page is pinned.
        unsafe {
            let mut tuple = pg_sys::HeapTupleData {
                t_self: place,
                ..Default::default()
            };
            let mut buffer = pg_sys::InvalidBuffer as pg_sys::Buffer;
            let visible =
                pg_sys::heap_fetch(self.relation, snapshot.0, &mut tuple, &mut buffer, false);
            if !visible {
                return Ok(Found::Nothing);
            }
            let outcome = if known == Some((*tuple.t_data).t_choice.t_heap.t_xmin) {
                Ok(Found::Same)
            } else {
                read(&Row::of_tuple(self.desc(), &mut tuple)).map(Found::Row)
            };
            pg_sys::ReleaseBuffer(buffer);
            outcome
        }
    }

    /// Locks the row at a place against changes, as SELECT FOR NO KEY UPDATE does, if the visible
    /// version there `is_it`.
    pub fn lock(
        &self,
        place: pg_sys::ItemPointerData,
        wait: bool,
        is_it: impl FnOnce(&Row<'_>) -> Result<bool>,
    ) -> Result<Locked> {
        if !self.has_block(block_of(&place)) {
            return Ok(Locked::Moved);
        }
        let snapshot = Latest::take();
        // SAFETY: the block exists; the page stays pinned, so that nothing there is removed or
        // put to another use between the look at the row and its lock.
        unsafe {
            let mut tuple = pg_sys::HeapTupleData {
                t_self: place,
                ..Default::default()
            };
            let mut pinned = pg_sys::InvalidBuffer as pg_sys::Buffer;
            if !pg_sys::heap_fetch(self.relation, snapshot.0, &mut tuple, &mut pinned, false) {
                return Ok(Locked::Moved);
            }
            let outcome = is_it(&Row::of_tuple(self.desc(), &mut tuple)).map(|is_it| {
                if !is_it {
                    return Locked::Moved;
                }
                let mut buffer = pg_sys::InvalidBuffer as pg_sys::Buffer;
                let mut failure = pg_sys::TM_FailureData::default();
                let outcome = pg_sys::heap_lock_tuple(
                    self.relation,
                    &mut tuple,
                    pg_sys::GetCurrentCommandId(true),
                    pg_sys::LockTupleMode::LockTupleNoKeyExclusive,
                    if wait {
                        pg_sys::LockWaitPolicy::LockWaitBlock
                    } else {
                        pg_sys::LockWaitPolicy::LockWaitSkip
                    },
                    false,
                    &mut buffer,
                    &mut failure,
                );
                pg_sys::ReleaseBuffer(buffer);
                match outcome {
                    pg_sys::TM_Result::TM_Ok => Locked::Yes,
                    pg_sys::TM_Result::TM_WouldBlock => Locked::Busy,
                    _ => Locked::Moved,
                }
            });
            pg_sys::ReleaseBuffer(pinned);
            outcome
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
        // SAFETY: options of a table are of this kind; changed in this process for the call alone.
        unsafe {
            let options: *mut pg_sys::StdRdOptions = (*self.relation).rd_options.cast();
            if options.is_null() || !self.has_block(block) {
                return;
            }
            let buffer = pg_sys::ReadBuffer(self.relation, block);
            let fillfactor = std::mem::replace(&mut (*options).fillfactor, 1);
            pg_sys::heap_page_prune_opt(self.relation, buffer);
            (*options).fillfactor = fillfactor;
            pg_sys::ReleaseBuffer(buffer);
        }
    }

    /// Calls `each` with every row and its place, or with those that begin with an id; returns
    /// the oldest transaction that may still have rows to come.
    pub fn each(
        &self,
        first: Option<Uuid>,
        mut each: impl FnMut(&Row<'_>, pg_sys::ItemPointerData),
    ) -> pg_sys::TransactionId {
        let snapshot = Latest::take();
        // SAFETY: the relation is open; rows are valid until the next one is asked for.
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
            loop {
                pgrx::check_for_interrupts!();
                let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
                if tuple.is_null() {
                    break;
                }
                if first.is_none_or(|id| begins_with(tuple, &id)) {
                    each(&Row::of_tuple(self.desc(), tuple), (*tuple).t_self);
                }
            }
            pg_sys::heap_endscan(scan);
            (*snapshot.0).xmin
        }
    }

    /// Adds a row of values in the order of the columns. The table has no index and no trigger.
    pub fn append(&self, values: &mut [Option<pg_sys::Datum>]) -> Result<()> {
        // SAFETY: the table is open as long as `self` lives, and its descriptor with it.
        let natts = unsafe { (*self.desc()).natts } as usize;
        if natts != values.len() {
            return Err(Error::new(
                SqlState::NOT_IN_PREREQUISITE_STATE,
                "a table of live_stream has other columns than it was made with",
            )
            .hint("Put them back as CREATE EXTENSION live_stream made them."));
        }
        let mut nulls: Vec<bool> = values.iter().map(Option::is_none).collect();
        let mut datums: Vec<pg_sys::Datum> = values
            .iter()
            .map(|value| value.unwrap_or(pg_sys::Datum::from(0)))
            .collect();
        // SAFETY: both arrays hold a value for each column, of its type.
        unsafe {
            let tuple =
                pg_sys::heap_form_tuple(self.desc(), datums.as_mut_ptr(), nulls.as_mut_ptr());
            pg_sys::simple_heap_insert(self.relation, tuple);
            pg_sys::heap_freetuple(tuple);
        }
        Ok(())
    }

    /// Deletes the row at a place; false if somebody else has.
    pub fn delete(&self, mut place: pg_sys::ItemPointerData) -> bool {
        let mut failure = pg_sys::TM_FailureData::default();
        // SAFETY: the relation is open; the place is one that a scan gave.
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

/// A snapshot of this moment, which also sees what this transaction has done so far.
struct Latest(pg_sys::Snapshot);

impl Latest {
    fn take() -> Self {
        // SAFETY: registered until dropped; what this command has written becomes visible, as
        // for a query of the trigger's own.
        unsafe {
            pg_sys::CommandCounterIncrement();
            Self(pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot()))
        }
    }

    /// As [`take`](Self::take), but without what this transaction has done.
    fn of_others() -> Self {
        let snapshot = Self::take();
        // SAFETY: registered, so a copy of our own: no command of this transaction is before it.
        unsafe { (*snapshot.0).curcid = pg_sys::FirstCommandId };
        snapshot
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

/// Whether the first column of a row, which is a uuid and never null, is this one: without taking
/// the row apart.
///
/// # Safety
/// `tuple` must be a row of a table with such a column, and be valid.
unsafe fn begins_with(tuple: pg_sys::HeapTuple, id: &Uuid) -> bool {
    // SAFETY: the values of a row begin `t_hoff` bytes behind its header.
    let first = unsafe {
        let header = (*tuple).t_data;
        let values = header.cast::<u8>().add(usize::from((*header).t_hoff));
        std::slice::from_raw_parts(values, id.as_bytes().len())
    };
    first == id.as_bytes()
}

/// The page of a place.
pub fn block_of(place: &pg_sys::ItemPointerData) -> pg_sys::BlockNumber {
    // SAFETY: a plain read; places come from scans.
    unsafe { pgrx::itemptr::item_pointer_get_block_number(place) }
}
