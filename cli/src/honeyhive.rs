//! The endpoints of HoneyHive that its SDKs call besides OTLP, as far as a local viewer has a use for them.
//!
//! Sessions are opened and named, enrichments are merged into their session, single events become spans of it.

use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::body::Refusal;
use crate::budget;
use crate::ingest::{Batch, MAX_SESSION_ID};
use crate::span::{Span, Status};
use crate::store::Store;

/// What organisation, workspace and project are called here, where there is only one of each. Clients want an id.
const LOCAL: Uuid = Uuid::nil();

/// The parts of a session or an event that an enrichment merges into.
const MERGED: [&str; 5] = ["metadata", "feedback", "metrics", "config", "user_properties"];
/// The parts that it replaces.
const REPLACED: [&str; 4] = ["inputs", "outputs", "error", "duration"];

/// A body as a JSON object, or the object that is its only field `wrapper` (which some clients send as JSON in a
/// string).
pub(crate) fn object(bytes: &[u8], wrapper: Option<&str>) -> Result<Map<String, Value>, Refusal> {
    budget::check_json(bytes)?;
    let not_object = || Refusal::bad("the body is not a JSON object");
    let Ok(Value::Object(mut body)) = serde_json::from_slice(bytes) else {
        return Err(not_object());
    };
    match wrapper.and_then(|wrapper| body.remove(wrapper)) {
        None => Ok(body),
        Some(Value::Object(inner)) => Ok(inner),
        Some(Value::String(text)) => {
            budget::check_json(text.as_bytes())?;
            serde_json::from_str(&text).map_err(|_| not_object())
        }
        Some(_) => Err(not_object()),
    }
}

/// `POST /session/start`, `POST /v1/sessions`: opens the session that is named, or a new one.
pub(crate) fn start_session(store: &Store, body: &Map<String, Value>, now_ns: u64) -> Result<Value, Refusal> {
    let session = text(body, "session_id").filter(|id| id.chars().count() <= MAX_SESSION_ID);
    let session = session.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
    let name = text(body, "session_name").or_else(|| text(body, "event_name"));
    store.start_session(&session, now_ns, name, text(body, "project"))?;
    enrich(store, &session, body)?;
    Ok(json!({
        "event_id": session,
        "session_id": session,
        "session_name": name,
        "org_id": LOCAL,
        "workspace_id": LOCAL,
        "project_id": LOCAL,
        "success": true,
    }))
}

/// `PUT /events`, `PUT /v1/events/{event_id}`: an enrichment. Those of sessions are kept.
pub(crate) fn update_event(store: &Store, event: Option<&str>, body: &Map<String, Value>) -> Result<Value, Refusal> {
    let Some(event) = event.or_else(|| text(body, "event_id")) else {
        return Err(Refusal::bad("the event_id is missing"));
    };
    if event.chars().count() > MAX_SESSION_ID {
        return Err(Refusal::bad("the event_id is too long"));
    }
    enrich(store, event, body)?;
    Ok(json!({"event_id": event, "success": true}))
}

fn enrich(store: &Store, session: &str, body: &Map<String, Value>) -> rusqlite::Result<()> {
    if !MERGED.iter().chain(&REPLACED).any(|part| body.get(*part).is_some_and(|value| !value.is_null())) {
        return Ok(());
    }
    store.change_properties(session, |before| {
        let mut properties: Map<String, Value> = serde_json::from_str(before).unwrap_or_default();
        merge(&mut properties, body);
        Value::Object(properties).to_string()
    })
}

