//! `tracebaton tree`, the life of the processes, and HoneyHive's endpoints.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use std::process::Command;

use prost::Message;
use serde_json::json;
use support::{PROTOBUF, Viewer, attribute, request, span, tracebaton};

#[test]
fn a_session_as_text() {
    let viewer = Viewer::start();
    let of_session = |mut span: opentelemetry_proto::tonic::trace::v1::Span, source: &str, kind: &str| {
        span.attributes = vec![
            attribute("honeyhive.session_id", "s-1"),
            attribute("honeyhive.session_name", "talk"),
            attribute("honeyhive.project", "demo"),
            attribute("honeyhive.source", source),
            attribute("honeyhive_event_type", kind),
        ];
        span
    };
    let mut failed = of_session(span(3, 2, "weather\u{1b}[2J", 120, 121), "agent-server", "tool");
    failed.status =
        Some(opentelemetry_proto::tonic::trace::v1::Status { code: 2, message: "no\nsuch city".to_owned() });
    let agent = vec![failed, of_session(span(2, 1, "run", 110, 190), "agent-server", "chain")];
    let mut second = of_session(span(1, 0, "call", 1100, 3100), "client", "chain");
    second.trace_id = vec![2; 16];
    let client = vec![
        second,
        of_session(span(1, 0, "call", 100, 200), "client", "chain"),
        of_session(span(4, 1, "after", 195, 196), "client", "tool"),
    ];
    viewer.post("/v1/traces", PROTOBUF, &request("agent", agent).encode_to_vec());
    viewer.post("/v1/traces", PROTOBUF, &request("app", client).encode_to_vec());
    let expected = format!(
        "session s-1 \"talk\" · project demo · 2 traces · 5 spans · services agent, app · \
         sources agent-server, client · 1 error\n\
         trace {}\n\
         └─ call (chain) [client/app] 100.0 ms\n\
         \u{20}  ├─ run (chain) [agent-server/agent] 80.0 ms\n\
         \u{20}  │  └─ weather [2J (tool) [agent-server/agent] 1.0 ms ERROR no such city\n\
         \u{20}  └─ after (tool) [client/app] 1.0 ms\n\
         trace {}\n\
         └─ call (chain) [client/app] 2.00 s\n",
        "01".repeat(16),
        "02".repeat(16)
    );
    for arguments in [&[][..], &["s-1"]] {
        let output = viewer.tree(arguments);
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    }
    // From the file, while the viewer writes to it, and after.
    let from_file = |db: &std::path::Path| tracebaton().args(["tree", "--db"]).arg(db).output().unwrap();
    assert_eq!(String::from_utf8(from_file(&viewer.db()).stdout).unwrap(), expected);
    let trace = viewer.tree_json(&[&"02".repeat(16)]);
    assert_eq!((&trace["span_count"], &trace["traces"][0]["roots"][0]["name"]), (&json!(1), &json!("call")));
}

#[test]
fn ten_thousand_levels_are_read_and_written() {
    let viewer = Viewer::start();
    let id = |at: u64| at.to_be_bytes().to_vec();
    let spans = (1..=10_000)
        .map(|at| {
            let mut span = span(1, 0, "level", at, at + 1);
            span.span_id = id(at);
            span.parent_span_id = if at == 1 { Vec::new() } else { id(at - 1) };
            span
        })
        .collect();
    assert_eq!(viewer.post("/v1/traces", PROTOBUF, &request("a", spans).encode_to_vec()).status, 200);
    let output = viewer.tree(&[]);
    assert_eq!(String::from_utf8(output.stdout).unwrap().lines().count(), 10_002);
    let output = viewer.tree(&["--json"]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches("\"children\":[").count(), 10_000);
    assert!(text.ends_with(&format!("{}]}}]}}\n", "]}".repeat(10_000))));
}

