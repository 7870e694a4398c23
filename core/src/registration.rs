//! Sessions at HoneyHive, told in the background: what is asked for, and when.
//!
//! | rule | what |
//! | --- | --- |
//! | REG1 | A session is registered (`POST /session/start`) when its first recorded span begins, once in a process. One that a caller sent is the caller's to register. |
//! | REG2 | The body is `{"session": {…}}` with the id as HoneyHive knows it ([`honeyhive_session_id`]); what is not there is left out. |
//! | REG3 | An enrichment (`PUT /events`) has the session's id as `event_id`. There is no field for inputs: they go to the metadata, as `inputs`. Outputs are always an object: another value becomes its `result`. |
//! | REG4 | Requests go out one by one in the order in which they were asked for, so that a session is there before it is enriched. The queue is one of [`delivery`](crate::delivery), bounded by bytes: answers mean the same as for spans, and so do pauses and the time for retries; what is dropped is counted, and told once. |
//! | REG5 | Nothing waits for it: spans carry `honeyhive.session_auto_create`, so a request that fails loses no span, and it never changes the session's id. |
//! | REG6 | What users put into a request is redacted and capped as it is on spans. |

use alloc::borrow::Cow;
use alloc::collections::{BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::delivery::{Config, Scope};
use crate::flatten::{Options, capped, json_text};
use crate::session::honeyhive_session_id;
use crate::value::Value;

/// The sessions that [`Registered`] remembers. One that is forgotten may be registered again, which changes nothing:
/// HoneyHive takes it for the same.
const REMEMBERED: usize = 4096;
/// The bytes of requests that may wait: some ten thousand sessions that begin with little.
const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// What is asked of HoneyHive beside taking spans.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Request {
    /// A session begins.
    Start,
    /// A session is enriched.
    Enrich,
}

impl Request {
    /// The HTTP method.
    pub const fn method(self) -> &'static str {
        match self {
            Self::Start => "POST",
            Self::Enrich => "PUT",
        }
    }

    /// The path behind the base URL.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Start => "/session/start",
            Self::Enrich => "/events",
        }
    }

    /// The scope by which a queue knows it.
    pub fn scope(self) -> Scope {
        Scope::new(&[self as u8])
    }
}

/// The bounds of a queue of such requests (REG4): each goes by itself and at once. A flush answers for what is merged into
/// sessions, not for their registration: every span says to which session it belongs, and that it is to be created.
pub fn queue() -> Config {
    Config {
        queue_bytes: QUEUE_BYTES,
        batch_spans: Some(1),
        delay_ns: 0,
        request_bytes: QUEUE_BYTES,
        expendable: Some(Request::Start.scope()),
        ..Config::default()
    }
}

/// A session that begins (REG2).
#[derive(Clone, Debug, Default)]
pub struct Start<'a> {
    /// The session as it travels on the wire.
    pub session_id: &'a str,
    /// What it is called.
    pub session_name: Option<&'a str>,
    /// The service's own source.
    pub source: Option<&'a str>,
    /// The project.
    pub project: Option<&'a str>,
    /// What it begins with.
    pub inputs: Option<Value<'a>>,
    /// What is known about it.
    pub metadata: Option<Value<'a>>,
    /// Whose it is.
    pub user_properties: Option<Value<'a>>,
}

impl Start<'_> {
    /// The JSON of the request.
    pub fn body(&self, options: &Options) -> String {
        let text = |text: Option<&str>| text.map(|text| Value::from(String::from(text)));
        let own = |value: &Option<Value<'_>>| value.clone().map(Value::into_owned);
        let session = object(
            [
                ("session_id", Some(Value::from(honeyhive_session_id(self.session_id).into_owned()))),
                ("session_name", text(self.session_name)),
                ("source", text(self.source)),
                ("project", text(self.project)),
                ("inputs", own(&self.inputs)),
                ("metadata", own(&self.metadata)),
                ("user_properties", own(&self.user_properties)),
            ],
            options,
        );
        json_text(&Value::Map(Vec::from([(Cow::Borrowed("session"), session)])), usize::MAX)
    }
}

