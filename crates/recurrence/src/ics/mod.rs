//! Calendars as text: RFC 5545's iCalendar.

pub mod text;
pub mod timezone;
