//! Import: the events of a calendar from elsewhere become schedules.

use crate::error::{Error, OrRaise, Result, SqlState};
use crate::identity;
use crate::plan::{self, Plan};
use crate::schedule::fields::MAX_DURATION_MINUTES;
use crate::schedule::series::in_clock_time;
use crate::schedule::zone::{self, Zone};
use crate::schedule::{EPOCH_DAYS, missing};
use pgrx::datum::{Date, Timestamp, Uuid};
use pgrx::pg_sys;
use pgrx::prelude::*;
use recurrence::clock::{Clock, TimeZone};
use recurrence::days::DAY_SECONDS;
use recurrence::expand::{self, Expansion};
use recurrence::ics::text::{Line, lines, unescape};
use recurrence::rule::{End, Rule};
use recurrence::stamp::{read_date, read_stamp};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

const MAX_BYTES: usize = 10_000_000;
const MAX_EVENTS: usize = 1_000;
/// Of all events together, as are the two below.
const MAX_EXCEPTIONS: usize = 10_000;
const MAX_LINES: usize = 100_000;
const MAX_ZONES: usize = 100;
const MAX_DEPTH: usize = 20;
/// The most names of properties that are told to be left out of one event.
const MAX_NAMES: usize = 20;
const MAX_TITLE: usize = 255;
const MAX_DESCRIPTION: usize = 10_000;
const MAX_SECONDS: i64 = MAX_DURATION_MINUTES as i64 * 60;
const EPOCH: i64 = EPOCH_DAYS as i64 * DAY_SECONDS;

/// Zones as Windows calls them, for calendars out of Outlook.
const WINDOWS_ZONES: [(&str, &str); 24] = [
    ("AUS Eastern Standard Time", "Australia/Sydney"),
    ("Arabian Standard Time", "Asia/Dubai"),
    ("Argentina Standard Time", "America/Argentina/Buenos_Aires"),
    ("Central Europe Standard Time", "Europe/Budapest"),
    ("Central European Standard Time", "Europe/Warsaw"),
    ("Central Standard Time", "America/Chicago"),
    ("China Standard Time", "Asia/Shanghai"),
    ("E. South America Standard Time", "America/Sao_Paulo"),
    ("Eastern Standard Time", "America/New_York"),
    ("FLE Standard Time", "Europe/Kiev"),
    ("GMT Standard Time", "Europe/London"),
    ("GTB Standard Time", "Europe/Bucharest"),
    ("India Standard Time", "Asia/Kolkata"),
    ("Israel Standard Time", "Asia/Jerusalem"),
    ("Korea Standard Time", "Asia/Seoul"),
    ("Mountain Standard Time", "America/Denver"),
    ("New Zealand Standard Time", "Pacific/Auckland"),
    ("Pacific Standard Time", "America/Los_Angeles"),
    ("Romance Standard Time", "Europe/Paris"),
    ("Russian Standard Time", "Europe/Moscow"),
    ("SE Asia Standard Time", "Asia/Bangkok"),
    ("Tokyo Standard Time", "Asia/Tokyo"),
    ("Turkey Standard Time", "Europe/Istanbul"),
    ("W. Europe Standard Time", "Europe/Berlin"),
];

/// Properties that are taken, or say nothing that a schedule could hold.
const TAKEN: [&str; 17] = [
    "UID",
    "DTSTAMP",
    "CREATED",
    "LAST-MODIFIED",
    "SEQUENCE",
    "DTSTART",
    "DTEND",
    "DURATION",
    "RRULE",
    "EXDATE",
    "RDATE",
    "RECURRENCE-ID",
    "SUMMARY",
    "DESCRIPTION",
    "STATUS",
    "CLASS",
    "TRANSP",
];