/// What is merged into a session (REG3).
#[derive(Clone, Debug, Default)]
pub struct Enrichment {
    /// What it began with.
    pub inputs: Option<Value<'static>>,
    /// What came of it, in place of what is there.
    pub outputs: Option<Value<'static>>,
    /// What is known about it.
    pub metadata: Option<Value<'static>>,
    /// What was measured.
    pub metrics: Option<Value<'static>>,
    /// What people said of it.
    pub feedback: Option<Value<'static>>,
    /// How it was set up.
    pub config: Option<Value<'static>>,
    /// Whose it is.
    pub user_properties: Option<Value<'static>>,
}

impl Enrichment {
    /// The JSON of the request; `None` if there is nothing to merge.
    pub fn body(self, session_id: &str, options: &Options) -> Option<String> {
        let mut metadata = self.metadata;
        if let Some(inputs) = self.inputs {
            let entry = (Cow::Borrowed("inputs"), inputs);
            match &mut metadata {
                Some(Value::Map(entries)) => entries.push(entry),
                _ => metadata = Some(Value::Map(Vec::from([entry]))),
            }
        }
        let outputs = self.outputs.map(|outputs| match outputs {
            Value::Map(_) => outputs,
            other => Value::Map(Vec::from([(Cow::Borrowed("result"), other)])),
        });
        let fields = [
            ("metadata", metadata),
            ("outputs", outputs),
            ("metrics", self.metrics),
            ("feedback", self.feedback),
            ("config", self.config),
            ("user_properties", self.user_properties),
        ];
        if fields.iter().all(|(_, value)| value.is_none()) {
            return None;
        }
        let id = Value::from(honeyhive_session_id(session_id).into_owned());
        let body = object([("event_id", Some(id))].into_iter().chain(fields), options);
        Some(json_text(&body, usize::MAX))
    }
}

/// The object of those fields that have a value, redacted and capped (REG6).
fn object(
    fields: impl IntoIterator<Item = (&'static str, Option<Value<'static>>)>,
    options: &Options,
) -> Value<'static> {
    let fields = fields.into_iter().filter_map(|(key, value)| {
        let mut value = value?;
        options.redaction.apply(key, &mut value);
        cap(&mut value, options.captured_bytes);
        Some((Cow::Borrowed(key), value))
    });
    Value::Map(fields.collect())
}

/// Cuts the texts in a value. Values are as deep as their binding lets them be.
fn cap(value: &mut Value<'_>, bytes: usize) {
    match value {
        Value::Str(text) if text.len() > bytes => *text = Cow::Owned(capped(text, bytes).into_owned()),
        Value::Array(items) => items.iter_mut().for_each(|item| cap(item, bytes)),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, value)| cap(value, bytes)),
        _ => {}
    }
}

/// The sessions that were registered, so that none is twice (REG1): the last few thousand.
#[derive(Clone, Debug, Default)]
pub struct Registered {
    ids: BTreeSet<Arc<str>>,
    /// The oldest first.
    order: VecDeque<Arc<str>>,
}

