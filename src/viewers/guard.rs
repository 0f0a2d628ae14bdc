//! What may be written to a viewer's row, and what the database decides itself.

use crate::error::{Error, Result, SqlState};
use crate::identity::{self, as_owner};
use crate::metrics;
use crate::plan::{self, Plan};
use crate::row::{self, Outcome, Row};
use crate::sessions::{self, Locked, finite, no_such_session, required, transaction_time};
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// Kept by the engine for the viewer.
const COUNTERS: &[&str] = &[
    "watch_duration_seconds",
    "watch_duration_minutes",
    "messages_sent",
    "reactions_sent",
    "shares_sent",
    "products_clicked",
    "orders_placed",
    "buffering_events",
];

/// Bounds of what a viewer reports of its connection.
const MAX_BUFFERING_SECONDS: i32 = 7 * 24 * 3600;
const MAX_DISCONNECTIONS: i32 = 10_000;

/// BEFORE INSERT OR UPDATE of a row.
#[pg_trigger]
fn viewers_guard<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    row::before(trigger, |old, new| {
        if metrics::is_settling() {
            return Ok(());
        }
        match old {
            None => guard_insert(new),
            Some(old) => guard_update(old, new),
        }
    })
}

thread_local! {
    static LOCK_SESSIONS: Plan = const { Plan::writing(
        c"select from public.live_stream_sessions
           where id in (select session_id from public.live_stream_viewers
                         where user_id = $1 or id = $2)
             and status not in ('ended', 'cancelled')
           order by id for no key update",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
}

/// BEFORE UPDATE of a statement: locks the unfinished sessions of the caller's rows before the
/// rows themselves are locked. Ending a session locks in the same order.
#[pg_trigger]
fn viewers_lock_order<'a>(_trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    use crate::error::OrRaise;
    lock_sessions_of_caller().or_raise();
    Ok(None)
}

fn lock_sessions_of_caller() -> Result<()> {
    if metrics::is_settling() || identity::is_service()? {
        return Ok(());
    }
    if identity::acts_for_viewer() {
        // An API function has locked the one session that it is about.
        return Ok(());
    }
    let (user, viewer) = (identity::user_id()?, identity::viewer_id());
    if user.is_none() && viewer.is_none() {
        return Ok(());
    }
    as_owner(|| plan::execute(&LOCK_SESSIONS, &[user.into(), viewer.into()]).map(drop))
}

/// The session, locked, if the caller may join it now.
pub fn joinable(session: Uuid) -> Result<Locked> {
    let locked = sessions::lock(session)?.ok_or_else(|| no_such_session(session))?;
    if locked.private
        && !identity::is_service()?
        && !identity::owned_influencers()?.contains(&locked.influencer)
    {
        return Err(no_such_session(session));
    }
    check_unfinished(session, &locked)?;
    Ok(locked)
}

fn check_unfinished(session: Uuid, locked: &Locked) -> Result<()> {
    if !locked.status.is_finished() {
        return Ok(());
    }
    Err(Error::new(
        SqlState::CONFLICT,
        format!(
            "session {session} is {} and cannot be joined",
            locked.status
        ),
    )
    .hint("Look for another session of this influencer."))
}

/// A server may write down who watched a finished session, but nobody watches it now.
fn check_not_watching_finished(new: &Row<'_>) -> Result<()> {
    let Some(session) = new.get::<Uuid>("session_id")? else {
        return Ok(());
    };
    let locked = sessions::lock(session)?;
    if new.get("is_still_watching")? != Some(true) {
        return Ok(());
    }
    locked.map_or(Ok(()), |locked| {
        check_unfinished(session, &locked)
            .map_err(|error| error.detail("Give left_at of a viewer who was there."))
    })
}

fn guard_insert(new: &mut Row<'_>) -> Result<()> {
    let session: Uuid = required(new, "session_id")?;
    let service = identity::is_service()?;
    let now = transaction_time();
    if !service {
        let locked = joinable(session)?;
        let user = identity::user_id()?;
        claim(new, user)?;
        let kind = kind(user, &locked, new.label("viewer_type")?.as_deref())?;
        new.set_label("viewer_type", kind)?;
        new.set("created_at", Some(now))?;
        new.set("updated_at", Some(now))?;
        new.set("joined_at", Some(now))?;
        new.set::<TimestampWithTimeZone>("left_at", None)?;
        new.set("is_still_watching", Some(true))?;
    }
    new.set_zero(COUNTERS)?;
    new.set_zero(&["buffering_time_seconds", "disconnections_count"])?;
    times(None, new)?;
    if service {
        check_not_watching_finished(new)?;
    }
    identity::set_viewer_id(&required(new, "id")?)
}

/// What the caller is in a session: `asked` counts only where anybody may say it of itself.
pub fn kind(user: Option<Uuid>, session: &Locked, asked: Option<&str>) -> Result<&'static str> {
    Ok(match (user, asked) {
        (None, _) => "anonymous",
        _ if identity::owned_influencers()?.contains(&session.influencer) => "influencer",
        (_, Some("wholesaler")) => "wholesaler",
        _ => "customer",
    })
}

/// A row is the caller's own: nobody joins as somebody else.
fn claim(new: &mut Row<'_>, user: Option<Uuid>) -> Result<()> {
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

fn guard_update(old: &Row<'_>, new: &mut Row<'_>) -> Result<()> {
    new.keep(old, &["id", "created_at"])?;
    new.keep(old, COUNTERS)?;
    new.set("updated_at", Some(transaction_time()))?;
    let service = identity::is_service()?;
    if !service {
        let session: Uuid = required(old, "session_id")?;
        if !new.same::<Uuid>(old, "session_id")? {
            return Err(Error::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                "a viewer cannot be moved to another session",
            )
            .hint("Leave this session and join the other one."));
        }
        if !new.same::<Uuid>(old, "user_id")? {
            claim(new, identity::user_id()?)?;
        }
        new.keep(
            old,
            &["user_id", "viewer_type", "joined_at", "watching_since"],
        )?;
        let was_watching = old.get("is_still_watching")?.unwrap_or(false);
        let watches = watches(Some(old), new)?;
        new.set("is_still_watching", Some(watches))?;
        new.keep(old, &["left_at"])?;
        if watches && !was_watching {
            joinable(session)?;
        }
    }
    report(old, new)?;
    times(Some(old), new)?;
    let comes = new.get("is_still_watching")? == Some(true)
        && !(new.same::<Uuid>(old, "session_id")? && new.same::<bool>(old, "is_still_watching")?);
    if service && comes {
        check_not_watching_finished(new)?;
    }
    Ok(())
}

/// Whether somebody watches: to say when a viewer left is to say that it did.
fn watches(old: Option<&Row<'_>>, new: &Row<'_>) -> Result<bool> {
    let was_watching = match old {
        Some(old) => old.get("is_still_watching")?.unwrap_or(false),
        None => true,
    };
    let says_so = new.get("is_still_watching")?.unwrap_or(was_watching);
    Ok(says_so && (!was_watching || new.is_null("left_at")?))
}

/// A viewer's own report of its connection: bounded, and never less than before.
fn report(old: &Row<'_>, new: &mut Row<'_>) -> Result<()> {
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
fn times(old: Option<&Row<'_>>, new: &mut Row<'_>) -> Result<()> {
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
