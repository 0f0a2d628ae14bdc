//! Followers: who follows whom, and is told when a stream goes live and ends. Only public sessions are told of.

use super::{MAX_MINUTES, reminders};
use crate::identity;
use crate::limits;
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::keep;
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, sql};
use crate::pg::row::Row;
use crate::pg::row::required;
use crate::pg::transition::Changes;
use crate::schedule;
use pgrx::datum::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;

thread_local! {
    static TELL: Plan = const { Plan::writing(
        sql!("with enough as materialized (
            select n.user_id
              from public.live_stream_sessions s
              join public.live_stream_notifications n on n.influencer_id = s.influencer_id
             where s.id = $1 and $3 > 0 and ", counts!("n"), "
             group by 1 having count(*) >= $3)
          insert into public.live_stream_notifications
            (user_id, influencer_id, session_id, type, title)
          select f.user_id, s.influencer_id, s.id, $2, s.title
            from public.live_stream_sessions s
            join public.live_stream_followers f on f.influencer_id = s.influencer_id
           where s.id = $1 and s.visibility = 'public'
             and f.user_id not in (select user_id from enough)
          on conflict do nothing"),
        &[pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::INT4OID],
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
    let influencer: Uuid = required(new, "influencer_id")?;
    if old.is_none() {
        let key = "live_stream_followers_influencer_id_fkey";
        keep::keep_referred(key, influencer, "influencer")?;
    }
    if let Some(old) = old {
        new.keep(old, &["user_id", "influencer_id", "created_at"])?;
    } else if !service {
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

/// Followers who are new, or want to be reminded earlier, may be due already, or next.
pub fn settle(changes: Changes<'_>) -> Result<()> {
    let influencer = changes.column::<Uuid>("influencer_id")?;
    let user = changes.column::<Uuid>("user_id")?;
    let minutes = changes.column::<i32>("reminder_minutes")?;
    let mut rows: Vec<(Uuid, Uuid)> = Vec::new();
    changes.for_each(|old, new| {
        let minutes = |row: Option<&Row<'_>>| row.and_then(|row| row.at(minutes));
        if minutes(new) > minutes(old) {
            rows.extend(new.and_then(|row| row.at(influencer).zip(row.at(user))));
        }
        Ok(())
    })?;
    if rows.is_empty() {
        return Ok(());
    }
    let (influencers, users) = rows.into_iter().unzip();
    as_owner(|| reminders::look_for(influencers, users))
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
            reminders::forget(id)?;
            if status == "scheduled" && is_public {
                reminders::expect(id)?;
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
                let told = tell_followers(id, "followed_influencer_live")?;
                if told > 0 {
                    schedule::mark_told(id)?;
                }
            }
            (before, "ended") if before != "ended" && old.is_some() => {
                tell_followers(id, "stream_ended")?;
            }
            _ => {}
        }
        Ok(())
    })
}

/// Returns how many were told.
fn tell_followers(session: Uuid, what: &str) -> Result<usize> {
    let args = [
        session.into(),
        what.into(),
        limits::notifications_per_day().into(),
    ];
    Ok(plan::execute(&TELL, &args)? as usize)
}