#[test]
fn nothing_to_show_is_an_error_that_says_so() {
    let viewer = Viewer::start();
    for (arguments, word) in [(&[][..], "no spans"), (&["unknown"], "unknown"), (&["--json"], "no spans")] {
        let output = viewer.tree(arguments);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{arguments:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains(word), "{arguments:?}");
    }
    // Nobody listens on the port of a viewer that is gone.
    let url = viewer.url.clone();
    drop(viewer);
    let output = tracebaton().args(["tree", "--url", &url]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no viewer answers"));
    let folder = tempfile::TempDir::new().unwrap();
    let missing = folder.path().join("missing.db");
    std::fs::write(folder.path().join("text.db"), "this is not a database, only text of some length").unwrap();
    for file in [missing.clone(), folder.path().join("text.db")] {
        let output = tracebaton().args(["tree", "--db"]).arg(&file).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{file:?}");
    }
    assert!(!missing.exists());
}

#[cfg(unix)]
#[test]
fn a_stopped_viewer_leaves_one_file_and_starts_again_on_it() {
    use std::os::unix::fs::PermissionsExt;
    for signal in ["TERM", "INT"] {
        let viewer = Viewer::start();
        viewer.post("/v1/traces", PROTOBUF, &request("a", vec![span(1, 0, "kept", 1, 2)]).encode_to_vec());
        let mode = std::fs::metadata(viewer.db()).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others may not read prompts");
        // A connection that is open and idle does not hold it up.
        let _idle = std::net::TcpStream::connect(viewer.address()).unwrap();
        Command::new("kill").args([&format!("-{signal}"), &viewer.pid().to_string()]).status().unwrap();
        let (status, folder) = viewer.wait();
        assert_eq!(status.code(), Some(0), "{signal}");
        let files: Vec<_> = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files, ["spans.db"]);
        let output = tracebaton().args(["tree", "--db"]).arg(folder.path().join("spans.db")).output().unwrap();
        assert!(String::from_utf8(output.stdout).unwrap().contains("kept"));
    }
}

#[test]
fn the_port_file_holds_the_port_once_ready() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("port");
    let viewer = Viewer::start_with(&["--listen", "127.0.0.1:0", "--port-file", file.to_str().unwrap()]);
    let port = std::fs::read_to_string(file).unwrap();
    assert!(viewer.url.ends_with(&format!(":{}", port.trim())));
}

#[test]
fn a_taken_port_is_an_error() {
    let viewer = Viewer::start();
    let output = tracebaton().args(["view", "--db", ":memory:", "--listen", viewer.address()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot listen"));
}

#[test]
fn sessions_are_started_named_and_enriched_as_at_honeyhive() {
    let viewer = Viewer::start();
    let session = "0190b3a0-1111-4000-8000-000000000001";
    let start = json!({"session": {"session_id": session, "session_name": "talk", "source": "dev", "project": "demo"}});
    let answer = viewer.post_json("/session/start", &start);
    assert_eq!((answer.status, &answer.json()["session_id"]), (200, &json!(session)));
    for field in ["event_id", "org_id", "workspace_id", "project_id"] {
        assert!(answer.json()[field].is_string(), "{field}");
    }
    let fresh = viewer.post_json("/v1/sessions", &json!({"session_name": "other"})).json();
    assert_ne!(fresh["session_id"], session);

    // Listed before its first span, and named after.
    assert_eq!(viewer.sessions().len(), 2);
    let mut call = span(1, 0, "call", 1, 2);
    call.attributes = vec![attribute("honeyhive.session_id", session)];
    viewer.post("/v1/traces", PROTOBUF, &request("a", vec![call]).encode_to_vec());
    let listed = &viewer.sessions()[0];
    let facts = [&listed["session_id"], &listed["session_name"], &listed["project"], &listed["span_count"]];
    assert_eq!(facts, [&json!(session), &json!("talk"), &json!("demo"), &json!(1)]);

    let enrichment = json!({"event_id": session, "metadata": {"user": "u"}, "metrics": {"score": 0.5}});
    let answer = viewer.send("PUT", "/events", &[], enrichment.to_string().as_bytes());
    assert_eq!((answer.status, answer.json()), (200, json!({"event_id": session, "success": true})));
    let answer = viewer.send("PUT", &format!("/v1/events/{session}"), &[], br#"{"metadata": {"tier": 2}}"#);
    assert_eq!((answer.status, answer.json()), (200, json!({"event_id": session, "success": true})));
    let expected = json!({"metadata": {"tier": 2, "user": "u"}, "metrics": {"score": 0.5}});
    assert_eq!(viewer.session(session)["session"]["properties"], expected);

    let event = json!({"event": {"session_id": session, "event_type": "tool", "event_name": "made", "inputs": {}}});
    let answer = viewer.post_json("/events", &event);
    assert_eq!((answer.status, &answer.json()["success"]), (200, &json!(true)));
    let answer = viewer.post_json("/v1/events", &event["event"]);
    assert!(answer.json()["event_id"].is_string());
    let names: Vec<_> =
        viewer.session(session)["spans"].as_array().unwrap().iter().map(|span| span["name"].clone()).collect();
    assert_eq!(names, ["call", "made", "made"]);
    assert_eq!(viewer.send("PUT", "/events", &[], b"{}").status, 400);
}

#[cfg(unix)]
#[test]
fn without_a_file_spans_go_to_the_users_data_folder() {
    use std::io::BufRead;
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::TempDir::new().unwrap();
    let mut process = tracebaton()
        .args(["view", "--listen", "127.0.0.1:0"])
        .env("XDG_DATA_HOME", home.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let folder = home.path().join("tracebaton");
    assert!(folder.join("spans.db").exists(), "{line}");
    assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o077, 0);
    process.kill().unwrap();
    process.wait().unwrap();
}
