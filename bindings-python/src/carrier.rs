//! Carriers as Python's frameworks hand them out: any mapping, list of pairs or multi-dict, of `str` or `bytes`.
//!
//! Whatever a carrier is or does, nothing is raised into the request: what cannot be read is not there.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use tracebaton::carrier::{Collected, Header, Kind, Spelling, header_of};
use tracebaton::inject::Headers;

use crate::value::string;

/// So many entries of a carrier are looked at: a mapping of a framework's has some dozens.
const MAX_ENTRIES: usize = 10_000;

/// The octets of a name, kept alive.
pub(crate) enum Text<'py> {
    Str(Bound<'py, PyString>),
    Bytes(Bound<'py, PyBytes>),
}

impl<'py> Text<'py> {
    fn of(object: Bound<'py, PyAny>) -> Option<Self> {
        match object.cast_into::<PyString>() {
            // Lone surrogates have no octets: no such header was sent.
            Ok(text) => text.to_str().is_ok().then_some(Self::Str(text)),
            Err(error) => error.into_inner().cast_into::<PyBytes>().ok().map(Self::Bytes),
        }
    }

    fn octets(&self) -> &[u8] {
        match self {
            Self::Str(text) => text.to_str().unwrap_or_default().as_bytes(),
            Self::Bytes(bytes) => bytes.as_bytes(),
        }
    }
}

/// The octets of a header's value. Lone surrogates have none: no such header was sent.
fn octets<'a>(value: &'a Bound<'_, PyAny>) -> Option<&'a [u8]> {
    match value.cast::<PyString>() {
        Ok(text) => text.to_str().ok().map(str::as_bytes),
        Err(_) => value.cast::<PyBytes>().ok().map(|bytes| bytes.as_bytes()),
    }
}

/// The headers of ours that a carrier holds, kept alive.
#[derive(Default)]
pub(crate) struct Found<'py> {
    headers: Vec<(Kind, Bound<'py, PyAny>)>,
}

impl<'py> Found<'py> {
    /// Reads a carrier. An exception of its own ends the reading, unless it is one that ends programs (Ctrl-C).
    pub(crate) fn read(carrier: &Bound<'py, PyAny>) -> PyResult<Self> {
        let mut found = Self::default();
        swallow(carrier.py(), each_entry(carrier, &mut |name, value| found.take(&name, value)))?;
        Ok(found)
    }

    /// Takes the value of a header, or each of several.
    pub(crate) fn take(&mut self, name: &Bound<'py, PyAny>, value: Bound<'py, PyAny>) {
        // Every name of every carrier comes by here, and most are of another length, which is at hand.
        let kind = match name.cast_exact::<PyString>() {
            Ok(name) if !name.len().is_ok_and(Kind::has_length) => None,
            _ => octets(name).and_then(Kind::of),
        };
        let Some(kind) = kind else { return };
        if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
            let Ok(values) = value.try_iter() else { return };
            self.headers.extend(values.take(MAX_ENTRIES).filter_map(|value| Some((kind, value.ok()?))));
        } else {
            self.headers.push((kind, value));
        }
    }

    pub(crate) fn collected(&self) -> Collected<'_> {
        let mut collected = Collected::default();
        for (kind, value) in &self.headers {
            if let Some(value) = octets(value) {
                collected.take(*kind, value);
            }
        }
        collected
    }
}

/// Calls `f` with every name and value.
fn each_entry<'py>(
    carrier: &Bound<'py, PyAny>,
    f: &mut dyn FnMut(Bound<'py, PyAny>, Bound<'py, PyAny>),
) -> PyResult<()> {
    let py = carrier.py();
    if carrier.is_none() || carrier.is_instance_of::<PyString>() || carrier.is_instance_of::<PyBytes>() {
        return Ok(());
    }
    if let Ok(dict) = carrier.cast_exact::<PyDict>() {
        for (name, value) in dict.iter().take(MAX_ENTRIES) {
            f(name, value);
        }
        return Ok(());
    }
    // httpx joins repeated headers in `items`, which is how several values are told from one.
    let pairs = match carrier.getattr_opt(pyo3::intern!(py, "multi_items"))? {
        Some(items) => items.call0()?,
        None => match carrier.getattr_opt(pyo3::intern!(py, "items"))? {
            Some(items) => items.call0()?,
            None => carrier.clone(),
        },
    };
    for pair in pairs.try_iter()?.take(MAX_ENTRIES) {
        if let Some((name, value)) = pair_of(&pair?) {
            f(name, value);
        }
    }
    Ok(())
}

/// Name and value, in a tuple or a list.
fn pair_of<'py>(pair: &Bound<'py, PyAny>) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    if let Ok(list) = pair.cast::<PyList>() {
        return if list.len() == 2 { Some((list.get_item(0).ok()?, list.get_item(1).ok()?)) } else { None };
    }
    pair.extract().ok()
}

/// Writes headers into a carrier, in place of what it has under any spelling of their names. False if it cannot be
/// written.
pub(crate) fn write(carrier: &Bound<'_, PyAny>, headers: &Headers) -> PyResult<bool> {
    if let Ok(dict) = carrier.cast_exact::<PyDict>() {
        return write_dict(dict, headers).map(|()| true);
    }
    if let Ok(list) = carrier.cast::<PyList>() {
        return swallow(carrier.py(), write_list(list, headers)).map(|done| done.is_some());
    }
    swallow(carrier.py(), write_mapping(carrier, headers)).map(|done| done.unwrap_or(false))
}

