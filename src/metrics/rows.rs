//! Tallies in rows that others write too: what viewers do with a product, the reactions to a message and its replies, and
//! what a viewer has done. They are counted as the transaction commits, where the row is free: nobody holds it for longer,
//! and nobody waits for who has it. Where somebody has it, the change is appended to the log, and the worker writes it
//! when the row is free; what that changes of the session follows then.

use super::log::{self, TallyEntry};
use super::settle::{self, is_folded};
use super::{entry, settling, worker};
use crate::pg::callback::Callback;
use crate::pg::error::{Error, Result};
use crate::pg::keep;
use crate::pg::plan::{self, Plan};
use crate::pg::transaction::{self, Trail};
use pgrx::Uuid;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::thread::LocalKey;
use std::time::Duration;

/// Whose row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    Product,
    Message,
    Viewer,
}

impl Of {
    pub fn label(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Message => "message",
            Self::Viewer => "viewer",
        }
    }

    pub fn named(label: &str) -> Option<Self> {
        [Self::Product, Self::Message, Self::Viewer]
            .into_iter()
            .find(|of| of.label() == label)
    }
}

/// A row, and for a message the reaction that is counted there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted {
    pub of: Of,
    pub row: Uuid,
    pub reaction: Option<String>,
}

impl Counted {
    pub fn product(row: Uuid) -> Self {
        Self {
            of: Of::Product,
            row,
            reaction: None,
        }
    }

    pub fn message(row: Uuid, reaction: Option<String>) -> Self {
        Self {
            of: Of::Message,
            row,
            reaction,
        }
    }

    pub fn viewer(row: Uuid) -> Self {
        Self {
            of: Of::Viewer,
            row,
            reaction: None,
        }
    }
}

/// Changes of its tallies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub views: i64,
    pub clicks: i64,
    pub add_to_cart: i64,
    pub shares: i64,
    pub messages: i64,
    pub reactions: i64,
    pub replies: i64,
    pub orders: i64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, later: Self) {
        for (sum, change) in [
            (&mut self.views, later.views),
            (&mut self.clicks, later.clicks),
            (&mut self.add_to_cart, later.add_to_cart),
            (&mut self.shares, later.shares),
            (&mut self.messages, later.messages),
            (&mut self.reactions, later.reactions),
            (&mut self.replies, later.replies),
            (&mut self.orders, later.orders),
        ] {
            *sum = sum.saturating_add(change);
        }
    }
}

/// Adds to the tallies of a row that is locked; false where one would be below 0: what it goes with is pending still.
type Add = fn(&Counted, &Tally) -> Result<bool>;
pub static ADD_TO_PRODUCT: Callback<Add> = Callback::new("count on a product");
pub static ADD_TO_MESSAGE: Callback<Add> = Callback::new("count on a message");
pub static ADD_TO_VIEWER: Callback<Add> = Callback::new("count on a viewer");

/// Looks at the row of a viewer, which is locked and can be written: whether it is to be closed.
pub static LOOK_AT_VIEWER: Callback<fn(Uuid) -> Result<()>> = Callback::new("look at a viewer");

thread_local! {
    static CHANGES: RefCell<Trail<(Uuid, Counted, Tally)>> = const { RefCell::new(Trail::new()) };
    static LOCK_PRODUCT: Plan = const { Plan::writing(
        c"select xmin from public.live_stream_products
           where id = $1 for no key update skip locked",
        &[pg_sys::UUIDOID],
    ) };
    static LOCK_MESSAGE: Plan = const { Plan::writing(
        c"select xmin from public.live_stream_chat
           where id = $1 for no key update skip locked",
        &[pg_sys::UUIDOID],
    ) };
    static LOCK_VIEWER: Plan = const { Plan::writing(
        c"select xmin from public.live_stream_viewers
           where id = $1 for no key update skip locked",
        &[pg_sys::UUIDOID],
    ) };
    static PRODUCT: Plan = const { Plan::writing(
        c"select xmin from public.live_stream_products where id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static MESSAGE: Plan = const { Plan::writing(
        c"select xmin from public.live_stream_chat where id = $1",
        &[pg_sys::UUIDOID],
    ) };
    static VIEWER: Plan = const { Plan::writing(
        c"select xmin from public.live_stream_viewers where id = $1",
        &[pg_sys::UUIDOID],
    ) };
}

/// Called once per backend.
pub fn watch_transactions() {
    transaction::at_end(|| CHANGES.with_borrow_mut(Trail::clear));
    transaction::at_partial_rollback(|sub| CHANGES.with_borrow_mut(|trail| trail.undo(sub)));
}

/// Counts on a row of a session, as the transaction commits.
pub fn count(session: Uuid, counted: Counted, tally: Tally) {
    if tally != Tally::default() {
        entry::come_in(session);
        CHANGES.with_borrow_mut(|trail| trail.push((session, counted, tally)));
        settle::need();
    }
}

/// What this transaction has counted on a row so far, and not written yet: for each reaction of a message, or for the row.
pub fn counted_on(of: Of, row: Uuid) -> BTreeMap<Option<String>, Tally> {
    let mut sums: BTreeMap<Option<String>, Tally> = BTreeMap::new();
    CHANGES.with_borrow(|trail| {
        let here = trail
            .iter()
            .filter(|(_, counted, _)| counted.of == of && counted.row == row);
        for (_, counted, tally) in here {
            *sums.entry(counted.reaction.clone()).or_default() += *tally;
        }
    });
    sums
}

