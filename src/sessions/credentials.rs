//! Stream key and RTMP address: taken out of the session's row before it is stored.
//!
//! The BEFORE trigger sets them aside for the AFTER trigger of the same row, which fires
//! only when the row was really written: with ON CONFLICT DO NOTHING, or a refusal by row-level
//! security, it is not, and nothing of another's session may change. Of a session that is saved again they are taken
//! as it is about to be inserted, and the BEFORE UPDATE trigger, which comes next, finds them there.

use crate::pg::error::Result;
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::row::Row;
use crate::pg::set_aside::SetAside;
use crate::pg::transaction;
use crate::pg::trigger::Replaced;
use pgrx::Uuid;
use pgrx::pg_sys;
use std::cell::RefCell;

#[derive(Clone)]
struct Secrets {
    /// Taken of a row that is saved again, and not yet updated.
    awaits_update: bool,
    stream_key: Option<String>,
    rtmp_url: Option<String>,
}

thread_local! {
    static TAKEN: RefCell<SetAside<Secrets>> = const { RefCell::new(SetAside::new()) };
    static STORE: Plan = const { Plan::writing(
        c"insert into public.live_stream_credentials as c (session_id, stream_key, rtmp_url)
          values ($1, nullif($2, ''), nullif($3, ''))
          on conflict (session_id) do update
            set stream_key = case when $2 is null then c.stream_key else nullif($2, '') end,
                rtmp_url = case when $3 is null then c.rtmp_url else nullif($3, '') end,
                updated_at = now()",
        &[pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::TEXTOID],
    ) };
}

/// Called once per backend.
pub fn watch_transactions() {
    transaction::at_end(|| TAKEN.with_borrow_mut(SetAside::clear));
    transaction::at_partial_rollback(|sub| TAKEN.with_borrow_mut(|taken| taken.undo(sub)));
    transaction::at_partial_commit(|sub, parent| {
        TAKEN.with_borrow_mut(|taken| taken.keep(sub, parent));
    });
}

/// Takes the secrets out of a row that is about to be stored.
pub fn take(new: &mut Row<'_>, session: Uuid, replaced: Option<&Replaced>) -> Result<()> {
    let stream_key: Option<String> = new.get("stream_key")?;
    let rtmp_url: Option<String> = new.get("rtmp_url")?;
    let awaiting = TAKEN.with_borrow_mut(|taken| {
        let awaiting = taken.get(session).filter(|it| it.awaits_update).cloned();
        match replaced {
            _ if awaiting.is_some() => taken.forget(session),
            Some(replaced) => taken.forget_unwritten(session, replaced),
            None => taken.forget(session),
        }
        awaiting
    });
    if stream_key.is_none() && rtmp_url.is_none() && awaiting.is_none() {
        return Ok(());
    }
    for column in ["stream_key", "rtmp_url"] {
        if !new.is_null(column)? {
            new.set::<String>(column, None)?;
        }
    }
    TAKEN.with_borrow_mut(|taken| {
        // Of what is to be stored already, one may be left as it is.
        let before = awaiting.as_ref().or(taken.get(session));
        let secrets = Secrets {
            awaits_update: false,
            stream_key: stream_key.or_else(|| before?.stream_key.clone()),
            rtmp_url: rtmp_url.or_else(|| before?.rtmp_url.clone()),
        };
        taken.put(session, secrets, replaced);
    });
    Ok(())
}

/// Takes the secrets out of a row that is saved again: the update of it that comes next finds them.
pub fn take_again(new: &mut Row<'_>, session: Uuid) -> Result<()> {
    take(new, session, None)?;
    TAKEN.with_borrow_mut(|taken| {
        if let Some(secrets) = taken.get(session).cloned() {
            let awaits_update = true;
            taken.put(
                session,
                Secrets {
                    awaits_update,
                    ..secrets
                },
                None,
            );
        }
    });
    Ok(())
}

/// Stores the secrets that were taken out of a row which has now been written.
pub fn store(session: Uuid) -> Result<()> {
    let taken = TAKEN.with_borrow_mut(|all| {
        let taken = all.get(session).cloned();
        all.forget(session);
        taken
    });
    let Some(taken) = taken else { return Ok(()) };
    as_owner(|| {
        let args = [
            session.into(),
            taken.stream_key.into(),
            taken.rtmp_url.into(),
        ];
        plan::execute(&STORE, &args).map(drop)
    })
}
