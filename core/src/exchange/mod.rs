//! The exchange with a language that has no shared objects with Rust: requests, answers and span records as bytes.
//!
//! JavaScript reaches core through one piece of memory, native or WebAssembly's: it writes a request at its beginning,
//! calls an operation, and reads the answer from its beginning. Spans that have ended are handed over as chunks of
//! records. Everything here is free of I/O, clock and randomness; what needs those (exporters, statistics, sessions at
//! HoneyHive) is done by the backend that holds the memory, with the same encodings.
//!
//! Whatever the bytes are, decoding never panics: a request that is cut short or malformed is an error, a record that is
//! one is left out and counted.
//!
//! # Encodings
//!
//! All numbers are little-endian. A *word* is a `u32`; the fixed parts of requests and answers are words from offset 0
//! on, so that they may be read and written through an aligned view. What follows them is packed.
//!
//! - *text*: word length in bytes, then so many bytes of UTF-8 (what is not UTF-8 is read with U+FFFD).
//! - *blob*: word length, then so many bytes of a [scope](crate::SessionScope), which only this module reads; empty for
//!   the scope that says nothing.
//! - *shared text*, *shared blob* (in chunks only): as a text or blob, or one word: [`SHARED`] plus the offset, from the
//!   beginning of the chunk, of a text or blob that was written in full before.
//! - *tree*: a value, by its first byte: 0 null, 1 false, 2 true, 3 `i64`, 4 `f64`, 5 text, 6 bytes (as a text), 7 list
//!   (word count, then trees), 8 map (word count, then a text and a tree each). Nested at most [`MAX_DEPTH`] deep.
//! - *time*: two `f64`, a base in milliseconds since 1970 and an offset in milliseconds that is added to it: each is
//!   rounded to whole nanoseconds for itself, so that nothing is lost to the size of the sum.
//! - *pairs*: for each word length of the name, word length of the value, name, value.
//! - *pool*: the texts of an answer behind its words, in the order of their lengths. These count UTF-16 units, so that
//!   JavaScript decodes the pool once and takes substrings.
//! - [`ABSENT`] as a length says that there is none (an empty one is something else).
//!
//! # Operations
//!
//! An operation has a number ([`Op`]), the handle of a tracer (0: none) and a request. An answer that is an error is a
//! tree: map `kind` (`type`, `value` or `internal`), `message`, and `argument` where one is to blame: then the message is
//! what follows its name, such as "must be a string, not a number".
//!
//! | operation | request | answer |
//! | --- | --- | --- |
//! | `Init` | tree: see [`options`] | word handle, tree: see [`options`] |
//! | `Drop` | empty | empty; the handle is no longer valid |
//! | `Extract` | words: 0 bits ([`EXTRACT_CURRENT`] …), 1 length of `traceparent` or `ABSENT`, 2 `tracestate`, 3 `baggage`, 4 blob of the outer scope (0: none), 5 tree of a policy that holds in place of the tracer's (0: none); then, packed: with `EXTRACT_CURRENT` the current span's trace id as 32 hex digits, then the values of 1 to 5 in this order | see below |
//! | `ExtractNamed` | the same with the number of pairs in word 1, and 0 in 2 and 3; the pairs come last | see below |
//! | `ScopeView` | the blob | see below |
//! | `ScopeWithSession` | words: 0 bits (1: registered by somebody else, 2: there is a name), 1 length of the outer blob, 2 of the session, 3 of the name; packed: these | the blob |
//! | `Inject` | see below | see below |
//! | `Explain` | words: 0 bits (1: with texts), 1 length of the policy (a tree; 0: none), 2 number of pairs; policy, pairs | tree: list of maps `header`, `position`, `verdict`, `rule`, `sentence`, `text` |
//! | `Spelling` | tree: list of the names in a carrier | word: 0 `traceparent`, 1 `TRACEPARENT`, 2 `HTTP_TRACEPARENT` is how a header is to be spelled there |
//! | `Destination` | as `Inject`'s words 0 and 3, 4 (words 0, 1, 2): bits, lengths of URL and page origin; packed: these | word: 1 trace context may be sent, 2 baggage may |
//! | `Stats` | empty | tree: map as `tracer.stats()` has it |
//! | `Memory` | empty | tree: list of OTLP/JSON texts, one for each span of the exporter `memory` |
//! | `Reports` | empty | tree: list of texts to be logged as warnings, each new |
//! | `Flatten` | word bucket (index into [`Bucket::ALL`](crate::flatten::Bucket::ALL)), tree | tree: map of attributes |
//! | `Routing` | the blob | tree: map of the routing attributes that spans in this scope get |
//! | `Instrumentation` | tree: map `name`, `version`, `schema_url`, `attributes` | word: the id for span records |
//! | `UseSession` | the blob | empty: the session is registered at HoneyHive if that is to be done (REG1): to be called when the first recorded span of a scope begins |
//! | `RegisterSession` | word length of the blob, blob, tree: map `source`, `inputs`, `metadata`, `user_properties` | empty: as `create_session` |
//! | `EnrichSession` | words: 0 bits (1: register it before), 1 length of the blob; blob, tree: map of buckets | word: 1 if it was queued |
//! | `Ids` | word: number of hex digits | so many random hex digits, in lower case |
//! | `Count` | words: 0 what ([`COUNT_UNSAMPLED`] …), 1 how many | empty |
//! | `RecordStart` | a span record, as it is by now; its end is its start | word: a token for `Record`, 0 if the spool took nothing |
//! | `Record` | word token or 0, a span record | empty: the span is in the spool or queue |
//! | `Forget` | word token | empty: the span will not be recorded |
//! | `TraceState` | word what (0 get, 1 set, 2 unset), texts: the `tracestate`, key, value | word: 1 if there is an answer; text |
//! | `SessionAtHoneyHive` | the session, without a length | the id that HoneyHive is told, without a length |
//!
//! **The answer of `Extract`**, words: 0 bits ([`FOUND_SPAN`] …) with the trace flags in bits 24 to 31; 1 which value
//! (`ExtractNamed`: which pair) the span's ids stand in; 2 where its trace id begins there, in bytes and in UTF-16 units
//! (the span id begins 33 later); 3 length of the `tracestate` in the pool (0 with [`FOUND_STATE_GIVEN`]: it is the only
//! value given, unchanged); 4 length of the blob; 5 number of members (asked for with [`EXTRACT_MEMBERS`], there only
//! with [`FOUND_MEMBERS`]: there was one value of baggage, and no member has an escape); for each member six `u16`: start
//! and length, in that value, of name, value and properties ([`NO_PROPERTIES`] as length: none). Then the `tracestate`,
//! then the blob: the outer scope with what came in. Without [`FOUND_SCOPE`] there is none, and the outer scope holds.
//!
//! **The answer of `ScopeView`**, words: 0 bits ([`VIEW_SESSION`] …) with the link's trace flags in bits 24 to 31; lengths
//! of 1 session, 2 session name, 3 project, 4 the link's `tracestate` ([`VIEW_LINK`]: the pool then has its 48 hex digits
//! before it); 5 number of members of the baggage that came in, each name once; then for each member three words: lengths
//! of name, value (decoded) and properties (or `ABSENT`). Pool: session, session name, project, link, members.
//!
//! **The request of `Inject`**, words: 0 bits ([`INJECT_SPAN`] …) with the trace flags in bits 24 to 31; lengths of 1
//! `tracestate`, 2 blob, 3 URL or host (with [`INJECT_TO`]), 4 origin of the page (with `INJECT_FROM_PAGE`); 5 number of
//! entries; 6 to 8 lengths of the carrier's own `traceparent`, `tracestate` and `baggage`, or `ABSENT`; with
//! [`INJECT_NAMED`] word 6 is the number of pairs. Packed: with `INJECT_SPAN` 48 hex digits; what 1 to 4 and 6 to 8
//! announce; the entries of the application's baggage, each text name, text value, text properties or word `ABSENT`; the
//! pairs. Entries are what the OpenTelemetry API's baggage holds where it is not the very one that was made of the scope's
//! ([`INJECT_ENTRIES`], also if there are none); core brings the two together.
//!
//! **The answer of `Inject`**, words: 0 what becomes of each header (`traceparent` in bits 0 and 1, `tracestate` in 2 and
//! 3, `baggage` in 4 and 5: 0 stays as it is, 1 goes, 2 is set), and [`SAME_STATE`]: `tracestate` is set to the given
//! one, which is not in the pool; lengths of 1 `traceparent`, 2 `tracestate`, 3 `baggage`. The pool is ASCII.
//!
//! # Span records
//!
//! | what | type |
//! | --- | --- |
//! | length of the rest, tracer, instrumentation | 3 words |
//! | bits ([`SPAN_PARENT`] …), trace flags in bits 8 to 15, kind (the API's numbers) in 16 to 23, status in 24 to 31 | word |
//! | start, end | 2 times |
//! | trace id, span id | 48 hex digits |
//! | with `SPAN_PARENT`: the parent's id | 16 hex digits |
//! | name | shared text |
//! | with `SPAN_STATE`: `tracestate` | shared text |
//! | with `SPAN_SCOPE`: scope | shared blob |
//! | with `SPAN_DESCRIPTION`: the status's description | text |
//! | entries up to the end, each begun by a byte | |
//! | 1 attribute: key, value | shared text, tree |
//! | 2 event: time, name, word dropped attributes, attributes | … word count, (shared text, tree)\* |
//! | 3 link: 48 hex digits (zeros: none), byte flags, byte 1 if remote, `tracestate`, word dropped attributes, attributes | … shared text … word count, (shared text, tree)\* |
//! | 4 a value under a field of a HoneyHive event: byte bucket, value | tree |
//! | 5 an error: what it says | text |
//! | 6 what was dropped before: attributes, events, links | 3 words |
//!
//! Entries stand in the order in which they were set; a later attribute of the same key replaces an earlier one.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::flatten::{Bucket, flatten};
use crate::limits;
use crate::session::honeyhive_session_id;
use crate::tracer::Tracer;
use crate::value::Value;

