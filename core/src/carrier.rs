//! Carriers: whatever holds the headers of a request, read and written in the spellings that frameworks use.
//!
//! A header's name comes in three spellings: as HTTP has it (`traceparent` in any case, also as bytes: most frameworks,
//! ASGI, gRPC metadata), as environment variables have it (`TRACEPARENT`), and as CGI and WSGI have it
//! (`HTTP_TRACEPARENT`). [`Collected`] takes all three from one pass over any foreign mapping. Lists of pairs and
//! `BTreeMap`s are carriers as they are.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::{fmt, iter};

use crate::baggage::Baggage;

/// A header that this crate reads and writes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Header {
    /// `traceparent`.
    Traceparent,
    /// `tracestate`.
    Tracestate,
    /// `baggage`.
    Baggage,
}

impl Header {
    /// All of them, in the order they are written in.
    pub const ALL: [Self; 3] = [Self::Traceparent, Self::Tracestate, Self::Baggage];

    /// Its name in lower case, the form to send (rule TP1).
    pub const fn name(self) -> &'static str {
        self.spelled(Spelling::Http)
    }

    /// Its name in this spelling.
    pub const fn spelled(self, spelling: Spelling) -> &'static str {
        match (self, spelling) {
            (Self::Traceparent, Spelling::Http) => "traceparent",
            (Self::Traceparent, Spelling::Variable) => "TRACEPARENT",
            (Self::Traceparent, Spelling::Cgi) => "HTTP_TRACEPARENT",
            (Self::Tracestate, Spelling::Http) => "tracestate",
            (Self::Tracestate, Spelling::Variable) => "TRACESTATE",
            (Self::Tracestate, Spelling::Cgi) => "HTTP_TRACESTATE",
            (Self::Baggage, Spelling::Http) => "baggage",
            (Self::Baggage, Spelling::Variable) => "BAGGAGE",
            (Self::Baggage, Spelling::Cgi) => "HTTP_BAGGAGE",
        }
    }
}

/// How a carrier spells the names of headers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Spelling {
    /// As HTTP does: any case, lower case when sent.
    #[default]
    Http,
    /// As environment variables: all upper case. A program may also have written an HTTP header so.
    Variable,
    /// As CGI and WSGI: all upper case, behind `HTTP_`.
    Cgi,
}

impl Spelling {
    /// How to spell a header that is added to a carrier with these names:
    ///
    /// - `HTTP_TRACEPARENT` where there is a `REQUEST_METHOD`, which every CGI and WSGI environment has;
    /// - `TRACEPARENT` where there is a `PATH`, or where there are names and all of them are those of environment
    ///   variables (`A-Z`, `0-9` and `_`). Headers written all in upper case are spelled so too, as they are legal so;
    /// - `traceparent` otherwise.
    pub fn of<N: AsRef<[u8]>>(names: impl IntoIterator<Item = N>) -> Self {
        let (mut any, mut path, mut all_variables) = (false, false, true);
        for name in names {
            let name = name.as_ref();
            match name {
                b"REQUEST_METHOD" => return Self::Cgi,
                b"PATH" => path = true,
                _ => {}
            }
            any = true;
            all_variables = all_variables && is_variable(name);
        }
        if path || any && all_variables { Self::Variable } else { Self::Http }
    }
}

/// Whether the name is one that OpenTelemetry gives environment variables: `[A-Z_][A-Z0-9_]*`.
fn is_variable(name: &[u8]) -> bool {
    name.first().is_some_and(|first| !first.is_ascii_digit())
        && name.iter().all(|octet| octet.is_ascii_uppercase() || octet.is_ascii_digit() || *octet == b'_')
}

/// The header of this name in any spelling. Cheap for every other name: length and first letter tell most apart.
pub fn header_of(name: &[u8]) -> Option<Header> {
    spelled(name).map(|(header, _)| header)
}

/// The header of this name and how it is spelled.
pub fn spelled(name: &[u8]) -> Option<(Header, Spelling)> {
    let (header, spelling) = match (name.len(), name.first()?) {
        (7, b'b' | b'B') => (Header::Baggage, Spelling::Http),
        (10, b't' | b'T') => (Header::Tracestate, Spelling::Http),
        (11, b't' | b'T') => (Header::Traceparent, Spelling::Http),
        (12, b'H') => (Header::Baggage, Spelling::Cgi),
        (15, b'H') => (Header::Tracestate, Spelling::Cgi),
        (16, b'H') => (Header::Traceparent, Spelling::Cgi),
        _ => return None,
    };
    // CGI names are upper case only: a header that somebody sends as "Http_Traceparent" is another header.
    let exact = header.spelled(spelling).as_bytes();
    match spelling {
        Spelling::Cgi => (name == exact).then_some((header, spelling)),
        _ if name == exact => Some((header, spelling)),
        _ if !name.eq_ignore_ascii_case(exact) => None,
        _ if name == header.spelled(Spelling::Variable).as_bytes() => Some((header, Spelling::Variable)),
        _ => Some((header, spelling)),
    }
}

