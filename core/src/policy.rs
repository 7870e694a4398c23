//! The trust policy: what is taken from callers, and which hosts are sent what.
//!
//! A policy is plain data with safe defaults. Inbound values are data, never configuration: nothing that arrives in a
//! header changes a policy.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use crate::baggage::Baggage;
use crate::session::OwnMember;

/// What is done with the trace context of a caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum InboundMode {
    /// The caller's trace goes on: its span becomes the parent.
    #[default]
    Continue,
    /// A new trace begins, with a link to the caller's span (rule TP16). Session and baggage are taken all the same.
    Restart,
    /// Nothing is taken: no trace, no session, no baggage.
    Ignore,
}

/// The text is not the name of an [`InboundMode`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownMode;

impl fmt::Display for UnknownMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("inbound must be \"continue\", \"restart\" or \"ignore\"")
    }
}

impl core::error::Error for UnknownMode {}

impl InboundMode {
    /// Its name in a policy: `continue`, `restart` or `ignore`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Restart => "restart",
            Self::Ignore => "ignore",
        }
    }
}

impl FromStr for InboundMode {
    type Err = UnknownMode;

    /// Reads the name of a mode, in lower case.
    fn from_str(name: &str) -> Result<Self, UnknownMode> {
        [Self::Continue, Self::Restart, Self::Ignore].into_iter().find(|mode| mode.as_str() == name).ok_or(UnknownMode)
    }
}

/// Whom a service trusts with what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// What is done with a caller's trace context. Default: it goes on.
    pub inbound: InboundMode,
    /// Whether a caller's session is taken over. Default: yes. One that is not is not passed on either.
    pub accept_session: bool,
    /// Whether a caller's project is taken over. Default: yes. One that is not is not passed on either.
    pub accept_project: bool,
    /// The baggage keys, case-sensitive, whose values become attributes of spans. Default: none.
    pub baggage_attributes: Vec<String>,
    /// The most inbound baggage members, over all header lines. Default: [`Baggage::MAX_MEMBERS`].
    pub max_members: usize,
    /// The most inbound baggage bytes, over all header lines. Default: [`Baggage::MAX_BYTES`].
    pub max_bytes: usize,
    /// The hosts, besides local ones, that are sent baggage: `api.example.com` (this host), `*.example.com` (every host
    /// below it, but not `example.com`), an address, or `*` (every host). Case and a trailing dot do not matter; of a
    /// URL or `host:port` the host counts. What is none of these matches nothing ([`Policy::is_pattern`]).
    pub propagate_to: Vec<String>,
}

impl Policy {
    /// The policy that holds where none is given.
    pub const DEFAULT: Self = Self {
        inbound: InboundMode::Continue,
        accept_session: true,
        accept_project: true,
        baggage_attributes: Vec::new(),
        max_members: Baggage::MAX_MEMBERS,
        max_bytes: Baggage::MAX_BYTES,
        propagate_to: Vec::new(),
    };
}

impl Default for Policy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What may be sent to a destination.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Allowed {
    /// `traceparent` and `tracestate`.
    pub trace: bool,
    /// `baggage`, and with it the session.
    pub baggage: bool,
}

impl Allowed {
    /// Everything may be sent.
    pub const ALL: Self = Self { trace: true, baggage: true };
}

impl Default for Allowed {
    /// Everything: what holds where no destination is known.
    fn default() -> Self {
        Self::ALL
    }
}

impl Policy {
    /// Whether this member of ours is taken from callers, and passed on if it is not ours to write.
    pub(crate) const fn accepts(&self, member: OwnMember) -> bool {
        match member {
            OwnMember::Session => self.accept_session,
            OwnMember::Project => self.accept_project,
            // Source is not taken over, each service having its own, and there is nothing to reject either.
            OwnMember::Source => true,
        }
    }

    /// Whether inbound baggage of this key becomes an attribute.
    pub fn allows_attribute(&self, key: &str) -> bool {
        self.baggage_attributes.iter().any(|allowed| allowed == key)
    }

