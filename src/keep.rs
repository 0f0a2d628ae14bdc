//! Keeping a row that this transaction is about to refer to: nobody deletes it before the
//! transaction ends. The check of a foreign key does the same, but only when the new row is there,
//! and tells of a constraint where the row is gone; and it waits, whatever the transaction holds.

use crate::error::{Error, Result, SqlState};
use crate::plan;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::mem::MaybeUninit;

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

/// Keeps the row with this id of a table, past privileges and row-level security as the check of a
/// foreign key.
pub fn row(table: pg_sys::Oid, index: pg_sys::Oid, id: Uuid, wait: Wait) -> Result<Kept> {
    let mut blocks = wait == Wait::Always;
    loop {
        pgrx::check_for_interrupts!();
        match attempt(table, index, id, blocks)? {
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

/// The table and index that a foreign key of ours refers to; none where there is none.
pub fn referred(constraint: &str) -> Result<Option<(pg_sys::Oid, pg_sys::Oid)>> {
    let found: Option<Vec<pg_sys::Oid>> = plan::ask(
        "select array[confrelid, conindid] from pg_constraint
          where connamespace = 'public'::regnamespace and conname = $1 and contype = 'f'",
        &[constraint.into()],
    )?;
    Ok(match found.as_deref() {
        Some([table, index]) => Some((*table, *index)),
        _ => None,
    })
}

enum Attempt {
    Kept,
    Gone,
    /// Between the look at it and its lock.
    Moved,
    /// Somebody else has it.
    Busy {
        is_deleted: bool,
    },
}

fn attempt(table: pg_sys::Oid, index: pg_sys::Oid, id: Uuid, blocks: bool) -> Result<Attempt> {
    // SAFETY: opens by OID, an error where it is gone; everything is closed below, and by
    // PostgreSQL where an error unwinds. The scan keeps the page of its row pinned, so that
    // nothing else comes to that place before it is locked.
    unsafe {
        let relation = pg_sys::table_open(table, pg_sys::RowShareLock as pg_sys::LOCKMODE);
        if (*(*relation).rd_rel).relam != pg_sys::HEAP_TABLE_AM_OID {
            // An app's own table of another kind: the check of the foreign key sees to it.
            pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
            return Ok(Attempt::Kept);
        }
        let number = pg_sys::get_attnum(table, c"id".as_ptr());
        if number <= 0 {
            return Err(Error::new(
                SqlState::NOT_IN_PREREQUISITE_STATE,
                "column \"id\" of a table that live_stream refers to is missing",
            )
            .hint("Put the column back as CREATE EXTENSION live_stream found or made it."));
        }
        let mut key = MaybeUninit::<pg_sys::ScanKeyData>::zeroed();
        pg_sys::ScanKeyInit(
            key.as_mut_ptr(),
            number,
            pg_sys::BTEqualStrategyNumber as u16,
            pg_sys::Oid::from(pg_sys::F_UUID_EQ),
            id.into_datum().unwrap_or(pg_sys::Datum::from(0)),
        );
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        let scan = pg_sys::systable_beginscan(
            relation,
            index,
            index != pg_sys::InvalidOid,
            snapshot,
            1,
            key.as_mut_ptr(),
        );
        let found = pg_sys::systable_getnext(scan);
        let outcome = if found.is_null() {
            Attempt::Gone
        } else {
            let mut tuple = pg_sys::HeapTupleData {
                t_self: (*found).t_self,
                ..Default::default()
            };
            let mut buffer = pg_sys::InvalidBuffer as pg_sys::Buffer;
            let mut failure = pg_sys::TM_FailureData::default();
            let outcome = pg_sys::heap_lock_tuple(
                relation,
                &mut tuple,
                pg_sys::GetCurrentCommandId(true),
                pg_sys::LockTupleMode::LockTupleKeyShare,
                if blocks {
                    pg_sys::LockWaitPolicy::LockWaitBlock
                } else {
                    pg_sys::LockWaitPolicy::LockWaitSkip
                },
                // Versions that others are just making are kept too.
                true,
                &mut buffer,
                &mut failure,
            );
            let outcome = match outcome {
                pg_sys::TM_Result::TM_Ok => Attempt::Kept,
                pg_sys::TM_Result::TM_WouldBlock => Attempt::Busy {
                    is_deleted: is_being_deleted(&tuple, buffer),
                },
                // By this transaction itself, later than this command began.
                pg_sys::TM_Result::TM_SelfModified | pg_sys::TM_Result::TM_Invisible => {
                    Attempt::Gone
                }
                _ => Attempt::Moved,
            };
            pg_sys::ReleaseBuffer(buffer);
            outcome
        };
        pg_sys::systable_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        // The lock on the table goes with the transaction, as a query's.
        pg_sys::table_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        Ok(outcome)
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
        let stays = header.t_ctid;
        let place = tuple.t_self;
        let is_deleted = bits & pg_sys::HEAP_XMAX_INVALID == 0
            && !only_locked
            && u32::from(header.t_infomask2) & pg_sys::HEAP_KEYS_UPDATED != 0
            && (stays.ip_blkid.bi_hi, stays.ip_blkid.bi_lo, stays.ip_posid)
                == (place.ip_blkid.bi_hi, place.ip_blkid.bi_lo, place.ip_posid);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_UNLOCK as i32);
        is_deleted
    }
}
