//! What may be written to a viewer's row, and what the database decides itself.

use crate::access;
use crate::identity;
use crate::identity::address;
use crate::limits;
use crate::metrics;
use crate::metrics::entry;
use crate::metrics::entry::{Entered, no_such_session};
use crate::pg::clock;
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, sql};
use crate::pg::row::Row;
use crate::pg::row::{finite, required};
use crate::pg::trigger;
use crate::pg::trigger::Outcome;
use crate::pg::upsert;
use crate::viewers::{acting_viewer, one_each, people, saved_again, tabs};
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{Inet, Uuid};
use session::finished;

/// Kept by the engine for the viewer.
pub(super) const COUNTERS: &[&str] = &[
    "watch_duration_seconds",
    "watch_duration_minutes",
    "messages_sent",
    "reactions_sent",
    "shares_sent",
    "products_clicked",
    "orders_placed",
    "buffering_events",
];

/// From when to when the row counts as a current viewer.
pub(super) const COUNTED: &[&str] = &["counted_since", "counted_until", "counted_before"];

/// What says where a viewer is, and is taken away with the addresses.
const ADDRESSES: &[&str] = &["ip_address", "user_agent", "city"];

/// Bounds of what a viewer reports of its connection.
const MAX_BUFFERING_SECONDS: i32 = 7 * 24 * 3600;
const MAX_DISCONNECTIONS: i32 = 10_000;

/// What a client's programme says of itself, and how many characters of it are kept.
const TECHNICAL: [(&str, usize); 5] = [
    ("user_agent", 1_000),
    ("country", 100),
    ("city", 100),
    ("device_type", 50),
    ("browser", 100),
];

/// BEFORE INSERT OR UPDATE of a row.
#[pg_trigger]
fn viewers_guard<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::before_or_again(trigger, saved_again::guard, |old, new| {
        if metrics::is_settling() {
            return Ok(());
        }
        people::begin();
        cut_technical(new)?;
        match old {
            None => guard_insert(trigger, new),
            Some(old) => guard_update(trigger, old, new),
        }
    })
}

/// Cuts what is too long, and leaves out controls and what shows nothing: no person has written it, and none is kept out by it.
pub(super) fn cut_technical(new: &mut Row<'_>) -> Result<()> {
    for (column, most) in TECHNICAL {
        if new.is_null(column)? {
            continue;
        }
        let Some(sent) = new.get::<String>(column)? else {
            continue;
        };
        let kept: String = sent
            .chars()
            .filter(|c| !c.is_control())
            .take(most)
            .collect();
        if text::is_blank(&kept) {
            new.set::<String>(column, None)?;
        } else if kept != sent {
            new.set(column, Some(kept))?;
        }
    }
    Ok(())
}

/// BEFORE UPDATE of a statement.
#[pg_trigger]
fn viewers_begin_update<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    one_each::begin(trigger);
    upsert::begin(trigger);
    people::act().or_raise();
    Ok(None)
}

/// BEFORE DELETE of a statement.
#[pg_trigger]
fn viewers_begin_delete<'a>(_trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    people::begin();
    Ok(None)
}

/// The session, if the caller may join it now.
pub fn joinable(session: Uuid) -> Result<Entered> {
    let entered = visitable(session)?;
    access::check_signed_in(session, &entered)?;
    Ok(entered)
}

/// As [`joinable`], for one who may be there already: whether it must be signed in is not asked.
pub fn visitable(session: Uuid) -> Result<Entered> {
    check_visitable(session, entry::admit(session)?)
}

/// As [`visitable`], for one who is there: it needs no place.
pub fn visited(session: Uuid) -> Result<Entered> {
    check_visitable(session, entry::enter(session)?)
}

fn check_visitable(session: Uuid, entered: Option<Entered>) -> Result<Entered> {
    let entered = entered.ok_or_else(|| no_such_session(session))?;
    access::admit(session, &entered)?;
    entered.check_unfinished(session)?;
    Ok(entered)
}

/// A server may write down who watched a finished session, but nobody watches it now. Returns
/// whether the session is finished.
fn check_not_watching_finished(new: &Row<'_>) -> Result<bool> {
    let Some(session) = new.get::<Uuid>("session_id")? else {
        return Ok(false);
    };
    if new.get("is_still_watching")? != Some(true) {
        let entered = entry::enter(session)?.ok_or_else(|| no_such_session(session))?;
        return Ok(entered.status.is_finished());
    }
    let entered = entry::admit(session)?.ok_or_else(|| no_such_session(session))?;
    entered
        .check_unfinished(session)
        .map_err(|error| error.detail("Give left_at of a viewer who was there."))?;
    Ok(false)
}

