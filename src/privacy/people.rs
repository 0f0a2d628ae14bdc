//! Where a person is held: every column that says who somebody is. The one list that exports and
//! erasures follow; tests/privacy_addresses_test.py compares it with the catalog.

use super::require_user;
use crate::identity;
use crate::pg::catalog::relation_exists;
use crate::pg::error::{OrRaise, Result};
use crate::pg::owner::as_owner;
use crate::pg::plan;
use crate::pg::transaction;
use pgrx::prelude::*;

/// What an erasure does with the rows that name the person.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnErase {
    /// They go, and what they count in a session stays in its archive: `erase.rs` does so,
    /// session by session.
    Archived,
    /// They go.
    Deleted,
    /// They stay, and name nobody.
    Anonymised,
    /// They go if the caller says so: the person streams.
    Asked,
}

impl OnErase {
    fn name(self) -> &'static str {
        match self {
            OnErase::Archived => "archived",
            OnErase::Deleted => "deleted",
            OnErase::Anonymised => "anonymised",
            OnErase::Asked => "asked",
        }
    }
}

/// A column of a table in `public` that holds users' ids.
pub struct Held {
    pub table: &'static str,
    pub column: &'static str,
    pub on_erase: OnErase,
    /// Columns of the row that are the person's to see; all where there are none.
    pub shown: &'static [&'static str],
}

/// A row is its person's whole.
const fn own(table: &'static str, column: &'static str, on_erase: OnErase) -> Held {
    Held {
        table,
        column,
        on_erase,
        shown: &[],
    }
}

/// A row is about somebody else, or something else, and the person acted on it.
const fn acted(table: &'static str, column: &'static str, shown: &'static [&'static str]) -> Held {
    Held {
        table,
        column,
        on_erase: OnErase::Anonymised,
        shown,
    }
}

/// A row is about the person, and somebody else made it.
const fn about(table: &'static str, column: &'static str, shown: &'static [&'static str]) -> Held {
    Held {
        table,
        column,
        on_erase: OnErase::Deleted,
        shown,
    }
}

/// Tables that a database does not have are passed over.
pub const HELD: &[Held] = &[
    own("live_stream_viewers", "user_id", OnErase::Archived),
    own("live_stream_chat", "user_id", OnErase::Archived),
    acted(
        "live_stream_chat",
        "deleted_by",
        &[
            "id",
            "session_id",
            "deleted_by",
            "deleted_at",
            "deletion_reason",
        ],
    ),
    acted(
        REMOVED,
        "deleted_by",
        &["message_id", "session_id", "deleted_by", "deletion_reason"],
    ),
    own("live_stream_chat_reactions", "user_id", OnErase::Archived),
    own("live_stream_orders", "user_id", OnErase::Anonymised),
    own("live_stream_notifications", "user_id", OnErase::Deleted),
    own("live_stream_followers", "user_id", OnErase::Deleted),
    own("live_stream_follow_changes", "user_id", OnErase::Deleted),
    own("live_stream_moderators", "user_id", OnErase::Deleted),
    about(
        "live_stream_bans",
        "user_id",
        &[
            "id",
            "influencer_id",
            "user_id",
            "kind",
            "reason",
            "session_id",
            "expires_at",
            "created_at",
        ],
    ),
    acted(
        "live_stream_bans",
        "created_by",
        &["id", "influencer_id", "kind", "created_by", "created_at"],
    ),
    about(
        "live_stream_guests",
        "user_id",
        &["session_id", "user_id", "created_at"],
    ),
    acted(
        "live_stream_guests",
        "created_by",
        &["session_id", "created_by", "created_at"],
    ),
    acted(
        "live_stream_invitations",
        "created_by",
        &["id", "session_id", "created_by", "created_at", "expires_at"],
    ),
    acted(
        "live_stream_reminders",
        "after_user_id",
        &["session_id", "after_user_id"],
    ),
    // Last: what goes above is noted there.
    acted(
        LOG,
        "actor_id",
        &[
            "id",
            "influencer_id",
            "session_id",
            "actor_id",
            "action",
            "created_at",
        ],
    ),
    acted(
        LOG,
        "user_id",
        &[
            "id",
            "influencer_id",
            "session_id",
            "action",
            "user_id",
            "message_id",
            "created_at",
        ],
    ),
    own("influencers", "user_id", OnErase::Asked),
];

/// A table whose rows hang on the person's viewer rows.
pub struct OfViewer {
    pub table: &'static str,
    /// The table says who the person is, too: rows that do so say it best.
    pub has_user: bool,
}