/// Writes what this transaction has counted.
pub(super) fn settle_all() -> Result<()> {
    let mut sums: BTreeMap<Counted, (Uuid, Tally)> = BTreeMap::new();
    for (session, counted, tally) in CHANGES.with_borrow_mut(Trail::take) {
        let (_, sum) = sums.entry(counted).or_insert((session, Tally::default()));
        *sum += tally;
    }
    for (counted, (session, tally)) in sums {
        if tally == Tally::default() {
            continue;
        }
        let is_free = |state: &State| *state != State::Busy;
        let state = match is_folded(session)? {
            true => settle::patiently(ROW_PATIENCE, || lock(&counted), is_free)?,
            false => settle::in_line(|| lock(&counted), is_free, || version(&counted))?,
        };
        let is_written = match state {
            State::Locked => add(&counted, &tally)?,
            State::Busy => false,
            State::Gone => true,
        };
        if !is_written {
            log::append_tally(session, &counted, &tally)?;
        }
    }
    Ok(())
}

/// How long to wait for who is writing the row as it commits. Who has it longer does something else with it.
const ROW_PATIENCE: Duration = Duration::from_millis(50);

/// Has a viewer's row looked at when it is free, which somebody has just now: by the worker, which is started here if it can
/// be, or by who folds all.
pub fn look_at(session: Uuid, viewer: Uuid) -> Result<()> {
    entry::come_in(session);
    worker::is_available()?;
    log::append_tally(session, &Counted::viewer(viewer), &Tally::default())
}

/// Writes what was appended for rows of a session that are free now, and takes it out of the log; false where others have
/// all of them.
pub fn fold(session: Uuid) -> Result<bool> {
    let pending = log::tallies(session)?;
    // Who sees the rows of an older moment cannot say whether one is to be closed.
    let may_look = !transaction::has_fixed_snapshot();
    let rows: BTreeSet<Counted> = pending
        .into_iter()
        .filter(|entry| may_look || !entry.is_look())
        .map(|entry| entry.counted)
        .collect();
    let is_nothing = rows.is_empty();
    let mut free = BTreeMap::new();
    for counted in rows {
        let state = lock(&counted)?;
        if state != State::Busy {
            free.insert(counted, (state, Tally::default(), Vec::new()));
        }
    }
    // Read once more: whoever takes what is pending of a row has the row, and had it before perhaps.
    for entry in log::tallies(session)? {
        if let Some((_, sum, entries)) = free.get_mut(&entry.counted)
            && (may_look || !entry.is_look())
        {
            *sum += entry.tally;
            entries.push(entry);
        }
    }
    for (counted, (state, sum, entries)) in &free {
        let (looks, tallies): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| entry.is_look());
        let is_gone = *state == State::Gone;
        // Each time as it is then: written once, it can be written again only where nobody deletes what it refers to.
        let is_free = || Ok::<_, Error>(is_gone || lock(counted)? == State::Locked);
        if !looks.is_empty() && is_free()? {
            if !is_gone {
                LOOK_AT_VIEWER.get()?(counted.row)?;
            }
            take(&looks)?;
        }
        if !tallies.is_empty() && is_free()? && (is_gone || add(counted, sum)?) {
            take(&tallies)?;
        }
    }
    Ok(is_nothing || !free.is_empty())
}

fn take(entries: &[&TallyEntry]) -> Result<()> {
    let mut entries = entries.iter();
    entries.try_for_each(|entry| log::take_tally(entry).map(drop))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Locked,
    Busy,
    Gone,
}

/// Locks a row, unless somebody else has it, or deletes what it refers to while this transaction has written it already.
fn lock(counted: &Counted) -> Result<State> {
    let locked = find(counted, [&LOCK_PRODUCT, &LOCK_MESSAGE, &LOCK_VIEWER])?;
    Ok(match locked {
        Some(version) if transaction::is_own(version) && !may_write_again(counted)? => State::Busy,
        Some(_) => State::Locked,
        None if version(counted)?.is_some() => State::Busy,
        None => State::Gone,
    })
}

/// The version of a row; none where it is gone.
fn version(counted: &Counted) -> Result<Option<pg_sys::TransactionId>> {
    find(counted, [&PRODUCT, &MESSAGE, &VIEWER])
}

/// What the plan for products, messages or viewers finds.
fn find(
    counted: &Counted,
    [product, message, viewer]: [&'static LocalKey<Plan>; 3],
) -> Result<Option<pg_sys::TransactionId>> {
    let plan = match counted.of {
        Of::Product => product,
        Of::Message => message,
        Of::Viewer => viewer,
    };
    settling(|| plan::run(plan, &[counted.row.into()], |rows| Ok(rows.get(0, 0))))
}

fn may_write_again(counted: &Counted) -> Result<bool> {
    let (table, key) = match counted.of {
        Of::Product => (c"live_stream_products", c"live_stream_products_pkey"),
        Of::Message => (c"live_stream_chat", c"live_stream_chat_pkey"),
        Of::Viewer => (c"live_stream_viewers", c"live_stream_viewers_pkey"),
    };
    keep::may_write_again(table, key, counted.row)
}

fn add(counted: &Counted, tally: &Tally) -> Result<bool> {
    let add = match counted.of {
        Of::Product => &ADD_TO_PRODUCT,
        Of::Message => &ADD_TO_MESSAGE,
        Of::Viewer => &ADD_TO_VIEWER,
    };
    let add = add.get()?;
    settling(|| Ok(*tally == Tally::default() || add(counted, tally)?))
}
