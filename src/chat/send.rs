//! Sending a message.

use crate::identity;
use crate::pg::error::OrRaise;
use crate::pg::fits;
use crate::pg::plan::{self, Plan};
use crate::pg::returned;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{AnyElement, Uuid};

thread_local! {
    // Run with the caller's own rights: the policies of the table say who may.
    static SEND: Plan = const { Plan::writing(
        c"insert into public.live_stream_chat
            (session_id, message, message_type, username, avatar_url, parent_message_id, viewer_id,
             user_id)
          values ($1, $2, $3::public.live_stream_message_type, $4, $5, $6, $7, $8)
          returning id",
        &[
            pg_sys::UUIDOID, pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::TEXTOID, pg_sys::TEXTOID,
            pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::UUIDOID,
        ],
    ) };
}

/// Writes in the chat of a session as the caller, and returns the message. The first argument is
/// `null::public.live_stream_chat`.
///
/// Errors: as an INSERT into the table.
#[pg_extern(volatile)]
#[allow(clippy::too_many_arguments)]
fn send_message(
    _of_type: Option<AnyElement>,
    session_id: Option<Uuid>,
    message: Option<&str>,
    message_type: Option<&str>,
    username: Option<&str>,
    avatar_url: Option<&str>,
    parent_message_id: Option<Uuid>,
    viewer_id: Option<Uuid>,
    call: pg_sys::FunctionCallInfo,
) -> Option<AnyElement> {
    let send = || {
        fits::check_text("live_stream_chat", "username", username)?;
        fits::check_text("live_stream_chat", "avatar_url", avatar_url)?;
        let args = [
            session_id.into(),
            message.into(),
            message_type.into(),
            username.into(),
            avatar_url.into(),
            parent_message_id.into(),
            viewer_id.into(),
            identity::user_id()?.into(),
        ];
        let id = plan::run(&SEND, &args, |rows| Ok(rows.get(0, 0)))?;
        returned::row(call, c"live_stream_chat", c"live_stream_chat_pkey", id)
    };
    send().or_raise()
}
