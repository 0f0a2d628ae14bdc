//! The people whom this transaction brings to sessions, or takes out of them. Who among them is new, and who is welcome
//! still, is decided as it commits, with each person held for that moment: so nobody is counted twice, and whoever is
//! banned meanwhile either sees it here or is seen by the one who bans.

use super::closing::{close_spare, look_at_own};
use super::hiding;
use super::settle::Columns;
use crate::access;
use crate::identity;
use crate::limits;
use crate::metrics::entry;
use crate::metrics::{self, Delta};
use crate::pg::callback::Callback;
use crate::pg::clock;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::heap::{Latest, Table};
use crate::pg::lock::{Lock, Mode, person_slot};
use crate::pg::own_writes::trigger_depth;
use crate::pg::plan::{self, Plan};
use crate::pg::row::Row;
use crate::pg::transaction::{self, Trail};
use pgrx::Uuid;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CStr;
use std::time::Duration;

/// Closes the rows of people, each given with an influencer, in that influencer's sessions where they are not welcome.
/// They are held.
pub static CLOSE_UNWELCOME: Callback<CloseUnwelcome> =
    Callback::new("close people out of sessions");
type CloseUnwelcome = fn(&[OfInfluencer]) -> Result<()>;

/// An influencer, and a user.
type OfInfluencer = (Uuid, Uuid);
/// A session, and a user in it.
type Person = (Uuid, Uuid);

/// A row that has begun or ended to count as watching.
#[derive(Clone, Copy)]
struct Counted {
    session: Uuid,
    viewer: Uuid,
    comes: bool,
}

/// Who is settled already, and whether it has a row in the session since: found by the person, as there may be many.
struct Settled {
    steps: Trail<(Person, bool)>,
    /// The last step of each.
    last: Option<HashMap<Person, bool>>,
}

impl Settled {
    const fn new() -> Self {
        Self {
            steps: Trail::new(),
            last: None,
        }
    }

    fn of(&self, person: Person) -> Option<bool> {
        self.last.as_ref()?.get(&person).copied()
    }

    fn push(&mut self, person: Person, has_row: bool) {
        self.steps.push((person, has_row));
        self.last.get_or_insert_default().insert(person, has_row);
    }

    fn clear(&mut self) {
        self.steps.clear();
        self.last = None;
    }

    fn undo(&mut self, sub: pg_sys::SubTransactionId) {
        let before = self.steps.len();
        self.steps.undo(sub);
        if self.steps.len() < before {
            self.last = Some(self.steps.iter().copied().collect());
        }
    }
}

/// What a transaction has done so far.
struct Done {
    /// Whose rows in a session became more or fewer, and by how many.
    gained_or_lost: Trail<(Person, i64)>,
    settled: Settled,
    /// Who came by a request of its own.
    comers: Trail<(Uuid, Option<Uuid>)>,
    /// Open rows that requests of their own have written to, each with its user.
    staying: Trail<(Uuid, Option<Uuid>)>,
    /// People who were closed out, each with the influencer.
    unwelcome: Trail<OfInfluencer>,
    /// Sessions that fewer people may see than before.
    hidden: Trail<Uuid>,
    counted: Trail<Counted>,
}

impl Done {
    const fn new() -> Self {
        Self {
            gained_or_lost: Trail::new(),
            settled: Settled::new(),
            comers: Trail::new(),
            staying: Trail::new(),
            unwelcome: Trail::new(),
            hidden: Trail::new(),
            counted: Trail::new(),
        }
    }

    fn clear(&mut self) {
        self.gained_or_lost.clear();
        self.settled.clear();
        self.comers.clear();
        self.staying.clear();
        self.unwelcome.clear();
        self.hidden.clear();
        self.counted.clear();
    }

    fn undo(&mut self, sub: pg_sys::SubTransactionId) {
        self.gained_or_lost.undo(sub);
        self.settled.undo(sub);
        self.comers.undo(sub);
        self.staying.undo(sub);
        self.unwelcome.undo(sub);
        self.hidden.undo(sub);
        self.counted.undo(sub);
    }
}

