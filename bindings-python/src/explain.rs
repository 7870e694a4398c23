//! What core says about a carrier, for Python.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use tracebaton::explain::{explain as explain_headers, explain_with_text};

use crate::carrier::Found;
use crate::policy::Policy;

/// The findings about a carrier, each a dict of the fields of `tracebaton.Finding`.
#[pyfunction]
pub(crate) fn explain<'py>(
    carrier: &Bound<'py, PyAny>,
    policy: &Policy,
    with_text: bool,
) -> PyResult<Bound<'py, PyList>> {
    let py = carrier.py();
    let found = Found::read(carrier)?;
    let headers = found.collected();
    let findings =
        if with_text { explain_with_text(&headers, &policy.inner) } else { explain_headers(&headers, &policy.inner) };
    let list = PyList::empty(py);
    for finding in findings {
        let fields = PyDict::new(py);
        fields.set_item("header", finding.header.name())?;
        fields.set_item("position", finding.position)?;
        fields.set_item("verdict", finding.verdict.as_str())?;
        fields.set_item("rule", finding.rule.map(|rule| rule.id()))?;
        fields.set_item("sentence", finding.sentence)?;
        fields.set_item("text", finding.text)?;
        list.append(fields)?;
    }
    Ok(list)
}
