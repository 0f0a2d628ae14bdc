//! Rows as triggers see them: read and set by column name, built once.
//!
//! Columns are found by name, never by number: the tables belong to the app, which may add
//! columns of its own and drop them again.

use crate::pg::clock;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::shape::{self, Change, Descriptor};
use pgrx::PgTupleDesc;
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::trigger_support::{PgTriggerLevel, PgTriggerOperation, PgTriggerWhen};
use std::borrow::Cow;
use std::cell::Cell;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::ptr::null_mut;

/// What a row trigger returns: the row to store, or none to skip it.
pub type Outcome<'a> =
    std::result::Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, Infallible>;

/// One row, with its columns taken apart.
pub struct Row<'a> {
    desc: Descriptor<'a>,
    values: Cow<'a, [pg_sys::Datum]>,
    nulls: Cow<'a, [bool]>,
    replaced: Vec<bool>,
}

impl<'a> Row<'a> {
    /// # Safety
    /// `tuple` must be a row of the shape `desc`, and live for `'a`.
    unsafe fn of_tuple(desc: Descriptor<'a>, tuple: pg_sys::HeapTuple) -> Self {
        let natts = desc.len();
        let mut values = vec![pg_sys::Datum::from(0); natts];
        let mut nulls = vec![true; natts];
        // SAFETY: both arrays hold `natts` entries, as the function requires.
        unsafe {
            pg_sys::heap_deform_tuple(
                tuple,
                desc.as_ptr(),
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
        }
        Self {
            desc,
            values: values.into(),
            nulls: nulls.into(),
            replaced: vec![false; natts],
        }
    }

    fn index(&self, name: &str) -> Result<usize> {
        column(self.desc, name)
    }

    fn kind(&self, index: usize) -> pg_sys::Oid {
        self.desc
            .attribute(index)
            .map_or(pg_sys::InvalidOid, |attribute| attribute.atttypid)
    }

    /// The value of a column; none when it is null.
    pub fn get<T: FromDatum + IntoDatum>(&self, name: &str) -> Result<Option<T>> {
        let index = self.index(name)?;
        self.desc.check::<T>(index)?;
        // SAFETY: the datum is of the column's type, which `T` was just checked against.
        Ok(unsafe { T::from_datum(self.values[index], self.nulls[index]) })
    }

    pub fn is_null(&self, name: &str) -> Result<bool> {
        Ok(self.nulls[self.index(name)?])
    }

    /// The label of an enum column; none when it is null.
    pub fn label(&self, name: &str) -> Result<Option<String>> {
        let index = self.index(name)?;
        if self.nulls[index] {
            return Ok(None);
        }
        let kind = self.kind(index);
        let value = pg_sys::Oid::from(self.values[index].value() as u32);
        let label = match shape::is_whole_enum(kind)? {
            true => shape::enum_label(kind, value),
            false => None,
        };
        label.map(Some).ok_or_else(|| self.other_values(name))
    }

    /// For a column that has a value which is none of ours.
    pub fn other_values(&self, name: &str) -> Error {
        self.desc.changed(name, Change::Values)
    }

    /// True when a column has the same value in both rows.
    pub fn same<T>(&self, other: &Row<'_>, name: &str) -> Result<bool>
    where
        T: FromDatum + IntoDatum + PartialEq,
    {
        Ok(self.get::<T>(name)? == other.get::<T>(name)?)
    }

    pub fn set<T: IntoDatum>(&mut self, name: &str, value: Option<T>) -> Result<()> {
        let index = self.index(name)?;
        self.desc.check::<T>(index)?;
        let datum = value.and_then(IntoDatum::into_datum);
        self.put(index, datum);
        Ok(())
    }

    pub fn set_label(&mut self, name: &str, label: &str) -> Result<()> {
        let index = self.index(name)?;
        let oid = shape::new_enum_value(self.kind(index), label)
            .ok_or_else(|| self.other_values(name))?;
        self.put(index, oid.into_datum());
        Ok(())
    }

    /// Sets number columns to 0.
    pub fn set_zero(&mut self, names: &[&str]) -> Result<()> {
        for name in names {
            let index = self.index(name)?;
            let zero = match shape::base_type(self.kind(index)) {
                pg_sys::INT4OID | pg_sys::INT8OID => pg_sys::Datum::from(0),
                pg_sys::NUMERICOID => hundredths(0),
                _ => return Err(self.desc.changed(name, Change::Number)),
            };
            self.put(index, Some(zero));
        }
        Ok(())
    }

    /// Sets a numeric column to a number of hundredths.
    pub fn set_hundredths(&mut self, name: &str, value: i64) -> Result<()> {
        let index = self.index(name)?;
        self.desc.check::<AnyNumeric>(index)?;
        self.put(index, Some(hundredths(value)));
        Ok(())
    }

    /// Puts columns back to what `old` has in them.
    pub fn keep(&mut self, old: &Row<'_>, names: &[&str]) -> Result<()> {
        for name in names {
            let index = self.index(name)?;
            let datum = (!old.nulls[index]).then(|| old.values[index]);
            self.put(index, datum);
        }
        Ok(())
    }

    fn put(&mut self, index: usize, datum: Option<pg_sys::Datum>) {
        self.values.to_mut()[index] = datum.unwrap_or(pg_sys::Datum::from(0));
        self.nulls.to_mut()[index] = datum.is_none();
        self.replaced[index] = true;
    }

    /// `tuple` as the row is now.
    ///
    /// # Safety
    /// `tuple` must be the one that the row was made of.
    unsafe fn into_tuple(mut self, tuple: pg_sys::HeapTuple) -> pg_sys::HeapTuple {
        if !self.replaced.contains(&true) {
            return tuple;
        }
        // SAFETY: the arrays hold `natts` entries of the columns' types; the trigger's memory
        // context outlives the statement's use of the row.
        unsafe {
            pg_sys::heap_modify_tuple(
                tuple,
                self.desc.as_ptr(),
                self.values.to_mut().as_mut_ptr(),
                self.nulls.to_mut().as_mut_ptr(),
                self.replaced.as_mut_ptr(),
            )
        }
    }
}

/// A row that was read from a table.
pub struct Stored<'a> {
    row: Row<'a>,
    tuple: &'a pg_sys::HeapTupleData,
}

impl<'a> std::ops::Deref for Stored<'a> {
    type Target = Row<'a>;

