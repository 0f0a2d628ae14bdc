//! Being heard of, and being closed when not heard of any more.
//!
//! A viewer is heard of when it comes, or comes back, and with each heartbeat: the later of the two counts. Who has
//! not been heard of for `live_stream.viewer_timeout` is silent, and has watched until then. Say the timeout is
//! a minute, Ada comes back at 10:00 with a heartbeat of 9:00, and the session ends at 10:00:30: she has watched
//! for half a minute. Who never sends one, such as a client that only inserts its row, watches until the session
//! ends, but where a timer calls `live_stream.expire_viewers()`: that closes it as of when it came, as nothing was heard
//! of it since.

use super::acting_viewer::{act_for, no_such_viewer, own_viewer};
use crate::identity;
use crate::metrics::entry;
use crate::metrics::{self, Delta};
use crate::pg::async_commit;
use crate::pg::catalog::relation_id;
use crate::pg::error::{OrRaise, Result};
use crate::pg::heap::Table;
use crate::pg::keep::{self, Kept, Wait};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, sql};
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

/// When a viewer `v` with the heartbeat `h`, if there is one, was heard of last.
macro_rules! heard_of {
    () => {
        "greatest(v.watching_since, h.seen_at)"
    };
}

/// Until when a viewer `v` has watched who is closed at a moment, with a timeout in seconds.
macro_rules! watched_until {
    ($at:literal, $timeout:literal) => {
        concat!(
            "greatest(v.watching_since,
                      coalesce((select ",
            heard_of!(),
            " from public.live_stream_heartbeats h
                                 where h.viewer_id = v.id
                                   and ",
            heard_of!(),
            " < ",
            $at,
            " - make_interval(secs => ",
            $timeout,
            ")),
                               ",
            $at,
            "))"
        )
    };
}

thread_local! {
    static TOUCH: Plan = const { Plan::writing(
        c"update public.live_stream_heartbeats set seen_at = now() where viewer_id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static FIRST_TOUCH: Plan = const { Plan::writing(
        c"insert into public.live_stream_heartbeats (viewer_id, seen_at) values ($1, now())
          on conflict (viewer_id) do update set seen_at = excluded.seen_at",
        &[pg_sys::UUIDOID],
    ) };
    static SESSIONS_WITH_SILENT: Plan = const { Plan::writing(
        sql!(
            "select v.session_id
               from public.live_stream_viewers v
               left join public.live_stream_heartbeats h on h.viewer_id = v.id
              where v.is_still_watching and ", heard_of!(), " < now() - make_interval(secs => $1)
              group by v.session_id order by v.session_id"
        ),
        &[pg_sys::INT4OID],
    ) };
    static CLOSE_SILENT: Plan = const { Plan::writing(
        sql!(
            "update public.live_stream_viewers v
                set is_still_watching = false,
                    left_at = (select ", heard_of!(), " from (select) as one
                                 left join public.live_stream_heartbeats h on h.viewer_id = v.id)
              where v.session_id = $1 and v.is_still_watching
                and (select ", heard_of!(), " from (select) as one
                       left join public.live_stream_heartbeats h on h.viewer_id = v.id)
                    < now() - make_interval(secs => $2)"
        ),
        &[pg_sys::UUIDOID, pg_sys::INT4OID],
    ) };
    static CLOSE_USER: Plan = const { Plan::writing(
        sql!(
            "update public.live_stream_viewers v set is_still_watching = false, left_at = ",
            watched_until!("now()", "$3"),
            " where v.session_id = $1 and v.user_id = $2 and v.is_still_watching"
        ),
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::INT4OID],
    ) };
    static CLOSE_ROWS: Plan = const { Plan::writing(
        sql!(
            "update public.live_stream_viewers v set is_still_watching = false, left_at = ",
            watched_until!("now()", "$2"),
            " where v.id = any ($1) and v.is_still_watching"
        ),
        &[pg_sys::UUIDARRAYOID, pg_sys::INT4OID],
    ) };
    static CLOSE_ALL: Plan = const { Plan::writing(
        sql!(
            "update public.live_stream_viewers v set is_still_watching = false, left_at = ",
            watched_until!("$2", "$3"),
            " where v.session_id = $1 and v.is_still_watching"
        ),
        &[pg_sys::UUIDOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT4OID],
    ) };
}

pub(super) fn touch(viewer: Uuid) -> Result<()> {
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

/// Closes the viewers that have not been heard of for `live_stream.viewer_timeout`, at the time
/// they were last heard of, and returns how many. For pg_cron, or any other timer.
///
/// Errors: 42501 unless the caller is service_role or has the rights of the tables' owner.
#[pg_extern(volatile)]
fn expire_viewers() -> i64 {
    let expire = || {
        identity::require_service("expire viewers")?;
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

/// As [`close_user`], of rows that are given by their ids, whose sessions this transaction has entered.
pub fn close_rows(viewers: Vec<Uuid>) -> Result<()> {
    let args = [viewers.into(), VIEWER_TIMEOUT.get().into()];
    as_owner(|| plan::execute(&CLOSE_ROWS, &args).map(drop))
}
