use super::wire::put_word;
use super::*;
use crate::id::{SpanId, TraceId};
use crate::otlp::reader::SpanView;
use crate::policy::{InboundMode, Policy};
use crate::redact::Redaction;
use crate::scope::{SessionScope, TracerId};
use crate::settings::{Arguments, resolve};
use crate::tracer::{Parts, Style};
use proptest::prelude::*;
use std::format;
use std::string::ToString;
use std::vec;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
const IDS: &str = "0af7651916cd43dd8448eb211c80319c00f067aa0ba902b7";

fn tracer_with(policy: Policy, exporter: &str) -> Tracer {
    let arguments =
        Arguments { exporter: &[exporter], api_key: Some("k"), project: Some("own"), ..Arguments::default() };
    let settings = resolve(&arguments, &|_| None).unwrap();
    Tracer::new(
        TracerId(7),
        settings,
        Parts { policy, session: "own session".to_string(), registers: true, ..Parts::default() },
    )
}

fn tracer() -> Tracer {
    tracer_with(Policy::default(), "otlp")
}

/// Runs an operation.
fn run(op: Op, tracer: Option<&Tracer>, request: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    Exchange::default().run(op, tracer, request, &mut out).map(|()| out)
}

/// Words, then bytes.
fn request(words: &[u32], parts: &[&[u8]]) -> Vec<u8> {
    let mut out: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

fn word(answer: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*answer[4 * at..].first_chunk().unwrap())
}

fn length_of(value: Option<&str>) -> u32 {
    value.map_or(ABSENT, |value| value.len() as u32)
}

fn text(bytes: &[u8]) -> &str {
    core::str::from_utf8(bytes).unwrap()
}

/// What `Extract` answers, taken apart.
#[derive(Debug)]
struct Found {
    bits: u32,
    ids: Option<(String, String)>,
    state: String,
    members: Vec<(String, String, Option<String>)>,
    blob: Vec<u8>,
}

fn extract(tracer: &Tracer, bits: u32, headers: [Option<&str>; 3], current: Option<&str>, outer: &[u8]) -> Found {
    let current = current.unwrap_or_default();
    let [traceparent, tracestate, baggage] = headers;
    let words = [bits, length_of(traceparent), length_of(tracestate), length_of(baggage), outer.len() as u32, 0];
    let parts = [
        current.as_bytes(),
        traceparent.unwrap_or_default().as_bytes(),
        tracestate.unwrap_or_default().as_bytes(),
        baggage.unwrap_or_default().as_bytes(),
        outer,
    ];
    let answer = run(Op::Extract, Some(tracer), &request(&words, &parts)).unwrap();
    found(&answer, &[traceparent.unwrap_or_default()], baggage)
}

fn found(answer: &[u8], values: &[&str], baggage: Option<&str>) -> Found {
    let bits = word(answer, 0);
    let (which, at) = (word(answer, 1) as usize, word(answer, 2) as usize);
    let (state, blob, members) = (word(answer, 3) as usize, word(answer, 4) as usize, word(answer, 5) as usize);
    let ids = (bits & (FOUND_SPAN | FOUND_LINK) != 0)
        .then(|| (values[which][at..at + 32].to_string(), values[which][at + 33..at + 49].to_string()));
    let half = |at: usize| usize::from(u16::from_le_bytes(*answer[at..].first_chunk().unwrap()));
    let listed = (0..members).map(|member| {
        let part = |part: usize| {
            let (start, length) = (half(24 + 12 * member + 4 * part), half(26 + 12 * member + 4 * part));
            (length != NO_PROPERTIES as usize).then(|| baggage.unwrap()[start..start + length].to_string())
        };
        (part(0).unwrap(), part(1).unwrap(), part(2))
    });
    let listed = listed.collect();
    let rest = &answer[24 + 12 * members..];
    assert_eq!(rest.len(), state + blob);
    Found { bits, ids, state: text(&rest[..state]).to_string(), members: listed, blob: rest[state..].to_vec() }
}

