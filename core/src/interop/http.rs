//! The header map of the `http` crate as a carrier: axum, hyper, reqwest, tonic and ureq all have it.
//!
//! ```
//! use http::{HeaderMap, HeaderValue};
//! use tracebaton::{Outbound, Policy};
//!
//! let mut incoming = HeaderMap::new();
//! incoming.append("baggage", HeaderValue::from_static("session_id=s;ttl=5"));
//! incoming.append("baggage", HeaderValue::from_static("k=v"));
//! let inbound = tracebaton::extract(&incoming, &Policy::default());
//!
//! let mut outgoing = HeaderMap::new();
//! tracebaton::inject(&mut outgoing, &Outbound { inbound: Some(&inbound.baggage), ..Outbound::default() });
//! assert_eq!(outgoing["baggage"], "session_id=s;ttl=5,k=v");
//! ```

use ::http::header::{HeaderName, HeaderValue};

use crate::carrier::{Extractor, Injector};

pub use ::http::HeaderMap;

impl Extractor for HeaderMap {
    fn each<'a>(&'a self, name: &str, f: &mut dyn FnMut(&'a [u8])) {
        self.get_all(name).iter().for_each(|value| f(value.as_bytes()));
    }
}

impl Injector for HeaderMap {
    /// A header that the map cannot hold, such as one whose value has a line end, leaves no value.
    fn set(&mut self, name: &str, value: &str) {
        let header = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
        // A full map (32,768 headers) is an error here; `insert` would panic.
        let set = header.is_some_and(|(name, value)| self.try_insert(name, value).is_ok());
        if !set {
            self.remove(name);
        }
    }

    fn unset(&mut self, name: &str) {
        self.remove(name);
    }
}
