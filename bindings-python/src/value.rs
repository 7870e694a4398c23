//! Python objects as attribute values, and back.

use std::borrow::Cow;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple};
use tracebaton::limits::truncate_characters;
use tracebaton::value::Value;

use crate::types;

/// Nested deeper than this, a node is taken as text: the conversion recurses.
const MAX_DEPTH: usize = 64;
/// So many nodes of one value are looked at; the rest of it is left out. An argument may hold millions.
const MAX_NODES: usize = 20_000;

/// An attribute's value, borrowed from `object` where it is text or bytes.
pub(crate) fn attribute<'a>(object: &'a Bound<'_, PyAny>) -> Value<'a> {
    match scalar(object) {
        Some(value) => value,
        None => Nodes::default().node(object, 0),
    }
}

/// A value that is captured or enriched: as [`attribute`], with nothing borrowed, and with dataclasses, models and other
/// objects taken apart.
pub(crate) fn captured(object: &Bound<'_, PyAny>) -> Value<'static> {
    Nodes { open_objects: true, ..Nodes::default() }.node(object, 0)
}

/// A text, number, boolean or bytes; none for anything else.
fn scalar<'a>(object: &'a Bound<'_, PyAny>) -> Option<Value<'a>> {
    if let Ok(text) = object.cast::<PyString>() {
        return Some(Value::Str(string(text)));
    }
    // A bool is an int in Python.
    if let Ok(flag) = object.cast::<PyBool>() {
        return Some(Value::Bool(flag.is_true()));
    }
    if let Ok(number) = object.cast::<PyInt>() {
        return Some(integer(number.as_any()));
    }
    if let Ok(number) = object.cast::<PyFloat>() {
        return Some(Value::Double(number.value()));
    }
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Some(Value::Bytes(Cow::Borrowed(bytes.as_bytes())));
    }
    object.is_none().then_some(Value::Null)
}

/// The text of a string. Lone surrogates, which UTF-8 cannot hold, become U+FFFD.
pub(crate) fn string<'a>(text: &'a Bound<'_, PyString>) -> Cow<'a, str> {
    match text.to_str() {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(without_surrogates(text)),
    }
}

/// The text with one U+FFFD for each lone surrogate.
fn without_surrogates(text: &Bound<'_, PyString>) -> String {
    let units = text.call_method1(pyo3::intern!(text.py(), "encode"), ("utf-16-le", "surrogatepass"));
    let Ok(units) = units.and_then(|units| Ok(units.cast_into::<PyBytes>()?)) else { return String::new() };
    let units = units.as_bytes().chunks_exact(2).filter_map(|pair| Some(u16::from_le_bytes(pair.try_into().ok()?)));
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// An integer; one that 64 bits cannot hold is taken as text.
fn integer(number: &Bound<'_, PyAny>) -> Value<'static> {
    match number.extract::<i64>() {
        Ok(number) => Value::Int(number),
        Err(_) => Value::from(text_of(number)),
    }
}

/// What `str` makes of an object; its type's name if that fails.
pub(crate) fn text_of(object: &Bound<'_, PyAny>) -> String {
    match object.str() {
        Ok(text) => string(&text).into_owned(),
        Err(_) => format!("<{}>", type_name(object)),
    }
}

/// The name of an object's type, for messages.
pub(crate) fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map(|name| string(&name).into_owned()).unwrap_or_else(|_| "object".to_owned())
}

/// Converts nested values, so many nodes at most.
#[derive(Default)]
struct Nodes {
    seen: usize,
    /// Whether objects are taken apart, as captured values are.
    open_objects: bool,
}

impl Nodes {
    fn node(&mut self, object: &Bound<'_, PyAny>, depth: usize) -> Value<'static> {
        self.seen += 1;
        if let Some(value) = scalar(object) {
            return value.into_owned();
        }
        if depth >= MAX_DEPTH {
            return Value::from(text_of(object));
        }
        if let Ok(list) = object.cast::<PyList>() {
            return self.items(list.iter(), depth);
        }
        if let Ok(tuple) = object.cast::<PyTuple>() {
            return self.items(tuple.iter(), depth);
        }
        if let Ok(mapping) = object.cast::<PyDict>() {
            return self.entries(mapping.iter(), depth);
        }
        self.other(object, depth)
    }

    fn items<'py>(&mut self, items: impl Iterator<Item = Bound<'py, PyAny>>, depth: usize) -> Value<'static> {
        let mut out = Vec::new();
        for item in items {
            if self.seen >= MAX_NODES {
                break;
            }
            out.push(self.node(&item, depth + 1));
        }
        Value::Array(out)
    }

    fn entries<'py>(
        &mut self,
        entries: impl Iterator<Item = (Bound<'py, PyAny>, Bound<'py, PyAny>)>,
        depth: usize,
    ) -> Value<'static> {
        let mut out = Vec::new();
        for (key, value) in entries {
            if self.seen >= MAX_NODES {
                break;
            }
            out.push((Cow::Owned(text_of(&key)), self.node(&value, depth + 1)));
        }
        Value::Map(out)
    }

    /// Anything that is none of the basic types. Whatever its own code raises, the value is taken as text then.
    fn other(&mut self, object: &Bound<'_, PyAny>, depth: usize) -> Value<'static> {
        let py = object.py();
        if is_mapping(object)
            && let Ok(mapping) = object.cast::<PyMapping>()
            && let Ok(items) = mapping.items()
        {
            return self.entries(items.iter().filter_map(|item| item.extract().ok()), depth);
        }
        let Ok(types) = types::get(py) else { return Value::Null };
        if self.open_objects
            && let Ok(inner) = types.open.bind(py).call1((object,))
            && !inner.is_none()
        {
            return self.node(&inner, depth + 1);
        }
        // Numbers of other libraries.
        if let Ok(number) = object.call_method0(pyo3::intern!(py, "__index__")) {
            return integer(&number);
        }
        if let Ok(number) = object.extract::<f64>() {
            return Value::Double(number);
        }
        Value::from(match types.describe.bind(py).call1((object,)) {
            Ok(text) => text_of(&text),
            Err(_) => format!("<{}>", type_name(object)),
        })
    }
}