#[test]
fn the_numbers_are_those_of_javascript() {
    let protocol = include_str!("../../../js/src/protocol.ts");
    let mut theirs: Vec<(String, u64)> = Vec::new();
    for line in protocol.lines() {
        let Some((name, rest)) = line.strip_prefix("export const ").and_then(|line| line.split_once(" = ")) else {
            continue;
        };
        let number = rest.split(';').next().unwrap_or_default();
        let number = match number.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => number.parse(),
        };
        theirs.extend(number.ok().map(|number| (name.to_string(), number)));
    }
    let mut ours: Vec<(String, u64)> = NUMBERS
        .iter()
        .chain(Op::NUMBERS)
        .chain(tree::NUMBERS)
        .map(|(name, number)| ((*name).to_string(), u64::from(*number)))
        .collect();
    ours.push(("MAX_DEPTH".to_string(), MAX_DEPTH as u64));
    // These are of functions that only backends have.
    theirs.retain(|(name, _)| !name.starts_with("START_"));
    theirs.sort();
    ours.sort();
    assert_eq!(theirs, ours);
    for bucket in Bucket::ALL {
        let name = format!("\"{}\"", bucket.prefix().trim_start_matches("honeyhive_"));
        assert!(protocol.contains(&name), "{name}");
    }
}

#[test]
fn what_came_in_is_told_by_its_place() {
    let baggage = "session_id=s,k=v;p=1, x = y ";
    let found =
        extract(&tracer(), EXTRACT_MEMBERS, [Some(&format!(" {TRACEPARENT}")), Some("a=b"), Some(baggage)], None, &[]);
    assert_eq!(
        found.bits,
        FOUND_SPAN
            | FOUND_STATE
            | FOUND_STATE_GIVEN
            | FOUND_BAGGAGE
            | FOUND_SESSION
            | FOUND_SCOPE
            | FOUND_MEMBERS
            | FOUND_NEWS
            | PARENT_CALLER
            | 1 << 24
    );
    let (trace_id, span_id) = found.ids.unwrap();
    assert_eq!(trace_id + &span_id, IDS);
    assert!(found.state.is_empty());
    let members: Vec<_> = found.members.iter().map(|(n, v, p)| (&**n, &**v, p.as_deref())).collect();
    assert_eq!(members, [("session_id", "s", None), ("k", "v", Some("p=1")), ("x", "y", None)]);
    let scope = SessionScope::read(&found.blob).unwrap();
    assert_eq!(scope.session_for(TracerId(7), &Policy::default()), Some("s"));
    assert_eq!(scope.session_for(TracerId(8), &Policy::default()), None);

    // What had to change is told as it is now.
    let found = extract(&tracer(), 0, [Some(TRACEPARENT), Some(" a=b,"), None], None, &[]);
    assert_eq!((found.bits & (FOUND_STATE | FOUND_STATE_GIVEN), &*found.state), (FOUND_STATE, "a=b,"));
    // An escape, a name that comes twice, a member that was left out: somebody has to look closer.
    for baggage in ["k=%20", "k=1,k=2", "k=v,=", "k=v,\u{e4}=v"] {
        let found = extract(&tracer(), EXTRACT_MEMBERS, [None, None, Some(baggage)], None, &[]);
        assert_eq!(found.bits & (FOUND_MEMBERS | FOUND_BAGGAGE), FOUND_BAGGAGE, "{baggage}");
        assert!(found.members.is_empty());
    }
    let nothing = extract(&tracer(), EXTRACT_MEMBERS, [Some("no"), Some("a=b"), None], None, &[]);
    assert_eq!((nothing.bits, nothing.blob.len()), (0, 0));
}

#[test]
fn the_parent_is_chosen_and_the_outer_scope_stays() {
    let tracer = tracer();
    let same = &IDS[..32];
    let other = "1af7651916cd43dd8448eb211c80319c";
    let headers = [Some(TRACEPARENT), None, None];
    for (bits, current, expected) in [
        (0, None, PARENT_CALLER),
        (EXTRACT_CURRENT, Some(same), 0),
        (EXTRACT_CURRENT, Some(other), PARENT_CALLER),
        (EXTRACT_CURRENT | EXTRACT_CURRENT_REMOTE, Some(same), PARENT_CALLER),
    ] {
        let found = extract(&tracer, bits, headers, current, &[]);
        assert_eq!(found.bits & (PARENT_CALLER | PARENT_NONE), expected);
        assert!(found.blob.is_empty() && found.bits & FOUND_SCOPE == 0);
    }
    let restart = tracer_with(Policy { inbound: InboundMode::Restart, ..Policy::default() }, "otlp");
    let found = extract(&restart, EXTRACT_CURRENT | EXTRACT_CURRENT_REMOTE, headers, Some(same), &[]);
    assert_eq!(found.bits & (PARENT_NONE | FOUND_LINK | FOUND_SPAN), PARENT_NONE | FOUND_LINK);
    assert!(SessionScope::read(&found.blob).unwrap().link(TracerId(7), restart.policy()).is_some());
    // A caller whose trace goes on hides the link of the one before: another scope, though there is no session.
    let hidden = extract(&tracer, 0, headers, None, &found.blob);
    assert!(hidden.bits & FOUND_SCOPE != 0);
    // What is there stays where nothing comes.
    let nothing = extract(&tracer, 0, [None; 3], None, &found.blob);
    assert_eq!((nothing.bits, nothing.blob.len()), (0, 0));
}

