//! The hot sessions, which the worker folds at the moment: `live_stream.metric_sessions`.

use crate::pg::error::Result;
use crate::pg::heap::Table;
use crate::pg::plan::{self, Plan};
use pgrx::Uuid;
use pgrx::pg_sys;

use super::settling;

thread_local! {
    static NOTE: Plan = const { Plan::writing(
        c"insert into live_stream.metric_sessions as s
            (session_id, doubtful, folds, changes)
          values ($1, $2, 1, $3)
          on conflict (session_id) do update
            set doubtful = s.doubtful or $2, folded_at = clock_timestamp(), folds = s.folds + 1,
                changes = s.changes + $3",
        &[pg_sys::UUIDOID, pg_sys::BOOLOID, pg_sys::INT8OID],
    ) };
    static FORGET: Plan = const { Plan::writing(
        c"delete from live_stream.metric_sessions where session_id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static KNOWN: Plan = const { Plan::writing(
        c"select session_id, doubtful from live_stream.metric_sessions",
        &[],
    ) };
}

/// Notes a fold.
pub fn note(session: Uuid, doubtful: bool, changes: usize) -> Result<()> {
    let args = [session.into(), doubtful.into(), (changes as i64).into()];
    settling(|| plan::execute(&NOTE, &args).map(drop))
}

pub fn forget(session: Uuid) -> Result<()> {
    settling(|| plan::execute(&FORGET, &[session.into()]).map(drop))
}

/// Whether the worker has noted that the peak of a session must be counted from the rows.
pub fn is_doubtful(session: Uuid) -> Result<bool> {
    let mut doubtful = None;
    Table::read(c"live_stream", c"metric_sessions")?.find(
        c"live_stream",
        c"metric_sessions_pkey",
        &[("session_id", session)],
        |row| {
            doubtful = row.get("doubtful")?;
            Ok(false)
        },
    )?;
    Ok(doubtful == Some(true))
}

/// True when there is no hot session, and no trace of one: no page.
pub fn is_empty() -> Result<bool> {
    Ok(Table::read(c"live_stream", c"metric_sessions")?.pages() == 0)
}

/// The sessions that a worker before this one has left, with whether their peak is in doubt.
pub fn left_over() -> Result<Vec<(Uuid, bool)>> {
    settling(|| {
        plan::run(&KNOWN, &[], |rows| {
            Ok((0..rows.len())
                .filter_map(|row| Some((rows.get(row, 0)?, rows.get::<bool>(row, 1)?)))
                .collect())
        })
    })
}
