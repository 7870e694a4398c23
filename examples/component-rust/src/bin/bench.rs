//! Calls per second of extract and inject, beside OpenTelemetry's propagator for Rust: prints one JSON line per round,
//! the component and its peer in turn. `bench COMPONENT ROUNDS MILLISECONDS`.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use component_rust::interfaces::propagation::Outbound;
use component_rust::{instantiate, load};
use opentelemetry::Context;
use opentelemetry::propagation::{TextMapCompositePropagator, TextMapPropagator};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use wasmtime::{Result, bail};

const HEADERS: [(&str, &str); 3] = [
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", "vendor=1,other=2"),
    ("baggage", "session_id=4f1e2d3c,user=alice,plan=pro"),
];

fn per_second(time: Duration, mut f: impl FnMut()) -> f64 {
    let (start, mut calls) = (Instant::now(), 0_u32);
    while start.elapsed() < time {
        (0..20).for_each(|_| f());
        calls += 20;
    }
    f64::from(calls) / start.elapsed().as_secs_f64()
}

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, path, rounds, millis] = &arguments[..] else { bail!("usage: bench COMPONENT ROUNDS MILLISECONDS") };
    let time = Duration::from_millis(millis.parse()?);
    let (component, linker) = load(path)?;
    let (mut store, context) = instantiate(&component, &linker)?;
    let propagation = context.tracebaton_context_propagation();
    let headers = HEADERS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let peer = TextMapCompositePropagator::new(vec![
        Box::new(TraceContextPropagator::new()),
        Box::new(BaggagePropagator::new()),
    ]);
    let carrier: HashMap<String, String> = headers.iter().cloned().collect();
    for _ in 0..rounds.parse::<u32>()? {
        let ours = per_second(time, || {
            let inbound = propagation.call_extract(&mut store, &headers, None).unwrap();
            let outbound = Outbound {
                span: inbound.span,
                session: inbound.session,
                project: None,
                source: None,
                application: vec![],
                is_api_view: false,
                inbound: inbound.baggage,
                policy: None,
                destination: None,
                origin: None,
            };
            black_box(propagation.call_inject(&mut store, &[], &outbound).unwrap().unwrap());
        });
        let theirs = per_second(time, || {
            let context = peer.extract_with_context(&Context::new(), &carrier);
            let mut out = HashMap::new();
            peer.inject_context(&context, &mut out);
            black_box(out);
        });
        println!("{{\"ours\": {ours}, \"peer\": {theirs}}}");
    }
    Ok(())
}
