//! Sessions: what may be written to them, and what happens as they live and end.

mod codes;
mod credentials;

pub use codes::session_with;
pub use credentials::watch_transactions;

use crate::access;
use crate::identity;
use crate::limits;
use crate::metrics;
use crate::pg::callback::Callback;
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::lock::{Lock, Mode};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, sql};
use crate::pg::row::{Row, finite, required};
use crate::pg::trigger::Outcome;
use crate::pg::trigger::{self, Replaced};
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use session::{Status, code, on_air};

/// Closes every open viewer row of a session that ends at a time, but those that others have just now.
pub static CLOSE_VIEWERS: Callback<fn(Uuid, TimestampWithTimeZone) -> Result<()>> =
    Callback::new("close the viewers of a session that ends");

/// Closes out who may not see a session any more, of this influencer, which becomes private, or else unlisted.
pub static CLOSE_OUT: Callback<CloseOut> = Callback::new("close people out of a session");
type CloseOut = fn(session: Uuid, influencer: Uuid, is_private: bool) -> Result<()>;

const TITLE_CHARS: usize = 255;
const DESCRIPTION_CHARS: usize = 10_000;
const SLOW_MODE_SECONDS: i32 = 3_600;

/// BEFORE INSERT OR UPDATE: the life cycle, the code, the secrets and the numbers.
#[pg_trigger]
fn sessions_guard<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::before_or_again(trigger, guard_again, |old, new| {
        if metrics::is_settling() {
            return metrics::derive(new);
        }
        limits::write_row(old.is_none())?;
        match old {
            None => guard_insert(new),
            Some(old) => guard_update(old, new, trigger::replaced(trigger).as_ref()),
        }
    })
}

/// A session that is there and is saved again: `guard_update` comes after it.
fn guard_again(old: &Row<'_>, new: &mut Row<'_>, set: &[pg_sys::AttrNumber]) -> Result<()> {
    let service = identity::is_service()?;
    if !(service || access::owns(required(old, "influencer_id")?)?) {
        // Not which one: who has a code is not told the id of its session.
        return Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            "a session with this id or code is somebody else's",
        )
        .hint("Leave id and session_code out, and the database makes new ones."));
    }
    metrics::keep(old, new)?;
    if new.is_null("session_code")? {
        new.keep(old, &["session_code"])?;
    }
    if !service {
        check_influencer(old, new)?;
    }
    check_fields(new)?;
    let changes_status = new.is_among("status", set)? && status(old)? != status(new)?;
    if !service || changes_status {
        new.keep(old, &["actual_start_time", "actual_end_time"])?;
    }
    check_actual_times(new)?;
    credentials::take_again(new, required(old, "id")?)
}

/// AFTER INSERT OR UPDATE OF the status and the planned start: how many sessions the influencer has planned.
#[pg_trigger]
fn sessions_plan<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::after_change(trigger, |old, new| {
        let start = |row: &Row<'_>| row.get::<TimestampWithTimeZone>("scheduled_start_time");
        if status(new)? != Status::Scheduled {
            return Ok(());
        }
        if let Some(old) = old
            && status(old)? == Status::Scheduled
            && start(old)? == start(new)?
        {
            return Ok(());
        }
        limits::check_planned(required(new, "influencer_id")?)
    })
}

/// AFTER INSERT OR UPDATE OF the secrets: puts them where only the owner reads them.
#[pg_trigger]
fn sessions_credentials<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::after_row(trigger, |new| {
        let id = required(new, "id")?;
        credentials::store(id)
    })
}

thread_local! {
    // Who deletes the session has its row: nobody adds an order to it meanwhile.
    static HAS_ORDERS: Plan = const { Plan::writing(
        c"select from public.live_stream_orders where session_id = $1 limit 1",
        &[pg_sys::UUIDOID],
    ) };
    // In the order in which they lie in the table: a statement that deletes orders locks them in that order too,
    // and two that lock the same rows in the same order never wait for each other in a circle.
    static LOCK_ORDERS: Plan = const { Plan::writing(
        c"select from public.live_stream_orders where session_id = $1 order by ctid for update",
        &[pg_sys::UUIDOID],
    ) };
    static LOCK_PRODUCTS: Plan = const { Plan::writing(
        c"select from public.live_stream_products where session_id = $1 order by id for update",
        &[pg_sys::UUIDOID],
    ) };
}

