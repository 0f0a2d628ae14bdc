//! What a schedule says of its next session: its id, and whether followers were told or reminded of it.

use super::settling;
use crate::pg::error::Result;
use crate::pg::plan::{self, Plan};
use pgrx::Uuid;
use pgrx::pg_sys;

thread_local! {
    static HIDE: Plan = const { Plan::writing(
        c"update public.live_stream_schedule set created_session_id = null
           where created_session_id = $1 and visibility = 'public'",
        &[pg_sys::UUIDOID],
    ) };
    // Whoever changes a schedule has its row and then wants its sessions'. These two are called
    // with a session's row and do not wait for the schedule's; `NAME_NEXT` of `sessions.rs` makes up for it.
    static TOLD: Plan = const { Plan::writing(
        c"update public.live_stream_schedule set notification_sent = true
           where id in (select id from public.live_stream_schedule
                         where created_session_id = $1 and not notification_sent
                           for no key update skip locked)",
        &[pg_sys::UUIDOID],
    ) };
    static REMINDED: Plan = const { Plan::writing(
        c"update public.live_stream_schedule set reminder_sent = true
           where id in (select id from public.live_stream_schedule
                         where created_session_id = any ($1) and not reminder_sent
                           for no key update skip locked)",
        &[pg_sys::UUIDARRAYOID],
    ) };
}

/// Public schedules do not name a session that is not public: its id would open it.
pub fn hide_session(session: Uuid) -> Result<()> {
    settling(|| plan::execute(&HIDE, &[session.into()]).map(|_| ()))
}

/// The schedule whose next session this is says that followers were told of it.
pub fn mark_told(session: Uuid) -> Result<()> {
    settling(|| plan::execute(&TOLD, &[session.into()]).map(|_| ()))
}

/// The schedules whose next sessions these are say that followers were reminded.
pub fn mark_reminded(sessions: Vec<Uuid>) -> Result<()> {
    settling(|| plan::execute(&REMINDED, &[sessions.into()]).map(|_| ()))
}
