//! Calendars as text: RFC 5545's iCalendar, out and in.

mod event;
mod import;
mod write;
