//! Whether a table is still what the engine takes it for.
//!
//! The tables belong to the app: their owner may alter, rename and replace them, and nothing that
//! is read from one may be taken for a type that it no longer has. So a table is looked at before
//! its first byte is read, and again whenever the catalog has changed. What does not fit is refused
//! with an error that names it. `crate::pg::tables` says what is wanted.
//!
//! | of | is looked at |
//! | --- | --- |
//! | every table | that it is an ordinary table of PostgreSQL's own kind of storage, without child tables, and without a rule |
//! | a table of the engine's own | besides, that it has these columns and no other, each of its type, and no trigger or check that could change what the engine writes |
//! | a column that is relied on | its type, and that PostgreSQL does not compute it |

mod descriptor;
mod enums;
mod index;
mod table;

use descriptor::name_of;
pub use descriptor::{Change, Descriptor};
use enums::is_enum;
pub use enums::{enum_label, enum_value, is_whole_enum, new_enum_value};
use index::Index;
pub use index::{UniqueKey, can_search, indexes, is_newest_first, unique_keys};
use table::is_computed;
pub use table::is_stored;
pub use table::{check_columns, check_key, check_refers, check_table, foreign_keys, runs_no_code};

use crate::pg::error::{Error, SqlState};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::ffi::CStr;

/// Whether a value of a type can be taken for a `T`: it is of that type, or stored the same way.
pub fn fits<T: IntoDatum>(kind: pg_sys::Oid) -> bool {
    same_storage(T::type_oid(), kind)
}

fn same_storage(wanted: pg_sys::Oid, kind: pg_sys::Oid) -> bool {
    if is_same(wanted, kind) {
        return true;
    }
    let base = base_type(kind);
    base != kind && is_same(wanted, base)
}

/// The type under a domain; of another type, that type.
pub fn base_type(kind: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a look-up in the system cache, which answers with the type itself for one that is
    // no domain, or unknown.
    unsafe { pg_sys::getBaseType(kind) }
}

fn is_same(wanted: pg_sys::Oid, kind: pg_sys::Oid) -> bool {
    wanted == kind || wanted == pg_sys::TEXTOID && is_text(kind)
}

fn is_text(kind: pg_sys::Oid) -> bool {
    matches!(
        kind,
        pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID
    )
}

/// The type that a column has in the files of `sql/`; none for an enum.
fn built_in(kind: &str) -> Option<pg_sys::Oid> {
    Some(match kind {
        "uuid" => pg_sys::UUIDOID,
        "text" | "varchar" => pg_sys::TEXTOID,
        "smallint" => pg_sys::INT2OID,
        "integer" => pg_sys::INT4OID,
        "bigint" => pg_sys::INT8OID,
        "numeric" => pg_sys::NUMERICOID,
        "boolean" => pg_sys::BOOLOID,
        "timestamptz" => pg_sys::TIMESTAMPTZOID,
        "timestamp" => pg_sys::TIMESTAMPOID,
        "date" => pg_sys::DATEOID,
        "time" => pg_sys::TIMEOID,
        "jsonb" => pg_sys::JSONBOID,
        "inet" => pg_sys::INETOID,
        "bytea" => pg_sys::BYTEAOID,
        "uuid[]" => pg_sys::UUIDARRAYOID,
        "integer[]" => pg_sys::INT4ARRAYOID,
        "timestamptz[]" => pg_sys::TIMESTAMPTZARRAYOID,
        _ => return None,
    })
}

/// Something of live_stream that has been changed.
pub fn changed(what: String, detail: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(SqlState::NOT_IN_PREREQUISITE_STATE, what)
        .detail(detail)
        .hint(hint.into())
}

/// A table that is not there, or another thing under its name.
pub fn missing(schema: &CStr, name: &CStr) -> Error {
    changed(
        format!(
            "relation {}.{} does not exist",
            schema.to_string_lossy(),
            name.to_string_lossy()
        ),
        "The live_stream extension needs it.",
        "Give it its name back; or run live_stream.install() as the owner of the extension.",
    )
}

thread_local! {
    /// The enums that have all their labels, with the generation of the catalog.
    static WHOLE_ENUMS: RefCell<(u64, Vec<pg_sys::Oid>)> = const { RefCell::new((0, Vec::new())) };
}

/// A type as SQL names it.
pub fn type_name(kind: pg_sys::Oid) -> String {
    // SAFETY: answers with a string, also for a type that is not there.
    unsafe {
        CStr::from_ptr(pg_sys::format_type_extended(
            kind,
            -1,
            pg_sys::FORMAT_TYPE_ALLOW_INVALID as pg_sys::bits16,
        ))
    }
    .to_string_lossy()
    .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::tables;

    #[test]
    fn the_type_of_every_column_is_known() {
        for table in tables::all() {
            for column in &table.columns {
                assert!(
                    built_in(column.kind).is_some() || tables::enumeration(column.kind).is_some(),
                    "{}.{} is {}",
                    table.name,
                    column.name,
                    column.kind
                );
            }
        }
    }
}
