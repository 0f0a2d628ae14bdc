//! How many messages a person sends, and in slow mode how fast.

use super::settings::{MESSAGE_INTERVAL, MESSAGES, message_interval};
use super::{SECOND, now, too_many};
use crate::pg::error::Result;
use crate::pg::heap::Table;
use crate::pg::lock::{Lock, Mode};
use pgrx::Uuid;

/// Of one person, one after the other, so that what is counted cannot change meanwhile. Taken
/// before the session is entered: who waits here holds nothing that others wait for.
pub fn queue(user: Uuid) {
    if MESSAGES.get() > 0 {
        Lock::Writer(user).wait(Mode::Alone);
    }
}

/// Whether a person may send one more message, in a session with this slow mode in seconds (0:
/// none). The caller has taken the person's [`queue`].
pub fn check_message(user: Uuid, session: Uuid, slow_mode: i32) -> Result<()> {
    let limit = MESSAGES.get();
    let interval = message_interval();
    let slow = i64::from(slow_mode) * SECOND;
    if limit == 0 && slow == 0 {
        return Ok(());
    }
    let now = now();
    let since = now - interval.max(slow);
    let chat = Table::read(c"public", c"live_stream_chat")?;
    let sent_at = chat.column("sent_at")?;
    let mut sent: Vec<(i64, bool)> = Vec::new();
    chat.find_newest(
        c"public",
        c"live_stream_chat_user_id_sent_at_idx",
        &[("user_id", user)],
        sent_at,
        |row, newest_first| {
            let at = row.at(sent_at).map_or(i64::MIN, i64::from);
            if at <= since {
                return Ok(!newest_first);
            }
            sent.push((at, row.get("session_id")? == Some(session)));
            Ok(true)
        },
    )?;
    // Without the index they come in any order.
    sent.sort_unstable_by_key(|(at, _)| std::cmp::Reverse(*at));
    let slowed = sent.iter().find(|(at, here)| *here && *at > now - slow);
    let over = usize::try_from(limit - 1)
        .ok()
        .and_then(|nth| sent.get(nth));
    let wait = match (slowed, over) {
        (Some((at, _)), _) if slow > 0 => Some((true, at + slow - now)),
        (_, Some((at, _))) if *at > now - interval => Some((false, at + interval - now)),
        _ => None,
    };
    match wait {
        None => Ok(()),
        Some((true, wait)) => Err(too_many(
            "messages",
            format!(
                "The chat of this session is in slow mode: a message every {slow_mode} seconds."
            ),
            wait,
        )),
        Some((false, wait)) => Err(too_many(
            "messages",
            format!(
                "A person sends {limit} messages in {} seconds at most.",
                MESSAGE_INTERVAL.get()
            ),
            wait,
        )),
    }
}
