//! What may be written to a message, and what the database decides itself.

use super::removed;
use super::taken_out;
use crate::access;
use crate::identity;
use crate::influencers;
use crate::limits;
use crate::metrics;
use crate::metrics::entry;
use crate::metrics::entry::{Entered, no_such_session};
use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::keep::Wait;
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan, sql};
use crate::pg::row::Row;
use crate::pg::row::required;
use crate::pg::trigger::Outcome;
use crate::pg::trigger::{self, Replaced};
use crate::viewers;
use pgrx::JsonB;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use session::on_air;

/// A message's columns that its author cannot write.
const DECIDED: &[&str] = &[
    "id",
    "session_id",
    "viewer_id",
    "user_id",
    "message_type",
    "username",
    "avatar_url",
    "is_influencer",
    "is_moderator",
    "deleted_by",
    "parent_message_id",
    "sent_at",
    "edited_at",
    "deleted_at",
];

/// BEFORE INSERT OR UPDATE of a message.
#[pg_trigger]
fn chat_guard<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::before_or_again(trigger, guard_again, |old, new| {
        if metrics::is_settling() {
            return Ok(());
        }
        limits::write_row(old.is_none())?;
        match old {
            None => guard_insert(new),
            Some(old) => {
                let replaced = trigger::replaced(trigger);
                guard_update(old, new, asks_of_flag(trigger, new)?, replaced.as_ref())
            }
        }
    })
}

/// What a moderator writes to a message, and by which id.
const MODERATED: &[&str] = &[
    "id",
    "is_flagged",
    "is_deleted",
    "deletion_reason",
    "deleted_by",
];

/// Whether a statement asks to flag a message, or to clear its flag. Everybody reads false: false asks for nothing beside
/// what else was read, as where a whole row is saved again. A server brings the text along.
fn asks_of_flag(trigger: &PgTrigger<'_>, new: &Row<'_>) -> Result<Option<bool>> {
    if !trigger::sets(trigger, "is_flagged") {
        return Ok(None);
    }
    let flag = new.get::<bool>("is_flagged")?;
    let mut asked_beside = MODERATED.to_vec();
    if identity::is_service()? {
        asked_beside.push("message");
    }
    Ok(flag.filter(|flag| *flag || trigger::sets_only(trigger, &asked_beside)))
}

/// A message that is there and is saved again: `guard_update` comes after it.
fn guard_again(old: &Row<'_>, new: &mut Row<'_>, set: &[pg_sys::AttrNumber]) -> Result<()> {
    if !new.is_among("is_deleted", set)? {
        new.keep(old, &["is_deleted"])?;
    }
    new.keep(old, &["reactions", "replies_count"])?;
    let service = identity::is_service()?;
    if old.get("is_deleted")? == Some(true) && new.get("is_deleted")? != Some(true) {
        // A stub that is sent back has no text to be put back with; who may not put it back is not told it.
        match service || moderates(required(old, "session_id")?)? {
            true => drop(removed::complete(old, new)?),
            false => new.keep(old, &["is_deleted"])?,
        }
    }
    if !removed::is_stub(new)? {
        check_message(new)?;
    }
    if service && !new.same::<String>(old, "username")? {
        check_username(new)?;
    }
    if !service {
        new.keep(old, DECIDED)?;
        // As row-level security asks of who inserts one. Whose message it is, the update leaves as it is.
        new.set("user_id", identity::user_id()?)?;
    } else if new.get("is_deleted")? != Some(true) {
        new.set::<TimestampWithTimeZone>("deleted_at", None)?;
    }
    Ok(())
}

/// The session of a message, if the caller may write there now; and whether it hosts.
pub fn writable(session: Uuid) -> Result<(Entered, bool)> {
    let entered = entry::enter(session)?.ok_or_else(|| no_such_session(session))?;
    let hosts = access::owns(entered.influencer)?;
    if !hosts {
        access::check_may_write(session, &entered)?;
    }
    if !entered.status.is_on_air() {
        return Err(closed(session).detail(format!("The session is {}.", entered.status)));
    }
    if !entered.chat_enabled {
        return Err(closed(session).detail("The host has turned the chat off."));
    }
    entry::keep(session)?;
    Ok((entered, hosts))
}

