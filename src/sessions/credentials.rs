//! Stream key and RTMP address: taken out of the session's row before it is stored.
//!
//! The BEFORE trigger keeps them in memory for the AFTER trigger of the same row, which fires
//! only when the row was really written: with ON CONFLICT DO NOTHING, or a refusal by row-level
//! security, it is not, and nothing of another's session may change. Of a session that is saved again they are taken
//! as it is about to be inserted, and the BEFORE UPDATE trigger, which comes next, finds them there.

use crate::pg::error::Result;
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::row::Row;
use crate::pg::transaction;
use pgrx::Uuid;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashMap;

struct Taken {
    transaction: pg_sys::TransactionId,
    /// Taken of a row that is saved again, and not yet updated.
    awaits_update: bool,
    stream_key: Option<String>,
    rtmp_url: Option<String>,
}

thread_local! {
    static TAKEN: RefCell<HashMap<Uuid, Taken>> = RefCell::new(HashMap::new());
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

/// Takes the secrets out of a row that is about to be stored.
pub fn take(new: &mut Row<'_>, session: Uuid) -> Result<()> {
    let stream_key: Option<String> = new.get("stream_key")?;
    let rtmp_url: Option<String> = new.get("rtmp_url")?;
    if stream_key.is_none() && rtmp_url.is_none() {
        TAKEN.with_borrow_mut(|all| match all.get_mut(&session) {
            Some(taken) if taken.awaits_update => taken.awaits_update = false,
            // A row before this one may have been taken for the session and never been written.
            _ => drop(all.remove(&session)),
        });
        return Ok(());
    }
    new.set::<String>("stream_key", None)?;
    new.set::<String>("rtmp_url", None)?;
    let transaction = transaction::id();
    TAKEN.with_borrow_mut(|all| {
        if all
            .values()
            .next()
            .is_some_and(|other| other.transaction != transaction)
        {
            all.clear();
        }
        all.insert(
            session,
            Taken {
                transaction,
                awaits_update: false,
                stream_key,
                rtmp_url,
            },
        );
    });
    Ok(())
}

/// Takes the secrets out of a row that is saved again: the update of it that comes next finds them.
pub fn take_again(new: &mut Row<'_>, session: Uuid) -> Result<()> {
    TAKEN.with_borrow_mut(|all| all.remove(&session));
    take(new, session)?;
    TAKEN.with_borrow_mut(|all| {
        if let Some(taken) = all.get_mut(&session) {
            taken.awaits_update = true;
        }
    });
    Ok(())
}

/// Stores the secrets that were taken out of a row which has now been written.
pub fn store(session: Uuid) -> Result<()> {
    let taken = TAKEN.with_borrow_mut(|all| all.remove(&session));
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
