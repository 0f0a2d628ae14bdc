//! The tables and enums of live_stream as the files of `sql/` make them: what the engine relies on.
//!
//! The files are read here as text, and only what is needed of it: the lines of `create table` and
//! `create type … as enum`. So a column is written down once, in SQL. `install` runs the same files.

use std::ffi::CString;
use std::sync::LazyLock;

/// The files of the API layer, in the order of what refers to what.
pub const FILES: &[(&str, &str)] = &[
    ("identity", include_str!("../../sql/identity.sql")),
    ("access", include_str!("../../sql/access.sql")),
    ("sessions", include_str!("../../sql/sessions.sql")),
    ("viewers", include_str!("../../sql/viewers.sql")),
    ("chat", include_str!("../../sql/chat.sql")),
    ("moderation", include_str!("../../sql/moderation.sql")),
    (
        "moderation_log",
        include_str!("../../sql/moderation_log.sql"),
    ),
    ("products", include_str!("../../sql/products.sql")),
    ("orders", include_str!("../../sql/orders.sql")),
    ("privacy", include_str!("../../sql/privacy.sql")),
    ("metrics", include_str!("../../sql/metrics.sql")),
    ("limits", include_str!("../../sql/limits.sql")),
    ("schedule", include_str!("../../sql/schedule.sql")),
    (
        "schedule_sessions",
        include_str!("../../sql/schedule_sessions.sql"),
    ),
    (
        "schedule_exceptions",
        include_str!("../../sql/schedule_exceptions.sql"),
    ),
    ("analytics", include_str!("../../sql/analytics.sql")),
    ("notifications", include_str!("../../sql/notifications.sql")),
    ("realtime", include_str!("../../sql/realtime.sql")),
];

/// The app's own table where it has one: what the engine needs of it.
const INFLUENCERS: &str =
    "create table public.influencers (\n  id uuid not null,\n  user_id uuid not null,\n);";

/// The schema of the engine's own tables, which nobody else writes.
pub const PRIVATE: &str = "live_stream";

#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// As the file has it, without a length: `varchar`, `timestamptz[]`, `public.live_stream_status`.
    pub kind: &'static str,
    /// What follows: `(12,2)`; empty where nothing does.
    pub length: &'static str,
    pub not_null: bool,
}

impl Column {
    /// Digits after the point; none where they are not limited.
    pub fn decimals(&self) -> Option<i32> {
        let (_, decimals) = self.length.strip_suffix(')')?.split_once(',')?;
        decimals.trim().parse().ok()
    }

    /// Digits before and after the point; none where they are not limited.
    pub fn digits(&self) -> Option<(usize, usize)> {
        let limits = self.length.strip_prefix('(')?.strip_suffix(')')?;
        let (all, decimals) = limits.split_once(',')?;
        let (all, decimals): (usize, usize) = (all.parse().ok()?, decimals.parse().ok()?);
        Some((all.checked_sub(decimals)?, decimals))
    }

    /// Characters of a text; none where they are not limited.
    pub fn most_chars(&self) -> Option<usize> {
        let most = self.length.strip_prefix('(')?.strip_suffix(')')?;
        most.parse().ok().filter(|_| self.kind == "varchar")
    }

    /// Its type as SQL names it.
    pub fn type_name(&self) -> String {
        format!("{}{}", self.kind, self.length)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    pub schema: &'static str,
    pub name: &'static str,
    /// Both once more, as look-ups in the catalog take them.
    pub schema_name: CString,
    pub table_name: CString,
    pub unlogged: bool,
    pub columns: Vec<Column>,
    /// The columns of its primary key.
    pub key: Vec<&'static str>,
}

impl Table {
    /// Made by us, in every database.
    pub fn is_ours(&self) -> bool {
        self.name != "influencers"
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Enum {
    pub schema: &'static str,
    pub name: &'static str,
    pub labels: Vec<&'static str>,
}

static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
    let texts = FILES.iter().map(|(_, sql)| *sql);
    texts.chain([INFLUENCERS]).flat_map(tables_of).collect()
});

/// The table of influencers as we make it where the app has none.
static OWN_INFLUENCERS: LazyLock<Vec<Table>> =
    LazyLock::new(|| tables_of(include_str!("../../sql/influencers.sql")));

static ENUMS: LazyLock<Vec<Enum>> =
    LazyLock::new(|| FILES.iter().flat_map(|(_, sql)| enums_of(sql)).collect());

/// Every table that the engine relies on.
#[cfg(test)]
pub fn all() -> &'static [Table] {
    &TABLES
}