mod headers;
pub mod options;
pub mod record;
mod scopes;
pub mod session;
pub mod tree;
pub mod wire;

use scopes::Scopes;
use wire::{Reader, set_word};

/// Lists and maps in a tree, one inside the other, at most.
pub const MAX_DEPTH: usize = limits::MAX_DEPTH;

/// Makes constants, and a list of their names and numbers.
macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
        $($(#[$doc])* pub const $name: u32 = $value;)*

        /// Every number of the exchange by its name: what `js/src/protocol.ts` has.
        pub const NUMBERS: &[(&str, u32)] = &[$((stringify!($name), $name)),*];
    };
}

numbers! {
    /// As a length: there is none.
    ABSENT = 0xffff_ffff;
    /// Plus an offset in the chunk: the text or blob that was written there before.
    SHARED = 0x8000_0000;
    /// As the length of a member's properties in `Extract`'s answer: there are none.
    NO_PROPERTIES = 0xffff;

    /// `Extract`: a current span is there.
    EXTRACT_CURRENT = 1;
    /// `Extract`: the current span is a caller's.
    EXTRACT_CURRENT_REMOTE = 2;
    /// `Extract`: members of the baggage are asked for.
    EXTRACT_MEMBERS = 4;

    /// `Extract`'s answer: a caller's span, whose ids are told.
    FOUND_SPAN = 1;
    /// `Extract`'s answer: the same to be linked to, since the policy starts a new trace.
    FOUND_LINK = 2;
    /// `Extract`'s answer: it has a `tracestate`.
    FOUND_STATE = 4;
    /// `Extract`'s answer: which is the given text as it is.
    FOUND_STATE_GIVEN = 8;
    /// `Extract`'s answer: baggage came in.
    FOUND_BAGGAGE = 16;
    /// `Extract`'s answer: with a session that the policy accepts.
    FOUND_SESSION = 32;
    /// `Extract`'s answer: the blob is another one than the outer one.
    FOUND_SCOPE = 64;
    /// `Extract`'s answer: members are listed.
    FOUND_MEMBERS = 128;
    /// `Extract`'s answer: anything at all was taken.
    FOUND_NEWS = 256;
    /// `Extract`'s answer: the caller's span becomes the parent ([`Parent::Caller`](crate::parent::Parent)).
    PARENT_CALLER = 512;
    /// `Extract`'s answer: none does ([`Parent::None`](crate::parent::Parent)). Neither: the current one stays.
    PARENT_NONE = 1024;

    /// `ScopeView`'s answer: there is a session.
    VIEW_SESSION = 1;
    /// `ScopeView`'s answer: which has a name of its own.
    VIEW_SESSION_NAME = 2;
    /// `ScopeView`'s answer: there is a project.
    VIEW_PROJECT = 4;
    /// `ScopeView`'s answer: the session is registered by somebody else, as one that a caller sent is.
    VIEW_SESSION_INBOUND = 8;
    /// `ScopeView`'s answer: new traces are linked with a caller's span.
    VIEW_LINK = 16;
    /// `ScopeView`'s answer: baggage came in.
    VIEW_BAGGAGE = 32;
    /// `ScopeView`'s answer: the pool is ASCII.
    VIEW_ASCII = 64;

    /// `ScopeWithSession`: somebody else registers the session.
    SESSION_REGISTERED = 1;
    /// `ScopeWithSession`: it has a name of its own.
    SESSION_NAMED = 2;

    /// `Inject`: a span's context is there.
    INJECT_SPAN = 1;
    /// `Inject`: the application's baggage is another one than the scope's.
    INJECT_ENTRIES = 2;
    /// `Inject`: a URL or host; the policy says what may go there.
    INJECT_TO = 4;
    /// `Inject`: and the origin of the page that sends.
    INJECT_FROM_PAGE = 8;
    /// `Inject`: the carrier's headers are pairs.
    INJECT_NAMED = 16;

    /// `Inject`'s answer: the header stays as it is.
    HEADER_LEAVE = 0;
    /// `Inject`'s answer: the header goes.
    HEADER_REMOVE = 1;
    /// `Inject`'s answer: the header is set.
    HEADER_SET = 2;
    /// `Inject`'s answer: `tracestate` is set to the given text.
    SAME_STATE = 64;

    /// `Count`: spans that the sampler left out.
    COUNT_UNSAMPLED = 0;
    /// `Count`: spans that no chunk can hold.
    COUNT_TOO_LARGE = 1;
    /// `Count`: spans for which there was no room.
    COUNT_LOST = 2;

    /// Span record: there is a parent.
    SPAN_PARENT = 1;
    /// Span record: which is another process's.
    SPAN_PARENT_REMOTE = 2;
    /// Span record: there is a `tracestate`.
    SPAN_STATE = 4;
    /// Span record: there is a scope.
    SPAN_SCOPE = 8;
    /// Span record: the status has a description.
    SPAN_DESCRIPTION = 16;
    /// Span record: it goes to every exporter but HoneyHive's.
    SPAN_NOT_TO_HONEYHIVE = 32;

    /// Span record, entry: an attribute.
    ENTRY_ATTRIBUTE = 1;
    /// Span record, entry: an event.
    ENTRY_EVENT = 2;
    /// Span record, entry: a link.
    ENTRY_LINK = 3;
    /// Span record, entry: a value under a field of a HoneyHive event.
    ENTRY_BUCKET = 4;
    /// Span record, entry: what an error says.
    ENTRY_ERROR = 5;
    /// Span record, entry: what was dropped before.
    ENTRY_DROPPED = 6;
}

