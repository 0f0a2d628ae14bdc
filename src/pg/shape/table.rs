//! Whether a whole table is what it was made as.

use super::*;
use crate::pg::error::{Error, Result};
use crate::pg::tables::{self, Column, Table};
use pgrx::PgList;
use pgrx::pg_sys;
use std::ffi::CStr;

/// Checks the kind of a table, and of one of the engine's own all that it is.
///
/// Errors: 55000.
///
/// # Safety
/// `relation` must be open and locked.
pub unsafe fn check_table(relation: pg_sys::Relation, table: Option<&Table>) -> Result<()> {
    // SAFETY: the caller vouches for the relation; what hangs on it is valid while it is open.
    unsafe {
        let class = &*(*relation).rd_rel;
        if class.relkind as u8 != pg_sys::RELKIND_RELATION {
            return Err(not_a_table(relation, kind_of(class.relkind as u8)));
        }
        if (*relation).rd_tableam != pg_sys::GetHeapamTableAmRoutine() {
            return Err(not_a_table(relation, "a table of another access method"));
        }
        if class.relhassubclass && has_children((*relation).rd_id) {
            const HINT: &str = "Let no table inherit from it: ALTER TABLE the_child NO INHERIT …";
            return Err(altered(relation, "has child tables", HINT));
        }
        // A write through the other table would fire no trigger for a statement of this one.
        if table.is_some_and(Table::is_ours) && has_superclass((*relation).rd_id) {
            const HINT: &str = "Let it stand alone: ALTER TABLE … NO INHERIT …, or ALTER TABLE … DETACH PARTITION …";
            return Err(altered(
                relation,
                "is a child or a partition of another table",
                HINT,
            ));
        }
        // What a rule does passes for a write of the engine's own.
        if !(*relation).rd_rules.is_null() {
            return Err(altered(relation, "has a rule", "Make it a trigger."));
        }
        match table {
            Some(table) if table.schema == tables::PRIVATE => check_own(relation, table),
            _ => Ok(()),
        }
    }
}

/// # Safety
/// As of [`check_table`].
unsafe fn check_own(relation: pg_sys::Relation, table: &Table) -> Result<()> {
    const HINT: &str =
        "Put it back as CREATE EXTENSION live_stream made it: see sql/ of live_stream.";
    // SAFETY: as in `check_table`.
    unsafe {
        let class = &*(*relation).rd_rel;
        let desc = Descriptor::of((*relation).rd_att);
        let refuse = |what: &str| Err(altered(relation, what, HINT));
        if !(*relation).trigdesc.is_null() && (*(*relation).trigdesc).numtriggers > 0 {
            return refuse("has a trigger, or a foreign key");
        }
        let persistence = if table.unlogged {
            pg_sys::RELPERSISTENCE_UNLOGGED
        } else {
            pg_sys::RELPERSISTENCE_PERMANENT
        };
        if class.relpersistence as u8 != persistence {
            return refuse(if table.unlogged {
                "is logged"
            } else {
                "is not logged: a crash would lose what it holds"
            });
        }
        let identity = class.relreplident as u8;
        if identity != pg_sys::REPLICA_IDENTITY_FULL
            && pg_sys::RelationGetReplicaIndex(relation) == pg_sys::InvalidOid
        {
            return refuse("has no replica identity: replicas would count twice");
        }
        if table.name == "metric_changes" {
            check_published(relation)?;
        }
        let constraints = (*(*relation).rd_att).constr;
        if !constraints.is_null() && (*constraints).num_check > 0 {
            return refuse("has a check constraint");
        }
        let mut found = 0;
        for attribute in desc.attributes().filter(|it| !it.attisdropped) {
            let name = name_of(attribute);
            let mut columns = table.columns.iter();
            let Some(wanted) = columns.find(|column| column.name == name) else {
                return refuse(&format!("has another column, \"{name}\""));
            };
            if built_in(wanted.kind) != Some(attribute.atttypid) || attribute.atttypmod != -1 {
                return Err(desc.changed(&name, Change::Type(wanted.kind)));
            }
            if attribute.attnotnull != wanted.not_null {
                let change = if wanted.not_null {
                    Change::Nullable
                } else {
                    Change::NotNull
                };
                return Err(desc.changed(&name, change));
            }
            if is_computed(attribute) {
                return Err(desc.changed(&name, Change::Computed));
            }
            found += 1;
        }
        if found < table.columns.len() {
            let gone = table
                .columns
                .iter()
                .find(|column| desc.find(column.name).is_none());
            let name = gone.map_or("", |column| column.name);
            return Err(desc.changed(name, Change::Missing));
        }
        let key = numbers_of(desc, &table.key).unwrap_or_default();
        for index in indexes(relation) {
            let index = Index::open(index);
            if !index.lets_pass(&key) {
                return refuse("has an index that live_stream does not keep");
            }
        }
        check_key(relation, table)
    }
}

