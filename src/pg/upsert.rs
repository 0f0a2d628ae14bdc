//! Rows that are saved again: `insert … on conflict do update`, as an upsert of PostgREST's sends it.
//!
//! PostgreSQL runs the BEFORE INSERT triggers of such a row before it looks whether there is one with its key, and what they
//! leave in it is what `excluded` holds. A guard that makes of it what a *new* row must be changes what the update is
//! told. Say Ada's viewer row is sent again with `is_still_watching` false: whoever inserts a row comes, so the guard
//! would set it to true, and Ada would stay. So it is looked first whether the row is there. If it is, the guard
//! makes nothing of it, and `excluded` holds what was sent; where nothing was, what is there. The BEFORE UPDATE trigger
//! then decides, as for any other update.
//!
//! A statement is known to be an upsert by its triggers: for one, PostgreSQL calls those of an UPDATE statement too.
//! DO NOTHING has none. There the guard is asked as for a new row, and only what it refuses is looked for.
//!
//! Between the look and PostgreSQL's own, somebody may delete the row. What is inserted then was never looked at, so that
//! is refused when the statement ends.

use crate::pg::error::{Error, Result, SqlState};
use crate::pg::row::Row;
use crate::pg::shape::{self, Descriptor, UniqueKey};
use crate::pg::transaction::{self, Trail};
use crate::pg::trigger;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ptr::from_mut;

/// A statement that updates, or may update, rows of a table.
struct Updating {
    /// As [`trigger::statement`] tells it from others.
    statement: usize,
    /// What it sets.
    columns: Vec<pg_sys::AttrNumber>,
}

/// A row that was found to be there, and so was not looked at as a new one.
struct Passed {
    statement: Option<usize>,
    index: pg_sys::Oid,
    /// A copy that lives until the transaction ends, of the version that is stored here.
    row: pg_sys::HeapTuple,
    place: pg_sys::ItemPointerData,
}

thread_local! {
    static UPDATING: RefCell<Vec<Updating>> = const { RefCell::new(Vec::new()) };
    static PASSED: RefCell<Trail<Passed>> = const { RefCell::new(Trail::new()) };
}

/// So many statements can be under way within one another.
const DEEPEST: usize = 64;

/// Called once per backend.
pub fn watch_transactions() {
    transaction::at_end(|| {
        UPDATING.with_borrow_mut(Vec::clear);
        PASSED.with_borrow_mut(Trail::clear);
    });
    transaction::at_partial_rollback(|sub| PASSED.with_borrow_mut(|passed| passed.undo(sub)));
}

/// BEFORE UPDATE of a statement, of a table whose rows may be saved again.
#[pg_trigger]
fn begin_update<'a>(trigger: &'a PgTrigger<'a>) -> trigger::Outcome<'a> {
    begin(trigger);
    Ok(None)
}

/// Notes, in a BEFORE UPDATE trigger for each statement, what the statement sets.
pub fn begin(trigger: &PgTrigger<'_>) {
    let Some(statement) = trigger::statement(trigger) else {
        return;
    };
    let columns = trigger::updated_columns(trigger);
    UPDATING.with_borrow_mut(|updating| {
        updating.retain(|other| other.statement != statement);
        if updating.len() == DEEPEST {
            updating.remove(0);
        }
        updating.push(Updating { statement, columns });
    });
    // Of an earlier statement that was at the same place: what it had not inserted when it ended, it never did.
    PASSED.with_borrow_mut(|all| all.retain(|one| one.statement != Some(statement)));
}

/// A row that is there already, found by one of the keys of one that is to be inserted.
pub struct Existing<'a> {
    pub row: Row<'a>,
    index: pg_sys::Oid,
    copy: pg_sys::HeapTuple,
    place: pg_sys::ItemPointerData,
}

