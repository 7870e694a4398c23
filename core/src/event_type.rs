//! The event type of a span, as HoneyHive knows it, derived from the span's attributes.
//!
//! Rules, first that applies (ids as in `tests/vectors/event_type.json`):
//!
//! * HH-event-type-explicit: `honeyhive_event_type`, if it is text that is not empty; any text passes.
//! * HH-event-type-no-text: one that is not text, or empty, is dropped and counted, as if it had not been set.
//! * HH-event-type-gen-ai: `gen_ai.operation.name`, if it is one of the names in the table.
//! * HH-event-type-openinference: `openinference.span.kind`, if it is one of the kinds in the table.
//! * HH-event-type-default: `tool`.
//!
//! The span's name is never looked at.

/// The attribute that carries the event type.
pub const EVENT_TYPE: &str = "honeyhive_event_type";
const OPERATION_NAME: &str = "gen_ai.operation.name";
const SPAN_KIND: &str = "openinference.span.kind";

/// What kind of step a span is: the types that HoneyHive knows. A span may name another one itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EventType {
    /// A call of a model.
    Model,
    /// A call of a tool; what every span is unless something says otherwise.
    Tool,
    /// Several steps: an agent, a workflow, a request.
    Chain,
    /// A whole session; never derived.
    Session,
}

impl EventType {
    /// The name, as it stands in [`EVENT_TYPE`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Tool => "tool",
            Self::Chain => "chain",
            Self::Session => "session",
        }
    }
}

/// Finds the event type while a span's attributes pass by, in any order; a key that comes again replaces its value.
#[derive(Clone, Copy, Default, Debug)]
pub struct Derivation {
    explicit: bool,
    gen_ai: Option<EventType>,
    openinference: Option<EventType>,
}

impl Derivation {
    /// Takes note of an attribute: its key and, where its value is text, that. One that says nothing about the event
    /// type costs a comparison of its key's length.
    #[inline]
    pub fn see(&mut self, key: &str, text: Option<&str>) {
        if (EVENT_TYPE.len()..=SPAN_KIND.len()).contains(&key.len()) {
            self.consider(key, text.unwrap_or_default());
        }
    }

    fn consider(&mut self, key: &str, text: &str) {
        match key {
            EVENT_TYPE => self.explicit = !text.is_empty(),
            OPERATION_NAME => self.gen_ai = from_operation_name(text),
            SPAN_KIND => self.openinference = from_span_kind(text),
            _ => {}
        }
    }

    /// Whether the attributes name the event type themselves: then that text is it, whatever it says, and nothing is
    /// to be added.
    pub const fn is_explicit(&self) -> bool {
        self.explicit
    }

    /// The event type to add to a span that [names none](Self::is_explicit).
    pub fn result(&self) -> EventType {
        self.gen_ai.or(self.openinference).unwrap_or(EventType::Tool)
    }
}

/// HH-event-type-gen-ai.
fn from_operation_name(name: &str) -> Option<EventType> {
    match name {
        "chat" | "text_completion" | "generate_content" => Some(EventType::Model),
        "invoke_agent" | "create_agent" => Some(EventType::Chain),
        "execute_tool" => Some(EventType::Tool),
        _ => None,
    }
}

/// HH-event-type-openinference.
fn from_span_kind(kind: &str) -> Option<EventType> {
    match kind {
        "LLM" => Some(EventType::Model),
        "CHAIN" | "AGENT" => Some(EventType::Chain),
        "TOOL" | "RETRIEVER" | "EMBEDDING" | "RERANKER" | "GUARDRAIL" => Some(EventType::Tool),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;
    use alloc::string::String;
    use alloc::vec;

    /// What the span's event type is: the explicit one, or the one that is added.
    fn derive(attributes: &[(&str, Value<'_>)]) -> String {
        let mut derivation = Derivation::default();
        let mut explicit = String::new();
        for (key, value) in attributes {
            derivation.see(key, value.as_str());
            if let (EVENT_TYPE, Value::Str(text)) = (*key, value) {
                explicit = text.clone().into_owned();
            }
        }
        if derivation.is_explicit() { explicit } else { derivation.result().as_str().into() }
    }

    #[test]
    fn the_order_of_precedence_does_not_depend_on_the_order_of_attributes() {
        let mut attributes =
            [(EVENT_TYPE, "session".into()), (OPERATION_NAME, "chat".into()), (SPAN_KIND, Value::from("AGENT"))];
        for _ in 0..3 {
            attributes.rotate_left(1);
            assert_eq!(derive(&attributes), "session");
        }
        let mut attributes = [(OPERATION_NAME, "chat".into()), (SPAN_KIND, Value::from("AGENT"))];
        assert_eq!(derive(&attributes), "model");
        attributes.reverse();
        assert_eq!(derive(&attributes), "model");
        assert_eq!(derive(&[(SPAN_KIND, "AGENT".into())]), "chain");
        assert_eq!(derive(&[]), "tool");
    }

    #[test]
    fn explicit_text_passes_as_it_is() {
        for name in ["model", "tool", "chain", "session", "bogus", "Model"] {
            assert_eq!(derive(&[(EVENT_TYPE, name.into())]), name);
        }
        // Explicit "tool" is not the same as no event type.
        assert_eq!(derive(&[(EVENT_TYPE, "tool".into()), (OPERATION_NAME, "chat".into())]), "tool");
    }

    #[test]
    fn what_is_no_text_says_nothing() {
        for value in [Value::Null, "".into(), 5.into(), true.into(), Value::from(vec!["model"])] {
            assert_eq!(derive(&[(EVENT_TYPE, value), (OPERATION_NAME, "chat".into())]), "model");
        }
    }

    #[test]
    fn the_last_value_of_a_key_counts() {
        assert_eq!(derive(&[(EVENT_TYPE, "chain".into()), (EVENT_TYPE, "model".into())]), "model");
        assert_eq!(derive(&[(EVENT_TYPE, "chain".into()), (EVENT_TYPE, Value::Null)]), "tool");
        assert_eq!(derive(&[(SPAN_KIND, "LLM".into()), (SPAN_KIND, "OTHER".into())]), "tool");
    }

    #[test]
    fn other_keys_and_names_are_not_looked_at() {
        for key in
            ["honeyhive_event_name", "honeyhive.event_type", "gen_ai.operation.nam", "gen_ai.request.model", "", "name"]
        {
            assert_eq!(derive(&[(key, "model".into())]), "tool", "{key}");
        }
    }

    #[test]
    fn the_types_have_their_names() {
        let types = [EventType::Model, EventType::Tool, EventType::Chain, EventType::Session];
        assert_eq!(types.map(EventType::as_str), ["model", "tool", "chain", "session"]);
    }
}