    /// What may be sent to this URL, `host:port` or host: trace context to every one; baggage, which carries users'
    /// data, only to local hosts and to those in `propagate_to`.
    ///
    /// Local are:
    /// - names of one label (`agent`, `localhost`) and names under `.localhost`, `.internal`, `.local` and `.svc`;
    /// - IPv4: loopback 127/8, private 10/8, 172.16/12 and 192.168/16, link-local 169.254/16, and 0.0.0.0;
    /// - IPv6: `::1`, `::`, unique local fc00::/7, link-local fe80::/10, and IPv4-mapped addresses of the above.
    ///
    /// Not local, since a provider's other customers may share it, is 100.64/10 (carrier-grade NAT): list such hosts.
    /// Text that parsers read differently (back slashes, two `@`, `%`, octal, hexadecimal or short IPv4 addresses, a
    /// lone top-level domain such as `ai.`) counts as an unknown host.
    pub fn destination(&self, url_or_host: &str) -> Allowed {
        let host = Host::of(url_or_host);
        Allowed { trace: true, baggage: host.is_some_and(|host| host.is_local() || self.lists(&host)) }
    }

    /// What a page of this origin (`https://app.example.com`) may send to this URL: both only to the page's own origin,
    /// which a relative URL is on, and to hosts in `propagate_to`. A header of ours sent elsewhere would make the
    /// browser ask that server first (CORS), and fail.
    pub fn destination_from_page(&self, url: &str, origin: &str) -> Allowed {
        let own = match (Origin::of(url), Origin::of(origin)) {
            (Some(target), Some(page)) => target == page,
            (None, Some(_)) => is_relative(url),
            (_, None) => false,
        };
        let allowed = own || Host::of(url).is_some_and(|host| self.lists(&host));
        Allowed { trace: allowed, baggage: allowed }
    }

    /// Whether this entry of `propagate_to` can match anything.
    pub fn is_pattern(entry: &str) -> bool {
        entry == "*" || Host::of(entry.strip_prefix("*.").unwrap_or(entry)).is_some()
    }

    fn lists(&self, host: &Host<'_>) -> bool {
        self.propagate_to.iter().any(|entry| {
            entry == "*"
                || match entry.strip_prefix("*.") {
                    Some(parent) => Host::of(parent).is_some_and(|parent| host.is_below(&parent)),
                    None => Host::of(entry).is_some_and(|listed| host.is(&listed)),
                }
        })
    }
}

