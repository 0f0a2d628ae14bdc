//! Counting who shares a session.

use super::acting_viewer::{act_for, own_viewer};
use crate::metrics;
use crate::metrics::entry;
use crate::pg::error::OrRaise;
use crate::pg::plan::{self, Plan};
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;

thread_local! {
    static SHARE: Plan = const { Plan::writing(
        c"update public.live_stream_viewers set shares_sent = shares_sent + 1 where id = $1",
        &[pg_sys::UUIDOID],
    ) };
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
