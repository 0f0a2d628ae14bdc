//! Link tokens: made once, kept as a hash, accepted so many times.

use super::log::{self, Act};
use crate::access;
use crate::access::{check_not_banned, is_moderator};
use crate::identity;
use crate::metrics::{entry, settle};
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::transaction::{self, Trail};
use crate::pg::transition;
use crate::pg::trigger::Outcome;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;

/// Random bytes of a token: 192 bits, which no one guesses.
const TOKEN_BYTES: usize = 24;

/// RFC 4648's alphabet for URLs.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

const MAX_USES: i32 = 1_000_000;

thread_local! {
    /// Invitations that this transaction has accepted.
    static ACCEPTED: RefCell<Trail<Uuid>> = const { RefCell::new(Trail::new()) };
    static INSERT: Plan = const { Plan::writing(
        c"insert into public.live_stream_invitations
            (session_id, token_hash, expires_at, max_uses, created_by)
          values ($1, sha256(convert_to($2, 'UTF8')), coalesce($3, now() + interval '7 days'), $4, $5)
          returning id, expires_at",
        &[pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT4OID, pg_sys::UUIDOID],
    ) };
    static SESSION_OF_TOKEN: Plan = const { Plan::writing(
        c"select session_id from public.live_stream_invitations
           where token_hash = sha256(convert_to($1, 'UTF8'))",
        &[pg_sys::TEXTOID],
    ) };
    static FIND: Plan = const { Plan::writing(
        c"select i.id, i.session_id, s.influencer_id,
                 i.revoked_at is null and i.expires_at > now()
                   and (i.max_uses is null or i.uses < i.max_uses),
                 exists (select from public.live_stream_guests g
                          where g.session_id = i.session_id and g.user_id = $2)
            from public.live_stream_invitations i
            join public.live_stream_sessions s on s.id = i.session_id
           where i.token_hash = sha256(convert_to($1, 'UTF8'))",
        &[pg_sys::TEXTOID, pg_sys::UUIDOID],
    ) };
    static ADD_GUEST: Plan = const { Plan::writing(
        c"insert into public.live_stream_guests (session_id, user_id, invitation_id, created_by)
          values ($1, $2, $3, $2) on conflict do nothing",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
    static USE: Plan = const { Plan::writing(
        c"update public.live_stream_invitations set uses = uses + 1
           where id = $1 and revoked_at is null and expires_at > now()
             and (max_uses is null or uses < max_uses)",
        &[pg_sys::UUIDOID],
    ) };
    static SESSION: Plan = const { Plan::writing(
        c"select session_id from public.live_stream_invitations where id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static REVOKE: Plan = const { Plan::writing(
        c"update public.live_stream_invitations set revoked_at = now()
           where id = $1 and revoked_at is null",
        &[pg_sys::UUIDOID],
    ) };
}

/// Three bytes are four characters.
fn encode(bytes: &[u8; TOKEN_BYTES]) -> String {
    bytes
        .chunks_exact(3)
        .flat_map(|three| {
            let bits = three
                .iter()
                .fold(0usize, |bits, &byte| bits << 8 | usize::from(byte));
            [18, 12, 6, 0].map(|shift| ALPHABET[bits >> shift & 63] as char)
        })
        .collect()
}

fn new_token() -> Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(
            SqlState::INTERNAL,
            format!("no random bytes from the system: {error}"),
        )
    })?;
    Ok(encode(&bytes))
}

/// Makes an invitation to a session of the caller's; the token is told this once.
/// `expires_at` is in seven days unless given, `max_uses` 1 to 1,000,000, or null for no limit.
///
/// Errors: as `require_own_session`; 23514 for a time that is past or a senseless `max_uses`.
#[pg_extern(volatile)]
#[allow(clippy::type_complexity)]
fn create_invitation(
    session_id: Option<Uuid>,
    expires_at: Option<TimestampWithTimeZone>,
    max_uses: Option<i32>,
) -> TableIterator<
    'static,
    (
        name!(session_id, Uuid),
        name!(expires_at, Option<TimestampWithTimeZone>),
        name!(max_uses, Option<i32>),
        name!(invitation_id, Option<Uuid>),
        name!(token, String),
    ),
