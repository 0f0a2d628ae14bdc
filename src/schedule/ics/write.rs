//! The feed: an influencer's schedules as a calendar to subscribe to.

use super::links::Links;
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::plan::{self, Plan, sql};
use crate::pg::response;
use crate::pg::time_zone::Zone;
use crate::schedule::fields::Length;
use crate::schedule::loading::Known;
use crate::schedule::series::{
    Exception, ExceptionKind, Occurrence, Series, exception_at, moment_of, wall_at,
};
use crate::schedule::share::{MOST_EXCEPTIONS, Share};
use crate::schedule::stored::Stored;
use crate::schedule::{DAY_MICROS, EPOCH, upcoming};
use pgrx::datum::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use recurrence::daylight_saving::TimeZone;
use recurrence::days::DAY_SECONDS;
use recurrence::days::{EARLIEST, LATEST};
use recurrence::expand::Expansion;
use recurrence::ics::text::{escape, push_line};
use recurrence::ics::timezone::{described_until, push_timezone};
use recurrence::rule::{End, Rule};
use recurrence::stamp::stamp;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

const SECOND: i64 = 1_000_000;

/// How far ahead occurrences are told one by one that last longer or shorter than usual, since
/// clocks change while they are on.
const ODD_LENGTHS_AHEAD: i64 = 400 * DAY_MICROS;

/// How long what is different about an occurrence is told after it.
const EXCEPTIONS_BEHIND: i64 = 400 * DAY_MICROS;

/// The longest text of schedules that is sent.
const MOST_BYTES: usize = 10_000_000;