/// The host of a URL, read so strictly that every client that accepts the URL connects to this one.
#[derive(Debug)]
enum Host<'a> {
    /// A domain name without its trailing dot.
    Name {
        name: &'a str,
        rooted: bool,
    },
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
        let (scheme, authority) = match text.split_once("//") {
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
            Some((_, address)) if address.contains('@') => return None,
            Some((_, address)) => address,
            None => authority,
        };
        let (host, port) = if address.starts_with('[') {
            let (host, after) = address.split_at_checked(address.find(']')?.checked_add(1)?)?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        } else {
            match address.split_once(':') {
                // An IPv6 address without brackets, as `server.address` holds it.
                Some((_, rest)) if rest.contains(':') && !has_scheme => (address, None),
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
}

impl<'a> Host<'a> {
    fn of(url_or_host: &'a str) -> Option<Self> {
        Self::parse(Authority::of(url_or_host)?.host)
    }

    fn parse(host: &'a str) -> Option<Self> {
        if let Some(inner) = host.strip_prefix('[') {
            return Some(Self::Address(IpAddr::V6(Ipv6Addr::from_str(inner.strip_suffix(']')?).ok()?)));
        }
        if host.contains(':') {
            return Some(Self::Address(IpAddr::V6(Ipv6Addr::from_str(host).ok()?)));
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

    fn is_local(&self) -> bool {
        match *self {
            Self::Address(IpAddr::V4(address)) => is_local_v4(address),
            Self::Address(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
                Some(mapped) => is_local_v4(mapped),
                None => {
                    let first = address.octets().first_chunk().map_or(0, |start| u16::from_be_bytes(*start));
                    address.is_loopback()
                        || address.is_unspecified()
                        || first & 0xfe00 == 0xfc00
                        || first & 0xffc0 == 0xfe80
                }
            },
            Self::Name { name, rooted } => {
                if name.contains('.') {
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

const fn is_local_v4(address: Ipv4Addr) -> bool {
    address.is_loopback() || address.is_private() || address.is_link_local() || address.is_unspecified()
}

/// Scheme, host and port of an absolute URL.
struct Origin<'a> {
    scheme: &'a str,
    host: Host<'a>,
    port: Option<u32>,
}

impl<'a> Origin<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let authority = Authority::of(url)?;
        let scheme = authority.scheme?;
        let port = match authority.port {
            Some(port) => Some(port.parse().ok()?),
            None if scheme.eq_ignore_ascii_case("https") => Some(443),
            None if scheme.eq_ignore_ascii_case("http") => Some(80),
            None => None,
        };
        Some(Self { scheme, host: Host::parse(authority.host)?, port })
    }
}

impl PartialEq for Origin<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme) && self.port == other.port && self.host.is(&other.host)
    }
}

/// Whether this is a path on the page's own origin, in a form that no client takes for a URL with a host.
fn is_relative(url: &str) -> bool {
    // Browsers skip tabs and line ends, and spaces in front: "/\t/evil.example" has a host.
    let plain = url.bytes().all(|octet| octet >= b' ' && octet != b'\\') && !url.starts_with(' ');
    let first = url.split(['/', '?', '#']).next().unwrap_or_default();
    plain && !url.starts_with("//") && !first.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn sends_baggage(policy: &Policy, to: &str) -> bool {
        let allowed = policy.destination(to);
        assert!(allowed.trace, "trace context goes to every host");
        allowed.baggage
    }

    #[test]
    fn modes_have_names() {
        for mode in [InboundMode::Continue, InboundMode::Restart, InboundMode::Ignore] {
            assert_eq!(mode.as_str().parse(), Ok(mode));
        }
        assert_eq!("Continue".parse::<InboundMode>(), Err(UnknownMode));
        assert!(UnknownMode.to_string().contains("restart"));
    }

    #[test]
    fn local_hosts_are_sent_baggage() {
        let policy = Policy::default();
        for local in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "http://localhost:8000/chat?x=1#y",
            "http://user:pw@localhost:80/",
            "agent",
            "http://agent:5003",
            "agent:5003",
            "//agent/path",
            "agent/path",
            "agent-1.prod.svc",
            "x.localhost",
            "a.b.svc.cluster.local",
            "host.docker.internal",
            "printer.local.",
            "HOST.INTERNAL",
            "http://127.0.0.1",
            "127.8.9.1:80",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.3.4",
            "169.254.1.1",
            "0.0.0.0:80",
            "[::1]:80",
            "http://[::1]/",
            "::1",
            "[fd00::1]",
            "fe80::1",
            "http://[::ffff:10.0.0.1]/",
            "http://localhost:/",
        ] {
            assert!(sends_baggage(&policy, local), "{local}");
        }
    }

    #[test]
    fn others_are_not() {
        let policy = Policy::default();
        for other in [
            "",
            "/",
            "/api",
            "http://",
            "http:///evil.com",
            "http:/evil.com",
            "http:evil.com",
            "https:localhost/",
            "example.com",
            "https://api.example.com/v1",
            "localhost.evil.com",
            "http://localhost@evil.com/",
            "http://localhost:80@evil.com/",
            "http://evil.com\\@localhost/",
            "http://localhost\\@evil.com/",
            "http://a@localhost@evil.com/",
            "http://a@evil.com@localhost/",
            "http://evil.com#@localhost/",
            "http://evil.com?@localhost/",
            "http://evil.com/@localhost",
            "http://local\thost/",
            "http://%6cocalhost/",
            "http://localhost%00.evil.com/",
            "http:\\\\localhost/",
            "2130706433",
            "http://0x7f000001/",
            "0x7f.1",
            "http://0177.0.0.1/",
            "http://127.1/",
            "10.0.0.256",
            "10.0.0",
            "127.0.0.1.example.com",
            "8.8.8.8",
            "172.32.0.1",
            "172.15.0.1",
            "192.169.0.1",
            "11.0.0.1",
            "100.64.0.1",
            "[2001:db8::1]",
            "[::ffff:8.8.8.8]",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[127.0.0.1]",
            "[localhost]",
            "localhost:http",
            "localhost:123456",
            "localhost..",
            "agent.",
            "ai.",
            ".local",
            "local.evil.com",
            "mylocal.com",
            "xinternal.io",
            "a..local",
            "h\u{f6}st",
            "\u{ff4c}ocalhost",
            "fe80::1%eth0",
            "http://localhost, evil.com/",
            "1http://localhost/",
            "svc.com",
            "http://foo.0x/",
            "notsvc.evilsvc",
        ] {
            assert!(!sends_baggage(&policy, other), "{other}");
        }
    }

    #[test]
    fn listed_hosts_are_sent_baggage() {
        let list =
            ["api.example.com", "*.Example.org.", "https://pasted.example.net:443/x", "203.0.113.7", "[2001:db8::1]"];
        let policy = Policy { propagate_to: list.map(String::from).to_vec(), ..Policy::default() };
        for listed in [
            "https://API.example.com:8443/v1",
            "api.example.com.",
            "a.example.org",
            "a.b.example.ORG",
            "pasted.example.net",
            "203.0.113.7:80",
            "http://[2001:db8:0::1]:80/",
        ] {
            assert!(sends_baggage(&policy, listed), "{listed}");
        }
        for other in [
            "example.com",
            "x.api.example.com",
            "example.org",
            "xexample.org",
            ".example.org",
            "203.0.113.70",
            "api.example.com.evil.com",
            "http://api.example.com@evil.com",
            "[2001:db8::2]",
        ] {
            assert!(!sends_baggage(&policy, other), "{other}");
        }
        let all = Policy { propagate_to: vec!["*".into()], ..Policy::default() };
        assert!(sends_baggage(&all, "https://anything.example/"));
        assert!(!sends_baggage(&all, "http://evil.com\\@x/"), "text that clients read differently has no host");
        assert!(list.iter().all(|entry| Policy::is_pattern(entry)) && Policy::is_pattern("*"));
        assert!(["", "*.", "a b", "*.*", "http://", "ex*mple.com"].into_iter().all(|entry| !Policy::is_pattern(entry)));
    }

    #[test]
    fn a_page_sends_to_its_own_origin() {
        let policy = Policy { propagate_to: vec!["api.example.com".into()], ..Policy::default() };
        let origin = "https://app.example.com";
        for own in [
            "https://app.example.com/x",
            "https://APP.example.com:443/",
            "/api/chat",
            "/a b",
            "chat?x=http://y",
            "",
            "#top",
            "https://api.example.com/v1",
        ] {
            assert_eq!(policy.destination_from_page(own, origin), Allowed { trace: true, baggage: true }, "{own}");
        }
        for other in [
            "http://app.example.com/",
            "https://app.example.com:8443/",
            "https://evil.com/",
            "//evil.com/",
            "http:evil.com",
            "/\\evil.com",
            "/\t/evil.com",
            "https://app.example.com@evil.com/",
            "http://localhost/",
            "\\\\evil.com",
            "data:text/plain,x",
            " //evil.com",
        ] {
            assert_eq!(
                policy.destination_from_page(other, origin),
                Allowed { trace: false, baggage: false },
                "{other}"
            );
        }
        assert!(!policy.destination_from_page("/api", "null").trace, "an opaque origin has no hosts of its own");
    }

    #[test]
    fn attributes_are_an_exact_list() {
        let policy = Policy { baggage_attributes: vec!["user.id".into()], ..Policy::default() };
        assert!(policy.allows_attribute("user.id") && !policy.allows_attribute("User.id"));
    }
}
