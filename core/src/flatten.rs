//! HoneyHive's fields as attributes: nested values become one attribute per leaf, under keys that name the path.
//!
//! Rules (ids as in `tests/vectors/flatten.json`):
//!
//! * HH-flatten-path: an entry of a map goes to `prefix.key`, an item of a list to `prefix.index`, counted from 0; with
//!   an empty prefix to `key` and `index`.
//! * HH-flatten-scalar: booleans, integers, floating-point numbers and texts keep their type. Bytes become text: what
//!   they say if that is UTF-8, else base64 (standard alphabet, padded).
//! * HH-flatten-empty: null and empty lists and maps emit nothing.
//! * HH-flatten-leaf-limit: one call emits at most [`Options::leaves`] attributes and still shows everything. A node
//!   whose leaves all fit is flattened. A list that does not fit becomes one JSON text, whole, since half of its items
//!   in one form and half in another helps nobody. A map that does not fit is divided: its entries get attributes in
//!   their order, each by this same rule with what is left less one kept back for every later entry that has leaves.
//!   So each entry is there under its own key, and what an entry becomes depends on its size and on the entries before
//!   it only. A map with more such entries than are left becomes one JSON text.
//! * HH-flatten-depth: a list or map, if not empty, below [`Options::depth`] others becomes one JSON text; more than
//!   [`MAX_DEPTH`] count as that many.
//! * HH-flatten-cap: a text longer than [`Options::captured_bytes`], JSON or not, is cut between two characters and
//!   ends with `… [N bytes cut]`, which counts towards the cap. (A cap too short for that just cuts.)
//! * HH-flatten-json: JSON texts are compact, maps in their order, nulls and empty nodes included, numbers in their
//!   shortest form that reads back the same (`1.0` for a floating-point one), NaN and the infinities as the texts
//!   `"NaN"`, `"Infinity"`, `"-Infinity"`, bytes as above, and `"[too deep]"` for a list or map below 64 others.
//! * Secrets are replaced on the way, in JSON texts too: see [`redact`](crate::redact). The prefix counts as a key.
//! * HH-flatten-once: of a key that comes twice in one map, or of paths that read the same, the last value counts, and it
//!   is emitted where the first would be.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

pub(crate) use self::json::capped;
use self::json::{capped_bytes, json_text_in};
use crate::limits::{Limits, MAX_DEPTH};
use crate::number;
use crate::octets::has;
use crate::redact::{REDACTED, Redaction, Scope};
use crate::value::{Value, each_once, may_repeat};

mod bucket;
mod json;

pub use self::bucket::Bucket;
pub use self::json::json_text;

/// How values are flattened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What is replaced.
    pub redaction: Redaction,
    /// Attributes one call emits at most; 0 counts as 1.
    pub leaves: usize,
    /// Lists and maps that a leaf may stand in, one inside the other; at most [`MAX_DEPTH`].
    pub depth: usize,
    /// Bytes that a text may have.
    pub captured_bytes: usize,
}

impl Options {
    /// The options that follow from a span's limits.
    pub const fn new(limits: &Limits, redaction: Redaction) -> Self {
        Self { redaction, leaves: limits.leaves, depth: limits.value_depth, captured_bytes: limits.captured_bytes }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new(&Limits::default(), Redaction::Default)
    }
}

/// Emits the attributes that `value` becomes under `prefix`, in order; see the module for the rules. Texts are borrowed
/// from `value` unless they had to change.
///
/// ```
/// use tracebaton::flatten::{Bucket, Options, flatten};
/// use tracebaton::value::Value;
///
/// let value = Value::Map(vec![("question".into(), "why?".into()), ("scores".into(), vec![0.5, 1.0].into())]);
/// let mut keys = Vec::new();
/// flatten(Bucket::Inputs.prefix(), &value, &Options::default(), &mut |key, _| keys.push(key.to_owned()));
/// assert_eq!(keys, ["honeyhive_inputs.question", "honeyhive_inputs.scores.0", "honeyhive_inputs.scores.1"]);
/// ```
pub fn flatten<'v>(prefix: &str, value: &'v Value<'_>, options: &Options, emit: &mut dyn FnMut(&str, Value<'v>)) {
    if paths_differ(value, options.depth.min(MAX_DEPTH)) {
        return walk(prefix, value, options, emit);
    }
    let mut found: Vec<(Cow<'v, str>, Value<'v>)> = Vec::new();
    walk(prefix, value, options, &mut |key, value| found.push((Cow::Owned(String::from(key)), value)));
    each_once(&found, |key, value| emit(key, value.clone()));
}