thread_local! {
    static NAME_OF: Plan = const { Plan::reading(
        c"select display_name::pg_catalog.text from live_stream.influencer_cards
           where id operator(pg_catalog.=) $1",
        &[pg_sys::UUIDOID],
    ) };
    // What is over for long is left out.
    static VISIBLE: Plan = const { Plan::reading(
        sql!("select id, title, description, updated_at, scheduled_date, scheduled_start_time,
                 scheduled_end_time, timezone::pg_catalog.text, recurrence_rule, last_start,
                 expected_duration_minutes, has_exceptions,
                 sequence, visibility operator(pg_catalog.=) 'public'
            from public.live_stream_schedule
           where influencer_id operator(pg_catalog.=) $1 and status in ", upcoming!(), "
             and case when has_exceptions then 'infinity'
                      else coalesce(last_start, 'infinity') end operator(pg_catalog.>=) $2
           order by scheduled_date, scheduled_start_time, id
           limit 1000"),
        &[pg_sys::UUIDOID, pg_sys::TIMESTAMPOID],
    ) };
}

struct Event {
    stored: Stored<'static>,
    id: Uuid,
    title: String,
    description: Option<String>,
    updated: i64,
    sequence: i32,
    is_public: bool,
}

/// How long programs may keep a calendar: what anybody sees, caches on the way may keep as well.
const CACHED: &str = "public, max-age=300";
const CACHED_BY_CALLER: &str = "private, max-age=300";

/// The schedules of an influencer that the caller may see, as a calendar of RFC 5545; tells PostgREST that it is one.
///
/// Errors: PT404 for no such influencer.
#[pg_extern(volatile)]
fn calendar_feed(influencer: Option<Uuid>) -> String {
    feed(influencer).or_raise()
}

fn no_such_influencer(influencer: Option<Uuid>) -> Error {
    let of = influencer.map_or("null".to_owned(), |id| id.to_string());
    Error::new(
        SqlState::NOT_FOUND,
        format!("influencer {of} does not exist"),
    )
    .hint("Take influencer_id from influencers.")
}

fn feed(influencer: Option<Uuid>) -> Result<String> {
    let now = i64::from(transaction_time());
    let behind = now - 31 * DAY_MICROS;
    let since = Timestamp::try_from(behind).ok();
    let name: Option<Option<String>> = plan::run(&NAME_OF, &[influencer.into()], |rows| {
        Ok((rows.len() > 0).then(|| rows.get(0, 0)))
    })?;
    let (Some(of), Some(name)) = (influencer, name) else {
        return Err(no_such_influencer(influencer));
    };
    let events = plan::run(&VISIBLE, &[influencer.into(), since.into()], |rows| {
        let read = |row| {
            let updated: TimestampWithTimeZone = rows.get(row, 3)?;
            Some(Event {
                id: rows.get(row, 0)?,
                title: rows.get(row, 1)?,
                description: rows.get(row, 2),
                updated: updated.into(),
                sequence: rows.get(row, 12)?,
                is_public: rows.get(row, 13)?,
                stored: Stored {
                    id: rows.get(row, 0),
                    date: rows.get(row, 4),
                    start_time: rows.get(row, 5),
                    end_time: rows.get(row, 6),
                    timezone: rows.get(row, 7).map(Cow::Owned),
                    rule: rows.get(row, 8).map(Cow::Owned),
                    last_start: rows.get(row, 9),
                    duration_minutes: rows.get(row, 10),
                    has_exceptions: rows.get(row, 11),
                },
            })
        };
        Ok((0..rows.len()).filter_map(read).collect::<Vec<_>>())
    })?;

    let is_public = events.iter().all(|event| event.is_public);
    response::set_headers(&[
        ("Content-Type", "text/calendar; charset=utf-8", true),
        (
            "Content-Disposition",
            "inline; filename=\"calendar.ics\"",
            false,
        ),
        (
            "Cache-Control",
            if is_public { CACHED } else { CACHED_BY_CALLER },
            false,
        ),
    ]);
    let ids = events.iter().map(|event| event.id).collect();
    let told = Told {
        now,
        links: Links::of(of, ids, behind)?,
    };
    let stored = events.iter().map(|event| (of, &event.stored));
    let known = Known::within(
        stored,
        now - EXCEPTIONS_BEHIND,
        i64::MAX,
        Some(MOST_EXCEPTIONS),
    )?;
    let mut share = Share::default();
    let mut body = String::new();
    // Each zone with the first start in it.
    let mut zones: BTreeMap<String, (Zone, i64)> = BTreeMap::new();
    for event in events {
        pgrx::check_for_interrupts!();
        // One schedule that makes no sense any more does not hide the others.
        let Ok(series) = event.stored.series() else {
            continue;
        };
        let Some(exceptions) = known.of(of, &event.stored) else {
            continue;
        };
        if exceptions.is_empty()
            && event
                .stored
                .last_start
                .zip(since)
                .is_some_and(|(last, since)| last < since)
        {
            // What was different about it is over too.
            continue;
        }
        let zone = event
            .stored
            .timezone
            .clone()
            .unwrap_or_default()
            .into_owned();
        let times = Times {
            zone: series.zone,
            name: (!matches!(zone.as_str(), "UTC" | "Etc/UTC")).then(|| zone.clone()),
        };
        let (zone_data, first) = (series.zone, series.first);
        let begin = body.len();
        let whole = push_schedule(
            &mut body,
            &event,
            series,
            &exceptions,
            &times,
            &told,
            &mut share,
        );
        if whole.is_none() {
            body.truncate(begin);
            break;
        }
        if times.name.is_some() {
            let known = zones.entry(zone).or_insert((zone_data, first));
            known.1 = known.1.min(first);
        }
    }

    let mut out = String::new();
    for line in [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//live_stream//live_stream//EN",
        "CALSCALE:GREGORIAN",
        "METHOD:PUBLISH",
        "REFRESH-INTERVAL;VALUE=DURATION:PT1H",
        "X-PUBLISHED-TTL:PT1H",
    ] {
        push_line(&mut out, line);
    }
    if let Some(name) = name {
        push_line(&mut out, &format!("X-WR-CALNAME:{}", escape(&name)));
    }
    let until = described_until(now.div_euclid(SECOND) + EPOCH);
    for (name, (zone, first)) in zones {
        // Before 1970 nobody asks.
        let from = (first - 2 * DAY_SECONDS).clamp(0, until);
        push_timezone(&mut out, &name, &zone.offsets(from, until));
    }
    out.push_str(&body);
    push_line(&mut out, "END:VCALENDAR");
    Ok(out)
}

/// How times of a schedule are written: by the clocks of its zone, or in UTC.
struct Times {
    zone: Zone,
    name: Option<String>,
}

impl Times {
    /// A property with times of the clock, in microseconds since 2000.
    fn line(&self, property: &str, walls: &[i64]) -> String {
        let (zone, suffix) = match &self.name {
            Some(name) => (format!(";TZID={name}"), ""),
            None => (String::new(), "Z"),
        };
        let walls: Vec<String> = walls.iter().map(|wall| stamp_of(*wall) + suffix).collect();
        format!("{property}{zone}:{}", walls.join(","))
    }
}

fn stamp_of(micros: i64) -> String {
    stamp(micros.div_euclid(SECOND) + EPOCH)
}

/// What is the same for all schedules.
struct Told {
    now: i64,
    links: Links,
}

/// None where the text is too long with it, or the share is spent.
fn push_schedule(
    out: &mut String,
    event: &Event,
    series: Series,
    exceptions: &Rc<[Exception]>,
    times: &Times,
    told: &Told,
    share: &mut Share,
) -> Option<()> {
    let Told { now, links } = told;
    let url = |original| links.url(event.id, original);
    let first = Expansion::first_start(series.rule.as_ref(), series.first);
    let Some(first) = first.map(|first| (first - EPOCH) * SECOND + series.micros) else {
        return Some(());
    };
    let has_more =
        series.rule.is_some() || exceptions.iter().any(|one| one.kind == ExceptionKind::Add);
    if !has_more {
        // Alone, it has no recurrence to be an exception of.
        if let Some(only) = series.occurrence_at(first, exception_at(exceptions, first)) {
            push_event(out, event, times, &only, None, &url_line(url(Some(first))));
        }
        return (out.len() <= MOST_BYTES).then_some(());
    }
    let Some(start) = series.occurrence_at(first, None) else {
        return Some(());
    };
    let mut more = url_line(url(None));
    if let Some(rule) = &series.rule {
        more.push(format!("RRULE:{}", for_others(rule, times)));
    }
    let of_kind = |kind| {
        let walls = exceptions
            .iter()
            .filter(move |one| one.kind == kind)
            .map(|one| one.original);
        walls.collect::<Vec<i64>>()
    };
    let skipped = of_kind(ExceptionKind::Skip);
    let added = of_kind(ExceptionKind::Add);
    more.extend(skipped.iter().map(|wall| times.line("EXDATE", &[*wall])));
    more.extend(added.iter().map(|wall| times.line("RDATE", &[*wall])));
    let nominal = Length::Elapsed(series.length.nominal());
    push_event(out, event, times, &start, Some((&start, nominal)), &more);

    let again = |one: &Occurrence| {
        let mut lines = vec![times.line("RECURRENCE-ID", &[one.original_wall])];
        lines.extend(url_line(url(Some(one.original_wall))));
        lines
    };
    // Two starts were looked for so far, and one is for each that is different.
    let look = series.cost_of_look();
    share.spend(look.saturating_mul(2));
    let changed = |one: &&Exception| one.kind != ExceptionKind::Skip && one.is_other_than_usual();
    for exception in exceptions.iter().filter(changed) {
        share.spend(look);
        if share.is_spent() || out.len() > MOST_BYTES {
            return None;
        }
        if let Some(one) = series.occurrence_at(exception.original, Some(exception)) {
            push_event(out, event, times, &one, None, &again(&one));
        }
    }
    // What has an address of its own is told one by one.
    for original in links.originals(event.id) {
        share.spend(look);
        if share.is_spent() || out.len() > MOST_BYTES {
            return None;
        }
        let exception = exception_at(exceptions, original);
        if exception.is_some_and(|one| one.kind == ExceptionKind::Skip || changed(&one)) {
            continue;
        }
        if let Some(one) = series.occurrence_at(original, exception) {
            push_event(out, event, times, &one, None, &again(&one));
        }
    }
    let linked: HashSet<i64> = links.originals(event.id).collect();
    if matches!(series.length, Length::Clock(_)) {
        let usual = series.length.nominal();
        let since = now - 31 * DAY_MICROS;
        let series = series.with(exceptions.clone()).at_most(share.left());
        let mut odd = series.between(since, now + ODD_LENGTHS_AHEAD);
        let listed = |wall: i64| exception_at(exceptions, wall).is_some();
        for one in odd
            .by_ref()
            .take(5_000)
            .filter(|one| one.end - one.start != usual)
            .filter(|one| !listed(one.original_wall) && !linked.contains(&one.original_wall))
        {
            push_event(out, event, times, &one, None, &again(&one));
        }
        share.spend(odd.spent());
    }
    (!share.is_spent() && out.len() <= MOST_BYTES).then_some(())
}

/// One VEVENT. `usual` is of an event that recurs: its first start by the rule, and how long all
/// of them last.
fn push_event(
    out: &mut String,
    event: &Event,
    times: &Times,
    one: &Occurrence,
    usual: Option<(&Occurrence, Length)>,
    more: &[String],
) {
    let mut push = |line: &str| push_line(out, line);
    push("BEGIN:VEVENT");
    push(&format!("UID:{}@live_stream", event.id));
    push(&format!("DTSTAMP:{}Z", stamp_of(event.updated)));
    push(&format!("LAST-MODIFIED:{}Z", stamp_of(event.updated)));
    push(&format!("SEQUENCE:{}", event.sequence));
    match usual {
        Some((first, length)) => {
            push(&times.line("DTSTART", &[first.original_wall]));
            if first.end - first.start == length.nominal() {
                push(&times.line("DTEND", &[wall_at(times.zone, first.end)]));
            } else {
                push(&format!("DURATION:PT{}S", length.nominal() / SECOND));
            }
        }
        None => {
            push(&times.line("DTSTART", &[wall_at(times.zone, one.start)]));
            // A clock time that comes twice is not told by the clock.
            let end = wall_at(times.zone, one.end);
            if moment_of(times.zone, end) == one.end && end > wall_at(times.zone, one.start) {
                push(&times.line("DTEND", &[end]));
            } else {
                push(&format!("DURATION:PT{}S", (one.end - one.start) / SECOND));
            }
        }
    }
    more.iter().for_each(|line| push(line));
    let title = one.title.as_deref().unwrap_or(&event.title);
    push(&format!("SUMMARY:{}", escape(title)));
    if let Some(description) = event.description.as_ref().filter(|text| !text.is_empty()) {
        push(&format!("DESCRIPTION:{}", escape(description)));
    }
    push("END:VEVENT");
}

fn url_line(url: Option<String>) -> Vec<String> {
    url.map(|url| format!("URL:{url}")).into_iter().collect()
}

/// The rule as every program reads it: its end in UTC, and what readers differ in said.
fn for_others(rule: &Rule, times: &Times) -> Rule {
    let mut rule = rule.clone();
    if let End::Until(until) = rule.end {
        let micros = (until.min(LATEST) - EPOCH) * SECOND;
        let moment = moment_of(times.zone, micros.max((EARLIEST - EPOCH) * SECOND));
        rule.end = End::UntilUtc(moment.div_euclid(SECOND) + EPOCH);
    }
    let whole_weeks = !rule.week_numbers.is_empty() && rule.weekdays == 0;
    if whole_weeks && rule.month_days | rule.month_days_from_end == 0 && rule.year_days.is_empty() {
        rule.weekdays = 0x7f;
    }
    rule
}