thread_local! {
    static OWN_INFLUENCER: Plan = const { Plan::writing(
        c"select (live_stream.influencer_ids())[1]",
        &[],
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

/// What could be read, or why not.
type Read<T> = std::result::Result<T, String>;

type Imported = (Option<String>, Option<String>, Option<Uuid>, Option<String>);

/// Makes schedules of the events of a calendar in iCalendar format, all or, on an error, none.
/// One row for each event: what it is, the schedule that it became, if any, and what was not
/// taken of it, if anything.
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
    if ics.len() > MAX_BYTES {
        return Err(refused("the calendar is too large"));
    }
    let influencer = match influencer {
        Some(influencer) => influencer,
        None => plan::run(&OWN_INFLUENCER, &[], |rows| Ok(rows.get::<Uuid>(0, 0)))?
            .ok_or_else(|| missing("influencer_id"))?,
    };
    // Said before the first event is read, also where there is none.
    if !identity::owned_influencers()?.contains(&influencer) && !identity::is_service()? {
        return Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("influencer {influencer} is not the caller's"),
        )
        .hint("Sign in as that user."));
    }
    let mut calendar = Calendar::read(ics)?;
    let mut rows = std::mem::take(&mut calendar.others);
    for event in &calendar.events {
        pgrx::check_for_interrupts!();
        rows.push(calendar.take(influencer, event)?);
    }
    let masters: HashSet<&Option<String>> =
        calendar.events.iter().map(|event| &event.uid).collect();
    let orphans = calendar
        .overrides
        .iter()
        .filter(|(uid, _)| !masters.contains(uid));
    for (uid, overrides) in orphans {
        for event in overrides {
            let why = Some("the event that it is an occurrence of is missing".to_owned());
            rows.push((uid.clone(), event.title(), None, why));
        }
    }
    Ok(rows)
}

fn refused(message: &'static str) -> Error {
    Error::new(SqlState::INVALID_PARAMETER, message)
        .detail("live_stream reads calendars in the iCalendar format of RFC 5545.")
        .hint("Send the text of an .ics file, up to 10 MB and 1,000 events.")
}

/// An event's lines that may be taken, and what else it has.
#[derive(Default)]
struct Event {
    uid: Option<String>,
    lines: Vec<Line>,
    left_out: BTreeSet<String>,
}

impl Event {
    /// True when the line may be taken.
    fn push(&mut self, line: Line) -> bool {
        if !TAKEN.contains(&line.name.as_str()) {
            self.leave_out(&line.name);
            return false;
        }
        if line.name == "UID" && self.uid.is_none() {
            self.uid = Some(unescape(&line.value));
        }
        self.lines.push(line);
        true
    }

    fn leave_out(&mut self, name: &str) {
        if self.left_out.len() < MAX_NAMES {
            self.left_out.insert(name.chars().take(40).collect());
        }
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Line> {
        self.lines.iter().filter(move |line| line.name == name)
    }

    fn one(&self, name: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.name == name)
    }

    fn text(&self, name: &str) -> Option<String> {
        self.one(name).map(|line| unescape(&line.value))
    }

    fn title(&self) -> Option<String> {
        self.text("SUMMARY")
    }

    fn is_cancelled(&self) -> bool {
        self.one("STATUS")
            .is_some_and(|line| line.value.eq_ignore_ascii_case("CANCELLED"))
    }
}

struct Calendar {
    events: Vec<Event>,
    /// Occurrences of events that are different, by the events' UID.
    overrides: BTreeMap<Option<String>, Vec<Event>>,
    /// What is there besides events.
    others: Vec<Imported>,
    /// The zone of times without one.
    zone: String,
    /// Names of zones in the calendar, and what they say that they are.
    locations: HashMap<String, String>,
    /// The server's zones of names that were looked up.
    zones: RefCell<HashMap<String, Option<(String, Zone)>>>,
    dates: Cell<usize>,
}

/// A time of the calendar: the zone it is in, and what the clocks show, in seconds.
#[derive(Clone)]
struct Time {
    zone_name: String,
    zone: Zone,
    wall: i64,
}

