//! The settings of the limits: how much is too much. Other rooms define theirs where they are used.

use super::SECOND;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

/// The most characters that a message may have, whatever the setting says.
const MESSAGE_CHARS: i32 = 2_000;
pub static MESSAGES: GucSetting<i32> = GucSetting::<i32>::new(20);
pub static MESSAGE_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(10);
pub static MESSAGE_LENGTH: GucSetting<i32> = GucSetting::<i32>::new(MESSAGE_CHARS);
pub static JOINS: GucSetting<i32> = GucSetting::<i32>::new(30);
/// By the places of a session: see [`super::joins`].
pub const BY_PLACES: i32 = -1;
pub static ANONYMOUS_JOINS: GucSetting<i32> = GucSetting::<i32>::new(BY_PLACES);
pub static ADDRESS_JOINS: GucSetting<i32> = GucSetting::<i32>::new(BY_PLACES);
pub static PLACES: GucSetting<i32> = GucSetting::<i32>::new(10);
pub static REACTIONS: GucSetting<i32> = GucSetting::<i32>::new(10);
pub static FLAGS: GucSetting<i32> = GucSetting::<i32>::new(20);
pub static ROWS: GucSetting<i32> = GucSetting::<i32>::new(100);
pub static SCHEDULES: GucSetting<i32> = GucSetting::<i32>::new(1_000);
pub static PLANNED: GucSetting<i32> = GucSetting::<i32>::new(1_000);
pub static EXCEPTIONS: GucSetting<i32> = GucSetting::<i32>::new(1_000);
pub static ALL_EXCEPTIONS: GucSetting<i32> = GucSetting::<i32>::new(10_000);
pub static NOTIFICATIONS: GucSetting<i32> = GucSetting::<i32>::new(50);

pub fn define_settings() {
    let count = |name, short, long, setting, least, most, flags| {
        GucRegistry::define_int_guc(
            name,
            short,
            long,
            setting,
            least,
            most,
            GucContext::Userset,
            flags,
        );
    };
    const OFF: &std::ffi::CStr = c"0 is no limit.";
    const MOST: i32 = 1_000_000;
    let plain = GucFlags::default();
    count(
        c"live_stream.message_limit",
        c"Messages that a person may send, and edits it may make, in live_stream.message_interval.",
        OFF,
        &MESSAGES,
        0,
        1_000,
        plain,
    );
    count(
        c"live_stream.message_interval",
        c"The time for which live_stream.message_limit counts messages.",
        c"A session's slow_mode_seconds say how long a person waits between two messages there.",
        &MESSAGE_INTERVAL,
        1,
        3_600,
        GucFlags::UNIT_S,
    );
    count(
        c"live_stream.message_length",
        c"Characters that a message may have.",
        c"2,000 at most.",
        &MESSAGE_LENGTH,
        1,
        MESSAGE_CHARS,
        plain,
    );
    count(
        c"live_stream.join_limit",
        c"Times that a person may join one session in a minute.",
        OFF,
        &JOINS,
        0,
        MOST,
        plain,
    );
    count(
        c"live_stream.anonymous_join_limit",
        c"Anonymous viewers who may join one session in a minute.",
        c"-1: half of its places, 50 at least; 20,000 where they are not limited. 0 is no limit.",
        &ANONYMOUS_JOINS,
        BY_PLACES,
        MOST,
        plain,
    );
    count(
        c"live_stream.address_join_limit",
        c"Anonymous viewers who may join one session in a minute from one address, as live_stream.ip_tracking keeps it.",
        c"-1: a tenth of those who may join from anywhere, 10 at least. 0 is no limit.",
        &ADDRESS_JOINS,
        BY_PLACES,
        MOST,
        plain,
    );
    count(
        c"live_stream.places_per_person",
        c"Places that a signed-in person may have in one session at the same time: the next one takes that of its oldest.",
        OFF,
        &PLACES,
        0,
        MOST,
        plain,
    );
    count(
        c"live_stream.reaction_limit",
        c"Reactions that a person may give or take back in a second.",
        OFF,
        &REACTIONS,
        0,
        MOST,
        plain,
    );
    count(
        c"live_stream.flag_limit",
        c"Messages that a person may flag in an hour.",
        OFF,
        &FLAGS,
        0,
        MOST,
        plain,
    );
    count(
        c"live_stream.rows_per_request",
        c"Rows that one statement of a client may insert, or change.",
        OFF,
        &ROWS,
        0,
        MOST,
        plain,
    );
    count(
        c"live_stream.schedules_per_influencer",
        c"Schedules that an influencer may have, those that are over included.",
        OFF,
        &SCHEDULES,
        0,
        MOST,
        plain,
    );
    count(
        c"live_stream.planned_sessions_per_influencer",
        c"Sessions of an influencer that may be scheduled: to come, or of the last day.",
        OFF,
        &PLANNED,
        0,
        MOST,
        plain,
    );
    count(
        c"live_stream.exceptions_per_schedule",
        c"Exceptions that a schedule may have.",
        OFF,
        &EXCEPTIONS,
        0,
        MOST,
        plain,
    );
    count(
        c"live_stream.exceptions_per_influencer",
        c"Exceptions that all schedules of an influencer may have, those that are over included.",
        OFF,
        &ALL_EXCEPTIONS,
        0,
        MOST,
        plain,
    );
    count(
        c"live_stream.notifications_per_day",
        c"Times that a follower is told of one influencer's streams in 24 hours.",
        OFF,
        &NOTIFICATIONS,
        0,
        MOST,
        plain,
    );
}

/// The most characters that a message may have now.
pub fn message_length() -> usize {
    MESSAGE_LENGTH.get().max(1) as usize
}

/// Places that a person may have in a session; none without a limit.
pub fn places_per_person() -> Option<i32> {
    Some(PLACES.get()).filter(|&places| places > 0)
}

/// In microseconds.
pub fn message_interval() -> i64 {
    i64::from(MESSAGE_INTERVAL.get()) * SECOND
}
