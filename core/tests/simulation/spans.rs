//! Spans of the simulation: real ones, of a number and as many bytes as are wanted.

use std::sync::Arc;

use tracebaton::otlp::reader::{Fields, SpanView, Wire};

/// The tag and the length of an entry, and the number in it.
pub(crate) const SPAN_BYTES: usize = 12;

/// Appends the entry of a span: its number, which is its id, and a name of what is left of the size.
pub(crate) fn encode(number: u32, size: usize, out: &mut Vec<u8>) {
    let mut message = vec![0x12, 8];
    message.extend_from_slice(&u64::from(number).to_le_bytes());
    let put = |out: &mut Vec<u8>, tag: u8, bytes: &[u8]| {
        out.push(tag);
        let mut rest = bytes.len();
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
        out.extend_from_slice(bytes);
    };
    let name = size.saturating_sub(SPAN_BYTES + 2);
    if name != 0 {
        put(&mut message, 0x2a, &vec![number as u8; name]);
    }
    put(out, 0x12, &message);
}

/// The attributes that spans have in common, by their numbers.
const COMMON: [&[u8]; 3] = [b"", b"a", b"b"];

/// The same as fields of spans.
#[derive(Clone)]
pub(crate) struct Commons([Option<Arc<[u8]>>; COMMON.len()]);

impl Commons {
    pub(crate) fn new() -> Self {
        let field = |key: &[u8]| key.first().map(|key| Arc::from(&[0x4a, 3, 0x0a, 1, *key][..]));
        Self(COMMON.map(field))
    }

    /// Those of a span. Two that begin one after the other have mostly the same.
    pub(crate) fn of(&self, number: u32) -> Option<&Arc<[u8]>> {
        self.0[number as usize / 4 % COMMON.len()].as_ref()
    }
}

/// The spans in a run, each of which must be as it was pushed: their numbers, and whether they were interrupted.
pub(crate) fn decode(bytes: &[u8]) -> Vec<(u32, bool)> {
    let mut spans = Vec::new();
    for entry in Fields::of(bytes) {
        let Ok((2, Wire::Bytes(message))) = entry else { panic!("not an entry: {entry:?}") };
        let span = SpanView::parse(message).expect("a span");
        let number = u64::from_le_bytes(span.span_id().expect("an id").to_bytes()) as u32;
        assert!(span.name.as_bytes().iter().all(|byte| *byte == number as u8), "span {number} has foreign bytes");
        let status = span.status.map(|status| (status.code, status.message.to_str() == "interrupted"));
        assert!(matches!(status, None | Some((2, true))), "status of {number}: {status:?}");
        let common = if status.is_some() { COMMON[number as usize / 4 % COMMON.len()] } else { b"" };
        let found: Vec<u8> = span.attributes().flat_map(|it| it.expect("an attribute").0.as_bytes().to_vec()).collect();
        assert_eq!(found, common, "what span {number} has in common");
        spans.push((number, status.is_some()));
    }
    spans
}
