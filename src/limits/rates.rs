//! What a person does again and again: reactions, flags and edits.

use super::settings::{FLAGS, MESSAGES, REACTIONS, message_interval};
use super::{HOUR, SECOND, now, too_many};
use crate::pg::error::Result;
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// What is counted in `live_stream.person_rates`.
#[derive(Clone, Copy)]
pub enum Kind {
    Reaction = 1,
    Flag = 2,
    Edit = 3,
}

thread_local! {
    static SPEND: Plan = const { Plan::writing(
        c"insert into live_stream.person_rates as r (user_id, kind, since, spent)
          values ($1, $2, now(), 1)
          on conflict (user_id, kind) do update
            set since = case when r.since <= now() - $4 * interval '1 microsecond'
                             then now() else r.since end,
                spent = case when r.since <= now() - $4 * interval '1 microsecond'
                             then 1 else r.spent + 1 end
            where r.since <= now() - $4 * interval '1 microsecond' or r.spent < $3",
        &[pg_sys::UUIDOID, pg_sys::INT2OID, pg_sys::INT4OID, pg_sys::INT8OID],
    ) };
    static SPENT_SINCE: Plan = const { Plan::writing(
        c"select since from live_stream.person_rates where user_id = $1 and kind = $2",
        &[pg_sys::UUIDOID, pg_sys::INT2OID],
    ) };
}

/// Counts that a person does something once more, if it may.
pub fn spend(user: Uuid, kind: Kind) -> Result<()> {
    let (limit, window, what) = match kind {
        Kind::Reaction => (REACTIONS.get(), SECOND, "reactions"),
        Kind::Flag => (FLAGS.get(), HOUR, "flags"),
        Kind::Edit => (MESSAGES.get(), message_interval(), "edits"),
    };
    if limit == 0 {
        return Ok(());
    }
    let args = [
        user.into(),
        (kind as i16).into(),
        limit.into(),
        window.into(),
    ];
    as_owner(|| {
        if plan::execute(&SPEND, &args)? > 0 {
            return Ok(());
        }
        let since = plan::run(&SPENT_SINCE, &args[..2], |rows| {
            Ok(rows.get::<TimestampWithTimeZone>(0, 0))
        })?;
        let rule = match kind {
            Kind::Reaction => {
                format!("A person gives or takes back {limit} reactions in a second at most.")
            }
            Kind::Flag => format!("A person flags {limit} messages in an hour at most."),
            Kind::Edit => format!(
                "A person edits messages {limit} times in {} seconds at most.",
                window / SECOND
            ),
        };
        Err(too_many(
            what,
            rule,
            since.map_or(window, |since| i64::from(since) + window - now()),
        ))
    })
}
