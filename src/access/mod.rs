//! Who may see a session, join it and write in it, asked with every join and message: by index,
//! and at once where a table is empty.

use crate::identity;
use crate::metrics::entry;
use crate::metrics::entry::{Entered, no_such_session};
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::heap::Table;
use crate::pg::lock::{Lock, Mode, person_slot};
use crate::pg::own_writes::{self, OwnWrites};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::collections::BTreeSet;
use std::ffi::CStr;

const BANS: &CStr = c"live_stream_bans";
const MODERATORS: &CStr = c"live_stream_moderators";
const GUESTS: &CStr = c"live_stream_guests";

thread_local! {
    /// The engine is writing the viewer row of a caller who has no rights beyond its own.
    static JOINING: OwnWrites = const { OwnWrites::new() };
    static MODERATED: Plan = const { Plan::reading(
        c"select influencer_id from public.live_stream_moderators where user_id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static BANNING: Plan = const { Plan::reading(
        c"select influencer_id from public.live_stream_bans
           where user_id = $1 and kind = 'ban' and (expires_at is null or expires_at > now())",
        &[pg_sys::UUIDOID],
    ) };
    static LET_IN: Plan = const { Plan::reading(
        c"select s.id
            from (select session_id, false as is_guest
                    from public.live_stream_viewers where user_id = $1
                  union
                  select session_id, true from public.live_stream_guests where user_id = $1) o
            join public.live_stream_sessions s on s.id = o.session_id
           where (s.visibility = 'unlisted' or s.visibility = 'private' and o.is_guest)
             and not exists (select from public.live_stream_bans b
                              where b.influencer_id = s.influencer_id and b.user_id = $1
                                and b.kind = 'ban'
                                and (b.expires_at is null or b.expires_at > now()))",
        &[pg_sys::UUIDOID],
    ) };
}