/// For a row that an upsert is about to insert: the one that it updates instead, if that is there, and the numbers of the
/// columns that the update sets. Nulls that it does not set become what is there; so does null where the column takes none
/// and has a default, as in a list of rows with different keys.
///
/// Which of the unique keys the statement means is not known here. Where it means another one, PostgreSQL refuses the row
/// for this key, since the key is left as it was sent.
///
/// # Safety
/// `relation` must be open and locked, and `new` be a row of it that lives for `'a`.
pub(super) unsafe fn saved_again<'a>(
    trigger: &PgTrigger<'_>,
    relation: pg_sys::Relation,
    new: &mut Row<'a>,
) -> Option<(Existing<'a>, Vec<pg_sys::AttrNumber>)> {
    let statement = trigger::statement(trigger)?;
    let columns = UPDATING.with_borrow(|updating| {
        let this = updating.iter().find(|it| it.statement == statement);
        this.map(|it| it.columns.clone())
    })?;
    // SAFETY: the caller vouches for the relation and the row.
    let existing = unsafe { existing(relation, new, |_| true) }?;
    new.complete(&existing.row, &columns);
    Some((existing, columns))
}

/// For a row that is refused as a new one: the one that is there with its primary key.
///
/// # Safety
/// As of [`saved_again`].
pub(super) unsafe fn with_primary_key<'a>(
    relation: pg_sys::Relation,
    new: &Row<'a>,
) -> Option<Existing<'a>> {
    // SAFETY: the caller vouches for the relation and the row.
    unsafe { existing(relation, new, |key| key.is_primary) }
}

/// The row that is there with one of these keys of a new one.
///
/// # Safety
/// As of [`saved_again`].
unsafe fn existing<'a>(
    relation: pg_sys::Relation,
    new: &Row<'a>,
    is_asked: fn(&UniqueKey) -> bool,
) -> Option<Existing<'a>> {
    // SAFETY: the caller vouches for the relation; what is found is a copy in the memory of this call of the trigger.
    unsafe {
        let keys = shape::unique_keys(relation);
        keys.iter().filter(|key| is_asked(key)).find_map(|key| {
            let (copy, place) = find(relation, key, new)?;
            Some(Existing {
                row: Row::of_tuple(Descriptor::of((*relation).rd_att), copy),
                index: key.index,
                copy,
                place,
            })
        })
    }
}

/// The row of a table that has the same key as another one, and where it is stored. Who is just writing it is waited for, as
/// PostgreSQL does where it looks for conflicts.
///
/// # Safety
/// `relation` must be open and locked, `key` one of its unique keys, and `values` a row of it.
unsafe fn find(
    relation: pg_sys::Relation,
    key: &UniqueKey,
    values: &Row<'_>,
) -> Option<(pg_sys::HeapTuple, pg_sys::ItemPointerData)> {
    loop {
        pgrx::check_for_interrupts!();
        let mut wanted = Vec::with_capacity(key.columns.len());
        for column in &key.columns {
            // Null is equal to nothing.
            let value = values.datum(column.number)?;
            let mut entry = MaybeUninit::<pg_sys::ScanKeyData>::zeroed();
            // SAFETY: fills in the entry, with the function that the index itself compares values of this column by.
            unsafe {
                pg_sys::ScanKeyEntryInitialize(
                    entry.as_mut_ptr(),
                    0,
                    column.number,
                    pg_sys::BTEqualStrategyNumber as u16,
                    pg_sys::InvalidOid,
                    column.collation,
                    column.equals,
                    value,
                );
                wanted.push(entry.assume_init());
            }
        }
        let mut dirty = pg_sys::SnapshotData {
            snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY,
            ..Default::default()
        };
        // SAFETY: table, entries and snapshot outlive the scan. The snapshot says, once a row is found, who is writing it.
        unsafe {
            let scan = pg_sys::systable_beginscan(
                relation,
                key.index,
                true,
                from_mut(&mut dirty),
                wanted.len() as i32,
                wanted.as_mut_ptr(),
            );
            let found = pg_sys::systable_getnext(scan);
            let copy = (!found.is_null()).then(|| (pg_sys::heap_copytuple(found), (*found).t_self));
            pg_sys::systable_endscan(scan);
            let (copy, mut place) = copy?;
            let writer = match dirty.xmin {
                pg_sys::InvalidTransactionId => dirty.xmax,
                inserting => inserting,
            };
            if writer == pg_sys::InvalidTransactionId {
                return Some((copy, place));
            }
            match dirty.speculativeToken {
                0 => pg_sys::XactLockTableWait(
                    writer,
                    relation,
                    &mut place,
                    pg_sys::XLTW_Oper::XLTW_InsertIndexUnique,
                ),
                token => pg_sys::SpeculativeInsertionWait(writer, token),
            }
        }
    }
}

