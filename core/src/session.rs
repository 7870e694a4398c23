//! Sessions on the wire: the baggage keys that carry them, which ids are valid, and the id that HoneyHive is told.

use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt;

use crate::id::{ascii, encode_hex};

/// The most characters of a session id; the same for a project that comes in.
pub const MAX_CHARS: usize = 256;

/// A baggage member that is ours.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OwnMember {
    /// The session that the request belongs to.
    Session,
    /// The project that the session belongs to.
    Project,
    /// The environment of the service that sends; each service writes its own.
    Source,
}

impl OwnMember {
    /// All of them, in the order they are written in.
    pub const ALL: [Self; 3] = [Self::Session, Self::Project, Self::Source];

    /// The key that is written.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Session => "session_id",
            Self::Project => "project",
            Self::Source => "source",
        }
    }

    /// The keys that are read, the preferred one first.
    pub const fn aliases(self) -> [&'static str; 3] {
        match self {
            Self::Session => ["honeyhive.session_id", "honeyhive_session_id", "session_id"],
            Self::Project => ["honeyhive.project", "honeyhive_project", "project"],
            Self::Source => ["honeyhive.source", "honeyhive_source", "source"],
        }
    }

    /// The member that a baggage key is an alias of. Keys are case-sensitive (rule B3).
    #[inline]
    pub fn of(key: &str) -> Option<Self> {
        // Every member of every baggage comes by here. These are the aliases, each compared at most once.
        match key {
            "session_id" | "honeyhive.session_id" | "honeyhive_session_id" => Some(Self::Session),
            "project" | "honeyhive.project" | "honeyhive_project" => Some(Self::Project),
            "source" | "honeyhive.source" | "honeyhive_source" => Some(Self::Source),
            _ => None,
        }
    }
}

/// A baggage key that means something in one process only and never leaves it: the reference SDK's tracer id, which is
/// an address in its memory.
pub const PRIVATE_KEY: &str = "honeyhive_tracer_id";

/// Why a text is no session id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvalidSession {
    /// It is empty.
    Empty,
    /// It has more than [`MAX_CHARS`] characters.
    TooLong,
}

impl fmt::Display for InvalidSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a session id must not be empty"),
            Self::TooLong => write!(f, "a session id must not have more than {MAX_CHARS} characters"),
        }
    }
}

impl core::error::Error for InvalidSession {}

/// Checks a session id: any text of 1 to 256 characters (Unicode scalar values).
///
/// # Errors
///
/// [`InvalidSession`] says what is wrong, without the text.
pub fn check(session_id: &str) -> Result<(), InvalidSession> {
    if session_id.is_empty() {
        return Err(InvalidSession::Empty);
    }
    // Counting is needed only where bytes and characters can differ.
    if session_id.len() > MAX_CHARS && session_id.chars().nth(MAX_CHARS).is_some() {
        return Err(InvalidSession::TooLong);
    }
    Ok(())
}

/// RFC 9562's namespace for URLs, `6ba7b811-9dad-11d1-80b4-00c04fd430c8`: session ids that are not UUIDs are hashed in
/// it, as `uuid.uuid5(uuid.NAMESPACE_URL, session_id)` does.
pub const NAMESPACE: [u8; 16] =
    [0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8];

/// The session id that HoneyHive is told, which wants UUIDs. A UUID in its form of 36 characters stays, in lower case;
/// any other text becomes its UUID of version 5 in [`NAMESPACE`], the same in every service. The wire carries the raw
/// one.
pub fn honeyhive_session_id(raw: &str) -> Cow<'_, str> {
    match uuid_case(raw) {
        Some(Case::Lower) => Cow::Borrowed(raw),
        Some(Case::Mixed) => Cow::Owned(raw.to_ascii_lowercase()),
        None => Cow::Owned(uuid_v5(&NAMESPACE, raw.as_bytes())),
    }
}

enum Case {
    Lower,
    Mixed,
}

/// Whether the text is a UUID as 8-4-4-4-12 hex digits, and in which case.
fn uuid_case(text: &str) -> Option<Case> {
    if text.len() != 36 {
        return None;
    }
    let mut case = Case::Lower;
    for (at, octet) in text.bytes().enumerate() {
        match (at, octet) {
            (8 | 13 | 18 | 23, b'-') => {}
            (8 | 13 | 18 | 23, _) => return None,
            (_, b'0'..=b'9' | b'a'..=b'f') => {}
            (_, b'A'..=b'F') => case = Case::Mixed,
            _ => return None,
        }
    }
    Some(case)
}

/// The UUID of version 5 for a name: RFC 9562, §5.5.
fn uuid_v5(namespace: &[u8; 16], name: &[u8]) -> String {
    let mut sha1 = sha1::Sha1::new();
    sha1.update(namespace);
    sha1.update(name);
    let [a, b, c, d, ..] = sha1.finish();
    let bits = u128::from(a) << 96 | u128::from(b) << 64 | u128::from(c) << 32 | u128::from(d);
    // Version 5 in the high digit of the third group, variant 0b10 in the fourth.
    let bits = bits & !(0xf << 76 | 0x3 << 62) | 0x5 << 76 | 0x2 << 62;
    let mut hex = [b'0'; 32];
    encode_hex(&bits.to_be_bytes(), &mut hex);
    let mut text = String::with_capacity(36);
    let mut rest: &[u8] = &hex;
    for width in [8, 4, 4, 4, 12] {
        let Some((group, after)) = rest.split_at_checked(width) else { break };
        if !text.is_empty() {
            text.push('-');
        }
        text.push_str(ascii(group));
        rest = after;
    }
    text
}