    fn deref(&self) -> &Row<'a> {
        &self.row
    }
}

impl<'a> Stored<'a> {
    /// # Safety
    /// `tuple` must be a row of the shape `desc` that was read from a table, and live for `'a`.
    pub unsafe fn of_tuple(desc: Descriptor<'a>, tuple: *const pg_sys::HeapTupleData) -> Self {
        // SAFETY: the caller vouches for it; it is only read.
        unsafe {
            Self {
                row: Row::of_tuple(desc, tuple.cast_mut()),
                tuple: &*tuple,
            }
        }
    }

    /// Where the row is stored.
    pub fn place(&self) -> pg_sys::ItemPointerData {
        self.tuple.t_self
    }

    /// The whole row as a value of the table's row type, in the current memory context.
    pub fn composite(&self) -> pg_sys::Datum {
        let tuple = std::ptr::from_ref(self.tuple).cast_mut();
        let desc = self.row.desc.as_ptr();
        // SAFETY: copies a row that was read from a table of this shape. One from before a column
        // was added has its default only in the table's description.
        unsafe {
            let header = self.tuple.t_data;
            let columns = usize::from((*header).t_infomask2 & pg_sys::HEAP_NATTS_MASK as u16);
            let tuple = if columns < self.row.desc.len() {
                pg_sys::heap_expand_tuple(tuple, desc)
            } else {
                tuple
            };
            pg_sys::heap_copy_tuple_as_datum(tuple, desc)
        }
    }

