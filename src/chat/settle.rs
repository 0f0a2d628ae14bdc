//! What a statement on the chat changes in the numbers of sessions, viewers and messages.

use crate::metrics::rows::{self, Counted, Tally};
use crate::metrics::{self, Delta};
use crate::moderation::{self, Act};
use crate::pg::error::Result;
use crate::pg::plan::{self, Plan};
use crate::pg::row::{Column, Row};
use crate::pg::transition;
use crate::pg::trigger::Outcome;
use pgrx::Uuid;
use pgrx::prelude::*;
use std::collections::BTreeMap;

/// AFTER TRUNCATE of messages, and so of reactions to them: as if every one had been deleted.
#[pg_trigger]
fn chat_truncated<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    transition::truncate(trigger, || {
        metrics::flush_for_truncate()?;
        metrics::settling(|| {
            plan::execute(&SESSIONS_WITHOUT_CHAT, &[])?;
            plan::execute(&VIEWERS_WITHOUT_CHAT, &[]).map(drop)
        })
    })
}

thread_local! {
    static SESSIONS_WITHOUT_CHAT: Plan = const { Plan::writing(
        c"update public.live_stream_sessions s
             set total_messages = coalesce(a.total_messages, 0),
                 total_reactions = coalesce(a.total_reactions, 0)
            from public.live_stream_sessions o
            left join public.live_stream_archive a on a.session_id = o.id
           where o.id = s.id and (s.total_messages > 0 or s.total_reactions > 0)",
        &[],
    ) };
    static VIEWERS_WITHOUT_CHAT: Plan = const { Plan::writing(
        c"update public.live_stream_viewers set messages_sent = 0, reactions_sent = 0
           where messages_sent > 0 or reactions_sent > 0",
        &[],
    ) };
}

/// AFTER INSERT, UPDATE or DELETE of messages. Messages of the types `chat` and `reaction` count
/// as such; what was sent stays counted when it is marked as deleted, but is no reply any more.
#[pg_trigger]
fn chat_settle<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    transition::after(trigger, |changes| {
        if metrics::is_archiving() {
            return Ok(());
        }
        let session_id = changes.column::<Uuid>("session_id")?;
        let viewer_id = changes.column::<Uuid>("viewer_id")?;
        let parent_message_id = changes.column::<Uuid>("parent_message_id")?;
        let is_deleted = changes.column::<bool>("is_deleted")?;
        let message_type = changes.enum_column("message_type")?;
        let chat = Some(message_type.value("chat")?);
        let reaction = Some(message_type.value("reaction")?);

        let mut sessions: BTreeMap<Uuid, Delta> = BTreeMap::new();
        let mut acts = Vec::new();
        changes.for_each(|old, new| {
            if let (Some(old), Some(new)) = (old, new) {
                acts.extend(moderated(old, new, is_deleted)?);
            }
            for (row, sign) in [(old, -1), (new, 1)] {
                let Some(row) = row else { continue };
                let kind = row.value_at(message_type);
                let message = if kind == chat { sign } else { 0 };
                let reacted = if kind == reaction { sign } else { 0 };
                if let Some(session) = row.at(session_id) {
                    let delta = sessions.entry(session).or_default();
                    delta.messages += message;
                    delta.reactions += reacted;
                }
                let Some(session) = row.at(session_id) else {
                    continue;
                };
                if let Some(viewer) = row.at(viewer_id) {
                    let sent = Tally {
                        messages: message,
                        reactions: reacted,
                        ..Tally::default()
                    };
                    rows::count(session, Counted::viewer(viewer), sent);
                }
                if let Some(parent) = row.at(parent_message_id)
                    && row.at(is_deleted) != Some(true)
                {
                    let replies = Tally {
                        replies: sign,
                        ..Tally::default()
                    };
                    rows::count(session, Counted::message(parent, None), replies);
                }
            }
            Ok(())
        })?;
        for (session, delta) in sessions {
            metrics::apply(session, delta);
        }
        moderation::note(acts)
    })
}

/// What a host or a moderator did to a message: an author who takes its own away is neither.
fn moderated(old: &Row<'_>, new: &Row<'_>, is_deleted: Column<bool>) -> Result<Option<Act>> {
    let (was, is) = (
        old.at(is_deleted) == Some(true),
        new.at(is_deleted) == Some(true),
    );
    let author: Option<Uuid> = new.get("user_id")?;
    let deleted_by: Option<Uuid> = new.get("deleted_by")?;
    let flagged =
        |row: &Row<'_>| Ok::<_, crate::pg::error::Error>(row.get("is_flagged")? == Some(true));
    let action = match (was, is) {
        (false, true) if deleted_by.is_some() && deleted_by == author => return Ok(None),
        (false, true) => "delete_message",
        (true, false) => "restore_message",
        _ if flagged(old)? && !flagged(new)? => "unflag_message",
        _ => return Ok(None),
    };
    Ok(Some(Act {
        action,
        session: new.get("session_id")?,
        user: author,
        message: new.get("id")?,
        reason: new.get("deletion_reason")?,
        actor: deleted_by.filter(|_| is && !was),
        ..Act::default()
    }))
}
