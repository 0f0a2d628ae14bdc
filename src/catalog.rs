//! What a backend remembers of the system catalog, until the catalog changes.
//!
//! A look-up in PostgreSQL's own caches takes a good part of a microsecond, and a join makes a
//! dozen of them. PostgreSQL tells each backend of what changes before the backend can see it,
//! with the locks that it takes anyway.

use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::CStr;

thread_local! {
    static GENERATION: Cell<u64> = const { Cell::new(0) };
    static RELATIONS: [Cell<Known>; SLOTS] = const { [const { Cell::new(Known::NOTHING) }; SLOTS] };
}

/// Tables and indexes that a backend remembers.
const SLOTS: usize = 64;

#[derive(Clone, Copy)]
struct Known {
    name: *const std::ffi::c_char,
    generation: u64,
    id: pg_sys::Oid,
}

impl Known {
    const NOTHING: Self = Self {
        name: std::ptr::null(),
        generation: 0,
        id: pg_sys::InvalidOid,
    };
}

/// Called once per backend.
pub fn watch() {
    use pg_sys::SysCacheIdentifier::{AUTHMEMROLEMEM, AUTHOID, NAMESPACEOID};
    // SAFETY: both callbacks live as long as the library, which is never unloaded.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0));
        for cache in [AUTHOID, AUTHMEMROLEMEM, NAMESPACEOID] {
            pg_sys::CacheRegisterSyscacheCallback(
                cache as i32,
                Some(entry_changed),
                pg_sys::Datum::from(0),
            );
        }
    }
}

unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, _relation: pg_sys::Oid) {
    GENERATION.set(GENERATION.get() + 1);
}

unsafe extern "C-unwind" fn entry_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    GENERATION.set(GENERATION.get() + 1);
}

/// Changes whenever a table, a schema, a role or a membership has: what was looked up in another
/// generation must be looked up again.
pub fn generation() -> u64 {
    GENERATION.get()
}

/// The OID of a table or index; none if there is none of that name.
pub fn relation_id(schema: &'static CStr, name: &'static CStr) -> Option<pg_sys::Oid> {
    let slot = (name.as_ptr() as usize >> 3) % SLOTS;
    let known = RELATIONS.with(|relations| relations[slot].get());
    let generation = generation();
    if known.name == name.as_ptr() && known.generation == generation {
        return Some(known.id);
    }
    // SAFETY: look-ups in the system caches.
    let id = unsafe {
        let schema = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    };
    if id == pg_sys::InvalidOid {
        return None;
    }
    RELATIONS.with(|relations| {
        relations[slot].set(Known {
            name: name.as_ptr(),
            generation,
            id,
        });
    });
    Some(id)
}