/// SHA-1 (RFC 3174). Version 5 UUIDs are defined by it; nothing here relies on it for security.
mod sha1 {
    pub(super) struct Sha1 {
        state: [u32; 5],
        block: [u8; 64],
        /// How many bytes of `block` are filled.
        filled: usize,
        /// The message's length so far, in bytes.
        length: u64,
    }

    impl Sha1 {
        pub(super) const fn new() -> Self {
            let state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
            Self { state, block: [0; 64], filled: 0, length: 0 }
        }

        pub(super) fn update(&mut self, bytes: &[u8]) {
            for &byte in bytes {
                self.push(byte);
            }
            self.length = self.length.wrapping_add(bytes.len() as u64);
        }

        fn push(&mut self, byte: u8) {
            if let Some(slot) = self.block.get_mut(self.filled) {
                *slot = byte;
            }
            self.filled = self.filled.wrapping_add(1);
            if self.filled == self.block.len() {
                self.compress();
                self.filled = 0;
            }
        }

        pub(super) fn finish(mut self) -> [u32; 5] {
            let bits = self.length.wrapping_mul(8);
            self.push(0x80);
            while self.filled != 56 {
                self.push(0);
            }
            for byte in bits.to_be_bytes() {
                self.push(byte);
            }
            self.state
        }

        fn compress(&mut self) {
            // A window of the last 16 words of the schedule is enough: word t depends on t-3, t-8, t-14 and t-16.
            let mut window = [0_u32; 16];
            for (word, bytes) in window.iter_mut().zip(self.block.chunks_exact(4)) {
                *word = bytes.iter().fold(0, |word, &byte| word << 8 | u32::from(byte));
            }
            let [mut a, mut b, mut c, mut d, mut e] = self.state;
            for round in 0..80_u32 {
                let [word, _, two, _, _, _, _, _, eight, _, _, _, _, thirteen, ..] = window;
                let next = (thirteen ^ eight ^ two ^ word).rotate_left(1);
                window.rotate_left(1);
                if let Some(last) = window.last_mut() {
                    *last = next;
                }
                let (mixed, constant) = match round {
                    0..20 => (b & c | !b & d, 0x5a82_7999),
                    20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                    40..60 => (b & c | b & d | c & d, 0x8f1b_bcdc_u32),
                    _ => (b ^ c ^ d, 0xca62_c1d6),
                };
                let sum =
                    a.rotate_left(5).wrapping_add(mixed).wrapping_add(e).wrapping_add(constant).wrapping_add(word);
                (a, b, c, d, e) = (sum, a, b.rotate_left(30), c, d);
            }
            for (state, value) in self.state.iter_mut().zip([a, b, c, d, e]) {
                *state = state.wrapping_add(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha1_hex(message: &[u8]) -> String {
        let mut sha1 = sha1::Sha1::new();
        sha1.update(message);
        sha1.finish().iter().map(|word| alloc::format!("{word:08x}")).collect()
    }

    #[test]
    fn sha1_gives_the_published_digests() {
        // FIPS 180-1 and RFC 3174, §7.3.
        assert_eq!(sha1_hex(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(sha1_hex(b""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        assert_eq!(sha1_hex(two_blocks), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
        assert_eq!(sha1_hex(&[b'a'; 1_000_000]), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
        let digits = b"0123456701234567012345670123456701234567012345670123456701234567".repeat(10);
        assert_eq!(sha1_hex(&digits), "dea356a2cddd90c7a7ecedc5ebb563934f460452");
    }

    #[test]
    fn uuid_v5_gives_the_published_values() {
        // RFC 9562, appendix A.4: in the DNS namespace, which differs from the URL one in a single digit.
        let mut dns = NAMESPACE;
        dns[3] = 0x10;
        assert_eq!(uuid_v5(&dns, b"www.example.com"), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    }

    #[test]
    fn uuids_stay_and_other_texts_are_hashed() {
        let uuid = "0f8fad5b-d9cb-469f-a165-70867728950e";
        assert!(matches!(honeyhive_session_id(uuid), Cow::Borrowed(same) if same == uuid));
        assert_eq!(honeyhive_session_id(&uuid.to_ascii_uppercase()), uuid);
        // Not the form of 36 characters, though Python's uuid.UUID() would take them.
        for other in [
            "0f8fad5bd9cb469fa16570867728950e",
            "{0f8fad5b-d9cb-469f-a165-70867728950e}",
            "0f8fad5b-d9cb-469f-a165-70867728950g",
        ] {
            let derived = honeyhive_session_id(other);
            assert!(derived != other && uuid_case(&derived).is_some(), "{other}");
            assert_eq!(derived.as_bytes()[14], b'5');
        }
    }

    #[test]
    fn ids_are_any_text_of_1_to_256_characters() {
        assert_eq!(check(""), Err(InvalidSession::Empty));
        assert_eq!(check("x"), Ok(()));
        assert_eq!(check(&"\u{1f600}".repeat(256)), Ok(()));
        assert_eq!(check(&"\u{e9}".repeat(257)), Err(InvalidSession::TooLong));
        assert_eq!(check(&"x".repeat(257)), Err(InvalidSession::TooLong));
    }

    #[test]
    fn every_alias_names_its_member() {
        for member in OwnMember::ALL {
            for alias in member.aliases() {
                assert_eq!(OwnMember::of(alias), Some(member));
                assert_eq!(OwnMember::of(&alias.to_ascii_uppercase()), None, "keys are case-sensitive");
            }
            assert_eq!(OwnMember::of(member.key()), Some(member));
        }
        for other in ["", "session.id", PRIVATE_KEY, "sources", "honeyhive.session", "projecT"] {
            assert_eq!(OwnMember::of(other), None, "{other}");
        }
    }
}
