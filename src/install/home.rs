//! Where the engine is put: into the schema `live_stream`, whichever one CREATE EXTENSION was told. Supabase's dashboard
//! says `with schema extensions`, and `schema = live_stream` in the control file would refuse it before any code of ours runs.

use super::{Extension, OrdinaryObjects, extension, makes_nothing, name_of};
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::owner;
use crate::pg::plan;
use crate::pg::role::has_rights_of;
use pgrx::pg_sys;
use pgrx::prelude::*;

const HOME: &str = "live_stream";

/// The first statement of the script calls it, before there is anything else. It makes the schema `live_stream` where there
/// is none, as the role that creates the extension, and has the extension say that it is there. So a database, and a dump of
/// it, is the same whichever schema was named.
///
/// Errors: 42P07 where the schema is another role's; 55000 from elsewhere.
#[pg_extern(volatile, sql = false)]
fn come_home() {
    move_in().or_raise();
}

fn move_in() -> Result<()> {
    let extension = extension()?;
    if !extension.is_being_created() {
        return Err(Error::new(
            SqlState::NOT_IN_PREREQUISITE_STATE,
            "the extension live_stream is not being created",
        )
        .hint("Run CREATE EXTENSION live_stream."));
    }
    let home = match home()? {
        Some(home) => home,
        None => {
            let _ordinary = OrdinaryObjects::begin();
            owner::as_role(extension.owner, 0, || {
                plan::utility("create schema live_stream")
            })?;
            home()?.ok_or_else(|| {
                Error::new(SqlState::INTERNAL, "schema live_stream was not created")
            })?
        }
    };
    if extension.schema != home {
        // As ALTER EXTENSION … SET SCHEMA does for those that it moves.
        plan::ask::<pg_sys::Oid>(
            "update pg_catalog.pg_extension set extnamespace = $2
              where oid operator(pg_catalog.=) $1 returning oid",
            &[extension.id.into(), home.into()],
        )?;
        // SAFETY: changes the entry that CREATE EXTENSION has made for the schema it was told.
        unsafe {
            pg_sys::changeDependencyFor(
                pg_sys::ExtensionRelationId,
                extension.id,
                pg_sys::NamespaceRelationId,
                extension.schema,
                home,
            );
            pg_sys::CommandCounterIncrement();
        }
    }
    check_owner(&self::extension()?)
}

fn home() -> Result<Option<pg_sys::Oid>> {
    plan::ask(
        "select oid from pg_catalog.pg_namespace where nspname operator(pg_catalog.=) $1::pg_catalog.name",
        &[HOME.into()],
    )
}

/// A restore makes the schema before the extension, with the owner that it had; else it is new.
/// One of somebody else's would be theirs to change.
fn check_owner(extension: &Extension) -> Result<()> {
    let owner = extension.schema_owner;
    if owner == extension.owner || makes_nothing() && has_rights_of(extension.owner, owner) {
        return Ok(());
    }
    let owner = name_of(owner)?;
    Err(Error::new(
        SqlState::DUPLICATE_TABLE,
        "schema live_stream exists and is another role's",
    )
    .detail(format!("It belongs to {owner}. Nothing has been changed."))
    .hint(format!(
        "Drop it; or create the extension as {owner}, if {owner} did so before."
    )))
}

// The function goes again at once: nothing of ours stays in a schema that is not ours. From there on every name is
// looked for in `live_stream`, as if CREATE EXTENSION had been told so.
extension_sql!(
    r#"
create function @extschema@.come_home_of_live_stream() returns void
  language c volatile as 'MODULE_PATHNAME', 'come_home_wrapper';
select @extschema@.come_home_of_live_stream();
drop function @extschema@.come_home_of_live_stream();
set local search_path = live_stream, pg_temp;
"#,
    name = "home",
    bootstrap
);
