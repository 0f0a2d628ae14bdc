//! What an index is of, and what can be found with it.

use pgrx::PgList;
use pgrx::pg_sys;

/// The indexes of a table.
///
/// # Safety
/// `relation` must be open and locked.
pub unsafe fn indexes(relation: pg_sys::Relation) -> Vec<pg_sys::Oid> {
    // SAFETY: the caller vouches for the relation; the list holds OIDs.
    unsafe {
        let list = pg_sys::RelationGetIndexList(relation);
        PgList::<pg_sys::Oid>::from_pg(list).iter_oid().collect()
    }
}

/// An index of a table that is locked: it does not go. Looked at in the cache of relations.
pub(super) struct Index(pg_sys::Relation);

impl Index {
    /// # Safety
    /// `index` must be an index, and its table be locked.
    pub(super) unsafe fn open(index: pg_sys::Oid) -> Self {
        // SAFETY: the caller vouches for it.
        Self(unsafe { pg_sys::RelationIdGetRelation(index) })
    }

    pub(super) fn form(&self) -> Option<&pg_sys::FormData_pg_index> {
        // SAFETY: null, or open as long as `self` lives; null for what is no index.
        unsafe { self.0.as_ref().and_then(|index| index.rd_index.as_ref()) }
    }

    pub(super) fn is_primary(&self) -> bool {
        self.form().is_some_and(|form| form.indisprimary)
    }

    pub(super) fn is_unique(&self) -> bool {
        self.form().is_some_and(|form| form.indisunique)
    }

    /// Whether it is of all rows and of columns alone, and checked at once.
    pub(super) fn is_simple(&self) -> bool {
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
    pub(super) fn is_plain(&self) -> bool {
        let is_whole = |form: &pg_sys::FormData_pg_index| form.indisvalid && form.indisready;
        self.is_simple() && self.form().is_some_and(is_whole)
    }

    /// Whether it refuses no row that the table's `key` does not refuse. REINDEX CONCURRENTLY makes
    /// a second one of the key, and leaves it where it is broken off.
    pub(super) fn lets_pass(&self, key: &[pg_sys::AttrNumber]) -> bool {
        let is_ready = self.form().is_some_and(|form| form.indisready);
        !is_ready || self.is_simple() && (!self.is_unique() || self.keys() == key)
    }

    pub(super) fn keys(&self) -> Vec<pg_sys::AttrNumber> {
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

/// What no two rows of a table have alike.
pub struct UniqueKey {
    pub index: pg_sys::Oid,
    pub is_primary: bool,
    pub columns: Vec<KeyColumn>,
}

/// A column of a [`UniqueKey`], and how its values are compared.
pub struct KeyColumn {
    pub number: pg_sys::AttrNumber,
    pub equals: pg_sys::RegProcedure,
    pub collation: pg_sys::Oid,
}

/// The unique keys of a table, of all rows and of columns alone, that are checked at once.
///
/// # Safety
/// `relation` must be open and locked.
pub unsafe fn unique_keys(relation: pg_sys::Relation) -> Vec<UniqueKey> {
    // SAFETY: the caller vouches for the table, and so for its indexes, whose arrays hold an entry for each key.
    unsafe {
        let of = |id: pg_sys::Oid| {
            let index = Index::open(id);
            let is_usable = index.is_plain()
                && index.is_unique()
                && (*(*index.0).rd_rel).relam == pg_sys::BTREE_AM_OID;
            if !is_usable {
                return None;
            }
            let column = |(nth, number): (usize, pg_sys::AttrNumber)| {
                let kind = *(*index.0).rd_opcintype.add(nth);
                let equals = pg_sys::get_opfamily_member(
                    *(*index.0).rd_opfamily.add(nth),
                    kind,
                    kind,
                    pg_sys::BTEqualStrategyNumber as i16,
                );
                (equals != pg_sys::InvalidOid).then(|| KeyColumn {
                    number,
                    equals: pg_sys::get_opcode(equals),
                    collation: *(*index.0).rd_indcollation.add(nth),
                })
            };
            let columns: Option<Vec<_>> =
                index.keys().into_iter().enumerate().map(column).collect();
            columns.map(|columns| UniqueKey {
                index: id,
                is_primary: index.is_primary(),
                columns,
            })
        };
        indexes(relation).into_iter().filter_map(of).collect()
    }
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
