//! What a statement on viewers changes in the numbers of their sessions.

use crate::access;
use crate::identity;
use crate::limits;
use crate::metrics::entry;
use crate::metrics::{self, Delta};
use crate::pg::clock;
use crate::pg::error::Result;
use crate::pg::heap::Table;
use crate::pg::lock::{Lock, Mode, person_slot};
use crate::pg::plan::{self, Plan};
use crate::pg::row::{Column, Row};
use crate::pg::transition;
use crate::pg::transition::Changes;
use crate::pg::trigger::Outcome;
use crate::viewers::people;
use pgrx::Uuid;
use pgrx::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

struct Columns {
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
    /// Users who come to watch.
    newcomers: BTreeSet<Uuid>,
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
        if sign > 0
            && let Some(user) = row.at(columns.user_id)
        {
            self.newcomers.insert(user);
        }
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
        people::settle();
        let columns = Columns::find(&changes)?;
        let mut sessions: BTreeMap<Uuid, Change> = BTreeMap::new();
        let id = |row: &Row<'_>| row.at(columns.session_id);
        changes.for_each(|old, new| {
            let session = new.and_then(id);
            match (old, new, session) {
                (Some(old), Some(new), Some(session)) if id(old) == Some(session) => {
                    let change = sessions.entry(session).or_default();
                    change.numbers(old, &columns, -1);
                    change.numbers(new, &columns, 1);
                    match (columns.watches(old), columns.watches(new)) {
                        (true, false) => change.viewer(new, &columns, -1),
                        (false, true) => change.viewer(new, &columns, 1),
                        _ => {}
                    }
                }
                _ => {
                    for (row, sign) in [(old, -1), (new, 1)] {
                        if let Some((row, id)) = row.and_then(|row| Some((row, id(row)?))) {
                            sessions.entry(id).or_default().row(row, &columns, sign);
                        }
                    }
                }
            }
            Ok(())
        })?;
        for change in sessions.values_mut() {
            change.people.retain(|_, rows| *rows != 0);
        }
        if sessions.len() > 1 {
            hold_in_order(&sessions)?;
        }
        for (session, change) in &mut sessions {
            let session = *session;
            if !change.people.is_empty() {
                // In the order in which a join takes them. A session that is deleted takes its
                // rows along, and nobody is held up for them.
                if entry::write_path(session)?.is_none() {
                    entry::check_gone()?;
                    continue;
                }
                change.delta.unique_viewers += new_people(session, &change.people)?;
            }
            if !change.newcomers.is_empty() {
                access::admit_again(session, &change.newcomers)?;
            }
            metrics::apply(session, change.delta)?;
            let comes_or_goes = change.delta.viewers != 0 || change.delta.peak != 0;
            if change.peak_in_doubt || comes_or_goes && people::are_out_of_order() {
                metrics::peak::doubt(session)?;
            }
        }
        Ok(())
    })
}

/// For a statement on several sessions: all of them before any person, both from the lowest up.
fn hold_in_order(sessions: &BTreeMap<Uuid, Change>) -> Result<()> {
    let mut slots = BTreeSet::new();
    for (session, change) in sessions {
        let changes =
            !(change.people.is_empty() && change.newcomers.is_empty() && change.delta.is_nothing());
        if changes && entry::write_path(*session)?.is_some() {
            let users = change.people.keys().chain(&change.newcomers);
            slots.extend(users.map(|user| person_slot(*user)));
        }
    }
    for slot in slots {
        Lock::Person(slot).wait(Mode::Alone);
    }
    Ok(())
}

/// AFTER TRUNCATE: as if every row had been deleted.
#[pg_trigger]
fn viewers_truncated<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    transition::truncate(trigger, || {
        people::forget();
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

/// How many people a session gained: those who have rows now and had none. Until the
/// transaction ends, no other one counts the same people.
fn new_people(session: Uuid, people: &BTreeMap<Uuid, i64>) -> Result<i64> {
    let slots: BTreeSet<u64> = people.keys().map(|user| person_slot(*user)).collect();
    for slot in slots {
        Lock::Person(slot).wait(Mode::Alone);
    }
    let viewers = Table::read(c"public", c"live_stream_viewers")?;
    let mut gained = 0;
    for (user, &change) in people {
        let user = *user;
        let index = c"live_stream_viewers_session_id_user_id_idx";
        let ids = [("session_id", session), ("user_id", user)];
        let enough = change.max(0) + 1;
        let now = viewers.count(c"public", index, &ids, enough)?;
        if change > 0 && now > 1 && !identity::is_service()? {
            limits::check_joined(session, user)?;
        }
        gained += people::gained(session, user, now, change, || {
            viewers.others_see(c"public", index, &ids)
        })?;
    }
    Ok(gained)
}
