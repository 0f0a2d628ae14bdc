//! Reactions to messages: each person gives each reaction once, and can take it back.

use super::guard::{keep_message, no_such_message, writable, writer};
use crate::access;
use crate::limits;
use crate::metrics::rows::{self, Counted, Of, Tally};
use crate::metrics::{self, Delta};
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::row::required;
use crate::pg::transition;
use crate::pg::trigger;
use crate::pg::trigger::Outcome;
use crate::viewers;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{JsonB, Uuid};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

const REACTION_CHARS: usize = 32;
/// Different reactions that one message may have.
const MAX_DIFFERENT: i64 = 50;
/// Reactions that one person may give to a message: nobody fills one alone.
const MAX_OF_PERSON: usize = 10;

/// A message that the caller can see.
pub struct Message {
    pub id: Uuid,
    pub session: Uuid,
    pub author: Option<Uuid>,
    pub influencer: Uuid,
}

thread_local! {
    static MESSAGE: Plan = const { Plan::writing(
        c"select m.session_id, m.user_id, s.visibility::text, s.influencer_id
            from public.live_stream_chat m
            join public.live_stream_sessions s on s.id = m.session_id
           where m.id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static TAKES: Plan = const { Plan::writing(
        c"select session_id, is_deleted, reactions ? $2,
                 (select count(*) from jsonb_object_keys(reactions))
            from public.live_stream_chat where id = $1 for key share",
        &[pg_sys::UUIDOID, pg_sys::TEXTOID],
    ) };
    static ADD: Plan = const { Plan::writing(
        c"insert into public.live_stream_chat_reactions (message_id, user_id, reaction)
          values ($1, $2, $3) on conflict do nothing",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::TEXTOID],
    ) };
    static OTHERS_OF_PERSON: Plan = const { Plan::writing(
        c"select from public.live_stream_chat_reactions
           where message_id = $1 and user_id = $2 and reaction <> $3",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::TEXTOID],
    ) };
    static HOLD: Plan = const { Plan::writing(
        c"select from public.live_stream_chat_reactions
           where message_id = $1 and user_id = $2 and reaction = $3 for update",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::TEXTOID],
    ) };
    static TAKE_BACK: Plan = const { Plan::writing(
        c"delete from public.live_stream_chat_reactions
           where message_id = $1 and user_id = $2 and reaction = $3",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::TEXTOID],
    ) };
    static COUNT: Plan = const { Plan::writing(
        c"update public.live_stream_chat
             set reactions = case
                   when coalesce((reactions ->> $2)::bigint, 0) + $3 > 0
                   then reactions || jsonb_build_object(
                          $2, coalesce((reactions ->> $2)::bigint, 0) + $3)
                   else reactions - $2 end
           where id = $1 and coalesce((reactions ->> $2)::bigint, 0) + $3 >= 0",
        &[pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::INT8OID],
    ) };
    static COUNT_REPLIES: Plan = const { Plan::writing(
        c"update public.live_stream_chat set replies_count = replies_count + $2
           where id = $1 and replies_count + $2 >= 0",
        &[pg_sys::UUIDOID, pg_sys::INT8OID],
    ) };
}

/// The message with this id, if the caller can see its session.
pub fn visible_message(message_id: Option<Uuid>) -> Result<Message> {
    let id = message_id.ok_or_else(|| {
        Error::new(SqlState::INVALID_PARAMETER, "message_id must not be null")
            .hint("Pass the id of a message.")
    })?;
    let found = as_owner(|| {
        plan::run(&MESSAGE, &[id.into()], |rows| {
            let visibility = rows.get::<String>(0, 2);
            let session = rows.get::<Uuid>(0, 0).zip(rows.get::<Uuid>(0, 3));
            let author = rows.get(0, 1);
            Ok(session
                .zip(visibility)
                .map(|((session, influencer), visibility)| {
                    let message = Message {
                        id,
                        session,
                        author,
                        influencer,
                    };
                    (message, visibility)
                }))
        })
    })?;
    match found {
        Some((message, visibility))
            if access::sees(message.session, message.influencer, &visibility)? =>
        {
            Ok(message)
        }
        _ => Err(no_such_message(id)),
    }
}

/// Adds the caller's reaction to a message, or takes it back; returns the message's id. Doing
/// either twice changes nothing.
///
/// Errors: 42501 without a user, or where the chat is closed; PT404 for no message that the
/// caller can see; 23514 for an empty or over-long reaction, or too many different ones.
#[pg_extern(volatile)]
fn react(message_id: Option<Uuid>, reaction: Option<&str>, take_back: Option<bool>) -> Uuid {
    let react = || {
        let user = writer()?;
        let reaction = one_form(reaction.unwrap_or(""))?;
        let message = visible_message(message_id)?;
        limits::spend(user, limits::Kind::Reaction)?;
        let args = [message.id.into(), user.into(), reaction.as_ref().into()];
        // The message before its reactions, as a message that is deleted takes those along; and both
        // before the session is entered, as by whoever deletes reactions.
        if !keep_message(message.session, message.id)? {
            return Err(no_such_message(message.id));
        }
        if take_back == Some(true) {
            as_owner(|| plan::execute(&HOLD, &args))?;
        } else if as_owner(|| plan::execute(&OTHERS_OF_PERSON, &args))? >= MAX_OF_PERSON {
            return Err(Error::new(
                SqlState::CHECK_VIOLATION,
                format!("a person gives a message {MAX_OF_PERSON} reactions at most"),
            )
            .hint("Take one of them back first."));
        }
        writable(message.session)?;
        let change = if take_back == Some(true) {
            &TAKE_BACK
        } else {
            &ADD
        };
        as_owner(|| plan::execute(change, &args))?;
        Ok(message.id)
    };
    react().or_raise()
}

/// A reaction as it is stored and counted, in whichever spelling it was sent.
///
/// Errors: 23514.
fn one_form(reaction: &str) -> Result<Cow<'_, str>> {
    let reaction = text::one_form(reaction.trim());
    if text::is_blank(&reaction) || reaction.chars().count() > REACTION_CHARS {
        return Err(Error::new(
            SqlState::CHECK_VIOLATION,
            "the reaction is empty or too long",
        )
        .hint(format!(
            "Send an emoji or a name of 1 to {REACTION_CHARS} characters."
        )));
    }
    Ok(reaction)
}

/// BEFORE INSERT OR UPDATE of a reaction: finds its session and viewer.
#[pg_trigger]
fn chat_reactions_guard<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::before(trigger, |old, new| {
        if let Some(old) = old
            && new.same::<Uuid>(old, "message_id")?
            && new.same::<Uuid>(old, "user_id")?
            && new.same::<String>(old, "reaction")?
        {
            // Such as a viewer row that goes: also from a message that was taken away.
            return new.keep(old, &["session_id"]);
        }
        let message: Uuid = required(new, "message_id")?;
        let user: Uuid = required(new, "user_id")?;
        let sent: String = required(new, "reaction")?;
        let reaction = one_form(&sent)?.into_owned();
        if reaction != sent {
            new.set("reaction", Some(reaction.clone()))?;
        }
        let found = as_owner(|| {
            plan::run(&TAKES, &[message.into(), reaction.clone().into()], |rows| {
                let known = rows.get::<bool>(0, 2) == Some(true);
                let different: i64 = rows.get(0, 3).unwrap_or(0);
                let open = rows.get::<bool>(0, 1) != Some(true);
                Ok(rows
                    .get::<Uuid>(0, 0)
                    .filter(|_| open)
                    .map(|id| (id, known, different)))
            })
        })?;
        let Some((session, known, different)) = found else {
            return Err(no_such_message(message));
        };
        if !known && different >= MAX_DIFFERENT {
            return Err(Error::new(
                SqlState::CHECK_VIOLATION,
                "the message has too many different reactions",
            )
            .hint(format!("Use one of its {MAX_DIFFERENT} reactions.")));
        }
        new.set("session_id", Some(session))?;
        new.set("viewer_id", viewers::kept_viewer_of(session, user)?)
    })
}