/// Every table with a column `viewer_id`.
pub const OF_VIEWER: &[OfViewer] = &[
    OfViewer {
        table: "live_stream_heartbeats",
        has_user: false,
    },
    OfViewer {
        table: "live_stream_chat",
        has_user: true,
    },
    OfViewer {
        table: "live_stream_chat_reactions",
        has_user: true,
    },
    OfViewer {
        table: "live_stream_orders",
        has_user: true,
    },
];

/// What belongs to a person who streams: table, and which of its rows. The viewers, chats and
/// followers of its streams are other people's.
pub const OF_INFLUENCER: &[(&str, &str)] = &[
    ("live_stream_sessions", OWN),
    ("live_stream_credentials", OF_SESSION),
    ("live_stream_products", OF_SESSION),
    ("live_stream_analytics", OF_SESSION),
    ("live_stream_archive", OF_SESSION),
    ("live_stream_schedule", OWN),
    ("live_stream_schedule_exceptions", OF_SCHEDULE),
    ("live_stream_schedule_sessions", OF_SCHEDULE),
];

const OWN: &str = "t.influencer_id in (select i.id from public.influencers i where i.user_id = $1)";
const OF_SESSION: &str = "t.session_id in (select s.id from public.live_stream_sessions s
    join public.influencers i on i.id = s.influencer_id where i.user_id = $1)";
const OF_SCHEDULE: &str = "t.schedule_id in (select s.id from public.live_stream_schedule s
    join public.influencers i on i.id = s.influencer_id where i.user_id = $1)";

/// What messages said that were taken away: their authors' texts, which go with the messages.
const REMOVED: &str = "live_stream_removed_messages";
const OF_AUTHOR: &str = "t.message_id in (select m.id from public.live_stream_chat m
    where m.user_id = $1
       or m.user_id is null
          and m.viewer_id in (select v.id from public.live_stream_viewers v where v.user_id = $1))";

/// Of what was done to a person the log says why, but not of its messages: what moderators write of those is theirs, as
/// in the chat. That one was flagged is told to nobody.
const LOG: &str = "live_stream_moderation_log";
const WHY: &str =
    " || case when t.message_id is null then jsonb_build_object('reason', t.reason) else '{}' end";
const TOLD: &str = " and t.action <> 'unflag_message'";

/// The engine's own table of how often people do something.
pub const RATES: &str = "person_rates";

/// Columns that are named in an export, and not shown.
pub const SECRETS: &[(&str, &[&str])] = &[("live_stream_credentials", &["stream_key", "rtmp_url"])];

/// The entries of the list whose tables are there.
pub fn held() -> Result<Vec<&'static Held>> {
    HELD.iter()
        .filter_map(|held| match is_there(held.table) {
            Ok(true) => Some(Ok(held)),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        })
        .collect()
}

pub fn is_there(table: &str) -> Result<bool> {
    relation_exists(&format!("public.{table}"))
}

/// The columns that say who a person is, and what `erase_user` does about each: `archived` (the
/// rows go, their numbers stay), `deleted`, `anonymised` (the rows stay and name nobody) or
/// `asked` (the person streams; see there).
///
/// Errors: 42501 unless the caller is service_role or has the rights of the tables' owner.
#[pg_extern(stable)]
fn personal_data() -> TableIterator<
    'static,
    (
        name!(table_name, String),
        name!(column_name, String),
        name!(on_erase, String),
    ),
> {
    let list = || {
        identity::require_service("list where people are held")?;
        as_owner(held)
    };
    TableIterator::new(list().or_raise().into_iter().map(|held| {
        (
            held.table.to_owned(),
            held.column.to_owned(),
            held.on_erase.name().to_owned(),
        )
    }))
}

/// Everything that is held on a user, as JSON; works on a standby, whose `person_rates` are empty: `user_id`, `exported_at`, and `tables`, in which
/// the rows stand by table, as they are stored. Of rows that are about somebody else, only what
/// the user did. Of somebody who streams also the sessions, schedules and their numbers; stream
/// keys are named and not shown. Of an app's own `influencers` table, what live_stream reads.
///
/// Errors: 42501 unless the caller is service_role or has the rights of the tables' owner; 22023
/// without an id.
#[pg_extern(stable)]
fn export_user(user_id: Option<pgrx::Uuid>) -> pgrx::JsonB {
    let export = || {
        identity::require_service("export what is held on a user")?;
        let user = require_user(user_id)?;
        as_owner(|| {
            let query = export_query()?;
            let export: Option<pgrx::JsonB> = plan::ask(&query, &[user.into()])?;
            Ok(export.unwrap_or(pgrx::JsonB(serde_json::Value::Null)))
        })
    };
    export().or_raise()
}