#[test]
fn pairs_are_headers_in_every_spelling_and_rules_are_counted() {
    let tracer = tracer();
    let pairs = |pairs: &[(&str, &str)]| {
        let mut out = Vec::new();
        for (name, value) in pairs {
            put_word(&mut out, name.len() as u32);
            put_word(&mut out, value.len() as u32);
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value.as_bytes());
        }
        out
    };
    let given = [("HTTP_BAGGAGE", "a=1"), ("Host", "x"), ("HTTP_TRACEPARENT", TRACEPARENT), ("HTTP_BAGGAGE", "b=2")];
    let words = [EXTRACT_MEMBERS, 4, 0, 0, 0, 0];
    let answer = run(Op::ExtractNamed, Some(&tracer), &request(&words, &[&pairs(&given)])).unwrap();
    let found = found(&answer, &given.map(|(_, value)| value), None);
    assert_eq!(found.ids.unwrap().0, IDS[..32]);
    assert_eq!(found.bits & (FOUND_MEMBERS | FOUND_BAGGAGE), FOUND_BAGGAGE);
    let scope = SessionScope::read(&found.blob).unwrap();
    assert_eq!(scope.baggage(TracerId(7), tracer.policy()).unwrap().as_str(), "a=1,b=2");

    let bad = pairs(&[("baggage", "=,a=1")]);
    run(Op::ExtractNamed, Some(&tracer), &request(&[0, 1, 0, 0, 0, 0], &[&bad])).unwrap();
    let dropped: Vec<_> = tracer.inbound_dropped().iter().collect();
    assert_eq!(dropped.len(), 1);
    let explained = run(Op::Explain, Some(&tracer), &request(&[1, 0, 1], &[&bad])).unwrap();
    let Value::Array(findings) = tree::read(&mut Reader::new(&explained)).unwrap() else { panic!() };
    assert!(format!("{findings:?}").contains(dropped[0].0.id()));

    // A policy of the call's own.
    let mut policy = Vec::new();
    tree::write(&mut policy, &tree::map([("inbound", "ignore".into())]));
    let words = [0, TRACEPARENT.len() as u32, ABSENT, ABSENT, 0, policy.len() as u32];
    let answer = run(Op::Extract, Some(&tracer), &request(&words, &[TRACEPARENT.as_bytes(), &policy])).unwrap();
    assert_eq!(word(&answer, 0), 0);
    let mut policy = Vec::new();
    tree::write(&mut policy, &tree::map([("inbound", 3.into())]));
    let words = [0, ABSENT, ABSENT, ABSENT, 0, policy.len() as u32];
    let error = run(Op::Extract, Some(&tracer), &request(&words, &[&policy])).unwrap_err();
    assert_eq!(error.to_string(), "must be a string, not a number");
}

/// What `Inject` answers: each header, by what becomes of it.
fn inject(tracer: Option<&Tracer>, words: [u32; 9], parts: &[&[u8]]) -> [Result<String, u32>; 3] {
    let answer = run(Op::Inject, tracer, &request(&words, parts)).unwrap();
    let (fates, mut rest) = (word(&answer, 0), &answer[16..]);
    let headers = [(0, 1), (2, 2), (4, 3)].map(|(shift, at)| {
        let (value, after) = rest.split_at(word(&answer, at) as usize);
        rest = after;
        match fates >> shift & 3 {
            HEADER_SET if shift == 2 && fates & SAME_STATE != 0 => Ok("same".to_string()),
            HEADER_SET => Ok(text(value).to_string()),
            other => Err(other),
        }
    });
    assert!(rest.is_empty());
    headers
}

