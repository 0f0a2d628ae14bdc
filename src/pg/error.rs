//! What a caller is told when something is refused.
//!
//! An [`Error`] carries a SQLSTATE, a message, a detail and a hint, and becomes one clean
//! `ereport`. pgrx knows the SQLSTATEs of PostgreSQL's own list only; PostgREST gives meaning
//! to others (`PT404` is HTTP 404), and an app's triggers may raise any. [`or_raise`] and
//! [`keep_sqlstate`] carry those through as well.
//!
//! [`or_raise`]: OrRaise::or_raise

use crate::pg::own_writes::trigger_depth;
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport, ErrorReportable};
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A five-character SQLSTATE, packed as PostgreSQL packs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqlState(i32);

impl SqlState {
    pub const NOT_SUPPORTED: Self = Self::new(b"0A000");
    pub const INVALID_PARAMETER: Self = Self::new(b"22023");
    pub const INVALID_TRANSACTION_STATE: Self = Self::new(b"25000");
    /// PostgREST answers with HTTP 405.
    pub const READ_ONLY_TRANSACTION: Self = Self::new(b"25006");
    pub const INVALID_AUTHORIZATION: Self = Self::new(b"28000");
    pub const OUT_OF_RANGE: Self = Self::new(b"22003");
    pub const NOT_NULL_VIOLATION: Self = Self::new(b"23502");
    pub const FOREIGN_KEY_VIOLATION: Self = Self::new(b"23503");
    pub const UNIQUE_VIOLATION: Self = Self::new(b"23505");
    pub const CHECK_VIOLATION: Self = Self::new(b"23514");
    pub const SERIALIZATION_FAILURE: Self = Self::new(b"40001");
    pub const INSUFFICIENT_PRIVILEGE: Self = Self::new(b"42501");
    pub const DUPLICATE_TABLE: Self = Self::new(b"42P07");
    pub const DATATYPE_MISMATCH: Self = Self::new(b"42804");
    pub const WRONG_OBJECT_TYPE: Self = Self::new(b"42809");
    /// PostgREST answers with HTTP 413.
    pub const PROGRAM_LIMIT_EXCEEDED: Self = Self::new(b"54000");
    pub const STATEMENT_TOO_COMPLEX: Self = Self::new(b"54001");
    pub const NOT_IN_PREREQUISITE_STATE: Self = Self::new(b"55000");
    pub const INTERNAL: Self = Self::new(b"XX000");
    /// PostgREST answers with HTTP 404.
    pub const NOT_FOUND: Self = Self::new(b"PT404");
    /// PostgREST answers with HTTP 409.
    pub const CONFLICT: Self = Self::new(b"PT409");
    /// PostgREST answers with HTTP 429.
    pub const TOO_MANY_REQUESTS: Self = Self::new(b"PT429");

    const fn new(text: &[u8; 5]) -> Self {
        let mut packed = 0;
        let mut i = 5;
        while i > 0 {
            i -= 1;
            packed = (packed << 6) | ((text[i] - b'0') & 0x3f) as i32;
        }
        Self(packed)
    }
}

/// A refusal: what is wrong, why, and the way out.
#[derive(Debug)]
pub struct Error {
    state: SqlState,
    message: Cow<'static, str>,
    detail: Option<String>,
    hint: Option<Cow<'static, str>>,
}

