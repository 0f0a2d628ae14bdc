//! Whether an enum has the labels that it was made with.

use super::*;
use crate::pg::catalog;
use crate::pg::error::Result;
use crate::pg::tables::{self};
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// Whether a type is the enum of this name; one that lacks labels is refused.
pub(super) fn is_enum(kind: &str, found: pg_sys::Oid) -> Result<bool> {
    let Some(wanted) = tables::enumeration(kind) else {
        return Ok(false);
    };
    if enum_type(wanted.schema, wanted.name) != Some(found) {
        return Ok(false);
    }
    check_labels(wanted, found).map(|()| true)
}

/// Whether a type is one of our enums; one that lacks labels is refused. A value whose label was
/// renamed would be taken for one that never was.
///
/// Errors: 55000.
pub fn is_whole_enum(kind: pg_sys::Oid) -> Result<bool> {
    let generation = catalog::generation();
    let is_known =
        |(seen, known): &(u64, Vec<pg_sys::Oid>)| *seen == generation && known.contains(&kind);
    if WHOLE_ENUMS.with_borrow(is_known) {
        return Ok(true);
    }
    let mut enums = tables::enums().iter();
    let Some(wanted) = enums.find(|it| enum_type(it.schema, it.name) == Some(kind)) else {
        return Ok(false);
    };
    check_labels(wanted, kind)?;
    WHOLE_ENUMS.with_borrow_mut(|(seen, known)| {
        if *seen != generation {
            known.clear();
            *seen = generation;
        }
        known.push(kind);
    });
    Ok(true)
}

fn check_labels(wanted: &tables::Enum, found: pg_sys::Oid) -> Result<()> {
    let mut labels = wanted.labels.iter();
    match labels.find(|label| enum_value(found, label).is_none()) {
        None => Ok(()),
        Some(label) => {
            let kind = format!("{}.{}", wanted.schema, wanted.name);
            Err(changed(
                format!("type {kind} lacks the value '{label}'"),
                "The live_stream extension needs it.",
                format!("Put it back: ALTER TYPE {kind} RENAME VALUE … TO '{label}'."),
            ))
        }
    }
}

fn enum_type(schema: &str, name: &str) -> Option<pg_sys::Oid> {
    let (schema, name) = (CString::new(schema).ok()?, CString::new(name).ok()?);
    // SAFETY: look-ups in the system caches by name.
    let kind = unsafe {
        let namespace = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
            pg_sys::Anum_pg_type_oid as pg_sys::AttrNumber,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(namespace),
            pg_sys::Datum::from(0),
            pg_sys::Datum::from(0),
        )
    };
    (kind != pg_sys::InvalidOid).then_some(kind)
}

/// The value of an enum that has this label; none if there is none, or the type is no enum.
pub fn enum_value(kind: pg_sys::Oid, label: &str) -> Option<pg_sys::Oid> {
    let label = CString::new(label).ok()?;
    // SAFETY: a look-up in the system cache; the tuple is released before the value is used.
    unsafe {
        let tuple = pg_sys::SearchSysCache2(
            pg_sys::SysCacheIdentifier::ENUMTYPOIDNAME as i32,
            pg_sys::Datum::from(kind),
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

/// As [`enum_value`], to be written: PostgreSQL refuses one that is not committed yet, which a
/// rollback would leave in indexes.
///
/// Errors: PostgreSQL's own, 55P04.
pub fn new_enum_value(kind: pg_sys::Oid, label: &str) -> Option<pg_sys::Oid> {
    enum_value(kind, label)?;
    let label = CString::new(label).ok()?;
    // SAFETY: the input function of enums, with its two arguments: a text and an enum's type.
    unsafe {
        pgrx::direct_function_call(
            pg_sys::enum_in,
            &[
                Some(pg_sys::Datum::from(label.as_ptr())),
                Some(pg_sys::Datum::from(kind)),
            ],
        )
    }
}

/// The label of a value of an enum; none if it is no value of that type.
pub fn enum_label(kind: pg_sys::Oid, value: pg_sys::Oid) -> Option<String> {
    // SAFETY: a look-up in the system cache by an OID, which may be any number; the tuple is
    // released after the copy.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::ENUMOID as i32,
            pg_sys::Datum::from(value),
        );
        if tuple.is_null() {
            return None;
        }
        let found = &*(pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_enum);
        let label = (found.enumtypid == kind).then(|| {
            CStr::from_ptr(found.enumlabel.data.as_ptr())
                .to_string_lossy()
                .into_owned()
        });
        pg_sys::ReleaseSysCache(tuple);
        label
    }
}
