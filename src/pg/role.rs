//! Roles, and what rights they have.

use pgrx::pg_sys;
use std::ffi::CStr;

/// The role whose rights count now.
pub fn current() -> pg_sys::Oid {
    // SAFETY: a plain read of this backend's state.
    unsafe { pg_sys::GetUserId() }
}

/// The role that the session has, or has set: functions that run as their owner, and what a foreign key of an owner's
/// writes, do not change it.
pub fn outer() -> pg_sys::Oid {
    // SAFETY: a plain read of this backend's state.
    unsafe { pg_sys::GetOuterUserId() }
}

/// Whether row-level security does not hold for a role: a superuser, or one with BYPASSRLS.
pub fn passes_row_security(role: pg_sys::Oid) -> bool {
    // SAFETY: a look-up of a role.
    unsafe { pg_sys::has_bypassrls_privilege(role) }
}

/// Whether a role has the rights of another: it is that role, or inherits from it.
pub fn has_rights_of(member: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: a look-up of roles.
    unsafe { pg_sys::has_privs_of_role(member, role) }
}

/// The role of this name; none if there is none.
pub fn named(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: a look-up by name.
    let role = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
    (role != pg_sys::InvalidOid).then_some(role)
}
