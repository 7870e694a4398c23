//! HoneyHive's fields on a span, all in one call.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString};
use tracebaton::flatten::{Bucket, flatten};
use tracebaton::redact::is_secret_key;

use super::SpanBase;
use crate::attributes::each_attribute;
use crate::parent::unwrapped;
use crate::types;
use crate::value::{captured, is_mapping, shortened_value, string, to_python};

/// So many keys of a bucket are remembered: a program has a few dozen, unless it makes them up.
const MAX_JOINED: usize = 1024;
/// The bytes of a key that is remembered.
const MAX_KEY: usize = 64;

/// Puts fields on a span: those of buckets nested, `attributes` as they are (and last, over the others), the rest as
/// text. Whether any was put. Fields that are `None`, and names that are no field's, are left out.
///
/// # Errors
///
/// What a value's own code raises: the fields after it are not put then.
#[pyfunction]
pub(crate) fn enrich(span: &Bound<'_, PyAny>, fields: &Bound<'_, PyDict>) -> PyResult<bool> {
    // An instrumentor may have made a proxy of it the current span.
    let span = unwrapped(span);
    put_fields(span.cast::<SpanBase>()?.get(), fields, None)
}

/// Puts the inputs of a call on a span; whether any was put.
pub(crate) type PutInputs<'a> = &'a dyn Fn(&SpanBase) -> PyResult<bool>;

/// As [`enrich`]. `inputs`, if given, take the place of the field.
pub(crate) fn put_fields(span: &SpanBase, fields: &Bound<'_, PyDict>, inputs: Option<PutInputs<'_>>) -> PyResult<bool> {
    let py = fields.py();
    if !span.is_recording() {
        return Ok(false);
    }
    let mut some = false;
    let mut attributes = None;
    for (name, value) in fields.iter() {
        if value.is_none() {
            continue;
        }
        let Ok(name) = name.cast::<PyString>() else { continue };
        match &*string(name) {
            "inputs" if inputs.is_some() => {}
            "inputs" => some |= put_bucket(span, Bucket::Inputs, &value)?,
            "outputs" => some |= put_bucket(span, Bucket::Outputs, &value)?,
            "metadata" => some |= put_bucket(span, Bucket::Metadata, &value)?,
            "metrics" => some |= put_bucket(span, Bucket::Metrics, &value)?,
            "feedback" => some |= put_bucket(span, Bucket::Feedback, &value)?,
            "config" => some |= put_bucket(span, Bucket::Config, &value)?,
            "user_properties" => some |= put_bucket(span, Bucket::UserProperties, &value)?,
            "event_type" => some |= text(span, pyo3::intern!(py, "honeyhive_event_type"), &value)?,
            "event_name" => some |= text(span, pyo3::intern!(py, "honeyhive_event_name"), &value)?,
            "error" => some |= text(span, pyo3::intern!(py, "honeyhive_error"), &value)?,
            "event_id" => some |= text(span, pyo3::intern!(py, "honeyhive_event_id"), &value)?,
            "user_id" => some |= text(span, pyo3::intern!(py, "honeyhive_user_id"), &value)?,
            "session_name" => some |= text(span, pyo3::intern!(py, "honeyhive_session_name"), &value)?,
            "source" => some |= text(span, pyo3::intern!(py, "honeyhive_source"), &value)?,
            "project" => some |= text(span, pyo3::intern!(py, "honeyhive_project"), &value)?,
            "attributes" => attributes = Some(value),
            _ => {}
        }
    }
    if let Some(inputs) = inputs {
        some |= inputs(span)?;
    }
    if let Some(attributes) = attributes.filter(is_mapping) {
        each_attribute(&attributes, |key, value| {
            some |= span._set(py, key, value)?;
            Ok(())
        })?;
    }
    Ok(some)
}

fn text(span: &SpanBase, key: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    if value.is_instance_of::<PyString>() {
        return span._set(value.py(), key.as_any(), value);
    }
    span._set(value.py(), key.as_any(), value.str()?.as_any())
}

/// Puts a value into a bucket: `prefix.key` for nested ones, secrets replaced. Whether anything was put.
pub(crate) fn put_bucket(span: &SpanBase, bucket: Bucket, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    if let Ok(dict) = value.cast_exact::<PyDict>()
        && let Some(put) = put_plain(span, bucket, dict.iter())?
    {
        return Ok(put);
    }
    put_flattened(span, bucket.prefix(), value)
}