/// Notes that a row is not looked at as a new one, since this one is there.
pub(super) fn pass(trigger: &PgTrigger<'_>, existing: &Existing<'_>) {
    // SAFETY: copies a row into memory that lives until the transaction ends.
    let row = unsafe {
        let context = pg_sys::MemoryContextSwitchTo(pg_sys::TopTransactionContext);
        let row = pg_sys::heap_copytuple(existing.copy);
        pg_sys::MemoryContextSwitchTo(context);
        row
    };
    let passed = Passed {
        statement: trigger::statement(trigger),
        index: existing.index,
        row,
        place: existing.place,
    };
    PASSED.with_borrow_mut(|all| all.push(passed));
}

/// In a BEFORE UPDATE trigger for each row: the row that is there is being updated.
pub(super) fn updates(row: pg_sys::HeapTuple) {
    PASSED.with_borrow_mut(|all| {
        if all.len() > 0 {
            // SAFETY: the trigger's row, which is stored.
            let (table, place) = unsafe { ((*row).t_tableOid, (*row).t_self) };
            all.retain(|passed| {
                // SAFETY: a copy that lives until the transaction ends.
                let of = unsafe { (*passed.row).t_tableOid };
                of != table || !is_same(&passed.place, &place)
            });
        }
    });
}

pub(super) fn is_same(one: &pg_sys::ItemPointerData, other: &pg_sys::ItemPointerData) -> bool {
    let parts = |place: &pg_sys::ItemPointerData| {
        (place.ip_blkid.bi_hi, place.ip_blkid.bi_lo, place.ip_posid)
    };
    parts(one) == parts(other)
}

/// In an AFTER INSERT trigger: nothing was inserted that was not looked at.
///
/// Errors: 40001 where the row that was there is gone, and what was sent was inserted in its place.
///
/// # Safety
/// `relation` must be the trigger's.
pub(super) unsafe fn check_inserted(
    trigger: &PgTrigger<'_>,
    relation: pg_sys::Relation,
) -> Result<()> {
    if PASSED.with_borrow(|all| all.len() == 0) {
        return Ok(());
    }
    let statement = trigger::statement(trigger);
    // SAFETY: the relation is open.
    let table = unsafe { (*relation).rd_id };
    let mut passed = Vec::new();
    PASSED.with_borrow_mut(|all| {
        all.retain(|one| {
            // SAFETY: a copy that lives until the transaction ends.
            let is_of_this =
                one.statement == statement && unsafe { (*one.row).t_tableOid } == table;
            if is_of_this {
                passed.push((one.index, one.row, one.place));
            }
            !is_of_this
        });
    });
    for (index, row, place) in passed {
        // SAFETY: the caller vouches for the relation, of which the row is a copy.
        let found = unsafe {
            let keys = shape::unique_keys(relation);
            let values = Row::of_tuple(Descriptor::of((*relation).rd_att), row);
            let key = keys.iter().find(|key| key.index == index);
            key.and_then(|key| find(relation, key, &values))
        };
        // SAFETY: a row that was found has its header.
        let is_inserted = found.is_some_and(|(now, at)| unsafe {
            let header = &*(*now).t_data;
            transaction::is_own(header.t_choice.t_heap.t_xmin)
                && u32::from(header.t_infomask) & pg_sys::HEAP_UPDATED == 0
                && !is_same(&at, &place)
        });
        if is_inserted {
            return Err(Error::new(
                SqlState::SERIALIZATION_FAILURE,
                "the row that was to be saved again has been deleted meanwhile",
            )
            .detail("Nothing was changed.")
            .hint("Send the request again: it makes a new row."));
        }
    }
    Ok(())
}
