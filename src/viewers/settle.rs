//! What a statement on viewers changes in the numbers of their sessions.

use crate::access;
use crate::metrics::entry;
use crate::metrics::{self, Delta};
use crate::pg::clock;
use crate::pg::error::Result;
use crate::pg::plan::{self, Plan};
use crate::pg::row::{Column, Row};
use crate::pg::transition;
use crate::pg::transition::Changes;
use crate::pg::trigger::Outcome;
use crate::viewers::people;
use pgrx::Uuid;
use pgrx::prelude::*;
use std::collections::BTreeMap;

pub struct Columns {
    pub id: Column<Uuid>,
    session_id: Column<Uuid>,
    user_id: Column<Uuid>,
    is_still_watching: Column<bool>,
    counted_since: Column<TimestampWithTimeZone>,
    counted_until: Column<TimestampWithTimeZone>,
    watch_duration_seconds: Column<i32>,
    shares_sent: Column<i32>,
    disconnections_count: Column<i32>,
    buffering_events: Column<i32>,
    buffering_time_seconds: Column<i32>,
}

impl Columns {
    fn find(changes: &Changes<'_>) -> Result<Self> {
        Ok(Self {
            id: changes.column::<Uuid>("id")?,
            session_id: changes.column::<Uuid>("session_id")?,
            user_id: changes.column::<Uuid>("user_id")?,
            is_still_watching: changes.column::<bool>("is_still_watching")?,
            counted_since: changes.column::<TimestampWithTimeZone>("counted_since")?,
            counted_until: changes.column::<TimestampWithTimeZone>("counted_until")?,
            watch_duration_seconds: changes.column::<i32>("watch_duration_seconds")?,
            shares_sent: changes.column::<i32>("shares_sent")?,
            disconnections_count: changes.column::<i32>("disconnections_count")?,
            buffering_events: changes.column::<i32>("buffering_events")?,
            buffering_time_seconds: changes.column::<i32>("buffering_time_seconds")?,
        })
    }

    fn watches(&self, row: &Row<'_>) -> bool {
        row.at(self.is_still_watching).unwrap_or(false)
    }
}

/// What a statement changed of one session.
#[derive(Default)]
struct Change {
    delta: Delta,
    /// Rows that a user gained (or lost, below 0).
    people: BTreeMap<Uuid, i64>,
    /// A row that the peak was counted from is no longer there.
    peak_in_doubt: bool,
}

impl Change {
    /// A row that is the session's, and was not (1), or was, and is not (-1).
    fn row(&mut self, row: &Row<'_>, columns: &Columns, sign: i64) {
        self.numbers(row, columns, sign);
        if columns.watches(row) {
            self.viewer(row, columns, sign);
        }
        self.peak_in_doubt |= sign < 0 && row.at(columns.counted_since).is_some();
    }

    fn numbers(&mut self, row: &Row<'_>, columns: &Columns, sign: i64) {
        let number = |column| i64::from(row.at(column).unwrap_or(0)) * sign;
        self.delta.watch_seconds += number(columns.watch_duration_seconds);
        self.delta.shares += number(columns.shares_sent);
        self.delta.disconnections += number(columns.disconnections_count);
        self.delta.buffering_events += number(columns.buffering_events);
        self.delta.buffering_seconds += number(columns.buffering_time_seconds);
        match row.at(columns.user_id) {
            Some(user) => *self.people.entry(user).or_default() += sign,
            None => self.delta.unique_viewers += sign,
        }
    }

    /// A viewer comes, or goes.
    fn viewer(&mut self, row: &Row<'_>, columns: &Columns, sign: i64) {
        let column = if columns.watches(row) && sign > 0 {
            columns.counted_since
        } else {
            columns.counted_until
        };
        let at: Option<TimestampWithTimeZone> = row.at(column);
        self.delta
            .viewer(sign, at.map_or_else(clock::tick, i64::from));
    }
}