/// A carrier that can be read.
pub trait Extractor {
    /// Calls `f` with every value of a header, in their order (rules TP11, TS1, B11 need all of them). `name` is given in
    /// lower case; names in the carrier match in any ASCII case (rule TP1).
    fn each<'a>(&'a self, name: &str, f: &mut dyn FnMut(&'a [u8]));

    /// The values of the three headers. A carrier that must be scanned for a name collects all three in one pass here.
    fn collect(&self) -> Collected<'_> {
        let mut collected = Collected::default();
        for header in Header::ALL {
            self.each(header.name(), &mut |value| collected.push(header.name().as_bytes(), value));
        }
        collected
    }
}

/// A carrier that can be written, and read for what it already holds.
pub trait Injector: Extractor {
    /// Sets a header to one value, replacing every value that it has under any spelling of its name. `name` is given in
    /// lower case.
    fn set(&mut self, name: &str, value: &str);

    /// Removes every value of a header under any spelling of its name. `name` is given in lower case.
    fn unset(&mut self, name: &str);
}

/// The most lines of one header that are kept: an honest caller has no more than it may have baggage members (rule
/// B15).
const MAX_LINES: usize = Baggage::MAX_MEMBERS;

/// The values of the three headers, gathered in one pass over any carrier. Nothing is allocated unless a header repeats.
///
/// Spellings do not add up to several headers where they mean the same one:
/// - a value that is there under two spellings counts once;
/// - beside a CGI name (`HTTP_BAGGAGE`), names of environment variables (`TRACEPARENT`) do not count: WSGI servers such
///   as Python's own put their process's environment and the request's headers in one mapping, and the request's are
///   meant.
///
/// Two values under one spelling stay two, also when they are equal (rule TP11).
#[derive(Clone, Default)]
pub struct Collected<'a> {
    traceparent: Lines<'a>,
    tracestate: Lines<'a>,
    baggage: Lines<'a>,
    has_cgi: bool,
}

#[derive(Clone, Copy)]
struct Line<'a> {
    value: &'a [u8],
    spelling: Spelling,
}

#[derive(Clone, Default)]
struct Lines<'a> {
    first: Option<Line<'a>>,
    rest: Vec<Line<'a>>,
    /// There were more than [`MAX_LINES`].
    overflowed: bool,
}

impl<'a> Lines<'a> {
    fn push(&mut self, line: Line<'a>) {
        if self.iter().any(|other| other.spelling != line.spelling && other.value == line.value) {
            return;
        }
        if self.first.is_none() {
            self.first = Some(line);
        } else if self.rest.len().saturating_add(1) < MAX_LINES {
            self.rest.push(line);
        } else {
            self.overflowed = true;
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Line<'a>> + Clone {
        self.first.iter().chain(&self.rest)
    }

    fn remove(&mut self, spelling: Spelling) {
        self.rest.retain(|line| line.spelling != spelling);
        if self.first.is_some_and(|line| line.spelling == spelling) {
            self.first = if self.rest.is_empty() { None } else { Some(self.rest.remove(0)) };
        }
    }
}

impl<'a> Collected<'a> {
    /// What these pairs of name and value hold.
    pub fn of<N, V>(pairs: impl IntoIterator<Item = (N, &'a V)>) -> Self
    where
        N: AsRef<[u8]>,
        V: AsRef<[u8]> + ?Sized + 'a,
    {
        let mut collected = Self::default();
        for (name, value) in pairs {
            collected.push(name.as_ref(), value.as_ref());
        }
        collected
    }

    /// Takes a header in; one of another name is passed over.
    pub fn push(&mut self, name: &[u8], value: &'a [u8]) {
        if let Some((header, spelling)) = spelled(name) {
            self.push_spelled(header, spelling, value);
        }
    }

    fn push_spelled(&mut self, header: Header, spelling: Spelling, value: &'a [u8]) {
        match spelling {
            Spelling::Variable if self.has_cgi => return,
            Spelling::Cgi if !self.has_cgi => {
                self.has_cgi = true;
                for lines in [&mut self.traceparent, &mut self.tracestate, &mut self.baggage] {
                    lines.remove(Spelling::Variable);
                }
            }
            _ => {}
        }
        let lines = match header {
            Header::Traceparent => &mut self.traceparent,
            Header::Tracestate => &mut self.tracestate,
            Header::Baggage => &mut self.baggage,
        };
        lines.push(Line { value, spelling });
    }

    /// The values of a header, in their order.
    pub fn values(&self, header: Header) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.lines(header).iter().map(|line| line.value)
    }

    /// Whether none of the three headers is there.
    pub fn is_empty(&self) -> bool {
        Header::ALL.into_iter().all(|header| self.lines(header).first.is_none())
    }

    /// Whether a header has more lines than are kept.
    pub(crate) fn overflowed(&self, header: Header) -> bool {
        self.lines(header).overflowed
    }

    fn lines(&self, header: Header) -> &Lines<'a> {
        match header {
            Header::Traceparent => &self.traceparent,
            Header::Tracestate => &self.tracestate,
            Header::Baggage => &self.baggage,
        }
    }
}

/// Header text does not belong in logs, where `{:?}` ends up (rule B14): this tells how many lines there are.
impl fmt::Debug for Collected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(Header::ALL.map(|header| (header.name(), self.lines(header).iter().count()))).finish()
    }
}

