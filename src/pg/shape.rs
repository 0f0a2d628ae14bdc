//! Whether a table is still what the engine takes it for.
//!
//! The tables belong to the app: their owner may alter, rename and replace them, and nothing that
//! is read from one may be taken for a type that it no longer has. So a table is looked at before
//! its first byte is read, and again whenever the catalog has changed. What does not fit is refused
//! with an error that names it. `crate::pg::tables` says what is wanted.
//!
//! | of | is looked at |
//! | --- | --- |
//! | every table | that it is an ordinary table of PostgreSQL's own kind of storage, without child tables, and without a rule |
//! | a table of the engine's own | besides, that it has these columns and no other, each of its type, and no trigger or check that could change what the engine writes |
//! | a column that is relied on | its type, and that PostgreSQL does not compute it |

use crate::pg::catalog;
use crate::pg::error::{Error, Result, SqlState};
use crate::pg::tables::{self, Column, Table};
use pgrx::PgList;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::cell::RefCell;
use std::ffi::{CStr, CString};

/// Whether a value of a type can be taken for a `T`: it is of that type, or stored the same way.
pub fn fits<T: IntoDatum>(kind: pg_sys::Oid) -> bool {
    same_storage(T::type_oid(), kind)
}

fn same_storage(wanted: pg_sys::Oid, kind: pg_sys::Oid) -> bool {
    if is_same(wanted, kind) {
        return true;
    }
    let base = base_type(kind);
    base != kind && is_same(wanted, base)
}

/// The type under a domain; of another type, that type.
pub fn base_type(kind: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a look-up in the system cache, which answers with the type itself for one that is
    // no domain, or unknown.
    unsafe { pg_sys::getBaseType(kind) }
}

fn is_same(wanted: pg_sys::Oid, kind: pg_sys::Oid) -> bool {
    wanted == kind || wanted == pg_sys::TEXTOID && is_text(kind)
}

fn is_text(kind: pg_sys::Oid) -> bool {
    matches!(
        kind,
        pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID
    )
}

/// The type that a column has in the files of `sql/`; none for an enum.
fn built_in(kind: &str) -> Option<pg_sys::Oid> {
    Some(match kind {
        "uuid" => pg_sys::UUIDOID,
        "text" | "varchar" => pg_sys::TEXTOID,
        "smallint" => pg_sys::INT2OID,
        "integer" => pg_sys::INT4OID,
        "bigint" => pg_sys::INT8OID,
        "numeric" => pg_sys::NUMERICOID,
        "boolean" => pg_sys::BOOLOID,
        "timestamptz" => pg_sys::TIMESTAMPTZOID,
        "timestamp" => pg_sys::TIMESTAMPOID,
        "date" => pg_sys::DATEOID,
        "time" => pg_sys::TIMEOID,
        "jsonb" => pg_sys::JSONBOID,
        "inet" => pg_sys::INETOID,
        "bytea" => pg_sys::BYTEAOID,
        "uuid[]" => pg_sys::UUIDARRAYOID,
        "integer[]" => pg_sys::INT4ARRAYOID,
        "timestamptz[]" => pg_sys::TIMESTAMPTZARRAYOID,
        _ => return None,
    })
}

/// Something of live_stream that has been changed.
pub fn changed(what: String, detail: impl Into<String>, hint: impl Into<String>) -> Error {
    Error::new(SqlState::NOT_IN_PREREQUISITE_STATE, what)
        .detail(detail)
        .hint(hint.into())
}

/// A table that is not there, or another thing under its name.
pub fn missing(schema: &CStr, name: &CStr) -> Error {
    changed(
        format!(
            "relation {}.{} does not exist",
            schema.to_string_lossy(),
            name.to_string_lossy()
        ),
        "The live_stream extension needs it.",
        "Give it its name back; or run live_stream.install() as the owner of the extension.",
    )
}

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

/// # Safety
/// As of [`check_table`].
unsafe fn indexes(relation: pg_sys::Relation) -> Vec<pg_sys::Oid> {
    // SAFETY: the caller vouches for the relation; the list holds OIDs.
    unsafe {
        let list = pg_sys::RelationGetIndexList(relation);
        PgList::<pg_sys::Oid>::from_pg(list).iter_oid().collect()
    }
}

