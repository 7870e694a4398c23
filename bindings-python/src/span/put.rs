//! What may be set on a span: attributes of the types that OpenTelemetry knows, as many as the limits allow.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use tracebaton::event_type::EVENT_TYPE;
use tracebaton::routing::RoutingKey;

use super::SpanBase;
use crate::attributes::each_attribute;
use crate::value::{kept, shortened, string};

/// What became of an attribute.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It is in its collection.
    There,
    /// There was no value to put.
    Nothing,
    /// There was no room, or its key is no text.
    Dropped,
}

/// Whether no limit holds for an attribute of this key.
fn is_own(key: &str) -> bool {
    RoutingKey::of(key).is_some() || key == EVENT_TYPE
}

impl SpanBase {
    /// Puts an attribute into a collection.
    pub(super) fn put(
        &self,
        target: &Bound<'_, PyDict>,
        limit: usize,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<Put> {
        let Ok(text) = key.cast::<PyString>() else { return Ok(Put::Dropped) };
        let Some(mut value) = kept(value)? else { return Ok(Put::Nothing) };
        // Rule SPAN-limits, for those who read the span before it is encoded.
        if let Some(length) = self.core.get().tracer.settings().limits.value_length
            && !is_own(&string(text))
        {
            value = shortened(value, length)?;
        }
        if target.len() >= limit && !target.contains(key)? && !is_own(&string(text)) {
            return Ok(Put::Dropped);
        }
        target.set_item(key, value)?;
        Ok(Put::There)
    }

    /// The attributes of an event or link, copied, and how many had no place.
    pub(super) fn collection(
        &self,
        py: Python<'_>,
        attributes: Option<&Bound<'_, PyAny>>,
        limit: usize,
    ) -> PyResult<(Option<Py<PyDict>>, u32)> {
        let Some(attributes) = attributes.filter(|it| !it.is_none()) else { return Ok((None, 0)) };
        let out = PyDict::new(py);
        let mut dropped = 0;
        each_attribute(attributes, |key, value| {
            dropped += u32::from(self.put(&out, limit, key, value)? == Put::Dropped);
            Ok(())
        })?;
        Ok((Some(out).filter(|out| !out.is_empty()).map(Bound::unbind), dropped))
    }
}
