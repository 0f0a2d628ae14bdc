//! Settings of PostgreSQL's, read and set by name.

use pgrx::pg_sys;
use std::ffi::CStr;

/// The value of a setting; none when it is not set, or empty.
pub fn get(name: &CStr) -> Option<String> {
    with(name, |value| String::from_utf8_lossy(value).into_owned())
}

/// What `read` makes of the value of a setting, which it must not change; none when it is not set, or empty.
pub fn with<R>(name: &CStr, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
    // SAFETY: PostgreSQL answers with null or a string that stays as it is until the setting changes.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if value.is_null() {
            return None;
        }
        let value = CStr::from_ptr(value).to_bytes();
        (!value.is_empty()).then(|| read(value))
    }
}

/// Sets a setting that every role may change, for the rest of the transaction.
pub fn set_local(name: &CStr, value: &CStr) {
    // SAFETY: both strings outlive the call, which copies them.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_LOCAL,
            true,
            0,
            false,
        );
    }
}

/// Refuses settings `live_stream.…` that nobody has defined: misspelt ones. Called once per backend, after
/// all are defined.
pub fn reserve_prefix() {
    // SAFETY: the prefix is ours.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"live_stream".as_ptr()) };
}

/// Keeps backtraces out of the DETAIL of errors, which browsers see. Called once per backend.
pub fn without_backtraces() {
    // SAFETY: a backend has one thread.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
}
