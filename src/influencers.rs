//! The influencers: the app's own table where it has one, or ours; and the names that strangers read.

use crate::pg::catalog;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::heap::{Found, Table};
use crate::pg::owner::as_owner;
use crate::pg::plan::{self, Plan};
use crate::pg::row::Row;
use crate::pg::trigger;
use crate::pg::trigger::Outcome;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;
use text::Outline;

/// Whether the table is the one that we made.
pub fn is_ours() -> Result<bool> {
    let ours: Option<bool> = plan::ask(
        "select true from pg_constraint
          where conrelid = to_regclass('public.influencers')
            and conname = 'live_stream_influencers_pkey'",
        &[],
    )?;
    Ok(ours == Some(true))
}

/// BEFORE INSERT OR UPDATE of our own table.
#[pg_trigger]
fn influencers_guard<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    trigger::before(trigger, guard)
}

fn guard(old: Option<&Row<'_>>, new: &mut Row<'_>) -> Result<()> {
    let name: Option<String> = new.get("display_name")?;
    if let Some(old) = old
        && old.get("display_name")? == name
    {
        return Ok(());
    }
    match name {
        // An influencer may have none yet.
        Some(name) if text::is_blank(&name) => new.set("display_name", Some(String::new())),
        Some(name) => check_letters("display_name", &name),
        None => Ok(()),
    }
}

/// Checks a name that strangers read, where there must be one.
///
/// Errors: 23514 for one that shows nothing, or holds line breaks, controls or overrides of the direction.
pub fn check_name(column: &str, name: &str) -> Result<()> {
    if text::is_blank(name) {
        return Err(
            Error::new(SqlState::CHECK_VIOLATION, format!("{column} is blank"))
                .hint("Send a name that can be read, or leave it out."),
        );
    }
    check_letters(column, name)
}

fn check_letters(column: &str, name: &str) -> Result<()> {
    let Some(c) = text::not_in_names(name) else {
        return Ok(());
    };
    Err(Error::new(
        SqlState::CHECK_VIOLATION,
        format!("{column} holds a character that no name has"),
    )
    .detail(format!(
        "It is U+{:04X}: a line break or another control, or one that turns the direction of the text.",
        u32::from(c)
    ))
    .hint("Leave it out: a name stands in one line."))
}

/// The display name of an influencer as it was read last, and where: a version of a row never changes.
struct Known {
    influencer: Uuid,
    /// Of the catalog, which says where the name stands in the row.
    generation: u64,
    place: pg_sys::ItemPointerData,
    version: pg_sys::TransactionId,
    name: Option<Outline>,
}

thread_local! {
    static KNOWN: RefCell<Option<Known>> = const { RefCell::new(None) };
    static CARD: Plan = const { Plan::writing(
        c"select i.ctid, c.display_name from public.influencers i
            join live_stream.influencer_cards c on c.id = i.id where i.id = $1",
        &[pg_sys::UUIDOID],
    ) };
}

/// Whether a name would be taken for the display name of an influencer. Where that is not shown, or empty, none is.
pub fn has_name_like(influencer: Uuid, name: &str) -> Result<bool> {
    let is_like = |shown: Option<&Outline>| shown.is_some_and(|it| text::looks_like(name, it));
    let table = Table::plain(c"public", c"influencers")?;
    let known = KNOWN.take().filter(|known| {
        (known.influencer, known.generation) == (influencer, catalog::generation())
    });
    if let Some((table, known)) = table.as_ref().zip(known)
        && let Found::Same = table.at(known.place, Some(known.version), |_| Ok(()))?
    {
        let is_like = is_like(known.name.as_ref());
        KNOWN.set(Some(known));
        return Ok(is_like);
    }
    let read = as_owner(|| {
        plan::run(&CARD, &[influencer.into()], |rows| {
            let name = rows.get::<String>(0, 1);
            let outline = name.as_deref().and_then(text::outline);
            Ok(rows
                .get::<pg_sys::ItemPointerData>(0, 0)
                .map(|place| (place, outline)))
        })
    })?;
    let Some((place, name)) = read else {
        return Ok(false);
    };
    let is_like = is_like(name.as_ref());
    if let Some(table) = table
        && let Found::Row(version) = table.at(place, None, |row| Ok(row.version()))?
    {
        KNOWN.set(Some(Known {
            influencer,
            generation: catalog::generation(),
            place,
            version,
            name,
        }));
    }
    Ok(is_like)
}
