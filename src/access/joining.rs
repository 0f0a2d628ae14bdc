//! Who may join a session and write in it.

use super::bans::{ban_against, check_not_banned, check_not_silenced, refused};
use super::parts::is_guest;
use super::{is_moderator, owner_of, owns};
use crate::identity;
use crate::metrics::entry::{Entered, no_such_session};
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::own_writes::{self, OwnWrites};
use crate::pg::owner::as_owner;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, Uuid};

static ANONYMOUS_USERS_MAY_CHAT: GucSetting<bool> = GucSetting::<bool>::new(false);

pub fn define_settings() {
    GucRegistry::define_bool_guc(
        c"live_stream.anonymous_users_may_chat",
        c"Whether people who have signed in anonymously may write in the chat.",
        c"Those whose claims say is_anonymous, as with Supabase's anonymous sign-ins: anybody has as many of them as it \
          likes, so a ban or a limit does not keep them out.",
        &ANONYMOUS_USERS_MAY_CHAT,
        GucContext::Userset,
        GucFlags::default(),
    );
}

thread_local! {
    /// The engine is writing the viewer row of a caller who has no rights beyond its own.
    static JOINING: OwnWrites = const { OwnWrites::new() };
}

/// The caller's own rights are those of the server. One who joins through a function of ours has
/// none of them, though its row is written with the rights of the owner.
pub fn is_exempt() -> Result<bool> {
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
/// Errors: as [`admit`]; 42501 for a timeout too, and for who must sign in first.
pub fn check_may_write(session: Uuid, entered: &Entered) -> Result<()> {
    check(session, entered, true)?;
    check_signed_in(session, entered)?;
    check_account_to_write(entered.influencer)
}

/// Checks that the caller has an account, where the host asks for that.
///
/// Errors: 42501.
pub fn check_signed_in(session: Uuid, entered: &Entered) -> Result<()> {
    if !entered.requires_sign_in
        || identity::has_account()?
        || is_exempt()?
        || owns(entered.influencer)?
    {
        return Ok(());
    }
    let message = format!("session {session} is for signed-in viewers only");
    Err(without_account(message, "Sign in first."))
}

/// Checks that the caller, if it has signed in anonymously, may write all the same in the chats of an influencer.
///
/// Errors: 42501.
pub fn check_account_to_write(influencer: Uuid) -> Result<()> {
    if ANONYMOUS_USERS_MAY_CHAT.get()
        || identity::has_account()?
        || is_exempt()?
        || owns(influencer)?
    {
        return Ok(());
    }
    let hint = "Sign in with an account, or add an e-mail address to this one, first.";
    Err(without_account(
        "only people with an account write in the chat".to_owned(),
        hint,
    ))
}

fn without_account(message: String, hint: &'static str) -> Error {
    Error::new(SqlState::INSUFFICIENT_PRIVILEGE, message)
        .detail("The caller has none, or has signed in anonymously.")
        .hint(hint)
}

fn check(session: Uuid, entered: &Entered, writes: bool) -> Result<()> {
    let influencer = entered.influencer;
    if entered.private && !is_invited(session, influencer)? {
        return Err(no_such_session(session));
    }
    if writes {
        check_not_silenced(influencer)
    } else {
        check_not_banned(influencer)
    }
}

/// Whether a private session is open to the caller: its guests, its moderators, its owner, and a server.
fn is_invited(session: Uuid, influencer: Uuid) -> Result<bool> {
    if is_exempt()? || owns(influencer)? {
        return Ok(true);
    }
    match identity::user_id()? {
        Some(user) => Ok(is_guest(session, user)? || is_moderator(influencer, user)?),
        None => Ok(false),
    }
}

/// Checks that a user, or somebody without an account, who has joined a session is welcome there: whoever the caller is.
///
/// Errors: as [`admit`].
pub fn check_welcome(session: Uuid, entered: &Entered, user: Option<Uuid>) -> Result<()> {
    unwelcome(session, entered, user)?.map_or(Ok(()), Err)
}

/// As [`check_welcome`], of a user.
pub fn is_welcome(session: Uuid, entered: &Entered, user: Uuid) -> Result<bool> {
    Ok(unwelcome(session, entered, Some(user))?.is_none())
}

/// What a user is told who is not welcome in a session. For statements, `is_let_in` says who is let in.
fn unwelcome(session: Uuid, entered: &Entered, user: Option<Uuid>) -> Result<Option<Error>> {
    let Some(user) = user else {
        return Ok(entered.private.then(|| no_such_session(session)));
    };
    let influencer = entered.influencer;
    let hosts = || -> Result<bool> { Ok(owner_of(influencer)? == Some(user)) };
    if entered.private && !is_guest(session, user)? && !is_moderator(influencer, user)? && !hosts()?
    {
        return Ok(Some(no_such_session(session)));
    }
    Ok(match ban_against(influencer, user)? {
        Some(ban) if !hosts()? => Some(refused(influencer, ban)),
        _ => None,
    })
}
