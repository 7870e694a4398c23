//! Values as bytes: arguments, results, and what nests in attributes.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use super::wire::{Reader, length, put_text, put_word};
use super::{Error, MAX_DEPTH};
use crate::value::Value;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const DOUBLE: u8 = 4;
const TEXT: u8 = 5;
const BYTES: u8 = 6;
const LIST: u8 = 7;
const MAP: u8 = 8;

/// The names that `js/src/protocol.ts` has for the first bytes of trees, and their numbers.
#[cfg(test)]
pub(super) const NUMBERS: &[(&str, u32)] = &[
    ("TREE_NULL", NULL as u32),
    ("TREE_FALSE", FALSE as u32),
    ("TREE_TRUE", TRUE as u32),
    ("TREE_INT", INT as u32),
    ("TREE_DOUBLE", DOUBLE as u32),
    ("TREE_TEXT", TEXT as u32),
    ("TREE_BYTES", BYTES as u32),
    ("TREE_LIST", LIST as u32),
    ("TREE_MAP", MAP as u32),
];

/// Reads a tree. Texts and bytes are borrowed.
///
/// # Errors
///
/// If it is cut short, nests too deeply or has a byte that no kind has.
pub fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>, Error> {
    read_at(reader, MAX_DEPTH)
}

fn read_at<'a>(reader: &mut Reader<'a>, depth: usize) -> Result<Value<'a>, Error> {
    Ok(match reader.byte()? {
        NULL => Value::Null,
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        INT => Value::Int(reader.array().map(i64::from_le_bytes)?),
        DOUBLE => Value::Double(reader.double()?),
        TEXT => Value::Str(reader.text()?),
        BYTES => {
            let length = reader.word()?;
            Value::Bytes(Cow::Borrowed(reader.bytes(length)?))
        }
        LIST => {
            let (count, depth) = (reader.word()?, below(depth)?);
            let mut items = Vec::with_capacity(capacity(count, reader, 1));
            for _ in 0..count {
                items.push(read_at(reader, depth)?);
            }
            Value::Array(items)
        }
        MAP => {
            let (count, depth) = (reader.word()?, below(depth)?);
            let mut entries = Vec::with_capacity(capacity(count, reader, 5));
            for _ in 0..count {
                entries.push((reader.text()?, read_at(reader, depth)?));
            }
            Value::Map(entries)
        }
        _ => return Err(Error::Malformed),
    })
}

fn below(depth: usize) -> Result<usize, Error> {
    depth.checked_sub(1).ok_or(Error::Malformed)
}

/// How many elements to make room for: no more than the bytes that are left can hold, whatever the count says, and not
/// many where each takes little: a list in a list in a list may claim them again and again.
fn capacity(count: u32, reader: &Reader<'_>, bytes_each: usize) -> usize {
    const MANY: usize = 64;
    let most = reader.rest().len().checked_div(bytes_each).unwrap_or_default().min(MANY);
    usize::try_from(count).unwrap_or(most).min(most)
}

/// Appends a tree.
pub fn write(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(false) => out.push(FALSE),
        Value::Bool(true) => out.push(TRUE),
        Value::Int(number) => {
            out.push(INT);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::Double(number) => {
            out.push(DOUBLE);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Value::Str(text) => {
            out.push(TEXT);
            put_text(out, text);
        }
        Value::Bytes(bytes) => {
            out.push(BYTES);
            put_word(out, length(bytes.len()));
            out.extend_from_slice(bytes);
        }
        Value::Array(items) => {
            out.push(LIST);
            put_word(out, length(items.len()));
            items.iter().for_each(|item| write(out, item));
        }
        Value::Map(entries) => {
            out.push(MAP);
            put_word(out, length(entries.len()));
            for (key, value) in entries {
                put_text(out, key);
                write(out, value);
            }
        }
    }
}

/// A map of these entries.
pub fn map<'a, const N: usize>(entries: [(&'a str, Value<'a>); N]) -> Value<'a> {
    Value::Map(entries.into_iter().map(|(key, value)| (Cow::Borrowed(key), value)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;
    use std::vec;

    fn tree() -> impl Strategy<Value = Value<'static>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            // Not NaN, which is not equal to itself.
            (-1e300..1e300).prop_map(Value::Double),
            any::<String>().prop_map(|text| Value::Str(text.into())),
            any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(bytes.into())),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                prop::collection::vec((any::<String>().prop_map(Cow::from), inner), 0..8).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in tree()) {
            let mut bytes = Vec::new();
            write(&mut bytes, &value);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(read(&mut reader), Ok(value));
            prop_assert!(reader.is_empty());
            for end in 0..bytes.len() {
                prop_assert!(read(&mut Reader::new(&bytes[..end])).is_err(), "cut at {}", end);
            }
        }

        #[test]
        fn any_bytes_are_a_tree_or_an_error(bytes: Vec<u8>) {
            let _ = read(&mut Reader::new(&bytes));
        }
    }

    #[test]
    fn nesting_and_counts_are_bounded() {
        let nested = |depth: usize| [[LIST, 1, 0, 0, 0].repeat(depth), vec![NULL]].concat();
        assert!(read(&mut Reader::new(&nested(MAX_DEPTH))).is_ok());
        assert_eq!(read(&mut Reader::new(&nested(MAX_DEPTH + 1))), Err(Error::Malformed));
        assert_eq!(read(&mut Reader::new(&[LIST, 0xff, 0xff, 0xff, 0xff, NULL])), Err(Error::Truncated));
        assert_eq!(read(&mut Reader::new(&[9])), Err(Error::Malformed));
    }

    #[test]
    fn text_that_is_not_utf_8_is_read_all_the_same() {
        assert_eq!(read(&mut Reader::new(&[TEXT, 2, 0, 0, 0, b'a', 0xff])), Ok("a\u{fffd}".into()));
    }
}
