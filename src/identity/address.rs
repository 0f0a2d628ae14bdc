//! The network address that a request came from, and which part of it may be kept.
//!
//! Addresses are read out of a header and reduced by code that knows nothing of PostgreSQL.

use crate::identity;
use crate::pg::error::Result;
use pgrx::guc::PostgresGucEnum;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, Inet};
use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

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
        .and_then(|value| from_header(&value, place)?.reduced(keep))
        .map(Inet))
}

/// What may be kept of an address that a server writes.
pub fn reduced(address: Option<Inet>) -> Option<Inet> {
    let keep = keep();
    from_inet(&address?.0)?.reduced(keep).map(Inet)
}

/// What may be kept of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    /// The network it is in: /24 of IPv4, /48 of IPv6.
    Network,
    Everything,
}

const IPV4_NETWORK: u8 = 24;
const IPV6_NETWORK: u8 = 48;

/// Longest text that can be an address: IPv6 in brackets with its port.
const MAX_CHARS: usize = 64;

/// An address, or a network when `prefix` is less than all of its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    ip: IpAddr,
    prefix: u8,
}

/// The address that a header's value holds, in the place counted from the right: what is left of
/// it was sent by the client, and proves nothing. None for a list that is shorter, or for
/// anything but an address there.
pub fn from_header(value: &str, place: usize) -> Option<Address> {
    let nth = place.checked_sub(1)?;
    parse(value.rsplit(',').nth(nth)?.trim())
}

/// An address as proxies write it: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`
/// or `[2001:db8::1]:80`.
fn parse(text: &str) -> Option<Address> {
    if text.len() > MAX_CHARS || text.contains('%') {
        return None;
    }
    let ip = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| {
            text.parse()
                .ok()
                .map(|with: SocketAddrV4| IpAddr::V4(*with.ip()))
        })
        .or_else(|| {
            text.parse()
                .ok()
                .map(|with: SocketAddrV6| IpAddr::V6(*with.ip()))
        })
        .or_else(|| {
            let inside = text.strip_prefix('[')?.strip_suffix(']')?;
            inside.parse().ok().map(IpAddr::V6)
        })?;
    Some(whole(ip))
}

/// An address or network as PostgreSQL writes an `inet`: `192.0.2.1`, `192.0.2.0/24`.
pub fn from_inet(text: &str) -> Option<Address> {
    let Some((ip, prefix)) = text.split_once('/') else {
        return Some(whole(text.parse().ok()?));
    };
    let (ip, prefix): (IpAddr, u8) = (ip.parse().ok()?, prefix.parse().ok()?);
    let plain = ip.to_canonical();
    // Of an IPv4-mapped network, only the bits behind the 96 of the mapping are IPv4's.
    let prefix = match (ip, plain) {
        (IpAddr::V6(_), IpAddr::V4(_)) => prefix.checked_sub(96),
        _ => Some(prefix),
    };
    match prefix {
        Some(prefix) if prefix <= bits(plain) => Some(Address { ip: plain, prefix }),
        _ => None,
    }
}

fn whole(ip: IpAddr) -> Address {
    let ip = ip.to_canonical();
    Address {
        ip,
        prefix: bits(ip),
    }
}

