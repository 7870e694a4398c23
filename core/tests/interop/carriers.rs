//! The carriers of other crates.

use std::collections::HashMap;

use http::{HeaderMap, HeaderValue};
use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt;
use opentelemetry::propagation::{Extractor as OtelExtractor, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use tracebaton::interop::opentelemetry::TracebatonContextExt;
use tracebaton::rule::{Rule, RuleSet};
use tracebaton::{Extractor, Injector, Outbound, Policy, extract, inject};

use crate::{CaseSensitive, TRACE, TRACEPARENT, injected, lines, quiet};

#[test]
fn header_maps_are_carriers() {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", HeaderValue::from_static(TRACEPARENT));
    headers.append("Baggage", HeaderValue::from_static("a=1"));
    headers.append("baggage", HeaderValue::from_bytes(b"b=\xff,c=3").unwrap());
    let inbound = extract(&headers, &Policy::default());
    assert_eq!(inbound.span.unwrap().trace_id.to_string(), TRACE);
    assert_eq!((inbound.baggage.as_str(), inbound.dropped), ("a=1,c=3", RuleSet::from(Rule::BaggageValue)));

    inject(&mut headers, &Outbound { session: Some("s"), ..Outbound::default() });
    assert_eq!(headers.get_all("baggage").iter().collect::<Vec<_>>(), ["session_id=s,a=1,c=3"]);
    // A header that cannot be is none.
    headers.set("baggage", "a\nb");
    headers.set("no name", "x");
    assert_eq!(headers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["traceparent"]);
    let mut any = false;
    headers.each("no name", &mut |_| any = true);
    assert!(!any);
}

#[test]
fn a_second_traceparent_is_seen_in_a_header_map() {
    let mut headers = HeaderMap::new();
    headers.append("traceparent", HeaderValue::from_static(TRACEPARENT));
    headers.append("traceparent", HeaderValue::from_static(TRACEPARENT));
    assert_eq!(extract(&headers, &Policy::default()).dropped, RuleSet::from(Rule::TraceparentDuplicate));
    headers.unset("traceparent");
    assert!(headers.is_empty());
}

/// What is taken from one of OpenTelemetry's carriers: session, baggage, and why something was dropped.
fn taken(carrier: &dyn OtelExtractor) -> (Option<String>, String, RuleSet) {
    let cx = quiet().extract_with_context(&Context::new(), carrier);
    let sent = injected(&quiet(), &cx).remove("baggage").unwrap_or_default();
    (cx.session().map(str::to_owned), sent, cx.dropped())
}

#[test]
fn all_spellings_of_all_names_are_read() {
    let headers =
        [("traceparent", TRACEPARENT), ("Baggage", "session_id=s,k=v"), ("BAGGAGE", "l=w"), ("baggage", "m=1")];
    let expected = (Some("s".to_owned()), "session_id=s,k=v,l=w,m=1".to_owned(), RuleSet::EMPTY);
    assert_eq!(taken(&lines(&headers)), expected);
    assert_eq!(taken(&CaseSensitive(lines(&headers))), expected);
    let titled = CaseSensitive(lines(&[("Traceparent", TRACEPARENT), ("Tracestate", "a=1")]));
    let cx = quiet().extract_with_context(&Context::new(), &titled);
    assert_eq!(cx.span().span_context().trace_state().header(), "a=1");
}

#[test]
fn two_spellings_of_traceparent_are_two_headers_also_if_equal() {
    let headers = [("traceparent", TRACEPARENT), ("Traceparent", TRACEPARENT), ("baggage", "k=v")];
    let expected = (None, "k=v".to_owned(), RuleSet::from(Rule::TraceparentDuplicate));
    assert_eq!(taken(&lines(&headers)), expected);
    assert_eq!(taken(&CaseSensitive(lines(&headers))), expected);
    // The text of both is at one place in memory.
    struct Same;
    impl OtelExtractor for Same {
        fn get(&self, key: &str) -> Option<&str> {
            self.keys().contains(&key).then_some(TRACEPARENT)
        }

        fn keys(&self) -> Vec<&str> {
            vec!["traceparent", "Traceparent"]
        }
    }
    assert_eq!(taken(&Same).2, RuleSet::from(Rule::TraceparentDuplicate));
}

#[test]
fn a_line_counts_once_however_often_its_name_is_listed() {
    /// Finds names in any case, and lists them in several.
    struct Listed(Vec<&'static str>);
    impl OtelExtractor for Listed {
        fn get(&self, key: &str) -> Option<&str> {
            match key.to_lowercase().as_str() {
                "traceparent" => Some(TRACEPARENT),
                "baggage" => Some("session_id=s,k=v"),
                _ => None,
            }
        }

        fn keys(&self) -> Vec<&str> {
            self.0.clone()
        }
    }
    let expected = (Some("s".to_owned()), "session_id=s,k=v".to_owned(), RuleSet::EMPTY);
    let upper = |upper| format!("{}{}", "BAGGAGE".split_at(upper).0, "baggage".split_at(upper).1);
    let all: Vec<&'static str> = (0..=7).map(|at| &*upper(at).leak()).collect();
    for names in [
        vec!["traceparent", "baggage"],
        vec!["traceparent", "traceparent", "Baggage", "Baggage"],
        vec!["Traceparent", "traceparent", "baggage", "BAGGAGE", "Baggage"],
        all,
        // Names that are not listed are asked for in lower case.
        vec![],
        vec!["host"],
    ] {
        assert_eq!(taken(&Listed(names.clone())), expected, "{names:?}");
    }
}

#[test]
fn a_hash_map_is_read_under_keys_in_lower_case() {
    let map = |names: &[&str]| -> HashMap<String, String> {
        names.iter().map(|name| ((*name).to_owned(), format!("from={name}"))).collect()
    };
    assert_eq!(taken(&map(&["baggage"])).1, "from=baggage");
    assert_eq!(taken(&map(&["baggage", "Baggage"])).1, "from=baggage");
    // Under other keys it finds nothing itself; its pairs are a carrier that does.
    let titled = map(&["Baggage"]);
    assert_eq!((titled.get_all("Baggage"), taken(&titled).1), (None, String::new()));
    let cx = quiet().extract_from(&Context::new(), &titled.into_iter().collect::<Vec<_>>());
    assert_eq!(cx.baggage().get("from").unwrap().as_str(), "Baggage");
}

#[test]
fn the_environment_of_a_cgi_process_is_not_the_request() {
    let headers = [("BAGGAGE", "session_id=process"), ("HTTP_BAGGAGE", "session_id=request")];
    let marked = [("TRACEPARENT", TRACEPARENT), ("BAGGAGE", "session_id=process"), ("REQUEST_METHOD", "GET")];
    for any_case in [true, false] {
        let read = |headers: &[(&str, &str)]| match lines(headers) {
            headers if any_case => taken(&headers),
            headers => taken(&CaseSensitive(headers)),
        };
        assert_eq!(read(&headers).0.as_deref(), Some("request"));
        assert_eq!(read(&marked), (None, String::new(), RuleSet::EMPTY));
        // The request has no baggage: what its carrier finds under a name in lower case is the process's.
        let traced = [("HTTP_TRACEPARENT", TRACEPARENT), ("BAGGAGE", "session_id=process")];
        assert_eq!(read(&traced), (None, String::new(), RuleSet::EMPTY));
        assert_eq!(read(&marked[..2]).0.as_deref(), Some("process"));
    }
}

#[test]
fn a_foreign_tracestate_does_not_stay_beside_our_traceparent() {
    let cx = quiet().extract_from(&Context::new(), &[("traceparent", TRACEPARENT)]);
    let foreign = || HashMap::from([("tracestate".to_owned(), "other=trace".to_owned())]);
    let mut carrier = foreign();
    quiet().inject_context(&cx, &mut carrier);
    let ours =
        [("traceparent", TRACEPARENT), ("tracestate", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(carrier, HashMap::from(ours));
    // For the next service it is as if there was none.
    let inbound = extract(&carrier.into_iter().collect::<Vec<_>>(), &Policy::default());
    assert_eq!((inbound.span.unwrap().trace_id.to_string(), inbound.dropped), (TRACE.to_owned(), RuleSet::EMPTY));
    // Without a span, nothing is known of either.
    let mut carrier = foreign();
    quiet().inject_context(&Context::new(), &mut carrier);
    assert_eq!(carrier, foreign());
}