impl Time {
    fn moment(&self) -> i64 {
        Clock::of(self.zone).moment(self.wall).0
    }
}

impl Calendar {
    fn read(ics: &str) -> Result<Self> {
        let mut calendar = Self {
            events: Vec::new(),
            overrides: BTreeMap::new(),
            others: Vec::new(),
            zone: "UTC".to_owned(),
            locations: HashMap::new(),
            zones: RefCell::default(),
            dates: Cell::new(0),
        };
        let mut events: Vec<Event> = Vec::new();
        let mut inside: Vec<String> = Vec::new();
        let mut any = false;
        let mut zone_id = None;
        let mut kept = 0;
        for (number, line) in lines(ics.trim_start_matches('\u{feff}')).enumerate() {
            if number % 1024 == 0 {
                pgrx::check_for_interrupts!();
            }
            let component = inside.last().map(String::as_str);
            match (component, line.name.as_str()) {
                (_, "BEGIN") => {
                    let name = line.value.trim().to_ascii_uppercase();
                    any |= name == "VCALENDAR";
                    match (component, name.as_str()) {
                        (Some("VCALENDAR"), "VEVENT") => events.push(Event::default()),
                        (Some("VCALENDAR"), "VTIMEZONE") => {}
                        (Some("VCALENDAR"), other) => {
                            let why = format!("{other:.40} is no event");
                            calendar.others.push((None, None, None, Some(why)));
                        }
                        (Some("VEVENT"), other) => {
                            if let Some(event) = events.last_mut() {
                                event.leave_out(other);
                            }
                        }
                        _ => {}
                    }
                    if inside.len() == MAX_DEPTH {
                        return Err(refused("components of the calendar are nested too deep"));
                    }
                    inside.push(name);
                }
                (_, "END") => {
                    inside.pop();
                }
                (Some("VEVENT"), _) => {
                    if let Some(event) = events.last_mut() {
                        kept += usize::from(event.push(line));
                    }
                }
                (Some("VCALENDAR"), "X-WR-TIMEZONE") => {
                    calendar.zone = line.value.trim().to_owned();
                }
                (Some("VTIMEZONE"), "TZID") => zone_id = Some(line.value),
                (Some("VTIMEZONE"), "X-LIC-LOCATION") => {
                    if let Some(id) = zone_id.take() {
                        calendar.locations.insert(id, line.value);
                        kept += 1;
                    }
                }
                _ => {}
            }
            if events.len() + calendar.others.len() > MAX_EVENTS {
                return Err(refused("the calendar has too many events"));
            }
            if kept > MAX_LINES {
                return Err(refused("the calendar has too many lines"));
            }
        }
        if !any {
            return Err(refused("the text is no calendar"));
        }
        for event in events {
            if event.one("RECURRENCE-ID").is_some() {
                let overrides = calendar.overrides.entry(event.uid.clone());
                overrides.or_default().push(event);
            } else {
                calendar.events.push(event);
            }
        }
        Ok(calendar)
    }

    /// The server's zone of a name in the calendar.
    fn zone(&self, name: &str) -> Result<Option<(String, Zone)>> {
        if let Some(found) = self.zones.borrow().get(name) {
            return Ok(found.clone());
        }
        if self.zones.borrow().len() == MAX_ZONES {
            return Err(refused("the calendar has too many time zones"));
        }
        let location = self.locations.get(name).map(String::as_str);
        let windows = WINDOWS_ZONES.iter().find(|(other, _)| *other == name);
        let candidates = [Some(name), location, windows.map(|(_, name)| *name)];
        let mut found = None;
        for candidate in candidates.into_iter().flatten() {
            found = found.map_or_else(|| named(candidate), |found| Ok(Some(found)))?;
        }
        self.zones
            .borrow_mut()
            .insert(name.to_owned(), found.clone());
        Ok(found)
    }