/// Calls `change` with each header and its value, or none where the carrier must not keep one of its own.
pub(crate) fn each(headers: &Headers, mut change: impl FnMut(Header, Option<&str>) -> PyResult<()>) -> PyResult<()> {
    let mut outcome = Ok(());
    headers.each(|header, value| {
        if outcome.is_ok() {
            outcome = change(header, value);
        }
    });
    outcome
}

/// The names in a carrier, and how a header that is added is spelled there.
#[derive(Default)]
struct Names<'py> {
    ours: Vec<(Header, Bound<'py, PyAny>)>,
    all: Vec<Text<'py>>,
}

impl<'py> Names<'py> {
    fn push(&mut self, name: Bound<'py, PyAny>) {
        let Some(text) = Text::of(name.clone()) else { return };
        if let Some(header) = header_of(text.octets()) {
            self.ours.push((header, name));
        } else {
            self.all.push(text);
        }
    }

    /// Those of ours do not tell how others are spelled: they may be there in any way.
    fn spelling(&self) -> Spelling {
        let others = self.all.iter().map(Text::octets);
        match Spelling::of(others.clone()) {
            // A few headers in upper case are no environment.
            Spelling::Variable if !others.into_iter().any(|name| name == b"PATH") => Spelling::Http,
            spelling => spelling,
        }
    }

    fn are_bytes(&self) -> bool {
        self.all.first().is_some_and(|name| matches!(name, Text::Bytes(_)))
    }
}

fn write_dict(dict: &Bound<'_, PyDict>, headers: &Headers) -> PyResult<()> {
    let mut names = Names::default();
    for (name, _) in dict.iter() {
        names.push(name);
    }
    let py = dict.py();
    each(headers, |header, value| {
        for (_, name) in names.ours.iter().filter(|(it, _)| *it == header) {
            dict.del_item(name)?;
        }
        match value {
            Some(value) if names.are_bytes() => {
                dict.set_item(PyBytes::new(py, header.name().as_bytes()), PyBytes::new(py, value.as_bytes()))
            }
            Some(value) => dict.set_item(name_of(py, header, names.spelling()), value),
            None => Ok(()),
        }
    })
}

/// The name of a header that is added. Most carriers get the same three objects, whose hashes are known.
fn name_of(py: Python<'_>, header: Header, spelling: Spelling) -> Bound<'_, PyString> {
    match (header, spelling) {
        (Header::Traceparent, Spelling::Http) => pyo3::intern!(py, "traceparent").clone(),
        (Header::Tracestate, Spelling::Http) => pyo3::intern!(py, "tracestate").clone(),
        (Header::Baggage, Spelling::Http) => pyo3::intern!(py, "baggage").clone(),
        _ => PyString::new(py, header.spelled(spelling)),
    }
}

fn write_list(list: &Bound<'_, PyList>, headers: &Headers) -> PyResult<()> {
    let py = list.py();
    let mut names = Names::default();
    for pair in list.iter() {
        if let Some((name, _)) = pair_of(&pair) {
            names.push(name);
        }
    }
    each(headers, |header, value| {
        for at in (0..list.len()).rev() {
            let name = pair_of(&list.get_item(at)?).and_then(|(name, _)| Text::of(name));
            if name.is_some_and(|name| header_of(name.octets()) == Some(header)) {
                list.del_item(at)?;
            }
        }
        match value {
            Some(value) if names.are_bytes() => {
                list.append((PyBytes::new(py, header.name().as_bytes()), PyBytes::new(py, value.as_bytes())))
            }
            Some(value) => list.append((name_of(py, header, names.spelling()), value)),
            None => Ok(()),
        }
    })
}

/// Any mutable mapping, multi-dicts included: all values under a name go before the new one is set, since some of them
/// only add.
fn write_mapping(carrier: &Bound<'_, PyAny>, headers: &Headers) -> PyResult<bool> {
    let py = carrier.py();
    if carrier.getattr_opt(pyo3::intern!(py, "__setitem__"))?.is_none() {
        return Ok(false);
    }
    let mut names = Names::default();
    each_entry(carrier, &mut |name, _| names.push(name))?;
    each(headers, |header, value| {
        for (_, name) in names.ours.iter().filter(|(it, _)| *it == header) {
            // A second name in other letters may be the same entry.
            if carrier.contains(name)? {
                carrier.del_item(name)?;
            }
        }
        value.map_or(Ok(()), |value| carrier.set_item(name_of(py, header, names.spelling()), value))
    })?;
    Ok(true)
}

/// Turns an exception into nothing, unless it is one that ends programs.
pub(crate) fn swallow<T>(py: Python<'_>, result: PyResult<T>) -> PyResult<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The entries of OpenTelemetry's baggage, as texts.
pub(crate) fn entries(baggage: &Bound<'_, PyDict>) -> Vec<(String, String)> {
    let text = |object: &Bound<'_, PyAny>| crate::value::text_of(object);
    baggage
        .iter()
        .filter_map(|(name, value)| Some((string(name.cast::<PyString>().ok()?).into_owned(), text(&value))))
        .collect()
}
