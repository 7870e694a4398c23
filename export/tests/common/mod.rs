//! A scripted OTLP receiver over real sockets, and spans to send to it.
#![allow(dead_code, reason = "every test program uses a part of this")]

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tracebaton_export::{Config, Destination, Encoding, Exporter, Pushed, Reporter, Scope, Tls};

/// How long a test waits for something that will happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What the receiver does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Answers with this status, these headers (whole lines) and this body.
    Status(u16, Vec<String>, Vec<u8>),
    /// Never answers.
    Hang,
    /// Closes the connection without an answer.
    Close,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Status(status, Vec::new(), Vec::new())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The connections are numbered from 0.
    pub(crate) connection: usize,
    pub(crate) at: Instant,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body without compression.
    pub(crate) fn plain(&self) -> Vec<u8> {
        if self.header("content-encoding") != Some("gzip") {
            return self.body.clone();
        }
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&self.body[..]).read_to_end(&mut plain).unwrap();
        plain
    }

    /// The names of the spans in a protobuf body.
    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.plain())
    }
}

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    replies: VecDeque<Reply>,
    connections: usize,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn listen(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let of_thread = Arc::clone(&shared);
        // The threads live as long as the test program.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&of_thread);
                thread::spawn(move || serve(stream.unwrap(), &shared));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1/traces", self.address)
    }

    /// Replies to the next requests, in order; after them it accepts everything.
    pub(crate) fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.shared.0.lock().unwrap().replies.extend(replies);
    }

    /// Waits until this many requests have come.
    #[track_caller]
    pub(crate) fn requests(&self, count: usize) -> Vec<Request> {
        let (state, condition) = &*self.shared;
        let waiting = |state: &mut State| state.requests.len() < count;
        let (state, timeout) = condition.wait_timeout_while(state.lock().unwrap(), PATIENCE, waiting).unwrap();
        assert!(!timeout.timed_out(), "{} of {count} requests", state.requests.len());
        state.requests.clone()
    }

    pub(crate) fn seen(&self) -> usize {
        self.shared.0.lock().unwrap().requests.len()
    }
}

fn serve(stream: TcpStream, shared: &(Mutex<State>, Condvar)) {
    let (state, condition) = shared;
    let connection = {
        let mut state = state.lock().unwrap();
        state.connections += 1;
        state.connections - 1
    };
    let mut reader = BufReader::new(&stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let mut request = Request { connection, at: Instant::now(), head, body: Vec::new() };
        let length = request.header("content-length").unwrap().parse().unwrap();
        request.body.resize(length, 0);
        reader.read_exact(&mut request.body).unwrap();
        let reply = {
            let mut state = state.lock().unwrap();
            state.requests.push(request);
            condition.notify_all();
            state.replies.pop_front().unwrap_or(Reply::status(200))
        };
        match reply {
            Reply::Status(status, headers, body) => {
                let mut answer = format!("HTTP/1.1 {status} Some Reason\r\ncontent-length: {}\r\n", body.len());
                headers.iter().for_each(|line| answer.push_str(&format!("{line}\r\n")));
                let answer = [answer.as_bytes(), b"\r\n", &body].concat();
                if (&stream).write_all(&answer).is_err() {
                    return;
                }
            }
            Reply::Hang => thread::park(),
            Reply::Close => return,
        }
    }
}

pub(crate) fn destination(url: String) -> Destination {
    Destination {
        url,
        headers: vec![("x-test".into(), "yes".into())],
        encoding: Encoding::Protobuf,
        gzip: false,
        timeout: Duration::from_secs(10),
        user_agent: "tracebaton/0 OTel-OTLP-Exporter-Test/0".into(),
        tls: Tls::default(),
    }
}

/// The default bounds with pauses short enough for tests.
pub(crate) fn config() -> Config {
    Config { backoff_ns: 10_000_000, ..Config::default() }
}

pub(crate) fn exporter(server: &Server) -> Exporter {
    Exporter::new(destination(server.url()), config(), RESOURCE, None).unwrap()
}

/// A reporter that passes messages on.
pub(crate) fn reporter() -> (Option<Reporter>, Receiver<String>) {
    let (sender, receiver) = channel();
    (Some(Arc::new(move |message: &str| drop(sender.send(message.to_owned())))), receiver)
}

/// `Resource{attributes: [{"a": empty}]}`
pub(crate) const RESOURCE: &[u8] = &[0x0a, 3, 0x0a, 1, b'a'];

/// `InstrumentationScope{name: "test"}`
pub(crate) fn scope() -> Scope {
    Scope::new(b"\x0a\x04test")
}

/// Records a span with this name (shorter than 90 bytes).
pub(crate) fn record(exporter: &Exporter, name: &str) -> Pushed {
    exporter.record(&scope(), |out| {
        let mut span = vec![0x0a, 16];
        span.extend([1; 16]);
        span.extend([0x12, 8]);
        span.extend([2; 8]);
        span.extend([0x2a, u8::try_from(name.len()).unwrap()]);
        span.extend(name.as_bytes());
        out.extend([0x12, u8::try_from(span.len()).unwrap()]);
        out.extend(span);
    })
}

/// The fields of a protobuf message whose lengths are all below 2^14 and whose fields are all messages or bytes.
pub(crate) fn fields(mut message: &[u8]) -> Vec<(u8, &[u8])> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let (tag, mut length, mut at) = (message[0], message[1] as usize, 2);
        assert_eq!(tag & 7, 2);
        let mut shift = 7;
        if length & 0x80 != 0 {
            length &= 0x7f;
            loop {
                length |= ((message[at] & 0x7f) as usize) << shift;
                shift += 7;
                at += 1;
                if message[at - 1] & 0x80 == 0 {
                    break;
                }
            }
        }
        fields.push((tag >> 3, &message[at..at + length]));
        message = &message[at + length..];
    }
    fields
}

fn names(request: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    for (_, resource_spans) in fields(request) {
        for (_, scope_spans) in fields(resource_spans).iter().filter(|(field, _)| *field == 2) {
            for (_, span) in fields(scope_spans).iter().filter(|(field, _)| *field == 2) {
                let name = fields(span).into_iter().find(|(field, _)| *field == 5).unwrap().1;
                names.push(String::from_utf8(name.to_vec()).unwrap());
            }
        }
    }
    names
}

/// Waits for something that only a look can tell.
#[track_caller]
pub(crate) fn until(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}
