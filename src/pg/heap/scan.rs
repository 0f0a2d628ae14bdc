//! Finding rows through an index, or reading a table through.

use super::*;
use crate::pg::catalog::relation_id;
use crate::pg::error::Result;
use crate::pg::row::{Column, Stored};
use crate::pg::shape::{self};
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;
use std::mem::MaybeUninit;

impl Table {
    /// Calls `each` with the rows whose columns equal the ids, found through `index`, until it
    /// returns false. The columns are the first ones of the index.
    pub fn find(
        &self,
        schema: &'static CStr,
        index: &'static CStr,
        ids: &[(&'static str, Uuid)],
        each: impl FnMut(&Stored<'_>) -> Result<bool>,
    ) -> Result<()> {
        self.find_as_of(&Latest::take()?, schema, index, ids, each)
    }

    /// As [`find`](Self::find), of the rows as they were at a moment.
    pub fn find_as_of(
        &self,
        moment: &Latest,
        schema: &'static CStr,
        index: &'static CStr,
        ids: &[(&'static str, Uuid)],
        mut each: impl FnMut(&Stored<'_>) -> Result<bool>,
    ) -> Result<()> {
        self.scan(relation_id(schema, index), ids, moment, |tuple| {
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

    /// Whether there were such rows at a moment.
    pub fn has_as_of(
        &self,
        moment: &Latest,
        schema: &'static CStr,
        index: &'static CStr,
        ids: &[(&'static str, Uuid)],
    ) -> Result<bool> {
        let mut found = false;
        self.scan(relation_id(schema, index), ids, moment, |_| {
            found = true;
            Ok(false)
        })?;
        Ok(found)
    }

    pub(super) fn scan(
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

    /// An index by which a row is found by its id; none where there is none.
    pub fn by_id(&self) -> Option<pg_sys::Oid> {
        let columns = self.keys(&[("id", Uuid::from_bytes([0; 16]))]).ok()?;
        // SAFETY: the relation is open and locked.
        let mut indexes = unsafe { shape::indexes(self.relation) }.into_iter();
        indexes.find(|&index| self.can_search(index, &columns))
    }

    /// Whether an index finds the rows whose columns equal ids. Else the table is read through.
    fn can_search(&self, index: pg_sys::Oid, columns: &[pg_sys::AttrNumber]) -> bool {
        // SAFETY: the relation is open and locked.
        unsafe { shape::can_search(self.relation, index, columns) }
    }

    /// Calls `each` with every row from a page on, or with those whose column has an id, until it
    /// returns false; returns the page in which it did.
    pub fn each(
        &self,
        moment: &Latest,
        from: pg_sys::BlockNumber,
        only: Option<(Column<Uuid>, Uuid)>,
        mut each: impl FnMut(&Stored<'_>) -> Result<bool>,
    ) -> Result<Option<pg_sys::BlockNumber>> {
        let pages = self.pages();
        let mut stopped_in = None;
        if from >= pages {
            return Ok(stopped_in);
        }
        // SAFETY: the relation is open and has the page; rows are valid until the next one is
        // asked for.
        unsafe {
            let scan = pg_sys::heap_beginscan(
                self.relation,
                moment.0,
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
                        stopped_in = Some(block_of(&row.place()));
                        break;
                    }
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                }
            }
            pg_sys::heap_endscan(scan);
            outcome.map(|()| stopped_in)
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