> {
    let create = || {
        let session = access::own_session(session_id)?;
        check_bounds(expires_at, max_uses)?;
        entry::keep(session)?;
        let token = new_token()?;
        let args = [
            session.into(),
            token.as_str().into(),
            expires_at.into(),
            max_uses.into(),
            identity::user_id()?.into(),
        ];
        let (id, expires) =
            as_owner(|| plan::run(&INSERT, &args, |rows| Ok((rows.get(0, 0), rows.get(0, 1)))))?;
        Ok((session, expires, max_uses, id, token))
    };
    TableIterator::once(create().or_raise())
}

fn check_bounds(expires_at: Option<TimestampWithTimeZone>, max_uses: Option<i32>) -> Result<()> {
    if let Some(end) = expires_at
        && (end <= transaction_time() || i64::from(end) == i64::MAX)
    {
        return Err(Error::new(
            SqlState::CHECK_VIOLATION,
            "an invitation cannot end at that time",
        )
        .hint("Give a time to come, or leave expires_at out: seven days."));
    }
    match max_uses {
        Some(max) if !(1..=MAX_USES).contains(&max) => Err(Error::new(
            SqlState::CHECK_VIOLATION,
            format!("max_uses of an invitation cannot be {max}"),
        )
        .hint(format!("Give 1 to {MAX_USES}, or null for no limit."))),
        _ => Ok(()),
    }
}

/// One answer for whatever is wrong with a token: nobody learns that there once was one.
fn no_such_invitation() -> Error {
    Error::new(SqlState::NOT_FOUND, "the invitation is not valid")
        .detail("It is unknown, expired, revoked or used up.")
        .hint("Ask the host for another one.")
}

/// Makes the caller a guest of the session that a token is for, and returns the session's id.
/// Who is a guest already, or hosts or moderates the session, uses nothing up, and may come back when the link is worth
/// nothing any more.
///
/// Errors: 42501 without a user, or for a banned one; PT404 for a token that is not valid.
#[pg_extern(volatile)]
fn accept_invitation(token: Option<&str>) -> Uuid {
    let accept = || {
        let user = identity::signed_in("do this")?;
        let token = token.ok_or_else(no_such_invitation)?;
        let session = as_owner(|| {
            plan::run(&SESSION_OF_TOKEN, &[token.into()], |rows| {
                Ok(rows.get::<Uuid>(0, 0))
            })
        })?;
        // Before the invitation: a session that is deleted takes it along.
        entry::keep(session.ok_or_else(no_such_invitation)?).map_err(|error| {
            if error.is_not_found() {
                no_such_invitation()
            } else {
                error
            }
        })?;
        let found = as_owner(|| {
            plan::run(&FIND, &[token.into(), user.into()], |rows| {
                let ids = rows.get::<Uuid>(0, 0).zip(rows.get::<Uuid>(0, 1));
                let ids = ids.zip(rows.get::<Uuid>(0, 2));
                Ok(ids.map(|((id, session), influencer)| {
                    let is_valid = rows.get(0, 3) == Some(true);
                    (
                        id,
                        session,
                        influencer,
                        is_valid,
                        rows.get(0, 4) == Some(true),
                    )
                }))
            })
        })?;
        let Some((id, session, influencer, is_valid, is_guest)) = found else {
            return Err(no_such_invitation());
        };
        if access::owns(influencer)? || is_moderator(influencer, user)? {
            return Ok(session);
        }
        if !is_guest && !is_valid {
            return Err(no_such_invitation());
        }
        check_not_banned(influencer)?;
        as_owner(|| {
            let args = [session.into(), user.into(), id.into()];
            if plan::execute(&ADD_GUEST, &args)? > 0 {
                if !is_valid {
                    return Err(no_such_invitation());
                }
                ACCEPTED.with_borrow_mut(|accepted| accepted.push(id));
                settle::need();
            }
            Ok(session)
        })
    };
    accept().or_raise()
}

