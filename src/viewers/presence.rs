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
use crate::metrics;
use crate::metrics::entry;
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

/// How long a viewer may be silent, in seconds.
pub(super) fn timeout() -> i32 {
    VIEWER_TIMEOUT.get()
}

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
pub(super) use heard_of;

thread_local! {
    static TOUCH: Plan = const { Plan::writing(
        c"update public.live_stream_heartbeats set seen_at = now()
           where viewer_id = $1 and seen_at < now()",
        &[pg_sys::UUIDOID],
    ) };
    static IS_TOUCHED: Plan = const { Plan::writing(
        c"select from public.live_stream_heartbeats where viewer_id = $1",
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
              where v.ctid = any (array(
                select o.ctid from public.live_stream_viewers o
                 where o.session_id = $1 and o.is_still_watching
                   for no key update skip locked))
                and v.is_still_watching
                and (select ", heard_of!(), " from (select) as one
                       left join public.live_stream_heartbeats h on h.viewer_id = v.id)
                    < now() - make_interval(secs => $2)"
        ),
        &[pg_sys::UUIDOID, pg_sys::INT4OID],
    ) };
}

pub(super) fn touch(viewer: Uuid) -> Result<()> {
    as_owner(|| {
        // Once in a transaction: see `keep::again`.
        if plan::execute(&TOUCH, &[viewer.into()])? > 0
            || plan::execute(&IS_TOUCHED, &[viewer.into()])? > 0
        {
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
    let is_left = metrics::worker::look();
    let beat = || {
        let own = own_viewer(viewer_id)?;
        if is_left {
            metrics::settle::fold_at_end(Some(own.session))?;
        }
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
        if metrics::worker::see_to_left() {
            metrics::settle::fold_at_end(None)?;
        }
        let timeout = timeout();
        as_owner(|| {
            let sessions: Vec<Uuid> =
                plan::run(&SESSIONS_WITH_SILENT, &[timeout.into()], |rows| {
                    Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
                })?;
            sessions.into_iter().try_fold(0, |closed, session| {
                entry::enter(session)?;
                let silent = plan::execute(&CLOSE_SILENT, &[session.into(), timeout.into()])?;
                Ok(closed + silent as i64)
            })
        })
    };
    expire().or_raise()
}
