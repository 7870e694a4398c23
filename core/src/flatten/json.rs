//! A value as one text: compact JSON, or a text that is cut because it is too long.

use alloc::borrow::Cow;
use alloc::string::String;

use super::Place;
use crate::escape;
use crate::limits::truncate_bytes;
use crate::number;
use crate::redact::{REDACTED, Redaction, Scope};
use crate::value::Value;

/// The value as compact JSON of at most `bytes` bytes, nothing redacted (HH-flatten-json, HH-flatten-cap of
/// [`flatten`](crate::flatten)).
pub fn json_text(value: &Value<'_>, bytes: usize) -> String {
    json_text_in(value, bytes, &Redaction::Off, Scope::Open)
}

pub(super) fn json_text_in(value: &Value<'_>, bytes: usize, redaction: &Redaction, scope: Scope) -> String {
    let mut out = Capped::new(bytes);
    write_json(value, redaction, Place { scope, depth: JSON_DEPTH }, &mut out);
    out.finish()
}

/// Lists and maps, one inside the other, that a JSON text shows.
const JSON_DEPTH: usize = 64;

/// The text, cut if it is longer than `bytes` bytes.
pub(crate) fn capped(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes {
        return Cow::Borrowed(text);
    }
    let mut out = Capped::new(bytes);
    out.push(text);
    Cow::Owned(out.finish())
}

/// What bytes say if that is UTF-8, else base64; cut in the same way.
pub(super) fn capped_bytes(value: &[u8], bytes: usize) -> Cow<'_, str> {
    if let Ok(text) = core::str::from_utf8(value) {
        return capped(text, bytes);
    }
    let mut out = Capped::new(bytes);
    escape::base64(value, &mut |piece| out.push(piece));
    Cow::Owned(out.finish())
}

/// Text that keeps its first bytes and counts the others (HH-flatten-cap).
struct Capped {
    text: String,
    most: usize,
    /// Bytes pushed, kept or not.
    pushed: usize,
}

impl Capped {
    fn new(most: usize) -> Self {
        Self { text: String::new(), most, pushed: 0 }
    }

    fn push(&mut self, piece: &str) {
        // Once a piece was cut nothing may follow it, even if there is room for a shorter one.
        if self.pushed <= self.most {
            self.text.push_str(truncate_bytes(piece, self.most.saturating_sub(self.text.len())));
        }
        self.pushed = self.pushed.saturating_add(piece.len());
    }

    fn finish(mut self) -> String {
        if self.pushed > self.most {
            // The number of bytes cut has no more digits than the number of all.
            let longest = marker(self.pushed).len();
            if longest <= self.most {
                let kept = truncate_bytes(&self.text, self.most.saturating_sub(longest)).len();
                self.text.truncate(kept);
                self.text.push_str(&marker(self.pushed.saturating_sub(kept)));
            }
        }
        self.text
    }
}

fn marker(cut: usize) -> String {
    let mut text = String::from("… [");
    number::unsigned(cut as u64, &mut |piece| text.push_str(piece));
    text.push_str(" bytes cut]");
    text
}

