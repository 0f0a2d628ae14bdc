//! What a backend remembers of the system catalog, until the catalog changes.
//!
//! A look-up in PostgreSQL's own caches takes a good part of a microsecond, and a join makes a
//! dozen of them. PostgreSQL tells each backend of what changes before the backend can see it,
//! with the locks that it takes anyway.

use crate::pg::error::Result;
use crate::pg::plan;
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::CStr;
use std::ptr::null;

thread_local! {
    static GENERATION: Cell<u64> = const { Cell::new(1) };
    static RELATIONS: [Cell<Known>; SLOTS] = const { [const { Cell::new(Known::NOTHING) }; SLOTS] };
}

/// Tables and indexes that a backend remembers.
const SLOTS: usize = 256;

/// A relation by its name: the text of both, by where it stands in the program.
#[derive(Clone, Copy)]
struct Known {
    schema: *const std::ffi::c_char,
    name: *const std::ffi::c_char,
    generation: u64,
    id: pg_sys::Oid,
    /// Whether it was found to be what it should, in this generation.
    is_checked: bool,
}

impl Known {
    const NOTHING: Self = Self {
        schema: null(),
        name: null(),
        generation: 0,
        id: pg_sys::InvalidOid,
        is_checked: false,
    };

    fn is(&self, schema: &'static CStr, name: &'static CStr) -> bool {
        (self.schema, self.name) == (schema.as_ptr(), name.as_ptr())
            && self.generation == generation()
    }
}

/// Called once per backend.
pub fn watch() {
    use pg_sys::SysCacheIdentifier::{
        AUTHMEMROLEMEM, AUTHOID, ENUMOID, ENUMTYPOIDNAME, NAMESPACEOID, PUBLICATIONNAMESPACEMAP,
        PUBLICATIONOID, PUBLICATIONRELMAP, SUBSCRIPTIONOID, SUBSCRIPTIONRELMAP, TYPEOID,
    };
    // SAFETY: both callbacks live as long as the library, which is never unloaded.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0));
        for cache in [
            AUTHMEMROLEMEM,
            AUTHOID,
            ENUMOID,
            ENUMTYPOIDNAME,
            NAMESPACEOID,
            PUBLICATIONNAMESPACEMAP,
            PUBLICATIONOID,
            PUBLICATIONRELMAP,
            SUBSCRIPTIONOID,
            SUBSCRIPTIONRELMAP,
            TYPEOID,
        ] {
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

/// Changes whenever a table, a schema, a type, a role, a membership, a publication or a subscription
/// has: what was looked up in another generation must be looked up again. Never 0.
pub fn generation() -> u64 {
    GENERATION.get()
}

fn slot(name: &'static CStr) -> usize {
    (name.as_ptr() as usize >> 3) % SLOTS
}

/// The OID of a table, an index or whatever else has the name; none if nothing has.
pub fn relation_id(schema: &'static CStr, name: &'static CStr) -> Option<pg_sys::Oid> {
    let slot = slot(name);
    let known = RELATIONS.with(|relations| relations[slot].get());
    if known.is(schema, name) {
        return Some(known.id);
    }
    let generation = generation();
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
            schema: schema.as_ptr(),
            name: name.as_ptr(),
            generation,
            id,
            is_checked: false,
        });
    });
    Some(id)
}

/// Whether the relation of this name was found to be what it should, and nothing has changed since.
pub fn is_checked(schema: &'static CStr, name: &'static CStr) -> bool {
    RELATIONS.with(|relations| {
        let known = relations[slot(name)].get();
        known.is(schema, name) && known.is_checked
    })
}

/// Notes that the relation of this name, which is open and locked, is what it should be.
pub fn note_checked(schema: &'static CStr, name: &'static CStr) {
    RELATIONS.with(|relations| {
        let slot = &relations[slot(name)];
        let mut known = slot.get();
        if known.is(schema, name) {
            known.is_checked = true;
            slot.set(known);
        }
    });
}

/// Whether an extension is installed in this database.
pub fn has_extension(name: &CStr) -> bool {
    // SAFETY: a look-up by name.
    unsafe { pg_sys::get_extension_oid(name.as_ptr(), true) != pg_sys::InvalidOid }
}

/// Locks a relation against all use until the transaction ends, if nobody uses it just now.
pub fn lock_if_unused(schema: &'static CStr, name: &'static CStr) -> bool {
    // SAFETY: the lock goes with the transaction.
    relation_id(schema, name).is_some_and(|id| unsafe {
        pg_sys::ConditionalLockRelationOid(id, pg_sys::AccessExclusiveLock as i32)
    })
}

/// Whether there is a table, a view or another relation of this name, which is qualified and quoted.
pub fn relation_exists(name: &str) -> Result<bool> {
    Ok(plan::ask("select to_regclass($1) is not null", &[name.into()])? == Some(true))
}
