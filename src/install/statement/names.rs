//! Names as the parser hands them out.

use pgrx::pg_sys;
use pgrx::{PgList, spi::quote_qualified_identifier};
use std::ffi::{CStr, c_char};

/// # Safety
/// `relation` must come from the parser, with a schema: the SQL files qualify every name.
pub unsafe fn range(relation: *mut pg_sys::RangeVar) -> String {
    // SAFETY: the caller vouches for it.
    unsafe { qualified((*relation).schemaname, (*relation).relname) }
}

/// # Safety
/// Both must be null or strings of the parser's.
pub unsafe fn qualified(schema: *const c_char, name: *const c_char) -> String {
    // SAFETY: the caller vouches for both.
    unsafe { quote_qualified_identifier(text(schema), text(name)) }
}

/// # Safety
/// `string` must be null or end with NUL and live as long as its use.
pub unsafe fn text<'a>(string: *const c_char) -> &'a str {
    if string.is_null() {
        return "";
    }
    // SAFETY: the caller vouches for it.
    unsafe { CStr::from_ptr(string) }
        .to_str()
        .unwrap_or_default()
}

/// # Safety
/// `list` must hold String nodes.
pub unsafe fn strings(list: *mut pg_sys::List) -> Vec<String> {
    // SAFETY: the caller vouches for it.
    unsafe {
        PgList::<pg_sys::String>::from_pg(list)
            .iter_ptr()
            .map(|node| text((*node).sval).to_owned())
            .collect()
    }
}