/// Uses up the invitations that this transaction has accepted: as it commits, so that those who accept the same one do not
/// wait for each other before.
///
/// Errors: PT404 for one that is not valid any more.
fn use_accepted() -> Result<()> {
    let mut accepted = ACCEPTED.with_borrow_mut(Trail::take);
    accepted.sort_unstable();
    accepted
        .into_iter()
        .try_for_each(|id| match as_owner(|| plan::execute(&USE, &[id.into()]))? {
            0 => Err(no_such_invitation()),
            _ => Ok(()),
        })
}

/// Called once per backend.
pub fn watch_transactions() {
    settle::USE_INVITATIONS.register(use_accepted);
    transaction::at_end(|| ACCEPTED.with_borrow_mut(Trail::clear));
    transaction::at_partial_rollback(|sub| ACCEPTED.with_borrow_mut(|trail| trail.undo(sub)));
}

/// Makes an invitation useless, once; returns its id.
///
/// Errors: 22023 without an id; PT404 for no invitation to a session of the caller's.
#[pg_extern(volatile)]
fn revoke_invitation(invitation_id: Option<Uuid>) -> Uuid {
    let revoke = || {
        let id = invitation_id.ok_or_else(|| {
            Error::new(
                SqlState::INVALID_PARAMETER,
                "invitation_id must not be null",
            )
            .hint("Pass the id of an invitation.")
        })?;
        let session =
            as_owner(|| plan::run(&SESSION, &[id.into()], |rows| Ok(rows.get::<Uuid>(0, 0))))?;
        if session.is_none() || access::own_session(session).is_err() {
            return Err(Error::new(
                SqlState::NOT_FOUND,
                format!("invitation {id} does not exist"),
            )
            .detail("Or it is to somebody else's session.")
            .hint("Pass the id that live_stream_create_invitation returned."));
        }
        as_owner(|| plan::execute(&REVOKE, &[id.into()]))?;
        Ok(id)
    };
    revoke().or_raise()
}

/// AFTER INSERT or UPDATE of invitations: the log.
#[pg_trigger]
fn invitations_settle<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    transition::after(trigger, |changes| {
        let mut acts = Vec::new();
        changes.for_each(|old, new| {
            let Some(new) = new else { return Ok(()) };
            let action = match old {
                None => "create_invitation",
                Some(old) if old.is_null("revoked_at")? && !new.is_null("revoked_at")? => {
                    "revoke_invitation"
                }
                Some(_) => return Ok(()),
            };
            acts.push(Act {
                action,
                session: new.get("session_id")?,
                actor: if old.is_none() {
                    new.get("created_by")?
                } else {
                    None
                },
                ..Act::default()
            });
            Ok(())
        })?;
        log::note(acts)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_different_and_fit_a_url() {
        let tokens: std::collections::HashSet<_> =
            (0..1_000).map(|_| new_token().unwrap()).collect();
        assert_eq!(tokens.len(), 1_000);
        for token in &tokens {
            assert_eq!(token.len(), 32);
            assert!(token.bytes().all(|c| ALPHABET.contains(&c)));
        }
    }

    #[test]
    fn every_bit_counts() {
        let one = |bit: usize| {
            let mut bytes = [0; TOKEN_BYTES];
            bytes[bit / 8] = 1 << (bit % 8);
            encode(&bytes)
        };
        let tokens: std::collections::HashSet<_> = (0..8 * TOKEN_BYTES).map(one).collect();
        assert_eq!(tokens.len(), 8 * TOKEN_BYTES);
        assert_eq!(encode(&[0xff; TOKEN_BYTES]), "_".repeat(32));
        assert_eq!(encode(&[0; TOKEN_BYTES]), "A".repeat(32));
    }
}
