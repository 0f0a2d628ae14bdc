//! What a statement on the chat changes in the numbers of sessions, viewers and messages.

use super::removed::Changed;
use crate::metrics::rows::{self, Counted, Tally};
use crate::metrics::{self, Delta};
use crate::moderation;
use crate::pg::plan::{self, Plan};
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
        let mut removed = (!metrics::is_settling())
            .then(|| Changed::of(&changes))
            .transpose()?;
        changes.for_each(|old, new| {
            if let Some((removed, new)) = removed.as_mut().zip(new) {
                acts.extend(removed.see(old, new)?);
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
        if let Some(removed) = removed {
            acts.extend(removed.settle()?);
        }
        moderation::note(acts)
    })
}
