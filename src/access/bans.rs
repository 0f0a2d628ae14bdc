//! Who is banned, and who may not write for a while.

use super::joining::is_exempt;
use super::{BANS, ids_of_caller, is_empty, owns};
use crate::identity;
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::heap::Table;
use crate::pg::plan::{Plan, sql};
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Whether a ban `b` keeps its user out now, and is no timeout.
macro_rules! in_force {
    () => {
        "b.kind = 'ban' and (b.expires_at is null or b.expires_at > now())"
    };
}
pub(crate) use in_force;

thread_local! {
    static BANNING: Plan = const { Plan::reading(
        sql!("select b.influencer_id from public.live_stream_bans b where b.user_id = $1 and ", in_force!()),
        &[pg_sys::UUIDOID],
    ) };
}

/// A ban or a timeout that is in force.
pub struct Ban {
    pub is_timeout: bool,
    until: Option<TimestampWithTimeZone>,
    reason: Option<String>,
}

/// What is in force against a user at an influencer: a ban before a timeout.
pub fn ban_of(influencer: Uuid, user: Uuid) -> Result<Option<Ban>> {
    let bans = Table::read(c"public", BANS)?;
    if bans.pages() == 0 {
        return Ok(None);
    }
    let now = transaction_time();
    let mut found: Option<Ban> = None;
    bans.find(
        c"public",
        c"live_stream_bans_influencer_id_user_id_kind_key",
        &[("influencer_id", influencer), ("user_id", user)],
        |row| {
            let until: Option<TimestampWithTimeZone> = row.get("expires_at")?;
            if until.is_none_or(|until| until > now) {
                let is_timeout = row.label("kind")?.as_deref() == Some("timeout");
                if found.is_none() || !is_timeout {
                    found = Some(Ban {
                        is_timeout,
                        until,
                        reason: row.get("reason")?,
                    });
                }
            }
            Ok(true)
        },
    )?;
    Ok(found)
}

/// The ban, no timeout, that is in force against a user at an influencer.
pub fn ban_against(influencer: Uuid, user: Uuid) -> Result<Option<Ban>> {
    Ok(ban_of(influencer, user)?.filter(|ban| !ban.is_timeout))
}

/// Checks that the influencer does not ban the caller.
///
/// Errors: 42501 for a ban.
pub fn check_not_banned(influencer: Uuid) -> Result<()> {
    check_without(influencer, |ban| !ban.is_timeout)
}

/// Checks that nothing keeps the caller from writing in the sessions of the influencer.
///
/// Errors: 42501 for a ban or a timeout.
pub fn check_not_silenced(influencer: Uuid) -> Result<()> {
    check_without(influencer, |_| true)
}

fn check_without(influencer: Uuid, counts: impl Fn(&Ban) -> bool) -> Result<()> {
    if is_empty(BANS)? {
        return Ok(());
    }
    let Some(user) = identity::user_id()? else {
        return Ok(());
    };
    match ban_of(influencer, user)?.filter(counts) {
        Some(ban) if !is_exempt()? && !owns(influencer)? => Err(refused(influencer, ban)),
        _ => Ok(()),
    }
}

/// What a banned person is told: until when, and why.
pub fn refused(influencer: Uuid, ban: Ban) -> Error {
    let message = if ban.is_timeout {
        format!("the caller may not write in the sessions of influencer {influencer} for a while")
    } else {
        format!("the caller is banned from the sessions of influencer {influencer}")
    };
    let (until, hint) = match ban.until {
        Some(until) => (
            format!("Until {}.", utc(until)),
            "Wait until then, or ask the host to lift it.",
        ),
        None => ("For good.".to_owned(), "Ask the host to lift it."),
    };
    let detail = match ban.reason {
        Some(reason) => format!("{until} The reason: {reason}"),
        None => until,
    };
    Error::new(SqlState::INSUFFICIENT_PRIVILEGE, message)
        .detail(detail)
        .hint(hint)
}

/// A time as people read it.
fn utc(time: TimestampWithTimeZone) -> String {
    /// From 1970 to 2000, where PostgreSQL counts from.
    const EPOCH: i64 = 946_684_800_000_000;
    i64::from(time)
        .checked_add(EPOCH)
        .and_then(chrono::DateTime::from_timestamp_micros)
        .map_or_else(
            || "a time far away".to_owned(),
            |time| time.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
        )
}

/// The influencers who ban the calling user now.
#[pg_extern(stable, parallel_safe)]
fn banning_influencer_ids() -> Vec<Uuid> {
    let find = || {
        if is_empty(BANS)? {
            return Ok(Vec::new());
        }
        ids_of_caller(&BANNING)
    };
    find().or_raise()
}
