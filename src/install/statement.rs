//! Runs the SQL files of the API layer, statement by statement, so that running them again adds
//! what is missing and leaves alone what is there.
//!
//! PostgreSQL's own parser says what a statement is. Most are idempotent as they are written
//! (`create or replace …`, `comment on …`); for the others:
//!
//! | statement | when what it makes is there, or what it needs is not |
//! | --- | --- |
//! | `create type … as enum` | the labels are compared |
//! | `create table` | owner and columns are compared |
//! | `create index` | skipped |
//! | `create policy` | made anew |
//! | `alter table … add constraint` | skipped, also without a table it can refer to |
//! | `grant … to`, `revoke … from` | skipped without the role |
//! | `alter publication … add table` | skipped, also without the publication |

use crate::error::{Error, Result, SqlState};
use crate::plan;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{PgList, spi::quote_identifier, spi::quote_qualified_identifier};
use std::ffi::{CStr, CString, c_char};

/// Runs one file. `name` is its domain's.
pub fn run_file(name: &str, sql: &'static str) -> Result<()> {
    let text = CString::new(sql)
        .map_err(|_| Error::new(SqlState::INTERNAL, format!("sql/{name}.sql contains a NUL")))?;
    // SAFETY: parses only; the tree lives in the current memory context.
    let tree = unsafe { PgList::<pg_sys::RawStmt>::from_pg(pg_sys::pg_parse_query(text.as_ptr())) };
    for raw in tree.iter_ptr() {
        // SAFETY: the parser fills the list with statements; locations are bytes into `text`.
        let (node, start, len) = unsafe {
            ((*raw).stmt, (*raw).stmt_location as usize, (*raw).stmt_len as usize)
        };
        let statement = if len == 0 { &sql[start..] } else { &sql[start..start + len] };
        // SAFETY: `node` is the statement's own node.
        unsafe { run(node, statement)? };
    }
    Ok(())
}

/// # Safety
/// `node` must be the parse tree of `sql`.
unsafe fn run(node: *mut pg_sys::Node, sql: &str) -> Result<()> {
    use pg_sys::NodeTag::*;
    // SAFETY: each cast follows the node's tag.
    unsafe {
        match (*node).type_ {
            T_CreateEnumStmt => create_enum(&*node.cast(), sql),
            T_CreateStmt => create_table(&*node.cast(), sql),
            T_IndexStmt => {
                let index: &pg_sys::IndexStmt = &*node.cast();
                let name = qualified((*index.relation).schemaname, index.idxname);
                if relation_exists(&name)? { Ok(()) } else { plan::utility(sql) }
            }
            T_CreatePolicyStmt => {
                let policy: &pg_sys::CreatePolicyStmt = &*node.cast();
                let name = quote_identifier(text(policy.policy_name));
                plan::utility(&format!(
                    "drop policy if exists {name} on {}",
                    range(policy.table)
                ))?;
                plan::utility(sql)
            }
            T_AlterTableStmt => alter_table(&*node.cast(), sql),
            T_GrantStmt => {
                let grant: &pg_sys::GrantStmt = &*node.cast();
                let roles = PgList::<pg_sys::RoleSpec>::from_pg(grant.grantees);
                let all_there = roles.iter_ptr().all(|role| {
                    (*role).roletype != pg_sys::RoleSpecType::ROLESPEC_CSTRING
                        || pg_sys::get_role_oid((*role).rolename, true) != pg_sys::InvalidOid
                });
                if all_there { plan::utility(sql) } else { Ok(()) }
            }
            T_AlterPublicationStmt => publish(&*node.cast(), sql),
            _ => plan::utility(sql),
        }
    }
}

unsafe fn create_enum(statement: &pg_sys::CreateEnumStmt, sql: &str) -> Result<()> {
    // SAFETY: both lists hold String nodes.
    let (name, labels) = unsafe { (strings(statement.typeName), strings(statement.vals)) };
    let quoted: Vec<_> = name.iter().map(quote_identifier).collect();
    let quoted = quoted.join(".");
    let there: Option<Vec<String>> = plan::ask(
        "select coalesce(array_agg(enumlabel::text order by enumsortorder), '{}')
           from pg_enum where enumtypid = to_regtype($1)
         having to_regtype($1) is not null",
        &[quoted.as_str().into()],
    )?;
    match there {
        None => plan::utility(sql),
        Some(there) if labels.iter().all(|label| there.contains(label)) => Ok(()),
        Some(there) => Err(Error::new(
            SqlState::DUPLICATE_TABLE,
            format!("type {quoted} exists and is not the one of live_stream"),
        )
        .detail(format!(
            "It has the values {}; live_stream needs {}.",
            there.join(", "),
            labels.join(", ")
        ))
        .hint("Rename it, or move it to another schema, and create the extension again.")),
    }
}

