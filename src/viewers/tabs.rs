//! The tabs in which somebody watches: who joins by the function once more has one more, and leaves with the last one.
//!
//! They stand in the viewer's row, so that what joins and leaves at the same moment is decided one after the other. Whoever
//! closes the row, they are gone with it. A row without a list has one tab that says nothing of itself, as all have who
//! come for the first time: most people.

use crate::pg::error::Result;
use crate::pg::own_writes::{self, OwnWrites};
use crate::pg::row::Row;
use pgrx::Uuid;

/// Each by the id that it gave, or none; the oldest first.
pub type Tabs = Vec<Option<Uuid>>;

/// With one more, the oldest is forgotten.
const MOST: usize = 20;

const COLUMN: &str = "tabs";

thread_local! {
    /// The engine writes the list.
    static WRITING: OwnWrites = const { OwnWrites::new() };
}

/// Runs `f`, whose statement writes the list.
pub fn writing<R>(f: impl FnOnce() -> R) -> R {
    own_writes::with(&WRITING, true, f)
}

/// Of a row that is opened in a tab.
pub fn first(tab: Option<Uuid>) -> Option<Tabs> {
    stored(vec![tab])
}

/// Of a row that is open, with one more tab; as it was where that is among them.
pub fn with(tabs: Option<Tabs>, tab: Option<Uuid>) -> Option<Tabs> {
    let mut tabs = there(tabs);
    if tab.is_none() || !tabs.contains(&tab) {
        tabs.push(tab);
        tabs.drain(..tabs.len().saturating_sub(MOST));
    }
    stored(tabs)
}

/// Of a row that is open, without a tab; none where that was the last one. One that is not known leaves as one that has
/// given no id, if such a one is there; one that gives no id, as the latest.
fn without(tabs: Option<Tabs>, tab: Option<Uuid>) -> Option<Option<Tabs>> {
    let mut tabs = there(tabs);
    let find = |tab: Option<Uuid>| tabs.iter().rposition(|it| *it == tab);
    let latest = tabs.len().checked_sub(1).filter(|_| tab.is_none());
    if let Some(at) = find(tab).or_else(|| find(None)).or(latest) {
        tabs.remove(at);
    }
    (!tabs.is_empty()).then(|| stored(tabs))
}

fn there(tabs: Option<Tabs>) -> Tabs {
    tabs.filter(|tabs| !tabs.is_empty())
        .unwrap_or_else(|| vec![None])
}

fn stored(tabs: Tabs) -> Option<Tabs> {
    (tabs != [None]).then_some(tabs)
}

/// BEFORE INSERT OR UPDATE, before anything else is decided: nobody but the engine writes the list.
pub(super) fn keep(old: Option<&Row<'_>>, new: &mut Row<'_>) -> Result<()> {
    if WRITING.with(OwnWrites::have_fired) {
        return Ok(());
    }
    match old {
        Some(old) => new.keep(old, &[COLUMN]),
        None => forget(new),
    }
}

/// A viewer who watches leaves in a tab: whether it watches on in another one.
pub(super) fn stays(old: &Row<'_>, new: &mut Row<'_>, tab: Option<Uuid>) -> Result<bool> {
    match without(old.get::<Tabs>(COLUMN)?, tab) {
        Some(tabs) => new.set(COLUMN, tabs).map(|()| true),
        None => Ok(false),
    }
}

/// Of a row that is closed.
pub(super) fn forget(new: &mut Row<'_>) -> Result<()> {
    match new.is_null(COLUMN)? {
        true => Ok(()),
        false => new.set::<Tabs>(COLUMN, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tab(n: u8) -> Option<Uuid> {
        Some(Uuid::from_bytes([n; 16]))
    }

    #[test]
    fn tabs_without_ids_are_counted() {
        let one = first(None);
        assert_eq!(one, None);
        let two = with(one, None);
        assert_eq!(two, Some(vec![None, None]));
        let three = with(two.clone(), None);
        assert_eq!(without(three, None), Some(two.clone()));
        assert_eq!(without(two, None), Some(None));
        assert_eq!(without(None, None), None);
        assert_eq!(without(Some(Vec::new()), None), None);
    }

    #[test]
    fn a_tab_with_an_id_is_itself() {
        let one = first(tab(1));
        assert_eq!(with(one.clone(), tab(1)), one);
        let two = with(one.clone(), tab(2));
        assert_eq!(without(two.clone(), tab(1)), Some(first(tab(2))));
        assert_eq!(without(two.clone(), tab(3)), Some(two));
        assert_eq!(without(one.clone(), tab(1)), None);
        assert_eq!(without(one.clone(), None), None);
        assert_eq!(without(one.clone(), tab(2)), Some(one));
    }

    #[test]
    fn tabs_with_and_without_ids() {
        let both = with(None, tab(1));
        assert_eq!(both, Some(vec![None, tab(1)]));
        assert_eq!(without(both.clone(), None), Some(first(tab(1))));
        assert_eq!(without(both.clone(), tab(1)), Some(None));
        assert_eq!(without(both, tab(2)), Some(first(tab(1))));
        assert_eq!(without(None, tab(1)), None);
        let named = with(first(tab(1)), tab(2));
        assert_eq!(without(named, None), Some(first(tab(1))));
    }

    #[test]
    fn the_oldest_of_too_many_is_forgotten() {
        let many = (1..=25).fold(None, |tabs, n| with(tabs, tab(n)));
        assert_eq!(many, Some((6..=25).map(tab).collect()));
        let same = (0..100).fold(None, |tabs, _| with(tabs, None));
        assert_eq!(same.as_ref().map(Vec::len), Some(MOST));
        assert_eq!(with(same.clone(), None), same);
    }
}