/// AFTER TRUNCATE of reactions: those sent as messages remain.
#[pg_trigger]
fn chat_reactions_truncated<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    transition::truncate(trigger, || {
        metrics::flush_for_truncate()?;
        metrics::settling(|| {
            plan::execute(&SESSIONS_WITHOUT_REACTIONS, &[])?;
            plan::execute(&VIEWERS_WITHOUT_REACTIONS, &[])?;
            plan::execute(&MESSAGES_WITHOUT_REACTIONS, &[]).map(drop)
        })
    })
}

thread_local! {
    static SESSIONS_WITHOUT_REACTIONS: Plan = const { Plan::writing(
        c"update public.live_stream_sessions s
             set total_reactions = (select count(*) from public.live_stream_chat m
                                     where m.session_id = s.id and m.message_type = 'reaction')
                                   + coalesce((select a.total_reactions
                                                 from public.live_stream_archive a
                                                where a.session_id = s.id), 0)
           where s.total_reactions > 0",
        &[],
    ) };
    static VIEWERS_WITHOUT_REACTIONS: Plan = const { Plan::writing(
        c"update public.live_stream_viewers v
             set reactions_sent = (select count(*) from public.live_stream_chat m
                                    where m.viewer_id = v.id and m.message_type = 'reaction')
           where v.reactions_sent > 0",
        &[],
    ) };
    static MESSAGES_WITHOUT_REACTIONS: Plan = const { Plan::writing(
        c"update public.live_stream_chat set reactions = '{}' where reactions <> '{}'",
        &[],
    ) };
}