    /// Reads a time, or says why not. `usual` is the zone of the event.
    fn time(&self, line: &Line, value: &str, usual: Option<&Time>) -> Result<Read<Time>> {
        let value = value.trim();
        if line.parameter("VALUE") == Some("DATE") || read_date(value).is_some() {
            return Ok(Err(format!("{} has no time of day", line.name)));
        }
        let Some((wall, utc)) = read_stamp(value) else {
            return Ok(Err(format!("{} {value:.40} is no time", line.name)));
        };
        let name = match line.parameter("TZID") {
            _ if utc => "UTC",
            Some(name) => name,
            None => usual.map_or(self.zone.as_str(), |time| time.zone_name.as_str()),
        };
        Ok(match self.zone(name)? {
            Some((zone_name, zone)) => Ok(Time {
                zone_name,
                zone,
                wall,
            }),
            None => Err(format!("time zone {name:.60} is not known")),
        })
    }

    fn take(&self, influencer: Uuid, event: &Event) -> Result<Imported> {
        let mut notes = Vec::new();
        let taken = self.schedule(influencer, event, &mut notes)?;
        let id = match taken {
            Ok(id) => Some(id),
            Err(why) => {
                notes.insert(0, why);
                None
            }
        };
        let notes = (!notes.is_empty()).then(|| notes.join("; "));
        Ok((event.uid.clone(), event.title(), id, notes))
    }

    /// Makes the schedule, or says why there is none; adds to `notes` what is left out.
    fn schedule(
        &self,
        influencer: Uuid,
        event: &Event,
        notes: &mut Vec<String>,
    ) -> Result<Read<Uuid>> {
        if event.is_cancelled() {
            return Ok(Err("it is cancelled".to_owned()));
        }
        let Some(line) = event.one("DTSTART") else {
            return Ok(Err("DTSTART is missing".to_owned()));
        };
        let start = match self.time(line, &line.value, None)? {
            Ok(start) => start,
            Err(why) => return Ok(Err(why)),
        };
        let (end_wall, minutes) = match self.length(event, &start)? {
            Ok(length) => length,
            Err(why) => return Ok(Err(why)),
        };
        if event.one("EXRULE").is_some() || event.all("RRULE").count() > 1 {
            return Ok(Err("it has several rules".to_owned()));
        }
        let mut rule = match event
            .one("RRULE")
            .map(|line| Rule::parse(&line.value))
            .transpose()
        {
            Ok(rule) => rule,
            Err(wrong) => return Ok(Err(format!("RRULE: {}: {}", wrong.part, wrong.why))),
        };
        let mut first_is_extra = false;
        let mut to_look_up = None;
        if let Some(rule) = &mut rule {
            in_clock_time(rule, start.zone);
            let last = match expand::bounds(rule, start.wall) {
                Ok((_, last)) => last,
                Err(wrong) => return Ok(Err(format!("RRULE: {}: {}", wrong.part, wrong.why))),
            };
            // Nobody counts again for each date.
            to_look_up = Some(Rule {
                end: last.map_or(End::Never, End::Until),
                ..rule.clone()
            });
            // RFC 5545 counts DTSTART as an occurrence, whatever the rule says.
            first_is_extra = Expansion::first_start(Some(rule), start.wall) != Some(start.wall);
        }
        notes.extend(left_out(&event.left_out));
        let title = shortened(
            event.title().unwrap_or_default(),
            MAX_TITLE,
            "SUMMARY",
            notes,
        );
        let title = if title.trim().is_empty() {
            "Untitled".to_owned()
        } else {
            title
        };
        let description = event.text("DESCRIPTION");
        let description =
            description.map(|text| shortened(text, MAX_DESCRIPTION, "DESCRIPTION", notes));
        let is_private = event
            .one("CLASS")
            .is_some_and(|line| !line.value.eq_ignore_ascii_case("PUBLIC"));

        let local = |wall: i64| Timestamp::try_from((wall - EPOCH) * 1_000_000).ok();
        let day = start.wall.div_euclid(DAY_SECONDS) as i32 - EPOCH_DAYS;
        let args = [
            influencer.into(),
            title.clone().into(),
            description.into(),
            Date::saturating_from_raw(day).into(),
            local(start.wall).into(),
            end_wall.and_then(local).into(),
            start.zone_name.clone().into(),
            rule.as_ref().map(ToString::to_string).into(),
            minutes.into(),
            if is_private { "private" } else { "public" }.into(),
        ];
        let id: Option<Uuid> = plan::run(&INSERT, &args, |rows| Ok(rows.get(0, 0)))?;
        let Some(id) = id else {
            return Ok(Err("a trigger of the table has left it out".to_owned()));
        };
        let starts = Starts {
            start: &start,
            rule: to_look_up.as_ref(),
        };
        let mut exceptions = Exceptions::default();
        if first_is_extra {
            exceptions.0.insert(start.moment(), Exception::of("add"));
        }
        self.dates(event, &starts, &mut exceptions, notes)?;
        for change in self.overrides.get(&event.uid).into_iter().flatten() {
            if let Some(why) = self.change(event, change, &starts, &mut exceptions)? {
                notes.push(why);
            }
        }
        exceptions.store(id)?;
        Ok(Ok(id))
    }

