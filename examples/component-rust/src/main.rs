//! A service that got a request and sends one: reads the caller's headers, makes a span, writes the headers of the next
//! request, and prints both and the span as OTLP/JSON.
//!
//! `cargo run --release -- ../../build/wasm/tracebaton-context.wasm 'traceparent: 00-…' 'baggage: session_id=…'`

use component_rust::interfaces::propagation::Outbound;
use component_rust::interfaces::spans::{Dialect, Kind, Node, Routing, Run, Span};
use component_rust::{instantiate, load};
use wasmtime::{Result, bail};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else { bail!("usage: component-rust COMPONENT [HEADER]…") };
    let headers: Vec<(String, String)> =
        arguments.filter_map(|line| line.split_once(": ").map(|(name, value)| (name.into(), value.into()))).collect();

    let (component, linker) = load(&path)?;
    let (mut store, context) = instantiate(&component, &linker)?;
    let (propagation, spans) = (context.tracebaton_context_propagation(), context.tracebaton_context_spans());

    let start = spans.call_now(&mut store)?;
    let inbound = propagation.call_extract(&mut store, &headers, None)?;
    let span =
        propagation.call_new_child(&mut store, inbound.span.as_ref(), None)?.expect("what extract gave is valid");

    let outbound = Outbound {
        span: Some(span.clone()),
        session: inbound.session.clone(),
        project: None,
        source: Some("component-rust".into()),
        application: vec![],
        is_api_view: false,
        inbound: inbound.baggage.clone(),
        policy: None,
        destination: Some("http://agent:8080/".into()),
        origin: None,
    };
    let injected = propagation.call_inject(&mut store, &[], &outbound)?.expect("the arguments are valid");
    for (name, value) in injected.headers {
        println!("{name}: {value}");
    }

    let ended = Span {
        context: span,
        parent: inbound.span,
        name: "answer".into(),
        kind: Kind::Server,
        start_ns: start.unix_ns,
        end_ns: spans.call_since(&mut store, start)?,
        attributes: vec![("app.answers".into(), vec![Node::Integer(1)])],
        events: vec![],
        links: vec![],
        statuses: vec![],
    };
    let routing = Routing {
        session: inbound.session.clone(),
        otel_session: inbound.session,
        session_name: None,
        project: None,
        source: Some("component-rust".into()),
    };
    let encoded = spans.call_build(&mut store, &ended, &routing, None)?.expect("the span is valid");
    let resource = [("service.name".into(), vec![Node::Text("component-rust".into())])];
    let run = Run {
        scope_name: "component-rust".into(),
        scope_version: String::new(),
        scope_attributes: vec![],
        schema_url: String::new(),
        spans: vec![encoded],
    };
    let json = spans.call_encode_json(&mut store, &resource, &[run], Dialect::Numbers)?.expect("the span is valid");
    println!("{json}");
    Ok(())
}
