//! The codes of sessions: who has one, and that no two have the same.

use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::row::{Row, required};
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use session::code;

thread_local! {
    // The expression of the index live_stream_sessions_normal_code_idx.
    static WITH_CODE: Plan = const { Plan::writing(
        c"select id from public.live_stream_sessions
           where translate(upper(session_code collate \"C\"), 'OIL -', '011') = $1",
        &[pg_sys::TEXTOID],
    ) };
}

fn with_normal_form(code: String) -> Result<Option<Uuid>> {
    as_owner(|| plan::run(&WITH_CODE, &[code.into()], |rows| Ok(rows.get(0, 0))))
}

/// The session that has a code, however it was typed.
pub fn session_with(typed: &str) -> Result<Option<Uuid>> {
    code::normalize(typed).map_or(Ok(None), with_normal_form)
}

/// The session that has this code, however it was typed, whoever may see it; null without one.
#[pg_extern(stable, strict)]
fn session_with_code(code: Option<&str>) -> Option<Uuid> {
    code.and_then(|code| session_with(code).or_raise())
}

/// The normal form of a session code as a person typed it; null where it cannot be a code.
#[pg_extern(immutable, parallel_safe, strict)]
fn normalize_session_code(code: Option<&str>) -> Option<String> {
    code.and_then(code::normalize)
}

/// A new code.
pub fn generate() -> Result<String> {
    code::generate().map_err(|error| {
        Error::new(
            SqlState::INTERNAL,
            format!("no random bytes from the system: {error}"),
        )
    })
}

pub fn invalid(code: &str, invalid: code::Invalid) -> Error {
    Error::new(
        SqlState::CHECK_VIOLATION,
        format!("\"{code}\" is no valid session code"),
    )
    .detail(invalid.to_string())
    .hint("Leave session_code out, and the database makes one.")
}

/// Checks that no other session has a code.
///
/// Errors: 23505.
pub fn check_is_free(new: &Row<'_>, id: Uuid) -> Result<()> {
    let code: String = required(new, "session_code")?;
    let Some(normal) = code::normalize(&code) else {
        return Ok(());
    };
    if with_normal_form(normal)?.is_none_or(|other| other == id) {
        return Ok(());
    }
    Err(Error::new(
        SqlState::UNIQUE_VIOLATION,
        format!("session code \"{code}\" is taken"),
    )
    .detail("Codes are the same when they differ in case, dashes, or O for 0 and I or L for 1.")
    .hint("Choose another code, or leave session_code out."))
}