#[test]
fn what_holds_is_sent() {
    let tracer = tracer();
    let found = extract(&tracer, 0, [None, None, Some("session_id=s,k=v;p,x=y")], None, &[]);
    let blob = &found.blob;
    let words = [INJECT_SPAN | 3 << 24, 3, blob.len() as u32, 0, 0, 0, ABSENT, ABSENT, ABSENT];
    let sent = inject(Some(&tracer), words, &[IDS.as_bytes(), b"a=b", blob]);
    assert_eq!(sent[0], Ok(TRACEPARENT.replace("-01", "-03")));
    assert_eq!(sent[1], Ok("same".to_string()));
    assert_eq!(sent[2], Ok("session_id=s,project=own,source=dev,k=v;p,x=y".to_string()));
    // What the carrier holds is merged, and a bad tracestate is none.
    let words = [INJECT_SPAN, 1, blob.len() as u32, 0, 0, 0, ABSENT, 3, 5];
    let sent = inject(Some(&tracer), words, &[IDS.as_bytes(), b"=", blob, b"o=l", b"m=n,k"]);
    assert_eq!(sent[1], Err(HEADER_REMOVE));
    assert_eq!(sent[2], Ok("session_id=s,project=own,source=dev,m=n,k=v;p,x=y".to_string()));
    // The application changed one entry, deleted another and set a third.
    let mut entries = Vec::new();
    for (name, value) in [("session_id", "s"), ("k", "w"), ("new", "ä")] {
        wire::put_text(&mut entries, name);
        wire::put_text(&mut entries, value);
        put_word(&mut entries, ABSENT);
    }
    let words = [INJECT_ENTRIES, 0, blob.len() as u32, 0, 0, 3, ABSENT, ABSENT, ABSENT];
    let sent = inject(Some(&tracer), words, &[blob, &entries]);
    assert_eq!(sent[..2], [Err(HEADER_LEAVE), Err(HEADER_LEAVE)]);
    assert_eq!(sent[2], Ok("session_id=s,project=own,source=dev,k=w,new=%C3%A4".to_string()));
    // A host that is none of ours gets the trace and no baggage.
    let words = [INJECT_SPAN | INJECT_TO, 0, blob.len() as u32, 11, 0, 0, ABSENT, ABSENT, ABSENT];
    let sent = inject(Some(&tracer), words, &[IDS.as_bytes(), blob, b"example.com"]);
    assert!(sent[0].is_ok() && sent[2] == Err(HEADER_REMOVE));
    let answer = run(Op::Destination, Some(&tracer), &request(&[INJECT_TO, 11, 0], &[b"example.com"])).unwrap();
    assert_eq!(word(&answer, 0), 1);
    // Nobody's: what a propagator without a tracer passes on.
    let sent = inject(None, [0, 0, 0, 0, 0, 0, ABSENT, ABSENT, 3], &[b"a=b"]);
    assert_eq!(sent[2], Ok("a=b".to_string()));
}

#[test]
fn scopes_are_seen_and_changed() {
    let tracer = tracer();
    let found = extract(&tracer, 0, [None, None, Some("session_id=s,project=p,k=%C3%A4;q,k=2,k=%C3%A4;q")], None, &[]);
    let answer = run(Op::ScopeView, Some(&tracer), &found.blob).unwrap();
    assert_eq!(word(&answer, 0), VIEW_SESSION | VIEW_PROJECT | VIEW_SESSION_INBOUND | VIEW_BAGGAGE);
    assert_eq!([1, 2, 3, 4, 5].map(|at| word(&answer, at)), [1, 0, 1, 0, 3]);
    assert_eq!([12, 13, 14].map(|at| word(&answer, at)), [1, 1, 1], "UTF-16 units");
    assert!(text(&answer[60..]).ends_with("käq"));

    let words = [SESSION_NAMED, found.blob.len() as u32, 3, 4];
    let inner = run(Op::ScopeWithSession, Some(&tracer), &request(&words, &[&found.blob, b"new", b"name"])).unwrap();
    let scope = SessionScope::read(&inner).unwrap();
    assert_eq!(scope.session_for(TracerId(7), tracer.policy()), Some("new"));
    assert_eq!(scope.session_name_for(TracerId(7), tracer.policy()), Some("name"));
    assert!(!scope.session_is_inbound(TracerId(7), tracer.policy()));
    let routing = run(Op::Routing, Some(&tracer), &inner).unwrap();
    let Value::Map(entries) = tree::read(&mut Reader::new(&routing)).unwrap() else { panic!() };
    assert!(entries.contains(&("honeyhive.session_id".into(), "new".into())));
    assert!(entries.contains(&("honeyhive.session_name".into(), "name".into())));
    let error = run(Op::ScopeWithSession, Some(&tracer), &request(&[0; 4], &[])).unwrap_err();
    assert!(matches!(error, Error::Value { .. }), "{error:?}");
}