fn closed(session: Uuid) -> Error {
    let message = format!("the chat of session {session} is closed");
    Error::new(SqlState::INSUFFICIENT_PRIVILEGE, message)
        .hint("Write while the session is live or paused and its chat is enabled.")
}

/// The signed-in user, who alone may write.
pub fn writer() -> Result<Uuid> {
    identity::signed_in("write in the chat")
}

thread_local! {
    // Both stay until the message refers to them.
    static OWN_VIEWER: Plan = const { Plan::writing(
        c"select true from public.live_stream_viewers
           where id = $1 and session_id = $2 and user_id = $3 for key share",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
    static MESSAGE: Plan = const { Plan::writing(
        c"select true from public.live_stream_chat where id = $1 and session_id = $2
             for key share",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID],
    ) };
    static CHAT: Plan = const { Plan::writing(
        sql!("select influencer_id, status in ", on_air!(), " and is_chat_enabled,
                 visibility::text
            from public.live_stream_sessions where id = $1"),
        &[pg_sys::UUIDOID],
    ) };
}

fn guard_insert(new: &mut Row<'_>) -> Result<()> {
    let session: Uuid = required(new, "session_id")?;
    check_username(new)?;
    let service = identity::is_service()?;
    if !(service && removed::is_stub(new)?) {
        check_message(new)?;
    }
    if !service {
        limits::queue(writer()?);
    }
    let parent = new.get::<Uuid>("parent_message_id")?;
    let is_there = parent.map_or(Ok(true), |parent| keep_message(session, parent))?;
    if service {
        let entered = entry::enter(session)?.ok_or_else(|| no_such_session(session))?;
        entry::keep(session)?;
        if let Some(author) = new.get::<Uuid>("user_id")? {
            set_author(new, session, &entered, author)?;
        }
    } else {
        let user = writer()?;
        let (entered, hosts) = writable(session)?;
        if new
            .get::<Uuid>("user_id")?
            .is_some_and(|claimed| claimed != user)
        {
            return Err(Error::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                "a message is written by the signed-in user alone",
            )
            .hint("Leave user_id out, or send the id of the signed-in user."));
        }
        let moderates = !hosts && access::is_moderator(entered.influencer, user)?;
        if !hosts && let Some(name) = new.get::<String>("username")? {
            check_is_not_the_hosts(entered.influencer, &name)?;
        }
        if !hosts && !moderates {
            limits::check_message(user, session, entered.slow_mode)?;
        }
        new.set("user_id", Some(user))?;
        set_viewer(new, session, user)?;
        let kind = new.label("message_type")?;
        if !hosts && !matches!(kind.as_deref(), None | Some("chat" | "reaction")) {
            return Err(Error::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                "only the host sends system messages and product highlights",
            )
            .hint("Send message_type chat or reaction."));
        }
        new.set("is_influencer", Some(hosts))?;
        new.set("is_moderator", Some(moderates))?;
        new.set("sent_at", Some(transaction_time()))?;
        new.set::<TimestampWithTimeZone>("edited_at", None)?;
        new.set("is_deleted", Some(false))?;
        new.set("is_flagged", Some(false))?;
    }
    if new.get::<bool>("is_deleted")? != Some(true) {
        new.set::<TimestampWithTimeZone>("deleted_at", None)?;
        new.set::<Uuid>("deleted_by", None)?;
        new.set::<String>("deletion_reason", None)?;
    }
    new.set("reactions", Some(JsonB(serde_json::Map::new().into())))?;
    new.set_zero(&["replies_count"])?;
    match parent {
        Some(parent) if !is_there => Err(no_such_message(parent)
            .detail("A reply and the message it answers belong to the same session.")),
        _ => removed::take_out_of_new(new),
    }
}

/// Keeps a message of a session from being deleted, for one who has not entered the session yet:
/// whoever deletes messages has them before. Returns whether it is there.
///
/// Errors: PT404 where the session is gone.
pub fn keep_message(session: Uuid, message: Uuid) -> Result<bool> {
    entry::keep(session)?;
    as_owner(|| Ok(plan::execute(&MESSAGE, &[message.into(), session.into()])? > 0))
}

/// What follows from who has written a message that a server brings along.
fn set_author(new: &mut Row<'_>, session: Uuid, entered: &Entered, author: Uuid) -> Result<()> {
    if new.is_null("viewer_id")? {
        new.set("viewer_id", viewers::kept_viewer_of(session, author)?)?;
    }
    if access::owner_of(entered.influencer)? == Some(author) {
        return new.set("is_influencer", Some(true));
    }
    match access::is_moderator(entered.influencer, author)? {
        true => new.set("is_moderator", Some(true)),
        false => Ok(()),
    }
}

fn set_viewer(new: &mut Row<'_>, session: Uuid, user: Uuid) -> Result<()> {
    let Some(viewer) = new.get::<Uuid>("viewer_id")? else {
        return new.set("viewer_id", viewers::kept_viewer_of(session, user)?);
    };
    let args = [viewer.into(), session.into(), user.into()];
    if as_owner(|| plan::execute(&OWN_VIEWER, &args))? == 0 {
        return Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("viewer {viewer} is not the caller in this session"),
        )
        .hint("Leave viewer_id out, or send the id that joining this session returned."));
    }
    Ok(())
}

