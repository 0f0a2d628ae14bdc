//! Who is calling: the request's claims and headers, and the rights of the current role.

pub mod address;
mod claims;
mod parsed;

use crate::pg::catalog;
use crate::pg::error::{Error, OrRaise, Result, SqlState};
use crate::pg::owner::owner_if_installed;
use crate::pg::{own_writes, role, settings, transaction};
use claims::{Caller, Invalid};
use parsed::Parsed;
use pgrx::Uuid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use serde_json::{Map, Value};
use session::code;
use std::cell::Cell;
use std::ffi::CString;

static VIEWER_ID: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

pub fn define_settings() {
    GucRegistry::define_string_guc(
        c"live_stream.viewer_id",
        c"Id of the viewer row that the current transaction has made.",
        c"Set by live_stream itself, so that an anonymous viewer can read the row it has just \
          inserted. A request header x-viewer-id does the same for later requests.",
        &VIEWER_ID,
        GucContext::Userset,
        GucFlags::NO_SHOW_ALL,
    );
}

/// Forgets with each transaction what its request said. Called once per backend.
pub fn watch_transactions() {
    transaction::at_end(|| {
        CLAIMS.with(Parsed::forget);
        HEADERS.with(Parsed::forget);
    });
}

/// The value of a header of the request, by its lower-case name: what the client or a proxy says.
pub fn request_header(name: &str) -> Option<String> {
    HEADERS.with(|kept| {
        kept.of(c"request.headers", claims::headers, |headers| {
            Some(headers.get(name)?.as_str()?.to_owned())
        })
    })?
}

/// Who the request's claims say is calling.
fn caller() -> Result<Caller> {
    let said = CLAIMS.with(|kept| {
        kept.of(c"request.jwt.claims", claims::caller, |caller| {
            caller.as_ref().copied().map_err(|invalid| *invalid)
        })
    });
    let caller = match said {
        Some(caller) => caller,
        None => older_caller(),
    };
    caller.map_err(|invalid| {
        let message = match invalid {
            Invalid::Json => "the claims of the request are no JSON object",
            Invalid::Subject => "the claim \"sub\" of the request is no UUID",
        };
        Error::new(SqlState::INVALID_AUTHORIZATION, message)
            .detail("live_stream reads the user's id from the setting request.jwt.claims.")
            .hint("Sign in again, or look at what issues the tokens.")
    })
}

/// As PostgREST said it before version 9: a setting for each claim.
fn older_caller() -> std::result::Result<Caller, Invalid> {
    let Some(sub) = settings::get(c"request.jwt.claim.sub") else {
        return Ok(Caller::default());
    };
    Ok(Caller {
        user: claims::user_id(&sub)?,
        is_anonymous_user: settings::get(c"request.jwt.claim.is_anonymous")
            .is_some_and(|said| claims::says_anonymous(&said)),
    })
}

/// The id of the user that the request's claims name; none for an anonymous request.
pub fn user_id() -> Result<Option<Uuid>> {
    Ok(caller()?.user.map(to_datum_uuid))
}

/// Whether the caller has an account: its claims name a user, and not one who signed in anonymously.
pub fn has_account() -> Result<bool> {
    let caller = caller()?;
    Ok(caller.user.is_some() && !caller.is_anonymous_user)
}

fn to_datum_uuid(id: uuid::Uuid) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// True when the current role may do what the shop's own server does: it has the rights of
/// `service_role` or of the tables' owner, or passes row-level security by.
pub fn is_service() -> Result<bool> {
    let user = role::current();
    let generation = catalog::generation();
    if let Some((seen, of, is_service)) = SERVICE.get()
        && (seen, of) == (generation, user)
    {
        return Ok(is_service);
    }
    let is_service = serves(user)?;
    SERVICE.set(Some((generation, user, is_service)));
    Ok(is_service)
}

/// As [`is_service`], of whose statement a trigger has been fired by: what a foreign key takes along, and what a trigger
/// writes, is written as the owner of the tables, whoever began.
pub fn service_began() -> Result<bool> {
    let is_service = is_service()?;
    match own_writes::trigger_depth() {
        ..=1 => Ok(is_service),
        _ => Ok(is_service && serves(role::outer())?),
    }
}

fn serves(user: pg_sys::Oid) -> Result<bool> {
    let owner = owner_if_installed()?;
    let service = role::named(c"service_role");
    Ok(role::passes_row_security(user)
        || [owner, service]
            .into_iter()
            .flatten()
            .any(|role| role::has_rights_of(user, role)))
}

/// Nothing for a caller that [`is_service`] is true of; for others, an error that says what.
///
/// Errors: 42501.
pub fn require_service(what: &str) -> Result<()> {
    if is_service()? {
        return Ok(());
    }
    Err(Error::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("only the server may {what}"),
    )
    .hint("Call it as service_role, or as the owner of the tables."))
}

/// The id of the user who is calling, for `what` only people with an account may do.
///
/// Errors: 42501 for an anonymous request.
pub fn signed_in(what: &str) -> Result<Uuid> {
    user_id()?.ok_or_else(|| {
        Error::new(
            SqlState::INSUFFICIENT_PRIVILEGE,
            format!("only signed-in people {what}"),
        )
        .hint("Sign in first.")
    })
}

/// The viewer row that this request may act for: the one it has just made, or the one that its
/// header `x-viewer-id` names. The id is random and only its viewer ever sees it.
pub fn viewer_id() -> Option<Uuid> {
    let id = match VIEWER_ID.get() {
        Some(id) if !id.is_empty() => id.into_string().ok()?,
        _ => request_header("x-viewer-id")?,
    };
    uuid::Uuid::try_parse(&id).ok().map(to_datum_uuid)
}

/// Lets the rest of this transaction act for a viewer row.
pub fn set_viewer_id(id: &Uuid) -> Result<()> {
    let id = CString::new(uuid::Uuid::from_bytes(*id.as_bytes()).to_string()).unwrap_or_default();
    settings::set_local(c"live_stream.viewer_id", &id);
    Ok(())
}

thread_local! {
    /// Of the role that was asked about last, in a generation of the catalog.
    static SERVICE: Cell<Option<(u64, pg_sys::Oid, bool)>> = const { Cell::new(None) };
    static CLAIMS: Parsed<std::result::Result<Caller, Invalid>> = const { Parsed::new() };
    static HEADERS: Parsed<Map<String, Value>> = const { Parsed::new() };
}

/// The id of the user who is calling, from the claims of the request: `sub` in
/// `request.jwt.claims`, or `request.jwt.claim.sub`. Null for an anonymous request.
///
/// Errors: 28000 for claims that are no JSON object, or a `sub` that is no UUID.
#[pg_extern(stable, parallel_safe, name = "uid")]
fn uid() -> Option<Uuid> {
    user_id().or_raise()
}

/// True when the current role is `service_role`, the owner of the tables, or a role that passes
/// row-level security by.
#[pg_extern(stable, parallel_safe, name = "is_service")]
fn is_service_sql() -> bool {
    is_service().or_raise()
}

/// The viewer row that this request may act for: the one made in this transaction, or the one
/// that the header `x-viewer-id` names. Null without either.
#[pg_extern(stable, parallel_restricted, name = "viewer_id")]
fn viewer_id_sql() -> Option<Uuid> {
    viewer_id()
}

/// The session code that the header `x-session-code` carries, in its stored form; null without.
#[pg_extern(stable, parallel_safe, name = "request_session_code")]
fn request_session_code() -> Option<String> {
    code::normalize(&request_header("x-session-code")?)
}
