//! Attribute values from and to `serde_json`.
//!
//! ```
//! use serde_json::json;
//! use tracebaton::Value;
//!
//! let value = Value::from(json!({ "role": "user", "tokens": [3, 0.5, null] }));
//! assert_eq!(serde_json::Value::from(value), json!({ "role": "user", "tokens": [3, 0.5, null] }));
//! ```

use alloc::borrow::Cow;
use alloc::string::{String, ToString};

use serde_json::{Number, Value as Json};

use crate::escape;
use crate::value::Value;

/// A number of JSON: an integer of 64 bits stays one; a larger one is taken as its digits, since a floating-point number
/// would be another number; any other is a floating-point number.
fn number(number: &Number) -> Value<'static> {
    if let Some(integer) = number.as_i64() {
        return Value::Int(integer);
    }
    match number.as_f64() {
        Some(double) if number.is_f64() && double.is_finite() => Value::Double(double),
        _ => Value::from(number.to_string()),
    }
}

impl From<Json> for Value<'_> {
    fn from(value: Json) -> Self {
        match value {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(value) => number(&value),
            Json::String(text) => Self::from(text),
            Json::Array(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            Json::Object(entries) => {
                Self::Map(entries.into_iter().map(|(key, value)| (Cow::Owned(key), Self::from(value))).collect())
            }
        }
    }
}

impl<'a> From<&'a Json> for Value<'a> {
    /// Texts are borrowed.
    fn from(value: &'a Json) -> Self {
        match value {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(value) => number(value),
            Json::String(text) => Self::from(text.as_str()),
            Json::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            Json::Object(entries) => {
                Self::Map(entries.iter().map(|(key, value)| (Cow::Borrowed(key.as_str()), Self::from(value))).collect())
            }
        }
    }
}

impl From<&Value<'_>> for Json {
    fn from(value: &Value<'_>) -> Self {
        // Most of a value is texts, and these are copied either way.
        Self::from(value.clone())
    }
}

impl From<Value<'_>> for Json {
    /// What JSON does not have is said as OTLP and [`flatten`](crate::flatten) say it: NaN and the infinities are the
    /// strings `NaN`, `Infinity` and `-Infinity`; bytes are text where they are UTF-8, else base64. Of a map's entries
    /// with one key the last counts.
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Int(value) => Self::from(value),
            Value::Double(value) => Number::from_f64(value).map_or_else(|| Self::from(not_finite(value)), Self::Number),
            Value::Str(text) => Self::String(text.into_owned()),
            Value::Bytes(bytes) => Self::String(bytes_text(bytes)),
            Value::Array(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            Value::Map(entries) => {
                Self::Object(entries.into_iter().map(|(key, value)| (String::from(key), Self::from(value))).collect())
            }
        }
    }
}

fn bytes_text(bytes: Cow<'_, [u8]>) -> String {
    match String::from_utf8(bytes.into_owned()) {
        Ok(text) => text,
        Err(error) => {
            let mut text = String::new();
            escape::base64(error.as_bytes(), &mut |piece| text.push_str(piece));
            text
        }
    }
}

fn not_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}
