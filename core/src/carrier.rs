//! Carriers: whatever holds the headers of a request, read and written in the spellings that frameworks use.
//!
//! A header's name comes in three spellings: as HTTP has it (`traceparent` in any case, also as bytes: most frameworks,
//! ASGI, gRPC metadata), as environment variables have it (`TRACEPARENT`), and as CGI and WSGI have it
//! (`HTTP_TRACEPARENT`). [`Collected`] takes all three from one pass over any foreign mapping. Lists of pairs and
//! `BTreeMap`s are carriers as they are.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::{fmt, iter};

use crate::baggage::Baggage;
use crate::octets::trim_ows;

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
                CGI_MARK => return Self::Cgi,
                b"PATH" => path = true,
                _ => {}
            }
            any = true;
            all_variables = all_variables && is_variable(name);
        }
        if path || any && all_variables { Self::Variable } else { Self::Http }
    }
}

/// A name that every CGI and WSGI environment has.
const CGI_MARK: &[u8] = b"REQUEST_METHOD";

/// What the name of an entry says to [`Collected::take`]: whoever copies a carrier needs the entries that have one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Kind(Option<(Header, Spelling)>);

impl Kind {
    /// What this name says; none if the entry does not matter.
    #[inline]
    pub fn of(name: &[u8]) -> Option<Self> {
        match spelled(name) {
            None if name == CGI_MARK => Some(Self(None)),
            None => None,
            header => Some(Self(header)),
        }
    }

    /// Whether a name of so many characters may say anything: few have these lengths, and a text's length may be at hand
    /// where the text is not.
    #[inline]
    pub const fn has_length(characters: usize) -> bool {
        matches!(characters, 7 | 10 | 11 | 12 | 14 | 15 | 16)
    }
}

/// Whether the name is one that OpenTelemetry gives environment variables: `[A-Z_][A-Z0-9_]*`.
fn is_variable(name: &[u8]) -> bool {
    name.first().is_some_and(|first| !first.is_ascii_digit())
        && name.iter().all(|octet| octet.is_ascii_uppercase() || octet.is_ascii_digit() || *octet == b'_')
}

/// The header of this name in any spelling.
pub fn header_of(name: &[u8]) -> Option<Header> {
    spelled(name).map(|(header, _)| header)
}

/// The header of this name and how it is spelled. Cheap for every other name: length and first letter tell most apart.
#[inline]
pub fn spelled(name: &[u8]) -> Option<(Header, Spelling)> {
    match (name.len(), name.first()?) {
        // As nearly everybody spells them.
        (11, b't') if name == b"traceparent" => Some((Header::Traceparent, Spelling::Http)),
        (10, b't') if name == b"tracestate" => Some((Header::Tracestate, Spelling::Http)),
        (7, b'b') if name == b"baggage" => Some((Header::Baggage, Spelling::Http)),
        (_, b'b' | b'B' | b't' | b'T' | b'H') => spelled_otherwise(name),
        _ => None,
    }
}

/// As [`spelled`], for every spelling.
fn spelled_otherwise(name: &[u8]) -> Option<(Header, Spelling)> {
    let (header, cgi) = match name.len() {
        7 => (Header::Baggage, false),
        10 => (Header::Tracestate, false),
        11 => (Header::Traceparent, false),
        12 => (Header::Baggage, true),
        15 => (Header::Tracestate, true),
        16 => (Header::Traceparent, true),
        _ => return None,
    };
    if cgi {
        // CGI names are upper case only: a header that somebody sends as "Http_Traceparent" is another header.
        return (name == header.spelled(Spelling::Cgi).as_bytes()).then_some((header, Spelling::Cgi));
    }
    // Rule TP1: names match in any ASCII case.
    let spelling =
        if name == header.spelled(Spelling::Variable).as_bytes() { Spelling::Variable } else { Spelling::Http };
    name.eq_ignore_ascii_case(header.name().as_bytes()).then_some((header, spelling))
}

/// A carrier that can be read.
pub trait Extractor {
    /// Calls `f` with every value of a header, in their order (rules TP11, TS1, B11 need all of them). `name` is given in
    /// lower case; names in the carrier match in any ASCII case (rule TP1).
    fn each<'a>(&'a self, name: &str, f: &mut dyn FnMut(&'a [u8]));

    /// Adds the values of the three headers to what was collected. A carrier that must be scanned for a name does all
    /// three in one pass here.
    fn collect_into<'a>(&'a self, collected: &mut Collected<'a>) {
        for header in Header::ALL {
            self.each(header.name(), &mut |value| collected.push(header.name().as_bytes(), value));
        }
    }

