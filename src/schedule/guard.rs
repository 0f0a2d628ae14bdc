//! What may be stored in `live_stream_schedule`, and in which form.

use super::recurrence::{InvalidField, MAX_DURATION_MINUTES, Weekdays};
use super::{Timing, unknown_zone, zone};
use crate::error::{Error, Result, SqlState};
use crate::identity;
use crate::plan::{self, Plan};
use crate::row::Row;
use crate::sessions::{required, transaction_time};
use pgrx::datum::Uuid;
use pgrx::pg_sys;
use pgrx::{FromDatum, IntoDatum};
use std::borrow::Cow;

const MAX_TITLE: usize = 255;
const MAX_PRODUCTS: usize = 500;

/// Text columns and the most characters that each may hold, as the table's checks say.
const TEXTS: [(&str, usize); 5] = [
    ("description", 10_000),
    ("thumbnail_url", 2_048),
    ("stream_category", 255),
    ("target_audience", 2_000),
    ("promotion_message", 2_000),
];

thread_local! {
    static IS_SESSION_OF: Plan = const { Plan::reading(
        c"select true from public.live_stream_sessions \
          where id operator(pg_catalog.=) $1 and influencer_id operator(pg_catalog.=) $2",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
}

/// Checks a row that is about to be stored and brings it to its form.
pub fn guard(old: Option<&Row<'_>>, new: &mut Row<'_>) -> Result<()> {
    fill_in(new)?;
    match old {
        Some(old) => keep_identity(old, new)?,
        None => check_owner(new)?,
    }
    check_title(new)?;
    for (column, limit) in TEXTS {
        check_length(new, column, limit)?;
    }
    check_products(new)?;
    // A row that has become bad, say by new zone data, can still be cancelled.
    let timing = timing(new)?;
    if old.map(self::timing).transpose()?.as_ref() != Some(&timing) {
        check_timing(new, &timing)?;
    }
    if changed::<String>(old, new, "timezone")? {
        name_zone(new)?;
    }
    if changed::<Uuid>(old, new, "created_session_id")?
        || changed::<Uuid>(old, new, "influencer_id")?
    {
        check_session(new)?;
    }
    Ok(())
}

fn changed<T>(old: Option<&Row<'_>>, new: &Row<'_>, column: &str) -> Result<bool>
where
    T: FromDatum + IntoDatum + PartialEq,
{
    old.map_or(Ok(true), |old| Ok(!new.same::<T>(old, column)?))
}

/// A client that sends null for what has a default means the default.
fn fill_in(new: &mut Row<'_>) -> Result<()> {
    if new.is_null("timezone")? {
        new.set("timezone", Some("UTC".to_owned()))?;
    }
    for column in [
        "is_recurring",
        "is_promoted",
        "notification_sent",
        "reminder_sent",
    ] {
        if new.is_null(column)? {
            new.set(column, Some(false))?;
        }
    }
    for column in ["created_at", "updated_at"] {
        if new.is_null(column)? {
            new.set(column, Some(transaction_time()))?;
        }
    }
    if new.is_null("status")? {
        new.set_label("status", "scheduled")?;
    }
    Ok(())
}

/// Row-level security refuses the same rows; this says why. A server may bring rows from
/// elsewhere, with the times they have.
fn check_owner(new: &mut Row<'_>) -> Result<()> {
    if identity::is_service()? {
        return Ok(());
    }
    let influencer: Uuid = required(new, "influencer_id")?;
    if !identity::owned_influencers()?.contains(&influencer) {
        return Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("influencer {influencer} is not the caller's"),
        )
        .detail("A schedule is made by the user who owns its influencer.")
        .hint("Sign in as that user."));
    }
    new.set("created_at", Some(transaction_time()))?;
    new.set("updated_at", Some(transaction_time()))
}

fn keep_identity(old: &Row<'_>, new: &mut Row<'_>) -> Result<()> {
    new.keep(old, &["id", "created_at"])?;
    new.set("updated_at", Some(transaction_time()))?;
    if new.same::<Uuid>(old, "influencer_id")? || identity::is_service()? {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        "the influencer of a schedule cannot be changed",
    )
    .detail("A schedule stays with the influencer who made it.")
    .hint("Create a schedule of the other influencer instead."))
}

fn check_title(new: &Row<'_>) -> Result<()> {
    let title: String = required(new, "title")?;
    if title.trim().is_empty() {
        return Err(refused(
            "the title of the schedule is empty",
            "A title has 1 to 255 characters, not only spaces.".to_owned(),
            "Send a title.",
        ));
    }
    check_length(new, "title", MAX_TITLE)
}

fn check_length(new: &Row<'_>, column: &str, limit: usize) -> Result<()> {
    let Some(text) = new.get::<String>(column)? else {
        return Ok(());
    };
    let length = text.chars().count();
    if length <= limit {
        return Ok(());
    }
    Err(refused(
        format!("{column} of the schedule is too long"),
        format!("It has {length} characters; {limit} is the most."),
        "Send a shorter text.",
    ))
}

fn check_products(new: &Row<'_>) -> Result<()> {
    let products: Vec<Option<Uuid>> = new.get("products_to_showcase")?.unwrap_or_default();
    if products.contains(&None) || products.len() > MAX_PRODUCTS {
        return Err(refused(
            "products_to_showcase of the schedule is no list of products",
            format!("It holds at most {MAX_PRODUCTS} product ids, and no null."),
            "Send the ids of the products, or leave the field out.",
        ));
    }
    Ok(())
}

