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
//! | `grant … to`, `revoke … from` | the roles that are missing are left out |
//! | `alter publication … add table` | skipped, also without the publication |

mod names;
mod privileges;
mod publication;
mod routines;
mod tables;
mod types;
mod unchanged;

use crate::pg::error::{Error, Result, SqlState};
use crate::pg::plan;
use names::{range, text};
use pgrx::pg_sys;
use pgrx::{PgList, spi::quote_identifier};
use publication::publish;
use routines::{create_function, create_view};
use std::ffi::CString;
use tables::{alter_table, create_index, create_table};
use types::{create_domain, create_enum};

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
        unsafe { run(node, statement, start)? };
    }
    Ok(())
}

/// # Safety
/// `node` must be the parse tree of `sql`, which begins at byte `start` of what was parsed.
unsafe fn run(node: *mut pg_sys::Node, sql: &str, start: usize) -> Result<()> {
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
            T_GrantStmt => privileges::run(&*node.cast(), start, sql),
            T_AlterPublicationStmt => publish(&*node.cast(), sql),
            _ => plan::utility(sql),
        }
    }
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
