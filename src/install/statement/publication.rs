//! Membership in a publication.

use super::names::*;
use crate::pg::error::Result;
use crate::pg::plan;
use pgrx::PgList;
use pgrx::pg_sys;
use pgrx::prelude::*;

pub(super) unsafe fn publish(statement: &pg_sys::AlterPublicationStmt, sql: &str) -> Result<()> {
    // SAFETY: the statement names one table.
    let (publication, table) = unsafe {
        let objects = PgList::<pg_sys::PublicationObjSpec>::from_pg(statement.pubobjects);
        let table = objects
            .get_ptr(0)
            .map(|object| range((*(*object).pubtable).relation));
        (text(statement.pubname), table.unwrap_or_default())
    };
    let owned: Option<bool> = plan::ask(
        "select pg_has_role(p.pubowner, 'usage') from pg_publication p
          where p.pubname = $1 and not p.puballtables
            and not exists (select from pg_publication_rel r
                             where r.prpubid = p.oid and r.prrelid = to_regclass($2))",
        &[publication.into(), table.as_str().into()],
    )?;
    match owned {
        None => Ok(()),
        Some(true) => plan::utility(sql),
        Some(false) => {
            ereport!(
                PgLogLevel::WARNING,
                PgSqlErrorCode::ERRCODE_WARNING,
                format!("live_stream cannot add {table} to the publication {publication}"),
                "Another role owns the publication. Add the table as that role."
            );
            Ok(())
        }
    }
}
