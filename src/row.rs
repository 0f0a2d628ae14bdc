//! Rows as triggers see them: read and set by column name, built once.
//!
//! Columns are found by name, never by number: the tables belong to the app, which may add
//! columns of its own and drop them again.

use crate::error::{Error, OrRaise, Result, SqlState};
use pgrx::PgTupleDesc;
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::trigger_support::{PgTriggerLevel, PgTriggerOperation, PgTriggerWhen};
use std::borrow::Cow;
use std::cell::Cell;
use std::convert::Infallible;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::null_mut;

/// What a row trigger returns: the row to store, or none to skip it.
pub type Outcome<'a> =
    std::result::Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, Infallible>;

/// One row, with its columns taken apart.
pub struct Row<'a> {
    desc: pg_sys::TupleDesc,
    tuple: pg_sys::HeapTuple,
    values: Cow<'a, [pg_sys::Datum]>,
    nulls: Cow<'a, [bool]>,
    replaced: Vec<bool>,
    trigger: PhantomData<&'a ()>,
}

impl<'a> Row<'a> {
    /// # Safety
    /// `tuple` must be a row of the shape `desc`, and both must live for `'a`.
    pub unsafe fn of_tuple(desc: pg_sys::TupleDesc, tuple: pg_sys::HeapTuple) -> Self {
        // SAFETY: the caller vouches for `desc`.
        let natts = unsafe { (*desc).natts } as usize;
        let mut values = vec![pg_sys::Datum::from(0); natts];
        let mut nulls = vec![true; natts];
        // SAFETY: both arrays hold `natts` entries, as the function requires.
        unsafe {
            pg_sys::heap_deform_tuple(tuple, desc, values.as_mut_ptr(), nulls.as_mut_ptr());
        }
        Self {
            desc,
            tuple,
            values: values.into(),
            nulls: nulls.into(),
            replaced: vec![false; natts],
            trigger: PhantomData,
        }
    }

    fn attribute(&self, index: usize) -> &pg_sys::FormData_pg_attribute {
        // SAFETY: `index` was checked against `natts` when it was found.
        unsafe { &*attribute(self.desc, index) }
    }

    fn index(&self, name: &str) -> Result<usize> {
        column(self.desc, name)
    }

    fn typed<T: IntoDatum>(&self, index: usize) -> Result<()> {
        let attribute = self.attribute(index);
        if T::is_compatible_with(attribute.atttypid) {
            return Ok(());
        }
        Err(changed_table(
            self.desc,
            &name_of(attribute),
            "has another type",
        ))
    }

    /// The value of a column; none when it is null.
    pub fn get<T: FromDatum + IntoDatum>(&self, name: &str) -> Result<Option<T>> {
        let index = self.index(name)?;
        self.typed::<T>(index)?;
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
        Ok(Some(enum_label(pg_sys::Oid::from(
            self.values[index].value() as u32,
        ))))
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
        self.typed::<T>(index)?;
        let datum = value.and_then(IntoDatum::into_datum);
        self.put(index, datum);
        Ok(())
    }

    pub fn set_label(&mut self, name: &str, label: &str) -> Result<()> {
        let index = self.index(name)?;
        let oid = enum_value(self.attribute(index).atttypid, label)
            .ok_or_else(|| changed_table(self.desc, name, "lacks an enum value"))?;
        self.put(index, oid.into_datum());
        Ok(())
    }

    /// Sets number columns to 0.
    pub fn set_zero(&mut self, names: &[&str]) -> Result<()> {
        for name in names {
            let index = self.index(name)?;
            let zero = match self.attribute(index).atttypid {
                pg_sys::INT4OID | pg_sys::INT8OID => pg_sys::Datum::from(0),
                pg_sys::NUMERICOID => hundredths(0),
                _ => return Err(changed_table(self.desc, name, "has another type")),
            };
            self.put(index, Some(zero));
        }
        Ok(())
    }

    /// Sets a numeric column to a number of hundredths.
    pub fn set_hundredths(&mut self, name: &str, value: i64) -> Result<()> {
        let index = self.index(name)?;
        self.typed::<AnyNumeric>(index)?;
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

    /// The row as it is now.
    fn into_tuple(mut self) -> pg_sys::HeapTuple {
        if !self.replaced.contains(&true) {
            return self.tuple;
        }
        // SAFETY: the arrays hold `natts` entries of the columns' types; the trigger's memory
        // context outlives the statement's use of the row.
        unsafe {
            pg_sys::heap_modify_tuple(
                self.tuple,
                self.desc,
                self.values.to_mut().as_mut_ptr(),
                self.nulls.to_mut().as_mut_ptr(),
                self.replaced.as_mut_ptr(),
            )
        }
    }
}

impl Row<'_> {
    /// Where the row is stored.
    pub fn place(&self) -> pg_sys::ItemPointerData {
        // SAFETY: only rows that were read from a table are asked.
        unsafe { (*self.tuple).t_self }
    }

