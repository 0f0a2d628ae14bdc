//! Nulls of a schedule that is stored, new or not: they mean the defaults.

use crate::identity;
use crate::pg::clock::transaction_time;
use crate::pg::error::Result;
use crate::pg::row::Row;

/// A client that sends null for what has a default means the default.
pub fn fill_in(old: Option<&Row<'_>>, new: &mut Row<'_>) -> Result<()> {
    const TOLD: [&str; 2] = ["notification_sent", "reminder_sent"];
    match old {
        _ if identity::is_service()? => {}
        // What followers were told is not the client's to say.
        Some(old) => new.keep(old, &TOLD)?,
        None => {
            for column in TOLD {
                new.set(column, Some(false))?;
            }
        }
    }
    if new.is_null("timezone")? {
        new.set("timezone", Some("UTC".to_owned()))?;
    }
    for column in [
        "is_recurring",
        "is_promoted",
        "notification_sent",
        "reminder_sent",
    ] {
        if new.is_null(column)? {
            new.set(column, Some(false))?;
        }
    }
    for column in ["created_at", "updated_at"] {
        if new.is_null(column)? {
            new.set(column, Some(transaction_time()))?;
        }
    }
    if new.is_null("status")? {
        new.set_label("status", "scheduled")?;
    }
    if new.is_null("visibility")? {
        new.set_label("visibility", "public")?;
    }
    Ok(())
}
