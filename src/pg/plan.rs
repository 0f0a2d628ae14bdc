//! Prepared statements, kept for the life of the backend.
//!
//! Before one runs, the tables and columns that its text names are looked at, once in each
//! generation of the catalog: what their owner has changed is refused by its name.

use crate::pg::catalog;
use crate::pg::error::{Error, OrRaise, Result, SqlState, keep_sqlstate};
use crate::pg::heap::Table;
use crate::pg::shape;
use crate::pg::tables;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::{Cell, OnceCell};
use std::ffi::{CStr, CString, c_char};
use std::ptr::null_mut;
use std::thread::LocalKey;

/// A statement of several pieces, as [`Plan`] wants it.
macro_rules! sql {
    ($($piece:expr),* $(,)?) => {
        match std::ffi::CStr::from_bytes_with_nul(concat!($($piece),*, "\0").as_bytes()) {
            Ok(sql) => sql,
            Err(_) => panic!(),
        }
    };
}
pub(crate) use sql;

/// A statement that is prepared when it is first used. Declare it in `thread_local!`: a backend
/// has one thread.
pub struct Plan {
    sql: &'static CStr,
    types: &'static [pg_sys::Oid],
    read_only: bool,
    kept: Cell<pg_sys::SPIPlanPtr>,
    relies_on: OnceCell<Vec<(&'static tables::Table, Vec<&'static tables::Column>)>>,
    /// The generation of the catalog in which that was found to be there.
    checked_in: Cell<u64>,
}

impl Plan {
    /// A statement that writes, or must see what was committed up to the moment it runs.
    pub const fn writing(sql: &'static CStr, types: &'static [pg_sys::Oid]) -> Self {
        Self {
            sql,
            types,
            read_only: false,
            kept: Cell::new(null_mut()),
            relies_on: OnceCell::new(),
            checked_in: Cell::new(0),
        }
    }

    /// A query that sees what the statement around it sees, for STABLE functions.
    pub const fn reading(sql: &'static CStr, types: &'static [pg_sys::Oid]) -> Self {
        Self {
            sql,
            types,
            read_only: true,
            kept: Cell::new(null_mut()),
            relies_on: OnceCell::new(),
            checked_in: Cell::new(0),
        }
    }

    /// Checks what the statement relies on.
    ///
    /// Errors: 55000.
    fn check(&self) -> Result<()> {
        let generation = catalog::generation();
        if self.checked_in.get() == generation {
            return Ok(());
        }
        let text = || self.sql.to_str().map(tables::relied_on).unwrap_or_default();
        let needs_key = self
            .sql
            .to_bytes()
            .windows(12)
            .any(|it| it == b" on conflict");
        for (table, columns) in self.relies_on.get_or_init(text) {
            let found = if table.is_ours() {
                Table::read(&table.schema_name, &table.table_name)?
            } else {
                Table::of_app(&table.schema_name, &table.table_name)?
            };
            found.check_columns(table, columns)?;
            if needs_key && table.is_ours() {
                found.check_key(table)?;
            }
        }
        // What changed meanwhile is looked at the next time.
        self.checked_in.set(generation);
        Ok(())
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
    ///
    /// Raises 55000 where the statement has a value of another type there: something that it asks
    /// has been changed.
    pub fn get<T: FromDatum + IntoDatum + 'static>(&self, row: usize, column: usize) -> Option<T> {
        if self.table.is_null() || row >= self.processed {
            return None;
        }
        let number = column as i32 + 1;
        // SAFETY: `row` was checked; SPI checks the column. The value is taken for what it is.
        unsafe {
            let desc = (*self.table).tupdesc;
            let kind = pg_sys::SPI_gettypeid(desc, number);
            if !shape::fits::<T>(kind) {
                let error = changed_answer(desc, number, kind, T::type_oid());
                return Err(error).or_raise();
            }
            let mut null = false;
            let tuple = *(*self.table).vals.add(row);
            let datum = pg_sys::SPI_getbinval(tuple, desc, number, &mut null);
            T::from_datum(datum, null)
        }
    }
}

/// # Safety
/// `desc` must be valid.
unsafe fn changed_answer(
    desc: pg_sys::TupleDesc,
    number: i32,
    kind: pg_sys::Oid,
    wanted: pg_sys::Oid,
) -> Error {
    // SAFETY: answers with null or a string.
    let name = unsafe {
        let name = pg_sys::SPI_fname(desc, number);
        if name.is_null() {
            String::new()
        } else {
            CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    };
    let (kind, wanted) = (shape::type_name(kind), shape::type_name(wanted));
    shape::changed(
        format!("column \"{name}\" has another type than live_stream needs"),
        format!("It is {kind}, and was made as {wanted}."),
        "Put back what has been changed, or run live_stream.install() as the owner of the extension.",
    )
}

/// Runs a prepared statement and reads its rows.
pub fn run<R>(
    plan: &'static LocalKey<Plan>,
    args: &[DatumWithOid<'_>],
    read: impl FnOnce(&Rows) -> Result<R>,
) -> Result<R> {
    let (mut values, nulls) = datums(args);
    plan.with(Plan::check)?;
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

/// The arguments of a statement, and which of them are null, as SPI takes them.
fn datums(args: &[DatumWithOid<'_>]) -> (Vec<pg_sys::Datum>, Vec<c_char>) {
    args.iter()
        .map(|arg| match arg.datum() {
            Some(datum) => (datum.sans_lifetime(), b' ' as c_char),
            None => (pg_sys::Datum::from(0), b'n' as c_char),
        })
        .unzip()
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

/// The first value that a statement, not worth keeping, returns. One that only reads takes no
/// transaction id. `T` must own its value.
pub fn ask<T: FromDatum + IntoDatum + 'static>(
    sql: &str,
    args: &[DatumWithOid<'_>],
) -> Result<Option<T>> {
    let text = CString::new(sql)
        .map_err(|_| Error::new(SqlState::INTERNAL, "a query of live_stream contains a NUL"))?;
    let mut types: Vec<pg_sys::Oid> = args.iter().map(DatumWithOid::oid).collect();
    let (mut values, nulls) = datums(args);
    keep_sqlstate(|| {
        // SAFETY: as in `run`; the arrays have an entry for each argument.
        unsafe {
            let connected = pg_sys::SPI_connect();
            if connected != pg_sys::SPI_OK_CONNECT as i32 {
                return Err(spi_failed(connected));
            }
            let done = pg_sys::SPI_execute_with_args(
                text.as_ptr(),
                types.len() as i32,
                types.as_mut_ptr(),
                values.as_mut_ptr(),
                nulls.as_ptr(),
                false,
                0,
            );
            if done < 0 {
                return Err(spi_failed(done));
            }
            let rows = Rows {
                table: pg_sys::SPI_tuptable,
                processed: pg_sys::SPI_processed as usize,
            };
            let answer = rows.get(0, 0);
            pg_sys::SPI_finish();
            Ok(answer)
        }
    })
}
