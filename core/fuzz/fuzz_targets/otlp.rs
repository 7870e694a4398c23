//! Spans of any bytes: reading never fails badly, JSON is JSON, and both agree with prost where it reads them too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tracebaton::otlp::json::{self, Enums};
use tracebaton::otlp::reader::{Malformed, SpanView, response};

fuzz_target!(|data: &[u8]| {
    let _ = response(data);
    for write in [json::resource, json::scope] {
        let mut out = b"before".to_vec();
        match write(data, Enums::Numbers, &mut out) {
            Ok(()) => drop(serde_json::from_slice::<serde_json::Value>(&out[6..]).unwrap()),
            Err(_) => assert_eq!(out, b"before"),
        }
    }
    let mut numbers = Vec::new();
    let ours = json::span(data, Enums::Numbers, &mut numbers);
    let mut names = Vec::new();
    assert_eq!(ours, json::span(data, Enums::Names, &mut names));
    if ours.is_ok() {
        serde_json::from_slice::<serde_json::Value>(&numbers).unwrap();
        serde_json::from_slice::<serde_json::Value>(&names).unwrap();
    } else {
        assert!(numbers.is_empty() && names.is_empty());
    }
    let Ok(theirs) = Span::decode(data) else { return };
    match SpanView::parse(data) {
        // prost skips groups, which OTLP never had, and unknown fields within bytes that it does not read.
        Err(error) => assert_eq!(error, Malformed::WireType),
        Ok(view) => {
            assert_eq!((view.start_ns, view.end_ns), (theirs.start_time_unix_nano, theirs.end_time_unix_nano));
            assert_eq!(view.name.to_str(), theirs.name);
            assert_eq!(view.dropped_attributes, theirs.dropped_attributes_count);
            assert_eq!(view.events().count(), theirs.events.len());
            assert_eq!(view.links().count(), theirs.links.len());
        }
    }
    // Where prost writes as many bytes as it read, nothing was repeated, unknown or left at its default: the fields are
    // the same, if in another order.
    let again = theirs.encode_to_vec();
    if ours.is_ok() && again.len() == data.len() {
        let mut canonical = Vec::new();
        json::span(&again, Enums::Numbers, &mut canonical).unwrap();
        assert_eq!(String::from_utf8(numbers).unwrap(), String::from_utf8(canonical).unwrap());
    }
});