impl Error {
    pub fn new(state: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            state,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn is_not_found(&self) -> bool {
        self.state == SqlState::NOT_FOUND
    }

    pub fn is_conflict(&self) -> bool {
        self.state == SqlState::CONFLICT
    }

    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Only a mistake of ours (a wrong column number, say) ends here: what PostgreSQL itself
/// refuses travels as a panic that pgrx turns back into the same error.
impl From<pgrx::spi::Error> for Error {
    fn from(error: pgrx::spi::Error) -> Self {
        Error::new(
            SqlState::INTERNAL,
            format!("internal query failed: {error}"),
        )
    }
}

pub trait OrRaise<T> {
    /// The value, or the error raised to PostgreSQL.
    fn or_raise(self) -> T;
}

impl<T> OrRaise<T> for Result<T> {
    #[track_caller]
    fn or_raise(self) -> T {
        match self {
            Ok(value) => value,
            Err(error) => raise(error),
        }
    }
}

#[track_caller]
fn raise(error: Error) -> ! {
    let code = PgSqlErrorCode::from(error.state.0);
    if code as i32 != error.state.0 {
        restore_sqlstate(error.state);
    }
    let mut report = ErrorReport::new(code, error.message.into_owned(), "live_stream");
    if let Some(detail) = error.detail {
        report = report.set_detail(detail);
    }
    if let Some(hint) = error.hint {
        report = report.set_hint(hint.into_owned());
    }
    let failed: std::result::Result<(), ErrorReport> = Err(report);
    failed.unwrap_or_report();
    unreachable!("an error report at level ERROR does not return")
}

thread_local! {
    /// The SQLSTATE of the last error seen below a [`keep_sqlstate`].
    static SEEN: Cell<i32> = const { Cell::new(0) };
    static RESTORE: Cell<pg_sys::ErrorContextCallback> = const {
        Cell::new(pg_sys::ErrorContextCallback {
            previous: std::ptr::null_mut(),
            callback: None,
            arg: std::ptr::null_mut(),
        })
    };
}

unsafe extern "C-unwind" {
    // pgrx leaves these out of its bindings; all only touch the error being built.
    fn errcode(sqlerrcode: i32) -> i32;
    fn geterrcode() -> i32;
    fn errhint(format: *const std::ffi::c_char, ...) -> i32;
}

/// What a statement of the engine ends with where an object that it names has been changed:
/// undefined table, column, function and object, a wrong type, an ambiguous name, no such key.
const OF_CHANGED_OBJECTS: [SqlState; 8] = [
    SqlState::new(b"42P01"),
    SqlState::new(b"42703"),
    SqlState::new(b"42883"),
    SqlState::new(b"42704"),
    SqlState::new(b"42804"),
    SqlState::new(b"42846"),
    SqlState::new(b"42725"),
    SqlState::new(b"42P10"),
];

/// Called by `errfinish` while the error is being built.
unsafe extern "C-unwind" fn note_sqlstate(depth: *mut std::ffi::c_void) {
    // SAFETY: PostgreSQL calls this only with an error on its stack.
    let state = unsafe { geterrcode() };
    SEEN.set(state);
    // What an app's trigger raises, one trigger deeper, is the app's.
    if trigger_depth() == depth as usize as i32 && OF_CHANGED_OBJECTS.contains(&SqlState(state)) {
        // SAFETY: as above; the text has no placeholders.
        unsafe {
            errhint(
                c"If something of live_stream was changed, put it back; or run \
                  live_stream.install() as the owner of the extension."
                    .as_ptr(),
            );
        }
    }
}

/// Called by `errfinish` while the error is being built.
unsafe extern "C-unwind" fn set_sqlstate(state: *mut std::ffi::c_void) {
    // SAFETY: PostgreSQL calls this only with an error on its stack.
    unsafe { errcode(state as usize as i32) };
}

/// Gives the error that is raised next this SQLSTATE. Whoever catches that error puts
/// `error_context_stack` back, as after any error.
fn restore_sqlstate(state: SqlState) {
    RESTORE.with(|cell| {
        // SAFETY: the callback lives in thread-local storage, which outlives the error, and
        // a backend has one thread. It is linked once: never to itself.
        unsafe {
            let this = cell.as_ptr();
            if pg_sys::error_context_stack != this {
                (*this).previous = pg_sys::error_context_stack;
                pg_sys::error_context_stack = this;
            }
            (*this).callback = Some(set_sqlstate);
            (*this).arg = state.0 as usize as *mut std::ffi::c_void;
        }
    });
}

/// Runs `f`, which calls into PostgreSQL, so that an error raised there keeps its SQLSTATE on
/// its way through Rust, whatever it is.
pub fn keep_sqlstate<R>(f: impl FnOnce() -> R) -> R {
    let mut note = pg_sys::ErrorContextCallback {
        // SAFETY: a plain read of a backend global.
        previous: unsafe { pg_sys::error_context_stack },
        callback: Some(note_sqlstate),
        arg: trigger_depth() as usize as *mut std::ffi::c_void,
    };
    // SAFETY: `note` stays on this frame until the stack is put back below, on both ways out.
    unsafe { pg_sys::error_context_stack = &raw mut note };
    let outcome = catch_unwind(AssertUnwindSafe(f));
    // SAFETY: as it was on entry.
    unsafe { pg_sys::error_context_stack = note.previous };
    outcome.unwrap_or_else(|payload| {
        if let Some(CaughtError::PostgresError(_)) = payload.downcast_ref::<CaughtError>() {
            let seen = SEEN.get();
            if PgSqlErrorCode::from(seen) as i32 != seen {
                restore_sqlstate(SqlState(seen));
            }
        }
        resume_unwind(payload)
    })
}
