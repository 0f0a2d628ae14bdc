//! Puts the API layer into the database: ordinary objects of the role that installs.
//!
//! Nothing of it is a member of the extension. PostgreSQL dumps nothing of a member but its
//! rows, and drops it with the extension; the tables must survive both.

mod home;
mod influencers;
mod statement;

use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::lock::{Lock, Mode};
use crate::pg::owner;
use crate::pg::plan;
use crate::pg::role::{self, has_rights_of};
use crate::pg::tables::FILES;
use crate::pg::transaction;
use pgrx::guc::PostgresGucEnum;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

#[derive(Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
#[allow(non_camel_case_types)]
enum When {
    auto,
    on,
    off,
}

static INSTALL: GucSetting<When> = GucSetting::<When>::new(When::auto);

pub fn define_settings() {
    GucRegistry::define_enum_guc(
        c"live_stream.install",
        c"Whether CREATE EXTENSION live_stream makes the tables and functions of the API.",
        c"auto: unless row_security is off, as it is while a dump is restored, whose own \
          statements bring them. on, off: always, never.",
        &INSTALL,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// Makes the tables, types, views, policies, triggers and functions of the API in the schema
/// `public`, owned by the role that created the extension. Run again, it adds what is missing:
/// foreign keys, grants and publications whose other side has come since.
///
/// Errors: 42501 unless the caller has the rights of that role; 42P07 when something of the same
/// name is there and is another's, or another thing.
#[pg_extern(volatile, name = "install")]
fn install() {
    install_api().or_raise();
}

fn install_api() -> Result<()> {
    transaction::check_may_write()?;
    check_encoding()?;
    let extension = extension()?;
    let (caller, creating) = (role::current(), extension.is_being_created());
    let skip = creating && makes_nothing();
    let role = extension.schema_owner;
    if !has_rights_of(caller, role) {
        return Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            "only the owner of the schema live_stream may install its tables and functions",
        )
        .hint(format!("Run live_stream.install() as {}.", name_of(role)?)));
    }
    owner::as_role(caller, 0, || adopt_engine(&extension, creating))?;
    if skip {
        return Ok(());
    }
    let _ordinary = OrdinaryObjects::begin();
    owner::as_role(role, pg_sys::SECURITY_RESTRICTED_OPERATION, || {
        Lock::Install.wait(Mode::Alone);
        check_public()?;
        influencers::install()?;
        FILES
            .iter()
            .try_for_each(|(name, sql)| statement::run_file(name, sql))
    })
}

/// Whether CREATE EXTENSION makes no tables, as in a restore, which brings them.
fn makes_nothing() -> bool {
    match INSTALL.get() {
        // SAFETY: a plain read of a setting of PostgreSQL's.
        When::auto => unsafe { !pg_sys::row_security },
        When::on => false,
        When::off => true,
    }
}

/// Names, messages and calendars are UTF-8 wherever they pass through here.
fn check_encoding() -> Result<()> {
    // SAFETY: plain reads of this database's encoding, whose name is a constant.
    let (encoding, name) = unsafe {
        let name = std::ffi::CStr::from_ptr(pg_sys::GetDatabaseEncodingName());
        (pg_sys::GetDatabaseEncoding(), name.to_string_lossy())
    };
    if encoding == pg_sys::pg_enc::PG_UTF8 as i32 {
        return Ok(());
    }
    Err(Error::new(
        SqlState::NOT_SUPPORTED,
        "live_stream needs a database whose encoding is UTF8",
    )
    .detail(format!("The encoding of this one is {name}."))
    .hint("Make one: CREATE DATABASE app ENCODING 'UTF8' TEMPLATE template0."))
}

fn check_public() -> Result<()> {
    let may_create: Option<bool> = plan::ask(
        "select has_schema_privilege(oid, 'create') from pg_namespace where nspname = 'public'",
        &[],
    )?;
    if may_create == Some(true) {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        "live_stream cannot make its tables in the schema public",
    )
    .detail("The schema must exist, and the installing role needs the privilege CREATE on it.")
    .hint("Run GRANT CREATE ON SCHEMA public TO the role, as the owner of the database."))
}

