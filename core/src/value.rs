//! Attribute values: what OTLP's `AnyValue` holds.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::keyed::hash;
use crate::names::Names;

/// A value of an attribute, or a node of a nested one. Texts are borrowed where they can be.
///
/// To drop, clone, compare or [own](Self::into_owned) one recurses into lists and maps: who makes values of what others
/// sent limits how deeply they nest, as [`reader`](crate::otlp::reader) does. What only reads them here is bounded.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// No value: an `AnyValue` with nothing set.
    Null,
    /// A boolean.
    Bool(bool),
    /// A signed integer of 64 bits.
    Int(i64),
    /// A floating-point number; NaN and the infinities are legal.
    Double(f64),
    /// Text.
    Str(Cow<'a, str>),
    /// Bytes.
    Bytes(Cow<'a, [u8]>),
    /// A list, of values of any kind.
    Array(Vec<Value<'a>>),
    /// A map in its order. Of entries with one key the last value counts, where the first one stands.
    Map(Vec<(Cow<'a, str>, Value<'a>)>),
}

impl Value<'_> {
    /// The text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The value with everything it borrows copied.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::Int(value),
            Self::Double(value) => Value::Double(value),
            Self::Str(text) => Value::Str(Cow::Owned(text.into_owned())),
            Self::Bytes(bytes) => Value::Bytes(Cow::Owned(bytes.into_owned())),
            Self::Array(values) => Value::Array(values.into_iter().map(Value::into_owned).collect()),
            Self::Map(entries) => Value::Map(
                entries.into_iter().map(|(key, value)| (Cow::Owned(key.into_owned()), value.into_owned())).collect(),
            ),
        }
    }
}

/// A value to be written: most are small enough to be handed over as they are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ValueRef<'a> {
    Bool(bool),
    Int(i64),
    Double(f64),
    Str(&'a str),
    /// Null, bytes, a list or a map.
    Other(&'a Value<'a>),
}

impl<'a> ValueRef<'a> {
    /// The text, if it is text.
    pub(crate) const fn as_str(self) -> Option<&'a str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }
}

impl<'a> From<&'a Value<'_>> for ValueRef<'a> {
    #[inline]
    fn from(value: &'a Value<'_>) -> Self {
        match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Double(value) => Self::Double(*value),
            Value::Str(text) => Self::Str(text),
            Value::Null | Value::Bytes(_) | Value::Array(_) | Value::Map(_) => Self::Other(value),
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Str(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Self::Str(Cow::Owned(text))
    }
}

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Value<'_> {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl<'a, T: Into<Value<'a>>> From<Vec<T>> for Value<'a> {
    fn from(values: Vec<T>) -> Self {
        Self::Array(values.into_iter().map(Into::into).collect())
    }
}

/// Calls `f` with each key once, where it first stands, and its last value: OTLP forbids a map that has a key twice.
pub(crate) fn each_once<'m, 'a>(entries: &'m [(Cow<'a, str>, Value<'a>)], mut f: impl FnMut(&'m str, &'m Value<'a>)) {
    if !may_repeat(entries) {
        return entries.iter().for_each(|(key, value)| f(key, value));
    }
    let names = Names::of(entries.iter().map(|(key, _)| &**key).collect());
    for (at, (key, _)) in entries.iter().enumerate().filter(|(at, (key, _))| names.first(key) == Some(*at)) {
        if let Some((_, value)) = names.last(key).or(Some(at)).and_then(|last| entries.get(last)) {
            f(key, value);
        }
    }
}

/// Whether a key may come more than once: never false if one does, and hardly ever true if none does.
pub(crate) fn may_repeat(entries: &[(Cow<'_, str>, Value<'_>)]) -> bool {
    // Most maps are small: comparing all pairs is faster, and allocates nothing.
    const FEW: usize = 16;
    if entries.len() <= FEW {
        return entries.iter().enumerate().any(|(at, (key, _))| entries.iter().take(at).any(|(other, _)| other == key));
    }
    // A table of hashes, so large that nearly each finds its own slot free or one close by. Zero is no hash here.
    const PROBES: usize = 16;
    let mut table = vec![0_u32; entries.len().saturating_mul(4).next_power_of_two()];
    let mask = table.len().saturating_sub(1);
    entries.iter().any(|(key, _)| {
        let hash = hash(key.as_bytes()) | 1;
        for probe in 0..PROBES {
            match table.get_mut((hash as usize >> 1).wrapping_add(probe) & mask) {
                Some(slot) if *slot == 0 => {
                    *slot = hash;
                    return false;
                }
                Some(slot) if *slot != hash => {}
                _ => return true,
            }
        }
        // Perhaps keys made to collide.
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn the_last_value_of_a_key_stands_where_the_first_did() {
        // Below and above the length from which on a set is used.
        for more in [0, 30] {
            let mut entries: Vec<(Cow<'_, str>, Value<'_>)> = Vec::new();
            entries.extend((0..more).map(|n| (Cow::from(format!("k{n}")), Value::Null)));
            entries.extend([("a", 1), ("b", 2)].map(|(key, value)| (key.into(), Value::Int(value))));
            assert!(!may_repeat(&entries));
            entries.extend([("c", 3), ("a", 4), ("a", 5)].map(|(key, value)| (key.into(), Value::Int(value))));
            assert!(may_repeat(&entries));
            let mut once = Vec::new();
            each_once(&entries, |key, value| once.push((key, value.clone())));
            assert_eq!(once.len(), more + 3);
            assert_eq!(once.split_off(more), [("a", 5.into()), ("b", 2.into()), ("c", 3.into())]);
        }
    }
}