impl Registered {
    /// Takes note of a session; whether it is new.
    pub fn insert(&mut self, session_id: &str) -> bool {
        if self.ids.contains(session_id) {
            return false;
        }
        if self.order.len() >= REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.ids.remove(&oldest);
            }
        }
        let id: Arc<str> = Arc::from(session_id);
        self.ids.insert(Arc::clone(&id));
        self.order.push_back(id);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Redaction;
    use alloc::{format, vec};

    fn map(entries: &[(&'static str, Value<'static>)]) -> Option<Value<'static>> {
        Some(Value::Map(entries.iter().map(|(key, value)| (Cow::Borrowed(*key), value.clone())).collect()))
    }

    #[test]
    fn a_session_starts_with_what_is_given() {
        let options = Options::default();
        let bare = Start { session_id: "7F1F0AD8-2C1C-4D3E-9B52-6A1D1C9A7F10", ..Start::default() };
        assert_eq!(bare.body(&options), r#"{"session":{"session_id":"7f1f0ad8-2c1c-4d3e-9b52-6a1d1c9a7f10"}}"#);
        let whole = Start {
            session_id: "mine",
            session_name: Some("a \"name\""),
            source: Some("dev"),
            project: Some("shop"),
            inputs: map(&[("question", "why?".into()), ("api_key", "s3cr3t".into())]),
            metadata: map(&[("n", 1_i64.into())]),
            user_properties: map(&[("plan", "free".into())]),
        };
        let expected = format!(
            concat!(
                r#"{{"session":{{"session_id":"{}","session_name":"a \"name\"","source":"dev","project":"shop","#,
                r#""inputs":{{"question":"why?","api_key":"[redacted]"}},"metadata":{{"n":1}},"#,
                r#""user_properties":{{"plan":"free"}}}}}}"#
            ),
            honeyhive_session_id("mine")
        );
        assert_eq!(whole.body(&options), expected);
    }

    #[test]
    fn an_enrichment_merges_what_is_given() {
        let options = Options { captured_bytes: 40, redaction: Redaction::Off, ..Options::default() };
        let id = honeyhive_session_id("mine");
        let body = |enrichment: Enrichment| enrichment.body("mine", &options);
        assert_eq!(body(Enrichment::default()), None);
        let outputs = Enrichment { outputs: Some("done".into()), ..Enrichment::default() };
        assert_eq!(body(outputs).unwrap(), format!(r#"{{"event_id":"{id}","outputs":{{"result":"done"}}}}"#));
        let inputs = Enrichment { inputs: map(&[("q", "?".into())]), ..Enrichment::default() };
        let expected = format!(r#"{{"event_id":"{id}","metadata":{{"inputs":{{"q":"?"}}}}}}"#);
        assert_eq!(body(inputs.clone()).unwrap(), expected);
        let long = Value::from("x".repeat(100));
        let both = Enrichment { metadata: map(&[("text", vec![long].into())]), metrics: map(&[]), ..inputs };
        let cut = capped(&"x".repeat(100), 40).into_owned();
        let expected =
            format!(r#"{{"event_id":"{id}","metadata":{{"text":["{cut}"],"inputs":{{"q":"?"}}}},"metrics":{{}}}}"#);
        assert_eq!(body(both).unwrap(), expected);
    }

    #[test]
    fn a_session_is_new_once() {
        let mut registered = Registered::default();
        assert!(registered.insert("a"));
        assert!(!registered.insert("a"));
        for number in 0..REMEMBERED {
            assert!(registered.insert(&format!("{number}")));
        }
        assert_eq!((registered.ids.len(), registered.order.len()), (REMEMBERED, REMEMBERED));
        assert!(registered.insert("a"), "the oldest is forgotten");
        assert!(!registered.insert(&format!("{}", REMEMBERED - 1)));
    }

    #[test]
    fn a_burst_is_bounded_by_its_bytes_and_counted() {
        use crate::delivery::{Delivery, Pushed, Reason, Scope};
        let mut delivery = Delivery::new(queue(), b"");
        let (scope, options) = (Scope::new(b"any"), Options::default());
        let mut push = |number: u32, inputs: Option<Value<'_>>| {
            let id = format!("{number:036}");
            let start = Start { session_id: &id, source: Some("dev"), inputs, ..Start::default() };
            delivery.push(&scope, || 0, |out| out.extend_from_slice(start.body(&options).as_bytes()))
        };
        for number in 0..10_000 {
            assert!(matches!(push(number, None), Pushed::Queued { .. }), "{number}");
        }
        let large = |number| push(number, map(&[("text", "x".repeat(60_000).into())]));
        let refused = (0..200).map(large).filter(|pushed| *pushed == Pushed::Dropped(Reason::QueueFull)).count();
        assert!(refused > 50, "{refused}");
        let stats = delivery.stats();
        assert_eq!(stats.dropped.get(Reason::QueueFull), refused as u64);
        assert_eq!(stats.queued, 10_200 - refused as u64);
    }

    #[test]
    fn requests_go_one_by_one_and_at_once() {
        use crate::delivery::{Answer, Delivery, Next, Scope};
        let mut delivery = Delivery::new(queue(), b"");
        let scope = Scope::new(b"any");
        for body in [b"one", b"two"] {
            delivery.push(&scope, || 0, |out| out.extend_from_slice(body));
        }
        for expected in [b"one", b"two"] {
            let Next::Send(batch) = delivery.poll(0) else { panic!("not due") };
            assert_eq!(batch.runs().map(|run| run.spans()).collect::<Vec<_>>(), [expected]);
            assert!(matches!(delivery.poll(0), Next::Idle), "one at a time");
            delivery.answered(batch, Answer::of_status(200, None), 0, 0);
        }
    }
}