impl Extractor for Collected<'_> {
    fn each<'s>(&'s self, name: &str, f: &mut dyn FnMut(&'s [u8])) {
        if let Some(header) = header_of(name.as_bytes()) {
            self.values(header).for_each(f);
        }
    }

    fn collect(&self) -> Collected<'_> {
        self.clone()
    }
}

/// Makes a type whose names and values can be iterated over a carrier.
macro_rules! extractor {
    (<$($more:ident: $kind:ty)?> $type:ty, |$pairs:ident| $iter:expr) => {
        impl<K: AsRef<[u8]>, V: AsRef<[u8]> $(, const $more: $kind)?> Extractor for $type {
            fn each<'a>(&'a self, name: &str, f: &mut dyn FnMut(&'a [u8])) {
                if let Some(header) = header_of(name.as_bytes()) {
                    self.collect().values(header).for_each(f);
                }
            }

            fn collect(&self) -> Collected<'_> {
                let $pairs = self;
                Collected::of($iter)
            }
        }
    };
}

extractor!(<> [(K, V)], |pairs| pairs.iter().map(|(name, value)| (name, value)));
extractor!(<N: usize> [(K, V); N], |pairs| pairs.iter().map(|(name, value)| (name, value)));
extractor!(<> Vec<(K, V)>, |pairs| pairs.iter().map(|(name, value)| (name, value)));
extractor!(<> BTreeMap<K, V>, |map| map);

/// Whether a name in a carrier means the header `name`, which is in lower case.
fn is_variant(candidate: &[u8], name: &str) -> bool {
    candidate.eq_ignore_ascii_case(name.as_bytes())
        || spelled(candidate).is_some_and(|(header, _)| header.name() == name)
}

/// `name` as a carrier with these names spells it.
fn respell<N: AsRef<[u8]>>(names: impl IntoIterator<Item = N>, name: &str) -> &str {
    match header_of(name.as_bytes()) {
        Some(header) => header.spelled(Spelling::of(names)),
        None => name,
    }
}

impl<K, V> Injector for Vec<(K, V)>
where
    K: AsRef<[u8]> + for<'n> From<&'n str>,
    V: AsRef<[u8]> + for<'v> From<&'v str>,
{
    fn set(&mut self, name: &str, value: &str) {
        let spelled = respell(self.iter().map(|(name, _)| name), name);
        self.unset(name);
        self.push((spelled.into(), value.into()));
    }

    fn unset(&mut self, name: &str) {
        self.retain(|(candidate, _)| !is_variant(candidate.as_ref(), name));
    }
}

