//! Session ids that are UUIDs, as HoneyHive wants them; made from random bytes that are passed in.

use alloc::string::String;

use ::uuid::Builder;
use ::uuid::fmt::Hyphenated;

/// A session id from 16 random bytes: a UUID of version 4 (RFC 9562, §5.4), in lower case.
///
/// ```
/// let id = tracebaton::interop::uuid::session_id_v4([0xff; 16]);
/// assert_eq!(id, "ffffffff-ffff-4fff-bfff-ffffffffffff");
/// ```
pub fn session_id_v4(random: [u8; 16]) -> String {
    text(Builder::from_random_bytes(random))
}

/// A session id that sorts by time, from milliseconds since 1970 (of which 48 bits count) and 10 random bytes: a UUID
/// of version 7 (RFC 9562, §5.7), in lower case. Whoever sees it learns when the session began.
///
/// ```
/// let id = tracebaton::interop::uuid::session_id_v7(0x017f_22e2_79b0, [0xff; 10]);
/// assert_eq!(id, "017f22e2-79b0-7fff-bfff-ffffffffffff");
/// ```
pub fn session_id_v7(unix_ms: u64, random: [u8; 10]) -> String {
    text(Builder::from_unix_timestamp_millis(unix_ms, &random))
}

fn text(builder: Builder) -> String {
    let mut buffer = [0; Hyphenated::LENGTH];
    String::from(&*builder.into_uuid().hyphenated().encode_lower(&mut buffer))
}
