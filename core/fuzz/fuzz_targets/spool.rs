//! Reading a spool: whatever it holds, nothing panics, no batch is endless, and every span that is found was written.
#![no_main]

use std::collections::BTreeSet;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use tracebaton::delivery::{Config, Delivery, Scope};
use tracebaton::otlp::reader::{Repeated, SpanView};
use tracebaton::spool::{Header, Recovery, Spool};

const HEADER: usize = tracebaton::spool::HEADER_BYTES;

/// An entry of `ScopeSpans.spans` with an id and a name.
fn entry(id: u8, size: u8) -> Vec<u8> {
    let mut span = vec![0x12, 8, id, 0, 0, 0, 0, 0, 0, 1, 0x2a, size & 0x3f];
    span.resize(span.len() + usize::from(size & 0x3f), id);
    let mut out = vec![0x12, span.len() as u8];
    out.extend(span);
    out
}

/// Every span that is found: its message.
fn recover(image: &[u8], most_bytes: usize) -> Vec<Vec<u8>> {
    let mut source = image;
    let mut found = Vec::new();
    let Ok(mut recovery) = Recovery::new(&mut source) else { return found };
    while let Some(batch) = recovery.next_batch(&mut source, most_bytes) {
        assert!(batch.spans() != 0 && (batch.spans() == 1 || batch.bytes() <= most_bytes));
        assert!(batch.done_at().all(|at| at < image.len() as u64));
        for run in batch.runs() {
            found.extend(Repeated::of(run.spans(), 2).map(|span| span.unwrap().to_vec()));
        }
        assert!(found.len() <= image.len() / 8, "more spans than there is room for");
    }
    found
}

fuzz_target!(|data: &[u8]| {
    // As it is, and as the segments of a file.
    recover(data, 1_000);
    let Some((&[segments, writes], data)) = data.split_first_chunk() else { return };
    let header = Header {
        label: "otlp".into(),
        process: 1,
        nonce: 2,
        made_ns: 3,
        segment_bytes: 512,
        segments: 3 + u32::from(segments % 6),
    };
    let memory = vec![0; header.file_bytes() as usize];
    let mut delivery = Delivery::new(Config::default(), b"resource");
    let Some(spool) = Spool::new(header, Box::new(memory), b"resource") else { panic!("sizes that fit") };
    delivery.set_spool(spool);
    let scopes = [Scope::new(b"one"), Scope::new(b"two")];
    // An attribute each.
    let commons = [None, Some(Arc::from(&b"\x4a\x03\x0a\x01a"[..])), Some(Arc::from(&b"\x4a\x03\x0a\x01b"[..]))];
    let mut written = BTreeSet::new();
    let (orders, damage) = data.split_at(data.len().min(usize::from(writes)));
    let mut open = Vec::new();
    for [order, size] in orders.chunks_exact(2).map(|pair| [pair[0], pair[1]]) {
        let scope = &scopes[usize::from(order & 1)];
        let bytes = entry(order, size);
        written.insert(bytes[2..].to_vec());
        match order % 3 {
            0 => open.extend(delivery.start(scope, &bytes, commons[usize::from(order & 3) % 3].as_ref())),
            1 => drop(delivery.push(scope, || 0, |out| out.extend_from_slice(&bytes))),
            _ => {
                if let Some(start) = open.pop() {
                    delivery.push_started(start, scope, || 0, |out| out.extend_from_slice(&bytes));
                }
            }
        }
    }
    let Some(spool) = delivery.spool() else { panic!("it stays") };
    let mut image = spool.bytes().to_vec();
    for change in damage.chunks_exact(3) {
        let at = usize::from(change[0]) << 8 | usize::from(change[1]);
        let room = image.len() - HEADER;
        image[HEADER + at % room] ^= change[2];
    }
    for message in recover(&image, 1 + usize::from(segments)) {
        let span = SpanView::parse(&message).unwrap();
        let interrupted = span.status.is_some();
        let is_written = |known: &Vec<u8>| known == &message || (interrupted && message.starts_with(known));
        assert!(written.iter().any(is_written), "never written: {message:?}");
    }
});
