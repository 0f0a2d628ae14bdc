//! Limits against abuse: how much one person may do, and one session takes, in a while.
//!
//! Each is a setting; 0 turns it off. Rates hold for viewers: the host, moderators in the chat, and
//! the server are not held up. Who is over one is told how long to wait. Quotas, and the rows of one
//! statement, hold for hosts too; the server alone has none.

mod joins;
mod messages;
mod quotas;
mod rates;
mod rows;
mod settings;

pub use joins::{check_anonymous_join, check_joined, check_return};
pub use messages::{check_message, queue};
pub use quotas::{
    check_exceptions, check_planned, check_schedules, notifications_per_day, room_to_plan,
};
pub use rates::{Kind, spend};
pub use rows::{in_bulk, write_row};
pub use settings::{define_settings, message_length, places_per_person};

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