fn walk<'v>(prefix: &str, value: &'v Value<'_>, options: &Options, emit: &mut dyn FnMut(&str, Value<'v>)) {
    let scope = options.redaction.enter(Scope::Open, prefix);
    let mut walk = Walk { path: String::from(prefix), options, emit };
    walk.fit(value, Place { scope, depth: options.depth.min(MAX_DEPTH) }, options.leaves.max(1));
}

/// Whether no two leaves can have the same path: keys within a map differ, and none looks like a path itself, or leaves
/// no trace in one (HH-flatten-once).
fn paths_differ(value: &Value<'_>, depth: usize) -> bool {
    let deeper = depth.saturating_sub(1);
    match value {
        Value::Array(_) | Value::Map(_) if depth == 0 => true,
        Value::Array(items) => items.iter().all(|item| paths_differ(item, deeper)),
        Value::Map(entries) => {
            let plain = |key: &str| !key.is_empty() && !has(key, b'.');
            entries.iter().all(|(key, value)| plain(key) && paths_differ(value, deeper)) && !may_repeat(entries)
        }
        _ => true,
    }
}

/// Where a node stands.
#[derive(Clone, Copy)]
struct Place {
    scope: Scope,
    /// How many lists and maps may still be opened, one inside the other.
    depth: usize,
}

impl Place {
    fn below(self, scope: Scope) -> Self {
        Self { scope, depth: self.depth.saturating_sub(1) }
    }
}

struct Walk<'o, 'e, 'v> {
    /// The key so far; entries append to it and take back what they appended.
    path: String,
    options: &'o Options,
    emit: &'e mut dyn FnMut(&str, Value<'v>),
}

impl<'v> Walk<'_, '_, 'v> {
    /// Emits a node as at most `left` attributes, which is not zero; returns how many it took.
    fn fit(&mut self, value: &'v Value<'_>, place: Place, left: usize) -> usize {
        let leaves = count(value, place.depth, left);
        if leaves <= left {
            self.all(value, place);
            return leaves;
        }
        if let Value::Map(entries) = value {
            let below = place.depth.saturating_sub(1);
            let has_leaves = |value: &Value<'_>| count(value, below, 0) != 0;
            let mut waiting = entries.iter().filter(|(_, value)| has_leaves(value)).count();
            if waiting <= left {
                let mut rest = left;
                for (key, value) in entries.iter().filter(|(_, value)| has_leaves(value)) {
                    waiting = waiting.saturating_sub(1);
                    let place = place.below(self.options.redaction.enter(place.scope, key));
                    let end = self.push_key(key);
                    rest = rest.saturating_sub(self.fit(value, place, rest.saturating_sub(waiting)));
                    self.path.truncate(end);
                }
                return left.saturating_sub(rest);
            }
        }
        self.json(value, place);
        1
    }

