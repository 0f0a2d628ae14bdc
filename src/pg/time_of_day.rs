//! PostgreSQL's `time`, 24:00 included: pgrx's own type turns that into 00:00.

use pgrx::callconv::{Arg, ArgAbi};
use pgrx::pg_sys;
use pgrx::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeOfDay(pg_sys::TimeADT);

impl TimeOfDay {
    pub fn since_midnight(self) -> i64 {
        self.0
    }
}

impl FromDatum for TimeOfDay {
    unsafe fn from_polymorphic_datum(
        datum: pg_sys::Datum,
        is_null: bool,
        _: pg_sys::Oid,
    ) -> Option<Self> {
        (!is_null).then(|| Self(datum.value() as pg_sys::TimeADT))
    }
}

impl IntoDatum for TimeOfDay {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        Some(pg_sys::Datum::from(self.0))
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::TIMEOID
    }
}

// SAFETY: a `time` is passed by value, as `from_datum` reads it.
unsafe impl<'fcx> ArgAbi<'fcx> for TimeOfDay {
    unsafe fn unbox_arg_unchecked(arg: Arg<'_, 'fcx>) -> Self {
        // SAFETY: the caller vouches for the argument's type, and that it is not null.
        unsafe { arg.unbox_arg_using_from_datum() }.unwrap_or(Self(0))
    }
}

pgrx::impl_sql_translatable!(TimeOfDay, "time");
