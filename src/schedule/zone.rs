//! Time zones as the server knows them: from the clock on the wall to a moment.

use crate::error::Result;
use crate::plan::{self, Plan};
use pgrx::pg_sys;
use recurrence::days::DAY_SECONDS;
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

    /// What the zone's clocks show at a moment. Both are seconds: of Unix time, and of clock time
    /// since 1970-01-01.
    pub fn wall(self, moment: i64) -> i64 {
        moment + self.offset_at(moment).seconds
    }

    /// The offsets that count from one moment up to another, as pairs of when each begins and
    /// its seconds; the first is the one that counts at `from`.
    pub fn offsets(self, from: i64, to: i64) -> Vec<(i64, i64)> {
        let mut offsets = Vec::new();
        let mut at = from;
        loop {
            let offset = self.offset_at(at);
            offsets.push((at, offset.seconds));
            match offset.until {
                Some(until) if until < to => at = until,
                _ => return offsets,
            }
        }
    }

    fn offset_at(self, at: i64) -> Offset {
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

/// The clocks of a zone, read again and again, mostly in the order of time.
pub struct Clock {
    zone: Zone,
    /// The offset that was found last, and the moments between which it counts.
    offset: i64,
    since: i64,
    until: i64,
}

impl Clock {
    pub fn of(zone: Zone) -> Self {
        Self {
            zone,
            offset: 0,
            since: 0,
            until: 0,
        }
    }

    /// The moment at which the clocks show `wall`, and whether they skip it. Both are seconds:
    /// of clock time since 1970-01-01, and of Unix time. A time that they skip is counted on
    /// from before the gap; one that they show twice is the first (RFC 5545).
    #[inline]
    pub fn moment(&mut self, wall: i64) -> (i64, bool) {
        let moment = wall - self.offset;
        // Right after a change the offset before it may count as well.
        if moment >= self.since && moment < self.until {
            return (moment, false);
        }
        let found = self::moment(wall, |at| self.zone.offset_at(at));
        let offset = self.zone.offset_at(found.0);
        let before = self.zone.offset_at(found.0 - 2 * DAY_SECONDS);
        // No zone's clocks are changed by a whole day and more.
        let settled = before.until == offset.until;
        self.offset = offset.seconds;
        self.since = found.0 + if settled { -DAY_SECONDS } else { DAY_SECONDS };
        self.until = offset.until.unwrap_or(i64::MAX);
        found
    }
}

/// The seconds that a zone's clocks are ahead of UTC, from some moment on.
struct Offset {
    seconds: i64,
    /// When the next offset begins to count; none if this one stays.
    until: Option<i64>,
}

/// The first moment at which clocks show `wall`, both in seconds of Unix time, and whether they
/// skip it.
fn moment(wall: i64, mut offset_at: impl FnMut(i64) -> Offset) -> (i64, bool) {
    // No offset is a whole day, so the answer is not before this, and not after `last`.
    let mut since = wall - DAY_SECONDS;
    let last = wall + DAY_SECONDS;
    let mut before = 0;
    let mut skipped = None;
    loop {
        let offset = offset_at(since);
        let candidate = wall - offset.seconds;
        let over = offset.until.is_some_and(|until| candidate >= until);
        if candidate >= since && !over {
            return (candidate, false);
        }
        if candidate < since {
            skipped.get_or_insert(wall - before);
        }
        match offset.until {
            Some(until) if until <= last => {
                before = offset.seconds;
                since = until;
            }
            _ => return (skipped.unwrap_or(candidate), skipped.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 60 * 60;

    /// Offset 0 up to `boundary`, `seconds` from there on.
    fn changing(boundary: i64, seconds: i64) -> impl Fn(i64) -> Offset {
        move |at| {
            if at < boundary {
                Offset {
                    seconds: 0,
                    until: Some(boundary),
                }
            } else {
                Offset {
                    seconds,
                    until: None,
                }
            }
        }
    }

    fn moment(wall: i64, offset_at: impl FnMut(i64) -> Offset) -> i64 {
        super::moment(wall, offset_at).0
    }

    #[test]
    fn a_skipped_time_is_known() {
        let zone = changing(100 * HOUR, HOUR);
        for (wall, skipped) in [
            (100 * HOUR - 1, false),
            (100 * HOUR, true),
            (101 * HOUR, false),
        ] {
            assert_eq!(super::moment(wall, &zone).1, skipped);
        }
    }

    #[test]
    fn clocks_put_forward_skip_an_hour() {
        let zone = changing(100 * HOUR, HOUR);
        assert_eq!(moment(100 * HOUR - 1, &zone), 100 * HOUR - 1);
        assert_eq!(moment(100 * HOUR, &zone), 100 * HOUR);
        assert_eq!(moment(100 * HOUR + 1800, &zone), 100 * HOUR + 1800);
        assert_eq!(moment(101 * HOUR, &zone), 100 * HOUR);
        assert_eq!(moment(200 * HOUR, &zone), 199 * HOUR);
    }

    #[test]
    fn clocks_put_back_show_an_hour_twice() {
        let zone = changing(100 * HOUR, -HOUR);
        assert_eq!(moment(99 * HOUR - 1, &zone), 99 * HOUR - 1);
        assert_eq!(moment(99 * HOUR, &zone), 99 * HOUR);
        assert_eq!(moment(100 * HOUR - 1, &zone), 100 * HOUR - 1);
        assert_eq!(moment(100 * HOUR, &zone), 101 * HOUR);
    }

    #[test]
    fn a_skipped_day_is_the_day_after() {
        let zone = changing(0, 24 * HOUR);
        assert_eq!(moment(-HOUR, &zone), -HOUR);
        assert_eq!(moment(10 * HOUR, &zone), 10 * HOUR);
        assert_eq!(moment(34 * HOUR, &zone), 10 * HOUR);
    }

    #[test]
    fn two_changes_within_a_day_are_both_seen() {
        let zone = |at| match at {
            ..0 => Offset {
                seconds: 0,
                until: Some(0),
            },
            0..HOUR => Offset {
                seconds: HOUR,
                until: Some(HOUR),
            },
            _ => Offset {
                seconds: -HOUR,
                until: None,
            },
        };
        assert_eq!(moment(-1, zone), -1);
        assert_eq!(moment(0, zone), HOUR);
        assert_eq!(moment(HOUR / 2, zone), HOUR + HOUR / 2);
        assert_eq!(moment(HOUR, zone), 0);
        assert_eq!(moment(2 * HOUR, zone), 3 * HOUR);
    }
}
