//! What a viewer refuses, and that nothing which is sent to it breaks it.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod support;

use prost::Message;
use support::{JSON, PROTOBUF, Viewer, gzip, request, span, tracebaton};

const CAP: usize = 64 * 1024 * 1024;

/// That the viewer still does its work.
fn assert_alive(viewer: &Viewer) {
    let body = request("a", vec![span(1, 0, "alive", 1, 2)]).encode_to_vec();
    assert_eq!(viewer.post("/v1/traces", PROTOBUF, &body).status, 200);
    assert_eq!(viewer.get("/api/sessions").status, 200);
}

#[test]
fn garbage_is_400_with_a_short_text() {
    let viewer = Viewer::start();
    for (content_type, body) in [
        (PROTOBUF, &b"\xff\xff\xff"[..]),
        (PROTOBUF, b"{}"),
        (JSON, b""),
        (JSON, b"{"),
        (JSON, b"[]"),
        (JSON, b"\xff"),
        (JSON, br#"{"resourceSpans": 7}"#),
        (JSON, br#"{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "xyz"}]}]}]}"#),
    ] {
        let answer = viewer.post("/v1/traces", content_type, body);
        assert_eq!(answer.status, 400, "{content_type} {body:?}");
        assert!((5..200).contains(&answer.body.len()), "{}", answer.text());
    }
    let headers = [("content-type", PROTOBUF), ("content-encoding", "gzip")];
    assert_eq!(viewer.send("POST", "/v1/traces", &headers, b"not gzip").status, 400);
    // Nested deeper than any decoder follows.
    let deep = format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"k","value":{}{}}}]}}}}]}}"#,
        r#"{"arrayValue":{"values":["#.repeat(10_000),
        "]}}".repeat(10_000)
    );
    assert_eq!(viewer.post("/v1/traces", JSON, deep.as_bytes()).status, 400);
    assert_alive(&viewer);
}

#[test]
fn other_content_types_and_encodings_are_415() {
    let viewer = Viewer::start();
    for content_type in ["text/plain", "application/octet-stream", "application/jsonx", "application/protobuf"] {
        assert_eq!(viewer.post("/v1/traces", content_type, b"{}").status, 415, "{content_type}");
    }
    assert_eq!(viewer.send("POST", "/v1/traces", &[], b"{}").status, 415);
    let headers = [("content-type", JSON), ("content-encoding", "br")];
    assert_eq!(viewer.send("POST", "/v1/traces", &headers, b"{}").status, 415);
    assert_eq!(viewer.get("/v1/traces").status, 405);
    assert_eq!(viewer.get("/nothing").status, 404);
}

#[test]
fn bodies_above_the_cap_are_413() {
    let viewer = Viewer::start();
    let json = |length: usize| [b"{}".to_vec(), vec![b' '; length - 2]].concat();
    assert_eq!(viewer.post("/v1/traces", JSON, &json(CAP)).status, 200);
    // The client writes all of it before it reads, and still sees the answer.
    assert_eq!(viewer.post("/v1/traces", JSON, &json(CAP + 1)).status, 413);
    assert_eq!(viewer.post("/session/start", JSON, &json(CAP + 1)).status, 413);
    // One that asks first, and one that announces more than is worth reading, are told at once.
    for more in ["content-length: 67108865\r\nexpect: 100-continue", "content-length: 9999999999"] {
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {JSON}\r\n{more}\r\n\r\n"
        );
        assert_eq!(viewer.exchange(&[head.as_bytes()]).status, 413, "{more}");
    }
    assert_alive(&viewer);
}

#[test]
fn a_gzip_bomb_is_413() {
    let viewer = Viewer::start();
    let bomb = gzip(&vec![b' '; CAP + 1]);
    assert!(bomb.len() < 1_000_000);
    for (content_type, target) in
        [(PROTOBUF, "/v1/traces"), (JSON, "/opentelemetry/v1/traces"), (JSON, "/session/start")]
    {
        let headers = [("content-type", content_type), ("content-encoding", "gzip")];
        assert_eq!(viewer.send("POST", target, &headers, &bomb).status, 413, "{target}");
    }
    // A body within the cap that repeats itself in members.
    let members = gzip(&vec![b' '; CAP / 2]).repeat(3);
    let headers = [("content-type", JSON), ("content-encoding", "gzip")];
    assert_eq!(viewer.send("POST", "/v1/traces", &headers, &members).status, 413);
    assert_alive(&viewer);
}

