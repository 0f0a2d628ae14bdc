//! Row triggers: they get their rows as [`Row`]s, and what they return is checked once.

use crate::pg::clock;
use crate::pg::defaults;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::keep;
use crate::pg::row::Row;
use crate::pg::shape::{self, Descriptor};
use crate::pg::transaction;
use crate::pg::upsert;
use pgrx::PgTupleDesc;
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::prelude::*;
use pgrx::trigger_support::{PgTriggerLevel, PgTriggerOperation, PgTriggerWhen};
use std::convert::Infallible;
use std::ptr::null_mut;

/// What a row trigger returns: the row to store, or none to skip it.
pub type Outcome<'a> =
    std::result::Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, Infallible>;

/// A BEFORE ROW trigger: `guard` sees the old row (of an UPDATE) and may change the new one, in which nulls that mean a
/// default have become it.
/// A row that is deleted goes as it is.
pub fn before<'a>(
    trigger: &'a PgTrigger<'a>,
    guard: impl FnOnce(Option<&Row<'a>>, &mut Row<'a>) -> Result<()>,
) -> Outcome<'a> {
    Ok(Some(
        before_row(trigger, None::<Again<'a>>, guard).or_raise(),
    ))
}

/// As [`before`], of a table whose rows may be saved again (see [`upsert`]): of one that is there, `again` sees that,
/// what was sent for it, and the numbers of the columns that the update sets, instead. It puts back what an update leaves as it is, and checks what the table's constraints
/// would refuse before the update is asked. The table has the trigger `live_stream.begin_update`.
pub fn before_or_again<'a>(
    trigger: &'a PgTrigger<'a>,
    again: impl FnOnce(&Row<'a>, &mut Row<'a>, &[pg_sys::AttrNumber]) -> Result<()>,
    guard: impl FnOnce(Option<&Row<'a>>, &mut Row<'a>) -> Result<()>,
) -> Outcome<'a> {
    Ok(Some(before_row(trigger, Some(again), guard).or_raise()))
}

type Again<'a> = fn(&Row<'a>, &mut Row<'a>, &[pg_sys::AttrNumber]) -> Result<()>;

fn before_row<'a>(
    trigger: &'a PgTrigger<'a>,
    again: Option<impl FnOnce(&Row<'a>, &mut Row<'a>, &[pg_sys::AttrNumber]) -> Result<()>>,
    guard: impl FnOnce(Option<&Row<'a>>, &mut Row<'a>) -> Result<()>,
) -> Result<PgHeapTuple<'a, AllocatedByPostgres>> {
    let fired = trigger.trigger_data();
    let (old, new) = match (trigger.level(), trigger.when(), trigger.op()) {
        (PgTriggerLevel::Row, Ok(PgTriggerWhen::Before), Ok(PgTriggerOperation::Insert)) => {
            (null_mut(), fired.tg_trigtuple)
        }
        (PgTriggerLevel::Row, Ok(PgTriggerWhen::Before), Ok(PgTriggerOperation::Update)) => {
            (fired.tg_trigtuple, fired.tg_newtuple)
        }
        _ => {
            return Err(wrong_trigger(
                "a BEFORE INSERT OR UPDATE trigger for each row",
            ));
        }
    };
    // SAFETY: PostgreSQL hands a row trigger rows of its relation, valid while it runs.
    unsafe {
        let desc = Descriptor::of((*fired.tg_relation).rd_att);
        let old = (!old.is_null()).then(|| Row::of_tuple(desc, old));
        let mut row = Row::of_tuple(desc, new);
        let done = |row: Row<'a>| {
            Ok(PgHeapTuple::from_heap_tuple(
                PgTupleDesc::from_pg_unchecked(desc.as_ptr()),
                row.into_tuple(new),
            ))
        };
        if old.is_none()
            && let Some(again) = again
        {
            let saved = upsert::saved_again(trigger, fired.tg_relation, &mut row);
            if let Some((existing, set)) = saved {
                again(&existing.row, &mut row, &set)?;
                // What the update makes of it is checked as that is done.
                row.check_nulls()?;
                upsert::pass(trigger, &existing);
                return done(row);
            }
            defaults::fill_in(fired.tg_relation, &mut row);
            let outcome = guard(None, &mut row).and_then(|()| row.check_values(None));
            let Err(refused) = outcome else {
                return done(row);
            };
            // What the caller may not know of is not told from what is not there.
            if refused.is_not_found() {
                return Err(refused);
            }
            // ON CONFLICT DO NOTHING, if it is that, has nothing to do.
            let mut row = Row::of_tuple(desc, new);
            let existing = upsert::with_primary_key(fired.tg_relation, &row).ok_or(refused)?;
            row.keep_unset(&existing.row, &[]);
            upsert::pass(trigger, &existing);
            return done(row);
        }
        if old.is_none() {
            defaults::fill_in(fired.tg_relation, &mut row);
        }
        guard(old.as_ref(), &mut row)?;
        row.check_values(old.as_ref())?;
        if old.is_some() {
            upsert::updates(fired.tg_trigtuple);
            if is_own_version(fired.tg_trigtuple) {
                keep::again(&row.referred(&shape::foreign_keys(fired.tg_relation)))?;
            }
        }
        done(row)
    }
}