/// One statement, so that all of it is of the same moment. $1 is the user.
fn export_query() -> Result<String> {
    let mut parts: Vec<(&str, String)> = Vec::new();
    let mut add = |table, row: &str, which: &str| {
        let query = format!("select {row} as r from public.{table} t where {which}");
        parts.push((table, query));
    };
    for held in held()? {
        let (table, column) = (held.table, held.column);
        if held.on_erase == OnErase::Asked {
            continue;
        }
        let named = format!("t.{column} = $1");
        if held.shown.is_empty() {
            let by_viewer = OF_VIEWER.iter().any(|of| of.has_user && of.table == table);
            let named = if column == "user_id" && by_viewer {
                format!("({named} or t.user_id is null and {MINE})")
            } else {
                named
            };
            add(table, "to_jsonb(t)", &named);
        } else {
            // A row of its own is there already, whole.
            let whole: Vec<String> = HELD
                .iter()
                .filter(|own| own.table == table && own.shown.is_empty())
                .map(|own| format!(" and t.{} is distinct from $1", own.column))
                .collect();
            let (mut row, mut which) = (shown(held.shown), named + &whole.concat());
            if table == LOG && column == "user_id" {
                row += WHY;
                which += TOLD;
            }
            add(table, &row, &which);
        }
    }
    let text = shown(&["message_id", "session_id", "message"]);
    add(REMOVED, &text, OF_AUTHOR);
    for of in OF_VIEWER.iter().filter(|of| !of.has_user) {
        add(of.table, "to_jsonb(t)", MINE);
    }
    for (table, which) in OF_INFLUENCER {
        let secrets = SECRETS.iter().find(|(of, _)| of == table);
        let row = secrets.map_or_else(|| "to_jsonb(t)".to_owned(), |(_, names)| hidden(names));
        add(table, &row, which);
    }
    // Unlogged, so a standby does not have it.
    let rates = if transaction::is_on_standby() {
        "select null::jsonb as r where false".to_owned()
    } else {
        format!("select to_jsonb(t) as r from live_stream.{RATES} t where t.user_id = $1")
    };
    parts.push((RATES, rates));
    parts.push(("influencers", influencer_query()?));
    let mut tables: Vec<&str> = parts.iter().map(|(table, _)| *table).collect();
    tables.sort_unstable();
    tables.dedup();
    let entries: Vec<String> = tables
        .into_iter()
        .map(|table| {
            let rows: Vec<&str> = parts
                .iter()
                .filter(|(of, _)| *of == table)
                .map(|(_, query)| query.as_str())
                .collect();
            format!(
                "select '{table}' as name,
                        coalesce(jsonb_agg(r order by r), '[]') as rows from ({}) q",
                rows.join(" union all ")
            )
        })
        .collect();
    Ok(format!(
        "select jsonb_build_object('user_id', $1::uuid, 'exported_at', now(), 'tables',
                                   jsonb_object_agg(name, rows))
           from ({}) e",
        entries.join(" union all ")
    ))
}

const MINE: &str =
    "t.viewer_id in (select v.id from public.live_stream_viewers v where v.user_id = $1)";

/// A row, or some of its columns, as JSON.
fn shown(columns: &[&str]) -> String {
    if columns.is_empty() {
        return "to_jsonb(t)".to_owned();
    }
    let pairs: Vec<String> = columns
        .iter()
        .map(|column| format!("'{column}', t.{column}"))
        .collect();
    format!("jsonb_build_object({})", pairs.join(", "))
}

/// A row with secrets named and not shown.
fn hidden(columns: &[&str]) -> String {
    let pairs: Vec<String> = columns
        .iter()
        .map(|column| {
            format!("'{column}', case when t.{column} is not null then 'held, not shown' end")
        })
        .collect();
    format!("to_jsonb(t) || jsonb_build_object({})", pairs.join(", "))
}

/// Our own table is exported whole. An app's is the app's: what live_stream reads of it.
fn influencer_query() -> Result<String> {
    Ok(if crate::influencers::is_ours()? {
        "select to_jsonb(t) as r from public.influencers t where t.user_id = $1".to_owned()
    } else {
        "select to_jsonb(c) || jsonb_build_object('user_id', t.user_id) as r
           from public.influencers t
           join live_stream.influencer_cards c on c.id = t.id
          where t.user_id = $1"
            .to_owned()
    })
}