/// Small bodies within the cap that decode to more than the machine has.
#[test]
fn bodies_of_very_many_parts_are_413() {
    let viewer = Viewer::start();
    let message = |field: u8, content: &[u8]| {
        let mut out = vec![field << 3 | 2];
        prost::encoding::encode_varint(content.len() as u64, &mut out);
        [out, content.to_vec()].concat()
    };
    let empty_spans = message(1, &message(2, &[0x12, 0x00].repeat(20_000_000)));
    let empty_attributes = message(1, &message(2, &message(2, &[0x4a, 0x00].repeat(20_000_000))));
    let attributes = [
        br#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[{}"#.to_vec(),
        b",{}".repeat(20_000_000),
        b"]}]}]}]}".to_vec(),
    ]
    .concat();
    let numbers = [br#"{"metadata":[0"#.to_vec(), b",0".repeat(30_000_000), b"]}".to_vec()].concat();
    for (target, content_type, body) in [
        ("/v1/traces", PROTOBUF, empty_spans),
        ("/v1/traces", PROTOBUF, empty_attributes),
        ("/v1/traces", JSON, attributes),
        ("/v1/sessions", JSON, numbers),
    ] {
        let headers = [("content-type", content_type), ("content-encoding", "gzip")];
        let answer = viewer.send("POST", target, &headers, &gzip(&body));
        assert_eq!(answer.status, 413, "{target} {content_type} {}", answer.text());
    }
    let many = (1..=500_001_u64).map(|at| {
        let mut span = span(1, 0, "", 1, 2);
        span.span_id = at.to_be_bytes().to_vec();
        span
    });
    let answer = viewer.post("/v1/traces", PROTOBUF, &request("a", many.collect()).encode_to_vec());
    assert_eq!(answer.status, 413);
    assert_alive(&viewer);
}

#[test]
fn foreign_hosts_are_403_everywhere() {
    let viewer = Viewer::start();
    for (method, target) in [("GET", "/"), ("GET", "/api/sessions"), ("POST", "/v1/traces"), ("GET", "/nothing")] {
        for host in ["attacker.example", "attacker.example:4318", "192.168.1.10", "localhost.attacker.example"] {
            assert_eq!(viewer.send(method, target, &[("host", host)], b"").status, 403, "{target} {host}");
        }
    }
    for host in ["localhost", "127.0.0.1:1", "[::1]:4318"] {
        assert_eq!(viewer.send("GET", "/", &[("host", host)], b"").status, 200, "{host}");
    }
    assert_eq!(viewer.exchange(&[b"GET /api/sessions HTTP/1.0\r\n\r\n"]).status, 403);
}

#[test]
fn pages_of_loopback_origins_may_send_and_others_may_not() {
    let viewer = Viewer::start();
    let ask = |origin| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,x-source"),
        ];
        viewer.send("OPTIONS", "/v1/traces", &headers, b"")
    };
    let answer = ask("http://localhost:5173");
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:5173"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("content-type,x-source"));
    assert!(answer.header("access-control-allow-methods").unwrap().contains("POST"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);

    let answer = ask("https://attacker.example");
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None));

    // A form or script of another site needs no preflight to post text: it is refused before anything is read.
    for target in ["/session/start", "/v1/traces"] {
        let headers = [("origin", "https://attacker.example"), ("content-type", "text/plain")];
        assert_eq!(viewer.send("POST", target, &headers, b"{}").status, 403, "{target}");
    }
    assert!(viewer.sessions().is_empty());
    let answer = viewer.send("GET", "/api/sessions", &[("origin", "http://127.0.0.1:3000")], b"");
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://127.0.0.1:3000"));
}