/// Whether this transaction has written this version of a row.
///
/// # Safety
/// `tuple` must be a stored row.
unsafe fn is_own_version(tuple: pg_sys::HeapTuple) -> bool {
    // SAFETY: the caller vouches for the row, which has its header.
    unsafe {
        let header = &*(*tuple).t_data;
        let is_frozen =
            u32::from(header.t_infomask) & pg_sys::HEAP_XMIN_FROZEN == pg_sys::HEAP_XMIN_FROZEN;
        !is_frozen && transaction::is_own(header.t_choice.t_heap.t_xmin)
    }
}

/// A BEFORE DELETE ROW trigger: `see` looks at the row that goes.
pub fn before_delete<'a>(
    trigger: &'a PgTrigger<'a>,
    see: impl FnOnce(&Row<'_>) -> Result<()>,
) -> Outcome<'a> {
    let fired = trigger.trigger_data();
    let goes = match (trigger.level(), trigger.when(), trigger.op()) {
        (PgTriggerLevel::Row, Ok(PgTriggerWhen::Before), Ok(PgTriggerOperation::Delete)) => {
            Ok(fired.tg_trigtuple)
        }
        _ => Err(wrong_trigger("a BEFORE DELETE trigger for each row")),
    };
    let outcome = goes.and_then(|tuple| {
        // SAFETY: PostgreSQL hands a row trigger rows of its relation, valid while it runs.
        let row = unsafe { Row::of_tuple(Descriptor::of((*fired.tg_relation).rd_att), tuple) };
        see(&row)
    });
    outcome.or_raise();
    Ok(trigger.old())
}

/// An AFTER ROW trigger: `see` looks at the row as it was stored.
pub fn after_row<'a>(
    trigger: &'a PgTrigger<'a>,
    see: impl FnOnce(&Row<'_>) -> Result<()>,
) -> Outcome<'a> {
    let fired = trigger.trigger_data();
    let stored = match (trigger.level(), trigger.when(), trigger.op()) {
        (PgTriggerLevel::Row, Ok(PgTriggerWhen::After), Ok(PgTriggerOperation::Insert)) => {
            // SAFETY: the trigger's relation.
            unsafe { upsert::check_inserted(trigger, fired.tg_relation) }
                .map(|()| fired.tg_trigtuple)
        }
        (PgTriggerLevel::Row, Ok(PgTriggerWhen::After), Ok(PgTriggerOperation::Update)) => {
            Ok(fired.tg_newtuple)
        }
        _ => Err(wrong_trigger(
            "an AFTER INSERT OR UPDATE trigger for each row",
        )),
    };
    let outcome = stored.and_then(|tuple| {
        // SAFETY: PostgreSQL hands a row trigger rows of its relation, valid while it runs.
        let row = unsafe {
            let desc = Descriptor::of((*fired.tg_relation).rd_att);
            Row::of_tuple(desc, tuple)
        };
        see(&row)
    });
    outcome.or_raise();
    Ok(None)
}

/// An AFTER ROW trigger that looks at the row as it was, of an UPDATE, and as it is.
pub fn after_change<'a>(
    trigger: &'a PgTrigger<'a>,
    see: impl FnOnce(Option<&Row<'_>>, &Row<'_>) -> Result<()>,
) -> Outcome<'a> {
    let fired = trigger.trigger_data();
    let rows = match (trigger.level(), trigger.when(), trigger.op()) {
        (PgTriggerLevel::Row, Ok(PgTriggerWhen::After), Ok(PgTriggerOperation::Insert)) => {
            // SAFETY: the trigger's relation.
            unsafe { upsert::check_inserted(trigger, fired.tg_relation) }
                .map(|()| (null_mut(), fired.tg_trigtuple))
        }
        (PgTriggerLevel::Row, Ok(PgTriggerWhen::After), Ok(PgTriggerOperation::Update)) => {
            Ok((fired.tg_trigtuple, fired.tg_newtuple))
        }
        _ => Err(wrong_trigger(
            "an AFTER INSERT OR UPDATE trigger for each row",
        )),
    };
    let outcome = rows.and_then(|(old, new)| {
        // SAFETY: PostgreSQL hands a row trigger rows of its relation, valid while it runs.
        let (old, new) = unsafe {
            let desc = Descriptor::of((*fired.tg_relation).rd_att);
            let old = (!old.is_null()).then(|| Row::of_tuple(desc, old));
            (old, Row::of_tuple(desc, new))
        };
        see(old.as_ref(), &new)
    });
    outcome.or_raise();
    Ok(None)
}

