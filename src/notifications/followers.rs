//! Followers: who is told when a stream is near, goes live and ends.
//!
//! `live_stream_reminders` says for each scheduled session when the next follower is to be
//! reminded, so that nothing is looked at but what is due. Only public sessions are told of.

use crate::identity;
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::row::Row;
use crate::pg::row::required;
use crate::pg::transition::Changes;
use crate::schedule;
use pgrx::datum::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;

const MAX_MINUTES: i32 = 7 * 24 * 60;

thread_local! {
    static EXPECT: Plan = const { Plan::writing(
        c"insert into public.live_stream_reminders as r (session_id, due_at)
          select s.id, s.scheduled_start_time - make_interval(mins => f.minutes)
            from public.live_stream_sessions s
           cross join lateral (
                   select max(reminder_minutes) as minutes from public.live_stream_followers
                    where influencer_id = s.influencer_id) f
           where s.id = $1 and f.minutes is not null and s.scheduled_start_time > now()
          on conflict (session_id) do update set due_at = excluded.due_at",
        &[pg_sys::UUIDOID],
    ) };
    static FORGET: Plan = const { Plan::writing(
        c"delete from public.live_stream_reminders where session_id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static HURRY: Plan = const { Plan::writing(
        c"insert into public.live_stream_reminders as r (session_id, due_at)
          select s.id, s.scheduled_start_time - make_interval(mins => f.minutes)
            from (select influencer_id, max(minutes) as minutes
                    from unnest($1, $2) as u (influencer_id, minutes) group by 1) f
            join public.live_stream_sessions s on s.influencer_id = f.influencer_id
            left join public.live_stream_reminders there on there.session_id = s.id
           where s.status = 'scheduled' and s.visibility = 'public' and s.scheduled_start_time > now()
             and (there.due_at is null
                  or there.due_at > s.scheduled_start_time - make_interval(mins => f.minutes))
           order by s.id for key share of s skip locked
          on conflict (session_id) do update set due_at = least(r.due_at, excluded.due_at)",
        &[pg_sys::UUIDARRAYOID, pg_sys::INT4ARRAYOID],
    ) };
    static ANY_DUE: Plan = const { Plan::writing(
        c"select true from public.live_stream_reminders where due_at <= now() limit 1",
        &[],
    ) };
    // A session that is being deleted takes its reminder along: both are locked, or neither.
    // Each follower's own time decides; those whose time was before the last run have had it.
    static REMIND: Plan = const { Plan::writing(
        c"with due as materialized (
            select r.session_id, r.due_at, s.influencer_id, s.title, s.scheduled_start_time as starts_at,
                   s.status = 'scheduled' and s.visibility = 'public'
                     and s.scheduled_start_time > now() - interval '10 minutes' as counts
              from public.live_stream_reminders r
              join public.live_stream_sessions s on s.id = r.session_id
             where r.due_at <= now() order by r.due_at limit 1000
               for update of r skip locked for key share of s skip locked),
          told as (
            insert into public.live_stream_notifications
              (user_id, influencer_id, session_id, type, title)
            select f.user_id, d.influencer_id, d.session_id, 'stream_reminder', d.title
              from due d
              join public.live_stream_followers f on f.influencer_id = d.influencer_id
               and f.reminder_minutes >= extract(epoch from d.starts_at - now()) / 60
               and f.reminder_minutes <= ceil(extract(epoch from d.starts_at - d.due_at) / 60)
             where d.counts
            on conflict do nothing
            returning session_id),
          later as (
            select d.session_id, d.starts_at, case when d.counts then (
                     select max(f.reminder_minutes) from public.live_stream_followers f
                      where f.influencer_id = d.influencer_id
                        and f.reminder_minutes < extract(epoch from d.starts_at - now()) / 60) end as minutes
              from due d),
          postponed as (
            update public.live_stream_reminders r
               set due_at = l.starts_at - make_interval(mins => l.minutes)
              from later l where r.session_id = l.session_id and l.minutes is not null),
          done as (
            delete from public.live_stream_reminders r
             using later l where r.session_id = l.session_id and l.minutes is null)
          select session_id, count(*) from told group by 1",
        &[],
    ) };
    static TELL: Plan = const { Plan::writing(
        c"insert into public.live_stream_notifications
            (user_id, influencer_id, session_id, type, title)
          select f.user_id, s.influencer_id, s.id, $2, s.title
            from public.live_stream_sessions s
            join public.live_stream_followers f on f.influencer_id = s.influencer_id
           where s.id = $1 and s.visibility = 'public'
          on conflict do nothing",
        &[pg_sys::UUIDOID, pg_sys::TEXTOID],
    ) };
}

