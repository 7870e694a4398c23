//! Reading the files of `tests/vectors`.

use serde_json::{Map, Value};

/// A value with its `$text`, `$join` and `$list` written out, innermost first.
pub(crate) fn expand(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(expand).collect(),
        Value::Object(fields) => {
            let fields: Map<_, _> = fields.into_iter().map(|(key, value)| (key, expand(value))).collect();
            if let Some([text, times]) = of(&fields, "$text") {
                text.as_str().unwrap().repeat(usize::try_from(times.as_u64().unwrap()).unwrap()).into()
            } else if let Some([item, times]) = of(&fields, "$list") {
                vec![item.clone(); usize::try_from(times.as_u64().unwrap()).unwrap()].into()
            } else if let Some(parts) = of(&fields, "$join") {
                parts.iter().map(|part| part.as_str().unwrap()).collect::<String>().into()
            } else {
                fields.into()
            }
        }
        other => other,
    }
}

fn of<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a [Value]> {
    fields.get(key).and_then(Value::as_array).map(Vec::as_slice)
}
