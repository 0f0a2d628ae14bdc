//! Rows as triggers see them: read and set by column name, built once.
//!
//! Columns are found by name, never by number: the app may add columns of its own to its tables, and drop them again.

use crate::pg::error::{Error, Result, SqlState};
use crate::pg::shape::{self, Change, Descriptor, is_stored};
use crate::pg::tables;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::borrow::Cow;
use std::cell::Cell;
use std::marker::PhantomData;

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
    pub(super) unsafe fn of_tuple(desc: Descriptor<'a>, tuple: pg_sys::HeapTuple) -> Self {
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

    /// # Safety
    /// `slot` must hold a row whose columns are taken apart, and keep it for `'a`.
    pub(super) unsafe fn of_slot(slot: &'a pg_sys::TupleTableSlot) -> Self {
        // SAFETY: the slot's arrays hold `natts` entries after `slot_getallattrs`.
        unsafe {
            let natts = (*slot.tts_tupleDescriptor).natts as usize;
            Self {
                desc: Descriptor::of(slot.tts_tupleDescriptor),
                values: std::slice::from_raw_parts(slot.tts_values, natts).into(),
                nulls: std::slice::from_raw_parts(slot.tts_isnull, natts).into(),
                replaced: Vec::new(),
            }
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

    pub(super) fn is_null_at(&self, index: usize) -> bool {
        self.nulls[index]
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

    /// What the row refers to by foreign keys, each of a table and a column, that hold an id: the table, and the id.
    pub fn referred(&self, keys: &[(pg_sys::Oid, pg_sys::AttrNumber)]) -> Vec<(pg_sys::Oid, Uuid)> {
        let id = |number: pg_sys::AttrNumber| {
            let index = usize::try_from(number).ok()?.checked_sub(1)?;
            let attribute = self.desc.attributes().nth(index)?;
            let is_id = attribute.atttypid == pg_sys::UUIDOID && !self.nulls[index];
            // SAFETY: a value of the type, as the row's shape says.
            is_id
                .then(|| unsafe { Uuid::from_datum(self.values[index], false) })
                .flatten()
        };
        let keys = keys.iter();
        keys.filter_map(|&(table, column)| Some((table, id(column)?)))
            .collect()
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
            self.take(self.index(name)?, old);
        }
        Ok(())
    }

    fn take(&mut self, index: usize, old: &Row<'_>) {
        let datum = (!old.nulls[index]).then(|| old.values[index]);
        self.put(index, datum);
    }

    /// Takes from `old` what was not sent: nulls that are not `set`, by number, and where a column takes none and has a default.
    pub(super) fn complete(&mut self, old: &Row<'_>, set: &[pg_sys::AttrNumber]) {
        for (index, attribute) in self.desc.attributes().enumerate() {
            let is_default = attribute.attnotnull && attribute.atthasdef;
            let is_sent = set.contains(&attribute.attnum) && !is_default;
            if self.nulls[index] && is_stored(attribute) && !is_sent {
                self.take(index, old);
            }
        }
    }

    /// Puts back all columns that are not `set`, by number.
    pub fn keep_unset(&mut self, old: &Row<'_>, set: &[pg_sys::AttrNumber]) {
        for (index, attribute) in self.desc.attributes().enumerate() {
            if is_stored(attribute) && !set.contains(&attribute.attnum) {
                self.take(index, old);
            }
        }
    }

    /// Whether a column is among those of these numbers.
    pub fn is_among(&self, name: &str, numbers: &[pg_sys::AttrNumber]) -> Result<bool> {
        Ok(numbers.contains(&(self.index(name)? as pg_sys::AttrNumber + 1)))
    }

    /// The value of a column by its number; none when it is null.
    pub(super) fn datum(&self, number: pg_sys::AttrNumber) -> Option<pg_sys::Datum> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        (!*self.nulls.get(index)?).then(|| self.values[index])
    }

    pub(super) fn put(&mut self, index: usize, datum: Option<pg_sys::Datum>) {
        self.values.to_mut()[index] = datum.unwrap_or(pg_sys::Datum::from(0));
        self.nulls.to_mut()[index] = datum.is_none();
        self.replaced[index] = true;
    }

    /// Checks what PostgreSQL would refuse with a message of its own, or take and be sorry: nulls where the table takes
    /// none, and times that never come. Only of columns of ours: an app's trigger may fill in its own later.
    ///
    /// Errors: 23502, 23514.
    pub fn check_values(&self, old: Option<&Row<'_>>) -> Result<()> {
        self.check_nulls()?;
        for (index, attribute) in self.desc.attributes().enumerate() {
            let value = self.values[index].value();
            let is_infinite = !self.nulls[index]
                && match attribute.atttypid {
                    pg_sys::TIMESTAMPTZOID => matches!(value as i64, i64::MIN | i64::MAX),
                    pg_sys::DATEOID => matches!(value as i32, i32::MIN | i32::MAX),
                    _ => false,
                };
            if is_infinite
                && old.is_none_or(|old| old.nulls[index] || old.values[index].value() != value)
                && self.is_ours(index)
            {
                return Err(must_be_finite(&self.desc.name(index)));
            }
        }
        Ok(())
    }

    /// The first half of [`check_values`](Self::check_values).
    pub(super) fn check_nulls(&self) -> Result<()> {
        for (index, attribute) in self.desc.attributes().enumerate() {
            if self.nulls[index] && attribute.attnotnull && self.is_ours(index) {
                return Err(must_not_be_null(&self.desc.name(index)));
            }
        }
        Ok(())
    }

    /// Whether `create table` of ours has the column.
    pub(super) fn is_ours(&self, index: usize) -> bool {
        tables::makes(&self.desc.relation_name(), &self.desc.name(index))
    }

    /// `tuple` as the row is now.
    ///
    /// # Safety
    /// `tuple` must be the one that the row was made of.
    pub(super) unsafe fn into_tuple(mut self, tuple: pg_sys::HeapTuple) -> pg_sys::HeapTuple {
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
    /// Errors: 55000 where there is none, or it is no enum of ours.
    pub fn find(desc: Descriptor<'_>, name: &str) -> Result<Self> {
        let index = column(desc, name)?;
        let found = desc.attribute(index).map(|it| it.atttypid);
        match found {
            Some(kind) if shape::is_whole_enum(kind)? => Ok(Self { index, kind }),
            _ => Err(desc.changed(name, Change::Values)),
        }
    }

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

/// The value of a column that cannot be null.
pub fn required<T: FromDatum + IntoDatum>(row: &Row<'_>, column: &str) -> Result<T> {
    row.get(column)?.ok_or_else(|| must_not_be_null(column))
}

fn must_not_be_null(column: &str) -> Error {
    Error::new(
        SqlState::NOT_NULL_VIOLATION,
        format!("{column} must not be null"),
    )
    .hint(format!("Give a value for {column}."))
}

/// The time in a column, which cannot be infinite: nothing could be counted from there.
pub fn finite(row: &Row<'_>, column: &str) -> Result<Option<TimestampWithTimeZone>> {
    let time: Option<TimestampWithTimeZone> = row.get(column)?;
    if time.is_some_and(|time| matches!(i64::from(time), i64::MIN | i64::MAX)) {
        return Err(must_be_finite(column));
    }
    Ok(time)
}

fn must_be_finite(column: &str) -> Error {
    Error::new(
        SqlState::CHECK_VIOLATION,
        format!("{column} cannot be infinite"),
    )
    .hint("Give a time, or null where there is none.")
}

/// Checks that a text of a row is not too long; `of` says of what.
///
/// Errors: 23514.
pub fn check_length(name: &str, of: &str, text: Option<&str>, max: usize) -> Result<()> {
    match text.map_or(0, |text| text.chars().count()) {
        chars if chars <= max => Ok(()),
        chars => Err(Error::new(
            SqlState::CHECK_VIOLATION,
            format!("{name} of the {of} is too long"),
        )
        .detail(format!("It has {chars} characters."))
        .hint(format!("Send {max} characters at most, or leave it out."))),
    }
}
