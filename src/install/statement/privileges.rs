//! Privileges: of the roles that a statement names, those that exist get them or lose them.

use super::names::text;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::{plan, role};
use pgrx::spi::quote_identifier;
use pgrx::{PgList, pg_sys};
use std::ffi::CStr;

/// Runs a GRANT or REVOKE without the roles that are missing; skipped where all are.
///
/// # Safety
/// `grant` must be the parse tree of `sql`, which begins at byte `start` of what was parsed, and ends with
/// the roles.
pub unsafe fn run(grant: &pg_sys::GrantStmt, start: usize, sql: &str) -> Result<()> {
    let mut first = None;
    let mut there = Vec::new();
    // SAFETY: the parser fills the list with roles, and each with its name and where it stands.
    unsafe {
        for found in PgList::<pg_sys::RoleSpec>::from_pg(grant.grantees).iter_ptr() {
            first = first.or(usize::try_from((*found).location).ok());
            match (*found).roletype {
                pg_sys::RoleSpecType::ROLESPEC_PUBLIC => there.push("public".to_owned()),
                pg_sys::RoleSpecType::ROLESPEC_CSTRING => {
                    if role::named(CStr::from_ptr((*found).rolename)).is_some() {
                        there.push(quote_identifier(text((*found).rolename)));
                    }
                }
                _ => return Err(not_understood(sql)),
            }
        }
    }
    let ends_with_roles = !grant.grant_option
        && grant.grantor.is_null()
        && grant.behavior == pg_sys::DropBehavior::DROP_RESTRICT;
    let before_roles = first
        .and_then(|first| sql.get(..first.checked_sub(start)?))
        .filter(|_| ends_with_roles)
        .ok_or_else(|| not_understood(sql))?;
    if there.is_empty() {
        return Ok(());
    }
    plan::utility(&format!("{before_roles}{}", there.join(", ")))
}

/// A mistake of ours in a file of `sql/`: nothing is granted or left granted that nobody has asked for.
fn not_understood(sql: &str) -> Error {
    Error::new(
        SqlState::INTERNAL,
        format!("the installer does not understand: {}", sql.trim()),
    )
    .hint("Name roles or PUBLIC, and end the statement with them.")
}
