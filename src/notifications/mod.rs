//! Notifications: what users are told about streams.

mod followers;

pub use followers::remind;

use crate::pg::clock::transaction_time;
use crate::pg::error::{OrRaise, Result};
use crate::pg::owner::as_owner;
use crate::pg::row::Row;
use crate::pg::transition;
use crate::pg::trigger;
use crate::pg::trigger::Outcome;
use pgrx::prelude::*;

/// BEFORE INSERT OR UPDATE of a notification: `read_at` and `sent_at` follow the flags.
#[pg_trigger]
fn notifications_guard<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::before(trigger, |old, new| {
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

/// Keeps nonsense out of public.live_stream_followers.
#[pg_trigger]
fn followers_guard<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::before(trigger, |old, new| followers::guard(old, new))
}

/// AFTER INSERT OR UPDATE of followers: when somebody is to be reminded next.
#[pg_trigger]
fn followers_settle<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    transition::after(trigger, followers::settle)
}

/// AFTER INSERT OR UPDATE of a session's status, planned start or visibility: tells followers.
#[pg_trigger]
fn sessions_tell<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::after_change(trigger, followers::tell)
}

/// Writes the reminders that are due into live_stream_notifications, once each; returns how
/// many.
#[pg_extern(volatile)]
fn send_reminders() -> i64 {
    as_owner(remind).or_raise()
}