    /// The values of the three headers.
    fn collect(&self) -> Collected<'_> {
        let mut collected = Collected::default();
        self.collect_into(&mut collected);
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

/// The values of the three headers, gathered in one pass over any carrier. Nothing is allocated for headers in HTTP's
/// spelling, unless one repeats.
///
/// - Every line counts, also one that is equal to another: names in different case are the same name (rule TP1), so two
///   lines of `traceparent`, or one of `traceparent` and one of `TRACEPARENT`, are several headers (rule TP11). Lines of
///   the other two are joined (rules TS1, B11).
/// - Beside a CGI name (`HTTP_BAGGAGE`, `REQUEST_METHOD`), names of environment variables (`TRACEPARENT`) do not count:
///   WSGI servers such as Python's own put their process's environment and the request's headers in one mapping, and the
///   request's are meant.
/// - A blank line of `tracestate` or `baggage` says nothing (rules TS2, B1) and is left out. A blank `traceparent` is one
///   that is invalid.
#[derive(Clone, Default)]
pub struct Collected<'a> {
    // Small, so that it is cheap to pass on: there is rarely more than one line of a header.
    traceparent: Option<&'a [u8]>,
    tracestate: Option<&'a [u8]>,
    baggage: Option<&'a [u8]>,
    has_cgi: bool,
    more: Option<Box<More<'a>>>,
}

/// What does not fit into a few words.
#[derive(Clone, Default)]
struct More<'a> {
    traceparent: Lines<'a>,
    tracestate: Lines<'a>,
    baggage: Lines<'a>,
    /// Where lines stand that came under the names of environment variables, in the order in which they were added.
    variables: Vec<(Header, usize)>,
}

/// All lines of a header, the first one included, if there are several.
#[derive(Clone, Default)]
struct Lines<'a> {
    all: Vec<&'a [u8]>,
    /// There were more than [`MAX_LINES`].
    overflowed: bool,
}

impl<'a> More<'a> {
    const fn lines(&self, header: Header) -> &Lines<'a> {
        match header {
            Header::Traceparent => &self.traceparent,
            Header::Tracestate => &self.tracestate,
            Header::Baggage => &self.baggage,
        }
    }

    const fn lines_mut(&mut self, header: Header) -> &mut Lines<'a> {
        match header {
            Header::Traceparent => &mut self.traceparent,
            Header::Tracestate => &mut self.tracestate,
            Header::Baggage => &mut self.baggage,
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
        collected.extend(pairs);
        collected
    }

    /// Takes the headers among these pairs of name and value in.
    #[inline]
    pub fn extend<N, V>(&mut self, pairs: impl IntoIterator<Item = (N, &'a V)>)
    where
        N: AsRef<[u8]>,
        V: AsRef<[u8]> + ?Sized + 'a,
    {
        for (name, value) in pairs {
            self.push(name.as_ref(), value.as_ref());
        }
    }

    /// Takes a header in; one of another name is passed over.
    #[inline]
    pub fn push(&mut self, name: &[u8], value: &'a [u8]) {
        if let Some(kind) = Kind::of(name) {
            self.take(kind, value);
        }
    }

    /// Takes an entry in whose name is known.
    #[inline]
    pub fn take(&mut self, kind: Kind, value: &'a [u8]) {
        match kind.0 {
            Some((header, Spelling::Http)) => self.add(header, value),
            Some((header, spelling)) => self.add_spelled(header, spelling, value),
            None => self.leave_variables_out(),
        }
    }

    #[inline]
    fn add(&mut self, header: Header, value: &'a [u8]) {
        if header != Header::Traceparent && trim_ows(value).is_empty() {
            return;
        }
        let first = self.first_mut(header);
        match *first {
            None => *first = Some(value),
            Some(first) => self.add_another(header, first, value),
        }
    }

    #[cold]
    fn add_another(&mut self, header: Header, first: &'a [u8], value: &'a [u8]) {
        let lines = self.more.get_or_insert_default().lines_mut(header);
        if lines.all.is_empty() {
            lines.all.push(first);
        }
        if lines.all.len() < MAX_LINES {
            lines.all.push(value);
        } else {
            lines.overflowed = true;
        }
    }

    fn add_spelled(&mut self, header: Header, spelling: Spelling, value: &'a [u8]) {
        match spelling {
            Spelling::Http => self.add(header, value),
            Spelling::Variable if self.has_cgi => {}
            Spelling::Variable => {
                let at = self.values(header).len();
                self.add(header, value);
                if self.values(header).len() > at {
                    self.more.get_or_insert_default().variables.push((header, at));
                }
            }
            Spelling::Cgi => {
                self.leave_variables_out();
                self.add(header, value);
            }
        }
    }

    fn leave_variables_out(&mut self) {
        self.has_cgi = true;
        // From the back, so that places stay right.
        while let Some((header, at)) = self.more.as_mut().and_then(|more| more.variables.pop()) {
            self.remove(header, at);
        }
    }

    fn remove(&mut self, header: Header, at: usize) {
        let mut first = None;
        if let Some(more) = &mut self.more {
            let all = &mut more.lines_mut(header).all;
            if at < all.len() {
                all.remove(at);
            }
            first = all.first().copied();
        }
        *self.first_mut(header) = first;
    }

    /// The values of a header, in their order.
    #[inline]
    pub fn values(&self, header: Header) -> &[&'a [u8]] {
        match &self.more {
            Some(more) if !more.lines(header).all.is_empty() => &more.lines(header).all,
            _ => self.first(header).as_slice(),
        }
    }

    /// Whether none of the three headers is there.
    pub fn is_empty(&self) -> bool {
        Header::ALL.into_iter().all(|header| self.first(header).is_none())
    }

    /// Whether a header has more lines than are kept.
    pub(crate) fn overflowed(&self, header: Header) -> bool {
        self.more.as_ref().is_some_and(|more| more.lines(header).overflowed)
    }

    const fn first(&self, header: Header) -> &Option<&'a [u8]> {
        match header {
            Header::Traceparent => &self.traceparent,
            Header::Tracestate => &self.tracestate,
            Header::Baggage => &self.baggage,
        }
    }

    const fn first_mut(&mut self, header: Header) -> &mut Option<&'a [u8]> {
        match header {
            Header::Traceparent => &mut self.traceparent,
            Header::Tracestate => &mut self.tracestate,
            Header::Baggage => &mut self.baggage,
        }
    }
}

