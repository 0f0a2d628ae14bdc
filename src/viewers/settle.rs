//! What a statement on viewers changes in the numbers of their sessions.

use crate::error::Result;
use crate::identity::as_owner;
use crate::metrics::{self, Delta};
use crate::plan::{self, Plan};
use crate::row::{self, Changes, Column, Outcome, Row};
use crate::sessions;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::collections::BTreeMap;

type Id = [u8; 16];

struct Columns {
    session_id: Column,
    user_id: Column,
    is_still_watching: Column,
    watch_duration_seconds: Column,
    shares_sent: Column,
    disconnections_count: Column,
    buffering_events: Column,
    buffering_time_seconds: Column,
}

impl Columns {
    fn find(changes: &Changes<'_>) -> Result<Self> {
        Ok(Self {
            session_id: changes.column::<Uuid>("session_id")?,
            user_id: changes.column::<Uuid>("user_id")?,
            is_still_watching: changes.column::<bool>("is_still_watching")?,
            watch_duration_seconds: changes.column::<i32>("watch_duration_seconds")?,
            shares_sent: changes.column::<i32>("shares_sent")?,
            disconnections_count: changes.column::<i32>("disconnections_count")?,
            buffering_events: changes.column::<i32>("buffering_events")?,
            buffering_time_seconds: changes.column::<i32>("buffering_time_seconds")?,
        })
    }
}

/// What a statement changed of one session.
#[derive(Default)]
struct Change {
    delta: Delta,
    /// Rows that a user gained (or lost, below 0).
    people: BTreeMap<Id, i64>,
}

impl Change {
    fn count(&mut self, row: &Row<'_>, columns: &Columns, sign: i64) {
        let number = |column| i64::from(row.at::<i32>(column).unwrap_or(0)) * sign;
        if row.at(columns.is_still_watching).unwrap_or(false) {
            self.delta.viewer(sign);
        }
        self.delta.watch_seconds += number(columns.watch_duration_seconds);
        self.delta.shares += number(columns.shares_sent);
        self.delta.disconnections += number(columns.disconnections_count);
        self.delta.buffering_events += number(columns.buffering_events);
        self.delta.buffering_seconds += number(columns.buffering_time_seconds);
        match row.at::<Uuid>(columns.user_id) {
            Some(user) => *self.people.entry(*user.as_bytes()).or_default() += sign,
            None => self.delta.unique_viewers += sign,
        }
    }
}

/// AFTER INSERT, UPDATE or DELETE of a statement.
#[pg_trigger]
fn viewers_settle<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    row::after(trigger, |changes| {
        let columns = Columns::find(&changes)?;
        let mut sessions: BTreeMap<Id, Change> = BTreeMap::new();
        changes.for_each(|old, new| {
            for (row, sign) in [(old, -1), (new, 1)] {
                if let Some((row, id)) =
                    row.and_then(|row| Some((row, row.at::<Uuid>(columns.session_id)?)))
                {
                    sessions
                        .entry(*id.as_bytes())
                        .or_default()
                        .count(row, &columns, sign);
                }
            }
            Ok(())
        })?;
        for (session, mut change) in sessions {
            let session = Uuid::from_bytes(session);
            change.people.retain(|_, rows| *rows != 0);
            if !change.people.is_empty() {
                // With the lock, no other transaction can add the same person meanwhile.
                sessions::lock(session)?;
                change.delta.unique_viewers += new_people(session, &change.people)?;
            }
            metrics::apply(session, change.delta)?;
        }
        Ok(())
    })
}

/// AFTER TRUNCATE: as if every row had been deleted.
#[pg_trigger]
fn viewers_truncated<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    row::truncate(trigger, || {
        metrics::settling(|| plan::execute(&WITHOUT_VIEWERS, &[]).map(drop))
    })
}

thread_local! {
    static WITHOUT_VIEWERS: Plan = const { Plan::writing(
        c"update public.live_stream_sessions s
             set current_viewers = 0, total_unique_viewers = 0, total_watch_time_seconds = 0,
                 connection_issues_count = 0, buffering_events = 0,
                 total_buffering_time_seconds = 0, total_shares = of_products.shares
            from (select o.id, coalesce(sum(p.shares), 0) as shares
                    from public.live_stream_sessions o
                    left join public.live_stream_products p on p.session_id = o.id
                   group by o.id) as of_products
           where of_products.id = s.id
             and (s.total_unique_viewers > 0 or s.total_shares <> of_products.shares)",
        &[],
    ) };
    static ROWS_OF_USER: Plan = const { Plan::writing(
        c"select count(*) from (
            select from public.live_stream_viewers
             where session_id = $1 and user_id = $2 limit $3) as rows",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::INT8OID],
    ) };
    static ROWS_OF_USERS: Plan = const { Plan::writing(
        c"select user_id, count(*) from public.live_stream_viewers
           where session_id = $1 and user_id = any ($2) group by user_id",
        &[pg_sys::UUIDOID, pg_sys::UUIDARRAYOID],
    ) };
}

/// How many people a session gained: those who have rows now and had none before.
fn new_people(session: Uuid, people: &BTreeMap<Id, i64>) -> Result<i64> {
    let gained = |now: i64, change: i64| i64::from(now > 0) - i64::from(now - change > 0);
    as_owner(|| {
        if let (1, Some((&user, &change))) = (people.len(), people.first_key_value()) {
            let enough = change.max(0) + 1;
            let args = [session.into(), Uuid::from_bytes(user).into(), enough.into()];
            return plan::run(&ROWS_OF_USER, &args, |rows| {
                Ok(gained(rows.get(0, 0).unwrap_or(0), change))
            });
        }
        let users: Vec<Uuid> = people.keys().copied().map(Uuid::from_bytes).collect();
        plan::run(&ROWS_OF_USERS, &[session.into(), users.into()], |rows| {
            let counts: BTreeMap<Id, i64> = (0..rows.len())
                .filter_map(|row| {
                    Some((
                        *rows.get::<Uuid>(row, 0)?.as_bytes(),
                        rows.get::<i64>(row, 1)?,
                    ))
                })
                .collect();
            Ok(people
                .iter()
                .map(|(user, &change)| gained(counts.get(user).copied().unwrap_or(0), change))
                .sum())
        })
    })
}
