//! Joining a session: a new row, or the one that the person had there, opened again.

use super::acting_viewer::act_in;
use super::guard::{kind, visitable, visited};
use super::one_each;
use super::people;
use super::presence::touch;
use super::rows::row_of_user;
use super::tabs::{self, Tabs};
use crate::access;
use crate::identity;
use crate::identity::address;
use crate::limits;
use crate::metrics::entry::{self, no_such_session};
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::lock::{Lock, Mode};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, sql};
use crate::pg::subtransaction::without_waiting;
use crate::pg::transaction;
use crate::sessions;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;

thread_local! {
    // Locked, so that what leaves in another tab at this moment is decided before: the row is as it is then.
    static RETURN_OF_USER: Plan = const { Plan::writing(
        sql!(row_of_user!("id, is_still_watching, tabs"), " for no key update"),
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
    static RETURN_OF_ANONYMOUS: Plan = const { Plan::writing(
        c"select id, is_still_watching, tabs from public.live_stream_viewers
           where session_id = $1 and id = $2 and user_id is null and viewer_type = 'anonymous'
             for no key update",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
    static INSERT: Plan = const { Plan::writing(
        c"insert into public.live_stream_viewers
            (session_id, user_id, viewer_type, device_type, browser, user_agent, country, city,
             ip_address, tabs)
          values ($1, $2, $3::public.live_stream_viewer_type, $4, $5, $6, $7, $8, $9, $10)
          returning id",
        &[
            pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::TEXTOID,
            pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::INETOID,
            pg_sys::UUIDARRAYOID,
        ],
    ) };
    static USER_WATCHES: Plan = const { Plan::writing(
        c"select from public.live_stream_viewers
           where session_id = $1 and user_id = $2 and is_still_watching limit 1",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
    static ANONYMOUS_WATCHES: Plan = const { Plan::writing(
        c"select from public.live_stream_viewers
           where session_id = $1 and id = $2 and is_still_watching
             and user_id is null and viewer_type = 'anonymous'",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
    static OPEN: Plan = const { Plan::writing(
        c"update public.live_stream_viewers set is_still_watching = true, tabs = $2 where id = $1",
        &[pg_sys::UUIDOID, pg_sys::UUIDARRAYOID],
    ) };
}

/// A row that the caller has in a session already.
struct Found {
    id: Uuid,
    watching: bool,
    tabs: Option<Tabs>,
}

/// Makes the caller a viewer of a session, given by id or by code, and returns the id of its
/// row: the one it has there already, opened again if it was closed, or a new one. `viewer_id`
/// is the row that an anonymous caller had before; `tab_id` the tab that joins. A row that is open has one tab more then, but
/// where it has that one.
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
    tab_id: default!(Option<Uuid>, "NULL"),
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
        let by_code = session_id.is_none();
        let user = identity::user_id()?;
        let viewer_id = viewer_id.or_else(identity::viewer_id);
        let entered = match visitable(session) {
            // Full, of this person too.
            Err(error) if error.is_conflict() && is_there(session, user, viewer_id)? => {
                visited(session)
            }
            entered => entered,
        };
        let entered = entered.map_err(|error| match error.is_not_found() {
            // Who has a code alone is not told the id that it belongs to, nor that there is one.
            true if by_code => no_such_code(),
            _ => error,
        })?;
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
            Some(user) => find_locked(&RETURN_OF_USER, session, user)?,
            None => find_anonymous(session, viewer_id)?,
        };
        if !found.as_ref().is_some_and(|found| found.watching) {
            access::check_signed_in(session, &entered)?;
        }
        let id = match found {
            Some(found) if found.watching => {
                // Where another request of the viewer's has its heartbeat just now, it is heard of by that; and in one
                // transaction that may go on to the viewer's row, which is locked here.
                without_waiting(|| touch(found.id))?;
                let tabs = tabs::with(found.tabs.clone(), tab_id);
                if tabs != found.tabs {
                    open(found.id, tabs)?;
                }
                found.id
            }
            Some(found) => {
                limits::check_return(session, user, found.id)?;
                open(found.id, tabs::first(tab_id))?;
                found.id
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
                    tabs::first(tab_id).into(),
                ];
                let insert = || plan::run(&INSERT, &args, |rows| Ok(rows.get(0, 0)));
                let id = access::as_joiner(|| tabs::writing(insert))?
                    .ok_or_else(|| no_such_session(session))?;
                one_each::note_made(session, id);
                id
            }
        };
        act_in(id, tab_id)
    };
    join().or_raise()
}

/// Whether a person watches a session already; of an anonymous one, as the row that it names.
fn is_there(session: Uuid, user: Option<Uuid>, viewer: Option<Uuid>) -> Result<bool> {
    let (plan, who) = match user {
        Some(user) => (&USER_WATCHES, Some(user)),
        None => (&ANONYMOUS_WATCHES, viewer),
    };
    let Some(who) = who else { return Ok(false) };
    Ok(as_owner(|| plan::execute(plan, &[session.into(), who.into()]))? > 0)
}

/// Lets a viewer watch in these tabs.
fn open(viewer: Uuid, tabs: Option<Tabs>) -> Result<()> {
    let args = [viewer.into(), tabs.into()];
    access::as_joiner(|| tabs::writing(|| plan::execute(&OPEN, &args))).map(drop)
}

fn find_locked(
    plan: &'static std::thread::LocalKey<Plan>,
    session: Uuid,
    who: Uuid,
) -> Result<Option<Found>> {
    as_owner(|| {
        plan::run(plan, &[session.into(), who.into()], |rows| {
            let found = rows.get(0, 0).zip(rows.get(0, 1));
            Ok(found.map(|(id, watching)| Found {
                id,
                watching,
                tabs: rows.get(0, 2),
            }))
        })
    })
}

/// The row that an anonymous caller names, or the one that its request has made in this session: a request that calls the
/// function for each of a list makes one.
fn find_anonymous(session: Uuid, named: Option<Uuid>) -> Result<Option<Found>> {
    for viewer in named.into_iter().chain(one_each::made(session)) {
        let found = find_locked(&RETURN_OF_ANONYMOUS, session, viewer)?;
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