fn bits(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

impl Address {
    /// What may be kept of it, as PostgreSQL reads an `inet`.
    pub fn reduced(self, keep: Keep) -> Option<String> {
        let all = bits(self.ip);
        let (ip, prefix) = match keep {
            Keep::Nothing => return None,
            Keep::Everything => (self.ip, self.prefix),
            Keep::Network => {
                let network = if all == 32 {
                    IPV4_NETWORK
                } else {
                    IPV6_NETWORK
                };
                let prefix = self.prefix.min(network);
                (masked(self.ip, prefix), prefix)
            }
        };
        Some(if prefix == all {
            ip.to_string()
        } else {
            format!("{ip}/{prefix}")
        })
    }
}

fn masked(ip: IpAddr, prefix: u8) -> IpAddr {
    let off = |bits: u8| u32::from(bits.saturating_sub(prefix));
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(off(32)).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(off(128)).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(value: &str, place: usize, keep: Keep) -> Option<String> {
        from_header(value, place)?.reduced(keep)
    }

    #[test]
    fn addresses_as_proxies_write_them() {
        for (value, expected) in [
            ("203.0.113.7", "203.0.113.7"),
            ("  203.0.113.7  ", "203.0.113.7"),
            ("203.0.113.7:4711", "203.0.113.7"),
            ("2001:db8:1:2::3", "2001:db8:1:2::3"),
            ("2001:DB8:1:2:0:0:0:3", "2001:db8:1:2::3"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("[::ffff:203.0.113.7]:80", "203.0.113.7"),
        ] {
            assert_eq!(
                header(value, 1, Keep::Everything).as_deref(),
                Some(expected),
                "{value}"
            );
        }
    }

    #[test]
    fn anything_else_is_no_address() {
        for value in [
            "",
            " ",
            ",",
            "unknown",
            "localhost",
            "_hidden",
            "203.0.113",
            "203.0.113.256",
            "203.0.113.07",
            "0xcb.0.113.7",
            "3405803783",
            "203.0.113.7/24",
            "203.0.113.7:",
            "203.0.113.7:99999",
            "203.0.113.7 x",
            "2001:db8::1::2",
            "[2001:db8::1",
            "2001:db8::1]",
            "[203.0.113.7]",
            "[2001:db8::1]:",
            "[2001:db8::1]x",
            "fe80::1%eth0",
            "[fe80::1%1]:80",
            "\"203.0.113.7\"",
            "for=203.0.113.7",
            "203.0.113.7\0",
            "'; drop table x --",
            "１.2.3.4",
        ] {
            assert_eq!(from_header(value, 1), None, "{value:?}");
        }
        assert_eq!(from_header(&"1".repeat(100_000), 1), None);
    }

    #[test]
    fn the_place_is_counted_from_the_right() {
        let list = "192.0.2.66, 198.51.100.1,203.0.113.7";
        let at = |place| header(list, place, Keep::Everything);
        assert_eq!(at(1).as_deref(), Some("203.0.113.7"));
        assert_eq!(at(2).as_deref(), Some("198.51.100.1"));
        assert_eq!(at(3).as_deref(), Some("192.0.2.66"));
        assert_eq!(at(4), None);
        assert_eq!(at(0), None);
        // Junk keeps its place: nothing the client sent moves into it.
        assert_eq!(header("192.0.2.66, junk", 1, Keep::Everything), None);
        assert_eq!(header("192.0.2.66,", 1, Keep::Everything), None);
    }

    #[test]
    fn what_may_be_kept() {
        for (value, network) in [
            ("203.0.113.7", "203.0.113.0/24"),
            ("255.255.255.255", "255.255.255.0/24"),
            ("::ffff:203.0.113.7", "203.0.113.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
            ("ffff:ffff:ffff:ffff::1", "ffff:ffff:ffff::/48"),
            ("::1", "::/48"),
        ] {
            assert_eq!(
                header(value, 1, Keep::Network).as_deref(),
                Some(network),
                "{value}"
            );
            assert_eq!(header(value, 1, Keep::Nothing), None);
        }
    }

    #[test]
    fn networks_that_a_server_writes() {
        let reduced = |text: &str, keep| from_inet(text).and_then(|address| address.reduced(keep));
        for (text, network, everything) in [
            ("203.0.113.7", "203.0.113.0/24", "203.0.113.7"),
            ("203.0.113.7/28", "203.0.113.0/24", "203.0.113.7/28"),
            ("203.0.113.7/16", "203.0.0.0/16", "203.0.113.7/16"),
            ("203.0.113.7/0", "0.0.0.0/0", "203.0.113.7/0"),
            ("2001:db8:1:2::3", "2001:db8:1::/48", "2001:db8:1:2::3"),
            ("2001:db8:1:2::/32", "2001:db8::/32", "2001:db8:1:2::/32"),
            ("2001:db8::/0", "::/0", "2001:db8::/0"),
            ("::ffff:203.0.113.7", "203.0.113.0/24", "203.0.113.7"),
            ("::ffff:203.0.113.7/120", "203.0.113.0/24", "203.0.113.7/24"),
        ] {
            assert_eq!(
                reduced(text, Keep::Network).as_deref(),
                Some(network),
                "{text}"
            );
            assert_eq!(
                reduced(text, Keep::Everything).as_deref(),
                Some(everything),
                "{text}"
            );
            assert_eq!(reduced(text, Keep::Nothing), None);
        }
        for text in [
            "",
            "x",
            "203.0.113.7/33",
            "::1/129",
            "::ffff:203.0.113.7/90",
            "1.2.3.4/",
        ] {
            assert_eq!(from_inet(text), None, "{text}");
        }
    }
}