/// Checks a follower that is about to be stored.
pub fn guard(old: Option<&Row<'_>>, new: &mut Row<'_>) -> Result<()> {
    let service = identity::is_service()?;
    let user: Uuid = match new.get("user_id")? {
        Some(user) => user,
        None => {
            let caller = identity::signed_in("follow")?;
            new.set("user_id", Some(caller))?;
            caller
        }
    };
    if !service && identity::user_id()? != Some(user) {
        return Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("the caller is not user {user}"),
        )
        .detail("Everybody follows for themselves.")
        .hint("Leave user_id out."));
    }
    let _: Uuid = required(new, "influencer_id")?;
    if let Some(old) = old {
        new.keep(old, &["user_id", "influencer_id", "created_at"])?;
    } else if !service || new.is_null("created_at")? {
        new.set("created_at", Some(transaction_time()))?;
    }
    new.set("updated_at", Some(transaction_time()))?;
    let minutes = new.get::<i32>("reminder_minutes")?.unwrap_or(15);
    if !(0..=MAX_MINUTES).contains(&minutes) {
        return Err(Error::new(
            SqlState::CHECK_VIOLATION,
            format!("reminder_minutes cannot be {minutes}"),
        )
        .detail("A reminder comes 0 to 10,080 minutes (a week) before the stream.")
        .hint("Send such a number of minutes."));
    }
    new.set("reminder_minutes", Some(minutes))
}

/// Followers that are new, or want to be reminded earlier, may be the next ones due.
pub fn settle(changes: Changes<'_>) -> Result<()> {
    let influencer = changes.column::<Uuid>("influencer_id")?;
    let minutes = changes.column::<i32>("reminder_minutes")?;
    let mut rows: Vec<(Uuid, i32)> = Vec::new();
    changes.for_each(|_, new| {
        rows.extend(new.and_then(|row| row.at(influencer).zip(row.at(minutes))));
        Ok(())
    })?;
    if rows.is_empty() {
        return Ok(());
    }
    let (influencers, minutes): (Vec<Uuid>, Vec<i32>) = rows.into_iter().unzip();
    as_owner(|| plan::execute(&HURRY, &[influencers.into(), minutes.into()]).map(|_| ()))
}

/// What followers are told as a session is planned, moved, goes live or ends.
pub fn tell(old: Option<&Row<'_>>, new: &Row<'_>) -> Result<()> {
    let id: Uuid = required(new, "id")?;
    let is_public = new.label("visibility")?.as_deref() == Some("public");
    let status = new.label("status")?.unwrap_or_default();
    let before = old.map(|old| old.label("status")).transpose()?.flatten();
    let before = before.as_deref().unwrap_or("scheduled");
    as_owner(|| {
        if !is_public {
            schedule::hide_session(id)?;
        }
        let times = |row: &Row<'_>| row.get::<TimestampWithTimeZone>("scheduled_start_time");
        let same_plan = match old {
            Some(old) => {
                times(old)? == times(new)?
                    && before == status
                    && old.label("visibility")? == new.label("visibility")?
            }
            None => times(new)?.is_none(),
        };
        if !same_plan {
            plan::execute(&FORGET, &[id.into()])?;
            if status == "scheduled" && is_public {
                plan::execute(&EXPECT, &[id.into()])?;
            }
        }
        let was_public = match old {
            Some(old) => old.label("visibility")?.as_deref() == Some("public"),
            None => false,
        };
        match (before, status.as_str()) {
            // Who goes on, or opens to all what was live behind closed doors.
            ("live" | "paused", "live") if was_public => {}
            (_, "live") => {
                let args = [id.into(), "followed_influencer_live".into()];
                if plan::execute(&TELL, &args)? > 0 {
                    schedule::mark_told(id)?;
                }
            }
            (before, "ended") if before != "ended" && old.is_some() => {
                plan::execute(&TELL, &[id.into(), "stream_ended".into()])?;
            }
            _ => {}
        }
        Ok(())
    })
}

/// Writes the reminders that are due; for code that runs as the owner of the tables. Looks into
/// one index when none is.
pub fn remind() -> Result<i64> {
    let mut count = 0;
    while plan::run(&ANY_DUE, &[], |rows| Ok(rows.len() > 0))? {
        let told = plan::run(&REMIND, &[], |rows| {
            let told =
                (0..rows.len()).map(|row| (rows.get::<Uuid>(row, 0), rows.get::<i64>(row, 1)));
            Ok(told.collect::<Vec<_>>())
        })?;
        count += told.iter().filter_map(|(_, told)| *told).sum::<i64>();
        let sessions: Vec<Uuid> = told
            .into_iter()
            .filter_map(|(session, _)| session)
            .collect();
        if sessions.is_empty() {
            // Others have locked what is left, or nobody was to be told.
            break;
        }
        schedule::mark_reminded(sessions)?;
    }
    Ok(count)
}