/// BEFORE DELETE: orders go only where the server says so. They and the products of the session, which would go last, are
/// locked before its viewers go: whoever counts an order or a click has them, and then wants a viewer.
#[pg_trigger]
fn sessions_leave<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::before_delete(trigger, |old| {
        let id: Uuid = required(old, "id")?;
        if !identity::service_began()? {
            check_without_orders(id)?;
        }
        metrics::settle::close_seats(id);
        as_owner(|| {
            plan::execute(&LOCK_ORDERS, &[id.into()])?;
            plan::execute(&LOCK_PRODUCTS, &[id.into()]).map(drop)
        })
    })
}

/// What was paid is not a host's to delete, with its session or with what the session hangs on.
///
/// Errors: 23503.
fn check_without_orders(id: Uuid) -> Result<()> {
    if as_owner(|| plan::execute(&HAS_ORDERS, &[id.into()]))? == 0 {
        return Ok(());
    }
    Err(Error::new(
        SqlState::FOREIGN_KEY_VIOLATION,
        format!("session {id} has orders"),
    )
    .detail("What was paid is deleted by the server alone.")
    .hint("End or cancel the session, or make it private, and it stays with its orders."))
}

fn guard_insert(new: &mut Row<'_>) -> Result<()> {
    let id = required(new, "id")?;
    check_fields(new)?;
    match new
        .get::<String>("session_code")?
        .filter(|code| !code.is_empty())
    {
        Some(code) => code::validate(&code).map_err(|invalid| codes::invalid(&code, invalid))?,
        None => new.set("session_code", Some(codes::generate()?))?,
    }
    codes::check_is_free(new, id)?;
    metrics::clear(new)?;
    credentials::take(new, id, None)?;

    let status = status(new)?;
    let imported = identity::is_service()?;
    if !imported {
        check_own_influencer(new)?;
        new.set::<TimestampWithTimeZone>("actual_start_time", None)?;
        new.set::<TimestampWithTimeZone>("actual_end_time", None)?;
        let now = transaction_time();
        new.set("created_at", Some(now))?;
        new.set("updated_at", Some(now))?;
        if !status.is_first() {
            return Err(Error::new(
                SqlState::CHECK_VIOLATION,
                format!("a session cannot begin as {status}"),
            )
            .hint("Create it as scheduled, or as live."));
        }
    }
    if status.is_on_air() {
        check_nothing_else_on_air(new, id)?;
        if new.is_null("actual_start_time")? {
            new.set("actual_start_time", Some(transaction_time()))?;
        }
    }
    if status == Status::Ended && new.is_null("actual_end_time")? {
        new.set("actual_end_time", Some(end_time(new)?))?;
    }
    check_actual_times(new)
}

/// Row-level security holds in any case; this says what is wrong.
fn check_own_influencer(new: &Row<'_>) -> Result<()> {
    let influencer = new.get::<Uuid>("influencer_id")?.ok_or_else(|| {
        Error::new(
            SqlState::NOT_NULL_VIOLATION,
            "influencer_id must not be null",
        )
        .hint("Give the id of an influencer that the signed-in user owns.")
    })?;
    access::check_owned(influencer)
}

/// When a session that ends now ended: never before it started.
fn end_time(session: &Row<'_>) -> Result<TimestampWithTimeZone> {
    let started: Option<TimestampWithTimeZone> = session.get("actual_start_time")?;
    Ok(started.map_or(transaction_time(), |started| {
        started.max(transaction_time())
    }))
}

