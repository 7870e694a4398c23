//! A receiver that breaks in every way that networks and servers do, and counts which span came how often.
#![allow(dead_code, reason = "every test program uses a part of this")]

pub(crate) mod certificates;
pub(crate) mod proxy;

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tracebaton_export::{Exporter, Pushed};

use crate::common::{PATIENCE, fields, scope};

/// The pause after each byte of a slow answer.
const SLOW: Duration = Duration::from_millis(10);

/// What becomes of one request, or of the connection that it wanted to come on.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The connection is reset before anything was read, which for TLS is before the handshake.
    ResetUnread,
    /// The request is read to its end, then the connection is reset. Without TLS only.
    ResetRead,
    /// Nothing is ever read or said, not even a handshake.
    Silence,
    /// Only the head of the request is read; then these bytes are said and the connection is closed, which is a reset if
    /// there was more to read.
    Interrupts(Vec<u8>),
    /// The request is read; this is said after a delay, from this place on byte by byte; and the connection is closed,
    /// unless it is to be kept.
    Says { delay: Duration, bytes: Vec<u8>, slow_from: usize, keep: bool },
}

impl Fault {
    /// These bytes at once, and then the end of the connection.
    pub(crate) fn says(bytes: impl Into<Vec<u8>>) -> Self {
        Self::Says { delay: Duration::ZERO, bytes: bytes.into(), slow_from: usize::MAX, keep: false }
    }

    /// An answer with this status, these header lines and this body; the connection stays.
    pub(crate) fn answers(status: u16, headers: &[&str], body: &[u8]) -> Self {
        Self::slow(answer(status, headers, body), usize::MAX)
    }

    /// Acceptance, but later.
    pub(crate) fn late(delay: Duration) -> Self {
        Self::Says { delay, bytes: answer(200, &[], b""), slow_from: usize::MAX, keep: true }
    }

    /// An answer whose bytes come one by one from this place on.
    pub(crate) fn slow(bytes: Vec<u8>, slow_from: usize) -> Self {
        Self::Says { delay: Duration::ZERO, bytes, slow_from, keep: true }
    }
}

