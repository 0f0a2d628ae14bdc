//! Functions and views.

use super::names::*;
use super::refuse_anothers;
use super::unchanged;
use crate::pg::catalog::relation_exists;
use crate::pg::error::Result;
use crate::pg::plan;
use pgrx::pg_sys;
use pgrx::{PgList, spi::quote_identifier};
use std::ffi::CString;

pub(super) unsafe fn create_function(
    statement: &pg_sys::CreateFunctionStmt,
    sql: &str,
) -> Result<()> {
    // SAFETY: the list holds String nodes: schema and name.
    let name = unsafe { strings(statement.funcname) };
    let quoted = name
        .iter()
        .map(quote_identifier)
        .collect::<Vec<_>>()
        .join(".");
    // SAFETY: a plain read of this backend's state.
    let me = unsafe { pg_sys::GetUserId() };
    // Any signature: a second function of that name makes calls by name ambiguous.
    let stranger: Option<pg_sys::Oid> = plan::ask(
        "select p.proowner from pg_proc p join pg_namespace n on n.oid = p.pronamespace
          where array[n.nspname, p.proname]::text[] = $1
            and p.proowner <> $2 limit 1",
        &[name.into(), me.into()],
    )?;
    stranger.map_or(Ok(()), |owner| refuse_anothers("function", &quoted, owner))?;
    plan::utility(sql)
}

pub(super) unsafe fn create_view(statement: &pg_sys::ViewStmt, sql: &str) -> Result<()> {
    // SAFETY: the parser fills the name.
    let name = unsafe { range(statement.view) };
    if relation_exists(&name)? {
        let owner: Option<pg_sys::Oid> = plan::ask(
            "select relowner from pg_class where oid = to_regclass($1)",
            &[name.as_str().into()],
        )?;
        owner.map_or(Ok(()), |owner| refuse_anothers("view", &name, owner))?;
        // SAFETY: the statement's own view.
        if unsafe { unchanged::view(statement, &name)? } {
            return Ok(());
        }
        // SAFETY: the statement's own query.
        if unsafe { !extends_view(&name, statement.query, sql)? } {
            plan::utility(&format!("drop view {name}"))?;
        }
    }
    plan::utility(sql)
}

/// True when a query has the columns of a view, and maybe more after them: what `create or
/// replace view` can do.
///
/// # Safety
/// `query` must be the parse tree of a query in `sql`.
pub(super) unsafe fn extends_view(view: &str, query: *mut pg_sys::Node, sql: &str) -> Result<bool> {
    let columns: Vec<String> = {
        let text = CString::new(sql).unwrap_or_default();
        // SAFETY: analyses a statement of ours; the trees live in the current memory context.
        unsafe {
            let mut raw = pg_sys::RawStmt {
                type_: pg_sys::NodeTag::T_RawStmt,
                stmt: query,
                ..Default::default()
            };
            let query = pg_sys::parse_analyze_fixedparams(
                &mut raw,
                text.as_ptr(),
                std::ptr::null(),
                0,
                std::ptr::null_mut(),
            );
            PgList::<pg_sys::TargetEntry>::from_pg((*query).targetList)
                .iter_ptr()
                .filter(|target| !(**target).resjunk)
                .map(|target| {
                    let expression = (*target).expr.cast::<pg_sys::Node>();
                    let kind = pg_sys::exprType(expression).to_u32();
                    format!(
                        "{} {} {}",
                        self::text((*target).resname),
                        kind,
                        pg_sys::exprTypmod(expression)
                    )
                })
                .collect()
        }
    };
    let there: Option<Vec<String>> = plan::ask(
        "select array_agg(format('%s %s %s', attname, atttypid::oid, atttypmod) order by attnum)
           from pg_attribute where attrelid = to_regclass($1) and attnum > 0",
        &[view.into()],
    )?;
    Ok(there.is_none_or(|there| columns.starts_with(&there)))
}
