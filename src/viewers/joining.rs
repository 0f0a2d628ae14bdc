//! Joining a session: a new row, or the one that the person had there, opened again.

use super::acting_viewer::act_for;
use super::guard::{USER_AGENT_CHARS, kind, visitable};
use super::one_each;
use super::people;
use super::presence::touch;
use super::rows::{RETURN_OF_USER, find};
use crate::access;
use crate::identity;
use crate::identity::address;
use crate::limits;
use crate::metrics::entry::{self, no_such_session};
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::fits;
use crate::pg::lock::{Lock, Mode};
use crate::pg::plan::{self, Plan};
use crate::pg::row::check_length;
use crate::pg::transaction;
use crate::sessions;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;

thread_local! {
    static RETURN_OF_ANONYMOUS: Plan = const { Plan::writing(
        c"select id, is_still_watching from public.live_stream_viewers
           where session_id = $1 and id = $2 and user_id is null and viewer_type = 'anonymous'
             for key share",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
    static INSERT: Plan = const { Plan::writing(
        c"insert into public.live_stream_viewers
            (session_id, user_id, viewer_type, device_type, browser, user_agent, country, city,
             ip_address)
          values ($1, $2, $3::public.live_stream_viewer_type, $4, $5, $6, $7, $8, $9)
          returning id",
        &[
            pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::TEXTOID,
            pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::INETOID,
        ],
    ) };
    static REOPEN: Plan = const { Plan::writing(
        c"update public.live_stream_viewers set is_still_watching = true where id = $1",
        &[pg_sys::UUIDOID],
    ) };
}

/// Makes the caller a viewer of a session, given by id or by code, and returns the id of its
/// row: the one it has there already, opened again if it was closed, or a new one. `viewer_id`
/// is the row that an anonymous caller had before.
///
/// Errors: PT404 for no session that the caller may join; 42501 where it is banned, or must sign in first; PT409 for
/// one that is finished or full.
#[pg_extern(volatile)]
#[allow(clippy::too_many_arguments)]
fn join_session(
    session_id: Option<Uuid>,
    session_code: Option<&str>,
    viewer_type: Option<&str>,
    device_type: Option<&str>,
    browser: Option<&str>,
    user_agent: Option<&str>,
    country: Option<&str>,
    city: Option<&str>,
    viewer_id: Option<Uuid>,
) -> Uuid {
    let join = || {
        let session = match (session_id, session_code) {
            (Some(id), _) => id,
            (None, Some(code)) => session_by_code(code)?,
            (None, None) => {
                return Err(
                    Error::new(SqlState::INVALID_PARAMETER, "no session to join")
                        .hint("Pass session_id or session_code."),
                );
            }
        };
        for (name, text) in [
            ("device_type", device_type),
            ("browser", browser),
            ("country", country),
            ("city", city),
        ] {
            fits::check_text("live_stream_viewers", name, text)?;
        }
        check_length("user_agent", "viewer", user_agent, USER_AGENT_CHARS)?;
        let by_code = session_id.is_none();
        let entered = visitable(session).map_err(|error| match error.is_not_found() {
            // Who has a code alone is not told the id that it belongs to, nor that there is one.
            true if by_code => no_such_code(),
            _ => error,
        })?;
        let user = identity::user_id()?;
        people::act()?;
        if let Some(user) = user {
            // The same person twice at once finds the row that it makes first.
            Lock::Joining(session, user).wait(Mode::Alone);
        }
        // Before the row that it had there: who deletes the session has it, and then wants its viewers.
        // A transaction that has written something may have a row of it already.
        let keep = if transaction::has_id() {
            entry::keep_or_fail
        } else {
            entry::keep
        };
        keep(session).map_err(|error| match error.is_not_found() {
            true if by_code => no_such_code(),
            _ => error,
        })?;
        let found = match user {
            Some(user) => find(&RETURN_OF_USER, session, user)?,
            None => find_anonymous(session, viewer_id.or_else(identity::viewer_id))?,
        };
        if !matches!(found, Some((_, true))) {
            access::check_signed_in(session, &entered)?;
        }
        let id = match found {
            Some((id, true)) => {
                touch(id)?;
                id
            }
            Some((id, false)) => {
                limits::check_return(session, user, id)?;
                access::as_joiner(|| plan::execute(&REOPEN, &[id.into()]))?;
                id
            }
            None => {
                let address = address::of_request()?;
                if user.is_none() {
                    limits::check_anonymous_join(session, entered.max_viewers, address.as_ref())?;
                }
                let args = [
                    session.into(),
                    user.into(),
                    kind(user, &entered, viewer_type)?.into(),
                    device_type.into(),
                    browser.into(),
                    user_agent.into(),
                    country.into(),
                    city.into(),
                    address.into(),
                ];
                let id =
                    access::as_joiner(|| plan::run(&INSERT, &args, |rows| Ok(rows.get(0, 0))))?
                        .ok_or_else(|| no_such_session(session))?;
                one_each::note_made(session, id);
                id
            }
        };
        act_for(id)
    };
    join().or_raise()
}

/// The row that an anonymous caller names, or the one that its request has made in this session: a request that calls the
/// function for each of a list makes one.
fn find_anonymous(session: Uuid, named: Option<Uuid>) -> Result<Option<(Uuid, bool)>> {
    for viewer in named.into_iter().chain(one_each::made(session)) {
        let found = find(&RETURN_OF_ANONYMOUS, session, viewer)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn session_by_code(typed: &str) -> Result<Uuid> {
    sessions::session_with(typed)?.ok_or_else(no_such_code)
}

fn no_such_code() -> Error {
    Error::new(SqlState::NOT_FOUND, "no session has this code")
        .detail("Or it is private, and the caller may not see it.")
        .hint("Type the code again, or ask the host for it.")
}