    /// The transaction that wrote this version of the row.
    pub fn version(&self) -> pg_sys::TransactionId {
        // SAFETY: a row that was read has its header.
        unsafe { (*self.tuple.t_data).t_choice.t_heap.t_xmin }
    }
}

/// A column of the type `T`, found once and used for many rows of one table.
pub struct Column<T> {
    index: usize,
    kind: PhantomData<T>,
}

impl<T> Clone for Column<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Column<T> {}

impl<T: IntoDatum> Column<T> {
    /// Errors: 55000 where there is none, or it has another type.
    pub fn find(desc: Descriptor<'_>, name: &str) -> Result<Self> {
        let index = column(desc, name)?;
        desc.check::<T>(index)?;
        Ok(Self {
            index,
            kind: PhantomData,
        })
    }
}

impl<T> Column<T> {
    /// From 0.
    pub fn index(self) -> usize {
        self.index
    }

    /// As the catalog counts, from 1.
    pub fn number(self) -> pg_sys::AttrNumber {
        self.index as pg_sys::AttrNumber + 1
    }
}

/// A column of an enum's type, found once and used for many rows of one table.
#[derive(Clone, Copy)]
pub struct EnumColumn {
    index: usize,
    kind: pg_sys::Oid,
}

impl EnumColumn {
    /// One label of the enum.
    ///
    /// Errors: 55000 where it has none of that name.
    pub fn value(self, label: &str) -> Result<pg_sys::Oid> {
        shape::enum_value(self.kind, label).ok_or_else(|| {
            shape::changed(
                format!(
                    "type {} lacks the value '{label}'",
                    shape::type_name(self.kind)
                ),
                "The live_stream extension needs it.",
                "Give the value its name back, as CREATE EXTENSION live_stream made it.",
            )
        })
    }
}

impl Row<'_> {
    /// The value of a column that was found in the table of this row; none when it is null.
    pub fn at<T: FromDatum>(&self, column: Column<T>) -> Option<T> {
        let index = column.index;
        if index >= self.values.len() {
            return None;
        }
        // SAFETY: `Column::find` has checked the type.
        unsafe { T::from_datum(self.values[index], self.nulls[index]) }
    }

    /// As [`at`](Self::at), of an enum.
    pub fn value_at(&self, column: EnumColumn) -> Option<pg_sys::Oid> {
        let index = column.index;
        (!*self.nulls.get(index)?).then(|| pg_sys::Oid::from(self.values[index].value() as u32))
    }
}

/// A BEFORE ROW trigger: `guard` sees the old row (of an UPDATE) and may change the new one.
/// A row that is deleted goes as it is.
pub fn before<'a>(
    trigger: &'a PgTrigger<'a>,
    guard: impl FnOnce(Option<&Row<'a>>, &mut Row<'a>) -> Result<()>,
) -> Outcome<'a> {
    Ok(Some(before_row(trigger, guard).or_raise()))
}

fn before_row<'a>(
    trigger: &'a PgTrigger<'a>,
    guard: impl FnOnce(Option<&Row<'a>>, &mut Row<'a>) -> Result<()>,
) -> Result<PgHeapTuple<'a, AllocatedByPostgres>> {
    let fired = trigger.trigger_data();
    let (old, new) = match (trigger.level(), trigger.when(), trigger.op()) {
        (PgTriggerLevel::Row, Ok(PgTriggerWhen::Before), Ok(PgTriggerOperation::Insert)) => {
            (null_mut(), fired.tg_trigtuple)
        }
        (PgTriggerLevel::Row, Ok(PgTriggerWhen::Before), Ok(PgTriggerOperation::Update)) => {
            (fired.tg_trigtuple, fired.tg_newtuple)
        }
        _ => {
            return Err(wrong_trigger(
                "a BEFORE INSERT OR UPDATE trigger for each row",
            ));
        }
    };
    // SAFETY: PostgreSQL hands a row trigger rows of its relation, valid while it runs.
    unsafe {
        let desc = Descriptor::of((*fired.tg_relation).rd_att);
        let old = (!old.is_null()).then(|| Row::of_tuple(desc, old));
        let mut row = Row::of_tuple(desc, new);
        guard(old.as_ref(), &mut row)?;
        Ok(PgHeapTuple::from_heap_tuple(
            PgTupleDesc::from_pg_unchecked(desc.as_ptr()),
            row.into_tuple(new),
        ))
    }
}