/// Checks that a table has its primary key.
///
/// Errors: 55000.
///
/// # Safety
/// As of [`check_table`].
pub unsafe fn check_key(relation: pg_sys::Relation, table: &Table) -> Result<()> {
    // SAFETY: the caller vouches for the relation.
    unsafe {
        let desc = Descriptor::of((*relation).rd_att);
        let has_key = numbers_of(desc, &table.key).is_some_and(|columns| {
            indexes(relation).into_iter().any(|index| {
                let index = Index::open(index);
                index.is_primary() && index.is_plain() && index.keys() == columns
            })
        });
        if has_key {
            return Ok(());
        }
        let key = table.key.join(", ");
        Err(altered(
            relation,
            &format!("lacks its primary key ({key})"),
            &format!("Run ALTER TABLE … ADD CONSTRAINT … PRIMARY KEY ({key})."),
        ))
    }
}

/// The numbers of columns; none if one is missing.
fn numbers_of(desc: Descriptor<'_>, names: &[&str]) -> Option<Vec<pg_sys::AttrNumber>> {
    let number = |name: &&str| Some(desc.find(name)? as pg_sys::AttrNumber + 1);
    names.iter().map(number).collect()
}

/// Whether nothing but the engine has a say in what is written to a table: it is as CREATE
/// EXTENSION made it, and no code of the app's runs with a write.
///
/// # Safety
/// As of [`check_table`].
pub unsafe fn runs_no_code(relation: pg_sys::Relation, table: &Table) -> bool {
    // SAFETY: the caller vouches for the relation; what hangs on it is valid while it is open.
    unsafe {
        let desc = Descriptor::of((*relation).rd_att);
        let triggers = (*relation).trigdesc;
        let has_triggers = !triggers.is_null()
            && std::slice::from_raw_parts((*triggers).triggers, (*triggers).numtriggers as usize)
                .iter()
                .any(|trigger| !trigger.tgisinternal);
        let constraints = (*relation)
            .rd_att
            .as_ref()
            .and_then(|it| it.constr.as_ref());
        let columns: Vec<_> = desc.attributes().filter(|it| !it.attisdropped).collect();
        !has_triggers
            && (*relation).rd_rules.is_null()
            && constraints.is_none_or(|it| it.num_check == 0)
            && columns.len() == table.columns.len()
            && columns.iter().all(|column| {
                let name = name_of(column);
                !is_computed(column)
                    && table.columns.iter().any(|wanted| {
                        wanted.name == name && built_in(wanted.kind) == Some(column.atttypid)
                    })
            })
            && indexes(relation).into_iter().all(|index| {
                // Another unique index may be what a foreign key of the app's refers to.
                let index = Index::open(index);
                index.is_plain() && (index.is_primary() || !index.is_unique())
            })
    }
}

/// Checks columns that are relied on.
///
/// Errors: 55000.
pub fn check_columns(desc: Descriptor<'_>, table: &Table, columns: &[&Column]) -> Result<()> {
    // The app's own table may compute its columns: they are only read.
    let is_ours = table.is_ours();
    for column in columns {
        let found = desc.find(column.name);
        let attribute = found
            .and_then(|index| desc.attribute(index))
            .ok_or_else(|| desc.changed(column.name, Change::Missing))?;
        match built_in(column.kind) {
            Some(wanted)
                if same_storage(wanted, attribute.atttypid) && !rounds(column, attribute) => {}
            None if is_enum(column.kind, attribute.atttypid)? => {}
            _ => return Err(desc.changed(column.name, Change::Type(&column.type_name()))),
        }
        if is_ours && is_computed(attribute) {
            return Err(desc.changed(column.name, Change::Computed));
        }
    }
    Ok(())
}