fn check_message(row: &Row<'_>) -> Result<()> {
    let message: String = required(row, "message")?;
    let most = limits::message_length();
    if text::is_blank(&message) {
        return Err(
            Error::new(SqlState::CHECK_VIOLATION, "the message is empty")
                .hint(format!("Write 1 to {most} characters.")),
        );
    }
    let chars = message.chars().count();
    if chars > most {
        return Err(
            Error::new(SqlState::CHECK_VIOLATION, "the message is too long")
                .detail(format!("It has {chars} characters."))
                .hint(format!("Write {most} characters at most.")),
        );
    }
    Ok(())
}

/// The name that the author shows, where there is one.
fn check_username(row: &Row<'_>) -> Result<()> {
    match row.get::<String>("username")? {
        Some(name) => influencers::check_name("username", &name),
        None => Ok(()),
    }
}

/// Only the host speaks under the name of the host.
fn check_is_not_the_hosts(influencer: Uuid, name: &str) -> Result<()> {
    if !influencers::has_name_like(influencer, name)? {
        return Ok(());
    }
    Err(Error::new(
        SqlState::CHECK_VIOLATION,
        "username is taken for the name of the host",
    )
    .detail(
        "It looks the same: case, spaces, style and letters of other scripts make no difference.",
    )
    .hint("Send another name."))
}