/// An index of a table that is locked: it does not go. Looked at in the cache of relations.
struct Index(pg_sys::Relation);

impl Index {
    /// # Safety
    /// `index` must be an index, and its table be locked.
    unsafe fn open(index: pg_sys::Oid) -> Self {
        // SAFETY: the caller vouches for it.
        Self(unsafe { pg_sys::RelationIdGetRelation(index) })
    }

    fn form(&self) -> Option<&pg_sys::FormData_pg_index> {
        // SAFETY: null, or open as long as `self` lives; null for what is no index.
        unsafe { self.0.as_ref().and_then(|index| index.rd_index.as_ref()) }
    }

    fn is_primary(&self) -> bool {
        self.form().is_some_and(|form| form.indisprimary)
    }

    fn is_unique(&self) -> bool {
        self.form().is_some_and(|form| form.indisunique)
    }

    /// Whether it is of all rows and of columns alone, and checked at once.
    fn is_simple(&self) -> bool {
        self.form().is_some_and(|form| {
            // SAFETY: open as long as `self` lives.
            let is_of_columns = unsafe {
                pg_sys::RelationGetIndexExpressions(self.0).is_null()
                    && pg_sys::RelationGetIndexPredicate(self.0).is_null()
            };
            is_of_columns && form.indimmediate && !form.indisexclusion
        })
    }

    /// Whether it is simple, and whole: not while it is built concurrently, nor after that failed.
    fn is_plain(&self) -> bool {
        let is_whole = |form: &pg_sys::FormData_pg_index| form.indisvalid && form.indisready;
        self.is_simple() && self.form().is_some_and(is_whole)
    }

    /// Whether it refuses no row that the table's `key` does not refuse. REINDEX CONCURRENTLY makes
    /// a second one of the key, and leaves it where it is broken off.
    fn lets_pass(&self, key: &[pg_sys::AttrNumber]) -> bool {
        let is_ready = self.form().is_some_and(|form| form.indisready);
        !is_ready || self.is_simple() && (!self.is_unique() || self.keys() == key)
    }

