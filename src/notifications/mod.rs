//! Notifications: what users are told about streams.

/// Whether a notification counts for how often a follower is told of an influencer. For each of them, as one who
/// streams much must not use up what others have to tell; the app's own notifications are the app's.
macro_rules! counts {
    ($n:literal) => {
        concat!(
            $n,
            ".created_at > now() - interval '1 day' and ",
            $n,
            ".type in ('stream_reminder', 'followed_influencer_live', 'stream_ended')"
        )
    };
}

mod followers;
mod reminders;

pub use reminders::remind;

use crate::limits;
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::owner::as_owner;
use crate::pg::row::{Row, required};
use crate::pg::transition;
use crate::pg::trigger;
use crate::pg::trigger::Outcome;
use pgrx::prelude::*;
use std::time::{Duration, Instant};

/// How many minutes before a stream a follower can be reminded of it: a week.
const MAX_MINUTES: i32 = 7 * 24 * 60;

/// BEFORE INSERT OR UPDATE of a notification: `read_at` and `sent_at` follow the flags.
#[pg_trigger]
fn notifications_guard<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::before(trigger, |old, new| {
        check_title(old, new)?;
        follow(old, new, "is_read", "read_at")?;
        follow(old, new, "is_sent", "sent_at")
    })
}

fn check_title(old: Option<&Row<'_>>, new: &Row<'_>) -> Result<()> {
    let title: String = required(new, "title")?;
    let is_same = |old: &Row<'_>| new.same::<String>(old, "title");
    if old.map_or(Ok(false), is_same)? || !text::is_blank(&title) {
        return Ok(());
    }
    Err(Error::new(
        SqlState::CHECK_VIOLATION,
        "the title of the notification is empty",
    )
    .hint("Give it 1 to 255 characters."))
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
    trigger::before(trigger, |old, new| {
        limits::write_row(old.is_none())?;
        followers::guard(old, new)
    })
}

/// AFTER INSERT OR UPDATE of followers: sessions are looked through for who has come, or is to be reminded earlier.
#[pg_trigger]
fn followers_settle<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    transition::after(trigger, followers::settle)
}

/// AFTER INSERT OR UPDATE of a session's status, planned start or visibility: tells followers.
#[pg_trigger]
fn sessions_tell<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::after_change(trigger, followers::tell)
}

/// How long one call writes reminders.
const CALL: Duration = Duration::from_secs(2);

/// Writes the reminders that are due into live_stream_notifications, once each, for two seconds at
/// most; returns how many.
#[pg_extern(volatile)]
fn send_reminders() -> i64 {
    let deadline = Instant::now() + CALL;
    as_owner(|| remind(deadline)).or_raise().count
}
