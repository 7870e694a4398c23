//! Hosts of destinations: read from URLs, and matched with the patterns of a policy.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use crate::octets::{cut_by, has};

/// The host of a URL, read so strictly that every client that accepts the URL connects to this one.
#[derive(Debug)]
pub(super) enum Host<'a> {
    /// A domain name without its trailing dot.
    Name { name: &'a str, rooted: bool },
    /// An address; one of IPv4 that is written as one of IPv6 (`::ffff:10.0.0.1`) is that of IPv4.
    Address(IpAddr),
}

/// The authority of a URL after its scheme, or of `host:port`: user information, host, port and the scheme, if any.
struct Authority<'a> {
    scheme: Option<&'a str>,
    host: &'a str,
    port: Option<&'a str>,
}

impl<'a> Authority<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let end = |text: &'a str| text.split(['/', '?', '#']).next().unwrap_or_default();
        let (scheme, authority) = match cut_by(text, b"//") {
            Some(("", rest)) => (None, end(rest)),
            Some((scheme, rest)) if scheme.ends_with(':') && !scheme.contains(['/', '?', '#']) => {
                (scheme.strip_suffix(':'), end(rest))
            }
            // "http:/example.com" is one of the URLs that some clients repair: what looks like a host and an empty port
            // is refused below.
            _ => (None, end(text)),
        };
        let has_scheme = scheme.is_some();
        if let Some(scheme) = scheme {
            let letters = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.');
            if !scheme.as_bytes().first()?.is_ascii_alphabetic() || !scheme.bytes().all(letters) {
                return None;
            }
        }
        // Clients differ in whether they stop at a back slash, skip tabs and line ends, and decode `%`.
        if !authority.bytes().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b'\\' | b'%')) {
            return None;
        }
        let address = match authority.split_once('@') {
            Some((_, address)) if has(address, b'@') => return None,
            Some((_, address)) => address,
            None => authority,
        };
        let (host, port) = if address.starts_with('[') {
            let (host, after) = address.split_at_checked(address.find(']')?.checked_add(1)?)?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        } else {
            match address.split_once(':') {
                // An IPv6 address without brackets, as `server.address` holds it.
                Some((_, rest)) if has(rest, b':') && !has_scheme => (address, None),
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            }
        };
        // "http:7" is a URL to browsers, of the host 0.0.0.7.
        let is_scheme = |name: &&str| host.eq_ignore_ascii_case(name);
        if !has_scheme && port.is_some() && ["http", "https", "ws", "wss", "ftp", "file"].iter().any(is_scheme) {
            return None;
        }
        let port_is_fine = match port {
            Some("") => has_scheme,
            Some(port) => port.len() <= 5 && port.bytes().all(|octet| octet.is_ascii_digit()),
            None => true,
        };
        port_is_fine.then_some(Self { scheme, host, port: port.filter(|port| !port.is_empty()) })
    }

    /// The port, which may follow from the scheme; `Some(None)` if nothing says it.
    fn port(&self) -> Option<Option<u32>> {
        let is =
            |names: [&str; 2]| self.scheme.is_some_and(|it| names.iter().any(|name| it.eq_ignore_ascii_case(name)));
        match self.port {
            Some(port) => port.parse().ok().map(Some),
            None if is(["https", "wss"]) => Some(Some(443)),
            None if is(["http", "ws"]) => Some(Some(80)),
            None => Some(None),
        }
    }
}

impl<'a> Host<'a> {
    /// The host of a URL, `host:port` or host, and its port, as far as it is known.
    pub(super) fn of(url_or_host: &'a str) -> Option<(Self, Option<u32>)> {
        let authority = Authority::of(url_or_host)?;
        Some((Self::parse(authority.host)?, authority.port()?))
    }

    fn parse(host: &'a str) -> Option<Self> {
        let v6 = |text| Some(Self::Address(IpAddr::V6(Ipv6Addr::from_str(text).ok()?).to_canonical()));
        if let Some(inner) = host.strip_prefix('[') {
            return v6(inner.strip_suffix(']')?);
        }
        if has(host, b':') {
            return v6(host);
        }
        let (name, rooted) = match host.strip_suffix('.') {
            Some(name) => (name, true),
            None => (host, false),
        };
        if let Ok(address) = Ipv4Addr::from_str(name) {
            return Some(Self::Address(IpAddr::V4(address)));
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        // A last label that is a number makes an address of the whole name, in forms of which clients read some as
        // octal, hexadecimal or short.
        let is_number = last.bytes().all(|octet| octet.is_ascii_digit())
            || last.strip_prefix(['0']).is_some_and(|rest| {
                rest.strip_prefix(['x', 'X'])
                    .is_some_and(|digits| digits.bytes().all(|octet| octet.is_ascii_hexdigit()))
            });
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
        };
        (name.len() <= 253 && !is_number && name.split('.').all(is_label)).then_some(Self::Name { name, rooted })
    }