fn check_actual_times(new: &Row<'_>) -> Result<()> {
    let starts = finite(new, "actual_start_time")?;
    let ends = finite(new, "actual_end_time")?;
    if let (Some(starts), Some(ends)) = (starts, ends)
        && ends < starts
    {
        return Err(Error::new(
            SqlState::CHECK_VIOLATION,
            "the session ended before it started",
        )
        .hint("Set actual_end_time to a time after actual_start_time."));
    }
    Ok(())
}

fn guard_update(old: &Row<'_>, new: &mut Row<'_>, replaced: Option<&Replaced>) -> Result<()> {
    let id = required(old, "id")?;
    new.keep(old, &["id", "created_at"])?;
    // Never back: the metrics rely on nothing having changed since.
    let updated: Option<TimestampWithTimeZone> = old.get("updated_at")?;
    new.set("updated_at", updated.max(Some(transaction_time())))?;
    metrics::keep(old, new)?;
    let service = identity::is_service()?;
    if !service {
        check_influencer(old, new)?;
    }
    check_fields(new)?;
    if !new.same::<String>(old, "session_code")? {
        match new
            .get::<String>("session_code")?
            .filter(|code| !code.is_empty())
        {
            Some(code) => {
                code::validate(&code).map_err(|invalid| codes::invalid(&code, invalid))?;
                codes::check_is_free(new, id)?;
            }
            None => new.keep(old, &["session_code"])?,
        }
    }
    credentials::take(new, id, replaced)?;
    change_status(old, new, id, service)
}

fn check_influencer(old: &Row<'_>, new: &Row<'_>) -> Result<()> {
    if new.same::<Uuid>(old, "influencer_id")? {
        return Ok(());
    }
    let id: Uuid = required(old, "id")?;
    Err(Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("session {id} belongs to its influencer for good"),
    )
    .hint("Create a session of the other influencer instead."))
}

/// The life cycle, for direct updates and API functions alike.
fn change_status(old: &Row<'_>, new: &mut Row<'_>, id: Uuid, service: bool) -> Result<()> {
    let (from, to) = (status(old)?, status(new)?);
    if !from.can_become(to) {
        return Err(cannot_become(id, from, to));
    }
    if from != to || !service {
        // The times belong to the changes of status; only a server may correct them later.
        new.keep(old, &["actual_start_time", "actual_end_time"])?;
    }
    let moved = !new.same::<Uuid>(old, "influencer_id")?;
    if to.is_on_air() && (!from.is_on_air() || moved) {
        check_nothing_else_on_air(new, id)?;
        if new.is_null("actual_start_time")? {
            new.set("actual_start_time", Some(transaction_time()))?;
        }
    }
    if to.is_finished() && !from.is_finished() {
        let ended = end_time(new)?;
        if to == Status::Ended {
            new.set("actual_end_time", Some(ended))?;
        }
        metrics::settle::hold_seats(id);
        let (mut settled, doubtful) = metrics::take_pending(id, old)?;
        settled += metrics::collect(id, || CLOSE_VIEWERS.get()?(id, ended))?;
        metrics::add(id, new, settled, doubtful)?;
        // Who has a viewer's row just now is not waited for: nobody watches any more.
        new.set("current_viewers", Some(0))?;
    } else if let Some((settled, doubtful)) = metrics::take_pending_without_worker(id, old)? {
        metrics::add(id, new, settled, doubtful)?;
    }
    if !to.is_finished() {
        if lowers_limit(old, new)? {
            metrics::settle::close_seats(id);
        }
        let before = ShownTo::find(old)?;
        let after = ShownTo::find(new)?;
        if after > before {
            metrics::settle::close_seats(id);
            CLOSE_OUT.get()?(
                id,
                required(new, "influencer_id")?,
                after == ShownTo::Guests,
            )?;
        }
    }
    check_actual_times(new)
}

/// To whom a session is shown, from the most people to the fewest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ShownTo {
    All,
    WithItsCode,
    Guests,
}

impl ShownTo {
    fn find(session: &Row<'_>) -> Result<Self> {
        Ok(match session.label("visibility")?.as_deref() {
            Some("public") => Self::All,
            Some("unlisted") => Self::WithItsCode,
            _ => Self::Guests,
        })
    }
}