    /// When it ends by the clock, within a day, or else how many minutes it lasts.
    fn length(&self, event: &Event, start: &Time) -> Result<Read<(Option<i64>, Option<i32>)>> {
        let seconds = match (event.one("DTEND"), event.one("DURATION")) {
            (Some(line), _) => match self.time(line, &line.value, Some(start))? {
                Ok(end) => {
                    let by_clock = end.wall - start.wall;
                    if end.zone_name == start.zone_name && (1..=DAY_SECONDS).contains(&by_clock) {
                        let whole_day = by_clock == DAY_SECONDS;
                        if !whole_day || start.wall.rem_euclid(DAY_SECONDS) == 0 {
                            return Ok(Ok((Some(end.wall), None)));
                        }
                    }
                    end.moment() - start.moment()
                }
                Err(why) => return Ok(Err(why)),
            },
            (None, Some(line)) => match duration(&line.value) {
                Some(seconds) => seconds,
                None => return Ok(Err(format!("DURATION {:.40} is no time", line.value))),
            },
            (None, None) => return Ok(Ok((None, None))),
        };
        let minutes = (seconds + 59).div_euclid(60);
        match i32::try_from(minutes) {
            Ok(minutes @ 1..=MAX_DURATION_MINUTES) => Ok(Ok((None, Some(minutes)))),
            _ => Ok(Err("it does not last from a minute to a week".to_owned())),
        }
    }

    /// What a calendar may name, of all its events together.
    fn count_date(&self) -> Result<()> {
        let count = self.dates.get() + 1;
        self.dates.set(count);
        if count > MAX_EXCEPTIONS {
            return Err(refused("the calendar has too many exceptions"));
        }
        Ok(())
    }