fn timing(row: &Row<'_>) -> Result<Timing<'static>> {
    Ok(Timing {
        date: row.get("scheduled_date")?,
        start_time: row.get("scheduled_start_time")?,
        end_time: row.get("scheduled_end_time")?,
        duration_minutes: row.get("expected_duration_minutes")?,
        is_recurring: row.get("is_recurring")?.unwrap_or(false),
        pattern: row.label("recurrence_pattern")?.map(Cow::Owned),
        days_of_week: row.get("days_of_week")?,
        end_date: row.get("recurrence_end_date")?,
    })
}

fn check_timing(new: &mut Row<'_>, timing: &Timing<'_>) -> Result<()> {
    timing.series()?;
    if let Some(days) = &timing.days_of_week {
        let days = Weekdays::from_numbers(days.iter().copied())?;
        new.set("days_of_week", Some(days.numbers()))?;
    }
    Ok(())
}

fn name_zone(new: &mut Row<'_>) -> Result<()> {
    let asked: String = new.get("timezone")?.unwrap_or_default();
    let name = zone::canonical_name(&asked)?
        .ok_or_else(|| unknown_zone(SqlState::CHECK_VIOLATION, &asked))?;
    new.set("timezone", Some(name))
}

/// Row-level security shows the owner every session of theirs, so one that the caller cannot
/// see is refused like one that is not there.
fn check_session(new: &Row<'_>) -> Result<()> {
    let Some(session) = new.get::<Uuid>("created_session_id")? else {
        return Ok(());
    };
    let influencer: Uuid = required(new, "influencer_id")?;
    let args = [session.into(), influencer.into()];
    if plan::run(&IS_SESSION_OF, &args, |rows| Ok(rows.len() > 0))? {
        return Ok(());
    }
    Err(refused(
        format!("session {session} is none of this influencer's"),
        "created_session_id is the session that was made for the schedule.".to_owned(),
        "Send the id of a session of the same influencer, or null.",
    ))
}

fn refused(message: impl Into<Cow<'static, str>>, detail: String, hint: &'static str) -> Error {
    Error::new(SqlState::CHECK_VIOLATION, message)
        .detail(detail)
        .hint(hint)
}

impl From<InvalidField> for Error {
    fn from(invalid: InvalidField) -> Self {
        const YEARS: &str = "Schedules take place from 0001-01-01 to 9999-12-31.";
        match invalid {
            InvalidField::Date => refused(
                "scheduled_date of the schedule is out of range",
                YEARS.to_owned(),
                "Send a date such as 2026-05-01.",
            ),
            InvalidField::EndDate => refused(
                "recurrence_end_date of the schedule is out of range",
                YEARS.to_owned(),
                "Send a date, or null for a schedule without an end.",
            ),
            InvalidField::StartTime => refused(
                "scheduled_start_time of the schedule is no time of its day",
                "The start is from 00:00 to before 24:00.".to_owned(),
                "Send 00:00 and the day after.",
            ),
            InvalidField::NoLength => refused(
                "the schedule ends when it begins",
                "An end time earlier than the start is on the next day; the same time is no length."
                    .to_owned(),
                "Send a later scheduled_end_time; 00:00 to 24:00 is a whole day.",
            ),
            InvalidField::Duration(minutes) => refused(
                format!("expected_duration_minutes of the schedule cannot be {minutes}"),
                format!("A stream lasts from 1 to {MAX_DURATION_MINUTES} minutes."),
                "Send the minutes, or leave the field out.",
            ),
            InvalidField::Weekday(day) => refused(
                match day {
                    Some(day) => format!("{day} is no day of the week"),
                    None => "null is no day of the week".to_owned(),
                },
                "days_of_week holds numbers from 0 (Sunday) to 6 (Saturday); 7 is Sunday too."
                    .to_owned(),
                "Send numbers from 0 to 6.",
            ),
            InvalidField::NoPattern => refused(
                "the recurring schedule has no recurrence_pattern",
                "is_recurring is true, and nothing says how often.".to_owned(),
                "Send daily, weekly or monthly, or is_recurring = false.",
            ),
            InvalidField::UnknownPattern(pattern) => refused(
                format!("recurrence_pattern \"{pattern}\" is not known"),
                "A schedule recurs daily, weekly or monthly.".to_owned(),
                "Send daily, weekly or monthly.",
            ),
            InvalidField::CustomPattern => Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "recurrence_pattern \"custom\" is not supported",
            )
            .detail("Schedules with rules of their own cannot be expanded yet.")
            .hint("Use daily, weekly with days_of_week, or monthly."),
            InvalidField::EndsBeforeItBegins { first, last } => refused(
                "the schedule ends before it begins",
                format!("recurrence_end_date {last} is before scheduled_date {first}."),
                "Send a later recurrence_end_date, or null for a schedule without an end.",
            ),
            InvalidField::NeverTakesPlace => refused(
                "the schedule never takes place",
                "None of its days_of_week comes between scheduled_date and recurrence_end_date."
                    .to_owned(),
                "Send a later recurrence_end_date or other days_of_week.",
            ),
        }
    }
}