#[test]
fn a_token_is_needed_where_there_is_one() {
    let viewer = Viewer::start_with(&["--listen", "127.0.0.1:0", "--token", "t0ken"]);
    let answer = viewer.get("/api/sessions");
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(viewer.post("/v1/traces", PROTOBUF, b"").status, 401);
    assert_eq!(viewer.get("/").status, 401);
    assert_eq!(viewer.get("/?token=t0ken").status, 200);
    let headers = [("authorization", "Bearer t0ken"), ("content-type", PROTOBUF)];
    let body = request("a", vec![span(1, 0, "x", 1, 2)]).encode_to_vec();
    assert_eq!(viewer.send("POST", "/v1/traces", &headers, &body).status, 200);
    assert_eq!(viewer.tree(&["--token", "t0ken"]).status.code(), Some(0));
    let refused = viewer.tree(&["--token", "wrong"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("401"));
}

#[test]
fn other_addresses_than_loopback_need_a_token() {
    for listen in ["0.0.0.0:0", "[::]:0"] {
        let output = tracebaton().args(["view", "--db", ":memory:", "--listen", listen]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{listen}");
        assert!(output.stdout.is_empty());
        assert!(String::from_utf8_lossy(&output.stderr).contains("--token"));
    }
    for arguments in [["--listen", "nonsense"], ["--token", ""]] {
        let output = tracebaton().args(["view", "--db", ":memory:"]).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    }
    let viewer = Viewer::start_with(&["--listen", "0.0.0.0:0", "--token", "t"]);
    let port = viewer.address().rsplit(':').next().unwrap().to_owned();
    assert_ne!(port, "0");
    // By whatever name it is reached, the token counts.
    let ask = |target| viewer.send("GET", target, &[("host", "box.example")], b"").status;
    assert_eq!((ask("/api/sessions"), ask("/api/sessions?token=t")), (401, 200));
}

#[test]
fn the_page_runs_only_its_own_script() {
    let viewer = Viewer::start();
    let answer = viewer.get("/");
    assert_eq!(answer.status, 200);
    let policy = answer.header("content-security-policy").unwrap();
    let nonce = policy.split("script-src 'nonce-").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"));
    assert!(answer.text().contains(&format!("<script nonce=\"{nonce}\">")));
    assert_ne!(viewer.get("/").header("content-security-policy").unwrap(), policy);
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    for unsafe_way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"]
    {
        assert!(!answer.text().contains(unsafe_way), "{unsafe_way}");
    }
}

/// The same bytes in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn whatever_bytes_come_none_is_an_error_of_the_server() {
    let viewer = Viewer::start();
    let mut noise = Noise(0x5EED);
    let mut whole = span(1, 2, "name", 1, 2);
    whole.attributes = vec![support::attribute("honeyhive.session_id", "s")];
    let valid = request("service", vec![whole]);
    let forms = [(PROTOBUF, valid.encode_to_vec()), (JSON, serde_json::to_vec(&valid).unwrap())];
    let targets = ["/v1/traces", "/session/start", "/v1/sessions", "/events", "/v1/events"];
    let mut seen = std::collections::BTreeMap::new();
    for round in 0..600 {
        let (content_type, form) = &forms[round % 2];
        let body = match noise.next() % 3 {
            0 => {
                let length = (noise.next() % 300) as usize;
                noise.bytes(length)
            }
            // A valid request with some bytes changed, or cut off.
            1 => {
                let mut body = form.clone();
                for _ in 0..=noise.next() % 4 {
                    let at = noise.next() as usize % body.len();
                    body[at] = noise.next() as u8;
                }
                body
            }
            _ => form[..noise.next() as usize % form.len()].to_vec(),
        };
        let target = targets[(noise.next() % 5) as usize * (round % 3) / 2 % 5];
        let encoding = if noise.next().is_multiple_of(5) { "gzip" } else { "identity" };
        let headers = [("content-type", *content_type), ("content-encoding", encoding)];
        let answer = viewer.send("POST", target, &headers, &body);
        assert!(answer.status < 500, "{} for {target} {content_type} {encoding} {body:?}", answer.text());
        *seen.entry(answer.status).or_insert(0) += 1;
    }
    assert!(seen.contains_key(&200) && seen.contains_key(&400), "{seen:?}");
    // What got in can be read, all of it.
    for session in viewer.sessions() {
        let id: String = session["session_id"].as_str().unwrap().bytes().map(|byte| format!("%{byte:02x}")).collect();
        assert_eq!(viewer.get(&format!("/api/sessions/{id}")).status, 200, "{session}");
    }
    assert_alive(&viewer);
}