fn merge(properties: &mut Map<String, Value>, change: &Map<String, Value>) {
    for part in MERGED {
        let Some(Value::Object(new)) = change.get(part) else { continue };
        let old = properties.entry(part).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(old) = old {
            old.extend(new.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
    }
    for part in REPLACED {
        if let Some(new) = change.get(part).filter(|new| !new.is_null()) {
            properties.insert(part.to_owned(), new.clone());
        }
    }
}

fn text<'a>(body: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    body.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// `POST /events`, `POST /v1/events`: one event, kept as a span of its session. The events of a session form one trace
/// beside those of OTLP, by ids that follow from theirs.
pub(crate) fn create_event(store: &Store, body: &Map<String, Value>, now_ns: u64) -> Result<Value, Refusal> {
    let event = text(body, "event_id").filter(|id| id.chars().count() <= MAX_SESSION_ID);
    let event = event.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
    let answer = json!({"event_id": event, "success": true});
    let session = text(body, "session_id").filter(|id| id.chars().count() <= MAX_SESSION_ID);
    if text(body, "event_type") == Some("session") {
        let mut body = body.clone();
        body.insert("session_id".to_owned(), Value::String(session.unwrap_or(&event).to_owned()));
        start_session(store, &body, now_ns)?;
        return Ok(answer);
    }

    let start_ns = millis(body, "start_time").unwrap_or(now_ns);
    let end_ns = millis(body, "end_time")
        .or_else(|| Some(start_ns.saturating_add(millis(body, "duration")?)))
        .unwrap_or(start_ns);
    let error = text(body, "error").map(str::to_owned);
    let mut attributes = Map::new();
    for part in MERGED.iter().chain(&REPLACED) {
        if let Some(value) = body.get(*part).filter(|value| !value.is_null()) {
            attributes.insert(format!("honeyhive_{part}"), value.clone());
        }
    }
    let json_of = |value: &Value| to_raw_value(value).map_err(|_| Refusal::bad("the event is not JSON"));
    let span = Span {
        trace_id: trace_id(session.unwrap_or(&event)),
        span_id: span_id(&event),
        parent_span_id: text(body, "parent_id").filter(|parent| Some(*parent) != session).map(span_id),
        session_id: session.map(str::to_owned),
        name: text(body, "event_name").unwrap_or("unknown").to_owned(),
        kind: "INTERNAL".to_owned(),
        service: None,
        source: text(body, "source").map(str::to_owned),
        project: text(body, "project").map(str::to_owned),
        event_type: text(body, "event_type").map(str::to_owned),
        start_ns: start_ns.min(i64::MAX as u64),
        end_ns: end_ns.min(i64::MAX as u64),
        status: Status {
            code: if error.is_some() { "ERROR" } else { "UNSET" }.to_owned(),
            message: error.clone().unwrap_or_default(),
        },
        error,
        trace_state: String::new(),
        attributes: json_of(&Value::Object(attributes))?,
        events: json_of(&json!([]))?,
        links: json_of(&json!([]))?,
        origin: 0,
    };
    store.add(&Batch {
        spans: vec![span],
        origins: vec![
            json!({"resource": {}, "scope": {"name": "honeyhive", "version": "", "attributes": {}}}).to_string(),
        ],
        session_names: Vec::new(),
        rejected: 0,
    })?;
    Ok(answer)
}

/// A time or a duration in milliseconds, as nanoseconds.
fn millis(body: &Map<String, Value>, key: &str) -> Option<u64> {
    let millis = body.get(key)?.as_f64().filter(|millis| *millis >= 0.0)?;
    // A float becomes the nearest integer that there is, the largest one included. Whole microseconds are what a
    // float of this size can tell apart.
    Some(((millis * 1e3).round() as u64).saturating_mul(1_000))
}

fn trace_id(id: &str) -> String {
    uuid_of(id).simple().to_string()
}

fn span_id(id: &str) -> String {
    // The second half: the first one of a time-ordered UUID is the time.
    uuid_of(id).simple().to_string().split_off(16)
}

/// A UUID as it is; another id by its hash.
fn uuid_of(id: &str) -> Uuid {
    Uuid::parse_str(id)
        .ok()
        .filter(|uuid| !uuid.is_nil())
        .unwrap_or_else(|| Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn store() -> Store {
        Store::open(Path::new(":memory:")).unwrap()
    }

    fn body(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn properties(store: &Store, session: &str) -> Value {
        let spans = store.session(session).unwrap().unwrap();
        serde_json::from_str(spans.summary.properties.unwrap().get()).unwrap()
    }

    #[test]
    fn bodies_with_and_without_a_wrapper() {
        let expected = body(json!({"session_id": "s"}));
        for text in [
            r#"{"session": {"session_id": "s"}}"#,
            r#"{"session": "{\"session_id\": \"s\"}"}"#,
            r#"{"session_id": "s"}"#,
        ] {
            assert_eq!(object(text.as_bytes(), Some("session")).unwrap(), expected, "{text}");
        }
        for text in ["", "[]", "7", r#"{"session": 7}"#, r#"{"session": "[]"}"#] {
            assert_eq!(object(text.as_bytes(), Some("session")).unwrap_err().0.as_u16(), 400, "{text}");
        }
    }

    #[test]
    fn a_session_keeps_its_id_or_gets_one() {
        let store = store();
        let answer = start_session(&store, &body(json!({"session_id": "mine", "session_name": "n"})), 5).unwrap();
        assert_eq!((&answer["session_id"], &answer["event_id"]), (&json!("mine"), &json!("mine")));
        for field in ["org_id", "workspace_id", "project_id"] {
            assert!(Uuid::parse_str(answer[field].as_str().unwrap()).is_ok(), "{field}");
        }
        for given in
            [json!({}), json!({"session_id": ""}), json!({"session_id": 7}), json!({"session_id": "x".repeat(257)})]
        {
            let answer = start_session(&store, &body(given), 5).unwrap();
            assert!(Uuid::parse_str(answer["session_id"].as_str().unwrap()).is_ok());
        }
        let (sessions, total) = store.sessions(10).unwrap();
        assert_eq!(total, 5);
        assert!(sessions.iter().any(|session| session.session_name.as_deref() == Some("n") && session.first_ns == 5));
    }

    #[test]
    fn starting_a_session_twice_merges() {
        let store = store();
        let first = json!({"session_id": "s", "session_name": "n", "metadata": {"a": 1, "b": 1}});
        start_session(&store, &body(first), 5).unwrap();
        start_session(&store, &body(json!({"session_id": "s", "metadata": {"b": 2}})), 9).unwrap();
        let summary = store.session("s").unwrap().unwrap().summary;
        assert_eq!((summary.session_name.as_deref(), summary.first_ns), (Some("n"), 5));
        assert_eq!(properties(&store, "s"), json!({"metadata": {"a": 1, "b": 2}}));
    }

    #[test]
    fn enrichments_merge_and_outputs_are_replaced() {
        let store = store();
        start_session(&store, &body(json!({"session_id": "s"})), 5).unwrap();
        for change in [
            json!({"event_id": "s", "metadata": {"a": 1}, "outputs": {"x": 1, "y": 2}, "unknown": 1}),
            json!({"event_id": "s", "metadata": {"b": [2]}, "outputs": {"x": 3}, "metrics": null}),
        ] {
            update_event(&store, None, &body(change)).unwrap();
        }
        assert_eq!(properties(&store, "s"), json!({"metadata": {"a": 1, "b": [2]}, "outputs": {"x": 3}}));
        let refused = update_event(&store, None, &body(json!({"metadata": {}}))).unwrap_err();
        assert_eq!(refused.0.as_u16(), 400);
    }

    #[test]
    fn events_are_spans_of_their_session() {
        let store = store();
        let session = "0190b3a0-0000-7000-8000-000000000001";
        let [outer, inner] = ["0190b3a0-0000-7000-8000-0000000000aa", "not a uuid"];
        for event in [
            json!({"event_id": outer, "session_id": session, "parent_id": session, "event_type": "chain",
                "event_name": "outer", "start_time": 1_700_000_000_000.5, "duration": 2, "inputs": {"q": "hi"}}),
            json!({"event_id": inner, "session_id": session, "parent_id": outer, "event_type": "tool",
                "start_time": 1_700_000_000_001_u64, "end_time": 1_700_000_000_002_u64, "error": "boom"}),
        ] {
            let answer = create_event(&store, &body(event.clone()), 7).unwrap();
            assert_eq!(answer, json!({"event_id": event["event_id"], "success": true}));
        }
        let spans = store.session(session).unwrap().unwrap().spans;
        assert_eq!(spans.len(), 2);
        assert_eq!((spans[0].name.as_str(), spans[0].parent_span_id.as_ref()), ("outer", None));
        assert_eq!(spans[0].start_ns, 1_700_000_000_000_500_000);
        assert_eq!(spans[0].duration_ns(), Some(2_000_000));
        assert_eq!(spans[0].attributes.get(), r#"{"honeyhive_duration":2,"honeyhive_inputs":{"q":"hi"}}"#);
        assert_eq!(spans[1].parent_span_id.as_ref(), Some(&spans[0].span_id));
        assert_eq!((spans[1].name.as_str(), spans[1].error.as_deref()), ("unknown", Some("boom")));
        // Times that are none.
        for start in [json!(-1), json!("soon"), json!(1e300), json!(null)] {
            create_event(&store, &body(json!({"event_type": "tool", "start_time": start})), 7).unwrap();
        }
    }
}
