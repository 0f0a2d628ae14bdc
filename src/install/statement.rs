//! Runs the SQL files of the API layer, statement by statement, so that running them again adds
//! what is missing and leaves alone what is there.
//!
//! PostgreSQL's own parser says what a statement is. Most are idempotent as they are written
//! (`comment on …`, `grant …`); for the others:
//!
//! | statement | when what it makes is there, or what it needs is not |
//! | --- | --- |
//! | `create type … as enum` | owner and labels are compared |
//! | `create domain` | base type is compared |
//! | `create table` | owner, columns and keys are compared |
//! | `create index` | skipped if it is one of the same table |
//! | `create or replace function` | refused if another role owns one of that name |
//! | `create or replace view` | refused if another role owns it; skipped if unchanged; made anew if it has other columns |
//! | `create or replace trigger` | skipped if unchanged |
//! | `create policy` | skipped if unchanged, else made anew |
//! | `alter table … enable row level security` | skipped if it is enabled |
//! | `alter table … add constraint` | skipped, also without a table it can refer to |
//! | `grant … to`, `revoke … from` | skipped without the role |
//! | `alter publication … add table` | skipped, also without the publication |

use super::unchanged;
use crate::pg::catalog::relation_exists;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::plan;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{PgList, spi::quote_identifier, spi::quote_qualified_identifier};
use std::ffi::{CStr, CString, c_char};