/// A BEFORE DELETE ROW trigger: `see` looks at the row that goes.
pub fn before_delete<'a>(
    trigger: &'a PgTrigger<'a>,
    see: impl FnOnce(&Row<'_>) -> Result<()>,
) -> Outcome<'a> {
    let fired = trigger.trigger_data();
    let goes = match (trigger.level(), trigger.when(), trigger.op()) {
        (PgTriggerLevel::Row, Ok(PgTriggerWhen::Before), Ok(PgTriggerOperation::Delete)) => {
            Ok(fired.tg_trigtuple)
        }
        _ => Err(wrong_trigger("a BEFORE DELETE trigger for each row")),
    };
    let outcome = goes.and_then(|tuple| {
        // SAFETY: PostgreSQL hands a row trigger rows of its relation, valid while it runs.
        let row = unsafe { Row::of_tuple(Descriptor::of((*fired.tg_relation).rd_att), tuple) };
        see(&row)
    });
    outcome.or_raise();
    Ok(trigger.old())
}

/// An AFTER ROW trigger: `see` looks at the row as it was stored.
pub fn after_row<'a>(
    trigger: &'a PgTrigger<'a>,
    see: impl FnOnce(&Row<'_>) -> Result<()>,
) -> Outcome<'a> {
    let fired = trigger.trigger_data();
    let stored = match (trigger.level(), trigger.when(), trigger.op()) {
        (PgTriggerLevel::Row, Ok(PgTriggerWhen::After), Ok(PgTriggerOperation::Insert)) => {
            Ok(fired.tg_trigtuple)
        }
        (PgTriggerLevel::Row, Ok(PgTriggerWhen::After), Ok(PgTriggerOperation::Update)) => {
            Ok(fired.tg_newtuple)
        }
        _ => Err(wrong_trigger(
            "an AFTER INSERT OR UPDATE trigger for each row",
        )),
    };
    let outcome = stored.and_then(|tuple| {
        // SAFETY: PostgreSQL hands a row trigger rows of its relation, valid while it runs.
        let row = unsafe {
            let desc = Descriptor::of((*fired.tg_relation).rd_att);
            Row::of_tuple(desc, tuple)
        };
        see(&row)
    });
    outcome.or_raise();
    Ok(None)
}

