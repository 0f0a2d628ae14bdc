//! Locking a row without the executor.

use super::*;
use crate::pg::error::Result;
use crate::pg::row::Stored;
use pgrx::Uuid;
use pgrx::pg_sys;

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

impl Table {
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

    /// What the row with this `id`, found through an index, refers to by its foreign keys: tables, each with an id.
    pub fn referred(
        &self,
        index: Option<pg_sys::Oid>,
        id: Uuid,
    ) -> Result<Vec<(pg_sys::Oid, Uuid)>> {
        let mut referred = Vec::new();
        self.scan(index, &[("id", id)], &Latest::take()?, |found| {
            // SAFETY: the scan hands out rows of this table, which is open and locked.
            referred = unsafe {
                Stored::of_tuple(self.desc(), found).referred(&shape::foreign_keys(self.relation))
            };
            Ok(false)
        })?;
        Ok(referred)
    }

    /// Locks the row at a place. Also says of one that somebody else has, whether it is being deleted.
    ///
    /// # Safety
    /// `place` must be of a row of this table, whose page is pinned.
    pub(super) unsafe fn lock_tuple(
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
}