/// A table by its name; none if the files make none of that name.
pub fn table(schema: &str, name: &str) -> Option<&'static Table> {
    TABLES
        .iter()
        .find(|table| (table.schema, table.name) == (schema, name))
}

/// Whether we made a column of a table that a guard of ours is on: of influencers, that is our own table.
pub fn makes(table: &str, column: &str) -> bool {
    let table = OWN_INFLUENCERS
        .iter()
        .find(|own| own.name == table)
        .or_else(|| self::table("public", table));
    table.is_some_and(|table| table.columns.iter().any(|it| it.name == column))
}

/// Every enum of ours.
pub fn enums() -> &'static [Enum] {
    &ENUMS
}

/// An enum by its name as a column has it, with its schema.
pub fn enumeration(kind: &str) -> Option<&'static Enum> {
    let (schema, name) = kind.split_once('.')?;
    ENUMS
        .iter()
        .find(|found| (found.schema, found.name) == (schema, name))
}

/// What a statement of the engine relies on: the tables that it names, and of each the columns
/// whose names are among its words. `c.session_id = $1` relies on `session_id` of every table that
/// the statement names and that has such a column: more than it needs, and never less.
pub fn relied_on(sql: &str) -> Vec<(&'static Table, Vec<&'static Column>)> {
    let words: Vec<&str> = sql
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))
        .filter(|word| !word.is_empty())
        .collect();
    let is_named = |name: &str| {
        words
            .iter()
            .any(|word| word.rsplit('.').next() == Some(name))
    };
    TABLES
        .iter()
        .filter(|table| {
            words
                .iter()
                .any(|word| word.split_once('.') == Some((table.schema, table.name)))
        })
        .map(|table| {
            let columns = table.columns.iter();
            (table, columns.filter(|it| is_named(it.name)).collect())
        })
        .collect()
}

fn tables_of(sql: &'static str) -> Vec<Table> {
    let mut tables = Vec::new();
    let mut lines = sql.lines();
    while let Some(line) = lines.next() {
        let (unlogged, rest) = match (
            line.strip_prefix("create table "),
            line.strip_prefix("create unlogged table "),
        ) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => continue,
        };
        let Some((schema, name)) = rest.trim_end_matches(" (").split_once('.') else {
            continue;
        };
        let elements: Vec<&'static str> = lines
            .by_ref()
            .take_while(|line| !line.starts_with(')'))
            .collect();
        let columns = elements.iter().copied().filter_map(column_of).collect();
        let key = elements.iter().find_map(|line| {
            let (_, columns) = line.split_once(" primary key (")?;
            Some(columns.split(')').next()?.split(", ").collect())
        });
        let (Ok(schema_name), Ok(table_name)) = (CString::new(schema), CString::new(name)) else {
            continue;
        };
        tables.push(Table {
            schema,
            name,
            schema_name,
            table_name,
            unlogged,
            columns,
            key: key.unwrap_or_default(),
        });
    }
    tables
}

/// A line of a table: a column stands two spaces in, and begins with its name.
fn column_of(line: &'static str) -> Option<Column> {
    let line = line.strip_prefix("  ")?;
    if line.starts_with(' ') || line.starts_with("constraint ") {
        return None;
    }
    let (name, rest) = line.split_once(' ')?;
    let kind = rest.split(' ').next()?.trim_end_matches(',');
    let end = kind.find('(').unwrap_or(kind.len());
    Some(Column {
        name,
        kind: &kind[..end],
        length: &kind[end..],
        not_null: rest.contains(" not null"),
    })
}

