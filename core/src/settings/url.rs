//! The few things that must be known of a URL: where its parts are, and that it can be called at all.

use alloc::format;
use alloc::string::String;

use crate::{escape, percent};

/// What a URL must be.
pub(super) const EXPECTED: &str = "an http:// or https:// URL";

/// An `http` or `https` URL, in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url<'a> {
    secure: bool,
    /// `user:password`, as it stands in the URL.
    userinfo: Option<&'a str>,
    /// A name or an address; one of IPv6 in its brackets.
    host: &'a str,
    pub(super) port: Option<u16>,
    /// Empty, or from its `/` on.
    pub(super) path: &'a str,
    /// Without its `?`.
    pub(super) query: Option<&'a str>,
}

impl<'a> Url<'a> {
    /// Takes a URL apart; its fragment is left out. The error says what it should be, and quotes nothing.
    pub(super) fn parse(text: &'a str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or(EXPECTED)?;
        let secure = scheme.eq_ignore_ascii_case("https");
        if !secure && !scheme.eq_ignore_ascii_case("http") {
            return Err(EXPECTED);
        }
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a URL without white space and with other than ASCII characters percent-encoded");
        }
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (rest, query) = match rest.split_once('?') {
            Some((before, query)) => (before, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len())).unwrap_or((rest, ""));
        let (userinfo, place) = match authority.rsplit_once('@') {
            Some((userinfo, place)) => (Some(userinfo).filter(|text| !text.is_empty()), place),
            None => (None, authority),
        };
        // The colons inside an IPv6 address come before its bracket.
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port).filter(|text| !text.is_empty())),
            _ => (place, None),
        };
        let bracketed = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || (!bracketed && host.contains([':', '[', ']'])) {
            return Err("a URL with a host");
        }
        let port = match port {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let port = digits.parse().ok().filter(|port| *port != 0);
                Some(port.ok_or("a URL whose port is from 1 to 65535")?)
            }
            Some(_) => return Err("a URL whose port is a number"),
            None => None,
        };
        Ok(Self { secure, userinfo, host, port, path, query })
    }

    /// The URL without credentials, with `more` after its path. Slashes at the path's end are left out before it.
    pub(super) fn join(&self, more: &str) -> String {
        self.write(self.path.trim_end_matches('/'), more)
    }

    /// The URL without credentials; a path that is empty is `/`.
    pub(super) fn as_is(&self) -> String {
        self.write(if self.path.is_empty() { "/" } else { self.path }, "")
    }

    fn write(&self, path: &str, more: &str) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let query = self.query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{scheme}://{}{port}{path}{more}{query}", self.host)
    }

    pub(super) fn has_userinfo(&self) -> bool {
        self.userinfo.is_some()
    }

    /// The URL's credentials as the value of an `Authorization` header (RFC 7617). They never stay in the URL: it
    /// appears in messages, and browsers' and edge runtimes' `fetch` refuses such URLs.
    pub(super) fn authorization(&self) -> Option<String> {
        let userinfo = self.userinfo?;
        let credentials = if userinfo.contains(':') { userinfo.into() } else { format!("{userinfo}:") };
        Some(basic_credentials(&percent::decode(&credentials)))
    }
}

/// The value of an `Authorization` or `Proxy-Authorization` header (RFC 7617) for `user:password`. **Secret.**
pub fn basic_credentials(credentials: &str) -> String {
    let mut header = String::from("Basic ");
    escape::base64(credentials.as_bytes(), &mut |piece| header.push_str(piece));
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = Url::parse("HTTPS://us%40er:p@ss@[::1]:4318/a/b/?x=1&y=/#part").unwrap();
        assert_eq!((url.secure, url.userinfo, url.host), (true, Some("us%40er:p@ss"), "[::1]"));
        assert_eq!((url.port, url.path, url.query), (Some(4318), "/a/b/", Some("x=1&y=/")));
        assert_eq!(url.as_is(), "https://[::1]:4318/a/b/?x=1&y=/");
        assert_eq!(url.join("/v1"), "https://[::1]:4318/a/b/v1?x=1&y=/");
        assert_eq!(Url::parse("http://h").unwrap().as_is(), "http://h/");
        assert_eq!(Url::parse("http://h:/").unwrap().as_is(), "http://h/");
        assert_eq!(Url::parse("http://h?q").unwrap().join("/v1"), "http://h/v1?q");
        assert_eq!(Url::parse("http://h//").unwrap().join("/v1"), "http://h/v1");
        assert_eq!(Url::parse("http://[fe80::1]/x").unwrap().host, "[fe80::1]");
    }

    #[test]
    fn what_cannot_be_called_is_refused() {
        for text in [
            "",
            "h",
            "h:4318",
            "ftp://h",
            "://h",
            "http://",
            "http://:80",
            "http:///x",
            "http://u@",
            "http://h:x",
            "http://h:65536",
            "http://h:99999",
            "http://h:0",
            "http://h:-1",
            "http://a b",
            "http://h/\r\nX: y",
            "http://hä",
            "http://::1",
            "http://[::1",
            "http://h:1:2",
        ] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn credentials_become_a_header() {
        for (url, header) in [
            ("http://h", None),
            ("http://@h", None),
            ("http://Aladdin:open%20sesame@h", Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")),
            ("http://user@h", Some("Basic dXNlcjo=")),
            ("http://a:bc@h", Some("Basic YTpiYw==")),
            ("http://a:b@h", Some("Basic YTpi")),
            ("http://a:%C3%A4@h", Some("Basic YTrDpA==")),
            ("http://a:%7F%3F%3E@h", Some("Basic YTp/Pz4=")),
        ] {
            assert_eq!(Url::parse(url).unwrap().authorization().as_deref(), header, "{url}");
        }
    }
}