#[test]
fn small_operations() {
    let names = |names: &[&str]| {
        let mut out = Vec::new();
        tree::write(&mut out, &Value::Array(names.iter().map(|name| (*name).into()).collect()));
        word(&run(Op::Spelling, None, &out).unwrap(), 0)
    };
    assert_eq!([names(&[]), names(&["HOME", "PATH"]), names(&["REQUEST_METHOD"])], [0, 1, 2]);

    let state = |what: u32, texts: &[&str]| {
        let mut out = what.to_le_bytes().to_vec();
        texts.iter().for_each(|text| wire::put_text(&mut out, text));
        let answer = run(Op::TraceState, None, &out).unwrap();
        (word(&answer, 0) != 0).then(|| text(&answer[8..]).to_string())
    };
    assert_eq!(state(0, &["a=b,c=d", "c"]).as_deref(), Some("d"));
    assert_eq!(state(0, &["a=b", "x"]), None);
    assert_eq!(state(1, &["a=b", "c", "d"]).as_deref(), Some("c=d,a=b"));
    assert_eq!(state(1, &["a=b", "C D", "d"]), None);
    assert_eq!(state(2, &["a=b,c=d", "a"]).as_deref(), Some("c=d"));

    let mut value = 0u32.to_le_bytes().to_vec();
    tree::write(&mut value, &tree::map([("q", vec![1, 2].into()), ("password", "p".into())]));
    let flat = run(Op::Flatten, Some(&tracer()), &value).unwrap();
    let Value::Map(entries) = tree::read(&mut Reader::new(&flat)).unwrap() else { panic!() };
    assert_eq!(entries.len(), 3);
    assert!(entries.contains(&("honeyhive_inputs.password".into(), "[redacted]".into())));

    assert_eq!(text(&run(Op::SessionAtHoneyHive, None, b"s").unwrap()), &*honeyhive_session_id("s"));
    assert_eq!(run(Op::Stats, None, b""), Err(Error::Unknown));
}

/// A record, written as JavaScript writes it.
struct Written {
    body: Vec<u8>,
    offset: usize,
}

impl Written {
    fn new(offset: usize, bits: u32, parent: Option<&str>, name: &[u8]) -> Self {
        let mut body = request(&[7, 0, bits], &[]);
        for time in [1_700_000_000_000.0_f64, 0.000_001, 1_700_000_000_000.0, 2.5] {
            body.extend_from_slice(&time.to_le_bytes());
        }
        body.extend_from_slice(IDS.as_bytes());
        body.extend_from_slice(parent.unwrap_or_default().as_bytes());
        body.extend_from_slice(name);
        Self { body, offset }
    }

    fn text(mut self, text: &str) -> Self {
        wire::put_text(&mut self.body, text);
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.body.extend_from_slice(bytes);
        self
    }

    fn tree(mut self, value: &Value<'_>) -> Self {
        tree::write(&mut self.body, value);
        self
    }

    fn attribute(self, key: &str, value: impl Into<Value<'static>>) -> Self {
        self.bytes(&[ENTRY_ATTRIBUTE as u8]).text(key).tree(&value.into())
    }

    /// Where the next thing that is written stands in the chunk.
    fn here(&self) -> u32 {
        SHARED | (self.offset + 4 + self.body.len()) as u32
    }

    fn done(self, chunk: &mut Vec<u8>) {
        put_word(chunk, self.body.len() as u32);
        chunk.extend_from_slice(&self.body);
    }
}

fn text_bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_text(&mut out, text);
    out
}

