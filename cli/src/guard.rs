//! Who may talk to the viewer.
//!
//! It listens on loopback, which every web page in the user's browser can reach too: by a name that an attacker points
//! at 127.0.0.1 (told by its `Host`), or across origins (told by its `Origin`). Neither is answered. Where there is a
//! token, whoever has it may.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::{HeaderValue, Method, Request, StatusCode, header};

use crate::body::Refusal;

/// What requests have to show.
pub(crate) struct Guard {
    /// Bound to loopback: requests name a local host.
    local: bool,
    token: Option<String>,
}

/// What a request was let in as.
#[derive(Debug)]
pub(crate) enum Admission {
    /// A request, with the headers that its answer needs for the page it came from to read it.
    Request(Option<HeaderValue>),
    /// The question of a browser whether it may send one, for a page of this origin.
    Preflight(HeaderValue),
}

impl Guard {
    pub(crate) fn new(local: bool, token: Option<String>) -> Self {
        Self { local, token }
    }

    /// 403 for a foreign `Host` or `Origin`, 401 for a missing or wrong token.
    pub(crate) fn admit<B>(&self, request: &Request<B>) -> Result<Admission, Refusal> {
        let headers = request.headers();
        if self.local && !names_local_host(request) {
            return Err(Refusal(StatusCode::FORBIDDEN, "the Host of the request is not local".to_owned()));
        }
        let origin = headers.get(header::ORIGIN);
        let local_origin = origin.filter(|origin| is_local_origin(origin));
        let asks = request.method() == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        match (origin, local_origin) {
            // Browsers send no token with a preflight.
            (_, Some(origin)) if asks => return Ok(Admission::Preflight(origin.clone())),
            (Some(_), None) if asks || self.token.is_none() => {
                return Err(Refusal(StatusCode::FORBIDDEN, "the Origin of the request is not local".to_owned()));
            }
            _ => {}
        }
        if let Some(token) = &self.token
            && !given_tokens(request).any(|given| same(given.as_bytes(), token.as_bytes()))
        {
            return Err(Refusal(
                StatusCode::UNAUTHORIZED,
                "send the token: Authorization: Bearer TOKEN, or ?token=TOKEN".to_owned(),
            ));
        }
        Ok(Admission::Request(local_origin.cloned()))
    }
}

/// The token by `Authorization` and by query.
fn given_tokens<B>(request: &Request<B>) -> impl Iterator<Item = String> {
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(request.uri())
        .map(|query| query.0)
        .unwrap_or_default()
        .into_iter()
        .find(|(key, _)| key == "token")
        .map(|(_, token)| token);
    bearer.into_iter().chain(query)
}

/// Compares in a time that tells the length only.
fn same(given: &[u8], token: &[u8]) -> bool {
    given.len() == token.len() && given.iter().zip(token).fold(0, |sum, (left, right)| sum | (left ^ right)) == 0
}

fn names_local_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    // A request to a proxy names its host in the request line as well.
    let target_is_local = request.uri().authority().is_none_or(|authority| is_local(authority.as_str()));
    target_is_local && host.to_str().is_ok_and(is_local)
}

/// `localhost`, an address in 127.0.0.0/8 or `[::1]`, with or without a port.
pub(crate) fn is_local(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            if address.parse::<Ipv6Addr>() != Ok(Ipv6Addr::LOCALHOST) {
                return false;
            }
            ("", port)
        }
        None => match authority.find(':') {
            Some(at) => authority.split_at(at),
            None => (authority, ""),
        },
    };
    let port_is_one = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| {
            // `parse` alone would take a sign too.
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
        });
    let host_is_local = authority.starts_with('[')
        || host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    port_is_one && host_is_local
}

fn is_local_origin(origin: &HeaderValue) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")).is_some_and(is_local)
}

