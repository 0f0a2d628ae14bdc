//! Enums and domains.

use super::names::*;
use super::refuse_anothers;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::plan;
use pgrx::pg_sys;
use pgrx::spi::quote_identifier;

pub(super) unsafe fn create_enum(statement: &pg_sys::CreateEnumStmt, sql: &str) -> Result<()> {
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

pub(super) unsafe fn create_domain(statement: &pg_sys::CreateDomainStmt, sql: &str) -> Result<()> {
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
