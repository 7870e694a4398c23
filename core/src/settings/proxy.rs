//! Which hosts are reached without a proxy: the list in `NO_PROXY`.

use core::net::IpAddr;

/// Whether `NO_PROXY` exempts a host from the proxy, as curl and the HTTP libraries of Go and Python read it (SET16).
///
/// The list is separated by commas or white space. An entry is `*` for every host; a name, for that host and all below
/// it, with or without `.` or `*.` before it; an address; or a network such as `10.0.0.0/8`. A name or an address with
/// `:port` is for that port only. Case does not matter, nor does a dot at the end of a name. Addresses are compared as
/// addresses: `[::1]` and `0:0::1` are the same. A name is not looked up, so that a network covers no name.
///
/// `host` is a name or an address, one of IPv6 with or without its brackets; `port` the one that is connected to.
pub fn is_no_proxy(list: &str, host: &str, port: u16) -> bool {
    let host = bare(host);
    let ip = address(host);
    list.split([',', ' ', '\t', '\n', '\r']).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some((network, bits)) = entry.split_once('/') {
            return ip.is_some_and(|ip| is_in_network(ip, network, bits));
        }
        // An address of IPv6 has colons of its own.
        let (name, only) = match entry.rsplit_once(':') {
            Some((name, digits)) if address(bare(entry)).is_none() => (name, Some(digits)),
            _ => (entry, None),
        };
        if only.is_some_and(|digits| digits.parse() != Ok(port)) {
            return false;
        }
        let name = bare(name);
        match (ip, address(name)) {
            (Some(ip), Some(other)) => ip == other,
            (None, None) => is_at_or_below(host, name.strip_prefix("*.").unwrap_or(name).trim_start_matches('.')),
            _ => false,
        }
    })
}

/// Without the brackets of an address, and without the dot at the end of a name.
fn bare(host: &str) -> &str {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    address.unwrap_or(host).trim_end_matches('.')
}

fn address(host: &str) -> Option<IpAddr> {
    host.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

fn is_at_or_below(host: &str, name: &str) -> bool {
    let Some(start) = host.len().checked_sub(name.len()) else { return false };
    let Some((before, end)) = host.split_at_checked(start) else { return false };
    !name.is_empty() && end.eq_ignore_ascii_case(name) && (before.is_empty() || before.ends_with('.'))
}

fn is_in_network(ip: IpAddr, network: &str, bits: &str) -> bool {
    let (Some(network), Ok(bits)) = (address(bare(network)), bits.parse::<u32>()) else { return false };
    let (differs, width) = match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => (u128::from(ip.to_bits() ^ network.to_bits()), u32::BITS),
        (IpAddr::V6(ip), IpAddr::V6(network)) => (ip.to_bits() ^ network.to_bits(), u128::BITS),
        _ => return false,
    };
    // A shift by all of the bits is more than the machine does: a network of 0 bits is every address.
    width.checked_sub(bits).is_some_and(|host_bits| differs.checked_shr(host_bits).unwrap_or(0) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cover_what_is_below_them() {
        for list in
            ["example.test", ".example.test", "*.example.test", "EXAMPLE.test.", "a, example.test", "a example.test"]
        {
            for host in ["example.test", "col.example.test", "a.b.Example.Test", "col.example.test."] {
                assert!(is_no_proxy(list, host, 443), "{list} {host}");
            }
            for host in ["notexample.test", "example.test.evil", "test", "192.0.2.7", "", "é.test"] {
                assert!(!is_no_proxy(list, host, 443), "{list} {host}");
            }
        }
        for host in ["h", "192.0.2.7", "[::1]"] {
            assert!(is_no_proxy("a,*", host, 80));
            for nothing in ["", ",", " , ", ".", "*.", "**", ":80", "/8", "/", "1.2.3.4/", "é"] {
                assert!(!is_no_proxy(nothing, host, 80), "{nothing} {host}");
            }
        }
    }

    #[test]
    fn a_port_is_that_one_only() {
        for (list, host) in [
            ("col.example.test:4318", "col.example.test"),
            ("example.test:4318", "col.example.test"),
            ("192.0.2.7:4318", "192.0.2.7"),
            ("[2001:db8::1]:4318", "[2001:db8::1]"),
        ] {
            assert!(is_no_proxy(list, host, 4318), "{list}");
            assert!(!is_no_proxy(list, host, 443), "{list}");
        }
        assert!(!is_no_proxy("h:99999,h:x,h:", "h", 80));
    }

    #[test]
    fn addresses_and_networks() {
        for (list, host, is) in [
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.70", false),
            ("2.7", "192.0.2.7", false),
            ("192.0.2.0/24", "192.0.2.7", true),
            ("192.0.2.0/24", "192.0.3.7", false),
            ("192.0.2.8/29", "192.0.2.7", false),
            ("192.0.2.7/32", "192.0.2.7", true),
            ("0.0.0.0/0", "192.0.2.7", true),
            ("0.0.0.0/0", "h", false),
            ("0.0.0.0/0", "[2001:db8::1]", false),
            ("192.0.2.0/33", "192.0.2.7", false),
            ("192.0.2.0/-1", "192.0.2.7", false),
            ("2001:db8::/32", "[2001:db8:1::2]", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "[2001:db8::1]", true),
            ("2001:db8::1", "[2001:db8:0::1]", true),
            ("[2001:db8::1]", "2001:db8::1", true),
            ("::ffff:192.0.2.7", "192.0.2.7", true),
        ] {
            assert_eq!(is_no_proxy(list, host, 443), is, "{list} {host}");
        }
    }
}
