//! Joining, being heard of, leaving, and being closed when not heard of any more.

use super::acting_viewer::act_for;
use super::guard::{kind, reserve};
use crate::access;
use crate::identity;
use crate::identity::address;
use crate::limits;
use crate::metrics::entry;
use crate::metrics::entry::no_such_session;
use crate::metrics::{self, Delta};
use crate::pg::async_commit;
use crate::pg::catalog::relation_id;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::heap::Table;
use crate::pg::keep::{self, Kept, Wait};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::sessions;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

static VIEWER_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(60);

pub fn define_settings() {
    GucRegistry::define_int_guc(
        c"live_stream.viewer_timeout",
        c"How long a viewer may be silent before live_stream.expire_viewers() closes it.",
        c"A viewer is heard of when it joins and with each live_stream_heartbeat.",
        &VIEWER_TIMEOUT,
        1,
        24 * 3600,
        GucContext::Userset,
        GucFlags::UNIT_S,
    );
}

thread_local! {
    static ROW_OF_USER: Plan = const { Plan::writing(
        c"select id, is_still_watching from public.live_stream_viewers
           where session_id = $1 and user_id = $2
           order by is_still_watching desc, joined_at desc limit 1",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
    // Locked, so that the row is still there when it is returned.
    static RETURN_OF_USER: Plan = const { Plan::writing(
        c"select id, is_still_watching from public.live_stream_viewers
           where session_id = $1 and user_id = $2
           order by is_still_watching desc, joined_at desc limit 1 for key share",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
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
    static VIEWER: Plan = const { Plan::writing(
        c"select session_id, user_id, is_still_watching,
                 user_id is null and viewer_type = 'anonymous'
            from public.live_stream_viewers where id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static TOUCH: Plan = const { Plan::writing(
        c"update public.live_stream_heartbeats set seen_at = now() where viewer_id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static FIRST_TOUCH: Plan = const { Plan::writing(
        c"insert into public.live_stream_heartbeats (viewer_id, seen_at) values ($1, now())
          on conflict (viewer_id) do update set seen_at = excluded.seen_at",
        &[pg_sys::UUIDOID],
    ) };
    static SHARE: Plan = const { Plan::writing(
        c"update public.live_stream_viewers set shares_sent = shares_sent + 1 where id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static SESSIONS_WITH_SILENT: Plan = const { Plan::writing(
        c"select v.session_id
            from public.live_stream_viewers v
            left join public.live_stream_heartbeats h on h.viewer_id = v.id
           where v.is_still_watching
             and greatest(v.watching_since, h.seen_at) < now() - make_interval(secs => $1)
           group by v.session_id order by v.session_id",
        &[pg_sys::INT4OID],
    ) };
    static CLOSE_SILENT: Plan = const { Plan::writing(
        c"update public.live_stream_viewers v
             set is_still_watching = false,
                 left_at = greatest(v.watching_since,
                                    (select h.seen_at from public.live_stream_heartbeats h
                                      where h.viewer_id = v.id))
           where v.session_id = $1 and v.is_still_watching
             and greatest(v.watching_since,
                          (select h.seen_at from public.live_stream_heartbeats h
                            where h.viewer_id = v.id)) < now() - make_interval(secs => $2)",
        &[pg_sys::UUIDOID, pg_sys::INT4OID],
    ) };
    static CLOSE_USER: Plan = const { Plan::writing(
        c"update public.live_stream_viewers v
             set is_still_watching = false,
                 left_at = greatest(v.watching_since,
                                    coalesce((select h.seen_at
                                                from public.live_stream_heartbeats h
                                               where h.viewer_id = v.id
                                                 and h.seen_at < now() - make_interval(secs => $3)),
                                             now()))
           where v.session_id = $1 and v.user_id = $2 and v.is_still_watching",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::INT4OID],
    ) };
    static CLOSE_ALL: Plan = const { Plan::writing(
        c"update public.live_stream_viewers v
             set is_still_watching = false,
                 left_at = greatest(v.watching_since,
                                    coalesce((select h.seen_at
                                                from public.live_stream_heartbeats h
                                               where h.viewer_id = v.id
                                                 and h.seen_at < $2 - make_interval(secs => $3)),
                                             $2))
           where v.session_id = $1 and v.is_still_watching",
        &[pg_sys::UUIDOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT4OID],
    ) };
}

/// Makes the caller a viewer of a session, given by id or by code, and returns the id of its
/// row: the one it has there already, opened again if it was closed, or a new one. `viewer_id`
/// is the row that an anonymous caller had before.
///
/// Errors: PT404 for no session that the caller may join; 42501 where it is banned; PT409 for one
/// that is finished or full.
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
        for (name, text, max) in [
            ("device_type", device_type, 50),
            ("browser", browser, 100),
            ("user_agent", user_agent, 1_000),
            ("country", country, 100),
            ("city", city, 100),
        ] {
            check_length(name, text, max)?;
        }
        let by_code = session_id.is_none();
        let entered = reserve(session).map_err(|error| match error.is_not_found() {
            // Who has a code alone is not told the id that it belongs to, nor that there is one.
            true if by_code => no_such_code(),
            _ => error,
        })?;
        let user = identity::user_id()?;
        let found = match (user, viewer_id.or_else(identity::viewer_id)) {
            (Some(user), _) => find(&RETURN_OF_USER, session, user)?,
            (None, Some(viewer)) => find(&RETURN_OF_ANONYMOUS, session, viewer)?,
            (None, None) => None,
        };
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
                if user.is_none() {
                    limits::check_anonymous_join(session)?;
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
                    address::of_request()?.into(),
                ];
                access::as_joiner(|| plan::run(&INSERT, &args, |rows| Ok(rows.get(0, 0))))?
                    .ok_or_else(|| no_such_session(session))?
            }
        };
        act_for(id)
    };
    join().or_raise()
}

/// As the table's columns, which would name no argument, and show the whole row in the error.
fn check_length(name: &str, text: Option<&str>, max: usize) -> Result<()> {
    match text.map_or(0, |text| text.chars().count()) {
        chars if chars <= max => Ok(()),
        chars => Err(Error::new(
            SqlState::CHECK_VIOLATION,
            format!("{name} of the viewer is too long"),
        )
        .detail(format!("It has {chars} characters."))
        .hint(format!("Send {max} characters at most, or leave it out."))),
    }
}

fn session_by_code(typed: &str) -> Result<Uuid> {
    sessions::session_with(typed)?.ok_or_else(no_such_code)
}

fn no_such_code() -> Error {
    Error::new(SqlState::NOT_FOUND, "no session has this code")
        .detail("Or it is private, and the caller may not see it.")
        .hint("Type the code again, or ask the host for it.")
}

fn find(
    plan: &'static std::thread::LocalKey<Plan>,
    session: Uuid,
    who: Uuid,
) -> Result<Option<(Uuid, bool)>> {
    as_owner(|| {
        plan::run(plan, &[session.into(), who.into()], |rows| {
            Ok(rows.get(0, 0).zip(rows.get(0, 1)))
        })
    })
}

/// The row of a user in a session, the open one first.
pub fn viewer_of(session: Uuid, user: Uuid) -> Result<Option<Uuid>> {
    Ok(find(&ROW_OF_USER, session, user)?.map(|(id, _)| id))
}

/// As [`viewer_of`], for a row that is about to refer to it: it is not deleted before that.
pub fn kept_viewer_of(session: Uuid, user: Uuid) -> Result<Option<Uuid>> {
    Ok(find(&RETURN_OF_USER, session, user)?.map(|(id, _)| id))
}

fn touch(viewer: Uuid) -> Result<()> {
    as_owner(|| {
        if plan::execute(&TOUCH, &[viewer.into()])? > 0 {
            return Ok(());
        }
        let viewers = Table::lock_rows(c"public", c"live_stream_viewers")?;
        let index = relation_id(c"public", c"live_stream_viewers_pkey");
        if keep::row(&viewers, index, viewer, Wait::Always)? != Kept::Yes {
            return Err(no_such_viewer(viewer));
        }
        plan::execute(&FIRST_TOUCH, &[viewer.into()]).map(drop)
    })
}

pub fn no_such_viewer(id: Uuid) -> Error {
    Error::new(SqlState::NOT_FOUND, format!("viewer {id} does not exist"))
        .detail("Or it is somebody else's.")
        .hint("Pass the id that joining returned.")
}

/// A viewer row that the caller may act for.
pub struct Own {
    pub id: Uuid,
    pub session: Uuid,
    pub watching: bool,
}

/// The row with this id, or the one that the request's header names: the caller's own, or an
/// anonymous one, whose id is its key.
pub fn own_viewer(viewer_id: Option<Uuid>) -> Result<Own> {
    let id = viewer_id.or_else(identity::viewer_id).ok_or_else(|| {
        Error::new(SqlState::INVALID_PARAMETER, "viewer_id must not be null")
            .hint("Pass the id that joining returned, or send it in the header x-viewer-id.")
    })?;
    let found = as_owner(|| {
        plan::run(&VIEWER, &[id.into()], |rows| {
            let own = rows.get(0, 0).zip(rows.get(0, 2));
            let own = own.map(|(session, watching)| Own {
                id,
                session,
                watching,
            });
            Ok(own.map(|own| (own, rows.get::<Uuid>(0, 1), rows.get(0, 3) == Some(true))))
        })
    })?;
    match found {
        // A row whose user is gone stays that user's: its id was never a secret.
        Some((own, user, anonymous))
            if anonymous
                || user.is_some() && user == identity::user_id()?
                || identity::is_service()? =>
        {
            Ok(own)
        }
        _ => Err(no_such_viewer(id)),
    }
}

/// Lets the rest of the transaction act for a viewer row that the caller may act for, with its
/// session entered; returns the id.
///
/// Errors: 22023 without an id; PT404 for no such row of the caller's.
#[pg_extern(volatile)]
fn act_as_viewer(viewer_id: Option<Uuid>) -> Uuid {
    let act = || {
        let own = own_viewer(viewer_id)?;
        entry::enter(own.session)?;
        act_for(own.id)
    };
    act().or_raise()
}

/// Notes that a viewer is still there, if it is, and returns its id. Touches one narrow row, and
/// does not wait for the disk if its transaction does nothing else: a crash of the server may
/// take away the heartbeats of the last moments, and the next ones come soon.
///
/// Errors: as `act_as_viewer`.
#[pg_extern(volatile)]
fn heartbeat(viewer_id: Option<Uuid>) -> Uuid {
    metrics::worker::look();
    let beat = || {
        let own = own_viewer(viewer_id)?;
        if own.watching {
            async_commit::writing(|| touch(own.id))?;
        }
        act_for(own.id)
    };
    beat().or_raise()
}

/// Counts that a viewer shared its session, and returns the viewer's id.
///
/// Errors: as `act_as_viewer`.
#[pg_extern(volatile)]
fn share_session(viewer_id: Option<Uuid>) -> Uuid {
    let share = || {
        let own = own_viewer(viewer_id)?;
        entry::enter(own.session)?;
        metrics::settling(|| plan::execute(&SHARE, &[own.id.into()]))?;
        act_for(own.id)
    };
    share().or_raise()
}

/// Closes the viewers that have not been heard of for `live_stream.viewer_timeout`, at the time
/// they were last heard of, and returns how many. For pg_cron, or any other timer.
///
/// Errors: 42501 unless the caller is service_role or has the rights of the tables' owner.
#[pg_extern(volatile)]
fn expire_viewers() -> i64 {
    let expire = || {
        if !identity::is_service()? {
            return Err(Error::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                "only the server may expire viewers",
            )
            .hint("Call it as service_role, or from pg_cron as the owner of the tables."));
        }
        metrics::worker::look();
        let timeout = VIEWER_TIMEOUT.get();
        as_owner(|| {
            let sessions: Vec<Uuid> =
                plan::run(&SESSIONS_WITH_SILENT, &[timeout.into()], |rows| {
                    Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
                })?;
            sessions.into_iter().try_fold(0, |closed, session| {
                entry::enter(session)?;
                let now = plan::execute(&CLOSE_SILENT, &[session.into(), timeout.into()])?;
                Ok(closed + now as i64)
            })
        })
    };
    expire().or_raise()
}

/// Closes every open viewer of a session that is ending: at `at`, or when it was last heard of
/// if it had fallen silent. The caller's trigger holds the session's row; it gets the numbers.
pub fn close_all(session: Uuid, at: TimestampWithTimeZone) -> Result<Delta> {
    metrics::collect(session, || {
        let args = [session.into(), at.into(), VIEWER_TIMEOUT.get().into()];
        as_owner(|| plan::execute(&CLOSE_ALL, &args).map(drop))
    })
}

/// Closes the open rows of a user in a session that this transaction has entered: now, or when
/// last heard of if it had fallen silent.
pub fn close_user(session: Uuid, user: Uuid) -> Result<()> {
    let args = [session.into(), user.into(), VIEWER_TIMEOUT.get().into()];
    as_owner(|| plan::execute(&CLOSE_USER, &args).map(drop))
}