/// An HTTP answer.
pub(crate) fn answer(status: u16, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Some Reason\r\n");
    if status != 204 {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    headers.iter().for_each(|line| head.push_str(&format!("{line}\r\n")));
    [head.as_bytes(), b"\r\n", body].concat()
}

#[derive(Default)]
struct State {
    faults: VecDeque<Fault>,
    arrived: BTreeMap<u64, usize>,
    heads: Vec<String>,
    connections: usize,
}

/// The receiver. Requests without a fault of their own are accepted. As a proxy it takes itself for every other host.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Receiver {
    pub(crate) fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let of_thread = Arc::clone(&shared);
        // The threads live as long as the test program.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, tls, shared) = (stream.unwrap(), tls.clone(), Arc::clone(&of_thread));
                shared.0.lock().unwrap().connections += 1;
                shared.1.notify_all();
                thread::spawn(move || serve(&stream, tls, &shared));
            }
        });
        Self { address, shared }
    }

    /// Faults of the next requests, in order.
    pub(crate) fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.0.lock().unwrap().faults.extend(faults);
    }

    /// How often each span has come in a whole request.
    pub(crate) fn arrived(&self) -> Vec<(u64, usize)> {
        self.shared.0.lock().unwrap().arrived.iter().map(|(&id, &times)| (id, times)).collect()
    }

    /// The heads of the whole requests.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.shared.0.lock().unwrap().heads.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.0.lock().unwrap().connections
    }

    /// Waits until the state is so.
    #[track_caller]
    pub(crate) fn wait_for_connections(&self, count: usize) {
        let (state, condition) = &*self.shared;
        let waiting = |state: &mut State| state.connections < count;
        let (state, timeout) = condition.wait_timeout_while(state.lock().unwrap(), PATIENCE, waiting).unwrap();
        assert!(!timeout.timed_out(), "{} of {count} connections", state.connections);
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn serve(tcp: &TcpStream, tls: Option<Arc<ServerConfig>>, shared: &(Mutex<State>, Condvar)) {
    let secure = tls.is_some();
    // A reset would throw away what the system still holds back.
    tcp.set_nodelay(true).unwrap();
    let mut stream: Box<dyn Stream> = match tls {
        Some(config) => {
            let connection = ServerConnection::new(config).unwrap();
            Box::new(StreamOwned::new(connection, tcp.try_clone().unwrap()))
        }
        None => Box::new(tcp.try_clone().unwrap()),
    };
    // Without a first byte there is nothing that could go wrong.
    while tcp.peek(&mut [0]).is_ok_and(|read| read != 0) {
        let fault = shared.0.lock().unwrap().faults.pop_front();
        match fault {
            // A socket that is closed with something unread is reset.
            Some(Fault::ResetUnread) => return,
            Some(Fault::Silence) => thread::park(),
            _ => {}
        }
        let Some(head) = read_head(&mut stream) else {
            // It was a farewell and no request, or a handshake that failed: whoever failed it wants to read why.
            if let Some(fault) = fault {
                shared.0.lock().unwrap().faults.push_front(fault);
            }
            let _ = std::io::copy(&mut &*tcp, &mut std::io::sink());
            return;
        };
        if head.starts_with("connect ") {
            shared.0.lock().unwrap().heads.push(head);
            if stream.write_all(b"HTTP/1.1 200 Some Reason\r\n\r\n").is_err() {
                return;
            }
            continue;
        }
        if let Some(Fault::Interrupts(bytes)) = fault {
            // Whether the client is still there to hear it is its business.
            let _ = stream.write_all(&bytes).and_then(|()| stream.flush());
            shared.0.lock().unwrap().heads.push(head);
            return;
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        let mut body = vec![0; length];
        let reset = matches!(fault, Some(Fault::ResetRead));
        if reset {
            assert!(!secure);
            // The last byte is looked at but stays unread, so that the end of the connection is a reset.
            let last = length - 1;
            if stream.read_exact(&mut body[..last]).is_err() || tcp.peek(&mut body[last..]).is_err() {
                return;
            }
        } else if stream.read_exact(&mut body).is_err() {
            return;
        }
        {
            let mut state = shared.0.lock().unwrap();
            span_ids(&body).into_iter().for_each(|id| *state.arrived.entry(id).or_default() += 1);
            state.heads.push(head);
            shared.1.notify_all();
        }
        match fault {
            Some(Fault::Says { delay, bytes, slow_from, keep }) => {
                thread::sleep(delay);
                let (fast, slow) = bytes.split_at(slow_from.min(bytes.len()));
                let mut said = stream.write_all(fast).and_then(|()| stream.flush());
                for byte in slow {
                    said = said.and_then(|()| stream.write_all(&[*byte])).and_then(|()| stream.flush());
                    if said.is_ok() {
                        thread::sleep(SLOW);
                    }
                }
                if said.is_err() || !keep {
                    return;
                }
            }
            None => {
                if stream.write_all(&answer(200, &[], b"")).is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

/// The head of a request; nothing if the connection ends or cannot be understood.
fn read_head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1..) => head.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return None,
        }
    }
    Some(String::from_utf8(head).unwrap().to_ascii_lowercase())
}

/// The ids of the spans in a request without compression.
fn span_ids(request: &[u8]) -> Vec<u64> {
    let mut ids = Vec::new();
    for (_, resource_spans) in fields(request) {
        for (_, scope_spans) in fields(resource_spans).into_iter().filter(|(field, _)| *field == 2) {
            for (_, span) in fields(scope_spans).into_iter().filter(|(field, _)| *field == 2) {
                let id = fields(span).into_iter().find(|(field, _)| *field == 2).unwrap().1;
                ids.push(u64::from_be_bytes(id.try_into().unwrap()));
            }
        }
    }
    ids
}

/// Records a span with this id.
pub(crate) fn record(exporter: &Exporter, id: u64) {
    record_named(exporter, id, b"s");
}

/// Records a span with this id and this name.
pub(crate) fn record_named(exporter: &Exporter, id: u64, name: &[u8]) {
    let mut span = vec![0x0a, 16];
    span.extend([1; 16]);
    span.extend([0x12, 8]);
    span.extend(id.to_be_bytes());
    span.push(0x2a);
    varint(name.len(), &mut span);
    span.extend(name);
    let pushed = exporter.record(&scope(), |out| {
        out.push(0x12);
        varint(span.len(), out);
        out.extend(&span);
    });
    assert!(matches!(pushed, Pushed::Queued { .. }));
}

fn varint(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