unsafe fn create_table(statement: &pg_sys::CreateStmt, sql: &str) -> Result<()> {
    // SAFETY: the parser fills `relation` and the list of elements.
    let (name, elements) = unsafe {
        (range(statement.relation), PgList::<pg_sys::Node>::from_pg(statement.tableElts))
    };
    if !relation_exists(&name)? {
        return plan::utility(sql);
    }
    let owned: Option<bool> = plan::ask(
        "select pg_has_role(relowner, 'usage') and relkind in ('r', 'p')
           from pg_class where oid = to_regclass($1)",
        &[name.as_str().into()],
    )?;
    if owned != Some(true) {
        return Err(Error::new(
            SqlState::DUPLICATE_TABLE,
            format!("relation {name} exists and is no table of the role that installs live_stream"),
        )
        .detail("live_stream touches no relation of somebody else's.")
        .hint(way_out(&name)));
    }
    for element in elements.iter_ptr() {
        // SAFETY: casts follow the node's tag; the column's type was made by an earlier
        // statement, or the look-up raises an error.
        let (column, wanted) = unsafe {
            if (*element).type_ != pg_sys::NodeTag::T_ColumnDef {
                continue;
            }
            let column: &pg_sys::ColumnDef = &*element.cast();
            let wanted = pg_sys::typenameTypeId(std::ptr::null_mut(), column.typeName);
            (text(column.colname), wanted)
        };
        let there: Option<pg_sys::Oid> = plan::ask(
            "select atttypid from pg_attribute
              where attrelid = to_regclass($1) and attname = $2 and not attisdropped",
            &[name.as_str().into(), column.into()],
        )?;
        if there != Some(wanted) {
            let what = if there.is_some() { "has another type" } else { "is missing" };
            return Err(Error::new(
                SqlState::DUPLICATE_TABLE,
                format!("table {name} exists and is not the one of live_stream"),
            )
            .detail(format!("Its column \"{column}\" {what}. Nothing has been changed."))
            .hint(way_out(&name)));
        }
    }
    Ok(())
}

fn way_out(name: &str) -> String {
    format!(
        "Move it out of the way, for example with ALTER TABLE {name} SET SCHEMA old, create the \
         extension, and copy its rows into the new table."
    )
}

unsafe fn alter_table(statement: &pg_sys::AlterTableStmt, sql: &str) -> Result<()> {
    // SAFETY: an ALTER TABLE has commands; a constraint's definition is a Constraint node.
    let (table, constraint) = unsafe {
        let command = PgList::<pg_sys::AlterTableCmd>::from_pg(statement.cmds).get_ptr(0);
        let constraint = command
            .filter(|command| (**command).subtype == pg_sys::AlterTableType::AT_AddConstraint)
            .map(|command| &*(*command).def.cast::<pg_sys::Constraint>());
        (range(statement.relation), constraint)
    };
    let Some(constraint) = constraint else { return plan::utility(sql) };
    // SAFETY: the parser fills the name, and the other table for a foreign key.
    let (name, other) = unsafe {
        let other = (!constraint.pktable.is_null()).then(|| range(constraint.pktable));
        (text(constraint.conname), other)
    };
    let there: Option<bool> = plan::ask(
        "select true from pg_constraint where conrelid = to_regclass($1) and conname = $2",
        &[table.as_str().into(), name.into()],
    )?;
    if there.is_some() || !other.map_or(Ok(true), |other| can_refer_to(&other))? {
        return Ok(());
    }
    plan::utility(sql)
}

/// True when a foreign key can point to the `id uuid` of a table, which may not exist.
fn can_refer_to(table: &str) -> Result<bool> {
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
         and has_table_privilege($1, 'references')",
        &[table.into()],
    )?;
    if keyed != Some(true) {
        warn_no_reference(table);
    }
    Ok(keyed == Some(true))
}

fn warn_no_reference(table: &str) {
    ereport!(
        PgLogLevel::WARNING,
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("live_stream makes no foreign keys to {table}"),
        "A foreign key needs a unique column id of type uuid there, and the REFERENCES privilege."
    );
}

unsafe fn publish(statement: &pg_sys::AlterPublicationStmt, sql: &str) -> Result<()> {
    // SAFETY: the statement names one table.
    let (publication, table) = unsafe {
        let objects = PgList::<pg_sys::PublicationObjSpec>::from_pg(statement.pubobjects);
        let table = objects.get_ptr(0).map(|object| range((*(*object).pubtable).relation));
        (text(statement.pubname), table.unwrap_or_default())
    };
    let owned: Option<bool> = plan::ask(
        "select pg_has_role(p.pubowner, 'usage') from pg_publication p
          where p.pubname = $1 and not p.puballtables
            and not exists (select from pg_publication_rel r
                             where r.prpubid = p.oid and r.prrelid = to_regclass($2))",
        &[publication.into(), table.as_str().into()],
    )?;
    match owned {
        None => Ok(()),
        Some(true) => plan::utility(sql),
        Some(false) => {
            ereport!(
                PgLogLevel::WARNING,
                PgSqlErrorCode::ERRCODE_WARNING,
                format!("live_stream cannot add {table} to the publication {publication}"),
                "Another role owns the publication. Add the table as that role."
            );
            Ok(())
        }
    }
}

pub fn relation_exists(name: &str) -> Result<bool> {
    Ok(plan::ask("select to_regclass($1) is not null", &[name.into()])? == Some(true))
}

/// # Safety
/// `relation` must come from the parser, with a schema: the SQL files qualify every name.
unsafe fn range(relation: *mut pg_sys::RangeVar) -> String {
    // SAFETY: the caller vouches for it.
    unsafe { qualified((*relation).schemaname, (*relation).relname) }
}

/// # Safety
/// Both must be null or strings of the parser's.
unsafe fn qualified(schema: *const c_char, name: *const c_char) -> String {
    // SAFETY: the caller vouches for both.
    unsafe { quote_qualified_identifier(text(schema), text(name)) }
}

/// # Safety
/// `string` must be null or end with NUL and live as long as its use.
unsafe fn text<'a>(string: *const c_char) -> &'a str {
    if string.is_null() {
        return "";
    }
    // SAFETY: the caller vouches for it.
    unsafe { CStr::from_ptr(string) }.to_str().unwrap_or_default()
}

/// # Safety
/// `list` must hold String nodes.
unsafe fn strings(list: *mut pg_sys::List) -> Vec<String> {
    // SAFETY: the caller vouches for it.
    unsafe {
        PgList::<pg_sys::String>::from_pg(list)
            .iter_ptr()
            .map(|node| text((*node).sval).to_owned())
            .collect()
    }
}
