//! Whoever may be sent baggage is local however a browser's URL parser reads the URL, and a page sends to itself only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracebaton::Policy;
use url::{Host, Url};

fn is_local(host: &Host<&str>) -> bool {
    let v4 = |address: std::net::Ipv4Addr| {
        let [a, b, ..] = address.octets();
        matches!((a, b), (127 | 10, _) | (172, 16..=31) | (192, 168)) || address.is_unspecified()
    };
    match host {
        Host::Ipv4(address) => v4(*address),
        Host::Ipv6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => v4(mapped),
            None => {
                address.is_loopback() || address.is_unspecified() || address.segments()[0] & 0xfe00 == 0xfc00
            }
        },
        Host::Domain(name) => {
            // What a scheme that browsers do not know has for an address.
            if let Ok(address) = name.parse() {
                return v4(address);
            }
            let name = name.strip_suffix('.').unwrap_or(name);
            !name.contains('.') || ["localhost", "internal", "local", "svc"].contains(&name.rsplit('.').next().unwrap())
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let policy = Policy::default();
    let allowed = policy.destination(text);
    assert!(allowed.trace);
    // As it stands if it is a URL with a host; "agent:5003" is one of the scheme "agent" and has none.
    let url = Url::parse(text).ok().filter(Url::has_host).or_else(|| Url::parse(&format!("http://{text}")).ok());
    if let (true, Some(host)) = (allowed.baggage, url.as_ref().and_then(Url::host)) {
        assert!(is_local(&host), "{text:?} is read as {host:?}");
    }
    // A listed host is the host that is listed.
    let listed = Policy { propagate_to: vec!["api.example.com".into(), "*.example.org".into()], ..Policy::default() };
    if listed.destination(text).baggage && !allowed.baggage {
        if let Ok(url) = Url::parse(text) {
            if let ("http" | "https", Some(Host::Domain(name))) = (url.scheme(), url.host()) {
                let name = name.strip_suffix('.').unwrap_or(name);
                assert!(name == "api.example.com" || name.ends_with(".example.org"), "{name}");
            }
        }
    }
    let page = Url::parse("https://app.example.com/chat/room?x=1").unwrap();
    if policy.destination_from_page(text, "https://app.example.com").baggage {
        if let Ok(target) = page.join(text) {
            assert_eq!(target.origin(), page.origin(), "{text:?}");
        }
    }
    // Entries of propagate_to are anything, too.
    let odd = Policy { propagate_to: vec![text.to_owned()], ..Policy::default() };
    if !Policy::is_pattern(text) {
        assert!(!odd.destination("https://other.example.net/").baggage);
    }
});
