//! What a text was read as, kept for whoever asks with the same text again.
//!
//! The settings of a request are read by many, and may be long. They change within a transaction, and back with a rollback
//! to a savepoint, and PostgreSQL does not say so. So what was read is found by the text itself, whole.

use crate::pg::settings;
use std::cell::RefCell;
use std::ffi::CStr;

pub struct Parsed<T>(RefCell<Option<(Vec<u8>, T)>>);

impl<T> Parsed<T> {
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    /// What `answer` makes of a setting that `parse` reads; none where it is not set, or empty.
    pub fn of<R>(
        &self,
        setting: &CStr,
        parse: impl FnOnce(&str) -> T,
        answer: impl FnOnce(&T) -> R,
    ) -> Option<R> {
        settings::with(setting, |text| {
            let mut kept = self.0.borrow_mut();
            match &*kept {
                Some((of, parsed)) if of == text => answer(parsed),
                _ => {
                    let parsed = parse(&String::from_utf8_lossy(text));
                    let (_, parsed) = kept.insert((text.to_vec(), parsed));
                    answer(parsed)
                }
            }
        })
    }

    pub fn forget(&self) {
        self.0.take();
    }
}