thread_local! {
    static DONE: RefCell<Done> = const { RefCell::new(Done::new()) };
    /// The depths in triggers of statements on viewers that are not settled yet, as bits.
    static OPEN: Cell<u64> = const { Cell::new(0) };
    /// This transaction has run a statement on viewers within another one.
    static IS_NESTED: Cell<bool> = const { Cell::new(false) };
    static OPEN_ROWS: Plan = const { Plan::writing(
        c"select count(*) from public.live_stream_viewers where user_id = $1 and is_still_watching",
        &[pg_sys::UUIDOID],
    ) };
    static COME_NOW: Plan = const { Plan::writing(
        c"update public.live_stream_viewers
             set counted_since = case when id = any ($1) then $3 else counted_since end,
                 counted_until = case when id = any ($2) and not is_still_watching then $3
                                      else counted_until end
           where id = any ($1 || $2)",
        &[pg_sys::UUIDARRAYOID, pg_sys::UUIDARRAYOID, pg_sys::TIMESTAMPTZOID],
    ) };
}

/// Called once per backend.
pub fn watch_transactions() {
    metrics::settle::AT_END.register(settle_all);
    metrics::settle::COME_NOW.register(come_now);
    metrics::settle::PEOPLE_ARE_COUNTED.register(are_counted);
    transaction::at_end(|| {
        DONE.with_borrow_mut(Done::clear);
        OPEN.set(0);
        IS_NESTED.set(false);
    });
    transaction::at_partial_rollback(|sub| DONE.with_borrow_mut(|done| done.undo(sub)));
}

fn below(depth: i32) -> u64 {
    (1 << depth.clamp(0, 63)) - 1
}

/// A statement on viewers has begun.
pub fn begin() {
    let depth = trigger_depth();
    note_nesting(depth);
    OPEN.set(OPEN.get() | 1 << depth.clamp(0, 63));
}

/// The statement that fired the current trigger is about to be settled.
pub fn end() {
    let depth = trigger_depth();
    note_nesting(depth);
    OPEN.set(OPEN.get() & below(depth));
}

fn note_nesting(depth: i32) {
    if OPEN.get() & below(depth) != 0 {
        IS_NESTED.set(true);
    }
}

/// Whether what comes and goes is not told in the order in which it happened.
pub fn are_out_of_order() -> bool {
    IS_NESTED.get()
}

/// A row that comes (or goes) counts from a moment on, which may be another one yet.
pub fn counts(row: &Row<'_>, columns: &Columns, session: Uuid, comes: bool) {
    if let Some(viewer) = row.at(columns.id) {
        let counted = Counted {
            session,
            viewer,
            comes,
        };
        DONE.with_borrow_mut(|done| done.counted.push(counted));
    }
}

/// Lets the rows of a session that began or ended to count in this transaction do so now.
fn come_now(session: Uuid) -> Result<i64> {
    let (came, went): (Vec<Counted>, Vec<Counted>) = DONE.with_borrow(|done| {
        let here = done
            .counted
            .iter()
            .filter(|counted| counted.session == session);
        here.copied().partition(|counted| counted.comes)
    });
    let ids =
        |rows: Vec<Counted>| -> BTreeSet<Uuid> { rows.iter().map(|row| row.viewer).collect() };
    let (came, went) = (ids(came), ids(went));
    if !came.is_disjoint(&went) {
        // Who has gone for a while in this transaction was there before and after.
        metrics::peak::doubt(session);
    }
    let list = |ids: BTreeSet<Uuid>| -> Vec<Uuid> { ids.into_iter().collect() };
    let at = clock::tick();
    let args = [
        list(came).into(),
        list(went).into(),
        clock::timestamp(at).into(),
    ];
    metrics::settling(|| plan::execute(&COME_NOW, &args).map(drop))?;
    Ok(at)
}

/// Before a person's own request has any row: who erases the user waits for it, and it for that.
pub fn act() -> Result<()> {
    if !metrics::is_settling()
        && !access::is_exempt()?
        && let Some(user) = identity::user_id()?
    {
        Lock::Acting(user).wait(Mode::Shared);
    }
    Ok(())
}

/// Users whose erasure waits for a transaction, at most: the server has room for so many locks.
const MANY_PEOPLE: usize = 500;

/// How long whoever writes for somebody else waits for that user's erasure. It has kept sessions, which the erasure may be
/// waiting for behind somebody who deletes one.
const ERASURE_PATIENCE: Duration = Duration::from_secs(1);

/// A user has more rows in a session than before, or fewer. Who erases the user waits for one who has more.
///
/// Errors: PT409 for more, where the user is being erased for longer than a second.
pub fn gains_or_loses(session: Uuid, user: Uuid, rows: i64) -> Result<()> {
    if rows > 0 && DONE.with_borrow(|done| done.gained_or_lost.len()) < MANY_PEOPLE {
        let act = || Ok(Lock::Acting(user).try_now(Mode::Shared));
        if !metrics::settle::patiently(ERASURE_PATIENCE, act, |acts| *acts)? {
            return Err(
                Error::new(SqlState::CONFLICT, format!("user {user} is being erased"))
                    .hint("Try again when that is done."),
            );
        }
    }
    DONE.with_borrow_mut(|done| done.gained_or_lost.push(((session, user), rows)));
    metrics::settle::need();
    Ok(())
}