/// AFTER INSERT, UPDATE or DELETE of a statement.
#[pg_trigger]
fn viewers_settle<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    transition::after(trigger, |changes| {
        if metrics::is_archiving() {
            return Ok(());
        }
        people::end();
        let columns = Columns::find(&changes)?;
        let is_own_request = !metrics::is_settling() && !access::is_exempt()?;
        let mut sessions: BTreeMap<Uuid, Change> = BTreeMap::new();
        let id = |row: &Row<'_>| row.at(columns.session_id);
        changes.for_each(|old, new| {
            let session = new.and_then(id);
            let watched = old.is_some_and(|row| columns.watches(row));
            let watches = new.is_some_and(|row| columns.watches(row));
            match (old, new, session) {
                (Some(old), Some(new), Some(session)) if id(old) == Some(session) => {
                    let change = sessions.entry(session).or_default();
                    change.numbers(old, &columns, -1);
                    change.numbers(new, &columns, 1);
                    if watched != watches {
                        change.viewer(new, &columns, if watches { 1 } else { -1 });
                        people::counts(new, &columns, session, watches);
                    }
                }
                _ => {
                    for (row, sign) in [(old, -1), (new, 1)] {
                        if let Some((row, id)) = row.and_then(|row| Some((row, id(row)?))) {
                            sessions.entry(id).or_default().row(row, &columns, sign);
                            if sign > 0 && watches {
                                people::counts(row, &columns, id, true);
                            }
                        }
                    }
                }
            }
            if let Some((new, session)) = new.zip(session)
                && is_own_request
                && watches
            {
                match (new.at(columns.user_id), new.at(columns.id)) {
                    (user, Some(viewer)) if watched => people::stays(viewer, user),
                    (user, _) => people::comes(session, user),
                }
            }
            Ok(())
        })?;
        for (session, mut change) in sessions {
            for (&user, &rows) in change.people.iter().filter(|(_, rows)| **rows != 0) {
                if metrics::collects(session) {
                    change.delta.unique_viewers += people::gained_now(session, user, rows)?;
                } else {
                    people::gains_or_loses(session, user, rows)?;
                }
            }
            metrics::apply(session, change.delta);
            if change.delta.peak > 0 {
                entry::check_places(session, change.delta.peak)?;
            }
            let comes_or_goes = change.delta.viewers != 0 || change.delta.peak != 0;
            if change.peak_in_doubt || comes_or_goes && people::are_out_of_order() {
                metrics::peak::doubt(session);
            }
        }
        Ok(())
    })
}

/// AFTER TRUNCATE: as if every row had been deleted.
#[pg_trigger]
fn viewers_truncated<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    transition::truncate(trigger, || {
        metrics::flush_for_truncate()?;
        metrics::settling(|| plan::execute(&WITHOUT_VIEWERS, &[]).map(drop))
    })
}

thread_local! {
    static WITHOUT_VIEWERS: Plan = const { Plan::writing(
        c"update public.live_stream_sessions s
             set current_viewers = 0, peak_viewers = coalesce(a.peak_viewers, 0),
                 total_unique_viewers = coalesce(a.total_unique_viewers, 0),
                 total_watch_time_seconds = coalesce(a.total_watch_time_seconds, 0),
                 connection_issues_count = coalesce(a.connection_issues_count, 0),
                 buffering_events = coalesce(a.buffering_events, 0),
                 total_buffering_time_seconds = coalesce(a.total_buffering_time_seconds, 0),
                 total_shares = of_products.shares + coalesce(a.total_shares, 0)
            from (select o.id, coalesce(sum(p.shares), 0) as shares
                    from public.live_stream_sessions o
                    left join public.live_stream_products p on p.session_id = o.id
                   group by o.id) as of_products
            left join public.live_stream_archive a on a.session_id = of_products.id
           where of_products.id = s.id
             and (s.total_unique_viewers > 0 or s.total_shares <> of_products.shares)",
        &[],
    ) };
}
