//! A viewer's row that is there and is saved again, as an upsert does it: see `pg/upsert`.

use super::guard::{
    COUNTED, COUNTERS, check_session, claim, cut_technical, report, times, watches,
};
use super::tabs;
use crate::identity;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::row::{Row, required};
use pgrx::Uuid;
use pgrx::pg_sys;

/// Where nothing was sent, a default would say that somebody came, or has reported less than before.
const DEFAULTS_THAT_SAY_SOMETHING: [&str; 5] = [
    "is_still_watching",
    "left_at",
    "joined_at",
    "buffering_time_seconds",
    "disconnections_count",
];

/// A viewer that is there and is saved again: the guard of an update comes after it.
pub(super) fn guard(old: &Row<'_>, new: &mut Row<'_>, set: &[pg_sys::AttrNumber]) -> Result<()> {
    new.keep(old, COUNTERS)?;
    new.keep(old, COUNTED)?;
    tabs::keep(Some(old), new)?;
    for column in DEFAULTS_THAT_SAY_SOMETHING {
        if !new.is_among(column, set)? {
            new.keep(old, &[column])?;
        }
    }
    if !identity::is_service()? {
        let caller = identity::user_id()?;
        if old.get::<Uuid>("user_id")? != caller {
            let id: Uuid = required(old, "id")?;
            return Err(Error::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                format!("viewer {id} is not the caller"),
            )
            .hint("Leave id out to join as a new viewer."));
        }
        check_session(old, new)?;
        if !new.same::<Uuid>(old, "user_id")? {
            claim(new, caller)?;
        }
        new.keep(old, &["user_id", "viewer_type", "joined_at"])?;
        new.set("is_still_watching", Some(watches(Some(old), new)?))?;
        new.keep(old, &["left_at"])?;
        if caller.is_none() {
            // The id is the key to an anonymous viewer's row.
            identity::set_viewer_id(&required(old, "id")?)?;
        }
    }
    cut_technical(new)?;
    report(old, new)?;
    times(Some(old), new)
}
