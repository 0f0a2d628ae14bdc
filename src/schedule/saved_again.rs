//! A schedule that is there and is saved again, as an upsert does it: see `pg/upsert`.

use super::guard;
use crate::access;
use crate::identity;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::row::{Row, required};
use pgrx::datum::Uuid;
use pgrx::pg_sys;

/// Checks what was sent; the guard of an update comes after it.
pub fn guard(old: &Row<'_>, new: &mut Row<'_>, set: &[pg_sys::AttrNumber]) -> Result<()> {
    if !(identity::is_service()? || access::owns(required(old, "influencer_id")?)?) {
        let id: Uuid = required(old, "id")?;
        return Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("schedule {id} is not the caller's"),
        )
        .hint("Leave id out, and the database makes a new one."));
    }
    // Rule and times say one thing together: a default would say another.
    new.keep_unset(old, set);
    guard::guard(Some(old), new)
}
