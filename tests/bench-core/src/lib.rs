//! The work that core and the opentelemetry crates are timed at. Both sides get the same carriers and headers, read the
//! same things, and are checked to have read the same.

pub mod headers;
pub mod ours;
pub mod spans;
pub mod theirs;

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[test]
    fn both_sides_read_the_same() {
        for list in [headers::traceparent(), headers::full()] {
            let map = headers::Map::from(&list);
            let (ours, theirs) = (ours::extract(&list), theirs::extract(&list));
            assert_eq!(ours::seen(&ours), theirs::seen(&theirs));
            assert_eq!(ours::seen(&ours::extract(&map)), theirs::seen(&theirs::extract(&map.0)));
        }
        assert_eq!(ours::seen(&ours::extract(&headers::full())).2, headers::VALUE.len());
    }

    #[test]
    fn both_sides_write_the_same() {
        let list = headers::full();
        let mut sent = headers::List::default();
        ours::inject(&mut sent, &ours::extract(&list));
        let mut members: Vec<_> = headers::baggage_of(&sent).split(',').map(str::to_string).collect();
        let mut theirs_sent = headers::List::default();
        theirs::inject(&mut theirs_sent, &theirs::extract(&list));
        let mut theirs_members: Vec<_> = headers::baggage_of(&theirs_sent).split(',').map(str::to_string).collect();
        // Their baggage has no order.
        members.sort_unstable();
        theirs_members.sort_unstable();
        assert_eq!(members, theirs_members);
        let mut set = headers::List::default();
        ours::inject_application(&mut set, &ours::extract(&list));
        let mut set_members: Vec<_> = headers::baggage_of(&set).split(',').map(str::to_string).collect();
        set_members.sort_unstable();
        assert_eq!(set_members, members);
        for name in ["traceparent", "tracestate"] {
            assert_eq!(sent.get(name), theirs_sent.get(name));
        }
    }

    #[test]
    fn both_sides_encode_the_same_attributes() {
        let mut ours = spans::Ours::new();
        let theirs = spans::Theirs::new();
        theirs.record();
        let (mine, other) = (ours.record().to_vec(), theirs.bytes());
        // Ours is an entry of ScopeSpans.spans, and so is theirs.
        let read = |bytes: &[u8]| {
            let scope =
                opentelemetry_proto::tonic::trace::v1::ScopeSpans::decode(bytes).map_err(|error| error.to_string());
            scope.map(|mut scope| scope.spans.remove(0))
        };
        let (mine, other) = (read(&mine), read(&other));
        let (Ok(mine), Ok(other)) = (mine, other) else { unreachable!("both can be read") };
        // Core adds the event type.
        assert_eq!(mine.attributes.get(..10), other.attributes.get(..));
        assert_eq!((mine.name, mine.kind, mine.flags & 1), (other.name, other.kind, other.flags & 1));
    }
}