    /// Emits all leaves of a node.
    fn all(&mut self, value: &'v Value<'_>, place: Place) {
        match value {
            Value::Null => {}
            Value::Bool(value) => (self.emit)(&self.path, Value::Bool(*value)),
            Value::Int(value) => (self.emit)(&self.path, Value::Int(*value)),
            Value::Double(value) => (self.emit)(&self.path, Value::Double(*value)),
            Value::Str(_) | Value::Bytes(_) if place.scope == Scope::Secret => (self.emit)(&self.path, REDACTED.into()),
            Value::Str(text) => (self.emit)(&self.path, Value::Str(capped(text, self.options.captured_bytes))),
            Value::Bytes(bytes) => {
                (self.emit)(&self.path, Value::Str(capped_bytes(bytes, self.options.captured_bytes)));
            }
            Value::Array(items) if items.is_empty() => {}
            Value::Map(entries) if entries.is_empty() => {}
            Value::Array(_) | Value::Map(_) if place.depth == 0 => self.json(value, place),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let end = self.push_key("");
                    number::unsigned(index as u64, &mut |piece| self.path.push_str(piece));
                    self.all(item, place.below(self.options.redaction.item(place.scope, items, index)));
                    self.path.truncate(end);
                }
            }
            Value::Map(entries) => {
                for (key, value) in entries {
                    let place = place.below(self.options.redaction.enter(place.scope, key));
                    let end = self.push_key(key);
                    self.all(value, place);
                    self.path.truncate(end);
                }
            }
        }
    }

    /// Emits a node as one JSON text.
    fn json(&mut self, value: &Value<'_>, place: Place) {
        let text = json_text_in(value, self.options.captured_bytes, &self.options.redaction, place.scope);
        (self.emit)(&self.path, text.into());
    }

    /// Appends a key to the path; returns where the path ended before.
    fn push_key(&mut self, key: &str) -> usize {
        let end = self.path.len();
        if end != 0 {
            self.path.push('.');
        }
        self.path.push_str(key);
        end
    }
}