fn enums_of(sql: &'static str) -> Vec<Enum> {
    sql.match_indices("create type ")
        .filter_map(|(at, start)| {
            let statement = &sql[at + start.len()..];
            let statement = &statement[..statement.find(';')?];
            let (name, labels) = statement.split_once(" as enum")?;
            let (schema, name) = name.split_once('.')?;
            Some(Enum {
                schema,
                name,
                labels: labels.split('\'').skip(1).step_by(2).collect(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_and_enum_of_the_files_is_found() {
        let count = |what: &str| -> usize {
            let files = FILES.iter();
            files.map(|(_, sql)| sql.matches(what).count()).sum()
        };
        let made = count("\ncreate table ")
            + count("\ncreate unlogged table ")
            + FILES
                .iter()
                .filter(|(_, sql)| sql.starts_with("create table "))
                .count()
            + FILES
                .iter()
                .filter(|(_, sql)| sql.starts_with("create unlogged table "))
                .count();
        assert_eq!(TABLES.len(), made + 1);
        assert!(made > 20);
        assert_eq!(ENUMS.len(), count("as enum"));
        assert!(TABLES.iter().all(|table| !table.columns.is_empty()));
    }

    #[test]
    fn a_table_has_its_columns() {
        let bans = table("public", "live_stream_bans").unwrap();
        let kind = bans.columns.iter().find(|it| it.name == "kind").unwrap();
        assert_eq!(kind.kind, "public.live_stream_ban_kind");
        assert!(kind.not_null);
        assert_eq!(
            enumeration(kind.kind).unwrap().labels,
            ["ban", "timeout"],
            "labels in order"
        );
        let viewers = table("public", "live_stream_viewers").unwrap();
        let kind_of = |name| {
            let mut columns = viewers.columns.iter();
            columns.find(|it| it.name == name).map(|it| it.kind)
        };
        assert_eq!(kind_of("city"), Some("text"));
        let sessions = table("public", "live_stream_sessions").unwrap();
        let revenue = sessions
            .columns
            .iter()
            .find(|it| it.name == "total_revenue");
        assert_eq!(revenue.map(|it| it.decimals()), Some(Some(2)));
        assert_eq!(revenue.map(|it| it.digits()), Some(Some((10, 2))));
        assert_eq!(revenue.and_then(|it| it.most_chars()), None);
        let mut columns = sessions.columns.iter();
        let title = columns.find(|it| it.name == "title").unwrap();
        assert_eq!((title.kind, title.most_chars()), ("varchar", Some(255)));
        assert_eq!(title.digits(), None);
        assert_eq!(kind_of("counted_before"), Some("timestamptz[]"));
        assert_eq!(kind_of("constraint"), None);
        let rates = table("live_stream", "person_rates").unwrap();
        assert!(rates.unlogged);
        assert_eq!(rates.key, ["user_id", "kind"]);
        assert!(TABLES.iter().all(|it| !it.is_ours() || !it.key.is_empty()));
    }

    #[test]
    fn a_statement_relies_on_what_it_names() {
        let sql = "update public.live_stream_viewers v set is_still_watching = false
                    where v.session_id = $1 and exists (select from live_stream.metric_changes)";
        let relied: Vec<_> = relied_on(sql)
            .into_iter()
            .map(|(table, columns)| {
                let columns: Vec<_> = columns.into_iter().map(|it| it.name).collect();
                (table.name, columns)
            })
            .collect();
        assert_eq!(
            relied,
            [
                (
                    "live_stream_viewers",
                    vec!["session_id", "is_still_watching"]
                ),
                ("metric_changes", vec!["session_id"]),
            ]
        );
    }
}
