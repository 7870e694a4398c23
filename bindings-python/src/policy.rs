//! The trust policy.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString, PyTuple};
use tracebaton::policy::{InboundMode, Policy as CorePolicy};

use crate::value::type_name;

/// What is taken from callers, and which hosts are sent what. All keywords; a dict of them is taken wherever a policy
/// is.
///
/// `inbound`: `"continue"` (the caller's trace goes on), `"restart"` (a new trace, linked to the caller's) or
/// `"ignore"` (nothing is taken). `accept_session`, `accept_project`: whether a caller's are taken over.
/// `baggage_attributes`: baggage keys whose values become attributes. `max_members`, `max_bytes`: caps on inbound
/// baggage. `propagate_to`: hosts besides local ones that are sent baggage: `api.example.com`, `*.example.com` (every
/// host below), an address, a network (`203.0.113.0/24`) or `*`. Ports do not matter; an entry that can match nothing, such
/// as one with a path, is a `ValueError`.
#[pyclass(frozen, module = "tracebaton", eq)]
#[derive(PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) inner: CorePolicy,
}

#[pymethods]
impl Policy {
    #[new]
    #[pyo3(signature = (*, inbound=None, accept_session=None, accept_project=None, baggage_attributes=None, max_members=None, max_bytes=None, propagate_to=None))]
    fn new(
        inbound: Option<&Bound<'_, PyAny>>,
        accept_session: Option<&Bound<'_, PyAny>>,
        accept_project: Option<&Bound<'_, PyAny>>,
        baggage_attributes: Option<&Bound<'_, PyAny>>,
        max_members: Option<&Bound<'_, PyAny>>,
        max_bytes: Option<&Bound<'_, PyAny>>,
        propagate_to: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let mut inner = CorePolicy::default();
        if let Some(mode) = inbound {
            let mode = mode.cast::<PyString>().map_err(|_| wrong("inbound", "a str", mode))?;
            inner.inbound =
                mode.to_str()?.parse::<InboundMode>().map_err(|it| PyValueError::new_err(it.to_string()))?;
        }
        for (name, value, target) in [
            ("accept_session", accept_session, &mut inner.accept_session),
            ("accept_project", accept_project, &mut inner.accept_project),
        ] {
            if let Some(value) = value {
                *target = value.extract().map_err(|_| wrong(name, "a bool", value))?;
            }
        }
        for (name, value, target) in
            [("max_members", max_members, &mut inner.max_members), ("max_bytes", max_bytes, &mut inner.max_bytes)]
        {
            if let Some(value) = value {
                let number = value.extract().ok().filter(|_| !value.is_instance_of::<PyBool>());
                let is_int = value.is_exact_instance_of::<PyInt>();
                *target = number.ok_or_else(|| match is_int {
                    true => PyValueError::new_err(format!("{name} must be a number that is not negative")),
                    false => wrong(name, "a number that is not negative", value),
                })?;
            }
        }
        for (name, value, target) in [
            ("baggage_attributes", baggage_attributes, &mut inner.baggage_attributes),
            ("propagate_to", propagate_to, &mut inner.propagate_to),
        ] {
            if let Some(value) = value {
                *target = texts(name, value)?;
            }
        }
        if let Some(at) = inner.propagate_to.iter().position(|pattern| !CorePolicy::is_pattern(pattern)) {
            // Without its text: a URL that was pasted may hold a password.
            let grammar = "a host, \"*.\" and a host, an address, a network or \"*\"";
            return Err(PyValueError::new_err(format!("propagate_to[{at}] must be {grammar}")));
        }
        Ok(Self { inner })
    }

    #[getter]
    fn inbound(&self) -> &'static str {
        self.inner.inbound.as_str()
    }

    #[getter]
    fn accept_session(&self) -> bool {
        self.inner.accept_session
    }

    #[getter]
    fn accept_project(&self) -> bool {
        self.inner.accept_project
    }

    #[getter]
    fn baggage_attributes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.inner.baggage_attributes)
    }

    #[getter]
    fn max_members(&self) -> usize {
        self.inner.max_members
    }

    #[getter]
    fn max_bytes(&self) -> usize {
        self.inner.max_bytes
    }

    #[getter]
    fn propagate_to<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.inner.propagate_to)
    }

    fn __repr__(&self) -> String {
        let policy = &self.inner;
        format!(
            "Policy(inbound={:?}, accept_session={}, accept_project={}, baggage_attributes={:?}, max_members={}, \
             max_bytes={}, propagate_to={:?})",
            policy.inbound.as_str(),
            if policy.accept_session { "True" } else { "False" },
            if policy.accept_project { "True" } else { "False" },
            policy.baggage_attributes,
            policy.max_members,
            policy.max_bytes,
            policy.propagate_to
        )
    }
}

/// A list of texts; one text would be a list of letters.
fn texts(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if value.is_instance_of::<PyString>() {
        return Err(wrong(name, "a list of str", value));
    }
    value.extract().map_err(|_| wrong(name, "a list of str", value))
}

fn wrong(name: &str, wanted: &str, value: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("{name} must be {wanted}, not {}", type_name(value)))
}