/// An AFTER ROW trigger that looks at the row as it was, of an UPDATE, and as it is.
pub fn after_change<'a>(
    trigger: &'a PgTrigger<'a>,
    see: impl FnOnce(Option<&Row<'_>>, &Row<'_>) -> Result<()>,
) -> Outcome<'a> {
    let fired = trigger.trigger_data();
    let rows = match (trigger.level(), trigger.when(), trigger.op()) {
        (PgTriggerLevel::Row, Ok(PgTriggerWhen::After), Ok(PgTriggerOperation::Insert)) => {
            Ok((null_mut(), fired.tg_trigtuple))
        }
        (PgTriggerLevel::Row, Ok(PgTriggerWhen::After), Ok(PgTriggerOperation::Update)) => {
            Ok((fired.tg_trigtuple, fired.tg_newtuple))
        }
        _ => Err(wrong_trigger(
            "an AFTER INSERT OR UPDATE trigger for each row",
        )),
    };
    let outcome = rows.and_then(|(old, new)| {
        // SAFETY: PostgreSQL hands a row trigger rows of its relation, valid while it runs.
        let (old, new) = unsafe {
            let desc = Descriptor::of((*fired.tg_relation).rd_att);
            let old = (!old.is_null()).then(|| Row::of_tuple(desc, old));
            (old, Row::of_tuple(desc, new))
        };
        see(old.as_ref(), &new)
    });
    outcome.or_raise();
    Ok(None)
}

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
        let index = column(self.desc, name)?;
        let found = self.desc.attribute(index).map(|it| it.atttypid);
        match found {
            Some(kind) if shape::is_whole_enum(kind)? => Ok(EnumColumn { index, kind }),
            _ => Err(self.desc.changed(name, Change::Values)),
        }
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
            let slot = &*self.slot;
            let natts = (*slot.tts_tupleDescriptor).natts as usize;
            Some(Row {
                desc: Descriptor::of(slot.tts_tupleDescriptor),
                values: std::slice::from_raw_parts(slot.tts_values, natts).into(),
                nulls: std::slice::from_raw_parts(slot.tts_isnull, natts).into(),
                replaced: Vec::new(),
            })
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

fn hundredths(value: i64) -> pg_sys::Datum {
    // SAFETY: makes a new numeric in the current memory context.
    pg_sys::Datum::from(unsafe { pg_sys::int64_div_fast_to_numeric(value, 2) })
}

/// Columns remembered by each backend.
const FOUND_SLOTS: usize = 1 << 10;

thread_local! {
    /// Where a column was found last, by table and by the place of its name in the program:
    /// a guess that is checked.
    static FOUND: [Cell<u16>; FOUND_SLOTS] = const { [const { Cell::new(0) }; FOUND_SLOTS] };
}

fn column(desc: Descriptor<'_>, name: &str) -> Result<usize> {
    let missing = || desc.changed(name, Change::Missing);
    let first = desc.attribute(0).ok_or_else(missing)?;
    let table = first.attrelid.to_u32() as usize;
    let slot = (table.wrapping_mul(31) ^ (name.as_ptr() as usize)) % FOUND_SLOTS;
    let guess = FOUND.with(|found| usize::from(found[slot].get()));
    if desc.is_named(guess, name) {
        return Ok(guess);
    }
    let index = desc.find(name).ok_or_else(missing)?;
    FOUND.with(|found| found[slot].set(index as u16));
    Ok(index)
}

fn wrong_trigger(wanted: &str) -> Error {
    Error::new(
        SqlState::WRONG_OBJECT_TYPE,
        format!("this function is for {wanted}"),
    )
    .hint("Run live_stream.install() to put the triggers of live_stream back.")
}

/// BEFORE UPDATE of a row: keeps `updated_at`.
#[pg_trigger]
fn touch<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    before(trigger, |_, new| {
        new.set("updated_at", Some(clock::transaction_time()))
    })
}

/// The value of a column that cannot be null.
pub fn required<T: FromDatum + IntoDatum>(row: &Row<'_>, column: &str) -> Result<T> {
    row.get(column)?.ok_or_else(|| {
        Error::new(
            SqlState::NOT_NULL_VIOLATION,
            format!("{column} must not be null"),
        )
        .hint(format!("Give a value for {column}."))
    })
}

/// The time in a column, which cannot be infinite: nothing could be counted from there.
pub fn finite(row: &Row<'_>, column: &str) -> Result<Option<TimestampWithTimeZone>> {
    let time: Option<TimestampWithTimeZone> = row.get(column)?;
    if time.is_some_and(|time| matches!(i64::from(time), i64::MIN | i64::MAX)) {
        return Err(Error::new(
            SqlState::CHECK_VIOLATION,
            format!("{column} cannot be infinite"),
        )
        .hint("Give a time, or null where there is none."));
    }
    Ok(time)
}
