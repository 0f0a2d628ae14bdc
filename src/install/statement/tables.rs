//! Tables, with their columns, keys, indexes and constraints.

use super::names::*;
use super::refuse_anothers;
use crate::pg::catalog::relation_exists;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::plan;
use pgrx::PgList;
use pgrx::pg_sys;
use pgrx::prelude::*;

pub(super) unsafe fn create_table(statement: &pg_sys::CreateStmt, sql: &str) -> Result<()> {
    // SAFETY: the parser fills `relation` and the list of elements.
    let (name, elements) = unsafe {
        (
            range(statement.relation),
            PgList::<pg_sys::Node>::from_pg(statement.tableElts),
        )
    };
    if !relation_exists(&name)? {
        return plan::utility(sql);
    }
    let owner: Option<pg_sys::Oid> = plan::ask(
        "select relowner from pg_class where oid = to_regclass($1) and relkind in ('r', 'p')",
        &[name.as_str().into()],
    )?;
    match owner {
        Some(owner) => refuse_anothers("table", &name, owner)?,
        None => return Err(not_ours(&name, "It is no table.".to_owned())),
    }
    for element in elements.iter_ptr() {
        // SAFETY: casts follow the node's tag; the column's type was made by an earlier
        // statement, or the look-up raises an error.
        unsafe {
            match (*element).type_ {
                pg_sys::NodeTag::T_ColumnDef => compare_column(&name, &*element.cast())?,
                pg_sys::NodeTag::T_Constraint => compare_key(&name, &*element.cast())?,
                _ => {}
            }
        }
    }
    Ok(())
}

pub(super) unsafe fn compare_column(table: &str, column: &pg_sys::ColumnDef) -> Result<()> {
    // SAFETY: the caller's node; an unknown type raises an error.
    let (name, wanted) = unsafe {
        (
            text(column.colname),
            pg_sys::typenameTypeId(std::ptr::null_mut(), column.typeName),
        )
    };
    let there: Option<pg_sys::Oid> = plan::ask(
        "select atttypid from pg_attribute
          where attrelid = to_regclass($1) and attname = $2 and not attisdropped",
        &[table.into(), name.into()],
    )?;
    if there == Some(wanted) {
        return Ok(());
    }
    let what = if there.is_some() {
        "has another type"
    } else {
        "is missing"
    };
    Err(not_ours(table, format!("Its column \"{name}\" {what}.")))
}

/// A check or a foreign key that the owner has dropped is the owner's choice; without its keys
/// a table cannot be referred to, and its rows not be told apart.
pub(super) unsafe fn compare_key(table: &str, constraint: &pg_sys::Constraint) -> Result<()> {
    use pg_sys::ConstrType::{CONSTR_PRIMARY, CONSTR_UNIQUE};
    if !matches!(constraint.contype, CONSTR_PRIMARY | CONSTR_UNIQUE) {
        return Ok(());
    }
    // SAFETY: the parser fills the name.
    let name = unsafe { text(constraint.conname) };
    if constraint_exists(table, name)? {
        return Ok(());
    }
    Err(not_ours(table, format!("Its key \"{name}\" is missing.")))
}

pub(super) fn not_ours(table: &str, detail: String) -> Error {
    Error::new(
        SqlState::DUPLICATE_TABLE,
        format!("table {table} exists and is not the one of live_stream"),
    )
    .detail(format!("{detail} Nothing has been changed."))
    .hint(way_out(table))
}

pub(super) unsafe fn create_index(statement: &pg_sys::IndexStmt, sql: &str) -> Result<()> {
    // SAFETY: the parser fills the table and, in our files, the name.
    let (table, name) = unsafe {
        let schema = (*statement.relation).schemaname;
        (
            range(statement.relation),
            qualified(schema, statement.idxname),
        )
    };
    if !relation_exists(&name)? {
        return plan::utility(sql);
    }
    let indexes: Option<bool> = plan::ask(
        "select true from pg_index
          where indexrelid = to_regclass($1) and indrelid = to_regclass($2)",
        &[name.as_str().into(), table.as_str().into()],
    )?;
    if indexes == Some(true) {
        return Ok(());
    }
    Err(Error::new(
        SqlState::DUPLICATE_TABLE,
        format!("relation {name} exists and is no index of {table}"),
    )
    .detail("Nothing has been changed.")
    .hint("Rename it, and create the extension again."))
}