/// The spans of a chunk, encoded.
fn encode(tracer: &Tracer, chunk: &[u8]) -> Vec<Result<Vec<u8>, Error>> {
    let spans = record::Records::of(chunk).map(|record| {
        let head = record?.head()?;
        let scope = SessionScope::read(head.blob())?;
        let span = head.span(tracer, &scope)?;
        let mut out = Vec::new();
        span.encode(&mut out, tracer.routings(&scope).of(Style::Raw));
        let skip = 2 + out.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count();
        Ok(out.split_off(skip))
    });
    spans.collect()
}

fn attributes(bytes: &[u8]) -> Vec<(String, Value<'_>)> {
    let span = SpanView::parse(bytes).unwrap();
    let all = span.attributes().map(|entry| {
        let (key, value) = entry.unwrap();
        (key.to_str().into_owned(), value.into_value().unwrap())
    });
    all.collect()
}

#[test]
fn records_become_spans() {
    let tracer = tracer();
    let outer = extract(&tracer, 0, [None, None, Some("session_id=s")], None, &[]).blob;
    let mut chunk = Vec::new();
    let bits =
        SPAN_PARENT | SPAN_PARENT_REMOTE | SPAN_STATE | SPAN_SCOPE | SPAN_DESCRIPTION | 1 << 8 | 2 << 16 | 2 << 24;
    let first = Written::new(0, bits, Some("00f067aa0ba902b8"), &text_bytes("name")).text("a=b");
    let blob_at = first.here();
    let first = first.bytes(&(outer.len() as u32).to_le_bytes()).bytes(&outer).text("broken").bytes(&[1]);
    let key_at = first.here();
    let first = first
        .text("k")
        .tree(&1.into())
        .attribute("null", Value::Null)
        .attribute("list", vec![true, false])
        .attribute("k", "later")
        .bytes(&[ENTRY_BUCKET as u8, 0])
        .tree(&tree::map([("deep", tree::map([("token", "t".into()), ("n", 1.5.into())]))]))
        .bytes(&[ENTRY_ERROR as u8])
        .text("what it says")
        .bytes(&[ENTRY_DROPPED as u8])
        .bytes(&request(&[1, 2, 3], &[]));
    let first = first.bytes(&[ENTRY_EVENT as u8]).bytes(&1_700_000_000_000.0_f64.to_le_bytes()).bytes(&[0; 8]);
    let first = first.text("event").bytes(&request(&[4, 2], &[])).text("e").tree(&1.into()).text("e").tree(&2.into());
    let first = first.bytes(&[ENTRY_LINK as u8]).bytes(&[b'0'; 48]).bytes(&[1, 1]).text("l=m");
    first.bytes(&request(&[0, 1], &[])).text("on").tree(&"link".into()).done(&mut chunk);
    // The second one shares its scope and its key with the first.
    let offset = chunk.len();
    let second = Written::new(offset, SPAN_SCOPE | 1 << 8, None, &key_at.to_le_bytes()).bytes(&blob_at.to_le_bytes());
    second.bytes(&[1]).bytes(&key_at.to_le_bytes()).tree(&2.into()).done(&mut chunk);

    let spans = encode(&tracer, &chunk);
    assert_eq!(spans.len(), 2);
    let bytes = spans[0].as_ref().unwrap();
    let span = SpanView::parse(bytes).unwrap();
    assert_eq!(span.name.to_str(), "name");
    assert_eq!(span.parent_span_id(), SpanId::from_hex(b"00f067aa0ba902b8"));
    assert_eq!(span.trace_id(), TraceId::from_hex(&IDS.as_bytes()[..32]));
    assert_eq!((span.start_ns, span.end_ns), (1_700_000_000_000_000_001, 1_700_000_000_002_500_000));
    let kept = attributes(bytes);
    let find = |key: &str| kept.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    assert_eq!(kept[0], ("k".to_string(), "later".into()));
    assert_eq!(kept[1], ("list".to_string(), vec![true, false].into()));
    assert_eq!(find("honeyhive_inputs.deep.token"), Some("[redacted]".into()));
    assert_eq!(find("honeyhive_inputs.deep.n"), Some(1.5.into()));
    assert_eq!(find("honeyhive_error"), Some("what it says".into()));
    assert_eq!(find("honeyhive.session_id"), Some("s".into()));
    assert_eq!(find("honeyhive_event_type"), Some("tool".into()));
    assert_eq!(find("null"), None);
    assert_eq!((span.kind, span.flags, span.trace_state.to_str().as_ref()), (3, 0x301, "a=b"));
    let status = span.status.unwrap();
    assert_eq!((status.code, status.message.to_str().as_ref()), (2, "broken"));
    assert_eq!([span.dropped_attributes, span.dropped_events, span.dropped_links], [1, 2, 3]);
    let event = span.events().next().unwrap().unwrap();
    assert_eq!((event.name.to_str().as_ref(), event.dropped_attributes), ("event", 4));
    assert_eq!((event.time_ns, event.attributes().count()), (1_700_000_000_000_000_000, 1), "each key once");
    let link = span.links().next().unwrap().unwrap();
    assert_eq!((link.trace_id(), link.flags, link.trace_state.to_str().as_ref()), (None, 0x301, "l=m"));
    let bytes = spans[1].as_ref().unwrap();
    assert_eq!(SpanView::parse(bytes).unwrap().name.to_str(), "k");
    assert_eq!(attributes(bytes)[0], ("k".to_string(), 2.into()));
}

