//! What the vectors of `tests/vectors/settings.json` cannot say: that nothing in the environment is an error, that no
//! secret shows, and what the encoded resource looks like.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::cell::RefCell;

use super::*;

/// Resolves with an environment of these variables.
fn resolve_in(arguments: &Arguments<'_>, variables: &[(&str, &str)]) -> Settings {
    let lookup = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
    resolve(arguments, &lookup).unwrap()
}

/// Every variable that is looked up, whatever makes it so.
fn variables() -> Vec<String> {
    let names = RefCell::new(Vec::new());
    let lookup = |name: &str| {
        let mut names = names.borrow_mut();
        if !names.iter().any(|known| known == name) {
            names.push(name.to_string());
        }
        // Without these two some would not be asked for.
        ["HH_API_KEY", "OTEL_TRACES_SAMPLER"].contains(&name).then(|| "traceidratio".to_string())
    };
    for exporter in [&[][..], &["honeyhive", "otlp"], &["otlp"]] {
        resolve(&Arguments { exporter, ..Arguments::default() }, &lookup).unwrap();
    }
    resolve(&Arguments::default(), &|name: &str| {
        names.borrow_mut().push(name.to_string());
        None
    })
    .unwrap();
    let mut names = names.into_inner();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn every_variable_has_a_prefix() {
    let names = variables();
    assert!(names.len() > 50, "{names:?}");
    for name in names {
        assert!(["OTEL_", "HH_", "HONEYHIVE_"].iter().any(|prefix| name.starts_with(prefix)), "{name}");
    }
}

/// SET2: whatever a variable holds, there is an answer, and at most one warning, which names it and does not show it.
#[test]
fn no_value_of_a_variable_is_an_error() {
    let long = "s3cr3t".repeat(50_000);
    let values = [
        "s3cr3t",
        "s3cr3t\r\nX-Evil: 1",
        "s3cr3t=%ff",
        "=s3cr3t",
        "s3cr3t,=",
        "http://s3cr3t:x@:1",
        "ftp://s3cr3t",
        "-1.s3cr3t",
        "\u{0}s3cr3t",
        "ſ3cr3t s3cr3t",
        "http://s3cr3t:s3cr3t@host:99999/",
        "grpc://s3cr3t:4317",
        &long,
    ];
    for name in variables() {
        for value in values {
            for exporter in [&[][..], &["honeyhive", "otlp"]] {
                let arguments = Arguments { exporter, ..Arguments::default() };
                let variables = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("HH_API_KEY", "key")];
                let mut all = vec![(name.as_str(), value)];
                all.extend(variables.into_iter().filter(|(other, _)| *other != name));
                let settings = resolve_in(&arguments, &all);
                let about: Vec<_> =
                    settings.warnings.iter().filter(|warning| warning.starts_with(&format!("{name} "))).collect();
                assert!(about.len() <= 1, "{name}: {about:?}");
                assert!(
                    !format!("{:?}", settings.warnings).contains("3cr3t"),
                    "{name}={value}: {:?}",
                    settings.warnings
                );
            }
        }
    }
}

#[test]
fn what_has_no_meaning_is_warned_of() {
    // What takes any text is left out.
    let any = [
        "HH_API_KEY",
        "HONEYHIVE_API_KEY",
        "HH_PROJECT",
        "HH_SOURCE",
        "HH_SESSION_NAME",
        "HH_SERVICE_NAME",
        "OTEL_SERVICE_NAME",
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
    ];
    for name in variables() {
        if any.contains(&name.as_str()) {
            continue;
        }
        let exporter = &["honeyhive", "otlp"];
        let arguments = Arguments { exporter, ..Arguments::default() };
        let chooser = Arguments::default();
        // This one is asked only where nothing else chooses.
        let alone = name == "OTEL_TRACES_EXPORTER";
        let mut all = vec![(name.as_str(), "no meaning")];
        if !alone {
            all.push(("HH_API_KEY", "key"));
        }
        all.extend([("OTEL_TRACES_SAMPLER", "traceidratio")].into_iter().filter(|(other, _)| *other != name));
        let settings = resolve_in(if alone { &chooser } else { &arguments }, &all);
        assert_eq!(settings.warnings.len(), 1, "{name}: {:?}", settings.warnings);
        assert!(settings.warnings[0].starts_with(&name), "{:?}", settings.warnings);
        let default = resolve_in(if alone { &chooser } else { &arguments }, &all[1..]);
        assert_eq!(default.warnings, Vec::<String>::new());
        assert_eq!(format!("{:?}", Settings { warnings: Vec::new(), ..settings }), format!("{default:?}"), "{name}");
    }
}