/// How many attributes a node becomes if no leaf limit applies; counting stops past `most`.
fn count(value: &Value<'_>, depth: usize, most: usize) -> usize {
    let sum = |values: &mut dyn Iterator<Item = &Value<'_>>| {
        let mut sum: usize = 0;
        for value in values {
            if sum > most {
                break;
            }
            sum = sum.saturating_add(count(value, depth.saturating_sub(1), most.saturating_sub(sum)));
        }
        sum
    };
    match value {
        Value::Null => 0,
        Value::Array(items) if depth == 0 => usize::from(!items.is_empty()),
        Value::Map(entries) if depth == 0 => usize::from(!entries.is_empty()),
        Value::Array(items) => sum(&mut items.iter()),
        Value::Map(entries) => sum(&mut entries.iter().map(|(_, value)| value)),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned as _;
    use alloc::vec;

    fn map<'a>(entries: Vec<(&'a str, Value<'a>)>) -> Value<'a> {
        Value::Map(entries.into_iter().map(|(key, value)| (Cow::Borrowed(key), value)).collect())
    }

    fn ints(length: usize) -> Value<'static> {
        vec![7_i64; length].into()
    }

    fn attributes<'v>(prefix: &str, value: &'v Value<'_>, options: &Options) -> Vec<(String, Value<'v>)> {
        let mut attributes = Vec::new();
        flatten(prefix, value, options, &mut |key, value| attributes.push((key.to_owned(), value)));
        attributes
    }

    #[track_caller]
    fn check(value: &Value<'_>, options: &Options, expected: &[(&str, Value<'_>)]) {
        let attributes = attributes("p", value, options);
        let found: Vec<_> = attributes.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        assert_eq!(found, expected);
    }

    fn leaves(leaves: usize) -> Options {
        Options { leaves, ..Options::default() }
    }

    #[test]
    fn buckets_have_their_prefixes() {
        let prefixes = Bucket::ALL.map(Bucket::prefix);
        assert_eq!(
            prefixes,
            ["inputs", "outputs", "metadata", "metrics", "feedback", "config", "user_properties"]
                .map(|name| "honeyhive_".to_owned() + name)
        );
    }

    #[test]
    fn maps_and_lists_recurse_and_scalars_keep_their_type() {
        let value = map(vec![
            ("b", true.into()),
            ("i", 5.into()),
            ("d", 0.5.into()),
            ("s", "text".into()),
            ("l", Value::Array(vec![1.into(), "two".into(), map(vec![("x", 3.into())])])),
            ("m", map(vec![("n", map(vec![("o", (-1).into())]))])),
        ]);
        check(
            &value,
            &Options::default(),
            &[
                ("p.b", true.into()),
                ("p.i", 5.into()),
                ("p.d", 0.5.into()),
                ("p.s", "text".into()),
                ("p.l.0", 1.into()),
                ("p.l.1", "two".into()),
                ("p.l.2.x", 3.into()),
                ("p.m.n.o", (-1).into()),
            ],
        );
        check(&5.into(), &Options::default(), &[("p", 5.into())]);
        let attributes = attributes("", &value, &Options::default());
        assert_eq!(attributes[4].0, "l.0");
    }

    #[test]
    fn of_paths_that_read_the_same_the_last_value_counts() {
        for (value, expected) in [
            // In a map that is not sorted, and with an index.
            (
                map(vec![("a.b", 1.into()), ("c", 2.into()), ("a", map(vec![("b", 3.into())]))]),
                vec![("p.a.b", 3.into()), ("p.c", 2.into())],
            ),
            (map(vec![("a.1", 1.into()), ("a", vec![2, 3].into())]), vec![("p.a.1", 3.into()), ("p.a.0", 2.into())]),
            (
                map(vec![("a", 1.into()), ("b", 2.into()), ("a", "x".into())]),
                vec![("p.a", "x".into()), ("p.b", 2.into())],
            ),
            // One that is empty in the end does not take back what was there.
            (map(vec![("a", 1.into()), ("a", Value::Null)]), vec![("p.a", 1.into())]),
        ] {
            check(&value, &Options::default(), &expected);
        }
        let value = map(vec![("", map(vec![("x", 1.into())])), ("x", 2.into())]);
        assert_eq!(attributes("", &value, &Options::default()), [("x".to_owned(), 2.into())]);
    }

    #[test]
    fn texts_that_do_not_change_are_borrowed() {
        let value = map(vec![("a", "text".into()), ("b", Value::Bytes(Cow::Borrowed(b"bytes")))]);
        for (_, value) in attributes("p", &value, &Options::default()) {
            assert!(matches!(value, Value::Str(Cow::Borrowed("text" | "bytes"))), "{value:?}");
        }
    }

    #[test]
    fn null_and_empty_nodes_emit_nothing() {
        let empty = || map(vec![("a", Value::Null), ("b", Value::Array(vec![])), ("c", map(vec![])), ("d", "".into())]);
        check(&empty(), &Options::default(), &[("p.d", "".into())]);
        // An index counts the nulls before it.
        check(&Value::Array(vec![Value::Null, 1.into()]), &Options::default(), &[("p.1", 1.into())]);
        for value in [Value::Null, Value::Array(vec![]), map(vec![]), Value::Array(vec![Value::Null, map(vec![])])] {
            check(&value, &Options::default(), &[]);
            check(&value, &Options { leaves: 0, depth: 1, ..Options::default() }, &[]);
        }
    }

    #[test]
    fn bytes_become_text_or_base64() {
        let bytes = |bytes: &'static [u8]| Value::Bytes(Cow::Borrowed(bytes));
        check(&bytes(b"h\xc3\xa4"), &Options::default(), &[("p", "h\u{e4}".into())]);
        check(&bytes(b"\xff\xfe"), &Options::default(), &[("p", "//4=".into())]);
        check(&bytes(b""), &Options::default(), &[("p", "".into())]);
        let options = Options { captured_bytes: 6, ..Options::default() };
        check(&bytes(b"\xff\xfe\xfd\xfc\xfb"), &options, &[("p", "//79/P".into())]);
    }

    #[test]
    fn numbers_that_json_lacks_stay_typed() {
        let value = Value::from(vec![f64::NAN, f64::INFINITY, -0.0]);
        let attributes = attributes("p", &value, &Options::default());
        assert!(matches!(attributes[0].1, Value::Double(value) if value.is_nan()));
        assert_eq!(attributes[1].1, f64::INFINITY.into());
        assert!(matches!(attributes[2].1, Value::Double(value) if value.is_sign_negative()));
    }

    #[test]
    fn a_list_past_the_leaf_limit_is_one_json_text() {
        assert_eq!(attributes("p", &ints(32), &Options::default()).len(), 32);
        check(&ints(4), &leaves(3), &[("p", "[7,7,7,7]".into())]);
        // A list is not divided, even where its items are few.
        let pairs = Value::Array(vec![ints(2), ints(2)]);
        check(&pairs, &leaves(3), &[("p", "[[7,7],[7,7]]".into())]);
        let attributes = attributes("p", &ints(1_100).clone(), &Options::default()).len();
        assert_eq!(attributes, 1);
    }

    #[test]
    fn nulls_do_not_count_as_leaves_but_stand_in_json_texts() {
        let value = Value::Array(vec![Value::Null, 1.into(), Value::Null, 2.into()]);
        check(&value, &leaves(2), &[("p.1", 1.into()), ("p.3", 2.into())]);
        check(&value, &leaves(1), &[("p", "[null,1,null,2]".into())]);
    }

    #[test]
    fn a_map_past_the_leaf_limit_is_divided() {
        let value = map(vec![
            ("docs", ints(9)),
            ("usage", map(vec![("in", 1.into()), ("out", 2.into())])),
            ("ok", true.into()),
        ]);
        // 9 do not fit in 4 less 2 kept back; what is left then is enough for the rest.
        check(
            &value,
            &leaves(4),
            &[
                ("p.docs", "[7,7,7,7,7,7,7,7,7]".into()),
                ("p.usage.in", 1.into()),
                ("p.usage.out", 2.into()),
                ("p.ok", true.into()),
            ],
        );
        check(
            &value,
            &leaves(3),
            &[
                ("p.docs", "[7,7,7,7,7,7,7,7,7]".into()),
                ("p.usage", r#"{"in":1,"out":2}"#.into()),
                ("p.ok", true.into()),
            ],
        );
        check(
            &value,
            &leaves(2),
            &[("p", r#"{"docs":[7,7,7,7,7,7,7,7,7],"usage":{"in":1,"out":2},"ok":true}"#.into())],
        );
        // All 12 fit.
        assert_eq!(attributes("p", &value, &leaves(12)).len(), 12);
        // The first entry may take all but one for each later one.
        assert_eq!(attributes("p", &value, &leaves(11)).len(), 9 + 1 + 1);
    }

    #[test]
    fn maps_in_a_map_are_divided_too_and_entries_without_leaves_take_nothing() {
        let value = map(vec![
            ("none", Value::Null),
            ("result", map(vec![("answer", "yes".into()), ("docs", ints(9)), ("empty", map(vec![]))])),
            ("none2", Value::Array(vec![Value::Null])),
            ("last", 1.into()),
        ]);
        check(
            &value,
            &leaves(3),
            &[("p.result.answer", "yes".into()), ("p.result.docs", "[7,7,7,7,7,7,7,7,7]".into()), ("p.last", 1.into())],
        );
        check(
            &value,
            &leaves(2),
            &[("p.result", r#"{"answer":"yes","docs":[7,7,7,7,7,7,7,7,7],"empty":{}}"#.into()), ("p.last", 1.into())],
        );
    }

    #[test]
    fn no_leaf_limit_is_ever_exceeded_and_every_entry_shows() {
        // Every shape of three lists and maps with up to four leaves each, under every limit.
        for shape in 0..125 {
            let sizes = [shape % 5, shape / 5 % 5, shape / 25];
            let value = map(vec![
                ("a", ints(sizes[0])),
                ("b", map(["1", "2", "3", "4"].into_iter().take(sizes[1]).map(|key| (key, 1.into())).collect())),
                ("c", ints(sizes[2])),
            ]);
            let full = sizes.iter().sum::<usize>();
            let entries = sizes.iter().filter(|size| **size != 0).count();
            for limit in 1..=full + 1 {
                let attributes = attributes("p", &value, &leaves(limit));
                assert!(attributes.len() <= limit, "{sizes:?} {limit}");
                assert_eq!(
                    attributes.len() == full,
                    limit >= full || full == entries && limit >= entries,
                    "{sizes:?} {limit}"
                );
                if limit >= entries {
                    for (name, size) in ["p.a", "p.b", "p.c"].into_iter().zip(sizes) {
                        assert_eq!(attributes.iter().any(|(key, _)| key.starts_with(name)), size != 0);
                    }
                } else {
                    assert_eq!(attributes.len(), 1);
                }
            }
        }
    }

    #[test]
    fn past_the_depth_a_node_is_one_json_text() {
        let value = map(vec![("a", Value::Array(vec![map(vec![("b", 1.into())]), 2.into(), map(vec![])]))]);
        let depth = |depth| Options { depth, ..Options::default() };
        check(&value, &depth(3), &[("p.a.0.b", 1.into()), ("p.a.1", 2.into())]);
        check(&value, &depth(2), &[("p.a.0", r#"{"b":1}"#.into()), ("p.a.1", 2.into())]);
        check(&value, &depth(1), &[("p.a", r#"[{"b":1},2,{}]"#.into())]);
        check(&value, &depth(0), &[("p", r#"{"a":[{"b":1},2,{}]}"#.into())]);
        check(&1.into(), &depth(0), &[("p", 1.into())]);
        check(&map(vec![]), &depth(0), &[]);
    }

    #[test]
    fn deep_values_end_by_rule() {
        for (depth, levels) in [(64, 64), (128, 128), (usize::MAX, 128)] {
            let mut value = (0..100_000).fold(Value::from(1), |value, _| Value::Array(vec![value]));
            let options = Options { depth, ..Options::default() };
            let attributes = attributes("p", &value, &options);
            let [(key, Value::Str(text))] = &attributes[..] else { panic!("{attributes:?}") };
            assert_eq!(*key, "p".to_owned() + &".0".repeat(levels));
            assert_eq!(*text, "[".repeat(64) + "\"[too deep]\"" + &"]".repeat(64));
            // To drop it as it is would use up the stack.
            while let Value::Array(mut items) = value {
                value = items.remove(0);
            }
        }
    }

    #[test]
    fn every_text_is_capped() {
        let options = Options { captured_bytes: 30, leaves: 3, ..Options::default() };
        let (long, fits) = ("x".repeat(31), "x".repeat(30));
        let value = map(vec![("list", ints(99)), ("ok", fits.as_str().into()), ("text", long.as_str().into())]);
        let cut = "x".repeat(12) + "\u{2026} [19 bytes cut]";
        check(
            &value,
            &options,
            &[
                ("p.list", "[7,7,7,7,7,\u{2026} [188 bytes cut]".into()),
                ("p.ok", fits.as_str().into()),
                ("p.text", cut.as_str().into()),
            ],
        );
    }

    #[test]
    fn secrets_are_replaced_on_the_way() {
        let value = map(vec![
            ("password", "hunter2".into()),
            ("token", Value::Array(vec!["a".into(), 1.into(), map(vec![("x", Value::Bytes(Cow::Borrowed(b"b")))])])),
            ("api", map(vec![("key", "sk".into())])),
            ("token_count", 12.into()),
            ("user", "ann".into()),
        ]);
        let hidden = || Value::from(REDACTED);
        check(
            &value,
            &Options::default(),
            &[
                ("p.password", hidden()),
                ("p.token.0", hidden()),
                ("p.token.1", 1.into()),
                ("p.token.2.x", hidden()),
                ("p.api.key", hidden()),
                ("p.token_count", 12.into()),
                ("p.user", "ann".into()),
            ],
        );
        check(
            &value,
            &leaves(1),
            &[(
                "p",
                r#"{"password":"[redacted]","token":["[redacted]",1,{"x":"[redacted]"}],"api":{"key":"[redacted]"},"token_count":12,"user":"ann"}"#.into(),
            )],
        );
        let off = Options { redaction: Redaction::Off, ..Options::default() };
        assert_eq!(attributes("p", &value, &off)[0].1, "hunter2".into());
        assert_eq!(attributes("p", &value, &off)[3].1, "b".into());
        let also = Options { redaction: Redaction::Also(vec!["user".into()]), ..Options::default() };
        assert_eq!(attributes("p", &value, &also)[6].1, hidden());
    }

    #[test]
    fn the_prefix_counts_as_a_key() {
        let value = map(vec![("0", "a".into())]);
        assert_eq!(attributes("honeyhive_inputs.apiKey", &value, &Options::default())[0].1, REDACTED.into());
        let text = "a".into();
        assert_eq!(attributes("honeyhive_inputs.api.key", &text, &Options::default())[0].1, REDACTED.into());
        assert_eq!(attributes("honeyhive_inputs.key", &text, &Options::default())[0].1, "a".into());
        // JSON texts know what stands above them.
        let value = vec!["a", "b"].into();
        assert_eq!(attributes("x.secret", &value, &leaves(1))[0].1, r#"["[redacted]","[redacted]"]"#.into());
    }
}