    /// RDATE and EXDATE; of two that contradict each other the latter counts.
    fn dates(
        &self,
        event: &Event,
        starts: &Starts<'_>,
        exceptions: &mut Exceptions,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        for line in event.all("RDATE") {
            for value in line.value.split(',') {
                self.count_date()?;
                let (value, end) = match value.split_once('/') {
                    Some((start, end)) => (start, Some(end)),
                    None => (value, None),
                };
                let time = match self.time(line, value, Some(starts.start))? {
                    Ok(time) => time,
                    Err(why) => {
                        notes.push(why);
                        continue;
                    }
                };
                let start = time.moment();
                let end = match end {
                    None => None,
                    Some(end) => match duration(end) {
                        Some(seconds) => start.checked_add(seconds),
                        None => match self.time(line, end, Some(starts.start))? {
                            Ok(end) => Some(end.moment()),
                            Err(why) => {
                                notes.push(why);
                                continue;
                            }
                        },
                    },
                };
                if end.is_some_and(|end| !(1..=MAX_SECONDS).contains(&(end - start))) {
                    notes.push(format!("RDATE {value:.40} does not last up to a week"));
                } else if !starts.has(&time) {
                    let times = end.map(|end| (start, Some(end)));
                    let one = Exception {
                        times,
                        ..Exception::of("add")
                    };
                    exceptions.0.insert(start, one);
                }
            }
        }
        for line in event.all("EXDATE") {
            for value in line.value.split(',') {
                self.count_date()?;
                match self.time(line, value, Some(starts.start))? {
                    Err(why) => notes.push(why),
                    Ok(time) if starts.has(&time) => {
                        exceptions.0.insert(time.moment(), Exception::of("skip"));
                    }
                    Ok(time) if exceptions.0.remove(&time.moment()).is_some() => {}
                    Ok(_) => notes.push(format!("EXDATE {value:.40} is no occurrence")),
                }
            }
        }
        Ok(())
    }

    /// One occurrence that is different; says what of it is not taken.
    fn change(
        &self,
        event: &Event,
        change: &Event,
        starts: &Starts<'_>,
        exceptions: &mut Exceptions,
    ) -> Result<Option<String>> {
        let Some(line) = change.one("RECURRENCE-ID") else {
            return Ok(None);
        };
        self.count_date()?;
        let of = |why: String| Ok(Some(format!("RECURRENCE-ID {:.40}: {why}", line.value)));
        if line.parameter("RANGE").is_some() {
            return of("RANGE is not taken".to_owned());
        }
        let original = match self.time(line, &line.value, Some(starts.start))? {
            Ok(original) => original,
            Err(why) => return of(why),
        };
        let moment = original.moment();
        let there = exceptions.0.get(&moment).map(|one| one.kind);
        if there.is_none() && !starts.has(&original) || there == Some("skip") {
            return of("it is no occurrence".to_owned());
        }
        if change.is_cancelled() {
            match there {
                Some("add") => exceptions.0.remove(&moment),
                _ => exceptions.0.insert(moment, Exception::of("skip")),
            };
            return Ok(None);
        }
        let mut one = Exception::of(there.unwrap_or("move"));
        if let Some(line) = change.one("DTSTART") {
            let start = match self.time(line, &line.value, Some(starts.start))? {
                Ok(start) => start,
                Err(why) => return of(why),
            };
            let seconds = match self.length(change, &start)? {
                Ok((Some(wall), _)) => Some(
                    Time {
                        wall,
                        ..start.clone()
                    }
                    .moment()
                        - start.moment(),
                ),
                Ok((None, minutes)) => minutes.map(|minutes| i64::from(minutes) * 60),
                Err(why) => return of(why),
            };
            let end = seconds
                .filter(|seconds| *seconds > 0)
                .map(|seconds| start.moment() + seconds);
            one.times = Some((start.moment(), end));
        }
        let mut notes = Vec::new();
        let title = change
            .title()
            .filter(|title| Some(title) != event.title().as_ref() && !title.trim().is_empty());
        one.title = title.map(|title| shortened(title, MAX_TITLE, "SUMMARY", &mut notes));
        exceptions.0.insert(moment, one);
        let mut names = change.left_out.clone();
        let description = change.text("DESCRIPTION");
        if description.is_some() && description != event.text("DESCRIPTION") {
            names.insert("DESCRIPTION".to_owned());
        }
        notes.extend(left_out(&names));
        if notes.is_empty() {
            return Ok(None);
        }
        of(notes.join("; "))
    }
}

