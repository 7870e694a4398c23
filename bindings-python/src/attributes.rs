//! Attributes given by Python code, and attributes written by core.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyString};
use tracebaton::span::Attributes;

use crate::value::{attribute, is_mapping, string, type_name};

/// Calls `f` with each attribute of a mapping.
pub(crate) fn each_attribute<'py>(
    attributes: &Bound<'py, PyAny>,
    mut f: impl FnMut(&Bound<'py, PyAny>, &Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    if let Ok(attributes) = attributes.cast::<PyDict>() {
        return attributes.iter().try_for_each(|(key, value)| f(&key, &value));
    }
    if !is_mapping(attributes) {
        return Err(PyTypeError::new_err(format!("attributes must be a mapping, not {}", type_name(attributes))));
    }
    for pair in attributes.cast::<PyMapping>()?.items()?.iter() {
        let (key, value) = pair.extract::<(Bound<'py, PyAny>, Bound<'py, PyAny>)>()?;
        f(&key, &value)?;
    }
    Ok(())
}

/// Writes the attributes of an event or link, and counts those that had no place before.
pub(crate) fn put_all(py: Python<'_>, out: &mut Attributes<'_>, attributes: Option<&Py<PyDict>>, dropped: u32) {
    out.count_dropped(dropped);
    for (key, value) in attributes.into_iter().flat_map(|it| it.bind(py).iter()) {
        match key.cast::<PyString>() {
            Ok(key) => out.put(&string(key), &attribute(&value)),
            Err(_) => out.count_dropped(1),
        }
    }
}