/// Makes [`Op`] from names and numbers.
macro_rules! operations {
    ($($name:ident = $number:literal $text:literal,)*) => {
        /// An operation: see the [module](self).
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u32)]
        #[allow(missing_docs, reason = "the module's documentation has a table of them")]
        pub enum Op {
            $($name = $number,)*
        }

        impl Op {
            /// The operation of this number.
            pub const fn of(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The names that `js/src/protocol.ts` has, and their numbers.
            pub const NUMBERS: &[(&str, u32)] = &[$(($text, $number)),*];
        }
    };
}

operations! {
    Init = 1 "OP_INIT",
    Drop = 2 "OP_DROP",
    Extract = 3 "OP_EXTRACT",
    ExtractNamed = 4 "OP_EXTRACT_NAMED",
    ScopeView = 5 "OP_SCOPE_VIEW",
    ScopeWithSession = 6 "OP_SCOPE_WITH_SESSION",
    Inject = 7 "OP_INJECT",
    Explain = 8 "OP_EXPLAIN",
    Spelling = 9 "OP_SPELLING",
    Destination = 10 "OP_DESTINATION",
    Stats = 11 "OP_STATS",
    Memory = 12 "OP_MEMORY",
    Reports = 13 "OP_REPORTS",
    Flatten = 14 "OP_FLATTEN",
    Routing = 15 "OP_ROUTING",
    Instrumentation = 16 "OP_INSTRUMENTATION",
    UseSession = 17 "OP_USE_SESSION",
    RegisterSession = 18 "OP_REGISTER_SESSION",
    EnrichSession = 19 "OP_ENRICH_SESSION",
    Ids = 20 "OP_IDS",
    Count = 21 "OP_COUNT",
    RecordStart = 22 "OP_RECORD_START",
    Record = 23 "OP_RECORD",
    Forget = 24 "OP_FORGET",
    TraceState = 25 "OP_TRACE_STATE",
    SessionAtHoneyHive = 26 "OP_SESSION_AT_HONEYHIVE",
}

