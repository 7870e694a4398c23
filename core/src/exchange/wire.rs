//! Reading requests and records, and writing answers: little-endian numbers, texts and blobs.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use super::{ABSENT, Error, SHARED};

/// Bytes that are read from their beginning on. Reading past the end is [`Error::Truncated`], and so is a length that
/// reaches there.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not read yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything was read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(*array)
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Error> {
        self.array().map(|[byte]| byte)
    }

    /// A word.
    pub fn word(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    /// So many words.
    pub fn words<const N: usize>(&mut self) -> Result<[u32; N], Error> {
        let (bytes, rest) = self.rest.split_at_checked(N.saturating_mul(4)).ok_or(Error::Truncated)?;
        self.rest = rest;
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
            *word = u32::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        Ok(words)
    }

    /// An `f64`.
    pub fn double(&mut self) -> Result<f64, Error> {
        self.array().map(f64::from_le_bytes)
    }

    /// So many bytes.
    pub fn bytes(&mut self, length: u32) -> Result<&'a [u8], Error> {
        let length = usize::try_from(length).map_err(|_| Error::Truncated)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// So many bytes, unless the length is [`ABSENT`].
    pub fn optional(&mut self, length: u32) -> Result<Option<&'a [u8]>, Error> {
        if length == ABSENT { Ok(None) } else { self.bytes(length).map(Some) }
    }

    /// So many bytes of text.
    pub fn text_of(&mut self, length: u32) -> Result<Cow<'a, str>, Error> {
        self.bytes(length).map(String::from_utf8_lossy)
    }

    /// A text behind its length.
    pub fn text(&mut self) -> Result<Cow<'a, str>, Error> {
        let length = self.word()?;
        self.text_of(length)
    }

    /// A text, or [`ABSENT`].
    pub fn optional_text(&mut self) -> Result<Option<Cow<'a, str>>, Error> {
        let length = self.word()?;
        self.optional(length).map(|bytes| bytes.map(String::from_utf8_lossy))
    }

    /// A text or blob behind its length, or where it was written before in `chunk`.
    pub(super) fn shared(&mut self, chunk: &'a [u8]) -> Result<&'a [u8], Error> {
        let length = self.word()?;
        if length & SHARED == 0 {
            return self.bytes(length);
        }
        let offset = usize::try_from(length & !SHARED).map_err(|_| Error::Truncated)?;
        let mut before = Reader::new(chunk.get(offset..).ok_or(Error::Truncated)?);
        let length = before.word()?;
        before.bytes(length)
    }

    /// A time in nanoseconds since 1970.
    pub fn time_ns(&mut self) -> Result<u64, Error> {
        let (base, offset) = (self.double()?, self.double()?);
        let (base, distance) = (nanoseconds(base), nanoseconds(offset.abs()));
        Ok(if offset < 0.0 { base.saturating_sub(distance) } else { base.saturating_add(distance) })
    }
}

/// Milliseconds as whole nanoseconds, the nearest; what is no time is 0. Whole milliseconds are taken off before: as
/// nanoseconds, times of today have more digits than an `f64`.
fn nanoseconds(milliseconds: f64) -> u64 {
    // Casts saturate, and make 0 of NaN.
    let whole = milliseconds as u64;
    let rest = (milliseconds - whole as f64) * 1e6 + 0.5;
    whole.saturating_mul(1_000_000).saturating_add(rest as u64)
}

/// Appends a word.
#[inline]
pub fn put_word(out: &mut Vec<u8>, word: u32) {
    out.extend_from_slice(&word.to_le_bytes());
}

/// Appends words.
#[inline]
pub(super) fn put_words<const N: usize>(out: &mut Vec<u8>, words: [u32; N]) {
    out.extend_from_slice(words.map(u32::to_le_bytes).as_flattened());
}

/// A length as a word; what is longer than 4 GiB cannot be told, nor made.
pub(super) fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Appends a text behind its length.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_word(out, length(text.len()));
    out.extend_from_slice(text.as_bytes());
}

/// How many UTF-16 units a text has.
pub(super) fn units(text: &str) -> u32 {
    length(if text.is_ascii() { text.len() } else { text.encode_utf16().count() })
}

/// Replaces the word at this offset.
pub(super) fn set_word(out: &mut [u8], offset: usize, word: u32) {
    if let Some(place) = out.get_mut(offset..).and_then(<[u8]>::first_chunk_mut) {
        *place = word.to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(base: f64, offset: f64) -> u64 {
        let bytes = [base.to_le_bytes(), offset.to_le_bytes()].concat();
        Reader::new(&bytes).time_ns().unwrap()
    }

    #[test]
    fn times_lose_nothing_to_the_size_of_their_sum() {
        assert_eq!(time(1_700_000_000_000.0, 0.000_001), 1_700_000_000_000_000_001);
        assert_eq!(time(1_700_000_000_000.25, 12.345_678), 1_700_000_000_012_595_678);
        // A pair of seconds and nanoseconds, as OpenTelemetry's HrTime is.
        assert_eq!(time(1_700_000_000_000.0, 999_999_999.0 / 1e6), 1_700_000_000_999_999_999);
        assert_eq!(time(1_000.0, -0.5), 999_500_000);
        for (base, offset) in [(f64::NAN, f64::NAN), (-1.0, 0.0), (0.0, -5.0), (f64::NEG_INFINITY, f64::NEG_INFINITY)] {
            assert_eq!(time(base, offset), 0);
        }
        assert_eq!(time(f64::INFINITY, f64::INFINITY), u64::MAX);
    }

    #[test]
    fn lengths_that_reach_past_the_end_are_errors() {
        for bytes in [&[][..], &[5, 0, 0][..], &[5, 0, 0, 0, b'a'][..], &[0xfe, 0xff, 0xff, 0xff][..]] {
            assert_eq!(Reader::new(bytes).text(), Err(Error::Truncated));
        }
        assert_eq!(Reader::new(&[0xff; 4]).optional_text(), Ok(None));
        let chunk = [2, 0, 0, 0, b'h', b'i', 0, 0, 0, 0x80];
        let mut reader = Reader::new(&chunk);
        assert_eq!(reader.shared(&chunk), Ok(&b"hi"[..]));
        assert_eq!(reader.shared(&chunk), Ok(&b"hi"[..]));
        for word in [0x8000_0001_u32, 0x8000_000a, 0xffff_ffff] {
            assert_eq!(Reader::new(&word.to_le_bytes()).shared(&chunk), Err(Error::Truncated), "{word:x}");
        }
    }
}
