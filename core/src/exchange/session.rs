//! Requests about sessions, to be carried out by the backend: `RegisterSession` and `EnrichSession`.

use alloc::string::String;

use super::wire::Reader;
use super::{Error, tree};
use crate::registration::{Enrichment, Start};
use crate::value::Value;

/// What a session begins with.
#[derive(Clone, Debug, Default)]
pub struct Registration<'a> {
    /// The scope that has the session.
    pub blob: &'a [u8],
    /// In place of the tracer's own.
    pub source: Option<String>,
    /// What is merged into the session if it was registered before.
    pub fields: Enrichment,
}

impl<'a> Registration<'a> {
    /// Reads the request.
    ///
    /// # Errors
    ///
    /// If it is malformed.
    pub fn read(request: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(request);
        let blob = reader.word()?;
        let blob = reader.bytes(blob)?;
        let value = tree::read(&mut reader)?;
        let source = match &value {
            Value::Map(entries) => {
                entries.iter().find(|(key, _)| key == "source").and_then(|(_, value)| value.as_str())
            }
            _ => None,
        };
        Ok(Self { blob, source: source.map(String::from), fields: enrichment(&value)? })
    }

    /// What HoneyHive is told, without what the tracer adds.
    pub fn start(&self) -> Start<'_> {
        let Enrichment { inputs, metadata, user_properties, .. } = self.fields.clone();
        Start { source: self.source.as_deref(), inputs, metadata, user_properties, ..Start::default() }
    }
}

/// What is merged into a session.
#[derive(Clone, Debug, Default)]
pub struct SessionEnrichment<'a> {
    /// Whether the session is registered before, unless it is a caller's.
    pub register: bool,
    /// The scope that has the session.
    pub blob: &'a [u8],
    /// What is merged.
    pub fields: Enrichment,
}

impl<'a> SessionEnrichment<'a> {
    /// Reads the request.
    ///
    /// # Errors
    ///
    /// If it is malformed.
    pub fn read(request: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(request);
        let [bits, blob] = reader.words()?;
        let blob = reader.bytes(blob)?;
        Ok(Self { register: bits & 1 != 0, blob, fields: enrichment(&tree::read(&mut reader)?)? })
    }
}

/// The fields of an enrichment in a map by the names of buckets; others are passed over, and null is none.
fn enrichment(value: &Value<'_>) -> Result<Enrichment, Error> {
    let Value::Map(entries) = value else { return Err(Error::Malformed) };
    let mut out = Enrichment::default();
    for (key, value) in entries.iter().filter(|(_, value)| *value != Value::Null) {
        let field = match &**key {
            "inputs" => &mut out.inputs,
            "outputs" => &mut out.outputs,
            "metadata" => &mut out.metadata,
            "metrics" => &mut out.metrics,
            "feedback" => &mut out.feedback,
            "config" => &mut out.config,
            "user_properties" => &mut out.user_properties,
            _ => continue,
        };
        *field = Some(value.clone().into_owned());
    }
    Ok(out)
}