/// Why an operation has no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// The request is cut short.
    Truncated,
    /// The request has something that it cannot have.
    Malformed,
    /// There is no such operation, or not here, or no such tracer.
    Unknown,
    /// An argument is of another type.
    Type {
        /// Its name, in Python's spelling.
        argument: Cow<'static, str>,
        /// What it must be.
        wanted: &'static str,
        /// The name of its type in JavaScript.
        given: &'static str,
    },
    /// An argument cannot have this value.
    Value {
        /// Its name, in Python's spelling.
        argument: Cow<'static, str>,
        /// What it must be. The value is not quoted.
        wanted: Cow<'static, str>,
    },
}

impl Error {
    /// An argument that cannot have its value.
    pub fn value(argument: impl Into<Cow<'static, str>>, wanted: impl Into<Cow<'static, str>>) -> Self {
        Self::Value { argument: argument.into(), wanted: wanted.into() }
    }

    /// Appends the error as a tree.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (kind, argument) = match self {
            Self::Truncated | Self::Malformed | Self::Unknown => ("internal", None),
            Self::Type { argument, .. } => ("type", Some(argument)),
            Self::Value { argument, .. } => ("value", Some(argument)),
        };
        let text = |text: &str| Value::Str(Cow::Owned(String::from(text)));
        let mut entries = Vec::from([(Cow::Borrowed("kind"), text(kind))]);
        entries.push((Cow::Borrowed("message"), Value::from(alloc::format!("{self}"))));
        entries.extend(argument.map(|argument| (Cow::Borrowed("argument"), text(argument))));
        tree::write(out, &Value::Map(entries));
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the request is cut short"),
            Self::Malformed => f.write_str("the request is malformed"),
            Self::Unknown => f.write_str("there is no such operation or tracer"),
            Self::Type { wanted, given, .. } => write!(f, "must be {wanted}, not {given}"),
            Self::Value { wanted, .. } => write!(f, "must be {wanted}"),
        }
    }
}

