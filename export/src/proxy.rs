//! The proxy that the environment names for a destination.

use std::net::IpAddr;

use tracebaton::settings::{basic_credentials, is_no_proxy};
use ureq::http::Uri;
use ureq::http::uri::{PathAndQuery, Scheme};
use ureq::{Proxy, ProxyProtocol};

use crate::destination::Destination;

/// The proxy for a destination: `HTTPS_PROXY` or `HTTP_PROXY`, by the scheme of the destination, else `ALL_PROXY`, in
/// lower or upper case, except for what [`NO_PROXY`](is_no_proxy) covers. This machine is always reached directly: a
/// proxy elsewhere has another idea of `localhost`. `variable` reads the environment.
///
/// # Errors
///
/// What to tell people where a variable holds something else than a proxy that can be used: the destination is then
/// reached directly (SET2). It names the variable and quotes nothing of it.
pub(crate) fn of(
    destination: &Destination,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, String> {
    let Ok(uri) = destination.url.parse::<Uri>() else { return Ok(None) };
    let Some(host) = uri.host().map(|host| host.trim_matches(['[', ']'])) else { return Ok(None) };
    if host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()) {
        return Ok(None);
    }
    // In a CGI program `HTTP_PROXY` is a header of the request ("httpoxy").
    let cgi = variable("REQUEST_METHOD").is_some();
    let variable = |name: &str| {
        let upper = (!cgi || name != "http_proxy").then(|| name.to_ascii_uppercase());
        [Some(name.to_owned()), upper].into_iter().flatten().find_map(|name| {
            let value = variable(&name)?;
            let value = value.trim();
            (!value.is_empty()).then(|| (name, value.to_owned()))
        })
    };
    let (scheme, port) = if uri.scheme() == Some(&Scheme::HTTPS) { ("https_proxy", 443) } else { ("http_proxy", 80) };
    let Some((name, value)) = variable(scheme).or_else(|| variable("all_proxy")) else { return Ok(None) };
    let port = uri.port_u16().unwrap_or(port);
    if variable("no_proxy").is_some_and(|(_, list)| is_no_proxy(&list, host, port)) {
        return Ok(None);
    }
    let usable = |proxy: &Proxy| {
        matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) && !proxy.host().is_empty()
    };
    Proxy::new(&value).ok().filter(usable).map(Some).ok_or_else(|| {
        let url = destination.shown_url();
        format!("{name} is not the http:// or https:// URL of a proxy: {url} is reached without one")
    })
}

/// How requests to an `http` destination go through a proxy: the proxy is asked for the whole URL (RFC 9112 §3.2.2). A
/// tunnel, as for `https`, is what many proxies give to port 443 only.
#[derive(Clone)]
pub(crate) struct Forward {
    /// `http://host:port` of the destination, which goes before the path of a request.
    pub(crate) origin: String,
    /// The `Host` of requests.
    pub(crate) host: String,
    /// The proxy's own user and password, as the value of a header.
    pub(crate) authorization: Option<String>,
    /// The URL of the proxy, without these.
    proxy: Uri,
}

impl Forward {
    /// Nothing for a destination that needs a tunnel: an `https` one, or one with credentials in its URL, which the
    /// library takes from there.
    pub(crate) fn of(destination: &Destination, proxy: &Proxy) -> Option<Self> {
        let uri: Uri = destination.url.parse().ok()?;
        let host = uri.authority()?.as_str().to_owned();
        if uri.scheme() != Some(&Scheme::HTTP) || host.contains('@') {
            return None;
        }
        let scheme = if proxy.protocol() == ProxyProtocol::Https { "https" } else { "http" };
        let authorization = (proxy.username().is_some() || proxy.password().is_some()).then(|| {
            let (user, password) = (proxy.username().unwrap_or_default(), proxy.password().unwrap_or_default());
            basic_credentials(&format!("{user}:{password}"))
        });
        let proxy = format!("{scheme}://{}:{}", proxy.host(), proxy.port()).parse().ok()?;
        Some(Self { origin: format!("http://{host}"), host, authorization, proxy })
    }

