//! What is read is sent byte for byte; mutations and truncation leave something that can be read.
#![no_main]

mod lines;

use libfuzzer_sys::fuzz_target;
use tracebaton::TraceState;
use tracebaton::rule::RuleSet;

fn check(state: &TraceState) {
    assert!(lines::may_be_sent(state.as_str()));
    assert!(state.iter().count() <= TraceState::MAX_MEMBERS);
    assert_eq!(TraceState::parse(state.as_str().as_bytes()).as_ref(), Ok(state));
    for (key, value) in state.iter() {
        assert_eq!(state.get(key), Some(value));
    }
}

// The lines of the header; the last two are a key and a value to insert.
fuzz_target!(|data: &[u8]| {
    let mut values: Vec<&[u8]> = lines::lines(data).collect();
    let value = String::from_utf8_lossy(values.pop().unwrap_or_default());
    let key = String::from_utf8_lossy(values.pop().unwrap_or_default());
    let Ok(state) = TraceState::parse_all(&values) else { return };
    check(&state);
    if let [line] = values[..] {
        let line = std::str::from_utf8(line).unwrap().trim_matches([' ', '\t']);
        assert!(state.is_empty() || state.as_str() == line);
    }
    for bytes in [0, 1, 60, TraceState::PROPAGATED_BYTES] {
        let mut dropped = RuleSet::default();
        let cut = state.truncated(bytes, &mut dropped);
        assert!(cut.as_str().len() <= bytes && dropped.is_empty() == (cut.iter().count() == state.iter().count()));
        check(&cut);
    }
    match state.insert(&key, &value) {
        Ok(inserted) => {
            check(&inserted);
            assert_eq!(inserted.iter().next(), Some((&*key, &*value)));
            let deleted = inserted.delete(&key);
            check(&deleted);
            assert_eq!(deleted.get(&key), None);
        }
        Err(rule) => assert!(rule.rejects()),
    }
});