/// A user, or somebody without an account, has come to a session by its own request.
pub fn comes(session: Uuid, user: Option<Uuid>) {
    DONE.with_borrow_mut(|done| done.comers.push((session, user)));
    metrics::settle::need();
}

/// Somebody has written to its row, and watches on.
pub fn stays(viewer: Uuid, user: Option<Uuid>) {
    DONE.with_borrow_mut(|done| done.staying.push((viewer, user)));
    metrics::settle::need();
}

/// Closes out, as this transaction commits, whoever of these people has come to sessions of the influencer meanwhile.
pub fn keep_out(people: &[(Uuid, Uuid)]) {
    DONE.with_borrow_mut(|done| {
        people
            .iter()
            .for_each(|person| done.unwelcome.push(*person))
    });
    metrics::settle::need();
}

/// Closes out, as this transaction commits, whoever may not see a session any more and has come there meanwhile.
pub(super) fn hide(session: Uuid) {
    DONE.with_borrow_mut(|done| done.hidden.push(session));
    metrics::settle::need();
}

/// Each once, in order; they are settled from here on.
fn all_of<T: Ord>(trail: &mut Trail<T>) -> BTreeSet<T> {
    trail.take().into_iter().collect()
}

/// As the transaction commits.
fn settle_all() -> Result<()> {
    let (changed, comers, staying, unwelcome, hidden) = DONE.with_borrow_mut(|done| {
        let mut changed: BTreeMap<Uuid, BTreeMap<Uuid, i64>> = BTreeMap::new();
        for ((session, user), rows) in done.gained_or_lost.take() {
            *changed.entry(session).or_default().entry(user).or_default() += rows;
        }
        (
            changed,
            all_of(&mut done.comers),
            all_of(&mut done.staying),
            Vec::from_iter(all_of(&mut done.unwelcome)),
            all_of(&mut done.hidden),
        )
    });
    let gaining = changed.values().flat_map(BTreeMap::keys).copied();
    let coming = comers.iter().filter_map(|(_, user)| *user);
    let users = gaining
        .chain(coming)
        .chain(unwelcome.iter().map(|(_, user)| *user));
    let users = users.chain(staying.iter().filter_map(|(_, user)| *user));
    hold(users.chain(hiding::let_in(&hidden)?));
    for (session, users) in changed {
        let unique_viewers = gained(session, &users)?;
        metrics::apply(
            session,
            Delta {
                unique_viewers,
                ..Delta::default()
            },
        );
    }
    for &(session, user) in &comers {
        check_comer(session, user)?;
    }
    for (viewer, _) in staying {
        // It may have been passed by, as the session ended or the user was banned.
        look_at_own(viewer)?;
    }
    if !unwelcome.is_empty() {
        CLOSE_UNWELCOME.get()?(&unwelcome)?;
    }
    hiding::close_late(&hidden)
}

/// Holds these users, or those of the same slots, until the transaction ends.
fn hold(users: impl Iterator<Item = Uuid>) {
    let slots: BTreeSet<u64> = users.map(person_slot).collect();
    for slot in slots {
        Lock::Person(slot).wait(Mode::Alone);
    }
}

const BY_PERSON: &CStr = c"live_stream_viewers_session_id_user_id_idx";

/// How many rows a user has in a session: `enough` of them at most.
fn rows(viewers: &Table, (session, user): Person, enough: i64) -> Result<i64> {
    let ids = [("session_id", session), ("user_id", user)];
    viewers.count(c"public", BY_PERSON, &ids, enough)
}

/// Whether a user has more than one row in a session.
pub fn has_several_rows(session: Uuid, user: Uuid) -> Result<bool> {
    let viewers = Table::read(c"public", c"live_stream_viewers")?;
    Ok(rows(&viewers, (session, user), 2)? > 1)
}