fn lowers_limit(old: &Row<'_>, new: &Row<'_>) -> Result<bool> {
    let limit = |row: &Row<'_>| row.get::<i32>("max_viewers");
    let (before, after) = (limit(old)?, limit(new)?);
    Ok(after.is_some_and(|after| before.is_none_or(|before| after < before)))
}

fn check_fields(new: &mut Row<'_>) -> Result<()> {
    let nonsense = |message: &'static str| Error::new(SqlState::CHECK_VIOLATION, message);
    if new
        .get::<String>("title")?
        .is_some_and(|title| text::is_blank(&title))
    {
        return Err(nonsense("the title of a session is empty")
            .hint(format!("Give it 1 to {TITLE_CHARS} characters.")));
    }
    let description: Option<String> = new.get("description")?;
    if let Some(chars) = description.map(|text| text.chars().count())
        && chars > DESCRIPTION_CHARS
    {
        return Err(nonsense("the description of a session is too long")
            .detail(format!("It has {chars} characters."))
            .hint(format!("Keep it to {DESCRIPTION_CHARS} characters.")));
    }
    if new.get::<i32>("max_viewers")?.is_some_and(|max| max < 1) {
        return Err(nonsense("max_viewers of a session must be 1 or more")
            .hint("Leave it null for a session without a limit."));
    }
    if let Some(seconds) = new.get::<i32>("slow_mode_seconds")?
        && !(0..=SLOW_MODE_SECONDS).contains(&seconds)
    {
        return Err(
            nonsense("slow_mode_seconds of a session must be 0 to 3600").hint("0 is no slow mode.")
        );
    }
    let starts = finite(new, "scheduled_start_time")?;
    let ends = finite(new, "scheduled_end_time")?;
    if let (Some(starts), Some(ends)) = (starts, ends)
        && ends <= starts
    {
        return Err(nonsense("the session is scheduled to end before it starts")
            .hint("Set scheduled_end_time to a time after scheduled_start_time."));
    }
    Ok(())
}

thread_local! {
    static ON_AIR: Plan = const { Plan::writing(
        sql!("select id, session_code::text, title::text, status::text
            from public.live_stream_sessions
           where influencer_id = $1 and status in ", on_air!(), " and id <> $2"),
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
}

/// The unique index live_stream_sessions_one_on_air_idx holds in any case; this names the other
/// session, also when both go live at the same time.
fn check_nothing_else_on_air(new: &Row<'_>, id: Uuid) -> Result<()> {
    let Some(influencer) = new.get::<Uuid>("influencer_id")? else {
        return Ok(());
    };
    Lock::OnAir(influencer).wait(Mode::Alone);
    as_owner(|| {
        plan::run(&ON_AIR, &[influencer.into(), id.into()], |rows| {
            let Some(other) = rows.get::<Uuid>(0, 0) else {
                return Ok(());
            };
            let text = |column| rows.get::<String>(0, column).unwrap_or_default();
            Err(Error::new(
                SqlState::UNIQUE_VIOLATION,
                format!("influencer {influencer} has another session on air: {other}"),
            )
            .detail(format!(
                "Session \"{}\" ({}) is {}.",
                text(2),
                text(1),
                text(3)
            ))
            .hint("End that session first: an influencer has one live or paused session."))
        })
    })
}

fn status(row: &Row<'_>) -> Result<Status> {
    let label = row.label("status")?.unwrap_or_default();
    label.parse().map_err(|()| {
        Error::new(SqlState::CHECK_VIOLATION, "a session needs a status")
            .hint("Leave status out, and the session is scheduled.")
    })
}

fn cannot_become(id: Uuid, from: Status, to: Status) -> Error {
    let next: Vec<_> = from.next().iter().map(|status| status.label()).collect();
    let hint = if next.is_empty() {
        "It is finished. Create a new session.".to_owned()
    } else {
        format!("It can become {}.", next.join(", "))
    };
    Error::new(
        SqlState::CHECK_VIOLATION,
        format!("session {id} is {from} and cannot become {to}"),
    )
    .hint(hint)
}
