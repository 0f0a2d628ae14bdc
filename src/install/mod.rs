//! Puts the API layer into the database: ordinary objects of the role that installs.
//!
//! Nothing of it is a member of the extension. PostgreSQL dumps nothing of a member but its
//! rows, and drops it with the extension; the tables must survive both.

mod statement;

use crate::error::{Error, OrRaise, Result, SqlState};
use crate::{identity, influencers, plan};
use pgrx::guc::PostgresGucEnum;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

pub use statement::relation_exists;

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

/// The files of the API layer, in the order of what refers to what.
const FILES: &[(&str, &str)] = &[
    ("identity", include_str!("../../sql/identity.sql")),
    ("sessions", include_str!("../../sql/sessions.sql")),
    ("viewers", include_str!("../../sql/viewers.sql")),
    ("chat", include_str!("../../sql/chat.sql")),
    ("products", include_str!("../../sql/products.sql")),
    ("orders", include_str!("../../sql/orders.sql")),
    ("schedule", include_str!("../../sql/schedule.sql")),
    ("analytics", include_str!("../../sql/analytics.sql")),
    ("notifications", include_str!("../../sql/notifications.sql")),
    ("realtime", include_str!("../../sql/realtime.sql")),
];

/// Makes the tables, types, views, policies, triggers and functions of the API in the schema
/// `public`, owned by the owner of the extension. Run again, it adds what is missing: foreign
/// keys, grants and publications whose other side has come since.
///
/// Errors: 42501 unless the caller has the rights of the extension's owner; 42P07 when a table
/// or type of the same name is there and is another.
#[pg_extern(volatile, name = "install")]
fn install() {
    install_api().or_raise();
}

fn install_api() -> Result<()> {
    let (extension, owner) = extension()?;
    // SAFETY: plain reads of this backend's state, and a look-up of roles.
    let (creating, may_install, restoring) = unsafe {
        (
            pg_sys::creating_extension && pg_sys::CurrentExtensionObject == extension,
            pg_sys::has_privs_of_role(pg_sys::GetUserId(), owner),
            !pg_sys::row_security,
        )
    };
    if !may_install {
        return Err(Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            "only the owner of the extension live_stream may install it",
        )
        .hint("Run live_stream.install() as the role that created the extension."));
    }
    if creating {
        adopt_engine(extension, owner)?;
        match INSTALL.get() {
            When::off => return Ok(()),
            When::auto if restoring => return Ok(()),
            _ => {}
        }
    }
    let _ordinary = OrdinaryObjects::begin();
    identity::as_role(owner, pg_sys::SECURITY_RESTRICTED_OPERATION, || {
        plan::utility("select pg_advisory_xact_lock(hashtextextended('live_stream.install', 0))")?;
        influencers::install()?;
        FILES.iter().try_for_each(|(name, sql)| statement::run_file(name, sql))
    })
}

/// Runs one file for another domain that decides by itself whether to.
pub fn run_file(name: &str, sql: &'static str) -> Result<()> {
    statement::run_file(name, sql)
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

fn extension() -> Result<(pg_sys::Oid, pg_sys::Oid)> {
    let find = |column| {
        plan::ask::<pg_sys::Oid>(
            &format!(
                "select {column} from pg_catalog.pg_extension \
                  where extname operator(pg_catalog.=) 'live_stream'"
            ),
            &[],
        )
    };
    match (find("oid")?, find("extowner")?) {
        (Some(extension), Some(owner)) => Ok((extension, owner)),
        _ => Err(Error::new(
            SqlState::NOT_IN_PREREQUISITE_STATE,
            "extension \"live_stream\" is not installed",
        )
        .hint("Run CREATE EXTENSION live_stream first.")),
    }
}

/// The script of a trusted extension runs as the bootstrap superuser, who so owns the functions
/// it makes. They go to the installing role: it grants them, and none runs as a superuser.
fn adopt_engine(extension: pg_sys::Oid, owner: pg_sys::Oid) -> Result<()> {
    let statements: Option<Vec<String>> = plan::ask(
        "select pg_catalog.array_agg(s.statement)
           from pg_catalog.pg_depend d
           join pg_catalog.pg_proc p on p.oid operator(pg_catalog.=) d.objid,
                lateral (values
                  (pg_catalog.format('alter function %s owner to %I',
                     p.oid::pg_catalog.regprocedure, pg_catalog.pg_get_userbyid($2))),
                  (pg_catalog.format('revoke all on function %s from public',
                     p.oid::pg_catalog.regprocedure))) s(statement)
          where d.refclassid operator(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
            and d.refobjid operator(pg_catalog.=) $1
            and d.classid operator(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass",
        &[extension.into(), owner.into()],
    )?;
    statements.unwrap_or_default().iter().try_for_each(|statement| plan::utility(statement))
}

extension_sql!("select live_stream.install();", name = "install", finalize);