/// How many of these users are new in a session, less those who have no row there any more. They are held; each with how
/// many rows it has more than before this transaction, or fewer.
fn gained(session: Uuid, users: &BTreeMap<Uuid, i64>) -> Result<i64> {
    let viewers = Table::read(c"public", c"live_stream_viewers")?;
    let unsettled: BTreeSet<Uuid> = DONE.with_borrow(|done| {
        let users = users.keys().copied();
        users
            .filter(|user| done.settled.of((session, *user)).is_none())
            .collect()
    });
    let there = there_before(&viewers, session, &unsettled)?;
    let mut sum = 0;
    for (&user, &more) in users {
        let person = (session, user);
        let settled = DONE.with_borrow(|done| done.settled.of(person));
        let before = settled.unwrap_or_else(|| there.contains(&user));
        // Who has more rows than before has one at least; who was settled meanwhile may have lost some that are not told here.
        let now = settled.is_none() && more > 0 || rows(&viewers, person, 1)? > 0;
        DONE.with_borrow_mut(|done| done.settled.push(person, now));
        sum += i64::from(now) - i64::from(before);
    }
    Ok(sum)
}

/// From so many users on it may be faster to read all rows of their session than to look for each.
const CROWD: usize = 100;
/// Rows that are read in the time of one look.
const ROWS_PER_LOOK: i64 = 10;

/// Who of these users has rows in a session without what this transaction has done.
fn there_before(viewers: &Table, session: Uuid, users: &BTreeSet<Uuid>) -> Result<BTreeSet<Uuid>> {
    let mut there = BTreeSet::new();
    let others = Latest::of_others()?;
    let is_crowd = || -> Result<bool> {
        let looks = i64::try_from(users.len()).unwrap_or(i64::MAX);
        Ok(entry::people(session)? < looks.saturating_mul(ROWS_PER_LOOK))
    };
    if users.len() >= CROWD && is_crowd()? {
        let user = viewers.column::<Uuid>("user_id")?;
        let ids = [("session_id", session)];
        viewers.find_as_of(&others, c"public", BY_PERSON, &ids, |row| {
            there.extend(row.at(user).filter(|user| users.contains(user)));
            Ok(true)
        })?;
        return Ok(there);
    }
    for &user in users {
        let ids = [("session_id", session), ("user_id", user)];
        if viewers.has_as_of(&others, c"public", BY_PERSON, &ids)? {
            there.insert(user);
        }
    }
    Ok(there)
}

/// Notes who has a row in a session, of those whose rows there this transaction has made or taken away: its numbers are
/// counted from the rows.
fn are_counted(session: Uuid) -> Result<()> {
    let changed: BTreeSet<Person> = DONE.with_borrow(|done| {
        let all = done.gained_or_lost.iter().map(|(person, _)| *person);
        all.filter(|(of, _)| *of == session).collect()
    });
    hold(changed.iter().map(|(_, user)| *user));
    let viewers = Table::read(c"public", c"live_stream_viewers")?;
    for person in changed {
        let has_row = rows(&viewers, person, 1)? > 0;
        DONE.with_borrow_mut(|done| done.settled.push(person, has_row));
    }
    Ok(())
}

/// As a transaction would settle it when it commits, for one whose numbers are collected: an erasure, which nobody joins
/// beside as that user.
pub fn gained_now(session: Uuid, user: Uuid, rows: i64) -> Result<i64> {
    gained(session, &BTreeMap::from([(user, rows)]))
}

/// Checks once more that a user, who is held, or somebody without an account may join.
///
/// Errors: as joining.
fn check_comer(session: Uuid, user: Option<Uuid>) -> Result<()> {
    if let Some(user) = user
        && has_several_rows(session, user)?
    {
        limits::check_joined(session, user)?;
        close_spare(session, user)?;
    }
    match entry::now(session)? {
        Some(entered) => access::check_welcome(session, &entered, user),
        None => Ok(()),
    }
}

/// Checks that this transaction has seen all open rows of these users, who are held: in one with one snapshot, joins since
/// then are not seen by queries, nor closed.
///
/// Errors: 40001.
pub fn check_all_seen(users: &[Uuid]) -> Result<()> {
    if !transaction::has_fixed_snapshot() {
        return Ok(());
    }
    let viewers = Table::read(c"public", c"live_stream_viewers")?;
    for user in users {
        let seen: i64 = plan::run(&OPEN_ROWS, &[(*user).into()], |rows| {
            Ok(rows.get(0, 0).unwrap_or(0))
        })?;
        let mut open = 0;
        viewers.find(
            c"public",
            c"live_stream_viewers_user_id_idx",
            &[("user_id", *user)],
            |row| {
                open += i64::from(row.get("is_still_watching")? == Some(true));
                Ok(true)
            },
        )?;
        if open != seen {
            return Err(Error::new(
                SqlState::SERIALIZATION_FAILURE,
                "could not serialize access due to a person who has joined or left meanwhile",
            )
            .hint("Run the transaction again."));
        }
    }
    Ok(())
}
