//! Limits against abuse: how much one person may do, and one session takes, in a while.
//!
//! Each is a setting; 0 turns it off. They hold for viewers: the host, moderators in
//! the chat, and the server are not held up. Who is over a limit is told how long to wait.

mod joins;
mod messages;
mod rates;
mod settings;

pub use joins::{check_anonymous_join, check_joined, check_return};
pub use messages::{check_message, queue};
pub use rates::{Kind, spend};
pub use settings::{define_settings, message_length};

use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, SqlState};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

fn too_many(what: &str, rule: String, wait: i64) -> Error {
    let seconds = (wait.max(1) + SECOND - 1) / SECOND;
    let plural = if seconds == 1 { "" } else { "s" };
    Error::new(SqlState::TOO_MANY_REQUESTS, format!("too many {what}"))
        .detail(rule)
        .hint(format!("Try again in {seconds} second{plural}."))
}

fn now() -> i64 {
    i64::from(transaction_time())
}