fn is_empty(table: &'static CStr) -> Result<bool> {
    Ok(Table::read(c"public", table)?.pages() == 0)
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

fn has_row(
    table: &'static CStr,
    index: &'static CStr,
    ids: [(&'static str, Uuid); 2],
) -> Result<bool> {
    let table = Table::read(c"public", table)?;
    let mut found = false;
    if table.pages() > 0 {
        table.find(c"public", index, &ids, |_| {
            found = true;
            Ok(false)
        })?;
    }
    Ok(found)
}

/// Whether a user moderates the sessions of an influencer.
pub fn is_moderator(influencer: Uuid, user: Uuid) -> Result<bool> {
    has_row(
        MODERATORS,
        c"live_stream_moderators_pkey",
        [("influencer_id", influencer), ("user_id", user)],
    )
}

/// Whether a user is a guest of a session.
fn is_guest(session: Uuid, user: Uuid) -> Result<bool> {
    has_row(
        GUESTS,
        c"live_stream_guests_pkey",
        [("session_id", session), ("user_id", user)],
    )
}

/// The caller's own rights are those of the server. One who joins through a function of ours has
/// none of them, though its row is written with the rights of the owner.
fn is_exempt() -> Result<bool> {
    Ok(!JOINING.with(OwnWrites::have_fired) && identity::is_service()?)
}

/// Runs `f` with the rights of the tables' owner, to write the viewer row of the caller, who is
/// still asked whether it may join.
pub fn as_joiner<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
    let exempt = identity::is_service()?;
    own_writes::with(&JOINING, !exempt, || as_owner(f))
}

/// Checks that the caller may join a session that it has entered.
///
/// Errors: PT404 for a private session that the caller is not invited to; 42501 for a ban.
pub fn admit(session: Uuid, entered: &Entered) -> Result<()> {
    check(session, entered, false)
}

/// Checks that the caller, who is not the host, may write in the chat of a session.
///
/// Errors: as [`admit`]; 42501 for a timeout too.
pub fn check_may_write(session: Uuid, entered: &Entered) -> Result<()> {
    check(session, entered, true)
}

fn check(session: Uuid, entered: &Entered, writes: bool) -> Result<()> {
    if !entered.private && is_empty(BANS)? {
        return Ok(());
    }
    let influencer = entered.influencer;
    let user = identity::user_id()?;
    let ban = match user {
        Some(user) => ban_of(influencer, user)?.filter(|ban| writes || !ban.is_timeout),
        None => None,
    };
    if !entered.private && ban.is_none()
        || is_exempt()?
        || identity::owned_influencers()?.contains(&influencer)
    {
        return Ok(());
    }
    let invited = !entered.private
        || match user {
            Some(user) => is_guest(session, user)? || is_moderator(influencer, user)?,
            None => false,
        };
    match ban {
        _ if !invited => Err(no_such_session(session)),
        Some(ban) => Err(refused(influencer, ban)),
        None => Ok(()),
    }
}

/// Checks once more that the caller may join, as its rows are written: nobody closes these users
/// out of anything before the transaction ends, and what was decided before is seen now.
///
/// Errors: as [`admit`].
pub fn admit_again(session: Uuid, users: &BTreeSet<[u8; 16]>) -> Result<()> {
    if is_exempt()? {
        return Ok(());
    }
    let slots: BTreeSet<u64> = users
        .iter()
        .map(|user| person_slot(Uuid::from_bytes(*user)))
        .collect();
    for slot in slots {
        Lock::Person(slot).wait(Mode::Alone);
    }
    if is_empty(BANS)? && is_empty(GUESTS)? && is_empty(MODERATORS)? {
        return Ok(());
    }
    match entry::enter(session)? {
        Some(entered) => admit(session, &entered),
        None => Ok(()),
    }
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
        Some(ban) if !is_exempt()? && !identity::owned_influencers()?.contains(&influencer) => {
            Err(refused(influencer, ban))
        }
        _ => Ok(()),
    }
}

/// What a banned person is told: until when, and why.
fn refused(influencer: Uuid, ban: Ban) -> Error {
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

/// Whether the caller may see a session of this influencer and visibility, whose id it knows.
pub fn sees(session: Uuid, influencer: Uuid, visibility: &str) -> Result<bool> {
    let unlisted = visibility == "unlisted";
    if visibility == "public" || unlisted && is_empty(BANS)? {
        return Ok(true);
    }
    if identity::is_service()? || identity::owned_influencers()?.contains(&influencer) {
        return Ok(true);
    }
    let Some(user) = identity::user_id()? else {
        return Ok(unlisted);
    };
    if ban_of(influencer, user)?.is_some_and(|ban| !ban.is_timeout) {
        return Ok(false);
    }
    Ok(unlisted || is_guest(session, user)? || is_moderator(influencer, user)?)
}

/// The ids that a query has for the calling user; none for an anonymous request.
fn ids_of_caller(plan: &'static std::thread::LocalKey<Plan>) -> Result<Vec<Uuid>> {
    let Some(user) = identity::user_id()? else {
        return Ok(Vec::new());
    };
    as_owner(|| {
        plan::run(plan, &[user.into()], |rows| {
            Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
        })
    })
}

/// The influencers whose sessions the calling user moderates.
#[pg_extern(stable, parallel_safe)]
fn moderated_influencer_ids() -> Vec<Uuid> {
    let find = || {
        if is_empty(MODERATORS)? {
            return Ok(Vec::new());
        }
        ids_of_caller(&MODERATED)
    };
    find().or_raise()
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

/// The sessions that are not public and that the calling user has been let in to: private ones as
/// a guest, unlisted ones as a guest or viewer; but for those of influencers who ban the user.
#[pg_extern(stable, parallel_safe)]
fn guest_session_ids() -> Vec<Uuid> {
    ids_of_caller(&LET_IN).or_raise()
}

thread_local! {
    static SESSION: Plan = const { Plan::writing(
        c"select influencer_id, visibility::text from public.live_stream_sessions where id = $1",
        &[pg_sys::UUIDOID],
    ) };
}

/// The influencer, or the caller's own where none is named.
///
/// Errors: 42501 unless the caller owns it; 22023 where there is none to name.
#[pg_extern(volatile)]
fn own_influencer(influencer_id: Option<Uuid>) -> Uuid {
    let find = || {
        if identity::is_service()? {
            return influencer_id.ok_or_else(none_named);
        }
        identity::signed_in("do this")?;
        let owned = identity::owned_influencers()?;
        let influencer = influencer_id
            .or(owned.first().copied())
            .ok_or_else(none_named)?;
        check_owned(influencer)?;
        Ok(influencer)
    };
    find().or_raise()
}

/// Checks that the caller owns an influencer, or is the server.
pub fn check_owned(influencer: Uuid) -> Result<()> {
    if identity::is_service()? || identity::owned_influencers()?.contains(&influencer) {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("influencer {influencer} is not the caller's"),
    )
    .hint("Sign in as the user who owns the influencer."))
}

/// Checks that the caller owns or moderates an influencer, or is the server.
pub fn check_moderated(influencer: Uuid) -> Result<()> {
    if moderates(influencer)? {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("the caller does not moderate the sessions of influencer {influencer}"),
    )
    .hint("The influencer makes moderators with live_stream_add_moderator."))
}

fn moderates(influencer: Uuid) -> Result<bool> {
    if identity::is_service()? || identity::owned_influencers()?.contains(&influencer) {
        return Ok(true);
    }
    match identity::user_id()? {
        Some(user) => is_moderator(influencer, user),
        None => Ok(false),
    }
}

fn none_named() -> Error {
    Error::new(SqlState::INVALID_PARAMETER, "no influencer is named")
        .detail("The caller owns none.")
        .hint("Pass influencer_id, or session_id where the function takes it.")
}

/// The influencer whose session it is, for somebody who may see the session.
///
/// Errors: PT404 for no such session.
pub fn influencer_of(session: Uuid) -> Result<Uuid> {
    let found = as_owner(|| {
        plan::run(&SESSION, &[session.into()], |rows| {
            Ok(rows.get::<Uuid>(0, 0).zip(rows.get::<String>(0, 1)))
        })
    })?;
    match found {
        Some((influencer, visibility)) if sees(session, influencer, &visibility)? => Ok(influencer),
        _ => Err(no_such_session(session)),
    }
}

/// The influencer, or the session's, or the caller's own.
///
/// Errors: 42501 unless the caller owns or moderates it; PT404 for no session that the caller
/// may see; 22023 where there is none to name, or the session is another influencer's.
#[pg_extern(volatile)]
fn moderated_influencer(influencer_id: Option<Uuid>, session_id: Option<Uuid>) -> Uuid {
    let find = || {
        if !identity::is_service()? {
            identity::signed_in("do this")?;
        }
        let influencer = match (influencer_id, session_id) {
            (named, Some(session)) => {
                let influencer = influencer_of(session)?;
                check_session_of(session, influencer, named)?;
                influencer
            }
            (Some(influencer), None) => influencer,
            (None, None) => identity::owned_influencers()?
                .first()
                .copied()
                .ok_or_else(none_named)?,
        };
        check_moderated(influencer)?;
        Ok(influencer)
    };
    find().or_raise()
}

pub fn check_session_of(session: Uuid, influencer: Uuid, named: Option<Uuid>) -> Result<()> {
    match named {
        Some(named) if named != influencer => Err(Error::new(
            SqlState::INVALID_PARAMETER,
            format!("session {session} is not of influencer {named}"),
        )
        .hint("Pass one of the two, or the session's own influencer.")),
        _ => Ok(()),
    }
}
