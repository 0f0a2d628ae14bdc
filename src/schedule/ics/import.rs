//! Import: the events of a calendar from elsewhere become schedules.

use super::event::{Events, Exceptions, Planned, TAKEN, Zones};
use crate::access;
use crate::limits;
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::plan::{self, Plan};
use crate::pg::time_zone::{self, Zone};
use crate::schedule::{EPOCH, EPOCH_DAYS, missing};
use pgrx::datum::{Date, Timestamp, Uuid};
use pgrx::pg_sys;
use pgrx::prelude::*;
use recurrence::days::DAY_SECONDS;
use recurrence::ics::calendar::{Calendar, Event, InvalidCalendar};

thread_local! {
    static OWN_INFLUENCER: Plan = const { Plan::writing(
        c"select (live_stream.influencer_ids())[1]",
        &[],
    ) };
    // A place before a name of another kind.
    static AHEAD_OF_UTC: Plan = const { Plan::writing(
        c"select name from pg_catalog.pg_timezone_names
           where utc_offset = $1 * interval '1 second'
           order by name not like '%/%', name",
        &[pg_sys::INT8OID],
    ) };
    static INSERT: Plan = const { Plan::writing(
        c"insert into public.live_stream_schedule
            (influencer_id, title, description, scheduled_date, scheduled_start_time,
             scheduled_end_time, timezone, recurrence_rule, expected_duration_minutes, visibility)
          values ($1, $2, $3, $4, $5::time,
                  case when $6 is null then null
                       when $6 = $4 + interval '1 day' and $5 = $4 then time '24:00'
                       else $6::time end,
                  $7, $8, $9, $10::public.live_stream_visibility)
          returning id",
        &[
            pg_sys::UUIDOID,
            pg_sys::TEXTOID,
            pg_sys::TEXTOID,
            pg_sys::DATEOID,
            pg_sys::TIMESTAMPOID,
            pg_sys::TIMESTAMPOID,
            pg_sys::TEXTOID,
            pg_sys::TEXTOID,
            pg_sys::INT4OID,
            pg_sys::TEXTOID,
        ],
    ) };
    static INSERT_EXCEPTIONS: Plan = const { Plan::writing(
        c"insert into public.live_stream_schedule_exceptions
            (schedule_id, original_starts_at, kind, starts_at, ends_at, title)
          select $1, original, kind::public.live_stream_exception, starts, ends, title
            from unnest($2, $3, $4, $5, $6) as u (original, kind, starts, ends, title)",
        &[
            pg_sys::UUIDOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::TEXTARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::TIMESTAMPTZARRAYOID,
            pg_sys::TEXTARRAYOID,
        ],
    ) };
}

type Imported = (Option<String>, Option<String>, Option<Uuid>, Option<String>);

/// Makes schedules of the events of a calendar in iCalendar format, all or, on an error, none.
/// One row for each event: what it is, the schedule that it became, if any, and what was not
/// taken of it, if anything. A row without an event says what else is in the calendar, or is not understood there.
///
/// Errors: 22023 for a text that is no calendar or too large; those of making schedules.
#[pg_extern(volatile)]
#[allow(clippy::type_complexity)]
fn import_ics(
    influencer: Option<Uuid>,
    ics: Option<&str>,
) -> TableIterator<
    'static,
    (
        name!(uid, Option<String>),
        name!(title, Option<String>),
        name!(schedule_id, Option<Uuid>),
        name!(not_taken, Option<String>),
    ),
> {
    TableIterator::new(import(influencer, ics).or_raise())
}

fn import(influencer: Option<Uuid>, ics: Option<&str>) -> Result<Vec<Imported>> {
    let ics = ics.ok_or_else(|| refused("the calendar must not be null"))?;
    let influencer = match influencer {
        Some(influencer) => influencer,
        None => plan::run(&OWN_INFLUENCER, &[], |rows| Ok(rows.get::<Uuid>(0, 0)))?
            .ok_or_else(|| missing("influencer_id"))?,
    };
    // Said before the first event is read, also where there is none.
    access::check_owned(influencer)?;
    let calendar = Calendar::read(ics, &TAKEN, || {
        pgrx::check_for_interrupts!();
    })?;
    let no_event = |name: &String| (None, None, None, Some(format!("{name:.40} is no event")));
    let mut rows: Vec<Imported> = calendar.others.iter().map(no_event).collect();
    if !calendar.doubts.is_empty() {
        let why = format!("the calendar: {}", calendar.doubts.join("; "));
        rows.push((None, None, None, Some(why)));
    }
    let mut events = Events::new(&calendar, ServerZones);
    // Calendars have bounds of their own.
    limits::in_bulk(|| {
        for event in &calendar.events {
            pgrx::check_for_interrupts!();
            take(&mut events, influencer, event, &mut rows)?;
        }
        Ok::<(), Error>(())
    })?;
    let unused =
        |event: &Event, why: &str| (event.uid.clone(), event.title(), None, Some(why.to_owned()));
    let superseded = calendar.superseded.iter();
    rows.extend(superseded.map(|event| unused(event, "another version of it is taken")));
    let why = "the event that it is an occurrence of is missing";
    rows.extend(calendar.orphans().map(|event| unused(event, why)));
    Ok(rows)
}

