//! From the clock on the wall to a moment and back, by the rule of RFC 5545, 3.3.5: a time that
//! clocks skip is counted on from before the gap, one that they show twice is the first.
//!
//! Moments are seconds of Unix time, clock times are seconds since 1970-01-01 of a clock that is
//! never changed. What a zone's offsets are, its owner knows: there is no zone database here.

use crate::days::DAY_SECONDS;

/// The seconds that a zone's clocks are ahead of UTC, from some moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// Less than a day, but for days that a zone leaves out.
    pub seconds: i64,
    /// When the next offset begins to count; none if this one stays.
    pub until: Option<i64>,
}

/// A time zone is what its clocks show at each moment.
pub trait TimeZone {
    /// The offset that counts at a moment.
    fn offset_at(&self, moment: i64) -> Offset;

    /// What the zone's clocks show at a moment.
    fn wall(&self, moment: i64) -> i64 {
        moment.saturating_add(self.offset_at(moment).seconds)
    }

    /// The offsets that count from one moment up to another, as pairs of when each begins and
    /// its seconds; the first is the one that counts at `from`.
    fn offsets(&self, from: i64, to: i64) -> Vec<(i64, i64)> {
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
}

impl<F: Fn(i64) -> Offset> TimeZone for F {
    fn offset_at(&self, moment: i64) -> Offset {
        self(moment)
    }
}

/// The clocks of a zone, read again and again, mostly in the order of time.
pub struct Clock<Z> {
    zone: Z,
    /// The offset that was found last, and the moments between which it counts.
    offset: i64,
    since: i64,
    until: i64,
}

impl<Z: TimeZone> Clock<Z> {
    /// The clocks of a zone.
    pub fn of(zone: Z) -> Self {
        Self {
            zone,
            offset: 0,
            since: 0,
            until: 0,
        }
    }

    /// The moment at which the clocks show `wall`, and whether they skip it.
    #[inline]
    pub fn moment(&mut self, wall: i64) -> (i64, bool) {
        let moment = wall.saturating_sub(self.offset);
        // Right after a change the offset before it may count as well.
        if moment >= self.since && moment < self.until {
            return (moment, false);
        }
        let found = first_moment(wall, &self.zone);
        let offset = self.zone.offset_at(found.0);
        let before = self.zone.offset_at(found.0.saturating_sub(2 * DAY_SECONDS));
        // No zone's clocks are changed by a whole day and more.
        let settled = before.until == offset.until;
        self.offset = offset.seconds;
        let margin = if settled { -DAY_SECONDS } else { DAY_SECONDS };
        self.since = found.0.saturating_add(margin);
        self.until = offset.until.unwrap_or(i64::MAX);
        found
    }
}

/// The first moment at which a zone's clocks show `wall`, and whether they skip it.
fn first_moment(wall: i64, zone: &impl TimeZone) -> (i64, bool) {
    // No offset is a whole day, so the answer is not before this, and not after `last`.
    let mut since = wall.saturating_sub(DAY_SECONDS);
    let last = wall.saturating_add(DAY_SECONDS);
    let mut before = 0;
    let mut skipped = None;
    loop {
        let offset = zone.offset_at(since);
        let candidate = wall.saturating_sub(offset.seconds);
        let over = offset.until.is_some_and(|until| candidate >= until);
        if candidate >= since && !over {
            return (candidate, false);
        }
        if candidate < since {
            skipped.get_or_insert(wall.saturating_sub(before));
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

    fn moment(wall: i64, zone: &impl TimeZone) -> i64 {
        super::first_moment(wall, zone).0
    }

    #[test]
    fn a_skipped_time_is_known() {
        let zone = changing(100 * HOUR, HOUR);
        for (wall, skipped) in [
            (100 * HOUR - 1, false),
            (100 * HOUR, true),
            (101 * HOUR, false),
        ] {
            assert_eq!(super::first_moment(wall, &zone).1, skipped);
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
        let zone = |at: i64| match at {
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
        assert_eq!(moment(-1, &zone), -1);
        assert_eq!(moment(0, &zone), HOUR);
        assert_eq!(moment(HOUR / 2, &zone), HOUR + HOUR / 2);
        assert_eq!(moment(HOUR, &zone), 0);
        assert_eq!(moment(2 * HOUR, &zone), 3 * HOUR);
    }
}