/// AFTER INSERT, UPDATE or DELETE of reactions.
#[pg_trigger]
fn chat_reactions_settle<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    transition::after(trigger, |changes| {
        if metrics::is_archiving() {
            return Ok(());
        }
        let session_id = changes.column::<Uuid>("session_id")?;
        let viewer_id = changes.column::<Uuid>("viewer_id")?;
        let message_id = changes.column::<Uuid>("message_id")?;
        let reaction = changes.column::<String>("reaction")?;
        let mut sessions: BTreeMap<Uuid, i64> = BTreeMap::new();
        changes.for_each(|old, new| {
            for (row, sign) in [(old, -1), (new, 1)] {
                let Some(row) = row else { continue };
                let Some(session) = row.at(session_id) else {
                    continue;
                };
                *sessions.entry(session).or_default() += sign;
                let tally = Tally {
                    reactions: sign,
                    ..Tally::default()
                };
                if let Some(viewer) = row.at(viewer_id) {
                    rows::count(session, Counted::viewer(viewer), tally);
                }
                if let Some((message, name)) = row.at(message_id).zip(row.at(reaction)) {
                    rows::count(session, Counted::message(message, Some(name)), tally);
                }
            }
            Ok(())
        })?;
        for (session, reactions) in sessions {
            let delta = Delta {
                reactions,
                ..Delta::default()
            };
            metrics::apply(session, delta);
        }
        Ok(())
    })
}

/// The reactions to a message with what this transaction has done, as an object of that column; without, as an empty one.
#[pg_extern(stable)]
fn tallied_message(message_id: Option<Uuid>, reactions: Option<JsonB>) -> JsonB {
    let counted = message_id.map(|id| rows::counted_on(Of::Message, id));
    let mut changed = false;
    let mut all = match reactions {
        Some(JsonB(Value::Object(all))) => all,
        _ => Map::new(),
    };
    for (reaction, tally) in counted.into_iter().flatten() {
        if let Some(name) = reaction
            && tally.reactions != 0
        {
            changed = true;
            let before = all.get(&name).and_then(Value::as_i64).unwrap_or(0);
            match before.saturating_add(tally.reactions) {
                sum if sum > 0 => all.insert(name, sum.into()),
                _ => all.remove(&name),
            };
        }
    }
    JsonB(match changed {
        true => json!({ "reactions": all }),
        false => json!({}),
    })
}

/// Adds to the tallies of a message.
pub fn add(counted: &Counted, tally: &Tally) -> Result<bool> {
    if let Some(reaction) = &counted.reaction {
        let args = [
            counted.row.into(),
            reaction.clone().into(),
            tally.reactions.into(),
        ];
        return Ok(plan::execute(&COUNT, &args)? > 0);
    }
    let args = [counted.row.into(), tally.replies.into()];
    Ok(plan::execute(&COUNT_REPLIES, &args)? > 0)
}