fn guard_update(
    old: &Row<'_>,
    new: &mut Row<'_>,
    mut flag: Option<bool>,
    replaced: Option<&Replaced>,
) -> Result<()> {
    new.keep(old, &["id", "reactions", "replies_count"])?;
    if let Some(replaced) = replaced {
        taken_out::forget_unwritten(required(old, "id")?, replaced);
    }
    let said = removed::complete(old, new)?;
    let edited = new.get::<String>("message")?.as_ref() != Some(&said.message);
    if edited {
        check_message(new)?;
    }
    let service = identity::is_service()?;
    if service && !new.same::<String>(old, "username")? {
        check_username(new)?;
    }
    if !service {
        new.keep(old, DECIDED)?;
        new.set("deleted_by", said.by)?;
        let session: Uuid = required(old, "session_id")?;
        // Who deletes the session waits then, with none of its messages: this statement may want several.
        entry::try_keep(session, Wait::Never)?;
        let user = writer()?;
        let author = old.get("user_id")? == Some(user);
        let Chat {
            influencer,
            hosts,
            moderates,
            open,
        } = chat_of(session, user)?;
        if edited && !(author && old.get("is_deleted")? != Some(true)) {
            return Err(Error::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                "only its author edits a message, until it is deleted",
            )
            .hint("The host and the moderators can delete the message instead."));
        }
        if edited {
            access::check_not_silenced(influencer)?;
            access::check_account_to_write(influencer)?;
        }
        if edited && !open {
            return Err(closed(session));
        }
        if !moderates {
            flag = None;
        }
        // What its author took away stays away; the host and the moderators put back what one of
        // them took away, but no moderator a message of its own.
        let by_author = said.by == old.get::<Uuid>("user_id")?;
        let may_put_back = moderates && !by_author && (hosts || !author);
        if old.get("is_deleted")? == Some(true) && !may_put_back {
            new.keep(old, &["is_deleted"])?;
            new.set("deletion_reason", said.reason.as_deref())?;
        }
        if edited {
            limits::spend(user, limits::Kind::Edit)?;
            new.set("edited_at", Some(transaction_time()))?;
        }
    }
    let (was, is) = (
        old.get("is_deleted")?.unwrap_or(false),
        new.get("is_deleted")?,
    );
    match (was, is.unwrap_or(was)) {
        (false, true) => {
            if !service || new.is_null("deleted_by")? {
                new.set("deleted_by", identity::user_id()?)?;
            }
            new.set("deleted_at", Some(transaction_time()))?;
        }
        (_, false) => {
            new.set::<Uuid>("deleted_by", None)?;
            new.set::<TimestampWithTimeZone>("deleted_at", None)?;
            new.set::<String>("deletion_reason", None)?;
        }
        (true, true) => {}
    }
    new.set("is_deleted", Some(is.unwrap_or(was)))?;
    let known = removed::is_stub(old)?.then_some(&said);
    removed::take_out(new, known, flag, replaced)
}

/// What a session's chat is to the caller.
struct Chat {
    influencer: Uuid,
    hosts: bool,
    /// As a moderator, or as the host.
    moderates: bool,
    open: bool,
}

/// Whether the caller hosts or moderates a session.
fn moderates(session: Uuid) -> Result<bool> {
    let Some(user) = identity::user_id()? else {
        return Ok(false);
    };
    Ok(chat_of(session, user)?.moderates)
}

/// Read without a lock: whoever changes a message holds its row, and the session's comes first.
fn chat_of(session: Uuid, user: Uuid) -> Result<Chat> {
    let found = as_owner(|| {
        plan::run(&CHAT, &[session.into()], |rows| {
            let open = rows.get(0, 1) == Some(true);
            let found = rows.get::<Uuid>(0, 0).zip(rows.get::<String>(0, 2));
            Ok(found.map(|(influencer, visibility)| (influencer, open, visibility)))
        })
    })?;
    let (influencer, open, visibility) = found.ok_or_else(|| no_such_session(session))?;
    let hosts = access::owns(influencer)?;
    Ok(Chat {
        influencer,
        hosts,
        moderates: hosts || access::is_moderator(influencer, user)?,
        open: open && access::sees(session, influencer, &visibility)?,
    })
}

pub fn no_such_message(id: Uuid) -> Error {
    Error::new(SqlState::NOT_FOUND, format!("message {id} does not exist"))
        .hint("Read the chat again: the message may have been removed.")
}

/// Nothing if the caller may change a message: its author, or the host or a moderator of its
/// session.
///
/// Errors: 42501 for somebody else's; PT404 for no message that the caller can see.
#[pg_extern(volatile)]
fn require_own_message(message_id: Option<Uuid>) {
    let check = || {
        if identity::is_service()? {
            return super::reactions::visible_message(message_id).map(drop);
        }
        let user = writer()?;
        let message = super::reactions::visible_message(message_id)?;
        if message.author == Some(user) || chat_of(message.session, user)?.moderates {
            return Ok(());
        }
        Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("message {} is not the caller's", message.id),
        )
        .hint("Only its author, the host and the moderators change a message."))
    };
    check().or_raise()
}
