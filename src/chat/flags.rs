//! Messages that the host and the moderators are asked to look at. Neither its author nor anybody else in the chat hears
//! of it: a flag is a row of a table of its own, and the message is not touched.

use super::guard::{keep_message, no_such_message, writer};
use super::reactions::visible_message;
use super::removed::Placed;
use crate::access;
use crate::identity;
use crate::limits;
use crate::moderation::{self, Act};
use crate::pg::error::{OrRaise, Result};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use pgrx::Uuid;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::*;

thread_local! {
    static FLAG: Plan = const { Plan::writing(
        c"insert into public.live_stream_flagged_messages (message_id, session_id)
          select a.message_id, a.session_id from unnest($1, $2) as a (message_id, session_id)
           order by a.message_id
          on conflict do nothing",
        &[pg_sys::UUIDARRAYOID, pg_sys::UUIDARRAYOID],
    ) };
    static CLEAR: Plan = const { Plan::writing(
        c"delete from public.live_stream_flagged_messages where message_id = any ($1)
          returning message_id",
        &[pg_sys::UUIDARRAYOID],
    ) };
    static MOVE: Plan = const { Plan::writing(
        c"update public.live_stream_flagged_messages f set session_id = a.session_id
            from unnest($1, $2) as a (message_id, session_id)
           where f.message_id = a.message_id",
        &[pg_sys::UUIDARRAYOID, pg_sys::UUIDARRAYOID],
    ) };
}

/// A message whose flag is to be cleared.
pub struct Cleared {
    pub message: Uuid,
    pub session: Uuid,
    pub author: Option<Uuid>,
}

/// Flags messages; those that are flagged stay so.
pub fn set(messages: Vec<Placed>) -> Result<()> {
    if messages.is_empty() {
        return Ok(());
    }
    let (ids, sessions): (Vec<Uuid>, Vec<Uuid>) = messages.into_iter().unzip();
    as_owner(|| plan::execute(&FLAG, &[ids.into(), sessions.into()]).map(drop))
}

/// Clears flags; returns the acts of those that were there.
pub fn clear(messages: Vec<Cleared>) -> Result<Vec<Act>> {
    if messages.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = messages.iter().map(|cleared| cleared.message).collect();
    let were_there: Vec<Uuid> = as_owner(|| {
        plan::run(&CLEAR, &[ids.into()], |rows| {
            Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
        })
    })?;
    let acts = messages
        .into_iter()
        .filter(|cleared| were_there.contains(&cleared.message));
    Ok(acts
        .map(|cleared| Act {
            action: "unflag_message",
            session: Some(cleared.session),
            user: cleared.author,
            message: Some(cleared.message),
            ..Act::default()
        })
        .collect())
}

/// Messages, and the sessions that they are in now.
pub fn moved(placed: &[DatumWithOid<'_>]) -> Result<()> {
    as_owner(|| plan::execute(&MOVE, placed).map(drop))
}

/// Asks the host and the moderators to look at a message; returns its id. Anybody signed in may who can see it.
///
/// Errors: 42501 without a user, or for a banned one; PT404 for no message that the caller can see.
#[pg_extern(volatile)]
fn flag_message(message_id: Option<Uuid>) -> Uuid {
    let flag = || {
        let user = match identity::is_service()? {
            true => None,
            false => Some(writer()?),
        };
        let message = visible_message(message_id)?;
        access::check_not_banned(message.influencer)?;
        if let Some(user) = user {
            access::check_account_to_write(message.influencer)?;
            limits::spend(user, limits::Kind::Flag)?;
        }
        if !keep_message(message.session, message.id)? {
            return Err(no_such_message(message.id));
        }
        set(vec![(message.id, message.session)])?;
        Ok(message.id)
    };
    flag().or_raise()
}

/// Clears the flag of a message; returns its id.
///
/// Errors: 42501 unless the caller hosts or moderates its session, or is the server; PT404 for no message that the caller
/// can see.
#[pg_extern(volatile)]
fn clear_flag(message_id: Option<Uuid>) -> Uuid {
    let clear_flag = || {
        if !identity::is_service()? {
            identity::signed_in("clear a flag")?;
        }
        let message = visible_message(message_id)?;
        access::check_moderated(message.influencer)?;
        moderation::note(clear(vec![Cleared {
            message: message.id,
            session: message.session,
            author: message.author,
        }])?)?;
        Ok(message.id)
    };
    clear_flag().or_raise()
}
