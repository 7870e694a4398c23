//! What becomes of a span whose process died before it ended.

use alloc::vec::Vec;

use crate::otlp::protobuf::{message, put_bytes, put_fixed64, put_uint};
use crate::otlp::reader::{Fields, Wire};
use crate::span::StatusCode;

/// What the status of such a span says.
pub(super) const MESSAGE: &str = "interrupted";

/// Field numbers of `Span` and `Status`.
const START: u32 = 7;
const END: u32 = 8;
const STATUS: u32 = 15;

/// Appends a span that never ended as one that has: an entry of `ScopeSpans.spans`, as `span` (a `Span` message) with the
/// fields in `more`, but with an end, in ns since 1970, which is not before its start, and the status ERROR
/// "interrupted". Fields behind one that is malformed are lost.
pub fn interrupted(span: &[u8], more: &[u8], end_ns: u64, out: &mut Vec<u8>) {
    message(out, 2, |out| {
        let mut end_ns = end_ns;
        let mut fields = Fields::of(span);
        loop {
            let before = fields.rest();
            let Some(Ok((number, wire))) = fields.next() else { break };
            if let (START, Wire::Fixed64(start_ns)) = (number, wire) {
                end_ns = end_ns.max(start_ns);
            }
            if number != END && number != STATUS {
                let size = before.len().saturating_sub(fields.rest().len());
                out.extend_from_slice(before.get(..size).unwrap_or_default());
            }
        }
        out.extend_from_slice(more);
        put_fixed64(out, END, end_ns);
        message(out, STATUS, |out| {
            put_bytes(out, 2, MESSAGE.as_bytes());
            put_uint(out, 3, StatusCode::Error as u64);
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{SpanId, TraceFlags, TraceId};
    use crate::limits::Limits;
    use crate::otlp::reader::{Repeated, SpanView};
    use crate::routing::Routing;
    use crate::span::{Kind, SpanHead, SpanWriter};
    use crate::value::Value;

    #[test]
    fn an_open_span_gets_an_end_and_the_status_and_keeps_the_rest() {
        for (end_ns, expected) in [(5, 70), (70, 70), (99, 99)] {
            let head = SpanHead {
                trace_id: TraceId::from_bytes([1; 16]).unwrap(),
                span_id: SpanId::from_bytes([2; 8]).unwrap(),
                parent: SpanId::from_bytes([3; 8]),
                parent_is_remote: true,
                flags: TraceFlags::SAMPLED,
                trace_state: "a=b",
                name: "chat",
                kind: Kind::Client,
                start_ns: 70,
                end_ns: 0,
            };
            let (mut entry, limits) = (Vec::new(), Limits::default());
            let mut writer = SpanWriter::begin(&mut entry, &head, &limits);
            writer.attribute("honeyhive_inputs.question", &Value::from("why?"));
            writer.finish(StatusCode::Ok, "", &Routing::default());
            let before = Repeated::of(&entry, 2).next().unwrap().unwrap();
            let mut out = Vec::new();
            interrupted(before, &[], end_ns, &mut out);
            let after = SpanView::parse(Repeated::of(&out, 2).next().unwrap().unwrap()).unwrap();
            let before = SpanView::parse(before).unwrap();
            assert_eq!((after.start_ns, after.end_ns), (70, expected));
            assert_eq!((after.name, after.trace_id, after.span_id), (before.name, before.trace_id, before.span_id));
            assert_eq!((after.flags, after.parent_span_id), (before.flags, before.parent_span_id));
            assert_eq!(after.status.as_ref().unwrap().code, StatusCode::Error as i32);
            assert_eq!(after.status.unwrap().message.to_str(), "interrupted");
            assert_eq!(after.attributes().count(), before.attributes().count());
        }
    }

    #[test]
    fn what_is_malformed_is_cut_off() {
        for span in [&[0x0a][..], &[0xff; 30], &[]] {
            let mut out = Vec::new();
            interrupted(span, &[], 9, &mut out);
            let span = Repeated::of(&out, 2).next().unwrap().unwrap();
            assert_eq!(SpanView::parse(span).unwrap().end_ns, 9);
        }
    }
}
