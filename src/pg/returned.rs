//! Whole rows that functions return, without planning a query, policies and all, for each call.
//!
//! Such a function takes `null::public.the_table` as its first argument, which names the type
//! that it returns. Who calls it has seen to it that the caller may see the row.

use crate::pg::error::{Error, Result, SqlState};
use crate::pg::heap::Table;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{AnyElement, Uuid};
use std::ffi::CStr;

/// The row with this id of a table in schema `public`, found through its primary key; none
/// without an id, or where there is no such row.
///
/// Errors: 42804 when the first argument of the call is of another type than the table's rows.
pub fn row(
    call: pg_sys::FunctionCallInfo,
    table: &'static CStr,
    primary_key: &'static CStr,
    id: Option<Uuid>,
) -> Result<Option<AnyElement>> {
    // SAFETY: PostgreSQL passes a call with its expression; one without has no type.
    let wanted = unsafe { pg_sys::get_fn_expr_argtype((*call).flinfo, 0) };
    let rows = Table::read(c"public", table)?;
    if wanted != rows.row_type() {
        let table = table.to_string_lossy();
        return Err(Error::new(
            SqlState::DATATYPE_MISMATCH,
            format!("the first argument is not of type public.{table}"),
        )
        .detail("It names the type of the row that is returned.")
        .hint(format!("Pass null::public.{table}.")));
    }
    let mut found = None;
    if let Some(id) = id {
        rows.check_readable()?;
        rows.find(c"public", primary_key, &[("id", id)], |row| {
            found = Some(row.composite());
            Ok(false)
        })?;
    }
    // SAFETY: the datum is of the type that the argument has, as was checked.
    Ok(found.and_then(|row| unsafe { AnyElement::from_polymorphic_datum(row, false, wanted) }))
}
