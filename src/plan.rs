//! Prepared statements, kept for the life of the backend.

use crate::error::{Error, Result, SqlState, keep_sqlstate};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::ptr::null_mut;
use std::thread::LocalKey;

/// A statement that is prepared when it is first used. Declare it in `thread_local!`: a backend
/// has one thread.
pub struct Plan {
    sql: &'static CStr,
    types: &'static [pg_sys::Oid],
    read_only: bool,
    kept: Cell<pg_sys::SPIPlanPtr>,
}

impl Plan {
    /// A statement that writes, or must see what was committed up to the moment it runs.
    pub const fn writing(sql: &'static CStr, types: &'static [pg_sys::Oid]) -> Self {
        Self {
            sql,
            types,
            read_only: false,
            kept: Cell::new(null_mut()),
        }
    }

    /// A query that sees what the statement around it sees, for STABLE functions.
    pub const fn reading(sql: &'static CStr, types: &'static [pg_sys::Oid]) -> Self {
        Self {
            sql,
            types,
            read_only: true,
            kept: Cell::new(null_mut()),
        }
    }

    fn prepared(&self) -> Result<pg_sys::SPIPlanPtr> {
        if self.kept.get().is_null() {
            // SAFETY: called between SPI_connect and SPI_finish; SPI does not write to the
            // argument types. A kept plan outlives transactions and is never freed.
            unsafe {
                let plan = pg_sys::SPI_prepare(
                    self.sql.as_ptr(),
                    self.types.len() as i32,
                    self.types.as_ptr().cast_mut(),
                );
                if plan.is_null() || pg_sys::SPI_keepplan(plan) != 0 {
                    return Err(spi_failed(pg_sys::SPI_result));
                }
                self.kept.set(plan);
            }
        }
        Ok(self.kept.get())
    }
}

/// What a statement returned.
pub struct Rows {
    table: *mut pg_sys::SPITupleTable,
    processed: usize,
}

impl Rows {
    /// The number of rows returned, or touched where nothing is returned.
    pub fn len(&self) -> usize {
        self.processed
    }

    /// The value in a row and a column, both counted from 0; none when it is null. `T` must
    /// own its value: the row is gone when the statement is done.
    pub fn get<T: FromDatum + 'static>(&self, row: usize, column: usize) -> Option<T> {
        if self.table.is_null() || row >= self.processed {
            return None;
        }
        // SAFETY: `row` was checked; SPI_getbinval checks the column. `T` is the type that the
        // statement's text gives the column.
        unsafe {
            let mut null = false;
            let tuple = *(*self.table).vals.add(row);
            let datum =
                pg_sys::SPI_getbinval(tuple, (*self.table).tupdesc, column as i32 + 1, &mut null);
            T::from_datum(datum, null)
        }
    }
}

/// Runs a prepared statement and reads its rows.
pub fn run<R>(
    plan: &'static LocalKey<Plan>,
    args: &[DatumWithOid<'_>],
    read: impl FnOnce(&Rows) -> Result<R>,
) -> Result<R> {
    let (mut values, nulls): (Vec<pg_sys::Datum>, Vec<c_char>) = args
        .iter()
        .map(|arg| match arg.datum() {
            Some(datum) => (datum.sans_lifetime(), b' ' as c_char),
            None => (pg_sys::Datum::from(0), b'n' as c_char),
        })
        .unzip();
    keep_sqlstate(|| {
        // SAFETY: connect and finish are paired on every way out but an error that PostgreSQL
        // raises, which ends the connection by itself; `values` and `nulls` match the plan.
        unsafe {
            let connected = pg_sys::SPI_connect();
            if connected != pg_sys::SPI_OK_CONNECT as i32 {
                return Err(spi_failed(connected));
            }
            let outcome = plan.with(|plan| {
                let prepared = plan.prepared()?;
                if plan.types.len() != values.len() {
                    return Err(spi_failed(pg_sys::SPI_ERROR_ARGUMENT));
                }
                let done = pg_sys::SPI_execute_plan(
                    prepared,
                    values.as_mut_ptr(),
                    nulls.as_ptr(),
                    plan.read_only,
                    0,
                );
                if done < 0 {
                    return Err(spi_failed(done));
                }
                let processed = pg_sys::SPI_processed as usize;
                read(&Rows {
                    table: pg_sys::SPI_tuptable,
                    processed,
                })
            });
            pg_sys::SPI_finish();
            outcome
        }
    })
}

/// Runs a prepared statement for its effect; returns the number of rows it touched.
pub fn execute(plan: &'static LocalKey<Plan>, args: &[DatumWithOid<'_>]) -> Result<usize> {
    run(plan, args, |rows| Ok(rows.len()))
}

/// A mistake of ours: a query that PostgreSQL refuses raises its own error and does not come
/// back here.
fn spi_failed(code: i32) -> Error {
    Error::new(
        SqlState::INTERNAL,
        format!("internal query failed with SPI code {code}"),
    )
}

/// Runs a statement that is not worth keeping, such as DDL.
pub fn utility(sql: &str) -> Result<()> {
    keep_sqlstate(|| Ok(Spi::run(sql)?))
}

/// The first value that a query, not worth keeping, returns.
pub fn ask<T: FromDatum + IntoDatum>(sql: &str, args: &[DatumWithOid<'_>]) -> Result<Option<T>> {
    keep_sqlstate(|| match Spi::get_one_with_args(sql, args) {
        Err(pgrx::spi::Error::InvalidPosition) => Ok(None),
        answer => Ok(answer?),
    })
}

/// As [`ask`], of a statement that writes.
pub fn change<T: FromDatum + IntoDatum>(sql: &str, args: &[DatumWithOid<'_>]) -> Result<Option<T>> {
    keep_sqlstate(|| {
        Spi::connect_mut(|client| {
            let rows = client.update(sql, None, args)?;
            Ok(if rows.is_empty() {
                None
            } else {
                rows.first().get_one()?
            })
        })
    })
}