#[test]
fn a_malformed_record_takes_no_other_with_it() {
    let tracer = tracer();
    let mut chunk = Vec::new();
    let good = |chunk: &mut Vec<u8>| Written::new(0, 1 << 8, None, &text_bytes("n")).attribute("k", 1).done(chunk);
    good(&mut chunk);
    Written::new(0, 1 << 8, None, &text_bytes("n")).bytes(&[99]).done(&mut chunk);
    Written::new(0, 1 << 8, None, &0xffff_fff0_u32.to_le_bytes()).done(&mut chunk);
    good(&mut chunk);
    put_word(&mut chunk, 1000);
    let spans = encode(&tracer, &chunk);
    let ok: Vec<bool> = spans.iter().map(Result::is_ok).collect();
    assert_eq!(ok, [true, false, false, true, false]);
}

#[test]
fn a_new_trace_is_linked_to_its_caller() {
    let tracer = tracer_with(Policy { inbound: InboundMode::Restart, ..Policy::default() }, "otlp");
    let blob = extract(&tracer, 0, [Some(TRACEPARENT), None, None], None, &[]).blob;
    let mut chunk = Vec::new();
    for parent in [None, Some("00f067aa0ba902b8")] {
        let bits = SPAN_SCOPE | 1 << 8 | if parent.is_some() { SPAN_PARENT } else { 0 };
        let written = Written::new(chunk.len(), bits, parent, &text_bytes("n"));
        written.bytes(&(blob.len() as u32).to_le_bytes()).bytes(&blob).done(&mut chunk);
    }
    let links: Vec<usize> = encode(&tracer, &chunk)
        .iter()
        .map(|span| SpanView::parse(span.as_ref().unwrap()).unwrap().links().count())
        .collect();
    assert_eq!(links, [1, 0]);
}