/// Whether an object is a mapping. Asking may run code of its own, which may raise: then it is none.
pub(crate) fn is_mapping(object: &Bound<'_, PyAny>) -> bool {
    object.is_instance_of::<PyDict>()
        || types::get(object.py())
            .and_then(|types| object.is_instance(types.mapping.bind(object.py())))
            .unwrap_or(false)
}

/// A value as it is kept until its span ends: later changes of a list or mapping do not reach it. None for what is not
/// kept, which is `None`.
pub(crate) fn kept<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyFloat>()
        || value.is_exact_instance_of::<PyBool>()
    {
        return Ok(Some(value.clone()));
    }
    if value.is_none() {
        return Ok(None);
    }
    // As in OpenTelemetry's own SDK, a sequence is a tuple from then on.
    to_python(value.py(), &attribute(value)).map(Some)
}

/// A value that is kept, with texts cut after `length` characters and bytes after so many bytes (rule SPAN-limits).
pub(crate) fn shortened<'py>(value: Bound<'py, PyAny>, length: usize) -> PyResult<Bound<'py, PyAny>> {
    let fits = match value.cast_exact::<PyString>() {
        Ok(text) => text.len()? <= length,
        Err(_) => {
            value.is_exact_instance_of::<PyInt>()
                || value.is_exact_instance_of::<PyFloat>()
                || value.is_exact_instance_of::<PyBool>()
        }
    };
    if fits {
        return Ok(value);
    }
    to_python(value.py(), &shortened_value(attribute(&value), length))
}

/// The same for a value of core's.
pub(crate) fn shortened_value(value: Value<'_>, length: usize) -> Value<'_> {
    match value {
        Value::Str(text) => match truncate_characters(&text, length).len() {
            bytes if bytes < text.len() => Value::from(text.get(..bytes).unwrap_or_default().to_owned()),
            _ => Value::Str(text),
        },
        Value::Bytes(bytes) => match bytes.get(..length) {
            Some(cut) => Value::Bytes(Cow::Owned(cut.to_vec())),
            None => Value::Bytes(bytes),
        },
        Value::Array(values) => Value::Array(values.into_iter().map(|it| shortened_value(it, length)).collect()),
        Value::Map(entries) => {
            Value::Map(entries.into_iter().map(|(key, it)| (key, shortened_value(it, length))).collect())
        }
        value => value,
    }
}

/// A value as a Python object: lists as tuples, maps as dicts.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &Value<'_>) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(value) => PyBool::new(py, *value).to_owned().into_any(),
        Value::Int(value) => value.into_pyobject(py)?.into_any(),
        Value::Double(value) => PyFloat::new(py, *value).into_any(),
        Value::Str(text) => PyString::new(py, text).into_any(),
        Value::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        Value::Array(values) => {
            let values = values.iter().map(|value| to_python(py, value)).collect::<PyResult<Vec<_>>>()?;
            PyTuple::new(py, values)?.into_any()
        }
        Value::Map(entries) => {
            let out = PyDict::new(py);
            for (key, value) in entries {
                out.set_item(&**key, to_python(py, value)?)?;
            }
            out.into_any()
        }
    })
}
