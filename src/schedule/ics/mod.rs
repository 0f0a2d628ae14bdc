//! Calendars as text: RFC 5545's iCalendar, out and in.

mod event;
mod import;
mod links;
mod write;

pub use links::define_settings;
