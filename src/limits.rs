//! Limits against abuse: how much one person may do, and one session takes, in a while.
//!
//! Each is a setting; 0 turns it off. They hold for viewers: the host, moderators in
//! the chat, and the server are not held up. Who is over a limit is told how long to wait.

use crate::pg::clock::transaction_time;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::heap::Table;
use crate::pg::lock::{Lock, Mode};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::cell::Cell;

/// The most characters that a message may have, whatever the setting says.
const MESSAGE_CHARS: i32 = 2_000;
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

static MESSAGES: GucSetting<i32> = GucSetting::<i32>::new(20);
static MESSAGE_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(10);
static MESSAGE_LENGTH: GucSetting<i32> = GucSetting::<i32>::new(MESSAGE_CHARS);
static JOINS: GucSetting<i32> = GucSetting::<i32>::new(30);
static ANONYMOUS_JOINS: GucSetting<i32> = GucSetting::<i32>::new(20_000);
static REACTIONS: GucSetting<i32> = GucSetting::<i32>::new(10);
static FLAGS: GucSetting<i32> = GucSetting::<i32>::new(20);

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

fn too_many(what: &str, rule: String, wait: i64) -> Error {
    let seconds = (wait.max(1) + SECOND - 1) / SECOND;
    let plural = if seconds == 1 { "" } else { "s" };
    Error::new(SqlState::TOO_MANY_REQUESTS, format!("too many {what}"))
        .detail(rule)
        .hint(format!("Try again in {seconds} second{plural}."))
}

fn message_interval() -> i64 {
    i64::from(MESSAGE_INTERVAL.get()) * SECOND
}

fn now() -> i64 {
    i64::from(transaction_time())
}

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

thread_local! {
    static JOINED: Plan = const { Plan::writing(
        c"select s.at from public.live_stream_viewers v
           cross join lateral (
             select v.counted_since
             union all
             select b.at from unnest(v.counted_before) with ordinality as b (at, nth)
              where b.nth % 2 = 1) as s (at)
           where v.session_id = $1 and v.user_id = $2 and s.at > now() - interval '1 minute'
           order by s.at desc limit 1 offset $3",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::INT4OID],
    ) };
    static JOINED_ANONYMOUSLY: Plan = const { Plan::writing(
        c"select s.at from public.live_stream_viewers v
           cross join lateral (
             select v.counted_since
             union all
             select b.at from unnest(v.counted_before) with ordinality as b (at, nth)
              where b.nth % 2 = 1) as s (at)
           where v.session_id = $1 and v.id = $2 and s.at > now() - interval '1 minute'
           order by s.at desc limit 1 offset $3",
        &[pg_sys::UUIDOID, pg_sys::UUIDOID, pg_sys::INT4OID],
    ) };
    static ANONYMOUS: Plan = const { Plan::writing(
        c"select count(*), min(joined_at)
            from (select joined_at from public.live_stream_viewers
                   where session_id = $1 and user_id is null
                     and joined_at > now() - interval '1 minute'
                   order by joined_at desc limit $2) as newest",
        &[pg_sys::UUIDOID, pg_sys::INT4OID],
    ) };
    static CROWD: Cell<Option<Crowd>> = const { Cell::new(None) };
}

/// Whether a person who has joined a session may have done so.
pub fn check_joined(session: Uuid, user: Uuid) -> Result<()> {
    check_joins(&JOINED, session, user, JOINS.get())
}

/// Whether a person may come back to its row in a session.
pub fn check_return(session: Uuid, user: Option<Uuid>, viewer: Uuid) -> Result<()> {
    let free = JOINS.get() - 1;
    match user {
        Some(user) => check_joins(&JOINED, session, user, free),
        None => check_joins(&JOINED_ANONYMOUSLY, session, viewer, free),
    }
}

/// `allowed`: so many joins may be there by now.
fn check_joins(
    joined: &'static std::thread::LocalKey<Plan>,
    session: Uuid,
    who: Uuid,
    allowed: i32,
) -> Result<()> {
    let limit = JOINS.get();
    if limit == 0 {
        return Ok(());
    }
    let args = [session.into(), who.into(), allowed.into()];
    let one_too_many = as_owner(|| {
        plan::run(joined, &args, |rows| {
            Ok(rows.get::<TimestampWithTimeZone>(0, 0))
        })
    })?;
    one_too_many.map_or(Ok(()), |at| {
        Err(too_many(
            "joins",
            format!("A person joins a session {limit} times in a minute at most."),
            // A statement's own rows are a little younger than its transaction.
            (i64::from(at) + MINUTE - now()).min(MINUTE),
        ))
    })
}

/// How many anonymous viewers a session had gained within a minute when this backend last
/// counted, and how many more it may admit before it counts again.
#[derive(Clone, Copy)]
struct Crowd {
    session: Uuid,
    counted_at: i64,
    allowance: i64,
    /// Full until then.
    full_until: i64,
}

/// So many backends may admit what one of them counted as free, at the same time.
const BACKENDS: i64 = 64;

/// Whether one more anonymous viewer may join a session. Counting a big crowd takes a while, so
/// a backend counts again only after its share of what was free.
pub fn check_anonymous_join(session: Uuid) -> Result<()> {
    let limit = i64::from(ANONYMOUS_JOINS.get());
    if limit == 0 {
        return Ok(());
    }
    let now = now();
    let known = CROWD.get().filter(|crowd| {
        crowd.session == session && (0..SECOND).contains(&(now - crowd.counted_at))
    });
    let mut crowd = match known {
        Some(crowd) if crowd.allowance > 0 || now < crowd.full_until => crowd,
        _ => count_anonymous(session, limit, now)?,
    };
    if now < crowd.full_until {
        CROWD.set(Some(crowd));
        return Err(too_many(
            "anonymous viewers",
            format!("A session admits {limit} anonymous viewers in a minute at most."),
            crowd.full_until - now,
        ));
    }
    crowd.allowance -= 1;
    CROWD.set(Some(crowd));
    Ok(())
}

fn count_anonymous(session: Uuid, limit: i64, now: i64) -> Result<Crowd> {
    let args = [session.into(), (limit as i32).into()];
    let (count, oldest) = as_owner(|| {
        plan::run(&ANONYMOUS, &args, |rows| {
            let oldest = rows.get::<TimestampWithTimeZone>(0, 1).map(i64::from);
            Ok((rows.get::<i64>(0, 0).unwrap_or(0), oldest))
        })
    })?;
    let full = count >= limit;
    Ok(Crowd {
        session,
        counted_at: now,
        allowance: if full {
            0
        } else {
            ((limit - count) / BACKENDS).max(1)
        },
        full_until: oldest.filter(|_| full).map_or(i64::MIN, |at| at + MINUTE),
    })
}
