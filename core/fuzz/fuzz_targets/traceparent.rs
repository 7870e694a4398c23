//! What is read is written as version 00 and read again the same.
#![no_main]

mod lines;

use libfuzzer_sys::fuzz_target;
use tracebaton::rule::Rule;
use tracebaton::traceparent::Traceparent;

fuzz_target!(|data: &[u8]| {
    let values: Vec<&[u8]> = lines::lines(data).collect();
    match Traceparent::parse_all(&values) {
        Ok(Some(parsed)) => {
            assert_eq!(values.len(), 1);
            let sent = parsed.to_bytes();
            assert!(lines::may_be_sent(std::str::from_utf8(&sent).unwrap()));
            assert_eq!(Traceparent::parse(&sent), Ok(parsed));
            let value = values[0].trim_ascii();
            assert_eq!(&value[3..53], &sent[3..53]);
        }
        Ok(None) => assert!(values.is_empty()),
        Err(rule) => assert!(rule.rejects() && (values.len() == 1 || rule == Rule::TraceparentDuplicate)),
    }
});