    /// The whole row as a value of the table's row type, in the current memory context.
    pub fn composite(&self) -> pg_sys::Datum {
        // SAFETY: copies a row that was read from a table of this shape. One from before a column
        // was added has its default only in the table's description.
        unsafe {
            let header = (*self.tuple).t_data;
            let columns = i32::from((*header).t_infomask2 & pg_sys::HEAP_NATTS_MASK as u16);
            let tuple = if columns < (*self.desc).natts {
                pg_sys::heap_expand_tuple(self.tuple, self.desc)
            } else {
                self.tuple
            };
            pg_sys::heap_copy_tuple_as_datum(tuple, self.desc)
        }
    }

    /// The transaction that wrote this version of the row.
    pub fn version(&self) -> pg_sys::TransactionId {
        // SAFETY: only rows that were read from a table are asked.
        unsafe { (*(*self.tuple).t_data).t_choice.t_heap.t_xmin }
    }
}

/// A column's place in a row, found once and used for many rows.
#[derive(Clone, Copy)]
pub struct Column(usize);

impl Row<'_> {
    pub fn at<T: FromDatum>(&self, column: Column) -> Option<T> {
        // SAFETY: `Column::find` checked the type.
        unsafe { T::from_datum(self.values[column.0], self.nulls[column.0]) }
    }

    /// The value of the column at a place, of a table whose columns are ours alone.
    pub fn nth<T: FromDatum>(&self, index: usize) -> Option<T> {
        if index >= self.values.len() {
            return None;
        }
        // SAFETY: the caller names the type that the table was made with.
        unsafe { T::from_datum(self.values[index], self.nulls[index]) }
    }

    pub fn label_at(&self, column: Column) -> Option<pg_sys::Oid> {
        (!self.nulls[column.0]).then(|| pg_sys::Oid::from(self.values[column.0].value() as u32))
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
        let desc = (*fired.tg_relation).rd_att;
        let old = (!old.is_null()).then(|| Row::of_tuple(desc, old));
        let mut new = Row::of_tuple(desc, new);
        guard(old.as_ref(), &mut new)?;
        let tuple = new.into_tuple();
        Ok(PgHeapTuple::from_heap_tuple(
            PgTupleDesc::from_pg_unchecked(desc),
            tuple,
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
        let row = unsafe { Row::of_tuple((*fired.tg_relation).rd_att, tuple) };
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
        let row = unsafe { Row::of_tuple((*fired.tg_relation).rd_att, tuple) };
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
            let desc = (*fired.tg_relation).rd_att;
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
    desc: pg_sys::TupleDesc,
    old: *mut pg_sys::Tuplestorestate,
    new: *mut pg_sys::Tuplestorestate,
    trigger: PhantomData<&'a ()>,
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
        Ok(Self {
            // SAFETY: the relation is open while its trigger runs.
            desc: unsafe { (*fired.tg_relation).rd_att },
            old: fired.tg_oldtable,
            new: fired.tg_newtable,
            trigger: PhantomData,
        })
    }

    /// A column of the type `T`.
    pub fn column<T: IntoDatum>(&self, name: &str) -> Result<Column> {
        let index = column(self.desc, name)?;
        // SAFETY: `index` is within the descriptor.
        if !T::is_compatible_with(unsafe { (*attribute(self.desc, index)).atttypid }) {
            return Err(changed_table(self.desc, name, "has another type"));
        }
        Ok(Column(index))
    }

    pub fn enum_column(&self, name: &str) -> Result<Column> {
        column(self.desc, name).map(Column)
    }

    /// The OID of one label of an enum column.
    pub fn enum_value(&self, column: Column, label: &str) -> Option<pg_sys::Oid> {
        // SAFETY: `column` is within the descriptor.
        enum_value(unsafe { (*attribute(self.desc, column.0)).atttypid }, label)
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
    fn open(store: *mut pg_sys::Tuplestorestate, desc: pg_sys::TupleDesc) -> Self {
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
            let slot =
                pg_sys::MakeSingleTupleTableSlot(desc, &raw const pg_sys::TTSOpsMinimalTuple);
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
                desc: slot.tts_tupleDescriptor,
                tuple: null_mut(),
                values: std::slice::from_raw_parts(slot.tts_values, natts).into(),
                nulls: std::slice::from_raw_parts(slot.tts_isnull, natts).into(),
                replaced: Vec::new(),
                trigger: PhantomData,
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

/// The attribute at a place of a row.
///
/// # Safety
/// `index` must be less than the descriptor's `natts`.
unsafe fn attribute(desc: pg_sys::TupleDesc, index: usize) -> *const pg_sys::FormData_pg_attribute {
    // SAFETY: the caller vouches for `index`.
    #[cfg(not(feature = "pg18"))]
    unsafe {
        (*desc).attrs.as_ptr().add(index)
    }
    // SAFETY: the caller vouches for `index`.
    #[cfg(feature = "pg18")]
    unsafe {
        pg_sys::TupleDescAttr(desc, index as i32)
    }
}

/// Columns remembered by each backend.
const FOUND_SLOTS: usize = 1 << 10;

thread_local! {
    /// Where a column was found last, by table and by the place of its name in the program:
    /// a guess that is checked.
    static FOUND: [Cell<u16>; FOUND_SLOTS] = const { [const { Cell::new(0) }; FOUND_SLOTS] };
}

fn column(desc: pg_sys::TupleDesc, name: &str) -> Result<usize> {
    // SAFETY: the descriptor belongs to the open relation; its names end with NUL.
    unsafe {
        let natts = (*desc).natts as usize;
        let is_it = |index: usize| {
            let attribute = attribute(desc, index);
            !(*attribute).attisdropped
                && CStr::from_ptr((*attribute).attname.data.as_ptr()).to_bytes() == name.as_bytes()
        };
        if natts == 0 {
            return Err(changed_table(desc, name, "is missing"));
        }
        let table = (*attribute(desc, 0)).attrelid.to_u32() as usize;
        let slot = (table.wrapping_mul(31) ^ (name.as_ptr() as usize)) % FOUND_SLOTS;
        let guess = FOUND.with(|found| usize::from(found[slot].get()));
        if guess < natts && is_it(guess) {
            return Ok(guess);
        }
        let index = (0..natts)
            .find(|&index| is_it(index))
            .ok_or_else(|| changed_table(desc, name, "is missing"))?;
        FOUND.with(|found| found[slot].set(index as u16));
        Ok(index)
    }
}

/// The number of a column, from 1.
pub fn column_number(desc: pg_sys::TupleDesc, name: &str) -> Result<pg_sys::AttrNumber> {
    Ok(column(desc, name)? as pg_sys::AttrNumber + 1)
}

fn name_of(attribute: &pg_sys::FormData_pg_attribute) -> String {
    // SAFETY: names in the catalog end with NUL.
    unsafe { CStr::from_ptr(attribute.attname.data.as_ptr()) }
        .to_string_lossy()
        .into_owned()
}

fn enum_label(value: pg_sys::Oid) -> String {
    let (label, _, _) = pgrx::enum_helper::lookup_enum_by_oid(value);
    label
}

fn enum_value(enum_type: pg_sys::Oid, label: &str) -> Option<pg_sys::Oid> {
    let label = std::ffi::CString::new(label).ok()?;
    // SAFETY: a look-up in the system cache; the tuple is released before the value is used.
    unsafe {
        let tuple = pg_sys::SearchSysCache2(
            pg_sys::SysCacheIdentifier::ENUMTYPOIDNAME as i32,
            enum_type.into_datum()?,
            pg_sys::Datum::from(label.as_ptr()),
        );
        if tuple.is_null() {
            return None;
        }
        let oid = (*(pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_enum)).oid;
        pg_sys::ReleaseSysCache(tuple);
        Some(oid)
    }
}

fn changed_table(desc: pg_sys::TupleDesc, column: &str, what: &str) -> Error {
    // SAFETY: a look-up by OID that answers with null or a string.
    let table = unsafe {
        let relation = if (*desc).natts > 0 {
            (*attribute(desc, 0)).attrelid
        } else {
            pg_sys::InvalidOid
        };
        let name = pg_sys::get_rel_name(relation);
        if name.is_null() {
            String::from("the table")
        } else {
            format!("table \"{}\"", CStr::from_ptr(name).to_string_lossy())
        }
    };
    Error::new(
        SqlState::NOT_IN_PREREQUISITE_STATE,
        format!("column \"{column}\" of {table} {what}"),
    )
    .detail("The live_stream extension keeps this column.")
    .hint("Put the column back as CREATE EXTENSION live_stream made it.")
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
        new.set("updated_at", Some(crate::sessions::transaction_time()))
    })
}