/// Runs one file. `name` is its domain's.
pub fn run_file(name: &str, sql: &str) -> Result<()> {
    let text = CString::new(sql)
        .map_err(|_| Error::new(SqlState::INTERNAL, format!("sql/{name}.sql contains a NUL")))?;
    // SAFETY: parses only; the tree lives in the current memory context.
    let tree = unsafe { PgList::<pg_sys::RawStmt>::from_pg(pg_sys::pg_parse_query(text.as_ptr())) };
    for raw in tree.iter_ptr() {
        // SAFETY: the parser fills the list with statements; locations are bytes into `text`.
        let (node, start, len) = unsafe {
            (
                (*raw).stmt,
                (*raw).stmt_location as usize,
                (*raw).stmt_len as usize,
            )
        };
        let statement = if len == 0 {
            &sql[start..]
        } else {
            &sql[start..start + len]
        };
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
            T_CreateDomainStmt => create_domain(&*node.cast(), sql),
            T_CreateStmt => create_table(&*node.cast(), sql),
            T_IndexStmt => create_index(&*node.cast(), sql),
            T_CreateFunctionStmt => create_function(&*node.cast(), sql),
            T_ViewStmt => create_view(&*node.cast(), sql),
            T_CreatePolicyStmt => {
                let policy: &pg_sys::CreatePolicyStmt = &*node.cast();
                if unchanged::policy(policy)? {
                    return Ok(());
                }
                let name = quote_identifier(text(policy.policy_name));
                plan::utility(&format!(
                    "drop policy if exists {name} on {}",
                    range(policy.table)
                ))?;
                plan::utility(sql)
            }
            T_CreateTrigStmt if unchanged::trigger(&*node.cast())? => Ok(()),
            T_AlterTableStmt => alter_table(&*node.cast(), sql),
            T_GrantStmt => {
                let grant: &pg_sys::GrantStmt = &*node.cast();
                let roles = PgList::<pg_sys::RoleSpec>::from_pg(grant.grantees);
                let all_there = roles.iter_ptr().all(|role| {
                    (*role).roletype != pg_sys::RoleSpecType::ROLESPEC_CSTRING
                        || pg_sys::get_role_oid((*role).rolename, true) != pg_sys::InvalidOid
                });
                if all_there {
                    plan::utility(sql)
                } else {
                    Ok(())
                }
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
    let owner: Option<pg_sys::Oid> = plan::ask(
        "select typowner from pg_type where oid = to_regtype($1)",
        &[quoted.as_str().into()],
    )?;
    let Some(owner) = owner else {
        return plan::utility(sql);
    };
    refuse_anothers("type", &quoted, owner)?;
    let there: Option<Vec<String>> = plan::ask(
        "select array_agg(enumlabel::text order by enumsortorder)
           from pg_enum where enumtypid = to_regtype($1)",
        &[quoted.as_str().into()],
    )?;
    match there {
        None => Err(Error::new(
            SqlState::DUPLICATE_TABLE,
            format!("type {quoted} exists and is not the one of live_stream"),
        )
        .detail("It is no enum.")
        .hint("Rename it, or move it to another schema, and create the extension again.")),
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

unsafe fn create_domain(statement: &pg_sys::CreateDomainStmt, sql: &str) -> Result<()> {
    // SAFETY: the list holds String nodes; an unknown base type raises an error.
    let (name, base) = unsafe {
        (
            strings(statement.domainname),
            pg_sys::typenameTypeId(std::ptr::null_mut(), statement.typeName),
        )
    };
    let quoted: Vec<_> = name.iter().map(quote_identifier).collect();
    let quoted = quoted.join(".");
    let owner: Option<pg_sys::Oid> = plan::ask(
        "select typowner from pg_type where oid = to_regtype($1)",
        &[quoted.as_str().into()],
    )?;
    let Some(owner) = owner else {
        return plan::utility(sql);
    };
    let same: Option<bool> = plan::ask(
        "select true from pg_type where oid = to_regtype($1) and typtype = 'd' and typbasetype = $2",
        &[quoted.as_str().into(), base.into()],
    )?;
    if same == Some(true) {
        // An app may serve this media type too.
        return Ok(());
    }
    refuse_anothers("type", &quoted, owner)?;
    Err(Error::new(
        SqlState::DUPLICATE_TABLE,
        format!("type {quoted} exists and is not the one of live_stream"),
    )
    .detail("It is no domain over the same type.")
    .hint("Rename it, or move it to another schema, and create the extension again."))
}

unsafe fn create_table(statement: &pg_sys::CreateStmt, sql: &str) -> Result<()> {
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

unsafe fn compare_column(table: &str, column: &pg_sys::ColumnDef) -> Result<()> {
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
unsafe fn compare_key(table: &str, constraint: &pg_sys::Constraint) -> Result<()> {
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

fn not_ours(table: &str, detail: String) -> Error {
    Error::new(
        SqlState::DUPLICATE_TABLE,
        format!("table {table} exists and is not the one of live_stream"),
    )
    .detail(format!("{detail} Nothing has been changed."))
    .hint(way_out(table))
}

/// What belongs to somebody else, even to a member role, would stay theirs to change while the
/// installing role, who may be a superuser, relies on it.
fn refuse_anothers(kind: &str, name: &str, owner: pg_sys::Oid) -> Result<()> {
    // SAFETY: a plain read of this backend's state.
    if owner == unsafe { pg_sys::GetUserId() } {
        return Ok(());
    }
    let owner: Option<String> = plan::ask("select pg_get_userbyid($1)::text", &[owner.into()])?;
    let owner = owner.unwrap_or_default();
    Err(Error::new(
        SqlState::DUPLICATE_TABLE,
        format!("{kind} {name} exists and is another role's"),
    )
    .detail(format!("It belongs to {owner}. Nothing has been changed."))
    .hint(format!(
        "Rename or drop it; or create the extension as {owner}, if {owner} did so before."
    )))
}

unsafe fn create_index(statement: &pg_sys::IndexStmt, sql: &str) -> Result<()> {
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

unsafe fn create_function(statement: &pg_sys::CreateFunctionStmt, sql: &str) -> Result<()> {
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

unsafe fn create_view(statement: &pg_sys::ViewStmt, sql: &str) -> Result<()> {
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
unsafe fn extends_view(view: &str, query: *mut pg_sys::Node, sql: &str) -> Result<bool> {
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

fn way_out(name: &str) -> String {
    format!(
        "Move it out of the way, for example with ALTER TABLE {name} SET SCHEMA old, create the \
         extension, and copy its rows into the new table."
    )
}

unsafe fn alter_table(statement: &pg_sys::AlterTableStmt, sql: &str) -> Result<()> {
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

fn row_security_enabled(table: &str) -> Result<bool> {
    let enabled: Option<bool> = plan::ask(
        "select relrowsecurity from pg_class where oid = to_regclass($1)",
        &[table.into()],
    )?;
    Ok(enabled == Some(true))
}

fn constraint_exists(table: &str, name: &str) -> Result<bool> {
    let there: Option<bool> = plan::ask(
        "select true from pg_constraint where conrelid = to_regclass($1) and conname = $2",
        &[table.into(), name.into()],
    )?;
    Ok(there.is_some())
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
         and has_table_privilege($1, 'references')
         and (select relpersistence = 'p' from pg_class where oid = to_regclass($1))",
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
        "A foreign key needs a logged table with a unique column id of type uuid, and the REFERENCES privilege."
    );
}

unsafe fn publish(statement: &pg_sys::AlterPublicationStmt, sql: &str) -> Result<()> {
    // SAFETY: the statement names one table.
    let (publication, table) = unsafe {
        let objects = PgList::<pg_sys::PublicationObjSpec>::from_pg(statement.pubobjects);
        let table = objects
            .get_ptr(0)
            .map(|object| range((*(*object).pubtable).relation));
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

/// # Safety
/// `relation` must come from the parser, with a schema: the SQL files qualify every name.
pub unsafe fn range(relation: *mut pg_sys::RangeVar) -> String {
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
