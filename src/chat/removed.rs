//! What a message says that was taken away. Everybody reads its row, also by realtime: so the row is a stub, and text,
//! reason and who did it are in a table that the host and the moderators read, until the message is put back.
//!
//! The guard takes them out of the row, before it is written; the table gets them when the statement has written its rows.

use super::flags;
use crate::metrics;
use crate::moderation::Act;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::row::{Column, Row};
use crate::pg::transaction;
use crate::pg::transition::Changes;
use pgrx::Uuid;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// What stands in the row of a message until it is taken away, and then in its table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    pub message: String,
    pub reason: Option<String>,
    pub by: Option<Uuid>,
}

/// What a guard has taken out of a row.
#[derive(Default)]
struct TakenOut {
    said: Option<Said>,
    flag: Option<bool>,
}

thread_local! {
    /// By message, until the statement that the guard is of settles. What a row that was not written leaves here is
    /// replaced by the next guard of that message.
    static TAKEN_OUT: RefCell<BTreeMap<Uuid, TakenOut>> = const { RefCell::new(BTreeMap::new()) };

    static FIND: Plan = const { Plan::writing(
        c"select message, deletion_reason::text, deleted_by
            from public.live_stream_removed_messages where message_id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static EXISTS: Plan = const { Plan::writing(
        c"select true from public.live_stream_chat where id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static KEEP: Plan = const { Plan::writing(
        c"insert into public.live_stream_removed_messages as r
            (message_id, session_id, message, deletion_reason, deleted_by)
          select a.message_id, a.session_id, a.message, a.deletion_reason, a.deleted_by
            from unnest($1, $2, $3, $4, $5)
                   as a (message_id, session_id, message, deletion_reason, deleted_by)
           order by a.message_id
          on conflict on constraint live_stream_removed_messages_pkey do update
            set session_id = excluded.session_id, message = excluded.message,
                deletion_reason = excluded.deletion_reason, deleted_by = excluded.deleted_by",
        &[
            pg_sys::UUIDARRAYOID, pg_sys::UUIDARRAYOID, pg_sys::TEXTARRAYOID, pg_sys::TEXTARRAYOID,
            pg_sys::UUIDARRAYOID,
        ],
    ) };
    static DROP: Plan = const { Plan::writing(
        c"delete from public.live_stream_removed_messages where message_id = any ($1)",
        &[pg_sys::UUIDARRAYOID],
    ) };
    static MOVE: Plan = const { Plan::writing(
        c"update public.live_stream_removed_messages r set session_id = a.session_id
            from unnest($1, $2) as a (message_id, session_id)
           where r.message_id = a.message_id",
        &[pg_sys::UUIDARRAYOID, pg_sys::UUIDARRAYOID],
    ) };
    // Each sets nothing else: an app's trigger may look at what it writes.
    static TAKE_OUT_LATE: Plan = const { Plan::writing(
        c"update public.live_stream_chat set message = '', deletion_reason = null, deleted_by = null
           where id = any ($1)",
        &[pg_sys::UUIDARRAYOID],
    ) };
    static UNFLAG_LATE: Plan = const { Plan::writing(
        c"update public.live_stream_chat set is_flagged = false where id = any ($1)",
        &[pg_sys::UUIDARRAYOID],
    ) };
}

/// Called once per backend.
pub fn watch_transactions() {
    transaction::at_end(|| TAKEN_OUT.with_borrow_mut(BTreeMap::clear));
}

fn in_row(row: &Row<'_>) -> Result<Said> {
    Ok(Said {
        message: row.get("message")?.unwrap_or_default(),
        reason: row.get("deletion_reason")?,
        by: row.get("deleted_by")?,
    })
}

fn is_away(row: &Row<'_>) -> Result<bool> {
    Ok(row.get("is_deleted")? == Some(true))
}

/// Whether a row is what is left of a message that was taken away.
pub fn is_stub(row: &Row<'_>) -> Result<bool> {
    Ok(is_away(row)? && row.get::<String>("message")?.as_deref() == Some(""))
}

/// What a message says that is about to be changed, wherever that stands; it becomes what the new row says too, but where
/// it was sent otherwise. A stub that is sent back says nothing otherwise.
pub fn complete(old: &Row<'_>, new: &mut Row<'_>) -> Result<Said> {
    let stub = in_row(old)?;
    if !is_away(old)? {
        if is_stub(new)? {
            new.keep(old, &["message"])?;
        }
        return Ok(stub);
    }
    if is_away(new)? && in_row(new)? == stub {
        return Ok(stub);
    }
    let id: Option<Uuid> = old.get("id")?;
    let found = as_owner(|| {
        plan::run(&FIND, &[id.into()], |rows| {
            Ok((rows.len() > 0).then(|| Said {
                message: rows.get(0, 0).unwrap_or_default(),
                reason: rows.get(0, 1),
                by: rows.get(0, 2),
            }))
        })
    })?;
    let Some(said) = found else { return Ok(stub) };
    if new.same::<String>(old, "message")? {
        new.set("message", Some(said.message.as_str()))?;
    }
    if new.same::<String>(old, "deletion_reason")? {
        new.set("deletion_reason", said.reason.as_deref())?;
    }
    if new.same::<Uuid>(old, "deleted_by")? {
        new.set("deleted_by", said.by)?;
    }
    Ok(said)
}

/// Leaves a stub of a message that is away in its row, and remembers what it says, if that is not `known`; and whether it
/// is to be flagged.
///
/// Errors: 23514 for a message that comes back and whose text is gone.
pub fn take_out(row: &mut Row<'_>, known: Option<&Said>, flag: Option<bool>) -> Result<()> {
    let Some(id) = row.get::<Uuid>("id")? else {
        return Ok(());
    };
    let mut said = None;
    if is_away(row)? {
        let says = in_row(row)?;
        if !says.message.is_empty() {
            row.set("message", Some(""))?;
        }
        row.set::<String>("deletion_reason", None)?;
        row.set::<Uuid>("deleted_by", None)?;
        said = (known != Some(&says)).then_some(says);
    } else if row.get::<String>("message")?.as_deref() == Some("") {
        return Err(Error::new(
            SqlState::CHECK_VIOLATION,
            format!("the text of message {id} is gone"),
        )
        .detail("It is in live_stream_removed_messages no longer.")
        .hint("Leave the message deleted, or send its text along as the server."));
    }
    if row.get("is_flagged")? != Some(false) {
        row.set("is_flagged", Some(false))?;
    }
    TAKEN_OUT.with_borrow_mut(|taken_out| match (said, flag) {
        (None, None) => drop(taken_out.remove(&id)),
        (said, flag) => drop(taken_out.insert(id, TakenOut { said, flag })),
    });
    Ok(())
}

/// As [`take_out`], of a new message, which a server may bring along as taken away or flagged. Where there is one of that
/// id the statement does not insert it: what it updates sees what was sent.
pub fn take_out_of_new(row: &mut Row<'_>) -> Result<()> {
    let flag = row.get::<bool>("is_flagged")?.filter(|is| *is);
    if !is_away(row)? && flag.is_none() {
        return Ok(());
    }
    let id: Option<Uuid> = row.get("id")?;
    if as_owner(|| plan::execute(&EXISTS, &[id.into()]))? > 0 {
        return Ok(());
    }
    take_out(row, Some(&Said::default()), flag)
}

/// A message with the session that it is in.
pub type Placed = (Uuid, Uuid);

/// What a statement has done to messages that are or were away, or flagged.
pub struct Changed {
    message: Column<String>,
    is_deleted: Column<bool>,
    is_flagged: Column<bool>,
    session_id: Column<Uuid>,
    id: Column<Uuid>,
    away: Vec<(Placed, Said)>,
    back: Vec<Uuid>,
    moved: Vec<Placed>,
    flagged: Vec<Placed>,
    cleared: Vec<flags::Cleared>,
    late_texts: Vec<Uuid>,
    late_flags: Vec<Uuid>,
}

impl Changed {
    /// Errors: 55000 where a column is missing.
    pub fn of(changes: &Changes<'_>) -> Result<Self> {
        Ok(Self {
            message: changes.column("message")?,
            is_deleted: changes.column("is_deleted")?,
            is_flagged: changes.column("is_flagged")?,
            session_id: changes.column("session_id")?,
            id: changes.column("id")?,
            away: Vec::new(),
            back: Vec::new(),
            moved: Vec::new(),
            flagged: Vec::new(),
            cleared: Vec::new(),
            late_texts: Vec::new(),
            late_flags: Vec::new(),
        })
    }

    /// Looks at a row as it was, if it was, and as it is; returns what a host or a moderator did to the message.
    pub fn see(&mut self, old: Option<&Row<'_>>, new: &Row<'_>) -> Result<Option<Act>> {
        let is_away = |row: &Row<'_>| row.at(self.is_deleted) == Some(true);
        let (was, is) = (old.is_some_and(is_away), is_away(new));
        let (Some(id), Some(session)) = (new.at(self.id), new.at(self.session_id)) else {
            return Ok(None);
        };
        let placed = (id, session);
        if old.is_some_and(|old| old.at(self.session_id) != Some(session)) {
            self.moved.push(placed);
        }
        let TakenOut { mut said, flag } =
            TAKEN_OUT.with_borrow_mut(|taken_out| taken_out.remove(&id).unwrap_or_default());
        // By a trigger of the app's, which comes after the guard.
        let is_text = is && new.at(self.message).is_some_and(|text| !text.is_empty());
        if is_text {
            said = Some(in_row(new)?);
            self.late_texts.push(id);
        }
        let is_flagged = new.at(self.is_flagged) == Some(true);
        if is_flagged {
            self.late_flags.push(id);
        }
        match flag {
            _ if is_flagged => self.flagged.push(placed),
            Some(true) => self.flagged.push(placed),
            Some(false) => self.cleared.push(flags::Cleared {
                message: id,
                session,
                author: new.get("user_id")?,
            }),
            None => {}
        }
        let act = old
            .map(|_| acted(new, was, is, said.as_ref()))
            .transpose()?;
        if let Some(said) = said {
            self.away.push((placed, said));
        }
        if was && !is {
            self.back.push(id);
        }
        Ok(act.flatten())
    }

    /// Brings the tables up to it; returns which flags the caller cleared.
    pub fn settle(self) -> Result<Vec<Act>> {
        if !self.away.is_empty() {
            let of = |get: fn(&Placed) -> Uuid| {
                let ids = self.away.iter().map(|(placed, _)| Some(get(placed)));
                ids.collect::<Vec<_>>()
            };
            let said = || self.away.iter().map(|(_, said)| said);
            let args = [
                of(|placed| placed.0).into(),
                of(|placed| placed.1).into(),
                said()
                    .map(|said| Some(said.message.clone()))
                    .collect::<Vec<_>>()
                    .into(),
                said()
                    .map(|said| said.reason.clone())
                    .collect::<Vec<_>>()
                    .into(),
                said().map(|said| said.by).collect::<Vec<_>>().into(),
            ];
            as_owner(|| plan::execute(&KEEP, &args))?;
        }
        if !self.back.is_empty() {
            as_owner(|| plan::execute(&DROP, &[self.back.into()]))?;
        }
        if !self.moved.is_empty() {
            let (ids, sessions): (Vec<Uuid>, Vec<Uuid>) = self.moved.into_iter().unzip();
            let args = [ids.into(), sessions.into()];
            as_owner(|| plan::execute(&MOVE, &args))?;
            flags::moved(&args)?;
        }
        flags::set(self.flagged)?;
        for (ids, plan) in [
            (self.late_texts, &TAKE_OUT_LATE),
            (self.late_flags, &UNFLAG_LATE),
        ] {
            if !ids.is_empty() {
                metrics::settling(|| plan::execute(plan, &[ids.into()]))?;
            }
        }
        flags::clear(self.cleared)
    }
}

/// What a host or a moderator did to a message: an author who takes its own away is neither.
fn acted(new: &Row<'_>, was: bool, is: bool, said: Option<&Said>) -> Result<Option<Act>> {
    let author: Option<Uuid> = new.get("user_id")?;
    let by = said.and_then(|said| said.by);
    let action = match (was, is) {
        (false, true) if by.is_some() && by == author => return Ok(None),
        (false, true) => "delete_message",
        (true, false) => "restore_message",
        _ => return Ok(None),
    };
    Ok(Some(Act {
        action,
        session: new.get("session_id")?,
        user: author,
        message: new.get("id")?,
        reason: said.and_then(|said| said.reason.clone()),
        actor: by,
        ..Act::default()
    }))
}
