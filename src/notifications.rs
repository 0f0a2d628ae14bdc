//! Notifications: what users are told about streams.

use crate::error::Result;
use crate::row::{self, Outcome, Row};
use crate::sessions::transaction_time;
use pgrx::prelude::*;

/// BEFORE INSERT OR UPDATE of a notification: `read_at` and `sent_at` follow the flags.
#[pg_trigger]
fn notifications_guard<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    row::before(trigger, |old, new| {
        follow(old, new, "is_read", "read_at")?;
        follow(old, new, "is_sent", "sent_at")
    })
}

fn follow(old: Option<&Row<'_>>, new: &mut Row<'_>, flag: &str, time: &str) -> Result<()> {
    let was = match old {
        Some(old) => old.get(flag)?.unwrap_or(false),
        None => false,
    };
    match (was, new.get(flag)?.unwrap_or(was)) {
        (false, true) => new.set(time, Some(transaction_time()))?,
        (_, false) => new.set::<TimestampWithTimeZone>(time, None)?,
        (true, true) => {
            if let Some(old) = old {
                new.keep(old, &[time])?;
            }
        }
    }
    new.set(flag, Some(new.get(flag)?.unwrap_or(was)))
}