pub(super) fn way_out(name: &str) -> String {
    format!(
        "Move it out of the way, for example with ALTER TABLE {name} SET SCHEMA old, create the \
         extension, and copy its rows into the new table."
    )
}

pub(super) unsafe fn alter_table(statement: &pg_sys::AlterTableStmt, sql: &str) -> Result<()> {
    use pg_sys::AlterTableType::{AT_AddConstraint, AT_EnableRowSecurity};
    // SAFETY: an ALTER TABLE has commands; a constraint's definition is a Constraint node.
    let (table, change, constraint) = unsafe {
        let commands = PgList::<pg_sys::AlterTableCmd>::from_pg(statement.cmds);
        let change = commands.get_ptr(0).map(|command| (*command).subtype);
        let constraint = commands
            .get_ptr(0)
            .filter(|_| change == Some(AT_AddConstraint))
            .map(|command| &*(*command).def.cast::<pg_sys::Constraint>());
        (range(statement.relation), change, constraint)
    };
    if change == Some(AT_EnableRowSecurity) && row_security_enabled(&table)? {
        return Ok(());
    }
    let Some(constraint) = constraint else {
        return plan::utility(sql);
    };
    // SAFETY: the parser fills the name, and the other table for a foreign key.
    let (name, other) = unsafe {
        let other = (!constraint.pktable.is_null()).then(|| range(constraint.pktable));
        (text(constraint.conname), other)
    };
    if constraint_exists(&table, name)? || !other.map_or(Ok(true), |other| can_refer_to(&other))? {
        return Ok(());
    }
    plan::utility(sql)
}

pub(super) fn row_security_enabled(table: &str) -> Result<bool> {
    let enabled: Option<bool> = plan::ask(
        "select relrowsecurity from pg_class where oid = to_regclass($1)",
        &[table.into()],
    )?;
    Ok(enabled == Some(true))
}

pub(super) fn constraint_exists(table: &str, name: &str) -> Result<bool> {
    let there: Option<bool> = plan::ask(
        "select true from pg_constraint where conrelid = to_regclass($1) and conname = $2",
        &[table.into(), name.into()],
    )?;
    Ok(there.is_some())
}

/// True when a foreign key can point to the `id uuid` of a table, which may not exist.
pub(super) fn can_refer_to(table: &str) -> Result<bool> {
    // A schema that the role may not look into makes to_regclass an error.
    let visible: Option<bool> = plan::ask(
        "select has_schema_privilege(oid, 'usage') from pg_namespace
          where nspname = (parse_ident($1))[1]",
        &[table.into()],
    )?;
    if visible == Some(false) {
        warn_no_reference(table);
    }
    if visible != Some(true) || !relation_exists(table)? {
        return Ok(false);
    }
    let keyed: Option<bool> = plan::ask(
        "select exists (
           select from pg_attribute a join pg_index i on i.indrelid = a.attrelid
            where a.attrelid = to_regclass($1) and a.attname = 'id'
              and a.atttypid = 'uuid'::regtype and i.indisunique and i.indisvalid
              and i.indpred is null and i.indnkeyatts = 1 and i.indkey[0] = a.attnum)
         and has_table_privilege($1, 'references')
         and (select relpersistence = 'p' from pg_class where oid = to_regclass($1))",
        &[table.into()],
    )?;
    if keyed != Some(true) {
        warn_no_reference(table);
    }
    Ok(keyed == Some(true))
}

pub(super) fn warn_no_reference(table: &str) {
    ereport!(
        PgLogLevel::WARNING,
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("live_stream makes no foreign keys to {table}"),
        "A foreign key needs a logged table with a unique column id of type uuid, and the REFERENCES privilege."
    );
}
