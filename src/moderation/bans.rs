//! Bans and timeouts: who may be banned by whom, and what follows. `close.rs` closes who is watching; that a banned
//! person is refused is in `access/bans.rs`.

use super::close::close_unwelcome;
use super::log::{self, Act};
use crate::access;
use crate::access::{check_moderated, check_session_of, influencer_of, is_moderator};
use crate::identity;
use crate::limits;
use crate::metrics::entry;
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::keep;
use crate::pg::row::Row;
use crate::pg::row::{finite, required};
use crate::pg::transition;
use crate::pg::trigger;
use crate::pg::trigger::Outcome;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;

const REASON_CHARS: usize = 500;

/// The longest timeout.
const MAX_TIMEOUT_HOURS: i64 = 24;

/// BEFORE INSERT OR UPDATE of a ban.
#[pg_trigger]
fn bans_guard<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::before_or_again(trigger, guard_again, |old, new| {
        limits::write_row(old.is_none())?;
        guard(old, new)
    })
}

/// A ban that is there and is saved again: `guard` comes after it.
fn guard_again(old: &Row<'_>, new: &mut Row<'_>, set: &[pg_sys::AttrNumber]) -> Result<()> {
    let influencer: Uuid = required(old, "influencer_id")?;
    if !identity::is_service()? {
        identity::signed_in("do this")?;
        check_moderated(influencer)?;
    }
    if !new.is_among("kind", set)? {
        new.keep(old, &["kind"])?;
    }
    check_not_moved(old, new)?;
    check_end(new)?;
    check_reason(new)?;
    super::queue(influencer)
}

fn check_not_moved(old: &Row<'_>, new: &Row<'_>) -> Result<()> {
    if new.same::<Uuid>(old, "influencer_id")?
        && new.same::<Uuid>(old, "user_id")?
        && new.label("kind")? == old.label("kind")?
    {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        "a ban keeps its influencer, its user and its kind",
    )
    .hint("Lift it, and ban the other one."))
}

fn guard(old: Option<&Row<'_>>, new: &mut Row<'_>) -> Result<()> {
    let service = identity::is_service()?;
    if let Some(old) = old {
        new.keep(old, &["id"])?;
        check_not_moved(old, new)?;
        if service && !is_renewed(old, new)? {
            // Such as a session or an account that goes.
            return Ok(());
        }
    }
    let session: Option<Uuid> = new.get("session_id")?;
    if let Some(session) = session {
        let influencer = influencer_of(session)?;
        check_session_of(session, influencer, new.get("influencer_id")?)?;
        new.set("influencer_id", Some(influencer))?;
    }
    let influencer: Uuid = required(new, "influencer_id")?;
    let user: Uuid = required(new, "user_id")?;
    if !service {
        identity::signed_in("do this")?;
        check_moderated(influencer)?;
        new.set("created_by", identity::user_id()?)?;
        new.set("created_at", Some(transaction_time()))?;
    } else if new.is_null("created_at")? {
        new.set("created_at", Some(transaction_time()))?;
    }
    check_can_be_banned(influencer, user)?;
    check_end(new)?;
    check_reason(new)?;
    if old.is_none() {
        super::queue(influencer)?;
        if let Some(session) = session {
            entry::keep(session)?;
        }
        keep::keep_referred("live_stream_bans_user_id_fkey", user, "user")?;
    }
    Ok(())
}

/// Whether an update is a ban anew, rather than what follows from something else.
fn is_renewed(old: &Row<'_>, new: &Row<'_>) -> Result<bool> {
    Ok(!(new.same::<TimestampWithTimeZone>(old, "created_at")?
        && new.same::<TimestampWithTimeZone>(old, "expires_at")?
        && new.same::<String>(old, "reason")?))
}

