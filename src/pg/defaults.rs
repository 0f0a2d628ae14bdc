//! Nulls that mean a default. A client that sends several rows sends all columns of all of them, and null where a row has none
//! of its own: PostgREST makes one list of columns of them.

use crate::pg::row::Row;
use crate::pg::shape::Descriptor;
use pgrx::pg_sys;

/// Columns with a default in which null says something else.
const NULL_SAYS_SOMETHING: [(&str, &str); 2] = [
    // No limit.
    ("live_stream_sessions", "max_viewers"),
    ("live_stream_invitations", "max_uses"),
];

/// Puts the default of the table into each column of ours that is null in a row to be inserted, as if it had been left out.
///
/// # Safety
/// `relation` must be open and locked, and the row of its shape.
pub unsafe fn fill_in(relation: pg_sys::Relation, row: &mut Row<'_>) {
    // SAFETY: the caller vouches for the relation.
    let desc = unsafe { Descriptor::of((*relation).rd_att) };
    for (index, attribute) in desc.attributes().enumerate() {
        if !attribute.atthasdef || attribute.attgenerated != 0 || !row.is_null_at(index) {
            continue;
        }
        let (table, column) = (desc.relation_name(), desc.name(index));
        if NULL_SAYS_SOMETHING.contains(&(table.as_str(), column.as_str())) || !row.is_ours(index) {
            continue;
        }
        // SAFETY: the column is one of the relation's.
        if let Some(value) = unsafe { default_of(relation, attribute.attnum) } {
            row.put(index, Some(value));
        }
    }
}

/// The default of a column, worked out as the caller, as PostgreSQL does where the column is left out. None for null.
///
/// # Safety
/// `relation` must be open and locked, and have the column.
unsafe fn default_of(
    relation: pg_sys::Relation,
    column: pg_sys::AttrNumber,
) -> Option<pg_sys::Datum> {
    // SAFETY: the expression is of the column's type. All of it lives in the memory of this row's trigger, as does what it
    // is worked out to, and goes with it.
    unsafe {
        let expression = pg_sys::build_column_default(relation, i32::from(column));
        if expression.is_null() {
            return None;
        }
        let state = pg_sys::CreateExecutorState();
        let prepared = pg_sys::ExecPrepareExpr(expression.cast(), state);
        let mut is_null = false;
        let value = pg_sys::ExecEvalExpr(prepared, pg_sys::CreateExprContext(state), &mut is_null);
        (!is_null).then_some(value)
    }
}