/// Tells the statement that fired a trigger from all others that are under way: PostgreSQL makes a list of the
/// table's triggers for each, and what is told is where that list lies. A later statement may have the same.
pub fn statement(trigger: &PgTrigger<'_>) -> Option<usize> {
    let fired = trigger.trigger_data();
    // SAFETY: PostgreSQL hands a trigger its relation, whose list of triggers has `numtriggers` entries and stands in the
    // same order as the statement's own.
    unsafe {
        let known = (*fired.tg_relation).trigdesc;
        if known.is_null() || fired.tg_trigger.is_null() {
            return None;
        }
        let count = usize::try_from((*known).numtriggers).unwrap_or(0);
        let place = (0..count)
            .find(|nth| (*(*known).triggers.add(*nth)).tgoid == (*fired.tg_trigger).tgoid)?;
        Some((fired.tg_trigger as usize).wrapping_sub(place * size_of::<pg_sys::Trigger>()))
    }
}

/// The version of a row that an UPDATE replaces.
pub struct Replaced {
    pub place: pg_sys::ItemPointerData,
    /// Whether this transaction has written it.
    pub is_own: bool,
}

impl Replaced {
    pub fn is_at(&self, place: &pg_sys::ItemPointerData) -> bool {
        upsert::is_same(&self.place, place)
    }
}

/// In a BEFORE UPDATE trigger for each row: the version that is there. None in one of INSERT, which replaces nothing.
pub fn replaced(trigger: &PgTrigger<'_>) -> Option<Replaced> {
    if !matches!(
        (trigger.level(), trigger.op()),
        (PgTriggerLevel::Row, Ok(PgTriggerOperation::Update))
    ) {
        return None;
    }
    let row = trigger.trigger_data().tg_trigtuple;
    // SAFETY: PostgreSQL hands such a trigger the row that is stored.
    (!row.is_null()).then(|| unsafe {
        Replaced {
            place: (*row).t_self,
            is_own: is_own_version(row),
        }
    })
}

/// The numbers of the columns that a statement sets, in a trigger that an UPDATE fires.
pub(super) fn updated_columns(trigger: &PgTrigger<'_>) -> Vec<pg_sys::AttrNumber> {
    let set = trigger.trigger_data().tg_updatedcols;
    let mut columns = Vec::new();
    let mut member = -1;
    loop {
        // SAFETY: reads a set of numbers, which may be null for none, as PostgreSQL hands it to the trigger.
        member = unsafe { pg_sys::bms_next_member(set, member) };
        if member < 0 {
            return columns;
        }
        // The set counts the columns of the system too, which are below 0.
        columns.push((member + pg_sys::FirstLowInvalidHeapAttributeNumber) as pg_sys::AttrNumber);
    }
}

/// Whether the UPDATE that fired a row trigger sets a column, if only to what it is.
pub fn sets(trigger: &PgTrigger<'_>, column: &str) -> bool {
    let fired = trigger.trigger_data();
    // SAFETY: PostgreSQL hands a trigger its relation, and the set of columns that its statement sets; none is empty.
    unsafe {
        let desc = Descriptor::of((*fired.tg_relation).rd_att);
        let number = desc.find(column).and_then(|at| i32::try_from(at + 1).ok());
        number.is_some_and(|number| {
            let member = number - pg_sys::FirstLowInvalidHeapAttributeNumber;
            pg_sys::bms_is_member(member, fired.tg_updatedcols)
        })
    }
}

/// Whether the UPDATE that fired a row trigger sets none but these columns.
pub fn sets_only(trigger: &PgTrigger<'_>, columns: &[&str]) -> bool {
    let fired = trigger.trigger_data();
    // SAFETY: PostgreSQL hands a trigger its relation.
    let desc = unsafe { Descriptor::of((*fired.tg_relation).rd_att) };
    let allowed: Vec<usize> = columns.iter().filter_map(|name| desc.find(name)).collect();
    updated_columns(trigger).into_iter().all(|number| {
        allowed
            .iter()
            .any(|at| usize::try_from(number) == Ok(at + 1))
    })
}

pub(super) fn wrong_trigger(wanted: &str) -> Error {
    Error::new(
        SqlState::WRONG_OBJECT_TYPE,
        format!("this function is for {wanted}"),
    )
    .hint("Run live_stream.install() to put the triggers of live_stream back.")
}

/// BEFORE INSERT into a table that has no rules of its own.
#[pg_trigger]
fn fill_in<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    before(trigger, |_, _| Ok(()))
}

/// BEFORE UPDATE of a row: keeps `updated_at`.
#[pg_trigger]
fn touch<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    before(trigger, |_, new| {
        new.set("updated_at", Some(clock::transaction_time()))
    })
}
