//! Recurrence rules of RFC 5545: their text, and when they take place by the clock on the wall.
//!
//! A [`Rule`](rule::Rule) is read and written by [`rule`], and expanded by [`expand`] in clock
//! time; [`daylight_saving`] says which moment a clock time is in a zone that the caller brings, and
//! [`order`] keeps starts in order where clocks change. [`ics`] is the text of calendars,
//! [`stamp`] that of dates and times, [`days`] the calendar beneath it all.
//!
//! ```
//! use recurrence::expand::Expansion;
//! use recurrence::rule::Rule;
//! use recurrence::stamp::{read_stamp, stamp};
//!
//! let rule = Rule::parse("rrule:byday=fr,mo;freq=weekly")?;
//! assert_eq!(rule.to_string(), "FREQ=WEEKLY;BYDAY=MO,FR");
//!
//! // Seconds of clock time since 1970-01-01; the second is whether a Z follows.
//! let (first, _) = read_stamp("20260501T180000").ok_or("no time")?;
//! let (from, _) = read_stamp("20260515T000000").ok_or("no time")?;
//! let starts = Expansion::new(&rule, first, from).take(3).map(stamp);
//! assert!(starts.eq(["20260515T180000", "20260518T180000", "20260522T180000"]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod daylight_saving;
pub mod days;
pub mod expand;
pub mod ics;
pub mod order;
pub mod rule;
pub mod stamp;
