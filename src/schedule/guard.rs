//! What may be stored in `live_stream_schedule`, and in which form.

use super::fields::{self, InvalidField, Length, MAX_DURATION_MINUTES, Pattern, Simple, Weekdays};
use super::nulls;
use super::{EPOCH, EPOCH_DAYS, first_start, is_settling, missing, to_day, unknown_zone};
use crate::access;
use crate::identity;
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::plan::{self, Plan};
use crate::pg::row::required;
use crate::pg::row::{self, Row};
use crate::pg::time_of_day::TimeOfDay;
use crate::pg::time_zone::{self, Zone};
use pgrx::datum::{Date, Timestamp, TimestampWithTimeZone, Uuid};
use pgrx::pg_sys;
use pgrx::{FromDatum, IntoDatum};
use recurrence::days;
use recurrence::expand;
use recurrence::rule::{End, Rule};
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
        c"select visibility::pg_catalog.text from public.live_stream_sessions \
          where id operator(pg_catalog.=) $1 and influencer_id operator(pg_catalog.=) $2",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
}

/// Checks a row that is about to be stored and brings it to its form.
pub fn guard(old: Option<&Row<'_>>, new: &mut Row<'_>) -> Result<()> {
    count_change(old, new)?;
    if is_settling() {
        return new.set("updated_at", Some(transaction_time()));
    }
    nulls::fill_in(old, new)?;
    match old {
        Some(old) => new.keep(old, &["has_exceptions", "ended_starts_at"])?,
        None => {
            new.set("has_exceptions", Some(false))?;
            new.set("ended_starts_at", Some(Vec::<TimestampWithTimeZone>::new()))?;
        }
    }
    match old {
        Some(old) => keep_identity(old, new)?,
        None => check_owner(new)?,
    }
    check_title(new)?;
    for (column, limit) in TEXTS {
        check_length(new, column, limit)?;
    }
    check_products(new)?;
    if changed::<String>(old, new, "timezone")? {
        name_zone(new)?;
    }
    // A row that has become bad, say by new zone data, can still be cancelled.
    let before = old.map(Timing::of).transpose()?;
    let timing = Timing::of(new)?;
    match old {
        Some(old) if before.as_ref() == Some(&timing) => {
            new.keep(old, &["last_start", "recurrence_rule"])?
        }
        _ => settle_timing(before.as_ref(), timing, new)?,
    }
    if changed::<Uuid>(old, new, "created_session_id")?
        || changed::<Uuid>(old, new, "influencer_id")?
        || old.is_some_and(|old| old.label("visibility").ok() != new.label("visibility").ok())
    {
        check_session(old, new)?;
    }
    Ok(())
}

fn changed<T>(old: Option<&Row<'_>>, new: &Row<'_>, column: &str) -> Result<bool>
where
    T: FromDatum + IntoDatum + PartialEq,
{
    old.map_or(Ok(true), |old| Ok(!new.same::<T>(old, column)?))
}

/// Row-level security refuses the same rows; this says why. A server may bring rows from
/// elsewhere, with the times they have.
/// By its sequence a calendar program knows which of two versions is the later.
fn count_change(old: Option<&Row<'_>>, new: &mut Row<'_>) -> Result<()> {
    let sequence = match old {
        Some(old) => old.get::<i32>("sequence")?.unwrap_or(0).saturating_add(1),
        None => 0,
    };
    new.set("sequence", Some(sequence))
}