fn refused(message: &'static str) -> Error {
    Error::new(SqlState::INVALID_PARAMETER, message)
        .detail("live_stream reads calendars in the iCalendar format of RFC 5545.")
        .hint("Send the text of an .ics file, up to 10 MB and 1,000 events.")
}

impl From<InvalidCalendar> for Error {
    fn from(invalid: InvalidCalendar) -> Self {
        refused(invalid.0)
    }
}

/// The zones that the server knows.
struct ServerZones;

impl Zones for ServerZones {
    type Zone = Zone;
    type Error = Error;

    fn named(&self, name: &str) -> Result<Option<(String, Zone)>> {
        let name = time_zone::canonical_name(name)?;
        Ok(name.and_then(|name| Zone::named(&name).map(|zone| (name, zone))))
    }

    fn ahead_of_utc(&self, seconds: i64) -> Result<Vec<String>> {
        plan::run(&AHEAD_OF_UTC, &[seconds.into()], |rows| {
            Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
        })
    }

    fn now(&self) -> i64 {
        i64::from(transaction_time()).div_euclid(1_000_000) + EPOCH
    }
}

/// One event: what it is, the schedules that it became, and what was not taken.
fn take(
    events: &mut Events<'_, ServerZones>,
    influencer: Uuid,
    event: &Event,
    rows: &mut Vec<Imported>,
) -> Result<()> {
    let mut notes = Vec::new();
    let row = |title, id, notes: Vec<String>| {
        let notes = (!notes.is_empty()).then(|| notes.join("; "));
        (event.uid.clone(), title, id, notes)
    };
    let pieces = match events.schedules(event, &mut notes)? {
        Ok(pieces) => pieces,
        Err(why) => {
            notes.insert(0, why);
            rows.push(row(event.title(), None, notes));
            return Ok(());
        }
    };
    for (number, piece) in pieces.into_iter().enumerate() {
        let id = insert(influencer, &piece.planned)?;
        let mut notes = std::mem::take(&mut notes);
        match id {
            Some(id) => store(id, piece.exceptions)?,
            None => notes.insert(0, "a trigger of the table has left it out".to_owned()),
        }
        let title = match number {
            0 => event.title(),
            _ => Some(piece.planned.title),
        };
        rows.push(row(title, id, notes));
    }
    Ok(())
}

/// The new schedule's id; none where a trigger keeps it out.
fn insert(influencer: Uuid, planned: &Planned<Zone>) -> Result<Option<Uuid>> {
    let wall = planned.start.wall;
    let local = |wall: i64| Timestamp::try_from((wall - EPOCH) * 1_000_000).ok();
    let day = wall.div_euclid(DAY_SECONDS) as i32 - EPOCH_DAYS;
    let visibility = if planned.is_private {
        "private"
    } else {
        "public"
    };
    let args = [
        influencer.into(),
        planned.title.clone().into(),
        planned.description.clone().into(),
        Date::saturating_from_raw(day).into(),
        local(wall).into(),
        planned.end_wall.and_then(local).into(),
        planned.start.zone_name.clone().into(),
        planned.rule.as_ref().map(ToString::to_string).into(),
        planned.minutes.into(),
        visibility.into(),
    ];
    plan::run(&INSERT, &args, |rows| Ok(rows.get(0, 0)))
}

fn store(schedule: Uuid, exceptions: Exceptions) -> Result<()> {
    if exceptions.is_empty() {
        return Ok(());
    }
    let moment = |seconds: i64| TimestampWithTimeZone::try_from((seconds - EPOCH) * 1_000_000).ok();
    let (mut originals, mut kinds, mut titles) = (Vec::new(), Vec::new(), Vec::new());
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for (original, one) in exceptions {
        originals.push(moment(original));
        kinds.push(one.kind.label().to_owned());
        starts.push(one.times.and_then(|(start, _)| moment(start)));
        ends.push(one.times.and_then(|(_, end)| moment(end?)));
        titles.push(one.title);
    }
    let args = [
        schedule.into(),
        originals.into(),
        kinds.into(),
        starts.into(),
        ends.into(),
        titles.into(),
    ];
    plan::execute(&INSERT_EXCEPTIONS, &args).map(|_| ())
}