/// Loopback, also as the IPv6 form of an IPv4 address.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status that a request gets, 200 for one that is let in and 204 for a preflight that is answered.
    fn status(guard: &Guard, method: &str, target: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match guard.admit(&request.body(()).unwrap()) {
            Ok(Admission::Request(_)) => 200,
            Ok(Admission::Preflight(_)) => 204,
            Err(refusal) => refusal.0.as_u16(),
        }
    }

    #[test]
    fn local_hosts() {
        for host in [
            "localhost",
            "LocalHost:4318",
            "127.0.0.1",
            "127.0.0.1:1",
            "127.255.3.4:65535",
            "[::1]",
            "[::1]:4318",
            "[0:0:0:0:0:0:0:1]:80",
        ] {
            assert!(is_local(host), "{host}");
        }
    }

    #[test]
    fn foreign_hosts() {
        for host in [
            "",
            ":4318",
            "[]",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "[::2]",
            "::1",
            "[127.0.0.1]",
            "[localhost]",
            "example.com",
            "localhost.example.com",
            "example.com:localhost",
            "localhost:",
            "localhost:+1",
            "localhost:99999",
            "localhost:80:80",
            "127.0.0.1.example.com",
            "127.1",
            "0177.0.0.1",
            "2130706433",
            "128.0.0.1",
            "0.0.0.0",
            "user@localhost",
            "localhost@example.com",
            " localhost",
            "localhost/",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn one_local_host_is_needed() {
        let guard = Guard::new(true, None);
        let ask = |target, hosts: &[&str]| {
            let headers: Vec<(&str, &str)> = hosts.iter().map(|host| ("host", *host)).collect();
            status(&guard, "GET", target, &headers)
        };
        assert_eq!(ask("/", &["127.0.0.1:4318"]), 200);
        assert_eq!(ask("/", &["attacker.example"]), 403);
        assert_eq!(ask("/", &[]), 403);
        assert_eq!(ask("/", &["localhost", "localhost"]), 403);
        assert_eq!(ask("http://attacker.example/", &["localhost"]), 403);
        assert_eq!(ask("http://localhost/", &["localhost"]), 200);
    }

    #[test]
    fn pages_of_other_sites_are_refused_and_local_ones_answered() {
        let guard = Guard::new(true, None);
        let ask = |method, origin, more: &[(&str, &str)]| {
            let headers = [&[("host", "localhost:4318"), ("origin", origin)], more].concat();
            status(&guard, method, "/v1/traces", &headers)
        };
        let preflight = &[("access-control-request-method", "POST")];
        for origin in ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:5173"] {
            assert_eq!(ask("POST", origin, &[]), 200, "{origin}");
            assert_eq!(ask("OPTIONS", origin, preflight), 204, "{origin}");
        }
        for origin in ["https://example.com", "null", "http://localhost.example.com", "file://localhost", ""] {
            assert_eq!(ask("POST", origin, &[]), 403, "{origin}");
            assert_eq!(ask("OPTIONS", origin, preflight), 403, "{origin}");
        }
    }

    #[test]
    fn a_token_is_asked_for_in_either_place() {
        let guard = Guard::new(false, Some("s3cret&more".to_owned()));
        let ask = |target, headers: &[(&str, &str)]| status(&guard, "GET", target, headers);
        let host = ("host", "box.example:4318");
        assert_eq!(ask("/", &[host]), 401);
        assert_eq!(ask("/", &[host, ("authorization", "Bearer s3cret&more")]), 200);
        assert_eq!(ask("/", &[host, ("authorization", "bearer s3cret&more")]), 200);
        assert_eq!(ask("/", &[host, ("authorization", "Bearer s3cret&mor")]), 401);
        assert_eq!(ask("/", &[host, ("authorization", "Bearer s3cret&morf")]), 401);
        assert_eq!(ask("/", &[host, ("authorization", "s3cret&more")]), 401);
        assert_eq!(ask("/?token=s3cret%26more", &[host]), 200);
        assert_eq!(ask("/?a=b&token=s3cret", &[host]), 401);
        // With the token, a page of the viewer's own address may post.
        let own = ("origin", "http://box.example:4318");
        assert_eq!(ask("/?token=s3cret%26more", &[host, own]), 200);
        assert_eq!(ask("/", &[host, own]), 401);
    }

    #[test]
    fn a_token_on_loopback_does_not_open_it_to_other_hosts() {
        let guard = Guard::new(true, Some("t".to_owned()));
        assert_eq!(status(&guard, "GET", "/?token=t", &[("host", "example.com")]), 403);
        assert_eq!(status(&guard, "GET", "/?token=t", &[("host", "localhost")]), 200);
        assert_eq!(status(&guard, "GET", "/", &[("host", "localhost")]), 401);
    }
}