    /// The URL to call instead of this one: with the proxy as its host.
    pub(crate) fn url(&self, url: &str) -> Option<Uri> {
        let path = url.parse::<Uri>().ok()?.into_parts().path_and_query;
        let mut parts = self.proxy.clone().into_parts();
        parts.path_and_query = Some(path.unwrap_or(PathAndQuery::from_static("/")));
        Uri::from_parts(parts).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tracebaton::settings::Tls;

    use super::*;
    use crate::destination::Encoding;

    fn destination(url: &str) -> Destination {
        Destination {
            url: url.into(),
            headers: Vec::new(),
            encoding: Encoding::Protobuf,
            gzip: false,
            timeout: Duration::from_secs(1),
            user_agent: String::new(),
            tls: Tls::default(),
        }
    }

    fn resolved(url: &str, environment: &[(&str, &str)]) -> Result<Option<Proxy>, String> {
        of(&destination(url), |name| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[track_caller]
    fn found(url: &str, environment: &[(&str, &str)]) -> Option<String> {
        resolved(url, environment).unwrap().map(|proxy| format!("{}:{}", proxy.host(), proxy.port()))
    }

    #[test]
    fn by_scheme_and_never_for_this_machine() {
        let both = [("HTTP_PROXY", "http://plain:1"), ("HTTPS_PROXY", "http://user:pass@tls:2")];
        assert_eq!(found("http://a.example/", &both).as_deref(), Some("plain:1"));
        assert_eq!(found("https://a.example/", &both).as_deref(), Some("tls:2"));
        assert_eq!(found("https://a.example/", &both[..1]), None);
        let fallback = [("https_proxy", ""), ("all_proxy", "all:3")];
        assert_eq!(found("https://a.example/", &fallback).as_deref(), Some("all:3"));
        for local in ["http://localhost:4318", "http://127.0.0.1:4318", "https://[::1]:4318", "http://LOCALHOST"] {
            assert_eq!(found(local, &both), None, "{local}");
        }
        assert_eq!(found("http://a.example/", &[("HTTP_PROXY", "http://evil:1"), ("REQUEST_METHOD", "GET")]), None);
        assert_eq!(found("http://a.example/", &[]), None);
    }

    #[test]
    fn only_plain_requests_are_forwarded() {
        let proxy = Proxy::new("https://us%40er:p%3Aw@proxy.example:3128").unwrap();
        let forward = |url: &str| Forward::of(&destination(url), &proxy);
        let forwarded = forward("http://a.example:4318/v1?x=1").unwrap();
        assert_eq!((&*forwarded.origin, &*forwarded.host), ("http://a.example:4318", "a.example:4318"));
        assert_eq!(forwarded.authorization.as_deref(), Some("Basic dXNAZXI6cDp3"));
        for (url, instead) in [
            ("http://a.example:4318/v1?x=1", "https://proxy.example:3128/v1?x=1"),
            ("http://a.example", "https://proxy.example:3128/"),
        ] {
            assert_eq!(forwarded.url(url).unwrap().to_string(), instead);
        }
        assert!(forward("https://a.example/").is_none() && forward("http://user@a.example/").is_none());
        assert!(Forward::of(&destination("http://[::1]"), &Proxy::new("p").unwrap()).unwrap().authorization.is_none());
    }

    #[test]
    fn except_for_what_no_proxy_covers() {
        let except = [("http_proxy", "plain:1"), ("https_proxy", "tls:2"), ("no_proxy", "b.example, c.example:443")];
        for url in ["http://b.example/", "http://x.b.example:4318/", "https://c.example/", "https://x.c.example:443/"] {
            assert_eq!(found(url, &except), None, "{url}");
        }
        assert_eq!(found("http://c.example/", &except).as_deref(), Some("plain:1"));
        assert_eq!(found("https://c.example:4318/", &except).as_deref(), Some("tls:2"));
        assert_eq!(found("http://[2001:db8::1]:4318/", &[("HTTP_PROXY", "p:1"), ("NO_PROXY", "2001:db8::/32")]), None);
    }

    #[test]
    fn what_is_no_proxy_is_warned_of_and_not_quoted() {
        for value in
            ["://s3cr3t", "::bad::s3cr3t", "socks5://u:s3cr3t@p:1", "ftp://s3cr3t", "http://", "s3 cr3t", "/s3cr3t"]
        {
            for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
                let warning = resolved("http://a.example:4318/k3y", &[(name, value)]).unwrap_err();
                let expected =
                    "is not the http:// or https:// URL of a proxy: http://a.example:4318 is reached without one";
                assert_eq!(warning, format!("{name} {expected}"));
            }
            // Nobody needs to know where it has no effect.
            assert_eq!(found("http://a.example/", &[("HTTP_PROXY", value), ("NO_PROXY", "*")]), None);
            assert_eq!(found("http://localhost/", &[("HTTP_PROXY", value)]), None);
        }
    }
}
