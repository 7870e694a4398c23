//! The trust policy: what is taken from callers, and which hosts are sent what.
//!
//! A policy is plain data with safe defaults. Inbound values are data, never configuration: nothing that arrives in a
//! header changes a policy.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use crate::baggage::Baggage;
use crate::session::OwnMember;

mod host;

use host::{Host, Origin, Pattern, is_relative};

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
    /// The hosts, besides local ones, that are sent baggage. An entry is one of
    ///
    /// - `api.example.com`, `203.0.113.7`, `2001:db8::1` or `[2001:db8::1]`: this host;
    /// - `api.example.com:8443`, `https://api.example.com:8443/`: this host at this port only, which a URL's scheme may say,
    ///   and a host that is given without a port does not;
    /// - `https://api.example.com/`: this host, at any port and scheme;
    /// - `*.example.com`: every host below it, but not `example.com`;
    /// - `203.0.113.0/24`, `2001:db8::/32`: every address that begins with so many of the same bits;
    /// - `*`: every host.
    ///
    /// Case and a trailing dot do not matter; names that are not ASCII are given as they are in DNS (`xn--...`). Names
    /// are not resolved: a network lists hosts that are given by their address. What is none of these, such as an entry
    /// with a path, matches nothing ([`Policy::is_pattern`]); bindings refuse it.
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
    /// - IPv4: loopback 127/8, private 10/8, 172.16/12 and 192.168/16, and 0.0.0.0, which is this host;
    /// - IPv6: `::1`, `::`, unique local fc00::/7, and IPv4-mapped addresses of the above.
    ///
    /// Not local, though not routed in the internet, are link-local addresses (169.254/16, fe80::/10: there a cloud
    /// provider's metadata service listens, and whoever shares the wire) and 100.64/10 (carrier-grade NAT, which a
    /// provider's other customers may share): list such hosts. Text that parsers read differently (back slashes, two
    /// `@`, `%`, octal, hexadecimal or short IPv4 addresses, a lone top-level domain such as `ai.`) counts as an unknown
    /// host.
    pub fn destination(&self, url_or_host: &str) -> Allowed {
        let host = Host::of(url_or_host);
        Allowed { trace: true, baggage: host.is_some_and(|(host, port)| host.is_local() || self.lists(&host, port)) }
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
        let allowed = own || Host::of(url).is_some_and(|(host, port)| self.lists(&host, port));
        Allowed { trace: allowed, baggage: allowed }
    }

    /// Whether this entry of `propagate_to` is one that can match: see there.
    pub fn is_pattern(entry: &str) -> bool {
        Pattern::of(entry).is_some()
    }

    fn lists(&self, host: &Host<'_>, port: Option<u32>) -> bool {
        self.propagate_to.iter().filter_map(|entry| Pattern::of(entry)).any(|pattern| pattern.matches(host, port))
    }
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
            "0.0.0.0:80",
            "[::1]:80",
            "http://[::1]/",
            "::1",
            "[fd00::1]",
            "http://[::ffff:10.0.0.1]/",
            "http://[fdff::1]/",
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
            "169.254.1.1",
            "http://169.254.169.254/latest/meta-data",
            "[::ffff:169.254.169.254]",
            "fe80::1",
            "[febf::1]",
            "[fec0::1]",
            "[fe00::1]",
            "[::10.0.0.1]",
            "[64:ff9b::10.0.0.1]",
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
        let list = [
            "api.example.com",
            "*.Example.org.",
            "https://pasted.example.net:443/",
            "203.0.113.7",
            "[2001:db8::1]",
            "198.51.100.77/25",
            "2001:db8:1::/48",
        ];
        let policy = Policy { propagate_to: list.map(String::from).to_vec(), ..Policy::default() };
        for listed in [
            "https://API.example.com:8443/v1",
            "api.example.com.",
            "a.example.org",
            "a.b.example.ORG",
            "https://pasted.example.net/v1",
            "pasted.example.net:443",
            "203.0.113.7:80",
            "[::ffff:203.0.113.7]",
            "http://[2001:db8:0::1]:80/",
            "198.51.100.0",
            "http://198.51.100.127/",
            "[::ffff:198.51.100.1]",
            "[2001:db8:1:ffff::1]",
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
            "198.51.100.128",
            "198.51.101.0",
            "[2001:db8:2::1]",
            "198.51.100.7.example.com",
            "pasted.example.net",
            "http://pasted.example.net/",
            "https://pasted.example.net:8443/",
        ] {
            assert!(!sends_baggage(&policy, other), "{other}");
        }
        let all = Policy { propagate_to: vec!["*".into()], ..Policy::default() };
        assert!(sends_baggage(&all, "https://anything.example/"));
        assert!(!sends_baggage(&all, "http://evil.com\\@x/"), "text that clients read differently has no host");
        let every_v4 = Policy { propagate_to: vec!["0.0.0.0/0".into()], ..Policy::default() };
        assert!(sends_baggage(&every_v4, "8.8.8.8") && !sends_baggage(&every_v4, "[2001:db8::1]"));
        assert!(list.iter().all(|entry| Policy::is_pattern(entry)) && Policy::is_pattern("*"));
    }

    #[test]
    fn what_can_never_match_is_no_pattern() {
        for entry in [
            "",
            "*.",
            "a b",
            "*.*",
            "http://",
            "ex*mple.com",
            "*.10.0.0.1",
            "*.[::1]",
            "*.example.com:80",
            "*.https://example.com",
            "https://*.example.com",
            ".example.com",
            "example.com/",
            "example.com/api",
            "https://example.com/api",
            "https://example.com//",
            "https://example.com?x",
            "https://user@example.com",
            "//example.com",
            "/api",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0/8",
            "10.0.0.0/8/8",
            "http://10.0.0.0/8",
            "10.0.0.0:80/8",
            "[::1]/129",
            "[::ffff:10.0.0.0]/104",
            "example.com/24",
            "b\u{fc}cher.example",
        ] {
            assert!(!Policy::is_pattern(entry), "{entry}");
            let policy = Policy { propagate_to: vec![entry.into()], ..Policy::default() };
            assert!(!sends_baggage(&policy, "https://api.example.com/api"), "{entry}");
        }
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
