//! Who may see a session whose id is known. For a whole table, the policy `live_stream_sessions_select` in
//! `sql/sessions.sql` says the same in sets.

use super::bans::{ban_of, in_force};
use super::parts::is_guest;
use super::{BANS, ids_of_caller, is_empty, is_moderator, owns};
use crate::identity;
use crate::metrics::entry::no_such_session;
use crate::pg::error::{OrRaise, Result};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, sql};
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;

thread_local! {
    static LET_IN: Plan = const { Plan::reading(
        sql!("select s.id
            from (select session_id, false as is_guest
                    from public.live_stream_viewers where user_id = $1
                  union
                  select session_id, true from public.live_stream_guests where user_id = $1) o
            join public.live_stream_sessions s on s.id = o.session_id
           where (s.visibility = 'unlisted' or s.visibility = 'private' and o.is_guest)
             and not exists (select from public.live_stream_bans b
                              where b.influencer_id = s.influencer_id and b.user_id = $1
                                and ", in_force!(), ")"),
        &[pg_sys::UUIDOID],
    ) };
    static SESSION: Plan = const { Plan::writing(
        c"select influencer_id, visibility::text from public.live_stream_sessions where id = $1",
        &[pg_sys::UUIDOID],
    ) };
}

/// Whether the caller may see a session of this influencer and visibility, whose id it knows.
pub fn sees(session: Uuid, influencer: Uuid, visibility: &str) -> Result<bool> {
    Ok(visibility == "public"
        || identity::is_service()?
        || sees_as_user(session, influencer, visibility)?)
}

/// As [`sees`], by who the request says is calling and not by the rights of the role: these are the
/// owner's own in a function that runs as the owner.
fn sees_as_user(session: Uuid, influencer: Uuid, visibility: &str) -> Result<bool> {
    let unlisted = visibility == "unlisted";
    if visibility == "public" || unlisted && is_empty(BANS)? || owns(influencer)? {
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

/// Whether the calling user may see a session of this influencer and visibility, whose id it knows; also
/// in a function that runs with the rights of the tables' owner. It looks for bans as they are at this moment,
/// which a parallel query cannot.
#[pg_extern(stable)]
fn user_sees_session(
    session_id: Option<Uuid>,
    influencer_id: Option<Uuid>,
    visibility: Option<&str>,
) -> bool {
    let (Some(session), Some(influencer), Some(visibility)) =
        (session_id, influencer_id, visibility)
    else {
        return false;
    };
    sees_as_user(session, influencer, visibility).or_raise()
}

/// The sessions that are not public and that the calling user has been let in to: private ones as
/// a guest, unlisted ones as a guest or viewer; but for those of influencers who ban the user.
#[pg_extern(stable, parallel_safe)]
fn guest_session_ids() -> Vec<Uuid> {
    ids_of_caller(&LET_IN).or_raise()
}
