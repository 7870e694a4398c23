//! The exchange with languages that share no objects with Rust: whatever the bytes are, there is an answer or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracebaton::SessionScope;
use tracebaton::exchange::record::Records;
use tracebaton::exchange::session::{Registration, SessionEnrichment};
use tracebaton::exchange::wire::Reader;
use tracebaton::exchange::{Exchange, Op, options, tree};
use tracebaton::otlp::reader::SpanView;
use tracebaton::scope::TracerId;
use tracebaton::settings::{Arguments, resolve};
use tracebaton::tracer::{Parts, Style, Tracer};

fn tracer() -> Tracer {
    let arguments = Arguments { exporter: &["honeyhive"], api_key: Some("k"), ..Arguments::default() };
    let settings = resolve(&arguments, &|_| None).expect("these arguments are right");
    Tracer::new(TracerId(1), settings, Parts { session: "own".to_owned(), ..Parts::default() })
}

// What it is, then its bytes: an operation and its request, or something that is no operation.
fuzz_target!(|data: &[u8]| {
    let [what, bytes @ ..] = data else { return };
    let tracer = tracer();
    match what {
        0 => {
            for record in Records::of(bytes).flatten() {
                let Ok(head) = record.head() else { continue };
                let Ok(scope) = SessionScope::read(head.blob()) else { continue };
                let Ok(span) = head.span(&tracer, &scope) else { continue };
                let mut out = Vec::new();
                span.encode(&mut out, tracer.routings(&scope).of(Style::HoneyHive));
                // What goes out is a span, unless it is not sampled.
                let length = out.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count();
                assert!(out.is_empty() || SpanView::parse(&out[length + 2..]).is_ok());
            }
        }
        1 => {
            if let Ok(scope) = SessionScope::read(bytes) {
                let mut out = Vec::new();
                scope.write(&mut out);
                assert_eq!(out, bytes);
            }
        }
        2 => {
            if let Ok(value) = tree::read(&mut Reader::new(bytes)) {
                let mut out = Vec::new();
                tree::write(&mut out, &value);
                assert!(tree::read(&mut Reader::new(&out)).is_ok());
                let _ = options::read(&value, options::Binding { language: "nodejs", version: "0" });
            }
        }
        255 => {
            let _ = (Registration::read(bytes), SessionEnrichment::read(bytes));
        }
        number => {
            let Some(op) = Op::of(u32::from(*number)) else { return };
            for tracer in [Some(&tracer), None] {
                let mut out = Vec::new();
                if let Err(error) = Exchange::default().run(op, tracer, bytes, &mut out) {
                    out.clear();
                    error.write(&mut out);
                    assert!(tree::read(&mut Reader::new(&out)).is_ok());
                }
            }
        }
    }
});