    fn keys(&self) -> Vec<pg_sys::AttrNumber> {
        self.form().map_or_else(Vec::new, |form| {
            let keys = usize::try_from(form.indnkeyatts).unwrap_or(0);
            // SAFETY: the array has an entry for each key.
            unsafe { std::slice::from_raw_parts(form.indkey.values.as_ptr(), keys) }.to_vec()
        })
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        if !self.0.is_null() && !std::thread::panicking() {
            // SAFETY: opened once, closed once; while an error unwinds, PostgreSQL closes it.
            unsafe { pg_sys::RelationClose(self.0) };
        }
    }
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
        let keys =
            PgList::<pg_sys::ForeignKeyCacheInfo>::from_pg(pg_sys::RelationGetFKeyList(relation));
        let refers = keys.iter_ptr().any(|key| {
            (*key).confrelid == to && (*key).nkeys == 1 && Some((*key).conkey[0]) == column
        });
        if refers {
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

thread_local! {
    /// The enums that have all their labels, with the generation of the catalog.
    static WHOLE_ENUMS: RefCell<(u64, Vec<pg_sys::Oid>)> = const { RefCell::new((0, Vec::new())) };
}

/// Whether a type is the enum of this name; one that lacks labels is refused.
fn is_enum(kind: &str, found: pg_sys::Oid) -> Result<bool> {
    let Some(wanted) = tables::enumeration(kind) else {
        return Ok(false);
    };
    if enum_type(wanted.schema, wanted.name) != Some(found) {
        return Ok(false);
    }
    check_labels(wanted, found).map(|()| true)
}

/// Whether a type is one of our enums; one that lacks labels is refused. A value whose label was
/// renamed would be taken for one that never was.
///
/// Errors: 55000.
pub fn is_whole_enum(kind: pg_sys::Oid) -> Result<bool> {
    let generation = catalog::generation();
    let is_known =
        |(seen, known): &(u64, Vec<pg_sys::Oid>)| *seen == generation && known.contains(&kind);
    if WHOLE_ENUMS.with_borrow(is_known) {
        return Ok(true);
    }
    let mut enums = tables::enums().iter();
    let Some(wanted) = enums.find(|it| enum_type(it.schema, it.name) == Some(kind)) else {
        return Ok(false);
    };
    check_labels(wanted, kind)?;
    WHOLE_ENUMS.with_borrow_mut(|(seen, known)| {
        if *seen != generation {
            known.clear();
            *seen = generation;
        }
        known.push(kind);
    });
    Ok(true)
}

fn check_labels(wanted: &tables::Enum, found: pg_sys::Oid) -> Result<()> {
    let mut labels = wanted.labels.iter();
    match labels.find(|label| enum_value(found, label).is_none()) {
        None => Ok(()),
        Some(label) => {
            let kind = format!("{}.{}", wanted.schema, wanted.name);
            Err(changed(
                format!("type {kind} lacks the value '{label}'"),
                "The live_stream extension needs it.",
                format!("Put it back: ALTER TYPE {kind} RENAME VALUE … TO '{label}'."),
            ))
        }
    }
}

fn enum_type(schema: &str, name: &str) -> Option<pg_sys::Oid> {
    let (schema, name) = (CString::new(schema).ok()?, CString::new(name).ok()?);
    // SAFETY: look-ups in the system caches by name.
    let kind = unsafe {
        let namespace = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::TYPENAMENSP as i32,
            pg_sys::Anum_pg_type_oid as pg_sys::AttrNumber,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(namespace),
            pg_sys::Datum::from(0),
            pg_sys::Datum::from(0),
        )
    };
    (kind != pg_sys::InvalidOid).then_some(kind)
}

/// The value of an enum that has this label; none if there is none, or the type is no enum.
pub fn enum_value(kind: pg_sys::Oid, label: &str) -> Option<pg_sys::Oid> {
    let label = CString::new(label).ok()?;
    // SAFETY: a look-up in the system cache; the tuple is released before the value is used.
    unsafe {
        let tuple = pg_sys::SearchSysCache2(
            pg_sys::SysCacheIdentifier::ENUMTYPOIDNAME as i32,
            pg_sys::Datum::from(kind),
            pg_sys::Datum::from(label.as_ptr()),
        );
        if tuple.is_null() {
            return None;
        }
        let oid = (*(pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_enum)).oid;
        pg_sys::ReleaseSysCache(tuple);
        Some(oid)
    }
}

/// As [`enum_value`], to be written: PostgreSQL refuses one that is not committed yet, which a
/// rollback would leave in indexes.
///
/// Errors: PostgreSQL's own, 55P04.
pub fn new_enum_value(kind: pg_sys::Oid, label: &str) -> Option<pg_sys::Oid> {
    enum_value(kind, label)?;
    let label = CString::new(label).ok()?;
    // SAFETY: the input function of enums, with its two arguments: a text and an enum's type.
    unsafe {
        pgrx::direct_function_call(
            pg_sys::enum_in,
            &[
                Some(pg_sys::Datum::from(label.as_ptr())),
                Some(pg_sys::Datum::from(kind)),
            ],
        )
    }
}

/// The label of a value of an enum; none if it is no value of that type.
pub fn enum_label(kind: pg_sys::Oid, value: pg_sys::Oid) -> Option<String> {
    // SAFETY: a look-up in the system cache by an OID, which may be any number; the tuple is
    // released after the copy.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::ENUMOID as i32,
            pg_sys::Datum::from(value),
        );
        if tuple.is_null() {
            return None;
        }
        let found = &*(pg_sys::GETSTRUCT(tuple) as *const pg_sys::FormData_pg_enum);
        let label = (found.enumtypid == kind).then(|| {
            CStr::from_ptr(found.enumlabel.data.as_ptr())
                .to_string_lossy()
                .into_owned()
        });
        pg_sys::ReleaseSysCache(tuple);
        label
    }
}

/// What happened to a column.
#[derive(Clone, Copy)]
pub enum Change<'a> {
    Missing,
    /// It has another type than this one.
    Type(&'a str),
    /// It holds no numbers.
    Number,
    /// It is no enum, or one of other values.
    Values,
    /// It is generated, or an identity.
    Computed,
    NotNull,
    Nullable,
}

/// The columns of a relation, or of what a query returned, while it is open.
#[derive(Clone, Copy)]
pub struct Descriptor<'a>(&'a pg_sys::TupleDescData);

impl<'a> Descriptor<'a> {
    /// # Safety
    /// `desc` must be valid for `'a`.
    pub unsafe fn of(desc: pg_sys::TupleDesc) -> Self {
        // SAFETY: the caller vouches for it.
        Self(unsafe { &*desc })
    }

