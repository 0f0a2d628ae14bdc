//! Locking a session's row before its children are written.
//!
//! Whoever adds to a session's numbers takes this lock first, before the foreign-key check of
//! the new row does: the check's weaker lock, held by several at a time, would make each later
//! update wait for all of them and leave a multixact behind.

use super::lifecycle::Status;
use crate::error::Result;
use crate::identity::as_owner;
use crate::plan::{self, Plan};
use pgrx::Uuid;
use pgrx::pg_sys;
use std::cell::Cell;

/// A session as it is while this transaction holds its lock.
#[derive(Clone, Copy)]
pub struct Locked {
    pub status: Status,
    pub private: bool,
    pub influencer: Uuid,
    pub chat_enabled: bool,
}

/// The moment in this transaction at which a lock was taken: no command has run since while
/// these are the same, so the session cannot have changed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Moment {
    transaction: pg_sys::TransactionId,
    subtransaction: pg_sys::SubTransactionId,
    command: pg_sys::CommandId,
}

impl Moment {
    fn now() -> Self {
        // SAFETY: reads of this backend's transaction state; the transaction is about to write.
        unsafe {
            Self {
                transaction: pg_sys::GetTopTransactionId(),
                subtransaction: pg_sys::GetCurrentSubTransactionId(),
                command: pg_sys::GetCurrentCommandId(false),
            }
        }
    }
}

thread_local! {
    static LOCK: Plan = const { Plan::writing(
        c"select status::text, visibility = 'private', influencer_id, is_chat_enabled
            from public.live_stream_sessions where id = $1 for no key update",
        &[pg_sys::UUIDOID],
    ) };
    static LAST: Cell<Option<(Moment, Uuid, Locked)>> = const { Cell::new(None) };
}

/// Locks a session until the transaction ends; none where it does not exist. A statement that
/// writes many rows of one session asks the database once.
pub fn lock(session: Uuid) -> Result<Option<Locked>> {
    if let Some((moment, id, locked)) = LAST.get()
        && id == session
        && moment == Moment::now()
    {
        return Ok(Some(locked));
    }
    let locked = as_owner(|| {
        plan::run(&LOCK, &[session.into()], |rows| {
            let status = rows
                .get::<String>(0, 0)
                .and_then(|label| label.parse().ok());
            Ok(status
                .zip(rows.get(0, 1))
                .zip(rows.get(0, 2))
                .zip(rows.get(0, 3))
                .map(|(((status, private), influencer), chat_enabled)| Locked {
                    status,
                    private,
                    influencer,
                    chat_enabled,
                }))
        })
    })?;
    LAST.set(locked.map(|locked| (Moment::now(), session, locked)));
    Ok(locked)
}