/// Puts a value under a key that names no secret. Whether anything was put.
pub(super) fn put_value(span: &SpanBase, key: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    if is_plain(span, value) && span.is_recording() {
        return span._set(value.py(), key.as_any(), value);
    }
    put_flattened(span, &string(key), value)
}

/// The long way, which every value can go.
fn put_flattened(span: &SpanBase, prefix: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    if !span.is_recording() || value.is_none() {
        return Ok(false);
    }
    let py = value.py();
    let value = captured(value);
    let core = span.core.get();
    let target = span.attributes.bind(py);
    let (mut some, mut dropped, mut failed) = (false, 0, None);
    flatten(prefix, &value, core.tracer.flatten(), &mut |key, value| {
        let room = target.len() < core.tracer.settings().limits.attributes || target.contains(key).unwrap_or(false);
        if !room {
            dropped += 1;
            return;
        }
        some = true;
        let value = match core.tracer.settings().limits.value_length {
            Some(length) => to_python(py, &shortened_value(value, length)),
            None => to_python(py, &value),
        };
        if let Err(error) = value.and_then(|value| target.set_item(key, value)) {
            failed.get_or_insert(error);
        }
    });
    span.state().dropped_attributes += dropped;
    failed.map_or(Ok(some), Err)
}

/// The short way for what is captured most: a few texts and numbers, under keys that are no paths and name no secrets.
/// They are put as the objects that they are. Whether anything was put; none if they have to go the long way.
pub(crate) fn put_plain<'py>(
    span: &SpanBase,
    bucket: Bucket,
    entries: impl ExactSizeIterator<Item = (Bound<'py, PyAny>, Bound<'py, PyAny>)>,
) -> PyResult<Option<bool>> {
    if !span.is_recording() {
        return Ok(Some(false));
    }
    let core = span.core.get();
    // What does not fit is for `flatten` to divide, and what may be no map is one text.
    if entries.len() > core.tracer.flatten().leaves || core.tracer.flatten().depth == 0 {
        return Ok(None);
    }
    let mut plain = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        if value.is_none() {
            continue;
        }
        if !is_plain(span, &value) {
            return Ok(None);
        }
        let Some(key) = joined(bucket, &key)? else { return Ok(None) };
        plain.push((key, value));
    }
    let (mut some, mut dropped) = (false, 0);
    for (key, value) in plain {
        let target = span.attributes.bind(value.py());
        if target.len() < core.tracer.settings().limits.attributes || target.contains(&key)? {
            target.set_item(key, value)?;
            some = true;
        } else {
            dropped += 1;
        }
    }
    if dropped != 0 {
        span.state().dropped_attributes += dropped;
    }
    Ok(Some(some))
}

/// Whether an attribute may have this object for its value, as it is: [`captured`] and [`flatten`] would only make
/// another one like it.
fn is_plain(span: &SpanBase, value: &Bound<'_, PyAny>) -> bool {
    if let Ok(text) = value.cast_exact::<PyString>() {
        let core = span.core.get();
        let bytes =
            core.tracer.settings().limits.value_length.unwrap_or(usize::MAX).min(core.tracer.flatten().captured_bytes);
        return text.to_str().is_ok_and(|text| text.len() <= bytes);
    }
    if let Ok(number) = value.cast_exact::<PyInt>() {
        return number.extract::<i64>().is_ok();
    }
    value.is_exact_instance_of::<PyFloat>() || value.is_exact_instance_of::<PyBool>()
}

/// The key of the attribute for a key in a bucket; none if it is a path, names a secret or is no text.
fn joined<'py>(bucket: Bucket, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyString>>> {
    let py = key.py();
    let Ok(key) = key.cast_exact::<PyString>() else { return Ok(None) };
    let Some(known) = types::get(py)?.joined.get(bucket as usize) else { return Ok(None) };
    let known = known.bind(py);
    if let Some(joined) = known.get_item(key)? {
        return Ok(joined.cast_into::<PyString>().ok());
    }
    let Ok(text) = key.to_str() else { return Ok(None) };
    let joined = format!("{}.{text}", bucket.prefix());
    let plain = !text.is_empty() && !text.contains('.') && !is_secret_key(&joined);
    let joined = plain.then(|| PyString::new(py, &joined));
    if text.len() <= MAX_KEY && known.len() < MAX_JOINED {
        known.set_item(key, &joined)?;
    }
    Ok(joined)
}