    pub fn as_ptr(self) -> pg_sys::TupleDesc {
        std::ptr::from_ref(self.0).cast_mut()
    }

    pub fn len(self) -> usize {
        usize::try_from(self.0.natts).unwrap_or(0)
    }

    /// The column at a place, from 0, dropped ones included.
    pub fn attribute(self, index: usize) -> Option<&'a pg_sys::FormData_pg_attribute> {
        if index >= self.len() {
            return None;
        }
        // SAFETY: `index` is within the descriptor.
        #[cfg(not(feature = "pg18"))]
        let attribute = unsafe { self.0.attrs.as_ptr().add(index) };
        // SAFETY: `index` is within the descriptor.
        #[cfg(feature = "pg18")]
        let attribute = unsafe { pg_sys::TupleDescAttr(self.as_ptr(), index as i32) };
        // SAFETY: lives as long as the descriptor.
        Some(unsafe { &*attribute })
    }

    pub fn attributes(self) -> impl Iterator<Item = &'a pg_sys::FormData_pg_attribute> {
        (0..self.len()).filter_map(move |index| self.attribute(index))
    }

    /// Whether the column at a place has this name.
    pub fn is_named(self, index: usize, name: &str) -> bool {
        self.attribute(index).is_some_and(|attribute| {
            !attribute.attisdropped && name_bytes(attribute) == name.as_bytes()
        })
    }

    /// The place of a column, from 0; none if there is none of that name.
    pub fn find(self, name: &str) -> Option<usize> {
        (0..self.len()).find(|&index| self.is_named(index, name))
    }

    /// Checks that a column can be taken for a `T`, and written as one.
    ///
    /// Errors: 55000.
    pub fn check<T: IntoDatum>(self, index: usize) -> Result<()> {
        let Some(attribute) = self.attribute(index) else {
            return Err(self.changed("", Change::Missing));
        };
        if !fits::<T>(attribute.atttypid) {
            let wanted = type_name(T::type_oid());
            return Err(self.changed(&name_of(attribute), Change::Type(&wanted)));
        }
        if is_computed(attribute) {
            return Err(self.changed(&name_of(attribute), Change::Computed));
        }
        Ok(())
    }

    /// A column that has been changed.
    pub fn changed(self, column: &str, change: Change<'_>) -> Error {
        let table = self.table_name();
        let kept = "The live_stream extension keeps this column.".to_owned();
        let as_made = "Put the column back as CREATE EXTENSION live_stream made it.".to_owned();
        let (what, detail, hint) = match change {
            Change::Missing => ("is missing", kept, as_made),
            Change::Type(kind) => (
                "has another type",
                format!("The live_stream extension needs it as {kind}."),
                format!("Give the column the type {kind} again."),
            ),
            Change::Number => ("is no number", kept, as_made),
            Change::Values => ("is no enum, or one of other values", kept, as_made),
            Change::Computed => (
                "is computed by PostgreSQL",
                kept,
                "Make it a plain column again, neither generated nor an identity.".to_owned(),
            ),
            Change::NotNull => (
                "does not take null",
                kept,
                format!("Run ALTER TABLE … ALTER COLUMN {column} DROP NOT NULL."),
            ),
            Change::Nullable => (
                "takes null",
                kept,
                format!("Run ALTER TABLE … ALTER COLUMN {column} SET NOT NULL."),
            ),
        };
        changed(
            format!("column \"{column}\" of {table} {what}"),
            detail,
            hint,
        )
    }

    fn table_name(self) -> String {
        let relation = self
            .attribute(0)
            .map_or(pg_sys::InvalidOid, |attribute| attribute.attrelid);
        // SAFETY: a look-up by OID that answers with null or a string.
        unsafe {
            let name = pg_sys::get_rel_name(relation);
            if name.is_null() {
                "the table".to_owned()
            } else {
                format!("table \"{}\"", CStr::from_ptr(name).to_string_lossy())
            }
        }
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

fn is_computed(attribute: &pg_sys::FormData_pg_attribute) -> bool {
    attribute.attgenerated != 0 || attribute.attidentity != 0
}

/// Whether an index can be searched for rows of a table whose first columns equal ids: it is
/// whole, of PostgreSQL's own kind, its first columns are these, in this order, compared as UUIDs,
/// and it leaves out no such row.
///
/// # Safety
/// `relation` must be open and locked.
pub unsafe fn can_search(
    relation: pg_sys::Relation,
    index: pg_sys::Oid,
    columns: &[pg_sys::AttrNumber],
) -> bool {
    // SAFETY: the caller vouches for the table, and so for an index of it. The arrays of an index
    // hold an entry for each of its keys.
    unsafe {
        let index = Index::open(index);
        let Some(form) = index.form() else {
            return false;
        };
        let (class, keys) = (&*(*index.0).rd_rel, index.keys());
        form.indrelid == (*relation).rd_id
            && class.relkind as u8 == pg_sys::RELKIND_INDEX
            && class.relam == pg_sys::BTREE_AM_OID
            && form.indisvalid
            && form.indisready
            && form.indislive
            && keys.starts_with(columns)
            && (0..columns.len()).all(|nth| *(*index.0).rd_opfamily.add(nth) == uuid_family())
            && leaves_out_none(index.0, columns)
    }
}

/// Whether the column after the first `keys` of an index has its newest rows first.
///
/// # Safety
/// `relation` must be open and locked, and [`can_search`] have said yes to `index`.
pub unsafe fn is_newest_first(
    relation: pg_sys::Relation,
    index: pg_sys::Oid,
    keys: usize,
    column: pg_sys::AttrNumber,
) -> bool {
    // SAFETY: as in `can_search`.
    unsafe {
        let index = Index::open(index);
        index.form().is_some_and(|form| {
            form.indrelid == (*relation).rd_id
                && index.keys().get(keys) == Some(&column)
                && *(*index.0).rd_indoption.add(keys) & pg_sys::INDOPTION_DESC as i16 != 0
        })
    }
}

fn uuid_family() -> pg_sys::Oid {
    // SAFETY: an entry of the type cache, which stays.
    unsafe {
        (*pg_sys::lookup_type_cache(pg_sys::UUIDOID, pg_sys::TYPECACHE_BTREE_OPFAMILY as i32))
            .btree_opf
    }
}

/// A partial index has all the rows only if its condition is that one of the columns is not null.
///
/// # Safety
/// `index` must be an open index.
unsafe fn leaves_out_none(index: pg_sys::Relation, columns: &[pg_sys::AttrNumber]) -> bool {
    // SAFETY: the list holds expressions, and each cast follows the node's tag.
    unsafe {
        let conditions = pg_sys::RelationGetIndexPredicate(index);
        PgList::<pg_sys::Node>::from_pg(conditions)
            .iter_ptr()
            .all(|condition| {
                if (*condition).type_ != pg_sys::NodeTag::T_NullTest {
                    return false;
                }
                let test: &pg_sys::NullTest = &*condition.cast();
                let of = test.arg.cast::<pg_sys::Node>();
                test.nulltesttype == pg_sys::NullTestType::IS_NOT_NULL
                    && (*of).type_ == pg_sys::NodeTag::T_Var
                    && columns.contains(&(*of.cast::<pg_sys::Var>()).varattno)
            })
    }
}

fn name_bytes(attribute: &pg_sys::FormData_pg_attribute) -> &[u8] {
    // SAFETY: names in the catalog end with NUL.
    unsafe { CStr::from_ptr(attribute.attname.data.as_ptr()) }.to_bytes()
}

fn name_of(attribute: &pg_sys::FormData_pg_attribute) -> String {
    String::from_utf8_lossy(name_bytes(attribute)).into_owned()
}

/// A type as SQL names it.
pub fn type_name(kind: pg_sys::Oid) -> String {
    // SAFETY: answers with a string, also for a type that is not there.
    unsafe {
        CStr::from_ptr(pg_sys::format_type_extended(
            kind,
            -1,
            pg_sys::FORMAT_TYPE_ALLOW_INVALID as pg_sys::bits16,
        ))
    }
    .to_string_lossy()
    .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_every_column_is_known() {
        for table in tables::all() {
            for column in &table.columns {
                assert!(
                    built_in(column.kind).is_some() || tables::enumeration(column.kind).is_some(),
                    "{}.{} is {}",
                    table.name,
                    column.name,
                    column.kind
                );
            }
        }
    }
}
