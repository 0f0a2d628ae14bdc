//! Whether a value fits its column, asked before PostgreSQL casts it: a function of ours that takes a text or a number of any
//! size says what is wrong with which. How much fits stands in `sql/`, with the column.

use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::row::check_length;
use crate::pg::tables::{self, Column};
use pgrx::prelude::*;

/// Checks a text for a column of a table in `public`.
///
/// Errors: 23514.
pub fn check_text(table: &str, column: &str, text: Option<&str>) -> Result<()> {
    match column_of(table, column)?.most_chars() {
        Some(most) => check_length(column, noun(table), text, most),
        None => Ok(()),
    }
}

/// A text that is to go into a column.
///
/// Errors: 23514 for one that is too long.
#[pg_extern(stable, parallel_safe)]
fn fitting_text(
    table_name: Option<&str>,
    column_name: Option<&str>,
    value: Option<String>,
) -> Option<String> {
    let (table, column) = (table_name.unwrap_or(""), column_name.unwrap_or(""));
    check_text(table, column, value.as_deref()).or_raise();
    value
}

/// A number that is to go into a column.
///
/// Errors: 22003 for one that is too large.
#[pg_extern(stable, parallel_safe)]
fn fitting_number(
    table_name: Option<&str>,
    column_name: Option<&str>,
    value: Option<AnyNumeric>,
) -> Option<AnyNumeric> {
    let (table_name, column_name) = (table_name.unwrap_or(""), column_name.unwrap_or(""));
    let check = || {
        let column = column_of(table_name, column_name)?;
        let Some((value, (whole, decimals))) = value.as_ref().zip(column.digits()) else {
            return Ok(());
        };
        // From here on it is rounded up to one digit more; NaN is above all, and a matter of the guards.
        let digits = |count| "9".repeat(count);
        let limit = format!("{}.{}5", digits(whole), digits(decimals));
        let limit =
            AnyNumeric::try_from(limit.as_str()).map_err(|_| no_such_column(column_name))?;
        if value.is_nan() || *value < limit && *value > -limit {
            return Ok(());
        }
        Err(Error::new(
            SqlState::OUT_OF_RANGE,
            format!(
                "{column_name} of the {} cannot be {value}",
                noun(table_name)
            ),
        )
        .hint(format!(
            "Give a number with {whole} digits at most before the point, and {decimals} after it."
        )))
    };
    check().or_raise();
    value
}

fn column_of(table: &str, column: &str) -> Result<&'static Column> {
    tables::table("public", table)
        .and_then(|table| table.columns.iter().find(|it| it.name == column))
        .ok_or_else(|| no_such_column(column))
}

fn no_such_column(column: &str) -> Error {
    Error::new(
        SqlState::INVALID_PARAMETER,
        format!("live_stream made no such column {column}"),
    )
    .hint("Name a table and a column as CREATE EXTENSION live_stream made them.")
}

/// What a row of a table is.
fn noun(table: &str) -> &str {
    match table.strip_prefix("live_stream_").unwrap_or(table) {
        "chat" => "message",
        name => name.trim_end_matches('s'),
    }
}
