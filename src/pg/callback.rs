//! What a room tells one above it, which it does not know by name.
//!
//! Say a session ends, and its viewers must be closed: sessions stand below viewers. So sessions
//! declare a `static` [`Callback`], viewers register what is to be done as the library is loaded,
//! and sessions call it.

use crate::pg::error::{Error, Result, SqlState};
use std::sync::OnceLock;

/// A place for one function.
pub struct Callback<F> {
    what: &'static str,
    function: OnceLock<F>,
}

impl<F: Copy> Callback<F> {
    /// `what` it does, for whoever forgets to register one.
    pub const fn new(what: &'static str) -> Self {
        Self {
            what,
            function: OnceLock::new(),
        }
    }

    /// Called once per backend, as the library is loaded; what is registered first stays.
    pub fn register(&self, function: F) {
        self.function.get_or_init(|| function);
    }

    /// The function that was registered.
    ///
    /// Errors: XX000 where there is none, which is a mistake of ours.
    pub fn get(&self) -> Result<F> {
        self.function.get().copied().ok_or_else(|| {
            Error::new(
                SqlState::INTERNAL,
                format!("nobody has registered to {}", self.what),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_registered_first_is_called() {
        let callback: Callback<fn(i32) -> i32> = Callback::new("count");
        assert!(callback.get().is_err());
        callback.register(|n| n + 1);
        callback.register(|n| n + 2);
        assert_eq!(callback.get().ok().map(|f| f(1)), Some(2));
    }
}
