//! Moderators and guests: who is chosen by whom, and what follows.

use super::close::close_unwelcome;
use super::log::{self, Act};
use crate::access::{self, owner_of};
use crate::access::{ban_of, check_owned};
use crate::identity;
use crate::limits;
use crate::metrics::entry;
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::keep;
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::row::required;
use crate::pg::transition;
use crate::pg::trigger;
use crate::pg::trigger::Outcome;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;

thread_local! {
    static INFLUENCERS: Plan = const { Plan::writing(
        c"select id, influencer_id from public.live_stream_sessions where id = any ($1)",
        &[pg_sys::UUIDARRAYOID],
    ) };
}

/// BEFORE INSERT OR UPDATE of a moderator.
#[pg_trigger]
fn moderators_guard<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::before(trigger, |old, new| {
        limits::write_row(old.is_none())?;
        if let Some(old) = old {
            return new.keep(old, &["influencer_id", "user_id", "created_at"]);
        }
        let influencer: Uuid = required(new, "influencer_id")?;
        let user: Uuid = required(new, "user_id")?;
        check_owned(influencer)?;
        if owner_of(influencer)? == Some(user) {
            return Err(Error::new(
                SqlState::CHECK_VIOLATION,
                format!("user {user} owns influencer {influencer} and needs no other part there"),
            )
            .hint("Name somebody else."));
        }
        check_is_not_banned(influencer, user)?;
        if !identity::is_service()? {
            new.set("created_at", Some(transaction_time()))?;
        }
        super::queue(influencer)?;
        keep::keep_referred("live_stream_moderators_user_id_fkey", user, "user")
    })
}

fn check_is_not_banned(influencer: Uuid, user: Uuid) -> Result<()> {
    match ban_of(influencer, user)? {
        Some(ban) if ban.is_timeout => Err(banned(user, "timeout")),
        Some(_) => Err(banned(user, "ban")),
        None => Ok(()),
    }
}

fn banned(user: Uuid, what: &str) -> Error {
    Error::new(
        SqlState::CHECK_VIOLATION,
        format!("there is a {what} of user {user}"),
    )
    .hint("Lift it first, with live_stream_unban.")
}

/// AFTER INSERT or DELETE of moderators.
#[pg_trigger]
fn moderators_settle<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    transition::after(trigger, |changes| {
        let mut acts = Vec::new();
        let mut chosen = Vec::new();
        let mut removed = Vec::new();
        changes.for_each(|old, new| {
            let Some(row) = new.or(old) else {
                return Ok(());
            };
            let (influencer, user): (Uuid, Uuid) =
                (required(row, "influencer_id")?, required(row, "user_id")?);
            if new.is_none() {
                removed.push((influencer, user));
            } else {
                chosen.push((influencer, user));
            }
            acts.push(Act {
                action: if new.is_some() {
                    "add_moderator"
                } else {
                    "remove_moderator"
                },
                influencer: Some(influencer),
                user: Some(user),
                ..Act::default()
            });
            Ok(())
        })?;
        super::hold_parts(chosen.iter().copied());
        for (influencer, user) in chosen {
            check_is_not_banned(influencer, user)?;
        }
        close_unwelcome(&removed)?;
        log::note(acts)
    })
}

/// BEFORE INSERT OR UPDATE of a guest.
#[pg_trigger]
fn guests_guard<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::before(trigger, |old, new| {
        limits::write_row(old.is_none())?;
        if let Some(old) = old {
            return new.keep(old, &["session_id", "user_id", "created_at"]);
        }
        let session: Uuid = required(new, "session_id")?;
        let user: Uuid = required(new, "user_id")?;
        access::own_session(Some(session))?;
        entry::keep(session)?;
        if !identity::is_service()? {
            new.set("created_by", identity::user_id()?)?;
            new.set("created_at", Some(transaction_time()))?;
            new.set::<Uuid>("invitation_id", None)?;
        }
        let Some(influencer) = influencers_of(vec![session])?.first().map(|(_, id)| *id) else {
            return Err(entry::no_such_session(session));
        };
        if owner_of(influencer)? == Some(user) {
            return Err(Error::new(
                SqlState::CHECK_VIOLATION,
                format!("user {user} is the host of session {session}, and no guest"),
            )
            .hint("Invite somebody else."));
        }
        match ban_of(influencer, user)? {
            Some(ban) if !ban.is_timeout => Err(banned(user, "ban")),
            _ => keep::keep_referred("live_stream_guests_user_id_fkey", user, "user"),
        }
    })
}

/// Sessions with their influencers; those that are gone have none.
pub fn influencers_of(sessions: Vec<Uuid>) -> Result<Vec<(Uuid, Uuid)>> {
    as_owner(|| {
        plan::run(&INFLUENCERS, &[sessions.into()], |rows| {
            Ok((0..rows.len())
                .filter_map(|row| rows.get(row, 0).zip(rows.get(row, 1)))
                .collect())
        })
    })
}

/// AFTER INSERT or DELETE of guests.
#[pg_trigger]
fn guests_settle<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    transition::after(trigger, |changes| {
        let mut acts = Vec::new();
        let mut removed: Vec<(Uuid, Uuid)> = Vec::new();
        changes.for_each(|old, new| {
            let Some(row) = new.or(old) else {
                return Ok(());
            };
            let (session, user): (Uuid, Uuid) =
                (required(row, "session_id")?, required(row, "user_id")?);
            if new.is_none() {
                removed.push((session, user));
            }
            acts.push(Act {
                action: match new {
                    None => "uninvite",
                    Some(new) if new.is_null("invitation_id")? => "invite",
                    Some(_) => "accept_invitation",
                },
                session: Some(session),
                user: Some(user),
                actor: match new {
                    Some(new) => new.get("created_by")?,
                    None => None,
                },
                ..Act::default()
            });
            Ok(())
        })?;
        if !removed.is_empty() {
            let there = influencers_of(removed.iter().map(|(session, _)| *session).collect())?;
            let people: Vec<(Uuid, Uuid)> = removed
                .into_iter()
                .filter_map(|(session, user)| {
                    let (_, influencer) = there.iter().find(|(id, _)| *id == session)?;
                    Some((*influencer, user))
                })
                .collect();
            close_unwelcome(&people)?;
        }
        log::note(acts)
    })
}
