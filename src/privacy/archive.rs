//! The archive: what is left of rows that are gone, one row for each session.

use super::breakdown;
use crate::metrics::Delta;
use crate::pg::error::Result;
use crate::pg::heap::Table;
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use pgrx::datum::DatumWithOid;
use pgrx::{JsonB, Uuid, pg_sys};
use serde_json::{Map, Value};

/// Viewer rows by country, device, browser and type.
pub const BREAKDOWNS: usize = 4;

/// What went out of a session.
#[derive(Default)]
pub struct Gone {
    /// Viewer rows.
    pub viewers: i64,
    /// What those and others were in the session's numbers.
    pub numbers: Delta,
    pub breakdowns: [Map<String, Value>; BREAKDOWNS],
}

/// Which rows of a session were purged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purged {
    Addresses,
    Chat,
    Viewers,
}

thread_local! {
    static BREAKDOWNS_KEPT: Plan = const { Plan::writing(
        c"select countries, devices, browsers, viewer_types
            from public.live_stream_archive where session_id = $1 for update",
        &[pg_sys::UUIDOID],
    ) };
    static ADD: Plan = const { Plan::writing(
        c"insert into public.live_stream_archive as a
            (session_id, viewers, peak_viewers, total_unique_viewers, total_watch_time_seconds,
             total_messages, total_reactions, total_shares, connection_issues_count,
             buffering_events, total_buffering_time_seconds,
             countries, devices, browsers, viewer_types)
          select s.id, $2, case when $2 > 0 then s.peak_viewers else 0 end, $3, $4, $5, $6, $7, $8,
                 $9, $10, $11, $12, $13, $14
            from public.live_stream_sessions s where s.id = $1
          on conflict on constraint live_stream_archive_pkey do update
            set viewers = a.viewers + excluded.viewers,
                peak_viewers = greatest(a.peak_viewers, excluded.peak_viewers),
                total_unique_viewers = a.total_unique_viewers + excluded.total_unique_viewers,
                total_watch_time_seconds =
                  a.total_watch_time_seconds + excluded.total_watch_time_seconds,
                total_messages = a.total_messages + excluded.total_messages,
                total_reactions = a.total_reactions + excluded.total_reactions,
                total_shares = a.total_shares + excluded.total_shares,
                connection_issues_count =
                  a.connection_issues_count + excluded.connection_issues_count,
                buffering_events = a.buffering_events + excluded.buffering_events,
                total_buffering_time_seconds =
                  a.total_buffering_time_seconds + excluded.total_buffering_time_seconds,
                countries = excluded.countries, devices = excluded.devices,
                browsers = excluded.browsers, viewer_types = excluded.viewer_types,
                updated_at = now()",
        &[
            pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID,
            pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID, pg_sys::INT8OID,
            pg_sys::JSONBOID, pg_sys::JSONBOID, pg_sys::JSONBOID, pg_sys::JSONBOID,
        ],
    ) };
    static MARK: Plan = const { Plan::writing(
        c"insert into public.live_stream_archive as a
            (session_id, addresses_purged_at, chat_purged_at, viewers_purged_at)
          select id, case when $2 then now() end, case when $3 then now() end,
                 case when $4 then now() end
            from public.live_stream_sessions where id = $1
          on conflict on constraint live_stream_archive_pkey do update
            set addresses_purged_at = coalesce(excluded.addresses_purged_at, a.addresses_purged_at),
                chat_purged_at = coalesce(excluded.chat_purged_at, a.chat_purged_at),
                viewers_purged_at = coalesce(excluded.viewers_purged_at, a.viewers_purged_at),
                updated_at = now()",
        &[pg_sys::UUIDOID, pg_sys::BOOLOID, pg_sys::BOOLOID, pg_sys::BOOLOID],
    ) };
    static ADDRESSES_CAME: Plan = const { Plan::writing(
        c"update public.live_stream_archive set addresses_purged_at = null, updated_at = now()
           where session_id = $1 and addresses_purged_at is not null",
        &[pg_sys::UUIDOID],
    ) };
}

/// Counts what went into the archive of its session, whose row this transaction holds. Where
/// viewers went, the peak that the session has now is the least it ever has.
pub fn add(session: Uuid, gone: Gone) -> Result<()> {
    if gone.viewers == 0 && gone.numbers.is_nothing() {
        return Ok(());
    }
    as_owner(|| {
        let mut kept = plan::run(&BREAKDOWNS_KEPT, &[session.into()], |rows| {
            Ok(std::array::from_fn::<_, BREAKDOWNS, _>(
                |column| match rows.get::<JsonB>(0, column) {
                    Some(JsonB(Value::Object(kept))) => kept,
                    _ => Map::new(),
                },
            ))
        })?;
        for (kept, counted) in kept.iter_mut().zip(&gone.breakdowns) {
            breakdown::add(kept, counted);
        }
        let [countries, devices, browsers, types] = kept.map(|kept| JsonB(kept.into()));
        let numbers = gone.numbers;
        let args = [
            session.into(),
            gone.viewers.into(),
            numbers.unique_viewers.into(),
            numbers.watch_seconds.into(),
            numbers.messages.into(),
            numbers.reactions.into(),
            numbers.shares.into(),
            numbers.disconnections.into(),
            numbers.buffering_events.into(),
            numbers.buffering_seconds.into(),
            countries.into(),
            devices.into(),
            browsers.into(),
            types.into(),
        ];
        plan::execute(&ADD, &args).map(drop)
    })
}

/// Notes that rows of a session were purged.
pub fn mark(session: Uuid, purged: Purged) -> Result<()> {
    let is = |what| DatumWithOid::from(purged == what);
    let args = [
        session.into(),
        is(Purged::Addresses),
        is(Purged::Chat),
        is(Purged::Viewers),
    ];
    as_owner(|| plan::execute(&MARK, &args).map(drop))
}

/// An address was written down in a session: where they were purged, they will be once more.
pub fn addresses_came(session: Uuid) -> Result<()> {
    let archive = Table::read(c"public", c"live_stream_archive")?;
    if archive.pages() == 0 {
        return Ok(());
    }
    let mut were_purged = false;
    archive.find(
        c"public",
        c"live_stream_archive_pkey",
        &[("session_id", session)],
        |row| {
            were_purged = !row.is_null("addresses_purged_at")?;
            Ok(false)
        },
    )?;
    drop(archive);
    if were_purged {
        as_owner(|| plan::execute(&ADDRESSES_CAME, &[session.into()]))?;
    }
    Ok(())
}
