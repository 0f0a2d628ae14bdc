//! What a message says that was taken away. Everybody reads its row, also by realtime: so the row is a stub, and text,
//! reason and who did it are in a table that the host and the moderators read, until the message is put back.
//!
//! The guard takes them out of the row, before it is written; the table gets them when the statement has written its rows
//! (`taken_out.rs`).

use super::flags;
use super::taken_out::{self, TakenOut};
use crate::metrics;
use crate::moderation::Act;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::row::{Column, Row, required};
use crate::pg::transition::Changes;
use crate::pg::trigger::Replaced;
use pgrx::Uuid;
use pgrx::pg_sys;

/// What stands in the row of a message until it is taken away, and then in its table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    pub message: String,
    pub reason: Option<String>,
    pub by: Option<Uuid>,
}

/// As bits of `pg_trigger.tgtype`.
const INSERTS: i32 = 1 << 2;
const UPDATES: i32 = 1 << 4;

thread_local! {
    static FIND: Plan = const { Plan::writing(
        c"select message, deletion_reason::text, deleted_by
            from public.live_stream_removed_messages where message_id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static EXISTS: Plan = const { Plan::writing(
        c"select true from public.live_stream_chat where id = $1",
        &[pg_sys::UUIDOID],
    ) };
    // Whoever writes it has the message's row, so nobody else writes it at the same moment. It counts what it has stored.
    static KEEP: Plan = const { Plan::writing(
        c"with a as materialized (
            select u.message_id, u.session_id, u.message, u.deletion_reason, u.deleted_by
              from unnest($1, $2, $3, $4, $5)
                     as u (message_id, session_id, message, deletion_reason, deleted_by)),
          kept as (
            update public.live_stream_removed_messages r
               set session_id = a.session_id, message = a.message,
                   deletion_reason = a.deletion_reason, deleted_by = a.deleted_by
              from a where r.message_id = a.message_id
            returning r.message_id),
          made as (
            insert into public.live_stream_removed_messages
              (message_id, session_id, message, deletion_reason, deleted_by)
            select a.message_id, a.session_id, a.message, a.deletion_reason, a.deleted_by
              from a where a.message_id not in (select k.message_id from kept k)
             order by a.message_id
            returning message_id)
          select (select count(*) from kept) + (select count(*) from made)",
        &[
            pg_sys::UUIDARRAYOID, pg_sys::UUIDARRAYOID, pg_sys::TEXTARRAYOID, pg_sys::TEXTARRAYOID,
            pg_sys::UUIDARRAYOID,
        ],
    ) };
    static SETTLES: Plan = const { Plan::writing(
        c"select from pg_catalog.pg_trigger
           where tgrelid = 'public.live_stream_chat'::regclass
             and tgfoid = 'live_stream.chat_settle()'::regprocedure
             and tgtype & $1 <> 0 and tgenabled in ('O', 'A')",
        &[pg_sys::INT4OID],
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

fn in_row(row: &Row<'_>) -> Result<Said> {
    Ok(Said {
        message: row.get("message")?.unwrap_or_default(),
        reason: row.get("deletion_reason")?,
        by: row.get("deleted_by")?,
    })
}

impl Said {
    /// Whether a row with this is a stub.
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
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
    let Some(said) = known(required(old, "id")?)? else {
        return Ok(stub);
    };
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

/// What a message says that is away.
fn known(message: Uuid) -> Result<Option<Said>> {
    if let Some(said) = taken_out::of(message).and_then(|it| it.said) {
        return Ok(Some(said));
    }
    as_owner(|| {
        plan::run(&FIND, &[message.into()], |rows| {
            Ok((rows.len() > 0).then(|| Said {
                message: rows.get(0, 0).unwrap_or_default(),
                reason: rows.get(0, 1),
                by: rows.get(0, 2),
            }))
        })
    })
}

/// Leaves a stub of a message that is away in its row, and remembers what it says, if that is not `known` to be stored; and
/// whether it is to be flagged.
///
/// Errors: 23514 for a message that comes back and whose text is gone; 55000 where nothing would store what it says.
pub fn take_out(
    row: &mut Row<'_>,
    known: Option<&Said>,
    flag: Option<bool>,
    replaced: Option<&Replaced>,
) -> Result<()> {
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
        if known == Some(&says) {
            said = taken_out::of(id).and_then(|it| it.said);
        } else {
            check_is_stored(replaced.is_some())?;
            said = Some(says);
        }
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
    taken_out::add(id, said, flag, replaced);
    Ok(())
}

/// Checks that the trigger is there that stores what is taken out of a row: else it would be lost.
///
/// Errors: 55000.
fn check_is_stored(is_update: bool) -> Result<()> {
    let args = [(if is_update { UPDATES } else { INSERTS }).into()];
    if as_owner(|| plan::execute(&SETTLES, &args))? > 0 {
        return Ok(());
    }
    Err(Error::new(
        SqlState::NOT_IN_PREREQUISITE_STATE,
        "the text of a message that is taken away would be lost",
    )
    .detail("The trigger of live_stream_chat that stores it is disabled or gone.")
    .hint("Run live_stream.install() to put the triggers of live_stream back."))
}

/// As [`take_out`], of a new message, which a server may bring along as taken away or flagged. Where there is one of that
/// id the statement does not insert it: what it updates sees what was sent.
pub fn take_out_of_new(row: &mut Row<'_>) -> Result<()> {
    let flag = row.get::<bool>("is_flagged")?.filter(|is| *is);
    // Of an earlier row with this id, which was not inserted after all, something may be left.
    if !is_away(row)? && flag.is_none() && !taken_out::is_any() {
        return Ok(());
    }
    let Some(id) = row.get::<Uuid>("id")? else {
        return Ok(());
    };
    if as_owner(|| plan::execute(&EXISTS, &[id.into()]))? > 0 {
        return Ok(());
    }
    taken_out::forget(id);
    take_out(row, Some(&Said::default()), flag, None)
}

/// A message with the session that it is in.
pub type Placed = (Uuid, Uuid);

/// What a statement has done to messages that are or were away, or flagged.
pub struct Changed {
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
        let TakenOut { mut said, flag, .. } = taken_out::take(id);
        // By a trigger of the app's, which comes after the guard: what the message said counts, where the guard knows it.
        let late = is.then(|| in_row(new)).transpose()?;
        if let Some(late) = late.filter(|late| !late.is_nothing()) {
            self.late_texts.push(id);
            if said.is_none() && !was {
                said = Some(late);
            }
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
        let act = match (old, was, is) {
            (None, ..) => None,
            // A statement within this one has stored it, and what was done is this one's.
            (_, false, true) if said.is_none() => acted(new, was, is, known(id)?.as_ref())?,
            _ => acted(new, was, is, said.as_ref())?,
        };
        if let Some(said) = said {
            self.away.push((placed, said));
        }
        if was && !is {
            self.back.push(id);
        }
        Ok(act)
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
            let kept = as_owner(|| plan::run(&KEEP, &args, |rows| Ok(rows.get::<i64>(0, 0))))?;
            if kept != Some(self.away.len() as i64) {
                return Err(not_stored());
            }
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

fn not_stored() -> Error {
    Error::new(
        SqlState::NOT_IN_PREREQUISITE_STATE,
        "the text of a message that is taken away was not stored",
    )
    .detail("A trigger or a rule of live_stream_removed_messages keeps it from that.")
    .hint("Drop it: nothing was changed.")
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
