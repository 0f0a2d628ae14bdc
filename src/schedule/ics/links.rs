//! Where a show is to be seen: the addresses that the feed gives its events.

use crate::pg::error::Result;
use crate::pg::plan::{self, Plan, sql};
use pgrx::datum::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::fmt::Write;

static SHOW_URL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// The longest address.
const MAX_BYTES: usize = 2_000;

/// The most sessions of an influencer whose addresses are told.
const MOST_SESSIONS: i64 = 5_000;

pub fn define_settings() {
    GucRegistry::define_string_guc(
        c"live_stream.show_url",
        c"Address of a show, which the calendar feed gives its events.",
        c"A template with {schedule_id}, {influencer_id}, and {session_code} or {session_id}, of public sessions alone. \
          Empty: none.",
        &SHOW_URL,
        GucContext::Userset,
        GucFlags::default(),
    );
}

thread_local! {
    // Whoever asks: the code of a session that is not public is in no calendar.
    static SESSIONS: Plan = const { Plan::reading(
        sql!("select o.schedule_id, o.original_local_start, s.id, s.session_code::pg_catalog.text
            from public.live_stream_schedule_sessions o
            join public.live_stream_sessions s on s.id operator(pg_catalog.=) o.session_id
           where o.schedule_id operator(pg_catalog.=) any ($1) and o.ends_at operator(pg_catalog.>=) $2
             and s.visibility operator(pg_catalog.=) 'public'
             and s.status operator(pg_catalog.<>) 'cancelled'
           order by o.starts_at
           limit $3"),
        &[pg_sys::UUIDARRAYOID, pg_sys::TIMESTAMPTZOID, pg_sys::INT8OID],
    ) };
}

struct Session {
    id: Uuid,
    code: String,
}

/// The addresses of an influencer's shows.
pub struct Links {
    template: Option<String>,
    influencer: Uuid,
    /// By schedule and the clock time of the occurrence by the rule.
    sessions: HashMap<Uuid, BTreeMap<i64, Session>>,
}

impl Links {
    /// Those of schedules, and of sessions that were not over at `since`, in microseconds since 2000.
    pub fn of(influencer: Uuid, schedules: Vec<Uuid>, since: i64) -> Result<Self> {
        let template = SHOW_URL.get().and_then(|text| text.into_string().ok());
        let template = template
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty());
        let mut links = Self {
            template,
            influencer,
            sessions: HashMap::new(),
        };
        if !links.are_of_sessions() {
            return Ok(links);
        }
        let since = TimestampWithTimeZone::try_from(since).ok();
        let args = [schedules.into(), since.into(), MOST_SESSIONS.into()];
        plan::run(&SESSIONS, &args, |rows| {
            for row in 0..rows.len() {
                let (Some(schedule), Some(original), Some(id), Some(code)) = (
                    rows.get::<Uuid>(row, 0),
                    rows.get::<Timestamp>(row, 1),
                    rows.get(row, 2),
                    rows.get(row, 3),
                ) else {
                    continue;
                };
                let of_schedule = links.sessions.entry(schedule).or_default();
                of_schedule.insert(i64::from(original), Session { id, code });
            }
            Ok(())
        })?;
        Ok(links)
    }

    /// True where each occurrence has an address of its own.
    pub fn are_of_sessions(&self) -> bool {
        let names = |text: &String| {
            ["{session_code}", "{session_id}"]
                .iter()
                .any(|name| text.contains(name))
        };
        self.template.as_ref().is_some_and(names)
    }

    /// The clock times, by the rule, of a schedule's occurrences with a session.
    pub fn originals(&self, schedule: Uuid) -> impl Iterator<Item = i64> {
        self.sessions
            .get(&schedule)
            .into_iter()
            .flat_map(|all| all.keys().copied())
    }

    /// The address of a schedule; of one of its occurrences where that has a session, and each an address of its own.
    pub fn url(&self, schedule: Uuid, original: Option<i64>) -> Option<String> {
        let template = self.template.as_ref()?;
        let mut url = template
            .replace("{schedule_id}", &schedule.to_string())
            .replace("{influencer_id}", &self.influencer.to_string());
        if self.are_of_sessions() {
            let session = self.sessions.get(&schedule)?.get(&original?)?;
            url = url
                .replace("{session_id}", &session.id.to_string())
                .replace(
                    "{session_code}",
                    &encoded(&session.code, |one| {
                        one.is_ascii_alphanumeric() || one == b'-'
                    }),
                );
        }
        let url = encoded(&url, |one| one.is_ascii_graphic());
        (url.len() <= MAX_BYTES).then_some(url)
    }
}

/// A text in which everything but what may stand is written with percent signs.
fn encoded(text: &str, may_stand: impl Fn(u8) -> bool) -> String {
    let mut url = String::with_capacity(text.len());
    for byte in text.bytes() {
        if may_stand(byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}