#[test]
fn options_are_read_and_answered() {
    let binding = options::Binding { language: "nodejs", version: "1" };
    let read = |value: Value<'_>| options::read(&value, binding);
    let init = read(tree::map([
        ("api_key", "k".into()),
        ("exporter", vec!["honeyhive", "otlp"].into()),
        ("otlp_headers", tree::map([("a", "b".into())])),
        ("max_attributes", 10.into()),
        ("flush_interval", 2.into()),
        ("redact", false.into()),
        ("project", Value::Null),
        ("spool_bytes", (1 << 20).into()),
        ("policy", tree::map([("accept_session", false.into()), ("baggage_attributes", vec!["k"].into())])),
        ("name_filters", tree::map([("exclude", vec!["x"].into())])),
        ("inputs", tree::map([("q", 1.into())])),
        ("env", tree::map([("HH_PROJECT", "p".into()), ("TRACEBATON_SPOOL_DIR", "/d".into())])),
    ]))
    .unwrap();
    assert_eq!(init.settings.project.as_deref(), Some("p"));
    assert_eq!((init.settings.limits.attributes, init.settings.batch.delay_ns), (10, Some(2_000_000_000)));
    assert_eq!((init.parts.redaction.clone(), init.parts.policy.accept_session), (Redaction::Off, false));
    let spool = init.spool.unwrap();
    assert_eq!((&*spool.dir, spool.bytes, spool.bytes_of_environment, spool.starts), ("/d", Some(1 << 20), None, true));
    let tracer = Tracer::new(TracerId(1), init.settings, Parts { session: "s".to_string(), ..init.parts });
    assert!(!tracer.admits("xy") && tracer.admits("y"));
    let Value::Map(entries) = options::describe(&tracer, false) else { panic!() };
    let find = |key: &str| entries.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone()).unwrap();
    assert_eq!(find("session_id"), "s".into());
    assert_eq!(find("exporters"), vec!["honeyhive", "otlp"].into());
    assert_eq!(find("decisions"), vec![1, 1, 0, 1, 0].into());
    assert_eq!(find("baggage_attributes"), vec!["k"].into());

    for (options, argument, message) in [
        (tree::map([("project", 3.into())]), "project", "must be a string, not a number"),
        (tree::map([("max_events", (-1).into())]), "max_events", "must be a whole number that is not negative"),
        (tree::map([("max_events", 1.5.into())]), "max_events", "must be a whole number that is not negative"),
        (tree::map([("verbose", "yes".into())]), "verbose", "must be a boolean, not a string"),
        (tree::map([("session_id", "".into())]), "session_id", "must be a text of 1 to 256 characters"),
        (tree::map([("projekt", "p".into())]), "projekt", "must be one of the options that there are"),
        (tree::map([("exporter", 1.into())]), "exporter", "must be a string or an array of strings, not a number"),
        (tree::map([("otlp_headers", "a".into())]), "otlp_headers", "must be an object of strings, not a string"),
        (
            tree::map([("policy", tree::map([("propagate_to", vec!["a", "http://b/c"].into())]))]),
            "policy.propagate_to[1]",
            "must be a host, \"*.\" and a host, an address, a network or \"*\"",
        ),
    ] {
        let error = read(options).unwrap_err();
        let (Error::Type { argument: named, .. } | Error::Value { argument: named, .. }) = &error else { panic!() };
        assert_eq!((&**named, &*error.to_string()), (argument, message));
        let mut out = Vec::new();
        error.write(&mut out);
        assert!(tree::read(&mut Reader::new(&out)).is_ok());
    }
}

#[test]
fn a_ratio_is_decided_by_the_id() {
    for (sampler, argument, expected) in [
        ("traceidratio", "0.5", [None; 5]),
        ("parentbased_traceidratio", "0.5", [None, Some(true), Some(false), Some(true), Some(false)]),
        ("traceidratio", "0", [Some(false); 5]),
        ("always_on", "", [Some(true); 5]),
    ] {
        let arguments = Arguments { sampler: Some(sampler), sampler_argument: Some(argument), ..Arguments::default() };
        let tracer = Tracer::new(TracerId(1), resolve(&arguments, &|_| None).unwrap(), Parts::default());
        assert_eq!(tracer.decisions(), expected, "{sampler} {argument}");
    }
}

proptest! {
    #[test]
    fn any_request_has_an_answer_or_an_error(number in 0u32..32, words: [u16; 10], tail: Vec<u8>) {
        let Some(op) = Op::of(number) else { return Ok(()) };
        let tracer = tracer();
        let words = words.map(|word| if word > 0xff00 { ABSENT } else { u32::from(word % 64) });
        let request = request(&words, &[&tail]);
        for end in [request.len(), request.len() / 2, request.len() % 7] {
            let _ = run(op, Some(&tracer), &request[..end]);
            let _ = run(op, None, &request[..end]);
        }
    }

    #[test]
    fn any_chunk_is_read(mut bytes: Vec<u8>, at: usize) {
        let tracer = tracer();
        encode(&tracer, &bytes);
        // A record that is right but for one byte.
        let mut chunk = Vec::new();
        let written = Written::new(0, SPAN_DESCRIPTION | 1 << 8, None, &text_bytes("n")).text("d").attribute("k", 1);
        let written = written.bytes(&[ENTRY_BUCKET as u8, 1]).tree(&tree::map([("a", vec![1].into())]));
        written.done(&mut chunk);
        bytes.push(0xff);
        let place = at % chunk.len();
        chunk[place] = bytes[0];
        encode(&tracer, &chunk);
    }
}
