//! Time zones as the server knows them: which offset counts when. What a clock time means that is skipped or shown
//! twice as clocks are changed is decided in `recurrence::daylight_saving`.

use crate::pg::error::Result;
use crate::pg::plan::{self, Plan};
use pgrx::pg_sys;
use recurrence::daylight_saving::{Offset, TimeZone};
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_int, c_long};

thread_local! {
    static WITH_DIGITS: Plan = const { Plan::reading(
        c"select name from pg_catalog.pg_timezone_names where name operator(pg_catalog.~) '[0-9]'",
        &[],
    ) };
    // The server opens every file of its zones to list them.
    static LISTED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// The server's spelling of a zone's IANA name; none for a name that it does not know, and for
/// what is no name of a place or a standard: a rule such as `FOO+3`, the machine's own zone.
pub fn canonical_name(name: &str) -> Result<Option<String>> {
    // A rule holds a number. The server would take it for a zone, and keep it for ever.
    let canonical = if name.contains(|c: char| c.is_ascii_digit()) {
        listed(name)?
    } else {
        Zone::named(name).and_then(Zone::name)
    };
    Ok(canonical.filter(|name| {
        !matches!(name.as_str(), "localtime" | "posixrules" | "Factory")
            && !name.starts_with("posix/")
            && !name.starts_with("right/")
    }))
}

/// A name with a digit, if the server lists it.
fn listed(name: &str) -> Result<Option<String>> {
    let find = |names: &Vec<String>| {
        let found = names.iter().find(|other| other.eq_ignore_ascii_case(name));
        found.cloned()
    };
    if let Some(found) = LISTED.with_borrow(|listed| listed.as_ref().map(find)) {
        return Ok(found);
    }
    let names = plan::run(&WITH_DIGITS, &[], |rows| {
        Ok((0..rows.len()).filter_map(|row| rows.get(row, 0)).collect())
    })?;
    let found = find(&names);
    LISTED.set(Some(names));
    Ok(found)
}

/// A time zone in the server's memory, where it stays as long as the backend lives.
#[derive(Clone, Copy)]
pub struct Zone(*mut pg_sys::pg_tz);

impl Zone {
    /// Any zone that `SET timezone` takes by name, upper or lower case.
    pub fn named(name: &str) -> Option<Self> {
        let name = CString::new(name).ok()?;
        // SAFETY: looks the name up in the server's cache, or reads its file; null if neither.
        let zone = unsafe { pg_sys::pg_tzset(name.as_ptr()) };
        // SAFETY: `zone` is not null. Zones with leap seconds do not fit the server's clock.
        (!zone.is_null() && unsafe { pg_sys::pg_tz_acceptable(zone) }).then_some(Self(zone))
    }

    fn name(self) -> Option<String> {
        // SAFETY: the name belongs to the zone and is copied at once.
        unsafe {
            let name = pg_sys::pg_get_timezone_name(self.0);
            (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
        }
    }
}

impl TimeZone for Zone {
    fn offset_at(&self, at: i64) -> Offset {
        let (mut before, mut after): (c_long, c_long) = (0, 0);
        let (mut before_dst, mut after_dst): (c_int, c_int) = (0, 0);
        let mut boundary: pg_sys::pg_time_t = 0;
        // SAFETY: all pointers are to locals; the zone lives as long as the backend.
        let found = unsafe {
            pg_sys::pg_next_dst_boundary(
                &at,
                &mut before,
                &mut before_dst,
                &mut boundary,
                &mut after,
                &mut after_dst,
                self.0,
            )
        };
        Offset {
            seconds: before,
            until: (found > 0).then_some(boundary),
        }
    }
}