/// Whether a column is given fewer digits after the point than the engine counts with: PostgreSQL
/// would round without a word.
fn rounds(column: &Column, attribute: &pg_sys::FormData_pg_attribute) -> bool {
    let mut modifier = attribute.atttypmod;
    // SAFETY: a look-up in the system cache, which leaves the modifier of what is no domain.
    unsafe { pg_sys::getBaseTypeAndTypmod(attribute.atttypid, &mut modifier) };
    if modifier < 0 {
        return false;
    }
    match column.kind {
        // As numeric_typmod_scale() of PostgreSQL has it: eleven bits, the first of them a sign.
        "numeric" => {
            let scale = ((modifier - pg_sys::VARHDRSZ as i32) & 0x7ff ^ 1024) - 1024;
            column.decimals().is_none_or(|decimals| scale < decimals)
        }
        "timestamptz" | "timestamptz[]" | "timestamp" | "time" => modifier < 6,
        _ => false,
    }
}

/// Checks that whoever gets the log by a publication gets all of it, and what is taken out of it:
/// else a replica would count what it lacks never, or what was folded twice.
///
/// Errors: 55000.
///
/// # Safety
/// As of [`check_table`].
unsafe fn check_published(log: pg_sys::Relation) -> Result<()> {
    // SAFETY: the caller vouches for the relation; the lists hold OIDs, and each tuple is released.
    unsafe {
        let id = (*log).rd_id;
        let of = [
            pg_sys::GetRelationPublications(id),
            pg_sys::GetSchemaPublications((*(*log).rd_rel).relnamespace),
            pg_sys::GetAllTablesPublications(),
        ];
        let publications = of.into_iter().flat_map(|list| {
            PgList::<pg_sys::Oid>::from_pg(list)
                .iter_oid()
                .collect::<Vec<_>>()
        });
        for publication in publications {
            let tuple = pg_sys::SearchSysCache1(
                pg_sys::SysCacheIdentifier::PUBLICATIONOID as i32,
                pg_sys::Datum::from(publication),
            );
            if tuple.is_null() {
                continue;
            }
            let form = &*(pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_publication);
            let name = CStr::from_ptr(form.pubname.data.as_ptr())
                .to_string_lossy()
                .into_owned();
            let is_half = form.pubinsert && !form.pubdelete;
            pg_sys::ReleaseSysCache(tuple);
            let what = if is_half {
                "inserts and no deletes"
            } else if is_partly_published(id, publication) {
                "only some of its rows or columns"
            } else {
                continue;
            };
            return Err(altered(
                log,
                &format!("is in the publication {name} with {what}: replicas would count wrong"),
                "Publish all of it, or nothing: ALTER PUBLICATION … SET (publish = 'insert, update, delete, truncate'), \
                 or take the table out and add it again without WHERE and columns.",
            ));
        }
        Ok(())
    }
}

/// Whether a publication has a table with a row filter or a list of columns.
///
/// # Safety
/// None but that it reads the system cache.
unsafe fn is_partly_published(table: pg_sys::Oid, publication: pg_sys::Oid) -> bool {
    const CACHE: i32 = pg_sys::SysCacheIdentifier::PUBLICATIONRELMAP as i32;
    // Columns of pg_publication_rel, which pgrx leaves out of its bindings.
    const ROW_FILTER: pg_sys::AttrNumber = 4;
    const COLUMNS: pg_sys::AttrNumber = 5;
    // SAFETY: the tuple is released; of its columns only whether they are null is asked.
    unsafe {
        let tuple = pg_sys::SearchSysCache2(
            CACHE,
            pg_sys::Datum::from(table),
            pg_sys::Datum::from(publication),
        );
        if tuple.is_null() {
            return false;
        }
        let has = |column: pg_sys::AttrNumber| {
            let mut null = true;
            pg_sys::SysCacheGetAttr(CACHE, tuple, column, &mut null);
            !null
        };
        let is_part = has(ROW_FILTER) || has(COLUMNS);
        pg_sys::ReleaseSysCache(tuple);
        is_part
    }
}

/// Checks that a table refers to another one by its column `session_id`.
///
/// Errors: 55000.
///
/// # Safety
/// As of [`check_table`].
pub unsafe fn check_refers(relation: pg_sys::Relation, to: pg_sys::Oid) -> Result<()> {
    // SAFETY: the caller vouches for the relation; the list holds what is cached of foreign keys.
    unsafe {
        let column = Descriptor::of((*relation).rd_att)
            .find("session_id")
            .map(|index| index as pg_sys::AttrNumber + 1);
        let mut keys = foreign_keys(relation).into_iter();
        if keys.any(|(table, of)| table == to && Some(of) == column) {
            return Ok(());
        }
        Err(altered(
            relation,
            "does not refer to public.live_stream_sessions by its column session_id",
            "Give both tables their names back, or add the foreign key again, as CREATE EXTENSION \
             live_stream made it; NOT VALID where rows are left without a session.",
        ))
    }
}

