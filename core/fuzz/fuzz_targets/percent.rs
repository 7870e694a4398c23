//! Any text travels as a baggage value and comes back; any octets decode to something without failing.
#![no_main]

mod lines;

use libfuzzer_sys::fuzz_target;
use tracebaton::Baggage;
use tracebaton::rule::RuleSet;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let sent = Baggage::EMPTY.insert("k", &text, None).unwrap();
    assert!(lines::may_be_sent(sent.as_str()));
    let mut dropped = RuleSet::EMPTY;
    let back = Baggage::parse(&[sent.as_str().as_bytes()], 1, usize::MAX, &mut dropped);
    assert_eq!(dropped, RuleSet::EMPTY);
    assert_eq!(back.get("k").unwrap().value(), text);

    // As it stands, if it can be a value: decoded once, never longer, and itself where there is nothing to decode.
    let header = [b"k=", data].concat();
    let raw = Baggage::parse(&[&header], 1, usize::MAX, &mut dropped);
    if let Some(member) = raw.get("k") {
        let value = member.value();
        assert!(value.chars().count() <= member.raw_value().len());
        assert!(member.raw_value().contains('%') || value == member.raw_value());
    }
});
