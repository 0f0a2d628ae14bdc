//! Row triggers: they get their rows as [`Row`]s, and what they return is checked once.

use crate::pg::clock;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::row::Row;
use crate::pg::shape::Descriptor;
use pgrx::PgTupleDesc;
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::prelude::*;
use pgrx::trigger_support::{PgTriggerLevel, PgTriggerOperation, PgTriggerWhen};
use std::convert::Infallible;
use std::ffi::CStr;
use std::ptr::null_mut;

/// What a row trigger returns: the row to store, or none to skip it.
pub type Outcome<'a> =
    std::result::Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, Infallible>;

/// A BEFORE ROW trigger: `guard` sees the old row (of an UPDATE) and may change the new one.
/// A row that is deleted goes as it is.
pub fn before<'a>(
    trigger: &'a PgTrigger<'a>,
    guard: impl FnOnce(Option<&Row<'a>>, &mut Row<'a>) -> Result<()>,
) -> Outcome<'a> {
    Ok(Some(before_row(trigger, guard).or_raise()))
}

fn before_row<'a>(
    trigger: &'a PgTrigger<'a>,
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
        guard(old.as_ref(), &mut row)?;
        Ok(PgHeapTuple::from_heap_tuple(
            PgTupleDesc::from_pg_unchecked(desc.as_ptr()),
            row.into_tuple(new),
        ))
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
            Ok(fired.tg_trigtuple)
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
            Ok((null_mut(), fired.tg_trigtuple))
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

/// Whether the UPDATE that fired the trigger sets a column; said of one that is not there too.
pub fn sets(trigger: &PgTrigger<'_>, column: &CStr) -> bool {
    let fired = trigger.trigger_data();
    // SAFETY: PostgreSQL hands a trigger its relation, and the columns of an UPDATE as a set of their numbers, counted
    // from the lowest of a system column; an empty one is null, which it takes.
    unsafe {
        let number = pg_sys::get_attnum((*fired.tg_relation).rd_id, column.as_ptr());
        let place = i32::from(number) - pg_sys::FirstLowInvalidHeapAttributeNumber;
        i32::from(number) == pg_sys::InvalidAttrNumber as i32
            || pg_sys::bms_is_member(place, fired.tg_updatedcols)
    }
}

pub(super) fn wrong_trigger(wanted: &str) -> Error {
    Error::new(
        SqlState::WRONG_OBJECT_TYPE,
        format!("this function is for {wanted}"),
    )
    .hint("Run live_stream.install() to put the triggers of live_stream back.")
}

/// BEFORE UPDATE of a row: keeps `updated_at`.
#[pg_trigger]
fn touch<'a>(trigger: &'a PgTrigger<'a>) -> Outcome<'a> {
    before(trigger, |_, new| {
        new.set("updated_at", Some(clock::transaction_time()))
    })
}