fn guard_insert(trigger: &PgTrigger<'_>, new: &mut Row<'_>) -> Result<()> {
    let session: Uuid = required(new, "session_id")?;
    let service = identity::is_service()?;
    let now = transaction_time();
    if !service {
        one_each::make(trigger)?;
        let entered = joinable(session)?;
        let user = identity::user_id()?;
        claim(new, user)?;
        let address = address::of_request()?;
        if user.is_none() {
            limits::check_anonymous_join(session, entered.max_viewers, address.as_ref())?;
        }
        let kind = kind(user, &entered, new.label("viewer_type")?.as_deref())?;
        new.set_label("viewer_type", kind)?;
        new.set("created_at", Some(now))?;
        new.set("updated_at", Some(now))?;
        new.set("joined_at", Some(now))?;
        new.set::<TimestampWithTimeZone>("left_at", None)?;
        new.set("is_still_watching", Some(true))?;
        new.set("ip_address", address)?;
    } else {
        if !new.is_null("ip_address")? {
            new.set("ip_address", address::reduced(new.get("ip_address")?))?;
        }
        if new.is_null("user_id")? && new.label("viewer_type")?.as_deref() == Some("customer") {
            // As the default has it. Its id is the key to the row of an anonymous viewer alone.
            new.set_label("viewer_type", "anonymous")?;
        }
    }
    tabs::keep(None, new)?;
    new.set_zero(COUNTERS)?;
    new.set_zero(&["buffering_time_seconds", "disconnections_count"])?;
    times(None, new)?;
    let finished = service && check_not_watching_finished(new)?;
    entry::keep(session)?;
    if finished {
        note_addresses(None, new)?;
    }
    count(None, new)?;
    if service {
        return Ok(());
    }
    identity::set_viewer_id(&required(new, "id")?)
}

/// What the caller is in a session: `asked` counts only where anybody may say it of itself.
pub fn kind(user: Option<Uuid>, session: &Entered, asked: Option<&str>) -> Result<&'static str> {
    Ok(match (user, asked) {
        (None, _) => "anonymous",
        _ if access::owns(session.influencer)? => "influencer",
        (_, Some("wholesaler")) => "wholesaler",
        _ => "customer",
    })
}

/// A row is the caller's own: nobody joins as somebody else.
pub(super) fn claim(new: &mut Row<'_>, user: Option<Uuid>) -> Result<()> {
    match (user, new.get::<Uuid>("user_id")?) {
        (Some(user), None) => new.set("user_id", Some(user)),
        (user, claimed) if user == claimed => Ok(()),
        (user, Some(claimed)) => Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("the caller is not user {claimed}"),
        )
        .hint(match user {
            Some(_) => "Leave user_id out, or send the id of the signed-in user.",
            None => "Sign in, or send user_id null to join without an account.",
        })),
        (None, None) => Ok(()),
    }
}

fn guard_update(trigger: &PgTrigger<'_>, old: &Row<'_>, new: &mut Row<'_>) -> Result<()> {
    new.keep(old, &["id", "created_at"])?;
    new.keep(old, COUNTERS)?;
    tabs::keep(Some(old), new)?;
    new.set("updated_at", Some(transaction_time()))?;
    let service = identity::is_service()?;
    if !service {
        let session: Uuid = required(old, "session_id")?;
        check_session(old, new)?;
        if let Some(user) = old.get("user_id")?
            && people::has_several_rows(session, user)?
        {
            entry::keep_or_fail(session)?;
        }
        if !new.same::<Uuid>(old, "user_id")? {
            claim(new, identity::user_id()?)?;
        }
        new.keep(
            old,
            &[
                "user_id",
                "viewer_type",
                "joined_at",
                "watching_since",
                "ip_address",
            ],
        )?;
        if says_where_it_is(old, new)? && is_finished(session)? {
            // They may have been purged, and are not asked for again.
            new.keep(old, ADDRESSES)?;
        }
        let was_watching = old.get("is_still_watching")?.unwrap_or(false);
        let id: Uuid = required(old, "id")?;
        let watches = watches(Some(old), new)?
            || was_watching && tabs::stays(old, new, acting_viewer::tab_of(id))?;
        new.set("is_still_watching", Some(watches))?;
        new.keep(old, &["left_at"])?;
        if watches && !was_watching {
            one_each::bring_back(trigger)?;
            joinable(session)?;
            entry::keep_or_fail(session)?;
            limits::check_return(session, old.get("user_id")?, id)?;
        }
    } else {
        if !new.same::<Inet>(old, "ip_address")? {
            new.set("ip_address", address::reduced(new.get("ip_address")?))?;
        }
        note_addresses(Some(old), new)?;
    }
    report(old, new)?;
    times(Some(old), new)?;
    let comes = new.get("is_still_watching")? == Some(true)
        && !(new.same::<Uuid>(old, "session_id")? && new.same::<bool>(old, "is_still_watching")?);
    if service && comes {
        check_not_watching_finished(new)?;
    }
    count(Some(old), new)
}