#[test]
fn debug_forms_show_no_secret() {
    let arguments = Arguments {
        api_key: Some("s3cr3t"),
        exporter: &["honeyhive", "otlp"],
        otlp_endpoint: Some("http://user:s3cr3t@host/x"),
        otlp_headers: &[("x-key", "s3cr3t")],
        ..Arguments::default()
    };
    let settings = resolve_in(&arguments, &[("OTEL_EXPORTER_OTLP_HEADERS", "x-other=s3cr3t")]);
    let text = format!("{settings:?}");
    assert!(!text.contains("s3cr3t"), "{text}");
    assert!(text.contains("x-key") && text.contains("x-other") && text.contains("http://host/x"), "{text}");
    let Exporter::Otlp(otlp) = &settings.exporters[1] else { panic!("{text}") };
    assert_eq!(otlp.headers.len(), 3);
    assert_eq!(settings.honeyhive.unwrap().api_key, "s3cr3t");
}

#[test]
fn errors_do_not_quote_the_argument() {
    let arguments = Arguments { server_url: Some("ftp://user:s3cr3t@host"), ..Arguments::default() };
    let error = resolve(&arguments, &|_| None).unwrap_err();
    assert_eq!(error.to_string(), "server_url must be an http:// or https:// URL");
}

#[test]
fn the_resource_is_encoded_as_otlp() {
    let arguments = Arguments { default_service: "s", language: "rust", version: "1", ..Arguments::default() };
    let resource = resolve_in(&arguments, &[("OTEL_RESOURCE_ATTRIBUTES", "a=")]).resource;
    assert_eq!(resource.service_name(), "s");
    let mut expected = Vec::new();
    for (key, value) in [
        ("service.name", "s"),
        ("telemetry.sdk.name", "tracebaton"),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.version", "1"),
        ("a", ""),
    ] {
        let (key_len, value_len) = (key.len() as u8, value.len() as u8);
        // attributes (1) { key (1), value (2) { string_value (1) } }
        expected.extend([0x0a, key_len + value_len + 6, 0x0a, key_len]);
        expected.extend(key.as_bytes());
        expected.extend([0x12, value_len + 2, 0x0a, value_len]);
        expected.extend(value.as_bytes());
    }
    assert_eq!(resource.encoded, expected);
}

#[test]
fn seconds_and_numbers() {
    for (text, ns) in [
        ("5", Some(5_000_000_000)),
        ("0.25", Some(250_000_000)),
        ("0", Some(0)),
        ("1e-3", Some(1_000_000)),
        ("-1", None),
        ("inf", None),
        ("NaN", None),
        ("1e300", None),
        ("5s", None),
    ] {
        assert_eq!(environment::seconds(text), ns, "{text}");
    }
    for (text, attributes) in [
        ("7", 7),
        ("0", 0),
        (" 7 ", 7),
        ("", 1024),
        ("+7", 1024),
        ("-7", 1024),
        ("7.0", 1024),
        ("7k", 1024),
        ("٧", 1024),
        ("99999999999999999999999", 1024),
    ] {
        let settings = resolve_in(&Arguments::default(), &[("HH_MAX_ATTRIBUTES", text)]);
        assert_eq!(settings.limits.attributes, attributes, "{text}");
    }
}