/// What is created while this lives is no member of the extension whose script is running.
struct OrdinaryObjects {
    creating: bool,
}

impl OrdinaryObjects {
    fn begin() -> Self {
        // SAFETY: a flag of this backend that CREATE EXTENSION sets around its script, and
        // clears itself when the script fails.
        unsafe {
            let creating = pg_sys::creating_extension;
            pg_sys::creating_extension = false;
            Self { creating }
        }
    }
}

impl Drop for OrdinaryObjects {
    fn drop(&mut self) {
        // SAFETY: as above; puts back what `begin` found.
        unsafe { pg_sys::creating_extension = self.creating };
    }
}

struct Extension {
    id: pg_sys::Oid,
    schema: pg_sys::Oid,
    /// The role that created it. After a restore that is whoever restored.
    owner: pg_sys::Oid,
    /// The role that the API layer belongs to: a dump keeps the owner of the schema.
    schema_owner: pg_sys::Oid,
}

impl Extension {
    /// Whether its script is running.
    fn is_being_created(&self) -> bool {
        // SAFETY: plain reads of this backend's state.
        unsafe { pg_sys::creating_extension && pg_sys::CurrentExtensionObject == self.id }
    }
}

fn extension() -> Result<Extension> {
    let find = |column| {
        plan::ask::<pg_sys::Oid>(
            &format!(
                "select {column} from pg_catalog.pg_extension e
                   join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) e.extnamespace
                  where e.extname operator(pg_catalog.=) 'live_stream'"
            ),
            &[],
        )
    };
    let (id, schema) = (find("e.oid")?, find("n.oid")?);
    match (id.zip(schema), find("e.extowner")?, find("n.nspowner")?) {
        (Some((id, schema)), Some(owner), Some(schema_owner)) => Ok(Extension {
            id,
            schema,
            owner,
            schema_owner,
        }),
        _ => Err(Error::new(
            SqlState::NOT_IN_PREREQUISITE_STATE,
            "extension \"live_stream\" is not installed",
        )
        .hint("Run CREATE EXTENSION live_stream first.")),
    }
}

fn name_of(role: pg_sys::Oid) -> Result<String> {
    let name = plan::ask(
        "select pg_catalog.pg_get_userbyid($1)::pg_catalog.text",
        &[role.into()],
    )?;
    Ok(name.unwrap_or_default())
}

/// Gives the functions of the extension to the role that the API layer belongs to, and takes
/// them from everybody else: it calls and grants them, and none runs as a superuser. The script
/// of a trusted extension runs as a superuser, who so owns what it makes; so may a restore.
fn adopt_engine(extension: &Extension, creating: bool) -> Result<()> {
    const ENGINE: &str = "from pg_depend d join pg_proc p on p.oid = d.objid
          where d.refclassid = 'pg_extension'::regclass and d.refobjid = $1
            and d.classid = 'pg_proc'::regclass";
    let stranger: Option<pg_sys::Oid> = plan::ask(
        &format!("select p.proowner {ENGINE} and p.proowner <> $2 limit 1"),
        &[extension.id.into(), extension.schema_owner.into()],
    )?;
    let caller = role::current();
    match stranger {
        None if !creating => return Ok(()),
        Some(stranger) if !has_rights_of(caller, stranger) => {
            let stranger = name_of(stranger)?;
            return Err(Error::new(
                SqlState::INSUFFICIENT_PRIVILEGE,
                "the functions of the extension live_stream belong to another role",
            )
            .detail(format!("They belong to {stranger}."))
            .hint(format!("Run live_stream.install() once as {stranger}.")));
        }
        _ => {}
    }
    for change in [
        "alter function %s owner to %I",
        "revoke all on function %s from public",
    ] {
        let statements: Option<Vec<String>> = plan::ask(
            &format!(
                "select array_agg(format('{change}', p.oid::regprocedure, pg_get_userbyid($2))) {ENGINE}"
            ),
            &[extension.id.into(), extension.schema_owner.into()],
        )?;
        statements
            .unwrap_or_default()
            .iter()
            .try_for_each(|statement| plan::utility(statement))?;
    }
    Ok(())
}

extension_sql!("select live_stream.install();", name = "install", finalize);