impl<K, V> Injector for BTreeMap<K, V>
where
    K: AsRef<[u8]> + Ord + for<'n> From<&'n str>,
    V: AsRef<[u8]> + for<'v> From<&'v str>,
{
    fn set(&mut self, name: &str, value: &str) {
        let spelled = respell(self.keys(), name);
        self.unset(name);
        self.extend(iter::once((spelled.into(), value.into())));
    }

    fn unset(&mut self, name: &str) {
        self.retain(|candidate, _| !is_variant(candidate.as_ref(), name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use alloc::vec;

    fn values<E: Extractor + ?Sized>(carrier: &E, name: &str) -> Vec<Vec<u8>> {
        let mut values = Vec::new();
        carrier.each(name, &mut |value| values.push(value.to_vec()));
        values
    }

    #[test]
    fn every_spelling_is_known() {
        for header in Header::ALL {
            for (spelling, name) in
                [Spelling::Http, Spelling::Variable, Spelling::Cgi].map(|one| (one, header.spelled(one)))
            {
                assert_eq!(spelled(name.as_bytes()), Some((header, spelling)));
            }
            let mut title = String::from(header.name());
            title.get_mut(..1).unwrap().make_ascii_uppercase();
            assert_eq!(spelled(title.as_bytes()), Some((header, Spelling::Http)));
        }
        for other in [
            "",
            "traceparen",
            "traceparents",
            "http_baggage",
            "HTTP_baggage",
            "HTTPXBAGGAGE",
            "trace-parent",
            "baggagf",
        ] {
            assert_eq!(header_of(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn all_values_are_found_in_order() {
        let pairs = [("Baggage", "a=1"), ("host", "x"), ("BAGGAGE", "b=2"), ("baggage", "c=3")];
        assert_eq!(values(&pairs, "baggage"), [b"a=1", b"b=2", b"c=3"]);
        assert_eq!(values(&pairs[..], "tracestate"), Vec::<Vec<u8>>::new());
        let bytes: Vec<(&[u8], &[u8])> = vec![(b"traceparent", b"x"), (b"traceparent", b"x")];
        assert_eq!(values(&bytes, "traceparent").len(), 2, "two equal headers are two");
        let map = BTreeMap::from([("HTTP_TRACEPARENT", "x"), ("REQUEST_METHOD", "GET")]);
        assert_eq!(values(&map, "traceparent"), [b"x"]);
    }

    #[test]
    fn spellings_of_one_header_do_not_add_up() {
        // A WSGI environ that holds the process's environment, in either order.
        let environ = [("TRACEPARENT", "process"), ("BAGGAGE", "p=1"), ("HTTP_TRACEPARENT", "request")];
        let mut reversed = environ;
        reversed.reverse();
        for carrier in [environ, reversed] {
            assert_eq!(values(&carrier, "traceparent"), [b"request"]);
            assert!(values(&carrier, "baggage").is_empty());
        }
        // The same value under two spellings is one; different values are two.
        assert_eq!(values(&[("traceparent", "x"), ("HTTP_TRACEPARENT", "x")], "traceparent").len(), 1);
        assert_eq!(values(&[("traceparent", "x"), ("HTTP_TRACEPARENT", "y")], "traceparent").len(), 2);
        assert_eq!(values(&[("traceparent", "x"), ("TRACEPARENT", "x")], "traceparent").len(), 1);
    }

    #[test]
    fn lines_are_bounded() {
        let pairs: Vec<_> = (0..MAX_LINES + 5).map(|_| ("baggage", "a=1")).collect();
        let collected = pairs.collect();
        assert_eq!(collected.values(Header::Baggage).count(), MAX_LINES);
        assert!(collected.overflowed(Header::Baggage) && !collected.overflowed(Header::Tracestate));
    }

    #[test]
    fn set_leaves_one_value_under_one_name() {
        let mut pairs: Vec<(String, String)> =
            [("Traceparent", "old"), ("host", "x"), ("TRACEPARENT", "old")].map(|(k, v)| (k.into(), v.into())).into();
        pairs.set("traceparent", "new");
        assert_eq!(pairs, [("host", "x"), ("traceparent", "new")].map(|(k, v)| (k.into(), v.into())));
        pairs.set("X-Other", "1");
        pairs.set("x-other", "2");
        assert_eq!(values(&pairs, "traceparent"), [b"new"]);
        assert_eq!(pairs.len(), 3);

        let mut bytes: Vec<(Vec<u8>, Vec<u8>)> = vec![(b"Baggage".to_vec(), b"a=1".to_vec())];
        bytes.unset("baggage");
        assert!(bytes.is_empty());
    }

    #[test]
    fn names_are_spelled_as_the_carrier_spells_its_own() {
        for (names, expected) in [
            (&[][..], "traceparent"),
            (&["content-type"], "traceparent"),
            (&["Content-Type", "PATH_INFO"], "traceparent"),
            (&["http_proxy", "PATH"], "TRACEPARENT"),
            (&["HOME", "LC_ALL"], "TRACEPARENT"),
            (&["wsgi.input", "REQUEST_METHOD", "PATH"], "HTTP_TRACEPARENT"),
        ] {
            let mut map: BTreeMap<String, String> = names.iter().map(|name| ((*name).into(), "x".into())).collect();
            map.set("traceparent", "v");
            assert_eq!(map.get(expected).map(String::as_str), Some("v"), "{names:?}");
            assert_eq!(map.len(), names.len() + 1);
        }
    }
}