impl core::error::Error for Error {}

/// One side of the exchange: what core remembers between the operations of one thread of JavaScript.
#[derive(Debug, Default)]
pub struct Exchange {
    scopes: Scopes,
}

impl Exchange {
    /// Runs an operation that needs nothing but core, and appends its answer to `out`, which is empty.
    ///
    /// # Errors
    ///
    /// See [`Error`]; [`Error::Unknown`] also for the operations that are the backend's. `out` is to be cleared then.
    pub fn run(&mut self, op: Op, tracer: Option<&Tracer>, request: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let reader = Reader::new(request);
        match op {
            Op::Extract => headers::extract(&mut self.scopes, tracer, reader, false, out),
            Op::ExtractNamed => headers::extract(&mut self.scopes, tracer, reader, true, out),
            Op::Inject => headers::inject(&mut self.scopes, tracer, reader, out),
            Op::Explain => headers::explain(tracer, reader, out),
            Op::Spelling => headers::spelling(reader, out),
            Op::Destination => headers::destination(tracer, reader, out),
            Op::TraceState => headers::trace_state(reader, out),
            Op::ScopeView => scopes::view(&mut self.scopes, tracer, request, out),
            Op::ScopeWithSession => scopes::with_session(&mut self.scopes, tracer, reader, out),
            Op::Routing => scopes::routing(&mut self.scopes, tracer, request, out),
            Op::Flatten => flattened(tracer, reader, out),
            Op::SessionAtHoneyHive => {
                let session = String::from_utf8_lossy(request);
                out.extend_from_slice(honeyhive_session_id(&session).as_bytes());
                Ok(())
            }
            _ => Err(Error::Unknown),
        }
    }

    /// The scope of a blob. The last ones are remembered.
    ///
    /// # Errors
    ///
    /// If the bytes are no scope.
    pub fn scope(&mut self, blob: &[u8]) -> Result<crate::SessionScope, Error> {
        self.scopes.get(blob)
    }
}

/// The attributes that a value becomes under a field of a HoneyHive event.
fn flattened(tracer: Option<&Tracer>, mut reader: Reader<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let bucket = bucket(reader.word()?)?;
    let value = tree::read(&mut reader)?;
    let defaults = crate::flatten::Options::default();
    let mut entries = Vec::new();
    let options = tracer.map_or(&defaults, Tracer::flatten);
    flatten(bucket.prefix(), &value, options, &mut |key, value| entries.push((Cow::Owned(String::from(key)), value)));
    tree::write(out, &Value::Map(entries));
    Ok(())
}

fn bucket(number: u32) -> Result<Bucket, Error> {
    let number = usize::try_from(number).map_err(|_| Error::Malformed)?;
    Bucket::ALL.get(number).copied().ok_or(Error::Malformed)
}

/// Changes the word that an answer begins with.
fn set_first_word(out: &mut [u8], change: impl FnOnce(u32) -> u32) {
    if let Ok(word) = Reader::new(out).word() {
        set_word(out, 0, change(word));
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "in a test that is a panic")]
mod tests;