/// The foreign keys of a table that are of one column: the table that each refers to, and the column.
///
/// # Safety
/// `relation` must be open and locked.
pub unsafe fn foreign_keys(relation: pg_sys::Relation) -> Vec<(pg_sys::Oid, pg_sys::AttrNumber)> {
    // SAFETY: the caller vouches for the relation; the list holds what is cached of its foreign keys.
    unsafe {
        PgList::<pg_sys::ForeignKeyCacheInfo>::from_pg(pg_sys::RelationGetFKeyList(relation))
            .iter_ptr()
            .filter(|key| (**key).nkeys == 1)
            .map(|key| ((*key).confrelid, (*key).conkey[0]))
            .collect()
    }
}

/// The name of a table with its schema.
///
/// # Safety
/// `relation` must be open.
unsafe fn full_name(relation: pg_sys::Relation) -> String {
    // SAFETY: names in the catalog end with NUL; the schema's is looked up by OID.
    unsafe {
        let class = &*(*relation).rd_rel;
        let schema = pg_sys::get_namespace_name(class.relnamespace);
        let name = CStr::from_ptr(class.relname.data.as_ptr()).to_string_lossy();
        if schema.is_null() {
            name.into_owned()
        } else {
            format!("{}.{name}", CStr::from_ptr(schema).to_string_lossy())
        }
    }
}

/// # Safety
/// `relation` must be open.
unsafe fn altered(relation: pg_sys::Relation, what: &str, hint: &str) -> Error {
    // SAFETY: the caller vouches for it.
    let name = unsafe { full_name(relation) };
    changed(
        format!("table {name} {what}"),
        "The live_stream extension cannot keep its numbers right so.",
        hint,
    )
}

/// # Safety
/// `relation` must be open.
unsafe fn not_a_table(relation: pg_sys::Relation, kind: &str) -> Error {
    // SAFETY: the caller vouches for it.
    let name = unsafe { full_name(relation) };
    changed(
        format!("{name} is not an ordinary table"),
        format!("It is {kind}."),
        "Rename it, and give the table of live_stream its name back; or run live_stream.install() \
         as the owner of the extension.",
    )
}

fn kind_of(relkind: u8) -> &'static str {
    match relkind {
        pg_sys::RELKIND_VIEW => "a view",
        pg_sys::RELKIND_MATVIEW => "a materialized view",
        pg_sys::RELKIND_SEQUENCE => "a sequence",
        pg_sys::RELKIND_PARTITIONED_TABLE => "a partitioned table",
        pg_sys::RELKIND_FOREIGN_TABLE => "a foreign table",
        pg_sys::RELKIND_COMPOSITE_TYPE => "a composite type",
        pg_sys::RELKIND_INDEX | pg_sys::RELKIND_PARTITIONED_INDEX => "an index",
        _ => "something else",
    }
}

fn has_children(table: pg_sys::Oid) -> bool {
    unsafe extern "C-unwind" {
        // pgrx leaves it out of its bindings.
        fn find_inheritance_children(
            parent: pg_sys::Oid,
            lock: pg_sys::LOCKMODE,
        ) -> *mut pg_sys::List;
    }
    // SAFETY: reads the catalog; the list holds OIDs. The flag in pg_class stays when the last
    // child has gone, so it is not believed.
    unsafe {
        let children = find_inheritance_children(table, pg_sys::NoLock as pg_sys::LOCKMODE);
        !PgList::<pg_sys::Oid>::from_pg(children).is_empty()
    }
}

fn has_superclass(table: pg_sys::Oid) -> bool {
    unsafe extern "C-unwind" {
        // pgrx leaves it out of its bindings.
        fn has_superclass(relation: pg_sys::Oid) -> bool;
    }
    // SAFETY: reads the catalog.
    unsafe { has_superclass(table) }
}

pub(super) fn is_computed(attribute: &pg_sys::FormData_pg_attribute) -> bool {
    attribute.attgenerated != 0 || attribute.attidentity != 0
}

/// Whether a column is there, and holds what is written to it.
pub fn is_stored(attribute: &pg_sys::FormData_pg_attribute) -> bool {
    !(attribute.attisdropped || is_computed(attribute))
}
