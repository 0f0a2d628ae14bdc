//! Who may see or do what, said once: whose an influencer is, who may see a session, who may join
//! and write in it, who is banned.
//!
//! Asked with every join and message: by index, and at once where a table is empty. A policy asks
//! for the same in sets, with one look per statement: `live_stream_sessions_select` in
//! `sql/sessions.sql` is [`sees`] for a whole table.

mod bans;
mod joining;
mod ownership;
mod parts;
mod visibility;

pub(crate) use bans::in_force;
pub use bans::{ban_of, check_not_banned, check_not_silenced};
pub use joining::{
    admit, as_joiner, check_account_to_write, check_may_write, check_signed_in, check_welcome,
    define_settings, is_exempt, is_welcome,
};
pub use ownership::{check_owned, manages, own_session, owner_of, owns};
pub(crate) use parts::is_let_in;
pub use parts::{check_moderated, check_session_of, is_moderator};
pub use visibility::{influencer_of, sees};

use crate::identity;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::heap::Table;
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use pgrx::Uuid;
use std::ffi::CStr;

const BANS: &CStr = c"live_stream_bans";
const MODERATORS: &CStr = c"live_stream_moderators";
const GUESTS: &CStr = c"live_stream_guests";

fn is_empty(table: &'static CStr) -> Result<bool> {
    Ok(Table::read(c"public", table)?.pages() == 0)
}

/// The ids that a query has for the calling user; none for an anonymous request.
fn ids_of_caller(plan: &'static std::thread::LocalKey<Plan>) -> Result<Vec<Uuid>> {
    let Some(user) = identity::user_id()? else {
        return Ok(Vec::new());
    };
    as_owner(|| {
        plan::run(plan, &[user.into()], |rows| {
            Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
        })
    })
}

fn none_named() -> Error {
    Error::new(SqlState::INVALID_PARAMETER, "no influencer is named")
        .detail("The caller owns none.")
        .hint("Pass influencer_id, or session_id where the function takes it.")
}
