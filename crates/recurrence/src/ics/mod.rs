//! Calendars as text: RFC 5545's iCalendar.

pub mod calendar;
pub mod duration;
pub mod observances;
mod parameters;
pub mod text;
pub mod timezone;
pub mod windows;
