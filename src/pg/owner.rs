//! Acting as the owner of the tables, where the caller's own rights do not reach.

use crate::pg::catalog;
use crate::pg::error::{Error, Result, SqlState};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::CStr;

const SEARCH_PATH: &CStr = c"pg_catalog, pg_temp";

/// Who the caller was, put back when this is dropped.
struct Acting {
    user: pg_sys::Oid,
    context: i32,
    nest_level: Option<i32>,
}

impl Drop for Acting {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // An error is on its way: PostgreSQL puts user and settings back as it aborts.
            return;
        }
        // SAFETY: undoes what `as_role` did, innermost first.
        unsafe {
            if let Some(level) = self.nest_level {
                pg_sys::AtEOXact_GUC(true, level);
            }
            pg_sys::SetUserIdAndSecContext(self.user, self.context);
        }
    }
}

/// Runs `f` with the rights of the role that owns the tables, and with a search path that no
/// caller can bend. Rights of the caller must be checked before, by name.
pub fn as_owner<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
    as_role(owner()?, 0, f)
}

/// Runs `f` as `role`, as PostgreSQL runs its foreign-key checks: SET ROLE is refused inside.
/// `restrictions` are flags to add to the security context.
pub fn as_role<R>(
    role: pg_sys::Oid,
    restrictions: u32,
    f: impl FnOnce() -> Result<R>,
) -> Result<R> {
    let mut acting = Acting {
        user: pg_sys::InvalidOid,
        context: 0,
        nest_level: None,
    };
    // SAFETY: plain reads and writes of this backend's state; `acting` undoes them.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut acting.user, &mut acting.context);
        let flags = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_NOFORCE_RLS;
        pg_sys::SetUserIdAndSecContext(role, acting.context | (flags | restrictions) as i32);
        let path = pg_sys::namespace_search_path;
        if path.is_null() || CStr::from_ptr(path) != SEARCH_PATH {
            acting.nest_level = Some(pg_sys::NewGUCNestLevel());
            pg_sys::set_config_option(
                c"search_path".as_ptr(),
                SEARCH_PATH.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
    }
    let outcome = f();
    drop(acting);
    outcome
}

/// The role that owns `public.live_stream_sessions`, and so the API layer.
pub fn owner() -> Result<pg_sys::Oid> {
    owner_if_installed()?.ok_or_else(|| {
        Error::new(
            SqlState::NOT_IN_PREREQUISITE_STATE,
            "table public.live_stream_sessions does not exist",
        )
        .hint("Run live_stream.install() as the owner of the extension.")
    })
}

thread_local! {
    /// With the generation of the catalog that it was looked up in.
    static OWNER: Cell<Option<(u64, pg_sys::Oid)>> = const { Cell::new(None) };
}

/// As [`owner`]; none before the tables are there.
pub fn owner_if_installed() -> Result<Option<pg_sys::Oid>> {
    let generation = catalog::generation();
    if let Some((seen, owner)) = OWNER.get()
        && seen == generation
    {
        return Ok(Some(owner));
    }
    let Some(table) = catalog::relation_id(c"public", c"live_stream_sessions") else {
        return Ok(None);
    };
    // SAFETY: a look-up in the system cache; the tuple is released after the copy.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::RELOID as i32,
            pg_sys::Datum::from(table),
        );
        if tuple.is_null() {
            return Ok(None);
        }
        let owner = (*(pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_class)).relowner;
        pg_sys::ReleaseSysCache(tuple);
        OWNER.set(Some((generation, owner)));
        Ok(Some(owner))
    }
}
