//! Statement triggers with transition tables: all rows that one statement has touched.

use crate::pg::error::{OrRaise, Result};
use crate::pg::row::{Column, EnumColumn, Row};
use crate::pg::shape::Descriptor;
use crate::pg::trigger::{Outcome, wrong_trigger};
use crate::pg::upsert;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::trigger_support::{PgTriggerLevel, PgTriggerOperation, PgTriggerWhen};
use std::ptr::null_mut;

/// The rows that one statement touched, for an AFTER STATEMENT trigger with transition tables.
pub struct Changes<'a> {
    desc: Descriptor<'a>,
    old: *mut pg_sys::Tuplestorestate,
    new: *mut pg_sys::Tuplestorestate,
}

impl<'a> Changes<'a> {
    fn of(trigger: &'a PgTrigger<'a>) -> Result<Self> {
        let fired = trigger.trigger_data();
        if !matches!(
            (trigger.level(), trigger.when()),
            (PgTriggerLevel::Statement, Ok(PgTriggerWhen::After))
        ) {
            return Err(wrong_trigger("an AFTER trigger for each statement"));
        }
        let wanted = match trigger.op() {
            Ok(PgTriggerOperation::Insert) => (false, true),
            Ok(PgTriggerOperation::Update) => (true, true),
            Ok(PgTriggerOperation::Delete) => (true, false),
            _ => return Err(wrong_trigger("an AFTER trigger for each statement")),
        };
        if wanted == (false, true) {
            // SAFETY: the trigger's relation.
            unsafe { upsert::check_inserted(trigger, fired.tg_relation) }?;
        }
        let (old, new) = (fired.tg_oldtable, fired.tg_newtable);
        if wanted.0 && old.is_null() || wanted.1 && new.is_null() {
            // Without them nothing would be counted.
            return Err(wrong_trigger("a trigger with transition tables"));
        }
        Ok(Self {
            // SAFETY: the relation is open while its trigger runs.
            desc: unsafe { Descriptor::of((*fired.tg_relation).rd_att) },
            old,
            new,
        })
    }

    /// A column of the type `T`.
    ///
    /// Errors: 55000.
    pub fn column<T: IntoDatum>(&self, name: &str) -> Result<Column<T>> {
        Column::find(self.desc, name)
    }

    /// A column of an enum's type.
    ///
    /// Errors: 55000.
    pub fn enum_column(&self, name: &str) -> Result<EnumColumn> {
        EnumColumn::find(self.desc, name)
    }

    /// Calls `each` with the old and the new version of every row touched, in order: both of
    /// an updated row, one of an inserted or deleted one.
    pub fn for_each(
        &self,
        mut each: impl FnMut(Option<&Row<'_>>, Option<&Row<'_>>) -> Result<()>,
    ) -> Result<()> {
        let mut old = Reader::open(self.old, self.desc);
        let mut new = Reader::open(self.new, self.desc);
        loop {
            pgrx::check_for_interrupts!();
            let (before, after) = (old.next(), new.next());
            if before.is_none() && after.is_none() {
                return Ok(());
            }
            each(before.as_ref(), after.as_ref())?;
        }
    }
}

/// An AFTER STATEMENT trigger that looks at all the rows its statement touched.
pub fn after<'a>(
    trigger: &'a PgTrigger<'a>,
    settle: impl FnOnce(Changes<'a>) -> Result<()>,
) -> Outcome<'a> {
    Changes::of(trigger).and_then(settle).or_raise();
    Ok(None)
}

/// A TRUNCATE trigger, which knows no rows: `settle` brings right what depended on them.
pub fn truncate<'a>(
    trigger: &'a PgTrigger<'a>,
    settle: impl FnOnce() -> Result<()>,
) -> Outcome<'a> {
    match trigger.op() {
        Ok(PgTriggerOperation::Truncate) => settle(),
        _ => Err(wrong_trigger("a TRUNCATE trigger")),
    }
    .or_raise();
    Ok(None)
}

/// Reads a transition table from its beginning with a read pointer of its own.
struct Reader {
    store: *mut pg_sys::Tuplestorestate,
    pointer: i32,
    slot: *mut pg_sys::TupleTableSlot,
}

impl Reader {
    fn open(store: *mut pg_sys::Tuplestorestate, desc: Descriptor<'_>) -> Self {
        if store.is_null() {
            return Self {
                store,
                pointer: 0,
                slot: null_mut(),
            };
        }
        // SAFETY: the transition table lives while the trigger runs; it can be rewound, as
        // PostgreSQL's own scans of transition tables do.
        unsafe {
            let pointer =
                pg_sys::tuplestore_alloc_read_pointer(store, pg_sys::EXEC_FLAG_REWIND as i32);
            pg_sys::tuplestore_select_read_pointer(store, pointer);
            pg_sys::tuplestore_rescan(store);
            let ops = &raw const pg_sys::TTSOpsMinimalTuple;
            let slot = pg_sys::MakeSingleTupleTableSlot(desc.as_ptr(), ops);
            Self {
                store,
                pointer,
                slot,
            }
        }
    }

    /// The next row; valid until the one after it is asked for.
    fn next<'r>(&mut self) -> Option<Row<'r>> {
        if self.store.is_null() {
            return None;
        }
        // SAFETY: store and slot are valid while the reader lives; the slot's arrays hold
        // `natts` entries after `slot_getallattrs`.
        unsafe {
            pg_sys::tuplestore_select_read_pointer(self.store, self.pointer);
            if !pg_sys::tuplestore_gettupleslot(self.store, true, false, self.slot) {
                return None;
            }
            pg_sys::slot_getallattrs(self.slot);
            Some(Row::of_slot(&*self.slot))
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if !self.slot.is_null() && !std::thread::panicking() {
            // SAFETY: made by `open`, dropped once. While an error unwinds, PostgreSQL frees
            // the slot with its memory context.
            unsafe { pg_sys::ExecDropSingleTupleTableSlot(self.slot) };
        }
    }
}
