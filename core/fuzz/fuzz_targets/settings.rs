//! Arguments and environment of anything: what comes out can be used, and no warning quotes a value.
#![no_main]

mod lines;

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use tracebaton::settings::{Arguments, Exporter, resolve};

// Lines of `NAME=value`. Names in lower case are arguments.
fuzz_target!(|data: &[u8]| {
    let Ok(lines) = lines::lines(data).map(std::str::from_utf8).collect::<Result<Vec<_>, _>>() else { return };
    let map: BTreeMap<&str, &str> = lines.iter().filter_map(|line| line.split_once('=')).collect();
    let text = |name: &str| map.get(name).copied();
    let exporters: Vec<&str> = text("exporter").map(|names| names.split(',').collect()).unwrap_or_default();
    let headers: Vec<(&str, &str)> = text("otlp_headers")
        .map(|list| list.split(',').filter_map(|pair| pair.split_once('=')).collect())
        .unwrap_or_default();
    let arguments = Arguments {
        api_key: text("api_key"),
        project: text("project"),
        source: text("source"),
        session_id: text("session_id"),
        server_url: text("server_url"),
        exporter: &exporters,
        otlp_endpoint: text("otlp_endpoint"),
        otlp_headers: &headers,
        otlp_protocol: text("otlp_protocol"),
        sampler: text("sampler"),
        sampler_argument: text("sampler_argument"),
        service_name: text("service_name"),
        flush_interval_s: text("flush_interval").and_then(|number| number.parse().ok()),
        default_session_name: text("default_session_name"),
        default_service: "unknown_service",
        language: "rust",
        version: "0",
        ..Arguments::default()
    };
    let Ok(settings) = resolve(&arguments, &|name| text(name).map(str::to_owned)) else { return };
    for exporter in &settings.exporters {
        if let Exporter::Otlp(otlp) = exporter {
            assert!(otlp.url.starts_with("http://") || otlp.url.starts_with("https://"), "a URL to call");
            assert!(otlp.url.bytes().all(|octet| octet.is_ascii_graphic()));
            for (name, value) in &otlp.headers {
                assert!(!name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b':'));
                assert!(lines::may_be_sent(value), "a header's value holds no line end");
            }
        }
    }
    for warning in &settings.warnings {
        assert!(warning.bytes().all(|octet| octet != b'\n' && octet != b'\r'));
        for value in map.values().filter(|value| value.len() > 40) {
            assert!(!warning.contains(value));
        }
    }
});