pub(super) fn check_session(old: &Row<'_>, new: &Row<'_>) -> Result<()> {
    if new.same::<Uuid>(old, "session_id")? {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        "a viewer cannot be moved to another session",
    )
    .hint("Leave this session and join the other one."))
}

fn says_where_it_is(old: &Row<'_>, new: &Row<'_>) -> Result<bool> {
    Ok(!new.same::<String>(old, "user_agent")? || !new.same::<String>(old, "city")?)
}

thread_local! {
    static FINISHED: Plan = const { Plan::writing(
        sql!("select from public.live_stream_sessions
           where id = $1 and status in ", finished!()),
        &[pg_sys::UUIDOID],
    ) };
}

fn is_finished(session: Uuid) -> Result<bool> {
    Ok(as_owner(|| plan::execute(&FINISHED, &[session.into()]))? > 0)
}

/// A server has written an address, also of a session whose addresses were purged.
fn note_addresses(old: Option<&Row<'_>>, new: &Row<'_>) -> Result<()> {
    let mut holds = false;
    for column in ADDRESSES {
        holds |= !new.is_null(column)?;
    }
    let is_new = match old {
        None => true,
        Some(old) => {
            says_where_it_is(old, new)?
                || !new.same::<Inet>(old, "ip_address")?
                || !new.same::<Uuid>(old, "session_id")?
        }
    };
    match new.get("session_id")? {
        Some(session) if holds && is_new => super::ADDRESS_CAME.get()?(session),
        _ => Ok(()),
    }
}

/// From when to when the row counts as a current viewer, by the server's clock: what the peak
/// is counted from, whatever times a server writes into the others. The session is entered.
fn count(old: Option<&Row<'_>>, new: &mut Row<'_>) -> Result<()> {
    let time = |row: &Row<'_>, column| row.get::<TimestampWithTimeZone>(column);
    let old = match old {
        Some(old) if new.same::<Uuid>(old, "session_id")? => Some(old),
        _ => None,
    };
    let Some(old) = old else {
        let watches = new.get("is_still_watching")? == Some(true);
        new.set("counted_since", watches.then(clock::now).flatten())?;
        new.set::<TimestampWithTimeZone>("counted_until", None)?;
        return new.set::<Vec<TimestampWithTimeZone>>("counted_before", None);
    };
    new.keep(old, COUNTED)?;
    match (
        old.get("is_still_watching")? == Some(true),
        new.get("is_still_watching")? == Some(true),
    ) {
        (true, false) => {
            // Present before the clock is read, so that nobody who comes after believes to be alone.
            entry::enter(required(new, "session_id")?)?;
            new.set("counted_until", clock::now())
        }
        (false, true) => {
            let before: Option<Vec<Option<TimestampWithTimeZone>>> = old.get("counted_before")?;
            let mut before: Vec<_> = before.into_iter().flatten().flatten().collect();
            if let (Some(since), Some(until)) =
                (time(old, "counted_since")?, time(old, "counted_until")?)
            {
                before.extend([since, until]);
            }
            if !before.is_empty() {
                new.set("counted_before", Some(before))?;
            }
            new.set("counted_since", clock::now())?;
            new.set::<TimestampWithTimeZone>("counted_until", None)
        }
        _ => Ok(()),
    }
}

/// Whether somebody watches: to say when a viewer left is to say that it did.
pub(super) fn watches(old: Option<&Row<'_>>, new: &Row<'_>) -> Result<bool> {
    let was_watching = match old {
        Some(old) => old.get("is_still_watching")?.unwrap_or(false),
        None => true,
    };
    let says_so = new.get("is_still_watching")?.unwrap_or(was_watching);
    Ok(says_so && (!was_watching || new.is_null("left_at")?))
}

/// A viewer's own report of its connection: bounded, and never less than before.
pub(super) fn report(old: &Row<'_>, new: &mut Row<'_>) -> Result<()> {
    for (column, max, unit) in [
        ("buffering_time_seconds", MAX_BUFFERING_SECONDS, "seconds"),
        ("disconnections_count", MAX_DISCONNECTIONS, "disconnections"),
    ] {
        let before: i32 = old.get(column)?.unwrap_or(0);
        let after: i32 = new.get(column)?.unwrap_or(before);
        if !(before..=max.max(before)).contains(&after) {
            return Err(Error::new(
                SqlState::CHECK_VIOLATION,
                format!("{column} cannot be {after}"),
            )
            .detail(format!(
                "It only grows, from {before} to {max} {unit} at most."
            ))
            .hint("Report the total since the viewer joined."));
        }
        new.set(column, Some(after))?;
        if column == "buffering_time_seconds" && after > before {
            let events: i32 = old.get("buffering_events")?.unwrap_or(0);
            new.set("buffering_events", Some(events.saturating_add(1)))?;
        }
    }
    Ok(())
}

/// Whether somebody watches, since when, until when and for how long.
pub(super) fn times(old: Option<&Row<'_>>, new: &mut Row<'_>) -> Result<()> {
    let now = transaction_time();
    let time = |row: &Row<'_>, column| row.get::<TimestampWithTimeZone>(column);
    let joined: TimestampWithTimeZone = required(new, "joined_at")?;
    finite(new, "joined_at")?;
    finite(new, "left_at")?;
    let watches = watches(old, new)?;
    let watched = match old {
        None if watches => {
            new.set::<TimestampWithTimeZone>("left_at", None)?;
            new.set("watching_since", Some(joined))?;
            0
        }
        None => {
            let left = time(new, "left_at")?.unwrap_or(now.max(joined));
            new.set("left_at", Some(left))?;
            new.set::<TimestampWithTimeZone>("watching_since", None)?;
            seconds(joined, left)?
        }
        Some(old) => {
            let watched: i64 = old
                .get::<i32>("watch_duration_seconds")?
                .unwrap_or(0)
                .into();
            let joined_before: TimestampWithTimeZone = required(old, "joined_at")?;
            let was_watching = old.get("is_still_watching")?.unwrap_or(false);
            // Since when: a corrected joined_at moves the stretch that began with it.
            let since = match time(old, "watching_since")? {
                Some(since) if since == joined_before => joined,
                Some(since) => since,
                None => joined,
            };
            match (was_watching, watches) {
                (true, true) => {
                    new.set::<TimestampWithTimeZone>("left_at", None)?;
                    new.set("watching_since", Some(since))?;
                    watched
                }
                (true, false) => {
                    let left = time(new, "left_at")?.unwrap_or(now.max(since));
                    new.set("left_at", Some(left))?;
                    new.set::<TimestampWithTimeZone>("watching_since", None)?;
                    watched + seconds(since, left)?
                }
                (false, true) => {
                    new.set::<TimestampWithTimeZone>("left_at", None)?;
                    let left: TimestampWithTimeZone = required(old, "left_at")?;
                    new.set("watching_since", Some(now.max(left)))?;
                    watched
                }
                (false, false) => {
                    new.set::<TimestampWithTimeZone>("watching_since", None)?;
                    let left: TimestampWithTimeZone = required(new, "left_at")?;
                    let left_before: TimestampWithTimeZone = required(old, "left_at")?;
                    watched + seconds(joined, left)? - seconds(joined_before, left_before)?
                }
            }
        }
    };
    new.set("is_still_watching", Some(watches))?;
    if !watches {
        tabs::forget(new)?;
    }
    let watched = i32::try_from(watched.max(0)).unwrap_or(i32::MAX);
    new.set("watch_duration_seconds", Some(watched))?;
    new.set("watch_duration_minutes", Some(watched / 60))
}

/// Whole seconds from one time to the other, rounded half up.
fn seconds(from: TimestampWithTimeZone, to: TimestampWithTimeZone) -> Result<i64> {
    let (from, to) = (i64::from(from), i64::from(to));
    match to.checked_sub(from) {
        Some(micros) if micros >= 0 => Ok(micros.saturating_add(500_000) / 1_000_000),
        _ => Err(Error::new(
            SqlState::CHECK_VIOLATION,
            "the viewer left before it joined",
        )
        .hint("Set left_at to a time after joined_at.")),
    }
}