/// Header text does not belong in logs, where `{:?}` ends up (rule B14): this tells how many lines there are.
impl fmt::Debug for Collected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(Header::ALL.map(|header| (header.name(), self.values(header).len()))).finish()
    }
}

impl Extractor for Collected<'_> {
    fn each<'s>(&'s self, name: &str, f: &mut dyn FnMut(&'s [u8])) {
        if let Some(header) = header_of(name.as_bytes()) {
            self.values(header).iter().copied().for_each(f);
        }
    }

    fn collect_into<'s>(&'s self, collected: &mut Collected<'s>) {
        *collected = self.clone();
    }
}

/// Makes a type whose names and values can be iterated over a carrier.
macro_rules! extractor {
    (<$($more:ident: $kind:ty)?> $type:ty, |$pairs:ident| $iter:expr) => {
        impl<K: AsRef<[u8]>, V: AsRef<[u8]> $(, const $more: $kind)?> Extractor for $type {
            fn each<'a>(&'a self, name: &str, f: &mut dyn FnMut(&'a [u8])) {
                if let Some(header) = header_of(name.as_bytes()) {
                    self.collect().values(header).iter().copied().for_each(f);
                }
            }

            #[inline]
            fn collect_into<'a>(&'a self, collected: &mut Collected<'a>) {
                let $pairs = self;
                collected.extend($iter);
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
                assert!(Kind::has_length(name.len()));
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
        assert!(Kind::of(CGI_MARK).is_some() && Kind::has_length(CGI_MARK.len()) && !Kind::has_length("host".len()));
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
    fn environment_variables_do_not_count_beside_cgi_names() {
        // A WSGI environ that holds the process's environment, in either order.
        let environ = [("TRACEPARENT", "process"), ("BAGGAGE", "p=1"), ("HTTP_TRACEPARENT", "request")];
        let mut reversed = environ;
        reversed.reverse();
        for carrier in [environ, reversed] {
            assert_eq!(values(&carrier, "traceparent"), [b"request"]);
            assert!(values(&carrier, "baggage").is_empty());
        }
        // Also between lines that stay, in their order.
        let mixed = [("baggage", "1"), ("BAGGAGE", "2"), ("Baggage", "3"), ("BAGGAGE", "4"), ("HTTP_BAGGAGE", "5")];
        assert_eq!(values(&mixed, "baggage"), [b"1", b"3", b"5"]);
        assert_eq!(values(&mixed[1..], "baggage"), [b"3", b"5"]);
        assert_eq!(values(&mixed[..4], "baggage").len(), 4);
        // Otherwise each line is one, also one that is equal to another.
        for name in ["traceparent", "TRACEPARENT", "HTTP_TRACEPARENT"] {
            assert_eq!(values(&[("traceparent", "x"), (name, "x")], "traceparent").len(), 2, "{name}");
        }
    }

    #[test]
    fn lines_are_bounded() {
        let pairs: Vec<_> = (0..MAX_LINES + 5).map(|_| ("baggage", "a=1")).collect();
        let collected = pairs.collect();
        assert_eq!(collected.values(Header::Baggage).len(), MAX_LINES);
        assert!(collected.overflowed(Header::Baggage) && !collected.overflowed(Header::Tracestate));
        // Blank lines are none.
        let pairs: Vec<_> = (0..MAX_LINES + 5).map(|_| ("baggage", " \t")).chain([("baggage", "a=1")]).collect();
        assert_eq!(values(&pairs, "baggage"), [b"a=1"]);
        assert!(!pairs.collect().overflowed(Header::Baggage));
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
