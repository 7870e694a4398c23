//! Random spans, the same in every run.

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value};
use opentelemetry_proto::tonic::trace::v1::{
    Span, Status,
    span::{Event, Link},
};
use tracebaton::otlp::protobuf;

/// SplitMix64: random enough, and the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Small numbers and large ones, zero among them.
    pub(crate) fn number(&mut self) -> u64 {
        let shift = self.below(65) as u32;
        self.next().checked_shr(shift).unwrap_or(0)
    }

    pub(crate) fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }

    pub(crate) fn text(&mut self) -> String {
        const ALPHABET: [&str; 12] =
            ["a", "Z", " ", "\"", "\\", "\n", "\u{0}", "\u{1f}", "\u{7f}", "é", "\u{2028}", "🦀"];
        (0..self.below(12)).map(|_| ALPHABET[self.below(12) as usize]).collect()
    }

    pub(crate) fn id(&mut self, length: usize) -> Vec<u8> {
        if self.below(5) == 0 { Vec::new() } else { (0..length).map(|_| self.next() as u8).collect() }
    }

    pub(crate) fn value(&mut self, depth: u32) -> AnyValue {
        use any_value::Value as V;
        let value = match self.below(if depth == 0 { 7 } else { 9 }) {
            0 => None,
            1 => Some(V::BoolValue(self.below(2) == 1)),
            2 | 3 => Some(V::IntValue(self.number() as i64)),
            // Eighths: their reader may be off by one in the last place of other numbers.
            4 => Some(V::DoubleValue(f64::from(self.number() as i32) / 8.0)),
            5 => Some(V::StringValue(self.text())),
            6 => Some(V::BytesValue(self.bytes(9))),
            7 => {
                let values = (0..self.below(4)).map(|_| self.value(depth - 1)).collect();
                Some(V::ArrayValue(ArrayValue { values }))
            }
            _ => Some(V::KvlistValue(KeyValueList { values: self.attributes(depth - 1) })),
        };
        AnyValue { value }
    }

    pub(crate) fn attributes(&mut self, depth: u32) -> Vec<KeyValue> {
        (0..self.below(4))
            .map(|_| KeyValue { key: self.text(), value: Some(self.value(depth)), key_strindex: 0 })
            .collect()
    }

    pub(crate) fn span(&mut self) -> Span {
        Span {
            trace_id: self.id(16),
            span_id: self.id(8),
            trace_state: self.text(),
            parent_span_id: self.id(8),
            flags: self.number() as u32,
            name: self.text(),
            kind: self.below(7) as i32,
            start_time_unix_nano: self.number(),
            end_time_unix_nano: self.number(),
            attributes: self.attributes(3),
            dropped_attributes_count: self.number() as u32,
            events: (0..self.below(3))
                .map(|_| Event {
                    time_unix_nano: self.number(),
                    name: self.text(),
                    attributes: self.attributes(1),
                    dropped_attributes_count: self.number() as u32,
                })
                .collect(),
            dropped_events_count: self.number() as u32,
            links: (0..self.below(3))
                .map(|_| Link {
                    trace_id: self.id(16),
                    span_id: self.id(8),
                    trace_state: self.text(),
                    attributes: self.attributes(1),
                    dropped_attributes_count: self.number() as u32,
                    flags: self.number() as u32,
                })
                .collect(),
            dropped_links_count: self.number() as u32,
            status: (self.below(2) == 1).then(|| Status { message: self.text(), code: self.below(4) as i32 }),
        }
    }

    /// The same message with its fields in another order and unknown ones among them. Entries of one field keep their
    /// order, as they must.
    pub(crate) fn scatter(&mut self, message: &[u8]) -> Vec<u8> {
        let mut fields: Vec<(u32, Vec<u8>)> = split(message);
        for _ in 0..self.below(4) {
            let mut unknown = Vec::new();
            let number = 17 + self.below(3) as u32;
            match self.below(4) {
                0 => protobuf::put_uint_always(&mut unknown, number, self.number()),
                1 => protobuf::put_bytes_always(&mut unknown, number, &self.bytes(5)),
                2 => protobuf::put_double_always(&mut unknown, number, 1.5),
                _ => protobuf::put_fixed32(&mut unknown, number, 7),
            }
            fields.push((0, unknown));
        }
        // Exchange neighbours often enough to mix everything.
        for _ in 0..fields.len() * fields.len() {
            let at = self.below(fields.len().max(2) as u64 - 1) as usize;
            if at + 1 < fields.len() && fields[at].0 != fields[at + 1].0 {
                fields.swap(at, at + 1);
            }
        }
        fields.into_iter().flat_map(|(_, bytes)| bytes).collect()
    }
}

/// The fields of a message that prost wrote: numbers and bytes, tags included.
fn split(mut message: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let whole = message;
        let (number, wire_type) = prost::encoding::decode_key(&mut message).unwrap();
        prost::encoding::skip_field(wire_type, number, &mut message, Default::default()).unwrap();
        fields.push((number, whole[..whole.len() - message.len()].to_vec()));
    }
    fields
}
