//! Calendars as text: RFC 5545's iCalendar, out and in.

mod read;
mod text;
mod timezone;
mod write;