fn write_json(value: &Value<'_>, redaction: &Redaction, place: Place, out: &mut Capped) {
    match value {
        Value::Null => out.push("null"),
        Value::Bool(value) => out.push(if *value { "true" } else { "false" }),
        Value::Int(value) => number::integer(*value, &mut |piece| out.push(piece)),
        Value::Double(value) if value.is_finite() => number::double(*value, &mut |piece| out.push(piece)),
        Value::Double(value) if value.is_nan() => out.push("\"NaN\""),
        Value::Double(value) => out.push(if *value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" }),
        Value::Str(_) | Value::Bytes(_) if place.scope == Scope::Secret => write_json_string(REDACTED, out),
        Value::Str(text) => write_json_string(text, out),
        Value::Bytes(bytes) => match core::str::from_utf8(bytes) {
            Ok(text) => write_json_string(text, out),
            Err(_) => {
                out.push("\"");
                escape::base64(bytes, &mut |piece| out.push(piece));
                out.push("\"");
            }
        },
        Value::Array(_) | Value::Map(_) if place.depth == 0 => write_json_string("[too deep]", out),
        Value::Array(items) => {
            out.push("[");
            for (index, item) in items.iter().enumerate() {
                if index != 0 {
                    out.push(",");
                }
                write_json(item, redaction, place.below(redaction.item(place.scope, items, index)), out);
            }
            out.push("]");
        }
        Value::Map(entries) => {
            out.push("{");
            for (index, (key, value)) in entries.iter().enumerate() {
                if index != 0 {
                    out.push(",");
                }
                write_json_string(key, out);
                out.push(":");
                write_json(value, redaction, place.below(redaction.enter(place.scope, key)), out);
            }
            out.push("}");
        }
    }
}

fn write_json_string(text: &str, out: &mut Capped) {
    out.push("\"");
    escape::json(text, &mut |piece| out.push(piece));
    out.push("\"");
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    #[test]
    fn json_is_compact_and_keeps_order_and_types() {
        let value = Value::Map(vec![
            ("z".into(), Value::Null),
            ("a".into(), Value::Array(vec![true.into(), false.into(), i64::MIN.into(), i64::MAX.into()])),
            ("e".into(), Value::Array(vec![Value::Array(vec![]), Value::Map(vec![])])),
            ("k\"\n".into(), "v".into()),
        ]);
        assert_eq!(
            json_text(&value, 1000),
            r#"{"z":null,"a":[true,false,-9223372036854775808,9223372036854775807],"e":[[],{}],"k\"\n":"v"}"#
        );
    }

    #[test]
    fn floating_point_numbers_read_back_the_same() {
        for (value, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e21, "1e21"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e308"),
            (f64::NAN, "\"NaN\""),
            (f64::INFINITY, "\"Infinity\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ] {
            assert_eq!(json_text(&value.into(), 100), text);
            if value.is_finite() {
                assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(value.to_bits()));
            }
        }
    }

    #[test]
    fn texts_are_escaped_where_json_wants_it() {
        for (text, json) in [
            ("", r#""""#),
            ("plain \u{e4} \u{1f600}", "\"plain \u{e4} \u{1f600}\""),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\n\r\t", r#""\n\r\t""#),
            ("\u{0}a\u{8}\u{c}\u{1f}", r#""\u0000a\u0008\u000c\u001f""#),
            ("\u{7f}/", "\"\u{7f}/\""),
            ("end\"", r#""end\"""#),
        ] {
            assert_eq!(json_text(&text.into(), 100), json);
        }
    }

    #[test]
    fn bytes_are_text_or_base64() {
        for (bytes, json) in [
            (&b"a\"b"[..], r#""a\"b""#),
            (b"\xff", "\"/w==\""),
            (b"\xff\xfe", "\"//4=\""),
            (b"\xff\xfe\xfd", "\"//79\""),
            (b"\xfb\xef\xbe\x00", "\"++++AA==\""),
        ] {
            assert_eq!(json_text(&Value::Bytes(bytes.into()), 100), json);
        }
    }

    #[test]
    fn what_does_not_fit_is_cut_and_counted() {
        let long = "x".repeat(100);
        assert_eq!(capped(&long, 100), long);
        for bytes in 0..100 {
            let text = capped(&long, bytes);
            if bytes < "\u{2026} [100 bytes cut]".len() {
                assert_eq!(text, "x".repeat(bytes));
                continue;
            }
            assert!(text.len() <= bytes);
            let (kept, marker) = text.split_once('\u{2026}').unwrap();
            let cut: usize = marker.strip_prefix(" [").unwrap().strip_suffix(" bytes cut]").unwrap().parse().unwrap();
            assert_eq!(kept.len() + cut, 100);
            assert!(text.len() + 1 >= bytes, "no room is left: {text}");
        }
    }

    #[test]
    fn cuts_fall_between_characters() {
        let long = "\u{1f600}".repeat(50);
        for bytes in 0..200 {
            let text = capped(&long, bytes);
            assert!(text.len() <= bytes);
            assert!(text.trim_start_matches('\u{1f600}').chars().next().is_none_or(|c| c == '\u{2026}'), "{text}");
        }
        assert_eq!(capped(&long, 30), "\u{1f600}".repeat(2) + "\u{2026} [192 bytes cut]");
    }

    #[test]
    fn nothing_follows_a_cut() {
        // The second text does not fit, the bracket behind it would.
        assert_eq!(json_text(&vec!["\u{1f600}"; 2].into(), 12), "[\"\u{1f600}\",\"");
        assert_eq!(json_text(&vec!["\u{1f600}"; 2].into(), 17), "[\"\u{1f600}\",\"\u{1f600}\"]");
    }

    #[test]
    fn the_cap_holds_for_json_of_every_size() {
        let value: Value<'_> = (0..40).map(i64::from).collect::<Vec<_>>().into();
        let full = json_text(&value, usize::MAX);
        assert_eq!(full.len(), 111);
        for bytes in 0..=full.len() {
            let text = json_text(&value, bytes);
            assert!(text.len() <= bytes);
            assert_eq!(text == full, bytes == full.len());
        }
    }
}