    /// Whether it is one of those that [`Policy::destination`](super::Policy::destination) calls local.
    pub(super) fn is_local(&self) -> bool {
        match *self {
            Self::Address(IpAddr::V4(address)) => {
                address.is_loopback() || address.is_private() || address.is_unspecified()
            }
            // Unique local: fc00::/7.
            Self::Address(IpAddr::V6(address)) => {
                address.is_loopback()
                    || address.is_unspecified()
                    || address.octets().first().is_some_and(|it| it & 0xfe == 0xfc)
            }
            Self::Name { name, rooted } => {
                if has(name, b'.') {
                    ["localhost", "internal", "local", "svc"].into_iter().any(|parent| is_below(name, parent))
                } else {
                    // With its dot a single label is a top-level domain, and some of those have addresses.
                    !rooted || name.eq_ignore_ascii_case("localhost")
                }
            }
        }
    }

    fn is(&self, other: &Host<'_>) -> bool {
        match (self, other) {
            (Self::Name { name, .. }, Host::Name { name: other, .. }) => name.eq_ignore_ascii_case(other),
            (Self::Address(address), Host::Address(other)) => address == other,
            _ => false,
        }
    }

    fn is_below(&self, parent: &Host<'_>) -> bool {
        match (self, parent) {
            (Self::Name { name, .. }, Host::Name { name: parent, .. }) => is_below(name, parent),
            _ => false,
        }
    }
}

/// Whether a name lies under another: `a.b.c` under `b.c`.
fn is_below(name: &str, parent: &str) -> bool {
    let Some((above, end)) = name.len().checked_sub(parent.len()).and_then(|at| name.as_bytes().split_at_checked(at))
    else {
        return false;
    };
    end.eq_ignore_ascii_case(parent.as_bytes()) && above.len() > 1 && above.ends_with(b".")
}

/// An entry of `propagate_to`: see [`Policy::propagate_to`](super::Policy::propagate_to).
pub(super) enum Pattern<'a> {
    Any,
    Below(Host<'a>),
    /// A host, at one port if there is one.
    Host(Host<'a>, Option<u32>),
    /// The addresses that begin with the same bits.
    Network(IpAddr, u32),
}

impl<'a> Pattern<'a> {
    /// Reads an entry; none if it is no pattern.
    pub(super) fn of(entry: &'a str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::Any);
        }
        if let Some(parent) = entry.strip_prefix("*.") {
            // Nothing lies below an address.
            return Host::parse(parent).filter(|host| matches!(host, Host::Name { .. })).map(Self::Below);
        }
        let authority = match cut_by(entry, b"://") {
            Some((_, rest)) => rest.strip_suffix('/').unwrap_or(rest),
            None => entry,
        };
        match authority.split_once('/') {
            Some((address, bits)) if authority.len() == entry.len() => Self::network(address, bits),
            // All paths of a host are sent the same: an entry with one says what cannot be had.
            Some(_) => None,
            None if authority.contains(['?', '#', '@']) => None,
            // A scheme alone says no port: it is pasted with the host.
            None => {
                let authority = Authority::of(entry)?;
                let port = authority.port.map(str::parse).transpose().ok()?;
                Some(Self::Host(Host::parse(authority.host)?, port))
            }
        }
    }

    fn network(address: &str, bits: &str) -> Option<Self> {
        let Some(Host::Address(address)) = Host::parse(address) else { return None };
        let digits = bits.bytes().all(|octet| octet.is_ascii_digit());
        let bits = bits.parse().ok().filter(|bits| digits && *bits <= if address.is_ipv4() { 32 } else { 128 })?;
        Some(Self::Network(address, bits))
    }

    /// Whether it matches a host at a port, which may not be known.
    pub(super) fn matches(&self, host: &Host<'_>, port: Option<u32>) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Below(parent), _) => host.is_below(parent),
            (Self::Host(listed, at), _) => host.is(listed) && (at.is_none() || *at == port),
            (Self::Network(IpAddr::V4(start), bits), Host::Address(IpAddr::V4(address))) => {
                let differing = start.to_bits() ^ address.to_bits();
                differing.checked_shr(32_u32.saturating_sub(*bits)).unwrap_or(0) == 0
            }
            (Self::Network(IpAddr::V6(start), bits), Host::Address(IpAddr::V6(address))) => {
                let differing = start.to_bits() ^ address.to_bits();
                differing.checked_shr(128_u32.saturating_sub(*bits)).unwrap_or(0) == 0
            }
            (Self::Network(..), _) => false,
        }
    }
}

/// Scheme, host and port of an absolute URL.
pub(super) struct Origin<'a> {
    scheme: &'a str,
    host: Host<'a>,
    port: Option<u32>,
}

impl<'a> Origin<'a> {
    pub(super) fn of(url: &'a str) -> Option<Self> {
        let authority = Authority::of(url)?;
        let scheme = authority.scheme?;
        Some(Self { scheme, host: Host::parse(authority.host)?, port: authority.port()? })
    }
}

impl PartialEq for Origin<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme) && self.port == other.port && self.host.is(&other.host)
    }
}

/// Whether this is a path on the page's own origin, in a form that no client takes for a URL with a host.
pub(super) fn is_relative(url: &str) -> bool {
    // Browsers skip tabs and line ends, and spaces in front: "/\t/evil.example" has a host.
    let plain = url.bytes().all(|octet| octet >= b' ' && octet != b'\\') && !url.starts_with(' ');
    let first = url.split(['/', '?', '#']).next().unwrap_or_default();
    plain && !url.starts_with("//") && !has(first, b':')
}
