//! The network address that a request came from, and how much of it may be kept.

mod text;

use crate::identity;
use crate::pg::error::Result;
use pgrx::guc::PostgresGucEnum;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, Inet};
use std::ffi::CString;
use text::Keep;

#[derive(Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
#[allow(non_camel_case_types)]
enum Tracking {
    off,
    anonymized,
    full,
}

static IP_TRACKING: GucSetting<Tracking> = GucSetting::<Tracking>::new(Tracking::off);
static IP_HEADER: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c"x-forwarded-for"));
static TRUSTED_PROXIES: GucSetting<i32> = GucSetting::<i32>::new(1);

pub fn define_settings() {
    GucRegistry::define_enum_guc(
        c"live_stream.ip_tracking",
        c"What is kept of the network addresses of viewers.",
        c"off: nothing. anonymized: the network, /24 of IPv4 and /48 of IPv6. full: the address.",
        &IP_TRACKING,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"live_stream.ip_header",
        c"Request header that the address of a viewer is taken from.",
        c"One that your own proxy writes, whatever the client has sent. Empty: none.",
        &IP_HEADER,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"live_stream.trusted_proxies",
        c"Which address of the header counts, from the right.",
        c"The number of proxies of your own that each add one to the list; what is left of it was \
          sent by the client.",
        &TRUSTED_PROXIES,
        1,
        100,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// What may be kept of an address now.
fn keep() -> Keep {
    match IP_TRACKING.get() {
        Tracking::off => Keep::Nothing,
        Tracking::anonymized => Keep::Network,
        Tracking::full => Keep::Everything,
    }
}

/// What may be kept of the address that the request came from, as the proxy says; none where it
/// does not say. The requests of a server come from the server, not from a viewer.
pub fn of_request() -> Result<Option<Inet>> {
    let keep = keep();
    if keep == Keep::Nothing || identity::is_service()? {
        return Ok(None);
    }
    let Some(name) = IP_HEADER.get().and_then(|name| name.into_string().ok()) else {
        return Ok(None);
    };
    let place = usize::try_from(TRUSTED_PROXIES.get()).unwrap_or(1);
    Ok(identity::request_header(&name.trim().to_ascii_lowercase())
        .and_then(|value| text::from_header(&value, place)?.reduced(keep))
        .map(Inet))
}

/// What may be kept of an address that a server writes.
pub fn reduced(address: Option<Inet>) -> Option<Inet> {
    let keep = keep();
    text::from_inet(&address?.0)?.reduced(keep).map(Inet)
}