fn check_owner(new: &mut Row<'_>) -> Result<()> {
    if identity::is_service()? {
        return Ok(());
    }
    let influencer: Uuid = required(new, "influencer_id")?;
    if !access::owns(influencer)? {
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
    if text::is_blank(&title) {
        return Err(refused(
            "the title of the schedule is empty",
            "A title has 1 to 255 characters, and shows something.".to_owned(),
            "Send a title.",
        ));
    }
    check_length(new, "title", MAX_TITLE)
}

fn check_length(new: &Row<'_>, column: &str, limit: usize) -> Result<()> {
    let text: Option<String> = new.get(column)?;
    row::check_length(column, "schedule", text.as_deref(), limit)
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

/// The columns that say when a schedule takes place.
#[derive(PartialEq)]
struct Timing {
    date: Option<Date>,
    start_time: Option<TimeOfDay>,
    end_time: Option<TimeOfDay>,
    duration_minutes: Option<i32>,
    timezone: Option<String>,
    is_recurring: bool,
    pattern: Option<Pattern>,
    days_of_week: Option<Vec<Option<i32>>>,
    end_date: Option<Date>,
    rule: Option<String>,
}

impl Timing {
    fn of(row: &Row<'_>) -> Result<Self> {
        let rule: Option<String> = row.get("recurrence_rule")?;
        Ok(Self {
            date: row.get("scheduled_date")?,
            start_time: row.get("scheduled_start_time")?,
            end_time: row.get("scheduled_end_time")?,
            duration_minutes: row.get("expected_duration_minutes")?,
            timezone: row.get("timezone")?,
            is_recurring: row.get("is_recurring")?.unwrap_or(false),
            pattern: row
                .label("recurrence_pattern")?
                .and_then(|name| Pattern::named(&name)),
            days_of_week: row.get("days_of_week")?,
            end_date: row.get("recurrence_end_date")?,
            rule: rule.filter(|rule| !text::is_blank(rule)),
        })
    }

    fn weekdays(&self) -> Result<Weekdays> {
        Ok(Weekdays::from_numbers(
            self.days_of_week.iter().flatten().copied(),
        )?)
    }

    /// True when the simple fields, and not the rule, say something new.
    fn says_more_than(&self, before: &Timing) -> Result<bool> {
        Ok(self.is_recurring != before.is_recurring
            || self.pattern != before.pattern
            || self.weekdays()? != before.weekdays()?
            || self.end_date != before.end_date)
    }

    /// What the simple fields say.
    fn simple(&self) -> Result<Simple> {
        let last_day = self
            .end_date
            .map(|date| to_day(date).ok_or(InvalidField::EndDate));
        Ok(Simple {
            pattern: self.pattern.ok_or(InvalidField::NoPattern)?,
            weekdays: self.weekdays()?,
            last_day: last_day.transpose()?,
        })
    }

    /// The rule of the row: the one that was written last, be it in simple fields or as text.
    fn rule(&self, before: Option<&Timing>, zone: Zone) -> Result<Option<Rule>> {
        let was = before.and_then(|before| before.rule.as_ref());
        if let Some(text) = self.rule.as_ref().filter(|text| Some(*text) != was) {
            let mut rule = Rule::parse(text)?;
            rule.end_in_clock_time(&zone);
            // An end that is written beside a rule without one is the rule's.
            let end = self.end_date.filter(|date| {
                rule.end == End::Never && before.is_none_or(|before| before.end_date != Some(*date))
            });
            if let Some(date) = end {
                rule.end = fields::until_the_end_of(to_day(date).ok_or(InvalidField::EndDate)?);
            }
            return Ok(Some(rule));
        }
        let fields_changed = match before {
            Some(before) => self.says_more_than(before)?,
            None => true,
        };
        // Taking the rule away ends the recurrence, unless the fields say another.
        if !self.is_recurring || self.rule.is_none() && was.is_some() && !fields_changed {
            return Ok(None);
        }
        let mut kept = self.rule.as_deref().map(Rule::parse).transpose()?;
        if let Some((rule, before)) = kept.as_mut().zip(before) {
            self.put_end(rule, before);
        }
        let Some(before) = before.filter(|_| fields_changed) else {
            return match kept {
                Some(rule) => Ok(Some(rule)),
                None => self.rule_of_fields().map(Some),
            };
        };
        if self.pattern != Some(Pattern::Custom) {
            return self.rule_of_fields().map(Some);
        }
        let mut rule = kept.ok_or(InvalidField::NoRule)?;
        if self.weekdays()? != before.weekdays()? {
            return Err(InvalidField::WeekdaysOfRule.into());
        }
        if self.end_date != before.end_date {
            rule.end = match self.simple()?.last_day {
                Some(day) => fields::until_the_end_of(day),
                None => End::Never,
            };
        }
        Ok(Some(rule))
    }

    /// An end at a time of a day goes with the start that is put to another one: the last occurrence is still the last.
    fn put_end(&self, rule: &mut Rule, before: &Timing) {
        let start = |timing: &Timing| {
            let first = first_start(timing.date?, timing.start_time?).ok()?;
            Some(first.0)
        };
        let (Some((new, old)), End::Until(until)) = (start(self).zip(start(before)), &mut rule.end)
        else {
            return;
        };
        if (*until + 1).rem_euclid(days::DAY_SECONDS) != 0 {
            let by = match new - old {
                put if put.abs() < days::DAY_SECONDS => put,
                _ => new.rem_euclid(days::DAY_SECONDS) - old.rem_euclid(days::DAY_SECONDS),
            };
            *until = (*until + by).clamp(days::EARLIEST, days::LATEST);
        }
    }

    fn rule_of_fields(&self) -> Result<Rule> {
        Ok(self.simple()?.rule().ok_or(InvalidField::NoRule)?)
    }
}

/// Checks when a schedule takes place, and makes the rule and the simple fields say the same.
fn settle_timing(before: Option<&Timing>, timing: Timing, new: &mut Row<'_>) -> Result<()> {
    let date = timing.date.ok_or_else(|| missing("scheduled_date"))?;
    let start_time = timing
        .start_time
        .ok_or_else(|| missing("scheduled_start_time"))?;
    let (first, micros) = first_start(date, start_time)?;
    let end_time = timing.end_time.map(TimeOfDay::since_midnight);
    Length::new(
        start_time.since_midnight(),
        end_time,
        timing.duration_minutes,
    )?;
    let name = timing.timezone.as_deref().unwrap_or_default();
    let zone = Zone::named(name).ok_or_else(|| unknown_zone(SqlState::CHECK_VIOLATION, name))?;

    let weekdays = timing.weekdays()?;
    let rule = timing.rule(before, zone)?;
    let mut last = Some(first);
    if let Some(rule) = &rule {
        let was = before.and_then(|before| before.rule.as_ref());
        let by_fields = timing.rule.is_none() || timing.rule.as_ref() == was;
        last = match expand::bounds(rule, first) {
            Ok((_, last)) => last,
            Err(_) if by_fields && ends_before_it_begins(rule, first) => {
                return Err(InvalidField::EndsBeforeItBegins.into());
            }
            Err(_) if by_fields && rule.weekdays != 0 && matches!(rule.end, End::Until(_)) => {
                return Err(InvalidField::NeverTakesPlace.into());
            }
            Err(invalid) => return Err(invalid.into()),
        };
    }
    // Two fields say the same when what they mean is the same.
    let meant = timing
        .is_recurring
        .then(|| timing.simple().ok()?.rule())
        .flatten();
    if let Some(rule) = rule.as_ref().filter(|rule| meant.as_ref() != Some(*rule)) {
        let simple = Simple::of(rule, first);
        new.set_label("recurrence_pattern", simple.pattern.name())?;
        let days = Some(simple.weekdays.numbers()).filter(|days| !days.is_empty());
        new.set("days_of_week", days)?;
        let end = simple
            .last_day
            .map(|day| Date::saturating_from_raw(day - EPOCH_DAYS));
        new.set("recurrence_end_date", end)?;
    } else if timing.days_of_week.is_some() {
        new.set("days_of_week", Some(weekdays.numbers()))?;
    }
    new.set("is_recurring", Some(rule.is_some()))?;
    new.set("recurrence_rule", rule.map(|rule| rule.to_string()))?;
    let last = last.map(|last| (last - EPOCH) * 1_000_000 + micros);
    new.set(
        "last_start",
        last.and_then(|last| Timestamp::try_from(last).ok()),
    )
}

fn ends_before_it_begins(rule: &Rule, first: i64) -> bool {
    matches!(rule.end, End::Until(until) if until < first)
}

fn name_zone(new: &mut Row<'_>) -> Result<()> {
    let asked: String = new.get("timezone")?.unwrap_or_default();
    let name = time_zone::canonical_name(&asked)?
        .ok_or_else(|| unknown_zone(SqlState::CHECK_VIOLATION, &asked))?;
    new.set("timezone", Some(name))
}

/// Row-level security shows the owner every session of theirs, so one that the caller cannot
/// see is refused like one that is not there.
fn check_session(old: Option<&Row<'_>>, new: &mut Row<'_>) -> Result<()> {
    let Some(session) = new.get::<Uuid>("created_session_id")? else {
        return Ok(());
    };
    let influencer: Uuid = required(new, "influencer_id")?;
    let args = [session.into(), influencer.into()];
    let visibility: Option<String> = plan::run(&IS_SESSION_OF, &args, |rows| Ok(rows.get(0, 0)))?;
    if let Some(visibility) = visibility {
        if visibility == "public" || new.label("visibility")?.as_deref() != Some("public") {
            return Ok(());
        }
        if !changed::<Uuid>(old, new, "created_session_id")? {
            // The schedule is made public; so will be its sessions, which are named then.
            return new.set::<Uuid>("created_session_id", None);
        }
        return Err(refused(
            format!("session {session} is {visibility} and the schedule is public"),
            "Everybody reads created_session_id, and whoever knows its id can open an unlisted session."
                .to_owned(),
            "Make the schedule private, or leave created_session_id out.",
        ));
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
            InvalidField::NoRule => refused(
                "the custom schedule has no recurrence_rule",
                "recurrence_pattern is custom, and nothing says how often.".to_owned(),
                "Send a recurrence_rule such as FREQ=MONTHLY;BYDAY=1MO.",
            ),
            InvalidField::WeekdaysOfRule => refused(
                "days_of_week of a custom schedule cannot be changed",
                "They follow from its recurrence_rule.".to_owned(),
                "Send a recurrence_rule, or recurrence_pattern = weekly as well.",
            ),
            InvalidField::EndsBeforeItBegins => refused(
                "the schedule ends before it begins",
                "recurrence_end_date is before scheduled_date.".to_owned(),
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