/// The server's zone of a name, or of its end: /citadel.org/20070227_1/Europe/Berlin is
/// Europe/Berlin.
fn named(name: &str) -> Result<Option<(String, Zone)>> {
    const MAX_PARTS: usize = 3;
    let begins = name.rmatch_indices('/').map(|(at, _)| at + 1);
    let mut begins: Vec<usize> = begins.take(MAX_PARTS).collect();
    if begins.len() < MAX_PARTS {
        begins.push(0);
    }
    for begin in begins.into_iter().rev() {
        if let Some(name) = zone::canonical_name(&name[begin..])?
            && let Some(zone) = Zone::named(&name)
        {
            return Ok(Some((name, zone)));
        }
    }
    Ok(None)
}

fn left_out(names: &BTreeSet<String>) -> Option<String> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    (!names.is_empty()).then(|| format!("left out: {}", names.join(", ")))
}

/// What is different about one occurrence.
struct Exception {
    kind: &'static str,
    /// The moments at which it begins and, if that is told, ends.
    times: Option<(i64, Option<i64>)>,
    title: Option<String>,
}

impl Exception {
    fn of(kind: &'static str) -> Self {
        Self {
            kind,
            times: None,
            title: None,
        }
    }
}

/// Exceptions by the moments that they are named after.
#[derive(Default)]
struct Exceptions(BTreeMap<i64, Exception>);

impl Exceptions {
    fn store(self, schedule: Uuid) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let moment =
            |seconds: i64| TimestampWithTimeZone::try_from((seconds - EPOCH) * 1_000_000).ok();
        let (mut originals, mut kinds, mut titles) = (Vec::new(), Vec::new(), Vec::new());
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for (original, one) in self.0 {
            originals.push(moment(original));
            kinds.push(one.kind.to_owned());
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
}

/// When the occurrences of an event begin.
struct Starts<'a> {
    start: &'a Time,
    rule: Option<&'a Rule>,
}

impl Starts<'_> {
    fn has(&self, time: &Time) -> bool {
        let moment = time.moment();
        let wall = self.start.zone.wall(moment);
        let mut clock = Clock::of(self.start.zone);
        // A start that the clocks skip is at a moment for which they show a later time.
        let mut near = match self.rule {
            Some(rule) => Expansion::new(rule, self.start.wall, wall - DAY_SECONDS)
                .until(wall)
                .collect(),
            None => vec![self.start.wall],
        };
        near.retain(|wall| clock.moment(*wall).0 == moment);
        !near.is_empty()
    }
}

fn shortened(text: String, most: usize, name: &str, notes: &mut Vec<String>) -> String {
    if text.chars().count() <= most {
        return text;
    }
    notes.push(format!("{name} was cut to {most} characters"));
    text.chars().take(most).collect()
}

/// Seconds of a duration such as PT1H30M, P1D or P2W.
fn duration(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_uppercase();
    let text = text.strip_prefix('+').unwrap_or(&text).strip_prefix('P')?;
    let (mut seconds, mut number, mut any) = (0i64, None::<i64>, false);
    for character in text.chars() {
        let unit = match character {
            '0'..='9' => {
                let digit = i64::from(character as u8 - b'0');
                number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
                continue;
            }
            'T' if number.is_none() => continue,
            'W' => 7 * DAY_SECONDS,
            'D' => DAY_SECONDS,
            'H' => 3600,
            'M' => 60,
            'S' => 1,
            _ => return None,
        };
        seconds = seconds.checked_add(number.take()?.checked_mul(unit)?)?;
        any = true;
    }
    (any && number.is_none()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("PT1H30M", Some(5400)),
            ("P1DT1S", Some(86_401)),
            ("+P2W", Some(1_209_600)),
            ("P", None),
            ("PT", None),
            ("PT5", None),
            ("-PT5M", None),
            ("PT99999999999999999999H", None),
            ("PT9223372036854775807H", None),
        ] {
            assert_eq!(duration(text), seconds, "{text}");
        }
    }
}