fn check_can_be_banned(influencer: Uuid, user: Uuid) -> Result<()> {
    let refused = |message: String| Error::new(SqlState::INSUFFICIENT_PRIVILEGE, message);
    if access::owner_of(influencer)? == Some(user) {
        return Err(refused(format!(
            "user {user} owns influencer {influencer} and cannot be banned there"
        ))
        .hint("Ban somebody else."));
    }
    check_is_no_moderator(influencer, user)
}

fn check_is_no_moderator(influencer: Uuid, user: Uuid) -> Result<()> {
    if !is_moderator(influencer, user)? {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!(
            "user {user} moderates the sessions of influencer {influencer} and cannot be banned \
             there"
        ),
    )
    .hint("The influencer takes that part away first, with live_stream_remove_moderator."))
}

fn check_end(new: &Row<'_>) -> Result<()> {
    let wrong = |message: &'static str| Error::new(SqlState::CHECK_VIOLATION, message);
    let is_timeout = new.label("kind")?.as_deref() == Some("timeout");
    let now = transaction_time();
    match finite(new, "expires_at")? {
        None if is_timeout => Err(wrong("a timeout needs an end").hint(format!(
            "Give expires_at, within {MAX_TIMEOUT_HOURS} hours; or ban the user for good."
        ))),
        None => Ok(()),
        Some(end) if end <= now => Err(wrong("the ban would end before it begins")
            .hint("Give a time to come, or null for a ban for good.")),
        Some(end)
            if is_timeout
                && i64::from(end).saturating_sub(i64::from(now))
                    > MAX_TIMEOUT_HOURS * 3_600 * 1_000_000 =>
        {
            Err(wrong("the timeout is too long").hint(format!(
                "Give {MAX_TIMEOUT_HOURS} hours at most, or ban the user until then."
            )))
        }
        Some(_) => Ok(()),
    }
}

fn check_reason(new: &mut Row<'_>) -> Result<()> {
    let Some(reason) = new.get::<String>("reason")? else {
        return Ok(());
    };
    if text::is_blank(&reason) {
        return new.set::<String>("reason", None);
    }
    let chars = reason.chars().count();
    if chars > REASON_CHARS {
        return Err(
            Error::new(SqlState::CHECK_VIOLATION, "the reason is too long")
                .detail(format!("It has {chars} characters."))
                .hint(format!("Write {REASON_CHARS} characters at most.")),
        );
    }
    Ok(())
}

/// AFTER INSERT, UPDATE or DELETE of bans: closes whom they concern out, and writes the log.
#[pg_trigger]
fn bans_settle<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    transition::after(trigger, |changes| {
        let kind = changes.enum_column("kind")?;
        let timeout = kind.value("timeout")?;
        let mut acts = Vec::new();
        let mut written = Vec::new();
        let mut banned = Vec::new();
        changes.for_each(|old, new| {
            let Some(row) = new.or(old) else {
                return Ok(());
            };
            if let (Some(old), Some(new)) = (old, new)
                && !is_renewed(old, new)?
            {
                return Ok(());
            }
            let is_timeout = row.value_at(kind) == Some(timeout);
            let (influencer, user): (Uuid, Uuid) =
                (required(row, "influencer_id")?, required(row, "user_id")?);
            if new.is_some() {
                written.push((influencer, user));
            }
            if new.is_some() && !is_timeout {
                banned.push((influencer, user));
            }
            acts.push(Act {
                action: match (new.is_some(), is_timeout) {
                    (true, false) => "ban",
                    (true, true) => "timeout",
                    (false, false) => "unban",
                    (false, true) => "end_timeout",
                },
                influencer: Some(influencer),
                session: row.get("session_id")?,
                user: Some(user),
                reason: row.get("reason")?,
                actor: match new {
                    Some(new) => new.get("created_by")?,
                    None => None,
                },
                message: None,
            });
            Ok(())
        })?;
        super::hold_parts(written.iter().copied());
        for (influencer, user) in written {
            check_is_no_moderator(influencer, user)?;
        }
        close_unwelcome(&banned)?;
        log::note(acts)
    })
}
