//! The columns of a relation, as they are now.

use super::*;
use crate::pg::error::{Error, Result};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;

/// What happened to a column.
#[derive(Clone, Copy)]
pub enum Change<'a> {
    Missing,
    /// It has another type than this one.
    Type(&'a str),
    /// It holds no numbers.
    Number,
    /// It is no enum, or one of other values.
    Values,
    /// It is generated, or an identity.
    Computed,
    NotNull,
    Nullable,
}

/// The columns of a relation, or of what a query returned, while it is open.
#[derive(Clone, Copy)]
pub struct Descriptor<'a>(&'a pg_sys::TupleDescData);

impl<'a> Descriptor<'a> {
    /// # Safety
    /// `desc` must be valid for `'a`.
    pub unsafe fn of(desc: pg_sys::TupleDesc) -> Self {
        // SAFETY: the caller vouches for it.
        Self(unsafe { &*desc })
    }

    pub fn as_ptr(self) -> pg_sys::TupleDesc {
        std::ptr::from_ref(self.0).cast_mut()
    }

    pub fn len(self) -> usize {
        usize::try_from(self.0.natts).unwrap_or(0)
    }

    /// The column at a place, from 0, dropped ones included.
    pub fn attribute(self, index: usize) -> Option<&'a pg_sys::FormData_pg_attribute> {
        if index >= self.len() {
            return None;
        }
        // SAFETY: `index` is within the descriptor.
        #[cfg(not(feature = "pg18"))]
        let attribute = unsafe { self.0.attrs.as_ptr().add(index) };
        // SAFETY: `index` is within the descriptor.
        #[cfg(feature = "pg18")]
        let attribute = unsafe { pg_sys::TupleDescAttr(self.as_ptr(), index as i32) };
        // SAFETY: lives as long as the descriptor.
        Some(unsafe { &*attribute })
    }

    pub fn attributes(self) -> impl Iterator<Item = &'a pg_sys::FormData_pg_attribute> {
        (0..self.len()).filter_map(move |index| self.attribute(index))
    }

    /// Whether the column at a place has this name.
    pub fn is_named(self, index: usize, name: &str) -> bool {
        self.attribute(index).is_some_and(|attribute| {
            !attribute.attisdropped && name_bytes(attribute) == name.as_bytes()
        })
    }

    /// The place of a column, from 0; none if there is none of that name.
    pub fn find(self, name: &str) -> Option<usize> {
        (0..self.len()).find(|&index| self.is_named(index, name))
    }

    /// Checks that a column can be taken for a `T`, and written as one.
    ///
    /// Errors: 55000.
    pub fn check<T: IntoDatum>(self, index: usize) -> Result<()> {
        let Some(attribute) = self.attribute(index) else {
            return Err(self.changed("", Change::Missing));
        };
        if !fits::<T>(attribute.atttypid) {
            let wanted = type_name(T::type_oid());
            return Err(self.changed(&name_of(attribute), Change::Type(&wanted)));
        }
        if is_computed(attribute) {
            return Err(self.changed(&name_of(attribute), Change::Computed));
        }
        Ok(())
    }

    /// A column that has been changed.
    pub fn changed(self, column: &str, change: Change<'_>) -> Error {
        let table = self.table_name();
        let kept = "The live_stream extension keeps this column.".to_owned();
        let as_made = "Put the column back as CREATE EXTENSION live_stream made it.".to_owned();
        let (what, detail, hint) = match change {
            Change::Missing => ("is missing", kept, as_made),
            Change::Type(kind) => (
                "has another type",
                format!("The live_stream extension needs it as {kind}."),
                format!("Give the column the type {kind} again."),
            ),
            Change::Number => ("is no number", kept, as_made),
            Change::Values => ("is no enum, or one of other values", kept, as_made),
            Change::Computed => (
                "is computed by PostgreSQL",
                kept,
                "Make it a plain column again, neither generated nor an identity.".to_owned(),
            ),
            Change::NotNull => (
                "does not take null",
                kept,
                format!("Run ALTER TABLE … ALTER COLUMN {column} DROP NOT NULL."),
            ),
            Change::Nullable => (
                "takes null",
                kept,
                format!("Run ALTER TABLE … ALTER COLUMN {column} SET NOT NULL."),
            ),
        };
        changed(
            format!("column \"{column}\" of {table} {what}"),
            detail,
            hint,
        )
    }

    fn table_name(self) -> String {
        match self.relation_name() {
            name if name.is_empty() => "the table".to_owned(),
            name => format!("table \"{name}\""),
        }
    }

    /// The name of the relation; empty where it has none.
    pub fn relation_name(self) -> String {
        let relation = self
            .attribute(0)
            .map_or(pg_sys::InvalidOid, |attribute| attribute.attrelid);
        // SAFETY: a look-up by OID that answers with null or a string.
        unsafe {
            let name = pg_sys::get_rel_name(relation);
            if name.is_null() {
                String::new()
            } else {
                CStr::from_ptr(name).to_string_lossy().into_owned()
            }
        }
    }

    /// The name of the column at a place.
    pub fn name(self, index: usize) -> String {
        self.attribute(index).map(name_of).unwrap_or_default()
    }
}

pub(super) fn name_bytes(attribute: &pg_sys::FormData_pg_attribute) -> &[u8] {
    // SAFETY: names in the catalog end with NUL.
    unsafe { CStr::from_ptr(attribute.attname.data.as_ptr()) }.to_bytes()
}

pub(super) fn name_of(attribute: &pg_sys::FormData_pg_attribute) -> String {
    String::from_utf8_lossy(name_bytes(attribute)).into_owned()
}
