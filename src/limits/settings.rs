//! The settings of the limits: how much is too much. Other rooms define theirs where they are used.

use super::SECOND;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

/// The most characters that a message may have, whatever the setting says.
const MESSAGE_CHARS: i32 = 2_000;
pub static MESSAGES: GucSetting<i32> = GucSetting::<i32>::new(20);
pub static MESSAGE_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(10);
pub static MESSAGE_LENGTH: GucSetting<i32> = GucSetting::<i32>::new(MESSAGE_CHARS);
pub static JOINS: GucSetting<i32> = GucSetting::<i32>::new(30);
pub static ANONYMOUS_JOINS: GucSetting<i32> = GucSetting::<i32>::new(20_000);
pub static REACTIONS: GucSetting<i32> = GucSetting::<i32>::new(10);
pub static FLAGS: GucSetting<i32> = GucSetting::<i32>::new(20);

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
        OFF,
        &ANONYMOUS_JOINS,
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
}

/// The most characters that a message may have now.
pub fn message_length() -> usize {
    MESSAGE_LENGTH.get().max(1) as usize
}

/// In microseconds.
pub fn message_interval() -> i64 {
    i64::from(MESSAGE_INTERVAL.get()) * SECOND
}
